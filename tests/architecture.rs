//! Holds the code to `ARCHITECTURE.md`: which room may use which, how long functions and files may be, where `anyhow`
//! is allowed, and which libraries are banned. Reads the sources as text, so it needs neither a compiler nor the crate.
//! The checker itself is tested on code that breaks each rule.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of a test say what they expect by unwrapping it, like the tests themselves"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[path = "architecture/retired_words.rs"]
mod retired_words;
#[path = "architecture/sleeps.rs"]
mod sleeps;

/// A room, the rooms that it may use, and why it uses them.
struct Room {
    name: &'static str,
    may_use: &'static [&'static str],
    because: &'static str,
}

const fn room(name: &'static str, may_use: &'static [&'static str], because: &'static str) -> Room {
    Room { name, may_use, because }
}

/// The arrows. Every room comes after those that it may use, so the table cannot contain a circle.
const ROOMS: &[Room] = &[
    room(
        "files",
        &[],
        "a file is read within a bound and replaced whole in one way, whatever it holds, and so it is told that one was",
    ),
    room("text", &[], "foreign text is made harmless in one way, in whatever room it is shown"),
    room(
        "shares",
        &[],
        "whatever is scarce is shared in one way: among namespaces, and the threads that answer with other work",
    ),
    room("review", &["text"], "the first step: it knows only the API server's envelope"),
    room(
        "workload",
        &["review", "text"],
        "a pod spec is found by the kind that the review names, or by a pointer, which are read in one way",
    ),
    room("image", &["text"], "facts about an image do not depend on the caller, and are cached by digest"),
    room(
        "registry",
        &["image", "files", "text"],
        "brings the bytes that `image` asks for, over the network or from a layout on disk",
    ),
    room(
        "lookup",
        &["image", "registry", "files", "shares", "text"],
        "remembers facts by digest, and lets one look-up serve every review",
    ),
    room(
        "inspection",
        &["workload", "image", "lookup"],
        "joins the images of a pod spec with the facts about them, or with why the look-up has none",
    ),
    room("quantity", &["text"], "amounts of memory and CPU are the same for a profile, a plan and a rule"),
    room(
        "runtime",
        &["image", "quantity", "text"],
        "what each runtime starts from an image follows from the facts about it, and a profile says the size",
    ),
    room(
        "usage",
        &["image", "quantity"],
        "what an image has used is counted by its digest, and ends in amounts for the plan",
    ),
    room(
        "cluster",
        &["quantity", "runtime", "usage", "files", "text"],
        "what the cluster has and allows, read from its manifests, and which profile that means",
    ),
    room(
        "plan",
        &["workload", "inspection", "image", "quantity", "runtime", "usage", "cluster", "text"],
        "edits follow from facts, never from a verdict; tokens of pointers are read in one way",
    ),
    room(
        "capability",
        &["workload", "inspection", "image", "runtime", "text"],
        "what code can call and what its runtime hands it",
    ),
    room(
        "grant",
        &["image", "capability", "files", "text"],
        "a grant is compared with capabilities, wherever those came from, and with the ways to write an image name",
    ),
    room(
        "watch",
        &["registry", "usage", "cluster", "grant", "shares", "text"],
        "keeps a snapshot of the cluster up to date; who uses the snapshot is none of its business",
    ),
    room(
        "rego",
        &["text"],
        "what a built-in function of Rego says is the same for every engine; tokens of pointers are read in one way",
    ),
    room("policy", &["files", "rego", "shares", "text"], "runs Rego on JSON and knows nothing of pods"),
    room(
        "client",
        &["registry", "files", "text"],
        "a server of the platform's own is reached in one way, whatever it is for",
    ),
    room(
        "sources",
        &["image", "registry", "client", "policy", "files", "text"],
        "brings bundles from where they are kept up to date, which may be a registry, and hands them over compiled",
    ),
    room(
        "judge",
        &[
            "review",
            "workload",
            "image",
            "inspection",
            "quantity",
            "runtime",
            "cluster",
            "plan",
            "capability",
            "grant",
            "policy",
            "text",
        ],
        "writes what Rego sees, from every fact there is; of the plan only the floor and the caps of a size, the name of a \
         pinned image, and what it may take away",
    ),
    room(
        "answer",
        &["review", "workload", "inspection", "plan", "policy", "judge", "text"],
        "words for what was found, changed and refused, which foreign names are part of",
    ),
    room(
        "audit",
        &["review", "policy", "judge", "answer", "client", "text"],
        "a record holds what was asked, what the rules found, which exception each finding is exempt by, and how it ended; \
         its options say how the collector is reached",
    ),
    room(
        "otlp",
        &["client", "text"],
        "writes what OpenTelemetry's collector reads, and sends spans; of a review it knows names and times",
    ),
    room(
        "upload",
        &["client", "audit", "otlp", "text"],
        "sends what the log writes; of a record it knows the line, and of a line that it is JSON",
    ),
    room("access", &["text"], "asks the API server who may read; what is read is none of its business"),
    room("certs", &["files"], "makes key pairs; knows nothing of what they protect"),
    room(
        "register",
        &["audit", "certs", "files", "text"],
        "writes what the gate leaves in a cluster; of a review it knows the record",
    ),
    room(
        "server",
        &["review", "certs", "otlp", "files", "shares", "text"],
        "serves a trait over TLS; of a review it knows the envelope, for what it refuses by itself",
    ),
    room(
        "admission",
        &[
            "quantity",
            "review",
            "workload",
            "image",
            "registry",
            "lookup",
            "inspection",
            "runtime",
            "cluster",
            "plan",
            "grant",
            "policy",
            "capability",
            "judge",
            "answer",
            "audit",
            "otlp",
            "shares",
            "text",
        ],
        "the corridor: the only room that knows the order of the others",
    ),
    room(
        "scan",
        &[
            "review",
            "workload",
            "image",
            "lookup",
            "inspection",
            "runtime",
            "capability",
            "grant",
            "watch",
            "policy",
            "judge",
            "audit",
            "admission",
            "shares",
            "text",
        ],
        "judges what exists by the examination of `admission`, for a command and for the reports in a cluster",
    ),
    room(
        "reports",
        &[
            "review",
            "workload",
            "lookup",
            "inspection",
            "runtime",
            "cluster",
            "capability",
            "grant",
            "watch",
            "policy",
            "judge",
            "audit",
            "register",
            "admission",
            "scan",
            "shares",
            "text",
        ],
        "writes what `scan` finds into the cluster; of the gate it knows what it goes by now, and on what each verdict depends",
    ),
    room(
        "learn",
        &["image", "quantity", "usage", "watch", "audit", "register", "admission", "shares", "text"],
        "reads what containers use and writes what follows; of the gate it knows which classes are Wasm runtimes",
    ),
    room(
        "config",
        &[
            "review", "workload", "image", "lookup", "runtime", "sources", "judge", "audit", "otlp", "certs",
            "register", "reports", "learn", "quantity", "files", "text",
        ],
        "composes the settings that the rooms define and checks their quantities; no room reads it",
    ),
    room(
        "cli",
        &[
            "access",
            "quantity",
            "review",
            "workload",
            "image",
            "lookup",
            "inspection",
            "runtime",
            "cluster",
            "capability",
            "grant",
            "watch",
            "files",
            "rego",
            "policy",
            "sources",
            "otlp",
            "upload",
            "judge",
            "audit",
            "certs",
            "register",
            "config",
            "admission",
            "scan",
            "reports",
            "learn",
            "server",
            "shares",
            "text",
        ],
        "puts the parts together",
    ),
    room("main", &["cli", "text"], "parses nothing and decides nothing: it runs the command line"),
];

/// Crates that must never be dependencies, and why. `deny.toml` bans the same.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "C code on the handshake of an admission webhook; rustls with ring does it"),
    ("openssl-sys", "needs OpenSSL's headers where the gate is built and its library where it runs"),
    ("native-tls", "brings OpenSSL in on Linux"),
    (
        "aws-lc-rs",
        "a second crypto provider: rustls then panics unless one is chosen, and the build needs cmake",
    ),
    ("aws-lc-sys", "the C code below aws-lc-rs"),
];

