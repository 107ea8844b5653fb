//! A view's rows, evaluated, to be materialised: unit by unit, so that whoever keeps them can say
//! after each what was read, and read on from there.
//!
//! Files read in place are a unit each, known by their identity. A stored source is one unit that
//! grows, known by its position; a Delta table of another engine is one that grows as long as files are
//! only appended to it, known by its version. A query is one unit, known by the cuts of its sources, and
//! read anew as a whole where one of them is another. So is a source with ids, whatever it is, where anything is new: it
//! may end any row that was read before. [`units`] says what is new.
//!
//! Here: the view's `where`, its keys, its expressions over each row, and of a source with ids when each row ends. Not
//! here: which rows win.

mod evaluate;
mod progress;
mod sample;
mod units;

use std::sync::Arc;

use asof_compute::Position;
use asof_model::{Catalog, FileIdentity, Format, Place, SourceVersion, ViewVersion};
use datafusion::physical_plan::ExecutionPlan;
use tokio::sync::mpsc;

pub use evaluate::{EvaluatedRows, ViewColumns};
pub use progress::ViewProgress;
pub use sample::Sampled;
pub(crate) use sample::has_rows;

use self::evaluate::Counted;
pub(crate) use self::evaluate::{Evaluated, Evaluator, Incoming, Ready, column, compute, instant};
use self::progress::Seen;
use self::units::{Became, New};
use crate::point_in_time::ends_of;
use crate::source::exec::FilesExec;
use crate::source::find::{Found, find};
use crate::source::opened::{self, root};
use crate::source::options::Options;
use crate::source::rules::{FileRules, Rules};
use crate::source::{Opened, ScanColumns, SourceScan, files};
use crate::{Engine, Error, Result};

/// What is to be read of a view's source.
#[derive(Debug)]
pub struct ViewRows {
    engine: Engine,
    source: Arc<SourceVersion>,
    evaluator: Arc<Evaluator>,
    units: Vec<Unit>,
    changed: Option<String>,
    new_rows: Option<u64>,
    until: Option<i64>,
}

/// A part of a source that is read as a whole.
#[derive(Debug)]
pub struct Unit {
    name: String,
    stamp: String,
    rows: Option<u64>,
    reads: Reads,
}

#[derive(Debug)]
enum Reads {
    File(Found),
    Scan(Scan),
}

#[derive(Debug, Clone)]
struct Scan {
    scan: Arc<SourceScan>,
    /// The position after which its rows are new.
    after: Option<i64>,
    /// Of a source with ids: the same snapshot, to be asked for the rows that end.
    versions: Option<Opened>,
}

/// What a unit came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitRead {
    /// What to say of it in [`ViewProgress`].
    pub seen: Vec<u8>,
    /// Rows read, whatever became of them.
    pub rows: u64,
    /// Rows that belong to no entity, a key being null.
    pub null_keys: u64,
    /// Rows that are never visible.
    pub never_known: u64,
}

impl Unit {
    /// Its name within the source: the key of [`ViewProgress`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells its content from any other without reading it: a reading that was cut off may be
    /// begun again over what it left exactly where the stamp is still the same.
    pub fn stamp(&self) -> &str {
        &self.stamp
    }

    /// How many rows it has, where that is known without reading it.
    pub fn rows(&self) -> Option<u64> {
        self.rows
    }
}

impl ViewRows {
    /// The units to be read, in order. None: nothing is new.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// A unit read before that is no longer what it was, or no longer there: what was kept of the view
    /// is to be made anew from nothing. The units are then all there are.
    pub fn changed(&self) -> Option<&str> {
        self.changed.as_deref()
    }

    /// Where all is read because something is new: how many rows are, where that is known without reading.
    pub fn new_rows(&self) -> Option<u64> {
        self.new_rows
    }

    /// Without the rows past a position, which come to whoever keeps them as they are pushed.
    pub fn until(self, position: Position) -> ViewRows {
        ViewRows { until: Some(position.0), ..self }
    }

