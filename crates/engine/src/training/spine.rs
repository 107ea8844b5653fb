//! Spines: reading them in any format, their times and keys.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use asof_model::{Column, FileFormat, Format, Name, Selection, Source, SpineRecord, TimeUnit};
use datafusion::error::DataFusionError;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::kept::{Kept, Staging, unchanged};
use super::write::bytes_of;
use super::{SpineInput, all_readings, key_names};
use crate::query::SqlLimits;
use crate::source::ScanColumns;
use crate::source::files::open_one;
use crate::source::find::Found;
use crate::source::identity::{Held, stamp};
use crate::source::infer::infer;
use crate::source::instants::{instant_type, instants, readable};
use crate::source::options::Options;
use crate::source::parquet::{BROKEN_PAGE, check_nesting, unpanicked};
use crate::source::rules::{Place, Rules};
use crate::threads::in_parallel;
use crate::{Engine, Error, Result};
use asof_model::nearest;

/// The column of times in what the operator is asked with.
pub(super) const TIME: &str = "__time";
/// What a spine without a name is called.
const NAMELESS: &str = "the spine";
/// Rows of a batch of a spine.
const BATCH: usize = 65_536;
/// Seconds a spine's query may take.
const QUERY_TIME: std::time::Duration = std::time::Duration::from_secs(3_600);

/// A spine, read.
pub(super) struct Spine {
    /// All its columns, as they came.
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    /// Its keys, and [`TIME`].
    pub(super) asked: Vec<RecordBatch>,
    pub(super) rows: u64,
    pub(super) kept: Kept,
    format: FileFormat,
    time: TimeColumn,
    name: Option<String>,
}

/// Where a spine's times are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TimeColumn {
    name: String,
    unit: Option<TimeUnit>,
}

impl Spine {
    /// What the record says of it, but for what is known only when it is kept: hash and bytes.
    pub(super) fn record(&self, sql: Option<String>) -> SpineRecord {
        SpineRecord {
            hash: String::new(),
            rows: self.rows,
            bytes: 0,
            format: self.format,
            time_column: self.time.name.clone(),
            time_unit: self.time.unit,
            name: self.name.clone(),
            sql,
        }
    }
}

/// Reads a spine and holds its bytes until the training ends.
pub(super) async fn read(
    engine: &Engine,
    input: SpineInput,
    time: Option<&str>,
    selection: &Selection,
) -> Result<Spine> {
    let mut was = None;
    let (format, name, kept) = match input {
        SpineInput::Bytes { bytes, format, name } => (format, name, Kept::bytes(engine, bytes).await?),
        SpineInput::File { path, format, name, settled: true } => {
            (format, name, Kept::link(engine, path).await?)
        }
        SpineInput::File { path, format, name, settled: false } => {
            let from = path.clone();
            let stamp = engine.blocking(move || stamp(&from, &from.to_string_lossy())).await?;
            was = Some(stamp.clone());
            (format, name, Kept::copy(engine, path, stamp).await?)
        }
        SpineInput::Sql { text, scope } => {
            let limits = SqlLimits { time: QUERY_TIME, rows: u64::from(u32::MAX), ..SqlLimits::of(engine) };
            let mut answer = engine.sql(scope, &text, limits).await?;
            let (on, schema) = (engine.clone(), Arc::clone(&answer.schema));
            let mut staging = engine.blocking(move || Staging::new(&on, &schema)).await?;
            let mut room = Room::of(engine);
            while let Some(batch) = answer.rows.try_next().await? {
                room.take(&batch)?;
                staging = engine
                    .blocking(move || {
                        staging.write(&batch)?;
                        Ok(staging)
                    })
                    .await?;
            }
            (FileFormat::Arrow, None, engine.blocking(move || staging.finish()).await?)
        }
    };
    let wanted = time.map(str::to_owned).map(Wanted::Text);
    let path = kept.path().to_owned();
    let spine = open(engine, kept, format, name, wanted, selection).await;
    if let Some(was) = was {
        // Of a file that changed meanwhile this is to be said, whatever was made of its bytes.
        engine.blocking(move || unchanged(&path, &was)).await?;
    }
    spine
}

/// Reads a spine that was kept.
pub(super) async fn kept(engine: &Engine, record: &SpineRecord, selection: &Selection) -> Result<Spine> {
    let shown = record.name.clone().unwrap_or_else(|| record.hash.clone());
    let changed = |change: &str| super::record::changed("spine", &shown, change);
    let found = Kept::of(engine, &record.hash).await?;
    let (kept, content) = found.ok_or_else(|| changed("is not kept any more"))?;
    if content.hash != record.hash || content.bytes != record.bytes {
        return Err(changed("is not what it was: its kept file is damaged"));
    }
    let time = TimeColumn { name: record.time_column.clone(), unit: record.time_unit };
    open(engine, kept, record.format, record.name.clone(), Some(Wanted::Exactly(time)), selection).await
}

