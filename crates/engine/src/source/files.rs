//! The files of a source, opened once and held until the last row of a scan is read.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::datatypes::{DataType as ArrowType, Field, Int64Type, Schema};
use asof_model::{Column, FileIdentity, Format, Timestamp};

use super::columns::can_read;
use super::csv::CsvFile;
use super::find::{Found, find};
use super::identity::Held;
use super::ndjson::NdjsonFile;
use super::options::Options;
use super::parquet::{ParquetFile, footer_length};
use super::rules::{Given, Rules};
use crate::{Error, Result};

/// One file, open.
pub(crate) struct OpenFile {
    pub(super) found: Found,
    pub(crate) held: Arc<Held>,
    pub(crate) identity: FileIdentity,
    /// How many bytes at the end are hashed; none: all.
    footer: Option<u64>,
    pub(crate) data: Data,
    pub(super) options: Options,
    /// It holds the past of a push source.
    past: bool,
    /// Let go of after the file.
    _kept: Option<Arc<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("found", &self.found)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Data {
    Parquet(ParquetFile),
    Csv(CsvFile),
    Ndjson(NdjsonFile),
}

/// A part of a file that is read on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A row group of a Parquet file.
    Group(usize),
    /// All of a file that can only be read from its beginning.
    Whole,
}

/// Batches of a part, each with the number of rows of the file before it.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<(u64, RecordBatch), Unread>> + Send>;

/// Why there is no batch.
#[derive(Debug)]
pub(crate) struct Unread {
    pub error: Error,
    /// The text of the one row that could not be taken apart: what follows it can still be read. None
    /// where nothing can.
    pub text: Option<Box<str>>,
}

impl Unread {
    /// A row that is no row.
    pub(super) fn row(error: Error, text: String) -> Unread {
        Unread { error, text: Some(text.into()) }
    }
}

impl From<Error> for Unread {
    fn from(error: Error) -> Unread {
        Unread { error, text: None }
    }
}

impl From<Unread> for Error {
    fn from(unread: Unread) -> Error {
        unread.error
    }
}

/// Batches as a file has them.
pub(crate) type Raw = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Opens all files of a path. Blocking.
pub(crate) fn open(
    root: &Path,
    path: &str,
    format: Format,
    options: &BTreeMap<String, String>,
) -> Result<Vec<OpenFile>> {
    let options = Options::read(format, options)?;
    find(root, path, format, options.hive_partitioning)?
        .into_iter()
        .map(|found| open_one(found, format, &options))
        .collect()
}

/// Opens one file. Blocking.
pub(crate) fn open_one(found: Found, format: Format, options: &Options) -> Result<OpenFile> {
    let held = Arc::new(Held::open(&found.path, &found.shown)?);
    let footer = match format {
        Format::Parquet => Some(footer_length(&held)?),
        _ => {
            not_text(&held, format)?;
            None
        }
    };
    let identity = held.identity(footer)?;
    let data = match format {
        Format::Parquet => Data::Parquet(ParquetFile::open(Arc::clone(&held))?),
        Format::Csv => Data::Csv(CsvFile::open(Arc::clone(&held), options)?),
        Format::Ndjson => Data::Ndjson(NdjsonFile::open(Arc::clone(&held))),
        Format::Delta => return Err(Error::internal("a Delta table is not read as files")),
    };
    Ok(OpenFile { found, held, identity, footer, data, options: options.clone(), past: false, _kept: None })
}

/// Refuses a file that begins as one of another kind does.
fn not_text(held: &Held, format: Format) -> Result<()> {
    let mut start = [0; 4];
    let read = held.read_at(&mut start, 0).unwrap_or(0);
    let (is, hint) = match &start[..read] {
        [0x1f, 0x8b, ..] => ("is compressed with gzip", "decompress it, or convert it to Parquet"),
        [0x28, 0xb5, 0x2f, 0xfd] => ("is compressed with zstd", "decompress it, or convert it to Parquet"),
        b"PK\x03\x04" => ("is a zip archive", "unpack it and name the file within"),
        b"PAR1" => (
            "is a Parquet file",
            "say `format: parquet` in the source; without `format` the ending .parquet says so",
        ),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            ("is UTF-16 text", "convert the file to UTF-8, e.g. with `iconv -t utf-8`")
        }
        _ => return Ok(()),
    };
    let message = format!("file `{}` {is}, and is read as {}", held.shown, format.name().to_uppercase());
    Err(Error::invalid("file_broken", message).with_hint(hint))
}

impl OpenFile {
    /// The same, with something that is let go of when nobody reads the file any more.
    pub(crate) fn keeping(self, kept: Arc<dyn Any + Send + Sync>) -> OpenFile {
        OpenFile { _kept: Some(kept), ..self }
    }

    /// The same, as a file of the past of a push source.
    pub(crate) fn of_past(self) -> OpenFile {
        OpenFile { past: true, ..self }
    }

    /// Whether it holds the past of a push source.
    pub(crate) fn is_past(&self) -> bool {
        self.past
    }

    /// What exactly it is.
    pub(crate) fn identity(&self) -> &FileIdentity {
        &self.identity
    }

