//! Copying a file into a stored source: each content once, all of its rows or none.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use asof_model::{FileIdentity, Format, NullKeys, Place as Definition, SourceVersion};
use serde::Serialize;
use tokio::sync::mpsc;

use super::append::{Committed, DATA_PREFIX, Mark, Sizes, Staging};
use super::durable::Right;
use super::quarantine::Quarantine;
use super::stored::{Layout, file_marker};
use super::table;
use crate::intake::Intake;
use crate::source::files::{Data, OpenFile, Unread, open_one};
use crate::source::find::{self, Found, find};
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

impl LoadFile {
    /// Files for a source that came without their folders, at these places and by these names: the columns
    /// that folders of the names give (`key=value`) are those that they would have where they came from.
    ///
    /// # Errors
    /// [`Error::Invalid`] with code `source_partitions` where the names do not agree on them.
    pub fn uploaded(
        source: &SourceVersion,
        files: impl IntoIterator<Item = (PathBuf, String)>,
    ) -> Result<Vec<LoadFile>> {
        let hive = stored_place(source).is_ok_and(|(_, options)| options.hive_partitioning);
        let columns = |name: &str| if hive { find::partitions(Path::new(name)) } else { Vec::new() };
        let mut found: Vec<Found> = files
            .into_iter()
            .map(|(path, shown)| Found { path, partitions: columns(&shown), shown })
            .collect();
        find::agree("of the upload", &mut found)?;
        let file =
            |found: Found| LoadFile { path: found.path, name: found.shown, partitions: found.partitions };
        Ok(found.into_iter().map(file).collect())
    }
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileLoad {
    /// The name given.
    pub name: String,
    /// BLAKE3 of its content, 64 hex digits.
    pub hash: String,
    /// A file of the same content was loaded before, so nothing was done.
    pub loaded_before: bool,
    /// Rows of it, bad ones too, that a load that was cut off had gone through: [`FileLoad::rows`] are of those behind.
    pub went_on_behind: u64,
    /// How many rows were stored.
    pub rows: u64,
    /// How many rows went to the quarantine.
    pub quarantined: u64,
    /// The first and last position given; none where no row was stored.
    pub positions: Option<(i64, i64)>,
}

/// Gives the version of the source that stands at the moment; none where it was removed.
pub type Standing = Arc<dyn Fn() -> Option<Arc<SourceVersion>> + Send + Sync>;

/// How many rows are decoded and checked at once.
const BATCH: usize = 8_192;

impl Engine {
    /// Copies files into the table of a stored source, in the order of their names: one commit for all of
    /// them, durable when this returns. A file whose content was loaded before is passed over. `keys`: the
    /// columns that views over the source bind to keys, for `null_keys: refuse`. `standing` is asked when no
    /// other load is in the way any more, and again before the commit.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the version that stands has another table by then;
    /// [`Error::BadRow`] for the first bad row, unless bad rows go to the quarantine;
    /// [`Error::Invalid`] where the source is not a stored one, or a file's columns are not the
    /// source's; [`Error::Changed`] where a file changed meanwhile. After an error nothing is loaded.
    pub async fn load(
        &self,
        source: &SourceVersion,
        files: &[LoadFile],
        on_bad_row: OnBadRow,
        keys: &[String],
        standing: &Standing,
        progress: &Progress,
    ) -> Result<Vec<FileLoad>> {
        let (engine, source, files) = (self.clone(), source.clone(), files.to_vec());
        let (keys, standing, progress) = (keys.to_vec(), Arc::clone(standing), Arc::clone(progress));
        let work = async move {
            let sizes = Sizes::default();
            let (keys, standing) = (&keys, &standing);
            let work = Load { engine: &engine, source: &source, keys, intake: None, standing, sizes };
            work.files(files, on_bad_row, &progress).await
        };
        // Dropped, it is cut off at its next step, and waited for by who asks whether all is settled.
        self.run(self.files().track(work)).await
    }

