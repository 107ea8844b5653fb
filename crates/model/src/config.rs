//! What `asof.yaml` says, as written: defaults, `ASOF_*` variables and flags are the binary's.

use serde::{Deserialize, Serialize};

use crate::{Double, Length, Name};

/// The project's own file. Everything but the name is optional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The project's name.
    pub project: Name,
    /// The URL of a remote node that commands speak to.
    pub server: Option<String>,
    /// Address and port to listen on.
    pub listen: Option<String>,
    /// The folder of the node's stores, relative to the project's.
    pub data_dir: Option<String>,
    /// How many bytes queries may take.
    pub memory: Option<u64>,
    /// How many threads queries may use.
    pub threads: Option<usize>,
    /// How many long operations go on at once.
    pub operations: Option<usize>,
    /// The share of keys whose answers are kept in the serving log.
    pub serving_log_sample: Option<Double>,
    /// How long they are kept.
    pub serving_log_keep: Option<Length>,
    /// The longest that a pushed row waits to be moved into its table.
    pub flush_interval: Option<Length>,
    /// The server's certificate chain in PEM form, relative to the project's folder.
    pub tls_certificate: Option<String>,
    /// Its private key in PEM form, relative to the project's folder.
    pub tls_key: Option<String>,
    /// The authorities in PEM form that commands trust a remote node by, relative to the project's folder.
    pub tls_authorities: Option<String>,
}

impl Config {
    /// Keys that are not built yet, each with what to do instead: refused in the file by the reader, and
    /// as `ASOF_*` variables by the binary.
    pub fn not_built_yet() -> impl Iterator<Item = (&'static str, &'static str)> {
        crate::keys::CONFIG.keys.iter().filter_map(|key| match key.takes {
            crate::keys::Takes::NotYet(instead) => Some((key.name, instead)),
            _ => None,
        })
    }

    /// The share that a text such as `0.01` says; none where it is no number from 0 to 1.
    pub fn parse_share(text: &str) -> Option<Double> {
        let share: f64 = text.trim().parse().ok()?;
        Double::new(share).filter(|_| (0.0..=1.0).contains(&share))
    }

    /// The size in bytes of a text such as `512MB`, `8GB`, `24GiB`, for flags and variables that
    /// override the file; none where it is no size.
    pub fn parse_size(text: &str) -> Option<u64> {
        crate::read::parse_size(text)
    }
}
