//! What training and serving ask for, made into readings and columns.

use asof_model::{Ask, Catalog, Explain, Kind, SelectError};

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
    assert_eq!(selection.columns[0].feature, 2);
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
