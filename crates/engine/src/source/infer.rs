//! The columns of a source as its files have them: looked at once, when definitions are applied.
//!
//! All files of a source have the same columns in types that the model tells apart, or it is an error
//! that names both files; with `union_by_name` a column may be missing and numbers are widened. CSV
//! and NDJSON are read to the last row.

use arrow::datatypes::DataType as ArrowType;
use asof_model::{Column, DataType};
use indexmap::IndexMap;

use super::columns::model_type;
use super::csv::Guess;
use super::files::{Data, OpenFile};
use super::ndjson::Shape;
use crate::{Error, Result};

/// What the files have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// The columns, in the order of the first file, then partitions.
    pub columns: Vec<Column>,
    /// As the time rules see them: a file's own type, and text where a text file has a time.
    pub raw: Vec<(String, ArrowType)>,
    /// Columns whose type the model does not have, with that type.
    pub left_out: Vec<(String, String)>,
    /// Rows, where they were counted on the way or stand in footers.
    pub rows: u64,
    /// In how many rows a column is null, where that was counted or stands in footers; the others are
    /// null in none, or nobody knows.
    pub nulls: Vec<(String, u64)>,
    /// Columns of files that a `key=value` folder of the same name stands over.
    pub hidden: Vec<String>,
}

impl Found {
    /// In how many rows the column is known to be null.
    pub(crate) fn nulls(&self, column: &str) -> u64 {
        self.nulls.iter().filter(|(name, _)| name == column).map(|(_, nulls)| nulls).sum()
    }
}

/// Looks at all files. The types of columns that are `declared` may differ from file to file, since each
/// is read as declared. Blocking.
///
/// # Errors
/// [`Error::Invalid`] with code `source_files_differ` or `column_twice`, or what reading a file gives.
pub(crate) fn infer(source: &str, files: &[OpenFile], declared: &[Column]) -> Result<Found> {
    let mut found = Found::default();
    let mut csv: Option<IndexMap<String, Guess>> = None;
    let mut ndjson: IndexMap<String, (Shape, u64)> = IndexMap::new();
    for file in files {
        match &file.data {
            Data::Parquet(parquet) => {
                found.rows += parquet.rows();
                parquet_columns(source, files, file, declared, &mut found)?;
            }
            Data::Csv(read) => {
                let fresh = || read.names().iter().map(|name| (name.clone(), Guess::new())).collect();
                let guesses: &mut IndexMap<String, Guess> = csv.get_or_insert_with(fresh);
                let mut own = Vec::with_capacity(read.names().len());
                for name in read.names() {
                    own.push(match guesses.get_index_of(name) {
                        Some(at) => at,
                        None if file.options.union_by_name => {
                            guesses.insert_full(name.clone(), Guess::new()).0
                        }
                        None => return Err(differ(source, file, &files[0], name, true)),
                    });
                }
                // Of as many names those of the first are all there.
                if own.len() < guesses.len()
                    && !file.options.union_by_name
                    && let Some(missing) = guesses.keys().find(|name| !read.names().contains(name))
                {
                    return Err(differ(source, file, &files[0], missing, false));
                }
                let mut seen: Vec<Guess> = own.iter().map(|at| guesses[*at]).collect();
                found.rows += read.guess(source, &mut seen)?;
                for (at, guess) in own.into_iter().zip(seen) {
                    guesses[at] = guess;
                }
            }
            Data::Ndjson(read) => found.rows += read.guess(source, &mut ndjson)?,
        }
    }
    let rows = found.rows;
    let texts: Vec<(String, DataType, u64)> = match csv {
        Some(guesses) => {
            let typed = |(name, guess): (String, Guess)| (name, guess.data_type(), rows - guess.seen());
            guesses.into_iter().map(typed).collect()
        }
        None => {
            ndjson.into_iter().map(|(name, (shape, seen))| (name, shape.data_type(), rows - seen)).collect()
        }
    };
    for (name, data_type, nulls) in texts {
        found.nulls.push((name.clone(), nulls));
        found.raw.push((name.clone(), text_type(&data_type)));
        found.columns.push(Column { name, data_type });
    }
    partitions(files, &mut found);
    Ok(found)
}

/// The type that a reader of text gives the time rules for a column.
pub(crate) fn text_type(kind: &DataType) -> ArrowType {
    match kind {
        DataType::Timestamp | DataType::Date | DataType::String => ArrowType::Utf8,
        other => asof_compute::arrow_type(other),
    }
}

