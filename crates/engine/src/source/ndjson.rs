//! NDJSON files: one JSON object a line, read strictly in the agreed types.
//!
//! A key that is not there is null. Numbers keep their digits: they are read from their own text.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray,
    RecordBatch, RecordBatchOptions, StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use asof_compute::arrow_type;
use asof_model::{Column, DataType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexMap;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::{convert, is_another, parse_date};
use super::files::Unread;
use super::identity::{Cursor, Held};
use super::instants::{BadValue, parse};
use super::rules::BadRow;
use super::{LONGEST_BATCH, LONGEST_RECORD};
use crate::{Error, Result};

/// An NDJSON file.
#[derive(Debug, Clone)]
pub(crate) struct NdjsonFile {
    held: Arc<Held>,
}

/// How deep the values of a line may nest. What nests deeper is refused before anything descends into it:
/// a stack has an end, and a line of brackets must not reach it.
pub(crate) const DEEPEST: usize = 64;

/// How deep a type may nest ([`DataType::parse`]); what nests deeper within a column is JSON.
const DEEPEST_TYPE: usize = 16;

/// How many keys a line may have, a file's lines together, and an object within a value to be a struct; past
/// them keys are data.
const MOST_KEYS: usize = 10_000;

/// Of a line that is too long, what is kept to be shown: 64 KiB.
const SHOWN: usize = 64 << 10;

/// The keys of an object as they stand in the text, each once.
struct Object<'a> {
    keys: IndexMap<String, &'a RawValue>,
    /// There were more than [`MOST_KEYS`]; those are left out.
    more: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<'a>, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut keys = IndexMap::new();
                while keys.len() <= MOST_KEYS {
                    let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? else {
                        return Ok(Object { keys, more: false });
                    };
                    // Of a key that stands twice the last value counts.
                    keys.insert(name, value);
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Object { keys, more: true })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl NdjsonFile {
    pub(crate) fn open(held: Arc<Held>) -> NdjsonFile {
        NdjsonFile { held }
    }

    fn lines(&self) -> Lines {
        let reader = BufReader::with_capacity(1 << 16, Cursor::new(Arc::clone(&self.held), 0));
        Lines { file: self.clone(), reader, line: 0 }
    }

    /// What every row says about the columns, their types, and in how many rows each has a value. Reads the
    /// whole file.
    pub(crate) fn guess(&self, source: &str, columns: &mut IndexMap<String, (Shape, u64)>) -> Result<u64> {
        let mut lines = self.lines();
        let mut text = String::new();
        let mut rows = 0;
        loop {
            match lines.next(&mut text)? {
                Line::End => return Ok(rows),
                Line::TooLong => return Err(lines.too_long(rows).of(source)),
                Line::Whole => {}
            }
            let object = lines.object(&text, rows).map_err(|bad| bad.of(source))?;
            for (name, value) in object.keys {
                let (shape, seen) = columns.entry(name).or_default();
                *seen += u64::from(value.get() != "null");
                *shape = std::mem::take(shape).with(Shape::of(value, 0));
            }
            if columns.len() > MOST_KEYS {
                return Err(lines.too_many(rows, "it and the rows before it have").of(source));
            }
            rows += 1;
        }
    }

    /// The keys of all objects, except those `known`; lines that are none are left to whoever reads the
    /// rows. At most so many, and then some. Reads the whole file.
    pub(crate) fn new_keys(&self, known: &BTreeSet<String>, most: usize) -> Result<BTreeSet<String>> {
        let mut new = BTreeSet::new();
        let mut lines = self.lines();
        let mut text = String::new();
        while new.len() <= most {
            match lines.next(&mut text)? {
                Line::End => break,
                Line::TooLong => continue,
                Line::Whole => {}
            }
            if let Ok(object) = lines.object(&text, 0) {
                new.extend(object.keys.into_keys().filter(|key| !known.contains(key)));
            }
        }
        Ok(new)
    }

    /// Reads the file in batches of at most so many rows: each cell as its JSON text ([`JSON`]).
    pub(crate) fn read(&self, source: &str, columns: &[Column], batch: usize) -> NdjsonBatches {
        let names = columns.iter().map(|column| column.name.clone()).collect();
        NdjsonBatches { source: source.to_owned(), lines: self.lines(), names, batch, rows: 0, bad: None }
    }
}

/// Says of a field that its texts are JSON values, to be read by [`typed`].
pub(crate) const JSON: &str = "asof.json";

/// JSON cells in a type.
///
/// # Errors
/// [`BadValue`] at the first that is not of the type.
pub(crate) fn typed(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef, BadValue> {
    let wrong = || BadValue { row: 0, reason: "is not JSON".to_owned() };
    let texts = array.as_any().downcast_ref::<StringArray>().ok_or_else(wrong)?;
    let cells: Vec<Option<&str>> = texts.iter().collect();
    build(kind, &cells)
}

struct Lines {
    file: NdjsonFile,
    reader: BufReader<Cursor>,
    line: u64,
}

/// What comes next of a file.
enum Line {
    End,
    Whole,
    /// A line of more than [`LONGEST_RECORD`] bytes, of which the first [`SHOWN`] are kept.
    TooLong,
}

impl Lines {
    /// The next line that is not blank.
    fn next(&mut self, text: &mut String) -> Result<Line> {
        loop {
            text.clear();
            let mut bytes = std::mem::take(text).into_bytes();
            let unread = |e: std::io::Error| self.file.held.unread(&e);
            let most = LONGEST_RECORD as u64 + 1;
            let got = self.reader.by_ref().take(most).read_until(b'\n', &mut bytes).map_err(unread)?;
            if got == 0 {
                return Ok(Line::End);
            }
            self.line += 1;
            let long = got > LONGEST_RECORD && bytes.last() != Some(&b'\n');
            if long {
                self.reader.skip_until(b'\n').map_err(unread)?;
                bytes.truncate(SHOWN);
                *text = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Line::TooLong);
            }
            // What is not UTF-8 is no JSON either, and is found so where the line is read.
            *text = String::from_utf8(bytes).unwrap_or_else(|_| "\u{fffd}".to_owned());
            if self.line == 1 && text.starts_with('\u{feff}') {
                text.drain(..3);
            }
            if !text.trim().is_empty() {
                return Ok(Line::Whole);
            }
        }
    }

    /// The row that a line is, as far as anybody can say where it stands.
    fn bad(&self, before: u64, reason: &str, hint: &str) -> BadRow {
        let reason = format!("{reason} (line {} of the file)", self.line);
        BadRow::new(&self.file.held.shown, before, reason).hint(hint)
    }

    fn too_long(&self, before: u64) -> BadRow {
        let reason = format!("is longer than {} MiB", LONGEST_RECORD >> 20);
        self.bad(before, &reason, "NDJSON is one JSON object a line")
    }

    fn too_many(&self, before: u64, who: &str) -> BadRow {
        let hint = "keys that are data belong into an object of their own, e.g. {\"counts\": {..}}, which is read as `json`";
        self.bad(before, &format!("{who} more than {MOST_KEYS} keys"), hint)
    }

    fn object<'a>(&self, text: &'a str, before: u64) -> Result<Object<'a>, BadRow> {
        if is_deeper(text, DEEPEST) {
            let reason = format!("nests deeper than {DEEPEST} lists and objects");
            return Err(self.bad(before, &reason, "write what nests so deep as one text, or leave it out"));
        }
        let object: Object<'_> = serde_json::from_str(text).map_err(|e| {
            let reason = match e.classify() {
                serde_json::error::Category::Eof => "is cut short: its JSON does not end",
                serde_json::error::Category::Data => "is not a JSON object",
                _ => "is not JSON",
            };
            self.bad(before, reason, "NDJSON is one JSON object a line")
        })?;
        if object.more { Err(self.too_many(before, "has")) } else { Ok(object) }
    }
}

