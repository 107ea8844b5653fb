//! The operator as an execution plan: a partial half beside the data, a final half beside the spine.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{AsArray, BinaryArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{filter_record_batch, is_null};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use asof_model::Expression;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions, reset_plan_states,
};
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answers::{CHUNK, ReadingAnswers, ReadingCounts};
use super::buffer::{Buffer, Buffers};
use super::cursors::SHARE;
use super::ends::{Ends, with_ends};
use super::fold::{Fold, Folding, Naming, Scratch, addresses};
use super::gather::{Winners, collect};
use super::second_rows::{Checks, Hashes, Look, Sending, TakeKeys, report};
use super::spec::{ReadingSpec, Spec, SpineColumns, portion};
use super::turns::Turns;
use super::windows::{BoundWindows, WindowPlan};
use crate::engine::gone;
use crate::expression::{Bound, Compiled, Problem, Purpose, compile};
use crate::source::{FetchRows, SourceScan, fixed};
use crate::{Engine, Error, Progress, ProgressEvent, Result};

/// Which half an operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Reduces each partition of the history to the rows that may answer, in the scan's schema and
    /// one column of counts.
    Partial,
    /// Answers the spine, from the history itself or from what partial halves left of it.
    Final,
}

/// What a partial half tells besides its rows, all other columns null: keys of facts without a clock, and
/// in the last row of all its counts.
const REPORT: &str = "__report";

/// Into how many portions a spine is cut at most.
const MOST_PORTIONS: u32 = 1 << 10;

/// Bytes of candidate rows below which smaller portions help nothing: batches have a size of their own.
const LEAST_BUFFER: u64 = 1 << 20;

/// Bytes of candidate rows at which losers are first looked for.
const FIRST_COMPACTION: u64 = 32 << 20;

/// Answers a spine as of its own times, from a scan whose schema begins with the fixed columns.
///
/// The final half gives one row per spine row, in the spine's order ([`Spec::answer_schema`]).
#[derive(Debug, Clone)]
pub struct PointInTimeExec {
    engine: Engine,
    spec: Arc<Spec>,
    mode: Mode,
    spine: Arc<SpineColumns>,
    input: Arc<dyn ExecutionPlan>,
    hooks: Hooks,
    filters: Vec<Option<Bound>>,
    windows: Vec<Option<BoundWindows>>,
    checks: Checks,
    /// The filters over what keys are read from again; empty where that is the input.
    key_filters: Vec<Option<Bound>>,
    features: Arc<Vec<Vec<Compiled>>>,
    properties: Arc<PlanProperties>,
}

/// What a plan in this process can do besides.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Reads winning rows by address; the input then gives addresses and no value columns, in partitions that do not
    /// wait for each other.
    pub fetch: Option<Arc<dyn FetchRows>>,
    /// Of facts without a clock: reads keys and the columns of `where` again, and names rows. None: the
    /// operator's input is read again.
    pub keys: Option<Arc<SourceScan>>,
    /// Told of rows read.
    pub progress: Option<Progress>,
    /// Of a source with ids: the rows that end. A final half over partial ones needs none: rows bring their ends.
    pub ends: Option<Arc<Ends>>,
    /// Filled by the final half before its first answer.
    pub counts: Arc<Mutex<Vec<ReadingCounts>>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("fetch", &self.fetch).finish_non_exhaustive()
    }
}

