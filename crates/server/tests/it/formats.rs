//! Lists of backups of earlier versions are read forever.

use std::path::Path;

use asof_server::BackupManifest;

#[test]
fn a_list_of_format_1_is_read() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/backup-1.json");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(&kept, folder.path().join("manifest.json")).unwrap();
    let manifest = BackupManifest::read(folder.path()).unwrap();
    assert_eq!((manifest.format, manifest.created_at.0), (1, 1_370_044_800_000_000));
    assert_eq!((manifest.files[0].path.as_str(), manifest.files[0].size), ("registry.db", 24));

    let newer = std::fs::read_to_string(&kept).unwrap().replace("\"format\": 1", "\"format\": 2");
    std::fs::write(folder.path().join("manifest.json"), newer).unwrap();
    let refused = BackupManifest::read(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("its format is 2; this program knows up to 1"), "{refused}");
}
