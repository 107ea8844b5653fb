//! Windows through files on disk, definitions, scans and the driver, against what each spine row's rows come to.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Int64Type;
use asof_engine::point_in_time::{FeatureSpec, ReadingSpec, Spec, SpineRows, answer};
use asof_model::{
    About, Address, Aggregate, Call, DataType, Feature, Features, Format, History, Key, Length, NamedWindow,
    Origin, OutputColumn, Question, Reading, Reference, Selection, TypedFeature, VersionId, View, ViewKey,
    ViewVersion, Window,
};
use asof_testkit::{Random, World, every_call};
use futures::TryStreamExt;

use super::run::{Way, answered};
use crate::project::{Folder, at, columns, expression, files, name, said, version};

/// A row: key, event time, visible at, value, and what is filtered by.
#[derive(Debug, Clone, Copy)]
struct Event {
    shop: i64,
    at: i64,
    seen: Option<i64>,
    n: Option<i64>,
    ok: bool,
}

const CALLS: [&str; 6] =
    ["count(*)", "count(*) filter (where state = 'ok')", "sum(n)", "max(n)", "min(n)", "count_distinct(n)"];

/// What a call comes to over the rows that count; null is [`i64::MIN`].
fn expected(call: &str, rows: &[Event]) -> i64 {
    let values = || rows.iter().filter_map(|row| row.n);
    let found = match call {
        "count(*)" => Some(rows.len() as i64),
        "count(*) filter (where state = 'ok')" => Some(rows.iter().filter(|row| row.ok).count() as i64),
        "sum(n)" => values().reduce(|one, other| one + other),
        "max(n)" => values().max(),
        "min(n)" => values().min(),
        _ => Some(values().collect::<BTreeSet<i64>>().len() as i64),
    };
    found.unwrap_or(i64::MIN)
}

fn counts(window: &Window, row: &Event, t: i64, question: Question) -> bool {
    let known = question == Question::Event || row.seen.is_some_and(|seen| seen <= t);
    let upper = t - window.offset.micros();
    let before = if window.include_now { row.at <= upper } else { row.at < upper };
    let after = window.length.is_none_or(|length| {
        let edge = upper - length.micros() + i64::from(window.include_now);
        let step = window.resolution.map_or(1, |step| step.micros());
        row.at >= edge.div_euclid(step) * step
    });
    known && before && after
}

fn random_window(random: &mut Random) -> Window {
    let length = (!random.chance(15)).then(|| random.between(1, 14));
    let resolution = length.filter(|_| random.chance(40)).map(|length| random.between(1, length));
    Window {
        length: length.map(Length::from_micros),
        offset: Length::from_micros(*random.pick(&[0, 0, 1, 5])),
        include_now: random.chance(40),
        resolution: resolution.map(Length::from_micros),
    }
}

pub(super) fn view(windows: &[Window]) -> ViewVersion {
    let reference = |text: &str| Reference { project: None, name: name(text) };
    let address = |text: &str| Address { project: name("shop"), name: name(text) };
    let features = CALLS.iter().enumerate().flat_map(|(number, call)| {
        windows.iter().enumerate().map(move |(at, window)| TypedFeature {
            feature: Feature {
                name: name(&format!("f{number}_{at}")),
                expression: expression(call),
                aggregate: Some(Aggregate {
                    call: Call::parse(call).unwrap(),
                    windows: vec![NamedWindow { window: *window, alias: None }],
                }),
                default: None,
                sensitivity: None,
                about: About::default(),
            },
            data_type: DataType::Int64,
        })
    });
    ViewVersion {
        address: address("activity"),
        id: VersionId("1".repeat(32)),
        definition: View {
            name: name("activity"),
            entity: reference("shop"),
            source: reference("events"),
            keys: Default::default(),
            filter: None,
            ttl: None,
            history: History::None,
            refresh: None,
            windows: Vec::new(),
            retention: None,
            features: Features::Star,
            about: About::default(),
        },
        entity: address("shop"),
        source: address("events"),
        source_id: VersionId("0".repeat(32)),
        keys: vec![ViewKey {
            key: Key { name: name("shop"), data_type: DataType::Int64 },
            column: "shop".to_owned(),
        }],
        features: features.collect(),
    }
}

