//! What a training set's record says, and a catalog and selection made again from one.

use std::collections::BTreeSet;

use arrow::array::Array;
use arrow::datatypes::Schema;
use asof_compute::{Status, from_arrow_type};
use asof_model::{
    Address, Ask, Catalog, Column, Cut, DataType, FileFormat, FileIdentity, LabelCounts, LabelReading,
    Missing, Name, OnImmature, OnNullKey, OnOverflow, Place, Question, ReadingCounts, Recipe, Selection,
    SourceCut, SpineRecord, TimeRule, Timestamp, TrainingSet,
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
    pub(super) asked_at: Timestamp,
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
    let made = catalog.definitions(&asked.ask, asked.full_names, selection);
    let made = made.map_err(|error| Error::internal(error.to_string()))?;
    Ok(Recipe {
        revision: made.revision,
        ask: made.ask,
        full_names: made.full_names,
        service: made.service,
        selection: made.selection,
        views: made.views,
        derived: made.derived,
        sources: made.sources,
        roots: made.roots,
        spine,
        question: asked.question,
        on_null_key: asked.on_null_key,
        on_overflow: asked.on_overflow,
        on_immature: asked.on_immature,
        asked_at: selection.labels.iter().any(has_pushed).then_some(asked.asked_at),
        cuts: Vec::new(),
        code_version: engine.config().code_version.clone(),
        output: asked.output,
    })
}

fn has_pushed(label: &LabelReading) -> bool {
    matches!(label.reading.source.definition.place, Place::Push { .. })
}

/// The catalog and selection that a record was made with.
pub(super) fn restore(set: &TrainingSet) -> Result<(Catalog, Selection)> {
    let lacks = |missing: Missing| {
        Error::internal(format!("the record of training set `{}` is not whole: {missing}", set.id))
    };
    set.recipe.definitions(&set.project).restore().map_err(lacks)
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