/// Whether brackets outside texts stand deeper than this within each other, whatever else the text is.
pub(crate) fn is_deeper(text: &str, limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                // Up to the quote that ends it; a backslash takes the next byte with it.
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

/// Batches of an NDJSON file.
pub(crate) struct NdjsonBatches {
    source: String,
    lines: Lines,
    names: Vec<String>,
    batch: usize,
    /// Rows read, bad ones too.
    rows: u64,
    /// A bad row met behind the last batch.
    bad: Option<Unread>,
}

impl NdjsonBatches {
    /// The next batch with the number of rows before it. A line that is no JSON object ends the batch
    /// before it and comes as an error of its own; reading goes on behind it.
    fn batch(&mut self) -> Result<Option<(u64, RecordBatch)>, Unread> {
        if let Some(bad) = self.bad.take() {
            return Err(bad);
        }
        let before = self.rows;
        let mut builders: Vec<StringBuilder> = self.names.iter().map(|_| StringBuilder::new()).collect();
        let mut rows = 0;
        let mut bytes = 0;
        let mut text = String::new();
        while rows < self.batch && bytes < LONGEST_BATCH {
            let bad = match self.lines.next(&mut text)? {
                Line::End => break,
                Line::TooLong => self.lines.too_long(self.rows),
                Line::Whole => match self.lines.object(&text, self.rows) {
                    Ok(object) => {
                        for (builder, name) in builders.iter_mut().zip(&self.names) {
                            let cell = object.keys.get(name).map(|cell| cell.get());
                            builder.append_option(cell.filter(|cell| *cell != "null"));
                        }
                        bytes += text.len();
                        rows += 1;
                        self.rows += 1;
                        continue;
                    }
                    Err(bad) => bad,
                },
            };
            self.rows += 1;
            let bad = Unread::row(bad.of(&self.source), text.trim_end().to_owned());
            if rows == 0 {
                return Err(bad);
            }
            self.bad = Some(bad);
            break;
        }
        if rows == 0 {
            return Ok(None);
        }
        let json = [(JSON.to_owned(), String::new())];
        let fields: Vec<Field> = self
            .names
            .iter()
            .map(|name| Field::new(name, ArrowType::Utf8, true).with_metadata(json.clone().into()))
            .collect();
        let arrays: Vec<ArrayRef> =
            builders.into_iter().map(|mut builder| Arc::new(builder.finish()) as ArrayRef).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
        Ok(Some((before, batch.map_err(Error::from)?)))
    }
}

impl Iterator for NdjsonBatches {
    type Item = Result<(u64, RecordBatch), Unread>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

/// The text that a JSON string stands for.
fn plain(quoted: &str) -> Option<Cow<'_, str>> {
    match quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        // Nothing in it stands for anything else.
        Some(inner) if !inner.contains('\\') => Some(Cow::Borrowed(inner)),
        _ => serde_json::from_str(quoted).ok().map(Cow::Owned),
    }
}