fn times(all: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(all.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn table(rows: &[Event]) -> RecordBatch {
    let ints = |of: &dyn Fn(&Event) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Int64Array>())
    };
    let state = rows.iter().map(|row| Some(if row.ok { "ok" } else { "spam" }));
    RecordBatch::try_from_iter_with_nullable([
        ("shop", ints(&|row| Some(row.shop)), true),
        ("at", times(rows.iter().map(|row| Some(row.at))), true),
        ("seen", times(rows.iter().map(|row| row.seen)), true),
        ("n", ints(&|row| row.n), true),
        ("state", Arc::new(state.collect::<StringArray>()) as ArrayRef, true),
    ])
    .unwrap()
}

/// One run of random rows, windows and spine; how many answers were compared.
fn agrees(random: &mut Random, folder: &Folder, format: Format, late: i64, seed: u64) -> usize {
    let rows: Vec<Event> = (0..random.between(1, 120))
        .map(|_| {
            let at = random.between(-20, 40);
            let delay = if random.chance(50) { 0 } else { random.between(-3, late) };
            Event {
                shop: random.between(0, 3),
                at,
                seen: (!random.chance(4)).then_some(at + delay),
                n: (!random.chance(15)).then(|| random.between(-5, 5)),
                ok: random.chance(60),
            }
        })
        .collect();
    let windows: Vec<Window> = (0..random.between(1, 4)).map(|_| random_window(random)).collect();
    let spine: Vec<(i64, i64)> =
        (0..random.between(1, 40)).map(|_| (random.between(0, 4), random.between(-25, 60))).collect();
    match format {
        Format::Csv => {
            let mut text = Vec::new();
            arrow::csv::Writer::new(&mut text).write(&table(&rows)).unwrap();
            folder.write("data/rows.csv", text);
        }
        _ => folder.parquet("data/rows.parquet", random.between(1, 50) as usize, &[table(&rows)]),
    }
    let path = format!("data/*.{}", format.name());
    let mut source = files("events", &path, format);
    (source.event_time, source.available_at) = (at("at"), at("seen"));
    let all =
        [("shop", "int64"), ("at", "timestamp"), ("seen", "timestamp"), ("n", "int64"), ("state", "string")];
    let source = Arc::new(version(source, columns(&all)));
    let view = Arc::new(view(&windows));
    let columns = view.features.iter().enumerate().map(|(feature, typed)| OutputColumn {
        name: typed.feature.name.to_string(),
        from: Origin::Feature { reading: 0, feature },
        data_type: typed.data_type.clone(),
    });
    let selection = Selection {
        project: name("shop"),
        service: None,
        request: Vec::new(),
        steps: Vec::new(),
        labels: Vec::new(),
        columns: columns.collect(),
        readings: vec![Reading { view, source: Arc::clone(&source), keys: vec![name("shop")] }],
    };
    let catalog = Arc::new(folder.catalog(&[source.as_ref().clone()]));
    let asked = RecordBatch::try_from_iter([
        ("shop", Arc::new(Int64Array::from_iter_values(spine.iter().map(|row| row.0))) as ArrayRef),
        ("t", times(spine.iter().map(|row| Some(row.1)))),
    ])
    .unwrap();
    let mut compared = 0;
    for question in [Question::Known, Question::Event] {
        let spine_rows = SpineRows { batches: vec![asked.clone()], time: "t".to_owned() };
        let answered = answer(&folder.engine, &catalog, &selection, &spine_rows, question, &[], None);
        let answered = match folder.runtime.block_on(answered) {
            Ok(answered) => answered,
            Err(error) => panic!("seed {seed}: {}", said(&error)),
        };
        let counted = answered.readings[0].clone();
        let batches: Vec<_> = folder.runtime.block_on(answered.batches.try_collect()).unwrap();
        let batch = &batches[0];
        assert_eq!((batches.len(), batch.rows), (1, spine.len()));
        let (mut present, mut differ, mut otherwise) = (0, 0, 0);
        for (row, (shop, t)) in spine.iter().enumerate() {
            let in_window = |window: &Window, question| -> Vec<Event> {
                let of_key = rows.iter().filter(|event| event.shop == *shop);
                of_key.filter(|event| counts(window, event, *t, question)).copied().collect()
            };
            for (feature, column) in batch.columns.iter().enumerate() {
                let (call, window) = (CALLS[feature / windows.len()], &windows[feature % windows.len()]);
                let counted = in_window(window, question);
                let found = column.as_primitive::<Int64Type>();
                let found = if found.is_null(row) { i64::MIN } else { found.value(row) };
                let wanted = expected(call, &counted);
                assert_eq!(
                    found, wanted,
                    "seed {seed}, {question:?}: {call} over {window:?} of {shop} at {t}"
                );
                compared += 1;
            }
            let other = if question == Question::Known { Question::Event } else { Question::Known };
            let any = |question| windows.iter().any(|window| !in_window(window, question).is_empty());
            present += u64::from(any(question));
            otherwise += u64::from(any(other));
            let same = |window: &Window| in_window(window, question).len() == in_window(window, other).len();
            differ += u64::from(!windows.iter().all(same));
        }
        assert_eq!(
            (counted.present, counted.present_otherwise, counted.differ),
            (present, otherwise, differ),
            "seed {seed}, {question:?}"
        );
    }
    compared
}

