//! When the kubelet restarts a container whose program is not up yet.

use k8s_openapi::api::core::v1::Probe;
use serde::Serialize;

use super::container::ContainerSpec;

/// A probe that restarts the container if it has not succeeded by a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// `startupProbe`, or `livenessProbe` where there is none: it waits for the other
    /// (`kubernetes:pkg/kubelet/prober/worker.go`, `doProbe`).
    pub probe: &'static str,
    /// Seconds from the container's start to the last failure that is allowed, at the earliest.
    pub after_seconds: u64,
}

impl ContainerSpec<'_> {
    /// The first probe for which the kubelet restarts the container; `None` where none does.
    pub fn first_restart(&self) -> Option<Restart> {
        let [liveness, _, startup] = self.probes;
        let named = startup.map(|probe| ("startupProbe", probe));
        let (name, probe) = named.or_else(|| liveness.map(|probe| ("livenessProbe", probe)))?;
        Some(Restart { probe: name, after_seconds: last_failure(probe) })
    }
}

/// When the last failure that a probe allows comes at the earliest. The API server fills in ten seconds and three
/// failures; a zero means the same (`kubernetes:pkg/apis/core/v1/defaults.go`, `SetDefaults_Probe`).
fn last_failure(probe: &Probe) -> u64 {
    let given = |value: Option<i32>, default: u64| match u64::try_from(value.unwrap_or(0)) {
        Ok(0) | Err(_) => default,
        Ok(value) => value,
    };
    let between = given(probe.failure_threshold, 3).saturating_sub(1);
    let period = given(probe.period_seconds, 10);
    given(probe.initial_delay_seconds, 0).saturating_add(between.saturating_mul(period))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_failure_counts_from_the_delay_and_a_startup_probe_comes_first() {
        let of = |probe: serde_json::Value| serde_json::from_value::<Probe>(probe).unwrap();
        for (probe, seconds) in [
            (json!({}), 20),
            (json!({"initialDelaySeconds": 3}), 23),
            (json!({"initialDelaySeconds": 3, "periodSeconds": 10, "failureThreshold": 3}), 23),
            (json!({"periodSeconds": 0, "failureThreshold": 0}), 20),
            (json!({"initialDelaySeconds": 5, "failureThreshold": 1}), 5),
            (
                json!({"initialDelaySeconds": -1, "periodSeconds": 2_147_483_647, "failureThreshold": 2_147_483_647}),
                4_611_686_011_984_936_962,
            ),
        ] {
            assert_eq!(last_failure(&of(probe.clone())), seconds, "{probe}");
        }
        let (liveness, startup) = (of(json!({})), of(json!({"failureThreshold": 30})));
        let first = |probes| ContainerSpec { probes, ..ContainerSpec::default() }.first_restart();
        let named = |probe, after_seconds| Some(Restart { probe, after_seconds });
        assert_eq!(first([Some(&liveness), None, None]), named("livenessProbe", 20));
        assert_eq!(first([Some(&liveness), None, Some(&startup)]), named("startupProbe", 290));
        assert_eq!(first([None, Some(&liveness), None]), None, "nothing is restarted for readiness");
    }
}
