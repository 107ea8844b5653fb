//! What training and serving ask for, made into readings and columns.

use asof_model::{Ask, Catalog, Explain, Kind, Origin, SelectError, StepInput};

use crate::shop::{FEATURES, applied, file, name, shop};

fn catalog() -> Catalog {
    applied(&shop(""), &Catalog::default())
}

fn features(texts: &[&str]) -> Ask {
    Ask::Features(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn columns(catalog: &Catalog, ask: &Ask, full: bool) -> Result<Vec<String>, SelectError> {
    catalog.select(&name("shop"), ask, full).map(|it| it.columns.into_iter().map(|it| it.name).collect())
}

#[test]
fn a_service_is_its_columns_in_order() {
    let catalog = catalog();
    let ask = Ask::Service("category_model".into());
    let names = ["tier", "buyer_tier", "buyer_name_length", "buyer_email", "people"];
    assert_eq!(columns(&catalog, &ask, false).unwrap(), names);
    let full =
        ["seller_profile__tier", "buyer__tier", "buyer__name_length", "buyer__email", "place_facts__people"];
    assert_eq!(columns(&catalog, &ask, true).unwrap(), full);
    let selection = catalog.select(&name("shop"), &ask, false).unwrap();
    let roles: Vec<String> = selection.readings.iter().map(|it| it.keys[0].to_string()).collect();
    assert_eq!(roles, ["seller_id", "buyer_id", "country"]);
    let stored = &selection.service.unwrap().selection;
    assert_eq!(stored.columns.len(), 5);
    assert_eq!(columns(&catalog, &Ask::Service("shop.category_model".into()), false).unwrap(), names);
}

#[test]
fn one_view_in_one_role_is_read_once() {
    let catalog = catalog();
    let ask = features(&["seller_profile.email", "shop.seller_profile.tier"]);
    let selection = catalog.select(&name("shop"), &ask, false).unwrap();
    assert_eq!((selection.readings.len(), selection.columns.len()), (1, 2));
    assert_eq!(selection.columns[0].read(), Some((0, 2)));
}

#[test]
fn what_cannot_be_had_is_said_with_the_way_out() {
    let catalog = catalog();
    for (ask, code, kind, hint) in [
        (
            Ask::Service("category_modl".into()),
            "service_not_found",
            Kind::NotFound,
            "did you mean `category_model`?",
        ),
        (Ask::Service("seller_profile".into()), "service_not_found", Kind::NotFound, "is a view"),
        (Ask::Service("bazaar.x".into()), "project_not_found", Kind::NotFound, "projects are: shop"),
        (
            features(&["seller_profil.tier"]),
            "view_not_found",
            Kind::NotFound,
            "did you mean `seller_profile`?",
        ),
        (
            features(&["seller_profile.teir"]),
            "feature_not_found",
            Kind::NotFound,
            "did you mean `seller_profile.tier`?",
        ),
        (features(&["seller_profile"]), "bad_feature", Kind::Invalid, "write `seller_profile.*`"),
        (features(&[]), "no_features", Kind::Invalid, "name a service"),
        (features(&["seller_profile.tier", "seller_profile.*"]), "column_collision", Kind::Invalid, "`as:`"),
    ] {
        let error = columns(&catalog, &ask, false).unwrap_err();
        assert_eq!((error.code(), error.kind()), (code, kind), "{ask:?}");
        let found = error.hint().unwrap_or_default();
        assert!(found.contains(hint), "{ask:?}: {found}");
    }
    let unknown = catalog.select(&name("bazaar"), &features(&["a.b"]), false).unwrap_err();
    assert_eq!(unknown.code(), "project_not_found");
}

#[test]
fn a_view_of_another_project_is_read_at_the_version_agreed() {
    let market = [file("asof.yaml", "project: market\n"), file("features/a.yaml", FEATURES)];
    let both = applied(
        &shop("service: s\nfeatures: [market.seller_profile.tier]\n"),
        &applied(&market, &Catalog::default()),
    );
    let ask = Ask::Service("s".into());
    assert_eq!(columns(&both, &ask, false).unwrap(), ["tier"]);
    let changed = [
        file("asof.yaml", "project: market\n"),
        file("features/a.yaml", &FEATURES.replace("ttl: 90d", "ttl: 30d")),
    ];
    let (_, found) = crate::shop::apply(&changed, &both);
    assert_eq!(found.iter().map(|it| it.code.as_str()).collect::<Vec<_>>(), ["used_elsewhere"]);
    let after = applied(&changed, &both);
    let error = columns(&after, &ask, false).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("service_stale", Kind::Conflict));
}

/// A view is read over the version of its source that it was agreed with, or not at all.
#[test]
fn a_view_of_another_projects_source_is_stale_once_that_changes() {
    let market = |features: &str| [file("asof.yaml", "project: market\n"), file("features/a.yaml", features)];
    let loaded =
        FEATURES.replace("event_time: updated_at", "event_time: updated_at\navailable_at: updated_at");
    for (own, ask, warned, code, text) in [
        (
            "view: v\nentity: seller\nsource: market.sellers\nkeys: {seller_id: id}\nfeatures: {tier: tier}\n",
            "v.*",
            "source `sellers` changes, and view `shop.v` stands on it",
            "view_stale",
            "view `shop.v` stands on version ",
        ),
        (
            "source: q\nsql: select id, tier from market.sellers\nevent_time: none\nschema: {id: int64, tier: string}\n---\n\
             source: r\nsql: select id, tier from shop.q\nevent_time: none\nschema: {id: int64, tier: string}\n---\n\
             view: v\nentity: seller\nsource: r\nkeys: {seller_id: id}\nfeatures: {tier: tier}\n",
            "v.*",
            "source `sellers` changes, and source `shop.q` reads it",
            "source_stale",
            "source `shop.q` was applied with other versions of the sources its `sql` reads (`market.sellers`)",
        ),
    ] {
        let both = applied(&shop(own), &applied(&market(FEATURES), &Catalog::default()));
        assert_eq!(columns(&both, &features(&[ask]), false).unwrap(), ["tier"]);
        let (_, found) = crate::shop::apply(&market(&loaded), &both);
        let found: Vec<_> = found.iter().map(|it| (it.code.as_str(), it.message.as_str())).collect();
        assert_eq!(found, [("used_elsewhere", warned)]);
        let after = applied(&market(&loaded), &both);
        let error = columns(&after, &features(&[ask]), false).unwrap_err();
        assert_eq!((error.code(), error.kind()), (code, Kind::Conflict));
        assert!(error.to_string().starts_with(text), "{error}");
        assert!(
            error.hint().unwrap().contains("`asof apply` in the folder of project `shop`"),
            "{:?}",
            error.hint()
        );
        // What does not stand on it is read as before, and applied again all of it is.
        assert!(columns(&after, &features(&["seller_profile.tier"]), false).is_ok());
        let again = applied(&shop(own), &after);
        assert_eq!(columns(&again, &features(&[ask]), false).unwrap(), ["tier"]);
        // A third project does not build on what is stale.
        let third = [
            file("asof.yaml", "project: third\n"),
            file(
                "features/a.yaml",
                "entity: seller\nkeys: {seller_id: int64}\n---\nview: w\nentity: seller\nsource: shop.q\nkeys: {seller_id: id}\nfeatures: {tier: tier}\n",
            ),
        ];
        if code == "source_stale" {
            let (_, found) = crate::shop::apply(&third, &after);
            assert_eq!(found.iter().map(|it| it.code.as_str()).collect::<Vec<_>>(), ["source_stale"]);
        }
    }
}

const DERIVED: &str = "\
view: activity
entity: seller
source: sellers
keys: {seller_id: id}
windows: [7d, 30d]
features:
  n: {agg: count(*)}
---
derived: price
request: {price: float64, weight: float64}
features:
  usual: price / activity.n_30d
  hour: extract(hour from request_time)
  heavy: weight > 1
---
derived: more
features:
  twice: price.usual * 2 + activity.n_30d
  again: more.twice + more.twice
---
service: model
features:
  - more.again
  - activity.n_7d
  - {from: more.again, keys: {seller_id: buyer_id}, as: buyer_again}
  - price.hour
labels:
  - {from: activity.n_7d, after: 7d, as: next_week}
  - {from: seller_profile.tier, after: 1d, keys: {seller_id: buyer_id}, as: tier_after}
";

#[test]
fn derived_features_are_computed_behind_what_they_read() {
    let catalog = applied(&shop(DERIVED), &Catalog::default());
    let selection = catalog.select(&name("shop"), &Ask::Service("model".into()), false).unwrap();
    let readings: Vec<String> =
        selection.readings.iter().map(|it| format!("{} by {}", it.view.address.name, it.keys[0])).collect();
    assert_eq!(readings, ["activity by seller_id", "activity by buyer_id"]);
    let steps: Vec<String> = selection
        .steps
        .iter()
        .map(|it| format!("{}.{}", it.derived.address.name, it.feature().unwrap().feature.name))
        .collect();
    assert_eq!(
        steps,
        ["price.usual", "more.twice", "more.again", "price.usual", "more.twice", "more.again", "price.hour"]
    );
    let (n_7d, n_30d) = (0, 1);
    let read = |reading, feature| StepInput::Feature { reading, feature };
    let inputs: Vec<Vec<StepInput>> = selection.steps.iter().map(|it| it.inputs.clone()).collect();
    assert_eq!(
        inputs,
        [
            vec![StepInput::Request(0), read(0, n_30d)],
            vec![StepInput::Step(0), read(0, n_30d)],
            vec![StepInput::Step(1)],
            vec![StepInput::Request(0), read(1, n_30d)],
            vec![StepInput::Step(3), read(1, n_30d)],
            vec![StepInput::Step(4)],
            vec![StepInput::RequestTime],
        ]
    );
    let made: Vec<(&str, Origin)> = selection.columns.iter().map(|it| (it.name.as_str(), it.from)).collect();
    assert_eq!(
        made,
        [
            ("again", Origin::Derived { step: 2 }),
            ("n_7d", Origin::Feature { reading: 0, feature: n_7d }),
            ("buyer_again", Origin::Derived { step: 5 }),
            ("hour", Origin::Derived { step: 6 }),
        ]
    );
    assert_eq!(selection.request.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["price"]);
    assert_eq!((selection.taken(0), selection.taken(1)), (vec![n_7d, n_30d], vec![n_30d]));
    let labels: Vec<String> = selection
        .labels
        .iter()
        .map(|it| format!("{} {} {} {}", it.name, it.reading.keys[0], it.feature, it.after))
        .collect();
    assert_eq!(labels, ["next_week seller_id 0 7d", "tier_after buyer_id 0 1d"]);
    let stored = &selection.service.as_ref().unwrap().selection;
    assert_eq!((stored.steps.len(), stored.labels.len(), stored.request.len()), (7, 2, 1));
    // Single features are asked for as those of a view are, and a view in a role alone has no steps.
    assert_eq!(columns_of(&catalog, &["price.heavy", "more.*"]), ["heavy", "twice", "again"]);
    assert_eq!(columns(&catalog, &features(&["price.hour"]), true).unwrap(), ["price__hour"]);
}

fn columns_of(catalog: &Catalog, asked: &[&str]) -> Vec<String> {
    columns(catalog, &features(asked), false).unwrap()
}

#[test]
fn derived_features_over_another_project_are_stale_once_that_changes() {
    let market = |features: &str| {
        [
            file("asof.yaml", "project: market\n"),
            file("features/a.yaml", FEATURES),
            file("features/b.yaml", features),
        ]
    };
    let own = "derived: d\nfeatures:\n  a: market.more.again + market.activity.n_7d\n---\nservice: s\nfeatures: [d.a]\n";
    let both = applied(&shop(own), &applied(&market(DERIVED), &Catalog::default()));
    let ask = Ask::Service("s".into());
    assert_eq!(columns(&both, &ask, false).unwrap(), ["a"]);
    for changed in [
        DERIVED.replace("count(*)", "count(tier)"),
        DERIVED.replace("price.usual * 2", "price.usual * 3"),
        DERIVED.replace("price / activity", "price * activity"),
    ] {
        let (_, found) = crate::shop::apply(&market(&changed), &both);
        assert!(found.iter().all(|it| it.code == "used_elsewhere") && !found.is_empty(), "{found:?}");
        let after = applied(&market(&changed), &both);
        let error = columns(&after, &ask, false).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("derived_stale", Kind::Conflict), "{error}");
        assert!(error.hint().unwrap().contains("project `shop`"));
        assert_eq!(columns(&applied(&shop(own), &after), &ask, false).unwrap(), ["a"]);
    }
}
