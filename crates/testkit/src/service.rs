//! What a service asks for beside features of views: derived features and labels, as the test kit writes and computes
//! them.

use std::collections::BTreeMap;
use std::fmt;

use asof_model::DataType;

use crate::calls::called;
use crate::world::{SpineRow, World};
use crate::{Random, Value};

/// Derived features, each of which may read those before it, and labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// Terms with their types: whole numbers, floats or texts.
    pub derived: Vec<(Term, DataType)>,
    /// Features of views, read later.
    pub labels: Vec<Label>,
}

/// A feature read some time after the time asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The feature of a view.
    pub of: Read,
    /// How long after, in microseconds.
    pub after: i64,
}

/// What a term reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// The feature `n` of a latest view.
    N(usize),
    /// The feature `state` of a latest view.
    State(usize),
    /// A feature of a window view, both by position.
    Window(usize, usize),
    /// A derived feature before it.
    Derived(usize),
    /// A whole number that the request brings.
    Quantity,
    /// A float that the request brings.
    Price,
    /// The time asked.
    Time,
}

/// The expression of a derived feature. No row makes it fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// What it reads: of the time the microseconds.
    Read(Read),
    /// A whole number.
    Int(i64),
    /// A whole number's remainder, so that no product of some is out of range.
    Small(Box<Term>),
    /// Of two numbers of one type.
    Plus(Box<Term>, Box<Term>),
    /// Of two numbers of one type.
    Minus(Box<Term>, Box<Term>),
    /// Of two numbers of one type.
    Times(Box<Term>, Box<Term>),
    /// Of two whole numbers, cut; null where the second is 0.
    Divide(Box<Term>, Box<Term>),
    /// Of two floats.
    Ratio(Box<Term>, Box<Term>),
    /// A whole number as a float.
    Double(Box<Term>),
    /// The second where the first is null.
    Coalesce(Box<Term>, Box<Term>),
    /// A text and one more letter; null of null.
    Longer(Box<Term>),
    /// Where the first two are whole numbers or texts and the first is less the third, else the fourth.
    IfLess(Box<[Term; 4]>),
    /// Where the first is null the second, else the third.
    IfNull(Box<[Term; 3]>),
}

impl Read {
    /// As expressions name it.
    fn name(self) -> String {
        match self {
            Read::N(view) => format!("view_{view}.n"),
            Read::State(view) => format!("view_{view}.state"),
            Read::Window(view, feature) => format!("windows_{view}.f{feature}"),
            Read::Derived(before) => format!("computed.d{before}"),
            Read::Quantity => "quantity".to_owned(),
            Read::Price => "price".to_owned(),
            Read::Time => "request_time".to_owned(),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::Read(Read::Time) => f.write_str("cast(request_time as bigint)"),
            Term::Read(read) => f.write_str(&read.name()),
            Term::Int(int) => write!(f, "{int}"),
            Term::Small(a) => write!(f, "({a} % 1000)"),
            Term::Plus(a, b) => write!(f, "({a} + {b})"),
            Term::Minus(a, b) => write!(f, "({a} - {b})"),
            Term::Times(a, b) => write!(f, "({a} * {b})"),
            Term::Divide(a, b) => write!(f, "({a} / nullif({b}, 0))"),
            Term::Ratio(a, b) => write!(f, "({a} / {b})"),
            Term::Double(a) => write!(f, "cast({a} as double)"),
            Term::Coalesce(a, b) => write!(f, "coalesce({a}, {b})"),
            Term::Longer(a) => write!(f, "({a} || '+')"),
            Term::IfLess(of) => {
                let [a, b, then, otherwise] = &**of;
                write!(f, "case when {a} < {b} then {then} else {otherwise} end")
            }
            Term::IfNull(of) => {
                let [a, then, otherwise] = &**of;
                write!(f, "case when {a} is null then {then} else {otherwise} end")
            }
        }
    }
}

impl Term {
    /// What it reads, in the order of its text, each once.
    pub fn reads(&self) -> Vec<Read> {
        let mut found = Vec::new();
        self.visit(&mut |term| {
            if let Term::Read(read) = term
                && !found.contains(read)
            {
                found.push(*read);
            }
        });
        found
    }

