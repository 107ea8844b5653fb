//! The body of a push: JSON, NDJSON or an Arrow IPC stream, to a batch of the source's raw columns.
//!
//! JSON cells keep their own text until the source's rules read them ([`ndjson::typed`]), as those of NDJSON files
//! do: a batch means what a file of the same rows means.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringBuilder, new_null_array,
};
use arrow::buffer::Buffer;
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::root_as_message;
use asof_compute::arrow_type;
use asof_model::{Column, DataType, nearest};
use hashbrown::HashMap;
use indexmap::IndexMap;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::{BadRow, MOST_ROWS};
use crate::source::columns::can_read;
use crate::source::ndjson::{DEEPEST, JSON, is_deeper};
use crate::source::parquet::unpanicked;
use crate::{Error, Result};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// An array of objects, one object, or `{"rows": [...]}`.
    Json,
    /// An object a line.
    Ndjson,
    /// An Arrow IPC stream.
    Arrow,
}

/// The key under which rows may stand in an object of their own.
const ROWS: &str = "rows";

/// Bytes that a packed Arrow stream may have unpacked.
const MOST_UNPACKED: u64 = 256 << 20;

/// Names of columns that a batch has and the source has not, of which so many are told.
const NAMED: usize = 8;

/// An object's members as they stand: of a name that stands twice none is lost.
struct Top<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Top<'t> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Top<'t>, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut members: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = members.next_entry()? {
                    all.push(member);
                }
                Ok(all)
            }
        }
        from.deserialize_map(Members).map(Top)
    }
}

/// The columns of a source, as a body is read for them.
#[derive(Debug)]
pub(super) struct Columns {
    source: String,
    all: Vec<Column>,
    places: HashMap<String, usize>,
    /// Texts of JSON values.
    json: SchemaRef,
}

/// Rows as they were sent.
#[derive(Debug)]
pub(super) struct Raw {
    /// One column for each of the source, as it was sent.
    pub(super) batch: RecordBatch,
    /// The number of each row of the batch, from 1; none where no row was bad so far.
    pub(super) numbers: Option<Vec<u64>>,
    /// Rows that are none.
    pub(super) bad: Vec<BadRow>,
    /// Rows sent, bad ones too.
    pub(super) sent: u64,
}

impl Columns {
    pub(super) fn of(source: &str, all: &[Column]) -> Columns {
        let json = [(JSON.to_owned(), String::new())];
        let field = |column: &Column| {
            Field::new(&column.name, ArrowType::Utf8, true).with_metadata(json.clone().into())
        };
        Columns {
            source: source.to_owned(),
            all: all.to_vec(),
            places: all.iter().enumerate().map(|(at, column)| (column.name.clone(), at)).collect(),
            json: Arc::new(Schema::new(all.iter().map(field).collect::<Vec<_>>())),
        }
    }

    /// Takes a body apart.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not of its format, has columns that the source has not, or more rows than a
    /// batch may have.
    pub(super) fn read(&self, body: &[u8], format: BodyFormat) -> Result<Raw> {
        match format {
            BodyFormat::Arrow => self.arrow(body),
            BodyFormat::Json | BodyFormat::Ndjson => {
                let text = std::str::from_utf8(body)
                    .map_err(|_| self.invalid("bad_json", "is not JSON: it is not UTF-8 text"))?;
                let text = text.strip_prefix('\u{feff}').unwrap_or(text);
                let mut cells = Cells::new(self);
                match format {
                    BodyFormat::Ndjson => self.lines(text, &mut cells)?,
                    _ => self.json(text, &mut cells)?,
                }
                self.finish(cells)
            }
        }
    }

