//! Two projects of one node, of which one stands on the other.

use crate::project::Project;

const MARKET: &str = "\
entity: seller
keys: {seller_id: int64}
---
source: profiles
path: data/profiles.csv
event_time: updated_at
";

const ROWS: &str = "\
seller_id,updated_at,loaded_at,tier
1,2024-01-01T00:00:00Z,2024-01-01T00:00:00Z,basic
1,2024-02-01T00:00:00Z,2024-06-01T00:00:00Z,gold
2,2024-01-15T00:00:00Z,2024-01-15T00:00:00Z,basic
";

const SPINE: &str = "seller_id,at\n1,2024-03-01T00:00:00Z\n2,2024-03-01T00:00:00Z\n";

/// A folder with the projects `market` and `shop`, one data directory, and `shop`'s own definitions.
fn both(shop: &str) -> Project {
    let project = Project::empty();
    project.write("market/asof.yaml", "project: market\n");
    project.write("market/features/a.yaml", MARKET);
    project.write("market/data/profiles.csv", ROWS);
    project.write("asof.yaml", "project: shop\n");
    project.write("features/shop.yaml", shop);
    project.write("spine.csv", SPINE);
    project.well(&["apply", "--yes", "--project", "market", "--data-dir", ".asof"]);
    project
}

/// What a source of another project is to `shop`: the source of a view, or read by a query in two ways.
const SHOPS: [&str; 3] = [
    "entity: seller\nkeys: {seller_id: int64}\n---\nview: v\nentity: seller\nsource: market.profiles\nfeatures: {tier: tier}\n",
    "entity: seller\nkeys: {seller_id: int64}\n---\nsource: q\nsql: select * from market.profiles\nevent_time: updated_at\n---\n\
     view: v\nentity: seller\nsource: q\nfeatures: {tier: tier}\n",
    "entity: seller\nkeys: {seller_id: int64}\n---\nsource: p\nsql: select * from market.profiles\nevent_time: none\n---\n\
     source: q\nsql: select shop.p.* from shop.p\nevent_time: updated_at\n---\n\
     view: v\nentity: seller\nsource: q\nfeatures: {tier: tier}\n",
];

#[test]
fn a_source_of_another_project_is_read_in_the_version_agreed_or_refused() {
    for shop in SHOPS {
        let project = both(shop);
        project.well(&["apply", "--yes"]);
        let views = project.json(&["list", "views"]);
        assert_eq!(views.len(), 1, "{shop}");
        project.well(&["materialize"]);
        let train = ["train", "--features", "v.*", "--spine", "spine.csv", "--out", "out.csv"];
        project.well(&train);
        let tiers = |text: &str| {
            text.lines().skip(1).map(|it| it.rsplit(',').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(tiers(&project.read("out.csv")), ["gold", "basic"], "{shop}");
        let set = project.json(&["list", "training-sets"])[0]["id"].as_str().unwrap().to_owned();
        project.well(&["train", "--rebuild", &set, "--out", "again.csv"]);
        assert_eq!(project.read("again.csv"), project.read("out.csv"));

        // The owner learns of the reader, and the reader is refused until it is applied again.
        let known =
            MARKET.replace("event_time: updated_at\n", "event_time: updated_at\navailable_at: loaded_at\n");
        project.write("market/features/a.yaml", &known);
        let of_market = ["--project", "market", "--data-dir", ".asof"];
        let planned = project.run(&[&["plan"], &of_market[..]].concat());
        let (told, user) = (
            planned.out + &planned.err,
            if shop == SHOPS[0] { "view `shop.v` stands on it" } else { "reads it" },
        );
        assert!(told.contains("source `profiles` changes") && told.contains(user), "{told}");
        project.well(&[&["apply", "--yes"], &of_market[..]].concat());
        for args in [
            &train[..],
            &["materialize"],
            &["get", "--features", "v.*", "seller_id=1"],
            &["sql", "select * from v"],
        ] {
            let refused = project.run(args);
            assert_eq!(refused.code, Some(4), "{args:?} {shop}: {}{}", refused.out, refused.err);
            assert!(refused.err.contains("run `asof apply`"), "{args:?}: {}", refused.err);
        }
        // Status tells it, and goes on telling the rest.
        let status = project.json(&["status"]);
        assert!(
            status[0].to_string().contains("stands on") || status[0].to_string().contains("was applied with"),
            "{status:?}"
        );

        project.well(&["apply", "--yes"]);
        project.well(&["materialize"]);
        project.well(&train);
        // A query takes the rows of the other source and none of its time rules.
        let then = if shop == SHOPS[0] { "basic" } else { "gold" };
        assert_eq!(tiers(&project.read("out.csv")), [then, "basic"], "{shop}");
        let got = project.json(&["get", "--features", "v.*", "seller_id=1"]);
        assert_eq!(got[0]["columns"][0]["values"][0], "gold", "{shop}");
    }
}

/// No definition is ever lost in silence.
#[test]
fn a_query_that_cannot_be_resolved_is_told() {
    let around = |from: &str| {
        format!(
            "entity: seller\nkeys: {{seller_id: int64}}\n---\nsource: q\nsql: select * from {from}\nevent_time: updated_at\n---\n\
             view: v\nentity: seller\nsource: q\nfeatures: {{tier: tier}}\n---\nservice: s\nfeatures: [v.*]\n"
        )
    };
    for (from, code, text) in [
        ("market.profile", "source_not_found", "market.profile"),
        ("markt.profiles", "project_not_found", "markt"),
        ("shop.profiles", "source_not_found", "profiles"),
        ("q", "source_cycle", "q"),
        ("shop.q", "source_cycle", "q"),
        ("asof.market.profiles", "source_not_found", "asof.market.profiles"),
        ("market.\"Profiles\"", "source_not_found", "Profiles"),
    ] {
        let project = both(&around(from));
        let refused = project.run(&["apply", "--yes", "--json"]);
        assert_eq!(refused.code, Some(1), "{from}: {}{}", refused.out, refused.err);
        let told = refused.out + &refused.err;
        assert!(told.contains(&format!("\"{code}\"")) && told.contains(text), "{from}: {told}");
        assert!(!told.contains("passed over"), "{from}: {told}");
    }
}
