//! What people read and what is written: numbers in one form everywhere, answers that say why they broke off,
//! files that are not written over.

use std::process::Stdio;

use crate::project::Project;

const FLOATS: &str = "select cast('nan' as double) a, cast('inf' as double) b, cast('-inf' as double) c, \
                      1e308 d, cast(0.1 as float) e, -0.0 f, 1e16 g, cast(3 as double) h, \
                      [cast('nan' as double), 0.5] i";

#[test]
fn a_float_is_written_in_one_form_everywhere() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let texts = ["NaN", "Infinity", "-Infinity", "1e+308", "0.1", "-0.0", "1e+16", "3.0"];
    let json = project.well(&["sql", FLOATS, "--json"]);
    assert_eq!(
        json.trim(),
        r#"{"a":"NaN","b":"Infinity","c":"-Infinity","d":1e+308,"e":0.1,"f":-0.0,"g":1e+16,"h":3.0,"i":["NaN",0.5]}"#
    );
    let table = project.well(&["sql", FLOATS]);
    let shown: Vec<&str> = table.lines().last().unwrap().split("  ").filter(|it| !it.is_empty()).collect();
    assert_eq!(shown.iter().map(|it| it.trim()).collect::<Vec<_>>()[..8], texts, "{table}");
    assert!(table.contains("[NaN, 0.5]"), "{table}");
    let flat = FLOATS.split(", [").next().unwrap();
    let csv = project.well(&["sql", flat, "--format", "csv"]);
    assert_eq!(csv, format!("a,b,c,d,e,f,g,h\n{}\n", texts.join(",")));
    // What is written is read back as what it was.
    project.write(
        "data/profiles.csv",
        &format!(
            "seller_id,updated_at,tier,rating,name\n{}",
            texts
                .iter()
                .enumerate()
                .map(|(at, text)| format!("{at},2024-01-01T00:00:00Z,t,{text},n\n"))
                .collect::<String>()
        ),
    );
    project.well(&["materialize"]);
    let got = project.json(&[
        "get",
        "--features",
        "seller_profile.rating",
        "seller_id=0",
        "seller_id=1",
        "seller_id=3",
    ]);
    assert_eq!(got[0]["columns"][0]["values"], serde_json::json!(["NaN", "Infinity", 1e308]));
    let shown = project.well(&["get", "--features", "seller_profile.rating", "seller_id=3"]);
    assert!(shown.contains("1e+308"), "{shown}");
    let shown = project.well(&["show", "profiles"]);
    assert!(shown.contains("1e+308") && shown.contains(" -Infinity"), "{shown}");
}

/// An answer past a limit says which, wherever it goes.
#[test]
fn an_answer_that_breaks_off_says_why() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let long = "select value, value as v, value as w from generate_series(1, 1000001)";
    let node = project.up(&[], &[]);
    node.wait_ready();
    for format in ["csv", "ndjson", "table"] {
        let ended = project.run(&["sql", long, "--format", format]);
        assert_eq!(ended.code, Some(7), "{}", ended.err);
        assert!(ended.err.contains("over the limit of 1000000 rows"), "{format}: {}", ended.err);
        assert!(!ended.out.contains("error"), "{format}: data alone goes to stdout");
    }
    let asked = serde_json::json!({"project": "shop", "sql": long, "format": "ndjson"});
    let (_, answer) = node.post("/v1/sql", &asked.to_string());
    let line = answer.lines().rev().find(|line| line.starts_with('{')).unwrap();
    let last: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(last["error"]["code"], "limit_reached", "{line}");
    assert!(last["error"]["message"].as_str().unwrap().contains("1000000 rows"), "{line}");
}

