//! Worlds replayed: what a node stored is read back with its v and s, and given to a fresh node in another order, some of
//! it pushed at its v and the rest loaded with it. All questions have the answers that the first node gives.

use std::collections::BTreeSet;

use arrow::array::{TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use asof_engine::source::{ScanColumns, scan};

use super::*;
use crate::fixture::rows_of;

/// What a source stores, in the order of positions.
struct Stored {
    /// The source's own columns.
    rows: RecordBatch,
    /// None: never known.
    v: Vec<Option<i64>>,
}

impl Stored {
    fn read(node: &Node, source: &SourceVersion) -> Stored {
        let catalog = node.registry.catalog();
        let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
        let scan = node.runtime.block_on(scan(&node.engine, &catalog, source, &want)).unwrap();
        let all = concat_batches(&scan.plan.schema(), &rows_of(&node.engine, &node.runtime, &scan)).unwrap();
        let position = all.column_by_name("__s").unwrap().as_primitive::<Int64Type>();
        let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
        order.sort_by_key(|row| position.value(*row as usize));
        let all = take_record_batch(&all, &UInt32Array::from(order)).unwrap();
        let v =
            all.column_by_name("__v").unwrap().as_primitive::<TimestampMicrosecondType>().iter().collect();
        let own = source.columns.iter().map(|column| all.schema().index_of(&column.name).unwrap());
        Stored { rows: all.project(&own.collect::<Vec<_>>()).unwrap(), v }
    }

    /// Some rows as a file has them: what they were stored with is their `available_at`.
    fn file(&self, rows: &[usize]) -> RecordBatch {
        let rows: UInt32Array = rows.iter().map(|row| Some(*row as u32)).collect();
        let batch = take_record_batch(&self.rows, &rows).unwrap();
        let seen = batch.schema().index_of("seen").unwrap();
        let v = rows.values().iter().map(|row| self.v[*row as usize]);
        let mut columns = batch.columns().to_vec();
        columns[seen] = Arc::new(v.collect::<TimestampMicrosecondArray>().with_timezone("UTC"));
        RecordBatch::try_new(batch.schema(), columns).unwrap()
    }
}

/// How the rows of a store come to another node.
#[derive(Default)]
struct Plan {
    /// Files that come first.
    before: Vec<Vec<usize>>,
    /// Rows that are pushed, in the order of v.
    pushed: Vec<usize>,
    /// Files that come while rows are pushed, and after.
    after: Vec<Vec<usize>>,
}

impl Plan {
    /// A random one that keeps what v and s say: rows of one v, which only s tells apart, are a file's rows in their order,
    /// and versions before one that is pushed are there when it comes, since it is compared with the one that stands.
    fn random(random: &mut Random, rows: &[&Row]) -> Plan {
        let mut of_one_v: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            of_one_v.entry(row.v).or_default().push(at);
        }
        let (mut plan, mut pushed_later) = (Plan::default(), BTreeSet::new());
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for same in of_one_v.into_values().rev() {
            let mut ids = same.iter().filter_map(|at| rows[*at].id);
            if let [one] = same[..]
                && rows[one].pushed
                && random.chance(50)
            {
                pushed_later.extend(ids);
                plan.pushed.push(one);
            } else if random.chance(50) || ids.any(|id| pushed_later.contains(&id)) {
                before.push(same);
            } else {
                after.push(same);
            }
        }
        plan.pushed.reverse();
        let files = |mut groups: Vec<Vec<usize>>, random: &mut Random| -> Vec<Vec<usize>> {
            random.shuffle(&mut groups);
            let width = groups.len().div_ceil(random.between(1, 3) as usize).max(1);
            groups.chunks(width).map(<[Vec<usize>]>::concat).collect()
        };
        (plan.before, plan.after) = (files(before, random), files(after, random));
        plan
    }
}

#[test]
fn stored_rows_replayed_in_any_order_and_mix_answer_the_same() {
    let (mut compared, mut pushes, mut loads, mut among) = (0, 0, 0, 0);
    let mut edges = Edges::default();
    for seed in 0..12 {
        let mut random = Random::new(90_000_000 + seed);
        let kind = *random.pick(&[Kind::Pushed, Kind::Mixed]);
        let shape = Shape { kind, ids: random.chance(75), windows: random.chance(75) };
        let mut first = Coming::new(seed, World::shaped(&mut random, 40, shape), (kind, History::All), false);
        first.node.materialize();
        for (number, step) in first.world.steps.clone().iter().enumerate() {
            first.step(number, step, &mut Ran::default());
            if random.chance(2) {
                first.node.runtime.block_on(first.node.flow.flush()).unwrap();
            }
        }
        compared += first.ask_as_of();
        let about = format!("{} first", first.about);
        compared += compare_offline(&first.node, &first.prepared, &first.world, &first.given, &about);
        edges.look(&first.world);

        let stored = Stored::read(&first.node, &source_of(&first.world, kind));
        let rows: Vec<&Row> = first.given.iter().map(|at| &first.world.rows[*at]).collect();
        let known = |v: i64| Some(v).filter(|v| *v != asof_testkit::NEVER);
        assert_eq!(
            stored.v,
            rows.iter().map(|row| known(row.v)).collect::<Vec<_>>(),
            "{about}: what it stored"
        );
        let plan = Plan::random(&mut random, &rows);

        // The same rows, all of which say when they were known.
        let second = World { available_at: true, ..first.world.clone() };
        let mut second = Coming::new(seed, second, (Kind::Mixed, History::All), false);
        second.about = format!("{}, replayed", first.about);
        let mut number = 0;
        let mut load = |second: &Coming, rows: &[usize]| {
            number += 1;
            let path = second.folder.path().join(format!("load/{number}.parquet"));
            write(&path, &stored.file(rows), number);
            assert_eq!(super::load(&second.node, path), 1, "{}: a file of its own", second.about);
        };
        let late = random.chance(50);
        if !late {
            second.node.materialize();
        }
        for rows in &plan.before {
            load(&second, rows);
        }
        let mut after = plan.after.iter();
        for (place, row) in plan.pushed.iter().enumerate() {
            let v = rows[*row].v;
            // A load takes a v of its own, for which there must be room.
            let room = place > 0 && rows[plan.pushed[place - 1]].v + 1 < v;
            if room
                && random.chance(10)
                && let Some(rows) = after.next()
            {
                load(&second, rows);
                among += 1;
            }
            second.node.clock.0.fetch_max(v, Ordering::AcqRel);
            let (found, s) = push(&second.node, &stored.rows.slice(*row, 1));
            assert_eq!((found, s.is_some()), (v, true), "{}: {:?}", second.about, rows[*row]);
            if random.chance(2) {
                second.node.runtime.block_on(second.node.flow.flush()).unwrap();
            }
            if late && place == plan.pushed.len() / 2 {
                second.node.materialize();
            }
        }
        for rows in after {
            load(&second, rows);
        }
        second.node.materialize();
        pushes += plan.pushed.len();
        loads += plan.before.len() + plan.after.len();
        // Held against the rows as the first node has them.
        second.given = first.given.clone();
        compared += second.ask_as_of();
        compared +=
            compare_offline(&second.node, &second.prepared, &first.world, &first.given, &second.about);
    }
    println!("{compared} answers of windows, {pushes} pushes, {loads} loads, {among} among pushes");
    assert!(compared > 40_000 && pushes > 500 && loads > 40 && among > 5);
    let rare = ["load into the middle of a version chain", "versions tie in v, told apart by position"];
    assert_eq!(edges.missed_of(&rare, 5), Vec::<&str>::new());
}