    fn json<'t>(&self, text: &'t str, cells: &mut Cells<'_, 't>) -> Result<()> {
        let broken = |error: &serde_json::Error| self.not_json(error);
        match text.trim_start().as_bytes().first() {
            Some(b'{') => {
                let Top(top) = serde_json::from_str(text).map_err(|e| broken(&e))?;
                let only_rows = top.iter().all(|(name, _)| name == ROWS) && !self.places.contains_key(ROWS);
                match top.first() {
                    Some((_, rows)) if only_rows && top.len() == 1 => self.array(rows.get(), cells),
                    Some(_) if only_rows => {
                        let message = format!("has `{ROWS}` {} times", top.len());
                        Err(self.invalid("bad_json", &message))
                    }
                    _ => {
                        let mut read = serde_json::Deserializer::from_str(text);
                        Row(cells).deserialize(&mut read).map_err(|e| broken(&e))?;
                        cells.end_row();
                        Ok(())
                    }
                }
            }
            _ => self.array(text, cells),
        }
    }

    fn array<'t>(&self, text: &'t str, cells: &mut Cells<'_, 't>) -> Result<()> {
        if !text.trim_start().starts_with('[') {
            let message = "is neither a JSON array of objects nor an object";
            return Err(self.invalid("bad_json", message));
        }
        let mut read = serde_json::Deserializer::from_str(text);
        Rows(cells)
            .deserialize(&mut read)
            .and_then(|()| read.end())
            .map_err(|error| self.not_json(&error))?;
        self.few_enough(cells.sent)
    }

    fn lines<'t>(&self, text: &'t str, cells: &mut Cells<'_, 't>) -> Result<()> {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let mut read = serde_json::Deserializer::from_str(line);
            let row = Row(cells).deserialize(&mut read).and_then(|()| read.end());
            if let Err(error) = row {
                cells.bad_row(match error.classify() {
                    Category::Eof => "is cut short: its JSON does not end where its line does, and NDJSON is an object a line",
                    _ => "is not JSON",
                });
            }
            cells.end_row();
            self.few_enough(cells.sent)?;
        }
        Ok(())
    }

    fn few_enough(&self, rows: u64) -> Result<()> {
        if rows <= MOST_ROWS {
            return Ok(());
        }
        let message = format!("has more than {MOST_ROWS} rows");
        Err(self.invalid("batch_too_large", &message).with_hint("send it in several batches"))
    }

    fn finish(&self, cells: Cells<'_, '_>) -> Result<Raw> {
        let Cells { builders, rows, unknown, numbers, bad, sent, .. } = cells;
        if !unknown.is_empty() {
            let places = unknown.iter().map(|(name, row)| (name.as_str(), Some(*row)));
            return Err(self.new_columns(places));
        }
        let arrays: Vec<ArrayRef> =
            builders.into_iter().map(|mut builder| Arc::new(builder.finish()) as ArrayRef).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.json), arrays, &options)?;
        let numbers = (!bad.is_empty()).then_some(numbers);
        Ok(Raw { batch, numbers, bad, sent })
    }

    fn arrow(&self, body: &[u8]) -> Result<Raw> {
        // Its reader panics over some damaged bytes.
        let Some(Ok((schema, batches))) = unpanicked(|| stream(body)) else {
            return Err(self.invalid("bad_arrow", "is no Arrow IPC stream, or is damaged or cut short"));
        };
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let new: Vec<&str> = names.filter(|name| !self.places.contains_key(*name)).collect();
        if !new.is_empty() {
            return Err(self.new_columns(new.into_iter().map(|name| (name, None))));
        }
        let mut places = Vec::with_capacity(self.all.len());
        for column in &self.all {
            let mut found =
                schema.fields().iter().enumerate().filter(|(_, field)| *field.name() == column.name);
            places.push(match (found.next(), found.next()) {
                (None, _) => None,
                (Some((at, field)), None) => {
                    if !can_read(field.data_type(), &column.data_type) {
                        let (name, kind) = (&column.name, field.data_type());
                        let message =
                            format!("has column `{name}` as {kind}, and the source as {}", column.data_type);
                        return Err(self.invalid("column_type", &message).with_hint(
                            "cast it where it is made, or give the column that type in `schema`",
                        ));
                    }
                    Some(at)
                }
                (Some(_), Some(_)) => {
                    let message = format!("has two columns named `{}`", column.name);
                    return Err(self.invalid("column_twice", &message));
                }
            });
        }
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).fold(0, u64::saturating_add);
        self.few_enough(rows)?;
        let whole = concat_batches(&schema, &batches)?;
        let mut fields = Vec::with_capacity(places.len());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(places.len());
        for (column, place) in self.all.iter().zip(places) {
            let array = match place {
                Some(at) => Arc::clone(whole.column(at)),
                None => new_null_array(&arrow_type(&column.data_type), whole.num_rows()),
            };
            // Without its metadata: it must not be taken for texts of JSON.
            fields.push(Field::new(&column.name, array.data_type().clone(), true));
            arrays.push(array);
        }
        let mut bad = BTreeMap::new();
        for (column, array) in self.all.iter().zip(&arrays).filter(|(it, _)| it.data_type == DataType::Json) {
            let texts = cast(array, &ArrowType::Utf8)?;
            for (row, text) in texts.as_string::<i32>().iter().enumerate() {
                if let Some(reason) = text.and_then(not_a_value) {
                    bad.entry(row).or_insert_with(|| format!("column `{}` {reason}", column.name));
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(whole.num_rows()));
        let mut batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
        let mut numbers = None;
        if !bad.is_empty() {
            let good: BooleanArray = (0..batch.num_rows()).map(|row| Some(!bad.contains_key(&row))).collect();
            batch = filter_record_batch(&batch, &good)?;
            numbers = Some((0..rows).filter(|row| good.value(*row as usize)).map(|row| row + 1).collect());
        }
        let bad = bad.into_iter().map(|(row, reason)| BadRow { row: row as u64 + 1, reason }).collect();
        Ok(Raw { batch, numbers, bad, sent: rows })
    }

    fn new_columns<'a>(&self, new: impl Iterator<Item = (&'a str, Option<u64>)>) -> Error {
        let new: Vec<(&str, Option<u64>)> = new.collect();
        let told: Vec<String> = new
            .iter()
            .take(NAMED)
            .map(|(name, row)| match row {
                Some(row) => format!("`{name}` (row {row})"),
                None => format!("`{name}`"),
            })
            .collect();
        let (noun, it) = if new.len() == 1 { ("column", "it") } else { ("columns", "them") };
        let more = if new.len() > NAMED { " and more" } else { "" };
        let message = format!("has the {noun} {}{more}, and the source has not", told.join(", "));
        let near = match new.as_slice() {
            [(name, _)] => nearest(name, self.all.iter().map(|column| column.name.as_str())),
            _ => None,
        };
        self.invalid("new_column", &message).with_hint(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "leave {it} out, or name {it} in the source's `schema`: `asof plan` then says what becomes of the rows \
                 pushed so far"
            ),
        })
    }

    fn not_json(&self, error: &serde_json::Error) -> Error {
        let (line, column) = (error.line(), error.column());
        self.invalid(
            "bad_json",
            &match error.classify() {
                Category::Eof => "is cut short: its JSON does not end".to_owned(),
                _ => format!("is not JSON: line {line}, column {column}"),
            },
        )
    }

    fn invalid(&self, code: &'static str, what: &str) -> Error {
        Error::invalid(code, format!("source `{}`: the batch {what}; nothing of it was taken", self.source))
    }
}