/// How many bytes of a spine's rows may still be held: a spine is in memory while it is answered.
struct Room {
    left: usize,
    limit: u64,
}

impl Room {
    fn of(engine: &Engine) -> Room {
        let limit = engine.config().memory;
        Room { left: usize::try_from(limit).unwrap_or(usize::MAX), limit }
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        match self.left.checked_sub(bytes_of(batch)) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Error::Exhausted {
                what: "the spine".to_owned(),
                limit: format!("{} MiB of memory", self.limit >> 20),
                hint: Some(
                    "ask in parts, with fewer rows or columns, or raise `memory` in asof.yaml".to_owned(),
                ),
            }),
        }
    }
}

enum Wanted {
    /// As the user wrote it.
    Text(String),
    /// As a record has it.
    Exactly(TimeColumn),
}

async fn open(
    engine: &Engine,
    kept: Kept,
    format: FileFormat,
    name: Option<String>,
    time: Option<Wanted>,
    selection: &Selection,
) -> Result<Spine> {
    let (selection, reader) = (selection.clone(), engine.clone());
    engine
        .blocking(move || {
            let shown = name.as_deref().unwrap_or(NAMELESS);
            let types = Types::of(&selection);
            let (schema, batches) = batches(&reader, kept.path(), shown, format, &types)?;
            let time = time_column(&schema, time)?;
            let keys = keys(&schema, &selection)?;
            let mut rows = 0;
            let numbered = batches.iter().map(|batch| {
                rows += batch.num_rows() as u64;
                (batch, rows - batch.num_rows() as u64)
            });
            let threads = reader.config().threads;
            let ask = |(batch, before)| ask(batch, &time, &keys, before);
            let asked = in_parallel(numbered.collect(), threads, ask)?;
            Ok(Spine { schema, batches, asked, rows, kept, format, time, name })
        })
        .await
}

/// The types that a selection gives columns of a spine.
struct Types {
    keys: Vec<Column>,
    /// Those of what a request brings.
    request: Vec<Column>,
}

impl Types {
    fn of(selection: &Selection) -> Types {
        let request = selection
            .request
            .iter()
            .map(|it| Column { name: it.name.to_string(), data_type: it.data_type.clone() });
        Types { keys: key_types(selection), request: request.collect() }
    }

    fn find(&self, name: &str) -> Option<&Column> {
        self.keys.iter().chain(&self.request).find(|it| it.name == name)
    }
}

/// The types that keys have in the selection, where it has one type for the name.
fn key_types(selection: &Selection) -> Vec<Column> {
    let mut types: Vec<Column> = Vec::new();
    let mut several: Vec<String> = Vec::new();
    for reading in all_readings(selection) {
        for (name, key) in reading.keys.iter().zip(&reading.view.keys) {
            match types.iter().find(|it| it.name == name.as_str()) {
                Some(other) if other.data_type != key.key.data_type => several.push(name.to_string()),
                Some(_) => {}
                None => types.push(Column { name: name.to_string(), data_type: key.key.data_type.clone() }),
            }
        }
    }
    types.retain(|it| !several.contains(&it.name));
    types
}

