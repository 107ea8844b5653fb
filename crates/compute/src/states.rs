//! The latest value as an aggregate: per slot the last row in order, as its (e, v) and its address; of a source whose
//! every v is its e, as its (e, o) where o is a number.

use asof_model::Timestamp;

use crate::ComputeError;

/// The version byte of encoded states.
const VERSION: u8 = 1;

/// Where a row stands: whatever the caller numbers rows by, below [`Address::LIMIT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl Address {
    /// Addresses are below this.
    pub const LIMIT: u64 = 1 << 63;
}

/// The state of one slot. `row` is an address, or with the high bit set the number of a list of tied ones.
#[derive(Debug, Clone, Copy)]
struct State {
    event_time: i64,
    /// v or o.
    then: i64,
    row: u64,
}

const EMPTY: u64 = u64::MAX;
const TIED: u64 = 1 << 63;

impl State {
    const NOTHING: State = State { event_time: i64::MIN, then: i64::MIN, row: EMPTY };
}

/// The last row of each slot. The state is only the order key and the row's address: no value is held.
/// Rows that tie on both numbers are all kept, and told apart by o, s, op and digest only if they come to win
/// ([`LatestStates::resolve`]). Folding and merging are free of order; each row is folded once.
#[derive(Debug, Default)]
pub struct LatestStates {
    states: Vec<State>,
    ties: Vec<Vec<Address>>,
    /// Lists of `ties` that are free.
    free: Vec<u32>,
    slots: usize,
}

impl LatestStates {
    /// Bytes of one slot's state.
    pub const BYTES_PER_SLOT: u64 = size_of::<State>() as u64;

    /// For so many slots; nothing is allocated before the first row.
    pub fn new(slots: usize) -> LatestStates {
        LatestStates { slots, ..LatestStates::default() }
    }

    /// Folds a row into a slot. Whether the row stands, alone or tied.
    #[inline]
    pub fn fold(&mut self, slot: u32, event_time: Timestamp, then: Timestamp, row: Address) -> bool {
        if self.states.is_empty() {
            self.states = vec![State::NOTHING; self.slots];
        }
        let state = &mut self.states[slot as usize];
        let (found, standing) = ((event_time.0, then.0), (state.event_time, state.then));
        if found < standing {
            return false;
        }
        if found > standing || state.row == EMPTY {
            let old = state.row;
            *state = State { event_time: found.0, then: found.1, row: row.0 };
            if old & TIED != 0 && old != EMPTY {
                self.release(old);
            }
            return true;
        }
        self.tie(slot, row);
        true
    }

    /// Touches the states of slots that rows are about to be folded into: loads that do not wait for each
    /// other, where each fold's comparison would wait for its own miss of the cache. Both ends of a state,
    /// which may lie in two lines of it.
    #[inline]
    pub fn warm(&self, slots: impl Iterator<Item = u32>) {
        if !self.states.is_empty() {
            let touched = slots.map(|slot| {
                let state = &self.states[slot as usize];
                state.event_time ^ state.row.cast_signed()
            });
            std::hint::black_box(touched.fold(0, |all, time| all ^ time));
        }
    }

    #[cold]
    fn tie(&mut self, slot: u32, row: Address) {
        let state = &mut self.states[slot as usize];
        if state.row & TIED != 0 {
            self.ties[(state.row & !TIED) as usize].push(row);
        } else {
            let list = vec![Address(state.row), row];
            let number = match self.free.pop() {
                Some(number) => {
                    self.ties[number as usize] = list;
                    u64::from(number)
                }
                None => {
                    self.ties.push(list);
                    self.ties.len() as u64 - 1
                }
            };
            state.row = number | TIED;
        }
    }

    #[cold]
    fn release(&mut self, row: u64) {
        let number = row & !TIED;
        self.ties[number as usize] = Vec::new();
        self.free.push(number as u32);
    }

    /// The order of the rows that stand in a slot, (e, v) or (e, o); none where no row does.
    #[inline]
    pub fn order(&self, slot: u32) -> Option<(Timestamp, Timestamp)> {
        let state = self.states.get(slot as usize)?;
        (state.row != EMPTY).then_some((Timestamp(state.event_time), Timestamp(state.then)))
    }

