//! `boot`: verdicts, the minimum RAM, the probe. Most of it on a small image of our own, which boots in seconds.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::support::{
    FIRST_SCREEN, INSTALLER, boot, btrsquash, converted, follows_schema, have, installer, kernel_package,
    run, sh,
};

/// The first program of the small image: says how it finds the machine, then does what the command line asks for.
const INIT: &str = r#"
use std::fs;
unsafe extern "C" {
    fn reboot(command: i32) -> i32;
    fn mount(a: *const std::ffi::c_char, b: *const std::ffi::c_char, c: *const std::ffi::c_char, d: u64, e: *const u8) -> i32;
    fn open(path: *const std::ffi::c_char, flags: i32) -> i32;
}
fn list(path: &str) -> String {
    let mut names: Vec<String> = fs::read_dir(path)
        .map(|dir| dir.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort();
    names.join(" ")
}
fn main() {
    let mut say = vec![format!("root: {}", list("/")), format!("proc: {}", list("/proc"))];
    say.push(format!("args: {:?}", std::env::args().collect::<Vec<_>>()));
    let mut environment: Vec<_> = std::env::vars().collect();
    environment.sort();
    say.push(format!("env: {environment:?}"));
    say.push(format!("pid: {}", std::process::id()));
    say.push(format!("store: {}", list("/store")));
    let _ = fs::create_dir("/proc");
    unsafe {
        mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, std::ptr::null());
    }
    say.push(format!("files: {}", list("/proc/self/fd")));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // SigQ has a limit that goes with the machine's memory, of which the probe takes a little.
    let wanted = |l: &&str| (l.starts_with("Sig") && !l.starts_with("SigQ")) || l.starts_with("Umask");
    for line in status.lines().filter(wanted) {
        // std itself ignores SIGPIPE by now: the same with and without a probe.
        say.push(format!("status: {line}"));
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    say.push(format!("mounts: {}", mounts.lines().map(|l| l.split(' ').nth(1).unwrap_or("")).collect::<Vec<_>>().join(" ")));
    if fs::metadata("/dev/console").is_err() {
        say.push("no /dev/console".into());
    }
    for line in say {
        println!("small: {line}");
    }
    let _ = unsafe { open(c"/dev/null".as_ptr(), 0) };
    match std::env::var("small").as_deref() {
        Ok("off") => unsafe { drop(reboot(0x4321_fedc)) },
        Ok("wait") => {}
        _ => println!("the small system is ready"),
    }
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
"#;

const READY: &str = "the small system is ready";

/// The small image and the real kernel.
fn small() -> Option<(PathBuf, PathBuf)> {
    static SMALL: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, kernel) = installer("text")?;
    if !have("qemu-system-x86_64") || !have("cpio") {
        return None;
    }
    let (_, image) = SMALL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("init.rs"), INIT).unwrap();
        let mut command = Command::new("rustc");
        command.current_dir(dir.path()).args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static"]);
        run(command.args(["-C", "relocation-model=static", "-C", "strip=symbols", "init.rs"]));
        sh(
            dir.path(),
            "mkdir -p r/dev r/etc r/store r/usr/sbin r/var; cp init r/; echo small >r/etc/hostname; chmod 755 r/init
            ln -s /init r/usr/sbin/init; ln -s /usr/sbin r/sbin; ln -s /store r/var/lib
            (cd r && find . | cpio --quiet -o -H newc) | gzip >small.gz",
            &[],
        );
        let image = dir.path().join("small.gz");
        (dir, image)
    });
    Some((image.clone(), kernel))
}

fn boot_small(image: &Path, kernel: &Path, arguments: &[&str]) -> (Option<i32>, serde_json::Value, Output) {
    let mut command = btrsquash();
    command.arg("boot").arg(image).arg("--kernel").arg(kernel).arg("--json").args(arguments);
    let output = command.output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if report.is_object() {
        follows_schema(if arguments.contains(&"--find-min") { "min" } else { "boot" }, &report);
    }
    (output.status.code(), report, output)
}

