//! `wasmgate policy test --watch`: the same again, whenever a file changes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Zoned;

use super::case;
use crate::cli::args::PolicyTestOptions;
use crate::cli::{Error, Exit, print, shown};
use crate::text;

/// Time between two looks at the files: short enough to seem at once, and cheap for the few files of a folder of rules.
const INTERVAL: Duration = Duration::from_millis(200);

/// Runs the tests until the command is interrupted. What stops one run is printed, since the next may be right.
pub async fn run(options: &PolicyTestOptions) -> Result<Exit, Error> {
    let rules = &options.sources.rules;
    let mut is_first = true;
    loop {
        let seen = state(options);
        if let Err(error) = Box::pin(super::test::run(options)).await {
            // A folder may be gone for a moment, as when a branch is switched.
            let ends = match error {
                Error::Write(_) | Error::FindOpa { .. } => true,
                Error::FindRules { .. } => is_first,
                _ => false,
            };
            if ends {
                return Err(error);
            }
            print(&shown(&format!("error: {}\n", text::lines(&error.message()))))?;
        }
        let time = Zoned::now().strftime("%H:%M:%S").to_string();
        print(
            format!("--- {time}: waiting for a change below {}\n", text::line(&rules.display().to_string()))
                .as_bytes(),
        )?;
        is_first = false;
        while state(options) == seen {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// What changes when a file is written, added or removed: of the rules and their cases, and of what cases with manifests are judged with.
fn state(options: &PolicyTestOptions) -> Vec<(PathBuf, Option<(SystemTime, u64)>)> {
    // A file that is being replaced is missing for a moment, and the run says what cannot be read.
    let of = |path: &Path| path.metadata().and_then(|of| Ok((of.modified()?, of.len()))).ok();
    let mut files = case::sources(&options.sources.rules).unwrap_or_default();
    let gate = &options.cases.gate;
    files.extend(gate.images.config.clone());
    for folder in [&gate.grants, &gate.cluster].into_iter().flatten() {
        files.extend(case::sources(folder).unwrap_or_default());
    }
    files.into_iter().map(|path| (path.clone(), of(&path))).collect()
}