    /// Reads a unit into `to`, on the engine's own threads, as fast as it is taken.
    ///
    /// # Errors
    /// Where the source cannot be read, changed meanwhile, or an expression fails on a row; then what
    /// was sent is worth nothing. [`Error::Internal`] where nobody takes the rows.
    pub async fn read(&self, unit: &Unit, to: mpsc::Sender<EvaluatedRows>) -> Result<UnitRead> {
        let (engine, evaluator) = (self.engine.clone(), Arc::clone(&self.evaluator));
        match &unit.reads {
            Reads::Scan(Scan { scan, after, versions }) => {
                let (scan, after, versions) = (Arc::clone(scan), *after, versions.clone());
                let (source, until) = (Arc::clone(&self.source), self.until);
                self.engine
                    .run(async move {
                        let ends = match &versions {
                            Some(opened) => {
                                let (windows, memory) = (evaluator.is_window(), engine.config().memory);
                                ends_of(&engine, &source, opened, windows, memory, None).await?
                            }
                            None => None,
                        };
                        let counted = Counted { after, until, ends: ends.as_deref() };
                        let mut read = evaluator.read(&engine, Arc::clone(&scan.plan), counted, &to).await?;
                        let checked = Arc::clone(&scan);
                        engine.blocking(move || checked.verify()).await?;
                        read.seen = Seen::of_cut(scan.identity.clone()).to_bytes()?;
                        Ok(read)
                    })
                    .await
            }
            Reads::File(found) => {
                let (found, source) = (found.clone(), Arc::clone(&self.source));
                let stamp = unit.stamp.clone();
                self.engine
                    .run(async move {
                        let (plan, file) = open_file(&engine, &source, found).await?;
                        if let Some(file) = file.first().filter(|file| stamp_of(file.identity()) != stamp) {
                            return Err(Error::Changed {
                                what: "file",
                                name: file.shown().to_owned(),
                                change: "was changed before it was read".to_owned(),
                            });
                        }
                        let mut read = evaluator.read(&engine, plan, Counted::default(), &to).await?;
                        let checked = Arc::clone(&file);
                        engine.blocking(move || checked.iter().try_for_each(files::OpenFile::verify)).await?;
                        if let Some(file) = file.first() {
                            read.seen = Seen::File(file.identity().clone()).to_bytes()?;
                        }
                        Ok(read)
                    })
                    .await
            }
        }
    }
}

async fn open_file(
    engine: &Engine,
    source: &SourceVersion,
    found: Found,
) -> Result<(Arc<dyn ExecutionPlan>, Arc<Vec<files::OpenFile>>)> {
    let Place::Files { format, options, .. } = &source.definition.place else {
        return Err(Error::internal("a source that is no files has no file"));
    };
    let options = Options::read(*format, options)?;
    let (name, definition) = (source.address.name.as_str(), &source.definition);
    let rules =
        FileRules::new(Rules::new(engine, name, definition, &source.columns, &all_columns(), true)?, None);
    let format = *format;
    let file = engine.blocking(move || files::open_one(found, format, &options)).await?;
    let file = Arc::new(vec![file]);
    let plan = FilesExec::new(Arc::clone(&file), rules, engine.config().threads);
    Ok((Arc::new(plan), file))
}

fn stamp_of(file: &FileIdentity) -> String {
    format!("{} {}", file.etag.as_deref().unwrap_or_default(), file.size)
}

fn all_columns() -> ScanColumns {
    ScanColumns { all_for_digest: true, ..ScanColumns::default() }
}

impl Engine {
    /// What is new of a view's source since what `since` says was read. Reads names and identities, not
    /// yet rows.
    ///
    /// # Errors
    /// Where the source cannot be opened, or an expression of the view does not fit it.
    pub async fn rows(
        &self,
        catalog: &Arc<Catalog>,
        view: &ViewVersion,
        since: &ViewProgress,
    ) -> Result<ViewRows> {
        let source = Arc::clone(catalog.source_of(view)?);
        let evaluator = Arc::new(Evaluator::new(self, &source, view)?);
        let new = match &source.definition.place {
            Place::Files { path, format, options }
                if !source.definition.store && *format != Format::Delta =>
            {
                let project = catalog.projects.get(&source.address.project);
                let root = project.map(|project| project.root.clone()).unwrap_or_default();
                let (path, format, before) = (path.clone(), *format, since.clone());
                let options = Options::read(format, options)?;
                let versions = source.definition.id.is_some();
                let new = self.blocking(move || {
                    let found = find(&root, &path, format, options.hive_partitioning)?;
                    match versions {
                        true => match units::as_one(&found, &before)? {
                            Became::Nothing => Ok(Ok(New::default())),
                            Became::Others(why) => Ok(Err(why)),
                        },
                        false => units::of_files(found, &before, format, &options).map(Ok),
                    }
                });
                match new.await? {
                    Ok(new) => new,
                    Err(why) => units::of_whole(self, catalog, &source, since, why).await?,
                }
            }
            _ => units::of_whole(self, catalog, &source, since, None).await?,
        };
        let New { units, changed, rows } = new;
        Ok(ViewRows { engine: self.clone(), source, evaluator, units, changed, new_rows: rows, until: None })
    }

    /// Why what was read of the past of a source that is pushed to is no longer what its path means: a file came,
    /// changed or went. None of any other source. Reads names and times of files, of a Delta table its log, and opens none.
    ///
    /// # Errors
    /// Where the path means no file.
    pub async fn past_changed(
        &self,
        catalog: &Catalog,
        view: &ViewVersion,
        since: &ViewProgress,
    ) -> Result<Option<String>> {
        let source = catalog.source_of(view)?;
        let Place::Push { past: Some(past) } = &source.definition.place else { return Ok(None) };
        let root = root(catalog, source)?;
        let (found, ..) = opened::past_files(self, &root, source, past).await?;
        let since = since.clone();
        self.blocking(move || units::moved(&found, &since)).await
    }
}
