//! Which data files of our tables are being read: what was put together into another file is kept until
//! nobody reads it any more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The files that this process reads. A cheap clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readers {
    counts: Arc<Mutex<BTreeMap<PathBuf, usize>>>,
}

/// One reader of one file.
#[derive(Debug)]
pub(crate) struct HeldFile {
    readers: Readers,
    path: PathBuf,
}

impl Readers {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<PathBuf, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a reader, until what this gives is dropped.
    pub(crate) fn hold(&self, path: &Path) -> HeldFile {
        *self.counts().entry(path.to_owned()).or_default() += 1;
        HeldFile { readers: self.clone(), path: path.to_owned() }
    }

    /// Removes a file unless it is being read; whether it did. One that is gone already is no error.
    pub(crate) fn remove(&self, path: &Path) -> std::io::Result<bool> {
        let counts = self.counts();
        if counts.contains_key(path) {
            return Ok(false);
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            done => done.map(|()| true),
        }
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        let mut counts = self.readers.counts();
        if let Some(count) = counts.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.path);
            }
        }
    }
}
