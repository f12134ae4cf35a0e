//! Runs the commands of the pages as a reader would type them, and compares the output of every block marked `<!-- run
//! -->` with the page. `WASMGATE_WRITE_DOCS=1` writes the present output into the pages.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::process::{program, root};

/// Pages whose marked blocks are run; the blocks of one page share a folder and its environment.
const PAGES: &[&str] = &["docs/tutorial.md", "docs/policy-authors.md"];
/// The start of a marked block.
const MARK: &str = "<!-- run -->\n```console\n";
/// The end of a block.
const END: &str = "```\n";

/// A reader's shell: a folder with the clone's files, and `wasmgate` and `opa` on the path.
struct Shell {
    folder: TempDir,
    path: String,
    /// `export` lines so far.
    exports: String,
}

impl Shell {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["manifests", "policies", "docs"] {
            symlink(root().join(name), folder.path().join(name)).unwrap();
        }
        let programs = [PathBuf::from(env!("CARGO_BIN_EXE_wasmgate")), program("opa")];
        let folders: Vec<_> =
            programs.iter().map(|program| program.parent().unwrap().display().to_string()).collect();
        let path = format!("{}:{}", folders.join(":"), std::env::var("PATH").unwrap());
        Self { folder, path, exports: String::new() }
    }

    /// The output of a command on both streams, as on a terminal of 120 columns without colour.
    fn run(&mut self, command: &str) -> String {
        if command.starts_with("export ") {
            writeln!(self.exports, "{command}").unwrap();
        }
        let script = format!("exec 2>&1\n{}{command}\n", self.exports);
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env("COLUMNS", "120")
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().lines().fold(String::new(), |mut text, line| {
            writeln!(text, "{}", line.trim_end()).unwrap();
            text
        })
    }
}

/// The commands of a block, with their continuation lines.
fn commands(block: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_string());
        } else if let (Some(more), Some(command)) = (line.strip_prefix('>'), commands.last_mut()) {
            write!(command, "\n{}", more.strip_prefix(' ').unwrap_or(more)).unwrap();
        }
    }
    commands
}

/// The block as the page should have it: each command, and its present output.
fn rendered(block: &str, shell: &mut Shell) -> String {
    let mut text = String::new();
    for command in commands(block) {
        let typed = command.replace('\n', "\n> ").replace("\n> \n", "\n>\n");
        writeln!(text, "$ {typed}").unwrap();
        text.push_str(&shell.run(&command));
    }
    text
}

/// A page with the fresh output of every marked block.
fn run_again(page: &str) -> String {
    let mut shell = Shell::new();
    let (mut text, mut rest) = (String::new(), page);
    while let Some((before, after)) = rest.split_once(MARK) {
        let (block, after) = after.split_once(END).expect("a block that ends");
        write!(text, "{before}{MARK}{}{END}", rendered(block, &mut shell)).unwrap();
        rest = after;
    }
    text + rest
}

#[test]
fn the_commands_of_a_page_print_what_the_page_says() {
    for name in PAGES {
        let path: &Path = &root().join(name);
        let page = fs::read_to_string(path).unwrap();
        assert!(page.contains(MARK), "{name} has nothing to run");
        let now = run_again(&page);
        if std::env::var_os("WASMGATE_WRITE_DOCS").is_some_and(|value| value == "1") {
            fs::write(path, &now).unwrap();
        }
        let difference = similar::TextDiff::from_lines(&page, &now).unified_diff().to_string();
        assert!(page == now, "{name} is out of date; `WASMGATE_WRITE_DOCS=1` writes it:\n{difference}");
    }
}

#[test]
fn a_command_with_continuation_lines_is_read_as_one() {
    let block = "$ cat <<EOF\n> one\n>\n> EOF\none\n$ true\n";
    assert_eq!(commands(block), ["cat <<EOF\none\n\nEOF", "true"]);
}

