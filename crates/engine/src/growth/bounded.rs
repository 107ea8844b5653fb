//! A function behind its bound.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ExprSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::Bounds;
use super::size::{self, Answer};
use crate::Error;

/// A function that says how large its answer will be before it makes it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Bounded {
    inner: Arc<ScalarUDF>,
    bounds: Bounds,
}

impl Bounded {
    pub(super) fn new(inner: Arc<ScalarUDF>, bounds: Bounds) -> Bounded {
        Bounded { inner, bounds }
    }

    /// Why a call with these constants is refused.
    pub(super) fn fault(&self, values: Vec<ScalarValue>) -> Option<Error> {
        let values: Vec<ColumnarValue> = values.into_iter().map(ColumnarValue::Scalar).collect();
        match size::answer(self.inner.name(), &values, 1) {
            Answer::Exactly(bytes) | Answer::AtMost(bytes) if bytes > self.bounds.constant as u64 => {
                Some(self.too_large(self.bounds.constant))
            }
            _ => None,
        }
    }

    fn too_large(&self, limit: usize) -> Error {
        too_large(&format!("the answer of `{}`", self.inner.name()), limit)
    }

    /// Calls it for some of the rows at a time where all at once could be too much; `spent` is what earlier
    /// rows gave.
    fn call(&self, args: ScalarFunctionArgs, spent: &mut usize) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|it| matches!(it, ColumnarValue::Scalar(_)));
        let limit = if constant { self.bounds.constant } else { self.bounds.batch };
        let rows = if constant { 1 } else { args.number_rows };
        match size::answer(self.inner.name(), &args.args, rows) {
            Answer::Exactly(bytes) if bytes > limit as u64 => return Err(self.too_large(limit).into()),
            Answer::AtMost(bytes) if bytes > limit as u64 => {
                if rows <= 1 {
                    return Err(self.too_large(limit).into());
                }
                let (first, second) = halves(&args);
                let parts = [self.call(first, spent)?, self.call(second, spent)?];
                let parts = parts.into_iter().zip([rows / 2, rows - rows / 2]);
                let arrays: Vec<ArrayRef> =
                    parts.map(|(part, rows)| part.into_array(rows)).collect::<Result<_>>()?;
                let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array.as_ref()).collect();
                return Ok(ColumnarValue::Array(arrow::compute::concat(&arrays)?));
            }
            _ => {}
        }
        let value = self.inner.invoke_with_args(args)?;
        *spent = spent.saturating_add(check(&value, self.bounds, |limit| self.too_large(limit))?);
        if *spent > self.bounds.batch {
            return Err(self.too_large(self.bounds.batch).into());
        }
        Ok(value)
    }
}

fn too_large(what: &str, limit: usize) -> Error {
    Error::Exhausted {
        what: what.to_owned(),
        limit: size::shown(limit),
        hint: Some("make less of it at once; `memory` in asof.yaml raises the limit".to_owned()),
    }
}

/// The same call for the first half of the rows and for the second.
fn halves(args: &ScalarFunctionArgs) -> (ScalarFunctionArgs, ScalarFunctionArgs) {
    let middle = args.number_rows / 2;
    let part = |from: usize, rows: usize| ScalarFunctionArgs {
        args: args
            .args
            .iter()
            .map(|it| match it {
                ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, rows)),
                scalar => scalar.clone(),
            })
            .collect(),
        arg_fields: args.arg_fields.clone(),
        number_rows: rows,
        return_field: Arc::clone(&args.return_field),
        config_options: Arc::clone(&args.config_options),
    };
    (part(0, middle), part(middle, args.number_rows - middle))
}

/// The bytes of an answer, within the bounds.
fn check(value: &ColumnarValue, bounds: Bounds, wrong: impl Fn(usize) -> Error) -> Result<usize> {
    let (bytes, largest, limit) = match value {
        ColumnarValue::Scalar(scalar) => {
            let bytes = scalar.size();
            (bytes, 0, bounds.constant)
        }
        ColumnarValue::Array(array) => {
            (size::bytes(array.as_ref()), size::largest(array.as_ref()), bounds.batch)
        }
    };
    if largest > bounds.value {
        return Err(wrong(bounds.value).into());
    }
    if bytes > limit {
        return Err(wrong(limit).into());
    }
    Ok(bytes)
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.inner().with_updated_config(config)?;
        Some(ScalarUDF::new_from_impl(Bounded::new(Arc::new(inner), self.bounds)))
    }

    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        #[expect(deprecated, reason = "what asks the wrapper is to be told what the function says")]
        self.inner.inner().is_nullable(args, schema)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.call(args, &mut 0)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// Gives its argument as it is, where that is within the bounds: for what is no function, such as `||`,
/// which grows little in one step and much in many.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    signature: Signature,
    bounds: Bounds,
}

impl Kept {
    pub(super) fn new(bounds: Bounds) -> Kept {
        Kept { signature: Signature::any(1, Volatility::Immutable), bounds }
    }
}

impl ScalarUDFImpl for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        args.iter().map(|it| Ok(it.schema_name().to_string())).collect()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().ok_or_else(|| DataFusionError::Internal("one argument".to_owned()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        args.arg_fields.first().cloned().ok_or_else(|| DataFusionError::Internal("one argument".to_owned()))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = args.args.into_iter().next();
        let value = value.ok_or_else(|| DataFusionError::Internal("one argument".to_owned()))?;
        check(&value, self.bounds, |limit| too_large("a value made of others", limit))?;
        Ok(value)
    }
}