/// What the small system said, from a log of the console.
fn said(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().filter_map(|line| Some(line.split_once("small: ")?.1.trim_end().to_owned())).collect()
}

/// The moments of a measured boot: phase (`least` when least was available), MiB in use, MiB available.
fn moments(report: &serde_json::Value) -> Vec<(String, f64, f64)> {
    let mib = |figure: &serde_json::Value| figure["value"].as_f64().unwrap() / f64::from(1 << 20);
    report["moments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["phase"].as_str().unwrap_or("least").to_owned(), mib(&m["used"]), mib(&m["available"])))
        .collect()
}

#[test]
fn the_original_fails_at_512_with_a_whole_line() {
    let Some((initrd, kernel)) = installer("gtk") else { return };
    if !have("qemu-system-x86_64") {
        return;
    }
    let (booted, report) = boot(&initrd, &kernel, 512, INSTALLER, FIRST_SCREEN, &[]);
    assert!(!booted);
    let outcome = report["outcome"].as_str().unwrap();
    assert!(outcome.ends_with("Initramfs unpacking failed: write error"), "{outcome}");
    let last = report["console"].as_array().unwrap().last().unwrap().as_str().unwrap();
    assert!(last.contains("Initramfs unpacking failed: write error"), "{last}");
}

#[test]
fn a_converted_installer_is_measured_on_its_way_to_the_screen() {
    let (Some((initrd, kernel)), Some(package)) = (installer("gtk"), kernel_package()) else { return };
    if !have("qemu-system-x86_64") {
        return;
    }
    let arguments = ["--front-end", "built-in", "--modules", package.to_str().unwrap()];
    let image = converted("gtk-built-in", &initrd, &arguments);
    let before = std::fs::metadata(&image).unwrap().modified().unwrap();
    let (booted, report) = boot(&image, &kernel, 512, INSTALLER, FIRST_SCREEN, &["--measure"]);
    assert!(booted, "{report:#}");
    assert_eq!(std::fs::metadata(&image).unwrap().modified().unwrap(), before);
    let moments = moments(&report);
    let at = |name: &str| moments.iter().find(|m| m.0.starts_with(name)).unwrap_or_else(|| panic!("{name}"));
    let file = std::fs::metadata(&image).unwrap().len() as f64 / f64::from(1 << 20);
    let [starts, unpacked, freed, program, screen] =
        ["kernel-starts", "unpacked", "image-freed", "init", "first-screen"].map(at);
    // A kernel of 50 to 75 MiB and the image.
    assert!((file + 50.0..file + 75.0).contains(&starts.1), "{moments:?}");
    // The image is freed once it is unpacked.
    assert!((unpacked.1 - freed.1 - file).abs() < 2.0, "{moments:?}");
    // What is unpacked is in use by then, and the squashfs still at the hand-over and the screen.
    for moment in [freed, program, screen] {
        assert!((100.0..220.0).contains(&moment.1), "{moments:?}");
        assert!(moment.1 + moment.2 < 512.0 && moment.1 + moment.2 > 400.0, "{moments:?}");
    }
    let least = at("least");
    assert!(moments[2..].iter().all(|m| m.2 >= least.2), "{moments:?}");
}

#[test]
fn the_probe_is_not_there_for_the_first_program() {
    let Some((image, kernel)) = small() else { return };
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let log_argument = log.to_str().unwrap();
    let append = "word small=go other=\"x\" -- last";
    let arguments = ["-m", "192", "--append", append, "--expect", READY, "--log", log_argument];
    let (code, report, _) = boot_small(&image, &kernel, &arguments);
    assert_eq!(code, Some(0), "{report:#}");
    let plain = said(&log);
    assert!(plain.iter().any(|line| line == "pid: 1") && plain.len() > 8, "{plain:?}");
    assert!(plain.iter().any(|line| line.starts_with("args: ") && line.contains("last")), "{plain:?}");

    let (code, report, _) = boot_small(&image, &kernel, &[&arguments[..], &["--measure"]].concat());
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(said(&log), plain);
    let found = moments(&report);
    assert_eq!(found.len(), 6, "{report:#}");
    assert!(found.iter().all(|m| m.1 > 20.0 && m.1 < 192.0 && m.2 > 20.0), "{found:?}");

    // Nor is it in the runtime of a converted image.
    let Some(package) = kernel_package() else { return };
    let arguments_of_convert =
        ["--front-end", "built-in", "--modules", package.to_str().unwrap(), "--kernel"];
    let arguments_of_convert = [&arguments_of_convert[..], &[kernel.to_str().unwrap()]].concat();
    let image = converted("small", &image, &arguments_of_convert);
    let (code, report, _) = boot_small(&image, &kernel, &[&arguments[..], &["--measure"]].concat());
    assert_eq!(code, Some(0), "{report:#}");
    let root = said(&log).into_iter().find(|line| line.starts_with("root: ")).unwrap();
    assert!(root.contains("etc") && !root.contains("btrsquash"), "{root}");
    assert!(report["notes"].to_string().contains("another root"), "{report:#}");
}

#[test]
fn what_the_kernel_takes_early_among_other_files_it_still_finds() {
    let (Some((image, kernel)), Some(package)) = (small(), kernel_package()) else { return };
    // An ACPI table with nothing in it; the last byte of all makes the sum 0.
    let mut table =
        [&b"SSDT\x24\0\0\0\x02\0BTRSQ EARLY   "[..], &[1, 0, 0, 0], b"TEST", &[1, 0, 0, 0]].concat();
    assert_eq!(table.len(), 36);
    table[9] = table.iter().fold(0_u8, |sum, &b| sum.wrapping_sub(b));
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("r/kernel/firmware/acpi");
    std::fs::create_dir_all(&whole).unwrap();
    std::fs::write(whole.join("early.aml"), table).unwrap();
    sh(
        dir.path(),
        "(cd r; zcat \"$1\" | cpio -id --quiet --no-absolute-filenames 2>/dev/null || [ -e init ]
        # An init that wants all mounted, on directories that are links.
        mkdir -p usr/lib/systemd system/sys system/run; mv init usr/lib/systemd/systemd
        ln -s /usr/lib/systemd/systemd init; ln -s /system/sys sys; ln -s ../../../system/run run
        find . | sort | cpio --quiet -R 0:0 -H newc -o) >mixed.img",
        &[&image],
    );
    let mixed = dir.path().join("mixed.img");
    let found = r"SSDT ACPI table found in initrd \[kernel/firmware/acpi/early.aml\]";
    let arguments = ["-m", "192", "--expect", found];
    let (code, report, _) = boot_small(&mixed, &kernel, &arguments);
    assert_eq!(code, Some(0), "{report:#}");
    let of_convert = ["--front-end", "built-in", "--modules", package.to_str().unwrap(), "--kernel"];
    let new = converted("mixed", &mixed, &[&of_convert[..], &[kernel.to_str().unwrap()]].concat());
    let (code, report, _) = boot_small(&new, &kernel, &arguments);
    assert_eq!(code, Some(0), "{report:#}");
    // Links of the runtime from / on and above the top lead where they led in the original: to its init, to what is
    // mounted on, below an appended directory.
    sh(
        dir.path(),
        "mkdir -p add/var/lib; echo mine >add/var/lib/mine
        (cd add; find var | cpio --quiet -R 0:0 -H newc -o) >add.cpio
        cp \"$1\" appended.img; truncate -s %4 appended.img; cat add.cpio >>appended.img",
        &[&new],
    );
    let log = dir.path().join("log");
    let arguments = ["-m", "192", "--expect", READY, "--append", "init=/sbin/init", "--log"];
    let arguments = [&arguments[..], &[log.to_str().unwrap()]].concat();
    let (code, report, _) = boot_small(&dir.path().join("appended.img"), &kernel, &arguments);
    assert_eq!(code, Some(0), "{report:#}");
    let said = said(&log);
    assert!(said.iter().any(|line| line == "store: mine"), "{said:?}");
    assert!(said.iter().any(|line| line.starts_with("args: [\"/sbin/init\"")), "{said:?}");
    let mounts = said.iter().find(|line| line.starts_with("mounts: ")).unwrap();
    assert!(mounts.contains(" /system/sys") && mounts.contains(" /system/run"), "{mounts}");
    let verified = run(btrsquash().args(["verify", "--json"]).arg(&mixed).arg(&new));
    let verified = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.contains("1 early file in a segment of their own"), "{verified}");
    // Without that segment the file is missing, though the runtime has it.
    let inspected = run(btrsquash().args(["inspect", "--json"]).arg(&new));
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["segments"][0]["early"], true, "{inspected:#}");
    let second = inspected["segments"][1]["offset"].as_u64().unwrap();
    let late = dir.path().join("late.img");
    std::fs::write(&late, &std::fs::read(&new).unwrap()[second as usize..]).unwrap();
    let output = btrsquash().arg("verify").arg(&mixed).arg(&late).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("kernel/firmware/acpi/early.aml"), "{told}");
}

