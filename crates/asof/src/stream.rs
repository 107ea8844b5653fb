//! Answers that are files: copied as they come, or read as Arrow for a table.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use asof_server::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::client::broken;
use crate::printer::Printer;
use crate::problem::Problem;
use asof_model::Kind;

/// The next bytes of a body.
///
/// # Errors
/// It broke off.
pub(crate) async fn next(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(_) => continue,
            },
            Some(Err(error)) => return Err(broken(error.as_ref())),
        }
    }
}

/// Copies a body to stdout.
///
/// # Errors
/// It broke off.
pub(crate) async fn copy_to_stdout(printer: Printer, mut body: Body) -> Result<(), Problem> {
    while let Some(bytes) = next(&mut body).await? {
        printer.bytes(&bytes);
    }
    Ok(())
}

/// Bytes of a file that are left to the system's own time to write them, at most.
const SYNCED_AT_ONCE: usize = 8 << 20;

/// Bytes that are written at once: for longer writes the system caches the file in large stretches of memory
/// that nothing has used lately, which costs up to eight times as much.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Pieces that wait to be written, of about a megabyte.
const WAITING: usize = 16;

/// A file that appears under its name only when it is whole.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    aside: PathBuf,
    kept: bool,
}

impl NewFile {
    /// To be written beside `path`.
    pub(crate) fn new(path: &Path) -> NewFile {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!(".{name}.{}{PARTIAL}", std::process::id()));
        remove_left(path, &format!(".{name}."));
        NewFile { path: path.to_owned(), aside, kept: false }
    }

    /// Writes a whole body to it.
    ///
    /// # Errors
    /// The body broke off, or the disk failed; then nothing stands under the name.
    pub(crate) async fn write(&self, mut body: Body) -> Result<(), Problem> {
        let failed = |error: std::io::Error| Problem::file("write", &self.path, &error);
        let mut file = std::fs::File::create(&self.aside).map_err(failed)?;
        let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING);
        // What is written reaches the disk while what comes next is made.
        let written = spawn_blocking(move || {
            let mut unsynced = 0;
            while let Some(bytes) = receiver.blocking_recv() {
                bytes.chunks(WRITTEN_AT_ONCE).try_for_each(|part| file.write_all(part))?;
                unsynced += bytes.len();
                if unsynced >= SYNCED_AT_ONCE {
                    unsynced = 0;
                    file.sync_data()?;
                }
            }
            file.sync_all()
        });
        let mut broken = Ok(());
        loop {
            match next(&mut body).await {
                Ok(Some(bytes)) => {
                    if sender.send(bytes).await.is_err() {
                        // Writing has failed, and says why below.
                        break;
                    }
                }
                Ok(None) => break,
                Err(problem) => {
                    broken = Err(problem);
                    break;
                }
            }
        }
        drop(sender);
        let written = written.await.unwrap_or_else(|lost| Err(lost.into())).map_err(failed);
        broken.and(written)
    }

    /// Lets it stand under its name.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn keep(mut self) -> Result<(), Problem> {
        let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::rename(&self.aside, &self.path)
            .and_then(|()| std::fs::File::open(folder)?.sync_all())
            .map_err(|error| Problem::file("write", &self.path, &error))?;
        self.kept = true;
        Ok(())
    }
}

/// How the names of files end that are being written.
const PARTIAL: &str = ".partial";

/// Removes what processes that were ended left of the same file. One that cannot be removed is in nobody's way.
fn remove_left(path: &Path, begins: &str) {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(begins)?.strip_suffix(PARTIAL));
        let Some(process) = process.and_then(|process| process.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(process.to_string()).exists() && Path::new("/proc/self").exists() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.aside)
        {
            tracing::debug!(%error, "no partial file to remove");
        }
    }
}

/// Reads an Arrow stream, keeping the first rows and counting all.
#[derive(Debug)]
pub(crate) struct ArrowReader {
    decoder: StreamDecoder,
    most: usize,
    kept: usize,
    /// The first batches, cut to the rows wanted.
    pub first: Vec<RecordBatch>,
    /// All rows that came.
    pub rows: u64,
}

impl ArrowReader {
    /// Keeps the first `most` rows.
    pub(crate) fn new(most: usize) -> ArrowReader {
        ArrowReader { decoder: StreamDecoder::new(), most, kept: 0, first: Vec::new(), rows: 0 }
    }

    /// Reads a body to its end and keeps its bytes in a file, which appears when it is whole.
    ///
    /// # Errors
    /// It broke off or is no Arrow stream, or the disk failed.
    pub(crate) async fn read_and_keep(&mut self, body: Body, path: &Path) -> Result<(), Problem> {
        let file = NewFile::new(path);
        let failed = |error: std::io::Error| Problem::file("write", path, &error);
        let mut copy = tokio::fs::File::create(&file.aside).await.map_err(failed)?;
        self.read_through(body, Some(&mut copy)).await?;
        copy.sync_all().await.map_err(failed)?;
        file.keep()
    }

    /// Reads a body to its end.
    ///
    /// # Errors
    /// It broke off or is no Arrow stream.
    pub(crate) async fn read(&mut self, body: Body) -> Result<(), Problem> {
        self.read_through(body, None).await
    }

    async fn read_through(
        &mut self,
        mut body: Body,
        mut copy: Option<&mut tokio::fs::File>,
    ) -> Result<(), Problem> {
        let bad = |error: arrow::error::ArrowError| {
            Problem::new(
                Kind::Internal,
                "bad_answer",
                format!("the answer of the server is no Arrow stream: {error}"),
            )
        };
        while let Some(bytes) = next(&mut body).await? {
            if let Some(copy) = &mut copy {
                let written = copy.write_all(&bytes).await;
                written.map_err(|error| {
                    Problem::new(Kind::Unavailable, "file_unusable", format!("cannot write: {error}"))
                })?;
            }
            let mut buffer = Buffer::from(bytes);
            while !buffer.is_empty() {
                if let Some(batch) = self.decoder.decode(&mut buffer).map_err(bad)? {
                    self.take(batch);
                }
            }
        }
        if let Some(copy) = copy {
            let flushed = copy.flush().await;
            flushed.map_err(|error| {
                Problem::new(Kind::Unavailable, "file_unusable", format!("cannot write: {error}"))
            })?;
        }
        if self.first.is_empty()
            && let Some(schema) = self.schema()
        {
            self.first.push(RecordBatch::new_empty(schema));
        }
        self.decoder.finish().map_err(bad)
    }

    fn take(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows() as u64;
        if self.kept < self.most {
            let rows = batch.num_rows().min(self.most - self.kept);
            self.kept += rows;
            self.first.push(batch.slice(0, rows));
        }
    }

    fn schema(&self) -> Option<SchemaRef> {
        self.decoder.schema()
    }
}
