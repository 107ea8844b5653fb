//! Selected rows of a row group of a Parquet file: values taken out of the pages one by one.
//!
//! The rows that win a point-in-time join are a few in a hundred of those read, in every page: arrays of
//! whole pages, to be filtered at once, cost more than all decompression. Columns that are not flat, or of
//! encodings that are not looked into here, are read by the `parquet` crate's own reader beside the others.

use std::sync::Arc;

use arrow::array::{
    ArrayData, ArrayRef, BooleanBufferBuilder, NullBufferBuilder, RecordBatch, RecordBatchOptions, make_array,
};
use arrow::buffer::Buffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowSelection, RowSelector};
use parquet::basic::Type as PhysicalType;
use parquet::column::page::PageReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;

use super::identity::Chunks;
use super::pages::{Codes, DataPage, Dictionary, Values, Width};

/// Ascending rows of a row group, in batches.
pub(super) struct TakenRows {
    /// The columns to be given.
    pub(super) schema: SchemaRef,
    /// By column, how it is read.
    pub(super) columns: Vec<Taken>,
    /// Of the columns that are read otherwise, in order.
    pub(super) others: Option<ParquetRecordBatchReader>,
    /// Numbered from the row group's first.
    pub(super) rows: Vec<u64>,
    /// How many are given at once, and how many were given.
    pub(super) batch: usize,
    pub(super) given: usize,
}

/// How a column is read.
pub(super) enum Taken {
    /// Value by value.
    Pages(Box<TakenColumn>),
    /// By the other reader, whose so manieth column it is.
    Other(usize),
}

impl Iterator for TakenRows {
    type Item = Result<RecordBatch, ParquetError>;

    fn next(&mut self) -> Option<Result<RecordBatch, ParquetError>> {
        let taken = (self.given < self.rows.len()).then(|| self.take());
        if let Some(Err(_)) = taken {
            // Nothing comes behind an error.
            self.given = self.rows.len();
        }
        taken
    }
}

impl TakenRows {
    /// Its only column, taken from pages.
    #[cfg(test)]
    fn into_column(self) -> TakenColumn {
        match self.columns.into_iter().next() {
            Some(Taken::Pages(column)) => *column,
            _ => unreachable!("the column is taken from pages"),
        }
    }