/// Why a text is no JSON value as a body of JSON may hold one.
fn not_a_value(text: &str) -> Option<&'static str> {
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Some("is not JSON");
    }
    is_deeper(text, DEEPEST - 1).then_some("nests deeper than 64 lists and objects")
}

/// Refuses a stream that says it unpacks to more than any batch needs: so much memory would be asked for at once.
fn unpacks(body: &[u8]) -> Result<(), ArrowError> {
    let broken = || ArrowError::IpcError("it is cut short, or unpacks to too much".to_owned());
    let (mut rest, mut unpacked) = (body, 0_u64);
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        rest = after;
        let size = u32::from_le_bytes(*size);
        if size == u32::MAX {
            continue;
        }
        if size == 0 {
            break;
        }
        let (message, after) = rest.split_at_checked(size as usize).ok_or_else(broken)?;
        let message = root_as_message(message).map_err(|_| broken())?;
        let length = usize::try_from(message.bodyLength()).map_err(|_| broken())?;
        let (buffers, after) = after.split_at_checked(length).ok_or_else(broken)?;
        rest = after;
        let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        let Some(batch) = message.header_as_record_batch().or(dictionary) else { continue };
        if batch.compression().is_none() {
            continue;
        }
        for buffer in batch.buffers().into_iter().flatten() {
            let at = usize::try_from(buffer.offset()).map_err(|_| broken())?;
            // Each begins with the length it has unpacked; -1: it is not packed.
            if let Some((length, _)) = buffers.get(at..).and_then(|bytes| bytes.split_first_chunk::<8>()) {
                unpacked = unpacked.saturating_add(i64::from_le_bytes(*length).max(0).cast_unsigned());
            }
        }
        if unpacked > MOST_UNPACKED {
            return Err(broken());
        }
    }
    Ok(())
}

/// The batches of an Arrow IPC stream, every array of them checked in full. What it says of its lengths is believed only
/// as far as there are bytes.
fn stream(body: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    unpacks(body)?;
    let mut decoder = StreamDecoder::new();
    let mut rest = Buffer::from(body);
    let mut batches = Vec::new();
    while !rest.is_empty() {
        batches.extend(decoder.decode(&mut rest)?);
    }
    decoder.finish()?;
    let none = || ArrowError::IpcError("there is no schema".to_owned());
    Ok((decoder.schema().ok_or_else(none)?, batches))
}

