//! A view against its source: key columns and their types, `where`, the types of its features.

use asof_model::{
    Column, DataType, Definition, Diagnostic, Features, Located, Reference, Source, ThingKind, View,
    bind_keys, expand_features,
};

use super::Check;
use super::source::{did_you_mean, of_no_type};
use crate::expression::{Problem, Purpose, compile};

impl Check<'_> {
    pub(super) fn views(&mut self) {
        let project = self.project;
        for it in project.definitions.iter().chain(&project.half_read) {
            if let Definition::View(view) = &it.value {
                let before = self.out.len();
                self.view(it, view);
                if project.address(&view.source).project == project.config.project {
                    self.of_names(&view.source.name, before);
                }
            }
        }
    }

    fn source_of(&self, reference: &Reference) -> Option<(Source, Vec<Column>)> {
        let address = self.project.address(reference);
        let version = self.catalog.source(&address)?;
        Some((version.definition.clone(), version.columns.clone()))
    }

    fn entity_of(&self, reference: &Reference) -> Option<asof_model::Entity> {
        let address = self.project.address(reference);
        if address.project == self.project.config.project {
            return match &self.project.find(ThingKind::Entity, address.name.as_str())?.value {
                Definition::Entity(entity) => Some(entity.clone()),
                _ => None,
            };
        }
        Some(self.catalog.projects.get(&address.project)?.entities.get(&address.name)?.definition.clone())
    }

    fn view(&mut self, at: &Located<Definition>, view: &View) {
        let Some((source, columns)) = self.source_of(&view.source) else { return };
        // Without its entity, which is told to be missing or wrong, the rest of a view can still be looked at.
        let entity = self.entity_of(&view.entity);
        // So is a key that the entity does not have: it may be meant for one that seems not to be bound.
        let stray = entity.as_ref().is_some_and(|entity| {
            view.keys.keys().any(|key| !entity.keys.iter().any(|known| known.name == *key))
        });
        let left_out = self.left_out.get(&source.name).cloned().unwrap_or_default();
        // A column that an expression names and that is there in a type of no use.
        let told = |mut problem: Problem, text: &str| {
            let part = text.get(problem.start..problem.start + problem.length).unwrap_or_default();
            if problem.code == "column_not_found"
                && let Some(hint) = of_no_type(part.trim_matches('"'), &left_out)
            {
                problem.hint = Some(hint);
            }
            problem
        };
        let keys = entity.as_ref().map(|entity| bind_keys(view, entity)).unwrap_or_default();
        for key in &keys {
            let written = view.keys.contains_key(&key.key.name);
            if stray && !written {
                continue;
            }
            let path = ["keys", key.key.name.as_str()];
            let span = if written { at.at(&path) } else { at.at(&["source"]) };
            let Some(column) = columns.iter().find(|column| column.name == key.column) else {
                let message = format!(
                    "key `{}` of view `{}`: column `{}` not found in source `{}`",
                    key.key.name, view.name, key.column, view.source
                );
                let of_no_type = of_no_type(&key.column, &left_out);
                let hint = match of_no_type.clone().or_else(|| did_you_mean(&key.column, &columns)) {
                    Some(hint) if written || of_no_type.is_some() => Some(hint),
                    Some(hint) => Some(format!("{hint}; bind it with `keys: {{{}: COLUMN}}`", key.key.name)),
                    None => None,
                };
                self.out.push(Diagnostic::error("column_not_found", message).at(span).maybe_hint(hint));
                continue;
            };
            if !fits(&column.data_type, &key.key.data_type) {
                let message = format!(
                    "key `{}` of view `{}`: column `{}` is {}, and entity `{}` has {}",
                    key.key.name, view.name, key.column, column.data_type, view.entity, key.key.data_type
                );
                self.out.push(
                    Diagnostic::error("key_type", message).at(span).hint(
                        "give the entity's key that type, or declare the column in the source's `schema`",
                    ),
                );
            }
        }
        // That facts have no clock is told where definitions are checked against each other.
        let clock = true;
        if let Some(filter) = &view.filter
            && let Err(problem) = compile(self.engine, &filter.text, &columns, clock, Purpose::Condition)
        {
            let span = at.inside(&["where"], problem.start..problem.start + problem.length);
            self.problem(told(problem, &filter.text), &format!("where of view `{}`", view.name), span);
        }
        if self.not_built(at, view) {
            return;
        }
        // What cannot be expanded is reported where the view is resolved.
        let Ok(features) = expand_features(view, &keys, &source, &columns) else { return };
        for feature in features {
            match compile(self.engine, &feature.expression.text, &columns, clock, Purpose::Feature) {
                Ok(compiled) => {
                    let key = (view.name.clone(), feature.name);
                    // A column keeps its own type, which an Arrow type alone does not tell (json).
                    let own = feature.expression.as_column();
                    let own = own.and_then(|own| columns.iter().find(|column| column.name == own));
                    let kind = own.map_or(compiled.data_type(), |column| &column.data_type).clone();
                    self.types.feature_types.insert(key, kind);
                }
                Err(problem) => {
                    let bytes = problem.start..problem.start + problem.length;
                    let span = at.feature(&feature.name, Some(bytes));
                    self.problem(
                        told(problem, &feature.expression.text),
                        &format!("feature `{}` of view `{}`", feature.name, view.name),
                        span,
                    );
                }
            }
        }
    }
}

impl Check<'_> {
    /// Refuses what definitions can say of a view and nothing computes yet.
    fn not_built(&mut self, at: &Located<Definition>, view: &View) -> bool {
        let Features::Named(features) = &view.features else { return false };
        let (key, span, hint) = if view.is_window() {
            let hint = "write `expr` for the latest value, in a view without windows";
            ("windows", at.at(&["features"]), hint)
        } else if let Some(feature) = features.iter().find(|feature| feature.default.is_some()) {
            let span = at.feature_key(&feature.name, "default");
            ("default", span, "write `coalesce` where the value is used")
        } else {
            return false;
        };
        let message = format!("`{key}` in view `{}` is not built yet", view.name);
        self.out.push(Diagnostic::error("not_built_yet", message).at(span).hint(hint));
        true
    }
}

/// Whether a column's values are keys of a type: the same, or integers of another width.
fn fits(column: &DataType, key: &DataType) -> bool {
    use DataType as T;
    let integer = |kind: &DataType| {
        matches!(
            kind,
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64
        )
    };
    column == key || integer(column) && integer(key)
}
