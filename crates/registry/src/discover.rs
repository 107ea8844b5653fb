//! Finding things: list, show, search. Pure functions over a catalog, and [`Registry::show`] which
//! adds the history.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use asof_model::{
    Address, Catalog, Column, Definition, Input, Name, OutputColumn, StepInput, ThingKind, Timestamp,
    Version, VersionId, ViewVersion,
};
use serde::{Deserialize, Serialize};

use crate::{Registry, RegistryError, Result};
use asof_model::Action;

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The project.
    pub project: Name,
    /// The kind.
    pub kind: ThingKind,
    /// The name.
    pub name: Name,
    /// The version that stands.
    pub version: VersionId,
    /// A team or person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The first line of the description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Free words.
    pub tags: Vec<String>,
    /// How many keys, columns or features it has.
    pub columns: usize,
}

/// Everything about a thing that the registry knows. The sample is for others to add: [`masked`] says
/// of which columns it may not show the values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The project.
    pub project: Name,
    /// The kind.
    pub kind: ThingKind,
    /// The name.
    pub name: Name,
    /// The feature asked for, where one of a view was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<Name>,
    /// The version that stands.
    pub version: VersionId,
    /// A team or person; of a feature without one, its view's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What people say about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Free words.
    pub tags: Vec<String>,
    /// The definition.
    pub definition: Definition,
    /// The definition as YAML.
    pub yaml: String,
    /// Keys, columns or features with their types; of a feature, itself.
    pub columns: Vec<ShownColumn>,
    /// What it stands on.
    pub stands_on: Vec<User>,
    /// Who uses it, directly and through others, nearest first.
    pub used_by: Vec<User>,
    /// Other things of this name.
    pub also: Vec<User>,
    /// Its versions, newest first; filled by [`Registry::show`].
    pub versions: Vec<ShownVersion>,
    /// Some of its rows, where it is a view or a source and they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<ShownSample>,
}

/// Some rows of a view or a source, column by column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShownSample {
    /// How many rows.
    pub rows: usize,
    /// Of a view its keys, `event_time` and features, of a source its columns.
    pub columns: Vec<SampleColumn>,
    /// The time was up before as many rows were found as were asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_short: bool,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The way out of the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// One column of a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleColumn {
    /// Its name.
    pub name: String,
    /// Its type, as users write it.
    #[serde(rename = "type")]
    pub data_type: asof_model::DataType,
    /// Its sensitivity, where it has one: every value that is there is then shown as [`MASK`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<String>,
    /// The values of its rows, as answers of features write them.
    pub values: Vec<serde_json::Value>,
}

/// What stands for a value that is not shown.
pub const MASK: &str = "***";

/// The columns of a thing whose values a sample does not show, each with its sensitivity: all that have
/// one but `public` and `none`.
pub fn masked(catalog: &Catalog, version: &Version) -> BTreeMap<String, String> {
    let mut all = columns(version);
    mark(catalog, version, &mut all);
    all.into_iter().filter_map(|it| Some((it.name, it.sensitivity.filter(|word| !open(word))?))).collect()
}

fn open(sensitivity: &str) -> bool {
    ["public", "none"].iter().any(|word| sensitivity.eq_ignore_ascii_case(word))
}

/// A column of a thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownColumn {
    /// Its name.
    pub name: String,
    /// What it is: `key`, `column`, `feature` or `output`.
    pub role: String,
    /// Its type, as users write it.
    #[serde(rename = "type")]
    pub data_type: asof_model::DataType,
    /// The expression it is, where that is not its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// e.g. `pii`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<String>,
    /// What people say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A thing that uses another, or is used by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The kind.
    pub kind: ThingKind,
    /// The thing, `project.name`.
    pub name: String,
}

/// One version of a thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownVersion {
    /// The version.
    pub version: VersionId,
    /// The revision it was applied at.
    pub revision: u64,
    /// What happened.
    pub action: Action,
    /// Who applied it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Whether it stands.
    pub standing: bool,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Hits, best first.
    pub hits: Vec<Hit>,
    /// Where there are none: names near the words asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<String>,
}

/// One thing that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The kind: `entity`, `source`, `view`, `service`, or `feature`.
    pub kind: String,
    /// The thing as one writes it, `project.name` or `project.view.feature`.
    pub name: String,
    /// Where the words were found, e.g. `name`, `description`, `column`.
    pub matched: Vec<String>,
    /// How well; only the order means something.
    pub score: u32,
    /// A team or person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The first line of the description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

