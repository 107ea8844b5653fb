//! Several nodes, tokens, TLS, and many writers at once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::project::{DEFINITIONS, Project};

#[test]
fn a_second_node_is_refused_by_name_and_pid() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let node = project.up(&[], &[]);
    let second = project.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, Some(4), "{}", second.err);
    let expected = format!("`asof up`, process {}", node.child.id());
    assert!(second.err.contains(&expected), "{}", second.err);
    // Another data directory is another node.
    let other = project.up(&["--data-dir", "other"], &[]);
    assert_ne!(other.address, node.address);
}

#[test]
fn a_token_is_asked_for_and_taken_from_the_node_file() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let node = project.up(&[], &[("ASOF_TOKEN", "s3cret")]);
    assert_eq!(node.get("/health").0, 200);
    assert_eq!(node.get("/v1/runs?project=shop").0, 401);
    let with = |token: &str| node.get_with("/v1/runs?project=shop", token);
    assert_eq!(with("wrong").0, 401);
    assert_eq!(with("s3cret").0, 200);
    project.well(&["list"]);
    let mut remote = project.command(&["list", "--server", &node.address]);
    remote.env("ASOF_TOKEN", "wrong");
    let refused = crate::project::ended(remote);
    assert_eq!(refused.code, Some(5), "{}", refused.err);
    let mut remote = project.command(&["list", "--server", &node.address]);
    remote.env("ASOF_TOKEN", "s3cret");
    assert_eq!(crate::project::ended(remote).code, Some(0));
}

#[test]
fn other_machines_and_web_pages_are_kept_out_without_a_token() {
    let project = Project::shop();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let refused = project.run(&["up", "--listen", address]);
        assert_eq!(refused.code, Some(1), "{}", refused.err);
        assert!(refused.err.contains("without a token and TLS"), "{}", refused.err);
    }
    let node = project.up(&[], &[]);
    let from = |headers: &str| {
        node.send(&format!("GET /v1/projects/*/things HTTP/1.1\r\n{headers}\r\nconnection: close\r\n\r\n")).0
    };
    assert_eq!(from("host: localhost"), 200);
    assert_eq!(from("host: attacker.example"), 403);
    assert_eq!(from("host: localhost\r\norigin: http://attacker.example"), 403);
    // What opens a node to other machines opens none of loopback to web pages.
    let node = project.up(&["--insecure", "--data-dir", "other"], &[]);
    let from = |headers: &str| {
        node.send(&format!("GET /v1/projects/*/things HTTP/1.1\r\n{headers}\r\nconnection: close\r\n\r\n")).0
    };
    assert_eq!(from("host: localhost"), 200);
    assert_eq!(from("host: attacker.example"), 403);
    assert_eq!(from("host: localhost\r\norigin: http://attacker.example"), 403);
}

#[test]
fn of_twenty_applies_on_one_base_one_wins() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let node = project.up(&[], &[]);
    let body = |number: usize| {
        let text = DEFINITIONS.replace("rating: rating", &format!("rating: rating + {number}"));
        serde_json::json!({
            "root": project.path(), "base": 1,
            "files": [{"path": "asof.yaml", "text": "project: shop\n"}, {"path": "features/shop.yaml", "text": text}],
        })
        .to_string()
    };
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=20)
            .map(|number| {
                let (node, body) = (&node, body(number));
                scope.spawn(move || node.post("/v1/apply", &body))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let won = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(won, 1, "{answers:?}");
    for (status, body) in answers.iter().filter(|(status, _)| *status != 200) {
        assert_eq!(*status, 409, "{body}");
        assert!(body.contains("apply_conflict") && body.contains("seller_profile"), "{body}");
    }
}

#[test]
fn a_stop_by_signal_removes_the_node_file() {
    let project = Project::shop();
    let node = project.up(&[], &[]);
    assert!(project.path().join(".asof/node.json").exists());
    assert_eq!(node.stop(), Some(0));
    assert!(!project.path().join(".asof/node.json").exists());
}

#[test]
fn a_killed_node_leaves_nothing_in_the_way() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let mut node = project.up(&[], &[]);
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    assert!(project.path().join(".asof/node.json").exists());
    project.well(&["list"]);
    let help = project.command(&["--help"]).stdout(Stdio::null()).status().unwrap();
    assert!(help.success());
}

