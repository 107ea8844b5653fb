//! Runs and training sets.

use std::collections::BTreeMap;

use asof_model::Explain;
use asof_model::{
    Address, Ask, Cut, FileFormat, OnImmature, OnNullKey, OnOverflow, Outcome, Principal, Question, Recipe,
    Revision, SourceCut, SpineRecord, StoredSelection, VersionId, VisibleTimes,
};
use asof_registry::{NewRun, RegistryError, RunError, RunKind, RunState};

use crate::fixture::{name, open};

pub(crate) fn recipe() -> Recipe {
    Recipe {
        revision: Revision(1),
        ask: Ask::Service("model".to_owned()),
        full_names: false,
        service: None,
        selection: StoredSelection {
            readings: vec![],
            columns: vec![],
            request: vec![],
            steps: vec![],
            labels: vec![],
        },
        views: vec![],
        derived: vec![],
        sources: vec![],
        roots: BTreeMap::new(),
        spine: SpineRecord {
            hash: "00".repeat(32),
            rows: 3,
            bytes: 100,
            format: FileFormat::Csv,
            time_column: "at".to_owned(),
            time_unit: None,
            name: Some("labels.csv".to_owned()),
            sql: None,
        },
        question: Question::Known,
        on_null_key: OnNullKey::Keep,
        on_overflow: OnOverflow::Refuse,
        on_immature: OnImmature::Keep,
        asked_at: None,
        cuts: vec![],
        code_version: "0.1.0".to_owned(),
        output: FileFormat::Parquet,
    }
}

pub(crate) fn outcome() -> Outcome {
    Outcome {
        rows: 3,
        dropped: 0,
        columns: vec![],
        content_hash: "11".repeat(32),
        counts: vec![],
        labels: vec![],
        warnings: vec![],
    }
}

#[tokio::test]
async fn a_training_set_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let registry = open(&path).await;
    let owner = Principal::owner();
    let shop = name("shop");
    let first = registry.record_training_set(&owner, &shop, recipe(), outcome()).await.unwrap();
    let second = registry.record_training_set(&owner, &shop, recipe(), outcome()).await.unwrap();
    assert_ne!(first.id, second.id);
    let registry = open(&path).await;
    assert_eq!(registry.training_set(&owner, &first.id).await.unwrap(), first);
    assert_eq!(registry.training_set(&owner, &first.id[..8]).await.unwrap(), first);
    let all = registry.training_sets(&owner, &shop).await.unwrap();
    let listed: Vec<_> = all.iter().map(|it| (it.id.as_str(), it.question, it.rows, it.columns)).collect();
    assert_eq!(listed, [&second, &first].map(|it| (it.id.as_str(), it.recipe.question, 3, 0)));
    assert_eq!(registry.training_set_ids(&owner, &shop).await.unwrap(), [second.id, first.id.clone()]);
    let mut mistyped = first.id.clone();
    mistyped.replace_range(0..1, "x");
    let error = registry.training_set(&owner, &mistyped).await.unwrap_err();
    assert_eq!(error.code(), "training_set_not_found");
    assert_eq!(error.hint(), Some(format!("did you mean `{}`?", first.id)));
    let stranger = Principal { name: "eve".to_owned(), projects: Some(vec![]) };
    assert_eq!(
        registry.training_set(&stranger, &first.id).await.unwrap_err().code(),
        "training_set_not_found"
    );
}

