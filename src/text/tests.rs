//! What an attacker may write, and what must come of it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use proptest::prelude::*;

use super::*;

/// Characters that people who attack by text use, beside those that are only rare.
const ATTACKS: &[(char, &str)] = &[
    ('\0', "NUL"),
    ('\u{7}', "bell"),
    ('\u{8}', "backspace"),
    ('\t', "tab"),
    ('\n', "line feed"),
    ('\u{b}', "vertical tab"),
    ('\u{c}', "form feed"),
    ('\r', "carriage return"),
    ('\u{1b}', "escape"),
    ('\u{7f}', "delete"),
    ('\u{85}', "next line"),
    ('\u{9b}', "one-byte CSI"),
    ('\u{9d}', "one-byte OSC"),
    ('\u{a0}', "no-break space"),
    ('\u{ad}', "soft hyphen"),
    ('\u{34f}', "combining grapheme joiner"),
    ('\u{61c}', "Arabic letter mark"),
    ('\u{115f}', "Hangul filler"),
    ('\u{180e}', "Mongolian vowel separator"),
    ('\u{200b}', "zero-width space"),
    ('\u{200c}', "zero-width non-joiner"),
    ('\u{200d}', "zero-width joiner"),
    ('\u{200e}', "left-to-right mark"),
    ('\u{200f}', "right-to-left mark"),
    ('\u{2028}', "line separator"),
    ('\u{2029}', "paragraph separator"),
    ('\u{202a}', "left-to-right embedding"),
    ('\u{202e}', "right-to-left override"),
    ('\u{2060}', "word joiner"),
    ('\u{2063}', "invisible separator"),
    ('\u{2066}', "left-to-right isolate"),
    ('\u{2069}', "pop directional isolate"),
    ('\u{206a}', "deprecated format character"),
    ('\u{3000}', "ideographic space"),
    ('\u{3164}', "Hangul filler of compatibility"),
    ('\u{e000}', "private use"),
    ('\u{fe0f}', "variation selector"),
    ('\u{feff}', "byte order mark"),
    ('\u{ffa0}', "half-width Hangul filler"),
    ('\u{fff9}', "interlinear annotation"),
    ('\u{fffe}', "no character"),
    ('\u{1d173}', "musical begin of a beam"),
    ('\u{e0001}', "language tag"),
    ('\u{e0041}', "tag letter"),
    ('\u{e0100}', "variation selector of the supplement"),
    ('\u{f0000}', "private use on a plane of its own"),
    ('\u{10ffff}', "the last code point"),
];

/// Letters of many scripts, signs and emoji, which people may write.
const HARMLESS: &str = " azAZ09_-./:@#`'\"\\{}äßñλжя中文日本한국עבריתالعربيةहिन्दी🦀→…≈�";

/// Text with about as many dangerous characters as others.
fn hostile() -> impl Strategy<Value = String> {
    let attack = prop::sample::select(ATTACKS).prop_map(|(c, _)| c);
    let common = prop::sample::select(vec!['a', 'é', '`', '\\', '/', '.', ' ', '"', '{', '}', '…', '🦀']);
    prop::collection::vec(prop_oneof![attack, common, any::<char>()], 0..60).prop_map(String::from_iter)
}

fn has_none(text: &str) -> bool {
    !text.contains(is_dangerous)
}

#[test]
fn every_attack_is_known_for_dangerous_and_no_writing_is() {
    for (c, name) in ATTACKS {
        assert!(is_dangerous(*c), "{name} ({c:?})");
    }
    for c in HARMLESS.chars() {
        assert!(!is_dangerous(c), "{c:?}");
    }
}