impl PointInTimeExec {
    /// An operator over a scan, or over a partial half.
    ///
    /// # Errors
    /// Where an expression cannot be compiled, or the spine is not the one of the spec.
    pub fn new(
        engine: &Engine,
        spec: Arc<Spec>,
        mode: Mode,
        spine: Arc<SpineColumns>,
        input: Arc<dyn ExecutionPlan>,
        hooks: Hooks,
    ) -> Result<PointInTimeExec> {
        let schema = folded(&spec, &input.schema());
        if spec.ids && hooks.ends.is_none() && input.schema().index_of(fixed::ENDS).is_err() {
            return Err(Error::internal(format!("nobody says which rows of source `{}` end", spec.source)));
        }
        let key_schema = hooks.keys.as_ref().map(|scan| scan.plan.schema());
        let mut filters = Vec::with_capacity(spec.readings.len());
        let mut key_filters = Vec::new();
        let mut features = Vec::with_capacity(spec.readings.len());
        let mut windows = Vec::with_capacity(spec.readings.len());
        for reading in &spec.readings {
            let filter = reading.filter.as_ref();
            let compiled = |expression: &Expression, purpose| {
                compile(engine, &expression.text, &spec.columns, !spec.clockless, purpose)
                    .map_err(|problem| broken(&reading.view, &problem))
            };
            let filter = filter.map(|filter| compiled(filter, Purpose::Condition)).transpose()?;
            if let Some(schema) = &key_schema {
                key_filters.push(filter.as_ref().map(|filter| filter.bind(schema)).transpose()?);
            }
            filters.push(filter.map(|filter| filter.bind(&schema)).transpose()?);
            let plan = WindowPlan::of(engine, &spec, reading)?.map(Arc::new);
            windows.push(plan.map(|plan| plan.bind(&schema)).transpose()?);
            let latest = reading.features.iter().filter(|feature| feature.aggregate.is_none());
            let compiled = latest.map(|feature| compiled(&feature.expression, Purpose::Feature));
            features.push(compiled.collect::<Result<Vec<_>>>()?);
        }
        let (schema, partitions) = match mode {
            Mode::Partial => (with_report(&schema), input.output_partitioning().partition_count()),
            Mode::Final => (spec.answer_schema(), 1),
        };
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Ok(PointInTimeExec {
            engine: engine.clone(),
            checks: Checks::new(&spec),
            spec,
            mode,
            spine,
            input,
            hooks,
            filters,
            windows,
            key_filters,
            features: Arc::new(features),
            properties,
        })
    }

    /// Looks for second rows within so much memory, by these bits of a hash.
    #[cfg(test)]
    pub(super) fn look_with(&mut self, memory: u64, mask: u64) {
        self.checks = self.checks.clone().with(memory, mask);
    }

    /// What it was told.
    pub fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    /// What it answers.
    pub(super) fn spine(&self) -> &SpineColumns {
        &self.spine
    }

    /// The rows that end, where it was told.
    pub(super) fn ends(&self) -> Option<&Ends> {
        self.hooks.ends.as_deref()
    }

    /// Which half it is.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What its answers come to; filled before the first of a final half.
    pub(super) fn counts(&self) -> Arc<Mutex<Vec<ReadingCounts>>> {
        Arc::clone(&self.hooks.counts)
    }

    /// Whether it depends on this process, and so cannot be sent to another.
    pub fn is_bound(&self) -> bool {
        self.hooks.fetch.is_some() || self.hooks.keys.is_some()
    }

    /// Reduces one partition to the rows that may answer, sent behind the keys of facts without a clock.
    async fn reduce(self, partition: usize, context: Arc<TaskContext>, to: Sender) -> Result<()> {
        let indexes = self.spine.index(&self.spec, 1)?;
        let sending = (!self.checks.is_empty()).then(|| Arc::new(Sending::default()));
        let keys = sending.clone().map(|sending| (self.checks.clone(), sending as Arc<dyn TakeKeys>));
        let fold =
            Arc::new(Fold::new(Arc::clone(&self.spec), indexes, &self.filters, &self.windows, 1, true, keys));
        let sending = sending.map(|sending| (sending, to.clone()));
        let scan = Scan { exec: &self, fold: Arc::clone(&fold), context, limit: None, threads: 1, sending };
        let mut only = Some(partition);
        let (mut buffer, _) = scan.partitions(&self.input, partition, || only.take()).await?;
        buffer.compact(&fold)?;
        let schema = self.schema();
        let counts = serde_json::to_vec(&fold.report()).map_err(|e| Error::internal(e.to_string()))?;
        for batch in buffer.into_batches() {
            let mut columns = batch.columns().to_vec();
            columns.push(new_null_array(&ArrowType::Binary, batch.num_rows()));
            send(&to, RecordBatch::try_new(Arc::clone(&schema), columns)?).await?;
        }
        for (number, reading) in fold.readings.iter().enumerate() {
            if let Folding::Windows(windows) = &reading.into {
                for message in windows.messages(number, self.spine.rows()) {
                    send(&to, report(&schema, BinaryArray::from_iter_values([message]))?).await?;
                }
            }
        }
        send(&to, report(&schema, BinaryArray::from_iter_values([counts]))?).await
    }

