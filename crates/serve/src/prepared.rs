//! What is asked, made ready once per revision of the catalog.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use asof_compute::{KeyEncoder, RowLayout, arrow_type};
use asof_model::{Address, DataType, History, Length, OutputColumn, Selection, VersionId};
use asof_online::{Generation, GenerationId, GenerationState};

use crate::{Result, ServeError};

/// A selection with everything that does not depend on the request: key encoders, row layouts, and
/// the generations of the store that its views are in.
#[derive(Debug)]
pub struct PreparedSelection {
    selection: Selection,
    keys: Vec<RequestKey>,
    pub(crate) entities: Vec<EntityKeys>,
    pub(crate) readings: Vec<PreparedReading>,
    /// By output column.
    pub(crate) outputs: Vec<Output>,
    heads: OnceLock<Vec<Vec<u8>>>,
    found: Mutex<Option<Resolved>>,
}

/// A key column that requests must bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Its name in requests.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// A view that is read by it.
    pub reader: Address,
}

/// The keys of an entity, as positions in the request's key columns; readings of one entity in one
/// role share them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EntityKeys {
    pub(crate) columns: Vec<usize>,
    pub(crate) encoder: KeyEncoder,
}

#[derive(Debug)]
pub(crate) struct PreparedReading {
    pub(crate) view: Address,
    /// The view as answers name it: `view`, or `project.view` where it is another project's.
    pub(crate) said: Arc<str>,
    version: VersionId,
    pub(crate) keys: Arc<[String]>,
    pub(crate) entity: usize,
    pub(crate) layout: RowLayout,
    pub(crate) ttl: Option<Length>,
    pub(crate) history: History,
    pub(crate) retention: Option<Length>,
    /// The features asked for, by position.
    pub(crate) features: Vec<usize>,
}

/// Where an output column comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) reading: usize,
    /// In [`PreparedReading::features`].
    pub(crate) feature: usize,
}

/// Where each reading's rows are, as of one state of the store's records.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    records: Arc<Vec<Generation>>,
    /// By reading: positions in `records`.
    positions: Arc<[usize]>,
}

impl Resolved {
    pub(crate) fn generation(&self, reading: usize) -> Option<&Generation> {
        self.records.get(*self.positions.get(reading)?)
    }

    pub(crate) fn id(&self, reading: usize) -> GenerationId {
        self.generation(reading).map_or(GenerationId(u32::MAX), |generation| generation.id)
    }
}

