//! What a request is answered with: values as the store has them, read into what the caller wants.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use asof_compute::{Outcome, RowError, RowLayout, RowValue, Status};
use asof_model::{OutputColumn, Timestamp};

use crate::prepared::{Derived, Output, PreparedReading, defect};
use crate::{PreparedSelection, Result, ServeError};

/// What a request is answered with.
///
/// The values lie in one piece of memory, in the bytes of the store's rows: an answer of fifty columns for
/// one entity takes a handful of allocations, where an array for each took hundreds.
#[derive(Debug, Clone)]
pub struct Features {
    /// The T of the whole answer.
    pub at: Timestamp,
    /// Each view in each role once: one row answers for all its columns.
    pub readings: Vec<ReadingStatus>,
    selection: Arc<PreparedSelection>,
    entities: usize,
    bytes: Vec<u8>,
    /// By reading and entity; behind them, where anything is derived, that by entity.
    rows: Vec<Row>,
    /// Of the values of long rows, where their bytes are; none of a null.
    values: Vec<Option<Range<usize>>>,
}

/// Where the values of a row are.
#[derive(Debug, Clone)]
enum Row {
    /// Nowhere: all are null.
    Nothing,
    /// In [`PreparedReading::default`].
    Default,
    /// In these bytes, as they were stored.
    Whole(Range<usize>),
    /// Of the features asked for alone, from this one of the values on.
    Values(usize),
}

/// Bytes of a row that is taken whole: it costs less than to look for its values twice, and holds little
/// that was not asked for.
const WHOLE: usize = 1_024;

/// What one view in one role answered, per entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingStatus {
    /// The view, `view` or `project.view` where it is another project's.
    pub view: Arc<str>,
    /// The names of its keys in the request.
    pub keys: Arc<[String]>,
    /// Per entity.
    pub status: Vec<Status>,
    /// Per entity: the event time of the row that answered, also where it is expired; none where there
    /// is no row, a delete, or a fact without a clock.
    pub event_time: Vec<Option<Timestamp>>,
    /// Of a view over windows, for each of its features asked for, in their order, what came of it per entity.
    pub outcomes: Vec<Vec<Outcome>>,
}

impl Features {
    pub(crate) fn new(selection: Arc<PreparedSelection>, at: Timestamp, entities: usize) -> Features {
        let (readings, values) = (selection.readings.len(), selection.outputs.len() * entities);
        Features {
            at,
            readings: Vec::with_capacity(readings),
            entities,
            bytes: Vec::with_capacity(values * 10),
            rows: Vec::with_capacity(
                (readings + usize::from(!selection.derived.given.is_empty())) * entities,
            ),
            values: Vec::new(),
            selection,
        }
    }

    /// Begins the answer of the next reading.
    pub(crate) fn begin<'a>(&'a mut self, reading: &'a PreparedReading) -> Answer<'a> {
        self.readings.push(ReadingStatus {
            view: Arc::clone(&reading.said),
            keys: Arc::clone(&reading.keys),
            status: Vec::with_capacity(self.entities),
            event_time: Vec::with_capacity(self.entities),
            outcomes: Vec::new(),
        });
        Answer { features: self, reading }
    }

    /// Some of the entities alone; none where one is not there.
    pub(crate) fn of_entities(&self, entities: &[usize]) -> Option<Features> {
        let (mut bytes, mut values, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        let keep = |place: &Range<usize>, bytes: &mut Vec<u8>| {
            let at = bytes.len();
            bytes.extend_from_slice(self.bytes.get(place.clone())?);
            Some(at..bytes.len())
        };
        let blocks = self.rows.chunks(self.entities.max(1)).enumerate();
        for (reading, of) in blocks {
            let asked = self.selection.readings.get(reading).map_or(0, |reading| reading.places.len());
            for entity in entities {
                rows.push(match of.get(*entity)? {
                    Row::Nothing => Row::Nothing,
                    Row::Default => Row::Default,
                    Row::Whole(place) => Row::Whole(keep(place, &mut bytes)?),
                    Row::Values(first) => {
                        let at = values.len();
                        for value in self.values.get(*first..first + asked)? {
                            let value = value.as_ref().map(|place| keep(place, &mut bytes));
                            values.push(match value {
                                Some(kept) => Some(kept?),
                                None => None,
                            });
                        }
                        Row::Values(at)
                    }
                });
            }
        }
        let readings = self.readings.iter().map(|reading| {
            Some(ReadingStatus {
                view: Arc::clone(&reading.view),
                keys: Arc::clone(&reading.keys),
                status: some_of(&reading.status, entities)?,
                event_time: some_of(&reading.event_time, entities)?,
                outcomes: reading.outcomes.iter().map(|of| some_of(of, entities)).collect::<Option<_>>()?,
            })
        });
        Some(Features {
            at: self.at,
            readings: readings.collect::<Option<_>>()?,
            selection: Arc::clone(&self.selection),
            entities: entities.len(),
            bytes,
            rows,
            values,
        })
    }

    /// Bytes it takes, about.
    pub(crate) fn memory(&self) -> usize {
        let rows = self.rows.len() * size_of::<Row>() + self.values.len() * size_of::<Option<Range<usize>>>();
        self.bytes.len() + rows + self.readings.len() * (128 + 24 * self.entities)
    }

    /// The selection, to be held.
    pub(crate) fn shared_selection(&self) -> &Arc<PreparedSelection> {
        &self.selection
    }

    /// What was asked.
    pub fn selection(&self) -> &PreparedSelection {
        &self.selection
    }

    /// How many entities were asked for; every column has a value for each.
    pub fn entities(&self) -> usize {
        self.entities
    }

    /// The columns in the order asked.
    pub fn columns(&self) -> impl Iterator<Item = FeatureColumn<'_>> {
        let outputs = self.selection.outputs.iter().zip(&self.selection.selection().columns);
        outputs.filter_map(|(output, about)| {
            let values = match *output {
                Output::Read { reading, feature } => self.read(reading, feature)?,
                Output::Derived(place) => Values {
                    features: self,
                    reading: None,
                    layout: &self.selection.derived.layout,
                    rows: self.rows_of(self.selection.readings.len())?,
                    feature: place,
                    asked: place,
                },
            };
            Some(FeatureColumn { about, values })
        })
    }

