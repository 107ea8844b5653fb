//! Every key of every kind of document, once. The reader, the JSON Schema for editors and the
//! reference page are all made from these tables: a key that is not here does not exist.

use crate::Format;

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A name: lower-case letters, digits, underscores.
    Name,
    /// A name, or `project.name` for another project's.
    Reference,
    /// Any text.
    Text,
    /// A list of texts.
    Texts,
    /// A SQL expression over one row.
    Expression,
    /// A SQL query.
    Query,
    /// `90d`, `1h`, `15m`.
    Length,
    /// A length, `all` or `none`.
    History,
    /// A length or `all`.
    WindowLength,
    /// A length or `none`.
    Resolution,
    /// A list of lengths, `all` and maps.
    Windows,
    /// A call of an aggregate.
    Call,
    /// A constant.
    Constant,
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A path, or `{path, format, options, until}`.
    Past,
    /// An instant.
    Instant,
    /// A column, `{column, unit, zone}` or an expression.
    Time,
    /// The same, or `none`.
    EventTime,
    /// Name to type, in order; the names are Asof's.
    KeyTypes,
    /// Column to type, in order; the names are the data's.
    ColumnTypes,
    /// Entity key to source column.
    KeyColumns,
    /// Entity key to the name it has in requests and spines.
    KeyNames,
    /// `"*"`, a list of columns, or a map of name to expression or map.
    Features,
    /// A map of name to expression or map, of derived features.
    DerivedFeatures,
    /// A list of maps of `from`, `after` and `as`.
    Labels,
    /// A list of `view.feature`, `view.*` or maps.
    Picks,
    /// Option to value.
    Options,
    /// Bytes: `512MB`, `24GiB`.
    Size,
    /// A whole number, at least 1.
    Count,
    /// A number from 0 to 1.
    Share,
    /// Recognised, and refused as not built yet: what to do instead.
    NotYet(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
    /// Whether a document without it is refused.
    pub(crate) required: bool,
    /// What it means, in a sentence.
    pub(crate) about: &'static str,
}

/// One kind of document or of map within one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    /// e.g. `view`.
    pub(crate) thing: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
    pub(crate) keys: &'static [Key],
    /// An example that a test parses.
    pub(crate) example: &'static str,
}

