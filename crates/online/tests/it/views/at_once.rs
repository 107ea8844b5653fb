//! Who asks while rows come, end and are summed up is told what the store holds where it looks.

use std::sync::atomic::AtomicBool;

use super::*;

/// Readers of one view, which share what is remembered of it, beside writers and a tiler: each answer is that of a table
/// nobody asked before.
#[test]
fn what_is_remembered_is_what_the_store_holds() {
    let mut random = Random::new(77);
    let takes = |call: &str| SMALL.iter().any(|name| call.starts_with(name));
    let mut bench = Bench::over(&usual());
    let (store, table, ladder) = (bench.store.clone().unwrap(), bench.table.clone(), bench.ladder.clone());
    let clock = Arc::clone(&bench.clock);
    let features = bench.asked.clone();
    let ends = AtomicBool::new(false);
    let compared = AtomicI64::new(0);
    let ask = |seed: u64| {
        let (mut random, stored) = (Random::new(seed), stored(&usual(), takes));
        while !ends.load(Ordering::SeqCst) {
            let snapshot = store.read().unwrap();
            let back = if random.chance(80) { 0 } else { below(&mut random, 3_000 * SECOND) };
            let at = Timestamp(snapshot.answer_time().0 - back);
            // Some look at what was a while ago.
            if random.chance(20) {
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
            let keys: Vec<[u8; 10]> =
                (0..2).map(|_| KeyEncoder::encode_int64(below(&mut random, 4))).collect();
            let answer = |table: &ViewTable| {
                let asked = WindowsAsked { table, stored: &stored, ladder: &ladder, features: &features, at };
                let keys = &mut keys.iter().map(|key| Some(&key[..]));
                sum_windows(&asked, snapshot.as_ref(), keys).unwrap()
            };
            let (found, expected) =
                (answer(&table), answer(&ViewTable::windows(TABLE, Timestamp(i64::MIN), None)));
            assert_eq!(found.rows, expected.rows);
            for feature in &features {
                let of =
                    |read: &asof_online::views::WindowsRead| read.totals.finish(*feature).unwrap().values;
                assert_eq!(of(&found).as_ref(), of(&expected).as_ref(), "feature {feature} at {at:?}");
            }
            compared.fetch_add(1, Ordering::SeqCst);
        }
    };
    let tile = || {
        let stored = stored(&usual(), takes);
        let tiler =
            Tiler { store: store.as_ref(), table: &table, stored: &stored, ladder: &ladder, horizon: None };
        let all: Vec<Vec<u8>> = (0..4).map(|it| KeyEncoder::encode_int64(it).to_vec()).collect();
        while !ends.load(Ordering::SeqCst) {
            let until = Timestamp(clock.now().0 - 500 * SECOND);
            tiler.advance(until, &all, &mut |_, _, _| Ok(())).unwrap();
            all.iter().for_each(|entity| while !tiler.entity(entity).unwrap().done {});
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    std::thread::scope(|scope| {
        let ended = Ended(&ends);
        (0..2).for_each(|seed| _ = scope.spawn(move || ask(seed)));
        scope.spawn(tile);
        // As long as it takes to have compared much, on a machine of any speed.
        let much = || compared.load(Ordering::SeqCst) > 500 && table.remembered().rows_since > 200;
        for number in (0..6_000).take_while(|number| *number < 600 || !much()) {
            bench.pass(below(&mut random, 20 * SECOND));
            let now = bench.now();
            // Few at a time, so that much of what is remembered still holds.
            let rows: Vec<(i64, i64)> = (0..[1, 1, 1, 40][number % 4])
                .map(|_| {
                    let spread = [SECOND, 100 * SECOND, 5_000 * SECOND][below(&mut random, 3) as usize];
                    ([0, 0, 0, 1, 2][below(&mut random, 5) as usize], now - below(&mut random, spread))
                })
                .collect();
            let live = |at: &usize| bench.rows[*at].ended.is_none();
            let end = Some(below(&mut random, bench.rows.len().max(1) as i64) as usize);
            let end: Vec<usize> =
                end.filter(|at| *at < bench.rows.len() && live(at) && number % 3 == 0).into_iter().collect();
            bench.push(&mut random, &rows, &end);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        drop(ended);
    });
    (0..4).for_each(|entity| _ = bench.check(&[Some(entity)], 0));
    let Remembered { states, rows, rows_since, sums } = bench.table.remembered();
    let compared = compared.into_inner();
    println!("{compared}: {states} {rows} {rows_since} {sums}");
    assert!(compared > 500 && states > 50 && rows > 200 && rows_since > 200 && sums > 200);
}

/// Ends those who ask, also where a check fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
