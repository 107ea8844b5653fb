//! CSV files: read row by row as text, so that a bad cell can be named.
//!
//! Types are found by looking at every row ([`CsvFile::guess`]); reading gives text, which the rules of
//! the source then read strictly in the agreed types.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use asof_model::{Column, DataType};
use csv::{ByteRecord, Reader, ReaderBuilder};

use super::columns::parse_date;
use super::identity::{Cursor, Held};
use super::instants::parse;
use super::options::Options;
use super::rules::BadRow;
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
        if !reader.read_byte_record(&mut first).map_err(|e| file.broken(&e, 0).of(""))? {
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
                    .with_hint("convert the file to UTF-8, e.g. with `iconv -t utf-8`")
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
    pub(crate) fn guess(&self, source: &str, guesses: &mut [Guess]) -> Result<u64> {
        let mut reader = self.reader(self.options.header);
        let mut record = ByteRecord::new();
        let mut rows = 0;
        while reader.read_byte_record(&mut record).map_err(|e| self.broken(&e, rows).of(source))? {
            for ((cell, guess), name) in record.iter().zip(guesses.iter_mut()).zip(&self.names) {
                let text = std::str::from_utf8(cell).map_err(|_| self.not_text(rows, name).of(source))?;
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
            bad: None,
        }
    }

    fn is_null(&self, text: &str, string: bool) -> bool {
        match &self.options.null {
            None => text.is_empty(),
            Some(null) => text == null || (text.is_empty() && !string),
        }
    }

    fn not_text(&self, before: u64, name: &str) -> BadRow {
        BadRow::new(&self.held.shown, before, format!("column `{name}` is not UTF-8 text"))
            .hint("convert the file to UTF-8")
    }

    fn broken(&self, error: &csv::Error, before: u64) -> BadRow {
        let reason = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("has {len} cells, but the file has {expected_len} columns")
            }
            csv::ErrorKind::Io(error) => format!("cannot be read: {error}"),
            _ => "cannot be read".to_owned(),
        };
        BadRow::new(&self.held.shown, before, reason)
            .hint("mend the row, or check `delimiter` and `quote` in the source's options")
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
    /// Rows read, bad ones too.
    rows: u64,
    /// A bad row met behind the last batch.
    bad: Option<Error>,
}

impl CsvBatches {
    /// The next batch with the number of rows before it. A row that is no row of this file ends the
    /// batch before it and comes as an error of its own; reading goes on behind it.
    fn batch(&mut self) -> Result<Option<(u64, RecordBatch)>> {
        if let Some(bad) = self.bad.take() {
            return Err(bad);
        }
        let before = self.rows;
        let mut builders: Vec<StringBuilder> = self.columns.iter().map(|_| StringBuilder::new()).collect();
        let mut rows = 0;
        while rows < self.batch {
            match self.record() {
                Ok(false) => break,
                Ok(true) => {
                    for (builder, (at, column)) in builders.iter_mut().zip(&self.columns) {
                        let cell = self.record.get(*at).unwrap_or_default();
                        // Checked when the record was read.
                        let text = std::str::from_utf8(cell).unwrap_or_default();
                        if self.file.is_null(text, column.data_type == DataType::String) {
                            builder.append_null();
                        } else {
                            builder.append_value(text);
                        }
                    }
                    rows += 1;
                }
                Err(bad) if rows == 0 => return Err(bad),
                Err(bad) => {
                    self.bad = Some(bad);
                    break;
                }
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        let fields: Vec<Field> =
            self.columns.iter().map(|(_, column)| Field::new(&column.name, ArrowType::Utf8, true)).collect();
        let arrays: Vec<ArrayRef> =
            builders.into_iter().map(|mut builder| Arc::new(builder.finish()) as ArrayRef).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
        Ok(Some((before, batch)))
    }

    fn record(&mut self) -> Result<bool> {
        let before = self.rows;
        let read = self.reader.read_byte_record(&mut self.record);
        self.rows += u64::from(!matches!(read, Ok(false)));
        if !read.map_err(|e| self.file.broken(&e, before).of(&self.source))? {
            return Ok(false);
        }
        for (at, column) in &self.columns {
            if std::str::from_utf8(self.record.get(*at).unwrap_or_default()).is_err() {
                return Err(self.file.not_text(before, &column.name).of(&self.source));
            }
        }
        Ok(true)
    }
}

impl Iterator for CsvBatches {
    type Item = Result<(u64, RecordBatch)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

/// What the texts seen so far may all be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guess {
    seen: u64,
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
            seen: 0,
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
        self.seen += 1;
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

    /// How many texts there were.
    pub(crate) fn seen(self) -> u64 {
        self.seen
    }

    /// The narrowest type that holds all that was seen; string where nothing was.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Guess { seen: 0, .. } => DataType::String,
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
