//! A store with rows of views, and selections over them, without a catalog.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{Array, ArrayRef};
use asof_compute::{KeyEncoder, Op, Position, RowDigest, RowLayout, RowOrder, arrow_type};
use asof_model::{
    Address, Catalog, Clock, Column, DataType, Entity, EntityVersion, Feature, Features, Format, History,
    Key, Length, Name, NullKeys, Origin, OutputColumn, Place, ProjectState, Reading, Reference, Revision,
    Selection, Source, SourceVersion, Timestamp, TypedFeature, VersionId, View, ViewKey, ViewVersion,
};
use asof_online::{Commit, Generation, GenerationId, GenerationState, OnlineStore, Options, RowBatch, open};
use asof_serve::ServeError;

/// A clock that the test sets.
#[derive(Debug)]
pub(crate) struct TestClock(pub(crate) AtomicI64);

impl TestClock {
    pub(crate) fn at(micros: i64) -> Arc<TestClock> {
        Arc::new(TestClock(AtomicI64::new(micros)))
    }

    pub(crate) fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::Release);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Acquire))
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn address(text: &str) -> Address {
    Address { project: name("shop"), name: name(text) }
}

/// A view of one key per (name, type) and features of these types.
pub(crate) fn view(
    view: &str,
    keys: &[(&str, DataType)],
    features: &[(&str, DataType)],
    ttl: Option<i64>,
    history: History,
) -> Arc<ViewVersion> {
    let reference = |text| Reference { project: None, name: name(text) };
    let features: Vec<TypedFeature> = features
        .iter()
        .map(|(feature, data_type)| TypedFeature {
            feature: Feature {
                name: name(feature),
                expression: serde_json::from_value(serde_json::Value::String((*feature).to_owned())).unwrap(),
                aggregate: None,
                default: None,
                sensitivity: None,
                about: Default::default(),
            },
            data_type: data_type.clone(),
        })
        .collect();
    Arc::new(ViewVersion {
        address: address(view),
        id: VersionId(format!("version-of-{view}")),
        definition: View {
            name: name(view),
            entity: reference("entity"),
            source: reference("source"),
            keys: Default::default(),
            filter: None,
            ttl: ttl.map(Length::from_micros),
            history,
            refresh: None,
            windows: Vec::new(),
            retention: None,
            features: Features::Named(features.iter().map(|typed| typed.feature.clone()).collect()),
            about: Default::default(),
        },
        entity: address("entity"),
        source: address("source"),
        source_id: VersionId("source".to_owned()),
        keys: keys
            .iter()
            .map(|(key, data_type)| ViewKey {
                key: Key { name: name(key), data_type: data_type.clone() },
                column: (*key).to_owned(),
            })
            .collect(),
        features,
    })
}

/// A catalog of one view.
pub(crate) fn catalog(revision: u64, view: &Arc<ViewVersion>) -> Catalog {
    let mut state = ProjectState::default();
    let source = &selection(&[(view, &[])]).readings[0].source;
    state.views.insert(view.address.name.clone(), Arc::clone(view));
    state.sources.insert(source.address.name.clone(), Arc::clone(source));
    let entity = EntityVersion {
        address: view.entity.clone(),
        id: VersionId("entity".to_owned()),
        definition: Entity {
            name: view.entity.name.clone(),
            keys: view.keys.iter().map(|key| key.key.clone()).collect(),
            about: Default::default(),
        },
    };
    state.entities.insert(entity.address.name.clone(), Arc::new(entity));
    let mut catalog = Catalog { revision: Revision(revision), ..Catalog::default() };
    catalog.projects.insert(name("shop"), Arc::new(state));
    catalog
}

/// All features of these views, each read by keys of these names.
pub(crate) fn selection(readings: &[(&Arc<ViewVersion>, &[&str])]) -> Selection {
    let source = Arc::new(SourceVersion {
        address: address("source"),
        id: VersionId("source".to_owned()),
        definition: Source {
            name: name("source"),
            place: Place::Files {
                path: "x.csv".to_owned(),
                format: Format::Csv,
                options: Default::default(),
            },
            store: false,
            event_time: None,
            available_at: None,
            valid_until: None,
            id: None,
            order_by: None,
            delete_when: None,
            null_keys: NullKeys::Keep,
            schema: Vec::<Column>::new(),
            about: Default::default(),
        },
        columns: Vec::new(),
    });
    let columns = readings.iter().enumerate().flat_map(|(reading, (view, _))| {
        view.features.iter().enumerate().map(move |(feature, typed)| OutputColumn {
            name: format!("{}__{}", view.address.name, typed.feature.name),
            from: Origin::Feature { reading, feature },
            data_type: typed.data_type.clone(),
        })
    });
    Selection {
        project: name("shop"),
        service: None,
        columns: columns.collect(),
        readings: readings
            .iter()
            .map(|(view, keys)| Reading {
                view: Arc::clone(view),
                source: Arc::clone(&source),
                keys: keys.iter().map(|key| name(key)).collect(),
            })
            .collect(),
        request: Vec::new(),
        steps: Vec::new(),
        labels: Vec::new(),
    }
}

pub(crate) fn store(path: &Path) -> Arc<dyn OnlineStore> {
    open(path, &Options { cache: 8 << 20 }).unwrap()
}

/// The times of a row: `e`, `v`, `valid_until`, and whether it is a delete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times(pub(crate) i64, pub(crate) i64, pub(crate) Option<i64>, pub(crate) bool);

/// Puts rows of a view as generation `id`: keys and values by column, times by row.
pub(crate) fn put(
    store: &dyn OnlineStore,
    id: u32,
    view: &ViewVersion,
    keys: &[ArrayRef],
    values: &[ArrayRef],
    times: &[Times],
) {
    let types: Vec<DataType> = view.keys.iter().map(|key| key.key.data_type.clone()).collect();
    let encoded = KeyEncoder::new(&types).encode(keys).unwrap();
    let types: Vec<_> = view.features.iter().map(|feature| arrow_type(&feature.data_type)).collect();
    let layout = RowLayout::new(&types).unwrap();
    let encoder = layout.encoder(values).unwrap();
    let mut batch = RowBatch::new(GenerationId(id));
    for (row, Times(e, v, until, delete)) in times.iter().enumerate() {
        if encoded.is_null(row) {
            continue;
        }
        let order = RowOrder {
            event_time: Timestamp(*e),
            visible_at: Timestamp(*v),
            order_by: Box::default(),
            position: Position::NONE,
            op: if *delete { Op::Delete } else { Op::Value },
            digest: RowDigest::default(),
        };
        batch
            .push(encoded.value(row), &order, until.map(Timestamp), None, |out| {
                let written = if *delete { Ok(()) } else { encoder.encode(row, out) };
                written.map_err(|source| ServeError::Row { view: view.address.clone(), source })
            })
            .unwrap();
    }
    let record =
        Generation::new(GenerationId(id), view.address.clone(), view.id.clone(), GenerationState::Live);
    store.commit(&Commit { generations: &[record], rows: Some(&batch), ..Commit::default() }).unwrap();
}
