//! Idempotency: the first answer to each key of a source, kept for seven days by `v`.

use std::collections::HashSet;

use asof_compute::Position;
use asof_model::Timestamp;

use super::Writing;
use super::store::{Accepted, Direction, IdempotencyKey, SourceNumber, TableNumber};
use super::tree::{Error, View};
use crate::Result;

/// Source and key -> the first answer.
const ANSWERS: TableNumber = TableNumber::own(3);
/// `v`, source and key, so that those past their time are found.
const BY_TIME: TableNumber = TableNumber::own(4);

/// The version byte of a kept answer, `docs/formats/live-store.md`.
pub(super) const ANSWER_FORMAT: u8 = 1;

/// The greatest length of a key.
pub(super) const GREATEST: usize = 255;
const ANSWER: &str = "a kept answer";
/// How long an answer is kept, in microseconds.
pub(super) const KEPT: i64 = 7 * 86_400_000_000;
/// Answers that one step of sweeping removes.
pub(super) const STEP: usize = 500;

/// What was answered first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    content: [u8; 32],
    v: Timestamp,
    first: Position,
    count: u32,
    already_there: Vec<u32>,
}

impl Answer {
    pub(super) fn new(key: &IdempotencyKey<'_>, accepted: &Accepted) -> Answer {
        Answer {
            content: key.content,
            v: accepted.visible_at,
            first: accepted.first,
            count: accepted.count,
            already_there: accepted.already_there.clone(),
        }
    }

    pub(super) fn is_of(&self, key: &IdempotencyKey<'_>) -> bool {
        self.content == key.content
    }

    pub(super) fn visible_at(&self) -> Timestamp {
        self.v
    }

    pub(super) fn repeated(self, durable: bool) -> Accepted {
        let Answer { v, first, count, already_there, .. } = self;
        Accepted { visible_at: v, first, count, already_there, repeated: true, durable }
    }

    /// ```text
    /// answer = format (1) content (32) v (8) s (8) count (4) already-there (4 each)
    /// ```
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![ANSWER_FORMAT];
        bytes.extend_from_slice(&self.content);
        bytes.extend_from_slice(&self.v.0.to_le_bytes());
        bytes.extend_from_slice(&self.first.0.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        for row in &self.already_there {
            bytes.extend_from_slice(&row.to_le_bytes());
        }
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Answer> {
        let (&ANSWER_FORMAT, rest) = bytes.split_first()? else { return None };
        let (content, rest) = rest.split_first_chunk::<32>()?;
        let (v, rest) = rest.split_first_chunk::<8>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (rows, rest) = rest.as_chunks::<4>();
        rest.is_empty().then(|| Answer {
            content: *content,
            v: Timestamp(i64::from_le_bytes(*v)),
            first: Position(i64::from_le_bytes(*first)),
            count: u32::from_le_bytes(*count),
            already_there: rows.iter().map(|row| u32::from_le_bytes(*row)).collect(),
        })
    }

    /// Writes it beside what it answers.
    pub(super) fn write(&self, key: &[u8], writing: &mut Writing) -> Result<()> {
        writing.put(ANSWERS, key, &self.bytes())?;
        writing.put(BY_TIME, &[&by_time(self.v), key].concat(), b"")
    }
}

/// What the key was answered, of batches that are published.
pub(super) fn find(view: &View, key: &[u8]) -> Result<Option<Answer>, Error> {
    let Some(value) = view.seek(ANSWERS, key)? else { return Ok(None) };
    Answer::read(&value).map(Some).ok_or(Error::Damaged(ANSWER))
}

/// The key within the tables.
pub(super) fn key_of(source: SourceNumber, key: &str) -> Vec<u8> {
    [&source.0.to_be_bytes(), key.as_bytes()].concat()
}

fn by_time(v: Timestamp) -> [u8; 8] {
    (v.0.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Whether an answer of this `v` is past its time.
pub(super) fn is_over(v: Timestamp, now: Timestamp) -> bool {
    v.0.saturating_add(KEPT) <= now.0
}

/// Removes the oldest answers that are past their time, a step of them; how many.
///
/// A key that was used again since has an answer of its own, which stays, also where that is on its way
/// (`pending`).
pub(super) fn sweep(
    pending: &HashSet<Vec<u8>>,
    view: &View,
    now: Timestamp,
    writing: &mut Writing,
) -> Result<usize, Error> {
    let mut found = Vec::new();
    view.scan(BY_TIME, &[], None, Direction::Forward, &mut |key, _| {
        let (time, _) = key.split_first_chunk::<8>().ok_or(Error::Damaged(ANSWER))?;
        let v = Timestamp((u64::from_be_bytes(*time) ^ (1 << 63)).cast_signed());
        if !is_over(v, now) || found.len() >= STEP {
            return Ok(false);
        }
        found.push((v, key.to_vec()));
        Ok(true)
    })?;
    for (v, place) in &found {
        let key = place.get(8..).unwrap_or_default();
        let answer = view.seek(ANSWERS, key)?;
        let same = answer.as_deref().and_then(Answer::read).is_some_and(|answer| answer.v == *v);
        if same && !pending.contains(key) {
            writing.remove(ANSWERS, key)?;
        }
        writing.remove(BY_TIME, place)?;
    }
    Ok(found.len())
}
