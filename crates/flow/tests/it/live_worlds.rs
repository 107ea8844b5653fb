//! Random worlds pushed row by row and read back online: latest values and windows as the oracle of the test kit says,
//! with what is derived of them, now and as of any instant of the history; and trained on, with labels. With versions, withdrawals, retries and loads, over restarts.

mod beside_a_past;
mod bounded;
mod offline;
mod replayed;
mod service;
mod tiled;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use asof_compute::{Outcome, Status};
use asof_engine::delta::{LoadFile, OnBadRow};
use asof_engine::intake::BodyFormat;
use asof_engine::no_progress;
use asof_flow::{Durability, PushRequest};
use asof_model::{
    About, Aggregate, DataType, Double, Entity, EntityVersion, Feature, Features, Format, History, Key,
    Length, Literal, NamedWindow, Origin, OutputColumn, Place, Principal, Question, Reading, Reference,
    Selection, SourceVersion, Timestamp, TypedFeature, Version, VersionId, View, ViewKey, ViewVersion,
    Window,
};
use asof_serve::{EntityColumns, PreparedSelection};
use asof_testkit::oracle::{derived, latest, latest_n, latest_state, windows};
use asof_testkit::{
    Edges, Kind, Random, Read, Row, Shape, SpineRow, Step, Value, View as TestView, WindowView, World, called,
};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::fixture::{address, expression, name, source};
use crate::node::Node;
use offline::{Training, compare_offline};

/// Its `v`, and `s` where it was stored.
fn push(node: &Node, rows: &RecordBatch) -> (i64, Option<i64>) {
    let mut body = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut body, &rows.schema()).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let mut request = PushRequest::new(body, BodyFormat::Arrow);
    request.durability = Durability::Relaxed;
    let (owner, shop, source) = (Principal::owner(), name("shop"), name("prices"));
    let report = node.runtime.block_on(node.flow.push(&owner, &shop, &source, request)).unwrap();
    (report.visible_at.0, report.first)
}

fn source_of(world: &World, kind: Kind) -> SourceVersion {
    let made = source(true);
    let at =
        |column: &str| Some(asof_model::TimeRule::Column { name: column.to_owned(), unit: None, zone: None });
    let place = match kind {
        Kind::Pushed | Kind::Mixed => {
            // What has no position was not loaded: it is read where it is.
            let past = asof_model::Past {
                path: "past/*.parquet".to_owned(),
                format: Format::Parquet,
                options: BTreeMap::new(),
                until: None,
            };
            Place::Push { past: world.rows.iter().any(|row| row.s.is_none()).then_some(past) }
        }
        Kind::InPlace | Kind::Stored => Place::Files {
            path: "data/*.parquet".to_owned(),
            format: Format::Parquet,
            options: Default::default(),
        },
    };
    SourceVersion {
        definition: asof_model::Source {
            place,
            store: kind == Kind::Stored,
            event_time: at("at"),
            available_at: if world.available_at { at("seen") } else { None },
            valid_until: at("ends"),
            id: world.ids.then(|| expression("id")),
            order_by: Some(expression("rank")),
            delete_when: Some(expression("gone")),
            schema: match kind {
                Kind::Pushed | Kind::Mixed => world.own_columns(),
                Kind::InPlace | Kind::Stored => Vec::new(),
            },
            ..made.definition
        },
        columns: world.own_columns(),
        ..made
    }
}

fn literal(value: &Value) -> Literal {
    match value {
        Value::Int(value) => Literal::Int(*value),
        Value::Float(value) => Literal::Float(Double::new(value.get()).unwrap()),
        Value::Text(value) => Literal::Text(value.clone()),
        other => panic!("{other:?} is no default"),
    }
}

fn plain(called: &str, text: &str, data_type: DataType) -> TypedFeature {
    TypedFeature {
        feature: Feature {
            name: name(called),
            expression: expression(text),
            aggregate: None,
            default: None,
            sensitivity: None,
            about: About::default(),
        },
        data_type,
    }
}

