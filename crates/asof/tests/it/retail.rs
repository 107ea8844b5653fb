//! Nine months of a shop, replayed day by day as live events: what a node answers meanwhile is what DuckDB answers of
//! the same lines, and what training answers of that time.
//!
//! `tests/data/online_retail_uci` holds the lines, with cancellations, 88,652 lines without customer and many lines of one
//! minute, and the questions with their answers, which `tests/peers/test_retail.py` makes again. They are the first 320,705
//! lines of a public data set of 541,909, of which 135,080 are without customer; its `SOURCE.txt` says why not all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use asof::{Node, NodeConfig};
use asof_model::{Clock, Timestamp};
use asof_server::{Limits, Listen};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::kept::Kept;
use crate::project::Project;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
/// Columns of the answers that are what was asked.
const ASKED: [&str; 4] = ["question", "asked_at", "customer_id", "stock_code"];

/// The time of the replay.
#[derive(Debug)]
struct Replayed(AtomicI64);

impl Clock for Replayed {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Acquire))
    }
}

/// A node in this process, served on a port of its own as `asof up` does.
struct Shop {
    project: Project,
    clock: Arc<Replayed>,
    node: Arc<Node>,
    runtime: tokio::runtime::Runtime,
    connection: Kept,
}

impl Shop {
    fn open(now: i64) -> Shop {
        let project = Project::empty();
        project.write("asof.yaml", "project: retail\n");
        let definitions = std::fs::read_to_string(data("definitions.yaml")).unwrap();
        project.write("features/shop.yaml", &definitions);
        let clock = Arc::new(Replayed(AtomicI64::new(now)));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut config = NodeConfig::new(project.path().join(".asof"));
        config.clock = Arc::<Replayed>::clone(&clock);
        (config.memory, config.threads) = (512 << 20, 2);
        // Small enough that the log is moved into tables, and files are put together, all through the replay.
        config.flush.bytes = 1 << 20;
        config.flush.wait = Duration::from_secs(1);
        let node = Arc::new(runtime.block_on(Node::open(config)).unwrap());
        let (sender, listening) = std::sync::mpsc::channel();
        let serving = Arc::clone(&node);
        runtime.spawn(async move {
            let address = "127.0.0.1:0".to_owned();
            let limits = Limits::default();
            let listen = Listen { address, token: false, tls: None, insecure: false, limits };
            serving.serve(&listen, None, |address| sender.send(address.to_owned()).unwrap()).await.unwrap();
        });
        let refreshing = Arc::clone(&node);
        runtime.spawn(async move { refreshing.refresh().await });
        let address = listening.recv().unwrap();
        let connection = Kept::to(address.split_once("://").unwrap().1).unwrap();
        project.well(&["apply", "--yes"]);
        project.well(&["materialize"]);
        Shop { project, clock, node, runtime, connection }
    }

    /// Pushes rows when it is `at`.
    fn push(&mut self, source: &str, rows: &RecordBatch, at: i64) {
        self.clock.0.store(at, Ordering::Release);
        let mut body = Vec::new();
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut body, &rows.schema()).unwrap();
        writer.write(rows).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let path = format!("/v1/push/{source}");
        let (status, answer) =
            self.connection.post(&path, "application/vnd.apache.arrow.stream", &body).unwrap();
        assert_eq!(
            (status, &answer["accepted"]),
            (200, &json!(rows.num_rows())),
            "{source} at {}: {answer}",
            Timestamp(at)
        );
    }

    /// Asks these questions when it is `t`; how many values were compared.
    fn ask(&mut self, answers: &RecordBatch, t: i64) -> usize {
        self.clock.0.store(t, Ordering::Release);
        let entities = json!({
            "customer_id": values(answers, "customer_id"), "stock_code": values(answers, "stock_code"),
        });
        let body = json!({"service": "shop", "entities": entities}).to_string();
        let (status, answer) =
            self.connection.post("/v1/features", "application/json", body.as_bytes()).unwrap();
        assert_eq!((status, &answer["as_of"]), (200, &json!(Timestamp(t).to_string())), "{answer}");
        let columns = answer["columns"].as_array().unwrap();
        assert_eq!(columns.len(), answers.num_columns() - ASKED.len());
        let mut compared = 0;
        for column in columns {
            let name = column["name"].as_str().unwrap();
            let expected = values(answers, name);
            assert_eq!(column["values"], json!(expected), "`{name}` at {} of {entities}", Timestamp(t));
            compared += expected.len();
        }
        compared
    }

    fn close(self) {
        self.node.stop().cancel();
        self.runtime.block_on(self.node.close());
    }
}

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/online_retail_uci").join(file)
}

fn read(path: &Path) -> RecordBatch {
    let file = std::fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    rows.column_by_name(name).unwrap_or_else(|| panic!("there is no column `{name}`"))
}

