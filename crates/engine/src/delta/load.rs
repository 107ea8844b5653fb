//! Copying a file into a stored source: each content once, all of its rows or none.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use asof_model::{Format, NullKeys, Place as Definition, SourceVersion};
use deltalake_core::DeltaTable;

use super::append::{Committed, DATA_PREFIX, Sizes, Staging};
use super::quarantine::Quarantine;
use super::stored::{Layout, file_marker};
use super::table;
use crate::source::files::{OpenFile, open_one};
use crate::source::find::Found;
use crate::source::options::Options;
use crate::source::rules::{Place, Rules};
use crate::source::{ScanColumns, fixed};
use crate::{Engine, Error, Progress, ProgressEvent, Result};

/// A file to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadFile {
    /// Where it lies now.
    pub path: PathBuf,
    /// What the user calls it, in errors and in the quarantine.
    pub name: String,
    /// Columns that stand in the names of its folders (`key=value`), null where the value is.
    pub partitions: Vec<(String, Option<String>)>,
}

/// What a row does that breaks a rule of its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnBadRow {
    /// It ends the load, and nothing of its file is loaded.
    #[default]
    Stop,
    /// It goes to the source's quarantine table with its reason; the others are loaded.
    Quarantine,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLoad {
    /// The name given.
    pub name: String,
    /// BLAKE3 of its content, 64 hex digits.
    pub hash: String,
    /// A file of the same content was loaded before, so nothing was done.
    pub loaded_before: bool,
    /// How many rows were stored.
    pub rows: u64,
    /// How many rows went to the quarantine.
    pub quarantined: u64,
    /// The first and last position given; none where no row was stored.
    pub positions: Option<(i64, i64)>,
}

/// How many rows are decoded and checked at once.
const BATCH: usize = 8_192;

impl Engine {
    /// Copies a file into the table of a stored source. When this returns, it is durable. `keys`: the
    /// columns that views over the source bind to keys, for `null_keys: refuse`.
    ///
    /// # Errors
    /// [`Error::BadRow`] for the first bad row, unless bad rows go to the quarantine;
    /// [`Error::Invalid`] where the source is not a stored one, or the file's columns are not the
    /// source's; [`Error::Changed`] where the file changed meanwhile. After an error nothing of the file is
    /// loaded.
    pub async fn load_file(
        &self,
        source: &SourceVersion,
        file: &LoadFile,
        on_bad_row: OnBadRow,
        keys: &[String],
        progress: &Progress,
    ) -> Result<FileLoad> {
        let (engine, source, file) = (self.clone(), source.clone(), file.clone());
        let (keys, progress) = (keys.to_vec(), Arc::clone(progress));
        self.run(async move {
            let work = Load { engine: &engine, source: &source, keys: &keys, sizes: Sizes::default() };
            work.file(&file, on_bad_row, &progress).await
        })
        .await
    }

    /// The last position of a stored source; none where nothing was loaded.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Internal`] where its table cannot be read.
    pub async fn position(&self, source: &SourceVersion) -> Result<Option<i64>> {
        super::scan::position(self, source).await
    }
}

/// One load, with all that it needs.
pub(crate) struct Load<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) source: &'a SourceVersion,
    pub(crate) keys: &'a [String],
    pub(crate) sizes: Sizes,
}

