//! `asof get`: the features of one or more entities from the online store.

use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::problem::Problem;
use crate::table::{Table, terminal_width};

/// Flags of `get`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service, unless --features is given; then the keys: `seller_id=42`, once per entity, and what derived
    /// features read of the request: `price=199`.
    #[arg(required = true, value_name = "SERVICE | KEY=VALUE")]
    words: Vec<String>,
    /// These features instead of a service's: `view.feature,view.*`.
    #[arg(long, value_name = "LIST")]
    features: Option<String>,
    /// Answer as of this time instead of now.
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// Name columns `view__feature`.
    #[arg(long)]
    full_names: bool,
}

/// Asks and shows.
pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let mut words = args.words.as_slice();
    let mut request = Map::new();
    request.insert("project".to_owned(), json!(context.project()?));
    match (&args.features, words.split_first()) {
        (Some(features), _) => {
            let features: Vec<&str> = features.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
            request.insert("features".to_owned(), json!(features));
        }
        (None, Some((service, rest))) if !service.contains('=') => {
            request.insert("service".to_owned(), json!(service));
            words = rest;
        }
        _ => {
            return Err(Problem::invalid("no_service", "neither a service nor --features is named")
                .hint("write `asof get SERVICE key=value`"));
        }
    }
    let mut entities: Map<String, Value> = Map::new();
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            return Err(Problem::invalid("bad_key", format!("`{word}` is not KEY=VALUE"))
                .hint("write every key as key=value, e.g. seller_id=42"));
        };
        let column = entities.entry(key).or_insert_with(|| json!([]));
        if let Value::Array(values) = column {
            values.push(json!(value));
        }
    }
    request.insert("entities".to_owned(), Value::Object(entities.clone()));
    request.insert("include".to_owned(), json!(["status", "event_time"]));
    if let Some(as_of) = &args.as_of {
        request.insert("as_of".to_owned(), json!(as_of));
    }
    if args.full_names {
        request.insert("full_names".to_owned(), json!(true));
    }
    let client = context.client().await?;
    let mut answer: Result<Value, Problem> = client.post("/v1/features", &request).await;
    // Only the node knows which words are keys, and which are what derived features read of the request.
    let mut brought: Map<String, Value> = Map::new();
    if let Err(problem) = &answer
        && problem.body.code == "request_column_in_entities"
    {
        let named = problem.body.message.split_once(", no key of ").map_or("", |(named, _)| named);
        for name in named.split('`').skip(3).step_by(2) {
            brought.extend(entities.remove(name).map(|values| (name.to_owned(), values)));
        }
        request.insert("entities".to_owned(), Value::Object(entities.clone()));
        request.insert("request".to_owned(), Value::Object(brought.clone()));
        answer = client.post("/v1/features", &request).await;
    }
    // A word of the command line is text; only a boolean cannot be read from text.
    let wrong = |code: &str| matches!(code, "bad_key_value" | "bad_request_value");
    if answer.as_ref().is_err_and(|problem| wrong(&problem.body.code)) {
        let (keys, values) = (booleans(&mut entities), booleans(&mut brought));
        if keys || values {
            request.insert("entities".to_owned(), Value::Object(entities.clone()));
            request.insert("request".to_owned(), Value::Object(brought.clone()));
            answer = client.post("/v1/features", &request).await;
        }
    }
    let listed = words.iter().any(|word| word.contains([',', '[']));
    let answer = answer.map_err(in_words_of_the_command).map_err(|problem| match &problem.body.hint {
        Some(hint) if listed && problem.body.code == "bad_key_value" => {
            let hint = format!("{hint}; for several entities write the key again: KEY=1 KEY=2");
            problem.hint(hint)
        }
        _ => problem,
    })?;
    if printer.json {
        printer.json_line(&answer);
        return Ok(());
    }
    printer.line(table(&answer).text(terminal_width(), printer.color));
    Ok(())
}

/// What the wire says of its JSON, as it concerns `KEY=VALUE`.
fn in_words_of_the_command(mut problem: Problem) -> Problem {
    let message = problem.body.message.clone();
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    let said = match problem.body.code.as_ref() {
        "missing_key" => message
            .strip_prefix("`entities` has no column ")
            .and_then(|rest| rest.split_once(", which "))
            .map(|(key, needs)| format!("the key {key} is missing, which {needs}")),
        "unknown_key" => message.strip_prefix("`entities` has a column ").map(|rest| rest.replacen(", which is", " is", 1)),
        "unequal_lengths" => message
            .strip_prefix("the columns of `entities` differ in length: ")
            .map(|rest| format!("every entity has all keys, and there are more of one than of another: {rest}")),
        "missing_request_column" => message
            .strip_prefix("`request` has no column ")
            .and_then(|rest| rest.split_once(", which "))
            .map(|(column, needs)| format!("the value of {column} is missing, which {needs}")),
        "bad_key_value" | "bad_request_value" => message.split_once(" is ").and_then(|(place, rest)| {
            let place = quoted(place)?;
            let place = place.strip_prefix("entities.").or_else(|| place.strip_prefix("request."))?;
            let (key, at) = place.strip_suffix(']')?.rsplit_once('[')?;
            let entity = at.parse::<usize>().ok()? + 1;
            let rest = rest
                .replacen("a string that is ", "", 1)
                .replacen("a string with the digits of ", "", 1)
                .replacen("an empty string", "empty", 1);
            let of = if entity > 1 { format!(" of entity {entity}") } else { String::new() };
            Some(format!("the value of `{key}`{of} is {rest}"))
        }),
        _ => message.strip_prefix("`as_of`: ").map(|rest| format!("--as-of: {rest}")),
    };
    if let Some(said) = said {
        problem.body.message = said;
        if let Some(hint) = &mut problem.body.hint {
            *hint = hint.replace(", or its digits as a string", "").replace("as a string, e.g. \"12.50\"", "as 12.50");
            *hint = hint.replace("write a string in double quotes", "write it as KEY=VALUE").replace('"', "");
            if problem.body.code == "missing_request_column" {
                *hint = format!("write it as {}=VALUE", quoted(&message.replace("`request`", "")).unwrap_or_default());
            }
        }
    }
    problem
}

