//! `wasmgate replay`: what other policies would have said of recorded decisions.

pub mod compare;
mod report;
mod table;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use compare::Compared;
use flate2::bufread::MultiGzDecoder;

pub use report::Report;

use super::args::ReplayOptions;
use super::report::{BundleWarning, bundle_warnings};
use super::{Error, Exit, build, inspect, print, warn};
use crate::admission::State;
use crate::admission::replay::{self, Exceptions, NotReplayable, RecordedDecision, ReplayTerms};
use crate::config::{self, Settings};
use crate::sources::BundleSource;
use crate::text;

/// Longest line of a decision log that is read, in bytes: twice the largest review that the gate takes, and what rules read of it.
const LONGEST_LINE: u64 = 64 << 20;
/// How an archive of gzip begins (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Most decisions that a report lists; the rest is counted.
const MOST_LISTED: usize = 10_000;

/// Judges all recorded decisions again. The exit code is 1 if one would change, else 3 if one cannot be decided.
pub async fn run(options: Box<ReplayOptions>) -> Result<Exit, Error> {
    let settings = settings(&options)?;
    let state = build::state(&settings).await?;
    // What other bundles would have said then.
    let takes_options = options.gate.images.config.is_some();
    let terms = ReplayTerms { exceptions: exceptions(&settings), now: None, takes_options };
    let mut report = Report { bundle_warnings: bundle_warnings(&state), ..Report::default() };
    for path in &options.logs {
        read(path, (&state, terms), &mut report).await?;
    }
    if report.replayed == 0 {
        return Err(Error::NothingToReplay(table::left(&report)));
    }
    let text = |report: &Report| table::text(report, inspect::terminal_width());
    print(&inspect::written(&report, Some("ReplayReport"), options.output, text)?)?;
    Ok(match report {
        Report { changed: 1.., .. } => Exit::Changed,
        Report { undecidable: 1.., .. } | Report { may_depend_on_masked: 1.., .. } => Exit::Unread,
        _ => Exit::Success,
    })
}

/// The configuration, with each bundle of `--bundle` in the place of the one of its name, or beside the others. It decides even where the
/// former one runs in the shadow: what is asked is what it would do then. The bundles of the configuration do what they do in the gate.
fn settings(options: &ReplayOptions) -> Result<Settings, Error> {
    let mut gate = options.gate.clone();
    let bundles = std::mem::take(&mut gate.bundles);
    let mut file = config::load(gate.images.config.as_deref())?;
    let mut given = BTreeSet::new();
    for place in bundles {
        // Nothing is admitted here, and what is tried is often not signed yet.
        let source = BundleSource { may_be_unsigned: true, ..source(&place) };
        let name = source.name();
        file.policies.baseline &= name != "baseline";
        // The second of a name has no place, and is refused with the rest of the configuration.
        let is_first = given.insert(name.clone());
        let mut known = file.policies.bundles.iter_mut();
        if let Some(known) = known.find(|known| is_first && known.name() == name) {
            *known = BundleSource { name: Some(name), judges: known.judges, ..source };
            continue;
        }
        let known = file.policies.bundles.iter().map(BundleSource::name);
        let known: Vec<_> = known.chain(file.policies.baseline.then(|| "baseline".into())).collect();
        if name != "baseline" {
            // A name that is misspelt would replace nothing.
            let (name, others) = (text::line(&name), listed(&known));
            warn(&format!("bundle `{name}` is judged beside {others}"));
        }
        file.policies.bundles.push(BundleSource { name: Some(name), ..source });
    }
    build::settings_of(file, &gate)
}

fn listed(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{}`", text::line(name))).collect();
    if names.is_empty() { "no other".into() } else { names.join(", ") }
}

/// `[NAME=]PLACE`.
fn source(written: &str) -> BundleSource {
    match written.split_once('=') {
        Some((name, from)) if !name.is_empty() && !name.contains(['/', ':', '?']) => {
            BundleSource { name: Some(name.into()), ..BundleSource::of(from) }
        }
        _ => BundleSource::of(written),
    }
}

/// Whose exceptions count: those of a folder, if one is named.
pub fn exceptions(settings: &Settings) -> Exceptions {
    if settings.file.grants.is_some() { Exceptions::Given } else { Exceptions::Recorded }
}

async fn read(path: &Path, by: (&State, ReplayTerms), report: &mut Report) -> Result<(), Error> {
    let failed = |error: io::Error| Error::ReadLog { path: path.display().to_string(), source: error };
    let mut log: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(path).map_err(failed)?))
    };
    // As logs are kept that were rotated.
    if log.fill_buf().map_err(failed)?.starts_with(&GZIP) {
        log = Box::new(BufReader::new(MultiGzDecoder::new(log)));
    }
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = log.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(failed)?;
        if bytes == 0 {
            return Ok(());
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            again(&line, by, report).await;
        }
    }
}

async fn again(line: &[u8], (state, terms): (&State, ReplayTerms), report: &mut Report) {
    let Ok(recorded) = serde_json::from_slice::<RecordedDecision>(line) else {
        report.unreadable += 1;
        return;
    };
    report.decisions += 1;
    let replayed = match replay::replay(state, &recorded, terms).await {
        Ok(replayed) => replayed,
        Err(NotReplayable::NotJudged) => return report.not_judged += 1,
        Err(NotReplayable::Failed) => return report.failed += 1,
        Err(NotReplayable::NoInput) => return report.without_input += 1,
    };
    report.replayed += 1;
    let compared = Compared::of(&recorded, replayed);
    report.changed += usize::from(compared.is_changed());
    report.undecidable += usize::from(compared.undecidable);
    report.may_depend_on_masked += usize::from(!compared.undecidable && !compared.masked.is_empty());
    if compared.is_changed() || compared.undecidable || !compared.masked.is_empty() {
        if report.listed.len() < MOST_LISTED {
            report.listed.push(compared);
        } else {
            report.not_listed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_named_by_what_stands_before_its_place_or_by_its_place() {
        for (written, name, from) in [
            ("platform=new.tar.gz", "platform", "new.tar.gz"),
            ("new.tar.gz", "new", "new.tar.gz"),
            ("https://example.com/a.tar.gz?b=c", "a", "https://example.com/a.tar.gz?b=c"),
            ("dir/a=b.tar.gz", "a=b", "dir/a=b.tar.gz"),
        ] {
            let found = source(written);
            assert_eq!((found.name().as_str(), found.from.as_str()), (name, from), "{written}");
        }
    }
}
