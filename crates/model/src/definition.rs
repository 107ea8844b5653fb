//! The definitions of a project, as they stand after parsing: plain data, names not yet resolved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::expression::parse_query;
use crate::{Call, Column, DataType, Expression, Length, Literal, Name, NamedWindow, Reference, Timestamp};

/// What people say about a thing; never part of a version's hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// A team or person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// A sentence or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Free words to search by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What rows are about: one or several keys, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Its name.
    pub name: Name,
    /// Key names and types, in the order written.
    pub keys: Vec<Key>,
    /// Owner, description, tags.
    #[serde(flatten)]
    pub about: About,
}

/// One key of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its name.
    pub name: Name,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
}

/// Where rows come from and how their times are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: Name,
    /// Where its rows are.
    pub place: Place,
    /// A batch source copied into its own Delta table by `asof load`, instead of read in place. What is pushed
    /// has a table too: [`Source::is_stored`].
    #[serde(default)]
    pub store: bool,
    /// When a row happened; none for facts without a clock.
    pub event_time: Option<TimeRule>,
    /// When a row may be used; none: at its event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_at: Option<TimeRule>,
    /// From when on a row no longer answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<TimeRule>,
    /// Names the event that a row is a version of, within the source; a row where it is null is an event of its
    /// own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Expression>,
    /// The tie-break among rows of one event time and one visible time, null first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_by: Option<Expression>,
    /// True for rows that are deletes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_when: Option<Expression>,
    /// What a null key does at intake.
    #[serde(default)]
    pub null_keys: NullKeys,
    /// Names and types as declared; empty: inferred at apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema: Vec<Column>,
    /// Owner, description, tags.
    #[serde(flatten)]
    pub about: About,
}

impl Source {
    /// Whether its rows stand in a Delta table of its own: pushed, or loaded.
    pub fn is_stored(&self) -> bool {
        self.store || matches!(self.place, Place::Push { .. })
    }

    /// Whether a view of latest values over it keeps all rows online that stand, and not the last of each key alone:
    /// any may answer once what is above it is withdrawn, or where rows are pushed, came late.
    pub fn keeps_every_row(&self) -> bool {
        self.id.is_some() || matches!(self.place, Place::Push { .. })
    }

    /// Whether every row is taken to be visible when it happened: no row has a `v` of its own.
    pub fn is_seen_at_once(&self) -> bool {
        self.available_at.is_none() && !matches!(self.place, Place::Push { .. })
    }

    /// The sources its query reads, each once, in the order of the text; none of a source of files.
    pub fn reads(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        for read in self.reads_as_written() {
            if !found.contains(&read) {
                found.push(read);
            }
        }
        found
    }

    /// The sources its query reads, each as often as the text names it: what its version is hashed over.
    pub(crate) fn reads_as_written(&self) -> Vec<Reference> {
        let Place::Sql { text } = &self.place else { return Vec::new() };
        let tables = parse_query(text).unwrap_or_default();
        tables.into_iter().filter_map(|(parts, ..)| reference_of(parts)).collect()
    }
}

/// The source that a query names, `source` or `project.source`; none where it is no such name.
pub(crate) fn reference_of(parts: Vec<String>) -> Option<Reference> {
    let names: Result<Vec<Name>, _> = parts.into_iter().map(Name::new).collect();
    match names.as_deref() {
        Ok([name]) => Some(Reference { project: None, name: name.clone() }),
        Ok([project, name]) => Some(Reference { project: Some(project.clone()), name: name.clone() }),
        _ => None,
    }
}

/// Where a source's rows are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Files: one path, a glob, a folder or a URL, relative to the project's folder.
    Files {
        /// The path as written.
        path: String,
        /// How the files are read.
        format: Format,
        /// Options of the format, e.g. `delimiter`, `header`, `null`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<String, String>,
    },
    /// A query over other sources of the project.
    Sql {
        /// The query as written.
        text: String,
    },
    /// Nowhere else: rows are pushed, and kept in a Delta table of the source.
    Push {
        /// A second place, where the rows from before it was pushed to stand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        past: Option<Past>,
    },
}

