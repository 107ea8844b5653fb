//! A node under everything at once, killed again and again: what it served is what training says.
//!
//! Clients ask while rows are pushed, late ones, corrections and withdrawals among them, while the log is flushed and
//! files are put together, while batch rows are loaded 13 hours after they happened, past rows and past versions into
//! pushed sources too, and views are brought up to date. Every answer is logged, and at the end answered again; what was
//! acknowledged of one source is counted, and each row is there once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use asof_model::Timestamp;
use asof_testkit::{Random, soak_program, soak_requests};
use serde_json::{Value, json};

use crate::consistency::{DEFINITIONS, ENVIRONMENT};
use crate::kept::Kept;
use crate::project::{Project, Up, files_below};

const BUYERS: i64 = 200;
/// From so many requests on there is time for everything.
const LONG: u64 = 100_000;
const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
/// Beside the service of the other tests: what is asked as of the past.
const PAST: &str = "\
---
view: recently
entity: buyer
source: orders
history: 2h
windows: [{length: 30m, offset: 1m}, 1h]
features: {orders: {agg: count(*)}, spent: {agg: sum(amount)}, last: {agg: last(state)}}
---
service: looking_back
features: [recently.*]
";

/// What all threads share.
struct Soak {
    /// `host:port`, another after each kill.
    address: RwLock<String>,
    begun: Instant,
    base: i64,
    asked: AtomicU64,
    refused: AtomicU64,
    pushed: AtomicU64,
    loads: AtomicU64,
    /// By their times, clicks that were acknowledged, and such of which nobody knows.
    clicks: Mutex<BTreeSet<i64>>,
    perhaps: Mutex<BTreeSet<i64>>,
    /// Clicks that were loaded, and such of a load that was not done yet.
    late: AtomicU64,
    perhaps_late: AtomicU64,
    wanted: u64,
    over: AtomicBool,
}

impl Soak {
    fn now(&self) -> i64 {
        self.base + self.begun.elapsed().as_micros() as i64
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.asked.load(Ordering::Relaxed) >= self.wanted
    }
}

/// A connection that is kept, and opened again where the node was killed.
struct Connection<'a> {
    soak: &'a Soak,
    kept: Option<Kept>,
}

impl Connection<'_> {
    /// The status and the answer; none where the node went away before it was whole.
    fn post(&mut self, path: &str, body: &str) -> Option<(u16, Value)> {
        if self.kept.is_none() {
            let address = self.soak.address.read().unwrap_or_else(PoisonError::into_inner).clone();
            self.kept = Kept::to(&address);
        }
        let done = self.kept.as_mut().and_then(|kept| kept.post(path, "application/json", body.as_bytes()));
        if done.is_none() {
            self.kept = None;
            std::thread::sleep(Duration::from_millis(20));
        }
        done
    }
}

fn time(micros: i64) -> String {
    Timestamp(micros).to_string()
}

/// Asks until enough is asked.
fn ask(soak: &Soak, seed: u64) {
    let mut random = Random::new(seed);
    let mut connection = Connection { soak, kept: None };
    while !soak.is_over() {
        let many = if random.chance(5) { random.between(2, 20) } else { 1 };
        let buyers: Vec<Option<i64>> =
            (0..many).map(|_| (!random.chance(1)).then(|| random.between(1, BUYERS + 5))).collect();
        let prices: Vec<f64> = buyers.iter().map(|_| random.between(1, 1_000) as f64 / 7.0).collect();
        let mut body = json!({"entities": {"buyer": buyers}});
        if random.chance(15) {
            body["service"] = json!("looking_back");
            if random.chance(50) {
                body["as_of"] = json!(time(soak.now() - random.between(0, 2 * HOUR - 300 * SECOND)));
            }
        } else {
            body["service"] = json!("scoring");
            body["request"] = json!({"price": prices});
        }
        match connection.post("/v1/features", &body.to_string()) {
            Some((200, _)) => {
                soak.asked.fetch_add(1, Ordering::Relaxed);
            }
            // A view may be brought up yet, and a clock of ours may be before the node's.
            Some((_, answer)) => {
                let code = answer["error"]["code"].as_str().unwrap_or_default().to_owned();
                let known = ["view_not_materialized", "as_of_after_now", "beyond_history"];
                assert!(known.contains(&code.as_str()), "{answer}");
                soak.refused.fetch_add(1, Ordering::Relaxed);
            }
            None => {}
        }
    }
}

