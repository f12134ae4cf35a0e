//! Reads grants from YAML and JSON files of a directory, several documents each.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::check::{self, Read};
use super::error::{Error, Problem, Problems};
use super::exception::Exceptions;
use super::index::Grants;
use super::types::{WasiException, WasiGrant};
use crate::files;

/// Largest file that is read, in bytes: an etcd object has 1.5 MiB at most, and a file may hold several.
const FILE_LIMIT: u64 = 16 << 20;

/// Nodes that a text may have in addition to one per byte: empty values and documents that are only implied.
const ALWAYS_READ: usize = 1024;

/// The content of a directory of grants, indexed.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// `WasiGrant`s and `ClusterWasiGrant`s.
    pub grants: Grants,
    /// `WasiException`s.
    pub exceptions: Exceptions,
}

/// The content of a text, in its order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Documents {
    /// `WasiGrant`s and `ClusterWasiGrant`s.
    pub grants: Vec<WasiGrant>,
    /// `WasiException`s.
    pub exceptions: Vec<WasiException>,
}

impl Documents {
    fn of(all: Vec<Located>) -> Self {
        let mut documents = Self::default();
        for located in all {
            match located.object {
                Checked::Grant(grant) => documents.grants.push(Arc::unwrap_or_clone(grant)),
                Checked::Exception(exception) => {
                    documents.exceptions.push(Arc::unwrap_or_clone(exception));
                }
            }
        }
        documents
    }
}

/// One object, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Checked {
    /// A `WasiGrant` or `ClusterWasiGrant`.
    Grant(Arc<WasiGrant>),
    /// A `WasiException`.
    Exception(Arc<WasiException>),
}

impl Checked {
    /// Kind, namespace and name. No two objects have the same.
    pub fn identity(&self) -> String {
        match self {
            Self::Grant(grant) => grant.identity(),
            Self::Exception(exception) => exception.identity(),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Grant(grant) => grant.name(),
            Self::Exception(exception) => exception.name(),
        }
    }
}

/// One object, checked, and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// The file and the document in it.
    pub origin: String,
    /// The object.
    pub object: Checked,
}

/// The place of every object so far, so that the problem of one that is given twice names both.
#[derive(Debug, Clone, Default)]
pub struct Places(BTreeMap<String, String>);

impl Places {
    /// Remembers the place of an object. A problem if it was given before.
    pub fn add(&mut self, located: &Located) -> Option<Problem> {
        let identity = located.object.identity();
        let message = |first: &String| {
            format!("`{identity}` is given twice: here and in {first}; rename one or remove it")
        };
        let message = self.0.get(&identity).map(message);
        self.0.entry(identity).or_insert_with(|| located.origin.clone());
        message.map(|message| Problem {
            origin: located.origin.clone(),
            field: "metadata.name".into(),
            value: Some(located.object.name().to_string()),
            message,
        })
    }
}

/// Reads and checks one object that did not come from a file. `origin` names it in messages.
pub fn read_object(document: Value, origin: &str) -> Result<Checked, Problems> {
    check::read(document, origin).map(|read| match read {
        Read::Grant(grant) => Checked::Grant(Arc::new(*grant)),
        Read::Exception(exception) => Checked::Exception(Arc::new(*exception)),
    })
}

/// Reads a directory as [`read_dir`] does, and indexes what is in it.
pub fn load_dir(dir: &Path) -> Result<Loaded, Error> {
    let all = Documents::of(read_dir(dir)?);
    Ok(Loaded { grants: Grants::new(all.grants)?, exceptions: Exceptions::new(all.exceptions)? })
}

/// Reads every `.yaml`, `.yml` and `.json` file of a directory, several documents each, ordered by name. Skips
/// sub-directories and names that start with a dot: a mounted ConfigMap keeps its old versions there. No object is there
/// twice.
pub fn read_dir(dir: &Path) -> Result<Vec<Located>, Error> {
    let (all, errors) = read_dir_in_part(dir)?;
    let mut problems = Problems::default();
    for error in errors {
        match error {
            Error::CheckGrants { problems: more } => problems.0.extend(more.0),
            other => return Err(other),
        }
    }
    accepted(all, problems)
}

/// Like [`read_dir`], for a report: the objects that are right, and everything that is wrong.
pub fn read_dir_in_part(dir: &Path) -> Result<(Vec<Located>, Vec<Error>), Error> {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for file in grant_files(dir)? {
        let text = read_file(&file);
        match text.and_then(|text| read_documents(&text, &file.display().to_string())) {
            Ok((read, problems)) => {
                all.extend(read);
                errors.extend(accepted((), problems).err());
            }
            Err(error) => errors.push(error),
        }
    }
    let mut places = Places::default();
    let twice = Problems(all.iter().filter_map(|located| places.add(located)).collect());
    errors.extend(accepted((), twice).err());
    Ok((all, errors))
}

