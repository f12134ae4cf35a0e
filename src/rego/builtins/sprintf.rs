//! `sprintf`, with every verb, flag and complaint of Go's `fmt.Sprintf` on what OPA hands to it: integers, floats, and texts,
//! to which everything else is turned before (`open-policy-agent/opa:v1/topdown/strings.go`, Go's `fmt/print.go`).

use std::borrow::Cow;

use num_bigint::BigInt;

pub(super) use super::verbs::{Spec, pad};
use super::verbs::{float_verb, integer_verb, text_verb};
use crate::rego::call::{Call, Operands, Outcome};
use crate::rego::failure::Failure;
use crate::rego::number::{Number, steps_of};
use crate::rego::value::Value;

/// Widths and precisions beyond this are a mistake in Go.
const MAX_WIDTH: i64 = 1_000_000;
/// Bits that a decimal digit takes at least.
const BITS_OF_DIGIT: usize = 3;

/// A value as `fmt` prints it.
pub(super) trait Printed {
    /// The name of its type in Go; `None` for nil.
    fn type_name(&self) -> Option<&'static str>;
    /// The number that an asterisk stands for.
    fn count(&self) -> Option<i64>;
    /// Writes it by a verb.
    fn print(&self, out: &mut Output<'_>, verb: char, spec: &Spec) -> Result<(), Failure>;
}

/// What was printed so far, in no more bytes than a result may have.
pub(super) struct Output<'a> {
    pub text: String,
    call: &'a mut Call,
}

impl<'a> Output<'a> {
    /// Nothing yet.
    pub const fn new(call: &'a mut Call) -> Self {
        Self { text: String::new(), call }
    }

    /// Pays for work that may write little: so many steps.
    pub fn pay(&mut self, steps: usize) -> Result<(), Failure> {
        self.call.take(steps)
    }

    /// Adds a part.
    pub fn push(&mut self, part: &str) -> Result<(), Failure> {
        self.text.push_str(part);
        self.call.fits(self.text.len())
    }
}

/// An argument as Go sees it. A text is not copied: a verb may write a small part of it, and any number of verbs may write the same one.
pub(super) enum Argument<'a> {
    Int(i64),
    Big(BigInt),
    Float(f64),
    Text(Cow<'a, str>),
}

impl<'a> Argument<'a> {
    fn of(value: &'a Value) -> Self {
        match value {
            Value::Number(Number::Int(integer)) => Self::Int(*integer),
            Value::Number(Number::Text(text)) => Self::of_number(text),
            Value::String(text) => Self::Text(text.into()),
            other => Self::Text(other.to_rego().into()),
        }
    }

    fn of_number(text: &'a str) -> Self {
        if text.contains(['.', 'e', 'E']) {
            return match text.parse::<f64>() {
                Ok(float) if float.is_finite() => Self::Float(float),
                _ => Self::Text(text.into()),
            };
        }
        match (text.parse(), text.parse()) {
            (Ok(integer), _) => Self::Int(integer),
            (_, Ok(big)) => Self::Big(big),
            _ => Self::Text(text.into()),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Int(_) => "int64",
            Self::Big(_) => "*big.Int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
        }
    }
}

impl Printed for Argument<'_> {
    fn type_name(&self) -> Option<&'static str> {
        Some(self.name())
    }

    fn count(&self) -> Option<i64> {
        match self {
            Self::Int(integer) => Some(*integer),
            _ => None,
        }
    }

    fn print(&self, out: &mut Output<'_>, verb: char, spec: &Spec) -> Result<(), Failure> {
        match (self, verb) {
            (Self::Big(_), 'w') => Err(Failure::Halt("the verb `%w` is for errors".into())),
            (Self::Big(big), _) if verb != 'T' => {
                out.pay(steps_of(usize::try_from(big.bits()).unwrap_or(usize::MAX) / BITS_OF_DIGIT))?;
                out.push(&write(self, verb, spec))
            }
            _ => out.push(&write(self, verb, spec)),
        }
    }
}

struct Formatter<'a, A> {
    rest: &'a str,
    arguments: &'a [A],
    next: usize,
    reordered: bool,
    good_index: bool,
    /// Bytes behind the last `]`: there is none in a rest that is not longer.
    behind_brackets: usize,
    out: Output<'a>,
}

pub(super) fn sprintf(call: &mut Call, operands: Operands<'_>) -> Outcome {
    let (format, values) = (operands.text(0)?, operands.array(1)?);
    for value in values {
        if let Value::Number(Number::Text(digits)) = value {
            call.take(steps_of(digits.len()))?;
        }
    }
    let arguments: Vec<_> = values.iter().map(Argument::of).collect();
    formatted(call, format, &arguments).map(Value::String)
}

