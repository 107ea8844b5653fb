//! Edges of windows and of what aggregates come to.

use asof_model::Question;

use super::Edges;
use crate::oracle::{Answer, WindowStatus, counting, edges, windows};
use crate::world::{NEVER, Row, SpineRow, World};
use crate::{Aggregate, Argument, Function, Value, Window, WindowView};

impl Edges {
    /// Every edge of windows.
    pub const WINDOWS: [&'static str; 54] = [
        "version moves e over window edge",
        "e = lower edge",
        "e = lower edge - 1",
        "e = upper edge",
        "e = upper edge - 1",
        "include_now: e = lower edge",
        "include_now: e = lower edge - 1",
        "include_now: e = upper edge",
        "include_now: e = upper edge - 1",
        "resolution: e = floored lower edge",
        "resolution: e = floored lower edge - 1",
        "resolution: lower edge before 1970",
        "resolution is the length",
        "include_now and resolution: the two floors differ",
        "offset: t - f < v <= t",
        "offset: e between t - f and t",
        "`all` window",
        "late row within a window",
        "row never known within a window under event",
        "row past valid_until within a window",
        "superseded version within a window",
        "withdrawn row within a window",
        "equal rows within a window",
        "rows of one e within a window of an order",
        "filter leaves fewer",
        "filter leaves none",
        "window of no rows",
        "window of nulls only",
        "nulls skipped",
        "count of an unknown key is 0",
        "default of a window",
        "overflow of a sum",
        "overflow of count_distinct",
        "overflow of histogram",
        "overflow of collect_list",
        "at a cap",
        "NaN in a sum",
        "+inf with -inf",
        "infinite sum",
        "NaN in min or max",
        "a sum that floats lose",
        "mean that is no float",
        "sample of one",
        "spread of NaN or infinity",
        "spread of several",
        "fewer than n",
        "no key of a window view",
        "decayed: e at a whole half-life",
        "decayed: t within a half-life",
        "decayed: rows of several half-lives",
        "NaN in a decayed sum",
        "overflow of approx_top_k",
        "approx_top_k leaves one as frequent",
        "approx_quantile cuts digits",
    ];

    /// Counts the edges of windows that a case hits.
    pub(super) fn look_at_windows(&mut self, world: &World, rows: &[Row], spine: &[SpineRow]) {
        for asked in spine {
            for view in &world.window_views {
                let key = view.view.asked(asked);
                if key.iter().any(Option::is_none) {
                    self.hit("no key of a window view", true);
                    continue;
                }
                let mine: Vec<&Row> = rows.iter().filter(|row| row.key(&view.view) == key).collect();
                for window in &view.windows {
                    self.look_at_edges(window, &mine, asked.t);
                }
                for question in [Question::Known, Question::Event] {
                    let counting = counting(rows, &view.view, &key, asked.t, question);
                    for window in &view.windows {
                        self.look_within(window, &mine, &counting, asked.t, question);
                    }
                    let answers = windows(rows, view, &key, asked.t, question);
                    for ((aggregate, window), answer) in view.features().zip(&answers) {
                        let (lower, upper) = edges(window, asked.t);
                        let within = |row: &&Row| lower.is_none_or(|lower| lower <= row.e) && row.e < upper;
                        let within: Vec<&Row> = counting.iter().copied().filter(within).collect();
                        let unknown = mine.is_empty() && answer.value == Value::Int(0);
                        self.hit("count of an unknown key is 0", unknown);
                        self.look_at_answer(aggregate, &within, asked.t, answer);
                    }
                }
                self.look_at_superseded(view, rows, &mine, asked.t);
            }
        }
    }

