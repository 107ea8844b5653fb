//! The values of rows that answer, laid out for spine rows that want them in any order.
//!
//! Values of eight bytes and short texts lie row by row: a spine row's then share a line or two of the cache, where
//! a line for each column would miss it. Others are taken from arrays, one a feature.

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, NullBufferBuilder, UInt32Array, make_array, new_empty_array,
    new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::DataType as ArrowType;
use arrow::error::ArrowError;
use asof_compute::{NONE, TOUCHED, arrow_type};
use asof_model::DataType;

use crate::threads::in_parallel;
use crate::{Error, Result};

/// Bytes of a feature's arrays below which they are joined: joining holds them twice, and an array of lists of text
/// has room for 2 GiB.
const JOINED: usize = 1 << 30;

/// So many words are taken at once, about, feature by feature: few enough to be in the cache still when the last
/// feature is taken.
const AT_ONCE: usize = 16_384;

/// The values of rows that answer, numbered as they were added.
#[derive(Debug)]
pub(super) struct Values {
    features: Vec<Feature>,
    lines: Lines,
    /// The number of the first row of each array, and of all rows; of features that are not joined.
    starts: Vec<u32>,
}

#[derive(Debug)]
struct Feature {
    arrow_type: ArrowType,
    kept: Kept,
}

/// How the values of a type are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As a word of each row.
    Word,
    /// As a [`Text`] of each row.
    Text,
    /// As arrays.
    Array,
}

impl Form {
    fn of(arrow_type: &ArrowType) -> Form {
        match arrow_type {
            ArrowType::Utf8 | ArrowType::Binary => Form::Text,
            other if other.primitive_width() == Some(8) => Form::Word,
            _ => Form::Array,
        }
    }

    fn words(self) -> usize {
        match self {
            Form::Word => 1,
            Form::Text => 2,
            Form::Array => 0,
        }
    }
}

/// The length of a text in the lower half of the first word, and where it is short its bytes in the other twelve.
/// A longer one is in an array.
type Text = [u64; 2];

/// A text is short up to so many bytes.
const SHORT: usize = 12;

fn text(value: &[u8]) -> Text {
    let mut words = [0; 16];
    words[..4].copy_from_slice(&(value.len() as u32).to_le_bytes());
    if value.len() <= SHORT {
        words[4..4 + value.len()].copy_from_slice(value);
    }
    let (words, _) = words.as_chunks();
    [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]
}

fn length([word, _]: Text) -> usize {
    word as u32 as usize
}

/// A short text's bytes, and zeros behind them.
fn short([one, two]: Text) -> [u8; SHORT] {
    let mut bytes = [0; SHORT];
    bytes[..4].copy_from_slice(&one.to_le_bytes()[4..]);
    bytes[4..].copy_from_slice(&two.to_le_bytes());
    bytes
}

#[derive(Debug)]
enum Kept {
    /// In lines, where nulls are kept apart.
    Words(NullBufferBuilder),
    /// In lines, with the arrays of those that are not short, and the greatest length.
    Texts {
        nulls: NullBufferBuilder,
        longer: Vec<ArrayRef>,
        longest: usize,
    },
    Arrays(Vec<ArrayRef>),
}

/// A line a row: a word for each value of eight bytes and two for each [`Text`], in the order of their features.
#[derive(Debug)]
struct Lines {
    /// How many words each has.
    stride: usize,
    /// Lines in the order of their rows, by the part they were read in.
    parts: Vec<Vec<u64>>,
    /// The number of the first row of each part, and of all rows.
    starts: Vec<u32>,
    /// The part of every so manieth row.
    part_of: Vec<u32>,
}

/// Of so many rows the part of the first is known, as a power of two.
const APART: u32 = 12;

impl Lines {
    fn add(&mut self, part: Vec<u64>, rows: usize) {
        let end = self.starts.last().copied().unwrap_or(0) + rows as u32;
        while ((self.part_of.len() as u64) << APART) < u64::from(end) {
            self.part_of.push(self.parts.len() as u32);
        }
        self.parts.push(part);
        self.starts.push(end);
    }

    /// The line of a row; an empty one for [`NONE`].
    #[inline]
    fn line(&self, row: u32) -> &[u64] {
        if row == NONE {
            return &[];
        }
        let Some(part) = self.part_of.get((row >> APART) as usize) else { return &[] };
        let mut part = *part as usize;
        while row >= self.starts[part + 1] {
            part += 1;
        }
        let at = (row - self.starts[part]) as usize * self.stride;
        &self.parts[part][at..at + self.stride]
    }
}