/// The content, unless there are problems.
fn accepted<T>(content: T, problems: Problems) -> Result<T, Error> {
    if problems.0.is_empty() { Ok(content) } else { Err(Error::CheckGrants { problems }) }
}

fn grant_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::ListDirectory { directory: dir.display().to_string(), source };
    let (mut files, mut ignored) = (Vec::new(), None);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        let wanted = matches!(extension.as_deref(), Some("yaml" | "yml" | "json"));
        if hidden || path.is_dir() {
            continue;
        }
        if wanted {
            files.push(path);
        } else {
            ignored = path.file_name().map(|name| name.to_string_lossy().into_owned());
        }
    }
    if let Some(ignored) = ignored.filter(|_| files.is_empty()) {
        tracing::warn!(
            directory = %dir.display(),
            file = ignored,
            "no grants were loaded: none of the files ends in .yaml, .yml or .json"
        );
    }
    files.sort();
    Ok(files)
}

fn read_file(file: &Path) -> Result<String, Error> {
    let name = || file.display().to_string();
    files::read_text(file, FILE_LIMIT).map_err(|source| match source.kind() {
        ErrorKind::FileTooLarge => Error::LimitFile { file: name(), limit: FILE_LIMIT },
        _ => Error::ReadFile { file: name(), source },
    })
}

/// The grants of a text; see [`parse`].
pub fn parse_documents(text: &str, origin: &str) -> Result<Vec<WasiGrant>, Error> {
    Ok(parse(text, origin)?.grants)
}

/// Reads and checks the documents of a text; skips empty ones. `origin` names the text in messages.
pub fn parse(text: &str, origin: &str) -> Result<Documents, Error> {
    let (read, problems) = read_documents(text, origin)?;
    accepted(Documents::of(read), problems)
}

