//! What a CI job does with images: baselines, growth, and the recipe in samples/ci.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::images::json;
use crate::support::newc::{self, patterned};
use crate::support::{btrsquash, follows_schema, have, run};

/// Bytes that do not compress: a xorshift generator's.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A small system with dpkg's database and 20 MB in package `base`; `more` is a package with so many bytes.
fn system(path: &Path, more: Option<(&str, usize)>) {
    let mut status = "Package: base\nStatus: install ok installed\nVersion: 1.0\n".to_owned();
    let mut entries = vec![
        newc::file("init", "#!/bin/sh\nmount -t proc proc /proc\n").mode(0o100_755),
        newc::dir("usr"),
        newc::file("usr/base", noise(20_000_000, 1)),
        newc::file("usr/text", patterned(5000, 7)),
        newc::dir("lib"),
        newc::dir("lib/modules"),
        newc::dir("lib/modules/6.12.0"),
        newc::file(
            "lib/modules/6.12.0/modules.builtin",
            "kernel/loop.ko\nkernel/btrfs.ko\nkernel/squashfs.ko\nkernel/overlay.ko\nkernel/dm-snapshot.ko\n",
        ),
        newc::dir("var"),
        newc::dir("var/lib"),
        newc::dir("var/lib/dpkg"),
        newc::dir("var/lib/dpkg/info"),
        newc::file("var/lib/dpkg/info/base.list", "/.\n/usr\n/usr/base\n/usr/text\n"),
    ];
    for directory in ["bin", "etc", "proc", "sys", "dev"] {
        entries.push(newc::dir(directory));
    }
    if let Some((name, bytes)) = more {
        status += &format!("\nPackage: {name}\nStatus: install ok installed\nVersion: 3.0\n");
        entries.push(newc::file(format!("usr/{name}"), noise(bytes, 2)));
        entries
            .push(newc::file(format!("var/lib/dpkg/info/{name}.list"), format!("/.\n/usr\n/usr/{name}\n")));
    }
    entries.push(newc::file("var/lib/dpkg/status", status));
    entries.push(newc::trailer());
    std::fs::write(path, newc::archive(&entries)).unwrap();
}

