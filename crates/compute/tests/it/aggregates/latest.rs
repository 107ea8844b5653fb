//! The laws of the latest value, which is kept of a view and is no member of the catalogue: its state is the last row's
//! order and address, and holds no value.

use asof_compute::{Address, LatestStates};
use asof_model::Timestamp;

use super::rows::{Random, Rows, each};

const SLOTS: usize = 3;

/// Of few different ones, so that rows tie.
fn order(rows: &Rows, row: usize) -> (Timestamp, Timestamp) {
    let of = &rows.orders[row];
    (Timestamp(of.event_time.0.rem_euclid(3)), Timestamp(of.visible_at.0.rem_euclid(2)))
}

/// States of some of the rows in this order.
fn fold(rows: &Rows, slots: &[u32], some: impl IntoIterator<Item = usize>) -> LatestStates {
    let mut states = LatestStates::new(SLOTS);
    for row in some {
        let (event_time, then) = order(rows, row);
        states.fold(slots[row], event_time, then, Address(row as u64));
    }
    states
}

/// Per slot the last of (e, v), and the rows that have it.
fn expected(rows: &Rows, slots: &[u32], slot: u32) -> Option<((Timestamp, Timestamp), Vec<Address>)> {
    let of_slot = || (0..rows.len()).filter(|row| slots[*row] == slot);
    let last = of_slot().map(|row| order(rows, row)).max()?;
    let tied = of_slot().filter(|row| order(rows, *row) == last);
    Some((last, tied.map(|row| Address(row as u64)).collect()))
}

#[test]
fn the_latest_value_keeps_the_laws() {
    let tied = std::cell::Cell::new(0);
    each(300, 0..24, |rows| {
        let random = &mut Random(rows.seed);
        let slots: Vec<u32> = (0..rows.len()).map(|_| random.below(SLOTS) as u32).collect();
        let ahead = fold(rows, &slots, 0..rows.len());
        for slot in 0..SLOTS as u32 {
            let mut found: Vec<Address> = ahead.rows(slot).collect();
            found.sort();
            let found = ahead.order(slot).map(|order| (order, found));
            tied.set(tied.get() + usize::from(found.as_ref().is_some_and(|(_, rows)| rows.len() > 1)));
            assert_eq!(found, expected(rows, &slots, slot));
        }
        let bytes = ahead.encode();
        // In any order and grouping, merged in any order, as states or as their bytes.
        for _ in 0..4 {
            let mut turned: Vec<usize> = (0..rows.len()).collect();
            random.shuffle(&mut turned);
            let mut parts: Vec<LatestStates> = turned
                .chunks(1 + random.below(rows.len()))
                .map(|part| fold(rows, &slots, part.iter().copied()))
                .collect();
            random.shuffle(&mut parts);
            let mut whole = LatestStates::new(SLOTS);
            for part in parts {
                match random.below(2) {
                    0 => whole.merge(&part),
                    _ => whole.merge(&LatestStates::decode(&part.encode(), SLOTS).unwrap()),
                }
            }
            assert_eq!(whole.encode(), bytes);
        }
        assert_eq!(LatestStates::decode(&bytes, SLOTS).unwrap().encode(), bytes);
        // Nothing is neutral, and is the same from whatever it comes.
        let mut with_nothing = LatestStates::new(SLOTS);
        with_nothing.merge(&LatestStates::new(SLOTS));
        assert_eq!(with_nothing.encode(), LatestStates::new(SLOTS).encode());
        with_nothing.merge(&ahead);
        with_nothing.merge(&LatestStates::new(SLOTS));
        assert_eq!(with_nothing.encode(), bytes);
        damage(random, &bytes);
    });
    assert!(tied.get() > 50, "{}", tied.get());
}

/// Whatever is done to the bytes, reading them is an error or a state.
fn damage(random: &mut Random, bytes: &[u8]) {
    let shorter = random.below(bytes.len());
    let cut = LatestStates::decode(&bytes[..shorter], SLOTS);
    // Where a slot ends it may be cut; the states are others then.
    assert!(cut.is_err() || cut.is_ok_and(|states| states.encode() == bytes[..shorter]), "bytes are missing");
    let mut other = bytes.to_vec();
    other[0] ^= 0x55;
    assert!(LatestStates::decode(&other, SLOTS).is_err(), "another version");
    for _ in 0..12 {
        let mut damaged = bytes.to_vec();
        let at = random.below(bytes.len());
        damaged[at] ^= 1 << random.below(8);
        if let Ok(states) = LatestStates::decode(&damaged, SLOTS) {
            let bytes = states.encode();
            assert_eq!(LatestStates::decode(&bytes, SLOTS).unwrap().encode(), bytes);
        }
    }
}
