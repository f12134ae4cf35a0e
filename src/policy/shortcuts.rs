//! Quicker code for functions of OPA's library in which the built-in rules spend most of their time: they go through texts byte by byte. It
//! stands before the code of the library, which does the rest.

use wasmparser::{BinaryReader, FunctionBody, Parser, Payload};

/// A function with quicker code.
pub(super) struct Shortcut {
    /// Its name in the module.
    pub function: &'static str,
    /// How many operands it takes, all of which are words.
    pub operands: usize,
    /// Their names, and those of locals of its own.
    names: [&'static str; 2],
    /// The code, in the text format of WebAssembly.
    code: &'static str,
}

/// What is hashed by [`text_hash`]. A module has no other function for that (`open-policy-agent/opa:wasm/src/value.c`), so what is written for
/// it has to be hashed in the same way.
const HASH: Shortcut = Shortcut {
    function: "opa_value_hash",
    operands: 1,
    names: [
        "(param $value i32)",
        "(local $bytes i32) (local $length i32) (local $last i32) (local $word i64) (local $hash i64)",
    ],
    // Of the types of values, those of texts alone are multiples of four.
    code: "
        (if (i32.eqz (i32.and (i32.load8_u (local.get $value)) (i32.const 3))) (then
            (local.set $bytes (i32.load offset=8 (local.get $value)))
            (local.set $length (i32.load offset=4 (local.get $value)))
            (local.set $hash (i64.extend_i32_u (local.get $length)))
            (if (i32.ge_u (local.get $length) (i32.const 8)) (then
                (local.set $last (i32.sub (i32.add (local.get $bytes) (local.get $length)) (i32.const 8)))
                (block $all (loop $more
                    (br_if $all (i32.ge_u (local.get $bytes) (local.get $last)))
                    (local.set $word (i64.xor (local.get $hash) (i64.load align=1 (local.get $bytes))))
                    (local.set $hash (i64.rotl
                        (i64.mul
                            (i64.xor (local.get $word) (i64.shr_u (local.get $word) (i64.const 32)))
                            (i64.const 0x9e3779b97f4a7c15))
                        (i64.const 27)))
                    (local.set $bytes (i32.add (local.get $bytes) (i32.const 8)))
                    (br $more)))
                (local.set $word (i64.load align=1 (local.get $last))))
            (else (if (i32.ge_u (local.get $length) (i32.const 4)) (then
                (local.set $word (i64.or
                    (i64.load32_u align=1 (local.get $bytes))
                    (i64.shl
                        (i64.load32_u align=1
                            (i32.sub (i32.add (local.get $bytes) (local.get $length)) (i32.const 4)))
                        (i64.const 32)))))
            (else (if (local.get $length) (then
                (local.set $word (i64.or
                    (i64.load8_u (local.get $bytes))
                    (i64.or
                        (i64.shl
                            (i64.load8_u
                                (i32.add (local.get $bytes) (i32.shr_u (local.get $length) (i32.const 1))))
                            (i64.const 8))
                        (i64.shl
                            (i64.load8_u
                                (i32.sub (i32.add (local.get $bytes) (local.get $length)) (i32.const 1)))
                            (i64.const 16)))))))))))
            (local.set $word (i64.xor (local.get $hash) (local.get $word)))
            (return (i32.wrap_i64 (i64.rotl
                (i64.mul
                    (i64.xor (local.get $word) (i64.shr_u (local.get $word) (i64.const 32)))
                    (i64.const 0x9e3779b97f4a7c15))
                (i64.const 27))))))",
};

/// What compares as many bytes of two texts (`open-policy-agent/opa:wasm/src/str.c`): it goes over those that are the same, as long as there
/// are eight, and then four.
const COMPARE: Shortcut = Shortcut {
    function: "opa_strncmp",
    operands: 3,
    names: ["(param $one i32) (param $other i32) (param $length i32)", ""],
    code: "
        (block $all (loop $more
            (br_if $all (i32.lt_s (local.get $length) (i32.const 8)))
            (br_if $all (i64.ne
                (i64.load align=1 (local.get $one)) (i64.load align=1 (local.get $other))))
            (local.set $one (i32.add (local.get $one) (i32.const 8)))
            (local.set $other (i32.add (local.get $other) (i32.const 8)))
            (local.set $length (i32.sub (local.get $length) (i32.const 8)))
            (br $more)))
        (if (i32.ge_s (local.get $length) (i32.const 4)) (then
            (if (i32.eq (i32.load align=1 (local.get $one)) (i32.load align=1 (local.get $other))) (then
                (local.set $one (i32.add (local.get $one) (i32.const 4)))
                (local.set $other (i32.add (local.get $other) (i32.const 4)))
                (local.set $length (i32.sub (local.get $length) (i32.const 4)))))))",
};

/// All of them.
pub(super) const SHORTCUTS: [Shortcut; 2] = [HASH, COMPARE];

impl Shortcut {
    /// The body of the function with the quicker code before its own; `None` where it cannot be read.
    pub fn before(&self, old: &[u8]) -> Option<Vec<u8>> {
        let [parameters, own_locals] = self.names;
        let mut locals = FunctionBody::new(BinaryReader::new(old, 0)).get_locals_reader().ok()?;
        let mut declared = String::new();
        for _ in 0..locals.get_count() {
            let (count, ty) = locals.read().ok()?;
            // The functions have some dozen.
            let count = usize::try_from(count).ok().filter(|count| *count <= 1_000)?;
            declared.push_str(&format!("(local {ty}) ").repeat(count));
        }
        let code = self.code;
        let module = wat::parse_str(format!(
            "(module (func {parameters} (result i32) {declared} {own_locals} {code}))"
        ));
        let module = module.ok()?;
        let body = Parser::new(0).parse_all(&module).find_map(|payload| match payload {
            Ok(Payload::CodeSectionEntry(body)) => Some(body),
            _ => None,
        })?;
        let code = body.as_bytes().strip_suffix(&[END])?;
        let (_, rest) = old.split_at_checked(first_operator(old)?)?;
        Some([code, rest].concat())
    }
}

/// `end`.
const END: u8 = 0x0b;

/// Where in a body the code begins, after the locals.
fn first_operator(body: &[u8]) -> Option<usize> {
    let body = FunctionBody::new(BinaryReader::new(body, 0));
    usize::try_from(body.get_operators_reader().ok()?.original_position()).ok()
}

/// The hash of a text, as a module with this code has it. It takes eight bytes at once, the last of which it may have taken before; of shorter texts
/// the first and the last four, or the first one, the one in the middle, and the last one.
pub(super) fn text_hash(text: &[u8]) -> u32 {
    let start = u64::try_from(text.len()).unwrap_or_default();
    let (hash, word) = if let Some(last) = text.last_chunk() {
        let before = text.len().saturating_sub(1) / 8;
        let words = text.as_chunks().0.iter().take(before);
        (words.fold(start, |hash, word| step(hash, u64::from_le_bytes(*word))), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        let [first, last] = [first, last].map(|half| u64::from(u32::from_le_bytes(*half)));
        (start, first | (last << 32))
    } else {
        let [first, middle, last] = [text.first(), text.get(text.len() / 2), text.last()]
            .map(|byte| byte.copied().unwrap_or_default());
        (start, u64::from(u32::from_le_bytes([first, middle, last, 0])))
    };
    u32::try_from(step(hash, word) & u64::from(u32::MAX)).unwrap_or_default()
}

/// The multiplier is 2 to the power of 64, divided by the golden ratio: its highest bits depend on all bits of what was there before, and are turned
/// to where they name a bucket.
const fn step(hash: u64, word: u64) -> u64 {
    let mixed = hash ^ word;
    (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(27)
}
