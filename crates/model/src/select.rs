//! What is asked for, made into readings and output columns. Services, requests and training sets all
//! come through here, so they agree on names, order and collisions.

use std::collections::BTreeMap;

use crate::nearest::{did_you_mean, nearest};
use crate::{
    Address, Ask, Catalog, DataType, Explain, Kind, Name, OutputColumn, Pick, Reading, Reference, Selection,
    Service, ServiceVersion, Stale, StoredReading, StoredSelection, VersionId,
};

/// Why a selection cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No such project.
    #[error("project `{project}` not found")]
    UnknownProject {
        /// The project asked for.
        project: String,
        /// The way out.
        hint: Option<String>,
    },
    /// No such service.
    #[error("service `{service}` not found")]
    UnknownService {
        /// The service asked for.
        service: String,
        /// The way out.
        hint: Option<String>,
    },
    /// No such view.
    #[error("view `{view}` not found")]
    UnknownView {
        /// The view asked for.
        view: String,
        /// The way out.
        hint: Option<String>,
    },
    /// The view has no such feature.
    #[error("feature `{feature}` not found in view `{view}`")]
    UnknownFeature {
        /// The view.
        view: String,
        /// The feature asked for.
        feature: String,
        /// The way out.
        hint: Option<String>,
    },
    /// The view's entity has no such key.
    #[error("view `{view}` has no key `{key}`")]
    UnknownKey {
        /// The view.
        view: String,
        /// The key named.
        key: String,
        /// The way out.
        hint: Option<String>,
    },
    /// A text that names no feature.
    #[error("`{text}` is not a feature")]
    BadFeature {
        /// The text.
        text: String,
        /// The way out.
        hint: String,
    },
    /// Nothing is asked for.
    #[error("no features are asked for")]
    Nothing,
    /// Two output columns of one name.
    #[error("`{first}` and `{second}` would both be output column `{column}`")]
    Collision {
        /// The column.
        column: String,
        /// The feature that has the name.
        first: String,
        /// The feature that wants it too.
        second: String,
    },
    /// An output column named like a key.
    #[error("`{feature}` would be output column `{column}`, which is the name of a key")]
    KeyCollision {
        /// The column.
        column: String,
        /// The feature.
        feature: String,
    },
    /// One key name asked for with two types.
    #[error("key `{key}` is {first_type} for view `{first}` and {second_type} for view `{second}`")]
    KeyTypes {
        /// The name in requests and spines.
        key: String,
        /// A view.
        first: String,
        /// The type there.
        first_type: DataType,
        /// Another view.
        second: String,
        /// The type there.
        second_type: DataType,
    },
    /// A source of another project has changed since the view was applied.
    #[error(transparent)]
    ViewStale(Stale),
    /// A view of another project has changed since the service was applied.
    #[error("service `{service}` stands on version {agreed} of view `{view}`, which is now {current}")]
    Stale {
        /// The service.
        service: String,
        /// The view.
        view: String,
        /// The version the service was applied with, short.
        agreed: String,
        /// The version there is.
        current: String,
    },
}

impl Explain for SelectError {
    fn kind(&self) -> Kind {
        match self {
            SelectError::UnknownProject { .. }
            | SelectError::UnknownService { .. }
            | SelectError::UnknownView { .. }
            | SelectError::UnknownFeature { .. } => Kind::NotFound,
            SelectError::Stale { .. } => Kind::Conflict,
            SelectError::ViewStale(stale) => stale.kind(),
            _ => Kind::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            SelectError::UnknownProject { .. } => "project_not_found",
            SelectError::UnknownService { .. } => "service_not_found",
            SelectError::UnknownView { .. } => "view_not_found",
            SelectError::UnknownFeature { .. } => "feature_not_found",
            SelectError::UnknownKey { .. } => "key_not_found",
            SelectError::BadFeature { .. } => "bad_feature",
            SelectError::Nothing => "no_features",
            SelectError::Collision { .. } => "column_collision",
            SelectError::KeyCollision { .. } => "column_collision",
            SelectError::KeyTypes { .. } => "key_types",
            SelectError::Stale { .. } => "service_stale",
            SelectError::ViewStale(stale) => stale.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            SelectError::UnknownProject { hint, .. }
            | SelectError::UnknownService { hint, .. }
            | SelectError::UnknownView { hint, .. }
            | SelectError::UnknownFeature { hint, .. }
            | SelectError::UnknownKey { hint, .. } => hint.clone(),
            SelectError::BadFeature { hint, .. } => Some(hint.clone()),
            SelectError::Nothing => {
                Some("name a service, or features as `view.feature` or `view.*`".to_owned())
            }
            SelectError::Collision { first, second, .. } if first == second => {
                Some("name it once, or give one of them another name with `as:`".to_owned())
            }
            SelectError::Collision { .. } | SelectError::KeyCollision { .. } => Some(
                "give one of them another name with `as:`, or ask for full names (`full_names: true`)"
                    .to_owned(),
            ),
            SelectError::KeyTypes { key, .. } => {
                Some(format!("give one of them another name in its role: `keys: {{...: {key}_2}}`"))
            }
            SelectError::ViewStale(stale) => stale.hint(),
            SelectError::Stale { .. } => Some("run `asof apply` in the service's project again".to_owned()),
        }
    }
}

