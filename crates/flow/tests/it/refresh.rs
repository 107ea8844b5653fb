use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use asof_flow::ViewStatus;
use asof_model::{Clock, Principal, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::fixture::{Node, Shape, TestClock, row};

fn wait(node: &Node, what: &str, until: &dyn Fn(&[ViewStatus]) -> bool) {
    let begun = Instant::now();
    loop {
        let status = node.runtime.block_on(node.flow.status(&Principal::owner(), None)).unwrap();
        if until(&status) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "waited for {what}: {status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Views come up at the start, at their refresh and when applied; one that fails stops nobody.
#[test]
fn a_running_node_brings_views_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    let often = Shape { refresh: Some(20_000), ..Shape::default() };
    let fails = Shape { double: "1 / (price - price)", ..often.clone() };
    node.apply_views(&[("aside", &fails), ("price", &often)]);
    let stop = CancellationToken::new();
    let (flow, stopping) = (node.flow.clone(), stop.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_on(async move { flow.refresh_forever(stopping).await }, node.runtime.handle());
    let wait = |what: &str, until: &dyn Fn(&[ViewStatus]) -> bool| wait(&node, what, until);
    wait("the first materialisation", &|status| status[1].rows == Some(1) && status[0].last_error.is_some());
    node.write("data/b.csv", &[row(2, 20, 2, 200)]);
    wait("the refresh", &|status| status[1].rows == Some(2));
    // Mended, it is due at once, though it never refreshes by itself.
    let mended = Shape { version: "2", ..Shape::default() };
    node.apply_views(&[("aside", &mended), ("price", &often)]);
    wait("the new version", &|status| {
        status[0].materialized && status[0].rows == Some(2) && status[0].last_error.is_none()
    });
    stop.cancel();
    node.runtime.block_on(async { while tasks.join_next().await.is_some() {} });
}

/// A clock that, told to, panics the next time a turn asks it: any thread but the one of the test.
#[derive(Debug)]
struct Fragile {
    clock: Arc<TestClock>,
    test: ThreadId,
    panics: AtomicBool,
}

impl Clock for Fragile {
    fn now(&self) -> Timestamp {
        let in_turn = std::thread::current().id() != self.test;
        assert!(!(in_turn && self.panics.swap(false, Ordering::AcqRel)), "a secret of the clock");
        self.clock.now()
    }
}

/// A panic in the middle of a turn is that turn's error; the next one goes on.
#[test]
fn a_turn_that_panics_is_told_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock(AtomicI64::new(1_000)));
    let test = std::thread::current().id();
    let fragile = Arc::new(Fragile { clock: Arc::clone(&clock), test, panics: AtomicBool::new(false) });
    let node = Node::with(folder.path(), clock, Arc::<Fragile>::clone(&fragile));
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    node.apply(&Shape { refresh: Some(200_000), ..Shape::default() });
    node.materialize().unwrap();
    node.write("data/b.csv", &[row(2, 20, 2, 200)]);

    let stop = CancellationToken::new();
    fragile.panics.store(true, Ordering::Release);
    let (flow, stopping) = (node.flow.clone(), stop.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_on(async move { flow.refresh_forever(stopping).await }, node.runtime.handle());
    wait(&node, "the panic to be told", &|status| {
        let failure = status[0].last_error.as_ref().map(|failure| &failure.error);
        failure.is_some_and(|error| {
            error.code == "internal" && error.message.contains("panicked, a defect in Asof")
        }) && failure.is_some_and(|error| !error.message.contains("secret"))
    });
    wait(&node, "the next turn", &|status| status[0].rows == Some(2) && status[0].last_error.is_none());
    stop.cancel();
    node.runtime.block_on(async { while tasks.join_next().await.is_some() {} });
}

/// A view without `refresh` whose turn fails has another one, until it is well.
#[test]
fn a_view_that_failed_is_tried_again_without_a_refresh() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::open(folder.path());
    node.flow = node.flow.clone().with_retry(Duration::from_millis(5));
    // Its folder is not there yet.
    node.apply(&Shape::default());
    let stop = CancellationToken::new();
    let (flow, stopping) = (node.flow.clone(), stop.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_on(async move { flow.refresh_forever(stopping).await }, node.runtime.handle());
    wait(&node, "the first turn to fail", &|status| status[0].last_error.is_some());
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    wait(&node, "another turn", &|status| status[0].rows == Some(1) && status[0].last_error.is_none());
    stop.cancel();
    node.runtime.block_on(async { while tasks.join_next().await.is_some() {} });
}

/// A view that is removed takes its rows with it; put back, it comes up anew.
#[test]
fn rows_of_a_removed_view_go() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::open(folder.path());
    node.write("data/a.csv", &[row(1, 10, 1, 100)]);
    node.apply_views(&[("aside", &Shape::default()), ("price", &Shape::default())]);
    let stop = CancellationToken::new();
    let (flow, stopping) = (node.flow.clone(), stop.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_on(async move { flow.refresh_forever(stopping).await }, node.runtime.handle());
    wait(&node, "both", &|status| status.iter().all(|view| view.rows == Some(1)));
    node.remove_view("aside");
    wait(&node, "its rows to go", &|_| {
        let records = node.store.snapshot().unwrap().generations().unwrap();
        records.iter().map(|record| record.view.name.as_str()).eq(["price"])
    });
    node.apply_views(&[("aside", &Shape::default()), ("price", &Shape::default())]);
    wait(&node, "it to come back", &|status| {
        status.len() == 2 && status.iter().all(|view| view.rows == Some(1))
    });
    stop.cancel();
    node.runtime.block_on(async { while tasks.join_next().await.is_some() {} });
}
