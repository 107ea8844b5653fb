//! What a request is answered with: values as the store has them, read into what the caller wants.

use std::sync::Arc;

use arrow::array::ArrayRef;
use asof_compute::{RowError, RowValue, Status};
use asof_model::{OutputColumn, Timestamp};

use crate::prepared::PreparedReading;
use crate::{PreparedSelection, Result};

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
    /// By reading, entity and feature of the reading.
    places: Vec<Place>,
    /// Where the places of each reading begin.
    starts: Vec<usize>,
}

/// Where the bytes of a value are.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    length: usize,
}

impl Place {
    /// A null.
    const NULL: Place = Place { at: 0, length: usize::MAX };
}

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
}

impl Features {
    pub(crate) fn new(selection: Arc<PreparedSelection>, at: Timestamp, entities: usize) -> Features {
        let values = selection.outputs.len() * entities;
        Features {
            at,
            readings: Vec::with_capacity(selection.readings.len()),
            entities,
            bytes: Vec::with_capacity(values * 8),
            places: Vec::with_capacity(values),
            starts: Vec::with_capacity(selection.readings.len()),
            selection,
        }
    }

    /// Begins the answer of the next reading.
    pub(crate) fn begin<'a>(&'a mut self, reading: &'a PreparedReading) -> Answer<'a> {
        self.starts.push(self.places.len());
        self.readings.push(ReadingStatus {
            view: Arc::clone(&reading.said),
            keys: Arc::clone(&reading.keys),
            status: Vec::with_capacity(self.entities),
            event_time: Vec::with_capacity(self.entities),
        });
        Answer { features: self, reading }
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
            let reading = self.selection.readings.get(output.reading)?;
            let feature = *reading.features.get(output.feature)?;
            let start = *self.starts.get(output.reading)? + output.feature;
            Some(FeatureColumn { about, features: self, reading, feature, start })
        })
    }
}

/// One output column.
#[derive(Debug, Clone, Copy)]
pub struct FeatureColumn<'a> {
    /// Its name and type.
    pub about: &'a OutputColumn,
    features: &'a Features,
    reading: &'a PreparedReading,
    /// In the reading's layout.
    feature: usize,
    /// The place of the first entity's value.
    start: usize,
}

impl<'a> FeatureColumn<'a> {
    /// The value for each entity; none where it is null.
    ///
    /// # Errors
    /// Each, [`crate::ServeError::Row`] where what is stored is not of the column's type.
    pub fn values(&self) -> impl Iterator<Item = Result<Option<RowValue<'a>>>> {
        let FeatureColumn { reading, feature, .. } = *self;
        self.bytes().map(move |bytes| {
            let value = bytes.map(|bytes| reading.layout.value(feature, bytes));
            value.transpose().map_err(|source| reading.bad_row(source))
        })
    }

    /// The values as an array of `asof_compute::arrow_type`.
    ///
    /// # Errors
    /// [`crate::ServeError::Row`] where what is stored is not of the column's type.
    pub fn array(&self) -> Result<ArrayRef> {
        let array = || {
            let mut builder = self.reading.layout.builder(self.feature, self.features.entities)?;
            for bytes in self.bytes() {
                self.reading.layout.append(self.feature, bytes, &mut builder)?;
            }
            builder.finish()
        };
        array().map_err(|source| self.reading.bad_row(source))
    }

    fn bytes(&self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let FeatureColumn { features, reading, start, .. } = *self;
        let places = features.places.get(start..).unwrap_or_default();
        places.iter().step_by(reading.features.len().max(1)).take(features.entities).map(|place| {
            let end = place.at.checked_add(place.length)?;
            features.bytes.get(place.at..end)
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
        let nulls = self.reading.features.len();
        self.features.places.extend(std::iter::repeat_n(Place::NULL, nulls));
        self.said(status, event_time);
    }

    /// Answers with a row's values.
    pub(crate) fn present(&mut self, row: &[u8], event_time: Option<Timestamp>) -> Result<()> {
        let reading = self.reading;
        let damaged = |source: RowError| reading.bad_row(source);
        for feature in &reading.features {
            let place = match reading.layout.bytes(row, *feature).map_err(damaged)? {
                Some(bytes) => {
                    let at = self.features.bytes.len();
                    self.features.bytes.extend_from_slice(bytes);
                    Place { at, length: bytes.len() }
                }
                None => Place::NULL,
            };
            self.features.places.push(place);
        }
        self.said(Status::Present, event_time);
        Ok(())
    }

    fn said(&mut self, status: Status, event_time: Option<Timestamp>) {
        if let Some(reading) = self.features.readings.last_mut() {
            reading.status.push(status);
            reading.event_time.push(event_time);
        }
    }
}