/// What was accepted when the signal comes is answered, then the process ends well.
#[test]
fn a_stop_by_signal_answers_what_it_accepted() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let mut node = project.up(&[], &[]);
    node.wait_ready();
    let body = r#"{"service": "pricing", "entities": {"seller_id": [1]}}"#;
    let mut stream = TcpStream::connect(node.address.split_once("://").unwrap().1).unwrap();
    let head = format!(
        "POST /v1/features HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body.as_bytes()[..10]).unwrap();
    // The head has arrived once another request that came after it is answered.
    assert_eq!(node.get("/health").0, 200);
    let told = Command::new("kill").args(["-TERM", &node.child.id().to_string()]).status().unwrap();
    assert!(told.success());
    while node.try_get("/health").is_some() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    stream.write_all(&body.as_bytes()[10..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("gold"), "{answer}");
    assert_eq!(node.child.wait().unwrap().code(), Some(0));
}

/// Files that only the client sees: all of them are loaded, or none.
#[test]
fn files_sent_to_a_remote_node_are_loaded_all_or_none() {
    let project = Project::shop();
    let definitions = DEFINITIONS.replace("path: data/profiles.csv", "path: data/profiles.csv\nstore: true");
    project.write("features/shop.yaml", &definitions);
    project.well(&["apply", "--yes"]);
    let node = project.up(&[], &[]);
    let client = Project::empty();
    client.write("asof.yaml", "project: shop\n");
    let row = |number: usize| format!("{number},2024-03-0{number}T00:00:00Z,gold,1.5,Eve\n");
    let head = "seller_id,updated_at,tier,rating,name\n";
    let files: Vec<String> = (1..=5).map(|number| format!("part{number}.csv")).collect();
    for (number, file) in files.iter().enumerate() {
        client.write(file, &format!("{head}{}", row(number + 1)));
    }
    client.write("part3.csv", &format!("{head}{}x,y,z,u,v\n", row(3)));
    let mut arguments = vec!["load", "profiles", "--server", &node.address];
    arguments.extend(files.iter().map(String::as_str));
    let refused = client.run(&arguments);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains("part3.csv"), "{}", refused.err);
    let count = || project.json(&["sql", "select count(*) as n from profiles"])[0]["n"].clone();
    assert_eq!(count(), 0, "nothing of the five is loaded");

    client.write("part3.csv", &format!("{head}{}", row(3)));
    let mut json = arguments.clone();
    json.push("--json");
    let loaded = client.run(&json);
    assert_eq!(loaded.code, Some(0), "{}", loaded.err);
    let names: Vec<String> = loaded
        .out
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["name"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names, files);
    assert_eq!(count(), 5);
    let again = client.run(&arguments);
    assert!(again.err.contains("was loaded before"), "{}", again.err);
    assert_eq!(count(), 5);
}

/// Folders of the names that are sent are columns, as where the files are loaded from the disk.
#[test]
fn files_sent_to_a_remote_node_have_the_columns_of_their_folders() {
    let project = Project::shop();
    let head = "seller_id,updated_at,rating,name\n";
    for tier in ["gold", "basic"] {
        project.write(&format!("data/tier={tier}/a.csv"), &format!("{head}1,2024-03-01T00:00:00Z,1.5,Eve\n"));
    }
    let definitions = DEFINITIONS.replace("path: data/profiles.csv", "path: data/*/*.csv\nstore: true");
    project.write("features/shop.yaml", &definitions);
    project.well(&["apply", "--yes"]);
    let node = project.up(&[], &[]);
    let client = Project::empty();
    client.write("asof.yaml", "project: shop\n");
    for tier in ["gold", "basic"] {
        client.write(&format!("data/tier={tier}/a.csv"), &format!("{head}1,2024-03-01T00:00:00Z,1.5,Eve\n"));
    }
    let files = ["data/tier=basic/a.csv", "data/tier=gold/a.csv"];
    let loaded = client.run(&["load", "profiles", "--server", &node.address, files[0], files[1]]);
    assert_eq!(loaded.code, Some(0), "{}", loaded.err);
    let tiers = project.json(&["sql", "select tier from profiles order by tier"]);
    assert_eq!(tiers, [serde_json::json!({"tier": "basic"}), serde_json::json!({"tier": "gold"})]);
}

