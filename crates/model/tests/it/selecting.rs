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
