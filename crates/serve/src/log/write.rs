//! The files of the serving log: Arrow streams, one after the other for each thing asked for.
//!
//! Rows that are written together are one message of the stream, put to the file at once; what a killed process was
//! about to put is not there, or is a broken end that readers leave out.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::BufWriter;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Fields, Int8Type, Int32Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use asof_compute::arrow_type;
use asof_model::{
    Clock, LOG_FILE_LONGEST, Length, LogHeader, ReadableUnits, Timestamp, log_columns, log_file_begun,
};

use super::{Answered, Logged, Readable};
use crate::{Features, PreparedSelection};

/// A file is ended at about so many bytes.
const LARGEST: usize = 64 << 20;
/// So many files are open at most.
const OPEN: usize = 64;
/// How often old files are looked for, in microseconds.
const FORGET: i64 = 600_000_000;

/// What a feature's status may be.
const STATUSES: [&str; 6] = ["present", "not_found", "expired", "no_key", "null", "overflow"];

/// Appends rows to the files below a folder.
pub(super) struct Writer {
    folder: PathBuf,
    keep: Length,
    clock: Arc<dyn Clock>,
    open: HashMap<PathBuf, Open>,
    looked: Timestamp,
    statuses: ArrayRef,
}

/// A file that is being written.
struct Open {
    writer: StreamWriter<BufWriter<File>>,
    begun: Timestamp,
    written: Timestamp,
    bytes: usize,
}

/// The schema of the files of a selection.
pub(super) fn schema(prepared: &PreparedSelection, header: &str) -> SchemaRef {
    let instant = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let texts = |keys: DataType| DataType::Dictionary(Box::new(keys), Box::new(DataType::Utf8));
    let mut fields = vec![
        Field::new(log_columns::AS_OF, instant(), false),
        Field::new(log_columns::ASKED_AT, instant(), false),
        Field::new(log_columns::POSITION, DataType::Int64, true),
        Field::new(log_columns::CUTS, texts(DataType::Int32), false),
    ];
    let selection = prepared.selection();
    let keys = prepared.keys().iter().map(|key| (key.name.as_str(), arrow_type(&key.data_type)));
    let request = selection.request.iter();
    let request = request.map(|column| (column.name.as_str(), arrow_type(&column.data_type)));
    let features = selection.columns.iter();
    let features = features.map(|column| (column.name.as_str(), arrow_type(&column.data_type)));
    let status = selection.columns.iter().map(|column| (column.name.as_str(), texts(DataType::Int8)));
    let groups: [(&str, Vec<(&str, DataType)>); 4] = [
        (log_columns::KEYS, keys.collect()),
        (log_columns::REQUEST, request.collect()),
        (log_columns::FEATURES, features.collect()),
        (log_columns::STATUS, status.collect()),
    ];
    for (name, columns) in groups.into_iter().filter(|(_, columns)| !columns.is_empty()) {
        let within: Fields = columns.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
        fields.push(Field::new(name, DataType::Struct(within), false));
    }
    let metadata = HashMap::from([(LogHeader::ENTRY.to_owned(), header.to_owned())]);
    Arc::new(Schema::new(fields).with_metadata(metadata))
}

impl Writer {
    pub(super) fn new(folder: PathBuf, keep: Length, clock: Arc<dyn Clock>) -> Writer {
        Writer {
            folder,
            keep,
            looked: clock.now(),
            clock,
            open: HashMap::new(),
            statuses: Arc::new(StringArray::from(STATUSES.to_vec())),
        }
    }

    /// Appends rows; how many are in, and how many are not, with why.
    pub(super) fn write(&mut self, all: Vec<Answered>) -> (u64, Option<(u64, String)>) {
        let mut of: Vec<(Arc<PreparedSelection>, Vec<Answered>)> = Vec::new();
        for answered in all {
            let prepared = answered.features.shared_selection();
            match of.iter_mut().find(|(other, _)| Arc::ptr_eq(other, prepared)) {
                Some((_, some)) => some.push(answered),
                None => of.push((Arc::clone(prepared), vec![answered])),
            }
        }
        let (mut written, mut lost, mut failed) = (0, 0, None);
        for (prepared, some) in of {
            let rows = some.iter().map(|answered| answered.features.entities() as u64).sum::<u64>();
            let done = match prepared.logged() {
                Some(logged) => self.append(logged, &some),
                None => Err("it is not known what was asked".to_owned()),
            };
            match done {
                Ok(()) => written += rows,
                Err(error) => {
                    lost += rows;
                    failed.get_or_insert(error);
                }
            }
        }
        (written, failed.map(|error| (lost, error)))
    }

