use std::time::{Duration, Instant};

use asof_model::Principal;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Node, Shape, row};

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
    let wait = |what: &str, until: &dyn Fn(&[asof_flow::ViewStatus]) -> bool| {
        let begun = Instant::now();
        loop {
            let status = node.runtime.block_on(node.flow.status(&Principal::owner(), None)).unwrap();
            if until(&status) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "waited for {what}: {status:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("the first materialisation", &|status| status[1].rows == 1 && status[0].last_error.is_some());
    node.write("data/b.csv", &[row(2, 20, 2, 200)]);
    wait("the refresh", &|status| status[1].rows == 2);
    // Mended, it is due at once, though it never refreshes by itself.
    let mended = Shape { version: "2", ..Shape::default() };
    node.apply_views(&[("aside", &mended), ("price", &often)]);
    wait("the new version", &|status| {
        status[0].materialized && status[0].rows == 2 && status[0].last_error.is_none()
    });
    stop.cancel();
    node.runtime.block_on(async { while tasks.join_next().await.is_some() {} });
}