/// Files in which `anyhow` is allowed, and why: everywhere else an error belongs to a room.
const ANYHOW: &[(&str, &str)] = &[("main.rs", "prints the chain of errors at the end of the process")];

/// Most lines of a function, including its signature and closing brace.
const LONGEST_FUNCTION: usize = 60;

/// Most lines of a file without its tests.
const LONGEST_FILE: usize = 500;

// === Reading Rust: tokens, without comments and literals ===

#[derive(Debug, Clone, PartialEq)]
enum Text {
    Word(String),
    Sign(char),
}

#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: Text,
    line: usize,
}

struct Lexer {
    source: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { source: source.chars().collect(), at: 0, line: 1, tokens: Vec::new() };
    while let Some(next) = lexer.peek(0) {
        lexer.step(next);
    }
    lexer.tokens
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.source.get(self.at + ahead).copied()
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == Some('\n') {
                self.line += 1;
            }
            self.at += 1;
        }
    }

    fn skip_while(&mut self, condition: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&condition) {
            self.skip(1);
        }
    }

    fn step(&mut self, next: char) {
        match (next, self.peek(1)) {
            ('/', Some('/')) => self.skip_while(|c| c != '\n'),
            ('/', Some('*')) => self.block_comment(),
            ('"', _) => self.string(),
            ('\'', _) => self.quote(),
            (c, _) if c.is_alphabetic() || c == '_' => self.word(),
            (c, _) if c.is_whitespace() => self.skip(1),
            (c, _) => {
                self.tokens.push(Token { text: Text::Sign(c), line: self.line });
                self.skip(1);
            }
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.skip(1);
                    continue;
                }
            }
            self.skip(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.skip(1);
        while let Some(next) = self.peek(0) {
            self.skip(if next == '\\' { 2 } else { 1 });
            if next == '"' {
                return;
            }
        }
    }

    /// `r"…"`, `r#"…"#` and so on; the `r` has been read.
    fn raw_string(&mut self) {
        let start = self.at;
        self.skip_while(|c| c == '#');
        let hashes = self.at - start;
        self.skip(1);
        while self.peek(0).is_some() {
            let ends = self.peek(0) == Some('"') && (1..=hashes).all(|n| self.peek(n) == Some('#'));
            self.skip(if ends { hashes + 1 } else { 1 });
            if ends {
                return;
            }
        }
    }

    /// A character, or a lifetime.
    fn quote(&mut self) {
        match (self.peek(1), self.peek(2)) {
            (Some('\\'), _) => {
                self.skip(3);
                self.skip_while(|c| c != '\'');
                self.skip(1);
            }
            (Some(_), Some('\'')) => self.skip(3),
            _ => self.skip(1),
        }
    }

    fn word(&mut self) {
        let (start, line) = (self.at, self.line);
        self.skip_while(|c| c.is_alphanumeric() || c == '_');
        let word: String = self.source[start..self.at].iter().collect();
        let raw = matches!(word.as_str(), "r" | "br" | "cr");
        let raw_identifier =
            raw && self.peek(0) == Some('#') && self.peek(1).is_some_and(char::is_alphabetic);
        if raw && !raw_identifier && matches!(self.peek(0), Some('"' | '#')) {
            return self.raw_string();
        }
        self.tokens.push(Token { text: Text::Word(word), line });
    }
}

fn word_at(tokens: &[Token], at: usize) -> Option<&str> {
    match &tokens.get(at)?.text {
        Text::Word(word) => Some(word),
        Text::Sign(_) => None,
    }
}

fn is_sign(tokens: &[Token], at: usize, sign: char) -> bool {
    tokens.get(at).is_some_and(|token| token.text == Text::Sign(sign))
}

fn is_path_separator(tokens: &[Token], at: usize) -> bool {
    is_sign(tokens, at, ':') && is_sign(tokens, at + 1, ':')
}

