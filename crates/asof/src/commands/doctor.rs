//! `asof doctor`: the configuration, where each value comes from, and whether all is well.

use serde_json::{Value, json};

use crate::client::Client;
use crate::config::{Settings, unread_variables};
use crate::context::Context;
use crate::lock::{NodeFile, try_lock};
use crate::problem::Problem;
use crate::table::Table;

/// Flags of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Shows settings, then checks.
pub(crate) async fn run(_: Args, context: &Context) -> Result<(), Problem> {
    let printer = context.printer;
    let settings = context.settings()?;
    let shown = settings_of(&settings);
    if !printer.json {
        let mut table = Table::new(&["setting", "value", "from"]);
        for (name, value, origin) in &shown {
            table.row([(*name).to_owned(), value.clone(), origin.clone()]);
        }
        printer.line(table.wide_text(printer.color));
        printer.line("");
    }
    let mut checks = vec![("asof", true, format!("version {}", env!("CARGO_PKG_VERSION")))];
    checks.push(match &settings.project {
        Some(project) => ("project", true, format!("`{project}` in {}", settings.root.value.display())),
        None => ("project", false, format!("{} holds no asof.yaml", settings.root.value.display())),
    });
    for (name, near) in unread_variables() {
        let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        checks.push(("environment", false, format!("nothing reads the variable {name}{meant}")));
    }
    checks.push(data_dir(&settings));
    let known = settings.project.is_some() || settings.server.value.is_some() || settings.data_dir.value.is_dir();
    if known {
        checks.push(node(context).await);
    }
    let well = checks.iter().all(|(_, well, _)| *well);
    if printer.json {
        let settings: Vec<Value> = shown
            .iter()
            .map(|(name, value, origin)| json!({"setting": name, "value": value, "from": origin}))
            .collect();
        let checks: Vec<Value> =
            checks.iter().map(|(name, well, text)| json!({"check": name, "well": well, "text": text})).collect();
        printer.json_line(&json!({"settings": settings, "checks": checks, "well": well}));
    } else {
        for (name, well, text) in &checks {
            printer.line(format!("{} {name}: {text}", if *well { "✓" } else { "✗" }));
        }
    }
    if well {
        Ok(())
    } else {
        let unwell = checks.iter().filter(|(_, well, _)| !well).map(|(name, ..)| *name).collect::<Vec<_>>();
        Err(Problem::new(asof_model::Kind::Unavailable, "not_well", format!("not all is well: {}", unwell.join(", "))))
    }
}

fn settings_of(settings: &Settings) -> Vec<(&'static str, String, String)> {
    fn path(path: Option<&std::path::PathBuf>) -> String {
        path.map_or_else(|| "-".to_owned(), |path| path.display().to_string())
    }
    let size = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let secret = |token: &Option<String>| if token.is_some() { "set, not shown" } else { "-" }.to_owned();
    vec![
        ("project", settings.root.value.display().to_string(), settings.root.origin.to_string()),
        ("server", settings.server.value.clone().unwrap_or_else(|| "-".to_owned()), settings.server.origin.to_string()),
        ("listen", settings.listen.value.clone(), settings.listen.origin.to_string()),
        ("data_dir", settings.data_dir.value.display().to_string(), settings.data_dir.origin.to_string()),
        ("memory", size(settings.memory.value), settings.memory.origin.to_string()),
        ("threads", settings.threads.value.to_string(), settings.threads.origin.to_string()),
        ("operations", settings.operations.value.to_string(), settings.operations.origin.to_string()),
        (
            "serving_log_sample",
            settings.serving_log_sample.value.to_string(),
            settings.serving_log_sample.origin.to_string(),
        ),
        (
            "serving_log_keep",
            settings.serving_log_keep.value.to_string(),
            settings.serving_log_keep.origin.to_string(),
        ),
        ("flush_interval", settings.flush_interval.value.to_string(), settings.flush_interval.origin.to_string()),
        ("token", secret(&settings.token.value), settings.token.origin.to_string()),
        ("tls_certificate", path(settings.tls_certificate.value.as_ref()), settings.tls_certificate.origin.to_string()),
        ("tls_key", path(settings.tls_key.value.as_ref()), settings.tls_key.origin.to_string()),
        ("tls_authorities", path(settings.tls_authorities.value.as_ref()), settings.tls_authorities.origin.to_string()),
        ("insecure", settings.insecure.value.to_string(), settings.insecure.origin.to_string()),
    ]
}

fn data_dir(settings: &Settings) -> (&'static str, bool, String) {
    let data_dir = &settings.data_dir.value;
    if !data_dir.is_dir() {
        return ("stores", true, format!("{} is not made yet", data_dir.display()));
    }
    match try_lock(data_dir, "asof doctor") {
        Ok(Ok(_)) => match NodeFile::read(data_dir) {
            Some(file) => ("stores", true, format!("no node runs; process {} left its node.json", file.pid)),
            None => ("stores", true, "no node runs: commands open them themselves".to_owned()),
        },
        Ok(Err(Some(holder))) => ("stores", true, format!("owned by `{}`, process {}", holder.name, holder.pid)),
        Ok(Err(None)) => ("stores", true, "owned by another process".to_owned()),
        Err(problem) => ("stores", false, problem.body.message.clone()),
    }
}

async fn node(context: &Context) -> (&'static str, bool, String) {
    let client = match context.client().await {
        Ok(client) => client,
        Err(problem) => return ("node", false, problem.body.message.clone()),
    };
    let place = match client {
        Client::Inside(_) => "in this process".to_owned(),
        Client::Remote(remote) => remote.url.clone(),
    };
    match client.get::<Value>("/health").await {
        Ok(health) => {
            let version = health.get("version").and_then(Value::as_str).unwrap_or("?").to_owned();
            let same = version == env!("CARGO_PKG_VERSION");
            ("node", same, format!("answers {place}, version {version}"))
        }
        Err(problem) => ("node", false, problem.body.message.clone()),
    }
}