fn over_windows(view: &WindowView) -> Vec<TypedFeature> {
    let features = view.features().enumerate().map(|(at, (asked, window))| {
        let (call, function) = called(asked).unwrap();
        let window = Window {
            length: window.length.map(Length::from_micros),
            offset: Length::from_micros(window.offset),
            include_now: window.include_now,
            resolution: window.resolution.map(Length::from_micros),
        };
        let mut typed = plain(&format!("f{at}"), &asked.to_string(), function.data_type());
        typed.feature.aggregate =
            Some(Aggregate { call, windows: vec![NamedWindow { window, alias: None }] });
        typed.feature.default = asked.default.as_ref().map(literal);
        typed
    });
    features.collect()
}

fn key(column: &str) -> Key {
    let data_type = if column == "user" { DataType::String } else { DataType::Int64 };
    Key { name: name(column), data_type }
}

fn view_of(test: &TestView, called: &str, features: Vec<TypedFeature>, history: History) -> ViewVersion {
    let reference = |text: &str| Reference { project: None, name: name(text) };
    ViewVersion {
        address: address(called),
        id: VersionId(format!("{called:0>32}")),
        definition: View {
            name: name(called),
            entity: reference(&test.keys.join("_")),
            source: reference("prices"),
            keys: Default::default(),
            filter: test.filter.then(|| expression("state <> 'spam'")),
            ttl: test.ttl.map(Length::from_micros),
            history,
            refresh: None,
            windows: Vec::new(),
            retention: None,
            features: Features::Named(features.iter().map(|typed| typed.feature.clone()).collect()),
            about: About::default(),
        },
        entity: address(&test.keys.join("_")),
        source: address("prices"),
        source_id: source(true).id,
        keys: test
            .keys
            .iter()
            .map(|column| ViewKey { key: key(column), column: (*column).to_owned() })
            .collect(),
        features,
    }
}

fn entity_of(test: &TestView) -> EntityVersion {
    let called = test.keys.join("_");
    EntityVersion {
        address: address(&called),
        id: VersionId(format!("{called:0>32}")),
        definition: Entity {
            name: name(&called),
            keys: test.keys.iter().map(|column| key(column)).collect(),
            about: About::default(),
        },
    }
}

/// Views of a world in one of their versions, and what asks for all their features.
fn defined(
    node: &Node,
    world: &World,
    (kind, history): (Kind, History),
    generation: usize,
) -> (Vec<Version>, Arc<PreparedSelection>) {
    let source = Arc::new(source_of(world, kind));
    let mut put = vec![Version::Source(Arc::clone(&source))];
    let (mut readings, mut columns) = (Vec::new(), Vec::new());
    let plain_views = world.views.iter().enumerate().map(|(number, test)| {
        let mut n = plain("n", "n", DataType::Int64);
        n.feature.default = test.default.map(Literal::Int);
        (
            test,
            view_of(
                test,
                &format!("view_{number}"),
                vec![n, plain("state", "state", DataType::String)],
                history,
            ),
        )
    });
    let window_views = world.window_views.iter().enumerate().map(|(number, test)| {
        (&test.view, view_of(&test.view, &format!("windows_{number}"), over_windows(test), history))
    });
    let mut entities: Vec<String> = Vec::new();
    for (number, (test, mut view)) in plain_views.chain(window_views).enumerate() {
        view.id = VersionId(format!("{generation}{}", view.id.0));
        if !entities.contains(&test.keys.join("_")) {
            entities.push(test.keys.join("_"));
            put.push(Version::Entity(Arc::new(entity_of(test))));
        }
        let view = Arc::new(view);
        put.push(Version::View(Arc::clone(&view)));
        columns.extend(view.features.iter().enumerate().map(|(feature, typed)| OutputColumn {
            name: format!("{number}_{}", typed.feature.name),
            from: Origin::Feature { reading: number, feature },
            data_type: typed.data_type.clone(),
        }));
        let keys = test.spine_keys.iter().map(|key| name(key)).collect();
        readings.push(Reading { view, source: Arc::clone(&source), keys });
    }
    let mut selection = Selection {
        project: name("shop"),
        service: None,
        columns,
        readings,
        request: Vec::new(),
        steps: Vec::new(),
        labels: Vec::new(),
    };
    service::add(world, &mut selection);
    (put, PreparedSelection::deriving(selection, &node.engine).unwrap())
}

