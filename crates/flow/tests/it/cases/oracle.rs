//! What the oracle of the test kit says of a case, as far as it has words for it: features and labels that are columns,
//! or aggregates of one, of whole numbers, floats and texts, by keys of an int64 and a text, under no condition or under
//! `COLUMN <> 'spam'`. It is asked of one feature at a time, so that its few columns stand for any of a case's.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use asof_compute::RowDigester;
use asof_model::{
    Column, DataType, Expression, Literal, Origin, Question, Reading, Selection, TypedFeature, float_text,
};
use asof_testkit::oracle::{latest, windows};
use asof_testkit::{
    Aggregate, Argument, BEFORE_ALL, Function, KeyValue, NEVER, Row, Value, View, Window, WindowView,
};

use super::folder::{Answers, Case};
use super::given::{Given, spine, times};

/// The answers that the oracle has; how many features it has none for.
pub(super) fn answers(
    case: &Case,
    given: &[Given],
    selection: &Selection,
    question: Question,
) -> (Answers, usize) {
    let (mut answers, mut without) = (Answers::default(), 0);
    let features = selection.columns.iter().map(|column| match column.from {
        Origin::Feature { reading, feature } => {
            let reading = &selection.readings[reading];
            Asked::of(given, reading, feature).map(|asked| (&column.name, asked, None))
        }
        Origin::Derived { .. } => None,
    });
    let labels = selection.labels.iter().map(|label| {
        let asked = Asked::of(given, &label.reading, label.feature)?;
        Some((&label.name, asked, Some(label.after.micros())))
    });
    for asked in features.chain(labels) {
        let Some((name, asked, after)) = asked else {
            without += 1;
            continue;
        };
        let found = asked.answers(case, question, after);
        let (values, statuses): (Vec<String>, Vec<String>) = found.into_iter().unzip();
        answers.values.push((name.clone(), values));
        answers.statuses.push((name.clone(), statuses));
    }
    (answers, without)
}

/// A feature as the oracle is asked for it.
struct Asked<'a> {
    reading: &'a Reading,
    view: View,
    rows: Vec<Row>,
    default: Option<Value>,
    of: Of,
}

enum Of {
    Latest(Argument),
    Windows(WindowView),
}

