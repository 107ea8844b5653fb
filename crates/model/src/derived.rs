//! Derived features: what the names in their expressions mean, and what they may not be.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::{named_ring, ring};
use crate::select::of_features;
use crate::{
    Address, Definition, Derived, Diagnostic, Diagnostics, Expression, Feature, Input, Located, Name,
    Project, REQUEST_TIME, Reference, ThingKind,
};

/// What a name in an expression of a derived feature means, as far as its form says.
pub(crate) enum Named {
    /// `request_time`
    RequestTime,
    /// A name without a point: what the request brings, or nothing.
    Bare(String),
    /// `of.feature`, `project.of.feature`.
    Feature(Reference, Name),
    /// None of these.
    Nothing,
}

impl Named {
    pub(crate) fn of(parts: &[String]) -> Named {
        let names: Option<Vec<Name>> = parts.iter().map(|part| Name::new(part.as_str()).ok()).collect();
        match (parts, names.as_deref()) {
            ([one], _) if one == REQUEST_TIME => Named::RequestTime,
            ([one], _) => Named::Bare(one.clone()),
            (_, Some([of, feature])) => {
                Named::Feature(Reference { project: None, name: of.clone() }, feature.clone())
            }
            (_, Some([project, of, feature])) => Named::Feature(
                Reference { project: Some(project.clone()), name: of.clone() },
                feature.clone(),
            ),
            _ => Named::Nothing,
        }
    }
}

impl Derived {
    /// What a feature of it reads, each once, in the order of its expression. `home`: the project it stands in;
    /// `is_derived`: whether derived features stand at an address, and not a view. Names that mean nothing are
    /// left out: reading the definition has refused them.
    pub fn inputs(
        &self,
        home: &Name,
        feature: &Feature,
        is_derived: impl Fn(&Address) -> bool,
    ) -> Vec<Input> {
        let mut found = Vec::new();
        for (parts, ..) in feature.expression.names() {
            let input = match Named::of(&parts) {
                Named::RequestTime => Input::RequestTime,
                Named::Bare(name) => match self.request.iter().find(|it| it.name.as_str() == name) {
                    Some(column) => Input::Request { column: column.name.clone() },
                    None => continue,
                },
                Named::Feature(of, feature) => {
                    let project = of.project.unwrap_or_else(|| home.clone());
                    let address = Address { project, name: of.name };
                    if is_derived(&address) {
                        Input::Derived { derived: address, feature }
                    } else {
                        Input::Feature { view: address, feature }
                    }
                }
                Named::Nothing => continue,
            };
            if !found.contains(&input) {
                found.push(input);
            }
        }
        found
    }
}

impl Expression {
    /// The names in the expression of a derived feature, each once as it is written between the points, with the
    /// position among `inputs` of what it means; none where one of them means no input. `home`: the project that the
    /// derived stands in.
    pub fn reads(&self, home: &Name, inputs: &[Input]) -> Option<Vec<(String, usize)>> {
        let mut found: Vec<(String, usize)> = Vec::new();
        for (parts, ..) in self.names() {
            let named = Named::of(&parts);
            let means = |input: &Input| match (input, &named) {
                (Input::RequestTime, Named::RequestTime) => true,
                (Input::Request { column }, Named::Bare(name)) => column.as_str() == name,
                (
                    Input::Feature { view: address, feature } | Input::Derived { derived: address, feature },
                    Named::Feature(of, named),
                ) => {
                    let project = of.project.as_ref().unwrap_or(home);
                    *feature == *named && address.project == *project && address.name == of.name
                }
                _ => false,
            };
            let position = inputs.iter().position(means)?;
            let written = parts.join(".");
            if !found.iter().any(|(other, _)| *other == written) {
                found.push((written, position));
            }
        }
        Some(found)
    }
}

/// Checks what derived features name, as far as it needs no data and no other project.
pub(crate) fn check_derived(
    project: &Project,
    at: &Located<Definition>,
    derived: &Derived,
    out: &mut Diagnostics,
) {
    let mut used: BTreeSet<String> = BTreeSet::new();
    for feature in &derived.features {
        for (parts, offset, length) in feature.expression.names() {
            let place = at.feature(&feature.name, Some(offset..offset + length));
            let what = format!("feature `{}` of derived `{}`", feature.name, derived.name);
            let wrong = match Named::of(&parts) {
                Named::RequestTime => None,
                Named::Bare(name) => {
                    used.insert(name.clone());
                    bare(derived, &what, &name)
                }
                Named::Feature(of, feature) => feature_of(project, derived, &of, &feature),
                Named::Nothing => {
                    let message = format!("{what}: `{}` is not a feature", parts.join("."));
                    let hint = "write `view.feature` or `project.view.feature`; names are lower-case";
                    Some(Diagnostic::error("bad_feature", message).hint(hint))
                }
            };
            out.extend(wrong.map(|it| it.at(place)));
        }
    }
    for column in derived.request.iter().filter(|it| !used.contains(it.name.as_str())) {
        let message =
            format!("no feature of derived `{}` reads `{}` of `request`", derived.name, column.name);
        let at = at.key(&["request", column.name.as_str()]);
        out.push(Diagnostic::warning("unused_key", message).at(at).hint("remove it"));
    }
}

