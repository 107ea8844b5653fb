//! Rows that broke a rule of their source, with their reasons, in a Delta table of their own
//! (`docs/formats/quarantine.md`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use asof_model::SourceVersion;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::Transaction;

use super::append::{Attempt, DATA_PREFIX, Files, Sizes, commit, remove};
use super::load::OnBadRow;
use super::stored::{file_marker, source_folder};
use super::table::{self, broken};
use crate::{Engine, Error, Result};

/// How many rows are gathered before they are written.
const BATCH: usize = 1_024;

/// The bad rows of one file. They are committed before the good ones: whoever sees a loaded file sees its
/// quarantined rows too, and a file of which only these are there was never loaded.
pub(crate) struct Quarantine<'a> {
    engine: &'a Engine,
    source: &'a SourceVersion,
    on: OnBadRow,
    file: String,
    hash: String,
    family: String,
    waiting: Vec<Row>,
    open: Option<Open>,
    rows: u64,
}

struct Row {
    number: u64,
    reason: String,
    content: String,
}

struct Open {
    table: DeltaTable,
    folder: PathBuf,
    files: Files,
    _lock: table::Lock,
}

/// The folder of a source's quarantine.
pub(crate) fn folder(engine: &Engine, source: &SourceVersion) -> PathBuf {
    source_folder(&engine.config().data_dir, source).join("quarantine")
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        text("file"),
        Field::new("row", DataType::Int64, true),
        text("reason"),
        text("content"),
        text("file_hash"),
        text("source_version"),
    ]))
}

impl<'a> Quarantine<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        source: &'a SourceVersion,
        file: &str,
        hash: &str,
        family: &str,
        on: OnBadRow,
    ) -> Quarantine<'a> {
        Quarantine {
            engine,
            source,
            on,
            file: file.to_owned(),
            hash: hash.to_owned(),
            family: family.to_owned(),
            waiting: Vec::new(),
            open: None,
            rows: 0,
        }
    }

    /// True where a bad row ends the load.
    pub(crate) fn is_off(&self) -> bool {
        self.on == OnBadRow::Stop
    }

    /// Takes in one row: its number within the file, counted from 1, and its cells as they were read.
    pub(crate) async fn add(&mut self, number: u64, reason: &str, raw: &RecordBatch) -> Result<()> {
        let mut text = Vec::new();
        let mut writer = arrow::json::WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, arrow::json::writer::LineDelimited>(&mut text);
        writer.write(raw)?;
        writer.finish()?;
        let content = String::from_utf8_lossy(&text).trim_end().to_owned();
        self.add_text(number, reason, content).await
    }

    /// Takes in one row that could not even be read as cells.
    pub(crate) async fn add_text(&mut self, number: u64, reason: &str, content: String) -> Result<()> {
        self.waiting.push(Row { number, reason: reason.to_owned(), content });
        self.rows += 1;
        if self.waiting.len() >= BATCH { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.waiting);
        let same = |text: &str| -> Arc<StringArray> { Arc::new(StringArray::from(vec![text; rows.len()])) };
        let numbers = rows.iter().map(|row| i64::try_from(row.number).unwrap_or(i64::MAX));
        let batch = RecordBatch::try_new(
            schema(),
            vec![
                same(&self.file),
                Arc::new(Int64Array::from_iter_values(numbers)),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.reason))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.content))),
                same(&self.hash),
                same(&self.source.id.0),
            ],
        )?;
        if self.open.is_none() {
            self.open = Some(begin(self.engine, self.source).await?);
        }
        match &mut self.open {
            Some(open) => open.files.write(&batch).await,
            None => Err(Error::internal("a quarantine closed itself")),
        }
    }

    /// Makes the rows durable and seen; how many there are. Once per content, whatever the retries.
    pub(crate) async fn commit(mut self) -> Result<u64> {
        self.flush().await?;
        let Some(mut open) = self.open.take() else { return Ok(0) };
        let adds = open.files.finish_plain().await?;
        // Another family of the source reads the same file by other rules.
        let marker = format!("{}.{}", file_marker(&self.hash), self.family);
        let rows = i64::try_from(self.rows).unwrap_or(i64::MAX);
        loop {
            let known = {
                let failed = |e| broken("read the table", &open.folder, e);
                let state = open.table.snapshot().map_err(failed)?;
                let log = open.table.log_store();
                state.transaction_version(log.as_ref(), &marker).await.map_err(failed)?
            };
            if known.is_some() {
                // A load that was killed between the two commits.
                remove(&open.table, &adds).await;
                return Ok(self.rows);
            }
            let transactions = vec![Transaction::new(&marker, rows)];
            let about = HashMap::from([("asof.file".to_owned(), self.file.as_str().into())]);
            match commit(&mut open.table, &open.folder, adds.clone(), transactions, about).await? {
                Attempt::Done => return Ok(self.rows),
                Attempt::LookAgain => {}
            }
        }
    }
}

async fn begin(engine: &Engine, source: &SourceVersion) -> Result<Open> {
    let folder = folder(engine, source);
    let lock = table::lock(&folder).await?;
    let properties = [
        ("asof.format", "1".to_owned()),
        ("asof.source", source.address.to_string()),
        // A row's content is a user's: it has no statistics in the log.
        ("delta.dataSkippingStatsColumns", "row".to_owned()),
    ];
    let table = table::open_or_make(engine.files(), &folder, &schema(), &properties).await?;
    table::remove_leftovers(&table, &folder, DATA_PREFIX).await?;
    let files = Files::new(&table, schema(), &folder, Sizes::default());
    Ok(Open { table, folder, files, _lock: lock })
}
