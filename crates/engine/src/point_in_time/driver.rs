//! From a selection and a spine to answers in the spine's order.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt8Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::concat;
use arrow::datatypes::{TimestampMicrosecondType, UInt8Type};
use asof_compute::{
    ComputeError, DerivationError, Derivations, KeyEncoder, conform, conform_request, has_order_numbers,
};
use asof_model::{
    Address, Catalog, Column, Cut, DataType, Name, OnImmature, OnOverflow, Origin, OutputColumn, Question,
    Reading, Selection, SourceCut, SourceVersion, Timestamp,
};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use super::answers::{CHUNK, ReadingCounts};
use super::asked::{Asked, Cuts, Pass, Questions};
use super::ends::Ends;
use super::halves;
use super::mature::{Reach, kept, kept_rows, masked, status_of_window};
use super::operator::{Hooks, Mode, PointInTimeExec, broken};
use super::spec::{
    DIFFERS, EVENT_TIME, FeatureSpec, OUTCOME, ReadingSpec, STATUS, Spec, SpineColumns, compute,
};
use super::versions::ends_of;
use super::windows;
use crate::engine::gone;
use crate::expression::{Purpose, compile};
use crate::source::{ScanColumns, SourceScan, fixed, open, scan_opened};
use crate::threads::in_parallel;
use crate::{Engine, Error, Progress, Result};

/// A spine: rows with keys, a time, what requests bring, and anything else.
#[derive(Debug, Clone)]
pub struct SpineRows {
    /// The rows, in order; all batches of one schema.
    pub batches: Vec<RecordBatch>,
    /// The column of times: Timestamp(us, UTC), without nulls.
    pub time: String,
}

/// Answers to a whole spine.
pub struct PointInTimeAnswer {
    /// What the answers of each reading of the selection come to.
    pub readings: Vec<ReadingCounts>,
    /// What was read, per source.
    pub cuts: Vec<(Address, Cut)>,
    /// Per label of the selection, how many rows of the spine are not mature.
    pub not_mature: Vec<u64>,
    /// Which rows of the spine are answered, where those that are not mature are dropped; none: all.
    pub kept: Option<BooleanArray>,
    /// The answers, as many rows as the spine has that are kept, in its order; cut anywhere.
    pub batches: BoxStream<'static, Result<AnswerBatch>>,
}

/// Answers to some spine rows that follow each other.
#[derive(Debug, Clone)]
pub struct AnswerBatch {
    /// How many rows.
    pub rows: usize,
    /// The selection's output columns, in order.
    pub columns: Vec<ArrayRef>,
    /// The selection's labels, in order.
    pub labels: Vec<ArrayRef>,
    /// Per label, [`asof_compute::Status::code`] of each row.
    pub label_status: Vec<UInt8Array>,
    /// Per reading of the selection, [`asof_compute::Status::code`] of each row.
    pub status: Vec<UInt8Array>,
    /// Per output column where [`Manner::outcomes`] asks for it, what each answer is: [`asof_compute::Outcome`], null
    /// without a key. None of a column that is over no windows.
    pub outcomes: Vec<Option<UInt8Array>>,
    /// Per reading, the event time of the row that answers or has expired, else null.
    pub event_time: Vec<ArrayRef>,
    /// Per reading, whether the other question answers otherwise.
    pub differs: Vec<BooleanArray>,
}

impl AnswerBatch {
    /// Some of the rows.
    pub(crate) fn slice(&self, from: usize, rows: usize) -> AnswerBatch {
        AnswerBatch {
            rows,
            columns: self.columns.iter().map(|it| it.slice(from, rows)).collect(),
            labels: self.labels.iter().map(|it| it.slice(from, rows)).collect(),
            label_status: self.label_status.iter().map(|it| it.slice(from, rows)).collect(),
            status: self.status.iter().map(|it| it.slice(from, rows)).collect(),
            outcomes: self.outcomes.iter().map(|it| it.as_ref().map(|it| it.slice(from, rows))).collect(),
            event_time: self.event_time.iter().map(|it| it.slice(from, rows)).collect(),
            differs: self.differs.iter().map(|it| it.slice(from, rows)).collect(),
        }
    }
}

