//! The content hash of rows in order: the same for the same values, whatever batches they come in and
//! however arrays hold them. `docs/formats/training-set.md` has every byte.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, Date32Type, Date64Type, Decimal128Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use asof_compute::from_arrow_type;

use crate::threads::in_parallel;
use crate::{Error, Result};

/// The version of the hash (`docs/formats/training-set.md`); the first byte of what is hashed.
const CONTENT_FORMAT_VERSION: u8 = 1;

/// So many values are hashed in a fraction of a millisecond.
const VALUES: usize = 1 << 18;

/// Hashes batches of one schema.
#[derive(Debug, Clone)]
pub struct ContentHash {
    header: blake3::Hasher,
    columns: Vec<ColumnHash>,
    rows: u64,
    threads: usize,
}

/// Validity and values of one column, each hashed on its own, and its children.
#[derive(Debug, Clone)]
struct ColumnHash {
    valid: blake3::Hasher,
    values: blake3::Hasher,
    children: Vec<ColumnHash>,
    scratch: Vec<u8>,
}

impl ContentHash {
    /// For batches of this schema, hashed by so many threads.
    pub fn new(schema: &Schema, threads: usize) -> ContentHash {
        let mut header = blake3::Hasher::new();
        header.update(&[CONTENT_FORMAT_VERSION]);
        header.update(&(schema.fields().len() as u64).to_le_bytes());
        for field in schema.fields() {
            text(&mut header, field.name());
            text(&mut header, &type_name(field.data_type()));
        }
        let columns = schema.fields().iter().map(|field| ColumnHash::new(field.data_type())).collect();
        ContentHash { header, columns, rows: 0, threads }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`Error::Internal`] where an array cannot be read as its type.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns: Vec<_> = self.columns.iter_mut().zip(batch.columns()).collect();
        // A thread is not begun for less than it costs.
        let threads = self.threads.min(batch.num_rows() * columns.len() / VALUES);
        in_parallel(columns, threads, |(column, array)| column.update(array, None))?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// How many rows were added.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// 64 hex digits over schema and rows so far.
    pub fn finish(&self) -> String {
        let mut all = self.header.clone();
        all.update(&self.rows.to_le_bytes());
        for column in &self.columns {
            all.update(column.finish().as_bytes());
        }
        all.finalize().to_hex().to_string()
    }
}

fn text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// The model's name of a type, or Arrow's where the model has none.
fn type_name(data_type: &ArrowType) -> String {
    match plain(data_type) {
        ArrowType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => {
            "timestamp".to_owned()
        }
        other @ ArrowType::Timestamp(..) => other.to_string(),
        other => from_arrow_type(other).map_or_else(|| other.to_string(), |known| known.to_string()),
    }
}

/// The type below a dictionary.
fn plain(data_type: &ArrowType) -> &ArrowType {
    match data_type {
        ArrowType::Dictionary(_, value) => plain(value),
        ArrowType::RunEndEncoded(_, value) => plain(value.data_type()),
        other => other,
    }
}

impl ColumnHash {
    fn new(data_type: &ArrowType) -> ColumnHash {
        let children = match plain(data_type) {
            ArrowType::List(item) | ArrowType::LargeList(item) | ArrowType::FixedSizeList(item, _) => {
                vec![ColumnHash::new(item.data_type())]
            }
            ArrowType::Struct(fields) => {
                fields.iter().map(|field| ColumnHash::new(field.data_type())).collect()
            }
            _ => Vec::new(),
        };
        ColumnHash {
            valid: blake3::Hasher::new(),
            values: blake3::Hasher::new(),
            children,
            scratch: Vec::new(),
        }
    }

    fn finish(&self) -> blake3::Hash {
        let mut all = blake3::Hasher::new();
        all.update(self.valid.finalize().as_bytes());
        all.update(self.values.finalize().as_bytes());
        for child in &self.children {
            all.update(child.finish().as_bytes());
        }
        all.finalize()
    }