    fn look_at_edges(&mut self, window: &Window, mine: &[&Row], t: i64) {
        let (lower, upper) = edges(window, t);
        self.hit("`all` window", lower.is_none() && !mine.is_empty());
        let exact = window.length.map(|length| upper - length);
        self.hit(
            "resolution is the length",
            window.resolution.is_some() && window.resolution == window.length,
        );
        for row in mine {
            let [upper_at, upper_before, lower_at, lower_before] = if window.include_now {
                [
                    "include_now: e = upper edge",
                    "include_now: e = upper edge - 1",
                    "include_now: e = lower edge",
                    "include_now: e = lower edge - 1",
                ]
            } else {
                ["e = upper edge", "e = upper edge - 1", "e = lower edge", "e = lower edge - 1"]
            };
            self.hit(upper_at, row.e == upper);
            self.hit(upper_before, row.e == upper - 1);
            self.hit(lower_at, window.resolution.is_none() && lower == Some(row.e));
            self.hit(lower_before, window.resolution.is_none() && lower == Some(row.e + 1));
            if let (Some(floor), Some(lower), Some(exact)) = (window.resolution, lower, exact) {
                self.hit("resolution: e = floored lower edge", lower < exact && row.e == lower);
                self.hit("resolution: e = floored lower edge - 1", lower < exact && row.e == lower - 1);
                self.hit("resolution: lower edge before 1970", lower < 0 && row.e == lower);
                let other = exact - i64::from(window.include_now);
                let differ = other - other.rem_euclid(floor) != lower;
                self.hit("include_now and resolution: the two floors differ", differ);
            }
            let before = t - window.offset;
            self.hit("offset: t - f < v <= t", before < row.v && row.v <= t);
            self.hit("offset: e between t - f and t", before < row.e && row.e <= t);
        }
    }

    fn look_within(&mut self, window: &Window, mine: &[&Row], counting: &[&Row], t: i64, question: Question) {
        let (lower, upper) = edges(window, t);
        let within = |row: &Row| lower.is_none_or(|lower| lower <= row.e) && row.e < upper;
        for (at, row) in counting.iter().enumerate().filter(|(_, row)| within(row)) {
            let event = question == Question::Event;
            self.hit("row never known within a window under event", event && row.v == NEVER);
            self.hit("row past valid_until within a window", row.until.is_some_and(|until| t >= until));
            let equal = |other: &&Row| crate::oracle::order(other) == crate::oracle::order(row);
            self.hit("equal rows within a window", counting[..at].iter().any(equal));
        }
        let late = |row: &&&Row| within(row) && t < row.v && row.v != NEVER;
        self.hit(
            "late row within a window",
            question == Question::Known && mine.iter().any(|row| late(&row)),
        );
    }

    /// Rows that would count were they not followed by another version.
    fn look_at_superseded(&mut self, view: &WindowView, rows: &[Row], mine: &[&Row], t: i64) {
        let visible: Vec<&Row> = rows.iter().filter(|row| row.v <= t).collect();
        for row in mine.iter().filter(|row| row.id.is_some() && !row.delete && row.v <= t) {
            let within = |window: &Window| {
                let (lower, upper) = edges(window, t);
                lower.is_none_or(|lower| lower <= row.e) && row.e < upper
            };
            if !view.view.passes(row) || !view.windows.iter().any(within) {
                continue;
            }
            let last = visible
                .iter()
                .filter(|other| other.id == row.id)
                .max_by_key(|other| crate::oracle::version_order(other));
            if let Some(last) = last {
                let other = crate::oracle::version_order(last) != crate::oracle::version_order(row);
                self.hit("superseded version within a window", other && !last.delete);
                self.hit("withdrawn row within a window", last.delete);
            }
        }
    }

