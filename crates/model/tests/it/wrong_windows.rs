//! Wrong windows and aggregates, as `wrong_cases`.

use crate::wrong_cases::Cases;

pub(crate) const WINDOWS: Cases = &[
    (
        "agg without windows",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "expr in a view with windows",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [1h, 1d]\nfeatures: {tier: tier}\n",
    ),
    (
        "expr beside an aggregate",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  n: {agg: count(*), windows: [7d]}\n  tier: {expr: tier, sensitivity: pii}\n",
    ),
    (
        "an aggregate without agg",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [1h]\nfeatures:\n  n: count(*)\n  top: \"last_n(tier, 3)\"\n",
    ),
    (
        "an aggregate in a view without windows",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  n: count(*)\n",
    ),
    (
        "windows and expr in one feature",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  n: {expr: tier, windows: [7d]}\n",
    ),
    (
        "agg and expr",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {expr: tier, agg: last(tier)}\n",
    ),
    (
        "neither agg nor expr",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {sensitivity: pii}\n",
    ),
    (
        "star with windows",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures: \"*\"\n",
    ),
    (
        "list with windows",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures: [tier]\n",
    ),
    (
        "ttl with windows",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nttl: 90d\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "retention less than a window",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [1h, {length: 7d, offset: 7d, resolution: 1h}]\nretention: 14d\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "retention of all",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [1h, all]\nretention: 400d\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "window too short",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [59s]\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "window too long",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d, 366d]\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "window without unit",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7]\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "window as a word",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: 7d\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "no windows in the list",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: []\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "window without length",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [{offset: 7d}]\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "window misspelt",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [{length: 7d, ofset: 7d}]\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "resolution over length",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [{length: 1h, resolution: 1d}]\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "resolution of the view over length",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [1h, 7d]\nresolution: 1d\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "resolution of all",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [{length: all, resolution: 1d}]\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "resolution zero",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [{length: 1h, resolution: 0s}]\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "resolution without windows",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nresolution: 1h\nfeatures: [tier]\n",
    ),
    (
        "one window twice",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [1d, 24h]\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "two windows of one name",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [1d, {length: 1d, include_now: true}]\nfeatures:\n  n: {agg: count(*)}\n",
    ),
    (
        "two features of one name",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [1d]\nfeatures:\n  n: {agg: count(*), windows: [{length: 1d, as: a_1d}]}\n  n_a: {agg: count(*)}\n",
    ),
    (
        "name too long with its window",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [{length: 1d, offset: 1d}]\nfeatures:\n  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: {agg: count(*)}\n",
    ),
    (
        "agg that is no call",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {agg: tier}\n",
    ),
    (
        "agg of two",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {agg: sum(id) / count(*)}\n",
    ),
    (
        "agg within agg",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {agg: max(id + sum(id))}\n",
    ),
    (
        "agg with over",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {agg: sum(id) over (partition by tier)}\n",
    ),
    (
        "agg with order",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {agg: array_agg(tier order by id)}\n",
    ),
    (
        "agg of two columns",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {agg: \"corr(id, rating)\"}\n",
    ),
    (
        "agg torn at a comma",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {agg: last_n(tier, 10), windows: [30d]}\n",
    ),
    (
        "agg with a wrong filter",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {agg: count(*) filter (where tier ==)}\n",
    ),
    (
        "agg as a list",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d]\nfeatures:\n  n: {agg: [count]}\n",
    ),
    (
        "windows over deletes",
        "source: s\npath: s.parquet\nevent_time: t\ndelete_when: gone\nschema: {id: int64, t: timestamp, gone: bool}\n---\nview: v\nentity: seller\nsource: s\nkeys: {seller_id: id}\nfeatures:\n  n: {agg: count(*), windows: [7d]}\n",
    ),
    (
        "windows without a clock",
        "view: v\nentity: place\nsource: places\nwindows: [7d]\nfeatures:\n  n: {agg: sum(people)}\n",
    ),
    (
        "window not named in a service",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwindows: [7d, 30d]\nfeatures:\n  n: {agg: count(*)}\n  m: {agg: last(tier), windows: [1d]}\n---\nservice: t\nfeatures: [v.n, v.m, v.n_7]\n",
    ),
    (
        "default of another type",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  n: {expr: tier, default: 0}\n",
    ),
    (
        "default of many digits",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  n: {expr: id, default: 99999999999999999999}\n",
    ),
    (
        "default as a list",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  n: {expr: tier, default: [a]}\n",
    ),
];
