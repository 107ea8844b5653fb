//! Second rows of keys, with hashes that are made to be equal and memory that is made short.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::DataType as ArrowType;
use asof_compute::KeyEncoder;
use asof_model::{Column, DataType, Explain, Expression, Question};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;

use super::operator::{Hooks, Mode, PointInTimeExec};
use super::spec::{FeatureSpec, ReadingSpec, Spec, SpineColumns};
use crate::source::fixed;
use crate::source::instants::instant_type;
use crate::{Engine, EngineConfig, Error};

/// Rows of the source, in their order: `k`, `t`, whether `where` keeps them.
type Facts = Vec<(Option<i64>, &'static str, bool)>;

fn columns() -> Vec<Column> {
    let column = |name: &str, data_type| Column { name: name.to_owned(), data_type };
    vec![column("k", DataType::Int64), column("t", DataType::String), column("kept", DataType::Bool)]
}

fn batch(first: usize, rows: &[(Option<i64>, &'static str, bool)]) -> RecordBatch {
    let count = rows.len();
    let positions = Int64Array::from_iter_values((first..first + count).map(|row| row as i64 + 1));
    let times = TimestampMicrosecondArray::from(vec![i64::MIN; count]).with_timezone("UTC");
    let all: Vec<(&str, ArrayRef)> = vec![
        (fixed::EVENT_TIME, new_null_array(&instant_type(), count)),
        (fixed::VISIBLE_AT, Arc::new(times)),
        (fixed::ORDER_BY, new_null_array(&ArrowType::Binary, count)),
        (fixed::POSITION, Arc::new(positions)),
        (fixed::OP, Arc::new(BooleanArray::from(vec![false; count]))),
        (fixed::UNTIL, new_null_array(&instant_type(), count)),
        ("k", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)))),
        ("t", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)))),
        ("kept", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.2))))),
    ];
    let all = all.into_iter().map(|(name, column)| {
        let nullable = name != fixed::OP;
        (name, column, nullable)
    });
    RecordBatch::try_from_iter_with_nullable(all).unwrap()
}

/// How the operator is run.
#[derive(Debug, Clone, Copy)]
struct Way {
    threads: usize,
    batch: usize,
    halves: bool,
    memory: u64,
    mask: u64,
}

/// By `k` where `kept`, and by `t` and `k`.
fn spec() -> Spec {
    let reading = |view: &str, keys: Vec<Column>, spine_keys, filter: Option<&str>| ReadingSpec {
        view: view.to_owned(),
        spine_keys,
        keys,
        filter: filter.map(|text| Expression { text: text.to_owned() }),
        ttl: None,
        features: vec![FeatureSpec {
            name: "t".to_owned(),
            expression: Expression { text: "t".to_owned() },
            aggregate: None,
            default: None,
            data_type: DataType::String,
        }],
    };
    let all = columns();
    let (k, t) = (all[0].clone(), all[1].clone());
    Spec {
        source: "shop.facts".to_owned(),
        question: Question::Known,
        compare: false,
        clockless: true,
        assumed: true,
        then_by: None,
        valid_until: false,
        ids: false,
        columns: all,
        readings: vec![
            reading("by_k", vec![k.clone()], 0, Some("kept")),
            reading("by_both", vec![t, k], 1, None),
        ],
        overflow_is_null: false,
        outcomes: false,
        memory: 1 << 30,
    }
}

