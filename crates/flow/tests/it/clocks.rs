//! Clocks as they are: one that stands still over several pushes, one that is set back, and requests that come while a
//! push waits for its fsync. What was answered then is what the same rows answer later, by training, and to another node
//! that gets them with the times that they were given.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow::util::display::array_value_to_string;
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::intake::BodyFormat;
use asof_engine::no_progress;
use asof_flow::{PushReport, PushRequest};
use asof_model::{Ask, Principal, Question, Timestamp};
use asof_serve::EntityColumns;
use asof_testkit::Random;

use crate::fixture::{SetAtEnd, name};
use crate::node::{Node, resolved};

const KEYS: i64 = 4;
const START: i64 = 1_000_000_000;

const DEFINITIONS: &str = "\
entity: person
keys: {who: int64}
---
source: orders
push: true
schema: {id: int64, n: int64, who: int64, at: timestamp, seen: timestamp, gone: bool}
event_time: at
available_at: seen
id: id
delete_when: gone
---
view: lately
entity: person
source: orders
history: all
windows: [1m, all]
features: {orders: {agg: count(*)}, total: {agg: sum(n)}, last: {agg: last(n)}}
---
view: newest
entity: person
source: orders
history: all
features: {id: id, n: n}
---
service: asked
features: [lately.*, newest.*]
";

fn open(folder: &Path) -> Node {
    let node = Node::open(folder, START);
    node.put(resolved(&node.runtime, &node.engine, folder, DEFINITIONS));
    node.materialize();
    // A source's first push gives it a number, which takes a v of its own.
    push(&node, &[]);
    node
}

/// A row as it is pushed: id, n, key, e, whether it withdraws.
#[derive(Debug, Clone, Copy)]
struct Row {
    id: i64,
    n: i64,
    who: i64,
    e: i64,
    gone: bool,
}

impl Row {
    /// `seen` is told where it was given before: of a pushed row it decides nothing.
    fn json(&self, seen: Option<i64>) -> String {
        let Row { id, n, who, e, gone } = self;
        let seen = seen.map_or("null".to_owned(), |seen| format!("\"{}\"", Timestamp(seen)));
        let at = Timestamp(*e);
        format!(
            "{{\"id\": {id}, \"n\": {n}, \"who\": {who}, \"at\": \"{at}\", \"seen\": {seen}, \"gone\": {gone}}}\n"
        )
    }
}

/// Durable: it waits for an fsync.
fn push(node: &Node, rows: &[Row]) -> PushReport {
    let body: String = rows.iter().map(|row| row.json(None)).collect();
    let request = PushRequest::new(body, BodyFormat::Ndjson);
    let (owner, shop, source) = (Principal::owner(), name("shop"), name("orders"));
    node.runtime.block_on(node.flow.push(&owner, &shop, &source, request)).unwrap()
}

/// What is answered of every key, and the T that it was answered for.
fn ask(node: &Node, as_of: Option<i64>) -> (i64, Vec<String>) {
    let catalog = node.registry.catalog();
    let service = Ask::Service("asked".to_owned());
    let prepared = node.reader.prepare(&catalog, &name("shop"), &service, false).unwrap();
    let keys = Arc::new(arrow::array::Int64Array::from_iter_values(0..KEYS));
    let entities = EntityColumns::new(vec![("who".to_owned(), keys)]).unwrap();
    let found = node.reader.read(&prepared, &entities, as_of.map(Timestamp)).unwrap();
    let columns: Vec<_> = found.columns().map(|column| column.array().unwrap()).collect();
    let row = |row: usize| {
        let values = columns.iter().map(|column| array_value_to_string(column, row).unwrap());
        values.collect::<Vec<_>>().join(" ")
    };
    (found.at.0, (0..KEYS as usize).map(row).collect())
}

/// What training says of every key at these times.
fn train(node: &Node, times: &[i64]) -> BTreeMap<i64, Vec<String>> {
    let rows = times.iter().flat_map(|t| (0..KEYS).map(move |who| format!("{who},{}\n", Timestamp(*t))));
    let spine = format!("who,t\n{}", rows.collect::<String>());
    let (found, _) = node.train(Ask::Service("asked".to_owned()), &spine, Question::Known);
    let row = |row: usize| {
        let values = found.columns()[2..].iter().map(|column| array_value_to_string(column, row).unwrap());
        values.collect::<Vec<_>>().join(" ")
    };
    let keys = KEYS as usize;
    times.iter().enumerate().map(|(at, t)| (*t, (at * keys..(at + 1) * keys).map(row).collect())).collect()
}

/// Loads rows with the times that they were given, in this order.
fn load(node: &Node, called: &str, rows: &[(Row, i64)]) {
    let path = node.root.join(called);
    let text: String = rows.iter().map(|(row, v)| row.json(Some(*v))).collect();
    std::fs::write(&path, text).unwrap();
    let file = LoadFile { path, name: called.to_owned(), partitions: Vec::new() };
    let (owner, shop, source) = (Principal::owner(), name("shop"), name("orders"));
    let load = node.flow.load(&owner, &shop, &source, Some(vec![file]), OnBadRow::Stop, no_progress());
    assert_eq!(node.runtime.block_on(load).unwrap().rows as usize, rows.len());
}