/// All rows of a file. Blocking.
fn batches(
    engine: &Engine,
    path: &Path,
    shown: &str,
    format: FileFormat,
    types: &Types,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let failed = |reason: &str| {
        let line = reason.lines().next().unwrap_or_default();
        let called = if shown == NAMELESS { shown.to_owned() } else { format!("the spine `{shown}`") };
        let message = format!("{called} cannot be read as {}: {line}", format.name());
        Error::invalid("spine_broken", message)
            .with_hint("name its format, or look at the file with another tool")
    };
    let mut file = File::open(path).map_err(|e| Error::io("open the spine", path, &e))?;
    let mut room = Room::of(engine);
    match format {
        FileFormat::Parquet => {
            let held = Arc::new(Held::open(path, shown)?);
            check_nesting(&held).map_err(|e| failed(&e.to_string()))?;
            let metadata = unpanicked(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()));
            let metadata = metadata
                .ok_or_else(|| failed("its footer is broken"))?
                .map_err(|e| failed(&e.to_string()))?;
            let schema = plain_schema(metadata.schema());
            let room = Mutex::new(room);
            let groups = (0..metadata.metadata().num_row_groups()).collect();
            let read = |group| {
                // Of its own, since who shares a file shares the place that is read next.
                let file = File::open(path).map_err(|e| Error::io("open the spine", path, &e))?;
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
                let reader = reader.with_row_groups(vec![group]).with_batch_size(BATCH).build();
                let mut batches = Vec::new();
                for batch in reader.map_err(|e| failed(&e.to_string()))? {
                    let batch = batch.map_err(|e| failed(&e.to_string()))?;
                    room.lock().unwrap_or_else(PoisonError::into_inner).take(&batch)?;
                    batches.push(batch);
                }
                Ok::<_, Error>(batches)
            };
            let batches = in_parallel(groups, engine.config().threads, |group| {
                unpanicked(|| read(group)).unwrap_or_else(|| Err(failed(BROKEN_PAGE)))
            })?;
            Ok((Arc::clone(&schema), with_schema(&schema, batches.into_iter().flatten().collect())?))
        }
        FileFormat::Arrow => {
            let mut magic = [0; 6];
            let long = file.read(&mut magic).map_err(|e| Error::io("read the spine", path, &e))?;
            file.rewind().map_err(|e| Error::io("read the spine", path, &e))?;
            let is_file = long == 6 && magic == *b"ARROW1";
            // Arrow's readers panic on some broken messages.
            let mut take = |batches: &mut dyn Iterator<Item = Result<RecordBatch, ArrowError>>| {
                let mut all = Vec::new();
                for batch in batches {
                    let batch = batch?;
                    room.take(&batch)?;
                    all.push(batch);
                }
                Ok::<_, DataFusionError>(all)
            };
            let read = unpanicked(|| {
                let file = BufReader::new(file);
                if is_file {
                    let mut reader = FileReader::try_new(file, None)?;
                    Ok((reader.schema(), take(&mut reader)?))
                } else {
                    let mut reader = StreamReader::try_new(file, None)?;
                    Ok((reader.schema(), take(&mut reader)?))
                }
            });
            let read: Result<_, DataFusionError> =
                read.unwrap_or_else(|| Err(ArrowError::IpcError("a broken message".to_owned()).into()));
            let (schema, batches) = read.map_err(|e| match Error::within(&e) {
                Some(ours) => ours.clone(),
                None => failed(&e.find_root().message()),
            })?;
            let schema = plain_schema(&schema);
            Ok((Arc::clone(&schema), with_schema(&schema, batches)?))
        }
        FileFormat::Csv => text_rows(engine, path, shown, Format::Csv, types).map_err(|e| of_spine(e, types)),
        FileFormat::Ndjson => {
            text_rows(engine, path, shown, Format::Ndjson, types).map_err(|e| of_spine(e, types))
        }
    }
}

