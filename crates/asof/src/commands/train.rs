//! `asof train`: the spine's rows with the features known at each row's time.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use asof_model::{Definition, FileFormat, OnImmature, OnNullKey, OnOverflow, Place, Project, Question, TrainingSet};
use asof_server::{Body, RebuildQuery, RunAnswer, SpineFile, TrainQuery};
use clap::ValueEnum;
use console::Style;
use futures::TryStreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};

use crate::client::{Client, nothing, path, path_with, request, whole};
use crate::config::project_files;
use crate::context::Context;
use crate::printer::Printer;
use crate::problem::Problem;
use crate::progress::Bar;
use crate::stream::{ArrowReader, NewFile, copy_to_stdout};
use crate::table::{Table, counted, grouped, terminal_width, took};

/// Flags of `train`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service whose features to add.
    #[arg(required_unless_present_any = ["features", "rebuild"])]
    service: Option<String>,
    /// These features instead of a service's: `view.feature,view.*`.
    #[arg(long, value_name = "LIST", conflicts_with = "service")]
    features: Option<String>,
    /// The rows to add features to: a file, `-` for stdin, or a query `"select ..."`.
    #[arg(long, value_name = "SPINE", required_unless_present = "rebuild")]
    spine: Option<String>,
    /// Where the training set goes: a file, or `-` for stdout. Without it the first rows are shown.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The spine's time column, with a unit where it is of integers: `t:ms` [default: its only timestamp].
    #[arg(long, value_name = "COLUMN[:UNIT]")]
    time: Option<String>,
    /// Which rows count: those known at the time, or all as if on time.
    #[arg(long, value_name = "QUESTION", default_value = "known")]
    question: Asked,
    /// What a null key in the spine does.
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    on_null_key: NullKey,
    /// What a value over a window does that is out of range, or over its cap.
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    on_overflow: Overflow,
    /// What a row does, a label of which lies past what its source holds: it is kept with a null, or dropped.
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    immature: Immature,
    /// Name columns `view__feature`.
    #[arg(long)]
    full_names: bool,
    /// The format of the training set [default: by the ending of --out].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// The format of the spine [default: by its ending or first bytes].
    #[arg(long, value_name = "FORMAT")]
    spine_format: Option<Format>,
    /// Make a recorded training set again.
    #[arg(long, value_name = "ID", conflicts_with_all = ["service", "features", "spine", "time", "full_names"])]
    rebuild: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Asked {
    Known,
    Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NullKey {
    Keep,
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Overflow {
    Refuse,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Immature {
    Keep,
    Drop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Parquet,
    Csv,
    Ndjson,
    Arrow,
}

impl From<Format> for FileFormat {
    fn from(format: Format) -> FileFormat {
        match format {
            Format::Parquet => FileFormat::Parquet,
            Format::Csv => FileFormat::Csv,
            Format::Ndjson => FileFormat::Ndjson,
            Format::Arrow => FileFormat::Arrow,
        }
    }
}

/// So many rows are shown without --out.
const SHOWN: usize = 10;

/// Trains or rebuilds.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let format = output_format(&args)?;
    keeps_its_inputs(&args, context)?;
    let run = format!("{:016x}", rand::random::<u64>());
    let client = context.client().await?;
    let (path, content_type, spine) = match &args.rebuild {
        Some(id) => {
            let query = RebuildQuery { format: Some(format), run: Some(run.clone()) };
            (path_with(&["v1", "training-sets", id, "rebuild"], &query), None, Spine::Body(nothing()))
        }
        None => {
            let inside = client.is_inside();
            let (query, content_type, spine) = question(&args, context, inside, format, &run).await?;
            (path_with(&["v1", "train"], &query), content_type, spine)
        }
    };
    let request = Work { context, client, run: &run, path: &path, content_type };
    let began = std::time::Instant::now();
    let set = match &args.out {
        None => {
            let mut reader = ArrowReader::new(SHOWN);
            let set = request.send(spine, async |body| reader.read(body).await).await?;
            if context.printer.json {
                context.printer.json_line(&set);
                return Ok(());
            }
            let table = Table::of_batches(&reader.first, SHOWN);
            context.printer.line(table.text(terminal_width(), context.printer.color));
            set
        }
        Some(out) if out.as_os_str() == "-" => {
            let printer = context.printer;
            request.send(spine, async move |body| copy_to_stdout(printer, body).await).await?
        }
        Some(out) => {
            let file = NewFile::new(out);
            let set = request.send(spine, async |body| file.write(body).await).await?;
            file.keep()?;
            set
        }
    };
    let to_stdout = args.out.as_deref() == Some(Path::new("-"));
    if context.printer.json && !to_stdout {
        context.printer.json_line(&set);
    } else {
        report(context.printer, &set, args.out.as_deref(), began.elapsed());
    }
    Ok(())
}

fn output_format(args: &Args) -> Result<FileFormat, Problem> {
    if let Some(format) = args.format {
        return Ok(format.into());
    }
    let Some(out) = &args.out else { return Ok(FileFormat::Arrow) };
    if out.as_os_str() == "-" {
        return Ok(FileFormat::Csv);
    }
    format_of(out).ok_or_else(|| {
        Problem::invalid("unknown_format", format!("the ending of `{}` names no format", out.display()))
            .hint("end it in .parquet, .csv, .ndjson or .arrow, or say --format")
    })
}

/// Refuses an --out that is the spine, a file of the data directory, or one that a source of the project reads.
fn keeps_its_inputs(args: &Args, context: &Context) -> Result<(), Problem> {
    let Some(out) = args.out.as_deref().filter(|out| out.as_os_str() != "-") else { return Ok(()) };
    let Some(place) = place_of(out) else { return Ok(()) };
    let spine = args.spine.as_deref().map(Path::new).and_then(|spine| std::fs::canonicalize(spine).ok());
    if spine.is_some_and(|spine| same_file(&spine, &place)) {
        let message = format!("--out `{}` is the spine itself, which would be written over", out.display());
        return Err(Problem::invalid("out_is_input", message).hint("name another file with --out"));
    }
    let settings = context.settings()?;
    if std::fs::canonicalize(&settings.data_dir.value).is_ok_and(|data_dir| place.starts_with(data_dir)) {
        let message = format!("--out `{}` is in the data directory, whose files are Asof's own", out.display());
        return Err(Problem::invalid("out_is_input", message).hint("name a file elsewhere with --out"));
    }
    let root = settings.root.value;
    let Ok(files) = project_files(&root) else { return Ok(()) };
    // What is wrong with a definition is said elsewhere; the sources that can be read count here.
    for definition in Project::read(&files).0.into_iter().flat_map(|project| project.definitions) {
        let Definition::Source(source) = &definition.value else { continue };
        let Place::Files { path, format, .. } = &source.place else { continue };
        if asof_engine::source::means(&root, path, *format, &place) {
            let message = format!(
                "--out `{}` is among the files of source `{}` (path `{path}`), which reads them",
                out.display(),
                source.name
            );
            return Err(Problem::invalid("out_is_input", message).hint("name another file with --out"));
        }
    }
    Ok(())
}

/// Where a file is or would be, without links on the way.
fn place_of(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok().or_else(|| {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(std::fs::canonicalize(folder).ok()?.join(path.file_name()?))
    })
}

/// Whether two canonical paths are one file, by another name of it too.
fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let number = |path: &Path| std::fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    one == other || number(one).is_some_and(|one| number(other) == Some(one))
}

fn format_of(path: &Path) -> Option<FileFormat> {
    FileFormat::from_name(&path.extension()?.to_str()?.to_ascii_lowercase())
}

/// The spine on its way to the node.
enum Spine {
    Body(Body),
    /// For a node in this process, which reads it where it is.
    File(PathBuf),
}

/// What the flags ask, and the spine.
async fn question(
    args: &Args,
    context: &Context,
    inside: bool,
    format: FileFormat,
    run: &str,
) -> Result<(TrainQuery, Option<&'static str>, Spine), Problem> {
    let mut query = TrainQuery {
        project: context.project()?,
        service: args.service.clone(),
        features: args.features.clone(),
        full_names: args.full_names,
        time: args.time.clone(),
        question: match args.question {
            Asked::Known => Question::Known,
            Asked::Event => Question::Event,
        },
        on_null_key: match args.on_null_key {
            NullKey::Keep => OnNullKey::Keep,
            NullKey::Refuse => OnNullKey::Refuse,
        },
        on_overflow: match args.on_overflow {
            Overflow::Refuse => OnOverflow::Refuse,
            Overflow::Null => OnOverflow::Null,
        },
        on_immature: match args.immature {
            Immature::Keep => OnImmature::Keep,
            Immature::Drop => OnImmature::Drop,
        },
        format,
        spine_format: args.spine_format.map(FileFormat::from),
        spine_name: None,
        sql: None,
        run: Some(run.to_owned()),
    };
    let spine = args.spine.as_deref().unwrap_or_default();
    let first = spine.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if matches!(first.as_str(), "select" | "with" | "(select") && !Path::new(spine).exists() {
        query.sql = Some(spine.to_owned());
        return Ok((query, None, Spine::Body(nothing())));
    }
    let writes = ["insert", "update", "delete", "merge", "create", "drop", "alter", "truncate", "copy"];
    if writes.contains(&first.as_str()) && spine.contains(char::is_whitespace) && !Path::new(spine).exists() {
        let message = format!("`{first} ...` is no spine: a spine is a query that only reads, or a file");
        return Err(Problem::invalid("sql_read_only", message).hint("write --spine \"select ...\""));
    }
    let bytes = Some("application/octet-stream");
    if spine == "-" || (spine == "/dev/stdin" && query.spine_format.is_none()) {
        let read = tokio::task::spawn_blocking(|| {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        });
        let bytes_of_stdin = read
            .await
            .map_err(std::io::Error::other)
            .and_then(|read| read)
            .map_err(|error| Problem::invalid("bad_stdin", format!("the spine on stdin cannot be read: {error}")))?;
        if bytes_of_stdin.is_empty() {
            return Err(no_rows("stdin is empty, and the spine was to come from it"));
        }
        query.spine_format = query.spine_format.or_else(|| Some(sniffed(&bytes_of_stdin)));
        return Ok((query, bytes, Spine::Body(whole(bytes_of_stdin))));
    }
    let path = Path::new(spine);
    query.spine_format = query.spine_format.or_else(|| format_of(path));
    query.spine_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    if query.spine_format.is_none() {
        return Err(Problem::invalid("unknown_format", format!("the ending of spine `{spine}` names no format"))
            .hint("say --spine-format parquet, csv, ndjson or arrow"));
    }
    let (body, length) = file_body(path).await?;
    // A pipe is read once, by whoever comes first.
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    if length == 0 && is_file {
        return Err(no_rows(&format!("the spine `{spine}` is empty: not even a head is there")));
    }
    Ok((query, bytes, if inside && is_file { Spine::File(path.to_owned()) } else { Spine::Body(body) }))
}

fn no_rows(message: &str) -> Problem {
    Problem::invalid("no_spine", message)
        .hint("a spine has the keys of the entity and a time: CSV with a head, NDJSON, Parquet or Arrow")
}

/// What the first bytes of a spine say it is.
fn sniffed(bytes: &[u8]) -> FileFormat {
    match bytes {
        [b'P', b'A', b'R', b'1', ..] => FileFormat::Parquet,
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] | [0xff, 0xff, 0xff, 0xff, ..] => FileFormat::Arrow,
        _ if bytes.trim_ascii_start().first() == Some(&b'{') => FileFormat::Ndjson,
        _ => FileFormat::Csv,
    }
}

