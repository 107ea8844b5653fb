//! Derived features: their types, each behind what it reads.

use asof_model::{Address, DataType, Definition, Derived, Feature, Input, Located, Name, ThingKind};

use super::Check;
use crate::expression::compile_derived;

/// A feature whose type is not known yet.
type Waiting<'a> = (&'a Located<Definition>, &'a Derived, &'a Feature);

impl Check<'_> {
    /// Types derived features. One that reads what is wrong, missing or itself is passed over: that is told
    /// elsewhere.
    pub(super) fn derived(&mut self) {
        let project = self.project;
        let all = project.definitions.iter().chain(&project.half_read);
        let mut waiting: Vec<Waiting<'_>> = all
            .filter_map(|it| match &it.value {
                Definition::Derived(derived) => Some((it, derived)),
                _ => None,
            })
            .flat_map(|(it, derived)| derived.features.iter().map(move |feature| (it, derived, feature)))
            .collect();
        loop {
            let before = waiting.len();
            waiting.retain(|it| !self.derived_feature(*it));
            if waiting.is_empty() || waiting.len() == before {
                return;
            }
        }
    }

    /// Whether it is done with.
    fn derived_feature(&mut self, (at, derived, feature): Waiting<'_>) -> bool {
        let home = &self.project.config.project;
        let inputs = derived.inputs(home, feature, |address| self.is_derived(address));
        let types = inputs.iter().map(|input| self.type_of(derived, input)).collect::<Option<Vec<_>>>();
        let Some(types) = types else { return false };
        let Some(names) = feature.expression.reads(home, &inputs) else { return true };
        match compile_derived(self.engine, &feature.expression.text, &names, &types) {
            Ok(compiled) => {
                let key = (derived.name.clone(), feature.name.clone());
                self.types.derived_types.insert(key, compiled.data_type().clone());
            }
            Err(problem) => {
                let bytes = problem.start..problem.start + problem.length;
                let span = at.feature(&feature.name, Some(bytes));
                self.problem(
                    problem,
                    &format!("feature `{}` of derived `{}`", feature.name, derived.name),
                    span,
                );
            }
        }
        true
    }

    fn is_own(&self, address: &Address) -> bool {
        address.project == self.project.config.project
    }

    fn is_derived(&self, address: &Address) -> bool {
        if self.is_own(address) {
            return self.project.find(ThingKind::Derived, address.name.as_str()).is_some();
        }
        self.catalog.derived(address).is_some()
    }

    /// The type of what a feature reads, as far as it is known.
    fn type_of(&self, derived: &Derived, input: &Input) -> Option<DataType> {
        match input {
            Input::RequestTime => Some(DataType::Timestamp),
            Input::Request { column } => {
                derived.request.iter().find(|it| it.name == *column).map(|it| it.data_type.clone())
            }
            Input::Feature { view, feature } if self.is_own(view) => {
                let key = (view.name.clone(), feature.clone());
                let known = self.types.feature_types.get(&key)?;
                (!self.is_untyped(&view.name)).then(|| known.clone())
            }
            Input::Feature { view, feature } => {
                let features = &self.catalog.view(view)?.features;
                features.iter().find(|it| it.feature.name == *feature).map(|it| it.data_type.clone())
            }
            Input::Derived { derived: other, feature } if self.is_own(other) => {
                self.types.derived_types.get(&(other.name.clone(), feature.clone())).cloned()
            }
            Input::Derived { derived: other, feature } => {
                let features = &self.catalog.derived(other)?.features;
                features.iter().find(|it| it.feature.name == *feature).map(|it| it.data_type.clone())
            }
        }
    }

    /// Whether a view of this project stands on a source whose columns are known by their names alone.
    fn is_untyped(&self, view: &Name) -> bool {
        let all = self.project.definitions.iter().chain(&self.project.half_read);
        let mut views = all.filter_map(|it| match &it.value {
            Definition::View(found) if found.name == *view => Some(found),
            _ => None,
        });
        views.any(|found| {
            self.is_own(&self.project.address(&found.source)) && self.untyped.contains(&found.source.name)
        })
    }
}
