//! A training set as a Parquet file, the columns of a batch encoded by several threads. The same rows give
//! the same bytes, whatever the threads.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::{cast, filter, is_not_null, max, min, partition, sort};
use arrow::datatypes::{DataType as ArrowType, FieldRef, Int64Type, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, Encoding};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use crate::threads::in_parallel;

/// Rows of a row group: what is held of a file that is being written. More of them would keep who encodes waiting
/// at the start, and who writes at the end.
const GROUP: usize = 65_536;

/// Rows that tell whether a column's values repeat.
const SAMPLE: usize = 4_096;

/// A Parquet file being written.
pub(super) struct ParquetFile<W: Write + Send> {
    schema: SchemaRef,
    threads: usize,
    at: At<W>,
}

enum At<W: Write + Send> {
    /// Before the first rows, which tell how columns are encoded.
    Start(W),
    Rows(Box<Open<W>>),
    /// An error ended it.
    Broken,
}

struct Open<W: Write + Send> {
    file: SerializedFileWriter<W>,
    factory: ArrowRowGroupWriterFactory,
    /// Of the next row group, and how many.
    waiting: Vec<RecordBatch>,
    rows: usize,
}

impl<W: Write + Send> ParquetFile<W> {
    pub(super) fn new(schema: &SchemaRef, to: W, threads: usize) -> ParquetFile<W> {
        ParquetFile { schema: Arc::clone(schema), threads, at: At::Start(to) }
    }

    /// Adds rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut open = self.open(Some(batch))?;
        open.write(&self.schema, batch, self.threads)?;
        self.at = At::Rows(open);
        Ok(())
    }

    /// Ends the file; gives back what it was written to.
    pub(super) fn finish(mut self) -> Result<W> {
        let mut open = self.open(None)?;
        open.end_group(&self.schema, self.threads)?;
        open.file.into_inner()
    }

    fn open(&mut self, first: Option<&RecordBatch>) -> Result<Box<Open<W>>> {
        match std::mem::replace(&mut self.at, At::Broken) {
            At::Rows(open) => Ok(open),
            At::Broken => Err(ParquetError::General("it broke off before".to_owned())),
            At::Start(to) => {
                let properties = properties(&self.schema, first);
                let writer = ArrowWriter::try_new(to, Arc::clone(&self.schema), Some(properties))?;
                let (file, factory) = writer.into_serialized_writer()?;
                Ok(Box::new(Open { file, factory, waiting: Vec::new(), rows: 0 }))
            }
        }
    }
}

/// Where values seldom repeat, looking for repeats costs more than all else of writing them. Numbers and
/// times alone are judged, by the first rows: a longer value that does repeat is worth the looking. Of those that
/// do not repeat, or would not be much shorter if each were written once, integers and times that lie in a range are
/// written as differences, which takes less room and time than compressing them; others are compressed where that
/// makes them a third smaller.
fn properties(schema: &SchemaRef, first: Option<&RecordBatch>) -> WriterProperties {
    let mut properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
    for (at, field) in schema.fields().iter().enumerate() {
        if !field.data_type().is_primitive() {
            continue;
        }
        let sample = first.map(|batch| batch.column(at).slice(0, batch.num_rows().min(SAMPLE)));
        let range = sample.as_ref().and_then(range_of);
        let seldom = sample.as_ref().is_some_and(seldom_repeats);
        let short = sample.as_ref().zip(range).is_some_and(|(sample, range)| are_as_short(sample, range));
        if field.data_type().is_floating() || seldom || short {
            let column = ColumnPath::from(field.name().as_str());
            properties = properties.set_column_dictionary_enabled(column.clone(), false);
            if range.is_some_and(|range| range < 1 << SHORT) {
                properties = properties
                    .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED)
                    .set_column_compression(column, Compression::UNCOMPRESSED);
            } else if sample.as_ref().is_some_and(stays_as_large) {
                properties = properties.set_column_compression(column, Compression::UNCOMPRESSED);
            }
        }
    }
    properties.build()
}

/// Whether more than half of the values are different ones.
fn seldom_repeats(sample: &ArrayRef) -> bool {
    different(sample).is_some_and(|different| different * 2 > sample.len())
}

/// How many values there are.
fn different(sample: &ArrayRef) -> Option<usize> {
    sort(sample, None).and_then(|sorted| Ok(partition(&[sorted])?.len())).ok()
}

/// Fewer values than these are quickly looked up.
const FEW: usize = 16;

/// Whether differences of values in this range take about as much room as the numbers of those that repeat, a bit
/// more than the range does beside as many as count them; and values mostly differ from those before them, where
/// numbers would be shorter still.
fn are_as_short(sample: &ArrayRef, range: u64) -> bool {
    let bits = |most: u64| u64::BITS - most.leading_zeros();
    let changes = partition(&[Arc::clone(sample)]).is_ok_and(|runs| runs.len() * 2 > sample.len());
    changes
        && different(sample)
            .is_some_and(|different| different > FEW && bits(range) < 2 * bits(different as u64 - 1))
}