/// The things of a project, or of all, by project, kind and name.
pub fn list(catalog: &Catalog, project: Option<&Name>, kind: Option<ThingKind>) -> Vec<Listed> {
    let mut listed = Vec::new();
    for (name, state) in &catalog.projects {
        if project.is_some_and(|wanted| wanted != name) {
            continue;
        }
        for version in state.versions().filter(|it| kind.is_none_or(|wanted| wanted == it.kind())) {
            let about = version.about();
            listed.push(Listed {
                project: name.clone(),
                kind: version.kind(),
                name: version.address().name.clone(),
                version: version.id().clone(),
                owner: about.owner.clone(),
                summary: summary(about.description.as_deref()),
                tags: about.tags.clone(),
                columns: columns(&version).len(),
            });
        }
    }
    listed
}

/// A thing by the name a user writes: `thing`, `view.feature`, `project.thing` or
/// `project.view.feature`, with `kind/` before it where things of several kinds share the name.
/// Without a kind a view is preferred, then a service, a source, an entity.
///
/// # Errors
/// [`RegistryError::NotFound`] with the nearest names.
pub fn show(catalog: &Catalog, project: &Name, thing: &str) -> Result<Shown> {
    let not_found = || RegistryError::NotFound {
        what: "thing",
        name: thing.to_owned(),
        nearest: nearest_things(catalog, project, thing),
    };
    let (kind, path) = match thing.split_once('/') {
        Some((kind, path)) => (Some(crate::record::kind_from(kind).ok_or_else(not_found)?), path),
        None => (None, thing),
    };
    let parts: Vec<&str> = path.split('.').collect();
    let readings: Vec<(&str, &str, Option<&str>)> = match parts.as_slice() {
        [name] => vec![(project.as_str(), *name, None)],
        [first, second] => {
            vec![(project.as_str(), *first, Some(*second)), (*first, *second, None)]
        }
        [first, second, third] => vec![(*first, *second, Some(*third))],
        _ => Vec::new(),
    };
    let order =
        [ThingKind::View, ThingKind::Derived, ThingKind::Service, ThingKind::Source, ThingKind::Entity];
    let mut found: Vec<(Version, Option<Name>)> = Vec::new();
    for (project, name, feature) in readings {
        let Some(state) = catalog.projects.get(project) else { continue };
        for version in order
            .into_iter()
            .filter(|it| kind.is_none_or(|wanted| wanted == *it))
            .filter_map(|kind| state.get(kind, name))
        {
            let feature = match (feature, &version) {
                (None, _) => None,
                (Some(feature), Version::View(view)) => {
                    match view.features.iter().find(|it| it.feature.name.as_str() == feature) {
                        Some(it) => Some(it.feature.name.clone()),
                        None => continue,
                    }
                }
                (Some(_), _) => continue,
            };
            found.push((version, feature));
        }
    }
    let mut found = found.into_iter();
    let (version, feature) = found.next().ok_or_else(not_found)?;
    let also = found.map(|(version, _)| user(&version)).collect();
    Ok(shown(catalog, &version, feature, also))
}

fn shown(catalog: &Catalog, version: &Version, feature: Option<Name>, also: Vec<User>) -> Shown {
    let mut about = version.about().clone();
    let mut columns = columns(version);
    mark(catalog, version, &mut columns);
    if let (Some(feature), Version::View(view)) = (&feature, version) {
        columns.retain(|column| column.role == "feature" && column.name == feature.as_str());
        if let Some(it) = view.features.iter().find(|it| it.feature.name == *feature) {
            about.owner = it.feature.about.owner.clone().or(about.owner);
            about.description = it.feature.about.description.clone();
            about.tags = it.feature.about.tags.clone();
        }
    }
    let definition = version.definition();
    let mut seen = BTreeSet::new();
    Shown {
        project: version.address().project.clone(),
        kind: version.kind(),
        name: version.address().name.clone(),
        version: version.id().clone(),
        owner: about.owner,
        description: about.description,
        tags: about.tags,
        yaml: asof_model::to_yaml(&definition),
        definition,
        columns,
        stands_on: version
            .stands_on()
            .into_iter()
            .map(|(kind, address)| User { kind, name: address.to_string() })
            .filter(|on| seen.insert((on.kind, on.name.clone())))
            .collect(),
        used_by: users(catalog, version, feature.as_ref()),
        also,
        feature,
        versions: Vec::new(),
        sample: None,
    }
}