/// Position after the bracket that closes the one at `open`.
fn after_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            Text::Sign('{' | '(' | '[') => depth += 1,
            Text::Sign('}' | ')' | ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

// === Arrows ===

/// The first name after the crate's root in a path, and its line.
type Arrow = (String, usize);

/// Every path in a file that leads to the root of the crate. `depth` is the depth of the file's module below the root;
/// `root` are the names of the root (`crate`, and in the binary the crate's own name).
fn arrows(tokens: &[Token], depth: usize, root: &[&str]) -> Vec<Arrow> {
    let mut found = Vec::new();
    // One entry for each open brace: whether it belongs to an inline module.
    let mut braces = Vec::new();
    for at in 0..tokens.len() {
        if is_sign(tokens, at, '{') {
            braces.push(at >= 2 && word_at(tokens, at - 2) == Some("mod"));
        } else if is_sign(tokens, at, '}') {
            braces.pop();
        }
        let Some(word) = word_at(tokens, at) else { continue };
        let starts = at < 2 || !is_path_separator(tokens, at - 2);
        if starts
            && is_path_separator(tokens, at + 1)
            && (word == "super" || word == "self" || root.contains(&word))
        {
            let here = depth + braces.iter().filter(|inline| **inline).count();
            follow(tokens, at, here, root, &mut found);
        }
    }
    found
}

/// Follows one path, or one branch of a use tree, from a module `depth` below the root.
fn follow(tokens: &[Token], mut at: usize, mut depth: usize, root: &[&str], found: &mut Vec<Arrow>) {
    loop {
        let line = tokens.get(at).map_or(0, |token| token.line);
        match word_at(tokens, at) {
            Some("super") => depth = depth.saturating_sub(1),
            Some("self") => {}
            Some(word) if root.contains(&word) => depth = 0,
            Some(word) if depth == 0 => return found.push((word.to_string(), line)),
            None if is_sign(tokens, at, '{') => return branches(tokens, at, depth, root, found),
            None if depth == 0 && is_sign(tokens, at, '*') => return found.push(("*".into(), line)),
            Some(_) | None => return,
        }
        if !is_path_separator(tokens, at + 1) {
            return;
        }
        at += 3;
    }
}

fn branches(tokens: &[Token], open: usize, depth: usize, root: &[&str], found: &mut Vec<Arrow>) {
    let end = after_group(tokens, open) - 1;
    let mut at = open + 1;
    while at < end {
        follow(tokens, at, depth, root, found);
        while at < end && !is_sign(tokens, at, ',') {
            at = if is_sign(tokens, at, '{') { after_group(tokens, at) } else { at + 1 };
        }
        at += 1;
    }
}

/// The room of a source file and the depth of its module: `image/cache.rs` is in `image`, two below the root.
fn place(file: &Path) -> (String, usize) {
    let parts: Vec<_> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    (parts[0].clone(), parts.len())
}

/// The arrows of a file that the table forbids.
fn wrong_arrows(file: &Path, source: &str) -> Vec<String> {
    let (name, depth) = place(file);
    if name == "lib" {
        return wrong_map(file, source);
    }
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        return vec![format!("{}: no room `{name}` in the table", file.display())];
    };
    let roots: &[&str] = if name == "main" { &["crate", "wasmgate"] } else { &["crate"] };
    let bad = arrows(&tokens(source), depth, roots).into_iter().filter(|(to, _)| {
        let own = *to == name && name != "main";
        !own && !room.may_use.contains(&to.as_str())
    });
    let told =
        |(to, line)| format!("{}:{line}: `{name}` may not use `{to}` ({})", file.display(), room.because);
    bad.map(told).collect()
}

/// The crate's root is a map: it only declares the rooms, so no room can bypass the table through it.
fn wrong_map(file: &Path, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let declared: BTreeSet<_> = (0..tokens.len())
        .filter(|at| word_at(&tokens, *at) == Some("mod"))
        .filter_map(|at| word_at(&tokens, at + 1))
        .collect();
    let known: BTreeSet<_> = ROOMS.iter().map(|room| room.name).filter(|name| *name != "main").collect();
    let mut wrong: Vec<_> = declared
        .symmetric_difference(&known)
        .map(|name| format!("{}: room `{name}` is not both declared and in the table", file.display()))
        .collect();
    for token in &tokens {
        if let Text::Word(word) = &token.text
            && matches!(word.as_str(), "use" | "fn" | "macro_rules" | "struct" | "enum" | "static" | "const")
        {
            wrong.push(format!("{}:{}: `{word}` in the map; put it into a room", file.display(), token.line));
        }
    }
    wrong
}

// === Circles inside a room ===

/// Files of one room that still depend on each other, directly or indirectly. The list may only shrink.
const CIRCLES: &[&[&str]] = &[];

/// The tokens of a file without those of its test-only items.
fn without_tests(mut tokens: Vec<Token>) -> Vec<Token> {
    for (start, end) in test_items(&tokens).into_iter().rev() {
        tokens.drain(start..end);
    }
    tokens
}

/// A file of a room as a module path: `image/layer/place.rs` is `image`, `layer`, `place`.
fn module_of(file: &Path) -> Vec<String> {
    file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect()
}

/// Every path of a file as words from the root of the crate.
fn full_paths(tokens: &[Token], module: &[String]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for at in 0..tokens.len() {
        let starts = at < 2 || !is_path_separator(tokens, at - 2);
        let word = word_at(tokens, at).unwrap_or_default();
        if starts && is_path_separator(tokens, at + 1) && matches!(word, "super" | "self" | "crate") {
            spell(tokens, at, module.to_vec(), &mut found);
        }
    }
    found.into_iter().map(|(_, path)| path).collect()
}

/// The names that the file of a room imports, and where each is from: `pub use file::File;` in `config.rs` makes
/// `config::File` stand for `config::file::File`.
fn imports(tokens: &[Token], module: &[String]) -> BTreeSet<(String, Vec<String>)> {
    let mut found = BTreeSet::new();
    for at in (0..tokens.len()).filter(|at| word_at(tokens, *at) == Some("use")) {
        spell(tokens, at + 1, module.to_vec(), &mut found);
    }
    found
}

