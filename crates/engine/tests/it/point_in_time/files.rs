//! Worlds as files on disk, through definitions, scans and the driver.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use asof_compute::Status;
use asof_engine::Error;
use asof_engine::point_in_time::{PointInTimeAnswer, SpineRows, answer};
use asof_model::{
    About, Address, Catalog, DataType, Feature, Features, Format, History, Key, Length, Origin, OutputColumn,
    Question, Reading, Reference, Selection, Source, TypedFeature, VersionId, View, ViewKey, ViewVersion,
};
use asof_testkit::{Edges, Random, View as TestView, World};
use futures::TryStreamExt;

use super::run::{Answer, check, features, filter};
use crate::project::{Folder, at, expression, files, name, said, version};

fn source(world: &World) -> Source {
    let mut source = files("events", "data/*.parquet", Format::Parquet);
    source.event_time = if world.clockless { None } else { at("at") };
    source.available_at = if world.assumed { None } else { at("seen") };
    source.valid_until = at("ends");
    source.order_by = Some(expression("rank"));
    source.delete_when = Some(expression("gone"));
    source
}

fn view(view: &TestView, number: usize) -> ViewVersion {
    let called = name(&format!("view_{number}"));
    let address = |text: &str| Address { project: name("shop"), name: name(text) };
    let reference = |text: &str| Reference { project: None, name: name(text) };
    let key = |column: &&str| ViewKey {
        key: Key {
            name: name(column),
            data_type: if *column == "shop" { DataType::Int64 } else { DataType::String },
        },
        column: (*column).to_owned(),
    };
    let typed = |(feature, text, data_type): (&str, &str, DataType)| TypedFeature {
        feature: Feature {
            name: name(feature),
            expression: expression(text),
            aggregate: None,
            default: None,
            sensitivity: None,
            about: About::default(),
        },
        data_type,
    };
    ViewVersion {
        address: Address { project: name("shop"), name: called.clone() },
        id: VersionId(format!("{number:032}")),
        definition: View {
            name: called,
            entity: reference("shop"),
            source: reference("events"),
            keys: Default::default(),
            filter: filter(view),
            ttl: view.ttl.map(Length::from_micros),
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
        keys: view.keys.iter().map(key).collect(),
        features: features().into_iter().map(typed).collect(),
    }
}

/// What is asked of a world: every feature of every view, views over one source read together.
pub(super) fn selection(world: &World) -> Selection {
    let source = Arc::new(version(source(world), World::columns()));
    let readings: Vec<Reading> = world
        .views
        .iter()
        .enumerate()
        .map(|(number, test)| Reading {
            view: Arc::new(view(test, number)),
            source: Arc::clone(&source),
            keys: test.spine_keys.iter().map(|key| name(key)).collect(),
        })
        .collect();
    let columns = (0..readings.len()).flat_map(|reading| {
        features().into_iter().enumerate().map(move |(feature, (called, _, data_type))| OutputColumn {
            name: format!("{reading}_{called}"),
            from: Origin::Feature { reading, feature },
            data_type,
        })
    });
    Selection {
        project: name("shop"),
        service: None,
        columns: columns.collect(),
        readings,
        request: Vec::new(),
        steps: Vec::new(),
        labels: Vec::new(),
    }
}

fn ask(
    folder: &Folder,
    world: &World,
    spine: SpineRows,
    question: Question,
) -> Result<PointInTimeAnswer, Error> {
    let selection = selection(world);
    let catalog: Arc<Catalog> = Arc::new(folder.catalog(&[selection.readings[0].source.as_ref().clone()]));
    folder.runtime.block_on(answer(&folder.engine, &catalog, &selection, &spine, question, &[], None))
}

fn read(folder: &Folder, answered: PointInTimeAnswer, readings: usize) -> Vec<Vec<Answer>> {
    let batches: Vec<_> = folder.runtime.block_on(answered.batches.try_collect()).unwrap();
    let mut answers = vec![Vec::new(); readings];
    for batch in batches {
        for (reading, answers) in answers.iter_mut().enumerate() {
            let column = |feature: usize| &batch.columns[reading * features().len() + feature];
            let (x, n) = (column(0).as_primitive::<Float64Type>(), column(1).as_primitive::<Int64Type>());
            let (state, next) = (column(2).as_string::<i32>(), column(3).as_primitive::<Int64Type>());
            let times = batch.event_time[reading].as_primitive::<TimestampMicrosecondType>();
            for row in 0..batch.rows {
                answers.push(Answer {
                    status: Status::from_code(batch.status[reading].value(row)).unwrap().name(),
                    event_time: times.is_valid(row).then(|| times.value(row)),
                    x: x.is_valid(row).then(|| x.value(row).to_bits()),
                    n: n.is_valid(row).then(|| n.value(row)),
                    state: state.is_valid(row).then(|| state.value(row).to_owned()),
                    next: next.is_valid(row).then(|| next.value(row)),
                    differs: batch.differs[reading].value(row),
                });
            }
        }
    }
    answers
}

/// Writes the rows of a world shuffled over some files.
fn write(folder: &Folder, world: &World, random: &mut Random) {
    let data = folder.root().join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data).unwrap();
    }
    let mut rows = world.rows.clone();
    random.shuffle(&mut rows);
    let files = random.between(1, 4) as usize;
    for (number, rows) in rows.chunks(rows.len().div_ceil(files).max(1)).enumerate() {
        let group = random.between(1, 40) as usize;
        folder.parquet(&format!("data/{number}.parquet"), group, &[World::table(rows)]);
    }
}

