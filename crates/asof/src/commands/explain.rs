//! `asof explain`: how a view answers, in words; or what an error code means.

use asof_model::{Definition, History, Kind, Place, TimeRule, View};
use asof_registry::Shown;

use crate::client::path;
use crate::context::Context;
use crate::problem::Problem;

/// Flags of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A view, or the code of an error.
    what: String,
}

/// What the codes that people meet most mean, and the way out. Others are told by their kind.
const CODES: &[(&str, Kind, &str)] = &[
    ("address_taken", Kind::Conflict, "Another program listens on the address. Often it is another `asof up`: `asof doctor` in its folder shows its process. Choose another address with --listen; port 0 takes a free one."),
    ("apply_conflict", Kind::Conflict, "Somebody applied another change to this project after your plan was made. The message names the changes and who made them. Get them into your folder, plan again, apply again."),
    ("bad_definitions", Kind::Invalid, "The files of the project have problems. All are listed above the message, each with its file, line and column, what is wrong and what to do."),
    ("bad_key_value", Kind::Invalid, "A value of a key column is not of the type its entity says. Nothing is rounded or converted: 1.0 is no int64. The message names the column and the position, never the value."),
    ("bad_row", Kind::Invalid, "A row of a file breaks a rule of its source, and the file was not loaded. Mend the file, or load with --on-bad-row quarantine: then bad rows go to a table of their own, each with its reason."),
    ("bad_token", Kind::Unauthenticated, "The token sent is not the server's. The commands send ASOF_TOKEN; a node in this folder writes its own to .asof/node.json, which only its owner can read."),
    ("body_too_large", Kind::Invalid, "The request's body is over the limit. Split the request; for many rows use `asof train`."),
    ("changed", Kind::Conflict, "A file or table that was being read, or that a recorded training set was made from, is no longer what it was. Nothing was written. Run it again when nobody writes to it; a rebuild needs the data as it was."),
    ("data_dir_in_use", Kind::Conflict, "One node owns a data directory. The message names the process that does. If it serves, commands speak to it by themselves; if it is another command, wait for it."),
    ("data_dir_not_empty", Kind::Conflict, "A backup is restored only where nothing stands, so that nothing is lost. Restore into another folder with --data-dir, or move the old one away."),
    ("exposed_address", Kind::Invalid, "Other machines can reach the address, and the server has no token or no TLS. Set ASOF_TOKEN and give --tls-certificate and --tls-key, or say --insecure where the network itself is trusted."),
    ("foreign_host", Kind::Forbidden, "Without a token the server answers only programs of its own machine that call it by a name of loopback, so that no web page can reach it through a browser."),
    ("no_project", Kind::NotFound, "The folder, and none above it, has an asof.yaml. One line makes a project: `project: NAME`."),
    ("removal_not_allowed", Kind::Conflict, "The folder is the whole of its project: what it does not define would be removed. Say --allow-remove if that is meant."),
    ("token_required", Kind::Unauthenticated, "The server asks for a token. Set ASOF_TOKEN, or send `Authorization: Bearer TOKEN`."),
    ("too_many_connections", Kind::Exhausted, "The server has as many connections open as it allows. Keep connections open and use them again."),
    ("unequal_lengths", Kind::Invalid, "Every column of `entities` has one value per entity asked for, so all have the same length."),
    ("view_not_materialized", Kind::Unavailable, "The online store has no rows of the view's present version yet. `asof materialize` makes it ready; `asof status` shows how far it is."),
];

