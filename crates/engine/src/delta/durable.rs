//! A local object store whose every acknowledgement is durable.
//!
//! The local store of the `object_store` crate calls no fsync: after a power loss, acknowledged Delta
//! commits are gone. Here a write goes to a temporary file beside its destination, is fsynced, is then
//! hard-linked (create) or renamed (overwrite) to its name, and the directory is fsynced, with every
//! parent that had to be made, before the call returns. A file is therefore never visible under its name
//! without its whole content being on disk.
//!
//! After a failed fsync the kernel may have dropped the pages it could not write, and a second fsync would
//! report success: so the first failure stops the store, and every later write is refused until restart.
//!
//! Reading and listing are those of the crate's own local store, which hides temporary names.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result, UploadPart,
};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

const NAME: &str = "durable local store";

/// The store. Paths are those of the file system, or below a folder.
#[derive(Debug, Clone)]
pub(crate) struct DurableFiles {
    files: LocalFileSystem,
    health: Arc<Health>,
    /// The right to write here, if one must be held: a write keeps it to its end, whoever waits for the write,
    /// and none begins once it was given back.
    right: Option<Weak<Right>>,
}

/// What a writer holds alone, such as a table's lock.
pub(crate) type Right = dyn Any + Send + Sync;

/// Whether an fsync ever failed, and what is on its way.
#[derive(Debug, Default)]
struct Health {
    stopped: AtomicBool,
    under_way: TaskTracker,
}

impl DurableFiles {
    /// A store over the whole file system: `/` of a path is `/` of the machine.
    pub(crate) fn everywhere() -> DurableFiles {
        DurableFiles { files: LocalFileSystem::new(), health: Arc::default(), right: None }
    }

    /// The same store for one writer: its writes hold this right until they have ended, also where the writer
    /// is dropped in the middle of one.
    pub(crate) fn holding(&self, right: &Arc<Right>) -> DurableFiles {
        DurableFiles { right: Some(Arc::downgrade(right)), ..self.clone() }
    }

    /// Work that [`DurableFiles::settled`] waits for.
    pub(crate) fn track<F: Future>(&self, work: F) -> TrackedFuture<F> {
        self.health.under_way.track_future(work)
    }

    /// Waits until no write is on its way, nor any tracked work.
    pub(crate) async fn settled(&self) {
        self.health.under_way.close();
        self.health.under_way.wait().await;
    }

    /// A store below `folder`, which must exist.
    #[cfg(test)]
    pub(crate) fn below(folder: &FilePath) -> Result<DurableFiles> {
        Ok(DurableFiles {
            files: LocalFileSystem::new_with_prefix(folder)?,
            health: Arc::default(),
            right: None,
        })
    }

    /// Runs `work` off the async threads, refusing it when the store has stopped and stopping the store
    /// when it reports a failed fsync.
    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Failure> + Send + 'static,
    {
        let health = Arc::clone(&self.health);
        let right = match &self.right {
            None => None,
            Some(right) => Some(right.upgrade().ok_or_else(|| {
                generic(io::Error::other("the writer has given back its right to write here"))
            })?),
        };
        let under_way = health.under_way.token();
        let guarded = move || {
            let done = health.run(work);
            // Only now may another writer begin, and whoever waits for all writes go on.
            drop(right);
            drop(under_way);
            done
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(guarded).await?,
            Err(_) => guarded(),
        }
    }
}

impl Health {
    fn run<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T> {
        if self.stopped.load(Ordering::Acquire) {
            return Err(generic(io::Error::other(
                "an earlier fsync failed, so nothing more is written: check the disk and restart",
            )));
        }
        work().map_err(|failure| match failure {
            Failure::Sync(source) => {
                self.stopped.store(true, Ordering::Release);
                generic(source)
            }
            Failure::Other(error) => error,
        })
    }
}

/// A write that failed: at an fsync, which stops the store, or anywhere else.
enum Failure {
    Sync(io::Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Other(error)
    }
}

fn generic(source: io::Error) -> Error {
    Error::Generic { store: NAME, source: Box::new(source) }
}

fn at(path: &FilePath) -> impl FnOnce(io::Error) -> Failure + '_ {
    move |source| {
        let path = path.display().to_string();
        Failure::Other(match source.kind() {
            ErrorKind::NotFound => Error::NotFound { path, source: Box::new(source) },
            ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: Box::new(source) },
            ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: Box::new(source) },
            _ => generic(io::Error::new(source.kind(), format!("{path}: {source}"))),
        })
    }
}