fn value(array: &ArrayRef, row: usize) -> Value {
    use arrow::datatypes::DataType as Arrow;
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        Arrow::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        Arrow::Float64 => Value::float(array.as_primitive::<Float64Type>().value(row)),
        Arrow::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
        Arrow::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let Some(pairs) = items.as_struct_opt() else {
                return Value::List((0..items.len()).map(|at| value(&items, at)).collect());
            };
            let count = pairs.column(1).as_primitive::<Int64Type>();
            let pair = |at: usize| (value(pairs.column(0), at), count.value(at));
            Value::Counts((0..items.len()).map(pair).collect())
        }
        other => panic!("no value of the oracle is {other}"),
    }
}

/// What the oracle answers a spine row of a case at `t`, of the rows that were given: of each column its value and status.
fn wanted(
    world: &World,
    given: &[usize],
    (case, spine): (usize, &SpineRow),
    t: i64,
    question: Question,
) -> Vec<(Value, &'static str)> {
    let own = &world.cases[case].0;
    let rows = given.iter().filter(|given| own.contains(given)).map(|given| world.rows[*given].clone());
    let rows: Vec<Row> = rows.collect();
    let mut wanted = Vec::new();
    for view in &world.views {
        let answer = latest(&rows, view, &view.asked(spine), t, question);
        let status = answer.0.name();
        wanted.push((latest_n(view, answer).map_or(Value::Null, Value::Int), status));
        wanted.push((latest_state(answer).map_or(Value::Null, |it| Value::Text(it.to_owned())), status));
    }
    for view in &world.window_views {
        let answers = windows(&rows, view, &view.view.asked(spine), t, question);
        wanted.extend(answers.into_iter().map(|answer| (answer.value, answer.status.name())));
    }
    let feature = |read: Read| wanted[service::column(world, read)].0.clone();
    let computed = derived(world, &SpineRow { t, ..spine.clone() }, feature);
    wanted.extend(computed.into_iter().map(|value| (value, COMPUTED)));
    wanted
}

/// Holds what was found, by column and asked row, against the oracle; how many answers of windows.
fn compare_found<'a>(
    world: &World,
    given: &[usize],
    asked: &[(usize, &SpineRow)],
    question: Question,
    found: impl Fn(usize, usize) -> (Value, &'a str),
    about: &str,
) -> usize {
    let mut compared = 0;
    for (row, (case, spine)) in asked.iter().enumerate() {
        let wanted = wanted(world, given, (*case, spine), spine.t, question);
        for (column, wanted) in wanted.iter().enumerate() {
            let found = found(column, row);
            assert!(found == *wanted, "{}", {
                let over = column.checked_sub(2 * world.views.len());
                let features = world.window_views.iter().flat_map(WindowView::features);
                let called =
                    over.and_then(|over| features.map(|(it, over)| format!("{it} {over:?}")).nth(over));
                let rows: Vec<_> = given.iter().filter(|it| world.cases[*case].0.contains(it)).collect();
                let rows: Vec<&Row> = rows.into_iter().map(|it| &world.rows[*it]).collect();
                format!(
                    "{about}, {question:?}: column {column} {called:?} of {spine:?}\n{found:?}, not {wanted:?}\n{rows:#?}"
                )
            });
        }
        compared += wanted.len() - 2 * world.views.len() - world.service.derived.len();
    }
    compared
}

/// What these spine rows ask for.
fn entities(prepared: &PreparedSelection, asked: &[(usize, &SpineRow)]) -> EntityColumns {
    let shop: ArrayRef = Arc::new(asked.iter().map(|(_, row)| row.shop).collect::<Int64Array>());
    let other: ArrayRef = Arc::new(asked.iter().map(|(_, row)| row.other_shop).collect::<Int64Array>());
    let user: ArrayRef = Arc::new(asked.iter().map(|(_, row)| row.user.as_deref()).collect::<StringArray>());
    let keys = [("shop", shop), ("other_shop", other), ("user", user)];
    let wanted = |name: &str| prepared.keys().iter().any(|key| key.name == name);
    let mut columns: Vec<(String, ArrayRef)> = keys
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, keys)| (name.to_owned(), keys))
        .collect();
    let (quantity, price) = service::brought_columns(asked.iter().map(|(_, row)| *row));
    for (called, values) in [("quantity", quantity), ("price", price)] {
        if prepared.selection().request.iter().any(|it| it.name.as_str() == called) {
            columns.push((called.to_owned(), values));
        }
    }
    EntityColumns::new(columns).unwrap()
}

