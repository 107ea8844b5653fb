//! The sequencer: who gives `v` and `s`, and what T is. SEMANTICS sections 1 and 5.

use std::sync::Arc;

use asof_compute::Position;
use asof_model::{Clock, Timestamp};

/// Gives `v` and `s` to batches and T to requests. It knows no disk: what must outlive the process is kept
/// by [`super::lease`] (T) and the log (`v` and `s`).
#[derive(Debug)]
pub(super) struct Sequence {
    clock: Arc<dyn Clock>,
    /// The last `v` given.
    last_v: Timestamp,
    /// The last `v` that is on disk, with its batch.
    durable_v: Timestamp,
    /// The last `s` given.
    last_s: Position,
    /// The greatest T answered, or that may have been before the store was opened.
    last_t: Timestamp,
    /// Whether a T was answered since.
    asked: bool,
    /// No T past it and past the last durable `v` may be answered before a later one stands on disk.
    lease: Timestamp,
}

/// A T that may not be answered yet: one past the lease, and past every `v` that outlives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PastLease(pub(super) Timestamp);

impl Sequence {
    /// After what is known to have been given: `lease` is the greatest T that may have been answered.
    pub(super) fn resume(
        clock: Arc<dyn Clock>,
        last_v: Timestamp,
        last_s: Position,
        lease: Timestamp,
    ) -> Sequence {
        Sequence { clock, last_v, durable_v: last_v, last_s, last_t: lease, asked: false, lease }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The `v` that the next batch gets.
    pub(super) fn next_v(&self) -> Timestamp {
        let after = |given: Timestamp| Timestamp(given.0.saturating_add(1));
        self.now().max(after(self.last_v)).max(after(self.last_t))
    }

    /// The `s` that the next row gets.
    pub(super) fn next_s(&self) -> Position {
        Position(self.last_s.0.saturating_add(1))
    }

    /// The batch has been given `v`, and as many positions.
    pub(super) fn give(&mut self, v: Timestamp, rows: u32) {
        self.last_v = v;
        self.last_s = Position(self.last_s.0.saturating_add(i64::from(rows)));
    }

    /// The batch that was given this `v` is on disk, and all before it.
    pub(super) fn durable(&mut self, v: Timestamp) {
        self.durable_v = self.durable_v.max(v);
    }

    /// A position was given to what is no row.
    pub(super) fn pass(&mut self, s: Position) {
        self.last_s = self.last_s.max(s);
    }

    pub(super) fn last_v(&self) -> Timestamp {
        self.last_v
    }

    #[cfg(test)]
    pub(super) fn last_s(&self) -> Position {
        self.last_s
    }

    /// T of a request, not before `floor`; `waiting` is the `v` of the first batch that is not published yet.
    ///
    /// It never falls: while a batch waits, T stands one microsecond before its `v`, which was chosen past
    /// every T answered before.
    pub(super) fn answer(
        &mut self,
        waiting: Option<Timestamp>,
        floor: Timestamp,
    ) -> Result<Timestamp, PastLease> {
        let t = match waiting {
            Some(first) => Timestamp(first.0.saturating_sub(1)),
            None => self.now().max(self.last_v).max(floor),
        }
        .max(self.last_t);
        // The log brings back what it holds, so it says of a T as well as the lease that no `v` may come before it.
        if t > self.lease.max(self.durable_v) {
            return Err(PastLease(t));
        }
        self.last_t = t;
        self.asked = true;
        Ok(t)
    }

    /// T up to here may be answered: it stands on disk.
    pub(super) fn extend(&mut self, lease: Timestamp) {
        self.lease = self.lease.max(lease);
    }

    /// The T that is asked for as the clock goes, where it is in the later half of the lease of this length, or past
    /// it. A T ahead of the clock, as after a crash, wants none: it stays where it is until the clock has passed it.
    pub(super) fn wants_lease(&self, length: i64) -> Option<Timestamp> {
        let t = self.last_t.min(self.now());
        (self.asked && t.0 > self.lease.0.saturating_sub(length / 2)).then_some(t)
    }

    pub(super) fn last_t(&self) -> Timestamp {
        self.last_t
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use proptest::prelude::*;

    use super::*;

    const FLOOR: Timestamp = Timestamp::BEFORE_ALL;
    const LEASE: i64 = 5;

    #[derive(Debug, Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    fn sequence() -> (Arc<Hand>, Sequence) {
        let clock = Arc::new(Hand::default());
        let start = Timestamp(i64::MIN);
        let mut sequence = Sequence::resume(Arc::clone(&clock) as Arc<dyn Clock>, start, Position(0), start);
        sequence.extend(Timestamp(1_000_000));
        (clock, sequence)
    }

    fn push(sequence: &mut Sequence, rows: u32) -> (i64, i64) {
        let (v, s) = (sequence.next_v(), sequence.next_s());
        sequence.give(v, rows);
        (v.0, s.0)
    }

    #[test]
    fn two_pushes_in_one_microsecond_and_a_backward_step() {
        let (clock, mut sequence) = sequence();
        clock.0.store(100, Ordering::Relaxed);
        assert_eq!([push(&mut sequence, 2), push(&mut sequence, 1)], [(100, 1), (101, 3)]);
        clock.0.store(40, Ordering::Relaxed);
        assert_eq!(push(&mut sequence, 1), (102, 4));
        assert_eq!(sequence.answer(None, FLOOR), Ok(Timestamp(102)), "readable by the next request");
        assert_eq!(push(&mut sequence, 1), (103, 5), "past the T answered");
        clock.0.store(500, Ordering::Relaxed);
        assert_eq!(sequence.answer(None, FLOOR), Ok(Timestamp(500)));
        clock.0.store(300, Ordering::Relaxed);
        assert_eq!(sequence.answer(None, FLOOR), Ok(Timestamp(500)), "T does not fall");
        assert_eq!(push(&mut sequence, 1), (501, 6));
    }

    #[test]
    fn while_a_batch_waits_t_stands_before_it() {
        let (clock, mut sequence) = sequence();
        clock.0.store(100, Ordering::Relaxed);
        let (v, _) = push(&mut sequence, 1);
        clock.0.store(200, Ordering::Relaxed);
        assert_eq!(sequence.answer(Some(Timestamp(v)), FLOOR), Ok(Timestamp(99)));
        assert_eq!(push(&mut sequence, 1).0, 200);
        assert_eq!(sequence.answer(Some(Timestamp(v)), FLOOR), Ok(Timestamp(99)));
        assert_eq!(sequence.answer(Some(Timestamp(200)), FLOOR), Ok(Timestamp(199)));
        assert_eq!(sequence.answer(None, FLOOR), Ok(Timestamp(200)));
    }

    #[test]
    fn no_t_past_the_lease_is_answered() {
        let (clock, mut sequence) = sequence();
        clock.0.store(1_000_001, Ordering::Relaxed);
        assert_eq!(sequence.answer(None, FLOOR), Err(PastLease(Timestamp(1_000_001))));
        sequence.extend(Timestamp(1_000_005));
        assert_eq!(sequence.answer(None, FLOOR), Ok(Timestamp(1_000_001)));
        assert_eq!(sequence.wants_lease(10), Some(Timestamp(1_000_001)));
        // Opened again with a clock that was set back: nothing falls, nothing repeats.
        clock.0.store(7, Ordering::Relaxed);
        let lease = Timestamp(1_000_005);
        let mut again =
            Sequence::resume(clock as Arc<dyn Clock>, sequence.last_v(), sequence.last_s(), lease);
        assert_eq!(again.answer(None, FLOOR), Ok(lease));
        assert_eq!(push(&mut again, 1).0, 1_000_006);
        assert_eq!(again.wants_lease(10), None, "the clock is behind it");
        // What is acknowledged is readable: on disk it needs no lease, before that it does.
        assert_eq!(again.answer(None, FLOOR), Err(PastLease(Timestamp(1_000_006))));
        again.durable(Timestamp(1_000_006));
        assert_eq!(again.answer(None, FLOOR), Ok(Timestamp(1_000_006)));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Clock(i64),
        Push(u32),
        Publish,
        Ask,
        Restart,
    }

    proptest! {
        /// Whatever the clock does: v and s rise, T does not fall, no v is at or before a T answered, and
        /// every row published is at or before the next T. Neither T nor v goes further past the latest the clock ever
        /// showed than one lease, but for a microsecond a push, however often it is restarted.
        #[test]
        fn the_rules_hold_in_any_order(steps in proptest::collection::vec(prop_oneof![
            (-20_i64..20).prop_map(Step::Clock),
            (1_u32..4).prop_map(Step::Push),
            Just(Step::Publish),
            Just(Step::Ask),
            Just(Step::Restart),
        ], 0..60)) {
            let clock = Arc::new(Hand::default());
            let start = Timestamp(i64::MIN);
            let shared = || Arc::clone(&clock) as Arc<dyn Clock>;
            let mut sequence = Sequence::resume(shared(), start, Position(0), start);
            let mut waiting = std::collections::VecDeque::new();
            let (mut last, mut asked, mut published) = ((i64::MIN, 0), i64::MIN, i64::MIN);
            let mut lease = start;
            let (mut latest, mut pushes) = (0, 0);
            for step in steps {
                match step {
                    Step::Clock(by) => {
                        clock.0.fetch_add(by, Ordering::Relaxed);
                        latest = latest.max(clock.now().0);
                    }
                    Step::Push(rows) => {
                        let (v, s) = push(&mut sequence, rows);
                        prop_assert!(v > last.0 && s == last.1 + 1 && v > asked);
                        prop_assert!(v >= clock.now().0);
                        last = (v, s + i64::from(rows) - 1);
                        waiting.push_back(v);
                        pushes += 1;
                        prop_assert!(v <= latest + LEASE + pushes);
                    }
                    Step::Publish => {
                        published = waiting.pop_front().unwrap_or(published);
                        sequence.durable(Timestamp(published));
                    }
                    Step::Ask => {
                        let first = waiting.front().map(|v| Timestamp(*v));
                        let t = match sequence.answer(first, FLOOR) {
                            Ok(t) => t,
                            Err(PastLease(wanted)) => {
                                lease = Timestamp(wanted.0.max(clock.now().0 + LEASE));
                                sequence.extend(lease);
                                sequence.answer(first, FLOOR).unwrap()
                            }
                        };
                        prop_assert!(t.0 >= asked && t.0 >= published && t.0 <= lease.0.max(published));
                        prop_assert!(t.0 <= latest + LEASE + pushes);
                        prop_assert!(first.is_none_or(|first| t < first));
                        asked = t.0;
                    }
                    // What waits was not acknowledged and is gone, or is all there.
                    Step::Restart => {
                        published = last.0.max(published);
                        waiting.clear();
                        sequence = Sequence::resume(shared(), Timestamp(last.0), Position(last.1), lease);
                    }
                }
            }
        }
    }
}
