//! Archives appended to a converted image, as verify, diff and inspect see them.

use std::path::Path;

use crate::support::images::*;
use crate::support::{btrsquash, follows_schema, have, run, sh};

#[test]
fn what_was_appended_is_of_the_system() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = bootable(dir.path());
    let path = |name: &str| dir.path().join(name);
    sh(
        dir.path(),
        r"mkdir -p add/etc add/srv/deep add/usr/share
        echo more >add/etc/more; echo else >add/usr/share/again; ln add/etc/more add/srv/deep/same
        ln -s /nowhere add/srv/link; chmod 750 add/srv/deep; mkfifo add/etc/link
        (cd add; find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0 >../add.cpio)
        gzip -nk add.cpio; (cat bootable.img; cat add.cpio) >both.img",
        &[],
    );
    let mut forms: Vec<(&str, &[&str])> = vec![
        ("built-in", &["--front-end", "built-in"]),
        ("retained", &["--front-end", "built-in", "--runtime-from", "retained"]),
    ];
    if have("dracut") {
        forms.push(("dracut", &["--front-end", "dracut"]));
    }
    for (form, arguments) in forms {
        let new = path("new.img");
        convert(&old, &new, arguments);
        assert_eq!(verify(&old, &new).0, 0, "{form}");
        let before = inspect(&new);
        assert!(before["segments"].as_array().unwrap().iter().all(|s| s["appended"] == false), "{before:#}");
        assert!(!before["notes"].to_string().contains("appended"), "{form}: {before:#}");
        for archive in ["add.cpio", "add.cpio.gz"] {
            let appended = path("appended.img");
            sh(
                dir.path(),
                r#"cp new.img appended.img; truncate -s %4 appended.img; cat "$1" >>appended.img"#,
                &[Path::new(archive)],
            );
            let name = format!("{form}, {archive}");
            let (code, report) = verify(&old, &appended);
            assert_eq!((code, &report["holds"]), (1, &false.into()), "{name}: {report:#}");
            assert_eq!(paths(&report["changed"]), ["etc/link", "usr/share/again"], "{name}");
            let more = ["etc/more", "srv", "srv/deep", "srv/deep/same", "srv/link"];
            assert_eq!(paths(&report["unexpected"]), more, "{name}");
            assert!(report["notes"].to_string().contains("appended: 7 paths"), "{name}: {report:#}");
            // The same archive behind the original makes the same system.
            let (code, report) = verify(&path("both.img"), &appended);
            assert_eq!((code, &report["appended"]), (0, &7.into()), "{name}: {report:#}");
            let said = run(btrsquash().arg("verify").arg(path("both.img")).arg(&appended)).stdout;
            assert!(String::from_utf8_lossy(&said).trim_end().ends_with(", 7 appended paths"), "{name}");
            let differs =
                btrsquash().arg("diff").arg(&new).arg(&appended).args(["--exit-code", "--json"]).output();
            let differs = differs.unwrap();
            assert_eq!(differs.status.code(), Some(1), "{name}");
            let (report, after) = (json(&differs), inspect(&appended));
            assert_eq!(report["counts"]["added"], 5, "{name}: {report:#}");
            assert!(report["notes"].to_string().contains("new: appended: 7 paths"), "{name}: {report:#}");
            let segments: Vec<bool> =
                after["segments"].as_array().unwrap().iter().map(|s| s["appended"] == true).collect();
            assert_eq!(segments, [false, false, true], "{name}");
            assert!(
                after["image"]["parts"].to_string().contains("segment 3: appended, "),
                "{name}: {after:#}"
            );
            assert_eq!(before["front_end"], after["front_end"], "{name}");
            follows_schema("inspection", &after);
        }
    }
}

#[test]
fn an_appended_init_is_no_conversion() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = bootable(dir.path());
    let new = dir.path().join("new.img");
    convert(&old, &new, &["--front-end", "built-in"]);
    // The very one that the runtime has: the kernel starts it where no runtime is.
    sh(dir.path(), "cd tree; echo init | cpio -o -H newc --quiet -R 0:0 >>../new.img", &[]);
    let (code, report) = verify(&old, &new);
    assert_eq!((code, paths(&report["unexpected"])), (1, vec!["init".to_owned()]), "{report:#}");
    assert!(report["notes"].to_string().contains("instead of the boot initramfs's own"), "{report:#}");
}

