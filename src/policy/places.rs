//! Which places of the input the rules of a compiled policy may read, so that it can be told whether a value that is not known matters to
//! them, and whether two pods that differ there may be told apart by them.
//!
//! Where [`super::reads`] follows the input to the keys of its keys, this follows it to any depth: into what is iterated over
//! (`open-policy-agent/opa:internal/compiler/wasm/wasm.go`, `compileScan`), and into the functions of Rego that a value is handed to. Whatever
//! else is done with a value counts as reading all of it.

use std::collections::{BTreeMap, BTreeSet};

use super::locations::Code;
use super::options::{OBJECT_GET, operand_of};
use super::reads::{INPUT, InputReads, MOST_OPERANDS, Step, steps};

/// The function of OPA's library that finds the next key of a value.
const ITERATOR: &str = "opa_value_iter";
/// Most ways that locals hold. A policy in which there are more may read all.
const MOST_WAYS: usize = 20_000;
/// Most work: instructions that are looked at, again for as long as further ways are found, and ways that they lead on. Where it takes more, the
/// policy may read all.
const MOST_WORK: usize = 1 << 28;
/// The work of a way, in instructions.
const WORK_OF_WAY: usize = 16;
/// Longest way that is followed. A longer one counts as read with all that is there.
const LONGEST: usize = 32;

/// A key on the way from the input to a value; `None` for any key and any index.
type WayKey = Option<String>;
/// The keys from the input to a value.
type Way = Vec<WayKey>;

/// The places of the input that rules read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct InputPlaces {
    /// Those that are only asked for: whether there is something.
    asked: BTreeSet<Way>,
    /// Those of which the value is used, and so may be all that is in it.
    used: BTreeSet<Way>,
}

impl InputPlaces {
    /// Parses a module; `None` where it cannot be told: OPA did not write it, or too much is done with the input.
    pub fn of(module: &[u8]) -> Option<Self> {
        Self::within(module, MOST_WORK)
    }

    fn within(module: &[u8], left: usize) -> Option<Self> {
        let code = Code::read(module)?;
        if InputReads::of(&code).is_whole {
            return None;
        }
        let rules = code.bodies.iter().filter(|(index, _)| code.is_rule(**index));
        let rules = rules.map(|(index, body)| Some((*index, Body::of(steps(body)?)?)));
        let rules = rules.collect::<Option<BTreeMap<u32, Body>>>()?;
        let input = |rule: &u32| {
            (Local { function: *rule, block: None, number: INPUT }, BTreeSet::from([Vec::new()]))
        };
        let held = rules.keys().map(input).collect();
        let (ways, places) = (rules.len(), Self::default());
        let mut following = Following { code: &code, held, ways, left, places };
        loop {
            let before = following.ways;
            for (rule, body) in &rules {
                following.follow(*rule, body)?;
            }
            if following.ways == before {
                return Some(following.places);
            }
        }
    }

    /// Whether they read the value at a place, a part of it, or what it is a part of.
    pub fn may_read(&self, place: &[String]) -> bool {
        let meets =
            |way: &Way| way.iter().zip(place).all(|(one, other)| one.as_ref().is_none_or(|one| one == other));
        self.used.iter().any(meets) || self.asked.iter().any(|way| way.len() >= place.len() && meets(way))
    }
}

/// The steps of a function. OPA compiles each definition of a rule to a block at the top level of the function, and uses the same locals in
/// all of them.
struct Body {
    steps: Vec<Step>,
    /// For each step the block at the top level that it is in, by its place among them.
    blocks: Vec<Option<usize>>,
    /// The locals that a block may use without having set them: parameters, and what blocks hand to one another.
    common: BTreeSet<u32>,
}

impl Body {
    /// `None` where a call has more operands than OPA writes.
    fn of(steps: Vec<Step>) -> Option<Self> {
        let is_operand = |step: &Step| matches!(step, Step::Get(_) | Step::Constant(_));
        if steps.split(|step| !is_operand(step)).any(|operands| operands.len() > MOST_OPERANDS) {
            return None;
        }
        let (mut blocks, mut common, mut next) = (Vec::new(), BTreeSet::new(), 0_usize);
        let mut set = SetLocals::default();
        for step in &steps {
            if *step == Step::Open {
                if set.is_outside() {
                    next = next.saturating_add(1);
                }
                set.open();
            }
            blocks.push((!set.is_outside()).then_some(next));
            match step {
                Step::Close => set.close(),
                Step::Else => {
                    set.close();
                    set.open();
                }
                Step::Set(local) => set.add(*local),
                Step::Get(local) if !set.has(*local) => drop(common.insert(*local)),
                _ => {}
            }
        }
        Some(Self { steps, blocks, common })
    }

