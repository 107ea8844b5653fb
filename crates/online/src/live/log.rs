//! The log: what was accepted, in order, in files that are only appended to. It is the journal that makes
//! every batch durable, and the intake log that is flushed to the offline table.
//!
//! What a failed fsync leaves is not known, also not after the file is read again: the system may show
//! bytes that are not on disk. So nothing is appended after one, and opening writes what it read of the
//! last file anew before anything is acknowledged on top of it.

mod read;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use asof_compute::Position;
use asof_model::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::record::{self, Record};

pub(super) use read::{Broken, Reading};

/// The version byte of a log file, `docs/formats/live-store.md`.
pub(super) const LOG_FORMAT: u8 = 1;
const MAGIC: &[u8; 7] = b"asoflog";
/// Magic, format, number of the first record, the last `s` and `v` before it, checksum.
const HEADER: usize = 7 + 1 + 8 + 8 + 8 + 8;

/// Makes what was written durable. A function, so that tests may hold it up or have it fail.
pub(super) type Fsync = Arc<dyn Fn(&File) -> std::io::Result<()> + Send + Sync>;

/// Why nothing was appended, by what is left behind.
#[derive(Debug)]
pub(super) enum Failure {
    /// No space: the log is as it was.
    Full,
    /// It is not known what is on disk.
    Broken(String),
}

/// Why a log cannot be opened.
#[derive(Debug)]
pub(super) enum Unusable {
    Io(std::io::Error),
    Newer(u8),
    Damaged(String),
}

impl From<std::io::Error> for Unusable {
    fn from(error: std::io::Error) -> Unusable {
        Unusable::Io(error)
    }
}

/// What the header of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    /// The number of its first record.
    pub(super) number: u64,
    /// The last `s` before it.
    pub(super) s: Position,
    /// The last `v` before it.
    pub(super) v: Timestamp,
}

/// One file of the log.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) before: Before,
    pub(super) path: PathBuf,
}

/// Where an open log goes on.
#[derive(Debug)]
pub(super) struct LogWriter {
    folder: PathBuf,
    file: File,
    /// Bytes of the file.
    length: u64,
    /// The last record, `s` and `v` appended.
    last: Before,
    /// The last record that an fsync covered.
    durable: u64,
    limit: u64,
    buffer: Vec<u8>,
}

