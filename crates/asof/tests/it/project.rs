//! A small project in a folder of its own, and the binary run in it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

pub(crate) const DEFINITIONS: &str = "\
entity: seller
keys: {seller_id: int64}
description: A person or shop that posts listings.
owner: marketplace
---
source: profiles
path: data/profiles.csv
event_time: updated_at
description: What sellers say about themselves.
---
view: seller_profile
entity: seller
source: profiles
history: all
owner: marketplace
tags: [sellers]
features:
  tier: tier
  rating: rating
  name_length: char_length(name)
---
service: pricing
features:
  - seller_profile.*
";

const PROFILES: &str = "\
seller_id,updated_at,tier,rating,name
1,2024-01-01T00:00:00Z,basic,4.5,Ann
1,2024-02-01T00:00:00Z,gold,4.75,Ann
2,2024-01-15T00:00:00Z,basic,3.25,Bertil
9007199254740993,2024-01-15T00:00:00Z,gold,0.1,Big
";

const SPINE: &str = "\
seller_id,at,label
1,2024-01-10T00:00:00Z,a
1,2024-02-10T00:00:00Z,b
2,2024-01-01T00:00:00Z,c
2,2024-03-01T00:00:00Z,d
3,2024-03-01T00:00:00Z,e
,2024-03-01T00:00:00Z,f
";

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) struct Project {
    path: PathBuf,
    /// The binary that is run.
    program: String,
    /// Removes the folder, where it is not another's.
    _dir: Option<tempfile::TempDir>,
}

impl Project {
    /// The shop.
    pub(crate) fn shop() -> Project {
        Project::empty().with_shop()
    }

    /// The shop in a folder, which stays.
    pub(crate) fn shop_at(path: &Path) -> Project {
        Project::at(path).with_shop()
    }

    fn with_shop(self) -> Project {
        self.write("asof.yaml", "project: shop\n");
        self.write("features/shop.yaml", DEFINITIONS);
        self.write("data/profiles.csv", PROFILES);
        self.write("spine.csv", SPINE);
        self
    }

    pub(crate) fn empty() -> Project {
        let dir = tempfile::tempdir().unwrap();
        let program = env!("CARGO_BIN_EXE_asof").to_owned();
        Project { path: dir.path().to_owned(), program, _dir: Some(dir) }
    }

    /// What is in a folder, which stays.
    pub(crate) fn at(path: &Path) -> Project {
        Project { path: path.to_owned(), program: env!("CARGO_BIN_EXE_asof").to_owned(), _dir: None }
    }

    /// The same, run by this program where there is one.
    pub(crate) fn with_program(mut self, program: Option<String>) -> Project {
        self.program = program.unwrap_or(self.program);
        self
    }

    /// The same files in another folder.
    pub(crate) fn moved(self) -> Project {
        let to = Project::empty();
        std::fs::rename(self.path(), to.path()).unwrap();
        to
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path().join(path)).unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars() {
            if name.starts_with("ASOF_") {
                command.env_remove(name);
            }
        }
        command.env("ASOF_MEMORY", "512MB").env("ASOF_THREADS", "2").env("NO_COLOR", "1");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args))
    }

    /// Runs, feeding stdin.
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Ended {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs; it must end well.
    pub(crate) fn well(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "asof {args:?}\n{}\n{}", ended.out, ended.err);
        ended.out
    }

    /// The lines of JSON of a command that ends well.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let mut all = args.to_vec();
        all.push("--json");
        self.well(&all).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts `asof up` on a free port and waits until it is ready.
    pub(crate) fn up(&self, more: &[&str], environment: &[(&str, &str)]) -> Up {
        let mut args = vec!["up", "--json", "--listen", "127.0.0.1:0"];
        args.extend(more);
        let mut command = self.command(&args);
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).expect("up tells its address");
        let address = started["address"].as_str().unwrap().to_owned();
        Up { child, address }
    }
}

pub(crate) fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A node that runs.
pub(crate) struct Up {
    pub(crate) child: Child,
    /// `http://host:port`
    pub(crate) address: String,
}

impl Up {
    /// Sends a request as it is; the status and the body.
    pub(crate) fn send(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address.split_once("://").unwrap().1).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// Sends a request as it is; the whole answer, head and all.
    pub(crate) fn whole(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address.split_once("://").unwrap().1).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The status of a path; none where nothing listens any more.
    pub(crate) fn try_get(&self, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(self.address.split_once("://").unwrap().1).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
    }

    /// As [`Up::get`], with a token.
    pub(crate) fn get_with(&self, path: &str, token: &str) -> (u16, String) {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        ))
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, String) {
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Waits until `/ready` says so.
    pub(crate) fn wait_ready(&self) {
        for _ in 0..600 {
            if self.get("/ready").0 == 200 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the node is not ready: {:?}", self.get("/ready"));
    }

    /// Tells it to stop and waits.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file of a folder, wherever it is.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}
