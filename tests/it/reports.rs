//! What every command prints: JSON by its schema, and text that does not act on a terminal.

use std::fs::{self};
use std::process::Output;

use crate::support::images::*;
use crate::support::{btrsquash, follows_schema, installer, kernel_package, run};

#[test]
fn errors_do_not_act_on_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("evil\u{1b}[2J\u{202e}\u{9b}.img");
    fs::write(&image, "no image").unwrap();
    let output = btrsquash().arg("inspect").arg(&image).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("evil\\u{1b}[2J\\u{202e}\\u{9b}.img"), "{text:?}");
    // The hint stands on a line of its own.
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines[1].starts_with("  Linux stops here"), "{text:?}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

#[test]
fn every_json_output_follows_its_schema() {
    let (Some((old, _)), Some(package)) = (installer("text"), kernel_package()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new.img");
    // The reports of `boot` are checked in all tests that boot.
    let check = |schema: &str, output: &Output| follows_schema(schema, &json(output));
    let convert = || {
        let mut command = btrsquash();
        command.arg("convert").arg(&old).arg("--modules").arg(&package).args(["--front-end", "built-in"]);
        command.args(["--compression", "lz4", "--json", "-o"]).arg(&new);
        command
    };
    check("conversion", &run(convert().arg("--dry-run")));
    assert!(!new.exists());
    check("conversion", &run(&mut convert()));
    check("inspection", &run(btrsquash().arg("inspect").arg(&old).arg("--json")));
    check("inspection", &run(btrsquash().arg("inspect").arg(&new).args(["--json", "--max-ram", "4G"])));
    check("difference", &run(btrsquash().arg("diff").arg(&old).arg(&new).args(["--json", "--text"])));
    check("verification", &run(btrsquash().arg("verify").arg(&old).arg(&new).arg("--json")));
    let output =
        btrsquash().arg("verify").arg(netboot("i386").unwrap()).arg(&new).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    check("verification", &output);
    // Swapped arguments are refused, and the error is JSON, too.
    let output = btrsquash().arg("verify").arg(&new).arg(&old).arg("--json").output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    follows_schema("error", &error);
    assert_eq!((&error["exit_code"], &error["kind"]), (&2.into(), &"usage".into()));
    assert!(error["hint"].as_str().unwrap().contains("the original first"), "{error}");
    for name in ["boot", "conversion", "difference", "error", "inspection", "packages"] {
        let printed = run(btrsquash().args(["schema", name])).stdout;
        let schema: serde_json::Value = serde_json::from_slice(&printed).unwrap();
        assert!(schema["$id"].as_str().unwrap().contains(name), "{schema}");
    }
}
