//! Rows that come one by one or in files, to a node that answers meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::intake::BodyFormat;
use asof_engine::no_progress;
use asof_flow::{Durability, PushReport, PushRequest};
use asof_model::{Column, Origin, Principal, Question, Timestamp};
use asof_serve::{EntityColumns, PreparedSelection};

use super::folder::{Answers, Case, TIME};
use super::given::{Coming, Given, definitions, spine, times};
use super::offline::Offline;
use crate::fixture::name;
use crate::node::{Node, resolved};

/// In which order rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Pushed when they are known, rows of one v in the order of the file; every batch is sent twice under its
    /// Idempotency-Key.
    AsKnown,
    /// The same, but rows of one v the other way round; where rows have ids, the newest versions are sent again.
    Reversed,
    /// Loaded with their own v, the file upside down.
    Loaded,
    /// Every other row is pushed when it is known; the others are loaded when all those are there.
    Late,
}

impl Order {
    pub(super) const ALL: [Order; 4] = [Order::AsKnown, Order::Reversed, Order::Loaded, Order::Late];
}

/// What comes at once.
struct Batch {
    /// The source, by its place in what is given.
    source: usize,
    rows: Vec<usize>,
    /// When it is pushed; none: it is loaded.
    v: Option<i64>,
}

fn arrivals(given: &[Given], order: Order) -> Vec<Batch> {
    let mut pushed: BTreeMap<(i64, usize), Vec<usize>> = BTreeMap::new();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (source, given) in given.iter().enumerate().filter(|(_, given)| given.has_clock()) {
        let mut loaded = Vec::new();
        for (row, v) in given.v.iter().enumerate() {
            let is_pushed = match order {
                Order::AsKnown | Order::Reversed => true,
                Order::Loaded => false,
                Order::Late => row % 2 == 0,
            };
            match v.filter(|_| is_pushed) {
                Some(v) => pushed.entry((v, source)).or_default().push(row),
                // What is never known cannot be pushed.
                None => loaded.push(row),
            }
        }
        if order != Order::AsKnown {
            loaded.reverse();
        }
        if !loaded.is_empty() {
            let at_last = order == Order::Late;
            (if at_last { &mut after } else { &mut before }).push(Batch { source, rows: loaded, v: None });
        }
    }
    let pushed = pushed.into_iter().map(|((v, source), mut rows)| {
        if order == Order::Reversed {
            rows.reverse();
        }
        Batch { source, rows, v: Some(v) }
    });
    before.into_iter().chain(pushed).chain(after).collect()
}

/// A case on a node of its own.
pub(super) struct Room<'a> {
    case: &'a Case,
    given: &'a [Given],
    folder: tempfile::TempDir,
    node: Option<Node>,
    loads: usize,
    /// Values that were compared online.
    pub(super) served: usize,
}

impl<'a> Room<'a> {
    pub(super) fn new(case: &'a Case, given: &'a [Given], coming: Coming, history: bool) -> Room<'a> {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(&case.folder).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        // Before anything is known or asked.
        let asked = times(&spine(case, &[]));
        let known = given.iter().flat_map(|given| given.v.iter().flatten().copied());
        let start = asked.into_iter().chain(known).min().unwrap_or(0);
        let node = Node::open(folder.path(), start.saturating_sub(1_000_000).max(Timestamp::FIRST.0));
        let text = definitions(case, given, coming, history);
        node.put(resolved(&node.runtime, &node.engine, folder.path(), &text));
        let room = Room { case, given, folder, node: Some(node), loads: 0, served: 0 };
        // A source's first push gives it a number, which takes a v of its own.
        if coming == Coming::Pushed {
            for given in given.iter().filter(|given| given.has_clock()) {
                room.push(given.name(), &given.take(&[]), BodyFormat::Arrow, None);
            }
        }
        room
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    pub(super) fn restart(&mut self) {
        let now = self.node().now();
        drop(self.node.take());
        self.node = Some(Node::open(self.folder.path(), now));
    }

    pub(super) fn materialize(&self) {
        self.node().materialize();
    }

    /// After everything that happens, is known or is asked.
    pub(super) fn to_the_end(&self) {
        let given = self.given.iter().flat_map(|it| it.e.iter().chain(&it.v).flatten().copied());
        let last = given.chain(times(&spine(self.case, &[]))).max().unwrap_or(0);
        self.node().clock.set(last.saturating_add(1_000_000).max(self.node().now()).min(Timestamp::LAST.0));
    }

