//! The bytes of a record of the log; `docs/formats/live-store.md`.
//!
//! ```text
//! record = length (4) checksum (8) number (8) durable (8) kind (1) v (8) s (8) count (4) source (4)
//!          rows-length (4) rows entries
//! entry  = table (4) key-length (2) value-length + 1, or 0 where the key is removed (4) key value
//! ```
//!
//! Little-endian; `length` counts what follows the checksum, which covers it. The highest bit of
//! value-length is set where the value is put only if the key has none.

use std::collections::BTreeMap;

use asof_compute::Position;
use asof_model::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::live::store::{LogEntry, SourceNumber, TableNumber};
use crate::{Error, Result};

/// Length and checksum.
pub(super) const FRAME: usize = 12;
/// What stands before the rows of every record.
const HEAD: usize = FRAME + 8 + 8 + 1 + 8 + 8 + 4 + 4 + 4;
/// What stands before the key of every entry.
const ENTRY_HEAD: usize = 4 + 2 + 4;
/// The greatest record: what one batch may hold.
pub(super) const GREATEST: usize = 1 << 30;

/// The longest key of a table, in bytes. The tree behind the log takes 65,535, the table's number among them.
pub const LONGEST_KEY: usize = 65_499;

/// Of value-length: only where the key has no value.
const IF_ABSENT: u32 = 1 << 31;

const INTAKE: u8 = 1;
const ENTRIES: u8 = 2;

/// What a record is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum RecordOf {
    /// Pushed rows: their source, `v`, the first `s`, how many.
    Intake(SourceNumber, Timestamp, Position, u32),
    /// Entries alone, with the `s` that tells when they came.
    Entries(Position),
}

/// What a batch stores: its rows for the intake log, and entries of tables.
#[derive(Debug, Default)]
pub struct Writing {
    rows: Vec<u8>,
    entries: Vec<u8>,
    counts: BTreeMap<(TableNumber, Vec<u8>), u64>,
}

impl Writing {
    /// The rows as the intake log keeps them, to be appended to: those that are stored, in their order.
    pub fn rows(&mut self) -> &mut Vec<u8> {
        &mut self.rows
    }

    /// Puts a value, in the place of the one there.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a key longer than [`LONGEST_KEY`] or a value of 1 GiB or more.
    pub fn put(&mut self, table: TableNumber, key: &[u8], value: &[u8]) -> Result<()> {
        self.value(table, key, value, 0)
    }

    /// Puts a value where the key has none when it is this batch's turn, after all batches before it; else
    /// the one there stays. So a table may be filled with what is known from elsewhere while batches that
    /// know better write into it.
    ///
    /// # Errors
    /// As [`Writing::put`].
    pub fn put_if_absent(&mut self, table: TableNumber, key: &[u8], value: &[u8]) -> Result<()> {
        self.value(table, key, value, IF_ABSENT)
    }

    /// Adds to the number under a key, little-endian and 0 where there is none, as it stands when it is this batch's turn.
    /// What a batch that is refused counted is not in it.
    pub fn count(&mut self, table: TableNumber, key: &[u8], more: u64) {
        if more > 0 {
            *self.counts.entry((table, key.to_vec())).or_default() += more;
        }
    }

    /// What was to be counted.
    pub(super) fn take_counts(&mut self) -> BTreeMap<(TableNumber, Vec<u8>), u64> {
        std::mem::take(&mut self.counts)
    }

    fn value(&mut self, table: TableNumber, key: &[u8], value: &[u8], flag: u32) -> Result<()> {
        if value.len() >= GREATEST {
            return Err(Error::TooLong { what: "the value of a live entry", limit: GREATEST });
        }
        self.entry(table, key, (value.len() as u32 + 1) | flag)?;
        self.entries.extend_from_slice(value);
        Ok(())
    }

    /// Removes a key; one that is not there is no error.
    ///
    /// # Errors
    /// As [`Writing::put`].
    pub fn remove(&mut self, table: TableNumber, key: &[u8]) -> Result<()> {
        self.entry(table, key, 0)
    }

    fn entry(&mut self, table: TableNumber, key: &[u8], value: u32) -> Result<()> {
        if key.len() > LONGEST_KEY {
            return Err(Error::TooLong { what: "the key of a live entry", limit: LONGEST_KEY });
        }
        self.entries.extend_from_slice(&table.number().to_le_bytes());
        self.entries.extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.entries.extend_from_slice(&value.to_le_bytes());
        self.entries.extend_from_slice(key);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.entries.is_empty()
    }

