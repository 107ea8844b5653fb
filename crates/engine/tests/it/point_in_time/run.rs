//! One world through the operator, and its answers held against the oracle.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    DataType as ArrowType, Field, Float64Type, Int64Type, Schema, TimestampMicrosecondType, UInt8Type,
};
use asof_compute::{KeyEncoder, Status};
use asof_engine::point_in_time::{
    Codec, Ends, FeatureSpec, Hooks, Mode, NamedBy, PointInTimeExec, ReadingCounts, ReadingSpec, Spec,
    SpineColumns, VersionScans, Versions,
};
use asof_engine::{Engine, Error};
use asof_model::{Column, DataType, Expression, Length, Question};
use asof_testkit::oracle::{latest, order};
use asof_testkit::{BEFORE_ALL, NEVER, Random, Row, View, World};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use futures::TryStreamExt;

use crate::project::{Folder, expression};

/// How a world is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub threads: usize,
    pub batch: usize,
    /// So little memory that portions are forced.
    pub portions: bool,
    /// Rows in an order of their own.
    pub shuffle: Option<u64>,
    /// A partial half beside the rows and a final half, both sent through the codec.
    pub halves: bool,
    /// Ordered by the numbers of o as rows are folded, where they may be.
    pub numbers: bool,
}

impl Way {
    pub(super) const PLAIN: Way =
        Way { threads: 1, batch: 8192, portions: false, shuffle: None, halves: false, numbers: false };

    pub(super) fn random(random: &mut Random) -> Way {
        Way {
            threads: *random.pick(&[1, 2, 8]),
            // Batches of one row are slow in a build like this, so they are rare.
            batch: *random.pick(&[1, 100, 100, 100, 100, 100, 100, 8192, 8192, 8192, 8192, 8192]),
            portions: random.chance(30),
            shuffle: Some(random.bits()),
            halves: random.chance(40),
            numbers: random.chance(50),
        }
    }
}

/// What a reading gives for a spine row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub status: &'static str,
    pub event_time: Option<i64>,
    /// Bits, so that NaN equals NaN and -0 is not +0.
    pub x: Option<u64>,
    pub n: Option<i64>,
    pub state: Option<String>,
    pub next: Option<i64>,
    pub differs: bool,
}

/// The one form of a float that a row has: rows are equal whatever the form, so no other may be seen.
fn canonical(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() }
}

/// The features of every view of a world.
pub(super) fn features() -> Vec<(&'static str, &'static str, DataType)> {
    vec![
        ("x", "x", DataType::Float64),
        ("n", "n", DataType::Int64),
        ("state", "state", DataType::String),
        ("next", "n + 1", DataType::Int64),
    ]
}

pub(super) fn filter(view: &View) -> Option<Expression> {
    view.filter.then(|| expression("state <> 'spam'"))
}

pub(super) fn reading(view: &View, number: usize) -> ReadingSpec {
    let key = |column: &&str| Column {
        name: (*column).to_owned(),
        data_type: if *column == "shop" { DataType::Int64 } else { DataType::String },
    };
    let features = features().into_iter().map(|(name, text, data_type)| FeatureSpec {
        name: name.to_owned(),
        expression: expression(text),
        aggregate: None,
        default: None,
        data_type,
    });
    ReadingSpec {
        view: format!("view_{number}"),
        spine_keys: number,
        keys: view.keys.iter().map(key).collect(),
        filter: filter(view),
        ttl: view.ttl.map(Length::from_micros),
        features: features.collect(),
    }
}

pub(super) fn spine(world: &World) -> SpineColumns {
    let table = world.spine_table();
    let keys = world.views.iter().map(|view| {
        let columns: Vec<_> =
            view.spine_keys.iter().map(|name| Arc::clone(table.column_by_name(name).unwrap())).collect();
        let types: Vec<DataType> = reading(view, 0).keys.into_iter().map(|key| key.data_type).collect();
        KeyEncoder::new(&types).keys(&columns).unwrap()
    });
    let times = table.column_by_name("t").unwrap().as_primitive::<TimestampMicrosecondType>();
    SpineColumns::new(times.values().clone(), keys.collect())
}

/// Runs a world; its answers per reading, and their counts.
pub(super) fn run(
    folder: &Folder,
    world: &World,
    question: Question,
    way: Way,
) -> Result<(Vec<Vec<Answer>>, Vec<ReadingCounts>), Error> {
    let spine = Arc::new(spine(world));
    let spec = Arc::new(Spec {
        source: "shop.events".to_owned(),
        question,
        compare: !world.assumed,
        clockless: world.clockless,
        assumed: world.assumed,
        valid_until: true,
        ids: false,
        then_by: (way.numbers && world.assumed && !world.clockless).then(|| "rank".to_owned()),
        columns: World::columns(),
        readings: world.views.iter().enumerate().map(|(number, view)| reading(view, number)).collect(),
        overflow_is_null: false,
        outcomes: false,
        // A state is about 60 bytes: three or more portions.
        memory: if way.portions { 60 * world.spine.len().max(1) as u64 } else { 1 << 30 },
    });
    let (answers, counts) = answered(folder, world, spec, &spine, way)?;
    Ok(((0..world.views.len()).map(|reading| read(&answers, reading)).collect(), counts))
}

