//! Brings the sizes of a pod's containers into what a LimitRange of type `Pod` allows their sum
//! (`kubernetes:plugin/pkg/admission/limitranger/admission.go`, `PodValidateLimitFunc`). Moves only values that no
//! person chose, from the front of the pod to its end, and each by as little as possible. Running it again on the
//! outcome moves nothing, whichever values then count as chosen.

use crate::cluster::Bounds;
use crate::quantity::Quantity;

/// One container's request and limit of one resource: its share of the pod's sum. Shares are in the order of the pod,
/// init containers first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PodShare {
    /// Whether it runs as long as the pod: an ordinary container, or a sidecar.
    pub(super) stays: bool,
    pub(super) request: Option<Quantity>,
    pub(super) limit: Option<Quantity>,
    /// How far the sizes may be moved; `None` for a container that wasmgate does not size.
    pub(super) free: Option<Free>,
}

/// How far a container's sizes may be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Free {
    /// Whether the request may be moved, because no person chose it.
    pub(super) request: bool,
    /// Whether the limit may be moved, because no person chose it.
    pub(super) limit: bool,
    /// The least value: what the program needs and the LimitRange for containers demands.
    pub(super) least: Quantity,
    /// The greatest value that the LimitRange for containers, and a profile that clamps, allow.
    pub(super) most: Option<Quantity>,
    /// The greatest allowed ratio of limit to request.
    pub(super) ratio: Option<Quantity>,
    /// The step to which values are rounded when written.
    pub(super) step: Quantity,
}

impl PodShare {
    /// The least value that the limit may take.
    fn least_limit(&self) -> Option<Quantity> {
        let free = self.free.filter(|free| free.limit)?;
        let request = self.request.filter(|_| !free.request).map(|request| request.up_to(free.step));
        Some(request.map_or(free.least, |request| request.max(free.least)))
    }

    /// The least value that the request may take under its limit.
    fn least_request(&self) -> Option<Quantity> {
        let free = self.free.filter(|free| free.request)?;
        let by_ratio = self.limit.zip(free.ratio).map(|(limit, ratio)| limit.over(ratio).up_to(free.step));
        Some(by_ratio.map_or(free.least, |least| least.max(free.least)))
    }
}

/// The request or the limit of a container.
type AmountOf = fn(&mut PodShare) -> &mut Option<Quantity>;

/// The limits.
pub(super) const LIMITS: AmountOf = |share| &mut share.limit;
/// The requests.
pub(super) const REQUESTS: AmountOf = |share| &mut share.request;

/// The sum over all containers and sidecars or, if greater, one init container plus the sidecars before it
/// (`kubernetes/component-helpers:resource/helpers.go` `PodLimits`, without overhead).
pub(super) fn total(shares: &[PodShare], side: AmountOf) -> Quantity {
    let (mut running, mut most) = (Quantity::ZERO, Quantity::ZERO);
    for mut share in shares.iter().copied() {
        let amount = side(&mut share).unwrap_or(Quantity::ZERO);
        if share.stays {
            running = running + amount;
        } else {
            most = most.max(running + amount);
        }
    }
    running.max(most)
}

/// The most that the containers need together, if that is more than each needs alone. Each comes with whether it stays, in the order
/// of the pod, init containers first.
pub fn together(needs: impl Iterator<Item = (bool, Quantity)>) -> Option<Quantity> {
    let share = |(stays, need)| PodShare { stays, limit: Some(need), ..PodShare::default() };
    let shares: Vec<PodShare> = needs.map(share).collect();
    let most = shares.iter().filter_map(|share| share.limit).max()?;
    Some(total(&shares, LIMITS)).filter(|sum| *sum > most)
}

/// For each container the most that those need together which run with it at some time, itself included. Each comes with whether it
/// stays, in the order of the pod, init containers first.
pub fn each_together(needs: &[(bool, Quantity)]) -> Vec<Quantity> {
    let mut running = Quantity::ZERO;
    let mut moments = Vec::with_capacity(needs.len());
    for (stays, need) in needs {
        let sum = running + *need;
        moments.push(sum);
        if *stays {
            running = sum;
        }
    }
    // From the end: what stays runs with all that stay, and with each init container that comes after it.
    let mut most = running;
    let mut each = Vec::with_capacity(needs.len());
    for ((stays, _), sum) in needs.iter().zip(moments).rev() {
        if *stays {
            each.push(most);
        } else {
            most = most.max(sum);
            each.push(sum);
        }
    }
    each.reverse();
    each
}

/// Lowers the limits that no person chose, as far as possible, until the pod's limit is at most `max`.
pub(super) fn lower_limits(shares: &mut [PodShare], max: Quantity) {
    lower(shares, max, LIMITS, PodShare::least_limit);
}

