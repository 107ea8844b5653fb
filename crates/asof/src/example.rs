//! The flights example, inside the binary.

use std::path::Path;

use crate::problem::Problem;
use asof_model::Kind;

macro_rules! files {
    ($($path:literal,)*) => {
        &[$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/flights/", $path)))),*]
    };
}

/// Every file of it: its path and its bytes.
pub(crate) const FILES: &[(&str, &[u8])] = files![
    "README.md",
    "asof.yaml",
    "features/delays.yaml",
    "features/entities.yaml",
    "features/how_late.yaml",
    "features/late_departure.yaml",
    "features/planes.yaml",
    "features/previous_flight.yaml",
    "features/weather.yaml",
    "data/departures.parquet",
    "data/flights.parquet",
    "data/planes.parquet",
    "data/weather.parquet",
];

/// Writes it into a folder; files that stand there already as they are in the example stay.
///
/// # Errors
/// The folder holds something else, or cannot be written.
pub(crate) fn write(folder: &Path) -> Result<(), Problem> {
    let failed = |path: &Path, error: &std::io::Error| Problem::file("write", path, error);
    for (path, _) in FILES {
        let target = folder.join(path);
        let ours = FILES.iter().any(|(_, bytes)| std::fs::read(&target).is_ok_and(|found| found == *bytes));
        if target.exists() && !ours {
            return Err(Problem::new(
                Kind::Conflict,
                "folder_in_use",
                format!("`{}` exists and is not the example's", target.display()),
            )
            .hint("name another folder: asof demo DIR"));
        }
    }
    for (path, bytes) in FILES {
        let target = folder.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
        }
        if !target.exists() {
            std::fs::write(&target, bytes).map_err(|error| failed(&target, &error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_example_is_inside() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let relative = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                if relative.starts_with(".asof") || relative.ends_with(".py") {
                    continue;
                }
                if path.is_dir() { folders.push(path) } else { found.push(relative) }
            }
        }
        found.sort();
        let mut inside: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        inside.sort_unstable();
        assert_eq!(found, inside);
        let bytes: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes <= 8 << 20, "{bytes} bytes");
    }

    #[test]
    fn a_folder_that_holds_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("flights");
        write(&folder).unwrap();
        write(&folder).unwrap();
        std::fs::write(folder.join("asof.yaml"), "project: other\n").unwrap();
        assert_eq!(write(&folder).unwrap_err().body.code, "folder_in_use");
    }
}