/// Without metadata, which says how a file was written and would make equal spines differ.
fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), field.data_type().clone(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

fn with_schema(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let batches = batches.into_iter().map(|batch| {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
    });
    batches.collect()
}

/// The rows of a text file, read as sources are: types found from all rows, but for those given.
fn text_rows(
    engine: &Engine,
    path: &Path,
    shown: &str,
    format: Format,
    types: &Types,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    const NAME: &str = "spine";
    let found = Found { path: path.to_owned(), shown: shown.to_owned(), partitions: Vec::new() };
    let options = Options::read(format, &BTreeMap::new())?;
    let file = open_one(found, format, &options)?;
    let mut columns = infer(NAME, std::slice::from_ref(&file), &[])?.columns;
    for column in &mut columns {
        if let Some(known) = types.find(&column.name) {
            column.data_type = known.data_type.clone();
        }
    }
    let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
    let rules = Rules::new(engine, NAME, &nothing_but_columns(format)?, &columns, &want, false)?;
    let rules = rules.unconverted();
    let mut room = Room::of(engine);
    let mut batches = Vec::new();
    for (_, part) in file.parts() {
        for batch in file.read(part, &rules, BATCH)? {
            let (before, raw) = batch?;
            let place = Place { file: shown, before: Some(before) };
            let batch = rules.apply(&raw, place, before)?;
            room.take(&batch)?;
            batches.push(batch);
        }
    }
    let schema = plain_schema(rules.schema());
    Ok((Arc::clone(&schema), with_schema(&schema, batches)?))
}

/// An error of reading text, in the words of a spine: it is read as a source is, and is none.
fn of_spine(error: Error, types: &Types) -> Error {
    match error {
        Error::BadRow { place, reason, hint, .. } => {
            let named = |columns: &'_ [Column]| -> Option<Column> {
                let ends = columns.iter().find(|it| place.ends_with(&format!("column `{}`", it.name)));
                let starts = |it: &&Column| reason.starts_with(&format!("column `{}`", it.name));
                ends.or_else(|| columns.iter().find(starts)).cloned()
            };
            let request = named(&types.request);
            let hint = match named(&types.keys) {
                None if request.is_some() => request.map(|column| {
                    format!("mend the cell: derived features take `{}` as {}", column.name, column.data_type)
                }),
                Some(key) if asof_compute::arrow_type(&key.data_type).is_integer() => Some(format!(
                    "the key `{}` is {} in its entity; {WRITTEN_AS_FLOAT}",
                    key.name, key.data_type
                )),
                Some(key) => {
                    Some(format!("mend the cell: the key `{}` is {} in its entity", key.name, key.data_type))
                }
                None => hint.map(|hint| match hint.contains("the source's `schema`") {
                    true => "mend the cell, or write the spine as Parquet, which says its types".to_owned(),
                    false if hint.contains("the source's options") => {
                        "mend the row: a spine in CSV has commas between its cells and double quotes around them"
                            .to_owned()
                    }
                    false => hint,
                }),
            };
            Error::Invalid { code: "bad_row", message: format!("the spine: {place}: {reason}"), hint }
        }
        Error::Invalid { code, message, hint } => {
            let message = message.replace("source `spine`", "the spine");
            let hint = match code {
                // Sources say it with a key of theirs, spines with a flag.
                "file_broken" if hint.as_deref().is_some_and(|hint| hint.contains("`format`")) => {
                    Some("say the format it has with --spine-format, or write it again".to_owned())
                }
                _ => hint,
            };
            Error::Invalid { code, message, hint }
        }
        other => other,
    }
}

/// How whole numbers came to be floats, and how they do not.
pub(crate) const WRITTEN_AS_FLOAT: &str = "a column of whole numbers with gaps becomes float in pandas and is \
                                           written as 1.0: `df[c] = df[c].astype('Int64')` before writing keeps it whole";

/// A source without any rule, as which a text spine is read.
fn nothing_but_columns(format: Format) -> Result<Source> {
    let name = Name::new("spine").map_err(|error| Error::internal(error.to_string()))?;
    Ok(Source {
        name,
        place: asof_model::Place::Files { path: String::new(), format, options: BTreeMap::new() },
        store: false,
        event_time: None,
        available_at: None,
        valid_until: None,
        id: None,
        order_by: None,
        delete_when: None,
        null_keys: asof_model::NullKeys::Keep,
        schema: Vec::new(),
        about: asof_model::About::default(),
    })
}

fn shown(schema: &Schema) -> String {
    let names: Vec<String> = schema.fields().iter().take(20).map(|it| format!("`{}`", it.name())).collect();
    let more = if schema.fields().len() > names.len() { ", ..." } else { "" };
    format!("the spine has {}{more}", names.join(", "))
}

/// The column of times: the one wanted, else the only one of a timestamp type.
fn time_column(schema: &Schema, wanted: Option<Wanted>) -> Result<TimeColumn> {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    match wanted {
        Some(Wanted::Exactly(time)) => Ok(time),
        Some(Wanted::Text(text)) => {
            let (name, unit) = match text.rsplit_once(':') {
                Some((name, unit)) if schema.index_of(&text).is_err() => {
                    let unit = match unit {
                        "s" => TimeUnit::S,
                        "ms" => TimeUnit::Ms,
                        "us" => TimeUnit::Us,
                        "ns" => TimeUnit::Ns,
                        _ => {
                            let message = format!("`{unit}` is no unit of the spine's time column `{name}`");
                            return Err(Error::invalid("bad_time_unit", message)
                                .with_hint("write `column:s`, `column:ms`, `column:us` or `column:ns`"));
                        }
                    };
                    (name.to_owned(), Some(unit))
                }
                _ => (text, None),
            };
            if schema.index_of(&name).is_err() {
                let hint = nearest(&name, names())
                    .map_or_else(|| shown(schema), |near| format!("did you mean `{near}`?"));
                return Err(Error::NotFound { what: "time column of the spine", name, hint: Some(hint) });
            }
            Ok(TimeColumn { name, unit })
        }
        None => {
            let times: Vec<&str> = schema
                .fields()
                .iter()
                .filter(|field| match field.data_type() {
                    ArrowType::Dictionary(_, value) => matches!(value.as_ref(), ArrowType::Timestamp(..)),
                    other => matches!(other, ArrowType::Timestamp(..)),
                })
                .map(|field| field.name().as_str())
                .collect();
            match times.as_slice() {
                [only] => Ok(TimeColumn { name: (*only).to_owned(), unit: None }),
                [] => Err(Error::invalid("no_time_column", "the spine has no timestamp column").with_hint(
                    format!(
                        "name the column with --time COLUMN, or COLUMN:s for integers; {}",
                        shown(schema)
                    ),
                )),
                several => {
                    let several: Vec<String> = several.iter().map(|it| format!("`{it}`")).collect();
                    let message = format!("the spine has several timestamp columns: {}", several.join(", "));
                    Err(Error::invalid("several_time_columns", message)
                        .with_hint("say which is the time each row is asked at: --time COLUMN"))
                }
            }
        }
    }
}

