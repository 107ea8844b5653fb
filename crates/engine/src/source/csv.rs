//! CSV files: read row by row as text, so that a bad cell can be named.
//!
//! Types are found by looking at every row ([`CsvFile::guess`]); reading gives text, and integers where
//! the agreed type is one, since a time rule with a unit needs the number.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{Field, Schema};
use asof_model::{Column, DataType};
use csv::{ByteRecord, Reader, ReaderBuilder};

use super::columns::{convert, parse_date};
use super::identity::{Cursor, Held};
use super::instants::{BadValue, parse};
use super::options::Options;
use super::rules::bad_cell;
use crate::{Error, Result};

/// A CSV file, its header read.
#[derive(Debug, Clone)]
pub(crate) struct CsvFile {
    held: Arc<Held>,
    options: Options,
    names: Vec<String>,
}

impl CsvFile {
    /// Reads the header.
    pub(crate) fn open(held: Arc<Held>, options: &Options) -> Result<CsvFile> {
        let mut file = CsvFile { held, options: options.clone(), names: Vec::new() };
        let mut reader = file.reader(false);
        let mut first = ByteRecord::new();
        if !reader.read_byte_record(&mut first).map_err(|e| file.broken(&e, 0))? {
            return Err(Error::invalid("file_broken", format!("file `{}` is empty", file.held.shown))
                .with_hint("a CSV file has at least a header; remove the file if it has no rows"));
        }
        for (at, cell) in first.iter().enumerate() {
            let unnamed = format!("column{at}");
            let name = if options.header {
                let text = std::str::from_utf8(cell).map_err(|_| {
                    Error::invalid(
                        "file_broken",
                        format!("file `{}`: its header is not UTF-8", file.held.shown),
                    )
                })?;
                let text = text.trim_start_matches('\u{feff}').trim();
                if text.is_empty() { unnamed } else { text.to_owned() }
            } else {
                unnamed
            };
            if file.names.contains(&name) {
                let message = format!("file `{}`: two columns are named `{name}`", file.held.shown);
                return Err(Error::invalid("file_broken", message).with_hint("rename one of them"));
            }
            file.names.push(name);
        }
        Ok(file)
    }

    /// The names of its columns.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    fn reader(&self, header: bool) -> Reader<Cursor> {
        let tabs = self.held.shown.to_ascii_lowercase().ends_with(".tsv");
        ReaderBuilder::new()
            .has_headers(header)
            .delimiter(self.options.delimiter.unwrap_or(if tabs { b'\t' } else { b',' }))
            .quote(self.options.quote)
            .double_quote(self.options.escape.is_none())
            .escape(self.options.escape)
            .comment(self.options.comment)
            .buffer_capacity(1 << 16)
            .from_reader(Cursor::new(Arc::clone(&self.held), 0))
    }

    /// What every row says about the types of the columns. Reads the whole file.
    pub(crate) fn guess(&self, guesses: &mut [Guess]) -> Result<u64> {
        let mut reader = self.reader(self.options.header);
        let mut record = ByteRecord::new();
        let mut rows = 0;
        while reader.read_byte_record(&mut record).map_err(|e| self.broken(&e, rows))? {
            for ((cell, guess), name) in record.iter().zip(guesses.iter_mut()).zip(&self.names) {
                let text = std::str::from_utf8(cell).map_err(|_| self.not_text(rows, name))?;
                if !self.is_null(text, false) {
                    guess.see(text);
                }
            }
            rows += 1;
        }
        Ok(rows)
    }

    /// Reads the file in batches of at most so many rows: these columns, as text or as integers.
    pub(crate) fn read(&self, source: &str, columns: &[Column], batch: usize) -> CsvBatches {
        let places = columns
            .iter()
            .filter_map(|column| {
                let at = self.names.iter().position(|name| *name == column.name)?;
                Some((at, column.clone()))
            })
            .collect();
        CsvBatches {
            reader: self.reader(self.options.header),
            source: source.to_owned(),
            file: self.clone(),
            columns: places,
            record: ByteRecord::new(),
            batch,
            rows: 0,
        }
    }

    fn is_null(&self, text: &str, string: bool) -> bool {
        match &self.options.null {
            None => text.is_empty(),
            Some(null) => text == null || (text.is_empty() && !string),
        }
    }

    fn not_text(&self, row: u64, name: &str) -> Error {
        let message =
            format!("file `{}`, row {}: column `{name}` is not UTF-8 text", self.held.shown, row + 1);
        Error::invalid("file_broken", message).with_hint("convert the file to UTF-8")
    }

    fn broken(&self, error: &csv::Error, row: u64) -> Error {
        let reason = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("has {len} cells, but the file has {expected_len} columns")
            }
            csv::ErrorKind::Io(error) => format!("cannot be read: {error}"),
            _ => "cannot be read".to_owned(),
        };
        Error::invalid("file_broken", format!("file `{}`, row {} {reason}", self.held.shown, row + 1))
            .with_hint("check `delimiter` and `quote` in the source's options")
    }
}

