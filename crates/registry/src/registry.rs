//! Opening the file, the cached catalog, the one writer, and the backup.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use asof_model::{Catalog, Clock, Name, Principal};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Row, SqlSafeStr, SqliteConnection};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{RegistryError, Result, record};

/// How long a write waits for another process that holds the file.
const PATIENCE: Duration = Duration::from_secs(30);
/// "ASOF", in the header of the file.
const APPLICATION_ID: i64 = 0x4153_4f46;

/// The registry of one data directory. Cloning it is cheap; all clones share one file.
#[derive(Debug, Clone)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pool: SqlitePool,
    catalog: watch::Sender<Arc<Catalog>>,
    /// Held by the one write in progress, so that writers of this process queue in order.
    writer: tokio::sync::Mutex<()>,
    /// A commit failed: what is on the disk is not known until the file is opened again.
    stopped: AtomicBool,
    /// Writes run to their end here even where their caller went away.
    tasks: TaskTracker,
}

/// What one write did, inside its transaction.
pub(crate) struct Written<T> {
    pub(crate) value: T,
    /// The catalog it makes, published once it is on the disk.
    pub(crate) catalog: Option<Arc<Catalog>>,
}

pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<Written<T>>> + Send + 'c>>;

fn migrations() -> Migrator {
    let step = |version: i64, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        step(1, "start", include_str!("../migrations/0001_start.sql")),
        step(2, "derived", include_str!("../migrations/0002_derived.sql")),
        step(3, "positions", include_str!("../migrations/0003_positions.sql")),
    ])
}

impl Registry {
    /// Opens the registry in this file, making it and its folder where they are missing, and brings
    /// its tables up to this program's version.
    ///
    /// # Errors
    /// [`RegistryError::Newer`] where a newer program wrote it, [`RegistryError::NotARegistry`] where
    /// it is something else, [`RegistryError::Damaged`] where its content does not hold together.
    pub async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Registry> {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_folder(folder)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE);
        bring_up(path, &options).await?;
        sync(folder)?;
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(PATIENCE)
            .connect_with(options)
            .await
            .map_err(RegistryError::storage("opening its file"))?;
        let mut connection = pool.acquire().await.map_err(RegistryError::storage("opening its file"))?;
        let catalog = record::catalog(&mut connection, path).await?;
        drop(connection);
        tracing::debug!(revision = catalog.revision.0, projects = catalog.projects.len(), "registry opened");
        let inner = Inner {
            path: path.to_owned(),
            clock,
            pool,
            catalog: watch::Sender::new(Arc::new(catalog)),
            writer: tokio::sync::Mutex::new(()),
            stopped: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        };
        Ok(Registry { inner: Arc::new(inner) })
    }

    /// Everything agreed, as of the newest apply through this registry. Costs a reference count.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.inner.catalog.borrow().clone()
    }

    /// Sees every new catalog.
    pub fn watch(&self) -> watch::Receiver<Arc<Catalog>> {
        self.inner.catalog.subscribe()
    }

    /// Reads the catalog again, for a file that another process may have written.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn refresh(&self) -> Result<Arc<Catalog>> {
        let mut connection = self.reader("reading the catalog").await?;
        let catalog = Arc::new(record::catalog(&mut connection, &self.inner.path).await?);
        self.publish(&catalog);
        Ok(self.catalog())
    }

    /// Copies the registry as it stands into a new file, whole or not at all, while it is in use.
    ///
    /// # Errors
    /// [`RegistryError::BackupExists`] where the file exists.
    pub async fn backup(&self, to: &Path) -> Result<()> {
        if to.exists() {
            return Err(RegistryError::BackupExists { path: to.to_owned() });
        }
        let folder = to.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_folder(folder)?;
        let mut partial = to.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        if partial.exists() {
            std::fs::remove_file(&partial).map_err(file("removing", &partial))?;
        }
        let text =
            partial.to_str().ok_or_else(|| RegistryError::NotARegistry { path: partial.clone() })?.to_owned();
        let mut connection = self.reader("backing up").await?;
        sqlx::query("VACUUM INTO ?")
            .bind(text)
            .execute(&mut *connection)
            .await
            .map_err(RegistryError::storage("backing up"))?;
        File::open(&partial).and_then(|it| it.sync_all()).map_err(file("writing", &partial))?;
        // A link and not a rename: of two backups to one name one is refused, none is overwritten.
        std::fs::hard_link(&partial, to).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => RegistryError::BackupExists { path: to.to_owned() },
            _ => RegistryError::File { doing: "writing", path: to.to_owned(), source },
        })?;
        std::fs::remove_file(&partial).map_err(file("removing", &partial))?;
        sync(folder)
    }

    /// Waits for writes in progress and closes the file.
    pub async fn close(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.pool.close().await;
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(crate) async fn reader(
        &self,
        doing: &'static str,
    ) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>> {
        self.inner.pool.acquire().await.map_err(RegistryError::storage(doing))
    }

    /// Runs one write to its end in a task of its own: a caller that goes away halfway leaves
    /// neither half a write nor a stale catalog behind.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection, &'c Registry) -> Work<'c, T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        let task = self.inner.tasks.spawn(async move {
            let written = this.write_now(doing, work).await?;
            if let Some(catalog) = &written.catalog {
                this.publish(catalog);
            }
            Ok(written.value)
        });
        match task.await {
            Ok(done) => done,
            Err(_) => Err(RegistryError::Stopped { path: self.inner.path.clone() }),
        }
    }

    async fn write_now<T>(
        &self,
        doing: &'static str,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection, &'c Registry) -> Work<'c, T> + Send,
    ) -> Result<Written<T>> {
        let _turn = self.inner.writer.lock().await;
        if self.inner.stopped.load(Ordering::Acquire) {
            return Err(RegistryError::Stopped { path: self.inner.path.clone() });
        }
        let mut connection = self.inner.pool.acquire().await.map_err(RegistryError::storage(doing))?;
        let done = self.write_with(&mut connection, doing, work).await;
        if matches!(done, Err(RegistryError::Storage { .. })) {
            // SQLite may have rolled back by itself, of which the connection knows nothing: the next write takes another.
            connection.close_on_drop();
        }
        done
    }

    async fn write_with<T>(
        &self,
        connection: &mut SqliteConnection,
        doing: &'static str,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection, &'c Registry) -> Work<'c, T> + Send,
    ) -> Result<Written<T>> {
        let begun = connection.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(RegistryError::storage(doing))?;
        let done = work(&mut transaction, self).await?;
        if let Err(source) = transaction.commit().await {
            let error = RegistryError::Storage { doing, source };
            // Without room nothing was written that an fsync could have lost: once there is some, it goes on.
            if !error.is_full() {
                self.inner.stopped.store(true, Ordering::Release);
                tracing::error!(%error, doing, "registry commit failed, no more writes");
            }
            return Err(error);
        }
        Ok(done)
    }

    /// Makes a catalog the current one, unless a newer one stands already.
    pub(crate) fn publish(&self, catalog: &Arc<Catalog>) {
        self.inner.catalog.send_if_modified(|standing| {
            let newer = catalog.revision > standing.revision;
            if newer {
                *standing = catalog.clone();
            }
            newer
        });
    }
}