/// What `append` writes is what `find | cpio` appends by hand, directories and padding included, and the system sees it.
#[test]
fn append_does_what_cpio_does_by_hand() {
    if !have("cpio") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let old = bootable(dir.path());
    let path = |name: &str| dir.path().join(name);
    convert(&old, &path("new.img"), &["--front-end", "built-in"]);
    sh(
        dir.path(),
        r"mkdir -p add/etc add/srv/deep; echo more >add/etc/more; echo there >add/srv/deep/file; chmod 600 add/etc/more
        ln -s /nowhere add/srv/deep/link; touch -d @1000000001 add/etc/more add/srv/deep/* add/srv/deep add/srv
        head -c 1 /dev/zero >>new.img",
        &[],
    );
    for image in ["bootable.img", "new.img"] {
        sh(
            dir.path(),
            r#"rm -rf by-hand; mkdir by-hand; cp -a add/. by-hand; cp "$1" hand.img; truncate -s %4 hand.img
            chmod 755 by-hand/etc by-hand/srv by-hand/srv/deep
            (cd by-hand; find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0) >>hand.img"#,
            &[Path::new(image)],
        );
        let said = run(btrsquash()
            .arg("append")
            .arg(path(image))
            .args([path("add/etc"), path("add/srv")])
            .arg("-o")
            .arg(path("appended.img"))
            .arg("--force"));
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(said.contains("  /etc: directory that exists\n  /etc/more: new\n"), "{said}");
        let tar = |name: &str| {
            let listed = run(btrsquash().args(["ls", "-l"]).arg(path(name)));
            String::from_utf8(listed.stdout).unwrap()
        };
        let without_etc = |listing: String| -> Vec<String> {
            listing.lines().filter(|line| !line.ends_with(" etc")).map(str::to_owned).collect()
        };
        assert_eq!(without_etc(tar("appended.img")), without_etc(tar("hand.img")), "{image}");
        let content = run(btrsquash().arg("cat").arg(path("appended.img")).arg("srv/deep/file")).stdout;
        assert_eq!(content, b"there\n");
    }
    // What is meant to be there can be allowed; what is lost cannot.
    let verify = |allowed: &[&str]| {
        let mut command = btrsquash();
        command.arg("verify").arg(path("bootable.img")).arg(path("appended.img"));
        allowed.iter().for_each(|glob| _ = command.args(["--allow", glob]));
        command.output().unwrap().status.code()
    };
    assert_eq!(verify(&[]), Some(1));
    assert_eq!(verify(&["etc/more"]), Some(1));
    assert_eq!(verify(&["etc/more", "srv"]), Some(0));
    // One file under another name, twice the same bytes, and what cannot be.
    let append = |image: &str, arguments: &[&str]| {
        let output =
            btrsquash().arg("append").arg(path(image)).arg(path("add/etc/more")).args(arguments).output();
        let output = output.unwrap();
        (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, first, said) = append("new.img", &["--at", "/srv/new/name", "-o", "-"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("/srv/new/name: new"), "{said}");
    assert!(first == append("new.img", &["--at", "srv/new/name", "-o", "-"]).1, "not the same bytes");
    let (_, _, said) = append("new.img", &["--at", "/etc", "-o", "-"]);
    assert!(said.contains("/etc/more: new"), "{said}");
    for (at, why) in [
        ("/init", "/init would replace the init that mounts the runtime"),
        ("/proc/version", "/proc/version would not reach the system"),
        ("/srv/../etc/x", ".. is not allowed"),
        ("/usr/share/again/x", "is not a directory"),
    ] {
        let new = path("refused.img");
        let (code, _, said) = append("new.img", &["--at", at, "-o", new.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{at}: {said}");
        assert!(said.contains(why), "{at}: {said}");
        assert!(!new.exists(), "{at}");
    }
}