fn bare(derived: &Derived, what: &str, name: &str) -> Option<Diagnostic> {
    if derived.request.iter().any(|it| it.name.as_str() == name) {
        return None;
    }
    let hint = if derived.features.iter().any(|it| it.name.as_str() == name) {
        format!("a derived feature is named with its derived: `{}.{name}`", derived.name)
    } else {
        let known = derived.request.iter().map(|it| it.name.as_str()).chain([REQUEST_TIME]);
        match crate::nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "a feature is named as `view.feature`; what the request brings is declared, e.g. `request: {{{name}: float64}}`"
            ),
        }
    };
    let message = format!("{what}: the request brings no `{name}`");
    Some(Diagnostic::error("request_column_not_found", message).hint(hint))
}

/// What is wrong with a feature that a derived reads.
fn feature_of(project: &Project, derived: &Derived, of: &Reference, feature: &Name) -> Option<Diagnostic> {
    let own = project.own(of)?;
    let names: Vec<Name> = if *own == derived.name {
        derived.features.iter().map(|it| it.name.clone()).collect()
    } else {
        match project.find_features(own.as_str()) {
            Some(found) => found?,
            None if project.knows(ThingKind::View, own) || project.knows(ThingKind::Derived, own) => {
                return None;
            }
            None => return Some(project.missing(ThingKind::View, own.as_str())),
        }
    };
    if names.contains(feature) {
        return None;
    }
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    let message = format!("feature `{feature}` not found in `{own}`");
    Some(Diagnostic::error("feature_not_found", message).maybe_hint(of_features(of, feature, &names)))
}

impl Project {
    /// The features of a view or derived: none where there is no such thing, none within where a view takes all
    /// columns and they are not known yet.
    pub(crate) fn find_features(&self, name: &str) -> Option<Option<Vec<Name>>> {
        let view = self.find(ThingKind::View, name).map(|it| &it.value);
        match view.or_else(|| self.find(ThingKind::Derived, name).map(|it| &it.value)) {
            Some(Definition::View(view)) => {
                Some(view.expanded().map(|all| all.into_iter().map(|it| it.name).collect()))
            }
            Some(Definition::Derived(derived)) => {
                Some(Some(derived.features.iter().map(|it| it.name.clone()).collect()))
            }
            _ => None,
        }
    }

    /// What a derived reads of its own project, with the feature.
    fn own_reads<'a>(&'a self, feature: &'a Feature) -> impl Iterator<Item = (Name, Name)> + 'a {
        feature.expression.names().into_iter().filter_map(|(parts, ..)| match Named::of(&parts) {
            Named::Feature(of, feature) => Some((self.own(&of)?.clone(), feature)),
            _ => None,
        })
    }
}

/// Derived features may read derived features, but not in a circle: neither the features of one derived, nor
/// several derived each other, whose versions would have no first.
pub(crate) fn derived_cycles(project: &Project, wrong: &mut Vec<usize>, out: &mut Diagnostics) {
    let all = || {
        project.definitions.iter().enumerate().filter_map(|(nth, it)| match &it.value {
            Definition::Derived(derived) => Some((nth, it, derived)),
            _ => None,
        })
    };
    let mut documents: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut features: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, _, derived) in all() {
        for feature in &derived.features {
            let reads: Vec<(Name, Name)> = project.own_reads(feature).collect();
            let others = reads.iter().filter(|(of, _)| *of != derived.name).map(|(of, _)| of.to_string());
            documents.entry(derived.name.to_string()).or_default().extend(others);
            let own =
                reads.iter().filter(|(of, _)| *of == derived.name).map(|(of, name)| format!("{of}.{name}"));
            features.entry(format!("{}.{}", derived.name, feature.name)).or_default().extend(own);
        }
    }
    for (nth, at, derived) in all() {
        let mut found = |way: Vec<String>, place: crate::Span| {
            wrong.push(nth);
            let message = format!("derived `{}` reads itself: {}", derived.name, named_ring(&way));
            out.push(
                Diagnostic::error("derived_cycle", message)
                    .at(place)
                    .hint("a derived feature reads features that can be computed before it"),
            );
        };
        for feature in &derived.features {
            if let Some(way) = ring(&format!("{}.{}", derived.name, feature.name), &features) {
                found(way, at.feature(&feature.name, None));
            }
        }
        if let Some(way) = ring(derived.name.as_str(), &documents) {
            found(way, at.at(&["features"]));
        }
    }
}