/// The columns of a source that stand for those of the oracle.
#[derive(Default)]
struct Columns<'a> {
    shop: Option<&'a str>,
    user: Option<&'a str>,
    argument: Option<(Argument, &'a str)>,
    state: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn of(given: &'a [Given], reading: &'a Reading, feature: usize) -> Option<Asked<'a>> {
        let given = given.iter().find(|it| it.source.address == reading.source.address)?;
        let definition = &reading.view.definition;
        let typed = &reading.view.features[feature];
        let mut columns = Columns::default();
        let mut keys = Vec::new();
        for key in &reading.view.keys {
            let (place, name) = match key.key.data_type {
                DataType::Int64 => (&mut columns.shop, "shop"),
                DataType::String => (&mut columns.user, "user"),
                _ => return None,
            };
            if place.replace(&key.column).is_some() {
                return None;
            }
            keys.push(name);
        }
        if let Some(filter) = reading.view.filter() {
            let (column, rest) = filter.text.split_once(' ')?;
            if rest != "<> 'spam'" || kind(given, column)? != Argument::State {
                return None;
            }
            columns.state = Some(column);
        }
        let argument = match &typed.feature.aggregate {
            None => Some(&typed.feature.expression),
            Some(aggregate) => aggregate.call.argument.as_ref(),
        };
        if let Some(argument) = argument {
            let kind = kind(given, &argument.text)?;
            // The one text that it has is that of the condition.
            if kind == Argument::State && columns.state.is_some_and(|state| state != argument.text) {
                return None;
            }
            columns.argument = Some((kind, &argument.text));
        }
        let view = View {
            spine_keys: keys.clone(),
            keys,
            filter: columns.state.is_some(),
            ttl: definition.ttl.map(|ttl| ttl.micros()),
            default: None,
        };
        let default = typed.feature.default.as_ref().map(|default| value_of(default, &typed.data_type));
        let of = match &typed.feature.aggregate {
            None => Of::Latest(columns.argument?.0),
            Some(_) => Of::Windows(over(typed, &view, columns.argument.map(|it| it.0), default.clone())?),
        };
        let rows = rows(given, &columns)?;
        Some(Asked { reading, view, rows, default, of })
    }

    /// Values and statuses for every spine row.
    fn answers(&self, case: &Case, question: Question, after: Option<i64>) -> Vec<(String, String)> {
        let keys = self.reading.keys.iter().zip(&self.reading.view.keys);
        let columns = keys
            .clone()
            .map(|(name, key)| Column { name: name.to_string(), data_type: key.key.data_type.clone() });
        let spine = spine(case, &columns.collect::<Vec<_>>());
        let last = self.rows.iter().map(|row| row.e).max();
        let answer = |(row, t): (usize, i64)| {
            let key: Vec<Option<KeyValue>> = keys
                .clone()
                .map(|(name, _)| key_value(spine.column_by_name(name.as_str()).unwrap(), row))
                .collect();
            let (t, question) =
                (t + after.unwrap_or(0), if after.is_some() { Question::Event } else { question });
            // Past the source's greatest e: not mature, kept with null.
            if after.is_some() && last.is_none_or(|last| t > last) {
                return (String::new(), "not_mature".to_owned());
            }
            match &self.of {
                Of::Latest(argument) => {
                    let (status, row) = latest(&self.rows, &self.view, &key, t, question);
                    let value = match (status.name(), &self.default) {
                        ("present", _) => row.and_then(|row| argument.of(row)),
                        ("not_found" | "expired", default) => default.clone(),
                        _ => None,
                    };
                    (value.map(|value| written(&value)).unwrap_or_default(), status.name().to_owned())
                }
                Of::Windows(view) => {
                    let found = windows(&self.rows, view, &key, t, question).swap_remove(0);
                    (written(&found.value), found.status.name().to_owned())
                }
            }
        };
        times(&spine).into_iter().enumerate().map(answer).collect()
    }
}

/// What a column of a source is to the oracle.
fn kind(given: &Given, column: &str) -> Option<Argument> {
    let found = given.source.columns.iter().find(|it| it.name == column)?;
    match found.data_type {
        DataType::Int64 => Some(Argument::N),
        DataType::Float64 => Some(Argument::X),
        DataType::String => Some(Argument::State),
        _ => None,
    }
}

/// A feature over a window.
fn over(
    typed: &TypedFeature,
    view: &View,
    argument: Option<Argument>,
    default: Option<Value>,
) -> Option<WindowView> {
    let asked = typed.feature.aggregate.as_ref()?;
    let constant = |default: usize| match asked.call.parameters.as_slice() {
        [] => Some(default),
        [Literal::Int(constant)] => usize::try_from(*constant).ok(),
        _ => None,
    };
    let function = match asked.call.function.as_str() {
        "count" => Function::Count,
        "sum" => Function::Sum,
        "mean" | "avg" => Function::Mean,
        "min" => Function::Min,
        "max" => Function::Max,
        "variance" => Function::Variance,
        "variance_pop" => Function::VariancePop,
        "stddev" => Function::Stddev,
        "stddev_pop" => Function::StddevPop,
        "first" => Function::First,
        "last" => Function::Last,
        "first_n" => Function::FirstN(constant(1)?),
        "last_n" => Function::LastN(constant(1)?),
        "count_distinct" => Function::CountDistinct(constant(100_000)?),
        "histogram" => Function::Histogram(constant(10_000)?),
        "collect_list" => Function::CollectList(constant(10_000)?),
        _ => return None,
    };
    if asked.call.filter.is_some() {
        return None;
    }
    let window = &asked.windows[0].window;
    let window = Window {
        length: window.length.map(|it| it.micros()),
        offset: window.offset.micros(),
        include_now: window.include_now,
        resolution: window.resolution.map(|it| it.micros()),
    };
    let aggregates = vec![Aggregate { function, argument, filter: false, default }];
    Some(WindowView { view: view.clone(), windows: vec![window], aggregates })
}