    /// The record, but for what is known only when it is appended: [`seal`].
    pub(super) fn record(self, of: RecordOf) -> Result<Vec<u8>> {
        let (kind, (source, v, s, count)) = match of {
            RecordOf::Intake(source, v, first, count) => (INTAKE, (source, v, first, count)),
            RecordOf::Entries(s) => (ENTRIES, (SourceNumber(0), Timestamp(0), s, 0)),
        };
        let length = HEAD + self.rows.len() + self.entries.len();
        if length > GREATEST {
            return Err(Error::TooLong { what: "a batch", limit: GREATEST });
        }
        let mut record = Vec::with_capacity(length);
        record.extend_from_slice(&((length - FRAME) as u32).to_le_bytes());
        record.extend_from_slice(&[0; 24]);
        record.push(kind);
        record.extend_from_slice(&v.0.to_le_bytes());
        record.extend_from_slice(&s.0.to_le_bytes());
        record.extend_from_slice(&count.to_le_bytes());
        record.extend_from_slice(&source.0.to_le_bytes());
        record.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        record.extend_from_slice(&self.rows);
        record.extend_from_slice(&self.entries);
        Ok(record)
    }
}

/// Writes the record's number, that of the last record known to be durable, and the checksum.
pub(super) fn seal(record: &mut [u8], number: u64, durable: u64) {
    if let Some(numbers) = record.get_mut(FRAME..FRAME + 16) {
        numbers[..8].copy_from_slice(&number.to_le_bytes());
        numbers[8..].copy_from_slice(&durable.to_le_bytes());
    }
    let checksum = xxh3_64(record.get(FRAME..).unwrap_or_default());
    if let Some(place) = record.get_mut(4..FRAME) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// A record as read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) number: u64,
    intake: bool,
    v: Timestamp,
    first: Position,
    count: u32,
    source: SourceNumber,
    rows: &'a [u8],
    entries: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record at the beginning of these bytes and its length; none where there is no whole one.
    pub(super) fn read(bytes: &'a [u8]) -> Option<(Record<'a>, usize)> {
        let length = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
        if !(HEAD - FRAME..=GREATEST).contains(&length) {
            return None;
        }
        let record = bytes.get(..FRAME + length)?;
        let (frame, content) = record.split_at_checked(FRAME)?;
        if frame.get(4..)? != xxh3_64(content).to_le_bytes() {
            return None;
        }
        Some((Record::parse(record)?, record.len()))
    }

    /// The record that may begin at these bytes by all that can be told of one without its checksum, and its length:
    /// every length within it leads to its end.
    pub(super) fn looks_whole(bytes: &'a [u8]) -> Option<(Record<'a>, usize)> {
        let length = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
        if !(HEAD - FRAME..=GREATEST).contains(&length) {
            return None;
        }
        let record = Record::parse(bytes.get(..FRAME + length)?)?;
        let nothing = (record.v, record.count, record.source) == (Timestamp(0), 0, SourceNumber(0));
        if !(record.intake || nothing) {
            return None;
        }
        let mut entries = record.entries();
        while entries.next().is_some() {}
        entries.rest.is_empty().then_some((record, FRAME + length))
    }

    /// Whether it may have been appended after one of this `s` and `v`: both rise.
    pub(super) fn may_follow(&self, s: Position, v: Timestamp) -> bool {
        match self.intake {
            true => self.first >= s && self.v >= v,
            false => self.first == Position(0) || self.first >= s,
        }
    }

    /// The parts of a record known to be whole.
    pub(super) fn parse(record: &'a [u8]) -> Option<Record<'a>> {
        let eight = |at: usize| -> Option<[u8; 8]> { record.get(at..at + 8)?.try_into().ok() };
        let four =
            |at: usize| -> Option<u32> { Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?)) };
        let (rows, entries) = record.get(HEAD..)?.split_at_checked(four(HEAD - 4)? as usize)?;
        let intake = match *record.get(FRAME + 16)? {
            INTAKE => true,
            ENTRIES => false,
            _ => return None,
        };
        Some(Record {
            number: u64::from_le_bytes(eight(FRAME)?),
            intake,
            v: Timestamp(i64::from_le_bytes(eight(FRAME + 17)?)),
            first: Position(i64::from_le_bytes(eight(FRAME + 25)?)),
            count: four(FRAME + 33)?,
            source: SourceNumber(four(FRAME + 37)?),
            rows,
            entries,
        })
    }

    /// Of a pushed batch what the intake log says of it.
    pub(super) fn intake(&self) -> Option<LogEntry<'a>> {
        let Record { source, v, first, count, rows, .. } = *self;
        self.intake.then_some(LogEntry { source, visible_at: v, first, count, rows })
    }

    /// The greatest `s` of the batch, where it has one.
    pub(super) fn last(&self) -> Option<Position> {
        match self.intake {
            true => (self.count > 0).then(|| Position(self.first.0 + i64::from(self.count) - 1)),
            false => (self.first > Position(0)).then_some(self.first),
        }
    }

    pub(super) fn entries(&self) -> Entries<'a> {
        Entries { rest: self.entries }
    }
}

