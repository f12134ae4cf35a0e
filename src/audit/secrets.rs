//! Takes masked values out of texts: a rule may have quoted one in its message, and a failure may have named one.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::json;
use crate::policy::Violation;

/// Replacement of a masked value.
pub const REDACTED: &str = "**REDACTED**";

/// Shortest value that is looked for, in characters: shorter ones occur in ordinary words.
pub const SHORTEST: usize = 6;

/// Most bytes of values that are looked for. The search takes some hundred bytes of memory for each.
const MOST_BYTES: usize = 256 << 10;

/// What is shown, and in which a value may stand in clear.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    /// The strings of a document, without its keys.
    Tree(&'a Value),
    /// The strings of a document that is text, without its keys.
    Json(&'a str),
    /// A text.
    Text(&'a str),
}

/// The values that were masked in one object.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    values: BTreeSet<String>,
    bytes: usize,
    /// Whether there are more values than can be looked for.
    overflows: bool,
}

impl Secrets {
    /// Takes in the strings of a value that is masked, as they are, without blanks around them, and as JSON writes them. The recursion is bounded
    /// by the parser, which refuses documents deeper than 128 levels.
    pub fn take(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().for_each(|item| self.take(item)),
            Value::Object(members) => members.values().for_each(|member| self.take(member)),
            Value::Number(number) => self.text(&number.to_string()),
            _ => {}
        }
    }

    /// Takes the texts of a value that is written as JSON. One that cannot be read can not be looked for either, so no text is shown then.
    pub(super) fn take_json(&mut self, written: &str) {
        let inner = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        if let Some(plain) = inner.filter(|inner| !inner.contains('\\')) {
            return self.text(plain);
        }
        let mut reader = serde_json::Deserializer::from_str(written);
        let read = Taken(&mut *self).deserialize(&mut reader).and_then(|()| reader.end());
        if read.is_err() {
            self.give_up();
        }
    }

    /// Looks for no value any more: nothing of a text is shown.
    pub(super) fn give_up(&mut self) {
        self.overflows = true;
        self.values.clear();
    }

    fn text(&mut self, text: &str) {
        let text = text.trim();
        self.add(text);
        if !text.contains(|c: char| matches!(c, '"' | '\\') || c.is_ascii_control()) {
            return;
        }
        let quoted = Value::from(text).to_string();
        self.add(quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default());
    }

    fn add(&mut self, text: &str) {
        if text.chars().take(SHORTEST).count() < SHORTEST || self.values.contains(text) {
            return;
        }
        self.bytes += text.len();
        if self.bytes > MOST_BYTES {
            return self.give_up();
        }
        if !self.overflows {
            self.values.insert(text.to_owned());
        }
    }

    /// What takes these values out of texts. A value that stands in clear in one of `shown` is no secret there, and stays:
    /// a variable may hold the name of its container.
    pub fn hider(&self, shown: &[Shown<'_>]) -> Hider {
        if self.overflows {
            return Hider(Redaction::All);
        }
        let all = automaton(self.values.iter());
        let Some(all) = all else { return Hider(Redaction::None) };
        let mut clear = BTreeSet::new();
        let mut look = |text: &str| clear.extend(all.find_iter(text).map(|hit| hit.pattern().as_usize()));
        for one in shown.iter().copied() {
            match one {
                Shown::Tree(value) => strings(value, &mut look),
                Shown::Json(document) => json::strings(document, &mut look),
                Shown::Text(text) => look(text),
            }
        }
        if clear.is_empty() {
            return Hider(Redaction::Values(all));
        }
        let hidden = self.values.iter().enumerate().filter(|(index, _)| !clear.contains(index));
        Hider(automaton(hidden.map(|(_, value)| value)).map_or(Redaction::None, Redaction::Values))
    }

    /// What takes these values out of texts about an object of which rules found these violations. What the built-in rules say is no
    /// secret either: they quote no value as it is written.
    pub fn hider_of<'v>(&self, found: impl Iterator<Item = &'v Violation>, shown: &[Shown<'_>]) -> Hider {
        let mut all = shown.to_vec();
        let own = found.filter(|violation| violation.is_built_in);
        all.extend(own.map(|violation| Shown::Text(&violation.message)));
        self.hider(&all)
    }

    /// Whether nothing was masked that could be looked for.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && !self.overflows
    }
}

