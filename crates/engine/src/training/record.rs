//! What a training set's record says, and a catalog and selection made again from one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::Schema;
use asof_compute::{Status, from_arrow_type};
use asof_model::{
    Address, Ask, Catalog, Column, Cut, DataType, DerivedVersion, FileFormat, FileIdentity, LabelCounts,
    LabelReading, Name, OnImmature, OnNullKey, OnOverflow, Question, Reading, ReadingCounts, Recipe,
    Selection, SourceCut, SourceVersion, SpineRecord, Step, StoredReading, TimeRule, TrainingSet, Version,
    ViewVersion,
};

use super::all_readings;
use crate::point_in_time::{self, AnswerBatch};
use crate::source::opened::visible_times;
use crate::{Engine, Error, Result};

/// What was asked besides the selection and the spine.
pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) full_names: bool,
    pub(super) question: Question,
    pub(super) on_null_key: OnNullKey,
    pub(super) on_overflow: OnOverflow,
    pub(super) on_immature: OnImmature,
    pub(super) output: FileFormat,
}

/// The recipe of a training, but for its cuts, which are known when the sources are read.
pub(super) fn recipe(
    engine: &Engine,
    catalog: &Catalog,
    asked: Asked,
    selection: &Selection,
    spine: SpineRecord,
) -> Result<Recipe> {
    let mut views: Vec<ViewVersion> = Vec::new();
    let mut sources: Vec<SourceVersion> = Vec::new();
    let mut waiting: Vec<Arc<SourceVersion>> = Vec::new();
    for reading in all_readings(selection) {
        if !views.iter().any(|it| it.address == reading.view.address) {
            views.push(reading.view.as_ref().clone());
        }
        waiting.push(Arc::clone(&reading.source));
    }
    let mut derived: Vec<DerivedVersion> = Vec::new();
    for step in &selection.steps {
        if !derived.iter().any(|it| it.address == step.derived.address) {
            derived.push(step.derived.as_ref().clone());
        }
    }
    let mut roots: BTreeMap<Name, PathBuf> = BTreeMap::new();
    let mut next = 0;
    while let Some(source) = waiting.get(next).cloned() {
        next += 1;
        if sources.iter().any(|it| it.address == source.address) {
            continue;
        }
        let project = &source.address.project;
        let state = catalog.projects.get(project).ok_or_else(|| {
            Error::internal(format!("project `{project}` of source `{}` is not there", source.address))
        })?;
        roots.insert(project.clone(), state.root.clone());
        sources.push(source.as_ref().clone());
        if matches!(source.definition.place, asof_model::Place::Sql { .. }) {
            // A query may read any source of its project, and those of others that it names.
            waiting.extend(state.sources.values().cloned());
            for read in source.definition.reads() {
                let home = read.project.unwrap_or_else(|| project.clone());
                waiting.extend(catalog.source(&Address { project: home, name: read.name }).cloned());
            }
        }
    }
    Ok(Recipe {
        revision: catalog.revision,
        ask: asked.ask,
        full_names: asked.full_names,
        service: selection.service.as_deref().cloned(),
        selection: selection.stored(),
        views,
        derived,
        sources,
        roots,
        spine,
        question: asked.question,
        on_null_key: asked.on_null_key,
        on_overflow: asked.on_overflow,
        on_immature: asked.on_immature,
        cuts: Vec::new(),
        code_version: engine.config().code_version.clone(),
        output: asked.output,
    })
}

