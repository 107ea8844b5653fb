//! Answers of one reading, and what they come to.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Scalar, TimestampMicrosecondArray, UInt8Array};
use arrow::compute::kernels::zip::zip;
use arrow::error::ArrowError;
use asof_compute::{NONE, Status};
use asof_model::DataType;
use serde::{Deserialize, Serialize};

use super::values::Values;

/// About how many rows' values are read and evaluated at once, and how many answers are given at once.
pub(super) const CHUNK: usize = 65_536;

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
    /// Per spine row, [`Status::code`].
    pub(super) status: Vec<u8>,
    /// Per spine row what the other question comes to.
    otherwise: Vec<u8>,
    compared: bool,
    /// Nothing is filled yet: what stands there means nothing.
    fresh: bool,
    /// Per spine row the event time of the row that answers or has expired; `i64::MIN` is none.
    pub(super) event_time: Vec<i64>,
    /// Per spine row the number of the row that answers.
    pub(super) winner: Vec<u32>,
    /// The features of the rows that answer.
    pub(super) values: Values,
    /// Per feature of a reading of latest values what stands where no row answers: one value, or none.
    defaults: Vec<Option<ArrayRef>>,
    /// Rows read that pass `where` and have a null key.
    pub(super) null_keys: u64,
    /// Rows read that pass `where` and are never known.
    pub(super) never_known: u64,
}

impl ReadingAnswers {
    pub(super) fn new(
        rows: usize,
        types: &[DataType],
        defaults: Vec<Option<ArrayRef>>,
        compared: bool,
    ) -> ReadingAnswers {
        ReadingAnswers {
            values: Values::new(types),
            defaults,
            // Zeros are memory that is first touched by the threads that fill it.
            status: vec![0; rows],
            otherwise: vec![0; if compared { rows } else { 0 }],
            compared,
            fresh: true,
            event_time: vec![0; rows],
            winner: vec![0; rows],
            null_keys: 0,
            never_known: 0,
        }
    }

    /// The answers cut into runs of about so many spine rows, to be filled at once. The first time every row is to
    /// be filled, whatever portion it is in.
    pub(super) fn parts(&mut self, rows: usize) -> Vec<AnswerPart<'_>> {
        let rows = rows.max(1);
        let fresh = std::mem::replace(&mut self.fresh, false);
        let mut otherwise = self.otherwise.chunks_mut(rows);
        let columns = self.status.chunks_mut(rows).zip(self.event_time.chunks_mut(rows));
        let columns = columns.zip(self.winner.chunks_mut(rows)).enumerate();
        columns
            .map(|(number, ((status, event_time), winner))| AnswerPart {
                first: number * rows,
                fresh,
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
        // Whether a label is mature is asked of its times, not here.
        let [present, not_found, expired, no_key, _] = by_status;
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
            null: self.values.nulls(&self.winner),
        }
    }

    /// Whether the text of some spine rows is more than is given at once. Of one row it never is.
    pub(super) fn is_wide(&self, rows: Range<usize>) -> bool {
        rows.len() > 1 && self.values.are_longer(&self.winner[rows], WIDE)
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
        let values = self.values.take(&self.winner[rows.clone()])?;
        if self.defaults.iter().all(Option::is_none) {
            columns.extend(values);
            return Ok(columns);
        }
        let unanswered = |status: &u8| {
            let found = Status::from_code(*status);
            Some(matches!(found, Some(Status::NotFound | Status::Expired)))
        };
        let unanswered: BooleanArray = self.status[rows].iter().map(unanswered).collect();
        for (value, default) in values.into_iter().zip(&self.defaults) {
            columns.push(match default {
                Some(default) => zip(&unanswered, &Scalar::new(default), &value)?,
                None => value,
            });
        }
        Ok(columns)
    }
}

/// Answers to some spine rows that follow each other, being filled.
#[derive(Debug)]
pub(super) struct AnswerPart<'a> {
    /// The number of its first spine row.
    pub(super) first: usize,
    /// Whether its rows were never filled.
    fresh: bool,
    status: &'a mut [u8],
    event_time: &'a mut [i64],
    winner: &'a mut [u32],
    otherwise: &'a mut [u8],
}

impl AnswerPart<'_> {
    /// How many rows it has.
    pub(super) fn rows(&self) -> usize {
        self.status.len()
    }

    /// Answers its so manieth row, whose key is null.
    #[inline]
    pub(super) fn put_no_key(&mut self, at: usize) {
        self.put(at, &SlotAnswer { status: Status::NoKey.code(), ..SlotAnswer::NOTHING });
    }

    /// Leaves its so manieth row to another portion.
    #[inline]
    pub(super) fn leave(&mut self, at: usize) {
        if self.fresh {
            self.put(at, &SlotAnswer::NOTHING);
        }
    }

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
    /// The row that answers: its slot, and when it has been read its number.
    pub(super) winner: u32,
    pub(super) status: u8,
    pub(super) otherwise: u8,
}

impl SlotAnswer {
    /// No row.
    pub(super) const NOTHING: SlotAnswer =
        SlotAnswer { event_time: i64::MIN, winner: NONE, status: Status::NotFound.code(), otherwise: 0 };

    /// Names the row that answers by its number, where slots have these.
    #[inline]
    pub(super) fn number(&mut self, numbers: &[u32]) {
        if self.winner != NONE {
            self.winner = numbers[self.winner as usize];
        }
    }

    /// Notes what the other question comes to.
    pub(super) fn compare(&mut self, differs: bool, present: bool) {
        self.otherwise = (u8::from(differs) * DIFFERS) | (u8::from(present) * PRESENT_OTHERWISE);
    }
}