/// Gives columns the sensitivity that features over the same source say they have: a column of a source
/// that a sensitive feature reads, and the keys and features that are such a column. A feature computed
/// from one is as sensitive as its own view says.
fn mark(catalog: &Catalog, version: &Version, columns: &mut [ShownColumn]) {
    match version {
        Version::Source(source) => {
            let marks = sensitive(catalog, &source.address, 0);
            for column in columns {
                column.sensitivity = marks.of(&column.name);
            }
        }
        Version::View(view) => {
            let marks = sensitive(catalog, &view.source, 0);
            for column in columns.iter_mut().filter(|column| column.sensitivity.is_none()) {
                let name = match &column.expression {
                    None => Some(column.name.clone()),
                    Some(text) if column.role == "key" => Some(text.clone()),
                    Some(text) => asof_model::Expression { text: text.clone() }.as_column(),
                };
                column.sensitivity = name.and_then(|name| marks.of(&name));
            }
        }
        Version::Entity(_) | Version::Derived(_) | Version::Service(_) => {}
    }
}

/// Which columns of a source hold what is sensitive.
#[derive(Debug, Default)]
struct Marks {
    /// By column, names in lower case: an expression names a column in any case.
    columns: BTreeMap<String, String>,
    /// Of a query whose input has such columns: any of its columns may come from them.
    all: Option<String>,
}

impl Marks {
    fn of(&self, column: &str) -> Option<String> {
        self.columns.get(&column.to_lowercase()).or(self.all.as_ref()).cloned()
    }
}

/// Queries read queries no deeper than this; a ring of them ends here.
const DEEPEST: usize = 16;

fn sensitive(catalog: &Catalog, source: &Address, depth: usize) -> Marks {
    let mut marks = Marks::default();
    for view in catalog.views().filter(|view| view.source == *source) {
        for it in &view.features {
            let Some(sensitivity) = it.feature.sensitivity.as_ref().filter(|word| !open(word)) else {
                continue;
            };
            for column in it.feature.expression.columns() {
                marks.columns.entry(column.to_lowercase()).or_insert_with(|| sensitivity.clone());
            }
        }
    }
    let Some(version) = catalog.source(source).filter(|_| depth < DEEPEST) else { return marks };
    for read in version.definition.reads() {
        let project = read.project.unwrap_or_else(|| source.project.clone());
        let below = sensitive(catalog, &Address { project, name: read.name }, depth + 1);
        marks.all = marks.all.or(below.all).or_else(|| below.columns.into_values().next());
    }
    marks
}

fn user(version: &Version) -> User {
    User { kind: version.kind(), name: version.address().to_string() }
}

/// Who uses it, in waves: those that stand on it, then those that stand on them.
fn users(catalog: &Catalog, version: &Version, feature: Option<&Name>) -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    let mut wave: Vec<(ThingKind, Address)> = vec![(version.kind(), version.address().clone())];
    while !wave.is_empty() {
        let mut next = Vec::new();
        for candidate in catalog.projects.values().flat_map(|state| state.versions()) {
            if !candidate.stands_on().iter().any(|it| wave.contains(it)) {
                continue;
            }
            if let (Some(feature), Version::View(view)) = (feature, version)
                && wave.contains(&(version.kind(), view.address.clone()))
                && !uses(&candidate, view, feature)
            {
                continue;
            }
            let found = user(&candidate);
            if !users.contains(&found) {
                users.push(found);
                next.push((candidate.kind(), candidate.address().clone()));
            }
        }
        wave = next;
    }
    users
}

/// Whether what stands on a view takes this feature of it.
fn uses(candidate: &Version, view: &ViewVersion, feature: &Name) -> bool {
    let is = |of: &Address, position: usize| {
        *of == view.address && view.features.get(position).is_some_and(|it| it.feature.name == *feature)
    };
    match candidate {
        Version::Derived(derived) => derived.features.iter().flat_map(|it| &it.inputs).any(
            |input| matches!(input, Input::Feature { view: of, feature: name } if *of == view.address && name == feature),
        ),
        Version::Service(service) => {
            let selection = &service.selection;
            let inputs = selection.steps.iter().flat_map(|step| &step.inputs).filter_map(|input| match input {
                StepInput::Feature { reading, feature } => Some((*reading, *feature)),
                _ => None,
            });
            let columns = selection.columns.iter().filter_map(OutputColumn::read);
            let read = |(reading, at): (usize, usize)| {
                selection.readings.get(reading).is_some_and(|it| is(&it.view, at))
            };
            columns.chain(inputs).any(read)
                || selection.labels.iter().any(|label| is(&label.reading.view, label.feature))
        }
        _ => true,
    }
}

