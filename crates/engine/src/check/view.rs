//! A view against its source: key columns and their types, `where`, the types of its features.

use asof_model::{
    CallPlaces, Column, DataType, Definition, Diagnostic, Located, Reference, Source, ThingKind, View,
    bind_keys, expand_features,
};

use super::Check;
use super::source::{did_you_mean, of_no_type};
use crate::expression::{CallPart, Problem, Purpose, compile, compile_call};

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
        // What cannot be expanded is reported where the view is resolved.
        let Ok(features) = expand_features(view, &keys, &source, &columns) else { return };
        for feature in features {
            let what = format!("feature `{}` of view `{}`", feature.name, view.name);
            let compiled = match &feature.aggregate {
                Some(aggregate) => {
                    let text = &feature.expression.text;
                    compile_call(self.engine, &aggregate.call, &columns)
                        .map(|compiled| compiled.function.data_type())
                        .map_err(|(part, problem)| in_call(text, part, problem))
                }
                None => compile(self.engine, &feature.expression.text, &columns, clock, Purpose::Feature)
                    .map(|compiled| {
                        // A column keeps its own type, which an Arrow type alone does not tell (json).
                        let own = feature.expression.as_column();
                        let own = own.and_then(|own| columns.iter().find(|column| column.name == own));
                        own.map_or(compiled.data_type(), |column| &column.data_type).clone()
                    }),
            };
            match compiled {
                Ok(data_type) => {
                    if let Some(default) = feature.default.as_ref().filter(|it| !it.fits(&data_type)) {
                        let message =
                            format!("`default` of {what} is {default}, and its values are {data_type}");
                        let span = at.feature_key(&feature.name, "default");
                        let hint = format!("give a constant that is {data_type}");
                        self.out.push(Diagnostic::error("default_type", message).at(span).hint(hint));
                    }
                    self.types.feature_types.insert((view.name.clone(), feature.name), data_type);
                }
                Err(problem) => {
                    let bytes = problem.start..problem.start + problem.length;
                    let span = at.feature(&feature.name, Some(bytes));
                    self.problem(told(problem, &feature.expression.text), &what, span);
                }
            }
        }
    }
}

/// A problem with a part of a call, placed in the whole of it.
fn in_call(text: &str, part: CallPart, problem: Problem) -> Problem {
    let places = CallPlaces::of(text);
    let start = match (part, places) {
        (CallPart::Argument, Some(places)) => places.argument.map_or(0, |at| at.start),
        (CallPart::Filter, Some(places)) => places.filter.map_or(0, |at| at.start),
        (CallPart::Whole, _) => return Problem { start: 0, length: text.len(), ..problem },
        (_, None) => 0,
    };
    Problem { start: problem.start + start, ..problem }
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