/// Reads `view.feature`, `view.*`, `project.view.feature`, `project.view.*` and, where `bare`, `view`.
/// The error is a hint.
pub(crate) fn parse_pick(text: &str, bare: bool) -> Result<(Reference, Option<Name>), String> {
    let way = if bare {
        "`view`, `view.feature` or `project.view.feature`"
    } else {
        "`view.feature`, `view.*` or `project.view.feature`"
    };
    let parts: Vec<&str> = text.split('.').collect();
    let (project, view, feature) = match parts.as_slice() {
        [view] if bare => (None, *view, "*"),
        [view] if Name::new(*view).is_ok() => {
            return Err(format!("write `{view}.*` for all features of a view"));
        }
        [view, feature] => (None, *view, *feature),
        [project, view, feature] => (Some(*project), *view, *feature),
        _ => return Err(format!("write {way}")),
    };
    let name = |text: &str| Name::new(text).map_err(|_| format!("write {way}; names are lower-case"));
    let project = project.map(name).transpose()?;
    let feature = if feature == "*" { None } else { Some(name(feature)?) };
    Ok((Reference { project, name: name(view)? }, feature))
}

impl Catalog {
    /// What is asked for in a project, resolved: the one form that training and serving take. A
    /// service's own `full_names` is in force; the flag adds to it.
    ///
    /// # Errors
    /// [`SelectError`] for the first thing that cannot be had.
    pub fn select(&self, project: &Name, ask: &Ask, full_names: bool) -> Result<Selection, SelectError> {
        let (picks, service, home, full_names) = match ask {
            Ask::Service(text) => {
                let service = self.find_service(project, text)?;
                let full = service.definition.full_names || full_names;
                let home = service.address.project.clone();
                (service.definition.features.clone(), Some(service), home, full)
            }
            Ask::Features(texts) => {
                if !self.projects.contains_key(project) {
                    return Err(self.unknown_project(project.as_str()));
                }
                (
                    texts.iter().map(|text| pick_of(text)).collect::<Result<_, _>>()?,
                    None,
                    project.clone(),
                    full_names,
                )
            }
        };
        let (readings, columns) =
            choose(self, &home, &picks, full_names).map_err(|mut errors| errors.swap_remove(0).1)?;
        if let Some(service) = &service {
            for (reading, stored) in readings.iter().zip(&service.selection.readings) {
                if reading.view.address == stored.view && reading.view.id != stored.view_id {
                    return Err(SelectError::Stale {
                        service: service.address.name.to_string(),
                        view: reading.view.address.to_string(),
                        agreed: stored.view_id.short().to_owned(),
                        current: reading.view.id.short().to_owned(),
                    });
                }
            }
        }
        Ok(Selection { project: project.clone(), service, readings, columns })
    }

    fn find_service(
        &self,
        project: &Name,
        text: &str,
    ) -> Result<std::sync::Arc<ServiceVersion>, SelectError> {
        let (home, name) = match text.split_once('.') {
            Some((home, name)) => (home, name),
            None => (project.as_str(), text),
        };
        if Name::new(home).is_err() || Name::new(name).is_err() {
            let own = self.projects.get(project).into_iter().flat_map(|state| state.services.keys());
            let hint = did_you_mean(text, own.map(Name::as_str), "services are");
            return Err(SelectError::UnknownService { service: text.to_owned(), hint });
        }
        let state = self.projects.get(home).ok_or_else(|| self.unknown_project(home))?;
        state.services.get(name).cloned().ok_or_else(|| {
            let names = state.services.keys().map(Name::as_str);
            let hint = if let Some(view) = state.views.get(name) {
                Some(format!("`{name}` is a view: ask for its features as `{}.*`", view.address.name))
            } else {
                did_you_mean(name, names, "services are")
            };
            SelectError::UnknownService { service: text.to_owned(), hint }
        })
    }

    fn unknown_project(&self, project: &str) -> SelectError {
        let hint = did_you_mean(project, self.projects.keys().map(Name::as_str), "projects are");
        SelectError::UnknownProject { project: project.to_owned(), hint }
    }
}