/// The catalog and selection that a record was made with.
pub(super) fn restore(set: &TrainingSet) -> Result<(Catalog, Selection)> {
    let recipe = &set.recipe;
    let views = recipe.views.iter().cloned().map(|it| Version::View(Arc::new(it)));
    let sources = recipe.sources.iter().cloned().map(|it| Version::Source(Arc::new(it)));
    let derived = recipe.derived.iter().cloned().map(|it| Version::Derived(Arc::new(it)));
    let versions = sources.chain(views).chain(derived);
    let catalog = Catalog::from_versions(recipe.revision, recipe.roots.clone(), versions);
    let missing = |what: &str, of: &Address| {
        Error::internal(format!("the record of training set `{}` lacks {what} `{of}`", set.id))
    };
    let reading = |stored: &StoredReading| {
        let view = catalog.view(&stored.view).ok_or_else(|| missing("view", &stored.view))?;
        let source = catalog.source(&view.source).ok_or_else(|| missing("source", &view.source))?;
        Ok(Reading { view: Arc::clone(view), source: Arc::clone(source), keys: stored.keys.clone() })
    };
    let steps = recipe.selection.steps.iter().map(|stored| {
        let derived = catalog.derived(&stored.derived).ok_or_else(|| missing("derived", &stored.derived))?;
        Ok(Step { derived: Arc::clone(derived), feature: stored.feature, inputs: stored.inputs.clone() })
    });
    let labels = recipe.selection.labels.iter().map(|stored| {
        Ok(LabelReading {
            name: stored.name.clone(),
            reading: reading(&stored.reading)?,
            feature: stored.feature,
            after: stored.after,
            data_type: stored.data_type.clone(),
        })
    });
    let selection = Selection {
        project: set.project.clone(),
        service: recipe.service.clone().map(Arc::new),
        readings: recipe.selection.readings.iter().map(reading).collect::<Result<_>>()?,
        columns: recipe.selection.columns.clone(),
        request: recipe.selection.request.clone(),
        steps: steps.collect::<Result<_>>()?,
        labels: labels.collect::<Result<_>>()?,
    };
    Ok((catalog, selection))
}

/// What was read, per source.
pub(super) fn cuts(selection: &Selection, read: &[(Address, Cut)]) -> Result<Vec<SourceCut>> {
    read.iter()
        .map(|(address, cut)| {
            let source = all_readings(selection).map(|it| &it.source).find(|it| it.address == *address);
            let source = source
                .ok_or_else(|| Error::internal(format!("source `{address}` was read and not asked for")))?;
            let visible = visible_times(source);
            Ok(SourceCut { source: address.clone(), source_id: source.id.clone(), visible, cut: cut.clone() })
        })
        .collect()
}

/// What a rebuild needs and is gone, or is not what it was.
pub(super) fn changed(what: &str, name: &str, change: &str) -> Error {
    Error::Conflict {
        code: "training_set_changed",
        message: format!("{what} `{name}` {change}"),
        hint: Some("put back what the training set was made from, or make a new one".to_owned()),
    }
}

/// An error of a rebuild: what was read then and cannot be read again is gone or changed.
pub(super) fn of_rebuild(error: Error) -> Error {
    match error {
        Error::Changed { what, name, change } => changed(what, &name, &change),
        other => other,
    }
}

/// Refuses where what is read now is not what was read then.
pub(super) fn compare_cuts(then: &[SourceCut], now: &[SourceCut]) -> Result<()> {
    for old in then {
        let new = now
            .iter()
            .find(|it| it.source == old.source)
            .ok_or_else(|| changed("source", &old.source.to_string(), "is not read any more"))?;
        compare(&old.source.to_string(), &old.cut, &new.cut)?;
    }
    Ok(())
}

fn compare(source: &str, then: &Cut, now: &Cut) -> Result<()> {
    let changed = |change: String| Err(changed("source", source, &change));
    match (then, now) {
        (Cut::Files(then), Cut::Files(now)) => files(source, then, now),
        (Cut::Stored { position: then, .. }, Cut::Stored { position: now, .. }) if then != now => {
            changed(format!("holds rows up to position {now}, and the training set was made up to {then}"))
        }
        (Cut::Stored { past: then, .. }, Cut::Stored { past: now, .. }) => match (then, now) {
            (Some(then), Some(now)) => files(source, &then.files, &now.files),
            (None, None) => Ok(()),
            _ => changed("has a `past` now and had none, or the other way round".to_owned()),
        },
        (Cut::Delta { table_id: then, .. }, Cut::Delta { table_id: now, .. }) if then != now => {
            changed("is another table than it was".to_owned())
        }
        (Cut::Delta { version: then, .. }, Cut::Delta { version: now, .. }) if then != now => {
            changed(format!("stands at version {now}, and the training set was made at {then}"))
        }
        (Cut::Delta { .. }, Cut::Delta { .. }) => Ok(()),
        (Cut::Sql(then), Cut::Sql(now)) => compare_cuts(then, now),
        _ => changed("is of another kind than it was".to_owned()),
    }
}

