//! Wrong flags and wrong requests, each with its exact message.

use crate::project::Project;

fn told(code: i32, text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    format!("[{code}] {}", lines.join("\n    "))
}

#[test]
fn wrong_flags_and_arguments() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    project.write("bad.csv", "seller_id,at\nx,2024-01-01T00:00:00Z\n");
    project.write("notime.csv", "seller_id,label\n1,a\n");
    project.write("twotimes.csv", "seller_id,a,b\n1,2024-01-01T00:00:00Z,2024-01-01T00:00:00Z\n");
    project.write("nokey.csv", "buyer_id,at\n1,2024-01-01T00:00:00Z\n");
    project.write("clash.csv", "seller_id,at,tier\n1,2024-01-01T00:00:00Z,x\n");
    project.write("ints.csv", "seller_id,t\n1,1704067200\n");
    project.write("nulltime.csv", "seller_id,at\n1,\n2,2024-01-01T00:00:00Z\n");
    project.write("spine.txt", "seller_id,at\n");
    project.write("pandas.csv", "seller_id,at\n1.0,2024-01-01T00:00:00Z\n,2024-01-01T00:00:00Z\n");
    project.write("short.csv", "seller_id,at\n1\n");
    project.write("empty.csv", "");
    project.write("text.parquet", "seller_id,at\n");
    let floats = "select cast(1 as double) as seller_id, timestamp '2024-01-01' as at";
    let bytes = project.command(&["sql", floats, "--format", "parquet"]).output().unwrap().stdout;
    std::fs::write(project.path().join("pandas.parquet"), bytes).unwrap();
    let mut table = String::new();
    for args in [
        vec!["frobnicate"],
        vec!["aply"],
        vec!["get"],
        vec!["get", "seller_id=1"],
        vec!["get", "pricng", "seller_id=1"],
        vec!["get", "pricing"],
        vec!["get", "pricing", "seller_id=1", "seller_id=x"],
        vec!["get", "../../etc/passwd", "seller_id=1"],
        vec!["get", "pricing", "seller_id"],
        vec!["get", "pricing", "sellerid=1"],
        vec!["get", "pricing", "seller_id=1.0"],
        vec!["get", "pricing", "seller_id=1e3"],
        vec!["get", "pricing", "seller_id="],
        vec!["get", "pricing", "seller_id=-"],
        vec!["get", "pricing", "seller_id=+1"],
        vec!["get", "pricing", "seller_id=\"1\""],
        vec!["get", "pricing", "seller_id=1,2"],
        vec!["get", "pricing", "seller_id=[1]"],
        vec!["get", "pricing", "seller_id=null"],
        vec!["get", "pricing", "seller_id=true"],
        vec!["get", "pricing", "=1"],
        vec!["get", "pricing", "seller_id=abc"],
        vec!["get", "pricing", "seller_id=9223372036854775808"],
        vec!["get", "pricing", "seller_id=1", "--as-of", "yesterday"],
        vec!["get", "--features", "seller_profile.tiers", "seller_id=1"],
        vec!["get", "--features", "nothing.tier", "seller_id=1"],
        vec!["get", "--features", "", "seller_id=1"],
        vec!["get", "pricing", "seller_id=1"],
        vec!["train"],
        vec!["train", "pricing"],
        vec!["train", "pricing", "--spine", "none.csv"],
        vec!["train", "pricing", "--spine", "data"],
        vec!["train", "pricing", "--spine", "spine.txt"],
        vec!["train", "pricing", "--spine", "bad.csv"],
        vec!["train", "pricing", "--spine", "pandas.csv"],
        vec!["train", "pricing", "--spine", "pandas.parquet"],
        vec!["train", "pricing", "--spine", "short.csv"],
        vec!["train", "pricing", "--spine", "empty.csv"],
        vec!["train", "pricing", "--spine", "-"],
        vec!["train", "pricing", "--spine", "text.parquet"],
        vec!["train", "pricing", "--spine", "spine.csv", "--spine-format", "parquet"],
        vec!["train", "pricing", "--spine", "pandas.parquet", "--spine-format", "csv"],
        vec!["train", "pricing", "--spine", "delete from profiles"],
        vec!["train", "pricing", "--spine", "drop table profiles"],
        vec!["train", "../../etc/passwd", "--spine", "spine.csv"],
        vec!["train", "pricing", "--spine", "notime.csv"],
        vec!["train", "pricing", "--spine", "twotimes.csv"],
        vec!["train", "pricing", "--spine", "nokey.csv"],
        vec!["train", "pricing", "--spine", "clash.csv"],
        vec!["train", "pricing", "--spine", "ints.csv", "--time", "t"],
        vec!["train", "pricing", "--spine", "ints.csv", "--time", "t:weeks"],
        vec!["train", "pricing", "--spine", "nulltime.csv"],
        vec!["train", "pricing", "--spine", "spine.csv", "--time", "when"],
        vec!["train", "pricing", "--spine", "spine.csv", "--out", "train.xlsx"],
        vec!["train", "pricing", "--spine", "spine.csv", "--out", "no/such/folder/train.csv"],
        vec!["train", "pricing", "--spine", "spine.csv", "--question", "guess"],
        vec!["train", "pricing", "--spine", "spine.csv", "--on-null-key", "refuse", "--out", "x.csv"],
        vec!["train", "pricng", "--spine", "spine.csv"],
        vec!["train", "pricing", "--features", "seller_profile.*", "--spine", "spine.csv"],
        vec!["train", "--rebuild", "000000000000"],
        vec!["train", "--rebuild", "x", "--spine", "spine.csv"],
        vec!["train", "pricing", "--spine", "select 1 as seller_id"],
        vec!["sql", "selec 1"],
        vec!["sql", "select * from nothing"],
        vec!["sql", "select teir from profiles"],
        vec!["sql", "drop table profiles"],
        vec!["sql", "create external table x stored as csv location '/etc/passwd'"],
        vec!["sql", "create external table x (a int) stored as anything"],
        vec!["sql", "select 1; select 2"],
        vec!["sql", ""],
        vec!["load", "profiles"],
        vec!["load", "profils"],
        vec!["load", "Profiles"],
        vec!["materialize", "seller_profil"],
        vec!["show", "seller_profil"],
        vec!["show", "nope"],
        vec!["list", "thingies"],
        vec!["search"],
        vec!["explain", "bad_rwo"],
        vec!["backup", "data"],
        vec!["restore", "data"],
        vec!["restore", "none"],
        vec!["list", "--server", "localhost:1"],
        vec!["list", "--server", "http://127.0.0.1:1"],
        vec!["list", "--project", "nowhere"],
        vec!["plan", "--project", "data"],
        vec!["up", "--listen", "nonsense"],
        vec!["up", "--listen", "0.0.0.0:0"],
        vec!["up", "--threads", "0"],
        vec!["up", "--memory", "lots"],
        vec!["up", "--tls-key", "key.pem"],
        vec!["up", "--tls-key", "key.pem", "--tls-certificate", "cert.pem"],
        vec!["demo", "."],
        vec!["demo", "--server", "http://127.0.0.1:1"],
    ] {
        let ended = project.run(&args);
        assert_ne!(ended.code, Some(0), "asof {args:?} went well: {}", ended.out);
        let shown: Vec<String> = args
            .iter()
            .map(
                |arg| {
                    if arg.contains(' ') || arg.is_empty() { format!("{arg:?}") } else { (*arg).to_owned() }
                },
            )
            .collect();
        table.push_str(&format!(
            "asof {}\n    {}\n",
            shown.join(" "),
            told(ended.code.unwrap_or(-1), &ended.err)
        ));
    }
    let root = project.path().canonicalize().unwrap();
    let table = table.replace(root.to_str().unwrap(), "DIR").replace(project.path().to_str().unwrap(), "DIR");
    insta::with_settings!({filters => vec![(r"\b20\d\d-\d\d-\d\dT[\d:]{8}\.\d{6}Z", "NOW")]}, {
        insta::assert_snapshot!(table);
    });
}

