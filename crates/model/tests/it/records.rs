//! Records of training sets of earlier versions are read forever, and lose nothing.

use asof_model::TrainingSet;

#[test]
fn a_record_of_format_1_is_read() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/training-set-1.json");
    let text = std::fs::read_to_string(path).unwrap();
    let set: TrainingSet = serde_json::from_str(&text).unwrap();
    let again = serde_json::to_value(&set).unwrap();
    assert_eq!(again, serde_json::from_str::<serde_json::Value>(&text).unwrap());
    assert!(!set.outcome.content_hash.is_empty());
}
