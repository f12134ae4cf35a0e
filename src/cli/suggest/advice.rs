//! Advice about what cannot be known from the image and the manifest.

use std::collections::BTreeSet;

use super::Open;
use crate::admission::Examined;
use crate::capability::ambient::{REDIRECTED, UNRESOLVED};
use crate::capability::{Capability, Entry, HostPattern, interpreter};
use crate::cli::report::JudgedFacts;
use crate::image::{Interpreter, ModuleFacts, Program};

/// The advice about one object, in the order of its containers.
pub(super) fn of(examined: &Examined<JudgedFacts>, kept: &JudgedFacts, open: &[Open]) -> Vec<String> {
    let about = |one: &Open, text: String| format!("container `{}`: {text}", one.container);
    // First what makes the grant below smaller.
    let cures =
        open.iter().flat_map(|one| redirected(&one.entries).into_iter().map(move |text| about(one, text)));
    let mut advice: Vec<String> = cures.chain(runtime(kept, open)).collect();
    for one in open {
        let about = |text: String| about(one, text);
        advice.extend(interpreters(examined, one).into_iter().map(about));
        advice.extend(unresolved(&one.entries).into_iter().map(about));
        advice.extend(any_host(&one.entries, kept.has_network_policies).map(about));
        advice.extend(unread(&one.entries).map(about));
        advice.extend(patterns(&one.entries).into_iter().map(about));
        advice.extend(unknown_imports(&one.entries).map(about));
    }
    advice
}

/// A runtime that no profile describes is assumed to hand over everything.
fn runtime(kept: &JudgedFacts, open: &[Open]) -> Option<String> {
    (!kept.is_described && !open.is_empty()).then(|| {
        format!(
            "no profile describes what RuntimeClass `{}` hands over, so everything was assumed; describe it under \
             `runtimes.profiles` of the configuration, or use a class that is described",
            kept.runtime_class.as_deref().unwrap_or_default()
        )
    })
}

/// Advice about programs that contain an interpreter or seem to.
fn interpreters(examined: &Examined<JudgedFacts>, open: &Open) -> Vec<String> {
    let container = examined.inspection.containers.iter().find(|c| c.name == open.container);
    let Some((facts, program)) = container.and_then(|c| c.known()) else { return Vec::new() };
    let Program::Wasm { modules, .. } = program else { return Vec::new() };
    facts.modules_at(modules).flat_map(interpreters_of).collect()
}

fn interpreters_of(module: &ModuleFacts) -> Vec<String> {
    if module.interpreters.is_empty() {
        return interpreter::is_likely(module).then(|| library(module)).into_iter().collect();
    }
    module.interpreters.iter().map(|found| narrow(module, found)).collect()
}

/// Advice about an interpreter that its bytes identify.
fn narrow(module: &ModuleFacts, found: &Interpreter) -> String {
    let seen = found.evidence.first().map(|e| format!(" ({}: {})", e.seen, e.value)).unwrap_or_default();
    let engine = found.engine;
    format!(
        "{} carries the interpreter {}{seen}, which can call everything that its standard library can: the imports say what \
         {} can do there and not what this program does; narrow the image rather than widen the grant: {}",
        module.source,
        engine.name(),
        engine.language(),
        interpreter::way_out(engine, module.format)
    )
}

/// Advice about a program that has the size and the imports of an interpreter.
fn library(module: &ModuleFacts) -> String {
    format!(
        "{} holds {} MiB of code and can reach variables, files and the network, as a program with its whole standard library \
         does: the imports say what the library can do and not what the program does; narrow the image rather than widen the \
         grant: build it without the parts that it does not need, or take their imports away afterwards with wasi-virt",
        module.source,
        module.code_bytes >> 20
    )
}

/// Advice about hosts of a Spin app that depend on a variable.
fn unresolved(entries: &[Entry]) -> Vec<String> {
    let mut found: Vec<String> = entries
        .iter()
        .flat_map(|entry| &entry.evidence)
        .filter(|evidence| evidence.contains(UNRESOLVED))
        .map(|evidence| {
            format!(
                "{evidence}; write the variable's value into `env` of the pod, as a literal under its own name in capitals \
                 (`API_HOST` for `api_host`), and suggest again to be granted that host alone"
            )
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Advice about hosts whose names the pod itself leads elsewhere. The evidence says what ends that.
fn redirected(entries: &[Entry]) -> BTreeSet<String> {
    let evidence = entries.iter().flat_map(|entry| &entry.evidence);
    let found = evidence.filter(|evidence| evidence.contains(REDIRECTED));
    found
        .map(|evidence| format!("{evidence}; do the first, and suggest again to be granted the host alone"))
        .collect()
}

/// Advice about sockets and requests on a runtime that does not restrict hosts.
fn any_host(entries: &[Entry], has_policies: bool) -> Option<String> {
    let wide = |entry: &&Entry| {
        entry.host.as_ref().is_some_and(|host| *host.pattern() == HostPattern::ANY)
            && !entry.evidence.iter().any(|e| e.contains(UNRESOLVED) || e.contains(REDIRECTED))
    };
    let mut names: Vec<&str> = entries.iter().filter(wide).map(|entry| entry.capability.as_str()).collect();
    names.dedup();
    let counts = if has_policies {
        "NetworkPolicies hold the pods of this profile: write the addresses that it needs into the grant, and they count \
         for `net.tcp.connect`, `net.udp` and `http.outbound`"
    } else {
        "a grant for some hosts would not cover it; restrict it with a NetworkPolicy, and say so in the profile \
         (`networkPolicies: enforced`) for grants by address to count"
    };
    (!names.is_empty()).then(|| {
        format!(
            "{} reaches any host: the image does not say which hosts it needs, and the runtime does not restrict them; {counts}; \
             or build the program without these imports",
            names.join(", ")
        )
    })
}

fn unread(entries: &[Entry]) -> Option<String> {
    let evidence =
        entries.iter().flat_map(|entry| &entry.evidence).find(|e| e.ends_with("module was not read"))?;
    Some(format!("{evidence}, so it was assumed to use everything that it is handed"))
}

/// Advice about variables from a whole ConfigMap or Secret.
fn patterns(entries: &[Entry]) -> Vec<String> {
    let is_pattern = |entry: &&Entry| {
        entry.capability == Capability::Env && entry.name.as_ref().is_some_and(|name| name.contains('*'))
    };
    let from = |entry: &Entry| {
        let place = entry.evidence.iter().find(|e| e.starts_with("envFrom"));
        place.map(|place| {
            format!(
                "which variables {place} brings is not known here; take its keys one by one with `env[].valueFrom` to be \
                 granted them by name"
            )
        })
    };
    entries.iter().filter(is_pattern).filter_map(from).collect()
}

fn unknown_imports(entries: &[Entry]) -> Option<String> {
    let unknown = entries.iter().filter(|entry| entry.capability == Capability::UnknownImport);
    let names: Vec<&str> = unknown.filter_map(|entry| entry.name.as_deref()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "what `{}` does is not known here: grant it only if you know which host function answers",
            names.join("`, `")
        )
    })
}
