//! Every YAML example of the documentation, and every example project, is read as a user's folder would be.
//!
//! The blocks of one page are one project: a block that begins with `project:` is its `asof.yaml`, every other
//! one a file below `features/`. A page without such a block gets one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use asof_model::{Diagnostics, Project, ProjectFile};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files below a folder that end so, in the order of their paths; folders of builds are left out.
fn below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "bench-data" {
                found.extend(below(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The page's YAML blocks as the files of a project. Each block is moved down to its lines of the page, so
/// that a problem's line is the page's.
fn project_of(page: &str) -> Vec<ProjectFile> {
    let mut files: Vec<ProjectFile> = Vec::new();
    let mut open: Option<String> = None;
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line.trim_end()) {
            (None, "```yaml") => open = Some("\n".repeat(number + 1)),
            (Some(text), "```") => {
                let config = text.trim_start().starts_with("project:");
                let path =
                    if config { "asof.yaml".to_owned() } else { format!("features/{}.yaml", files.len()) };
                files.push(ProjectFile { path, text: std::mem::take(text) });
                open = None;
            }
            (Some(text), _) => writeln!(text, "{line}").unwrap(),
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block of the page does not end");
    if !files.is_empty() && files.iter().all(|file| file.path != "asof.yaml") {
        files.push(ProjectFile { path: "asof.yaml".to_owned(), text: "project: page\n".to_owned() });
    }
    files
}

/// What is wrong with the files, a line each.
fn problems(files: &[ProjectFile]) -> Vec<String> {
    let (project, found): (Option<Project>, Diagnostics) = Project::read(files);
    assert!(project.is_some() || !found.is_empty());
    found
        .iter()
        .map(|it| {
            format!("line {}: {}: {}", it.span.as_ref().map_or(0, |span| span.line), it.code, it.message)
        })
        .collect()
}

#[test]
fn every_example_of_the_documentation_is_right() {
    let mut blocks = 0;
    let mut wrong = Vec::new();
    for page in below(&root(), ".md") {
        let files = project_of(&fs::read_to_string(&page).unwrap());
        if files.is_empty() {
            continue;
        }
        blocks += files.len() - 1;
        let shown = page.strip_prefix(root()).unwrap_or(&page).display().to_string();
        wrong.extend(problems(&files).iter().map(|problem| format!("{shown}: {problem}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(blocks >= 4, "only {blocks} blocks of YAML were found in the pages");
}

#[test]
fn every_example_project_is_right() {
    let mut projects = 0;
    for config in below(&root().join("examples"), "asof.yaml") {
        let folder = config.parent().unwrap();
        let read = |path: &Path| ProjectFile {
            path: path.strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/"),
            text: fs::read_to_string(path).unwrap(),
        };
        let mut files = vec![read(&config)];
        files.extend(below(&folder.join("features"), ".yaml").iter().map(|path| read(path)));
        assert_eq!(problems(&files), Vec::<String>::new(), "{}", folder.display());
        projects += 1;
    }
    assert_eq!(projects, 2);
}

#[test]
fn a_wrong_example_is_found_at_its_line_of_the_page() {
    let page = "# Page\n\n```yaml\nentity: shop\nkeys: {shop_id: int65}\n```\n";
    let found = problems(&project_of(page));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("line 5: "), "{found:?}");
}
