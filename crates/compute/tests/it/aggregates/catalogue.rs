//! Every function there is to ask, and what is documented of it.

use std::collections::BTreeSet;

use asof_compute::{Aggregate, CATALOGUE, Constant, Function, FunctionCall, aggregate};
use asof_model::DataType;

use super::rows::types;

/// A member called in one of the ways it may be.
pub(super) struct Called {
    pub(super) member: &'static dyn Aggregate,
    pub(super) call: FunctionCall,
    pub(super) function: Function,
}

impl Called {
    pub(super) fn name(&self) -> String {
        let of = self.call.argument.as_ref().map_or("*".to_owned(), DataType::to_string);
        format!("{}({of}, {:?})", self.member.name(), self.call.constants)
    }

    /// The same once more.
    pub(super) fn again(&self) -> Called {
        Called { member: self.member, call: self.call.clone(), function: self.function.clone() }
    }

    /// Whether what is said of it says so.
    pub(super) fn says(&self, words: &str) -> bool {
        self.member.documentation().about.contains(words)
    }
}

fn constant(text: &str) -> Constant {
    if let Some(text) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return Constant::Text(text.to_owned());
    }
    if let Ok(number) = text.parse() {
        return Constant::Int(number);
    }
    match text {
        "true" | "false" => Constant::Bool(text == "true"),
        number => Constant::Float(number.parse().unwrap_or_else(|_| panic!("`{text}` is no constant"))),
    }
}

/// The parts of an example: `name(argument, constant, ...)`, where the argument is `*` or a type.
fn example(text: &str) -> (String, FunctionCall) {
    let (name, rest) = text.split_once('(').unwrap_or_else(|| panic!("`{text}` is no call"));
    let inside = rest.strip_suffix(')').unwrap_or_else(|| panic!("`{text}` is no call"));
    let mut parts: Vec<String> = Vec::new();
    for part in inside.split(',') {
        match parts.last_mut() {
            // `decimal(10,2)` is one.
            Some(last) if last.matches('(').count() > last.matches(')').count() => {
                last.push(',');
                last.push_str(part.trim());
            }
            _ => parts.push(part.trim().to_owned()),
        }
    }
    let mut parts = parts.into_iter().filter(|part| !part.is_empty()).peekable();
    let argument = parts.peek().and_then(|part| DataType::parse(part).ok());
    if argument.is_some() || parts.peek().is_some_and(|part| part == "*") {
        parts.next();
    }
    (name.to_owned(), FunctionCall { argument, constants: parts.map(|part| constant(&part)).collect() })
}

/// The constants of an example, and others close to them: small numbers in place of each, one more, and none.
fn constants(of: &[Constant]) -> Vec<Vec<Constant>> {
    let mut all = vec![of.to_vec(), Vec::new()];
    for (at, constant) in of.iter().enumerate() {
        if let Constant::Int(_) = constant {
            for small in [1, 2, 5] {
                let mut other = of.to_vec();
                other[at] = Constant::Int(small);
                all.push(other);
            }
        }
    }
    for further in [2, 300] {
        let mut longer = of.to_vec();
        longer.push(Constant::Int(further));
        all.push(longer);
    }
    all.sort_by_key(|constants| format!("{constants:?}"));
    all.dedup();
    all
}

/// Every member with every type it takes, called in several ways.
pub(super) fn functions() -> Vec<Called> {
    let mut all = Vec::new();
    for member in CATALOGUE {
        let (_, call) = example(member.documentation().example);
        let arguments = std::iter::once(None).chain(types().into_iter().map(Some));
        for argument in arguments {
            for constants in constants(&call.constants) {
                let call = FunctionCall { argument: argument.clone(), constants };
                if let Ok(function) = member.function(&call) {
                    all.push(Called { member: *member, call, function });
                }
            }
        }
    }
    all
}

/// Every member with every type it takes, called as in its example.
pub(super) fn every_type() -> Vec<Called> {
    let as_example =
        |called: &Called| example(called.member.documentation().example).1.constants == called.call.constants;
    functions().into_iter().filter(as_example).collect()
}

#[test]
fn every_member_is_documented_and_found() {
    let mut names = BTreeSet::new();
    for member in CATALOGUE {
        let name = member.name();
        let about = member.documentation();
        for name in std::iter::once(&name).chain(member.aliases()) {
            assert!(names.insert(*name), "{name} stands twice");
            assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || "_0123456789".contains(letter)));
            assert_eq!(aggregate(&name.to_uppercase()).unwrap().name(), member.name());
        }
        for usage in about.usage.split("), ") {
            assert!(usage.starts_with(&format!("{name}(")), "{name}: {usage}");
        }
        assert!(about.about.ends_with('.') && about.about.len() > 20, "{name}");
        for text in [about.takes, about.gives, about.state, about.error.unwrap_or("exact")] {
            assert!(!text.is_empty() && !text.ends_with('.'), "{name}: {text}");
        }
        let (found, call) = example(about.example);
        let of = call.argument.as_ref().map_or(String::new(), DataType::to_string);
        let function = member.function(&call).unwrap_or_else(|error| panic!("{}: {error}", about.example));
        assert_eq!(found, name);
        let gives = about.gives.replace("the type of x", &of);
        assert!(gives.contains(&function.data_type().to_string()), "{name} gives {}", function.data_type());
        assert!(functions().iter().any(|called| called.member.name() == name), "{name} takes no type");
    }
}

#[test]
fn wrong_calls_are_told_what_is_wrong() {
    let check = |name: &str, argument: Option<DataType>, constants: Vec<Constant>, expected: &str| {
        let call = FunctionCall { argument, constants };
        assert_eq!(aggregate(name).unwrap().function(&call).unwrap_err().to_string(), expected);
    };
    let string = || Some(DataType::String);
    check("min", None, vec![], "min takes a value of every row, not `*`");
    check(
        "max",
        Some(DataType::Json),
        vec![],
        "max takes bool, numbers, decimals, string, bytes, date, timestamp, uuid, not json",
    );
    check(
        "last_n",
        string(),
        vec![],
        "last_n is called as `last_n(x, n)`: `n` is missing, a whole number from 1 to 10000",
    );
    check(
        "first_n",
        string(),
        vec![Constant::Int(0)],
        "first_n is called as `first_n(x, n)`: `n` is a whole number from 1 to 10000, not 0",
    );
    check(
        "first_n",
        string(),
        vec![Constant::Text("a".to_owned())],
        "first_n is called as `first_n(x, n)`: `n` is a whole number from 1 to 10000",
    );
    check(
        "count_distinct",
        string(),
        vec![Constant::Int(5), Constant::Int(6)],
        "count_distinct is called as `count_distinct(x), count_distinct(x, cap)`: there is a constant too many",
    );
    check(
        "approx_quantile",
        Some(DataType::Float64),
        vec![Constant::Float(1.5)],
        "approx_quantile is called as `approx_quantile(x, q)`: `q` is a number from 0 to 1, not 1.5",
    );
    check("approx_quantile", string(), vec![], "approx_quantile takes numbers and decimals, not string");
}
