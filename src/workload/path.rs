//! Finds the field at a position of a JSON text, for error messages. Runs only after a failure.

use std::fmt;

/// A field path such as `spec.containers[0].image`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// An open object, with the last key read, if any.
    Key(Option<String>),
    /// An open list, with the position of the item being read.
    Index(usize),
}

/// The path of the value that a parser was reading when it stopped at `line` and `column`, in `serde_json`'s counting:
/// lines from one, columns in bytes read on that line.
pub(super) fn path_at(text: &str, line: usize, column: usize) -> Path {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut scan = Scan { open: Vec::new(), wants_key: false };
    let end = before.saturating_add(column);
    let mut bytes = text.bytes().take(end);
    let mut last = b' ';
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => scan.string(&mut bytes),
            other => scan.punctuation(other),
        }
        last = byte;
    }
    // A parser that stops right after a bracket refuses the whole list or object.
    if matches!(last, b'[' | b'{') {
        scan.open.pop();
    }
    Path(scan.open)
}

struct Scan {
    open: Vec<Step>,
    wants_key: bool,
}

impl Scan {
    fn punctuation(&mut self, byte: u8) {
        match byte {
            b'{' => self.enter(Step::Key(None)),
            b'[' => self.enter(Step::Index(0)),
            b'}' | b']' => drop(self.open.pop()),
            b':' => self.wants_key = false,
            b',' => self.next_item(),
            _ => {}
        }
    }

    fn enter(&mut self, step: Step) {
        self.wants_key = matches!(step, Step::Key(_));
        self.open.push(step);
    }

    fn next_item(&mut self) {
        match self.open.last_mut() {
            Some(Step::Index(index)) => *index += 1,
            Some(Step::Key(_)) => self.wants_key = true,
            None => {}
        }
    }

    /// Reads the rest of a string; a key is kept as written, escapes included.
    fn string(&mut self, bytes: &mut impl Iterator<Item = u8>) {
        let mut raw = Vec::new();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => raw.extend([byte].into_iter().chain(bytes.next())),
                other => raw.push(other),
            }
        }
        if self.wants_key
            && let Some(Step::Key(key)) = self.open.last_mut()
        {
            *key = Some(String::from_utf8_lossy(&raw).into_owned());
        }
    }
}

impl Path {
    /// The path in the form of `kubectl explain` after the kind: `.spec.containers.image`, up to the first map key.
    pub(super) fn help(&self) -> String {
        let keys = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => key.as_deref(),
            Step::Index(_) => None,
        });
        keys.take_while(|key| is_plain(key)).flat_map(|key| [".", key]).collect()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(None) => {}
                Step::Key(Some(key)) if !is_plain(key) => write!(formatter, "[\"{key}\"]")?,
                Step::Key(Some(key)) if depth == 0 => formatter.write_str(key)?,
                Step::Key(Some(key)) => write!(formatter, ".{key}")?,
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
    use super::*;

    #[test]
    fn strings_with_brackets_and_escapes_do_not_confuse_the_path() {
        let text = "{\"a\":\"},{[\\\"\",\n \"b\":[ {\"c\":1}, {\"d\":\"x\\\\\",\"e\":7}]}";
        let column = text.lines().nth(1).unwrap().find('7').unwrap() + 1;
        assert_eq!(path_at(text, 2, column).to_string(), "b[1].e");
        assert_eq!(path_at(text, 2, column).help(), ".b.e");
    }

    #[test]
    fn a_position_outside_the_text_does_not_panic() {
        for (line, column) in [(0, 0), (9, 9), (usize::MAX, usize::MAX), (1, usize::MAX)] {
            assert!(path_at("{\"a\":[", line, column).to_string().len() <= 4);
        }
        assert_eq!(path_at("]}\"\\", 1, 4).to_string(), "");
    }
}