/// Fsyncs the folder that holds `path`.
fn sync_parent(path: &FilePath) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or_else(|| FilePath::new("/"));
    sync_folder(folder)
}

fn sync_folder(folder: &FilePath) -> Result<(), Failure> {
    File::open(folder).map_err(at(folder))?.sync_all().map_err(Failure::Sync)
}

/// Makes `folder` and what is missing above it, each new one on disk in its parent before the next.
pub(crate) fn make_folder(folder: &FilePath) -> io::Result<()> {
    make_durably(folder).map_err(|failure| match failure {
        Failure::Sync(source) => source,
        Failure::Other(error) => io::Error::from(error),
    })
}

/// Fsyncs every folder above `path`: whoever made them may not have. Folders that we may not open were
/// there before us.
pub(crate) fn sync_folders_above(path: &FilePath) -> io::Result<()> {
    let whole = std::path::absolute(path)?;
    for folder in whole.ancestors().skip(1) {
        match File::open(folder) {
            Ok(open) => open.sync_all()?,
            Err(source) if source.kind() == ErrorKind::PermissionDenied => {}
            Err(source) => return Err(source),
        }
    }
    Ok(())
}

fn make_durably(folder: &FilePath) -> Result<(), Failure> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_durably(parent)?;
    }
    match std::fs::create_dir(folder) {
        Ok(()) => {}
        // Another writer made it; its entry may not be on disk yet, so it is synced here too.
        Err(source) if source.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
        Err(source) => return Err(at(folder)(source)),
    }
    sync_parent(folder)
}

/// A temporary name beside `path`. The listing of the local store hides names that end in `#digits`.
fn temporary_name(path: &FilePath) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!("#{}{:09}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    PathBuf::from(name)
}

/// True for the names of [`temporary_name`].
fn is_temporary(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Removes the temporary files that killed writers left anywhere below `folder`; returns how many.
/// Only for a folder that no other writer is writing to.
pub(crate) fn remove_temporary_files(folder: &FilePath) -> io::Result<usize> {
    let mut removed = 0;
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(source),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove_temporary_files(&entry.path())?;
        } else if entry.file_name().to_str().is_some_and(is_temporary) {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// A file that has no name of its own yet; removed when dropped before it gets one.
#[derive(Debug)]
struct Staged {
    file: File,
    path: Option<PathBuf>,
}

impl Staged {
    fn beside(destination: &FilePath) -> Result<Staged, Failure> {
        if let Some(folder) = destination.parent() {
            make_durably(folder)?;
        }
        loop {
            let path = temporary_name(destination);
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Staged { file, path: Some(path) }),
                // A leftover of a killed process that had this process's id: the next name is free.
                Err(source) if source.kind() == ErrorKind::AlreadyExists => {}
                Err(source) => return Err(at(&path)(source)),
            }
        }
    }

    /// Gives the file its name, durably.
    fn publish(mut self, destination: &FilePath, mode: Publish) -> Result<PutResult, Failure> {
        self.file.sync_all().map_err(Failure::Sync)?;
        let Some(path) = self.path.clone() else {
            return Err(Failure::Other(generic(io::Error::other("a file was published twice"))));
        };
        match mode {
            Publish::Create => {
                // The destination's folder may have gone since; hard_link fails on an existing name, which
                // is what makes two commits of one version exclude each other.
                std::fs::hard_link(&path, destination).map_err(at(destination))?;
                // From here on the name exists: whatever happens next must not undo it.
                sync_parent(destination)?;
            }
            Publish::Overwrite => {
                std::fs::rename(&path, destination).map_err(at(destination))?;
                self.path = None;
                sync_parent(destination)?;
            }
        }
        let metadata = self.file.metadata().map_err(at(destination))?;
        Ok(PutResult { e_tag: Some(e_tag(&metadata)), version: None })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // What cannot be removed now is removed by the next load.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[derive(Clone, Copy)]
enum Publish {
    Create,
    Overwrite,
}

/// The same entity tag that reading gives (`object_store`'s: inode, time of change, size).
fn e_tag(metadata: &std::fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    let micros = metadata.mtime() as i128 * 1_000_000 + i128::from(metadata.mtime_nsec() / 1_000);
    format!("{:x}-{:x}-{:x}", metadata.ino(), micros.max(0), metadata.len())
}

fn refuse_attributes(empty: bool, operation: &str) -> Result<()> {
    if empty {
        return Ok(());
    }
    Err(Error::NotImplemented {
        operation: format!("`{operation}` with attributes"),
        implementer: NAME.to_owned(),
    })
}

impl std::fmt::Display for DurableFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Durable({})", self.files)
    }
}

