//! Parquet files: opened once, read row group by row group.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
    RowSelection,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_schema};
use parquet::basic::{LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};

use super::footer;
use super::identity::{Chunks, Cursor, Held, stamp};
use super::taken::{Taken, TakenColumn, TakenRows, selection};
use crate::{Error, Result};

/// A Parquet file, its footer read.
#[derive(Debug, Clone)]
pub(crate) struct ParquetFile {
    held: Arc<Held>,
    metadata: ArrowReaderMetadata,
    /// The columns, told apart where Parquet does and Arrow's types do not: uuids, json.
    schema: SchemaRef,
    /// The columns as their Parquet types alone tell, without the hints that writers leave.
    natural: SchemaRef,
    /// The metadata with the places of pages, read when single rows are first wanted.
    paged: Arc<OnceLock<ArrowReaderMetadata>>,
}

/// How many bytes at the end hold the footer and its length.
pub(crate) fn footer_length(held: &Held) -> Result<u64> {
    let broken = |what: &str| {
        Error::invalid("file_broken", format!("file `{}` {what}", held.shown))
            .with_hint("write it again, or set the `format` it has")
    };
    if held.size == 0 {
        return Err(broken("is empty, not even a Parquet header is there"));
    }
    let mut start = [0; 4];
    let mut end = [0; 8];
    let read = |buffer: &mut [u8], at: u64| held.read_exact_at(buffer, at).map_err(|e| held.unread(&e));
    if held.size >= 4 {
        read(&mut start, 0)?;
    }
    if &start == b"PARE" {
        return Err(broken("is an encrypted Parquet file, which cannot be read"));
    }
    if &start != b"PAR1" {
        return Err(broken("is read as Parquet and is no Parquet file: it does not begin with PAR1")
            .with_hint("say the `format` it has in the source, e.g. `format: csv`, or write it again"));
    }
    if held.size < 12 {
        return Err(broken("is a Parquet file cut short: it does not end with PAR1"));
    }
    read(&mut end, held.size - 8)?;
    if &end[4..] != b"PAR1" {
        return Err(broken("is a Parquet file cut short: it does not end with PAR1"));
    }
    let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]])) + 8;
    if length + 4 > held.size {
        return Err(broken("is a broken Parquet file: its footer is longer than the file"));
    }
    Ok(length)
}

/// A column with the name of the type that Parquet knows and Arrow does not.
fn named(field: &Field, root: &parquet::schema::types::Type) -> Field {
    let extension = match root.get_basic_info().logical_type_ref() {
        Some(LogicalType::Uuid) => "arrow.uuid",
        Some(LogicalType::Json) => "arrow.json",
        _ => return field.clone(),
    };
    let mut metadata = field.metadata().clone();
    metadata.insert("ARROW:extension:name".to_owned(), extension.to_owned());
    field.clone().with_metadata(metadata)
}

/// Refuses a file whose schema nests so deep that reading it would end the process.
pub(crate) fn check_nesting(held: &Arc<Held>) -> Result<()> {
    let length = footer_length(held)?;
    let reason = match nesting(held, length) {
        Ok(()) => return Ok(()),
        Err(footer::Refused::TooDeep) => {
            format!("its Parquet schema nests more than {} groups", footer::DEEPEST)
        }
        Err(footer::Refused::Broken) => "its Parquet footer cannot be read".to_owned(),
    };
    let message = format!("file `{}`: {reason}", held.shown);
    Err(held.is_lost().unwrap_or_else(|| Error::invalid("file_broken", message).with_hint("write it again")))
}

/// Walks a footer of this length.
fn nesting(held: &Arc<Held>, length: u64) -> Result<(), footer::Refused> {
    use std::io::Read;
    let cursor = Cursor::new(Arc::clone(held), held.size - length);
    footer::check(std::io::BufReader::new(cursor).take(length - 8))
}

/// Of how many files it is known that their schemas do not nest too deep.
const MOST_KNOWN: usize = 100_000;

/// Refuses a file that nests too deep before a reader that is not ours descends into it; what else is
/// wrong with it that reader says. A file that is still what it was when it was looked at is not looked at
/// again: a table of many files is opened over and over. Blocking.
pub(crate) fn check_nesting_of(path: &Path, shown: &str) -> Result<()> {
    static KNOWN: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    let known = || KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Ok(stamp) = stamp(path, shown) else { return Ok(()) };
    if known().get(path) == Some(&stamp) {
        return Ok(());
    }
    let Ok(held) = Held::open(path, shown).map(Arc::new) else { return Ok(()) };
    match footer_length(&held).map(|length| nesting(&held, length)) {
        Ok(Err(footer::Refused::TooDeep)) => return check_nesting(&held),
        Ok(Ok(())) => {}
        Ok(Err(footer::Refused::Broken)) | Err(_) => return Ok(()),
    }
    let mut known = known();
    if known.len() >= MOST_KNOWN {
        known.clear();
    }
    known.insert(path.to_owned(), stamp);
    Ok(())
}

