//! Writing a training set to a file or a stream, batch by batch.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::csv::{Writer as CsvWriter, WriterBuilder};
use arrow::datatypes::{DataType as ArrowType, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use arrow::json::LineDelimitedWriter;
use asof_model::FileFormat;
use parquet::errors::ParquetError;

use super::parquet_file::ParquetFile;
use crate::{Error, Result};

/// Rows that are written at once, whatever batches come: so equal rows make equal bytes. An array of text
/// has room for 2 GiB, 256 KiB a row.
const BATCH: usize = 8_192;

/// Writes batches of one schema in one of the formats. The same rows give the same bytes, whatever
/// batches they come in, with one version of the program.
pub struct TrainingWriter<W: Write + Send> {
    coalescer: BatchCoalescer,
    sink: Sink<W>,
}

enum Sink<W: Write + Send> {
    Parquet(ParquetFile<W>),
    Csv(Box<CsvWriter<W>>, bool),
    Ndjson(Box<LineDelimitedWriter<W>>),
    Arrow(Box<StreamWriter<W>>),
}

impl<W: Write + Send> std::fmt::Debug for TrainingWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainingWriter").finish_non_exhaustive()
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::Io { doing: "write the training set to", path: "its output".to_owned(), reason: error.to_string() }
}

fn parquet_failed(error: ParquetError) -> Error {
    failed(&error)
}

impl<W: Write + Send> TrainingWriter<W> {
    /// Begins a file, which so many threads encode where the format lets them.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the format cannot hold a column: CSV has no lists and structs.
    pub fn new(format: FileFormat, schema: &SchemaRef, to: W, threads: usize) -> Result<TrainingWriter<W>> {
        let sink = match format {
            FileFormat::Parquet => Sink::Parquet(ParquetFile::new(schema, to, threads)),
            FileFormat::Csv => {
                for field in schema.fields() {
                    if field.data_type().is_nested()
                        && !matches!(field.data_type(), ArrowType::Dictionary(..))
                    {
                        let message = format!(
                            "CSV cannot hold column `{}` of type {}",
                            field.name(),
                            field.data_type()
                        );
                        return Err(Error::invalid("csv_nested", message)
                            .with_hint("write Parquet or Arrow: --out train.parquet"));
                    }
                }
                Sink::Csv(Box::new(WriterBuilder::new().with_header(true).build(to)), false)
            }
            FileFormat::Ndjson => Sink::Ndjson(Box::new(LineDelimitedWriter::new(to))),
            FileFormat::Arrow => Sink::Arrow(Box::new(StreamWriter::try_new(to, schema)?)),
        };
        Ok(TrainingWriter { coalescer: BatchCoalescer::new(Arc::clone(schema), BATCH), sink })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`Error::Io`] where they cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut from = 0;
        if self.coalescer.get_buffered_rows() == 0 {
            // Whole pieces are not copied.
            while batch.num_rows() - from >= BATCH {
                self.put(&batch.slice(from, BATCH))?;
                from += BATCH;
            }
        }
        if from < batch.num_rows() {
            self.coalescer.push_batch(batch.slice(from, batch.num_rows() - from))?;
        }
        self.drain()
    }

    fn drain(&mut self) -> Result<()> {
        while let Some(batch) = self.coalescer.next_completed_batch() {
            self.put(&batch)?;
        }
        Ok(())
    }

    fn put(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.sink {
            Sink::Parquet(writer) => writer.write(batch).map_err(parquet_failed),
            Sink::Csv(writer, begun) => {
                *begun = true;
                writer.write(batch).map_err(|e| failed(&e))
            }
            Sink::Ndjson(writer) => writer.write(batch).map_err(|e| failed(&e)),
            Sink::Arrow(writer) => writer.write(batch).map_err(|e| failed(&e)),
        }
    }

    /// Ends the file; gives back what it was written to.
    ///
    /// # Errors
    /// [`Error::Io`] where the end cannot be written.
    pub fn finish(mut self) -> Result<W> {
        self.coalescer.finish_buffered_batch()?;
        self.drain()?;
        match self.sink {
            Sink::Parquet(writer) => writer.finish().map_err(parquet_failed),
            Sink::Csv(mut writer, begun) => {
                if !begun {
                    // The header alone.
                    let none = RecordBatch::new_empty(self.coalescer.schema());
                    writer.write(&none).map_err(|e| failed(&e))?;
                }
                Ok(writer.into_inner())
            }
            Sink::Ndjson(mut writer) => {
                writer.finish().map_err(|e| failed(&e))?;
                Ok(writer.into_inner())
            }
            Sink::Arrow(mut writer) => {
                writer.finish().map_err(|e| failed(&e))?;
                writer.into_inner().map_err(|e| failed(&e))
            }
        }
    }
}
