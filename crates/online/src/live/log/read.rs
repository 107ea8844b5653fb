//! Reading the log from a position on.

use std::fs::File;
use std::io::{BufReader, Read};

use asof_compute::Position;

use super::{HEADER, Segment};
use crate::live::record::{FRAME, GREATEST, Record};

/// Records of some files, up to a number.
pub(in crate::live) struct Reading {
    pub(in crate::live) segments: Vec<Segment>,
    /// The last record.
    pub(in crate::live) end: u64,
}

/// Why it ended before its end.
#[derive(Debug)]
pub(in crate::live) enum Broken<E> {
    Io(std::io::Error),
    /// The record of this number is not what was written.
    Damaged(u64),
    /// What `each` gave.
    Caller(E),
}

impl<E> From<std::io::Error> for Broken<E> {
    fn from(error: std::io::Error) -> Broken<E> {
        Broken::Io(error)
    }
}

impl Reading {
    /// Hands out every record of the files that may hold a position past `after`, with its bytes, until
    /// `each` says false.
    pub(in crate::live) fn records<E>(
        &self,
        after: Position,
        each: &mut dyn FnMut(Record<'_>, &[u8]) -> Result<bool, E>,
    ) -> Result<(), Broken<E>> {
        let begin = self.segments.iter().rposition(|segment| segment.before.s <= after).unwrap_or(0);
        let mut bytes = Vec::new();
        for (at, segment) in self.segments.iter().enumerate().skip(begin) {
            let next = self.segments.get(at + 1).map_or(u64::MAX, |next| next.before.number);
            let last = (next - 1).min(self.end);
            let mut file = BufReader::with_capacity(1 << 18, File::open(&segment.path)?);
            file.seek_relative(HEADER as i64)?;
            for number in segment.before.number..=last {
                read_one(&mut file, &mut bytes)?;
                let (record, _) = Record::read(&bytes).ok_or(Broken::Damaged(number))?;
                if record.number != number {
                    return Err(Broken::Damaged(number));
                }
                if !each(record, &bytes).map_err(Broken::Caller)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The bytes that the next record should have, fewer where they are not there.
fn read_one(file: &mut impl Read, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    bytes.clear();
    file.by_ref().take(4).read_to_end(bytes)?;
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(()) };
    let length = u32::from_le_bytes(*length) as usize;
    if length <= GREATEST {
        file.by_ref().take((FRAME - 4 + length) as u64).read_to_end(bytes)?;
    }
    Ok(())
}