/// The past of a pushed source: files read in place beside its own table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The path as written, as of [`Place::Files`].
    pub path: String,
    /// How the files are read.
    pub format: Format,
    /// Options of the format.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Only rows with an event time before this are read; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// A Delta Lake table.
    Delta,
}

impl Format {
    /// Every format, in the order of the documentation.
    pub const ALL: [Format; 4] = [Format::Parquet, Format::Csv, Format::Ndjson, Format::Delta];

    /// Their names, in that order.
    pub const NAMES: [&str; Format::ALL.len()] = {
        let mut names = [""; Format::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = Format::ALL[at].name();
            at += 1;
        }
        names
    };

    /// As users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Delta => "delta",
        }
    }

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// How paths of this format end, dot included.
    pub const fn endings(self) -> &'static [&'static str] {
        match self {
            Format::Parquet => &[".parquet", ".pq", ".parq"],
            Format::Csv => &[".csv", ".tsv"],
            Format::Ndjson => &[".ndjson", ".jsonl", ".json"],
            Format::Delta => &[".delta"],
        }
    }

    /// The options a source of this format takes, by the names that users write.
    pub const fn options(self) -> &'static [&'static str] {
        match self {
            Format::Parquet | Format::Ndjson | Format::Delta => &["hive_partitioning", "union_by_name"],
            Format::Csv => &[
                "hive_partitioning",
                "union_by_name",
                "delimiter",
                "header",
                "quote",
                "escape",
                "comment",
                "null",
            ],
        }
    }
}

/// What a row with a null key does when it is taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullKeys {
    /// The row belongs to no entity; counted and shown.
    #[default]
    Keep,
    /// The row is refused.
    Refuse,
}

/// How an instant is read from a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeRule {
    /// A column of a time type, or an integer column with a unit.
    Column {
        /// The column.
        name: String,
        /// The unit of an integer column.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<TimeUnit>,
        /// The IANA zone in which naive times of the column were written; none: UTC.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
    },
    /// An expression over the row.
    Expression(Expression),
}

/// The unit of an integer that is a time since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds, floored.
    Ns,
}

/// A reading of a source for an entity: the latest row answers for all its features, or, where it has windows,
/// every feature is an aggregate over one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its name.
    pub name: Name,
    /// The entity its rows are about.
    pub entity: Reference,
    /// The source it reads.
    pub source: Reference,
    /// Entity key to source column, where the column is named unlike the key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<Name, String>,
    /// Rows that pass.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Expression>,
    /// The windows of its aggregates that have none of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<NamedWindow>,
    /// How long a row answers after its event time; none of a view with windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Length>,
    /// How far back `as_of` is answered online.
    #[serde(default)]
    pub history: History,
    /// How often it is materialised by a running node; none: only when asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Length>,
    /// Rows older than this are not kept online; none: as ttl or windows, and history need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Length>,
    /// The features.
    pub features: Features,
    /// Owner, description, tags.
    #[serde(flatten)]
    pub about: About,
}

/// How far back `as_of` is answered online.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// Only the present.
    #[default]
    None,
    /// So far back from the present.
    Length(Length),
    /// All of it.
    All,
}

/// The features of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Features {
    /// `"*"`: all columns that are not keys or times, expanded at apply.
    Star,
    /// Those named.
    Named(Vec<Feature>),
}

/// One feature of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Its name within the view.
    pub name: Name,
    /// Its value, over the columns of the row that answers. Of an aggregate the call as written, for who shows
    /// it or asks what columns it names; what is computed is [`Aggregate::call`].
    pub expression: Expression,
    /// What is computed, in a view with windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// Stands in for the null of `not_found`, of `expired` and of an empty window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Literal>,
    /// e.g. `pii`; carried into every list and record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<String>,
    /// Owner, description, tags.
    #[serde(flatten)]
    pub about: About,
}

