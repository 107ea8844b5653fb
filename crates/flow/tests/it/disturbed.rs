//! A node at work that is disturbed: killed, cut off from power, by fsyncs that fail, by a disk that is full.
//!
//! Rows are pushed to two sources, one of them with versions, and files loaded into a third, part by part; meanwhile the log
//! is moved into tables, files are put together, a view is made anew again and again, and one over files takes those that
//! come. Whatever happens, what was acknowledged is there, once, offline and online, a load that was cut off goes on, and a
//! view answers whole or not at all.

mod full_disk;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::intake::BodyFormat;
use asof_engine::no_progress;
use asof_engine::source::{ScanColumns, SourceScan, scan};
use asof_flow::{FlowError, FlushBounds, PushRequest};
use asof_model::{Ask, Explain, Principal, Timestamp};
use asof_serve::EntityColumns;
use asof_testkit::{is_permitted, kill_rounds_or};

use crate::fixture::{name, rows_of};
use crate::node::{Node, resolved};

const FOLDER: &str = "ASOF_TEST_FOLDER";
const ACKNOWLEDGED: &str = "ASOF_TEST_ACKNOWLEDGED";
/// How many rounds a child works; else until it is ended.
const TURNS: &str = "ASOF_TEST_TURNS";
/// Whether it waits for a line before.
const WAITS: &str = "ASOF_TEST_WAITS";

/// What a push or a load is answered once an fsync of the log failed.
const STOPPED: [&str; 2] = ["live_store_stopped", "online_store_unavailable"];

/// Rows of a batch of each source.
const CLICKS: i64 = 20;
const ORDERS: i64 = 5;
/// Rows of a file of trips: three parts.
const TRIPS: i64 = 20_000;
/// Orders by id, of which each has many versions.
const IDS: i64 = 37;
/// Keys of the entity.
const WHO: i64 = 3;

