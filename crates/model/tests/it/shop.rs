//! A small project that the tests start from.

use std::collections::BTreeMap;
use std::sync::Arc;

use asof_model::{
    Catalog, Column, DataType, Definition, Diagnostics, Name, Project, ProjectFile, ProjectState, Reference,
    Revision, TypedProject, Version, bind_keys, expand_features, has_errors, resolve,
};

pub(crate) const CONFIG: &str = "project: shop\n";

pub(crate) const FEATURES: &str = "\
entity: seller
keys: {seller_id: int64}
owner: marketplace-data
---
entity: place
keys: {country: string, city: string}
---
source: sellers
path: data/sellers.parquet
event_time: updated_at
schema: {id: int64, updated_at: timestamp, tier: string, display_name: string, email: string, Rating: float64}
---
source: places
path: data/places.csv
event_time: none
schema: {country: string, city: string, people: int64}
---
view: seller_profile
entity: seller
source: sellers
keys: {seller_id: id}
ttl: 90d
refresh: 1h
features:
  tier: tier
  name_length: char_length(display_name)
  email: {expr: email, sensitivity: pii}
---
view: place_facts
entity: place
source: places
features: \"*\"
---
service: category_model
features:
  - seller_profile.tier
  - {from: seller_profile, keys: {seller_id: buyer_id}, as: buyer}
  - place_facts.*
";

pub(crate) fn file(path: &str, text: &str) -> ProjectFile {
    ProjectFile { path: path.to_owned(), text: text.to_owned() }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn shop(more: &str) -> Vec<ProjectFile> {
    vec![file("asof.yaml", CONFIG), file("features/shop.yaml", FEATURES), file("features/more.yaml", more)]
}

/// What an engine would find: sources have the columns of their schemas, a feature that is a column or an
/// aggregate of one its type, one of whole rows is an integer, any other, derived or not, is a float.
pub(crate) fn typed(project: &Project, against: &Catalog) -> TypedProject {
    let mut types = TypedProject::default();
    for it in &project.definitions {
        if let Definition::Source(source) = &it.value {
            types.source_columns.insert(source.name.clone(), source.schema.clone());
        }
    }
    for it in &project.definitions {
        let Definition::View(view) = &it.value else { continue };
        let here =
            |reference: &Reference| reference.project.as_ref().is_none_or(|it| *it == project.config.project);
        let source = match project.find(asof_model::ThingKind::Source, view.source.name.as_str()) {
            Some(found) if here(&view.source) => match &found.value {
                Definition::Source(source) => Some((source.clone(), source.schema.clone())),
                _ => None,
            },
            _ => against
                .source(&project.address(&view.source))
                .map(|it| (it.definition.clone(), it.columns.clone())),
        };
        let entity = match project.find(asof_model::ThingKind::Entity, view.entity.name.as_str()) {
            Some(found) if here(&view.entity) => match &found.value {
                Definition::Entity(entity) => Some(entity.clone()),
                _ => None,
            },
            _ => against.entity(&project.address(&view.entity)).map(|it| it.definition.clone()),
        };
        let (Some((source, columns)), Some(entity)) = (source, entity) else { continue };
        let keys = bind_keys(view, &entity);
        for feature in expand_features(view, &keys, &source, &columns).unwrap_or_default() {
            let argument = feature.aggregate.as_ref().map(|it| it.call.argument.as_ref());
            if argument == Some(None) {
                types.feature_types.insert((view.name.clone(), feature.name), DataType::Int64);
                continue;
            }
            let column = argument.flatten().unwrap_or(&feature.expression).as_column();
            let found = columns.iter().find(|it: &&Column| Some(&it.name) == column.as_ref());
            let data_type = found.map_or(DataType::Float64, |it| it.data_type.clone());
            types.feature_types.insert((view.name.clone(), feature.name), data_type);
        }
    }
    for it in &project.definitions {
        let Definition::Derived(derived) = &it.value else { continue };
        for feature in &derived.features {
            types.derived_types.insert((derived.name.clone(), feature.name.clone()), DataType::Float64);
        }
    }
    types
}

/// Reads and resolves a folder against a catalog.
pub(crate) fn apply(files: &[ProjectFile], against: &Catalog) -> (Vec<Version>, Diagnostics) {
    let (project, mut found) = Project::read(files);
    let Some(project) = project else { return (Vec::new(), found) };
    let types = typed(&project, against);
    let (versions, more) = resolve(&project, against, &types);
    found.extend(more);
    (versions, found)
}

/// The catalog after applying a folder that has nothing wrong.
pub(crate) fn applied(files: &[ProjectFile], against: &Catalog) -> Catalog {
    let (versions, found) = apply(files, against);
    assert!(!has_errors(&found), "{}", asof_model::render(&found, files, false));
    let mut roots: BTreeMap<Name, std::path::PathBuf> =
        against.projects.iter().map(|(name, state)| (name.clone(), state.root.clone())).collect();
    if let Some(first) = versions.first() {
        roots.entry(first.address().project.clone()).or_default();
    }
    let home = versions[0].address().project.clone();
    let others = against
        .projects
        .iter()
        .filter(|(name, _)| **name != home)
        .flat_map(|(_, state): (&Name, &Arc<ProjectState>)| state.versions().collect::<Vec<_>>());
    let all: Vec<Version> = others.chain(versions).collect();
    Catalog::from_versions(Revision(against.revision.0 + 1), roots, all)
}
