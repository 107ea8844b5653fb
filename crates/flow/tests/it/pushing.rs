//! Rows pushed to a source, over real stores.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

use asof_compute::Position;
use asof_engine::intake::{BodyFormat, Intake, KeptKey, KeyBinding, PushedOp, kept_key};
use asof_engine::{Engine, EngineConfig};
use asof_flow::{AcceptedBatch, Durability, Flow, FlowError, LiveViews, PushReport, PushRequest};
use asof_model::{Catalog, Clock, Explain, Principal, Revision, SourceVersion, Timestamp};
use asof_online::live::{LiveOptions, LiveStore, SourceNumber, TableNumber, Writing};
use asof_registry::{Apply, Registry};

use crate::fixture::{TestClock, address, name};
use crate::node::resolved;

const SALES: &str = "\
entity: buyer
keys: {buyer: string}
---
source: sales
push: true
schema: {buyer: string, at: timestamp, price: int64}
event_time: at
---
view: spent
entity: buyer
source: sales
features: {price: price}
";

const EVENTS: &str = "\
entity: buyer
keys: {buyer: string}
---
source: sales
push: true
schema: {id: string, buyer: string, at: timestamp, price: int64}
event_time: at
id: id
delete_when: price = 0
---
view: spent
entity: buyer
source: sales
windows: [1d]
features: {sum: {agg: sum(price)}}
";

/// What views were told of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    visible_at: Timestamp,
    positions: Vec<Position>,
    /// Of the first view: rows of the batch, each with the `s` it would be kept with.
    rows: Vec<(u32, Position)>,
    /// The rows that end an older version, with the key that one stood under.
    ended: Vec<(usize, Option<Vec<u8>>)>,
}

#[derive(Debug, Default)]
struct Recorder {
    told: Mutex<Vec<Told>>,
    refuses: Mutex<bool>,
}

impl LiveViews for Recorder {
    fn write(&self, batch: &AcceptedBatch<'_>, writing: &mut Writing) -> asof_online::Result<()> {
        if *self.refuses.lock().unwrap() {
            return Err(asof_online::Error::Full { path: "views".to_owned(), reserve: 0 });
        }
        let (view, _) = batch.intake.views().next().unwrap();
        let mut rows = Vec::new();
        for found in batch.rows.rows_of(0) {
            for (at, row) in found.rows.iter().enumerate() {
                let position = batch.position(*row);
                if position == Position::NONE {
                    continue;
                }
                let order = found.accepted(at, batch.given.visible_at, position);
                rows.push((*row, order.position));
                writing.put(
                    TableNumber::new(99).unwrap(),
                    &order.position.0.to_be_bytes(),
                    found.keys.value(at),
                )?;
            }
        }
        let ended = batch.given.rows.iter().filter_map(|row| {
            let before = row.before.as_ref()?;
            let key = match kept_key(&before.kept, KeyBinding::of(view)).unwrap() {
                KeptKey::Key(key) => Some(key.to_vec()),
                _ => None,
            };
            Some((row.row, key))
        });
        self.told.lock().unwrap().push(Told {
            visible_at: batch.given.visible_at,
            positions: batch.positions.to_vec(),
            rows,
            ended: ended.collect(),
        });
        Ok(())
    }

    fn fits(&self, _: &Intake, _: &Catalog) -> bool {
        true
    }
}

struct Node {
    root: PathBuf,
    registry: Registry,
    engine: Engine,
    live: Arc<dyn LiveStore>,
    views: Arc<Recorder>,
    flow: Flow,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    fn open(root: &Path) -> Node {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let data = root.join(".asof");
        std::fs::create_dir_all(&data).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(TestClock(AtomicI64::new(1_000)));
        let engine = Engine::new(EngineConfig {
            data_dir: data.clone(),
            memory: 256 << 20,
            threads: 2,
            code_version: "test".to_owned(),
        })
        .unwrap();
        let registry =
            runtime.block_on(Registry::open(&data.join("registry.db"), Arc::clone(&clock))).unwrap();
        let online =
            asof_online::open(&data.join("online"), &asof_online::Options { cache: 8 << 20 }).unwrap();
        let options = LiveOptions { cache: 8 << 20, memory: 8 << 20, ..LiveOptions::new(Arc::clone(&clock)) };
        let live = asof_online::live::open(&data.join("live"), &options).unwrap();
        let views = Arc::new(Recorder::default());
        let flow = Flow::new(registry.clone(), engine.clone(), online, clock)
            .with_intake(Arc::clone(&live), Arc::<Recorder>::clone(&views));
        Node { root: root.to_owned(), registry, engine, live, views, flow, runtime }
    }

