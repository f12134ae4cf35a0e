//! What the containers of a pod use. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::quantity::Quantity;

/// Most containers of one pod that are looked at.
const MOST_CONTAINERS: usize = 64;

/// What a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Processors, as a mean of some seconds.
    pub cpu: Quantity,
    /// Memory that cannot be taken back (the working set).
    pub memory: Quantity,
}

#[derive(Deserialize)]
struct PodMetrics<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(default, borrow)]
    containers: Vec<ContainerMetrics<'a>>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(default, borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ContainerMetrics<'a> {
    #[serde(default, borrow)]
    name: Cow<'a, str>,
    #[serde(default, borrow)]
    usage: Usage<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage<'a> {
    #[serde(borrow)]
    cpu: Cow<'a, str>,
    #[serde(borrow)]
    memory: Cow<'a, str>,
}

/// The name of a pod, and what each container uses of which both amounts can be read.
pub fn used(metrics: &RawValue) -> Option<(String, Vec<(String, Used)>)> {
    let PodMetrics { metadata, containers } = serde_json::from_str(metrics.get()).ok()?;
    let amount = |text: &str| Quantity::parse(text).ok().filter(|amount| *amount >= Quantity::ZERO);
    let found = containers.iter().take(MOST_CONTAINERS).filter_map(|one| {
        let (cpu, memory) = (amount(&one.usage.cpu)?, amount(&one.usage.memory)?);
        Some((one.name.to_string(), Used { cpu, memory }))
    });
    Some((metadata.name.to_string(), found.collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(metrics: &Value) -> Option<(String, Vec<(String, Used)>)> {
        used(&RawValue::from_string(metrics.to_string()).unwrap())
    }

    #[test]
    fn amounts_are_read_as_the_metrics_server_writes_them() {
        let containers = json!([{"name": "app", "usage": {"cpu": "1234567n", "memory": "8400Ki"}}, {"name": "b", "usage": {"cpu": "1m"}},
            {"name": "c", "usage": {"cpu": "-1m", "memory": "1Mi"}}, {"name": "d"}]);
        let metrics = json!({"metadata": {"name": "orders-1", "namespace": "shop"}, "timestamp": "2026-06-01T00:00:00Z", "window": "15s",
            "containers": containers});
        let (pod, found) = of(&metrics).unwrap();
        let [(name, Used { cpu, memory })] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((pod.as_str(), name.as_str()), ("orders-1", "app"));
        assert_eq!((cpu.micros(), memory.bytes()), (1_235, 8_400 << 10));
        for junk in [json!([]), json!({}), json!({"metadata": {}, "containers": [7]})] {
            assert_eq!(of(&junk), None, "{junk}");
        }
    }
}
