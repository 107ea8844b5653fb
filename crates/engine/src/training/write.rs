//! Writing a training set to a file or a stream, batch by batch.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, PrimitiveArray, RecordBatch, StringArray};
use arrow::compute::BatchCoalescer;
use arrow::csv::{Writer as CsvWriter, WriterBuilder};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, Field, FieldRef, Float32Type, Float64Type, Schema, SchemaRef,
};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{Encoder, EncoderFactory, LineDelimited, NullableEncoder, Writer as JsonWriter};
use arrow::json::{EncoderOptions, WriterBuilder as JsonWriterBuilder};
use asof_model::{FileFormat, float_text, float32_text, special_float};
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
    /// Bytes of rows that wait to be written, and at how many they are.
    waiting: usize,
    most: usize,
}

enum Sink<W: Write + Send> {
    Parquet(ParquetFile<W>),
    Csv(Box<CsvWriter<W>>, bool),
    Ndjson(Box<JsonWriter<W, LineDelimited>>),
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
            FileFormat::Ndjson => {
                let floats = JsonWriterBuilder::new().with_encoder_factory(Arc::new(Floats));
                Sink::Ndjson(Box::new(floats.build(to)))
            }
            FileFormat::Arrow => Sink::Arrow(Box::new(StreamWriter::try_new(to, schema)?)),
        };
        let coalescer = BatchCoalescer::new(Arc::clone(schema), BATCH);
        Ok(TrainingWriter { coalescer, sink, waiting: 0, most: usize::MAX })
    }

    /// Holds about so many bytes of rows at most before it writes them: for rows whose bytes need not be the
    /// same each time, such as a query's.
    #[must_use]
    pub fn holding(mut self, bytes: usize) -> TrainingWriter<W> {
        self.most = bytes;
        self
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
        self.drain()?;
        if self.most == usize::MAX {
            return Ok(());
        }
        self.waiting = self.waiting.saturating_add(bytes_of(batch));
        if self.waiting >= self.most {
            self.waiting = 0;
            self.coalescer.finish_buffered_batch()?;
            self.drain()?;
        }
        Ok(())
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
                writer.write(&with_texts(batch)?).map_err(|e| failed(&e))
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
                    writer.write(&with_texts(&none)?).map_err(|e| failed(&e))?;
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

/// Bytes of the batch's own rows, where its columns may be parts of larger ones.
pub(super) fn bytes_of(batch: &RecordBatch) -> usize {
    let size = |array: &ArrayRef| {
        array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size())
    };
    batch.columns().iter().map(size).sum()
}

/// The batch with its floats as texts: CSV has no other way to say how they are written.
fn with_texts(batch: &RecordBatch) -> Result<RecordBatch> {
    if !batch.columns().iter().any(|array| array.data_type().is_floating()) {
        return Ok(batch.clone());
    }
    let schema = batch.schema();
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| {
            let texts = match array.data_type() {
                ArrowType::Float64 => texts(array.as_primitive::<Float64Type>(), float_text),
                ArrowType::Float32 => texts(array.as_primitive::<Float32Type>(), float32_text),
                _ => Arc::clone(array),
            };
            (Field::new(field.name(), texts.data_type().clone(), true), texts)
        })
        .unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn texts<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, text: fn(T::Native) -> String) -> ArrayRef {
    Arc::new(array.iter().map(|value| value.map(text)).collect::<StringArray>())
}

/// Floats in JSON as everywhere: what JSON has no number for is a string.
#[derive(Debug)]
struct Floats;

impl EncoderFactory for Floats {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> std::result::Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            ArrowType::Float64 => {
                Box::new(FloatTexts { array: array.as_primitive::<Float64Type>(), text: float_text })
            }
            ArrowType::Float32 => {
                Box::new(FloatTexts { array: array.as_primitive::<Float32Type>(), text: float32_text })
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct FloatTexts<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    text: fn(T::Native) -> String,
}

impl<T: ArrowPrimitiveType> Encoder for FloatTexts<'_, T>
where
    f64: From<T::Native>,
{
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.array.value(row);
        let quote: &[u8] = if special_float(f64::from(value)).is_some() { b"\"" } else { b"" };
        out.extend_from_slice(quote);
        out.extend_from_slice((self.text)(value).as_bytes());
        out.extend_from_slice(quote);
    }
}
