//! Words that this code has replaced with standard terms (`docs/glossary.md`), and the check that none comes back: into
//! names, messages, log fields, metric labels and HELP texts, rule ids, manifests or pages.

use std::collections::BTreeMap;
use std::path::Path;

use super::root;

/// A word in its retired forms, and what to write instead.
const RETIRED: &[(&[&str], &str)] = &[
    (&["road", "roads"], "webhook, or the way of a review"),
    (&["picture", "pictures"], "snapshot"),
    (&["door", "doors"], "entry point, or the field that it is"),
    (&["hazard", "hazards"], "warning"),
    (&["spared", "spares", "sparing"], "exempt"),
    (&["authority", "authorities"], "CA"),
    (&["gravest"], "strictest"),
    (
        &["room", "rooms", "corridor", "corridors"],
        "module, headroom or space: only ARCHITECTURE.md speaks so",
    ),
    (&["seat", "seats", "dish", "dishes"], "what it is: a container's sizes, its share of the pod"),
    (&["desk", "desks"], "what it is: a handler, a field"),
    (&["deeds", "rulebook", "rulebooks"], "what it is: a summary of code, a loaded bundle"),
    (&["stranger", "strangers"], "what it is: unused, undescribed"),
    (&["breath", "breaths", "hope", "hopes", "hoping", "hopeless"], "say it plainly"),
    (&["sit", "sits"], "be, stand, be written"),
    (&["lay", "lays", "laid"], "place, put, write; or say what is in columns"),
    (
        &["nobody", "whoever", "everybody", "somebody", "anybody"],
        "who it is: no client, no grant, the user who …",
    ),
];

/// The same for phrases.
const RETIRED_PHRASES: &[(&str, &str)] = &[
    ("will-fail-there", "capability-not-provided"),
    ("will_fail_there", "capability_not_provided"),
    ("config-lies", "config-mismatch"),
    ("config_lies", "config_mismatch"),
    ("namespace's level", "namespace's enforcement action"),
];

/// Names of other projects that contain such a word.
const FOREIGN: &[&str] = &[
    "use_authority_key_identifier_extension",
    // A field of Go's `crypto/x509.Certificate`.
    "AuthorityKeyId",
    "certificate-authority",
    "certificate authority",
    // A key of Spin's runtime configuration.
    "authority_host",
    // WASI's word for the host and port of a request.
    "incoming-request.authority",
    "outgoing-request.authority",
    "outgoing-request.set-authority",
    "request.get-authority",
    "request.set-authority",
    "set-authority: func(authority: ",
];

/// Folders and pages that are checked. `ARCHITECTURE.md` speaks of rooms, and the changelog lists what was renamed.
const CHECKED: &[&str] = &[
    "src",
    "docs",
    "policies",
    "manifests",
    "tests",
    "benches",
    "tools",
    "fuzz",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "Makefile",
    "Cargo.toml",
];

/// What is not: this list itself, bytes that a fuzzer made, and what other programs wrote.
const UNCHECKED: &[&str] = &["tests/architecture", "fuzz/corpus", "fuzz/artifacts"];
const WRITTEN_BY_TOOLS: &[&str] = &["target", "Cargo.lock", "go.sum", "coverage"];

/// The words of a text in lower case, each with its line: `MutatingRoad`, `mutating_road` and "mutating road" have two.
fn words(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().flat_map(|(line, text)| {
        let mut found: Vec<String> = vec![String::new()];
        let mut before = ' ';
        for c in text.chars() {
            if !c.is_ascii_alphabetic() || (c.is_ascii_uppercase() && before.is_ascii_lowercase()) {
                found.push(String::new());
            }
            if c.is_ascii_alphabetic()
                && let Some(word) = found.last_mut()
            {
                word.push(c.to_ascii_lowercase());
            }
            before = c;
        }
        found.into_iter().filter(|word| !word.is_empty()).map(move |word| (line + 1, word))
    })
}

/// The retired words of a text, as `line: word, write …`.
fn retired(text: &str) -> Vec<String> {
    let text = FOREIGN.iter().fold(text.to_string(), |text, name| text.replace(name, ""));
    let known: BTreeMap<&str, &str> =
        RETIRED.iter().flat_map(|(forms, instead)| forms.iter().map(|form| (*form, *instead))).collect();
    let single = words(&text).filter_map(|(line, word)| {
        known.get(word.as_str()).map(|instead| format!("{line}: `{word}`, write {instead}"))
    });
    let phrases = text.lines().enumerate().flat_map(|(line, text)| {
        let said = RETIRED_PHRASES.iter().filter(|(phrase, _)| text.contains(phrase));
        said.map(move |(phrase, instead)| format!("{}: `{phrase}`, write {instead}", line + 1))
            .collect::<Vec<_>>()
    });
    single.chain(phrases).collect()
}

