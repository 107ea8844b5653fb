//! What requests read of entities that are asked for again, in memory.
//!
//! What a request needs of an entity hardly changes from one to the next: the edges of its windows move by moments, and
//! most entities get no row in between. So of an entity that is asked for again it is remembered what stands beside its
//! rows, the rows around the edges ([`super::rows`]), and what the tiles between them come to ([`super::sums`]), each where
//! it is not too long. Who asks for an entity of which nothing was written since need not look at the store at all; who
//! asks for one that rows come to looks for what came late and for the newest rows.
//!
//! What is taken is what the store would have given, at the position of who asks. Two kinds of writers see to that:
//! - rows and their ends: their entity is named, with their position, before they are published ([`Memory::wrote`]). Of
//!   what was read before that position only stretches are taken to which nothing came late since;
//! - tiles, and what goes: said before and after ([`Memory::changing`]). All is forgotten that it may change, and who looked
//!   at the store in between, or before, is told of nothing and tells nothing.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use asof_compute::{KeyEncoder, Position, WindowPlan};
use asof_model::Timestamp;

use super::read::{EntityState, Made};
use super::rows::KeptRows;
use super::sums::{Adding, Found, Part, Seen, Sum, Sums};

/// So many entities are remembered at once, by the hash of their keys.
const SLOTS: usize = 1 << 13;
/// So many sums of one entity are remembered: a request of four windows asks for forty.
const MOST_SUMS: usize = 256;
/// So many stretches of rows of one entity are remembered: a request of four windows asks for five.
const MOST_ROWS: usize = 32;
/// Bytes of all that is remembered, beside the slots, of which each table of the process gets the same part. A table that
/// is past its own forgets what was not asked for lately when it is asked next; of one entity it keeps half of it at most.
const BYTES: usize = 64 << 20;
/// Bytes of one sum, of one stretch of rows, of what stands beside the rows of one entity; longer ones are not remembered.
pub(super) const LONGEST: usize = BYTES / 256;

/// How many memories there are.
static MEMORIES: AtomicUsize = AtomicUsize::new(0);

/// The memory of a table.
#[derive(Debug)]
pub(super) struct Memory {
    slots: Box<[Mutex<Slot>]>,
    bytes: AtomicUsize,
    /// The slot that is looked at next for what may be forgotten.
    hand: AtomicUsize,
    taken: [AtomicUsize; 4],
}

/// How often something was taken from memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remembered {
    /// All that stands beside an entity's rows.
    pub states: usize,
    /// The rows of a stretch.
    pub rows: usize,
    /// Of these, while rows or ends of the entity came elsewhere.
    pub rows_since: usize,
    /// What tiles come to.
    pub sums: usize,
}

#[derive(Debug)]
struct Slot {
    /// From this position on the tiles of all entities of this slot are as they are now; none while one is changed.
    since: Option<Position>,
    /// The last position at which a row, or an end, of any entity of this slot was written.
    written: Position,
    held: Option<Box<Known>>,
}

/// What is known of an entity.
#[derive(Debug)]
struct Known {
    entity: Vec<u8>,
    /// As [`Slot::written`], of this entity, or later.
    written: Position,
    what: What,
    bytes: usize,
    /// It was asked for since it was last looked at.
    asked: bool,
}

#[derive(Debug, Clone, Default)]
struct What {
    state: Option<(Position, Arc<EntityState>)>,
    rows: Vec<Arc<KeptRows>>,
    sums: Arc<Sums>,
}

impl What {
    fn bytes(&self) -> usize {
        let state = self.state.as_ref().map_or(0, |(_, state)| state.bytes());
        let rows = self.rows.iter().map(|rows| rows.bytes()).sum::<usize>();
        state + rows + self.sums.values().map(Seen::bytes).sum::<usize>()
    }
}

/// What becomes of an entity's tiles.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    /// These are put or removed.
    Tiles(&'a Made),
    /// Any may be.
    Any,
}

