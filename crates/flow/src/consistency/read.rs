//! The files of the serving log, read: `docs/formats/serving-log.md`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, StructArray};
use arrow::compute::{filter_record_batch, kernels::cast::cast, max};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::ipc::reader::StreamReader;
use asof_compute::Position;
use asof_model::{
    LOG_FILE_LONGEST, LogHeader, Name, ReadableUnits, SERVING_LOG_FORMAT, Timestamp, log_columns,
    log_file_begun,
};

use crate::{FlowError, Result};

/// A file of the log.
#[derive(Debug, Clone)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    /// Below the folder of the log.
    pub(super) shown: String,
}

/// Rows of one file that were written together, and the number of the first within the file.
#[derive(Debug)]
pub(super) struct LoggedRows {
    pub(super) batch: RecordBatch,
    /// By row, its number in the file, from 1.
    pub(super) numbers: Vec<u64>,
}

/// The files of a project that may hold rows asked since then, by what was asked, each in the order of time.
pub(super) fn files(folder: &Path, project: &Name, since: Option<Timestamp>) -> Vec<LogFile> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(PathBuf, Timestamp, String)> = Vec::new();
    for asked in entries(&folder.join(project.as_str())) {
        for file in entries(&asked.path()) {
            let Some(begun) = log_file_begun(&file.file_name().to_string_lossy()) else { continue };
            let last = begun.0.saturating_add(2 * LOG_FILE_LONGEST);
            if since.is_none_or(|since| last >= since.0) {
                let below = file.path().strip_prefix(folder).map(Path::to_owned).unwrap_or_default();
                found.push((file.path(), begun, below.to_string_lossy().into_owned()));
            }
        }
    }
    found.sort_by(|a, b| (a.0.parent(), a.1, &a.0).cmp(&(b.0.parent(), b.1, &b.0)));
    found.into_iter().map(|(path, _, shown)| LogFile { path, shown }).collect()
}

/// The greatest position that any row of the log names: none that is given from now on may be one of those, or the row
/// would be answered again with other rows where the store that gave them was lost. Of what was asked only its newest files
/// with rows are read, since positions ascend; rows of two requests at once may lie on either side of where one begins.
pub fn greatest_logged_position(folder: &Path) -> Position {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let projects = entries.filter_map(|entry| Name::new(entry.file_name().into_string().ok()?).ok());
    let mut greatest = Position(0);
    for project in projects {
        let files = files(folder, &project, None);
        for asked in files.chunk_by(|one, other| one.path.parent() == other.path.parent()) {
            let last = asked.iter().rev().filter_map(last_position).take(2);
            greatest = last.fold(greatest, |greatest, found| greatest.max(Position(found)));
        }
    }
    greatest
}

/// The greatest position of a file's rows; none without any, or where it cannot be read.
fn last_position(file: &LogFile) -> Option<i64> {
    let open = |only| StreamReader::try_new(BufReader::new(File::open(&file.path).ok()?), only).ok();
    let column = open(None)?.schema().index_of(log_columns::POSITION).ok()?;
    let batches = open(Some(vec![column]))?.map_while(std::result::Result::ok);
    let positions = batches.filter_map(|batch| max(batch.column(0).as_primitive_opt::<Int64Type>()?));
    positions.max()
}

/// A file being read.
pub(super) struct Reading {
    reader: StreamReader<BufReader<File>>,
    pub(super) header: LogHeader,
    file: LogFile,
    row: u64,
    /// Its end is broken: who wrote it was killed.
    pub(super) broken: bool,
}

impl Reading {
    /// None of a file that ends before it says what it is of.
    pub(super) fn open(file: &LogFile) -> Result<Option<Reading>> {
        let io = |error: &dyn std::fmt::Display| FlowError::ServingLog {
            file: file.shown.clone(),
            reason: error.to_string(),
        };
        let opened = File::open(&file.path).map_err(|error| io(&error))?;
        let Ok(reader) = StreamReader::try_new(BufReader::new(opened), None) else { return Ok(None) };
        let schema = reader.schema();
        let text = schema.metadata().get(LogHeader::ENTRY).ok_or_else(|| io(&"it is no file of the log"))?;
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let found: Format = serde_json::from_str(text).map_err(|error| io(&error))?;
        if found.format > SERVING_LOG_FORMAT {
            return Err(io(&format!(
                "it has format {}; this Asof reads up to {SERVING_LOG_FORMAT}",
                found.format
            )));
        }
        let header = serde_json::from_str(text).map_err(|error| io(&error))?;
        Ok(Some(Reading { reader, header, file: file.clone(), row: 0, broken: false }))
    }

    /// The next rows asked since then; none after the last.
    pub(super) fn next(&mut self, since: Option<Timestamp>) -> Result<Option<LoggedRows>> {
        loop {
            let batch = match self.reader.next() {
                None => return Ok(None),
                Some(Ok(batch)) => batch,
                Some(Err(_)) => {
                    self.broken = true;
                    return Ok(None);
                }
            };
            let first = self.row + 1;
            self.row += batch.num_rows() as u64;
            let numbers = first..=self.row;
            let Some(since) = since else {
                return Ok(Some(LoggedRows { batch, numbers: numbers.collect() }));
            };
            let asked_at = times(&batch, log_columns::ASKED_AT).ok_or_else(|| self.lacks())?;
            let keep: BooleanArray = asked_at.iter().map(|at| Some(*at >= since.0)).collect();
            if !keep.has_true() {
                continue;
            }
            let numbers = numbers.zip(keep.iter()).filter(|(_, keep)| *keep == Some(true));
            let numbers = numbers.map(|(number, _)| number).collect();
            let batch = filter_record_batch(&batch, &keep).map_err(|error| FlowError::ServingLog {
                file: self.file.shown.clone(),
                reason: error.to_string(),
            })?;
            return Ok(Some(LoggedRows { batch, numbers }));
        }
    }