fn lower(shares: &mut [PodShare], max: Quantity, side: AmountOf, least: fn(&PodShare) -> Option<Quantity>) {
    let stay = |share: &PodShare| if share.stays { *side(&mut { *share }) } else { None };
    let sum = shares.iter().filter_map(stay).fold(Quantity::ZERO, |sum, amount| sum + amount);
    let mut over = sum.less(max);
    for share in shares.iter_mut().filter(|share| share.stays) {
        over = over.less(cut(share, over, side, least));
    }
    let mut running = Quantity::ZERO;
    for share in shares {
        let amount = side(share).unwrap_or(Quantity::ZERO);
        if share.stays {
            running = running + amount;
        } else {
            cut(share, (running + amount).less(max), side, least);
        }
    }
}

/// Takes at most `over` from a container. Returns how much it took.
fn cut(
    share: &mut PodShare,
    over: Quantity,
    side: AmountOf,
    least: fn(&PodShare) -> Option<Quantity>,
) -> Quantity {
    let Some(least) = least(share) else { return Quantity::ZERO };
    let Some(amount) = side(share) else { return Quantity::ZERO };
    let taken = amount.less(least).min(over);
    *amount = amount.less(taken);
    taken
}

/// Moves the requests that no person chose, as far as possible, until the pod's request is within `bounds`. Raises
/// limits that no person chose where requests under the present ones do not suffice.
pub(super) fn fit_requests(shares: &mut [PodShare], bounds: Bounds) {
    if let Some(max) = bounds.max {
        lower(shares, max, REQUESTS, PodShare::least_request);
    }
    let by_ratio = bounds.ratio.map(|ratio| total(shares, LIMITS).over(ratio));
    if let Some(wanted) = bounds.min.max(by_ratio) {
        raise(shares, wanted, bounds.max);
    }
    if let Some(min) = bounds.min {
        raise_limits(shares, min, bounds.max);
    }
}

/// How much the containers that stay must gain for the whole pod to reach `wanted`.
fn lacking(shares: &[PodShare], wanted: Quantity) -> Quantity {
    if total(shares, REQUESTS) >= wanted {
        return Quantity::ZERO;
    }
    let staying = shares.iter().filter(|share| share.stays).filter_map(|share| share.request);
    wanted.less(staying.fold(Quantity::ZERO, |sum, amount| sum + amount))
}

/// How far the container at `place`, which stays, may be raised before the pod exceeds `max`: counted together with all
/// containers that stay, and beside each init container that starts after it.
fn headroom(shares: &[PodShare], side: AmountOf, place: usize, max: Quantity) -> Quantity {
    let (mut running, mut most) = (Quantity::ZERO, Quantity::ZERO);
    for (index, mut share) in shares.iter().copied().enumerate() {
        let amount = side(&mut share).unwrap_or(Quantity::ZERO);
        if share.stays {
            running = running + amount;
        } else if index > place {
            most = most.max(running + amount);
        }
    }
    max.less(running.max(most))
}

/// Raises requests under their present limits.
fn raise(shares: &mut [PodShare], wanted: Quantity, max: Option<Quantity>) {
    let mut lack = lacking(shares, wanted);
    for place in 0..shares.len() {
        let headroom = max.map(|max| headroom(shares, REQUESTS, place, max));
        let Some(share) = shares.get_mut(place).filter(|share| share.stays) else { continue };
        let Some(free) = share.free.filter(|free| free.request) else { continue };
        let (Some(request), Some(limit)) = (share.request, share.limit) else { continue };
        let more = lack.up_to(free.step).min(limit.down_to(free.step).less(request));
        let more = headroom.map_or(more, |headroom| more.min(headroom));
        share.request = Some(request + more);
        lack = lack.less(more);
    }
}

