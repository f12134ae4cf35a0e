//! A file of records as the bodies of requests.

use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::value::RawValue;

use crate::audit::UploadFormat;
use crate::otlp;

/// The records of a file.
#[derive(Debug, Clone)]
pub(super) struct Records {
    text: Arc<[u8]>,
    /// Where each is in the text.
    places: Vec<Range<usize>>,
}

/// What was read of a file.
pub(super) struct Read {
    pub(super) records: Records,
    /// Lines that are no records: a crash ended them.
    pub(super) torn: u64,
}

/// Reads a file; `None` if it is gone, because it was removed to make space. Blocks.
pub(super) fn read(path: &Path) -> io::Result<Option<Read>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut places, mut torn, mut start) = (Vec::new(), 0, 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let place = start..start + line.len();
        start = place.end;
        match line.trim_ascii() {
            [] => {}
            line if is_json(line) => places.push(place),
            _ => torn += 1,
        }
    }
    Ok(Some(Read { records: Records { text: text.into(), places }, torn }))
}

fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(line).is_ok()
}

impl Records {
    pub(super) const fn len(&self) -> usize {
        self.places.len()
    }

    /// None of them, for a request that is empty.
    pub(super) fn none(&self) -> Self {
        Self { text: Arc::clone(&self.text), places: Vec::new() }
    }

    /// All but the first so many.
    pub(super) fn after(&self, count: usize) -> Self {
        let places = self.places.get(count..).unwrap_or_default().to_vec();
        Self { text: Arc::clone(&self.text), places }
    }

    /// Both halves.
    pub(super) fn halves(&self) -> [Self; 2] {
        let (first, second) = self.places.split_at(self.places.len() / 2);
        [first, second].map(|places| Self { text: Arc::clone(&self.text), places: places.to_vec() })
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().filter_map(|place| Some(self.text.get(place.clone())?.trim_ascii()))
    }

    /// The body of a request, compressed. Blocks.
    pub(super) fn body(&self, format: UploadFormat) -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        match format {
            UploadFormat::Otlp => {
                encoder.write_all(&otlp::logs_request(&self.lines().collect::<Vec<_>>()))?;
            }
            // An array, as OPA writes a chunk.
            UploadFormat::Opa => {
                encoder.write_all(b"[")?;
                for (index, event) in self.lines().enumerate() {
                    if index > 0 {
                        encoder.write_all(b",")?;
                    }
                    encoder.write_all(event)?;
                }
                encoder.write_all(b"]")?;
            }
        }
        encoder.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn a_request_is_an_array_of_all_events_some_or_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"a\":1}\n{\"torn\n\n2\n[3]").unwrap();
        let Some(Read { records, torn }) = read(file.path()).unwrap() else { panic!("it is there") };
        assert_eq!((records.len(), torn), (3, 1));
        let [first, second] = records.halves();
        let text = |records: &Records| {
            let mut text = String::new();
            let body = records.body(UploadFormat::Opa).unwrap();
            GzDecoder::new(body.as_slice()).read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(text(&records), r#"[{"a":1},2,[3]]"#);
        assert_eq!((text(&first).as_str(), text(&second).as_str()), (r#"[{"a":1}]"#, "[2,[3]]"));
        assert_eq!((text(&records.after(1)).as_str(), text(&records.after(4)).as_str()), ("[2,[3]]", "[]"));
        assert_eq!(text(&records.none()), "[]");
    }
}