    fn lacks(&self) -> FlowError {
        FlowError::ServingLog { file: self.file.shown.clone(), reason: "it lacks a column".to_owned() }
    }
}

fn times(batch: &RecordBatch, name: &str) -> Option<Vec<i64>> {
    let column = batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()?;
    Some(column.values().to_vec())
}

/// What of rows of the log is not keys, features or statuses.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) as_of: Vec<Timestamp>,
    pub(super) position: Vec<Option<i64>>,
    /// By row, which of the cuts that were collected it was answered from.
    pub(super) cut: Vec<usize>,
}

/// The cuts that rows name, each once.
#[derive(Debug, Default)]
pub(super) struct KnownCuts {
    by_text: BTreeMap<String, usize>,
    pub(super) all: Vec<Vec<ReadableUnits>>,
}

impl KnownCuts {
    fn number(&mut self, text: &str) -> Option<usize> {
        if let Some(known) = self.by_text.get(text) {
            return Some(*known);
        }
        self.all.push(serde_json::from_str(text).ok()?);
        self.by_text.insert(text.to_owned(), self.all.len() - 1);
        Some(self.all.len() - 1)
    }
}

/// None where a column is not as it is written.
pub(super) fn told(batch: &RecordBatch, cuts: &mut KnownCuts) -> Option<Told> {
    let as_of = times(batch, log_columns::AS_OF)?.into_iter().map(Timestamp).collect();
    let position: &Int64Array =
        batch.column_by_name(log_columns::POSITION)?.as_primitive_opt::<Int64Type>()?;
    let texts = batch.column_by_name(log_columns::CUTS)?.as_dictionary_opt::<Int32Type>()?;
    let values = texts.values().as_string_opt::<i32>()?;
    let mut numbers: Vec<Option<usize>> = vec![None; values.len()];
    let mut cut = Vec::with_capacity(batch.num_rows());
    for key in texts.keys() {
        let key = usize::try_from(key?).ok()?;
        let number = match numbers.get(key)? {
            Some(number) => *number,
            None => cuts.number(values.value(key))?,
        };
        *numbers.get_mut(key)? = Some(number);
        cut.push(number);
    }
    Some(Told { as_of, position: position.iter().collect(), cut })
}

/// A struct column of the log; of features or what was asked with.
pub(super) fn group<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StructArray> {
    batch.column_by_name(name)?.as_struct_opt()
}

/// The statuses of a feature as texts.
pub(super) fn statuses(batch: &RecordBatch, column: usize) -> Option<arrow::array::ArrayRef> {
    let column = group(batch, log_columns::STATUS)?.columns().get(column)?;
    cast(column, &DataType::Utf8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> LogFile {
        LogFile {
            path: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat").join(name),
            shown: name.to_owned(),
        }
    }

    #[test]
    fn format_1_is_read() {
        let mut reading = Reading::open(&file("serving-log-1.arrows")).unwrap().unwrap();
        assert_eq!(reading.header.format, 1);
        let (_, selection) = reading.header.definitions.restore().unwrap();
        assert_eq!(selection.columns[0].name, "double");
        let rows = reading.next(None).unwrap().unwrap();
        assert_eq!((rows.numbers, reading.broken), (vec![1, 2, 3], false));
        let mut cuts = KnownCuts::default();
        let told = told(&rows.batch, &mut cuts).unwrap();
        assert_eq!((told.as_of[0], told.position[0]), (Timestamp(86_400_000_000), None));
        assert_eq!(cuts.all, [[ReadableUnits { generation: 1, units: Vec::new() }]]);
        let statuses = statuses(&rows.batch, 0).unwrap();
        let statuses: Vec<_> = statuses.as_string::<i32>().iter().flatten().collect();
        assert_eq!(statuses, ["present", "not_found", "no_key"]);
        assert!(reading.next(None).unwrap().is_none());
    }

    #[test]
    fn what_was_cut_off_is_left_out() {
        let whole = std::fs::read(file("serving-log-1.arrows").path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1-0.arrows");
        // The mark of the end has eight bytes.
        for (length, rows) in [(whole.len() - 8, 3), (whole.len() - 9, 0), (whole.len() - 200, 0), (100, 0)] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let cut_off = LogFile { path: path.clone(), shown: "1-0.arrows".to_owned() };
            let reading = Reading::open(&cut_off).unwrap();
            assert_eq!(reading.is_none(), length == 100, "{length}");
            let Some(mut reading) = reading else { continue };
            let found = reading.next(None).unwrap().map_or(0, |rows| rows.numbers.len());
            assert_eq!(found, rows, "{length}");
            assert!(reading.next(None).unwrap().is_none() && reading.broken == (rows == 0), "{length}");
        }
    }
}