/// Lists and queries see what there is; only who asks for one set reads its record.
#[tokio::test]
async fn the_greatest_position_of_any_cut_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let project = name("shop");
    assert_eq!(registry.greatest_position().await.unwrap(), 0);
    let source = |cut| SourceCut {
        source: Address { project: project.clone(), name: name("orders") },
        source_id: VersionId("1".repeat(32)),
        visible: VisibleTimes::Recorded,
        cut,
    };
    let stored = |position| source(Cut::Stored { position, table_version: 900, past: None });
    let owner = Principal::owner();
    for (cuts, expected) in [
        (vec![stored(7)], 7),
        (vec![source(Cut::Sql(vec![stored(5), stored(40)])), stored(6)], 40),
        (vec![source(Cut::Files(vec![]))], 40),
    ] {
        let recipe = Recipe { cuts, ..recipe() };
        registry.record_training_set(&owner, &project, recipe, outcome()).await.unwrap();
        assert_eq!(registry.greatest_position().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_record_is_read_only_where_it_is_asked_for() {
    use sqlx::{ConnectOptions as _, Connection as _};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let registry = open(&path).await;
    let (owner, shop) = (Principal::owner(), name("shop"));
    let set = registry.record_training_set(&owner, &shop, recipe(), outcome()).await.unwrap();
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::raw_sql(
        r#"INSERT INTO training_set (id, project, created_at, created_by, content_hash, row_count, format, body)
           VALUES ('0123456789ab', 'shop', 9000000000000000, 'ann', '00', 7, 99,
                   '{"recipe": {"question": "event"}, "outcome": {"columns": [1, 2]}}')"#,
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let ids = registry.training_set_ids(&owner, &shop).await.unwrap();
    assert_eq!(ids, ["0123456789ab".to_owned(), set.id.clone()]);
    let listed = registry.training_sets(&owner, &shop).await.unwrap();
    let told: Vec<_> = listed.iter().map(|it| (it.question, it.rows, it.columns)).collect();
    assert_eq!(told, [(Question::Event, 7, 2), (Question::Known, 3, 0)]);
    assert_eq!(registry.training_set(&owner, &set.id).await.unwrap(), set);
    let error = registry.training_set(&owner, "0123456789ab").await.unwrap_err();
    assert!(matches!(error, RegistryError::NewerRecord { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_run_ends_once() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let owner = Principal::owner();
    let new = |id: Option<&str>| NewRun {
        id: id.map(str::to_owned),
        project: name("shop"),
        kind: RunKind::Train,
        subject: "model".to_owned(),
    };
    let id = registry.start_run(&owner, new(Some("mine"))).await.unwrap();
    assert_eq!(id, "mine");
    assert_eq!(registry.start_run(&owner, new(Some("mine"))).await.unwrap_err().code(), "id_exists");
    assert_eq!(registry.run("mine").await.unwrap().state, RunState::Running);
    registry.finish_run("mine", None, BTreeMap::from([("rows".to_owned(), u64::MAX)])).await.unwrap();
    let run = registry.run("mine").await.unwrap();
    assert_eq!((run.state, run.counts["rows"]), (RunState::Done, u64::MAX));
    assert!(run.ended_at.unwrap() > run.started_at);
    let again = registry.finish_run("mine", None, BTreeMap::new()).await.unwrap_err();
    assert!(matches!(again, RegistryError::NotRunning { state: "done", .. }));

    let failed = registry.start_run(&owner, new(None)).await.unwrap();
    let why = RunError::of(&again);
    registry.finish_run(&failed, Some(why.clone()), BTreeMap::new()).await.unwrap();
    assert_eq!(registry.run(&failed).await.unwrap().error, Some(why));
    let lost = registry.start_run(&owner, new(None)).await.unwrap();
    assert_eq!(registry.interrupt_runs().await.unwrap(), 1);
    assert_eq!(registry.run(&lost).await.unwrap().state, RunState::Interrupted);
    let ids: Vec<String> =
        registry.runs(&name("shop"), 10).await.unwrap().into_iter().map(|run| run.id).collect();
    assert_eq!(ids, [lost, failed, "mine".to_owned()]);
    assert_eq!(registry.run("nobody").await.unwrap_err().code(), "run_not_found");
}

#[tokio::test]
async fn what_it_holds_is_tables() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let owner = Principal::owner();
    let shop = name("shop");
    registry.apply(&owner, crate::fixture::apply("shop", Revision(0), crate::fixture::shop())).await.unwrap();
    registry.record_training_set(&owner, &shop, recipe(), outcome()).await.unwrap();
    let run = NewRun { id: None, project: shop.clone(), kind: RunKind::Load, subject: "events".to_owned() };
    registry.start_run(&owner, run).await.unwrap();
    let tables = registry.system_tables(&owner, &shop).await.unwrap();
    let told: Vec<(&str, usize)> = tables.iter().map(|it| (it.name, it.rows.len())).collect();
    assert_eq!(told, [("things", 4), ("features", 2), ("versions", 4), ("runs", 1), ("training_sets", 1)]);
    for table in &tables {
        for row in &table.rows {
            let names: Vec<&String> = row.as_object().unwrap().keys().collect();
            assert_eq!(names.len(), table.columns.len(), "{}", table.name);
            assert!(names.iter().all(|it| table.columns.iter().any(|column| column.name == **it)));
        }
    }
    let ads = Principal { name: "ads".to_owned(), projects: Some(vec![name("ads")]) };
    let tables = registry.system_tables(&ads, &name("ads")).await.unwrap();
    assert!(tables.iter().all(|it| it.rows.is_empty()));
    assert!(registry.system_tables(&ads, &shop).await.is_err());
}