/// Texts that are all whole numbers of 64 bits, as most are; none where one is something else.
fn whole(texts: &[Option<&str>]) -> Option<ArrayRef> {
    let mut out = Vec::with_capacity(texts.len());
    for text in texts {
        out.push(match text {
            Some(text) if text.starts_with('+') => return None,
            Some(text) => Some(text.parse::<i64>().ok()?),
            None => None,
        });
    }
    Some(Arc::new(Int64Array::from(out)))
}

/// Cells, each the text of a JSON value, as an array of a type.
fn build(kind: &DataType, cells: &[Option<&str>]) -> Result<ArrayRef, BadValue> {
    let wrong = |row: usize| BadValue { row, reason: format!("is not a value of type {kind}") };
    let texts: Vec<Option<&str>> = cells.iter().map(|cell| cell.filter(|text| *text != "null")).collect();
    // Values that a quoted text or a bare number may stand for, read by the same rules as CSV cells.
    let as_text = |quoted: bool, bare: bool| -> Result<ArrayRef, BadValue> {
        let mut out =
            StringBuilder::with_capacity(texts.len(), texts.iter().flatten().map(|it| it.len()).sum());
        for (row, text) in texts.iter().enumerate() {
            match text {
                None => out.append_null(),
                Some(text) if text.starts_with('"') && quoted => {
                    out.append_value(plain(text).ok_or_else(|| wrong(row))?);
                }
                Some(text) if bare && text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                    out.append_value(text);
                }
                Some(_) => return Err(wrong(row)),
            }
        }
        Ok(Arc::new(out.finish()))
    };
    Ok(match kind {
        DataType::Bool => {
            let mut out = Vec::with_capacity(texts.len());
            for (row, text) in texts.iter().enumerate() {
                out.push(match *text {
                    None => None,
                    Some("true") => Some(true),
                    Some("false") => Some(false),
                    Some(_) => return Err(wrong(row)),
                });
            }
            Arc::new(BooleanArray::from(out))
        }
        DataType::Float32 | DataType::Float64 => {
            let nearest = |text: &str| match kind {
                DataType::Float32 => text.parse::<f32>().map(f64::from),
                _ => text.parse::<f64>(),
            };
            let mut out = Vec::with_capacity(texts.len());
            for (row, text) in texts.iter().enumerate() {
                out.push(match *text {
                    None => None,
                    Some("\"NaN\"") => Some(f64::NAN),
                    Some("\"Infinity\"") => Some(f64::INFINITY),
                    Some("\"-Infinity\"") => Some(f64::NEG_INFINITY),
                    Some(text) if text.starts_with('"') => return Err(wrong(row)),
                    Some(text) => {
                        let found = nearest(text).map_err(|_| wrong(row))?;
                        if is_another(text, found) {
                            return Err(wrong(row));
                        }
                        Some(found)
                    }
                });
            }
            match kind {
                DataType::Float32 => Arc::new(Float32Array::from_iter(
                    out.into_iter().map(|value| value.map(|value| value as f32)),
                )),
                _ => Arc::new(Float64Array::from(out)),
            }
        }
        DataType::String => as_text(true, false)?,
        DataType::Json => Arc::new(StringArray::from(texts)),
        DataType::Timestamp | DataType::Date | DataType::Uuid => convert(&as_text(true, false)?, kind)?,
        DataType::Decimal { .. } => convert(&as_text(true, true)?, kind)?,
        DataType::Bytes => {
            let mut out = BinaryBuilder::new();
            for (row, text) in texts.iter().enumerate() {
                match text {
                    None => out.append_null(),
                    Some(text) => {
                        let text = plain(text).ok_or_else(|| wrong(row))?;
                        let bytes = STANDARD.decode(text.as_ref()).map_err(|_| BadValue {
                            row,
                            reason: "is not base64, as bytes are written in JSON".to_owned(),
                        })?;
                        out.append_value(bytes);
                    }
                }
            }
            Arc::new(out.finish())
        }
        DataType::List(item) => {
            let mut inner: Vec<Option<&str>> = Vec::new();
            let mut lengths = Vec::with_capacity(cells.len());
            let mut owners = Vec::new();
            for (row, text) in texts.iter().enumerate() {
                let values: Vec<&RawValue> = match text {
                    Some(text) => serde_json::from_str(text).map_err(|_| wrong(row))?,
                    None => Vec::new(),
                };
                lengths.push(values.len());
                owners.extend(std::iter::repeat_n(row, values.len()));
                inner.extend(values.into_iter().map(|value| Some(value.get())));
            }
            let values = build(item, &inner).map_err(|bad| BadValue {
                row: owners.get(bad.row).copied().unwrap_or(0),
                reason: bad.reason,
            })?;
            let field = Arc::new(Field::new_list_field(arrow_type(item), true));
            let nulls = NullBuffer::from_iter(texts.iter().map(Option::is_some));
            let offsets = OffsetBuffer::from_lengths(lengths);
            Arc::new(ListArray::try_new(field, offsets, values, Some(nulls)).map_err(|_| wrong(0))?)
        }
        DataType::Struct(wanted) => {
            let mut objects: Vec<Option<BTreeMap<String, &RawValue>>> = Vec::with_capacity(cells.len());
            for (row, text) in texts.iter().enumerate() {
                objects.push(match text {
                    Some(text) => Some(serde_json::from_str(text).map_err(|_| wrong(row))?),
                    None => None,
                });
            }
            let mut fields = Vec::with_capacity(wanted.len());
            let mut columns = Vec::with_capacity(wanted.len());
            for (name, kind) in wanted {
                let cells: Vec<Option<&str>> = objects
                    .iter()
                    .map(|object| object.as_ref().and_then(|object| object.get(name)).map(|cell| cell.get()))
                    .collect();
                fields.push(Field::new(name, arrow_type(kind), true));
                columns.push(build(kind, &cells)?);
            }
            let nulls = NullBuffer::from_iter(texts.iter().map(Option::is_some));
            Arc::new(StructArray::try_new(fields.into(), columns, Some(nulls)).map_err(|_| wrong(0))?)
        }
        DataType::Int64 => match whole(&texts) {
            Some(found) => found,
            None => convert(&as_text(false, true)?, kind)?,
        },
        // An integer: its own digits, nothing that would have to be rounded.
        _ => convert(&as_text(false, true)?, kind)?,
    })
}

