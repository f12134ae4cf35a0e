//! Brings the sizes of a pod's containers into what a LimitRange of type `Pod` allows their sum
//! (`kubernetes:plugin/pkg/admission/limitranger/admission.go`, `PodValidateLimitFunc`). Only values that nobody chose
//! are moved, from the front of the pod to its end and each as little as will do, so that doing it again to the outcome
//! moves nothing, whichever of the values count as chosen then.

use super::quantity::Quantity;

/// The narrowest of what the LimitRanges of a namespace allow a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) min: Option<Quantity>,
    pub(super) max: Option<Quantity>,
    pub(super) ratio: Option<Quantity>,
}

/// One container of the pod, in the order of the pod: init containers first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seat {
    /// Whether it runs as long as the pod: an ordinary container, or a sidecar.
    pub(super) stays: bool,
    pub(super) request: Option<Quantity>,
    pub(super) limit: Option<Quantity>,
    /// What of it may be moved; nothing for a container that is somebody else's.
    pub(super) free: Option<Free>,
}

/// How far a container's sizes may be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Free {
    /// Whether nobody chose the request.
    pub(super) request: bool,
    /// Whether nobody chose the limit.
    pub(super) limit: bool,
    /// What the program needs and its own LimitRange demands.
    pub(super) least: Quantity,
    /// The most that its own LimitRange, and a profile that clamps, allow.
    pub(super) most: Option<Quantity>,
    /// The largest limit for a request of one.
    pub(super) ratio: Option<Quantity>,
    /// The step in which it is written.
    pub(super) step: Quantity,
}

impl Seat {
    /// The least that the limit may become.
    fn least_limit(&self) -> Option<Quantity> {
        let free = self.free.filter(|free| free.limit)?;
        let request = self.request.filter(|_| !free.request).map(|request| request.up_to(free.step));
        Some(request.map_or(free.least, |request| request.max(free.least)))
    }

    /// The least that the request may become under its limit.
    fn least_request(&self) -> Option<Quantity> {
        let free = self.free.filter(|free| free.request)?;
        let by_ratio = self.limit.zip(free.ratio).map(|(limit, ratio)| limit.over(ratio).up_to(free.step));
        Some(by_ratio.map_or(free.least, |least| least.max(free.least)))
    }
}

/// A side of all containers.
type Side = fn(&mut Seat) -> &mut Option<Quantity>;

/// The limits.
pub(super) const LIMITS: Side = |seat| &mut seat.limit;
/// The requests.
pub(super) const REQUESTS: Side = |seat| &mut seat.request;

/// The sum of all containers and sidecars, or of one init container and the sidecars before it when that is more
/// (`kubernetes/component-helpers:resource/helpers.go` `PodLimits`, without overhead).
pub(super) fn total(seats: &[Seat], side: Side) -> Quantity {
    let (mut running, mut most) = (Quantity::ZERO, Quantity::ZERO);
    for mut seat in seats.iter().copied() {
        let amount = side(&mut seat).unwrap_or(Quantity::ZERO);
        if seat.stays {
            running = running + amount;
        } else {
            most = most.max(running + amount);
        }
    }
    running.max(most)
}

/// Lowers the limits that nobody chose until the pod's are within `max`, as far as that goes.
pub(super) fn lower_limits(seats: &mut [Seat], max: Quantity) {
    lower(seats, max, LIMITS, Seat::least_limit);
}

fn lower(seats: &mut [Seat], max: Quantity, side: Side, least: fn(&Seat) -> Option<Quantity>) {
    let stay = |seat: &Seat| if seat.stays { *side(&mut { *seat }) } else { None };
    let sum = seats.iter().filter_map(stay).fold(Quantity::ZERO, |sum, amount| sum + amount);
    let mut over = sum.less(max);
    for seat in seats.iter_mut().filter(|seat| seat.stays) {
        over = over.less(cut(seat, over, side, least));
    }
    let mut running = Quantity::ZERO;
    for seat in seats {
        let amount = side(seat).unwrap_or(Quantity::ZERO);
        if seat.stays {
            running = running + amount;
        } else {
            cut(seat, (running + amount).less(max), side, least);
        }
    }
}

/// Takes at most `over` from a container; says how much it was.
fn cut(seat: &mut Seat, over: Quantity, side: Side, least: fn(&Seat) -> Option<Quantity>) -> Quantity {
    let Some(least) = least(seat) else { return Quantity::ZERO };
    let Some(amount) = side(seat) else { return Quantity::ZERO };
    let spare = amount.less(least).min(over);
    *amount = amount.less(spare);
    spare
}

/// Brings the requests that nobody chose to where the pod's are between what its bounds allow, as far as that goes; limits
/// that nobody chose are raised where requests under them do not suffice.
pub(super) fn fit_requests(seats: &mut [Seat], bounds: Total) {
    if let Some(max) = bounds.max {
        lower(seats, max, REQUESTS, Seat::least_request);
    }
    let by_ratio = bounds.ratio.map(|ratio| total(seats, LIMITS).over(ratio));
    if let Some(wanted) = bounds.min.max(by_ratio) {
        raise(seats, wanted, bounds.max);
    }
    if let Some(min) = bounds.min {
        raise_limits(seats, min, bounds.max);
    }
}

/// What the containers that stay lack when the whole pod has less than `wanted`.
fn lacking(seats: &[Seat], wanted: Quantity) -> Quantity {
    if total(seats, REQUESTS) >= wanted {
        return Quantity::ZERO;
    }
    let staying = seats.iter().filter(|seat| seat.stays).filter_map(|seat| seat.request);
    wanted.less(staying.fold(Quantity::ZERO, |sum, amount| sum + amount))
}

