//! Files of earlier versions open forever.

use std::path::{Path, PathBuf};

use asof_model::{Action, Principal, ThingKind};
use asof_registry::RunState;

use crate::fixture::{apply, by, derived, name, open, shop};
use crate::records::{outcome, recipe};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat")
}

/// `registry-1.db` was written by the first version, by [`writes_the_file_of_this_version`].
#[tokio::test]
async fn a_registry_of_version_1_opens() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("registry.db");
    std::fs::copy(folder().join("registry-1.db"), &path).unwrap();
    let registry = open(&path).await;
    let catalog = registry.catalog();
    assert_eq!(catalog.revision.0, 2);
    let state = &catalog.projects[&name("shop")];
    assert_eq!(state.root, Path::new("/projects/shop"));
    let standing: Vec<_> = state.versions().collect();
    assert_eq!(standing, shop()[..3]);
    let history = registry.history(&name("shop"), ThingKind::Service, &name("model")).await.unwrap();
    let told: Vec<(Action, &str)> = history.iter().map(|it| (it.action, it.by.as_str())).collect();
    assert_eq!(told, [(Action::Removed, "bob"), (Action::Created, "ann")]);
    assert_eq!(history[1].version, shop()[3]);
    let sets = registry.training_sets(&Principal::owner(), &name("shop")).await.unwrap();
    assert_eq!((sets.len(), sets[0].rows), (1, outcome().rows));
    let set = registry.training_set(&Principal::owner(), &sets[0].id).await.unwrap();
    assert_eq!((&set.recipe, &set.outcome), (&recipe(), &outcome()));
    let runs = registry.runs(&name("shop"), 10).await.unwrap();
    assert_eq!((runs[0].id.as_str(), runs[0].state), ("first", RunState::Done));
}

/// The tables of the first version took no derived features.
#[tokio::test]
async fn a_registry_of_version_1_takes_derived_features() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("registry.db");
    std::fs::copy(folder().join("registry-1.db"), &path).unwrap();
    let put = derived("shop", "margins");
    let registry = open(&path).await;
    let base = registry.catalog().revision;
    registry.apply(&by("ann"), apply("shop", base, vec![put.clone()])).await.unwrap();
    registry.close().await;
    let registry = open(&path).await;
    let catalog = registry.catalog();
    let standing: Vec<_> = catalog.projects[&name("shop")].versions().collect();
    assert_eq!(standing, [&shop()[..3], std::slice::from_ref(&put)].concat());
    // What stood before still cannot be altered, and what stands is one row of the versions.
    let history = registry.history(&name("shop"), ThingKind::Derived, &name("margins")).await.unwrap();
    assert_eq!((history.len(), history[0].action, &history[0].version), (1, Action::Created, &put));
    registry.close().await;
    for sql in ["DELETE FROM version", "UPDATE version SET body = '{}'", "UPDATE standing SET revision = 99"]
    {
        crate::opening::execute(&path, sql).await.unwrap_err();
    }
}

/// Training sets of before know their greatest positions, and still cannot be altered.
#[tokio::test]
async fn a_registry_of_version_1_knows_its_positions() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("registry.db");
    std::fs::copy(folder().join("registry-1.db"), &path).unwrap();
    let stored = r#"
        INSERT INTO training_set
        SELECT '0123456789ab', project, created_at, created_by, content_hash, row_count, format,
               json_set(body, '$.recipe.cuts', json('[
                   {"source": {"project": "shop", "name": "orders"}, "cut": {"stored": {"position": 7, "table_version": 900}}},
                   {"cut": {"sql": [{"cut": {"stored": {"position": 40, "table_version": 1}}}]}}
               ]'))
          FROM training_set"#;
    crate::opening::execute(&path, stored).await.unwrap();
    let registry = open(&path).await;
    assert_eq!(registry.greatest_position().await.unwrap(), 40);
    registry.close().await;
    crate::opening::execute(&path, "UPDATE training_set SET position = 1").await.unwrap_err();
}

/// Run by hand when a version of the tables is released:
/// `cargo test -p asof-registry writes_the_file -- --ignored`.
#[tokio::test]
#[ignore = "writes a file that is then kept"]
async fn writes_the_file_of_this_version() {
    use asof_model::Revision;
    use asof_registry::{Apply, NewRun, RunKind};

    let scratch = tempfile::tempdir().unwrap();
    let registry = open(&scratch.path().join("registry.db")).await;
    let first = registry.apply(&by("ann"), apply("shop", Revision(0), shop())).await.unwrap();
    let remove = vec![(ThingKind::Service, name("model"))];
    registry.apply(&by("bob"), Apply { remove, ..apply("shop", first, vec![]) }).await.unwrap();
    registry.record_training_set(&by("ann"), &name("shop"), recipe(), outcome()).await.unwrap();
    let run = NewRun {
        id: Some("first".to_owned()),
        project: name("shop"),
        kind: RunKind::Train,
        subject: "model".to_owned(),
    };
    registry.start_run(&by("ann"), run).await.unwrap();
    registry.finish_run("first", None, [("rows".to_owned(), 3)].into()).await.unwrap();
    std::fs::create_dir_all(folder()).unwrap();
    registry.backup(&folder().join("registry-1.db")).await.unwrap();
}
