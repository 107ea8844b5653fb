//! Definitions that are right: the design's, the examples', and the way back to YAML.

use asof_model::{
    Aggregate, Catalog, Definition, Features, Format, History, Length, Literal, Place, Project, ProjectFile,
    ThingKind, TimeRule, TimeUnit, Timestamp, Window, has_errors, render, to_yaml,
};

use crate::shop::{apply, file, name, shop};

fn read(files: &[ProjectFile]) -> Project {
    let (project, found) = Project::read(files);
    assert!(found.is_empty(), "{}", render(&found, files, false));
    project.unwrap()
}

/// Every way to write a thing.
const MANY_WAYS: &str = r#"
source: listing_events
path: data/listings/*.parquet
event_time: posted_at
available_at: loaded_at
---
source: events_csv
path: data/events/
format: csv
options: {delimiter: ";", header: true, "null": NA}
store: true
event_time: {column: ts, unit: ms}
available_at: {column: "Loaded At", zone: America/New_York}
valid_until: to_timestamp(until)
order_by: coalesce(version, 0)
delete_when: op = 'd'
null_keys: refuse
schema:
  ts: int64
  "Loaded At": timestamp
  price: decimal(10,2)
  tags: list<string>
  where: "struct<lat: float64, lon: float64>"
description: >
  A long
  story.
owner: marketplace-data
tags: [a, "b c"]
---
source: both
sql: |
  -- the good ones
  with good as (select * from listing_events where ok)
  select * from good join events_csv on true
event_time: '"posted_at"'
---
source: clicks
push: true
event_time: at
past: {path: archive/*.csv, options: {header: true}, until: 2024-06-01T12:00:00Z}
schema: {at: timestamp, user: string}
---
source: orders
push: true
event_time: {column: at, unit: ms}
id: order_id || '-' || line
order_by: line
delete_when: cancelled
schema: {at: int64, order_id: string, line: int64, cancelled: bool, price: float64, "Seller": int64}
---
source: views
push: true
event_time: at
past: views/
schema: {at: timestamp}
---
source: corrected
path: corrected.parquet
event_time: at
available_at: loaded_at
id: '"Event"'
---
view: seller_orders
entity: seller
source: orders
keys: {seller_id: Seller}
features:
  n: {agg: count(*), windows: [1d]}
---
view: seller_listed
entity: shop.seller
source: listing_events
features: [tier, display_name]
history: all
retention: 30d
ttl: 2w
---
view: seller_quoted
entity: seller
source: listing_events
where: |
  status <> 'spam'   -- a comment
  and price > 0
history: 30d
features:
  true_word: true
  number: 1
  quoted: "coalesce(a, 'x: #')"
  block: |
    case when a then 1
         else 0 end
  full: {expr: '"Product Title"', sensitivity: pii, owner: me, description: The title., tags: [text]}
---
view: seller_activity
entity: seller
source: listing_events
where: status <> 'spam'
windows: [1h, 1d, 7d, 30d]
resolution: 1m
retention: 400d
features:
  listings: {agg: count(*)}
  price_mean: {agg: mean(price), windows: [7d, 30d], default: 0}
  phones: {agg: count(*) filter (where category = 'phones'), windows: [7d, {length: 7d, offset: 7d, as: before}]}
  last_prices: {agg: "last_n(price, 10)", windows: [{length: 30d, include_now: true, resolution: none}]}
  users:
    agg: |
      COUNT(DISTINCT "User")
    windows: [{length: 24h, resolution: 1h, offset: 30m}]
    default: -1
    sensitivity: pii
    owner: me
---
view: seller_ever
entity: seller
source: listing_events
windows: [all]
include_now: true
history: all
features:
  first_price: {agg: first(price), default: 0.5}
  word: {agg: last(word), default: "0"}
  flag: {agg: last(flag), windows: [all, {length: all, offset: 1d, include_now: false}], default: true}
---
view: seller_defaults
entity: seller
source: listing_events
features:
  tier: {expr: tier, default: none at all}
  rate: {expr: rate, default: 1e-9}
---
derived: listing_price
request: {price: float64, loc: "struct<lat: float64>"}
features:
  price_vs_usual: "price / nullif(seller_activity.price_mean_30d, 0)"
  hour: {expr: extract(hour from request_time), sensitivity: public, owner: me}
  both: listing_price.price_vs_usual + shop.listing_price.hour + loc['lat']
owner: me
---
derived: later
features:
  rest: listing_price.both - seller_activity.listings_1h
---
service: learnt
features:
  - later.*
  - {from: listing_price, keys: {seller_id: buyer_id}, as: buyer}
labels:
  - {from: seller_activity.listings_7d, after: 7d}
  - {from: shop.seller_listed.tier, after: 30d, keys: {seller_id: buyer_id}, as: buyer_tier_after}
---
service: model
full_names: true
features:
  - seller_listed.*
  - shop.seller_quoted.number
  - {from: seller_quoted.full, as: title}
  - {from: seller_listed, keys: {seller_id: buyer_id}, as: buyer}
description: all of it
"#;

#[test]
fn every_way_to_write_a_thing_is_read() {
    let project = read(&shop(MANY_WAYS));
    let Definition::Source(source) = &project.find(ThingKind::Source, "events_csv").unwrap().value else {
        panic!()
    };
    assert_eq!(
        source.event_time,
        Some(TimeRule::Column { name: "ts".into(), unit: Some(TimeUnit::Ms), zone: None })
    );
    assert_eq!(
        source.available_at,
        Some(TimeRule::Column {
            name: "Loaded At".into(),
            unit: None,
            zone: Some("America/New_York".into())
        })
    );
    assert!(
        matches!(&source.valid_until, Some(TimeRule::Expression(it)) if it.text == "to_timestamp(until)")
    );
    assert!(source.store);
    assert_eq!(source.schema.len(), 5);
    assert_eq!(source.about.description.as_deref(), Some("A long story."));
    let Place::Files { options, .. } = &source.place else { panic!() };
    assert_eq!(options["delimiter"], ";");

    let source = |name: &str| match &project.find(ThingKind::Source, name).unwrap().value {
        Definition::Source(source) => source.clone(),
        _ => panic!(),
    };
    let Place::Push { past: Some(past) } = source("clicks").place else { panic!() };
    assert_eq!((past.path.as_str(), past.format, past.options.len()), ("archive/*.csv", Format::Csv, 1));
    assert_eq!(past.until, Timestamp::parse("2024-06-01T12:00:00Z").ok());
    let Place::Push { past: Some(past) } = source("views").place else { panic!() };
    assert_eq!((past.path.as_str(), past.format, past.until), ("views/", Format::Delta, None));
    let orders = source("orders");
    assert_eq!(orders.place, Place::Push { past: None });
    assert!(orders.is_stored() && !orders.store && !source("corrected").is_stored());
    assert_eq!(orders.id.unwrap().columns().into_iter().collect::<Vec<_>>(), ["line", "order_id"]);

    let Definition::Source(both) = &project.find(ThingKind::Source, "both").unwrap().value else { panic!() };
    assert_eq!(
        both.reads().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["listing_events", "events_csv"]
    );
    assert_eq!(both.event_time, Some(TimeRule::Column { name: "posted_at".into(), unit: None, zone: None }));

    let Definition::View(view) = &project.find(ThingKind::View, "seller_quoted").unwrap().value else {
        panic!()
    };
    let Features::Named(features) = &view.features else { panic!() };
    assert_eq!(
        features.iter().map(|it| it.expression.canonical()).collect::<Vec<_>>(),
        ["true", "1", "coalesce(a, 'x: #')", "CASE WHEN a THEN 1 ELSE 0 END", "\"Product Title\""]
    );
    assert!(matches!(view.history, History::Length(length) if length.to_string() == "30d"));

    let windows = |view: &str| {
        let Definition::View(view) = &project.find(ThingKind::View, view).unwrap().value else { panic!() };
        assert!(view.is_window());
        view.expanded().unwrap()
    };
    let activity = windows("seller_activity");
    assert_eq!(
        activity.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        [
            "listings_1h",
            "listings_1d",
            "listings_7d",
            "listings_30d",
            "price_mean_7d",
            "price_mean_30d",
            "phones_7d",
            "phones_before",
            "last_prices_30d",
            "users_1d_offset_30m",
        ]
    );
    let one = |feature: &asof_model::Feature| match feature.aggregate.as_ref().unwrap() {
        Aggregate { windows, .. } if windows.len() == 1 => windows[0].window,
        other => panic!("{other:?}"),
    };
    let length = |text: &str| Length::parse(text).unwrap();
    let minute = Some(length("1m"));
    assert_eq!(
        one(&activity[7]),
        Window { length: Some(length("7d")), offset: length("7d"), include_now: false, resolution: minute }
    );
    assert_eq!(one(&activity[7]).reach(), Some(length("20161m")));
    assert_eq!(one(&activity[8]).resolution, None);
    assert!(one(&activity[8]).include_now);
    assert_eq!(one(&activity[9]).resolution, Some(length("1h")));
    assert_eq!(activity[9].default, Some(Literal::Int(-1)));
    let call = &activity[9].aggregate.as_ref().unwrap().call;
    assert_eq!(
        (call.function.as_str(), call.canonical().as_str()),
        ("count_distinct", "count_distinct(\"User\")")
    );
    let call = &activity[8].aggregate.as_ref().unwrap().call;
    assert_eq!(
        (call.argument.as_ref().unwrap().text.as_str(), call.parameters.as_slice()),
        ("price", [Literal::Int(10)].as_slice())
    );
    let ever = windows("seller_ever");
    assert_eq!(
        ever.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        ["first_price_all", "word_all", "flag_all", "flag_all_offset_1d"]
    );
    assert_eq!(ever[1].default, Some(Literal::Text("0".into())));
    assert_eq!(ever.iter().map(|it| one(it).include_now).collect::<Vec<_>>(), [true, true, true, false]);
    assert!(ever.iter().all(|it| one(it).reach().is_none()));

    let Definition::Service(service) = &project.find(ThingKind::Service, "model").unwrap().value else {
        panic!()
    };
    assert_eq!(service.features[3].keys[&name("seller_id")], name("buyer_id"));
    assert_eq!(service.features[3].feature, None);
}

#[test]
fn yaml_written_is_the_definition_read() {
    let project = read(&shop(MANY_WAYS));
    let written: String =
        project.definitions.iter().map(|it| format!("---\n{}", to_yaml(&it.value))).collect();
    let files = [file("asof.yaml", "project: shop"), file("features/all.yaml", &written)];
    let again = read(&files);
    assert_eq!(again.definitions.len(), project.definitions.len());
    for (first, second) in project.definitions.iter().zip(&again.definitions) {
        assert_eq!(first.value, second.value, "{}", to_yaml(&first.value));
    }
}

#[test]
fn places_are_found_for_whoever_types_expressions_later() {
    let files = shop(MANY_WAYS);
    let project = read(&files);
    let view = project.find(ThingKind::View, "seller_quoted").unwrap();
    let at = |needle: &str| {
        let text = &files[2].text;
        let offset = text.find(needle).unwrap();
        let line = text[..offset].matches('\n').count() + 1;
        (line, offset - text[..offset].rfind('\n').unwrap())
    };
    let place = |span: asof_model::Span| (span.line, span.column);
    let Definition::View(it) = &view.value else { panic!() };
    let filter = &it.filter.as_ref().unwrap().text;
    let price = filter.find("price").unwrap();
    assert_eq!(place(view.inside(&["where"], price..price + 5)), at("price > 0"));
    assert_eq!(place(view.feature(&name("full"), Some(0..15))), at("'\"Product Title\"'").map_column(1));
    assert_eq!(place(view.feature(&name("block"), None)), at("block: |"));
    assert_eq!(place(view.at(&["history"])), at("30d\nfeatures").map_column(0));
    assert_eq!(place(view.key(&["history"])), at("history: 30d"));
    let listed = project.find(ThingKind::View, "seller_listed").unwrap();
    assert_eq!(place(listed.feature(&name("display_name"), None)), at("display_name]"));
    let windows = project.find(ThingKind::View, "seller_activity").unwrap();
    assert_eq!(place(windows.feature(&name("phones_before"), Some(0..5))), at("count(*) filter"));
    assert_eq!(place(windows.feature(&name("last_prices_30d"), Some(7..12))), at("price, 10"));
    assert_eq!(place(windows.feature(&name("users_1d_offset_30m"), None)), at("users:"));
    assert_eq!(place(windows.feature_key(&name("users_1d_offset_30m"), "default")), at("-1\n"));
    let source = project.find(ThingKind::Source, "events_csv").unwrap();
    assert_eq!(place(source.inside(&["available_at"], 0..9)).0, at("available_at: {column").0);
}

trait MapColumn {
    fn map_column(self, by: usize) -> (usize, usize);
}

impl MapColumn for (usize, usize) {
    fn map_column(self, by: usize) -> (usize, usize) {
        (self.0, self.1 + by)
    }
}

#[test]
fn the_examples_of_the_repository_are_read() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut seen = 0;
    for folder in std::fs::read_dir(root).unwrap() {
        let folder = folder.unwrap().path();
        if !folder.join("asof.yaml").exists() {
            continue;
        }
        let mut files = vec![file("asof.yaml", &std::fs::read_to_string(folder.join("asof.yaml")).unwrap())];
        for entry in std::fs::read_dir(folder.join("features")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            files.push(file(&format!("features/{}", path.file_name().unwrap().to_string_lossy()), &text));
        }
        read(&files);
        seen += 1;
    }
    assert!(seen >= 2);
}

#[test]
fn versions_ordered_by_event_time_are_warned_of() {
    let warned = |more: &str| {
        let (_, found) = apply(&shop(more), &Catalog::default());
        assert!(!has_errors(&found), "{found:?}");
        found.into_iter().map(|it| it.code).collect::<Vec<_>>()
    };
    let source = "source: s\npath: s.parquet\nevent_time: t\nid: n\nschema: {id: int64, n: int64}\n";
    assert_eq!(warned(source), ["versions_by_event_time"]);
    assert!(warned(&format!("{source}available_at: loaded\n")).is_empty());
    assert!(warned(&format!("{source}store: true\n")).is_empty());
    assert!(warned(&source.replace("path: s.parquet", "push: true")).is_empty());
}

#[test]
fn warnings_do_not_stop_an_apply() {
    let more = "source: s\npath: s.parquet\nevent_time: none\norder_by: n\nschema: {id: int64}\n";
    let (versions, found) = apply(&shop(more), &Catalog::default());
    assert_eq!(found.iter().map(|it| it.code.as_str()).collect::<Vec<_>>(), ["unused_key"]);
    assert!(!has_errors(&found) && versions.len() == 8);
}