    /// Its path as shown to people.
    pub(crate) fn shown(&self) -> &str {
        &self.found.shown
    }

    /// The names of all its columns, those of its folders last.
    pub(crate) fn column_names(&self) -> Vec<String> {
        let within: Vec<String> = match &self.data {
            Data::Parquet(file) => file.schema().fields().iter().map(|field| field.name().clone()).collect(),
            Data::Csv(file) => file.names().to_vec(),
            // Keys of NDJSON may be missing in any row, and one that nobody agreed on is not looked at.
            Data::Ndjson(_) => Vec::new(),
        };
        within.into_iter().chain(self.found.partitions.iter().map(|(key, _)| key.clone())).collect()
    }

    /// Whether its rows have addresses.
    pub(crate) fn is_parquet(&self) -> bool {
        matches!(self.data, Data::Parquet(_))
    }

    /// How many rows it has: counted in a Parquet footer, else judged by the lengths of its first lines.
    pub(crate) fn estimate(&self) -> u64 {
        if let Data::Parquet(file) = &self.data {
            return file.rows();
        }
        let mut start = vec![0; 1 << 16];
        let read = self.held.read_at(&mut start, 0).unwrap_or(0) as u64;
        let Some(last) = start[..read as usize].last() else { return 0 };
        // A last line without an end is one as well.
        let open = u64::from(read == self.held.size && *last != b'\n');
        let lines = start[..read as usize].iter().filter(|byte| **byte == b'\n').count() as u64 + open;
        let header = u64::from(matches!(self.data, Data::Csv(_)) && self.options.header);
        (self.held.size * lines.max(1) / read).saturating_sub(header)
    }

    /// Refuses where it is no longer what was opened.
    pub(crate) fn verify(&self) -> Result<()> {
        self.held.verify(&self.identity, self.footer)
    }

    /// Its parts, each with a measure of its size.
    pub(crate) fn parts(&self) -> Vec<(u64, Part)> {
        match &self.data {
            Data::Parquet(file) => {
                file.groups().into_iter().enumerate().map(|(at, (_, rows))| (rows, Part::Group(at))).collect()
            }
            Data::Csv(_) | Data::Ndjson(_) => vec![(self.held.size, Part::Whole)],
        }
    }

