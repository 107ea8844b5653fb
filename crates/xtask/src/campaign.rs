//! `cargo xtask campaign`: long runs that break things on purpose, on request.
//!
//! `kill` kills a thousand times each what applies, loads, materialises, trains and backs up, what takes pushed rows, and
//! what moves these into tables while it loads files, puts files together and makes views anew.
//!
//! `power-loss` lets the same, in turn, write to an ext4 file system in an image file, stops it shortly after an
//! acknowledgement or after rows were moved, put together, loaded or made into a view, copies the image, mounts the copy and
//! looks whether all that was acknowledged is there and nothing half-done. A file written beside without fsync is the
//! control: if it survived every time, the copy would not show what a power loss does. The copy has what was handed to the
//! disk, so a disk that forgets what it holds in its own cache is not tried.
//!
//! `fsync` lets one fsync after the other of such a node fail. `soak` asks a million features of a node while everything
//! happens to it at once, and has what it served answered again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::process::{exists, output, run_with};

/// Which campaign, how often.
#[derive(Args)]
pub(crate) struct Options {
    /// What is done to the process or the machine.
    campaign: Campaign,
    /// How many rounds: 1,000 kills of each, 50 power losses, the first 100 fsyncs of each thread.
    #[arg(long)]
    rounds: Option<u32>,
    /// How many requests a soak asks.
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// The program that a soak runs; otherwise it is built optimised.
    #[arg(long)]
    program: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Campaign {
    /// Kill -9 at random moments.
    Kill,
    /// Images of a loop-mounted file system; needs root.
    PowerLoss,
    /// One fsync after the other fails.
    Fsync,
    /// Requests under pushes, loads, flushes and kills, answered again.
    Soak,
}

/// Runs a campaign.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    match options.campaign {
        Campaign::Kill => {
            let rounds = options.rounds.unwrap_or(1_000).to_string();
            let arguments = ["nextest", "run", "--workspace", "--success-output", "final", "kill"];
            run_with(root, "cargo", &arguments, &[("ASOF_KILL_ROUNDS", &rounds)])
        }
        Campaign::PowerLoss => power_loss(root, options.rounds.unwrap_or(50)),
        Campaign::Fsync => {
            let rounds = options.rounds.unwrap_or(100).to_string();
            let arguments = ["nextest", "run", "--workspace", "--success-output", "final", "fsync_fails"];
            run_with(root, "cargo", &arguments, &[("ASOF_KILL_ROUNDS", &rounds)])
        }
        Campaign::Soak => soak(root, options.requests, options.program.as_deref()),
    }
}

fn soak(root: &Path, requests: u64, program: Option<&Path>) -> Result<(), String> {
    let program = match program {
        Some(program) => program.canonicalize().map_err(|e| format!("`{}`: {e}", program.display()))?,
        None => {
            run_with(root, "cargo", &["build", "--release"], &[])?;
            root.join("target/release/asof")
        }
    };
    let environment = [("ASOF_SOAK_REQUESTS", requests.to_string()), ("ASOF_SOAK_PROGRAM", text(&program))];
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let arguments = ["nextest", "run", "--workspace", "--success-output", "final", "soak::"];
    run_with(root, "cargo", &arguments, &environment)
}