    /// The row that stands in a slot, with its e; of tied ones any.
    #[inline]
    pub fn one(&self, slot: u32) -> Option<(Timestamp, Address)> {
        let state = self.states.get(slot as usize).filter(|state| state.row != EMPTY)?;
        let row = match state.row {
            row if row & TIED != 0 => *self.ties[(row & !TIED) as usize].first()?,
            row => Address(row),
        };
        Some((Timestamp(state.event_time), row))
    }

    /// The rows that stand in a slot: none, one, or those that tie.
    pub fn rows(&self, slot: u32) -> impl Iterator<Item = Address> {
        let row = self.states.get(slot as usize).map_or(EMPTY, |state| state.row);
        let (single, tied) = match row {
            EMPTY => (None, [].as_slice()),
            row if row & TIED != 0 => (None, self.ties[(row & !TIED) as usize].as_slice()),
            row => (Some(Address(row)), [].as_slice()),
        };
        single.into_iter().chain(tied.iter().copied())
    }

    /// Every address that stands in a slot.
    pub fn visit(&self, visit: &mut impl FnMut(Address)) {
        for slot in 0..self.states.len() as u32 {
            self.rows(slot).for_each(&mut *visit);
        }
    }

    /// The slots in which several rows tie.
    pub fn tied_slots(&self) -> impl Iterator<Item = u32> {
        let tied = |state: &State| state.row & TIED != 0 && state.row != EMPTY;
        let slots = if self.ties.is_empty() { &[] } else { self.states.as_slice() };
        slots.iter().enumerate().filter(move |(_, state)| tied(state)).map(|(slot, _)| slot as u32)
    }

    /// Keeps of the rows tied in a slot only these.
    pub fn resolve(&mut self, slot: u32, keep: &[Address]) {
        let Some(state) = self.states.get_mut(slot as usize) else { return };
        let row = state.row;
        if row & TIED == 0 || row == EMPTY {
            return;
        }
        if let [only] = keep {
            state.row = only.0;
            self.release(row);
        } else if !keep.is_empty() {
            self.ties[(row & !TIED) as usize] = keep.to_vec();
        }
    }