/// Readings of every member of the catalogue, some of them filtered.
fn every_member(random: &mut Random, world: &World, question: Question, memory: u64) -> Spec {
    let columns = World::columns();
    let arguments = [("x", DataType::Float64), ("n", DataType::Int64), ("state", DataType::String)];
    let mut calls = every_call(&arguments, *random.pick(&[0, 1, 2])).unwrap();
    for (text, _) in &mut calls {
        if random.chance(25) {
            text.push_str(" filter (where state = 'ok')");
        }
    }
    let windows: Vec<Window> = (0..3).map(|_| random_window(random)).collect();
    let feature = |(number, (call, data_type)): (usize, &(String, DataType)), window: &Window| FeatureSpec {
        name: format!("f{number}_{window:?}"),
        expression: expression(call),
        aggregate: Some(Aggregate {
            call: Call::parse(call).unwrap(),
            windows: vec![NamedWindow { window: *window, alias: None }],
        }),
        default: None,
        data_type: data_type.clone(),
    };
    let readings = world.views.iter().enumerate().map(|(number, view)| {
        let key = |column: &&str| columns.iter().find(|it| it.name == **column).unwrap().clone();
        let calls = calls.iter().enumerate();
        ReadingSpec {
            view: format!("view_{number}"),
            spine_keys: number,
            keys: view.keys.iter().map(key).collect(),
            filter: super::run::filter(view),
            ttl: None,
            features: calls
                .flat_map(|call| windows.iter().map(move |window| feature(call, window)))
                .collect(),
        }
    });
    Spec {
        source: "shop.events".to_owned(),
        question,
        compare: !world.assumed,
        clockless: false,
        assumed: world.assumed,
        valid_until: false,
        ids: false,
        then_by: None,
        columns: World::columns(),
        readings: readings.collect(),
        overflow_is_null: false,
        outcomes: false,
        memory,
    }
}

#[test]
fn the_way_does_not_matter_to_windows() {
    let folder = Folder::new();
    let mut portions = 0;
    for seed in 0..16 {
        let mut random = Random::new(8_000_000 + seed);
        let world = World::random(&mut random, 6);
        if world.clockless {
            continue;
        }
        let spine = Arc::new(super::run::spine(&world));
        for question in [Question::Known, Question::Event] {
            let windows = random.bits();
            let spec = |memory| Arc::new(every_member(&mut Random::new(windows), &world, question, memory));
            let one = answered(&folder, &world, spec(1 << 30), &spine, Way::PLAIN).unwrap();
            for _ in 0..4 {
                let way = Way::random(&mut random);
                portions += usize::from(way.portions);
                // An answer is tens of kilobytes: three or more portions.
                let memory = if way.portions { 8_000 * world.spine.len() as u64 } else { 1 << 30 };
                let other = answered(&folder, &world, spec(memory), &spine, way).unwrap();
                assert_eq!(one, other, "seed {seed}, {question:?}, {way:?}");
            }
        }
    }
    assert!(portions > 20, "{portions}");
}

#[test]
fn windows_come_to_what_their_rows_do() {
    let mut compared = 0;
    // With little memory the spine is cut into portions.
    for memory in [256 << 20, 20 << 10] {
        let folder = Folder::with_memory(memory);
        for seed in 0..150 {
            let mut random = Random::new(7_000_000 + seed);
            let format = if seed % 5 == 0 { Format::Csv } else { Format::Parquet };
            compared += agrees(&mut random, &folder, format, 1 + (seed % 20) as i64, seed);
        }
    }
    assert!(compared > 100_000, "{compared}");
}
