//! What convert writes, where, and what it refuses before the work: on an image that takes no time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{btrsquash, follows_schema, run, sh};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/tiny-initrd.gz")
}

/// `convert tiny-initrd.gz ARGUMENTS…` with the built-in front-end, in `dir`.
fn convert(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = btrsquash();
    command.current_dir(dir).arg("convert").arg(tiny()).args(["--compression", "gzip"]).args(arguments);
    if !arguments.contains(&"--front-end") {
        command.args(["--front-end", "built-in"]);
    }
    command
}

/// The exit code, and what is said on stderr.
fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn listed(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn two_outputs_under_one_name_are_refused_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["-o", "a.html", "--html", "./a.html"][..],
        &["-o", "a.img", "--report", "r.json", "--report", "r.json"],
        &["-o", "a.img", "--layout", "split", "--report", "a.boot.txt"],
    ] {
        let (code, error) = said(convert(dir.path(), arguments).arg("--force"));
        assert!(code == Some(2) && error.contains("is named twice"), "{error}");
    }
    // What is derived from NEW may not be OLD either.
    std::fs::copy(tiny(), dir.path().join("b.squashfs.img")).unwrap();
    let (code, error) = said(btrsquash().current_dir(dir.path()).args([
        "convert",
        "b.squashfs.img",
        "-o",
        "b.img",
        "--layout",
        "split",
        "--force",
    ]));
    assert!(code == Some(2) && error.contains("is also the input b.squashfs.img"), "{error}");
    let (code, error) = said(&mut convert(dir.path(), &["-o", "/dev/null", "--force"]));
    assert!(code == Some(2) && error.contains("not a regular file"), "{error}");
    assert_eq!(listed(dir.path()), ["b.squashfs.img"]);
}

#[test]
fn what_cannot_be_done_is_said_before_the_work_and_in_a_dry_run() {
    let dir = tempfile::tempdir().unwrap();
    let out = ["-o", "a.img", "--dry-run"];
    for (arguments, words) in [
        (&["--runtime-from", "https://x/y"][..], "cannot fetch"),
        (&["--front-end", "fe.gz", "--runtime-from", "retained"], "only the built-in front-end"),
        (&["--front-end", "fe.gz", "--drivers", "loop"], "no drivers are added"),
        (&["--runtime-from", "media:LABEL=a\"b"], "cannot be written on a command line"),
        (&["--max-size", "1"], "cannot be used with"),
    ] {
        std::fs::copy(tiny(), dir.path().join("fe.gz")).unwrap();
        let (code, error) = said(convert(dir.path(), arguments).args(out));
        assert!(code == Some(2) && error.contains(words), "{arguments:?}: {error}");
    }
    std::fs::write(dir.path().join("a.img"), "mine").unwrap();
    let (code, error) = said(convert(dir.path(), &[]).args(out));
    assert!(code == Some(2) && error.contains("already exists"), "{error}");
    assert_eq!(listed(dir.path()), ["a.img", "fe.gz"]);
}

#[test]
fn a_ready_made_front_end_is_taken_and_told_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // Two archives, of which the second is xz: what it is packed with is read off it.
    sh(
        dir.path(),
        r#"cp "$1" fe.img; printf '#!/bin/sh\n' >other; echo other | cpio --quiet -o -H newc | xz --check=crc32 >>fe.img"#,
        &[&tiny()],
    );
    run(&mut convert(dir.path(), &["--front-end", "fe.img", "-o", "a.img", "-q", "--report", "a.json"]));
    let report = json(&dir.path().join("a.json"));
    let front_end = &report["front_end"];
    assert_eq!(
        (front_end["encoding"].as_str(), front_end["kernels"][0].as_object()),
        (Some("gzip, xz"), None)
    );
    assert!(front_end["unpacked"].as_u64().unwrap() > front_end["compressed"].as_u64().unwrap());
    assert!(!report["choices"].to_string().contains("compression of the boot initramfs"));
    assert!(report["notes"].to_string().contains("no dmsquash-live was found in"), "{}", report["notes"]);
    let bytes = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    assert!(bytes("a.img").ends_with(&bytes("fe.img")));
    sh(dir.path(), "echo x >x; echo x | cpio --quiet -o -H newc >none.img", &[]);
    let (code, error) = said(&mut convert(dir.path(), &["--front-end", "none.img", "-o", "b.img"]));
    assert!(code == Some(3) && error.contains("has no /init"), "{error}");
}

