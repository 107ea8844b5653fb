//! Commands killed at random moments: nothing acknowledged is lost, nothing half-done is visible.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use asof_testkit::kill_rounds;

use crate::project::{DEFINITIONS, Project, files_below};

/// How many rounds must have been cut off, and how many must have come to their end.
const OFTEN: u64 = 5;

/// Rounds of a command that is killed after a while that grows over the rounds.
struct Campaign {
    longest: Duration,
    round: u64,
    cut_off: u64,
    ended: u64,
}

impl Campaign {
    /// Of a command that took so long when it was left alone, as slow as this machine is now.
    fn of(alone: impl FnOnce()) -> Campaign {
        let begun = Instant::now();
        alone();
        Campaign { longest: begun.elapsed().mul_f64(1.5), round: 0, cut_off: 0, ended: 0 }
    }

    /// The next round: none once there were enough of them, of either end. On a machine that grew slower
    /// or faster meanwhile there are more, each longer.
    fn next(&mut self) -> Option<u64> {
        let enough = self.cut_off >= OFTEN && self.ended >= OFTEN;
        if self.round >= kill_rounds() && enough {
            return None;
        }
        let told = format!("{} cut off, {} ended of {}", self.cut_off, self.ended, self.round);
        assert!(self.round < 10 * kill_rounds(), "{told}: these rounds show nothing");
        self.round += 1;
        Some(self.round)
    }

    /// Runs the command and kills it; whether it had ended well before.
    fn killed(&mut self, project: &Project, args: &[&str]) -> bool {
        let mut child = project.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Moments spread evenly, in an order that mixes early and late ones.
        let share = (self.round * 37 % kill_rounds()) as f64 / kill_rounds() as f64;
        std::thread::sleep(self.longest.mul_f64(share * (1 + self.round / kill_rounds()) as f64));
        let _ = child.kill();
        let status = child.wait().unwrap();
        // What a killed one leaves must not be in the way of the next.
        assert!(status.success() || status.signal().is_some(), "round {}: {args:?}: {status}", self.round);
        if status.success() {
            self.ended += 1;
        } else {
            self.cut_off += 1;
        }
        status.success()
    }
}

#[test]
fn apply_is_whole_or_nothing() {
    let project = Project::shop();
    let mut campaign = Campaign::of(|| drop(project.well(&["apply", "--yes"])));
    let mut standing = 0;
    while let Some(next) = campaign.next() {
        let expression = format!("rating: rating + {next}");
        project.write("features/shop.yaml", &DEFINITIONS.replace("rating: rating", &expression));
        let acknowledged = campaign.killed(&project, &["apply", "--yes"]);
        let shown = project.json(&["show", "seller_profile"]);
        let found = shown[0]["columns"].to_string();
        if found.contains(&format!("rating + {next}")) {
            standing = next;
        } else {
            assert!(!acknowledged, "round {next}: an acknowledged apply is lost");
            let before = if standing == 0 { "rating".to_owned() } else { format!("rating + {standing}") };
            assert!(found.contains(&before), "round {next}: {found}");
        }
    }
}

#[test]
fn train_leaves_a_whole_file_or_none() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let train = |out: &'static str| ["train", "pricing", "--spine", "spine.csv", "--out", out];
    let mut campaign = Campaign::of(|| drop(project.well(&train("whole.csv"))));
    let whole = project.read("whole.csv");
    while let Some(round) = campaign.next() {
        let out = project.path().join("out.csv");
        let _ = std::fs::remove_file(&out);
        let acknowledged = campaign.killed(&project, &train("out.csv"));
        match std::fs::read_to_string(&out) {
            Ok(text) => {
                assert_eq!(text, whole, "round {round}");
            }
            Err(_) => assert!(!acknowledged, "round {round}: an acknowledged training set is lost"),
        }
    }
    // What the killed ones left beside it goes with the next; what belongs to a process that lives stays.
    let (dead, living) = (".out.csv.4194305.partial", ".out.csv.1.partial");
    [dead, living].iter().for_each(|name| project.write(name, "part"));
    project.well(&train("out.csv"));
    let left = std::fs::read_dir(project.path()).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|it| it.to_string_lossy().contains(".partial")).collect();
    assert_eq!(left, [living]);
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
    let mut campaign = Campaign::of(|| drop(project.well(&["backup", "copy"])));
    while let Some(round) = campaign.next() {
        let copy = project.path().join("copy");
        let _ = std::fs::remove_dir_all(&copy);
        let acknowledged = campaign.killed(&project, &["backup", "copy"]);
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
