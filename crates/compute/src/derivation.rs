//! Derived features: what computes one, and the steps of a selection in their order (SEMANTICS 3.3).
//!
//! Which functions there are and how an expression is evaluated is the engine's, which fills [`Derive`] and
//! [`Derivation`]; the rest stands here once. Training gives [`Derivations::run`] a batch of spine rows, serving
//! the entities of a request: the same compiled objects, the same inputs, the same values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType as ArrowType;
use asof_model::{DataType, DerivedFeature, Explain, Kind, Name, RequestColumn, Selection, StepInput};

use crate::{ComputeError, arrow_type, conform};

/// A derived feature, compiled.
pub trait Derivation: std::fmt::Debug + Send + Sync {
    /// Its value for each of so many rows, as [`arrow_type`] of its type. `inputs` stand parallel to
    /// [`DerivedFeature::inputs`], each of as many rows and of [`arrow_type`] of its type. The value of a row hangs
    /// on that row alone.
    ///
    /// # Errors
    /// Where a row cannot be computed, a division by zero say; without its values.
    fn derive(&self, inputs: &[ArrayRef], rows: usize) -> Result<ArrayRef, DerivationError>;
}

/// Compiles derived features; once for all that is computed of them.
pub trait Derive: std::fmt::Debug + Send + Sync {
    /// Compiles a feature of a derived that stands in the project `home`, over inputs of these types, which stand
    /// parallel to [`DerivedFeature::inputs`].
    ///
    /// # Errors
    /// Where its expression is none, which apply has seen to.
    fn compile(
        &self,
        home: &Name,
        feature: &DerivedFeature,
        inputs: &[DataType],
    ) -> Result<Arc<dyn Derivation>, DerivationError>;
}

/// Why a derived feature is not computed: what the engine says of it. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DerivationError {
    /// What the caller can do.
    pub kind: Kind,
    /// A stable identifier, e.g. `expression_failed`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl DerivationError {
    /// An error of another room in its own words.
    pub fn of(error: &(impl Explain + ?Sized)) -> DerivationError {
        DerivationError {
            kind: error.kind(),
            code: error.code(),
            message: error.to_string(),
            hint: error.hint(),
        }
    }

    fn defect(message: &str) -> DerivationError {
        DerivationError { kind: Kind::Internal, code: "internal", message: message.to_owned(), hint: None }
    }

    /// The same, of this feature.
    fn of_feature(self, feature: &str) -> DerivationError {
        DerivationError { message: format!("derived feature `{feature}`: {}", self.message), ..self }
    }
}

impl Explain for DerivationError {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn code(&self) -> &'static str {
        self.code
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// The steps of a selection, compiled.
#[derive(Debug)]
pub struct Derivations {
    steps: Vec<Step>,
    features: Vec<(usize, usize)>,
    request: usize,
}

#[derive(Debug)]
struct Step {
    /// `derived.feature`, for errors.
    name: String,
    inputs: Vec<Place>,
    derivation: Arc<dyn Derivation>,
}

/// Where an input of a step is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In [`Derivations::features`].
    Feature(usize),
    Step(usize),
    Request(usize),
    Time,
}

impl Derivations {
    /// Compiles the steps of a selection.
    ///
    /// # Errors
    /// Those of [`Derive::compile`], and [`Kind::Internal`] where a step reads what is not there.
    pub fn compile(selection: &Selection, by: &dyn Derive) -> Result<Derivations, DerivationError> {
        let mut made =
            Derivations { steps: Vec::new(), features: Vec::new(), request: selection.request.len() };
        for (number, step) in selection.steps.iter().enumerate() {
            let feature = step.feature().ok_or_else(|| DerivationError::defect("a step has no feature"))?;
            let name = format!("{}.{}", step.derived.address.name, feature.feature.name);
            let mut types = Vec::with_capacity(step.inputs.len());
            let mut inputs = Vec::with_capacity(step.inputs.len());
            for input in &step.inputs {
                let (place, data_type) = made
                    .place(selection, *input)
                    .filter(|_| !matches!(input, StepInput::Step(other) if *other >= number))
                    .ok_or_else(|| DerivationError::defect("a step reads what is not there"))?;
                inputs.push(place);
                types.push(data_type);
            }
            let derivation = by
                .compile(&step.derived.address.project, feature, &types)
                .map_err(|error| error.of_feature(&name))?;
            made.steps.push(Step { name, inputs, derivation });
        }
        Ok(made)
    }