    fn append(&mut self, logged: &Logged, some: &[Answered]) -> Result<(), String> {
        let batch = batch(logged, some, &self.statuses).map_err(|error| error.to_string())?;
        let now = self.clock.now();
        let mut open = match self.open.remove(&logged.folder) {
            Some(open) => open,
            None => self.begin(logged, now)?,
        };
        let text = |error: ArrowError| error.to_string();
        open.writer.write(&batch).map_err(text)?;
        open.writer.flush().map_err(text)?;
        open.bytes += batch.get_array_memory_size();
        open.written = now;
        self.open.insert(logged.folder.clone(), open);
        Ok(())
    }

    fn begin(&mut self, logged: &Logged, now: Timestamp) -> Result<Open, String> {
        if self.open.len() >= OPEN {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.written).map(|(path, _)| path.clone());
            oldest.and_then(|path| self.open.remove(&path)).into_iter().for_each(Open::end);
        }
        let folder = self.folder.join(&logged.folder);
        let failed = |what: &Path, error: &dyn std::fmt::Display| format!("`{}`: {error}", what.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| failed(&folder, &e))?;
        // A clock that was set back must not write over what is there.
        let names = (0..).map(|number| folder.join(format!("{}-{number}.arrows", now.0)));
        for path in names {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    let file = BufWriter::with_capacity(1 << 20, file);
                    let writer = StreamWriter::try_new(file, &logged.schema);
                    let writer = writer.map_err(|error| failed(&path, &error))?;
                    return Ok(Open { writer, begun: now, written: now, bytes: 0 });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&path, &error)),
            }
        }
        Err(failed(&folder, &"no name is left for a file"))
    }

    /// Ends files that are long or old enough, and lets go of those that need not be kept.
    pub(super) fn turn(&mut self) {
        let now = self.clock.now();
        let ended =
            |open: &Open| open.bytes >= LARGEST || now.0.saturating_sub(open.begun.0) >= LOG_FILE_LONGEST;
        let paths: Vec<PathBuf> =
            self.open.iter().filter(|(_, open)| ended(open)).map(|(path, _)| path.clone()).collect();
        paths.iter().filter_map(|path| self.open.remove(path)).for_each(Open::end);
        if now.0.saturating_sub(self.looked.0) >= FORGET {
            self.looked = now;
            self.forget_old();
        }
    }

    pub(super) fn close(mut self) {
        self.open.drain().for_each(|(_, open)| open.end());
    }

    /// Removes files whose last row is older than is kept, and folders without files.
    pub(super) fn forget_old(&self) {
        let before = self.clock.now().0.saturating_sub(self.keep.micros()).saturating_sub(LOG_FILE_LONGEST);
        let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
        for project in entries(&self.folder) {
            for asked in entries(&project.path()) {
                for file in entries(&asked.path()) {
                    let begun = log_file_begun(&file.file_name().to_string_lossy());
                    if begun.is_some_and(|begun| begun.0 < before)
                        && let Err(error) = std::fs::remove_file(file.path())
                    {
                        tracing::warn!(path = %file.path().display(), %error, "an old file of the serving log stays");
                    }
                }
                // Only of one that is empty this is done.
                drop(std::fs::remove_dir(asked.path()));
            }
        }
    }
}

impl Open {
    fn end(mut self) {
        if let Err(error) = self.writer.finish() {
            tracing::warn!(%error, "a file of the serving log has no end");
        }
    }
}

/// Rows as a table of the log.
fn batch(logged: &Logged, some: &[Answered], statuses: &ArrayRef) -> Result<RecordBatch, ArrowError> {
    let rows = |answered: &Answered| answered.features.entities();
    let instants = |of: &dyn Fn(&Answered) -> i64| -> ArrayRef {
        let each = some.iter().flat_map(|answered| std::iter::repeat_n(of(answered), rows(answered)));
        Arc::new(TimestampMicrosecondArray::from_iter_values(each).with_timezone("UTC"))
    };
    let positions: Int64Array =
        some.iter().flat_map(|answered| std::iter::repeat_n(answered.position, rows(answered))).collect();
    let mut columns = vec![
        instants(&|answered| answered.features.at.0),
        instants(&|answered| answered.asked_at.0),
        Arc::new(positions) as ArrayRef,
        cuts(some)?,
    ];
    for field in logged.schema.fields().iter().skip(columns.len()) {
        let DataType::Struct(within) = field.data_type() else { continue };
        let made = match field.name().as_str() {
            log_columns::KEYS => asked(some, 0, within.len())?,
            log_columns::REQUEST => {
                let keys = some.first().map_or(0, |answered| answered.features.selection().keys().len());
                asked(some, keys, within.len())?
            }
            log_columns::FEATURES => features(some)?,
            _ => status(some, within.len(), statuses)?,
        };
        columns.push(Arc::new(StructArray::try_new(within.clone(), made, None)?));
    }
    RecordBatch::try_new(Arc::clone(&logged.schema), columns)
}