#[test]
fn wrong_requests() {
    let project = Project::shop();
    project.well(&["apply", "--yes"]);
    let node = project.up(&[], &[]);
    node.wait_ready();
    let mut table = String::new();
    for (path, body) in [
        ("/v1/features", ""),
        ("/v1/features", "{"),
        ("/v1/features", "[]"),
        ("/v1/features", "{}"),
        ("/v1/features", r#"{"entities": {}}"#),
        ("/v1/features", r#"{"service": "pricing"}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": []}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": []}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": 1}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [1.0]}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [1, 1e0]}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": ["x"]}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [true]}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [{}]}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [9223372036854775808]}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [1], "seller_id": [2]}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [1], "buyer_id": [2]}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seler_id": [1]}}"#),
        ("/v1/features", r#"{"service": "prices", "entities": {"seller_id": [1]}}"#),
        ("/v1/features", r#"{"service": "shop.prices", "entities": {"seller_id": [1]}}"#),
        ("/v1/features", r#"{"service": 7, "entities": {"seller_id": [1]}}"#),
        (
            "/v1/features",
            r#"{"service": "pricing", "features": ["seller_profile.tier"], "entities": {"seller_id": [1]}}"#,
        ),
        ("/v1/features", r#"{"features": [], "entities": {"seller_id": [1]}}"#),
        ("/v1/features", r#"{"features": ["tier"], "entities": {"seller_id": [1]}}"#),
        ("/v1/features", r#"{"features": ["seller_profile.teir"], "entities": {"seller_id": [1]}}"#),
        (
            "/v1/features",
            r#"{"features": ["seller_profile.tier", "seller_profile.tier"], "entities": {"seller_id": [1]}}"#,
        ),
        ("/v1/features", r#"{"service": "pricing", "project": "stop", "entities": {"seller_id": [1]}}"#),
        ("/v1/features", r#"{"service": "pricing", "project": "Shop", "entities": {"seller_id": [1]}}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [1]}, "as_of": "now"}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [1]}, "as_of": 1704067200}"#),
        (
            "/v1/features",
            r#"{"service": "pricing", "entities": {"seller_id": [1]}, "as_of": "2999-01-01T00:00:00Z"}"#,
        ),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [1]}, "include": ["state"]}"#),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [1]}, "ints": "float"}"#),
        (
            "/v1/features",
            r#"{"service": "pricing", "entities": {"seller_id": [1]}, "request": {"price": [1]}}"#,
        ),
        ("/v1/features", r#"{"service": "pricing", "entities": {"seller_id": [1]}, "asof": "2024-01-01"}"#),
        ("/v1/feature", r#"{"service": "pricing"}"#),
        ("/v1/features", r#"{"service": "../../etc/passwd", "entities": {"seller_id": [1]}}"#),
        ("/v1/plan", "[]"),
        ("/v1/sql", r#"["shop", "select 1", "csv"]"#),
        ("/v1/plan", r#"{"files": []}"#),
        ("/v1/plan", r#"{"files": [{"path": "asof.yaml", "text": "project: Shop"}]}"#),
        ("/v1/plan", r#"{"files": [{"path": "asof.yaml"}]}"#),
        ("/v1/apply", r#"{"files": [{"path": "asof.yaml", "text": "project: shop"}]}"#),
        ("/v1/sql", r#"{"project": "shop", "sql": "select"}"#),
        ("/v1/sql", r#"{"project": "shop", "sql": "select 1", "format": "xml"}"#),
        ("/v1/sql", r#"{"project": "nope", "sql": "select 1"}"#),
        ("/v1/sql", r#"{"project": "shop", "sql": "copy profiles to 'x.csv'"}"#),
        (
            "/v1/sql",
            r#"{"project": "shop", "sql": "create external table t stored as csv location '/etc/passwd'"}"#,
        ),
        ("/v1/materialize", r#"{"project": "shop", "views": ["nope"]}"#),
        ("/v1/materialize", r#"{"project": "shop", "views": ["No!"]}"#),
        ("/v1/backup", r#"{"to": "relative"}"#),
        ("/v1/train?project=shop", ""),
        ("/v1/train?project=shop&service=pricing", ""),
        ("/v1/train?project=shop&service=pricing&spine_format=csv", ""),
        ("/v1/train?project=shop&service=pricing&spine_format=xls", "a"),
        ("/v1/train?project=shop&service=pricing&question=both&spine_format=csv", "a"),
        ("/v1/train?service=pricing", "a"),
        ("/v1/train?project=shop&service=pricing&spine=x", "a"),
        ("/v1/training-sets/0000/rebuild", ""),
        ("/v1/load?project=shop&source=profiles", ""),
        ("/v1/load?project=shop&source=nope", "{}"),
        ("/health", ""),
    ] {
        let (status, answer) = node.post(path, body);
        assert!((400..500).contains(&status), "{path} {body}: {status} {answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect(path);
        let error = &answer["error"];
        let hint = error["hint"].as_str().map_or_else(String::new, |hint| format!("\n        hint: {hint}"));
        let mut text = format!(
            "{status} {} {}: {}{hint}",
            error["kind"].as_str().unwrap(),
            error["code"].as_str().unwrap(),
            error["message"].as_str().unwrap()
        );
        for diagnostic in error["diagnostics"].as_array().into_iter().flatten() {
            text.push_str(&format!(
                "\n        {}: {}",
                diagnostic["code"].as_str().unwrap(),
                diagnostic["message"].as_str().unwrap()
            ));
        }
        table.push_str(&format!("POST {path} {body}\n    {text}\n"));
    }
    // One request past the limit, and the connection limit's neighbours.
    let large = format!("{{\"service\": \"{}\"}}", "x".repeat(17 << 20));
    let length = large.len();
    let head = format!(
        "POST /v1/features HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let (status, answer) = node.send(&head);
    table.push_str(&format!("POST /v1/features with {length} bytes\n    {status} {answer}\n"));
    for request in [
        "GET /v1/features HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET /v1/search HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET /v1/search?text= HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET /v1/runs/nope HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET /v1/projects/nope/things HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET /v1/projects/No!/things HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET /v1/projects/shop/things?kind=vew HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET /v1/projects/shop/things/nope HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "POST /v1/features HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        "POST /v1/features HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        let (status, answer) = node.send(request);
        assert!((400..500).contains(&status), "{request}: {status} {answer}");
        table.push_str(&format!("{}\n    {status} {answer}\n", request.lines().next().unwrap()));
    }
    insta::with_settings!({filters => vec![(r"\b20\d\d-\d\d-\d\dT[\d:]{8}\.\d{6}Z", "NOW")]}, {
        insta::assert_snapshot!(table);
    });
}
