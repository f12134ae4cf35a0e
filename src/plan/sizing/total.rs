//! What the containers of a pod add up to, and what the namespace allows the pod.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::draft::{Error, Notes, Object, not, object};
use super::super::sum::{self, PodShare};
use super::SizingContext;
use super::container::ContainerSizing;
use super::resource::{PodResources, Resource, Side, above_zero, written};
use super::settle::Chosen;
use crate::cluster::Bounds;
use crate::quantity::Quantity;
use crate::workload::Role;

/// Moves values that no person chose until the pod as a whole is within what the namespace allows.
pub(super) fn fit_total(
    spec: &Object,
    sizings: &mut [ContainerSizing<'_>],
    context: &SizingContext<'_>,
    resource: Resource,
) -> Result<(), Error> {
    let total = context.total(resource);
    if total == Bounds::default() {
        return Ok(());
    }
    let found = shares(spec, resource)?.into_iter().zip(0_usize..);
    // A tenant chooses how many containers there are.
    let (places, mut shares): (BTreeMap<ContainerPosition, usize>, Vec<PodShare>) =
        found.map(|((place, share), index)| ((place, index), share)).unzip();
    let index = |sizing: &ContainerSizing<'_>| places.get(&sizing.place()).copied();
    for sizing in &*sizings {
        if let Some(share) = index(sizing).and_then(|index| shares.get_mut(index)) {
            sizing.resource(resource).fill_share(context, share);
        }
    }
    if let Some(max) = total.max {
        sum::lower_limits(&mut shares, max);
        for sizing in &*sizings {
            if let Some(share) = index(sizing).and_then(|index| shares.get_mut(index)) {
                sizing.resource(resource).settle_again(context, share);
            }
        }
    }
    sum::fit_requests(&mut shares, total);
    for sizing in sizings {
        if let Some(share) = index(sizing).and_then(|index| shares.get(index)) {
            sizing.resource_mut(resource).wanted = Chosen { request: share.request, limit: share.limit };
        }
    }
    Ok(())
}

/// Warns about what the API server will still refuse, because of what a person chose or what the programs need.
pub(super) fn warn_of_total(
    spec: &Object,
    context: &SizingContext<'_>,
    pod: &PodResources,
    notes: &mut Notes,
) -> Result<(), Error> {
    for resource in Resource::BOTH {
        let Bounds { min, max, ratio } = context.total(resource);
        let shares: Vec<PodShare> = shares(spec, resource)?.into_iter().map(|(_, share)| share).collect();
        let (requests, limits) = (sum::total(&shares, sum::REQUESTS), sum::total(&shares, sum::LIMITS));
        let sums = [(Side::Limits, limits), (Side::Requests, requests)];
        let over = sums.into_iter().find(|(_, sum)| max.is_some_and(|max| *sum > max));
        // Under a pod-level size the API server counts that size.
        let under = sums.into_iter().rev().find(|(_, sum)| min.is_some_and(|min| *sum < min));
        let under = under.filter(|_| !pod.named.contains(&resource));
        if let Some(over) = over {
            let fix = "at most for a pod; lower a container's limit or raise that";
            notes.warn(told(context, resource, over, ("allows", max, fix)));
        } else if let Some(under) = under {
            let fix = "at least of a pod; raise a container's request and limit or lower that";
            notes.warn(told(context, resource, under, ("demands", min, fix)));
        } else if let Some(ratio) = ratio.filter(|ratio| limits > requests.times(*ratio))
            && !pod.named.contains(&resource)
        {
            notes.warn(format!(
                "the {} limits of the pod add up to {}, and its requests to {}, and a LimitRange of namespace `{}` allows \
                 limits {ratio} times the requests at most; raise a container's request or lower its limit",
                resource.name(),
                resource.written(limits),
                resource.written(requests),
                context.namespace
            ));
        }
    }
    Ok(())
}

/// Warns if the memory limit of the pod is less than its programs need that run together.
pub(super) fn warn_of_shared_limit(
    spec: &Object,
    sizings: &[ContainerSizing<'_>],
    (context, pod): (&SizingContext<'_>, &PodResources),
    notes: &mut Notes,
) -> Result<(), Error> {
    let Some(limit) = above_zero(pod.memory_limit) else { return Ok(()) };
    let sized: BTreeMap<ContainerPosition, &ContainerSizing<'_>> =
        sizings.iter().map(|sizing| (sizing.place(), sizing)).collect();
    let needs = shares(spec, Resource::Memory)?.into_iter().filter_map(|(place, share)| {
        let sizing = sized.get(&place)?;
        Some((share.stays, sizing.resource(Resource::Memory).floor()))
    });
    let Some(needed) = sum::together(needs).filter(|needed| limit < *needed) else { return Ok(()) };
    let shown = context.profile.ambient.runtime().out_of_memory();
    let shown = shown.map(|shown| format!(", {shown}")).unwrap_or_default();
    notes.warn(format!(
        "the Wasm containers of the pod that run together need about {needed} to start, and with a memory limit of the pod of {} \
         one of them may be killed for memory{shown}; set `spec.resources.limits.memory` to {needed} or more",
        limit.memory(),
        needed = needed.memory()
    ));
    Ok(())
}

/// A sum that is outside of a bound, and what mends it.
fn told(
    context: &SizingContext<'_>,
    resource: Resource,
    (side, sum): (Side, Quantity),
    (words, bound, fix): (&str, Option<Quantity>, &str),
) -> String {
    let bound = resource.written(bound.unwrap_or_default());
    format!(
        "the {} {} of the pod add up to {}, and a LimitRange of namespace `{}` {words} {bound} {fix}",
        resource.name(),
        side.name(),
        resource.written(sum),
        context.namespace,
    )
}

/// Where a container stands: its list and its position there.
type ContainerPosition = (&'static str, usize);

/// What every container of the pod has of one resource, in the order in which they start.
fn shares(spec: &Object, resource: Resource) -> Result<Vec<(ContainerPosition, PodShare)>, Error> {
    let mut found = Vec::new();
    for (list, init) in [(Role::InitContainer.list(), true), (Role::Container.list(), false)] {
        let items = match spec.get(list) {
            None | Some(Value::Null) => continue,
            Some(items) => items.as_array().ok_or_else(|| not(format!("spec.{list}"), "a list"))?,
        };
        for (index, item) in items.iter().enumerate() {
            let path = format!("spec.{list}[{index}]");
            let item = item.as_object().ok_or_else(|| not(path.clone(), "an object"))?;
            let stays = !init || item.get("restartPolicy").and_then(Value::as_str) == Some("Always");
            let mut share = PodShare { stays, ..PodShare::default() };
            if let Some(resources) = object(item, "resources", &path)? {
                let path = format!("{path}.resources");
                share.request = written(resources, Side::Requests, resource, &path)?;
                share.limit = written(resources, Side::Limits, resource, &path)?;
            }
            found.push(((list, index), share));
        }
    }
    Ok(found)
}