/// Cells on their way into columns, row by row.
struct Cells<'a, 't> {
    columns: &'a Columns,
    builders: Vec<StringBuilder>,
    rows: usize,
    sent: u64,
    numbers: Vec<u64>,
    bad: Vec<BadRow>,
    /// Names that are no columns, with the first row that has each: one more than are told.
    unknown: IndexMap<String, u64>,
    /// The cells of the row that is read, each the text of a JSON value.
    row: Vec<Option<&'t str>>,
    /// Why it is no row.
    reason: Option<&'static str>,
}

impl<'a, 't> Cells<'a, 't> {
    fn new(columns: &'a Columns) -> Cells<'a, 't> {
        Cells {
            columns,
            builders: columns.all.iter().map(|_| StringBuilder::new()).collect(),
            rows: 0,
            sent: 0,
            numbers: Vec::new(),
            bad: Vec::new(),
            unknown: IndexMap::new(),
            row: vec![None; columns.all.len()],
            reason: None,
        }
    }

    fn cell(&mut self, at: usize, text: &'t str) {
        // What nests too deep is refused before anything descends into it. The row is one level itself.
        if text.starts_with(['[', '{']) && is_deeper(text, DEEPEST - 1) {
            self.bad_row("nests deeper than 64 lists and objects");
        }
        // Of a key that stands twice the last value counts.
        if let Some(cell) = self.row.get_mut(at) {
            *cell = Some(text).filter(|text| *text != "null");
        }
    }

    fn unknown(&mut self, name: &str) {
        if self.unknown.len() <= NAMED && !self.unknown.contains_key(name) {
            self.unknown.insert(name.to_owned(), self.sent + 1);
        }
    }

    fn bad_row(&mut self, reason: &'static str) {
        self.reason.get_or_insert(reason);
    }

    fn end_row(&mut self) {
        self.sent += 1;
        match self.reason.take() {
            Some(reason) => self.bad.push(BadRow { row: self.sent, reason: reason.to_owned() }),
            None => {
                for (builder, cell) in self.builders.iter_mut().zip(&self.row) {
                    builder.append_option(*cell);
                }
                self.numbers.push(self.sent);
                self.rows += 1;
            }
        }
        self.row.fill(None);
    }
}

/// An array of rows.
struct Rows<'c, 'a, 't>(&'c mut Cells<'a, 't>);

impl<'t> DeserializeSeed<'t> for Rows<'_, '_, 't> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'t> Visitor<'t> for Rows<'_, '_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut rows: A) -> Result<(), A::Error> {
        // Past the most there may be, counting further helps nobody.
        while self.0.sent <= MOST_ROWS && rows.next_element_seed(Row(self.0))?.is_some() {
            self.0.end_row();
        }
        while rows.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// One row; what is no object makes it a bad one.
struct Row<'c, 'a, 't>(&'c mut Cells<'a, 't>);

impl Row<'_, '_, '_> {
    fn no_object(self) {
        self.0.bad_row("is not a JSON object");
    }
}

impl<'t> DeserializeSeed<'t> for Row<'_, '_, 't> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Row<'_, '_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        let mut next = 0;
        while let Some(at) = map.next_key_seed(Key { cells: self.0, next })? {
            match at {
                Some(at) => {
                    self.0.cell(at, map.next_value::<&'t RawValue>()?.get());
                    next = at + 1;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        self.no_object();
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.no_object();
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.no_object();
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.no_object();
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.no_object();
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.no_object();
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.no_object();
        Ok(())
    }
}

/// A key, as the place of its column.
struct Key<'c, 'a, 't> {
    cells: &'c mut Cells<'a, 't>,
    /// Where it stands if rows are written in the order of the columns.
    next: usize,
}

impl<'t> DeserializeSeed<'t> for Key<'_, '_, 't> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'t>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl<'t> Visitor<'t> for Key<'_, '_, 't> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name of a column")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        let columns = self.cells.columns;
        if columns.all.get(self.next).is_some_and(|column| column.name == name) {
            return Ok(Some(self.next));
        }
        let found = columns.places.get(name).copied();
        if found.is_none() {
            self.cells.unknown(name);
        }
        Ok(found)
    }
}