/// A word of a line; zero of an empty one.
#[inline]
fn word(line: &[u64], word: usize) -> u64 {
    line.get(word).copied().unwrap_or(0)
}

#[inline]
fn text_at(line: &[u64], at: usize) -> Text {
    [word(line, at), word(line, at + 1)]
}

/// A part of the rows, being put into lines.
pub(super) struct Part {
    lines: Vec<u64>,
    stride: usize,
    /// The features' types.
    types: Vec<ArrowType>,
}

/// What is kept of rows beside their lines.
pub(super) struct Put {
    rows: usize,
    /// Per feature.
    rest: Vec<Rest>,
}

enum Rest {
    Words(Option<NullBuffer>),
    /// With the array where some text is not short, and the greatest length.
    Texts(Option<NullBuffer>, Option<ArrayRef>, usize),
    Array(ArrayRef),
}

fn add_nulls(to: &mut NullBufferBuilder, rows: usize, nulls: Option<&NullBuffer>) {
    match nulls {
        Some(nulls) => to.append_buffer(nulls),
        None => to.append_n_non_nulls(rows),
    }
}

impl Values {
    pub(super) fn new(types: &[DataType]) -> Values {
        let mut stride = 0;
        let feature = |data_type| {
            let arrow_type = arrow_type(data_type);
            let form = Form::of(&arrow_type);
            stride += form.words();
            let nulls = NullBufferBuilder::new(0);
            let kept = match form {
                Form::Word => Kept::Words(nulls),
                Form::Text => Kept::Texts { nulls, longer: Vec::new(), longest: 0 },
                Form::Array => Kept::Arrays(Vec::new()),
            };
            Feature { arrow_type, kept }
        };
        let features = types.iter().map(feature).collect();
        let lines = Lines { stride, parts: Vec::new(), starts: vec![0], part_of: Vec::new() };
        Values { features, lines, starts: vec![0] }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.starts.last().map_or(0, |rows| *rows as usize)
    }

    /// A part of so many rows, to be filled by one thread: memory that is first touched there.
    pub(super) fn part(&self, rows: usize) -> Part {
        let stride = self.lines.stride;
        let types = self.features.iter().map(|feature| feature.arrow_type.clone()).collect();
        Part { lines: Vec::with_capacity(rows * stride), stride, types }
    }

    /// Adds the rows of a part, as they were put into it.
    pub(super) fn add(&mut self, part: Part, put: Vec<Put>) {
        self.lines.add(part.lines, put.iter().map(|put| put.rows).sum());
        put.into_iter().for_each(|put| self.add_rest(put));
    }

    fn add_rest(&mut self, put: Put) {
        for (feature, rest) in self.features.iter_mut().zip(put.rest) {
            match (&mut feature.kept, rest) {
                (Kept::Words(to), Rest::Words(nulls)) => add_nulls(to, put.rows, nulls.as_ref()),
                (Kept::Texts { nulls: to, longer, longest }, Rest::Texts(nulls, array, length)) => {
                    add_nulls(to, put.rows, nulls.as_ref());
                    longer.push(array.unwrap_or_else(|| new_empty_array(&feature.arrow_type)));
                    *longest = length.max(*longest);
                }
                (Kept::Arrays(arrays), Rest::Array(array)) => arrays.push(array),
                // A part puts values as these features keep them.
                _ => {}
            }
        }
        self.starts.push((self.len() + put.rows) as u32);
    }

