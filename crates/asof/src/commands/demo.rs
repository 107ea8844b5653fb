//! `asof demo`: the flights example from nothing to a served value, and what to try next.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use asof_model::{Action, FileFormat, OnImmature, OnNullKey, OnOverflow, Question, ThingKind, Timestamp, TrainingSet};
use asof_server::{
    ApplyAnswer, ApplyRequest, MaterializeAnswer, MaterializeRequest, RunAnswer, TrainQuery,
};
use console::Style;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::client::{Client, Remote, Trust, path, path_with, whole};
use crate::commands::train::{counts, differs, watched};
use crate::commands::{get, up};
use crate::config::{Flags, Settings, own_call, project_files};
use crate::context::Context;
use crate::example;
use crate::node::Node;
use crate::printer::Printer;
use crate::problem::Problem;
use crate::stream::ArrowReader;
use crate::table::{Table, counted, grouped, terminal_width, took};

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to make.
    #[arg(default_value = "flights")]
    dir: PathBuf,
    /// End when all is shown, instead of serving on.
    #[arg(long)]
    once: bool,
    /// Address and port to serve on; port 0 takes a free one [default: 127.0.0.1:2763].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

/// So many rows of the training set are looked at for a flight to ask for.
const LOOKED_AT: usize = 20_000;

/// Writes, serves, applies, trains, materialises, asks, shows.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let began = Instant::now();
    let printer = context.printer;
    if context.flags.server.is_some() {
        return Err(Problem::invalid("demo_is_local", "the demo runs its own node; it takes no --server"));
    }
    example::write(&args.dir)?;
    let size: u64 = example::FILES.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let what = format!("{}  ({} files, {:.1} MB)", args.dir.display(), example::FILES.len(), size as f64 / 1e6);
    step(printer, "Wrote", &what, began);
    let folder = shown_folder(&args.dir);
    let flags = Flags { project: Some(args.dir.clone()), listen: args.listen, ..context.flags.clone() };
    let settings = Settings::read(&flags)?;
    let mut node_config = context.node_config(&settings);
    node_config.name = "asof demo".to_owned();
    node_config.serves = true;
    let node = Arc::new(Node::open(node_config).await?);
    up::listen(&settings).check().await?;
    let (sender, address) = oneshot::channel();
    // Views are refreshed once all is shown, so that the demo itself is seen materialising.
    let (shown_sender, refresh_from) = oneshot::channel::<()>();
    let mut serving = tokio::task::JoinSet::new();
    {
        let (node, settings) = (Arc::clone(&node), settings.clone());
        serving.spawn(async move {
            let refresh_from = async move { drop(refresh_from.await) };
            up::serve(&node, &settings, refresh_from, |url| {
                // The demo has ended where nobody waits.
                drop(sender.send(url.to_owned()));
            })
            .await
        });
    }
    let shown = match address.await {
        Ok(url) => show(context, &settings, &node, &url, &folder, args.once, began).await,
        // It could not listen: its own end says why.
        Err(_) => Ok(()),
    };
    drop(shown_sender);
    if args.once || shown.is_err() || node.stop().is_cancelled() {
        node.stop().cancel();
    } else if !printer.json {
        printer.line(format!("\n{} until Ctrl-C", Style::new().green().bold().apply_to("Serving")));
    }
    let mut ended = Ok(());
    while let Some(one) = serving.join_next().await {
        ended = one.unwrap_or_else(|_| Err(Problem::new(asof_model::Kind::Internal, "internal", "the server ended")));
    }
    node.close().await;
    shown.and(ended)
}

/// How the folder is named to a person: from where they stand, if it is below.
fn shown_folder(folder: &Path) -> PathBuf {
    let below = |folder: &Path| {
        let here = std::env::current_dir().ok()?.canonicalize().ok()?;
        Some(folder.canonicalize().ok()?.strip_prefix(here).ok()?.to_owned())
    };
    below(folder).filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| folder.to_owned())
}

