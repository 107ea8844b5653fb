//! Snapshots, and copying one into another store.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable};

use asof_model::Timestamp;

use super::{COUNTS, Embedded, GENERATIONS, META, PROGRESS, RECORDS_ENTRY, ROWS, Records, STEP, store_error};
use crate::store::{Found, Snapshot, Wanted};
use crate::{Error, Generation, GenerationId, Options, Result, key};

/// One read transaction.
pub(super) struct View {
    transaction: ReadTransaction,
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    path: Arc<Path>,
    records: Arc<Mutex<Records>>,
}

impl View {
    pub(super) fn open(store: &Embedded) -> Result<View> {
        let transaction = store.database.begin_read().map_err(store.fail("read"))?;
        let rows = transaction.open_table(ROWS).map_err(store.fail("read"))?;
        Ok(View { transaction, rows, path: Arc::clone(&store.path), records: Arc::clone(&store.records) })
    }

    fn fail<E: Into<redb::Error>>(&self) -> impl Fn(E) -> Error + Copy + '_ {
        move |error| store_error("read", &self.path, error.into())
    }

    fn damaged(&self, what: &str) -> Error {
        Error::Damaged { path: self.path.display().to_string(), what: what.to_owned() }
    }
}

impl Snapshot for View {
    fn latest_many(
        &self,
        wanted: &mut dyn Iterator<Item = Wanted<'_>>,
        at: Timestamp,
        found: &mut dyn FnMut(usize, Option<Found<'_>>) -> Result<()>,
    ) -> Result<()> {
        let mut start = Vec::with_capacity(64);
        for (position, wanted) in wanted.enumerate() {
            start.clear();
            key::put_prefix(wanted.generation, wanted.key, &mut start);
            let prefix = start.len();
            key::put_time(at, &mut start);
            let mut range = self.rows.range::<&[u8]>(start.as_slice()..).map_err(self.fail())?;
            let mut answered = false;
            for entry in range.by_ref() {
                let (row_key, entry) = entry.map_err(self.fail())?;
                let row_key = row_key.value();
                if !row_key.starts_with(start.get(..prefix).unwrap_or_default()) {
                    break;
                }
                let (row, next_version) = key::row(row_key, prefix, entry.value())
                    .ok_or_else(|| self.damaged("an entry is not a row"))?;
                if row.visible_at <= at && next_version.is_none_or(|next| at < next) {
                    found(position, Some(row))?;
                    answered = true;
                    break;
                }
            }
            if !answered {
                found(position, None)?;
            }
        }
        Ok(())
    }

    fn generations(&self) -> Result<Arc<Vec<Generation>>> {
        let meta = self.transaction.open_table(META).map_err(self.fail())?;
        let change = meta.get(RECORDS_ENTRY).map_err(self.fail())?.map_or(0, |change| change.value());
        {
            let cached = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(parsed) = &cached.parsed
                && cached.change == change
            {
                return Ok(Arc::clone(parsed));
            }
        }
        let table = self.transaction.open_table(GENERATIONS).map_err(self.fail())?;
        let mut parsed = Vec::new();
        for entry in table.iter().map_err(self.fail())? {
            let (_, record) = entry.map_err(self.fail())?;
            let record: Generation = serde_json::from_slice(record.value())
                .map_err(|error| self.damaged(&format!("a generation's record cannot be read: {error}")))?;
            if record.format > Generation::FORMAT {
                let path = self.path.display().to_string();
                return Err(Error::Newer { path, found: record.format, known: Generation::FORMAT });
            }
            parsed.push(record);
        }
        let parsed = Arc::new(parsed);
        let mut cached = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.change <= change {
            *cached = Records { change, parsed: Some(Arc::clone(&parsed)) };
        }
        Ok(parsed)
    }

    fn progress(&self, id: GenerationId) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let table = self.transaction.open_table(PROGRESS).map_err(self.fail())?;
        let mut found = Vec::new();
        for entry in table.range((id.0, &[][..])..).map_err(self.fail())? {
            let (unit, said) = entry.map_err(self.fail())?;
            let (generation, unit) = unit.value();
            if generation != id.0 {
                break;
            }
            found.push((unit.to_vec(), said.value().to_vec()));
        }
        Ok(found)
    }
}

/// Copies what a snapshot holds into a new store.
pub(super) fn copy(store: &Embedded, to: &Path) -> Result<()> {
    let from = store.database.begin_read().map_err(store.fail("read"))?;
    let target = Embedded::open(to, &Options::default())?;
    let rows = from.open_table(ROWS).map_err(store.fail("read"))?;
    let mut rest = rows.iter().map_err(store.fail("read"))?;
    loop {
        let transaction = target.database.begin_write().map_err(target.fail("back up to"))?;
        let mut copied = 0;
        {
            let mut table = transaction.open_table(ROWS).map_err(target.fail("back up to"))?;
            for entry in rest.by_ref().take(STEP) {
                let (key, entry) = entry.map_err(store.fail("read"))?;
                table.insert(key.value(), entry.value()).map_err(target.fail("back up to"))?;
                copied += 1;
            }
        }
        if copied < STEP {
            // What makes the rows readable goes last, with the last of them.
            copy_records(store, &from, &target, &transaction)?;
            return transaction.commit().map_err(target.fail("back up to"));
        }
        transaction.commit().map_err(target.fail("back up to"))?;
    }
}

fn copy_records(
    store: &Embedded,
    from: &ReadTransaction,
    target: &Embedded,
    to: &redb::WriteTransaction,
) -> Result<()> {
    let read = store.fail("read");
    let write = target.fail("back up to");
    macro_rules! copy {
        ($table:expr) => {{
            let source = from.open_table($table).map_err(store.fail("read"))?;
            let mut copy = to.open_table($table).map_err(target.fail("back up to"))?;
            for entry in source.iter().map_err(|error| read(redb::Error::from(error)))? {
                let (key, value) = entry.map_err(|error| read(redb::Error::from(error)))?;
                copy.insert(key.value(), value.value()).map_err(|error| write(redb::Error::from(error)))?;
            }
        }};
    }
    copy!(META);
    copy!(GENERATIONS);
    copy!(COUNTS);
    copy!(PROGRESS);
    Ok(())
}