/// The usual limit of open files is a soft one: a node takes what the system allows.
#[cfg(target_os = "linux")]
#[test]
fn a_node_may_open_as_many_files_as_the_system_allows() {
    let project = Project::shop();
    let plain = project.command(&["up", "--json", "--listen", "127.0.0.1:0"]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 200 && exec \"$@\"", "sh"]).arg(plain.get_program());
    command.args(plain.get_args()).current_dir(project.path()).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let open = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = open.split_whitespace().skip(3).take(2).collect::<Vec<_>>()[..] else {
        panic!("{open}")
    };
    assert!(soft == hard && soft != "200", "{open}");
}

/// Every setting of `asof.yaml`, what overrides it, and what is refused.
#[test]
fn settings_come_from_the_file_the_environment_and_flags_in_that_order() {
    let project = Project::empty();
    project.write(
        "asof.yaml",
        "project: shop\nlisten: 127.0.0.1:1\ndata_dir: stores\nmemory: 1GiB\nthreads: 3\noperations: 3\n\
         serving_log_sample: 0.25\nserving_log_keep: 7d\nflush_interval: 10s\n\
         server: http://127.0.0.1:9\ntls_certificate: cert.pem\ntls_key: key.pem\ntls_authorities: ca.pem\n",
    );
    let settings = |args: &[&str], environment: &[(&str, &str)]| {
        let mut command = project.command(&[&["doctor", "--json"], args].concat());
        command.env_remove("ASOF_MEMORY").env_remove("ASOF_THREADS").envs(environment.iter().copied());
        let ended = crate::project::ended(command);
        let told: serde_json::Value = serde_json::from_str(&ended.out).expect(&ended.err);
        let root = project.path().canonicalize().unwrap();
        let mut lines = Vec::new();
        for setting in told["settings"].as_array().unwrap() {
            let text = |key: &str| setting[key].as_str().unwrap().replace(root.to_str().unwrap(), "PROJECT");
            lines.push(format!("{} = {} ({})", text("setting"), text("value"), text("from")));
        }
        lines.join("\n")
    };
    let mut table = format!("file\n{}\n", settings(&[], &[]));
    let environment = [
        ("ASOF_LISTEN", "127.0.0.1:2"),
        ("ASOF_DATA_DIR", "/tmp/elsewhere"),
        ("ASOF_MEMORY", "2GiB"),
        ("ASOF_THREADS", "4"),
        ("ASOF_OPERATIONS", "5"),
        ("ASOF_SERVING_LOG_SAMPLE", "1"),
        ("ASOF_SERVING_LOG_KEEP", "2w"),
        ("ASOF_FLUSH_INTERVAL", "500ms"),
        ("ASOF_SERVER", "http://127.0.0.1:8"),
        ("ASOF_TOKEN", "s3cret"),
        ("ASOF_TLS_CERTIFICATE", "/c.pem"),
        ("ASOF_TLS_KEY", "/k.pem"),
        ("ASOF_TLS_AUTHORITIES", "/a.pem"),
    ];
    table.push_str(&format!("\nenvironment\n{}\n", settings(&[], &environment)));
    let flags = ["--server", "http://127.0.0.1:7", "--data-dir", "/tmp/flag"];
    table.push_str(&format!("\nflags\n{}\n", settings(&flags, &environment)));
    insta::assert_snapshot!("settings", table);

    let mut refusals = String::new();
    for (name, value) in [
        ("ASOF_REGISTRY", "postgres://db/asof"),
        ("ASOF_ONLINE", "redis://cache"),
        ("ASOF_OFFLINE", "s3://bucket"),
        ("ASOF_STORAGE", "region"),
        ("ASOF_MEMORY", "lots"),
        ("ASOF_THREADS", "0"),
        ("ASOF_THREADS", "many"),
        ("ASOF_OPERATIONS", "0"),
        ("ASOF_SERVING_LOG_SAMPLE", "1.5"),
        ("ASOF_SERVING_LOG_KEEP", "0d"),
        ("ASOF_FLUSH_INTERVAL", "soon"),
        ("ASOF_TREADS", "4"),
    ] {
        let shop = Project::shop();
        let mut command = shop.command(&["doctor"]);
        command.env(name, value);
        let ended = crate::project::ended(command);
        assert_ne!(ended.code, Some(0), "{name}");
        let crosses: Vec<&str> = ended.out.lines().filter(|line| line.starts_with('✗')).collect();
        refusals.push_str(&format!("{name}={value}\n{}{}\n", ended.err, crosses.join("\n")));
    }
    // One file of two is no TLS, wherever it is named.
    let shop = Project::shop();
    let ended = shop.run(&["up", "--listen", "127.0.0.1:0", "--tls-key", "key.pem"]);
    refusals.push_str(&format!("--tls-key\n{}", ended.err));
    insta::assert_snapshot!("settings_refused", refusals);
}

