//! How a column of any type becomes instants: the time rules of a source, once.
//!
//! - A naive time is UTC; with a zone it is civil time there. In the hour that a zone repeats the first
//!   of the two instants is meant; in the hour it leaves out, the time is moved on by the length of the
//!   gap (RFC 5545's rule).
//! - Nanoseconds are floored toward minus infinity.
//! - An integer is a time only with a unit. A float is never one.
//! - A date is its midnight: UTC, or the zone's.
//! - A text is RFC 3339, or ISO 8601 without an offset, which is then naive.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, Date32Type, Date64Type, Int64Type, TimeUnit as ArrowUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt64Type,
};
use asof_model::{DataType, TimeUnit, Timestamp};
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A value that cannot be what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadValue {
    /// Which row of the array.
    pub row: usize,
    /// What is wrong with it, without the value.
    pub reason: String,
}

/// The type that every instant has.
pub(crate) fn instant_type() -> ArrowType {
    ArrowType::Timestamp(ArrowUnit::Microsecond, Some("UTC".into()))
}

/// The zones that are built in, not the machine's: an instant must not change with a system's update.
static ZONES: std::sync::LazyLock<TimeZoneDatabase> = std::sync::LazyLock::new(TimeZoneDatabase::bundled);

/// The names of all zones.
pub(crate) fn zone_names() -> Vec<String> {
    ZONES.available().map(|name| name.to_string()).collect()
}

/// The zone of this name.
pub(crate) fn zone(name: &str) -> Result<TimeZone, String> {
    ZONES.get(name).map_err(|_| format!("`{name}` is not an IANA time zone"))
}

/// Whether columns of this type can be read as instants, and why not.
pub(crate) fn readable(kind: &ArrowType, unit: Option<TimeUnit>, zoned: bool) -> Result<(), String> {
    match kind {
        ArrowType::Dictionary(_, value) => readable(value, unit, zoned),
        ArrowType::Timestamp(_, Some(own)) if zoned => {
            Err(format!("its times carry their own zone `{own}`, so `zone` cannot apply"))
        }
        ArrowType::Timestamp(..) | ArrowType::Date32 | ArrowType::Date64 if unit.is_some() => {
            Err("it is of a time type already, so `unit` cannot apply".to_owned())
        }
        ArrowType::Timestamp(..) | ArrowType::Date32 | ArrowType::Date64 | ArrowType::Null => Ok(()),
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View if unit.is_some() => {
            Err("it is text, so `unit` cannot apply".to_owned())
        }
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => Ok(()),
        kind if kind.is_integer() && zoned => {
            Err("an integer with a unit counts from 1970 UTC, so `zone` cannot apply".to_owned())
        }
        kind if kind.is_integer() && unit.is_some() => Ok(()),
        kind if kind.is_integer() => Err("an integer is a time only with a unit".to_owned()),
        kind if kind.is_floating() => Err("a float is never a time".to_owned()),
        _ => Err("its type is not a time".to_owned()),
    }
}

