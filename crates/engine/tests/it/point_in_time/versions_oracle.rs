//! Sources with ids through the operator, latest values beside windows, against the oracle: versions, withdrawals,
//! revivals and deletes, rows read in place and rows with positions, and older cuts of these.

use std::sync::Arc;

use asof_engine::point_in_time::Spec;
use asof_model::Question;
use asof_testkit::{Edges, Kind, Random, Shape, World};

use super::run::{self, Way, answered, check, spine};
use super::windows_oracle::{self, compare, compare_counts};
use crate::project::{Folder, said};

/// Cases of a world: one run of the operator answers all of them.
const CASES: usize = 20;

fn spec(world: &World, question: Question, way: Way) -> Spec {
    let latest = world.views.iter().enumerate().map(|(number, view)| run::reading(view, number));
    let windows =
        world.window_views.iter().enumerate().map(|(number, view)| windows_oracle::reading(view, number));
    Spec {
        source: "shop.events".to_owned(),
        question,
        compare: true,
        clockless: false,
        assumed: world.assumed,
        valid_until: true,
        ids: true,
        then_by: (way.numbers && world.assumed).then(|| "rank".to_owned()),
        columns: world.own_columns(),
        readings: latest.chain(windows).collect(),
        overflow_is_null: true,
        outcomes: false,
        memory: if way.portions { 300 * world.spine.len().max(1) as u64 } else { 1 << 30 },
    }
}

/// Runs a world and holds all that is answered against the oracle; how many answers.
fn agrees(folder: &Folder, world: &World, question: Question, way: Way, about: &str) -> usize {
    let spec = Arc::new(spec(world, question, way));
    let (answers, counts) = match answered(folder, world, spec, &Arc::new(spine(world)), way) {
        Ok(found) => found,
        Err(error) => panic!("{about}: {}", said(&error)),
    };
    let found: Vec<_> = (0..world.views.len()).map(|reading| run::read(&answers, reading)).collect();
    check(world, question, &found, &counts, about);
    compare_counts(world, question, &counts, about);
    found.iter().map(Vec::len).sum::<usize>() + compare(world, question, &answers, about)
}

/// 5,000 cases under both questions, each in a random way; four of these are 20,000.
fn cases(part: u64) {
    let folder = Folder::new();
    let mut edges = Edges::default();
    let mut compared = 0;
    for number in 0..5_000 / CASES as u64 {
        let seed = 60_000_000 + part * 1_000_000 + number;
        let mut random = Random::new(seed);
        let kind = *random.pick(&[Kind::InPlace, Kind::InPlace, Kind::Stored, Kind::Pushed, Kind::Mixed]);
        let windows = random.chance(65);
        let world = World::shaped(&mut random, CASES, Shape { kind, ids: true, windows });
        edges.look(&world);
        let cut = world.older_cut(&mut random).map(|last| world.cut(last));
        if let Some(cut) = &cut {
            edges.look_at_cut(&world, cut);
        }
        for question in [Question::Known, Question::Event] {
            let way = Way::random(&mut random);
            let about = format!("seed {seed}, {question:?}, {way:?}");
            compared += agrees(&folder, &world, question, way, &about);
            if let Some(cut) = cut.as_ref().filter(|_| random.chance(40)) {
                compared += agrees(&folder, cut, question, way, &format!("{about}, an older cut"));
            }
        }
    }
    assert!(compared > 100_000, "{compared}");
    for of in [&Edges::VERSIONS[..], &Edges::WINDOWS] {
        assert_eq!(edges.missed_of(of, 5), Vec::<&str>::new(), "in part {part}");
    }
}

#[test]
fn the_oracle_of_versions_agrees_first_part() {
    cases(1);
}

#[test]
fn the_oracle_of_versions_agrees_second_part() {
    cases(2);
}

#[test]
fn the_oracle_of_versions_agrees_third_part() {
    cases(3);
}

#[test]
fn the_oracle_of_versions_agrees_fourth_part() {
    cases(4);
}

#[test]
fn the_way_does_not_matter_to_versions() {
    let folder = Folder::new();
    for seed in 0..12 {
        let mut random = Random::new(66_000_000 + seed);
        let kind = *random.pick(&[Kind::InPlace, Kind::Stored, Kind::Mixed]);
        let world = World::shaped(&mut random, 8, Shape { kind, ids: true, windows: seed % 2 == 0 });
        let spine = Arc::new(spine(&world));
        for question in [Question::Known, Question::Event] {
            let run = |way: Way| {
                let spec = Arc::new(spec(&world, question, way));
                answered(&folder, &world, spec, &spine, way).unwrap()
            };
            let one = run(Way::PLAIN);
            for threads in [1, 2, 8] {
                for (batch, portions, shuffle, halves) in [
                    (1, false, None, false),
                    (100, true, Some(seed), false),
                    (8192, false, Some(seed + 1), true),
                    (100, true, None, true),
                ] {
                    for numbers in [false, true].into_iter().filter(|numbers| world.assumed || !numbers) {
                        let way = Way { threads, batch, portions, shuffle, halves, numbers };
                        assert_eq!(run(way), one, "seed {seed}, {question:?}, {way:?}");
                    }
                }
            }
        }
    }
}
