//! Pushed rows: from the bytes of a request to what the live store keeps of them.
//!
//! [`Engine::intake`] compiles a source and the views over it once; [`Intake::pushed`] then takes a body apart, has the
//! source's rules read it as they read files ([`crate::source`]), and evaluates every view on it, all column by column.
//! A batch is taken whole or not at all, with every bad row named.
//!
//! Start reading at [`Intake`], then [`LiveRows`], the bytes of rows in the intake log.
//!
//! Not here: `v` and `s`, which the live store gives, and which versions stand.

mod body;
mod kept;
mod stored;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, RecordBatchOptions,
    TimestampMicrosecondArray,
};
use arrow::compute::{and, is_not_null};
use arrow::datatypes::TimestampMicrosecondType;
use asof_compute::{KeyEncoder, RowDigest, RowDigester};
use asof_model::{NullKeys, Place as Definition, SourceVersion, Timestamp, ViewVersion};
use indexmap::IndexMap;

pub use body::BodyFormat;
pub use kept::{KEPT_FORMAT, KeptKey, KeyBinding, kept_key};
pub use stored::{EncodedRows, LIVE_ROWS_FORMAT, LiveRows, LiveRowsReader};

use self::body::{Columns, Raw};
use crate::delta::Superseded;
use crate::expression::{Bound, Purpose, compile};
use crate::rows::{self, Evaluated, EvaluatedRows, Evaluator, Incoming, Ready, ViewColumns};
use crate::source::instants::constant;
use crate::source::rules::{Place, Rules};
use crate::source::{ScanColumns, fixed};
use crate::{Engine, Error, Result};

/// How many rows a batch may have.
pub const MOST_ROWS: u64 = 100_000;

/// Bad rows that are told with their reasons. The others are told by their numbers.
const TOLD: usize = 50;
/// Bad rows after which no more are looked for, since each is found by reading it alone.
const LOOKED_FOR: usize = 10_000;
/// Stretches of numbers that are told: some kilobytes.
const STRETCHES: usize = 1_000;

/// What rows of a source go through to be taken in: its rules and the expressions of the views over it, compiled for
/// one version of each. Made once and kept by whoever takes rows in.
#[derive(Debug)]
pub struct Intake {
    source: Arc<SourceVersion>,
    columns: Columns,
    rules: Rules,
    id: Option<(Bound, KeyEncoder)>,
    /// Of the fixed columns and the source's: where the columns of [`LiveRows::schema`] stand.
    stored: Vec<usize>,
    live: LiveRows,
    digester: RowDigester,
    views: Vec<IntakeView>,
    /// Each once, for [`kept`].
    bindings: Vec<(KeyBinding, Vec<String>, KeyEncoder)>,
    /// Columns in which a null refuses a row.
    keys: Vec<String>,
}

#[derive(Debug)]
struct IntakeView {
    view: Arc<ViewVersion>,
    evaluator: Evaluator,
    ready: Ready,
}

/// What a batch asks for beside its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PushedOp {
    /// A row is a delete where the source's `delete_when` says so.
    #[default]
    AsWritten,
    /// Every row is a delete.
    Delete,
}

/// Rows that were found good, ready to be accepted.
#[derive(Debug)]
pub struct IntakeBatch {
    rows: RecordBatch,
    log: EncodedRows,
    ids: Option<BinaryArray>,
    digests: Vec<RowDigest>,
    contents: Vec<[u8; 16]>,
    kept: Vec<Vec<u8>>,
    views: Vec<Evaluated>,
}

/// A row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BadRow {
    /// From 1.
    row: u64,
    reason: String,
}

impl Engine {
    /// Compiles what rows of a source go through: `views` are those over it that are kept online.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the source is not pushed to, or an expression does not fit it.
    pub async fn intake(&self, source: &Arc<SourceVersion>, views: &[Arc<ViewVersion>]) -> Result<Intake> {
        let (engine, source, views) = (self.clone(), Arc::clone(source), views.to_vec());
        // Planning recurses deeper than a caller's stack may allow.
        self.blocking(move || Intake::new(&engine, &source, &views)).await
    }
}

