//! Cells as texts for people and text files: as arrow shows them, floats as [`asof_model::float_text`] does.

use std::fmt::Write;

use arrow::array::{Array, AsArray as _, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{
    ArrayFormatter, ArrayFormatterFactory, DisplayIndex, FormatOptions, FormatResult,
};
use asof_model::{float_text, float32_text};

/// Shows the cells of an array; nulls are empty.
///
/// # Errors
/// The array is of a type that arrow cannot show.
pub fn cells(array: &dyn Array) -> Result<ArrayFormatter<'_>, ArrowError> {
    let options =
        FormatOptions::new().with_null("").with_display_error(true).with_formatter_factory(Some(&Floats));
    match Floats.create_array_formatter(array, &options, None)? {
        Some(formatter) => Ok(formatter),
        None => ArrayFormatter::try_new(array, &options),
    }
}

/// Floats as they are written everywhere.
#[derive(Debug)]
struct Floats;

impl ArrayFormatterFactory for Floats {
    fn create_array_formatter<'formatter>(
        &self,
        array: &'formatter dyn Array,
        options: &FormatOptions<'formatter>,
        _: Option<&'formatter Field>,
    ) -> Result<Option<ArrayFormatter<'formatter>>, ArrowError> {
        let null = options.null();
        let shown: Box<dyn DisplayIndex + 'formatter> = match array.data_type() {
            DataType::Float64 => {
                Box::new(Shown { array: array.as_primitive::<Float64Type>(), text: float_text, null })
            }
            DataType::Float32 => {
                Box::new(Shown { array: array.as_primitive::<Float32Type>(), text: float32_text, null })
            }
            _ => return Ok(None),
        };
        Ok(Some(ArrayFormatter::new(shown, options.safe())))
    }
}

struct Shown<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    text: fn(T::Native) -> String,
    null: &'a str,
}

impl<T: ArrowPrimitiveType> DisplayIndex for Shown<'_, T> {
    fn write(&self, row: usize, to: &mut dyn Write) -> FormatResult {
        if self.array.is_null(row) {
            to.write_str(self.null)?;
        } else {
            to.write_str(&(self.text)(self.array.value(row)))?;
        }
        Ok(())
    }
}