/// Says what was done. What the demo shows is its data: all of it goes to stdout, in order.
fn step(printer: Printer, word: &str, text: &str, began: Instant) {
    if printer.json {
        printer.json_line(&json!({"step": word.to_lowercase(), "text": text, "seconds": began.elapsed().as_secs_f64()}));
    } else {
        let word = Style::new().green().bold().apply_to(format!("{word:>13}"));
        let time = Style::new().dim().apply_to(format!("[{}]", took(began.elapsed())));
        printer.line(format!("{word}  {text}  {time}"));
    }
}

async fn show(
    context: &Context,
    settings: &Settings,
    node: &Arc<Node>,
    url: &str,
    folder: &Path,
    once: bool,
    began: Instant,
) -> Result<(), Problem> {
    let printer = context.printer;
    step(printer, "Serving", &format!("{url}  (its docs: /docs)"), began);
    let trust = match node.certificate_hash() {
        Some(hash) => Trust::Certificate(hash),
        None => Trust::Authorities(None),
    };
    let client = Client::Remote(Arc::new(Remote::new(url, settings.token.value.clone(), &trust)?));
    apply(printer, settings, &client).await?;
    let (set, first) = train(context, settings, &client, folder).await?;
    materialize(context, settings, &client).await?;
    ask(printer, settings, &client, &set, &first).await?;
    if !printer.json {
        next_commands(printer, folder, (!once).then_some(url), &set);
    }
    Ok(())
}

async fn apply(printer: Printer, settings: &Settings, client: &Client) -> Result<(), Problem> {
    let began = Instant::now();
    let root = settings.root.value.clone();
    let files = project_files(&root)?;
    let request = ApplyRequest { root: Some(root), files: files.clone(), base: None, allow_remove: false };
    let answer: ApplyAnswer =
        client.post("/v1/apply", &request).await.map_err(|problem| problem.in_files(&files))?;
    let mut parts = Vec::new();
    for (kind, word) in [
        (ThingKind::Entity, ("entity", "entities")),
        (ThingKind::Source, ("source", "sources")),
        (ThingKind::View, ("view", "views")),
        (ThingKind::Derived, ("derived", "derived")),
        (ThingKind::Service, ("service", "services")),
    ] {
        let new = |change: &&asof_model::Change| change.kind == kind && change.action == Action::Created;
        match answer.changes.iter().filter(new).count() {
            0 => {}
            1 => parts.push(format!("1 {}", word.0)),
            many => parts.push(format!("{many} {}", word.1)),
        }
    }
    let what = if parts.is_empty() { "nothing new".to_owned() } else { parts.join(", ") };
    step(printer, "Applied", &format!("{what}  (revision {})", answer.revision.0), began);
    Ok(())
}

/// Trains over all flights into `train.arrow`; the record and the first rows.
async fn train(
    context: &Context,
    settings: &Settings,
    client: &Client,
    folder: &Path,
) -> Result<(TrainingSet, Vec<RecordBatch>), Problem> {
    let printer = context.printer;
    let began = Instant::now();
    let spine = settings.root.value.join("data/departures.parquet");
    let bytes = std::fs::read(&spine).map_err(|error| Problem::file("read", &spine, &error))?;
    let run = format!("{:016x}", rand::random::<u64>());
    let query = TrainQuery {
        project: settings.project()?.clone(),
        service: Some("late_departure".to_owned()),
        features: None,
        full_names: false,
        time: None,
        question: Question::Known,
        on_null_key: OnNullKey::Keep,
        on_overflow: OnOverflow::Refuse,
        on_immature: OnImmature::Keep,
        format: FileFormat::Arrow,
        spine_format: Some(FileFormat::Parquet),
        spine_name: Some("departures.parquet".to_owned()),
        sql: None,
        run: Some(run.clone()),
    };
    let out = settings.root.value.join("train.arrow");
    let mut reader = ArrowReader::new(LOOKED_AT);
    let work = async {
        let octets = Some("application/octet-stream");
        let path = path_with(&["v1", "train"], &query);
        let response = client.send(http::Method::POST, &path, octets, whole(bytes)).await?;
        reader.read_and_keep(response.into_body(), &out).await
    };
    watched(context, client, &run, "train", work).await?;
    let answer: RunAnswer = client.get(&path(&["v1", "runs", &run], &[])).await?;
    let id = answer.training_set.unwrap_or_default();
    let set: TrainingSet = client.get(&path(&["v1", "training-sets", &id], &[])).await?;
    let text = format!(
        "{} x {} to {}",
        counted(set.outcome.rows, "row"),
        counted(set.outcome.columns.len() as u64, "column"),
        folder.join("train.arrow").display(),
    );
    step(printer, "Trained", &text, began);
    if !printer.json {
        let first: Vec<RecordBatch> = reader.first.iter().filter_map(|batch| of_columns(batch, &FIRST)).collect();
        let (width, bold) = (terminal_width(), Style::new().bold());
        printer.line(format!("\n{}", bold.apply_to("The first rows, and some of their columns")));
        printer.line(Table::of_batches(&first, 5).text(width, printer.color));
        printer.line(format!("\n{}", bold.apply_to("What the views answered, row by row of the spine")));
        printer.line(counts(&set).text(0, printer.color));
        printer.line(format!("{}\n", differs(&set)));
        for warning in &set.outcome.warnings {
            printer.warn(warning);
        }
    }
    Ok((set, reader.first))
}