#[test]
fn a_closed_pipe_does_not_hide_the_result() {
    let dir = tempfile::tempdir().unwrap();
    run(&mut convert(dir.path(), &["-o", "a.img", "-q"]));
    sh(
        dir.path(),
        r#"mkdir t; cd t; gzip -dc "$1" | cpio -idm --quiet; echo more >init; find . | cpio --quiet -o -H newc >../other"#,
        &[&tiny()],
    );
    // A reader that is gone before the first word.
    let closed = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        btrsquash()
            .current_dir(dir.path())
            .args(arguments)
            .stdout(Stdio::from(writer))
            .status()
            .unwrap()
            .code()
    };
    assert_eq!(closed(&["inspect", "a.img"]), Some(0));
    assert_eq!(closed(&["inspect", "a.img", "--max-size", "1"]), Some(1));
    assert_eq!(closed(&["verify", "other", "a.img"]), Some(1));
    assert_eq!(closed(&["diff", "--exit-code", "other", "a.img"]), Some(1));
    // A full disk is no damaged input.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = btrsquash();
    command.current_dir(dir.path()).args(["inspect", "a.img"]).stdout(full);
    assert_eq!(command.status().unwrap().code(), Some(5));
}

#[test]
fn the_name_of_the_new_image_keeps_what_is_no_ending() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["initrd.img-6.1.0-50-amd64", "initrd.gz"] {
        std::fs::copy(tiny(), dir.path().join(name)).unwrap();
        run(btrsquash().current_dir(dir.path()).args(["convert", name, "-q", "--front-end", "built-in"]));
    }
    let names = listed(dir.path());
    assert!(names.contains(&"initrd.img-6.1.0-50-amd64.btrsquash.img".into()), "{names:?}");
    assert!(names.contains(&"initrd.btrsquash.img".into()), "{names:?}");
}

#[test]
fn two_parts_need_the_memory_of_one() {
    let dir = tempfile::tempdir().unwrap();
    // Large enough for the runtime to count.
    sh(
        dir.path(),
        r#"head -c 20000000 /dev/urandom >data; (echo data | cpio --quiet -o -H newc; cat "$1") >old"#,
        &[&tiny()],
    );
    let least = |value: &serde_json::Value| value["minimum"]["value"].as_u64().unwrap();
    let mut told = Vec::new();
    for layout in ["combined", "split"] {
        let (image, report) = (format!("{layout}.img"), format!("{layout}.json"));
        run(btrsquash().current_dir(dir.path()).args([
            "convert",
            "old",
            "--front-end",
            "built-in",
            "-q",
            "--layout",
            layout,
            "-o",
            &image,
            "--report",
            &report,
        ]));
        let said = least(&json(&dir.path().join(&report))["ram_after"]);
        let output = run(btrsquash().current_dir(dir.path()).args(["inspect", &image, "--json"]));
        let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        told.push(least(&seen["ram"]));
        // inspect does not know the kernel, and a typical one may take a little more.
        assert!(told[told.len() - 1].abs_diff(said) <= 1 << 20, "{layout}: {said} {told:?}");
    }
    sh(
        dir.path(),
        "cp split.img both.img; truncate -s %4 both.img; mv split.squashfs.img squashfs.img
         echo squashfs.img | cpio --quiet -o -H newc >>both.img",
        &[],
    );
    let output = run(btrsquash().current_dir(dir.path()).args(["inspect", "both.img", "--json"]));
    told.push(least(&serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["ram"]));
    assert!(told[0] > 100 << 20 && told.iter().all(|&bytes| bytes.abs_diff(told[0]) <= 1 << 20), "{told:?}");
}

#[test]
fn what_is_no_file_is_no_image() {
    for (path, words) in [
        ("/dev/zero", "expected a regular file"),
        ("/", "is a directory"),
        ("/dev/stdin", "expected a regular file"),
    ] {
        for command in ["inspect", "convert"] {
            let (code, error) = said(btrsquash().args([command, path]).stdin(Stdio::null()));
            assert!(code == Some(3) && error.contains(words), "{error}");
        }
    }
}