    fn take(&mut self) -> Result<RecordBatch, ParquetError> {
        let rest = &self.rows[self.given..];
        let others = match &mut self.others {
            Some(others) => Some(others.next().transpose()?.ok_or_else(|| bad("it has too few rows"))?),
            None => None,
        };
        let count = others.as_ref().map_or(self.batch.min(rest.len()), RecordBatch::num_rows);
        let rows = rest.get(..count).ok_or_else(|| bad("it has too many rows"))?;
        self.given += count;
        let all = self.given == self.rows.len();
        let columns = self.columns.iter_mut().zip(self.schema.fields()).map(|(column, field)| match column {
            Taken::Pages(column) => {
                let found = column.take(rows, field.data_type());
                if all {
                    column.close();
                }
                found
            }
            Taken::Other(at) => {
                let found = others.as_ref().map(|others| Arc::clone(others.column(*at)));
                found.ok_or_else(|| bad("it has too few columns"))
            }
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// Ascending rows of a row group as a selection.
pub(super) fn selection(rows: &[u64]) -> RowSelection {
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut next = 0;
    for row in rows {
        let gap = usize::try_from(row - next).unwrap_or(usize::MAX);
        if gap > 0 {
            selectors.push(RowSelector::skip(gap));
        }
        match selectors.last_mut() {
            Some(last) if !last.skip => last.row_count += 1,
            _ => selectors.push(RowSelector::select(1)),
        }
        next = row + 1;
    }
    RowSelection::from(selectors)
}

fn bad(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

/// A flat column of a row group, read from its first row on.
pub(super) struct TakenColumn {
    name: String,
    pages: SerializedPageReader<Chunks>,
    width: Width,
    nullable: bool,
    dictionary: Option<Dictionary>,
    page: Option<DataPage>,
    /// The first row of the page, and the first behind it.
    first: u64,
    end: u64,
    /// Rows of the row group.
    rows: u64,
}

/// Values that were taken.
enum Out {
    Bits(BooleanBufferBuilder),
    Four(Vec<u32>),
    Eight(Vec<u64>),
    Varying(Vec<i32>, Vec<u8>),
}

impl TakenColumn {
    /// Of a column that can be read so, as this Arrow type; `natural` is what it is without the file's
    /// own hints.
    pub(super) fn new(
        chunks: &Chunks,
        about: &ColumnDescriptor,
        chunk: &ColumnChunkMetaData,
        rows: usize,
        places: Option<&OffsetIndexMetaData>,
        (natural, wanted): (&ArrowType, &ArrowType),
    ) -> Result<Option<TakenColumn>, ParquetError> {
        let known = about.max_rep_level() == 0
            && about.max_def_level() <= 1
            && chunk.encodings().all(DataPage::is_known);
        let Some(width) = width(about.physical_type(), natural, wanted).filter(|_| known) else {
            return Ok(None);
        };
        let places = places.map(|places| places.page_locations().clone());
        let pages = SerializedPageReader::new(Arc::new(chunks.clone()), chunk, rows, places)?;
        Ok(Some(TakenColumn {
            name: about.name().to_owned(),
            pages,
            width,
            nullable: about.max_def_level() == 1,
            dictionary: None,
            page: None,
            first: 0,
            end: 0,
            rows: rows as u64,
        }))
    }

    /// The values of ascending rows, none before those taken last.
    fn take(&mut self, rows: &[u64], wanted: &ArrowType) -> Result<ArrayRef, ParquetError> {
        let mut out = Out::new(self.width, rows.len());
        let mut nulls = NullBufferBuilder::new(rows.len());
        let mut rest = rows;
        while let Some(row) = rest.first() {
            if *row >= self.end || self.page.is_none() {
                self.open(*row)?;
            }
            let (within, later) = rest.split_at(rest.partition_point(|row| *row < self.end));
            rest = later;
            let taken = self.take_from_page(within, &mut out, &mut nulls);
            taken.ok_or_else(|| {
                bad(&format!(
                    "a page of column `{}` is damaged, or of an encoding that is not read",
                    self.name
                ))
            })?;
        }
        out.finish(wanted, nulls)
    }

    /// Gives back its last page, from which nothing more is taken: a page of each column is much memory.
    fn close(&mut self) {
        (self.page, self.dictionary) = (None, None);
    }

    /// Opens the page that a row is in, reading no page before it.
    fn open(&mut self, row: u64) -> Result<(), ParquetError> {
        loop {
            let ends = || bad(&format!("column `{}` has fewer values than rows", self.name));
            let next = self.pages.peek_next_page()?.ok_or_else(ends)?;
            let broken = || {
                bad(&format!(
                    "a page of column `{}` is damaged, or of an encoding that is not read",
                    self.name
                ))
            };
            if next.is_dict {
                let page = self.pages.get_next_page()?.ok_or_else(ends)?;
                self.dictionary = Some(Dictionary::read(page, self.width).ok_or_else(broken)?);
                continue;
            }
            let count = next.num_rows.or(next.num_levels).ok_or_else(broken)? as u64;
            // Before anything is made of so many rows.
            let end = self.end.checked_add(count).filter(|end| *end <= self.rows).ok_or_else(broken)?;
            (self.first, self.end) = (self.end, end);
            self.page = None;
            if self.end <= row {
                self.pages.skip_next_page()?;
                continue;
            }
            let page = self.pages.get_next_page()?.ok_or_else(ends)?;
            let page = DataPage::read(page, self.width, self.nullable).filter(|page| page.rows == count);
            self.page = Some(page.ok_or_else(broken)?);
            return Ok(());
        }
    }

    fn take_from_page(&mut self, rows: &[u64], out: &mut Out, nulls: &mut NullBufferBuilder) -> Option<()> {
        let page = self.page.as_mut()?;
        let (first, present) = (self.first, page.present.as_ref());
        // Rows ascend.
        if rows.first().is_some_and(|row| *row < first) {
            return None;
        }
        if present.is_none()
            && let (Values::Plain(bytes), Out::Eight(out)) = (&page.values, &mut *out)
        {
            // As most numbers stand; without a question for each.
            let values = bytes.as_chunks().0;
            for row in rows {
                out.push(u64::from_le_bytes(*values.get((row - first) as usize)?));
            }
            nulls.append_n_non_nulls(rows.len());
            return Some(());
        }
        // The number of each row's value among those of the page, none where it is null.
        let mut values = rows.iter().map(|row| {
            let place = row - first;
            let Some(present) = present else { return u32::try_from(place).ok() };
            let value = present.value(place);
            match value {
                Some(_) => nulls.append_non_null(),
                None => nulls.append_null(),
            }
            value
        });
        let dictionary = self.dictionary.as_ref();
        let taken = match (&mut page.values, out) {
            (Values::Plain(bytes), Out::Eight(out)) => values.try_for_each(|value| {
                out.push(u64::from_le_bytes(fixed(bytes, value)?));
                Some(())
            }),
            (Values::Plain(bytes), Out::Four(out)) => values.try_for_each(|value| {
                out.push(u32::from_le_bytes(fixed(bytes, value)?));
                Some(())
            }),
            (Values::Plain(bytes), Out::Bits(out)) => values.try_for_each(|value| {
                let bit = match value {
                    Some(value) => bytes.get(value as usize / 8)? & (1 << (value % 8)) != 0,
                    None => false,
                };
                out.append(bit);
                Some(())
            }),
            (Values::Varying(walk), Out::Varying(ends, out)) => values.try_for_each(|value| {
                if let Some(value) = value {
                    out.extend_from_slice(walk.value(value)?);
                }
                ends.push(i32::try_from(out.len()).ok()?);
                Some(())
            }),
            (Values::Coded(codes), Out::Bits(out)) => values.try_for_each(|value| {
                let bit = value.map_or(Some(0), |value| codes.at(value))?;
                out.append(bit != 0);
                Some(())
            }),
            (Values::Coded(codes), Out::Eight(out)) => values.try_for_each(|value| {
                out.push(u64::from_le_bytes(coded(codes, dictionary, value)?));
                Some(())
            }),
            (Values::Coded(codes), Out::Four(out)) => values.try_for_each(|value| {
                out.push(u32::from_le_bytes(coded(codes, dictionary, value)?));
                Some(())
            }),
            (Values::Coded(codes), Out::Varying(ends, out)) => values.try_for_each(|value| {
                if let Some(value) = value {
                    out.extend_from_slice(dictionary?.varying(codes.at(value)?)?);
                }
                ends.push(i32::try_from(out.len()).ok()?);
                Some(())
            }),
            _ => None,
        };
        if present.is_none() {
            nulls.append_n_non_nulls(rows.len());
        }
        taken
    }
}

/// A value of fixed width, zeros for a null.
#[inline]
fn fixed<const N: usize>(bytes: &[u8], value: Option<u32>) -> Option<[u8; N]> {
    let Some(value) = value else { return Some([0; N]) };
    let from = value as usize * N;
    bytes.get(from..from + N)?.try_into().ok()
}

/// A value of fixed width that the dictionary has, zeros for a null.
#[inline]
fn coded<const N: usize>(
    codes: &mut Codes,
    dictionary: Option<&Dictionary>,
    value: Option<u32>,
) -> Option<[u8; N]> {
    let Some(value) = value else { return Some([0; N]) };
    fixed(&dictionary?.bytes, codes.at(value).map(Some)?)
}

/// How the values of a column stand that can be read so as the Arrow type wanted.
fn width(physical: PhysicalType, natural: &ArrowType, wanted: &ArrowType) -> Option<Width> {
    use ArrowType::{
        Binary, BinaryView, Boolean, Date32, Float32, Float64, Int32, Int64, LargeBinary, LargeUtf8,
        Timestamp, UInt32, UInt64, Utf8, Utf8View,
    };
    let same = match (natural, wanted) {
        (Timestamp(one, zone), Timestamp(two, other)) => one == two && zone.is_some() == other.is_some(),
        (one, two) => one == two,
    };
    match (physical, wanted) {
        (PhysicalType::BOOLEAN, Boolean) => Some(Width::Bit),
        (PhysicalType::INT32, Int32 | UInt32 | Date32) if same => Some(Width::Four),
        (PhysicalType::FLOAT, Float32) => Some(Width::Four),
        (PhysicalType::INT64, Int64 | UInt64 | Timestamp(..)) if same => Some(Width::Eight),
        (PhysicalType::DOUBLE, Float64) => Some(Width::Eight),
        (PhysicalType::BYTE_ARRAY, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView) => {
            Some(Width::Varying)
        }
        _ => None,
    }
}

impl Out {
    fn new(width: Width, rows: usize) -> Out {
        match width {
            Width::Bit => Out::Bits(BooleanBufferBuilder::new(rows)),
            Width::Four => Out::Four(Vec::with_capacity(rows)),
            Width::Eight => Out::Eight(Vec::with_capacity(rows)),
            Width::Varying => {
                let mut ends = Vec::with_capacity(rows + 1);
                ends.push(0);
                Out::Varying(ends, Vec::new())
            }
        }
    }

    fn finish(self, wanted: &ArrowType, mut nulls: NullBufferBuilder) -> Result<ArrayRef, ParquetError> {
        use ArrowType::{Binary, LargeUtf8, Utf8, Utf8View};
        let rows = nulls.len();
        // Text is checked to be UTF-8 as one of these arrays is made.
        let made = match (&self, wanted) {
            (Out::Varying(..), Utf8 | LargeUtf8 | Utf8View) => Utf8,
            (Out::Varying(..), _) => Binary,
            _ => wanted.clone(),
        };
        let data = ArrayData::builder(made.clone()).len(rows).nulls(nulls.finish());
        let data = match self {
            Out::Bits(mut bits) => data.add_buffer(bits.finish().into_inner()),
            Out::Four(values) => data.add_buffer(Buffer::from_vec(values)),
            Out::Eight(values) => data.add_buffer(Buffer::from_vec(values)),
            Out::Varying(ends, bytes) => {
                data.add_buffer(Buffer::from_vec(ends)).add_buffer(Buffer::from_vec(bytes))
            }
        };
        let array = make_array(data.build()?);
        Ok(if made == *wanted { array } else { cast(&array, wanted)? })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
        Int16Array, Int32Array, Int64Array, LargeStringArray, ListArray, StringArray, StringViewArray,
        TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array, UInt64Array,
    };
    use arrow::compute::{concat_batches, take_record_batch};
    use arrow::datatypes::{Int32Type, Int64Type};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, Encoding};
    use parquet::column::page::Page;
    use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;
    use crate::source::identity::Held;
    use crate::source::parquet::ParquetFile;

    /// Columns of every type that is taken from pages, and of some that are not; every `null`th value null.
    fn rows(count: i64, null: i64, spread: i64) -> RecordBatch {
        let some = |row: i64| null == 0 || row % null != null / 2;
        fn made<T>(count: i64, some: impl Fn(i64) -> bool, value: impl Fn(i64) -> T) -> Vec<Option<T>> {
            (0..count).map(|row| some(row).then(|| value(row))).collect()
        }
        let text = |row: i64| "äb\u{1F600}c".repeat((row * 7 % spread) as usize % 5);
        let number = move |row: i64| row * 7_919 % spread - spread / 2;
        let lists = made(count, some, |row| (0..row % 3).map(Some).collect::<Vec<_>>());
        let texts = made(count, some, text);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("int64", Arc::new(Int64Array::from(made(count, some, number)))),
            ("complete", Arc::new(Int64Array::from_iter_values((0..count).map(number)))),
            ("uint64", Arc::new(UInt64Array::from(made(count, some, |row| u64::MAX - row as u64)))),
            ("int32", Arc::new(Int32Array::from(made(count, some, |row| number(row) as i32)))),
            ("uint32", Arc::new(UInt32Array::from(made(count, some, |row| u32::MAX - row as u32)))),
            ("int16", Arc::new(Int16Array::from(made(count, some, |row| number(row) as i16)))),
            ("float32", Arc::new(Float32Array::from(made(count, some, |row| number(row) as f32 / 3.0)))),
            ("float64", Arc::new(Float64Array::from(made(count, some, |row| row as f64 / 3.0)))),
            ("date", Arc::new(Date32Array::from(made(count, some, |row| number(row) as i32)))),
            ("bool", Arc::new(BooleanArray::from(made(count, some, |row| row % 3 == 0)))),
            ("runs", Arc::new(BooleanArray::from(made(count, some, |row| row / 100 % 2 == 0)))),
            (
                "micros",
                Arc::new(
                    TimestampMicrosecondArray::from(made(count, some, number)).with_timezone("Asia/Tokyo"),
                ),
            ),
            ("millis", Arc::new(TimestampMillisecondArray::from(made(count, some, number)))),
            ("text", Arc::new(StringArray::from(texts.clone()))),
            ("different", Arc::new(StringArray::from(made(count, some, |row| row.to_string())))),
            ("large", Arc::new(LargeStringArray::from(texts.clone()))),
            ("view", Arc::new(StringViewArray::from(texts.clone()))),
            (
                "bytes",
                Arc::new(BinaryArray::from_iter(texts.iter().map(|it| it.as_ref().map(String::as_bytes)))),
            ),
            (
                "decimal",
                Arc::new(
                    Decimal128Array::from(made(count, some, |row| i128::from(number(row))))
                        .with_precision_and_scale(12, 2)
                        .unwrap(),
                ),
            ),
            (
                "dictionary",
                Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>()),
            ),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
            ("nothing", Arc::new(Int64Array::from(vec![None; count as usize]))),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, name != "complete")),
        )
        .unwrap()
    }

