//! What was agreed: every definition of every project at one revision, resolved, typed and hashed.
//! The registry makes it, every other room reads it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Column, DataType, Entity, Expression, Feature, Key, Name, Service, Source, View};

/// The registry's state counter: every apply makes the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// The name of one version of a thing: 32 hex digits of the hash of its canonical syntax tree and of
/// the versions it stands on. Owner, description and tags are not part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(pub String);

impl VersionId {
    /// The first 8 digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl std::fmt::Display for VersionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A thing of one project, by name; what a resolved definition refers to others with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The project.
    pub project: Name,
    /// The thing.
    pub name: Name,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.project, self.name)
    }
}

/// An entity as agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityVersion {
    /// Where it belongs.
    pub address: Address,
    /// Its version.
    pub id: VersionId,
    /// The definition.
    pub definition: Entity,
}

/// A source as agreed, with the schema found or declared at apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceVersion {
    /// Where it belongs.
    pub address: Address,
    /// Its version.
    pub id: VersionId,
    /// The definition.
    pub definition: Source,
    /// All columns of its rows, in the order of the data.
    pub columns: Vec<Column>,
}

/// A view as agreed: keys bound to columns, features typed, `*` expanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewVersion {
    /// Where it belongs.
    pub address: Address,
    /// Its version.
    pub id: VersionId,
    /// The definition, as written.
    pub definition: View,
    /// The entity.
    pub entity: Address,
    /// The source, and the version of it that the view stands on.
    pub source: Address,
    /// The version of the source.
    pub source_id: VersionId,
    /// The entity's keys, in its order, each with the column it is read from.
    pub keys: Vec<ViewKey>,
    /// The features in order.
    pub features: Vec<TypedFeature>,
}

/// An entity key bound to a source column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewKey {
    /// The entity's key.
    #[serde(flatten)]
    pub key: Key,
    /// The column it is read from.
    pub column: String,
}

/// A feature with its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypedFeature {
    /// The feature, `*` expanded.
    #[serde(flatten)]
    pub feature: Feature,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
}

/// A service as agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceVersion {
    /// Where it belongs.
    pub address: Address,
    /// Its version: hash of its definition and of the view versions it stands on.
    pub id: VersionId,
    /// The definition, as written.
    pub definition: Service,
    /// What it reads.
    pub selection: StoredSelection,
}

/// A selection as stored: views by address and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSelection {
    /// The readings, each of one view in one role.
    pub readings: Vec<StoredReading>,
    /// The output columns in order.
    pub columns: Vec<OutputColumn>,
}

/// One view in one role, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReading {
    /// The view.
    pub view: Address,
    /// The version agreed.
    pub view_id: VersionId,
    /// For each key of the view's entity, in order, the name it has in requests and spines.
    pub keys: Vec<Name>,
}

/// One output column of a selection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputColumn {
    /// Its name in the output.
    pub name: String,
    /// The reading that answers for it, by position.
    pub reading: usize,
    /// The feature of that reading's view, by position.
    pub feature: usize,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
}

/// What is asked for, resolved against one catalog: the one form that training and serving both take.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The project asked in.
    pub project: Name,
    /// The service asked for, if it was one.
    pub service: Option<Arc<ServiceVersion>>,
    /// The readings, each of one view in one role. Two columns of one view in one role share one.
    pub readings: Vec<Reading>,
    /// The output columns in order.
    pub columns: Vec<OutputColumn>,
}

/// One view in one role.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The view.
    pub view: Arc<ViewVersion>,
    /// The source under it.
    pub source: Arc<SourceVersion>,
    /// For each key of the view's entity, in order, the name it has in requests and spines.
    pub keys: Vec<Name>,
}

/// What is asked for, as users say it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A service by name, `service` or `project.service`.
    Service(String),
    /// Features: `view.feature`, `view.*`, `project.view.feature`.
    Features(Vec<String>),
}

/// One project at one revision.
#[derive(Debug, Clone, Default)]
pub struct ProjectState {
    /// The folder that relative paths of its sources start from.
    pub root: PathBuf,
    /// Entities by name.
    pub entities: BTreeMap<Name, Arc<EntityVersion>>,
    /// Sources by name.
    pub sources: BTreeMap<Name, Arc<SourceVersion>>,
    /// Views by name.
    pub views: BTreeMap<Name, Arc<ViewVersion>>,
    /// Services by name.
    pub services: BTreeMap<Name, Arc<ServiceVersion>>,
}

/// Everything agreed, of every project, at one revision. Immutable: an apply makes a new one.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// The revision.
    pub revision: Revision,
    /// Projects by name.
    pub projects: BTreeMap<Name, Arc<ProjectState>>,
}

impl Catalog {
    /// The source at this address.
    pub fn source(&self, address: &Address) -> Option<&Arc<SourceVersion>> {
        self.projects.get(&address.project)?.sources.get(&address.name)
    }

    /// The view at this address.
    pub fn view(&self, address: &Address) -> Option<&Arc<ViewVersion>> {
        self.projects.get(&address.project)?.views.get(&address.name)
    }

    /// All views of all projects.
    pub fn views(&self) -> impl Iterator<Item = &Arc<ViewVersion>> {
        self.projects.values().flat_map(|project| project.views.values())
    }
}

/// Which rows count, asked at t (SEMANTICS section 2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Rows visible at t: what could have been used then, and what training must use.
    #[default]
    Known,
    /// All rows, late ones as if on time.
    Event,
}

impl Question {
    /// Its name, `known` or `event`.
    pub fn name(self) -> &'static str {
        match self {
            Question::Known => "known",
            Question::Event => "event",
        }
    }
}

impl ViewVersion {
    /// The expression that rows must pass, if any.
    pub fn filter(&self) -> Option<&Expression> {
        self.definition.filter.as_ref()
    }
}
