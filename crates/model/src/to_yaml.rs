//! Definitions back into the YAML they are written in, in one layout.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::yaml::quote;
use crate::{
    About, Definition, Feature, Features, Format, History, Label, Literal, Name, NamedWindow, NullKeys, Past,
    Pick, Place, TimeRule, TimeUnit, Version, Window,
};

/// One document. Reading it again gives the same definition.
pub fn to_yaml(definition: &Definition) -> String {
    let mut out = Lines::default();
    match definition {
        Definition::Entity(it) => {
            out.put(0, "entity", it.name.as_str());
            out.head(0, "keys");
            for key in &it.keys {
                out.put(1, key.name.as_str(), &key.data_type.to_string());
            }
            out.about(0, &it.about);
        }
        Definition::Source(it) => {
            out.put(0, "source", it.name.as_str());
            match &it.place {
                Place::Files { path, format, options } => out.files(0, path, *format, options),
                Place::Sql { text } => out.put(0, "sql", text),
                Place::Push { past } => {
                    out.put(0, "push", "true");
                    if let Some(Past { path, format, options, until }) = past {
                        out.head(0, "past");
                        out.files(1, path, *format, options);
                        if let Some(until) = until {
                            out.put(1, "until", &until.to_string());
                        }
                    }
                }
            }
            if it.store {
                out.put(0, "store", "true");
            }
            match &it.event_time {
                Some(rule) => out.time("event_time", rule),
                None => out.put(0, "event_time", "none"),
            }
            for (key, rule) in [("available_at", &it.available_at), ("valid_until", &it.valid_until)] {
                if let Some(rule) = rule {
                    out.time(key, rule);
                }
            }
            for (key, expression) in
                [("id", &it.id), ("order_by", &it.order_by), ("delete_when", &it.delete_when)]
            {
                if let Some(expression) = expression {
                    out.put(0, key, &expression.text);
                }
            }
            if it.null_keys == NullKeys::Refuse {
                out.put(0, "null_keys", "refuse");
            }
            if !it.schema.is_empty() {
                out.head(0, "schema");
            }
            for column in &it.schema {
                out.put(1, &column.name, &column.data_type.to_string());
            }
            out.about(0, &it.about);
        }
        Definition::View(it) => {
            out.put(0, "view", it.name.as_str());
            out.put(0, "entity", &it.entity.to_string());
            out.put(0, "source", &it.source.to_string());
            if !it.keys.is_empty() {
                out.head(0, "keys");
            }
            for (key, column) in &it.keys {
                out.put(1, key.as_str(), column);
            }
            if let Some(filter) = &it.filter {
                out.put(0, "where", &filter.text);
            }
            if !it.windows.is_empty() {
                out.windows(0, &it.windows);
            }
            for (key, length) in [("ttl", it.ttl), ("refresh", it.refresh), ("retention", it.retention)] {
                if let Some(length) = length {
                    out.put(0, key, &length.to_string());
                }
            }
            match it.history {
                History::None => {}
                History::All => out.put(0, "history", "all"),
                History::Length(length) => out.put(0, "history", &length.to_string()),
            }
            match &it.features {
                Features::Star => out.line("features: \"*\""),
                Features::Named(features) => {
                    out.head(0, "features");
                    features.iter().for_each(|feature| out.feature(feature));
                }
            }
            out.about(0, &it.about);
        }
        Definition::Derived(it) => {
            out.put(0, "derived", it.name.as_str());
            if !it.request.is_empty() {
                out.head(0, "request");
            }
            for column in &it.request {
                out.put(1, column.name.as_str(), &column.data_type.to_string());
            }
            out.head(0, "features");
            it.features.iter().for_each(|feature| out.feature(feature));
            out.about(0, &it.about);
        }
        Definition::Service(it) => {
            out.put(0, "service", it.name.as_str());
            if it.full_names {
                out.put(0, "full_names", "true");
            }
            out.head(0, "features");
            it.features.iter().for_each(|pick| out.pick(pick));
            if !it.labels.is_empty() {
                out.head(0, "labels");
            }
            it.labels.iter().for_each(|label| out.label(label));
            out.about(0, &it.about);
        }
    }
    out.text
}