/// Bits of a range whose differences are still clearly shorter than values.
const SHORT: u32 = 48;

/// How far the greatest of these is from the least, where they are integers or times, as Parquet has them.
fn range_of(sample: &ArrayRef) -> Option<u64> {
    let data_type = sample.data_type();
    if !data_type.is_integer() && !data_type.is_temporal() {
        return None;
    }
    let values = cast(sample, &ArrowType::Int64).ok()?;
    let values = values.as_primitive::<Int64Type>();
    max(values).zip(min(values)).map(|(most, least)| most.abs_diff(least))
}

/// Whether compression takes less than a third off the values; those that there are, since what lies under
/// a null is not written.
fn stays_as_large(sample: &ArrayRef) -> bool {
    let Ok(sample) = is_not_null(sample).and_then(|some| filter(sample, &some)) else { return false };
    let data = sample.to_data();
    let width = sample.data_type().primitive_width().unwrap_or(0);
    let from = data.offset() * width;
    let bytes = data.buffers().first().and_then(|buffer| buffer.get(from..from + data.len() * width));
    let smaller = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).map(|made| made.len()).ok();
    bytes.is_some_and(|bytes| smaller(bytes).is_some_and(|made| made * 3 > bytes.len() * 2))
}

impl<W: Write + Send> Open<W> {
    fn write(&mut self, schema: &SchemaRef, batch: &RecordBatch, threads: usize) -> Result<()> {
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = (batch.num_rows() - from).min(GROUP - self.rows);
            self.waiting.push(batch.slice(from, rows));
            self.rows += rows;
            from += rows;
            if self.rows == GROUP {
                self.end_group(schema, threads)?;
            }
        }
        Ok(())
    }

    /// Encodes the rows that wait, and writes them.
    fn end_group(&mut self, schema: &SchemaRef, threads: usize) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.rows = 0;
        let work = longest_first(schema, self.writers(schema)?.into_iter());
        let mut chunks = in_parallel(work, threads, |(at, field, mut writers)| {
            put(&waiting, at, field, &mut writers)?;
            let closed = writers.into_iter().map(ArrowColumnWriter::close);
            Ok::<_, ParquetError>((at, closed.collect::<Result<Vec<ArrowColumnChunk>>>()?))
        })?;
        chunks.sort_by_key(|(at, _)| *at);
        let mut group = self.file.next_row_group()?;
        for chunk in chunks.into_iter().flat_map(|(_, chunks)| chunks) {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }

    /// Of the next row group, per field one for each of its leaves.
    fn writers(&self, schema: &SchemaRef) -> Result<Vec<Vec<ArrowColumnWriter>>> {
        let number = self.file.flushed_row_groups().len();
        let mut writers = self.factory.create_column_writers(number)?.into_iter();
        let of_field = |field: &FieldRef| writers.by_ref().take(leaves(field.data_type())).collect();
        let of_fields = schema.fields().iter().map(of_field).collect();
        match writers.next() {
            None => Ok(of_fields),
            Some(_) => Err(ParquetError::General("a column has more leaves than its type".to_owned())),
        }
    }
}

/// What is to be done for each field, with its number: those that take longest first, so that no thread has one of
/// them alone in the end.
fn longest_first<T>(schema: &SchemaRef, each: impl Iterator<Item = T>) -> Vec<(usize, &FieldRef, T)> {
    let fields = schema.fields().iter().enumerate();
    let mut work: Vec<(usize, &FieldRef, T)> =
        fields.zip(each).map(|((at, field), each)| (at, field, each)).collect();
    work.sort_by_key(|(_, field, _)| field.data_type().is_primitive());
    work
}

/// Encodes a column of rows.
fn put(rows: &[RecordBatch], at: usize, field: &FieldRef, writers: &mut [ArrowColumnWriter]) -> Result<()> {
    for batch in rows {
        for (leaf, writer) in compute_leaves(field, batch.column(at))?.iter().zip(&mut *writers) {
            writer.write(leaf)?;
        }
    }
    Ok(())
}

