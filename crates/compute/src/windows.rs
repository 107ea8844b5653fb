//! Which rows a window counts at t, and at which t it counts a row (SEMANTICS 3.2): the one place that decides
//! it, as half-open integer edges.

use asof_model::{Timestamp, Window};

/// The event times that count at `t`: from the first edge on, before the second.
#[inline]
pub fn window_edges(window: &Window, t: Timestamp) -> (Timestamp, Timestamp) {
    let until = t.0.saturating_sub(window.offset.micros()).saturating_add(i64::from(window.include_now));
    let from = match window.length {
        Some(length) => floor(until.saturating_sub(length.micros()), window),
        None => i64::MIN,
    };
    (Timestamp(from), Timestamp(until))
}

/// The instants at which a row counts: from the first edge on, before the second; [`Timestamp::NEVER`] is no edge.
#[inline]
pub fn window_instants(window: &Window, event_time: Timestamp) -> (Timestamp, Timestamp) {
    // `e < until(t)` and `from(t) <= e`, each asked of t.
    let back = window.offset.micros() - i64::from(window.include_now);
    let next = event_time.0.saturating_add(1);
    let from = next.saturating_add(back);
    let until = match window.length {
        Some(length) => ceil(next, window).saturating_add(length.micros()).saturating_add(back),
        None => Timestamp::NEVER.0,
    };
    (Timestamp(from), Timestamp(until))
}

fn resolution(window: &Window) -> i64 {
    window.resolution.map_or(1, |resolution| resolution.micros().max(1))
}

/// Down to a multiple of the resolution since the epoch, toward minus infinity.
#[inline]
fn floor(edge: i64, window: &Window) -> i64 {
    match resolution(window) {
        1 => edge,
        step => edge.div_euclid(step).saturating_mul(step),
    }
}

/// Up to such a multiple.
#[inline]
fn ceil(edge: i64, window: &Window) -> i64 {
    match resolution(window) {
        1 => edge,
        step => match edge.rem_euclid(step) {
            0 => edge,
            past => edge.saturating_add(step - past),
        },
    }
}

#[cfg(test)]
mod tests {
    use asof_model::Length;

    use super::*;

    fn window(length: Option<i64>, offset: i64, include_now: bool, resolution: Option<i64>) -> Window {
        Window {
            length: length.map(Length::from_micros),
            offset: Length::from_micros(offset),
            include_now,
            resolution: resolution.map(Length::from_micros),
        }
    }

    #[test]
    fn edges_are_those_of_the_contract() {
        let at = |window: Window, t| {
            let (from, until) = window_edges(&window, Timestamp(t));
            (from.0, until.0)
        };
        assert_eq!(at(window(Some(10), 0, false, None), 100), (90, 100));
        assert_eq!(at(window(Some(10), 0, true, None), 100), (91, 101));
        assert_eq!(at(window(Some(10), 5, false, None), 100), (85, 95));
        assert_eq!(at(window(None, 5, false, None), 100), (i64::MIN, 95));
        // Only the lower edge is floored, toward minus infinity, and as the half-open edge that it is.
        assert_eq!(at(window(Some(10), 0, false, Some(4)), 101), (88, 101));
        assert_eq!(at(window(Some(10), 0, true, Some(4)), 101), (92, 102));
        assert_eq!(at(window(Some(10), 0, false, Some(4)), 3), (-8, 3));
    }

    #[test]
    fn rows_count_at_the_instants_whose_windows_hold_them() {
        for length in [None, Some(1), Some(2), Some(7)] {
            for (offset, include_now) in [(0, false), (0, true), (3, false), (3, true)] {
                for resolution in [None, Some(1), Some(2), Some(5)] {
                    let window = window(length, offset, include_now, resolution);
                    for event_time in -20..20 {
                        let (first, past) = window_instants(&window, Timestamp(event_time));
                        for t in -40..60 {
                            let (from, until) = window_edges(&window, Timestamp(t));
                            let counts = (from.0..until.0).contains(&event_time);
                            let within = (first.0..past.0).contains(&t);
                            assert_eq!(counts, within, "{window:?} {event_time} at {t}");
                        }
                    }
                }
            }
        }
    }
}