fn pick_of(text: &str) -> Result<Pick, SelectError> {
    let (view, feature) =
        parse_pick(text, false).map_err(|hint| SelectError::BadFeature { text: text.to_owned(), hint })?;
    Ok(Pick { view, feature, keys: BTreeMap::new(), alias: None })
}

/// Readings and output columns of picks made in a project, or everything that is wrong with them,
/// each with the position of its pick.
pub(crate) fn choose(
    catalog: &Catalog,
    project: &Name,
    picks: &[Pick],
    full_names: bool,
) -> Result<(Vec<Reading>, Vec<OutputColumn>), Vec<(usize, SelectError)>> {
    let mut readings: Vec<Reading> = Vec::new();
    let mut columns: Vec<OutputColumn> = Vec::new();
    let mut errors = Vec::new();
    for (at, pick) in picks.iter().enumerate() {
        match choose_one(catalog, project, pick, &mut readings) {
            Ok((reading, features)) => {
                let view = &readings[reading].view;
                for feature in features {
                    let typed = &view.features[feature];
                    let name = output_name(&pick.view.name, &typed.feature.name, pick, full_names);
                    let data_type = typed.data_type.clone();
                    let column = OutputColumn { name, reading, feature, data_type };
                    if let Some(other) = columns.iter().find(|other| other.name == column.name) {
                        errors.push((at, collision(project, &readings, other, &column)));
                    } else {
                        columns.push(column);
                    }
                }
            }
            Err(found) => errors.extend(found.into_iter().map(|error| (at, error))),
        }
    }
    let mut types: BTreeMap<&Name, (&DataType, usize)> = BTreeMap::new();
    for (at, reading) in readings.iter().enumerate() {
        for (key, asked) in reading.view.keys.iter().zip(&reading.keys) {
            match types.get(asked) {
                Some((data_type, first)) if **data_type != key.key.data_type => {
                    let error = SelectError::KeyTypes {
                        key: asked.to_string(),
                        first: shown(project, &readings[*first].view.address),
                        first_type: (*data_type).clone(),
                        second: shown(project, &reading.view.address),
                        second_type: key.key.data_type.clone(),
                    };
                    errors.push((pick_of_reading(picks, project, reading), error));
                }
                Some(_) => {}
                None => {
                    types.insert(asked, (&key.key.data_type, at));
                }
            }
        }
    }
    for column in &columns {
        if types.keys().any(|key| key.as_str() == column.name) {
            let feature = feature_name(project, &readings, column);
            let at = pick_of_reading(picks, project, &readings[column.reading]);
            errors.push((at, SelectError::KeyCollision { column: column.name.clone(), feature }));
        }
    }
    if columns.is_empty() && errors.is_empty() {
        errors.push((0, SelectError::Nothing));
    }
    if errors.is_empty() { Ok((readings, columns)) } else { Err(errors) }
}

/// The name of an output column before any collision is looked for.
pub(crate) fn output_name(view: &Name, feature: &Name, pick: &Pick, full_names: bool) -> String {
    match (&pick.alias, &pick.feature) {
        (Some(alias), Some(_)) => alias.to_string(),
        (Some(alias), None) if full_names => format!("{alias}__{feature}"),
        (Some(alias), None) => format!("{alias}_{feature}"),
        (None, _) if full_names => format!("{view}__{feature}"),
        (None, _) => feature.to_string(),
    }
}

