//! What the operator is told: plain data that crosses to another machine as it is.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::array::ArrayRef;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};
use asof_compute::{EntityKeys, SpineIndex, arrow_type, literal_array};
use asof_model::{Aggregate, Column, DataType, Expression, Length, Literal, Question, Timestamp};
use serde::{Deserialize, Serialize};

use super::answers::SlotAnswer;
use crate::threads::Several;
use crate::{Error, Result};

/// What one operator answers: every reading of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The source, for errors.
    pub source: String,
    /// Which rows count.
    pub question: Question,
    /// Also find where the other question would answer otherwise. Pointless, and not done, where v is
    /// always e and rows have no versions.
    pub compare: bool,
    /// The source has no clock: a null event time is before all time, and a second row of a key an error.
    pub clockless: bool,
    /// The source has no `available_at`: a null visible time is the event time, not never.
    pub assumed: bool,
    /// The source has a `valid_until`.
    pub valid_until: bool,
    /// The source has an `id`: rows are versions of events, which end where the next one is known.
    #[serde(default)]
    pub ids: bool,
    /// Where v is always e, the column whose numbers are o: rows of one e are ordered by them as they are folded.
    /// Other ties are told apart when they come to win.
    #[serde(default)]
    pub then_by: Option<String>,
    /// All columns of the source; rows that tie are told apart by them.
    pub columns: Vec<Column>,
    /// The readings, in order.
    pub readings: Vec<ReadingSpec>,
    /// A value over windows that is out of range is null, and not an error.
    #[serde(default)]
    pub overflow_is_null: bool,
    /// Features over windows also tell what each answer is, as [`asof_compute::Outcome`].
    #[serde(default)]
    pub outcomes: bool,
    /// Bytes that states and candidate rows may take before the spine is cut into portions.
    pub memory: u64,
}

/// One view in one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingSpec {
    /// The view, for errors.
    pub view: String,
    /// Which of the spine's key sets it is asked with.
    pub spine_keys: usize,
    /// The columns its entity's keys are read from, in the entity's order, with the keys' types.
    pub keys: Vec<Column>,
    /// Rows that pass; every delete does.
    pub filter: Option<Expression>,
    /// How long a row answers after its event time.
    pub ttl: Option<Length>,
    /// What the row that answers gives: name, value, type.
    pub features: Vec<FeatureSpec>,
}

/// One feature of a reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// Its name within the view.
    pub name: String,
    /// Its value over the columns of the row; of an aggregate the call as written.
    pub expression: Expression,
    /// Of a reading over windows what is computed, over one of them.
    #[serde(default)]
    pub aggregate: Option<Aggregate>,
    /// Stands in for the null of `not_found`, of `expired` and of an empty window.
    #[serde(default)]
    pub default: Option<Literal>,
    /// Its type.
    pub data_type: DataType,
}

impl ReadingSpec {
    /// Whether its features are aggregates over windows.
    pub fn is_window(&self) -> bool {
        self.features.iter().any(|feature| feature.aggregate.is_some())
    }

    /// Per feature of a reading of latest values what stands where no row answers: one value, or none. Windows have
    /// theirs where they are answered.
    pub(super) fn defaults(&self) -> Result<Vec<Option<ArrayRef>>> {
        let of = |feature: &FeatureSpec| {
            let default = feature.default.as_ref().filter(|_| feature.aggregate.is_none());
            let value = default.map(|it| literal_array(it, &feature.data_type));
            value.transpose().map_err(compute)
        };
        self.features.iter().map(of).collect()
    }

    /// The name of a column of this reading, by position, in the operator's output.
    pub(super) fn column(reading: usize, name: &str) -> String {
        format!("{reading}.{name}")
    }

    /// The types of its features, and behind them of what these tell of their answers.
    pub(super) fn types(&self, spec: &Spec) -> Vec<DataType> {
        let types = self.features.iter().map(|feature| feature.data_type.clone());
        types.chain(self.told(spec).map(|_| DataType::UInt8)).collect()
    }

    /// The features that also tell what each answer is.
    fn told(&self, spec: &Spec) -> impl Iterator<Item = &FeatureSpec> {
        self.features.iter().filter(|_| spec.outcomes && self.is_window())
    }
}

/// The status of each answer, as [`asof_compute::Status::code`].
pub(super) const STATUS: &str = "__status";
/// The event time of the row that answers or has expired.
pub(super) const EVENT_TIME: &str = "__event_time";
/// What a feature's answer over windows is: before its name.
pub(super) const OUTCOME: &str = "__outcome.";
/// Whether the other question answers otherwise.
pub(super) const DIFFERS: &str = "__differs";

impl Spec {
    /// The schema of the answers: one row per spine row, in the spine's order; for each reading its
    /// status, event time, whether the other question differs, its features, and what these tell of their answers.
    pub fn answer_schema(&self) -> SchemaRef {
        let mut fields = Vec::new();
        for (number, reading) in self.readings.iter().enumerate() {
            let time = ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            fields.push(Field::new(ReadingSpec::column(number, STATUS), ArrowType::UInt8, false));
            fields.push(Field::new(ReadingSpec::column(number, EVENT_TIME), time, true));
            fields.push(Field::new(ReadingSpec::column(number, DIFFERS), ArrowType::Boolean, false));
            for feature in &reading.features {
                let name = ReadingSpec::column(number, &feature.name);
                fields.push(Field::new(name, arrow_type(&feature.data_type), true));
            }
            for feature in reading.told(self) {
                let name = ReadingSpec::column(number, &format!("{OUTCOME}{}", feature.name));
                fields.push(Field::new(name, ArrowType::UInt8, true));
            }
        }
        Arc::new(Schema::new(fields))
    }