    /// Folds the whole history, in as many portions as memory needs, and answers the whole spine.
    async fn answer(&self, context: Arc<TaskContext>) -> Result<Vec<ReadingAnswers>> {
        let room = self.spec.memory - self.spec.memory / SHARE;
        // Rows that end are few as a rule; where they are not, portions are small and not endlessly many.
        let room = room.saturating_sub(self.ends().map_or(0, Ends::bytes)).max(self.spec.memory / SHARE);
        let windows: Vec<Option<u64>> =
            self.windows.iter().map(|windows| windows.as_ref().map(BoundWindows::bytes_per_answer)).collect();
        let fit = self.spine.state_bytes(&self.spec, &windows).div_ceil(room.max(1));
        // A tree has two nodes for each slot, which are numbered as slots are.
        let fit = if self.spec.ids { fit.max(1 + (self.spine.rows() >> 30) as u64) } else { fit };
        let mut portions = u32::try_from(fit).unwrap_or(u32::MAX).clamp(1, MOST_PORTIONS);
        loop {
            match self.answer_in(portions, &context).await? {
                Some(answers) => return Ok(answers),
                None => {
                    portions *= 2;
                    tracing::info!(source = %self.spec.source, portions, "memory is short: the spine is cut further");
                }
            }
        }
    }

    /// None: the portions are too large.
    async fn answer_in(&self, of: u32, context: &Arc<TaskContext>) -> Result<Option<Vec<ReadingAnswers>>> {
        let rows = self.spine.rows();
        let empty = |reading: &ReadingSpec| {
            Ok(ReadingAnswers::new(rows, &reading.types(&self.spec), reading.defaults()?, self.spec.compare))
        };
        let mut answers = self.spec.readings.iter().map(empty).collect::<Result<Vec<ReadingAnswers>>>()?;
        let whole = self.spine.index(&self.spec, self.engine.config().threads)?;
        for number in 0..of {
            // Whatever ran before: a plan that has run may keep what it saw, as a sort with a limit does.
            let input = reset_plan_states(Arc::clone(&self.input))?;
            let threads = self.engine.config().threads;
            // What partial halves send is of whole keys.
            let cuts_keys = input.schema().index_of(REPORT).is_err();
            let indexes = portion(&whole, (number, of), cuts_keys);
            tracing::debug!(source = %self.spec.source, number, of, "the spine is indexed");
            let counts = input.schema().index_of(REPORT).is_err();
            let spec = Arc::clone(&self.spec);
            // One portion's reading sees all rows.
            let hashes = (number == 0 && !self.checks.is_empty()).then(|| Arc::new(self.checks.hashes(0)));
            let keys = hashes.clone().map(|hashes| (self.checks.clone(), hashes as Arc<dyn TakeKeys>));
            let turns = Arc::new(Turns::new(&input, self.hooks.fetch.is_some(), threads));
            let threads = turns.threads;
            let fold =
                Arc::new(Fold::new(spec, indexes, &self.filters, &self.windows, threads, counts, keys));
            let limit = (of < MOST_PORTIONS).then_some(self.spec.memory.max(LEAST_BUFFER));
            let held = Arc::new(AtomicU64::new(0));
            let mut tasks = JoinSet::new();
            for thread in 0..threads {
                let (exec, input, turns) = (self.clone(), Arc::clone(&input), Arc::clone(&turns));
                let (fold, context, held) = (Arc::clone(&fold), Arc::clone(context), Arc::clone(&held));
                tasks.spawn(async move {
                    let limit = limit.map(|limit| (limit, held));
                    let scan = Scan { exec: &exec, fold, context, limit, threads, sending: None };
                    scan.partitions(&input, thread, || turns.next(thread)).await
                });
            }
            let mut buffers = Vec::with_capacity(threads);
            let mut over = false;
            while let Some(done) = tasks.join_next().await {
                let (buffer, is_over) = done.map_err(|ended| gone(&ended))??;
                buffers.push(buffer);
                over |= is_over;
            }
            if over {
                return Ok(None);
            }
            tracing::debug!(source = %self.spec.source, rows = fold.rows(), "the history is folded");
            if let Some(hashes) = hashes {
                self.refuse_second_rows(hashes, context).await?;
            }
            let rows: Arc<dyn FetchRows> = match &self.hooks.fetch {
                Some(fetch) => Arc::clone(fetch),
                None => Arc::new(Buffers::new(folded(&self.spec, &input.schema()), buffers)),
            };
            answers = self.collect(fold, rows, answers).await?;
        }
        let threads = self.engine.config().threads;
        let joined = self.engine.blocking(move || {
            answers.iter_mut().try_for_each(|answers| answers.values.join(threads))?;
            Ok(answers)
        });
        Ok(Some(joined.await?))
    }

