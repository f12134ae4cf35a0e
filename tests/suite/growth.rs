//! How much a parser of foreign bytes works, by the size of what it reads. Measured is what it allocates, in bytes and in
//! number, since that is the same in every run and on every machine. What a loop does without allocating is not seen by
//! that: where the gate's own code goes through lists again and again (layers, modules, files and mounts, names, operands of
//! functions), its steps are counted instead (`image::steps` and the tests that are called
//! `the_work_grows_no_faster_than_the_bytes`). Of all of them the time is taken that the thread worked, and not that of the clock:
//! it is not the same in every run, but what takes the square of its bytes takes longer in each.
//! Before a parser there is a bound on the bytes, so that its worst case is known.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::time::{ClockId, clock_gettime};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};
use wasmgate::audit::Masks;
use wasmgate::audit::mask::Masking;
use wasmgate::audit::secrets::Shown;
use wasmgate::capability::{HostPattern, assess};
use wasmgate::grant::load;
use wasmgate::image::archive::Compression;
use wasmgate::image::config;
use wasmgate::image::entry::{Start, View};
use wasmgate::image::hints;
use wasmgate::image::layer::{Tree, UnpackLimits};
use wasmgate::image::manifest::{self, Document};
use wasmgate::image::mounts::Mount;
use wasmgate::image::reference::Reference;
use wasmgate::image::spin::{self, manifest as spin_toml};
use wasmgate::image::{
    Depth, Digest, FileClass, ImageFacts, ImageKind, ModuleFacts, Packaging, Program, Shape, SpinApp,
    SpinComponent, WasmFormat, module,
};
use wasmgate::inspection::{Container, LookupResult};
use wasmgate::learn;
use wasmgate::lookup::SizeLimits;
use wasmgate::lookup::detect::detect;
use wasmgate::policy::{Bundle, Contents, Trust};
use wasmgate::quantity::Quantity;
use wasmgate::registry::layout::Layouts;
use wasmgate::registry::{Login, foreign};
use wasmgate::review;
use wasmgate::runtime::{Family, Runtimes};
use wasmgate::sources::{Algorithm, KeyOptions, Signers};
use wasmgate::workload::{self, Kind, Role, managed};

use crate::support::targets;

/// How many times larger the larger input is.
const TIMES: usize = 8;
/// How many times more it may take: a list that grows by doubling may have just doubled. What is quadratic takes 64 times.
const MOST_TIMES: u64 = 2 * TIMES as u64;
/// Most bytes allocated for each byte of the larger input, and on top whatever its size.
const MOST_PER_BYTE: u64 = 200;
const MOST_FIXED: u64 = 64 << 10;

/// How many times longer it may work: memory that is in no cache and pages that are new add to the eight times.
const MOST_TIMES_AS_LONG: u32 = 32;
/// Less is not told from none.
const SHORTEST: Duration = Duration::from_micros(100);
/// How often the time is taken, of which the shortest counts: the rest of the machine makes it longer and never shorter.
const TRIES: usize = 6;

/// Whether a parser reads an input.
type Reads = fn(&[u8]) -> bool;

/// A parser, and one shape of its input.
struct Growth {
    what: &'static str,
    /// The input with so many of what there are many of.
    bytes: fn(usize) -> Vec<u8>,
    /// Whether it was read: an input that is refused at once shows nothing.
    read: Reads,
    /// Number in the smaller input.
    few: usize,
}

/// Parsers of foreign bytes, each with the name of its fuzz target. `module`, `tar` and `tree` have tests of their steps beside;
/// what the reader of Wasm remembers of nested modules grows with their square, and it reads a thousand of them at most.
type Parsers = Vec<(&'static str, Vec<Growth>)>;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// So many items, each with its number in the place of `#`, with commas between them.
fn list(count: usize, item: &str) -> String {
    let items: Vec<String> = (0..count).map(|number| item.replace('#', &number.to_string())).collect();
    items.join(",")
}

fn manifest_of(layers: &str, more: &str) -> Vec<u8> {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",
        "digest":"{DIGEST}","size":2}},"layers":[{layers}]{more}}}"#
    )
    .into_bytes()
}

