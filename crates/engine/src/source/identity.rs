//! What exactly was read, so that it can be checked again and named in a record.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use asof_model::Name;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which rows of a source an answer was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Files read in place, in the order of their paths.
    Files(Vec<FileIdentity>),
    /// A Delta table read in place, at one version.
    Delta {
        /// The table's folder.
        path: String,
        /// The table's own identifier.
        table_id: String,
        /// The version read.
        version: u64,
    },
    /// A stored source: rows with `s <= position`.
    Stored {
        /// The greatest position that counts; none where the table was empty.
        position: Option<i64>,
        /// The Delta version that was read.
        version: u64,
    },
    /// A query over other sources: the cut of each, all of one snapshot.
    Sql(BTreeMap<Name, Cut>),
}

/// A file as it was when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The path: relative to the project's folder where it lies below it, else absolute.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The time of its last change, nanoseconds since 1970-01-01 UTC.
    pub modified: i128,
    /// Its number in the file system.
    pub inode: u64,
    /// 64 hex digits: BLAKE3 of a Parquet file's footer, or of the whole content of any other.
    pub hash: String,
}

impl FileIdentity {
    /// Of an open file. `footer`: hash only the last so many bytes, not all.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read.
    pub fn of(path: String, file: &File, footer: Option<u64>) -> Result<FileIdentity> {
        let at = Path::new(&path);
        let metadata = file.metadata().map_err(|e| Error::io("read the file", at, &e))?;
        let hash = hash_of(file, metadata.len(), footer).map_err(|e| Error::io("read the file", at, &e))?;
        Ok(FileIdentity {
            size: metadata.len(),
            modified: modified(&metadata),
            inode: metadata.ino(),
            hash,
            path,
        })
    }

    /// Whether file system and content say that this is the same data: size and hash, not the times
    /// or the number, which a copy changes.
    pub fn same_content(&self, other: &FileIdentity) -> bool {
        self.size == other.size && self.hash == other.hash
    }

    /// Refuses where the open file, or what its path now leads to, is not what it was.
    ///
    /// # Errors
    /// [`Error::Changed`] with what changed.
    pub fn verify(&self, root: &Path, file: &File, footer: Option<u64>) -> Result<()> {
        let changed = |change: &str| Error::Changed {
            what: "file",
            name: self.path.clone(),
            change: change.to_owned(),
        };
        let now =
            std::fs::metadata(root.join(&self.path)).map_err(|_| changed("was removed while it was read"))?;
        if now.ino() != self.inode {
            return Err(changed("was replaced while it was read"));
        }
        if now.len() != self.size || modified(&now) != self.modified {
            return Err(changed("was changed while it was read"));
        }
        let hash = hash_of(file, self.size, footer).map_err(|_| changed("cannot be read any more"))?;
        if hash != self.hash { Err(changed("was changed while it was read")) } else { Ok(()) }
    }
}

fn modified(metadata: &Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

fn hash_of(file: &File, size: u64, footer: Option<u64>) -> std::io::Result<String> {
    let length = footer.unwrap_or(size).min(size);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut left = length;
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
