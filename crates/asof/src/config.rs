//! The configuration of a command or node: defaults, overridden by `asof.yaml`, by `ASOF_*` variables, by
//! flags; each value remembers where it came from. The only place that reads the environment.

use std::fmt;
use std::path::{Path, PathBuf};

use asof_model::{Config, Double, Length, Name, Project, ProjectFile, ServingLogOptions, Severity};
use serde::Serialize;

use crate::problem::Problem;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// Nobody said otherwise.
    Default,
    /// The project's `asof.yaml`.
    File,
    /// A variable of the environment.
    Variable(&'static str),
    /// A flag of the command.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File => f.write_str("asof.yaml"),
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// The first of flag, variable, file and default that is said.
    fn of(
        flag: (Option<T>, &'static str),
        variable: (Option<T>, &'static str),
        file: Option<T>,
        default: impl FnOnce() -> T,
    ) -> Setting<T> {
        let (value, origin) = match (flag.0, variable.0, file) {
            (Some(value), _, _) => (value, Origin::Flag(flag.1)),
            (None, Some(value), _) => (value, Origin::Variable(variable.1)),
            (None, None, Some(value)) => (value, Origin::File),
            (None, None, None) => (default(), Origin::Default),
        };
        Setting { value, origin }
    }
}

/// What the flags of a command say; all of them override.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// `--project`
    pub project: Option<PathBuf>,
    /// `--server`
    pub server: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--memory`
    pub memory: Option<String>,
    /// `--threads`
    pub threads: Option<usize>,
    /// `--operations`
    pub operations: Option<usize>,
    /// `--tls-certificate`
    pub tls_certificate: Option<PathBuf>,
    /// `--tls-key`
    pub tls_key: Option<PathBuf>,
    /// `--insecure`
    pub insecure: bool,
}

/// The configuration.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The project's folder.
    pub root: Setting<PathBuf>,
    /// The project's name, where there is a project.
    pub project: Option<Name>,
    /// A remote node to speak to.
    pub server: Setting<Option<String>>,
    /// Where `up` and `demo` listen.
    pub listen: Setting<String>,
    /// The folder of the node's stores.
    pub data_dir: Setting<PathBuf>,
    /// Bytes that queries may take.
    pub memory: Setting<u64>,
    /// Threads that queries may use.
    pub threads: Setting<usize>,
    /// Long operations at once.
    pub operations: Setting<usize>,
    /// The share of keys whose answers are kept in the serving log.
    pub serving_log_sample: Setting<f64>,
    /// How long they are kept.
    pub serving_log_keep: Setting<Length>,
    /// The longest that a pushed row waits to be moved into its table.
    pub flush_interval: Setting<Length>,
    /// What requests carry; never shown.
    pub token: Setting<Option<String>>,
    /// The server's certificate.
    pub tls_certificate: Setting<Option<PathBuf>>,
    /// Its key.
    pub tls_key: Setting<Option<PathBuf>>,
    /// Authorities that a client trusts.
    pub tls_authorities: Setting<Option<PathBuf>>,
    /// Listen beyond loopback without token and TLS.
    pub insecure: Setting<bool>,
}

/// The port that `up` and `demo` listen on if nobody says otherwise.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:2763";

impl Settings {
    /// Reads the project's `asof.yaml`, if there is one, and the environment.
    ///
    /// # Errors
    /// `asof.yaml` is wrong, or a variable's value is.
    pub(crate) fn read(flags: &Flags) -> Result<Settings, Problem> {
        let (root, project_variable) = root(flags)?;
        let config = read_config(&root.value)?;
        let file = config.as_ref();
        let data_dir = Setting::of(
            (flags.data_dir.clone(), "--data-dir"),
            (variable("ASOF_DATA_DIR")?.map(PathBuf::from), "ASOF_DATA_DIR"),
            file.and_then(|config| config.data_dir.clone()).map(|dir| root.value.join(dir)),
            || root.value.join(".asof"),
        );
        let memory_of = |text: Option<String>, what: &str| text.map(|text| bytes(&text, what)).transpose();
        let count_of = |name: &'static str| {
            variable(name)?
                .map(|text| {
                    let count = text.parse::<usize>().ok().filter(|count| (1..=4096).contains(count));
                    count.ok_or_else(|| {
                        Problem::invalid(
                            "bad_setting",
                            format!("{name} is `{text}`, not a whole number from 1 to 4096"),
                        )
                    })
                })
                .transpose()
        };
        let threads = Setting::of(
            (flags.threads, "--threads"),
            (count_of("ASOF_THREADS")?, "ASOF_THREADS"),
            file.and_then(|config| config.threads),
            || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        );
        let length_of = |name: &'static str| {
            let length = variable(name)?.map(|text| match Length::parse(&text) {
                Ok(length) if length.micros() > 0 => Ok(length),
                _ => {
                    let message = format!("{name} is `{text}`, not a length of time");
                    Err(Problem::invalid("bad_setting", message).hint("write it as 30d, 1h or 60s"))
                }
            });
            length.transpose()
        };
        let share = variable("ASOF_SERVING_LOG_SAMPLE")?.map(|text| {
            Config::parse_share(&text).ok_or_else(|| {
                let message = format!("ASOF_SERVING_LOG_SAMPLE is `{text}`, not a number from 0 to 1");
                Problem::invalid("bad_setting", message)
            })
        });
        let share = share.transpose()?.map(Double::value);
        let path_variable = |name: &'static str| variable(name).map(|text| text.map(PathBuf::from));
        let path_of_file = |path: &Option<String>| path.as_ref().map(|path| Some(root.value.join(path)));
        for (key, instead) in Config::not_built_yet() {
            let name = format!("ASOF_{}", key.to_uppercase());
            if variable(&name)?.is_some() {
                return Err(Problem::invalid(
                    "not_built_yet",
                    format!("the variable {name} is not built yet"),
                )
                .hint(instead));
            }
        }
        let tls_certificate = Setting::of(
            (flags.tls_certificate.clone().map(Some), "--tls-certificate"),
            (path_variable("ASOF_TLS_CERTIFICATE")?.map(Some), "ASOF_TLS_CERTIFICATE"),
            file.and_then(|config| path_of_file(&config.tls_certificate)),
            || None,
        );
        let tls_key = Setting::of(
            (flags.tls_key.clone().map(Some), "--tls-key"),
            (path_variable("ASOF_TLS_KEY")?.map(Some), "ASOF_TLS_KEY"),
            file.and_then(|config| path_of_file(&config.tls_key)),
            || None,
        );
        let (given, missing, origin) = match (&tls_certificate.value, &tls_key.value) {
            (Some(_), None) => ("tls_certificate", "tls_key", &tls_certificate.origin),
            (None, Some(_)) => ("tls_key", "tls_certificate", &tls_key.origin),
            _ => ("", "", &Origin::Default),
        };
        if !given.is_empty() {
            let message = format!("`{given}` (from {origin}) stands without `{missing}`");
            return Err(Problem::invalid("bad_setting", message)
                .hint("name both files, the certificate chain and its private key"));
        }
        Ok(Settings {
            project: file.map(|config| config.project.clone()),
            server: Setting::of(
                (flags.server.clone().map(Some), "--server"),
                (variable("ASOF_SERVER")?.map(Some), "ASOF_SERVER"),
                file.and_then(|config| config.server.clone()).map(Some),
                || None,
            ),
            listen: Setting::of(
                (flags.listen.clone(), "--listen"),
                (variable("ASOF_LISTEN")?, "ASOF_LISTEN"),
                file.and_then(|config| config.listen.clone()),
                || DEFAULT_LISTEN.to_owned(),
            ),
            data_dir,
            memory: Setting::of(
                (memory_of(flags.memory.clone(), "--memory")?, "--memory"),
                (memory_of(variable("ASOF_MEMORY")?, "ASOF_MEMORY")?, "ASOF_MEMORY"),
                file.and_then(|config| config.memory),
                half_of_memory,
            ),
            operations: Setting::of(
                (flags.operations, "--operations"),
                (count_of("ASOF_OPERATIONS")?, "ASOF_OPERATIONS"),
                file.and_then(|config| config.operations),
                || operations_of(threads.value),
            ),
            serving_log_sample: Setting::of(
                (None, ""),
                (share, "ASOF_SERVING_LOG_SAMPLE"),
                file.and_then(|config| config.serving_log_sample).map(Double::value),
                || ServingLogOptions::default().sample,
            ),
            serving_log_keep: Setting::of(
                (None, ""),
                (length_of("ASOF_SERVING_LOG_KEEP")?, "ASOF_SERVING_LOG_KEEP"),
                file.and_then(|config| config.serving_log_keep),
                || ServingLogOptions::default().keep,
            ),
            flush_interval: Setting::of(
                (None, ""),
                (length_of("ASOF_FLUSH_INTERVAL")?, "ASOF_FLUSH_INTERVAL"),
                file.and_then(|config| config.flush_interval),
                || Length::from_micros(60_000_000),
            ),
            threads,
            token: Setting::of((None, ""), (variable("ASOF_TOKEN")?.map(Some), "ASOF_TOKEN"), None, || None),
            tls_certificate,
            tls_key,
            tls_authorities: Setting::of(
                (None, ""),
                (path_variable("ASOF_TLS_AUTHORITIES")?.map(Some), "ASOF_TLS_AUTHORITIES"),
                file.and_then(|config| path_of_file(&config.tls_authorities)),
                || None,
            ),
            insecure: Setting::of((flags.insecure.then_some(true), "--insecure"), (None, ""), None, || false),
            root: Setting { origin: project_variable, ..root },
        })
    }

    /// The project's name.
    ///
    /// # Errors
    /// The folder holds no project.
    pub(crate) fn project(&self) -> Result<&Name, Problem> {
        self.project.as_ref().ok_or_else(|| no_project(&self.root.value))
    }
}

/// The refusal of a command outside of a project.
pub(crate) fn no_project(root: &Path) -> Problem {
    Problem::new(
        asof_model::Kind::NotFound,
        "no_project",
        format!("`{}` holds no project: it has no asof.yaml", root.display()),
    )
    .hint("go to a project's folder, name one with --project DIR, or make an example with `asof demo DIR`")
}

/// The nearest folder upwards with an `asof.yaml`, else the one we stand in.
fn root(flags: &Flags) -> Result<(Setting<PathBuf>, Origin), Problem> {
    let absolute = |path: &Path| {
        path.canonicalize().map_err(|error| Problem::file("open the project's folder", path, &error))
    };
    if let Some(path) = &flags.project {
        let origin = Origin::Flag("--project");
        return Ok((Setting { value: absolute(path)?, origin: origin.clone() }, origin));
    }
    if let Some(path) = variable("ASOF_PROJECT")? {
        let origin = Origin::Variable("ASOF_PROJECT");
        return Ok((Setting { value: absolute(Path::new(&path))?, origin: origin.clone() }, origin));
    }
    let here = absolute(Path::new("."))?;
    let found = here.ancestors().find(|folder| folder.join("asof.yaml").is_file()).map(Path::to_owned);
    Ok((Setting { value: found.unwrap_or(here), origin: Origin::Default }, Origin::Default))
}

/// The project's `asof.yaml`.
///
/// # Errors
/// It is wrong, with carets.
pub(crate) fn read_config(root: &Path) -> Result<Option<Config>, Problem> {
    let path = root.join("asof.yaml");
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(|error| Problem::file("read", &path, &error))?;
    let files = [ProjectFile { path: "asof.yaml".to_owned(), text }];
    let (project, diagnostics) = Project::read(&files);
    let wrong = diagnostics.iter().any(|it| it.severity == Severity::Error);
    match project {
        Some(project) if !wrong => Ok(Some(project.config)),
        _ => Err(Problem::invalid("bad_config", "asof.yaml cannot be used")
            .diagnostics(diagnostics)
            .in_files(&files)),
    }
}

/// Every text of a project: `asof.yaml` and all YAML below `features/`, by path.
///
/// # Errors
/// There is no project, or a file cannot be read as text.
pub(crate) fn project_files(root: &Path) -> Result<Vec<ProjectFile>, Problem> {
    if !root.join("asof.yaml").is_file() {
        return Err(no_project(root));
    }
    let mut paths = vec![root.join("asof.yaml")];
    let mut folders = vec![root.join("features")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.map_err(|error| Problem::file("read the folder", &folder, &error))?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if hidden {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
                paths.push(path);
            }
        }
    }
    paths[1..].sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).map_err(|error| Problem::file("read", &path, &error))?;
        let relative = path.strip_prefix(root).unwrap_or(&path);
        Ok(ProjectFile { path: relative.to_string_lossy().replace('\\', "/"), text })
    };
    paths.into_iter().map(read).collect()
}

/// Variables of the environment that begin with `ASOF_` and that nothing reads, each with the name that
/// may be meant.
pub(crate) fn unread_variables() -> Vec<(String, Option<&'static str>)> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unread: Vec<String> =
        names.filter(|name| name.starts_with("ASOF_") && !VARIABLES.contains(&name.as_str())).collect();
    unread.sort();
    let near = |name: &str| asof_model::nearest(name, VARIABLES.iter().copied());
    unread.into_iter().map(|name| (near(&name), name)).map(|(near, name)| (name, near)).collect()
}

/// How to call this very program: by its name where a shell finds it so, else by its path.
pub(crate) fn own_call() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?.canonicalize().ok()?;
    let path = variable("PATH").ok().flatten()?;
    let found = std::env::split_paths(&path).map(|folder| folder.join("asof")).find(|file| file.is_file());
    let same = found.and_then(|file| file.canonicalize().ok()).is_some_and(|file| file == own);
    (!same).then_some(own)
}

/// The variables that are read; every setting of `asof.yaml` has one.
const VARIABLES: [&str; 15] = [
    "ASOF_PROJECT",
    "ASOF_SERVER",
    "ASOF_TOKEN",
    "ASOF_LISTEN",
    "ASOF_DATA_DIR",
    "ASOF_MEMORY",
    "ASOF_THREADS",
    "ASOF_OPERATIONS",
    "ASOF_SERVING_LOG_SAMPLE",
    "ASOF_SERVING_LOG_KEEP",
    "ASOF_FLUSH_INTERVAL",
    "ASOF_TLS_CERTIFICATE",
    "ASOF_TLS_KEY",
    "ASOF_TLS_AUTHORITIES",
    "ASOF_LOG",
];

/// A variable of the environment; an empty one is as none.
fn variable(name: &str) -> Result<Option<String>, Problem> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    let found = std::env::var(name);
    match found {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Problem::invalid("bad_setting", format!("{name} is not UTF-8 text")))
        }
    }
}

/// What logs are wanted: `ASOF_LOG`, in the form of tracing's filters.
pub(crate) fn log_filter() -> Option<String> {
    variable("ASOF_LOG").ok().flatten()
}

/// A size as people write it: `512MB`, `24GiB`, `1000`.
fn bytes(text: &str, what: &str) -> Result<u64, Problem> {
    Config::parse_size(text).ok_or_else(|| {
        Problem::invalid("bad_setting", format!("{what} is `{text}`, not a size"))
            .hint("write it as 512MB, 8GB or 24GiB")
    })
}

/// How many long operations go on at once if nobody says otherwise: each may take all of `memory`, so they are
/// few however many cores there are.
pub(crate) fn operations_of(threads: usize) -> usize {
    (threads / 2).clamp(2, 4)
}

/// Half of the machine's memory, or of what this process is limited to; 2 GiB where neither is known.
fn half_of_memory() -> u64 {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let of_machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let limits = [
        number("/sys/fs/cgroup/memory.max"),
        number("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        of_machine,
    ];
    limits.into_iter().flatten().min().map_or(2 << 30, |bytes| bytes / 2)
}
