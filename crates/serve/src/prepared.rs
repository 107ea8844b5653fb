//! What is asked, made ready once per revision of the catalog.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{ArrayRef, new_null_array};
use asof_compute::{
    Derivation, DerivationError, Derivations, Derive, KeyEncoder, RowLayout, arrow_type, literal_array,
};
use asof_model::{
    Address, DataType, DerivedFeature, History, Kind, Length, Name, Origin, OutputColumn, Selection,
    VersionId, ViewVersion,
};
use asof_online::{Generation, GenerationId, GenerationState};

use crate::live::LiveReading;
use crate::log::Logged;
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
    pub(crate) derived: Derived,
    heads: OnceLock<Vec<Vec<u8>>>,
    logged: OnceLock<Logged>,
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
    pub(crate) version: VersionId,
    pub(crate) keys: Arc<[String]>,
    pub(crate) entity: usize,
    pub(crate) layout: RowLayout,
    pub(crate) ttl: Option<Length>,
    pub(crate) history: History,
    pub(crate) retention: Option<Length>,
    /// The features asked for, by position in the view.
    pub(crate) features: Vec<usize>,
    /// For each of them its place in `layout`.
    pub(crate) places: Vec<usize>,
    /// A row of what stands in for features where no row answers; none where all are null then.
    pub(crate) default: Option<Vec<u8>>,
    /// How it is read from the live store, where its rows are there.
    pub(crate) live: Option<LiveReading>,
}

/// Where an output column comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Output {
    /// A row of a reading.
    Read {
        reading: usize,
        /// In [`PreparedReading::features`].
        feature: usize,
    },
    /// What is derived: its place in [`Derived::layout`].
    Derived(usize),
}

/// What is computed of rows, request and time.
#[derive(Debug)]
pub(crate) struct Derived {
    pub(crate) steps: Derivations,
    /// Parallel to [`Derivations::features`]: the reading, and the place in [`PreparedReading::features`].
    pub(crate) inputs: Vec<(usize, usize)>,
    /// The steps that columns are of.
    pub(crate) given: Vec<usize>,
    /// A row of what they give.
    pub(crate) layout: RowLayout,
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

    pub(crate) fn records(&self) -> &Arc<Vec<Generation>> {
        &self.records
    }

    pub(crate) fn id(&self, reading: usize) -> GenerationId {
        self.generation(reading).map_or(GenerationId(u32::MAX), |generation| generation.id)
    }
}

impl PreparedSelection {
    /// Makes a selection ready in which nothing is derived.
    ///
    /// # Errors
    /// As [`PreparedSelection::deriving`].
    pub fn new(selection: Selection) -> Result<Arc<PreparedSelection>> {
        PreparedSelection::deriving(selection, &NothingDerived)
    }

