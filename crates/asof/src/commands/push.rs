//! `asof push`: takes rows into a source that is pushed to.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use asof_model::Name;
use asof_server::{PushAnswer, PushDurability, PushOp, PushQuery};
use clap::ValueEnum;
use console::Style;

use crate::client::{path_with, request, whole};
use crate::context::Context;
use crate::problem::Problem;
use crate::table::counted;

/// Flags of `push`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The source, which has `push: true`.
    source: String,
    /// A file of rows, or `-` for standard input; or one row as `column=value`, once per column.
    #[arg(required = true, value_name = "FILE | COLUMN=VALUE")]
    words: Vec<String>,
    /// How the rows are written [default: by the file's ending, else by what they begin with].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Your name for this batch: sent again with it, it is stored once.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Do not wait until the rows are on disk: power may take them.
    #[arg(long)]
    relaxed: bool,
    /// Every row is a delete.
    #[arg(long)]
    delete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An array of objects, or one object
    Json,
    /// An object a line
    Ndjson,
    /// An Arrow IPC stream
    Arrow,
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// What a file's ending says; none where it says nothing of rows.
    fn of_ending(path: &Path, source: &str) -> Result<Option<Format>, Problem> {
        Ok(match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Some(Format::Json),
            Some("ndjson" | "jsonl") => Some(Format::Ndjson),
            Some("arrow" | "arrows") => Some(Format::Arrow),
            Some(ending @ ("csv" | "tsv" | "parquet")) => {
                let message =
                    format!("`{}` is {}, and rows are pushed as JSON, NDJSON or Arrow", path.display(), ending.to_uppercase());
                return Err(Problem::invalid("bad_rows_given", message).hint(format!(
                    "`asof load {source} {}` takes it, each row with its own time in place of now",
                    path.display()
                )));
            }
            _ => None,
        })
    }

    /// What rows are by what they begin with.
    fn guess(bytes: &[u8]) -> Format {
        let is_json = |text: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
        match (bytes, bytes.trim_ascii_start().first()) {
            ([0xff, 0xff, 0xff, 0xff, ..], _) => Format::Arrow,
            (_, Some(b'[')) => Format::Json,
            // One object, over however many lines; several are an object a line.
            _ if is_json(bytes) => Format::Json,
            _ => Format::Ndjson,
        }
    }
}

/// Pushes: all rows or none.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let source = Name::new(args.source.clone())
        .map_err(|error| Problem::invalid("bad_name", error.to_string()).hint("`asof list sources` lists them"))?;
    let (rows, format) = rows(&args.words, args.format, source.as_str()).await?;
    let query = PushQuery {
        project: Some(context.project()?),
        durability: if args.relaxed { PushDurability::Relaxed } else { PushDurability::Durable },
        op: if args.delete { PushOp::Delete } else { PushOp::AsWritten },
    };
    let path = path_with(&["v1", "push", source.as_str()], &query);
    let mut asked = request(http::Method::POST, &path, Some(format.content_type()), whole(rows))?;
    if let Some(key) = &args.idempotency_key {
        let value = http::HeaderValue::from_str(key).map_err(|_| {
            Problem::invalid("bad_idempotency_key", "the idempotency key is not one line of plain characters")
                .hint("e.g. a UUID, made once for each batch")
        })?;
        asked.headers_mut().insert("idempotency-key", value);
    }
    let client = context.client().await?;
    let response = client.ask(asked).await?;
    let body = client.collect(response.into_body()).await?;
    let answer: PushAnswer = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(asof_model::Kind::Internal, "bad_answer", error.to_string()))?;
    if printer.json {
        printer.json_line(&answer);
        return Ok(());
    }
    let mut text = format!("{} to {}", counted(answer.accepted, "row"), answer.source);
    if answer.repeated {
        text += ", when it was sent first: nothing was stored again";
    }
    if !answer.already_there.is_empty() {
        text += &format!(", {} there already", counted(answer.already_there.len() as u64, "row"));
    }
    printer.note("Pushed", Style::new().green().bold(), text);
    if !answer.durable {
        printer.warn("they are not on disk yet, as you asked: power may take them");
    }
    Ok(())
}

/// The bytes of the rows, and how they are written.
async fn rows(words: &[String], format: Option<Format>, source: &str) -> Result<(Vec<u8>, Format), Problem> {
    let is_pair = |word: &String| word.contains('=');
    if words.iter().all(is_pair) {
        return Ok((one_row(words)?, Format::Arrow));
    }
    let [word] = words else {
        return Err(Problem::invalid("bad_rows_given", "rows are one file, or one row as COLUMN=VALUE")
            .hint("give one file at a time, or write every column as column=value"));
    };
    if word == "-" {
        let read = tokio::task::spawn_blocking(|| {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        });
        let read = read.await.map_err(|error| Problem::new(asof_model::Kind::Internal, "internal", error.to_string()))?;
        let bytes = read.map_err(|error| Problem::file("read", Path::new("standard input"), &error))?;
        let format = format.unwrap_or_else(|| Format::guess(&bytes));
        return Ok((bytes, format));
    }
    let path = PathBuf::from(word);
    let said = match format {
        Some(format) => Some(format),
        None => Format::of_ending(&path, source)?,
    };
    let bytes = tokio::fs::read(&path).await.map_err(|error| Problem::file("read", &path, &error))?;
    let format = said.unwrap_or_else(|| Format::guess(&bytes));
    Ok((bytes, format))
}

/// One row of texts, which the node reads in the types of the source's columns; nothing behind `=` is null.
fn one_row(words: &[String]) -> Result<Vec<u8>, Problem> {
    let mut columns: Vec<(&str, ArrayRef, bool)> = Vec::new();
    for (name, value) in words.iter().filter_map(|word| word.split_once('=')) {
        if columns.iter().any(|(other, ..)| *other == name) {
            return Err(Problem::invalid("bad_rows_given", format!("column `{name}` is given twice"))
                .hint("push several rows as a file"));
        }
        let value = (!value.is_empty()).then_some(value);
        columns.push((name, Arc::new(StringArray::from(vec![value])), true));
    }
    let written = RecordBatch::try_from_iter_with_nullable(columns).and_then(|row| {
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &row.schema())?;
        writer.write(&row)?;
        writer.into_inner()
    });
    written.map_err(|error| Problem::new(asof_model::Kind::Internal, "internal", error.to_string()))
}
