//! Window views as the test kit asks them: plain structs of its own, so that the oracle owes nothing to how
//! definitions are parsed or planned.

use std::fmt;

use asof_model::DataType;

use crate::world::{Row, View};
use crate::{Random, Value};

/// A window of time. All lengths are in microseconds, and shorter than definitions allow: the algebra has no such
/// limit, and short ones put more rows on edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// None: `all`.
    pub length: Option<i64>,
    /// How long before t it ends.
    pub offset: i64,
    /// Its upper edge is within it, and its lower edge is not.
    pub include_now: bool,
    /// The lower edge is floored to a multiple of this.
    pub resolution: Option<i64>,
}

/// A window view: every aggregate over every window.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowView {
    /// Its keys and `where`; it has no ttl.
    pub view: View,
    /// Its windows.
    pub windows: Vec<Window>,
    /// Its features, each asked over each window.
    pub aggregates: Vec<Aggregate>,
}

impl WindowView {
    /// Makes all its lengths so many times as long.
    pub(crate) fn stretch(&mut self, by: i64) {
        for window in &mut self.windows {
            let Window { length, offset, include_now: _, resolution } = window;
            length.iter_mut().chain([offset]).chain(resolution).for_each(|length| *length *= by);
        }
    }

    /// Its features as definitions expand them: of each aggregate every window.
    pub fn features(&self) -> impl Iterator<Item = (&Aggregate, &Window)> {
        self.aggregates
            .iter()
            .flat_map(|aggregate| self.windows.iter().map(move |window| (aggregate, window)))
    }
}

/// A column that is aggregated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// A float64.
    X,
    /// An int64.
    N,
    /// A text.
    State,
}

impl Argument {
    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Argument::X => "x",
            Argument::N => "n",
            Argument::State => "state",
        }
    }

    /// The column's type.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Argument::X => DataType::Float64,
            Argument::N => DataType::Int64,
            Argument::State => DataType::String,
        }
    }

    /// Its value in a row; none where it is null.
    pub fn of(self, row: &Row) -> Option<Value> {
        match self {
            Argument::X => row.x.map(Value::float),
            Argument::N => row.n.map(Value::Int),
            Argument::State => row.state.map(|state| Value::Text(state.to_owned())),
        }
    }
}

/// What is made of the values that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// How many.
    Count,
    /// Of numbers.
    Sum,
    /// Of numbers.
    Mean,
    /// In value order.
    Min,
    /// In value order.
    Max,
    /// Of numbers, a sample.
    Variance,
    /// Of numbers, all there are.
    VariancePop,
    /// Of numbers, a sample.
    Stddev,
    /// Of numbers, all there are.
    StddevPop,
    /// In the order of rows.
    First,
    /// In the order of rows.
    Last,
    /// The first so many, first to last.
    FirstN(usize),
    /// The last so many, first to last.
    LastN(usize),
    /// How many different ones, to a cap.
    CountDistinct(usize),
    /// All of them, to a cap.
    CollectList(usize),
    /// How often each, to a cap of different ones.
    Histogram(usize),
    /// How many different ones: exact, as the few that a world has.
    ApproxDistinct,
    /// So many of the most frequent, to a cap of different ones.
    ApproxTopK(usize, usize),
    /// Of numbers, the value of a nearest rank: so many of a hundred.
    ApproxQuantile(u8),
    /// Of numbers, each halved for every half-life of so many microseconds.
    DecayedSum(i64),
    /// How many, each halved for every half-life of so many microseconds.
    DecayedCount(i64),
}

impl Function {
    /// As definitions call it.
    pub fn name(self) -> &'static str {
        match self {
            Function::Count => "count",
            Function::Sum => "sum",
            Function::Mean => "mean",
            Function::Min => "min",
            Function::Max => "max",
            Function::Variance => "variance",
            Function::VariancePop => "variance_pop",
            Function::Stddev => "stddev",
            Function::StddevPop => "stddev_pop",
            Function::First => "first",
            Function::Last => "last",
            Function::FirstN(_) => "first_n",
            Function::LastN(_) => "last_n",
            Function::CountDistinct(_) => "count_distinct",
            Function::CollectList(_) => "collect_list",
            Function::Histogram(_) => "histogram",
            Function::ApproxDistinct => "approx_distinct",
            Function::ApproxTopK(..) => "approx_top_k",
            Function::ApproxQuantile(_) => "approx_quantile",
            Function::DecayedSum(_) => "decayed_sum",
            Function::DecayedCount(_) => "decayed_count",
        }
    }

    /// The constants behind its argument, as definitions write them.
    fn constants(self) -> Option<String> {
        match self {
            Function::FirstN(n) | Function::LastN(n) => Some(n.to_string()),
            Function::CountDistinct(cap) | Function::CollectList(cap) | Function::Histogram(cap) => {
                Some(cap.to_string())
            }
            Function::ApproxTopK(k, cap) => Some(format!("{k}, {cap}")),
            Function::ApproxQuantile(percent) => Some((f64::from(percent) / 100.0).to_string()),
            Function::DecayedSum(half_life) | Function::DecayedCount(half_life) => {
                Some(format!("'{half_life}us'"))
            }
            _ => None,
        }
    }

    /// Whether it is 0 where nothing counts.
    pub(crate) fn counts_to_zero(self) -> bool {
        matches!(self, Function::Count | Function::CountDistinct(_) | Function::ApproxDistinct)
    }

    fn takes_numbers_only(self) -> bool {
        matches!(
            self,
            Function::Sum
                | Function::Mean
                | Function::Variance
                | Function::VariancePop
                | Function::Stddev
                | Function::StddevPop
                | Function::ApproxQuantile(_)
                | Function::DecayedSum(_)
        )
    }
}

