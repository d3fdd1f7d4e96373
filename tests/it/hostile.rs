//! Hostile input: the rows of tests/hostile that are quick to make.

use std::path::Path;
use std::process::Command;

use crate::support::have;

#[test]
fn hostile_input_is_bounded_and_leaves_nothing() {
    let tools = ["python3", "time", "mksquashfs", "mkfs.btrfs", "genisoimage"];
    if !tools.into_iter().all(have) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let rows = "bomb: gzip in|deb|names of|symlink to|header fields|directory with|every report|boundary|squashfs whose|each 32|\
                cut at|chunk tree|ISO|UKI|JSON|FIFO|output";
    let output = Command::new(script)
        .args(["--quick", "--only", rows])
        .env("BTRSQUASH", env!("CARGO_BIN_EXE_btrsquash"))
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(table.lines().filter(|line| line.starts_with("| ")).count() > 15, "{table}");
}
