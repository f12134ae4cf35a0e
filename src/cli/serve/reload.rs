//! The configuration of a serving gate: read again on SIGHUP and when its file changes, checked like at the start, and put in force in one
//! step. One that cannot be used leaves the former one in force.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::overrides::overrides;
use super::supply::{self, Bundles, Supply};
use crate::admission::{Gate, State};
use crate::audit::ConfigReport;
use crate::cli::args::ServeOptions;
use crate::cli::{Error, build};
use crate::config::{self, File, Settings};
use crate::files;
use crate::lookup::Inspector;
use crate::policy::PolicySet;
use crate::server::Check;
use crate::sources::{self, BundleSource, InForce};
use crate::text;

/// Time between two looks at the file. A mounted `ConfigMap` changes by a link above it, of which the kernel tells nothing.
const INTERVAL: Duration = Duration::from_secs(1);
/// When a configuration that could not be used is tried again although its file is the same: a bundle server may be back.
const TRY_AGAIN: Duration = Duration::from_mins(1);
/// Times that sources are asked for one change of the configuration, where bundles come into force meanwhile.
const TRIES: u32 = 3;
/// Before they are asked again: a bundle comes into force a moment after its number was written down.
const BEFORE_AGAIN: Duration = Duration::from_millis(200);
/// Most characters of an error in the status and the log.
const MOST_ERROR: usize = 2000;

/// Fields that are used at the start alone.
const AT_START: &[&str] = &[
    "/server",
    "/kubernetes",
    "/reports",
    "/sizing",
    "/decisionLog/output",
    "/decisionLog/bufferBytes",
    "/decisionLog/labels",
    "/decisionLog/upload",
    "/tracing",
    "/images/store",
    "/images/storeBytes",
    "/images/concurrentLookups",
    "/images/memoryBytes",
    "/images/warm",
    "/images/warmFile",
    "/images/warmTimeout",
];
/// The same where the cluster is watched: what they name is used until the cluster was listed.
const AT_START_OF_WATCH: &[&str] = &["/grants", "/cluster"];
/// The same where facts are kept on disk: these depend on them.
const OF_STORE: &[&str] = &["/images/limits", "/images/nodeArchitectures"];

/// How the configuration is, for probes, metrics and the log.
#[derive(Debug)]
pub struct Configuration {
    from: String,
    status: Mutex<Status>,
}

#[derive(Debug, Clone)]
struct Status {
    since: Timestamp,
    error: Option<String>,
    restart: Vec<String>,
    /// What the last change of it has put out of force.
    dropped: Vec<String>,
    reloads: u64,
    failures: u64,
}

impl Configuration {
    /// The configuration of the start.
    pub fn new(path: Option<&Path>) -> Self {
        let from = path.map_or_else(|| "the embedded default".into(), |path| path.display().to_string());
        let (since, restart, dropped) = (Timestamp::now(), Vec::new(), Vec::new());
        let status = Status { since, error: None, restart, dropped, reloads: 0, failures: 0 };
        Self { from, status: Mutex::new(status) }
    }

    /// Its line for `/readyz?verbose`, with the options that no rule reads.
    pub fn check(&self, unread: &[(String, String)]) -> Check {
        let Status { since, error, restart, dropped, .. } = self.locked().clone();
        let mut said = format!("from {}, in force since {since:.0}", self.from);
        if let Some(error) = &error {
            // Writing to a string cannot fail, here and below.
            let _ = write!(said, "; the former one stays in force: {error}");
        }
        if !dropped.is_empty() {
            let _ = write!(said, "; no longer in force: {}", dropped.join(", "));
        }
        if !restart.is_empty() {
            let _ = write!(said, "; needs a restart: {}", restart.join(", "));
        }
        for (field, warning) in unread {
            let _ = write!(said, "; `{field}`: {warning}");
        }
        Check { name: "configuration".into(), is_ok: error.is_none() && restart.is_empty(), text: said }
    }

    /// What the metrics say of it.
    pub fn report(&self) -> ConfigReport {
        let Status { since, error, restart, reloads, failures, .. } = self.locked().clone();
        let (is_failing, needs_restart) = (error.is_some(), !restart.is_empty());
        ConfigReport { since, is_failing, needs_restart, reloads, failures }
    }