/// Whether this says that there is no room.
pub(super) fn no_space(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

pub(super) fn header(before: Before) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(MAGIC);
    bytes.push(LOG_FORMAT);
    bytes.extend_from_slice(&before.number.to_le_bytes());
    bytes.extend_from_slice(&before.s.0.to_le_bytes());
    bytes.extend_from_slice(&before.v.0.to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    bytes
}

pub(super) fn read_header(bytes: &[u8]) -> Result<Option<Before>, Unusable> {
    let whole = || {
        let (content, rest) = bytes.split_at_checked(HEADER - 8)?;
        let same =
            content.starts_with(MAGIC) && xxh3_64(content).to_le_bytes() == *rest.first_chunk::<8>()?;
        same.then_some(content)
    };
    let Some(content) = whole() else { return Ok(None) };
    match content.get(7) {
        Some(&LOG_FORMAT) => {}
        found => return Err(Unusable::Newer(found.copied().unwrap_or_default())),
    }
    let number = |at: usize| -> Option<[u8; 8]> { content.get(at..at + 8)?.try_into().ok() };
    let read = || {
        Some(Before {
            number: u64::from_le_bytes(number(8)?),
            s: Position(i64::from_le_bytes(number(16)?)),
            v: Timestamp(i64::from_le_bytes(number(24)?)),
        })
    };
    Ok(read())
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.log"))
}

/// A file that was let go of, to be the next one: what is written over blocks that are there already is
/// durable without waiting for the file system's own journal, and so for all else that is written.
const SPARE: &str = "spare";

/// Makes a file that begins after this. Durable when it returns.
pub(super) fn begin(folder: &Path, before: Before, fsync: &Fsync) -> std::io::Result<(File, PathBuf)> {
    let path = path_of(folder, before.number);
    let spare = folder.join(SPARE);
    // Records of its earlier life have lower numbers than it begins with, so they are none of it.
    let (mut file, reused) = match OpenOptions::new().read(true).write(true).open(&spare) {
        // Of the same name is only what a begin that was cut off left, in which nothing can stand.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (File::create(&path)?, false),
        opened => (opened?, true),
    };
    file.write_all(&header(before))?;
    fsync(&file)?;
    // Not asked of the folder again: where there was none, another may have been let go of since, and would
    // take the place of the file just made.
    if reused {
        std::fs::rename(&spare, &path)?;
    }
    fsync(&File::open(folder)?)?;
    Ok((file, path))
}

/// Lets go of a file of the log: it is kept as the next one where there is none yet.
pub(super) fn let_go(path: &Path) -> std::io::Result<()> {
    let spare = path.with_file_name(SPARE);
    let gone = if spare.exists() { std::fs::remove_file(path) } else { std::fs::rename(path, spare) };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl LogWriter {
    /// Opens the log in this folder: `each` is handed every record past `applied`, in order. Everything
    /// that was handed out is durable when this returns.
    pub(super) fn open(
        folder: &Path,
        limit: u64,
        applied: u64,
        fsync: &Fsync,
        each: &mut dyn FnMut(Record<'_>) -> Result<(), Unusable>,
    ) -> Result<(LogWriter, Vec<Segment>), Unusable> {
        let mut segments = segments(folder)?;
        // A file without a whole header is one that was being begun: nothing was acknowledged in it.
        if let Some((path, None)) = segments.last() {
            std::fs::remove_file(path)?;
            segments.pop();
        }
        let mut files = Vec::with_capacity(segments.len());
        for (path, before) in segments {
            let Some(before) = before else {
                return Err(Unusable::Damaged(format!(
                    "the head of {} is not what was written",
                    named(&path)
                )));
            };
            files.push(Segment { before, path });
        }
        let Some(newest) = files.last() else {
            return Err(Unusable::Damaged("its log is gone".to_owned()));
        };
        let mut last = newest.before;
        let mut length = HEADER as u64;
        let begins = files.iter().rposition(|segment| segment.before.number <= applied + 1).unwrap_or(0);
        if files.first().is_some_and(|first| first.before.number > applied + 1) {
            return Err(Unusable::Damaged("a part of its log is gone".to_owned()));
        }
        for (at, segment) in files.iter().enumerate().skip(begins) {
            let newest = at + 1 == files.len();
            let bytes = std::fs::read(&segment.path)?;
            last = segment.before;
            let mut expected = segment.before.number;
            let mut offset = HEADER;
            while let Some((record, size)) =
                Record::read(bytes.get(offset..).unwrap_or_default()).filter(|(it, _)| it.number == expected)
            {
                if record.number > applied {
                    each(record)?;
                }
                last.s = record.last().unwrap_or(last.s);
                last.v = record.intake().map_or(last.v, |entry| entry.visible_at);
                expected += 1;
                offset += size;
            }
            let rest = bytes.get(offset..).unwrap_or_default();
            if (!newest && files.get(at + 1).is_some_and(|next| next.before.number != expected))
                || (newest && is_damage(rest, Before { number: expected, ..last }, &mut 0))
            {
                return Err(Unusable::Damaged(format!(
                    "record {expected} in {} is not what was written",
                    named(&segment.path)
                )));
            }
            last.number = expected - 1;
            if newest {
                length = offset as u64;
                rewrite(&segment.path, bytes.get(..offset).unwrap_or_default(), fsync)?;
            }
        }
        let path = files.last().map(|segment| segment.path.clone()).unwrap_or_default();
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        file.seek(SeekFrom::End(0))?;
        let durable = last.number;
        let folder = folder.to_owned();
        Ok((LogWriter { folder, file, length, last, durable, limit, buffer: Vec::new() }, files))
    }

    /// The last record, `s` and `v` appended.
    pub(super) fn last(&self) -> Before {
        self.last
    }

    /// The last record that an fsync covered.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Whether something was appended that no fsync covered.
    pub(super) fn is_ahead(&self) -> bool {
        self.durable < self.last.number
    }

    /// The file after this one, where it is time for it.
    pub(super) fn roll(&mut self, fsync: &Fsync) -> Result<Option<Segment>, Failure> {
        if self.length < self.limit {
            return Ok(None);
        }
        self.sync(fsync)?;
        let before = Before { number: self.last.number + 1, ..self.last };
        match begin(&self.folder, before, fsync) {
            Ok((file, path)) => {
                self.file = file;
                self.length = HEADER as u64;
                Ok(Some(Segment { before, path }))
            }
            Err(error) if no_space(&error) => {
                std::fs::remove_file(path_of(&self.folder, before.number)).ok();
                Err(Failure::Full)
            }
            Err(error) => Err(Failure::Broken(error.to_string())),
        }
    }

    /// Appends records, all or none; durable when it returns if `sync`.
    pub(super) fn append(
        &mut self,
        records: &mut dyn Iterator<Item = &mut Vec<u8>>,
        sync: bool,
        fsync: &Fsync,
    ) -> Result<(), Failure> {
        self.buffer.clear();
        let mut last = self.last;
        for record in records {
            last.number += 1;
            record::seal(record, last.number, self.durable);
            if let Some(read) = Record::parse(record) {
                last.s = read.last().unwrap_or(last.s);
                last.v = read.intake().map_or(last.v, |entry| entry.visible_at);
            }
            self.buffer.extend_from_slice(record);
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            return Err(self.take_back(&error, fsync));
        }
        self.length += self.buffer.len() as u64;
        self.last = last;
        // A batch of the size of a load is not kept in memory for ever.
        if self.buffer.capacity() > 64 << 20 {
            self.buffer = Vec::new();
        }
        if sync { self.sync(fsync) } else { Ok(()) }
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&mut self, fsync: &Fsync) -> Result<(), Failure> {
        if self.is_ahead() {
            fsync(&self.file).map_err(|error| Failure::Broken(error.to_string()))?;
            self.durable = self.last.number;
        }
        Ok(())
    }

    /// Cuts off what a write that failed left, durably: what is answered with an error must not be there
    /// after a crash.
    fn take_back(&mut self, error: &std::io::Error, fsync: &Fsync) -> Failure {
        if !no_space(error) {
            return Failure::Broken(error.to_string());
        }
        let taken = self
            .file
            .set_len(self.length)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length)))
            .and_then(|_| fsync(&self.file));
        match taken {
            Ok(()) => {
                self.durable = self.last.number;
                Failure::Full
            }
            Err(error) => Failure::Broken(error.to_string()),
        }
    }
}