    /// How many states a slot has at most.
    pub(super) fn states(&self) -> usize {
        if self.compare { 3 } else { 1 }
    }
}

/// The spine as the operator needs it: times, and the keys of each entity and role.
#[derive(Debug)]
pub struct SpineColumns {
    times: ScalarBuffer<i64>,
    keys: Vec<EntityKeys>,
    hash: OnceLock<String>,
}

impl SpineColumns {
    /// From times in microseconds and key sets of as many rows each.
    pub fn new(times: ScalarBuffer<i64>, keys: Vec<EntityKeys>) -> SpineColumns {
        SpineColumns { times, keys, hash: OnceLock::new() }
    }

    /// The same keys, asked so long after. No time is past the last there is: what is asked then is not mature.
    pub(super) fn after(&self, after: Length) -> SpineColumns {
        let later = |time: &i64| time.saturating_add(after.micros()).min(Timestamp::LAST.0);
        SpineColumns::new(self.times.iter().map(later).collect(), self.keys.clone())
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// The name of its content, by which another process finds it; made when it is first asked for.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| self.content())
    }

    fn content(&self) -> String {
        let SpineColumns { times, keys, .. } = self;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(times.len() as u64).to_le_bytes());
        hasher.update(times.inner().as_slice());
        for set in keys {
            match set {
                EntityKeys::Int64 { values, nulls } => {
                    hasher.update(&[1, u8::from(nulls.is_some())]).update(values.inner().as_slice());
                    for valid in nulls.iter().flat_map(|nulls| nulls.iter()) {
                        hasher.update(&[u8::from(valid)]);
                    }
                }
                EntityKeys::Bytes(bytes) => {
                    hasher.update(&[2]);
                    for key in bytes {
                        let key = key.unwrap_or_default();
                        hasher.update(&(key.len() as u64).to_le_bytes()).update(key);
                    }
                }
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The greatest time of all; none without rows.
    pub(super) fn last_time(&self) -> Option<Timestamp> {
        self.times.iter().max().map(|time| Timestamp(*time))
    }

    /// For each reading the index of the key set that it asks with, made by so many threads.
    pub(super) fn index(&self, spec: &Spec, threads: usize) -> Result<Vec<Arc<SpineIndex>>> {
        let mut made: BTreeMap<usize, Arc<SpineIndex>> = BTreeMap::new();
        for reading in &spec.readings {
            if let std::collections::btree_map::Entry::Vacant(entry) = made.entry(reading.spine_keys) {
                let keys = self.keys.get(reading.spine_keys).ok_or_else(|| {
                    Error::internal(format!("the spine has no key set {}", reading.spine_keys))
                })?;
                let index = SpineIndex::build(keys, &self.times, &Several(threads));
                entry.insert(Arc::new(index.map_err(compute)?));
            }
        }
        Ok(spec.readings.iter().filter_map(|reading| made.get(&reading.spine_keys).cloned()).collect())
    }

    /// Bytes that answering all of it at once takes, but for candidate rows: what portions start from. `windows`
    /// are the bytes per answer of readings over windows.
    pub(super) fn state_bytes(&self, spec: &Spec, windows: &[Option<u64>]) -> u64 {
        // Beside states stand which slot answers under a question, and until when its row does.
        let until = if spec.valid_until { 8 } else { 0 };
        let states = asof_compute::LatestStates::BYTES_PER_SLOT + 4 + until;
        // Of rows that end two nodes of a tree, and the rows that answer instead of the slots they stand in.
        let ended = if spec.ids { asof_compute::LatestStates::BYTES_PER_SLOT * 2 + 16 } else { 0 };
        // What each slot is answered, which slots answer, and their rows.
        let answers = size_of::<SlotAnswer>() as u64 + 4 + 16;
        let latest = states * spec.states() as u64 + ended + answers;
        let readings = windows.iter().map(|windows| SpineIndex::BYTES_PER_ROW + windows.unwrap_or(latest));
        self.rows() as u64 * readings.sum::<u64>()
    }
}

/// One of so many portions of indexes, each made once for all readings that share it.
pub(super) fn portion(
    whole: &[Arc<SpineIndex>],
    (number, of): (u32, u32),
    cuts_keys: bool,
) -> Vec<Arc<SpineIndex>> {
    let mut parts: Vec<Arc<SpineIndex>> = Vec::with_capacity(whole.len());
    for (at, index) in whole.iter().enumerate() {
        let part = match whole[..at].iter().position(|other| Arc::ptr_eq(other, index)) {
            _ if of == 1 => Arc::clone(index),
            Some(same) => Arc::clone(&parts[same]),
            None => Arc::new(index.part(number, of, cuts_keys)),
        };
        parts.push(part);
    }
    parts
}

/// An error of the algebra as one of this room.
pub(super) fn compute(error: asof_compute::ComputeError) -> Error {
    use asof_model::Explain;
    Error::Invalid { code: error.code(), message: error.to_string(), hint: error.hint() }
}

/// The named columns of a batch.
pub(super) fn columns(batch: &arrow::array::RecordBatch, names: &[Column]) -> Result<Vec<ArrayRef>> {
    names
        .iter()
        .map(|column| {
            batch
                .column_by_name(&column.name)
                .cloned()
                .ok_or_else(|| Error::internal(format!("the scan gives no column `{}`", column.name)))
        })
        .collect()
}