    /// The local of this number, as it is used at a step.
    fn local(&self, function: u32, at: usize, number: u32) -> Local {
        let block = self.blocks.get(at).copied().flatten().filter(|_| !self.common.contains(&number));
        Local { function, block, number }
    }
}

/// The locals that were set before a step, whatever way led there: by a block that is open, and not by one that has ended, which a
/// branch may have left before.
#[derive(Default)]
struct SetLocals {
    /// What each open block has set itself, the innermost last.
    blocks: Vec<BTreeSet<u32>>,
    /// How many of these have set a local.
    counts: BTreeMap<u32, usize>,
}

impl SetLocals {
    fn open(&mut self) {
        self.blocks.push(BTreeSet::new());
    }

    fn close(&mut self) {
        for local in self.blocks.pop().unwrap_or_default() {
            if let Some(count) = self.counts.get_mut(&local) {
                *count = count.saturating_sub(1);
            }
        }
    }

    fn add(&mut self, local: u32) {
        if self.blocks.last_mut().is_some_and(|block| block.insert(local)) {
            *self.counts.entry(local).or_default() += 1;
        }
    }

    fn has(&self, local: u32) -> bool {
        self.counts.get(&local).is_some_and(|count| *count > 0)
    }

    fn is_outside(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// A local of a function; one of a block alone where that sets it before it uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Local {
    function: u32,
    block: Option<usize>,
    number: u32,
}

/// What is done with a value.
enum Use {
    /// What is at a key of it is looked for, and put into this local.
    Found(WayKey, u32),
    /// Its keys are gone through.
    Iterated,
    /// It is put into this local.
    Copied(u32),
    /// It is handed to this function, as its parameter of this number.
    Handed(u32, u32),
    /// Anything else.
    Used,
}

/// The places that were found so far.
struct Following<'a> {
    code: &'a Code<'a>,
    /// The ways to the values that a local may hold. None of them is ever taken to hold something else later.
    held: BTreeMap<Local, BTreeSet<Way>>,
    /// How many there are of them.
    ways: usize,
    /// How much more work may be done.
    left: usize,
    places: InputPlaces,
}

