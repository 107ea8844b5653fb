//! Several nodes, tokens, TLS, and many writers at once.

use std::process::Stdio;

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
    let with = |token: &str| {
        node.send(&format!(
            "GET /v1/runs?project=shop HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        ))
    };
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
