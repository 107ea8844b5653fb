//! The reader: one T, one snapshot, every view of the request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, BinaryArray};
use asof_compute::{ColumnBuilder, Keeping, RowError, Status, arrow_type, status_at};
use asof_model::{Ask, Catalog, Clock, DataType, Name, Revision, Timestamp};
use asof_online::{OnlineStore, Snapshot, Wanted};

use crate::prepared::{PreparedReading, Resolved};
use crate::{EntityColumns, PreparedSelection, Result, ServeError};

/// How many prepared selections are kept; past it all are made anew as they are asked for.
const PREPARED: usize = 1_000;

/// Reads features online. A cheap clone; clones share T and what is prepared.
#[derive(Clone)]
pub struct Reader {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn OnlineStore>,
    clock: Arc<dyn Clock>,
    /// The greatest T answered, so that the present never goes back. The last `v` given to a pushed
    /// row has its place beside it.
    answered: AtomicI64,
    prepared: Mutex<Prepared>,
}

#[derive(Default)]
struct Prepared {
    revision: Revision,
    count: usize,
    /// By project, and whether names are full.
    selections: HashMap<Name, [HashMap<Ask, Arc<PreparedSelection>>; 2]>,
}

impl Prepared {
    fn get(&self, project: &Name, ask: &Ask, full_names: bool) -> Option<&Arc<PreparedSelection>> {
        self.selections.get(project)?[usize::from(full_names)].get(ask)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub struct Features {
    /// The T of the whole answer.
    pub at: Timestamp,
    /// The columns in the order asked, one value per entity.
    pub columns: Vec<FeatureColumn>,
    /// Each view in each role once: one row answers for all its columns.
    pub readings: Vec<ReadingStatus>,
}

/// One output column.
#[derive(Debug, Clone)]
pub struct FeatureColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Its values, of `asof_compute::arrow_type`.
    pub values: ArrayRef,
}

/// What one view in one role answered, per entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingStatus {
    /// The view, `view` or `project.view` where it is another project's.
    pub view: String,
    /// The names of its keys in the request.
    pub keys: Vec<String>,
    /// Per entity.
    pub status: Vec<Status>,
    /// Per entity: the event time of the row that answered, also where it is expired; none where there
    /// is no row, a delete, or a fact without a clock.
    pub event_time: Vec<Option<Timestamp>>,
}

impl Reader {
    /// Reads from this store.
    pub fn new(store: Arc<dyn OnlineStore>, clock: Arc<dyn Clock>) -> Reader {
        let answered = AtomicI64::new(i64::MIN);
        Reader { inner: Arc::new(Inner { store, clock, answered, prepared: Mutex::default() }) }
    }

    /// What is asked in a project, made ready; kept until the catalog has another revision.
    ///
    /// # Errors
    /// [`ServeError::Select`] where something asked for does not exist, and those of
    /// [`PreparedSelection::new`].
    pub fn prepare(
        &self,
        catalog: &Catalog,
        project: &Name,
        ask: &Ask,
        full_names: bool,
    ) -> Result<Arc<PreparedSelection>> {
        let revision = catalog.revision;
        {
            let prepared = self.inner.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            if prepared.revision == revision
                && let Some(found) = prepared.get(project, ask, full_names)
            {
                return Ok(Arc::clone(found));
            }
        }
        let made = Arc::new(PreparedSelection::new(catalog.select(project, ask, full_names)?)?);
        let mut prepared = self.inner.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if prepared.revision < revision || prepared.count >= PREPARED {
            *prepared = Prepared { revision, ..Prepared::default() };
        }
        if prepared.revision == revision {
            let of_project = prepared.selections.entry(project.clone()).or_default();
            of_project[usize::from(full_names)].insert(ask.clone(), Arc::clone(&made));
            prepared.count += 1;
        }
        Ok(made)
    }

