//! The files of a source, opened once and held until the last row of a scan is read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use asof_model::{Column, FileIdentity, Format};

use super::columns::can_read;
use super::find::{Found, find};
use super::identity::Held;
use super::options::Options;
use super::parquet::{ParquetFile, footer_length};
use super::rules::Rules;
use crate::{Error, Result};

/// One file, open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(super) found: Found,
    pub(crate) held: Arc<Held>,
    pub(super) identity: FileIdentity,
    /// How many bytes at the end are hashed; none: all.
    footer: Option<u64>,
    pub(super) data: Data,
    pub(super) options: Options,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Data {
    Parquet(ParquetFile),
}

/// A part of a file that is read on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// A row group of a Parquet file.
    Group(usize),
}

/// Batches of a part, each with the number of rows of the file before it.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<(u64, RecordBatch)>> + Send>;

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
        _ => None,
    };
    let identity = held.identity(footer)?;
    let data = match format {
        Format::Parquet => Data::Parquet(ParquetFile::open(Arc::clone(&held))?),
        other => return Err(Error::internal(format!("{other:?} is not read as files"))),
    };
    Ok(OpenFile { found, held, identity, footer, data, options: options.clone() })
}

impl OpenFile {
    /// Its path as shown to people.
    pub(crate) fn shown(&self) -> &str {
        &self.found.shown
    }

    /// The names of all its columns, those of its folders last.
    pub(crate) fn column_names(&self) -> Vec<String> {
        let within: Vec<String> = match &self.data {
            Data::Parquet(file) => file.schema().fields().iter().map(|field| field.name().clone()).collect(),
        };
        within.into_iter().chain(self.found.partitions.iter().map(|(key, _)| key.clone())).collect()
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
        }
    }

    /// Whether this name is a `key=value` folder on its way.
    fn partition(&self, name: &str) -> Option<&Option<String>> {
        self.found.partitions.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Reads a part: the columns that the rules need, as the file has them.
    pub(crate) fn read(&self, part: Part, rules: &Rules, batch: usize) -> Result<Batches> {
        let mut names: Vec<&str> = rules.typed().iter().map(|column| column.name.as_str()).collect();
        for name in rules.raw() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let within: Vec<&str> = names.iter().copied().filter(|name| self.partition(name).is_none()).collect();
        let (before, batches): (u64, Box<dyn Iterator<Item = Result<RecordBatch>> + Send>) =
            match (&self.data, part) {
                (Data::Parquet(file), Part::Group(group)) => {
                    let before = file.groups().get(group).map_or(0, |(first, _)| *first);
                    self.check_columns(rules.source(), &within, file.schema(), rules.typed())?;
                    (before, Box::new(file.read(group, &within, batch, None)?))
                }
            };
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let partitions: Vec<(String, Option<String>)> =
            self.found.partitions.iter().filter(|(key, _)| names.contains(key)).cloned().collect();
        let mut before = before;
        Ok(Box::new(batches.map(move |read| {
            let read = read?;
            let first = before;
            before += read.num_rows() as u64;
            Ok((first, completed(&read, &names, &partitions)?))
        })))
    }

    /// Refuses where the file lacks a column or has it in a type that cannot be read as agreed.
    fn check_columns(&self, source: &str, names: &[&str], schema: &Schema, typed: &[Column]) -> Result<()> {
        for name in names {
            let Ok(field) = schema.field_with_name(name) else {
                if self.options.union_by_name {
                    continue;
                }
                return Err(Error::invalid(
                    "column_not_found",
                    format!("source `{source}`: file `{}` has no column `{name}`", self.shown()),
                )
                .with_hint("run `asof plan` to see what changed, or set `union_by_name: true`"));
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
            None => match read.column_by_name(name) {
                Some(column) => Arc::clone(column),
                None => new_null_array(&ArrowType::Null, rows),
            },
        };
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}