/// What [`live`] saw.
struct Seen {
    /// The rows with their v.
    given: Vec<(Row, i64)>,
    /// The answers by their T.
    answers: BTreeMap<i64, Vec<String>>,
    /// Those T that lay before the clock.
    held_back: BTreeSet<i64>,
}

/// Pushes under a clock that stands still, goes on and is set back, while another thread asks.
fn live(node: &Node) -> Seen {
    let mut random = Random::new(5);
    let over = AtomicBool::new(false);
    let held_back = Mutex::new(BTreeSet::new());
    std::thread::scope(|threads| {
        let asking = threads.spawn(|| {
            let mut answers: BTreeMap<i64, Vec<String>> = BTreeMap::new();
            let mut last = i64::MIN;
            while !over.load(Ordering::Acquire) {
                let before = node.now();
                let (t, answer) = ask(node, None);
                if t < before.min(node.now()) {
                    held_back.lock().unwrap().insert(t);
                }
                assert!(t >= last, "T fell from {last} to {t}");
                last = t;
                // Of one T there is one answer.
                let said = answers.entry(t).or_insert_with(|| answer.clone());
                assert_eq!(*said, answer, "at {t}");
            }
            answers
        });
        // Also where a push fails, so that nobody waits for who asks.
        let at_end = SetAtEnd(&over);
        let mut given: Vec<(Row, i64)> = Vec::new();
        let mut number = 0_i64;
        // How often somebody asks in the midst of a push is the machine's choice.
        while number < 300 || number < 6_000 && between(&held_back.lock().unwrap(), &given) < ENOUGH {
            number += 1;
            let now = node.now();
            node.clock.set(match random.between(0, 5) {
                0 | 1 => now,
                2 => now - random.between(1, 500_000),
                _ => now + random.between(1, 400_000),
            });
            let rows: Vec<Row> = (0..random.between(1, 3))
                .map(|row| Row {
                    id: random.between(0, 30),
                    n: number * 3 + row,
                    who: random.between(0, KEYS - 1),
                    e: node.now() - random.between(-300_000, 120_000_000),
                    gone: random.chance(12),
                })
                .collect();
            let report = push(node, &rows);
            assert_eq!((report.accepted as usize, report.durable), (rows.len(), true));
            assert!(given.last().is_none_or(|(_, before)| *before < report.visible_at.0), "v rises");
            given.extend(rows.into_iter().map(|row| (row, report.visible_at.0)));
        }
        drop(at_end);
        let answers = asking.join().unwrap();
        Seen { given, answers, held_back: held_back.lock().unwrap().clone() }
    })
}

/// Answers between a batch's write and its fsync that are to be seen.
const ENOUGH: usize = 10;

/// A request that stands one microsecond before a batch though the clock was past it came between the batch's write and its
/// fsync: T is the clock's, but for what waits.
fn between(held_back: &BTreeSet<i64>, given: &[(Row, i64)]) -> usize {
    let before: BTreeSet<i64> = given.iter().map(|(_, v)| v - 1).collect();
    held_back.intersection(&before).count()
}

#[test]
fn a_replay_of_what_clocks_did_is_equal() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(folder.path());
    let Seen { given, answers, held_back } = live(&node);
    let between = between(&held_back, &given);
    let behind = given.windows(2).filter(|pair| pair[1].1 == pair[0].1 + 1).count();
    println!(
        "{} answers, {between} of them between a batch's write and its fsync, {behind} batches right after another",
        answers.len()
    );
    assert!(answers.len() > 50 && between > 5 && behind > 20, "{} {between} {behind}", answers.len());

    let times: Vec<i64> = answers.keys().copied().collect();
    let same = |node: &Node, about: &str| {
        for (t, answer) in &answers {
            assert_eq!(ask(node, Some(*t)), (*t, answer.clone()), "{about}, as of {}", Timestamp(*t));
        }
        assert_eq!(train(node, &times), answers, "{about}, trained");
    };
    let end = times.last().copied().unwrap().max(given.last().unwrap().1).max(node.now());
    node.clock.set(end);
    same(&node, "later");
    node.runtime.block_on(node.flow.flush()).unwrap();
    same(&node, "from the table");
    drop(node);
    same(&Node::open(folder.path(), START), "opened again with a clock that was set back");

    // Loaded with its v, all of it; pushed when the clock says so; and half of each.
    for (way, loaded) in [("loaded", given.len()), ("pushed", 0), ("half of each", given.len() / 2)] {
        let folder = tempfile::tempdir().unwrap();
        let node = open(folder.path());
        // A batch that has rows of both would be two.
        let loaded = given.partition_point(|(_, v)| loaded > 0 && *v <= given[loaded - 1].1);
        if loaded > 0 {
            load(&node, "before.ndjson", &given[..loaded]);
        }
        for batch in given[loaded..].chunk_by(|one, other| one.1 == other.1) {
            node.clock.set(batch[0].1);
            let rows: Vec<Row> = batch.iter().map(|(row, _)| *row).collect();
            assert_eq!(push(&node, &rows).visible_at.0, batch[0].1, "{way}");
        }
        node.clock.set(end);
        same(&node, way);
    }
}
