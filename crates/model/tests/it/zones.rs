//! Zones named in a text are those that are built in, whatever the machine has.

use std::process::Command;

use asof_model::Timestamp;

#[test]
fn a_named_zone_is_the_built_in_one() {
    for (text, want) in [
        ("2013-06-01T12:00:00[America/New_York]", Some("2013-06-01T16:00:00.000000Z")),
        ("2013-06-01T12:00:00-04:00[America/New_York]", Some("2013-06-01T16:00:00.000000Z")),
        ("2013-12-01T12:00:00[Asia/Tokyo]", Some("2013-12-01T03:00:00.000000Z")),
        ("2013-06-01T12:00:00[Mars/Olympus]", None),
    ] {
        assert_eq!(Timestamp::parse(text).ok().map(|at| at.to_string()).as_deref(), want, "{text}");
    }
}

/// A machine whose New York stands at Greenwich, and which has a zone on Mars.
#[test]
fn the_zones_of_the_machine_are_not_asked() {
    let folder = std::env::temp_dir().join(format!("asof-zones-{}", std::process::id()));
    let header = |of: [u32; 6]| {
        let counts = of.into_iter().flat_map(u32::to_be_bytes);
        [b"TZif2".as_slice(), &[0; 15], &counts.collect::<Vec<u8>>()].concat()
    };
    // One kind of local time, without an offset, called UTC: in 32 bits, in 64 bits, and for all times.
    let block = [header([0, 0, 0, 0, 1, 4]), vec![0, 0, 0, 0, 0, 0], b"UTC\0".to_vec()].concat();
    let zone = [block.as_slice(), &block, b"\nUTC0\n"].concat();
    for name in ["America/New_York", "Asia/Tokyo", "Mars/Olympus"] {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &zone).unwrap();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["zones::a_named_zone_is_the_built_in_one", "--exact"])
        .env("TZDIR", &folder)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
