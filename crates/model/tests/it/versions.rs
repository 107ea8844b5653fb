//! Versions: what changes their name and what does not, how changes are shown, what is stored.

use std::collections::BTreeMap;

use asof_model::{Action, Catalog, Change, Explain, ThingKind, Version, VersionId, diff, without_owner};

use crate::shop::{CONFIG, FEATURES, applied, apply, file, name};

fn versions(features: &str) -> Vec<Version> {
    let files = [file("asof.yaml", CONFIG), file("features/shop.yaml", features)];
    let (versions, found) = apply(&files, &Catalog::default());
    assert!(found.is_empty(), "{found:#?}");
    versions
}

fn ids(features: &str) -> BTreeMap<String, VersionId> {
    versions(features)
        .iter()
        .map(|it| (format!("{} {}", it.kind(), it.address().name), it.id().clone()))
        .collect()
}

/// What of the shop gets another name when a text in it is replaced.
fn renamed(from: &str, to: &str) -> Vec<String> {
    assert!(FEATURES.contains(from), "{from}");
    let (old, new) = (ids(FEATURES), ids(&FEATURES.replace(from, to)));
    old.into_iter().filter(|(thing, id)| new.get(thing) != Some(id)).map(|(thing, _)| thing).collect()
}

#[test]
fn how_a_thing_is_written_changes_no_version() {
    for (from, to) in [
        ("tier: tier", "tier:   \"tier\"   # the tier"),
        ("tier: tier", "tier: '\"tier\"'"),
        ("tier: tier", "tier: {expr: tier, description: How good., owner: me, tags: [a]}"),
        ("char_length(display_name)", "CHAR_LENGTH( display_name )"),
        ("char_length(display_name)", "|\n    char_length(\n      display_name -- its name\n    )"),
        ("ttl: 90d", "ttl: 2160h"),
        ("refresh: 1h", "refresh: 5m"),
        ("refresh: 1h\n", ""),
        ("owner: marketplace-data", "owner: someone-else\ndescription: New.\ntags: [x]"),
        ("entity: seller\nsource: sellers", "source: shop.sellers\nentity: shop.seller"),
        ("path: data/sellers.parquet", "path: data/sellers.parquet\nformat: parquet"),
        ("event_time: updated_at", "event_time: {column: updated_at, zone: UTC}"),
        ("seller_profile.tier\n", "shop.seller_profile.tier\n"),
    ] {
        let expected: Vec<String> = if to.starts_with("shop.seller_profile") {
            vec!["service category_model".into()]
        } else {
            Vec::new()
        };
        let found = renamed(from, to);
        // How a service names a view of its own project is its own text, and harmless.
        assert!(found.is_empty() || found == expected, "{from} -> {to}: {found:?}");
    }
}

#[test]
fn what_decides_a_value_changes_the_version_and_what_stands_on_it() {
    let (seller, sellers, view, service) =
        ("entity seller", "source sellers", "view seller_profile", "service category_model");
    for (from, to, expected) in [
        ("seller_id: int64", "seller_id: int32", vec![seller, service, view]),
        ("data/sellers.parquet", "data/other.parquet", vec![service, sellers, view]),
        ("Rating: float64", "Rating: float32", vec![service, sellers, view]),
        (
            "event_time: updated_at",
            "event_time: updated_at\navailable_at: updated_at",
            vec![service, sellers, view],
        ),
        ("ttl: 90d", "ttl: 91d", vec![service, view]),
        ("ttl: 90d", "ttl: 90d\nhistory: all", vec![service, view]),
        ("ttl: 90d", "ttl: 90d\nwhere: tier = 'a'", vec![service, view]),
        ("tier: tier", "tier: upper(tier)", vec![service, view]),
        ("sensitivity: pii", "sensitivity: secret", vec![service, view]),
        ("as: buyer", "as: bought_by", vec![service]),
        ("service: category_model", "service: category_model\nfull_names: true", vec![service]),
    ] {
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        expected.sort();
        assert_eq!(renamed(from, to), expected, "{from} -> {to}");
    }
}

