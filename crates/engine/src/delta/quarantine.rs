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
use super::durable::Right;
use super::load::OnBadRow;
use super::stored::{file_marker, source_folder};
use super::table::{self, broken};
use crate::{Engine, Error, Result};

/// How many rows are gathered before they are written, and how many bytes of them.
const BATCH: usize = 1_024;
const BATCH_BYTES: usize = 16 << 20;

/// The bad rows of one load. They are committed before the good ones: whoever sees a loaded file sees its
/// quarantined rows too, and a file of which only these are there was never loaded.
pub(crate) struct Quarantine<'a> {
    engine: &'a Engine,
    source: &'a SourceVersion,
    on: OnBadRow,
    family: String,
    file: String,
    hash: String,
    mark: String,
    /// The rows of this file are here already: of a load that was killed between the two commits.
    here: bool,
    /// Each file's rows by its mark, and whether they were here already.
    files: Vec<(String, u64, bool)>,
    waiting: Vec<Row>,
    waiting_bytes: usize,
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
    _lock: Arc<Right>,
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
            mark: String::new(),
            here: false,
            files: Vec::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            open: None,
        }
    }

    /// The rows that follow are of this file: its name, the hash of its content, its mark.
    pub(crate) async fn of_file(&mut self, name: &str, hash: &str, mark: &str) -> Result<()> {
        name.clone_into(&mut self.file);
        hash.clone_into(&mut self.hash);
        mark.clone_into(&mut self.mark);
        // Nothing of a writer may be held while the table is asked.
        let (engine, source, marker) = (self.engine, self.source, self.marker(mark));
        let opened = self.open.as_ref().map(|open| open.table.clone());
        self.here = !self.is_off() && is_here(engine, source, opened, &marker).await?;
        Ok(())
    }

    /// Another family of the source reads the same files by other rules.
    fn marker(&self, mark: &str) -> String {
        format!("{}.{}", file_marker(mark), self.family)
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
            Some((last, rows, _)) if *last == self.mark => *rows += 1,
            _ => self.files.push((self.mark.clone(), 1, self.here)),
        }
        if self.here {
            return Ok(());
        }
        self.waiting_bytes += content.len();
        self.waiting.push(Row { file, hash, number, reason: reason.to_owned(), content });
        if self.waiting.len() >= BATCH || self.waiting_bytes >= BATCH_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
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
    pub(crate) fn rows_of(&self, mark: &str) -> u64 {
        self.files.iter().filter(|(of, ..)| of == mark).map(|(_, rows, _)| rows).sum()
    }

    /// Makes the rows durable and seen. Once per content, whatever the retries.
    pub(crate) async fn commit(&mut self) -> Result<()> {
        self.flush().await?;
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let adds = open.files.finish_plain().await?;
        let mut transactions = Vec::new();
        for (mark, rows, _) in self.files.iter().filter(|(_, _, here)| !here) {
            let rows = i64::try_from(*rows).unwrap_or(i64::MAX);
            transactions.push(Transaction::new(self.marker(mark), rows));
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

/// Whether the quarantine has the rows of the file that this marks.
async fn is_here(
    engine: &Engine,
    source: &SourceVersion,
    opened: Option<DeltaTable>,
    marker: &str,
) -> Result<bool> {
    let folder = folder(engine, source);
    let table = match opened {
        Some(table) => Some(table),
        None => table::open(engine.files(), &folder).await?,
    };
    let Some(table) = table else { return Ok(false) };
    let failed = |e| broken("read the table", &folder, e);
    let log = table.log_store();
    let found = table.snapshot().map_err(failed)?.transaction_version(log.as_ref(), marker).await;
    Ok(found.map_err(failed)?.is_some())
}

async fn begin(engine: &Engine, source: &SourceVersion) -> Result<Open> {
    let folder = folder(engine, source);
    let lock: Arc<Right> = Arc::new(table::lock(&folder).await?);
    let properties = [
        ("asof.format", "1".to_owned()),
        ("asof.source", source.address.to_string()),
        // A row's content is a user's: it has no statistics in the log.
        ("delta.dataSkippingStatsColumns", "row".to_owned()),
    ];
    let store = engine.files().holding(&lock);
    let table = table::open_or_make(&store, &folder, &schema(), &properties).await?;
    table::remove_leftovers(&table, &folder, DATA_PREFIX).await?;
    let files = Files::new(&table, schema(), &folder, Sizes::default());
    Ok(Open { table, folder, files, _lock: lock })
}
