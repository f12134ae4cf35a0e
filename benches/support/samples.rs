//! The samples of `manifests/samples` as the benches ask about them: images, grants, reviews, and a gate that knows them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use wasmgate::admission::{Gate, State};
use wasmgate::audit::{DecisionLogOptions, DecisionLogOutput, Labels, Metrics, Sink};
use wasmgate::grant;
use wasmgate::lookup::{self, Inspector};
use wasmgate::policy::{Bundle, Engine, Limits, PolicySet};
use wasmgate::runtime::Runtimes;

/// How long a review may take.
pub const BUDGET: Duration = Duration::from_mins(1);

/// The folder of the samples.
fn samples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("manifests/samples")
}

/// The embedded baseline, evaluated by this engine.
pub async fn baseline(engine: &Engine) -> Arc<PolicySet> {
    PolicySet::load(engine, vec![Bundle::embedded().unwrap()], Limits::default()).await.unwrap().into()
}

/// A gate with the sample images and grants and these policies.
pub fn gate(policies: Arc<PolicySet>, output: DecisionLogOutput) -> Gate {
    let layouts = [("samples.example".to_string(), samples().join("images"))].into();
    let images = lookup::LookupOptions {
        layouts,
        tag_ttl: Duration::from_hours(1),
        ..lookup::LookupOptions::default()
    };
    let metrics = Arc::new(Metrics::new());
    let sink =
        Sink::open(&DecisionLogOptions { output, ..DecisionLogOptions::default() }, metrics.drops()).unwrap();
    let mut state = State::new(Runtimes::default(), Arc::default(), policies);
    state.grants = grant::load::load_dir(&samples().join("grants")).unwrap().grants.into();
    state.exempt_namespaces = ["kube-system".to_string()].into();
    let inspector = Inspector::new(images).unwrap();
    Gate::new(state, inspector, sink, metrics, Labels::new("bench", &[].into()))
}

/// A sample review, padded to the 7 KB of a typical pod in a real cluster.
pub fn body(name: &str) -> Vec<u8> {
    let text = std::fs::read(samples().join(format!("reviews/{name}.json"))).unwrap();
    let mut review: Value = serde_json::from_slice(&text).unwrap();
    for index in 0.. {
        let bytes = serde_json::to_vec(&review).unwrap();
        if bytes.len() >= 7 * 1024 {
            return bytes;
        }
        let annotations = review.pointer_mut("/request/object/metadata/annotations").unwrap();
        annotations[format!("example.com/note-{index:02}")] =
            json!("a line of text as charts and controllers leave it");
    }
    unreachable!()
}
