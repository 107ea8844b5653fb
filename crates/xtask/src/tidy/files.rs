//! Rules about single files: their size, their names, and words that may not stand in them.
//! The words are put together at run time, so that this file keeps its own rules.

use super::{Finding, Repository, TextFile};

/// A longer file does more than one thing.
const MOST_LINES: usize = 800;
/// Files people write; data, lock files and snapshots may be as long as they are.
const WRITTEN: &[&str] = &["rs", "py", "md", "yaml", "yml", "toml", "lua", "sh", "sql", "html", "css", "js"];
/// Names that say nothing of what is inside, with their singulars.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "types", "helpers", "helper", "misc"];

/// No file people write is over [`MOST_LINES`].
pub(super) fn sizes(repository: &Repository) -> Vec<Finding> {
    written(repository)
        .filter_map(|file| {
            let lines = file.text.lines().count();
            (lines > MOST_LINES).then(|| {
                Finding::new(
                    &file.path,
                    format!("has {lines} lines, over {MOST_LINES}: split it by what its parts do"),
                )
            })
        })
        .collect()
}

fn written(repository: &Repository) -> impl Iterator<Item = &TextFile> {
    WRITTEN.iter().flat_map(|ending| repository.of(ending))
}

/// No module is called by one of [`EMPTY_NAMES`], as a file, a folder or inline.
pub(super) fn module_names(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repository.of("rs").chain(repository.of("py")) {
        let stem = file.path.rsplit_once('.').map_or(file.path.as_str(), |(stem, _)| stem);
        for part in stem.split('/').filter(|part| EMPTY_NAMES.contains(part)) {
            findings.push(Finding::new(
                &file.path,
                format!("`{part}` does not say what is inside; name it for that"),
            ));
        }
        for (number, line) in file.text.lines().enumerate() {
            let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
            let module = (words.next() == Some("mod")).then(|| words.next()).flatten().unwrap_or("");
            if EMPTY_NAMES.contains(&module.trim_end_matches([';', '{'])) {
                findings.push(Finding::new(
                    format!("{}:{}", file.path, number + 1),
                    format!("`mod {module}` does not say what is inside; name it for that"),
                ));
            }
        }
    }
    findings
}

/// The system clock is read in `asof` only, which passes it down.
pub(super) fn clock(repository: &Repository) -> Vec<Finding> {
    let readings: Vec<String> = ["SystemTime", "Timestamp", "Zoned", "Utc", "Local", "OffsetDateTime"]
        .iter()
        .map(|it| format!("{it}::{}", "now"))
        .collect();
    let outside = repository.of("rs").filter(|file| !file.path.starts_with("crates/asof/"));
    lines_holding(outside, &readings, "reads the system clock; take a `Clock` instead")
}

/// No path of somebody's machine stands in the repository.
pub(super) fn machine_paths(repository: &Repository) -> Vec<Finding> {
    let paths: Vec<String> =
        ["work", "root", "home", "Users", "farm", "tmp/asof"].iter().map(|it| format!("/{it}/")).collect();
    let endings = ["rs", "py", "md", "yaml", "yml", "toml", "sh", "lua", "sql", "json", "txt", "snap"];
    let files = endings.iter().flat_map(|ending| repository.of(ending));
    let mut findings =
        lines_holding(files, &paths, "holds a path of one machine; use a relative or a temporary one");
    // A path stands at the start of a word: `features/home/x` and `https://host/work/` are none.
    findings.retain(|finding| {
        let (place, number) = finding.place.rsplit_once(':').unwrap_or((&finding.place, "0"));
        let number = number.parse::<usize>().unwrap_or(0);
        let line =
            repository.text(place).and_then(|text| text.lines().nth(number.saturating_sub(1))).unwrap_or("");
        paths.iter().any(|path| line.match_indices(path.as_str()).any(|(at, _)| starts_a_word(line, at)))
    });
    findings
}

fn starts_a_word(line: &str, at: usize) -> bool {
    line[..at]
        .chars()
        .next_back()
        .is_none_or(|before| !before.is_alphanumeric() && !"/._-~*}".contains(before))
}

fn lines_holding<'a>(
    files: impl Iterator<Item = &'a TextFile>,
    words: &[String],
    message: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            let comment = file.path.ends_with(".rs") && line.trim_start().starts_with("//");
            if let Some(word) = words.iter().find(|word| !comment && line.contains(word.as_str())) {
                findings.push(Finding::new(
                    format!("{}:{}", file.path, number + 1),
                    format!("`{word}` {message}"),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Rule;
    use super::*;

    fn check(rule: Rule, path: &str, text: &str, expected: usize) {
        let findings = rule(&Repository::of_files(&[(path, text)]));
        assert_eq!(findings.len(), expected, "{path}: {findings:?}");
    }

    #[test]
    fn long_files_are_found() {
        check(sizes, "crates/x/src/a.rs", &"\n".repeat(MOST_LINES), 0);
        check(sizes, "crates/x/src/a.rs", &"\n".repeat(MOST_LINES + 1), 1);
        check(sizes, "docs/a.md", &"\n".repeat(MOST_LINES + 1), 1);
        check(sizes, "Cargo.lock", &"\n".repeat(MOST_LINES + 1), 0);
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        check(module_names, "crates/x/src/order.rs", "mod interval;\npub mod latest {\n", 0);
        check(module_names, "crates/x/src/utils.rs", "", 1);
        check(module_names, "crates/x/tests/it/common/mod.rs", "", 1);
        check(module_names, "crates/x/src/lib.rs", "pub(crate) mod helpers;\n", 1);
        check(module_names, "crates/x/src/lib.rs", "mod types {\n}\n", 1);
        check(module_names, "crates/x/src/data_type.rs", "", 0);
    }

    #[test]
    fn the_clock_is_read_in_asof_only() {
        let reading = format!("let t = std::time::SystemTime::{}();", "now");
        check(clock, "crates/asof/src/node.rs", &reading, 0);
        check(clock, "crates/flow/src/load.rs", &reading, 1);
        check(clock, "crates/flow/src/load.rs", &format!("// {reading}"), 0);
        check(clock, "crates/flow/tests/it/load.rs", &format!("jiff::Timestamp::{}()", "now"), 1);
        check(clock, "crates/flow/src/load.rs", "let begun = Instant::now();", 0);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        check(machine_paths, "docs/a.md", &format!("look at /{}/x", "root"), 1);
        check(machine_paths, "crates/x/src/a.rs", &format!("\"/{}/me/data\"", "home"), 1);
        check(machine_paths, "docs/a.md", &format!("https://example.org/{}/x and a/{}/b", "work", "home"), 0);
        check(machine_paths, "docs/a.md", "/var/lib/asof", 0);
    }
}