/// Adds every path that begins at a token, with the name that it has after `as`, or else its last word.
fn spell(
    tokens: &[Token],
    mut at: usize,
    mut path: Vec<String>,
    found: &mut BTreeSet<(String, Vec<String>)>,
) {
    loop {
        match word_at(tokens, at) {
            Some("super") => drop(path.pop()),
            Some("self") => {}
            Some("crate") => path.clear(),
            Some(word) => path.push(word.to_string()),
            None if is_sign(tokens, at, '{') => {
                let end = after_group(tokens, at) - 1;
                let mut branch = at + 1;
                while branch < end {
                    spell(tokens, branch, path.clone(), found);
                    while branch < end && !is_sign(tokens, branch, ',') {
                        branch = if is_sign(tokens, branch, '{') {
                            after_group(tokens, branch)
                        } else {
                            branch + 1
                        };
                    }
                    branch += 1;
                }
                return;
            }
            None if is_sign(tokens, at, '*') => path.push("*".into()),
            None => break,
        }
        if !is_path_separator(tokens, at + 1) {
            break;
        }
        at += 3;
    }
    let renamed = (word_at(tokens, at + 1) == Some("as")).then(|| word_at(tokens, at + 2)).flatten();
    let name = renamed.or(path.last().map(String::as_str)).unwrap_or_default().to_string();
    found.insert((name, path));
}

/// The tokens of the file of a room or folder that are code of its own: not `mod name;` and not `pub use`, by which it only
/// shows the files below it.
fn own_code(tokens: &[Token]) -> Vec<Token> {
    let mut own = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let end = after_item(tokens, at);
        let shown = after_visibility(tokens, at);
        let declares = word_at(tokens, shown) == Some("mod") && is_sign(tokens, shown + 2, ';');
        let shows = shown > at && word_at(tokens, shown) == Some("use");
        if !declares && !shows {
            own.extend_from_slice(&tokens[at..end]);
        }
        at = end;
    }
    own
}

/// Position after `pub` and `pub(…)`, if one begins here.
fn after_visibility(tokens: &[Token], at: usize) -> usize {
    match word_at(tokens, at) {
        Some("pub") if is_sign(tokens, at + 1, '(') => after_group(tokens, at + 1),
        Some("pub") => at + 1,
        _ => at,
    }
}

/// A file of the room or folder `map`, or a folder in it with its file; `map` itself for its own file.
fn part(map: &[String], module: &[String]) -> String {
    module[..module.len().min(map.len() + 1)].join("/")
}

/// What the files of a room and of each folder in it use of each other.
fn uses_inside(sources: &BTreeMap<PathBuf, String>) -> Vec<BTreeMap<String, BTreeSet<String>>> {
    let code: BTreeMap<Vec<String>, Vec<Token>> =
        sources.iter().map(|(file, source)| (module_of(file), without_tests(tokens(source)))).collect();
    let folders: BTreeSet<&[String]> = code.keys().map(|module| &module[..module.len() - 1]).collect();
    folders.into_iter().filter(|map| !map.is_empty()).map(|map| uses_below(&code, map)).collect()
}

/// File → the files of its room or folder that it names, directly or by a name that the file of that room or folder, `map`,
/// imports. A file and the folder of the same name count as one. `map` itself counts with the code of its own.
fn uses_below(
    code: &BTreeMap<Vec<String>, Vec<Token>>,
    map: &[String],
) -> BTreeMap<String, BTreeSet<String>> {
    let of_map = code.get(map).map(Vec::as_slice).unwrap_or_default();
    let (imported, own) = (imports(of_map, map), own_code(of_map));
    let declared = declarations(&own);
    let file = |path: &[String]| {
        let known = path.len() > map.len() && path.starts_with(map) && code.contains_key(&path[..=map.len()]);
        known.then(|| part(map, path))
    };
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, tokens) in code.iter().filter(|(module, _)| module.starts_with(map)) {
        let from = part(map, module);
        let paths = if module == map { paths_of_map(&own, map, code) } else { full_paths(tokens, module) };
        let used = uses.entry(from.clone()).or_default();
        for path in paths.into_iter().filter(|path| path.starts_with(map)) {
            let Some(name) = path.get(map.len()) else { continue };
            // A glob on either side may bring any name.
            let meant = |(shown, _): &&(String, Vec<String>)| shown == name || shown == "*" || name == "*";
            let targets = || imported.iter().filter(meant).filter_map(|(_, target)| file(target));
            let here = declared.contains(name.as_str()) || (name == "*" && !declared.is_empty());
            let of_map = here.then(|| map.join("/"));
            let named: Vec<String> =
                file(&path).map_or_else(|| targets().chain(of_map).collect(), |file| vec![file]);
            used.extend(named.into_iter().filter(|to| *to != from));
        }
    }
    uses
}

/// The paths in the own code of the file `map`, in which the files below it and what it imports have names of their own.
fn paths_of_map(
    own: &[Token],
    map: &[String],
    code: &BTreeMap<Vec<String>, Vec<Token>>,
) -> BTreeSet<Vec<String>> {
    let below = |name: &str| [map, &[name.to_string()]].concat();
    let names = names(own, |name| code.contains_key(&below(name)));
    full_paths(own, map).into_iter().chain(names.into_iter().map(below)).collect()
}

/// The names of the items that a file declares, without those in them.
fn declarations(tokens: &[Token]) -> BTreeSet<&str> {
    const DECLARES: &[&str] = &["struct", "enum", "union", "trait", "fn", "type", "const", "static"];
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let end = after_item(tokens, at);
        let declares = |at: &usize| {
            word_at(tokens, *at).is_some_and(|word| DECLARES.contains(&word))
                && word_at(tokens, at + 1).is_some_and(|word| word != "fn")
        };
        // A trait's own `type` and `fn` are in its braces.
        let mut head = (at..end).take_while(|at| !is_sign(tokens, *at, '{'));
        found.extend(head.find(declares).and_then(|at| word_at(tokens, at + 1)));
        at = end;
    }
    found
}

