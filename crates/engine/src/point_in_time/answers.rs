//! Answers of one reading, and what they come to.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray, UInt8Array, UInt32Array,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::DataType as ArrowType;
use arrow::error::ArrowError;
use asof_compute::{NONE, Status, arrow_type};
use asof_model::DataType;
use serde::{Deserialize, Serialize};

use crate::threads::in_parallel;
use crate::{Error, Result};

/// About how many rows' values are read and evaluated at once, and how many answers are given at once.
pub(super) const CHUNK: usize = 65_536;

/// Bytes of a feature's chunks below which they are joined: joining holds them twice, and an array of text
/// has room for 2 GiB.
const JOINED: usize = 1 << 30;

/// Bytes of text in answers that are given at once, about.
const WIDE: usize = 64 << 20;

/// The other question answers otherwise.
const DIFFERS: u8 = 1;
/// The other question finds a value.
const PRESENT_OTHERWISE: u8 = 2;

/// What the answers of one reading come to (SEMANTICS section 4).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingCounts {
    /// A row answers.
    pub present: u64,
    /// No row, or a delete.
    pub not_found: u64,
    /// A row past its ttl or `valid_until`.
    pub expired: u64,
    /// A null key in the spine.
    pub no_key: u64,
    /// Rows of the source that pass `where` and are never known: their `available_at` is null.
    pub never_known: u64,
    /// Rows of the source that pass `where` and belong to no entity: a key is null.
    pub null_keys: u64,
    /// Answers that the other question would give otherwise: present instead of null, null instead of
    /// present, or from another row. Counted by row: another row with equal values counts.
    pub differ: u64,
    /// How many answers would be present under the other question.
    pub present_otherwise: u64,
    /// Null values among the answers that are present, per feature.
    pub null: Vec<u64>,
}

/// The answers of one reading for the whole spine, filled portion by portion.
#[derive(Debug)]
pub(super) struct ReadingAnswers {
    /// Types of the features.
    types: Vec<DataType>,
    /// Per spine row, [`Status::code`].
    pub(super) status: Vec<u8>,
    /// Per spine row what the other question comes to.
    otherwise: Vec<u8>,
    compared: bool,
    /// Per spine row the event time of the row that answers or has expired; `i64::MIN` is none.
    pub(super) event_time: Vec<i64>,
    /// Per spine row the number of the row that answers, counted through the chunks.
    pub(super) winner: Vec<u32>,
    /// The values of winning rows, chunk by chunk, per feature.
    features: Vec<Vec<ArrayRef>>,
    /// Bytes of the longest values of all features of text together.
    longest: usize,
    /// The number of the first row of each chunk, and of all rows; of features that are not joined.
    starts: Vec<u32>,
    /// Rows read that pass `where` and have a null key.
    pub(super) null_keys: u64,
    /// Rows read that pass `where` and are never known.
    pub(super) never_known: u64,
}

impl ReadingAnswers {
    pub(super) fn new(rows: usize, types: Vec<DataType>, compared: bool) -> ReadingAnswers {
        ReadingAnswers {
            features: vec![Vec::new(); types.len()],
            types,
            status: vec![Status::NotFound.code(); rows],
            otherwise: vec![0; if compared { rows } else { 0 }],
            compared,
            event_time: vec![i64::MIN; rows],
            winner: vec![NONE; rows],
            longest: 0,
            starts: vec![0],
            null_keys: 0,
            never_known: 0,
        }
    }

    /// How many winning rows there are.
    pub(super) fn winners(&self) -> usize {
        self.starts.last().map_or(0, |rows| *rows as usize)
    }

    /// Adds the features of more winning rows, which are numbered on.
    pub(super) fn add(&mut self, rows: usize, features: Vec<ArrayRef>) {
        for (chunks, values) in self.features.iter_mut().zip(features) {
            chunks.push(values);
        }
        self.starts.push((self.winners() + rows) as u32);
    }

