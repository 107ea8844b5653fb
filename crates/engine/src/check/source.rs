//! A source against its data: files, columns, times.

use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field};
use asof_model::{
    Column, DataType, Definition, Diagnostic, Explain, Format, Located, Place, Source, SourceVersion, Span,
    TimeRule, TimeUnit,
};
use futures::StreamExt;

use super::Check;

use crate::delta::{RENAME, case_twin, differs_in_case};
use crate::expression::{Purpose, compile};
use crate::source::columns::{can_read, model_type};
use crate::source::infer::{Found, infer};
use crate::source::instants::{readable, zone, zone_names};
use crate::source::opened::columns_of;
use crate::source::{Opened, ScanColumns, fixed, open, scan_opened};
use crate::{Error, Result};
use asof_model::nearest;

impl Check<'_> {
    /// A source of files or of a Delta table.
    pub(super) async fn source(&mut self, at: &Located<Definition>, source: &Source) {
        let mut look = self.version(source);
        // A stored source is looked at where its files come from.
        look.definition.store = false;
        let opened = match open(self.engine, &self.catalog, &look, None, 0).await {
            Ok(opened) => opened,
            Err(error) => {
                let missing = matches!(error.code(), "source_file_missing" | "source_no_files");
                if missing && source.store && !source.schema.is_empty() {
                    // Its files come later.
                    return self.declared_only(at, source).await;
                }
                let error = if missing && source.store {
                    error.with_hint("put a first file there, or declare the columns in `schema`")
                } else {
                    error
                };
                let key = match error.code() {
                    "source_option" => "options",
                    _ => "path",
                };
                return self.failed(&error, source, at.at(&[key]));
            }
        };
        let found = match &opened {
            Opened::Files(files) => {
                let (name, files, declared) =
                    (source.name.to_string(), Arc::clone(files), source.schema.clone());
                self.engine.blocking(move || infer(&name, &files, &declared)).await
            }
            other => Ok(of_schema(other)),
        };
        match found {
            Ok(found) => self.found(at, source, found, Some(&opened)).await,
            Err(error) => self.failed(&error, source, at.at(&["path"])),
        }
    }

    /// A source of which there is nothing to look at yet: its schema says what its rows will have.
    pub(super) async fn declared_only(&mut self, at: &Located<Definition>, source: &Source) {
        let raw = source.schema.iter().map(|it| (it.name.clone(), text_or_own(&it.data_type))).collect();
        let found = Found { columns: source.schema.clone(), raw, ..Found::default() };
        self.found(at, source, found, None).await;
    }

    /// A query over other sources. False: it reads one that is not known yet; one that never will be is
    /// reported where names are resolved.
    pub(super) async fn query(&mut self, at: &Located<Definition>, source: &Source) -> bool {
        let version = self.version(source);
        match open(self.engine, &self.catalog, &version, None, 0).await {
            Ok(opened) => {
                let found = of_schema(&opened);
                self.found(at, source, found, None).await;
            }
            Err(error) if error.code() == "source_not_found" => return false,
            Err(error) => {
                let Place::Sql { text } = &source.place else { return true };
                let named = named_in(&error, text);
                let span = named.map_or_else(|| at.at(&["sql"]), |bytes| at.inside(&["sql"], bytes));
                self.failed(&error, source, span);
            }
        }
        true
    }

    /// The columns found, against what is declared of them. `opened`: the files or the table, where the
    /// values of a column may be looked at.
    async fn found(
        &mut self,
        at: &Located<Definition>,
        source: &Source,
        found: Found,
        opened: Option<&Opened>,
    ) {
        let name = &source.name;
        let mut doubts = Vec::new();
        self.left_out(at, source, &found);
        self.left_out.insert(name.clone(), found.left_out.clone());
        if let Some((column, _)) = found.columns.iter().enumerate().find_map(|(at, column)| {
            found.columns[..at].iter().find(|other| other.name == column.name).map(|it| (&it.name, at))
        }) {
            let message = format!("source `{name}`: two columns are named `{column}`");
            let key = if matches!(source.place, Place::Sql { .. }) { "sql" } else { "path" };
            self.out.push(
                Diagnostic::error("column_twice", message)
                    .at(at.at(&[key]))
                    .hint("give one of them another name, in a query with `as`"),
            );
            return;
        }
        let columns = self.declared(at, source, &found, &mut doubts);
        if let Some(twin) = case_twin(&columns).filter(|_| source.is_stored()) {
            let is_declared = source.schema.iter().any(|column| column.name == twin.name);
            let place = if is_declared { at.key(&["schema", &twin.name]) } else { at.at(&["path"]) };
            let message = differs_in_case(name.as_str(), twin);
            self.out.push(Diagnostic::error("stored_column_case", message).at(place).hint(RENAME));
        }
        let is_own = |column: &&Column| fixed::OWN.iter().any(|own| own.eq_ignore_ascii_case(&column.name));
        for column in columns.iter().filter(is_own) {
            let is_declared = source.schema.iter().any(|declared| declared.name == column.name);
            let key = if matches!(source.place, Place::Sql { .. }) { "sql" } else { "path" };
            let place = if is_declared { at.key(&["schema", &column.name]) } else { at.at(&[key]) };
            let column = &column.name;
            let message = format!(
                "source `{name}`: column `{column}` is named like one that Asof puts beside its rows"
            );
            self.out.push(
                Diagnostic::error("reserved_column", message)
                    .at(place)
                    .hint("rename it in the data, or read the data through a source with `sql` and `as`"),
            );
        }
        let rules = [
            ("event_time", &source.event_time),
            ("available_at", &source.available_at),
            ("valid_until", &source.valid_until),
        ];
        for (key, rule) in rules {
            let what = format!("{key} of source `{name}`");
            match rule {
                None => {}
                Some(TimeRule::Column { name: column, unit, zone: named }) => {
                    let rule = TimeColumn { key, column, unit: *unit, zone: named.as_deref() };
                    self.time_column(at, source, &found, &columns, &rule, &mut doubts);
                }
                Some(TimeRule::Expression(text)) => {
                    self.expression(at, key, &text.text, &columns, Purpose::Time, &what);
                }
            }
        }
        let more = [
            ("order_by", &source.order_by, Purpose::Order),
            ("delete_when", &source.delete_when, Purpose::Condition),
            ("id", &source.id, Purpose::Id),
        ];
        for (key, text, purpose) in more {
            if let Some(text) = text {
                let what = format!("{key} of source `{name}`");
                self.expression(at, key, &text.text, &columns, purpose, &what);
            }
        }
        // With a broken rule the columns still stand, so that views over them are checked as well.
        self.put(source, columns.clone());
        if let Some(opened @ Opened::Files(_)) = opened {
            self.settle(source, opened, &columns, doubts).await;
        }
    }

    /// Columns that no feature can read.
    fn left_out(&mut self, at: &Located<Definition>, source: &Source, found: &Found) {
        let name = &source.name;
        for (column, kind) in &found.left_out {
            if source.schema.iter().any(|declared| declared.name == *column) {
                continue;
            }
            let message = format!("source `{name}`: column `{column}` is {kind}, and is left out");
            self.out.push(
                Diagnostic::warning("column_left_out", message)
                    .at(at.span())
                    .hint("a source with `sql` can cast it to a type there is"),
            );
        }
        for column in &found.hidden {
            let message = format!(
                "source `{name}`: column `{column}` stands in the files and in the names of their folders, and the folders' is read"
            );
            self.out.push(
                Diagnostic::warning("column_hidden", message)
                    .at(at.at(&["path"]))
                    .hint("to read the files' own, set `options: {hive_partitioning: false}`"),
            );
        }
    }

    /// The columns as declared, or as found where none are.
    fn declared(
        &mut self,
        at: &Located<Definition>,
        source: &Source,
        found: &Found,
        doubts: &mut Vec<Doubt>,
    ) -> Vec<Column> {
        let name = &source.name;
        if source.schema.is_empty() {
            if is_text(source) && found.rows == 0 && !found.columns.is_empty() {
                let message =
                    format!("source `{name}`: its files have no rows, so every column is taken for text");
                self.out.push(
                    Diagnostic::warning("source_empty", message)
                        .at(at.at(&["path"]))
                        .hint("declare the columns in `schema`, or apply again when there are rows"),
                );
            }
            return found.columns.clone();
        }
        for declared in &source.schema {
            let span = at.key(&["schema", &declared.name]);
            let mut kinds = found
                .raw
                .iter()
                .filter(|(column, _)| *column == declared.name)
                .map(|(_, kind)| kind)
                .peekable();
            let nothing = is_text(source) && found.rows == 0 && found.columns.is_empty();
            if kinds.peek().is_none() && nothing {
                continue;
            }
            if kinds.peek().is_none() {
                let message =
                    format!("source `{name}`: `schema` column `{}` is not in the data", declared.name);
                self.out.push(
                    Diagnostic::error("column_not_found", message)
                        .at(span)
                        .maybe_hint(absent(&declared.name, found)),
                );
                continue;
            }
            let guessed = found.columns.iter().find(|column| column.name == declared.name);
            if is_text(source) {
                if guessed.is_some_and(|guessed| may_not_be(&guessed.data_type, &declared.data_type)) {
                    doubts.push(Doubt { rule: None, column: declared.name.clone(), span });
                }
            } else if let Some(kind) = kinds.find(|kind| !can_read(kind, &declared.data_type)) {
                let message = format!(
                    "source `{name}`: `schema` column `{}` is {} in the data, which cannot be read as {}",
                    declared.name,
                    type_name(kind),
                    declared.data_type
                );
                self.out.push(
                    Diagnostic::error("column_type", message)
                        .at(span)
                        .hint("declare the type it has, or convert it in a source with `sql`"),
                );
            }
        }
        source.schema.clone()
    }

    /// A column that a time is read from.
    fn time_column(
        &mut self,
        at: &Located<Definition>,
        source: &Source,
        found: &Found,
        columns: &[Column],
        rule: &TimeColumn<'_>,
        doubts: &mut Vec<Doubt>,
    ) {
        let TimeColumn { key, column, unit, zone: named } = *rule;
        let what = format!("{key} of source `{}`", source.name);
        let span = at.inside(&[key], 0..column.len());
        let Some(declared) = columns.iter().find(|it| it.name == *column) else {
            let message = format!("{what}: column `{column}` not found");
            let hint = if found.columns.iter().any(|it| it.name == *column) {
                Some(format!("the data has it: declare it in `schema` too, e.g. `{column}: timestamp`"))
            } else {
                absent(column, found)
            };
            self.out.push(Diagnostic::error("column_not_found", message).at(span).maybe_hint(hint));
            return;
        };
        if let Some(named) = named
            && let Err(reason) = zone(named)
        {
            let message = format!("{what}: {reason}");
            let zones = zone_names();
            let hint = nearest(named, zones.iter().map(String::as_str))
                .map_or("e.g. `America/New_York`, `UTC`".to_owned(), |near| {
                    format!("did you mean `{near}`?")
                });
            self.out.push(Diagnostic::error("time_zone", message).at(at.at(&[key, "zone"])).hint(hint));
            return;
        }
        let mut kinds: Vec<ArrowType> =
            found.raw.iter().filter(|(other, _)| other == column).map(|(_, kind)| kind.clone()).collect();
        if kinds.is_empty() {
            kinds.push(text_or_own(&declared.data_type));
        }
        let guessed = found.columns.iter().find(|it| it.name == *column).map(|it| &it.data_type);
        let refused =
            kinds.iter().find_map(|kind| Some((kind, readable(kind, unit, named.is_some()).err()?)));
        if let Some((kind, reason)) = refused {
            let shown = guessed.unwrap_or(&declared.data_type);
            let message = format!("{what}: column `{column}` is {shown}: {reason}");
            let hint = match (unit.is_some(), named.is_some()) {
                (false, false) if kind.is_integer() => {
                    format!("write `{key}: {{column: {column}, unit: s}}`, or ms, us, ns")
                }
                (true, _) if !kind.is_numeric() => "leave `unit` away".to_owned(),
                (_, true) if kind.is_integer() || matches!(kind, ArrowType::Timestamp(..)) => {
                    "leave `zone` away".to_owned()
                }
                _ if kind.is_floating() => {
                    format!(
                        "write an expression, e.g. `{key}: to_timestamp_micros(cast({column} * 1000000 as bigint))`"
                    )
                }
                _ => "name a column of times, or write an expression that makes one".to_owned(),
            };
            self.out.push(Diagnostic::error("not_a_time", message).at(span).hint(hint));
            return;
        }
        if key == "event_time" && found.rows > 0 && found.nulls(column) == found.rows {
            let message = format!("{what}: column `{column}` is null in every row");
            let hint = "every row needs an event time; `event_time: none` is for facts without a clock";
            self.out.push(Diagnostic::error("not_a_time", message).at(span).hint(hint));
            return;
        }
        let nulls = if key == "event_time" { found.nulls(column) } else { 0 };
        // What a text format holds was looked at; of a text in Parquet nobody knows yet.
        let texts = kinds.iter().any(|kind| !kind.is_temporal() && !kind.is_integer());
        let times = is_text(source) && matches!(guessed, Some(DataType::Timestamp | DataType::Date));
        if nulls > 0 || texts && !times {
            doubts.push(Doubt { rule: Some(key), column: column.to_owned(), span });
        }
    }

    /// Reads the values that may not be what a definition says of them, and reports the first that is not.
    async fn settle(&mut self, source: &Source, opened: &Opened, columns: &[Column], doubts: Vec<Doubt>) {
        for doubt in doubts {
            let mut version = self.version(source);
            version.columns = columns.to_vec();
            let only = &mut version.definition;
            // Rows of a stored source are looked at where its files come from, and one rule at a time.
            only.store = false;
            (only.order_by, only.delete_when) = (None, None);
            for (key, rule) in [
                ("event_time", &mut only.event_time),
                ("available_at", &mut only.available_at),
                ("valid_until", &mut only.valid_until),
            ] {
                if doubt.rule != Some(key) {
                    *rule = None;
                }
            }
            let wanted = if doubt.rule.is_none() { vec![doubt.column.clone()] } else { Vec::new() };
            let want = ScanColumns { columns: wanted, ..ScanColumns::default() };
            match self.drain(&version, opened, &want).await {
                Ok(()) => {}
                // A load may set such rows aside.
                Err(error) if source.store => {
                    let message = format!("{error}; `asof load` stops there");
                    self.out.push(
                        Diagnostic::warning(error.code(), message)
                            .at(doubt.span)
                            .hint("mend the row, or load with `--on-bad-row quarantine`"),
                    );
                }
                Err(error) => self.failed(&error, source, doubt.span),
            }
        }
    }

    /// Reads all rows and keeps none.
    async fn drain(&self, version: &SourceVersion, opened: &Opened, want: &ScanColumns) -> Result<()> {
        let scan = scan_opened(self.engine, version, opened, want).await?;
        let context = self.engine.session().task_ctx();
        for partition in 0..scan.plan.properties().partitioning.partition_count() {
            let mut rows = scan.plan.execute(partition, Arc::clone(&context))?;
            while let Some(batch) = rows.next().await {
                batch?;
            }
        }
        Ok(())
    }

    fn expression(
        &mut self,
        at: &Located<Definition>,
        key: &str,
        text: &str,
        columns: &[Column],
        purpose: Purpose,
        what: &str,
    ) {
        if let Err(problem) = compile(self.engine, text, columns, false, purpose) {
            let span = at.inside(&[key], problem.start..problem.start + problem.length);
            self.problem(problem, what, span);
        }
    }
}