/// The names with which a path begins; fields, methods and variables that are called like a file are none.
fn names(tokens: &[Token], is_file: impl Fn(&str) -> bool) -> Vec<&str> {
    let begins = |at: &usize| {
        let before = at.checked_sub(1);
        let continues = before.is_some_and(|at| is_sign(tokens, at, '.') || is_sign(tokens, at, ':'));
        let imports = before.is_some_and(|at| word_at(tokens, at) == Some("use"));
        let file = word_at(tokens, *at).is_some_and(&is_file);
        !continues && (imports || !file || is_path_separator(tokens, at + 1))
    };
    (0..tokens.len()).filter(begins).filter_map(|at| word_at(tokens, at)).collect()
}

/// Sets of files that all depend on each other.
fn circles(uses: &[BTreeMap<String, BTreeSet<String>>]) -> BTreeSet<Vec<String>> {
    uses.iter().flat_map(circles_of).collect()
}

fn circles_of(uses: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let reached = |from: &String| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(next) = todo.pop() {
            todo.extend(uses.get(next).into_iter().flatten().filter(|to| seen.insert((*to).clone())));
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<String>> = uses.keys().map(|file| (file, reached(file))).collect();
    let circle = |(one, reaches): (&&String, &BTreeSet<String>)| {
        let back = |other: &&String| all.get(other).is_some_and(|theirs| theirs.contains(*one));
        reaches.contains(*one).then(|| reaches.iter().filter(back).cloned().collect())
    };
    all.iter().filter_map(circle).collect()
}

// === Rooms that touch nothing outside ===

/// Modules of the standard library that reach outside of the process.
const OUTSIDE: &[&str] = &["fs", "env", "process", "os"];

/// Types whose `now` reads a clock.
const CLOCKS: &[&str] = &["Instant", "SystemTime", "Timestamp", "Zoned"];

/// The rooms that ARCHITECTURE.md marks with "no" in the column "Touches the outside?".
fn marked_rooms(map: &str) -> Vec<&str> {
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" | no |"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

/// Where the code of a file waits, or reads a clock, the environment or the disk.
fn touches_outside(file: &Path, source: &str) -> Vec<String> {
    let tokens = without_tests(tokens(source));
    let mut wrong = Vec::new();
    for at in 0..tokens.len() {
        let mut paths = BTreeSet::new();
        if word_at(&tokens, at) == Some("std") && is_path_separator(&tokens, at + 1) {
            spell(&tokens, at, Vec::new(), &mut paths);
        }
        let reached =
            paths.iter().any(|(_, path)| path.get(1).is_some_and(|m| OUTSIDE.contains(&m.as_str())));
        let clock = word_at(&tokens, at).is_some_and(|word| CLOCKS.contains(&word))
            && is_path_separator(&tokens, at + 1)
            && word_at(&tokens, at + 3) == Some("now");
        if reached || clock || word_at(&tokens, at) == Some("async") {
            wrong.push(format!("{}:{}", file.display(), tokens[at].line));
        }
    }
    wrong
}

#[test]
fn rooms_that_touch_nothing_outside_read_neither_clock_nor_environment_nor_disk() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let marked = marked_rooms(&map);
    assert!(marked.len() > 5 && marked.iter().all(|name| ROOMS.iter().any(|room| room.name == *name)));
    let sources = sources();
    let of_tests = files_of_tests(&sources);
    let code = sources
        .iter()
        .filter(|(file, _)| marked.contains(&place(file).0.as_str()) && !of_tests.contains(*file));
    let wrong: Vec<_> = code.flat_map(|(file, source)| touches_outside(file, source)).collect();
    assert!(wrong.is_empty(), "take it as an argument, or change the table of ARCHITECTURE.md: {wrong:?}");
}

#[test]
fn a_look_outside_is_found_in_every_spelling_and_not_in_tests() {
    let found = |source: &str| touches_outside(Path::new("plan.rs"), source).len();
    for bad in [
        "use std::fs;",
        "use std::{fmt, env::var};",
        "fn f() { std::fs::read(p) }",
        "async fn f() {}",
        "fn f() { Instant::now() }",
        "fn f() { jiff::Timestamp::now() }",
        "fn f() -> T { g.unwrap_or_else(std::time::SystemTime::now) }",
    ] {
        assert_eq!(found(bad), 1, "{bad}");
    }
    for good in [
        "use std::time::Instant;",
        "use std::{fmt, collections::BTreeMap};",
        "#[cfg(test)]\nmod tests { use std::fs; fn f() { Instant::now() } }",
        "fn f(fs: &Fs) { fs::read() }",
    ] {
        assert_eq!(found(good), 0, "{good}");
    }
    assert_eq!(marked_rooms("| `plan` | what | no |\n| `certs` | what | disk |\n"), ["plan"]);
}

// === The other rules ===

fn wrong_anyhow(file: &Path, source: &str) -> Vec<String> {
    if ANYHOW.iter().any(|(allowed, _)| file == Path::new(allowed)) {
        return Vec::new();
    }
    let uses = tokens(source).into_iter().filter(|token| token.text == Text::Word("anyhow".into()));
    uses.map(|token| {
        format!("{}:{}: `anyhow` in a room; give the room an error of its own", file.display(), token.line)
    })
    .collect()
}

fn wrong_name_or_head(file: &Path, source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if file.file_name().is_some_and(|name| name == "mod.rs") {
        wrong.push(format!("{}: no mod.rs; name the file after its folder, beside it", file.display()));
    }
    if !source.starts_with("//! ") {
        wrong.push(format!("{}: the first line must say what the file is for (`//! …`)", file.display()));
    }
    wrong
}

fn long_functions(file: &Path, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut wrong = Vec::new();
    for at in 0..tokens.len() {
        if word_at(&tokens, at) != Some("fn") {
            continue;
        }
        // `fn(…)` without a name is a type.
        let (Some(name), Some(lines)) = (word_at(&tokens, at + 1), function_lines(&tokens, at)) else {
            continue;
        };
        if lines > LONGEST_FUNCTION {
            let place = format!("{}:{}", file.display(), tokens[at].line);
            wrong.push(format!("{place}: `{name}` has {lines} lines; {LONGEST_FUNCTION} are the most"));
        }
    }
    wrong
}

/// Lines from `fn` to the closing brace; `None` if it has no body.
fn function_lines(tokens: &[Token], start: usize) -> Option<usize> {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at].text {
            Text::Sign('{') => {
                let end = after_group(tokens, at) - 1;
                return Some(tokens[end].line - tokens[start].line + 1);
            }
            Text::Sign('(' | '[') => at = after_group(tokens, at),
            Text::Sign(';') => return None,
            _ => at += 1,
        }
    }
    None
}

