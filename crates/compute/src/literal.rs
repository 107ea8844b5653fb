//! Constants of definitions as values.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use asof_model::{DataType, Literal, Timestamp};

use crate::{ComputeError, arrow_type};

/// An array of one value: a constant as a value of a type that it [fits](Literal::fits).
///
/// # Errors
/// [`ComputeError::WrongType`] where it fits no value of the type.
pub fn literal_array(literal: &Literal, data_type: &DataType) -> Result<ArrayRef, ComputeError> {
    let wrong = || ComputeError::WrongType {
        expected: data_type.clone(),
        found: match literal {
            Literal::Bool(_) => "bool",
            Literal::Int(_) => "whole number",
            Literal::Float(_) => "number",
            Literal::Text(_) => "text",
        }
        .to_owned(),
    };
    if !literal.fits(data_type) {
        return Err(wrong());
    }
    let array: ArrayRef = match (literal, data_type) {
        (Literal::Bool(value), _) => Arc::new(BooleanArray::from(vec![*value])),
        (Literal::Int(value), _) => Arc::new(Int64Array::from(vec![*value])),
        // Through its text, so that a decimal is what was written.
        (Literal::Float(value), DataType::Decimal { .. }) => {
            Arc::new(StringArray::from(vec![value.to_string()]))
        }
        (Literal::Float(value), _) => Arc::new(Float64Array::from(vec![value.value()])),
        (Literal::Text(text), DataType::Timestamp) => {
            let instant = Timestamp::parse(text).map_err(|_| wrong())?;
            Arc::new(TimestampMicrosecondArray::from(vec![instant.0]).with_timezone("UTC"))
        }
        (Literal::Text(text), DataType::Bytes) => Arc::new(BinaryArray::from(vec![text.as_bytes()])),
        (Literal::Text(text), DataType::Uuid) => {
            let digits: String = text.chars().filter(|it| *it != '-').collect();
            let value = u128::from_str_radix(&digits, 16).map_err(|_| wrong())?;
            let bytes = [value.to_be_bytes()];
            Arc::new(FixedSizeBinaryArray::try_from_iter(bytes.iter()).map_err(|_| wrong())?)
        }
        (Literal::Text(text), _) => Arc::new(StringArray::from(vec![text.as_str()])),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&array, &arrow_type(data_type), &options).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;
    use asof_model::Literal;

    use super::*;

    #[test]
    fn constants_are_values_of_the_types_they_fit() {
        let text = |text: &str| Literal::Text(text.to_owned());
        for (literal, data_type, shown) in [
            (Literal::Int(0), "int8", "0"),
            (Literal::Int(-3), "float64", "-3.0"),
            (Literal::Int(5), "decimal(6,2)", "5.00"),
            (Literal::Bool(true), "bool", "true"),
            (text("x"), "string", "x"),
            (text("2020-01-02"), "date", "2020-01-02"),
            (text("1970-01-01T00:00:01Z"), "timestamp", "1000000"),
            (text("99.95"), "decimal(6,2)", "99.95"),
            (text("18446744073709551615"), "uint64", "18446744073709551615"),
            (text("123e4567-e89b-12d3-a456-426614174000"), "uuid", "123e4567e89b12d3a456426614174000"),
        ] {
            let data_type = DataType::parse(data_type).unwrap();
            let array = literal_array(&literal, &data_type).unwrap();
            assert_eq!(array.data_type(), &arrow_type(&data_type));
            // Instants as their microseconds: a zone's name is not known here.
            let array = match data_type {
                DataType::Timestamp => arrow::compute::cast(&array, &arrow_type(&DataType::Int64)).unwrap(),
                _ => array,
            };
            assert_eq!(array_value_to_string(&array, 0).unwrap(), shown);
        }
        assert!(literal_array(&Literal::Int(300), &DataType::Int8).is_err());
        assert!(literal_array(&text("x"), &DataType::Int64).is_err());
    }
}
