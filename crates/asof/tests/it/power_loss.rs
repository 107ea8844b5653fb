//! What `cargo xtask campaign power-loss` runs on a disk whose image it copies: not tests of their own.
//!
//! One applies, materialises, trains and backs up, and says each once it is acknowledged; the other looks whether
//! all of that is on the copy, and nothing half-done.

use std::path::{Path, PathBuf};

use crate::project::{DEFINITIONS, Project};

/// What is done in turn; each is acknowledged with the number of its turn.
const STEPS: [&str; 4] = ["apply", "materialize", "train", "backup"];

#[expect(clippy::disallowed_methods, reason = "how a campaign says what a test works on")]
fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn folder() -> Option<PathBuf> {
    asked("ASOF_TEST_FOLDER").map(|folder| PathBuf::from(folder).join("shop"))
}

/// The definitions of a turn.
fn definitions(turn: u64) -> String {
    DEFINITIONS.replace("rating: rating", &format!("rating: rating + {turn}"))
}

fn train(turn: u64) -> [String; 6] {
    ["train", "pricing", "--spine", "spine.csv", "--out", &format!("out{turn}.csv")].map(str::to_owned)
}

/// Brings what a person wrote, and nothing that the program did, to the disk.
fn sync(folder: &Path) {
    for file in ["asof.yaml", "features/shop.yaml", "data/profiles.csv", "spine.csv"] {
        for path in folder.join(file).ancestors().take_while(|path| path.starts_with(folder)) {
            std::fs::File::open(path).unwrap().sync_all().unwrap();
        }
    }
    std::fs::File::open(folder.parent().unwrap()).unwrap().sync_all().unwrap();
}

#[test]
fn child() {
    let Some(folder) = folder() else { return };
    let project = Project::shop_at(&folder);
    // Once: later it would bring along what the program left to it.
    sync(&folder);
    // What the test runner says before stands on a line of its own.
    println!();
    for turn in 1.. {
        project.write("features/shop.yaml", &definitions(turn));
        let (trains, copy) = (train(turn), format!("copy{turn}"));
        for step in STEPS {
            match step {
                "apply" => project.well(&["apply", "--yes"]),
                "train" => project.well(&trains.each_ref().map(String::as_str)),
                "backup" => project.well(&["backup", &copy]),
                step => project.well(&[step]),
            };
            println!("acknowledged {step}{turn}");
        }
    }
}

#[test]
fn verify() {
    let (Some(folder), Some(acknowledged)) = (folder(), asked("ASOF_TEST_ACKNOWLEDGED")) else { return };
    let project = Project::at(&folder);
    let turns = |step: &str| {
        let of_step = acknowledged.split(',').filter_map(|it| it.strip_prefix(step)?.parse::<u64>().ok());
        of_step.collect::<Vec<u64>>()
    };
    // Revision N has the definitions of turn N: that of the last turn that was acknowledged, or of the next.
    let applied = turns("apply").last().copied().unwrap_or(0);
    // The definitions of the last turn may not be on the disk; what was applied of them is.
    project.write("features/shop.yaml", &definitions(1));
    let shown = project.run(&["show", "seller_profile", "--json"]);
    assert!(applied == 0 || shown.code == Some(0), "{shown:?}");
    let found = (1..=applied + 1).filter(|turn| shown.out.contains(&format!("rating + {turn}\"")));
    let found: Vec<u64> = found.collect();
    assert!(
        found.last() >= Some(&applied).filter(|turn| **turn > 0) && found.len() <= 1,
        "{applied}: {shown:?}"
    );
    // Every turn adds its number to the ratings.
    let whole = |turn: u64| {
        let rows = ["1,2024-01-10T00:00:00Z,a,basic", "1,2024-02-10T00:00:00Z,b,gold"];
        let ratings = [4.5, 4.75].map(|rating| rating + turn as f64);
        rows.iter().zip(ratings).map(|(row, rating)| format!("{row},{rating:?},3")).collect::<Vec<_>>()
    };
    for turn in 1..=applied {
        match std::fs::read_to_string(folder.join(format!("out{turn}.csv"))) {
            Ok(text) => {
                assert_eq!(text.lines().count(), 7, "{text}");
                for row in whole(turn) {
                    assert!(text.lines().any(|line| line == row), "turn {turn} has no `{row}`:\n{text}");
                }
            }
            Err(error) => assert!(!turns("train").contains(&turn), "out{turn}.csv: {error}"),
        }
        let copy = folder.join(format!("copy{turn}"));
        if copy.exists() {
            let (copy, restored) = (format!("copy{turn}"), format!("restored{turn}"));
            project.well(&["restore", &copy, "--data-dir", &restored]);
            let got = project.json(&["get", "pricing", "seller_id=1", "--data-dir", &restored]);
            assert_eq!(got[0]["columns"][1]["values"][0].as_f64(), Some(4.75 + turn as f64), "{got:?}");
        } else {
            assert!(!turns("backup").contains(&turn), "copy{turn} was acknowledged");
        }
    }
    let sets = if applied == 0 { Vec::new() } else { project.json(&["list", "training-sets"]) };
    assert!(sets.len() >= turns("train").len(), "{acknowledged}: {sets:?}");
    for set in sets {
        project.well(&["train", "--rebuild", set["id"].as_str().unwrap(), "--out", "again.csv"]);
        assert_eq!(project.read("again.csv").lines().count(), 7);
    }
    // What was materialised is served, as long as the view is what it was.
    if applied > 0 && turns("materialize").contains(&applied) && found == [applied] {
        let got = project.json(&["get", "pricing", "seller_id=1"]);
        assert_eq!(got[0]["columns"][1]["values"][0].as_f64(), Some(4.75 + applied as f64), "{got:?}");
    }
}