/// In which manner a spine is answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Which rows count.
    pub question: Question,
    /// What a value over a window does that is out of range, or over its cap.
    pub on_overflow: OnOverflow,
    /// Whether features over windows also tell what each answer is.
    pub outcomes: bool,
    /// What a row of the spine does, a label of which is not mature.
    pub on_immature: OnImmature,
    /// T: labels over pushed sources are not mature past it.
    pub asked_at: Option<Timestamp>,
    /// In two halves, each sent through the [`super::Codec`] as to another machine: one beside the rows, one beside the
    /// spine. There is one machine so far, so this is slower and gives the same.
    pub in_halves: bool,
}

impl From<Question> for Manner {
    fn from(question: Question) -> Manner {
        Manner { question, ..Manner::default() }
    }
}

/// Answers a spine: reads each source once, whatever number of views and roles stand on it, and for labels once
/// more per length of time after the spine's, on the engine's own threads. What is derived is computed as answers are given. Sources named in `at` are read as they were read then, the others as they are.
/// When this returns all sources are read, and checked not to have changed.
///
/// # Errors
/// Where a source cannot be read or changed under the reading, a key of the spine is missing or of
/// another type, or a rule of the contract is broken (a second row of a key without a clock).
pub async fn answer(
    engine: &Engine,
    catalog: &Arc<Catalog>,
    selection: &Selection,
    spine: &SpineRows,
    manner: impl Into<Manner>,
    at: &[SourceCut],
    progress: Option<Progress>,
) -> Result<PointInTimeAnswer> {
    let at = Cuts::OfSources(at.to_vec());
    answer_from(engine, catalog, selection, spine, manner.into(), at, progress).await
}

/// The same, each reading of the selection from a cut of its own: two views of one source may have been asked when
/// they held not the same of it.
///
/// # Errors
/// As [`answer`]; [`Error::Changed`] where what was read then is not there any more.
pub async fn answer_readings(
    engine: &Engine,
    catalog: &Arc<Catalog>,
    selection: &Selection,
    spine: &SpineRows,
    manner: impl Into<Manner>,
    cuts: &[Cut],
) -> Result<PointInTimeAnswer> {
    let at = Cuts::OfReadings(cuts.to_vec());
    answer_from(engine, catalog, selection, spine, manner.into(), at, None).await
}

