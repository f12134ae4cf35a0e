//! `wasmgate scan`: judges every pod and template of a cluster, or of manifests, as it stands, and changes nothing.

pub(super) mod cluster;
mod document;
mod files;
pub(super) mod html;
mod junit;
mod place;
mod progress;
mod sarif;
mod table;
mod workflow;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::args::{ScanFormat, ScanOptions};
use super::{Error, Exit, build, engine, inspect, print, shown, suggest, warn};
use crate::admission::State;
use crate::config::Overrides;
use crate::judge::verdict::POLICY_ERROR;
use crate::lookup::Inspector;
use crate::scan::model::is_open;
use crate::scan::{Collector, ExplainOutcome, Filter, Judge, Scan};
use crate::text;
use crate::watch;

use progress::Terminal;

/// Scans and prints what was found.
pub async fn run(options: Box<ScanOptions>) -> Result<Exit, Error> {
    let more = Overrides { image_store: options.image_store.clone(), ..Overrides::default() };
    let more = engine::with_own_folder(&options.gate, more);
    let settings = build::settings_with(&options.gate, more)?;
    let state = build::state(&settings).await?;
    known_rules(&options.rules, &state)?;
    let inspector = build::scanning_inspector(&settings, options.image_store.is_some())?;
    let scan = if options.files.is_empty() {
        of_cluster(state, inspector, &options).await?
    } else {
        of_files(judge(state, inspector, &options), &options).await?
    };
    print(&rendered(&scan, &options)?)?;
    if let Some(filters) = unmatched(&scan, &options) {
        warn(&format!("nothing matches {filters}"));
    }
    Ok(exit(&scan))
}

/// The filters that left nothing. Standard error names them: of a misspelt one everything would seem well.
fn unmatched(scan: &Scan, options: &ScanOptions) -> Option<String> {
    if !(scan.workloads.is_empty() && scan.not_judged.is_empty()) {
        return None;
    }
    let filters = [
        ("namespace", options.namespaces.clone()),
        ("image", options.images.clone()),
        ("rule", options.rules.clone()),
        ("capability", options.capabilities.iter().map(|one| one.as_str().to_owned()).collect()),
    ];
    let named = filters.iter().flat_map(|(option, values)| {
        values.iter().map(move |value| format!("`--{option} {}`", text::quoted(value, 200)))
    });
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// What is denied counts more than what is not known.
fn exit(scan: &Scan) -> Exit {
    let any = |is: fn(ExplainOutcome) -> bool| {
        scan.workloads.iter().flat_map(|workload| &workload.judged).any(|judged| is(judged.spec.outcome))
    };
    if any(|outcome| outcome == ExplainOutcome::Denied) {
        Exit::Denied
    } else if any(is_open) || !scan.not_judged.is_empty() {
        Exit::Unread
    } else {
        Exit::Success
    }
}

fn judge(state: State, inspector: Inspector, options: &ScanOptions) -> Judge {
    Judge {
        state: Arc::new(state),
        inspector: Arc::new(inspector),
        budget: Duration::from_secs(options.timeout),
        cure: "raise --timeout",
        suggest: suggest::grants,
    }
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

/// The same for a namespace that the cluster does not have.
fn known_namespaces(namespaces: &[String], state: &State) -> Result<(), Error> {
    let known = &state.cluster().namespaces;
    match namespaces.iter().find(|name| !known.contains_key(*name)) {
        Some(name) => {
            let meant = text::did_you_mean(name, known.keys().map(String::as_str));
            Err(Error::FindNamespace { namespace: name.clone(), meant })
        }
        None => Ok(()),
    }
}

async fn of_cluster(state: State, inspector: Inspector, options: &ScanOptions) -> Result<Scan, Error> {
    let client = watch::connect_user(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
    let (state, pull_secrets) = super::cluster::state(state, &client).await?;
    known_namespaces(&options.namespaces, &state)?;
    let kinds = state.kinds.clone();
    let judge = judge(state, inspector.with_pull_secrets(pull_secrets), options);
    let (mut collector, terminal) = collector(judge, options);
    let read = cluster::read(&client, &options.namespaces, &mut collector, &kinds, cluster::Pace::FAST).await;
    terminal.end();
    read?;
    Ok(collector.finish())
}

async fn of_files(judge: Judge, options: &ScanOptions) -> Result<Scan, Error> {
    let (mut collector, terminal) = collector(judge, options);
    let documents = files::read(&options.files, &mut collector).await;
    terminal.end();
    if documents? == 0 {
        return Err(Error::nothing_in(&options.files));
    }
    Ok(collector.finish())
}

/// Objects that name no namespace are in the one that was asked for, if it is one.
fn collector(judge: Judge, options: &ScanOptions) -> (Collector, Arc<Terminal>) {
    let namespace = match options.namespaces.as_slice() {
        [one] => Some(one.as_str()),
        _ => None,
    };
    let filter = Filter {
        namespaces: options.namespaces.iter().cloned().collect(),
        rules: options.rules.iter().cloned().collect(),
        capabilities: options.capabilities.iter().copied().collect(),
        images: options.images.clone(),
        without_plain: false,
        counts_plain: !options.all,
    };
    let terminal = Arc::new(Terminal::new());
    (Collector::new(judge, filter, namespace, options.every_pod, terminal.clone()), terminal)
}

fn rendered(scan: &Scan, options: &ScanOptions) -> Result<Vec<u8>, Error> {
    let all = options.all;
    match options.output {
        ScanFormat::Text => Ok(shown(&table::text(scan, all, inspect::terminal_width()))),
        ScanFormat::Json | ScanFormat::Yaml => document::document(scan, all, options.output),
        ScanFormat::Html => Ok(html::page(scan, all, Timestamp::now()).into_bytes()),
        ScanFormat::Sarif => document::json(&sarif::log(scan)),
        ScanFormat::Junit => junit::report(scan, all),
        ScanFormat::Github => Ok(workflow::commands(scan).into_bytes()),
    }
}