fn layer() -> String {
    format!(r#"{{"mediaType":"{LAYER}","digest":"{DIGEST}","size":2,"annotations":{{"a":"b"}}}}"#)
}

fn read_manifest(bytes: &[u8]) -> bool {
    // As if it were refused.
    let is_hinted = hints::read(bytes).next.is_some();
    matches!(manifest::parse(bytes), Ok(Document::Manifest(read)) if { drop(manifest::layout(&read)); is_hinted })
}

fn read_index(bytes: &[u8]) -> bool {
    let Ok(Document::Index(entries)) = manifest::parse(bytes) else { return false };
    manifest::choose(&entries).is_ok()
}

fn documents() -> Vec<Growth> {
    let (read, few) = (read_manifest as Reads, 60);
    vec![
        Growth { what: "manifest, layers", bytes: |n| manifest_of(&list(n, &layer()), ""), read, few },
        Growth {
            what: "manifest, annotations",
            bytes: |n| {
                manifest_of(&layer(), &format!(r#","annotations":{{{}}}"#, list(n, r#""a.#":"value #""#)))
            },
            read,
            few: 500,
        },
        Growth {
            what: "manifest, members that no reader knows",
            bytes: |n| manifest_of(&layer(), &format!(",{}", list(n, r#""x#":[{"a":[1,2]},"text"]"#))),
            read,
            few: 250,
        },
        Growth {
            what: "index, entries",
            bytes: |n| {
                let entry = format!(
                    r#"{{"mediaType":"{MANIFEST}","digest":"{DIGEST}","size":2,"platform":{{"os":"linux","architecture":"a#"}}}}"#
                );
                let own = entry.replace("a#", "amd64");
                format!(r#"{{"schemaVersion":2,"manifests":[{},{own}]}}"#, list(n, &entry)).into_bytes()
            },
            read: read_index,
            few: 60,
        },
        Growth {
            what: "config, variables and labels",
            bytes: |n| {
                let (env, labels) = (list(n, r#""NAME_#=value""#), list(n, r#""label.#":"value""#));
                format!(
                    r#"{{"os":"linux","architecture":"amd64","config":{{"Env":[{env}],"Labels":{{{labels}}}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
                )
                .into_bytes()
            },
            read: |bytes| config::parse(bytes).is_ok_and(|config| !config.env.is_empty()),
            few: 500,
        },
        Growth {
            what: "config, diff ids and history",
            bytes: |n| {
                let (ids, history) =
                    (list(n, &format!("\"{DIGEST}\"")), list(n, r#"{"created_by":"step #"}"#));
                format!(
                    r#"{{"os":"linux","architecture":"amd64","history":[{history}],"rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#
                )
                .into_bytes()
            },
            read: |bytes| config::parse(bytes).is_ok(),
            few: 400,
        },
    ]
}

fn locked(components: &str, triggers: &str) -> Vec<u8> {
    format!(
        r#"{{"spin_lock_version":1,"metadata":{{"name":"shop"}},"triggers":[{triggers}],"components":[{components}]}}"#
    )
    .into_bytes()
}

const COMPONENT: &str = r#"{"id":"c#","source":{"content_type":"application/wasm","digest":"DIGEST"}MORE}"#;

fn locked_component(more: &str) -> String {
    COMPONENT.replace("DIGEST", DIGEST).replace("MORE", more)
}

fn one_locked(more: &str) -> Vec<u8> {
    let trigger = r#"{"id":"t","trigger_type":"http","trigger_config":{"component":"c0"}}"#;
    locked(&locked_component(more).replace('#', "0"), trigger)
}

fn toml(components: &str) -> Vec<u8> {
    format!("spin_manifest_version = 2\n[application]\nname = \"shop\"\n{components}").into_bytes()
}

fn toml_component(count: usize, more: &str) -> Vec<u8> {
    let mut text = String::new();
    for number in 0..count {
        let _ = write!(
            text,
            "[[trigger.http]]\nroute = \"/{number}\"\ncomponent = \"c{number}\"\n[component.c{number}]\nsource = \
             \"a.wasm\"\n{more}"
        );
    }
    toml(&text)
}

fn applications() -> Vec<Growth> {
    // Eight times as many components are as many as are read.
    let (read, few) = ((|bytes| spin::parse(bytes).is_ok()) as Reads, 16);
    let read_toml = |bytes: &[u8]| spin_toml::parse(bytes).is_ok();
    vec![
        Growth {
            what: "locked app, components with a trigger each",
            bytes: |n| {
                let trigger = r#"{"id":"t#","trigger_type":"http","trigger_config":{"component":"c#"}}"#;
                locked(&list(n, &locked_component("")), &list(n, trigger))
            },
            read,
            few,
        },
        Growth {
            what: "locked app, hosts, variables and files of one component",
            bytes: |n| {
                one_locked(&format!(
                    r#","metadata":{{"allowed_outbound_hosts":[{}]}},"config":{{{}}},"files":[{}]"#,
                    list(n, r#""https://h#.example""#),
                    list(n, r#""k#":"{{ v# }}""#),
                    list(n, &format!(r#"{{"path":"f#","digest":"{DIGEST}"}}"#)),
                ))
            },
            read,
            few: 200,
        },
        Growth {
            what: "locked app, a value of many templates",
            bytes: |n| one_locked(&format!(r#","config":{{"k":"{}"}}"#, "{{ v }}".repeat(n))),
            read,
            few: 1000,
        },
        Growth { what: "spin.toml, components", bytes: |n| toml_component(n, ""), read: read_toml, few },
        Growth {
            what: "spin.toml, hosts, variables and files of one component",
            bytes: |n| {
                let more = format!(
                    "allowed_outbound_hosts = [{}]\nfiles = [{}]\n[component.c0.variables]\n{}\n",
                    list(n, "\"https://h#.example\""),
                    list(n, "{ source = \"s#\", destination = \"/d#\" }"),
                    list(n, "k# = \"{{ v# }}\"").replace(',', "\n"),
                );
                let variables = list(n, "v# = { default = \"x\" }").replace(',', "\n");
                [toml_component(1, &more), format!("[variables]\n{variables}\n").into_bytes()].concat()
            },
            read: read_toml,
            few: 200,
        },
        Growth {
            what: "spin.toml, a long comment and a long text",
            bytes: |n| {
                let more = format!("description = \"{}\"\n# {}\n", "é\\n".repeat(n), "-".repeat(n));
                toml_component(1, &more)
            },
            read: read_toml,
            few: 2000,
        },
        // Eight times as many are as many as are read.
        Growth {
            what: "runtime-config.toml, stores and databases",
            bytes: |n| {
                let store = "[key_value_store.s#]\ntype = \"redis\"\nurl = \"redis://:x@h#\"\n[sqlite_database.d#]\ntype = \"spin\"\n";
                list(n, store).replace(',', "").into_bytes()
            },
            read: |bytes| spin::runtime_config_of("/c", bytes).unread.is_none(),
            few: 30,
        },
        Growth {
            what: ".env, names and a long value",
            bytes: |n| {
                let names = list(n, "A#=x").replace(',', "\n");
                format!("{names}\nB=\"{}\"\n", "é ".repeat(n * 80)).into_bytes()
            },
            read: |bytes| spin::dotenv_of("/.env", bytes).is_some(),
            few: 30,
        },
        Growth {
            what: ".env, copies",
            bytes: |n| format!("A={}{}", list(n, "${B#}"), "x".repeat(n * 1000)).into_bytes(),
            read: |bytes| spin::dotenv_of("/.env", bytes).is_some(),
            few: 4,
        },
    ]
}

/// An entry of an archive with an extended header of these records.
fn with_records(records: &[u8]) -> Vec<u8> {
    let header = |name: &str, kind: u8, size: usize| {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size as u64);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let mut archive = header("PaxHeader", b'x', records.len());
    archive.extend(records);
    archive.resize(archive.len().next_multiple_of(512), 0);
    archive.extend(header("a", b'0', 0));
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A record of a pax header, which begins with its own length.
fn record(key: &str, value: &str) -> String {
    let body = format!(" {key}={value}\n");
    let mut length = body.len();
    while length != body.len() + length.to_string().len() {
        length = body.len() + length.to_string().len();
    }
    format!("{length}{body}")
}

fn read_layer(bytes: &[u8]) -> bool {
    let mut tree = Tree::new(UnpackLimits { layer: 64 << 20, file: 1 << 20 }, [], Arc::default());
    tree.apply(bytes, Compression::Plain).is_ok() && tree.files().is_ok()
}

fn headers() -> Vec<Growth> {
    vec![
        Growth {
            what: "pax header, records",
            bytes: |n| {
                let records = (0..n).map(|number| record(&format!("SCHILY.xattr.user.a{number}"), "value"));
                with_records(records.collect::<String>().as_bytes())
            },
            read: read_layer,
            few: 500,
        },
        Growth {
            what: "pax header, one long value",
            bytes: |n| with_records(record("SCHILY.xattr.user.a", &"v".repeat(n)).as_bytes()),
            read: read_layer,
            few: 20_000,
        },
        Growth {
            what: "WWW-Authenticate, parameters",
            bytes: |n| {
                let parameters = list(n, r##"p#="v\"#""##);
                format!(r#"Bearer realm="https://a.example/t",{parameters}"#).into_bytes()
            },
            read: |bytes| foreign::challenge(bytes).is_some(),
            few: 60,
        },
        Growth {
            what: "WWW-Authenticate, challenges",
            bytes: |n| {
                format!(r#"{}, Bearer realm="https://a.example/t""#, list(n, r#"Scheme# realm="r""#))
                    .into_bytes()
            },
            read: |bytes| foreign::challenge(bytes).is_some(),
            few: 30,
        },
        Growth {
            what: "answer of a token service",
            bytes: |n| format!(r#"{{"token":"{}",{}}}"#, "t".repeat(n), list(n, r#""m#":[{}]"#)).into_bytes(),
            read: |bytes| foreign::token_lives(bytes).is_some(),
            few: 500,
        },
        Growth {
            what: "errors of a registry",
            bytes: |n| {
                let error = r#"{"code":"UNKNOWN","message":"message #\n","detail":{"a":[#]}}"#;
                format!(r#"{{"errors":[{}]}}"#, list(n, error)).into_bytes()
            },
            read: |bytes| !foreign::explained(500, bytes).is_empty(),
            few: 200,
        },
        Growth {
            what: "a page in the place of a registry's errors",
            bytes: |n| "<p>\u{202e}&amp;\n</p>".repeat(n).into_bytes(),
            read: |bytes| !foreign::explained(502, bytes).is_empty(),
            few: 500,
        },
    ]
}

fn logins() -> Vec<Growth> {
    vec![
        Growth {
            what: "docker config, logins",
            bytes: |n| {
                let login = r#""r#.example/org/#":{"auth":"dXNlcjpwYXNz"}"#;
                format!(r#"{{"auths":{{{}}},"credHelpers":{{{}}}}}"#, list(n, login), list(n, r#""h#":"x""#))
                    .into_bytes()
            },
            read: |bytes| Login::from_docker_config(bytes).is_ok_and(|logins| !logins.is_empty()),
            few: 200,
        },
        Growth {
            what: "dockercfg, logins",
            bytes: |n| {
                format!("{{{}}}", list(n, r#""r#.example":{"username":"u","password":"p#"}"#)).into_bytes()
            },
            read: |bytes| Login::from_dockercfg(bytes).is_ok_and(|logins| !logins.is_empty()),
            few: 200,
        },
        Growth {
            what: "output of a credential helper",
            bytes: |n| format!(r#"{{"Username":"u","Secret":"{}"}}"#, "s\\n".repeat(n)).into_bytes(),
            read: |bytes| foreign::credentials(bytes).is_some(),
            few: 2000,
        },
    ]
}

fn pod(container: &str, spec: &str, metadata: &str) -> Vec<u8> {
    format!(
        r#"{{"metadata":{{"name":"a"{metadata}}},"spec":{{"containers":[{{"name":"c","image":"a"{container}}}]{spec}}}}}"#
    )
    .into_bytes()
}

fn read_as(bytes: &[u8], kind: Kind) -> bool {
    let Ok(object) = serde_json::from_slice::<&RawValue>(bytes) else { return false };
    let Ok(judged) = workload::as_judged(object, kind) else { return false };
    workload::read(judged.get(), kind, "shop").is_ok_and(|read| !workload::changed(&read, &read))
}

fn read_review(bytes: &[u8]) -> bool {
    review::uid_of(bytes).is_some() && review::parse(bytes).is_ok()
}

fn review_of(object: &[u8], more: &str) -> Vec<u8> {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"{more},"request":{{"uid":"u","kind":{{"group":"","version":"v1",
        "kind":"Pod"}},"resource":{{"group":"","version":"v1","resource":"pods"}},"namespace":"shop","operation":"CREATE",
        "userInfo":{{"username":"a"}},"object":{}}}}}"#,
        String::from_utf8_lossy(object)
    )
    .into_bytes()
}

fn objects() -> Vec<Growth> {
    let (read, few) = ((|bytes| read_as(bytes, Kind::Pod)) as Reads, 200);
    vec![
        Growth {
            what: "pod, containers",
            bytes: |n| {
                let more = list(n, r#"{"name":"c#","image":"r.example/a#:1","command":["/a"]}"#);
                pod("", &format!(r#","initContainers":[{more}]"#), "")
            },
            read,
            few,
        },
        Growth {
            what: "pod, variables, mounts and volumes",
            bytes: |n| {
                let env = list(n, r#"{"name":"A#","value":"$(A)-#"}"#);
                let mounts = list(n, r#"{"name":"v#","mountPath":"/data/#"}"#);
                let volumes = list(n, r#"{"name":"v#","emptyDir":{}}"#);
                pod(
                    &format!(r#","env":[{env}],"volumeMounts":[{mounts}]"#),
                    &format!(r#","volumes":[{volumes}]"#),
                    "",
                )
            },
            read,
            few,
        },
        Growth {
            what: "pod, labels and annotations",
            bytes: |n| {
                let (labels, notes) = (list(n, r#""l#":"v""#), list(n, r#""a.example/#":"v\"\\u0041""#));
                pod("", "", &format!(r#","labels":{{{labels}}},"annotations":{{{notes}}}"#))
            },
            read,
            few: 500,
        },
        Growth {
            what: "SpinApp, variables",
            bytes: |n| {
                let variables = list(n, r#"{"name":"v#","value":"x"}"#);
                format!(
                    r#"{{"metadata":{{"name":"a"}},"spec":{{"image":"a","executor":"e","replicas":1,"variables":[{variables}]}}}}"#
                )
                .into_bytes()
            },
            read: |bytes| read_as(bytes, Kind::SpinApp),
            few,
        },
        Growth {
            what: "review, a large object",
            bytes: |n| {
                let notes = list(n, r#""a.example/#":"v\"\\u0041""#);
                review_of(&pod("", "", &format!(r#","annotations":{{{notes}}}"#)), "")
            },
            read: read_review,
            few: 500,
        },
        Growth {
            what: "review, members before the uid",
            bytes: |n| review_of(&pod("", "", ""), &format!(",{}", list(n, r#""x#":[{"uid":"no"},"\"{"]"#))),
            read: read_review,
            few: 500,
        },
    ]
}

/// Objects whose values are counted before they are parsed.
fn counted_objects() -> Vec<Growth> {
    let read: Reads = |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|object| workload::parsed_bytes(object, Kind::Pod) > bytes.len())
    };
    vec![
        Growth {
            what: "pod that is counted, a long name and many lists",
            bytes: |n| format!(r#"{{"{}":[{}]}}"#, "a".repeat(50 * n), list(n, "[]")).into_bytes(),
            read,
            few: 500,
        },
        Growth {
            what: "pod that is counted, the same deeper than anything is parsed",
            bytes: |n| {
                let (begin, end) = ("[".repeat(200), "]".repeat(200));
                format!(r#"{{"{}":{begin}{}{end}}}"#, "a".repeat(50 * n), list(n, "[]")).into_bytes()
            },
            read,
            few: 500,
        },
        Growth {
            what: "pod that is counted, names with escapes",
            bytes: |n| format!("{{{}}}", list(n, r#""contain\u0065rs#":[{}],"\"[{\\":[1]"#)).into_bytes(),
            read,
            few: 500,
        },
    ]
}

fn other_objects() -> Vec<Growth> {
    vec![
        Growth {
            what: "Deployment, containers",
            bytes: |n| {
                let more = list(
                    n,
                    r#"{"name":"c#","image":"registry.example/team/app#:1","command":["/app.wasm"]}"#,
                );
                format!(r#"{{"metadata":{{"name":"a"}},"spec":{{"template":{{"spec":{{"containers":[{more}]}}}}}}}}"#)
                    .into_bytes()
            },
            read: |bytes| read_as(bytes, Kind::Deployment),
            few: 200,
        },
        Growth {
            what: "managed fields, managers and what they own",
            bytes: |n| {
                let owns =
                    r#"{"manager":"m#","fieldsV1":{"f:spec":{"f:volumes":{"k:{\"name\":\"v#\"}":{}}}}}"#;
                format!(r#"{{"managedFields":[{}]}}"#, list(n, owns)).into_bytes()
            },
            read: |bytes| {
                let metadata: serde_json::Map<String, Value> = serde_json::from_slice(bytes).unwrap();
                let specs = managed::owned_specs(&metadata).filter_map(|spec| spec["f:volumes"].as_object());
                specs.flatten().filter_map(|(key, _)| managed::name_in(key)).count() > 0
            },
            few: 200,
        },
        Growth {
            what: "masked for the log, variables and annotations",
            bytes: |n| {
                let env = list(n, r#"{"name":"A#","value":"secret"}"#);
                let notes = list(n, r#""a.example/#":"v""#);
                pod(&format!(r#","env":[{env}]"#), "", &format!(r#","annotations":{{{notes}}}"#))
            },
            read: |bytes| {
                let masks = Masks { annotations: vec!["b.example/*".into()] };
                let mut masking = Masking::new(&masks);
                let masked = masking.object(serde_json::from_slice(bytes).unwrap(), "/object");
                masked.starts_with('{') && !masking.report.masked.is_empty()
            },
            few: 500,
        },
        Growth {
            what: "masked values that messages quote, looked for in them and in the object",
            bytes: |n| {
                pod(&format!(r#","env":[{}]"#, list(n, r#"{"name":"A#","value":"secret-#"}"#)), "", "")
            },
            read: |bytes| {
                let masks = Masks::default();
                let mut masking = Masking::new(&masks);
                let text = std::str::from_utf8(bytes).unwrap();
                let masked = masking.object(serde_json::from_str(text).unwrap(), "/object");
                !masking.secrets.hider(&[Shown::Json(&masked)]).hide(text).contains("secret-1\"")
            },
            few: 500,
        },
    ]
}

fn texts() -> Vec<Growth> {
    const GRANT: &str =
        "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: { name: g, namespace: shop }\n";
    vec![
        Growth {
            what: "grants, documents",
            bytes: |n| {
                let one = format!(
                    "{}spec:\n  capabilities:\n  - name: http.outbound\n    hosts: [\"https://h#.example\"]\n---\n",
                    GRANT.replace("name: g", "name: g#")
                );
                (0..n).map(|number| one.replace('#', &number.to_string())).collect::<String>().into_bytes()
            },
            read: read_grants,
            few: 50,
        },
        Growth {
            what: "grants, capabilities of one",
            bytes: |n| {
                let item = |mut text: String, number| {
                    let _ = writeln!(text, "  - {{ name: env, names: [A{number}, \"B_*\"] }}");
                    text
                };
                let items = (0..n).fold(String::new(), item);
                format!("{GRANT}spec:\n  capabilities:\n{items}").into_bytes()
            },
            read: read_grants,
            few: 100,
        },
        Growth {
            what: "exceptions, documents",
            bytes: |n| {
                let one = "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiException\nmetadata: { name: e#, namespace: shop }\n\
                           spec: { rules: [needs-grant], reason: test, expiresAt: 2099-01-01T00:00:00Z }\n---\n";
                (0..n).map(|number| one.replace('#', &number.to_string())).collect::<String>().into_bytes()
            },
            read: |bytes| {
                load::parse(&String::from_utf8_lossy(bytes), "test")
                    .is_ok_and(|read| !read.exceptions.is_empty())
            },
            few: 50,
        },
        Growth {
            what: "host pattern",
            bytes: |n| format!("https://{}example:443", "a.".repeat(n)).into_bytes(),
            read: |bytes| {
                let text = String::from_utf8_lossy(bytes);
                text.parse::<HostPattern>().is_ok_and(|read| read.covers(&read))
            },
            few: 100,
        },
        Growth {
            what: "quantity",
            bytes: |n| format!("{}1Mi", "0".repeat(n)).into_bytes(),
            read: |bytes| Quantity::parse(&String::from_utf8_lossy(bytes)).is_ok(),
            few: 31,
        },
        Growth {
            what: "usage, containers of a pod",
            bytes: |n| {
                let image = format!("a.example/app:1@sha256:{}", "a".repeat(64));
                let containers = list(n, &format!(r#"{{"name":"c#","image":"{image}"}}"#));
                let statuses = list(n, r#"{"name":"c#","imageID":"","state":{"running":{}}}"#);
                format!(
                    r#"{{"metadata":{{"name":"a","namespace":"shop"}},"spec":{{"runtimeClassName":"wasm","containers":[{containers}]}},"status":{{"containerStatuses":[{statuses}]}}}}"#
                )
                .into_bytes()
            },
            read: |bytes| {
                let pod: Box<RawValue> = serde_json::from_slice(bytes).unwrap();
                learn::running(&pod, |class| Some(class.to_owned()))
                    .is_some_and(|(_, found)| !found.is_empty())
            },
            few: 50,
        },
        Growth {
            what: "usage, metrics of containers",
            bytes: |n| {
                let containers = list(n, r#"{"name":"c#","usage":{"cpu":"3m","memory":"9Mi"}}"#);
                format!(r#"{{"metadata":{{"name":"a"}},"containers":[{containers}]}}"#).into_bytes()
            },
            read: |bytes| {
                let item: Box<RawValue> = serde_json::from_slice(bytes).unwrap();
                learn::used(&item).is_some_and(|(_, found)| !found.is_empty())
            },
            few: 50,
        },
        Growth {
            what: "image name",
            bytes: |n| format!("r.example/{}a:1", "a/".repeat(n)).into_bytes(),
            read: |bytes| Reference::parse(&String::from_utf8_lossy(bytes)).is_ok(),
            few: 14,
        },
    ]
}

fn read_grants(bytes: &[u8]) -> bool {
    load::parse(&String::from_utf8_lossy(bytes), "test").is_ok_and(|read| !read.grants.is_empty())
}

/// A call of a function, as its fuzz target reads it.
fn call(name: &str, operands: &[String]) -> Vec<u8> {
    format!("{name}\n{}", operands.join("\n%%\n")).into_bytes()
}

/// Whether a function has a value.
fn read_call(bytes: &[u8]) -> bool {
    targets::said(bytes).is_some_and(|said| said.is_ok())
}

/// Functions of policies that parse a text. Beside what they allocate, their steps are counted and bounded.
fn functions() -> Vec<Growth> {
    let (read, few) = (read_call as Reads, 50);
    vec![
        Growth {
            what: "function, query and schema of GraphQL",
            bytes: |n| {
                let field = r#"field_of_the_type_#: item_of_the_list(argument: "a text of some length, which is one token") {name}"#;
                let query =
                    format!("{{{} ...Part}} fragment Part on Query {{{}}}", list(n, field), list(n, field));
                let parts = list(
                    n,
                    r#""A part of the type" part_of_the_type_#(argument: String = "value"): [Item!]"#,
                );
                let query_type =
                    "type Query {item_of_the_list(argument: String): Item} type Item {name: String}";
                let schema = format!("{query_type} type Many {{{parts}}}");
                call("graphql.parse", &[query, schema])
            },
            read,
            few,
        },
        Growth {
            what: "function, YAML",
            bytes: |n| {
                let items = list(
                    n,
                    "- {name: &a# name-of-the-item-#, 'more text': *a#, <<: {merged: \"one \\u00e9\"}}\n",
                );
                call("yaml.unmarshal", &[format!("all:\n{}", items.replace(",-", "-"))])
            },
            read,
            few,
        },
        Growth {
            what: "function, template",
            bytes: |n| {
                let part = "{{define \"t#\"}}<{{.}}>{{end}}{{range $i, $v := .a}}{{$i | print $v \"text\"}}{{end}}{{template \"t#\" .a}}";
                call("strings.render_template", &[list(n, part), r#"json:{"a": [1, "x"]}"#.into()])
            },
            read,
            // More take more steps than a call is allowed here.
            few: 20,
        },
    ]
}

/// The shapes whose names begin so.
fn named(shapes: &mut Vec<Growth>, beginnings: &[&str]) -> Vec<Growth> {
    let (named, others) = std::mem::take(shapes)
        .into_iter()
        .partition(|shape| beginnings.iter().any(|beginning| shape.what.starts_with(beginning)));
    *shapes = others;
    named
}

fn parsers() -> Parsers {
    let mut all: Vec<Growth> = [
        documents(),
        applications(),
        headers(),
        logins(),
        objects(),
        counted_objects(),
        other_objects(),
        texts(),
        binaries(),
        archives(),
        bundles(),
        functions(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let targets: [(&str, &[&str]); 18] = [
        ("manifest", &["manifest", "index"]),
        ("config", &["config"]),
        ("locked_app", &["locked app", "spin.toml", "runtime-config.toml", ".env"]),
        ("tar", &["pax header"]),
        ("tree", &["layer"]),
        ("module", &["module"]),
        ("layout", &["layout"]),
        ("registry", &["WWW-Authenticate", "answer of a token service", "errors of a registry", "a page"]),
        ("credentials", &["docker config", "dockercfg", "output of a credential helper"]),
        ("workload", &["pod", "SpinApp", "Deployment", "managed fields", "masked"]),
        ("review", &["review"]),
        ("grants", &["grants", "exceptions"]),
        ("host", &["host pattern"]),
        ("quantity", &["quantity"]),
        ("reference", &["image name"]),
        ("bundle", &["bundle"]),
        ("usage", &["usage"]),
        ("functions", &["function"]),
    ];
    let parsers = targets.map(|(target, beginnings)| (target, named(&mut all, beginnings))).into();
    assert!(all.is_empty(), "of no parser: {:?}", all.iter().map(|shape| shape.what).collect::<Vec<_>>());
    parsers
}

fn many_imports(count: usize) -> String {
    list(count, r#"(import "m#" "f" (func))"#).replace(',', " ")
}

fn many_exports(count: usize) -> String {
    list(count, r#"(export "e#" (func $f))"#).replace(',', " ")
}

fn binaries() -> Vec<Growth> {
    let (binary, text): (Reads, Reads) =
        (|bytes| module::read(bytes, "test").is_ok(), |bytes| module::read_text(bytes, "test").is_ok());
    vec![
        Growth {
            what: "module, imports and exports",
            bytes: |n| {
                wat::parse_str(format!("(module {} (func $f) {})", many_imports(n), many_exports(n))).unwrap()
            },
            read: binary,
            few: 100,
        },
        Growth {
            what: "module text, imports",
            bytes: |n| format!("(module {})", many_imports(n)).into_bytes(),
            read: text,
            few: 100,
        },
    ]
}

/// A layer of so many files and links.
fn layer_of(count: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for number in 0..count {
        let mut file = tar::Header::new_ustar();
        file.set_size(0);
        file.set_mode(0o644);
        archive.append_data(&mut file, format!("etc/{number}"), &b""[..]).unwrap();
        let mut link = tar::Header::new_ustar();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        archive.append_link(&mut link, format!("l/{number}"), format!("../etc/{number}")).unwrap();
    }
    archive.into_inner().unwrap()
}

/// `index.json` in a folder of this process, and whether it was read: the image that it names is not there.
fn read_layout(bytes: &[u8]) -> bool {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        folder
    });
    std::fs::write(FOLDER.path().join("index.json"), bytes).unwrap();
    let (layouts, reference) = Layouts::direct(&format!("{}:v1", FOLDER.path().display())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let read = runtime.block_on(detect(&layouts, &reference, Depth::Layers, &SizeLimits::default()));
    read.is_err_and(|error| error.to_string().contains(&DIGEST[7..]))
}

fn packed(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    targets::packed(&archive.into_inner().unwrap())
}

fn read_bundle(bytes: &[u8]) -> bool {
    Bundle::from_tar_gz("test", bytes).is_ok()
}

/// What is read of a signature before it is known whose it is.
fn read_signature(bytes: &[u8]) -> bool {
    static SECRET: LazyLock<NamedTempFile> = LazyLock::new(|| {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret".repeat(6)).unwrap();
        file
    });
    let file = SECRET.path().to_path_buf();
    let key = KeyOptions { algorithm: Algorithm::HS256, file, scope: String::new() };
    let trust = Trust::new(&[("release".to_string(), key)].into(), None).unwrap();
    let files: Contents = [(".signatures.json", bytes)].into_iter().collect();
    let refused = trust.verify("test", &Signers::default(), &files).unwrap_err();
    refused.to_string().ends_with("its signature is not by the key `release`")
}

const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn archives() -> Vec<Growth> {
    vec![
        Growth { what: "layer, files and links", bytes: layer_of, read: read_layer, few: 100 },
        Growth {
            what: "layout, images",
            bytes: |n| {
                let other = format!(
                    r#"{{"mediaType":"{MANIFEST}","digest":"{DIGEST}","size":2,"annotations":{{"org.opencontainers.image.ref.name":"x#"}}}}"#
                );
                let own = other.replace("x#", "v1");
                format!(r#"{{"schemaVersion":2,"manifests":[{},{own}]}}"#, list(n, &other)).into_bytes()
            },
            read: read_layout,
            few: 200,
        },
        Growth {
            what: "bundle, data",
            bytes: |n| {
                let data = format!("{{{}}}", list(n, r#""k#":[{"a":"b"}]"#)).into_bytes();
                packed(&[("policy.wasm", MODULE.to_vec()), ("data.json", data)])
            },
            read: read_bundle,
            few: 2000,
        },
        Growth {
            what: "bundle, rules that one of its cases breaks",
            bytes: |n| {
                let case = format!(r#"{{"name":"a","input":{{}},"rules":[{}]}}"#, list(n, "\"a.b#\""));
                let manifest = format!(r#"{{"metadata":{{"wasmgate":{{"cases":[{case}]}}}}}}"#);
                packed(&[
                    ("policy.wasm", MODULE.to_vec()),
                    ("data.json", b"{}".to_vec()),
                    (".manifest", manifest.into_bytes()),
                ])
            },
            read: read_bundle,
            few: 2000,
        },
        Growth {
            what: "bundle, files of a signature",
            bytes: |n| {
                let files = list(n, r#"{"name":"f#","hash":"00","algorithm":"SHA-256"}"#);
                let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
                let payload = part(&format!(r#"{{"keyid":"release","files":[{files}]}}"#));
                format!(r#"{{"signatures":["{}.{payload}.AAAA"]}}"#, part(r#"{"alg":"HS256"}"#)).into_bytes()
            },
            read: read_signature,
            few: 200,
        },
    ]
}

fn bundles() -> Vec<Growth> {
    vec![
        Growth {
            what: "bundle, packages and rules of a source",
            bytes: |n| {
                let rules = list(n, "package p#\nv contains {\"rule\": \"r#\"} if false\n");
                packed(&[
                    ("policy.wasm", MODULE.to_vec()),
                    ("data.json", b"{}".to_vec()),
                    ("p.rego", rules.replace(",package", "package").into_bytes()),
                ])
            },
            read: read_bundle,
            few: 400,
        },
        Growth {
            what: "bundle, data of a module that overlaps",
            bytes: |n| {
                let data = list(n, r#"(data (i32.const #) "aaaaaaaa")"#).replace(',', " ");
                packed(&[
                    ("policy.wasm", wat::parse_str(format!("(module (memory 1) {data})")).unwrap()),
                    ("data.json", br#"{"a":1}"#.to_vec()),
                ])
            },
            read: read_bundle,
            few: 1000,
        },
    ]
}

fn work(read: Reads, bytes: &[u8]) -> (AllocationInfo, bool) {
    let mut was_read = false;
    let info = measure(|| was_read = read(bytes));
    (info, was_read)
}

/// How long this thread has worked.
fn worked() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// How long a parser works on both inputs, where that grows faster than they do.
fn too_long(read: Reads, small: &[u8], large: &[u8]) -> Option<(Duration, Duration)> {
    let time = |bytes| {
        let before = worked();
        read(bytes);
        worked().saturating_sub(before)
    };
    let (mut less, mut more) = (Duration::MAX, Duration::MAX);
    for _ in 0..TRIES {
        (less, more) = (less.min(time(small)), more.min(time(large)));
        if more <= less.max(SHORTEST) * MOST_TIMES_AS_LONG {
            return None;
        }
    }
    Some((less, more))
}

#[test]
fn no_parser_s_work_grows_faster_than_its_bytes() {
    let mut wrong = Vec::new();
    let parsers = parsers();
    for (target, _) in targets::ALL {
        if !parsers.iter().any(|(parser, shapes)| *parser == target && !shapes.is_empty()) {
            wrong.push(format!("no input of growing size for `{target}`"));
        }
    }
    for Growth { what, bytes, read, few } in parsers.into_iter().flat_map(|(_, shapes)| shapes) {
        let (small, large) = (bytes(few), bytes(few * TIMES));
        // What is made once in a process is not of this input.
        work(read, &small);
        work(read, &large);
        let ((less, first), (more, second)) = (work(read, &small), work(read, &large));
        println!(
            "{what}: {} bytes allocated for {}, {} for {}",
            less.bytes_total,
            small.len(),
            more.bytes_total,
            large.len()
        );
        if !(first && second) {
            wrong.push(format!("{what}: not read ({first}, {second})"));
        }
        let bounds = [
            (more.bytes_total, less.bytes_total * MOST_TIMES, "bytes"),
            (more.count_total, less.count_total * MOST_TIMES, "allocations"),
            (more.bytes_total, MOST_PER_BYTE * large.len() as u64 + MOST_FIXED, "bytes for all of the input"),
        ];
        let over = bounds.iter().filter(|(took, most, _)| took > most);
        wrong.extend(over.map(|(took, most, of)| format!("{what}: {took} {of}, of at most {most}")));
        let slow = too_long(read, &small, &large);
        wrong.extend(
            slow.map(|(less, more)| {
                format!("{what}: {less:?} of work, and {more:?} for {TIMES} times as much")
            }),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `docs/operations.md` says under "Size" of a pod that is followed beside the others.
pub const OF_MOUNTS: u64 = 84 << 20;

/// Short paths that a link of the image leads to places as long as the steps of a mount allow.
#[test]
fn the_places_of_as_many_mounts_as_are_followed_take_a_bounded_amount_of_memory() {
    let paths: Vec<String> = (0..8_000).map(|number| format!("/l/{number}")).collect();
    let mounts: Vec<Mount<'_>> = paths.iter().map(|path| Mount::from(path.as_str())).collect();
    let written: Vec<Value> = paths.iter().map(|path| json!({"name": "v", "mountPath": path})).collect();
    let spec = json!({
        "containers": [{"name": "c", "image": "a", "volumeMounts": written}],
        "volumes": [{"name": "v", "configMap": {"name": "a"}}],
    });
    let pod = workload::read(&json!({"metadata": {}, "spec": spec}).to_string(), Kind::Pod, "shop").unwrap();
    let digest: Digest = DIGEST.parse().unwrap();
    let mut largest = 0;
    for length in [200, 600, 900, 1_000, 4_000] {
        let link = FileClass::Link { target: format!("/{}", "a".repeat(length)) };
        let module = ModuleFacts::blank("/app.wasm", WasmFormat::Module);
        let files = vec![("/l".to_string(), link)];
        let facts = ImageFacts { files, modules: vec![module], ..ImageFacts::blank(&digest, &digest) };
        let start = Start { mounts: &mounts, ..Start::default() };
        let program =
            Program::Wasm { kind: ImageKind::Module, packaging: Packaging::RootFilesystem, modules: vec![0] };
        let lookup = LookupResult::Known { facts: Arc::new(facts.clone()), program };
        let container =
            Container { role: Role::Container, index: 0, name: "c".into(), image: "a".into(), lookup };
        let seen = measure(|| drop(View::new(&facts, &start)));
        let handed = measure(|| drop(assess(&pod, &container, None)));
        largest = largest.max(seen.bytes_max).max(handed.bytes_max);
        println!("mounts that lead to {length} bytes: {} and {}", seen.bytes_max, handed.bytes_max);
    }
    assert!((OF_MOUNTS / 8..OF_MOUNTS).contains(&largest), "{largest}");
}

/// What is found of a pod with so many mounts of one volume, whose path grows as well.
fn of_mounts_of_one(count: usize) -> AllocationInfo {
    let mounts: Vec<Value> =
        (0..count).map(|number| json!({"name": "v", "mountPath": format!("/m{number}")})).collect();
    let path = format!("/{}", "a".repeat(100 * count));
    let spec = json!({
        "containers": [{"name": "c", "image": "a", "volumeMounts": mounts}],
        "volumes": [{"name": "v", "hostPath": {"path": path}}],
    });
    let pod = workload::read(&json!({"metadata": {}, "spec": spec}).to_string(), Kind::Pod, "shop").unwrap();
    let digest: Digest = DIGEST.parse().unwrap();
    let module = ModuleFacts::blank("/app.wasm", WasmFormat::Module);
    let facts = ImageFacts { modules: vec![module], ..ImageFacts::blank(&digest, &digest) };
    let program =
        Program::Wasm { kind: ImageKind::Module, packaging: Packaging::RootFilesystem, modules: vec![0] };
    let lookup = LookupResult::Known { facts: Arc::new(facts), program };
    let container =
        Container { role: Role::Container, index: 0, name: "c".into(), image: "a".into(), lookup };
    measure(|| drop(assess(&pod, &container, None)))
}

#[test]
fn the_source_of_a_volume_is_not_said_in_full_for_each_of_its_mounts() {
    let (small, large) = (of_mounts_of_one(60), of_mounts_of_one(60 * TIMES));
    println!("{} and {} bytes", small.bytes_total, large.bytes_total);
    assert!(large.bytes_total <= MOST_TIMES * small.bytes_total);
}

/// An image with a working directory of a megabyte, two hundred folders that are searched from there, and as many sources of files.
fn with_long_folder() -> ImageFacts {
    let sources: Vec<String> = (0..200).map(|number| format!("s{number}")).collect();
    let component = SpinComponent { files: sources.clone(), sources, ..component_of(0) };
    let digest: Digest = DIGEST.parse().unwrap();
    ImageFacts {
        working_dir: format!("/{}", "w".repeat(1 << 20)),
        search_path: Some(["bin"; 200].join(":")),
        entrypoint: vec!["app".into()],
        files: vec![("/app".to_string(), FileClass::Wasm)],
        scanned: true,
        shape: Shape::ScratchRootfs,
        spin: Some(app_of(vec![component])),
        modules: vec![ModuleFacts::blank("/app", WasmFormat::Module)],
        ..ImageFacts::blank(&digest, &digest)
    }
}

#[test]
fn a_long_working_directory_is_not_copied_for_each_folder_that_is_searched() {
    let facts = with_long_folder();
    let mut most = 0;
    for family in Family::DESCRIBED {
        let taken = measure(|| drop(family.start(&facts, &Start::default())));
        println!("{family:?}: {} bytes at a time, {} in all", taken.bytes_max, taken.bytes_total);
        most = most.max(taken.bytes_max);
    }
    assert!(most < 16 << 20, "{most}");
}

#[test]
fn a_long_working_directory_is_not_copied_for_each_source_of_an_application() {
    let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "c", "image": "a"}]}}).to_string();
    let pod = workload::read(&pod, Kind::Pod, "shop").unwrap();
    let program =
        Program::Wasm { kind: ImageKind::SpinApp, packaging: Packaging::RootFilesystem, modules: vec![0] };
    let lookup = LookupResult::Known { facts: Arc::new(with_long_folder()), program };
    let container =
        Container { role: Role::Container, index: 0, name: "c".into(), image: "a".into(), lookup };
    let spin = Runtimes::default().profiles.into_iter().find(|profile| profile.name == "spin").unwrap();
    let taken = measure(|| drop(assess(&pod, &container, Some(&spin))));
    assert!(taken.bytes_total < 64 << 20, "{}", taken.bytes_total);
}

/// Variables of a container, the application that the image holds, the image's own variables, and the aliases of the pod.
type Judged = (Value, SpinApp, Vec<String>, Value);

/// So many of each.
type Brought = fn(usize) -> Judged;

/// Of what an application, its image and its pod each bring many, so that one could be gone through for each of the other.
const JUDGED: [(&str, Brought); 5] = [
    ("hosts with templates, and variables of the image", |n| {
        let hosts = (0..n).map(|v| format!("https://{{{{ v{v} }}}}").into()).collect();
        (
            json!([]),
            app_of(vec![SpinComponent { allowed_outbound_hosts: hosts, ..component_of(0) }]),
            { (0..n).map(|v| format!("V{v}")).collect() },
            json!([]),
        )
    }),
    ("components, and names of those that are kept", |n| {
        let names = list(10 * n, "c#");
        let kept = json!([{"name": "SPIN_COMPONENTS_TO_RETAIN", "value": names}]);
        (kept, app_of((0..n).map(component_of).collect()), Vec::new(), json!([]))
    }),
    ("templates of a host, and the value of their variable", |n| {
        let host = "{{ v }}".repeat(n).into();
        let component = SpinComponent { allowed_outbound_hosts: vec![host], ..component_of(0) };
        (json!([{"name": "V", "value": "v".repeat(10 * n)}]), app_of(vec![component]), Vec::new(), json!([]))
    }),
    ("hosts, and aliases of the pod", |n| {
        let hosts = (0..n).map(|v| format!("https://*.h{v}.example").into()).collect();
        let component = SpinComponent { allowed_outbound_hosts: hosts, ..component_of(0) };
        let names: Vec<_> = (0..n).map(|v| format!("a.h{v}.example")).collect();
        let aliases = json!([{"ip": "10.0.0.1", "hostnames": names}]);
        (json!([]), app_of(vec![component]), Vec::new(), aliases)
    }),
    ("variables of an application, and variables of the pod", |n| {
        let variables = (0..n).map(|v| format!("v{v}")).collect();
        let env = (0..n).map(|v| json!({"name": format!("V{v}"), "value": "x"})).collect();
        (env, app_of(vec![SpinComponent { variables, ..component_of(0) }]), Vec::new(), json!([]))
    }),
];

fn component_of(number: usize) -> SpinComponent {
    SpinComponent { id: format!("c{number}"), ..SpinComponent::default() }
}

fn app_of(components: Vec<SpinComponent>) -> SpinApp {
    SpinApp { name: "shop".into(), triggers: ["http".to_string()].into(), components, ..SpinApp::default() }
}

/// What is judged of such a pod takes.
fn judged((env, app, of_image, aliases): Judged) -> AllocationInfo {
    let spec = json!({"containers": [{"name": "c", "image": "a", "env": env}], "hostAliases": aliases});
    let pod = workload::read(&json!({"metadata": {}, "spec": spec}).to_string(), Kind::Pod, "shop").unwrap();
    let digest: Digest = DIGEST.parse().unwrap();
    let module = ModuleFacts::blank("/app.wasm", WasmFormat::Component);
    let facts = ImageFacts {
        spin: Some(app),
        env: of_image,
        modules: vec![module],
        ..ImageFacts::blank(&digest, &digest)
    };
    let program =
        Program::Wasm { kind: ImageKind::SpinApp, packaging: Packaging::RootFilesystem, modules: vec![0] };
    let lookup = LookupResult::Known { facts: Arc::new(facts), program };
    let container =
        Container { role: Role::Container, index: 0, name: "c".into(), image: "a".into(), lookup };
    let spin = Runtimes::default().profiles.into_iter().find(|profile| profile.name == "spin").unwrap();
    measure(|| drop(assess(&pod, &container, Some(&spin))))
}

#[test]
fn what_an_application_asks_for_is_judged_in_proportion_to_what_its_image_and_its_pod_bring() {
    let mut slow = Vec::new();
    for (what, of) in JUDGED {
        let (small, large) = (judged(of(60)), judged(of(60 * TIMES)));
        println!("{what}: {} and {} bytes", small.bytes_total, large.bytes_total);
        if large.bytes_total > MOST_TIMES * small.bytes_total {
            slow.push(what);
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}

/// Aliases multiply what a short text stands for.
#[test]
fn aliases_of_yaml_do_not_multiply_the_work() {
    let bomb = |depth: usize| {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_string();
        for level in 1..=depth {
            let _ = writeln!(text, "a{level}: &a{level} [{}]", list(9, &format!("*a{}", level - 1)));
        }
        text
    };
    for depth in [3, 6, 9] {
        let text = bomb(depth);
        let (info, read) = work(read_grants, text.as_bytes());
        assert!(!read);
        assert!(
            info.bytes_total < 8 << 20,
            "{} bytes for a text of {} with aliases {depth} deep",
            info.bytes_total,
            text.len()
        );
    }
}

/// What is reserved for an object before it is parsed knows of a string only how long it is.
#[test]
fn json_in_a_string_of_an_object_takes_no_more_memory_than_the_string() {
    let many = list(10_000, r#"{"a":#}"#);
    let key = format!(r#"k:{{"x":[{many}],"name":"app"}}"#);
    let noted = format!(r#"{{"x":[{many}],"spec":{{"enableServiceLinks":true}}}}"#);
    let metadata = json!({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": noted}});
    let metadata = metadata.as_object().unwrap();
    let mut found = (None, false);
    let info =
        measure(|| found = (managed::name_in(&key), managed::is_applied(metadata, "enableServiceLinks")));
    assert_eq!(found, (Some("app".to_owned()), true));
    assert!(info.bytes_max <= key.len() as u64, "{}", info.bytes_max);
}

/// Of a masked value the strings alone are kept, to look for them in what rules said.
#[test]
fn a_masked_value_with_many_values_takes_no_more_memory_than_a_few_times_its_bytes() {
    let object = pod(&format!(r#","env":[{{"name":"A","value":[{}]}}]"#, list(10_000, r#"{"a":#}"#)), "", "");
    let raw: Box<RawValue> = serde_json::from_slice(&object).unwrap();
    let masks = Masks::default();
    let mut masked = String::new();
    let info = measure(|| masked = Masking::new(&masks).object(&raw, "/object"));
    assert!(masked.contains("**REDACTED**"), "{masked}");
    assert!(info.bytes_max < 8 * object.len() as u64, "{} of {}", info.bytes_max, object.len());
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    const LONG: usize = 2 << 20;
    let nines = "9".repeat(LONG).into_bytes();
    let parameters =
        format!(r#"Bearer realm="https://a.example/t",{}"#, list(LONG / 8, r#"p="v""#)).into_bytes();
    let records = with_records(record("SCHILY.xattr.user.a", &"v".repeat(LONG)).as_bytes());
    let cases: [(&str, Vec<u8>, Reads); 4] = [
        ("quantity", nines.clone(), |bytes| Quantity::parse(&String::from_utf8_lossy(bytes)).is_ok()),
        ("image name", nines, |bytes| Reference::parse(&String::from_utf8_lossy(bytes)).is_ok()),
        ("WWW-Authenticate", parameters, |bytes| foreign::challenge(bytes).is_some()),
        ("pax header", records, read_layer),
    ];
    for (what, bytes, read) in cases {
        let (info, was_read) = work(read, &bytes);
        assert!(!was_read, "{what}");
        let most = bytes.len() as u64 + MOST_FIXED;
        assert!(info.bytes_total <= most, "{what}: {} bytes, of at most one copy ({most})", info.bytes_total);
    }
}

/// That what is measured is the work: a parser that goes through everything before it, for every item, is found.
#[test]
fn work_that_grows_with_the_square_is_found() {
    let square = |bytes: &[u8]| {
        let mut seen: Vec<Vec<u8>> = Vec::new();
        bytes.chunks(10).for_each(|chunk| seen = seen.iter().cloned().chain([chunk.to_vec()]).collect());
        !seen.is_empty()
    };
    let ((less, _), (more, _)) = (work(square, &[0; 400]), work(square, &[0; 400 * TIMES]));
    assert!(more.bytes_total > less.bytes_total * MOST_TIMES);
}

/// The same of one that allocates nothing.
#[test]
fn time_that_grows_with_the_square_is_found() {
    fn zeros(bytes: &[u8]) -> usize {
        bytes.iter().filter(|byte| **black_box(byte) == 0).count()
    }
    let square: Reads = |bytes| bytes.iter().all(|_| zeros(bytes) > 0);
    assert!(too_long(square, &[0; 300], &[0; 300 * TIMES]).is_some());
    let linear: Reads = |bytes| (0..300).all(|_| zeros(bytes) > 0);
    assert_eq!(too_long(linear, &[0; 300], &[0; 300 * TIMES]), None);
}

#[test]
fn a_function_takes_steps_in_proportion_to_its_operands() {
    for Growth { what, bytes, few, .. } in functions() {
        let steps =
            |count| targets::steps(&bytes(count)).unwrap_or_else(|| panic!("{what}: it has no value"));
        let (less, more) = (steps(few), steps(few * TIMES));
        assert!(
            less > 0 && more <= less * MOST_TIMES,
            "{what}: {less} steps, and {more} for {TIMES} times as much"
        );
    }
}