async fn answer_from(
    engine: &Engine,
    catalog: &Arc<Catalog>,
    selection: &Selection,
    spine: &SpineRows,
    manner: Manner,
    at: Cuts,
    progress: Option<Progress>,
) -> Result<PointInTimeAnswer> {
    let (engine, catalog, selection, spine) =
        (engine.clone(), Arc::clone(catalog), selection.clone(), spine.clone());
    let on = engine.clone();
    on.run(async move {
        let threads = engine.config().threads;
        let derivations = Derivations::compile(&selection, &engine).map_err(derived)?;
        let reach = Reach::of(&engine, &catalog, &selection, at.of_sources(), manner.asked_at).await?;
        let mut spine = spine;
        let mut times = times_of(&spine)?;
        let mut immature = reach.immature(micros(&times));
        let not_mature = immature.iter().map(|it| it.count_set_bits() as u64).collect();
        let mut answered = None;
        if manner.on_immature == OnImmature::Drop && !immature.is_empty() {
            let keep = kept(&immature, times.len());
            spine.batches = kept_rows(&spine.batches, &keep)?;
            times = times_of(&spine)?;
            immature = reach.immature(micros(&times));
            answered = Some(keep);
        }
        let questions = Questions::of(&selection, &at);
        let (columns, key_sets) = spine_columns(&spine, &times, &questions, threads)?;
        let request = request_columns(&spine, &selection)?;
        drop(spine);
        tracing::debug!(rows = columns.rows(), "the spine's keys and times are there");
        let mut groups = Vec::new();
        // A source that is read several times is read as it was the first time.
        let mut cuts = reach.cuts;
        for pass in questions.passes() {
            let source = Arc::clone(&pass.source);
            let columns = match pass.after {
                Some(after) => Arc::new(columns.after(after)),
                None => Arc::clone(&columns),
            };
            let spec = Arc::new(spec(&engine, &questions, &pass, &key_sets, manner));
            let before = cuts.iter().find(|(address, _)| *address == source.address).map(|(_, cut)| cut);
            let cut = pass.cut.as_ref().or(before);
            let (until, told) = (columns.last_time(), progress.clone());
            let (scan, keys, ends) =
                scan_for(&engine, &catalog, &source, &spec, until, cut, manner.in_halves, told).await?;
            let input = Arc::clone(&scan.plan);
            let exec = if manner.in_halves {
                halves::both(&engine, &spec, &columns, input, ends).await?
            } else {
                let fetch = scan.fetch.clone();
                let hooks = Hooks { progress: progress.clone(), fetch, keys, ends, ..Hooks::default() };
                let (spec, columns) = (Arc::clone(&spec), Arc::clone(&columns));
                PointInTimeExec::new(&engine, spec, Mode::Final, columns, input, hooks)?
            };
            let counts = exec.counts();
            let stream = first_polled(exec.execute(0, engine.session().task_ctx())?).await?;
            let scan = engine.blocking(move || scan.verify().map(|()| scan)).await?;
            if before.is_none() {
                cuts.push((source.address.clone(), scan.identity.clone()));
            }
            groups.push(Group { members: pass.members, counts, stream });
        }
        let outcomes = manner.outcomes;
        let assembly = Assembly::new(selection, questions, derivations, request, times, immature, outcomes);
        let (readings, batches) = assembly.begin(groups);
        Ok(PointInTimeAnswer { readings, cuts, not_mature, kept: answered, batches })
    })
    .await
}

/// An error of what is derived as one of this room.
pub(super) fn derived(error: DerivationError) -> Error {
    let DerivationError { kind, code, message, hint } = error;
    match kind {
        asof_model::Kind::Exhausted => {
            Error::Exhausted { what: message, limit: "what one value may take".to_owned(), hint }
        }
        asof_model::Kind::Internal => Error::internal(message),
        _ => Error::Invalid { code, message, hint },
    }
}

/// One source's operator, answering.
struct Group {
    /// What it answers, as the questions number it.
    members: Vec<usize>,
    counts: Arc<Mutex<Vec<ReadingCounts>>>,
    stream: SendableRecordBatchStream,
}

/// What the readings of the selection ask the spine with: names of its columns, and types.
type KeySet = (Vec<Name>, Vec<DataType>);

fn key_set(reading: &Reading) -> KeySet {
    let types = reading.view.keys.iter().map(|key| key.key.data_type.clone()).collect();
    (reading.keys.clone(), types)
}