    /// Folds all rows of other states of the same slots.
    pub fn merge(&mut self, other: &LatestStates) {
        for slot in 0..other.states.len() as u32 {
            if let Some((event_time, then)) = other.order(slot) {
                for row in other.rows(slot) {
                    self.fold(slot, event_time, then, row);
                }
            }
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let tied: usize = self.ties.iter().map(|list| 24 + list.capacity() * 8).sum();
        self.states.len() as u64 * Self::BYTES_PER_SLOT + tied as u64
    }

    /// The states as bytes: a version byte, the number of slots, then per slot that holds rows its
    /// number, its order, how many rows, and their addresses, all little-endian. Equal states give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&(self.slots as u32).to_le_bytes());
        for slot in 0..self.states.len() as u32 {
            let Some((event_time, then)) = self.order(slot) else { continue };
            let mut rows: Vec<Address> = self.rows(slot).collect();
            rows.sort_unstable();
            bytes.extend_from_slice(&slot.to_le_bytes());
            bytes.extend_from_slice(&event_time.0.to_le_bytes());
            bytes.extend_from_slice(&then.0.to_le_bytes());
            bytes.extend_from_slice(&(rows.len() as u32).to_le_bytes());
            for row in rows {
                bytes.extend_from_slice(&row.0.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads what [`LatestStates::encode`] wrote of so many slots. The number is asked for, since few bytes may speak of
    /// many slots, most of which hold nothing, and each takes room.
    ///
    /// # Errors
    /// [`ComputeError::Damaged`] for anything else.
    pub fn decode(bytes: &[u8], slots: usize) -> Result<LatestStates, ComputeError> {
        let damaged = |reason: &str| ComputeError::Damaged { what: "states", reason: reason.to_owned() };
        let mut rest = bytes;
        let mut take = |length: usize| {
            let (head, tail) = rest.split_at_checked(length).ok_or_else(|| damaged("they end early"))?;
            rest = tail;
            Ok((head, tail.is_empty()))
        };
        let u32_of = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).map_err(|_| damaged("length"));
        let u64_of = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).map_err(|_| damaged("length"));
        let (version, _) = take(1)?;
        if version != [VERSION] {
            return Err(damaged("the version is not known"));
        }
        let (found, mut done) = take(4)?;
        let found = u32_of(found)?;
        if found as usize != slots {
            return Err(damaged(&format!("they are of {found} slots, and {slots} are asked")));
        }
        let mut states = LatestStates::new(slots);
        while !done {
            let slot = u32_of(take(4)?.0)?;
            let event_time = Timestamp(u64_of(take(8)?.0)? as i64);
            let then = Timestamp(u64_of(take(8)?.0)? as i64);
            let rows = u32_of(take(4)?.0)?;
            if slot as usize >= states.slots || rows == 0 {
                return Err(damaged("a slot is out of range"));
            }
            for _ in 0..rows {
                let (row, end) = take(8)?;
                let row = u64_of(row)?;
                if row >= Address::LIMIT {
                    return Err(damaged("an address is out of range"));
                }
                states.fold(slot, event_time, then, Address(row));
                done = end;
            }
        }
        Ok(states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(rows: &[(u32, i64, i64, u64)]) -> LatestStates {
        let mut states = LatestStates::new(4);
        for (slot, e, v, row) in rows {
            states.fold(*slot, Timestamp(*e), Timestamp(*v), Address(*row));
        }
        states
    }

    #[test]
    fn folds_are_free_of_order_and_merge() {
        let rows = [
            (0, 1, 1, 10),
            (0, 1, 2, 11),
            (0, 1, 2, 12),
            (0, 0, 9, 13),
            (2, i64::MIN, i64::MIN, 14),
            (2, i64::MIN, i64::MIN, 15),
            (3, 5, 5, 16),
            (3, 5, 5, 17),
            (3, 6, 0, 18),
        ];
        let expected = folded(&rows).encode();
        for turn in 0..rows.len() {
            let mut turned = rows;
            turned.rotate_left(turn);
            assert_eq!(folded(&turned).encode(), expected);
            let mut halves = folded(&turned[..5]);
            halves.merge(&folded(&turned[5..]));
            assert_eq!(halves.encode(), expected);
        }
        let states = LatestStates::decode(&expected, 4).unwrap();
        assert_eq!(states.encode(), expected);
        assert_eq!(states.rows(0).collect::<Vec<_>>(), [Address(11), Address(12)]);
        assert_eq!(states.order(1), None);
        let one = |slot| states.one(slot).map(|(event_time, row)| (event_time.0, row.0));
        assert_eq!([0, 1, 2].map(one), [Some((1, 11)), None, Some((i64::MIN, 14))]);
        assert_eq!(states.tied_slots().collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn ties_resolve_and_damage_is_seen() {
        let mut states = folded(&[(0, 1, 1, 1), (0, 1, 1, 2), (1, 1, 1, 3), (1, 1, 1, 4)]);
        states.resolve(0, &[Address(2)]);
        assert_eq!(states.rows(0).collect::<Vec<_>>(), [Address(2)]);
        let bytes = states.encode();
        for cut in [0, 1, 4, 6, 20, bytes.len() - 1] {
            assert!(LatestStates::decode(&bytes[..cut], 4).is_err(), "{cut}");
        }
        assert!(LatestStates::decode(&[9, 0, 0, 0, 0], 0).is_err());
    }

    #[test]
    fn more_slots_than_are_asked_take_no_room() {
        // A row in the last of 4,294,967,295 slots would take 96 GiB.
        let mut bytes = folded(&[(3, 1, 1, 1)]).encode();
        bytes[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes[5..9].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
        let error = LatestStates::decode(&bytes, 4).unwrap_err();
        assert!(matches!(error, ComputeError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("of 4294967295 slots, and 4 are asked"), "{error}");
    }
}
