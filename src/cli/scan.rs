//! `wasmgate scan`: judges every pod and template of a cluster, or of manifests, as it stands, and changes nothing.

mod cluster;
mod collect;
mod document;
mod files;
mod filter;
mod html;
mod identity;
mod judge;
mod junit;
mod model;
mod owner;
mod place;
mod progress;
mod sarif;
mod table;
mod workflow;

use std::time::Duration;

use jiff::Timestamp;

use super::args::{ScanFormat, ScanOptions};
use super::{Error, Exit, build, engine, inspect, print};
use crate::admission::State;
use crate::config::Overrides;
use crate::judge::verdict::POLICY_ERROR;
use crate::text;
use crate::watch;

use collect::Collector;
use filter::Filter;
use judge::Judge;
use model::Scan;
use progress::Progress;

/// Scans and prints what was found.
pub async fn run(options: Box<ScanOptions>) -> Result<Exit, Error> {
    let more = Overrides { image_store: options.image_store.clone(), ..Overrides::default() };
    let more = engine::with_own_folder(&options.gate, more);
    let settings = build::settings_with(&options.gate, more)?;
    let state = build::state(&settings).await?;
    known_rules(&options.rules, &state)?;
    let inspector = build::scanning_inspector(&settings, options.image_store.is_some())?;
    let judge = Judge { state, inspector, budget: Duration::from_secs(options.timeout) };
    let scan = if options.files.is_empty() {
        of_cluster(judge, &options).await?
    } else {
        of_files(judge, &options).await?
    };
    print(&rendered(&scan, &options)?)?;
    Ok(scan.exit())
}

/// Refuses a rule that no bundle has: nothing would be found, and everything would seem well.
fn known_rules(rules: &[String], state: &State) -> Result<(), Error> {
    let Some(known) = state.policies.rules() else { return Ok(()) };
    let unknown = |rule: &&String| !known.contains(*rule) && rule.as_str() != POLICY_ERROR;
    match rules.iter().find(unknown) {
        Some(rule) => {
            let meant = text::did_you_mean(rule, known.iter().map(String::as_str));
            let known = known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(Error::FindRule { rule: rule.clone(), known, meant })
        }
        None => Ok(()),
    }
}

async fn of_cluster(judge: Judge, options: &ScanOptions) -> Result<Scan, Error> {
    let client = watch::connect_user(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
    let Judge { state, inspector, budget } = judge;
    let (state, pull_secrets) = super::cluster::state(state, &client).await?;
    let kinds = state.kinds.clone();
    let judge = Judge { state, inspector: inspector.with_pull_secrets(pull_secrets), budget };
    let mut collector = collector(judge, options);
    cluster::read(&client, &options.namespaces, &mut collector, &kinds).await?;
    Ok(collector.finish())
}

async fn of_files(judge: Judge, options: &ScanOptions) -> Result<Scan, Error> {
    let mut collector = collector(judge, options);
    let documents = files::read(&options.files, &mut collector).await?;
    if documents == 0 {
        let paths: Vec<_> = options.files.iter().map(|path| format!("`{}`", path.display())).collect();
        return Err(Error::NothingToExplain(paths.join(", ")));
    }
    Ok(collector.finish())
}

/// Objects that name no namespace are in the one that was asked for, if it is one.
fn collector(judge: Judge, options: &ScanOptions) -> Collector {
    let namespace = match options.namespaces.as_slice() {
        [one] => Some(one.as_str()),
        _ => None,
    };
    Collector::new(judge, Filter::new(options), namespace, options.every_pod, Progress::new())
}

fn rendered(scan: &Scan, options: &ScanOptions) -> Result<Vec<u8>, Error> {
    let all = options.all;
    match options.output {
        ScanFormat::Text => Ok(table::text(scan, all, inspect::terminal_width()).into_bytes()),
        ScanFormat::Json | ScanFormat::Yaml => document::document(scan, all, options.output),
        ScanFormat::Html => Ok(html::page(scan, all, Timestamp::now()).into_bytes()),
        ScanFormat::Sarif => document::json(&sarif::log(scan)),
        ScanFormat::Junit => junit::report(scan, all),
        ScanFormat::Github => Ok(workflow::commands(scan).into_bytes()),
    }
}