/// A version as the plan shows it: `*` written out, columns of a source as found, a feature's type
/// behind it.
pub(crate) fn version_lines(version: &Version) -> String {
    let mut definition = version.definition();
    match (&mut definition, version) {
        (Definition::Source(source), Version::Source(it)) => source.schema = it.columns.clone(),
        (Definition::View(view), Version::View(it)) => {
            // Aggregates stay as they are written; their windows are told by the names behind them.
            if !view.is_window() {
                view.features = Features::Named(it.features.iter().map(|it| it.feature.clone()).collect());
            }
            for key in &it.keys {
                view.keys.insert(key.key.name.clone(), key.column.clone());
            }
        }
        _ => {}
    }
    let mut text = to_yaml(&definition);
    match version {
        Version::View(it) => {
            text.push_str("types:\n");
            for feature in &it.features {
                let _ = writeln!(text, "  {}: {}", feature.feature.name, feature.data_type);
            }
        }
        Version::Derived(it) => {
            text.push_str("types:\n");
            for feature in &it.features {
                let _ = writeln!(text, "  {}: {}", feature.feature.name, feature.data_type);
            }
        }
        Version::Service(it) => {
            text.push_str("columns:\n");
            for column in &it.selection.columns {
                let _ = writeln!(text, "  {}: {}", column.name, column.data_type);
            }
            for label in &it.selection.labels {
                let _ = writeln!(text, "  {}: {}", label.name, label.data_type);
            }
        }
        _ => {}
    }
    text
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn head(&mut self, depth: usize, key: &str) {
        self.line(&format!("{}{key}:", "  ".repeat(depth)));
    }

    fn put(&mut self, depth: usize, key: &str, value: &str) {
        let indent = "  ".repeat(depth);
        let key = scalar(key);
        if value.contains('\n') && fits_block(value) {
            self.line(&format!("{indent}{key}: |-"));
            for line in value.split('\n') {
                self.line(if line.is_empty() { String::new() } else { format!("{indent}  {line}") }.as_str());
            }
        } else {
            self.line(&format!("{indent}{key}: {}", scalar(value)));
        }
    }

    fn files(&mut self, depth: usize, path: &str, format: Format, options: &BTreeMap<String, String>) {
        self.put(depth, "path", path);
        self.put(depth, "format", format.name());
        if !options.is_empty() {
            self.head(depth, "options");
        }
        for (name, value) in options {
            self.put(depth + 1, name, value);
        }
    }

    fn about(&mut self, depth: usize, about: &About) {
        if let Some(description) = &about.description {
            self.put(depth, "description", description);
        }
        if let Some(owner) = &about.owner {
            self.put(depth, "owner", owner);
        }
        if !about.tags.is_empty() {
            self.head(depth, "tags");
        }
        for tag in &about.tags {
            self.line(&format!("{}- {}", "  ".repeat(depth + 1), scalar(tag)));
        }
    }

    fn time(&mut self, key: &str, rule: &TimeRule) {
        match rule {
            TimeRule::Column { name, unit: None, zone: None } if is_word(name) && name != "none" => {
                self.put(0, key, name);
            }
            TimeRule::Column { name, unit, zone } => {
                self.head(0, key);
                self.put(1, "column", name);
                if let Some(unit) = unit {
                    let unit = match unit {
                        TimeUnit::S => "s",
                        TimeUnit::Ms => "ms",
                        TimeUnit::Us => "us",
                        TimeUnit::Ns => "ns",
                    };
                    self.put(1, "unit", unit);
                }
                if let Some(zone) = zone {
                    self.put(1, "zone", zone);
                }
            }
            TimeRule::Expression(expression) => self.put(0, key, &expression.text),
        }
    }

    fn feature(&mut self, feature: &Feature) {
        let Feature { name, expression, aggregate, default, sensitivity, about } = feature;
        if aggregate.is_none() && default.is_none() && sensitivity.is_none() && *about == About::default() {
            return self.put(1, name.as_str(), &expression.text);
        }
        self.head(1, name.as_str());
        self.put(2, if aggregate.is_some() { "agg" } else { "expr" }, &expression.text);
        if let Some(aggregate) = aggregate
            && !aggregate.windows.is_empty()
        {
            self.windows(2, &aggregate.windows);
        }
        if let Some(default) = default {
            let written = match default {
                Literal::Text(text) => quote(text),
                plain => plain.to_string(),
            };
            self.line(&format!("    default: {written}"));
        }
        if let Some(sensitivity) = sensitivity {
            self.put(2, "sensitivity", sensitivity);
        }
        self.about(2, about);
    }

    fn windows(&mut self, depth: usize, windows: &[NamedWindow]) {
        let written: Vec<String> = windows.iter().map(window).collect();
        self.line(&format!("{}windows: [{}]", "  ".repeat(depth), written.join(", ")));
    }

    fn pick(&mut self, pick: &Pick) {
        let feature = pick.feature.as_ref().map_or("*", |name| name.as_str());
        let from = format!("{}.{feature}", pick.view);
        if pick.keys.is_empty() && pick.alias.is_none() {
            return self.line(&format!("  - {}", scalar(&from)));
        }
        self.line(&format!("  - from: {}", scalar(&from)));
        self.role(&pick.keys, pick.alias.as_ref());
    }

    fn label(&mut self, label: &Label) {
        self.line(&format!("  - from: {}", scalar(&format!("{}.{}", label.view, label.feature))));
        self.put(2, "after", &label.after.to_string());
        self.role(&label.keys, label.alias.as_ref());
    }

    fn role(&mut self, keys: &BTreeMap<Name, Name>, alias: Option<&Name>) {
        if !keys.is_empty() {
            self.head(2, "keys");
        }
        for (key, asked) in keys {
            self.put(3, key.as_str(), asked.as_str());
        }
        if let Some(alias) = alias {
            self.put(2, "as", alias.as_str());
        }
    }
}

