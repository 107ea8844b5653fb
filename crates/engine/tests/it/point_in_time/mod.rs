//! The point-in-time operator against the oracle, in every way it can be run.

mod files;
mod large;
mod run;
mod versions;
mod versions_oracle;
mod windows;
mod windows_oracle;

use asof_model::Question;
use asof_testkit::{Edges, NEVER, Random, Row, World};

use crate::project::{Folder, said};
use run::{Way, check, run};

/// Cases of a world: one run of the operator answers all of them.
const CASES: usize = 40;

/// 5,000 cases under both questions, each in a random way; four of these are 20,000.
fn five_thousand(quarter: u64) {
    let folder = Folder::new();
    let mut edges = Edges::default();
    for number in 0..5_000 / CASES as u64 {
        let seed = quarter * 1_000_000 + number;
        let mut random = Random::new(seed);
        let world = World::random(&mut random, CASES);
        edges.look(&world);
        for question in [Question::Known, Question::Event] {
            let way = Way::random(&mut random);
            let about = format!("seed {seed}, {way:?}");
            match run(&folder, &world, question, way) {
                Ok((answers, counts)) => check(&world, question, &answers, &counts, &about),
                Err(error) => panic!("{about}: {}", said(&error)),
            }
        }
    }
    assert_eq!(edges.missed(5), Vec::<&str>::new(), "edges hit less than 5 times in quarter {quarter}");
}

#[test]
fn the_oracle_agrees_first_quarter() {
    five_thousand(1);
}

#[test]
fn the_oracle_agrees_second_quarter() {
    five_thousand(2);
}

#[test]
fn the_oracle_agrees_third_quarter() {
    five_thousand(3);
}

#[test]
fn the_oracle_agrees_fourth_quarter() {
    five_thousand(4);
}

#[test]
fn the_way_does_not_matter() {
    let folder = Folder::new();
    // One with an `available_at`, and one whose rows may be ordered by numbers as they are folded.
    let worlds = || (7_000_000..).map(|seed| (seed, World::random(&mut Random::new(seed), 12)));
    let known = worlds().find(|(_, world)| !world.assumed && !world.clockless);
    let assumed = worlds().find(|(_, world)| world.assumed && !world.clockless);
    for (seed, world) in [known, assumed].into_iter().flatten() {
        for question in [Question::Known, Question::Event] {
            let plain = run(&folder, &world, question, Way::PLAIN).unwrap();
            check(&world, question, &plain.0, &plain.1, &format!("seed {seed}"));
            for threads in [1, 2, 8] {
                for batch in [1, 100, 8192] {
                    for (portions, shuffle, halves) in [
                        (false, None, false),
                        (true, Some(seed), false),
                        (false, Some(seed + 1), true),
                        (true, None, true),
                    ] {
                        for numbers in [false, true].into_iter().filter(|numbers| world.assumed || !numbers) {
                            let way = Way { threads, batch, portions, shuffle, halves, numbers };
                            let found = run(&folder, &world, question, way).unwrap();
                            assert_eq!(found, plain, "seed {seed}, {question:?}, {way:?}");
                        }
                    }
                }
            }
        }
    }
}

/// Adds, changes and deletes rows that may not matter at or before `last`, in each case of a world.
fn rewrite(world: &World, random: &mut Random, last: &[i64], matters: impl Fn(&Row, i64) -> bool) -> World {
    let mut changed = world.clone();
    changed.rows.clear();
    changed.cases.clear();
    for ((rows, spine), last) in world.cases.iter().zip(last) {
        let first = changed.rows.len();
        let mut spares: Vec<Row> = Vec::new();
        for row in &world.rows[rows.clone()] {
            if matters(row, *last) {
                changed.rows.push(row.clone());
                spares.push(row.clone());
            } else if random.chance(50) {
                let mut row = row.clone();
                row.n = Some(random.between(100, 200));
                row.delete = random.chance(30);
                row.state = Some("ok");
                row.o = Some(9);
                changed.rows.push(row);
            }
        }
        for spare in spares {
            // A row that is new, and may not matter either.
            let mut row = spare;
            row.n = Some(random.between(100, 200));
            row.v = (*last).saturating_add(random.between(1, 5));
            if !world.clockless && random.chance(50) {
                row.e = (*last).saturating_add(random.between(1, 5));
            }
            if !world.clockless && !matters(&row, *last) {
                changed.rows.push(row);
            }
        }
        changed.cases.push((first..changed.rows.len(), spine.clone()));
    }
    changed.take_digests();
    changed
}