    /// Joins the arrays of features that are not too large for it: of one array, rows are taken faster.
    /// After the last was added.
    pub(super) fn join(&mut self, threads: usize) -> Result<()> {
        let arrays = self.features.iter_mut().filter_map(|feature| match &mut feature.kept {
            Kept::Arrays(arrays) => Some(arrays),
            Kept::Words(_) | Kept::Texts { .. } => None,
        });
        let small = |arrays: &&mut Vec<ArrayRef>| {
            arrays.len() > 1 && arrays.iter().map(|it| it.get_array_memory_size()).sum::<usize>() < JOINED
        };
        in_parallel(arrays.filter(small).collect(), threads, |arrays| {
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
        self.place_in_many(row)
    }

    #[inline]
    fn place_in_many(&self, row: u32) -> (usize, usize) {
        let array = self.starts.partition_point(|start| *start <= row) - 1;
        (array, (row - self.starts[array]) as usize)
    }

    /// How many of these rows, [`NONE`] among them, have a null: per feature.
    pub(super) fn nulls(&self, rows: &[u32]) -> Vec<u64> {
        // How often each row is wanted: they are in any order, and nulls are read in their own.
        let mut times = vec![0_u32; self.len()];
        for row in rows.iter().filter(|row| **row != NONE) {
            times[*row as usize] += 1;
        }
        let among = |nulls: Option<&NullBuffer>, times: &[u32]| -> u64 {
            let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return 0 };
            (!nulls.inner()).set_indices().map(|row| u64::from(times[row])).sum()
        };
        let of_feature = |feature: &Feature| match &feature.kept {
            Kept::Words(nulls) | Kept::Texts { nulls, .. } => among(nulls.finish_cloned().as_ref(), &times),
            Kept::Arrays(arrays) => {
                let arrays = arrays.iter().zip(&self.starts);
                arrays.map(|(array, start)| among(array.nulls(), &times[*start as usize..])).sum()
            }
        };
        self.features.iter().map(of_feature).collect()
    }

    /// Whether the text of these rows, [`NONE`] among them, is more than so many bytes.
    pub(super) fn are_longer(&self, rows: &[u32], bytes: usize) -> bool {
        let mut word = 0;
        let mut longest = 0;
        let mut texts = Vec::new();
        for feature in &self.features {
            if let Kept::Texts { longest: of_feature, .. } = &feature.kept {
                longest += of_feature;
                texts.push(word);
            }
            word += Form::of(&feature.arrow_type).words();
        }
        if rows.len().saturating_mul(longest) <= bytes {
            return false;
        }
        let of_line = |line: &[u64]| texts.iter().map(|word| length(text_at(line, *word))).sum::<usize>();
        rows.iter().map(|row| of_line(self.lines.line(*row))).sum::<usize>() > bytes
    }

    /// The values of these rows, nulls for [`NONE`]: per feature.
    ///
    /// # Errors
    /// [`ArrowError::OffsetOverflowError`] where so many rows of a value that is no text, a list say, do
    /// not fit into one array.
    pub(super) fn take(&self, rows: &[u32]) -> std::result::Result<Vec<ArrayRef>, ArrowError> {
        let found: NullBuffer = rows.iter().map(|row| *row != NONE).collect();
        let found = Some(found).filter(|found| found.null_count() > 0);
        let mut taken = self.take_from_lines(rows)?.into_iter();
        let numbers = rows.iter().map(|row| if *row == NONE { 0 } else { *row });
        let numbers = UInt32Array::new(numbers.collect(), found.clone());
        let of_feature = |feature: &Feature| match &feature.kept {
            Kept::Words(nulls) | Kept::Texts { nulls, .. } => {
                let nulls = match nulls.as_slice() {
                    None => found.clone(),
                    Some(_) => {
                        let valid = |at: usize| rows[at] != NONE && nulls.is_valid(rows[at] as usize);
                        Some(NullBuffer::new(BooleanBuffer::collect_bool(rows.len(), valid)))
                    }
                };
                let array = ArrayData::builder(feature.arrow_type.clone()).len(rows.len()).nulls(nulls);
                let array = match taken.next() {
                    Some(Taken::Words(words)) => array.add_buffer(Buffer::from_vec(words)),
                    Some(Taken::Texts(ends, bytes)) => {
                        array.add_buffer(Buffer::from_vec(ends)).add_buffer(Buffer::from_vec(bytes))
                    }
                    None => array,
                };
                Ok(make_array(array.build()?))
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

    /// What lines have, per feature; zeros and empty texts for [`NONE`].
    fn take_from_lines(&self, rows: &[u32]) -> std::result::Result<Vec<Taken>, ArrowError> {
        let mut taken = Vec::new();
        let mut at = 0;
        for feature in &self.features {
            match &feature.kept {
                Kept::Words(_) => taken.push((at, Taken::Words(Vec::with_capacity(rows.len())), &[][..])),
                Kept::Texts { longer, .. } => {
                    let mut ends = Vec::with_capacity(rows.len() + 1);
                    ends.push(0);
                    taken.push((at, Taken::Texts(ends, Vec::new()), longer));
                }
                Kept::Arrays(_) => {}
            }
            at += Form::of(&feature.arrow_type).words();
        }
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let mut lines: Vec<&[u64]> = Vec::new();
        for rows in rows.chunks((AT_ONCE / self.lines.stride.max(1)).clamp(1, TOUCHED)) {
            lines.clear();
            lines.extend(rows.iter().map(|row| self.lines.line(*row)));
            // Loads that do not wait for each other; what is taken below is then in the cache, of lines that are not
            // long at least.
            let ends = |line: &&[u64]| line.first().unwrap_or(&0) ^ line.last().unwrap_or(&0);
            std::hint::black_box(lines.iter().map(ends).fold(0, |all, ends| all ^ ends));
            for (at, taken, longer) in &mut taken {
                match taken {
                    Taken::Words(words) => words.extend(lines.iter().map(|line| word(line, *at))),
                    Taken::Texts(ends, bytes) => {
                        for (line, row) in lines.iter().zip(rows) {
                            let text = text_at(line, *at);
                            let end = bytes.len() + length(text);
                            if length(text) <= SHORT {
                                // As many for all, and then less: faster than so many as there are.
                                bytes.extend_from_slice(&short(text));
                                bytes.truncate(end);
                            } else {
                                bytes.extend_from_slice(self.longer(longer, *row));
                            }
                            ends.push(i32::try_from(end).map_err(|_| ArrowError::OffsetOverflowError(end))?);
                        }
                    }
                }
            }
        }
        Ok(taken.into_iter().map(|(_, taken, _)| taken).collect())
    }

    /// A row's text that is not short.
    fn longer<'a>(&self, arrays: &'a [ArrayRef], row: u32) -> &'a [u8] {
        let (array, at) = self.place_in_many(row);
        let array = &arrays[array];
        match array.data_type() {
            ArrowType::Utf8 => array.as_string::<i32>().value(at).as_bytes(),
            _ => array.as_binary::<i32>().value(at),
        }
    }
}

/// What was taken out of lines.
enum Taken {
    Words(Vec<u64>),
    /// Where each text ends, behind a zero, and their bytes.
    Texts(Vec<i32>, Vec<u8>),
}

impl Part {
    /// Puts the values of the next rows into lines.
    ///
    /// # Errors
    /// A feature's values are not of its type.
    pub(super) fn put(&mut self, rows: usize, values: Vec<ArrayRef>) -> Result<Put> {
        let wrong = || Error::internal("values are not what was asked for");
        let from = self.lines.len();
        self.lines.resize(from + rows * self.stride, 0);
        let lines = &mut self.lines[from..];
        let mut word = 0;
        let mut rest = Vec::with_capacity(values.len());
        for (array, wanted) in values.into_iter().zip(&self.types) {
            let form = Form::of(wanted);
            if form != Form::Array && (array.data_type() != wanted || array.len() != rows) {
                return Err(wrong());
            }
            let nulls = array.nulls().cloned();
            rest.push(match form {
                Form::Array => Rest::Array(array),
                Form::Word => {
                    let data = array.to_data();
                    let values = data.buffers().first().ok_or_else(wrong)?.typed_data::<u64>();
                    let values = values.get(data.offset()..data.offset() + rows).ok_or_else(wrong)?;
                    for (row, value) in lines.chunks_exact_mut(self.stride).zip(values) {
                        row[word] = *value;
                    }
                    Rest::Words(nulls)
                }
                Form::Text => {
                    let mut longest = 0;
                    let mut put = |at: usize, value: &[u8]| {
                        lines[at * self.stride + word..][..2].copy_from_slice(&text(value));
                        longest = value.len().max(longest);
                    };
                    if let Some(texts) = array.as_string_opt::<i32>() {
                        let texts = texts.iter().enumerate();
                        texts.for_each(|(at, value)| put(at, value.unwrap_or_default().as_bytes()));
                    } else {
                        let values = array.as_binary::<i32>().iter().enumerate();
                        values.for_each(|(at, value)| put(at, value.unwrap_or_default()));
                    }
                    Rest::Texts(nulls, (longest > SHORT).then_some(array), longest)
                }
            });
            word += form.words();
        }
        Ok(Put { rows, rest })
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };

    use super::*;

    const TYPES: [DataType; 6] = [
        DataType::Int64,
        DataType::String,
        DataType::Float64,
        DataType::Timestamp,
        DataType::Int32,
        DataType::Bytes,
    ];

    /// Features of the rows so numbered, from row `from` on with nulls; the greatest number has a long text.
    fn features(rows: Range<usize>, from: i64) -> Vec<ArrayRef> {
        let rows = || rows.clone().map(|row| row as i64);
        let some = |row: &i64, each: i64| *row < from || row % each > 0;
        // Of every length about the greatest of a short one, and one that is long.
        let text = |row: i64| "abcdefghijklmn0"[..row as usize % 15].repeat(if row == 99 { 40 } else { 1 });
        vec![
            Arc::new(rows().collect::<Int64Array>()),
            Arc::new(rows().map(|row| some(&row, 3).then(|| text(row))).collect::<StringArray>()),
            Arc::new(rows().map(|row| some(&row, 5).then_some(row as f64 / 2.0)).collect::<Float64Array>()),
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(rows().map(|row| row * 7)).with_timezone("UTC"),
            ),
            Arc::new(rows().map(|row| row as i32).collect::<Int32Array>()),
            Arc::new(rows().map(|row| some(&row, 2).then(|| row.to_le_bytes())).collect::<BinaryArray>()),
        ]
    }

    /// Values of a hundred rows, added in runs of these lengths, with nulls from row `from` on.
    fn values(portions: &[&[usize]], from: i64) -> Values {
        let mut values = Values::new(&TYPES);
        let mut next = 0;
        for lengths in portions {
            let mut runs = Vec::new();
            for length in *lengths {
                runs.push(next..next + length);
                next += length;
            }
            for run in runs {
                // In two batches.
                let middle = run.start.midpoint(run.end);
                let mut part = values.part(run.len());
                let mut put = |rows: Range<usize>| part.put(rows.len(), features(rows, from)).unwrap();
                let put = vec![put(run.start..middle), put(middle..run.end)];
                values.add(part, put);
            }
            assert_eq!(values.len(), next);
        }
        assert_eq!(next, 100);
        values
    }

    #[test]
    fn rows_are_taken_in_any_order() {
        let wanted: Vec<u32> =
            (0..2_000).map(|at| if at % 11 == 0 { NONE } else { (at * 37) % 100 }).collect();
        let portions: [&[&[usize]]; 3] = [&[&[100]], &[&[1, 30, 9], &[0], &[60]], &[&[40, 60]]];
        for portions in portions {
            for from in [0, 40, 100] {
                for joined in [false, true] {
                    let mut values = values(portions, from);
                    if joined {
                        values.join(2).unwrap();
                    }
                    // The rows as they were, with a null at their end.
                    let rows = features(0..100, from);
                    let taken = values.take(&wanted).unwrap();
                    for (feature, found) in taken.iter().enumerate() {
                        let nothing = new_null_array(found.data_type(), 1);
                        let all = concat(&[&rows[feature], &nothing]).unwrap();
                        let numbers: UInt32Array = wanted.iter().map(|row| (*row).min(100)).collect();
                        let expected = take(&all, &numbers, None).unwrap();
                        assert_eq!(found, &expected, "{portions:?} from {from}, feature {feature}");
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
        assert_eq!(values.nulls(&[NONE, NONE]), [0; 6]);
    }

    #[test]
    fn long_text_is_seen() {
        let mut values = values(&[&[100]], 100);
        values.join(1).unwrap();
        // 9 letters 40 times and 8 bytes; and 1, 2 and 3 letters with 8 bytes each.
        assert!(values.are_longer(&[99, NONE], 367) && !values.are_longer(&[99, NONE], 368));
        assert!(values.are_longer(&[1, 2, 3], 29) && !values.are_longer(&[1, 2, 3], 30));
    }

    #[test]
    fn wrong_values_are_refused() {
        let mut part = Values::new(&TYPES).part(10);
        let mut wrong = features(0..10, 10);
        wrong[0] = Arc::clone(&wrong[2]);
        assert!(part.put(10, wrong).is_err());
        assert!(part.put(11, features(0..10, 10)).is_err());
    }

    /// Lines are found whatever parts they are in, the smallest too.
    #[test]
    fn a_line_is_found_in_its_part() {
        let mut lines = Lines { stride: 1, parts: Vec::new(), starts: vec![0], part_of: Vec::new() };
        let mut next = 0;
        for length in [1, 0, 4_095, 1, 1, 0, 1, 9_000, 4_096, 2] {
            lines.add((next..next + length).collect(), length as usize);
            next += length;
        }
        assert!((0..next).all(|row| lines.line(row as u32) == [row]));
        assert!(lines.line(NONE).is_empty());
    }
}
