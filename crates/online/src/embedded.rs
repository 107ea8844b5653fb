//! The engine in the process: redb, a copy-on-write B+tree in one file.

mod commit;
mod read;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::key::{self, ENTRY_FORMAT};
use crate::lock::DirectoryLock;
use crate::store::{Commit, Committed, GenerationUsage, OnlineStore, Snapshot, Usage};
use crate::{Error, Generation, GenerationId, Options, Result};

/// The format of the whole store, `docs/formats/online-store.md`.
const FORMAT: u32 = 1;
const FILE: &str = "rows.redb";
/// A new store's file until it is whole.
const UNFINISHED: &str = "rows.redb.new";

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const GENERATIONS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("generations");
/// Rows and entities of each generation, kept by [`Embedded::commit`] alone.
const COUNTS: TableDefinition<'_, u32, (u64, u64)> = TableDefinition::new("counts");
const PROGRESS: TableDefinition<'_, (u32, &[u8]), &[u8]> = TableDefinition::new("progress");

/// In [`META`]: the format of the store.
const FORMAT_ENTRY: &str = "format";
/// In [`META`]: counts the changes of [`GENERATIONS`], so that a snapshot knows what it need not parse.
const RECORDS_ENTRY: &str = "records";

/// Rows that one step of dropping or copying takes.
const STEP: usize = 20_000;

#[derive(Debug)]
pub(crate) struct Embedded {
    database: Database,
    path: Arc<Path>,
    records: Arc<Mutex<Records>>,
    _lock: DirectoryLock,
}

/// The records as parsed at some change.
#[derive(Debug, Default)]
struct Records {
    change: u64,
    parsed: Option<Arc<Vec<Generation>>>,
}

impl Embedded {
    pub(crate) fn open(directory: &Path, options: &Options) -> Result<Embedded> {
        std::fs::create_dir_all(directory).map_err(|error| io_error("create", directory, &error))?;
        let lock = DirectoryLock::take(directory)?;
        let file = directory.join(FILE);
        if !file.exists() {
            make(directory, &file)?;
        }
        let fail = |error: redb::Error| store_error("open", directory, error);
        let database = redb::Builder::new()
            .set_cache_size(options.cache)
            .open(&file)
            .map_err(|error| fail(error.into()))?;
        make_tables(&database, directory)?;
        // The file's own entry, and its folders', must be as durable as what is acknowledged in it. Asked at
        // every start: who made them may have been killed before.
        for folder in directory.ancestors().take(3) {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            match File::open(folder).and_then(|folder| folder.sync_all()) {
                // The outermost may be another's, who lets us pass and not look.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                synced => synced.map_err(|error| io_error("create", directory, &error))?,
            }
        }
        let path = directory.into();
        Ok(Embedded { database, path, records: Arc::default(), _lock: lock })
    }

    fn fail<E: Into<redb::Error>>(&self, doing: &'static str) -> impl Fn(E) -> Error + Copy + '_ {
        move |error| store_error(doing, &self.path, error.into())
    }

    fn damaged(&self, what: &str) -> Error {
        Error::Damaged { path: self.path.display().to_string(), what: what.to_owned() }
    }
}

impl OnlineStore for Embedded {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(read::View::open(self)?))
    }

    fn commit(&self, commit: &Commit<'_>) -> Result<Committed> {
        commit::apply(self, commit)
    }

    fn drop_generation(&self, id: GenerationId) -> Result<()> {
        commit::drop_generation(self, id)
    }

    fn usage(&self) -> Result<Usage> {
        let transaction = self.database.begin_read().map_err(self.fail("read"))?;
        let counts = transaction.open_table(COUNTS).map_err(self.fail("read"))?;
        let mut generations = Vec::new();
        for entry in counts.iter().map_err(self.fail("read"))? {
            let (id, count) = entry.map_err(self.fail("read"))?;
            let (rows, keys) = count.value();
            generations.push(GenerationUsage { id: GenerationId(id.value()), rows, keys });
        }
        let file = self.path.join(FILE);
        let bytes = file.metadata().map_err(|error| io_error("measure", &self.path, &error))?.len();
        Ok(Usage { bytes, generations })
    }

    fn backup(&self, to: &Path) -> Result<()> {
        if to.exists() {
            let mut entries = to.read_dir().map_err(|error| io_error("back up to", to, &error))?;
            if entries.next().is_some() {
                return Err(Error::BackupExists { path: to.display().to_string() });
            }
        }
        read::copy(self, to)
    }
}