    /// Adds an array; rows null in `above` are null, whatever stands below.
    fn update(&mut self, array: &ArrayRef, above: Option<&NullBuffer>) -> Result<()> {
        let inner = plain(array.data_type());
        if inner != array.data_type() {
            return self.update(&cast(array, &inner.clone())?, above);
        }
        let nulls = NullBuffer::union(array.logical_nulls().as_ref(), above);
        let nulls = nulls.as_ref().filter(|nulls| nulls.null_count() > 0);
        self.scratch.clear();
        match nulls {
            None => self.scratch.resize(array.len(), 1),
            Some(nulls) => self.scratch.extend(nulls.iter().map(u8::from)),
        }
        self.valid.update(&self.scratch);
        match array.data_type() {
            ArrowType::Null => {}
            ArrowType::Boolean => self.booleans(array.as_boolean(), nulls),
            ArrowType::Int8 => self.fixed::<Int8Type, 1>(array, nulls, i8::to_le_bytes),
            ArrowType::Int16 => self.fixed::<Int16Type, 2>(array, nulls, i16::to_le_bytes),
            ArrowType::Int32 => self.fixed::<Int32Type, 4>(array, nulls, i32::to_le_bytes),
            ArrowType::Int64 => self.fixed::<Int64Type, 8>(array, nulls, i64::to_le_bytes),
            ArrowType::UInt8 => self.fixed::<UInt8Type, 1>(array, nulls, u8::to_le_bytes),
            ArrowType::UInt16 => self.fixed::<UInt16Type, 2>(array, nulls, u16::to_le_bytes),
            ArrowType::UInt32 => self.fixed::<UInt32Type, 4>(array, nulls, u32::to_le_bytes),
            ArrowType::UInt64 => self.fixed::<UInt64Type, 8>(array, nulls, u64::to_le_bytes),
            ArrowType::Float32 => self.fixed::<Float32Type, 4>(array, nulls, |x| {
                if x.is_nan() { f32::NAN.to_le_bytes() } else { x.to_le_bytes() }
            }),
            ArrowType::Float64 => self.fixed::<Float64Type, 8>(array, nulls, |x| {
                if x.is_nan() { f64::NAN.to_le_bytes() } else { x.to_le_bytes() }
            }),
            ArrowType::Date32 => self.fixed::<Date32Type, 4>(array, nulls, i32::to_le_bytes),
            ArrowType::Date64 => self.fixed::<Date64Type, 8>(array, nulls, i64::to_le_bytes),
            ArrowType::Decimal128(..) => self.fixed::<Decimal128Type, 16>(array, nulls, i128::to_le_bytes),
            ArrowType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => self.fixed::<TimestampSecondType, 8>(array, nulls, i64::to_le_bytes),
                TimeUnit::Millisecond => {
                    self.fixed::<TimestampMillisecondType, 8>(array, nulls, i64::to_le_bytes);
                }
                TimeUnit::Microsecond => {
                    self.fixed::<TimestampMicrosecondType, 8>(array, nulls, i64::to_le_bytes);
                }
                TimeUnit::Nanosecond => {
                    self.fixed::<TimestampNanosecondType, 8>(array, nulls, i64::to_le_bytes);
                }
            },
            ArrowType::Utf8 => {
                self.bytes(array.as_string::<i32>().iter().map(|it| it.map(str::as_bytes)), nulls);
            }
            ArrowType::LargeUtf8 => {
                self.bytes(array.as_string::<i64>().iter().map(|it| it.map(str::as_bytes)), nulls);
            }
            ArrowType::Utf8View => {
                self.bytes(array.as_string_view().iter().map(|it| it.map(str::as_bytes)), nulls);
            }
            ArrowType::Binary => self.bytes(array.as_binary::<i32>().iter(), nulls),
            ArrowType::LargeBinary => self.bytes(array.as_binary::<i64>().iter(), nulls),
            ArrowType::BinaryView => self.bytes(array.as_binary_view().iter(), nulls),
            ArrowType::FixedSizeBinary(_) => self.bytes(array.as_fixed_size_binary().iter(), nulls),
            ArrowType::List(_) => {
                let list = array.as_list::<i32>();
                self.lists((0..list.len()).map(|row| list.value(row)), nulls)?;
            }
            ArrowType::LargeList(_) => {
                let list = array.as_list::<i64>();
                self.lists((0..list.len()).map(|row| list.value(row)), nulls)?;
            }
            ArrowType::FixedSizeList(..) => {
                let list = array.as_fixed_size_list();
                self.lists((0..list.len()).map(|row| list.value(row)), nulls)?;
            }
            ArrowType::Struct(_) => {
                for (child, column) in self.children.iter_mut().zip(array.as_struct().columns()) {
                    child.update(column, nulls)?;
                }
            }
            _ => {
                // Types the model has no name for pass through from spines: as Arrow prints them.
                let options = FormatOptions::default();
                let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
                let texts: Vec<String> =
                    (0..array.len()).map(|row| formatter.value(row).to_string()).collect();
                self.bytes(texts.iter().map(|it| Some(it.as_bytes())), nulls);
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.values.update(&self.scratch);
        self.scratch.clear();
    }

    fn booleans(&mut self, array: &BooleanArray, nulls: Option<&NullBuffer>) {
        self.scratch.clear();
        let valid = |row| nulls.is_none_or(|nulls| nulls.is_valid(row));
        self.scratch.extend((0..array.len()).map(|row| u8::from(valid(row) && array.value(row))));
        self.flush();
    }

    fn fixed<T: ArrowPrimitiveType, const N: usize>(
        &mut self,
        array: &ArrayRef,
        nulls: Option<&NullBuffer>,
        bytes: impl Fn(T::Native) -> [u8; N],
    ) {
        let values = array.as_primitive::<T>().values();
        self.scratch.clear();
        // Memory already holds what is hashed, but for other machines' order and the many ways to write a NaN.
        if cfg!(target_endian = "little") && values.iter().all(|value| value.partial_cmp(value).is_some()) {
            let held = values.inner().as_slice();
            let Some(nulls) = nulls else {
                self.values.update(held);
                return;
            };
            self.scratch.extend_from_slice(held);
            let (valued, _) = self.scratch.as_chunks_mut::<N>();
            let absent = !nulls.inner();
            absent.set_indices().for_each(|row| valued[row] = [0; N]);
        } else {
            self.scratch.reserve(values.len() * N);
            for (row, value) in values.iter().enumerate() {
                let valid = nulls.is_none_or(|nulls| nulls.is_valid(row));
                self.scratch.extend_from_slice(&if valid { bytes(*value) } else { [0; N] });
            }
        }
        self.flush();
    }

    fn bytes<'a>(&mut self, values: impl Iterator<Item = Option<&'a [u8]>>, nulls: Option<&NullBuffer>) {
        self.scratch.clear();
        for (row, value) in values.enumerate() {
            let value = value.filter(|_| nulls.is_none_or(|nulls| nulls.is_valid(row)));
            let value = value.unwrap_or_default();
            self.scratch.extend_from_slice(&(value.len() as u64).to_le_bytes());
            self.scratch.extend_from_slice(value);
            if self.scratch.len() > 1 << 20 {
                self.flush();
            }
        }
        self.flush();
    }

