//! Answers that are files: rows written on the engine's threads, sent as they come. What the answer promises
//! is done before its last byte: an answer that came to its end is recorded.

use std::future::Future;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use asof_engine::training::TrainingWriter;
use asof_model::{FileFormat, Kind};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{HeaderValue, header};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::Failure;
use crate::rooms::Shared;

/// Bytes that are sent at once.
const CHUNK: usize = 256 << 10;

/// How long the last words of an answer have to be sent.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);

/// Bytes of rows that a query's answer holds before it writes them.
const HELD: usize = 16 << 20;

/// Where a file's bytes go.
pub(crate) type Chunks = mpsc::Sender<Result<Bytes, Failure>>;

/// Runs `work`, which sends the bytes of a file, and answers with them. Nothing is answered before the first
/// bytes or the first error; `ended` is told how it ended, also where the client went away. With
/// `last_words` an answer in lines of JSON that breaks off says why in its last line.
pub(crate) async fn respond<W, E, F>(
    state: &Shared,
    format: FileFormat,
    last_words: bool,
    work: impl FnOnce(Chunks) -> W + Send + 'static,
    ended: F,
) -> Result<Response, Failure>
where
    W: Future<Output = Result<(), Failure>> + Send + 'static,
    E: Future<Output = ()> + Send + 'static,
    F: FnOnce(Result<(), Failure>) -> E + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(4);
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    state.tasks.spawn(async move {
        let outcome = tokio::select! {
            outcome = work(sender.clone()) => outcome,
            () = gone.cancelled() => {
                Err(Failure::new(Kind::Unavailable, "client_gone", "whoever asked went away before the end"))
            }
        };
        ended(outcome.clone()).await;
        if let Err(failure) = outcome {
            // Nobody listens where the client is gone.
            drop(sender.send(Err(failure)).await);
        }
    });
    let first = match receiver.recv().await {
        Some(Err(failure)) => return Err(failure),
        Some(Ok(bytes)) => bytes,
        None => Bytes::new(),
    };
    let last_words = last_words && format == FileFormat::Ndjson;
    let rest = futures::stream::unfold((receiver, guard), |(mut receiver, guard)| async move {
        let next = receiver.recv().await?;
        Some((next, (receiver, guard)))
    });
    let rest = rest.flat_map(move |next| match next {
        Ok(bytes) => futures::stream::iter([Ok(bytes)]).boxed(),
        Err(failure) => {
            let said = last_words.then(|| Ok(failure.line()));
            let broken = async move {
                // What is written and not yet sent goes with the connection: a while to send it.
                if last_words {
                    tokio::time::sleep(LAST_WORDS).await;
                }
                Err(BrokenOff(failure.body.message))
            };
            futures::stream::iter(said).chain(futures::stream::once(broken)).boxed()
        }
    });
    let body = Body::from_stream(futures::stream::iter([Ok(first)]).chain(rest));
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static(match format {
        FileFormat::Parquet => "application/vnd.apache.parquet",
        FileFormat::Csv => "text/csv; charset=utf-8",
        FileFormat::Ndjson => "application/x-ndjson",
        FileFormat::Arrow => "application/vnd.apache.arrow.stream",
    });
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// An answer that ends before its end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BrokenOff(String);

/// Writes batches in a format and sends the bytes.
pub(crate) struct Rows {
    writer: TrainingWriter<Pipe>,
    pipe: Pipe,
    chunks: Chunks,
}

/// Bytes written and not yet sent, in pieces: what grew in one would be copied again and again.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Pieces>>);

#[derive(Default)]
struct Pieces {
    /// To be sent.
    full: Vec<Bytes>,
    /// Less than [`CHUNK`].
    rest: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() >= CHUNK {
            let rest = std::mem::take(&mut pieces.rest);
            pieces.full.extend(Some(Bytes::from(rest)).filter(|rest| !rest.is_empty()));
            pieces.full.push(Bytes::copy_from_slice(bytes));
            return Ok(bytes.len());
        }
        if pieces.rest.is_empty() {
            // Room for all of it: growing would copy it again and again.
            pieces.rest.reserve_exact(2 * CHUNK);
        }
        pieces.rest.extend_from_slice(bytes);
        if pieces.rest.len() >= CHUNK {
            let rest = std::mem::take(&mut pieces.rest);
            pieces.full.push(Bytes::from(rest));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Pipe {
    /// The pieces that are worth sending but for the newest, so that there always is one left to come last.
    fn full(&self) -> Vec<Bytes> {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let but_newest = pieces.full.len().saturating_sub(1);
        pieces.full.drain(..but_newest).collect()
    }

    /// All that is left.
    fn rest(&self) -> Vec<Bytes> {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Pieces { mut full, rest } = std::mem::take(&mut *pieces);
        full.extend(Some(Bytes::from(rest)).filter(|rest| !rest.is_empty()));
        full
    }
}

/// Sends what is worth sending by now; waits while the client does not take it.
async fn send(pipe: &Pipe, to: &Chunks) -> asof_engine::Result<()> {
    for bytes in pipe.full() {
        to.send(Ok(bytes)).await.map_err(|_| asof_engine::Error::internal("nobody takes the answer"))?;
    }
    Ok(())
}

/// Sends an answer's last pieces. Whether anybody still takes them matters to nobody here.
pub(crate) async fn send_last(to: &Chunks, pieces: Vec<Bytes>) {
    for bytes in pieces {
        if to.send(Ok(bytes)).await.is_err() {
            return;
        }
    }
}

impl Rows {
    /// Begins a file, which so many threads encode.
    ///
    /// # Errors
    /// The format cannot hold a column.
    pub(crate) fn new(
        format: FileFormat,
        schema: &SchemaRef,
        chunks: Chunks,
        threads: usize,
    ) -> asof_engine::Result<Rows> {
        let pipe = Pipe::default();
        Ok(Rows { writer: TrainingWriter::new(format, schema, pipe.clone(), threads)?, pipe, chunks })
    }

    /// Writes sooner where rows are large.
    fn holding(mut self, bytes: usize) -> Rows {
        self.writer = self.writer.holding(bytes);
        self
    }

    /// Writes rows; waits while the client does not take what was sent.
    ///
    /// # Errors
    /// They cannot be written, or nobody takes them.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> asof_engine::Result<()> {
        self.writer.write(batch)?;
        send(&self.pipe, &self.chunks).await
    }

    /// Ends the file; its last pieces are given back, to be sent when all else is done: until then an answer
    /// that is small can still be an error.
    ///
    /// # Errors
    /// The end cannot be written, or nobody takes what comes before it.
    pub(crate) async fn finish(self) -> asof_engine::Result<Vec<Bytes>> {
        let Rows { writer, pipe, chunks } = self;
        writer.finish()?;
        send(&pipe, &chunks).await?;
        Ok(pipe.rest())
    }
}

/// Writes a stream of rows as a file.
///
/// # Errors
/// The rows fail, or cannot be written.
pub(crate) async fn write_all(
    format: FileFormat,
    schema: SchemaRef,
    mut rows: impl Stream<Item = asof_engine::Result<RecordBatch>> + Unpin,
    chunks: Chunks,
) -> asof_engine::Result<Vec<Bytes>> {
    // Alone: queries share the machine with what is answered online.
    let mut file = Rows::new(format, &schema, chunks, 1)?.holding(HELD);
    while let Some(batch) = rows.next().await {
        file.write(&batch?).await?;
    }
    file.finish().await
}
