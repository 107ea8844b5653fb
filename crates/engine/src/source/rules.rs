//! A source's rules applied to batches of its raw columns: instants, order key, deletes, and the
//! columns asked for in the model's types.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, Scalar, TimestampMicrosecondArray,
    UInt64Array, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use asof_compute::order_keys;
use asof_model::{Column, DataType, Source, TimeRule, TimeUnit, Timestamp, nearest};
use jiff::tz::TimeZone;

use super::columns::{as_instants, canonical, convert, field, is_instant};
use super::files::OpenFile;
use super::instants::{BadValue, NO_TIME, constant, has_offset, instant_type, instants, zone};
use super::{ScanColumns, fixed, ndjson};
use crate::expression::{Bound, Purpose, compile};
use crate::point_in_time::true_only;
use crate::{Engine, Error, Result};

/// Batches of the usual size that thin rows are read in.
const THIN: usize = 4;
/// And those that are folded into windows, whose states take more of the cache.
const FOLDED: usize = 32;

/// Where rows come from, for errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// A file, or what stands for one, e.g. `the result of its query`.
    pub file: &'a str,
    /// How many rows of it come before the batch; none where rows have no number.
    pub before: Option<u64>,
}

/// The rules of one source, ready for batches.
#[derive(Debug)]
pub(crate) struct Rules {
    source: String,
    /// Columns in the model's types, in the order of `columns_schema`.
    columns: Vec<Column>,
    columns_schema: SchemaRef,
    /// Columns that the time rules read as the file has them.
    raw: Vec<Column>,
    event_time: Option<Instant>,
    available_at: Option<Instant>,
    valid_until: Option<Instant>,
    order_by: Option<Bound>,
    delete_when: Option<Bound>,
    /// For each column asked for, its place in `columns`.
    wanted: Vec<usize>,
    schema: SchemaRef,
    given: Given,
    address: bool,
    /// Only what the fold itself reads of most rows.
    batches: usize,
    until: Option<Timestamp>,
    /// Rows of this event time and later are left out.
    before: Option<Timestamp>,
    /// Neither `event_time` nor `available_at`: every row is visible before all time.
    timeless: bool,
    /// Floats are given in their one form; off for input that is no source and comes out as it came.
    canonical: bool,
    nothing: NothingToSay,
}

/// Columns that say the same of every row, made once: batches have slices of them.
#[derive(Debug, Default)]
struct NothingToSay(Mutex<Option<Nothing>>);

/// Of rows without a time, an order, a position and a delete.
#[derive(Debug)]
struct Nothing {
    times: ArrayRef,
    orders: ArrayRef,
    positions: ArrayRef,
    deletes: ArrayRef,
}

impl NothingToSay {
    /// Of so many rows.
    fn of(&self, rows: usize) -> Nothing {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match held.take() {
            Some(found) if found.times.len() >= rows => found,
            _ => Nothing {
                times: constant(None, rows),
                orders: new_null_array(&ArrowType::Binary, rows),
                positions: Arc::new(Int64Array::new_null(rows)),
                deletes: Arc::new(BooleanArray::from(vec![false; rows])),
            },
        };
        let Nothing { times, orders, positions, deletes } = held.insert(found);
        Nothing {
            times: times.slice(0, rows),
            orders: orders.slice(0, rows),
            positions: positions.slice(0, rows),
            deletes: deletes.slice(0, rows),
        }
    }
}

/// What the input has of the fixed columns.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    /// They are not wanted; the rules are not applied.
    Unwanted,
    /// Nothing: they are made from the source's columns.
    Nothing,
    /// What a load made of them: time, delete and position stand in columns of the table.
    Stored(StoredColumns),
}

/// The columns that a stored source's table has besides the source's own, and how far it is read.
#[derive(Debug, Clone)]
pub(crate) struct StoredColumns {
    pub event_time: String,
    pub visible_at: String,
    pub seq: String,
    pub op: String,
    /// Rows with a greater position are left out.
    pub upto: i64,
}