/// A column of the spine, each part of it read by `read`.
fn spine_column(
    spine: &SpineRows,
    name: &str,
    data_type: &DataType,
    read: impl Fn(&ArrayRef) -> Result<ArrayRef, ComputeError>,
) -> Result<ArrayRef> {
    let chunks = spine
        .batches
        .iter()
        .map(|batch| {
            let found = batch.column_by_name(name).ok_or_else(|| {
                let schema = batch.schema();
                let there: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Error::NotFound {
                    what: "spine column",
                    name: name.to_owned(),
                    hint: Some(format!("the spine has {}", there.join(", "))),
                }
            })?;
            read(found).map_err(|bad| key_error(name, bad))
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    match chunks.as_slice() {
        [] => Ok(arrow::array::new_empty_array(&asof_compute::arrow_type(data_type))),
        [only] => Ok(Arc::clone(only)),
        chunks => Ok(concat(&chunks.iter().map(AsRef::as_ref).collect::<Vec<_>>())?),
    }
}

/// The spine's times.
fn times_of(spine: &SpineRows) -> Result<ArrayRef> {
    let kind = DataType::Timestamp;
    let times = spine_column(spine, &spine.time, &kind, |column| conform(column, &kind))?;
    if times.null_count() > 0 {
        let row = (0..times.len()).find(|row| times.is_null(*row)).unwrap_or_default();
        let message = format!("spine column `{}` has no time in row {}", spine.time, row + 1);
        return Err(Error::invalid("null_time", message)
            .with_hint("every spine row needs a time: drop the row or fill it"));
    }
    Ok(times)
}

fn micros(times: &ArrayRef) -> &[i64] {
    times.as_primitive::<TimestampMicrosecondType>().values()
}

/// What the spine brings for derived features, as a request would.
fn request_columns(spine: &SpineRows, selection: &Selection) -> Result<Vec<ArrayRef>> {
    let of = |column: &asof_model::RequestColumn| {
        let read = |found: &ArrayRef| conform_request(found, column);
        spine_column(spine, column.name.as_str(), &column.data_type, read)
    };
    selection.request.iter().map(of).collect()
}

/// The spine's times, and its distinct key sets.
fn spine_columns(
    spine: &SpineRows,
    times: &ArrayRef,
    questions: &Questions,
    threads: usize,
) -> Result<(Arc<SpineColumns>, Vec<KeySet>)> {
    let mut sets: Vec<KeySet> = Vec::new();
    for asked in &questions.asked {
        let set = key_set(&asked.reading);
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    let keys = sets.iter().flat_map(|(names, types)| names.iter().map(Name::as_str).zip(types));
    let column = |(name, kind): (&str, &DataType)| spine_column(spine, name, kind, |it| conform(it, kind));
    let mut columns = in_parallel(keys.collect(), threads, column)?.into_iter();
    let mut keys = Vec::new();
    for (_, types) in &sets {
        let of_set: Vec<ArrayRef> = columns.by_ref().take(types.len()).collect();
        keys.push(KeyEncoder::new(types).keys(&of_set).map_err(compute)?);
    }
    let times = times.as_primitive::<TimestampMicrosecondType>().values().clone();
    Ok((Arc::new(SpineColumns::new(times, keys)), sets))
}

fn key_error(column: &str, bad: asof_compute::ComputeError) -> Error {
    use asof_model::Explain;
    let text = bad.to_string();
    let float = text.contains("type Float") && text.contains("int");
    let hint = if float { Some(crate::training::WRITTEN_AS_FLOAT.to_owned()) } else { bad.hint() };
    Error::Invalid { code: bad.code(), message: format!("spine column `{column}`: {text}"), hint }
}

fn spec(engine: &Engine, questions: &Questions, pass: &Pass, key_sets: &[KeySet], manner: Manner) -> Spec {
    let source = pass.source.as_ref();
    let definition = &source.definition;
    let readings = pass.members.iter().filter_map(|number| {
        let Asked { reading, features: taken, .. } = questions.asked.get(*number)?;
        let view = &reading.view;
        let features = view.features.iter().enumerate().filter(|(at, _)| taken.contains(at));
        Some(ReadingSpec {
            view: view.address.to_string(),
            spine_keys: key_sets.iter().position(|set| *set == key_set(reading))?,
            keys: view
                .keys
                .iter()
                .map(|key| Column { name: key.column.clone(), data_type: key.key.data_type.clone() })
                .collect(),
            filter: view.filter().cloned(),
            ttl: view.definition.ttl,
            features: features
                .map(|(_, typed)| FeatureSpec {
                    name: typed.feature.name.to_string(),
                    expression: typed.feature.expression.clone(),
                    aggregate: typed.feature.aggregate.clone(),
                    default: typed.feature.default.clone(),
                    data_type: typed.data_type.clone(),
                })
                .collect(),
        })
    });
    let assumed = definition.is_seen_at_once();
    Spec {
        source: source.address.to_string(),
        // A label is what came of it, late rows and all.
        question: if pass.after.is_some() { Question::Event } else { manner.question },
        compare: (!assumed || definition.id.is_some()) && pass.after.is_none(),
        clockless: definition.event_time.is_none(),
        assumed,
        valid_until: definition.valid_until.is_some(),
        ids: definition.id.is_some(),
        then_by: then_by(engine, source),
        columns: source.columns.clone(),
        readings: readings.collect(),
        overflow_is_null: manner.on_overflow == OnOverflow::Null,
        // A label over a window is told by what it comes to itself.
        outcomes: manner.outcomes || pass.after.is_some(),
        memory: engine.config().memory,
    }
}

/// The column that [`Spec::then_by`] names: one that a source orders rows by, and whose values are whole numbers or
/// times.
fn then_by(engine: &Engine, source: &SourceVersion) -> Option<String> {
    let definition = &source.definition;
    let text = &definition.order_by.as_ref().filter(|_| {
        // Without a clock a second row is an error, whatever its order.
        definition.is_seen_at_once() && definition.event_time.is_some()
    })?;
    let order = compile(engine, &text.text, &source.columns, false, Purpose::Order).ok()?;
    // Nothing but the column's name, which may be written in other case.
    let [column] = order.needs() else { return None };
    let plain = column.eq_ignore_ascii_case(text.text.trim());
    (plain && has_order_numbers(order.data_type())).then(|| column.clone())
}

/// Scans for addresses, keys, the columns of `where` and [`Spec::then_by`], where rows can be fetched by address; else for
/// all columns, since the operator then keeps rows as they come. Of facts without a clock also what reads
/// their keys again; and where rows have ids, which of them end. `whole`: for all columns in any case.
#[expect(
    clippy::too_many_arguments,
    reason = "one reading of one source; a struct would only be taken apart again"
)]
async fn scan_for(
    engine: &Engine,
    catalog: &Catalog,
    source: &SourceVersion,
    spec: &Spec,
    until: Option<Timestamp>,
    at: Option<&Cut>,
    whole: bool,
    progress: Option<Progress>,
) -> Result<(Arc<SourceScan>, Option<Arc<SourceScan>>, Option<Arc<Ends>>)> {
    let mut columns: Vec<String> = Vec::new();
    for reading in &spec.readings {
        columns.extend(reading.keys.iter().map(|key| key.name.clone()));
        if let Some(filter) = &reading.filter {
            let clock = !spec.clockless;
            let filter = compile(engine, &filter.text, &spec.columns, clock, Purpose::Condition)
                .map_err(|problem| broken(&reading.view, &problem))?;
            columns.extend(filter.needs().iter().cloned());
        }
    }
    let (needed, ordered) = windows::needs(engine, spec)?;
    columns.extend(needed);
    columns.extend(spec.then_by.clone());
    columns.retain(|name| !fixed::ALL.contains(&name.as_str()));
    columns.sort();
    columns.dedup();
    let opened = open(engine, catalog, source, at, 0).await?;
    // That a row ends another is known before, so what is too late to answer need not be read even then.
    let folded = spec.readings.iter().any(ReadingSpec::is_window);
    let ends = ends_of(engine, source, &opened, folded, spec.memory, progress).await?;
    // A second row of a key is refused whenever it is.
    let until = until.filter(|_| !spec.clockless);
    let rows = ScanColumns { all_for_digest: true, named: spec.ids, ..ScanColumns::default() };
    if whole {
        return Ok((Arc::new(scan_opened(engine, source, &opened, &rows).await?), None, ends));
    }
    // What is asked in the order of rows reads all of each row.
    let address = !ordered;
    let thin =
        ScanColumns { columns, address, folded, numbered: spec.clockless, until, ..Default::default() };
    let found = Arc::new(scan_opened(engine, source, &opened, &thin).await?);
    let keys = spec.clockless.then(|| Arc::clone(&found));
    if found.fetch.is_some() {
        return Ok((found, keys, ends));
    }
    Ok((Arc::new(scan_opened(engine, source, &opened, &rows).await?), keys, ends))
}

/// The stream with its first batch waited for: the source is then read and all answers are known.
async fn first_polled(mut stream: SendableRecordBatchStream) -> Result<SendableRecordBatchStream> {
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    let schema = stream.schema();
    let first = stream.next().await.transpose()?;
    let first = futures::stream::iter(first.map(Ok));
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, first.chain(stream))))
}