impl Following<'_> {
    /// Adds what a function does with what its locals hold; `None` where that is too much.
    fn follow(&mut self, function: u32, body: &Body) -> Option<()> {
        self.left = self.left.checked_sub(body.steps.len())?;
        for (at, step) in body.steps.iter().enumerate() {
            let Step::Get(local) = step else { continue };
            let Some(ways) = self.held.get(&body.local(function, at, *local)).cloned() else { continue };
            self.left = self.left.checked_sub(ways.len().saturating_mul(WORK_OF_WAY))?;
            let what = self.use_at(&body.steps, at);
            let local = |number| body.local(function, at, number);
            for way in ways {
                self.add(way, &what, local)?;
            }
        }
        Some(())
    }

    fn use_at(&self, steps: &[Step], at: usize) -> Use {
        let is_iterator = |function: u32| self.code.name(function) == Some(ITERATOR);
        let after = steps.get(at.saturating_add(1)..).unwrap_or_default();
        match after {
            [Step::Constant(address), Step::Call(get), Step::Set(found), ..] if self.code.is_get(*get) => {
                Use::Found(self.code.text(*address).map(String::from), *found)
            }
            [Step::Get(_), Step::Call(get), Step::Set(found), ..] if self.code.is_get(*get) => {
                Use::Found(None, *found)
            }
            [
                Step::Constant(address),
                Step::Get(_) | Step::Constant(_),
                Step::Call(get),
                Step::Set(found),
                ..,
            ] if self.code.name(*get) == Some(OBJECT_GET) => {
                // What is no text is a list of keys, or a key of another type.
                self.code.text(*address).map_or(Use::Used, |key| Use::Found(Some(key.into()), *found))
            }
            [Step::Get(_), Step::Call(next), Step::Set(_), ..] if is_iterator(*next) => Use::Iterated,
            [Step::Set(other), ..] => Use::Copied(*other),
            _ => match operand_of(self.code, steps, at) {
                Some((function, parameter)) => Use::Handed(function, parameter),
                None => Use::Used,
            },
        }
    }

    fn add(&mut self, mut way: Way, what: &Use, local: impl Fn(u32) -> Local) -> Option<()> {
        if way.len() >= LONGEST {
            self.places.used.insert(way);
            return Some(());
        }
        match what {
            Use::Found(key, number) => {
                way.push(key.clone());
                self.places.asked.insert(way.clone());
                self.hold(local(*number), way)
            }
            Use::Iterated => {
                way.push(None);
                self.places.asked.insert(way);
                Some(())
            }
            Use::Copied(number) => self.hold(local(*number), way),
            Use::Handed(function, number) => {
                self.hold(Local { function: *function, block: None, number: *number }, way)
            }
            Use::Used => {
                self.places.used.insert(way);
                Some(())
            }
        }
    }

    fn hold(&mut self, local: Local, way: Way) -> Option<()> {
        if self.held.entry(local).or_default().insert(way) {
            self.ways = self.ways.checked_add(1).filter(|ways| *ways <= MOST_WAYS)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_read(places: &InputPlaces, place: &str) -> bool {
        places.may_read(&place.split('.').map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_baseline_reads_what_it_names_and_nothing_else() {
        let places = InputPlaces::of(include_bytes!("../../policies/baseline/policy.wasm")).unwrap();
        for place in ["containers", "containers.0", "request.operation", "workload.template"] {
            assert!(may_read(&places, place), "{place}: {places:?}");
        }
        for place in ["object", "object.spec", "grants", "request.uid", "workload.labels.app"] {
            assert!(!may_read(&places, place), "{place}: {places:?}");
        }
    }

    /// What is read where a rule does this. The value at `spec` is in its local 2.
    fn of_steps(steps: &str) -> Option<InputPlaces> {
        let module = format!(
            r#"(module
                (import "env" "f" (func $other (param i32 i32) (result i32)))
                (memory 1)
                (data (i32.const 16) "\08\00\00\00\04\00\00\00\1c\00\00\00spec")
                (data (i32.const 48) "\08\00\00\00\03\00\00\00\3c\00\00\00env")
                (func $opa_value_get (param i32 i32) (result i32) unreachable)
                (func $opa_value_iter (param i32 i32) (result i32) unreachable)
                (func $builtin_object_get (param i32 i32 i32) (result i32) unreachable)
                (func $g0.data.wasmgate.reader (param i32 i32 i32 i32) (result i32) (local i32)
                    local.get 3 i32.const 48 call $opa_value_get local.set 4 i32.const 0)
                (func $g0.data.wasmgate.violations (param i32 i32) (result i32) (local i32 i32 i32 i32)
                    local.get 0 i32.const 16 call $opa_value_get local.set 2 {steps} i32.const 0))"#
        );
        InputPlaces::of(&wat::parse_str(module).unwrap())
    }

    const EACH: &str = "local.get 2 local.get 3 call $opa_value_iter local.tee 3 drop \
                        local.get 2 local.get 3 call $opa_value_get local.set 4";
    const ITS_ENV: &str = "local.get 4 i32.const 48 call $opa_value_get local.set 5";

    #[test]
    fn a_value_is_followed_through_lists_and_functions_to_the_keys_that_are_named() {
        for (steps, read, not_read) in [
            ("nop".to_string(), "spec", "spec.env"),
            ("local.get 2 i32.const 48 call $opa_value_get local.set 4".into(), "spec.env", "spec.env.0"),
            (
                "local.get 2 i32.const 48 local.get 1 call $builtin_object_get local.set 4".into(),
                "spec.env",
                "spec.other",
            ),
            (EACH.into(), "spec.0", "spec.0.env"),
            (format!("{EACH} {ITS_ENV}"), "spec.0.env", "spec.0.name"),
            // The local is set further below, as in a loop.
            (format!("{ITS_ENV} {EACH}"), "spec.0.env", "spec.0.name"),
            (
                "local.get 0 local.get 1 i32.const 48 local.get 2 call $g0.data.wasmgate.reader local.set 3"
                    .into(),
                "spec.env",
                "spec.other",
            ),
            (
                "local.get 2 local.set 4 local.get 4 i32.const 48 call $opa_value_get local.set 5".into(),
                "spec.env",
                "spec.0",
            ),
        ] {
            let places = of_steps(&steps).unwrap();
            assert!(may_read(&places, read) && may_read(&places, "spec"), "{steps}: {places:?}");
            assert!(!may_read(&places, not_read) && !may_read(&places, "object"), "{steps}: {places:?}");
        }
    }

    /// Each definition of a rule is a block.
    #[test]
    fn a_block_does_not_get_what_another_one_has_put_into_a_local() {
        let other = "i32.const 48 local.set 4";
        let places = of_steps(&format!("block {EACH} end block {other} {ITS_ENV} end")).unwrap();
        assert!(may_read(&places, "spec.0") && !may_read(&places, "spec.0.env"), "{places:?}");
        for within in [format!("block {EACH} end block {ITS_ENV} end"), format!("block {EACH} end {ITS_ENV}")]
        {
            let places = of_steps(&within).unwrap();
            assert!(may_read(&places, "spec.0.env"), "it does not set it first: {within}: {places:?}");
        }
    }

    /// Where a part of a block may be left before it sets a local, the local holds what it held before.
    #[test]
    fn a_local_that_a_block_may_not_have_set_holds_what_another_one_has_put_into_it() {
        const OTHER: &str = "i32.const 48 local.set 4";
        for (block, may_hold) in [
            (format!("{OTHER} block {ITS_ENV} end"), false),
            (format!("{OTHER} loop {ITS_ENV} {OTHER} end"), false),
            (format!("block br 0 {OTHER} end {ITS_ENV}"), true),
            (format!("loop {OTHER} end {ITS_ENV}"), true),
            (format!("loop {ITS_ENV} {OTHER} end"), true),
            (format!("i32.const 0 if {OTHER} else {ITS_ENV} end"), true),
            (format!("i32.const 0 if {OTHER} else {OTHER} {ITS_ENV} end"), false),
        ] {
            let places = of_steps(&format!("block {EACH} end block {block} end")).unwrap();
            assert!(may_read(&places, "spec.0"), "{block}: {places:?}");
            assert_eq!(may_read(&places, "spec.0.env"), may_hold, "{block}: {places:?}");
        }
    }

    #[test]
    fn what_has_more_operands_than_opa_writes_cannot_be_told() {
        let call =
            |count: usize| of_steps(&format!("{} call $other local.set 3", "i32.const 0 ".repeat(count)));
        assert!(call(2).is_some() && call(MOST_OPERANDS + 1).is_none());
    }

    #[test]
    fn all_of_a_value_may_be_read_where_anything_else_is_done_with_it() {
        for steps in [
            "local.get 2 i32.const 48 call $other local.set 3",
            "i32.const 48 local.get 2 call $opa_value_get local.set 3",
            "local.get 2 i32.const 48 call $opa_value_get drop",
            "local.get 2 i32.const 4 local.get 1 call $builtin_object_get local.set 3",
            "local.get 1 local.get 1 i32.const 48 local.get 2 call $g0.data.wasmgate.reader local.set 3",
            "local.get 2 return",
        ] {
            let places = of_steps(steps).unwrap();
            assert!(may_read(&places, "spec.env.0.value"), "{steps}: {places:?}");
            assert!(!may_read(&places, "object.spec"), "{steps}: {places:?}");
        }
        let whole = "local.get 0 i32.const 48 call $other local.set 3";
        assert_eq!(of_steps(whole), None);
    }

    /// Each step leads further into the same value.
    #[test]
    fn a_way_without_an_end_counts_as_read_from_some_place_on() {
        let places = of_steps("local.get 2 i32.const 48 call $opa_value_get local.set 2").unwrap();
        assert!(may_read(&places, "spec.env.env"));
        let long = vec!["env"; LONGEST + 5].join(".");
        assert!(may_read(&places, &format!("spec.{long}")), "{places:?}");
    }

    /// Each way that is found takes one more look at all instructions.
    #[test]
    fn what_takes_too_long_to_follow_cannot_be_told() {
        let copy = |number: usize| format!("local.get {} local.set {} ", 2 + number, 3 + number);
        let copies = (0..100).rev().map(copy).collect::<Vec<_>>().concat();
        let module = format!(
            r#"(module
                (memory 1)
                (data (i32.const 16) "\08\00\00\00\04\00\00\00\1c\00\00\00spec")
                (func $opa_value_get (param i32 i32) (result i32) unreachable)
                (func $g0.data.wasmgate.violations (param i32 i32) (result i32) (local {})
                    {copies} local.get 0 i32.const 16 call $opa_value_get local.set 2 i32.const 0))"#,
            "i32 ".repeat(102)
        );
        let module = wat::parse_str(module).unwrap();
        assert!(may_read(&InputPlaces::of(&module).unwrap(), "spec"));
        // A hundred looks at two hundred instructions.
        assert_eq!(InputPlaces::within(&module, 20_000), None);
    }

    #[test]
    fn what_opa_did_not_write_cannot_be_told() {
        for module in [&b""[..], b"\0asm\x01\0\0\0\x0a\xff", b"no module"] {
            assert_eq!(InputPlaces::of(module), None);
        }
    }
}