fn no_leak(question: Question, seeds: std::ops::Range<u64>, matters: impl Fn(&Row, i64) -> bool + Copy) {
    let folder = Folder::new();
    let mut compared = 0;
    for seed in seeds {
        let mut random = Random::new(9_000_000 + seed);
        let world = World::random(&mut random, CASES);
        if world.assumed {
            continue;
        }
        let last: Vec<i64> =
            world.cases.iter().map(|(_, spine)| random.pick(&world.spine[spine.clone()]).t).collect();
        let changed = rewrite(&world, &mut random, &last, matters);
        let way = Way::random(&mut random);
        let (before, _) = run(&folder, &world, question, way).unwrap();
        let (after, _) = run(&folder, &changed, question, way).unwrap();
        for (before, after) in before.iter().zip(&after) {
            for ((_, spine), last) in world.cases.iter().zip(&last) {
                for row in spine.clone().filter(|row| world.spine[*row].t <= *last) {
                    let (mut before, mut after) = (before[row].clone(), after[row].clone());
                    // What the other question would say may change.
                    (before.differs, after.differs) = (false, false);
                    assert_eq!(before, after, "seed {seed}, {question:?}, asked {:?}", world.spine[row]);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 5_000, "only {compared} answers compared");
}

#[test]
fn under_known_no_row_with_a_later_v_matters() {
    no_leak(Question::Known, 0..40, |row, t| row.v <= t);
}

#[test]
fn under_known_no_row_with_a_later_e_matters() {
    no_leak(Question::Known, 100..140, |row, t| row.e <= t);
}

#[test]
fn under_event_no_row_with_a_later_e_matters() {
    no_leak(Question::Event, 200..240, |row, t| row.e <= t);
}

/// Whatever key it is of, whenever it is known and however the rows are read: the same words.
#[test]
fn a_second_row_without_a_clock_is_refused() {
    let folder = Folder::new();
    let mut random = Random::new(5);
    let world = loop {
        let world = World::random(&mut random, 3);
        let positions = world.rows.iter().any(|row| row.s.is_some());
        let passes = world.rows.iter().any(|row| row.shop.is_some() && row.state == Some("ok"));
        if world.clockless && passes && !positions && !world.assumed {
            break world;
        }
    };
    let asked = world.spine.iter().find_map(|asked| asked.shop).unwrap();
    let mut told = Vec::new();
    // Of a key that is asked for, and of one that is not; never known, so no answer would show it.
    for shop in [asked, 999_999] {
        let mut world = world.clone();
        let row = world.rows.iter().find(|row| row.shop.is_some() && row.state == Some("ok")).unwrap();
        let row = Row { shop: Some(shop), user: None, ..row.clone() };
        world.rows.retain(|row| row.shop != Some(shop));
        world.rows.push(Row { v: NEVER, ..row.clone() });
        world.rows.push(row);
        for threads in [1, 2, 8] {
            for batch in [1, 3, 8192] {
                for (portions, halves) in [(false, false), (true, false), (false, true), (true, true)] {
                    for shuffle in [None, Some(1), Some(2)] {
                        for question in [Question::Known, Question::Event] {
                            let way = Way { threads, batch, portions, shuffle, halves, numbers: false };
                            told.push(said(&run(&folder, &world, question, way).unwrap_err()));
                        }
                    }
                }
            }
        }
    }
    told.dedup();
    insta::assert_snapshot!(told.join("\n"), @r"
    invalid [second_row] source `shop.events` has no event time, and more than one row of a key (shop) of view `view_0`
      hint: give the source an `event_time`, or the view a `where` that leaves one row a key
    ");
}
