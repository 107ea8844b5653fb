//! The values of rows that answer, laid out for spine rows that want them in any order.
//!
//! Values of eight bytes lie row by row: a spine row's then share a line or two of the cache, where one line for
//! each column would miss it. Others are taken from arrays, one a feature.

use std::ops::Range;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, NullBufferBuilder, UInt32Array, make_array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::DataType as ArrowType;
use arrow::error::ArrowError;
use asof_compute::{NONE, TOUCHED, arrow_type};
use asof_model::DataType;

use crate::threads::in_parallel;
use crate::{Error, Result};

/// Bytes of a feature's arrays below which they are joined: joining holds them twice, and an array of text
/// has room for 2 GiB.
const JOINED: usize = 1 << 30;

/// The values of rows that answer, numbered as they were added.
#[derive(Debug)]
pub(super) struct Values {
    features: Vec<Feature>,
    /// Of each row the values of eight bytes, in the order of their features.
    rows: Vec<u64>,
    /// How many each has.
    stride: usize,
    /// The number of the first row of each array, and of all rows; of features that are not joined.
    starts: Vec<u32>,
    /// Bytes of the longest values of all features of text together.
    longest: usize,
}

#[derive(Debug)]
struct Feature {
    arrow_type: ArrowType,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// In rows, where nulls are kept apart.
    InRows(NullBufferBuilder),
    Arrays(Vec<ArrayRef>),
}

/// Rows whose values are put into their places.
pub(super) struct Places<'a> {
    rows: &'a mut [u64],
    stride: usize,
}

/// What came of rows that were put into their places.
pub(super) struct Put {
    rows: usize,
    /// Per feature.
    rest: Vec<Rest>,
}

enum Rest {
    Nulls(Option<NullBuffer>),
    Array(ArrayRef),
}

impl Values {
    pub(super) fn new(types: &[DataType]) -> Values {
        let mut stride = 0;
        let feature = |data_type| {
            let arrow_type = arrow_type(data_type);
            let kept = match arrow_type.primitive_width() {
                Some(8) => {
                    stride += 1;
                    Kept::InRows(NullBufferBuilder::new(0))
                }
                _ => Kept::Arrays(Vec::new()),
            };
            Feature { arrow_type, kept }
        };
        let features = types.iter().map(feature).collect();
        Values { features, rows: Vec::new(), stride, starts: vec![0], longest: 0 }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.starts.last().map_or(0, |rows| *rows as usize)
    }