/// The objects of a text that are right, and the problems of the others.
fn read_documents(text: &str, origin: &str) -> Result<(Vec<Located>, Problems), Error> {
    // YAML 1.2 booleans: a variable named `NO` or `y` is a name. The parser's snippet would spread the file over
    // several lines of a log. The length of the text bounds its documents, nodes and events, since each takes a byte;
    // the parser's own limits still bound what aliases repeat.
    let most = text.len().saturating_add(ALWAYS_READ);
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_documents: most, max_nodes: most, max_events: most.saturating_mul(3) },
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|e| Error::ParseDocuments { origin: origin.to_string(), message: e.to_string() })?;
    let (mut read, mut problems) = (Vec::new(), Problems::default());
    for (index, document) in documents.into_iter().enumerate() {
        let origin = format!("{origin} document {}", index + 1);
        match read_object(document, &origin) {
            Ok(object) => read.push(Located { origin, object }),
            Err(more) => problems.0.extend(more.0),
        }
    }
    Ok((read, problems))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Access, Capability};

    /// The example of the documentation, which people copy.
    const EXAMPLE: &str = "\
apiVersion: wasmgate.dev/v1alpha1
kind: WasiGrant
metadata: { name: orders-api, namespace: shop, labels: { team: orders } }
spec:
  subjects: { serviceAccounts: [orders], images: [\"ghcr.io/myorg/orders*\"], podSelector: {} }
  capabilities:
    - name: http.outbound
      hosts: [\"https://payments.example.com\"]
    - name: fs
      paths: [/data]
      access: read-only
    - name: env
      names: [\"ORDERS_*\"]
  expiresAt: 2027-03-31T00:00:00Z
";

    #[test]
    fn the_example_of_the_documentation_is_read() {
        let grants = parse_documents(EXAMPLE, "example.yaml").unwrap();
        let [grant] = grants.as_slice() else { panic!("{grants:?}") };
        assert_eq!((grant.label().as_str(), grant.namespace()), ("WasiGrant/orders-api", Some("shop")));
        assert_eq!(grant.spec.capabilities[1].access, Some(Access::ReadOnly));
        assert_eq!(grant.spec.capabilities[2].name, Capability::Env);
        assert_eq!(grant.spec.expires_at, Some("2027-03-31T00:00:00Z".parse().unwrap()));
    }

    /// The message for a grant of namespace `shop` with this spec.
    fn refusal(spec: &str) -> String {
        let text = format!(
            "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: {{ name: g, namespace: shop }}\nspec: {spec}\n"
        );
        parse_documents(&text, "g.yaml").expect_err(spec).to_string()
    }

    #[test]
    fn problems_are_refused_with_place_value_and_fix() {
        let item = |item: &str| format!("{{ capabilities: [{{ {item} }}] }}");
        for (spec, field, message) in [
            (item("name: http.outbond"), "spec.capabilities[0].name", "unknown capability `http.outbond`"),
            (item("name: http.outbond"), "spec.capabilities[0].name", "did you mean `http.outbound`?"),
            (item("name: filesystem"), "spec.capabilities[0].name", "expected one of stdio, clock"),
            (item("name: env, name_s: [A]"), "spec.capabilities[0].name_s", "did you mean `names`?"),
            (item("name: env, names: A"), "spec.capabilities[0].names", "`A` is not a list"),
            (item("name: env, names: []"), "spec.capabilities[0].names", "leave the field out to grant any"),
            (item("name: env, names: ['']"), "spec.capabilities[0].names[0]", "empty; write a name"),
            (item("name: env, names: [1]"), "spec.capabilities[0].names[0]", "`1` is not a text"),
            (item("name: env, secrets: yes"), "spec.capabilities[0].secrets", "is not true or false"),
            (item("hosts: ['*://*:*']"), "spec.capabilities[0].name", "missing; write the name of a capability"),
            (item("name: http.outbound, hosts: [example.com]"), "spec.capabilities[0].hosts[0]", "write scheme://host"),
            (item("name: db.redis, hosts: ['redis://a', 'tcp://b']"), "spec.capabilities[0].hosts[1]", "default port"),
            (item("name: fs, hosts: ['*://*:*']"), "spec.capabilities[0].hosts", "says nothing about `fs`; it takes paths"),
            (item("name: clock, names: [a]"), "spec.capabilities[0].names", "it takes no parameters"),
            (item("name: fs, paths: [data]"), "spec.capabilities[0].paths[0]", "`data` is not absolute"),
            (item("name: fs, paths: [/a/../b]"), "spec.capabilities[0].paths[0]", "has a `.` or `..`"),
            (item("name: fs, paths: ['/data/*']"), "spec.capabilities[0].paths[0]", "covers the whole tree"),
            (item("name: fs, access: write"), "spec.capabilities[0].access", "write read-only or read-write"),
            (item("name: http.inbound, ports: [0]"), "spec.capabilities[0].ports[0]", "1 to 65535"),
            (item("name: http.inbound, ports: [70000]"), "spec.capabilities[0].ports[0]", "1 to 65535"),
            ("{ capabilities: [] }".into(), "spec.capabilities", "nothing is granted"),
            ("{}".into(), "spec.capabilities", "missing"),
            ("[]".into(), "spec", "is not an object"),
            ("{ capabilities: [{ name: env }], expiresAt: tomorrow }".into(), "spec.expiresAt", "RFC 3339"),
            ("{ capabilities: [{ name: env }], expires: x }".into(), "spec.expires", "did you mean `expiresAt`?"),
            ("{ capabilities: [{ name: env }], namespaceSelector: {} }".into(), "spec.namespaceSelector", "ClusterWasiGrant"),
            ("{ capabilities: [{ name: env }], subjects: { serviceAccount: x } }".into(), "spec.subjects.serviceAccount", "did you mean `serviceAccounts`?"),
            (
                "{ capabilities: [{ name: env }], subjects: { podSelector: { matchExpressions: [{ key: a, operator: Is }] } } }".into(),
                "spec.subjects.podSelector.matchExpressions[0].operator",
                "`Is` is not known; write In or NotIn",
            ),
            (
                "{ capabilities: [{ name: env }], subjects: { podSelector: { matchExpressions: [{ key: a, operator: In }] } } }".into(),
                "spec.subjects.podSelector.matchExpressions[0].values",
                "needs at least one value",
            ),
            (
                "{ capabilities: [{ name: env }], subjects: { podSelector: { matchLabels: { a: 1 } } } }".into(),
                "spec.subjects.podSelector.matchLabels.a",
                "`1` is not a text",
            ),
        ] {
            let refused = refusal(&spec);
            assert!(refused.contains(&format!("g.yaml document 1, {field}: ")), "{spec}: {refused}");
            assert!(refused.contains(message), "{spec}: {refused}");
        }
    }

    #[test]
    fn a_problem_has_the_single_value_of_its_field() {
        let text = EXAMPLE
            .replace("http.outbound", "http.outbond")
            .replace("names: [\"ORDERS_*\"]", "names: [7]")
            .replace("access:", "acces:");
        let Err(Error::CheckGrants { problems }) = parse_documents(&text, "g.yaml") else { panic!() };
        let parts = problems.0.iter().map(|p| (p.field.as_str(), p.value.as_deref()));
        assert_eq!(
            parts.collect::<Vec<_>>(),
            [
                ("spec.capabilities[0].name", Some("http.outbond")),
                ("spec.capabilities[1].acces", Some("read-only")),
                ("spec.capabilities[2].names[0]", Some("7")),
            ]
        );
    }

    /// The fields of the problems of a grant with this spec.
    fn wrong_fields(spec: &str) -> Vec<String> {
        let text = format!(
            "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: {{ name: g, namespace: shop }}\nspec: {spec}\n"
        );
        let Err(Error::CheckGrants { problems }) = parse(&text, "g.yaml") else { panic!("{spec}") };
        problems.0.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn a_wrong_shape_hides_no_wrong_value_and_makes_none() {
        let of = |item: &str| wrong_fields(&format!("{{ capabilities: [{{ {item} }}] }}"));
        assert_eq!(
            of("name: http.outbond, hosts: ['http://a:80'], paths: [a, 7], ports: []"),
            ["spec.capabilities[0].name", "spec.capabilities[0].paths[1]", "spec.capabilities[0].paths[0]"],
            "which parameters an unknown capability takes is not known"
        );
        assert_eq!(
            wrong_fields(
                "{ subjects: { images: ['a b'], serviceAccounts: [1], \
                 podSelector: { matchExpressions: [{ key: '', operator: Is, values: [] }] } }, \
                 capabilities: [{ name: fs, paths: [x] }, { name: http.outbound, ports: [1] }], expiresAt: soon, extra: 1 }"
            ),
            [
                "spec.expiresAt",
                "spec.extra",
                "spec.subjects.podSelector.matchExpressions[0].operator",
                "spec.subjects.serviceAccounts[0]",
                "spec.subjects.images[0]",
                "spec.subjects.podSelector.matchExpressions[0].key",
                "spec.capabilities[0].paths[0]",
                "spec.capabilities[1].ports",
            ]
        );
        assert_eq!(of("name: env, names: [a], access: 1"), ["spec.capabilities[0].access"], "once");
    }

    const CLUSTER: &str = "apiVersion: wasmgate.dev/v1alpha1\nkind: ClusterWasiGrant\n";

    #[test]
    fn kind_version_name_and_namespace_are_checked() {
        let refusal = |head: &str| {
            let text =
                format!("{head}\nspec: {{ capabilities: [{{ name: env }}], namespaceSelector: {{}} }}\n");
            parse_documents(&text, "g.yaml").map_err(|e| e.to_string())
        };
        assert!(refusal(&format!("{CLUSTER}metadata: {{ name: g }}")).is_ok());
        for (head, message) in [
            (format!("{CLUSTER}metadata: {{ name: g, namespace: shop }}"), "has no namespace, but `shop`"),
            (format!("{CLUSTER}metadata: {{}}"), "metadata.name: missing"),
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: g }".into(),
                "kind: `ConfigMap` is not known",
            ),
            (
                "apiVersion: wasmgate.dev/v1\nkind: WasiGrant\nmetadata: { name: g, namespace: n }".into(),
                "apiVersion: `wasmgate.dev/v1`",
            ),
            (
                "apiVersion: wasmgate.dev/v1alpha1\nkind: WasiGrant\nmetadata: { name: g }".into(),
                "metadata.namespace: missing",
            ),
        ] {
            let refused = refusal(&head).unwrap_err();
            assert!(refused.contains(message), "{refused}");
        }
        let text = format!("{CLUSTER}metadata: {{ name: g }}\nspec: {{ capabilities: [{{ name: env }}] }}");
        let refused = parse_documents(&text, "g.yaml").unwrap_err().to_string();
        assert!(refused.contains("spec.namespaceSelector: missing"), "{refused}");
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let text =
            format!("{EXAMPLE}---\n{}---\n{EXAMPLE}", EXAMPLE.replace("/data", "data").replace("env", "enw"));
        let refused = parse_documents(&text, "g.yaml").unwrap_err().to_string();
        assert!(refused.contains("g.yaml document 2, spec.capabilities[2].name"), "{refused}");
        assert!(refused.contains("g.yaml document 2, spec.capabilities[1].paths[0]"), "{refused}");
        let many = format!("{{ capabilities: [{}] }}", "{ name: x },".repeat(30));
        assert!(refusal(&many).contains("and 10 more"));
    }

    #[test]
    fn empty_documents_and_null_fields_count_as_absent() {
        let text =
            format!("# a comment\n---\n---\n{}---\n", EXAMPLE.replace("podSelector: {}", "podSelector: "));
        assert_eq!(parse_documents(&text, "g.yaml").unwrap().len(), 1);
        assert_eq!(parse_documents("", "g.yaml").unwrap().len(), 0);
    }

    #[test]
    fn a_file_of_more_than_a_thousand_documents_is_read() {
        let named = |n| EXAMPLE.replace("orders-api", &format!("orders-{n}"));
        let text = (0..1500).map(named).collect::<Vec<_>>().join("---\n");
        assert_eq!(parse_documents(&text, "g.yaml").unwrap().len(), 1500);
    }

    #[test]
    fn aliases_do_not_inflate_a_small_file() {
        let line = |n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
        let lines = (1..40).map(line).collect::<Vec<_>>().concat();
        let refused = parse_documents(&format!("a0: &a0 [x]\n{lines}"), "g.yaml").unwrap_err();
        assert!(matches!(refused, Error::ParseDocuments { .. }), "{refused}");
    }

    #[test]
    fn a_grant_is_serialised_as_it_was_written() {
        let text = EXAMPLE.replace("https://payments.example.com", "HTTPS://Payments.Example.com:443/");
        let grants = parse_documents(&text, "g.yaml").unwrap();
        let written = serde_json::to_value(&grants[0]).unwrap();
        assert_eq!(written["spec"]["capabilities"][0]["hosts"][0], "HTTPS://Payments.Example.com:443/");
        let again: WasiGrant = serde_json::from_value(written).unwrap();
        assert_eq!(again, grants[0]);
    }

    #[test]
    fn names_that_old_yaml_took_for_booleans_are_names() {
        let text = EXAMPLE.replace("\"ORDERS_*\"", "NO, y, off");
        let grants = parse_documents(&text, "g.yaml").unwrap();
        assert_eq!(grants[0].spec.capabilities[2].names.as_deref().unwrap(), ["NO", "y", "off"]);
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_line() {
        for text in ["a: [", "a: 1\na: 2", "- : :\n  - ]", "\u{0}", "&a [*a]", "plain"] {
            let refused = parse_documents(text, "g.yaml").unwrap_err().to_string();
            assert!(refused.contains("g.yaml"), "{refused}");
        }
    }

    #[test]
    fn a_directory_is_read_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            "b.yml",
            &format!("{}---\n{}", EXAMPLE.replace("orders-api", "one"), EXAMPLE.replace("orders-api", "two")),
        );
        let json: Value = serde_saphyr::from_str(EXAMPLE).unwrap();
        write("a.json", &json.to_string());
        write("README.md", "not: [a grant");
        write(".hidden.yaml", "not: [a grant");
        fs::create_dir(dir.path().join("..data.yaml")).unwrap();
        fs::create_dir(dir.path().join("sub.yaml")).unwrap();
        let grants = load_dir(dir.path()).unwrap().grants;
        let names: Vec<String> = grants.iter().map(|grant| grant.name().to_string()).collect();
        assert_eq!(names, ["one", "orders-api", "two"]);

        write("c.yaml", &EXAMPLE.replace("orders-api", "two"));
        let twice = load_dir(dir.path()).unwrap_err().to_string();
        let place = |name: &str| dir.path().join(name).display().to_string();
        let expected = format!(
            "{} document 1, metadata.name: `WasiGrant shop/two` is given twice: here and in {} document 2",
            place("c.yaml"),
            place("b.yml")
        );
        assert!(twice.contains(&expected), "{twice}");
        write("c.yaml", "kind: [");
        assert!(load_dir(dir.path()).unwrap_err().to_string().contains("c.yaml"));
        fs::remove_file(dir.path().join("c.yaml")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("c.yaml")).unwrap();
        let endless = load_dir(dir.path()).unwrap_err().to_string();
        assert!(endless.contains("it is not a regular file"), "{endless}");
        let gone = load_dir(&dir.path().join("gone")).unwrap_err().to_string();
        assert!(gone.starts_with("could not list the grants directory"), "{gone}");
    }

    proptest::proptest! {
        #[test]
        fn reading_any_text_does_not_panic(text in proptest::prelude::any::<String>()) {
            let _ = parse_documents(&text, "any");
            let _ = parse_documents(&format!("{EXAMPLE}{text}"), "any");
        }
    }
}
