//! Files `.env`, from which Spin takes variables that the container does not set (`spin:crates/variables-env/src/lib.rs`). They are
//! read as an upper bound of what their reader takes (`dotenvy:dotenv/src/parse.rs`, tag v0.15.7).

use std::collections::BTreeSet;

use crate::image::shim_files::DotEnv;

/// Most bytes of such a file that are read.
pub(crate) const MAX_BYTES: usize = 64 << 10;
/// Most variables that one sets, and that one copies, each of which is looked for in the pod for each variable of an application.
const MAX_NAMES: usize = 256;
const MAX_COPIES: usize = 32;

/// Reads such a file; `None` if it is too long, no text, or has too many names.
pub(crate) fn parse(path: &str, bytes: &[u8]) -> Option<DotEnv> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_BYTES)?;
    if text.contains('\0') {
        return None;
    }
    let names = names(text)?;
    let copies = copies(text)?;
    Some(DotEnv { path: path.to_string(), names, copies })
}

/// All that stands before a `=`, in comments and quotes too.
fn names(text: &str) -> Option<BTreeSet<String>> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let mut found = BTreeSet::new();
    let mut parts = text.split('=');
    // Nothing is set by what follows the last one.
    let _ = parts.next_back();
    for part in parts {
        let name = part.trim_end().rsplit(|c| !is_of_name(c)).next();
        found.insert(name.unwrap_or_default().to_string());
        if found.len() > MAX_NAMES {
            return None;
        }
    }
    Some(found)
}

/// All that follows a `$`: letters and digits, with `_` in some readers, or everything up to a `}`, a further `$` too. No name of a variable
/// has the end of a line in it.
fn copies(text: &str) -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut rest = text;
    // What is in braces may be in others too.
    let mut left = 2 * text.len();
    while let Some((_, after)) = rest.split_once('$') {
        rest = after;
        if let Some(inside) = after.strip_prefix('{') {
            let name = inside.split(['}', '\n']).next().unwrap_or_default();
            left = left.checked_sub(name.len())?;
            found.insert(name.to_string());
        } else {
            let until = |is_of: fn(char) -> bool| after.split(|c| !is_of(c)).next().unwrap_or_default();
            found.insert(until(char::is_alphanumeric).to_string());
            found.insert(until(|c| c.is_alphanumeric() || c == '_').to_string());
        }
        if found.len() > MAX_COPIES {
            return None;
        }
    }
    found.remove("");
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<String>) {
        let found = parse("/.env", text.as_bytes()).unwrap();
        (found.names.into_iter().collect(), found.copies.into_iter().collect())
    }

    #[test]
    fn what_a_file_sets_and_copies_is_more_than_its_reader_takes_and_never_less() {
        for (text, names, copies) in [
            ("", &[][..], &[][..]),
            ("SPIN_VARIABLE_KEY=abc\nexport B.C = 'x'\n", &["B.C", "SPIN_VARIABLE_KEY"], &[]),
            ("A=\"${DB_PASSWORD}\"\nB=$TOKEN_A-$B", &["A", "B"], &["B", "DB_PASSWORD", "TOKEN", "TOKEN_A"]),
            ("# C=1\nA=x=y", &["A", "C", "x"], &[]),
            ("A=${un closed", &["A"], &["un closed"]),
            ("é=1", &[""], &[]),
            ("\u{feff}A=1", &["A"], &[]),
            ("A=$$B", &["A"], &["B"]),
            ("A=50$", &["A"], &[]),
            ("A=${A$B}", &["A"], &["A$B", "B"]),
            ("A=${A\nB=$C}", &["A", "B"], &["A", "C"]),
        ] {
            let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<String>>();
            assert_eq!(read(text), (owned(names), owned(copies)), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_or_no_text_is_not_read() {
        let many = |sign: &str| (0..300).flat_map(|n| format!("{sign}A{n}{sign}=").into_bytes()).collect();
        let texts: [Vec<u8>; 5] =
            [vec![0xff], b"\0".to_vec(), vec![b'a'; MAX_BYTES + 1], many(""), many("$")];
        for text in texts {
            assert_eq!(parse("/.env", &text), None);
        }
        assert!(parse("/.env", &vec![b'a'; MAX_BYTES]).is_some());
    }
}