/// A feature of a window view.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// What is made of the values.
    pub function: Function,
    /// The column; none: `*`, which only a count takes.
    pub argument: Option<Argument>,
    /// `filter (where state = 'ok')`.
    pub filter: bool,
    /// Stands in where nothing counted.
    pub default: Option<Value>,
}

/// The call as definitions write it.
impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}", self.function.name(), self.argument.map_or("*", Argument::name))?;
        if let Some(constants) = self.function.constants() {
            write!(f, ", {constants}")?;
        }
        f.write_str(if self.filter { ") filter (where state = 'ok')" } else { ")" })
    }
}

impl Aggregate {
    /// Whether a row passes its filter.
    pub fn passes(&self, row: &Row) -> bool {
        !self.filter || row.state == Some("ok")
    }

    pub(crate) fn random(random: &mut Random) -> Aggregate {
        let small = |random: &mut Random| random.between(1, 3) as usize;
        // Half-lives within which rows lie, and over which they do; 1 makes all powers whole.
        let half_life = |random: &mut Random| *random.pick(&[1, 2, 3, 7, 10, 24]);
        let function = match random.between(0, 24) {
            0 | 1 => Function::Count,
            2 | 3 | 17 | 22 => Function::Sum,
            4 => Function::Mean,
            5 => Function::Min,
            6 => Function::Max,
            7 => Function::Variance,
            8 => Function::VariancePop,
            9 => Function::Stddev,
            10 => Function::StddevPop,
            11 => *random.pick(&[Function::First, Function::Last]),
            12 => Function::FirstN(small(random)),
            13 => Function::LastN(small(random)),
            14 => Function::CountDistinct(*random.pick(&[1, 2, 1000])),
            15 => Function::CollectList(*random.pick(&[1, 3, 1000])),
            16 => Function::ApproxDistinct,
            18 | 23 => Function::ApproxTopK(small(random), *random.pick(&[1, 1000])),
            19 => Function::ApproxQuantile(*random.pick(&[0, 7, 25, 50, 50, 95, 100])),
            20 => Function::DecayedSum(half_life(random)),
            21 => Function::DecayedCount(half_life(random)),
            _ => Function::Histogram(*random.pick(&[1, 2, 1000])),
        };
        let argument = match function {
            Function::Count | Function::DecayedCount(_) if random.chance(60) => None,
            _ if function.takes_numbers_only() => {
                Some(*random.pick(&[Argument::N, Argument::X, Argument::X]))
            }
            _ => Some(*random.pick(&[Argument::N, Argument::X, Argument::State])),
        };
        // A default is of the type that the aggregate gives; of lists and counts there is none to write.
        let default = match (function, argument) {
            (Function::Mean | Function::Variance | Function::VariancePop, _)
            | (Function::Stddev | Function::StddevPop | Function::ApproxQuantile(_), _)
            | (Function::DecayedSum(_) | Function::DecayedCount(_), _) => Some(Value::float(0.5)),
            (Function::FirstN(_) | Function::LastN(_), _) => None,
            (Function::CollectList(_) | Function::Histogram(_) | Function::ApproxTopK(..), _) => None,
            (function, _) if function.counts_to_zero() => Some(Value::Int(7)),
            (_, Some(Argument::X)) => Some(Value::float(0.5)),
            (_, Some(Argument::State)) => Some(Value::Text("none".to_owned())),
            _ => Some(Value::Int(7)),
        };
        Aggregate {
            function,
            argument,
            filter: random.chance(30),
            default: default.filter(|_| random.chance(30)),
        }
    }
}

impl Window {
    pub(crate) fn random(random: &mut Random) -> Window {
        let length = (!random.chance(20)).then(|| *random.pick(&[1, 2, 3, 5, 6, 8, 10, 12, 14, 20, 24, 40]));
        Window {
            length,
            offset: *random.pick(&[0, 0, 0, 1, 3, 6]),
            include_now: random.chance(40),
            resolution: length.filter(|_| random.chance(40)).map(|length| random.between(1, length)),
        }
    }
}
