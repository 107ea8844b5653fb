//! `asof apply`: makes the folder's definitions the ones that stand.

use asof_model::Action;
use asof_server::{ApplyAnswer, ApplyRequest};
use console::Style;

use crate::commands::plan;
use crate::context::Context;
use crate::problem::Problem;

/// Flags of `apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Remove what stands and the folder does not define any more.
    #[arg(long)]
    allow_remove: bool,
}

/// Plans, asks at a terminal, applies.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let (planned, files) = plan::plan(context).await?;
    let removes = planned.changes.iter().any(|change| change.action == Action::Removed);
    let ask = !args.yes && printer.can_ask() && (!planned.changes.is_empty() || planned.moved_from.is_some());
    if !printer.json {
        plan::show(printer, &planned, &files);
    }
    // Without --allow-remove the node refuses and says why: there is nothing to ask.
    if ask && (args.allow_remove || !removes) && !context.confirm("\nApply?")? {
        printer.say("Nothing was applied.");
        return Ok(());
    }
    let settings = context.settings()?;
    let request = ApplyRequest {
        root: Some(settings.root.value.clone()),
        files: files.clone(),
        base: Some(planned.base),
        allow_remove: args.allow_remove,
    };
    let client = context.client().await?;
    let answer: ApplyAnswer =
        client.post("/v1/apply", &request).await.map_err(|problem| problem.in_files(&files))?;
    if printer.json {
        printer.json_line(&answer);
    } else if !answer.changes.is_empty() || planned.moved_from.is_some() {
        let done = format!("project {}, revision {}", answer.project, answer.revision.0);
        printer.note("Applied", Style::new().green().bold(), done);
    }
    Ok(())
}
