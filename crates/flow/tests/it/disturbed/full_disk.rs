//! A disk that is full: what is there is answered, what is new is refused by name, and it goes on when there is room.

use super::*;

fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    while file.write_all(&[1]).is_ok() {}
}

/// The child's work, on a disk of some megabytes.
#[test]
#[ignore = "run by `a_full_disk_is_said_and_passes` as its child"]
fn fills_the_disk() {
    let folder = asked(FOLDER).unwrap();
    let folder = Path::new(&folder);
    set_up(folder);
    let mut node = open(folder).unwrap();
    let (mut there, mut refused) = (There::default(), [0, 0]);
    let full = |done: Result<(), FlowError>, what: &str| match done {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(
                (error.kind(), error.code()),
                (asof_model::Kind::Exhausted, "disk_full"),
                "{what}: {error:?}"
            );
            true
        }
    };
    let push_both = |node: &Node, there: &mut There| {
        let refused = full(push_clicks(node, there.clicks), "clicks");
        there.clicks += if refused { 0 } else { CLICKS };
        if refused {
            return true;
        }
        let refused = full(push_orders(node, there.orders), "orders");
        there.orders += if refused { 0 } else { ORDERS };
        refused
    };
    for round in 0..3 {
        for _ in 0..20 {
            assert!(!push_both(&node, &mut there), "round {round}: full too early");
        }
        if round > 0 {
            node.runtime.block_on(node.flow.flush()).unwrap();
        }
        let rest = folder.join("rest");
        fill(&rest);
        // What is there is answered; what is pushed, moved or made is refused by name, and nothing of it is there.
        while !push_both(&node, &mut there) {}
        for _ in 0..3 {
            // Offline too, with what is not in the tables yet.
            let found = check(&node, &format!("round {round}, full"));
            assert_eq!((found.clicks, found.orders), (there.clicks, there.orders), "round {round}, full");
            assert!(push_both(&node, &mut there));
            // What is moved may leave room behind it, which another fills.
            refused[0] += u64::from(full(node.runtime.block_on(node.flow.flush()).map(drop), "flush"));
            fill(&rest);
            let done = turn(&node, there.turn + 1);
            there.turn += i64::from(done.is_ok());
            refused[1] += u64::from(full(done, "turn"));
            fill(&rest);
        }
        // Space is freed: it goes on without being opened again.
        std::fs::remove_file(&rest).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while push_both(&node, &mut there) {
            assert!(Instant::now() < until, "round {round}: still full");
            std::thread::sleep(Duration::from_millis(50));
        }
        there.turn += 1;
        turn(&node, there.turn).unwrap();
        assert_eq!(check_and_settle(&node, &format!("round {round}, freed")), there);
        drop(node);
        node = open(folder).unwrap();
        assert_eq!(check_and_settle(&node, &format!("round {round}, opened again")), there);
    }
    assert!(refused.iter().all(|refused| *refused > 0), "{refused:?} of flushes and views");
    // More rows than a reading keeps in memory need room, and say so.
    let many = there.clicks + 4_000 * CLICKS;
    push_many_clicks(&node, there.clicks..many).unwrap();
    there.clicks = many;
    let rest = folder.join("rest");
    fill(&rest);
    let error = begin_reading(&node, "clicks").unwrap_err();
    assert_eq!((error.kind(), error.code()), (asof_model::Kind::Exhausted, "disk_full"), "{error}");
    assert!(error.to_string().contains("spill/tail-"), "{error}");
    check_views(&node, there, "many rows, full");
    std::fs::remove_file(&rest).unwrap();
    assert_eq!(check_and_settle(&node, "many rows, freed"), there);
    println!("\nsurvived {there:?}, {refused:?} flushes and views refused");
}

#[test]
fn a_full_disk_is_said_and_passes() {
    let mounted = "mount -t tmpfs -o size=96m tmpfs \"$0\" && exec \"$@\"";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    if !is_permitted("unshare", &["-m", "sh", "-c", mounted, path, "true"]) {
        return;
    }
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", mounted, path])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "disturbed::full_disk::fills_the_disk",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("survived "), "{text}");
}
