//! Sources: where rows are, and how their times are read.

use std::collections::BTreeMap;

use super::fields::{Fields, Reader, is_plain};
use crate::expression::parse_query;
use crate::keys;
use crate::nearest::{did_you_mean, nearest};
use crate::yaml::{Data, Node, quote};
use crate::{Expression, Format, NullKeys, Past, Place, Source, TimeRule, TimeUnit, Timestamp};

/// The options of every format, then those of CSV alone.
impl<'a> Reader<'a> {
    pub(super) fn source(&mut self, node: &'a Node, what: &str) -> Option<Source> {
        let fields = self.fields(node, &keys::SOURCE, what)?;
        let name = self.name(&fields, "source");
        let failed = std::mem::take(&mut self.failed);
        let place = self.place_of_rows(node, &fields);
        self.readable = place.is_some() && !self.failed && !misspelt_place(node);
        let failed = std::mem::take(&mut self.failed) || failed;
        let schema = self.columns(&fields, "schema");
        self.untyped = self.failed;
        self.failed |= failed;
        let store = self.boolean(&fields, "store").unwrap_or_default();
        let push = matches!(place, Some(Place::Push { .. }));
        // Of a stored source the schema may be all that is known.
        self.readable &= !((store || push) && self.untyped);
        if store && fields.get("sql").is_some() {
            self.conflict(&fields, "store", "sql", "a query is read where its sources are: remove `store`");
        }
        let event_time = match fields.get("event_time") {
            Some(node) if node.scalar() == Some("none") && is_plain(node) => None,
            Some(node) if node.is_nothing() => {
                let message = format!("`event_time` of {what} has no value");
                let hint = "name a column, or write `event_time: none` for facts without a clock";
                self.wrong(node, "empty_value", message, Some(hint.to_owned()));
                Some(unread())
            }
            Some(_) => self.time(&fields, "event_time").or_else(|| Some(unread())),
            None => Some(unread()),
        };
        let clockless = fields.get("event_time").is_some_and(|node| node.scalar() == Some("none"));
        if clockless && let Some(key) = fields.key("delete_when") {
            self.wrong(
                key,
                "clockless",
                format!("{what} has no clock, and a delete ends a key at an event time"),
                Some("name an `event_time`, or leave deleted rows out with `where` in the view".to_owned()),
            );
        }
        if clockless && let Some(key) = fields.key("id") {
            let message = format!("{what} has no clock, and versions of an event replace each other in time");
            let hint = "name an `event_time`, or leave out `id`: facts without a clock have one row of a key";
            self.wrong(key, "clockless", message, Some(hint.to_owned()));
        }
        if clockless && let Some(key) = fields.key("order_by") {
            let message = format!("`order_by` of {what} decides nothing");
            self.warn(key, "unused_key", message, "without a clock a second row of a key is an error");
        }
        if push
            && clockless
            && let Some(at) = fields.get("event_time")
        {
            let message = format!("{what} is pushed to, and has no clock");
            let hint = "name the `event_time` of its rows; facts without a clock are read from files";
            self.wrong(at, "clockless", message, Some(hint.to_owned()));
        }
        let id = self.event_id(&fields, &place, store);
        let source = Source {
            id,
            place: place.unwrap_or(Place::Sql { text: String::new() }),
            store,
            event_time,
            available_at: self.time(&fields, "available_at"),
            valid_until: self.time(&fields, "valid_until"),
            order_by: self.expression(&fields, "order_by"),
            delete_when: self.expression(&fields, "delete_when"),
            null_keys: match self.choice(&fields, "null_keys") {
                Some("refuse") => NullKeys::Refuse,
                _ => NullKeys::Keep,
            },
            schema,
            about: self.about(&fields),
            name: name?,
        };
        self.against_schema(&source, &fields);
        Some(source)
    }

    fn conflict(&mut self, fields: &Fields<'a>, key: &str, other: &str, hint: &str) {
        if let Some(node) = fields.key(key) {
            let message = format!("{} has both `{other}` and `{key}`", fields.what);
            self.wrong(node, "conflicting_keys", message, Some(hint.to_owned()));
        }
    }