fn power_loss(root: &Path, rounds: u32) -> Result<(), String> {
    if let Some(reason) = cannot_mount(root) {
        println!("skipped: {reason}");
        return Ok(());
    }
    let programs = test_programs(root)?;
    let place = root.join("target/power-loss");
    std::fs::create_dir_all(&place).map_err(|e| format!("cannot make `{}`: {e}", place.display()))?;
    let (mut acknowledged, mut lost) = (0, 0);
    let mut after: BTreeMap<&str, u32> = BTreeMap::new();
    let mut in_part = 0;
    for number in 0..rounds {
        let (subject, program) = &programs[number as usize % programs.len()];
        // Each time that its turn comes after another of what it says.
        let turn = number as usize / programs.len();
        let moment = subject.moments[turn % subject.moments.len()];
        let round = Round { number, place: &place, subject, program, moment };
        let found = round.run()?;
        acknowledged += found.acknowledged;
        lost += u32::from(found.control_lost);
        in_part += u32::from(found.loaded_in_part);
        *after.entry(moment).or_default() += 1;
    }
    println!(
        "{rounds} images, {acknowledged} acknowledged pushes, loads, applies, commits and commands, none lost; \
         the control lost {lost} times; taken after {after:?}, {in_part} of them between the parts of a file that was loaded"
    );
    if lost == 0 {
        return Err("the control, a file without fsync, was never lost: these images show nothing".to_owned());
    }
    Ok(())
}

/// Why no image can be mounted here, if so.
fn cannot_mount(root: &Path) -> Option<String> {
    if output(root, "id", &["-u"]).ok()?.trim() != "0" {
        return Some("mounting an image needs root".to_owned());
    }
    let lacks = ["mkfs.ext4", "losetup", "mount", "umount"].into_iter().find(|program| !exists(program));
    if let Some(program) = lacks {
        return Some(format!("`{program}` is not installed"));
    }
    match Command::new("losetup").arg("-f").output() {
        Ok(found) if found.status.success() => None,
        _ => Some("there is no loop device".to_owned()),
    }
}

/// What writes, and is looked at after a power loss: tests that run in the folder they are given by
/// `ASOF_TEST_FOLDER`, of which the one says `acknowledged N` for each write, and the other is told of them by
/// `ASOF_TEST_ACKNOWLEDGED`.
struct Subject {
    package: &'static str,
    writes: &'static str,
    verifies: &'static str,
    /// With what lines begin after which images are taken, in turn.
    moments: &'static [&'static str],
}

const ACKNOWLEDGED: &str = "acknowledged ";

const SUBJECTS: [Subject; 6] = [
    Subject {
        package: "flow",
        writes: "disturbed::works_until_disturbed",
        verifies: "disturbed::verify",
        moments: &[
            "together ",
            "acknowledged clicks",
            "flushed ",
            "loading trips",
            "acknowledged turn",
            "acknowledged visit",
        ],
    },
    Subject {
        package: "online",
        writes: "live::crash::pushes_until_killed",
        verifies: "live::crash::verify",
        moments: &[ACKNOWLEDGED],
    },
    Subject {
        package: "engine",
        writes: "load_kill::child",
        verifies: "load_kill::verify",
        moments: &[ACKNOWLEDGED],
    },
    Subject {
        package: "registry",
        writes: "killing::the_child_that_is_killed",
        verifies: "killing::verify",
        moments: &[ACKNOWLEDGED],
    },
    Subject {
        package: "online",
        writes: "crash::commits_until_killed",
        verifies: "crash::verify",
        moments: &[ACKNOWLEDGED],
    },
    Subject {
        package: "asof",
        writes: "power_loss::child",
        verifies: "power_loss::verify",
        moments: &[ACKNOWLEDGED],
    },
];

/// The subjects' test programs.
fn test_programs(root: &Path) -> Result<Vec<(Subject, PathBuf)>, String> {
    // As all tests are built: of one package alone the dependencies would be built anew, with fewer features.
    let arguments = ["test", "--workspace", "--test", "it", "--no-run", "--message-format", "json"];
    let messages = output(root, "cargo", &arguments)?;
    let messages: Vec<serde_json::Value> =
        messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let program = |subject: Subject| {
        let manifest = format!("{}/Cargo.toml", subject.package);
        let found = messages
            .iter()
            .filter(|message| message["manifest_path"].as_str().is_some_and(|it| it.ends_with(&manifest)))
            .filter(|message| message["target"]["name"] == "it")
            .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
            .next_back();
        let package = subject.package;
        found
            .map(|program| (subject, program))
            .ok_or_else(|| format!("cargo did not say where the test program of `{package}` is"))
    };
    SUBJECTS.into_iter().map(program).collect()
}

