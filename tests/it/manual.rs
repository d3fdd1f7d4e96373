//! The manual pages and shell completions, as the programs that read them see them.

use std::process::Command;

use crate::support::{btrsquash, have, run};

#[test]
fn the_manual_pages_have_nothing_that_mandoc_complains_about() {
    if !have("mandoc") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run(btrsquash().args(["man", "--out"]).arg(dir.path()));
    let pages: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 10, "{pages:?}");
    let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).args(&pages).output().unwrap();
    assert!(lint.status.success() && lint.stdout.is_empty(), "{}", String::from_utf8_lossy(&lint.stdout));
}

#[test]
fn shells_load_the_completions() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        if !have(shell) {
            continue;
        }
        let file = dir.path().join(shell);
        std::fs::write(&file, run(btrsquash().args(["completions", shell])).stdout).unwrap();
        run(Command::new(shell).arg("-n").arg(&file));
    }
    // What bash offers behind an option.
    let offered = |option: &str, begun: &str| {
        let script = format!(
            ". {}; COMP_WORDS=(btrsquash convert {option} '{begun}'); COMP_CWORD=3; \
             _btrsquash btrsquash '{begun}' {option}; echo ${{COMPREPLY[@]}}",
            dir.path().join("bash").display()
        );
        let output = run(Command::new("bash").args(["--norc", "-c", &script]));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(offered("--front-end", ""), "auto dracut built-in");
    assert_eq!(offered("--runtime-from", "media"), "media:LABEL= media:UUID=");
}
