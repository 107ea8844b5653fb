//! Wrong definitions: a name, and the text of a file beside a project that is good.
//! One case tests one message.

pub(crate) type Cases = &'static [(&'static str, &'static str)];

pub(crate) const YAML: Cases = &[
    ("unclosed list", "view: [a\n"),
    ("unclosed quote", "entity: \"a\nkeys: {a: int64}\n"),
    ("tabs", "entity: e\nkeys:\n	a: int64\n"),
    (
        "colon in an expression",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwhere: meta: x = 1\nfeatures: [tier]\n",
    ),
    (
        "colon in a feature",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: case when tier = 'a: b' then 1 end\n",
    ),
    (
        "two values",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwhere: 'a' = tier\nfeatures: [tier]\n",
    ),
    (
        "percent first",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwhere: %x\nfeatures: [tier]\n",
    ),
    (
        "backtick",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwhere: `tier` = 'a'\nfeatures: [tier]\n",
    ),
    ("anchor", "entity: &e e\nkeys: {a: int64}\n"),
    ("alias", "entity: e\nkeys: *k\n"),
    ("bare star", "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: *\n"),
    ("tag", "entity: !!str e\nkeys: {a: int64}\n"),
    ("map as key", "? {a: b}\n: c\n"),
    ("directive", "%YAML 1.2\n---\nentity: e\nkeys: {a: int64}\n"),
    (
        "too deep",
        "entity: e\nkeys: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
    ),
    ("duplicate key", "entity: e\nkeys: {a: int64}\nkeys: {b: int64}\n"),
    ("duplicate key in flow", "entity: e\nkeys: {a: int64, a: string}\n"),
    (
        "comment cuts an expression",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwhere: display_name <> ' #1'\nfeatures: [tier]\n",
    ),
    (
        "comma in a flow map",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: {expr: coalesce(tier, 'none'), sensitivity: pii}\n",
    ),
    (
        "comma in features",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: {a: coalesce(tier, 'x'), b: tier}\n",
    ),
    (
        "brackets first",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwhere: [tier]\nfeatures: [tier]\n",
    ),
    (
        "braces first",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwhere: {a: b}\nfeatures: [tier]\n",
    ),
    ("several documents", "entity: [\n---\nentity: }\n---\nview: v\n"),
];

pub(crate) const DOCUMENTS: Cases = &[
    ("list", "- entity: e\n"),
    ("word", "entity\n"),
    ("misspelt kind", "entty: e\nkeys: {a: int64}\n"),
    ("unknown kind", "table: e\n"),
    ("view without its name", "entity: seller\nsource: sellers\nfeatures: [tier]\n"),
    ("config key", "listen: 127.0.0.1:80\n"),
    ("empty map", "{}\n"),
    ("defined twice", "entity: seller\nkeys: {seller_id: int64}\n"),
    ("name with capitals", "entity: BuyerAccount\nkeys: {a: int64}\n"),
    ("name with a digit first", "entity: 2buyers\nkeys: {a: int64}\n"),
    ("name with a dash", "view: seller-profile\nentity: seller\nsource: sellers\nfeatures: [tier]\n"),
    (
        "name too long",
        "entity: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nkeys: {a: int64}\n",
    ),
    ("no name", "entity:\nkeys: {a: int64}\n"),
    ("name is a list", "entity: [a]\nkeys: {a: int64}\n"),
    ("no letter at all", "entity: 名前\nkeys: {a: int64}\n"),
];

pub(crate) const ENTITIES: Cases = &[
    ("no keys", "entity: e\n"),
    ("empty keys", "entity: e\nkeys: {}\n"),
    ("keys as a list", "entity: e\nkeys: [a]\n"),
    ("keys as a word", "entity: e\nkeys: a\n"),
    ("unknown type", "entity: e\nkeys: {a: int}\n"),
    ("other system's type", "entity: e\nkeys: {a: varchar(20)}\n"),
    ("strange type", "entity: e\nkeys: {a: blurb}\n"),
    ("no type", "entity: e\nkeys: {a: }\n"),
    ("float key", "entity: e\nkeys: {a: float64}\n"),
    ("list key", "entity: e\nkeys: {a: 'list<int64>'}\n"),
    ("decimal too wide", "entity: e\nkeys: {a: 'decimal(40,2)'}\n"),
    ("key with capitals", "entity: e\nkeys: {sellerId: int64}\n"),
    ("unknown key", "entity: e\nkeys: {a: int64}\ntype: x\n"),
    ("misspelt key", "entity: e\nkeys: {a: int64}\ndescriptoin: x\n"),
    ("tags as a word", "entity: e\nkeys: {a: int64}\ntags: a\n"),
    ("tag twice", "entity: e\nkeys: {a: int64}\ntags: [a, a]\n"),
    ("owner as a list", "entity: e\nkeys: {a: int64}\nowner: [a]\n"),
    ("owner empty", "entity: e\nkeys: {a: int64}\nowner:\n"),
];