fn choose_one(
    catalog: &Catalog,
    project: &Name,
    pick: &Pick,
    readings: &mut Vec<Reading>,
) -> Result<(usize, Vec<usize>), Vec<SelectError>> {
    let home = pick.view.project.as_ref().unwrap_or(project);
    let Some(state) = catalog.projects.get(home) else {
        return Err(vec![catalog.unknown_project(home.as_str())]);
    };
    let address = Address { project: home.clone(), name: pick.view.name.clone() };
    let missing = |hint| vec![SelectError::UnknownView { view: pick.view.to_string(), hint }];
    let Some(view) = state.views.get(&pick.view.name) else {
        let names = state.views.keys().map(Name::as_str);
        return Err(missing(did_you_mean(pick.view.name.as_str(), names, "views are")));
    };
    let source = catalog.source_of(view).map_err(|stale| vec![SelectError::ViewStale(stale)])?;
    let mut errors = Vec::new();
    for key in pick.keys.keys().filter(|key| !view.keys.iter().any(|it| it.key.name == **key)) {
        let names: Vec<&str> = view.keys.iter().map(|it| it.key.name.as_str()).collect();
        let hint = did_you_mean(key.as_str(), names.iter().copied(), "its keys are");
        errors.push(SelectError::UnknownKey { view: shown(project, &address), key: key.to_string(), hint });
    }
    let features = match &pick.feature {
        None => (0..view.features.len()).collect(),
        Some(feature) => match view.features.iter().position(|it| it.feature.name == *feature) {
            Some(at) => vec![at],
            None => {
                let names: Vec<&str> = view.features.iter().map(|it| it.feature.name.as_str()).collect();
                let hint = of_features(&pick.view, feature, &names);
                let view = pick.view.to_string();
                errors.push(SelectError::UnknownFeature { view, feature: feature.to_string(), hint });
                Vec::new()
            }
        },
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    let keys: Vec<Name> =
        view.keys.iter().map(|it| pick.keys.get(&it.key.name).unwrap_or(&it.key.name).clone()).collect();
    let same = readings.iter().position(|it| it.view.address == address && it.keys == keys);
    let at = same.unwrap_or_else(|| {
        readings.push(Reading { view: view.clone(), source: source.clone(), keys });
        readings.len() - 1
    });
    Ok((at, features))
}

/// What to ask for in place of a feature that a view does not have.
pub(crate) fn of_features(view: &Reference, feature: &Name, names: &[&str]) -> Option<String> {
    let windowed =
        |name: &&&str| name.strip_prefix(feature.as_str()).is_some_and(|rest| rest.starts_with('_'));
    let of_windows: Vec<String> =
        names.iter().filter(windowed).map(|name| format!("`{view}.{name}`")).collect();
    match nearest(feature.as_str(), names.iter().copied()) {
        _ if of_windows.len() > 1 => Some(format!("name its window: {}", of_windows.join(", "))),
        Some(near) => Some(format!("did you mean `{view}.{near}`?")),
        None => did_you_mean(feature.as_str(), names.iter().copied(), "its features are"),
    }
}

/// An address as it is written in a project.
fn shown(project: &Name, address: &Address) -> String {
    if address.project == *project { address.name.to_string() } else { address.to_string() }
}

fn feature_name(project: &Name, readings: &[Reading], column: &OutputColumn) -> String {
    let reading = &readings[column.reading];
    let view = shown(project, &reading.view.address);
    let feature = &reading.view.features[column.feature].feature.name;
    let own = reading.view.keys.iter().map(|it| &it.key.name).eq(&reading.keys);
    if own {
        format!("{view}.{feature}")
    } else {
        let keys: Vec<&str> = reading.keys.iter().map(Name::as_str).collect();
        format!("{view}.{feature} by {}", keys.join(", "))
    }
}

fn collision(
    project: &Name,
    readings: &[Reading],
    first: &OutputColumn,
    second: &OutputColumn,
) -> SelectError {
    SelectError::Collision {
        column: first.name.clone(),
        first: feature_name(project, readings, first),
        second: feature_name(project, readings, second),
    }
}

/// The first pick of a reading's view.
fn pick_of_reading(picks: &[Pick], project: &Name, reading: &Reading) -> usize {
    let of_view = |pick: &Pick| {
        pick.view.name == reading.view.address.name
            && pick.view.project.as_ref().unwrap_or(project) == &reading.view.address.project
    };
    let role = |pick: &Pick| {
        reading
            .view
            .keys
            .iter()
            .zip(&reading.keys)
            .all(|(key, asked)| pick.keys.get(&key.key.name).unwrap_or(&key.key.name) == asked)
    };
    picks.iter().position(|pick| of_view(pick) && role(pick)).unwrap_or_default()
}

/// A selection as a service version stores it.
pub(crate) fn stored(readings: &[Reading], columns: Vec<OutputColumn>) -> StoredSelection {
    let readings = readings
        .iter()
        .map(|it| StoredReading {
            view: it.view.address.clone(),
            view_id: it.view.id.clone(),
            keys: it.keys.clone(),
        })
        .collect();
    StoredSelection { readings, columns }
}

/// The views a service stands on, for hashes.
pub(crate) fn view_ids(selection: &StoredSelection) -> Vec<&VersionId> {
    selection.readings.iter().map(|it| &it.view_id).collect()
}

/// Output names of picks whose views are known by their feature names only: what is checked before
/// any source is looked at.
pub(crate) fn colliding_names(
    service: &Service,
    features_of: impl Fn(&Pick) -> Option<Vec<Name>>,
) -> Vec<(usize, String, String, String)> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut found = Vec::new();
    for (at, pick) in service.features.iter().enumerate() {
        for feature in features_of(pick).unwrap_or_default() {
            let column = output_name(&pick.view.name, &feature, pick, service.full_names);
            let full = format!("{}.{feature}", pick.view);
            match seen.get(&column) {
                Some(other) => found.push((at, column, other.clone(), full)),
                None => {
                    seen.insert(column, full);
                }
            }
        }
    }
    found
}
