//! Derived features: expressions over features, what a request brings and its time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use asof_compute::{Derivation, DerivationError, Derive, arrow_type};
use asof_model::{DataType, DerivedFeature, Name};
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;

use super::{Bound, Names, Problem, Typed, typed};
use crate::engine::WORKER_STACK;
use crate::{Engine, Error, Result};

/// A derived feature, compiled over its inputs.
#[derive(Debug, Clone)]
pub struct CompiledDerived {
    bound: Bound,
    /// A column per name, as it is written.
    schema: SchemaRef,
    /// Per column which of the inputs it is.
    inputs: Vec<usize>,
}

/// Types an expression over what its names mean: each as it is written, which of the inputs it is
/// (`asof_model::Expression::reads`), and the inputs' types.
///
/// # Errors
/// [`Problem`] with the place within the text.
pub fn compile_derived(
    engine: &Engine,
    text: &str,
    names: &[(String, usize)],
    types: &[DataType],
) -> Result<CompiledDerived, Problem> {
    let type_of = |input: usize| {
        types.get(input).ok_or_else(|| Problem::whole(text, "internal", "reads an input that is not there"))
    };
    let mut fields = Vec::with_capacity(names.len());
    for (name, input) in names {
        fields.push(Field::new(name, arrow_type(type_of(*input)?), true));
    }
    let schema = Arc::new(Schema::new(fields.clone()));
    let Typed { read, physical, mut data_type } = typed(engine, text, fields, Names::OfFeatures)?;
    // An input alone keeps its own type, which an Arrow type does not tell (json).
    if let SqlExpr::Identifier(alone) = &read
        && let Some((_, input)) = names.iter().find(|(name, _)| *name == alone.value)
    {
        data_type = type_of(*input)?.clone();
    }
    let bound = Bound { text: text.to_owned(), physical, data_type };
    Ok(CompiledDerived { bound, schema, inputs: names.iter().map(|(_, input)| *input).collect() })
}

impl CompiledDerived {
    /// The type it gives.
    pub fn data_type(&self) -> &DataType {
        self.bound.data_type()
    }

    fn evaluate(&self, inputs: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let column = |at: &usize| {
            let input = inputs.get(*at).cloned();
            input.ok_or_else(|| Error::internal("a derived feature is given too few inputs"))
        };
        let columns = self.inputs.iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        self.bound.evaluate(&batch)
    }
}

impl Derivation for CompiledDerived {
    fn derive(&self, inputs: &[ArrayRef], rows: usize) -> Result<ArrayRef, DerivationError> {
        self.evaluate(inputs, rows).map_err(|error| DerivationError::of(&error))
    }
}

/// What was compiled and is in use: who asks for the same, to serve or to train, is given the same.
#[derive(Debug, Default)]
pub(crate) struct InUse(Mutex<HashMap<String, Weak<CompiledDerived>>>);

impl InUse {
    fn find(&self, what: &str) -> Option<Arc<CompiledDerived>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(what)?.upgrade()
    }

    /// The one that all use from now on: this one, or another's that was quicker.
    fn keep(&self, what: String, compiled: CompiledDerived) -> Arc<CompiledDerived> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&what).and_then(Weak::upgrade) {
            return found;
        }
        all.retain(|_, other| other.strong_count() > 0);
        let compiled = Arc::new(compiled);
        all.insert(what, Arc::downgrade(&compiled));
        compiled
    }
}

impl Derive for Engine {
    fn compile(
        &self,
        home: &Name,
        feature: &DerivedFeature,
        inputs: &[DataType],
    ) -> Result<Arc<dyn Derivation>, DerivationError> {
        let expression = &feature.feature.expression;
        let names = expression.reads(home, &feature.inputs).ok_or_else(|| {
            DerivationError::of(&Error::internal("a derived feature names what it does not read"))
        })?;
        let what = format!("{:?}", (&expression.text, &names, inputs, &feature.data_type));
        if let Some(compiled) = self.derived().find(&what) {
            return Ok(compiled);
        }
        // Planning recurses deeper than a caller's stack may allow.
        let compiled = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("asof-compile".to_owned())
                .stack_size(WORKER_STACK)
                .spawn_scoped(scope, || compile_derived(self, &expression.text, &names, inputs))
                .map(|thread| thread.join())
        });
        let compiled = compiled
            .map_err(|error| Error::io("start a thread that compiles", &self.config().data_dir, &error))
            .and_then(|ended| ended.map_err(|_| Error::internal("compiling a derived feature panicked")))
            .map_err(|error| DerivationError::of(&error))?;
        let mut compiled = compiled.map_err(|problem| {
            let Problem { code, message, hint, .. } = problem;
            let message = format!("expression `{}` {message}", expression.text);
            DerivationError::of(&Error::Invalid { code, message, hint })
        })?;
        // As it was agreed, whatever the functions of this version give.
        compiled.bound.data_type = feature.data_type.clone();
        Ok(self.derived().keep(what, compiled))
    }
}