impl Intake {
    fn new(engine: &Engine, source: &Arc<SourceVersion>, views: &[Arc<ViewVersion>]) -> Result<Intake> {
        let (name, definition) = (source.address.name.as_str(), &source.definition);
        if !matches!(definition.place, Definition::Push { .. }) {
            let message = format!("source `{name}` is read from where it stands, and takes no pushed rows");
            return Err(Error::invalid("source_not_pushed", message)
                .with_hint("write `push: true` with a `schema` in its definition, or push to another"));
        }
        let want = ScanColumns { all_for_digest: true, ..ScanColumns::default() };
        let rules = Rules::new(engine, name, definition, &source.columns, &want, true)?;
        let schema = rules.schema();
        let id = match &definition.id {
            None => None,
            Some(id) => {
                let compiled = compile(engine, &id.text, &source.columns, true, Purpose::Order);
                let compiled = compiled.map_err(|problem| {
                    let message = format!("source `{name}`: id `{}`: {}", id.text, problem.message);
                    Error::Invalid { code: problem.code, message, hint: problem.hint }
                })?;
                let encoder = KeyEncoder::new(std::slice::from_ref(compiled.data_type()));
                Some((compiled.bind(schema)?, encoder))
            }
        };
        let live = LiveRows::of(source)?;
        let stored = live.schema().fields().iter().map(|field| schema.index_of(field.name()));
        let stored = stored.collect::<Result<_, _>>()?;
        let mut compiled = Vec::with_capacity(views.len());
        let mut bindings: Vec<(KeyBinding, Vec<String>, KeyEncoder)> = Vec::new();
        let mut keys = Vec::new();
        for view in views {
            let evaluator = Evaluator::new(engine, source, view)?;
            let ready = evaluator.ready(schema)?;
            let binding = KeyBinding::of(view);
            if definition.id.is_some() && !bindings.iter().any(|(other, ..)| *other == binding) {
                let types: Vec<_> = view.keys.iter().map(|key| key.key.data_type.clone()).collect();
                bindings.push((binding, evaluator.key_columns().to_vec(), KeyEncoder::new(&types)));
            }
            if definition.null_keys == NullKeys::Refuse {
                keys.extend(evaluator.key_columns().iter().cloned());
            }
            compiled.push(IntakeView { view: Arc::clone(view), evaluator, ready });
        }
        keys.sort();
        keys.dedup();
        Ok(Intake {
            columns: Columns::of(&source.address.to_string(), &source.columns),
            source: Arc::clone(source),
            digester: RowDigester::new(&source.columns),
            rules,
            id,
            stored,
            live,
            views: compiled,
            bindings,
            keys,
        })
    }

    /// The version of the source it is for.
    pub fn source(&self) -> &Arc<SourceVersion> {
        &self.source
    }

    /// Whether rows of the source may be versions of events.
    pub fn has_ids(&self) -> bool {
        self.id.is_some()
    }

    /// How its rows stand in the intake log.
    pub fn live_rows(&self) -> &LiveRows {
        &self.live
    }

    /// The views it evaluates and what is kept of each, by whose numbers [`IntakeBatch::rows_of`] is asked.
    pub fn views(&self) -> impl Iterator<Item = (&Arc<ViewVersion>, &ViewColumns)> {
        self.views.iter().map(|view| (&view.view, view.evaluator.columns()))
    }

    /// The rows of a body that was pushed, all of them good. Blocking.
    ///
    /// # Errors
    /// [`Error::Invalid`]: where the body is not of its format, has columns that the source has not, more rows than
    /// [`MOST_ROWS`], or, with code `bad_rows`, rows that break a rule, each named with its number.
    pub fn pushed(&self, body: &[u8], format: BodyFormat, op: PushedOp) -> Result<IntakeBatch> {
        let raw = self.columns.read(body, format)?;
        if !raw.bad.is_empty() {
            return Err(self.bad_rows(raw, op, None));
        }
        match self.good(&raw.batch, op) {
            Err(error) if of_row(&error) => Err(self.bad_rows(raw, op, Some(error))),
            found => found,
        }
    }