pub(crate) const SOURCES: Cases = &[
    ("no place", "source: s\nevent_time: t\n"),
    ("no event time", "source: s\npath: s.parquet\n"),
    ("path and sql", "source: s\npath: s.parquet\nevent_time: t\nsql: select * from sellers\n"),
    ("format of a query", "source: s\nsql: select * from sellers\nformat: csv\nevent_time: t\n"),
    ("stored query", "source: s\nsql: select * from sellers\nstore: true\nevent_time: t\n"),
    ("unknown ending", "source: s\npath: s.xlsx\nevent_time: t\n"),
    ("glob without ending", "source: s\npath: data/*\nevent_time: t\n"),
    ("unknown format", "source: s\npath: s.parquet\nevent_time: t\nformat: parket\n"),
    ("format far off", "source: s\npath: s.parquet\nevent_time: t\nformat: excel\n"),
    ("store yes", "source: s\npath: s.parquet\nevent_time: t\nstore: yes\n"),
    ("store quoted", "source: s\npath: s.parquet\nevent_time: t\nstore: 'true'\n"),
    ("store as a number", "source: s\npath: s.parquet\nevent_time: t\nstore: 1\n"),
    ("unknown option", "source: s\npath: s.csv\nevent_time: t\noptions: {delimeter: ;}\n"),
    ("csv option of parquet", "source: s\npath: s.parquet\nevent_time: t\noptions: {header: true}\n"),
    ("long delimiter", "source: s\npath: s.csv\nevent_time: t\noptions: {delimiter: '||'}\n"),
    ("tab as two letters", "source: s\npath: s.csv\nevent_time: t\noptions: {delimiter: '\\t'}\n"),
    ("header maybe", "source: s\npath: s.csv\nevent_time: t\noptions: {header: maybe}\n"),
    ("null keys", "source: s\npath: s.parquet\nevent_time: t\nnull_keys: drop\n"),
    ("password in path", "source: s\npath: s3://me:hunter2@bucket/x.parquet\nevent_time: t\n"),
    ("schema type", "source: s\npath: s.parquet\nevent_time: t\nschema: {a: number}\n"),
    ("query drops", "source: s\nsql: drop table sellers\nevent_time: t\n"),
    ("two queries", "source: s\nsql: select 1; select 2\nevent_time: t\n"),
    ("query syntax", "source: s\nsql: |\n  select *\n  frm sellers\nevent_time: t\n"),
    (
        "query of an unknown source",
        "source: s\nsql: |\n  select a.*\n  from sellers a\n  join sellrs b on a.id = b.id\nevent_time: t\n",
    ),
    ("query reads itself", "source: s\nsql: select * from s\nevent_time: t\n"),
    (
        "queries in a circle",
        "source: a1\nsql: select * from b1\nevent_time: t\n---\nsource: b1\nsql: select * from a1\nevent_time: t\n",
    ),
    ("query into", "source: s\nsql: select * into x from sellers\nevent_time: t\n"),
    ("deletes without a clock", "source: s\npath: s.parquet\nevent_time: none\ndelete_when: gone\n"),
    ("an id without a clock", "source: s\npath: s.parquet\nevent_time: none\nid: event\n"),
    (
        "order without a clock and a wrong key",
        "source: s\npath: s.parquet\nevent_time: none\norder_by: n\nkeys: a\n",
    ),
];