/// Pushes new rows, late ones, some of the future, corrections that move rows to other times and keys, withdrawals and
/// revivals.
fn push(soak: &Soak, seed: u64) {
    let mut random = Random::new(seed);
    let mut connection = Connection { soak, kept: None };
    let mut given = 0;
    let mut times = BTreeSet::new();
    while !soak.is_over() {
        let now = soak.now();
        let rows = random.between(1, 20);
        let orders: Vec<Value> = (0..rows)
            .map(|_| {
                let id = match given > 0 && random.chance(30) {
                    true => random.between((given - 500).max(0), given),
                    false => {
                        given += 1;
                        given
                    }
                };
                let at = now
                    - match random.between(0, 9) {
                        0 => random.between(0, 8 * 24) * HOUR,
                        1 => random.between(0, 2 * HOUR),
                        2 => -random.between(0, 5 * SECOND),
                        _ => random.between(0, SECOND),
                    };
                let state = *random.pick(&["new", "paid", "sent", "void"]);
                let buyer = (!random.chance(2)).then(|| random.between(1, BUYERS));
                let amount = random.between(-1_000_000, 1_000_000) as f64 / 9.0;
                json!({"id": format!("{seed}-{id}"), "buyer": buyer, "at": time(at), "amount": amount, "state": state})
            })
            .collect();
        let mut sent = BTreeSet::new();
        let clicks: Vec<Value> = (0..random.between(1, 5))
            .map(|_| {
                let late = if random.chance(10) { 20 * HOUR } else { SECOND };
                let mut at = now - random.between(0, late);
                // By its time each is told from all others.
                while !times.insert(at) {
                    at -= 1;
                }
                sent.insert(at);
                let page = *random.pick(&["a", "b", "c", "d"]);
                json!({"buyer": random.between(1, BUYERS), "at": time(at), "page": page})
            })
            .collect();
        for (source, rows) in [("orders", orders), ("clicks", clicks)] {
            let count = rows.len() as u64;
            let body = json!({"rows": rows}).to_string();
            match connection.post(&format!("/v1/push/{source}"), &body) {
                Some((200, _)) => {
                    soak.pushed.fetch_add(count, Ordering::Relaxed);
                    if source == "clicks" {
                        soak.clicks.lock().unwrap().append(&mut sent);
                    }
                }
                // What is refused changed nothing.
                Some((429 | 503, _)) => {}
                None => {
                    if source == "clicks" {
                        soak.perhaps.lock().unwrap().append(&mut sent);
                    }
                }
                Some((status, answer)) => panic!("{status}: {answer}"),
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Loads rows that happened 13 hours ago and brings views up to date, after a while in which they are behind.
fn load(soak: &Soak, project: &Project, pause: Duration) {
    let mut random = Random::new(99);
    let mut connection = Connection { soak, kept: None };
    let mut number = 0;
    let wait = |share: f64| {
        let until = Instant::now() + pause.mul_f64(share);
        while Instant::now() < until && !soak.is_over() {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // Clicks that are being loaded.
    let mut unfinished: Vec<(String, u64)> = Vec::new();
    while !soak.is_over() {
        number += 1;
        let now = soak.now();
        let ago = |random: &mut Random| time(now - 13 * HOUR + random.between(0, HOUR));
        let mut rows = "buyer,since,tier,rating\n".to_owned();
        for _ in 0..random.between(1, 40) {
            let (buyer, rating) = (random.between(1, BUYERS), random.between(0, 50) as f64 / 10.0);
            let tier = *random.pick(&["basic", "gold"]);
            rows += &format!("{buyer},{},{tier},{rating}\n", ago(&mut random));
        }
        project.write(&format!("data/profiles/late-{number}.csv"), &rows);
        let mut files = vec![("profiles", format!("data/profiles/late-{number}.csv"))];
        if number % 3 == 0 {
            let mut rows = "buyer,at,seen,page\n".to_owned();
            let count = random.between(1, 20);
            for _ in 0..count {
                let at = ago(&mut random);
                rows += &format!("{},{at},{at},late\n", random.between(1, BUYERS));
            }
            let file = format!("late/clicks-{number}.csv");
            project.write(&file, &rows);
            unfinished.push((file, count as u64));
            soak.perhaps_late.fetch_add(count as u64, Ordering::Relaxed);
        }
        // Those that were cut off are loaded again.
        files.extend(unfinished.iter().map(|(file, _)| ("clicks", file.clone())));
        if number % 3 == 1 {
            // Versions that were known before those that were pushed, of events that are there and of others.
            let pushed = soak.pushed.load(Ordering::Relaxed) as i64;
            let mut rows = "id,buyer,at,amount,state\n".to_owned();
            for _ in 0..random.between(1, 20) {
                let (id, buyer) = (random.between(1, 20 + pushed / 15), random.between(1, BUYERS));
                let state = *random.pick(&["new", "paid", "void"]);
                rows +=
                    &format!("11-{id},{buyer},{},{}.5,{state}\n", ago(&mut random), random.between(0, 99));
            }
            let file = format!("late/orders-{number}.csv");
            project.write(&file, &rows);
            files.push(("orders", file));
        }
        for (source, file) in files {
            let body = json!({"files": [project.path().join(&file)]}).to_string();
            match connection.post(&format!("/v1/load?project=shop&source={source}"), &body) {
                Some((200, _)) => {
                    soak.loads.fetch_add(1, Ordering::Relaxed);
                    if let Some(at) = unfinished.iter().position(|(other, _)| *other == file) {
                        let (_, rows) = unfinished.swap_remove(at);
                        soak.late.fetch_add(rows, Ordering::Relaxed);
                        soak.perhaps_late.fetch_sub(rows, Ordering::Relaxed);
                    }
                }
                // Killed meanwhile, or stopping: what was loaded is looked at by the check.
                Some((503, _)) | None => {}
                Some((status, answer)) => panic!("{status}: {answer}"),
            }
        }
        if number % 4 == 0 && number <= 80 {
            let rows =
                format!("buyer,since,limit\n{},{},{number}.5\n", random.between(1, BUYERS), ago(&mut random));
            project.write(&format!("data/limits/late-{number}.csv"), &rows);
        }
        wait(0.5);
        let done = connection.post("/v1/materialize", "{\"project\": \"shop\"}");
        assert!(done.as_ref().is_none_or(|(status, _)| matches!(status, 200 | 503)), "{done:?}");
        wait(0.5);
    }
}

fn started(project: &Project, soak: &Soak) -> Up {
    let mut environment = ENVIRONMENT.to_vec();
    // Small enough that rows in memory are written to tables again and again.
    environment.push(("ASOF_MEMORY", "128MB"));
    let node = project.up(&[], &environment);
    let address = node.address.split_once("://").unwrap().1.to_owned();
    *soak.address.write().unwrap_or_else(PoisonError::into_inner) = address;
    node
}

#[test]
fn soak() {
    let wanted = soak_requests();
    let project = Project::empty().with_program(soak_program());
    project.write("asof.yaml", "project: shop\n");
    project.write("features/shop.yaml", &format!("{DEFINITIONS}{PAST}"));
    project.write("data/profiles/0.csv", "buyer,since,tier,rating\n1,2024-01-01,basic,3.5\n");
    project.write("data/limits/0.csv", "buyer,since,limit\n1,2024-01-01,100\n");
    project.well(&["apply", "--yes"]);
    project.well(&["load", "profiles"]);
    let base = std::process::Command::new("date").arg("+%s%6N").output().unwrap();
    let soak = Arc::new(Soak {
        address: RwLock::default(),
        begun: Instant::now(),
        base: String::from_utf8(base.stdout).unwrap().trim().parse().unwrap(),
        asked: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        pushed: AtomicU64::new(0),
        loads: AtomicU64::new(0),
        clicks: Mutex::default(),
        perhaps: Mutex::default(),
        late: AtomicU64::new(0),
        perhaps_late: AtomicU64::new(0),
        wanted,
        over: AtomicBool::new(false),
    });
    let mut node = started(&project, &soak);
    node.wait_ready();
    let begun = Instant::now();
    // Two kills however many requests there are, and one more for each fifty thousand.
    let kills = 2 + wanted / 50_000;
    let mut killed = 0;
    let pause = Duration::from_millis(500 + wanted / 100);
    std::thread::scope(|threads| {
        for seed in 0..3 {
            let soak = &soak;
            threads.spawn(move || ask(soak, seed));
        }
        threads.spawn(|| push(&soak, 11));
        threads.spawn(|| load(&soak, &project, pause));
        let mut last = (Instant::now(), 0);
        while !soak.is_over() {
            std::thread::sleep(Duration::from_millis(50));
            let asked = soak.asked.load(Ordering::Relaxed);
            if asked > last.1 {
                last = (Instant::now(), asked);
            }
            if last.0.elapsed() > Duration::from_secs(120) {
                soak.over.store(true, Ordering::Relaxed);
                panic!("nothing was answered for two minutes, after {asked} requests");
            }
            if killed < kills && asked >= (killed + 1) * wanted / (kills + 1) {
                node.child.kill().unwrap();
                node.child.wait().unwrap();
                node = started(&project, &soak);
                killed += 1;
            }
        }
    });
    let took = begun.elapsed();
    let (asked, pushed) = (soak.asked.load(Ordering::Relaxed), soak.pushed.load(Ordering::Relaxed));
    let (loads, refused) = (soak.loads.load(Ordering::Relaxed), soak.refused.load(Ordering::Relaxed));
    let begun = Instant::now();
    let said = project.run(&["check", "consistency", "--json"]);
    let answer: Value = serde_json::from_str(said.out.lines().next().unwrap_or("null")).unwrap();
    let column = |query: &str| -> Vec<i64> {
        let answer = project.well(&["sql", query, "--format", "csv"]);
        answer.lines().skip(1).map(|value| value.parse().unwrap()).collect()
    };
    let times = column("select cast(at as bigint) from clicks where page <> 'late'");
    let late = column("select count(*) from clicks where page = 'late'")[0] as u64;
    let files = files_below(&project.path().join(".asof/offline/shop/orders"));
    let commits = |what: &str| {
        let logs = files.iter().filter(|path| path.parent().unwrap().ends_with("_delta_log"));
        let texts = logs.filter(|path| path.extension().is_some_and(|it| it == "json"));
        texts.filter(|path| std::fs::read_to_string(path).unwrap().contains(what)).count()
    };
    let (flushed, compacted) = (commits("\"add\""), commits("\"remove\""));
    let figures =
        ["rows", "values", "trainings", "lag", "dropped", "broken_ends", "mismatched", "missing", "extra"];
    let figures: Vec<String> = figures.iter().map(|name| format!("{name} {}", answer[*name])).collect();
    println!(
        "soak: {asked} requests answered ({refused} refused) in {:.0} s, {pushed} rows pushed, {loads} late loads, {killed} kills, \
         {flushed} commits of orders, {compacted} of them putting files together; checked in {:.0} s: {}",
        took.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        figures.join(", ")
    );
    assert_eq!(said.code, Some(0), "{}\n{answer:#}", said.err);
    let number = |name: &str| answer[name].as_u64().unwrap();
    assert_eq!(
        [number("mismatched"), number("missing"), number("extra"), number("dropped")],
        [0; 4],
        "{answer:#}"
    );
    assert_eq!(answer["not_checkable"], json!([]), "{answer:#}");
    let stored: BTreeSet<i64> = times.iter().copied().collect();
    assert_eq!(stored.len(), times.len(), "no click is there twice");
    let (clicks, perhaps) = (soak.clicks.lock().unwrap(), soak.perhaps.lock().unwrap());
    let lost = clicks.difference(&stored).count();
    let unsent = stored.iter().filter(|at| !clicks.contains(at) && !perhaps.contains(at)).count();
    assert_eq!(
        (lost, unsent),
        (0, 0),
        "clicks that were acknowledged, and that were not sent or were refused"
    );
    let of_late = soak.late.load(Ordering::Relaxed);
    let of_late = of_late..=of_late + soak.perhaps_late.load(Ordering::Relaxed);
    assert!(of_late.contains(&late), "{late} {of_late:?}");
    println!("{} clicks are there, {} acknowledged; {late} loaded", stored.len(), clicks.len());
    // What a kill found on its way to the log, in its last moments, is not there.
    assert!(number("rows") > asked / 2, "{answer:#}");
    assert!(number("lag") > 0 && killed == kills && flushed > 0 && loads > 1, "{answer:#}");
    // Files are put together once there are some; a short run may end before.
    assert!(compacted > 0 || asked < LONG, "{flushed} commits");
}
