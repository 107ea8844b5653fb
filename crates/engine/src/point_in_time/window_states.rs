//! The states of windows on their way from a partial half to the final one, as bytes.
//!
//! ```text
//! message = 'W' reading (4) entry*
//! entry   = what (1) kept (4) window (4) spine row (4) at (4) length (4) state
//! ```
//!
//! Numbers are little-endian. A key is named by a spine row that asks for it, and places are counted within the key: so
//! both halves mean the same, however each has numbered keys and slots. Both are of one version of the program.

use asof_compute::{Place, SpineIndex};

use super::windows::WindowFold;
use crate::{Error, Result};

/// The first byte of a message.
const TAG: u8 = b'W';

/// Bytes at which a message is sent.
const FULL: usize = 1 << 20;

/// The state of a slot.
const SLOT: u8 = 0;
/// What changes at an answer, or in a node over answers.
const CHANGE: u8 = 1;
/// By how many more rows are in the window but not known yet than at the answer before.
const UNKNOWN: u8 = 2;
/// By how many more rows are in the window that another version comes after than at the answer before.
const SUPERSEDED: u8 = 3;

/// Whether bytes are a message of this room.
pub(super) fn are_states(bytes: &[u8]) -> bool {
    bytes.first() == Some(&TAG)
}

/// The reading that a message is of.
pub(super) fn reading_of(message: &[u8]) -> Option<usize> {
    let bytes: [u8; 4] = message.get(1..5)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes) as usize)
}

/// Messages as they fill.
struct Messages {
    reading: usize,
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Messages {
    fn put(&mut self, numbers: (u8, usize, usize, u32, u32), state: &[u8]) {
        if self.last.len() + state.len() > FULL {
            self.full.push(std::mem::take(&mut self.last));
        }
        if self.last.is_empty() {
            self.last.push(TAG);
            self.last.extend_from_slice(&(self.reading as u32).to_le_bytes());
        }
        let (what, kept, window, row, at) = numbers;
        self.last.push(what);
        for number in [kept as u32, window as u32, row, at, state.len() as u32] {
            self.last.extend_from_slice(&number.to_le_bytes());
        }
        self.last.extend_from_slice(state);
    }
}

impl WindowFold {
    /// All that was folded, as messages.
    pub(super) fn messages(&self, reading: usize, spine_rows: usize) -> Vec<Vec<u8>> {
        let rows = rows_of_keys(&self.spine, spine_rows);
        let mut messages = Messages { reading, full: Vec::new(), last: Vec::new() };
        let mut state = Vec::new();
        for (number, index) in self.index.runs().iter().enumerate() {
            let mut run = self.run(number);
            let slot_states = run.states(self.plan(), index.slots());
            for key in index.keys() {
                let row = rows[key as usize];
                let (slots, answers) = (index.slots_of(key), index.answers_of(key));
                for (kept, (function, windows)) in self.plan().functions().enumerate() {
                    for slot in slots.start..slots.end {
                        let states = slot_states.of(kept);
                        let some = |number: &u32| !function.is_empty(states, *number);
                        if let Some(number) = slot_states.numbered(slot).filter(some) {
                            state.clear();
                            function.encode(states, number, &mut state);
                            messages.put((SLOT, kept, 0, row, slot - slots.start), &state);
                        }
                    }
                    for (at, window) in windows.iter().enumerate() {
                        let Some(changes) = run.change(kept, at) else { continue };
                        let width = if function.is_invertible() { 1 } else { 2 };
                        for place in answers.start * width..answers.end * width {
                            if !function.is_empty(changes, place) {
                                state.clear();
                                function.encode(changes, place, &mut state);
                                let place = place - answers.start * width;
                                messages.put((CHANGE, kept, *window, row, place), &state);
                            }
                        }
                    }
                }
                for (what, all) in [(UNKNOWN, &run.unknown), (SUPERSEDED, &run.superseded)] {
                    for (window, rows) in all.iter().enumerate() {
                        for answer in answers.start..answers.end {
                            if let Some(more) = rows.get(answer as usize).filter(|more| **more != 0) {
                                let at = answer - answers.start;
                                messages.put((what, 0, window, row, at), &more.to_le_bytes());
                            }
                        }
                    }
                }
            }
        }
        messages.full.push(messages.last);
        messages.full.retain(|message| !message.is_empty());
        messages.full
    }

    /// Takes in what a message says.
    pub(super) fn take(&self, message: &[u8]) -> Result<()> {
        let mut rest = message.get(5..).unwrap_or_default();
        while !rest.is_empty() {
            rest =
                self.take_entry(rest).ok_or_else(|| Error::internal("states of windows are damaged"))??;
        }
        Ok(())
    }

    /// Takes in the first entry; the rest, or none where they are no entries.
    fn take_entry<'a>(&self, bytes: &'a [u8]) -> Option<Result<&'a [u8]>> {
        let (what, mut rest) = bytes.split_first()?;
        let mut number = || {
            let (number, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            Some(u32::from_le_bytes(*number))
        };
        let (kept, window) = (number()? as usize, number()? as usize);
        let (row, at, length) = (number()?, number()?, number()?);
        let (state, rest) = rest.split_at_checked(length as usize)?;
        let slot = match self.spine.place(row as usize) {
            Place::Slot(slot) => slot,
            // A key of another portion.
            Place::Elsewhere => return Some(Ok(rest)),
            Place::NoKey => return None,
        };
        let key = self.spine.key_of(slot);
        let number = usize::from(self.index.run_of(key));
        let index = &self.index.runs()[number];
        let answers = index.answers_of(key);
        let mut run = self.run(number);
        // What a partial half counted may have had nulls.
        run.tell_apart(self.plan(), |_| true);
        let (function, windows) = self.plan().functions().nth(kept)?;
        let taken = match *what {
            SLOT => {
                let slot = index.slots_of(key).start + at;
                run.take_encoded(self.plan(), (slot, index.slots()), kept, state)?
            }
            CHANGE => {
                let window = windows.binary_search(&window).ok()?;
                let width = if function.is_invertible() { 1 } else { 2 };
                let count = (index.answers().end - index.answers().start) * width;
                let changes = run.change_mut(kept, window, function, count as usize)?;
                function.merge_encoded(changes, answers.start * width + at, state)
            }
            UNKNOWN | SUPERSEDED => {
                let run = &mut *run;
                let rows = if *what == UNKNOWN { &mut run.unknown } else { &mut run.superseded };
                let rows = rows.get_mut(window)?;
                rows.resize((index.answers().end - index.answers().start) as usize, 0);
                *rows.get_mut((answers.start + at) as usize)? += i64::from_le_bytes(state.try_into().ok()?);
                Ok(())
            }
            _ => return None,
        };
        Some(taken.map(|()| rest).map_err(super::spec::compute))
    }
}

/// For each key a spine row that asks for it.
fn rows_of_keys(spine: &SpineIndex, rows: usize) -> Vec<u32> {
    let mut found = vec![0; spine.keys()];
    for row in 0..rows {
        if let Place::Slot(slot) = spine.place(row) {
            found[spine.key_of(slot) as usize] = row as u32;
        }
    }
    found
}