fn parquet_columns(
    source: &str,
    files: &[OpenFile],
    file: &OpenFile,
    declared: &[Column],
    found: &mut Found,
) -> Result<()> {
    let Data::Parquet(parquet) = &file.data else { return Ok(()) };
    let first = file.found.path == files[0].found.path;
    let union = file.options.union_by_name;
    let fields = parquet.schema().fields();
    for (at, field) in fields.iter().enumerate() {
        let name = field.name();
        if fields.iter().skip(at + 1).any(|other| other.name() == name) {
            let message =
                format!("source `{source}`: file `{}` has two columns named `{name}`", file.shown());
            return Err(Error::invalid("column_twice", message)
                .with_hint("write the file again with names that differ"));
        }
        found.nulls.extend(parquet.nulls(at).map(|nulls| (name.clone(), nulls)));
        let Some(data_type) = model_type(field) else {
            if !found.left_out.iter().any(|(other, _)| other == name) {
                found.left_out.push((name.clone(), field.data_type().to_string()));
            }
            continue;
        };
        let new = Column { name: name.clone(), data_type };
        match found.columns.iter_mut().find(|column| column.name == *name) {
            None if first || union => {
                found.raw.push((name.clone(), field.data_type().clone()));
                found.columns.push(new);
            }
            None => return Err(differ(source, file, &files[0], name, true)),
            Some(column) if column.data_type == new.data_type => {}
            // A file in which the column is null throughout may not know its type.
            Some(_) if *field.data_type() == ArrowType::Null => {}
            Some(_) if declared.iter().any(|column| column.name == *name) => {
                found.raw.push((name.clone(), field.data_type().clone()));
            }
            Some(column) => match widened(&column.data_type, &new.data_type).filter(|_| union) {
                Some(wide) => column.data_type = wide,
                None => {
                    return Err(Error::invalid(
                        "source_files_differ",
                        format!(
                            "source `{source}`: column `{name}` is {} in file `{}`, but {} in `{}`",
                            new.data_type,
                            file.shown(),
                            column.data_type,
                            files[0].shown(),
                        ),
                    )
                    .with_hint("declare the column in `schema`, or set `union_by_name: true` where numbers may be widened"));
                }
            },
        }
    }
    if !union && let Some(missing) = found.columns.iter().find(|column| fields.find(&column.name).is_none()) {
        return Err(differ(source, file, &files[0], &missing.name, false));
    }
    Ok(())
}

fn differ(source: &str, file: &OpenFile, first: &OpenFile, column: &str, more: bool) -> Error {
    let (has, lacks) = if more { (file, first) } else { (first, file) };
    Error::invalid(
        "source_files_differ",
        format!(
            "source `{source}`: file `{}` has a column `{column}` that file `{}` lacks",
            has.shown(),
            lacks.shown()
        ),
    )
    .with_hint("write both with the same columns, or set `union_by_name: true`")
}

/// A numeric type that holds the values of both.
fn widened(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    let signed = |kind: &DataType| match kind {
        T::Int8 => Some(8),
        T::Int16 => Some(16),
        T::Int32 => Some(32),
        T::Int64 => Some(64),
        // The signed type that holds all of an unsigned one is the next larger.
        T::UInt8 => Some(16),
        T::UInt16 => Some(32),
        T::UInt32 => Some(64),
        _ => None,
    };
    match (a, b) {
        (T::Float32 | T::Float64, T::Float32 | T::Float64) => Some(T::Float64),
        (T::Float32 | T::Float64, other) | (other, T::Float32 | T::Float64) => {
            signed(other).filter(|bits| *bits <= 32).map(|_| T::Float64)
        }
        _ => Some(match signed(a)?.max(signed(b)?) {
            8 => T::Int8,
            16 => T::Int16,
            32 => T::Int32,
            _ => T::Int64,
        }),
    }
}

/// Columns from `key=value` folders; they stand over a file's own column of that name.
fn partitions(files: &[OpenFile], found: &mut Found) {
    let Some(first) = files.first() else { return };
    for (at, (key, _)) in first.found.partitions.iter().enumerate() {
        let mut guess = Guess::new();
        for value in files.iter().filter_map(|file| file.found.partitions.get(at)?.1.as_deref()) {
            guess.see(value);
        }
        // As DuckDB: a date, a timestamp or an integer where all values are; else text.
        let data_type = match guess.data_type() {
            kind @ (DataType::Int64 | DataType::Date | DataType::Timestamp) => kind,
            _ => DataType::String,
        };
        if found.columns.iter().any(|column| column.name == *key) {
            found.hidden.push(key.clone());
        }
        found.nulls.retain(|(name, _)| name != key);
        found.columns.retain(|column| column.name != *key);
        found.raw.retain(|(name, _)| name != key);
        found.raw.push((key.clone(), ArrowType::Utf8));
        found.columns.push(Column { name: key.clone(), data_type });
    }
}
