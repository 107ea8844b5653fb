//! Windows: slots between the edges of all windows; what is late for a slot, or ends, is added and taken out.

use std::collections::BTreeMap;

use asof_model::Question;
use asof_testkit::{Aggregate, Argument, Function, Row, SpineRow, Value, Window, WindowView};
use num_bigint::{BigInt, BigUint};

use super::{Asked, Standing, Tree, below, by_key, standing};
use crate::real::{Real, wholes};

/// What a feature answers; a float that must be rounded stays the real number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    Value(Value),
    Real(Real),
    Nothing,
    NoKey,
    Overflow,
}

/// Answers by spine row and feature, in the order of the view's features.
pub(crate) fn windows(
    rows: &[Row],
    spine: &[SpineRow],
    view: &WindowView,
    question: Question,
) -> Vec<Vec<Found>> {
    let width = view.windows.len();
    let mut answers = vec![vec![Found::NoKey; view.features().count()]; spine.len()];
    let standing = standing(rows, question);
    for (key, asked) in by_key(spine, &view.view) {
        let passes = |row: &Row| !row.delete && (!view.view.filter || matches!(row.state, Some("ok")));
        let mine = standing.iter().filter(|one| passes(one.row) && one.row.key(&view.view) == key);
        let folded = Folded::new(mine, &asked, &view.windows);
        for (place, aggregate) in view.aggregates.iter().enumerate() {
            for (number, _) in view.windows.iter().enumerate() {
                let found = folded.answers(aggregate, number, &asked.times);
                for (found, asked) in found.into_iter().zip(&asked.numbers) {
                    answers[*asked][place * width + number] = found;
                }
            }
        }
    }
    answers
}

/// The rows of a key, where each counts.
struct Folded<'a> {
    /// Slot i holds event times from edge i - 1 to edge i.
    slots: Vec<Vec<&'a Standing<'a>>>,
    /// By window and spine row, the slots covered: from the first, up to the second and without it.
    covered: Vec<Vec<(usize, usize)>>,
    /// By window, the rows that are no part of a slot and the spine rows that they count for.
    apart: Vec<Vec<(usize, usize, &'a Standing<'a>)>>,
}

