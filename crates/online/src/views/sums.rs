//! Sums of tiles that requests ask for again, in memory.
//!
//! The edges of an entity's windows move from one request to the next, but which tiles lie between two of them stays as
//! it is until an edge passes one: of a hot entity the same tiles are added up a thousand times. What they come to is
//! remembered here, as the tile that they would be together. It is taken only by who sees the same tiles: whoever changes
//! tiles says so before and after ([`TileSums::changing`]), and who looked at the store in between, or before, is told of
//! none.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use asof_compute::{KeyEncoder, PlanStates, Position, WindowPlan};
use asof_model::Timestamp;

use super::read::{Made, broken};
use crate::Result;

/// So many entities have sums at once, by the hash of their keys.
const SLOTS: usize = 1 << 10;
/// So many parts of one entity are remembered: a request of four windows asks for forty.
const MOST: usize = 256;
/// Bytes of all sums of a table; past them all are forgotten.
const BYTES: usize = 16 << 20;
/// Bytes of one sum, which are those of the states of all aggregates of a view; longer ones are not remembered.
const LONGEST: usize = BYTES / 64;
/// What a part takes besides the states of its tiles, about.
const PART: usize = 128;

/// Tiles of a level between two multiples of its length.
pub(super) type Part = (usize, Range<i64>);

/// The tiles of a part, added up.
#[derive(Debug)]
pub(super) struct Sum {
    /// The greatest of the tiles'; none where there are none.
    pub(super) newest: Option<Timestamp>,
    /// What they cover of the part, in order.
    pub(super) covered: Vec<Range<i64>>,
    pub(super) states: Vec<u8>,
}

/// What is remembered of a part. Who asks once is not made to wait for a sum.
#[derive(Debug, Clone)]
enum Seen {
    Once,
    Sum(Arc<Sum>),
    /// What it comes to is too long to be remembered.
    TooLong,
}

type Known = HashMap<Part, Seen>;

/// The sums of a table.
#[derive(Debug)]
pub(super) struct TileSums {
    slots: Box<[Mutex<Slot>]>,
    bytes: AtomicUsize,
    taken: AtomicUsize,
}

#[derive(Debug)]
struct Slot {
    /// From this position on the tiles of all entities of this slot are as they are now; none while one is changed.
    since: Option<Position>,
    entity: Vec<u8>,
    known: Arc<Known>,
    bytes: usize,
}

/// What becomes of an entity's tiles.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    /// These are put or removed.
    Tiles(&'a Made),
    /// Any may be.
    Any,
}

impl TileSums {
    pub(super) fn new() -> TileSums {
        let slot =
            || Slot { since: Some(Position::NONE), entity: Vec::new(), known: Arc::default(), bytes: 0 };
        TileSums {
            slots: (0..SLOTS).map(|_| Mutex::new(slot())).collect(),
            bytes: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        }
    }

    /// How many sums were taken in place of tiles.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn slot(&self, entity: &[u8]) -> MutexGuard<'_, Slot> {
        let slot = &self.slots[KeyEncoder::hash(entity) as usize % SLOTS];
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tiles of an entity are about to be changed: nobody is told of any before [`TileSums::changed`], also where that
    /// is never called since the change failed.
    pub(super) fn changing(&self, entity: &[u8], change: Change<'_>) {
        let mut slot = self.slot(entity);
        slot.since = None;
        if slot.entity != entity {
            return;
        }
        let known: Known = match change {
            Change::Any => Known::new(),
            Change::Tiles(made) => {
                let at = |level: usize, start: i64| (level, Timestamp(start));
                let stays = |(level, range): &Part| {
                    made.range(at(*level, range.start)..at(*level, range.end)).next().is_none()
                };
                let known = slot.known.iter().filter(|(part, _)| stays(part));
                known.map(|(part, seen)| (part.clone(), seen.clone())).collect()
            }
        };
        self.put(&mut slot, entity, known);
    }

    /// They were changed: whoever looks at this position sees it.
    pub(super) fn changed(&self, entity: &[u8], at: Position) {
        self.slot(entity).since = Some(at);
    }

    /// All tiles are about to go, for good.
    pub(super) fn close(&self) {
        for slot in &self.slots {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.since = None;
            self.put(&mut slot, &[], Known::new());
        }
    }