/// Where the test-only items of a file (`#[cfg(test)]`) begin and end, as positions of tokens.
fn test_items(tokens: &[Token]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for at in 0..tokens.len() {
        let inside = found.last().is_some_and(|(_, end)| at < *end);
        let marked = is_sign(tokens, at, '#')
            && is_sign(tokens, at + 1, '[')
            && word_at(tokens, at + 2) == Some("cfg")
            && word_at(tokens, at + 4) == Some("test")
            && is_sign(tokens, at + 5, ')');
        if marked && !inside {
            found.push((at, after_item(tokens, at)));
        }
    }
    found
}

/// Position after the item that begins at `at`: after its body, or after its semicolon.
fn after_item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text {
            Text::Sign('{') => return after_group(tokens, at),
            Text::Sign(';') => return at + 1,
            Text::Sign('(' | '[') => at = after_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Test-only files, according to the file that declares them: `#[cfg(test)] mod name;`.
fn files_of_tests(sources: &BTreeMap<PathBuf, String>) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for (file, source) in sources {
        let tokens = tokens(source);
        for (_, end) in test_items(&tokens) {
            if end >= 3 && is_sign(&tokens, end - 1, ';') && word_at(&tokens, end - 3) == Some("mod") {
                let name = word_at(&tokens, end - 2).unwrap_or_default();
                found.insert(file.with_extension("").join(name).with_extension("rs"));
            }
        }
    }
    found
}

fn long_files(sources: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let of_tests = files_of_tests(sources);
    let mut wrong = Vec::new();
    for (file, source) in sources.iter().filter(|(file, _)| !of_tests.contains(*file)) {
        let tokens = tokens(source);
        let lines_of = |(start, end): &(usize, usize)| tokens[end - 1].line - tokens[*start].line + 1;
        let of_tests: usize = test_items(&tokens).iter().map(lines_of).sum();
        let lines = source.lines().count() - of_tests;
        if lines > LONGEST_FILE {
            let place = file.display();
            wrong.push(format!("{place}: {lines} lines besides its tests; {LONGEST_FILE} are the most"));
        }
    }
    wrong
}

/// Names of banned crates in a Cargo.lock.
fn banned_in(lock: &str) -> Vec<String> {
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let banned = names.filter_map(|name| BANNED.iter().find(|(banned, _)| *banned == name));
    banned.map(|(name, because)| format!("`{name}` is in Cargo.lock: {because}")).collect()
}

// === the rules on the code ===

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Path below `src` → text, of every source file.
fn sources() -> BTreeMap<PathBuf, String> {
    let base = root().join("src");
    let mut found = BTreeMap::new();
    let mut folders = vec![base.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(&base).unwrap().to_path_buf(), text);
            }
        }
    }
    assert!(found.len() > ROOMS.len(), "the sources were not found");
    found
}

#[track_caller]
fn assert_none_wrong(check: impl Fn(&Path, &str) -> Vec<String>) {
    let wrong: Vec<String> = sources().iter().flat_map(|(file, source)| check(file, source)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn rooms_use_only_the_rooms_that_the_table_allows() {
    assert_none_wrong(wrong_arrows);
}

#[test]
fn every_arrow_of_the_table_is_used() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, source) in sources() {
        let (name, depth) = place(&file);
        let found = arrows(&tokens(&source), depth, &["crate", "wasmgate"]).into_iter().map(|(to, _)| to);
        used.entry(name).or_default().extend(found);
    }
    let arrows = ROOMS.iter().flat_map(|room| room.may_use.iter().map(|to| (room.name, *to)));
    let unused: Vec<_> = arrows.filter(|(from, to)| !used[*from].contains(*to)).collect();
    assert!(unused.is_empty(), "no code needs these arrows; take them out of the table: {unused:?}");
}

#[test]
fn the_table_has_no_circle() {
    for (index, room) in ROOMS.iter().enumerate() {
        for used in room.may_use {
            let before = ROOMS[..index].iter().any(|earlier| earlier.name == *used);
            assert!(before, "`{}` may use `{used}`, which does not stand before it", room.name);
        }
    }
}

#[test]
fn no_files_of_a_room_need_each_other() {
    let found = circles(&uses_inside(&sources()));
    let owned = |circle: &&[&str]| circle.iter().map(ToString::to_string).collect();
    let known: BTreeSet<Vec<String>> = CIRCLES.iter().map(owned).collect();
    let new: Vec<_> = found.difference(&known).collect();
    assert!(new.is_empty(), "these need each other; move what both need into a file of its own: {new:#?}");
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "these are no circles any more; take them out of the list: {gone:#?}");
}

#[test]
fn anyhow_is_used_only_where_it_is_allowed() {
    assert_none_wrong(wrong_anyhow);
}

#[test]
fn every_file_states_its_purpose_and_none_is_called_mod() {
    assert_none_wrong(wrong_name_or_head);
}

#[test]
fn no_function_exceeds_its_limit() {
    assert_none_wrong(long_functions);
}

#[test]
fn no_file_exceeds_its_limit() {
    let wrong = long_files(&sources());
    assert!(wrong.is_empty(), "split these by what their parts are about:\n{}\n", wrong.join("\n"));
}

#[test]
fn no_banned_crate_is_in_the_tree() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"rustls\""), "the lock file was not read");
    assert_eq!(banned_in(&lock), Vec::<String>::new());
}