struct Room {
    engine: Engine,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Room {
    fn new() -> Room {
        let folder = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            data_dir: folder.path().join("data"),
            memory: 1 << 30,
            threads: 2,
            code_version: "test".to_owned(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Room { engine: Engine::new(config).unwrap(), runtime, _folder: folder }
    }

    fn run(&self, facts: &Facts, way: Way) -> Result<usize, Error> {
        let (k, t): (ArrayRef, ArrayRef) =
            (Arc::new(Int64Array::from(vec![7])), Arc::new(StringArray::from(vec!["a"])));
        let single = KeyEncoder::new(&[DataType::Int64]).keys(&[Arc::clone(&k)]).unwrap();
        let both = KeyEncoder::new(&[DataType::String, DataType::Int64]).keys(&[t, k]).unwrap();
        let spine = Arc::new(SpineColumns::new(vec![0].into(), vec![single, both]));
        let spec = Arc::new(spec());
        let mut partitions = vec![Vec::new(); way.threads];
        for (number, rows) in facts.chunks(way.batch).enumerate() {
            partitions[number % way.threads].push(batch(number * way.batch, rows));
        }
        let schema = batch(0, &[]).schema();
        let mut input: Arc<dyn ExecutionPlan> =
            MemorySourceConfig::try_new_exec(&partitions, schema, None).unwrap();
        let made = |mode, input| {
            let (spec, spine) = (Arc::clone(&spec), Arc::clone(&spine));
            let mut exec =
                PointInTimeExec::new(&self.engine, spec, mode, spine, input, Hooks::default()).unwrap();
            exec.look_with(way.memory, way.mask);
            Arc::new(exec)
        };
        if way.halves {
            input = made(Mode::Partial, input);
        }
        let exec = made(Mode::Final, input);
        self.runtime.block_on(async {
            let stream = exec.execute(0, self.engine.session().task_ctx())?;
            let batches: Vec<RecordBatch> = stream.try_collect().await?;
            Ok(batches.iter().map(RecordBatch::num_rows).sum())
        })
    }

    /// What all ways of running say, each once.
    fn told(&self, facts: &Facts, masks: &[u64]) -> Vec<String> {
        let mut told = Vec::new();
        for (threads, batch) in [(1, 8_192), (3, 500)] {
            for halves in [false, true] {
                // All at once, in some readings, and in some dozens.
                for memory in [1 << 30, 64 << 10, 8 << 10] {
                    for mask in masks {
                        let way = Way { threads, batch, halves, memory, mask: *mask };
                        let said = match self.run(facts, way) {
                            Ok(rows) => format!("{rows} rows"),
                            Err(error) => format!("{}: {error}", error.code()),
                        };
                        if !told.contains(&said) {
                            told.push(said);
                        }
                    }
                }
            }
        }
        told
    }
}

/// As many as make several rounds of looking where 12 bits of a hash are used: nearly each is suspected.
const COUNT: i64 = 6_000;

fn facts() -> Facts {
    (0..COUNT).map(|k| (Some(k), if k % 2 == 0 { "a" } else { "b" }, true)).collect()
}

const MASKS: [u64; 4] = [u64::MAX, 0xfff << 52, 0xfff, 0];

#[test]
fn keys_of_one_hash_are_no_second_rows() {
    let room = Room::new();
    assert_eq!(room.told(&facts(), &MASKS), ["1 rows"]);
    // Rows without a key, and those that `where` leaves out.
    let mut good = facts();
    good.extend([(None, "a", true), (None, "a", true), (Some(5), "c", false), (Some(6), "c", false)]);
    assert_eq!(room.told(&good, &MASKS), ["1 rows"]);
}

#[test]
fn a_second_row_is_found_among_equal_hashes() {
    let room = Room::new();
    let all = "second_row: source `shop.facts` has no event time, and more than one row of a key";
    for k in [0, COUNT - 1] {
        let mut twice = facts();
        twice.push((Some(k), "z", true));
        twice.push((Some(k), "z", false));
        let last = COUNT + 1;
        let mut told = room.told(&twice, &MASKS);
        told.sort();
        // The second view has a second row as well, and of which of the two the hash comes first the bits say.
        let expected = [
            format!("{all} (k) of view `by_k`: the stored rows at positions {} and {last}", k + 1),
            format!("{all} (t, k) of view `by_both`: the stored rows at positions {last} and {}", last + 1),
        ];
        assert!(told.iter().all(|said| expected.contains(said)), "{told:#?}");
        // With all bits there is one answer.
        assert_eq!(room.told(&twice, &[u64::MAX]).len(), 1);
        assert_eq!(room.told(&twice, &[0]), [expected[0].clone()]);
    }
}

/// Each key has four rows: of the key that is told its first two.
#[test]
fn of_many_second_rows_one_is_told() {
    let room = Room::new();
    let four: Facts = (0..4 * COUNT).map(|row| (Some(row % COUNT), "a", true)).collect();
    for mask in MASKS {
        let told = room.told(&four, &[mask]);
        assert_eq!(told.len(), 1, "{told:#?}");
        let rows = told[0].split("positions ").nth(1).unwrap();
        let (first, second) = rows.split_once(" and ").unwrap();
        let (first, second): (i64, i64) = (first.parse().unwrap(), second.parse().unwrap());
        assert!(first <= COUNT && second == first + COUNT, "{told:#?}");
    }
}