    fn written(rows: &RecordBatch, to: &Path, properties: WriterProperties) -> ParquetFile {
        let file = std::fs::File::create(to).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
        ParquetFile::open(Arc::new(Held::open(to, "f.parquet").unwrap())).unwrap()
    }

    fn properties(version: WriterVersion, dictionary: bool, index: bool) -> WriterProperties {
        let runs = if version == WriterVersion::PARQUET_2_0 { Encoding::RLE } else { Encoding::PLAIN };
        WriterProperties::builder()
            .set_writer_version(version)
            .set_encoding(Encoding::PLAIN)
            .set_column_encoding("runs".into(), runs)
            .set_dictionary_enabled(dictionary)
            .set_dictionary_page_size_limit(4_000)
            .set_data_page_row_count_limit(500)
            .set_write_batch_size(100)
            .set_offset_index_disabled(!index)
            .set_statistics_enabled(if index { EnabledStatistics::Page } else { EnabledStatistics::None })
            .set_compression(if index { Compression::SNAPPY } else { Compression::UNCOMPRESSED })
            .set_max_row_group_row_count(Some(3_000))
            .build()
    }

    fn all(file: &ParquetFile, columns: &[&str], group: usize) -> RecordBatch {
        let batches: Vec<RecordBatch> =
            file.read(group, columns, 1_000).unwrap().map(|batch| batch.unwrap()).collect();
        concat_batches(&batches[0].schema(), &batches).unwrap()
    }