/// The operator's own answers, and its counts.
pub(super) fn answered(
    folder: &Folder,
    world: &World,
    spec: Arc<Spec>,
    spine: &Arc<SpineColumns>,
    way: Way,
) -> Result<(RecordBatch, Vec<ReadingCounts>), Error> {
    let mut rows: Vec<(u64, Row)> = (0..).zip(world.rows.iter().cloned()).collect();
    if let Some(seed) = way.shuffle {
        Random::new(seed).shuffle(&mut rows);
    }
    let mut input = scan(world, &rows, way);
    let ends = world.ids.then(|| ends(folder, world, &spec, &input)).transpose()?;
    // Told where the rows themselves are folded, and nowhere else.
    let (beside_rows, beside_spine) = if way.halves { (ends, None) } else { (None, ends) };
    let hooks = Hooks { ends: beside_spine, ..Hooks::default() };
    let counts = Arc::clone(&hooks.counts);
    if way.halves {
        let partial = PointInTimeExec::new(
            &folder.engine,
            Arc::clone(&spec),
            Mode::Partial,
            Arc::clone(spine),
            input,
            Hooks { ends: beside_rows, ..Hooks::default() },
        )?;
        input = sent(&folder.engine, spine, Arc::new(partial))?;
    }
    let last = PointInTimeExec::new(&folder.engine, spec, Mode::Final, Arc::clone(spine), input, hooks)?;
    let plan: Arc<dyn ExecutionPlan> = Arc::new(last);
    let config = SessionConfig::new().with_batch_size(way.batch);
    let context = SessionContext::new_with_config(config).task_ctx();
    let stream = plan.execute(0, context)?;
    let schema = plan.schema();
    let batches: Vec<RecordBatch> = folder.runtime.block_on(stream.try_collect())?;
    let answers = concat_batches(&schema, &batches).unwrap();
    let counts = counts.lock().unwrap().clone();
    if way.halves {
        // Once more, the final half sent too.
        let again = sent(&folder.engine, spine, plan)?;
        let stream = again.execute(0, SessionContext::new().task_ctx())?;
        let batches: Vec<RecordBatch> = folder.runtime.block_on(stream.try_collect())?;
        assert_eq!(concat_batches(&schema, &batches).unwrap(), answers, "the sent final half");
    }
    Ok((answers, counts))
}

