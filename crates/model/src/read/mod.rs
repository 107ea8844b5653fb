//! From the texts of a project's folder to its definitions, with all that is wrong in one go.

mod config;
mod derived;
mod fields;
mod service;
mod source;
mod view;
mod window;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use config::parse_size;
pub(crate) use fields::takes;
use fields::{Fields, Reader};

use crate::keys::{self, Takes};
use crate::nearest::did_you_mean;
use crate::yaml::{self, Data, Document, Node, span_of};
use crate::{
    About, Column, Config, DataType, Definition, Diagnostic, Diagnostics, Entity, Key, Located, Name,
    ProjectFile, Source, Span, ThingKind,
};

/// The name of the project's own file.
pub const CONFIG_FILE: &str = "asof.yaml";

/// A project's folder as read: what it defines, names not yet resolved against other projects.
#[derive(Debug, Clone)]
pub struct Project {
    /// What `asof.yaml` says.
    pub config: Config,
    /// The definitions that are good in themselves, in the order of their files.
    pub definitions: Vec<Located<Definition>>,
    /// Views and sources that are wrong in parts: what is good of them can be checked against data, so that its
    /// problems come in the same run. Nothing is made of them.
    pub half_read: Vec<Located<Definition>>,
    /// Sources whose `schema` is wrong: their columns are known by their names, and not by their types.
    pub untyped: Vec<Name>,
    /// Definitions that are there and wrong: what refers to them is not told that they are missing.
    pub(crate) broken: Vec<(ThingKind, Name)>,
}

impl Project {
    /// Reads `asof.yaml` and the files below `features/`, and checks everything that needs no data
    /// and no other project. All problems of all files come back, in the order of their places; with
    /// an error among them nothing may be applied. No project comes back where its name is unknown.
    pub fn read(files: &[ProjectFile]) -> (Option<Project>, Diagnostics) {
        let mut out = Diagnostics::new();
        let config = config::read(files, &mut out);
        let mut definitions = Vec::new();
        let mut broken = Vec::new();
        let mut half_read = Vec::new();
        let mut untyped = Vec::new();
        for file in files.iter().filter(|file| file.path != CONFIG_FILE) {
            let (documents, torn) = yaml::read(&file.path, &file.text, &mut out);
            broken.extend(torn.into_iter().filter_map(|range| salvage(&file.text[range])));
            for document in documents {
                match definition(&document, &mut out) {
                    Ok(value) => definitions.push(Located::new(value, document)),
                    Err(wrong) => {
                        let Wrong { named, part, is_untyped } = *wrong;
                        untyped.extend(named.iter().filter(|_| is_untyped).map(|(_, name)| name.clone()));
                        broken.extend(named);
                        half_read.extend(part.map(|part| Located::new(part, document)));
                    }
                }
            }
        }
        let project = config.map(|config| {
            let mut project = Project { config, definitions, half_read, untyped, broken };
            crate::check::check(&mut project, &mut out);
            project
        });
        in_order(files, &mut out);
        (project, out)
    }

    /// The definition of this kind and name.
    pub fn find(&self, kind: ThingKind, name: &str) -> Option<&Located<Definition>> {
        self.definitions.iter().find(|it| it.value.kind() == kind && it.value.name().as_str() == name)
    }

    /// The source of this name, be it wrong in parts.
    pub fn source(&self, name: &Name) -> Option<&Source> {
        self.definitions.iter().chain(&self.half_read).find_map(|it| match &it.value {
            Definition::Source(source) if source.name == *name => Some(source),
            _ => None,
        })
    }

    /// Whether the folder defines such a thing, be it wrong.
    pub(crate) fn knows(&self, kind: ThingKind, name: &Name) -> bool {
        self.find(kind, name.as_str()).is_some()
            || self.broken.iter().any(|(other, broken)| *other == kind && broken == name)
    }

    /// The names of a kind, for hints.
    pub(crate) fn names(&self, kind: ThingKind) -> Vec<&str> {
        let good =
            self.definitions.iter().filter(|it| it.value.kind() == kind).map(|it| it.value.name().as_str());
        let broken = self.broken.iter().filter(|(other, _)| *other == kind).map(|(_, name)| name.as_str());
        good.chain(broken).collect()
    }
}

/// Sorts findings by file as given, then by place, and drops equal ones.
pub(crate) fn in_order(files: &[ProjectFile], out: &mut Diagnostics) {
    let file_of = |span: &Span| files.iter().position(|file| file.path == span.file).unwrap_or(files.len());
    out.sort_by_key(|it| it.span.as_ref().map(|span| (file_of(span), span.line, span.column)));
    out.dedup();
}