/// The rules of files that are read together: the past of a push source stands in files of its own sort.
#[derive(Debug, Clone)]
pub(crate) struct FileRules {
    own: Arc<Rules>,
    past: Option<Arc<Rules>>,
}

impl FileRules {
    /// `past`: of files that hold the past, and of the same columns.
    pub(crate) fn new(own: Rules, past: Option<Rules>) -> FileRules {
        FileRules { own: Arc::new(own), past: past.map(Arc::new) }
    }

    /// Of all files but those of the past.
    pub(crate) fn own(&self) -> &Arc<Rules> {
        &self.own
    }

    /// Of this file.
    pub(crate) fn of(&self, file: &OpenFile) -> &Arc<Rules> {
        match &self.past {
            Some(past) if file.is_past() => past,
            _ => &self.own,
        }
    }
}

#[derive(Debug)]
enum Instant {
    Column { name: String, unit: Option<TimeUnit>, zone: Option<TimeZone> },
    Expression(Bound),
}

impl Rules {
    /// The rules of a source over these of its columns. Without `fixed`, only the columns are given and
    /// no time rule is applied.
    pub(crate) fn new(
        engine: &Engine,
        name: &str,
        source: &Source,
        all: &[Column],
        want: &ScanColumns,
        with_fixed: bool,
    ) -> Result<Rules> {
        let given = if with_fixed { Given::Nothing } else { Given::Unwanted };
        Rules::over(engine, name, source, all, want, given)
    }

