//! How long tests go on that break things on purpose.

/// How often a process is killed: 50 times, or as `cargo xtask campaign kill` asks by `ASOF_KILL_ROUNDS`.
#[expect(clippy::disallowed_methods, reason = "campaigns are asked for by the environment")]
pub fn kill_rounds() -> u64 {
    std::env::var("ASOF_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(50)
}
