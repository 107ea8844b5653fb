//! What `asof.yaml` says, as written: defaults, `ASOF_*` variables and flags are the binary's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Name;

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
    /// Where definitions and records are kept.
    pub registry: Option<String>,
    /// Where the newest rows are kept.
    pub online: Option<String>,
    /// Where tables of stored sources are kept.
    pub offline: Option<String>,
    /// Options of object stores.
    pub storage: BTreeMap<String, StorageOption>,
    /// How many bytes queries may take.
    pub memory: Option<u64>,
    /// How many threads queries may use.
    pub threads: Option<usize>,
}

impl Config {
    /// The size in bytes of a text such as `512MB`, `8GB`, `24GiB`, for flags and variables that
    /// override the file; none where it is no size.
    pub fn parse_size(text: &str) -> Option<u64> {
        crate::read::parse_size(text)
    }
}

/// An option of an object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageOption {
    /// The value itself; never a credential.
    Value(String),
    /// The environment variable that holds it.
    Env(String),
}