/// Every text below a path; skips files that are not UTF-8.
fn texts(path: &Path, into: &mut Vec<(String, String)>) {
    let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    let by_tools = path.file_name().is_some_and(|last| WRITTEN_BY_TOOLS.iter().any(|tool| last == *tool));
    if by_tools || UNCHECKED.iter().any(|start| name.starts_with(start)) {
        return;
    }
    if path.is_dir() {
        let mut entries: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for entry in &entries {
            texts(entry, into);
        }
    } else if let Ok(text) = std::fs::read_to_string(path) {
        into.push((name, text));
    }
}

#[test]
fn no_retired_word_comes_back() {
    let mut all = Vec::new();
    for path in CHECKED {
        texts(&root().join(path), &mut all);
    }
    assert!(all.len() > 150, "the sources were not found: {} files", all.len());
    let mut wrong = Vec::new();
    for (name, text) in &all {
        wrong.extend(retired(name).into_iter().map(|word| format!("{name}: its name: {word}")));
        wrong.extend(retired(text).into_iter().map(|word| format!("{name}:{word}")));
    }
    assert!(wrong.is_empty(), "{} retired words:\n{}", wrong.len(), wrong.join("\n"));
}

/// "`src/policy.rs` (`Violation`)": the file and the type, without a field of it.
fn types_named(place: &str) -> Vec<(&str, &str)> {
    fn named<'a>(window: &[&'a str]) -> Option<(&'a str, &'a str)> {
        match window {
            [file, " (", name] => Some((*file, name.split("::").next().unwrap_or(name))),
            _ => None,
        }
    }
    let pieces: Vec<&str> = place.split('`').collect();
    pieces.windows(3).skip(1).step_by(2).filter_map(named).collect()
}

/// Whether a source declares this type or trait.
fn declares(source: &str, name: &str) -> bool {
    let tokens = super::tokens(source);
    (1..tokens.len()).any(|at| {
        super::word_at(&tokens, at) == Some(name)
            && matches!(super::word_at(&tokens, at - 1), Some("struct" | "enum" | "trait" | "type"))
    })
}

#[test]
fn a_type_of_the_glossary_is_looked_for_in_its_file() {
    let place = "`src/a.rs` (`A`), `src/b.rs`, `src/c.rs` (`C::field`)";
    assert_eq!(types_named(place), [("src/a.rs", "A"), ("src/c.rs", "C")]);
    assert!(declares("pub struct A;", "A") && !declares("use b::A; // struct A", "A"));
}

#[test]
fn the_glossary_names_files_that_exist() {
    let page = std::fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!((30..=50).contains(&rows.len()), "{} entries", rows.len());
    for row in rows {
        let place = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let paths: Vec<&str> = place.split('`').filter(|part| part.contains('/')).collect();
        assert!(!paths.is_empty(), "no file in `{row}`");
        for path in &paths {
            assert!(root().join(path).is_file(), "`{path}` of the glossary is not there");
        }
        for (file, name) in types_named(place) {
            let source = std::fs::read_to_string(root().join(file)).unwrap();
            assert!(declares(&source, name), "{file} of the glossary does not declare `{name}`");
        }
    }
}

#[test]
fn a_retired_word_is_found_in_every_spelling_and_not_inside_another_word() {
    for bad in [
        "pub enum Road {",
        "fn mutating_road() {}",
        "struct MutatingRoad;",
        "const ROADS: usize = 2;",
        "road=\"validate\"",
        "/// The mutating\n/// road never refuses.",
        "[will-fail-there] container `app`",
        "ensure the namespace's level is set",
    ] {
        assert_eq!(retired(bad).len(), 1, "{bad}: {:?}", retired(bad));
    }
    for good in [
        "broadcast, roadmap, outdoor and indoors",
        "params.use_authority_key_identifier_extension = true;",
        "authoritative answers; a transparent proxy; a sparse file",
        "certificate-authority: ca.crt",
        "a website, a mushroom, a situation, hopefully breathing",
    ] {
        assert_eq!(retired(good), Vec::<String>::new(), "{good}");
    }
    assert_eq!(retired("a\nthe road"), ["2: `road`, write webhook, or the way of a review"]);
}