#[test]
fn a_training_set_is_not_written_over_what_it_is_made_from() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let (spine, data) = (project.read("spine.csv"), project.read("data/profiles.csv"));
    std::os::unix::fs::symlink("spine.csv", project.path().join("link.csv")).unwrap();
    std::os::unix::fs::symlink("data", project.path().join("linked")).unwrap();
    std::fs::hard_link(project.path().join("spine.csv"), project.path().join("hard.csv")).unwrap();
    for (from, out) in [
        ("spine.csv", "spine.csv"),
        ("spine.csv", "./data/../spine.csv"),
        ("spine.csv", "link.csv"),
        ("link.csv", "spine.csv"),
        ("spine.csv", "hard.csv"),
        ("spine.csv", "data/profiles.csv"),
        ("spine.csv", "linked/profiles.csv"),
    ] {
        let ended = project.run(&["train", "pricing", "--spine", from, "--out", out]);
        assert_eq!(ended.code, Some(1), "{from} {out}: {}", ended.err);
        assert!(ended.err.contains("out_is_input") || ended.err.contains("--out"), "{}", ended.err);
        let of_source = out.contains("profiles");
        assert!(
            ended.err.contains(if of_source { "source `profiles`" } else { "the spine itself" }),
            "{}",
            ended.err
        );
    }
    let registry = project.run(&[
        "train",
        "pricing",
        "--spine",
        "spine.csv",
        "--out",
        ".asof/registry.db",
        "--format",
        "csv",
    ]);
    assert_eq!(registry.code, Some(1), "{registry:?}");
    assert!(registry.err.contains("is in the data directory, whose files are Asof's own"), "{registry:?}");
    project.well(&["list"]);
    assert_eq!((spine, data), (project.read("spine.csv"), project.read("data/profiles.csv")));
    // A file that a glob would read from now on is among its files too; others are not.
    let text = project.read("features/shop.yaml").replace("data/profiles.csv", "data/*.csv");
    project.write("features/shop.yaml", &text);
    project.well(&["apply", "--yes"]);
    let ended = project.run(&["train", "pricing", "--spine", "spine.csv", "--out", "data/train.csv"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "data/train.parquet"]);
    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "train.csv"]);
    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "train.csv"]);
}

#[test]
fn a_moved_folder_is_told_and_mended_by_apply() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let before = project.path().canonicalize().unwrap();
    let project = project.moved();
    let plan = project.well(&["plan"]);
    assert!(plan.contains("moved") && plan.contains(before.to_str().unwrap()), "{plan}");
    assert_eq!(project.json(&["plan"])[0]["moved_from"], before.to_str().unwrap());
    let ended = project.run(&["train", "pricing", "--spine", "spine.csv"]);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains(before.join("data/profiles.csv").to_str().unwrap()), "{}", ended.err);
    assert!(ended.err.contains("asof apply"), "{}", ended.err);
    let applied = project.run(&["apply", "--yes"]);
    assert_eq!(applied.code, Some(0), "{}", applied.err);
    assert!(project.well(&["plan"]).contains("up to date"));
    project.well(&["train", "pricing", "--spine", "spine.csv"]);
}

#[test]
fn a_feature_that_grows_without_bound_is_refused() {
    let project = Project::shop();
    let text = project.read("features/shop.yaml");
    let with = |feature: &str| {
        project.write(
            "features/shop.yaml",
            &text.replace("  tier: tier\n", &format!("  tier: tier\n  big: {feature}\n")),
        )
    };
    for feature in ["repeat(name, 1000000000)", "repeat('x', 1000000000)", "char_length(repeat('x', 100000))"]
    {
        with(&format!("\"{feature}\""));
        let ended = project.run(&["plan"]);
        if feature.contains("name") {
            // How large it is hangs on the rows.
            assert_eq!(ended.code, Some(0), "{}", ended.err);
            continue;
        }
        assert_eq!(ended.code, Some(1), "{feature}: {}", ended.err);
        assert!(ended.err.contains("makes too much") && ended.err.contains("64 KiB"), "{}", ended.err);
    }
    with("\"repeat(name, 1000000000)\"");
    project.well(&["apply", "--yes"]);
    for args in [
        vec!["train", "pricing", "--spine", "spine.csv"],
        vec!["materialize"],
        vec!["sql", "select big from seller_profile"],
    ] {
        let ended = project.run(&args);
        assert_eq!(ended.code, Some(7), "{args:?}: {}", ended.err);
        assert!(
            ended.err.contains("`repeat(name, 1000000000)`") && ended.err.contains("over the limit of"),
            "{}",
            ended.err
        );
    }
}

