//! Foreign TOML: what it may become in memory is counted before it is parsed.

use serde_json::Value;
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::malformed::Malformed;

/// Most bytes that a document may take beside its text. An application of 128 components with ten keys each takes a third of that.
const MAX_TAKEN: usize = 24 << 20;

/// A table with one key: a leaf of each of the two trees in which it is kept has space for eleven
/// (`rust-lang/rust:library/alloc/src/collections/btree/node.rs`, `CAPACITY`), of 120 bytes in what `toml` reads (`toml:src/de/parser`,
/// `DeTable`) and 56 in what is made of it. A list is smaller.
const TABLE: usize = 2304;
/// A value after the first one: half of a leaf's space is empty after it was split, and a vector that grows is there twice.
const VALUE: usize = 448;
/// A token, and what the parser makes of it, each in a vector that grows.
const TOKEN: usize = 128;

/// Parses a document if what it may become is bounded.
pub(super) fn read(text: &str) -> Result<Value, Malformed> {
    if taken(text) > MAX_TAKEN {
        return Err(Malformed::new(format!(
            "its tables and values take more than {} MiB of memory; leave out what Spin does not need",
            MAX_TAKEN >> 20
        )));
    }
    toml::from_str(text).map_err(|error| Malformed::new(error.message().to_string()))
}

/// An upper bound of what a document takes beside its text, whether or not it is valid. Each part of a name with dots may be a table.
fn taken(text: &str) -> usize {
    let each = Source::new(text).lex().map(|token| match token.kind() {
        TokenKind::LeftCurlyBracket | TokenKind::LeftSquareBracket | TokenKind::Dot => TABLE + TOKEN,
        TokenKind::Equals | TokenKind::Comma => VALUE + TOKEN,
        _ => TOKEN,
    });
    each.fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_text_is_no_table() {
        // The last token is the end.
        assert_eq!(taken("a=\"[{.,='\" # [{.,="), 2 * TOKEN + VALUE + 4 * TOKEN);
        assert_eq!(taken("[[a.b]]"), 7 * TOKEN + 3 * TABLE + TOKEN);
        assert_eq!(taken(""), TOKEN);
    }

    #[test]
    fn a_document_of_many_tables_is_refused_before_it_is_parsed() {
        let tables = |count: usize| format!("a = [{}]", vec!["{}"; count].join(","));
        assert!(read(&tables(1000)).is_ok());
        let refused = read(&tables(10_000)).unwrap_err();
        assert!(refused.0.contains("more than 24 MiB of memory"), "{refused}");
        assert!(!read("a = ").unwrap_err().0.contains("memory"), "another question");
    }
}