#[test]
fn the_least_memory_is_found_with_the_reason_why_less_fails() {
    let Some((image, kernel)) = small() else { return };
    let arguments = ["--find-min", "--expect", READY, "--from", "48", "--to", "128", "--step", "16"];
    let (code, report, output) =
        boot_small(&image, &kernel, &[&arguments[..], &["--timeout", "120"]].concat());
    assert_eq!(code, Some(0), "{report:#}{}", String::from_utf8_lossy(&output.stderr));
    let least = report["minimum"]["value"].as_u64().unwrap() >> 20;
    assert!((64..=112).contains(&least), "{report:#}");
    let tries = report["tries"].as_array().unwrap();
    let below = tries.iter().find(|t| t["ram_mib"] == least - 16).unwrap();
    assert!(below["booted"] == false && !below["why"].as_str().unwrap().is_empty(), "{report:#}");
    assert!(report["why_less_fails"].as_str().unwrap().starts_with(&format!("{} MiB: ", least - 16)));
    let computed = report["computed"]["value"].as_u64().unwrap() >> 20;
    assert!(computed.abs_diff(least) <= 24, "{computed} computed, {least} measured");
}

#[test]
fn each_way_to_fail_is_told_apart() {
    let Some((image, kernel)) = small() else { return };
    let common = ["-m", "192", "--expect", READY];
    for (more, outcome) in [
        (&["--append", "small=off", "--timeout", "60"][..], "QEMU ended"),
        (&["--append", "small=wait", "--timeout", "15"], "timed out"),
        (
            &["--append", "small=go", "--fail", "small: pid: [0-9]"],
            "the console matched --fail: small: pid: 1",
        ),
        (&["--append", "rdinit=/nothing init=/nothing"], "kernel panic: "),
    ] {
        let (code, report, output) = boot_small(&image, &kernel, &[&common[..], more].concat());
        assert_eq!(code, Some(1), "{more:?}: {report:#}");
        assert!(report["outcome"].as_str().unwrap().starts_with(outcome), "{more:?}: {report:#}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.lines().count() == 1 && complaint.contains("small.gz"), "{complaint}");
    }
}

#[test]
fn what_cannot_be_booted_is_said_at_once() {
    let Some((image, kernel)) = small() else { return };
    let (code, ..) = boot_small(&image, Path::new("no-such-kernel"), &[]);
    assert_eq!(code, Some(2));
    let (code, _, output) = boot_small(&image, &image, &[]);
    assert_eq!(code, Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not recognized as a kernel"), "{output:?}");
    let (code, ..) = boot_small(Path::new("no-such-image"), &kernel, &[]);
    assert_eq!(code, Some(2));
    for wrong in [&["--find-min"][..], &["--measure"], &["--expect", "("], &["--expect", "x", "--from", "2"]]
    {
        let (code, ..) = boot_small(&image, &kernel, wrong);
        assert_eq!(code, Some(2), "{wrong:?}");
    }
    let (code, ..) =
        boot_small(&image, &kernel, &["--expect", "x", "--find-min", "--from", "512", "--to", "256"]);
    assert_eq!(code, Some(2));
}