    fn locked(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reloaded(&self, Reloaded { restart, dropped, .. }: Reloaded) {
        let mut status = self.locked();
        tracing::info!(from = self.from, "the configuration was loaded again");
        if !dropped.is_empty() {
            let dropped = dropped.join(", ");
            tracing::warn!(dropped, "these bundles and keys are no longer in force");
        }
        if !restart.is_empty() && restart != status.restart {
            let fields = restart.join(", ");
            tracing::warn!(fields, "these fields of the configuration have changed and need a restart");
        }
        let reloads = status.reloads.saturating_add(1);
        let failures = status.failures;
        *status = Status { since: Timestamp::now(), error: None, restart, dropped, reloads, failures };
    }

    fn failed(&self, error: &Error) {
        let error = text::excerpt(&error.message(), MOST_ERROR);
        let mut status = self.locked();
        if status.error.as_ref() != Some(&error) {
            tracing::error!(from = self.from, error, "the configuration in force stays");
        }
        status.failures = status.failures.saturating_add(1);
        status.error = Some(error);
    }
}

/// Keeps the configuration of a gate up to date.
#[derive(Debug)]
pub struct Reloader {
    options: Box<ServeOptions>,
    gate: Arc<Gate>,
    bundles: Arc<Bundles>,
    configuration: Arc<Configuration>,
    is_watched: bool,
    /// What is in force.
    settings: Settings,
    /// What the files of the keys were when they were read.
    keys: String,
    /// What the file was when it was read last.
    read: String,
}

/// What another configuration has brought.
struct Reloaded {
    /// The fields that need a restart.
    restart: Vec<String>,
    /// The bundles and keys that are no longer in force.
    dropped: Vec<String>,
    /// Whether it has other sources of bundles than before, which were asked for it.
    has_sources: bool,
}

/// What is needed for another configuration, before any of it is in force.
struct Prepared {
    settings: Settings,
    keys: String,
    restart: Vec<String>,
    inspector: Option<Inspector>,
    policies: Option<(PolicySet, Supply)>,
    change: Box<dyn Fn(State) -> State + Send>,
}

impl Reloader {
    /// Keeps what these settings began up to date. `read` is what the file was ([`version`]) before they were read, and what the keys
    /// were ([`of_keys`]) before the bundles were.
    pub fn new(
        options: Box<ServeOptions>,
        settings: Settings,
        gate: Arc<Gate>,
        bundles: Arc<Bundles>,
        is_watched: bool,
        (read, keys): (String, String),
    ) -> Self {
        let configuration = Arc::new(Configuration::new(options.gate.images.config.as_deref()));
        Self { options, gate, bundles, configuration, is_watched, settings, keys, read }
    }

    /// How the configuration is.
    pub fn configuration(&self) -> Arc<Configuration> {
        Arc::clone(&self.configuration)
    }

    /// Reads the configuration again whenever there is a reason to, for ever.
    pub async fn run(mut self) {
        let mut hangups = signal(SignalKind::hangup()).ok();
        self.read += &self.keys;
        let (mut seen, mut failed) = (self.read.clone(), None::<Instant>);
        loop {
            let is_asked = tokio::select! {
                () = hangup(hangups.as_mut()) => true,
                () = tokio::time::sleep(INTERVAL) => false,
            };
            let version = version(&self.options);
            let now = version.clone() + &of_keys(&self.settings);
            // Files are not written at once.
            let is_at_rest = std::mem::replace(&mut seen, now.clone()) == now;
            let is_due = failed.is_some_and(|at| at.elapsed() >= TRY_AGAIN);
            let is_new = is_at_rest && now != self.read;
            if !(is_asked || is_new || is_due) {
                continue;
            }
            self.read = now;
            let done = self.reload().await;
            // The reason for the change, or for the signal, may be a source that was mended.
            if (is_asked || is_new) && !done.as_ref().is_ok_and(|reloaded| reloaded.has_sources) {
                self.bundles.ask_now();
            }
            failed = match done {
                Ok(reloaded) => {
                    // With the keys that it names now.
                    self.read = version + &self.keys;
                    self.configuration.reloaded(reloaded);
                    None
                }
                Err(error) => {
                    self.configuration.failed(&error);
                    Some(Instant::now())
                }
            };
        }
    }

