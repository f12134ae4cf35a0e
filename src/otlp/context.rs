//! Where a review belongs in a trace (W3C Trace Context).

use std::fmt::Write as _;

use ring::rand::{SecureRandom as _, SystemRandom};

/// The header of a request that says to which trace it belongs.
pub const TRACEPARENT: &str = "traceparent";

/// Letters of a `traceparent` of version 00: version, trace, span and flags.
const LENGTH: usize = 55;

/// A span and its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace; never zero.
    pub(super) trace: [u8; 16],
    /// The span; never zero.
    pub(super) span: [u8; 8],
    /// Whether who began the trace records it.
    pub(super) is_sampled: bool,
}

impl SpanContext {
    /// Reads the value of `traceparent` (W3C Trace Context, section 3.2); `None` where it has to be ignored. A later version may have more behind
    /// what version 00 has.
    pub fn parse(value: &str) -> Option<Self> {
        let (known, rest) = (value.get(..LENGTH)?, value.get(LENGTH..)?);
        let mut parts = known.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = bytes::<1>(version)?;
        let is_whole = rest.is_empty() || (version > 0 && rest.starts_with('-'));
        let context =
            Self { trace: bytes(trace)?, span: bytes(span)?, is_sampled: bytes::<1>(flags)?[0] & 1 == 1 };
        let is_valid = context.trace != [0; 16] && context.span != [0; 8];
        (version != 0xff && is_whole && is_valid).then_some(context)
    }

    /// A new span of the same trace, or of a new one; `None` if the system gives no random bytes.
    pub(super) fn begin(parent: Option<Self>) -> Option<Self> {
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        let random = SystemRandom::new();
        random.fill(&mut span).ok()?;
        match parent {
            Some(parent) => trace = parent.trace,
            None => random.fill(&mut trace).ok()?,
        }
        Some(Self { trace, span, is_sampled: true })
    }

    /// The trace, in hexadecimal.
    pub fn trace_id(&self) -> String {
        hexadecimal(&self.trace)
    }

    /// The span, in hexadecimal.
    pub fn span_id(&self) -> String {
        hexadecimal(&self.span)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// So many bytes in lower-case hexadecimal.
pub(super) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != 2 * N || !is_hexadecimal {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_the_recommendation_says() {
        let context = SpanContext::parse(VALID).unwrap();
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((context.span_id().as_str(), context.is_sampled), ("00f067aa0ba902b7", true));
        let of = |from: &str, to: &str| SpanContext::parse(&VALID.replace(from, to));
        assert!(!of("-01", "-00").unwrap().is_sampled);
        assert!(of("-01", "-03").unwrap().is_sampled, "flags that are not known are ignored");
        assert!(of("00-4b", "cc-4b").is_some(), "a later version begins as this one");
        assert!(SpanContext::parse(&format!("{}-what", VALID.replacen("00", "cc", 1))).is_some());
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        for odd in [
            String::new(),
            VALID.to_uppercase(),
            VALID.replacen("00", "ff", 1),
            format!("{VALID}-what"),
            format!("{}.what", VALID.replacen("00", "cc", 1)),
            VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
            VALID.replace('-', "_"),
            VALID.chars().take(54).collect(),
            VALID.replace("4b", "+b"),
            "ä".repeat(40),
        ] {
            assert_eq!(SpanContext::parse(&odd), None, "{odd}");
        }
    }

    #[test]
    fn a_span_has_the_trace_of_its_parent_or_a_new_one() {
        let parent = SpanContext::parse(VALID);
        let (child, other) = (SpanContext::begin(parent).unwrap(), SpanContext::begin(parent).unwrap());
        assert_eq!(child.trace, parent.unwrap().trace);
        assert_ne!(child.span, other.span);
        let (one, two) = (SpanContext::begin(None).unwrap(), SpanContext::begin(None).unwrap());
        assert_ne!(one.trace, two.trace);
    }
}