    /// Shows this term and those within it, in the order of the text.
    pub(crate) fn visit(&self, see: &mut impl FnMut(&Term)) {
        see(self);
        match self {
            Term::Read(_) | Term::Int(_) => {}
            Term::Small(a) | Term::Double(a) | Term::Longer(a) => a.visit(see),
            Term::Plus(a, b)
            | Term::Minus(a, b)
            | Term::Times(a, b)
            | Term::Divide(a, b)
            | Term::Ratio(a, b)
            | Term::Coalesce(a, b) => {
                a.visit(see);
                b.visit(see);
            }
            Term::IfLess(of) => of.iter().for_each(|it| it.visit(see)),
            Term::IfNull(of) => of.iter().for_each(|it| it.visit(see)),
        }
    }

    /// What it comes to, as SQL says: null of a null but where it asks for one.
    pub(crate) fn value(&self, read: &impl Fn(Read) -> Value) -> Value {
        self.comes_to(&|it| match read(it) {
            Value::Int(int) => Within::Int(int),
            Value::Float(float) => Within::Float(float.get()),
            Value::Text(text) => Within::Text(text),
            Value::Null | Value::List(_) | Value::Counts(_) => Within::Null,
        })
        .into_value()
    }

    fn comes_to(&self, read: &impl Fn(Read) -> Within) -> Within {
        let of = |term: &Term| term.comes_to(read);
        let ints = |a: &Term, b: &Term, of_ints: fn(i64, i64) -> Option<i64>| match (of(a), of(b)) {
            (Within::Int(a), Within::Int(b)) => of_ints(a, b).map_or(Within::Null, Within::Int),
            _ => Within::Null,
        };
        let numbers =
            |a, b, of_ints: fn(i64, i64) -> Option<i64>, of_floats: fn(f64, f64) -> f64| match (of(a), of(b))
            {
                (Within::Float(a), Within::Float(b)) => Within::Float(of_floats(a, b)),
                _ => ints(a, b, of_ints),
            };
        match self {
            Term::Read(it) => read(*it),
            Term::Int(int) => Within::Int(*int),
            Term::Small(a) => ints(a, &Term::Int(1000), i64::checked_rem),
            Term::Plus(a, b) => numbers(a, b, i64::checked_add, |a, b| a + b),
            Term::Minus(a, b) => numbers(a, b, i64::checked_sub, |a, b| a - b),
            Term::Times(a, b) => numbers(a, b, i64::checked_mul, |a, b| a * b),
            Term::Divide(a, b) => ints(a, b, i64::checked_div),
            Term::Ratio(a, b) => match (of(a), of(b)) {
                (Within::Float(a), Within::Float(b)) => Within::Float(a / b),
                _ => Within::Null,
            },
            Term::Double(a) => match of(a) {
                Within::Int(int) => Within::Float(int as f64),
                _ => Within::Null,
            },
            Term::Coalesce(a, b) => match of(a) {
                Within::Null => of(b),
                found => found,
            },
            Term::Longer(a) => match of(a) {
                Within::Text(text) => Within::Text(text + "+"),
                _ => Within::Null,
            },
            Term::IfLess(of_them) => {
                let [a, b, then, otherwise] = &**of_them;
                let is_less = match (of(a), of(b)) {
                    (Within::Int(a), Within::Int(b)) => a < b,
                    (Within::Text(a), Within::Text(b)) => a < b,
                    _ => false,
                };
                of(if is_less { then } else { otherwise })
            }
            Term::IfNull(of_them) => {
                let [a, then, otherwise] = &**of_them;
                of(if matches!(of(a), Within::Null) { then } else { otherwise })
            }
        }
    }
}

/// A value within an expression, where 0 has a sign: only what comes out has the one form.
enum Within {
    Null,
    Int(i64),
    Float(f64),
    Text(String),
}

impl Within {
    fn into_value(self) -> Value {
        match self {
            Within::Null => Value::Null,
            Within::Int(int) => Value::Int(int),
            Within::Float(float) => Value::float(float),
            Within::Text(text) => Value::Text(text),
        }
    }
}

/// What a request brings beside the keys, for a spine row.
pub fn brought(spine: &SpineRow) -> (Option<i64>, Option<f64>) {
    let number = spine.shop.unwrap_or(7) + spine.user.as_ref().map_or(0, |user| user.len() as i64);
    let quantity = (number % 5 != 0).then_some(number % 7 - 3);
    (quantity, spine.other_shop.map(|other| (other % 9) as f64 / 8.0 - 0.5))
}

/// Makes terms over what there is to be read.
struct Maker<'a> {
    random: &'a mut Random,
    /// By type.
    reads: BTreeMap<&'static str, Vec<Read>>,
}