/// A refusal is all that a command says: no line of the log stands before it.
#[test]
fn a_refused_node_opens_nothing_and_logs_nothing() {
    let project = Project::shop();
    let refused = project.run(&["up", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.starts_with("error: refused to listen"), "{}", refused.err);
    assert!(!project.path().join(".asof").exists());
}

#[cfg(unix)]
#[test]
fn a_restore_owns_the_data_directory_to_its_end() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    project.well(&["backup", "copy"]);
    let mode = |path: &str| project.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("copy"), 0o700);
    // The folder stands, as a first command or a service manager leaves it.
    std::fs::create_dir(project.path().join("restored")).unwrap();
    // A pipe in place of a file stops the restore in its middle.
    let file = project.path().join("copy/registry.db");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let mut restoring = project.command(&["restore", "copy", "--data-dir", "restored"]).spawn().unwrap();
    let lock = project.path().join("restored/lock");
    while !std::fs::read_to_string(&lock).is_ok_and(|holder| holder.contains("asof restore")) {
        assert!(restoring.try_wait().unwrap().is_none(), "the restore ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let refused = project.run(&["up", "--listen", "127.0.0.1:0", "--data-dir", "restored"]);
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    let expected = format!("`asof restore`, process {}", restoring.id());
    assert!(refused.err.contains(&expected), "{}", refused.err);
    std::fs::write(&file, bytes).unwrap();
    assert!(restoring.wait().unwrap().success());
    assert_eq!(mode("restored"), 0o700);
    let things = project.json(&["list", "views", "--data-dir", "restored"]);
    assert!(things[0].to_string().contains("seller_profile"), "{things:?}");
    // Into one that holds stores nothing is restored, and they stay.
    let refused = project.run(&["restore", "copy", "--data-dir", "restored"]);
    assert!(refused.err.contains("holds stores already"), "{}", refused.err);
    project.well(&["list", "--data-dir", "restored"]);
}

#[test]
fn what_a_killed_process_left_is_removed_by_the_next_owner() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let partial = project.path().join("elsewhere/.copy.0a1b2c3d.partial");
    let left = [".asof/uploads/0f", ".asof/spill/query/1", ".asof.4711.partial/registry.db"];
    let stays = ["elsewhere/.copy.99999999.partial/registry.db", ".asof.mine.partial/note"];
    for path in left.iter().chain(&stays) {
        project.write(path, "x");
    }
    project.write("elsewhere/.copy.0a1b2c3d.partial/online/rows.redb", "x");
    project.write(".asof/backups/0a1b2c3d", partial.to_str().unwrap());
    // A note that names no unfinished backup removes nothing.
    let mine = project.path().join("data");
    project.write(".asof/backups/deadbeef", mine.to_str().unwrap());
    project.well(&["list"]);
    for path in left {
        assert!(!project.path().join(path).exists(), "{path}");
    }
    assert!(!partial.exists());
    for path in stays {
        assert!(project.path().join(path).exists(), "{path}");
    }
    assert!(mine.join("profiles.csv").exists());
}

#[test]
fn the_version_names_the_commit_of_a_clone() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    project.well(&["backup", "copy"]);
    let manifest: serde_json::Value = serde_json::from_str(&project.read("copy/manifest.json")).unwrap();
    let version = manifest["code_version"].as_str().unwrap();
    let commit = version.strip_prefix(env!("CARGO_PKG_VERSION")).unwrap();
    let is_clone = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.git").exists();
    let shape = commit
        .strip_prefix('+')
        .is_some_and(|it| it.len() == 12 && it.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(shape, is_clone, "{version}");
    assert!(shape || commit.is_empty(), "{version}");
}