    /// [`Rules::new`] over an input that has some of the fixed columns already.
    pub(crate) fn over(
        engine: &Engine,
        name: &str,
        source: &Source,
        all: &[Column],
        want: &ScanColumns,
        given: Given,
    ) -> Result<Rules> {
        let with_fixed = !matches!(given, Given::Unwanted);
        let stored = matches!(given, Given::Stored(_));
        // A scan for addresses leaves to the fetch of winning rows what only winning rows need.
        let made = |key: &str| {
            with_fixed
                && !(stored && matches!(key, "event_time" | "available_at"))
                && !(want.address && matches!(key, "order_by" | "valid_until"))
        };
        let wanted: Vec<&Column> = if want.all_for_digest {
            all.iter().collect()
        } else {
            want.columns.iter().map(|wanted| column(name, all, wanted)).collect::<Result<_>>()?
        };
        let mut columns: Vec<Column> = Vec::new();
        let mut add = |wanted: &Column| match columns.iter().position(|column| column.name == wanted.name) {
            Some(at) => at,
            None => {
                columns.push(wanted.clone());
                columns.len() - 1
            }
        };
        let places: Vec<usize> = wanted.iter().map(|column| add(column)).collect();
        let typed = |key: &str, text: &str, purpose: Purpose| {
            compile(engine, text, all, false, purpose).map_err(|problem| {
                let message = format!("source `{name}`: {key} `{text}`: {}", problem.message);
                Error::Invalid { code: problem.code, message, hint: problem.hint }
            })
        };
        let mut compiled = Vec::new();
        if with_fixed {
            let rules = [
                ("event_time", source.event_time.as_ref()),
                ("available_at", source.available_at.as_ref()),
                ("valid_until", source.valid_until.as_ref()),
            ];
            for (key, rule) in rules {
                if let Some(TimeRule::Expression(text)) = rule.filter(|_| made(key)) {
                    compiled.push((key, typed(key, &text.text, Purpose::Time)?));
                }
            }
            if let Some(text) = source.order_by.as_ref().filter(|_| made("order_by")) {
                compiled.push(("order_by", typed("order_by", &text.text, Purpose::Order)?));
            }
            if let Some(text) = source.delete_when.as_ref().filter(|_| !stored) {
                compiled.push(("delete_when", typed("delete_when", &text.text, Purpose::Condition)?));
            }
        }
        for (_, expression) in &compiled {
            for needed in expression.needs() {
                add(column(name, all, needed)?);
            }
        }
        let columns_schema: SchemaRef = Arc::new(Schema::new(
            columns.iter().map(|column| field(&column.name, &column.data_type)).collect::<Vec<_>>(),
        ));
        let fixed_width = |field: &Arc<Field>| {
            *field.data_type() == ArrowType::Boolean || field.data_type().primitive_width().is_some()
        };
        let batches = match want.address {
            true if want.folded && columns_schema.fields().iter().all(fixed_width) => FOLDED,
            true => THIN,
            false => 1,
        };
        let mut bound = std::collections::BTreeMap::new();
        for (key, expression) in compiled {
            bound.insert(key, expression.bind(&columns_schema)?);
        }
        let mut raw: Vec<Column> = Vec::new();
        let mut instant = |key: &'static str, rule: Option<&TimeRule>| -> Result<Option<Instant>> {
            Ok(match rule.filter(|_| made(key)) {
                None => None,
                Some(TimeRule::Expression(_)) => bound.remove(key).map(Instant::Expression),
                Some(TimeRule::Column { name: column_name, unit, zone: named }) => {
                    let found = column(name, all, column_name)?;
                    if !raw.contains(found) {
                        raw.push(found.clone());
                    }
                    let named = named.as_deref().map(zone).transpose().map_err(|reason| {
                        Error::invalid("time_zone", format!("source `{name}`: {key}: {reason}"))
                    })?;
                    Some(Instant::Column { name: column_name.clone(), unit: *unit, zone: named })
                }
            })
        };
        let event_time = instant("event_time", source.event_time.as_ref())?;
        let available_at = instant("available_at", source.available_at.as_ref())?;
        let valid_until = instant("valid_until", source.valid_until.as_ref())?;
        let mut fields = Vec::new();
        if with_fixed {
            fields.push(Field::new(fixed::EVENT_TIME, instant_type(), true));
            fields.push(Field::new(fixed::VISIBLE_AT, instant_type(), true));
            fields.push(Field::new(fixed::ORDER_BY, ArrowType::Binary, true));
            fields.push(Field::new(fixed::POSITION, ArrowType::Int64, true));
            fields.push(Field::new(fixed::OP, ArrowType::Boolean, false));
            fields.push(Field::new(fixed::UNTIL, instant_type(), true));
        }
        if want.address || want.named {
            fields.push(Field::new(fixed::ADDRESS, ArrowType::UInt64, false));
        }
        fields.extend(wanted.iter().map(|column| field(&column.name, &column.data_type)));
        Ok(Rules {
            source: name.to_owned(),
            columns,
            columns_schema,
            raw,
            event_time,
            available_at,
            valid_until,
            order_by: bound.remove("order_by"),
            delete_when: bound.remove("delete_when"),
            wanted: places,
            schema: Arc::new(Schema::new(fields)),
            given,
            address: want.address || want.named,
            batches,
            until: want.until,
            before: None,
            timeless: source.event_time.is_none() && source.available_at.is_none(),
            canonical: true,
            nothing: NothingToSay::default(),
        })
    }

    /// Gives columns in the model's types, for input that is no source: a spine.
    pub(crate) fn plain(name: &str, all: &[Column]) -> Rules {
        let schema: SchemaRef = Arc::new(Schema::new(
            all.iter().map(|column| field(&column.name, &column.data_type)).collect::<Vec<_>>(),
        ));
        Rules {
            source: name.to_owned(),
            columns: all.to_vec(),
            columns_schema: Arc::clone(&schema),
            raw: Vec::new(),
            event_time: None,
            available_at: None,
            valid_until: None,
            order_by: None,
            delete_when: None,
            wanted: (0..all.len()).collect(),
            schema,
            given: Given::Unwanted,
            address: false,
            batches: 1,
            until: None,
            before: None,
            timeless: false,
            canonical: false,
            nothing: NothingToSay::default(),
        }
    }

    /// For rows that come out as they came in: floats keep the form they have.
    pub(crate) fn unconverted(mut self) -> Rules {
        self.canonical = false;
        self
    }

    /// The same, for rows that happened before this; all where it is none.
    pub(crate) fn before(mut self, before: Option<Timestamp>) -> Rules {
        self.before = before;
        self
    }

    /// Whether rows of this event time are left out.
    pub(crate) fn leaves_out(&self, event_time: Timestamp) -> bool {
        self.before.is_some_and(|before| event_time >= before)
    }

    /// How many batches of the usual size are read at once: rows that are read for their keys and times alone
    /// are thin, and the more of them come together, the more of the states they meet are met together.
    pub(crate) fn batches(&self) -> usize {
        self.batches
    }

    /// What the input has of the fixed columns.
    pub(crate) fn given(&self) -> &Given {
        &self.given
    }

    /// The last event time that is needed; none: all.
    pub(crate) fn needed_until(&self) -> Option<Timestamp> {
        self.until
    }

    /// The event times that the least and the greatest value of the column of event times are, as the file has them;
    /// none where one is no time, or where the order of the values is not that of their times.
    pub(crate) fn span(&self, least: &ArrayRef, greatest: &ArrayRef) -> Option<(Timestamp, Timestamp)> {
        // Text is not in the order of its instants: offsets, and what stands behind the seconds. Older files hold
        // the least and the greatest of unsigned numbers as if they were signed.
        let data_type = least.data_type();
        if !data_type.is_signed_integer()
            && !matches!(data_type, ArrowType::Timestamp(..) | ArrowType::Date32 | ArrowType::Date64)
        {
            return None;
        }
        let unit = match (&self.given, &self.event_time) {
            (Given::Nothing, Some(Instant::Column { unit, zone: None, .. })) => *unit,
            (Given::Stored(_), _) => None,
            _ => return None,
        };
        let read = |found: &ArrayRef| {
            let found = instants(found, unit, None).ok()?;
            (found.len() == 1 && found.is_valid(0)).then(|| Timestamp(found.value(0)))
        };
        read(least).zip(read(greatest))
    }

    /// The column of event times, where statistics of it say something of them.
    pub(crate) fn timed_by(&self) -> Option<&str> {
        match (&self.given, &self.event_time) {
            (Given::Nothing, Some(Instant::Column { name, zone: None, .. })) => Some(name),
            (Given::Stored(columns), _) => Some(&columns.event_time),
            _ => None,
        }
    }

    /// The names of all columns that the input has to give.
    pub(crate) fn inputs(&self) -> Vec<String> {
        let mut names: Vec<String> = self.columns.iter().map(|column| column.name.clone()).collect();
        names.extend(self.raw.iter().map(|column| column.name.clone()));
        if let Given::Stored(columns) = &self.given {
            names.extend(
                [&columns.event_time, &columns.visible_at, &columns.seq, &columns.op].map(Clone::clone),
            );
        }
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// What [`Rules::apply`] gives.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The source's name.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The columns a reader has to give in the model's types.
    pub(crate) fn typed(&self) -> &[Column] {
        &self.columns
    }

    /// The columns a reader has to give as they are in the file, for the time rules.
    pub(crate) fn raw(&self) -> &[Column] {
        &self.raw
    }

    /// One batch of raw columns as one batch of [`Rules::schema`]. `rows`: its number of rows, since a
    /// batch may have no column at all. `address`: of its first row.
    pub(crate) fn apply(&self, raw: &RecordBatch, place: Place<'_>, address: u64) -> Result<RecordBatch> {
        let rows = raw.num_rows();
        let find = |name: &str| {
            raw.column_by_name(name).ok_or_else(|| {
                Error::internal(format!("source `{}`: a reader lost column `{name}`", self.source))
            })
        };
        let mut typed = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let found = find(&column.name)?;
            let read = match is_json(raw, &column.name) {
                true => ndjson::typed(found, &column.data_type),
                false => convert(found, &column.data_type),
            };
            let read = read.map_err(|bad| self.bad(place, &column.name, bad))?;
            typed.push(if self.canonical { canonical(&read)? } else { read });
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let typed = RecordBatch::try_new_with_options(Arc::clone(&self.columns_schema), typed, &options)?;
        let mut out: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        match &self.given {
            Given::Unwanted => {}
            Given::Nothing => self.made(raw, &typed, place, &mut out)?,
            Given::Stored(columns) => self.stored(columns, raw, &typed, place, &mut out)?,
        }
        if self.address {
            out.push(Arc::new(UInt64Array::from_iter_values(address..address + rows as u64)));
        }
        out.extend(self.wanted.iter().map(|at| Arc::clone(typed.column(*at))));
        let whole = RecordBatch::try_new_with_options(Arc::clone(&self.schema), out, &options)?;
        if let Given::Stored(columns) = &self.given {
            let upto = Int64Array::new_scalar(columns.upto);
            let within = arrow::compute::kernels::cmp::lt_eq(find(&columns.seq)?, &upto)?;
            if within.true_count() < rows {
                return Ok(filter_record_batch(&whole, &within)?);
            }
        }
        if let (Some(before), Given::Nothing) = (self.before, &self.given) {
            let before = Scalar::new(TimestampMicrosecondArray::from(vec![before.0]).with_timezone("UTC"));
            let earlier = arrow::compute::kernels::cmp::lt(whole.column(0), &before)?;
            if earlier.true_count() < rows {
                return Ok(filter_record_batch(&whole, &earlier)?);
            }
        }
        Ok(whole)
    }

    /// The fixed columns, made by the source's rules.
    fn made(
        &self,
        raw: &RecordBatch,
        typed: &RecordBatch,
        place: Place<'_>,
        out: &mut Vec<ArrayRef>,
    ) -> Result<()> {
        let rows = raw.num_rows();
        let event_time = self.instants("event_time", self.event_time.as_ref(), raw, typed, place)?;
        if let Some(event_time) = &event_time
            && event_time.null_count() > 0
        {
            let row = (0..rows).find(|row| event_time.is_null(*row)).unwrap_or(0);
            let reason = "is null, and every row needs an event time".to_owned();
            return Err(self.bad_rule(
                place,
                "event_time",
                self.event_time.as_ref(),
                BadValue { row, reason },
            ));
        }
        let available_at = self.instants("available_at", self.available_at.as_ref(), raw, typed, place)?;
        let visible_at = match (&available_at, &event_time) {
            (Some(found), _) | (None, Some(found)) => Arc::clone(found),
            (None, None) => constant(Some(Timestamp::BEFORE_ALL.0), rows),
        };
        let deletes = self.delete_when.as_ref().map(|delete_when| -> Result<ArrayRef> {
            // A condition that is null is not met.
            Ok(Arc::new(true_only(self.evaluate(delete_when, typed, place)?.as_boolean())))
        });
        let deletes = deletes.transpose()?;
        let nothing = self.nothing.of(rows);
        out.push(event_time.unwrap_or(nothing.times));
        out.push(visible_at);
        out.push(self.order(typed, place)?);
        out.push(nothing.positions);
        out.push(deletes.unwrap_or(nothing.deletes));
        out.push(self.until(raw, typed, place)?);
        Ok(())
    }

    /// The fixed columns of a stored source's table.
    fn stored(
        &self,
        columns: &StoredColumns,
        raw: &RecordBatch,
        typed: &RecordBatch,
        place: Place<'_>,
        out: &mut Vec<ArrayRef>,
    ) -> Result<()> {
        let find = |name: &str, kind: &ArrowType| -> Result<ArrayRef> {
            let found = raw.column_by_name(name).ok_or_else(|| {
                Error::internal(format!("the table of source `{}` has no column `{name}`", self.source))
            })?;
            Ok(arrow::compute::cast(found, kind)?)
        };
        let op = find(&columns.op, &ArrowType::Utf8)?;
        let deletes: BooleanArray =
            op.as_string::<i32>().iter().map(|op| Some(op == Some("delete"))).collect();
        out.push(find(&columns.event_time, &instant_type())?);
        // A table has no instant before all time: null stands there, which is never known elsewhere.
        out.push(match self.timeless {
            true => constant(Some(Timestamp::BEFORE_ALL.0), raw.num_rows()),
            false => find(&columns.visible_at, &instant_type())?,
        });
        out.push(self.order(typed, place)?);
        out.push(find(&columns.seq, &ArrowType::Int64)?);
        out.push(Arc::new(deletes));
        out.push(self.until(raw, typed, place)?);
        Ok(())
    }

    fn order(&self, typed: &RecordBatch, place: Place<'_>) -> Result<ArrayRef> {
        Ok(match &self.order_by {
            Some(order_by) => {
                let values = self.evaluate(order_by, typed, place)?;
                Arc::new(order_keys(&values).map_err(|e| Error::internal(e.to_string()))?)
            }
            None => self.nothing.of(typed.num_rows()).orders,
        })
    }

    fn until(&self, raw: &RecordBatch, typed: &RecordBatch, place: Place<'_>) -> Result<ArrayRef> {
        let until = self.instants("valid_until", self.valid_until.as_ref(), raw, typed, place)?;
        // What a table keeps of it has no offset.
        if !matches!(self.given, Given::Stored(_)) {
            self.without_offset(raw, place)?;
        }
        Ok(until.unwrap_or_else(|| self.nothing.of(raw.num_rows()).times))
    }

    fn instants(
        &self,
        key: &str,
        rule: Option<&Instant>,
        raw: &RecordBatch,
        typed: &RecordBatch,
        place: Place<'_>,
    ) -> Result<Option<ArrayRef>> {
        let read = match rule {
            None => return Ok(None),
            Some(Instant::Column { name, unit, zone }) => {
                let found = raw.column_by_name(name).ok_or_else(|| {
                    Error::internal(format!("source `{}`: a reader lost column `{name}`", self.source))
                })?;
                self.as_written(raw, name, found, zone.is_some())
                    .and_then(|found| instants(found.as_ref(), *unit, zone.as_ref()))
            }
            Some(Instant::Expression(bound)) => instants(&self.evaluate(bound, typed, place)?, None, None),
        };
        match read {
            Ok(read) => Ok(Some(Arc::new(read))),
            Err(bad) => Err(self.bad_rule(place, key, rule, bad)),
        }
    }

    /// Times as their column has them: texts or numbers within JSON; and naive times that a load kept
    /// as if they were UTC, if they are civil times of a zone.
    fn as_written<'a>(
        &self,
        raw: &RecordBatch,
        name: &str,
        found: &'a ArrayRef,
        zoned: bool,
    ) -> Result<Cow<'a, ArrayRef>, BadValue> {
        if zoned && matches!(self.given, Given::Stored(_)) && is_instant(found.data_type()) {
            let naive = as_instants(found).clone().with_timezone_opt(None::<String>);
            return Ok(Cow::Owned(Arc::new(naive) as ArrayRef));
        }
        if !is_json(raw, name) {
            return Ok(Cow::Borrowed(found));
        }
        let kind = self.raw.iter().find(|column| column.name == name).map(|column| &column.data_type);
        Ok(Cow::Owned(match kind {
            // Of values of several shapes those that are texts may be times.
            Some(DataType::Timestamp | DataType::Date | DataType::Json) | None => {
                ndjson::typed(found, &DataType::String)
                    .map_err(|bad| BadValue { reason: NO_TIME.to_owned(), ..bad })?
            }
            Some(kind) => ndjson::typed(found, kind)?,
        }))
    }

    /// Refuses a text of a `valid_until` in a zone that carries an offset of its own. Its column says what
    /// clocks show, whatever the offset: a table would keep that and give another instant back, and of two
    /// rows that are equal in every column one could end before the other.
    fn without_offset(&self, raw: &RecordBatch, place: Place<'_>) -> Result<()> {
        let rule = self.valid_until.as_ref();
        let Some(Instant::Column { name, zone: Some(_), .. }) = rule else { return Ok(()) };
        let kind = self.raw.iter().find(|column| column.name == *name).map(|column| &column.data_type);
        let Some((found, DataType::Timestamp)) = raw.column_by_name(name).zip(kind) else { return Ok(()) };
        let texts = match found.data_type() {
            ArrowType::Dictionary(_, value) if is_text(value) => {
                arrow::compute::cast(found, &ArrowType::Utf8)?
            }
            kind if is_text(kind) => arrow::compute::cast(found, &ArrowType::Utf8)?,
            _ => return Ok(()),
        };
        // Within JSON a text stands in quotes.
        let plain = |text: &str| has_offset(text.trim_matches('"'));
        match texts.as_string::<i32>().iter().position(|text| text.is_some_and(plain)) {
            Some(row) => {
                let reason = "carries an offset, and its rule names a `zone`".to_owned();
                let error = self.bad_rule(place, "valid_until", rule, BadValue { row, reason });
                Err(error.with_hint(
                    "write all its times alike: without offsets, or with them and the rule without `zone`",
                ))
            }
            None => Ok(()),
        }
    }

    fn evaluate(&self, bound: &Bound, typed: &RecordBatch, place: Place<'_>) -> Result<ArrayRef> {
        bound.evaluate(typed).map_err(|error| {
            let row = (0..typed.num_rows()).find(|row| bound.evaluate(&typed.slice(*row, 1)).is_err());
            Error::BadRow {
                source_name: self.source.clone(),
                place: shown(place, row.unwrap_or(0)),
                reason: error.to_string(),
                hint: asof_model::Explain::hint(&error),
            }
        })
    }

    fn bad_rule(&self, place: Place<'_>, key: &str, rule: Option<&Instant>, bad: BadValue) -> Error {
        let what = match rule {
            Some(Instant::Column { name, .. }) => format!("{key} column `{name}`"),
            _ => key.to_owned(),
        };
        Error::BadRow {
            source_name: self.source.clone(),
            place: shown(place, bad.row),
            reason: format!("{what} {}", bad.reason),
            hint: Some(format!(
                "mend the row, write an expression for `{key}`, or leave such rows out in a source with `sql`"
            )),
        }
    }

    /// The error of a cell.
    pub(crate) fn bad(&self, place: Place<'_>, column: &str, bad: BadValue) -> Error {
        Error::BadRow {
            source_name: self.source.clone(),
            place: shown(place, bad.row),
            reason: format!("column `{column}` {}", bad.reason),
            hint: Some("mend the cell, or give the column another type in the source's `schema`".to_owned()),
        }
    }
}

