//! Merges flags and file, and checks the result.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{self, Problems};
use super::value::{duration, wrong};
use super::{Error, File};
use crate::audit::DecisionLogOutput;
use crate::image::prefix::{RepositoryPrefix, Unpinned};
use crate::judge::EnforcementSettings;
use crate::judge::verdict::POLICY_ERROR;
use crate::lookup::LookupOptions;
use crate::review::GroupVersionKind;
use crate::runtime::Runtimes;
use crate::sources::BundleSource;
use crate::sources::options::Wrong;
use crate::workload::{Description, Kind};

/// Flags of the command line. Each wins over its field of the file; lists are added to those of the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--grants`.
    pub grants: Option<PathBuf>,
    /// `--cluster`.
    pub cluster: Option<PathBuf>,
    /// `--bundle`.
    pub bundles: Vec<String>,
    /// `--image-layouts`, as typed.
    pub image_layouts: Vec<String>,
    /// `--allow-registry`; replaces the file's list, which allows every public registry.
    pub allow_registries: Vec<String>,
    /// `--insecure-registry`.
    pub insecure_registries: Vec<String>,
    /// `--registry-ca`.
    pub registry_cas: Vec<PathBuf>,
    /// `--docker-config`.
    pub docker_config: Option<PathBuf>,
    /// `--compiled-dir`.
    pub compiled_dir: Option<PathBuf>,
    /// `--image-store`.
    pub image_store: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--probes`.
    pub probes: Option<SocketAddr>,
    /// `--page`.
    pub page: Option<SocketAddr>,
    /// `--tls-cert` and `--tls-key`.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// `--cert-dir`.
    pub cert_dir: Option<PathBuf>,
    /// `--cert-name`.
    pub cert_names: Vec<String>,
    /// `--decision-log`.
    pub decision_log: Option<DecisionLogOutput>,
    /// `--kubeconfig`; the cluster behind it is watched.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace that the gate itself runs in.
    pub own_namespace: Option<String>,
}

/// The whole configuration, checked. What still fails later depends on something outside of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The file with all overrides in it.
    pub file: File,
    /// The runtimes.
    pub runtimes: Runtimes,
    /// The images that keep their tags.
    pub unpinned: Unpinned,
    /// How old a scan may be that the page shows.
    pub page_refresh_after: Duration,
    /// Longest time for one review.
    pub review_timeout: Duration,
    /// Longest time for the evaluation of all bundles.
    pub policy_time_limit: Duration,
    /// Time between "not ready" and the end of listening.
    pub shutdown_pause: Duration,
    /// Longest time to finish running reviews at shutdown.
    pub drain_deadline: Duration,
}

/// Merges the overrides into the file and checks the result. The error has all problems of the fields.
pub fn resolve(file: File, overrides: Overrides) -> Result<Settings, Error> {
    let (settings, problems) = examine(file, overrides);
    problems.error().map_or(Ok(settings), Err)
}

/// Like [`resolve`], for a report: the settings with which the other checks can go on, and what is wrong with the fields.
/// A gate must not run with these settings.
pub fn resolve_in_part(mut file: File, overrides: Overrides) -> (Settings, Vec<Error>) {
    let (settings, problems) = examine(file.clone(), overrides.clone());
    let problems = problems.into_list();
    if problems.is_empty() {
        return (settings, problems);
    }
    check::replace_unusable(&mut file);
    (examine(file, overrides).0, problems)
}

/// The settings, with zero or nothing where a field is wrong, and the problems.
fn examine(mut file: File, overrides: Overrides) -> (Settings, Problems) {
    let mut problems = Problems::default();
    apply(&mut file, overrides, &mut problems);
    normalise_registries(&mut file.images, &mut problems);
    let runtimes =
        Runtimes { profiles: file.runtimes.profiles.clone(), placement: file.runtimes.placement.clone() };
    check_runtimes(&runtimes, &mut problems);
    check_enforcement(&file.enforcement, &mut problems);
    for (index, description) in file.workloads.iter().enumerate() {
        problems.take(check_workload(index, description));
    }
    problems.take(file.kubernetes.check());
    check_server(&file, &mut problems);
    let refresh = problems
        .take(file.server.page.check(file.kubernetes.watch, [file.server.listen, file.server.probes]));
    check_policies(&file, &mut problems);
    check::file(&file, &mut problems);
    let server = &file.server;
    let review_timeout = problems.take(check::limit("server.reviewTimeout", server.review_timeout));
    let time_limit = problems.take(check::limit("policies.timeLimit", file.policies.time_limit));
    let pause = problems.take(duration("server.shutdownPause", server.shutdown_pause));
    let drain = problems.take(duration("server.drainDeadline", server.drain_deadline));
    let unpinned = unpinned(&file.images.unpinned, &mut problems);
    // None of these is absent without a problem.
    let settings = Settings {
        page_refresh_after: refresh.unwrap_or_default(),
        review_timeout: review_timeout.unwrap_or_default(),
        policy_time_limit: time_limit.unwrap_or_default(),
        shutdown_pause: pause.unwrap_or_default(),
        drain_deadline: drain.unwrap_or_default(),
        unpinned,
        runtimes,
        file,
    };
    (settings, problems)
}

/// Without any rule, every pod would be admitted.
fn check_policies(file: &File, problems: &mut Problems) {
    let decides = |source: &BundleSource| source.judges && !source.is_shadow();
    if !file.policies.baseline && !file.policies.bundles.iter().any(decides) {
        let message = "there would be no rule that decides, and every pod would be admitted; name a bundle in `policies.bundles` \
                       without `action: audit` and without `judges: false`, or leave this out";
        problems.add(wrong("policies.baseline", &"false", message));
    }
    if file.policies.require_signed == Some(true) && file.policies.keys.is_empty() {
        let message = "nothing could verify a signature; name a key in `policies.keys`";
        problems.add(wrong("policies.requireSigned", &"true", message));
    }
    let mut names = BTreeSet::from_iter(file.policies.baseline.then(|| "baseline".to_string()));
    for (index, source) in file.policies.bundles.iter().enumerate() {
        for Wrong { field, value, message } in source.check() {
            let field = if field == "from" { String::new() } else { format!(".{field}") };
            problems.add(wrong(&format!("policies.bundles[{index}]{field}"), &value, &message));
        }
        let unknown = source.keys.iter().filter(|id| !file.policies.keys.contains_key(*id));
        for id in unknown {
            let message = "no such key; write ids of `policies.keys`";
            problems.add(wrong(&format!("policies.bundles[{index}].keys"), id, message));
        }
        if source.scope.is_some() && file.policies.keys.is_empty() {
            let message = "nothing could verify a signature; name a key in `policies.keys`";
            problems.add(wrong(&format!("policies.bundles[{index}].scope"), &"alone", message));
        }
        let name = source.name();
        if !names.insert(name.clone()) {
            let message = "another bundle has this name; give one of the two a `name` of its own";
            problems.add(wrong(&format!("policies.bundles[{index}].name"), &name, message));
        }
    }
}

fn check_server(file: &File, problems: &mut Problems) {
    let server = &file.server;
    if server.cert_file.is_some() != server.key_file.is_some() {
        let message = "give `server.keyFile` with it, or neither";
        problems.add(wrong("server.certFile", &"alone", message));
    }
    if file.kubernetes.certificates.manage && server.cert_file.is_some() {
        let message = "the certificate comes from `server.certFile`; leave one of the two out";
        problems.add(wrong("kubernetes.certificates.manage", &"true", message));
    }
    if server.max_concurrent_reviews == 0 {
        let message = "at least one review must be possible";
        problems.add(wrong("server.maxConcurrentReviews", &"0", message));
    }
}

fn unpinned(entries: &[String], problems: &mut Problems) -> Unpinned {
    let mut prefixes = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let read = RepositoryPrefix::parse(entry).map_err(|_| {
            let message = "write a registry's host, or the host and the beginning of a repository, without a tag, such as \
                 `mirror.example.com` or `mirror.example.com/team`";
            wrong(&format!("images.unpinned[{index}]"), entry, message)
        });
        prefixes.extend(problems.take(read));
    }
    Unpinned::new(prefixes)
}

/// Gives the settings of single registries the names that image names have for them: by another one they would have no effect.
fn normalise_registries(images: &mut LookupOptions, problems: &mut Problems) {
    by_registry("images.layouts", &mut images.layouts, true, problems);
    by_registry("images.mirrors", &mut images.mirrors, false, problems);
    by_registry("images.tokenRealms", &mut images.token_realms, false, problems);
}

/// `paths` if an entry may be for a part of a registry.
fn by_registry<T>(field: &str, entries: &mut BTreeMap<String, T>, paths: bool, problems: &mut Problems) {
    for (key, value) in std::mem::take(entries) {
        let at = format!("{field}.{key}");
        let Some(name) = problems.take(registry_of(&at, &key, paths)) else { continue };
        if entries.contains_key(&name) {
            let message = format!("another entry is for `{name}` too; leave one of them out");
            problems.add(wrong(&at, &key, &message));
        }
        entries.insert(name, value);
    }
}

fn registry_of(field: &str, key: &str, paths: bool) -> Result<String, Error> {
    let written = key.trim_end_matches('/');
    if !paths && written.contains('/') {
        return Err(wrong(field, &key, "it is for a whole registry; write its host alone"));
    }
    let message = "write a registry's host, such as `ghcr.io` or `registry.corp:5000`; that of names without one is `docker.io`";
    let prefix = RepositoryPrefix::parse(written).map_err(|_| wrong(field, &key, message))?;
    Ok(prefix.normalised())
}

fn apply(file: &mut File, overrides: Overrides, problems: &mut Problems) {
    // Destructured, so that a new flag cannot be forgotten here.
    let Overrides {
        grants,
        cluster,
        bundles,
        image_layouts,
        allow_registries,
        insecure_registries,
        registry_cas,
        docker_config,
        compiled_dir,
        image_store,
        listen,
        probes,
        page,
        tls,
        cert_dir,
        cert_names,
        decision_log,
        kubeconfig,
        own_namespace,
    } = overrides;
    file.exempt_namespaces.extend(always_exempt(own_namespace));
    file.grants = grants.or(file.grants.take());
    file.cluster = cluster.or(file.cluster.take());
    file.kubernetes.watch |= kubeconfig.is_some();
    file.kubernetes.kubeconfig = kubeconfig.or(file.kubernetes.kubeconfig.take());
    file.policies.bundles.extend(bundles.into_iter().map(BundleSource::of));
    file.images.layouts.extend(problems.take(layouts(&image_layouts)).unwrap_or_default());
    if !allow_registries.is_empty() {
        file.images.registries.allow = allow_registries;
    }
    // A registry over plain HTTP is listed to be used, and usually has a private address, which `*` does not allow.
    file.images.registries.allow.extend(insecure_registries.iter().cloned());
    file.images.registries.insecure.extend(insecure_registries);
    file.images.ca_files.extend(registry_cas);
    file.images.docker_config = docker_config.or(file.images.docker_config.take());
    file.policies.compiled_dir = compiled_dir.or(file.policies.compiled_dir.take());
    file.images.store = image_store.or(file.images.store.take());
    file.server.listen = listen.unwrap_or(file.server.listen);
    file.server.probes = probes.unwrap_or(file.server.probes);
    file.server.page.listen = page.or(file.server.page.listen);
    if let Some((cert, key)) = tls {
        file.server.cert_file = Some(cert);
        file.server.key_file = Some(key);
    }
    file.server.cert_dir = cert_dir.unwrap_or_else(|| file.server.cert_dir.clone());
    file.server.cert_names.extend(cert_names);
    file.decision_log.output = decision_log.unwrap_or_else(|| file.decision_log.output.clone());
}

/// Namespaces that are always exempt: those of the control plane and of the gate itself. A gate that judges its own pods
/// cannot come back after an outage
/// (`kubernetes/website:content/en/docs/concepts/cluster-administration/admission-webhooks-good-practices.md`). The default
/// name counts only if the gate does not know its namespace, since otherwise a user could create that namespace.
fn always_exempt(own: Option<String>) -> [String; 2] {
    ["kube-system".into(), own.unwrap_or_else(|| "wasmgate-system".into())]
}

fn layouts(flags: &[String]) -> Result<BTreeMap<String, PathBuf>, Error> {
    let pair = |flag: &String| match flag.split_once('=') {
        Some((host, dir)) if !host.is_empty() && !dir.is_empty() => {
            Ok((host.to_string(), PathBuf::from(dir)))
        }
        _ => Err(wrong("--image-layouts", &flag, "write HOST=DIR, such as `registry.example=./layouts`")),
    };
    flags.iter().map(pair).collect()
}

/// An enforcement action below the floor would have no effect, so it is an error.
fn check_enforcement(enforcement: &EnforcementSettings, problems: &mut Problems) {
    if enforcement.rules.get(POLICY_ERROR).is_some_and(|action| action.as_str() != "deny") {
        let message = "a bundle that cannot be evaluated denies whatever is written here; leave it out";
        problems.add(wrong("enforcement.rules", &POLICY_ERROR, message));
    }
    let written = enforcement.namespaces.iter().map(|(name, action)| (format!("namespaces.{name}"), *action));
    for (field, action) in written.chain([("default".to_string(), enforcement.default)]) {
        if action < enforcement.floor {
            let message = format!(
                "`enforcement.floor` is `{}`; lower the floor or raise this",
                enforcement.floor.as_str()
            );
            problems.add(wrong(&format!("enforcement.{field}"), &action.as_str(), &message));
        }
    }
}

fn check_workload(index: usize, description: &Description) -> Result<(), Error> {
    let Description { group, kind, pod_template } = description;
    let field = |name: &str| format!("workloads[{index}].{name}");
    if group.is_empty() {
        return Err(wrong(&field("group"), group, "write the API group of the custom resource"));
    }
    if kind.is_empty() {
        return Err(wrong(&field("kind"), kind, "write the kind of the custom resource"));
    }
    let named = GroupVersionKind { group: group.clone(), version: String::new(), kind: kind.clone() };
    if Kind::of(&named).is_some() {
        return Err(wrong(&field("kind"), kind, "the gate knows this kind; leave it out"));
    }
    let steps: Vec<&str> = pod_template.split('/').collect();
    if !pod_template.starts_with('/') || steps.iter().skip(1).any(|step| step.is_empty()) {
        let message = "write a JSON pointer to the object with the pod's `spec`, such as `/spec/template`";
        return Err(wrong(&field("podTemplate"), pod_template, message));
    }
    Ok(())
}

fn check_runtimes(runtimes: &Runtimes, problems: &mut Problems) {
    for (index, profile) in runtimes.profiles.iter().enumerate() {
        if runtimes.profiles.iter().take(index).any(|p| p.name == profile.name) {
            let field = format!("runtimes.profiles[{index}].name");
            problems.add(wrong(&field, &profile.name, "the name is taken"));
        }
    }
    for (kind, name) in &runtimes.placement {
        let field = format!("runtimes.placement.{}", kind.as_str());
        match runtimes.profiles.iter().find(|p| &p.name == name) {
            None => problems.add(wrong(&field, name, "no profile has this name")),
            Some(profile) if !profile.runs.contains(kind) => {
                problems.add(wrong(&field, name, "this profile does not run the kind, see its `runs`"));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::quantity::Quantity;

    const HEAD: &str = "apiVersion: wasmgate.dev/v1alpha1\nkind: GateConfiguration\n";

    fn settings(body: &str) -> Result<Settings, Error> {
        resolve(parse("gate.yaml", &format!("{HEAD}{body}"))?, Overrides::default())
    }

    #[test]
    fn a_described_kind_needs_a_group_a_kind_and_the_place_of_its_pod_template() {
        let with = |entry: &str| settings(&format!("workloads: [{{{entry}}}]\n"));
        assert!(with("group: example.com, kind: Fleet, podTemplate: /spec/pods/*/template").is_ok());
        for (entry, field) in [
            ("group: '', kind: Fleet, podTemplate: /spec", "workloads[0].group"),
            ("group: example.com, kind: '', podTemplate: /spec", "workloads[0].kind"),
            ("group: apps, kind: Deployment, podTemplate: /spec", "workloads[0].kind"),
            ("group: example.com, kind: Fleet, podTemplate: spec.template", "workloads[0].podTemplate"),
            ("group: example.com, kind: Fleet, podTemplate: /spec//template", "workloads[0].podTemplate"),
        ] {
            let error = with(entry).unwrap_err();
            assert!(
                matches!(&error, Error::CheckField { field: found, .. } if found == field),
                "{entry}: {error}"
            );
        }
        assert!(with("group: example.com, kind: Fleet").is_err(), "without a place");
    }

    #[test]
    fn an_entry_of_unpinned_images_that_begins_no_name_is_refused_with_its_place() {
        let settings_of =
            |entry: &str| settings(&format!("images: {{unpinned: [mirror.example, {entry}]}}\n"));
        let image = "mirror.example/team/app:1";
        assert!(settings_of("other.example/team").unwrap().unpinned.entry_for(image).is_some());
        for entry in ["''", "'*'", "team/app", "mirror.example/team/", "mirror.example/app:1"] {
            let error = settings_of(entry).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`images.unpinned[1]` cannot be `{}`", entry.trim_matches('\''))),
                "{error}"
            );
            assert!(error.contains("such as `mirror.example.com`"), "{error}");
        }
    }

    #[test]
    fn what_is_set_for_a_registry_has_the_name_that_image_names_have() {
        for hub in ["docker.io", "index.docker.io", "registry-1.docker.io", "docker.io/"] {
            let text = format!(
                "images: {{layouts: {{{hub}: /srv}}, mirrors: {{{hub}: [m.corp]}}, tokenRealms: {{{hub}: [sso.corp]}}}}\n"
            );
            let images = settings(&text).unwrap().file.images;
            assert_eq!(images.layouts.keys().collect::<Vec<_>>(), ["docker.io"], "{hub}");
            assert_eq!(images.mirrors.keys().collect::<Vec<_>>(), ["docker.io"], "{hub}");
            assert_eq!(images.token_realms.keys().collect::<Vec<_>>(), ["docker.io"], "{hub}");
        }
        let part = settings("images: {layouts: {index.docker.io/org: /srv, 'r.corp:5000': /own}}\n").unwrap();
        let keys: Vec<&String> = part.file.images.layouts.keys().collect();
        assert_eq!(keys, ["docker.io/org", "r.corp:5000"]);
        for (body, at, says) in [
            ("layouts: {nginx: /srv}", "images.layouts.nginx", "is `docker.io`"),
            ("layouts: {myorg/app: /srv}", "images.layouts.myorg/app", "is `docker.io`"),
            ("mirrors: {hub: [m.corp]}", "images.mirrors.hub", "is `docker.io`"),
            ("mirrors: {ghcr.io/org: [m.corp]}", "images.mirrors.ghcr.io/org", "write its host alone"),
            ("tokenRealms: {r.corp/x: [s.corp]}", "images.tokenRealms.r.corp/x", "write its host alone"),
            (
                "mirrors: {docker.io: [a.corp], index.docker.io: [b.corp]}",
                "images.mirrors.index.docker.io",
                "another entry is for `docker.io` too",
            ),
        ] {
            let error = settings(&format!("images: {{{body}}}\n")).unwrap_err().to_string();
            assert!(error.contains(at) && error.contains(says), "{error}");
        }
    }

    #[test]
    fn an_empty_configuration_is_the_embedded_default() {
        let settings = settings("").unwrap();
        let exempt = ["kube-system", "wasmgate-system"].map(String::from).into();
        assert_eq!(settings.file, File { exempt_namespaces: exempt, ..File::default() });
        assert_eq!(settings.runtimes, Runtimes::default());
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = settings("severity: high\n").unwrap_err().to_string();
        assert!(error.contains("gate.yaml") && error.contains("severity"), "{error}");
    }

    #[test]
    fn options_for_the_rules_are_passed_on_as_they_are() {
        let settings = settings("policies: {options: {strictAmbient: true, ours: {teams: [a]}}}\n").unwrap();
        let options = serde_json::to_value(&settings.file.policies.options).unwrap();
        assert_eq!(options, serde_json::json!({"strictAmbient": true, "ours": {"teams": ["a"]}}));
    }

    #[test]
    fn a_wrong_kind_says_what_was_expected() {
        let error = parse("gate.yaml", "apiVersion: v1\nkind: Pod\n").unwrap_err().to_string();
        assert!(error.contains("GateConfiguration") && error.contains("`Pod`"), "{error}");
    }

    #[test]
    fn what_would_admit_everything_or_do_nothing_is_refused_with_what_to_write() {
        let cases = [
            (
                "policies: {baseline: false}",
                "`policies.baseline` cannot be `false`",
                "name a bundle in `policies.bundles`",
            ),
            (
                "policies: {baseline: false, bundles: [{from: own.tar.gz, action: audit}]}",
                "`policies.baseline` cannot be `false`",
                "without `action: audit`",
            ),
            (
                "policies: {baseline: false, bundles: [{from: log.tar.gz, judges: false}]}",
                "`policies.baseline` cannot be `false`",
                "without `judges: false`",
            ),
            (
                "enforcement: {rules: {policy-error: audit}}",
                "`enforcement.rules` cannot be `policy-error`",
                "leave it out",
            ),
        ];
        for (text, place, cure) in cases {
            let error = settings(&format!("{text}\n")).unwrap_err().to_string();
            assert!(error.contains(place) && error.contains(cure), "{error}");
        }
        assert!(settings("policies: {baseline: false, bundles: [own.tar.gz]}\n").is_ok());
        assert!(settings("enforcement: {rules: {policy-error: deny}}\n").is_ok());
    }

    #[test]
    fn placement_on_a_profile_that_cannot_run_the_kind_is_refused() {
        let error = settings("runtimes: {placement: {spin-app: wasmtime}}\n").unwrap_err().to_string();
        assert!(error.contains("runtimes.placement.spin-app"), "{error}");
    }

    #[test]
    fn an_action_below_the_floor_is_refused_with_its_place() {
        let error =
            settings("enforcement: {floor: warn, namespaces: {shop: audit}}\n").unwrap_err().to_string();
        assert!(error.contains("`enforcement.namespaces.shop` cannot be `audit`"), "{error}");
        let error = settings("enforcement: {floor: deny, default: warn}\n").unwrap_err().to_string();
        assert!(error.contains("`enforcement.default`"), "{error}");
        assert!(settings("enforcement: {floor: warn, neverExempt: [native-code]}\n").is_ok());
    }

    #[test]
    fn a_bad_quantity_is_named_with_its_place() {
        let body = "runtimes:\n  placement: {}\n  profiles:\n  - name: a\n    runtimeClass: a\n    runs: []\n    ambient: spin\n    sizing:\n      memoryLimit: 32Mx\n";
        let error = settings(body).unwrap_err().to_string();
        assert!(error.contains("gate.yaml") && error.contains("line 11"), "{error}");
        assert!(error.contains("`32Mx` is not a quantity; write one such as `32Mi`"), "{error}");
    }

    #[test]
    fn what_a_platform_measured_takes_the_place_of_the_built_in_constants() {
        let own = |sizing: &str| {
            let profile = format!(
                "name: a, runtimeClass: a, runs: [module], ambient: youki-wasmtime, sizing: {{{sizing}}}"
            );
            let body = format!("runtimes: {{placement: {{}}, profiles: [{{{profile}}}]}}\n");
            settings(&body).unwrap().runtimes.by_class("a").unwrap().own_memory()
        };
        let written =
            own("baseMemory: 6Mi, bytesPerCodeByte: 3.5, fileBaseMemory: 8Mi, fileBytesPerCodeByte: '33'");
        assert_eq!(written.base.memory(), "6Mi");
        assert_eq!(written.file_base.map(Quantity::memory).as_deref(), Some("8Mi"));
        assert_eq!((written.per_byte, written.file_per_byte), (Some(3500), Some(33_000)));
        let usual = own("");
        assert_eq!((usual.file_base, usual.per_byte, usual.file_per_byte), (None, None, None));
        let body = "runtimes: {placement: {}, profiles: [{name: a, runtimeClass: a, runs: [], ambient: spin, sizing: {bytesPerCodeByte: 3Mi}}]}\n";
        let error = settings(body).unwrap_err().to_string();
        assert!(error.contains("`3Mi` is not a decimal number; write one such as `3.5`"), "{error}");
    }

    #[test]
    fn flags_win_over_the_file_and_lists_are_added() {
        let file =
            parse("gate.yaml", &format!("{HEAD}grants: a\nimages: {{registries: {{insecure: [one:1]}}}}\n"))
                .unwrap();
        let overrides = Overrides {
            grants: Some("b".into()),
            insecure_registries: vec!["two:2".into()],
            image_layouts: vec!["reg.example=dir".into()],
            ..Overrides::default()
        };
        let settings = resolve(file, overrides).unwrap();
        assert_eq!(settings.file.grants, Some(PathBuf::from("b")));
        assert_eq!(settings.file.images.registries.insecure, ["one:1", "two:2"]);
        assert_eq!(settings.file.images.layouts["reg.example"], PathBuf::from("dir"));
    }

    #[test]
    fn the_configuration_in_the_readme_is_one() {
        let readme = include_str!("../../README.md");
        let block = readme.split("```yaml\n").find(|b| b.contains("kind: GateConfiguration")).unwrap();
        let file = parse("README.md", block.split("```").next().unwrap()).unwrap();
        let settings = resolve(file, Overrides::default()).unwrap();
        let spin = settings.runtimes.by_class("wasmtime-spin-v2").unwrap();
        assert_eq!(spin.sizing.memory_limit.as_str(), "64Mi");
        assert_eq!(spin.own_memory().base.memory(), "24Mi", "a profile of one's own needs no less to start");
        assert_eq!(settings.file.images.registries.allow, ["ghcr.io", "*.example.com"]);
    }

    #[test]
    fn the_decision_log_goes_where_the_file_or_the_flag_says() {
        let body = "decisionLog: {output: {file: /var/log/gate.log}, labels: {cluster: eu-1}}\n";
        let file = parse("gate.yaml", &format!("{HEAD}{body}")).unwrap();
        assert_eq!(file.decision_log.output, DecisionLogOutput::File("/var/log/gate.log".into()));
        let overrides = Overrides { decision_log: Some(DecisionLogOutput::Off), ..Overrides::default() };
        let log = resolve(file, overrides).unwrap().file.decision_log;
        assert_eq!(log.output, DecisionLogOutput::Off);
        assert_eq!(log.labels["cluster"], "eu-1");
    }

    #[test]
    fn a_folder_without_a_name_and_a_label_of_the_gate_itself_are_refused() {
        for (body, said) in [
            ("policies: {store: ''}\n", "policies.store"),
            ("policies: {compiledDir: ''}\n", "policies.compiledDir"),
            ("images: {store: ''}\n", "images.store"),
            ("decisionLog: {labels: {cluster: a, id: x}}\n", "decisionLog.labels"),
        ] {
            let error = settings(body).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{said}` cannot be `")), "{error}");
        }
    }

    #[test]
    fn the_control_plane_and_the_gate_itself_are_always_exempt() {
        let file = parse("gate.yaml", &format!("{HEAD}exemptNamespaces: [monitoring]\n")).unwrap();
        let overrides = Overrides { own_namespace: Some("gates".into()), ..Overrides::default() };
        let exempt = resolve(file, overrides).unwrap().file.exempt_namespaces;
        let expected = ["gates", "kube-system", "monitoring"];
        assert_eq!(exempt.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_layout_flag_without_a_folder_says_the_form() {
        let overrides = Overrides { image_layouts: vec!["reg.example".into()], ..Overrides::default() };
        let error = resolve(File::default(), overrides).unwrap_err().to_string();
        assert!(error.contains("HOST=DIR"), "{error}");
    }
}