/// What Go's `fmt.Sprintf` says of these arguments.
pub(super) fn formatted<A: Printed>(
    call: &mut Call,
    format: &str,
    arguments: &[A],
) -> Result<String, Failure> {
    let out = Output::new(call);
    let behind_brackets = format.rsplit(']').next().map_or(0, str::len);
    let mut formatter = Formatter {
        rest: format,
        arguments,
        next: 0,
        reordered: false,
        good_index: true,
        behind_brackets,
        out,
    };
    formatter.run()?;
    Ok(formatter.out.text)
}

impl<A: Printed> Formatter<'_, A> {
    fn run(&mut self) -> Result<(), Failure> {
        while let Some((before, after)) = self.rest.split_once('%') {
            self.out.push(before)?;
            self.rest = after;
            self.good_index = true;
            self.directive()?;
        }
        self.out.push(self.rest)?;
        if !self.reordered && self.next < self.arguments.len() {
            self.complain_of_extras()?;
        }
        Ok(())
    }

    fn complain_of_extras(&mut self) -> Result<(), Failure> {
        let extras = self.arguments.get(self.next..).unwrap_or_default();
        self.out.push("%!(EXTRA ")?;
        for (place, argument) in extras.iter().enumerate() {
            if place > 0 {
                self.out.push(", ")?;
            }
            if let Some(name) = argument.type_name() {
                self.out.push(&format!("{name}="))?;
            }
            argument.print(&mut self.out, 'v', &Spec::default())?;
        }
        self.out.push(")")
    }

    fn directive(&mut self) -> Result<(), Failure> {
        let mut spec = Spec::default();
        self.flags(&mut spec);
        let has_index = self.argument_index();
        let has_index = self.width(&mut spec, has_index)?;
        if !self.precision(&mut spec, has_index)? {
            self.argument_index();
        }
        let mut letters = self.rest.chars();
        let Some(verb) = letters.next() else { return self.out.push("%!(NOVERB)") };
        self.rest = letters.as_str();
        if verb == '%' {
            self.out.push("%")
        } else if !self.good_index {
            self.out.push(&format!("%!{verb}(BADINDEX)"))
        } else if let Some(argument) = self.arguments.get(self.next) {
            self.next = self.next.saturating_add(1);
            argument.print(&mut self.out, verb, &spec)
        } else {
            self.out.push(&format!("%!{verb}(MISSING)"))
        }
    }

    fn flags(&mut self, spec: &mut Spec) {
        loop {
            let Some(letter) = self.rest.chars().next() else { return };
            match letter {
                '#' => spec.sharp = true,
                '0' => spec.zero = true,
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                ' ' => spec.space = true,
                _ => return,
            }
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
    }

    /// `[n]`: which argument comes next. Whether there is a number of one.
    fn argument_index(&mut self) -> bool {
        let Some(inside) = self.rest.strip_prefix('[') else { return false };
        self.reordered = true;
        let closed = if inside.len() > self.behind_brackets { inside.split_once(']') } else { None };
        let Some((number, after)) = closed.filter(|(number, after)| !(number.is_empty() && after.is_empty()))
        else {
            self.good_index = false;
            self.rest = inside;
            return false;
        };
        self.rest = after;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse::<i64>().ok().filter(|number| is_number && *number <= MAX_WIDTH);
        let index = number.and_then(|number| usize::try_from(number.checked_sub(1)?).ok());
        match index.filter(|index| *index < self.arguments.len()) {
            Some(index) => self.next = index,
            None => self.good_index = false,
        }
        number.is_some()
    }

    fn star(&mut self) -> Option<i64> {
        let found = self.arguments.get(self.next).and_then(Printed::count);
        self.next = self.next.saturating_add(1);
        found.filter(|count| count.abs_diff(0) <= MAX_WIDTH.unsigned_abs())
    }

    /// An index stands before the verb, or before an asterisk. Whether one still stands before what follows.
    fn width(&mut self, spec: &mut Spec, has_index: bool) -> Result<bool, Failure> {
        if let Some(after) = self.rest.strip_prefix('*') {
            self.rest = after;
            match self.star() {
                Some(width) => {
                    spec.minus |= width < 0;
                    spec.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => self.out.push("%!(BADWIDTH)")?,
            }
            return Ok(false);
        }
        spec.width = self.digits();
        self.good_index &= !(has_index && spec.width.is_some());
        Ok(has_index)
    }

    fn digits(&mut self) -> Option<usize> {
        let end = self.rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, after) = self.rest.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
        let number = digits.parse::<i64>().ok().filter(|number| number / 10 <= MAX_WIDTH);
        // Go gives up on the rest of the format.
        self.rest = if number.is_some() { after } else { "" };
        usize::try_from(number?).ok()
    }

    /// The same. A point at the very end is a verb.
    fn precision(&mut self, spec: &mut Spec, has_index: bool) -> Result<bool, Failure> {
        let Some(after) = self.rest.strip_prefix('.').filter(|after| !after.is_empty()) else {
            return Ok(has_index);
        };
        self.rest = after;
        self.good_index &= !has_index;
        let has_index = self.argument_index();
        if let Some(after) = self.rest.strip_prefix('*') {
            self.rest = after;
            spec.precision = self.star().and_then(|precision| usize::try_from(precision).ok());
            if spec.precision.is_none() {
                self.out.push("%!(BADPREC)")?;
            }
            return Ok(false);
        }
        spec.precision = Some(self.digits().unwrap_or(0));
        Ok(has_index)
    }
}