/// Makes a new store's file under another name and gives it its own when it is whole and durable: redb
/// itself would leave, killed in this moment, a file that it does not open again.
fn make(directory: &Path, file: &Path) -> Result<()> {
    let io = |error: std::io::Error| io_error("create", directory, &error);
    let unfinished = directory.join(UNFINISHED);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let database = Database::create(&unfinished).map_err(|e| store_error("create", directory, e.into()))?;
    make_tables(&database, directory)?;
    drop(database);
    File::open(&unfinished).and_then(|made| made.sync_all()).map_err(io)?;
    std::fs::rename(&unfinished, file).map_err(io)?;
    // The file's own entry must be as durable as what is acknowledged in it.
    let parents = directory.ancestors().take(2);
    for folder in parents.filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    }
    Ok(())
}

/// Makes the tables of a new store, and refuses one of a newer format.
fn make_tables(database: &Database, path: &Path) -> Result<()> {
    let fail = |error: redb::Error| store_error("open", path, error);
    let transaction = database.begin_write().map_err(|error| fail(error.into()))?;
    {
        let mut meta = transaction.open_table(META).map_err(|error| fail(error.into()))?;
        let found = meta.get(FORMAT_ENTRY).map_err(|error| fail(error.into()))?.map(|found| found.value());
        match found {
            None => {
                meta.insert(FORMAT_ENTRY, u64::from(FORMAT)).map_err(|error| fail(error.into()))?;
            }
            Some(found) if found > u64::from(FORMAT) => {
                let found = u32::try_from(found).unwrap_or(u32::MAX);
                return Err(Error::Newer { path: path.display().to_string(), found, known: FORMAT });
            }
            Some(_) => return Ok(()),
        }
        transaction.open_table(ROWS).map_err(|error| fail(error.into()))?;
        transaction.open_table(GENERATIONS).map_err(|error| fail(error.into()))?;
        transaction.open_table(COUNTS).map_err(|error| fail(error.into()))?;
        transaction.open_table(PROGRESS).map_err(|error| fail(error.into()))?;
    }
    transaction.commit().map_err(|error| fail(error.into()))
}

/// What all keys of a generation lie between.
fn generation_range(id: GenerationId) -> (Vec<u8>, Vec<u8>) {
    let start = id.0.to_be_bytes().to_vec();
    let end = id.0.checked_add(1).map_or_else(|| vec![0xFF; 5], |next| next.to_be_bytes().to_vec());
    (start, end)
}

fn io_error(doing: &'static str, path: &Path, error: &std::io::Error) -> Error {
    let path = path.display().to_string();
    match error.kind() {
        std::io::ErrorKind::StorageFull
        | std::io::ErrorKind::QuotaExceeded
        | std::io::ErrorKind::FileTooLarge => Error::Full { path, reserve: 0 },
        _ => Error::Io { doing, path, reason: error.to_string() },
    }
}

fn store_error(doing: &'static str, path: &Path, error: redb::Error) -> Error {
    match error {
        redb::Error::Io(error) => io_error(doing, path, &error),
        redb::Error::DatabaseAlreadyOpen => Error::Owned { path: path.display().to_string(), holder: None },
        redb::Error::PreviousIo => Error::Io {
            doing,
            path: path.display().to_string(),
            reason: "an earlier write failed; it is sound again after a restart".to_owned(),
        },
        redb::Error::UpgradeRequired(found) => Error::Damaged {
            path: path.display().to_string(),
            what: format!("its file has the old format {found}"),
        },
        redb::Error::ValueTooLarge(_) => Error::TooLong { what: "a row's values", limit: 3 << 30 },
        error => Error::Damaged { path: path.display().to_string(), what: error.to_string() },
    }
}

/// The bytes of an entry's entity prefix, of a key that must have them.
fn prefix_of<'a>(store: &Embedded, key: &'a [u8], entry: &[u8]) -> Result<&'a [u8]> {
    debug_assert_eq!(entry.first(), Some(&ENTRY_FORMAT));
    key::prefix(entry)
        .and_then(|length| key.get(..length))
        .ok_or_else(|| store.damaged("an entry is not a row"))
}
