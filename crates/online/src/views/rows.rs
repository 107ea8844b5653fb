//! Rows of an entity that requests ask for again, in memory: those around an edge of its windows, which no tile holds.

use std::ops::Range;

use asof_compute::Position;
use asof_model::Timestamp;

use super::memory::LONGEST;
use super::read::EntityState;

/// All rows of an entity within a stretch of event time, as they were at a position.
#[derive(Debug)]
pub(super) struct KeptRows {
    from: i64,
    until: i64,
    pub(super) position: Position,
    /// What is written later of earlier event times is late.
    settled: Timestamp,
    /// Places and entries, one after the other.
    bytes: Vec<u8>,
    rows: Vec<KeptRow>,
}

#[derive(Debug)]
struct KeptRow {
    event_time: i64,
    end: Option<Timestamp>,
    /// Where its place ends within the bytes, and its entry.
    place: u32,
    entry: u32,
}

impl KeptRows {
    pub(super) fn new(from: i64, position: Position, tiled: Option<Timestamp>) -> KeptRows {
        let settled = tiled.unwrap_or(Timestamp(i64::MIN));
        KeptRows { from, until: i64::MAX, position, settled, bytes: Vec::new(), rows: Vec::new() }
    }

    /// Takes in the next row, its place behind [`super::key::rows`], its entry and its end; false where it gets too long.
    pub(super) fn push(
        &mut self,
        event_time: Timestamp,
        place: &[u8],
        entry: &[u8],
        end: Option<Timestamp>,
    ) -> bool {
        self.bytes.extend_from_slice(place);
        let place = self.bytes.len() as u32;
        self.bytes.extend_from_slice(entry);
        self.rows.push(KeptRow { event_time: event_time.0, end, place, entry: self.bytes.len() as u32 });
        self.bytes() <= LONGEST
    }

    /// There is none but these before this one.
    pub(super) fn before(&mut self, next: Timestamp) {
        self.until = next.0;
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<KeptRows>() + self.bytes.len() + self.rows.len() * size_of::<KeptRow>()
    }

    /// Whether it reaches over a stretch.
    pub(super) fn holds(&self, within: &Range<i64>) -> bool {
        self.from <= within.start && within.end <= self.until
    }

    pub(super) fn overlaps(&self, other: &KeptRows) -> bool {
        self.from < other.until && other.from < self.until
    }

    /// Whether it still holds all rows of a stretch, and all their ends, wherever any were written since.
    pub(super) fn hold_since(&self, within: &Range<i64>, state: &EntityState) -> bool {
        within.end <= self.settled.0 && !state.came_late(within.clone(), self.position)
    }

    /// Gives the rows of a stretch, each with its place, its entry and its end, and says how many there are.
    pub(super) fn each<E>(
        &self,
        within: &Range<i64>,
        take: &mut dyn FnMut(&[u8], &[u8], Option<Timestamp>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let place = |time: i64| self.rows.partition_point(|row| row.event_time < time);
        let (first, last) = (place(within.start), place(within.end));
        let mut begin = first.checked_sub(1).map_or(0, |before| self.rows[before].entry as usize);
        for row in &self.rows[first..last] {
            let (place, entry) = (row.place as usize, row.entry as usize);
            take(&self.bytes[begin..place], &self.bytes[place..entry], row.end)?;
            begin = entry;
        }
        Ok(last - first)
    }
}