/// A plan sent to another machine, and received.
fn sent(
    engine: &Engine,
    spine: &Arc<SpineColumns>,
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>, Error> {
    let known = Arc::clone(spine);
    let find = move |hash: &str| (hash == known.hash()).then(|| Arc::clone(&known));
    let codec = Codec::new(engine.clone(), Arc::new(find));
    let bytes = physical_plan_to_bytes_with_extension_codec(plan, &codec)?;
    let context = SessionContext::new().task_ctx();
    Ok(physical_plan_from_bytes_with_extension_codec(&bytes, &context, &codec)?)
}

fn scan(world: &World, rows: &[(u64, Row)], way: Way) -> Arc<dyn ExecutionPlan> {
    let schema = scanned(world, &[]).schema();
    let mut partitions = vec![Vec::new(); way.threads];
    for (number, rows) in rows.chunks(way.batch).enumerate() {
        partitions[number % way.threads].push(scanned(world, rows));
    }
    MemorySourceConfig::try_new_exec(&partitions, schema, None).unwrap()
}

/// Rows as a scan gives them; of a source with ids with their places in the world as addresses.
fn scanned(world: &World, rows: &[(u64, Row)]) -> RecordBatch {
    let (names, rows): (Vec<u64>, Vec<Row>) = rows.iter().cloned().unzip();
    let batch = world.scanned(&rows);
    if !world.ids {
        return batch;
    }
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    fields.insert(6, Arc::new(Field::new("__row", ArrowType::UInt64, false)));
    columns.insert(6, Arc::new(UInt64Array::from(names)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// The rows of a world that end, found as the driver has them found.
fn ends(
    folder: &Folder,
    world: &World,
    spec: &Spec,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<Ends>, Error> {
    let versions = Versions {
        source: spec.source.clone(),
        id: expression("id"),
        columns: world.own_columns(),
        assumed: world.assumed,
        ordered: true,
        deletes_have_ids: !world.window_views.is_empty(),
        by: if world.in_place { NamedBy::Address } else { NamedBy::Position },
        // So little that ids are looked at in many parts.
        memory: if spec.memory < 1 << 30 { 1 << 10 } else { spec.memory },
    };
    let scans = VersionScans {
        ids: Arc::clone(input),
        in_runs: false,
        orders: Arc::clone(input),
        rows: Arc::clone(input),
        estimate: Some(world.rows.len() as u64),
        place: None,
    };
    Ok(Arc::new(folder.runtime.block_on(versions.find(&folder.engine, &scans, None))?))
}

pub(super) fn read(batch: &RecordBatch, reading: usize) -> Vec<Answer> {
    let column = |name: &str| batch.column_by_name(&format!("{reading}.{name}")).unwrap();
    let status = column("__status").as_primitive::<UInt8Type>();
    let times = column("__event_time").as_primitive::<TimestampMicrosecondType>();
    let (x, n) = (column("x").as_primitive::<Float64Type>(), column("n").as_primitive::<Int64Type>());
    let (state, next) = (column("state").as_string::<i32>(), column("next").as_primitive::<Int64Type>());
    let differs = column("__differs").as_boolean();
    (0..batch.num_rows())
        .map(|row| Answer {
            status: Status::from_code(status.value(row)).unwrap().name(),
            event_time: times.is_valid(row).then(|| times.value(row)),
            x: x.is_valid(row).then(|| x.value(row).to_bits()),
            n: n.is_valid(row).then(|| n.value(row)),
            state: state.is_valid(row).then(|| state.value(row).to_owned()),
            next: next.is_valid(row).then(|| next.value(row)),
            differs: differs.value(row),
        })
        .collect()
}

/// What the oracle answers for every view and spine row.
pub(super) fn expected(world: &World, question: Question) -> Vec<Vec<Answer>> {
    let other = if question == Question::Known { Question::Event } else { Question::Known };
    let mut answers = vec![Vec::with_capacity(world.spine.len()); world.views.len()];
    for (rows, spine) in &world.cases {
        let rows = &world.rows[rows.clone()];
        for asked in &world.spine[spine.clone()] {
            for (view, answers) in world.views.iter().zip(&mut answers) {
                let key = view.asked(asked);
                let found = latest(rows, view, &key, asked.t, question);
                let otherwise = latest(rows, view, &key, asked.t, other);
                let value = |found: (Status, _)| if found.0 == Status::Present { found.1 } else { None };
                let row: Option<&Row> = value(found);
                answers.push(Answer {
                    status: found.0.name(),
                    event_time: found.1.map(|row| row.e).filter(|e| *e != BEFORE_ALL),
                    x: row.and_then(|row| row.x).map(canonical),
                    n: row.and_then(|row| row.n),
                    state: row.and_then(|row| row.state).map(str::to_owned),
                    next: row.and_then(|row| row.n).map(|n| n + 1),
                    differs: row.map(order) != value(otherwise).map(order),
                });
            }
        }
    }
    answers
}

/// What the counts of a reading must be.
pub(super) fn expected_counts(world: &World, view: &View, answers: &[Answer]) -> ReadingCounts {
    let count = |status: &str| answers.iter().filter(|answer| answer.status == status).count() as u64;
    let nulls = |of: fn(&Answer) -> bool| {
        answers.iter().filter(|answer| answer.status == "present" && of(answer)).count() as u64
    };
    // A delete with an id is a row of no entity.
    let rows = world.rows.iter().filter(|row| !row.delete || row.id.is_none());
    let passing: Vec<&Row> = rows.filter(|row| row.delete || view.passes(row)).collect();
    ReadingCounts {
        present: count("present"),
        not_found: count("not_found"),
        expired: count("expired"),
        no_key: count("no_key"),
        never_known: passing.iter().filter(|row| row.v == NEVER).count() as u64,
        null_keys: passing.iter().filter(|row| row.key(view).iter().any(Option::is_none)).count() as u64,
        differ: answers.iter().filter(|answer| answer.differs).count() as u64,
        present_otherwise: 0,
        null: vec![
            nulls(|answer| answer.x.is_none()),
            nulls(|answer| answer.n.is_none()),
            nulls(|answer| answer.state.is_none()),
            nulls(|answer| answer.next.is_none()),
        ],
    }
}

/// Holds answers against the oracle's; says seed, case and rows of the first that differs.
pub(super) fn check(
    world: &World,
    question: Question,
    found: &[Vec<Answer>],
    counts: &[ReadingCounts],
    about: &str,
) {
    let expected = expected(world, question);
    let other = if question == Question::Known { Question::Event } else { Question::Known };
    let otherwise = self::expected(world, other);
    for (number, view) in world.views.iter().enumerate() {
        for (row, asked) in world.spine.iter().enumerate() {
            if found[number][row] != expected[number][row] {
                let case = world.cases.iter().find(|(_, spine)| spine.contains(&row)).unwrap();
                let rows: Vec<String> =
                    world.rows[case.0.clone()].iter().map(|row| format!("  {row:?}")).collect();
                panic!(
                    "{about}\n{question:?} {view:?} clockless {} assumed {}\nasked {asked:?}\nrows\n{}\nfound    {:?}\nexpected {:?}",
                    world.clockless,
                    world.assumed,
                    rows.join("\n"),
                    found[number][row],
                    expected[number][row]
                );
            }
        }
        let mut wanted = expected_counts(world, view, &expected[number]);
        wanted.present_otherwise =
            otherwise[number].iter().filter(|answer| answer.status == "present").count() as u64;
        assert_eq!(counts[number], wanted, "{about}: counts of view {number}");
    }
}