/// Holds what is read for these spine rows at `t` against the oracle.
fn compare(
    node: &Node,
    prepared: &Arc<PreparedSelection>,
    world: &World,
    given: &[usize],
    asked: &[(usize, &SpineRow)],
    (t, as_of): (i64, Option<i64>),
    about: &str,
) -> usize {
    let entities = entities(prepared, asked);
    let found = node.reader.read(prepared, &entities, as_of.map(Timestamp)).unwrap();
    let arrays: Vec<ArrayRef> = found.columns().map(|column| column.array().unwrap()).collect();
    let statuses: Vec<Option<Vec<&str>>> =
        found.columns().map(|column| column.statuses().map(Iterator::collect)).collect();
    let at = if as_of.is_some() { t } else { found.at.0 };
    let asked: Vec<(usize, SpineRow)> =
        asked.iter().map(|(case, row)| (*case, SpineRow { t: at, ..(*row).clone() })).collect();
    let asked: Vec<(usize, &SpineRow)> = asked.iter().map(|(case, row)| (*case, row)).collect();
    let latest = 2 * world.views.len();
    let answer = |column: usize, row: usize| {
        let status = match column < latest {
            true => found.readings[column / 2].status[row].name(),
            false if column >= arrays.len() - world.service.derived.len() => COMPUTED,
            false => statuses[column].as_ref().unwrap()[row],
        };
        (value(&arrays[column], row), status)
    };
    compare_found(world, given, &asked, Question::Known, answer, about)
}

/// What came of worlds.
#[derive(Default)]
struct Ran {
    edges: Edges,
    /// Answers of windows.
    compared: usize,
    /// Those of training, of what was there at the end, halfway, and at the end by what was read halfway.
    trained: usize,
    rebuilt: usize,
    retries: usize,
    /// Times that views were brought up over versions.
    brought: usize,
    loads: usize,
    restarts: usize,
}

/// Stands where a derived feature has no status.
const COMPUTED: &str = "computed";

/// A world whose rows come step by step to a node, which is asked meanwhile.
struct Coming {
    node: Node,
    folder: tempfile::TempDir,
    world: World,
    prepared: Arc<PreparedSelection>,
    kind: Kind,
    history: History,
    /// How often the views were defined.
    generation: usize,
    given: Vec<usize>,
    about: String,
}

impl Coming {
    /// `unknown`: of the views nobody knows yet.
    fn new(seed: u64, world: World, (kind, history): (Kind, History), unknown: bool) -> Coming {
        let folder = tempfile::tempdir().unwrap();
        let start = world.rows.iter().filter(|row| row.pushed).map(|row| row.v);
        let start = start.chain(world.spine.iter().map(|row| row.t)).min().unwrap_or(0);
        let node = Node::open(folder.path(), start.saturating_sub(10).max(Timestamp::FIRST.0));
        let (mut put, prepared) = defined(&node, &world, (kind, history), 0);
        if unknown {
            put.truncate(1);
        }
        node.put(put);
        // A source's first push gives it a number, which takes a v of its own.
        push(&node, &world.own_table(&[]));
        let about = format!("seed {seed}, {kind:?}");
        Coming { node, folder, world, prepared, kind, history, generation: 0, given: Vec::new(), about }
    }

    fn step(&mut self, number: usize, step: &Step, ran: &mut Ran) {
        let (node, world, about) = (&self.node, &mut self.world, &self.about);
        match step {
            Step::Push(at) => {
                let now = node.now();
                node.clock.0.store(world.rows[*at].v.max(now), Ordering::Release);
                let (v, s) = push(node, &world.own_table(&world.rows[*at..=*at]));
                // After a restart times go on from a later one. Positions are numbered by the world, in this order.
                assert!(ran.restarts > 0 || world.rows[*at].v == v, "{about}: v of {:?}", world.rows[*at]);
                world.rows[*at].v = v;
                assert!(s.is_some(), "{about}: {:?} was not stored", world.rows[*at]);
                self.given.push(*at);
            }
            Step::Retry(at) => {
                let (_, s) = push(node, &world.own_table(&world.rows[*at..=*at]));
                assert_eq!(s, None, "{about}: {:?} was stored again", world.rows[*at]);
                ran.retries += 1;
            }
            Step::Load(rows) => {
                let path = self.folder.path().join(format!("load/{number}.parquet"));
                write(&path, &world.own_table(&world.rows[rows.clone()]), number);
                assert_eq!(load(node, path), 1, "{about}: a file of its own");
                self.given.extend(rows.clone());
                ran.loads += 1;
            }
        }
    }

