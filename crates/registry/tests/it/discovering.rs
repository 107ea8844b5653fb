//! List, show and search.

use asof_model::{
    Catalog, Column, DataType, Explain, Principal, Project, ProjectFile, Revision, ThingKind, TypedProject,
    resolve,
};
use asof_registry::{list, masked, search, show};

use crate::fixture::{about, apply, at, entity, name, open, shop, view};

fn catalog() -> Catalog {
    let mut versions = shop();
    versions.push(entity("shop", "prices", about("", "Shares the view's name", &[])));
    let clicks = view(at("ads", "clicks"), &versions[0], &versions[1], &["clicks_total", "price_mean"]);
    versions.push(clicks);
    Catalog::from_versions(Revision(3), Default::default(), versions)
}

#[test]
fn things_are_listed() {
    let catalog = catalog();
    let told = |project: Option<&str>, kind| -> Vec<String> {
        list(&catalog, project.map(name).as_ref(), kind)
            .into_iter()
            .map(|it| format!("{} {}.{} {}", it.kind, it.project, it.name, it.columns))
            .collect()
    };
    assert_eq!(
        told(None, None),
        [
            "view ads.clicks 3",
            "entity shop.prices 1",
            "entity shop.seller 1",
            "source shop.events 3",
            "view shop.prices 3",
            "service shop.model 2",
        ]
    );
    assert_eq!(told(Some("shop"), Some(ThingKind::View)), ["view shop.prices 3"]);
    assert!(told(Some("nobody"), None).is_empty());
}

#[test]
fn things_are_shown_by_the_name_a_user_writes() {
    let catalog = catalog();
    for (asked, kind, found, feature) in [
        ("seller", ThingKind::Entity, "shop.seller", None),
        ("prices", ThingKind::View, "shop.prices", None),
        ("entity/prices", ThingKind::Entity, "shop.prices", None),
        ("prices.price_max", ThingKind::View, "shop.prices", Some("price_max")),
        ("ads.clicks", ThingKind::View, "ads.clicks", None),
        ("ads.clicks.clicks_total", ThingKind::View, "ads.clicks", Some("clicks_total")),
        ("shop.model", ThingKind::Service, "shop.model", None),
    ] {
        let shown = show(&catalog, &name("shop"), asked).unwrap();
        assert_eq!(shown.kind, kind, "{asked}");
        assert_eq!(format!("{}.{}", shown.project, shown.name), found);
        assert!(shown.yaml.contains(shown.name.as_str()), "{}", shown.yaml);
        assert_eq!(shown.feature.as_ref().map(|it| it.as_str()), feature);
    }
    let prices = show(&catalog, &name("shop"), "prices").unwrap();
    assert_eq!(prices.also.len(), 1);
    assert_eq!(prices.owner.as_deref(), Some("pricing"));
    let told: Vec<String> = prices
        .columns
        .iter()
        .map(|it| format!("{} {} {} {:?}", it.role, it.name, it.data_type, it.expression))
        .collect();
    assert_eq!(
        told,
        [
            "key seller_id int64 None",
            "feature price_mean int64 Some(\"price_cents\")",
            "feature price_max int64 Some(\"price_cents\")",
        ]
    );
    let events = show(&catalog, &name("shop"), "events").unwrap();
    let used: Vec<String> = events.used_by.iter().map(|it| format!("{} {}", it.kind, it.name)).collect();
    assert_eq!(used, ["view ads.clicks", "view shop.prices", "service shop.model"]);
    let back: asof_registry::Shown = serde_json::from_str(&serde_json::to_string(&events).unwrap()).unwrap();
    assert_eq!(back, events);

    let list = Some("`asof list` lists what is defined, `asof search TEXT` looks in descriptions too");
    for (asked, hint) in [
        ("sellr", Some("did you mean `seller`?")),
        ("prices.price_meen", Some("did you mean `prices.price_mean`?")),
        ("add.clicks", Some("did you mean `ads.clicks`?")),
        ("zzzzzz", list),
        ("a.b.c.d", list),
        ("", list),
    ] {
        let error = show(&catalog, &name("shop"), asked).unwrap_err();
        assert_eq!(error.code(), "thing_not_found");
        assert_eq!(error.hint().as_deref(), hint, "{asked}");
    }
}