fn named(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The files of a log in order, with what their headers say; none where a header is not whole.
fn segments(folder: &Path) -> Result<Vec<(PathBuf, Option<Before>)>, Unusable> {
    let mut found = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "log") {
            continue;
        }
        let mut head = Vec::new();
        File::open(&path)?.take(HEADER as u64).read_to_end(&mut head)?;
        let before = read_header(&head)?;
        if before.is_some_and(|before| path_of(folder, before.number) != path) {
            return Err(Unusable::Damaged(format!("{} is another file of its log", named(&path))));
        }
        found.push((path, before));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// Whether bytes that are no record are damage, and not what an append that was cut off left, or the file's
/// earlier life: a whole record after them knew that the record of this number is durable. `expected` is what
/// the record here would be, after the last `s` and `v` before it; `summed` counts the bytes of checksums.
///
/// The earlier life may be megabytes of numbers that could be those of a record, each telling of a long one: nothing
/// is summed that cannot be a record by all else it says.
fn is_damage(bytes: &[u8], expected: Before, summed: &mut usize) -> bool {
    let Before { number: expected, s, v } = expected;
    let numbers = bytes.get(record::FRAME..).unwrap_or_default();
    let eight = |bytes: &[u8]| bytes.first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
    numbers.windows(16).enumerate().any(|(at, window)| {
        let (own, durable) = (eight(window), eight(window.get(8..).unwrap_or_default()));
        if own.wrapping_sub(expected) >= bytes.len() as u64 || !(expected..own).contains(&durable) {
            return false;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((_, length)) = Record::looks_whole(rest).filter(|(record, _)| record.may_follow(s, v))
        else {
            return false;
        };
        *summed += length;
        Record::read(rest).is_some()
    })
}

/// Writes what was read of the newest file anew, in its place, and cuts off what follows. The same bytes in
/// the same places: cut off at any moment, what was durable before is as it was.
fn rewrite(path: &Path, content: &[u8], fsync: &Fsync) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    fsync(&file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn before(number: u64) -> Before {
        Before { number, s: Position(0), v: Timestamp(0) }
    }

    /// A file of the log may be let go of at any moment, also while the next one is being made.
    #[test]
    fn a_file_let_go_of_does_not_take_the_place_of_the_one_being_made() {
        for reused in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let real: Fsync = Arc::new(File::sync_data);
            let (_, old) = begin(folder.path(), before(1), &real).unwrap();
            if reused {
                begin(folder.path(), before(2), &real).unwrap();
                let_go(&path_of(folder.path(), 2)).unwrap();
            }
            let fsync: Fsync = Arc::new(move |file: &File| {
                let_go(&old)?;
                file.sync_data()
            });
            let (file, path) = begin(folder.path(), before(9), &fsync).unwrap();
            let (written, found) = (file.metadata().unwrap(), path.metadata().unwrap());
            assert_eq!(written.ino(), found.ino(), "what is appended stands under the name");
            let files = segments(folder.path()).unwrap();
            assert_eq!(files, [(path, Some(before(9)))]);
        }
    }

    /// A file's earlier life, all of whose numbers may be those of a record that is as long as the rest of the file.
    #[test]
    fn what_a_file_was_before_is_not_summed_again_and_again() {
        let expected = Before { number: 300, s: Position(5_000), v: Timestamp(1_700_000_000_000_000) };
        let (mut old, megabytes) = (Vec::new(), 8);
        let mut number = 0_u64;
        // As in values of many numbers: a length, then what may be a checksum, a number and one that is durable.
        while old.len() < megabytes << 20 {
            number += 1;
            let length = ((megabytes << 20) - old.len()) as u32 / 2;
            old.extend_from_slice(&length.to_le_bytes());
            old.extend_from_slice(&number.to_le_bytes());
            old.extend_from_slice(&(400 + number % 50).to_le_bytes());
            old.extend_from_slice(&(300 + number % 50).to_le_bytes());
            // Of either kind, of times and positions before and after.
            old.push(1 + (number % 2) as u8);
            old.extend_from_slice(&(1_600_000_000_000_000 + number * 1_000_000_000).to_le_bytes());
            old.extend_from_slice(&(number % 9_000).to_le_bytes());
        }
        let mut summed = 0;
        assert!(!is_damage(&old, expected, &mut summed));
        assert!(summed < old.len(), "{summed} of {} bytes", old.len());
        // A record there that knew that the one before it is durable is found all the same.
        let mut writing = record::Writing::default();
        writing.rows().extend_from_slice(b"rows");
        let of = record::RecordOf::Intake(
            crate::live::SourceNumber(1),
            Timestamp(expected.v.0 + 1),
            Position(5_001),
            1,
        );
        let mut later = writing.record(of).unwrap();
        record::seal(&mut later, 301, 300);
        let at = old.len() - later.len() - 1_000;
        old[at..at + later.len()].copy_from_slice(&later);
        assert!(is_damage(&old, expected, &mut summed));
        record::seal(&mut later, 301, 299);
        old[at..at + later.len()].copy_from_slice(&later);
        assert!(!is_damage(&old, expected, &mut summed), "it knew of none");
    }

    #[test]
    fn a_file_under_the_name_of_another_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (_, path) = begin(folder.path(), before(1), &(Arc::new(File::sync_data) as Fsync)).unwrap();
        std::fs::rename(path, path_of(folder.path(), 5)).unwrap();
        let refused = segments(folder.path()).unwrap_err();
        assert!(matches!(&refused, Unusable::Damaged(what) if what.contains("5.log")), "{refused:?}");
    }
}