    /// Answers for every entity, as of now or of an instant within the views' history.
    ///
    /// Without `as_of`, T is the greater of the clock and the last T answered.
    ///
    /// # Errors
    /// [`ServeError`]; never a partial answer.
    pub fn read(
        &self,
        selection: &PreparedSelection,
        entities: &EntityColumns,
        as_of: Option<Timestamp>,
    ) -> Result<Features> {
        let keys = encode_keys(selection, entities)?;
        let snapshot = self.inner.store.snapshot()?;
        let resolved = selection.resolve(&snapshot.generations()?)?;
        let (now, at) = self.instant(selection, &resolved, as_of)?;

        let mut columns: Vec<Option<ColumnBuilder>> = Vec::new();
        columns.resize_with(selection.selection().columns.len(), || None);
        let mut readings = Vec::with_capacity(selection.readings.len());
        let project = &selection.selection().project;
        for (position, reading) in selection.readings.iter().enumerate() {
            let keys = keys.get(reading.entity).ok_or_else(|| reading.damaged())?;
            let mut answer = Answer::new(reading, keys.len())?;
            answer.read(snapshot.as_ref(), reading, resolved.id(position), keys, (now, at))?;
            for (builder, (output, _)) in answer.builders.into_iter().zip(&reading.columns) {
                if let Some(column) = columns.get_mut(*output) {
                    *column = Some(builder);
                }
            }
            readings.push(ReadingStatus {
                view: if reading.view.project == *project {
                    reading.view.name.to_string()
                } else {
                    reading.view.to_string()
                },
                keys: reading.keys.clone(),
                status: answer.status,
                event_time: answer.event_time,
            });
        }
        let columns = columns.into_iter().zip(&selection.selection().columns).map(|(builder, column)| {
            let view = selection.readings.get(column.reading);
            let row = |source| match view {
                Some(view) => ServeError::Row { view: view.view.clone(), source },
                None => ServeError::Store(asof_online::Error::Damaged {
                    path: String::new(),
                    what: format!("column `{}` has no view", column.name),
                }),
            };
            let builder = builder.ok_or(RowError::Damaged { columns: 1 }).map_err(row)?;
            Ok(FeatureColumn {
                name: column.name.clone(),
                data_type: column.data_type.clone(),
                values: builder.finish().map_err(row)?,
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(Features { at, columns, readings })
    }

    /// The present, and the T of a request.
    fn instant(
        &self,
        selection: &PreparedSelection,
        resolved: &Resolved,
        as_of: Option<Timestamp>,
    ) -> Result<(Timestamp, Timestamp)> {
        let generations = (0..selection.readings.len()).filter_map(|at| resolved.generation(at));
        // A clock that was set back must not ask for a T at which rows were already let go.
        let judged = generations.map(|generation| generation.judged_at).max();
        let floor = judged.unwrap_or(Timestamp::BEFORE_ALL).max(self.inner.clock.now());
        let now = Timestamp(self.inner.answered.fetch_max(floor.0, Ordering::AcqRel)).max(floor);
        let Some(as_of) = as_of else { return Ok((now, now)) };
        if as_of > now {
            return Err(ServeError::AfterNow { as_of, now });
        }
        for (at, reading) in selection.readings.iter().enumerate() {
            let kept = reading.keeping(now).horizon;
            let horizon =
                resolved.generation(at).map_or(Timestamp::BEFORE_ALL, |generation| generation.horizon);
            let from = kept.max(horizon);
            if as_of < from {
                return Err(ServeError::BeyondHistory { view: reading.view.clone(), as_of, from });
            }
        }
        Ok((now, as_of))
    }
}

/// The bytes of every entity's keys, for each set of keys that is read by.
fn encode_keys(selection: &PreparedSelection, entities: &EntityColumns) -> Result<Vec<BinaryArray>> {
    let wanted = selection.keys();
    for name in entities.names() {
        if !wanted.iter().any(|key| key.name == name) {
            let known: Vec<String> =
                wanted.iter().map(|key| format!("`{}` ({})", key.name, key.data_type)).collect();
            return Err(ServeError::ExtraKey { key: name.to_owned(), known: known.join(", ") });
        }
    }
    let mut arrays = Vec::with_capacity(wanted.len());
    for key in wanted {
        let Some(array) = entities.get(&key.name) else {
            return Err(ServeError::MissingKey {
                key: key.name.clone(),
                data_type: key.data_type.clone(),
                readers: key.reader.clone(),
            });
        };
        if *array.data_type() != arrow_type(&key.data_type) {
            return Err(ServeError::KeyType {
                key: key.name.clone(),
                expected: key.data_type.clone(),
                found: array.data_type().to_string(),
            });
        }
        arrays.push(array);
    }
    let mut encoded = Vec::with_capacity(selection.entities.len());
    for entity in &selection.entities {
        let own: Vec<ArrayRef> =
            entity.columns.iter().filter_map(|at| arrays.get(*at).map(|array| Arc::clone(array))).collect();
        encoded.push(entity.encoder.encode(&own)?);
    }
    Ok(encoded)
}

impl PreparedReading {
    fn keeping(&self, now: Timestamp) -> Keeping {
        Keeping::at(now, self.history, self.retention)
    }

    fn damaged(&self) -> ServeError {
        let source = RowError::Damaged { columns: self.columns.len() };
        ServeError::Row { view: self.view.clone(), source }
    }
}

/// What one reading answers, as it is read.
struct Answer {
    /// By column of the reading.
    builders: Vec<ColumnBuilder>,
    status: Vec<Status>,
    event_time: Vec<Option<Timestamp>>,
}

impl Answer {
    fn new(reading: &PreparedReading, entities: usize) -> Result<Answer> {
        let builders = reading.columns.iter().map(|(_, feature)| reading.layout.builder(*feature, entities));
        let builders = builders.collect::<Result<Vec<_>, RowError>>();
        Ok(Answer {
            builders: builders.map_err(|source| ServeError::Row { view: reading.view.clone(), source })?,
            status: Vec::with_capacity(entities),
            event_time: Vec::with_capacity(entities),
        })
    }

    fn read(
        &mut self,
        snapshot: &dyn Snapshot,
        reading: &PreparedReading,
        generation: asof_online::GenerationId,
        keys: &BinaryArray,
        (now, at): (Timestamp, Timestamp),
    ) -> Result<()> {
        let keeping = reading.keeping(now);
        let mut wanted = keys.iter().flatten().map(|key| Wanted { generation, key });
        let mut failed = None;
        snapshot.latest_many(&mut wanted, at, &mut |_, found| {
            self.skip_null_keys(keys);
            // A row past its retention may be there or not, and an older one may stand in for it; either
            // way it has expired, and what is answered must not hang on when views were materialised.
            let Some(row) = found.filter(|row| !keeping.is_past(row.event_time)) else {
                self.push_nothing(Status::NotFound, None);
                return Ok(());
            };
            let status = status_at(at, row.event_time, row.op, row.valid_until, reading.ttl);
            let has_clock = row.event_time != Timestamp::BEFORE_ALL;
            let event_time = (status != Status::NotFound && has_clock).then_some(row.event_time);
            if status != Status::Present {
                self.push_nothing(status, event_time);
                return Ok(());
            }
            for (builder, (_, feature)) in self.builders.iter_mut().zip(&reading.columns) {
                if let Err(source) = reading.layout.append(row.values, *feature, builder) {
                    failed.get_or_insert(source);
                    builder.append_null();
                }
            }
            self.status.push(status);
            self.event_time.push(event_time);
            Ok(())
        })?;
        self.skip_null_keys(keys);
        match failed {
            Some(source) => Err(ServeError::Row { view: reading.view.clone(), source }),
            None => Ok(()),
        }
    }

    /// Answers for the entities from here on whose key is null, up to one that is not.
    fn skip_null_keys(&mut self, keys: &BinaryArray) {
        while self.status.len() < keys.len() && keys.is_null(self.status.len()) {
            self.push_nothing(Status::NoKey, None);
        }
    }

    fn push_nothing(&mut self, status: Status, event_time: Option<Timestamp>) {
        self.builders.iter_mut().for_each(ColumnBuilder::append_null);
        self.status.push(status);
        self.event_time.push(event_time);
    }
}