pub(crate) const TIMES: Cases = &[
    ("empty event time", "source: s\npath: s.parquet\nevent_time:\n"),
    ("null event time", "source: s\npath: s.parquet\nevent_time: null\n"),
    ("list", "source: s\npath: s.parquet\nevent_time: [a, b]\n"),
    ("none elsewhere", "source: s\npath: s.parquet\nevent_time: t\navailable_at: none\n"),
    ("unknown unit", "source: s\npath: s.parquet\nevent_time: {column: t, unit: sec}\n"),
    ("unknown zone", "source: s\npath: s.parquet\nevent_time: {column: t, zone: America/NewYork}\n"),
    ("zone far off", "source: s\npath: s.parquet\nevent_time: {column: t, zone: Mars}\n"),
    ("unit and zone", "source: s\npath: s.parquet\nevent_time: {column: t, unit: s, zone: UTC}\n"),
    ("no column", "source: s\npath: s.parquet\nevent_time: {unit: s}\n"),
    ("unknown key of a time", "source: s\npath: s.parquet\nevent_time: {column: t, units: s}\n"),
    ("broken expression", "source: s\npath: s.parquet\nevent_time: to_timestamp(t\n"),
    ("the clock", "source: s\npath: s.parquet\nevent_time: now()\n"),
    ("integer without unit", "source: s\npath: s.parquet\nevent_time: t\nschema: {t: int64}\n"),
    (
        "unit of a timestamp",
        "source: s\npath: s.parquet\nevent_time: {column: t, unit: s}\nschema: {t: timestamp}\n",
    ),
    ("a bool", "source: s\npath: s.parquet\nevent_time: t\nvalid_until: b\nschema: {t: date, b: bool}\n"),
];

pub(crate) const VIEWS: Cases = &[
    ("entity not found", "view: v\nentity: sller\nsource: sellers\nfeatures: [tier]\n"),
    ("source not found", "view: v\nentity: seller\nsource: seller\nfeatures: [tier]\n"),
    ("source far off", "view: v\nentity: seller\nsource: warehouse\nfeatures: [tier]\n"),
    ("entity is a source", "view: v\nentity: sellers\nsource: sellers\nfeatures: [tier]\n"),
    ("entity with three parts", "view: v\nentity: a.b.c\nsource: sellers\nfeatures: [tier]\n"),
    ("entity as a list", "view: v\nentity: [seller]\nsource: sellers\nfeatures: [tier]\n"),
    ("missing keys", "view: v\n"),
    (
        "unknown entity key",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seler_id: id}\nfeatures: [tier]\n",
    ),
    (
        "key without column",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: }\nfeatures: [tier]\n",
    ),
    ("keys as a list", "view: v\nentity: seller\nsource: sellers\nkeys: [seller_id]\nfeatures: [tier]\n"),
    (
        "two keys of one column",
        "view: v\nentity: place\nsource: sellers\nkeys: {country: id, city: id}\nfeatures: [tier]\n",
    ),
    (
        "ttl without unit",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nttl: 90\nfeatures: [tier]\n",
    ),
    (
        "ttl with a fraction",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nttl: 1.5h\nfeatures: [tier]\n",
    ),
    (
        "ttl of nothing",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nttl: 0d\nfeatures: [tier]\n",
    ),
    (
        "ttl in months",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nttl: 3 months\nfeatures: [tier]\n",
    ),
    (
        "ttl as a list",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nttl: [1d]\nfeatures: [tier]\n",
    ),
    (
        "ttl too long",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nttl: 99999999d\nfeatures: [tier]\n",
    ),
    (
        "history forever",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nhistory: forever\nfeatures: [tier]\n",
    ),
    (
        "refresh never",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nrefresh: never\nfeatures: [tier]\n",
    ),
    (
        "retention below ttl",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nttl: 90d\nretention: 30d\nfeatures: [tier]\n",
    ),
    (
        "retention without ttl",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nretention: 30d\nfeatures: [tier]\n",
    ),
    ("ttl without a clock", "view: v\nentity: place\nsource: places\nttl: 1d\nfeatures: [people]\n"),
    (
        "retention without a clock",
        "view: v\nentity: place\nsource: places\nttl: 1d\nretention: 2d\nfeatures: [people]\n",
    ),
    (
        "event_time without a clock",
        "view: v\nentity: place\nsource: places\nwhere: event_time > '2013-01-01'\nfeatures: {a: extract(year from event_time)}\n",
    ),
    (
        "misspelt where",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwere: tier = 'a'\nfeatures: [tier]\n",
    ),
];