    /// What [`IntakeBatch::content_of_all`] says of the rows of a body, whether or not the views that stand now may take
    /// them; none where they are no rows of the source.
    pub fn content_of(&self, body: &[u8], format: BodyFormat, op: PushedOp) -> Option<[u8; 32]> {
        let raw = self.columns.read(body, format).ok().filter(|raw| raw.bad.is_empty())?;
        let rows = self.checked(&raw.batch, op).ok()?;
        let digests = self.digester.digest(&rows).ok()?;
        contents(&rows, &digests).ok().map(|contents| of_all(&contents))
    }

    /// The rows of a batch that a scan gave by the source's rules, each with its own `v`.
    ///
    /// # Errors
    /// [`Error::BadRow`] for the first that may not be taken in.
    pub fn loaded(&self, checked: &RecordBatch) -> Result<IntakeBatch> {
        self.batch(checked.clone(), false)
    }

    /// Of the rows of a batch that a scan gave the first that may not be taken in, and why.
    ///
    /// # Errors
    /// What no row is to blame for.
    pub fn first_bad(&self, checked: &RecordBatch) -> Result<Option<(usize, String)>> {
        let error = match self.loaded(checked) {
            Ok(_) => return Ok(None),
            Err(error) if of_row(&error) => error,
            Err(error) => return Err(error),
        };
        let rows = checked.num_rows();
        if rows <= 1 {
            return Ok(Some((0, reason(error))));
        }
        let half = rows / 2;
        if let Some(found) = self.first_bad(&checked.slice(0, half))? {
            return Ok(Some(found));
        }
        match self.first_bad(&checked.slice(half, rows - half))? {
            Some((row, reason)) => Ok(Some((half + row, reason))),
            // Each half is good, and all of it is too much.
            None => Err(error),
        }
    }

    fn good(&self, raw: &RecordBatch, op: PushedOp) -> Result<IntakeBatch> {
        self.batch(self.checked(raw, op)?, true)
    }