/// How many leaves a column of a type has in Parquet.
fn leaves(data_type: &arrow::datatypes::DataType) -> usize {
    use arrow::datatypes::DataType;
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            leaves(item.data_type())
        }
        DataType::ListView(item) | DataType::LargeListView(item) | DataType::Map(item, _) => {
            leaves(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, Float64Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
    };
    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::file::metadata::ColumnChunkMetaData;

    use super::*;

    fn rows(count: usize) -> RecordBatch {
        let number = |row: usize| row as i64;
        let inner: ArrayRef = Arc::new(StringArray::from_iter(
            (0..count).map(|row| (row % 3 > 0).then(|| format!("{}", row % 10))),
        ));
        let fields = vec![Field::new("name", DataType::Utf8, true), Field::new("n", DataType::Int64, true)];
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter((0..count).map(number)));
        let lists = (0..count)
            .map(|row| (row % 5 > 0).then(|| (0..row % 4).map(|item| Some(item as i64)).collect::<Vec<_>>()));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("different", Arc::new(Int64Array::from_iter((0..count).map(number)))),
            ("few", Arc::new(Int64Array::from_iter((0..count).map(|row| number(row * 31 % 13))))),
            ("runs", Arc::new(Int64Array::from_iter((0..count).map(|row| number(row / 50 * 31 % 61))))),
            ("apart", Arc::new(Int64Array::from_iter((0..count).map(|row| number(row * 31 % 61) << 30)))),
            ("same", Arc::new(Int64Array::from_iter((0..count).map(|row| (row % 7 > 0).then_some(1))))),
            ("float", Arc::new(Float64Array::from_iter((0..count).map(|row| row as f64 / 3.0)))),
            ("text", Arc::clone(&inner)),
            ("struct", Arc::new(StructArray::new(fields.into(), vec![inner, numbers], None))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
        ];
        let fields: Vec<Field> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
    }

    fn written(rows: &RecordBatch, cut: usize, threads: usize) -> Vec<u8> {
        let mut file = ParquetFile::new(&rows.schema(), Vec::new(), threads);
        for from in (0..rows.num_rows()).step_by(cut) {
            file.write(&rows.slice(from, cut.min(rows.num_rows() - from))).unwrap();
        }
        file.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_threads_do_not_matter() {
        for count in [0, 1, 1_000, GROUP, 2 * GROUP + 1] {
            let rows = rows(count);
            let bytes = written(&rows, 65_536, 1);
            for threads in [2, 8, 100] {
                assert!(written(&rows, 65_536, threads) == bytes, "{count} rows, {threads} threads");
            }
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
            assert_eq!(reader.metadata().num_row_groups(), count.div_ceil(GROUP), "{count} rows");
            let read: Vec<RecordBatch> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
            assert!(concat_batches(&rows.schema(), &read).unwrap() == rows, "{count} rows");
        }
    }

    #[test]
    fn columns_that_stay_as_large_are_not_compressed() {
        let count = 10_000_u64;
        let noise = |row: u64| f64::from_bits(row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 2);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("noise", Arc::new(Float64Array::from_iter_values((0..count).map(noise)))),
            ("thirds", Arc::new(Float64Array::from_iter_values((0..count).map(|row| row as f64 / 4.0)))),
            (
                "wide",
                Arc::new(Int64Array::from_iter_values((0..count).map(|row| noise(row).to_bits() as i64))),
            ),
            ("rows", Arc::new(Int64Array::from_iter_values(0..count as i64))),
            (
                "times",
                Arc::new(TimestampMicrosecondArray::from_iter((0..count).map(|row| {
                    (row % 9 > 0)
                        .then_some(1_700_000_000_000_000 - (row * 7_919 % 4_999_999) as i64 * 1_000_003)
                }))),
            ),
            (
                "days",
                Arc::new(Date32Array::from_iter_values(
                    (0..count).map(|row| (row * 31 % 9_973) as i32 - 5_000),
                )),
            ),
            ("counts", Arc::new(Int64Array::from_iter_values((0..count).map(|row| (row * 31 % 61) as i64)))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let bytes = written(&rows, 3_000, 2);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
        let group = reader.metadata().row_group(0);
        let of_column = |column: &ColumnChunkMetaData| {
            let short = column.encodings().any(|encoding| encoding == Encoding::DELTA_BINARY_PACKED);
            (column.compression(), short)
        };
        let found: Vec<(Compression, bool)> = group.columns().iter().map(of_column).collect();
        let (large, small) = ((Compression::UNCOMPRESSED, false), (Compression::UNCOMPRESSED, true));
        assert_eq!(found, [large, (Compression::SNAPPY, false), large, small, small, small, small]);
        assert!(group.column(3).compressed_size() < 10_000, "{}", group.column(3).compressed_size());
        let read: Vec<RecordBatch> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
        assert!(concat_batches(&rows.schema(), &read).unwrap() == rows);
    }

    #[test]
    fn columns_whose_values_repeat_have_a_dictionary() {
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(written(&rows(10_000), 10_000, 2)));
        let group = reader.unwrap().metadata().row_group(0).clone();
        let found: Vec<(String, bool)> = group
            .columns()
            .iter()
            .map(|column| (column.column_path().string(), column.dictionary_page_offset().is_some()))
            .filter(|(name, _)| !name.contains('.'))
            .collect();
        let expected = [
            ("different", false),
            ("few", true),
            ("runs", true),
            ("apart", true),
            ("same", true),
            ("float", false),
            ("text", true),
        ];
        assert_eq!(found, expected.map(|(name, has)| (name.to_owned(), has)));
    }
}
