//! Calls of every member of the catalogue, so that a member to come is tried without being named.

use asof_compute::{CATALOGUE, Constant, FunctionCall};
use asof_model::{Call, DataType};

/// A call of every member with the constants of its example, and the type of its value. The arguments are these
/// columns in turn, beginning with the one numbered `turn`, of each member the next that it takes.
///
/// # Panics
/// Of a member that takes none of the columns: they lack a type.
pub fn every_call(columns: &[(&str, DataType)], turn: usize) -> Vec<(String, DataType)> {
    let mut next = turn;
    let call = |member: &&dyn asof_compute::Aggregate| {
        let example = member.documentation().example;
        let called = Call::parse(example).unwrap_or_else(|error| panic!("`{example}`: {error}"));
        let asked = |argument| {
            let constants = called.parameters.iter().map(Constant::from).collect();
            member.function(&FunctionCall { argument, constants }).map(|function| function.data_type())
        };
        let Some(argument) = &called.argument else {
            return (example.to_owned(), asked(None).unwrap_or_else(|error| panic!("`{example}`: {error}")));
        };
        let taken = (0..columns.len()).find_map(|after| {
            let at = (next + after) % columns.len();
            let gives = asked(Some(columns[at].1.clone())).ok()?;
            next = at + 1;
            let text = example.replacen(&argument.text, columns[at].0, 1);
            Some((text, gives))
        });
        taken.unwrap_or_else(|| panic!("`{example}` takes none of {columns:?}"))
    };
    CATALOGUE.iter().map(call).collect()
}
