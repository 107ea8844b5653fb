//! Apply: compare-and-swap, whole or not at all, nothing altered.

use std::collections::BTreeSet;
use std::sync::Arc;

use asof_model::Action;
use asof_model::{Explain, Kind, Principal, Revision, ThingKind, Version};
use asof_registry::{Apply, Registry, RegistryError};

use crate::fixture::{about, apply, at, by, entity, name, open, service, shop, source, view};

#[tokio::test]
async fn what_is_applied_stands_and_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/below/registry.db");
    let registry = open(&path).await;
    let mut watch = registry.watch();
    let revision = registry.apply(&by("ann"), apply("shop", Revision(0), shop())).await.unwrap();
    assert_eq!(revision, Revision(1));
    assert!(watch.has_changed().unwrap());
    assert_eq!(watch.borrow_and_update().revision, revision);
    let catalog = registry.catalog();
    assert_eq!(catalog.projects[&name("shop")].versions().collect::<Vec<_>>(), shop());
    registry.close().await;
    drop(registry);

    let again = open(&path).await;
    assert_eq!(again.catalog().revision, revision);
    assert_eq!(again.catalog().projects[&name("shop")].versions().collect::<Vec<_>>(), shop());
    assert_eq!(again.catalog().projects[&name("shop")].root, std::path::Path::new("/projects/shop"));
}

#[tokio::test]
async fn the_same_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let first = registry.apply(&by("ann"), apply("shop", Revision(0), shop())).await.unwrap();
    let second = registry.apply(&by("bob"), apply("shop", first, shop())).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(registry.changes(&name("shop"), Revision(0)).await.unwrap().len(), 4);
}

/// Twenty real tasks, over two handles on one file as two processes would have.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_twenty_applies_on_one_base_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let handles = [open(&path).await, open(&path).await];
    let base = handles[0].apply(&by("ann"), apply("shop", Revision(0), shop())).await.unwrap();

    let barrier = Arc::new(tokio::sync::Barrier::new(20));
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..20 {
        let registry: Registry = handles[i % 2].clone();
        let barrier = barrier.clone();
        tasks.spawn(async move {
            let change = apply("shop", base, vec![entity("shop", &format!("thing{i}"), about("", "", &[]))]);
            barrier.wait().await;
            (i, registry.apply(&by(&format!("user{i}")), change).await)
        });
    }
    let mut won = Vec::new();
    let mut lost = Vec::new();
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            (i, Ok(revision)) => won.push((i, revision)),
            (i, Err(error)) => lost.push((i, error)),
        }
    }
    assert_eq!(won.len(), 1, "{lost:?}");
    let (winner, revision) = won[0];
    assert_eq!(revision, Revision(2));
    for (i, error) in &lost {
        let RegistryError::Conflict { changes, now, .. } = error else { panic!("{i}: {error}") };
        assert_eq!(*now, revision);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].thing, Some((ThingKind::Entity, at("shop", &format!("thing{winner}")))));
        assert_eq!(changes[0].by, format!("user{winner}"));
        assert_eq!(error.kind(), Kind::Conflict);
        let text = error.to_string();
        assert!(text.contains(&format!("created entity `shop.thing{winner}`")), "{text}");
        assert!(text.contains(&format!("by `user{winner}`")), "{text}");
    }
    // A conflict teaches the loser's cache what stands.
    for registry in &handles {
        assert_eq!(registry.catalog().revision, revision);
        let entities: BTreeSet<String> =
            registry.catalog().projects[&name("shop")].entities.keys().map(ToString::to_string).collect();
        assert_eq!(entities, BTreeSet::from(["seller".to_owned(), format!("thing{winner}")]));
    }
}

#[tokio::test]
async fn other_projects_do_not_conflict_but_what_one_stands_on_does() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let base = registry.apply(&by("ann"), apply("shop", Revision(0), shop())).await.unwrap();
    let things = shop();
    let theirs = |feature: &[&str]| view(at("ads", "clicks"), &things[0], &things[1], feature);

    // `shop` gains an unrelated entity: `ads`, made against the older base, goes through.
    registry
        .apply(&by("ann"), apply("shop", base, vec![entity("shop", "buyer", about("", "", &[]))]))
        .await
        .unwrap();
    let second = registry.apply(&by("bob"), apply("ads", base, vec![theirs(&["a"])])).await.unwrap();

    // The source under it changes, with all that stands on it in its own project.
    let moved = source("shop", "events", "data/elsewhere.parquet");
    let prices = view(at("shop", "prices"), &things[0], &moved, &["price_mean", "price_max"]);
    let model = service(at("shop", "model"), &prices);
    registry.apply(&by("ann"), apply("shop", second, vec![moved, prices, model])).await.unwrap();
    let error =
        registry.apply(&by("bob"), apply("ads", second, vec![theirs(&["a", "b"])])).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("changed source `shop.events`"), "{text}");
    assert!(!text.contains("prices"), "{text}");
}