    /// Brings the views up, other versions of them where `anew`.
    fn bring_up(&mut self, anew: bool, ran: &mut Ran) {
        if anew {
            self.generation += 1;
            let (put, prepared) =
                defined(&self.node, &self.world, (self.kind, self.history), self.generation);
            self.node.put(put);
            self.prepared = prepared;
        }
        self.node.materialize();
        ran.brought += usize::from(self.world.ids && !self.given.is_empty());
    }

    /// Asks for these spine rows, each with its case, when it is as the clock says, or as of a time.
    fn ask(&self, asked: &[(usize, &SpineRow)], as_of: Option<i64>) -> usize {
        let t = as_of.unwrap_or_else(|| self.node.now());
        compare(&self.node, &self.prepared, &self.world, &self.given, asked, (t, as_of), &self.about)
    }

    /// Asks for all spine rows as of their times.
    fn ask_as_of(&self) -> usize {
        let last = self.world.spine.iter().map(|row| row.t).max().unwrap_or(0);
        self.node.clock.0.fetch_max(last, Ordering::AcqRel);
        let mut asked: BTreeMap<i64, Vec<(usize, &SpineRow)>> = BTreeMap::new();
        for (case, row) in spine_of(&self.world) {
            asked.entry(row.t).or_default().push((case, row));
        }
        asked.iter().map(|(t, asked)| self.ask(asked, Some(*t))).sum()
    }

    /// Holds what a training says against the oracle; gives the same training, of what this one read.
    fn train(&self, training: Training, ran: &mut Ran) -> Training {
        let (compared, read) =
            training.compare(&self.node, &self.prepared, &self.world, &mut ran.edges, &self.about);
        ran.trained += compared;
        training.again(read)
    }

    fn restart(self) -> Coming {
        let Coming { node, folder, .. } = self;
        let now = node.now();
        drop(node);
        let node = Node::open(folder.path(), now);
        Coming { node, folder, ..self }
    }
}

/// Loads a file into the source; how many were new to it.
fn load(node: &Node, path: std::path::PathBuf) -> u64 {
    let called = path.file_name().unwrap().to_str().unwrap().to_owned();
    let file = LoadFile { path, name: called, partitions: Vec::new() };
    let (owner, shop, prices) = (Principal::owner(), name("shop"), name("prices"));
    let load = node.flow.load(&owner, &shop, &prices, Some(vec![file]), OnBadRow::Stop, no_progress());
    node.runtime.block_on(load).unwrap().files_loaded
}

/// So many cases a world: one node answers all of them.
const CASES: usize = 100;

