//! Spines kept by content below the data directory: first under a name of their own, under their hash once
//! the training set that they were asked for is whole.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::writer::StreamWriter;
use tokio::task::JoinSet;

use crate::engine::{INCOMING, gone};
use crate::source::identity::stamp;
use crate::{Engine, Error, Result};

/// BLAKE3 and length of the bytes of a spine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) hash: String,
    pub(super) bytes: u64,
}

/// The bytes of a spine. They are removed where they are dropped before they are kept.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    /// Where they can be read until they are kept, or are kept already.
    path: PathBuf,
    /// Where they are as long as the training may still fail.
    staged: Option<PathBuf>,
    /// Brings them there and to the disk, beside the training.
    staging: JoinSet<Result<Content>>,
    engine: Engine,
}

impl Kept {
    /// Bytes that work brings to this place beside the training, which says what they are.
    fn staging(
        engine: &Engine,
        path: PathBuf,
        work: impl FnOnce(&Path) -> Result<Content> + Send + 'static,
    ) -> Kept {
        let mut staging = JoinSet::new();
        let (on, to) = (engine.clone(), path.clone());
        staging.spawn(async move {
            on.blocking(move || {
                let content = work(&to)?;
                let synced = File::open(&to).and_then(|file| file.sync_all());
                synced.map_err(|e| Error::io("keep the spine", &to, &e))?;
                Ok(content)
            })
            .await
        });
        let folder = folder(engine);
        Kept { folder, path: path.clone(), staged: Some(path), staging, engine: engine.clone() }
    }

    /// Copies a file that others may write to: a change of it meanwhile is refused when it is kept.
    pub(super) async fn copy(engine: &Engine, path: PathBuf, was: String) -> Result<Kept> {
        let within = folder(engine);
        let (staged, mut copy) = engine.blocking(move || incoming(&within)).await?;
        let (from, kept_before) = (path.clone(), folder(engine));
        let mut kept = Kept::staging(engine, staged, move |_| {
            let read = |to: Option<&mut File>| {
                let mut file = File::open(&from).map_err(|e| Error::io("open the spine", &from, &e))?;
                content(&mut file, to).map_err(|e| Error::io("copy the spine", &from, &e))
            };
            let found = read(None)?;
            // What is kept already is not written again.
            if !is_kept(&kept_before, &found)? && read(Some(&mut copy))? != found {
                return Err(changed(&from));
            }
            unchanged(&from, &was)?;
            Ok(found)
        });
        kept.path = path;
        Ok(kept)
    }

    /// Keeps a file that nobody writes to any more without a copy; with one where the file system has no room
    /// for a second name of it.
    pub(super) async fn link(engine: &Engine, path: PathBuf) -> Result<Kept> {
        let within = folder(engine);
        let on = engine.clone();
        engine
            .blocking(move || {
                let staged = incoming_name(&within)?;
                if std::fs::hard_link(&path, &staged).is_err() {
                    let mut file = File::open(&path).map_err(|e| Error::io("open the spine", &path, &e))?;
                    return stage(&on, &mut file);
                }
                Ok(Kept::staging(&on, staged, |staged| {
                    let read = File::open(staged).and_then(|mut file| content(&mut file, None));
                    read.map_err(|e| Error::io("read the spine", staged, &e))
                }))
            })
            .await
    }

    /// Keeps these bytes.
    pub(super) async fn bytes(engine: &Engine, bytes: bytes::Bytes) -> Result<Kept> {
        let on = engine.clone();
        engine.blocking(move || stage(&on, &mut bytes.as_ref())).await
    }

    /// A spine that is kept already, and its content; none where it cannot be read.
    pub(super) async fn of(engine: &Engine, hash: &str) -> Result<Option<(Kept, Content)>> {
        let folder = folder(engine);
        let path = folder.join(hash);
        let found =
            engine.blocking(move || Ok(File::open(&path).and_then(|mut file| content(&mut file, None)).ok()));
        let path = folder.join(hash);
        let kept = Kept { folder, path, staged: None, staging: JoinSet::new(), engine: engine.clone() };
        Ok(found.await?.map(|content| (kept, content)))
    }

    /// Where they can be read until they are kept.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the bytes under their hash, durably; says what they are where they were not kept before.
    pub(super) async fn keep(mut self) -> Result<Option<Content>> {
        let Some(staging) = self.staging.join_next().await else { return Ok(None) };
        let content = staging.map_err(|ended| gone(&ended))??;
        let Some(staged) = self.staged.clone() else { return Ok(None) };
        let (folder, kept) = (self.folder.clone(), self.folder.join(&content.hash));
        let engine = self.engine.clone();
        let content = engine
            .blocking(move || {
                let io = |doing, path: &Path| {
                    let path = path.to_owned();
                    move |e: std::io::Error| Error::io(doing, &path, &e)
                };
                if is_kept(&folder, &content)? {
                    std::fs::remove_file(&staged).map_err(io("remove the file", &staged))?;
                } else {
                    let bytes = std::fs::metadata(&staged).map_err(io("keep the spine", &staged))?.len();
                    if bytes != content.bytes {
                        // It was kept when its copy would have begun.
                        let reason = "it was removed while it was asked with".to_owned();
                        let path = kept.display().to_string();
                        return Err(Error::Io { doing: "keep the spine", path, reason });
                    }
                    std::fs::rename(&staged, &kept).map_err(io("keep the spine", &kept))?;
                }
                for folder in [Some(folder.as_path()), folder.parent()].into_iter().flatten() {
                    File::open(folder).and_then(|it| it.sync_all()).map_err(io("keep the spine", folder))?;
                }
                Ok(content)
            })
            .await?;
        self.staged = None;
        Ok(Some(content))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(staged) = self.staged.take()
            && let Err(error) = std::fs::remove_file(&staged)
        {
            tracing::warn!(%error, "a spine that is not kept stays behind");
        }
    }
}