impl<'a> Folded<'a> {
    fn new(rows: impl Iterator<Item = &'a Standing<'a>>, asked: &Asked, windows: &[Window]) -> Folded<'a> {
        let ends = |window: &Window, t: i64| {
            let end = if window.include_now { t - window.offset + 1 } else { t - window.offset };
            let begin = window.length.map(|length| end - length);
            (begin.map(|begin| window.resolution.map_or(begin, |floor| begin.div_euclid(floor) * floor)), end)
        };
        let mut edges = Vec::new();
        for window in windows {
            for (begin, end) in asked.times.iter().map(|t| ends(window, *t)) {
                edges.extend(begin.into_iter().chain([end]));
            }
        }
        edges.sort_unstable();
        edges.dedup();
        let mut first_asked = vec![i64::MAX; edges.len() + 1];
        let mut covered = Vec::new();
        for window in windows {
            let range = |t: &i64| {
                let (begin, end) = ends(window, *t);
                let from = begin.map_or(0, |begin| below(&edges, begin) + 1);
                (from, (below(&edges, end) + 1).max(from))
            };
            let ranges: Vec<(usize, usize)> = asked.times.iter().map(range).collect();
            for ((from, to), t) in ranges.iter().zip(&asked.times) {
                for first in &mut first_asked[*from..*to] {
                    *first = (*first).min(*t);
                }
            }
            covered.push(ranges);
        }
        let mut slots = vec![Vec::new(); edges.len() + 1];
        let mut apart = vec![Vec::new(); windows.len()];
        for one in rows {
            let slot = edges.partition_point(|edge| *edge <= one.row.e);
            if one.until.is_none() && one.from <= first_asked[slot] {
                slots[slot].push(one);
                continue;
            }
            for (window, apart) in windows.iter().zip(&mut apart) {
                let (first, behind) = stretch(window, one);
                let from = below(&asked.times, first);
                let to = behind.map_or(asked.times.len(), |behind| below(&asked.times, behind));
                if from < to {
                    apart.push((from, to, one));
                }
            }
        }
        Folded { slots, covered, apart }
    }

    fn answers(&self, aggregate: &Aggregate, window: usize, times: &[i64]) -> Vec<Found> {
        let asked = times.len();
        match aggregate.function {
            Function::CountDistinct(_)
            | Function::CollectList(_)
            | Function::Histogram(_)
            | Function::ApproxDistinct
            | Function::ApproxTopK(..)
            | Function::ApproxQuantile(_) => {
                let counts = self.swept::<Counts>(aggregate, window, asked).into_iter();
                counts.map(|counts| finish_counts(aggregate.function, counts)).collect()
            }
            Function::Count
            | Function::Sum
            | Function::Mean
            | Function::Variance
            | Function::VariancePop
            | Function::Stddev
            | Function::StddevPop => {
                let sums = self.swept::<Sums>(aggregate, window, asked).into_iter();
                sums.map(|sums| finish_sums(aggregate, sums)).collect()
            }
            _ => self.gathered(aggregate, window, times),
        }
    }

    /// What can be taken out again: prefixes over the slots, and a running total of what is apart.
    fn swept<S: State>(&self, aggregate: &Aggregate, window: usize, asked: usize) -> Vec<S> {
        let mut prefixes = vec![S::default()];
        for slot in &self.slots {
            let mut prefix = prefixes.last().unwrap().clone();
            for one in slot {
                prefix.take(aggregate, one.row, 1);
            }
            prefixes.push(prefix);
        }
        let mut changes: Vec<Vec<(&Row, i64)>> = vec![Vec::new(); asked + 1];
        for (from, to, one) in &self.apart[window] {
            changes[*from].push((one.row, 1));
            changes[*to].push((one.row, -1));
        }
        let mut running = S::default();
        let answer = |(changes, (from, to)): (&Vec<(&Row, i64)>, &(usize, usize))| {
            for (row, sign) in changes {
                running.take(aggregate, row, *sign);
            }
            let mut answer = running.clone();
            answer.add(&prefixes[*to], 1);
            answer.add(&prefixes[*from], -1);
            answer
        };
        changes.iter().zip(&self.covered[window]).map(answer).collect()
    }

    /// What cannot: all rows of the slots, and those that a tree has for the spine row.
    fn gathered(&self, aggregate: &Aggregate, window: usize, times: &[i64]) -> Vec<Found> {
        let mut tree: Tree<&Standing> = Tree::new(times.len());
        for (from, to, one) in &self.apart[window] {
            tree.put(*from, *to, one);
        }
        let of = |row: &Row| aggregate.argument.map_or(Some(Value::Int(1)), |argument| argument.of(row));
        let answer = |(place, (from, to)): (usize, &(usize, usize))| {
            let mut rows: Vec<&Standing> = self.slots[*from..*to].iter().flatten().copied().collect();
            rows.extend(tree.at(place));
            rows.retain(|one| aggregate.passes(one.row) && of(one.row).is_some());
            rows.sort_by(|a, b| a.order.cmp(&b.order));
            let value = |one: &&Standing| of(one.row).unwrap();
            let mut values = rows.iter().map(value);
            let one = |value: Option<Value>| value.map_or(Found::Nothing, Found::Value);
            let list = |values: Vec<Value>| {
                if values.is_empty() { Found::Nothing } else { Found::Value(Value::List(values)) }
            };
            match aggregate.function {
                Function::Min => one(values.min()),
                Function::Max => one(values.max()),
                Function::First => one(values.next()),
                Function::Last => one(values.next_back()),
                Function::FirstN(n) => list(values.take(n).collect()),
                Function::LastN(n) => {
                    let mut last: Vec<Value> = rows.iter().rev().take(n).map(value).collect();
                    last.reverse();
                    list(last)
                }
                Function::DecayedSum(half_life) | Function::DecayedCount(half_life) => {
                    let sum = matches!(aggregate.function, Function::DecayedSum(_));
                    let weight = |value| if sum { value } else { Value::Int(1) };
                    let values = rows.iter().map(|one| (weight(value(one)), one.row.e));
                    decayed(&values.collect::<Vec<_>>(), half_life, times[place])
                }
                _ => Found::Nothing,
            }
        };
        self.covered[window].iter().enumerate().map(answer).collect()
    }
}

/// The t whose window has a row while it stands: from the first, up to the second and without it.
fn stretch(window: &Window, one: &Standing) -> (i64, Option<i64>) {
    let e = one.row.e;
    let first = if window.include_now { e + window.offset } else { e + window.offset + 1 };
    // The lower edge passes e as soon as it is floored to the next multiple.
    let behind = window.length.map(|length| {
        let floor = window.resolution.unwrap_or(1);
        first - e + length - 1 + (e.div_euclid(floor) + 1) * floor
    });
    let behind = behind.into_iter().chain(one.until).min();
    (first.max(one.from), behind)
}