/// Runs worlds whose rows are pushed, and loaded in between.
fn run(seeds: std::ops::Range<u64>) -> Ran {
    let mut ran = Ran::default();
    for seed in seeds {
        let mut random = Random::new(70_000_000 + seed);
        let kind = *random.pick(&[Kind::Pushed, Kind::Pushed, Kind::Pushed, Kind::Mixed]);
        let shape = Shape { kind, ids: random.chance(60), windows: random.chance(75) };
        // Views may come after rows, and read them from the log and the table; also views that nobody knew of then.
        let late = random.chance(50);
        let unknown = late && random.chance(70);
        let mut coming =
            Coming::new(seed, World::shaped(&mut random, CASES, shape), (kind, History::All), unknown);
        if !late {
            coming.node.materialize();
        }
        let steps = coming.world.steps.clone();
        let halfway = steps.len() / 2;
        let mut then = None;
        // What is loaded has times of its own: there those of pushed rows are not to be moved by a restart.
        let restarts = kind == Kind::Pushed && random.chance(50);
        for (number, step) in steps.iter().enumerate() {
            if number == halfway && restarts {
                coming = coming.restart();
                ran.restarts += 1;
            }
            coming.step(number, step, &mut ran);
            if late && number < halfway {
                continue;
            }
            if number % 250 == 50 {
                coming.node.runtime.block_on(coming.node.flow.flush()).unwrap();
            }
            if late && number == halfway {
                coming.bring_up(unknown, &mut ran);
            }
            if number == halfway {
                // Halfway, and by what was read then, one question a world: all are asked at the end.
                let question = if seed % 2 == 0 { Question::Known } else { Question::Event };
                let now = Training::now(&coming.node, &coming.given).by(question);
                then = Some(coming.train(now, &mut ran));
            }
            if number == steps.len() * 3 / 4 && number != halfway && random.chance(50) {
                coming.bring_up(true, &mut ran);
            }
            if random.chance(20) {
                // Those whose rows come now, and others.
                let (Step::Push(row) | Step::Retry(row) | Step::Load(Range { start: row, .. })) = step;
                let now = coming.world.cases.iter().position(|(rows, _)| rows.contains(row));
                let other = random.between(0, CASES as i64 - 1) as usize;
                let asked = spine_of(&coming.world).filter(|(case, _)| Some(*case) == now || *case == other);
                let asked: Vec<(usize, &SpineRow)> = asked.collect();
                ran.compared += coming.ask(&asked, None);
            }
        }
        if late && steps.is_empty() {
            coming.bring_up(unknown, &mut ran);
        }
        ran.compared += coming.ask_as_of();
        coming.train(Training::now(&coming.node, &coming.given), &mut ran);
        if let Some(then) = then {
            // By what it read then.
            coming.train(then, &mut ran);
            ran.rebuilt += 1;
        }
        ran.edges.look(&coming.world);
    }
    ran
}

fn spine_of(world: &World) -> impl Iterator<Item = (usize, &SpineRow)> {
    let cases = world.cases.iter().enumerate();
    cases.flat_map(|(case, (_, spine))| world.spine[spine.clone()].iter().map(move |row| (case, row)))
}

/// Rows of files, given in steps and brought up after each, read in place or loaded.
#[test]
fn windows_over_files_are_served_as_the_oracle_says() {
    let (mut compared, mut edges) = (0, Edges::default());
    for seed in 0..40 {
        let mut random = Random::new(80_000_000 + seed);
        let kind = *random.pick(&[Kind::InPlace, Kind::Stored]);
        // What comes may end what came before.
        let ids = random.chance(50);
        let shape = Shape { kind, ids, windows: true };
        let mut world = match seed % 8 {
            0 => World::dense(&mut random, 200, shape),
            _ => World::shaped(&mut random, 4, shape),
        };
        let about = format!("seed {seed}, {kind:?}");
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::open(folder.path(), 0);
        let (put, prepared) = defined(&node, &world, (kind, History::All), 0);
        node.put(put);
        let mut order: Vec<usize> = (0..world.rows.len()).collect();
        random.shuffle(&mut order);
        let steps = random.between(1, 4) as usize;
        let mut clocks: Vec<i64> = (0..steps).map(|_| random.pick(&world.spine).t).collect();
        clocks.sort_unstable();
        let mut given: Vec<usize> = Vec::new();
        let mut position = 0;
        for (step, now) in clocks.iter().enumerate() {
            let take = if step + 1 == steps { order.len() } else { order.len() / (steps - step) };
            let new: Vec<usize> = order.drain(..take).collect();
            if !new.is_empty() {
                let rows: Vec<Row> = new.iter().map(|at| world.rows[*at].clone()).collect();
                let path = folder.path().join("data").join(format!("{step}.parquet"));
                write(&path, &world.own_table(&rows), 0);
                let mut is_new = true;
                if kind == Kind::Stored {
                    is_new = load(&node, path) == 1;
                }
                for at in new.iter().filter(|_| is_new) {
                    position += 1;
                    world.rows[*at].s = (kind == Kind::Stored).then_some(position);
                }
                given.extend(new.iter().filter(|_| is_new));
            }
            node.clock.0.fetch_max(*now, Ordering::AcqRel);
            if random.chance(30) {
                let now = node.now();
                drop(node);
                node = Node::open(folder.path(), now);
            }
            node.materialize();
            let all: Vec<(usize, &SpineRow)> = spine_of(&world).collect();
            compared += compare(&node, &prepared, &world, &given, &all, (*now, None), &about);
        }
        let last = world.spine.iter().map(|row| row.t).max().unwrap_or(0);
        node.clock.0.fetch_max(last, Ordering::AcqRel);
        let mut times: Vec<i64> = world.spine.iter().map(|row| row.t).collect();
        times.sort_unstable();
        times.dedup();
        for t in times {
            let asked: Vec<(usize, &SpineRow)> = spine_of(&world).filter(|(_, row)| row.t == t).collect();
            compared += compare(&node, &prepared, &world, &given, &asked, (t, Some(t)), &about);
        }
        let training = Training::now(&node, &given);
        compared += training.compare(&node, &prepared, &world, &mut edges, &about).0;
        edges.look(&world);
    }
    assert!(compared > 10_000, "{compared}");
    let of_pushed = ["label at T", "label past T, before its source's last event"];
    let labels = Edges::SERVICES.iter().copied().filter(|edge| !of_pushed.contains(edge));
    let wanted: Vec<&str> = ["equal rows within a window", "equal rows"].into_iter().chain(labels).collect();
    assert_eq!(edges.missed_of(&wanted, 5), Vec::<&str>::new());
}

