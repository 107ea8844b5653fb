//! What definitions say of each other, as far as it needs no data and no other project.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::derived::{check_derived, derived_cycles};
use crate::expression::parse_query;
use crate::nearest::{did_you_mean, nearest};
use crate::select::{colliding_names, of_features};
use crate::{
    Definition, Diagnostic, Diagnostics, Entity, Features, Located, Name, Pick, Place, Project, Reference,
    Service, Source, ThingKind, View, bind_keys,
};

/// Checks a project's definitions against each other and sets aside those that are wrong. What is good of a
/// wrong view is still checked against data.
pub(crate) fn check(project: &mut Project, out: &mut Diagnostics) {
    twice(project, out);
    let mut wrong = Vec::new();
    for (at, definition) in project.definitions.iter().enumerate() {
        let before = out.iter().filter(|it| it.is_error()).count();
        match &definition.value {
            Definition::Entity(_) => {}
            Definition::Source(source) => check_source(project, definition, source, out),
            Definition::View(view) => check_view(project, definition, view, out),
            Definition::Derived(derived) => check_derived(project, definition, derived, out),
            Definition::Service(service) => check_service(project, definition, service, out),
        }
        if out.iter().filter(|it| it.is_error()).count() > before {
            wrong.push(at);
        }
    }
    for it in &project.half_read {
        match &it.value {
            Definition::Source(source) => check_source(project, it, source, out),
            Definition::View(view) => check_view(project, it, view, out),
            Definition::Entity(_) | Definition::Derived(_) | Definition::Service(_) => {}
        }
    }
    cycles(project, &mut wrong, out);
    derived_cycles(project, &mut wrong, out);
    wrong.sort_unstable();
    wrong.dedup();
    for at in wrong.into_iter().rev() {
        let removed = project.definitions.remove(at);
        project.broken.push((removed.value.kind(), removed.value.name().clone()));
        if matches!(removed.value, Definition::View(_)) {
            project.half_read.push(removed);
        }
    }
}

/// A kind and name may be defined once. Views and derived are asked for alike, so they are one kind here.
fn twice(project: &mut Project, out: &mut Diagnostics) {
    let mut seen: BTreeMap<(ThingKind, Name), crate::Span> = BTreeMap::new();
    let mut told = Vec::new();
    project.definitions.retain(|it| {
        let key = (asked_as(it.value.kind()), it.value.name().clone());
        match seen.get(&key) {
            None => {
                seen.insert(key, it.span());
                true
            }
            Some(first) => {
                told.push(defined_twice(it, first));
                false
            }
        }
    });
    for it in &project.half_read {
        match seen.entry((asked_as(it.value.kind()), it.value.name().clone())) {
            Entry::Vacant(new) => drop(new.insert(it.span())),
            Entry::Occupied(first) => told.push(defined_twice(it, first.get())),
        }
    }
    out.extend(told);
}

fn asked_as(kind: ThingKind) -> ThingKind {
    if kind == ThingKind::Derived { ThingKind::View } else { kind }
}

fn defined_twice(it: &Located<Definition>, first: &crate::Span) -> Diagnostic {
    let message = format!("{} `{}` is defined twice", it.value.kind(), it.value.name());
    Diagnostic::error("defined_twice", message)
        .at(it.span())
        .hint(format!("the other stands in {}, line {}", first.file, first.line))
}

impl Project {
    /// Whether a reference is to this project.
    pub(crate) fn own<'a>(&self, reference: &'a Reference) -> Option<&'a Name> {
        match &reference.project {
            Some(project) if *project != self.config.project => None,
            _ => Some(&reference.name),
        }
    }

    pub(crate) fn missing(&self, kind: ThingKind, name: &str) -> Diagnostic {
        let mut names = self.names(kind);
        if kind == ThingKind::View {
            // Both are asked for alike.
            names.extend(self.names(ThingKind::Derived));
        }
        let hint = match nearest(name, names.iter().copied()) {
            Some(found) => Some(format!("did you mean `{found}`?")),
            None => ThingKind::ALL
                .into_iter()
                .find(|other| *other != kind && self.names(*other).contains(&name))
                .map(|other| {
                    let article = if other == ThingKind::Entity { "an" } else { "a" };
                    format!("`{name}` is {article} {other}")
                })
                .or_else(|| match names.len() {
                    0 => {
                        Some(format!("the project defines no {kind}: begin a document with `{kind}: {name}`"))
                    }
                    _ => did_you_mean(name, names.iter().copied(), "there are"),
                }),
        };
        Diagnostic::error(&format!("{kind}_not_found"), format!("{kind} `{name}` not found")).maybe_hint(hint)
    }
}

