//! Letters as Go 1.26 sorts them, which has Unicode 15 (`unicode.Version`).

use regex::bytes::Regex;

use crate::rego::call::Call;
use crate::rego::failure::Failure;
use crate::rego::quote;

/// Whether a letter is of a class, which takes longer than to copy it. A class is kept under a name that no pattern of a rule has:
/// none begins with an asterisk, and that of a glob has a blank.
fn is_in(call: &mut Call, (name, class): (&str, &str), letter: char) -> Result<bool, Failure> {
    call.take(1)?;
    let class = call
        .compiled(name, || Regex::new(class).map_err(|_| Failure::Halt("it cannot sort letters".into())))?;
    Ok(class.is_match(letter.encode_utf8(&mut [0; 4]).as_bytes()))
}

/// Whether a name may have it.
pub(super) fn is_in_name(call: &mut Call, letter: char) -> Result<bool, Failure> {
    if letter.is_ascii() {
        return Ok(letter == '_' || letter.is_ascii_alphanumeric());
    }
    is_in(call, ("*name", r"^[[\p{L}\p{Nd}]&&\p{Age=15.0}]$"), letter)
}

/// Whether it is written as it is where a text is quoted.
pub(super) fn prints(call: &mut Call, letter: char) -> Result<bool, Failure> {
    if letter.is_ascii() {
        return Ok(!letter.is_ascii_control());
    }
    Ok(quote::prints(letter) && is_in(call, ("*age", r"^\p{Age=15.0}$"), letter)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go has no such class, so a rule that asks for it has no answer, whatever was rendered before.
    #[test]
    fn a_pattern_of_a_rule_is_not_taken_for_a_class_of_letters() {
        let mut call = Call::within(1 << 20);
        assert_eq!((is_in_name(&mut call, 'é'), prints(&mut call, 'é')), (Ok(true), Ok(true)));
        assert!(call.expression(r"^\p{Age=15.0}$").is_err());
        assert!(call.expression(r"^[[\p{L}\p{Nd}]&&\p{Age=15.0}]$").is_err());
    }
}