/// Takes in a value as it is read: a tree of it may take eighty times its bytes, of objects of which nothing was counted before.
struct Taken<'s>(&'s mut Secrets);

impl<'de> DeserializeSeed<'de> for Taken<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Taken<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.text(&value.to_string());
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.text(&value.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.take(&Value::from(value));
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.text(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Taken(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key::<IgnoredAny>()?.is_some() {
            members.next_value_seed(Taken(&mut *self.0))?;
        }
        Ok(())
    }
}

/// Finds the values of a list, the longest where several begin at one place. `None` for none.
fn automaton<'a>(values: impl Iterator<Item = &'a String>) -> Option<AhoCorasick> {
    let values: Vec<&String> = values.collect();
    if values.is_empty() {
        return None;
    }
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(values).ok()
}

/// Calls `each` with every string of a document that is no key. The recursion is bounded, since the gate parsed or wrote the document.
fn strings(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, each)),
        Value::Object(members) => members.values().for_each(|member| strings(member, each)),
        _ => {}
    }
}

/// Takes values out of texts.
#[derive(Debug)]
pub struct Hider(Redaction);

#[derive(Debug)]
enum Redaction {
    /// There is nothing to hide.
    None,
    /// The values become [`REDACTED`].
    Values(AhoCorasick),
    /// Too much was masked to look for each value, so nothing of a text is shown.
    All,
}

impl Hider {
    /// The text without the values.
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.0 {
            Redaction::All if !text.is_empty() => Cow::Borrowed(REDACTED),
            Redaction::Values(values) if values.is_match(text) => Cow::Owned(redacted(values, text)),
            _ => Cow::Borrowed(text),
        }
    }

    /// Hides the values in place.
    pub fn hide_in(&self, text: &mut String) {
        let hidden = self.hide(text);
        if hidden != text.as_str() {
            *text = hidden.into_owned();
        }
    }

    /// Takes them out of what a rule says. Names of rules, containers and capabilities stay.
    pub fn hide_in_violation(&self, violation: &mut Violation) {
        self.hide_in(&mut violation.message);
        violation.remedy.iter_mut().for_each(|remedy| self.hide_in(remedy));
    }

    /// Whether nothing of any text is shown.
    pub const fn hides_all(&self) -> bool {
        matches!(self.0, Redaction::All)
    }
}