#[test]
fn an_image_goes_to_standard_output_on_request() {
    let dir = tempfile::tempdir().unwrap();
    run(&mut convert(dir.path(), &["-o", "a.img", "-q"]));
    let whole = std::fs::read(dir.path().join("a.img")).unwrap();
    std::os::unix::fs::symlink("/dev/stdout", dir.path().join("link")).unwrap();
    for (number, name) in ["-", "/dev/stdout", "/proc/self/fd/1", "link"].into_iter().enumerate() {
        let file = dir.path().join(format!("{number}"));
        let mut command = convert(dir.path(), &["-o", name, "--force"]);
        let output = command.stdout(std::fs::File::create(&file).unwrap()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(std::fs::read(&file).unwrap() == whole, "{name}");
        // The report is for people then, on stderr.
        assert!(String::from_utf8_lossy(&output.stderr).contains("minimum RAM"), "{output:?}");
    }
    assert!(dir.path().join("link").symlink_metadata().unwrap().is_symlink());
    std::os::unix::fs::symlink("/dev/null", dir.path().join("null")).unwrap();
    std::os::unix::fs::symlink("/proc/self/environ", dir.path().join("proc")).unwrap();
    for name in ["null", "proc"] {
        let (code, error) = said(&mut convert(dir.path(), &["-o", name, "--force"]));
        assert_eq!(code, Some(2), "{error}");
        assert!(dir.path().join(name).symlink_metadata().unwrap().is_symlink());
    }
}

#[test]
fn the_input_is_never_an_output() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::copy(tiny(), at("old.gz")).unwrap();
    std::fs::hard_link(at("old.gz"), at("hard.gz")).unwrap();
    std::os::unix::fs::symlink("old.gz", at("soft.gz")).unwrap();
    for name in ["old.gz", "hard.gz", "soft.gz", "./old.gz"] {
        for more in [&["-o", name][..], &["-o", "new.img", "--html", name]] {
            let mut command = btrsquash();
            command.current_dir(dir.path()).args(["convert", "old.gz", "--front-end", "built-in", "--force"]);
            let (code, error) = said(command.args(more));
            assert!(code == Some(2) && error.contains("is also the input"), "{more:?}: {error}");
        }
        let mut command = btrsquash();
        command.current_dir(dir.path()).args(["diff", "old.gz", "old.gz", "--force", "--html", name]);
        assert_eq!(said(&mut command).0, Some(2));
    }
    assert_eq!(std::fs::read(at("old.gz")).unwrap(), std::fs::read(tiny()).unwrap());
    assert_eq!(listed(dir.path()), ["hard.gz", "old.gz", "soft.gz"]);
}

#[test]
fn a_report_that_fails_leaves_no_image() {
    let dir = tempfile::tempdir().unwrap();
    for more in [&["--layout", "combined"][..], &["--layout", "split"]] {
        let arguments = [&["-o", "a.img", "--report", "a.txt"], more].concat();
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = convert(dir.path(), &arguments);
        assert_eq!(command.stdout(full).status().unwrap().code(), Some(5));
        assert!(listed(dir.path()).is_empty(), "{:?}", listed(dir.path()));
    }
}