    /// The length of each list, then its items as rows of the child.
    fn lists(&mut self, lists: impl Iterator<Item = ArrayRef>, nulls: Option<&NullBuffer>) -> Result<()> {
        for (row, items) in lists.enumerate() {
            if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                self.values.update(&(items.len() as u64).to_le_bytes());
                let child = self.children.first_mut();
                child.ok_or_else(|| Error::internal("a list without items"))?.update(&items, None)?;
            } else {
                self.values.update(&0_u64.to_le_bytes());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::*;
    use arrow::datatypes::{Field, Fields, Int8Type as Key};

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, it)| (name, it, true)))
            .unwrap()
    }

    fn hash(batches: &[RecordBatch]) -> String {
        let mut content = ContentHash::new(&batches[0].schema(), 2);
        batches.iter().for_each(|batch| content.update(batch).unwrap());
        content.finish()
    }

    fn rich() -> RecordBatch {
        let mut list = ListBuilder::new(StringBuilder::new());
        for row in 0..50 {
            if row % 7 == 0 {
                list.append_null();
            } else {
                (0..row % 4).for_each(|i| list.values().append_value("x".repeat(i)));
                list.append(true);
            }
        }
        let numbers: ArrayRef = Arc::new((0..50).map(|i| (i % 3 > 0).then_some(i)).collect::<Int64Array>());
        let fields = Fields::from(vec![Field::new("a", ArrowType::Int64, true)]);
        let nulls = NullBuffer::from((0..50).map(|i| i % 5 > 0).collect::<Vec<bool>>());
        let records = StructArray::new(fields, vec![Arc::clone(&numbers)], Some(nulls));
        batch(vec![
            ("n", numbers),
            ("b", Arc::new((0..50).map(|i| (i % 4 > 0).then_some(i % 2 == 0)).collect::<BooleanArray>())),
            ("f", Arc::new((0..50).map(|i| (i % 4 > 0).then_some(f64::from(i))).collect::<Float64Array>())),
            ("s", Arc::new((0..50).map(|i| (i % 4 > 0).then(|| format!("s{i}"))).collect::<StringArray>())),
            ("l", Arc::new(list.finish())),
            ("r", Arc::new(records)),
        ])
    }

    #[test]
    fn batches_do_not_matter() {
        let whole = rich();
        let expected = hash(std::slice::from_ref(&whole));
        for size in [1, 3, 7, 49] {
            let parts: Vec<RecordBatch> =
                (0..50).step_by(size).map(|at| whole.slice(at, size.min(50 - at))).collect();
            assert_eq!(hash(&parts), expected, "{size}");
        }
    }

    #[test]
    fn threads_do_not_matter() {
        let numbers =
            |from: i64| -> ArrayRef { Arc::new((from..from + VALUES as i64).collect::<Int64Array>()) };
        let large = batch(vec![("a", numbers(0)), ("b", numbers(7)), ("c", numbers(9))]);
        let of = |threads: usize| {
            let mut content = ContentHash::new(&large.schema(), threads);
            content.update(&large).unwrap();
            content.finish()
        };
        assert!([2, 3, 8].into_iter().all(|threads| of(threads) == of(1)));
    }

    #[test]
    fn layout_does_not_matter() {
        let texts = [Some("a"), None, Some("b"), Some("a")];
        let expected = hash(&[batch(vec![("s", Arc::new(StringArray::from(texts.to_vec())))])]);
        let dictionary: DictionaryArray<Key> = texts.into_iter().collect();
        for other in [
            Arc::new(LargeStringArray::from(texts.to_vec())) as ArrayRef,
            Arc::new(StringViewArray::from(texts.to_vec())),
            Arc::new(dictionary),
        ] {
            assert_eq!(hash(&[batch(vec![("s", other)])]), expected);
        }
        // What stands below a null is nothing.
        let nulls = Some(NullBuffer::from(vec![true, false]));
        let one = Int64Array::new(vec![1, 2].into(), nulls.clone());
        let two = Int64Array::new(vec![1, 3].into(), nulls);
        assert_eq!(hash(&[batch(vec![("n", Arc::new(one))])]), hash(&[batch(vec![("n", Arc::new(two))])]));
    }

    #[test]
    fn everything_else_matters() {
        let base = || vec![("a", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)];
        let expected = hash(&[batch(base())]);
        let others: Vec<RecordBatch> = vec![
            batch(vec![("b", Arc::new(Int64Array::from(vec![1, 2])))]),
            batch(vec![("a", Arc::new(Int32Array::from(vec![1, 2])))]),
            batch(vec![("a", Arc::new(Int64Array::from(vec![2, 1])))]),
            batch(vec![("a", Arc::new(Int64Array::from(vec![Some(1), None])))]),
            batch(vec![("a", Arc::new(Int64Array::from(vec![1, 2, 2])))]),
            batch(vec![("a", Arc::new(Int64Array::from(vec![1])))]),
            batch(vec![("a", Arc::new(TimestampMicrosecondArray::from(vec![1, 2])))]),
            batch(vec![
                ("a", Arc::new(Int64Array::from(vec![1, 2]))),
                ("c", Arc::new(Int64Array::from(vec![1, 2]))),
            ]),
        ];
        let mut seen = vec![expected];
        for other in others {
            let found = hash(&[other]);
            assert!(!seen.contains(&found));
            seen.push(found);
        }
    }

    /// The hash of version 1 is this forever.
    #[test]
    fn version_1_is_frozen() {
        assert_eq!(hash(&[rich()]), "74b9490872e80867ddd827ff08873be57714705d5f65a55125efdf438d7fa0c0");
    }
}