#[tokio::test]
async fn what_stands_must_be_whole() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let things = shop();

    let check = async |change: Apply, code: &str, text: &str| {
        let before = registry.catalog().revision;
        let error = registry.apply(&Principal::owner(), change).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.to_string(), text);
        assert_eq!(registry.refresh().await.unwrap().revision, before, "an error changed something");
    };
    check(
        apply("shop", Revision(0), vec![things[0].clone(), things[2].clone()]),
        "stands_on_nothing",
        "view `shop.prices` stands on source `shop.events`, which does not exist",
    )
    .await;
    registry.apply(&Principal::owner(), apply("shop", Revision(0), shop())).await.unwrap();
    let base = registry.catalog().revision;
    check(
        apply("shop", base, vec![source("shop", "events", "other")]),
        "stands_on_nothing",
        "view `shop.prices` stands on source `shop.events`, version 73646174, but 736f7468 stands",
    )
    .await;
    check(
        Apply { remove: vec![(ThingKind::View, name("prices"))], ..apply("shop", base, vec![]) },
        "thing_in_use",
        "view `shop.prices` cannot be removed: it is used by service `shop.model`",
    )
    .await;
    check(
        Apply { remove: vec![(ThingKind::View, name("price"))], ..apply("shop", base, vec![]) },
        "thing_not_found",
        "view `shop.price` not found",
    )
    .await;
    check(
        apply("ads", base, vec![things[0].clone()]),
        "foreign_thing",
        "entity `shop.seller` does not belong to project `ads`",
    )
    .await;
    check(
        apply("shop", base, vec![things[0].clone(), things[0].clone()]),
        "thing_twice",
        "entity `shop.seller` stands twice in one apply",
    )
    .await;
    check(
        apply("shop", Revision(77), vec![entity("shop", "x", about("", "", &[]))]),
        "apply_conflict",
        "project `shop` cannot be applied on revision 77: revision 1 stands",
    )
    .await;
    let stranger = Principal { name: "eve".to_owned(), projects: Some(vec![name("ads")]) };
    let error = registry.apply(&stranger, apply("shop", base, vec![])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden);
}

#[tokio::test]
async fn history_keeps_every_version_in_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let first = shop();
    let r1 = registry.apply(&by("ann"), apply("shop", Revision(0), first.clone())).await.unwrap();
    let described = entity("shop", "seller", about("growth", "Sellers", &[]));
    let r2 = registry.apply(&by("bob"), apply("shop", r1, vec![described.clone()])).await.unwrap();
    let prices = view(at("shop", "prices"), &first[0], &first[1], &["price_mean"]);
    let model = service(at("shop", "model"), &prices);
    let r3 = registry.apply(&by("cat"), apply("shop", r2, vec![prices.clone(), model])).await.unwrap();
    let remove = vec![
        (ThingKind::Service, name("model")),
        (ThingKind::View, name("prices")),
        (ThingKind::Entity, name("seller")),
    ];
    let r4 = registry.apply(&by("dan"), Apply { remove, ..apply("shop", r3, vec![]) }).await.unwrap();

    let seller = registry.history(&name("shop"), ThingKind::Entity, &name("seller")).await.unwrap();
    let told: Vec<(u64, Action, &str, bool)> =
        seller.iter().map(|it| (it.revision.0, it.action, it.by.as_str(), it.standing)).collect();
    assert_eq!(
        told,
        [
            (r4.0, Action::Removed, "dan", false),
            (r2.0, Action::Described, "bob", false),
            (r1.0, Action::Created, "ann", false),
        ]
    );
    assert_eq!(seller[1].version, described);
    assert_eq!(seller[2].version, first[0]);
    // A removed thing keeps its versions, to rebuild what was made from them.
    let old = registry.version(ThingKind::View, &at("shop", "prices"), first[2].id()).await.unwrap();
    assert_eq!(old, first[2]);
    let new = registry.version(ThingKind::View, &at("shop", "prices"), prices.id()).await.unwrap();
    assert_eq!(new, prices);
    assert!(registry.catalog().projects[&name("shop")].views.is_empty());
    // The same version may come back.
    let back = vec![first[0].clone(), first[2].clone()];
    registry.apply(&by("eve"), apply("shop", r4, back)).await.unwrap();
    let seller = registry.history(&name("shop"), ThingKind::Entity, &name("seller")).await.unwrap();
    assert_eq!(seller[0].action, Action::Created);
    assert!(seller[0].standing);
    assert!(matches!(seller[0].version, Version::Entity(_)));
    assert!(registry.history(&name("shop"), ThingKind::Entity, &name("nobody")).await.is_err());
}

#[tokio::test]
async fn a_moved_folder_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let first = registry.apply(&by("ann"), apply("shop", Revision(0), shop())).await.unwrap();
    let moved = Apply { root: "/elsewhere".into(), ..apply("shop", first, vec![]) };
    let second = registry.apply(&by("ann"), moved.clone()).await.unwrap();
    assert_eq!(second, Revision(2));
    let error = registry
        .apply(&by("bob"), apply("shop", first, vec![entity("shop", "x", about("", "", &[]))]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("moved the folder of project `shop`"), "{error}");
}

/// A caller that gives up halfway leaves either nothing or a whole change that the cache knows.
#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_cache_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let registry = open(&path).await;
    let owner = Principal::owner();
    for i in 0..40_u64 {
        let base = registry.refresh().await.unwrap().revision;
        let change = apply("shop", base, vec![entity("shop", &format!("t{i}"), about("", "", &[]))]);
        let doomed = registry.apply(&owner, change);
        let _ = tokio::time::timeout(std::time::Duration::from_micros(i * 100), doomed).await;
    }
    registry.close().await;
    let cached = registry.catalog();
    let stored = open(&path).await.catalog();
    assert_eq!(cached.revision, stored.revision);
    assert_eq!(
        cached.projects.values().flat_map(|it| it.versions()).collect::<Vec<_>>(),
        stored.projects.values().flat_map(|it| it.versions()).collect::<Vec<_>>()
    );
}