fn columns(version: &Version) -> Vec<ShownColumn> {
    let plain = |name: &str, role: &str, data_type: &asof_model::DataType| ShownColumn {
        name: name.to_owned(),
        role: role.to_owned(),
        data_type: data_type.clone(),
        expression: None,
        sensitivity: None,
        description: None,
    };
    match version {
        Version::Entity(it) => {
            it.definition.keys.iter().map(|key| plain(key.name.as_str(), "key", &key.data_type)).collect()
        }
        Version::Source(it) => {
            it.columns.iter().map(|Column { name, data_type }| plain(name, "column", data_type)).collect()
        }
        Version::View(it) => {
            let keys = it.keys.iter().map(|key| ShownColumn {
                expression: (key.column != key.key.name.as_str()).then(|| key.column.clone()),
                ..plain(key.key.name.as_str(), "key", &key.key.data_type)
            });
            let features = it.features.iter().map(|it| ShownColumn {
                expression: (it.feature.expression.text != it.feature.name.as_str())
                    .then(|| it.feature.expression.text.clone()),
                sensitivity: it.feature.sensitivity.clone(),
                description: it.feature.about.description.clone(),
                ..plain(it.feature.name.as_str(), "feature", &it.data_type)
            });
            keys.chain(features).collect()
        }
        Version::Derived(it) => {
            let request = it.definition.request.iter();
            let request = request.map(|it| plain(it.name.as_str(), "request", &it.data_type));
            let features = it.features.iter().map(|it| ShownColumn {
                expression: Some(it.feature.expression.text.clone()),
                sensitivity: it.feature.sensitivity.clone(),
                description: it.feature.about.description.clone(),
                ..plain(it.feature.name.as_str(), "feature", &it.data_type)
            });
            request.chain(features).collect()
        }
        Version::Service(it) => {
            let labels = it.selection.labels.iter().map(|it| plain(&it.name, "label", &it.data_type));
            let outputs = it.selection.columns.iter().map(|it| plain(&it.name, "output", &it.data_type));
            outputs.chain(labels).collect()
        }
    }
}

fn summary(description: Option<&str>) -> Option<String> {
    description.and_then(|text| text.lines().next()).map(str::to_owned)
}

/// What can be searched of one thing: where a word may stand, what the place is worth, and the text.
struct Searchable {
    kind: &'static str,
    name: String,
    owner: Option<String>,
    summary: Option<String>,
    fields: Vec<(&'static str, u32, String)>,
}

/// Things whose names, descriptions, tags, owners or columns hold every word of the text, best first.
/// A word is found at the beginning of a word better than within one; a whole name is best.
pub fn search(catalog: &Catalog, project: Option<&Name>, text: &str) -> Found {
    let words: Vec<String> = words(text).map(str::to_lowercase).collect();
    let things = searchables(catalog, project);
    let mut hits: Vec<Hit> = things.iter().filter_map(|thing| hit(thing, &words)).collect();
    hits.sort_by(|a, b| {
        b.score.cmp(&a.score).then_with(|| a.name.cmp(&b.name)).then_with(|| a.kind.cmp(&b.kind))
    });
    let nearest = if hits.is_empty() {
        near(&words.join("_"), things.iter().map(|thing| thing.name.as_str()))
    } else {
        Vec::new()
    };
    Found { hits, nearest }
}

/// Words of a query or a text: runs of letters and digits.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn hit(thing: &Searchable, wanted: &[String]) -> Option<Hit> {
    if wanted.is_empty() {
        return None;
    }
    let mut score = 0;
    let mut matched: Vec<&'static str> = Vec::new();
    for word in wanted {
        let best = thing
            .fields
            .iter()
            .filter_map(|(place, worth, text)| Some((worth * fit(text, word)?, *place)))
            .max_by_key(|(score, _)| *score)?;
        score += best.0;
        if !matched.contains(&best.1) {
            matched.push(best.1);
        }
    }
    // Where the words together are the name, nothing is a better answer.
    if thing.name.rsplit('.').next().is_some_and(|own| own.split('_').eq(wanted.iter().map(String::as_str))) {
        score += 1_000;
    }
    Some(Hit {
        kind: thing.kind.to_owned(),
        name: thing.name.clone(),
        matched: matched.into_iter().map(str::to_owned).collect(),
        score,
        owner: thing.owner.clone(),
        summary: thing.summary.clone(),
    })
}