    /// Refuses a second row of a key, where the hashes of keys from a first reading are; reads again for
    /// those that memory had no room for, and where one came twice.
    async fn refuse_second_rows(&self, mut hashes: Arc<Hashes>, context: &Arc<TaskContext>) -> Result<()> {
        let threads = self.engine.config().threads;
        loop {
            let mut past = None;
            loop {
                let of = Arc::clone(&hashes);
                let suspects = self.engine.blocking(move || of.suspects(past, threads)).await?;
                past = suspects.last().copied();
                if past.is_none() {
                    break;
                }
                let look = Arc::new(Look::new(suspects));
                self.read_keys(Arc::<Look>::clone(&look), context).await?;
                if let Some(second) = look.found(&self.spec.source)? {
                    return Err(self.checks.error(&self.spec, &second, self.hooks.keys.as_deref()));
                }
            }
            let next = hashes.next();
            hashes.clear();
            let Some(next) = next else { return Ok(()) };
            tracing::info!(source = %self.spec.source, "memory is short: its keys are read once more");
            hashes = Arc::new(self.checks.hashes(next));
            self.read_keys(Arc::<Hashes>::clone(&hashes), context).await?;
        }
    }

    /// Reads the keys of all rows.
    async fn read_keys(&self, to: Arc<dyn TakeKeys>, context: &Arc<TaskContext>) -> Result<()> {
        let (plan, filters) = match &self.hooks.keys {
            Some(scan) => (&scan.plan, &self.key_filters),
            None => (&self.input, &self.filters),
        };
        let plan = reset_plan_states(Arc::clone(plan))?;
        let sent = plan.schema().index_of(REPORT).ok();
        let in_runs =
            self.hooks.keys.as_ref().map_or(self.hooks.fetch.is_some(), |scan| scan.fetch.is_some());
        let turns = Arc::new(Turns::new(&plan, in_runs, self.engine.config().threads));
        let mut tasks = JoinSet::new();
        for thread in 0..turns.threads {
            let (spec, checks, filters) = (Arc::clone(&self.spec), self.checks.clone(), filters.clone());
            let (plan, context, turns) = (Arc::clone(&plan), Arc::clone(context), Arc::clone(&turns));
            let to = Arc::clone(&to);
            tasks.spawn(async move {
                while let Some(partition) = turns.next(thread) {
                    let mut stream = plan.execute(partition, Arc::clone(&context))?;
                    while let Some(batch) = stream.next().await.transpose()? {
                        let Some(at) = sent else {
                            checks.take_rows(&spec, &filters, &batch, to.as_ref())?;
                            continue;
                        };
                        for report in reports(&batch, at)?.iter().flatten() {
                            checks.take_sent(&spec, report, to.as_ref())?;
                        }
                    }
                }
                Ok::<_, Error>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|ended| gone(&ended))??;
        }
        Ok(())
    }

    /// The answers in the spine's order, as many batches at once as there are threads.
    fn batches(&self, answers: &Arc<Vec<ReadingAnswers>>) -> BoxStream<'static, PlanResult<RecordBatch>> {
        let all = self.spine.rows();
        let (exec, answers) = (self.clone(), Arc::clone(answers));
        let made = futures::stream::iter((0..all).step_by(CHUNK)).map(move |start| {
            let rows = start..(start + CHUNK).min(all);
            let (exec, answers) = (exec.clone(), Arc::clone(&answers));
            async move {
                let (on, of, given, range) =
                    (exec.engine.clone(), exec.clone(), Arc::clone(&answers), rows.clone());
                let whole = on.blocking(move || of.answers_of(&given, range)).await?;
                let left = if whole.is_some() { Vec::new() } else { halves_of(&rows).into() };
                let batches = whole.map(Ok).into_iter().chain(exec.smaller(answers, left));
                Ok::<_, DataFusionError>(futures::stream::iter(batches))
            }
        });
        made.buffered(self.engine.config().threads.max(1)).try_flatten().boxed()
    }

