//! Worlds of a source that is pushed to and has a past, read where it is: its rows have no position and stand before those
//! that were pushed, where all else is equal.

use super::*;

#[test]
fn rows_beside_a_past_are_answered_as_the_oracle_says() {
    let (mut compared, mut ties, mut late) = (0, 0, 0);
    for seed in 0..16 {
        let mut random = Random::new(97_000_000 + seed);
        let shape = Shape { kind: Kind::Mixed, ids: false, windows: random.chance(75) };
        let mut world = World::shaped(&mut random, 40, shape);
        // What was loaded is there from the beginning, in files.
        for row in world.rows.iter_mut().filter(|row| !row.pushed) {
            row.s = None;
        }
        let past: Vec<usize> = (0..world.rows.len()).filter(|at| !world.rows[*at].pushed).collect();
        let mut coming = Coming::new(seed, world, (Kind::Mixed, History::All), false);
        let mut order = past.clone();
        random.shuffle(&mut order);
        let width = order.len().div_ceil(random.between(1, 3) as usize).max(1);
        for (number, rows) in order.chunks(width).enumerate() {
            let rows: Vec<Row> = rows.iter().map(|at| coming.world.rows[*at].clone()).collect();
            let path = coming.folder.path().join(format!("past/{number}.parquet"));
            write(&path, &coming.world.own_table(&rows), number);
        }
        coming.given = past;
        let mut ran = Ran::default();
        let early = random.chance(50);
        if early {
            coming.bring_up(false, &mut ran);
        }
        let steps = coming.world.steps.clone();
        let steps: Vec<&Step> = steps.iter().filter(|step| !matches!(step, Step::Load(_))).collect();
        for (number, step) in steps.iter().enumerate() {
            coming.step(number, step, &mut ran);
            if random.chance(2) {
                coming.node.runtime.block_on(coming.node.flow.flush()).unwrap();
            }
            if number == steps.len() / 2 && !early {
                coming.bring_up(false, &mut ran);
            }
            if (early || number > steps.len() / 2) && random.chance(10) {
                let asked: Vec<(usize, &SpineRow)> =
                    spine_of(&coming.world).filter(|_| random.chance(10)).collect();
                compared += coming.ask(&asked, None);
            }
        }
        coming.bring_up(random.chance(50), &mut ran);
        compared += coming.ask_as_of();
        let Coming { node, prepared, world, given, about, .. } = &coming;
        compared += compare_offline(node, prepared, world, given, about);
        for (rows, _) in &world.cases {
            let rows = &world.rows[rows.clone()];
            let pairs = || rows.iter().flat_map(|row| rows.iter().map(move |other| (row, other)));
            let pairs =
                || pairs().filter(|(row, other)| !row.pushed && other.pushed && row.shop == other.shop);
            ties +=
                pairs().filter(|(row, other)| (row.e, row.v, row.o) == (other.e, other.v, other.o)).count();
            late += pairs().filter(|(row, other)| row.e < other.e && row.v > other.v).count();
        }
    }
    println!(
        "{compared} answers of windows, {ties} ties, {late} rows of the past known after what was pushed"
    );
    assert!(compared > 40_000 && ties > 10 && late > 100, "{compared}, {ties} ties, {late} late");
}