async fn materialize(context: &Context, settings: &Settings, client: &Client) -> Result<(), Problem> {
    let began = Instant::now();
    let run = format!("{:016x}", rand::random::<u64>());
    let request =
        MaterializeRequest { project: settings.project()?.clone(), views: Vec::new(), run: Some(run.clone()) };
    let work = client.post("/v1/materialize", &request);
    let answer: MaterializeAnswer = watched(context, client, &run, "materialize", work).await?;
    let read: u64 = answer.views.iter().map(|view| view.rows_read).sum();
    let online: u64 = answer.views.iter().map(|view| view.rows).sum();
    let views = counted(answer.views.len() as u64, "view");
    let what = if read == 0 {
        format!("{views}: nothing new, {} online", counted(online, "row"))
    } else {
        format!("{views}: {} read, {} online", counted(read, "row"), grouped(online))
    };
    step(context.printer, "Materialised", &what, began);
    Ok(())
}

/// Columns of the training set that show what it is about.
const FIRST: [&str; 8] =
    ["scheduled_at", "origin", "tailnum", "late", "temperature", "seats", "departure_delay", "left_late"];

fn of_columns(batch: &RecordBatch, names: &[&str]) -> Option<RecordBatch> {
    let columns = names.iter().map(|name| batch.schema().index_of(name));
    batch.project(&columns.collect::<Result<Vec<usize>, _>>().ok()?).ok()
}

/// A flight of the training set.
struct Flight {
    origin: String,
    tailnum: String,
    at: Timestamp,
    row: RecordBatch,
}

/// The last flight among the first rows of which everything is known.
fn flight(first: &[RecordBatch]) -> Option<Flight> {
    for batch in first.iter().rev() {
        let text = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
        let origin = text("origin")?;
        let tailnum = text("tailnum")?;
        let times = batch.schema().fields().iter().position(|field| field.name() == "scheduled_at")?;
        let times = batch.column(times).as_primitive_opt::<TimestampMicrosecondType>()?;
        let known = |row: usize| batch.columns().iter().all(|column| !column.is_null(row));
        if let Some(row) = (0..batch.num_rows()).rev().find(|row| known(*row)) {
            return Some(Flight {
                origin: origin.value(row).to_owned(),
                tailnum: tailnum.value(row).to_owned(),
                at: Timestamp(times.value(row)),
                row: batch.slice(row, 1),
            });
        }
    }
    None
}

