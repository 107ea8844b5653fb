//! How a float is written wherever somebody reads it: JSON, CSV, tables.

/// A float that no JSON number is, as the text it is written by; none where it is finite.
///
/// ```
/// assert_eq!(asof_model::special_float(f64::NEG_INFINITY), Some("-Infinity"));
/// assert_eq!(asof_model::special_float(0.5), None);
/// ```
pub fn special_float(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        None
    }
}

/// The shortest text that reads back as the same 64-bit float, always with a point or an exponent.
///
/// ```
/// use asof_model::float_text;
/// assert_eq!([1.0, 0.1, 1e308, -0.0].map(float_text), ["1.0", "0.1", "1e+308", "-0.0"]);
/// assert_eq!(float_text(f64::INFINITY), "Infinity");
/// ```
pub fn float_text(value: f64) -> String {
    special_float(value).map_or_else(|| serde_json::to_string(&value).unwrap_or_default(), str::to_owned)
}

/// As [`float_text`], for a 32-bit float.
///
/// ```
/// assert_eq!(asof_model::float32_text(0.1), "0.1");
/// ```
pub fn float32_text(value: f32) -> String {
    let special = special_float(f64::from(value));
    special.map_or_else(|| serde_json::to_string(&value).unwrap_or_default(), str::to_owned)
}
