//! A view's rows, evaluated, to be materialised: unit by unit, so that whoever keeps them can say
//! after each what was read, and read on from there.
//!
//! Files read in place are a unit each, known by their identity. A stored source is one unit that
//! grows, known by its position; a Delta table of another engine is one that grows as long as files are
//! only appended to it, known by its version. A query is one unit, known by the cuts of its sources, and
//! read anew as a whole where one of them is another. [`units`] says what is new.
//!
//! Here: the view's `where`, its keys, its expressions over each row. Not here: which rows win.

mod progress;
mod sample;
mod units;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch};
use arrow::compute::kernels::cmp::gt;
use arrow::compute::{and, filter, filter_record_batch, not};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use asof_compute::{KeyEncoder, Op, Position, RowDigest, RowDigester, RowOrder};
use asof_model::{Catalog, Expression, FileIdentity, Format, Place, SourceVersion, Timestamp, ViewVersion};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::TryStreamExt;
use tokio::sync::mpsc;

pub use progress::ViewProgress;
pub use sample::Sampled;

use self::progress::Seen;
use crate::expression::{Bound, Compiled, Problem, Purpose, compile};
use crate::point_in_time::{passing, true_only};
use crate::source::exec::FilesExec;
use crate::source::find::{Found, find};
use crate::source::options::Options;
use crate::source::rules::{FileRules, Rules};
use crate::source::{ScanColumns, SourceScan, files, fixed};
use crate::{Engine, Error, Result};

/// What is to be read of a view's source.
#[derive(Debug)]
pub struct ViewRows {
    engine: Engine,
    source: Arc<SourceVersion>,
    evaluator: Arc<Evaluator>,
    units: Vec<Unit>,
    changed: Option<String>,
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
    /// A scan, and the position after which its rows are new.
    Scan(Arc<SourceScan>, Option<i64>),
}

/// Rows of one view, evaluated.
#[derive(Debug)]
pub struct EvaluatedRows {
    /// The entity's key of each row (`asof_compute::KeyEncoder`); none is null.
    pub keys: BinaryArray,
    /// What the rows are; all the same.
    pub op: Op,
    /// The features in the view's order, in `asof_compute::arrow_type`; none for deletes.
    pub features: Vec<ArrayRef>,
    assumed: bool,
    times: Times,
    digests: Vec<RowDigest>,
}

#[derive(Debug)]
struct Times {
    event_time: ArrayRef,
    visible_at: ArrayRef,
    order_by: ArrayRef,
    position: ArrayRef,
    until: ArrayRef,
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

