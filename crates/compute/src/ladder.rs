//! The lengths of a view's tiles.

use asof_model::{Length, Timestamp, Window};

use crate::window_edges;

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
/// Rows that tiles may stand in for stay for at most such a part of the longest window, taken for a year where it has no
/// lower edge: of the levels that allow it the longest tiles are the fewest.
const KEPT: i64 = 8;
const YEAR: i64 = 365 * 86_400_000_000;

/// The lengths of a view's tiles, from short to long; each is a multiple of the one before. Tiles that stand in for rows are
/// stored by the number of their level: for the same windows neither that nor [`Ladder::keeps`] may ever be another.
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

    /// The level whose tiles may stand in for the rows of these windows ([`Ladder::kept_until`]); none where rows would
    /// hardly go sooner than out of the longest window.
    pub fn keeps(&self, windows: &[Window]) -> Option<usize> {
        let reaches: Option<Vec<i64>> =
            windows.iter().map(|window| window.reach().map(|reach| reach.micros())).collect();
        let longest = reaches.map(|reaches| reaches.into_iter().max().unwrap_or(0));
        // How long rows are asked for: until they are out of the windows that cut tiles of the level, and in all others.
        let asked = |level: usize| {
            let of = |window: &Window| match self.is_cut(level, window) {
                true => window.reach().map_or(i64::MAX, Length::micros),
                false => window.offset.micros(),
            };
            windows.iter().map(of).max().unwrap_or(i64::MAX)
        };
        let least = (0..self.levels()).map(asked).min().unwrap_or(i64::MAX);
        let stay = |level: usize| asked(level).saturating_add(self.length(level));
        let of_use =
            || (0..self.levels()).filter(|level| longest.is_none_or(|longest| stay(*level) <= longest / 2));
        let most = (longest.unwrap_or(YEAR) / KEPT).max(least.saturating_mul(2));
        of_use().rfind(|level| stay(*level) <= most).or_else(|| of_use().next())
    }

    /// Before it no edge of these windows falls within a tile of the level, and all upper edges are past it, whoever
    /// asks at `horizon` or later: a tile says there whatever its rows would.
    pub fn kept_until(&self, level: usize, windows: &[Window], horizon: Timestamp) -> Timestamp {
        let edge = |window: &Window| {
            let (from, until) = window_edges(window, horizon);
            if self.is_cut(level, window) { from } else { until }
        };
        self.start(level, windows.iter().map(edge).min().unwrap_or(Timestamp(i64::MIN)))
    }

    /// Whether the lower edge of a window may fall within a tile of the level.
    fn is_cut(&self, level: usize, window: &Window) -> bool {
        let resolution = window.resolution.map_or(1, Length::micros);
        window.length.is_some() && resolution % self.length(level) != 0
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

    fn window(length: Option<&str>, offset: &str, resolution: Option<&str>) -> Window {
        let length_of = |text: &str| Length::parse(text).unwrap();
        Window {
            length: length.map(length_of),
            offset: length_of(offset),
            include_now: false,
            resolution: resolution.map(length_of),
        }
    }

    #[test]
    fn the_level_that_keeps_follows_the_windows() {
        let keeps = |windows: &[Window]| {
            let ladder = Ladder::of(windows);
            ladder.keeps(windows).map(|level| Length::from_micros(ladder.length(level)).to_string())
        };
        let all = window(None, "0s", None);
        let exact = |length| window(Some(length), "0s", None);
        let floored = |length, resolution| window(Some(length), "0s", Some(resolution));
        for (windows, expected) in [
            (vec![all], Some("64d")),
            (vec![all, exact("1h")], Some("8d")),
            (vec![all, exact("90d")], Some("64d")),
            (vec![all, floored("365d", "1d"), exact("1h")], Some("1d")),
            (vec![exact("30d")], None),
            (vec![floored("30d", "1d")], Some("1d")),
            (vec![floored("30d", "1d"), exact("30d")], None),
            (vec![floored("30d", "1d"), exact("1h")], Some("1d")),
            // Rows would be in the second window for longer than half of the first.
            (vec![floored("30d", "1d"), exact("20d")], None),
            // Of tiles of a day the second window would cut some: rows stay as long as it reaches.
            (vec![floored("30d", "1d"), floored("1d", "1h")], Some("1d")),
            (vec![floored("30d", "1d"), floored("20d", "1h")], Some("1h")),
            // No tile of the ladder divides it.
            (vec![floored("30d", "5m")], None),
            (vec![window(Some("1h"), "7d", Some("10m"))], None),
        ] {
            assert_eq!(keeps(&windows).as_deref(), expected, "{windows:?}");
        }
    }

    /// By trying: at whatever t from the horizon on, no edge falls within a tile that is kept, and all windows are past it.
    #[test]
    fn no_edge_falls_within_a_tile_that_is_kept() {
        let lengths = [None, Some(7), Some(60), Some(120)];
        let mut kept = 0;
        for (length, offset, include_now, resolution) in windows_of(&lengths) {
            let one = Window {
                length: length.map(Length::from_micros),
                offset: Length::from_micros(offset),
                include_now,
                resolution: resolution.map(Length::from_micros),
            };
            for windows in [vec![one], vec![one, window(None, "0s", None)]] {
                let ladder = Ladder { lengths: vec![10, 30] };
                for level in 0..2 {
                    for horizon in -70..70 {
                        let until = ladder.kept_until(level, &windows, Timestamp(horizon));
                        assert_eq!(until.0.rem_euclid(ladder.length(level)), 0);
                        kept += i64::from(until.0 > horizon - 60);
                        let edges = (horizon..horizon + 200).flat_map(|t| {
                            windows.iter().map(move |window| window_edges(window, Timestamp(t)))
                        });
                        for (from, to) in edges {
                            assert!(to >= until, "{windows:?} from {horizon}");
                            let within = from.0.rem_euclid(ladder.length(level)) != 0 && from < until;
                            assert!(!within || from.0 == i64::MIN, "{windows:?} from {horizon}: {from:?}");
                        }
                    }
                }
            }
        }
        assert!(kept > 1_000, "{kept}");
    }

    /// All windows of these lengths.
    fn windows_of(lengths: &[Option<i64>]) -> Vec<(Option<i64>, i64, bool, Option<i64>)> {
        let mut all = Vec::new();
        for length in lengths {
            for offset in [0, 13] {
                for include_now in [false, true] {
                    for resolution in [None, Some(5), Some(10), Some(60)] {
                        all.push((*length, offset, include_now, resolution));
                    }
                }
            }
        }
        all
    }

    #[test]
    fn tiles_begin_at_multiples_of_their_length_since_the_epoch() {
        let ladder = Ladder { lengths: vec![10, 60] };
        assert_eq!(ladder.start(0, Timestamp(-1)), Timestamp(-10));
        assert_eq!(ladder.start(1, Timestamp(59)), Timestamp(0));
        assert_eq!(ladder.start(1, Timestamp(60)), Timestamp(60));
    }
}