pub(crate) fn may_see(principal: &Principal, project: &Name) -> Result<()> {
    match &principal.projects {
        Some(open) if !open.contains(project) => {
            Err(RegistryError::Forbidden { project: project.clone(), principal: principal.name.clone() })
        }
        _ => Ok(()),
    }
}

/// Checks that the file is ours, whole and not from the future, and runs missing migrations.
async fn bring_up(path: &Path, options: &SqliteConnectOptions) -> Result<()> {
    let opening = |source: sqlx::Error| match &source {
        // SQLITE_NOTADB
        sqlx::Error::Database(it) if it.code().as_deref() == Some("26") => {
            RegistryError::NotARegistry { path: path.to_owned() }
        }
        // SQLITE_CORRUPT
        sqlx::Error::Database(it) if it.code().as_deref() == Some("11") => {
            RegistryError::Damaged { path: path.to_owned(), what: it.message().to_owned() }
        }
        _ => RegistryError::Storage { doing: "opening its file", source },
    };
    let mut connection = SqliteConnection::connect_with(options).await.map_err(opening)?;
    let id: i64 = sqlx::query("PRAGMA application_id")
        .fetch_one(&mut connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(opening)?;
    let tables: i64 =
        sqlx::query("SELECT count(*) FROM sqlite_master WHERE name NOT LIKE '%_sqlx_migrations%'")
            .fetch_one(&mut connection)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(opening)?;
    if id != APPLICATION_ID && (id != 0 || tables > 0) {
        return Err(RegistryError::NotARegistry { path: path.to_owned() });
    }
    let migrations = migrations();
    let known = migrations.iter().map(|it| it.version).max().unwrap_or(0);
    if id == APPLICATION_ID {
        let found: i64 = sqlx::query("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
            .fetch_one(&mut connection)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(opening)?;
        if found > known {
            return Err(RegistryError::Newer { path: path.to_owned(), found, known });
        }
        let health: String = sqlx::query("PRAGMA quick_check(1)")
            .fetch_one(&mut connection)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(opening)?;
        if health != "ok" {
            return Err(RegistryError::Damaged { path: path.to_owned(), what: health });
        }
    }
    migrations.run(&mut connection).await.map_err(|source| match source {
        sqlx::migrate::MigrateError::Execute(source)
        | sqlx::migrate::MigrateError::ExecuteMigration(source, _) => {
            RegistryError::Storage { doing: "bringing its tables up to date", source }
        }
        other => RegistryError::Damaged { path: path.to_owned(), what: other.to_string() },
    })?;
    connection.close().await.map_err(RegistryError::storage("opening its file"))
}

/// Makes a folder and those above it, each entry on the disk before it is built upon.
fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(above)?;
    match std::fs::create_dir(folder) {
        Ok(()) => sync(above),
        Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(RegistryError::File { doing: "making", path: folder.to_owned(), source }),
    }
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|it| it.sync_all()).map_err(file("syncing", folder))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RegistryError {
    let path = path.to_owned();
    move |source| RegistryError::File { doing, path, source }
}