fn files(source: &str, then: &[FileIdentity], now: &[FileIdentity]) -> Result<()> {
    let changed =
        |path: &str, change: String| Err(changed("file", path, &format!("of source `{source}` {change}")));
    for old in then {
        let Some(new) = now.iter().find(|it| it.path == old.path) else {
            return changed(&old.path, "is gone since the training set was made".to_owned());
        };
        // A copy has other times and another tag; bytes and hash say whether it is the same data.
        if new.size != old.size || new.hash != old.hash {
            let sizes = format!("{} bytes then, {} now", old.size, new.size);
            return changed(&old.path, format!("has changed since the training set was made ({sizes})"));
        }
    }
    for new in now {
        if !then.iter().any(|it| it.path == new.path) {
            return changed(&new.path, "is new since the training set was made".to_owned());
        }
    }
    Ok(())
}

/// The name of a view as the project asked in writes it.
fn view_name(project: &Name, view: &Address) -> String {
    if view.project == *project { view.name.to_string() } else { view.to_string() }
}

/// The counts of each reading, as the record has them.
pub(super) fn counts(selection: &Selection, found: &[point_in_time::ReadingCounts]) -> Vec<ReadingCounts> {
    let readings = selection.readings.iter().zip(found);
    readings
        .map(|(reading, found)| ReadingCounts {
            view: view_name(&selection.project, &reading.view.address),
            keys: reading.keys.iter().map(ToString::to_string).collect(),
            present: found.present,
            not_found: found.not_found,
            expired: found.expired,
            no_key: found.no_key,
            null_values: found.null.iter().sum(),
            never_known: found.never_known,
            null_keys: found.null_keys,
            other_present: found.present_otherwise,
            differs: found.differ,
        })
        .collect()
}

/// The counts of each label before its answers are counted.
pub(super) fn labels(selection: &Selection, not_mature: &[u64]) -> Vec<LabelCounts> {
    let labels = selection.labels.iter().zip(not_mature);
    labels
        .map(|(label, not_mature)| LabelCounts {
            label: label.name.clone(),
            view: view_name(&selection.project, &label.reading.view.address),
            keys: label.reading.keys.iter().map(ToString::to_string).collect(),
            not_mature: *not_mature,
            ..LabelCounts::default()
        })
        .collect()
}

/// Counts the answers of labels.
pub(super) fn count_labels(counts: &mut [LabelCounts], answers: &AnswerBatch) {
    let labels = answers.labels.iter().zip(&answers.label_status);
    for (counts, (values, status)) in counts.iter_mut().zip(labels) {
        let nulls = values.logical_nulls();
        for (row, code) in status.values().iter().enumerate() {
            match Status::from_code(*code) {
                Some(Status::Present) => {
                    counts.present += 1;
                    counts.null_values += u64::from(nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)));
                }
                Some(Status::NotFound) => counts.not_found += 1,
                Some(Status::Expired) => counts.expired += 1,
                Some(Status::NoKey) => counts.no_key += 1,
                // Counted over the whole spine.
                Some(Status::NotMature) | None => {}
            }
        }
    }
}

/// What a careful user should look at: under *known*, a view that answers under half of what *event*
/// would (SEMANTICS section 4).
pub(super) fn warnings(question: Question, selection: &Selection, counts: &[ReadingCounts]) -> Vec<String> {
    if question != Question::Known {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    let mut seen: BTreeSet<(&str, &[String])> = BTreeSet::new();
    for (reading, count) in selection.readings.iter().zip(counts) {
        let Some(rule) = &reading.source.definition.available_at else { continue };
        if u128::from(count.present) * 2 >= u128::from(count.other_present)
            || !seen.insert((&count.view, &count.keys))
        {
            continue;
        }
        let column = match rule {
            TimeRule::Column { name, .. } => format!("column `{name}`"),
            TimeRule::Expression(text) => format!("expression `{}`", text.text),
        };
        warnings.push(format!(
            "view `{}` answers {} spine rows with what was known at their times, and would answer {} if every row \
             had been known when it happened: look at the {column}, the `available_at` of source `{}`",
            count.view, count.present, count.other_present, reading.source.address.name
        ));
    }
    warnings
}

/// The columns of the set; a spine's column of a type that the model has no name for counts as text.
pub(super) fn columns(schema: &Schema) -> Vec<Column> {
    let fields = schema.fields().iter();
    fields
        .map(|field| Column {
            name: field.name().clone(),
            data_type: from_arrow_type(field.data_type()).unwrap_or(DataType::String),
        })
        .collect()
}
