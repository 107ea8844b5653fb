//! Instants and lengths, in whole microseconds.

use std::fmt;
use std::sync::LazyLock;

use jiff::fmt::temporal::{DateTimeParser, Pieces, PiecesOffset};
use jiff::tz::TimeZoneDatabase;
use serde::{Deserialize, Serialize};

/// An instant: microseconds since 1970-01-01T00:00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// 0001-01-01T00:00:00Z, the first instant a row may carry.
    pub const FIRST: Timestamp = Timestamp(-62_135_596_800_000_000);
    /// 9999-12-31T23:59:59.999999Z, the last instant a row may carry.
    pub const LAST: Timestamp = Timestamp(253_402_300_799_999_999);
    /// Before all time: the event time of a row of a source without a clock.
    pub const BEFORE_ALL: Timestamp = Timestamp(i64::MIN);
    /// After all time: when a row whose `available_at` is null may be used.
    pub const NEVER: Timestamp = Timestamp(i64::MAX);

    /// Reads RFC 3339 (`2013-06-01T12:00:00Z`, with a zone or an offset, up to nanoseconds, floored
    /// to microseconds), a civil date-time without a zone (read as UTC), or a date (its midnight).
    ///
    /// # Errors
    /// [`BadTimestamp`] where the text is none of these or outside years 0001..=9999.
    pub fn parse(text: &str) -> Result<Timestamp, BadTimestamp> {
        let bad = || BadTimestamp { text: text.to_owned() };
        let read = Pieces::parse(text).map_err(|_| bad())?;
        // jiff's own instants end a day before the year 9999 does, so the arithmetic is ours.
        let offset = match (read.offset(), read.time_zone_annotation()) {
            (Some(PiecesOffset::Numeric(offset)), None) => i64::from(offset.offset().seconds()),
            (Some(_) | None, None) => 0,
            (_, Some(_)) => {
                // By the zones that are built in: an instant must not change with a system's update.
                static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
                let zoned = DateTimeParser::new().parse_zoned_with(&ZONES, text).map_err(|_| bad())?;
                i64::from(zoned.offset().seconds())
            }
        };
        if read.offset().is_some() && read.time().is_none() {
            return Err(bad());
        }
        let civil = read.date().to_datetime(read.time().unwrap_or_default());
        Timestamp::of_civil(civil)
            .and_then(|found| found.0.checked_sub(offset * 1_000_000))
            .map(Timestamp)
            .filter(|found| (Timestamp::FIRST..=Timestamp::LAST).contains(found))
            .ok_or_else(bad)
    }

    /// The instant at which a clock of UTC shows this, floored to microseconds; none outside of the years
    /// 0001 to 9999.
    pub fn of_civil(civil: jiff::civil::DateTime) -> Option<Timestamp> {
        if !(1..=9999).contains(&civil.year()) {
            return None;
        }
        let days = (civil.date() - jiff::civil::date(1970, 1, 1)).get_days();
        let nanos = jiff::civil::Time::midnight().duration_until(civil.time()).as_nanos();
        let micros = i64::try_from(nanos.div_euclid(1_000)).ok()?;
        Some(Timestamp(i64::from(days) * 86_400_000_000 + micros))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with six digits of a second, e.g. `2013-06-01T12:00:00.000000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Timestamp::BEFORE_ALL => f.write_str("before all time"),
            Timestamp::NEVER => f.write_str("never"),
            at if !(Timestamp::FIRST..=Timestamp::LAST).contains(&at) => write!(f, "{} us", at.0),
            Timestamp(micros) => {
                let days = micros.div_euclid(86_400_000_000) as i32;
                let rest = micros.rem_euclid(86_400_000_000);
                let date = jiff::civil::date(1970, 1, 1).saturating_add(jiff::Span::new().days(days));
                let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
                let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
                write!(f, "{date}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
            }
        }
    }
}

/// A text that is no instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a time: write it as 2013-06-01T12:00:00Z, in the years 0001 to 9999")]
pub struct BadTimestamp {
    /// The text as given.
    pub text: String,
}

/// A length of time in microseconds, never negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Length(i64);

impl Length {
    const UNITS: [(&'static str, i64); 7] = [
        ("w", 604_800_000_000),
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
    ];

    /// A length of so many microseconds; negative is read as zero.
    pub fn from_micros(micros: i64) -> Length {
        Length(micros.max(0))
    }

    /// So many minutes.
    pub(crate) const fn minutes(minutes: u32) -> Length {
        Length(minutes as i64 * 60_000_000)
    }

    /// So many days.
    pub(crate) const fn days(days: u32) -> Length {
        Length(days as i64 * 86_400_000_000)
    }

    /// Its microseconds.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Whether it is none at all.
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// Reads `90d`, `1h`, `15m`, `30s`, `500ms`, `10us`, `2w`, at most 10,000 years.
    ///
    /// # Errors
    /// [`BadLength`] for anything else.
    pub fn parse(text: &str) -> Result<Length, BadLength> {
        let bad = || BadLength { text: text.to_owned() };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: i64 = number.parse().map_err(|_| bad())?;
        let (_, micros) = Length::UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let total = number.checked_mul(*micros).ok_or_else(bad)?;
        if total > 3_652_500 * 86_400_000_000 { Err(bad()) } else { Ok(Length(total)) }
    }
}

impl fmt::Display for Length {
    /// The largest unit that divides it, e.g. `90d`; zero is `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        for (unit, micros) in Length::UNITS {
            if unit != "w" && self.0 % micros == 0 {
                return write!(f, "{}{unit}", self.0 / micros);
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Length {
    type Error = BadLength;
    fn try_from(text: String) -> Result<Length, BadLength> {
        Length::parse(&text)
    }
}

impl From<Length> for String {
    fn from(length: Length) -> String {
        length.to_string()
    }
}

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a length of time: write a whole number and a unit, e.g. 90d, 1h, 15m, 30s, 500ms; at most 10,000 years"
)]
pub struct BadLength {
    /// The text as given.
    pub text: String,
}

/// Where the present comes from. Only the binary reads the system's clock; every room is handed one.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_written() {
        for (text, micros, written) in [
            ("90d", 7_776_000_000_000, "90d"),
            ("24h", 86_400_000_000, "1d"),
            ("1500ms", 1_500_000, "1500ms"),
            ("2w", 1_209_600_000_000, "14d"),
            ("0s", 0, "0s"),
        ] {
            let length = Length::parse(text).unwrap();
            assert_eq!(length.micros(), micros);
            assert_eq!(length.to_string(), written);
        }
        for text in ["", "d", "1", "1.5h", "-1d", "1 d", "1y", "99999999999d"] {
            assert!(Length::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timestamps_are_floored_to_microseconds() {
        for (text, written) in [
            ("2013-06-01T12:00:00Z", "2013-06-01T12:00:00.000000Z"),
            ("2013-06-01T12:00:00-04:00", "2013-06-01T16:00:00.000000Z"),
            ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
            ("2013-06-01", "2013-06-01T00:00:00.000000Z"),
            ("2013-06-01 12:00:00", "2013-06-01T12:00:00.000000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("9999-12-31T12:00:00-10:00", "9999-12-31T22:00:00.000000Z"),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), written);
        }
        assert!(Timestamp::parse("yesterday").is_err());
        for text in
            ["0000-01-01", "0000-12-31T23:00:00Z", "9999-12-31T23:00:00-02:00", "2013-06-01T25:00:00Z"]
        {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
        assert_eq!(Timestamp::FIRST.to_string(), "0001-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp::LAST.to_string(), "9999-12-31T23:59:59.999999Z");
    }
}
