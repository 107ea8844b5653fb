//! What must outlive the process beside the log: how far T may have been answered, and how far the log was
//! trimmed. One small file of two slots written in turn, so that a torn write leaves the other; it never
//! grows, so that a full disk does not stop it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use asof_compute::Position;
use asof_model::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::log::Fsync;

pub(super) const FILE: &str = "sequence";

/// The version byte of a slot, `docs/formats/live-store.md`.
pub(super) const SEQUENCE_FORMAT: u8 = 1;
const MAGIC: &[u8; 7] = b"asofseq";
/// Slots stand in blocks of their own.
const SLOT: usize = 4096;
/// Magic, format, turn, lease, trimmed; then the checksum.
const LENGTH: usize = 7 + 1 + 8 + 8 + 8;

/// What one slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// The greatest T that may have been answered.
    pub(super) lease: Timestamp,
    /// Log entries up to here are gone.
    pub(super) trimmed: Position,
}

/// Why a file says nothing.
#[derive(Debug)]
pub(super) enum Unreadable {
    Io(std::io::Error),
    Newer(u8),
    Damaged,
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Unreadable {
        Unreadable::Io(error)
    }
}

pub(super) struct LeaseFile {
    file: File,
    turn: u64,
    kept: Kept,
    fsync: Fsync,
}

impl LeaseFile {
    /// Makes a new store's file under another name and gives it its own when it is whole.
    pub(super) fn make(directory: &Path, kept: Kept, fsync: &Fsync) -> std::io::Result<()> {
        let unfinished = directory.join("sequence.new");
        let mut file = File::create(&unfinished)?;
        let mut bytes = slot(0, kept);
        bytes.resize(2 * SLOT, 0);
        file.write_all(&bytes)?;
        fsync(&file)?;
        std::fs::rename(&unfinished, directory.join(FILE))?;
        fsync(&File::open(directory)?)
    }

    pub(super) fn open(directory: &Path, fsync: &Fsync) -> Result<LeaseFile, Unreadable> {
        let mut file = OpenOptions::new().read(true).write(true).open(directory.join(FILE))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (turn, kept) = newest(&bytes)?;
        Ok(LeaseFile { file, turn, kept, fsync: Fsync::clone(fsync) })
    }

    pub(super) fn kept(&self) -> Kept {
        self.kept
    }

    /// Durable when it returns.
    pub(super) fn write(&mut self, kept: Kept) -> std::io::Result<()> {
        let turn = self.turn + 1;
        self.file.seek(SeekFrom::Start(turn % 2 * SLOT as u64))?;
        self.file.write_all(&slot(turn, kept))?;
        (self.fsync)(&self.file)?;
        (self.turn, self.kept) = (turn, kept);
        Ok(())
    }
}

/// The bytes of a slot, without what fills it up.
pub(super) fn slot(turn: u64, kept: Kept) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH + 8);
    bytes.extend_from_slice(MAGIC);
    bytes.push(SEQUENCE_FORMAT);
    bytes.extend_from_slice(&turn.to_le_bytes());
    bytes.extend_from_slice(&kept.lease.0.to_le_bytes());
    bytes.extend_from_slice(&kept.trimmed.0.to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    bytes
}

/// The slot written last, of those that are whole.
pub(super) fn newest(bytes: &[u8]) -> Result<(u64, Kept), Unreadable> {
    let slots = [0, SLOT].map(|at| read(bytes.get(at..).unwrap_or_default()));
    if let Some(newer) = slots.iter().find_map(|slot| slot.as_ref().err()) {
        return Err(Unreadable::Newer(*newer));
    }
    slots.into_iter().flatten().flatten().max_by_key(|(turn, _)| *turn).ok_or(Unreadable::Damaged)
}

/// What a slot says; none where it is not whole, the format where that is newer.
fn read(bytes: &[u8]) -> Result<Option<(u64, Kept)>, u8> {
    let whole = || {
        let (content, rest) = bytes.split_at_checked(LENGTH)?;
        let checksum = rest.first_chunk::<8>()?;
        (content.starts_with(MAGIC) && xxh3_64(content).to_le_bytes() == *checksum).then_some(content)
    };
    let Some(content) = whole() else { return Ok(None) };
    match content.get(7) {
        Some(&SEQUENCE_FORMAT) => {}
        found => return Err(found.copied().unwrap_or_default()),
    }
    let number = |at: usize| -> Option<[u8; 8]> { content.get(at..at + 8)?.try_into().ok() };
    let read = || {
        let lease = Timestamp(i64::from_le_bytes(number(16)?));
        let trimmed = Position(i64::from_le_bytes(number(24)?));
        Some((u64::from_le_bytes(number(8)?), Kept { lease, trimmed }))
    };
    Ok(read())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_torn_write_leaves_the_slot_before() {
        let folder = tempfile::tempdir().unwrap();
        let fsync: Fsync = Arc::new(File::sync_all);
        let kept = |at: i64| Kept { lease: Timestamp(at), trimmed: Position(-at) };
        LeaseFile::make(folder.path(), kept(1), &fsync).unwrap();
        let mut file = LeaseFile::open(folder.path(), &fsync).unwrap();
        assert_eq!(file.kept(), kept(1));
        for at in 2..6 {
            file.write(kept(at)).unwrap();
            assert_eq!(LeaseFile::open(folder.path(), &fsync).unwrap().kept(), kept(at));
        }
        let path = folder.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 2 * SLOT, "it does not grow");
        // The fourth write went into the first slot.
        bytes[20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(LeaseFile::open(folder.path(), &fsync).unwrap().kept(), kept(4));
        bytes[SLOT + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(LeaseFile::open(folder.path(), &fsync), Err(Unreadable::Damaged)));
    }
}
