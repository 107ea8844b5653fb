//! What an apply would change.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use similar::{ChangeTag, TextDiff};

use crate::to_yaml::version_lines;
use crate::{Address, Name, ProjectState, ThingKind, Version};

/// What happens to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is new.
    Created,
    /// It gets a new version.
    Changed,
    /// Only what people say about it, or how often it is refreshed; the version stays.
    Described,
    /// It goes away.
    Removed,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 4] = [Action::Created, Action::Changed, Action::Described, Action::Removed];

    /// Its name, e.g. `created`.
    pub fn name(self) -> &'static str {
        match self {
            Action::Created => "created",
            Action::Changed => "changed",
            Action::Described => "described",
            Action::Removed => "removed",
        }
    }

    /// The action of this name.
    pub fn from_name(name: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The kind of thing.
    pub kind: ThingKind,
    /// Its name.
    pub name: Name,
    /// What happens.
    pub action: Action,
    /// The definition line by line, each beginning with `+`, `-` or a space; of a change three lines
    /// around what differs.
    pub lines: Vec<String>,
    /// What stops being of use: materialised rows, training sets, other things' versions.
    pub invalidates: Vec<String>,
}

/// Everything that differs between what stands and what would be, removed things last.
pub fn diff(current: &ProjectState, next: &[Version]) -> Vec<Change> {
    let mut changes = Vec::new();
    for version in next {
        let (kind, name) = (version.kind(), &version.address().name);
        let new = version_lines(version);
        match current.get(kind, name.as_str()) {
            None => changes.push(Change {
                kind,
                name: name.clone(),
                action: Action::Created,
                lines: new.lines().map(|line| format!("+{line}")).collect(),
                invalidates: Vec::new(),
            }),
            Some(old) if old == *version => {}
            Some(old) => {
                let action = if old.id() == version.id() { Action::Described } else { Action::Changed };
                let mut lines = unified(&version_lines(&old), &new);
                if lines.is_empty() && action == Action::Changed {
                    lines.extend(because(&old, version));
                }
                if lines.is_empty() && action == Action::Described {
                    // Spacing, quotes: nothing a person would call a change.
                    continue;
                }
                let invalidates =
                    if action == Action::Changed { invalidated(current, &old, false) } else { Vec::new() };
                changes.push(Change { kind, name: name.clone(), action, lines, invalidates });
            }
        }
    }
    let kept: BTreeSet<(ThingKind, &Name)> =
        next.iter().map(|version| (version.kind(), &version.address().name)).collect();
    for old in current.versions().filter(|old| !kept.contains(&(old.kind(), &old.address().name))) {
        changes.push(Change {
            kind: old.kind(),
            name: old.address().name.clone(),
            action: Action::Removed,
            lines: version_lines(&old).lines().map(|line| format!("-{line}")).collect(),
            invalidates: invalidated(current, &old, true),
        });
    }
    changes
}

/// The features that nobody owns: neither they nor their view say who.
pub fn without_owner(versions: &[Version]) -> Vec<String> {
    versions
        .iter()
        .filter_map(|version| match version {
            Version::View(view) if view.definition.about.owner.is_none() => Some(view),
            _ => None,
        })
        .flat_map(|view| {
            let lacking = view.features.iter().filter(|it| it.feature.about.owner.is_none());
            lacking.map(|it| format!("{}.{}", view.address.name, it.feature.name))
        })
        .collect()
}

/// A version can change with no line of it: what it stands on did.
fn because(old: &Version, new: &Version) -> Vec<String> {
    match (old, new) {
        (Version::View(old), Version::View(new)) if old.source_id != new.source_id => {
            vec![format!(" # source `{}` has a new version", new.source)]
        }
        (Version::View(_), Version::View(new)) => {
            vec![format!(" # entity `{}` has a new version", new.entity)]
        }
        (Version::Derived(old), Version::Derived(new)) => new
            .stands_on
            .iter()
            .filter(|it| !old.stands_on.contains(it))
            .map(|it| format!(" # `{}` has a new version", it.address))
            .collect(),
        (Version::Service(old), Version::Service(new)) => new
            .selection
            .readings
            .iter()
            .filter(|reading| !old.selection.readings.iter().any(|it| it.view_id == reading.view_id))
            .map(|reading| format!(" # view `{}` has a new version", reading.view))
            .chain(
                new.selection
                    .steps
                    .iter()
                    .filter(|step| !old.selection.steps.iter().any(|it| it.derived_id == step.derived_id))
                    .map(|step| format!(" # derived `{}` has a new version", step.derived)),
            )
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        _ => vec![" # what it stands on has a new version".to_owned()],
    }
}

fn invalidated(current: &ProjectState, old: &Version, removed: bool) -> Vec<String> {
    let mut found = Vec::new();
    match old {
        Version::Entity(it) => {
            for view in current.views.values().filter(|view| view.entity == it.address) {
                found.push(format!("view `{}`", view.address.name));
            }
        }
        Version::Source(it) => {
            for view in current.views.values().filter(|view| view.source == it.address) {
                found.push(format!("view `{}`", view.address.name));
            }
            for source in current.sources.values() {
                let reads = source.definition.reads();
                if reads.iter().any(|read| read.project.is_none() && read.name == it.address.name) {
                    found.push(format!("source `{}`", source.address.name));
                }
            }
            if removed && it.definition.is_stored() {
                let how = if it.definition.store { "loaded" } else { "pushed" };
                found.push(format!(
                    "its {how} rows, which stay on the disk below `offline/` of the data directory"
                ));
            }
        }
        Version::View(it) => {
            found.push(format!("materialised rows of version {}", it.id.short()));
            found.extend(computed_of(current, &it.address));
        }
        Version::Derived(it) => found.extend(computed_of(current, &it.address)),
        Version::Service(it) => {
            found.push(format!(
                "models trained on version {}: its training sets can still be rebuilt",
                it.id.short()
            ));
        }
    }
    found
}

/// The derived and services that stand on a view or derived.
fn computed_of(current: &ProjectState, address: &Address) -> Vec<String> {
    let on = |version: &Version| {
        let asked = [ThingKind::View, ThingKind::Derived];
        version.stands_on().iter().any(|(kind, on)| asked.contains(kind) && on == address)
    };
    let derived = current.derived.values().cloned().map(Version::Derived);
    let services = current.services.values().cloned().map(Version::Service);
    derived.chain(services).filter(on).map(|it| format!("{} `{}`", it.kind(), it.address().name)).collect()
}

fn unified(old: &str, new: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(old, new);
    let mut lines = Vec::new();
    for (nth, group) in diff.grouped_ops(3).iter().enumerate() {
        if nth > 0 {
            lines.push(" ...".to_owned());
        }
        for op in group {
            for change in diff.iter_changes(op) {
                let sign = match change.tag() {
                    ChangeTag::Equal => ' ',
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                };
                lines.push(format!("{sign}{}", change.value().trim_end_matches('\n')));
            }
        }
    }
    lines
}
