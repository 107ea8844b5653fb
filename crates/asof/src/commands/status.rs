//! `asof status`: how fresh every view is.

use std::collections::BTreeMap;

use asof_server::{StatusAnswer, StatusOfIntake, StatusOfOperations, StatusOfServingLog};

use crate::client::path;
use crate::context::Context;
use crate::problem::Problem;
use crate::table::{Table, grouped, terminal_width, took};

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// What the node is busy with, if it is; `operations: 2 of 2 (refresh 1, train 1), 3 waiting (load 3)`.
fn busy(operations: &StatusOfOperations) -> Option<String> {
    let listed = |counts: &BTreeMap<String, u64>| {
        let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        parts.join(", ")
    };
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    let (running, waiting) = (sum(&operations.running), sum(&operations.waiting));
    let mut text = match running {
        0 => return None,
        _ => format!("operations: {running} of {} at once ({})", operations.at_once, listed(&operations.running)),
    };
    if waiting > 0 {
        text = format!("{text}, {waiting} waiting ({})", listed(&operations.waiting));
    }
    Some(text)
}

/// What the live store holds, once there is anything; `live store: up to position 5,000; log 0.7 MB, tables 0.0 MB`.
fn held(intake: &StatusOfIntake) -> Option<String> {
    if intake.accepted == 0 {
        return None;
    }
    let size = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let position = grouped(u64::try_from(intake.accepted).unwrap_or(0));
    let (log, tables) = (size(intake.log_bytes), size(intake.table_bytes));
    let mut text = format!("live store: up to position {position}; log {log}, tables {tables}");
    if let Some(lag) = intake.flush_lag_seconds {
        text = format!("{text}; its log was not moved for {lag:.0} s");
    }
    if intake.waiting > 0 {
        text = format!("{text}; {} batches waiting", grouped(intake.waiting));
    }
    for (table, error) in &intake.flush_errors {
        text = format!("{text}\npushed rows of {table} stay in the log: {error}");
    }
    Some(text)
}

/// What is missing of the serving log, if anything is.
fn not_logged(log: &StatusOfServingLog) -> Option<String> {
    if log.dropped == 0 && log.error.is_none() {
        return None;
    }
    let (logged, dropped) = (grouped(log.logged), grouped(log.dropped));
    let why = log.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    Some(format!("serving log: {logged} rows kept, {dropped} dropped{why}"))
}

/// Shows.
pub(crate) async fn run(_: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let project = context.project()?;
    let answer: StatusAnswer =
        context.client().await?.get(&path(&["v1", "status"], &[("project", project.as_str())])).await?;
    if printer.json {
        answer.views.iter().for_each(|view| printer.json_line(view));
        if busy(&answer.operations).is_some() {
            printer.json_line(&serde_json::json!({"operations": answer.operations}));
        }
        if let Some(intake) = &answer.intake
            && held(intake).is_some()
        {
            printer.json_line(&serde_json::json!({"intake": intake}));
        }
        if let Some(log) = answer.serving_log.as_ref().filter(|log| log.logged > 0 || not_logged(log).is_some()) {
            printer.json_line(&serde_json::json!({"serving_log": log}));
        }
        return Ok(());
    }
    if let Some(busy) = busy(&answer.operations) {
        printer.line(busy);
    }
    if let Some(dropped) = answer.serving_log.as_ref().and_then(not_logged) {
        printer.line(dropped);
    }
    if let Some(intake) = answer.intake.as_ref().and_then(held) {
        printer.line(intake);
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
            view.rows.map_or_else(|| "?".to_owned(), grouped),
            view.rows_behind.map_or_else(|| "?".to_owned(), grouped),
            view.age_seconds.map_or_else(|| "never".to_owned(), |age| took(std::time::Duration::from_secs_f64(age.max(0.0)))),
            view.refresh.clone().unwrap_or_default(),
            view.last_error.clone().unwrap_or_default(),
        ]);
    }
    printer.line(table.text(terminal_width(), printer.color));
    for view in answer.views.iter().filter(|view| view.past_retention > 0) {
        let (name, rows) = (&view.view, grouped(view.past_retention));
        printer.line(format!(
            "{name}: rows older than it keeps online: {rows}; they are kept offline, for training"
        ));
    }
    for view in answer.views.iter().filter(|view| view.null_keys > 0) {
        let (name, rows) = (&view.view, grouped(view.null_keys));
        printer.line(format!("{name}: rows with a null key, which belong to no entity of it: {rows}"));
    }
    Ok(())
}