fn booleans(entities: &mut Map<String, Value>) -> bool {
    let mut any = false;
    for column in entities.values_mut() {
        let Value::Array(values) = column else { continue };
        for value in values {
            let read = match value.as_str() {
                Some("true") => true,
                Some("false") => false,
                _ => continue,
            };
            *value = Value::Bool(read);
            any = true;
        }
    }
    any
}

/// One line per feature, one column per entity, with the status and time of the row that answers.
pub(crate) fn table(answer: &Value) -> Table {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let columns = list(answer, "columns");
    let readings = list(answer, "readings");
    let entities = columns.first().map_or(0, |column| list(column, "values").len());
    let single = entities == 1;
    let mut table = if single {
        Table::new(&["feature", "value", "type", "status", "event time"])
    } else {
        Table::new(&["feature", "type"])
    };
    if !single {
        for entity in 0..entities {
            table.column(&format!("#{}", entity + 1));
        }
    }
    for column in &columns {
        let name = column.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = column.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let values = list(column, "values");
        let reading = column.get("reading").and_then(Value::as_u64).and_then(|it| readings.get(usize::try_from(it).ok()?));
        // A feature over windows has statuses of its own; any other has those of the row that answers.
        let statuses = column.get("status").or_else(|| reading?.get("status"));
        let status = |entity: usize| statuses.and_then(|all| all.get(entity)).and_then(Value::as_str).unwrap_or_default();
        if single {
            let event_time = reading.and_then(|reading| reading.get("event_time")?.get(0)?.as_str()).unwrap_or_default();
            let value = values.first().map(&text).unwrap_or_default();
            table.row([name, value, kind, status(0).to_owned(), event_time.replace(".000000Z", "Z")]);
        } else {
            // Of a null it is said why, as far as that is not the row's own value.
            let shown = values.iter().enumerate().map(|(entity, value)| match status(entity) {
                why if value.is_null() && !matches!(why, "" | "present" | "null") => format!("null ({why})"),
                _ => text(value),
            });
            table.row([name, kind].into_iter().chain(shown));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_over_windows_are_shown_with_their_own_status() {
        let answer = |entities: usize| {
            let cut = |all: [Value; 2]| all[..entities].to_vec();
            json!({
                "columns": [
                    {"name": "total", "type": "int64", "reading": 0, "values": cut([json!(null), json!(null)]),
                     "status": cut([json!("overflow"), json!("null")])},
                    {"name": "count", "type": "int64", "reading": 0, "values": cut([json!(0), json!(2)]),
                     "status": cut([json!("present"), json!("present")])},
                    {"name": "tier", "type": "string", "reading": 1, "values": cut([json!(null), json!(null)])},
                    {"name": "share", "type": "float64", "values": cut([json!(null), json!(0.5)])},
                ],
                "readings": [
                    {"view": "spend", "status": cut([json!("not_found"), json!("present")]), "event_time": cut([json!(null), json!(null)])},
                    {"view": "buyer", "status": cut([json!("expired"), json!("no_key")]),
                     "event_time": cut([json!("2024-01-01T00:00:00.000000Z"), json!(null)])},
                ],
            })
        };
        let lines = |entities| -> Vec<Vec<String>> {
            let text = table(&answer(entities)).text(0, false);
            text.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
        };
        assert_eq!(
            lines(1),
            [
                vec!["total", "null", "int64", "overflow"],
                vec!["count", "0", "int64", "present"],
                vec!["tier", "null", "string", "expired", "2024-01-01T00:00:00Z"],
                vec!["share", "null", "float64"],
            ]
        );
        assert_eq!(
            lines(2),
            [
                vec!["total", "int64", "null", "(overflow)", "null"],
                vec!["count", "int64", "0", "2"],
                vec!["tier", "string", "null", "(expired)", "null", "(no_key)"],
                vec!["share", "float64", "null", "0.5"],
            ]
        );
    }
}