    /// Pushed rows by the source's rules.
    fn checked(&self, raw: &RecordBatch, op: PushedOp) -> Result<RecordBatch> {
        let place = Place { file: "the batch", before: Some(0) };
        let checked = self.rules.apply(raw, place, 0)?;
        let rows = checked.num_rows();
        let mut columns: Vec<ArrayRef> = checked.columns().to_vec();
        let schema = checked.schema();
        // What is pushed is visible when it is accepted, whatever the source says of its past.
        columns[schema.index_of(fixed::VISIBLE_AT)?] = constant(None, rows);
        if op == PushedOp::Delete {
            columns[schema.index_of(fixed::OP)?] = Arc::new(BooleanArray::from(vec![true; rows]));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    fn batch(&self, rows: RecordBatch, pushed: bool) -> Result<IntakeBatch> {
        let deletes = rows::column(&rows, fixed::OP)?.as_boolean();
        let ids = match &self.id {
            None => None,
            Some((id, encoder)) => {
                let ids = id.evaluate(&rows)?;
                Some(encoder.encode(&[ids]).map_err(|error| rows::compute(&error))?)
            }
        };
        let withdrawals = match &ids {
            None => None,
            Some(ids) => Some(and(deletes, &is_not_null(ids)?)?),
        };
        self.deletes_name_events(deletes, withdrawals.as_ref())?;
        self.keys_are_there(&rows, withdrawals.as_ref())?;
        let digests = self.digester.digest(&rows).map_err(|error| rows::compute(&error))?;
        let incoming = Incoming { digests: &digests, withdrawals: withdrawals.as_ref(), pushed };
        let mut views = Vec::with_capacity(self.views.len());
        for view in &self.views {
            let found = view.evaluator.evaluate(&view.ready, &rows, Some(incoming));
            views.push(found.map_err(|error| of_view(error, &view.view))?);
        }
        let contents = contents(&rows, &digests)?;
        let kept = match &ids {
            None => Vec::new(),
            Some(ids) => self.kept(&rows, ids, withdrawals.as_ref())?,
        };
        let rows = if pushed { rows } else { never_known(rows)? };
        let log = self.live.encode(&rows.project(&self.stored)?)?;
        Ok(IntakeBatch { rows, log, ids, digests, contents, kept, views })
    }

    /// What is kept with each row that is a version of an event.
    fn kept(
        &self,
        rows: &RecordBatch,
        ids: &BinaryArray,
        withdrawals: Option<&BooleanArray>,
    ) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::with_capacity(self.bindings.len());
        for (binding, columns, encoder) in &self.bindings {
            let columns: Vec<ArrayRef> =
                columns.iter().map(|name| rows::column(rows, name).cloned()).collect::<Result<_>>()?;
            keys.push((*binding, encoder.encode(&columns).map_err(|error| rows::compute(&error))?));
        }
        let withdraws = |row| withdrawals.is_some_and(|withdrawals| withdrawals.value(row));
        (0..ids.len())
            .map(|row| if ids.is_null(row) { Ok(Vec::new()) } else { kept::kept(row, withdraws(row), &keys) })
            .collect()
    }

    /// A delete that names no event ends a key, which a view over windows has no notion of.
    fn deletes_name_events(&self, deletes: &BooleanArray, withdrawals: Option<&BooleanArray>) -> Result<()> {
        let Some(view) = self.views.iter().find(|view| view.view.definition.is_window()) else {
            return Ok(());
        };
        let nameless = |row: &usize| {
            deletes.value(*row) && !withdrawals.is_some_and(|withdrawals| withdrawals.value(*row))
        };
        match (0..deletes.len()).find(nameless) {
            None => Ok(()),
            Some(row) => {
                let view = &view.view.address.name;
                let reason =
                    format!("is a delete without an id, and view `{view}` over its source has windows");
                Err(self.bad_row(row, reason))
            }
        }
    }

    /// A delete with an id names its event, and needs no keys.
    fn keys_are_there(&self, rows: &RecordBatch, withdrawals: Option<&BooleanArray>) -> Result<()> {
        for key in &self.keys {
            let column = rows::column(rows, key)?;
            if column.null_count() == 0 {
                continue;
            }
            let exempt = |row: usize| withdrawals.is_some_and(|withdrawals| withdrawals.value(row));
            if let Some(row) = (0..column.len()).find(|row| column.is_null(*row) && !exempt(*row)) {
                let reason = format!("key column `{key}` is null, and the source says `null_keys: refuse`");
                return Err(self.bad_row(row, reason));
            }
        }
        Ok(())
    }

    fn bad_row(&self, row: usize, reason: String) -> Error {
        Error::BadRow {
            source_name: self.source.address.name.to_string(),
            place: format!("the batch, row {}", row + 1),
            reason,
            hint: None,
        }
    }

    /// All rows of a batch that break a rule, in one error; `whole` is what is said of all of them together.
    fn bad_rows(&self, raw: Raw, op: PushedOp, whole: Option<Error>) -> Error {
        let Raw { batch, numbers, mut bad, sent } = raw;
        let number = |row: usize| match &numbers {
            Some(numbers) => numbers.get(row).copied().unwrap_or(0),
            None => row as u64 + 1,
        };
        if let Err(error) = self.look(&batch, 0, op, &number, &mut bad) {
            return error;
        }
        if bad.is_empty() {
            // Each is good, and all of them are too much.
            let none = || Error::internal("a batch was refused, and none of its rows is bad");
            return whole.unwrap_or_else(none);
        }
        bad.sort_by_key(|bad| bad.row);
        let mut reasons: IndexMap<&str, Vec<u64>> = IndexMap::new();
        for bad in bad.iter().take(TOLD) {
            reasons.entry(&bad.reason).or_default().push(bad.row);
        }
        let mut told: Vec<String> =
            reasons.iter().map(|(reason, rows)| format!("{}: {reason}", numbered(rows).0)).collect();
        let others: Vec<u64> = bad.iter().skip(TOLD).map(|bad| bad.row).collect();
        let mut left = 0;
        if !others.is_empty() {
            let (numbers, without) = numbered(&others);
            told.push(numbers);
            left = without;
        }
        let (least, more) = match bad.len() {
            LOOKED_FOR.. if (bad.len() as u64) < sent => ("at least ", "; and more".to_owned()),
            _ if left > 0 => ("", format!("; and {left} more")),
            _ => ("", String::new()),
        };
        let (source, count) = (&self.source.address, bad.len());
        let is = if count == 1 { "is" } else { "are" };
        let message = format!(
            "source `{source}`: {least}{count} of {sent} rows {is} bad, and nothing of the batch was taken: {}{more}",
            told.join("; ")
        );
        Error::invalid("bad_rows", message)
            .with_hint("mend them, or leave them out, and send the batch again")
    }

    /// Finds bad rows by halves: a batch of which few are bad costs about as much as a few good ones.
    fn look(
        &self,
        raw: &RecordBatch,
        first: usize,
        op: PushedOp,
        number: &dyn Fn(usize) -> u64,
        bad: &mut Vec<BadRow>,
    ) -> Result<()> {
        if raw.num_rows() == 0 || bad.len() >= LOOKED_FOR {
            return Ok(());
        }
        let error = match self.good(raw, op) {
            Ok(_) => return Ok(()),
            Err(error) if of_row(&error) => error,
            Err(error) => return Err(error),
        };
        if raw.num_rows() > 1 {
            let half = raw.num_rows() / 2;
            self.look(&raw.slice(0, half), first, op, number, bad)?;
            return self.look(&raw.slice(half, raw.num_rows() - half), first + half, op, number, bad);
        }
        bad.push(BadRow { row: number(first), reason: reason(error) });
        Ok(())
    }
}

/// Rising numbers of rows as people write them, `rows 1-40, 77`, and of how many the numbers are left out.
fn numbered(rows: &[u64]) -> (String, usize) {
    let stretches = rows.chunk_by(|one, other| *other <= one + 1);
    let mut left = rows.len();
    let texts = stretches.take(STRETCHES).map(|stretch| {
        left -= stretch.len();
        match stretch {
            [first, .., last] if first < last => format!("{first}-{last}"),
            _ => stretch.first().map(u64::to_string).unwrap_or_default(),
        }
    });
    let texts: Vec<String> = texts.collect();
    (format!("{} {}", if rows.len() == 1 { "row" } else { "rows" }, texts.join(", ")), left)
}

impl IntakeBatch {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the intake log keeps of these rows, by their place in the batch.
    /// `superseded`: of a source with ids, which rows are superseded as these are accepted.
    pub fn log_rows(&self, rows: impl Iterator<Item = usize>, superseded: Option<&[Superseded]>) -> Vec<u8> {
        self.log.of(rows, superseded)
    }

