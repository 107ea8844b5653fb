//! Rows that broke a rule of their source, with their reasons, in a Delta table of their own
//! (`docs/formats/stored-source.md`).

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

/// The bad rows of one load. They are committed before the good ones: whoever sees a loaded file sees its
/// quarantined rows too, and a file of which only these are there was never loaded.
pub(crate) struct Quarantine<'a> {
    engine: &'a Engine,
    source: &'a SourceVersion,
    on: OnBadRow,
    family: String,
    file: String,
    hash: String,
    /// Rows of each file, by its hash.
    files: Vec<(String, u64)>,
    waiting: Vec<Row>,
    open: Option<Open>,
}

struct Row {
    file: String,
    hash: String,
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
        family: &str,
        on: OnBadRow,
    ) -> Quarantine<'a> {
        Quarantine {
            engine,
            source,
            on,
            family: family.to_owned(),
            file: String::new(),
            hash: String::new(),
            files: Vec::new(),
            waiting: Vec::new(),
            open: None,
        }
    }

    /// The rows that follow are of this file.
    pub(crate) fn of_file(&mut self, name: &str, hash: &str) {
        name.clone_into(&mut self.file);
        hash.clone_into(&mut self.hash);
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
        let (file, hash) = (self.file.clone(), self.hash.clone());
        match self.files.last_mut() {
            Some((last, rows)) if *last == hash => *rows += 1,
            _ => self.files.push((hash.clone(), 1)),
        }
        self.waiting.push(Row { file, hash, number, reason: reason.to_owned(), content });
        if self.waiting.len() >= BATCH { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.waiting);
        let text = |of: fn(&Row) -> &str| -> Arc<StringArray> {
            Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
        };
        let version = StringArray::from(vec![self.source.id.0.as_str(); rows.len()]);
        let numbers = rows.iter().map(|row| i64::try_from(row.number).unwrap_or(i64::MAX));
        let batch = RecordBatch::try_new(
            schema(),
            vec![
                text(|row| &row.file),
                Arc::new(Int64Array::from_iter_values(numbers)),
                text(|row| &row.reason),
                text(|row| &row.content),
                text(|row| &row.hash),
                Arc::new(version),
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

    /// How many rows of a file are here.
    pub(crate) fn rows_of(&self, hash: &str) -> u64 {
        self.files.iter().filter(|(of, _)| of == hash).map(|(_, rows)| rows).sum()
    }

    /// Makes the rows durable and seen. Once per content, whatever the retries.
    pub(crate) async fn commit(&mut self) -> Result<()> {
        self.flush().await?;
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let adds = open.files.finish_plain().await?;
        // Another family of the source reads the same files by other rules.
        let marker = |hash: &str| format!("{}.{}", file_marker(hash), self.family);
        let mut transactions = Vec::new();
        for (hash, rows) in &self.files {
            transactions.push(Transaction::new(marker(hash), i64::try_from(*rows).unwrap_or(i64::MAX)));
        }
        loop {
            let failed = |e| broken("read the table", &open.folder, e);
            let mut known = 0;
            for transaction in &transactions {
                let state = open.table.snapshot().map_err(failed)?;
                let log = open.table.log_store();
                let found = state.transaction_version(log.as_ref(), &transaction.app_id).await;
                known += usize::from(found.map_err(failed)?.is_some());
            }
            if known == transactions.len() {
                // A load of the same files that was killed between the two commits.
                remove(&open.table, &adds).await;
                return Ok(());
            }
            let about = HashMap::new();
            let (adds, transactions) = (adds.clone(), transactions.clone());
            match commit(&mut open.table, &open.folder, adds, transactions, about).await? {
                Attempt::Done => return Ok(()),
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
