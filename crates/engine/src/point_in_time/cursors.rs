//! Where each key's rows fall for now: one cursor a key, kept by each thread beside the last row there.
//!
//! A history mostly lies in the order in which it happened, so that a key's next row falls into the slot of
//! the one before. Then a row touches one line of memory, its key's cursor, instead of its key's times and
//! its slot's state. A row that stands in a cursor is folded into the slot's state when the cursor moves on,
//! or at the end. Of a history in another order cursors are given up.

use asof_compute::{Address, NONE, SpineIndex};
use asof_model::Timestamp;

/// Bytes that the cursors of all threads may take, though they be more than those of the states.
const SMALL: u64 = 32 << 20;

/// They may take one part in so many of the memory.
pub(super) const SHARE: u64 = 8;

/// After so many rows it is asked whether cursors are of use.
const ASKED_AFTER: u64 = 1 << 16;

/// The slot a key's rows fall into for now, and the last of them: a line of the cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Cursor {
    /// A row falls into the slot that under either question answers from a time in `from..=until` on.
    from: Timestamp,
    until: Timestamp,
    slot: u32,
    row: Standing,
}

/// A row in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) event_time: Timestamp,
    /// By which rows of one e are ordered: v, or o where v is always e.
    pub(super) then: Timestamp,
    pub(super) address: Address,
}

impl Standing {
    /// By which rows of a slot are compared.
    #[inline]
    fn order(&self) -> (Timestamp, Timestamp) {
        (self.event_time, self.then)
    }
}

/// Nothing falls there; and where a range is set, what falls there is beaten, since no row comes after this one.
const EMPTY: Cursor = Cursor {
    from: Timestamp(i64::MAX),
    until: Timestamp(i64::MIN),
    slot: NONE,
    row: Standing { event_time: Timestamp::NEVER, then: Timestamp::NEVER, address: Address(u64::MAX) },
};

/// What a row comes to at its key's cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// It stands there, and the row before it is beaten.
    Stands,
    /// It is beaten by the row that stands there.
    Beaten,
    /// It ties with the row that stands there: both are to be folded.
    Ties(u32),
    /// It falls elsewhere; the cursor's slot is likely to be near.
    Elsewhere(Option<u32>),
}

/// The cursors of one thread.
#[derive(Debug)]
pub(super) struct Cursors {
    cursors: Vec<Cursor>,
    /// How many rows were asked for, and fell elsewhere.
    rows: u64,
    elsewhere: u64,
}

impl Cursors {
    /// For the keys of an index, where they take little memory beside the states.
    pub(super) fn new(index: &SpineIndex, threads: usize, states: u64, memory: u64) -> Option<Cursors> {
        let bytes = (index.keys() * threads * size_of::<Cursor>()) as u64;
        let limit = states.max(SMALL).min(memory / SHARE);
        (bytes <= limit).then(|| Cursors { cursors: vec![EMPTY; index.keys()], rows: 0, elsewhere: 0 })
    }

    /// Touches the cursors of keys that are about to be asked: loads that do not wait for each other.
    #[inline]
    pub(super) fn warm(&self, keys: &[u32]) {
        let touched = keys.iter().map(|key| self.cursors.get(*key as usize).map_or(0, |it| it.slot));
        std::hint::black_box(touched.fold(0, |all, slot| all ^ slot));
    }

    /// A row of a key that answers from `first` on, under whatever question no later than from `last` on.
    #[inline]
    pub(super) fn meet(&mut self, key: u32, first: Timestamp, last: Timestamp, row: Standing) -> Met {
        let cursor = &mut self.cursors[key as usize];
        if first < cursor.from || last > cursor.until {
            return Met::Elsewhere((cursor.slot != NONE).then_some(cursor.slot));
        }
        match row.order().cmp(&cursor.row.order()) {
            std::cmp::Ordering::Less => Met::Beaten,
            std::cmp::Ordering::Greater => {
                cursor.row = row;
                Met::Stands
            }
            std::cmp::Ordering::Equal => Met::Ties(cursor.slot),
        }
    }

    /// Moves a key's cursor to a slot and a row there, or past all slots; gives the row it leaves, and its slot.
    pub(super) fn move_to(
        &mut self,
        key: u32,
        slot: Option<u32>,
        row: Standing,
        index: &SpineIndex,
    ) -> Option<(u32, Standing)> {
        let cursor = &mut self.cursors[key as usize];
        let left = cursor.held();
        let (from, until) = index.edges(key, slot);
        *cursor = match slot {
            Some(slot) => Cursor { from, until, slot, row },
            None => Cursor { from, until, ..EMPTY },
        };
        left
    }

    /// Counts rows that were asked for, and of them those that fell elsewhere.
    pub(super) fn count(&mut self, rows: u64, elsewhere: u64) {
        self.rows += rows;
        self.elsewhere += elsewhere;
    }

    /// Whether most rows fell elsewhere.
    pub(super) fn are_idle(&self) -> bool {
        self.rows >= ASKED_AFTER && self.elsewhere * 2 > self.rows
    }

    /// The rows that stand in cursors, which then have none.
    pub(super) fn leave(&mut self) -> impl Iterator<Item = (u32, Standing)> {
        self.cursors.iter_mut().filter_map(|cursor| {
            let left = cursor.held();
            *cursor = EMPTY;
            left
        })
    }
}

impl Cursor {
    /// The row that stands there, and its slot.
    fn held(&self) -> Option<(u32, Standing)> {
        (self.slot != NONE).then_some((self.slot, self.row))
    }
}