fn check_source(project: &Project, at: &Located<Definition>, source: &Source, out: &mut Diagnostics) {
    let Place::Sql { text } = &source.place else { return };
    for (parts, offset, length) in parse_query(text).unwrap_or_default() {
        let place = at.inside(&["sql"], offset..offset + length);
        let own = match parts.as_slice() {
            [name] => name,
            [home, name] if *home == project.config.project.as_str() => name,
            [_, _] => continue,
            _ => {
                let message =
                    format!("`{}` in `sql` of source `{}` is not a source", parts.join("."), source.name);
                out.push(
                    Diagnostic::error("source_not_found", message)
                        .at(place)
                        .hint("write `source` or `project.source`"),
                );
                continue;
            }
        };
        let known = Name::new(own.as_str()).is_ok_and(|name| project.knows(ThingKind::Source, &name));
        if !known {
            out.push(project.missing(ThingKind::Source, own).at(place));
        }
    }
}

fn check_view(project: &Project, at: &Located<Definition>, view: &View, out: &mut Diagnostics) {
    for (kind, key, reference) in
        [(ThingKind::Entity, "entity", &view.entity), (ThingKind::Source, "source", &view.source)]
    {
        if let Some(name) = project.own(reference)
            && !project.knows(kind, name)
        {
            out.push(project.missing(kind, name.as_str()).at(at.at(&[key])));
        }
    }
    if let Some(name) = project.own(&view.entity)
        && let Some(Definition::Entity(entity)) =
            project.find(ThingKind::Entity, name.as_str()).map(|it| &it.value)
    {
        for key in view.keys.keys().filter(|key| !entity.keys.iter().any(|it| it.name == **key)) {
            let names: Vec<&str> = entity.keys.iter().map(|it| it.name.as_str()).collect();
            let message = format!("`keys` of view `{}`: entity `{name}` has no key `{key}`", view.name);
            out.push(
                Diagnostic::error("key_not_found", message)
                    .at(at.key(&["keys", key.as_str()]))
                    .maybe_hint(did_you_mean(key.as_str(), names.iter().copied(), "its keys are")),
            );
        }
    }
    if let Some(name) = project.own(&view.source)
        && let Some(source) = project.source(name)
    {
        over_source(view, source, at, out);
        if let Some(entity) = project.own(&view.entity)
            && let Some(Definition::Entity(entity)) =
                project.find(ThingKind::Entity, entity.as_str()).map(|it| &it.value)
        {
            id_of_keys(view, entity, source, at, out);
        }
    }
}

/// An id made of a view's keys alone names no event of a key but the key itself: of each only one row would ever
/// count.
pub(crate) fn id_of_keys(
    view: &View,
    entity: &Entity,
    source: &Source,
    at: &Located<Definition>,
    out: &mut Diagnostics,
) {
    let Some(id) = &source.id else { return };
    let (columns, keys) = (id.columns(), bind_keys(view, entity));
    if columns.iter().any(|column| !keys.iter().any(|key| key.column == *column)) {
        return;
    }
    let named: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
    let message = format!(
        "the `id` of source `{}` is made of {}, which view `{}` has as keys: of each key only one row would count",
        source.name,
        named.join(" and "),
        view.name
    );
    out.push(Diagnostic::error("id_of_keys", message).at(at.at(&["source"])).hint(
        "an `id` names one event among those of a key; where a row replaces the one before it, leave `id` out",
    ));
}

