//! From a selection and a spine to answers in the spine's order.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{TimestampMicrosecondType, UInt8Type};
use asof_compute::{KeyEncoder, conform, has_order_numbers};
use asof_model::{
    Address, Catalog, Column, Cut, DataType, Name, OnOverflow, Question, Reading, Selection, SourceCut,
    SourceVersion, Timestamp,
};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use super::answers::ReadingCounts;
use super::ends::Ends;
use super::operator::{Hooks, Mode, PointInTimeExec, broken};
use super::spec::{DIFFERS, EVENT_TIME, FeatureSpec, ReadingSpec, STATUS, Spec, SpineColumns, compute};
use super::versions::ends_of;
use super::windows;
use crate::engine::gone;
use crate::expression::{Purpose, compile};
use crate::source::{ScanColumns, SourceScan, fixed, open, scan_opened};
use crate::threads::in_parallel;
use crate::{Engine, Error, Progress, Result};

/// A spine: rows with keys and a time, and anything else.
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
    /// The answers, as many rows as the spine, in its order; cut anywhere.
    pub batches: BoxStream<'static, Result<AnswerBatch>>,
}

/// Answers to some spine rows that follow each other.
#[derive(Debug, Clone)]
pub struct AnswerBatch {
    /// How many rows.
    pub rows: usize,
    /// The selection's output columns, in order.
    pub columns: Vec<ArrayRef>,
    /// Per reading of the selection, [`asof_compute::Status::code`] of each row.
    pub status: Vec<arrow::array::UInt8Array>,
    /// Per reading, the event time of the row that answers or has expired, else null.
    pub event_time: Vec<ArrayRef>,
    /// Per reading, whether the other question answers otherwise.
    pub differs: Vec<arrow::array::BooleanArray>,
}

/// In which manner a spine is answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Which rows count.
    pub question: Question,
    /// What a value over a window does that is out of range, or over its cap.
    pub on_overflow: OnOverflow,
}

impl From<Question> for Manner {
    fn from(question: Question) -> Manner {
        Manner { question, ..Manner::default() }
    }
}

/// Answers a spine: reads each source once, whatever number of views and roles stand on it, on the
/// engine's own threads. Sources named in `at` are read as they were read then, the others as they are.
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
    let (engine, catalog, selection, spine) =
        (engine.clone(), Arc::clone(catalog), selection.clone(), spine.clone());
    let (at, manner) = (at.to_vec(), manner.into());
    let on = engine.clone();
    on.run(async move {
        let threads = engine.config().threads;
        let (columns, key_sets) = spine_columns(&spine, &selection, threads)?;
        drop(spine);
        let columns = Arc::new(columns);
        tracing::debug!(rows = columns.rows(), "the spine's keys and times are there");
        let mut groups = Vec::new();
        let mut cuts = Vec::new();
        for (source, members) in by_source(&selection) {
            let spec = spec(&engine, &selection, &source, &members, &key_sets, manner);
            let spec = Arc::new(spec);
            let at = at.iter().find(|cut| cut.source == source.address).map(|cut| &cut.cut);
            let (until, told) = (columns.last_time(), progress.clone());
            let (scan, keys, ends) = scan_for(&engine, &catalog, &source, &spec, until, at, told).await?;
            let fetch = scan.fetch.clone();
            let hooks = Hooks { progress: progress.clone(), fetch, keys, ends, ..Hooks::default() };
            let counts = Arc::clone(&hooks.counts);
            let input = Arc::clone(&scan.plan);
            let exec = PointInTimeExec::new(
                &engine,
                Arc::clone(&spec),
                Mode::Final,
                Arc::clone(&columns),
                input,
                hooks,
            )?;
            let stream = first_polled(exec.execute(0, engine.session().task_ctx())?).await?;
            let scan = engine.blocking(move || scan.verify().map(|()| scan)).await?;
            cuts.push((source.address.clone(), scan.identity.clone()));
            groups.push(Group { members, spec, counts, stream });
        }
        Ok(assemble(&selection, groups, cuts))
    })
    .await
}

/// One source's operator, answering.
struct Group {
    /// Its readings, as the selection numbers them.
    members: Vec<usize>,
    spec: Arc<Spec>,
    counts: Arc<Mutex<Vec<ReadingCounts>>>,
    stream: SendableRecordBatchStream,
}

/// What the readings of the selection ask the spine with: names of its columns, and types.
type KeySet = (Vec<Name>, Vec<DataType>);

fn key_set(reading: &Reading) -> KeySet {
    let types = reading.view.keys.iter().map(|key| key.key.data_type.clone()).collect();
    (reading.keys.clone(), types)
}