fn together(columns: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
    match columns {
        [only] => Ok(Arc::clone(only)),
        several => concat(&several.iter().map(AsRef::as_ref).collect::<Vec<_>>()),
    }
}

/// So many columns of what was asked, from this one on.
fn asked(some: &[Answered], from: usize, count: usize) -> Result<Vec<ArrayRef>, ArrowError> {
    let column = |number: usize| {
        let of: Vec<ArrayRef> =
            some.iter().filter_map(|answered| answered.asked.get(number).cloned()).collect();
        together(&of)
    };
    (from..from + count).map(column).collect()
}

fn features(some: &[Answered]) -> Result<Vec<ArrayRef>, ArrowError> {
    let mut columns: Vec<Vec<ArrayRef>> = Vec::new();
    for answered in some {
        for (number, column) in answered.features.columns().enumerate() {
            // What is wrong with a value is not to hold it.
            let array =
                column.array().map_err(|_| ArrowError::ComputeError("a value is damaged".to_owned()))?;
            match columns.get_mut(number) {
                Some(of) => of.push(array),
                None => columns.push(vec![array]),
            }
        }
    }
    columns.iter().map(|of| together(of)).collect()
}

fn status(some: &[Answered], count: usize, statuses: &ArrayRef) -> Result<Vec<ArrayRef>, ArrowError> {
    let mut codes: Vec<Vec<Option<i8>>> = vec![Vec::new(); count];
    for answered in some {
        for ((column, told), codes) in
            answered.features.columns().zip(told(&answered.features)).zip(&mut codes)
        {
            match (column.statuses(), told) {
                (Some(own), _) => codes.extend(own.map(code)),
                (None, Some(reading)) => codes.extend(reading.iter().map(|status| code(status.name()))),
                (None, None) => codes.extend(std::iter::repeat_n(None, answered.features.entities())),
            }
        }
    }
    let column = |codes: Vec<Option<i8>>| -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(DictionaryArray::<Int8Type>::try_new(Int8Array::from(codes), Arc::clone(statuses))?))
    };
    codes.into_iter().map(column).collect()
}

/// Of each column the statuses of the reading it is of; none of what is derived.
fn told(features: &Features) -> impl Iterator<Item = Option<&[asof_compute::Status]>> {
    let columns = &features.selection().selection().columns;
    columns.iter().map(|column| {
        let (reading, _) = column.read()?;
        Some(features.readings.get(reading)?.status.as_slice())
    })
}

fn code(status: &str) -> Option<i8> {
    STATUSES.iter().position(|known| *known == status).and_then(|at| i8::try_from(at).ok())
}

/// What was readable, as JSON; the same of several requests once.
fn cuts(some: &[Answered]) -> Result<ArrayRef, ArrowError> {
    let same = |a: &[Readable], b: &[Readable]| {
        a.len() == b.len()
            && a.iter().zip(b).all(|(a, b)| a.generation == b.generation && Arc::ptr_eq(&a.units, &b.units))
    };
    let mut known: Vec<&[Readable]> = Vec::new();
    let mut keys: Vec<i32> = Vec::new();
    for answered in some {
        let found = known.iter().rposition(|known| same(known, &answered.cuts));
        let found = found.unwrap_or_else(|| {
            known.push(&answered.cuts);
            known.len() - 1
        });
        let key = i32::try_from(found).unwrap_or(i32::MAX);
        keys.extend(std::iter::repeat_n(key, answered.features.entities()));
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let json = |cuts: &&[Readable]| {
        let units: Vec<ReadableUnits> = cuts
            .iter()
            .map(|cut| ReadableUnits {
                generation: cut.generation.0,
                units: cut.units.iter().map(|(unit, seen)| (text(unit), text(seen))).collect(),
            })
            .collect();
        serde_json::to_string(&units).map_err(|error| ArrowError::ExternalError(Box::new(error)))
    };
    let values = known.iter().map(json).collect::<Result<Vec<String>, _>>()?;
    let values = Arc::new(StringArray::from(values));
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys), values)?))
}
