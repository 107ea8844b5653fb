//! Rules that keep the documentation and the code in pairs.

use super::{Finding, Repository};

/// Where the pages of stored formats are.
const FORMATS: &str = "docs/formats/";
/// Where the pages of decisions are.
const DECISIONS: &str = "docs/decisions/";
/// The headings every decision page has, in this order.
const HEADINGS: &[&str] = &["## Decision", "## Why", "## What would change it"];

/// Every crate opens with `//!` documentation.
pub(super) fn crates(repository: &Repository) -> Vec<Finding> {
    repository
        .of("rs")
        .filter(|file| file.path.ends_with("/src/lib.rs") || file.path.ends_with("/src/main.rs"))
        .filter(|file| !file.text.trim_start().starts_with("//!"))
        .map(|file| {
            Finding::new(
                &file.path,
                "opens without `//!`: say what the crate is, what it is not, where to start reading",
            )
        })
        .collect()
}

/// Each stored format has its page, code that names the page, and a file that must load forever.
///
/// A format `NAME` is `docs/formats/NAME.md`, named in the source file that writes it, with at least one file
/// `tests/compat/NAME*` in the root or in a crate. A source file with a constant `FORMAT`, `.._FORMAT` or
/// `.._FORMAT_VERSION` writes one.
pub(super) fn formats(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pages = names_of_pages(repository, FORMATS);
    let mut named_somewhere = Vec::new();
    let sources =
        repository.of("rs").filter(|file| file.path.contains("/src/") && !file.path.contains("xtask/"));
    for file in sources {
        let named: Vec<&str> = file.text.lines().filter_map(page_named_in).collect();
        for page in &named {
            if !pages.iter().any(|it| it == page) {
                findings.push(Finding::new(
                    &file.path,
                    format!("names docs/formats/{page}.md, which does not exist"),
                ));
            }
        }
        if named.is_empty() && file.text.lines().any(declares_a_format) {
            findings.push(Finding::new(
                &file.path,
                "declares the number of a stored format and names no page; write docs/formats/NAME.md and name it",
            ));
        }
        named_somewhere.extend(named);
    }
    for page in &pages {
        let place = format!("{FORMATS}{page}.md");
        if !named_somewhere.iter().any(|it| it == page) {
            findings.push(Finding::new(&place, "no source file names this page"));
        }
        let mut kept = repository.paths().filter_map(|path| path.split_once("tests/compat/"));
        if !kept.any(|(_, rest)| belongs_to(rest, page)) {
            findings
                .push(Finding::new(&place, format!("no file tests/compat/{page}* that must load forever")));
        }
    }
    for path in repository.paths() {
        let Some((_, rest)) = path.split_once("tests/compat/") else { continue };
        if !rest.ends_with(".rs")
            && !rest.ends_with(".md")
            && !pages.iter().any(|page| belongs_to(rest, page))
        {
            findings
                .push(Finding::new(path, "a stored file of a format that has no page under docs/formats"));
        }
    }
    findings
}

/// Whether a line declares a constant that is the number of a stored format.
fn declares_a_format(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    let constant = (words.next() == Some("const")).then(|| words.next()).flatten().unwrap_or("");
    let name = constant.trim_end_matches(':');
    name == "FORMAT" || name.ends_with("_FORMAT") || name.ends_with("FORMAT_VERSION")
}

/// `registry/v1.db`, `registry.v1.db`, `registry-v1.db` and `registry_v1.db` belong to the page `registry`.
fn belongs_to(rest: &str, page: &str) -> bool {
    rest.strip_prefix(page).is_some_and(|after| after.starts_with(['.', '/', '-', '_']))
}

fn page_named_in(line: &str) -> Option<&str> {
    let (_, after) = line.split_once(FORMATS)?;
    after.split_once(".md").map(|(name, _)| name)
}

fn names_of_pages(repository: &Repository, folder: &str) -> Vec<String> {
    repository
        .of("md")
        .filter_map(|file| file.path.strip_prefix(folder)?.strip_suffix(".md"))
        .filter(|name| *name != "README")
        .map(str::to_owned)
        .collect()
}