    /// What names the event that a row is a version of.
    fn event_id(&mut self, fields: &Fields<'a>, place: &Option<Place>, store: bool) -> Option<Expression> {
        let node = fields.get("id")?;
        if let Some(key) = fields.key("past") {
            let message = format!("{} has an `id` and a `past` that is read in place", fields.what);
            let hint = "versions of one event are told apart as they are taken in: remove `past`, and bring it in with `asof load`";
            self.wrong(key, "conflicting_keys", message, Some(hint.to_owned()));
        }
        let id = self.expression(fields, "id")?;
        if id.columns().is_empty() {
            let message = format!("`id` of {} names no column", fields.what);
            let hint = "it names the event of each row, e.g. `id: event_id`";
            self.wrong(node, "wrong_value", message, Some(hint.to_owned()));
        }
        let in_place = matches!(place, Some(Place::Files { .. } | Place::Sql { .. })) && !store;
        let clockless = fields.get("event_time").is_some_and(|node| node.scalar() == Some("none"));
        if in_place && !clockless && fields.get("available_at").is_none() {
            let message = format!(
                "{} has an `id` and no `available_at`: versions are ordered by event time",
                fields.what
            );
            self.warn(
                node,
                "versions_by_event_time",
                message,
                "name with `available_at` the column that says when a row came; else a correction with an earlier event time never counts",
            );
        }
        Some(id)
    }

    /// A source that is pushed to.
    fn pushed(&mut self, fields: &Fields<'a>) -> Option<Place> {
        let at = fields.key("push")?;
        for key in ["path", "sql", "store", "format", "options"] {
            let hint = match key {
                "format" | "options" => {
                    "they belong to `past`, or to the files given to `asof load`: remove it"
                }
                "store" => "pushed rows are kept in a table of the source in any case: remove `store`",
                _ => {
                    "rows are pushed, or read from there: keep one; older rows have a place of their own in `past`"
                }
            };
            self.conflict(fields, key, "push", hint);
        }
        if fields.get("schema").is_none() && fields.key("schema").is_none() {
            let message = format!("{} is pushed to, and has no `schema`", fields.what);
            let hint = "name every column and its type, e.g. `schema: {seller_id: int64, at: timestamp}`";
            self.wrong(at, "missing_key", message, Some(hint.to_owned()));
        }
        let past = match fields.get("past") {
            Some(node) => Some(self.past(node, fields)?),
            None => None,
        };
        Some(Place::Push { past })
    }

    fn past(&mut self, node: &'a Node, fields: &Fields<'a>) -> Option<Past> {
        let what = format!("`past` of {}", fields.what);
        if !matches!(node.data, Data::Map { .. }) {
            let path = self.text(fields, "past")?;
            let format = self.format_of(&path, node, &what)?;
            return Some(Past { path, format, options: BTreeMap::new(), until: None });
        }
        let fields = self.fields(node, &keys::PAST, &what)?;
        let until = self.instant(&fields, "until");
        let (path, format, options) = self.files(&fields)?;
        Some(Past { path, format, options, until })
    }

    fn instant(&mut self, fields: &Fields<'a>, key: &str) -> Option<Timestamp> {
        let text = self.text(fields, key)?;
        let found = Timestamp::parse(&text).ok();
        if found.is_none() {
            let message = format!("`{key}` in {} takes a time, not `{text}`", fields.what);
            self.wrong(fields.get(key)?, "wrong_value", message, Some("e.g. `2025-01-01T00:00:00Z`".into()));
        }
        found
    }

    fn place_of_rows(&mut self, node: &'a Node, fields: &Fields<'a>) -> Option<Place> {
        match self.boolean(fields, "push") {
            Some(true) => return self.pushed(fields),
            None if fields.get("push").is_some() => return None,
            Some(false) | None => {}
        }
        if let Some(key) = fields.key("past") {
            let message = format!("`past` of {} is of a source that is pushed to", fields.what);
            let hint = "add `push: true`, or write where its rows are as `path`";
            self.wrong(key, "conflicting_keys", message, Some(hint.to_owned()));
        }
        if let Some(sql) = fields.get("sql") {
            for (key, hint) in [
                ("path", "rows come from files or from a query: keep one"),
                ("format", "a query has no format: remove it"),
                ("options", "a query has no options: remove them"),
            ] {
                self.conflict(fields, key, "sql", hint);
            }
            let text = self.text(fields, "sql")?;
            return match parse_query(&text) {
                Ok(_) => Some(Place::Sql { text }),
                Err(error) => {
                    self.wrong_expression(sql, "sql", &format!("`sql` of {}", fields.what), &error);
                    None
                }
            };
        }
        if fields.get("path").is_none() {
            if node.get("path").is_none() && node.get("sql").is_none() {
                let message = format!("{} has no place for its rows", fields.what);
                let at = fields.key("source").unwrap_or(node);
                let hint = match fields.get("store") {
                    Some(_) => {
                        "`asof load` copies files into its table: say with `path` where they come from and what \
                         they are, e.g. `data/in/*.csv`; with a `schema` none need be there yet, and \
                         `asof load SOURCE FILE` takes any"
                    }
                    None => "name a `path`, write a query as `sql`, or let rows come by `push: true`",
                };
                self.wrong(at, "missing_key", message, Some(hint.to_owned()));
            }
            return None;
        }
        let (path, format, options) = self.files(fields)?;
        Some(Place::Files { path, format, options })
    }