#[async_trait]
impl ObjectStore for DurableFiles {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        refuse_attributes(options.attributes.is_empty(), "put")?;
        let mode = match options.mode {
            PutMode::Create => Publish::Create,
            PutMode::Overwrite => Publish::Overwrite,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "`put` with mode `update`".to_owned(),
                    implementer: NAME.to_owned(),
                });
            }
        };
        let destination = self.files.path_to_filesystem(location)?;
        self.write(move || {
            let mut staged = Staged::beside(&destination)?;
            for part in payload.iter() {
                staged.file.write_all(part).map_err(at(&destination))?;
            }
            staged.publish(&destination, mode)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        refuse_attributes(options.attributes.is_empty(), "put_multipart")?;
        let destination = self.files.path_to_filesystem(location)?;
        let beside = destination.clone();
        let staged = self.write(move || Staged::beside(&beside)).await?;
        Ok(Box::new(Upload {
            store: self.clone(),
            staged: Some(Arc::new(staged)),
            destination,
            length: 0,
            failed: Arc::new(AtomicBool::new(false)),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    let path = store.files.path_to_filesystem(&location)?;
                    store
                        .write(move || {
                            std::fs::remove_file(&path).map_err(at(&path))?;
                            sync_parent(&path)
                        })
                        .await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Create => Publish::Create,
            CopyMode::Overwrite => Publish::Overwrite,
        };
        let (from, to) = (self.files.path_to_filesystem(from)?, self.files.path_to_filesystem(to)?);
        self.write(move || {
            let mut original = File::open(&from).map_err(at(&from))?;
            let mut staged = Staged::beside(&to)?;
            io::copy(&mut original, &mut staged.file).map_err(at(&to))?;
            staged.publish(&to, mode).map(drop)
        })
        .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (from, to) = (self.files.path_to_filesystem(from)?, self.files.path_to_filesystem(to)?);
        self.write(move || {
            // The file may have been written by something that does not sync.
            File::open(&from).map_err(at(&from))?.sync_all().map_err(Failure::Sync)?;
            if let Some(folder) = to.parent() {
                make_durably(folder)?;
            }
            match options.target_mode {
                RenameTargetMode::Overwrite => std::fs::rename(&from, &to).map_err(at(&from))?,
                RenameTargetMode::Create => {
                    std::fs::hard_link(&from, &to).map_err(at(&to))?;
                    sync_parent(&to)?;
                    std::fs::remove_file(&from).map_err(at(&from))?;
                }
            }
            sync_parent(&to)?;
            if from.parent() == to.parent() { Ok(()) } else { sync_parent(&from) }
        })
        .await
    }
}

/// A file that arrives in parts. Parts may be written at the same time; they land at the offsets that the
/// order of the calls gives them.
#[derive(Debug)]
struct Upload {
    store: DurableFiles,
    staged: Option<Arc<Staged>>,
    destination: PathBuf,
    length: u64,
    /// A part that failed must fail the whole, whether or not the caller looked at it.
    failed: Arc<AtomicBool>,
}

impl Upload {
    fn staged(&self) -> Result<Arc<Staged>> {
        self.staged.clone().ok_or_else(|| generic(io::Error::other("the upload was completed or aborted")))
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.length;
        self.length += data.content_length() as u64;
        let (store, staged, path) = (self.store.clone(), self.staged(), self.destination.clone());
        let failed = Arc::clone(&self.failed);
        Box::pin(async move {
            let staged = staged?;
            let written = store
                .write(move || {
                    for part in data.iter() {
                        staged.file.write_all_at(part, offset).map_err(at(&path))?;
                        offset += part.len() as u64;
                    }
                    Ok(())
                })
                .await;
            if written.is_err() {
                failed.store(true, Ordering::Release);
            }
            written
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged()?;
        self.staged = None;
        let Ok(staged) = Arc::try_unwrap(staged) else {
            return Err(generic(io::Error::other("an upload was completed while a part was being written")));
        };
        let length = staged.file.metadata().map_err(generic)?.len();
        if self.failed.load(Ordering::Acquire) || length != self.length {
            return Err(generic(io::Error::other("a part of the upload was not written")));
        }
        let destination = self.destination.clone();
        self.store.write(move || staged.publish(&destination, Publish::Overwrite)).await
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = self.staged()?;
        self.staged = None;
        self.store
            .write(move || {
                drop(staged);
                Ok(())
            })
            .await
    }
}

#[cfg(test)]
#[path = "durable_suite.rs"]
mod suite;
