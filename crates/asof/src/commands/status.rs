//! `asof status`: how fresh every view is.

use asof_server::StatusAnswer;

use crate::client::path;
use crate::context::Context;
use crate::problem::Problem;
use crate::table::{Table, grouped, terminal_width, took};

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Shows.
pub(crate) async fn run(_: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let project = context.project()?;
    let answer: StatusAnswer =
        context.client().await?.get(&path(&["v1", "status"], &[("project", project.as_str())])).await?;
    if printer.json {
        answer.views.iter().for_each(|view| printer.json_line(view));
        return Ok(());
    }
    if answer.views.is_empty() {
        printer.say("No views stand yet; `asof apply` makes the folder's definitions stand.");
        return Ok(());
    }
    let mut table = Table::new(&["view", "version", "state", ">rows", ">behind", "age", "refresh", "last error"]);
    for view in &answer.views {
        table.row([
            view.view.clone(),
            view.version.short().to_owned(),
            view.state.clone(),
            grouped(view.rows),
            view.rows_behind.map_or_else(|| "?".to_owned(), grouped),
            view.age_seconds.map_or_else(|| "never".to_owned(), |age| took(std::time::Duration::from_secs_f64(age.max(0.0)))),
            view.refresh.clone().unwrap_or_default(),
            view.last_error.clone().unwrap_or_default(),
        ]);
    }
    printer.line(table.text(terminal_width(), printer.color));
    Ok(())
}