pub(crate) const FEATURES: Cases = &[
    ("none", "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\n"),
    ("empty", "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: {}\n"),
    ("empty list", "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: []\n"),
    ("a word", "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: tier\n"),
    ("star in a list", "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: ['*']\n"),
    (
        "expression in a list",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: [tier, \"coalesce(email, '')\"]\n",
    ),
    (
        "torn expression in a list",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: [tier, coalesce(email, 'x')]\n",
    ),
    (
        "column with capitals in a list",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: [Rating]\n",
    ),
    (
        "column with a space in a list",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: [Display Name]\n",
    ),
    (
        "map in a list",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: [{tier: tier}]\n",
    ),
    (
        "listed twice",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: [tier, tier]\n",
    ),
    (
        "named twice",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  tier: tier\n  tier: email\n",
    ),
    (
        "with the view's name",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  v.tier: tier\n",
    ),
    (
        "capital name",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  Tier: tier\n",
    ),
    ("no value", "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  tier:\n"),
    (
        "no expr",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  tier: {sensitivity: pii}\n",
    ),
    (
        "unknown key",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  tier: {expr: tier, sensitivty: pii}\n",
    ),
    (
        "list as value",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  tier: [tier]\n",
    ),
    (
        "star with names that cannot be",
        "source: s\npath: s.csv\nevent_time: t\nschema: {seller_id: int64, t: timestamp, Product Title: string, Rating: float64}\n---\nview: v\nentity: seller\nsource: s\nfeatures: '*'\n",
    ),
];

pub(crate) const EXPRESSIONS: Cases = &[
    (
        "unfinished",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: tier ||\n",
    ),
    (
        "two columns",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: tier email\n",
    ),
    ("alias", "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: tier as t\n"),
    (
        "in without a list",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: tier not in\n",
    ),
    (
        "unclosed bracket",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: coalesce(tier\n",
    ),
    (
        "extra bracket",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: coalesce(tier))\n",
    ),
    (
        "two commas",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: \"coalesce(tier,, 'a')\"\n",
    ),
    (
        "unclosed text",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: tier || 'x\n",
    ),
    ("empty", "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: ''\n"),
    (
        "only spaces",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: '  '\n",
    ),
    (
        "subquery",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: (select max(tier) from sellers)\n",
    ),
    (
        "in a subquery",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: tier in (select tier from sellers)\n",
    ),
    (
        "exists",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: exists (select 1)\n",
    ),
    (
        "aggregate",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: sum(id)\n",
    ),
    (
        "aggregate inside",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: 1 + coalesce(max(id) + 1)\n",
    ),
    (
        "window function",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: row_number() over (order by id)\n",
    ),
    (
        "clock",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: updated_at < now()\n",
    ),
    (
        "current date",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: current_date\n",
    ),
    ("random", "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: random()\n"),
    (
        "placeholder",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: id = $1\n",
    ),
    (
        "star of a function",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: length(*)\n",
    ),
    (
        "statement",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: select tier from sellers\n",
    ),
    (
        "semicolon",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: tier; drop table sellers\n",
    ),
    (
        "case without end",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: case when tier = 'a' then 1\n",
    ),
    (
        "in a block",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: |\n    case\n      when tier = 'a' then 1\n      whn tier = 'b' then 2\n    end\n",
    ),
    (
        "folded",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: >-\n    coalesce(tier,\n    , 'x')\n",
    ),
    (
        "in single quotes",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: 'tier = ''a'' and )'\n",
    ),
    (
        "in double quotes",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: \"tier = \\\"a\\\" and )\"\n",
    ),
    (
        "in a map",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a:\n    expr: tier +\n    sensitivity: pii\n",
    ),
    (
        "after letters of many bytes",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: 'tier = ''é名'' or )'\n",
    ),
    (
        "nested too deep",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((id))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))\n",
    ),
    (
        "chained too long",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  a: id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id + id\n",
    ),
    (
        "where",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwhere: tier = \nfeatures: [tier]\n",
    ),
    (
        "where with like",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nwhere: tier like\nfeatures: [tier]\n",
    ),
    ("order_by", "source: s\npath: s.parquet\nevent_time: t\norder_by: a,b\n"),
    ("order_by desc", "source: s\npath: s.parquet\nevent_time: t\norder_by: a desc\n"),
    ("delete_when", "source: s\npath: s.parquet\nevent_time: t\ndelete_when: op == 'd' ==\n"),
];