impl Table {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn must(name: &'static str, takes: Takes, about: &'static str) -> Key {
    Key { name, takes, required: true, about }
}

const fn may(name: &'static str, takes: Takes, about: &'static str) -> Key {
    Key { name, takes, required: false, about }
}

const OWNER: Key = may("owner", Takes::Text, "The team or person to ask. `plan` lists what lacks one.");
const DESCRIPTION: Key = may("description", Takes::Text, "A sentence or more for people; searched.");
const TAGS: Key = may("tags", Takes::Texts, "Words to search by.");

pub(crate) static CONFIG: Table = Table {
    thing: "asof.yaml",
    about: "The project's own file, at the top of its folder. `ASOF_*` variables override it, flags override both.",
    keys: &[
        must("project", Takes::Name, "The project's name; its things are `project.name` to other projects."),
        may("server", Takes::Text, "The URL of a remote node that commands speak to."),
        may("listen", Takes::Text, "Address and port that `asof up` listens on. Default `127.0.0.1:2763`."),
        may("data_dir", Takes::Text, "The folder of the node's stores. Default `.asof`."),
        may(
            "memory",
            Takes::Size,
            "How much memory queries may take, e.g. `8GB`. Default: half of the machine's.",
        ),
        may("threads", Takes::Count, "How many threads queries may use. Default: one a core."),
        may(
            "operations",
            Takes::Count,
            "How many trainings, rebuilds, loads, materialisations, refreshes, backups and checks of consistency a node does at once, and beside them how many plans and applies; more wait. Each may take `memory`. Default: half of `threads`, from 2 to 4.",
        ),
        may(
            "serving_log_sample",
            Takes::Share,
            "The share of keys of which every answer is kept in the serving log, which `asof check consistency` answers again: 0 keeps nothing, 1 all. It holds keys and feature values. Default 0.01.",
        ),
        may("serving_log_keep", Takes::Length, "How long files of the serving log are kept. Default `30d`."),
        may(
            "flush_interval",
            Takes::Length,
            "The longest that a pushed row waits in the intake log to be moved into its source's table. Default `60s`.",
        ),
        may(
            "tls_certificate",
            Takes::Text,
            "The server's certificate chain, a PEM file; with `tls_key`. Relative paths start at the project's folder.",
        ),
        may("tls_key", Takes::Text, "The certificate's private key, a PEM file."),
        may(
            "tls_authorities",
            Takes::Text,
            "The authorities that commands trust a remote node by, a PEM file. Default: those of the machine.",
        ),
        may(
            "registry",
            Takes::NotYet("leave it out: definitions and records are kept in SQLite in `data_dir`"),
            "Where definitions and records are kept.",
        ),
        may(
            "online",
            Takes::NotYet("leave it out: the newest rows are kept in an embedded store in `data_dir`"),
            "Where the newest rows are kept.",
        ),
        may(
            "offline",
            Takes::NotYet("leave it out: tables of stored sources are kept in `data_dir`"),
            "Where tables of stored sources are kept.",
        ),
        may(
            "storage",
            Takes::NotYet("leave it out: sources and stores are on this machine's disks"),
            "Options of object stores.",
        ),
    ],
    example: "project: shop\nmemory: 8GB\nthreads: 4\n",
};

pub(crate) static ENTITY: Table = Table {
    thing: "entity",
    about: "What rows are about: one or several keys.",
    keys: &[
        must("entity", Takes::Name, "Its name."),
        must("keys", Takes::KeyTypes, "Its keys in order, each with its type."),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
    example: "entity: seller\nkeys: {seller_id: int64}\ndescription: A person or shop that posts listings.\nowner: marketplace-data\n",
};

pub(crate) static SOURCE: Table = Table {
    thing: "source",
    about: "Where rows come from and how their times are read.",
    keys: &[
        must("source", Takes::Name, "Its name."),
        may(
            "path",
            Takes::Text,
            "A file, glob or folder, or one of these as `file://`, read in place. Relative paths start at the project's folder.",
        ),
        may(
            "format",
            Takes::Choice(&Format::NAMES),
            "How the files are read. Default: by the ending of `path`; a folder is `delta`.",
        ),
        may(
            "options",
            Takes::Options,
            "Options of the format: `hive_partitioning`, `union_by_name`; for csv also `delimiter`, `header`, `quote`, `escape`, `comment`, `null`.",
        ),
        may("sql", Takes::Query, "A query over other sources, in place of `path`."),
        may(
            "push",
            Takes::Bool,
            "`true`, in place of `path`: rows are pushed and kept in a Delta table of the source; with a `schema`. Default `false`.",
        ),
        may(
            "past",
            Takes::Past,
            "Of a pushed source without `id`: a path, or `{path, format, options, until}`, where rows from before it was pushed to are read in place.",
        ),
        may(
            "store",
            Takes::Bool,
            "`true`: rows are copied into a Delta table of the source by `asof load`, and read from there. Default `false`.",
        ),
        must(
            "event_time",
            Takes::EventTime,
            "When a row happened: a column, `{column, unit, zone}`, an expression, or `none` for facts without a clock.",
        ),
        may(
            "available_at",
            Takes::Time,
            "When a row may be used; null means never. Default: at its event time.",
        ),
        may("valid_until", Takes::Time, "From then on the row no longer answers; null means always."),
        may(
            "id",
            Takes::Expression,
            "Names the event that a row is a version of: of each id the row that is visible last counts, and a delete takes it back. Null: an event of its own.",
        ),
        may(
            "order_by",
            Takes::Expression,
            "The tie-break among rows of one event time and one visible time; the last wins, null is first.",
        ),
        may(
            "delete_when",
            Takes::Expression,
            "True for a row that is a delete: with an `id` it withdraws that event, without one it ends its key at its event time.",
        ),
        may(
            "null_keys",
            Takes::Choice(&["keep", "refuse"]),
            "What a null key does: `keep` counts the row under no entity, `refuse` refuses it at intake. Default `keep`.",
        ),
        may(
            "schema",
            Takes::ColumnTypes,
            "Columns and their types, where they are not to be inferred from the data; of a pushed source all of them.",
        ),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
    example: "source: sellers\npath: data/sellers/*.parquet\nevent_time: updated_at\navailable_at: loaded_at\n",
};

pub(crate) static PAST: Table = Table {
    thing: "past",
    about: "Where the rows of a pushed source stand from before it was pushed to.",
    keys: &[
        must(
            "path",
            Takes::Text,
            "A file, glob or folder, or one of these as `file://`, read in place, with the columns of the source.",
        ),
        may(
            "format",
            Takes::Choice(&Format::NAMES),
            "How the files are read. Default: by the ending of `path`.",
        ),
        may("options", Takes::Options, "Options of the format, as those of a source."),
        may("until", Takes::Instant, "Only rows that happened before this are read. Default: all."),
    ],
    example: "path: archive/2024/*.parquet\nuntil: 2025-01-01T00:00:00Z\n",
};

pub(crate) static TIME: Table = Table {
    thing: "time",
    about: "An instant read from a column.",
    keys: &[
        must("column", Takes::Text, "The column."),
        may(
            "unit",
            Takes::Choice(&["s", "ms", "us", "ns"]),
            "The unit of an integer column, counted from 1970-01-01 UTC.",
        ),
        may(
            "zone",
            Takes::Text,
            "The IANA zone in which times without one were written, e.g. `America/New_York`. Default UTC.",
        ),
    ],
    example: "column: posted_at\nzone: America/New_York\n",
};

pub(crate) static VIEW: Table = Table {
    thing: "view",
    about: "A reading of a source for an entity. The latest row answers for all its features; or, in a view with windows, each is an aggregate over the rows of one, and is asked for as `NAME_WINDOW`, e.g. `listings_7d`.",
    keys: &[
        must("view", Takes::Name, "Its name."),
        must("entity", Takes::Reference, "The entity its rows are about."),
        must("source", Takes::Reference, "The source it reads."),
        may("keys", Takes::KeyColumns, "Entity key to column, where the column is named unlike the key."),
        may("where", Takes::Expression, "Only rows for which this is true."),
        may(
            "windows",
            Takes::Windows,
            "The windows of its aggregates, `1m` to `365d` or `all`: `[1h, 7d]`. An aggregate may have its own.",
        ),
        may(
            "include_now",
            Takes::Bool,
            "What windows do that do not say: `true` counts what happens at the very time asked. Default `false`.",
        ),
        may(
            "resolution",
            Takes::Length,
            "What windows have that do not say: their lower edge is floored to a multiple of it. Default: exact.",
        ),
        must(
            "features",
            Takes::Features,
            "`\"*\"` for all columns that are not keys or times, a list of columns, or a map of name to expression. With windows: a map of name to `{agg: ...}`.",
        ),
        may(
            "ttl",
            Takes::Length,
            "How long a row answers after its event time; not with windows. Default: always.",
        ),
        may(
            "history",
            Takes::History,
            "How far back `as_of` is answered online: a length, `all` or `none`. Default `none`.",
        ),
        may("refresh", Takes::Length, "How often a running node materialises it. Default: only when asked."),
        may(
            "retention",
            Takes::Length,
            "How long rows are kept online, counted back from `history`; at least `ttl`, or length, offset and resolution of every window. Default: as needed.",
        ),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
    example: "view: seller_profile\nentity: seller\nsource: sellers\nkeys: {seller_id: id}\nttl: 90d\nrefresh: 1h\nfeatures:\n  tier: tier\n  name_length: char_length(display_name)\n  email: {expr: email, sensitivity: pii}\n",
};

pub(crate) static FEATURE: Table = Table {
    thing: "feature",
    about: "One value of a view.",
    keys: &[
        may(
            "expr",
            Takes::Expression,
            "Its value, over the columns of the row that answers; `event_time` is the row's own time.",
        ),
        may(
            "agg",
            Takes::Call,
            "In place of `expr`, with windows: an aggregate of one expression over a row, or of `*`; behind it constants that it takes, and `filter (where ...)`.",
        ),
        may("windows", Takes::Windows, "The windows of the aggregate. Default: those of the view."),
        may(
            "default",
            Takes::Constant,
            "Stands in where no row answers: in place of `not_found`, `expired` and the null of an empty window. A null in a row that answers stays null.",
        ),
        may(
            "sensitivity",
            Takes::Text,
            "e.g. `pii`; carried into every list and record. `asof show` masks its values, and those of the columns it reads, unless it is `public` or `none`.",
        ),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
    example: "agg: count(*) filter (where category = 'phones')\nwindows: [7d, {length: 7d, offset: 7d, as: before}]\n",
};

pub(crate) static WINDOW: Table = Table {
    thing: "window",
    about: "The rows that an aggregate is over, asked at t: those with `t - offset - length <= event_time < t - offset`. What happens at t itself does not count.",
    keys: &[
        must("length", Takes::WindowLength, "How long it is, `1m` to `365d`; `all` has no lower edge."),
        may(
            "offset",
            Takes::Length,
            "How long before the time asked the window ends. Default: at the time asked.",
        ),
        may(
            "as",
            Takes::Name,
            "What names of features end in: `NAME_AS`. Default: the length, as `7d`, and the offset, as `7d_offset_7d`.",
        ),
        may(
            "include_now",
            Takes::Bool,
            "`true`: `t - offset - length < event_time <= t - offset`. Default: as the view says, `false`.",
        ),
        may(
            "resolution",
            Takes::Resolution,
            "The lower edge is floored to a multiple of this since 1970-01-01 UTC, at most the length; `none` is exact. Default: as the view says, exact.",
        ),
    ],
    example: "length: 7d\noffset: 7d\nas: before\n",
};

pub(crate) static DERIVED: Table = Table {
    thing: "derived",
    about: "Features computed of other features of the same request, of what the request brings, and of its time. Asked for as `derived.feature`, like those of a view.",
    keys: &[
        must("derived", Takes::Name, "Its name; no view of the project has it."),
        may(
            "request",
            Takes::KeyTypes,
            "What a request brings beside keys, each with its type; in a training set columns of the spine.",
        ),
        must(
            "features",
            Takes::DerivedFeatures,
            "A map of name to expression over `view.feature`, `derived.feature`, `project.view.feature`, the names of `request`, and `request_time`, the time asked.",
        ),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
    example: "derived: listing_price\nrequest: {price: float64}\nfeatures:\n  above_zero: price > 0\n  asked_at: {expr: request_time, description: The time of the request.}\n",
};

pub(crate) static DERIVED_FEATURE: Table = Table {
    thing: "derived feature",
    about: "One value of a derived.",
    keys: &[
        must("expr", Takes::Expression, "Its value."),
        may(
            "sensitivity",
            Takes::Text,
            "e.g. `pii`; carried into every list and record. What it is computed of has its own.",
        ),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
    example: "expr: price > 0\n",
};

pub(crate) static SERVICE: Table = Table {
    thing: "service",
    about: "What one model asks for, in order: the contract it is trained and served on.",
    keys: &[
        must("service", Takes::Name, "Its name."),
        must(
            "features",
            Takes::Picks,
            "`view.feature`, `view.*`, `project.view.feature`, or a map for a view in another role; a derived is named like a view.",
        ),
        may(
            "labels",
            Takes::Labels,
            "What the model is to learn: features of views read some time after the time asked, late rows and all. Columns of training sets, behind the features; never served.",
        ),
        may("full_names", Takes::Bool, "`true`: output columns are `view__feature`. Default `false`."),
        DESCRIPTION,
        OWNER,
        TAGS,
    ],
    example: "service: category_model\nfeatures:\n  - seller_profile.tier\n  - {from: seller_profile, keys: {seller_id: buyer_id}, as: buyer}\n",
};

pub(crate) static PICK: Table = Table {
    thing: "service feature",
    about: "A view, or one feature of it, in another role or under another name.",
    keys: &[
        must(
            "from",
            Takes::Text,
            "`view`, `view.feature`, or `project.view.feature`; `*` stands for all features.",
        ),
        may("keys", Takes::KeyNames, "Entity key to the name it has in requests and spines."),
        may(
            "as",
            Takes::Name,
            "The output name of one feature; of a whole view what its output names begin with: `as_feature`.",
        ),
    ],
    example: "from: seller_profile\nkeys: {seller_id: buyer_id}\nas: buyer\n",
};

pub(crate) static LABEL: Table = Table {
    thing: "label",
    about: "A feature of a view, read at `t + after` with the question *event*. Where the source does not reach so far it is null, and counted as not mature.",
    keys: &[
        must("from", Takes::Text, "`view.feature`, or `project.view.feature`."),
        must("after", Takes::Length, "How long after the time asked it is read."),
        may("keys", Takes::KeyNames, "Entity key to the name it has in spines."),
        may("as", Takes::Name, "Its output name. Default: the feature's."),
    ],
    example: "from: seller_profile.tier\nafter: 7d\nas: tier_in_a_week\n",
};

/// The kinds of documents below `features/`, in the order a document is tried for them.
pub(crate) static DOCUMENTS: [&Table; 5] = [&VIEW, &DERIVED, &SERVICE, &SOURCE, &ENTITY];

/// Every table, in the order of the reference page.
pub(crate) static ALL: [&Table; 13] = [
    &CONFIG,
    &ENTITY,
    &SOURCE,
    &PAST,
    &TIME,
    &VIEW,
    &FEATURE,
    &WINDOW,
    &DERIVED,
    &DERIVED_FEATURE,
    &SERVICE,
    &PICK,
    &LABEL,
];
