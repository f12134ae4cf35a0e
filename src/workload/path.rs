//! The field in which a JSON text does not match its type, for error messages. Runs only after a failure.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

/// A field path such as `spec.containers[0].image`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// A field of an object.
    Key(String),
    /// An item of a list.
    Index(usize),
}

/// Where a text is wrong as a `T`: reads it once more, and notes the way to each value. Empty for the whole text.
pub(super) fn wrong_field<T: DeserializeOwned>(text: &str) -> Path {
    let mut json = serde_json::Deserializer::from_str(text);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut json) else { return Path(Vec::new()) };
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } | Segment::Enum { variant: key } => Some(Step::Key(key.clone())),
        Segment::Unknown => None,
    };
    Path(error.path().iter().filter_map(step).collect())
}

impl Path {
    /// The path in the form of `kubectl explain` after the kind: `.spec.containers.image`, up to the first map key.
    pub(super) fn help(&self) -> String {
        let keys = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        keys.take_while(|key| is_plain(key)).flat_map(|key| [".", key]).collect()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if !is_plain(key) => write!(formatter, "[\"{key}\"]")?,
                Step::Key(key) if depth == 0 => formatter.write_str(key)?,
                Step::Key(key) => write!(formatter, ".{key}")?,
                Step::Index(index) => write!(formatter, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Whether a key is readable after a dot; others, such as label keys, go into brackets.
fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_path_leads_over_keys_lists_and_names_that_are_no_field() {
        type Lists = BTreeMap<String, Vec<BTreeMap<String, String>>>;
        let text = r#"{"a": [], "b": [{"c": "},{[\""}, {"d": "x\\", "a/b": 7}]}"#;
        let path = wrong_field::<Lists>(text);
        assert_eq!(path.to_string(), "b[1][\"a/b\"]");
        assert_eq!(path.help(), ".b");
        assert_eq!(wrong_field::<Lists>(&text.replace("a/b", "e")).to_string(), "b[1].e");
    }

    #[test]
    fn a_text_that_is_wrong_as_a_whole_has_no_path() {
        for text in ["7", "", "{}", "]}\"\\"] {
            assert_eq!(wrong_field::<BTreeMap<String, String>>(text).to_string(), "", "{text}");
        }
    }
}
