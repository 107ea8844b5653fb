//! The `asof` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    asof::main()
}