const DEFINITIONS: &str = "\
entity: person
keys: {who: int64}
---
source: clicks
push: true
schema: {n: int64, who: int64, at: timestamp}
event_time: at
---
source: orders
push: true
schema: {id: int64, n: int64, who: int64, at: timestamp, gone: bool}
event_time: at
id: id
delete_when: gone
---
source: trips
push: true
schema: {n: int64, who: int64, at: timestamp}
event_time: at
---
view: tripped
entity: person
source: trips
windows: [all]
features: {trips: {agg: count(*)}, of_trips: {agg: sum(n)}}
---
view: clicked
entity: person
source: clicks
windows: [all]
features: {clicks: {agg: count(*)}, of_clicks: {agg: sum(n)}, squares: {agg: sum(n * n)}}
---
view: last_click
entity: person
source: clicks
features: {click: n}
---
view: ordered
entity: person
source: orders
windows: [all]
features: {orders: {agg: count(*)}, of_orders: {agg: sum(n)}}
---
view: last_order
entity: person
source: orders
features: {order: n}
---
view: turned
entity: person
source: clicks
windows: [all]
features: {turn: {agg: sum(n + TURN)}}
---
source: visits
path: data/*.csv
event_time: {column: at, unit: us}
---
view: visited
entity: person
source: visits
features: {visit: n}
";

fn definitions(turn: i64) -> String {
    DEFINITIONS.replace("TURN", &turn.to_string())
}

/// Each batch its own commit, so that there are small files; what was put together goes at once.
fn bounds() -> FlushBounds {
    FlushBounds { commit: 4_000, grace: Duration::ZERO, ..FlushBounds::default() }
}

fn open(folder: &Path) -> Result<Node, Box<dyn std::error::Error>> {
    Node::try_open(folder, 1_000_000_000, bounds())
}

/// A node whose definitions stand and whose views are there.
fn set_up(folder: &Path) {
    for below in ["data", "trips"] {
        std::fs::create_dir_all(folder.join(below)).unwrap();
    }
    write_visits(folder, 0).unwrap();
    let node = open(folder).unwrap();
    node.put(resolved(&node.runtime, &node.engine, folder, &definitions(0)));
    node.materialize();
}

/// Long before the present of the node, whose clock stands.
fn time(n: i64) -> String {
    Timestamp(n).to_string()
}

fn push(node: &Node, source: &str, rows: impl Iterator<Item = String>) -> Result<(), FlowError> {
    let body = rows.map(|row| row + "\n").collect::<String>();
    let request = PushRequest::new(body, BodyFormat::Ndjson);
    let (owner, shop, source) = (Principal::owner(), name("shop"), name(source));
    node.runtime.block_on(node.flow.push(&owner, &shop, &source, request)).map(drop)
}

/// Clicks from this one on.
fn push_clicks(node: &Node, from: i64) -> Result<(), FlowError> {
    push_many_clicks(node, from..from + CLICKS)
}

fn push_many_clicks(node: &Node, clicks: Range<i64>) -> Result<(), FlowError> {
    let row = |n| format!(r#"{{"n": {n}, "who": {}, "at": "{}"}}"#, n % WHO, time(n));
    push(node, "clicks", clicks.map(row))
}

/// Versions of orders from this one on; some withdraw, and a later one brings back.
fn is_gone(n: i64) -> bool {
    n % 11 == 10
}

fn push_orders(node: &Node, from: i64) -> Result<(), FlowError> {
    let row = |n| {
        let (id, at) = (n % IDS, time(n));
        format!(r#"{{"id": {id}, "n": {n}, "who": {}, "at": "{at}", "gone": {}}}"#, id % WHO, is_gone(n))
    };
    push(node, "orders", (from..from + ORDERS).map(row))
}

/// A file of trips, which stays.
fn write_trips(folder: &Path, file: i64) -> std::io::Result<()> {
    let row = |n: i64| format!("{n},{},{}\n", n % WHO, time(n));
    let rows: String = (file * TRIPS..(file + 1) * TRIPS).map(row).collect();
    write_whole(&folder.join("trips"), &format!("{file:06}.csv"), &format!("n,who,at\n{rows}"))
}

/// Loads a file of trips; whether a load that was cut off went on.
fn load_trips(node: &Node, file: i64) -> Result<bool, FlowError> {
    let (folder, called) = (node.root.join("trips"), format!("{file:06}.csv"));
    let file = LoadFile { path: folder.join(&called), name: called, partitions: Vec::new() };
    let (owner, shop, trips) = (Principal::owner(), name("shop"), name("trips"));
    let load = node.flow.load(&owner, &shop, &trips, Some(vec![file]), OnBadRow::Stop, no_progress());
    Ok(node.runtime.block_on(load)?.files.iter().any(|file| file.went_on_behind > 0))
}

/// Files of visits there are: each has one of every key.
fn files_of_visits(folder: &Path) -> i64 {
    let files = std::fs::read_dir(folder.join("data")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "csv")).count() as i64
}

/// A file of visits, which stays.
fn write_visits(folder: &Path, n: i64) -> std::io::Result<()> {
    let rows: String = (0..WHO).map(|who| format!("{who},{n},{n}\n")).collect();
    write_whole(&folder.join("data"), &format!("{n:06}.csv"), &format!("who,n,at\n{rows}"))
}

/// A file that is there whole or not at all, and stays.
fn write_whole(folder: &Path, called: &str, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let unfinished = folder.join(called).with_extension("unfinished");
    let mut file = std::fs::File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, folder.join(called))?;
    std::fs::File::open(folder)?.sync_all()
}

/// Takes the files of visits that came into view `visited`.
fn visit(node: &Node) -> Result<(), FlowError> {
    let (owner, shop, views) = (Principal::owner(), name("shop"), [name("visited")]);
    node.runtime.block_on(node.flow.materialize(&owner, &shop, Some(&views), no_progress())).map(drop)
}

/// Makes view `turned` anew.
fn turn(node: &Node, turn: i64) -> Result<(), FlowError> {
    node.try_put(resolved(&node.runtime, &node.engine, &node.root, &definitions(turn)))?;
    let (owner, shop) = (Principal::owner(), name("shop"));
    node.runtime.block_on(node.flow.materialize(&owner, &shop, None, no_progress())).map(drop)
}

fn begin_reading(node: &Node, source: &str) -> asof_engine::Result<SourceScan> {
    let catalog = node.registry.catalog();
    let source = Arc::clone(&catalog.projects[&name("shop")].sources[&name(source)]);
    let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
    node.runtime.block_on(scan(&node.engine, &catalog, &source, &want))
}

/// What a reading of a source gives: `n` by position, each position once.
fn stored(node: &Node, source: &str) -> Vec<i64> {
    let scan = begin_reading(node, source).unwrap();
    let mut found = BTreeMap::new();
    for batch in rows_of(&node.engine, &node.runtime, &scan) {
        let column = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>();
        for (s, n) in column("__s").values().iter().zip(column("n").values()) {
            assert!(found.insert(*s, *n).is_none(), "position {s} twice");
        }
    }
    found.into_values().collect()
}

/// The features of a view for every key, as they are now: a row a key; an error where the view is not there.
fn read(node: &Node, view: &str) -> Result<Vec<Vec<Option<i64>>>, asof_serve::ServeError> {
    let catalog = node.registry.catalog();
    let ask = Ask::Features(vec![format!("{view}.*")]);
    let prepared = node.reader.prepare(&catalog, &name("shop"), &ask, false)?;
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..WHO));
    let entities = EntityColumns::new(vec![("who".to_owned(), keys)]).unwrap();
    let found = node.reader.read(&prepared, &entities, None)?;
    let columns: Vec<ArrayRef> = found.columns().map(|column| column.array().unwrap()).collect();
    let value = |column: &ArrayRef, row: usize| {
        let column = column.as_primitive::<Int64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    Ok((0..WHO as usize).map(|row| columns.iter().map(|column| value(column, row)).collect()).collect())
}

/// What is there of clicks, of orders, and in views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct There {
    clicks: i64,
    orders: i64,
    trips: i64,
    turn: i64,
    visit: i64,
}

/// Looks at everything a node has: each row once, no half of a batch, offline and online the same.
fn check(node: &Node, about: &str) -> There {
    let numbers = |source: &str| {
        let found = stored(node, source);
        assert_eq!(
            found,
            (0..found.len() as i64).collect::<Vec<_>>(),
            "{about}: {source}, each once in order"
        );
        found.len() as i64
    };
    let catalog = node.registry.catalog();
    let turned = &catalog.projects[&name("shop")].views[&name("turned")];
    let text = &turned.features[0].feature.expression.text;
    let turn = text.trim_end_matches(')').rsplit(' ').next().unwrap().parse().unwrap();
    let visited = read(node, "visited").unwrap();
    let visit = visited[0][0].unwrap();
    assert_eq!(visited, vec![vec![Some(visit)]; WHO as usize], "{about}: a file of visits is half there");
    let (clicks, orders, trips) = (numbers("clicks"), numbers("orders"), numbers("trips"));
    let there = There { clicks, orders, trips, turn, visit };
    assert_eq!((there.clicks % CLICKS, there.orders % ORDERS), (0, 0), "{about}: a batch is half there");
    check_views(node, there, about);
    there
}

/// Online is what so many rows come to.
fn check_views(node: &Node, there: There, about: &str) {
    let of_sum = |values: &[i64]| (!values.is_empty()).then(|| values.iter().sum::<i64>());
    let mut standing: BTreeMap<i64, i64> = BTreeMap::new();
    for n in 0..there.orders {
        if is_gone(n) {
            standing.remove(&(n % IDS))
        } else {
            standing.insert(n % IDS, n)
        };
    }
    let by_key = |of: &dyn Fn(i64) -> Vec<Option<i64>>| (0..WHO).map(of).collect::<Vec<_>>();
    let clicks = |who: i64| (0..there.clicks).filter(|n| n % WHO == who).collect::<Vec<i64>>();
    let orders = |who: i64| {
        let own = standing.iter().filter(|(id, _)| **id % WHO == who);
        own.map(|(_, n)| *n).collect::<Vec<i64>>()
    };
    let squares = |clicks: &[i64]| of_sum(&clicks.iter().map(|n| n * n).collect::<Vec<_>>());
    let trips = |who: i64| (0..there.trips).filter(|n| n % WHO == who).collect::<Vec<i64>>();
    let expected = [
        (
            "tripped",
            by_key(&|who| {
                let trips = trips(who);
                vec![Some(trips.len() as i64), of_sum(&trips)]
            }),
        ),
        (
            "clicked",
            by_key(&|who| {
                let clicks = clicks(who);
                vec![Some(clicks.len() as i64), of_sum(&clicks), squares(&clicks)]
            }),
        ),
        ("last_click", by_key(&|who| vec![clicks(who).last().copied()])),
        (
            "ordered",
            by_key(&|who| {
                let orders = orders(who);
                vec![Some(orders.len() as i64), of_sum(&orders)]
            }),
        ),
        ("last_order", by_key(&|who| vec![orders(who).iter().max().copied()])),
        (
            "turned",
            by_key(&|who| {
                let clicks = clicks(who);
                vec![of_sum(&clicks).map(|sum| sum + there.turn * clicks.len() as i64)]
            }),
        ),
    ];
    for (view, expected) in expected {
        match read(node, view) {
            Ok(found) => assert_eq!(found, expected, "{about}: `{view}` of {there:?}"),
            // Its definition stands, and it was not made yet.
            Err(error) => {
                assert_eq!((view, error.code()), ("turned", "view_not_materialized"), "{about}: {error}");
            }
        }
    }
}

/// As [`check`], and again when all is brought up to date, moved and put together, and a file that was being loaded is in.
fn check_and_settle(node: &Node, about: &str) -> There {
    let mut there = check(node, about);
    if there.trips > 0 {
        let file = (there.trips - 1) / TRIPS;
        let went_on = load_trips(node, file).unwrap();
        assert!(went_on || there.trips % TRIPS == 0, "{about}: {there:?}");
        there.trips = (file + 1) * TRIPS;
    }
    node.materialize();
    read(node, "turned").unwrap();
    check_views(node, there, &format!("{about}, materialised"));
    node.runtime.block_on(node.flow.flush()).unwrap();
    let there = There { visit: files_of_visits(&node.root) - 1, ..there };
    assert_eq!(check(node, &format!("{about}, flushed")), there);
    there
}

#[expect(clippy::disallowed_methods, reason = "how a parent says what its child works on")]
fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The child's work: everything at once, what is acknowledged said, and what failed.
#[test]
#[ignore = "the child of the tests of this module"]
fn works_until_disturbed() {
    let folder = asked(FOLDER).unwrap();
    let turns = asked(TURNS).map_or(i64::MAX, |turns| turns.parse().unwrap());
    let folder = Path::new(&folder);
    println!();
    let told =
        |what: &str, error: &dyn std::fmt::Display, code: &str| println!("failed {what} {code} {error}");
    if !folder.join(".asof/registry.db").exists() {
        set_up(folder);
        // Whoever makes a data directory has it stay; here that is this test.
        std::fs::File::open(folder).unwrap().sync_all().unwrap();
    }
    let node = match open(folder) {
        Ok(node) => node,
        Err(error) => return told("open", &error, "-"),
    };
    let mut there = check(&node, "begun");
    let over = AtomicBool::new(false);
    println!("ready");
    if asked(WAITS).is_some() {
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                match node.runtime.block_on(node.flow.flush()) {
                    Ok(report) => {
                        if report.rows > 0 {
                            println!("flushed {}", report.rows);
                        }
                        if report.compacted > 0 {
                            println!("together {}", report.compacted);
                        }
                        if report.not_compacted > 0 {
                            told("compaction", &"as the node's log says", "-");
                        }
                    }
                    Err(error) => told("flush", &error, error.code()),
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        threads.spawn(|| {
            for next in files_of_visits(&node.root).. {
                if let Err(error) = write_visits(&node.root, next) {
                    println!("no more files: {error}");
                    break;
                }
                match visit(&node) {
                    Ok(()) => println!("acknowledged visit{next}"),
                    Err(error) => told("visit", &error, error.code()),
                }
                if over.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        threads.spawn(|| {
            for next in there.turn + 1.. {
                match turn(&node, next) {
                    Ok(()) => println!("acknowledged turn{next}"),
                    Err(error) => told("turn", &error, error.code()),
                }
                if over.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        threads.spawn(|| {
            let mut failed = false;
            let mut file = there.trips / TRIPS;
            loop {
                if let Err(error) = write_trips(&node.root, file) {
                    println!("no more files: {error}");
                    break;
                }
                println!("loading trips{file}");
                match load_trips(&node, file) {
                    Ok(_) => {
                        file += 1;
                        assert!(!failed, "acknowledged after a failure");
                        println!("acknowledged trips{}", file * TRIPS);
                    }
                    Err(error) => {
                        // A load is recorded too, where one that fails says nothing of the next.
                        failed |= STOPPED.contains(&error.code());
                        told("trips", &error, error.code());
                    }
                }
                if over.load(Ordering::Relaxed) {
                    break;
                }
                // So that there is time for all else.
                std::thread::sleep(Duration::from_millis(600));
            }
        });
        let mut failed = false;
        for _ in 0..turns {
            let mut pushed = |what: &str, done: Result<(), FlowError>, next: &mut i64, rows: i64| match done {
                Ok(()) => {
                    assert!(!failed, "acknowledged after a failure");
                    *next += rows;
                    println!("acknowledged {what}{next}");
                }
                Err(error) => {
                    failed = true;
                    told(what, &error, error.code());
                }
            };
            pushed("clicks", push_clicks(&node, there.clicks), &mut there.clicks, CLICKS);
            pushed("orders", push_orders(&node, there.orders), &mut there.orders, ORDERS);
            std::thread::sleep(Duration::from_millis(4));
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("over");
}

fn child() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "disturbed::works_until_disturbed", "--ignored", "--nocapture", "--test-threads=1"])
        .stdin(Stdio::null());
    command
}

/// What a child said of one thing: the last number that it acknowledged.
fn acknowledged(text: &str) -> There {
    let last = |what: &str| {
        let numbers = text.split([',', '\n']).map(|line| line.trim().trim_start_matches("acknowledged "));
        let numbers = numbers.filter_map(|line| line.strip_prefix(what)?.parse().ok());
        numbers.max().unwrap_or(0)
    };
    There {
        clicks: last("clicks"),
        orders: last("orders"),
        trips: last("trips"),
        turn: last("turn"),
        visit: last("visit"),
    }
}

fn assert_kept(there: There, acknowledged: There, about: &str) {
    let kept = there.clicks >= acknowledged.clicks
        && there.orders >= acknowledged.orders
        && there.trips >= acknowledged.trips
        && there.turn >= acknowledged.turn
        && there.visit >= acknowledged.visit;
    assert!(kept, "{about}: {there:?} is there, {acknowledged:?} was acknowledged");
}

/// What a campaign asks of the copy of a disk.
#[test]
#[ignore = "run by `cargo xtask campaign power-loss`"]
fn verify() {
    let (folder, said) = (asked(FOLDER).unwrap(), asked(ACKNOWLEDGED).unwrap());
    let node = open(folder.as_ref()).unwrap();
    let trips = stored(&node, "trips").len() as i64;
    let there = check_and_settle(&node, "after the power was lost");
    assert_kept(There { trips, ..there }, acknowledged(&said), &said);
    if trips % TRIPS != 0 {
        println!("\nin part: a file that was being loaded");
    }
}

/// Whether files of a table were put together.
fn is_together(folder: &Path) -> bool {
    let tables = folder.join(".asof/offline/shop/clicks");
    let logs =
        std::fs::read_dir(tables).into_iter().flatten().flatten().map(|it| it.path().join("_delta_log"));
    let texts = logs.flat_map(|log| std::fs::read_dir(log).into_iter().flatten().flatten());
    let mut texts = texts.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts.any(|text| text.contains("OPTIMIZE"))
}

#[test]
fn a_kill_loses_and_doubles_nothing() {
    let rounds = kill_rounds_or(8);
    let mut folder = tempfile::tempdir().unwrap();
    let (mut before, mut together, mut cut, mut total) = (There::default(), 0, 0, There::default());
    for round in 0..rounds + 20 {
        if round >= rounds && cut > 0 {
            // There was one between the parts of a file too.
            break;
        }
        if round % 5 == 0 {
            // So that rounds stay short.
            folder = tempfile::tempdir().unwrap();
            set_up(folder.path());
            before = There::default();
        }
        let mut child =
            child().env(FOLDER, folder.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let said = Arc::new(std::sync::Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            use std::io::BufRead as _;
            for line in std::io::BufReader::new(out).lines().map_while(Result::ok) {
                let mut heard = heard.lock().unwrap();
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        let until = Instant::now() + Duration::from_secs(60);
        let wait = |of: &str| {
            while !said.lock().unwrap().contains(of) {
                assert!(Instant::now() < until, "round {round}: the child does not say `{of}`");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait("ready");
        // Not before something was moved, then at another moment every round.
        let moment = match round % 3 {
            0 if round < rounds => "flushed",
            1 if round < rounds => "acknowledged turn",
            _ => "loading trips",
        };
        wait(moment);
        if moment == "loading trips" {
            // Within the next file, as far as this one says how long that takes: first it is looked at.
            let begun = Instant::now();
            wait("acknowledged trips");
            let took = begun.elapsed();
            let before = said.lock().unwrap().matches("loading trips").count();
            while said.lock().unwrap().matches("loading trips").count() == before {
                assert!(Instant::now() < until, "round {round}: the child loads no more");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(took.mul_f64(0.4 + (round * 7 % 6) as f64 / 10.0));
        } else {
            std::thread::sleep(Duration::from_micros(round * 79_190 % 400_000));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        let said = said.lock().unwrap().clone();
        let told = acknowledged(&said);
        let node = open(folder.path()).unwrap();
        let parts = stored(&node, "trips").len() as i64;
        cut += u64::from(parts % TRIPS != 0);
        let there = check_and_settle(&node, &format!("round {round}"));
        assert_kept(There { trips: parts, ..there }, told, &format!("round {round}"));
        assert_kept(there, before, &format!("round {round}, before"));
        // One batch of each may be there and not acknowledged.
        let most = |told: i64, before: i64, batch: i64| told.max(before) + batch;
        assert!(
            there.clicks <= most(told.clicks, before.clicks, CLICKS),
            "round {round}: {there:?}, {told:?}"
        );
        assert!(
            there.orders <= most(told.orders, before.orders, ORDERS),
            "round {round}: {there:?}, {told:?}"
        );
        assert!(there.trips <= most(told.trips, before.trips, TRIPS), "round {round}: {there:?}, {told:?}");
        total = There {
            clicks: total.clicks + there.clicks - before.clicks,
            orders: total.orders + there.orders - before.orders,
            trips: total.trips + there.trips - before.trips,
            turn: total.turn + there.turn - before.turn,
            visit: total.visit + there.visit - before.visit,
        };
        before = there;
        together += u64::from(is_together(folder.path()));
    }
    println!(
        "{rounds} kills or some more, {total:?}, files put together before {together} of them, loads cut off by {cut}"
    );
    assert!(together > 0 && total.turn > 3 && total.visit > 3 && cut > 0, "{together} {cut} {total:?}");
}

/// The lines that say that something failed, and the codes of one thing.
fn failed<'a>(text: &'a str, what: &str) -> Vec<(usize, &'a str)> {
    let lines = text.lines().enumerate();
    let of_it = lines.filter_map(|(at, line)| Some((at, line.strip_prefix("failed ")?.strip_prefix(what)?)));
    of_it.map(|(at, rest)| (at, rest.split_whitespace().next().unwrap_or_default())).collect()
}

/// Says that it may go on.
fn go(child: &mut Child) {
    use std::io::Write as _;
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
}

/// Runs a child whose call of this number fails in every thread that comes so far, counted from the beginning or, where it
/// is `at_work`, from when the node is open; what it said.
fn said_with_a_failing_fsync(folder: &Path, call: &str, failing: u64, at_work: bool) -> String {
    use std::io::{BufRead as _, Read as _};
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
    strace.arg(format!("inject={call}:error=EIO:when={failing}"));
    let mut work = child();
    if at_work {
        work.env(WAITS, "");
    } else {
        strace.arg(work.get_program()).args(work.get_args());
        work = strace;
        strace = Command::new("strace");
    }
    let work = work.env(FOLDER, folder).env(TURNS, "24").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = work.stderr(Stdio::null()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    let mut tracing = None;
    if at_work {
        while !text.ends_with("ready\n") {
            assert!(out.read_line(&mut text).unwrap() > 0, "{text}");
        }
        strace.args(["-p", &child.id().to_string()]).stderr(Stdio::piped());
        let mut attached = strace.spawn().unwrap();
        let mut told = std::io::BufReader::new(attached.stderr.take().unwrap());
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        let drained = std::thread::spawn(move || told.read_to_string(&mut String::new()));
        tracing = Some((attached, drained));
        go(&mut child);
    }
    out.read_to_string(&mut text).unwrap();
    let ended = child.wait().unwrap();
    if let Some((mut attached, drained)) = tracing {
        attached.wait().unwrap();
        drained.join().unwrap().unwrap();
    }
    assert!(ended.success(), "{call} {failing}: {text}");
    text
}

/// Has a node work whose call of this number fails, as [`said_with_a_failing_fsync`]; what failed in it.
fn with_a_failing_fsync(call: &str, failing: u64, at_work: bool) -> Vec<&'static str> {
    let about = format!("{call} {failing}, at work: {at_work}");
    let folder = tempfile::tempdir().unwrap();
    set_up(folder.path());
    // As many small files as stand until one more has them put together.
    let node = open(folder.path()).unwrap();
    for batch in 0..7 {
        push_clicks(&node, batch * CLICKS).unwrap();
        node.runtime.block_on(node.flow.flush()).unwrap();
    }
    drop(node);
    let text = said_with_a_failing_fsync(folder.path(), call, failing, at_work);
    let mut hit = Vec::new();
    for what in ["clicks", "orders"] {
        let failures = failed(&text, what);
        let Some((first, _)) = failures.first() else { continue };
        hit.push("intake");
        let acknowledged = format!("acknowledged {what}");
        let after = text.lines().skip(*first).any(|line| line.starts_with(&acknowledged));
        assert!(!after, "{about}: {what} acknowledged after a failure:\n{text}");
        for (_, code) in failures {
            assert!(STOPPED.contains(&code), "{about}: {code}\n{text}");
        }
    }
    let places =
        [("flush", "flush"), ("compaction", "compaction"), ("turn", "materialise"), ("open", "open")];
    for (what, name) in places {
        hit.extend((!failed(&text, what).is_empty()).then_some(name));
    }
    // Runs of views are recorded in the registry, whose fsync may have been the one.
    let of_load = failed(&text, "trips").first().is_some_and(|(first, code)| {
        let before = |what: &str| failed(&text, what).first().is_some_and(|(at, _)| at < first);
        STOPPED.contains(code) && !before("clicks") && !before("orders")
    });
    hit.extend(of_load.then_some("load"));
    let online = failed(&text, "visit").iter().any(|(_, code)| *code == "online_store_unavailable");
    hit.extend(online.then_some("view over files"));
    // A table whose fsync failed takes no more until the node is opened again; what is pushed stays in the log.
    let node = open(folder.path()).unwrap();
    let there = check_and_settle(&node, &about);
    assert_kept(there, acknowledged(&text), &about);
    // It goes on.
    push_clicks(&node, there.clicks).unwrap();
    push_orders(&node, there.orders).unwrap();
    check_and_settle(&node, &format!("{about}, gone on"));
    hit
}

/// Whichever fsync fails, of the log, of what is kept beside it, of a table, of what is put together, of a view that is
/// made: nothing is acknowledged after it where it was, and opened again the node has each acknowledged row once.
#[test]
fn whichever_fsync_fails_nothing_is_lost() {
    if !is_permitted("strace", &["-o", "/dev/null", "true"]) {
        return;
    }
    let mut hits: BTreeMap<&str, usize> = BTreeMap::new();
    for (call, at_work) in [("fdatasync", false), ("fsync", false), ("fdatasync", true), ("fsync", true)] {
        // Counted by thread: the first ones are each of another place. All of them where a campaign asks for more.
        let most = kill_rounds_or(6).min(200);
        let mut quiet = 0;
        for failing in 1..=most {
            let hit = with_a_failing_fsync(call, failing, at_work);
            quiet = if hit.is_empty() { quiet + 1 } else { 0 };
            let opened = !hit.contains(&"open");
            hit.into_iter().for_each(|place| *hits.entry(place).or_default() += 1);
            // What comes after it was opened fails at work.
            if quiet == 3 || (opened && !at_work) {
                break;
            }
        }
    }
    println!("runs in which it failed: {hits:?}");
    for place in ["open", "intake", "flush", "materialise", "view over files"] {
        assert!(hits.contains_key(place), "no fsync of {place} failed: {hits:?}");
    }
}
