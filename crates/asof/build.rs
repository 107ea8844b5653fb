//! Tells the program which commit it is built from, where it is built from a clone. It only reads files
//! below `.git`, and says nothing where there are none: a build needs neither git nor a network.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Asked when it runs, not when it is compiled: a folder of build products may be moved with its clone.
    #[expect(clippy::disallowed_methods, reason = "how cargo tells a build script where its package is")]
    let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") else { return };
    let Some(git) = git_folder(&Path::new(&package).join("../../.git")) else { return };
    // The log of HEAD grows with every commit and checkout.
    for file in ["HEAD", "logs/HEAD"].map(|file| git.join(file)) {
        if file.exists() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
    let commit = commit(&git).filter(|commit| commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if let Some(short) = commit.as_deref().and_then(|commit| commit.get(..12)) {
        println!("cargo::rustc-env=ASOF_COMMIT={short}");
    }
}

/// The folder itself, or the one that a worktree's file names.
fn git_folder(git: &Path) -> Option<PathBuf> {
    if git.is_dir() {
        return Some(git.to_owned());
    }
    let text = std::fs::read_to_string(git).ok()?;
    Some(git.parent()?.join(text.trim().strip_prefix("gitdir: ")?))
}

fn commit(git: &Path) -> Option<String> {
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().to_owned()) };
    // A worktree's branches stand in the folder that all worktrees share.
    let shared = match std::fs::read_to_string(git.join("commondir")) {
        Ok(path) => git.join(path.trim()),
        Err(_) => git.to_owned(),
    };
    if let Ok(found) = std::fs::read_to_string(shared.join(reference)) {
        return Some(found.trim().to_owned());
    }
    let packed = std::fs::read_to_string(shared.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| line.strip_suffix(reference)?.strip_suffix(' ').map(str::to_owned))
}
