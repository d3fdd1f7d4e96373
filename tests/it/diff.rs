//! `diff` against diff(1), find(1) and stat(1).

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::images::*;
use crate::support::{asset, btrsquash, follows_schema, have, installer, root, run, sh};

/// Counts by diff(1), find(1) and stat(1): added, removed, changed in anything but times and link counts. Types and
/// devices are stat's: diff says of any two device nodes that they differ.
const COUNT: &str = r#"
for side in a b; do
    mkdir $side; (cd $side; zcat "$2" | cpio -idm --quiet --no-absolute-filenames)
    (cd $side; find . -mindepth 1 | LC_ALL=C sort) >$side.paths
    (cd $side; find . -mindepth 1 -print0 | xargs -0 stat -c '%n|%f|%u|%g|%t:%T' | LC_ALL=C sort) >$side.stat
    shift
done
LC_ALL=C comm -13 a.paths b.paths | wc -l
LC_ALL=C comm -23 a.paths b.paths | wc -l
{
    LC_ALL=C diff -rq --no-dereference a b | sed -nE \
        's,^Files a/(.*) and b/.* differ$,./\1,p; s,^Symbolic links a/(.*) and b/.* differ$,./\1,p' || true
    LC_ALL=C comm -12 a.paths b.paths >both
    for side in a b; do awk -F'|' 'NR == FNR { both[$0]; next } $1 in both' both $side.stat >$side.both; done
    diff a.both b.both | sed -nE 's/^[<>] ([^|]*)\|.*/\1/p' || true
} | LC_ALL=C sort -u | wc -l
"#;

