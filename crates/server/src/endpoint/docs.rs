//! `GET /docs`: the same as `/openapi.json`, for people. One page, nothing fetched from elsewhere.

use std::fmt::Write as _;

use axum::response::IntoResponse;
use axum::routing::get;
use http::header;
use serde_json::{Value, json};

use super::{ENDPOINTS, Endpoint, Patience};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/docs",
    open: true,
    patience: Patience::Short,
    summary: "This page",
    about: "Every endpoint, what it takes and what it answers.",
    route: || get(docs),
    operation: || json!({"responses": {"200": {"description": "HTML"}}}),
};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}\
h1{margin-bottom:0}h2{margin:2.5rem 0 .25rem;font-size:1.1rem;font-family:ui-monospace,monospace;border-top:1px solid #ddd;padding-top:1rem}\
.n{font-size:.85rem;opacity:.8}.m{display:inline-block;min-width:3.5rem;color:#0b6e4f}pre{background:#f5f5f2;padding:.75rem;overflow:auto;border-radius:4px;font-size:.85rem}\
table{border-collapse:collapse}td{padding:.15rem 1rem .15rem 0;vertical-align:top}code{font-family:ui-monospace,monospace}nav td{padding-right:1.5rem}\
@media(prefers-color-scheme:dark){body{color:#e8e8e8;background:#161616}pre{background:#222}h2{border-color:#333}td,th{border-color:#333}a{color:#7db7ff}.m{color:#5fd3a8}}";

async fn docs() -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ],
        page(),
    )
}

fn page() -> String {
    let mut html = String::with_capacity(32 << 10);
    html.push_str("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Asof: the HTTP interface</title><style>");
    html.push_str(STYLE);
    html.push_str("</style><h1>Asof</h1><p>The HTTP interface. The same for machines: <a href=\"/openapi.json\">openapi.json</a>. \
        Where the server has a token, send <code>Authorization: Bearer TOKEN</code>. \
        Errors are <code>{\"error\": {\"kind\", \"code\", \"message\", \"hint\"}}</code>; an answer is whole or an error. \
        By gRPC, on the same port, rows are pushed as <code>proto/asof/v1/intake.proto</code> says.</p><nav>");
    html.push_str("<table>");
    for endpoint in ENDPOINTS {
        put(
            &mut html,
            format_args!(
                "<tr><td><code><span class=\"m\">{}</span> <a href=\"#{}\">{}</a></code></td><td>{}</td></tr>",
                endpoint.method,
                anchor(endpoint),
                escaped(endpoint.path),
                escaped(endpoint.summary),
            ),
        );
    }
    html.push_str("</table></nav>");
    for endpoint in ENDPOINTS {
        section(&mut html, endpoint);
    }
    html.push_str("</html>\n");
    html
}

fn section(html: &mut String, endpoint: &Endpoint) {
    put(
        html,
        format_args!(
            "<h2 id=\"{}\"><span class=\"m\">{}</span> {}</h2><p><strong>{}.</strong> {}</p>",
            anchor(endpoint),
            endpoint.method,
            escaped(endpoint.path),
            escaped(endpoint.summary),
            prose(endpoint.about),
        ),
    );
    let operation = (endpoint.operation)();
    let mut notes = Vec::new();
    if endpoint.open {
        notes.push("Needs no token.");
    }
    if endpoint.patience == Patience::Long {
        notes.push("Takes as long as the work does; give a <code>run</code> id to ask for its progress at <code>/v1/runs/{id}</code>, where it takes one.");
    }
    if !notes.is_empty() {
        put(html, format_args!("<p class=\"n\">{}</p>", notes.join(" ")));
    }
    put(html, format_args!("<pre>{}</pre>", escaped(&curl(endpoint, &operation))));
    if let Some(Value::Array(parameters)) = operation.get("parameters") {
        html.push_str("<table>");
        for parameter in parameters {
            let text = |key: &str| parameter.get(key).and_then(Value::as_str).unwrap_or_default();
            let needed = parameter.get("required").and_then(Value::as_bool).unwrap_or_default();
            put(
                html,
                format_args!(
                    "<tr><td><code>{}</code></td><td>{}{}</td><td>{}</td></tr>",
                    escaped(text("name")),
                    escaped(text("in")),
                    if needed { ", required" } else { "" },
                    prose(text("description")),
                ),
            );
        }
        html.push_str("</table>");
    }
    if let Some(Value::Object(contents)) = operation.pointer("/requestBody/content") {
        // What is JSON stands in the command above.
        let json = "application/json";
        for (kind, content) in
            contents.iter().filter(|(kind, it)| *kind != json || it.get("example").is_none())
        {
            block(html, &format!("Takes {kind}"), content);
        }
    }
    if let Some(Value::Object(contents)) = operation.pointer("/responses/200/content") {
        for (kind, content) in contents {
            block(html, &format!("Answers {kind}"), content);
        }
    }
}

/// The request as a command; names in braces stand for what is the reader's.
fn curl(endpoint: &Endpoint, operation: &Value) -> String {
    let mut path = endpoint.path.to_owned();
    let mut mark = '?';
    for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let required = parameter.get("required").and_then(Value::as_bool).unwrap_or_default();
        if required && parameter.get("in").and_then(Value::as_str) == Some("query") {
            let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
            path.push_str(&format!("{mark}{name}={{{name}}}"));
            mark = '&';
        }
    }
    let mut text = "curl -s".to_owned();
    if endpoint.method != "GET" {
        text.push_str(&format!(" -X {}", endpoint.method));
    }
    text.push_str(&format!(" 'http://127.0.0.1:2763{path}'"));
    if let Some(Value::Object(contents)) = operation.pointer("/requestBody/content") {
        match contents.get("application/json").and_then(|content| content.get("example")) {
            Some(example) => {
                text.push_str(" \\\n  -H 'content-type: application/json' \\\n  -d '");
                lay_out(&mut text, example, 6);
                text.push('\'');
            }
            None => {
                let kind = contents.keys().next().map(String::as_str).unwrap_or_default();
                text.push_str(&format!(" \\\n  -H 'content-type: {kind}' \\\n  --data-binary @FILE"));
            }
        }
    }
    text
}