#[test]
fn a_search_ranks_what_it_finds() {
    let catalog = catalog();
    let found = |text: &str| -> Vec<String> {
        search(&catalog, None, text).hits.into_iter().map(|it| format!("{} {}", it.kind, it.name)).collect()
    };
    // The whole name first, then the beginning of a word of a name, then columns, then descriptions.
    let prices = found("prices");
    assert_eq!(prices[..2], ["entity shop.prices", "view shop.prices"]);
    assert!(prices.contains(&"view ads.clicks".to_owned()), "its description says so: {prices:?}");
    assert_eq!(found("price mean")[..2], ["feature ads.clicks.price_mean", "feature shop.prices.price_mean"]);
    assert_eq!(found("MARKETPLACE"), ["entity shop.seller"]);
    assert_eq!(found("raw"), ["source shop.events"]);
    assert_eq!(found("cents")[0], "source shop.events");
    assert_eq!(found("posts listings"), ["entity shop.seller"]);
    assert!(found("posts money").is_empty());
    assert!(found("").is_empty());
    let near = search(&catalog, None, "selers");
    assert_eq!((near.hits.len(), near.nearest), (0, vec!["shop.seller".to_owned()]));
    let own = search(&catalog, Some(&name("ads")), "price_mean");
    assert_eq!(own.hits[0].name, "ads.clicks.price_mean");
    assert_eq!(own.hits[0].matched, ["name"]);
    assert!(own.hits.iter().all(|hit| hit.name.starts_with("ads.")));
}

#[tokio::test]
async fn shown_with_its_versions() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(&folder.path().join("registry.db")).await;
    let first = registry.apply(&Principal::owner(), apply("shop", Revision(0), shop())).await.unwrap();
    let described = entity("shop", "seller", about("growth", "Sellers", &[]));
    registry.apply(&Principal::owner(), apply("shop", first, vec![described])).await.unwrap();
    let shown = registry.show(&name("shop"), "seller").await.unwrap();
    assert_eq!(shown.versions.len(), 2);
    assert!(shown.versions[0].standing && !shown.versions[1].standing);
    assert_eq!(shown.versions[0].version, shown.versions[1].version);
    assert_eq!(shown.owner.as_deref(), Some("growth"));
}

#[test]
fn what_is_sensitive_is_marked_wherever_it_stands() {
    let file = |path: &str, text: &str| ProjectFile { path: path.to_owned(), text: text.to_owned() };
    let definitions = "\
entity: person
keys: {email: string}
---
source: people
path: people.parquet
event_time: at
---
source: joined
sql: select p.email as mail, p.at from people p
event_time: at
---
view: contacts
entity: person
source: people
features:
  domain: {expr: \"split_part(EMAIL, '@', 2)\", sensitivity: pii}
  name: name
  letters: char_length(name)
  years: {expr: age, sensitivity: public}
---
view: called
entity: person
source: people
features:
  who: {expr: name, sensitivity: personal}
---
view: of_a_query
entity: person
source: joined
keys: {email: mail}
features: {latest: at}
";
    let (project, told) =
        Project::read(&[file("asof.yaml", "project: shop"), file("features/a.yaml", definitions)]);
    assert!(told.is_empty(), "{told:?}");
    let columns = |all: &[(&str, &str)]| -> Vec<Column> {
        let typed = |(name, kind): &(&str, &str)| Column {
            name: (*name).to_owned(),
            data_type: DataType::parse(kind).unwrap(),
        };
        all.iter().map(typed).collect()
    };
    let people = [("email", "string"), ("name", "string"), ("age", "int64"), ("at", "timestamp")];
    let mut types = TypedProject::default();
    types.source_columns.insert(name("people"), columns(&people));
    types.source_columns.insert(name("joined"), columns(&[("mail", "string"), ("at", "timestamp")]));
    for (view, feature, kind) in [
        ("contacts", "domain", "string"),
        ("contacts", "name", "string"),
        ("contacts", "letters", "int64"),
        ("contacts", "years", "int64"),
        ("called", "who", "string"),
        ("of_a_query", "latest", "timestamp"),
    ] {
        types.feature_types.insert((name(view), name(feature)), DataType::parse(kind).unwrap());
    }
    let (versions, told) = resolve(&project.unwrap(), &Catalog::default(), &types);
    assert!(told.is_empty(), "{told:?}");
    let catalog = Catalog::from_versions(Revision(1), Default::default(), versions);
    for (kind, thing, wanted) in [
        (ThingKind::Source, "people", &["email pii", "name personal"][..]),
        (ThingKind::Source, "joined", &["at pii", "mail pii"]),
        // Computed from a name, and said by its own view not to be sensitive: shown. The name itself is not.
        (ThingKind::View, "contacts", &["domain pii", "email pii", "name personal"]),
        (ThingKind::View, "called", &["email pii", "who personal"]),
        (ThingKind::View, "of_a_query", &["email pii", "latest pii"]),
        (ThingKind::Entity, "person", &[]),
    ] {
        let version = catalog.get(kind, &at("shop", thing)).unwrap();
        let found: Vec<String> =
            masked(&catalog, &version).into_iter().map(|(column, why)| format!("{column} {why}")).collect();
        assert_eq!(found, wanted, "{thing}");
    }
    let shown = show(&catalog, &name("shop"), "people").unwrap();
    let marks: Vec<Option<&str>> = shown.columns.iter().map(|it| it.sensitivity.as_deref()).collect();
    assert_eq!(marks, [Some("pii"), Some("personal"), None, None]);
}