/// What the answers of all operators are put together with.
struct Assembly {
    selection: Selection,
    questions: Questions,
    derivations: Derivations,
    /// What the spine brings for derived features.
    request: Vec<ArrayRef>,
    times: ArrayRef,
    /// Per label which rows are not mature.
    immature: Vec<BooleanBuffer>,
    /// Per question, its group and its number there.
    places: Vec<(usize, usize)>,
    /// As [`Manner::outcomes`].
    outcomes: bool,
}

impl Assembly {
    fn new(
        selection: Selection,
        questions: Questions,
        derivations: Derivations,
        request: Vec<ArrayRef>,
        times: ArrayRef,
        immature: Vec<BooleanBuffer>,
        outcomes: bool,
    ) -> Assembly {
        let places = vec![(0, 0); questions.asked.len()];
        Assembly { selection, questions, derivations, request, times, immature, places, outcomes }
    }

    /// What the readings of the selection come to, and the answers.
    fn begin(mut self, groups: Vec<Group>) -> (Vec<ReadingCounts>, BoxStream<'static, Result<AnswerBatch>>) {
        let mut readings = vec![ReadingCounts::default(); self.questions.asked.len()];
        let mut streams = Vec::with_capacity(groups.len());
        for (number, group) in groups.into_iter().enumerate() {
            let counts = std::mem::take(&mut *group.counts.lock().unwrap_or_else(PoisonError::into_inner));
            for (at, (member, counts)) in group.members.iter().zip(counts).enumerate() {
                readings[*member] = counts;
                self.places[*member] = (number, at);
            }
            streams.push(group.stream);
        }
        readings.truncate(self.selection.readings.len());
        let standing: Vec<Option<RecordBatch>> = vec![None; streams.len()];
        let (assembly, first) = (Arc::new(self), 0);
        let batches = futures::stream::try_unfold(
            (streams, standing, first),
            move |(mut streams, mut standing, first)| {
                let assembly = Arc::clone(&assembly);
                async move {
                    for (stream, standing) in streams.iter_mut().zip(&mut standing) {
                        if standing.is_none() {
                            *standing = stream.try_next().await?;
                        }
                    }
                    // All operators answer the same spine, in batches of sizes of their own. Where nothing is read,
                    // and all is computed of what the spine brings, there is none of them.
                    let Some(batches) = standing.iter().cloned().collect::<Option<Vec<RecordBatch>>>() else {
                        return Ok(None);
                    };
                    let left = assembly.times.len() - first;
                    let rows = batches.iter().map(RecordBatch::num_rows).min().unwrap_or(left.min(CHUNK));
                    if batches.is_empty() && rows == 0 {
                        return Ok(None);
                    }
                    let now: Vec<RecordBatch> = batches.iter().map(|batch| batch.slice(0, rows)).collect();
                    let rest = |batch: RecordBatch| {
                        (batch.num_rows() > rows).then(|| batch.slice(rows, batch.num_rows() - rows))
                    };
                    standing = batches.into_iter().map(rest).collect();
                    let answers = assembly.answers(&now, first, rows)?;
                    Ok(Some((answers, (streams, standing, first + rows))))
                }
            },
        );
        (readings, ahead(batches.boxed()))
    }

