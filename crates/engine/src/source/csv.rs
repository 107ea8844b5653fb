//! CSV files: read row by row as text, so that a bad cell can be named.
//!
//! Types are found by looking at every row ([`CsvFile::guess`]); reading gives text, which the rules of
//! the source then read strictly in the agreed types.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use asof_model::{Column, DataType};
use csv::{ByteRecord, Reader, ReaderBuilder, WriterBuilder};

use super::columns::{is_another, parse_date};
use super::files::Unread;
use super::identity::{Cursor, Held};
use super::instants::parse;
use super::options::Options;
use super::rules::BadRow;
use super::{LONGEST_BATCH, LONGEST_RECORD};
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
        let mut records = file.records(false);
        let mut first = ByteRecord::new();
        if !records.next(&mut first).map_err(|e| file.no_header(&e))? {
            return Err(Error::invalid("file_broken", format!("file `{}` is empty", file.held.shown))
                .with_hint("a CSV file has at least a header; remove the file if it has no rows"));
        }
        let mut known = HashSet::new();
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
            if !known.insert(name.clone()) {
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

    fn delimiter(&self) -> u8 {
        let tabs = self.held.shown.to_ascii_lowercase().ends_with(".tsv");
        self.options.delimiter.unwrap_or(if tabs { b'\t' } else { b',' })
    }

    fn records(&self, header: bool) -> Records {
        let cursor = Cursor::new(Arc::clone(&self.held), 0);
        let reader = ReaderBuilder::new()
            .has_headers(header)
            .delimiter(self.delimiter())
            .quote(self.options.quote)
            .double_quote(self.options.escape.is_none())
            .escape(self.options.escape)
            .comment(self.options.comment)
            .buffer_capacity(BUFFER)
            .from_reader(Fenced { cursor, at: 0, fence: 0, met: false });
        Records { reader }
    }

    /// What every row says about the types of the columns. Reads the whole file.
    pub(crate) fn guess(&self, source: &str, guesses: &mut [Guess]) -> Result<u64> {
        let mut records = self.records(self.options.header);
        let mut record = ByteRecord::new();
        let mut rows = 0;
        while records.next(&mut record).map_err(|e| self.broken(source, &e, rows))? {
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
            records: self.records(self.options.header),
            source: source.to_owned(),
            file: self.clone(),
            columns: places,
            record: ByteRecord::new(),
            batch,
            rows: 0,
            bad: None,
            lost: false,
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

    fn no_header(&self, error: &NoRecord) -> Error {
        match error {
            NoRecord::TooLong => {
                let message = format!(
                    "file `{}`: its header is longer than {} MiB",
                    self.held.shown,
                    LONGEST_RECORD >> 20
                );
                Error::invalid("file_broken", message).with_hint(CHECK_QUOTES)
            }
            NoRecord::Csv(_) => self.broken("", error, 0),
        }
    }

    fn broken(&self, source: &str, error: &NoRecord, before: u64) -> Error {
        let reason = match error {
            NoRecord::TooLong => {
                let reason = format!("is longer than {} MiB", LONGEST_RECORD >> 20);
                return BadRow::new(&self.held.shown, before, reason).hint(CHECK_QUOTES).of(source);
            }
            NoRecord::Csv(error) => match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    format!("has {len} cells, but the file has {expected_len} columns")
                }
                csv::ErrorKind::Io(error) => return self.held.unread(error),
                _ => "cannot be read".to_owned(),
            },
        };
        BadRow::new(&self.held.shown, before, reason)
            .hint("mend the row, or check `delimiter` and `quote` in the source's options")
            .of(source)
    }

    /// A record as its text, as a reader of this file reads it.
    fn text(&self, record: &ByteRecord) -> String {
        let mut writer = WriterBuilder::new()
            .delimiter(self.delimiter())
            .quote(self.options.quote)
            .flexible(true)
            .from_writer(Vec::new());
        // What goes to memory does not fail.
        let written = writer.write_byte_record(record).ok().and_then(|()| writer.into_inner().ok());
        String::from_utf8_lossy(&written.unwrap_or_default()).trim_end().to_owned()
    }
}

const CHECK_QUOTES: &str = "is a quote not closed? check `quote` in the source's options, and the row itself";

/// Bytes read from a file at once.
const BUFFER: usize = 1 << 16;

/// The records of a file, each held whole and none past [`LONGEST_RECORD`].
struct Records {
    reader: Reader<Fenced>,
}

/// Why there is no next record though the file goes on.
enum NoRecord {
    /// It is longer than [`LONGEST_RECORD`]. Where the one after it begins nobody can tell.
    TooLong,
    Csv(csv::Error),
}