    /// The rows of a reading, or of what is derived, which stands behind all readings.
    fn rows_of(&self, reading: usize) -> Option<&[Row]> {
        let first = reading * self.entities;
        self.rows.get(first..first + self.entities)
    }

    /// The values of a feature that a reading was asked for.
    fn read(&self, reading: usize, asked: usize) -> Option<Values<'_>> {
        let rows = self.rows_of(reading)?;
        let reading = self.selection.readings.get(reading)?;
        let feature = *reading.places.get(asked)?;
        Some(Values { features: self, reading: Some(reading), layout: &reading.layout, rows, feature, asked })
    }

    /// Computes what is derived of what was read, of the request and of its time.
    pub(crate) fn derive(&mut self, request: &[ArrayRef]) -> Result<()> {
        let selection = Arc::clone(&self.selection);
        let Derived { steps, inputs, given, layout } = &selection.derived;
        if given.is_empty() {
            return Ok(());
        }
        let inputs = inputs.iter().map(|(reading, feature)| {
            let values = self.read(*reading, *feature);
            values.ok_or_else(|| defect("a derived feature reads what was not read"))?.array()
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let time = TimestampMicrosecondArray::from_value(self.at.0, self.entities).with_timezone("UTC");
        let made = steps.run(&inputs, request, &(Arc::new(time) as ArrayRef), self.entities)?;
        let columns: Vec<ArrayRef> =
            given.iter().filter_map(|step| made.get(*step).map(Arc::clone)).collect();
        let bad = |error: RowError| ServeError::Derived(defect(&format!("a derived feature: {error}")));
        let encoder = layout.encoder(&columns).map_err(bad)?;
        for row in 0..self.entities {
            let from = self.bytes.len();
            encoder.encode(row, &mut self.bytes).map_err(bad)?;
            self.rows.push(Row::Whole(from..self.bytes.len()));
        }
        Ok(())
    }
}

fn some_of<T: Clone>(all: &[T], places: &[usize]) -> Option<Vec<T>> {
    places.iter().map(|place| all.get(*place).cloned()).collect()
}

/// One output column.
#[derive(Debug, Clone, Copy)]
pub struct FeatureColumn<'a> {
    /// Its name and type.
    pub about: &'a OutputColumn,
    values: Values<'a>,
}

/// Where the values of a feature are.
#[derive(Debug, Clone, Copy)]
struct Values<'a> {
    features: &'a Features,
    /// None of what is derived.
    reading: Option<&'a PreparedReading>,
    layout: &'a RowLayout,
    /// By entity.
    rows: &'a [Row],
    /// In the layout.
    feature: usize,
    /// Among the features taken of long rows.
    asked: usize,
}

impl<'a> FeatureColumn<'a> {
    /// The value for each entity; none where it is null. An error, [`FeatureColumn::bad`], is where what is
    /// stored is not of the column's type; it is small, since it passes with every value.
    pub fn values(&self) -> impl Iterator<Item = Result<Option<RowValue<'a>>, RowError>> + use<'a> {
        let Values { layout, feature, .. } = self.values;
        self.values.bytes().map(move |bytes| bytes?.map(|bytes| layout.value(feature, bytes)).transpose())
    }