/// What a record puts and removes.
pub(super) struct Entries<'a> {
    rest: &'a [u8],
}

/// One key, and what becomes of it.
pub(super) type Entry<'a> = (TableNumber, &'a [u8], Change<'a>);

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'a> {
    Put(&'a [u8]),
    PutIfAbsent(&'a [u8]),
    Remove,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (head, rest) = self.rest.split_at_checked(ENTRY_HEAD)?;
        let table = u32::from_le_bytes(*head.first_chunk::<4>()?);
        let key = u16::from_le_bytes([*head.get(4)?, *head.get(5)?]);
        let value = u32::from_le_bytes(head.get(6..)?.try_into().ok()?);
        let (key, rest) = rest.split_at_checked(usize::from(key))?;
        let (change, rest) = match (value & !IF_ABSENT).checked_sub(1) {
            Some(length) => {
                let (bytes, rest) = rest.split_at_checked(length as usize)?;
                (if value & IF_ABSENT == 0 { Change::Put(bytes) } else { Change::PutIfAbsent(bytes) }, rest)
            }
            None => (Change::Remove, rest),
        };
        self.rest = rest;
        Some((TableNumber::stored(table), key, change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn record() -> Vec<u8> {
        let mut writing = Writing::default();
        writing.rows().extend_from_slice(b"two rows");
        writing.put(TableNumber::new(7).unwrap(), b"key", b"value").unwrap();
        writing.put(TableNumber::new(7).unwrap(), b"empty", b"").unwrap();
        writing.put_if_absent(TableNumber::new(7).unwrap(), b"new", b"v").unwrap();
        writing.remove(TableNumber::new(8).unwrap(), b"gone").unwrap();
        let given = RecordOf::Intake(SourceNumber(3), Timestamp(1_370_044_800_000_000), Position(41), 2);
        let mut record = writing.record(given).unwrap();
        seal(&mut record, 9, 8);
        record
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let bytes = record();
        let (read, length) =
            Record::read(&[&bytes[..], b"more"].concat()).map(|(r, l)| (r.number, l)).unwrap();
        assert_eq!((read, length), (9, bytes.len()));
        let looked = Record::looks_whole(&[&bytes[..], b"more"].concat()).map(|(r, l)| (r.number, l));
        assert_eq!(looked, Some((9, bytes.len())), "without its checksum");
        let (read, _) = Record::read(&bytes).unwrap();
        assert_eq!(
            (&bytes[FRAME + 8..FRAME + 16], read.last()),
            (&8_u64.to_le_bytes()[..], Some(Position(42)))
        );
        let entry = read.intake().unwrap();
        assert_eq!(
            (entry.source, entry.first, entry.count, entry.rows),
            (SourceNumber(3), Position(41), 2, &b"two rows"[..])
        );
        let table = |number| TableNumber::new(number).unwrap();
        assert_eq!(
            read.entries().collect::<Vec<_>>(),
            [
                (table(7), &b"key"[..], Change::Put(b"value")),
                (table(7), b"empty", Change::Put(b"")),
                (table(7), b"new", Change::PutIfAbsent(b"v")),
                (table(8), b"gone", Change::Remove)
            ]
        );
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x10;
            assert!(Record::read(&broken).is_none(), "byte {at}");
            assert!(Record::read(&bytes[..at]).is_none(), "cut at {at}");
        }
    }
}