/// The kind and name of a document that does not parse, from its first lines.
fn salvage(text: &str) -> Option<(ThingKind, Name)> {
    let named = |key: &str| {
        text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(':')).find_map(|name| {
            Name::new(name.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\''])).ok()
        })
    };
    [
        ("view", ThingKind::View),
        ("derived", ThingKind::Derived),
        ("service", ThingKind::Service),
        ("source", ThingKind::Source),
        ("entity", ThingKind::Entity),
    ]
    .into_iter()
    .find_map(|(key, kind)| Some((kind, named(key)?)))
}

/// What a document would have defined, and what of it could be read.
#[derive(Default)]
struct Wrong {
    named: Option<(ThingKind, Name)>,
    part: Option<Definition>,
    /// Of a source: nothing can be said of the types of its columns.
    is_untyped: bool,
}

/// Reads one document, or gives back what it would have defined.
fn definition(document: &Arc<Document>, out: &mut Diagnostics) -> Result<Definition, Box<Wrong>> {
    let mut reader = Reader::new(document, out);
    let root = &document.root;
    let Data::Map { entries, .. } = &root.data else {
        reader.wrong(
            root,
            "not_a_definition",
            format!("a document is a map that begins with its kind and name, and this is {}", root.shape()),
            Some("e.g. `view: seller_profile`".to_owned()),
        );
        return Err(Box::default());
    };
    let Some((first_key, _)) = entries.first() else {
        reader.wrong(
            root,
            "not_a_definition",
            "a document is a map that begins with its kind and name, and this is an empty one".to_owned(),
            Some("e.g. `view: seller_profile`".to_owned()),
        );
        return Err(Box::default());
    };
    // `entity` and `source` are keys of a view as well.
    let has = |key: &str| root.get(key).is_some();
    if has("entity") && has("source") && !has("view") && !has("service") {
        reader.wrong(
            first_key,
            "missing_key",
            "a document with `entity` and `source` is a view, and has no `view`".to_owned(),
            Some("begin it with `view: NAME`".to_owned()),
        );
        return Err(Box::default());
    }
    let Some(table) = keys::DOCUMENTS.iter().find(|table| has(table.thing)) else {
        let key = first_key;
        let first = key.scalar().unwrap_or_default();
        if keys::CONFIG.key(first).is_some() {
            let message = format!("`{first}` belongs into {CONFIG_FILE}");
            reader.wrong(
                key,
                "not_a_definition",
                message,
                Some("move it to the top of the project's folder".to_owned()),
            );
        } else {
            let kinds = ["entity", "source", "view", "derived", "service"];
            let hint = match first {
                "label" | "labels" => Some("labels stand in a service, under `labels`".to_owned()),
                _ => did_you_mean(first, kinds, "begin it with one of"),
            };
            reader.wrong(
                key,
                "not_a_definition",
                format!("a document that begins with `{first}` defines nothing"),
                hint,
            );
        }
        return Err(Box::default());
    };
    let named = root.get(table.thing).and_then(Node::scalar).and_then(|name| Name::new(name).ok());
    let what = match &named {
        Some(name) => format!("{} `{name}`", table.thing),
        None => format!("this {}", table.thing),
    };
    let (kind, made) = match table.thing {
        "view" => (ThingKind::View, reader.view(root, &what).map(Definition::View)),
        "derived" => (ThingKind::Derived, reader.derived(root, &what).map(Definition::Derived)),
        "service" => (ThingKind::Service, reader.service(root, &what).map(Definition::Service)),
        "source" => (ThingKind::Source, reader.source(root, &what).map(Definition::Source)),
        _ => (ThingKind::Entity, reader.entity(root, &what).map(Definition::Entity)),
    };
    match made {
        Some(made) if !reader.failed => Ok(made),
        made => {
            let part = made.filter(|made| match made {
                Definition::View(_) => true,
                Definition::Source(_) => reader.readable,
                Definition::Entity(_) | Definition::Derived(_) | Definition::Service(_) => false,
            });
            let is_untyped = reader.untyped;
            Err(Box::new(Wrong { named: named.map(|name| (kind, name)), part, is_untyped }))
        }
    }
}

impl<'a> Reader<'a> {
    fn entity(&mut self, node: &'a Node, what: &str) -> Option<Entity> {
        let fields = self.fields(node, &keys::ENTITY, what)?;
        let name = self.name(&fields, "entity");
        let about = self.about(&fields);
        let mut found = Vec::new();
        if let Some(node) = fields.get("keys") {
            for (key, data_type, at) in self.types(node, &format!("`keys` of {what}"))? {
                let name = self.name_of(at, &format!("a key of {what}"));
                if !data_type.can_be_key() {
                    let message =
                        format!("key `{key}` of {what} is a {data_type}, which does not compare exactly");
                    let hint =
                        "keys are whole numbers, decimals, strings, bytes, dates, timestamps, uuids or bools";
                    self.wrong(node.get(&key).unwrap_or(at), "bad_key_type", message, Some(hint.to_owned()));
                }
                found.extend(name.map(|name| Key { name, data_type }));
            }
            if found.is_empty() && !self.failed {
                self.wrong(
                    node,
                    "wrong_value",
                    format!("{what} has no keys"),
                    Some("e.g. `keys: {seller_id: int64}`".to_owned()),
                );
            }
        }
        Some(Entity { name: name?, keys: found, about })
    }

