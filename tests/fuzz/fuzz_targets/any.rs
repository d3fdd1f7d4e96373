//! The parser that BTRSQUASH_FUZZ names, under libFuzzer.
#![no_main]

use std::sync::OnceLock;

// The seeds are for the tests.
#[allow(dead_code)]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static RUN: OnceLock<fn(&[u8]) -> bool> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let name = std::env::var("BTRSQUASH_FUZZ").expect("BTRSQUASH_FUZZ names a target of targets.rs");
        targets::TARGETS.iter().find(|target| target.name == name).expect("a target of that name").run
    });
    run(bytes);
});