/// As `%v` writes it.
fn plain(argument: &Argument<'_>) -> String {
    write(argument, 'v', &Spec::default())
}

fn write(argument: &Argument<'_>, verb: char, spec: &Spec) -> String {
    if verb == 'T' {
        return text_verb(argument.name(), 's', spec).unwrap_or_default();
    }
    // `%+v` and `%#v` mean something else, which only a big integer, that formats itself, does not know.
    let own = Spec { plus: false, sharp: false, ..spec.clone() };
    let written = match argument {
        Argument::Text(_) if verb == 'v' && spec.sharp => with_verb(argument, 'q', &own),
        Argument::Int(_) | Argument::Float(_) | Argument::Text(_) if verb == 'v' => {
            with_verb(argument, verb, &own)
        }
        _ => with_verb(argument, verb, spec),
    };
    written.unwrap_or_else(|| {
        // It leaves out that it is a pointer, and the flags.
        if matches!(argument, Argument::Big(_)) {
            return format!("%!{verb}(big.Int={})", plain(argument));
        }
        // An error is what `%w` is for: it takes the flags of `%v`.
        let value = match verb {
            'w' => write(argument, 'v', spec),
            _ => with_verb(argument, 'v', spec).unwrap_or_default(),
        };
        format!("%!{verb}({}={value})", argument.name())
    })
}