/// What a view asks of its source that needs no data.
pub(crate) fn over_source(view: &View, source: &Source, at: &Located<Definition>, out: &mut Diagnostics) {
    clockless(view, source, at, out);
    if view.is_window() && source.delete_when.is_some() && source.id.is_none() {
        let message = format!(
            "view `{}` has windows, and deletes of its source `{}` do not name the row they delete",
            view.name, source.name
        );
        out.push(
            Diagnostic::error("deletes_without_id", message)
                .at(windows_of(at))
                .hint("name the rows with an `id` in the source, or remove its `delete_when` and leave such rows out with `where` in the view"),
        );
    }
}

/// Where a view says that it has windows.
fn windows_of(at: &Located<Definition>) -> crate::Span {
    let span = at.key(&["windows"]);
    if span == at.span() { at.key(&["features"]) } else { span }
}

/// A source without a clock holds facts that are always true: nothing about them grows old.
fn clockless(view: &View, source: &Source, at: &Located<Definition>, out: &mut Diagnostics) {
    if source.event_time.is_some() {
        return;
    }
    if view.is_window() {
        let message = format!(
            "view `{}` has windows of time, and its source `{}` has no clock",
            view.name, source.name
        );
        out.push(
            Diagnostic::error("clockless", message)
                .at(windows_of(at))
                .hint("name the source's `event_time`, or write features without `agg`"),
        );
    }
    for (key, written) in [("ttl", view.ttl.is_some()), ("retention", view.retention.is_some())] {
        if written {
            let message =
                format!("view `{}` has a `{key}`, and its source `{}` has no clock", view.name, source.name);
            out.push(
                Diagnostic::error("clockless", message)
                    .at(at.key(&[key]))
                    .hint(format!("remove `{key}`, or name the source's `event_time`")),
            );
        }
    }
    let mentions = view.filter.iter().map(|it| (it, None)).chain(match &view.features {
        Features::Named(features) => features.iter().map(|it| (&it.expression, Some(&it.name))).collect(),
        Features::Star => Vec::new(),
    });
    for (expression, feature) in mentions {
        for (_, offset, length) in expression.column_places().into_iter().filter(|it| it.0 == "event_time") {
            let place = match feature {
                Some(name) => at.feature(name, Some(offset..offset + length)),
                None => at.inside(&["where"], offset..offset + length),
            };
            let message = format!(
                "view `{}` asks for `event_time`, and its source `{}` has no clock",
                view.name, source.name
            );
            out.push(
                Diagnostic::error("clockless", message).at(place).hint("name the source's `event_time`"),
            );
        }
    }
}

fn check_service(project: &Project, at: &Located<Definition>, service: &Service, out: &mut Diagnostics) {
    let named = |pick: &Pick| -> Option<Vec<Name>> {
        let all = project.find_features(project.own(&pick.view)?.as_str())?;
        match &pick.feature {
            Some(feature) => Some(vec![feature.clone()]),
            None => all,
        }
    };
    for (nth, pick) in service.features.iter().enumerate() {
        let nth = nth.to_string();
        let Some(name) = project.own(&pick.view) else { continue };
        let place = match at.at(&["features", &nth, "from"]) {
            span if span == at.at(&["features", &nth]) => span,
            span => span,
        };
        picked(project, (name, &pick.view, pick.feature.as_ref()), place, out);
        roles(project, at, name, &pick.keys, &["features", &nth, "keys"], out);
    }
    for (nth, label) in service.labels.iter().enumerate() {
        let nth = nth.to_string();
        let Some(name) = project.own(&label.view) else { continue };
        let place = at.at(&["labels", &nth, "from"]);
        if project.knows(ThingKind::Derived, name) {
            let message = format!(
                "label `{}.{}` of service `{}` is a derived feature",
                label.view, label.feature, service.name
            );
            let hint = "a label is read, after the time asked, from a view: name its feature";
            out.push(Diagnostic::error("derived_label", message).at(place).hint(hint));
            continue;
        }
        picked(project, (name, &label.view, Some(&label.feature)), place, out);
        roles(project, at, name, &label.keys, &["labels", &nth, "keys"], out);
    }
    for (nth, column, first, second) in colliding_names(service, named) {
        let hint = if first == second {
            "name it once, or give one of them another name with `as:`"
        } else {
            "give one of them another name with `as:`, or write `full_names: true` in the service"
        };
        out.push(
            Diagnostic::error(
                "column_collision",
                format!(
                    "`{first}` and `{second}` in service `{}` would both be output column `{column}`",
                    service.name
                ),
            )
            .at(match nth.checked_sub(service.features.len()) {
                Some(nth) => at.at(&["labels", &nth.to_string()]),
                None => at.at(&["features", &nth.to_string()]),
            })
            .hint(hint),
        );
    }
}