/// A file as a body, read as it is sent, and its length in bytes.
///
/// # Errors
/// It cannot be opened.
pub(crate) async fn file_body(path: &Path) -> Result<(Body, u64), Problem> {
    let unread = |error: std::io::Error| Problem::file("read", path, &error);
    let file = tokio::fs::File::open(path).await.map_err(unread)?;
    let metadata = file.metadata().await.map_err(unread)?;
    if metadata.is_dir() {
        return Err(Problem::invalid("is_a_folder", format!("`{}` is a folder, not a file", path.display())));
    }
    let frames = tokio_util::io::ReaderStream::with_capacity(file, 256 << 10)
        .map_ok(hyper::body::Frame::data)
        .map_err(Into::into);
    Ok((StreamBody::new(frames).boxed_unsync(), metadata.len()))
}

/// Bodies as one.
pub(crate) fn one_after_the_other(bodies: Vec<Body>) -> Body {
    use futures::StreamExt as _;
    let frames = futures::stream::iter(bodies).flat_map(http_body_util::BodyStream::new);
    StreamBody::new(frames).boxed_unsync()
}

/// A long operation that answers with a file.
struct Work<'a> {
    context: &'a Context,
    client: &'a Client,
    run: &'a str,
    path: &'a str,
    content_type: Option<&'static str>,
}

