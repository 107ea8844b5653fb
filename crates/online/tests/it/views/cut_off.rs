//! Tiles whose making is cut off between two batches.

use asof_online::live::{Accepted, Given, LiveUsage, LogSnapshot};

use super::*;

/// A store that takes so many more batches of computed entries, as one that is cut off between two.
#[derive(Debug)]
pub(super) struct CutOff<'a>(pub(super) &'a dyn LiveStore, pub(super) AtomicI64);

impl LiveStore for CutOff<'_> {
    fn accept(
        &self,
        intake: &Intake<'_>,
        make: &mut dyn FnMut(&Given<'_>, &mut Writing) -> asof_online::Result<()>,
    ) -> asof_online::Result<Accepted> {
        self.0.accept(intake, make)
    }
    fn write(
        &self,
        make: &mut dyn FnMut(Position, &mut Writing) -> asof_online::Result<()>,
    ) -> asof_online::Result<()> {
        match self.1.fetch_sub(1, Ordering::SeqCst) > 0 {
            true => self.0.write(make),
            false => Err(asof_online::Error::Stopped { path: String::new(), reason: "cut off".to_owned() }),
        }
    }
    fn read_from(&self, floor: Timestamp) -> asof_online::Result<Box<dyn LiveSnapshot>> {
        self.0.read_from(floor)
    }
    fn log(&self) -> asof_online::Result<Box<dyn LogSnapshot>> {
        self.0.log()
    }
    fn trim(&self, to: Position) -> asof_online::Result<Position> {
        self.0.trim(to)
    }
    fn usage(&self) -> asof_online::Result<LiveUsage> {
        self.0.usage()
    }
    fn backup(&self, to: &Path) -> asof_online::Result<()> {
        self.0.backup(to)
    }
}

/// Many late rows are taken in by several batches: between any two of them, and if it is cut off there, the answers are
/// those of the rows.
#[test]
fn tiles_of_many_late_rows_may_be_cut_off() {
    let mut random = Random::new(5);
    let mut bench = Bench::new();
    let mut cuts = 0;
    for round in 0..2 {
        let now = bench.now();
        for batch in 0..9 {
            bench.pass(SECOND);
            let rows: Vec<(i64, i64)> = (0..400).map(|at| (1, now - (at * 9 + batch) * SECOND / 2)).collect();
            let live: Vec<usize> =
                (0..bench.rows.len()).filter(|at| bench.rows[*at].ended.is_none()).collect();
            let ends: Vec<usize> = if live.is_empty() {
                Vec::new()
            } else {
                vec![live[below(&mut random, live.len() as i64) as usize]]
            };
            bench.push(&mut random, &rows, &ends);
        }
        bench.pass(60 * SECOND);
        bench.advance(bench.now() - SECOND);
        for most in [0, 1, 2, i64::MAX] {
            let store = CutOff(bench.store(), AtomicI64::new(most));
            let tiler = Tiler { store: &store, ..bench.tiler() };
            let done = tiler.entity(&KeyEncoder::encode_int64(1));
            let cut = done.is_err();
            cuts += usize::from(cut && most > 0);
            bench.check(&[Some(1)], 0);
            if !cut && done.is_ok_and(|tiled| tiled.done) {
                break;
            }
            if cut && random.chance(60) {
                let at = bench.now() - below(&mut random, 3_000) * SECOND;
                bench.push(&mut random, &[(1, at)], &[round * 700]);
            }
        }
        let read = bench.check(&[Some(1)], 0);
        assert!(read < 1_000, "{read} rows were read");
    }
    assert!(cuts > 1, "it was cut off {cuts} times after a batch");
}