/// What a feature over windows is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    /// The aggregate and what it is of.
    pub call: Call,
    /// The windows written for it, none where they are those of the view. In a view as agreed exactly one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<NamedWindow>,
}

/// What one model asks for, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// The features, in order.
    pub features: Vec<Pick>,
    /// What a model is to learn, read after the time asked; only in training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
    /// Output columns are `view__feature` instead of `feature`.
    #[serde(default)]
    pub full_names: bool,
    /// Owner, description, tags.
    #[serde(flatten)]
    pub about: About,
}

/// Features computed of other features of the same request, of what the request brings, and of its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {
    /// Its name; views and derived share one set of names.
    pub name: Name,
    /// What a request brings beside keys, in the order written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<RequestColumn>,
    /// The features; none of them is an aggregate or has a default.
    pub features: Vec<Feature>,
    /// Owner, description, tags.
    #[serde(flatten)]
    pub about: About,
}

/// A value that a request brings; in a training set a column of the spine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestColumn {
    /// Its name in requests and spines.
    pub name: Name,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
}

/// The name that stands for the time asked, in a derived feature; a timestamp.
pub const REQUEST_TIME: &str = "request_time";

/// One label of a service: a feature read some time after the time asked, late rows and all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The view.
    pub view: Reference,
    /// The feature.
    pub feature: Name,
    /// How long after the time asked it is read.
    pub after: Length,
    /// Entity key to the name it has in spines, for a view in another role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<Name, Name>,
    /// Its output name.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub alias: Option<Name>,
}

/// One line of a service: a feature, or all of a view, perhaps in another role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pick {
    /// The view, or the derived.
    pub view: Reference,
    /// The feature; none: all of them, in the view's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<Name>,
    /// Entity key to the name it has in requests and spines, for a view in another role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<Name, Name>,
    /// One feature: its output name. A whole view: the prefix `AS_` of its output names.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub alias: Option<Name>,
}

/// A definition of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Definition {
    /// An entity.
    Entity(Entity),
    /// A source.
    Source(Source),
    /// A view.
    View(View),
    /// Features computed of features.
    Derived(Derived),
    /// A service.
    Service(Service),
}

impl Definition {
    /// Its kind.
    pub fn kind(&self) -> ThingKind {
        match self {
            Definition::Entity(_) => ThingKind::Entity,
            Definition::Source(_) => ThingKind::Source,
            Definition::View(_) => ThingKind::View,
            Definition::Derived(_) => ThingKind::Derived,
            Definition::Service(_) => ThingKind::Service,
        }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        match self {
            Definition::Entity(it) => &it.name,
            Definition::Source(it) => &it.name,
            Definition::View(it) => &it.name,
            Definition::Derived(it) => &it.name,
            Definition::Service(it) => &it.name,
        }
    }

    /// Owner, description, tags.
    pub fn about(&self) -> &About {
        match self {
            Definition::Entity(it) => &it.about,
            Definition::Source(it) => &it.about,
            Definition::View(it) => &it.about,
            Definition::Derived(it) => &it.about,
            Definition::Service(it) => &it.about,
        }
    }
}

/// The kinds of things a project defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThingKind {
    /// An entity.
    Entity,
    /// A source.
    Source,
    /// A view.
    View,
    /// Features computed of features.
    Derived,
    /// A service.
    Service,
}

impl ThingKind {
    /// All of them, in the order in which they stand on each other.
    pub const ALL: [ThingKind; 5] =
        [ThingKind::Entity, ThingKind::Source, ThingKind::View, ThingKind::Derived, ThingKind::Service];

    /// Its name, e.g. `view`.
    pub fn name(self) -> &'static str {
        match self {
            ThingKind::Entity => "entity",
            ThingKind::Source => "source",
            ThingKind::View => "view",
            ThingKind::Derived => "derived",
            ThingKind::Service => "service",
        }
    }
}

impl std::fmt::Display for ThingKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