    /// The id of a row that is a version of an event.
    pub fn id(&self, row: usize) -> Option<&[u8]> {
        let ids = self.ids.as_ref()?;
        ids.is_valid(row).then(|| ids.value(row))
    }

    /// `e`
    pub fn event_time(&self, row: usize) -> Timestamp {
        let times = self.rows.column_by_name(fixed::EVENT_TIME);
        times.and_then(|times| rows::instant(times, row)).unwrap_or(Timestamp::BEFORE_ALL)
    }

    /// `v` of a row that has one of its own; [`Timestamp::NEVER`] where it is never known.
    pub fn visible_at(&self, row: usize) -> Option<Timestamp> {
        let times = self.rows.column_by_name(fixed::VISIBLE_AT);
        times.and_then(|times| rows::instant(times, row))
    }

    /// `o`; empty is null.
    pub fn order_by(&self, row: usize) -> &[u8] {
        let keys = self.rows.column_by_name(fixed::ORDER_BY).and_then(|keys| keys.as_binary_opt::<i32>());
        keys.filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row)).unwrap_or_default()
    }

    /// `c`
    pub fn digest(&self, row: usize) -> RowDigest {
        self.digests.get(row).copied().unwrap_or_default()
    }

    /// Whether a row is a delete.
    pub fn is_delete(&self, row: usize) -> bool {
        let ops = self.rows.column_by_name(fixed::OP).and_then(|ops| ops.as_boolean_opt());
        ops.is_some_and(|ops| ops.value(row))
    }

    /// Of what makes two versions of an event equal: all the row's own columns, `e`, keys and op.
    pub fn content(&self, row: usize) -> [u8; 16] {
        self.contents.get(row).copied().unwrap_or_default()
    }

    /// What is kept with a row that is a version of an event ([`kept_key`]); else empty.
    pub fn kept(&self, row: usize) -> &[u8] {
        self.kept.get(row).map(Vec::as_slice).unwrap_or_default()
    }

    /// Of all rows in their order: what the same batch sent again has as well.
    pub fn content_of_all(&self) -> [u8; 32] {
        of_all(&self.contents)
    }

    /// The rows that count in one of [`Intake::views`].
    pub fn rows_of(&self, view: usize) -> &[EvaluatedRows] {
        self.views.get(view).map(|found| found.rows.as_slice()).unwrap_or_default()
    }

    /// The rows that are never visible in one of [`Intake::views`], ascending.
    pub fn never_known(&self, view: usize) -> &[u32] {
        self.views.get(view).map(|found| found.never_known.as_slice()).unwrap_or_default()
    }

    /// The rows that belong to no entity of one of [`Intake::views`], a key being null, ascending.
    pub fn null_keys(&self, view: usize) -> &[u32] {
        self.views.get(view).map(|found| found.null_keys.as_slice()).unwrap_or_default()
    }
}

