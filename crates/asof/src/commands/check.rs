//! `asof check`: whether what was served is what training says.

use asof_model::Kind;
use asof_server::{CheckConsistency, ConsistencyAnswer, ConsistencyPlace};
use console::Style;

use crate::commands::train::watched;
use crate::context::Context;
use crate::printer::Printer;
use crate::problem::Problem;
use crate::table::{Table, counted, grouped, terminal_width};

/// Flags of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Answer the serving log again through the training path; every value must be the same
    Consistency(Consistency),
}

#[derive(Debug, clap::Args)]
struct Consistency {
    /// Only what was asked of this service.
    service: Option<String>,
    /// Only what was asked since this time.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show the keys of rows that differ, which are data.
    #[arg(long)]
    show_keys: bool,
}

/// Checks.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let What::Consistency(Consistency { service, since, show_keys }) = args.what;
    let client = context.client().await?;
    let run = format!("{:016x}", rand::random::<u64>());
    let project = context.project()?;
    let request = CheckConsistency { project, service, since, show_keys, run: Some(run.clone()) };
    let work = client.post("/v1/check/consistency", &request);
    let answer: ConsistencyAnswer = watched(context, client, &run, "check", work).await?;
    if context.printer.json {
        context.printer.json_line(&answer);
    } else {
        show(context.printer, &answer);
    }
    if answer.consistent {
        return Ok(());
    }
    let (mismatched, missing, extra) =
        (grouped(answer.mismatched), grouped(answer.missing), grouped(answer.extra));
    let message = format!(
        "what was served is not what training says: {mismatched} mismatched, {missing} missing, {extra} extra of {}",
        counted(answer.values, "value")
    );
    Err(Problem::new(Kind::Conflict, "not_consistent", message)
        .hint("the places name rows of the serving log in the node's folder; please report it, it is a defect of Asof"))
}

fn show(printer: Printer, answer: &ConsistencyAnswer) {
    if answer.dropped > 0 {
        let dropped = counted(answer.dropped, "row");
        printer.warn(format!("{dropped} of the sample were not logged since the node was opened"));
    }
    for it in &answer.not_checkable {
        let rows = counted(it.rows, "row");
        printer.warn(format!("{rows} cannot be answered as they were: source `{}`: {}", it.source, it.reason));
    }
    if answer.rows == 0 {
        printer.say("Nothing is logged; `serving_log_sample` in asof.yaml says which share of keys is.");
        return;
    }
    let mut table = Table::new(&["feature", ">values", ">mismatched", ">missing", ">extra", ">lag"]);
    for it in &answer.features {
        let counts = [it.values, it.mismatched, it.missing, it.extra, it.lag].map(grouped);
        let [values, mismatched, missing, extra, lag] = counts;
        table.row([it.feature.clone(), values, mismatched, missing, extra, lag]);
    }
    printer.line(table.text(terminal_width(), printer.color));
    let wrong = |place: &&ConsistencyPlace| place.what != "lag";
    for it in &answer.features {
        // Lag is no fault of anybody; its places are told where nothing else is.
        let faults = it.places.iter().any(|place| wrong(&place));
        for place in it.places.iter().filter(|place| !faults || wrong(place)) {
            let ConsistencyPlace { what, file, row, as_of, keys } = place;
            let keys = keys.as_ref().map_or_else(String::new, |keys| format!(" {keys}"));
            printer.line(format!("{}: {what} at {file} row {row}, as of {as_of}{keys}", it.feature));
        }
    }
    if answer.consistent {
        let (rows, trainings) = (counted(answer.rows, "row"), counted(answer.trainings, "training"));
        let lag = match answer.lag {
            0 => String::new(),
            lag => format!("; {} would be trained on otherwise now (lag)", grouped(lag)),
        };
        let text = format!("{} of {rows} are what {trainings} say{lag}", counted(answer.values, "value"));
        printer.note("Consistent:", Style::new().green().bold(), text);
    }
}
