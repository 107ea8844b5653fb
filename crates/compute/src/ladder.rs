//! The lengths of a view's tiles.

use asof_model::{Timestamp, Window};

/// Lengths, each a multiple of the one before, in microseconds: from a quarter of a second to 64 days.
const LENGTHS: [i64; 10] = [
    250_000,
    1_000_000,
    10_000_000,
    60_000_000,
    600_000_000,
    3_600_000_000,
    21_600_000_000,
    86_400_000_000,
    691_200_000_000,
    5_529_600_000_000,
];

/// A window is covered by at least so many of the shortest tiles: at its two ends so small a part of it is read row
/// by row.
const FINEST: i64 = 4_096;
/// And by at least so many of the longest.
const COARSEST: i64 = 4;

/// The lengths of a view's tiles, from short to long; each is a multiple of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    lengths: Vec<i64>,
}

impl Ladder {
    /// For these windows. A window without a lower edge is covered by the longest tiles there are.
    pub fn of(windows: &[Window]) -> Ladder {
        let length = |window: &Window| window.length.map_or(i64::MAX, |length| length.micros());
        let shortest = windows.iter().map(length).min().unwrap_or(i64::MAX);
        let longest = windows.iter().map(length).max().unwrap_or(i64::MAX);
        let fits = |part: i64, of: i64, count: i64| part <= of / count;
        let finest = LENGTHS.iter().rposition(|part| fits(*part, shortest, FINEST)).unwrap_or(0);
        let coarsest = LENGTHS.iter().rposition(|part| fits(*part, longest, COARSEST)).unwrap_or(0);
        Ladder { lengths: LENGTHS[finest..=coarsest.max(finest)].to_vec() }
    }

    /// How many levels there are, the first of the shortest tiles.
    pub fn levels(&self) -> usize {
        self.lengths.len()
    }

    /// The length of a level's tiles in microseconds.
    pub fn length(&self, level: usize) -> i64 {
        self.lengths[level]
    }

    /// Where the tile of a level begins that an event time lies in.
    pub fn start(&self, level: usize, event_time: Timestamp) -> Timestamp {
        let length = self.lengths[level];
        Timestamp(event_time.0.div_euclid(length).saturating_mul(length))
    }
}

#[cfg(test)]
mod tests {
    use asof_model::Length;

    use super::*;

    #[test]
    fn the_ladder_follows_the_windows() {
        let of = |lengths: &[Option<Length>]| {
            let window = |length: &Option<Length>| Window {
                length: *length,
                offset: Length::from_micros(0),
                include_now: false,
                resolution: None,
            };
            let ladder = Ladder::of(&lengths.iter().map(window).collect::<Vec<_>>());
            (ladder.length(0), ladder.length(ladder.levels() - 1))
        };
        let [minute, hour, day, month, year] =
            ["1m", "1h", "1d", "30d", "365d"].map(|text| Length::parse(text).unwrap());
        assert_eq!(of(&[Some(hour), Some(day), Some(month)]), (250_000, 86_400_000_000));
        assert_eq!(of(&[Some(minute)]), (250_000, 10_000_000));
        assert_eq!(of(&[Some(year)]), (3_600_000_000, 5_529_600_000_000));
        assert_eq!(of(&[None]), (5_529_600_000_000, 5_529_600_000_000));
        assert!(LENGTHS.windows(2).all(|pair| pair[1] % pair[0] == 0));
    }

    #[test]
    fn tiles_begin_at_multiples_of_their_length_since_the_epoch() {
        let ladder = Ladder { lengths: vec![10, 60] };
        assert_eq!(ladder.start(0, Timestamp(-1)), Timestamp(-10));
        assert_eq!(ladder.start(1, Timestamp(59)), Timestamp(0));
        assert_eq!(ladder.start(1, Timestamp(60)), Timestamp(60));
    }
}