    /// Makes a selection ready, its derived features compiled by `by`.
    ///
    /// # Errors
    /// [`ServeError::KeyConflict`] where one name stands for keys of two types; [`ServeError::Row`]
    /// where a feature's type cannot be stored;
    /// [`ServeError::Derived`] where one is derived and cannot be compiled.
    pub fn deriving(selection: Selection, by: &dyn Derive) -> Result<Arc<PreparedSelection>> {
        let steps = Derivations::compile(&selection, by)?;
        let mut keys: Vec<RequestKey> = Vec::new();
        let mut entities: Vec<EntityKeys> = Vec::new();
        let mut readings: Vec<PreparedReading> = Vec::new();
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
            let features = selection.taken(at);
            let rows = reading.source.definition.keeps_every_row();
            let windows = view.definition.is_window();
            // Windows are added up for the features asked for; rows are stored with all of them.
            let stored: Vec<usize> =
                if windows { features.clone() } else { (0..view.features.len()).collect() };
            let types: Vec<_> = stored
                .iter()
                .filter_map(|feature| view.features.get(*feature))
                .map(|feature| arrow_type(&feature.data_type))
                .collect();
            let bad = |source| ServeError::Row { view: view.address.clone(), source };
            let layout = RowLayout::new(&types).map_err(bad)?;
            let default = if windows { None } else { default_row(view, &layout)? };
            let place = |feature: &usize| stored.iter().position(|other| other == feature);
            let places = features.iter().filter_map(place).collect();
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
                live: (windows || rows).then(|| LiveReading::of(view, &features)),
                features,
                places,
                default,
            });
        }
        let (outputs, derived) = outputs(&selection, &readings, steps)?;
        let (heads, logged) = (OnceLock::new(), OnceLock::new());
        let found = Mutex::new(None);
        Ok(Arc::new(PreparedSelection {
            selection,
            keys,
            entities,
            readings,
            outputs,
            derived,
            heads,
            logged,
            found,
        }))
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

    /// Its answers may be kept from now on.
    pub(crate) fn log(&self, logged: Logged) {
        // Two that prepare it say the same.
        drop(self.logged.set(logged));
    }

    /// What is kept of all its answers alike; none where they are not kept.
    pub(crate) fn logged(&self) -> Option<&Logged> {
        self.logged.get()
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
                if reading.live.is_some() {
                    return Ok(usize::MAX);
                }
                let newest = records.iter().rposition(mine);
                newest.ok_or_else(|| ServeError::NotMaterialized { view: reading.view.clone() })
            })
            .collect::<Result<Arc<[usize]>>>()?;
        let resolved = Resolved { records: Arc::clone(records), positions };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(resolved.clone());
        Ok(resolved)
    }
}

/// The values of a view's features where no row answers, as a row; none where all are null.
fn default_row(view: &ViewVersion, layout: &RowLayout) -> Result<Option<Vec<u8>>> {
    if view.features.iter().all(|typed| typed.feature.default.is_none()) {
        return Ok(None);
    }
    let columns = view.features.iter().map(|typed| match &typed.feature.default {
        Some(literal) => literal_array(literal, &typed.data_type),
        None => Ok(new_null_array(&arrow_type(&typed.data_type), 1)),
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
    let bad = |source| ServeError::Row { view: view.address.clone(), source };
    let mut row = Vec::new();
    layout.encoder(&columns).map_err(bad)?.encode(0, &mut row).map_err(bad)?;
    Ok(Some(row))
}

/// Where every column of a selection comes from.
fn outputs(
    selection: &Selection,
    readings: &[PreparedReading],
    steps: Derivations,
) -> Result<(Vec<Output>, Derived)> {
    let lost = |what: &str| ServeError::Derived(defect(&format!("a selection lacks {what} that it names")));
    let place = |(reading, feature): (usize, usize)| {
        let taken = readings.get(reading)?.features.iter().position(|taken| *taken == feature)?;
        Some((reading, taken))
    };
    let inputs = steps.features().iter().map(|it| place(*it).ok_or_else(|| lost("a feature")));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let (mut given, mut types) = (Vec::new(), Vec::new());
    let outputs = selection.columns.iter().map(|column| match column.from {
        Origin::Feature { reading, feature } => {
            let (reading, feature) = place((reading, feature)).ok_or_else(|| lost("a feature"))?;
            Ok(Output::Read { reading, feature })
        }
        Origin::Derived { step } => {
            given.push(step);
            types.push(arrow_type(&column.data_type));
            Ok(Output::Derived(given.len() - 1))
        }
    });
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    let layout = RowLayout::new(&types).map_err(|_| lost("the type of a derived feature"))?;
    Ok((outputs, Derived { steps, inputs, given, layout }))
}

/// Compiles nothing: for selections of views alone.
#[derive(Debug)]
pub(crate) struct NothingDerived;

impl Derive for NothingDerived {
    fn compile(
        &self,
        _: &Name,
        _: &DerivedFeature,
        _: &[DataType],
    ) -> Result<Arc<dyn Derivation>, DerivationError> {
        Err(defect("this reader was given nothing to compile it with"))
    }
}

pub(crate) fn defect(message: &str) -> DerivationError {
    DerivationError { kind: Kind::Internal, code: "internal", message: message.to_owned(), hint: None }
}
