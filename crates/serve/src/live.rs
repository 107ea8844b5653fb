//! Readings whose rows are in the live store: of views over windows, over pushed sources, and over such with ids.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array, cast::AsArray};
use arrow::datatypes::Int64Type;
use asof_compute::{Keeping, Ladder, Outcome, Status, StoredWindows, status_at};
use asof_model::{DataType, Feature, Timestamp, ViewVersion};
use asof_online::live::LiveSnapshot;
use asof_online::views::{Holds, LiveGeneration, LiveGenerations, WindowsAsked, sum_windows};

use crate::features::Features;
use crate::prepared::PreparedReading;
use crate::{Result, ServeError};

/// So many rows of one entity are read without a thought of tiles.
const MANY: usize = 512;

/// What a reading needs to know of its view.
#[derive(Debug)]
pub(crate) struct LiveReading {
    /// The features asked for, of a view over windows; they are added up apart.
    windows: Option<Vec<usize>>,
    features: Vec<(Feature, DataType)>,
    found: Mutex<Option<Arc<Found>>>,
}

/// The generation that answers.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) generation: Arc<LiveGeneration>,
    windows: Option<(StoredWindows, Ladder)>,
}

impl LiveReading {
    /// Of a view whose rows are kept there; `asked`: the features that are taken.
    pub(crate) fn of(view: &ViewVersion, asked: &[usize]) -> LiveReading {
        let windows = view.definition.is_window();
        let features =
            view.features.iter().map(|typed| (typed.feature.clone(), typed.data_type.clone())).collect();
        LiveReading { windows: windows.then(|| asked.to_vec()), features, found: Mutex::default() }
    }

    /// The generation that answers for the reading now.
    pub(crate) fn resolve(
        &self,
        reading: &PreparedReading,
        of: Option<&LiveGenerations>,
    ) -> Result<Arc<Found>> {
        let live = of.and_then(|of| of.live(&reading.view, &reading.version));
        let generation = live.ok_or_else(|| ServeError::NotMaterialized { view: reading.view.clone() })?;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = found.as_ref().filter(|found| found.generation.table.is(&generation.table)) {
            return Ok(Arc::clone(found));
        }
        let windows = match &generation.record.holds {
            Holds::Latest => None,
            Holds::Windows { arguments } => {
                let features = self.features.iter().map(|(feature, data_type)| (feature, data_type));
                let stored = StoredWindows::new(features, arguments)?;
                let ladder = Ladder::of(stored.plan().windows());
                Some((stored, ladder))
            }
        };
        Ok(Arc::clone(found.insert(Arc::new(Found { generation, windows }))))
    }
}

/// Where a reading is answered from, and as of when.
pub(crate) struct At<'a> {
    pub(crate) of: &'a LiveGenerations,
    pub(crate) from: &'a dyn LiveSnapshot,
    pub(crate) keeping: Keeping,
    pub(crate) at: Timestamp,
}

/// Answers a reading for all entities.
pub(crate) fn read(
    features: &mut Features,
    reading: &PreparedReading,
    found: &Found,
    at: &At<'_>,
    keys: &BinaryArray,
) -> Result<()> {
    let asked = reading.live.as_ref().and_then(|live| live.windows.as_deref());
    match (&found.windows, asked) {
        (Some((stored, ladder)), Some(asked)) => {
            windows(features, reading, found, (stored, ladder, asked), at, keys)
        }
        _ => latest(features, reading, found, at, keys),
    }
}

fn latest(
    features: &mut Features,
    reading: &PreparedReading,
    found: &Found,
    at: &At<'_>,
    keys: &BinaryArray,
) -> Result<()> {
    let mut answer = features.begin(reading);
    for key in keys {
        let Some(key) = key else {
            answer.nothing(Status::NoKey, None);
            continue;
        };
        let row = found.generation.table.last(at.from, key, at.at)?;
        // A row past its retention may be there or not.
        let Some(row) = row.filter(|row| !at.keeping.is_past(row.event_time)) else {
            answer.nothing(Status::NotFound, None);
            continue;
        };
        let status = status_at(at.at, row.event_time, row.op, row.valid_until, reading.ttl);
        let event_time = (status != Status::NotFound).then_some(row.event_time);
        match status {
            Status::Present => answer.present(&row.values, event_time)?,
            _ => answer.nothing(status, event_time),
        }
    }
    Ok(())
}

fn windows(
    features: &mut Features,
    reading: &PreparedReading,
    found: &Found,
    (stored, ladder, asked): (&StoredWindows, &Ladder, &[usize]),
    at: &At<'_>,
    keys: &BinaryArray,
) -> Result<()> {
    let table = &found.generation.table;
    let wanted = WindowsAsked { table, stored, ladder, features: asked, at: at.at };
    let read = sum_windows(&wanted, at.from, &mut keys.iter())?;
    for (key, rows) in keys.iter().zip(&read.rows) {
        if let Some(key) = key.filter(|_| *rows > MANY) {
            at.of.note(found.generation.record.id, key);
        }
    }
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(asked.len());
    let mut outcomes: Vec<Vec<Outcome>> = Vec::with_capacity(asked.len());
    for feature in asked {
        let finished = read.totals.finish(*feature)?;
        columns.push(finished.values);
        outcomes.push(finished.outcomes);
    }
    let counts = read.totals.counts();
    let counts: &Int64Array = counts.as_primitive::<Int64Type>();
    let encoder = reading.layout.encoder(&columns).map_err(|error| reading.bad_row(error))?;
    let mut bytes = Vec::new();
    let mut answer = features.begin(reading);
    for entity in 0..keys.len() {
        if keys.is_null(entity) {
            answer.nothing(Status::NoKey, None);
            continue;
        }
        bytes.clear();
        encoder.encode(entity, &mut bytes).map_err(|error| reading.bad_row(error))?;
        // What nothing counts in may still have a value: 0, or a default.
        let status = if counts.value(entity) > 0 { Status::Present } else { Status::NotFound };
        answer.counted(&bytes, status)?;
    }
    answer.outcomes(outcomes);
    Ok(())
}