#[test]
fn five_hundred_cases_through_files_agree() {
    let folder = Folder::new();
    let mut edges = Edges::default();
    let mut cases = 0;
    for seed in 0.. {
        let mut random = Random::new(3_000_000 + seed);
        let world = World::random_in_place(&mut random, 10);
        if world.rows.is_empty() {
            continue;
        }
        cases += world.cases.len();
        edges.look(&world);
        write(&folder, &world, &mut random);
        let table = world.spine_table();
        let cut = table.num_rows() / 2;
        let batches = vec![table.slice(0, cut), table.slice(cut, table.num_rows() - cut)];
        for question in [Question::Known, Question::Event] {
            let spine = SpineRows { batches: batches.clone(), time: "t".to_owned() };
            let answered = match ask(&folder, &world, spine, question) {
                Ok(answered) => answered,
                Err(error) => panic!("seed {seed}: {}", said(&error)),
            };
            assert_eq!(answered.cuts.len(), 1, "four readings of one source read it once");
            let counts = answered.readings.clone();
            let found = read(&folder, answered, world.views.len());
            check(&world, question, &found, &counts, &format!("seed {seed}"));
        }
        if cases >= 500 {
            break;
        }
    }
    // The two that only rows with positions can hit.
    assert_eq!(edges.missed(1), ["tie on e, v, o", "stored rows"]);
}

#[test]
fn wrong_spines_are_refused() {
    let folder = Folder::new();
    let mut random = Random::new(1);
    let world = loop {
        let world = World::random_in_place(&mut random, 4);
        if !world.clockless && !world.rows.is_empty() {
            break world;
        }
    };
    write(&folder, &world, &mut random);
    let refused = |table: arrow::array::RecordBatch, time: &str| {
        let spine = SpineRows { batches: vec![table], time: time.to_owned() };
        said(&ask(&folder, &world, spine, Question::Known).err().unwrap())
    };
    let good = world.spine_table();
    let mut no_key = good.clone();
    no_key.remove_column(1);
    let swapped = arrow::array::RecordBatch::try_from_iter_with_nullable([
        ("shop", Arc::clone(good.column(2)), true),
        ("other_shop", Arc::clone(good.column(1)), true),
        ("user", Arc::clone(good.column(2)), true),
        ("t", Arc::clone(good.column(3)), true),
    ])
    .unwrap();
    let nulls = arrow::array::new_null_array(good.column(3).data_type(), good.num_rows());
    let timeless = arrow::array::RecordBatch::try_from_iter_with_nullable([
        ("shop", Arc::clone(good.column(0)), true),
        ("other_shop", Arc::clone(good.column(1)), true),
        ("user", Arc::clone(good.column(2)), true),
        ("t", nulls, true),
    ])
    .unwrap();
    let said = [refused(no_key, "t"), refused(good, "when"), refused(swapped, "t"), refused(timeless, "t")];
    insta::assert_snapshot!(said.join("\n\n"));
}