const PUSHED: &str = "
---
source: clicks
push: true
event_time: at
schema: {at: timestamp, click: string}
past: {path: old/*.parquet, until: 2024-01-01}
---
source: orders
push: true
event_time: at
id: \"\\\"order\\\" || line\"
delete_when: gone
schema: {at: timestamp, order: string, line: string, gone: bool}
";

#[test]
fn a_pushed_source_is_its_past_and_its_id() {
    let id = |source: &str, from: &str, to: &str| {
        assert!(PUSHED.contains(from), "{from}");
        ids(&format!("{FEATURES}{}", PUSHED.replace(from, to)))[source].clone()
    };
    for (source, from, to, same) in [
        (
            "source clicks",
            "{path: old/*.parquet, until: 2024-01-01}",
            "{until: 2024-01-01T00:00:00Z, format: parquet, path: old/*.parquet}",
            true,
        ),
        ("source clicks", "until: 2024-01-01", "until: 2024-01-02", false),
        ("source clicks", ", until: 2024-01-01", "", false),
        ("source clicks", "old/", "older/", false),
        ("source clicks", "past: {path: old/*.parquet, until: 2024-01-01}\n", "", false),
        (
            "source clicks",
            "push: true\nevent_time: at\nschema: {at: timestamp, click: string}\npast: {path: old/*.parquet, until: 2024-01-01}",
            "path: old/*.parquet\nstore: true\nevent_time: at\nschema: {at: timestamp, click: string}",
            false,
        ),
        ("source orders", "|| line", "||  line", true),
        ("source orders", "|| line", "|| gone", false),
        ("source orders", "id: \"\\\"order\\\" || line\"\n", "", false),
    ] {
        assert_eq!(id(source, "push", "push") == id(source, from, to), same, "{from} -> {to}");
    }
}

const LEARNT: &str = "
---
derived: price
request: {price: float64}
features:
  usual: price / activity.n_1d
  hour: {expr: extract(hour from request_time), sensitivity: public}
  both: price.usual + price.hour
---
service: learnt
features:
  - price.both
  - {from: price.usual, keys: {seller_id: buyer_id}, as: buyer_usual}
labels:
  - {from: activity.best_all, after: 7d, as: best_in_a_week}
";

#[test]
fn derived_features_are_what_they_compute_and_stand_on() {
    let id = |thing: &str, from: &str, to: &str| {
        let all = format!("{FEATURES}{ACTIVITY}{LEARNT}");
        assert!(all.contains(from), "{from}");
        ids(&all.replace(from, to))[thing].clone()
    };
    let (derived, service) = ("derived price", "service learnt");
    for (from, to, same) in [
        ("price / activity.n_1d", "price/activity.n_1d -- why", [true, true]),
        ("sensitivity: public}", "sensitivity: public, owner: me}", [true, true]),
        ("price.usual + price.hour", "price.hour + price.usual", [false, false]),
        ("{price: float64}", "{price: float32}", [false, false]),
        ("sensitivity: public", "sensitivity: pii", [false, false]),
        ("count(*)", "count(tier)", [false, false]),
        ("after: 7d", "after: 8d", [true, false]),
        ("as: best_in_a_week", "as: best_later", [true, false]),
        ("keys: {seller_id: buyer_id}", "keys: {seller_id: bought_by}", [true, false]),
    ] {
        for (thing, same) in [(derived, same[0]), (service, same[1])] {
            assert_eq!(id(thing, "x", "x") == id(thing, from, to), same, "{thing}: {from} -> {to}");
        }
    }
}

const ACTIVITY: &str = "
---
view: activity
entity: seller
source: sellers
keys: {seller_id: id}
where: tier <> 'x'
windows: [1d, {length: 7d, offset: 7d, as: before}]
features:
  n: {agg: count(*) filter (where tier = 'a')}
  top: {agg: \"last_n(email, 3)\", windows: [30d], default: none}
  best: {agg: max(Rating), windows: [all], default: 0.5, sensitivity: pii}
";

/// The version of a view with windows, written so.
fn activity(from: &str, to: &str) -> VersionId {
    assert!(ACTIVITY.contains(from), "{from}");
    ids(&format!("{FEATURES}{}", ACTIVITY.replace(from, to)))["view activity"].clone()
}

#[test]
fn an_aggregate_is_its_call_and_its_windows() {
    let as_is = activity("1d", "1d");
    for (from, to) in [
        ("count(*) filter (where tier = 'a')", "COUNT( * )  FILTER (where \"tier\"='a')"),
        ("\"last_n(email, 3)\"", "\"LAST_N( email,3 )\""),
        ("1d,", "24h,"),
        ("1d,", "{length: 1d, include_now: false},"),
        ("windows: [1d", "include_now: false\nwindows: [1d"),
        ("default: none", "default: \"none\""),
        ("default: none", "default: none, owner: me"),
    ] {
        assert_eq!(activity(from, to), as_is, "{from} -> {to}");
    }
    let mut seen = vec![as_is];
    for (from, to) in [
        ("count(*)", "count(tier)"),
        ("tier = 'a'", "tier = 'b'"),
        ("1d,", "2d,"),
        ("1d,", "{length: 1d, include_now: true},"),
        ("1d,", "{length: 1d, resolution: 1h},"),
        ("windows: [1d", "resolution: 1h\nwindows: [1d"),
        ("offset: 7d", "offset: 8d"),
        ("as: before", "as: earlier"),
        ("email, 3", "email, 4"),
        ("[30d]", "[30d, all]"),
        ("default: none", "default: nothing"),
        (", default: none", ""),
    ] {
        let id = activity(from, to);
        assert!(!seen.contains(&id), "{from} -> {to}");
        seen.push(id);
    }
}

#[test]
fn the_same_definition_in_two_projects_is_two_versions() {
    let other = [file("asof.yaml", "project: market\n"), file("features/shop.yaml", FEATURES)];
    let market = apply(&other, &Catalog::default()).0;
    for (here, there) in versions(FEATURES).iter().zip(&market) {
        assert_ne!(here.id(), there.id());
    }
}

#[test]
fn a_query_stands_on_the_versions_it_reads() {
    let query = "\n---\nsource: good\nsql: select * from sellers where tier = 'a'\nevent_time: updated_at\nschema: {id: int64}\n";
    let old = ids(&format!("{FEATURES}{query}"));
    let spaced = ids(&format!("{FEATURES}{}", query.replace("select * from", "SELECT  *  FROM")));
    let moved = ids(&format!("{}{query}", FEATURES.replace("data/sellers", "data/other")));
    assert_eq!(old["source good"], spaced["source good"]);
    assert_ne!(old["source good"], moved["source good"]);
}

/// A change of these names would make every stored version a stranger: they stay.
#[test]
fn the_names_of_versions_stay() {
    let found: Vec<String> = ids(FEATURES).into_iter().map(|(thing, id)| format!("{thing} {id}")).collect();
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("version_ids", found.join("\n"));
    });
}

#[test]
fn stored_versions_load_forever() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat");
    let current = versions(&format!("{FEATURES}{ACTIVITY}{PUSHED}{LEARNT}"));
    for (format, kind, at) in [
        (1, ThingKind::Entity, "seller"),
        (1, ThingKind::Source, "sellers"),
        (1, ThingKind::View, "seller_profile"),
        (1, ThingKind::Service, "category_model"),
        (2, ThingKind::View, "activity"),
        (2, ThingKind::Source, "orders"),
        (2, ThingKind::Derived, "price"),
        (2, ThingKind::Service, "learnt"),
    ] {
        let file = format!("definition-{format}-{kind}.json");
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let loaded = Version::from_json(text.trim()).unwrap();
        let made = current.iter().find(|it| it.kind() == kind && it.address().name.as_str() == at).unwrap();
        assert_eq!(loaded.id(), made.id());
        assert_eq!(loaded.definition(), made.definition());
        // Nothing is written in a newer format than it was, and no byte of it otherwise.
        assert_eq!(made.to_json(), text.trim());
        assert_eq!(Version::from_json(&loaded.to_json()).unwrap(), loaded);
    }
}

#[test]
fn stored_versions_of_a_newer_or_broken_kind_are_refused() {
    for (text, code) in [
        ("{\"format\":3,\"kind\":\"entity\"}", "stored_version_format"),
        ("{\"kind\":\"entity\"}", "stored_version_broken"),
        ("{\"format\":1,\"kind\":\"table\"}", "stored_version_broken"),
        ("nonsense", "stored_version_broken"),
    ] {
        assert_eq!(Version::from_json(text).unwrap_err().code(), code);
    }
}

#[test]
fn a_later_version_may_say_more() {
    for version in versions(&format!("{FEATURES}{ACTIVITY}{PUSHED}{LEARNT}")) {
        let text = version.to_json().replacen('{', "{\"said_later\":true,", 1);
        assert_eq!(Version::from_json(&text).unwrap(), version);
    }
}

fn changes(from: &str, to: &str) -> Vec<Change> {
    let files = [file("asof.yaml", CONFIG), file("features/shop.yaml", FEATURES)];
    let catalog = applied(&files, &Catalog::default());
    diff(&catalog.projects[&name("shop")], &versions(&FEATURES.replace(from, to)))
}

fn shown(changes: &[Change]) -> String {
    changes
        .iter()
        .map(|it| {
            let mut lines = vec![format!("{} {} {}", it.action.name(), it.kind, it.name)];
            lines.extend(it.lines.iter().map(|line| format!("  {line}")));
            lines.extend(it.invalidates.iter().map(|thing| format!("  invalidates {thing}")));
            lines.join("\n")
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn changes_are_shown() {
    let removed = FEATURES.find("---\nservice").unwrap();
    let all = [
        ("a feature changes", shown(&changes("tier: tier", "tier: upper(tier)"))),
        ("a column appears under a star", shown(&changes("people: int64", "people: int64, area: float64"))),
        ("an owner is named", shown(&changes("refresh: 1h", "refresh: 1h\nowner: me"))),
        ("a service goes", shown(&changes(&FEATURES[removed..], ""))),
        ("only spacing", shown(&changes("char_length(display_name)", "char_length( display_name )  # x"))),
        ("nothing", shown(&changes("tier: tier", "tier: tier"))),
        (
            "a window is new",
            shown(&diff(
                &applied(
                    &[
                        file("asof.yaml", CONFIG),
                        file("features/shop.yaml", &format!("{FEATURES}{ACTIVITY}")),
                    ],
                    &Catalog::default(),
                )
                .projects[&name("shop")],
                &versions(&format!("{FEATURES}{}", ACTIVITY.replace("[30d]", "[30d, all]"))),
            )),
        ),
        ("all is new", shown(&diff(&Default::default(), &versions(FEATURES)))),
    ];
    let text: String = all.iter().map(|(what, shown)| format!("### {what}\n{shown}\n\n")).collect();
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("changes", text);
    });
}

#[test]
fn an_owner_is_described_and_not_changed() {
    let found = changes("refresh: 1h", "refresh: 2h\nowner: me");
    assert_eq!(found.iter().map(|it| it.action).collect::<Vec<_>>(), [Action::Described]);
}

#[test]
fn features_without_owner_are_listed() {
    let all = without_owner(&versions(FEATURES));
    assert_eq!(
        all,
        ["seller_profile.tier", "seller_profile.name_length", "seller_profile.email", "place_facts.people"]
    );
    let owned = FEATURES
        .replace("email: {expr: email,", "email: {expr: email, owner: me,")
        .replace("source: places\nfeatures", "source: places\nowner: me\nfeatures");
    assert_eq!(without_owner(&versions(&owned)), ["seller_profile.tier", "seller_profile.name_length"]);
}

#[test]
#[ignore = "writes the files of a new format once; those of an old one are never written again"]
fn write_compat_files() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat");
    for (format, version) in
        versions(&format!("{FEATURES}{ACTIVITY}{PUSHED}{LEARNT}")).iter().map(|it| (2, it))
    {
        let name = version.address().name.as_str();
        if ["price", "learnt"].contains(&name) {
            let path = folder.join(format!("definition-{format}-{}.json", version.kind()));
            assert!(!path.exists(), "{} is there", path.display());
            std::fs::write(path, version.to_json() + "\n").unwrap();
        }
    }
}
