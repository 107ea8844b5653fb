//! What is asked for, made into readings and output columns. Services, requests and training sets all
//! come through here, so they agree on names, order and collisions.

use std::collections::BTreeMap;

use crate::nearest::{did_you_mean, nearest};
use crate::{
    Address, Ask, Catalog, DataType, Explain, Kind, Label, Name, Pick, Reference, Selection, Service,
    ServiceVersion, Stale, StoredSelection, VersionId,
};

mod choose;
pub(crate) use choose::{Chosen, choose, stored};

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
    #[error("feature `{feature}` not found in {kind} `{view}`")]
    UnknownFeature {
        /// `view` or `derived`.
        kind: &'static str,
        /// Its name.
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
    /// A name of what a request brings is that of something else.
    #[error("`{column}` of the `request` of derived `{derived}` is also {what}")]
    RequestCollision {
        /// The name.
        column: String,
        /// Whose request it is of.
        derived: String,
        /// What else has the name.
        what: String,
    },
    /// A request brings a value that two derived take as two types.
    #[error(
        "`{column}` of the request is {first_type} for derived `{first}` and {second_type} for derived `{second}`"
    )]
    RequestTypes {
        /// The name.
        column: String,
        /// A derived.
        first: String,
        /// The type there.
        first_type: DataType,
        /// Another.
        second: String,
        /// The type there.
        second_type: DataType,
    },
    /// A label of facts without a clock, which are the same at every time.
    #[error(
        "label `{label}` is read {after} after the time asked, and source `{source_name}` has no event time"
    )]
    ClocklessLabel {
        /// The label: its feature.
        label: String,
        /// How long after.
        after: String,
        /// The source.
        source_name: String,
    },
    /// A derived feature cannot be told: it stands on too many, one on the other.
    #[error("derived feature `{feature}` stands on more than {most} derived features, one on the other")]
    TooDeep {
        /// The feature.
        feature: String,
        /// How many are followed.
        most: usize,
    },
    /// A source of another project has changed since the view was applied.
    #[error(transparent)]
    ViewStale(Stale),
    /// A view of another project has changed since the service was applied.
    #[error("service `{service}` stands on version {agreed} of {kind} `{view}`, which is now {current}")]
    Stale {
        /// The service.
        service: String,
        /// `view` or `derived`.
        kind: &'static str,
        /// Its name.
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
            SelectError::RequestCollision { .. } => "request_collision",
            SelectError::RequestTypes { .. } => "request_types",
            SelectError::ClocklessLabel { .. } => "clockless",
            SelectError::TooDeep { .. } => "derived_too_deep",
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
            SelectError::RequestCollision { .. } => {
                Some("give one of them another name; an output column takes one with `as:`".to_owned())
            }
            SelectError::RequestTypes { column, .. } => {
                Some(format!("declare `{column}` with one type in `request`, and cast it where it is used"))
            }
            SelectError::ClocklessLabel { label, .. } => {
                Some(format!("ask for `{label}` as a feature, or give the source an `event_time`"))
            }
            SelectError::TooDeep { .. } => Some("write some of them into one expression".to_owned()),
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
        let (picks, labels, service, home, full_names) = match ask {
            Ask::Service(text) => {
                let service = self.find_service(project, text)?;
                let full = service.definition.full_names || full_names;
                let home = service.address.project.clone();
                let definition = &service.definition;
                (definition.features.clone(), definition.labels.clone(), Some(service), home, full)
            }
            Ask::Features(texts) => {
                if !self.projects.contains_key(project) {
                    return Err(self.unknown_project(project.as_str()));
                }
                (
                    texts.iter().map(|text| pick_of(text)).collect::<Result<_, _>>()?,
                    Vec::new(),
                    None,
                    project.clone(),
                    full_names,
                )
            }
        };
        let Chosen { readings, columns, request, steps, labels } =
            choose(self, &home, &picks, &labels, full_names).map_err(|mut errors| errors.swap_remove(0).1)?;
        if let Some(service) = &service {
            let stored = &service.selection;
            let labels = labels.iter().map(|it| &it.reading).zip(stored.labels.iter().map(|it| &it.reading));
            let views = readings.iter().zip(&stored.readings).chain(labels).map(|(reading, stored)| {
                ("view", (&reading.view.address, &reading.view.id), (&stored.view, &stored.view_id))
            });
            let steps = steps.iter().zip(&stored.steps).map(|(step, stored)| {
                let derived = &step.derived;
                ("derived", (&derived.address, &derived.id), (&stored.derived, &stored.derived_id))
            });
            for (kind, now, agreed) in views.chain(steps) {
                if now.0 == agreed.0 && now.1 != agreed.1 {
                    return Err(SelectError::Stale {
                        service: service.address.name.to_string(),
                        kind,
                        view: now.0.to_string(),
                        agreed: agreed.1.short().to_owned(),
                        current: now.1.short().to_owned(),
                    });
                }
            }
        }
        Ok(Selection { project: project.clone(), service, readings, columns, request, steps, labels })
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

    pub(crate) fn unknown_project(&self, project: &str) -> SelectError {
        let hint = did_you_mean(project, self.projects.keys().map(Name::as_str), "projects are");
        SelectError::UnknownProject { project: project.to_owned(), hint }
    }
}

fn pick_of(text: &str) -> Result<Pick, SelectError> {
    let (view, feature) =
        parse_pick(text, false).map_err(|hint| SelectError::BadFeature { text: text.to_owned(), hint })?;
    Ok(Pick { view, feature, keys: BTreeMap::new(), alias: None })
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
pub(crate) fn shown(project: &Name, address: &Address) -> String {
    if address.project == *project { address.name.to_string() } else { address.to_string() }
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
    for (nth, label) in service.labels.iter().enumerate() {
        let column = label_name(label, service.full_names);
        let full = format!("{}.{} after {}", label.view, label.feature, label.after);
        match seen.get(&column) {
            Some(other) => found.push((service.features.len() + nth, column, other.clone(), full)),
            None => drop(seen.insert(column, full)),
        }
    }
    found
}

/// The name of a label's output column.
pub(crate) fn label_name(label: &Label, full_names: bool) -> String {
    match &label.alias {
        Some(alias) => alias.to_string(),
        None if full_names => format!("{}__{}", label.view.name, label.feature),
        None => label.feature.to_string(),
    }
}
