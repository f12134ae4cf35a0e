//! Decides request and limit of one resource of one container, from what is proposed, allowed and chosen.

use crate::cluster::Bounds;
use crate::quantity::Quantity;
use crate::runtime::SizingMode;

/// A request and a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) request: Quantity,
    pub(super) limit: Quantity,
}

/// What one container should get of one resource if the pod spec does not mention it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) floor: Quantity,
    /// What the profile says, raised to what the program needs. Its limit bounds everything.
    pub(super) size: Pair,
    /// The request that is filled in: that of `size`, or what was learned, within `floor` and `size.limit`.
    pub(super) request: Quantity,
    /// Whether it was learned.
    pub(super) is_learned: bool,
    pub(super) step: Quantity,
}

/// The values that a person chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Chosen {
    pub(super) request: Option<Quantity>,
    pub(super) limit: Option<Quantity>,
}

/// Decides request and limit. Applied to its own result it changes nothing, whichever of the values then count as
/// chosen.
pub(super) fn settle(proposal: Proposal, bounds: Bounds, chosen: Chosen, mode: SizingMode) -> Pair {
    let clamps = mode == SizingMode::Clamp;
    let top = bounds.fit(proposal.size.limit);
    let low = bounds.fit(proposal.floor).min(top);
    let keep = |value: Quantity| if clamps { value.clamp(low, top) } else { value };
    let request = chosen.request.map(keep);
    // The kubelet takes a limit of zero for none, which a profile that clamps does not leave.
    let mut limit = chosen
        .limit
        .filter(|limit| !clamps || *limit != Quantity::ZERO)
        .map_or_else(|| request.map_or(top, |request| top.max(request.up_to(proposal.step))), keep);
    let headroom = limit.down_to(proposal.step);
    let mut request = match request {
        // Two LimitRanges may leave a request above a limit, with only one of them named in the annotation.
        Some(request) if clamps => request.min(headroom),
        Some(request) => request,
        None => bounds.fit(proposal.request).min(headroom),
    };
    if let Some(ratio) = bounds.ratio.filter(|ratio| limit > request.times(*ratio)) {
        if clamps || chosen.request.is_none() {
            request = limit.over(ratio).up_to(proposal.step).min(headroom).max(request);
        } else if chosen.limit.is_none() {
            limit = request.times(ratio).down_to(proposal.step).max(request.up_to(proposal.step));
        }
    }
    Pair { request, limit }
}