/// The places of the columns that keys and derived features are read from.
fn keys(schema: &Schema, selection: &Selection) -> Result<Vec<usize>> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut places = Vec::new();
    for key in key_names(selection) {
        let Ok(place) = schema.index_of(key.as_str()) else {
            let view = all_readings(selection)
                .find(|reading| reading.keys.contains(key))
                .map_or_else(String::new, |reading| {
                    format!("view `{}` is asked by it; ", reading.view.address.name)
                });
            let hint = match nearest(key.as_str(), names.iter().copied()) {
                Some(near) => format!("{view}did you mean the column `{near}`?"),
                None => format!("{view}{}", shown(schema)),
            };
            return Err(Error::NotFound {
                what: "key column of the spine",
                name: key.to_string(),
                hint: Some(hint),
            });
        };
        places.push(place);
    }
    for column in &selection.request {
        let name = column.name.as_str();
        let place = schema.index_of(name).map_err(|_| {
            let near = nearest(name, names.iter().copied());
            let way = near.map_or_else(|| shown(schema), |near| format!("did you mean the column `{near}`?"));
            Error::NotFound {
                what: "request column of the spine",
                name: name.to_owned(),
                hint: Some(format!("derived features take it, as {}; {way}", column.data_type)),
            }
        })?;
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}

/// What the operator is asked with for one batch.
fn ask(batch: &RecordBatch, time: &TimeColumn, keys: &[usize], before: u64) -> Result<RecordBatch> {
    let column = batch
        .column_by_name(&time.name)
        .ok_or_else(|| Error::internal(format!("the spine lost its column `{}`", time.name)))?;
    let bad = |row: usize, reason: &str| {
        let place = if batch.num_rows() == 0 || row >= batch.num_rows() {
            String::new()
        } else {
            format!(" in row {}", before + row as u64 + 1)
        };
        Error::invalid("bad_spine_time", format!("time column `{}` of the spine{place}: {reason}", time.name))
            .with_hint("every spine row needs a time in the years 0001 to 9999; integers need a unit: --time COLUMN:s")
    };
    readable(column.data_type(), time.unit, false).map_err(|reason| bad(usize::MAX, &reason))?;
    let times = instants(column, time.unit, None).map_err(|error| bad(error.row, &error.reason))?;
    if let Some(row) = times.nulls().and_then(|nulls| (0..nulls.len()).find(|row| nulls.is_null(*row))) {
        return Err(bad(row, "there is no time"));
    }
    let mut fields: Vec<Field> = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for place in keys {
        fields.push(batch.schema().field(*place).clone());
        columns.push(Arc::clone(batch.column(*place)));
    }
    fields.push(Field::new(TIME, instant_type(), false));
    columns.push(arrow::compute::cast(&times, &instant_type())?);
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Refuses a spine with a null key.
pub(super) fn refuse_null_keys(spine: &Spine, selection: &Selection) -> Result<()> {
    let mut before = 0;
    for batch in &spine.asked {
        let mut first: Option<(usize, &str)> = None;
        for key in key_names(selection) {
            let Some(nulls) = batch.column_by_name(key.as_str()).and_then(|it| it.logical_nulls()) else {
                continue;
            };
            let row = (0..nulls.len()).find(|row| nulls.is_null(*row));
            if let Some(row) = row
                && first.is_none_or(|(other, _)| row < other)
            {
                first = Some((row, key.as_str()));
            }
        }
        if let Some((row, key)) = first {
            let message = format!("row {} of the spine has no `{key}`", before + row + 1);
            return Err(Error::invalid("null_key", message)
                .with_hint("fill it, drop the row, or keep it with null features: --on-null-key keep"));
        }
        before += batch.num_rows();
    }
    Ok(())
}