/// The instants of a column, in the years 0001 to 9999; null stays null.
///
/// # Errors
/// [`BadValue`] at the first value that is no such instant. Types that [`readable`] refuses are
/// refused at row 0.
pub(crate) fn instants(
    array: &ArrayRef,
    unit: Option<TimeUnit>,
    zone: Option<&TimeZone>,
) -> Result<TimestampMicrosecondArray, BadValue> {
    if unit.is_some() && matches!(array.data_type(), ArrowType::Utf8) {
        // A cell of a CSV file.
        return instants(&super::columns::convert(array, &DataType::Int64)?, unit, zone);
    }
    readable(array.data_type(), unit, zone.is_some()).map_err(|reason| BadValue { row: 0, reason })?;
    let read = match array.data_type() {
        ArrowType::Dictionary(_, value) => {
            let plain = cast(array, value).map_err(|e| BadValue { row: 0, reason: e.to_string() })?;
            return instants(&plain, unit, zone);
        }
        ArrowType::Null => TimestampMicrosecondArray::new_null(array.len()),
        ArrowType::Timestamp(unit, own) => {
            let civil = zone.filter(|_| own.is_none());
            match unit {
                ArrowUnit::Second => {
                    scaled::<TimestampSecondType>(array, civil, |n| n.checked_mul(1_000_000))?
                }
                ArrowUnit::Millisecond => {
                    scaled::<TimestampMillisecondType>(array, civil, |n| n.checked_mul(1_000))?
                }
                ArrowUnit::Microsecond if civil.is_none() => {
                    let same = array.as_primitive::<TimestampMicrosecondType>();
                    TimestampMicrosecondArray::new(same.values().clone(), same.nulls().cloned())
                }
                ArrowUnit::Microsecond => scaled::<TimestampMicrosecondType>(array, civil, Some)?,
                ArrowUnit::Nanosecond => {
                    scaled::<TimestampNanosecondType>(array, civil, |n| Some(n.div_euclid(1_000)))?
                }
            }
        }
        ArrowType::Date32 => {
            scaled::<Date32Type>(array, zone, |days| i64::from(days).checked_mul(86_400_000_000))?
        }
        ArrowType::Date64 => scaled::<Date64Type>(array, zone, |n| n.checked_mul(1_000))?,
        kind if kind.is_integer() => {
            let factor = |n: i64| match unit {
                Some(TimeUnit::S) => n.checked_mul(1_000_000),
                Some(TimeUnit::Ms) => n.checked_mul(1_000),
                Some(TimeUnit::Ns) => Some(n.div_euclid(1_000)),
                Some(TimeUnit::Us) | None => Some(n),
            };
            if *kind == ArrowType::UInt64 {
                scaled::<UInt64Type>(array, None, |n| i64::try_from(n).ok().and_then(factor))?
            } else {
                let wide =
                    cast(array, &ArrowType::Int64).map_err(|e| BadValue { row: 0, reason: e.to_string() })?;
                scaled::<Int64Type>(&wide, None, factor)?
            }
        }
        _ => texts(array, zone)?,
    };
    let first = Timestamp::FIRST.0;
    let last = Timestamp::LAST.0;
    let outside = |row: usize, value: i64| read.is_valid(row) && !(first..=last).contains(&value);
    match read.values().iter().enumerate().find(|(row, value)| outside(*row, **value)) {
        Some((row, _)) => Err(BadValue { row, reason: OUTSIDE.to_owned() }),
        None => Ok(read.with_timezone("UTC")),
    }
}

/// What is said of an instant or a date that no calendar of ours has.
pub(super) const OUTSIDE: &str = "is outside the years 0001 to 9999";

/// What is wrong with a value that is no time at all.
pub(super) const NO_TIME: &str = "is not a time as 2013-06-01T12:00:00Z";

fn scaled<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    zone: Option<&TimeZone>,
    scale: impl Fn(T::Native) -> Option<i64>,
) -> Result<TimestampMicrosecondArray, BadValue> {
    let values: &PrimitiveArray<T> = array.as_primitive();
    let mut out = Vec::with_capacity(values.len());
    for (row, value) in values.values().iter().enumerate() {
        if values.is_null(row) {
            out.push(0);
            continue;
        }
        let micros = scale(*value).ok_or_else(|| BadValue { row, reason: OUTSIDE.to_owned() })?;
        out.push(match zone {
            None => micros,
            Some(zone) => {
                civil_micros(micros, zone).ok_or_else(|| BadValue { row, reason: OUTSIDE.to_owned() })?
            }
        });
    }
    Ok(TimestampMicrosecondArray::new(out.into(), values.nulls().cloned()))
}

/// The instant at which clocks of the zone show what these microseconds show in UTC.
fn civil_micros(micros: i64, zone: &TimeZone) -> Option<i64> {
    let (days, rest) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
    let days = jiff::Span::new().try_days(days).ok()?;
    let date = jiff::civil::date(1970, 1, 1).checked_add(days).ok()?;
    let time = jiff::Span::new().try_microseconds(rest).ok()?;
    civil_instant(date.at(0, 0, 0, 0).checked_add(time).ok()?, zone)
}

/// The instant at which clocks of the zone show this, in microseconds.
fn civil_instant(civil: jiff::civil::DateTime, zone: &TimeZone) -> Option<i64> {
    match zone.to_ambiguous_timestamp(civil).compatible() {
        Ok(instant) => i64::try_from(instant.as_nanosecond().div_euclid(1_000)).ok(),
        // jiff's instants end a day before the year 9999 does, and no zone changes its clocks then.
        Err(_) => {
            let offset = zone.to_offset(jiff::Timestamp::MAX).seconds();
            Timestamp::of_civil(civil)?.0.checked_sub(i64::from(offset) * 1_000_000)
        }
    }
}

