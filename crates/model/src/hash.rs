//! The names of versions: hashes of what decides a value, never of how it was written or by whom.

use serde_json::{Value, json};

use crate::expression::canonical_query;
use crate::select::view_ids;
use crate::{
    Address, DerivedVersion, Entity, Expression, Feature, Place, Service, Source, StoredSelection, TimeRule,
    TypedFeature, VersionId, ViewVersion, canonical_json,
};

fn id_of(value: &Value) -> VersionId {
    let digest = blake3::hash(canonical_json(value).as_bytes());
    VersionId(digest.to_hex().as_str().get(..32).unwrap_or_default().to_owned())
}

fn address_value(address: &Address) -> Value {
    json!([address.project.as_str(), address.name.as_str()])
}

/// The hash of an entity: its address and keys.
pub(crate) fn entity_id(address: &Address, entity: &Entity) -> VersionId {
    id_of(&json!({"entity": address_value(address), "keys": entity.keys}))
}

fn time_value(rule: Option<&TimeRule>) -> Value {
    match rule {
        None => Value::Null,
        Some(TimeRule::Column { name, unit, zone }) => {
            json!({"column": name, "unit": unit, "zone": zone.as_deref().filter(|zone| *zone != "UTC")})
        }
        Some(TimeRule::Expression(expression)) => json!({"expression": expression.canonical()}),
    }
}

fn canonical(expression: Option<&Expression>) -> Value {
    expression.map_or(Value::Null, |expression| expression.canonical().into())
}

/// The hash of a source: where and how its rows are read, their columns, and for a query the versions
/// of the sources it reads.
pub(crate) fn source_id(
    address: &Address,
    source: &Source,
    columns: &[crate::Column],
    reads: &[VersionId],
) -> VersionId {
    let place = match &source.place {
        Place::Files { path, format, options } => json!({"path": path, "format": format, "options": options}),
        Place::Sql { text } => json!({"sql": canonical_query(text), "reads": reads}),
        Place::Push { past } => json!({"push": true, "past": past}),
    };
    let mut value = json!({
        "source": address_value(address),
        "place": place,
        "store": source.store,
        "event_time": time_value(source.event_time.as_ref()),
        "available_at": time_value(source.available_at.as_ref()),
        "valid_until": time_value(source.valid_until.as_ref()),
        "order_by": canonical(source.order_by.as_ref()),
        "delete_when": canonical(source.delete_when.as_ref()),
        "null_keys": source.null_keys,
        "columns": columns,
    });
    // Only where there is one: the names of versions made before there was such a thing stay as they are.
    if let (Some(id), Value::Object(fields)) = (&source.id, &mut value) {
        fields.insert("id".to_owned(), id.canonical().into());
    }
    id_of(&value)
}

/// What decides a feature's value. What a feature may have is put behind what every one has, so that the names of
/// versions made before there was such a thing stay as they are.
fn feature_value(it: &TypedFeature) -> Value {
    let Feature { name, expression, aggregate, default, sensitivity, .. } = &it.feature;
    let mut value = vec![json!(name)];
    value.push(match aggregate {
        Some(aggregate) => aggregate.call.canonical().into(),
        None => expression.canonical().into(),
    });
    value.extend([json!(sensitivity), json!(it.data_type)]);
    if let Some(aggregate) = aggregate {
        let windows: Vec<_> = aggregate.windows.iter().map(|it| it.window).collect();
        value.push(json!({ "windows": windows }));
    }
    if let Some(default) = default {
        value.push(json!({ "default": default }));
    }
    value.into()
}

/// The hash of a view: the versions of its entity and source, keys bound, features typed. How often
/// it is refreshed is not part of it.
pub(crate) fn view_id(view: &ViewVersion, entity_id: &VersionId) -> VersionId {
    let features: Vec<Value> = view.features.iter().map(feature_value).collect();
    let keys: Vec<Value> =
        view.keys.iter().map(|it| json!([it.key.name, it.key.data_type, it.column])).collect();
    id_of(&json!({
        "view": address_value(&view.address),
        "entity": [address_value(&view.entity), entity_id],
        "source": [address_value(&view.source), view.source_id],
        "keys": keys,
        "where": canonical(view.definition.filter.as_ref()),
        "ttl": view.definition.ttl,
        "history": view.definition.history,
        "retention": view.definition.retention,
        "features": features,
    }))
}

/// The hash of derived features: what they compute, of what types, and the versions they stand on.
pub(crate) fn derived_id(derived: &DerivedVersion) -> VersionId {
    let features: Vec<Value> = derived
        .features
        .iter()
        .map(|it| {
            json!([it.feature.name, it.feature.expression.canonical(), it.feature.sensitivity, it.data_type])
        })
        .collect();
    let stands_on: Vec<Value> =
        derived.stands_on.iter().map(|it| json!([address_value(&it.address), it.id])).collect();
    id_of(&json!({
        "derived": address_value(&derived.address),
        "request": derived.definition.request,
        "features": features,
        "stands_on": stands_on,
    }))
}

/// The hash of a service: what it asks for and the view versions it stands on.
pub(crate) fn service_id(address: &Address, service: &Service, selection: &StoredSelection) -> VersionId {
    id_of(&json!({
        "service": address_value(address),
        "features": service.features,
        "full_names": service.full_names,
        "views": view_ids(selection),
        "selection": selection,
    }))
}
