//! The time to find the grants of a container among one, a hundred and ten thousand: it stays the same. And what is
//! gained by parsing host patterns when grants are loaded, and those of a Spin application with the facts of its image.
//!
//! `cargo bench --bench grants`

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench stops where its set-up is wrong, and criterion's macros write undocumented items"
)]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use serde_json::{Value, json};
use wasmgate::capability::{Access, Capability, Entry, HostPattern};
use wasmgate::grant::{Grants, Subject, WasiGrant, cover};
use wasmgate::image::outbound::{OutboundHost, OutboundReach};

fn grant(kind: &str, name: &str, namespace: Option<&str>, spec: &Value) -> WasiGrant {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    serde_json::from_value(json!({
        "apiVersion": "wasmgate.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec,
    }))
    .unwrap()
}

fn capabilities() -> Value {
    json!([
        {"name": "http.outbound", "hosts": ["https://payments.example.com"]},
        {"name": "fs", "paths": ["/data"], "access": "read-only"},
        {"name": "env", "names": ["ORDERS_*"]},
    ])
}

/// The only matching grant among `others` of the shapes in a large cluster: for other namespaces, for other accounts of
/// the same namespace, and for namespaces by label.
fn grants(others: usize) -> Grants {
    let subjects = |account: &str| json!({"serviceAccounts": [account], "images": ["ghcr.io/myorg/orders*"]});
    let mine = json!({"subjects": subjects("orders"), "capabilities": capabilities()});
    let mut all = vec![grant("WasiGrant", "mine", Some("shop"), &mine)];
    for n in 0..others {
        let (name, account) = (format!("g{n}"), format!("sa-{n}"));
        let by_account = json!({"subjects": subjects(&account), "capabilities": capabilities()});
        let by_label = json!({"namespaceSelector": {"matchLabels": {"team": format!("t{n}")}},
            "capabilities": capabilities()});
        all.push(match n % 3 {
            0 => grant("WasiGrant", &name, Some(&format!("ns-{n}")), &by_account),
            1 => grant("WasiGrant", &name, Some("shop"), &by_account),
            _ => grant("ClusterWasiGrant", &name, None, &by_label),
        });
    }
    Grants::new(all).unwrap()
}

fn matching(criterion: &mut Criterion) {
    let labels = |key: &str, value: &str| BTreeMap::from([(key.to_string(), value.to_string())]);
    let (namespace_labels, pod_labels) = (labels("team", "orders"), labels("app", "api"));
    let subject = Subject {
        namespace: "shop",
        namespace_labels: &namespace_labels,
        service_account: "orders",
        labels: &pod_labels,
        image: "ghcr.io/myorg/orders:1.4@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    };
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let entries = vec![
        Entry::new(Capability::HttpOutbound, "bench")
            .to_host("https://payments.example.com".parse().unwrap()),
        Entry::new(Capability::Fs, "bench").at_path("/data/in", Access::ReadOnly),
        Entry::new(Capability::Env, "bench").named("ORDERS_DB"),
        Entry::new(Capability::Stdio, "bench"),
    ];
    let mut group = criterion.benchmark_group("grants");
    // With one grant most of the index is empty, and an empty map hashes nothing: a hundred is the fair comparison.
    for others in [0, 99, 9_999] {
        let grants = grants(others);
        let id = BenchmarkId::new("match and cover", grants.len());
        group.bench_function(id, |b| {
            b.iter(|| {
                let found = grants.matching(black_box(&subject), now);
                let mut entries = entries.clone();
                cover::cover(&mut entries, &found);
                assert_eq!((found.len(), entries.iter().filter(|e| e.covered_by.is_empty()).count()), (1, 0));
                entries
            });
        });
    }
    group.finish();
}

/// Two hundred host patterns, of which the last matches: parsed for each question, as texts would have to be, and
/// parsed once.
fn hosts(criterion: &mut Criterion) {
    let texts: Vec<String> = (0..200).map(|n| format!("https://api-{n}.example.com")).collect();
    let parse = |text: &String| text.parse::<HostPattern>().unwrap();
    let (patterns, reached): (Vec<HostPattern>, _) = (texts.iter().map(parse).collect(), parse(&texts[199]));
    let mut group = criterion.benchmark_group("hosts");
    group.bench_function("parsed at each review", |b| {
        b.iter(|| assert!(texts.iter().any(|text| parse(text).covers(black_box(&reached)))));
    });
    group.bench_function("parsed when loaded", |b| {
        b.iter(|| assert!(patterns.iter().any(|pattern| pattern.covers(black_box(&reached)))));
    });
    let written: Vec<String> = (0..20).map(|n| format!("https://api-{n}.example.com")).collect();
    let hosts: Vec<OutboundHost> = written.iter().map(|text| text.as_str().into()).collect();
    let entries = |host: &OutboundHost| match host.reach() {
        OutboundReach::Hosts(patterns) => patterns
            .iter()
            .map(|pattern| Entry::new(Capability::HttpOutbound, "bench").to_written_host(pattern.clone()))
            .collect::<Vec<_>>(),
        OutboundReach::Template(_) | OutboundReach::Unreadable(_) => Vec::new(),
    };
    group.bench_function("a Spin component's, parsed at each review", |b| {
        let parsed = |text: &String| entries(&OutboundHost::from(text.as_str()));
        b.iter(|| black_box(written.iter().flat_map(parsed).count()));
    });
    group.bench_function("a Spin component's, parsed with the facts of its image", |b| {
        b.iter(|| black_box(hosts.iter().flat_map(entries).count()));
    });
    group.finish();
}

criterion_group!(benches, matching, hosts);
criterion_main!(benches);
