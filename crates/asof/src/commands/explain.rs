//! `asof explain`: how a view answers, in words; what derived features are computed of; or what an error code means.

use asof_model::{
    Definition, Derived, History, Input, Kind, Length, NamedWindow, Place, ThingKind, TimeRule, View, nearest,
};
use asof_registry::Shown;
use asof_server::http_status;

use crate::client::path;
use crate::codes;
use crate::context::Context;
use crate::printer::Printer;
use crate::problem::Problem;
use crate::table::{Table, terminal_width};

/// Flags of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A view, a derived, or the code of an error; without it every code is listed.
    what: Option<String>,
}

/// Explains.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let Some(what) = args.what else {
        list(printer);
        return Ok(());
    };
    if let Some((kind, code, text)) = codes::all().find(|(_, code, _)| *code == what) {
        if printer.json {
            printer.json_line(&of_code(kind, code, text));
        } else {
            printer.line(format!("{code} ({kind}: HTTP {}, exit code {})\n", http_status(kind, code).as_u16(), kind.exit_code()));
            let width = match terminal_width() {
                0 => 100,
                width => width.clamp(40, 100),
            };
            printer.line(wrapped(text, width));
        }
        return Ok(());
    }
    let unknown = |hint: String| {
        Problem::new(Kind::NotFound, "nothing_to_explain", format!("`{what}` is no view, no derived and no known error code"))
            .hint(hint)
    };
    let nearest = nearest(&what, codes::all().map(|(_, code, _)| code)).map(|code| format!("did you mean `{code}`?"));
    let fallback =
        || nearest.clone().unwrap_or_else(|| "`asof list views` lists the views, `asof explain` the codes".to_owned());
    let Ok(project) = context.project() else { return Err(unknown(fallback())) };
    let client = context.client().await?;
    let get = async |thing: String| -> Result<Shown, Problem> {
        client.get(&path(&["v1", "projects", project.as_str(), "things", &thing], &[("sample", "0")])).await
    };
    let mut found = get(format!("view/{what}")).await;
    if found.as_ref().is_err_and(|problem| problem.kind() == Kind::NotFound)
        && let Ok(derived) = get(format!("derived/{what}")).await
    {
        found = Ok(derived);
    }
    let shown = match found {
        Ok(shown) => shown,
        Err(problem) if problem.kind() == Kind::NotFound => {
            return Err(unknown(nearest.clone().or(problem.body.hint).unwrap_or_else(fallback)));
        }
        Err(problem) => return Err(problem),
    };
    if let Definition::Derived(derived) = &shown.definition {
        let lines = explain_derived(derived, &shown);
        if printer.json {
            printer.json_line(&serde_json::json!({"derived": shown.name, "lines": lines}));
        } else {
            printer.line(format!("What derived {} gives, asked at a time t:\n", shown.name));
            numbered(printer, &lines);
        }
        return Ok(());
    }
    let Definition::View(view) = &shown.definition else { return Err(unknown(fallback())) };
    let source_path = path(&["v1", "projects", shown.project.as_str(), "things", &format!("source/{}", view.source)], &[("sample", "0")]);
    let source: Shown = client.get(&source_path).await?;
    let lines = explain(view, &source);
    if printer.json {
        printer.json_line(&serde_json::json!({"view": shown.name, "lines": lines}));
    } else {
        printer.line(format!("How view {} answers, asked for one {} at a time t:\n", shown.name, view.entity));
        numbered(printer, &lines);
    }
    Ok(())
}

fn numbered(printer: Printer, lines: &[String]) {
    for (number, line) in lines.iter().enumerate() {
        printer.line(format!("{:>2}. {line}", number + 1));
    }
}

/// What each feature is computed of.
fn explain_derived(derived: &Derived, shown: &Shown) -> Vec<String> {
    let is_derived = |address: &asof_model::Address| {
        shown.stands_on.iter().any(|on| on.kind == ThingKind::Derived && on.name == address.to_string())
            || (address.project == shown.project && address.name == shown.name)
    };
    let mut lines = Vec::new();
    for column in &derived.request {
        lines.push(format!(
            "The request brings `{}` ({}); in training it is a column of the spine.",
            column.name, column.data_type
        ));
    }
    for feature in &derived.features {
        let inputs = derived.inputs(&shown.project, feature, is_derived);
        let read: Vec<String> = inputs
            .iter()
            .map(|input| match input {
                Input::Feature { view, feature } => format!("`{feature}` of view {view}"),
                Input::Derived { derived, feature } => format!("`{feature}` of derived {derived}"),
                Input::Request { column } => format!("`{column}` of the request"),
                Input::RequestTime => "`request_time`, which is t".to_owned(),
            })
            .collect();
        let column = shown.columns.iter().find(|column| column.name == feature.name.as_str());
        let kind = column.map_or_else(String::new, |column| format!(" ({})", column.data_type));
        let of = if read.is_empty() { "nothing else".to_owned() } else { read.join(", ") };
        lines.push(format!("`{}`{kind} is `{}`, computed of {of}.", feature.name, feature.expression.text));
    }
    lines.push(
        "All of them are as of t, of the same request: a null among them is a null in the expression. Online and in training the \
         same expression is evaluated, over what `asof explain` says of each view."
            .to_owned(),
    );
    lines
}