/// `None` where the verb is none for such an argument.
pub(super) fn with_verb(argument: &Argument<'_>, verb: char, spec: &Spec) -> Option<String> {
    match argument {
        Argument::Int(integer) => integer_verb(&BigInt::from(*integer), Some(*integer), verb, spec),
        Argument::Big(integer) => integer_verb(integer, None, verb, spec),
        Argument::Float(float) => float_verb(*float, verb, spec),
        Argument::Text(text) => text_verb(text, verb, spec),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn written(format: &str, arguments: &str) -> String {
        let arguments = crate::rego::json::parse(arguments).unwrap();
        let operands = [Value::text(format), arguments];
        let mut call = Call::within(1 << 20);
        match sprintf(&mut call, Operands(&operands)).unwrap() {
            Value::String(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_digits_of_an_integer_are_paid_for_each_time_that_they_are_read_or_written() {
        let taken = |format: &str| {
            let number = Value::Number(Number::from_text(&"7".repeat(10_000)));
            let mut call = Call::within(1 << 20);
            call.allow(u64::MAX);
            assert!(sprintf(&mut call, Operands(&[Value::text(format), Value::Array(vec![number])])).is_ok());
            call.taken()
        };
        let (read, once) = (taken("%T"), taken("%d"));
        assert!(read > 1_000 && once > 2 * read, "{read} {once}");
        assert_eq!(taken("%[1]d%[1]d%[1]x") - read, 3 * (once - read));
    }

    /// Each line is what `opa eval` 1.22.2 prints for the same call.
    #[test]
    fn every_verb_and_flag_is_gos() {
        let cases = [
            ("%v %v %v %v %v", r#"[1, 1.5, "a", [1, "b"], {"k": true}]"#, r#"1 1.5 a [1, "b"] {"k": true}"#),
            ("%s %s %s", r"[true, null, [1]]", "true null [1]"),
            ("%d", "[1.5]", "%!d(float64=1.5)"),
            ("%d", r#"["a"]"#, "%!d(string=a)"),
            ("%s", "[1]", "%!s(int64=1)"),
            ("%t", "[true]", "%!t(string=true)"),
            ("%T %T %T", r#"[1, 1.0, "a"]"#, "int64 float64 string"),
            ("%q %c %U %x %X %o %b %O", "[65, 65, 65, 255, 255, 8, 5, 8]", "'A' A U+0041 ff FF 10 101 0o10"),
            ("%q %+q %#q", r#"["aé", "aé", "a"]"#, "\"aé\" \"a\\u00e9\" `a`"),
            ("%5d|%-5d|%05d|%+d|% d", "[42, 42, 42, 42, 42]", "   42|42   |00042|+42| 42"),
            (
                "%6.2f|%-8.1f|%08.3f|%e|%g",
                "[3.14159, 2.5, 3.14159, 1234.5678, 1e21]",
                "  3.14|2.5     |0003.142|1.234568e+03|1e+21",
            ),
            ("%.2s|%5s|%-5s|%x", r#"["héllo", "é", "a", "hi"]"#, "hé|    é|a    |6869"),
            ("%d %d", "[1]", "1 %!d(MISSING)"),
            ("%d", "[1, 2]", "1%!(EXTRA int64=2)"),
            ("%[2]d %[1]d", "[1, 2]", "2 1"),
            ("%[3]d", "[1]", "%!d(BADINDEX)"),
            ("%*d|%.*f", "[5, 42, 2, 3.14159]", "   42|3.14"),
            ("100%%", "[]", "100%"),
            ("100%", "[]", "100%!(NOVERB)"),
            ("%!", "[]", "%!!(MISSING)"),
            ("%z", "[1]", "%!z(int64=1)"),
            (
                "%d %s",
                "[18446744073709551616, 18446744073709551616]",
                "18446744073709551616 18446744073709551616",
            ),
            ("%v %v", "[1000000.0, 123456789.0]", "1e+06 1.23456789e+08"),
            ("%+v %+v %+v", "[1, 1.5, 18446744073709551616]", "1 1.5 +18446744073709551616"),
            ("%#v %#v %#v", r#"["a", true, [1]]"#, r#""a" "true" "[1]""#),
            ("%.*d", "[-1, 5]", "%!(BADPREC)5"),
            ("%5.", r#"["a"]"#, "%!.(string=    a)"),
            ("%[1][2]d", "[1, 2]", "%![(int64=1)2]d"),
            ("%#.0f|%#.0e", "[2.0, 2.0]", "2.|2.e+00"),
            ("%#x|%#X|%#.2x|%#.0x", "[2.0, 2.5, -2.0, 1.5]", "0x1.0000p+01|0X1.4P+01|-0x1.00p+01|0x1.p+01"),
            ("%#O|%#.5o|%#O|%#o|%O", "[42, 8, 0, 8, 8]", "0o052|00010|0o0|010|0o10"),
            ("%#q|%#q|%#+q", r#"["\ufeff", "\u0080\t", "\u2028"]"#, "\"\\ufeff\"|`\u{80}\t`|`\u{2028}`"),
            ("%.2T|%5T", r#"[1, "a"]"#, "in|string"),
            ("%#U|%#U|%#U", "[1, 65, 32]", "U+0001|U+0041 'A'|U+0020 ' '"),
            ("%#w|%+w", r#"["a", 1]"#, r#"%!w(string="a")|%!w(int64=1)"#),
            ("%*d|%*d", "[-5, 1, -9223372036854775808, 3]", "1    |%!(BADWIDTH)3"),
        ];
        for (format, arguments, expected) in cases {
            assert_eq!(written(format, arguments), expected, "{format} {arguments}");
        }
    }

    /// It prints the words that the integer has in memory.
    #[test]
    fn a_large_integer_as_an_error_ends_the_evaluation() {
        let large = crate::rego::json::parse("[18446744073709551616]").unwrap();
        let ended = sprintf(&mut Call::within(1 << 20), Operands(&[Value::text("%w"), large]));
        assert!(matches!(ended, Err(Failure::Halt(_))));
    }

    /// The closing one is looked for in the whole format, and not behind each opening one.
    #[test]
    fn brackets_that_do_not_close_take_time_in_proportion() {
        let began = Instant::now();
        assert_eq!(written(&"%[".repeat(1_000_000), "[]"), "%[".repeat(500_000));
        assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
        assert_eq!(written("%[1]d %[%[1]d", "[5]"), "5 %!d(BADINDEX)");
        assert_eq!(written("%[1]d%[d", "[5]"), "5%!d(BADINDEX)");
    }

    #[test]
    fn a_width_that_would_fill_the_memory_ends_the_evaluation() {
        let operands = [Value::text("%1000000d%1000000d"), Value::Array(vec![Value::int(1), Value::int(1)])];
        let mut call = Call::within(1 << 20);
        assert!(matches!(sprintf(&mut call, Operands(&operands)), Err(Failure::Halt(_))));
    }
}
