//! `diff` against diff(1), find(1) and stat(1).

use std::process::Command;

use crate::support::images::*;
use crate::support::{btrsquash, have, installer, root, run, sh};

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
    let report = json(&run(btrsquash().arg("diff").arg(&text).arg(&gtk).arg("--json")));
    let counts = &report["counts"];
    let ours: Vec<u64> =
        ["added", "removed", "changed"].iter().map(|name| counts[name].as_u64().unwrap()).collect();
    assert_eq!(ours, counted);
    assert_eq!(report["added"].as_array().unwrap().len() as u64, ours[0]);
    // The other way round everything is the other way round.
    let back = json(&run(btrsquash().arg("diff").arg(&gtk).arg(&text).arg("--json")));
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
    let output = diff(&["--text", "--exit-code"]);
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
