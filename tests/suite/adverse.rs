//! The most memory that reading foreign bytes takes, for adverse input of every size up to the largest that is read: it stays
//! within what a look-up reserves or is said to take (`docs/operations.md`, "Size"), whether the input is read or refused.

use allocation_counter::measure;
use wasmgate::image::layer::{MAX_APPLICATION_FILE, Tree, UnpackLimits};
use wasmgate::image::{archive::Compression, config, hints, manifest, module, spin};

use crate::support::oci::tar_of;

const MIB: u64 = 1 << 20;
/// The largest manifest, config or locked app.
const DOCUMENT: usize = 4 << 20;
/// What one of them takes beside its bytes.
pub const OF_DOCUMENT: u64 = 12 * MIB;
/// What a `spin.toml` takes.
pub const OF_SPIN_TOML: u64 = 24 * MIB;

/// Input of so many equal parts.
struct Shape {
    what: &'static str,
    bytes: fn(usize) -> Vec<u8>,
    read: fn(&[u8]) -> bool,
    /// The most bytes of it.
    most: usize,
    /// The most memory beside the input.
    within: u64,
}

/// The most memory that reading a shape took, by the number of its parts, and how many parts were still read.
fn worst(shape: &Shape) -> (u64, usize, usize) {
    let (mut peak, mut of, mut read) = (0, 0, 0);
    let each = ((shape.bytes)(2000).len() - (shape.bytes)(1000).len()).div_ceil(1000);
    let most = shape.most / each;
    let mut count = 500;
    while count <= most {
        let bytes = (shape.bytes)(count);
        let mut was_read = false;
        let taken = measure(|| was_read = (shape.read)(&bytes)).bytes_max;
        if taken > peak {
            (peak, of) = (taken, count);
        }
        read = if was_read { count } else { read };
        count = if count < most { (count + count / 3).min(most) } else { most + 1 };
    }
    (peak, of, read)
}

