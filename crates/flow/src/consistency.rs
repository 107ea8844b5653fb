//! `asof check consistency`: what was answered online, answered again through the training path.
//!
//! The rows of the serving log are a spine: their keys, what the request brought, and T. Each source is read as it was
//! readable when they were answered, which the log says: pushed rows up to a position, batch rows as far as they had
//! been materialised. What comes of that must be what was answered, to the bit, with the same statuses.
//!
//! Rows that were answered from one cut are asked together. Positions of pushed rows differ from request to request,
//! and rarely matter: a row that came after a request was answered is not known at its T, but where a load brought
//! it ([`asof_engine::Engine::late_between`]). So there are as many trainings as there were cuts of batch rows and
//! loads between them, not as many as requests.
//!
//! Asked once more with what there is now, the same spine shows the *lag*: where a training set would have other
//! values than were served, since rows came after the time from which on they say they were known.

mod compare;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt8Array, UInt64Array,
};
use arrow::compute::{concat, concat_batches, take, take_record_batch};
use arrow::datatypes::{Field, Schema};
use asof_engine::point_in_time::{
    AnswerBatch, Manner, PointInTimeAnswer, SpineRows, answer, answer_readings,
};
use asof_engine::rows::ViewProgress;
use asof_engine::{Progress, ProgressEvent};
use asof_model::{
    Address, Catalog, Cut, Explain as _, Kind, LogHeader, Name, OnImmature, OnOverflow, Origin, Place,
    Principal, Question, ReadableUnits, SERVING_LOG_FOLDER, Selection, SourceVersion, Timestamp, log_columns,
};
use futures::TryStreamExt as _;
use serde::Serialize;

pub use self::read::greatest_logged_position;

use self::compare::{Answers, Differs, Why, differing, logged, trained};
use self::read::{KnownCuts, LogFile, LoggedRows, Reading, Told, group, statuses, told};
use crate::load::may_see;
use crate::{Flow, FlowError, Operation, Result};

/// Rows that are asked together at most: they are held in memory.
const PORTION: usize = 200_000;
/// Places that are told of each feature and each sort of difference.
const PLACES: usize = 5;

/// What is to be checked.
#[derive(Debug, Clone, Default)]
pub struct ConsistencyRequest {
    /// Only what was asked of this service.
    pub service: Option<Name>,
    /// Only what was asked since then.
    pub since: Option<Timestamp>,
    /// Whether places are told with the keys of their rows.
    pub show_keys: bool,
}

/// What a check came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ConsistencyReport {
    /// Files of the log that were read.
    pub files: u64,
    /// Of these, files with a broken end: whoever wrote them was killed.
    pub broken_ends: u64,
    /// Rows of the log.
    pub rows: u64,
    /// The least and the greatest T of them.
    pub times: Option<(Timestamp, Timestamp)>,
    /// Trainings that they were answered again with.
    pub trainings: u64,
    /// Values that were compared.
    pub values: u64,
    /// Of these, other values than were served, or null for another reason.
    pub mismatched: u64,
    /// Null online and a value offline.
    pub missing: u64,
    /// A value online and null offline.
    pub extra: u64,
    /// Values that a training set would have otherwise now: rows came after the time they say they were known from.
    pub lag: u64,
    /// By feature, in order of their names.
    pub features: Vec<FeatureConsistency>,
    /// What could not be answered as it was, and why.
    pub not_checkable: Vec<NotCheckable>,
}

impl ConsistencyReport {
    /// Whether all that was compared is equal.
    pub fn is_consistent(&self) -> bool {
        self.mismatched == 0 && self.missing == 0 && self.extra == 0
    }
}

/// How a feature was served.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FeatureConsistency {
    /// `view.feature`, or `project.view.feature` of another project's.
    pub feature: String,
    /// Values that were compared.
    pub values: u64,
    /// As [`ConsistencyReport::mismatched`].
    pub mismatched: u64,
    /// As [`ConsistencyReport::missing`].
    pub missing: u64,
    /// As [`ConsistencyReport::extra`].
    pub extra: u64,
    /// As [`ConsistencyReport::lag`].
    pub lag: u64,
    /// The first places of each.
    pub places: Vec<LogPlace>,
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Inconsistency {
    /// As [`ConsistencyReport::mismatched`].
    Mismatched,
    /// As [`ConsistencyReport::missing`].
    Missing,
    /// As [`ConsistencyReport::extra`].
    Extra,
    /// As [`ConsistencyReport::lag`].
    Lag,
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogPlace {
    /// What is so there.
    pub what: Inconsistency,
    /// The file, below the folder of the log.
    pub file: String,
    /// Its row, from 1.
    pub row: u64,
    /// Its T.
    pub as_of: Timestamp,
    /// Its keys, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<serde_json::Value>,
}

/// Rows that cannot be answered as they were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NotCheckable {
    /// The source.
    pub source: String,
    /// How many rows.
    pub rows: u64,
    /// Why.
    pub reason: String,
}

