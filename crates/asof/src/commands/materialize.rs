//! `asof materialize`: brings views up to date in the online store.

use asof_server::{MaterializeAnswer, MaterializeRequest};
use console::Style;

use crate::commands::train::watched;
use crate::context::Context;
use crate::printer::Printer;
use crate::problem::Problem;
use crate::table::{counted, grouped};

/// Flags of `materialize`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these views.
    views: Vec<String>,
}

/// Materialises.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let client = context.client().await?;
    let run = format!("{:016x}", rand::random::<u64>());
    let request = MaterializeRequest { project: context.project()?, views: args.views, run: Some(run.clone()) };
    let work = client.post("/v1/materialize", &request);
    let answer: MaterializeAnswer = watched(context, client, &run, "materialize", work).await?;
    show(context.printer, &answer);
    Ok(())
}

/// Shows what became of every view.
pub(crate) fn show(printer: Printer, answer: &MaterializeAnswer) {
    for view in &answer.views {
        if printer.json {
            printer.json_line(view);
            continue;
        }
        let how = view.rebuilt.as_ref().map_or_else(String::new, |why| format!(", rebuilt: {why}"));
        // Of rows that are kept one by one entities are counted only.
        let online = match (view.rows, view.keys) {
            (0, 1) => "1 entity online".to_owned(),
            (0, keys @ 1..) => format!("{} entities online", grouped(keys)),
            (rows, _) => format!("{} online", counted(rows, "row")),
        };
        let what = match view.rows_read {
            0 => format!("nothing new, {online}"),
            read => format!("{} read, {online}{how}", counted(read, "row")),
        };
        printer.note("Materialised", Style::new().green().bold(), format!("{}: {what}", view.view));
    }
}