impl ParquetFile {
    /// Reads the footer.
    pub(crate) fn open(held: Arc<Held>) -> Result<ParquetFile> {
        check_nesting(&held)?;
        let chunks = Chunks(Arc::clone(&held));
        let broken = |e: ParquetError| {
            let message = format!("file `{}`: its Parquet footer cannot be read: {e}", held.shown);
            held.is_lost()
                .unwrap_or_else(|| Error::invalid("file_broken", message).with_hint("write it again"))
        };
        let loaded = unpanicked(|| ArrowReaderMetadata::load(&chunks, ArrowReaderOptions::new()));
        let metadata = loaded.unwrap_or_else(|| Err(ParquetError::General("it is broken".to_owned())));
        let metadata = metadata.map_err(broken)?;
        // INT96 is read as nanoseconds unless told otherwise, which hold the years 1677 to 2262 only.
        let roots = metadata.parquet_schema().root_schema().get_fields();
        let fields: Vec<Arc<Field>> = metadata
            .schema()
            .fields()
            .iter()
            .zip(roots)
            .map(|(field, root)| {
                match root.is_primitive() && root.get_physical_type() == PhysicalType::INT96 {
                    true => Arc::new(
                        field
                            .as_ref()
                            .clone()
                            .with_data_type(ArrowType::Timestamp(TimeUnit::Microsecond, None)),
                    ),
                    false => Arc::clone(field),
                }
            })
            .collect();
        let schema = Schema::new_with_metadata(fields, metadata.schema().metadata().clone());
        let metadata = if schema == **metadata.schema() {
            metadata
        } else {
            let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
            ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options).map_err(broken)?
        };
        let roots = metadata.parquet_schema().root_schema().get_fields();
        let named: Vec<Field> =
            metadata.schema().fields().iter().zip(roots).map(|(field, root)| named(field, root)).collect();
        let schema = Arc::new(Schema::new(named));
        let natural = parquet_to_arrow_schema(metadata.parquet_schema(), None).map_err(broken)?;
        Ok(ParquetFile { held, metadata, schema, natural: Arc::new(natural), paged: Arc::default() })
    }

    /// The columns as the file has them.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// In how many rows a top-level column of plain values is null; none where the footer does not say.
    pub(crate) fn nulls(&self, root: usize) -> Option<u64> {
        let metadata = self.metadata.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let mut leaves = (0..schema.num_columns()).filter(|leaf| schema.get_column_root_idx(*leaf) == root);
        let leaf = leaves.next().filter(|leaf| schema.get_column_root(*leaf).is_primitive())?;
        let counts =
            metadata.row_groups().iter().map(|group| group.column(leaf).statistics()?.null_count_opt());
        counts.sum()
    }

    /// Its row groups: the number of the first row of each, and how many it has.
    pub(crate) fn groups(&self) -> Vec<(u64, u64)> {
        let mut first = 0;
        self.metadata
            .metadata()
            .row_groups()
            .iter()
            .map(|group| {
                let rows = u64::try_from(group.num_rows()).unwrap_or(0);
                first += rows;
                (first - rows, rows)
            })
            .collect()
    }

    /// The least and the greatest value of a column in a row group, by its statistics; none where these
    /// columns may hold a null there.
    pub(crate) fn range(
        &self,
        group: usize,
        column: &str,
        complete: &[String],
    ) -> Option<(ArrayRef, ArrayRef)> {
        let known = self.metadata.metadata();
        let group = known.row_groups().get(group)?;
        let of = |name: &str| {
            let found = StatisticsConverter::try_new(name, self.schema(), self.metadata.parquet_schema());
            found.map(|found| found.with_missing_null_counts_as_zero(false)).ok()
        };
        let without_nulls = |name: &String| {
            let nulls = of(name)?.row_group_null_counts([group]).ok()?;
            (nulls.is_valid(0) && nulls.value(0) == 0).then_some(())
        };
        complete.iter().map(without_nulls).collect::<Option<()>>()?;
        let column = of(column)?;
        Some((column.row_group_mins([group]).ok()?, column.row_group_maxes([group]).ok()?))
    }

    /// The footer with the places of pages, so that pages without wanted rows are skipped unread. Files
    /// without them are read as they are.
    fn paged(&self) -> &ArrowReaderMetadata {
        self.paged.get_or_init(|| {
            let known = self.metadata.metadata().as_ref().clone();
            let policy = PageIndexPolicy::Optional;
            let mut reader = ParquetMetaDataReader::new_with_metadata(known)
                .with_column_index_policy(PageIndexPolicy::Skip)
                .with_offset_index_policy(policy);
            let options = ArrowReaderOptions::new().with_schema(Arc::clone(self.metadata.schema()));
            let read = unpanicked(|| {
                reader.read_page_indexes(&Chunks(Arc::clone(&self.held)))?;
                ArrowReaderMetadata::try_new(Arc::new(reader.finish()?), options)
            });
            read.and_then(Result::ok).unwrap_or_else(|| self.metadata.clone())
        })
    }

    /// Reads one row group, in batches of at most so many rows.
    pub(crate) fn read(&self, group: usize, columns: &[&str], batch: usize) -> Result<ParquetBatches> {
        let roots = self.roots(columns);
        let reader = self.reader(&self.metadata, group, roots, batch, None)?;
        Ok(ParquetBatches { held: Arc::clone(&self.held), reader: Some(reader) })
    }

    /// Reads ascending rows of a row group, numbered from its first, in batches of at most so many.
    pub(super) fn read_rows(
        &self,
        group: usize,
        columns: &[&str],
        batch: usize,
        rows: Vec<u64>,
    ) -> Result<ParquetBatches<TakenRows>> {
        let broken = |e: ParquetError| broken_data(&self.held, &e.to_string());
        let paged = self.paged();
        let roots = self.roots(columns);
        let schema = Arc::new(self.metadata.schema().project(&roots)?);
        let known = paged.metadata();
        let about = known.file_metadata().schema_descr();
        let group_known =
            known.row_groups().get(group).ok_or_else(|| Error::internal("no such row group"))?;
        let in_group = usize::try_from(group_known.num_rows()).unwrap_or(0);
        let places = known.offset_index().and_then(|index| index.get(group));
        let chunks = Chunks(Arc::clone(&self.held));
        let mut others = Vec::new();
        let mut found = Vec::with_capacity(roots.len());
        for (root, field) in roots.iter().zip(schema.fields()) {
            let leaf = (0..about.num_columns()).find(|leaf| about.get_column_root_idx(*leaf) == *root);
            let taken = match leaf.filter(|_| about.root_schema().get_fields()[*root].is_primitive()) {
                Some(leaf) => unpanicked(|| {
                    TakenColumn::new(
                        &chunks,
                        &about.column(leaf),
                        group_known.column(leaf),
                        in_group,
                        places.and_then(|places| places.get(leaf)),
                        (self.natural.field(*root).data_type(), field.data_type()),
                    )
                })
                .unwrap_or_else(|| Err(ParquetError::General("its pages cannot be found".to_owned())))
                .map_err(broken)?,
                None => None,
            };
            found.push(match taken {
                Some(column) => Taken::Pages(Box::new(column)),
                None => {
                    others.push(*root);
                    Taken::Other(others.len() - 1)
                }
            });
        }
        let others = match others.is_empty() {
            true => None,
            false => Some(self.reader(paged, group, others, batch, Some(selection(&rows)))?),
        };
        let reader = Some(TakenRows { schema, columns: found, others, rows, batch, given: 0 });
        Ok(ParquetBatches { held: Arc::clone(&self.held), reader })
    }

    /// The top-level columns of these names, in the file's order.
    fn roots(&self, columns: &[&str]) -> Vec<usize> {
        let fields = self.schema().fields().iter().enumerate();
        fields.filter(|(_, field)| columns.contains(&field.name().as_str())).map(|(at, _)| at).collect()
    }

    fn reader(
        &self,
        metadata: &ArrowReaderMetadata,
        group: usize,
        roots: Vec<usize>,
        batch: usize,
        selection: Option<RowSelection>,
    ) -> Result<ParquetRecordBatchReader> {
        let chunks = Chunks(Arc::clone(&self.held));
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots);
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, metadata.clone())
            .with_row_groups(vec![group])
            .with_batch_size(batch)
            .with_projection(mask);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let built = unpanicked(|| builder.build());
        let built = built.ok_or_else(|| broken_data(&self.held, "its pages cannot be found"))?;
        built.map_err(|e| broken_data(&self.held, &e.to_string()))
    }
}