pub(crate) const SERVICES: Cases = &[
    ("no features", "service: s\n"),
    ("empty features", "service: s\nfeatures: []\n"),
    ("a word", "service: s\nfeatures: seller_profile.tier\n"),
    ("a map", "service: s\nfeatures: {a: b}\n"),
    ("view not found", "service: s\nfeatures: [seller_profil.tier]\n"),
    ("view far off", "service: s\nfeatures: [weather.temperature]\n"),
    ("feature not found", "service: s\nfeatures: [seller_profile.teir]\n"),
    ("feature far off", "service: s\nfeatures: [seller_profile.price]\n"),
    ("feature of a star view", "service: s\nfeatures: [place_facts.peple]\n"),
    ("a view alone", "service: s\nfeatures: [seller_profile]\n"),
    ("four parts", "service: s\nfeatures: [a.b.c.d]\n"),
    ("capitals", "service: s\nfeatures: [Seller.Tier]\n"),
    ("an entity", "service: s\nfeatures: [seller.tier]\n"),
    ("a list in a list", "service: s\nfeatures: [[seller_profile.tier]]\n"),
    ("nothing in a list", "service: s\nfeatures:\n  -\n"),
    ("no from", "service: s\nfeatures:\n  - {keys: {seller_id: buyer_id}}\n"),
    ("unknown key of a pick", "service: s\nfeatures:\n  - {from: seller_profile, alias: x}\n"),
    ("unknown role key", "service: s\nfeatures:\n  - {from: seller_profile, keys: {buyer_id: seller_id}}\n"),
    ("as with a dot", "service: s\nfeatures:\n  - {from: seller_profile.tier, as: a.b}\n"),
    ("two keys of one name", "service: s\nfeatures:\n  - {from: place_facts, keys: {country: x, city: x}}\n"),
    ("same feature twice", "service: s\nfeatures: [seller_profile.tier, seller_profile.tier]\n"),
    (
        "collision of two views",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: [tier]\n---\nservice: s\nfeatures: [seller_profile.*, v.tier]\n",
    ),
    (
        "collision of roles",
        "service: s\nfeatures:\n  - seller_profile.tier\n  - {from: seller_profile.tier, keys: {seller_id: buyer_id}}\n",
    ),
    (
        "collision with a key",
        "view: v\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures:\n  seller_id: id\n---\nservice: s\nfeatures: [v.seller_id]\n",
    ),
    (
        "key of two types",
        "entity: rated\nkeys: {seller_id: string}\n---\nview: v\nentity: rated\nsource: sellers\nkeys: {seller_id: tier}\nfeatures: [email]\n---\nservice: s\nfeatures: [seller_profile.tier, v.email]\n",
    ),
    ("full_names on", "service: s\nfull_names: on\nfeatures: [seller_profile.tier]\n"),
];