    /// Files: their path, format and options.
    fn files(&mut self, fields: &Fields<'a>) -> Option<(String, Format, BTreeMap<String, String>)> {
        let path = self.text(fields, "path")?;
        let at = fields.get("path")?;
        let format = if fields.get("format").is_some() {
            self.no_password(&path, at, &fields.what).then_some(())?;
            self.choice(fields, "format").and_then(Format::from_name)
        } else {
            self.format_of(&path, at, &fields.what)
        };
        let options = self.options(fields, format);
        Some((path, format?, options))
    }

    /// Whether a path holds none.
    fn no_password(&mut self, path: &str, at: &Node, what: &str) -> bool {
        let authority = path.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next());
        let held = authority
            .and_then(|authority| authority.rsplit_once('@'))
            .is_some_and(|(user, _)| user.contains(':'));
        if held {
            let hint = "leave it out; passwords do not stand in definitions";
            let message = format!("`path` of {what} holds a password");
            self.wrong(at, "config_secret", message, Some(hint.to_owned()));
        }
        !held
    }

    /// The format of files by the ending of their path.
    fn format_of(&mut self, path: &str, at: &Node, what: &str) -> Option<Format> {
        if !self.no_password(path, at, what) {
            return None;
        }
        let found = by_ending(path);
        if found.is_none() {
            let message = format!("the ending of `{path}` does not say how {what} is read");
            let hint = "add `format: parquet`, `csv`, `ndjson` or `delta`";
            self.wrong(at, "format_unknown", message, Some(hint.to_owned()));
        }
        found
    }

    fn options(&mut self, fields: &Fields<'a>, format: Option<Format>) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let Some(node) = fields.get("options") else { return found };
        let what = format!("`options` of {}", fields.what);
        let entries = self.entries(node, &what).unwrap_or_default();
        let Some(format) = format else { return found };
        let known = format.options();
        for (name, key, value) in entries {
            if !known.contains(&name) {
                let format = format.name();
                let hint = did_you_mean(name, known.iter().copied(), "its options are");
                self.wrong(key, "unknown_option", format!("{what}: {format} has no option `{name}`"), hint);
                continue;
            }
            let Some(text) = value.scalar() else {
                self.wrong(
                    value,
                    "wrong_value",
                    format!("`{name}` in {what} takes a value, not {}", value.shape()),
                    None,
                );
                continue;
            };
            let problem = match name {
                "header" | "hive_partitioning" | "union_by_name" if !matches!(text, "true" | "false") => {
                    Some("`true` or `false`")
                }
                "delimiter" | "quote" | "escape" | "comment" if text.len() != 1 => Some("one ASCII letter"),
                _ => None,
            };
            if let Some(expected) = problem {
                let hint = (text == "\\t").then(|| "a tab is written in double quotes: `\"\\t\"`".to_owned());
                self.wrong(
                    value,
                    "wrong_value",
                    format!("`{name}` in {what} takes {expected}, not `{text}`"),
                    hint,
                );
            }
            found.insert(name.to_owned(), text.to_owned());
        }
        found
    }

    /// A column, `{column, unit, zone}` or an expression.
    pub(super) fn time(&mut self, fields: &Fields<'a>, key: &'static str) -> Option<TimeRule> {
        let node = fields.get(key)?;
        let what = format!("`{key}` of {}", fields.what);
        match &node.data {
            Data::Map { .. } => self.time_column(node, &what),
            Data::Scalar { value, .. } => {
                let value = value.trim();
                if value == "none" {
                    let message = format!("{what} cannot be `none`");
                    self.wrong(node, "wrong_value", message, Some("leave it out".to_owned()));
                    return None;
                }
                if is_word(value) {
                    return Some(TimeRule::Column { name: value.to_owned(), unit: None, zone: None });
                }
                let expression = self.expression_of(node, key, &what)?;
                match expression.as_column() {
                    Some(name) => Some(TimeRule::Column { name, unit: None, zone: None }),
                    None => Some(TimeRule::Expression(expression)),
                }
            }
            _ => {
                let message = format!(
                    "{what} takes a column, `{{column, unit, zone}}` or an expression, not {}",
                    node.shape()
                );
                self.wrong(node, "wrong_value", message, None);
                None
            }
        }
    }

    fn time_column(&mut self, node: &'a Node, what: &str) -> Option<TimeRule> {
        let fields = self.fields(node, &keys::TIME, what)?;
        let name = self.text(&fields, "column");
        let unit = self.choice(&fields, "unit").map(|word| match word {
            "s" => TimeUnit::S,
            "ms" => TimeUnit::Ms,
            "us" => TimeUnit::Us,
            _ => TimeUnit::Ns,
        });
        // A unit that is none is one all the same to who looks at the column.
        let unit = unit.or_else(|| fields.get("unit").map(|_| TimeUnit::S));
        let mut zone = self.text(&fields, "zone");
        let before = std::mem::take(&mut self.failed);
        if let (Some(zone), Some(at)) = (&zone, fields.get("zone")) {
            let zones = jiff::tz::TimeZoneDatabase::bundled();
            if zones.get(zone).is_err() {
                let all: Vec<String> = zones.available().map(|name| name.to_string()).collect();
                let hint = match nearest(zone, all.iter().map(String::as_str)) {
                    Some(found) => format!("did you mean `{found}`?"),
                    None => "e.g. `America/New_York` or `UTC`".to_owned(),
                };
                self.wrong(at, "zone_not_found", format!("{what}: `{zone}` is not a time zone"), Some(hint));
            } else if unit.is_some() {
                let message = format!("{what} has both `unit` and `zone`");
                let hint = "an integer counts from 1970-01-01 UTC and has no zone: remove `zone`";
                self.wrong(at, "conflicting_keys", message, Some(hint.to_owned()));
            }
        }
        if std::mem::replace(&mut self.failed, before) {
            // It is told, and not to be told again by who looks at the column.
            self.failed = true;
            zone = None;
        }
        Some(TimeRule::Column { name: name?, unit, zone })
    }

    /// What is written of columns, against a schema that is written too.
    fn against_schema(&mut self, source: &Source, fields: &Fields<'a>) {
        // Of files the schema may name only some columns; the rest is found at apply.
        for key in ["event_time", "available_at", "valid_until"] {
            let rule = match key {
                "event_time" => &source.event_time,
                "available_at" => &source.available_at,
                _ => &source.valid_until,
            };
            let Some(TimeRule::Column { name, unit, zone }) = rule else { continue };
            let Some(column) = source.schema.iter().find(|column| column.name == *name) else { continue };
            let Some(node) = fields.get(key) else { continue };
            use crate::DataType as T;
            let integer = matches!(
                column.data_type,
                T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64
            );
            let problem = match (&column.data_type, unit, zone) {
                (_, None, _) if integer => {
                    Some(format!("say what it counts: `{{column: {}, unit: s}}`", name))
                }
                (T::Timestamp | T::Date, Some(_), _) => {
                    Some("remove `unit`: it is a time already".to_owned())
                }
                (T::Timestamp | T::Date | T::String, ..) => None,
                _ if integer => None,
                _ => Some("a time is a timestamp, a date, a text or an integer with a unit".to_owned()),
            };
            if let Some(hint) = problem {
                let message = format!(
                    "`{key}` of {}: column `{name}` is {} in `schema`",
                    fields.what, column.data_type
                );
                self.wrong(node, "not_a_time", message, Some(hint));
            }
        }
    }
}