struct Round<'a> {
    number: u32,
    place: &'a Path,
    subject: &'a Subject,
    program: &'a Path,
    /// With what the line begins after which the image is taken.
    moment: &'static str,
}

/// What writes to a disk; ended when dropped, with the commands that it has started.
struct Writer {
    child: Child,
}

impl Writer {
    /// Stops it, until what each thread had asked of the disk is done.
    fn stop(&self) -> Result<(), String> {
        let group = Pid::from_child(&self.child);
        kill_process_group(group, Signal::STOP).map_err(|e| format!("cannot stop what writes: {e}"))?;
        for _ in 0..5_000 {
            if states(group).iter().all(|state| matches!(state.as_str(), "T" | "Z" | "X")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err("what writes does not stop".to_owned())
    }
}

/// The states of all threads of a group of processes.
fn states(group: Pid) -> Vec<String> {
    let below = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path());
    // Behind the name, which may hold anything but ends with the last bracket: state, parent, group.
    let fields = |path: PathBuf| -> Vec<String> {
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        let behind = stat.rsplit_once(')').map(|(_, behind)| behind).unwrap_or_default();
        behind.split_whitespace().map(str::to_owned).collect()
    };
    let own = group.as_raw_nonzero().to_string();
    let of_group = below(PathBuf::from("/proc")).filter(|path| fields(path.clone()).get(2) == Some(&own));
    let threads = of_group.flat_map(|path| below(path.join("task")));
    threads.filter_map(|path| fields(path).into_iter().next()).collect()
}

impl Drop for Writer {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
        // A command may be within a write to the disk still.
        while test_kill_process_group(group).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What came of a round.
struct Found {
    /// Writes acknowledged before the image was taken.
    acknowledged: usize,
    control_lost: bool,
    /// A file was being loaded, and some parts of it were in.
    loaded_in_part: bool,
}

/// Unmounts when dropped, whatever happened.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    fn new(image: &Path, at: PathBuf) -> Result<Mounted, String> {
        std::fs::create_dir_all(&at).map_err(|e| format!("cannot make `{}`: {e}", at.display()))?;
        if std::fs::read_to_string("/proc/mounts").is_ok_and(|mounts| mounts.contains(&text(&at))) {
            return Err(format!("`{}` is mounted still: unmount it", at.display()));
        }
        system("mount", &["-o", "loop", &text(image), &text(&at)])?;
        Ok(Mounted { at })
    }

    /// How much was written to its device, and how much is on its way.
    fn writes(&self) -> Result<(String, String), String> {
        let mounts =
            std::fs::read_to_string("/proc/mounts").map_err(|e| format!("cannot read mounts: {e}"))?;
        let at = text(&self.at);
        let device = mounts.lines().find_map(|line| {
            let (device, rest) = line.split_once(' ')?;
            (rest.split(' ').next()? == at).then(|| device.trim_start_matches("/dev/").to_owned())
        });
        let device = device.ok_or_else(|| format!("`{at}` is not mounted"))?;
        let path = format!("/sys/block/{device}/stat");
        let counts = std::fs::read_to_string(&path).map_err(|e| format!("cannot read `{path}`: {e}"))?;
        let counts: Vec<&str> = counts.split_whitespace().collect();
        match counts.as_slice() {
            [_, _, _, _, writes, _, _, _, in_flight, ..] => {
                Ok(((*writes).to_owned(), (*in_flight).to_owned()))
            }
            _ => Err(format!("`{path}` does not say how much was written")),
        }
    }