async fn ask(
    printer: Printer,
    settings: &Settings,
    client: &Client,
    set: &TrainingSet,
    first: &[RecordBatch],
) -> Result<(), Problem> {
    let Some(flight) = flight(first) else { return Ok(()) };
    let request = json!({
        "project": settings.project()?,
        "service": "late_departure",
        "entities": {"origin": [flight.origin], "tailnum": [flight.tailnum]},
        "as_of": flight.at.to_string(),
        "include": ["status", "event_time"],
    });
    let mut best = Duration::MAX;
    let mut answer = Value::Null;
    for _ in 0..5 {
        let began = Instant::now();
        answer = client.post("/v1/features", &request).await?;
        best = best.min(began.elapsed());
    }
    let began = Instant::now().checked_sub(best).unwrap_or_else(Instant::now);
    let at = flight.at.to_string().replace(".000000Z", "Z");
    let what = format!("plane {} from {} as of {at}", flight.tailnum, flight.origin);
    step(printer, "Asked", &what, began);
    let (same, all) = equal(&answer, &flight.row, set);
    if printer.json {
        printer.json_line(&answer);
    } else {
        printer.line("");
        printer.line(get::table(&answer).text(terminal_width(), printer.color));
        printer.line("");
    }
    if same == all {
        if !printer.json {
            let word = Style::new().green().bold().apply_to(format!("{:>13}", "Compared"));
            printer.line(format!("{word}  all {all} values are those of this flight's row in the training set\n"));
        }
        Ok(())
    } else {
        Err(Problem::new(
            asof_model::Kind::Internal,
            "served_differs",
            format!("{} of {all} served values differ from the training set's", all - same),
        ))
    }
}

/// How many of the served values equal the training set's, and how many there are.
fn equal(answer: &Value, row: &RecordBatch, set: &TrainingSet) -> (usize, usize) {
    let mut bytes = Vec::new();
    let mut writer = arrow::json::writer::LineDelimitedWriter::new(&mut bytes);
    let written = writer.write(row).and_then(|()| writer.finish());
    drop(writer);
    let row: Value = match written {
        Ok(()) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(_) => Value::Null,
    };
    let columns = answer.get("columns").and_then(Value::as_array).cloned().unwrap_or_default();
    let same = |column: &&Value| {
        let name = column.get("name").and_then(Value::as_str).unwrap_or_default();
        let served = column.pointer("/values/0").unwrap_or(&Value::Null);
        let trained = row.get(name).unwrap_or(&Value::Null);
        served == trained || served.as_f64().zip(trained.as_f64()).is_some_and(|(a, b)| a.to_bits() == b.to_bits())
    };
    (columns.iter().filter(same).count(), set.recipe.selection.columns.len())
}

/// Commands that work as they stand, pasted into a shell where the demo was started; with the node's
/// address where it goes on serving.
fn next_commands(printer: Printer, folder: &Path, url: Option<&str>, set: &TrainingSet) {
    let mut lines = Vec::new();
    if let Some(folder_of_binary) = own_call().as_deref().and_then(Path::parent) {
        lines.push(format!("export PATH=\"{}:$PATH\"", folder_of_binary.display()));
    }
    lines.push(format!("cd {}", quoted(folder)));
    for line in [
        "asof get late_departure origin=JFK tailnum=N804JB --as-of 2013-01-02T12:00:00Z",
        "asof train late_departure --spine data/departures.parquet --out event.parquet \\\n      --question event",
        "asof sql \"select dest, count(*) as flights, avg(arr_delay) as late \\\n      from flights group by dest order by flights desc limit 5\"",
        "asof show previous_flight",
        "asof search delay",
    ] {
        lines.push(line.to_owned());
    }
    lines.push(format!("asof train --rebuild {} --out again.parquet", set.id));
    match url {
        Some(url) => lines.push(format!(
            "curl -s {url}/v1/features -H 'content-type: application/json' \\\n      -d '{{\"service\": \"late_departure\", \"as_of\": \"2013-01-02T12:00:00Z\",\n           \"entities\": {{\"origin\": [\"JFK\"], \"tailnum\": [\"N804JB\"]}}}}'"
        )),
        None => lines.push("asof up".to_owned()),
    }
    let head = if url.is_some() { "Try next, in another terminal:" } else { "Try next:" };
    printer.line(Style::new().bold().apply_to(head));
    for line in lines {
        printer.line(format!("  {}", Style::new().cyan().apply_to(line)));
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+,@%".contains(&b);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
