//! `wasmgate policy bench`: how long the compiled rules take, on the gate's engine.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::annotate::Stated;
use super::opa::Opa;
use super::{case, cases, trial};
use crate::cli::args::PolicyBenchOptions;
use crate::cli::{Error, Exit, build, inspect};
use crate::policy::{Engine, ExactDocument, PolicySet};
use crate::text;

/// Evaluations before the counted ones.
const WARM_UP: u32 = 20;

/// How long one case took, in microseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    case: String,
    input_bytes: usize,
    median: u128,
    p90: u128,
    p99: u128,
    longest: u128,
}

/// Evaluates each case again and again, one after the other.
pub async fn run(options: &PolicyBenchOptions) -> Result<Exit, Error> {
    trial::folder(&options.sources)?;
    let opa = Opa::of(&options.sources)?;
    let (rules, _) = trial::complete(&opa, &options.sources)?;
    let found = case::read(rules)?;
    if found.is_empty() {
        return Err(Error::NothingToTest { path: rules.display().to_string() });
    }
    let inputs = Box::pin(cases::inputs(&options.cases, &found, options.sources.no_schema)).await?;
    let limits = build::limits(&build::settings(&options.cases.gate)?);
    // With the optimiser of a gate that serves.
    let set =
        trial::compiled(&opa, &options.sources, &Stated::default(), (&Engine::new()?, limits)).await?.set;
    let mut measured = Vec::new();
    for (case, input) in found.iter().zip(inputs) {
        let wrong = |message: String| Error::BenchCase { case: case.name.clone(), message };
        let input = input.map_err(wrong)?;
        let times = times(&set, &input, options.count).await.map_err(wrong)?;
        measured.push(Measured::of(case.name.clone(), &input, &times));
    }
    let report = json!({ "unit": "µs", "count": options.count, "cases": measured });
    inspect::show(&report, options.output, |_| table(&measured)).map(|()| Exit::Success)
}

/// The times of the evaluations, from the shortest to the longest. The error says why the rules could not be evaluated.
async fn times(set: &PolicySet, input: &ExactDocument, count: u32) -> Result<Vec<Duration>, String> {
    let mut times = Vec::new();
    for number in 0..WARM_UP.saturating_add(count) {
        let started = Instant::now();
        let evaluation = set.evaluate(input).await;
        let time = started.elapsed();
        if let Some(failure) = evaluation.failures.into_iter().next() {
            return Err(failure.message);
        }
        if number >= WARM_UP {
            times.push(time);
        }
    }
    times.sort_unstable();
    Ok(times)
}

impl Measured {
    fn of(case: String, input: &ExactDocument, sorted: &[Duration]) -> Self {
        // The smallest time that this share of all times does not exceed.
        let quantile = |share: usize| {
            let place = sorted.len().saturating_mul(share).div_ceil(1000).saturating_sub(1);
            sorted.get(place).map_or(0, Duration::as_micros)
        };
        Self {
            case,
            input_bytes: serde_json::to_string(input).map_or(0, |text| text.len()),
            median: quantile(500),
            p90: quantile(900),
            p99: quantile(990),
            longest: quantile(1000),
        }
    }
}

fn table(measured: &[Measured]) -> String {
    let mut out =
        format!("{:>9} {:>9} {:>9} {:>9} {:>9}  CASE\n", "MEDIAN", "P90", "P99", "LONGEST", "INPUT");
    for Measured { case, input_bytes, median, p90, p99, longest } in measured {
        let times = [median, p90, p99, longest].map(|time| format!("{:>9}", format!("{time} µs"))).join(" ");
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{times} {:>9}  {}", format!("{input_bytes} B"), text::line(case));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        let measured = Measured::of("a".into(), &json!({}).into(), &times);
        assert_eq!((measured.median, measured.p90, measured.p99, measured.longest), (100, 180, 198, 200));
        assert_eq!(Measured::of("a".into(), &json!({}).into(), &times[..1]).p99, 1);
    }
}