fn block(html: &mut String, title: &str, content: &Value) {
    let shown = content.get("example").or_else(|| content.get("schema"));
    let Some(shown) = shown else { return };
    let text = match shown {
        Value::String(text) => text.clone(),
        other => {
            let mut text = String::new();
            lay_out(&mut text, other, 0);
            text
        }
    };
    put(html, format_args!("<p>{}:</p><pre>{}</pre>", escaped(title), escaped(&text)));
}

fn anchor(endpoint: &Endpoint) -> String {
    let path: String =
        endpoint.path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{}{path}", endpoint.method.to_ascii_lowercase())
}

fn put(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = html.write_fmt(text);
}

/// JSON in lines of at most about 96 letters: what fits stands on one.
fn lay_out(out: &mut String, value: &Value, indent: usize) {
    let line = value.to_string();
    let (open, close) = match value {
        Value::Object(fields) if !fields.is_empty() && indent + line.len() > 96 => ('{', '}'),
        Value::Array(items) if !items.is_empty() && indent + line.len() > 96 => ('[', ']'),
        _ => return out.push_str(&line),
    };
    out.push(open);
    let mut first = true;
    let mut begin = |out: &mut String| {
        out.push_str(if std::mem::take(&mut first) { "\n" } else { ",\n" });
        out.push_str(&" ".repeat(indent + 2));
    };
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                begin(out);
                out.push_str(&format!("{}: ", Value::from(name.as_str())));
                lay_out(out, field, indent + 2);
            }
        }
        Value::Array(items) => {
            for item in items {
                begin(out);
                lay_out(out, item, indent + 2);
            }
        }
        _ => {}
    }
    out.push('\n');
    out.push_str(&" ".repeat(indent));
    out.push(close);
}

/// Text whose `words` in back quotes are code.
fn prose(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 32);
    for (at, part) in text.split('`').enumerate() {
        let part = escaped(part);
        html.push_str(&if at % 2 == 1 { format!("<code>{part}</code>") } else { part });
    }
    html
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