    fn look_at_answer(
        &mut self,
        aggregate: &Aggregate,
        within: &[&Row],
        t: i64,
        Answer { status, value }: &Answer,
    ) {
        let status = *status;
        let passing: Vec<&Row> = within.iter().copied().filter(|row| aggregate.passes(row)).collect();
        self.hit("filter leaves fewer", !passing.is_empty() && passing.len() < within.len());
        self.hit("filter leaves none", passing.is_empty() && !within.is_empty());
        self.hit("window of no rows", within.is_empty());
        if let Function::DecayedSum(half_life) | Function::DecayedCount(half_life) = aggregate.function {
            let whole = passing.iter().any(|row| row.e % half_life == 0);
            self.hit("decayed: e at a whole half-life", whole && half_life > 1);
            self.hit("decayed: t within a half-life", !passing.is_empty() && t % half_life != 0);
            let step = |row: &&Row| row.e.div_euclid(half_life);
            let several = passing.iter().any(|row| step(row) != step(&passing[0]));
            self.hit("decayed: rows of several half-lives", several);
        }
        let Some(argument) = aggregate.argument else { return };
        let values: Vec<Value> = passing.iter().filter_map(|row| argument.of(row)).collect();
        self.hit("window of nulls only", values.is_empty() && !passing.is_empty());
        self.hit("nulls skipped", !values.is_empty() && values.len() < passing.len());
        let counted = aggregate.function.counts_to_zero();
        self.hit("default of a window", values.is_empty() && !counted && status == WindowStatus::Present);
        let over = status == WindowStatus::Overflow;
        let mut different = values.clone();
        different.sort();
        different.dedup();
        let floats: Vec<f64> = passing.iter().filter_map(|row| row.x).collect();
        let special = floats.iter().any(|x| !x.is_finite());
        let nan = floats.iter().any(|x| x.is_nan());
        let of_floats = argument == Argument::X;
        match aggregate.function {
            Function::CountDistinct(cap) => {
                self.hit("overflow of count_distinct", over);
                self.hit("at a cap", different.len() == cap);
            }
            Function::Histogram(cap) => {
                self.hit("overflow of histogram", over);
                self.hit("at a cap", different.len() == cap);
            }
            Function::CollectList(cap) => {
                self.hit("overflow of collect_list", over);
                self.hit("at a cap", values.len() == cap);
            }
            Function::Sum => {
                self.hit("overflow of a sum", over);
                if of_floats {
                    let folded: f64 = floats.iter().sum();
                    self.hit("NaN in a sum", nan);
                    let both = floats.contains(&f64::INFINITY) && floats.contains(&f64::NEG_INFINITY);
                    self.hit("+inf with -inf", !nan && both);
                    self.hit(
                        "infinite sum",
                        !special && matches!(value, Value::Float(x) if x.get().is_infinite()),
                    );
                    self.hit(
                        "a sum that floats lose",
                        !floats.is_empty() && !special && *value != Value::float(folded),
                    );
                }
            }
            Function::Mean => {
                self.hit("mean that is no float", matches!(value, Value::Float(x) if x.get().fract() != 0.0));
            }
            Function::Min | Function::Max => self.hit("NaN in min or max", of_floats && nan),
            Function::Variance | Function::VariancePop | Function::Stddev | Function::StddevPop => {
                self.hit("sample of one", status == WindowStatus::Present && *value == Value::Null);
                self.hit("spread of NaN or infinity", of_floats && special && values.len() > 1);
                self.hit("spread of several", different.len() > 1 && !(of_floats && special));
            }
            Function::FirstN(n) | Function::LastN(n) => {
                self.hit("fewer than n", !values.is_empty() && values.len() < n);
                self.look_at_ties(&passing);
            }
            Function::First | Function::Last => self.look_at_ties(&passing),
            Function::ApproxTopK(k, cap) => {
                self.hit("overflow of approx_top_k", over);
                self.hit("at a cap", different.len() == cap);
                let times = |value: &Value| values.iter().filter(|it| *it == value).count();
                let mut counts: Vec<usize> = different.iter().map(times).collect();
                counts.sort_unstable_by(|a, b| b.cmp(a));
                let tie = k < counts.len() && counts[k - 1] == counts[k];
                self.hit("approx_top_k leaves one as frequent", tie && !over);
            }
            Function::ApproxQuantile(_) => {
                let among = |value: &Value| different.contains(value);
                self.hit("approx_quantile cuts digits", of_floats && !different.is_empty() && !among(value));
            }
            Function::DecayedSum(_) => {
                self.hit("NaN in a decayed sum", of_floats && nan);
            }
            Function::Count | Function::ApproxDistinct | Function::DecayedCount(_) => {}
        }
    }

    fn look_at_ties(&mut self, passing: &[&Row]) {
        let tie =
            |at: usize| passing[..at].iter().any(|row| row.e == passing[at].e && row.n != passing[at].n);
        self.hit("rows of one e within a window of an order", (0..passing.len()).any(tie));
    }
}