impl Load<'_> {
    pub(crate) async fn file(
        &self,
        file: &LoadFile,
        on_bad_row: OnBadRow,
        progress: &Progress,
    ) -> Result<FileLoad> {
        let (format, options) = self.format()?;
        let layout = Layout::of(&self.engine.config().data_dir, self.source)?;
        let found = Found {
            path: file.path.clone(),
            shown: file.name.clone(),
            partitions: if options.hive_partitioning { file.partitions.clone() } else { Vec::new() },
        };
        let opened = self.engine.blocking(move || {
            let opened = open_one(found, format, &options)?;
            let whole = opened.held.identity(None)?;
            Ok((opened, whole))
        });
        let (opened, whole) = opened.await?;
        let hash = whole.hash.clone().unwrap_or_default();
        let before = |rows| FileLoad {
            name: file.name.clone(),
            hash: hash.clone(),
            loaded_before: true,
            rows,
            quarantined: 0,
            positions: None,
        };
        // Held until the commit is durable, so that no other load takes the positions of this one.
        let _lock = table::lock(&layout.folder).await?;
        let properties = layout.properties(self.source);
        let files = self.engine.files();
        let mut table = table::open_or_make(files, &layout.folder, &layout.table, &properties).await?;
        layout.check(&table)?;
        table::remove_leftovers(&table, &layout.folder, DATA_PREFIX).await?;
        if layout.marker(&table, &file_marker(&hash)).await?.is_some() {
            return Ok(before(0));
        }
        self.no_new_columns(&opened)?;
        let mut quarantine = Quarantine::new(self.engine, self.source, &file.name, &hash, &layout.family, on_bad_row);
        let staging = self.stage(&opened, &layout, &table, &mut quarantine, progress).await?;
        // The bytes that were read are the bytes that were hashed.
        let opened = Arc::new(opened);
        self.engine.blocking(move || opened.held.verify(&whole, None)).await?;
        let quarantined = quarantine.commit().await?;
        let rows = staging.rows();
        let about = HashMap::from([
            ("asof.file".to_owned(), serde_json::Value::from(file.name.as_str())),
            ("asof.hash".to_owned(), hash.as_str().into()),
            ("asof.rows".to_owned(), rows.into()),
            ("asof.source_version".to_owned(), self.source.id.0.as_str().into()),
        ]);
        match staging.commit(&mut table, &hash, about).await? {
            Committed::Before => Ok(before(0)),
            Committed::New { first, last } => Ok(FileLoad {
                name: file.name.clone(),
                hash: hash.clone(),
                loaded_before: false,
                rows: u64::try_from(rows).unwrap_or(0),
                quarantined,
                positions: (last >= first).then_some((first, last)),
            }),
        }
    }

    fn format(&self) -> Result<(Format, Options)> {
        let name = &self.source.address.name;
        if !self.source.definition.store {
            return Err(Error::invalid(
                "source_not_stored",
                format!("source `{name}` is read in place, so there is nothing to load"),
            )
            .with_hint("write `store: true` in its definition and apply it, to keep its rows in a table of its own"));
        }
        match &self.source.definition.place {
            Definition::Files { format: Format::Delta, .. } | Definition::Sql { .. } => Err(Error::invalid(
                "source_not_files",
                format!("source `{name}` is not made of files that can be loaded"),
            )
            .with_hint("leave out `store: true`: a Delta table or a query is read in place")),
            Definition::Files { format, options, .. } => Ok((*format, Options::read(*format, options)?)),
        }
    }

    /// Refuses a file with columns that the source has not.
    fn no_new_columns(&self, file: &OpenFile) -> Result<()> {
        let known = |name: &str| self.source.columns.iter().any(|column| column.name == name);
        let new: Vec<String> =
            file.column_names().into_iter().filter(|name| !known(name)).map(|n| format!("`{n}`")).collect();
        if new.is_empty() {
            return Ok(());
        }
        let (noun, they) = if new.len() == 1 { ("column", "it") } else { ("columns", "them") };
        Err(Error::invalid(
            "new_column",
            format!(
                "source `{}`: file `{}` has the {noun} {}, and the source has not",
                self.source.address.name,
                file.shown(),
                new.join(", ")
            ),
        )
        .with_hint(format!(
            "to take {they} in: run `asof apply` (a new version of the source, with a table of its own) and load its files again; else leave {they} out of the file"
        )))
    }

    /// Decodes, checks and stages every row, in the order of the file.
    async fn stage(
        &self,
        file: &OpenFile,
        layout: &Layout,
        table: &DeltaTable,
        quarantine: &mut Quarantine<'_>,
        progress: &Progress,
    ) -> Result<Staging> {
        let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
        let name = self.source.address.name.as_str();
        let rules = Rules::new(
            self.engine,
            name,
            &self.source.definition,
            &self.source.columns,
            &want,
            true,
        )?;
        let mut staging = Staging::begin(layout.clone(), table, self.sizes).await?;
        let mut done = 0;
        let parts = file.parts();
        for (_, part) in parts {
            for batch in file.read(part, &rules, BATCH)? {
                let (before, raw) = batch?;
                done = before + raw.num_rows() as u64;
                match self.checked(&rules, file, &raw, before) {
                    Ok(good) => self.write(&mut staging, &good).await?,
                    Err(bad @ Error::BadRow { .. }) if quarantine.is_off() => return Err(bad),
                    Err(Error::BadRow { .. }) => {
                        self.row_by_row(&rules, file, &raw, before, &mut staging, quarantine).await?;
                    }
                    Err(other) => return Err(other),
                }
                let phase = "load";
                progress(ProgressEvent { phase, done, total: None, unit: "rows" });
            }
        }
        Ok(staging)
    }

    /// A batch of which some row is bad: each row on its own, good ones kept together.
    async fn row_by_row(
        &self,
        rules: &Rules,
        file: &OpenFile,
        raw: &RecordBatch,
        before: u64,
        staging: &mut Staging,
        quarantine: &mut Quarantine<'_>,
    ) -> Result<()> {
        let mut good = 0;
        for row in 0..=raw.num_rows() {
            let bad = if row == raw.num_rows() {
                None
            } else {
                match self.checked(rules, file, &raw.slice(row, 1), before + row as u64) {
                    Ok(_) => continue,
                    Err(Error::BadRow { reason, .. }) => Some(reason),
                    Err(other) => return Err(other),
                }
            };
            if row > good {
                let kept = raw.slice(good, row - good);
                let kept = self.checked(rules, file, &kept, before + good as u64)?;
                self.write(staging, &kept).await?;
            }
            good = row + 1;
            if let Some(reason) = bad {
                quarantine.add(before + row as u64 + 1, &reason, &raw.slice(row, 1)).await?;
            }
        }
        Ok(())
    }

    /// The source's rules, and its keys where null ones are refused.
    fn checked(&self, rules: &Rules, file: &OpenFile, raw: &RecordBatch, before: u64) -> Result<RecordBatch> {
        let place = Place { file: file.shown(), before: Some(before) };
        let checked = rules.apply(raw, place, before)?;
        if self.source.definition.null_keys == NullKeys::Refuse {
            for key in self.keys {
                let Some(column) = checked.column_by_name(key) else { continue };
                if let Some(row) = (0..column.len()).find(|row| column.is_null(*row)) {
                    return Err(Error::BadRow {
                        source_name: self.source.address.name.to_string(),
                        place: format!("{}, row {}", file.shown(), before + row as u64 + 1),
                        reason: format!("key column `{key}` is null, and the source says `null_keys: refuse`"),
                        hint: Some("mend the row, or load with `--on-bad-row quarantine`".to_owned()),
                    });
                }
            }
        }
        Ok(checked)
    }

    async fn write(&self, staging: &mut Staging, checked: &RecordBatch) -> Result<()> {
        let column = |name: &str| -> Result<ArrayRef> {
            let found = checked.column_by_name(name);
            found.cloned().ok_or_else(|| Error::internal(format!("the source's rules lost `{name}`")))
        };
        let columns: Vec<usize> = self
            .source
            .columns
            .iter()
            .map(|column| checked.schema_ref().index_of(&column.name))
            .collect::<Result<_, _>>()?;
        let rows = checked.project(&columns)?;
        let delete = column(fixed::OP)?;
        staging
            .write(&rows, &column(fixed::EVENT_TIME)?, &column(fixed::VISIBLE_AT)?, delete.as_boolean())
            .await
    }
}