fn window(named: &NamedWindow) -> String {
    let Window { length, offset, include_now, resolution } = named.window;
    let length = length.map_or_else(|| "all".to_owned(), |length| length.to_string());
    let mut more = String::new();
    if !offset.is_zero() {
        let _ = write!(more, ", offset: {offset}");
    }
    if include_now {
        more.push_str(", include_now: true");
    }
    if let Some(resolution) = resolution {
        let _ = write!(more, ", resolution: {resolution}");
    }
    if let Some(alias) = &named.alias {
        let _ = write!(more, ", as: {}", scalar(alias.as_str()));
    }
    if more.is_empty() { length } else { format!("{{length: {length}{more}}}") }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !text.is_empty()
}

/// Whether a text of several lines can stand after `|-` as it is.
fn fits_block(value: &str) -> bool {
    !value.starts_with([' ', '\n'])
        && !value.ends_with([' ', '\n'])
        && value.chars().all(|letter| letter == '\n' || !letter.is_control())
}

/// A text as a scalar of one line, in quotes where YAML or our reader would take it otherwise.
fn scalar(value: &str) -> String {
    let first_is_plain =
        value.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '(' | '/' | '.' | '+'));
    let plain = first_is_plain
        && !value.contains(": ")
        && !value.contains(" #")
        && !value.ends_with([':', ' '])
        && !matches!(value, "null" | "none" | "...")
        && value.chars().all(|letter| {
            !letter.is_control()
                && letter != '\u{feff}'
                && letter != '\u{2028}'
                && letter != '\u{2029}'
                && letter != '\u{85}'
        });
    // The one place where the word `none` has a meaning writes it so.
    if plain || value == "none" { value.to_owned() } else { quote(value) }
}
