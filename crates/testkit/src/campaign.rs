//! How long tests go on that break things on purpose.

/// How often a process is killed: 50 times, or as `cargo xtask campaign kill` asks by `ASOF_KILL_ROUNDS`.
pub fn kill_rounds() -> u64 {
    kill_rounds_or(50)
}

/// The same, of rounds that take so long that fewer are usual.
#[expect(clippy::disallowed_methods, reason = "campaigns are asked for by the environment")]
pub fn kill_rounds_or(usual: u64) -> u64 {
    std::env::var("ASOF_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// How many requests a soak asks: 6,000, or as `cargo xtask campaign soak` asks by `ASOF_SOAK_REQUESTS`.
#[expect(clippy::disallowed_methods, reason = "campaigns are asked for by the environment")]
pub fn soak_requests() -> u64 {
    std::env::var("ASOF_SOAK_REQUESTS").ok().and_then(|requests| requests.parse().ok()).unwrap_or(6_000)
}

/// The program that a soak runs, where it is not the one that tests are built with.
#[expect(clippy::disallowed_methods, reason = "campaigns are asked for by the environment")]
pub fn soak_program() -> Option<String> {
    std::env::var("ASOF_SOAK_PROGRAM").ok()
}