fn texts(array: &ArrayRef, zone: Option<&TimeZone>) -> Result<TimestampMicrosecondArray, BadValue> {
    let plain = cast(array, &ArrowType::Utf8).map_err(|e| BadValue { row: 0, reason: e.to_string() })?;
    let plain = plain.as_string::<i32>();
    let mut out = Vec::with_capacity(plain.len());
    for row in 0..plain.len() {
        out.push(match plain.is_valid(row) {
            true => parse(plain.value(row), zone)
                .ok_or_else(|| BadValue { row, reason: why_not(plain.value(row)).to_owned() })?,
            false => 0,
        });
    }
    Ok(TimestampMicrosecondArray::new(out.into(), plain.nulls().cloned()))
}

/// Microseconds of an RFC 3339 text, of a civil time in the zone (none: UTC), or of a date.
pub(crate) fn parse(text: &str, zone: Option<&TimeZone>) -> Option<i64> {
    if !text.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    if let Some(zone) = zone {
        let read = jiff::fmt::temporal::Pieces::parse(text).ok()?;
        if read.offset().is_none() && read.time_zone_annotation().is_none() {
            let civil = read.date().to_datetime(read.time().unwrap_or_default());
            return civil_instant(civil, zone);
        }
    }
    Timestamp::parse(text).ok().map(|found| found.0)
}

/// Why [`parse`] has no instant for a text: a time, but of another year, or none at all.
fn why_not(text: &str) -> &'static str {
    let unsigned = text.trim_start_matches(['+', '-']);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let (year, rest) = unsigned.split_at(digits);
    let signed = unsigned.len() < text.len();
    if digits < 4 || text.len() - unsigned.len() > 1 || !rest.starts_with('-') {
        return NO_TIME;
    }
    // The same time in a year that there is; 29 February only where the year has one, as far as we know.
    let other = match year {
        "0001" | "9999" => "2001",
        _ if digits > 4 || signed || year == "0000" => "2000",
        _ => return NO_TIME,
    };
    match parse(&format!("{other}{rest}"), None) {
        Some(_) => OUTSIDE,
        None => NO_TIME,
    }
}

/// Whether a text says itself how far from UTC it is, so that no zone named beside it applies.
pub(crate) fn has_offset(text: &str) -> bool {
    text.get(10..).is_some_and(|time| time.contains(['Z', 'z', '+', '-', '[']))
}

/// All null, or all this instant.
pub(crate) fn constant(value: Option<i64>, rows: usize) -> ArrayRef {
    let array = match value {
        Some(value) => TimestampMicrosecondArray::from_value(value, rows),
        None => TimestampMicrosecondArray::new_null(rows),
    };
    Arc::new(array.with_timezone("UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_instant_says_why() {
        let none = "is not a time as 2013-06-01T12:00:00Z";
        for (text, why) in [
            ("0000-12-31T23:59:59Z", OUTSIDE),
            ("0000-02-29", OUTSIDE),
            ("10000-01-01T00:00:00Z", OUTSIDE),
            ("+012013-06-01T12:00:00Z", OUTSIDE),
            ("-000044-03-15", OUTSIDE),
            ("-0044-03-15 12:00:00", OUTSIDE),
            ("0001-01-01T00:00:00+02:00", OUTSIDE),
            ("9999-12-31T23:00:00-02:00", OUTSIDE),
            ("9999-02-29", none),
            ("0000-13-01", none),
            ("0000-00-00", none),
            ("10000-01-01T25:00:00Z", none),
            ("2013-02-30", none),
            ("20130601x", none),
            ("--2013-06-01", none),
            ("yesterday", none),
            ("\u{660}000-01-01", none),
            ("", none),
        ] {
            assert_eq!(parse(text, None), None, "{text}");
            assert_eq!(why_not(text), why, "{text}");
        }
    }

    #[test]
    fn civil_times_of_the_last_day_are_instants() {
        let tokyo = zone("Asia/Tokyo").unwrap();
        let last = Timestamp::parse("9999-12-31T14:59:59Z").unwrap().0;
        assert_eq!(parse("9999-12-31 23:59:59", Some(&tokyo)), Some(last));
        let civil = Timestamp::parse("9999-12-31T23:59:59Z").unwrap().0;
        assert_eq!(civil_micros(civil, &tokyo), Some(last));
        assert_eq!(civil_micros(i64::MAX, &tokyo), None);
        // Noon of a summer's day, and a time before 1970 that is no whole second.
        let noon = Timestamp::parse("2013-06-01T03:00:00Z").unwrap().0;
        assert_eq!(civil_micros(noon + 9 * 3_600_000_000, &tokyo), Some(noon));
        assert_eq!(civil_micros(-1, &TimeZone::UTC), Some(-1));
    }
}