    fn push(&self, source: &str, rows: &RecordBatch, format: BodyFormat, key: Option<&str>) -> PushReport {
        let mut body = Vec::new();
        if format == BodyFormat::Ndjson {
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut body);
            writer.write(rows).unwrap();
            writer.finish().unwrap();
        } else {
            let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut body, &rows.schema()).unwrap();
            writer.write(rows).unwrap();
            writer.finish().unwrap();
        }
        let mut request = PushRequest::new(body, format);
        request.durability = Durability::Relaxed;
        request.idempotency_key = key.map(str::to_owned);
        let (owner, shop, source) = (Principal::owner(), name("shop"), name(source));
        let pushed = self.node().runtime.block_on(self.node().flow.push(&owner, &shop, &source, request));
        pushed.unwrap_or_else(|error| panic!("{}: {error}", self.case.name))
    }

    fn load(&mut self, given: &Given, rows: &RecordBatch) {
        self.loads += 1;
        let called = format!("load-{}.parquet", self.loads);
        let path = self.folder.path().join(&called);
        given.parquet(rows, &path);
        let file = LoadFile { path, name: called, partitions: Vec::new() };
        let (owner, shop, source) = (Principal::owner(), name("shop"), name(given.name()));
        let node = self.node();
        let load = node.flow.load(&owner, &shop, &source, Some(vec![file]), OnBadRow::Stop, no_progress());
        let report = node.runtime.block_on(load);
        let report = report.unwrap_or_else(|error| panic!("{}: {error}", self.case.name));
        assert_eq!(report.rows, rows.num_rows() as u64, "{}: loaded rows", self.case.name);
    }

    /// Has all rows come, in an order; between them, where all of a time is there, asks at that time as of now.
    /// `between` is called after every batch with its number.
    pub(super) fn stream(&mut self, order: Order, mut between: impl FnMut(&mut Room<'_>, usize)) {
        let mut instants = self.instants().into_iter().peekable();
        let is_live = matches!(order, Order::AsKnown | Order::Reversed);
        let arrivals = arrivals(self.given, order);
        for (number, batch) in arrivals.iter().enumerate() {
            let given = &self.given[batch.source];
            let rows = given.take(&batch.rows);
            let Some(v) = batch.v else {
                self.load(given, &rows);
                between(self, number);
                continue;
            };
            while let Some(t) = instants.next_if(|t| is_live && *t < v) {
                self.live(t);
            }
            self.node().clock.set(v);
            let json = order == Order::Reversed && !has_special_floats(&rows);
            let format = if json { BodyFormat::Ndjson } else { BodyFormat::Arrow };
            let key = format!("batch {number}");
            let key = (order == Order::AsKnown).then_some(key.as_str());
            let report = self.push(given.name(), &rows, format, key);
            assert_eq!(
                report.visible_at,
                Timestamp(v),
                "{}: rows of `{}` are not known when they say: give no two sources rows of one v, or none at a time \
                 that is asked before",
                self.case.name,
                given.name()
            );
            assert!(
                report.already_there.is_empty(),
                "{}: {:?} of {number}",
                self.case.name,
                report.already_there
            );
            if key.is_some() {
                let again = self.push(given.name(), &rows, format, key);
                assert!(again.repeated && again.first == report.first, "{}: {again:?}", self.case.name);
            } else if given.has_lone_versions(&batch.rows) && order == Order::Reversed {
                let again = self.push(given.name(), &rows, format, None);
                assert_eq!(again.already_there.len(), rows.num_rows(), "{}: {again:?}", self.case.name);
            }
            between(self, number);
        }
        for t in instants.filter(|_| is_live) {
            self.live(t);
        }
    }

    /// Asks without `as_of` when it is `t`.
    fn live(&mut self, t: i64) {
        self.node().clock.set(t);
        self.served += self.read(t, None);
    }

    /// Asks for every spine row as of its time.
    pub(super) fn as_of(&mut self) {
        for t in self.instants() {
            self.served += self.read(t, Some(t));
        }
    }

    /// Materialises at each time that is asked, and asks then without `as_of`.
    pub(super) fn materialize_and_ask(&mut self) {
        for t in self.instants() {
            self.node().clock.set(t);
            self.materialize();
            self.live(t);
        }
    }

    /// The times asked, each once.
    fn instants(&self) -> Vec<i64> {
        let mut instants = times(&spine(self.case, &[]));
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    fn read(&self, t: i64, as_of: Option<i64>) -> usize {
        let node = self.node();
        let catalog = node.registry.catalog();
        let prepared = node.reader.prepare(&catalog, &name("shop"), &self.case.ask(), false);
        let prepared = prepared.unwrap_or_else(|error| panic!("{}: {error}", self.case.name));
        let rows = times(&spine(self.case, &[]));
        let rows: Vec<usize> = (0..rows.len()).filter(|row| rows[*row] == t).collect();
        let entities = entities(self.case, &prepared, &rows);
        let about = match as_of {
            Some(t) => format!("as of {}", Timestamp(t)),
            None => format!("when it is {}", Timestamp(t)),
        };
        let found = node.reader.read(&prepared, &entities, as_of.map(Timestamp));
        let found = found.unwrap_or_else(|error| panic!("{}, {about}: {error}", self.case.name));
        assert_eq!(found.at, Timestamp(t), "{}, {about}", self.case.name);
        let mut answers = Answers::default();
        for column in found.columns() {
            answers.value(&column.about.name, &column.array().unwrap());
            let statuses: Option<Vec<String>> = match (column.statuses(), column.about.from) {
                (Some(statuses), _) => Some(statuses.map(str::to_owned).collect()),
                (None, Origin::Feature { reading, .. }) => {
                    Some(found.readings[reading].status.iter().map(|it| it.name().to_owned()).collect())
                }
                (None, Origin::Derived { .. }) => None,
            };
            answers.statuses.extend(statuses.map(|statuses| (column.about.name.clone(), statuses)));
        }
        self.case.check(Question::Known, &rows, &answers, &about)
    }

    /// Trains from what there is by now; how many values were compared.
    pub(super) fn train(&self, about: &str) -> usize {
        let node = self.node();
        let catalog = node.registry.catalog();
        let offline =
            Offline { case: self.case, catalog: &catalog, engine: &node.engine, runtime: &node.runtime };
        offline.train(about)
    }

    /// Moves at most so many bytes of each source's rows from the log into its table, and stops before the log is
    /// trimmed, as a flusher does that is cut off.
    pub(super) fn flush_untrimmed(&self, most: u64) -> u64 {
        let node = self.node();
        let catalog = node.registry.catalog();
        let sources = self.given.iter().filter(|given| given.has_clock());
        let sources: Vec<_> =
            sources.map(|given| Arc::clone(catalog.source(&given.source.address).unwrap())).collect();
        node.runtime.block_on(async {
            let held = node.engine.hold_tail().await.unwrap().unwrap();
            let mut rows = 0;
            for source in &sources {
                rows += node.engine.flush(source, &held, most).await.unwrap().rows;
            }
            rows
        })
    }

    pub(super) fn flush(&self) {
        self.node().runtime.block_on(self.node().flow.flush()).unwrap();
    }
}

impl Given {
    /// Whether every one of these rows has an id, and none the same: sent again, each stands already.
    fn has_lone_versions(&self, rows: &[usize]) -> bool {
        let Some(id) = &self.source.definition.id else { return false };
        let Some(ids) = self.rows.column_by_name(&id.text) else { return false };
        let mut seen = std::collections::HashSet::new();
        rows.iter().all(|row| ids.is_valid(*row) && seen.insert(super::text::text(ids, *row)))
    }
}

/// JSON has no NaN and no infinities.
fn has_special_floats(rows: &RecordBatch) -> bool {
    let mut floats = rows.columns().iter().filter_map(|column| column.as_primitive_opt::<Float64Type>());
    floats.any(|floats| floats.iter().flatten().any(|float| !float.is_finite()))
}

/// The keys of some spine rows, and what their requests bring.
fn entities(case: &Case, prepared: &PreparedSelection, rows: &[usize]) -> EntityColumns {
    let keys = prepared.keys().iter();
    let keys = keys.map(|key| Column { name: key.name.clone(), data_type: key.data_type.clone() });
    let request = prepared.selection().request.iter();
    let request = request.map(|it| Column { name: it.name.to_string(), data_type: it.data_type.clone() });
    let wanted: Vec<Column> = keys.chain(request).collect();
    let spine = spine(case, &wanted);
    let rows: arrow::array::UInt32Array = rows.iter().map(|row| Some(*row as u32)).collect();
    let spine = arrow::compute::take_record_batch(&spine, &rows).unwrap();
    let columns = wanted.iter().filter(|column| column.name != TIME).map(|column| {
        let found = spine.column_by_name(&column.name);
        let found = found.unwrap_or_else(|| panic!("{}: spine.csv has no `{}`", case.name, column.name));
        (column.name.clone(), Arc::clone(found))
    });
    let mut columns: Vec<_> = columns.collect();
    columns.dedup_by(|a, b| a.0 == b.0);
    EntityColumns::new(columns).unwrap()
}