    /// The answers to rows that were too many at once, one batch after the other; the last range comes first.
    fn smaller(
        self,
        answers: Arc<Vec<ReadingAnswers>>,
        mut left: Vec<Range<usize>>,
    ) -> impl Iterator<Item = PlanResult<RecordBatch>> {
        std::iter::from_fn(move || {
            loop {
                let rows = left.pop()?;
                match self.answers_of(&answers, rows.clone()) {
                    Ok(Some(batch)) => return Some(Ok(batch)),
                    Ok(None) => left.extend(halves_of(&rows)),
                    Err(error) => return Some(Err(error.into())),
                }
            }
        })
    }

    /// The answers to some spine rows; none where they are too large to be given at once.
    fn answers_of(&self, answers: &[ReadingAnswers], rows: Range<usize>) -> Result<Option<RecordBatch>> {
        if answers.iter().any(|answers| answers.is_wide(rows.clone())) {
            return Ok(None);
        }
        let mut columns = Vec::new();
        for answers in answers {
            match answers.columns(rows.clone()) {
                Ok(found) => columns.extend(found),
                Err(ArrowError::OffsetOverflowError(_)) if rows.len() > 1 => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(RecordBatch::try_new(self.schema(), columns)?))
    }

    /// Adds the answers of a folded portion, beside the threads that other work runs on.
    async fn collect(
        &self,
        fold: Arc<Fold>,
        rows: Arc<dyn FetchRows>,
        mut answers: Vec<ReadingAnswers>,
    ) -> Result<Vec<ReadingAnswers>> {
        let gone = CancellationToken::new();
        let _tells = gone.clone().drop_guard();
        let exec = self.clone();
        let collected = self.engine.blocking(move || {
            let threads = exec.engine.config().threads;
            let rows = Winners { rows: rows.as_ref(), threads, gone: &gone };
            collect(&exec.spec, &exec.features, &exec.spine, &fold, &rows, &mut answers)?;
            Ok(answers)
        });
        collected.await
    }
}

/// Both halves of some rows, the second first.
fn halves_of(rows: &Range<usize>) -> [Range<usize>; 2] {
    let middle = rows.start.midpoint(rows.end);
    [middle..rows.end, rows.start..middle]
}

pub(super) fn broken(view: &str, problem: &Problem) -> Error {
    Error::internal(format!(
        "view `{view}` was applied with an expression that cannot be compiled: {}",
        problem.message
    ))
}

/// One thread's reading of the history.
struct Scan<'a> {
    exec: &'a PointInTimeExec,
    fold: Arc<Fold>,
    context: Arc<TaskContext>,
    /// Bytes that rows may take which are held, in buffers and beside states, and bytes all threads' buffers hold.
    limit: Option<(u64, Arc<AtomicU64>)>,
    /// How many threads read.
    threads: usize,
    /// Of a partial half: the keys that are to be sent, and where to.
    sending: Option<(Arc<Sending>, Sender)>,
}