impl Memory {
    pub(super) fn new() -> Memory {
        MEMORIES.fetch_add(1, Ordering::Relaxed);
        let slot = || Slot { since: Some(Position::NONE), written: Position::NONE, held: None };
        Memory {
            slots: (0..SLOTS).map(|_| Mutex::new(slot())).collect(),
            bytes: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
            taken: Default::default(),
        }
    }

    pub(super) fn taken(&self) -> Remembered {
        let [states, rows, rows_since, sums] = [0, 1, 2, 3].map(|at| self.taken[at].load(Ordering::Relaxed));
        Remembered { states, rows, rows_since, sums }
    }

    fn slot(&self, entity: &[u8]) -> MutexGuard<'_, Slot> {
        self.slot_of(KeyEncoder::hash(entity))
    }

    fn slot_of(&self, hash: u64) -> MutexGuard<'_, Slot> {
        self.slots[hash as usize % SLOTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A row or an end of an entity, whose key has this hash, is about to be published at this position.
    pub(super) fn wrote(&self, entity: &[u8], hash: u64, at: Position) {
        let mut slot = self.slot_of(hash);
        slot.written = slot.written.max(at);
        if let Some(held) = slot.held.as_mut().filter(|held| held.entity == entity) {
            held.written = held.written.max(at);
        }
    }

    /// The tiles of an entity, or what stands beside them, are about to be changed, or rows to go: nobody is told of
    /// anything of this slot before [`Memory::changed`], be it that of another change where this one fails: what failed is
    /// never published.
    pub(super) fn changing(&self, entity: &[u8], change: Change<'_>) {
        let mut slot = self.slot(entity);
        slot.since = None;
        let Some(held) = slot.held.as_mut().filter(|held| held.entity == entity) else { return };
        let sums = match change {
            Change::Any => Sums::new(),
            Change::Tiles(made) => {
                let at = |level: usize, start: i64| (level, Timestamp(start));
                let stays = |(level, range): &Part| {
                    made.range(at(*level, range.start)..at(*level, range.end)).next().is_none()
                };
                let known = held.what.sums.iter().filter(|(part, _)| stays(part));
                known.map(|(part, seen)| (part.clone(), seen.clone())).collect()
            }
        };
        held.what = What { state: None, rows: Vec::new(), sums: Arc::new(sums) };
        self.weigh(held);
    }

    /// They were changed: whoever looks at this position sees it.
    pub(super) fn changed(&self, entity: &[u8], at: Position) {
        self.slot(entity).since = Some(at);
    }

    /// All tiles and rows are about to go, for good.
    pub(super) fn close(&self) {
        for slot in &self.slots {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.since = None;
            self.take_held(&mut slot);
        }
    }

    /// For one request about an entity, which looks at this position.
    pub(super) fn request<'a>(
        &'a self,
        plan: &'a Arc<WindowPlan>,
        entity: &'a [u8],
        at: Position,
    ) -> Option<Request<'a>> {
        let mut slot = self.slot(entity);
        let since = slot.since.filter(|since| *since <= at)?;
        let held = slot.held.as_mut().filter(|held| held.entity == entity);
        let (what, written, again) = match held {
            Some(held) => {
                held.asked = true;
                (held.what.clone(), held.written, true)
            }
            None => (What::default(), Position::NONE, false),
        };
        let new = What::default();
        let (sums, used) = (Vec::new(), Vec::new());
        Some(Request { memory: self, plan, entity, at, since, written, what, again, new, sums, used })
    }

    /// Says anew how much is held of an entity.
    fn weigh(&self, held: &mut Known) {
        let bytes = size_of::<Known>() + held.entity.len() + held.what.bytes();
        let before = std::mem::replace(&mut held.bytes, bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    /// Gives what was held, to be dropped when the slot is not locked any more: who writes waits for it.
    fn take_held(&self, slot: &mut Slot) -> Option<Box<Known>> {
        let held = slot.held.take()?;
        self.bytes.fetch_sub(held.bytes, Ordering::Relaxed);
        Some(held)
    }

    /// The bytes it may hold.
    fn part() -> usize {
        BYTES / MEMORIES.load(Ordering::Relaxed).max(1)
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > Memory::part()
    }

    /// Forgets entities that were not asked for since this came by last, until what is left takes little enough.
    fn forget(&self) {
        for _ in 0..2 * SLOTS {
            if !self.is_full() {
                return;
            }
            let at = self.hand.fetch_add(1, Ordering::Relaxed) % SLOTS;
            // Whose slot is asked for at this moment stays.
            let Ok(mut slot) = self.slots[at].try_lock() else { continue };
            let goes = slot.held.as_mut().is_some_and(|held| !std::mem::take(&mut held.asked));
            let gone = if goes { self.take_held(&mut slot) } else { None };
            drop(slot);
            drop(gone);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        MEMORIES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one request takes of what is known of an entity, and adds to it.
#[derive(Debug)]
pub(super) struct Request<'a> {
    memory: &'a Memory,
    plan: &'a Arc<WindowPlan>,
    entity: &'a [u8],
    /// Where it looks at the store.
    at: Position,
    since: Position,
    /// What was read at this position, or later, holds all that was written of the entity.
    written: Position,
    what: What,
    /// The entity was asked for before. Who asks once leaves nothing behind but that, and which parts were asked for.
    again: bool,
    new: What,
    sums: Vec<(Part, Seen)>,
    used: Vec<Part>,
}

impl Request<'_> {
    fn count(&self, what: usize, much: usize) {
        self.memory.taken[what].fetch_add(much, Ordering::Relaxed);
    }

    /// What stands beside the entity's rows, and whether that is all there is: else rows or ends came since.
    pub(super) fn state(&self) -> Option<(Arc<EntityState>, bool)> {
        let (position, state) = self.what.state.as_ref().filter(|(position, _)| *position <= self.at)?;
        let is_whole = *position >= self.written;
        self.count(0, usize::from(is_whole));
        Some((Arc::clone(state), is_whole))
    }

    /// Leaves what was read to later requests.
    pub(super) fn keep_state(&mut self, state: &Arc<EntityState>) {
        if self.again && state.bytes() <= LONGEST {
            self.new.state = Some((self.at, Arc::clone(state)));
        }
    }

    /// The rows of a stretch; `state`: what stands beside them.
    pub(super) fn rows(&self, within: &Range<i64>, state: &EntityState) -> Option<Arc<KeptRows>> {
        let holds = |rows: &&Arc<KeptRows>| {
            let all = || rows.position >= self.written;
            rows.holds(within) && rows.position <= self.at && (all() || rows.hold_since(within, state))
        };
        let found = self.what.rows.iter().find(holds)?;
        self.count(1, 1);
        self.count(2, usize::from(found.position < self.written));
        Some(Arc::clone(found))
    }

    /// For rows that are read, to be left to later requests.
    pub(super) fn keeping(&self, from: i64, state: &EntityState) -> Option<KeptRows> {
        self.again.then(|| KeptRows::new(from, self.at, state.tiled))
    }

    /// Leaves rows to later requests.
    pub(super) fn keep_rows(&mut self, rows: KeptRows) {
        self.new.rows.push(Arc::new(rows));
    }

    /// What a part comes to at T.
    pub(super) fn find(&mut self, part: &Part, at: Timestamp) -> Found {
        match self.what.sums.get(part) {
            Some(Seen::Sum(sum)) if sum.newest.is_none_or(|newest| newest <= at) => {
                self.used.push(part.clone());
                Found::Sum(Arc::clone(sum))
            }
            // Its tiles do not help at this T.
            Some(Seen::Sum(_) | Seen::TooLong) => Found::Nothing,
            Some(Seen::Once) => Found::Adding(Adding::new(self.plan)),
            None => {
                self.sums.push((part.clone(), Seen::Once));
                Found::Nothing
            }
        }
    }

    /// Remembers what a part comes to, whose tiles cover so much of it.
    pub(super) fn add(&mut self, part: &Part, adding: Adding, covered: Vec<Range<i64>>) {
        let sum = Sum::new(adding, covered);
        let seen = if sum.states.len() <= LONGEST { Seen::Sum(Arc::new(sum)) } else { Seen::TooLong };
        self.sums.push((part.clone(), seen));
    }

    /// Leaves what was added to later requests.
    pub(super) fn done(mut self) {
        self.count(3, self.used.len());
        let adds = self.new.state.is_some() || !self.new.rows.is_empty() || !self.sums.is_empty();
        if self.again && !adds {
            return;
        }
        self.sums.truncate(MOST_SUMS);
        let memory = self.memory;
        // Dropped after the slot.
        let mut gone = (None, What::default());
        let mut slot = memory.slot(self.entity);
        if slot.since != Some(self.since) {
            return;
        }
        let written = slot.written;
        match &mut slot.held {
            Some(held) if held.entity == self.entity => {
                gone.1 = held.what.clone();
                self.put_into(&mut held.what);
                memory.weigh(held);
                if held.bytes > Memory::part() / 2 {
                    held.what = What::default();
                    memory.weigh(held);
                }
            }
            // Who was asked for lately gives way to the second that comes.
            Some(other) if other.asked => {
                other.asked = false;
                return;
            }
            _ => {
                gone.0 = memory.take_held(&mut slot);
                let mut what = What::default();
                self.put_into(&mut what);
                // What was read before this, by whom it takes long, is not known to be all.
                let mut known = Known { entity: self.entity.to_vec(), written, what, bytes: 0, asked: false };
                memory.weigh(&mut known);
                slot.held = Some(Box::new(known));
            }
        }
        drop(slot);
        if memory.is_full() {
            memory.forget();
        }
    }

    fn put_into(&mut self, what: &mut What) {
        if let Some(state) = self.new.state.take() {
            what.state = Some(state);
        }
        for rows in self.new.rows.drain(..) {
            what.rows.retain(|other| !rows.overlaps(other));
            if what.rows.len() == MOST_ROWS {
                what.rows.remove(0);
            }
            what.rows.push(rows);
        }
        let known = &what.sums;
        // Another may have added it up meanwhile.
        self.sums.retain(|(part, seen)| !matches!(seen, Seen::Once) || !known.contains_key(part));
        if self.sums.is_empty() {
            return;
        }
        let more = self.sums.iter().filter(|(part, _)| !known.contains_key(part)).count();
        let mut all: Sums = match known.len() + more <= MOST_SUMS {
            true => known.as_ref().clone(),
            // What this request had no use for goes first.
            false => {
                let used = self.used.drain(..).take(MOST_SUMS - self.sums.len());
                used.filter_map(|part| known.get(&part).map(|seen| (part, seen.clone()))).collect()
            }
        };
        all.extend(self.sums.drain(..));
        what.sums = Arc::new(all);
    }
}

#[cfg(test)]
mod tests {
    use asof_compute::{Op, PlanStates, RowDigest, RowOrder, StoredWindows};
    use asof_model::{DataType, Feature};

    use super::*;
    use crate::views::key;

    fn plan() -> Arc<WindowPlan> {
        let features: [(&Feature, &DataType); 0] = [];
        Arc::clone(StoredWindows::new(features, &[]).unwrap().plan())
    }

    fn wrote(memory: &Memory, entity: &[u8], at: i64) {
        memory.wrote(entity, KeyEncoder::hash(entity), Position(at));
    }

    /// Asks for a part at a position, and adds it up where that is asked for: whether a sum was there.
    fn ask(memory: &Memory, entity: &[u8], part: &Part, at: i64) -> Option<bool> {
        let plan = plan();
        let mut request = memory.request(&plan, entity, Position(at))?;
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

    fn known(memory: &Memory, entity: &[u8], part: &Part, at: i64) -> Option<bool> {
        let plan = plan();
        let mut request = memory.request(&plan, entity, Position(at))?;
        Some(matches!(request.find(part, Timestamp(100)), Found::Sum(_)))
    }

    /// Reads an entity as a request does: its state, with tiles before `tiled`, and rows at 10 and 20 within a stretch.
    /// Says what of both was there.
    fn read(memory: &Memory, entity: &[u8], within: Range<i64>, tiled: i64, at: i64) -> Option<(bool, bool)> {
        let plan = plan();
        let mut request = memory.request(&plan, entity, Position(at))?;
        let (state, whole) = match request.state() {
            Some((state, true)) => (state, true),
            _ => {
                let mut state = EntityState::default();
                state.tiled = Some(Timestamp(tiled));
                let state = Arc::new(state);
                request.keep_state(&state);
                (state, false)
            }
        };
        let there = match request.rows(&within, &state) {
            Some(rows) => {
                let mut found = Vec::new();
                let each = &mut |place: &[u8], entry: &[u8], end| {
                    found.push((place.to_vec(), entry.to_vec(), end));
                    Ok::<(), ()>(())
                };
                let expected: Vec<i64> = [10, 20].into_iter().filter(|at| within.contains(at)).collect();
                assert_eq!(rows.each(&within, each), Ok(expected.len()));
                let row = |at: &i64| (vec![*at as u8], vec![1, *at as u8], Some(Timestamp(at + 1)));
                assert_eq!(found, expected.iter().map(row).collect::<Vec<_>>());
                true
            }
            None => {
                if let Some(mut rows) = request.keeping(within.start, &state) {
                    for at in [10_u8, 20].into_iter().filter(|at| within.contains(&i64::from(*at))) {
                        let at = (Timestamp(i64::from(at)), [at], [1, at], Timestamp(i64::from(at) + 1));
                        assert!(rows.push(at.0, &at.1, &at.2, Some(at.3)));
                    }
                    if within.end <= 30 {
                        rows.before(Timestamp(30));
                    }
                    request.keep_rows(rows);
                }
                false
            }
        };
        request.done();
        Some((whole, there))
    }

    #[test]
    fn a_sum_is_made_for_the_second_who_asks_and_taken_by_the_third() {
        let memory = Memory::new();
        let part = (1, 0..40);
        assert_eq!([0, 1, 2].map(|_| ask(&memory, b"a", &part, 7)), [Some(false), Some(false), Some(true)]);
        assert_eq!(ask(&memory, b"a", &(0, 0..40), 7), Some(false), "of another level");
        assert_eq!(memory.taken(), Remembered { sums: 1, ..Remembered::default() });
        let plan = plan();
        let mut request = memory.request(&plan, b"a", Position(7)).unwrap();
        assert!(matches!(request.find(&part, Timestamp(49)), Found::Nothing), "before something it holds");
    }

    #[test]
    fn what_is_read_for_the_second_who_asks_is_taken_by_the_third() {
        let memory = Memory::new();
        let ask = |within: Range<i64>| read(&memory, b"a", within, 100, 7);
        let asked = [0, 1, 2].map(|_| ask(5..25));
        assert_eq!(asked, [Some((false, false)), Some((false, false)), Some((true, true))]);
        assert_eq!(ask(15..30), Some((true, true)), "edges move on, up to the next row");
        assert_eq!(ask(4..25), Some((true, false)), "a row may be before");
        assert_eq!(ask(4..31), Some((true, false)), "a row stands there");
        assert_eq!(ask(4..1_000), Some((true, true)), "there is none past it");
        assert_eq!(memory.taken(), Remembered { states: 5, rows: 3, ..Remembered::default() });
    }

    #[test]
    fn what_is_written_is_seen_by_who_looks_past_it() {
        let memory = Memory::new();
        for _ in 0..2 {
            read(&memory, b"a", 5..25, 22, 7);
            read(&memory, b"a", 5..22, 22, 7);
        }
        // Stretches that overlap are not remembered together: the last one is, which ends at tiles' end.
        assert_eq!(read(&memory, b"a", 5..22, 22, 7), Some((true, true)));
        wrote(&memory, b"b", 8);
        assert_eq!(read(&memory, b"a", 5..22, 22, 8), Some((true, true)), "of another entity");
        wrote(&memory, b"a", 9);
        assert_eq!(read(&memory, b"a", 5..22, 22, 8), Some((false, true)), "its state is read again");
        assert_eq!(read(&memory, b"a", 5..23, 22, 9), Some((false, false)), "what is not late is");
        assert_eq!(read(&memory, b"a", 5..23, 22, 9), Some((true, true)));
        assert_eq!(read(&memory, b"a", 5..22, 22, 8), Some((false, false)), "who looks before what was read");
    }

    #[test]
    fn what_came_late_is_not_among_rows_that_were_read_before() {
        let rows = KeptRows::new(5, Position(7), Some(Timestamp(22)));
        let late = |s| {
            let order = RowOrder {
                event_time: Timestamp(12),
                visible_at: Timestamp(50),
                order_by: [].into(),
                position: Position(s),
                op: Op::Value,
                digest: RowDigest::default(),
            };
            let mut place = Vec::new();
            key::put_order(&order, 0, &mut place);
            EntityState::with_late(Timestamp(22), Position(s), &place)
        };
        assert!(rows.hold_since(&(5..22), &late(7)), "it was there");
        assert!(!rows.hold_since(&(5..22), &late(8)));
        assert!(rows.hold_since(&(13..22), &late(8)), "beside it");
        assert!(!rows.hold_since(&(13..23), &late(7)), "what comes there is not late");
    }

    /// A slow reader, which looked at the store before a row was written, leaves what it read after others came and went.
    #[test]
    fn who_is_slow_leaves_nothing_that_is_not_true_any_more() {
        let (one, other) = two_of_a_slot();
        let memory = Memory::new();
        let plan = plan();
        for _ in 0..2 {
            read(&memory, &one, 5..25, 100, 4);
        }
        let mut slow = memory.request(&plan, &one, Position(4)).unwrap();
        slow.keep_state(&Arc::new(EntityState::default()));
        slow.keep_rows(slow.keeping(0, &EntityState::default()).unwrap());
        wrote(&memory, &one, 5);
        // The other takes the slot, and gives it back.
        (0..2).for_each(|_| _ = read(&memory, &other, 5..25, 100, 5));
        assert_eq!(read(&memory, &other, 5..25, 100, 5), Some((false, false)));
        (0..3).for_each(|_| _ = read(&memory, &one, 5..25, 100, 4));
        slow.done();
        assert_eq!(read(&memory, &one, 5..25, 100, 5), Some((false, false)));
        assert_eq!(read(&memory, &one, 5..25, 100, 5), Some((true, true)));
    }

    #[test]
    fn what_is_changed_is_not_taken_by_who_looks_elsewhere() {
        let memory = Memory::new();
        let (one, other) = ((1, 0..40), (1, 40..80));
        for part in [&one, &other] {
            (0..2).for_each(|_| _ = ask(&memory, b"a", part, 7));
            assert_eq!(known(&memory, b"a", part, 7), Some(true));
        }
        (0..2).for_each(|_| _ = read(&memory, b"a", 5..25, 100, 7));
        assert_eq!(read(&memory, b"a", 5..25, 100, 7), Some((true, true)));
        // Some who asked before it, and are done while it is changed, and after it.
        let plan = plan();
        let slow = || {
            let mut request = memory.request(&plan, b"a", Position(7)).unwrap();
            request.keep_state(&Arc::new(EntityState::default()));
            request.keep_rows(request.keeping(0, &EntityState::default()).unwrap());
            request.add(&other, Adding::new(&plan), Vec::new());
            request
        };
        let (during, after) = (slow(), slow());
        let made = Made::from([((1, Timestamp(40)), None), ((0, Timestamp(0)), None)]);
        memory.changing(b"a", Change::Tiles(&made));
        assert_eq!(known(&memory, b"a", &one, 100), None, "while it is changed");
        during.done();
        memory.changed(b"a", Position(9));
        after.done();
        assert_eq!(known(&memory, b"a", &one, 8), None, "who looked before");
        assert_eq!(known(&memory, b"a", &one, 9), Some(true), "none of its tiles was changed");
        assert_eq!(known(&memory, b"a", &other, 9), Some(false));
        assert_eq!(read(&memory, b"a", 5..25, 100, 9), Some((false, false)), "late rows may have gone");
        memory.changing(b"a", Change::Any);
        memory.changed(b"a", Position(12));
        assert_eq!(known(&memory, b"a", &one, 12), Some(false));
        memory.changing(b"a", Change::Any);
        assert_eq!(known(&memory, b"a", &one, i64::MAX), None, "the last change failed");
    }

    fn two_of_a_slot() -> ([u8; 4], [u8; 4]) {
        let slot = |key: &[u8]| KeyEncoder::hash(key) as usize % SLOTS;
        let one = 0_u32.to_be_bytes();
        (one, (1_u32..).map(u32::to_be_bytes).find(|other| slot(other) == slot(&one)).unwrap())
    }

    #[test]
    fn entities_of_one_slot_take_turns() {
        let memory = Memory::new();
        let (one, other) = two_of_a_slot();
        let part = (0, 0..10);
        (0..3).for_each(|_| _ = ask(&memory, &one, &part, 1));
        assert_eq!(ask(&memory, &other, &part, 1), Some(false));
        assert_eq!(known(&memory, &one, &part, 1), Some(true), "who is asked for stays");
        (0..3).for_each(|_| _ = ask(&memory, &other, &part, 1));
        assert_eq!(known(&memory, &one, &part, 1), Some(false));
        assert_eq!(known(&memory, &other, &part, 1), Some(true));
        memory.changing(&one, Change::Any);
        assert_eq!(known(&memory, &other, &part, 1), None, "nobody can tell who is changed");
        memory.changed(&one, Position(4));
        assert_eq!([3, 4].map(|at| known(&memory, &other, &part, at)), [None, Some(true)]);
    }

    #[test]
    fn memory_is_bounded() {
        let memory = Memory::new();
        let parts = |from: i64| (from..from + 2 * MOST_SUMS as i64).map(|at| (0, at..at + 1));
        let plan = plan();
        for from in [0, 1_000, 2_000] {
            let mut request = memory.request(&plan, b"a", Position(0)).unwrap();
            parts(from).for_each(|part| _ = request.find(&part, Timestamp(0)));
            request.done();
            let slot = memory.slot(b"a");
            let known = &slot.held.as_ref().unwrap().what;
            assert_eq!(known.sums.len(), MOST_SUMS);
            assert!(known.sums.contains_key(&(0, from..from + 1)), "the last request's stay");
        }
        for from in 0..2 * MOST_ROWS as i64 {
            let mut request = memory.request(&plan, b"a", Position(0)).unwrap();
            let mut rows = request.keeping(from * 100, &EntityState::default()).unwrap();
            rows.before(Timestamp(from * 100 + 50));
            request.keep_rows(rows);
            request.done();
        }
        {
            let slot = memory.slot(b"a");
            let rows = &slot.held.as_ref().unwrap().what.rows;
            let is_there = |from: usize| {
                let within = from as i64 * 100..from as i64 * 100 + 50;
                rows.iter().any(|rows| rows.holds(&within))
            };
            let found: Vec<usize> = (0..2 * MOST_ROWS).filter(|from| is_there(*from)).collect();
            assert_eq!(found, (MOST_ROWS..2 * MOST_ROWS).collect::<Vec<_>>(), "the last ones stay");
        }
        drop(memory);
        let memory = Memory::new();
        let mut most = 0;
        let large = vec![0; LONGEST / 2];
        for number in 0..2_000_u32 {
            let entity = number.to_be_bytes();
            for _ in 0..2 {
                let mut request = memory.request(&plan, &entity, Position(0)).unwrap();
                if let Some(mut rows) = request.keeping(0, &EntityState::default()) {
                    assert!(rows.push(Timestamp(0), &entity, &large, None));
                    request.keep_rows(rows);
                }
                request.done();
                most = most.max(memory.bytes.load(Ordering::Relaxed));
            }
        }
        // Tests beside this one have memories too.
        assert!((BYTES / 32..BYTES + LONGEST).contains(&most), "{most}");
        let entity = 0_u32.to_be_bytes();
        let first = memory.request(&plan, &entity, Position(0)).unwrap();
        assert!(!first.again, "who was not asked for since goes first");
        let mut long = KeptRows::new(0, Position(0), None);
        assert!(!long.push(Timestamp(0), &[], &vec![0; LONGEST], None));
        memory.close();
        assert_eq!(memory.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(known(&memory, b"a", &(0, 0..1), i64::MAX), None);
    }
}