#[test]
fn deny_toml_bans_the_same_crates() {
    let deny = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    for (name, _) in BANNED {
        assert!(deny.contains(&format!("crate = \"{name}\"")), "`{name}` is not banned in deny.toml");
    }
}

// === the checker itself ===

fn bad(file: &str, source: &str) -> Vec<String> {
    wrong_arrows(Path::new(file), source)
}

#[test]
fn a_forbidden_arrow_is_found_in_every_spelling() {
    let spellings = [
        "use crate::plan::Edit;",
        "use crate::{policy::Action, plan};",
        "use crate::{policy::{Action, Violation}, plan::Edit as E};",
        "use crate::{self, plan};",
        "pub(crate) use crate :: plan :: Edit;",
        "fn f() { let x = crate::plan::plan(); }",
        "type P = Vec<crate::plan::Plan>;",
        "use super::super::plan;",
        "use super::{super::plan, record};",
        "use self::super::super::plan;",
        "mod tests { use super::super::super::plan; }",
        "fn f() { super::super::plan::plan() }",
        "/* a comment */ use crate::plan; // another",
        "const A: char = '\"'; use crate::plan;",
        "const A: &str = r#\"\"\"#; use crate::plan;",
    ];
    for source in spellings {
        let wrong = bad("audit/mask.rs", source);
        assert_eq!(wrong.len(), 1, "{source}: {wrong:?}");
        assert!(wrong[0].contains("`audit` may not use `plan`"), "{wrong:?}");
    }
}