/// Paths of the project in backticks, if they are complete.
fn paths(text: &str) -> Vec<&str> {
    const TOPS: [&str; 7] = ["src/", "tests/", "policies/", "manifests/", "docs/", "tools/", "benches/"];
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|path| TOPS.iter().any(|top| path.starts_with(top)) && !path.contains(['<', ' ', '*', '{']))
        .collect()
}

#[test]
fn every_file_that_architecture_md_names_exists() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let glossary = fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let named: Vec<_> = paths(&map).into_iter().chain(paths(&glossary)).collect();
    assert!(named.len() > 60, "{named:?}");
    let missing: Vec<_> = named.into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The names that a recipe says to look for, each with its file: "`Shape` in `src/image.rs`".
fn items(recipes: &str) -> Vec<(&str, &str)> {
    fn item<'a>(window: &[&'a str]) -> Option<(&'a str, &'a str)> {
        match window {
            [name, " in ", file] if file.contains(['/', '.']) => Some((*name, *file)),
            _ => None,
        }
    }
    let pieces: Vec<&str> = recipes.split('`').collect();
    // Pieces at odd places are in backticks.
    pieces.windows(3).skip(1).step_by(2).filter_map(item).collect()
}

/// Whether a text has a name as a whole word.
fn has_word(text: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(inside) && !after.starts_with(inside)
    })
}

#[test]
fn every_file_of_a_recipe_has_the_name_that_the_recipe_says_to_look_for() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let recipes = map.split("\n## Recipes\n").nth(1).unwrap();
    let items = items(recipes);
    assert!(items.len() > 25, "{items:?}");
    for (name, file) in items {
        let text = fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{file} is not there"));
        assert!(has_word(&text, name), "{file} does not have `{name}`");
    }
}

#[test]
fn the_name_that_a_recipe_says_to_look_for_is_read_with_its_file() {
    let text =
        "1. `Shape` in `src/image.rs`, and `a.b` in `docs/x.md`; `src/y.rs`: no name. In `src/z.rs` `T` is.";
    assert_eq!(items(text), [("Shape", "src/image.rs"), ("a.b", "docs/x.md")]);
    assert!(has_word("enum Shape {", "Shape") && !has_word("ShapeOf Shapes", "Shape"));
}

/// `path::test` in backticks: the file, and the name of a function in it.
fn tests_named(text: &str) -> Vec<(&str, &str)> {
    paths(text).into_iter().filter_map(|path| path.split_once("::")).collect()
}

#[test]
fn every_file_and_every_test_that_the_threat_model_names_is_there() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let tests = tests_named(&page);
    assert!(tests.len() > 50, "{tests:?}");
    let is_test = |source: &str, name: &str| {
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        let named = |line: &str| {
            let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
        };
        let place = lines.iter().position(|line| named(line));
        place.and_then(|place| lines.get(place.checked_sub(1)?)).is_some_and(|above| above.starts_with("#["))
    };
    for (file, name) in tests {
        let source = fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{file} is not there"));
        assert!(is_test(&source, name), "{file} has no test `{name}`");
    }
    let files: Vec<_> = paths(&page).into_iter().filter(|path| !path.contains("::")).collect();
    let missing: Vec<_> = files.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(files.len() > 40 && missing.is_empty(), "{missing:?}");
    // Every line of a table names a file, and what shows it.
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Attack")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, closed, shown, _] = cells.as_slice() else { panic!("{line}") };
        assert!(!paths(closed).is_empty() && !paths(shown).is_empty(), "{line}");
    }
}

#[test]
fn every_link_of_the_index_has_a_target() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    for link in index.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let page = fs::read_to_string(root().join("docs").join(file))
            .unwrap_or_else(|_| panic!("`{link}` leads nowhere"));
        let slug = |title: &str| title.to_lowercase().replace(' ', "-").replace(['.', ',', '`'], "");
        let titles = page
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| slug(line.trim_start_matches('#').trim()));
        assert!(
            anchor.is_empty() || titles.into_iter().any(|title| title == anchor),
            "`{link}` leads to no heading"
        );
    }
}
