//! The `asof` program.

use std::process::ExitCode;

/// The workspace manifest says why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    asof::main()
}