/// Whether all integers seen are floats, too, so that they may stand beside some.
type Exact = bool;

/// What JSON values seen so far may all be.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Shape {
    /// Only nulls.
    #[default]
    Null,
    Bool,
    Int64(Exact),
    UInt64(Exact),
    Float,
    Date,
    Time,
    String,
    List(Box<Shape>),
    Struct(IndexMap<String, Shape>),
    /// Values of different shapes.
    Json,
}

impl Shape {
    /// `depth`: how many lists and objects of its column stand around it.
    fn of(value: &RawValue, depth: usize) -> Shape {
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'n') | None => Shape::Null,
            Some(b't' | b'f') => Shape::Bool,
            Some(b'"') => {
                let plain: String = serde_json::from_str(text).unwrap_or_default();
                if parse_date(&plain).is_some() {
                    Shape::Date
                } else if plain.len() > 10 && parse(&plain, None).is_some() {
                    Shape::Time
                } else {
                    Shape::String
                }
            }
            Some(b'[' | b'{') if depth == DEEPEST_TYPE => Shape::Json,
            Some(b'[') => {
                let values: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
                let item = values
                    .into_iter()
                    .map(|value| Shape::of(value, depth + 1))
                    .fold(Shape::Null, Shape::with);
                Shape::List(Box::new(item))
            }
            Some(b'{') => {
                let Ok(object) = serde_json::from_str::<Object<'_>>(text) else { return Shape::Json };
                if object.more {
                    return Shape::Json;
                }
                let fields = object.keys.into_iter();
                Shape::Struct(fields.map(|(name, value)| (name, Shape::of(value, depth + 1))).collect())
            }
            Some(_) => {
                let lossy = text.parse::<f64>().map_or(true, |float| is_another(text, float));
                if text.parse::<i64>().is_ok() {
                    Shape::Int64(!lossy)
                } else if text.parse::<u64>().is_ok() {
                    Shape::UInt64(!lossy)
                } else if lossy || text.bytes().skip(1).all(|b| b.is_ascii_digit()) {
                    Shape::Json
                } else {
                    Shape::Float
                }
            }
        }
    }

    fn with(self, other: Shape) -> Shape {
        match (self, other) {
            (Shape::Null, other) | (other, Shape::Null) => other,
            (a, b) if a == b => a,
            (Shape::Int64(a), Shape::Int64(b)) => Shape::Int64(a && b),
            (Shape::UInt64(a), Shape::UInt64(b)) => Shape::UInt64(a && b),
            (Shape::Int64(true) | Shape::UInt64(true), Shape::Float)
            | (Shape::Float, Shape::Int64(true) | Shape::UInt64(true))
            | (Shape::Int64(true), Shape::UInt64(true))
            | (Shape::UInt64(true), Shape::Int64(true)) => Shape::Float,
            (Shape::Date, Shape::Time) | (Shape::Time, Shape::Date) => Shape::Time,
            (Shape::Date | Shape::Time, Shape::String) | (Shape::String, Shape::Date | Shape::Time) => {
                Shape::String
            }
            (Shape::List(a), Shape::List(b)) => Shape::List(Box::new(a.with(*b))),
            (Shape::Struct(mut a), Shape::Struct(b)) => {
                for (name, shape) in b {
                    let into = a.entry(name).or_default();
                    *into = std::mem::take(into).with(shape);
                }
                if a.len() > MOST_KEYS { Shape::Json } else { Shape::Struct(a) }
            }
            _ => Shape::Json,
        }
    }

    /// The type that holds all that was seen; json where shapes differ or are not known.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Shape::Null | Shape::Json => DataType::Json,
            Shape::Bool => DataType::Bool,
            Shape::Int64(_) => DataType::Int64,
            Shape::UInt64(_) => DataType::UInt64,
            Shape::Float => DataType::Float64,
            Shape::Date => DataType::Date,
            Shape::Time => DataType::Timestamp,
            Shape::String => DataType::String,
            Shape::List(item) => DataType::List(Box::new(item.data_type())),
            Shape::Struct(fields) if fields.is_empty() => DataType::Json,
            Shape::Struct(fields) => DataType::Struct(
                fields.iter().map(|(name, shape)| (name.clone(), shape.data_type())).collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(lines: &str) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        std::fs::write(&path, lines).unwrap();
        let mut columns = IndexMap::new();
        NdjsonFile::open(Arc::new(Held::open(&path, "a.ndjson")?)).guess("s", &mut columns)?;
        Ok(columns.into_iter().map(|(name, (shape, _))| format!("{name}: {}", shape.data_type())).collect())
    }

    #[test]
    fn types_are_guessed_from_all_rows() {
        for (lines, types) in [
            ("{\"b\":1,\"a\":1.5}\n{\"a\":2,\"c\":[]}", &["b: int64", "a: float64", "c: list<json>"][..]),
            // Of a key that stands twice the last value counts.
            ("{\"a\":\"x\",\"b\":1,\"a\":2}", &["a: int64", "b: int64"]),
            // Digits are not lost: neither beside a float nor beside the other kind of integer.
            ("{\"a\":9007199254740993}\n{\"a\":1.5}", &["a: json"]),
            ("{\"a\":1.5}\n{\"a\":9007199254740992}", &["a: float64"]),
            ("{\"a\":9007199254740993}\n{\"a\":7}", &["a: int64"]),
            ("{\"a\":-1}\n{\"a\":18446744073709551615}", &["a: json"]),
            ("{\"a\":-1}\n{\"a\":9223372036854775808}", &["a: float64"]),
            ("{\"a\":1e309}", &["a: json"]),
            ("{\"a\":{\"x\":1}}\n{\"a\":{\"y\":true,\"x\":2.5}}", &["a: struct<x: float64, y: bool>"]),
        ] {
            assert_eq!(guessed(lines).unwrap(), types, "{lines}");
        }
    }

    /// Keys that are data: as many as make each step over all of them a matter of hours.
    #[test]
    fn keys_that_are_data_are_no_columns() {
        let object = |from: usize, to: usize| {
            let keys: Vec<String> = (from..to).map(|number| format!("\"k{number}\":1")).collect();
            format!("{{{}}}", keys.join(","))
        };
        let many = 600_000;
        for (lines, reason) in [
            (object(0, many), "a.ndjson, row 1: has more than 10000 keys (line 1 of the file)"),
            (
                format!("{{}}\n{}", object(0, MOST_KEYS + 1)),
                "a.ndjson, row 2: has more than 10000 keys (line 2",
            ),
            (
                format!("{}\n{}", object(0, MOST_KEYS), object(MOST_KEYS, MOST_KEYS + 1)),
                "row 2: it and the rows before it have more than 10000 keys",
            ),
        ] {
            let error = guessed(&lines).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(guessed(&object(0, MOST_KEYS)).unwrap().len(), MOST_KEYS);
        // Within a column they are a value, in one row or in many.
        assert_eq!(guessed(&format!("{{\"a\":{}}}", object(0, many))).unwrap(), ["a: json"]);
        let rows: String =
            (0..many / 10).map(|row| format!("{{\"a\":{}}}\n", object(row * 10, row * 10 + 10))).collect();
        assert_eq!(guessed(&rows).unwrap(), ["a: json"]);
        assert!(
            guessed(&format!("{{\"a\":{}}}", object(0, MOST_KEYS))).unwrap()[0].starts_with("a: struct<k0")
        );
    }
}