impl Records {
    fn next(&mut self, record: &mut ByteRecord) -> Result<bool, NoRecord> {
        let start = self.reader.position().byte();
        let fenced = self.reader.get_mut();
        fenced.fence = start + (LONGEST_RECORD + BUFFER) as u64;
        let read = self.reader.read_byte_record(record);
        read.map_err(|error| match self.reader.get_ref().met {
            true => NoRecord::TooLong,
            false => NoRecord::Csv(error),
        })
    }
}

/// A file that ends in an error at a fence, which is moved on with the records.
struct Fenced {
    cursor: Cursor,
    at: u64,
    fence: u64,
    met: bool,
}

impl Read for Fenced {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at >= self.fence {
            self.met = true;
            return Err(std::io::Error::other("a record without end"));
        }
        let got = self.cursor.read(buffer)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// Batches of a CSV file.
pub(crate) struct CsvBatches {
    source: String,
    file: CsvFile,
    records: Records,
    columns: Vec<(usize, Column)>,
    record: ByteRecord,
    batch: usize,
    /// Rows read, bad ones too.
    rows: u64,
    /// A bad row met behind the last batch.
    bad: Option<Unread>,
    /// A record was too long: where the next one begins nobody can tell.
    lost: bool,
}

impl CsvBatches {
    /// The next batch with the number of rows before it. A row that is no row of this file ends the
    /// batch before it and comes as an error of its own; reading goes on behind it.
    fn batch(&mut self) -> Result<Option<(u64, RecordBatch)>, Unread> {
        if let Some(bad) = self.bad.take() {
            return Err(bad);
        }
        if self.lost {
            let message =
                format!("file `{}`: what follows row {} cannot be read", self.file.held.shown, self.rows);
            return Err(Error::invalid("file_broken", message).with_hint(CHECK_QUOTES).into());
        }
        let before = self.rows;
        let mut builders: Vec<StringBuilder> = self.columns.iter().map(|_| StringBuilder::new()).collect();
        let mut rows = 0;
        let mut bytes = 0;
        while rows < self.batch && bytes < LONGEST_BATCH {
            match self.record() {
                Ok(false) => break,
                Ok(true) => {
                    for (builder, (at, column)) in builders.iter_mut().zip(&self.columns) {
                        let cell = self.record.get(*at).unwrap_or_default();
                        bytes += cell.len();
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
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
        Ok(Some((before, batch.map_err(Error::from)?)))
    }

    fn record(&mut self) -> Result<bool, Unread> {
        let before = self.rows;
        let read = self.records.next(&mut self.record);
        self.rows += u64::from(!matches!(read, Ok(false)));
        match read {
            Ok(false) => return Ok(false),
            Ok(true) => {}
            Err(error) => {
                self.lost = matches!(error, NoRecord::TooLong);
                let text = if self.lost { String::new() } else { self.file.text(&self.record) };
                return Err(Unread::row(self.file.broken(&self.source, &error, before), text));
            }
        }
        for (at, column) in &self.columns {
            if std::str::from_utf8(self.record.get(*at).unwrap_or_default()).is_err() {
                let error = self.file.not_text(before, &column.name).of(&self.source);
                return Err(Unread::row(error, self.file.text(&self.record)));
            }
        }
        Ok(true)
    }
}

impl Iterator for CsvBatches {
    type Item = Result<(u64, RecordBatch), Unread>;

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
        // An integer of which a float would lose digits is an identifier, and so is one past 64 bits.
        let lossy = || text.parse::<f64>().is_ok_and(|float| is_another(text, float));
        let long = || text.parse::<i64>().is_err() && text.parse::<u64>().is_err();
        self.integer = self.integer && !(integer && (long() || lossy()));
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

/// Whether a text is a number as data has it; `nan`, `inf` and `infinity` are, in any case. One past all
/// floats is none.
fn number(text: &str) -> bool {
    text.parse::<f64>()
        .is_ok_and(|float| !float.is_infinite() || !text.contains(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_guessed_from_all_rows() {
        for (texts, kind) in [
            (&["1", "-2"][..], "int64"),
            (&["1", "18446744073709551615"], "uint64"),
            (&["-1", "18446744073709551615"], "string"),
            (&["-1", "18446744073709549568"], "float64"),
            (&["9007199254740992", "1.5"], "float64"),
            (&["9007199254740993", "1.5"], "string"),
            (&["1e308", "inf"], "float64"),
            (&["1e309"], "string"),
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