/// Takes the batches of a partial half.
type Sender = mpsc::Sender<PlanResult<RecordBatch>>;

async fn send(to: &Sender, batch: RecordBatch) -> Result<()> {
    to.send(Ok(batch)).await.map_err(|_| Error::internal("nobody takes the rows of a partial half"))
}

impl Scan<'_> {
    /// Folds partitions as one thread; its candidate rows, and whether memory ran short.
    async fn partitions(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        thread: usize,
        mut left: impl FnMut() -> Option<usize> + Send,
    ) -> Result<(Buffer, bool)> {
        let first_compaction = match &self.limit {
            // All threads' buffers are compacted before they are found too large together.
            Some((limit, _)) => FIRST_COMPACTION.min(limit / 4 / self.threads as u64),
            None => FIRST_COMPACTION,
        };
        let mut buffer = Buffer::new(thread, first_compaction);
        let mut scratch = Scratch::default();
        let by_address = self.exec.mode == Mode::Final && self.exec.hooks.fetch.is_some();
        let mut told = 0_u64;
        while let Some(partition) = left() {
            let mut stream = input.execute(partition, Arc::clone(&self.context))?;
            while let Some(batch) = stream.next().await {
                let batch = self.take_report(batch?)?;
                let batch = match self.exec.ends().filter(|_| self.exec.spec.ids) {
                    Some(ends) => ends.beside(&batch)?,
                    None => batch,
                };
                if by_address {
                    let naming = addresses(&batch)
                        .ok_or_else(|| Error::internal("the scan gives no addresses to fetch rows by"))?;
                    self.fold.batch(&batch, Naming::Column(naming), &mut scratch)?;
                    if self.is_over(0, 0) {
                        return Ok((buffer, true));
                    }
                } else {
                    self.fold.batch(&batch, Naming::From(buffer.next()), &mut scratch)?;
                    let before = buffer.bytes();
                    buffer.push(&batch, &scratch.kept)?;
                    if buffer.is_due() {
                        self.fold.rest(&mut scratch);
                        buffer.compact(&self.fold)?;
                    }
                    if let Some((sending, to)) = &self.sending
                        && let Some(keys) = sending.batch(&self.exec.schema())?
                    {
                        send(to, keys).await?;
                    }
                    if self.is_over(before, buffer.bytes()) {
                        return Ok((buffer, true));
                    }
                }
                told += batch.num_rows() as u64;
                if told >= 1 << 16 {
                    told = 0;
                    self.tell();
                }
            }
        }
        self.fold.rest(&mut scratch);
        self.tell();
        Ok((buffer, false))
    }

    fn is_over(&self, before: u64, after: u64) -> bool {
        let Some((limit, held)) = &self.limit else { return false };
        let all = if after >= before {
            held.fetch_add(after - before, Ordering::Relaxed) + (after - before)
        } else {
            held.fetch_sub(before - after, Ordering::Relaxed) - (before - after)
        };
        let (held, largest) = self.fold.held();
        // Of a slot that holds two fifths of it no smaller portion spares anything: the history would only be read again,
        // and again.
        all + held > (*limit).max(largest * 5 / 2)
    }

    fn tell(&self) {
        if let Some(progress) = &self.exec.hooks.progress {
            progress(ProgressEvent { phase: "scan", done: self.fold.rows(), total: None, unit: "rows" });
        }
    }

    /// Adds what a partial half sent besides its rows, and takes it off.
    fn take_report(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let Ok(at) = batch.schema().index_of(REPORT) else { return Ok(batch) };
        let reports = reports(&batch, at)?;
        reports.iter().flatten().try_for_each(|report| self.fold.take_report(report))?;
        let rows: BooleanArray = is_null(&reports)?;
        let mut batch =
            if rows.true_count() == rows.len() { batch } else { filter_record_batch(&batch, &rows)? };
        batch.remove_column(at);
        Ok(batch)
    }
}