    /// Makes these definitions the ones that stand.
    fn apply(&self, definitions: &str) {
        let put = resolved(&self.runtime, &self.engine, &self.root, definitions);
        let base: Revision = self.registry.catalog().revision;
        let change = Apply { project: name("shop"), root: self.root.clone(), base, put, remove: vec![] };
        self.runtime.block_on(self.registry.apply(&Principal::owner(), change)).unwrap();
    }

    fn push(&self, request: PushRequest) -> Result<PushReport, FlowError> {
        let (owner, shop, sales) = (Principal::owner(), name("shop"), name("sales"));
        self.runtime.block_on(self.flow.push(&owner, &shop, &sales, request))
    }

    fn source(&self) -> Arc<SourceVersion> {
        Arc::clone(self.registry.catalog().source(&address("sales")).unwrap())
    }

    /// Every batch of the intake log: its source's number, its first `s`, and its rows as `column: value`.
    fn log(&self) -> Vec<(SourceNumber, i64, String)> {
        let rows = asof_engine::intake::LiveRows::of(&self.source()).unwrap();
        let mut found = Vec::new();
        let log = self.live.log().unwrap();
        log.entries(Position(0), None, &mut |entry| {
            let mut reader = rows.reader(8).unwrap();
            reader.take(entry.rows, entry.visible_at, entry.first, Position(0)).unwrap();
            let batch = reader.finish().unwrap();
            assert_eq!(batch.num_rows(), entry.count as usize);
            let table = arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string();
            found.push((entry.source, entry.first.0, table));
            Ok(true)
        })
        .unwrap();
        found
    }

    fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.views.told.lock().unwrap())
    }
}

fn json(body: &str) -> PushRequest {
    PushRequest::new(body.to_owned(), BodyFormat::Json)
}

fn keyed(body: &str, key: &str) -> PushRequest {
    PushRequest { idempotency_key: Some(key.to_owned()), ..json(body) }
}

fn refused(pushed: Result<PushReport, FlowError>) -> &'static str {
    pushed.unwrap_err().code()
}

