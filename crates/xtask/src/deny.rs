//! `cargo xtask deny`: licences, sources and advisories, by cargo-deny. Its own command: it needs the network.

use std::path::Path;

use crate::process;

/// Runs `cargo deny check` with the workspace's `deny.toml`.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    if !process::has_cargo_command("deny") {
        return Err("cargo-deny is not installed. Get a built binary from \
                    https://github.com/EmbarkStudios/cargo-deny/releases and put it on the path, \
                    or build it with `cargo install --locked cargo-deny`."
            .to_owned());
    }
    process::run(root, "cargo", &["deny", "--all-features", "check"])
}