impl PreparedSelection {
    /// Makes a selection ready.
    ///
    /// # Errors
    /// [`ServeError::KeyConflict`] where one name stands for keys of two types; [`ServeError::Row`]
    /// where a feature's type cannot be stored; [`ServeError::NotComputed`] where one is derived or over a window.
    pub fn new(selection: Selection) -> Result<Arc<PreparedSelection>> {
        if let Some(column) = selection.columns.iter().find(|column| column.read().is_none()) {
            return Err(ServeError::NotComputed { column: column.name.clone(), what: "a derived feature" });
        }
        let over_window = |column: &&asof_model::OutputColumn| {
            let reading = column.read().and_then(|(reading, _)| selection.readings.get(reading));
            reading.is_some_and(|reading| reading.view.definition.is_window())
        };
        if let Some(column) = selection.columns.iter().find(over_window) {
            let what = "an aggregate over a window";
            return Err(ServeError::NotComputed { column: column.name.clone(), what });
        }
        let of_versions = |column: &&asof_model::OutputColumn| {
            let reading = column.read().and_then(|(reading, _)| selection.readings.get(reading));
            reading.is_some_and(|reading| reading.source.definition.id.is_some())
        };
        if let Some(column) = selection.columns.iter().find(of_versions) {
            let what = "read from a source with `id`";
            return Err(ServeError::NotComputed { column: column.name.clone(), what });
        }
        let mut keys: Vec<RequestKey> = Vec::new();
        let mut entities: Vec<EntityKeys> = Vec::new();
        let mut readings: Vec<PreparedReading> = Vec::new();
        let mut outputs = vec![Output { reading: 0, feature: 0 }; selection.columns.len()];
        for (at, reading) in selection.readings.iter().enumerate() {
            let view = &reading.view;
            let mut columns = Vec::with_capacity(view.keys.len());
            for (own, asked) in view.keys.iter().zip(&reading.keys) {
                let data_type = &own.key.data_type;
                let position = keys.iter().position(|key| key.name == asked.as_str());
                match position.and_then(|position| keys.get(position)) {
                    Some(known) if known.data_type != *data_type => {
                        return Err(ServeError::KeyConflict {
                            key: known.name.clone(),
                            first: known.reader.clone(),
                            first_type: known.data_type.clone(),
                            second: view.address.clone(),
                            second_type: data_type.clone(),
                        });
                    }
                    Some(_) => columns.push(position.unwrap_or_default()),
                    None => {
                        columns.push(keys.len());
                        keys.push(RequestKey {
                            name: asked.to_string(),
                            data_type: data_type.clone(),
                            reader: view.address.clone(),
                        });
                    }
                }
            }
            let types: Vec<DataType> = view.keys.iter().map(|key| key.key.data_type.clone()).collect();
            let entity = EntityKeys { columns, encoder: KeyEncoder::new(&types) };
            let entity = entities.iter().position(|other| *other == entity).unwrap_or_else(|| {
                entities.push(entity);
                entities.len() - 1
            });
            let types: Vec<_> = view.features.iter().map(|feature| arrow_type(&feature.data_type)).collect();
            let layout = RowLayout::new(&types)
                .map_err(|source| ServeError::Row { view: view.address.clone(), source })?;
            let mut features = Vec::new();
            for (output, column) in outputs.iter_mut().zip(&selection.columns) {
                if let Some((reading, feature)) = column.read()
                    && reading == at
                {
                    *output = Output { reading: at, feature: features.len() };
                    features.push(feature);
                }
            }
            let own = view.address.project == selection.project;
            readings.push(PreparedReading {
                view: view.address.clone(),
                said: if own { view.address.name.as_str().into() } else { view.address.to_string().into() },
                version: view.id.clone(),
                keys: reading.keys.iter().map(ToString::to_string).collect(),
                entity,
                layout,
                ttl: view.definition.ttl,
                history: view.definition.history,
                retention: view.definition.retention,
                features,
            });
        }
        let heads = OnceLock::new();
        let found = Mutex::new(None);
        Ok(Arc::new(PreparedSelection { selection, keys, entities, readings, outputs, heads, found }))
    }

    /// What was prepared.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The key columns that requests must bring, in the order they are first read.
    pub fn keys(&self) -> &[RequestKey] {
        &self.keys
    }

    /// What a wire writes before the values of each column, by column: written once, by the first call.
    pub fn heads(&self, write: impl FnMut(&OutputColumn) -> Vec<u8>) -> &[Vec<u8>] {
        self.heads.get_or_init(|| self.selection.columns.iter().map(write).collect())
    }

    /// Where the readings' rows are in a store with these records.
    pub(crate) fn resolve(&self, records: &Arc<Vec<Generation>>) -> Result<Resolved> {
        {
            let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = found.as_ref().filter(|found| Arc::ptr_eq(&found.records, records)) {
                return Ok(found.clone());
            }
        }
        let positions = self
            .readings
            .iter()
            .map(|reading| {
                let mine = |record: &Generation| {
                    record.state == GenerationState::Live
                        && record.view == reading.view
                        && record.version == reading.version
                };
                let newest = records.iter().rposition(mine);
                newest.ok_or_else(|| ServeError::NotMaterialized { view: reading.view.clone() })
            })
            .collect::<Result<Arc<[usize]>>>()?;
        let resolved = Resolved { records: Arc::clone(records), positions };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(resolved.clone());
        Ok(resolved)
    }
}