    fn place(&mut self, selection: &Selection, input: StepInput) -> Option<(Place, DataType)> {
        Some(match input {
            StepInput::Feature { reading, feature } => {
                let data_type = &selection.readings.get(reading)?.view.features.get(feature)?.data_type;
                let found = self.features.iter().position(|it| *it == (reading, feature));
                let at = found.unwrap_or_else(|| {
                    self.features.push((reading, feature));
                    self.features.len() - 1
                });
                (Place::Feature(at), data_type.clone())
            }
            StepInput::Step(at) => (Place::Step(at), selection.steps.get(at)?.feature()?.data_type.clone()),
            StepInput::Request(at) => (Place::Request(at), selection.request.get(at)?.data_type.clone()),
            StepInput::RequestTime => (Place::Time, DataType::Timestamp),
        })
    }

    /// Whether nothing is computed.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The features that steps read, by reading and position in its view, each once.
    pub fn features(&self) -> &[(usize, usize)] {
        &self.features
    }

    /// What every step gives for so many rows. `features` stand parallel to [`Derivations::features`], `request` to
    /// [`Selection::request`], conformed by [`conform_request`]; `time` is the time asked of each row.
    ///
    /// # Errors
    /// Of the first step that cannot be computed.
    pub fn run(
        &self,
        features: &[ArrayRef],
        request: &[ArrayRef],
        time: &ArrayRef,
        rows: usize,
    ) -> Result<Vec<ArrayRef>, DerivationError> {
        if features.len() != self.features.len() || request.len() != self.request {
            return Err(DerivationError::defect("the inputs of derived features are not those they read"));
        }
        let mut done: Vec<ArrayRef> = Vec::with_capacity(self.steps.len());
        let mut inputs: Vec<ArrayRef> = Vec::new();
        for step in &self.steps {
            inputs.clear();
            for place in &step.inputs {
                let input = match place {
                    Place::Feature(at) => features.get(*at),
                    Place::Step(at) => done.get(*at),
                    Place::Request(at) => request.get(*at),
                    Place::Time => Some(time),
                };
                let input = input.ok_or_else(|| DerivationError::defect("a step reads what is not there"))?;
                inputs.push(Arc::clone(input));
            }
            let made = step.derivation.derive(&inputs, rows).map_err(|error| error.of_feature(&step.name))?;
            done.push(made);
        }
        Ok(done)
    }
}

/// What a request or a spine brings for a column that derived features read, as its one Arrow type: any layout that
/// [`conform`] takes, and whole numbers as floats, where every one of them is one.
///
/// # Errors
/// As [`conform`].
pub fn conform_request(array: &ArrayRef, column: &RequestColumn) -> Result<ArrayRef, ComputeError> {
    let to = &column.data_type;
    let is_whole = array.data_type().is_integer();
    if !is_whole || !matches!(to, DataType::Float32 | DataType::Float64) {
        return conform(array, to);
    }
    let cast = |array: &ArrayRef, to: &ArrowType| {
        cast_with_options(array, to, &CastOptions { safe: true, ..CastOptions::default() }).ok()
    };
    let exact = cast(array, &arrow_type(to)).filter(|floats| {
        let back = cast(floats, array.data_type());
        back.is_some_and(|back| not_distinct(&back, array).is_ok_and(|same| same.true_count() == same.len()))
    });
    exact.ok_or_else(|| ComputeError::OutOfRange {
        expected: to.clone(),
        found: array.data_type().to_string(),
        reason: "it is no such float".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int32Array, Int64Array};

    use super::*;

    fn taken(array: impl Array + 'static, to: DataType) -> Result<ArrayRef, ComputeError> {
        let column = RequestColumn { name: Name::new("price").unwrap(), data_type: to };
        conform_request(&(Arc::new(array) as ArrayRef), &column)
    }

    #[test]
    fn whole_numbers_are_floats_where_they_are_the_same() {
        let floats = Float64Array::from(vec![Some(1.0), None, Some(-9_007_199_254_740_992.0)]);
        let whole = Int64Array::from(vec![Some(1), None, Some(-9_007_199_254_740_992)]);
        assert_eq!(*taken(whole, DataType::Float64).unwrap(), floats);
        let narrow = Int32Array::from(vec![Some(16_777_217)]);
        assert_eq!(
            *taken(narrow.clone(), DataType::Float64).unwrap(),
            Float64Array::from(vec![16_777_217.0])
        );
        for (array, to) in [
            (Arc::new(Int64Array::from(vec![9_007_199_254_740_993])) as ArrayRef, DataType::Float64),
            (Arc::new(Int64Array::from(vec![i64::MAX])), DataType::Float64),
            (Arc::new(narrow), DataType::Float32),
        ] {
            let column = RequestColumn { name: Name::new("price").unwrap(), data_type: to };
            assert!(matches!(conform_request(&array, &column), Err(ComputeError::OutOfRange { .. })));
        }
        assert!(matches!(
            taken(Float64Array::from(vec![1.0]), DataType::Int64),
            Err(ComputeError::WrongType { .. })
        ));
    }
}