/// Explains.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    if let Some((code, kind, text)) = CODES.iter().find(|(code, _, _)| *code == args.what) {
        if printer.json {
            printer.json_line(&serde_json::json!({
                "code": code, "kind": kind.name(), "http_status": kind.http_status(), "exit_code": kind.exit_code(), "text": text
            }));
        } else {
            printer.line(format!("{code} ({kind}: HTTP {}, exit code {})\n\n{text}", kind.http_status(), kind.exit_code()));
        }
        return Ok(());
    }
    let unknown = |hint: String| {
        Problem::new(Kind::NotFound, "nothing_to_explain", format!("`{}` is neither a view nor a known error code", args.what))
            .hint(hint)
    };
    let nearest = CODES
        .iter()
        .map(|(code, _, _)| (strsim::damerau_levenshtein(code, &args.what), *code))
        .filter(|(distance, code)| *distance <= 1 + code.len() / 3)
        .min()
        .map(|(_, code)| format!("did you mean `{code}`?"));
    let fallback = || nearest.clone().unwrap_or_else(|| "`asof list views` lists the views".to_owned());
    let Ok(project) = context.project() else { return Err(unknown(fallback())) };
    let client = context.client().await?;
    let thing = format!("view/{}", args.what);
    let shown: Shown = match client.get(&path(&["v1", "projects", project.as_str(), "things", &thing], &[])).await {
        Ok(shown) => shown,
        Err(problem) if problem.kind() == Kind::NotFound => {
            return Err(unknown(nearest.clone().or(problem.body.hint).unwrap_or_else(fallback)));
        }
        Err(problem) => return Err(problem),
    };
    let Definition::View(view) = &shown.definition else { return Err(unknown(fallback())) };
    let source_path = path(&["v1", "projects", shown.project.as_str(), "things", &format!("source/{}", view.source)], &[]);
    let source: Shown = client.get(&source_path).await?;
    let lines = explain(view, &source);
    if printer.json {
        printer.json_line(&serde_json::json!({"view": shown.name, "lines": lines}));
    } else {
        printer.line(format!("How view {} answers, asked for one {} at a time t:\n", shown.name, view.entity));
        for (number, line) in lines.iter().enumerate() {
            printer.line(format!("{:>2}. {line}", number + 1));
        }
    }
    Ok(())
}

fn rule(rule: &TimeRule) -> String {
    match rule {
        TimeRule::Column { name, zone: Some(zone), .. } => format!("`{name}` (read in {zone})"),
        TimeRule::Column { name, .. } => format!("`{name}`"),
        TimeRule::Expression(expression) => format!("`{}`", expression.text),
    }
}

/// The steps of an answer, in the order in which they are taken.
fn explain(view: &View, source: &Shown) -> Vec<String> {
    let Definition::Source(definition) = &source.definition else { return Vec::new() };
    let mut lines = Vec::new();
    let place = match &definition.place {
        Place::Files { path, .. } if definition.store => format!("its own table, filled from `{path}` by `asof load`"),
        Place::Files { path, .. } => format!("`{path}`, read in place"),
        Place::Sql { .. } => "a query over other sources".to_owned(),
    };
    lines.push(format!("It reads source {}: {place}.", definition.name));
    match (&definition.event_time, &definition.available_at) {
        (None, _) => lines.push("Its rows are facts without a clock: they happened before all time.".to_owned()),
        (Some(event), available) => {
            lines.push(format!("A row happened at {}.", rule(event)));
            lines.push(match (available, definition.store) {
                (Some(available), _) => format!(
                    "A row may be used from {} on; where that is null, never. Under the question event every row counts as on time.",
                    rule(available)
                ),
                (None, true) => "A row may be used from the moment it was loaded on, unless the question is event.".to_owned(),
                (None, false) => "When a row could be used is not said: it is taken to be when it happened.".to_owned(),
            });
        }
    }
    if let Some(filter) = &view.filter {
        lines.push(format!("Only rows with `{}` count.", filter.text));
    }
    if let Some(delete) = &definition.delete_when {
        lines.push(format!("A row with `{}` is a delete: from then on there is no answer until a newer row.", delete.text));
    }
    let order = definition.order_by.as_ref().map_or_else(String::new, |order| format!(", then by `{}`", order.text));
    lines.push(format!(
        "Of the rows that happened at or before t and could be used at t, the last one answers: by when it happened, then by when it could be used{order}."
    ));
    if let Some(ttl) = view.ttl {
        lines.push(format!("If that row is older than {ttl} at t, the answer is null, `expired`; the row below it does not return."));
    }
    if let Some(until) = &definition.valid_until {
        lines.push(format!("If t has reached {} of that row, the answer is null, `expired`.", rule(until)));
    }
    lines.push("All features come from that one row. Without one they are null, `not_found`; with a null key, `no_key`.".to_owned());
    lines.push(match view.history {
        History::All => "Online it can be asked as of any time in the past.".to_owned(),
        History::Length(length) => format!("Online it can be asked as of up to {length} ago."),
        History::None => "Online it can be asked as of now only; offline at any time.".to_owned(),
    });
    lines.push(match view.refresh {
        Some(refresh) => format!("A running node materialises it every {refresh}."),
        None => "It is materialised at the start of a node and by `asof materialize`.".to_owned(),
    });
    lines
}