    /// The status of each value of a feature over windows, which has one of its own; none of any other.
    pub fn statuses(&self) -> Option<impl Iterator<Item = &'static str> + use<'a>> {
        let Values { features, asked, .. } = self.values;
        let (reading, _) = self.about.read()?;
        let reading = features.readings.get(reading)?;
        let outcomes = reading.outcomes.get(asked)?;
        Some(outcomes.iter().zip(&reading.status).map(|(outcome, status)| match (status, outcome) {
            (Status::NoKey, _) => Status::NoKey.name(),
            (_, Outcome::Present) => "present",
            (_, Outcome::Nothing) => "null",
            (_, Outcome::Overflow) => "overflow",
        }))
    }

    /// What a value's error makes of the request.
    pub fn bad(&self, source: RowError) -> ServeError {
        self.values.bad(source)
    }

    /// The values as an array of `asof_compute::arrow_type`.
    ///
    /// # Errors
    /// [`crate::ServeError::Row`] where what is stored is not of the column's type.
    pub fn array(&self) -> Result<ArrayRef> {
        self.values.array()
    }
}

impl<'a> Values<'a> {
    fn bad(&self, source: RowError) -> ServeError {
        match self.reading {
            Some(reading) => reading.bad_row(source),
            None => ServeError::Derived(defect(&format!("a derived feature: {source}"))),
        }
    }

    fn array(&self) -> Result<ArrayRef> {
        let array = || {
            let mut builder = self.layout.builder(self.feature, self.rows.len())?;
            for bytes in self.bytes() {
                self.layout.append(self.feature, bytes?, &mut builder)?;
            }
            builder.finish()
        };
        array().map_err(|source| self.bad(source))
    }

    fn bytes(&self) -> impl Iterator<Item = Result<Option<&'a [u8]>, RowError>> + use<'a> {
        let Values { features, layout, rows, feature, asked, reading } = *self;
        rows.iter().map(move |row| match row {
            Row::Nothing => Ok(None),
            Row::Default => match reading.and_then(|reading| reading.default.as_ref()) {
                Some(row) => layout.bytes(row, feature),
                None => Ok(None),
            },
            Row::Whole(place) => layout.bytes(features.bytes.get(place.clone()).unwrap_or_default(), feature),
            Row::Values(first) => Ok(match features.values.get(first + asked) {
                Some(Some(place)) => features.bytes.get(place.clone()),
                _ => None,
            }),
        })
    }
}

/// What one reading answers, as it is read: one entity after the other.
pub(crate) struct Answer<'a> {
    features: &'a mut Features,
    reading: &'a PreparedReading,
}

impl Answer<'_> {
    /// Entities answered so far.
    pub(crate) fn len(&self) -> usize {
        self.features.readings.last().map_or(0, |reading| reading.status.len())
    }

    /// Answers with nulls.
    pub(crate) fn nothing(&mut self, status: Status, event_time: Option<Timestamp>) {
        let stands_in = self.reading.default.is_some() && status != Status::NoKey;
        self.said(if stands_in { Row::Default } else { Row::Nothing }, status, event_time);
    }

    /// Answers with what windows came to, whatever counted in them.
    pub(crate) fn counted(&mut self, row: &[u8], status: Status) -> Result<()> {
        self.present(row, None)?;
        if let Some(reading) = self.features.readings.last_mut()
            && let Some(last) = reading.status.last_mut()
        {
            *last = status;
        }
        Ok(())
    }

    /// What each feature asked for came to, for all entities.
    pub(crate) fn outcomes(&mut self, outcomes: Vec<Vec<Outcome>>) {
        if let Some(reading) = self.features.readings.last_mut() {
            reading.outcomes = outcomes;
        }
    }

    /// Answers with a row's values.
    pub(crate) fn present(&mut self, row: &[u8], event_time: Option<Timestamp>) -> Result<()> {
        let (reading, features) = (self.reading, &mut *self.features);
        let mut keep = |bytes: &[u8]| {
            let at = features.bytes.len();
            features.bytes.extend_from_slice(bytes);
            at..at + bytes.len()
        };
        let kept = if row.len() <= WHOLE {
            Row::Whole(keep(row))
        } else {
            let first = features.values.len();
            for feature in &reading.places {
                let value = reading.layout.bytes(row, *feature);
                features.values.push(value.map_err(|source| reading.bad_row(source))?.map(&mut keep));
            }
            Row::Values(first)
        };
        self.said(kept, Status::Present, event_time);
        Ok(())
    }

    fn said(&mut self, row: Row, status: Status, event_time: Option<Timestamp>) {
        self.features.rows.push(row);
        if let Some(reading) = self.features.readings.last_mut() {
            reading.status.push(status);
            reading.event_time.push(event_time);
        }
    }
}