    /// Whether this name is a `key=value` folder on its way.
    fn partition(&self, name: &str) -> Option<&Option<String>> {
        self.found.partitions.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Its row groups, if it is a Parquet file: the number of the first row of each, and how many.
    pub(crate) fn groups(&self) -> Vec<(u64, u64)> {
        match &self.data {
            Data::Parquet(file) => file.groups(),
            Data::Csv(_) | Data::Ndjson(_) => Vec::new(),
        }
    }

    /// Whether no row of a part is needed, as far as its statistics say.
    pub(crate) fn is_past_need(&self, part: Part, rules: &Rules) -> bool {
        let Some(until) = rules.needed_until() else { return false };
        // A part that holds a time that is none, or a null, is read: for its error, or to count it.
        self.span(part, rules, &rules.inputs()).is_some_and(|(least, _)| least > until)
    }

    /// The greatest event time of its rows, [`Timestamp::BEFORE_ALL`] where it has none; none where its statistics
    /// do not say it of every row.
    pub(crate) fn last_event(&self, rules: &Rules) -> Option<Timestamp> {
        let timed_by = [rules.timed_by()?.to_owned()];
        let parts = self.parts();
        parts.into_iter().try_fold(Timestamp::BEFORE_ALL, |last, (_, part)| {
            let all = match rules.given() {
                Given::Stored(own) => self.ends_by(part, &own.seq, own.upto),
                _ => true,
            };
            let (_, greatest) = self.span(part, rules, &timed_by).filter(|_| all)?;
            if rules.leaves_out(greatest) {
                return None;
            }
            Some(last.max(greatest))
        })
    }

    /// The least and the greatest event time of a part, by its statistics; none where these columns may hold a null
    /// there.
    fn span(&self, part: Part, rules: &Rules, complete: &[String]) -> Option<(Timestamp, Timestamp)> {
        let (Data::Parquet(file), Part::Group(group)) = (&self.data, part) else { return None };
        // What the name of a folder says is read instead of what is in the file.
        let column = rules.timed_by().filter(|column| self.partition(column).is_none())?;
        let (least, greatest) = file.range(group, column, complete)?;
        rules.span(&least, &greatest)
    }

    /// Whether no number of a column of a part is greater, by its statistics.
    fn ends_by(&self, part: Part, column: &str, last: i64) -> bool {
        let (Data::Parquet(file), Part::Group(group)) = (&self.data, part) else { return false };
        let found = file.range(group, column, &[]);
        found.is_some_and(|(_, greatest)| {
            let greatest = greatest.as_primitive_opt::<Int64Type>();
            greatest.is_some_and(|it| it.len() == 1 && it.is_valid(0) && it.value(0) <= last)
        })
    }

    /// Reads a part: the columns that the rules need, as the file has them.
    pub(crate) fn read(&self, part: Part, rules: &Rules, batch: usize) -> Result<Batches> {
        let columns = self.needed(rules);
        let source = rules.source();
        let batches: Batches = match (&self.data, part) {
            (Data::Parquet(_), Part::Whole) => return Err(Error::internal("a Parquet file has row groups")),
            (Data::Parquet(file), Part::Group(group)) => {
                let mut before = file.groups().get(group).map_or(0, |(first, _)| *first);
                let read = file.read(group, &self.checked(file, rules, &columns)?, batch)?;
                Box::new(read.map(move |read| {
                    let read = read?;
                    before += read.num_rows() as u64;
                    Ok((before - read.num_rows() as u64, read))
                }))
            }
            (Data::Csv(file), _) => {
                for column in &columns {
                    if !file.names().contains(&column.name) && !self.options.union_by_name {
                        return Err(self.lacks(source, &column.name));
                    }
                }
                Box::new(file.read(source, &columns, batch))
            }
            (Data::Ndjson(file), _) => Box::new(file.read(source, &columns, batch)),
        };
        let complete = self.completion(rules);
        Ok(Box::new(batches.map(move |read| {
            let (before, read) = read?;
            Ok((before, complete(&read)?))
        })))
    }

    /// Reads ascending rows of a row group of a Parquet file, numbered from its first, as
    /// [`OpenFile::read`] does.
    pub(crate) fn read_selected(
        &self,
        group: usize,
        rules: &Rules,
        batch: usize,
        rows: Vec<u64>,
    ) -> Result<Raw> {
        let Data::Parquet(file) = &self.data else {
            return Err(Error::internal("only rows of Parquet files have addresses"));
        };
        let columns = self.needed(rules);
        let batches = file.read_rows(group, &self.checked(file, rules, &columns)?, batch, rows)?;
        let complete = self.completion(rules);
        Ok(Box::new(batches.map(move |read| complete(&read?))))
    }

    /// The columns that the rules need and that the file itself has to give.
    fn needed(&self, rules: &Rules) -> Vec<Column> {
        let mut columns: Vec<Column> = rules.typed().to_vec();
        for column in rules.raw() {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        columns.retain(|column| self.partition(&column.name).is_none());
        columns
    }

    /// Adds to a batch the columns that come from folders, or that this file lacks.
    fn completion(&self, rules: &Rules) -> impl Fn(&RecordBatch) -> Result<RecordBatch> + Send + 'static {
        let names = rules.inputs();
        let partitions: Vec<(String, Option<String>)> =
            self.found.partitions.iter().filter(|(key, _)| names.contains(key)).cloned().collect();
        move |read| completed(read, &names, &partitions)
    }

    fn checked<'a>(
        &self,
        file: &ParquetFile,
        rules: &'a Rules,
        columns: &'a [Column],
    ) -> Result<Vec<&'a str>> {
        let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        if let Given::Stored(own) = rules.given() {
            names.extend([&own.event_time, &own.visible_at, &own.seq, &own.op].map(String::as_str));
        }
        self.check_columns(rules.source(), &names, file.schema(), rules.typed())?;
        Ok(names)
    }

    fn lacks(&self, source: &str, name: &str) -> Error {
        let message = format!("source `{source}`: file `{}` has no column `{name}`", self.shown());
        Error::invalid("column_not_found", message)
            .with_hint("run `asof plan` to see what changed, or set `union_by_name: true`")
    }

    /// Refuses where the file lacks a column or has it in a type that cannot be read as agreed.
    fn check_columns(&self, source: &str, names: &[&str], schema: &Schema, typed: &[Column]) -> Result<()> {
        for name in names {
            let Ok(field) = schema.field_with_name(name) else {
                if self.options.union_by_name {
                    continue;
                }
                return Err(self.lacks(source, name));
            };
            if let Some(column) = typed.iter().find(|column| column.name == *name)
                && !can_read(field.data_type(), &column.data_type)
            {
                return Err(Error::invalid(
                    "column_type",
                    format!(
                        "source `{source}`: file `{}`: column `{name}` is {}, which cannot be read as {}",
                        self.shown(),
                        field.data_type(),
                        column.data_type
                    ),
                )
                .with_hint("run `asof plan` to see what changed"));
            }
        }
        Ok(())
    }
}

/// A batch with the columns that come from folders, or that this file lacks.
fn completed(
    read: &RecordBatch,
    names: &[String],
    partitions: &[(String, Option<String>)],
) -> Result<RecordBatch> {
    if read.num_columns() == names.len() {
        return Ok(read.clone());
    }
    let rows = read.num_rows();
    let mut fields = Vec::with_capacity(names.len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(names.len());
    for name in names {
        let column: ArrayRef = match partitions.iter().find(|(key, _)| key == name) {
            Some((_, Some(value))) => Arc::new(StringArray::from(vec![value.as_str(); rows])),
            Some((_, None)) => new_null_array(&ArrowType::Utf8, rows),
            None => match read.schema_ref().column_with_name(name) {
                Some((at, field)) => {
                    fields.push(field.clone());
                    columns.push(Arc::clone(read.column(at)));
                    continue;
                }
                None => new_null_array(&ArrowType::Null, rows),
            },
        };
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}