pub(crate) const PUSHED: Cases = &[
    ("push without schema", "source: s\npush: true\nevent_time: t\n"),
    ("push of facts", "source: s\npush: true\nevent_time: none\nschema: {id: int64}\n"),
    (
        "push and path",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\npath: s.parquet\n",
    ),
    (
        "push and sql",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\nsql: select * from sellers\n",
    ),
    (
        "push and store",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\nstore: true\n",
    ),
    (
        "push with a format",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\nformat: csv\noptions: {header: true}\n",
    ),
    ("push is no word", "source: s\npush: yes\nevent_time: t\nschema: {t: timestamp}\n"),
    ("push without event time", "source: s\npush: true\nschema: {t: timestamp}\n"),
    ("past of files", "source: s\npath: s.parquet\nevent_time: t\npast: old.parquet\n"),
    (
        "past with an id",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\nid: n\npast: old.parquet\n",
    ),
    (
        "past of no format",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\npast: data/old.bin\n",
    ),
    (
        "past with a password",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\npast: https://me:hunter2@example.com/old.parquet\n",
    ),
    (
        "past with a password in its path",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\npast: {path: \"https://me:hunter2@example.com/old.parquet\"}\n",
    ),
    (
        "past until some day",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\npast: {path: old.parquet, until: yesterday}\n",
    ),
    (
        "past misspelt",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\npast: {path: old.parquet, untl: 2020-01-01}\n",
    ),
    (
        "past without path",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\npast: {until: 2020-01-01}\n",
    ),
    (
        "past with a wrong option",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\npast: {path: old.csv, options: {headr: true}}\n",
    ),
    ("id of no column", "source: s\npath: s.parquet\nevent_time: t\navailable_at: t\nid: 1\n"),
    (
        "id that is no expression",
        "source: s\npath: s.parquet\nevent_time: t\navailable_at: t\nid: event id\n",
    ),
    (
        "id of keys",
        "source: s\npush: true\nevent_time: t\nschema: {id: int64, t: timestamp, n: int64}\nid: id\n---\nview: v\nentity: seller\nsource: s\nkeys: {seller_id: id}\nfeatures: [n]\n",
    ),
    (
        "id of two keys",
        "source: s\npush: true\nevent_time: t\nid: concat(country, city)\nschema: {country: string, city: string, t: timestamp, n: int64}\n---\nview: v\nentity: place\nsource: s\nfeatures: [n]\n",
    ),
];

pub(crate) const CONFIG: Cases = &[
    ("empty", ""),
    ("only a comment", "# project: shop\n"),
    ("no project", "listen: 127.0.0.1:2763\n"),
    ("bad project", "project: My Shop\n"),
    ("unknown key", "project: shop\nport: 80\n"),
    ("misspelt", "project: shop\nmemmory: 8GB\n"),
    ("a word", "shop\n"),
    ("two documents", "project: shop\n---\nentity: e\nkeys: {a: int64}\n"),
    ("listen without port", "project: shop\nlisten: localhost\n"),
    ("listen as port", "project: shop\nlisten: 8080\n"),
    ("listen port too high", "project: shop\nlisten: 127.0.0.1:99999\n"),
    ("server without scheme", "project: shop\nserver: features.example.com\n"),
    ("password in server", "project: shop\nserver: https://asof:hunter2@features.example.com\n"),
    ("registry", "project: shop\nregistry: postgres://asof:hunter2@db/asof\n"),
    ("online", "project: shop\nonline: redis://cache\n"),
    ("offline", "project: shop\noffline: s3://bucket/tables\n"),
    ("storage", "project: shop\nstorage: {aws_secret_access_key: hunter2}\n"),
    ("certificate without key", "project: shop\ntls_certificate: cert.pem\n"),
    ("key without certificate", "project: shop\ntls_key: key.pem\n"),
    ("misspelt tls", "project: shop\ntls_cert: cert.pem\ntls_key: key.pem\n"),
    ("memory in words", "project: shop\nmemory: lots\n"),
    ("memory zero", "project: shop\nmemory: 0GB\n"),
    ("threads zero", "project: shop\nthreads: 0\n"),
    ("threads half", "project: shop\nthreads: 1.5\n"),
    ("sample over all", "project: shop\nserving_log_sample: 10\n"),
    ("sample as a text", "project: shop\nserving_log_sample: \"0.1\"\n"),
    ("keep without a unit", "project: shop\nserving_log_keep: 30\n"),
    ("broken", "project: shop: x\n"),
];

pub(crate) const OTHER_PROJECTS: Cases = &[
    (
        "id of keys",
        "source: s\npush: true\nevent_time: t\nid: id\nschema: {id: int64, t: timestamp, n: int64}\n---\nview: v\nentity: market.seller\nsource: s\nkeys: {seller_id: id}\nfeatures: [n]\n",
    ),
    (
        "windows over facts",
        "view: v\nentity: market.place\nsource: market.places\nfeatures:\n  n: {agg: count(*), windows: [7d]}\n",
    ),
    (
        "project not found",
        "view: v\nentity: marked.seller\nsource: sellers\nkeys: {seller_id: id}\nfeatures: [tier]\n",
    ),
    ("entity not found", "view: v\nentity: market.seler\nsource: sellers\nfeatures: [tier]\n"),
    ("source not found", "view: v\nentity: seller\nsource: market.listings\nfeatures: [tier]\n"),
    ("key not found", "view: v\nentity: market.seller\nsource: sellers\nkeys: {id: id}\nfeatures: [tier]\n"),
    (
        "ttl without a clock",
        "view: v\nentity: market.place\nsource: market.places\nttl: 1d\nfeatures: [people]\n",
    ),
    ("view not found", "service: s\nfeatures: [market.seller_profil.tier]\n"),
    ("feature not found", "service: s\nfeatures: [market.seller_profile.teir]\n"),
    ("project of a service not found", "service: s\nfeatures: [bazaar.seller_profile.tier]\n"),
    (
        "collision of two projects",
        "service: s\nfeatures: [market.seller_profile.tier, seller_profile.tier]\n",
    ),
    ("query of another project", "source: s\nsql: select * from market.sellrs\nevent_time: t\n"),
];

pub(crate) const ALL: [Cases; 14] = [
    YAML,
    DOCUMENTS,
    ENTITIES,
    SOURCES,
    TIMES,
    VIEWS,
    FEATURES,
    EXPRESSIONS,
    SERVICES,
    crate::wrong_windows::WINDOWS,
    PUSHED,
    crate::wrong_derived::DERIVED,
    CONFIG,
    OTHER_PROJECTS,
];