/// By how much the container at `place`, which stays, may be raised before the pod passes `max`: together with all that
/// stay, and beside each init container that starts after it.
fn room(seats: &[Seat], side: Side, place: usize, max: Quantity) -> Quantity {
    let (mut running, mut most) = (Quantity::ZERO, Quantity::ZERO);
    for (index, mut seat) in seats.iter().copied().enumerate() {
        let amount = side(&mut seat).unwrap_or(Quantity::ZERO);
        if seat.stays {
            running = running + amount;
        } else if index > place {
            most = most.max(running + amount);
        }
    }
    max.less(running.max(most))
}

/// Raises requests under their limits.
fn raise(seats: &mut [Seat], wanted: Quantity, max: Option<Quantity>) {
    let mut lack = lacking(seats, wanted);
    for place in 0..seats.len() {
        let room = max.map(|max| room(seats, REQUESTS, place, max));
        let Some(seat) = seats.get_mut(place).filter(|seat| seat.stays) else { continue };
        let Some(free) = seat.free.filter(|free| free.request) else { continue };
        let (Some(request), Some(limit)) = (seat.request, seat.limit) else { continue };
        let more = lack.up_to(free.step).min(limit.down_to(free.step).less(request));
        let more = room.map_or(more, |room| more.min(room));
        seat.request = Some(request + more);
        lack = lack.less(more);
    }
}

/// Raises requests together with their limits.
fn raise_limits(seats: &mut [Seat], wanted: Quantity, max: Option<Quantity>) {
    let mut lack = lacking(seats, wanted);
    for place in 0..seats.len() {
        let rooms = max.map(|max| (room(seats, REQUESTS, place, max), room(seats, LIMITS, place, max)));
        let Some(seat) = seats.get_mut(place).filter(|seat| seat.stays) else { continue };
        let Some(free) = seat.free.filter(|free| free.request && free.limit) else { continue };
        let (Some(request), Some(limit)) = (seat.request, seat.limit) else { continue };
        let own = free.most.map(|most| most.less(request));
        let pods = rooms.map(|(requests, limits)| requests.min(limit.less(request) + limits));
        let more = [own, pods].into_iter().flatten().fold(lack.up_to(free.step), Ord::min);
        let raised = request + more;
        seat.request = Some(raised);
        seat.limit = Some(limit.max(raised));
        lack = lack.less(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mi(amount: i128) -> Quantity {
        Quantity::from_bytes(amount << 20)
    }

    fn seat(stays: bool, request: i128, limit: i128, free: bool) -> Seat {
        let bounds =
            Free { request: true, limit: true, least: mi(4), most: None, ratio: None, step: Quantity::BYTE };
        Seat { stays, request: Some(mi(request)), limit: Some(mi(limit)), free: free.then_some(bounds) }
    }

    fn limits(seats: &[Seat]) -> Vec<Quantity> {
        seats.iter().filter_map(|seat| seat.limit).collect()
    }

    #[test]
    fn a_pod_needs_what_runs_at_once() {
        let sidecar = seat(true, 1, 8, false);
        let init = seat(false, 1, 30, false);
        let app = seat(true, 1, 20, false);
        assert_eq!(total(&[sidecar, init, app], LIMITS), mi(38));
        assert_eq!(total(&[init, sidecar, app], LIMITS), mi(30));
        assert_eq!(total(&[init, sidecar, app], REQUESTS), mi(2));
    }

    #[test]
    fn limits_give_way_from_the_front_and_never_below_what_is_needed() {
        let mut seats = [seat(true, 4, 32, true), seat(true, 8, 16, false), seat(true, 4, 32, true)];
        lower_limits(&mut seats, mi(60));
        assert_eq!(limits(&seats), [mi(12), mi(16), mi(32)]);
        lower_limits(&mut seats, mi(40));
        assert_eq!(limits(&seats), [mi(4), mi(16), mi(20)]);
        lower_limits(&mut seats, mi(10));
        assert_eq!(limits(&seats), [mi(4), mi(16), mi(4)]);
    }

    #[test]
    fn an_init_container_gives_way_only_where_it_is_too_large_itself() {
        let mut seats = [seat(true, 4, 8, false), seat(false, 4, 64, true), seat(true, 4, 20, true)];
        lower_limits(&mut seats, mi(32));
        assert_eq!(limits(&seats), [mi(8), mi(24), mi(20)]);
    }

    #[test]
    fn requests_are_raised_below_their_limits_first() {
        let bounds = |min, max| Total { min: Some(mi(min)), max: Some(mi(max)), ratio: None };
        let mut seats = [seat(true, 4, 16, true), seat(true, 4, 16, true)];
        fit_requests(&mut seats, bounds(24, 64));
        assert_eq!((seats[0].request, seats[1].request), (Some(mi(16)), Some(mi(8))));
        assert_eq!(limits(&seats), [mi(16), mi(16)]);
        fit_requests(&mut seats, bounds(40, 64));
        assert_eq!((limits(&seats), total(&seats, REQUESTS)), (vec![mi(24), mi(16)], mi(40)));
        fit_requests(&mut seats, bounds(100, 64));
        assert_eq!((total(&seats, LIMITS), total(&seats, REQUESTS)), (mi(64), mi(64)));
    }

    #[test]
    fn a_ratio_of_the_whole_raises_requests() {
        let mut seats = [seat(true, 4, 32, true), seat(true, 4, 32, false)];
        fit_requests(&mut seats, Total { ratio: Some(Quantity::parse("2").unwrap()), ..Total::default() });
        assert_eq!(total(&seats, REQUESTS), mi(32));
    }
}