impl Work<'_> {
    /// Sends the request, takes its answer with `take`, shows progress meanwhile; the record of what was made.
    async fn send(
        &self,
        spine: Spine,
        take: impl AsyncFnOnce(Body) -> Result<(), Problem>,
    ) -> Result<TrainingSet, Problem> {
        let (body, file) = match spine {
            Spine::Body(body) => (body, None),
            Spine::File(file) => (nothing(), Some(SpineFile(file))),
        };
        let mut request = request(http::Method::POST, self.path, self.content_type, body)?;
        if let Some(file) = file {
            request.extensions_mut().insert(file);
        }
        let work = async {
            let response = self.client.ask(request).await?;
            take(response.into_body()).await
        };
        if let Err(problem) = watched(self.context, self.client, self.run, "train", work).await {
            return Err(why_broken(self.client, self.run, problem).await);
        }
        let answer: RunAnswer = self.client.get(&path(&["v1", "runs", self.run], &[])).await?;
        let id = answer.training_set.unwrap_or_default();
        self.client.get(&path(&["v1", "training-sets", &id], &[])).await
    }
}

/// Why an answer broke off: it says nothing of its reason itself, its run does.
pub(crate) async fn why_broken(client: &Client, run: &str, problem: Problem) -> Problem {
    if problem.body.code == "answer_broken"
        && let Ok(answer) = client.get::<RunAnswer>(&path(&["v1", "runs", run], &[])).await
        && let Some(failure) = answer.failure
    {
        return Problem::said(failure);
    }
    problem
}