/// What rows can be put into and taken out of.
trait State: Clone + Default {
    fn take(&mut self, aggregate: &Aggregate, row: &Row, sign: i64);
    fn add(&mut self, other: &Self, sign: i64);
}

/// Counts and sums.
#[derive(Clone, Default)]
struct Sums {
    rows: i64,
    values: i64,
    nan: i64,
    up: i64,
    down: i64,
    sum: BigInt,
    squares: BigInt,
}

impl State for Sums {
    fn take(&mut self, aggregate: &Aggregate, row: &Row, sign: i64) {
        if !aggregate.passes(row) {
            return;
        }
        self.rows += sign;
        let Some(argument) = aggregate.argument else { return };
        let Some(value) = argument.of(row) else { return };
        self.values += sign;
        let number = match value {
            Value::Int(int) => BigInt::from(int),
            Value::Float(float) if float.get().is_nan() => {
                self.nan += sign;
                return;
            }
            Value::Float(float) if float.get() == f64::INFINITY => {
                self.up += sign;
                return;
            }
            Value::Float(float) if float.get() == f64::NEG_INFINITY => {
                self.down += sign;
                return;
            }
            Value::Float(float) => {
                let number = wholes(float.get().abs().to_bits());
                if float.get() < 0.0 { -number } else { number }
            }
            _ => return,
        };
        self.squares += &number * &number * sign;
        self.sum += number * sign;
    }

    fn add(&mut self, other: &Sums, sign: i64) {
        self.rows += sign * other.rows;
        self.values += sign * other.values;
        self.nan += sign * other.nan;
        self.up += sign * other.up;
        self.down += sign * other.down;
        self.sum += &other.sum * sign;
        self.squares += &other.squares * sign;
    }
}

fn finish_sums(aggregate: &Aggregate, sums: Sums) -> Found {
    let Some(argument) = aggregate.argument else { return Found::Value(Value::Int(sums.rows)) };
    let count = sums.values;
    let unit = if argument == Argument::X { -1074 } else { 0 };
    let sample = matches!(aggregate.function, Function::Variance | Function::Stddev);
    match aggregate.function {
        Function::Count => return Found::Value(Value::Int(count)),
        _ if count == 0 => return Found::Nothing,
        Function::Sum | Function::Mean => {
            if sums.nan > 0 || sums.up > 0 && sums.down > 0 {
                return Found::Value(Value::float(f64::NAN));
            }
            if sums.up > 0 || sums.down > 0 {
                let infinity = if sums.up > 0 { f64::INFINITY } else { f64::NEG_INFINITY };
                return Found::Value(Value::float(infinity));
            }
        }
        _ if sample && count == 1 => return Found::Value(Value::Null),
        _ if sums.nan + sums.up + sums.down > 0 => return Found::Value(Value::float(f64::NAN)),
        _ => {}
    }
    match aggregate.function {
        Function::Sum if argument == Argument::N => {
            i64::try_from(&sums.sum).map_or(Found::Overflow, |sum| Found::Value(Value::Int(sum)))
        }
        Function::Sum => Found::Real(Real { above: sums.sum, below: 1.into(), unit, root: false }),
        Function::Mean => Found::Real(Real { above: sums.sum, below: count.into(), unit, root: false }),
        _ => {
            // Of squared distances, over n - 1 or n; both times n.
            let above = sums.squares * count - &sums.sum * &sums.sum;
            let below = BigInt::from(count) * (if sample { count - 1 } else { count });
            let root = matches!(aggregate.function, Function::Stddev | Function::StddevPop);
            Found::Real(Real { above, below, unit: 2 * unit, root })
        }
    }
}

/// How often each value counts.
#[derive(Clone, Default)]
struct Counts(BTreeMap<Value, i64>);

impl Counts {
    fn change(&mut self, value: &Value, by: i64) {
        let count = self.0.entry(value.clone()).or_default();
        *count += by;
        if *count == 0 {
            self.0.remove(value);
        }
    }
}

impl State for Counts {
    fn take(&mut self, aggregate: &Aggregate, row: &Row, sign: i64) {
        if let Some(value) = aggregate.argument.and_then(|argument| argument.of(row))
            && aggregate.passes(row)
        {
            self.change(&value, sign);
        }
    }

    fn add(&mut self, other: &Counts, sign: i64) {
        for (value, count) in &other.0 {
            self.change(value, sign * count);
        }
    }
}