    /// For one request about an entity, which looks at this position.
    pub(super) fn request<'a>(
        &'a self,
        plan: &'a Arc<WindowPlan>,
        entity: &'a [u8],
        at: Position,
    ) -> Option<Remembering<'a>> {
        let slot = self.slot(entity);
        let since = slot.since.filter(|since| *since <= at)?;
        let known = if slot.entity == entity { Arc::clone(&slot.known) } else { Arc::default() };
        Some(Remembering { sums: self, plan, entity, since, known, new: Vec::new(), used: Vec::new() })
    }

    fn put(&self, slot: &mut Slot, entity: &[u8], known: Known) {
        let bytes_of = |sum: &Sum| sum.states.len() + size_of_val(&sum.covered[..]);
        let bytes_of = |seen: &Seen| match seen {
            Seen::Sum(sum) => PART + bytes_of(sum),
            Seen::Once | Seen::TooLong => PART,
        };
        let parts = known.values().map(bytes_of);
        let before = std::mem::replace(&mut slot.bytes, entity.len() + parts.sum::<usize>());
        (slot.entity, slot.known) = (entity.to_vec(), Arc::new(known));
        self.bytes.fetch_add(slot.bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    /// Forgets all, but for slots that are asked for at this moment.
    fn forget(&self) {
        for slot in &self.slots {
            if let Ok(mut slot) = slot.try_lock() {
                self.put(&mut slot, &[], Known::new());
            }
        }
    }
}

/// What one request takes of an entity's sums, and adds to them.
#[derive(Debug)]
pub(super) struct Remembering<'a> {
    sums: &'a TileSums,
    plan: &'a Arc<WindowPlan>,
    entity: &'a [u8],
    since: Position,
    known: Arc<Known>,
    new: Vec<(Part, Seen)>,
    used: Vec<Part>,
}

/// What is remembered of a part.
#[derive(Debug)]
pub(super) enum Found {
    Sum(Arc<Sum>),
    /// Its tiles are to be added up, for the next who asks.
    Adding(Adding),
    Nothing,
}

impl Remembering<'_> {
    /// What a part comes to at T.
    pub(super) fn find(&mut self, part: &Part, at: Timestamp) -> Found {
        match self.known.get(part) {
            Some(Seen::Sum(sum)) if sum.newest.is_none_or(|newest| newest <= at) => {
                self.used.push(part.clone());
                Found::Sum(Arc::clone(sum))
            }
            // Its tiles do not help at this T.
            Some(Seen::Sum(_) | Seen::TooLong) => Found::Nothing,
            Some(Seen::Once) => {
                Found::Adding(Adding { states: PlanStates::new(self.plan, 1, |_| true), newest: None })
            }
            None => {
                self.new.push((part.clone(), Seen::Once));
                Found::Nothing
            }
        }
    }

    /// Remembers what a part comes to, whose tiles cover so much of it.
    pub(super) fn add(&mut self, part: &Part, adding: Adding, covered: Vec<Range<i64>>) {
        let mut sum = Sum { newest: adding.newest, covered, states: Vec::new() };
        if sum.newest.is_some() {
            adding.states.encode(0, &mut sum.states);
        }
        let seen = if sum.states.len() <= LONGEST { Seen::Sum(Arc::new(sum)) } else { Seen::TooLong };
        self.new.push((part.clone(), seen));
    }

    /// Leaves what was added to later requests.
    pub(super) fn done(self) {
        let Remembering { sums, entity, since, known, mut new, used, .. } = self;
        sums.taken.fetch_add(used.len(), Ordering::Relaxed);
        if new.is_empty() {
            return;
        }
        new.truncate(MOST);
        let more = new.iter().filter(|(part, _)| !known.contains_key(part)).count();
        let mut all: Known = match known.len() + more <= MOST {
            true => known.as_ref().clone(),
            // What this request had no use for goes first.
            false => {
                let used = used.into_iter().take(MOST - new.len());
                used.filter_map(|part| known.get(&part).map(|seen| (part, seen.clone()))).collect()
            }
        };
        all.extend(new);
        let mut slot = sums.slot(entity);
        if slot.since == Some(since) {
            sums.put(&mut slot, entity, all);
        }
        drop(slot);
        if sums.bytes.load(Ordering::Relaxed) > BYTES {
            sums.forget();
        }
    }
}

/// A part being added up.
#[derive(Debug)]
pub(super) struct Adding {
    states: PlanStates,
    newest: Option<Timestamp>,
}