    /// Reads the configuration and puts it in force, in one step. Where a bundle has come into force while its source was asked, or is
    /// about to, asks again.
    async fn reload(&mut self) -> Result<Reloaded, Error> {
        let mut tries = 1;
        loop {
            if tries > 1 {
                tokio::time::sleep(BEFORE_AGAIN).await;
            }
            let before = self.bundles.in_force().changes();
            let done = self.reload_once().await;
            match done {
                Err(error) if tries < TRIES && is_late(&error, self.bundles.in_force(), &before) => {
                    let error = error.message();
                    tracing::info!(error, "asking again: another bundle has come into force meanwhile");
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    async fn reload_once(&mut self) -> Result<Reloaded, Error> {
        let Prepared { settings, keys, restart, inspector, policies, change } = self.prepare().await?;
        let (set, supply) =
            policies.map_or((None, None), |(set, supply)| (Some(Arc::new(set)), Some(supply)));
        // Until the end nothing else brings a bundle into force, so that what is written down is not refused any more.
        let _claim = self.bundles.in_force().claim().await;
        let set = set.unwrap_or_else(|| Arc::clone(&self.gate.state().policies));
        build::check_rules(&settings.file.enforcement, &set)?;
        if let Some(supply) = &supply {
            self.bundles.check_order(supply)?;
            supply.reserve().await?;
        }
        let turn = self.bundles.turn();
        self.gate.reconfigure(inspector, |state| {
            let mut next = change(state.clone());
            next.policies = Arc::clone(&set);
            next
        });
        let has_sources = supply.is_some();
        if let Some(supply) = supply {
            self.bundles.begin(supply, &self.gate, turn);
        } else if settings.file.policies.options != self.settings.file.policies.options {
            self.bundles.warn_of_options(&self.gate.state());
        }
        let dropped = dropped(&self.settings.file, &settings.file);
        (self.settings, self.keys) = (settings, keys);
        Ok(Reloaded { restart, dropped, has_sources })
    }

    async fn prepare(&self) -> Result<Prepared, Error> {
        let read = build::settings_with(&self.options.gate, overrides(&self.options))?;
        refuse_cut_off(self.options.gate.images.config.as_deref(), &self.settings.file, &read.file)?;
        let (settings, restart) = usable(read, &self.settings, self.is_watched);
        let (former, file) = (&self.settings.file, &settings.file);
        let objects = if self.is_watched { None } else { Some(build::objects(&settings)?) };
        let inspector = if file.images == former.images {
            None
        } else {
            Some(self.gate.inspector().reconfigured(file.images.clone())?)
        };
        // Before they are read: a later change is then seen as one.
        let keys = of_keys(&settings);
        let policies = if same_bundles(former, file) && keys == self.keys {
            if file.images != former.images {
                supply::warn(&settings);
            }
            None
        } else {
            Some(supply::start(&settings, self.bundles.in_force()).await?)
        };
        let of = settings.clone();
        let change = Box::new(move |state: State| {
            let mut state = build::configured(state, &of);
            if let Some((loaded, cluster)) = &objects {
                state = state.with_cluster(Arc::new(cluster.clone()));
                state.grants = Arc::new(loaded.grants.clone());
                state.exceptions = Arc::new(loaded.exceptions.clone());
            }
            state
        });
        Ok(Prepared { settings, keys, restart, inspector, policies, change })
    }
}

/// Whether what a source said was late, since a bundle has come into force after the moment of `before`. One with a number is refused as an
/// older one where that of the other one was written down, also where that is not in force yet.
fn is_late(error: &Error, in_force: &InForce, before: &sources::Changes) -> bool {
    match error {
        Error::FetchPolicies(sources::Error::OvertakeBundle { .. }) => true,
        Error::FetchPolicies(sources::Error::RollBack { bundle, newest, .. }) => {
            in_force.changes() != *before || in_force.newest(bundle) < Some(*newest)
        }
        _ => false,
    }
}

async fn hangup(hangups: Option<&mut Signal>) {
    if let Some(hangups) = hangups
        && hangups.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// The bundles and keys of a configuration that another one does not have.
fn dropped(former: &File, file: &File) -> Vec<String> {
    let bundles = |file: &File| {
        let own = file.policies.bundles.iter().map(BundleSource::name);
        own.chain(file.policies.baseline.then(|| "baseline".into())).collect::<BTreeSet<_>>()
    };
    let (kept, keys) = (bundles(file), &file.policies.keys);
    let gone = bundles(former)
        .into_iter()
        .filter(|name| !kept.contains(name))
        .map(|name| format!("bundle `{name}`"));
    let ids = former.policies.keys.keys().filter(|id| !keys.contains_key(*id));
    gone.chain(ids.map(|id| format!("key `{id}`"))).collect()
}

/// Refuses a file that says nothing any more of all bundles, or of all keys: a file that was cut off while it was written reads like
/// that. To drop them, one says so. Bundles that flags name are not lost.
fn refuse_cut_off(path: Option<&Path>, former: &File, read: &File) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    let (before, now) = (&former.policies, &read.policies);
    for (field, is_lost, none) in [
        ("bundles", now.bundles.is_empty() && !before.bundles.is_empty(), "bundles: []"),
        ("keys", now.keys.is_empty() && !before.keys.is_empty(), "keys: {}"),
    ] {
        if is_lost && config::lacks_policy(&config::text_of(path)?, field) {
            let message = format!(
                "the configuration in force has {field}, and the file no longer says anything of them, as if it were cut off; write \
                 `{none}` for a gate without any"
            );
            let field = format!("policies.{field}");
            return Err(config::Error::CheckField { field, value: String::new(), message }.into());
        }
    }
    Ok(())
}

/// What changes when the file of the configuration does.
pub fn version(options: &ServeOptions) -> String {
    options.gate.images.config.as_deref().map(fingerprint).unwrap_or_default()
}

/// What changes when the file of a key that verifies bundles does.
pub fn of_keys(settings: &Settings) -> String {
    let keys = settings.file.policies.keys.iter();
    keys.fold(String::new(), |all, (id, key)| all + "; " + id + " " + &fingerprint(&key.file))
}

/// What changes when a file does, or why there is none.
fn fingerprint(path: &Path) -> String {
    files::fingerprint(path).unwrap_or_else(|error| error.to_string())
}

/// Whether bundles, and how they are fetched and run, are the same. What rules read as `options` is none of them.
fn same_bundles(former: &File, file: &File) -> bool {
    let from_registry = |file: &File| {
        file.policies.bundles.iter().any(|one| one.origin().is_ok_and(|origin| origin.is_registry()))
    };
    let mut policies = file.policies.clone();
    policies.options.clone_from(&former.policies.options);
    policies == former.policies && (file.images == former.images || !from_registry(file))
}

/// The settings that can be put in force now, and the fields that need a restart.
fn usable(read: Settings, former: &Settings, is_watched: bool) -> (Settings, Vec<String>) {
    let fields = [
        AT_START,
        if is_watched { AT_START_OF_WATCH } else { &[] },
        if former.file.images.store.is_some() { OF_STORE } else { &[] },
    ];
    let json = |file: &File| serde_json::to_value(file).unwrap_or_default();
    let (new, old) = (json(&read.file), json(&former.file));
    let mut restart = Vec::new();
    for field in fields.iter().copied().flatten() {
        let of = |file: &Value| file.pointer(field).cloned().unwrap_or_default();
        differing(&of(&new), &of(&old), field.trim_start_matches('/').replace('/', "."), &mut restart);
    }
    let mut file = read.file;
    file.server.clone_from(&former.file.server);
    (file.kubernetes, file.reports) = (former.file.kubernetes.clone(), former.file.reports);
    file.tracing.clone_from(&former.file.tracing);
    file.sizing = former.file.sizing;
    let (log, before) = (&mut file.decision_log, &former.file.decision_log);
    log.output.clone_from(&before.output);
    log.labels.clone_from(&before.labels);
    log.upload.clone_from(&before.upload);
    log.buffer_bytes = before.buffer_bytes;
    let (images, before) = (&mut file.images, &former.file.images);
    images.store.clone_from(&before.store);
    images.warm.clone_from(&before.warm);
    images.warm_file.clone_from(&before.warm_file);
    (images.store_bytes, images.memory_bytes) = (before.store_bytes, before.memory_bytes);
    (images.concurrent_lookups, images.warm_timeout) = (before.concurrent_lookups, before.warm_timeout);
    if before.store.is_some() {
        images.limits = before.limits;
        images.node_architectures.clone_from(&before.node_architectures);
    }
    if is_watched {
        file.grants.clone_from(&former.file.grants);
        file.cluster.clone_from(&former.file.cluster);
    }
    let Settings { runtimes, unpinned, policy_time_limit, .. } = read;
    (Settings { file, runtimes, unpinned, policy_time_limit, ..former.clone() }, restart)
}

/// The fields in which two values differ.
fn differing(new: &Value, old: &Value, field: String, into: &mut Vec<String>) {
    match (new, old) {
        _ if new == old => {}
        (Value::Object(new), Value::Object(old)) if !new.is_empty() && new.keys().eq(old.keys()) => {
            for (key, value) in new {
                differing(value, old.get(key).unwrap_or(&Value::Null), format!("{field}.{key}"), into);
            }
        }
        _ => into.push(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, parse, resolve};

    fn settings(body: &str) -> Settings {
        let head = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";
        resolve(parse("gate.yaml", &format!("{head}{body}")).unwrap(), Overrides::default()).unwrap()
    }

    #[test]
    fn what_is_used_at_the_start_alone_stays_and_is_named() {
        let (former, read) = (
            settings("images: {warm: [a.example/b:1]}\n"),
            settings(
                "server: {listen: '127.0.0.1:1', reviewTimeout: 3s}\nimages: {store: x, unpinned: [a.example]}\n\
                 decisionLog: {output: off, policyInput: true}\nenforcement: {floor: warn}\n\
                 sizing: {learn: {interval: 1m}}\n",
            ),
        );
        let (found, restart) = usable(read.clone(), &former, false);
        let named = [
            "server.listen",
            "server.reviewTimeout",
            "sizing.learn.interval",
            "decisionLog.output",
            "images.store",
            "images.warm",
        ];
        assert_eq!(restart, named);
        assert_eq!((&found.file.server, found.review_timeout), (&former.file.server, former.review_timeout));
        assert_eq!(found.file.images.store, None);
        assert_eq!(found.file.sizing, former.file.sizing);
        assert_eq!((&found.file.enforcement, &found.unpinned), (&read.file.enforcement, &read.unpinned));
        assert!(found.file.decision_log.policy_input);
        assert_eq!(usable(former.clone(), &former, false), (former, Vec::new()));
    }

    #[test]
    fn folders_need_a_restart_where_the_cluster_is_watched_and_facts_on_disk_keep_their_limits() {
        let former = settings("images: {store: x}\n");
        let read =
            || settings("grants: g\nimages: {store: x, limits: {layer: 1000}, nodeArchitectures: [arm64]}\n");
        let named = ["grants", "images.limits.layer", "images.nodeArchitectures"];
        assert_eq!(usable(read(), &former, true).1, named);
        let (found, restart) = usable(read(), &former, false);
        assert_eq!(
            (restart, found.file.grants),
            (named[1..].iter().map(ToString::to_string).collect(), Some("g".into()))
        );
        assert_eq!(found.file.images.limits, former.file.images.limits);
    }

    #[test]
    fn bundles_are_fetched_anew_only_where_something_about_them_has_changed() {
        let of = |body: &str| settings(body).file;
        let one = of("policies: {bundles: [a.tar.gz]}\n");
        assert!(same_bundles(
            &one,
            &of("policies: {bundles: [a.tar.gz], options: {x: 1}}\nimages: {tagTtl: 5s}\n")
        ));
        for other in ["policies: {bundles: [b.tar.gz]}", "policies: {bundles: [a.tar.gz], fuelLimit: 7}"] {
            assert!(!same_bundles(&one, &of(&format!("{other}\n"))), "{other}");
        }
        let oci = |more: &str| of(&format!("policies: {{bundles: [oci://a.example/b:1]}}\n{more}"));
        assert!(!same_bundles(&oci(""), &oci("images: {registries: {allow: [b.example]}}\n")));
    }

    /// A follower writes the number of a bundle down, and puts the bundle in force then.
    #[test]
    fn an_older_bundle_is_late_where_the_newer_one_came_into_force_meanwhile_or_is_about_to() {
        let in_force = InForce::default();
        in_force.set("ours", Some(2), false);
        let before = in_force.changes();
        let late = |newest| {
            let (bundle, found) = ("ours".to_string(), "1".to_string());
            let error = Error::FetchPolicies(sources::Error::RollBack { bundle, found, newest });
            is_late(&error, &in_force, &before)
        };
        assert!(!late(2), "it is older than what was in force when its source was asked");
        assert!(late(3), "the newer one is about to come into force");
        in_force.set("ours", Some(3), false);
        assert!(late(3), "it has come into force");
        let overtaken = Error::FetchPolicies(sources::Error::OvertakeBundle { bundle: "ours".into() });
        assert!(is_late(&overtaken, &in_force, &in_force.changes()));
    }

    #[test]
    fn a_file_that_is_not_there_has_a_fingerprint_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gate.yaml");
        assert!(fingerprint(&file).contains("No such file"));
        std::fs::write(&file, "").unwrap();
        assert_eq!(fingerprint(&file), files::fingerprint(&file).unwrap());
    }
}