    /// Joins the chunks of features that are not too large for it: of one array, rows are taken faster.
    /// After the last was added.
    pub(super) fn join(&mut self, threads: usize) -> Result<()> {
        let of_feature = |chunks: &Vec<ArrayRef>| chunks.iter().filter_map(longest_text).max();
        self.longest = self.features.iter().filter_map(of_feature).sum();
        let small = |chunks: &&mut Vec<ArrayRef>| {
            chunks.len() > 1 && chunks.iter().map(|it| it.get_array_memory_size()).sum::<usize>() < JOINED
        };
        let features: Vec<&mut Vec<ArrayRef>> = self.features.iter_mut().filter(small).collect();
        in_parallel(features, threads, |chunks| {
            let arrays: Vec<&dyn Array> = chunks.iter().map(AsRef::as_ref).collect();
            let joined = concat(&arrays)?;
            *chunks = vec![joined];
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// Where a winning row's value of a feature is: its chunk, and its place there.
    #[inline]
    fn place(&self, chunks: &[ArrayRef], winner: u32) -> (usize, usize) {
        if let [_] = chunks {
            return (0, winner as usize);
        }
        let chunk = self.starts.partition_point(|start| *start <= winner) - 1;
        (chunk, (winner - self.starts[chunk]) as usize)
    }

    /// The answers cut into runs of about so many spine rows, to be filled at once.
    pub(super) fn parts(&mut self, rows: usize) -> Vec<AnswerPart<'_>> {
        let rows = rows.max(1);
        let mut otherwise = self.otherwise.chunks_mut(rows);
        let columns = self.status.chunks_mut(rows).zip(self.event_time.chunks_mut(rows));
        let columns = columns.zip(self.winner.chunks_mut(rows)).enumerate();
        columns
            .map(|(number, ((status, event_time), winner))| AnswerPart {
                first: number * rows,
                status,
                event_time,
                winner,
                otherwise: otherwise.next().unwrap_or_default(),
            })
            .collect()
    }

    pub(super) fn counts(&self) -> ReadingCounts {
        let mut by_status = [0_u64; Status::ALL.len()];
        for status in &self.status {
            by_status[usize::from(*status)] += 1;
        }
        let [present, not_found, expired, no_key] = by_status;
        let count = |flag: u8| self.otherwise.iter().filter(|found| **found & flag != 0).count() as u64;
        ReadingCounts {
            present,
            not_found,
            expired,
            no_key,
            never_known: self.never_known,
            null_keys: self.null_keys,
            differ: count(DIFFERS),
            present_otherwise: if self.compared { count(PRESENT_OTHERWISE) } else { present },
            null: (0..self.types.len()).map(|feature| self.nulls(feature)).collect(),
        }
    }

    fn nulls(&self, feature: usize) -> u64 {
        let chunks = self.features[feature].as_slice();
        if chunks.iter().all(|chunk| chunk.null_count() == 0) {
            return 0;
        }
        let winners = self.winner.iter().filter(|winner| **winner != NONE);
        let places = winners.map(|winner| self.place(chunks, *winner));
        places.filter(|(chunk, at)| chunks[*chunk].is_null(*at)).count() as u64
    }

    /// Whether the text of some spine rows is more than is given at once. Of one row it never is.
    pub(super) fn is_wide(&self, rows: Range<usize>) -> bool {
        if self.longest.saturating_mul(rows.len()) <= WIDE || rows.len() < 2 {
            return false;
        }
        let length = |winner: &u32| {
            let of = |chunks: &Vec<ArrayRef>| {
                let (chunk, at) = self.place(chunks, *winner);
                chunks.get(chunk).map_or(0, |values| text_length(values, at))
            };
            self.features.iter().map(of).sum::<usize>()
        };
        let winners = self.winner[rows].iter().filter(|winner| **winner != NONE);
        winners.map(length).sum::<usize>() > WIDE
    }

    /// The columns of some spine rows, as in [`super::Spec::answer_schema`].
    ///
    /// # Errors
    /// [`ArrowError::OffsetOverflowError`] where so many rows of a value that is no text, a list say, do
    /// not fit into one array.
    pub(super) fn columns(&self, rows: Range<usize>) -> std::result::Result<Vec<ArrayRef>, ArrowError> {
        let differs: BooleanArray = match self.compared {
            true => self.otherwise[rows.clone()].iter().map(|found| Some(found & DIFFERS != 0)).collect(),
            false => BooleanArray::from(vec![false; rows.len()]),
        };
        let times = self.event_time[rows.clone()].iter().map(|time| (*time != i64::MIN).then_some(*time));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt8Array::from(self.status[rows.clone()].to_vec())),
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
            Arc::new(differs),
        ];
        let winners = &self.winner[rows];
        let found: NullBuffer = winners.iter().map(|winner| *winner != NONE).collect();
        let numbers = winners.iter().map(|winner| if *winner == NONE { 0 } else { *winner });
        let found = Some(found).filter(|found| found.null_count() > 0);
        let numbers = UInt32Array::new(numbers.collect(), found);
        for (chunks, data_type) in self.features.iter().zip(&self.types) {
            columns.push(match chunks.as_slice() {
                [] => new_null_array(&arrow_type(data_type), winners.len()),
                [values] if values.is_empty() => new_null_array(values.data_type(), winners.len()),
                [values] => take(values, &numbers, None)?,
                chunks => {
                    // The first array is a null, for spine rows without an answer.
                    let nothing = new_null_array(&arrow_type(data_type), 1);
                    let mut arrays: Vec<&dyn Array> = vec![&nothing];
                    arrays.extend(chunks.iter().map(AsRef::as_ref));
                    let place = |winner: &u32| match *winner {
                        NONE => (0, 0),
                        winner => {
                            let (chunk, at) = self.place(chunks, winner);
                            (1 + chunk, at)
                        }
                    };
                    interleave(&arrays, &winners.iter().map(place).collect::<Vec<_>>())?
                }
            });
        }
        Ok(columns)
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

/// Answers to some spine rows that follow each other, being filled.
#[derive(Debug)]
pub(super) struct AnswerPart<'a> {
    /// The number of its first spine row.
    pub(super) first: usize,
    pub(super) status: &'a mut [u8],
    pub(super) event_time: &'a mut [i64],
    pub(super) winner: &'a mut [u32],
    otherwise: &'a mut [u8],
}

impl AnswerPart<'_> {
    /// Answers its so manieth row as its slot is answered.
    #[inline]
    pub(super) fn put(&mut self, at: usize, slot: &SlotAnswer) {
        self.status[at] = slot.status;
        self.event_time[at] = slot.event_time;
        self.winner[at] = slot.winner;
        if let Some(otherwise) = self.otherwise.get_mut(at) {
            *otherwise = slot.otherwise;
        }
    }
}

/// What all spine rows of one slot are answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotAnswer {
    pub(super) event_time: i64,
    pub(super) winner: u32,
    pub(super) status: u8,
    otherwise: u8,
}

impl SlotAnswer {
    /// No row.
    pub(super) const NOTHING: SlotAnswer =
        SlotAnswer { event_time: i64::MIN, winner: NONE, status: Status::NotFound.code(), otherwise: 0 };

    /// Notes what the other question comes to.
    pub(super) fn compare(&mut self, differs: bool, present: bool) {
        self.otherwise = (u8::from(differs) * DIFFERS) | (u8::from(present) * PRESENT_OTHERWISE);
    }
}