/// The spine of rows of the log, and what they were answered.
struct Portion<'a> {
    catalog: Arc<Catalog>,
    selection: Selection,
    rows: RecordBatch,
    told: Told,
    cuts: KnownCuts,
    /// By row, its file and its number there.
    places: Vec<(usize, u64)>,
    files: &'a [LogFile],
    show_keys: bool,
}

/// Answers to some rows of a portion.
struct Again {
    /// By output column; none where it could not be answered.
    columns: Vec<Option<(ArrayRef, Vec<Why>)>>,
}

impl Flow {
    /// Answers what stands in the serving log again, and compares.
    ///
    /// # Errors
    /// The project is not open to the principal, the log cannot be read, or sources cannot be read for a reason that
    /// is not that they changed.
    pub async fn check_consistency(
        &self,
        principal: &Principal,
        project: &Name,
        request: ConsistencyRequest,
        progress: Progress,
    ) -> Result<ConsistencyReport> {
        may_see(principal, project)?;
        let _seat = self.enter(Operation::Check, &progress).await?;
        let folder = self.engine.config().data_dir.join(SERVING_LOG_FOLDER);
        let (of, since) = (project.clone(), request.since);
        let files = self.engine.blocking(move || Ok(read::files(&folder, &of, since))).await?;
        let mut check = Check { flow: self, request, progress, files, report: ConsistencyReport::default() };
        check.run().await?;
        Ok(check.report.finished())
    }
}

struct Check<'a> {
    flow: &'a Flow,
    request: ConsistencyRequest,
    progress: Progress,
    files: Vec<LogFile>,
    report: ConsistencyReport,
}