fn reports(batch: &RecordBatch, at: usize) -> Result<BinaryArray> {
    let found = batch.column(at).as_binary_opt::<i32>().cloned();
    found.ok_or_else(|| Error::internal("the report of a partial half is no bytes"))
}

fn with_report(scan: &Schema) -> SchemaRef {
    let fields = scan.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
    let report = Arc::new(Field::new(REPORT, ArrowType::Binary, true));
    Arc::new(Schema::new(fields.chain([report]).collect::<Vec<_>>()))
}

/// What is folded of an input: all but the report, with [`fixed::ENDS`] where rows end.
fn folded(spec: &Spec, input: &Schema) -> SchemaRef {
    let schema = without_report(input);
    if spec.ids && schema.index_of(fixed::ENDS).is_err() { with_ends(&schema) } else { schema }
}

fn without_report(input: &Schema) -> SchemaRef {
    let fields = input.fields().iter().filter(|field| field.name() != REPORT).cloned();
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl DisplayAs for PointInTimeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let views: Vec<&str> = self.spec.readings.iter().map(|reading| reading.view.as_str()).collect();
        write!(
            f,
            "PointInTimeExec: mode={:?}, question={}, source={}, views=[{}], spine_rows={}",
            self.mode,
            self.spec.question.name(),
            self.spec.source,
            views.join(", "),
            self.spine.rows()
        )
    }
}

impl ExecutionPlan for PointInTimeExec {
    fn name(&self) -> &'static str {
        "PointInTimeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> PlanResult<TreeNodeRecursion>,
    ) -> PlanResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let input = children
            .pop()
            .ok_or_else(|| DataFusionError::Internal("PointInTimeExec has one child".to_owned()))?;
        let (spec, spine) = (Arc::clone(&self.spec), Arc::clone(&self.spine));
        Ok(Arc::new(PointInTimeExec::new(&self.engine, spec, self.mode, spine, input, self.hooks.clone())?))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> PlanResult<SendableRecordBatchStream> {
        let exec = self.clone();
        let schema = self.schema();
        let stream = match self.mode {
            Mode::Partial => {
                let sent = Arc::clone(&schema);
                futures::stream::once(async move {
                    let mut builder = RecordBatchReceiverStream::builder(sent, 2);
                    let to = builder.tx();
                    builder.spawn(async move { Ok(exec.reduce(partition, context, to).await?) });
                    Ok::<_, DataFusionError>(builder.build().boxed())
                })
                .try_flatten()
                .boxed()
            }
            Mode::Final => futures::stream::once(async move {
                let answers = Arc::new(exec.answer(context).await?);
                let mut batches = exec.batches(&answers);
                // Beside the first answers, which are given after.
                let counts = exec
                    .engine
                    .blocking(move || Ok(answers.iter().map(ReadingAnswers::counts).collect::<Vec<_>>()));
                let (counts, first) = futures::join!(counts, batches.next());
                *exec.hooks.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts?;
                Ok::<_, DataFusionError>(futures::stream::iter(first).chain(batches))
            })
            .try_flatten()
            .boxed(),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}