/// Rows that bring their own `v`, those without one as [`Timestamp::NEVER`].
fn never_known(rows: RecordBatch) -> Result<RecordBatch> {
    let at = rows.schema_ref().index_of(fixed::VISIBLE_AT)?;
    let mut columns = rows.columns().to_vec();
    let own = columns[at].as_primitive::<TimestampMicrosecondType>();
    if own.null_count() == 0 {
        return Ok(rows);
    }
    let own = own.iter().map(|own| Some(own.unwrap_or(Timestamp::NEVER.0)));
    columns[at] = Arc::new(own.collect::<TimestampMicrosecondArray>().with_timezone("UTC"));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), columns, &options)?)
}

/// Whether an error is about a row rather than about the source or the batch.
fn of_row(error: &Error) -> bool {
    matches!(
        error,
        Error::BadRow { .. } | Error::Exhausted { .. } | Error::Invalid { code: "expression_failed", .. }
    )
}

/// Why the row that an error is about is bad.
fn reason(error: Error) -> String {
    match error {
        Error::BadRow { reason, .. } => reason,
        other => other.to_string(),
    }
}

/// An error of evaluating a view's expressions, with the view.
fn of_view(error: Error, view: &ViewVersion) -> Error {
    let name = &view.address.name;
    match error {
        Error::Invalid { code, message, hint } => {
            Error::Invalid { code, message: format!("view `{name}`: {message}"), hint }
        }
        other => other,
    }
}

/// What tells each row's content from any other's: its cells, when it happened, and whether it is a delete.
fn contents(rows: &RecordBatch, digests: &[RowDigest]) -> Result<Vec<[u8; 16]>> {
    let event_times = rows::column(rows, fixed::EVENT_TIME)?;
    let deletes = rows::column(rows, fixed::OP)?.as_boolean();
    let content = |(row, digest): (usize, &RowDigest)| {
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&digest.0);
        let event_time = rows::instant(event_times, row).unwrap_or(Timestamp::BEFORE_ALL);
        bytes[16..24].copy_from_slice(&event_time.0.to_le_bytes());
        bytes[24] = u8::from(deletes.value(row));
        let mut content = [0; 16];
        content.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        content
    };
    Ok(digests.iter().enumerate().map(content).collect())
}

fn of_all(contents: &[[u8; 16]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for content in contents {
        hasher.update(content);
    }
    *hasher.finalize().as_bytes()
}
