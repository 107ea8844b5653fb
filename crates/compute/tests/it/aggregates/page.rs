//! The reference page of aggregates, made from the catalogue.

use std::fmt::Write as _;
use std::path::PathBuf;

use asof_compute::{CATALOGUE, aggregate};

fn page() -> String {
    let mut out = String::from(
        "# Aggregates\n\n\
         <!-- Made from the catalogue of `crates/compute/src/aggregate`; a test says how to write it again. -->\n\n\
         What the features of a view with windows are made of. Of every one holds:\n\n\
         - **Null values are skipped.** Where nothing is left the answer is null, unless it says here that it is 0;\n  \
         `default:` stands in for null.\n\
         - **No order matters.** Whatever the order in which rows come, and however they are split over threads,\n  \
         machines, tiles and restarts, the answer is the same to the bit.\n\
         - **Too much is told.** An answer that is out of range or over its cap is null with the status `overflow`;\n  \
         `asof train` stops and names it unless `--on-overflow null`. It is judged of the answer alone: rows that\n  \
         leave a window may bring it back.\n\
         - -0 is +0, and every NaN is the same.\n\n\
         `x` is an expression over the columns of a row; what follows it are constants.\n\n\
         | aggregate | in short |\n|---|---|\n",
    );
    for member in CATALOGUE {
        let about = member.documentation().about;
        let short = about.split_inclusive(['.', ';']).next().unwrap_or(about).trim_end_matches(['.', ';']);
        writeln!(out, "| [`{0}`](#{0}) | {1} |", member.name(), short.replace('|', "\\|")).unwrap();
    }
    for member in CATALOGUE {
        let about = member.documentation();
        writeln!(out, "\n## {}\n\n`{}`\n", member.name(), about.usage.replace("), ", ")`, `")).unwrap();
        if !member.aliases().is_empty() {
            writeln!(out, "Also `{}`.\n", member.aliases().join("`, `")).unwrap();
        }
        writeln!(out, "{}\n", about.about).unwrap();
        writeln!(out, "| | |\n|---|---|").unwrap();
        // `<` begins a tag.
        let gives =
            if about.gives.contains('<') { format!("`{}`", about.gives) } else { about.gives.to_owned() };
        for (name, text) in [
            ("takes", about.takes),
            ("gives", gives.as_str()),
            ("error", about.error.unwrap_or("none, it is exact")),
            ("kept of rows", about.state),
        ] {
            writeln!(out, "| {name} | {} |", text.replace('|', "\\|")).unwrap();
        }
    }
    out
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/aggregates.md")
}

#[test]
fn the_page_of_aggregates_is_up_to_date() {
    assert!(
        std::fs::read_to_string(path()).unwrap_or_default() == page(),
        "docs/reference/aggregates.md is old: cargo nextest run -p asof-compute --run-ignored only -E 'test(write_the_page_of_aggregates)'"
    );
    // What a text points to is there.
    for word in page().split('`').filter(|word| word.ends_with("_distinct") || word.ends_with("_n")) {
        assert!(aggregate(word).is_some(), "`{word}` is no aggregate");
    }
}

#[test]
#[ignore = "writes docs/reference/aggregates.md"]
fn write_the_page_of_aggregates() {
    std::fs::write(path(), page()).unwrap();
}
