//! The sample that the README converts.

use std::path::Path;
use std::process::Command;

use crate::support::rootfs::{manifest, read};
use crate::support::{btrsquash, have, run};

#[test]
fn the_sample_converts_dry_and_is_what_its_script_makes() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let sample = samples.join("tiny-initrd.gz");
    assert!(sample.metadata().unwrap().len() < 4096);
    let ours = read(&std::fs::read(&sample).unwrap()).unwrap();
    if have("cpio") {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made.gz");
        run(Command::new(samples.join("tiny-initrd.sh")).arg(&made));
        assert_eq!(manifest(&read(&std::fs::read(made).unwrap()).unwrap().tree), manifest(&ours.tree));
    }
    let mut command = btrsquash();
    command.arg("convert").arg(&sample).args(["--dry-run", "--full", "--front-end", "built-in"]);
    let text = String::from_utf8_lossy(&run(&mut command).stdout).into_owned();
    for words in
        ["what a conversion would do", "monolith", "Tiny 1", "6.1.0-tiny", "/init (script for /bin/sh)"]
    {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}