#[test]
fn what_is_pushed_is_in_the_log_and_in_the_views_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    node.apply(SALES);
    let body = r#"[{"buyer": "a", "at": "2024-01-01", "price": 3}, {"at": "2024-01-02"}]"#;
    let first = node.push(json(body)).unwrap();
    let s = first.first.unwrap();
    assert_eq!((first.accepted, first.durable, first.repeated), (2, true, false));
    assert!(first.already_there.is_empty());
    let relaxed = PushRequest { durability: Durability::Relaxed, ..json(r#"{"at": "2024-01-01"}"#) };
    let second = node.push(relaxed).unwrap();
    assert_eq!((second.accepted, second.first, second.durable), (1, Some(s + 2), false));
    assert!(second.visible_at > first.visible_at);
    // Without ids the same rows are other rows.
    let third = node.push(json(body)).unwrap();
    assert_eq!((third.accepted, third.first), (2, Some(s + 3)));
    assert_eq!(node.push(json("[]")).unwrap().first, None);

    let told = node.told();
    assert_eq!(told.len(), 3, "nothing is written of no rows");
    assert_eq!(told[0].visible_at, first.visible_at);
    assert_eq!(told[0].positions, [Position(s), Position(s + 1)]);
    assert_eq!(told[0].rows, [(0, Position(s))]);
    let snapshot = node.live.read().unwrap();
    let kept = snapshot.get(TableNumber::new(99).unwrap(), &(s + 3).to_be_bytes()).unwrap();
    assert!(kept.is_some(), "what views keep is readable with the rows");
    let log = node.log();
    assert_eq!(log.iter().map(|(_, first, _)| *first).collect::<Vec<_>>(), [s, s + 2, s + 3]);
    insta_lines(&log[0].2, &["| a     | 2024-01-01T00:00:00Z | 3     | 2024-01-01T00:00:00Z | false |"]);
    let status = node.runtime.block_on(node.flow.intake_status()).unwrap().unwrap();
    assert_eq!((status.accepted, status.trimmed), (s + 4, 0));

    // A number is a table's for ever, and another version of the table has another.
    drop(snapshot);
    let Node { flow, live, registry, engine, runtime, .. } = node;
    runtime.block_on(flow.close());
    drop((flow, live, registry, engine, runtime));
    let node = Node::open(dir.path());
    node.push(json(body)).unwrap();
    node.apply(&SALES.replace("price: int64}", "price: int64, kind: string}"));
    node.push(json(r#"{"at": "2024-01-01", "kind": "x"}"#)).unwrap();
    let mut numbers = Vec::new();
    let log = node.live.log().unwrap();
    log.entries(Position(0), None, &mut |entry| {
        numbers.push(entry.source.0);
        Ok(true)
    })
    .unwrap();
    assert_eq!(numbers, [1, 1, 1, 1, 2]);
}

fn insta_lines(table: &str, wanted: &[&str]) {
    for line in wanted {
        assert!(table.lines().any(|found| found.starts_with(line)), "{line}\nnot in\n{table}");
    }
}

#[test]
fn a_batch_is_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    node.apply(SALES);
    let error = node.push(json(r#"[{"at": "2024-01-01"}, {"price": 1}, {"at": "x"}]"#)).unwrap_err();
    assert_eq!(error.code(), "bad_rows");
    let said = error.to_string();
    assert!(
        said.contains("2 of 3 rows are bad") && said.contains("row 2: ") && said.contains("row 3: "),
        "{said}"
    );
    *node.views.refuses.lock().unwrap() = true;
    assert_eq!(refused(node.push(json(r#"{"at": "2024-01-01"}"#))), "disk_full");
    *node.views.refuses.lock().unwrap() = false;
    assert!(node.log().is_empty() && node.told().is_empty());
    assert_eq!(node.push(json(r#"{"at": "2024-01-01"}"#)).unwrap().accepted, 1);
    assert_eq!(refused(node.push(keyed("[]", ""))), "bad_idempotency_key");
    assert_eq!(refused(node.push(keyed("[]", &"k".repeat(256)))), "bad_idempotency_key");
}

#[test]
fn a_batch_with_its_key_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    node.apply(SALES);
    let body = r#"[{"buyer": "a", "at": "2024-01-01", "price": 3}]"#;
    let first = node.push(keyed(body, "one")).unwrap();
    let again = node.push(keyed(&body.replace("\": ", "\":"), "one")).unwrap();
    assert_eq!(
        PushReport { repeated: true, ..first.clone() },
        again,
        "the same rows, however they are written"
    );
    assert_eq!(refused(node.push(keyed(&body.replace('3', "4"), "one"))), "idempotency_key_reused");
    // What is said to be a delete is another batch.
    let deleted = PushRequest { op: PushedOp::Delete, ..keyed(body, "one") };
    assert_eq!(refused(node.push(deleted)), "idempotency_key_reused");
    assert_eq!(node.push(keyed(body, "two")).unwrap().first, first.first.map(|first| first + 1));
    assert_eq!(node.log().len(), 2);
}

/// The retry of a batch that was taken is answered as the batch was, also where its rows could not be taken any more.
#[test]
fn a_retry_is_answered_whatever_views_came_since() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    node.apply(SALES);
    let body = r#"[{"buyer": "a", "at": "2024-01-01", "price": 3}]"#;
    let first = node.push(keyed(body, "one")).unwrap();
    let fails =
        "view: per\nentity: buyer\nsource: sales\nwhere: buyer = 'a'\nfeatures: {x: 1 / (price - 3)}\n";
    node.apply(&format!("{SALES}---\n{fails}"));
    assert_eq!(node.push(keyed(body, "one")).unwrap(), PushReport { repeated: true, ..first });
    // Of nothing else: new rows, other rows under the key, what is no row at all, and the same as deletes.
    assert_eq!(refused(node.push(json(body))), "bad_rows");
    assert_eq!(refused(node.push(keyed(body, "two"))), "bad_rows");
    let other = body.replace("2024", "2025");
    assert_eq!(refused(node.push(keyed(&other, "one"))), "bad_rows");
    assert_eq!(refused(node.push(keyed(&body.replace('3', "\"x\""), "one"))), "bad_rows");
    let deleted = PushRequest { op: PushedOp::Delete, ..keyed(body, "one") };
    assert_eq!(refused(node.push(deleted)), "idempotency_key_reused");
    assert_eq!(node.log().len(), 1);
    // The key of a refused batch is free.
    let good = node.push(keyed(&body.replace('3', "4"), "two")).unwrap();
    assert!(!good.repeated && good.accepted == 1, "{good:?}");
}

/// A batch of which nothing was new has an answer of its own, over a restart.
#[test]
fn a_batch_without_news_is_known_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    node.apply(EVENTS);
    let body = r#"{"id": "x", "buyer": "a", "at": "2024-01-01", "price": 3}"#;
    node.push(keyed(body, "one")).unwrap();
    let nothing = node.push(keyed(body, "two")).unwrap();
    assert_eq!((nothing.accepted, &nothing.already_there, nothing.first), (0, &vec![1], None));
    node.push(json(&body.replace('3', "4"))).unwrap();
    let again = PushReport { repeated: true, ..nothing };
    assert_eq!(node.push(keyed(body, "two")).unwrap(), again, "and is no version after the newer one");
    drop(node);
    let node = Node::open(dir.path());
    assert_eq!(node.push(keyed(body, "two")).unwrap(), again);
    assert_eq!(node.log().len(), 2);
}

#[test]
fn versions_of_events_end_those_before() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    node.apply(EVENTS);
    let row = |id: &str, buyer: &str, price: i64| {
        format!(r#"{{"id": {id}, "buyer": "{buyer}", "at": "2024-01-01", "price": {price}}}"#)
    };
    let (one, two) = (row("\"x\"", "a", 3), row("\"x\"", "b", 4));
    let first = node.push(json(&format!("[{one}, {}]", row("null", "a", 3)))).unwrap();
    assert_eq!(first.accepted, 2);
    let s = first.first.unwrap();
    // The newest version again, and a row of its own that is no version of anything.
    let again = node.push(json(&format!("[{one}, {}]", row("null", "a", 3)))).unwrap();
    assert_eq!((again.accepted, again.already_there.clone(), again.first), (1, vec![1], Some(s + 2)));
    let corrected = node.push(json(&two)).unwrap();
    assert_eq!((corrected.accepted, corrected.first), (1, Some(s + 3)));
    assert_eq!(node.push(json(&one)).unwrap().accepted, 1, "an older version after a newer one is a new one");
    let withdrawn = node.push(json(&row("\"x\"", "a", 0))).unwrap();
    assert_eq!(withdrawn.accepted, 1);
    assert_eq!(node.push(json(&row("\"x\"", "a", 0))).unwrap().accepted, 0, "it is withdrawn already");
    assert_eq!(node.push(json(&one)).unwrap().accepted, 1, "it is back");
    let key = |buyer: &str| {
        let keys = asof_compute::KeyEncoder::new(&[asof_model::DataType::String]);
        let array: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec![buyer]));
        Some(keys.encode(&[array]).unwrap().value(0).to_vec())
    };
    let told = node.told();
    let ended: Vec<_> = told.iter().flat_map(|told| told.ended.clone()).collect();
    assert_eq!(ended, [(0, key("a")), (0, key("b")), (0, key("a")), (0, None)]);
    assert_eq!(told[1].positions, [Position::NONE, Position(s + 2)], "a row left out has no position");
    assert_eq!(told[1].rows, [(1, Position(s + 2))]);
    assert!(told[4].rows.is_empty(), "a withdrawal is no row of a view");
    // One batch may hold several versions of an event.
    let several = node.push(json(&format!("[{two}, {one}, {one}]"))).unwrap();
    assert_eq!((several.accepted, several.already_there), (2, vec![3]));
    assert_eq!(node.told()[0].ended, [(0, key("a")), (1, key("b"))]);
    let nameless = row("null", "a", 0);
    let error = node.push(json(&nameless)).unwrap_err().to_string();
    assert!(error.contains("is a delete without an id"), "{error}");
}

#[test]
fn definitions_that_changed_are_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    node.apply(SALES);
    node.push(json(r#"{"at": "2024-01-01", "buyer": "a", "price": 3}"#)).unwrap();
    node.apply(&SALES.replace("{price: price}", "{price: 1 / price}"));
    let error = node.push(json(r#"{"at": "2024-01-01", "buyer": "a", "price": 0}"#)).unwrap_err();
    assert_eq!(error.code(), "bad_rows");
    assert!(
        error.to_string().contains("view `spent`: expression `1 / price` fails: division by zero"),
        "{error}"
    );
    // Something else that changed is none of it.
    node.apply(&format!(
        "{}---\nentity: other\nkeys: {{o: int64}}\n",
        SALES.replace("{price: price}", "{price: 1 / price}")
    ));
    assert_eq!(node.push(json(r#"{"at": "2024-01-01", "buyer": "a", "price": 1}"#)).unwrap().accepted, 1);
}

#[test]
fn many_push_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    node.apply(SALES);
    let (owner, shop, sales) = (Principal::owner(), name("shop"), name("sales"));
    let body = r#"[{"at": "2024-01-01"}, {"at": "2024-01-02"}, {"at": "2024-01-03"}]"#;
    let pushes = (0..100).map(|_| node.flow.push(&owner, &shop, &sales, json(body)));
    let reports = node.runtime.block_on(futures::future::join_all(pushes));
    let mut firsts: Vec<i64> = reports.into_iter().map(|report| report.unwrap().first.unwrap()).collect();
    firsts.sort_unstable();
    assert!(firsts.is_sorted_by(|one, next| one + 3 <= *next), "no position is given twice: {firsts:?}");
    let visible: Vec<Timestamp> = node.told().iter().map(|told| told.visible_at).collect();
    assert!(visible.is_sorted_by(|one, other| one < other), "each batch has a v of its own");
}

#[test]
fn bodies_have_room_together() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    let large = node.flow.room_to_push(1 << 30).unwrap();
    let refused = node.flow.room_to_push(1).unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (asof_model::Kind::Exhausted, "live_store_busy"));
    drop(large);
    let some: Vec<_> = (0..16).map(|_| node.flow.room_to_push(16 << 20).unwrap()).collect();
    assert!(node.flow.room_to_push(1).is_err());
    drop(some);
    assert!(node.flow.room_to_push(16 << 20).is_ok());
}

#[test]
fn what_takes_no_rows_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path());
    assert_eq!(refused(node.push(json("[]"))), "not_found");
    std::fs::write(dir.path().join("a.csv"), "buyer,at\na,2024-01-01\n").unwrap();
    node.apply("source: sales\npath: a.csv\nevent_time: at\n");
    assert_eq!(refused(node.push(json("[]"))), "source_not_pushed");
    node.apply(&SALES.replace("sales", "sold"));
    let (owner, shop) = (Principal::owner(), name("shop"));
    let pushed = node.runtime.block_on(node.flow.push(&owner, &shop, &name("other"), json("[]")));
    assert!(pushed.unwrap_err().hint().unwrap().contains("`sold`"));
    let stranger = Principal { name: "ads".to_owned(), projects: Some(vec![name("ads")]) };
    let pushed = node.runtime.block_on(node.flow.push(&stranger, &shop, &name("sold"), json("[]")));
    assert_eq!(refused(pushed), "forbidden");
    node.runtime.block_on(node.flow.close());
    assert_eq!(refused(node.push(json("[]"))), "stopping");
}