#[test]
fn an_image_is_no_more_readable_than_its_input() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::copy(tiny(), at("old.gz")).unwrap();
    std::fs::set_permissions(at("old.gz"), PermissionsExt::from_mode(0o600)).unwrap();
    let mut command = btrsquash();
    command.current_dir(dir.path()).args([
        "convert",
        "old.gz",
        "--front-end",
        "built-in",
        "-q",
        "-o",
        "new.img",
    ]);
    run(command.args(["--layout", "split", "--html", "new.html"]));
    for name in ["new.img", "new.squashfs.img", "new.boot.txt", "new.html"] {
        assert_eq!(at(name).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_byte_that_changed_on_disk_is_found_and_no_output_appears() {
    let dir = tempfile::tempdir().unwrap();
    let convert = |layout: &str| {
        let mut command = btrsquash();
        command.arg("convert").arg(tiny()).args([
            "--front-end",
            "built-in",
            "--quiet",
            "--layout",
            layout,
            "-o",
        ]);
        command.arg(dir.path().join("new.img"));
        command
    };
    run(&mut convert("combined"));
    let image = std::fs::read(dir.path().join("new.img")).unwrap();
    std::fs::remove_file(dir.path().join("new.img")).unwrap();
    let start = image.windows(4).position(|bytes| bytes == b"hsqs").unwrap();
    // In the squashfs's superblock, in its first block, in the boot initramfs.
    for at in [start + 1, start + 200, image.len() - 2000] {
        let output = convert("combined").env("BTRSQUASH_TEST_FLIP", at.to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{at}: {said}");
        assert!(said.contains("new.img: what was written is not what can be read back"), "{said}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{at}: {said}");
    }
    // Without the check the damaged image appears.
    let mut command = convert("combined");
    run(command.arg("--no-verify-write").env("BTRSQUASH_TEST_FLIP", (start + 200).to_string()));
    assert!(std::fs::read(dir.path().join("new.img")).unwrap() != image, "no byte was changed");
    std::fs::remove_file(dir.path().join("new.img")).unwrap();
    // --verify reads all of it, too.
    let mut command = convert("combined");
    command.args(["--no-verify-write", "--verify"]).env("BTRSQUASH_TEST_FLIP", (start + 200).to_string());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn convert_verifies_before_the_image_appears() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new.img");
    let convert = |arguments: &[&str]| {
        let mut command = btrsquash();
        command.arg("convert").arg(tiny()).args(["--front-end", "built-in", "--verify"]).args(arguments);
        command.arg("-o").arg(&new).output().unwrap()
    };
    let output = convert(&["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let verified = btrsquash().arg("verify").arg(tiny()).arg(&new).arg("--json").output().unwrap();
    let verified: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert!(verified["compared"].as_u64() > Some(10), "{verified:#}");
    assert_eq!(report["verified"]["paths"], verified["compared"]);
    follows_schema("conversion", &report);
    let output = convert(&["--force"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().last().unwrap_or_default();
    assert!(line.contains(" paths, ") && line.ends_with(" compared"), "{said}");
    let output = convert(&["--force", "--layout", "split"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn each_image_is_converted_for_itself_into_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(path("sub")).unwrap();
    std::fs::create_dir(path("out")).unwrap();
    for name in ["a.gz", "b.img", "sub/a.gz"] {
        std::fs::copy(tiny(), path(name)).unwrap();
    }
    std::fs::write(path("bad.img"), "no image").unwrap();
    let each = |arguments: &[&str]| {
        let mut command = btrsquash();
        command.current_dir(dir.path()).args(["convert", "--front-end", "built-in", "--compression", "gzip"]);
        command.args(arguments);
        command
    };
    // Without --each they are the parts of one image, which a directory cannot be.
    let (code, error) = said(&mut each(&["a.gz", "b.img", "-o", "out"]));
    assert!(code == Some(2) && error.contains("--each"), "{error}");
    let (code, error) = said(&mut each(&["--each", "a.gz", "b.img", "-o", "nowhere"]));
    assert!(code == Some(2) && error.contains("existing directory"), "{error}");
    let (code, error) = said(&mut each(&["--each", "a.gz", "sub/a.gz", "-o", "out"]));
    assert!(code == Some(2) && error.contains("is named twice"), "{error}");
    assert!(listed(&path("out")).is_empty());

    let arguments = ["--each", "a.gz", "bad.img", "b.img", "-o", "out", "--report", "all.json"];
    let output = each(&arguments).args(["--report", "all.csv", "--html", "all.html"]).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("error: bad.img") && errors.contains("wrote out/b.btrsquash.img"), "{errors}");
    assert!(text.starts_with("3 images, 1 failed\n✗ bad.img, segment 1"), "{text}");
    assert_eq!(listed(&path("out")), ["a.btrsquash.img", "b.btrsquash.img"]);
    let all = json(&path("all.json"));
    follows_schema("matrix", &all);
    let codes: Vec<u64> =
        all["images"].as_array().unwrap().iter().map(|row| row["exit_code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [0, 3, 0]);
    let sum = sh(dir.path(), "sha256sum out/b.btrsquash.img", &[]);
    assert!(sum.starts_with(all["images"][2]["sha256"].as_str().unwrap()), "{sum}");
    let csv = std::fs::read_to_string(path("all.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4, "{csv}");
    assert!(std::fs::read_to_string(path("all.html")).unwrap().contains("1 of 3 checks failed"));
    // Each is what a conversion alone makes.
    run(&mut each(&["a.gz", "-o", "alone.img"]));
    assert!(std::fs::read(path("alone.img")).unwrap() == std::fs::read(path("out/a.btrsquash.img")).unwrap());
    // A budget that one exceeds is that image's result.
    let (code, error) = said(&mut each(&["--each", "a.gz", "-o", "out", "--force", "--max-size", "1k"]));
    assert_eq!(code, Some(1), "{error}");
}

#[test]
fn several_images_are_shown_in_one_table() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.img"), "no image").unwrap();
    let inspect = |more: &[&str]| {
        let mut command = btrsquash();
        command.current_dir(dir.path()).arg("inspect").arg(tiny()).args(["bad.img"]).args(more);
        command.output().unwrap()
    };
    let output = inspect(&["--json", "--html", "all.html"]);
    assert_eq!(output.status.code(), Some(3));
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    follows_schema("matrix", &all);
    assert!(all["images"][0]["ram"]["value"].as_u64().unwrap() > 0, "{all}");
    assert!(all["images"][1]["message"].as_str().unwrap().contains("bad.img"), "{all}");
    assert!(dir.path().join("all.html").exists());
    let output = inspect(&["--format", "junit", "--max-size", "1k"]);
    // A limit that is exceeded is a failure, too, and the highest exit code is that of the command.
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("failures=\"2\"") && text.contains("exceeds the limit"), "{text}");
    assert_eq!(inspect(&["--baseline", "x.json"]).status.code(), Some(2));
}

#[test]
fn measured_figures_are_added_to_a_saved_report() {
    let dir = tempfile::tempdir().unwrap();
    run(convert(dir.path(), &["-o", "new.img", "--report", "r.json", "--max-ram", "4G"]).arg("--quiet"));
    let minimum = |file: &str, image: &str, mib: u64| {
        let try_ = |mib: u64, booted: bool| serde_json::json!({"ram_mib": mib, "booted": booted, "why": "", "milliseconds": 1});
        let report = serde_json::json!({
            "schema_version": 2, "tool": {"name": "btrsquash", "version": "0.2.0"}, "image": image,
            "kernel": "linux", "accelerator": "tcg", "from_mib": 16, "to_mib": 8192, "step_mib": 16,
            "minimum": {"value": mib << 20, "unit": "bytes", "origin": "measured"}, "why_less_fails": "",
            "computed": null, "tries": [try_(mib - 16, false), try_(mib, true)], "notes": [],
        });
        std::fs::write(dir.path().join(file), report.to_string()).unwrap();
    };
    let report = |arguments: &[&str]| {
        let mut command = btrsquash();
        command.current_dir(dir.path()).arg("report").args(arguments).output().unwrap()
    };
    minimum("min.json", "/elsewhere/new.img", 96);
    // In any order: the report of the image is the one that is shown.
    let output = report(&["min.json", "r.json", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let merged: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    follows_schema("conversion", &merged);
    assert_eq!(merged["ram_after"]["measured"]["value"], 96 << 20);
    assert_eq!(merged["ram_before"]["measured"], serde_json::Value::Null);
    assert_eq!(
        (&merged["budgets"][0]["actual"], &merged["budgets"][0]["kept"]),
        (&(96 << 20).into(), &true.into())
    );
    // The limit that the conversion was judged by holds for the measured figure.
    minimum("large.json", "new.img", 5000);
    let output = report(&["r.json", "large.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("5000 MiB exceeds the limit of 4096 MiB"));
    // Of which image figures are is never guessed.
    minimum("other.json", "other.img", 96);
    let output = report(&["r.json", "other.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--measured old=FILE"));
    let output = report(&["r.json", "--measured", "old=other.json", "--format", "json"]);
    let merged: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(merged["ram_before"]["measured"]["value"], 96 << 20);
    assert_eq!(report(&["r.json", "r.json"]).status.code(), Some(2));
}