    /// The answers to so many spine rows, from this one on.
    fn answers(&self, batches: &[RecordBatch], first: usize, rows: usize) -> Result<AnswerBatch> {
        let Assembly { selection, questions, .. } = self;
        let column = |asked: usize, name: &str| -> Result<ArrayRef> {
            let (group, at) = self.places[asked];
            let name = ReadingSpec::column(at, name);
            let found = batches[group].column_by_name(&name).cloned();
            found.ok_or_else(|| Error::internal(format!("the operator gives no column `{name}`")))
        };
        let feature = |asked: usize, feature: usize| {
            let view = &questions.asked[asked].reading.view;
            column(asked, view.features[feature].feature.name.as_str())
        };
        let mut steps: Vec<ArrayRef> = Vec::new();
        if !self.derivations.is_empty() {
            let read = self.derivations.features().iter();
            let read = read.map(|(reading, at)| feature(*reading, *at)).collect::<Result<Vec<_>>>()?;
            let request: Vec<ArrayRef> = self.request.iter().map(|it| it.slice(first, rows)).collect();
            let times = self.times.slice(first, rows);
            steps = self.derivations.run(&read, &request, &times, rows).map_err(derived)?;
        }
        let columns = selection.columns.iter().map(|output| match output.from {
            Origin::Feature { reading, feature: at } => feature(reading, at),
            Origin::Derived { step } => {
                let made = steps.get(step).cloned();
                made.ok_or_else(|| Error::internal(format!("nothing computes column `{}`", output.name)))
            }
        });
        let mut labels = Vec::with_capacity(selection.labels.len());
        let mut label_status = Vec::with_capacity(selection.labels.len());
        for ((label, asked), immature) in selection.labels.iter().zip(&questions.labels).zip(&self.immature) {
            let (values, view) = (feature(*asked, label.feature)?, &label.reading.view);
            let status = if view.definition.is_window() {
                let outcome = format!("{OUTCOME}{}", view.features[label.feature].feature.name);
                status_of_window(column(*asked, &outcome)?.as_primitive())
            } else {
                column(*asked, STATUS)?.as_primitive().clone()
            };
            let (values, status) = masked(&values, &status, &immature.slice(first, rows))?;
            labels.push(values);
            label_status.push(status);
        }
        let all = 0..selection.readings.len();
        let status = |reading| Ok(column(reading, STATUS)?.as_primitive::<UInt8Type>().clone());
        let outcomes = |output: &OutputColumn| {
            let told = output.read().filter(|_| self.outcomes);
            let windows =
                |(reading, _): &(usize, usize)| questions.asked[*reading].reading.view.definition.is_window();
            let told = told.filter(windows).map(|(reading, at)| {
                let view = &questions.asked[reading].reading.view;
                column(reading, &format!("{OUTCOME}{}", view.features[at].feature.name))
            });
            Ok::<_, Error>(told.transpose()?.map(|told| told.as_primitive::<UInt8Type>().clone()))
        };
        Ok(AnswerBatch {
            rows,
            columns: columns.collect::<Result<_>>()?,
            labels,
            label_status,
            status: all.clone().map(status).collect::<Result<_>>()?,
            outcomes: selection.columns.iter().map(outcomes).collect::<Result<_>>()?,
            event_time: all.clone().map(|reading| column(reading, EVENT_TIME)).collect::<Result<_>>()?,
            differs: all
                .map(|reading| Ok(column(reading, DIFFERS)?.as_boolean().clone()))
                .collect::<Result<_>>()?,
        })
    }
}

/// Answers put together on the engine's threads while the caller is busy with those before.
fn ahead(mut batches: BoxStream<'static, Result<AnswerBatch>>) -> BoxStream<'static, Result<AnswerBatch>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    // Who drops the answers ends the task.
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(batch) = batches.next().await {
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    });
    futures::stream::unfold((receiver, tasks), |(mut receiver, mut tasks)| async {
        if let Some(batch) = receiver.recv().await {
            return Some((batch, (receiver, tasks)));
        }
        let ended = tasks.join_next().await?.err()?;
        Some((Err(gone(&ended)), (receiver, tasks)))
    })
    .boxed()
}
