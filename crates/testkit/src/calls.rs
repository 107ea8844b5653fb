//! Calls of the catalogue: of every member, so that a member to come is tried without being named, and as the test kit
//! asks for them.

use asof_compute::{Aggregate, CATALOGUE, Constant, Function, FunctionCall, aggregate};
use asof_model::{Call, DataType};

/// What the catalogue has for a feature of the test kit: the call as it is parsed, and its function.
///
/// # Errors
/// Of a feature that the catalogue does not take, in words.
pub fn called(feature: &crate::Aggregate) -> Result<(Call, Function), String> {
    let text = feature.to_string();
    let call = Call::parse(&text).map_err(|error| format!("`{text}`: {error}"))?;
    let asked = FunctionCall {
        argument: feature.argument.map(crate::Argument::data_type),
        constants: call.parameters.iter().map(Constant::from).collect(),
    };
    let member = aggregate(&call.function).ok_or_else(|| format!("`{text}` is of no member"))?;
    let function = member.function(&asked).map_err(|error| format!("`{text}`: {error}"))?;
    Ok((call, function))
}

/// A call of every member with the constants of its example, and the type of its value. The arguments are these
/// columns in turn, beginning with the one numbered `turn`, of each member the next that it takes.
///
/// # Errors
/// Of a member whose example is none, or that takes none of the columns: they lack a type.
pub fn every_call(columns: &[(&str, DataType)], turn: usize) -> Result<Vec<(String, DataType)>, String> {
    let mut next = turn;
    let call = |member: &&dyn Aggregate| {
        let example = member.documentation().example;
        let called = Call::parse(example).map_err(|error| format!("`{example}`: {error}"))?;
        let asked = |argument| {
            let constants = called.parameters.iter().map(Constant::from).collect();
            member.function(&FunctionCall { argument, constants }).map(|function| function.data_type())
        };
        let Some(argument) = &called.argument else {
            let gives = asked(None).map_err(|error| format!("`{example}`: {error}"))?;
            return Ok((example.to_owned(), gives));
        };
        let taken = (0..columns.len()).find_map(|after| {
            let at = (next + after) % columns.len();
            let gives = asked(Some(columns[at].1.clone())).ok()?;
            next = at + 1;
            Some((example.replacen(&argument.text, columns[at].0, 1), gives))
        });
        taken.ok_or_else(|| format!("`{example}` takes none of {columns:?}"))
    };
    CATALOGUE.iter().map(call).collect()
}