/// Where spines are kept.
fn folder(engine: &Engine) -> PathBuf {
    engine.config().data_dir.join("spines")
}

/// Whether a spine is kept in a folder, whole as far as its length tells.
fn is_kept(folder: &Path, content: &Content) -> Result<bool> {
    let kept = folder.join(&content.hash);
    match std::fs::metadata(&kept) {
        Ok(found) => Ok(found.len() == content.bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look for the spine", &kept, &error)),
    }
}

/// Refuses a file that is not what its stamp says it was.
pub(super) fn unchanged(path: &Path, was: &str) -> Result<()> {
    if stamp(path, &path.to_string_lossy()).is_ok_and(|now| now == was) {
        return Ok(());
    }
    Err(changed(path))
}

fn changed(path: &Path) -> Error {
    let name = path.to_string_lossy().into_owned();
    Error::Changed { what: "spine", name, change: "was changed or removed while it was read".to_owned() }
}

/// A spine from a query on its way to the disk, as an Arrow stream. What is not finished is removed.
pub(super) struct Staging {
    /// Empty once it is finished.
    path: PathBuf,
    writer: Option<StreamWriter<Hashing>>,
    engine: Engine,
}

/// A file, and the hash of what was written to it.
struct Hashing {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(buffer.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Staging {
    /// Begins one. Blocking, as what follows.
    pub(super) fn new(engine: &Engine, schema: &Schema) -> Result<Staging> {
        let (path, file) = incoming(&folder(engine))?;
        let hashing = Hashing { file, hasher: blake3::Hasher::new(), bytes: 0 };
        let mut staging = Staging { path, writer: None, engine: engine.clone() };
        staging.writer =
            Some(StreamWriter::try_new(hashing, schema).map_err(|e| staging.failed(&e.to_string()))?);
        Ok(staging)
    }

    fn failed(&self, reason: &str) -> Error {
        Error::Io {
            doing: "copy the spine to",
            path: self.path.display().to_string(),
            reason: reason.to_owned(),
        }
    }

    /// Adds rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Err(self.failed("it is finished")) };
        let written = writer.write(batch);
        written.map_err(|e| self.failed(&e.to_string()))
    }

    /// Ends it.
    pub(super) fn finish(mut self) -> Result<Kept> {
        let Some(mut writer) = self.writer.take() else { return Err(self.failed("it is finished")) };
        let finished = writer.finish().and_then(|()| writer.into_inner());
        let hashing = finished.map_err(|e| self.failed(&e.to_string()))?;
        let content = Content { hash: hashing.hasher.finalize().to_hex().to_string(), bytes: hashing.bytes };
        Ok(Kept::staging(&self.engine, std::mem::take(&mut self.path), |_| Ok(content)))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.writer = None;
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Copies bytes into the folder of spines under a name of their own. Blocking.
fn stage(engine: &Engine, from: &mut dyn Read) -> Result<Kept> {
    let (path, mut file) = incoming(&folder(engine))?;
    match content(from, Some(&mut file)) {
        Ok(content) => Ok(Kept::staging(engine, path, |_| Ok(content))),
        Err(error) => {
            let _ = std::fs::remove_file(&path);
            Err(Error::io("copy the spine to", &path, &error))
        }
    }
}

/// A name of its own in the folder of spines.
fn incoming_name(folder: &Path) -> Result<PathBuf> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    std::fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, &e))?;
    Ok(folder.join(format!("{INCOMING}{}", NUMBER.fetch_add(1, Ordering::Relaxed))))
}

/// A new file in the folder of spines.
fn incoming(folder: &Path) -> Result<(PathBuf, File)> {
    let path = incoming_name(folder)?;
    let file = File::create(&path).map_err(|e| Error::io("copy the spine to", &path, &e))?;
    Ok((path, file))
}

/// What is read, copied on the way.
fn content(from: &mut dyn Read, mut to: Option<&mut File>) -> std::io::Result<Content> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        let got = from.read(&mut buffer)?;
        let Some(read) = buffer.get(..got).filter(|read| !read.is_empty()) else { break };
        hasher.update(read);
        if let Some(file) = &mut to {
            file.write_all(read)?;
        }
        bytes += got as u64;
    }
    Ok(Content { hash: hasher.finalize().to_hex().to_string(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spine.csv");
        std::fs::write(&path, "a,b\n").unwrap();
        let was = stamp(&path, "spine").unwrap();
        unchanged(&path, &was).unwrap();
        std::fs::write(folder.path().join("other"), "a,c\n").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        let refused = unchanged(&path, &was).unwrap_err();
        assert!(
            refused.to_string().ends_with("spine.csv` was changed or removed while it was read"),
            "{refused}"
        );
        std::fs::remove_file(&path).unwrap();
        assert!(unchanged(&path, &was).is_err());
    }
}
