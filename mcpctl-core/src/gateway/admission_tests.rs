use std::{collections::VecDeque, sync::atomic::AtomicBool, thread};

use proptest::prelude::*;

use super::*;

/// The places that can still be had at once.
fn free(gate: &Arc<Gate>) -> usize {
    let held: Vec<Place> = std::iter::from_fn(|| gate.try_enter()).collect();
    held.len()
}

#[tokio::test]
async fn places_are_given_in_turn_and_a_waiter_that_leaves_gives_way() {
    let gate = Arc::new(Gate::new(1));
    let held = gate.try_enter().unwrap();
    let mut waiters: VecDeque<_> = (0..4).map(|_| Box::pin(gate.next())).collect();
    for waiter in &mut waiters {
        assert!(futures_ready(waiter.as_mut()).is_none());
    }
    drop(waiters.remove(1));
    drop(held);
    assert!(gate.try_enter().is_none(), "the place belongs to the line");
    while let Some(mut first) = waiters.pop_front() {
        for later in &mut waiters {
            assert!(futures_ready(later.as_mut()).is_none(), "out of turn");
        }
        drop(futures_ready(first.as_mut()).expect("its turn"));
    }
    assert_eq!(free(&gate), 1);
}

/// What a future gives when it is polled once.
fn futures_ready<T>(future: std::pin::Pin<&mut impl Future<Output = Option<T>>>) -> Option<T> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut cx) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_higher_limit_lets_those_in_line_in() {
    let gate = Arc::new(Gate::new(1));
    let _held = gate.try_enter().unwrap();
    let mut waiter = Box::pin(gate.next());
    assert!(futures_ready(waiter.as_mut()).is_none());
    gate.resize(2);
    assert!(futures_ready(waiter.as_mut()).is_some());
}

#[test]
fn places_are_counted_right_among_threads() {
    let gate = Arc::new(Gate::new(3));
    let (inside, over, stop) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if let Some(place) = gate.try_enter() {
                        // While the limit moves between 3 and 5, no more than 5 are ever inside.
                        over.fetch_or(inside.fetch_add(1, AcqRel) >= 5, Relaxed);
                        inside.fetch_sub(1, AcqRel);
                        drop(place);
                    }
                }
                stop.store(true, Relaxed);
            });
        }
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                gate.resize(5);
                gate.resize(3);
            }
        });
    });
    assert!(!over.load(Relaxed), "too many were inside");
    assert_eq!(free(&gate), 3, "every place is back, and no more than there are");
}

proptest! {
    /// However the limit changes while places come and go, in the end there are as many as the last limit says, and
    /// nobody gets in over the limit of the moment.
    #[test]
    fn any_changes_of_the_limit_come_out_even(steps in prop::collection::vec((0..3_u8, 1..9_usize), 0..60)) {
        let gate = Arc::new(Gate::new(4));
        let (mut held, mut limit) = (VecDeque::new(), 4);
        for (what, number) in steps {
            match what {
                0 => {
                    let got = gate.try_enter();
                    prop_assert_eq!(got.is_some(), held.len() < limit);
                    held.extend(got);
                }
                1 => drop(held.pop_front()),
                _ => {
                    limit = number;
                    gate.resize(limit);
                }
            }
        }
        held.clear();
        prop_assert_eq!(free(&gate), limit);
    }
}