fn inspect(image: &Path, more: &[&str]) -> Output {
    btrsquash().arg("inspect").arg(image).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn growth_beyond_both_limits_fails_and_names_the_package() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    system(&at("old"), None);
    system(&at("new"), Some(("big", 3_000_000)));
    system(&at("small"), Some(("little", 900_000)));
    let baseline = run(btrsquash().arg("inspect").arg(at("old")).arg("--json")).stdout;
    std::fs::write(at("base.json"), &baseline).unwrap();
    let base = at("base.json");
    let limits = |limit: &'static str, format: &'static str| {
        ["--baseline", base.to_str().unwrap(), "--max-growth", limit, "--format", format].map(str::to_owned)
    };
    let inspect = |image: &str, limit, format| {
        let arguments = limits(limit, format);
        inspect(&at(image), &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for format in ["text", "markdown", "junit", "github", "json"] {
        let output = inspect("new", "1%,1MB", format);
        assert_eq!(output.status.code(), Some(1), "{format}");
        let said = text(&output.stdout);
        assert!(said.contains("big"), "{format}: {said}");
        match format {
            "text" => {
                assert!(said.contains("✗ package big is new: 3.0 MB, more than 1% and 1.0 MB"), "{said}")
            }
            "github" => {
                assert!(said.contains("::error title=btrsquash%3A growth of package big::"), "{said}")
            }
            "junit" => assert!(said.contains("name=\"growth of package big\"><failure message="), "{said}"),
            "markdown" => assert!(
                said.contains("❌ package big is new") && said.contains("packages that grew: big +3.0 MB"),
                "{said}"
            ),
            _ => {
                let report: Value = serde_json::from_slice(&output.stdout).unwrap();
                follows_schema("inspection", &report);
                let growth = &report["growth"]["changes"];
                assert!(
                    growth.as_array().unwrap().iter().any(|c| c["name"] == "big" && c["exceeded"] == true)
                );
            }
        }
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("package big"), "{format}: {error}");
    }
    // Below either limit nothing fails: 900 kB are less than 1 MB, 3 MB are less than 20%.
    for (image, limit) in [("small", "1%,1MB"), ("new", "20%,1MB"), ("new", "1%,20MB"), ("old", "0%")] {
        let output = inspect(image, limit, "junit");
        assert_eq!(output.status.code(), Some(0), "{image} {limit}: {}", text(&output.stdout));
        assert!(text(&output.stdout).contains("failures=\"0\""));
    }
    // One limit alone decides.
    assert_eq!(inspect("small", "1%", "text").status.code(), Some(1));
    // diff has both sizes at hand.
    let diff =
        |more: &[&str]| btrsquash().arg("diff").arg(at("old")).arg(at("new")).args(more).output().unwrap();
    let output = diff(&["--max-growth", "1%,1MB"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("packages that grew: big +3.0 MB"));
    assert_eq!(diff(&["--max-growth", "20%,1MB"]).status.code(), Some(0));
    follows_schema(
        "difference",
        &json(&run(btrsquash().arg("diff").arg(at("old")).arg(at("old")).arg("--json"))),
    );
    // The same over time.
    std::fs::write(at("2.json"), run(btrsquash().arg("inspect").arg(at("new")).arg("--json")).stdout)
        .unwrap();
    let history = |more: &[&str]| {
        let mut command = btrsquash();
        command.arg("history").arg(at("base.json")).arg(at("2.json")).args(more);
        run(&mut command).stdout
    };
    assert!(text(&history(&[])).contains("big +3.0 MB"));
    follows_schema("history", &serde_json::from_slice(&history(&["--format", "json"])).unwrap());
    let csv = String::from_utf8(history(&["--format", "csv"])).unwrap();
    assert!(csv.lines().any(|line| line.contains(",image,2,")), "{csv}");
    // A file that is no report is refused before the image is read.
    std::fs::write(at("base.json"), "{}").unwrap();
    assert_eq!(inspect("new", "1%", "text").status.code(), Some(2));
}

#[test]
fn reports_of_conversions_name_the_package_that_grew() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    system(&at("old"), None);
    system(&at("new"), Some(("big", 3_000_000)));
    let convert = |name: &str, more: &[&str]| {
        let (image, file) = (at(&format!("{name}.img")), at(&format!("{name}.json")));
        let mut command = btrsquash();
        command.arg("convert").arg(at(name)).args(["--front-end", "built-in", "--compression", "gzip"]);
        command.args(more).args(["--force", "--json", "-o"]).arg(&image);
        let output = run(&mut command).stdout;
        std::fs::write(&file, &output).unwrap();
        let report: Value = serde_json::from_slice(&output).unwrap();
        follows_schema("conversion", &report);
        (image, file, report)
    };
    // The squashfs in a file of its own holds the same.
    let (_, _, separate) = convert("new", &["--runtime-from", "http://10.0.0.1/new.squashfs.img"]);
    let (old_image, old, _) = convert("old", &[]);
    let (new_image, new, report) = convert("new", &[]);
    assert_eq!(separate["packages"], report["packages"]);
    assert_eq!(separate["package_totals"], report["package_totals"]);
    let names: Vec<&str> =
        report["packages"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["base", "big"]);
    let full = run(btrsquash().arg("report").arg(&new).args(["--html"]).arg(at("page.html"))).stdout;
    let line = "2 packages 23.0 MB, files of no package";
    assert!(text(&full).contains(line), "{}", text(&full));
    assert!(std::fs::read_to_string(at("page.html")).unwrap().contains(">big</td>"));
    let history = run(btrsquash().arg("history").arg(&old).arg(&new)).stdout;
    assert!(text(&history).contains("big +3.0 MB"), "{}", text(&history));
    // The report of a conversion and that of its image agree on every part and package.
    let since = |image: &Path, limit| {
        inspect(image, &["--baseline", old.to_str().unwrap(), "--max-growth", limit, "--full"])
    };
    let same = since(&old_image, "0%");
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));
    let grown = since(&new_image, "1%,1MB");
    assert_eq!(grown.status.code(), Some(1));
    assert!(text(&grown.stderr).contains("package big is new: 3.0 MB"), "{}", text(&grown.stderr));
    // What has no sizes of a new image is no baseline.
    let mut dry = btrsquash();
    dry.arg("convert").arg(at("new")).args(["--front-end", "built-in", "--dry-run", "--json"]);
    for (report, why) in [
        (run(&mut dry).stdout, "a dry run writes no image"),
        (
            run(btrsquash().arg("diff").arg(&old_image).arg(&old_image).arg("--json")).stdout,
            "it is neither of inspect nor of convert",
        ),
    ] {
        std::fs::write(at("none.json"), report).unwrap();
        let refused = inspect(&new_image, &["--baseline", at("none.json").to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused.stderr).contains(&format!("is not a report with sizes: {why}")));
    }
    // An image without a database says why there is no package.
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/tiny-initrd.gz");
    std::fs::copy(tiny, at("tiny")).unwrap();
    let (image, _, report) = convert("tiny", &[]);
    assert_eq!(report["packages"].as_array().unwrap().len(), 0);
    let why = "no package database found: not of dpkg, opkg, apk or rpm";
    assert!(report["package_totals"]["notes"].to_string().contains(why), "{}", report["package_totals"]);
    assert!(text(&inspect(&image, &["--full"]).stdout).contains(why));
    // A map says which package its files are of.
    let files = serde_json::json!([{
        "name": "tiny", "version": "1", "architecture": null, "files": ["etc/hostname", "usr/share/doc/tiny/numbers"],
    }]);
    let map = serde_json::json!({ "schema_version": 1, "packages": files }).to_string();
    std::fs::write(at("map.json"), map).unwrap();
    let (_, _, report) = convert("tiny", &["--package-map", at("map.json").to_str().unwrap()]);
    let row = &report["packages"][0];
    assert!(row["name"] == "tiny" && row["bytes"] == 5 + 692, "{row}");
}