    /// Reads a unit into `to`, on the engine's own threads, as fast as it is taken.
    ///
    /// # Errors
    /// Where the source cannot be read, changed meanwhile, or an expression fails on a row; then what
    /// was sent is worth nothing. [`Error::Internal`] where nobody takes the rows.
    pub async fn read(&self, unit: &Unit, to: mpsc::Sender<EvaluatedRows>) -> Result<UnitRead> {
        let (engine, evaluator) = (self.engine.clone(), Arc::clone(&self.evaluator));
        match &unit.reads {
            Reads::Scan(scan, after) => {
                let (scan, after) = (Arc::clone(scan), *after);
                self.engine
                    .run(async move {
                        let mut read = evaluator.read(&engine, Arc::clone(&scan.plan), after, &to).await?;
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
                        let mut read = evaluator.read(&engine, plan, None, &to).await?;
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
        let (units, changed) = match &source.definition.place {
            Place::Files { path, format, options }
                if !source.definition.store && *format != Format::Delta =>
            {
                let project = catalog.projects.get(&source.address.project);
                let root = project.map(|project| project.root.clone()).unwrap_or_default();
                let (path, format, since) = (path.clone(), *format, since.clone());
                let options = Options::read(format, options)?;
                self.blocking(move || {
                    let found = find(&root, &path, format, options.hive_partitioning)?;
                    units::of_files(found, &since, format, &options)
                })
                .await?
            }
            _ => units::of_whole(self, catalog, &source, since).await?,
        };
        Ok(ViewRows { engine: self.clone(), source, evaluator, units, changed })
    }
}

/// The view's expressions over rows of its source.
#[derive(Debug)]
struct Evaluator {
    filter: Option<Compiled>,
    features: Vec<Compiled>,
    key_columns: Vec<String>,
    keys: KeyEncoder,
    digester: RowDigester,
    /// A null visible time is the event time, not never.
    assumed: bool,
    /// Facts: a second row of a key is an error whatever its v, so rows never visible are handed on.
    clockless: bool,
}

/// The evaluator's expressions for batches of one schema.
struct Ready {
    filter: Option<Bound>,
    features: Vec<Bound>,
}

impl Evaluator {
    fn new(engine: &Engine, source: &SourceVersion, view: &ViewVersion) -> Result<Evaluator> {
        let clock = source.definition.event_time.is_some();
        let compiled = |expression: &Expression, purpose| {
            compile(engine, &expression.text, &source.columns, clock, purpose)
                .map_err(|problem| broken(view, &problem))
        };
        let features =
            view.features.iter().map(|typed| compiled(&typed.feature.expression, Purpose::Feature));
        let types: Vec<_> = view.keys.iter().map(|key| key.key.data_type.clone()).collect();
        Ok(Evaluator {
            filter: view.filter().map(|filter| compiled(filter, Purpose::Condition)).transpose()?,
            features: features.collect::<Result<_>>()?,
            key_columns: view.keys.iter().map(|key| key.column.clone()).collect(),
            keys: KeyEncoder::new(&types),
            digester: RowDigester::new(&source.columns),
            assumed: source.definition.is_seen_at_once(),
            clockless: !clock,
        })
    }

    async fn read(
        &self,
        engine: &Engine,
        plan: Arc<dyn ExecutionPlan>,
        after: Option<i64>,
        to: &mpsc::Sender<EvaluatedRows>,
    ) -> Result<UnitRead> {
        let schema = plan.schema();
        let ready = Ready {
            filter: self.filter.as_ref().map(|filter| filter.bind(&schema)).transpose()?,
            features: self.features.iter().map(|one| one.bind(&schema)).collect::<Result<_>>()?,
        };
        let plan = CoalescePartitionsExec::new(plan);
        let mut stream: SendableRecordBatchStream = plan.execute(0, engine.session().task_ctx())?;
        let mut read = UnitRead::default();
        while let Some(batch) = stream.try_next().await? {
            for rows in self.evaluate(&ready, &batch, after, &mut read)? {
                if to.send(rows).await.is_err() {
                    return Err(Error::internal("nobody takes the rows of the view"));
                }
            }
        }
        Ok(read)
    }

    /// The values and the deletes of a batch that belong to an entity and are visible at some time.
    fn evaluate(
        &self,
        ready: &Ready,
        batch: &RecordBatch,
        after: Option<i64>,
        read: &mut UnitRead,
    ) -> Result<Vec<EvaluatedRows>> {
        read.rows += batch.num_rows() as u64;
        let mut batch = batch.clone();
        if let Some(after) = after {
            let positions = column(&batch, fixed::POSITION)?;
            let after = arrow::array::Int64Array::new_scalar(after);
            let new = gt(positions, &after)?;
            batch = filter_record_batch(&batch, &true_only(&new))?;
        }
        let ops = column(&batch, fixed::OP)?;
        let ops = ops.as_boolean_opt().ok_or_else(|| Error::internal("`__op` of the scan is no boolean"))?;
        let deletes = true_only(ops);
        let passing = match &ready.filter {
            Some(condition) => passing(condition, &batch, &deletes)?,
            None => BooleanArray::from(vec![true; batch.num_rows()]),
        };
        let keys: Vec<ArrayRef> =
            self.key_columns.iter().map(|name| column(&batch, name).cloned()).collect::<Result<_>>()?;
        let keys = self.keys.encode(&keys).map_err(|error| compute(&error))?;
        let mut kept = passing;
        let lost = |mask: &BooleanArray, kept: &BooleanArray| -> Result<u64> {
            Ok(and(&not(mask)?, kept)?.true_count() as u64)
        };
        if keys.null_count() > 0 {
            let mask = arrow::compute::is_not_null(&keys)?;
            read.null_keys += lost(&mask, &kept)?;
            kept = and(&kept, &mask)?;
        }
        let visible = column(&batch, fixed::VISIBLE_AT)?;
        if !self.assumed && visible.null_count() > 0 {
            let mask = arrow::compute::is_not_null(visible)?;
            read.never_known += lost(&mask, &kept)?;
            if !self.clockless {
                kept = and(&kept, &mask)?;
            }
        }
        let mut found = Vec::with_capacity(2);
        for (op, mask) in [(Op::Value, and(&kept, &not(&deletes)?)?), (Op::Delete, and(&kept, &deletes)?)] {
            if mask.true_count() == 0 {
                continue;
            }
            let rows = filter_record_batch(&batch, &mask)?;
            let features = match op {
                Op::Value => ready.features.iter().map(|one| one.evaluate(&rows)).collect::<Result<_>>()?,
                Op::Delete => Vec::new(),
            };
            let taken = |name| column(&rows, name).cloned();
            found.push(EvaluatedRows {
                keys: filter(&keys, &mask)?.as_binary::<i32>().clone(),
                op,
                features,
                assumed: self.assumed,
                times: Times {
                    event_time: taken(fixed::EVENT_TIME)?,
                    visible_at: taken(fixed::VISIBLE_AT)?,
                    order_by: taken(fixed::ORDER_BY)?,
                    position: taken(fixed::POSITION)?,
                    until: taken(fixed::UNTIL)?,
                },
                digests: self.digester.digest(&rows).map_err(|error| compute(&error))?,
            });
        }
        Ok(found)
    }
}

impl EvaluatedRows {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A row's place in the order of its key.
    pub fn order(&self, row: usize) -> RowOrder {
        let event_time = instant(&self.times.event_time, row).unwrap_or(Timestamp::BEFORE_ALL);
        let order_by = self.times.order_by.as_binary_opt::<i32>();
        let position = self.times.position.as_primitive_opt::<Int64Type>();
        RowOrder {
            event_time,
            visible_at: instant(&self.times.visible_at, row).unwrap_or(match self.assumed {
                true => event_time,
                false => Timestamp::NEVER,
            }),
            order_by: order_by
                .filter(|keys| keys.is_valid(row))
                .map(|keys| keys.value(row).into())
                .unwrap_or_default(),
            position: position
                .filter(|positions| positions.is_valid(row))
                .map_or(Position::NONE, |positions| Position(positions.value(row))),
            op: self.op,
            digest: self.digests.get(row).copied().unwrap_or_default(),
        }
    }

    /// From when on a row no longer answers.
    pub fn valid_until(&self, row: usize) -> Option<Timestamp> {
        instant(&self.times.until, row)
    }
}

fn instant(times: &ArrayRef, row: usize) -> Option<Timestamp> {
    let times = times.as_primitive_opt::<TimestampMicrosecondType>()?;
    times.is_valid(row).then(|| Timestamp(times.value(row)))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::internal(format!("the scan gives no `{name}`")))
}

fn compute(error: &asof_compute::ComputeError) -> Error {
    use asof_model::Explain;
    Error::Invalid { code: error.code(), message: error.to_string(), hint: error.hint() }
}

fn broken(view: &ViewVersion, problem: &Problem) -> Error {
    Error::Invalid {
        code: problem.code,
        message: format!("view `{}`: {}", view.address, problem.message),
        hint: problem.hint.clone().or_else(|| Some("its source changed: run `asof plan`".to_owned())),
    }
}