    #[test]
    fn rows_are_taken_as_the_other_reader_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut taken_from_pages = 0;
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for (dictionary, index) in [(true, true), (true, false), (false, true), (false, false)] {
                for (null, spread) in [(0, 40), (4, 40), (2, 9_000), (700, 9_000)] {
                    let rows = rows(4_000, null, spread);
                    let path = folder.path().join("f.parquet");
                    let file = written(&rows, &path, properties(version, dictionary, index));
                    let schema = rows.schema();
                    let names: Vec<&str> = schema.fields().iter().map(|it| it.name().as_str()).collect();
                    for group in 0..2 {
                        let whole = all(&file, &names, group);
                        let count = whole.num_rows() as u64;
                        for (step, from, batch) in
                            [(1, 0, 1_000), (7, 3, 100), (600, 599, 8_192), (1, 990, 1)]
                        {
                            let asked: Vec<u64> = (from..count).step_by(step).collect();
                            let found: Vec<RecordBatch> = file
                                .read_rows(group, &names, batch, asked.clone())
                                .unwrap()
                                .map(|batch| batch.unwrap())
                                .collect();
                            let found = concat_batches(&whole.schema(), &found).unwrap();
                            let expected = take_record_batch(&whole, &UInt64Array::from(asked)).unwrap();
                            assert_eq!(found, expected, "{version:?} {dictionary} {index} {null} {spread}");
                            taken_from_pages += found.num_rows();
                        }
                    }
                }
            }
        }
        assert!(taken_from_pages > 100_000);
    }

    #[test]
    fn other_encodings_are_read_beside() {
        let folder = tempfile::tempdir().unwrap();
        let rows = rows(2_000, 5, 300);
        let made = WriterProperties::builder().set_dictionary_enabled(false);
        let made = ["int64", "int32"]
            .iter()
            .fold(made, |it, name| it.set_column_encoding((*name).into(), Encoding::DELTA_BINARY_PACKED));
        let made = made
            .set_column_encoding("text".into(), Encoding::DELTA_BYTE_ARRAY)
            .set_column_encoding("float64".into(), Encoding::BYTE_STREAM_SPLIT)
            .build();
        let file = written(&rows, &folder.path().join("f.parquet"), made);
        let names = ["int64", "int32", "text", "float64", "micros", "bool"];
        let whole = all(&file, &names, 0);
        let asked: Vec<u64> = (5..2_000).step_by(9).collect();
        let found = file.read_rows(0, &names, 64, asked.clone()).unwrap().map(|batch| batch.unwrap());
        let found = concat_batches(&whole.schema(), &found.collect::<Vec<_>>()).unwrap();
        assert_eq!(found, take_record_batch(&whole, &UInt64Array::from(asked)).unwrap());
    }

    /// A page whose bytes are damaged gives an error or other values, and never a panic or endless memory.
    /// (A damaged header is for the `parquet` crate to find.)
    #[test]
    fn damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let rows = rows(900, 3, 100);
        let flips = proptest::collection::vec((any::<proptest::sample::Index>(), 1_u8..), 1..4);
        for (version, dictionary) in [
            (WriterVersion::PARQUET_1_0, true),
            (WriterVersion::PARQUET_1_0, false),
            (WriterVersion::PARQUET_2_0, true),
            (WriterVersion::PARQUET_2_0, false),
        ] {
            let path = folder.path().join("f.parquet");
            let file = written(&rows, &path, properties(version, dictionary, false));
            let failed = std::cell::Cell::new(0);
            let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
            let check = |flips: Vec<(proptest::sample::Index, u8)>| {
                for name in ["int64", "int32", "bool", "runs", "text", "different", "bytes", "micros"] {
                    let mut column =
                        file.read_rows(0, &[name], 1, Vec::new()).unwrap().reader.unwrap().into_column();
                    while let Some(page) = column.pages.get_next_page().unwrap() {
                        let page = damaged(page, &flips);
                        if let Page::DictionaryPage { .. } = page {
                            column.dictionary = Dictionary::read(page, column.width);
                            continue;
                        }
                        let rows: Vec<u64> = (0..page.num_values() as u64).collect();
                        column.page = DataPage::read(page, column.width, column.nullable);
                        let mut nulls = NullBufferBuilder::new(rows.len());
                        let mut out = Out::new(column.width, rows.len());
                        let taken = column.take_from_page(&rows, &mut out, &mut nulls);
                        failed.set(failed.get() + usize::from(taken.is_none()));
                    }
                }
                Ok(())
            };
            proptest::test_runner::TestRunner::new(config).run(&flips, check).unwrap();
            let failed = failed.get();
            assert!(failed > 20, "only {failed} pages were found to be damaged");
        }
    }

    fn damaged(mut page: Page, flips: &[(proptest::sample::Index, u8)]) -> Page {
        let (Page::DataPage { buf, .. } | Page::DataPageV2 { buf, .. } | Page::DictionaryPage { buf, .. }) =
            &mut page;
        let mut bytes = buf.to_vec();
        for (at, with) in flips.iter().filter(|_| !buf.is_empty()) {
            bytes[at.index(buf.len())] ^= with;
        }
        *buf = bytes.into();
        page
    }
}