/// The recipe with the built program, as a job would run it.
fn check_image(directory: &Path, image: &Path, baseline: Option<&Path>) -> Output {
    let recipe = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("samples/ci/check-image");
    let program = Path::new(env!("CARGO_BIN_EXE_btrsquash")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(recipe);
    command.arg(image).args(["--front-end", "built-in", "--compression", "lz4"]).current_dir(directory);
    command.env("PATH", path).env("OUT", "out").env("MAX_GROWTH", "1%,1MB").env("GITHUB_ACTIONS", "true");
    command.env("GITHUB_STEP_SUMMARY", directory.join("summary.md"));
    command.env_remove("BASELINE");
    if let Some(baseline) = baseline {
        command.env("BASELINE", baseline);
    }
    command.output().unwrap()
}

#[test]
fn the_recipe_makes_a_baseline_and_fails_when_an_image_grows() {
    if !have("sh") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    system(&at("old"), None);
    system(&at("new"), Some(("big", 3_000_000)));
    let first = check_image(dir.path(), &at("old"), Some(&at("missing.json")));
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    std::fs::rename(at("out/sizes.json"), at("base.json")).unwrap();
    let second = check_image(dir.path(), &at("new"), Some(&at("base.json")));
    let said = text(&second.stdout);
    assert_eq!(second.status.code(), Some(1), "{said}{}", text(&second.stderr));
    assert!(said.contains("::error title=btrsquash%3A growth of package big::"), "{said}");
    assert!(!at("out/sizes.json").exists());
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    let comment = read("out/comment.md");
    assert!(comment.contains("packages that grew: big") && comment.lines().count() <= 30, "{comment}");
    assert_eq!(read("summary.md").matches("### ").count(), 2);
    assert!(read("out/junit.xml").contains("growth of package big"));
    assert!(read("out/report.html").contains("package big"));
    let again = check_image(dir.path(), &at("old"), Some(&at("base.json")));
    assert_eq!(again.status.code(), Some(0));
    assert!(at("out/sizes.json").exists());
    // The YAML around it calls the recipe by its name and options.
    for file in ["github.yml", "gitlab.yml"] {
        let text =
            std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("samples/ci").join(file))
                .unwrap();
        assert!(text.contains("ci/check-image build/initrd.gz --modules"), "{file}");
        assert!(text.contains("MAX_GROWTH: 2%,1MB") && !text.contains('\t'), "{file}");
    }
}
