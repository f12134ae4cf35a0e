//! How the files of an image are written: each as an object with named fields, so that a script need not count positions.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::FileClass;

/// One of [`super::ImageFacts::files`]: `{"path": "/app.wasm", "class": "wasm"}`.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    path: Cow<'a, str>,
    #[serde(flatten)]
    class: Cow<'a, FileClass>,
}

pub(super) fn serialize<S: Serializer>(
    files: &[(String, FileClass)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let written =
        files.iter().map(|(path, class)| Written { path: path.into(), class: Cow::Borrowed(class) });
    serializer.collect_seq(written)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(String, FileClass)>, D::Error> {
    let files = Vec::<Written<'static>>::deserialize(deserializer)?;
    Ok(files.into_iter().map(|file| (file.path.into_owned(), file.class.into_owned())).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;
    use crate::image::{Digest, ImageFacts};

    #[test]
    fn every_class_of_file_is_written_as_one_flat_object_and_read_again() {
        let digest = Digest::of(b"");
        let mut facts = ImageFacts::blank(&digest, &digest);
        let native = FileClass::Native { magic: "ELF".into(), runs: true, found: true };
        facts.files = vec![
            ("/a.wasm".into(), FileClass::Wasm),
            ("/b".into(), native),
            ("/c.wasm".into(), FileClass::Unreadable { message: "too large".into() }),
            ("/d".into(), FileClass::Link { target: "a.wasm".into() }),
            ("/e".into(), FileClass::Other),
            ("/f".into(), FileClass::Varies { native: true, targets: vec!["a".into()] }),
            ("/g".into(), FileClass::Data),
        ];
        let written = to_value(&facts).unwrap();
        assert_eq!(
            written["files"],
            json!([
                {"path": "/a.wasm", "class": "wasm"},
                {"path": "/b", "class": "native", "magic": "ELF", "runs": true, "found": true},
                {"path": "/c.wasm", "class": "unreadable", "message": "too large"},
                {"path": "/d", "class": "link", "target": "a.wasm"},
                {"path": "/e", "class": "other"},
                {"path": "/f", "class": "varies", "native": true, "targets": ["a"]},
                {"path": "/g", "class": "data"},
            ])
        );
        assert_eq!(from_value::<ImageFacts>(written).unwrap().files, facts.files);
    }
}
