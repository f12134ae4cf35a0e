//! Regular expressions in Go's grammar (`regexp/syntax`, Perl flags), written anew in the grammar of the `regex` crate. Both
//! take the leftmost match and need time in proportion; they differ in what they read.

use std::fmt::Write as _;

use regex::bytes::{Regex, RegexBuilder};

use super::failure::Failure;
use super::letters;

/// Bytes of a compiled expression.
const MAX_COMPILED: usize = 4 << 20;
/// Times that a part may be repeated.
const MAX_REPEAT: u32 = 1000;

/// Classes that go by a name between colons.
const NAMED_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// Nesting depth of groups. Go takes a thousand.
const MAX_NESTED: u32 = 200;

/// Compiles a pattern. One that Go does not read is an error of the call. One that Go reads and that is too large here ends the
/// evaluation: undefined would be another answer than Go's, and an undefined rule admits.
pub(super) fn compile(pattern: &str) -> Result<Regex, Failure> {
    let wrong = |reason: String| Failure::Error(format!("error parsing regexp `{pattern}`: {reason}"));
    let too_large = || Failure::Halt(format!("the regular expression `{pattern}` is too large here"));
    let translator = translate(pattern).map_err(wrong)?;
    if translator.deepest > MAX_NESTED {
        return Err(too_large());
    }
    if translator.has_surrogates {
        let message =
            format!("the regular expression `{pattern}` has a surrogate in a class, which is not read here");
        return Err(Failure::Halt(message));
    }
    match build(&translator.out) {
        Ok(compiled) => Ok(compiled),
        Err(regex::Error::CompiledTooBig(_)) => Err(too_large()),
        Err(error) => Err(wrong(error.to_string().replace('\n', " "))),
    }
}

/// Compiles a pattern of the `regex` crate within the bound.
pub(super) fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build()
}

/// The same pattern in the other grammar.
fn translate(pattern: &str) -> Result<Translator<'_>, String> {
    let mut translator = Translator {
        rest: pattern,
        out: String::new(),
        repeatable: Repeatable::No,
        open: 0,
        deepest: 0,
        names: 0,
        repeats: Repeats::default(),
        has_surrogates: false,
    };
    while !translator.rest.is_empty() {
        translator.step()?;
    }
    Ok(translator)
}

/// Whether a repetition may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeatable {
    No,
    Yes,
    /// It has been repeated already.
    Repeated,
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    repeatable: Repeatable,
    /// Groups that are open.
    open: u32,
    /// Most groups that were open at once.
    deepest: u32,
    /// Groups with a name so far.
    names: u32,
    repeats: Repeats,
    /// Whether a class has a surrogate, which may begin or end a range.
    has_surrogates: bool,
}

/// How often parts are repeated by all repetitions around them, which Go bounds (`regexp/syntax:repeatIsValid`).
#[derive(Default)]
struct Repeats {
    /// Of the last part.
    last: u32,
    /// The most of the parts before it in the same group.
    most: u32,
    /// The same of the groups around.
    around: Vec<u32>,
}

impl Repeats {
    fn part(&mut self) {
        self.most = self.most.max(self.last);
        self.last = 1;
    }

    fn open(&mut self) {
        self.part();
        self.around.push(self.most);
        (self.last, self.most) = (1, 1);
    }

    fn close(&mut self) {
        self.last = self.last.max(self.most);
        self.most = self.around.pop().unwrap_or(1);
    }

    /// Repeats the last part; whether that is within the bound.
    fn times(&mut self, low: u32, high: Option<u32>) -> bool {
        self.last = match high.unwrap_or(low) {
            0 if high.is_some() => 1,
            times => self.last.saturating_mul(times.max(1)),
        };
        self.last <= MAX_REPEAT || low.max(high.unwrap_or(0)) < 2
    }
}

/// The name that a pattern gave to a group, by the name that it has here: two groups may have one in Go, and it may begin with a
/// digit.
pub(super) fn group_name(name: &str) -> &str {
    name.trim_start_matches('_').split_once('_').map_or(name, |(_, name)| name)
}

