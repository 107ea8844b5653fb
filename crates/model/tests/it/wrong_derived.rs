//! Wrong derived features and labels, as `wrong_cases`.

use crate::wrong_cases::Cases;

pub(crate) const DERIVED: Cases = &[
    ("label document", "label: l\n"),
    ("derived without features", "derived: d\n"),
    ("derived of a list", "derived: d\nfeatures: [seller_profile.tier]\n"),
    ("derived without a map", "derived: d\nfeatures: {}\n"),
    ("derived with agg", "derived: d\nfeatures:\n  a: {agg: count(*)}\n"),
    ("derived without expression", "derived: d\nfeatures:\n  a:\n"),
    ("aggregate in a derived", "derived: d\nrequest: {price: float64}\nfeatures:\n  a: sum(price)\n"),
    (
        "now in a derived",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price + extract(hour from now())\n",
    ),
    (
        "request column not declared",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price + prise\n  b: weight * 2\n",
    ),
    (
        "own feature without its derived",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price\n  b: a * 2\n",
    ),
    (
        "request_time declared",
        "derived: d\nrequest: {request_time: timestamp}\nfeatures: {a: request_time}\n",
    ),
    ("request column without type", "derived: d\nrequest: {price: floaty}\nfeatures: {a: price}\n"),
    (
        "view not found in a derived",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price / seler_profile.name_length\n",
    ),
    (
        "feature not found in a derived",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price / seller_profile.name_lenth\n",
    ),
    (
        "feature of all columns not found in a derived",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price / place_facts.peple\n",
    ),
    (
        "own derived feature not found",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price\n  b: d.aa\n",
    ),
    (
        "four parts in a derived",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price + shop.seller_profile.name_length.x\n",
    ),
    ("derived that reads itself", "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price + d.a\n"),
    (
        "derived features in a ring",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price + d.b\n  b: d.c * 2\n  c: shop.d.a + 1\n",
    ),
    (
        "derived in a ring",
        "derived: d\nfeatures: {a: e.a + 1}\n---\nderived: e\nfeatures: {a: f.a, b: seller_profile.name_length}\n---\nderived: f\nfeatures: {a: d.a}\n---\nservice: s\nfeatures: [d.a]\n",
    ),
    ("derived named like a view", "derived: seller_profile\nfeatures: {a: place_facts.people}\n"),
    (
        "derived feature not found in a service",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price\n---\nservice: s\nfeatures: [d.b]\n",
    ),
    (
        "derived not found in a service",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price\n---\nservice: s\nfeatures: [dd.a]\n",
    ),
    (
        "request column named like a key",
        "derived: d\nrequest: {seller_id: int64}\nfeatures:\n  a: seller_id + seller_profile.name_length\n---\nservice: s\nfeatures: [d.a]\n",
    ),
    (
        "request column named like an output",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  price_now: price\n---\nservice: s\nfeatures: [{from: d.price_now, as: price}]\n",
    ),
    (
        "request column of two types",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price\n---\nderived: e\nrequest: {price: int64}\nfeatures: {b: price}\n---\nservice: s\nfeatures: [d.a, e.b]\n",
    ),
    (
        "key that nothing under a derived has",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price + seller_profile.name_length\n---\nservice: s\nfeatures: [{from: d.a, keys: {selle_id: buyer_id}}]\n",
    ),
    (
        "one derived feature twice",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price\n---\nservice: s\nfeatures: [d.a, d.*]\n",
    ),
    ("labels as words", "service: s\nfeatures: [seller_profile.tier]\nlabels: [seller_profile.email]\n"),
    ("labels as a map", "service: s\nfeatures: [seller_profile.tier]\nlabels: {a: b}\n"),
    (
        "label without after",
        "service: s\nfeatures: [seller_profile.tier]\nlabels: [{from: seller_profile.email}]\n",
    ),
    (
        "label at once",
        "service: s\nfeatures: [seller_profile.tier]\nlabels: [{from: seller_profile.email, after: 0s}]\n",
    ),
    (
        "label of a whole view",
        "service: s\nfeatures: [seller_profile.tier]\nlabels: [{from: seller_profile.*, after: 7d}]\n",
    ),
    (
        "label of nothing",
        "service: s\nfeatures: [seller_profile.tier]\nlabels: [{from: seller_profile.emial, after: 7d}, {from: seller_profil.email, after: 7d}]\n",
    ),
    (
        "label of a derived",
        "derived: d\nrequest: {price: float64}\nfeatures:\n  a: price\n---\nservice: s\nfeatures: [seller_profile.tier]\nlabels: [{from: d.a, after: 7d}]\n",
    ),
    (
        "label named like a feature",
        "service: s\nfeatures: [seller_profile.tier]\nlabels: [{from: seller_profile.tier, after: 7d}]\n",
    ),
    (
        "two labels of one name",
        "service: s\nfeatures: [seller_profile.tier]\nlabels: [{from: seller_profile.email, after: 7d}, {from: seller_profile.email, after: 30d}]\n",
    ),
    (
        "label named like a key",
        "service: s\nfeatures: [seller_profile.tier]\nlabels: [{from: seller_profile.email, after: 7d, as: seller_id}]\n",
    ),
    (
        "label of a key that is none",
        "service: s\nfeatures: [seller_profile.tier]\nlabels: [{from: seller_profile.email, after: 7d, keys: {id: buyer_id}}]\n",
    ),
];
