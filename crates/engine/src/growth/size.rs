//! How large an answer will be, from the arguments of a call.

use arrow::array::{Array, ArrayRef, AsArray as _, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

/// How large an answer will be, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// So large.
    Exactly(u64),
    /// No larger, and possibly much smaller.
    AtMost(u64),
    /// It is not known beforehand, and no more than a few times what goes in.
    Unknown,
}

/// Whether a function is known to give much more than it is given.
pub(super) fn grows(function: &str) -> bool {
    matches!(
        function,
        "repeat"
            | "lpad"
            | "rpad"
            | "replace"
            | "regexp_replace"
            | "overlay"
            | "concat"
            | "concat_ws"
            | "array_repeat"
            | "range"
            | "gen_series"
            | "generate_series"
            | "array_resize"
            | "make_array"
            | "array_concat"
            | "array_append"
            | "array_prepend"
            | "array_to_string"
            | "to_char"
            | "encode"
    )
}

/// How large the answer of a call is for so many rows.
pub(super) fn answer(function: &str, args: &[ColumnarValue], rows: usize) -> Answer {
    let known = match function {
        "repeat" => {
            sum(rows, args, |row| Some(row.length(0)?.saturating_mul(row.count(1)?))).map(Answer::Exactly)
        }
        "array_repeat" => {
            sum(rows, args, |row| Some(row.length(0)?.saturating_mul(row.count(1)?))).map(Answer::Exactly)
        }
        // A letter of the padding may take four bytes.
        "lpad" | "rpad" => {
            let letter = if args.get(2).is_none_or(ascii) { 1 } else { 4 };
            sum(rows, args, |row| Some(row.count(1)?.saturating_mul(letter))).map(Answer::Exactly)
        }
        "array_resize" => {
            sum(rows, args, |row| Some(row.count(1)?.saturating_mul(row.length(2).unwrap_or(8).max(8))))
                .map(Answer::Exactly)
        }
        "range" | "gen_series" | "generate_series" => series(rows, args).map(Answer::Exactly),
        "replace" => sum(rows, args, |row| {
            let (text, from, to) = (row.length(0)?, row.length(1)?, row.length(2)?);
            // An empty text is found between all letters.
            let found = text.checked_div(from).unwrap_or_else(|| text.saturating_add(1));
            Some(text.saturating_add(found.saturating_mul(to)))
        })
        .map(Answer::AtMost),
        "regexp_replace" => sum(rows, args, |row| {
            let (text, to) = (row.length(0)?, row.length(2)?);
            // Without a flag the first match alone; what it captures may be the whole text, for each mention.
            let found = if args.len() > 3 { text.saturating_add(1) } else { 1 };
            let captured = text.saturating_mul(to / 2);
            Some(text.saturating_add(found.saturating_mul(to)).saturating_add(captured))
        })
        .map(Answer::AtMost),
        "array_to_string" => sum(rows, args, |row| {
            // An item takes a byte at least, and is at most some forty letters if it is no text.
            let (items, between) = (row.length(0)?, row.length(1)?);
            let null = row.length(2).unwrap_or(0);
            Some(items.saturating_mul(between.saturating_add(null).saturating_add(40)))
        })
        .map(Answer::AtMost),
        // `%c` and the like are at most some thirty letters.
        "to_char" => sum(rows, args, |row| Some(row.length(1)?.saturating_mul(20))).map(Answer::AtMost),
        "concat" | "concat_ws" | "overlay" | "make_array" | "array_concat" | "array_append"
        | "array_prepend" => {
            let all =
                |row: &Row<'_>| (0..args.len()).filter_map(|at| row.length(at)).fold(0, u64::saturating_add);
            let between = |row: &Row<'_>| match function {
                "concat_ws" => row.length(0).unwrap_or(0).saturating_mul(args.len() as u64),
                _ => 0,
            };
            sum(rows, args, |row| Some(all(row).saturating_add(between(row)))).map(Answer::AtMost)
        }
        _ => None,
    };
    known.unwrap_or(Answer::Unknown)
}

/// One row of the arguments.
struct Row<'a> {
    lengths: &'a [Option<Lengths>],
    counts: &'a [Option<Counts>],
    at: usize,
}

impl Row<'_> {
    /// The bytes of an argument; none where it is null.
    fn length(&self, argument: usize) -> Option<u64> {
        self.lengths.get(argument)?.as_ref()?.at(self.at)
    }

    /// A whole number that an argument is, 0 where it is below; none where it is null.
    fn count(&self, argument: usize) -> Option<u64> {
        match self.counts.get(argument)?.as_ref()? {
            Counts::One(count) => *count,
            Counts::Each(array) => {
                array.is_valid(self.at).then(|| u64::try_from(array.value(self.at)).unwrap_or(0))
            }
        }
    }
}

enum Counts {
    One(Option<u64>),
    Each(Int64Array),
}

/// The bytes of an argument, by row.
enum Lengths {
    One(Option<u64>),
    Array(ArrayRef),
    /// Of items of one width.
    Wide(ArrayRef, u64),
}

impl Lengths {
    fn of(value: &ColumnarValue) -> Lengths {
        match value {
            ColumnarValue::Scalar(scalar) => Lengths::One((!scalar.is_null()).then(|| scalar_bytes(scalar))),
            ColumnarValue::Array(array) => match array.data_type() {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Lengths::Array(array.clone()),
                _ => {
                    let width = match array.data_type() {
                        DataType::List(_) => items_width(array.as_list::<i32>().values().as_ref()),
                        DataType::LargeList(_) => items_width(array.as_list::<i64>().values().as_ref()),
                        _ => items_width(array.as_ref()),
                    };
                    Lengths::Wide(array.clone(), width)
                }
            },
        }
    }

