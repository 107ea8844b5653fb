//! Worlds of a short history, whose rows are let go of as time passes: as of any instant within it answers are the oracle's,
//! before it there is a typed error, and a row too old to be kept still ends its event.

use std::time::Duration;

use asof_model::Explain;
use asof_online::live::Direction;
use asof_testkit::oracle::version_after;
use tokio_util::sync::CancellationToken;

use super::*;

/// How many entries all views are.
fn entries(node: &Node) -> usize {
    let mut entries = 0;
    let from = node.views.store().read().unwrap();
    for generation in node.views.all().iter() {
        let count = &mut |_: &[u8], _: &[u8]| {
            entries += 1;
            Ok(true)
        };
        from.scan(generation.table.number(), &[], None, Direction::Forward, count).unwrap();
    }
    entries
}

/// What a node does beside, for a while; how many entries went.
pub(super) fn let_go(node: &Node) -> usize {
    let before = entries(node);
    let stop = CancellationToken::new();
    let (flow, stopping) = (node.flow.clone().with_expiry(Duration::from_millis(1)), stop.clone());
    let working = node.runtime.spawn(async move { flow.refresh_forever(stopping).await });
    std::thread::sleep(Duration::from_millis(40));
    stop.cancel();
    node.runtime.block_on(working).unwrap();
    before.saturating_sub(entries(node))
}

/// Versions so old when they came that a view of windows keeps none such, after one that it keeps.
fn too_old(world: &World, history: i64) -> usize {
    let mut found = 0;
    for view in &world.window_views {
        let reach = |window: &asof_testkit::Window| {
            Some(window.length? + window.offset + window.resolution.unwrap_or(0))
        };
        let Some(reach) = view.windows.iter().map(reach).collect::<Option<Vec<i64>>>() else { continue };
        let reach = history + reach.into_iter().max().unwrap_or(0);
        for (rows, _) in &world.cases {
            let rows = &world.rows[rows.clone()];
            let after = |at: usize| version_after(rows, at).map(|after| (&rows[at], &rows[after]));
            let pairs = (0..rows.len()).filter_map(after);
            let ends = |(row, after): &(&Row, &Row)| {
                let oldest = after.v.saturating_sub(reach);
                after.e < oldest && oldest <= row.e && row.e < after.v && !row.delete && !after.delete
            };
            found += pairs.filter(ends).count();
        }
    }
    found
}

#[test]
fn a_short_history_is_answered_as_the_oracle_says() {
    let (mut within, mut refused, mut gone, mut ends, mut offline) = (0, 0, 0, 0, 0);
    for seed in 0..16 {
        let mut random = Random::new(95_000_000 + seed);
        let kind = Kind::Pushed;
        let shape = Shape { kind, ids: random.chance(80), windows: random.chance(80) };
        let history = *random.pick(&[0, 4, 30, 150]);
        let bounded =
            if history == 0 { History::None } else { History::Length(Length::from_micros(history)) };
        let late = random.chance(40);
        let mut coming = Coming::new(seed, World::shaped(&mut random, 60, shape), (kind, bounded), false);
        if !late {
            coming.node.materialize();
        }
        // What a node does beside takes times too, so that rows come a little later, as after a restart.
        let mut ran = Ran { restarts: 1, ..Ran::default() };
        let steps = coming.world.steps.clone();
        for (number, step) in steps.iter().enumerate() {
            coming.step(number, step, &mut ran);
            let quarter = (number + 1) % (steps.len() / 4).max(1) == 0;
            if quarter {
                let again = number > steps.len() / 2 && random.chance(50);
                coming.bring_up(again, &mut ran);
                gone += let_go(&coming.node);
            }
            if late && number < steps.len() / 4 || !quarter && !random.chance(15) {
                continue;
            }
            let (Step::Push(row) | Step::Retry(row) | Step::Load(Range { start: row, .. })) = step;
            let case = coming.world.cases.iter().position(|(rows, _)| rows.contains(row)).unwrap();
            // Of the case that comes, of one of late, and of one of long ago.
            let cases = [case, case.saturating_sub(1), random.between(0, case as i64) as usize];
            let asked: Vec<(usize, &SpineRow)> =
                spine_of(&coming.world).filter(|(case, _)| cases.contains(case)).collect();
            within += coming.ask(&asked, None);
            let now = coming.node.views.store().read().unwrap().answer_time().0;
            for (case, row) in asked.iter().filter(|(_, row)| row.t <= now) {
                if row.t >= now - history {
                    within += coming.ask(&[(*case, row)], Some(row.t));
                    continue;
                }
                let entities = entities(&coming.prepared, &[(*case, row)]);
                let read = coming.node.reader.read(&coming.prepared, &entities, Some(Timestamp(row.t)));
                assert_eq!(read.unwrap_err().code(), "beyond_history", "{}: {row:?} at {now}", coming.about);
                refused += 1;
            }
        }
        ends += too_old(&coming.world, history);
        // All of it is kept offline.
        let Coming { node, prepared, world, given, about, .. } = &coming;
        offline += compare_offline(node, prepared, world, given, about);
    }
    println!("{within} answers within, {refused} refused, {gone} entries gone, {ends} ends by old rows");
    assert!(within > 50_000 && refused > 1_000 && gone > 500 && ends > 10 && offline > 20_000, "{offline}");
}
