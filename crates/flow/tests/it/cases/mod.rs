//! The case folders of `tests/cases`, each run every way there is to an answer: read in place, in halves, streamed in
//! several orders, served, and from table and log while the log is moved. All must answer what the folder says, to the
//! bit. How many ran each way is counted, so that nothing falls out unseen.

mod folder;
mod given;
mod offline;
mod oracle;
mod stream;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use asof_engine::Engine;
use asof_model::{Catalog, Revision};
use tokio::runtime::Runtime;

use crate::fixture::name;
use crate::node::{engine, resolved, runtime};
use folder::{Case, Way};
use given::{Coming, Given, definitions};
use offline::{Offline, QUESTIONS};
use stream::{Order, Room};

/// What a case is read with, before it goes any way.
struct Bench {
    engine: Engine,
    runtime: Runtime,
    /// Of the engine.
    _data: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let data = tempfile::tempdir().unwrap();
        Bench { engine: engine(data.path(), 2), runtime: runtime(), _data: data }
    }

    fn catalog(&self, root: &Path, definitions: &str) -> Arc<Catalog> {
        let versions = resolved(&self.runtime, &self.engine, root, definitions);
        let roots = [(name("shop"), root.to_owned())].into();
        Arc::new(Catalog::from_versions(Revision(1), roots, versions))
    }

    fn given(&self, case: &Case) -> Vec<Given> {
        let catalog = self.catalog(&case.folder, &case.definitions);
        Given::all(case, &catalog, &self.engine, &self.runtime)
    }

    fn offline<'a>(&'a self, case: &'a Case, catalog: &'a Arc<Catalog>) -> Offline<'a> {
        Offline { case, catalog, engine: &self.engine, runtime: &self.runtime }
    }
}

/// The case that is asked for by `ASOF_CASE`, or all.
#[expect(clippy::disallowed_methods, reason = "one case is asked for by the environment")]
fn chosen() -> Option<String> {
    std::env::var("ASOF_CASE").ok()
}

/// So many cases run at once: most of their time they wait for the disk.
const AT_ONCE: usize = 8;

/// What became of a case: how many values were compared, or why it does not go this way.
type Ran = Result<usize, String>;

/// Runs every case that goes this way, `run` telling how many values it compared, none where the way is not there for
/// what the case gives. Of all cases at least so many must run it.
fn every_case(way: Way, at_least: usize, run: impl Fn(&Bench, &Case, &[Given]) -> Option<usize> + Sync) {
    let (bench, chosen, next) = (Bench::new(), chosen(), AtomicUsize::new(0));
    let mut cases = Case::all();
    cases.retain(|case| chosen.as_ref().is_none_or(|name| case.name == *name));
    let one = |case: &Case| -> Ran {
        if let Some(reason) = case.without.get(&way) {
            return Err(reason.clone());
        }
        run(&bench, case, &bench.given(case)).ok_or_else(|| "is not there for such sources".to_owned())
    };
    let work = || -> Vec<(usize, Option<Ran>)> {
        let mut done = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(case) = cases.get(at)
        {
            // Of one that panics nothing but what it said, which stands on standard error.
            done.push((at, catch_unwind(AssertUnwindSafe(|| one(case))).ok()));
        }
        done
    };
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    done.sort_by_key(|(at, _)| *at);
    let (mut ran, mut compared, mut wrong) = (0, 0, Vec::new());
    for (at, done) in done {
        let name = &cases[at].name;
        match done {
            Some(Ok(values)) => {
                assert!(values > 0, "{name}: nothing was compared");
                (ran, compared) = (ran + 1, compared + values);
            }
            Some(Err(reason)) => println!("not {way}: {name}: {reason}"),
            None => wrong.push(name),
        }
    }
    println!("{way}: {ran} of {} cases, {compared} values", cases.len());
    assert_eq!(wrong, Vec::<&String>::new(), "these cases do not answer so, {way}");
    assert!(chosen.is_some() || ran >= at_least, "{way}: only {ran} cases");
}