    /// Owner, description and tags.
    fn about(&mut self, fields: &Fields<'a>) -> About {
        About {
            owner: self.text(fields, "owner"),
            description: self.text(fields, "description"),
            tags: self.texts(fields, "tags"),
        }
    }

    /// A map of name to type, in order.
    fn types(&mut self, node: &'a Node, what: &str) -> Option<Vec<(String, DataType, &'a Node)>> {
        let mut found = Vec::new();
        for (name, key, value) in self.entries(node, what)? {
            let Some(text) = value.scalar().filter(|_| !value.is_nothing()) else {
                let message = format!("`{name}` in {what} has no type");
                self.wrong(key, "bad_type", message, Some(format!("e.g. `{name}: int64`")));
                continue;
            };
            match DataType::parse(text) {
                Ok(data_type) => found.push((name.to_owned(), data_type, key)),
                Err(_) => {
                    let hint = match type_alias(text) {
                        Some(name) => Some(format!("did you mean `{name}`?")),
                        None => {
                            let names: Vec<&str> = DataType::names().collect();
                            did_you_mean(text, names.iter().copied(), "types are")
                        }
                    };
                    self.wrong(
                        value,
                        "bad_type",
                        format!("`{name}` in {what}: `{text}` is not a type"),
                        hint,
                    );
                }
            }
        }
        Some(found)
    }

    fn columns(&mut self, fields: &Fields<'a>, key: &str) -> Vec<Column> {
        let Some(node) = fields.get(key) else { return Vec::new() };
        let what = format!("`{key}` of {}", fields.what);
        let found = self.types(node, &what).unwrap_or_default();
        found.into_iter().map(|(name, data_type, _)| Column { name, data_type }).collect()
    }

    /// A map of entity key to text.
    fn by_key(&mut self, fields: &Fields<'a>, key: &str) -> BTreeMap<Name, (String, &'a Node)> {
        let mut found = BTreeMap::new();
        let Some(node) = fields.get(key) else { return found };
        let what = format!("`{key}` of {}", fields.what);
        for (name, at, value) in self.entries(node, &what).unwrap_or_default() {
            let to = value.scalar().filter(|text| !value.is_nothing() && !text.trim().is_empty());
            if to.is_none() {
                let expected = match fields.table.key(key).map(|key| key.takes) {
                    Some(Takes::KeyNames) => "its name in requests",
                    _ => "a column of the source",
                };
                let message = format!("key `{name}` in {what} takes {expected}, not {}", value.shape());
                self.wrong(value, "wrong_value", message, None);
            }
            let name = self.name_of(at, &format!("a key in {what}"));
            if let (Some(name), Some(to)) = (name, to) {
                found.insert(name, (to.to_owned(), value));
            }
        }
        found
    }
}

/// What other systems call our types.
fn type_alias(text: &str) -> Option<&'static str> {
    let lower = text.trim().to_lowercase();
    let base = lower.split(['(', '<', '[']).next().unwrap_or_default().trim();
    Some(match base {
        "int" | "integer" | "bigint" | "long" | "i64" => "int64",
        "smallint" | "short" | "i16" => "int16",
        "i32" | "int4" => "int32",
        "tinyint" | "i8" => "int8",
        "u64" | "ubigint" => "uint64",
        "u32" => "uint32",
        "float" | "double" | "real" | "f64" | "double precision" => "float64",
        "f32" => "float32",
        "str" | "text" | "varchar" | "char" | "utf8" => "string",
        "boolean" => "bool",
        "datetime" | "timestamptz" | "time" => "timestamp",
        "binary" | "blob" | "bytea" => "bytes",
        "numeric" => "decimal(p,s)",
        "array" => "list<T>",
        "jsonb" => "json",
        "guid" => "uuid",
        _ => return None,
    })
}

/// A place at the top of a file.
fn top_of(path: &str, text: &str) -> Span {
    span_of(path, text, Range { start: 0, end: 0 })
}

/// A finding about the project's own file.
fn config_error(code: &str, message: &str, hint: &str) -> Diagnostic {
    Diagnostic::error(code, message).hint(hint)
}
