//! A version of any kind of thing, and a catalog made of versions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    About, Address, Catalog, Definition, DerivedVersion, EntityVersion, Input, Name, ProjectState, Revision,
    ServiceVersion, SourceVersion, ThingKind, VersionId, ViewVersion,
};

/// A version of a thing of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Version {
    /// Of an entity.
    Entity(Arc<EntityVersion>),
    /// Of a source.
    Source(Arc<SourceVersion>),
    /// Of a view.
    View(Arc<ViewVersion>),
    /// Of features computed of features.
    Derived(Arc<DerivedVersion>),
    /// Of a service.
    Service(Arc<ServiceVersion>),
}

impl Version {
    /// The kind of thing.
    pub fn kind(&self) -> ThingKind {
        match self {
            Version::Entity(_) => ThingKind::Entity,
            Version::Source(_) => ThingKind::Source,
            Version::View(_) => ThingKind::View,
            Version::Derived(_) => ThingKind::Derived,
            Version::Service(_) => ThingKind::Service,
        }
    }

    /// Whose thing it is, and its name.
    pub fn address(&self) -> &Address {
        match self {
            Version::Entity(it) => &it.address,
            Version::Source(it) => &it.address,
            Version::View(it) => &it.address,
            Version::Derived(it) => &it.address,
            Version::Service(it) => &it.address,
        }
    }

    /// The version's name.
    pub fn id(&self) -> &VersionId {
        match self {
            Version::Entity(it) => &it.id,
            Version::Source(it) => &it.id,
            Version::View(it) => &it.id,
            Version::Derived(it) => &it.id,
            Version::Service(it) => &it.id,
        }
    }

    /// Owner, description, tags.
    pub fn about(&self) -> &About {
        match self {
            Version::Entity(it) => &it.definition.about,
            Version::Source(it) => &it.definition.about,
            Version::View(it) => &it.definition.about,
            Version::Derived(it) => &it.definition.about,
            Version::Service(it) => &it.definition.about,
        }
    }

    /// The definition as written.
    pub fn definition(&self) -> Definition {
        match self {
            Version::Entity(it) => Definition::Entity(it.definition.clone()),
            Version::Source(it) => Definition::Source(it.definition.clone()),
            Version::View(it) => Definition::View(it.definition.clone()),
            Version::Derived(it) => Definition::Derived(it.definition.clone()),
            Version::Service(it) => Definition::Service(it.definition.clone()),
        }
    }

    /// The things it stands on, of its own project or another, in no order and possibly twice.
    pub fn stands_on(&self) -> Vec<(ThingKind, Address)> {
        match self {
            Version::Entity(_) => Vec::new(),
            Version::Source(it) => it
                .definition
                .reads()
                .iter()
                .map(|read| {
                    let project = read.project.as_ref().unwrap_or(&it.address.project).clone();
                    (ThingKind::Source, Address { project, name: read.name.clone() })
                })
                .collect(),
            Version::View(it) => {
                vec![(ThingKind::Entity, it.entity.clone()), (ThingKind::Source, it.source.clone())]
            }
            Version::Derived(it) => it
                .features
                .iter()
                .flat_map(|feature| &feature.inputs)
                .filter_map(|input| match input {
                    Input::Feature { view, .. } => Some((ThingKind::View, view.clone())),
                    Input::Derived { derived, .. } if *derived == it.address => None,
                    Input::Derived { derived, .. } => Some((ThingKind::Derived, derived.clone())),
                    Input::Request { .. } | Input::RequestTime => None,
                })
                .collect(),
            Version::Service(it) => {
                let views = it.selection.readings.iter().map(|reading| &reading.view);
                let labels = it.selection.labels.iter().map(|label| &label.reading.view);
                let views = views.chain(labels).map(|view| (ThingKind::View, view.clone()));
                let steps = it.selection.steps.iter().map(|step| (ThingKind::Derived, step.derived.clone()));
                views.chain(steps).collect()
            }
        }
    }
}

impl ProjectState {
    /// Puts a version in, in place of the one standing under its kind and name.
    pub fn put(&mut self, version: Version) {
        let name = version.address().name.clone();
        match version {
            Version::Entity(it) => drop(self.entities.insert(name, it)),
            Version::Source(it) => drop(self.sources.insert(name, it)),
            Version::View(it) => drop(self.views.insert(name, it)),
            Version::Derived(it) => drop(self.derived.insert(name, it)),
            Version::Service(it) => drop(self.services.insert(name, it)),
        }
    }

    /// The version standing under a kind and name.
    pub fn get(&self, kind: ThingKind, name: &str) -> Option<Version> {
        match kind {
            ThingKind::Entity => self.entities.get(name).cloned().map(Version::Entity),
            ThingKind::Source => self.sources.get(name).cloned().map(Version::Source),
            ThingKind::View => self.views.get(name).cloned().map(Version::View),
            ThingKind::Derived => self.derived.get(name).cloned().map(Version::Derived),
            ThingKind::Service => self.services.get(name).cloned().map(Version::Service),
        }
    }

    /// Every version, entities first, then sources, views, derived and services, each by name.
    pub fn versions(&self) -> impl Iterator<Item = Version> + '_ {
        let entities = self.entities.values().cloned().map(Version::Entity);
        let sources = self.sources.values().cloned().map(Version::Source);
        let views = self.views.values().cloned().map(Version::View);
        let derived = self.derived.values().cloned().map(Version::Derived);
        let services = self.services.values().cloned().map(Version::Service);
        entities.chain(sources).chain(views).chain(derived).chain(services)
    }
}

impl Catalog {
    /// The catalog of these projects, each with its folder, and these versions. A version of a
    /// project that is not among `roots` makes one without a folder.
    pub fn from_versions(
        revision: Revision,
        roots: BTreeMap<Name, PathBuf>,
        versions: impl IntoIterator<Item = Version>,
    ) -> Catalog {
        let mut projects: BTreeMap<Name, ProjectState> = roots
            .into_iter()
            .map(|(name, root)| (name, ProjectState { root, ..ProjectState::default() }))
            .collect();
        for version in versions {
            projects.entry(version.address().project.clone()).or_default().put(version);
        }
        let projects = projects.into_iter().map(|(name, state)| (name, Arc::new(state))).collect();
        Catalog { revision, projects }
    }

    /// The entity at this address.
    pub fn entity(&self, address: &Address) -> Option<&Arc<EntityVersion>> {
        self.projects.get(&address.project)?.entities.get(&address.name)
    }

    /// The version of the view or derived at this address.
    pub(crate) fn asked(&self, address: &Address) -> Option<VersionId> {
        let view = self.view(address).map(|it| it.id.clone());
        view.or_else(|| self.derived(address).map(|it| it.id.clone()))
    }

    /// The derived features at this address.
    pub fn derived(&self, address: &Address) -> Option<&Arc<DerivedVersion>> {
        self.projects.get(&address.project)?.derived.get(&address.name)
    }

    /// The service at this address.
    pub fn service(&self, address: &Address) -> Option<&Arc<ServiceVersion>> {
        self.projects.get(&address.project)?.services.get(&address.name)
    }

    /// The version standing at this address.
    pub fn get(&self, kind: ThingKind, address: &Address) -> Option<Version> {
        self.projects.get(&address.project)?.get(kind, address.name.as_str())
    }
}