/// Awaits a long operation, showing how far its run is where a person watches.
///
/// # Errors
/// What the operation fails with.
pub(crate) async fn watched<T>(
    context: &Context,
    client: &Client,
    run: &str,
    what: &str,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    if !context.printer.watched {
        return work.await;
    }
    let mut bar = Bar::new(context.printer, what);
    let run_path = path(&["v1", "runs", run], &[]);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            ended = work.as_mut() => {
                bar.done();
                return ended;
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                if let Ok(RunAnswer { stage: Some(stage), .. }) = client.get(&run_path).await {
                    bar.at(&stage.phase, stage.done, stage.total, &stage.unit);
                }
            }
        }
    }
}

/// The counts of every view.
pub(crate) fn counts(set: &TrainingSet) -> Table {
    let mut table = Table::new(&[
        "view", ">present", ">null", ">not_found", ">expired", ">no_key", ">never", ">differs",
    ]);
    for counts in &set.outcome.counts {
        table.row([
            counts.view.clone(),
            grouped(counts.present),
            grouped(counts.null_values),
            grouped(counts.not_found),
            grouped(counts.expired),
            grouped(counts.no_key),
            grouped(counts.never_known),
            grouped(counts.differs),
        ]);
    }
    table
}

/// The counts of every label, where there are any.
pub(crate) fn labels(set: &TrainingSet) -> Option<Table> {
    let mut table = Table::new(&[
        "label", "view", ">present", ">null", ">not_found", ">expired", ">no_key", ">not_mature",
    ]);
    for counts in &set.outcome.labels {
        table.row([
            counts.label.clone(),
            counts.view.clone(),
            grouped(counts.present),
            grouped(counts.null_values),
            grouped(counts.not_found),
            grouped(counts.expired),
            grouped(counts.no_key),
            grouped(counts.not_mature),
        ]);
    }
    (!set.outcome.labels.is_empty()).then_some(table)
}

/// What became of rows that are not mature.
pub(crate) fn not_mature(set: &TrainingSet) -> String {
    let done = match set.recipe.on_immature {
        OnImmature::Keep => "is null there".to_owned(),
        OnImmature::Drop => format!("dropped its row: {} in all", counted(set.outcome.dropped, "row")),
    };
    format!("not_mature: rows whose label lies past the last event of its source; it {done}")
}

/// What the last two columns say.
pub(crate) fn differs(set: &TrainingSet) -> String {
    let other = match set.recipe.question {
        Question::Known => "event",
        Question::Event => "known",
    };
    format!(
        "never: rows of the source that are never known; differs: answers that would\nbe others under the question `{other}`"
    )
}

/// Shows what was made, the counts, and the warning.
pub(crate) fn report(printer: Printer, set: &TrainingSet, out: Option<&Path>, elapsed: Duration) {
    let outcome = &set.outcome;
    printer.say("");
    printer.say(counts(set).text(0, console::colors_enabled_stderr()));
    printer.say(format!("{}\n", differs(set)));
    if let Some(labels) = labels(set) {
        printer.say(labels.text(0, console::colors_enabled_stderr()));
        printer.say(format!("{}\n", not_mature(set)));
    }
    for warning in &outcome.warnings {
        printer.warn(warning);
    }
    let place = match out {
        Some(path) if path.as_os_str() != "-" => format!(" to {}", path.display()),
        _ => String::new(),
    };
    printer.note(
        "Trained",
        Style::new().green().bold(),
        format!(
            "{} x {}{place} in {}, training set {} ({}, content {})",
            counted(outcome.rows, "row"),
            counted(outcome.columns.len() as u64, "column"),
            took(elapsed),
            set.id,
            set.recipe.question.name(),
            outcome.content_hash.get(..12).unwrap_or(&outcome.content_hash),
        ),
    );
}
