//! From definitions and the types found in the data to versions: names bound, `*` expanded, hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::check::{id_of_keys, over_source};
use crate::definition::reference_of;
use crate::derived::Named;
use crate::expression::parse_query;
use crate::hash::{derived_id, entity_id, service_id, source_id, view_id};
use crate::nearest::did_you_mean;
use crate::select::{choose, of_features, stored};
use crate::{
    About, Address, Catalog, Column, DataType, Definition, Derived, DerivedFeature, DerivedVersion,
    Diagnostic, Diagnostics, Entity, EntityVersion, Explain, Expression, Feature, Located, Name, Place,
    Project, ProjectState, Reference, Service, ServiceVersion, Source, SourceVersion, StandsOn, ThingKind,
    TimeRule, TypedFeature, Version, View, ViewKey, ViewVersion,
};

/// What the data says of a project's definitions: found by the engine at apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypedProject {
    /// For each source of the project its columns, in the order of the data.
    pub source_columns: BTreeMap<Name, Vec<Column>>,
    /// For each (view, feature), `*` expanded, its type.
    pub feature_types: BTreeMap<(Name, Name), DataType>,
    /// For each (derived, feature) its type.
    pub derived_types: BTreeMap<(Name, Name), DataType>,
}

/// The columns an entity's keys are read from, in the entity's order.
pub fn bind_keys(view: &View, entity: &Entity) -> Vec<ViewKey> {
    entity
        .keys
        .iter()
        .map(|key| ViewKey {
            key: key.clone(),
            column: view.keys.get(&key.name).cloned().unwrap_or_else(|| key.name.to_string()),
        })
        .collect()
}