impl Check<'_> {
    async fn run(&mut self) -> Result<()> {
        let mut waiting: Option<(LogHeader, Vec<(usize, LoggedRows)>)> = None;
        let mut rows = 0;
        for number in 0..self.files.len() {
            if self.flow.stop.is_cancelled() {
                return Err(FlowError::Stopping);
            }
            let Some(file) = self.files.get(number) else { break };
            let Some(mut reading) = Reading::open(file)? else {
                self.report.broken_ends += 1;
                continue;
            };
            let of = reading.header.definitions.service.as_ref().map(|service| &service.address.name);
            if self.request.service.is_some() && of != self.request.service.as_ref() {
                continue;
            }
            self.report.files += 1;
            if let Some((header, _)) = &waiting
                && *header != reading.header
                && let Some((header, some)) = waiting.take()
            {
                self.portion(&header, some).await?;
                rows = 0;
            }
            while let Some(some) = reading.next(self.request.since)? {
                rows += some.batch.num_rows();
                let (_, all) = waiting.get_or_insert_with(|| (reading.header.clone(), Vec::new()));
                all.push((number, some));
                if rows >= PORTION
                    && let Some((header, some)) = waiting.take()
                {
                    self.portion(&header, some).await?;
                    rows = 0;
                }
            }
            self.report.broken_ends += u64::from(reading.broken);
        }
        match waiting {
            Some((header, some)) => self.portion(&header, some).await,
            None => Ok(()),
        }
    }

    /// Answers rows of one header again.
    async fn portion(&mut self, header: &LogHeader, some: Vec<(usize, LoggedRows)>) -> Result<()> {
        let files = std::mem::take(&mut self.files);
        let made = Portion::new(header, &some, &files, self.request.show_keys);
        drop(some);
        let done = match made {
            Ok(portion) => self.answer_again(&portion).await,
            Err(error) => Err(error),
        };
        self.files = files;
        done
    }

    async fn answer_again(&mut self, portion: &Portion<'_>) -> Result<()> {
        let rows = portion.rows.num_rows();
        self.report.rows += rows as u64;
        let times = portion.told.as_of.iter();
        if let (Some(least), Some(greatest)) = (times.clone().min(), times.max()) {
            let (from, to) = self.report.times.unwrap_or((*least, *greatest));
            self.report.times = Some((from.min(*least), to.max(*greatest)));
        }
        let all: Vec<usize> = (0..rows).collect();
        // What there is now is asked first: a row that comes while this goes on is not known at these times.
        let now = self.training(portion, &all, None).await?;
        for (cuts, members) in portion.groups(self.flow).await? {
            let then = self.training(portion, &members, Some(&cuts)).await?;
            self.compare(portion, &members, &then)?;
            self.lag(portion, &members, &then, &now)?;
            let done = self.report.rows;
            (self.progress)(ProgressEvent { phase: "check", done, total: None, unit: "rows" });
        }
        Ok(())
    }

    /// Answers rows from these cuts, or from what there is now. Where a source is not there as it was, the others are
    /// answered without it.
    async fn training(
        &mut self,
        portion: &Portion<'_>,
        members: &[usize],
        cuts: Option<&[Cut]>,
    ) -> Result<Again> {
        let spine = portion.spine(members)?;
        let whole = self.try_training(portion, &portion.selection, &spine, cuts).await;
        let error = match whole {
            Ok(again) => return Ok(again),
            Err(error) => error,
        };
        if !is_of_source(&error) {
            return Err(error);
        }
        let columns = portion.selection.columns.len();
        let mut again = Again { columns: (0..columns).map(|_| None).collect() };
        let mut sources: BTreeSet<&Address> = BTreeSet::new();
        for reading in &portion.selection.readings {
            if !sources.insert(&reading.source.address) {
                continue;
            }
            let part = Part::of(&portion.selection, &reading.source.address);
            let of_part = cuts.map(|cuts| part.take(cuts));
            match self.try_training(portion, &part.selection, &spine, of_part.as_deref()).await {
                Ok(found) => {
                    for (place, column) in part.columns.iter().zip(found.columns) {
                        if let Some(standing) = again.columns.get_mut(*place) {
                            *standing = column;
                        }
                    }
                }
                Err(error) if is_of_source(&error) => {
                    // That a training set cannot be made now is said by who makes one.
                    if cuts.is_some() {
                        let source = reading.source.address.to_string();
                        self.not_checkable(source, members.len(), error.to_string());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(again)
    }

    fn not_checkable(&mut self, source: String, rows: usize, reason: String) {
        let all = &mut self.report.not_checkable;
        let rows = rows as u64;
        match all.iter_mut().find(|it| it.source == source && it.reason == reason) {
            Some(found) => found.rows += rows,
            None => all.push(NotCheckable { source, rows, reason }),
        }
    }

    async fn try_training(
        &mut self,
        portion: &Portion<'_>,
        selection: &Selection,
        spine: &SpineRows,
        cuts: Option<&[Cut]>,
    ) -> Result<Again> {
        let engine = &self.flow.engine;
        let manner = Manner {
            question: Question::Known,
            on_overflow: OnOverflow::Null,
            outcomes: true,
            on_immature: OnImmature::Keep,
            ..Manner::default()
        };
        let answers = match cuts {
            Some(cuts) => answer_readings(engine, &portion.catalog, selection, spine, manner, cuts).await?,
            None => answer(engine, &portion.catalog, selection, spine, manner, &[], None).await?,
        };
        self.report.trainings += 1;
        collect(selection, answers).await
    }

    /// Compares what was served with what was answered again.
    fn compare(&mut self, portion: &Portion<'_>, members: &[usize], then: &Again) -> Result<()> {
        let places = indices(members);
        let served = group(&portion.rows, log_columns::FEATURES).ok_or_else(|| portion.broken())?;
        for (number, again) in then.columns.iter().enumerate() {
            let Some((values, why)) = again else { continue };
            let column = served.columns().get(number).ok_or_else(|| portion.broken())?;
            let statuses = statuses(&portion.rows, number).ok_or_else(|| portion.broken())?;
            let (column, statuses) = (taken(column, &places)?, taken(&statuses, &places)?);
            let said = logged(&statuses).ok_or_else(|| portion.broken())?;
            let served = Answers { values: &column, why: &said };
            let found = differing(&served, &Answers { values, why })?;
            let feature = self.report.feature(portion.feature(number));
            feature.values += members.len() as u64;
            for (at, differs) in found {
                let (what, count) = match differs {
                    Differs::Mismatched => (Inconsistency::Mismatched, &mut feature.mismatched),
                    Differs::Missing => (Inconsistency::Missing, &mut feature.missing),
                    Differs::Extra => (Inconsistency::Extra, &mut feature.extra),
                };
                *count += 1;
                portion.tell(&mut feature.places, what, members.get(at).copied());
            }
        }
        Ok(())
    }

    /// Compares what there was with what there is.
    fn lag(&mut self, portion: &Portion<'_>, members: &[usize], then: &Again, now: &Again) -> Result<()> {
        let places = indices(members);
        for (number, (then, now)) in then.columns.iter().zip(&now.columns).enumerate() {
            let (Some((values, why)), Some((now, why_now))) = (then, now) else { continue };
            let now = taken(now, &places)?;
            let why_now: Vec<Why> = members.iter().filter_map(|row| why_now.get(*row).copied()).collect();
            let found = differing(&Answers { values, why }, &Answers { values: &now, why: &why_now })?;
            let feature = self.report.feature(portion.feature(number));
            for (at, _) in found {
                feature.lag += 1;
                portion.tell(&mut feature.places, Inconsistency::Lag, members.get(at).copied());
            }
        }
        Ok(())
    }
}

impl ConsistencyReport {
    fn feature(&mut self, name: String) -> &mut FeatureConsistency {
        let at = match self.features.binary_search_by(|it| it.feature.cmp(&name)) {
            Ok(at) => at,
            Err(at) => {
                self.features.insert(at, FeatureConsistency { feature: name, ..Default::default() });
                at
            }
        };
        &mut self.features[at]
    }

    fn finished(mut self) -> ConsistencyReport {
        let sum = |of: fn(&FeatureConsistency) -> u64| self.features.iter().map(of).sum();
        self.values = sum(|it| it.values);
        self.mismatched = sum(|it| it.mismatched);
        self.missing = sum(|it| it.missing);
        self.extra = sum(|it| it.extra);
        self.lag = sum(|it| it.lag);
        self
    }
}

impl<'a> Portion<'a> {
    fn new(
        header: &LogHeader,
        some: &[(usize, LoggedRows)],
        files: &'a [LogFile],
        show_keys: bool,
    ) -> Result<Portion<'a>> {
        let broken = |file: usize, reason: &str| FlowError::ServingLog {
            file: files.get(file).map(|file| file.shown.clone()).unwrap_or_default(),
            reason: reason.to_owned(),
        };
        let first = some.first().map_or(0, |(file, _)| *file);
        let restored = header.definitions.restore();
        let (catalog, mut selection) = restored.map_err(|missing| broken(first, &missing.to_string()))?;
        // They are not served.
        selection.labels = Vec::new();
        let mut cuts = KnownCuts::default();
        let mut all = Told { as_of: Vec::new(), position: Vec::new(), cut: Vec::new() };
        let (mut batches, mut places) = (Vec::new(), Vec::new());
        for (file, rows) in some {
            let told =
                told(&rows.batch, &mut cuts).ok_or_else(|| broken(*file, "a column of it is damaged"))?;
            all.as_of.extend(told.as_of);
            all.position.extend(told.position);
            all.cut.extend(told.cut);
            places.extend(rows.numbers.iter().map(|number| (*file, *number)));
            // What is told is there already; dictionaries need not be put together.
            let schema = rows.batch.schema();
            let wanted = schema.fields().iter().enumerate();
            let wanted = wanted.filter(|(_, field)| field.name() != log_columns::CUTS).map(|(at, _)| at);
            let wanted: Vec<usize> = wanted.collect();
            let rest = rows.batch.project(&wanted).map_err(|error| broken(*file, &error.to_string()))?;
            batches.push(rest);
        }
        let schema = batches.first().map(RecordBatch::schema).unwrap_or_else(|| Arc::new(Schema::empty()));
        let rows = concat_batches(&schema, &batches).map_err(|error| broken(first, &error.to_string()))?;
        Ok(Portion { catalog: Arc::new(catalog), selection, rows, told: all, cuts, places, files, show_keys })
    }

    fn broken(&self) -> FlowError {
        let file = self.places.first().and_then(|(file, _)| self.files.get(*file));
        let file = file.map(|file| file.shown.clone()).unwrap_or_default();
        FlowError::ServingLog { file, reason: "a column of it is damaged".to_owned() }
    }

    /// The name of the feature of an output column.
    fn feature(&self, column: usize) -> String {
        let selection = &self.selection;
        let Some(column) = selection.columns.get(column) else { return String::new() };
        let (address, feature) = match column.from {
            Origin::Feature { reading, feature } => {
                let view = selection.readings.get(reading).map(|reading| &reading.view);
                let feature = view.and_then(|view| view.features.get(feature));
                (view.map(|view| &view.address), feature.map(|it| &it.feature.name))
            }
            Origin::Derived { step } => {
                let step = selection.steps.get(step);
                let feature = step.and_then(|step| step.feature());
                (step.map(|step| &step.derived.address), feature.map(|it| &it.feature.name))
            }
        };
        match (address, feature) {
            (Some(of), Some(feature)) if of.project == selection.project => format!("{}.{feature}", of.name),
            (Some(of), Some(feature)) => format!("{of}.{feature}"),
            _ => column.name.clone(),
        }
    }

    /// The rows with their times, keys and what the request brought, as a training is asked with them.
    fn spine(&self, members: &[usize]) -> Result<SpineRows> {
        /// No key or request column has such a name.
        const TIME: &str = "__as_of";
        let rows = take_record_batch(&self.rows, &indices(members)).map_err(|_| self.broken())?;
        let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
        for name in [log_columns::KEYS, log_columns::REQUEST] {
            let Some(group) = group(&rows, name) else { continue };
            fields.extend(group.fields().iter().cloned());
            columns.extend(group.columns().iter().cloned());
        }
        let times = members.iter().filter_map(|row| self.told.as_of.get(*row)).map(|at| at.0);
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        fields.push(Arc::new(Field::new(TIME, times.data_type().clone(), false)));
        columns.push(Arc::new(times));
        let batch =
            RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|_| self.broken())?;
        Ok(SpineRows { batches: vec![batch], time: TIME.to_owned() })
    }

    /// Rows that are answered from one cut, each group with what every reading is answered from.
    async fn groups(&self, flow: &Flow) -> Result<Vec<(Vec<Cut>, Vec<usize>)>> {
        let pushed = |source: &SourceVersion| matches!(source.definition.place, Place::Push { .. });
        let mut order: Vec<usize> = (0..self.rows.num_rows()).collect();
        let position = |row: &usize| self.told.position.get(*row).copied().flatten();
        order.sort_by_key(|row| position(row));
        let times =
            order.iter().map(|row| self.told.as_of.get(*row).copied().unwrap_or(Timestamp::BEFORE_ALL));
        let asked: Vec<(i64, Timestamp)> =
            order.iter().map(|row| position(row).unwrap_or(i64::MIN)).zip(times).collect();
        let mut between: BTreeSet<usize> = BTreeSet::new();
        let mut seen: BTreeSet<&Address> = BTreeSet::new();
        for reading in &self.selection.readings {
            let source = &reading.source;
            if pushed(source) && seen.insert(&source.address) {
                match flow.engine.late_between(source, &asked).await {
                    Ok(found) => between.extend(found),
                    // What cannot be read at all is told of where it is read.
                    Err(error) if is_of_source(&error.clone().into()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (place, row) in order.iter().enumerate() {
            let turn = between.range(..=place).count();
            let cut = self.told.cut.get(*row).copied().unwrap_or_default();
            groups.entry((turn, cut)).or_default().push(*row);
        }
        let made = groups.into_iter().map(|((_, cut), members)| {
            let last = members.last().and_then(position);
            let units = self.cuts.all.get(cut).ok_or_else(|| self.broken())?;
            Ok((self.cut(units, last)?, members))
        });
        made.collect()
    }

    /// What every reading was answered from.
    fn cut(&self, units: &[ReadableUnits], position: Option<i64>) -> Result<Vec<Cut>> {
        let readings = self.selection.readings.iter().enumerate();
        let cuts = readings.map(|(number, reading)| {
            let readable = units.get(number).ok_or_else(|| self.broken())?;
            let units = readable.units.iter();
            let units = units.map(|(unit, seen)| (unit.clone(), seen.as_bytes().to_vec())).collect();
            Ok(ViewProgress { units }.cut(&reading.source, position)?)
        });
        cuts.collect()
    }

    /// Tells of a row, unless enough were told.
    fn tell(&self, places: &mut Vec<LogPlace>, what: Inconsistency, row: Option<usize>) {
        let Some(row) = row else { return };
        if places.iter().filter(|place| place.what == what).count() >= PLACES {
            return;
        }
        let (Some((file, number)), Some(as_of)) = (self.places.get(row), self.told.as_of.get(row)) else {
            return;
        };
        let file = self.files.get(*file).map(|file| file.shown.clone()).unwrap_or_default();
        let keys = self.show_keys.then(|| self.keys(row));
        places.push(LogPlace { what, file, row: *number, as_of: *as_of, keys });
    }

    fn keys(&self, row: usize) -> serde_json::Value {
        let mut keys = serde_json::Map::new();
        if let Some(group) = group(&self.rows, log_columns::KEYS) {
            for (field, column) in group.fields().iter().zip(group.columns()) {
                let shown = match column.is_null(row) {
                    true => serde_json::Value::Null,
                    false => {
                        arrow::util::display::array_value_to_string(column, row).unwrap_or_default().into()
                    }
                };
                keys.insert(field.name().clone(), shown);
            }
        }
        keys.into()
    }
}

/// The readings of one source, as a selection of their own.
struct Part {
    selection: Selection,
    /// For each of its readings, which of the whole it is.
    readings: Vec<usize>,
    /// For each of its columns, which of the whole it is.
    columns: Vec<usize>,
}

impl Part {
    fn of(whole: &Selection, source: &Address) -> Part {
        let all = whole.readings.iter().enumerate();
        let readings: Vec<usize> =
            all.filter(|(_, it)| it.source.address == *source).map(|(number, _)| number).collect();
        let mut selection = Selection { readings: Vec::new(), columns: Vec::new(), ..whole.clone() };
        (selection.steps, selection.request) = (Vec::new(), Vec::new());
        selection.readings = readings.iter().filter_map(|at| whole.readings.get(*at).cloned()).collect();
        let mut columns = Vec::new();
        for (number, column) in whole.columns.iter().enumerate() {
            let Some((reading, feature)) = column.read() else { continue };
            let Some(reading) = readings.iter().position(|at| *at == reading) else { continue };
            let mut column = column.clone();
            column.from = Origin::Feature { reading, feature };
            selection.columns.push(column);
            columns.push(number);
        }
        Part { selection, readings, columns }
    }

    fn take(&self, cuts: &[Cut]) -> Vec<Cut> {
        self.readings.iter().filter_map(|at| cuts.get(*at).cloned()).collect()
    }
}

/// Whether an error is of a source that is not there as it was.
fn is_of_source(error: &FlowError) -> bool {
    matches!(error, FlowError::Engine(_))
        && matches!(error.kind(), Kind::NotFound | Kind::Invalid | Kind::Conflict)
}

fn indices(members: &[usize]) -> UInt64Array {
    members.iter().map(|row| *row as u64).collect()
}

fn taken(column: &ArrayRef, places: &UInt64Array) -> Result<ArrayRef> {
    take(column, places, None).map_err(|error| FlowError::Internal { what: error.to_string() })
}

/// All answers, by column.
async fn collect(selection: &Selection, answers: PointInTimeAnswer) -> Result<Again> {
    let batches: Vec<AnswerBatch> = answers.batches.try_collect().await?;
    let together = |parts: Vec<ArrayRef>| -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        concat(&parts).map_err(|error| FlowError::Internal { what: error.to_string() })
    };
    let mut columns = Vec::with_capacity(selection.columns.len());
    for (number, column) in selection.columns.iter().enumerate() {
        let values = together(batches.iter().filter_map(|it| it.columns.get(number).cloned()).collect())?;
        let why = match column.read() {
            None => vec![Why::Untold; values.len()],
            Some((reading, _)) => {
                let parts = batches.iter().filter_map(|it| it.status.get(reading));
                let statuses = together(parts.map(|it| Arc::new(it.clone()) as ArrayRef).collect())?;
                let statuses: &UInt8Array = statuses.as_primitive();
                let outcomes = batches.iter().filter_map(|it| it.outcomes.get(number).cloned().flatten());
                let outcomes: Vec<ArrayRef> = outcomes.map(|it| Arc::new(it) as ArrayRef).collect();
                let outcomes = (!outcomes.is_empty()).then(|| together(outcomes)).transpose()?;
                trained(statuses, outcomes.as_ref().map(|it| it.as_primitive()))
            }
        };
        columns.push(Some((values, why)));
    }
    Ok(Again { columns })
}