impl Adding {
    /// Takes in the next of its tiles.
    pub(super) fn tile(&mut self, newest: Timestamp, states: &[u8]) -> Result<()> {
        self.newest = self.newest.max(Some(newest));
        self.states.merge_encoded(0, states, |_| true).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use asof_compute::StoredWindows;
    use asof_model::{DataType, Feature};

    use super::*;

    fn plan() -> Arc<WindowPlan> {
        let features: [(&Feature, &DataType); 0] = [];
        Arc::clone(StoredWindows::new(features, &[]).unwrap().plan())
    }

    /// Asks for a part at a position, and adds it up where that is asked for: whether a sum was there.
    fn ask(sums: &TileSums, entity: &[u8], part: &Part, at: i64) -> Option<bool> {
        let plan = plan();
        let mut request = sums.request(&plan, entity, Position(at))?;
        let found = match request.find(part, Timestamp(100)) {
            Found::Sum(_) => true,
            Found::Adding(mut adding) => {
                let mut states = Vec::new();
                PlanStates::new(&plan, 1, |_| true).encode(0, &mut states);
                adding.tile(Timestamp(50), &states).unwrap();
                request.add(part, adding, vec![part.1.clone()]);
                false
            }
            Found::Nothing => false,
        };
        request.done();
        Some(found)
    }

    fn known(sums: &TileSums, entity: &[u8], part: &Part, at: i64) -> Option<bool> {
        let plan = plan();
        let mut request = sums.request(&plan, entity, Position(at))?;
        Some(matches!(request.find(part, Timestamp(100)), Found::Sum(_)))
    }

    #[test]
    fn a_sum_is_made_for_the_second_who_asks_and_taken_by_the_third() {
        let sums = TileSums::new();
        let part = (1, 0..40);
        assert_eq!([0, 1, 2].map(|_| ask(&sums, b"a", &part, 7)), [Some(false), Some(false), Some(true)]);
        assert_eq!(ask(&sums, b"a", &(0, 0..40), 7), Some(false), "of another level");
        assert_eq!(sums.taken(), 1);
        let plan = plan();
        let mut request = sums.request(&plan, b"a", Position(7)).unwrap();
        assert!(matches!(request.find(&part, Timestamp(49)), Found::Nothing), "before something it holds");
    }

    #[test]
    fn what_is_changed_is_not_taken_by_who_looks_elsewhere() {
        let sums = TileSums::new();
        let (one, other) = ((1, 0..40), (1, 40..80));
        for part in [&one, &other] {
            (0..2).for_each(|_| _ = ask(&sums, b"a", part, 7));
            assert_eq!(known(&sums, b"a", part, 7), Some(true));
        }
        let made = Made::from([((1, Timestamp(40)), None), ((0, Timestamp(0)), None)]);
        // One who asked before it, and is done after it.
        let plan = plan();
        let mut slow = sums.request(&plan, b"a", Position(7)).unwrap();
        assert!(matches!(slow.find(&(1, 80..90), Timestamp(100)), Found::Nothing));
        sums.changing(b"a", Change::Tiles(&made));
        assert_eq!(known(&sums, b"a", &one, 100), None, "while it is changed");
        slow.done();
        sums.changed(b"a", Position(9));
        assert_eq!(known(&sums, b"a", &one, 8), None, "who looked before");
        assert_eq!(known(&sums, b"a", &one, 9), Some(true), "none of its tiles was changed");
        assert_eq!(known(&sums, b"a", &other, 9), Some(false));
        sums.changing(b"a", Change::Any);
        sums.changed(b"a", Position(12));
        assert_eq!(known(&sums, b"a", &one, 12), Some(false));
        sums.changing(b"a", Change::Any);
        assert_eq!(known(&sums, b"a", &one, i64::MAX), None, "the change failed");
    }

    #[test]
    fn entities_of_one_slot_take_turns() {
        let sums = TileSums::new();
        let slot = |key: &[u8]| KeyEncoder::hash(key) as usize % SLOTS;
        let one = 0_u32.to_be_bytes();
        let other = (1_u32..).map(u32::to_be_bytes).find(|other| slot(other) == slot(&one)).unwrap();
        let part = (0, 0..10);
        (0..2).for_each(|_| _ = ask(&sums, &one, &part, 1));
        assert_eq!(known(&sums, &other, &part, 1), Some(false));
        sums.changing(&other, Change::Any);
        assert_eq!(known(&sums, &one, &part, 1), None, "nobody can tell who is changed");
        sums.changed(&other, Position(4));
        assert_eq!([3, 4].map(|at| known(&sums, &one, &part, at)), [None, Some(true)]);
        ask(&sums, &other, &part, 4);
        assert_eq!(known(&sums, &one, &part, 4), Some(false));
    }

    #[test]
    fn memory_is_bounded() {
        let sums = TileSums::new();
        let parts = |from: i64| (from..from + 2 * MOST as i64).map(|at| (0, at..at + 1));
        let plan = plan();
        for from in [0, 1_000, 2_000] {
            let mut request = sums.request(&plan, b"a", Position(0)).unwrap();
            parts(from).for_each(|part| _ = request.find(&part, Timestamp(0)));
            request.done();
            let slot = sums.slot(b"a");
            assert_eq!(slot.known.len(), MOST);
            assert!(slot.known.contains_key(&(0, from..from + 1)), "the last request's stay");
        }
        let sums = TileSums::new();
        let mut most = 0;
        for number in 0..2_000_u32 {
            let entity = [&number.to_be_bytes()[..], &[0; 20_000]].concat();
            ask(&sums, &entity, &(0, 0..1), 0);
            most = most.max(sums.bytes.load(Ordering::Relaxed));
        }
        assert!((BYTES / 2..BYTES + 30_000).contains(&most), "{most}");
        sums.close();
        assert_eq!(sums.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(known(&sums, b"a", &(0, 0..1), i64::MAX), None);
    }
}