/// Writes a file; of one content, those of two numbers are two files.
fn write(path: &Path, batch: &RecordBatch, number: usize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let number = KeyValue::new("number".to_owned(), number.to_string());
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![number])).build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// What rows of one position, or of none, hit, and such as are at the ends of time: they are read in place. Those without
/// ids are, in the worlds of `worlds`.
const IN_PLACE: [&str; 11] = [
    "equal rows within a window",
    "event time at the first instant",
    "event time at the last instant",
    "tie on e, v, o, s, told apart by content",
    "equal rows",
    "a value ties with a delete",
    "source without a clock",
    "row without a clock known later",
    "equal versions of one id",
    "versions tie in v, s, told apart by order_by",
    "versions tie in v, o, s, told apart by content",
];

/// These are counted of worlds cut at random; here cuts are as trainings read them.
const CUTS: [&str; 2] = ["an older cut answers otherwise", "an older cut under event answers otherwise"];

/// 5,000 cases, each a few rows and some spine rows that ask for them at their edges, as the offline oracle counts them.
fn cases(part: u64) {
    let worlds = 5_000 / CASES as u64;
    let ran = run(part * worlds..(part + 1) * worlds);
    println!(
        "part {part}: {} answers of windows and {} trained, {} retries, {} loads, {} restarts",
        ran.compared, ran.trained, ran.retries, ran.loads, ran.restarts
    );
    assert!(ran.compared > 100_000, "{}", ran.compared);
    assert!(ran.trained > 100_000 && ran.rebuilt > 40, "{} by {}", ran.trained, ran.rebuilt);
    assert!(ran.retries > 100 && ran.loads > 300 && ran.restarts > 5);
    assert!(ran.brought > 10, "{} times views were brought up over versions", ran.brought);
    let reachable = |edges: &[&'static str]| -> Vec<&'static str> {
        edges.iter().copied().filter(|edge| !IN_PLACE.contains(edge) && !CUTS.contains(edge)).collect()
    };
    for edges in [&Edges::ALL[..], &Edges::VERSIONS, &Edges::WINDOWS, &Edges::SERVICES] {
        let mut missed = ran.edges.missed_of(&reachable(edges), 5);
        // What only a load of a moment ago brings is rare.
        missed.retain(|edge| !edge.starts_with("pushed again after a tie") || ran.edges.count(edge) == 0);
        assert_eq!(missed, Vec::<&str>::new(), "in part {part}");
    }
}

#[test]
fn what_is_pushed_is_served_as_the_oracle_says_first_part() {
    cases(0);
}

#[test]
fn what_is_pushed_is_served_as_the_oracle_says_second_part() {
    cases(1);
}

#[test]
fn what_is_pushed_is_served_as_the_oracle_says_third_part() {
    cases(2);
}

#[test]
fn what_is_pushed_is_served_as_the_oracle_says_fourth_part() {
    cases(3);
}