/// Whether what a service picks is there.
fn picked(
    project: &Project,
    (name, written, feature): (&Name, &Reference, Option<&Name>),
    place: crate::Span,
    out: &mut Diagnostics,
) {
    let Some(all) = project.find_features(name.as_str()) else {
        if !project.knows(ThingKind::View, name) && !project.knows(ThingKind::Derived, name) {
            out.push(project.missing(ThingKind::View, name.as_str()).at(place));
        }
        return;
    };
    if let (Some(feature), Some(all)) = (feature, all)
        && !all.contains(feature)
    {
        let names: Vec<&str> = all.iter().map(Name::as_str).collect();
        let kind = if project.find(ThingKind::View, name.as_str()).is_some() { "view" } else { "derived" };
        let message = format!("feature `{feature}` not found in {kind} `{name}`");
        let hint = of_features(written, feature, &names);
        out.push(Diagnostic::error("feature_not_found", message).at(place).maybe_hint(hint));
    }
}

/// Whether the keys that a role renames are those of the view.
fn roles(
    project: &Project,
    at: &Located<Definition>,
    name: &Name,
    keys: &BTreeMap<Name, Name>,
    path: &[&str],
    out: &mut Diagnostics,
) {
    if let Some(Definition::View(view)) = project.find(ThingKind::View, name.as_str()).map(|it| &it.value)
        && let Some(entity) = project.own(&view.entity)
        && let Some(Definition::Entity(entity)) =
            project.find(ThingKind::Entity, entity.as_str()).map(|it| &it.value)
    {
        for key in keys.keys().filter(|key| !entity.keys.iter().any(|it| it.name == **key)) {
            let names: Vec<&str> = entity.keys.iter().map(|it| it.name.as_str()).collect();
            let path: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
            out.push(
                Diagnostic::error("key_not_found", format!("view `{name}` has no key `{key}`"))
                    .at(at.key(&path))
                    .maybe_hint(did_you_mean(key.as_str(), names.iter().copied(), "its keys are")),
            );
        }
    }
}

/// Queries may read queries, but not in a circle.
fn cycles(project: &Project, wrong: &mut Vec<usize>, out: &mut Diagnostics) {
    let mut reads: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for it in &project.definitions {
        if let Definition::Source(Source { name, place: Place::Sql { text }, .. }) = &it.value {
            let tables = parse_query(text).unwrap_or_default();
            let names = tables.into_iter().filter_map(|(mut parts, ..)| match parts.len() {
                1 => parts.pop(),
                2 if parts[0] == project.config.project.as_str() => parts.pop(),
                _ => None,
            });
            reads.insert(name.to_string(), names.collect());
        }
    }
    for (at, it) in project.definitions.iter().enumerate() {
        let Definition::Source(source) = &it.value else { continue };
        if let Some(way) = ring(source.name.as_str(), &reads) {
            wrong.push(at);
            let message = format!("source `{}` reads itself: {}", source.name, named_ring(&way));
            out.push(
                Diagnostic::error("source_cycle", message)
                    .at(it.at(&["sql"]))
                    .hint("a query reads sources that stand before it"),
            );
        }
    }
}

/// The shortest way from a thing back to itself over what each reads, without its end.
pub(crate) fn ring(of: &str, reads: &BTreeMap<String, Vec<String>>) -> Option<Vec<String>> {
    let mut ways: VecDeque<Vec<String>> = VecDeque::from([vec![of.to_owned()]]);
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in way.last().and_then(|last| reads.get(last)).into_iter().flatten() {
            if next == of {
                return Some(way);
            }
            if seen.insert(next.as_str()) {
                ways.push_back(way.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}

/// ``  `a` reads `b` reads `a` ``
pub(crate) fn named_ring(way: &[String]) -> String {
    let names: Vec<String> = way.iter().chain(way.first()).map(|name| format!("`{name}`")).collect();
    names.join(" reads ")
}