/// Files read in place, in the order of the file and otherwise, as CSV and as Parquet.
fn in_place(bench: &Bench, case: &Case, given: &[Given], run: impl Fn(&Offline<'_>, &str) -> usize) -> usize {
    let catalog = bench.catalog(&case.folder, &case.definitions);
    let mut compared = run(&bench.offline(case, &catalog), "as it stands");
    let folder = tempfile::tempdir().unwrap();
    let text = definitions(case, given, Coming::Files("parquet"), false);
    for turned in 0..2 {
        for given in given {
            let count = given.rows.num_rows();
            let rows: Vec<usize> = match turned {
                0 => (0..count).collect(),
                _ => (0..count).map(|row| (count - row + count / 2) % count).collect(),
            };
            given.parquet(&given.take(&rows), &folder.path().join(format!("{}.parquet", given.file())));
        }
        let catalog = bench.catalog(folder.path(), &text);
        let about = if turned == 0 { "as Parquet" } else { "as Parquet in another order" };
        compared += run(&bench.offline(case, &catalog), about);
    }
    compared
}

#[test]
fn cases_read_in_place() {
    every_case(Way::Batch, 112, |bench, case, given| {
        Some(in_place(bench, case, given, |offline, about| {
            offline.train(about) + offline.answer(false, about)
        }))
    });
}

#[test]
fn cases_in_halves_sent_through_the_codec() {
    every_case(Way::Halves, 112, |bench, case, given| {
        Some(in_place(bench, case, given, |offline, about| offline.answer(true, about)))
    });
}

/// Rows of a source with a clock are pushed; where no source has one there is nothing to stream.
fn streams(given: &[Given]) -> bool {
    given.iter().any(Given::has_clock)
}

fn with_ids(given: &[Given]) -> bool {
    given.iter().any(|given| given.source.definition.id.is_some())
}

/// In every order: asked as it comes and as of every instant, and trained when all is there.
#[test]
fn cases_streamed_and_served() {
    every_case(Way::Streamed, 108, |_, case, given| {
        streams(given).then(|| Order::ALL.into_iter().map(|order| streamed(case, given, order)).sum())
    });
}

fn streamed(case: &Case, given: &[Given], order: Order) -> usize {
    // As the case has it nothing but the present is kept; asked is then as rows come alone.
    let history = order != Order::Reversed;
    let mut room = Room::new(case, given, Coming::Pushed, history);
    // Without ids views may come after rows, and read them from the log.
    let views_first = order != Order::Loaded || with_ids(given);
    if views_first {
        room.materialize();
    }
    room.stream(order, |_, _| {});
    if !views_first {
        room.materialize();
    }
    room.to_the_end();
    let trained = room.train(&format!("{order:?}"));
    if history {
        room.as_of();
    }
    assert!(room.served > 0, "{}: nothing was served", case.name);
    trained + room.served
}

#[test]
fn cases_from_table_and_log_while_the_log_is_moved() {
    every_case(Way::Flushed, 108, |_, case, given| {
        if !streams(given) {
            return None;
        }
        let mut room = Room::new(case, given, Coming::Pushed, true);
        room.materialize();
        let mut compared = 0;
        // Cut off between commit and trim after every other batch.
        room.stream(Order::AsKnown, |room, batch| {
            if batch % 2 == 0 {
                room.flush_untrimmed(1);
            }
        });
        room.to_the_end();
        compared += room.train("part of the log in the table, none of it trimmed");
        room.restart();
        room.to_the_end();
        compared += room.train("after a restart");
        assert!(room.flush_untrimmed(u64::MAX) < 1_000);
        compared += room.train("all of the log in the table, none of it trimmed");
        room.flush();
        compared += room.train("after a flush");
        room.as_of();
        Some(compared + room.served)
    });
}

#[test]
fn cases_materialized_of_files() {
    every_case(Way::Materialized, 112, |_, case, given| {
        let mut room = Room::new(case, given, Coming::Files("csv"), true);
        room.to_the_end();
        room.materialize();
        room.as_of();
        // As the case has it nothing but the present is kept.
        let mut present = Room::new(case, given, Coming::Files("csv"), false);
        present.materialize_and_ask();
        Some(room.served + present.served)
    });
}

/// The files say what the oracle says, where it has words for it.
#[test]
fn cases_as_the_oracle_reads_them() {
    every_case(Way::Oracle, 96, |bench, case, given| {
        let catalog = bench.catalog(&case.folder, &case.definitions);
        let selection = bench.offline(case, &catalog).selection();
        let rows: Vec<usize> = (0..case.spine.num_rows()).collect();
        let compared = QUESTIONS.map(|question| {
            let (answers, without) = oracle::answers(case, given, &selection, question);
            if without > 0 {
                println!("{}: the oracle has no words for {without} columns", case.name);
            }
            case.check(question, &rows, &answers, "the oracle")
        });
        Some(compared.iter().sum()).filter(|compared| *compared > 0)
    });
}

/// The table of `tests/cases/README.md` has every case, and no other.
#[test]
fn every_case_stands_in_the_table() {
    let table = std::fs::read_to_string(folder::root().join("README.md")).unwrap();
    let named: std::collections::BTreeSet<&str> = table
        .split("](")
        .filter_map(|rest| rest.split_once("/features.yaml)"))
        .map(|(name, _)| name)
        .collect();
    let cases = Case::all();
    assert_eq!(named, cases.iter().map(|case| case.name.as_str()).collect());
}

/// What the table cites as a test is one, where it says.
#[test]
fn every_test_of_the_table_is_there() {
    let table = std::fs::read_to_string(folder::root().join("README.md")).unwrap();
    let mut cited = 0;
    for (before, rest) in table.match_indices("](").map(|(at, _)| table.split_at(at)) {
        let (path, _) = rest[2..].split_once(')').unwrap();
        if !path.ends_with(".rs") {
            continue;
        }
        let name = before.rsplit_once('[').unwrap().1;
        let text = std::fs::read_to_string(folder::root().join(path));
        let text = text.unwrap_or_else(|error| panic!("`{name}` is said to be in {path}: {error}"));
        let (above, _) =
            text.split_once(&format!("fn {name}(")).unwrap_or_else(|| panic!("no {name} in {path}"));
        // Up to the empty line before it: comments and attributes.
        let attributes = above.rsplit_once("\n\n").map_or(above, |(_, attributes)| attributes);
        assert!(attributes.contains("#[test]"), "{name} of {path} is no test");
        cited += 1;
    }
    assert!(cited > 100, "{cited}");
}