/// Batches of a CSV file.
pub(crate) struct CsvBatches {
    source: String,
    file: CsvFile,
    reader: Reader<Cursor>,
    columns: Vec<(usize, Column)>,
    record: ByteRecord,
    batch: usize,
    rows: u64,
}

impl CsvBatches {
    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut builders: Vec<StringBuilder> = self.columns.iter().map(|_| StringBuilder::new()).collect();
        let mut rows = 0;
        while rows < self.batch {
            let before = self.rows + rows as u64;
            if !self.reader.read_byte_record(&mut self.record).map_err(|e| self.file.broken(&e, before))? {
                break;
            }
            for (builder, (at, column)) in builders.iter_mut().zip(&self.columns) {
                let cell = self.record.get(*at).unwrap_or_default();
                let text = std::str::from_utf8(cell).map_err(|_| self.file.not_text(before, &column.name))?;
                if self.file.is_null(text, column.data_type == DataType::String) {
                    builder.append_null();
                } else {
                    builder.append_value(text);
                }
            }
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        let mut fields = Vec::with_capacity(builders.len());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(builders.len());
        for (mut builder, (_, column)) in builders.into_iter().zip(&self.columns) {
            let mut array: ArrayRef = Arc::new(builder.finish());
            if is_integer(&column.data_type) {
                array = convert(&array, &column.data_type).map_err(|bad| self.bad(&column.name, bad))?;
            }
            fields.push(Field::new(&column.name, array.data_type().clone(), true));
            arrays.push(array);
        }
        self.rows += rows as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?))
    }

    fn bad(&self, column: &str, bad: BadValue) -> Error {
        bad_cell(&self.source, &self.file.held.shown, self.rows, column, bad)
    }
}

impl Iterator for CsvBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        self.batch().transpose()
    }
}

fn is_integer(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
    )
}

/// What the texts seen so far may all be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guess {
    any: bool,
    bool: bool,
    int64: bool,
    uint64: bool,
    integer: bool,
    float: bool,
    date: bool,
    time: bool,
}

impl Guess {
    /// Nothing seen: anything.
    pub(crate) fn new() -> Guess {
        Guess {
            any: false,
            bool: true,
            int64: true,
            uint64: true,
            integer: true,
            float: true,
            date: true,
            time: true,
        }
    }

    /// One more text.
    pub(crate) fn see(&mut self, text: &str) {
        self.any = true;
        self.bool = self.bool && (text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"));
        let digits = text.trim_start_matches(['-', '+']);
        let integer = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        self.int64 = self.int64 && integer && text.parse::<i64>().is_ok();
        self.uint64 = self.uint64 && integer && text.parse::<u64>().is_ok();
        self.float = self.float && number(text);
        // An integer too long for 64 bits is an identifier: as a float it would lose digits.
        self.integer =
            self.integer && !(integer && text.parse::<i64>().is_err() && text.parse::<u64>().is_err());
        self.date = self.date && parse_date(text).is_some();
        self.time = self.time && text.len() >= 10 && parse(text, None).is_some();
    }

    /// The narrowest type that holds all that was seen; string where nothing was.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Guess { any: false, .. } => DataType::String,
            Guess { bool: true, .. } => DataType::Bool,
            Guess { int64: true, .. } => DataType::Int64,
            Guess { uint64: true, .. } => DataType::UInt64,
            Guess { float: true, integer: true, .. } => DataType::Float64,
            Guess { date: true, .. } => DataType::Date,
            Guess { time: true, .. } => DataType::Timestamp,
            _ => DataType::String,
        }
    }
}

/// Whether a text is a number as data has it; `nan`, `inf` and `infinity` are, in any case.
fn number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_guessed_from_all_rows() {
        for (texts, kind) in [
            (&["1", "-2"][..], "int64"),
            (&["1", "18446744073709551615"], "uint64"),
            (&["-1", "18446744073709551615"], "float64"),
            (&["1", "99999999999999999999"], "string"),
            (&["1", "2.5", "1e3", "NaN"], "float64"),
            (&["true", "FALSE"], "bool"),
            (&["true", "1"], "string"),
            (&["2013-01-01", "2013-12-31"], "date"),
            (&["2013-01-01", "2013-12-31 10:00:00"], "timestamp"),
            (&["2013-01-01T00:00:00-05:00"], "timestamp"),
            (&["2013-01-01", "x"], "string"),
            (&["20130101"], "int64"),
            (&["12:30"], "string"),
            (&[], "string"),
        ] {
            let mut guess = Guess::new();
            texts.iter().for_each(|text| guess.see(text));
            assert_eq!(guess.data_type().to_string(), kind, "{texts:?}");
        }
    }
}