/// A source's rows in the oracle's words.
fn rows(given: &Given, columns: &Columns<'_>) -> Option<Vec<Row>> {
    let definition = &given.source.definition;
    let plain = |expression: &Option<Expression>| match expression {
        None => Some(None),
        Some(Expression { text }) => Some(Some(ints(given.rows.column_by_name(text)?)?)),
    };
    let (order_by, id) = (plain(&definition.order_by)?, plain(&definition.id)?);
    let digests = RowDigester::new(&given.source.columns).digest(&given.rows).unwrap();
    let fixed = |name: &str| given.scanned.column_by_name(name).unwrap();
    let until = fixed("__until").as_primitive::<TimestampMicrosecondType>();
    let delete = fixed("__op").as_boolean();
    let column = |name: Option<&str>| name.map(|name| given.rows.column_by_name(name).unwrap());
    let (shop, user, state) = (column(columns.shop), column(columns.user), column(columns.state));
    let texts = |array: &dyn Array, row: usize| {
        let texts = array.as_string::<i32>();
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    };
    let row = |at: usize| {
        let mut row = Row {
            e: given.e[at].unwrap_or(BEFORE_ALL),
            // What happened before all time is known then, unless something says when.
            v: match (given.v[at], &definition.available_at) {
                (Some(v), _) => v,
                (None, Some(_)) => NEVER,
                (None, None) => BEFORE_ALL,
            },
            o: order_by.as_ref().and_then(|it| it[at]),
            s: None,
            id: id.as_ref().and_then(|it| it[at]),
            pushed: false,
            told: None,
            delete: delete.value(at),
            shop: shop.and_then(|it| ints(it)?[at]),
            user: user.and_then(|it| texts(it, at)),
            x: None,
            n: None,
            state: state.and_then(|it| texts(it, at)).map(leaked),
            until: until.is_valid(at).then(|| until.value(at)),
            digest: digests[at].0,
        };
        if let Some((kind, name)) = columns.argument {
            let values = given.rows.column_by_name(name).unwrap();
            match kind {
                Argument::N => row.n = ints(values).and_then(|it| it[at]),
                Argument::X => {
                    let floats = values.as_primitive::<Float64Type>();
                    row.x = floats.is_valid(at).then(|| floats.value(at));
                }
                Argument::State => row.state = texts(values, at).map(leaked),
            }
        }
        row
    };
    Some((0..given.rows.num_rows()).map(row).collect())
}

/// The oracle's own worlds have few texts.
fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn ints(array: &dyn Array) -> Option<Vec<Option<i64>>> {
    Some(array.as_primitive_opt::<Int64Type>()?.iter().collect())
}

fn key_value(column: &dyn Array, row: usize) -> Option<KeyValue> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.as_primitive_opt::<Int64Type>() {
        Some(ints) => KeyValue::Int(ints.value(row)),
        None => KeyValue::Text(column.as_string::<i32>().value(row).to_owned()),
    })
}

fn value_of(literal: &Literal, data_type: &DataType) -> Value {
    match (literal, data_type) {
        (Literal::Int(int), DataType::Float64) => Value::float(*int as f64),
        (Literal::Int(int), _) => Value::Int(*int),
        (Literal::Float(float), _) => Value::float(float.value()),
        (Literal::Text(text), _) => Value::Text(text.clone()),
        (Literal::Bool(_), _) => panic!("the oracle has no {literal:?}"),
    }
}

/// As case files write it.
fn written(value: &Value) -> String {
    let all = |parts: Vec<String>| parts.join(" ");
    match value {
        Value::Null => String::new(),
        Value::Int(int) => int.to_string(),
        Value::Float(float) => float_text(float.get()),
        Value::Text(text) if text.is_empty() => "''".to_owned(),
        Value::Text(text) => text.clone(),
        Value::List(items) => format!("[{}]", all(items.iter().map(written).collect())),
        Value::Counts(counts) => {
            let pairs = counts.iter().map(|(value, count)| format!("{}:{count}", written(value)));
            format!("{{{}}}", all(pairs.collect()))
        }
    }
}
