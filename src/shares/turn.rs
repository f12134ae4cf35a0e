//! The turn in which a step of a task is taken, where its steps take turns (`server::under_way`). Long work gives it back before it begins, since the steps of
//! others would wait for it.

use std::cell::RefCell;

use super::line::Held;

thread_local! {
    /// That of the step which this thread takes.
    static TURN: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// Takes a step. Its turn is given back when the step ends, if that has not given it back before.
pub(crate) fn in_turn<T>(turn: Option<Held>, step: impl FnOnce() -> T) -> T {
    TURN.set(turn);
    let _end = End;
    step()
}

/// Whether this thread takes a step that has a turn.
pub(crate) fn has_turn() -> bool {
    TURN.with_borrow(Option::is_some)
}

/// Gives back the turn of the step that this thread takes, if it has one.
pub(crate) fn give_back_turn() {
    drop(TURN.take());
}

/// The end of a step, also where it panics.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        give_back_turn();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use futures::FutureExt;

    use super::super::Line;
    use super::*;

    #[tokio::test]
    async fn a_turn_is_held_until_its_step_ends_or_gives_it_back() {
        let turns = Line::of(1);
        let is_free = || turns.take(1, None).now_or_never().flatten().is_some();
        let turn = turns.take(1, None).await;
        let seen = in_turn(turn, || {
            let before = (has_turn(), is_free());
            give_back_turn();
            (before, (has_turn(), is_free()))
        });
        assert_eq!(seen, ((true, false), (false, true)));
        let turn = turns.take(1, None).await;
        assert!(in_turn(turn, has_turn));
        assert!(!has_turn() && is_free());
        assert!(!in_turn(None, has_turn));
    }

    #[tokio::test]
    async fn a_step_that_panics_gives_its_turn_back() {
        let turns = Line::of(1);
        let turn = turns.take(1, None).await;
        let step = AssertUnwindSafe(|| in_turn(turn, || -> bool { panic!("on purpose") }));
        assert!(catch_unwind(step).is_err() && !has_turn());
        assert!(turns.take(1, None).now_or_never().flatten().is_some());
    }
}
