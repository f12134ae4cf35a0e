//! A property over generated cases: runs them from a seed, makes a failing one smaller, and counts what was shown.

use std::cell::RefCell;
use std::fmt::Debug;

use proptest::prelude::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::coverage::{Counts, Demand, Outcome, Required};
use super::node::Node;

/// What must not be.
pub type Difference = String;

/// What is shown of a kind of case.
pub struct Property<C> {
    /// Cases of a run, unless told otherwise.
    pub cases: u32,
    pub compare: fn(&mut Node, &C) -> Result<Outcome, Difference>,
    /// What is in a case, by field.
    pub forms: fn(&C) -> Vec<String>,
    pub required: Required,
}

/// A number of cases or a seed, as a person sets it.
fn set(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The cases of a run: a fixed number from a fixed seed, or from the one in `WASMGATE_ORACLE_SEED`;
/// `WASMGATE_ORACLE_CASES` sets how many images there are, and of the other kinds in proportion.
pub fn cases(usual: u32) -> u32 {
    const USUAL: u64 = 2000;
    set("WASMGATE_ORACLE_CASES")
        .map_or(usual, |images| u32::try_from(u64::from(usual) * images / USUAL).unwrap().max(1))
}

pub fn runner(cases: u32) -> TestRunner {
    let mut seed = [7_u8; 32];
    seed[..8].copy_from_slice(&set("WASMGATE_ORACLE_SEED").unwrap_or_default().to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4096, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

/// Whether a run has the usual cases, whose counts are the same each time, and more. Other seeds have other counts of what is rare.
pub fn is_usual(cases: u32, usual: u32) -> bool {
    cases >= usual && set("WASMGATE_ORACLE_SEED").is_none()
}

impl<C: Debug> Property<C> {
    /// Holds it against a node. What a run must hold is asked of one that is long enough to have it.
    pub fn hold(&self, cases_of: &impl Strategy<Value = C>) {
        let Some(node) = Node::start() else { return };
        let cases = cases(self.cases);
        let shared = RefCell::new((node, Counts::default(), false));
        let result = runner(cases).run(cases_of, |case| {
            let (node, counts, failed) = &mut *shared.borrow_mut();
            match (self.compare)(node, &case) {
                // While a failure is made smaller nothing is counted.
                Ok(outcome) if !*failed => counts.add((self.forms)(&case), outcome),
                Ok(_) => {}
                Err(difference) => {
                    *failed = true;
                    return Err(TestCaseError::fail(difference));
                }
            }
            Ok(())
        });
        let (_, counts, _) = shared.into_inner();
        if let Err(TestError::Fail(reason, case)) = result {
            panic!("{reason}\n{case:#?}\n{} cases before it", counts.cases());
        }
        result.unwrap();
        counts.close(if is_usual(cases, self.cases) { Demand::Whole(self.required) } else { Demand::Shares });
    }
}