    /// Waits until no load goes on, nor a write that one began before it was dropped: then nothing changes a
    /// stored source until the next load.
    pub async fn settled(&self) {
        self.files().settled().await;
    }

    /// The files that these paths and globs name, to be loaded into a source; where none are named, those of
    /// the source's own path. Relative ones start from `root`.
    ///
    /// # Errors
    /// [`Error::Invalid`] where one names nothing.
    pub async fn files_to_load(
        &self,
        source: &SourceVersion,
        root: &Path,
        patterns: Option<&[String]>,
    ) -> Result<Vec<LoadFile>> {
        let own = match &source.definition.place {
            Definition::Files { path, .. } => path.clone(),
            Definition::Push { .. } if patterns.is_none() => {
                let message =
                    format!("source `{}` is pushed to, and has no files of its own", source.address.name);
                return Err(Error::invalid("source_not_files", message)
                    .with_hint("name the files to be loaded: `asof load SOURCE FILE...`"));
            }
            Definition::Sql { .. } | Definition::Push { .. } => String::new(),
        };
        let patterns = patterns.map_or_else(|| vec![own], <[String]>::to_vec);
        let (root, source) = (root.to_owned(), source.clone());
        self.blocking(move || {
            let mut files: Vec<LoadFile> = Vec::new();
            for pattern in &patterns {
                let (format, options) = loadable(&source, Path::new(pattern))?;
                for found in find(&root, pattern, format, options.hive_partitioning)? {
                    if files.iter().all(|file| file.path != found.path) {
                        files.push(LoadFile {
                            path: found.path,
                            name: found.shown,
                            partitions: found.partitions,
                        });
                    }
                }
            }
            Ok(files)
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

/// Where good rows of a file go, in its order.
pub(crate) enum Sink<'a> {
    /// Into the table of a stored source.
    Table(&'a mut Staging),
    /// To whoever has them accepted: those past so many rows of the file.
    Out { to: &'a mpsc::Sender<LoadedRows>, after: u64 },
}

/// Rows of a file for a push source, found good by its rules.
#[derive(Debug)]
pub struct LoadedRows {
    /// The fixed columns of a scan, then the source's.
    pub rows: RecordBatch,
    /// All rows of the file up to this one, from 1, are in this batch or before it, or were bad.
    pub through: u64,
}

/// A file for a push source that is to be read.
#[derive(Debug, Clone)]
pub struct ReadFile {
    /// Which.
    pub file: LoadFile,
    /// What it was known by when it was looked at ([`Engine::identify`]).
    pub mark: String,
    /// So many of its rows are not asked for.
    pub after: u64,
    /// What a bad row does.
    pub on_bad_row: OnBadRow,
    /// Rows that it would not take in are bad as well.
    pub intake: Option<Arc<Intake>>,
}

/// What a file for a push source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRead {
    /// BLAKE3 of its content, 64 hex digits.
    pub hash: String,
    /// What it is known by: its content, and what its folders say.
    pub mark: String,
    /// How many of its rows are in the source's quarantine.
    pub quarantined: u64,
}

impl Engine {
    /// What a file for a push source is known by. Reads all of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is of no format that can be loaded; [`Error::Io`].
    pub async fn identify(&self, source: &SourceVersion, file: &LoadFile) -> Result<FileRead> {
        let (engine, source, file) = (self.clone(), source.clone(), file.clone());
        let work = async move {
            let standing: Standing = Arc::new(|| None);
            let load = Load {
                engine: &engine,
                source: &source,
                keys: &[],
                intake: None,
                standing: &standing,
                sizes: Sizes::default(),
            };
            let (format, options) = loadable(&source, Path::new(&file.name))?;
            let (_, whole) = load.open(&file, format, &options).await?;
            let hash = whole.hash.unwrap_or_default();
            Ok(FileRead { mark: mark_of(&hash, &file.partitions), hash, quarantined: 0 })
        };
        self.run(work).await
    }

    /// Reads a file for a push source: its rows past so many, checked by the source's rules, go out in its order.
    /// Bad rows end the reading, or go to the source's quarantine, where they are when this returns. Whoever takes
    /// the rows must see this return well before they count: the file may have changed meanwhile.
    ///
    /// # Errors
    /// As [`Engine::load`]; [`Error::Internal`] where nobody takes the rows.
    pub async fn read_file(
        &self,
        source: &SourceVersion,
        read: &ReadFile,
        to: mpsc::Sender<LoadedRows>,
    ) -> Result<FileRead> {
        let (engine, source, read) = (self.clone(), source.clone(), read.clone());
        let work = async move {
            let standing: Standing = Arc::new(|| None);
            let load = Load {
                engine: &engine,
                source: &source,
                keys: &[],
                intake: read.intake.as_deref().map(|intake| (intake, read.after)),
                standing: &standing,
                sizes: Sizes::default(),
            };
            load.read_out(&read, &to).await
        };
        self.run(self.files().track(work)).await
    }
}

/// One load, with all that it needs.
pub(crate) struct Load<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) source: &'a SourceVersion,
    pub(crate) keys: &'a [String],
    /// What takes the rows in, past so many of a file.
    pub(crate) intake: Option<(&'a Intake, u64)>,
    pub(crate) standing: &'a Standing,
    pub(crate) sizes: Sizes,
}

impl Load<'_> {
    /// One file of a push source.
    async fn read_out(&self, read: &ReadFile, to: &mpsc::Sender<LoadedRows>) -> Result<FileRead> {
        let ReadFile { file, after, on_bad_row, .. } = read;
        let (format, options) = loadable(self.source, Path::new(&file.name))?;
        let layout = Layout::of(&self.engine.config().data_dir, self.source)?;
        let rules = self.rules()?;
        let mut quarantine = Quarantine::new(self.engine, self.source, &layout.family, *on_bad_row);
        let (opened, whole) = self.open(file, format, &options).await?;
        let hash = whole.hash.clone().unwrap_or_default();
        let mark = mark_of(&hash, &file.partitions);
        if mark != read.mark {
            return Err(Error::Changed {
                what: "file",
                name: file.name.clone(),
                change: "was changed before it was read".to_owned(),
            });
        }
        self.no_new_columns(&opened).await?;
        quarantine.of_file(&file.name, &hash, &mark).await?;
        let mut sink = Sink::Out { to, after: *after };
        self.stage(&rules, &opened, &mut sink, &mut quarantine, &crate::no_progress()).await?;
        // The bytes that were read are the bytes that were hashed.
        self.engine.blocking(move || opened.held.verify(&whole, None)).await?;
        let quarantined = quarantine.rows_of(&mark);
        quarantine.commit().await?;
        Ok(FileRead { hash, mark, quarantined })
    }

    pub(crate) async fn files(
        &self,
        mut files: Vec<LoadFile>,
        on_bad_row: OnBadRow,
        progress: &Progress,
    ) -> Result<Vec<FileLoad>> {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let (format, options) = stored_place(self.source)?;
        let layout = Layout::of(&self.engine.config().data_dir, self.source)?;
        // Held until the commit is durable, so that no other load takes the positions of this one; by each
        // write of its own as well, since one that was begun goes on where this is dropped.
        let lock: Arc<Right> = Arc::new(table::lock(&layout.folder).await?);
        self.still_counts(&layout)?;
        let properties = layout.properties(self.source);
        let store = self.engine.files().holding(&lock);
        let mut table = table::open_or_make(&store, &layout.folder, &layout.table, &properties).await?;
        layout.check(&table)?;
        // Only a writer without the lock can be first; then all is looked at again.
        loop {
            table::remove_leftovers(&table, &layout.folder, DATA_PREFIX).await?;
            let rules = self.rules()?;
            let mut quarantine = Quarantine::new(self.engine, self.source, &layout.family, on_bad_row);
            let mut staging = Staging::begin(layout.clone(), &table, self.sizes).await?;
            let mut done: Vec<FileLoad> = Vec::new();
            let mut marks: Vec<Mark> = Vec::new();
            for file in &files {
                let (opened, whole) = self.open(file, format, &options).await?;
                let hash = whole.hash.clone().unwrap_or_default();
                let key = mark_of(&hash, &file.partitions);
                let mut report = FileLoad {
                    name: file.name.clone(),
                    hash: hash.clone(),
                    loaded_before: true,
                    went_on_behind: 0,
                    rows: 0,
                    quarantined: 0,
                    positions: None,
                };
                let again = marks.iter().any(|mark| mark.hash == key);
                if again || layout.marker(&table, &file_marker(&key)).await?.is_some() {
                    done.push(report);
                    continue;
                }
                self.no_new_columns(&opened).await?;
                let before = staging.rows();
                quarantine.of_file(&file.name, &hash, &key).await?;
                self.stage(&rules, &opened, &mut Sink::Table(&mut staging), &mut quarantine, progress)
                    .await?;
                // The bytes that were read are the bytes that were hashed.
                self.engine.blocking(move || opened.held.verify(&whole, None)).await?;
                let rows = staging.rows() - before;
                marks.push(Mark { hash: key.clone(), before });
                report.loaded_before = false;
                report.rows = u64::try_from(rows).unwrap_or(0);
                report.quarantined = quarantine.rows_of(&key);
                report.positions = (rows > 0).then_some((before + 1, before + rows));
                done.push(report);
            }
            if marks.is_empty() {
                return Ok(done);
            }
            self.still_counts(&layout)?;
            quarantine.commit().await?;
            let about = self.about(&done);
            if let Committed::After(base) = staging.commit(&mut table, &marks, about).await? {
                for file in &mut done {
                    file.positions = file.positions.map(|(first, last)| (base + first, base + last));
                }
                return Ok(done);
            }
        }
    }

    /// Refuses where the version that stands by now keeps its rows in another table: nobody would see these.
    fn still_counts(&self, layout: &Layout) -> Result<()> {
        let now = (self.standing)();
        let what = match &now {
            None => "was removed",
            Some(now) if !now.definition.store => "is not stored any more",
            Some(now) if Layout::of(&self.engine.config().data_dir, now)?.family != layout.family => {
                "was changed and has another table"
            }
            Some(_) => return Ok(()),
        };
        let name = &self.source.address;
        Err(Error::Conflict {
            code: "source_changed",
            message: format!("source `{name}` {what} since this load was asked for; nothing was loaded"),
            hint: now.is_some_and(|now| now.definition.store).then(|| {
                "load the files again, and those of before as well: the new table begins empty".to_owned()
            }),
        })
    }

    /// What the commit says of itself, for whoever reads the table's history.
    fn about(&self, done: &[FileLoad]) -> HashMap<String, serde_json::Value> {
        let new = done.iter().filter(|file| !file.loaded_before);
        let files: Vec<serde_json::Value> = new
            .map(|file| serde_json::json!({ "name": file.name, "hash": file.hash, "rows": file.rows }))
            .collect();
        HashMap::from([
            ("asof.files".to_owned(), serde_json::Value::from(files)),
            ("asof.source_version".to_owned(), self.source.id.0.as_str().into()),
        ])
    }

    fn rules(&self) -> Result<Rules> {
        let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
        let (name, columns) = (self.source.address.name.as_str(), &self.source.columns);
        Rules::new(self.engine, name, &self.source.definition, columns, &want, true)
    }

    /// A file held open, and what all of its bytes are.
    async fn open(
        &self,
        file: &LoadFile,
        format: Format,
        options: &Options,
    ) -> Result<(OpenFile, FileIdentity)> {
        let found = Found {
            path: file.path.clone(),
            shown: file.name.clone(),
            partitions: if options.hive_partitioning { file.partitions.clone() } else { Vec::new() },
        };
        let options = options.clone();
        self.engine
            .blocking(move || {
                let opened = open_one(found, format, &options)?;
                let whole = opened.held.identity(None)?;
                Ok((opened, whole))
            })
            .await
    }

    /// Refuses a file with columns that the source has not.
    async fn no_new_columns(&self, file: &OpenFile) -> Result<()> {
        /// How many of them are named.
        const NAMED: usize = 8;

        let known: BTreeSet<String> = self.source.columns.iter().map(|column| column.name.clone()).collect();
        let mut new: Vec<String> =
            file.column_names().into_iter().filter(|name| !known.contains(name)).collect();
        if let Data::Ndjson(read) = &file.data {
            let read = read.clone();
            new.extend(self.engine.blocking(move || read.new_keys(&known, NAMED)).await?);
        }
        let (noun, they) = if new.len() == 1 { ("column", "it") } else { ("columns", "them") };
        let more = if new.len() > NAMED { " and more" } else { "" };
        let new: Vec<String> = new.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
        if new.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(
            "new_column",
            format!(
                "source `{}`: file `{}` has the {noun} {}{more}, and the source has not",
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
        rules: &Rules,
        file: &OpenFile,
        sink: &mut Sink<'_>,
        quarantine: &mut Quarantine<'_>,
        progress: &Progress,
    ) -> Result<()> {
        let mut done = 0;
        let parts = file.parts();
        for (_, part) in parts {
            for batch in file.read(part, rules, BATCH)? {
                let (before, raw) = match batch {
                    Ok(read) => read,
                    // A row that is no row: it follows the batch before it, and reading goes on behind it.
                    Err(Unread { error: Error::BadRow { reason, .. }, text: Some(text) })
                        if !quarantine.is_off() =>
                    {
                        done += 1;
                        quarantine.add_text(done, &reason, text.into()).await?;
                        continue;
                    }
                    Err(other) => return Err(other.error),
                };
                done = before + raw.num_rows() as u64;
                match self.checked(rules, file, &raw, before) {
                    Ok(good) => self.take(sink, &good, before).await?,
                    Err(bad @ Error::BadRow { .. }) if quarantine.is_off() => return Err(bad),
                    Err(Error::BadRow { .. }) => {
                        self.row_by_row(rules, file, &raw, before, sink, quarantine).await?;
                    }
                    Err(other) => return Err(other),
                }
                let phase = "load";
                progress(ProgressEvent { phase, done, total: None, unit: "rows" });
            }
        }
        Ok(())
    }

    /// A batch of which some row is bad: each row on its own, good ones kept together.
    async fn row_by_row(
        &self,
        rules: &Rules,
        file: &OpenFile,
        raw: &RecordBatch,
        before: u64,
        sink: &mut Sink<'_>,
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
                self.take(sink, &kept, before + good as u64).await?;
            }
            good = row + 1;
            if let Some(reason) = bad {
                quarantine.add(before + row as u64 + 1, &reason, &raw.slice(row, 1)).await?;
            }
        }
        Ok(())
    }

    /// The source's rules, its keys where null ones are refused, and what takes its rows in.
    fn checked(&self, rules: &Rules, file: &OpenFile, raw: &RecordBatch, before: u64) -> Result<RecordBatch> {
        let place = Place { file: file.shown(), before: Some(before) };
        let checked = rules.apply(raw, place, before)?;
        let bad = |row: usize, reason: String| Error::BadRow {
            source_name: self.source.address.name.to_string(),
            place: format!("{}, row {}", file.shown(), before + row as u64 + 1),
            reason,
            hint: Some("mend the row, or load with `--on-bad-row quarantine`".to_owned()),
        };
        if let Some((intake, after)) = self.intake {
            let rows = checked.num_rows();
            let known = usize::try_from(after.saturating_sub(before)).unwrap_or(rows).min(rows);
            if let Some((row, reason)) = intake.first_bad(&checked.slice(known, rows - known))? {
                return Err(bad(known + row, reason));
            }
        }
        if self.source.definition.null_keys == NullKeys::Refuse {
            for key in self.keys {
                let Some(column) = checked.column_by_name(key) else { continue };
                if let Some(row) = (0..column.len()).find(|row| column.is_null(*row)) {
                    let reason =
                        format!("key column `{key}` is null, and the source says `null_keys: refuse`");
                    return Err(bad(row, reason));
                }
            }
        }
        Ok(checked)
    }

    /// Hands good rows on, before which so many rows of the file stand.
    async fn take(&self, sink: &mut Sink<'_>, checked: &RecordBatch, before: u64) -> Result<()> {
        match sink {
            Sink::Table(staging) => self.write(staging, checked).await,
            Sink::Out { to, after } => {
                let through = before + checked.num_rows() as u64;
                let known = usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX);
                if known >= checked.num_rows() {
                    return Ok(());
                }
                let rows = checked.slice(known, checked.num_rows() - known);
                let sent = to.send(LoadedRows { rows, through }).await;
                sent.map_err(|_| Error::internal("nobody takes the rows of the file"))
            }
        }
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
        let definition = &self.source.definition;
        let mut visible_at = column(fixed::VISIBLE_AT)?;
        if definition.event_time.is_none() && definition.available_at.is_none() {
            // Before all time is no instant that other engines could read.
            visible_at = arrow::array::new_null_array(visible_at.data_type(), visible_at.len());
        }
        staging.write(&rows, &column(fixed::EVENT_TIME)?, &visible_at, delete.as_boolean()).await
    }
}

/// What a file is known by: its content, and the partitions its folders give its rows.
fn mark_of(hash: &str, partitions: &[(String, Option<String>)]) -> String {
    if partitions.is_empty() {
        return hash.to_owned();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(hash.as_bytes());
    for (key, value) in partitions {
        hasher.update(&(key.len() as u64).to_le_bytes()).update(key.as_bytes());
        hasher.update(&[u8::from(value.is_some())]);
        let value = value.as_deref().unwrap_or_default();
        hasher.update(&(value.len() as u64).to_le_bytes()).update(value.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// How a file of this path is read, if a source takes files at all: of a push source by its ending.
fn loadable(source: &SourceVersion, path: &Path) -> Result<(Format, Options)> {
    if !matches!(source.definition.place, Definition::Push { .. }) {
        return stored_place(source);
    }
    let shown = path.to_string_lossy().to_ascii_lowercase();
    let formats = Format::ALL.into_iter().filter(|format| *format != Format::Delta);
    let found = formats.into_iter().find(|format| format.endings().iter().any(|end| shown.ends_with(end)));
    let Some(format) = found else {
        let message = format!(
            "source `{}`: file `{}` does not end as a format that can be loaded",
            source.address.name,
            path.display()
        );
        return Err(Error::invalid("source_not_files", message)
            .with_hint("name Parquet, CSV or NDJSON files that end so: .parquet, .csv, .ndjson"));
    };
    Ok((format, Options::read(format, &std::collections::BTreeMap::new())?))
}

/// How the files of a stored source are read, if they can be loaded at all.
fn stored_place(source: &SourceVersion) -> Result<(Format, Options)> {
    let name = &source.address.name;
    if !source.definition.store {
        return Err(Error::invalid(
            "source_not_stored",
            format!("source `{name}` is read in place, so there is nothing to load"),
        )
        .with_hint(
            "write `store: true` in its definition and apply it, to keep its rows in a table of its own",
        ));
    }
    match &source.definition.place {
        Definition::Files { format: Format::Delta, .. }
        | Definition::Sql { .. }
        | Definition::Push { .. } => Err(Error::invalid(
            "source_not_files",
            format!("source `{name}` is not made of files that can be loaded"),
        )
        .with_hint("leave out `store: true`: a Delta table or a query is read in place")),
        Definition::Files { format, options, .. } => Ok((*format, Options::read(*format, options)?)),
    }
}
