//! Instants and lengths, in whole microseconds.

use std::fmt;

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
        let instant = if let Ok(instant) = text.parse::<jiff::Timestamp>() {
            instant
        } else if let Ok(civil) = text.parse::<jiff::civil::DateTime>() {
            civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| bad())?.timestamp()
        } else {
            return Err(bad());
        };
        let micros = instant.as_nanosecond().div_euclid(1_000);
        let found = i64::try_from(micros).map(Timestamp).map_err(|_| bad())?;
        if found < Timestamp::FIRST || found > Timestamp::LAST { Err(bad()) } else { Ok(found) }
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with six digits of a second, e.g. `2013-06-01T12:00:00.000000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Timestamp::BEFORE_ALL => f.write_str("before all time"),
            Timestamp::NEVER => f.write_str("never"),
            Timestamp(micros) => match jiff::Timestamp::from_microsecond(micros) {
                Ok(instant) => write!(f, "{instant:.6}"),
                Err(_) => write!(f, "{micros} us"),
            },
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

    /// Its microseconds.
    pub fn micros(self) -> i64 {
        self.0
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
#[error("`{text}` is not a length of time: write a whole number and a unit, e.g. 90d, 1h, 15m, 30s, 500ms")]
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
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), written);
        }
        assert!(Timestamp::parse("yesterday").is_err());
        assert!(Timestamp::parse("0000-01-01").is_err());
    }
}