/// Every decision page says what was decided, why, and what would change it, and stands in the list.
pub(super) fn decisions(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    let list = repository.text(&format!("{DECISIONS}README.md")).unwrap_or("");
    for name in names_of_pages(repository, DECISIONS) {
        let path = format!("{DECISIONS}{name}.md");
        let text = repository.text(&path).unwrap_or("");
        let mut rest = text;
        for heading in HEADINGS {
            match rest.split_once(heading) {
                Some((_, after)) => rest = after,
                None => {
                    findings.push(Finding::new(&path, format!("has no heading `{heading}` in its order")))
                }
            }
        }
        if !list.contains(&format!("({name}.md)")) {
            findings.push(Finding::new(&path, "is not in the list of docs/decisions/README.md"));
        }
    }
    findings
}

/// Every relative link of a page leads to a file or folder of the repository.
pub(super) fn links(repository: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repository.of("md") {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (number, line) in file.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = target.split(['#', ' ']).next().unwrap_or("");
                if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                    continue;
                }
                let resolved = resolve(folder, path);
                let there =
                    repository.paths().any(|it| it == resolved || it.starts_with(&format!("{resolved}/")));
                if !there {
                    findings.push(Finding::new(
                        format!("{}:{}", file.path, number + 1),
                        format!("links to {target}, which does not exist"),
                    ));
                }
            }
        }
    }
    findings
}

fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::Rule;
    use super::*;

    fn check(rule: Rule, files: &[(&str, &str)], expected: usize) {
        let findings = rule(&Repository::of_files(files));
        assert_eq!(findings.len(), expected, "{findings:?}");
    }

    #[test]
    fn a_crate_opens_with_what_it_is() {
        check(crates, &[("crates/x/src/lib.rs", "//! The x.\nmod a;")], 0);
        check(crates, &[("crates/x/src/lib.rs", "mod a;")], 1);
    }

    #[test]
    fn formats_and_their_pages_and_files_are_pairs() {
        let page = ("docs/formats/row.md", "# Rows");
        let code = ("crates/x/src/row.rs", "//! See `docs/formats/row.md`.\npub const ROW_FORMAT: u8 = 1;");
        let kept = ("tests/compat/row-1.json", "{}");
        check(formats, &[page, code, kept], 0);
        check(formats, &[page, code], 1);
        check(formats, &[page, kept], 1);
        check(formats, &[code, kept], 2);
        check(formats, &[("crates/x/src/row.rs", "const FORMAT_VERSION: u8 = 1;")], 1);
        check(formats, &[("crates/x/src/row.rs", "const FORMAT: u32 = 1;")], 1);
        check(formats, &[("crates/x/src/row.rs", "const FORMATS: u32 = 1;")], 0);
        check(formats, &[("crates/x/tests/compat/key/v1.json", "{}")], 1);
        check(formats, &[("crates/x/tests/compat/mod.rs", "")], 0);
    }

    #[test]
    fn decisions_say_why_and_are_listed() {
        let list = ("docs/decisions/README.md", "- [store](store.md)");
        let page = "# Store\n## Decision\nx\n## Why\ny\n## What would change it\nz";
        check(decisions, &[list, ("docs/decisions/store.md", page)], 0);
        check(decisions, &[("docs/decisions/store.md", page)], 1);
        check(decisions, &[list, ("docs/decisions/store.md", "# Store\n## Decision\n")], 2);
    }

    #[test]
    fn links_lead_somewhere() {
        let there = ("docs/a.md", "");
        check(
            links,
            &[there, ("docs/b.md", "[a](a.md), [up](../docs/a.md#part), [out](https://example.org), [f](.)")],
            0,
        );
        check(links, &[there, ("docs/b.md", "[a](c.md)")], 1);
        check(links, &[there, ("docs/b.md", "```\n[a](c.md)\n```")], 0);
    }
}