/// The features of a view as they are asked for: `*` expanded to all columns that are neither keys nor times,
/// an aggregate once for each of its windows, named `NAME_WINDOW` ([`View::expanded`]).
///
/// # Errors
/// The columns whose names cannot be names of features.
pub fn expand_features(
    view: &View,
    keys: &[ViewKey],
    source: &Source,
    columns: &[Column],
) -> Result<Vec<Feature>, Vec<String>> {
    if let Some(features) = view.expanded() {
        return Ok(features);
    }
    let times: Vec<&str> = [&source.event_time, &source.available_at, &source.valid_until]
        .into_iter()
        .filter_map(|rule| match rule {
            Some(TimeRule::Column { name, .. }) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let mut found = Vec::new();
    let mut bad = Vec::new();
    for column in columns {
        if keys.iter().any(|key| key.column == column.name) || times.contains(&column.name.as_str()) {
            continue;
        }
        match Name::new(column.name.as_str()) {
            Ok(name) => found.push(Feature {
                expression: Expression::column(&column.name),
                name,
                aggregate: None,
                default: None,
                sensitivity: None,
                about: About::default(),
            }),
            Err(_) => bad.push(column.name.clone()),
        }
    }
    if bad.is_empty() { Ok(found) } else { Err(bad) }
}

impl Project {
    /// The address a reference made in this project has.
    pub fn address(&self, reference: &Reference) -> Address {
        let project = reference.project.as_ref().unwrap_or(&self.config.project);
        Address { project: project.clone(), name: reference.name.clone() }
    }
}

/// Makes the versions of a project's definitions. `against` gives the other projects; `types` is what
/// the engine found. What the engine has reported already (a source it could not read, a feature it
/// could not type) is passed over in silence, with all that stands on it; with an error among the
/// findings of any step nothing may be applied.
pub fn resolve(project: &Project, against: &Catalog, types: &TypedProject) -> (Vec<Version>, Diagnostics) {
    let mut step = Step {
        project,
        types,
        next: against.clone(),
        skipped: BTreeSet::new(),
        versions: Vec::new(),
        out: Diagnostics::new(),
    };
    let home = project.config.project.clone();
    let root = against.projects.get(&home).map(|state| state.root.clone()).unwrap_or_default();
    step.next.projects.insert(home, Arc::new(ProjectState { root, ..ProjectState::default() }));
    step.skipped.extend(project.broken.iter().cloned());
    for it in &project.definitions {
        if let Definition::Entity(entity) = &it.value {
            step.entity(entity);
        }
    }
    step.sources();
    for it in &project.definitions {
        if let Definition::View(view) = &it.value {
            step.view(it, view);
        }
    }
    step.all_derived();
    for it in &project.definitions {
        if let Definition::Service(service) = &it.value {
            step.service(it, service);
        }
    }
    step.others(against);
    let Step { versions, mut out, .. } = step;
    out.sort_by_key(|it| it.span.as_ref().map(|span| (span.file.clone(), span.line, span.column)));
    (versions, out)
}

struct Step<'a> {
    project: &'a Project,
    types: &'a TypedProject,
    /// The catalog as it would be.
    next: Catalog,
    /// Wrong things and what stands on them.
    skipped: BTreeSet<(ThingKind, Name)>,
    versions: Vec<Version>,
    out: Diagnostics,
}

impl Step<'_> {
    fn put(&mut self, version: Version) {
        if let Some(state) = self.next.projects.get_mut(&version.address().project) {
            Arc::make_mut(state).put(version.clone());
        }
        self.versions.push(version);
    }

    fn here(&self, name: &Name) -> Address {
        Address { project: self.project.config.project.clone(), name: name.clone() }
    }

    fn skips(&self, kind: ThingKind, address: &Address) -> bool {
        address.project == self.project.config.project && self.skipped.contains(&(kind, address.name.clone()))
    }

    /// A thing of another project that is not there.
    fn missing(&mut self, kind: ThingKind, reference: &Reference, at: crate::Span) {
        let address = self.project.address(reference);
        let error = match self.next.projects.get(&address.project) {
            None => {
                let names = self.next.projects.keys().map(Name::as_str);
                Diagnostic::error("project_not_found", format!("project `{}` not found", address.project))
                    .maybe_hint(did_you_mean(address.project.as_str(), names, "projects are"))
            }
            Some(state) => {
                let names: Vec<&str> = match kind {
                    ThingKind::Entity => state.entities.keys().map(Name::as_str).collect(),
                    ThingKind::Source => state.sources.keys().map(Name::as_str).collect(),
                    ThingKind::View => {
                        state.views.keys().chain(state.derived.keys()).map(Name::as_str).collect()
                    }
                    ThingKind::Derived => state.derived.keys().map(Name::as_str).collect(),
                    ThingKind::Service => state.services.keys().map(Name::as_str).collect(),
                };
                let what = format!("project `{}` has", address.project);
                Diagnostic::error(&format!("{kind}_not_found"), format!("{kind} `{reference}` not found"))
                    .maybe_hint(did_you_mean(address.name.as_str(), names.iter().copied(), &what))
            }
        };
        self.out.push(error.at(at));
    }

    /// Refuses a source of another project that does not stand itself on what it was agreed with.
    fn fresh(&mut self, source: &SourceVersion, at: crate::Span) {
        if source.address.project == self.project.config.project {
            return;
        }
        if let Err(stale) = self.next.still_reads(source) {
            self.out.push(Diagnostic::error(stale.code(), stale.to_string()).at(at).maybe_hint(stale.hint()));
        }
    }

    fn entity(&mut self, entity: &Entity) {
        let address = self.here(&entity.name);
        let id = entity_id(&address, entity);
        self.put(Version::Entity(Arc::new(EntityVersion { address, id, definition: entity.clone() })));
    }

    /// Sources in an order in which a query comes after what it reads.
    fn sources(&mut self) {
        let project = self.project;
        let mut waiting: Vec<(&Located<Definition>, &Source)> = project
            .definitions
            .iter()
            .filter_map(|it| match &it.value {
                Definition::Source(source) => Some((it, source)),
                _ => None,
            })
            .collect();
        loop {
            let before = waiting.len();
            waiting.retain(|(at, source)| !self.source(at, source));
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        for (_, source) in waiting {
            self.skipped.insert((ThingKind::Source, source.name.clone()));
        }
    }

    /// Whether it is done with, made or skipped.
    fn source(&mut self, at: &Located<Definition>, source: &Source) -> bool {
        let mut reads = Vec::new();
        if let Place::Sql { text } = &source.place {
            for (parts, offset, length) in parse_query(text).unwrap_or_default() {
                let Some(reference) = reference_of(parts) else { continue };
                let address = self.project.address(&reference);
                let place = at.inside(&["sql"], offset..offset + length);
                if let Some(found) = self.next.source(&address).cloned() {
                    self.fresh(&found, place);
                    reads.push(found.id.clone());
                } else if self.skips(ThingKind::Source, &address) {
                    self.skipped.insert((ThingKind::Source, source.name.clone()));
                    return true;
                } else if self.project.own(&reference).is_some() {
                    return false;
                } else {
                    self.missing(ThingKind::Source, &reference, place);
                    self.skipped.insert((ThingKind::Source, source.name.clone()));
                    return true;
                }
            }
        }
        let Some(columns) = self.types.source_columns.get(&source.name) else {
            self.skipped.insert((ThingKind::Source, source.name.clone()));
            return true;
        };
        let address = self.here(&source.name);
        let id = source_id(&address, source, columns, &reads);
        let columns = columns.clone();
        self.put(Version::Source(Arc::new(SourceVersion {
            address,
            id,
            definition: source.clone(),
            columns,
        })));
        true
    }

    fn view(&mut self, at: &Located<Definition>, view: &View) {
        let entity_at = self.project.address(&view.entity);
        let source_at = self.project.address(&view.source);
        let entity = self.next.entity(&entity_at).cloned();
        let source = self.next.source(&source_at).cloned();
        if entity.is_none() && !self.skips(ThingKind::Entity, &entity_at) {
            self.missing(ThingKind::Entity, &view.entity, at.at(&["entity"]));
        }
        if source.is_none() && !self.skips(ThingKind::Source, &source_at) {
            self.missing(ThingKind::Source, &view.source, at.at(&["source"]));
        }
        let made = match (entity, source) {
            (Some(entity), Some(source)) => self.view_of(at, view, &entity, &source),
            _ => None,
        };
        match made {
            Some(version) => self.put(Version::View(Arc::new(version))),
            None => drop(self.skipped.insert((ThingKind::View, view.name.clone()))),
        }
    }

    fn view_of(
        &mut self,
        at: &Located<Definition>,
        view: &View,
        entity: &EntityVersion,
        source: &SourceVersion,
    ) -> Option<ViewVersion> {
        let before = self.out.len();
        self.fresh(source, at.at(&["source"]));
        if view.source.project.is_some() {
            over_source(view, &source.definition, at, &mut self.out);
        }
        if view.source.project.is_some() || view.entity.project.is_some() {
            id_of_keys(view, &entity.definition, &source.definition, at, &mut self.out);
        }
        if view.entity.project.is_some() {
            for key in
                view.keys.keys().filter(|key| !entity.definition.keys.iter().any(|it| it.name == **key))
            {
                let names: Vec<&str> = entity.definition.keys.iter().map(|it| it.name.as_str()).collect();
                let message =
                    format!("`keys` of view `{}`: entity `{}` has no key `{key}`", view.name, view.entity);
                self.out.push(
                    Diagnostic::error("key_not_found", message)
                        .at(at.key(&["keys", key.as_str()]))
                        .maybe_hint(did_you_mean(key.as_str(), names.iter().copied(), "its keys are")),
                );
            }
        }
        let keys = bind_keys(view, &entity.definition);
        let features = match expand_features(view, &keys, &source.definition, &source.columns) {
            Ok(features) => features,
            Err(columns) => {
                for column in columns {
                    let message =
                        format!("`*` in view `{}`: column `{column}` cannot name a feature", view.name);
                    let hint = format!(
                        "write the features out; this one as `name: {}`",
                        crate::yaml::quote(&Expression::column(&column).text)
                    );
                    self.out.push(Diagnostic::error("bad_name", message).at(at.at(&["features"])).hint(hint));
                }
                return None;
            }
        };
        let mut typed = Vec::new();
        for feature in features {
            let key = (view.name.clone(), feature.name.clone());
            let data_type = self.types.feature_types.get(&key)?.clone();
            if let Some(default) = &feature.default
                && !default.fits(&data_type)
            {
                let message = format!(
                    "`default` of feature `{}` of view `{}` is {default}, and the feature is {data_type}",
                    feature.name, view.name
                );
                self.out.push(
                    Diagnostic::error("default_type", message)
                        .at(at.feature_key(&feature.name, "default"))
                        .hint("give a constant of the feature's type, or `cast` the feature to another"),
                );
            }
            typed.push(TypedFeature { feature, data_type });
        }
        if self.out.len() > before {
            return None;
        }
        let mut version = ViewVersion {
            address: self.here(&view.name),
            id: crate::VersionId(String::new()),
            definition: view.clone(),
            entity: entity.address.clone(),
            source: source.address.clone(),
            source_id: source.id.clone(),
            keys,
            features: typed,
        };
        version.id = view_id(&version, &entity.id);
        Some(version)
    }

    /// Derived in an order in which each comes after those it reads.
    fn all_derived(&mut self) {
        let project = self.project;
        let mut waiting: Vec<(&Located<Definition>, &Derived)> = project
            .definitions
            .iter()
            .filter_map(|it| match &it.value {
                Definition::Derived(derived) => Some((it, derived)),
                _ => None,
            })
            .collect();
        loop {
            let before = waiting.len();
            waiting.retain(|(at, derived)| !self.derived(at, derived));
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        for (_, derived) in waiting {
            self.skipped.insert((ThingKind::Derived, derived.name.clone()));
        }
    }

    /// Whether it is done with, made or skipped.
    fn derived(&mut self, at: &Located<Definition>, derived: &Derived) -> bool {
        let home = self.here(&derived.name);
        let mut stands_on: Vec<StandsOn> = Vec::new();
        let mut good = true;
        for feature in &derived.features {
            for (parts, offset, length) in feature.expression.names() {
                let Named::Feature(of, named) = Named::of(&parts) else { continue };
                let address = self.project.address(&of);
                if address == home {
                    continue;
                }
                let place = at.feature(&feature.name, Some(offset..offset + length));
                let (id, names) = match (self.next.view(&address), self.next.derived(&address)) {
                    (Some(view), _) => {
                        let names: Vec<Name> =
                            view.features.iter().map(|it| it.feature.name.clone()).collect();
                        (view.id.clone(), names)
                    }
                    (None, Some(other)) => {
                        let names = other.features.iter().map(|it| it.feature.name.clone()).collect();
                        (other.id.clone(), names)
                    }
                    _ if self.skips(ThingKind::View, &address)
                        || self.skips(ThingKind::Derived, &address) =>
                    {
                        self.skipped.insert((ThingKind::Derived, derived.name.clone()));
                        return true;
                    }
                    _ if self.project.own(&of).is_some() => return false,
                    _ => {
                        self.missing(ThingKind::View, &of, place);
                        good = false;
                        continue;
                    }
                };
                if !names.contains(&named) {
                    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                    let message = format!("feature `{named}` not found in `{of}`");
                    self.out.push(
                        Diagnostic::error("feature_not_found", message)
                            .at(place)
                            .maybe_hint(of_features(&of, &named, &names)),
                    );
                    good = false;
                }
                if !stands_on.iter().any(|it| it.address == address) {
                    stands_on.push(StandsOn { address, id });
                }
            }
        }
        match self.derived_of(derived, home, stands_on).filter(|_| good) {
            Some(version) => self.put(Version::Derived(Arc::new(version))),
            None => drop(self.skipped.insert((ThingKind::Derived, derived.name.clone()))),
        }
        true
    }

    fn derived_of(
        &self,
        derived: &Derived,
        address: Address,
        stands_on: Vec<StandsOn>,
    ) -> Option<DerivedVersion> {
        let is_derived = |at: &Address| *at == address || self.next.derived(at).is_some();
        let mut features = Vec::new();
        for feature in &derived.features {
            let key = (derived.name.clone(), feature.name.clone());
            features.push(DerivedFeature {
                feature: feature.clone(),
                data_type: self.types.derived_types.get(&key)?.clone(),
                inputs: derived.inputs(&address.project, feature, is_derived),
            });
        }
        let id = crate::VersionId(String::new());
        let mut version = DerivedVersion { address, id, definition: derived.clone(), features, stands_on };
        version.id = derived_id(&version);
        Some(version)
    }

    fn service(&mut self, at: &Located<Definition>, service: &Service) {
        let address = self.here(&service.name);
        let picked = service.features.iter().map(|pick| &pick.view);
        let labels = service.labels.iter().map(|label| &label.view);
        let skipped = |it: &Reference| {
            let address = self.project.address(it);
            self.skips(ThingKind::View, &address) || self.skips(ThingKind::Derived, &address)
        };
        if picked.chain(labels).any(skipped) {
            return;
        }
        match choose(&self.next, &address.project, &service.features, &service.labels, service.full_names) {
            Ok(chosen) => {
                let selection = stored(&chosen);
                let id = service_id(&address, service, &selection);
                let definition = service.clone();
                self.put(Version::Service(Arc::new(ServiceVersion { address, id, definition, selection })));
            }
            Err(errors) => {
                for (nth, error) in errors {
                    // Labels are counted behind the features.
                    let place = match nth.checked_sub(service.features.len()) {
                        Some(nth) if !service.labels.is_empty() => at.at(&["labels", &nth.to_string()]),
                        _ => at.at(&["features", &nth.to_string()]),
                    };
                    let message = format!("service `{}`: {error}", service.name);
                    self.out
                        .push(Diagnostic::error(error.code(), message).at(place).maybe_hint(error.hint()));
                }
            }
        }
    }

    /// Things of other projects that stand on what changes here.
    fn others(&mut self, against: &Catalog) {
        let home = &self.project.config.project;
        for (name, state) in against.projects.iter().filter(|(name, _)| *name != home) {
            let queries = state.sources.values().filter(|it| self.next.still_reads(it).is_err());
            let readers = queries.flat_map(|query| {
                let reads = query.definition.reads().into_iter();
                let own = reads.filter(|read| read.project.as_ref() == Some(home));
                own.map(move |read| (read.name, format!("source `{}` reads it", query.address)))
            });
            let views = state.views.values().filter(|it| it.source.project == *home);
            let readers: Vec<(Name, String)> = readers
                .chain(
                    views.map(|it| (it.source.name.clone(), format!("view `{}` stands on it", it.address))),
                )
                .collect();
            for (source, user) in readers {
                let address = self.here(&source);
                let (was, now) = (against.source(&address), self.next.source(&address));
                if was.map(|it| &it.id) == now.map(|it| &it.id) || self.skips(ThingKind::Source, &address) {
                    continue;
                }
                let what = if now.is_some() { "changes" } else { "goes away" };
                let span = self.project.find(ThingKind::Source, source.as_str()).map(Located::span);
                let warning = Diagnostic::warning(
                    "used_elsewhere",
                    format!("source `{source}` {what}, and {user}"),
                )
                .hint(format!(
                    "apply project `{name}` again afterwards: until then what stands on it there is refused"
                ));
                self.out.push(Diagnostic { span, ..warning });
            }
            for derived in state.derived.values() {
                for on in derived.stands_on.iter().filter(|it| it.address.project == *home) {
                    let now = self.next.asked(&on.address);
                    if now.as_ref() == Some(&on.id) {
                        continue;
                    }
                    let what = if now.is_some() { "changes" } else { "goes away" };
                    let found = [ThingKind::View, ThingKind::Derived]
                        .into_iter()
                        .find_map(|kind| self.project.find(kind, on.address.name.as_str()));
                    let message = format!(
                        "`{}` {what}, and derived `{}` stands on it",
                        on.address.name, derived.address
                    );
                    let warning = Diagnostic::warning("used_elsewhere", message).hint(format!(
                        "apply project `{name}` again afterwards: until then what stands on it there is refused"
                    ));
                    self.out.push(Diagnostic { span: found.map(Located::span), ..warning });
                }
            }
            for service in state.services.values() {
                for reading in service.selection.readings.iter().filter(|it| it.view.project == *home) {
                    let now = self.next.view(&reading.view);
                    if now.is_some_and(|view| view.id == reading.view_id) {
                        continue;
                    }
                    let what = if now.is_some() { "changes" } else { "goes away" };
                    let span =
                        self.project.find(ThingKind::View, reading.view.name.as_str()).map(Located::span);
                    let warning = Diagnostic::warning(
                        "used_elsewhere",
                        format!(
                            "view `{}` {what}, and service `{name}.{}` stands on it",
                            reading.view.name, service.address.name
                        ),
                    )
                    .hint(format!(
                        "apply project `{name}` again afterwards: until then its service is refused"
                    ));
                    self.out.push(Diagnostic { span, ..warning });
                }
            }
        }
    }
}