    fn at(&self, row: usize) -> Option<u64> {
        match self {
            Lengths::One(length) => *length,
            Lengths::Array(array) => array.is_valid(row).then(|| text_length(array.as_ref(), row)),
            Lengths::Wide(array, width) => array.is_valid(row).then(|| {
                let items = match array.data_type() {
                    DataType::List(_) => u64::from(array.as_list::<i32>().value_length(row).unsigned_abs()),
                    DataType::LargeList(_) => array.as_list::<i64>().value_length(row).unsigned_abs(),
                    _ => 1,
                };
                items.saturating_mul(*width)
            }),
        }
    }
}

fn text_length(array: &dyn Array, row: usize) -> u64 {
    match array.data_type() {
        DataType::Utf8 => u64::from(array.as_string::<i32>().value_length(row).unsigned_abs()),
        DataType::LargeUtf8 => array.as_string::<i64>().value_length(row).unsigned_abs(),
        DataType::Utf8View => array.as_string_view().value(row).len() as u64,
        _ => 0,
    }
}

/// What an item of an array takes, on the average and rounded up.
fn items_width(array: &dyn Array) -> u64 {
    if array.is_empty() { 8 } else { (bytes(array) as u64).div_ceil(array.len() as u64).max(1) }
}

fn scalar_bytes(scalar: &ScalarValue) -> u64 {
    match scalar {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => text.len() as u64,
        other => (other.size() as u64).saturating_sub(size_of::<ScalarValue>() as u64).max(8),
    }
}

/// The sum over the rows; a row whose size is not known, being null, gives nothing. None where no argument
/// has the type expected.
fn sum(rows: usize, args: &[ColumnarValue], of: impl Fn(&Row<'_>) -> Option<u64>) -> Option<u64> {
    let lengths: Vec<Option<Lengths>> = args.iter().map(|it| Some(Lengths::of(it))).collect();
    let counts: Vec<Option<Counts>> = args.iter().map(counts).collect();
    let row = |at| Row { lengths: &lengths, counts: &counts, at };
    Some((0..rows).filter_map(|at| of(&row(at))).fold(0, u64::saturating_add))
}

fn counts(value: &ColumnarValue) -> Option<Counts> {
    match value {
        ColumnarValue::Scalar(scalar) if scalar.data_type().is_integer() => {
            let ScalarValue::Int64(count) = scalar.cast_to(&DataType::Int64).ok()? else { return None };
            Some(Counts::One(count.map(|count| u64::try_from(count).unwrap_or(0))))
        }
        ColumnarValue::Array(array) if array.data_type().is_integer() => {
            let array = cast(array, &DataType::Int64).ok()?;
            Some(Counts::Each(array.as_primitive().clone()))
        }
        _ => None,
    }
}

/// `range` and `generate_series`: of numbers, dates and times, all of 8 bytes.
fn series(rows: usize, args: &[ColumnarValue]) -> Option<u64> {
    let row = |at: usize| {
        let place = |argument: usize| args.get(argument).and_then(|value| instant(value, at));
        let (start, stop, step) = match args.len() {
            1 => (0, place(0)?, 1),
            2 => (place(0)?, place(1)?, 1),
            _ => (place(0)?, place(1)?, place(2)?),
        };
        // A step of 0 is refused by the function itself.
        let items = stop.abs_diff(start) / step.unsigned_abs().max(1);
        Some(u64::try_from(items).unwrap_or(u64::MAX).saturating_add(1).saturating_mul(8))
    };
    Some((0..rows).filter_map(row).fold(0, u64::saturating_add))
}

/// A number as it is; a date, time or interval in nanoseconds, a month being 28 days.
fn instant(value: &ColumnarValue, row: usize) -> Option<i128> {
    const DAY: i128 = 86_400_000_000_000;
    let scalar = match value {
        ColumnarValue::Scalar(scalar) => scalar.clone(),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row).ok()?,
    };
    let nanos = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    let scale = match scalar.data_type() {
        DataType::Date32 => DAY,
        DataType::Date64 => 1_000_000,
        DataType::Timestamp(unit, _) => nanos(&unit),
        _ => 1,
    };
    match &scalar {
        ScalarValue::IntervalMonthDayNano(Some(it)) => {
            let days = i128::from(it.months) * 28 + i128::from(it.days);
            Some(days * DAY + i128::from(it.nanoseconds))
        }
        ScalarValue::IntervalDayTime(Some(it)) => {
            Some(i128::from(it.days) * DAY + i128::from(it.milliseconds) * 1_000_000)
        }
        ScalarValue::IntervalYearMonth(Some(months)) => Some(i128::from(*months) * 28 * DAY),
        ScalarValue::Date32(Some(days)) => Some(i128::from(*days) * DAY),
        other => match other.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(Some(number)) => Some(i128::from(number) * scale),
            _ => None,
        },
    }
}

/// Whether a text is of letters of one byte.
fn ascii(value: &ColumnarValue) -> bool {
    match value {
        ColumnarValue::Scalar(
            ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text),
        ) => text.as_ref().is_none_or(|text| text.is_ascii()),
        _ => false,
    }
}

/// The bytes of an array's rows.
pub(super) fn bytes(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::Utf8View => (0..array.len())
            .filter(|row| array.is_valid(*row))
            .map(|row| 16 + usize::try_from(text_length(array, row)).unwrap_or(usize::MAX))
            .sum(),
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

/// The bytes of an array's largest value, about.
pub(super) fn largest(array: &dyn Array) -> usize {
    let value = Lengths::of(&ColumnarValue::Array(array.slice(0, array.len())));
    let most = (0..array.len()).filter_map(|row| value.at(row)).max().unwrap_or(0);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Bytes for people.
pub(super) fn shown(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}
