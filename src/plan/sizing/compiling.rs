//! How long a program compiles in its container, and with which CPU limit that ends in time.

use super::super::draft::{Error, Notes, Object, object};
use super::super::floor;
use super::context::SizingContext;
use super::resource::{PodResources, Resource, Side, above_zero, written};
use crate::image::ImageFacts;
use crate::inspection::Container;
use crate::quantity::Quantity;
use crate::runtime::{Compiler, SizingMode};
use crate::workload::Restart;

/// What compiling takes, and the limits with which it stays short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compiling {
    /// CPU time in milliseconds, as estimated and at the slowest.
    millis: [i128; 2],
    /// The limit with which it takes ten seconds as estimated.
    short: Quantity,
    /// The limit with which it also ends at the slowest before a probe restarts the container; that probe.
    for_probe: Option<(Quantity, Restart)>,
}

impl Compiling {
    /// A profile that clamps has the last word about limits, so that no probe that a tenant writes raises its cap.
    pub(super) fn of(
        (container, context): (&Container, &SizingContext<'_>),
        compiler: Compiler,
        (facts, indices): (&ImageFacts, &[usize]),
    ) -> Self {
        let slowest = floor::slowest_compile_millis(compiler, facts.modules_at(indices));
        let probe = match context.profile.sizing.mode {
            SizingMode::Fill => context.first_restart(container),
            SizingMode::Clamp => None,
        };
        let for_probe =
            probe.and_then(|probe| Some((floor::cpu_within(slowest, probe.after_seconds)?, probe)));
        Self {
            millis: [floor::compile_millis(compiler, facts.modules_at(indices)), slowest],
            short: floor::cpu(compiler, facts.modules_at(indices)),
            for_probe,
        }
    }

    /// The limit that is filled in, of one that is long enough but for probes.
    pub(super) fn raised(&self, limit: Quantity) -> Quantity {
        self.for_probe.map_or(limit, |(enough, _)| limit.max(enough))
    }

    /// The least limit of which nothing is said.
    fn enough(&self) -> Quantity {
        self.raised(self.short)
    }

    /// Says of a limit that was filled in why it is as high.
    pub(super) fn explain(&self, (chosen, wanted): (Option<Quantity>, Option<Quantity>), notes: &mut Notes) {
        let Some((enough, probe)) = self.for_probe.filter(|(enough, _)| *enough > self.short) else { return };
        if chosen.is_none() && wanted == Some(enough) {
            notes.explain(&format!(
                ", with which its program is compiled before its `{}` may restart it after {} s, on the slowest machine that was \
                 measured too",
                probe.probe, probe.after_seconds
            ));
        }
    }

    /// Warns if the container compiles for long under the limit that it has now.
    pub(super) fn warn(
        &self,
        item: &Object,
        (container, pod): (&Container, &PodResources),
        path: &str,
        notes: &mut Notes,
    ) -> Result<(), Error> {
        let Some(resources) = object(item, "resources", path)? else { return Ok(()) };
        let limit = written(resources, Side::Limits, Resource::Cpu, path)?;
        let Some(limit) = limit.filter(|limit| *limit > Quantity::ZERO && *limit < self.short) else {
            return Ok(());
        };
        let [estimate, slowest] = self.millis.map(|millis| (millis + 999) / 1000);
        let enough = self.enough();
        // The API server refuses one of a container over that of its pod.
        let fix = if above_zero(pod.cpu_limit).is_some_and(|of_pod| of_pod < enough) {
            format!(
                "set `spec.resources.limits.cpu` to {} or more, and no lower limit in the container",
                enough.cpu()
            )
        } else {
            format!("set one of {} or more", enough.cpu())
        };
        notes.warn(format!(
            "container `{}`: it compiles for {estimate} to {slowest} CPU seconds at every start, under a CPU limit of {}; {fix}, or push \
             the program as a Wasm layer, which the node compiles once",
            container.name,
            limit.cpu()
        ));
        Ok(())
    }
}