    /// Copies the image while nothing is written to it.
    fn copy(&self, image: &Path, copy: &Path) -> Result<(), String> {
        for _ in 0..20 {
            let before = self.writes()?;
            system("cp", &["--sparse=always", &text(image), &text(copy)])?;
            if before.1 == "0" && self.writes()? == before {
                return Ok(());
            }
        }
        Err(format!("`{}` is written to whenever it is copied", image.display()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What stays mounted, the next mount says.
        let _ = system("umount", &[&text(&self.at)]);
    }
}

impl Round<'_> {
    /// Takes an image and looks at it.
    fn run(&self) -> Result<Found, String> {
        let image = self.place.join("disk.img");
        let copy = self.place.join("copy.img");
        let _ = std::fs::remove_file(&image);
        system("truncate", &["-s", "256M", &text(&image)])?;
        system("mkfs.ext4", &["-q", "-F", &text(&image)])?;
        let seen = {
            let disk = Mounted::new(&image, self.place.join("disk"))?;
            let child = self
                .program_with(&disk.at, self.subject.writes)
                .process_group(0)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|e| format!("cannot start what writes: {e}"))?;
            let mut writer = Writer { child };
            let lines = writer.child.stdout.take().map(BufReader::new).ok_or("what writes has no output")?;
            // Round by round after another acknowledgement, and then when its moment comes.
            let wanted = 1 + self.number as usize % 11;
            let mut seen = Vec::new();
            let mut has_come = false;
            // Not dropped before: what writes to nobody ends.
            let mut lines = lines.lines().map_while(Result::ok);
            for line in lines.by_ref() {
                seen.extend(acknowledged(&line));
                has_come = seen.len() >= wanted && line.starts_with(self.moment);
                if has_come {
                    break;
                }
            }
            if !has_come {
                let (subject, seen) = (self.subject.package, seen.join(", "));
                return Err(format!("round {}, {subject}: it ended after ({seen})", self.number));
            }
            std::fs::write(disk.at.join("control"), vec![7; 4_096])
                .map_err(|e| format!("cannot write the control: {e}"))?;
            // A little later it stands still, whatever it is at. A file is first looked at, then loaded.
            let most = if self.moment.starts_with("loading") { 200_000 } else { 25_000 };
            std::thread::sleep(Duration::from_micros(u64::from(self.number) * 79_199 % most));
            writer.stop()?;
            disk.copy(&image, &copy)?;
            // What it said meanwhile was acknowledged too.
            drop(writer);
            seen.extend(lines.filter_map(|line| acknowledged(&line)));
            seen
        };
        // At the same place: a project knows where it is.
        let disk = Mounted::new(&copy, self.place.join("disk"))?;
        let control = std::fs::read(disk.at.join("control")).unwrap_or_default();
        let checked = self
            .program_with(&disk.at, self.subject.verifies)
            .env("ASOF_TEST_ACKNOWLEDGED", seen.join(","))
            .output()
            .map_err(|e| format!("cannot start the check: {e}"))?;
        if !checked.status.success() {
            return Err(format!(
                "round {}, {}: the copy of the disk is not as acknowledged ({}):\n{}{}",
                self.number,
                self.subject.package,
                seen.join(", "),
                String::from_utf8_lossy(&checked.stdout),
                String::from_utf8_lossy(&checked.stderr)
            ));
        }
        Ok(Found {
            acknowledged: seen.len(),
            control_lost: control != vec![7; 4_096],
            loaded_in_part: String::from_utf8_lossy(&checked.stdout).contains("\nin part"),
        })
    }

    fn program_with(&self, folder: &Path, test: &str) -> Command {
        let mut command = Command::new(self.program);
        command
            .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads", "1"])
            .env("ASOF_TEST_FOLDER", folder)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        command
    }
}

/// What a line says is done for good.
fn acknowledged(line: &str) -> Option<String> {
    Some(line.strip_prefix(ACKNOWLEDGED)?.split(' ').next()?.to_owned())
}

fn system(program: &str, arguments: &[&str]) -> Result<(), String> {
    let done = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|e| format!("cannot start the program `{program}`: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("`{program}` failed: {}", String::from_utf8_lossy(&done.stderr).trim()))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