impl Translator<'_> {
    fn take(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next()?;
        self.rest = letters.as_str();
        Some(letter)
    }

    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let Some(letter) = self.take() else { return Ok(()) };
        match letter {
            '\\' => self.escape()?,
            '[' => {
                self.repeats.part();
                self.class()?;
                self.repeatable = Repeatable::Yes;
            }
            '(' => {
                self.open = self.open.saturating_add(1);
                self.deepest = self.deepest.max(self.open);
                self.group()?;
            }
            ')' => {
                self.open = self.open.saturating_sub(1);
                self.repeats.close();
                self.out.push(')');
                self.repeatable = Repeatable::Yes;
            }
            '*' | '+' | '?' => self.repeat(&letter.to_string())?,
            '{' => self.braces()?,
            '|' => {
                self.out.push('|');
                self.repeatable = Repeatable::No;
            }
            // Go repeats an anchor without complaint.
            '^' | '$' | '.' => {
                self.repeats.part();
                self.out.push(letter);
                self.repeatable = Repeatable::Yes;
            }
            other => self.literal(other),
        }
        Ok(())
    }

    fn literal(&mut self, letter: char) {
        self.repeats.part();
        push_literal(&mut self.out, letter);
        self.repeatable = Repeatable::Yes;
    }

    fn repeat(&mut self, operator: &str) -> Result<(), String> {
        match self.repeatable {
            Repeatable::Yes => {}
            Repeatable::No => return Err(format!("missing argument to repetition operator: `{operator}`")),
            Repeatable::Repeated => return Err(format!("invalid nested repetition operator: `{operator}`")),
        }
        self.out.push_str(operator);
        if self.eat("?") {
            self.out.push('?');
        }
        self.repeatable = Repeatable::Repeated;
        Ok(())
    }

    /// A repetition, or a brace that means itself.
    fn braces(&mut self) -> Result<(), String> {
        let Some((inside, after)) = self.rest.split_once('}') else {
            self.literal('{');
            return Ok(());
        };
        let (least, most) =
            inside.split_once(',').map_or((inside, None), |(least, most)| (least, Some(most)));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(least) || most.is_some_and(|most| !most.is_empty() && !is_number(most)) {
            self.literal('{');
            return Ok(());
        }
        let bound = |text: &str| text.parse().ok().filter(|times: &u32| *times <= MAX_REPEAT);
        let wrong = || format!("invalid repeat count: `{{{inside}}}`");
        let low = bound(least).ok_or_else(wrong)?;
        let high = match most {
            None => Some(low),
            Some("") => None,
            Some(most) => Some(bound(most).filter(|high| *high >= low).ok_or_else(wrong)?),
        };
        self.rest = after;
        self.repeat(&format!("{{{inside}}}"))?;
        if self.repeats.times(low, high) { Ok(()) } else { Err(wrong()) }
    }

    fn group(&mut self) -> Result<(), String> {
        self.repeatable = Repeatable::No;
        if !self.eat("?") {
            self.repeats.open();
            self.out.push('(');
            return Ok(());
        }
        if self.eat("P<") || (!self.rest.starts_with("<=") && !self.rest.starts_with("<!") && self.eat("<")) {
            let (name, after) = self.rest.split_once('>').ok_or("invalid named capture")?;
            if name.is_empty() || !name.chars().all(|letter| letter == '_' || letter.is_ascii_alphanumeric())
            {
                return Err(format!("invalid named capture: `(?P<{name}>`"));
            }
            self.rest = after;
            self.names = self.names.saturating_add(1);
            self.repeats.open();
            let _ = write!(self.out, "(?P<_{}_{name}>", self.names);
            return Ok(());
        }
        let end = self.rest.find([':', ')']).ok_or("missing closing )")?;
        let (flags, after) = self.rest.split_at_checked(end).ok_or("invalid group")?;
        let (on, off) = flags.split_once('-').unwrap_or((flags, ""));
        let known = |flags: &str| flags.chars().all(|flag| "imsU".contains(flag));
        if !known(on) || !known(off) || (flags.contains('-') && off.is_empty()) {
            return Err(format!("invalid or unsupported Perl syntax: `(?{flags}`"));
        }
        let closes = after.starts_with(')');
        if closes {
            self.open = self.open.saturating_sub(1);
        } else {
            self.repeats.open();
        }
        self.rest = after.get(1..).unwrap_or_default();
        if flags.is_empty() && closes {
            return Ok(());
        }
        let _ = write!(self.out, "(?{flags}{}", if closes { ')' } else { ':' });
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        if self.eat("Q") {
            let (quoted, after) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
            quoted.chars().for_each(|letter| push_literal(&mut self.out, letter));
            self.rest = after;
            if !quoted.is_empty() {
                self.repeats.part();
                self.repeatable = Repeatable::Yes;
            }
            return Ok(());
        }
        self.repeats.part();
        self.repeatable = Repeatable::Yes;
        let place = self.rest.chars().next().and_then(|letter| match letter {
            'A' => Some("\\A"),
            'z' => Some("\\z"),
            'b' => Some("(?-u:\\b)"),
            'B' => Some("(?-u:\\B)"),
            _ => None,
        });
        if let Some(place) = place {
            self.take();
            self.out.push_str(place);
            return Ok(());
        }
        match self.escaped()? {
            Escaped::Class(class, negated) => {
                let _ = write!(self.out, "[{}{class}]", if negated { "^" } else { "" });
            }
            Escaped::Unicode(text) => self.out.push_str(&text),
            Escaped::Surrogate => self.out.push_str("\\P{any}"),
            Escaped::Letter(letter) => push_literal(&mut self.out, letter),
        }
        Ok(())
    }

    /// The escape after a backslash, inside a class or outside.
    fn escaped(&mut self) -> Result<Escaped, String> {
        let letter = self.take().ok_or("trailing backslash at end of expression")?;
        let classes = [
            ('d', "0-9", false),
            ('D', "0-9", true),
            ('w', "0-9A-Za-z_", false),
            ('W', "0-9A-Za-z_", true),
            ('s', "\\t\\n\\f\\r ", false),
            ('S', "\\t\\n\\f\\r ", true),
        ];
        if let Some((_, class, negated)) = classes.into_iter().find(|(name, ..)| *name == letter) {
            return Ok(Escaped::Class(class, negated));
        }
        match letter {
            'p' | 'P' => self.unicode_class(letter == 'P'),
            'x' => self.hexadecimal(),
            '0'..='7' => self.octal(letter),
            'a' => Ok(Escaped::Letter('\u{7}')),
            'f' => Ok(Escaped::Letter('\u{c}')),
            'n' => Ok(Escaped::Letter('\n')),
            'r' => Ok(Escaped::Letter('\r')),
            't' => Ok(Escaped::Letter('\t')),
            'v' => Ok(Escaped::Letter('\u{b}')),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Ok(Escaped::Letter(other)),
            other => Err(format!("invalid escape sequence: `\\{other}`")),
        }
    }

    fn unicode_class(&mut self, negated: bool) -> Result<Escaped, String> {
        let name = if self.eat("{") {
            let (name, after) = self.rest.split_once('}').ok_or("invalid character class range")?;
            self.rest = after;
            name.to_string()
        } else {
            self.take().ok_or("invalid character class range")?.to_string()
        };
        let (name, negated) = match name.strip_prefix('^') {
            Some(name) => (name.to_string(), !negated),
            None => (name, negated),
        };
        let class = letters::class(&name);
        let name = class.ok_or_else(|| format!("invalid character class range: `\\p{{{name}}}`"))?;
        let (name, negated) =
            name.strip_prefix('^').map_or((name.as_str(), negated), |name| (name, !negated));
        Ok(Escaped::Unicode(format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' })))
    }

    fn hexadecimal(&mut self) -> Result<Escaped, String> {
        let digits = if self.eat("{") {
            let (digits, after) = self.rest.split_once('}').ok_or("invalid escape sequence: `\\x{`")?;
            self.rest = after;
            digits
        } else {
            let (digits, after) = self.rest.split_at_checked(2).ok_or("invalid escape sequence: `\\x`")?;
            self.rest = after;
            digits
        };
        let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = valid.then(|| u32::from_str_radix(digits, 16).ok()).flatten();
        // No text has a surrogate.
        if code.is_some_and(|code| (0xd800..0xe000).contains(&code)) {
            return Ok(Escaped::Surrogate);
        }
        let letter = code.and_then(char::from_u32);
        letter.map(Escaped::Letter).ok_or_else(|| format!("invalid escape sequence: `\\x{digits}`"))
    }

    /// One digit alone, apart from zero, would be a back-reference.
    fn octal(&mut self, first: char) -> Result<Escaped, String> {
        let more = self.rest.bytes().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
        if first != '0' && more == 0 {
            return Err(format!("invalid escape sequence: `\\{first}`"));
        }
        let (digits, after) = self.rest.split_at_checked(more).unwrap_or(("", self.rest));
        let code = u32::from_str_radix(&format!("{first}{digits}"), 8).ok();
        self.rest = after;
        Ok(Escaped::Letter(code.and_then(char::from_u32).unwrap_or_default()))
    }

    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if self.rest.is_empty() {
                return Err("missing closing ]".into());
            }
            if !first && self.eat("]") {
                self.out.push(']');
                return Ok(());
            }
            first = false;
            self.class_item()?;
        }
    }

    /// A named class, a letter, or a range.
    fn class_item(&mut self) -> Result<(), String> {
        if self.rest.starts_with("[:")
            && let Some((name, after)) = self.rest.get(2..).and_then(|rest| rest.split_once(":]"))
        {
            if !NAMED_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
                return Err(format!("invalid character class range: `[:{name}:]`"));
            }
            let _ = write!(self.out, "[:{name}:]");
            self.rest = after;
            return Ok(());
        }
        let Some(low) = self.class_letter()? else { return Ok(()) };
        push_literal(&mut self.out, low);
        // A dash before the closing bracket means itself.
        if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
            self.take();
            let high = self.class_letter()?.filter(|high| *high >= low);
            if self.has_surrogates {
                return Ok(());
            }
            let high = high.ok_or_else(|| format!("invalid character class range: `{low}-`"))?;
            self.out.push('-');
            push_literal(&mut self.out, high);
        }
        Ok(())
    }

    /// One letter of a class; a class within it is written out and is none.
    fn class_letter(&mut self) -> Result<Option<char>, String> {
        let letter = self.take().ok_or("missing closing ]")?;
        if letter != '\\' {
            return Ok(Some(letter));
        }
        match self.escaped()? {
            Escaped::Letter(letter) => return Ok(Some(letter)),
            Escaped::Class(class, false) => self.out.push_str(class),
            Escaped::Class(class, true) => {
                let _ = write!(self.out, "[^{class}]");
            }
            Escaped::Unicode(text) => self.out.push_str(&text),
            Escaped::Surrogate => self.has_surrogates = true,
        }
        Ok(None)
    }
}