/// The table of docs/reference/errors.md, held to by what the commands do.
#[test]
fn exit_codes_are_those_of_the_table() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let stored =
        "---\nsource: kept\npath: data/none.csv\nstore: true\nevent_time: at\nschema: {at: timestamp}\n";
    project.write("features/kept.yaml", stored);
    project.well(&["apply", "--yes"]);
    std::fs::remove_file(project.path().join("data/profiles.csv")).unwrap();
    let unread = "http://127.0.0.1:1";
    for (code, args) in [
        (0, vec!["plan", "--help"]),
        (0, vec!["list"]),
        (1, vec!["sql", "selec 1"]),
        (1, vec!["train", "pricing", "--spine", "spine.csv", "--out", "train.xlsx"]),
        (2, vec!["frobnicate"]),
        (2, vec!["train"]),
        // A file that is not there, whatever names it.
        (3, vec!["train", "pricing", "--spine", "none.csv"]),
        (3, vec!["load", "kept", "none.csv"]),
        (3, vec!["load", "kept", "none-*.csv"]),
        (3, vec!["load", "kept"]),
        (3, vec!["train", "pricing", "--spine", "spine.csv"]),
        (3, vec!["materialize"]),
        (3, vec!["sql", "select * from profiles"]),
        (3, vec!["restore", "none"]),
        (3, vec!["list", "--project", "nowhere"]),
        (3, vec!["up", "--tls-key", "key.pem", "--tls-certificate", "cert.pem"]),
        // A thing that is not there.
        (3, vec!["show", "nope"]),
        (3, vec!["train", "--rebuild", "000000000000"]),
        (3, vec!["sql", "select * from nothing"]),
        (4, vec!["backup", "data"]),
        (7, vec!["sql", "select repeat('x', 2000000000)"]),
        (9, vec!["list", "--server", unread]),
    ] {
        for json in [false, true] {
            let mut args = args.clone();
            args.extend(json.then_some("--json"));
            let ended = project.run(&args);
            assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.err);
            if json && code != 0 {
                let said: serde_json::Value = serde_json::from_str(ended.err.trim()).expect(&ended.err);
                for part in ["kind", "code", "message", "hint"] {
                    let optional = part == "hint" && code != 2;
                    assert!(optional || said["error"][part].is_string(), "{args:?}: {}", ended.err);
                }
                assert!(ended.out.is_empty(), "{args:?}: {}", ended.out);
            }
        }
    }
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/errors.md"))
            .unwrap();
    for kind in asof_model::Kind::ALL {
        let row = format!("| {} | {kind}: {} | {} |", kind.exit_code(), kind.means(), kind.http_status());
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn a_command_line_that_cannot_be_read_is_json_where_json_is_asked() {
    let project = Project::shop();
    let mut told = String::new();
    for args in [
        vec!["--json", "aply"],
        vec!["train", "--json"],
        vec!["train", "x", "--spine", "y", "--question", "guess", "--json"],
        vec!["list", "--jsn", "--json"],
        vec!["up", "--threads", "0", "--json"],
        vec!["--json"],
    ] {
        let ended = project.run(&args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{args:?}: {}", ended.err);
        told.push_str(&format!("{}\n    {}", args.join(" "), ended.err));
    }
    insta::assert_snapshot!(told);
    // Help is help.
    assert!(project.well(&["train", "--help", "--json"]).contains("Usage"));
}

/// A text that cannot be read hides no problem of what can.
#[test]
fn all_problems_of_a_view_come_at_once() {
    let project = Project::shop();
    let text = project.read("features/shop.yaml").replace(
        "  rating: rating\n",
        "  rating: ratng\n  broken: \"tier ||\"\n  half: rating / 'x'\n  twice: {expr: nme, colour: red}\n",
    );
    project.write("features/shop.yaml", &text);
    let ended = project.run(&["plan"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    for part in ["ratng", "tier ||", "rating / 'x'", "colour"] {
        assert!(ended.err.contains(part), "{part} in\n{}", ended.err);
    }
    assert!(!ended.err.contains("not found in view"), "no problem follows from another: {}", ended.err);
    insta::assert_snapshot!(ended.err);
}

/// Nor does it in a source, whose columns and the views over it are looked at all the same.
#[test]
fn all_problems_of_a_source_come_at_once() {
    let project = Project::shop();
    project
        .write("data/rides.csv", "bike,ended at,seen,km\nB1,2024-01-01T00:00:00Z,2024-01-01T00:00:00Z,3\n");
    project.write(
        "features/rides.yaml",
        "entity: bike\nkeys: {bike: string}\n---\nsource: rides\npath: data/rides.csv\nevent_time: ended at\n\
         available_at: sen\n---\nview: last_ride\nentity: bike\nsource: rides\nfeatures: {km: kn}\n",
    );
    let ended = project.run(&["plan"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    insta::assert_snapshot!(ended.err);
}

#[test]
fn what_a_newcomer_meets() {
    let project = Project::shop();
    // Rows of a text file are judged by its bytes, and said to be.
    let plan = project.well(&["plan"]);
    assert!(plan.contains("Rows to materialise: seller_profile about "), "{plan}");
    assert_eq!(project.json(&["plan"])[0]["rows_to_materialize"][0]["estimated"], true);
    project.well(&["apply", "--yes"]);
    // The beginning of an id is enough.
    project.well(&["train", "pricing", "--spine", "spine.csv", "--out", "train.csv"]);
    let sets = project.json(&["list", "training-sets"]);
    let id = sets[0]["id"].as_str().unwrap();
    project.well(&["train", "--rebuild", &id[..6], "--out", "again.csv"]);
    assert_eq!(project.read("again.csv"), project.read("train.csv"));
    let ended = project.run(&["show", "nope"]);
    assert!(ended.err.contains("`asof list` lists"), "{}", ended.err);
    // A stored source says where its files come from, though none be there yet.
    let stored = "---\nsource: kept\nstore: true\nschema: {at: timestamp}\nevent_time: at\n";
    project.write("features/kept.yaml", stored);
    let ended = project.run(&["plan"]);
    assert!(
        ended.err.contains("`asof load` copies files into its table")
            && ended.err.contains("with a `schema`"),
        "{}",
        ended.err
    );
    project.write("features/kept.yaml", &stored.replace("store: true", "store: true\npath: data/in/*.csv"));
    project.well(&["apply", "--yes"]);
    project.write("rows.csv", "at\n2024-01-01T00:00:00Z\n");
    project.well(&["load", "kept", "rows.csv"]);
    assert_eq!(project.json(&["sql", "select count(*) as n from kept"])[0]["n"], 1);
    // A browser at the address finds the documentation.
    let node = project.up(&[], &[]);
    let (status, _) = node.get("/");
    assert_eq!(status, 307);
    let answer = node.whole("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(answer.to_lowercase().contains("location: /docs"), "{answer}");
}

/// Who stops reading the log, as `head` does, stops nothing else.
#[test]
fn a_log_that_nobody_reads_ends_nothing() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let mut command = project.command(&["sql", "select count(*) as n from profiles", "--json"]);
    command.env("ASOF_LOG", "debug").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.starts_with(b"{\"n\":"));
}

/// Definitions that lie beside `asof.yaml` are not read, and whoever put them there is told where they belong.
#[test]
fn a_project_without_definitions_says_where_they_belong() {
    let project = Project::empty();
    project.write("asof.yaml", "project: shop\n");
    project.write("drivers.yaml", "entity: driver\nkeys: {driver_id: int64}\n");
    let ended = project.run(&["plan"]);
    assert_eq!(ended.code, Some(0));
    assert!(format!("{}{}", ended.out, ended.err).contains("under `features/`, where there are none"));
}