impl Maker<'_> {
    fn add(&mut self, read: Read, data_type: &DataType) {
        let of = match data_type {
            DataType::Int64 => "int",
            DataType::Float64 => "float",
            DataType::String => "text",
            _ => return,
        };
        self.reads.entry(of).or_default().push(read);
    }

    fn read(&mut self, of: &'static str) -> Box<Term> {
        let reads = self.reads.entry(of).or_default();
        Box::new(Term::Read(*self.random.pick(reads)))
    }

    fn int(&mut self, depth: u8) -> Box<Term> {
        let Some(less) = depth.checked_sub(1) else {
            return match self.random.chance(15) {
                true => Box::new(Term::Int(self.random.between(-9, 9))),
                false => self.read("int"),
            };
        };
        let how = self.random.between(0, 6);
        if how > 4 {
            return self.chosen(less, Maker::int);
        }
        let (a, b) = (self.int(less), self.int(less));
        if how == 4 {
            return Box::new(Term::Coalesce(a, b));
        }
        let (a, b) = (Box::new(Term::Small(a)), Box::new(Term::Small(b)));
        let of = [Term::Plus, Term::Minus, Term::Times, Term::Divide][how as usize];
        Box::new(of(a, b))
    }

    fn float(&mut self, depth: u8) -> Box<Term> {
        let Some(less) = depth.checked_sub(1) else {
            return match self.random.chance(30) {
                true => Box::new(Term::Double(self.int(0))),
                false => self.read("float"),
            };
        };
        let of = [Term::Plus, Term::Minus, Term::Times, Term::Ratio, Term::Coalesce];
        match of.get(self.random.between(0, 6) as usize) {
            Some(of) => Box::new(of(self.float(less), self.float(less))),
            None => self.chosen(less, Maker::float),
        }
    }

    fn text(&mut self, depth: u8) -> Box<Term> {
        let Some(less) = depth.checked_sub(1) else { return self.read("text") };
        match self.random.between(0, 3) {
            0 => Box::new(Term::Coalesce(self.text(less), self.text(less))),
            1 | 2 => Box::new(Term::Longer(self.text(less))),
            _ => self.chosen(less, Maker::text),
        }
    }

    /// One of two, by what something else comes to.
    fn chosen(&mut self, depth: u8, of: fn(&mut Self, u8) -> Box<Term>) -> Box<Term> {
        let (then, otherwise) = (*of(self, depth), *of(self, depth));
        Box::new(match self.random.between(0, 3) {
            0 => Term::IfNull(Box::new([*self.float(0), then, otherwise])),
            1 => Term::IfNull(Box::new([*self.text(depth), then, otherwise])),
            2 => Term::IfLess(Box::new([*self.text(0), *self.text(0), then, otherwise])),
            _ => Term::IfLess(Box::new([*self.int(depth), *self.int(0), then, otherwise])),
        })
    }
}

impl Service {
    /// Over the views of a world; labels are read after about so many microseconds, or some of them.
    pub(crate) fn random(random: &mut Random, world: &World, unit: i64) -> Service {
        let mut service = Service::default();
        let mut maker = Maker { random, reads: BTreeMap::new() };
        for (read, data_type) in [
            (Read::Quantity, DataType::Int64),
            (Read::Time, DataType::Int64),
            (Read::Price, DataType::Float64),
        ] {
            maker.add(read, &data_type);
        }
        let mut features = Vec::new();
        for view in 0..world.views.len() {
            features.extend([(Read::N(view), DataType::Int64), (Read::State(view), DataType::String)]);
        }
        for (number, view) in world.window_views.iter().enumerate() {
            for (at, (aggregate, _)) in view.features().enumerate() {
                let function = called(aggregate).map(|(_, function)| function.data_type());
                features.extend(function.ok().map(|data_type| (Read::Window(number, at), data_type)));
            }
        }
        for (read, data_type) in &features {
            maker.add(*read, data_type);
        }
        for at in 0..4 {
            let depth = maker.random.between(1, 3) as u8;
            let (term, data_type) = match maker.random.between(0, 3) {
                0 => (maker.float(depth), DataType::Float64),
                1 => (maker.text(depth), DataType::String),
                _ => (maker.int(depth), DataType::Int64),
            };
            maker.add(Read::Derived(at), &data_type);
            service.derived.push((*term, data_type));
        }
        for _ in 0..3 {
            let of = random.pick(&features).0;
            let after = unit * random.pick(&[1, 1, 2, 3, 5, 12, 24]) + random.pick(&[0, 0, 1]);
            service.labels.push(Label { of, after });
        }
        service
    }
}
