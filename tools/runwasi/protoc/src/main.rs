//! Prints the path of protoc and that of the definitions that belong to it, each on a line.

fn main() {
    match (protoc_bin_vendored::protoc_bin_path(), protoc_bin_vendored::include_path()) {
        (Ok(program), Ok(definitions)) => println!("{}\n{}", program.display(), definitions.display()),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("there is no protoc for this machine: {error}");
            std::process::exit(1);
        }
    }
}
