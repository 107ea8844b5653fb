//! Small versions to apply, and a clock that counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use asof_model::{
    About, Address, Clock, Column, DataType, Derived, DerivedFeature, DerivedVersion, Entity, EntityVersion,
    Expression, Feature, Features, Format, History, Input, Key, Name, NullKeys, Origin, OutputColumn, Pick,
    Place, Principal, Reference, RequestColumn, Revision, Service, ServiceVersion, Source, SourceVersion,
    StoredReading, StoredSelection, TimeRule, Timestamp, TypedFeature, Version, VersionId, View, ViewKey,
    ViewVersion,
};
use asof_registry::{Apply, Registry};

/// Every look is one second later.
#[derive(Debug, Default)]
pub(crate) struct CountingClock(AtomicI64);

impl Clock for CountingClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed) * 1_000_000)
    }
}

pub(crate) async fn open(path: &Path) -> Registry {
    Registry::open(path, Arc::new(CountingClock::default())).await.unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn at(project: &str, thing: &str) -> Address {
    Address { project: name(project), name: name(thing) }
}

pub(crate) fn by(who: &str) -> Principal {
    Principal { name: who.to_owned(), projects: None }
}

fn id(seed: &str) -> VersionId {
    let mut digits = String::new();
    for byte in seed.bytes() {
        digits.push_str(&format!("{byte:02x}"));
    }
    digits.truncate(32);
    VersionId(format!("{digits:0<32}"))
}

fn reference(address: &Address) -> Reference {
    Reference { project: Some(address.project.clone()), name: address.name.clone() }
}

pub(crate) fn about(owner: &str, description: &str, tags: &[&str]) -> About {
    About {
        owner: (!owner.is_empty()).then(|| owner.to_owned()),
        description: (!description.is_empty()).then(|| description.to_owned()),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
    }
}

pub(crate) fn entity(project: &str, thing: &str, about: About) -> Version {
    let key = Key { name: name(&format!("{thing}_id")), data_type: DataType::Int64 };
    Version::Entity(Arc::new(EntityVersion {
        address: at(project, thing),
        id: id(&format!("e{thing}")),
        definition: Entity { name: name(thing), keys: vec![key], about },
    }))
}

pub(crate) fn source(project: &str, thing: &str, path: &str) -> Version {
    Version::Source(Arc::new(SourceVersion {
        address: at(project, thing),
        id: id(&format!("s{path}")),
        definition: Source {
            name: name(thing),
            place: Place::Files { path: path.to_owned(), format: Format::Parquet, options: BTreeMap::new() },
            store: false,
            event_time: Some(TimeRule::Column { name: "at".to_owned(), unit: None, zone: None }),
            available_at: None,
            valid_until: None,
            id: None,
            order_by: None,
            delete_when: None,
            null_keys: NullKeys::Keep,
            schema: Vec::new(),
            about: about("data", "What was posted", &["raw"]),
        },
        columns: vec![
            Column { name: "seller_id".to_owned(), data_type: DataType::Int64 },
            Column { name: "at".to_owned(), data_type: DataType::Timestamp },
            Column { name: "price_cents".to_owned(), data_type: DataType::Int64 },
        ],
    }))
}

/// A view of `entity` over `source` with the features named.
pub(crate) fn view(address: Address, entity: &Version, source: &Version, features: &[&str]) -> Version {
    let (Version::Entity(entity), Version::Source(source)) = (entity, source) else { panic!("wrong kinds") };
    let features: Vec<Feature> = features
        .iter()
        .map(|feature| Feature {
            name: name(feature),
            expression: Expression { text: "price_cents".to_owned() },
            aggregate: None,
            default: None,
            sensitivity: None,
            about: About::default(),
        })
        .collect();
    let seed: Vec<&str> = features.iter().map(|feature| feature.name.as_str()).collect();
    Version::View(Arc::new(ViewVersion {
        id: id(&format!("v{}{}", seed.join(""), source.id.short())),
        definition: View {
            name: address.name.clone(),
            entity: reference(&entity.address),
            source: reference(&source.address),
            keys: BTreeMap::new(),
            filter: None,
            ttl: None,
            history: History::None,
            refresh: None,
            windows: Vec::new(),
            retention: None,
            features: Features::Named(features.clone()),
            about: about("pricing", "Prices as they stand", &["money"]),
        },
        address,
        entity: entity.address.clone(),
        source: source.address.clone(),
        source_id: source.id.clone(),
        keys: vec![ViewKey { key: entity.definition.keys[0].clone(), column: "seller_id".to_owned() }],
        features: features
            .into_iter()
            .map(|feature| TypedFeature { feature, data_type: DataType::Int64 })
            .collect(),
    }))
}

pub(crate) fn service(address: Address, view: &Version) -> Version {
    let Version::View(view) = view else { panic!("wrong kind") };
    let columns = view
        .features
        .iter()
        .enumerate()
        .map(|(i, it)| OutputColumn {
            name: it.feature.name.to_string(),
            from: Origin::Feature { reading: 0, feature: i },
            data_type: DataType::Int64,
        })
        .collect();
    Version::Service(Arc::new(ServiceVersion {
        id: id(&format!("m{}", view.id)),
        definition: Service {
            name: address.name.clone(),
            features: vec![Pick {
                view: reference(&view.address),
                feature: None,
                keys: BTreeMap::new(),
                alias: None,
            }],
            labels: Vec::new(),
            full_names: false,
            about: about("", "", &[]),
        },
        address,
        selection: StoredSelection {
            readings: vec![StoredReading {
                view: view.address.clone(),
                view_id: view.id.clone(),
                keys: vec![name("seller_id")],
            }],
            columns,
            request: Vec::new(),
            steps: Vec::new(),
            labels: Vec::new(),
        },
    }))
}

/// A derived of one feature, of what requests bring alone.
pub(crate) fn derived(project: &str, thing: &str) -> Version {
    let request = vec![RequestColumn { name: name("price"), data_type: DataType::Float64 }];
    let feature = Feature {
        name: name("doubled"),
        expression: Expression { text: "price * 2".to_owned() },
        aggregate: None,
        default: None,
        sensitivity: None,
        about: About::default(),
    };
    Version::Derived(Arc::new(DerivedVersion {
        address: at(project, thing),
        id: id(&format!("d{thing}")),
        definition: Derived {
            name: name(thing),
            request,
            features: vec![feature.clone()],
            about: about("pricing", "", &[]),
        },
        features: vec![DerivedFeature {
            feature,
            data_type: DataType::Float64,
            inputs: vec![Input::Request { column: name("price") }],
        }],
        stands_on: Vec::new(),
    }))
}

pub(crate) fn apply(project: &str, base: Revision, put: Vec<Version>) -> Apply {
    Apply { project: name(project), root: "/projects/shop".into(), base, put, remove: vec![] }
}

/// A project with one thing of each kind: entity `seller`, source `events`, view `prices`, service `model`.
pub(crate) fn shop() -> Vec<Version> {
    let seller = entity("shop", "seller", about("marketplace", "Who posts listings", &["core"]));
    let events = source("shop", "events", "data/events.parquet");
    let prices = view(at("shop", "prices"), &seller, &events, &["price_mean", "price_max"]);
    let model = service(at("shop", "model"), &prices);
    vec![seller, events, prices, model]
}