/// Raises requests together with their limits.
fn raise_limits(shares: &mut [PodShare], wanted: Quantity, max: Option<Quantity>) {
    let mut lack = lacking(shares, wanted);
    for place in 0..shares.len() {
        let headrooms =
            max.map(|max| (headroom(shares, REQUESTS, place, max), headroom(shares, LIMITS, place, max)));
        let Some(share) = shares.get_mut(place).filter(|share| share.stays) else { continue };
        let Some(free) = share.free.filter(|free| free.request && free.limit) else { continue };
        let (Some(request), Some(limit)) = (share.request, share.limit) else { continue };
        let own = free.most.map(|most| most.less(request));
        let pods = headrooms.map(|(requests, limits)| requests.min(limit.less(request) + limits));
        let more = [own, pods].into_iter().flatten().fold(lack.up_to(free.step), Ord::min);
        let raised = request + more;
        share.request = Some(raised);
        share.limit = Some(limit.max(raised));
        lack = lack.less(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mi(amount: i128) -> Quantity {
        Quantity::from_bytes(amount << 20)
    }

    fn share(stays: bool, request: i128, limit: i128, free: bool) -> PodShare {
        let bounds =
            Free { request: true, limit: true, least: mi(4), most: None, ratio: None, step: Quantity::BYTE };
        PodShare { stays, request: Some(mi(request)), limit: Some(mi(limit)), free: free.then_some(bounds) }
    }

    fn limits(shares: &[PodShare]) -> Vec<Quantity> {
        shares.iter().filter_map(|share| share.limit).collect()
    }

    #[test]
    fn a_pod_needs_what_runs_at_once() {
        let sidecar = share(true, 1, 8, false);
        let init = share(false, 1, 30, false);
        let app = share(true, 1, 20, false);
        assert_eq!(total(&[sidecar, init, app], LIMITS), mi(38));
        assert_eq!(total(&[init, sidecar, app], LIMITS), mi(30));
        assert_eq!(total(&[init, sidecar, app], REQUESTS), mi(2));
    }

    #[test]
    fn what_several_need_together_is_more_than_what_each_needs_alone() {
        let of = |needs: &[(bool, i128)]| together(needs.iter().map(|(stays, need)| (*stays, mi(*need))));
        assert_eq!(of(&[(true, 15), (true, 15)]), Some(mi(30)));
        assert_eq!(of(&[(true, 8), (false, 30), (true, 20)]), Some(mi(38)), "a sidecar before it goes on");
        assert_eq!(of(&[(false, 15), (false, 15), (true, 15)]), None, "one after the other");
        assert_eq!(of(&[(true, 15)]), None);
        assert_eq!(of(&[(true, 0), (true, 15)]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn each_container_runs_with_those_that_stay_and_with_the_init_containers_after_it() {
        let of = |needs: &[(bool, i128)]| {
            let needs: Vec<_> = needs.iter().map(|(stays, need)| (*stays, mi(*need))).collect();
            each_together(&needs)
        };
        let (init, sidecar, late, app) = ((false, 100), (true, 5), (false, 50), (true, 1));
        assert_eq!(of(&[init, sidecar, app, app]), [mi(100), mi(7), mi(7), mi(7)]);
        assert_eq!(of(&[sidecar, init, app]), [mi(105), mi(105), mi(6)], "the app starts after it");
        assert_eq!(of(&[init, sidecar, late, app]), [mi(100), mi(55), mi(55), mi(6)]);
        assert_eq!(of(&[app]), [mi(1)]);
        assert_eq!(of(&[]), []);
    }

    #[test]
    fn limits_are_lowered_from_the_front_and_never_below_what_is_needed() {
        let mut shares = [share(true, 4, 32, true), share(true, 8, 16, false), share(true, 4, 32, true)];
        lower_limits(&mut shares, mi(60));
        assert_eq!(limits(&shares), [mi(12), mi(16), mi(32)]);
        lower_limits(&mut shares, mi(40));
        assert_eq!(limits(&shares), [mi(4), mi(16), mi(20)]);
        lower_limits(&mut shares, mi(10));
        assert_eq!(limits(&shares), [mi(4), mi(16), mi(4)]);
    }

    #[test]
    fn an_init_container_is_lowered_only_if_it_is_too_large_itself() {
        let mut shares = [share(true, 4, 8, false), share(false, 4, 64, true), share(true, 4, 20, true)];
        lower_limits(&mut shares, mi(32));
        assert_eq!(limits(&shares), [mi(8), mi(24), mi(20)]);
    }

    #[test]
    fn requests_are_raised_below_their_limits_first() {
        let bounds = |min, max| Bounds { min: Some(mi(min)), max: Some(mi(max)), ratio: None };
        let mut shares = [share(true, 4, 16, true), share(true, 4, 16, true)];
        fit_requests(&mut shares, bounds(24, 64));
        assert_eq!((shares[0].request, shares[1].request), (Some(mi(16)), Some(mi(8))));
        assert_eq!(limits(&shares), [mi(16), mi(16)]);
        fit_requests(&mut shares, bounds(40, 64));
        assert_eq!((limits(&shares), total(&shares, REQUESTS)), (vec![mi(24), mi(16)], mi(40)));
        fit_requests(&mut shares, bounds(100, 64));
        assert_eq!((total(&shares, LIMITS), total(&shares, REQUESTS)), (mi(64), mi(64)));
    }

    #[test]
    fn a_ratio_for_the_pod_raises_requests() {
        let mut shares = [share(true, 4, 32, true), share(true, 4, 32, false)];
        fit_requests(&mut shares, Bounds { ratio: Some(Quantity::parse("2").unwrap()), ..Bounds::default() });
        assert_eq!(total(&shares, REQUESTS), mi(32));
    }
}