/// Something said of a column that its type alone does not settle.
struct Doubt {
    /// The key of the time rule; none: the column's declared type.
    rule: Option<&'static str>,
    column: String,
    span: Span,
}

/// A time rule that names a column.
struct TimeColumn<'a> {
    key: &'static str,
    column: &'a str,
    unit: Option<TimeUnit>,
    zone: Option<&'a str>,
}

/// Whether the format has no types of its own.
fn is_text(source: &Source) -> bool {
    matches!(source.place, Place::Files { format: Format::Csv | Format::Ndjson, .. })
}

/// Whether a text of the type it was taken for may not be of the declared one.
fn may_not_be(guessed: &DataType, declared: &DataType) -> bool {
    use DataType as T;
    match (guessed, declared) {
        (guessed, declared) if guessed == declared => false,
        (T::Int64 | T::UInt64, T::Float64) | (T::Date, T::Timestamp) => false,
        _ => true,
    }
}

/// A type of the data as users write it, where they can.
fn type_name(kind: &ArrowType) -> String {
    match model_type(&Field::new("", kind.clone(), true)) {
        Some(known) => known.to_string(),
        None => kind.to_string(),
    }
}

/// What to say of a column that is not in the data.
fn absent(column: &str, found: &Found) -> Option<String> {
    if let Some(hint) = of_no_type(column, &found.left_out) {
        return Some(hint);
    }
    match found.columns.as_slice() {
        [] if found.rows == 0 => {
            Some("the data has no rows to find columns in; declare them in `schema`".to_owned())
        }
        [only] => {
            let between = [";", "\t", "|", ","].into_iter().find(|sign| only.name.contains(sign));
            match between {
                Some(sign) => {
                    let sign = if sign == "\t" { "\\t" } else { sign };
                    Some(format!(
                        "its only column is `{}`; set `options: {{delimiter: \"{sign}\"}}`",
                        only.name.replace('\t', " ")
                    ))
                }
                None => did_you_mean(column, &found.columns),
            }
        }
        all => did_you_mean(column, all),
    }
}

