//! A running node lets go of rows that tiles stand in for, and answers as before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::intake::BodyFormat;
use asof_engine::no_progress;
use asof_flow::PushRequest;
use asof_model::{Ask, Principal, Timestamp};
use asof_online::live::Direction;
use asof_serve::{EntityColumns, PreparedSelection};
use asof_testkit::Random;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fixture::{address, name};
use crate::node::{Node, resolved};

const DAY: i64 = 86_400_000_000;
const HOUR: i64 = DAY / 24;
/// A multiple of all tiles' lengths.
const NOW: i64 = 64 * DAY * 300;
const SHOPS: i64 = 3;

const SALES: &str = "
entity: shop
keys: {shop: int64}
---
source: sales
push: true
event_time: at
schema: {shop: int64, at: timestamp, n: int64}
---
view: ever
entity: shop
source: sales
windows: [all]
history: 3h
features: {count: {agg: count(*)}, total: {agg: sum(n)}, last: {agg: last(n)}}
---
view: month
entity: shop
source: sales
windows: [{length: 30d, resolution: 1d}, 1h]
features: {count: {agg: count(*)}, total: {agg: sum(n)}}
---
view: newest
entity: shop
source: sales
features: {n: n}
";

/// Rows of files of a folder.
const READ: &str = "
entity: shop
keys: {shop: int64}
---
source: sales
path: data/*.csv
event_time: at
---
view: ever
entity: shop
source: sales
windows: [all]
features: {count: {agg: count(*)}, total: {agg: sum(n)}}
";

/// A row that was given to the node.
#[derive(Debug, Clone, Copy)]
struct Row {
    shop: i64,
    at: i64,
    n: i64,
    v: i64,
}

impl Row {
    /// Of some time before `until`.
    fn before(random: &mut Random, until: i64, back: i64, n: i64) -> Row {
        Row { shop: random.between(0, SHOPS - 1), at: until - random.between(1, back), n, v: 0 }
    }
}

struct Given {
    node: Node,
    folder: tempfile::TempDir,
    rows: Vec<Row>,
    working: Option<(CancellationToken, JoinSet<()>)>,
}

impl Given {
    fn new(definitions: &str) -> Given {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(folder.path(), NOW);
        std::fs::create_dir_all(folder.path().join("data")).unwrap();
        let first = format!("shop,at,n\n0,{},0\n", asof_model::Timestamp(NOW - 300 * DAY));
        std::fs::write(folder.path().join("data/0.csv"), first).unwrap();
        node.put(resolved(&node.runtime, &node.engine, folder.path(), definitions));
        Given { node, folder, rows: Vec::new(), working: None }
    }

    /// Does what a node does beside, often.
    fn work(&mut self) {
        let stop = CancellationToken::new();
        let (flow, stopping) = (self.node.flow.clone().with_expiry(Duration::from_millis(20)), stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn_on(async move { flow.refresh_forever(stopping).await }, self.node.runtime.handle());
        self.working = Some((stop, tasks));
    }

    fn rest(&mut self) {
        if let Some((stop, mut tasks)) = self.working.take() {
            stop.cancel();
            self.node.runtime.block_on(async { while tasks.join_next().await.is_some() {} });
        }
    }

    fn push(&mut self, rows: &[Row]) {
        let line = |row: &Row| {
            let at = asof_model::Timestamp(row.at);
            format!(r#"{{"shop": {}, "at": "{at}", "n": {}}}"#, row.shop, row.n)
        };
        let body: Vec<String> = rows.iter().map(line).collect();
        let request = PushRequest::new(body.join("\n"), BodyFormat::Ndjson);
        let (owner, shop, sales) = (Principal::owner(), name("shop"), name("sales"));
        let pushed = self.node.flow.push(&owner, &shop, &sales, request);
        let v = self.node.runtime.block_on(pushed).unwrap().visible_at.0;
        self.rows.extend(rows.iter().map(|row| Row { v, ..*row }));
    }

    fn write(&mut self, file: &str, rows: &[Row]) -> std::path::PathBuf {
        let line = |row: &Row| format!("{},{},{}\n", row.shop, asof_model::Timestamp(row.at), row.n);
        let path = self.folder.path().join("data").join(file);
        std::fs::write(&path, format!("shop,at,n\n{}", rows.iter().map(line).collect::<String>())).unwrap();
        // What is read from files is known from when it happened.
        self.rows.extend(rows.iter().map(|row| Row { v: row.at, ..*row }));
        path
    }

    fn load(&mut self, file: &str, rows: &[Row]) {
        let path = self.write(file, rows);
        let file = LoadFile { path, name: file.to_owned(), partitions: Vec::new() };
        let (owner, shop, sales) = (Principal::owner(), name("shop"), name("sales"));
        let flow = &self.node.flow;
        let load = flow.load(&owner, &shop, &sales, Some(vec![file]), OnBadRow::Stop, no_progress());
        assert_eq!(self.node.runtime.block_on(load).unwrap().files_loaded, 1);
    }

    fn pass(&self, micros: i64) {
        self.node.clock.0.fetch_add(micros, Ordering::AcqRel);
    }

    /// How many entries the rows of a view are.
    fn entries(&self, view: &str) -> usize {
        let catalog = self.node.registry.catalog();
        let version = catalog.view(&address(view)).unwrap();
        let Some(generation) = self.node.views.live(&version.address, &version.id) else { return usize::MAX };
        let mut entries = 0;
        let from = self.node.views.store().read().unwrap();
        let count = &mut |_: &[u8], _: &[u8]| {
            entries += 1;
            Ok(true)
        };
        from.scan(generation.table.number(), &[], None, Direction::Forward, count).unwrap();
        entries
    }

    fn wait(&self, view: &str, most: usize) {
        let begun = Instant::now();
        loop {
            let entries = self.entries(view);
            if entries <= most {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{entries} entries of {view} are left");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Holds what is answered of all shops against all rows.
    fn check(&self, features: &[&str], back: i64) {
        let ask = Ask::Features(features.iter().map(|feature| (*feature).to_owned()).collect());
        let selection = self.node.registry.catalog().select(&name("shop"), &ask, false).unwrap();
        let prepared = PreparedSelection::new(selection).unwrap();
        let shops: ArrayRef = Arc::new(Int64Array::from_iter_values(0..SHOPS));
        let entities = EntityColumns::new(vec![("shop".to_owned(), shops)]).unwrap();
        let now = self.node.views.store().read().unwrap().answer_time().0;
        let as_of = (back > 0).then_some(Timestamp(now - back));
        let found = self.node.reader.read(&prepared, &entities, as_of).unwrap();
        let t = as_of.map_or(found.at.0, |as_of| as_of.0);
        for (feature, column) in features.iter().zip(found.columns()) {
            let column = column.array().unwrap();
            let values: Vec<Option<i64>> = column.as_primitive::<Int64Type>().iter().collect();
            let from = match *feature {
                "month.count_30d" | "month.total_30d" => (t - 30 * DAY).div_euclid(DAY) * DAY,
                "month.total_1h" => t - HOUR,
                _ => i64::MIN,
            };
            let expected: Vec<Option<i64>> = (0..SHOPS)
                .map(|shop| {
                    let counts = |row: &&Row| row.shop == shop && row.v <= t && (from..t).contains(&row.at);
                    let rows = self.rows.iter().filter(counts);
                    match feature.split_once('.').unwrap().1.split('_').next().unwrap() {
                        "count" => Some(rows.count() as i64),
                        "last" | "n" => rows.max_by_key(|row| (row.at, row.v, row.n)).map(|row| row.n),
                        _ => rows.map(|row| row.n).reduce(|one, other| one + other),
                    }
                })
                .collect();
            assert_eq!(values, expected, "{feature} {back} before {now}");
        }
    }

    /// The same node, started again.
    fn again(mut self) -> Given {
        self.rest();
        let Given { node, folder, rows, .. } = self;
        let now = node.now();
        node.runtime.block_on(node.flow.close());
        drop(node);
        Given { node: Node::open(folder.path(), now), folder, rows, working: None }
    }
}

/// The rows of an `all` window, and those under a resolution, go as time passes: now and as of any time of the history
/// the answers stay, through late rows, loads, restarts and a generation made anew.
#[test]
fn rows_go_as_time_passes_and_answers_stay() {
    let mut random = Random::new(5);
    let mut given = Given::new(SALES);
    given.work();
    let asked = [
        "ever.count_all",
        "ever.total_all",
        "ever.last_all",
        "month.count_30d",
        "month.total_30d",
        "month.total_1h",
        // Without a ttl the last row answers for good.
        "newest.n",
    ];
    let check = |given: &Given| {
        given.check(&asked, 0);
        for back in [1, HOUR, 3 * HOUR - 1] {
            given.check(&asked[..3], back);
        }
    };
    let mut numbers = 0_i64..;
    let mut rows = |until: i64, back: i64, count: usize| -> Vec<Row> {
        numbers.by_ref().take(count).map(|n| Row::before(&mut random, until, back, n)).collect()
    };
    given.wait("ever", 0);
    given.wait("month", 0);
    given.wait("newest", 0);
    for _ in 0..3 {
        let some = rows(NOW, 200 * DAY, 1_000);
        given.push(&some);
    }
    check(&given);
    // Two months later: no tile of the first view that is over has been known for as long as its history.
    let most_of = |view: &str| if view == "ever" { 60 } else { 400 };
    given.pass(20 * DAY);
    given.wait("month", most_of("month"));
    check(&given);
    given.pass(50 * DAY);
    given.wait("ever", most_of("ever"));
    check(&given);
    // Late ones, of before what is gone; and such as were known long ago.
    let late = rows(NOW - 10 * DAY, 150 * DAY, 200);
    given.push(&late);
    let loaded = rows(NOW - DAY, 300 * DAY, 2_000);
    given.load("a.csv", &loaded);
    let now = given.node.now();
    let some = rows(now, DAY, 300);
    given.push(&some);
    check(&given);
    let mut given = given.again();
    check(&given);
    given.work();
    given.pass(2 * DAY);
    // All rows of the last days but one stay, each with its late one.
    given.wait("ever", most_of("ever") + 300);
    check(&given);
    // Another version of the views is made of what is stored, where rows go as well.
    let other = SALES.replace("features:", "description: made anew\nfeatures:").replace("[all]", "[all, 2h]");
    given.node.put(resolved(&given.node.runtime, &given.node.engine, given.folder.path(), &other));
    given.node.materialize();
    check(&given);
    given.pass(70 * DAY);
    // A window of two hours has shorter tiles.
    given.wait("ever", 160);
    check(&given);
    let mut given = given.again();
    check(&given);
    given.rest();
}

/// The rows of files go as well, and those of a file that comes later are added.
#[test]
fn rows_of_files_go() {
    let mut random = Random::new(6);
    let mut given = Given::new(READ);
    let mut rows = |count: i64| -> Vec<Row> {
        (0..count).map(|n| Row::before(&mut random, NOW, 400 * DAY, n)).collect()
    };
    given.rows.push(Row { shop: 0, at: NOW - 300 * DAY, n: 0, v: 0 });
    let some = rows(3_000);
    given.write("1.csv", &some);
    given.node.materialize();
    let asked = ["ever.count_all", "ever.total_all"];
    given.check(&asked, 0);
    assert!(given.entries("ever") > 3_000);
    given.work();
    given.wait("ever", 60);
    given.check(&asked, 0);
    given.rest();
    let more = rows(500);
    given.write("2.csv", &more);
    given.node.materialize();
    given.check(&asked, 0);
    given.pass(2 * DAY);
    given.work();
    given.wait("ever", 60);
    given.check(&asked, 0);
    given.rest();
}