#[test]
fn allowed_arrows_comments_and_strings_are_not_violations() {
    let fine = [
        "use crate::policy::{Action, Violation};",
        "use crate::audit::Webhook;",
        "use super::{Error, metrics::Drops};",
        "//! [`crate::plan`]\n/// crate::plan\n/* use crate::plan; /* nested */ use crate::plan; */",
        "const A: &str = \"use crate::plan;\"; const B: &str = r\"crate::plan\"; const C: &[u8] = br#\"crate::plan\"#;",
        "mod tests { use super::super::record; use super::*; }",
        "mod a { mod b { fn f() { super::super::super::mask::object() } } }",
        "fn f<'a>(x: &'a str) -> char { '\\'' }",
        "use other::crate_name::plan;",
    ];
    for source in fine {
        assert_eq!(bad("audit/mask.rs", source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn a_circle_is_found_through_other_files_and_folders_and_not_through_tests() {
    let room = |files: &[(&str, &str)]| {
        let sources =
            files.iter().map(|(file, source)| (PathBuf::from(file), (*source).to_string())).collect();
        circles(&uses_inside(&sources)).into_iter().map(|circle| circle.join(" ")).collect::<Vec<_>>()
    };
    let (a, b, c) = ("plan/a.rs", "plan/b.rs", "plan/c.rs");
    assert_eq!(room(&[(a, "use super::b::X;"), (b, "use super::a;"), (c, "")]), ["plan/a plan/b"]);
    assert_eq!(
        room(&[(a, "use super::{b::X, d};"), (b, "fn f() { crate::plan::a::f() }")]),
        ["plan/a plan/b"]
    );
    assert_eq!(
        room(&[(a, "use super::b;"), (b, "use super::c;"), (c, "use super::a;")]),
        ["plan/a plan/b plan/c"]
    );
    assert_eq!(
        room(&[(a, "use super::b;"), ("plan/b/in.rs", "use super::super::a;"), (b, "")]),
        ["plan/a plan/b"]
    );
    assert_eq!(
        room(&[(a, "use super::b;"), ("plan/b/in.rs", "use super::x;"), (b, "mod in;")]),
        Vec::<String>::new()
    );
    assert_eq!(
        room(&[(a, "use super::b;"), (b, "#[cfg(test)]\nmod tests { use super::super::a; }")]),
        Vec::<String>::new()
    );
    assert_eq!(
        room(&[(a, "use super::T;"), ("plan.rs", "pub mod a; pub use a::f; pub struct T;")]),
        Vec::<String>::new()
    );
    let between = "#[cfg(test)]\nmod tests { use super::super::a; }\n#[cfg(test)]\nuse super::a::X;\n";
    assert_eq!(room(&[(a, "use super::b;"), (b, &format!("{between}fn f() {{}}"))]), Vec::<String>::new());
    assert_eq!(
        room(&[(a, "use super::b;"), (b, &format!("{between}fn f() {{ super::a::f() }}"))]),
        ["plan/a plan/b"],
        "the code after a test counts"
    );
}

#[test]
fn a_circle_is_found_through_the_names_that_the_file_of_a_room_imports() {
    let through = |map: &str, user: &str| {
        let files =
            [("plan.rs", map), ("plan/a.rs", "use super::b;"), ("plan/b.rs", user), ("plan/c.rs", "")];
        let sources = files.iter().map(|(file, text)| (PathBuf::from(file), (*text).to_string())).collect();
        circles(&uses_inside(&sources)).into_iter().map(|circle| circle.join(" ")).collect::<Vec<_>>()
    };
    for (map, user) in [
        ("pub use a::X;", "use super::X;"),
        ("pub use a::{Y, X};", "use super::{X, T};"),
        ("pub(crate) use self::a::X;", "fn f(x: crate::plan::X) {}"),
        ("use crate::plan::a::Y as X;", "use super::X as Z;"),
        ("pub use a::deep::{self, Y};", "fn f() { super::deep::f() }"),
        ("pub use a::*;", "use super::X;"),
        ("pub use a::X;", "use super::*;"),
    ] {
        assert_eq!(through(map, user), ["plan/a plan/b"], "{map} {user}");
    }
    for (map, user) in [
        ("pub use a::X; pub use c::Y;", "use super::Y;"),
        ("use a::Y as X;", "use super::Y;"),
        ("pub use a::X; pub struct T;", "use super::T;"),
        ("#[cfg(test)]\npub use a::X;", "use super::X;"),
        ("pub use a::X;", "use super::c::X;"),
    ] {
        assert_eq!(through(map, user), Vec::<String>::new(), "{map} {user}");
    }
}

#[test]
fn a_circle_is_found_through_the_own_code_of_the_file_of_a_room_or_folder() {
    let found = |files: [(&str, &str); 2]| {
        let sources = files.iter().map(|(file, text)| (PathBuf::from(file), (*text).to_string())).collect();
        circles(&uses_inside(&sources)).into_iter().map(|circle| circle.join(" ")).collect::<Vec<_>>()
    };
    let of_room = |map: &str| found([("plan.rs", map), ("plan/a.rs", "use super::T;")]);
    for map in [
        "mod a; pub struct T; fn f() { a::g() }",
        "mod a; use a::X; pub struct T(X);",
        "mod a; pub use a::X; pub struct T(X);",
        "mod a; use self::a::X as Y; pub type T = Y;",
        "mod a; pub struct T; impl T { fn f() { crate::plan::a::g() } }",
    ] {
        assert_eq!(of_room(map), ["plan plan/a"], "{map}");
    }
    for map in [
        "mod a; pub use a::X; pub struct T;",
        "pub(crate) mod a; pub(super) use a::{X, Y}; pub struct T;",
        "mod a; pub struct T { a: u8 } fn f(a: T) { a.a }",
        "mod a; use a::X; impl X { fn t() {} } impl Tr for X { type T = u8; }",
        "mod a; #[cfg(test)]\nmod tests { use super::a::X; }\npub struct T;",
    ] {
        assert_eq!(of_room(map), Vec::<String>::new(), "{map}");
    }
    let of_folder = found([
        ("plan/a.rs", "mod low; pub struct T; fn f() { low::g() }"),
        ("plan/a/low.rs", "use super::T;"),
    ]);
    assert_eq!(of_folder, ["plan/a plan/a/low"]);
}

#[test]
fn the_depth_of_a_file_counts() {
    assert_eq!(bad("audit.rs", "use super::plan;").len(), 1);
    assert_eq!(bad("audit/mask.rs", "use super::plan;").len(), 0);
    assert_eq!(bad("audit.rs", "use crate::*;").len(), 1);
    assert_eq!(bad("main.rs", "use wasmgate::{cli, plan};").len(), 1);
    assert_eq!(bad("attic.rs", "").len(), 1);
}

#[test]
fn an_arrow_is_reported_with_its_line() {
    let wrong = bad(
        "policy/set.rs",
        "//! A file.\n\nuse super::Violation;\nuse crate::{\n    policy::Action,\n    workload::Kind,\n};\n",
    );
    assert_eq!(
        wrong,
        ["policy/set.rs:6: `policy` may not use `workload` (runs Rego on JSON and knows nothing of pods)"]
    );
}

#[test]
fn the_map_may_only_declare_rooms() {
    let rooms: String =
        ROOMS.iter().filter(|r| r.name != "main").flat_map(|r| ["pub mod ", r.name, ";"]).collect();
    assert_eq!(bad("lib.rs", &rooms), Vec::<String>::new());
    assert_eq!(bad("lib.rs", &format!("{rooms} pub use plan::Edit;")).len(), 1);
    assert_eq!(bad("lib.rs", &format!("{rooms} mod attic;")).len(), 1);
    assert_eq!(bad("lib.rs", &rooms.replace("pub mod plan;", "")).len(), 1);
}

#[test]
fn a_long_function_is_found_and_a_short_one_is_not() {
    let function = |lines: usize| {
        format!(
            "trait T {{ fn g(a: [u8; 4]); }}\nimpl T {{\n    fn f(a: [u8; 4]) {{\n{}    }}\n}}\n",
            "    // }\n".repeat(lines - 2)
        )
    };
    let file = Path::new("plan.rs");
    assert_eq!(long_functions(file, &function(LONGEST_FUNCTION)), Vec::<String>::new());
    assert_eq!(
        long_functions(file, &function(LONGEST_FUNCTION + 1)),
        ["plan.rs:3: `f` has 61 lines; 60 are the most"]
    );
    assert_eq!(long_functions(file, "type F = fn(u8) -> u8;"), Vec::<String>::new());
}

#[test]
fn a_long_file_is_found_and_its_tests_do_not_count() {
    let file = |lines: usize, rest: &str| format!("{}{rest}", "// a line\n".repeat(lines));
    let wrong = |files: &[(&str, String)]| {
        let sources = files.iter().map(|(name, source)| (PathBuf::from(name), source.clone())).collect();
        long_files(&sources)
    };
    let tests = "#[cfg(test)]\n#[allow(dead_code)]\nmod tests {\n    fn f() {}\n}\n";
    assert_eq!(wrong(&[("plan.rs", file(LONGEST_FILE, ""))]), Vec::<String>::new());
    assert_eq!(wrong(&[("plan.rs", file(LONGEST_FILE, tests))]), Vec::<String>::new());
    let told = ["plan.rs: 501 lines besides its tests; 500 are the most"];
    assert_eq!(wrong(&[("plan.rs", file(LONGEST_FILE + 1, tests))]), told);
    assert_eq!(wrong(&[("plan.rs", file(LONGEST_FILE, &format!("{tests}fn after() {{}}\n")))]), told);
    let apart = [("plan.rs", "#[cfg(test)]\nmod check;\n".into()), ("plan/check.rs", file(900, ""))];
    assert_eq!(wrong(&apart), Vec::<String>::new());
}

#[test]
fn the_small_rules_find_what_breaks_them() {
    assert_eq!(wrong_anyhow(Path::new("plan.rs"), "fn f() -> anyhow::Result<()> { Ok(()) }").len(), 1);
    assert_eq!(wrong_anyhow(Path::new("main.rs"), "use anyhow::Context;").len(), 0);
    assert_eq!(wrong_name_or_head(Path::new("plan/mod.rs"), "//! Here.").len(), 1);
    assert_eq!(wrong_name_or_head(Path::new("plan.rs"), "use std::fs;\n//! Late.").len(), 1);
    assert_eq!(banned_in("[[package]]\nname = \"openssl-sys\"\nversion = \"1\"\n").len(), 1);
    assert_eq!(banned_in("[[package]]\nname = \"openssl-probe\"\nversion = \"1\"\n").len(), 0);
}
