//! What every aggregate's states must do, asked of one function and some rows; tests only.

use super::{Finished, Function, Input, States};

/// A row and a group for it, for each of so many rows, as a seed shuffles them.
fn shuffled(count: usize, mut seed: u64) -> Vec<(u32, u32)> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut rows: Vec<(u32, u32)> = (0..count as u32).map(|row| (row, next() as u32 % 3)).collect();
    for at in (1..count).rev() {
        rows.swap(at, next() as usize % (at + 1));
    }
    rows
}

fn bytes(function: &Function, states: &States, slot: u32) -> Vec<u8> {
    let mut out = Vec::new();
    function.encode(states, slot, &mut out);
    out
}

/// What rows come to at a time, once they were found to give one state whatever their order and grouping, that
/// is read back as it was written, and out of which rows can be taken again.
pub(super) fn folded(function: &Function, input: &Input, at: i64, seed: u64) -> Finished {
    let count = input.event_times.len();
    let rows: Vec<u32> = (0..count as u32).collect();
    let batch = function.prepare(input).unwrap();
    let mut states = function.states(8);
    let nothing = bytes(function, &states, 0);
    function.update(&mut states, &vec![0; count], &rows, &batch);
    let whole = bytes(function, &states, 0);
    let finished = function.finish(&states, &[0], &[at]);

    // In another order, in three groups, in slots 1 to 3, put together in slot 4.
    let (others, groups): (Vec<u32>, Vec<u32>) = shuffled(count, seed).into_iter().unzip();
    let slots: Vec<u32> = groups.iter().map(|group| group + 1).collect();
    function.update(&mut states, &slots, &others, &batch);
    let parts = [3, 1, 2].map(|part| bytes(function, &states, part));
    let mut copy = function.states(8);
    for (slot, part) in [3, 1, 2].into_iter().zip(&parts) {
        function.merge_encoded(&mut copy, slot, part).unwrap();
        assert_eq!(bytes(function, &copy, slot), *part, "read back");
        function.merge(&mut copy, 4, &states, slot);
    }
    assert_eq!(bytes(function, &copy, 4), whole, "grouped");
    let again = function.finish(&copy, &[4], &[at]);
    assert_eq!((&again.values, &again.outcomes), (&finished.values, &finished.outcomes));

    let mut tails = function.states(5);
    for (slot, part) in [3, 1, 2].into_iter().zip(&parts) {
        function.merge_encoded(&mut tails, slot, part).unwrap();
    }
    function.accumulate(&mut tails, 1..4);
    assert_eq!(bytes(function, &tails, 1), whole, "accumulated");
    assert_eq!(bytes(function, &tails, 3), parts[0], "the last stays");
    assert!(function.is_empty(&tails, 0) && function.is_empty(&tails, 4));

    if function.is_invertible() {
        // Rows of the first group taken out of all are the other two groups; states, the other way round.
        let taken: Vec<u32> =
            others.iter().zip(&groups).filter(|row| *row.1 == 0).map(|row| *row.0).collect();
        function.withdraw(&mut states, &vec![0; taken.len()], &taken, &batch);
        function.subtract(&mut copy, 4, &states, 1);
        assert_eq!(bytes(function, &states, 0), bytes(function, &copy, 4), "withdrawn");
        for slot in [3, 2] {
            function.subtract(&mut copy, 4, &states, slot);
            function.subtract(&mut states, 0, &copy, slot);
        }
        for states in [(&states, 0), (&copy, 4)] {
            assert_eq!(bytes(function, states.0, states.1), nothing, "subtracted");
            assert!(function.is_empty(states.0, states.1));
        }
        // Out before in is the same.
        function.withdraw(&mut copy, &vec![5; count], &others, &batch);
        function.update(&mut copy, &vec![5; count], &rows, &batch);
        assert!(function.is_empty(&copy, 5));
    }
    finished
}