    /// Places for more rows, cut into runs of so many.
    pub(super) fn places(&mut self, runs: &[Range<usize>]) -> Vec<Places<'_>> {
        let (stride, before) = (self.stride, self.rows.len());
        let more: usize = runs.iter().map(ExactSizeIterator::len).sum();
        if before == 0 {
            // Memory that is zero without being touched: each thread touches its own part.
            self.rows = vec![0; more * stride];
        } else {
            self.rows.resize(before + more * stride, 0);
        }
        let mut rest = &mut self.rows[before..];
        let mut places = Vec::with_capacity(runs.len());
        for run in runs {
            let (rows, later) = rest.split_at_mut(run.len() * stride);
            places.push(Places { rows, stride });
            rest = later;
        }
        places
    }

    /// Adds the rest of rows that stand in their places, in their order.
    pub(super) fn add(&mut self, put: Put) {
        for (feature, rest) in self.features.iter_mut().zip(put.rest) {
            match (&mut feature.kept, rest) {
                (Kept::InRows(nulls), Rest::Nulls(Some(found))) => nulls.append_buffer(&found),
                (Kept::InRows(nulls), _) => nulls.append_n_non_nulls(put.rows),
                (Kept::Arrays(arrays), Rest::Array(array)) => arrays.push(array),
                (Kept::Arrays(_), Rest::Nulls(_)) => {}
            }
        }
        self.starts.push((self.len() + put.rows) as u32);
    }

    /// Joins the arrays of features that are not too large for it: of one array, rows are taken faster.
    /// After the last was added.
    pub(super) fn join(&mut self, threads: usize) -> Result<()> {
        let arrays = self.features.iter_mut().filter_map(|feature| match &mut feature.kept {
            Kept::Arrays(arrays) => Some(arrays),
            Kept::InRows(_) => None,
        });
        let arrays: Vec<&mut Vec<ArrayRef>> = arrays.collect();
        let of_feature = |arrays: &&mut Vec<ArrayRef>| arrays.iter().filter_map(longest_text).max();
        self.longest = arrays.iter().filter_map(of_feature).sum();
        let small = |arrays: &&mut Vec<ArrayRef>| {
            arrays.len() > 1 && arrays.iter().map(|it| it.get_array_memory_size()).sum::<usize>() < JOINED
        };
        in_parallel(arrays.into_iter().filter(small).collect(), threads, |arrays| {
            let each: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
            let joined = concat(&each)?;
            *arrays = vec![joined];
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// Where a row's value is: its array, and its place there.
    #[inline]
    fn place(&self, arrays: &[ArrayRef], row: u32) -> (usize, usize) {
        if let [_] = arrays {
            return (0, row as usize);
        }
        let array = self.starts.partition_point(|start| *start <= row) - 1;
        (array, (row - self.starts[array]) as usize)
    }

    /// How many of these rows, [`NONE`] among them, have a null: per feature.
    pub(super) fn nulls(&self, rows: &[u32]) -> Vec<u64> {
        let some = || rows.iter().copied().filter(|row| *row != NONE);
        let of_feature = |feature: &Feature| match &feature.kept {
            Kept::InRows(nulls) => match nulls.as_slice() {
                Some(_) => some().filter(|row| !nulls.is_valid(*row as usize)).count() as u64,
                None => 0,
            },
            Kept::Arrays(arrays) if arrays.iter().all(|array| array.null_count() == 0) => 0,
            Kept::Arrays(arrays) => {
                let places = some().map(|row| self.place(arrays, row));
                places.filter(|(array, at)| arrays[*array].is_null(*at)).count() as u64
            }
        };
        self.features.iter().map(of_feature).collect()
    }

    /// Whether the text of these rows, [`NONE`] among them, is more than so many bytes.
    pub(super) fn are_longer(&self, rows: &[u32], bytes: usize) -> bool {
        if self.longest.saturating_mul(rows.len()) <= bytes {
            return false;
        }
        let length = |row: &u32| {
            let of = |feature: &Feature| match &feature.kept {
                Kept::InRows(_) => 0,
                Kept::Arrays(arrays) => {
                    let (array, at) = self.place(arrays, *row);
                    arrays.get(array).map_or(0, |values| text_length(values, at))
                }
            };
            self.features.iter().map(of).sum::<usize>()
        };
        rows.iter().filter(|row| **row != NONE).map(length).sum::<usize>() > bytes
    }

    /// The values of these rows, nulls for [`NONE`]: per feature.
    ///
    /// # Errors
    /// [`ArrowError::OffsetOverflowError`] where so many rows of a value that is no text, a list say, do
    /// not fit into one array.
    pub(super) fn take(&self, rows: &[u32]) -> std::result::Result<Vec<ArrayRef>, ArrowError> {
        let found: NullBuffer = rows.iter().map(|row| *row != NONE).collect();
        let found = Some(found).filter(|found| found.null_count() > 0);
        let mut in_rows = self.take_in_rows(rows).into_iter();
        let numbers = rows.iter().map(|row| if *row == NONE { 0 } else { *row });
        let numbers = UInt32Array::new(numbers.collect(), found.clone());
        let of_feature = |feature: &Feature| match &feature.kept {
            Kept::InRows(nulls) => {
                let nulls = match nulls.as_slice() {
                    None => found.clone(),
                    Some(_) => {
                        let valid = |at: usize| rows[at] != NONE && nulls.is_valid(rows[at] as usize);
                        Some(NullBuffer::new(BooleanBuffer::collect_bool(rows.len(), valid)))
                    }
                };
                let values = Buffer::from_vec(in_rows.next().unwrap_or_default());
                let array = ArrayData::builder(feature.arrow_type.clone()).len(rows.len()).nulls(nulls);
                Ok(make_array(array.add_buffer(values).build()?))
            }
            Kept::Arrays(arrays) => match arrays.as_slice() {
                [] => Ok(new_null_array(&feature.arrow_type, rows.len())),
                [values] if values.is_empty() => Ok(new_null_array(values.data_type(), rows.len())),
                [values] => take(values, &numbers, None),
                arrays => {
                    // The first array is a null, for spine rows without an answer.
                    let nothing = new_null_array(&feature.arrow_type, 1);
                    let mut all: Vec<&dyn Array> = vec![&nothing];
                    all.extend(arrays.iter().map(AsRef::as_ref));
                    let place = |row: &u32| match *row {
                        NONE => (0, 0),
                        row => {
                            let (array, at) = self.place(arrays, row);
                            (1 + array, at)
                        }
                    };
                    interleave(&all, &rows.iter().map(place).collect::<Vec<_>>())
                }
            },
        };
        self.features.iter().map(of_feature).collect()
    }

    /// The values that lie in rows, per place; zeros for [`NONE`].
    fn take_in_rows(&self, rows: &[u32]) -> Vec<Vec<u64>> {
        let mut taken: Vec<Vec<u64>> = Vec::new();
        taken.resize_with(self.stride, || Vec::with_capacity(rows.len()));
        // No row is at NONE's place: there are fewer.
        let value = |row: u32, place: usize| self.rows.get(row as usize * self.stride + place).copied();
        for rows in rows.chunks(TOUCHED) {
            // Loads that do not wait for each other; what is taken below is then in the cache.
            let touched = rows.iter().filter_map(|row| value(*row, 0)).fold(0, |all, value| all ^ value);
            std::hint::black_box(touched);
            for (place, taken) in taken.iter_mut().enumerate() {
                taken.extend(rows.iter().map(|row| value(*row, place).unwrap_or(0)));
            }
        }
        taken
    }
}

impl Places<'_> {
    /// Puts the values of the next rows into their places.
    ///
    /// # Errors
    /// A feature's values are not of its type, or there are more rows than places.
    pub(super) fn put(&mut self, rows: usize, values: Vec<ArrayRef>, types: &[DataType]) -> Result<Put> {
        let wrong = || Error::internal("values are not what was asked for");
        let cut = rows * self.stride;
        if self.rows.len() < cut {
            return Err(wrong());
        }
        let (places, later) = std::mem::take(&mut self.rows).split_at_mut(cut);
        self.rows = later;
        let mut place = 0;
        let mut rest = Vec::with_capacity(values.len());
        for (array, data_type) in values.into_iter().zip(types) {
            let wanted = arrow_type(data_type);
            if wanted.primitive_width() != Some(8) {
                rest.push(Rest::Array(array));
                continue;
            }
            let data = array.to_data();
            if *data.data_type() != wanted {
                return Err(wrong());
            }
            let values = data.buffers().first().ok_or_else(wrong)?.typed_data::<u64>();
            let values = values.get(data.offset()..data.offset() + rows).ok_or_else(wrong)?;
            for (row, value) in places.chunks_exact_mut(self.stride).zip(values) {
                row[place] = *value;
            }
            place += 1;
            rest.push(Rest::Nulls(array.nulls().cloned()));
        }
        Ok(Put { rows, rest })
    }
}

/// Bytes of the longest text; none of values that are no text.
fn longest_text(values: &ArrayRef) -> Option<usize> {
    let offsets = match values.data_type() {
        ArrowType::Utf8 => values.as_string::<i32>().value_offsets(),
        ArrowType::Binary => values.as_binary::<i32>().value_offsets(),
        _ => return None,
    };
    offsets.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max()
}

/// Bytes of a value of text; of others nothing.
fn text_length(values: &ArrayRef, at: usize) -> usize {
    match (values.as_string_opt::<i32>(), values.as_binary_opt::<i32>()) {
        (Some(text), _) => text.value_length(at) as usize,
        (None, Some(bytes)) => bytes.value_length(at) as usize,
        (None, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    const TYPES: [DataType; 5] =
        [DataType::Int64, DataType::String, DataType::Float64, DataType::Timestamp, DataType::Int32];

    /// Features of the rows so numbered, some of them null; the greatest number has a long text.
    fn features(rows: Range<usize>, nulls: bool) -> Vec<ArrayRef> {
        let rows = || rows.clone().map(|row| row as i64);
        let some = |row: &i64, each: i64| !nulls || row % each > 0;
        let text = |row: i64| if row == 99 { "long".repeat(100) } else { format!("t{row}") };
        vec![
            Arc::new(rows().collect::<Int64Array>()),
            Arc::new(rows().map(|row| some(&row, 3).then(|| text(row))).collect::<StringArray>()),
            Arc::new(rows().map(|row| some(&row, 5).then_some(row as f64 / 2.0)).collect::<Float64Array>()),
            Arc::new(rows().map(|row| row * 7).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
            Arc::new(rows().map(|row| row as i32).collect::<Int32Array>()),
        ]
    }

    /// Values of a hundred rows, added in runs of these lengths, with nulls from row `from` on.
    fn values(portions: &[&[usize]], from: usize) -> Values {
        let mut values = Values::new(&TYPES);
        let mut next = 0;
        for lengths in portions {
            let mut runs = Vec::new();
            for length in *lengths {
                runs.push(next..next + length);
                next += length;
            }
            let put = |(mut places, run): (Places<'_>, &Range<usize>)| {
                // In two batches.
                let middle = run.start.midpoint(run.end);
                let batches = [run.start..middle, middle..run.end].into_iter();
                let each = |rows: Range<usize>| {
                    places.put(rows.len(), features(rows.clone(), rows.start >= from), &TYPES).unwrap()
                };
                batches.map(each).collect::<Vec<_>>()
            };
            let put: Vec<Put> = values.places(&runs).into_iter().zip(&runs).flat_map(put).collect();
            put.into_iter().for_each(|put| values.add(put));
            assert_eq!(values.len(), next);
        }
        assert_eq!(next, 100);
        values
    }

    #[test]
    fn rows_are_taken_in_any_order() {
        let wanted: Vec<u32> =
            (0..2_000).map(|at| if at % 11 == 0 { NONE } else { (at * 37) % 100 }).collect();
        for portions in [&[[100].as_slice()] as &[&[usize]], &[&[1, 30, 9], &[0], &[60]], &[&[40, 60]]] {
            for from in [0, 40, 100] {
                for joined in [false, true] {
                    let mut values = values(portions, from);
                    if joined {
                        values.join(2).unwrap();
                    }
                    // The rows as they were, with a null at their end.
                    let cut = from.min(100);
                    let parts = [features(0..cut, false), features(cut..100, true)];
                    let taken = values.take(&wanted).unwrap();
                    for (feature, found) in taken.iter().enumerate() {
                        let nothing = new_null_array(found.data_type(), 1);
                        let all = concat(&[&parts[0][feature], &parts[1][feature], &nothing]).unwrap();
                        let numbers: UInt32Array = wanted.iter().map(|row| (*row).min(100)).collect();
                        let expected = take(&all, &numbers, None).unwrap();
                        assert_eq!(*found, expected, "{portions:?} from {from}, feature {feature}");
                        let nulls =
                            (0..wanted.len()).filter(|at| wanted[*at] != NONE && expected.is_null(*at));
                        assert_eq!(values.nulls(&wanted)[feature], nulls.count() as u64);
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_answers() {
        let values = Values::new(&TYPES);
        let taken = values.take(&[NONE, NONE]).unwrap();
        assert!(taken.iter().all(|array| array.null_count() == 2));
        assert_eq!(values.nulls(&[NONE, NONE]), [0; 5]);
    }

    #[test]
    fn long_text_is_seen() {
        let mut values = values(&[&[100]], 100);
        values.join(1).unwrap();
        assert!(values.are_longer(&[99, NONE], 399));
        assert!(!values.are_longer(&[99], 400) && !values.are_longer(&[1, 2, 3], 399));
    }

    #[test]
    fn wrong_values_are_refused() {
        let mut values = Values::new(&TYPES);
        let mut places = values.places(&[0..10]);
        let mut wrong = features(0..10, false);
        wrong[0] = Arc::clone(&wrong[2]);
        assert!(places[0].put(10, wrong, &TYPES).is_err());
        assert!(places[0].put(11, features(0..11, false), &TYPES).is_err());
    }
}