/// How well a text (in lower case) holds a word: 4 a whole word of it, 3 the beginning of one, 1 within.
fn fit(text: &str, word: &str) -> Option<u32> {
    let mut best = text.contains(word).then_some(1);
    for other in words(text) {
        if other == word {
            return Some(4);
        }
        if other.starts_with(word) {
            best = Some(3);
        }
    }
    best
}

fn searchables(catalog: &Catalog, project: Option<&Name>) -> Vec<Searchable> {
    const NAME: u32 = 20;
    const TAG: u32 = 12;
    const OWNER: u32 = 10;
    const COLUMN: u32 = 8;
    const EXPRESSION: u32 = 6;
    const DESCRIPTION: u32 = 5;
    let mut things = Vec::new();
    let about_fields = |about: &asof_model::About| {
        let mut fields = Vec::new();
        fields.extend(about.tags.iter().map(|tag| ("tag", TAG, tag.to_lowercase())));
        fields.extend(about.owner.iter().map(|owner| ("owner", OWNER, owner.to_lowercase())));
        fields.extend(about.description.iter().map(|it| ("description", DESCRIPTION, it.to_lowercase())));
        fields
    };
    for (name, state) in &catalog.projects {
        if project.is_some_and(|wanted| wanted != name) {
            continue;
        }
        for version in state.versions() {
            let about = version.about();
            let mut fields = vec![("name", NAME, version.address().name.to_string())];
            fields.extend(about_fields(about));
            for column in columns(&version) {
                fields.push(("column", COLUMN, column.name.to_lowercase()));
            }
            things.push(Searchable {
                kind: version.kind().name(),
                name: version.address().to_string(),
                owner: about.owner.clone(),
                summary: summary(about.description.as_deref()),
                fields,
            });
            let Version::View(view) = &version else { continue };
            for it in &view.features {
                let own = &it.feature;
                let mut fields = vec![("name", NAME, own.name.to_string())];
                fields.extend(about_fields(&own.about));
                fields.push(("expression", EXPRESSION, own.expression.text.to_lowercase()));
                things.push(Searchable {
                    kind: "feature",
                    name: format!("{}.{}", view.address, own.name),
                    owner: own.about.owner.clone().or_else(|| about.owner.clone()),
                    summary: summary(own.about.description.as_deref()),
                    fields,
                });
            }
        }
    }
    things
}

fn nearest_things(catalog: &Catalog, project: &Name, thing: &str) -> Vec<String> {
    let things = searchables(catalog, None);
    let wanted = thing.rsplit('/').next().unwrap_or(thing);
    let own = format!("{project}.");
    near(wanted, things.iter().map(|it| it.name.as_str()))
        .into_iter()
        .map(|name| name.strip_prefix(&own).map_or(name.clone(), str::to_owned))
        .collect()
}

/// Up to three names that a typing mistake would make of the wanted one, nearest first. Names are
/// compared by as many of their last parts as the wanted one has.
fn near<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let parts = wanted.split('.').count();
    let mut ranked: Vec<(usize, String)> = Vec::new();
    for name in names {
        let skip = name.split('.').count().saturating_sub(parts);
        let tail: Vec<&str> = name.split('.').skip(skip).collect();
        let distance = strsim::damerau_levenshtein(wanted, &tail.join("."));
        if distance <= (wanted.chars().count() / 3).clamp(1, 4) && !ranked.iter().any(|(_, it)| it == name) {
            ranked.push((distance, name.to_owned()));
        }
    }
    ranked.sort();
    let best = ranked.first().map_or(0, |(distance, _)| *distance);
    ranked.retain(|(distance, _)| *distance <= best + 1);
    ranked.into_iter().take(3).map(|(_, name)| name).collect()
}

impl Registry {
    /// [`show`] with the thing's versions.
    ///
    /// # Errors
    /// As [`show`], and where the file cannot be read.
    pub async fn show(&self, project: &Name, thing: &str) -> Result<Shown> {
        let mut shown = show(&self.catalog(), project, thing)?;
        let history = self.history(&shown.project, shown.kind, &shown.name).await?;
        shown.versions = history
            .into_iter()
            .map(|it| ShownVersion {
                version: it.version.id().clone(),
                revision: it.revision.0,
                action: it.action,
                by: it.by,
                at: it.at,
                standing: it.standing,
            })
            .collect();
        Ok(shown)
    }
}
