//! What exactly was read, so that it can be checked again and named in a record.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use asof_model::{FileIdentity, Timestamp};
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::descriptors::{self, Slot};
use crate::{Error, Result};

/// A file read at positions by many readers. Whatever its path leads to later, they all read the file that
/// was there, or are told that it is there no more: where a process holds many files, those not read for
/// the longest are closed and opened again when they are wanted, and then must be what they were.
#[derive(Debug)]
pub(crate) struct Held {
    pub path: PathBuf,
    pub shown: String,
    pub size: u64,
    /// What it was when it was opened first.
    etag: String,
    slot: Arc<Slot>,
    /// What became of it, where it could not be opened again.
    lost: OnceLock<&'static str>,
}

impl Held {
    /// Opens a file for the length of a scan.
    pub(crate) fn open(path: &Path, shown: &str) -> Result<Held> {
        let failed = |e: std::io::Error| Error::io("open the file", Path::new(shown), &e);
        let file = descriptors::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        Ok(Held {
            path: path.to_owned(),
            shown: shown.to_owned(),
            size: metadata.len(),
            etag: etag(&metadata),
            slot: Slot::holding(file),
            lost: OnceLock::new(),
        })
    }

    /// The file, open.
    fn file(&self) -> std::io::Result<Arc<File>> {
        self.slot.file(|| {
            let file = descriptors::open(&self.path).inspect_err(|error| {
                if error.kind() == std::io::ErrorKind::NotFound {
                    self.lost.get_or_init(|| "was removed while it was read");
                }
            })?;
            let now = file.metadata()?;
            if etag(&now) != self.etag || now.len() != self.size {
                let lost = *self.lost.get_or_init(|| self.change(&now));
                return Err(std::io::Error::other(lost));
            }
            Ok(file)
        })
    }

    /// Which change it was that made this of it.
    fn change(&self, now: &Metadata) -> &'static str {
        if self.etag.split('-').next() == etag(now).split('-').next() {
            "was changed while it was read"
        } else {
            "was replaced while it was read"
        }
    }

    /// Some bytes from a position on; none at the end.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
        self.file()?.read_at(buffer, at)
    }

    /// All these bytes from a position on.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> std::io::Result<()> {
        self.file()?.read_exact_at(buffer, at)
    }

    /// What reading it failed for: a file that is gone or another, or what the system said.
    pub(crate) fn unread(&self, error: &std::io::Error) -> Error {
        self.is_lost().unwrap_or_else(|| Error::io("read the file", Path::new(&self.shown), error))
    }

    /// The error of a file that was not there any more when it was wanted again.
    pub(crate) fn is_lost(&self) -> Option<Error> {
        self.lost.get().map(|lost| self.changed(lost))
    }

    fn changed(&self, change: &str) -> Error {
        Error::Changed { what: "file", name: self.shown.clone(), change: change.to_owned() }
    }

    /// Its identity now. `footer`: hash only the last so many bytes, not all.
    pub(crate) fn identity(&self, footer: Option<u64>) -> Result<FileIdentity> {
        let file = self.file().map_err(|e| self.unread(&e))?;
        let metadata = file.metadata().map_err(|e| self.unread(&e))?;
        let hash = hash_of(&file, metadata.len(), footer).map_err(|e| self.unread(&e))?;
        Ok(FileIdentity {
            path: self.path.to_string_lossy().into_owned(),
            size: metadata.len(),
            modified: Timestamp(modified(&metadata).div_euclid(1_000)),
            etag: Some(etag(&metadata)),
            hash: Some(hash),
        })
    }

    /// Refuses where the file held, or what its path now leads to, is not what was opened.
    pub(crate) fn verify(&self, was: &FileIdentity, footer: Option<u64>) -> Result<()> {
        let now = std::fs::metadata(&self.path).map_err(|_| self.changed("was removed while it was read"))?;
        if was.etag.as_deref() != Some(&etag(&now)) || now.len() != was.size {
            return Err(self.changed(self.change(&now)));
        }
        let hash = self.file().and_then(|file| hash_of(&file, was.size, footer));
        let hash = hash.map_err(|_| self.changed("cannot be read any more"))?;
        if Some(hash) == was.hash { Ok(()) } else { Err(self.changed("was changed while it was read")) }
    }
}

/// What tells a file from what it was or will be, without reading it: etag and size.
pub(crate) fn stamp(path: &Path, shown: &str) -> Result<String> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io("read the file", Path::new(shown), &e))?;
    Ok(format!("{} {}", etag(&metadata), metadata.len()))
}

/// Whether what a path leads to is, by its number, size and time of change, the file it was; no byte
/// of it is read.
pub(crate) fn is_still(path: &Path, was: &FileIdentity) -> bool {
    std::fs::metadata(path).is_ok_and(|now| was.etag.as_deref() == Some(&etag(&now)) && now.len() == was.size)
}

/// The file's number, when its content was last changed and when the file itself was: what a rename over
/// it or a write to it moves. The first of the two times can be set at will (`cp -p`, `touch`), the second
/// cannot.
fn etag(metadata: &Metadata) -> String {
    let changed = metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec());
    format!("{:x}-{:x}-{:x}", metadata.ino(), modified(metadata), changed)
}

/// Nanoseconds since 1970; enough for five centuries.
fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

fn hash_of(file: &File, size: u64, footer: Option<u64>) -> std::io::Result<String> {
    let mut left = footer.unwrap_or(size).min(size);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let got = file.read_at(&mut buffer[..want], size - left)?;
        if got == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..got]);
        left -= got as u64;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Reads on from a position, without moving anybody else's.
#[derive(Debug)]
pub(crate) struct Cursor {
    held: Arc<Held>,
    at: u64,
}

impl Cursor {
    /// From this byte on.
    pub(crate) fn new(held: Arc<Held>, at: u64) -> Cursor {
        Cursor { held, at }
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.held.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// A held file as Parquet's reader takes it.
#[derive(Debug, Clone)]
pub(crate) struct Chunks(pub Arc<Held>);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.size
    }
}

impl ChunkReader for Chunks {
    type T = std::io::BufReader<Cursor>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(std::io::BufReader::new(Cursor::new(Arc::clone(&self.0), start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut buffer = Reused::new(length);
        self.0.read_exact_at(buffer.bytes.get_mut(..length).unwrap_or_default(), start)?;
        Ok(Bytes::from_owner(buffer))
    }
}

/// A buffer that goes back to be read into again: a new one costs its zeros, and the first touch of its
/// memory, as much as reading into it.
struct Reused {
    bytes: Vec<u8>,
    length: usize,
}

/// Buffers nobody reads from.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// How many are kept, and how large ones.
const SPARES: usize = 8;
const LARGEST: usize = 2 << 20;

impl Reused {
    fn new(length: usize) -> Reused {
        // Whoever holds a few bytes for long shall not hold much more with them.
        let fits = |bytes: &Vec<u8>| (length..=length.saturating_mul(4)).contains(&bytes.len());
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = spare.iter().position(fits).map(|at| spare.swap_remove(at));
        drop(spare);
        Reused { bytes: bytes.unwrap_or_else(|| vec![0; length]), length }
    }
}

impl AsRef<[u8]> for Reused {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if (1..=LARGEST).contains(&self.bytes.len()) {
            if spare.len() == SPARES {
                spare.remove(0);
            }
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}