/// Where a query holds what an error of it names: the third thing in backticks, behind the source and `sql`.
fn named_in(error: &Error, text: &str) -> Option<std::ops::Range<usize>> {
    let message = error.to_string();
    let name = message.split('`').nth(5)?;
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = text.match_indices(name).map(|(at, name)| at..at + name.len());
    found.find(|at| !text[..at.start].ends_with(word) && !text[at.end..].starts_with(word))
}

/// What an opened table or query has.
fn of_schema(opened: &Opened) -> Found {
    let Some(schema) = opened.schema() else { return Found::default() };
    let (columns, left_out) = columns_of(&schema);
    let raw = schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
    Found { columns, raw, left_out, ..Found::default() }
}

fn text_or_own(kind: &DataType) -> ArrowType {
    crate::source::infer::text_type(kind)
}

/// What to say of a column that the data has in a type that the model does not have.
pub(super) fn of_no_type(column: &str, left_out: &[(String, String)]) -> Option<String> {
    let (_, kind) = left_out.iter().find(|(other, _)| other == column)?;
    Some(format!("the data has it as {kind}, which is no type here: cast it in a source with `sql`"))
}

/// The nearest column, or the columns there are.
pub(super) fn did_you_mean(name: &str, columns: &[Column]) -> Option<String> {
    let all = || columns.iter().map(|column| column.name.as_str());
    if let Some(near) = nearest(name, all()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let some: Vec<String> = all().take(8).map(|name| format!("`{name}`")).collect();
    let more = if columns.len() > 8 { ", ..." } else { "" };
    (!some.is_empty()).then(|| format!("its columns are {}{more}", some.join(", ")))
}
