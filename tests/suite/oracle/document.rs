//! JSON documents as only an attacker writes them: a key twice, in other letters, with another value.

use serde_json::{Value, json};

/// A key of a document that is there once more, or is written otherwise.
#[derive(Debug, Clone)]
pub struct Twist {
    /// Which document or object.
    pub of: Object,
    pub key: &'static str,
    /// What is done to the key's letters.
    pub spelling: Spelling,
    /// Its value, as text; none for the value that another image has there.
    pub value: Option<String>,
    pub place: Place,
    pub around: Around,
}

/// A document, or an object inside of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    Index,
    IndexDescriptor,
    Platform,
    Manifest,
    LayerDescriptor,
    Config,
    Program,
    RootFs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    Same,
    Lower,
    Upper,
    /// The first letter in the other case.
    Swapped,
    /// With the letters that Unicode folds to `s` and `k`.
    Folded,
    /// With escapes.
    Escaped,
    /// A blank after it.
    Blank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Before,
    After,
    /// In the place of the right one.
    Instead,
}

/// What stands around the object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Around {
    #[default]
    Nothing,
    /// A byte order mark.
    Mark,
    Blanks,
    /// A second object after it.
    Second,
}

impl Twist {
    /// The object as text, with the key where it belongs.
    pub fn write(&self, object: &Value) -> String {
        let key = self.spelling.apply(self.key);
        let own = || object.get(self.key).cloned().unwrap_or_default().to_string();
        let twisted = format!("\"{key}\":{}", self.value.clone().unwrap_or_else(own));
        let fields = object.as_object().unwrap().iter();
        let fields = fields.filter(|(key, _)| self.place != Place::Instead || *key != self.key);
        let mut fields: Vec<String> = fields.map(|(key, value)| format!("{}:{value}", json!(key))).collect();
        fields.insert(if self.place == Place::Before { 0 } else { fields.len() }, twisted);
        let text = format!("{{{}}}", fields.join(","));
        match self.around {
            Around::Nothing => text,
            Around::Mark => format!("\u{feff}{text}"),
            Around::Blanks => format!(" \t\r\n{text}\n "),
            Around::Second => format!("{text}{{}}"),
        }
    }
}

impl Spelling {
    pub fn apply(self, key: &str) -> String {
        match self {
            Self::Same => key.into(),
            Self::Lower => key.to_lowercase(),
            Self::Upper => key.to_uppercase(),
            Self::Swapped => {
                let (first, rest) = key.split_at(1);
                let upper = first.to_uppercase();
                if upper == first { first.to_lowercase() + rest } else { upper + rest }
            }
            Self::Folded => key.replace(['s', 'S'], "\u{17f}").replace(['k', 'K'], "\u{212a}"),
            Self::Escaped => key
                .chars()
                .fold(String::new(), |text, letter| text + &format!("\\u{:04x}", u32::from(letter))),
            Self::Blank => format!("{key} "),
        }
    }
}
