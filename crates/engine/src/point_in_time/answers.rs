//! Answers of one reading, and what they come to.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, TimestampMicrosecondArray, UInt8Array, new_null_array};
use arrow::compute::interleave;
use asof_compute::{NONE, Status, arrow_type};
use asof_model::DataType;
use serde::{Deserialize, Serialize};

use crate::Result;

/// About how many rows' values are read and evaluated at once, and how many answers are given at once.
pub(super) const CHUNK: usize = 65_536;

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
    /// The features of winning rows, chunk by chunk.
    chunks: Vec<Vec<ArrayRef>>,
    /// The number of the first row of each chunk, and of all rows.
    starts: Vec<u32>,
    /// Rows read that pass `where` and have a null key.
    pub(super) null_keys: u64,
    /// Rows read that pass `where` and are never known.
    pub(super) never_known: u64,
}

impl ReadingAnswers {
    pub(super) fn new(rows: usize, types: Vec<DataType>, compared: bool) -> ReadingAnswers {
        ReadingAnswers {
            types,
            status: vec![Status::NotFound.code(); rows],
            otherwise: vec![0; if compared { rows } else { 0 }],
            compared,
            event_time: vec![i64::MIN; rows],
            winner: vec![NONE; rows],
            chunks: Vec::new(),
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
        self.chunks.push(features);
        self.starts.push((self.winners() + rows) as u32);
    }

    /// Where a winning row is: its chunk, and its place there.
    #[inline]
    fn place(&self, winner: u32) -> (usize, usize) {
        let chunk = self.starts.partition_point(|start| *start <= winner) - 1;
        (chunk, (winner - self.starts[chunk]) as usize)
    }

    /// Notes what the other question comes to.
    pub(super) fn compare(&mut self, row: usize, differs: bool, present: bool) {
        self.otherwise[row] = (u8::from(differs) * DIFFERS) | (u8::from(present) * PRESENT_OTHERWISE);
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
        if self.chunks.iter().all(|chunk| chunk[feature].null_count() == 0) {
            return 0;
        }
        let winners = self.winner.iter().filter(|winner| **winner != NONE).map(|winner| self.place(*winner));
        winners.filter(|(chunk, at)| self.chunks[*chunk][feature].is_null(*at)).count() as u64
    }

    /// The columns of some spine rows, as in [`super::Spec::answer_schema`].
    pub(super) fn columns(&self, rows: Range<usize>) -> Result<Vec<ArrayRef>> {
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
        // The first array is a null, for spine rows without an answer.
        let places: Vec<(usize, usize)> = self.winner[rows]
            .iter()
            .map(|winner| match *winner {
                NONE => (0, 0),
                winner => {
                    let (chunk, at) = self.place(winner);
                    (1 + chunk, at)
                }
            })
            .collect();
        for (feature, data_type) in self.types.iter().enumerate() {
            let nothing = new_null_array(&arrow_type(data_type), 1);
            let mut arrays: Vec<&dyn Array> = vec![&nothing];
            arrays.extend(self.chunks.iter().map(|chunk| chunk[feature].as_ref()));
            columns.push(interleave(&arrays, &places)?);
        }
        Ok(columns)
    }
}
