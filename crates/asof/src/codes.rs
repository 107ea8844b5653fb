//! What every error code means and what to do, for `asof explain`. A code that any room can give stands
//! here: a test finds them in the sources of the workspace.

use asof_model::Kind;

/// The kind, the codes of that kind and what each means.
type Codes = (Kind, &'static [(&'static str, &'static str)]);

/// Every code, by kind; those that errors of several kinds carry stand with the one met most.
pub(crate) const CODES: [Codes; 9] = [
    (Kind::Invalid, &INVALID),
    (Kind::NotFound, &NOT_FOUND),
    (Kind::Conflict, &CONFLICT),
    (Kind::Unauthenticated, &UNAUTHENTICATED),
    (Kind::Forbidden, &FORBIDDEN),
    (Kind::Exhausted, &EXHAUSTED),
    (Kind::Timeout, &TIMEOUT),
    (Kind::Unavailable, &UNAVAILABLE),
    (Kind::Internal, &INTERNAL),
];

/// Every code with its kind and its text.
pub(crate) fn all() -> impl Iterator<Item = (Kind, &'static str, &'static str)> {
    CODES.into_iter().flat_map(|(kind, codes)| codes.iter().map(move |(code, text)| (kind, *code, *text)))
}

#[rustfmt::skip]
const INVALID: [(&str, &str); 194] = [
    ("aggregate_call", "An aggregate is called with an argument or constants that it does not take. docs/reference/aggregates.md has how each is called; the hint says it of this one."),
    ("aggregate_in_expression", "An expression is over one row, so it holds no aggregate such as sum. An aggregate is an `agg` in a view with windows, or stands in a source's `sql`."),
    ("aggregate_not_found", "An `agg` names an aggregate that there is not. The hint names the nearest, or all."),
    ("ambiguous_id", "The beginning of an id that was given fits several. The hint lists them: write more of it."),
    ("as_of_after_now", "The online store answers the present and, within a view's `history`, the past; not the future. Leave `as_of` out for the present."),
    ("bad_aggregate", "An `agg` is one call of an aggregate: a name, one expression over a row or `*`, constants behind it, `filter (where ...)`. What is computed of several aggregates is computed where they are used."),
    ("bad_arrow", "The body of a push says it is an Arrow IPC stream and is none, or is damaged or cut short. Nothing of it was taken; send the stream format, not the file format."),
    ("bad_as_of", "`as_of` is not an instant. Write it as 2013-06-01T12:00:00Z, with a zone or Z."),
    ("bad_config", "asof.yaml has problems. All are listed above the message, each with its line and what to do."),
    ("bad_content_type", "The body is of a content type that this endpoint does not take. Rows are pushed as application/json, application/x-ndjson or application/vnd.apache.arrow.stream."),
    ("bad_definitions", "The files of the project have problems. All are listed above the message, each with its file, line and column, what is wrong and what to do."),
    ("bad_feature", "A feature is asked for in a form that is none. Write `view.feature`, `view.*` or `project.view.feature`."),
    ("bad_grpc_message", "A call of gRPC is not one whole message, uncompressed and over HTTP/2, of what proto/asof/v1/intake.proto says that it takes. The message says what it is instead."),
    ("bad_idempotency_key", "An Idempotency-Key is one line of 1 to 255 plain characters, made once for each batch, e.g. a UUID."),
    ("bad_json", "The request's body is not JSON, or not of the shape this endpoint takes. The message says where; /docs shows an example."),
    ("bad_key", "Keys are given to `asof get` as KEY=VALUE, once per entity: seller_id=42 seller_id=43."),
    ("bad_key_column", "A column of `entities` is no list. Every key has a list with one value per entity: {\"seller_id\": [42]}."),
    ("bad_key_type", "A column of keys has another type than the entity's key. Cast it where it is made."),
    ("bad_key_value", "A value of a key column is not of the type its entity says. Nothing is rounded or converted: 1.0 is no int64. The message names the column and the position, never the value."),
    ("bad_listen_address", "The address to listen on cannot be used. Write HOST:PORT, e.g. 127.0.0.1:2763; port 0 takes a free one."),
    ("bad_name", "Names of projects and things have lower-case letters, digits and underscores, begin with a letter and are at most 63 long."),
    ("bad_query", "The query part of the request's URL is not what the endpoint takes. /docs shows what it takes."),
    ("bad_request", "The request is not HTTP that this endpoint can read. /docs shows an example."),
    ("bad_request_value", "A value of `request` is not of the type that the derived declares, or stands not in a list. The message names the column and the position, never the value."),
    ("bad_root", "The project's folder has a path that is not UTF-8 text. Move the project into a folder whose path is."),
    ("bad_row", "A row of a file breaks a rule of its source, and the file was not loaded. Mend the file, or load with --on-bad-row quarantine: then bad rows go to a table of their own, each with its reason."),
    ("bad_rows", "Rows of a pushed batch break a rule of their source, or an expression of a view fails on them; nothing of the batch was taken. All are told by their numbers, from 1, in stretches (`rows 1-40, 77`), the first 50 with their reasons; a text past 1,000 stretches says how many it leaves out, and after 10,000 bad rows no more are looked for. Mend them or leave them out, and send the batch again."),
    ("bad_rows_given", "`asof push` takes one file, or - for standard input, or one row as COLUMN=VALUE."),
    ("bad_server_url", "The URL of the node to speak to is none. Write http://HOST:PORT or https://HOST:PORT."),
    ("bad_setting", "A variable or flag has a value its setting cannot take. `asof doctor` shows every setting and where it comes from."),
    ("bad_since", "`since` is not an instant. Write it as 2013-06-01T12:00:00Z, with a zone or Z."),
    ("bad_spine_time", "The spine's time column is not a time. Give a timestamp or a text of times, or integers with a unit: --time COLUMN:ms."),
    ("bad_stdin", "What came on stdin cannot be read as the command expects it. Say its format with --spine-format, or give a file."),
    ("bad_time_unit", "A unit of times is s, ms, us or ns: --time COLUMN:ms."),
    ("bad_tls_file", "A certificate or key cannot be used. Both are PEM files: the certificate chain, and its private key, which must belong together."),
    ("bad_type", "A type is written that there is none of. The message lists the types; docs/reference/definitions.md explains them."),
    ("bad_upload", "The body of a load of several files is not as long as `files` says. Nothing was loaded; send it again. A file that grew while it was sent gives this as well."),
    ("bad_window", "A window is 1m to 365d long, or `all`; its `resolution` is at most its length, and `all`, which has no lower edge, has none."),
    ("batch_too_large", "A pushed batch has at most 100,000 rows. Send it in several; for a past of many rows use `asof load`."),
    ("beyond_history", "Online the past is answered as far back as the view's `history` says. Ask offline with `asof train` and a spine of the keys and times, or give the view a longer history."),
    ("body_broken", "The request's body ended before it was whole. Nothing was done with it; send it again."),
    ("body_stalled", "The request's body stood still for too long, or came at next to nothing a second. Nothing was done with it; send it again."),
    ("body_too_large", "The request's body is over the limit. Split the request; for many rows use `asof train`."),
    ("both_asked", "A service and single features were asked for at once. Ask for one or the other."),
    ("clockless", "A source with `event_time: none` holds facts without a clock: nothing of it has a ttl, a history or a time at which it is available, and no label is read of it. Name its `event_time`, or leave those keys out."),
    ("column_collision", "Two output columns would have the same name: two features, or a feature and a column of the spine or a key. Give one of them another with `as:`, or ask for full names, which are view__feature."),
    ("column_hidden", "A column stands in the files of a source and in the names of their `key=value` folders, and the folders' value is read. To read the files' own, set `options: {hive_partitioning: false}`."),
    ("column_left_out", "A column of the data has a type there is no counterpart of, so it is left out. A source with `sql` can cast it."),
    ("column_not_found", "A column is named that the data does not have. Columns are named as the data has them, letter for letter; the hint names the nearest."),
    ("column_twice", "Two columns of a source have one name, in a file or in the result of its `sql`. Rename one of them; in a query give it another name with `as`."),
    ("column_type", "A column's type is not what the definition says or what its use needs. Correct `schema`, or cast the column in an expression."),
    ("config_documents", "asof.yaml is one document. Definitions stand in files below features/."),
    ("config_secret", "A password stands in a file. Files go into version control: leave it out; commands send the token of the variable ASOF_TOKEN."),
    ("conflicting_keys", "Two keys of a definition exclude one another. The hint says which to remove."),
    ("csv_nested", "A training set with lists or structs cannot be written as CSV. Write Parquet, NDJSON or Arrow."),
    ("default_type", "A `default` stands in for a value of its feature, so it is of the feature's type. Write another constant, or cast the feature."),
    ("defined_twice", "Two documents of the project define a thing of the same kind and name. Rename or remove one; the message names both places."),
    ("deletes_without_id", "A delete that names no row by its `id` ends a key, and what it takes from a window cannot be told. Give the source an `id`, or leave out its `delete_when`."),
    ("delta_broken", "The log of a Delta table cannot be read. Read the table with the engine that writes it, and mend it there."),
    ("delta_mapping_by_id", "A Delta table maps its columns by id, and a file's ids do not fit its log. The table is refused rather than read wrong; let the engine that wrote it rewrite that file."),
    ("delta_reader_feature", "The Delta table asks of its readers a feature that this program does not know, or does not read the `past` of a source with, so it is refused rather than read wrong. Turn the feature off where the table is written, or export it as Parquet."),
    ("delta_reader_version", "The Delta table asks for a newer reader than this program is. Write it for reader version 3 or below."),
    ("demo_is_local", "The demo runs a node of its own; leave --server out."),
    ("derived_cycle", "A derived feature reads itself, by way of others. The message names the ring; a feature reads what can be computed before it."),
    ("derived_label", "A label is read from a view, some time after the time asked; a derived feature is of the request's own time. Name a feature of a view."),
    ("derived_too_deep", "Derived features stand on one another further than is followed. Write some of them into one expression."),
    ("duplicate_key", "A key is written twice in one map, so one of them would be lost. Keep one."),
    ("duplicate_value", "Something is listed twice where it may stand once. Remove one."),
    ("empty_value", "A key is written without a value. Give it one, or remove the key."),
    ("exposed_address", "Other machines can reach the address, and the server has no token or no TLS. Set ASOF_TOKEN and give --tls-certificate and --tls-key, or say --insecure where the network itself is trusted."),
    ("expression_aggregate", "An expression is over one row, so it holds no aggregate. An aggregate is an `agg` in a view with windows, or stands in a source's `sql`."),
    ("expression_empty", "An expression is needed, and the text is empty."),
    ("expression_failed", "An expression cannot be computed: for these columns at all, or for some value, such as a division by zero. Guard it with `nullif`, `try_cast` or `case`."),
    ("expression_not_bool", "A condition, such as `where` or `delete_when`, is not true or false. Compare with something."),
    ("expression_not_id", "An `id` names an event by a whole number, a text, a uuid, a time or a bool; a float or what holds several values names none. Name a column that does."),
    ("expression_not_of_the_row", "An expression uses something that is not of the row: the present, the session, a variable. The same expression must give the same value whenever it is asked."),
    ("expression_not_time", "An expression that stands for a time gives something else. Cast it: to_timestamp(...)."),
    ("expression_placeholder", "An expression has no parameters such as $1 or ?. Write the value."),
    ("expression_subquery", "An expression is over one row and holds no query. Join in a source's `sql` instead."),
    ("expression_syntax", "The text is not a SQL expression. The caret shows where reading stopped."),
    ("expression_too_deep", "The expression is nested deeper than is read. Split it, or compute parts of it in a source's `sql`."),
    ("expression_too_large", "The expression is longer than is read. Compute parts of it where the source is made."),
    ("expression_type", "The parts of an expression have types that do not go together, or it gives a type there is none of. Cast one of them."),
    ("expression_wildcard", "`*` stands for no one value. Name the columns."),
    ("feature_twice", "Two features of a view, each named with its window, have one name. Rename one, or give its window another ending with `as:`."),
    ("file_broken", "A file is not of the format its source says, or is damaged. The message says where reading stopped."),
    ("foreign_thing", "An apply changes one project; this one holds a thing of another. Apply each project from its own folder."),
    ("format_unknown", "The ending of a path does not say how it is read. Write `format: parquet`, `csv`, `ndjson` or `delta`."),
    ("function_not_deterministic", "A function gives another value each time it is asked, such as now or random; then training and serving would differ. Use the row's own columns."),
    ("function_not_found", "There is no function of this name. The hint names the nearest; functions are DataFusion's."),
    ("id_of_keys", "An `id` names one event among those of a key. One that is made of a view's keys alone would leave one row of each key; where a row replaces the one before it, leave `id` out."),
    ("integer_overflow", "An integer of a query comes out larger or smaller than its type holds, which DataFusion by itself would wrap. Cast to a wider type first: `cast(x as decimal(38, 0))`, or `cast(x as double)` where it need not be exact."),
    ("is_a_folder", "A file is needed, and the path is a folder. Name the file, or a query: --spine \"select ...\"."),
    ("key_conflict", "Two views read in one request take a key of the same name, of different types. Read one of them in another role: {from: VIEW, keys: {KEY: OTHER_NAME}} in a service."),
    ("key_not_found", "A key is named that the entity does not have. The hint lists its keys."),
    ("key_twice", "A key column is given twice. Give it once, with one value per entity."),
    ("key_type", "A source's column is bound to an entity's key of another type. Bind another column, or cast it in a source's `sql`."),
    ("key_types", "Two views take a key of the same name, of different types. Give one of them another name in its role: `keys: {KEY: OTHER_NAME}`."),
    ("live_entry_newer", "The live store has entries that a newer Asof wrote. Use the version that wrote them, or a newer one."),
    ("live_rows_newer", "The intake log has rows that a newer Asof wrote. Use the version that wrote them, or a newer one."),
    ("missing_key", "Something that must be given is not: a key of a document, or a key column of a request. The message names it."),
    ("missing_request_column", "Derived features read something of the request that it does not bring. Add it to `request`, one value per entity: {\"request\": {\"price\": [199]}}; in a spine it is a column."),
    ("new_column", "A file brings a column that the stored source does not have. Add it to the source's `schema` and apply, or leave it out of the file; nothing was loaded."),
    ("no_entities", "A request for features names at least one entity: {\"entities\": {\"seller_id\": [42]}}."),
    ("no_features", "Neither a service nor a feature is asked for. Name a service, or features as `view.feature` or `view.*`."),
    ("no_service", "Neither a service nor --features is named. Write `asof get SERVICE key=value`."),
    ("no_spine", "A training set is made from a spine: rows with keys and a time. Send one as the body, or a query."),
    ("no_spine_format", "The format of a spine sent as bytes is not said, and its name does not say it. Say parquet, csv, ndjson or arrow."),
    ("no_time_column", "The spine has no column of times. Name one with --time, with a unit where it is of integers: --time COLUMN:ms."),
    ("no_windows", "An aggregate is over windows of time, and none are written. Write `windows: [7d]` beside it, or for the whole view."),
    ("no_words", "A search takes at least one word."),
    ("not_a_backup", "The folder is none that `asof backup` made, or not whole. Name one that is."),
    ("not_a_definition", "A document's first key is its kind: entity, source, view, derived or service."),
    ("not_a_registry", "The file where the registry should stand is something else. Look at --data-dir."),
    ("not_a_time", "A column named as a time is not one. For integers say the unit: {column: NAME, unit: ms}."),
    ("not_an_aggregate", "In a view with windows every feature is an `agg`. The latest value stands in a view without windows."),
    ("not_built_yet", "The key, variable, kind of document or way to ask is known and will be, but is not built yet. The hint says what to do instead."),
    ("not_json", "The body is not JSON, or its content type does not say so. Send application/json."),
    ("not_utf8", "A file of definitions is not UTF-8 text. Save it as UTF-8."),
    ("nothing_asked", "Neither a service nor features are asked for. Name one service, or features as `view.feature`."),
    ("null_key", "The spine has a null key, and --on-null-key refuse was said. The message names the row; `keep` gives it nulls with status no_key."),
    ("null_time", "The spine has a row without a time, and without one no value can be told. Fill it or leave the row out; the message names the row."),
    ("online_row_too_long", "An `id`, an entity's key or a row of a view is longer than the online store takes; of a push the message names row and column, and nothing of it was stored. Send a shorter one, or leave out the view's longest columns."),
    ("online_store_newer", "The online store was written by a newer program. Use that one; or remove the folder `online` of the data directory, and materialise again."),
    ("out_is_input", "What --out names would be written over what the training reads: its spine, a file of a source, or one of the data directory. Name another file."),
    ("overflow", "A value over a window is out of the range of its type, or more values counted than the cap of its aggregate. Give a larger cap, a smaller window, or ask for null in its place with `--on-overflow null`."),
    ("progress_newer", "What a view has read was written down by a newer program. Use that one, or a newer one."),
    ("project_needed", "The node serves several projects or none by default: say which, in `project`."),
    ("query_not_select", "A query here only reads: it begins with select, with or values."),
    ("quote_expression", "YAML took a part of an expression for its own. Quote the expression, as the corrected line of the hint does, or put it on its own line after |."),
    ("record_newer", "A stored record was written by a newer program. Use that one, or restore the backup made before."),
    ("registry_newer", "The registry was written by a newer program. Use that one, or restore the backup made before."),
    ("relative_path", "A path that goes to a node is absolute, since the node stands in another folder."),
    ("request_collision", "What a request brings has the name of a key or of an output column; in a spine they stand side by side. Give one of them another name."),
    ("request_column_in_entities", "`entities` holds keys, and one of its columns is what derived features read of the request. Put it into `request`: {\"request\": {\"price\": [199]}}."),
    ("request_column_not_found", "A derived feature names something that is no feature and that the request does not bring. Features are `view.feature`; what the request brings is declared under `request`."),
    ("request_types", "Two derived take what the request brings under one name as two types. Declare it with one type, and cast it where it is used."),
    ("reserved_column", "A source has a column named like one of those that Asof puts beside rows itself (`__e`, `__v`, `__o`, `__s`, `__op`, `__until`, `__row`, `__ends`). Rename it, in the data or in a query."),
    ("retention_too_short", "A row must be kept online as long as it can answer: `retention` is at least `ttl`."),
    ("retention_without_ttl", "Without a ttl the last row answers for ever, so nothing may be let go of. Give a `ttl`, or remove `retention`."),
    ("second_row", "Facts without a clock have one row per key, and there are two. Give the source an `event_time`, or the view a `where` that leaves one."),
    ("serving_log_broken", "A file in the folder `serving-log` of the node is none that this Asof reads: it is damaged, of a newer format, or none of the log. Move it out of the folder; the others are checked without it."),
    ("several_time_columns", "The spine has several columns of times. Say which with --time COLUMN."),
    ("source_cycle", "A source's query reads, by way of others, the source itself. Break the ring."),
    ("source_empty", "The text files of a source have no rows, so there is nothing to tell the types of its columns by. Declare them in `schema`, or apply again when there are rows."),
    ("source_files_differ", "The files of a source have different columns. Give all the same, or say `options: {union_by_name: true}`."),
    ("source_glob", "A source's path has so many `{..}` that it stands for too many globs. Use `*`, or give a folder."),
    ("source_not_files", "Only sources of files are loaded; this one is a query or a Delta table, which is read where it is."),
    ("source_not_pushed", "Rows were pushed to a source that is read from where it stands. Write `push: true` with a `schema` in its definition, or push to another."),
    ("source_not_stored", "The source is read in place, so there is nothing to load. Write `store: true` to keep its rows in a table of its own."),
    ("source_option", "An option of a source's files is none of its format, or has a value it cannot take."),
    ("source_partitions", "The files of a source have different key=value folders. Give all the same, or say `options: {hive_partitioning: false}`."),
    ("source_url", "Files are read from this machine's disks; URLs of object stores are not built yet. Copy or mount them."),
    ("spine_broken", "The spine cannot be read in its format. The message says where reading stopped; --spine-format says which it is."),
    ("spine_column_twice", "The spine has two columns of one name, so neither can be meant. Rename one."),
    ("sql_failed", "The query began and then failed on a value, such as a cast or a division by zero. Guard it with `try_cast` or `nullif`."),
    ("sql_key_type", "A training set's key cannot be read as its type in a query. The message names the column."),
    ("sql_not_read_only", "A source's `sql` only reads. Write one select."),
    ("sql_not_supported", "The query is SQL, but of a part that is not run here. The message names it."),
    ("sql_one_query", "One query at a time. Send them one by one."),
    ("sql_plan", "The query does not fit its tables: a column, a function or a type. `show columns from TABLE` shows what there is."),
    ("sql_read_only", "SQL here only reads. Data comes in by `asof load`, definitions by `asof apply`."),
    ("sql_syntax", "The text is not SQL. The message says where reading stopped."),
    ("sql_too_large", "The `sql` of a source makes a value too large to write for each row, e.g. by `repeat`. Make it smaller."),
    ("sql_type", "A source's query cannot be planned: a column, a function or a type does not fit."),
    ("stored_column_case", "Two columns of a stored source differ in case only, which a Delta table takes for one. Rename one in a query or in the files."),
    ("stored_format", "The table of a stored source was written in another format. Use the program that wrote it, or load the source anew under another name."),
    ("subquery_in_expression", "An expression is over one row and holds no query. Join in a source's `sql` instead."),
    ("thing_twice", "One apply holds a thing twice. Apply the folder with `asof apply`, which tells where."),
    ("time_zone", "A column of instants has a zone of its own already, or the zone does not fit the column. Leave `zone` out where values carry one."),
    ("too_many_entities", "One request asks for more entities than are answered at once. Split it; for many rows use `asof train`."),
    ("unequal_lengths", "Every column of `entities` has one value per entity asked for, so all have the same length."),
    ("unknown_format", "The ending of --out names no format. End it in .parquet, .csv, .ndjson or .arrow, or say --format."),
    ("unknown_key", "A key is written that is none: of a document, or of the entities asked for. The hint names the nearest."),
    ("unknown_option", "The format has no such option. The hint names the nearest."),
    ("unknown_request_column", "`request` holds a column that no feature asked for reads. Leave it out; keys stand in `entities`."),
    ("unsupported_type", "A column has a type there is no counterpart of. Leave it out, or cast it where it is made."),
    ("unused_key", "A warning: a key of a definition has no effect beside another. Remove it."),
    ("usage", "The command line cannot be read: a command, flag or value it does not have, or one that is missing. `asof COMMAND --help` shows what there is. The exit code is 2."),
    ("used_elsewhere", "A warning: what changes is used by another project, where what stands on it is refused until that project is applied again. Tell its owner."),
    ("value_out_of_range", "A value does not fit the type its column has. Give the column that type, or change the type in the definition."),
    ("versions_by_event_time", "Versions of one event are ordered by when they could be used. The source is read in place and does not say, so they are ordered by event time. Name `available_at`."),
    ("view_of_windows", "A view over windows has values of one entity at one time, and no rows to list, by SQL or as a sample. `asof get` gives them as of now, `asof train` as of any time; what they are made of are the rows of its source."),
    ("window_in_expression", "An expression is over one row and holds no window (over ...). Compute it in a source's `sql`."),
    ("wrong_method", "The endpoint does not take this HTTP method. /docs shows what it takes."),
    ("wrong_type", "A column has another type than is needed. Give it as the message says, or change the definition."),
    ("wrong_value", "A key has a value it does not take. The message says what it takes."),
    ("yaml_alias", "Aliases (*name) are not part of definitions. Write the value out."),
    ("yaml_anchor", "Anchors (&name) are not part of definitions. Remove it."),
    ("yaml_key", "A key of a map is not a text. Write a plain word before the colon."),
    ("yaml_syntax", "The file is not YAML. The caret shows where reading stopped; often an indent or a colon without a space."),
    ("yaml_tag", "Tags (!name) are not part of definitions. Remove it."),
    ("yaml_too_deep", "The file is nested deeper than any definition is."),
    ("zone_not_found", "There is no time zone of this name. Write one of the IANA list, such as America/New_York."),
];

#[rustfmt::skip]
const NOT_FOUND: [(&str, &str); 17] = [
    ("entity_not_found", "No entity of this name stands or is defined. The hint names the nearest; another project's is project.entity."),
    ("feature_not_found", "The view has no feature of this name. The hint names the nearest; `asof show VIEW` lists them."),
    ("generation_not_found", "The rows of a view that a reading stood on are gone, replaced by newer ones. Ask again."),
    ("no_project", "The folder, and none above it, has an asof.yaml. One line makes a project: `project: NAME`."),
    ("no_such_endpoint", "No endpoint has this path. /docs lists them."),
    ("not_found", "A project, view, source or table is named that is not there. The hint lists what there is; `asof apply` makes a folder's definitions stand."),
    ("nothing_to_explain", "`asof explain` takes a view or an error code; without either it lists the codes."),
    ("project_folder_missing", "Paths of sources start from the project's folder, and the one recorded by the last `asof apply` is not there. If it was moved, run `asof apply` in it: `asof plan` says so too."),
    ("project_not_found", "The node knows no project of this name, or the caller may not see it. `asof apply` in its folder makes a project known."),
    ("run_not_found", "No run has this id. `asof sql \"select * from runs\"` lists the recorded ones."),
    ("service_not_found", "No service of this name stands. `asof list services` lists them."),
    ("source_file_missing", "The file of a source does not exist. Paths start at the project's folder; the hint names the nearest file."),
    ("source_no_files", "A source's path fits no file. Look at the pattern and its ending."),
    ("source_not_found", "No source of this name stands or is defined. `asof list sources` lists them."),
    ("thing_not_found", "Nothing of this name stands. `asof list` lists what does, `asof search TEXT` finds by words."),
    ("training_set_not_found", "No recorded training set has this id. `asof list training-sets` lists them."),
    ("view_not_found", "No view of this name stands or is defined. `asof list views` lists them."),
];

#[rustfmt::skip]
const CONFLICT: [(&str, &str); 23] = [
    ("address_taken", "Another program listens on the address. Often it is another `asof up`: `asof doctor` in its folder shows its process. Choose another address with --listen; port 0 takes a free one."),
    ("apply_conflict", "Somebody applied another change to this project after your plan was made. The message names the changes and who made them. Get them into your folder, plan again, apply again."),
    ("backup_exists", "A backup goes into a folder that does not exist yet, so that none is written over. Name another."),
    ("changed", "A file or table that was being read, or that a recorded training set was made from, is no longer what it was. Nothing was written. Run it again when nobody writes to it; a rebuild needs the data as it was."),
    ("data_dir_in_use", "One node owns a data directory. The message names the process that does. If it serves, commands speak to it by themselves; if it is another command, wait for it."),
    ("data_dir_not_empty", "A backup is restored only where nothing stands, so that nothing is lost. Restore into another folder with --data-dir, or move the old one away."),
    ("derived_stale", "A derived feature stands on a view or derived of another project that has changed since it was agreed. Apply the derived feature's own project again."),
    ("folder_in_use", "The demo writes into a folder that does not exist yet, or that it wrote itself. Name another: asof demo DIR."),
    ("id_exists", "An id that was chosen for a run or record is taken. Choose another, or leave it out."),
    ("idempotency_key_reused", "The Idempotency-Key named another batch of this source within the last seven days. Send a new batch under a key of its own; send an old one again as it was."),
    ("not_consistent", "`asof check consistency` found values that were served otherwise than training answers at the same time from the same rows. Its table says which features, its places which rows of the serving log. This is a defect of Asof: please report it."),
    ("online_store_owned", "Another process has the online store open. Stop it, or ask it."),
    ("removal_not_allowed", "The folder is the whole of its project: what it does not define would be removed. Say --allow-remove if that is meant."),
    ("run_not_running", "A run that has ended cannot end again."),
    ("service_stale", "A service was applied with another version of a view than stands. Apply the service's project again."),
    ("source_changed", "A load or a push waited while the source was given another table: columns, time rules or `delete_when` changed. Nothing was stored of the push; of a load nothing that counts now, or, into a pushed source, the parts before, which are passed over when the files are loaded again. Send the rows again, into the table that counts now."),
    ("source_stale", "A source with `sql` was applied with other versions of the sources of another project than stand. Apply the source's project again: its views become new versions over what stands."),
    ("stands_on_nothing", "A version stands on a thing that is gone or has changed since the plan. Plan again, apply again."),
    ("table_busy", "Others wrote to the same table again and again while this load tried. Nothing was loaded; try again."),
    ("thing_in_use", "What would be removed is used by others, which the message names. Remove those first, in the same apply where they are of the same project."),
    ("training_set_changed", "What a training set was made from is no longer as it was, so it cannot be made again. The message names what is gone or changed."),
    ("view_changed", "A view was given another version while its rows were brought up. Nothing answers otherwise than before; materialise it again."),
    ("view_stale", "A view was applied with another version of its source than stands: the source belongs to another project, which changed it. Apply the view's project again: the view becomes a new version over what stands. Until then it is not read, since its rows would mix two rules."),
];

const UNAUTHENTICATED: [(&str, &str); 2] = [
    (
        "bad_token",
        "The token sent is not the server's. The commands send ASOF_TOKEN; a node in this folder writes its own to .asof/node.json, which only its owner can read.",
    ),
    ("token_required", "The server asks for a token. Set ASOF_TOKEN, or send `Authorization: Bearer TOKEN`."),
];

#[rustfmt::skip]
const FORBIDDEN: [(&str, &str); 3] = [
    ("forbidden", "The caller is known and may not see the project, or not every project that is asked for. Ask its owner for a token that may."),
    ("foreign_host", "Without a token the server answers only programs of its own machine that call it by a name of loopback, so that no web page can reach it through a browser."),
    ("project_forbidden", "The caller is known and may not see the project, or a project that a feature asked for stands on."),
];

#[rustfmt::skip]
const EXHAUSTED: [(&str, &str); 7] = [
    ("disk_full", "The disk is full, or has no more than what is kept free for rows in memory, which the message names: three times what the live store holds in memory. What was acknowledged is kept; free space and try again."),
    ("limit_reached", "A query or training set reached a limit on bytes, nesting, rows or memory, which the message names. Ask for less at once, or raise `memory`."),
    ("live_store_busy", "Rows are pushed faster than the disk takes them. Nothing of this batch was stored; send it again after the time the hint says."),
    ("too_many_connections", "The server has as many connections open as it allows. Keep connections open and use them again."),
    ("too_many_operations", "As many trainings, loads and other long operations go on as the node allows, and as many more wait as may. Ask again when some have ended; `asof status` shows them, and `operations` in asof.yaml says how many go on at once."),
    ("too_many_requests", "As many requests are being answered over HTTP/2 as the server allows connections. Nothing was done; send it again later."),
    ("too_many_rows", "There are more rows than one answer can hold. Ask in several parts."),
];

const TIMEOUT: [(&str, &str); 2] = [
    (
        "request_timeout",
        "The request took longer than the server allows. Ask for less at once; long work has endpoints of its own, which /docs marks.",
    ),
    (
        "timeout",
        "The query, or the reading of its answer, ran out of its time and was ended. Ask for less at once.",
    ),
];

#[rustfmt::skip]
const UNAVAILABLE: [(&str, &str); 18] = [
    ("answer_broken", "The node's answer ended before it was whole: the node stopped, or the network broke. What was asked may have been done; look, then ask again."),
    ("backup_failed", "A file of a backup could not be read or written. The backup is not made; try again when the disk is well."),
    ("client_gone", "The client closed its connection before the answer was whole, so the work was ended."),
    ("file_unavailable", "A file cannot be read or written now. The message says why."),
    ("file_unusable", "A file or folder of this machine cannot be used. The message says why."),
    ("live_store_stopped", "A write to the disk failed, so nothing more is acknowledged. Look at the disk and restart the node: what was acknowledged is there. Whether a batch without an answer is there is known then; sending it again under its Idempotency-Key is safe."),
    ("no_answer", "A question was asked at the terminal and not answered. Say --yes to go on without."),
    ("no_threads", "The system gives this program no threads. Look at its limits (ulimit -u)."),
    ("not_an_asof_server", "Something answers at the URL, and it is no node of Asof. Look at --server, ASOF_SERVER or `server` in asof.yaml."),
    ("not_well", "`asof doctor` found something that is not as it should be; its lines with a cross say what."),
    ("online_store_unavailable", "The online store cannot be read or written now. Look at the disk; nothing that was acknowledged is lost."),
    ("registry_stopped", "A commit of the registry failed, so it writes nothing more until it is opened again. Look at the disk, then restart the node."),
    ("registry_unavailable", "The registry cannot be read or written now. Look at the disk of the data directory."),
    ("server_unreachable", "No node answers at the address. Start one with `asof up`, or look at --server, ASOF_SERVER or `server` in asof.yaml."),
    ("starting", "The node is starting: some views do not answer yet. Ask again soon; `asof status` shows how far it is."),
    ("stopping", "The node is stopping and takes no new work; a materialization or load that was going on ended at its next safe point. Ask again when it is back: what was done is kept, and the rest is gone on with."),
    ("upload_failed", "The node could not keep a body it was sent. Look at the disk of its data directory."),
    ("view_not_materialized", "The online store has no rows of the view's present version yet, and those of an earlier one are no answer to what is defined now. `asof materialize` makes it ready, a running node does so by itself; `asof status` shows how far it is. To change a view without a gap, define the changed one under another name first."),
];

#[rustfmt::skip]
const INTERNAL: [(&str, &str); 15] = [
    ("backup_damaged", "A file of the backup is not what its list says, so nothing was restored. Use another backup."),
    ("bad_answer", "The node answered something this program cannot read. Are both of the same version? `asof doctor` shows both."),
    ("damaged", "Stored bytes are not what was written. Restore a backup, or materialise again."),
    ("internal", "A defect of Asof. Please report it with the message and, of a node, its log."),
    ("live_store_damaged", "The store of pushed rows is not what was written. Keep its folder and restore a backup: rows pushed since the last flush stand nowhere else."),
    ("online_row_damaged", "A stored row is not what was written. `asof materialize VIEW` writes the view anew."),
    ("online_store_damaged", "The online store is not what was written. Restore a backup, or remove the folder `online` of the data directory and materialise again."),
    ("panic", "A request met a defect of Asof; the server goes on. Please report it with the server's log."),
    ("registry_damaged", "The registry's file is not what was written. Restore a backup: asof restore DIR."),
    ("row_not_kept", "A row could not be written in the online store's form. Please report it; what was online stays."),
    ("served_differs", "The demo found a served value that is not the training set's. It never should: please report it."),
    ("stored_version_broken", "A stored version of a definition cannot be read. Restore the registry from a backup."),
    ("stored_version_format", "A stored version of a definition was written by a newer program. Use that one."),
    ("unwritable_answer", "An answer could not be written as JSON. Please report it."),
    ("unwritable_column", "A feature has a type that no answer can carry. Please report it with the view's definition."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }

    /// What makes an error, its code being the first text it is given.
    const MAKERS: [&str; 18] = [
        "Failure::new(",
        "Problem::new(",
        "Failure::invalid(",
        "Problem::invalid(",
        "Error::invalid(",
        "self.invalid(",
        "Diagnostic::error(",
        "Diagnostic::warning(",
        "Problem::at(",
        "Problem::whole(",
        "Problem::spanning(",
        ".warn(",
        ".problem(",
        "config_error(",
        "refuse(",
        "wrong(",
        "code: ",
        "code: Cow::Borrowed(",
    ];

    fn is_code(text: &str) -> bool {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    }

    /// The first text after a maker, where it is an argument of its own.
    fn first_text(rest: &str) -> Option<&str> {
        let (before, after) = rest.split_once('"')?;
        let mut depth = 0_i32;
        for letter in before.chars() {
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            if depth < 0 || matches!(letter, ';' | '{') {
                return None;
            }
        }
        (depth == 0).then(|| after.split('"').next().unwrap())
    }

    /// Where error codes stand in the sources: given to what makes an error, and in what `Explain::code`
    /// returns.
    fn written() -> BTreeMap<String, PathBuf> {
        let mut files = Vec::new();
        for room in ["asof", "compute", "engine", "flow", "model", "online", "registry", "serve", "server"] {
            sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(room).join("src"), &mut files);
        }
        let mut codes = BTreeMap::new();
        for file in files {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            if name.ends_with("_suite") || name == "tests" {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let made = MAKERS.iter().flat_map(|maker| {
                text.match_indices(maker).filter_map(move |(at, _)| first_text(&text[at + maker.len()..]))
            });
            let returned = text.match_indices("fn code(&self)").flat_map(|(at, _)| {
                let body = &text[at..];
                let body = &body[..body.find("\n    }").unwrap_or(body.len())];
                let texts = body.match_indices('"').step_by(2);
                texts.filter_map(|(at, _)| {
                    let before = body[..at].trim_end();
                    let whole = before.ends_with("=>") || before.ends_with('{');
                    whole.then(|| body[at + 1..].split('"').next().unwrap())
                })
            });
            for code in made.chain(returned).filter(|code| is_code(code)) {
                codes.insert(code.to_owned(), file.clone());
            }
        }
        codes
    }

    #[test]
    fn every_code_is_explained_once() {
        let mut explained: Vec<&str> = all().map(|(_, code, _)| code).collect();
        let many = explained.len();
        explained.sort_unstable();
        explained.dedup();
        assert_eq!(explained.len(), many, "a code stands twice");
        let written = written();
        assert!(written.len() > 200, "the codes are looked for where they are no longer: {}", written.len());
        let unexplained: Vec<_> =
            written.iter().filter(|(code, _)| explained.binary_search(&code.as_str()).is_err()).collect();
        assert!(unexplained.is_empty(), "explain in codes.rs: {unexplained:#?}");
        // Made of parts, or written into bytes.
        let elsewhere = ["entity_not_found", "too_many_connections"];
        let gone: Vec<_> = explained
            .iter()
            .filter(|code| !written.contains_key(**code) && !elsewhere.contains(code))
            .collect();
        assert!(gone.is_empty(), "no longer given: {gone:?}");
    }

    /// `docs/reference/errors.md`: the same for readers.
    fn page() -> String {
        let mut page =
            "# Error codes\n\nEvery error has a kind, which maps once to an HTTP status and an exit \
                        code, and a code that never changes. Where HTTP has a status for exactly one code it stands \
                        behind that code. `asof explain CODE` says the same.\n\n\
                        ## Exit codes\n\n| exit code | when | HTTP |\n|---|---|---|\n\
                        | 0 | it went well | 2xx |\n"
                .to_owned();
        for kind in Kind::ALL {
            if kind == Kind::NotFound {
                page.push_str("| 2 | usage: the command line cannot be read; nothing was begun | |\n");
            }
            let (status, exit) = (kind.http_status(), kind.exit_code());
            page.push_str(&format!("| {exit} | {kind}: {} | {status} |\n", kind.means()));
        }
        page.push_str(
            "\nWith `--json` every error, a usage error too, is one line of JSON on stderr: \
             `{\"error\": {\"kind\", \"code\", \"message\", \"hint\"}}`.\n",
        );
        for (kind, codes) in CODES {
            let (status, exit) = (kind.http_status(), kind.exit_code());
            page.push_str(&format!(
                "\n## {kind}: HTTP {status}, exit code {exit}\n\n| code | meaning |\n|---|---|\n"
            ));
            for (code, text) in codes {
                let own = asof_server::http_status(kind, code).as_u16();
                let own = if own == status { String::new() } else { format!(" (HTTP {own})") };
                page.push_str(&format!("| `{code}`{own} | {} |\n", text.replace('|', "\\|")));
            }
        }
        page
    }

    fn page_path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/errors.md")
    }

    #[test]
    fn the_page_of_codes_is_this_table() {
        assert_eq!(
            std::fs::read_to_string(page_path()).unwrap_or_default(),
            page(),
            "docs/reference/errors.md is old: cargo nextest run -p asof --run-ignored only -E 'test(write_the_page_of_codes)'"
        );
    }

    #[test]
    #[ignore = "writes docs/reference/errors.md"]
    fn write_the_page_of_codes() {
        std::fs::write(page_path(), page()).unwrap();
    }

    #[test]
    fn every_text_says_something() {
        for (_, code, text) in all() {
            assert!(text.len() > 30 && text.ends_with('.'), "{code}: {text}");
        }
    }
}
