//! `asof sql`: a read-only query.

use asof_model::FileFormat;
use asof_server::SqlRequest;
use clap::ValueEnum;

use crate::commands::train::why_broken;
use crate::context::Context;
use crate::problem::Problem;
use crate::stream::{ArrowReader, copy_to_stdout};
use crate::table::{Table, counted, terminal_width};

/// Flags of `sql`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The query; `-` reads it from stdin.
    query: String,
    /// How the rows are written; a table shows the first 1,000.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// Comma-separated values with a head
    Csv,
    /// One JSON object a line
    Ndjson,
    /// An Arrow IPC stream
    Arrow,
    /// A Parquet file
    Parquet,
}

/// So many rows are shown as a table.
const SHOWN: usize = 1000;

/// Asks and writes the rows.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let text = if args.query == "-" {
        use std::io::Read as _;
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| Problem::invalid("bad_stdin", format!("the query on stdin cannot be read: {error}")))?;
        text
    } else {
        args.query
    };
    let format = match args.format {
        Some(Format::Table) => None,
        Some(Format::Csv) => Some(FileFormat::Csv),
        Some(Format::Ndjson) => Some(FileFormat::Ndjson),
        Some(Format::Arrow) => Some(FileFormat::Arrow),
        Some(Format::Parquet) => Some(FileFormat::Parquet),
        None if printer.json => Some(FileFormat::Ndjson),
        None => None,
    };
    if let Some(format) = format {
        return ask(context, &text, format, async |body| copy_to_stdout(printer, body).await).await;
    }
    let mut reader = ArrowReader::new(SHOWN);
    ask(context, &text, FileFormat::Arrow, async |body| reader.read(body).await).await?;
    printer.line(Table::of_batches(&reader.first, SHOWN).text(terminal_width(), printer.color));
    if reader.rows > SHOWN as u64 {
        printer.say(format!("The first {SHOWN} of {}; --format csv writes all.", counted(reader.rows, "row")));
    }
    Ok(())
}

async fn ask(
    context: &Context,
    text: &str,
    format: FileFormat,
    take: impl AsyncFnOnce(asof_server::Body) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let run = format!("{:016x}", rand::random::<u64>());
    let request =
        SqlRequest { project: context.project()?, sql: text.to_owned(), format, run: Some(run.clone()) };
    let body = serde_json::to_vec(&request).unwrap_or_default();
    let client = context.client().await?;
    let body = crate::client::whole(body);
    let response = client.send(http::Method::POST, "/v1/sql", Some("application/json"), body).await?;
    match take(response.into_body()).await {
        Ok(()) => Ok(()),
        Err(problem) => Err(why_broken(client, &run, problem).await),
    }
}
