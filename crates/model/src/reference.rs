//! The reference page of the definition language, made from the key tables.

use std::fmt::Write;

use crate::DataType;
use crate::keys::{self, Takes};
use crate::read::takes;

/// `docs/reference/definitions.md`, which a test holds to this text.
pub fn reference_page() -> String {
    let mut out = String::from(
        "# Definitions\n\n\
         <!-- Made from the key tables of `crates/model/src/keys.rs`; a test says how to write it again. -->\n\n\
         A project is a folder: `asof.yaml` at its top, and `features/**/*.yaml`, in which documents are\n\
         separated by `---`. The first key of a document is its kind, the value of that key its name. A name has\n\
         lower-case letters, digits and underscores, begins with a letter, and is at most 63 long. Another\n\
         project's thing is `project.name`. Unknown keys are errors.\n\n\
         An expression is SQL over the columns of one row. Columns are named as the data has them, letter for\n\
         letter; a name that is not a plain word stands in double quotes. An expression with `,` `#` `: ` `[` `]`\n\
         `{` or `}` stands in YAML quotes, or on its own line after `|`. What it gives of a row depends on that row\n\
         alone: `and`, `or` and `case` do not evaluate what the sides before them decide, and an integer that runs over\n\
         is an error, as is a division by zero.\n\n\
         Types: ",
    );
    let types: Vec<String> = DataType::names().map(|name| format!("`{name}`")).collect();
    let _ = writeln!(out, "{}.", types.join(", "));
    for table in keys::ALL {
        let _ = writeln!(out, "\n## {}\n\n{}\n", table.thing, table.about);
        let _ = writeln!(out, "| key | takes | meaning |\n|---|---|---|");
        for key in table.keys.iter().filter(|key| !matches!(key.takes, Takes::NotYet(_))) {
            let needed = if key.required { " (required)" } else { "" };
            let takes = takes(key).replace('|', "\\|");
            let _ = writeln!(out, "| `{}`{needed} | {takes} | {} |", key.name, key.about.replace('|', "\\|"));
        }
        let later: Vec<String> = table
            .keys
            .iter()
            .filter(|key| matches!(key.takes, Takes::NotYet(_)))
            .map(|key| format!("`{}`", key.name))
            .collect();
        if !later.is_empty() {
            let _ = writeln!(out, "\nNot built yet, and refused: {}.", later.join(", "));
        }
        // A part of a document is no document: only whole ones are marked as such.
        let whole =
            keys::DOCUMENTS.iter().any(|it| it.thing == table.thing) || table.thing == keys::CONFIG.thing;
        let language = if whole { "yaml" } else { "text" };
        let _ = writeln!(out, "\n```{language}\n{}```", table.example);
    }
    out
}