fn times(rows: &RecordBatch, name: &str) -> Vec<i64> {
    column(rows, name).as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

/// A column as the wire writes it.
fn values(rows: &RecordBatch, name: &str) -> Vec<Value> {
    let array = column(rows, name);
    let value = |row: usize| match array.data_type() {
        _ if array.is_null(row) => Value::Null,
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        other => panic!("`{name}` is {other}"),
    };
    (0..array.len()).map(value).collect()
}

/// The lines as source `kept` takes them: one that takes another back is a withdrawal of it.
fn kept(lines: &RecordBatch) -> RecordBatch {
    let own = column(lines, "line").as_primitive::<Int64Type>();
    let cancels = column(lines, "cancels").as_primitive::<Int64Type>();
    let line: Int64Array = own.iter().zip(cancels).map(|(own, cancelled)| cancelled.or(own)).collect();
    let gone: BooleanArray = cancels.iter().map(|cancelled| Some(cancelled.is_some())).collect();
    let same = ["invoice", "stock_code", "quantity", "at", "customer_id"];
    let same = same.into_iter().map(|name| (name, Arc::clone(column(lines, name))));
    let new: [(&str, ArrayRef); 2] = [("line", Arc::new(line)), ("gone", Arc::new(gone))];
    RecordBatch::try_from_iter(same.chain(new)).unwrap()
}

/// Where pushes end: after the last line of each hour, and of each minute that is asked about.
fn cuts(at: &[i64], asked: &[i64]) -> Vec<usize> {
    let ends = (1..at.len()).filter(|row| {
        let (before, after) = (at[row - 1], at[*row]);
        before != after && (before / HOUR != after / HOUR || asked.binary_search(&before).is_ok())
    });
    ends.chain([at.len()]).collect()
}

#[test]
fn a_year_of_a_shop_replayed_live_is_what_duckdb_says() {
    let (lines, answers) = (read(&data("lines.parquet")), read(&data("answers.parquet")));
    let (at, asked_at) = (times(&lines, "at"), times(&answers, "asked_at"));
    assert!(at.is_sorted() && asked_at.is_sorted());
    let days = |times: &[i64]| {
        let mut days: Vec<i64> = times.iter().map(|at| at.div_euclid(24 * HOUR)).collect();
        days.dedup();
        days
    };
    // Every day, and what makes them worth replaying.
    let invoices = column(&lines, "invoice").as_string::<i32>();
    let cancellations = invoices.iter().filter(|it| it.unwrap().starts_with('C')).count();
    let ties = at.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let without = column(&lines, "customer_id").null_count();
    let told = (lines.num_rows(), days(&at).len(), cancellations, without, ties);
    assert_eq!(told, (320_705, 219, 5_847, 88_652, 320_705 - 14_877));
    assert_eq!(days(&asked_at), days(&at));

    let begun = Instant::now();
    let of_lines: Vec<usize> =
        (0..lines.num_columns()).filter(|at| lines.schema().field(*at).name() != "cancels").collect();
    let (of_lines, of_kept) = (lines.project(&of_lines).unwrap(), kept(&lines));
    let mut shop = Shop::open(at[0] - HOUR);
    let (mut from, mut asked, mut compared, mut pushes) = (0, 0, 0, 0);
    for to in cuts(&at, &asked_at) {
        // Most lines come late, those of the last minute before their time: they count from it on.
        let now = at[to - 1] - SECOND;
        shop.push("lines", &of_lines.slice(from, to - from), now);
        shop.push("kept", &of_kept.slice(from, to - from), now);
        (from, pushes) = (to, pushes + 2);
        // All that is asked before the next line comes.
        while asked < asked_at.len() && at.get(to).is_none_or(|next| asked_at[asked] < *next) {
            let t = asked_at[asked];
            let many = asked_at[asked..].partition_point(|at| *at == t);
            compared += shop.ask(&answers.slice(asked, many), t);
            asked += many;
        }
    }
    assert_eq!((asked, compared), (2_080, 2_080 * (answers.num_columns() - ASKED.len())));
    let replayed = begun.elapsed();

    // What had no customer is kept, and belongs to nobody.
    let asked = "select count(*) as lines, count(customer_id) as of_somebody from lines";
    let expected = json!({"lines": lines.num_rows(), "of_somebody": lines.num_rows() - without});
    assert_eq!(shop.project.json(&["sql", asked]), [expected]);

    // What was said then is what training says of then.
    let spine = answers.project(&[0, 1, 2, 3]).unwrap();
    assert_eq!(spine.schema().fields().iter().map(|it| it.name().as_str()).collect::<Vec<_>>(), ASKED);
    let file = std::fs::File::create(shop.project.path().join("spine.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, spine.schema(), None).unwrap();
    writer.write(&spine).unwrap();
    writer.close().unwrap();
    shop.project.well(&["train", "shop", "--spine", "spine.parquet", "--out", "trained.parquet"]);
    let trained = read(&shop.project.path().join("trained.parquet"));
    assert_eq!(trained.num_columns(), answers.num_columns());
    for field in answers.schema().fields().iter().filter(|field| field.name() != "asked_at") {
        assert_eq!(
            values(&trained, field.name()),
            values(&answers, field.name()),
            "trained `{}`",
            field.name()
        );
    }
    println!(
        "{} lines in {pushes} pushes, {compared} values asked meanwhile in {:.1} s, trained after {:.1} s",
        lines.num_rows(),
        replayed.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    shop.close();
}
