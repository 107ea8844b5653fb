//! How many files are open at once.
//!
//! A source may have more files than a process may open: a quarter of what the system allows is used for
//! them, at most, and the rest stays for connections and stores. Past that the file that was not read for
//! the longest is closed, about; whoever reads it next opens it again. The limit is one of the process, so
//! this is too.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// A file that may be closed while nobody reads it.
#[derive(Debug)]
pub(super) struct Slot {
    file: Mutex<Option<Arc<File>>>,
    /// It was read since its turn to be closed last came.
    used: AtomicBool,
}

/// The slots with an open file, by when their turn to be closed comes.
struct Turns {
    most: usize,
    slots: Mutex<VecDeque<Weak<Slot>>>,
}

static TURNS: LazyLock<Turns> = LazyLock::new(|| Turns { most: most(), slots: Mutex::default() });

/// How many files are held open at most, by what the system allows the process now.
fn most() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(allowed / 4).unwrap_or(usize::MAX).clamp(8, 4_096)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    pub(super) fn holding(file: File) -> Arc<Slot> {
        let slot = Slot { file: Mutex::new(Some(Arc::new(file))), used: AtomicBool::new(true) };
        let slot = Arc::new(slot);
        TURNS.take_in(&slot);
        slot
    }

    /// The file; where it was closed, opened again so.
    pub(super) fn file(self: &Arc<Slot>, again: impl FnOnce() -> io::Result<File>) -> io::Result<Arc<File>> {
        self.used.store(true, Ordering::Relaxed);
        if let Some(file) = &*locked(&self.file) {
            return Ok(Arc::clone(file));
        }
        let opened = Arc::new(again()?);
        {
            let mut file = locked(&self.file);
            if let Some(file) = &*file {
                return Ok(Arc::clone(file));
            }
            *file = Some(Arc::clone(&opened));
        }
        // Only now: closing takes the locks the other way round.
        TURNS.take_in(self);
        Ok(opened)
    }
}

impl Turns {
    fn take_in(&self, slot: &Arc<Slot>) {
        let mut slots = locked(&self.slots);
        slots.push_back(Arc::downgrade(slot));
        // Each goes round once at most, and then it counts as unread.
        while slots.len() > self.most {
            self.close_next(&mut slots);
        }
    }

    fn close_next(&self, slots: &mut VecDeque<Weak<Slot>>) {
        let Some(slot) = slots.pop_front().and_then(|slot| slot.upgrade()) else { return };
        if slot.used.swap(false, Ordering::Relaxed) {
            slots.push_back(Arc::downgrade(&slot));
        } else {
            *locked(&slot.file) = None;
        }
    }
}

/// Opens a file to be read; where no more may be open, once more without those that nobody reads.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::open(path).or_else(|error| match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            for slot in locked(&TURNS.slots).drain(..).filter_map(|slot| slot.upgrade()) {
                *locked(&slot.file) = None;
            }
            File::open(path)
        }
        _ => Err(error),
    })
}
