//! Opening files of every kind, and backing up.

use std::path::Path;
use std::sync::Arc;

use asof_model::{Explain, Kind, Revision};
use asof_registry::{Registry, RegistryError};
use sqlx::{Connection, SqliteConnection};

use crate::fixture::{CountingClock, about, apply, by, entity, open, shop};

async fn refused(path: &Path) -> RegistryError {
    Registry::open(path, Arc::new(CountingClock::default())).await.unwrap_err()
}

pub(crate) async fn execute(path: &Path, sql: &'static str) -> Result<(), sqlx::Error> {
    let mut connection =
        SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    let done = sqlx::raw_sql(sql).execute(&mut connection).await.map(drop);
    connection.close().await.unwrap();
    done
}

#[tokio::test]
async fn a_newer_registry_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    open(&path).await.close().await;
    execute(
        &path,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'of the future', 1, x'00', 0)",
    )
    .await
    .unwrap();
    let error = refused(&path).await;
    assert_eq!(error.code(), "registry_newer");
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(
        error.to_string().contains("version 99 of its tables; this program knows up to version 3"),
        "{error}"
    );
}

#[tokio::test]
async fn something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.db");
    std::fs::write(&text, "x".repeat(5000)).unwrap();
    assert_eq!(refused(&text).await.code(), "not_a_registry");
    let other = folder.path().join("other.db");
    execute(&other, "CREATE TABLE notes (note TEXT)").await.unwrap();
    assert_eq!(refused(&other).await.code(), "not_a_registry");
}

#[tokio::test]
async fn a_damaged_registry_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let registry = open(&path).await;
    registry.apply(&by("ann"), apply("shop", Revision(0), shop())).await.unwrap();
    let copy = folder.path().join("copy.db");
    registry.backup(&copy).await.unwrap();
    let mut bytes = std::fs::read(&copy).unwrap();
    for page in bytes.chunks_mut(4096).skip(1) {
        page[..16].fill(0xff);
    }
    std::fs::write(&copy, bytes).unwrap();
    let error = refused(&copy).await;
    assert_eq!(error.code(), "registry_damaged", "{error}");

    let edited = folder.path().join("edited.db");
    registry.backup(&edited).await.unwrap();
    execute(&edited, "DROP TRIGGER version_is_immutable; UPDATE version SET body = '{}'").await.unwrap();
    assert_eq!(refused(&edited).await.code(), "registry_damaged");
}

/// The database itself refuses to alter what was agreed.
#[tokio::test]
async fn versions_cannot_be_altered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let registry = open(&path).await;
    registry.apply(&by("ann"), apply("shop", Revision(0), shop())).await.unwrap();
    registry.close().await;
    for sql in [
        "UPDATE version SET body = '{}'",
        "DELETE FROM version",
        "UPDATE change SET by = 'eve'",
        "DELETE FROM change",
    ] {
        let error = execute(&path, sql).await.unwrap_err();
        assert!(error.to_string().contains("is never"), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_busy_registry_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let writer = registry.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        for i in 0..30 {
            let base = writer.catalog().revision;
            let pair = vec![
                entity("shop", &format!("a{i}"), about("", "", &[])),
                entity("shop", &format!("b{i}"), about("", "", &[])),
            ];
            writer.apply(&by("ann"), apply("shop", base, pair)).await.unwrap();
        }
    });
    for i in 0..5 {
        let to = folder.path().join(format!("backups/{i}.db"));
        let before = registry.catalog().revision;
        registry.backup(&to).await.unwrap();
        assert_eq!(registry.backup(&to).await.unwrap_err().code(), "backup_exists");
        let copy = open(&to).await.catalog();
        assert!(copy.revision >= before);
        let things: usize = copy.projects.values().map(|it| it.entities.len()).sum();
        assert_eq!(things as u64, 2 * copy.revision.0, "half a change in a backup");
    }
    tasks.join_next().await.unwrap().unwrap();
}

/// What stands in the file is the form that docs/formats/definition.md describes.
#[tokio::test]
async fn bodies_are_versions_in_their_stored_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.db");
    let registry = open(&path).await;
    registry.apply(&by("ann"), apply("shop", Revision(0), shop())).await.unwrap();
    let mut connection =
        SqliteConnection::connect(&format!("sqlite://{}?mode=ro", path.display())).await.unwrap();
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT format, body FROM version").fetch_all(&mut connection).await.unwrap();
    let mut bodies: Vec<String> = rows.iter().map(|(_, body)| body.clone()).collect();
    let mut expected: Vec<String> = shop().iter().map(asof_model::Version::to_json).collect();
    bodies.sort();
    expected.sort();
    assert_eq!(bodies, expected);
    assert!(rows.iter().all(|(format, body)| body.contains(&format!("\"format\":{format},"))));
}
