//! A Deployment of many replicas on a real control plane: each pod is mutated and judged, and but for the first ones by a decision that was
//! known.

use serde_json::json;

use super::{Cluster, deployment};
use crate::support::process::root;
use crate::support::tls::get;

/// Pods of the Deployment.
const REPLICAS: u64 = 500;

/// Most reviews that are decided anew: the first pod's, those that came while it was decided, the templates', and as many again after each
/// change of the cluster that the gate learns of meanwhile.
const FEW: u64 = 20;

/// The sum of a metric over its series that have all of these labels.
fn sum(page: &str, name: &str, labels: &[&str]) -> u64 {
    let value = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let is_of_name = series.strip_prefix(name)?.starts_with('{');
        (is_of_name && labels.iter().all(|label| series.contains(label)))
            .then(|| value.parse::<u64>().unwrap())
    };
    page.lines().filter_map(value).sum()
}

/// What the gate has counted of new pods.
#[derive(Debug)]
struct Counts {
    mutated: u64,
    validated: u64,
    /// Of both, those that were admitted by their content.
    admitted: u64,
    /// Reviews of all objects for which images were looked up: a decision that is known takes none.
    decided: u64,
    /// Evaluations that were not needed.
    hits: u64,
}

impl Counts {
    fn of(cluster: &Cluster) -> Self {
        let probes = cluster.gate.probes.parse().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let page = runtime.block_on(get(probes, "/metrics")).unwrap().text();
        let new_pods = |label: &str| {
            let labels = [r#"kind="Pod""#, r#"operation="CREATE""#, label];
            sum(&page, "wasmgate_admission_requests_total", &labels)
        };
        Self {
            mutated: new_pods(r#"webhook="mutate""#),
            validated: new_pods(r#"webhook="validate""#),
            admitted: new_pods(r#"outcome="allow""#) + new_pods(r#"outcome="warn""#),
            decided: sum(&page, "wasmgate_stage_duration_seconds_count", &[r#"stage="inspect""#]),
            hits: sum(&page, "wasmgate_policy_verdicts_total", &[r#"result="hit""#]),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            mutated: self.mutated - earlier.mutated,
            validated: self.validated - earlier.validated,
            admitted: self.admitted - earlier.admitted,
            decided: self.decided - earlier.decided,
            hits: self.hits - earlier.hits,
        }
    }
}

/// On a control plane of its own, whose gate is asked about nothing else meanwhile.
#[test]
fn the_pods_of_a_large_deployment_are_admitted_by_decisions_that_are_known() {
    // By default the controller makes twenty pods a second.
    let cluster = Cluster::start_with(vec!["--kube-api-qps=50".into(), "--kube-api-burst=60".into()]);
    let namespace = cluster.plane.namespace("many", &json!({}));
    let image = cluster.image("hello");
    // A first pod has the image read. That of the Deployment is another one.
    let mut first = deployment(&namespace, "first", &image, &json!({}));
    first["spec"]["replicas"] = json!(1);
    cluster.plane.apply(&first, &[]).ok();
    cluster.pod_of(&namespace, "first");
    let (before, cpu_before) = (Counts::of(&cluster), cluster.gate.cpu_time());

    let mut many = deployment(&namespace, "many", &image, &json!({}));
    many["spec"]["replicas"] = json!(REPLICAS);
    cluster.plane.apply(&many, &[]).ok();
    cluster.plane.wait_for("all pods of the deployment", || {
        let found = cluster.plane.get(&["deployment", "many", "--namespace", &namespace]);
        (found["status"]["replicas"] == json!(REPLICAS)).then_some(())
    });
    let counted = Counts::of(&cluster).since(&before);
    let cpu = cluster.gate.cpu_time().saturating_sub(cpu_before);

    let digest = String::from_utf8(cluster.registry.crane(root(), &["digest", &image]).stdout).unwrap();
    let pinned = json!(format!("{image}@{}", digest.trim()));
    let pods = cluster.plane.list(&["pods", "--namespace", &namespace, "--selector=app=many"]);
    assert_eq!(pods.len(), usize::try_from(REPLICAS).unwrap());
    for pod in &pods {
        let spec = &pod["spec"];
        assert_eq!(
            (&spec["runtimeClassName"], &spec["containers"][0]["image"]),
            (&json!("wasmtime"), &pinned)
        );
    }

    let reviews = counted.mutated + counted.validated;
    println!(
        "{REPLICAS} replicas: {reviews} reviews, {} decided anew, {} µs of CPU each",
        counted.decided,
        cpu.as_micros() / u128::from(reviews.max(1)),
    );
    assert!(counted.mutated >= REPLICAS && counted.validated >= REPLICAS, "{counted:?}");
    assert_eq!(counted.admitted, reviews, "none failed and none was refused: {counted:?}");
    assert!(counted.decided <= FEW, "{counted:?}");
    assert!(counted.hits + FEW >= counted.validated, "{counted:?}");
}