enum Escaped {
    /// What a class lists, and whether it means all else.
    Class(&'static str, bool),
    Unicode(String),
    Surrogate,
    Letter(char),
}

/// Writes a letter that means itself, in a class or outside.
pub(super) fn push_literal(out: &mut String, letter: char) {
    if letter.is_ascii() && !letter.is_ascii_alphanumeric() {
        let _ = write!(out, "\\x{:02X}", u32::from(letter));
    } else {
        out.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `regex.match` of `opa eval` 1.22.2 says of the same.
    #[test]
    fn a_pattern_matches_what_it_matches_in_go() {
        let cases = [
            (r"^(?<host>samples\.example)/", "samples.example/web", true),
            (r"^(?P<h>a)$", "a", true),
            (r"\Qa.b\E$", "xa.b", true),
            (r"\Qa.b\E$", "xaxb", false),
            (r"^[a[b]]$", "[]", true),
            (r"^[a&&b]$", "&", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^a{2}$", "aa", true),
            (r"^\d+$", "١", false),
            (r"^\w$", "é", false),
            (r"^\s$", "\u{b}", false),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^\pL\p{Greek}\P{L}$", "aα1", true),
            (r"^\x41\x{42}\103$", "ABC", true),
            (r"(?i)ÉTÉ", "été", true),
            (r"é\b", "é", false),
            (r"^[]a]+$", "]a", true),
            (r"^[a-]+$", "a-", true),
            (r"^}]$", "}]", true),
            (r"^\_\-\/$", "_-/", true),
            ("^(?P<n>a)(?P<n>b)$", "ab", true),
            ("^(a{500}|b{2}){2,}$", "bbbb", true),
            ("^((a{2}){0}){1000}$", "", true),
            ("^(a*){1000}$", "a", true),
            ("[[:foo]", ":", true),
            ("(?)a", "a", true),
            (r"^\p{Greek}\p{lu}\p{Uppercase_Letter}$", "αAA", true),
            (r"\p{Cs}", "a", false),
            (r"^\P{Cs}$", "a", true),
            (r"\x{d800}", "a", false),
        ];
        for (pattern, text, matches) in cases {
            assert_eq!(compile(pattern).unwrap().is_match(text.as_bytes()), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn what_go_does_not_read_is_refused() {
        let wrong = [
            "a**",
            "*a",
            "(?x)a",
            "(?=a)",
            "(?<=a)",
            r"\C",
            r"\1",
            r"\h",
            r"\é",
            "a{1001}",
            "a{2,1}",
            "[b-a]",
            "[a",
            "(a",
            "a)",
            r"a\",
            "(?P<a.b>c)",
            r"\Z",
            "a|*",
            "(a{500}){3}",
            "((a{100}){10}){10}",
            "(a{501}|b){2,}",
            "[[:foo:]]",
            r"^\p{Alphabetic}+$",
            r"\p{White_Space}",
            r"\p{Latn}",
            r"a\E",
            r"\Qa\E\E",
            "[[:ALPHA:]]",
        ];
        for pattern in wrong {
            assert!(matches!(compile(pattern), Err(Failure::Error(_))), "{pattern}");
        }
    }

    #[test]
    fn what_go_reads_and_is_too_large_here_ends_the_evaluation() {
        let nested = format!("{}a{}", "(".repeat(201), ")".repeat(201));
        for pattern in [r"(\pL{1000}){1}", r"[\pL\pN]{900}", r"[\x{d7ff}-\x{dfff}]", &nested] {
            assert!(matches!(compile(pattern), Err(Failure::Halt(_))), "{pattern}");
        }
        assert!(compile(&format!("{}a", "(?i)".repeat(300))).is_ok());
    }
}