fn check(shapes: Vec<Shape>) {
    let mut wrong = Vec::new();
    for shape in shapes {
        let (peak, count, read) = worst(&shape);
        let what = shape.what;
        println!("{what:<50} {peak:>12} bytes at {count} parts; {read} parts were read");
        if peak > shape.within || read == 0 {
            wrong.push(format!(
                "{what}: {peak} bytes at {count} parts, {} are said; {read} parts were read",
                shape.within
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

fn list(before: &str, part: &str, count: usize, after: &str) -> Vec<u8> {
    let parts: Vec<String> = (0..count).map(|number| part.replace('#', &number.to_string())).collect();
    format!("{before}{}{after}", parts.join(",")).into_bytes()
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const CONFIG: fn(&[u8]) -> bool = |bytes| config::parse(bytes).is_ok();
const MANIFEST: fn(&[u8]) -> bool = |bytes| manifest::parse(bytes).is_ok();
/// Of one that names the architecture of Wasm at its end.
const HINTS: fn(&[u8]) -> bool = |bytes| hints::read(bytes).is_wasm;
const APP: fn(&[u8]) -> bool = |bytes| spin::parse(bytes).is_ok();

fn document(read: fn(&[u8]) -> bool, what: &'static str, bytes: fn(usize) -> Vec<u8>) -> Shape {
    Shape { what, bytes, read, most: DOCUMENT, within: OF_DOCUMENT }
}

#[test]
fn documents_take_no_more_memory_than_is_said() {
    check(vec![
        document(CONFIG, "config, objects in a field that is read leniently", |n| {
            list(r#"{"component":["#, r#"{"":0}"#, n, "]}")
        }),
        document(CONFIG, "config, objects in an unknown field", |n| list(r#"{"x":["#, r#"{"":0}"#, n, "]}")),
        document(CONFIG, "config, numbers in an unknown field", |n| list(r#"{"x":["#, "0", n, "]}")),
        document(CONFIG, "config, lists in an unknown field", |n| {
            list(r#"{"config":{"x":["#, "[0]", n, "]}}")
        }),
        document(CONFIG, "config, unknown fields", |n| list("{", r#""k#":0"#, n, "}")),
        document(CONFIG, "config, labels", |n| list(r#"{"config":{"Labels":{"#, r#""k#":"""#, n, "}}}")),
        document(CONFIG, "config, words", |n| list(r#"{"config":{"Cmd":["#, r#""""#, n, "]}}")),
        document(CONFIG, "config, digests", |n| list(r#"{"rootfs":{"diff_ids":["#, r#""""#, n, "]}}")),
        document(CONFIG, "config, one long text", |n| {
            format!(r#"{{"os":"{}"}}"#, "abcd".repeat(n)).into_bytes()
        }),
        document(CONFIG, "config, one long label", |n| {
            format!(r#"{{"config":{{"Labels":{{"a":"{}"}}}}}}"#, r"\n\n".repeat(n)).into_bytes()
        }),
        document(MANIFEST, "manifest, objects in an unknown field", |n| {
            let config = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{DIGEST}","size":1}},"x":["#);
            list(&config, r#"{"":0}"#, n, "]}")
        }),
        document(MANIFEST, "manifest, annotations", |n| {
            let config =
                format!(r#"{{"schemaVersion":2,"config":{{"digest":"{DIGEST}","size":1}},"annotations":{{"#);
            list(&config, r#""k#":"""#, n, "}}")
        }),
        document(APP, "locked app, objects in an unknown field", |n| {
            list(r#"{"spin_lock_version":1,"components":[],"triggers":[],"x":["#, r#"{"":0}"#, n, "]}")
        }),
        document(APP, "locked app, lists in lists", |n| {
            list(
                r#"{"spin_lock_version":1,"components":[],"triggers":[],"x":["#,
                r#"[[{"":{"":[0]}}]]"#,
                n,
                "]}",
            )
        }),
        document(APP, "locked app, middleware below a long name", |n| {
            let name = "k".repeat(200 * n);
            let before = format!(
                r#"{{"spin_lock_version":1,"triggers":[],"components":[{{"id":"c","source":{{"digest":"{DIGEST}"}},"trigger_dependencies":{{"{name}":["#
            );
            list(&before, &format!(r#"{{"source":{{"digest":"{DIGEST}"}}}}"#), n, "]}}]}")
        }),
        document(APP, "locked app, triggers that have a long text in common", |n| {
            let name = "v".repeat(10 * n);
            let before = format!(
                r#"{{"spin_lock_version":1,"components":[],"metadata":{{"triggers":{{"redis":{{"address":"redis://a","x":"{{{{ {name} }}}}"}}}}}},"triggers":["#
            );
            list(&before, r#"{"trigger_type":"redis"}"#, n, "]}")
        }),
    ]);
}

#[test]
fn documents_that_are_refused_take_no_more_memory_than_is_said() {
    check(vec![
        document(HINTS, "refused document, bytes that are no text", |n| {
            [&br#"{"os":""#[..], &vec![0xff; n], br#"","architecture":"wasm"}"#].concat()
        }),
        document(HINTS, "refused document, one long text", |n| {
            format!(r#"{{"os":"{}","architecture":"wasm"}}"#, r"\na".repeat(n)).into_bytes()
        }),
        document(HINTS, "refused document, one long name", |n| {
            format!(r#"{{"{}":"","architecture":"wasm"}}"#, r"\na".repeat(n)).into_bytes()
        }),
        document(HINTS, "refused document, halves of pairs of surrogates", |n| {
            format!(r#"{{"Cmd":["{}"],"architecture":"wasm"}}"#, r"\ud83d".repeat(n)).into_bytes()
        }),
        document(HINTS, "refused document, words", |n| {
            list(r#"{"architecture":"wasm","cmd":["#, r#""a""#, n, "]}")
        }),
        document(HINTS, "refused document, one field again and again", |n| list("{", r#""os":0"#, n, "}")),
    ]);
}

/// LEB128.
fn number(mut value: usize, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(0x80 | u8::try_from(value & 0x7f).unwrap());
        value >>= 7;
    }
    into.push(u8::try_from(value).unwrap());
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![id];
    number(content.len(), &mut bytes);
    [bytes.as_slice(), content].concat()
}

/// A section of so many items.
fn items(id: u8, count: usize, mut item: impl FnMut(usize, &mut Vec<u8>)) -> Vec<u8> {
    let mut content = Vec::new();
    number(count, &mut content);
    (0..count).for_each(|number| item(number, &mut content));
    section(id, &content)
}

/// Four letters that differ for each number.
fn name(number: usize) -> [u8; 4] {
    [0, 6, 12, 18].map(|shift| b'0' + u8::try_from((number >> shift) & 0x3f).unwrap())
}

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

fn of_module(sections: &[Vec<u8>]) -> Vec<u8> {
    [MODULE, &sections.concat()].concat()
}

fn of_component(sections: &[Vec<u8>]) -> Vec<u8> {
    [COMPONENT, &sections.concat()].concat()
}

/// One type `(func)`.
fn plain() -> Vec<u8> {
    section(1, &[1, 0x60, 0, 0])
}

fn imports(count: usize) -> Vec<u8> {
    items(2, count, |number, into| {
        into.push(4);
        into.extend(name(number));
        into.extend([0, 0, 0]);
    })
}

/// A module of so many imports, another one for each `kind`.
pub fn imports_from(kind: usize, count: usize) -> Vec<u8> {
    of_module(&[plain(), imports(count), section(0, &[1, u8::try_from(kind).unwrap()])])
}

/// Four lower-case letters that differ for each number.
fn letters(number: usize) -> [u8; 4] {
    [1, 26, 26 * 26, 26 * 26 * 26].map(|place| b'a' + u8::try_from(number / place % 26).unwrap())
}

/// An instance type with a resource and so many functions, each of a type of its own that takes the resource.
fn instance_type(functions: usize) -> Vec<u8> {
    let mut content = vec![1, 0x42];
    number(2 + 2 * functions, &mut content);
    // (export "r" (type (sub resource))) (type (own 0))
    content.extend([4, 0, 1, b'r', 3, 1, 1, 0x69, 0]);
    for function in 0..functions {
        // (type (func (param "a" 1))) (export "…" (func …))
        content.extend([1, 0x40, 1, 1, b'a', 1, 1, 0, 4, 0, 4]);
        content.extend(letters(function));
        content.push(1);
        number(2 + function, &mut content);
    }
    section(7, &content)
}

fn binary(what: &'static str, bytes: fn(usize) -> Vec<u8>) -> Shape {
    let read = |bytes: &[u8]| module::read(bytes, "test").is_ok();
    Shape { what, bytes, read, most: 8 << 20, within: module::MAX_TABLES }
}

#[test]
fn a_module_takes_no_more_memory_than_its_tables_may() {
    check(vec![
        binary("imports", |n| of_module(&[plain(), imports(n)])),
        binary("exports", |n| {
            let exports = items(7, n, |number, into| {
                into.push(4);
                into.extend(name(number));
                into.extend([0, 0]);
            });
            of_module(&[plain(), section(2, &[1, 0, 0, 0, 0]), exports])
        }),
        binary("types", |n| {
            of_module(&[items(1, n, |number, into| {
                let kinds = [0x7f, 0x7e, 0x7d, 0x7c];
                into.extend([0x60, 6]);
                into.extend([0, 2, 4, 6, 8, 10].map(|shift| kinds[(number >> shift) & 3]));
                into.extend([1, kinds[(number >> 12) & 3]]);
            })])
        }),
        binary("types, all of them alike", |n| {
            of_module(&[items(1, n, |_, into| into.extend([0x60, 0, 0]))])
        }),
        binary("types in groups of their own", |n| {
            of_module(&[items(1, n, |_, into| into.extend([0x4e, 2, 0x60, 0, 0, 0x60, 0, 0]))])
        }),
        binary("functions", |n| {
            let bodies = items(10, n, |_, into| into.extend([2, 0, 0x0b]));
            of_module(&[plain(), items(3, n, |_, into| into.push(0)), bodies])
        }),
        binary("functions in segments", |n| {
            let segment = |from: usize, into: &mut Vec<u8>| {
                into.extend([3, 0]);
                number(10, into);
                (from..from + 10).for_each(|function| number(function, into));
            };
            let elements = items(9, n / 10, |at, into| segment(at * 10, into));
            let bodies = items(10, n, |_, into| into.extend([2, 0, 0x0b]));
            of_module(&[plain(), items(3, n, |_, into| into.push(0)), elements, bodies])
        }),
        binary("globals", |n| of_module(&[items(6, n, |_, into| into.extend([0x7f, 0, 0x41, 0, 0x0b]))])),
        binary("tags", |n| of_module(&[plain(), items(13, n, |_, into| into.extend([0, 0]))])),
        binary("tables", |n| of_module(&[items(4, n, |_, into| into.extend([0x70, 0, 0]))])),
    ]);
}

#[test]
fn a_component_takes_no_more_memory_than_its_tables_may() {
    check(vec![
        binary("nested modules of a thousand imports", |n| {
            let nested = section(1, &of_module(&[plain(), imports(1000)]));
            of_component(&vec![nested; n.div_ceil(1000)])
        }),
        binary("nested modules", |n| of_component(&vec![section(1, MODULE); n])),
        binary("nested components", |n| {
            let inner = section(4, &of_component(&vec![section(4, COMPONENT); 500]));
            of_component(&vec![inner; n.div_ceil(500)])
        }),
        binary("types of a component", |n| of_component(&[items(7, n, |_, into| into.push(0x7f))])),
        binary("fields of types", |n| {
            of_component(&[items(7, n.div_ceil(100), |_, into| {
                into.extend([0x72, 100]);
                for field in 0..100 {
                    into.push(4);
                    into.extend(letters(field));
                    into.push(0x7f);
                }
            })])
        }),
        binary("an instance type", |n| of_component(&[instance_type(n)])),
    ]);
}

#[test]
fn text_takes_no_more_memory_than_the_tables_of_a_binary() {
    let shape = |what: &'static str, bytes: fn(usize) -> Vec<u8>| Shape {
        what,
        bytes,
        read: |bytes| module::read_text(bytes, "test").is_ok(),
        most: module::MAX_TEXT,
        within: module::MAX_TABLES,
    };
    check(vec![
        shape("text, functions", |n| format!("(module {})", "(func)".repeat(n)).into_bytes()),
        shape("text, imports", |n| format!("(module {})", r#"(import "" "" (func))"#.repeat(n)).into_bytes()),
        shape("text, instructions", |n| format!("(module (func {}))", "nop ".repeat(n)).into_bytes()),
        shape("text, types", |n| format!("(module {})", "(type(func))".repeat(n)).into_bytes()),
        shape("text, components", |n| format!("(component {})", "(component)".repeat(n)).into_bytes()),
    ]);
}

#[test]
fn the_manifest_of_an_application_in_files_takes_a_bounded_amount_of_memory() {
    // None of them is an application.
    let shape = |what: &'static str, bytes: fn(usize) -> Vec<u8>| Shape {
        what,
        bytes,
        read: |bytes| spin::manifest::parse(bytes).is_err(),
        most: MAX_APPLICATION_FILE,
        within: OF_SPIN_TOML,
    };
    check(vec![
        shape("spin.toml, inline tables", |n| format!("a=[{}]", "{a=0},".repeat(n)).into_bytes()),
        shape("spin.toml, tables", |n| {
            (0..n).flat_map(|number| format!("[a{number}]\n").into_bytes()).collect()
        }),
        shape("spin.toml, names in names", |n| {
            (0..n).flat_map(|number| format!("{number}.a.a.a=0\n").into_bytes()).collect()
        }),
        shape("spin.toml, lists", |n| format!("a=[{}]", "[],".repeat(n)).into_bytes()),
        shape("spin.toml, lists of tables", |n| "[[a]]\nb=0\n".repeat(n).into_bytes()),
        shape("spin.toml, keys", |n| {
            (0..n).flat_map(|number| format!("{number}=0\n").into_bytes()).collect()
        }),
        shape("spin.toml, texts", |n| format!("a=[{}]", "'',".repeat(n)).into_bytes()),
        shape("spin.toml, ends of lines", |n| format!("a=0{}", "\n".repeat(n)).into_bytes()),
        shape("spin.toml, comments", |n| format!("a=0{}", "\n#".repeat(n)).into_bytes()),
        shape("spin.toml, what is nothing", |n| "= ".repeat(n).into_bytes()),
        shape("spin.toml, one text", |n| format!("a=\"{}\"", "\\n".repeat(n)).into_bytes()),
        shape("spin.toml, numbers", |n| format!("a=[{}]", "0,".repeat(n)).into_bytes()),
        shape("spin.toml, files below a long id", |n| {
            let files = "'a',".repeat(n);
            of_application(&format!("[component.{}]\nsource='a.wasm'\nfiles=[{files}]\n", "c".repeat(40 * n)))
        }),
        shape("spin.toml, components that depend on one with a long source", |n| {
            let one = "[[trigger.http]]\ncomponent={source='a',dependencies={b={component='c'}}}\n".repeat(n);
            of_application(&format!("{one}[component.c]\nsource='{}'\n", "c".repeat(40 * n)))
        }),
    ]);
}

fn of_application(components: &str) -> Vec<u8> {
    format!("spin_manifest_version=2\n[application]\nname='a'\n{components}").into_bytes()
}

/// A frame whose window has `1 << log` bytes, of one block that is not compressed.
fn frame(log: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    let blocks = content.chunks(128 << 10);
    let last = blocks.len() - 1;
    for (number, block) in blocks.enumerate() {
        let header = u32::try_from((block.len() << 3) | usize::from(number == last)).unwrap();
        bytes.extend(header.to_le_bytes().into_iter().take(3));
        bytes.extend(block);
    }
    bytes
}

#[test]
fn a_zstd_layer_takes_no_more_memory_than_its_file_and_the_largest_window() {
    let content = tar_of(&[("big", &vec![7; 40 << 20])]);
    let apply = |bytes: &[u8]| {
        let bounds = UnpackLimits { layer: 512 << 20, file: 128 << 20 };
        let mut tree = Tree::new(bounds, [], std::sync::Arc::default());
        let mut result = Ok(String::new());
        let taken = measure(|| result = tree.apply(bytes, Compression::Zstd)).bytes_max;
        println!("{} bytes, {taken} in memory", bytes.len());
        (taken, result)
    };
    for log in [17, 23, 25] {
        let (taken, result) = apply(&frame(log, &content));
        assert!(result.is_ok(), "{result:?}");
        assert!(taken < 2 * (1 << log) + 2 * MIB, "{taken} with a window of {} bytes", 1 << log);
    }
    for log in [26, 27] {
        let (taken, result) = apply(&frame(log, &content));
        let said = format!("{:?}", result.unwrap_err());
        assert!(said.contains("32 MiB") && said.contains("--long"), "{said}");
        assert!(taken < 2 * MIB, "{taken}");
    }
}