fn redacted(values: &AhoCorasick, text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    values.replace_all_with(text, &mut shown, |_, _, shown| {
        shown.push_str(REDACTED);
        true
    });
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    impl Secrets {
        /// The values that are looked for.
        pub(in crate::audit) fn values(&self) -> &BTreeSet<String> {
            &self.values
        }
    }

    fn secrets(values: &Value) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.take(values);
        secrets
    }

    #[test]
    fn a_value_as_json_is_looked_for_like_the_value() {
        let values = json!(["hunter2", " padded\n", "say \"hunters\"", 1_234_567, {"a": ["hunter3"]}, "caf\u{e9} \u{7f}x", true]);
        let mut as_json = Secrets::default();
        for value in values.as_array().unwrap() {
            as_json.take_json(&value.to_string());
        }
        as_json.take_json(r#""\u0068unter2""#);
        assert_eq!(as_json.values, secrets(&values).values);
        // Of a member that is there twice another reader may take either.
        let mut twice = Secrets::default();
        twice.take_json(r#"{"a": "hunter2", "a": ["hunter3", 1234.5678, -1234567]}"#);
        assert_eq!(twice.values, secrets(&json!(["hunter2", "hunter3", 1234.5678, -1_234_567])).values);
    }

    #[test]
    fn of_a_value_that_cannot_be_read_no_text_is_shown() {
        let mut secrets = secrets(&json!("hunter2"));
        secrets.take_json(r#""\ud800 alone""#);
        assert_eq!(secrets.hider(&[]).hide("anything"), REDACTED);
        assert!(!secrets.is_empty());
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for unreadable in [deep.as_str(), r#"{"a": "hunter3""#, r#"["hunter3"] x"#, r#"{"\ud800": 1}"#] {
            let mut secrets = Secrets::default();
            secrets.take_json(unreadable);
            assert_eq!(secrets.hider(&[]).hide("anything"), REDACTED, "{unreadable}");
        }
    }

    #[test]
    fn a_value_is_known_as_shown_in_a_tree_a_json_text_and_a_text() {
        let secrets = secrets(&json!(["orders-api", "hunter2"]));
        let said = "orders-api has hunter2";
        for shown in [
            Shown::Tree(&json!({"hunter2": ["orders-api"]})),
            Shown::Json(r#"{"hunter2": ["\u006frders-api"]}"#),
            Shown::Text("the orders-api"),
        ] {
            assert_eq!(secrets.hider(&[shown]).hide(said), "orders-api has **REDACTED**", "{shown:?}");
        }
    }

    #[test]
    fn values_are_taken_out_the_longest_first_and_in_the_forms_that_rules_quote() {
        let hider =
            secrets(&json!(["hunter2", "hunter2-and-more", " padded\n", "say \"hunters\"", 1_234_567]))
                .hider(&[]);
        for (said, shown) in [
            ("bad hunter2-and-more, hunter2", "bad **REDACTED**, **REDACTED**"),
            ("`padded`", "`**REDACTED**`"),
            (r#"not say "hunters""#, "not **REDACTED**"),
            (r#"{"a":"say \"hunters\""}"#, r#"{"a":"**REDACTED**"}"#),
            ("number 1234567", "number **REDACTED**"),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(hider.hide(said), shown);
        }
    }

    #[test]
    fn a_value_that_is_shown_anyway_stays_in_a_message() {
        let secrets = secrets(&json!(["orders-api", "hunter2"]));
        let document = json!({"containers": [{"name": "orders-api"}]});
        assert_eq!(
            secrets.hider(&[Shown::Tree(&document)]).hide("container `orders-api` has hunter2"),
            "container `orders-api` has **REDACTED**"
        );
        assert_eq!(secrets.hider(&[]).hide("container `orders-api`"), "container `**REDACTED**`");
    }

    #[test]
    fn what_the_built_in_rules_say_is_no_secret_and_a_bundle_with_their_name_hides_nothing_less() {
        let secrets = secrets(&json!(["orders-api"]));
        let said = |is_built_in| Violation {
            message: "container `orders-api`".into(),
            remedy: Some("rename orders-api".into()),
            bundle: Some("baseline".into()),
            is_built_in,
            ..Violation::default()
        };
        let hidden = |mut violation: Violation| {
            secrets.hider_of(std::iter::once(&violation.clone()), &[]).hide_in_violation(&mut violation);
            (violation.message, violation.remedy.unwrap())
        };
        assert_eq!(hidden(said(true)), ("container `orders-api`".into(), "rename orders-api".into()));
        assert_eq!(hidden(said(false)), (format!("container `{REDACTED}`"), format!("rename {REDACTED}")));
    }

    #[test]
    fn short_values_are_words_of_messages_and_stay() {
        let hider = secrets(&json!(["true", "grant", 80])).hider(&[]);
        assert_eq!(hider.hide("no grant allows port 80"), "no grant allows port 80");
    }

    #[test]
    fn of_more_values_than_can_be_looked_for_no_text_is_shown() {
        let many: Vec<String> = (0..40_000).map(|number| format!("secret-{number}")).collect();
        let hider = secrets(&json!(many)).hider(&[]);
        let mut text = String::from("quotes secret-39999");
        hider.hide_in(&mut text);
        assert_eq!(text, REDACTED);
        assert_eq!(hider.hide(""), "");
    }

    proptest! {
        #[test]
        fn no_value_is_left_in_a_text(values in prop::collection::vec("[a-z\"\\\\é]{6,12}", 1..6), words in prop::collection::vec(0..6_usize, 0..8)) {
            let hider = secrets(&json!(values)).hider(&[]);
            let words: Vec<&str> =
                words.iter().map(|word| values.get(*word).map_or("word", String::as_str)).collect();
            let text = format!("<{}>", words.join("><"));
            let shown = hider.hide(&text);
            prop_assert!(values.iter().all(|value| !shown.contains(value.trim())), "{shown}");
        }
    }
}