/// Stands for an event time that cannot be read: there is one.
fn unread() -> TimeRule {
    TimeRule::Expression(Expression { text: "to_timestamp_micros(0)".to_owned() })
}

/// Whether a key that is none may be meant to say how rows are read.
fn misspelt_place(node: &Node) -> bool {
    let Data::Map { entries, .. } = &node.data else { return false };
    let meant =
        |key: &str| nearest(key, ["path", "format", "options", "schema", "sql", "push", "past"]).is_some();
    entries
        .iter()
        .filter_map(|(key, _)| key.scalar())
        .any(|key| keys::SOURCE.key(key).is_none() && meant(key))
}

/// A plain word: taken as the column of that name, whatever SQL thinks of it.
fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
}

/// The format by the ending of a path; a folder is a Delta table.
fn by_ending(path: &str) -> Option<Format> {
    let file = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let file = ["gz", "zst", "bz2", "xz"]
        .iter()
        .find_map(|packed| file.strip_suffix(&format!(".{packed}")))
        .unwrap_or(&file);
    match file.rsplit_once('.') {
        _ if path.ends_with('/') => Some(Format::Delta),
        None if !file.contains('*') => Some(Format::Delta),
        None => None,
        Some((name, _)) => {
            let ending = &file[name.len()..];
            Format::ALL.into_iter().find(|format| format.endings().contains(&ending))
        }
    }
}

/// A column as an expression, for hints.
pub(super) fn quoted_column(name: &str) -> String {
    let expression = Expression::column(name);
    if expression.text == name { name.to_owned() } else { quote(&expression.text) }
}
