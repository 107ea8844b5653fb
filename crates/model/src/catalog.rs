//! What was agreed: every definition of every project at one revision, resolved, typed and hashed.
//! The registry makes it, every other room reads it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Column, DataType, Derived, Entity, Expression, Feature, Key, Length, Name, RequestColumn, Service,
    Source, View,
};

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

/// Derived features as agreed: what each reads is known by name, what they stand on by version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerivedVersion {
    /// Where it belongs.
    pub address: Address,
    /// Its version: hash of its definition and of the versions it stands on.
    pub id: VersionId,
    /// The definition, as written.
    pub definition: Derived,
    /// The features in order.
    pub features: Vec<DerivedFeature>,
    /// The views and derived it reads, each once, with the version agreed; not itself.
    pub stands_on: Vec<StandsOn>,
}

/// A derived feature with its type and what it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerivedFeature {
    /// The feature.
    #[serde(flatten)]
    pub feature: Feature,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// What its expression names, each once, in the order of the text.
    pub inputs: Vec<Input>,
}

/// What an expression of a derived feature names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A feature of a view: `view.feature`, `project.view.feature`.
    Feature {
        /// The view.
        view: Address,
        /// The feature.
        feature: Name,
    },
    /// Another derived feature.
    Derived {
        /// Where it belongs; perhaps the same derived.
        derived: Address,
        /// The feature.
        feature: Name,
    },
    /// What the request brings.
    Request {
        /// Its name.
        column: Name,
    },
    /// The time asked: a timestamp.
    RequestTime,
}

/// A view or derived that a derived reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandsOn {
    /// Where it belongs.
    pub address: Address,
    /// The version agreed.
    pub id: VersionId,
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
    /// What requests bring, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<RequestColumn>,
    /// The derived features, each behind what it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StoredStep>,
    /// The labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<StoredLabel>,
}

/// A derived feature of a selection, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredStep {
    /// Where it belongs.
    pub derived: Address,
    /// The version agreed.
    pub derived_id: VersionId,
    /// The feature, by position.
    pub feature: usize,
    /// What each of the feature's inputs is, in their order.
    pub inputs: Vec<StepInput>,
}

/// A label of a selection, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLabel {
    /// Its name in the output.
    pub name: String,
    /// The view it is read from.
    #[serde(flatten)]
    pub reading: StoredReading,
    /// The feature of that view, by position.
    pub feature: usize,
    /// How long after the time asked it is read.
    pub after: Length,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
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
    /// Where its values come from.
    #[serde(flatten)]
    pub from: Origin,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
}

/// Where the values of an output column come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    /// A reading answers.
    Feature {
        /// The reading, by position.
        reading: usize,
        /// The feature of that reading's view, by position.
        feature: usize,
    },
    /// It is computed.
    Derived {
        /// The step, by position.
        step: usize,
    },
}

impl OutputColumn {
    /// The reading that answers for it and the feature of that reading's view, by position; none where it is
    /// computed.
    pub fn read(&self) -> Option<(usize, usize)> {
        match self.from {
            Origin::Feature { reading, feature } => Some((reading, feature)),
            Origin::Derived { .. } => None,
        }
    }
}

/// What is asked for, resolved against one catalog: the one form that training and serving both take.
///
/// Whoever answers does the same for a batch as for one row: every reading answers for the features that columns
/// and steps name of it; the steps are computed in their order, each over what stands before it; columns are
/// taken out by position. Training reads labels beside that, and serving never does.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The project asked in.
    pub project: Name,
    /// The service asked for, if it was one.
    pub service: Option<Arc<ServiceVersion>>,
    /// The readings, each of one view in one role. Two columns of one view in one role share one; some may be
    /// read by steps only.
    pub readings: Vec<Reading>,
    /// The output columns in order.
    pub columns: Vec<OutputColumn>,
    /// What requests and spines bring for the steps.
    pub request: Vec<RequestColumn>,
    /// The derived features that are computed, each behind those it reads.
    pub steps: Vec<Step>,
    /// What a service's labels are, whose columns stand behind the others in a training set; never served.
    pub labels: Vec<LabelReading>,
}

impl Selection {
    /// The features of a reading that columns or steps take, by position, each once and in order.
    pub fn taken(&self, reading: usize) -> Vec<usize> {
        let columns = self.columns.iter().filter_map(OutputColumn::read);
        let inputs = self.steps.iter().flat_map(|step| &step.inputs).filter_map(|input| match input {
            StepInput::Feature { reading, feature } => Some((*reading, *feature)),
            _ => None,
        });
        let mut found: Vec<usize> =
            columns.chain(inputs).filter(|(of, _)| *of == reading).map(|(_, feature)| feature).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// A derived feature that a selection computes.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it belongs.
    pub derived: Arc<DerivedVersion>,
    /// The feature, by position.
    pub feature: usize,
    /// What each of the feature's inputs is, in their order.
    pub inputs: Vec<StepInput>,
}

impl Step {
    /// The feature; none of a step that names none.
    pub fn feature(&self) -> Option<&DerivedFeature> {
        self.derived.features.get(self.feature)
    }
}

/// What an input of a derived feature is in a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepInput {
    /// A feature that a reading answers for.
    Feature {
        /// The reading, by position.
        reading: usize,
        /// The feature of that reading's view, by position.
        feature: usize,
    },
    /// What an earlier step computed, by position.
    Step(usize),
    /// What the request brings, by position in [`Selection::request`].
    Request(usize),
    /// The time asked.
    RequestTime,
}

/// A label of a service: read at `t + after` with the question *event* (SEMANTICS section 3.4).
#[derive(Debug, Clone)]
pub struct LabelReading {
    /// Its name in the output.
    pub name: String,
    /// The view in its role.
    pub reading: Reading,
    /// The feature of that view, by position.
    pub feature: usize,
    /// How long after the time asked it is read.
    pub after: Length,
    /// Its type.
    pub data_type: DataType,
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
    /// Derived features by name.
    pub derived: BTreeMap<Name, Arc<DerivedVersion>>,
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