/// The spine's times, and its distinct key sets.
fn spine_columns(
    spine: &SpineRows,
    selection: &Selection,
    threads: usize,
) -> Result<(SpineColumns, Vec<KeySet>)> {
    let column = |(name, data_type): (&str, &DataType)| -> Result<ArrayRef> {
        let chunks = spine
            .batches
            .iter()
            .map(|batch| {
                let found = batch.column_by_name(name).ok_or_else(|| {
                    let schema = batch.schema();
                    let there: Vec<&str> =
                        schema.fields().iter().map(|field| field.name().as_str()).collect();
                    Error::NotFound {
                        what: "spine column",
                        name: name.to_owned(),
                        hint: Some(format!("the spine has {}", there.join(", "))),
                    }
                })?;
                conform(found, data_type).map_err(|bad| key_error(name, bad))
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        match chunks.as_slice() {
            [] => Ok(arrow::array::new_empty_array(&asof_compute::arrow_type(data_type))),
            [only] => Ok(Arc::clone(only)),
            chunks => Ok(concat(&chunks.iter().map(AsRef::as_ref).collect::<Vec<_>>())?),
        }
    };
    let mut sets: Vec<KeySet> = Vec::new();
    for reading in &selection.readings {
        let set = key_set(reading);
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    let time = [(spine.time.as_str(), &DataType::Timestamp)].into_iter();
    let keys = sets.iter().flat_map(|(names, types)| names.iter().map(Name::as_str).zip(types));
    let mut columns = in_parallel(time.chain(keys).collect(), threads, column)?.into_iter();
    let times = columns.next().ok_or_else(|| Error::internal("the spine's times are not read"))?;
    if times.null_count() > 0 {
        let row = (0..times.len()).find(|row| times.is_null(*row)).unwrap_or_default();
        let message = format!("spine column `{}` has no time in row {}", spine.time, row + 1);
        return Err(Error::invalid("null_time", message)
            .with_hint("every spine row needs a time: drop the row or fill it"));
    }
    let mut keys = Vec::new();
    for (_, types) in &sets {
        let of_set: Vec<ArrayRef> = columns.by_ref().take(types.len()).collect();
        keys.push(KeyEncoder::new(types).keys(&of_set).map_err(compute)?);
    }
    let times = times.as_primitive::<TimestampMicrosecondType>().values().clone();
    Ok((SpineColumns::new(times, keys), sets))
}

fn key_error(column: &str, bad: asof_compute::ComputeError) -> Error {
    use asof_model::Explain;
    let text = bad.to_string();
    let float = text.contains("type Float") && text.contains("int");
    let hint = if float { Some(crate::training::WRITTEN_AS_FLOAT.to_owned()) } else { bad.hint() };
    Error::Invalid { code: bad.code(), message: format!("spine column `{column}`: {text}"), hint }
}

/// The readings of a selection, by the source they stand on, in order of first use.
fn by_source(selection: &Selection) -> Vec<(Arc<SourceVersion>, Vec<usize>)> {
    let mut groups: Vec<(Arc<SourceVersion>, Vec<usize>)> = Vec::new();
    for (number, reading) in selection.readings.iter().enumerate() {
        let same = |group: &&mut (Arc<SourceVersion>, Vec<usize>)| {
            group.0.address == reading.source.address && group.0.id == reading.source.id
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.1.push(number),
            None => groups.push((Arc::clone(&reading.source), vec![number])),
        }
    }
    groups
}

fn spec(
    engine: &Engine,
    selection: &Selection,
    source: &SourceVersion,
    members: &[usize],
    key_sets: &[KeySet],
    manner: Manner,
) -> Spec {
    let definition = &source.definition;
    let readings = members.iter().filter_map(|number| {
        let reading = selection.readings.get(*number)?;
        let view = &reading.view;
        let taken = selection.taken(*number);
        let asked = |feature: usize| taken.contains(&feature);
        let features = view.features.iter().enumerate().filter(|(at, _)| asked(*at));
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
    let assumed = definition.available_at.is_none();
    Spec {
        source: source.address.to_string(),
        question: manner.question,
        compare: !assumed || definition.id.is_some(),
        clockless: definition.event_time.is_none(),
        assumed,
        valid_until: definition.valid_until.is_some(),
        ids: definition.id.is_some(),
        then_by: then_by(engine, source),
        columns: source.columns.clone(),
        readings: readings.collect(),
        overflow_is_null: manner.on_overflow == OnOverflow::Null,
        memory: engine.config().memory,
    }
}

/// The column that [`Spec::then_by`] names: one that a source orders rows by, and whose values are whole numbers or
/// times.
fn then_by(engine: &Engine, source: &SourceVersion) -> Option<String> {
    let definition = &source.definition;
    let text = &definition.order_by.as_ref().filter(|_| {
        // Without a clock a second row is an error, whatever its order.
        definition.available_at.is_none() && definition.event_time.is_some()
    })?;
    let order = compile(engine, &text.text, &source.columns, false, Purpose::Order).ok()?;
    // Nothing but the column's name, which may be written in other case.
    let [column] = order.needs() else { return None };
    let plain = column.eq_ignore_ascii_case(text.text.trim());
    (plain && has_order_numbers(order.data_type())).then(|| column.clone())
}

/// Scans for addresses, keys, the columns of `where` and [`Spec::then_by`], where rows can be fetched by address; else for
/// all columns, since the operator then keeps rows as they come. Of facts without a clock also what reads
/// their keys again; and where rows have ids, which of them end.
async fn scan_for(
    engine: &Engine,
    catalog: &Catalog,
    source: &SourceVersion,
    spec: &Spec,
    until: Option<Timestamp>,
    at: Option<&Cut>,
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
    let ends = ends_of(engine, source, spec, &opened, progress).await?;
    // A second row of a key is refused whenever it is.
    let until = until.filter(|_| !spec.clockless);
    // What is asked in the order of rows reads all of each row.
    let address = !ordered;
    let thin = ScanColumns { columns, address, numbered: spec.clockless, until, ..Default::default() };
    let found = Arc::new(scan_opened(engine, source, &opened, &thin).await?);
    let keys = spec.clockless.then(|| Arc::clone(&found));
    if found.fetch.is_some() {
        return Ok((found, keys, ends));
    }
    let whole = ScanColumns { all_for_digest: true, named: spec.ids, ..ScanColumns::default() };
    Ok((Arc::new(scan_opened(engine, source, &opened, &whole).await?), keys, ends))
}

/// The stream with its first batch waited for: the source is then read and all answers are known.
async fn first_polled(mut stream: SendableRecordBatchStream) -> Result<SendableRecordBatchStream> {
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    let schema = stream.schema();
    let first = stream.next().await.transpose()?;
    let first = futures::stream::iter(first.map(Ok));
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, first.chain(stream))))
}

fn assemble(selection: &Selection, groups: Vec<Group>, cuts: Vec<(Address, Cut)>) -> PointInTimeAnswer {
    let mut readings = vec![ReadingCounts::default(); selection.readings.len()];
    // Per reading of the selection, its group and its number there.
    let mut places = vec![(0, 0); selection.readings.len()];
    let mut specs = Vec::with_capacity(groups.len());
    let mut streams = Vec::with_capacity(groups.len());
    for (number, group) in groups.into_iter().enumerate() {
        let counts = std::mem::take(&mut *group.counts.lock().unwrap_or_else(PoisonError::into_inner));
        for (at, (member, counts)) in group.members.iter().zip(counts).enumerate() {
            readings[*member] = counts;
            places[*member] = (number, at);
        }
        specs.push(group.spec);
        streams.push(group.stream);
    }
    let selection = selection.clone();
    let standing: Vec<Option<RecordBatch>> = vec![None; streams.len()];
    let batches = futures::stream::try_unfold((streams, standing), move |(mut streams, mut standing)| {
        let (selection, places) = (selection.clone(), places.clone());
        async move {
            for (stream, standing) in streams.iter_mut().zip(&mut standing) {
                if standing.is_none() {
                    *standing = stream.try_next().await?;
                }
            }
            // All operators answer the same spine, in batches of sizes of their own.
            let Some(batches) = standing.iter().cloned().collect::<Option<Vec<RecordBatch>>>() else {
                return Ok(None);
            };
            let Some(rows) = batches.iter().map(RecordBatch::num_rows).min() else { return Ok(None) };
            let now: Vec<RecordBatch> = batches.iter().map(|batch| batch.slice(0, rows)).collect();
            let rest = |batch: RecordBatch| {
                (batch.num_rows() > rows).then(|| batch.slice(rows, batch.num_rows() - rows))
            };
            standing = batches.into_iter().map(rest).collect();
            Ok(Some((answer_batch(&selection, &places, &now)?, (streams, standing))))
        }
    });
    PointInTimeAnswer { readings, cuts, batches: ahead(batches.boxed()) }
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

fn answer_batch(
    selection: &Selection,
    places: &[(usize, usize)],
    batches: &[RecordBatch],
) -> Result<AnswerBatch> {
    let column = |reading: usize, name: &str| -> Result<ArrayRef> {
        let (group, at) = places[reading];
        let name = ReadingSpec::column(at, name);
        let found = batches[group].column_by_name(&name).cloned();
        found.ok_or_else(|| Error::internal(format!("the operator gives no column `{name}`")))
    };
    let columns = selection.columns.iter().map(|output| {
        let (reading, feature) = output
            .read()
            .ok_or_else(|| Error::internal(format!("nothing computes column `{}` yet", output.name)))?;
        let view = &selection.readings[reading].view;
        column(reading, view.features[feature].feature.name.as_str())
    });
    let all = 0..selection.readings.len();
    let status = |reading| Ok(column(reading, STATUS)?.as_primitive::<UInt8Type>().clone());
    Ok(AnswerBatch {
        rows: batches.first().map_or(0, RecordBatch::num_rows),
        columns: columns.collect::<Result<_>>()?,
        status: all.clone().map(status).collect::<Result<_>>()?,
        event_time: all.clone().map(|reading| column(reading, EVENT_TIME)).collect::<Result<_>>()?,
        differs: all
            .map(|reading| Ok(column(reading, DIFFERS)?.as_boolean().clone()))
            .collect::<Result<_>>()?,
    })
}