/// A row that is no row of its source.
#[derive(Debug)]
pub(crate) struct BadRow {
    place: String,
    reason: String,
    hint: Option<String>,
}

impl BadRow {
    /// `before` rows of the file come before it.
    pub(crate) fn new(file: &str, before: u64, reason: impl Into<String>) -> BadRow {
        BadRow { place: shown(Place { file, before: Some(before) }, 0), reason: reason.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: &str) -> BadRow {
        self.hint = Some(hint.to_owned());
        self
    }

    /// As the error of this source.
    pub(crate) fn of(self, source: &str) -> Error {
        let BadRow { place, reason, hint } = self;
        Error::BadRow { source_name: source.to_owned(), place, reason, hint }
    }
}

fn is_text(kind: &ArrowType) -> bool {
    matches!(kind, ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View)
}

fn is_json(batch: &RecordBatch, name: &str) -> bool {
    batch.schema_ref().field_with_name(name).is_ok_and(|field| field.metadata().contains_key(ndjson::JSON))
}

fn shown(place: Place<'_>, row: usize) -> String {
    match place.before {
        Some(before) => format!("{}, row {}", place.file, before + row as u64 + 1),
        None => place.file.to_owned(),
    }
}

/// The column of this name.
pub(crate) fn column<'a>(source: &str, all: &'a [Column], name: &str) -> Result<&'a Column> {
    all.iter().find(|column| column.name == name).ok_or_else(|| {
        let error =
            Error::invalid("column_not_found", format!("source `{source}`: column `{name}` not found"));
        match nearest(name, all.iter().map(|column| column.name.as_str())) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error,
        }
    })
}