fn of_code(kind: Kind, code: &str, text: &str) -> serde_json::Value {
    serde_json::json!({
        "code": code, "kind": kind.name(), "http_status": http_status(kind, code).as_u16(), "exit_code": kind.exit_code(), "text": text
    })
}

/// Every code, by kind.
fn list(printer: Printer) {
    let mut table = Table::new(&["code", "kind", "meaning"]);
    for (kind, code, text) in codes::all() {
        if printer.json {
            printer.json_line(&of_code(kind, code, text));
        }
        table.row([code.to_owned(), kind.to_string(), text.to_owned()]);
    }
    if !printer.json {
        printer.line(table.text(terminal_width(), printer.color));
    }
}

/// A text in lines of at most this many letters.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
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
        Place::Push { past: None } => "its own table, filled by pushes".to_owned(),
        Place::Push { past: Some(past) } => {
            format!("its own table, filled by pushes, and for the past `{}`, read in place", past.path)
        }
    };
    lines.push(format!("It reads source {}: {place}.", definition.name));
    match (&definition.event_time, &definition.available_at) {
        (None, _) => lines.push("Its rows are facts without a clock: they happened before all time.".to_owned()),
        (Some(event), available) => {
            lines.push(format!("A row happened at {}.", rule(event)));
            lines.push(match (available, definition.store) {
                _ if matches!(definition.place, Place::Push { .. }) => {
                    let loaded = available.as_ref().map_or_else(|| "when it happened".to_owned(), rule);
                    format!("A row may be used from the moment it was accepted on; one that was loaded, from {loaded} on.")
                }
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
        let (delete, ends) = (&delete.text, "from when it happened on there is no answer until a newer row");
        lines.push(match &definition.id {
            None => format!("A row with `{delete}` is a delete: {ends}."),
            Some(id) => {
                // What windows have no notion of.
                let nameless = if view.is_window() { "it is refused" } else { ends };
                format!(
                    "A row with `{delete}` is a delete: from when it may be used on it withdraws the event that its `{}` names, \
                     whenever it happened itself, and the row below answers. Where that is null, {nameless}.",
                    id.text
                )
            }
        });
    }
    if let Some(id) = &definition.id {
        lines.push(format!(
            "Rows of one `{}` are versions of one event: from when a later one may be used, the one before it counts no more.",
            id.text
        ));
    }
    let order = definition.order_by.as_ref().map_or_else(String::new, |order| format!(", then by `{}`", order.text));
    let mut windows: Vec<NamedWindow> = Vec::new();
    for feature in view.expanded().unwrap_or_default() {
        for named in feature.aggregate.map(|aggregate| aggregate.windows).unwrap_or_default() {
            if !windows.contains(&named) {
                windows.push(named);
            }
        }
    }
    lines.extend(windows.iter().map(covered));
    if !windows.is_empty() {
        lines.push(
            "Of those rows, each that could be used at t is added up; nulls are skipped. Where nothing is left the answer is null, \
             of counts 0, or the feature's default."
                .to_owned(),
        );
        lines.push(asked_online(view.history));
        return lines;
    }
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
    lines.push(asked_online(view.history));
    if matches!(definition.place, Place::Push { .. }) {
        return lines;
    }
    lines.push(match view.refresh {
        Some(refresh) => format!("A running node materialises it every {refresh}."),
        None => "It is materialised at the start of a node and by `asof materialize`.".to_owned(),
    });
    lines
}

/// When the rows happened that a window covers, with the ending that its features have.
fn covered(named: &NamedWindow) -> String {
    let (suffix, window) = (named.suffix(), &named.window);
    let before = |length: Length| match length {
        length if length.is_zero() => "t".to_owned(),
        length => format!("{length} before t"),
    };
    let end = before(window.offset);
    let (lower, upper) = if window.include_now { ("after", "at or before") } else { ("at or after", "before") };
    let Some(length) = window.length else { return format!("Window {suffix}: rows that happened {upper} {end}.") };
    let begin = before(Length::from_micros(length.micros() + window.offset.micros()));
    let floored = window.resolution.map_or_else(String::new, |to| format!(", floored to a multiple of {to}"));
    format!("Window {suffix}: rows that happened {lower} {begin}{floored}, and {upper} {end}.")
}

fn asked_online(history: History) -> String {
    match history {
        History::All => "Online it can be asked as of any time in the past.".to_owned(),
        History::Length(length) => format!("Online it can be asked as of up to {length} ago."),
        History::None => "Online it can be asked as of now only; offline at any time.".to_owned(),
    }
}
