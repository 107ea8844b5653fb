//! Commands killed at random moments: nothing acknowledged is lost, nothing half-done is visible.

use std::process::Stdio;
use std::time::Duration;

use crate::project::{DEFINITIONS, Project, files_below};

#[expect(clippy::disallowed_methods, reason = "a campaign asks for more rounds than the test command")]
/// So many rounds of each; `ASOF_KILL_ROUNDS` asks for more.
fn rounds() -> u64 {
    std::env::var("ASOF_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(50)
}

/// Runs a command and kills it after a while that grows over the rounds; whether it had ended well before.
fn killed(project: &Project, args: &[&str], round: u64, longest: Duration) -> bool {
    let mut child = project.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Moments spread evenly, in an order that mixes early and late ones.
    let share = (round * 37 % rounds()) as f64 / rounds() as f64;
    std::thread::sleep(longest.mul_f64(share));
    let _ = child.kill();
    child.wait().unwrap().success()
}

#[test]
fn apply_is_whole_or_nothing() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let mut standing = 0;
    for round in 0..rounds() {
        let next = round + 1;
        let expression = format!("rating: rating + {next}");
        project.write("features/shop.yaml", &DEFINITIONS.replace("rating: rating", &expression));
        let acknowledged = killed(&project, &["apply", "--yes"], round, Duration::from_millis(250));
        let shown = project.json(&["show", "seller_profile"]);
        let found = shown[0]["columns"].to_string();
        if found.contains(&format!("rating + {next}")) {
            standing = next;
        } else {
            assert!(!acknowledged, "round {round}: an acknowledged apply is lost");
            let before = if standing == 0 { "rating".to_owned() } else { format!("rating + {standing}") };
            assert!(found.contains(&before), "round {round}: {found}");
        }
    }
}

#[test]
fn train_leaves_a_whole_file_or_none() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "whole.csv"]);
    let whole = project.read("whole.csv");
    for round in 0..rounds() {
        let out = project.path().join("out.csv");
        let _ = std::fs::remove_file(&out);
        let args = ["train", "pricing", "--spine", "spine.csv", "--out", "out.csv"];
        let acknowledged = killed(&project, &args, round, Duration::from_millis(350));
        match std::fs::read_to_string(&out) {
            Ok(text) => {
                assert_eq!(text, whole, "round {round}");
            }
            Err(_) => assert!(!acknowledged, "round {round}: an acknowledged training set is lost"),
        }
    }
    for set in project.json(&["list", "training-sets"]) {
        let id = set["id"].as_str().unwrap();
        project.well(&["train", "--rebuild", id, "--out", "again.csv"]);
        assert_eq!(project.read("again.csv"), whole, "a recorded set can be made again");
    }
}

#[test]
fn backup_leaves_a_whole_folder_or_none() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    project.well(&["materialize"]);
    for round in 0..rounds() {
        let copy = project.path().join("copy");
        let _ = std::fs::remove_dir_all(&copy);
        let acknowledged = killed(&project, &["backup", "copy"], round, Duration::from_millis(300));
        if copy.exists() {
            let restored = format!("restored{round}");
            project.well(&["restore", "copy", "--data-dir", &restored]);
            assert!(files_below(&project.path().join(&restored)).len() > 2);
            if round % 10 == 0 {
                let got = project.json(&["get", "pricing", "seller_id=1", "--data-dir", &restored]);
                assert_eq!(got[0]["columns"][0]["values"][0], "gold");
            }
        } else {
            assert!(!acknowledged, "round {round}: an acknowledged backup is lost");
        }
    }
}
