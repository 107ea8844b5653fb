//! Aggregates of window views, typed over the columns of a source.

use asof_compute::{Constant, Function, FunctionCall, aggregate};
use asof_model::{Call, Column, DataType, nearest};

use super::{Compiled, Problem, Purpose, compile};
use crate::Engine;

/// A call of an aggregate, typed over the columns of a source.
#[derive(Debug, Clone)]
pub struct CompiledAggregate {
    /// What is kept of rows and what that comes to.
    pub function: Function,
    /// What it is of; none: the row itself.
    pub argument: Option<Compiled>,
    /// The type of that: a column's own, which its Arrow type alone does not tell (json).
    pub argument_type: Option<DataType>,
    /// Rows that count.
    pub filter: Option<Compiled>,
}

/// What of a call a [`Problem`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPart {
    /// All of it.
    Whole,
    /// Its argument: places are within the argument's text.
    Argument,
    /// Its filter: places are within the filter's text.
    Filter,
}

/// Types a call over the columns of a source with a clock.
///
/// # Errors
/// [`Problem`], and what of the call it is about.
pub fn compile_call(
    engine: &Engine,
    call: &Call,
    columns: &[Column],
) -> Result<CompiledAggregate, (CallPart, Problem)> {
    let text = &call.function;
    let Some(member) = aggregate(text) else {
        let problem = Problem::whole(text, "aggregate_not_found", format!("`{text}` is no aggregate"));
        let names = asof_compute::CATALOGUE
            .iter()
            .flat_map(|member| std::iter::once(member.name()).chain(member.aliases().iter().copied()));
        let hint = match nearest(text, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let all: Vec<&str> = asof_compute::CATALOGUE.iter().map(|member| member.name()).collect();
                format!("aggregates are {}", all.join(", "))
            }
        };
        return Err((CallPart::Whole, problem.hint(hint)));
    };
    let argument = call.argument.as_ref().map(|argument| {
        compile(engine, &argument.text, columns, true, Purpose::Feature)
            .map_err(|problem| (CallPart::Argument, problem))
    });
    let argument = argument.transpose()?;
    let filter = call.filter.as_ref().map(|filter| {
        compile(engine, &filter.text, columns, true, Purpose::Condition)
            .map_err(|problem| (CallPart::Filter, problem))
    });
    let filter = filter.transpose()?;
    let constants = call.parameters.iter().map(Constant::from).collect();
    let argument_type = argument.as_ref().zip(call.argument.as_ref()).map(|(compiled, written)| {
        // A column keeps its own type, which an Arrow type alone does not tell (json).
        let own = written.as_column();
        let own = own.and_then(|own| columns.iter().find(|column| column.name == own));
        own.map_or(compiled.data_type(), |column| &column.data_type).clone()
    });
    let asked = FunctionCall { argument: argument_type.clone(), constants };
    let function = member.function(&asked).map_err(|error| {
        let problem = Problem::whole(text, "aggregate_call", error.to_string());
        let usage = member.documentation().usage;
        (CallPart::Whole, problem.hint(format!("it is called as `{usage}`")))
    })?;
    Ok(CompiledAggregate { function, argument, argument_type, filter })
}