/// Batches of one row group.
pub(crate) struct ParquetBatches<R = ParquetRecordBatchReader> {
    held: Arc<Held>,
    /// None after it panicked.
    pub(super) reader: Option<R>,
}

impl<E: std::fmt::Display, R: Iterator<Item = Result<RecordBatch, E>>> Iterator for ParquetBatches<R> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        let reader = self.reader.as_mut()?;
        match unpanicked(|| reader.next()) {
            Some(next) => Some(next?.map_err(|e| broken_data(&self.held, &e.to_string()))),
            None => {
                self.reader = None;
                Some(Err(broken_data(&self.held, BROKEN_PAGE)))
            }
        }
    }
}

/// Why a page could not be read whose reader panicked.
pub(crate) const BROKEN_PAGE: &str =
    "a page is broken, or its reader is: what that said is on standard error";

/// What reading comes to; none where it panicked, as readers do over some broken bytes.
pub(crate) fn unpanicked<T>(read: impl FnOnce() -> T) -> Option<T> {
    let read = catch_unwind(AssertUnwindSafe(read));
    read.inspect_err(|_| tracing::error!("a reader of Parquet or Arrow panicked")).ok()
}

fn broken_data(held: &Held, reason: &str) -> Error {
    let message = format!("file `{}`: its data cannot be read: {reason}", held.shown);
    held.is_lost().unwrap_or_else(|| Error::invalid("file_broken", message).with_hint("write it again"))
}