#[test]
fn what_unicode_calls_bidirectional_or_a_tag_is_dangerous_whole() {
    let ranges = ['\u{200e}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    let tags = '\u{e0000}'..='\u{e0fff}';
    let controls = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
    for c in ranges.into_iter().flatten().chain(tags).chain(controls).chain(['\u{61c}']) {
        assert!(is_dangerous(c), "{c:?}");
    }
}

#[test]
fn every_control_and_every_space_but_the_blank_is_dangerous() {
    let acts = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
    let missed: Vec<char> = ('\0'..=char::MAX).filter(|c| acts(*c) && !is_dangerous(*c)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn each_form_shows_an_attack_in_its_own_way() {
    let text = "a\nb\r\n\t\u{1b}[2J\0\u{202e}c\u{200d}d\\`\u{2028}\u{e0041}";
    assert_eq!(line(text), r"a b   \u{1b}[2J\u{0}\u{202e}cd\` \u{e0041}");
    assert_eq!(lines(text), "a\nb \n \\u{1b}[2J\\u{0}\\u{202e}cd\\` \\u{e0041}");
    assert_eq!(visible(text), r"a\nb\r\n\t\u{1b}[2J\u{0}\u{202e}c\u{200d}d\`\u{2028}\u{e0041}");
    assert_eq!(distinct(text), r"a\nb\r\n\t\u{1b}[2J\u{0}\u{202e}c\u{200d}d\\`\u{2028}\u{e0041}");
    assert_eq!(quoted(text, 100), r"a\nb\r\n\t\u{1b}[2J\u{0}\u{202e}c\u{200d}d\'\u{2028}\u{e0041}");
    assert_eq!(excerpt(&format!(" \n{text}\n "), 9), r"a b   \u…");
}

#[test]
fn harmless_text_is_not_copied() {
    for form in [line, lines, visible, json, flow_yaml] {
        assert!(matches!(form(HARMLESS), std::borrow::Cow::Borrowed(HARMLESS)));
    }
    assert_eq!(line("⚠\u{fe0f} heiß, 👩\u{200d}💻"), "⚠ heiß, 👩💻", "no emoji is torn into escapes");
}

#[test]
fn overlong_text_is_cut_between_characters() {
    for (text, most, expected) in [
        ("", 0, ""),
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("äöüß", 3, "äö…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
    ] {
        assert_eq!(shorten(text, most), expected, "{text} {most}");
    }
    for (text, most, expected) in [
        ("abc", 3, "abc"),
        ("abcd", 3, "…"),
        ("äöüß", 7, "äö…"),
        ("äöüß", 6, "ä…"),
        ("äöüß", 2, "ä"),
        ("äöüß", 1, ""),
    ] {
        assert_eq!(shorten_bytes(text, most), expected, "{text} {most}");
    }
    assert_eq!(quoted(&"\u{202e}".repeat(1_000_000), 20).chars().count(), 20);
}

#[derive(Debug)]
struct Failed(&'static str, Option<Box<Failed>>);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

fn failed(said: &[&'static str]) -> Failed {
    let (first, rest) = said.split_first().unwrap();
    Failed(first, (!rest.is_empty()).then(|| Box::new(failed(rest))))
}

/// An error that is its own cause.
#[derive(Debug)]
struct Circle;

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("round")
    }
}

impl Error for Circle {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

#[test]
fn each_cause_is_said_once_and_a_circle_ends() {
    assert_eq!(chain(&failed(&["could not read", "no such file"])), "could not read: no such file");
    assert_eq!(
        chain(&failed(&["could not read: no such file", "no such file"])),
        "could not read: no such file"
    );
    assert_eq!(chain(&failed(&["a\nb", "", "c"])), "a\nb: c");
    assert_eq!((chain(&Circle), causes(&Circle).count()), ("round".into(), 32));
    let io = std::io::Error::other(std::io::Error::other(failed(&["inside"])));
    assert!(causes(&io).any(<dyn Error>::is::<Failed>), "the causes inside of I/O errors are among them");
    assert_eq!(chain(&io), "inside");
}

#[test]
fn paths_are_put_in_order() {
    for (path, expected) in [
        ("", "/"),
        ("/", "/"),
        ("..", "/"),
        ("data", "/data"),
        ("./a//b/", "/a/b"),
        ("a/./b//../c/", "/a/c"),
        ("/a/../../etc", "/etc"),
        ("../../etc/passwd", "/etc/passwd"),
        ("/a/...", "/a/..."),
        ("/a\0/..\n", "/a\0/..\n"),
    ] {
        assert_eq!(clean_path(path), expected, "{path:?}");
    }
}

proptest! {
    #[test]
    fn no_output_holds_a_dangerous_character(text in hostile(), most in 0_usize..80) {
        prop_assert!(has_none(&line(&text)));
        prop_assert!(has_none(&lines(&text).replace('\n', "")));
        prop_assert!(has_none(&visible(&text)));
        prop_assert!(has_none(&distinct(&text)));
        prop_assert!(has_none(&excerpt(&text, most)));
        let quoted = quoted(&text, most);
        prop_assert!(has_none(&quoted) && !quoted.contains('`'), "{}", quoted);
    }

    #[test]
    fn line_feeds_that_stay_are_those_that_were_there(text in hostile()) {
        prop_assert_eq!(lines(&text).matches('\n').count(), text.matches('\n').count());
    }

    #[test]
    fn doing_it_again_changes_nothing(text in hostile(), most in 0_usize..80) {
        let forms: [&dyn Fn(&str) -> String; 7] = [
            &|text| line(text).into_owned(),
            &|text| lines(text).into_owned(),
            &|text| visible(text).into_owned(),
            &|text| excerpt(text, most),
            &|text| quoted(text, most),
            &|text| shorten(text, most).into_owned(),
            &|text| shorten_bytes(text, most).into_owned(),
        ];
        for (number, form) in forms.iter().enumerate() {
            let once = form(&text);
            prop_assert_eq!(form(&once), once, "form {}", number);
        }
    }

    #[test]
    fn nothing_is_longer_than_its_bound(text in hostile(), most in 0_usize..80) {
        for shown in [shorten(&text, most).into_owned(), excerpt(&text, most), quoted(&text, most)] {
            prop_assert!(shown.chars().count() <= most, "{:?}", shown);
        }
        prop_assert!(shorten_bytes(&text, most).len() <= most);
    }

    #[test]
    fn a_cut_text_is_a_beginning_and_the_longest_that_fits(text in hostile(), most in 0_usize..80) {
        let (short, long) = (shorten(&text, most), text.chars().count());
        match short.strip_suffix('…').filter(|_| long > most) {
            Some(head) => prop_assert!(text.starts_with(head) && short.chars().count() == most),
            None if long > most => prop_assert!(most == 0 && short.is_empty()),
            None => prop_assert_eq!(&*short, &*text),
        }
        let short = shorten_bytes(&text, most);
        let head = if text.len() > most { short.strip_suffix('…').unwrap_or(&short) } else { &short };
        prop_assert!(text.starts_with(head));
        prop_assert!(text.len() <= most || short.len() + 3 >= most, "no more is left out than a character");
    }

    #[test]
    fn two_names_never_read_the_same(a in hostile(), b in hostile()) {
        prop_assert_eq!(distinct(&a) == distinct(&b), a == b);
        let added = format!("{a}\u{200b}");
        prop_assert!(distinct(&added) != distinct(&a) && visible(&added) != visible(&a));
    }

    #[test]
    fn documents_say_the_same_and_hold_nothing_dangerous(text in hostile(), key in hostile()) {
        let value = serde_json::json!({ key: [text.clone()] });
        for document in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let (shown, flow) = (json(&document), flow_yaml(&document));
            prop_assert!(has_none(&shown.replace('\n', "")) && has_none(&flow.replace('\n', "")));
            prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&shown).unwrap(), &value);
            prop_assert_eq!(&serde_saphyr::from_str::<serde_json::Value>(&flow).unwrap(), &value);
            prop_assert_eq!(&json(&shown), &shown);
        }
    }

    #[test]
    fn a_clean_path_never_leaves_the_root_and_is_clean(path in "[a./\\\\]{0,40}|\\PC{0,40}", more in hostile()) {
        for path in [path.clone(), format!("{path}/{more}"), format!("{more}/{path}")] {
            let clean = clean_path(&path);
            prop_assert!(clean == "/" || clean.starts_with('/') && !clean.ends_with('/'), "{:?}", clean);
            prop_assert!(clean.split('/').skip(1).all(|part| clean == "/" || !matches!(part, "" | "." | "..")));
            prop_assert_eq!(&clean_path(&clean), &clean);
            prop_assert_eq!(&clean_path(&format!("../{path}")), &clean, "above the root is the root");
        }
    }
}

/// Around the pieces in which a text is looked at.
#[test]
fn what_is_dangerous_is_found_wherever_it_stands() {
    let ways: [fn(&str) -> std::borrow::Cow<'_, str>; 3] = [distinct, visible, lines];
    for at in [0, 1, 63, 64, 65, 127, 128, 200] {
        let (before, after) = ("a".repeat(at), "b".repeat(200 - at));
        for letter in '\0'..='\u{7f}' {
            let text = format!("{before}{letter}{after}");
            for shows in ways {
                let alone = shows(&letter.to_string()).into_owned();
                assert_eq!(shows(&text), format!("{before}{alone}{after}"), "{letter:?} at {at}");
            }
        }
    }
}

#[test]
fn what_stands_in_a_string_of_json_is_left_out() {
    for (document, outside) in [
        (r#"{"a":[1,"b,{"],"c":null}"#, "{:[1,],:null}"),
        (r#"["\"",1,"\\"]"#, "[,1,]"),
        (r#"["\\",1,"a\",b"]"#, "[,1,]"),
        // No JSON: a string without an end, and an escape outside of one.
        (r#"[1,"a,]"#, "[1,"),
        (r#"\"a",["#, r"\,["),
        ("", ""),
    ] {
        let found: Vec<u8> = outside_strings(document.as_bytes()).collect();
        assert_eq!(String::from_utf8(found).unwrap(), outside, "{document}");
    }
}

#[test]
fn no_line_is_a_command_to_the_runner_of_a_ci_server() {
    for plain in ["", "a::b ##x\n  - ::1 is an address\n", "# [a]\n"] {
        assert!(matches!(without_commands(plain), Cow::Borrowed(said) if said == plain), "{plain}");
        assert!(matches!(json_without_commands(plain), Cow::Borrowed(said) if said == plain), "{plain}");
    }
    for (forged, harmless) in [
        ("::error::x", "\\u{3a}:error::x"),
        ("a\n \t::add-mask::b\nc::\n", "a\n \t\\u{3a}:add-mask::b\nc::\n"),
        ("\u{1b}[1m\u{1b}[31m::error::x\u{1b}[0m\n", "\u{1b}[1m\u{1b}[31m\\u{3a}:error::x\u{1b}[0m\n"),
        ("a ##[group]b ##vso[x]", "a \\u{23}#[group]b \\u{23}#vso[x]"),
        ("##teamcity[x]", "\\u{23}#teamcity[x]"),
    ] {
        assert_eq!(without_commands(forged), harmless);
        assert_eq!(without_commands(harmless), harmless);
    }
    let document = serde_json::json!({"##[a]": "\\##vso[b]", "c": "##"}).to_string();
    let harmless = json_without_commands(&document);
    assert!(!harmless.contains("##[") && !harmless.contains("##vso["), "{harmless}");
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(read(&harmless), read(&document));
}