fn finish_counts(function: Function, Counts(counts): Counts) -> Found {
    let all: i64 = counts.values().sum();
    match function {
        Function::CountDistinct(cap) if counts.len() <= cap => Found::Value(Value::Int(counts.len() as i64)),
        Function::ApproxDistinct => Found::Value(Value::Int(counts.len() as i64)),
        _ if all == 0 => Found::Nothing,
        Function::CollectList(cap) if all <= cap as i64 => {
            let repeated =
                counts.into_iter().flat_map(|(value, count)| (0..count).map(move |_| value.clone()));
            Found::Value(Value::List(repeated.collect()))
        }
        Function::Histogram(cap) if counts.len() <= cap => {
            Found::Value(Value::Counts(counts.into_iter().collect()))
        }
        Function::ApproxTopK(k, cap) if counts.len() <= cap => {
            let mut left: Vec<(Value, i64)> = counts.into_iter().collect();
            let mut top = Vec::new();
            // The first of the greatest counts, again and again.
            while top.len() < k && !left.is_empty() {
                let most = left.iter().map(|(_, count)| *count).max();
                let at = left.iter().position(|(_, count)| Some(*count) == most).unwrap();
                top.push(left.remove(at));
            }
            Found::Value(Value::Counts(top))
        }
        Function::ApproxQuantile(percent) => {
            // The first value that no less than the share of all stand up to.
            let mut up_to = 0;
            let mut reaches = |count: i64| {
                up_to += count;
                up_to * 100 >= all * i64::from(percent)
            };
            let found = counts.into_iter().find(|(_, count)| reaches(*count)).unwrap().0;
            Found::Value(Value::float(match found {
                Value::Int(int) => leading(int as f64),
                Value::Float(float) => leading(float.get()),
                other => panic!("{other:?} is no number"),
            }))
        }
        _ => Found::Overflow,
    }
}

/// Eight binary digits of a float, found by halving; what is no normal number is none.
fn leading(float: f64) -> f64 {
    if float == 0.0 || !float.is_finite() {
        return float;
    }
    if float.is_subnormal() {
        return 0.0;
    }
    let mut unit = 2.0_f64.powi(1023);
    while unit > float.abs() {
        unit /= 2.0;
    }
    // Digits so small that they are no float count nothing, and those of the eight are floats of more than that.
    float - float % (unit / 128.0)
}

/// Values that lose half of themselves with each half-life, of their times, at `t`.
fn decayed(values: &[(Value, i64)], half_life: i64, t: i64) -> Found {
    if values.is_empty() {
        return Found::Nothing;
    }
    let (mut special, mut terms) = (None, Vec::new());
    for (value, e) in values {
        let mut next = e - e % half_life;
        while next <= *e {
            next += half_life;
        }
        let power = left_of_one(next - e, half_life);
        let (step, unit) = (next / half_life, 2.0_f64.powi(-53));
        let term = match value {
            // A product of whole numbers is rounded where it becomes a float.
            Value::Int(int) => {
                let term = (u128::from(int.unsigned_abs()) * u128::from(power)) as f64 * unit;
                if *int < 0 { -term } else { term }
            }
            Value::Float(float) => float.get() * (power as f64 * unit),
            other => panic!("{other:?} is no number"),
        };
        if term.is_finite() {
            let magnitude = wholes(term.abs().to_bits());
            terms.push((if term < 0.0 { -magnitude } else { magnitude }, step));
        } else {
            special = Some(special.map_or(term, |other: f64| other + term));
        }
    }
    if let Some(special) = special {
        return Found::Value(Value::float(special));
    }
    let mut now = t - t % half_life;
    while now > t {
        now -= half_life;
    }
    let least = terms.iter().map(|(_, step)| *step).min().unwrap();
    let sum: BigInt = terms.into_iter().map(|(term, step)| term << (step - least) as u64).sum();
    // After so many half-lives nothing is left of any float.
    let unit = (least - now / half_life - 1074 - 53).max(-10_000);
    Found::Real(Real { above: sum * left_of_one(t - now, half_life), below: 1.into(), unit, root: false })
}

/// `2^(-part/whole)` in units of 2^-53, to the nearest: the product of roots of roots of a half, one for each binary
/// digit of the exponent.
fn left_of_one(part: i64, whole: i64) -> u64 {
    const BITS: u32 = 128;
    if part == whole {
        return 1 << 52;
    }
    let (mut left, mut root) = (part, BigUint::from(1_u8) << (BITS - 1));
    let mut power = BigUint::from(1_u8) << BITS;
    for _ in 0..BITS {
        root = (root << BITS).sqrt();
        left *= 2;
        if left >= whole {
            left -= whole;
            power = (power * &root) >> BITS;
        }
    }
    (((power >> (BITS - 54)) + 1_u8) >> 1_u8).try_into().unwrap()
}