#[test]
fn diff_counts_what_diff_and_stat_count() {
    if !root() || !have("cpio") {
        return;
    }
    let (Some((text, _)), Some((gtk, _))) = (installer("text"), installer("gtk")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let counted =
        sh(dir.path(), &format!("set +o pipefail; {COUNT}"), &[&dir.path().join("unused"), &text, &gtk]);
    let counted: Vec<u64> = counted.lines().map(number).collect();
    let report = json(&run(btrsquash().arg("diff").arg(&text).arg(&gtk).args(["--json", "--no-fold"])));
    let counts = &report["counts"];
    let ours: Vec<u64> =
        ["added", "removed", "changed"].iter().map(|name| counts[name].as_u64().unwrap()).collect();
    assert_eq!(ours, counted);
    assert_eq!(report["added"].as_array().unwrap().len() as u64, ours[0]);
    // The other way round everything is the other way round.
    let back = json(&run(btrsquash().arg("diff").arg(&gtk).arg(&text).args(["--json", "--no-fold"])));
    assert_eq!(
        (&back["counts"]["added"], &back["counts"]["removed"]),
        (&counts["removed"], &counts["added"])
    );
    assert_eq!(back["counts"]["changed"], counts["changed"]);
}

#[test]
fn diff_shows_text_moves_and_its_exit_code() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = small(dir.path());
    sh(
        dir.path(),
        r"cd tree; sed -i s/two/2/ etc/text; ln -f etc/text etc/linked; mv usr/share/noise usr/noise; rm usr/share/again
        find . | sort | cpio -o -H newc --quiet -R 0:0 | gzip -n >../new.img",
        &[],
    );
    let new = dir.path().join("new.img");
    let diff = |more: &[&str]| btrsquash().arg("diff").arg(&old).arg(&new).args(more).output().unwrap();
    let output = diff(&["--text", "--exit-code", "--full"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty());
    assert!(text.contains("-two") && text.contains("+2"), "{text}");
    assert_eq!(diff(&[]).status.code(), Some(0));
    let report = json(&diff(&["--json"]));
    assert_eq!(report["moved"][0]["from"], "usr/share/noise");
    assert_eq!(report["moved"][0]["to"], "usr/noise");
    assert_eq!(report["texts"].as_array().unwrap().len(), 0);
    let same = btrsquash().arg("diff").arg(&old).arg(&old).arg("--exit-code").output().unwrap();
    assert_eq!(same.status.code(), Some(0));
    let over = diff(&["--max-size", "1K"]);
    assert_eq!(over.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&over.stderr).contains("exceeds the limit of 1.0 kB"));
    // A page is written only where nothing stands.
    let page = dir.path().join("page.html");
    let written = |more: &[&str]| {
        let mut command: Command = btrsquash();
        command
            .arg("diff")
            .arg(&old)
            .arg(&new)
            .arg("--html")
            .arg(&page)
            .args(more)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!((written(&[]), written(&[]), written(&["--force"])), (Some(0), Some(2), Some(0)));
}

/// Name and version of each package of a status file.
fn versions(image: &Path) -> std::collections::BTreeMap<String, String> {
    let status = run(btrsquash().arg("cat").arg(image).arg("var/lib/dpkg/status")).stdout;
    let status = String::from_utf8(status).unwrap();
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let paragraphs = status.split("\n\n").filter(|paragraph| paragraph.contains("Package: "));
    paragraphs.map(|paragraph| (field(paragraph, "Package:"), field(paragraph, "Version:"))).collect()
}

/// How many paths are added and removed when a merged /usr, the kernel's release in paths and the compression of modules
/// count for nothing: by cpio(1), sed(1) and comm(1).
const RENAMED: &str = r#"export LC_ALL=C
keys() {
    zcat "$1" | cpio -it --quiet | sed -E 's,^\./,,; s,^(bin|sbin|lib|lib32|lib64|libx32)(/|$),usr/\1\2,
        s,6\.1\.0-50-amd64|6\.12\.[0-9]+\+deb13-amd64,#,; s,\.ko\.(xz|zst|gz)$,.ko,' | sort
}
keys "$1" >a; keys "$2" >b; comm -13 a b | wc -l; comm -23 a b | wc -l
"#;

#[test]
fn a_release_is_shown_by_packages_and_not_by_renamed_paths() {
    let new = "d13/usr/lib/debian-installer/images/13/amd64/gtk/debian-installer/amd64/initrd.gz";
    let (Some((old, _)), Some(new)) = (installer("gtk"), asset(new)) else { return };
    let diff = |more: &[&str]| {
        let report = json(&run(btrsquash().arg("diff").arg(&old).arg(&new).arg("--json").args(more)));
        follows_schema("difference", &report);
        report
    };
    let report = diff(&[]);
    let (before, after) = (versions(&old), versions(&new));
    let both = before.iter().filter_map(|(name, version)| Some((version, after.get(name)?)));
    let changed = both.clone().filter(|(old, new)| old != new).count();
    let both = both.count();
    let packages = &report["packages"];
    let counted: Vec<u64> =
        ["changed", "added", "removed", "same"].iter().map(|name| packages[name].as_u64().unwrap()).collect();
    let expected = [changed, after.len() - both, before.len() - both, both - changed];
    assert_eq!(counted, expected.map(|number| number as u64));
    assert_eq!(packages["list"].as_array().unwrap().len() as u64, counted[0] + counted[1] + counted[2]);

    // Every path that is only renamed is taken from both lists, and nothing else is.
    let number = |report: &Value, name: &str| report["counts"][name].as_u64().unwrap();
    let plain = diff(&["--no-fold"]);
    let folded = number(&report, "renamed") + number(&report, "replaced");
    assert_eq!(report["folded"].as_array().unwrap().len() as u64, folded);
    for side in ["added", "removed"] {
        assert_eq!(number(&report, side) + number(&report, "renamed"), number(&plain, side), "{side}");
        assert_eq!(report[side].as_array().unwrap().len() as u64, number(&report, side));
    }
    assert_eq!(number(&plain, "renamed") + number(&plain, "replaced"), 0);
    // Most of what looks added and removed is the same file elsewhere.
    assert!(number(&report, "renamed") > 1000 && number(&report, "added") < 500, "{}", report["counts"]);
    let dir = tempfile::tempdir().unwrap();
    let counts = sh(dir.path(), RENAMED, &[&old, &new]);
    let mut counts = counts.lines().map(|line| line.trim().parse::<u64>().unwrap());
    let (added, removed) = (counts.next().unwrap(), counts.next().unwrap());
    assert_eq!((number(&report, "added"), number(&report, "removed")), (added, removed));
    for (count, expected) in [(added, 423), (removed, 179)] {
        assert!(count.abs_diff(expected) * 20 <= expected, "{count}, not {expected}");
    }

    // The answer stands in the first lines.
    let text = run(btrsquash().arg("diff").arg(&old).arg(&new)).stdout;
    let text = String::from_utf8(text).unwrap();
    // It is about a dozen lines by default.
    assert!(text.lines().count() <= 16, "{text}");
    let head: Vec<&str> = text.lines().take(24).collect();
    let head = head.join("\n");
    let packages = format!("{} of another version, {} added, {} removed", counted[0], counted[1], counted[2]);
    for words in ["file ", "minimum RAM", "the systems differ", &packages, "renamed"] {
        assert!(head.contains(words), "{words}: {head}");
    }
    // Text, Markdown and the page have the counts of JSON.
    let sums = format!("{added} added, {removed} removed");
    let comment = run(btrsquash().arg("diff").arg(&old).arg(&new).args(["--format", "markdown"])).stdout;
    let page = dir.path().join("page.html");
    run(btrsquash().arg("diff").arg(&old).arg(&new).arg("--html").arg(&page));
    for text in [head, String::from_utf8(comment).unwrap(), std::fs::read_to_string(page).unwrap()] {
        assert!(text.contains(&sums), "{sums}: {text}");
    }

    // What is left out is in no number.
    let etc = diff(&["--only", "etc/**", "--exclude", "etc/ssl", "--ignore", "time,links"]);
    let lists = ["added", "removed", "changed"].map(|list| etc[list].as_array().unwrap());
    for item in lists.into_iter().flatten() {
        let path = item["path"].as_str().unwrap();
        assert!(path.starts_with("etc/") && !path.starts_with("etc/ssl"), "{path}");
    }
    assert_eq!((number(&etc, "time"), number(&etc, "only_times")), (0, 0));
    let paths = |report: &Value| -> u64 {
        ["same", "only_times", "changed"].iter().map(|name| number(report, name)).sum()
    };
    assert!(0 < paths(&etc) && paths(&etc) < paths(&report));
}
