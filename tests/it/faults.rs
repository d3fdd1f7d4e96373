//! Every system call that can fail is made to fail, with strace's fault injection: one clear error and no output, or the
//! right output.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{btrsquash, have, run};

/// System calls, the errors that each is made to fail with, and how many of its first calls are.
const TABLE: [(&str, &[&str], usize); 9] = [
    ("write", &["ENOSPC", "EIO", "EINTR"], 12),
    ("pwrite64", &["ENOSPC", "EIO", "EINTR"], 20),
    ("read", &["EIO", "EINTR", "ENOMEM"], 20),
    ("pread64", &["EIO", "EINTR", "ENOMEM"], 20),
    ("fsync", &["ENOSPC", "EIO"], 6),
    ("ftruncate", &["ENOSPC", "EIO"], 6),
    ("openat", &["EACCES", "EMFILE", "ENFILE", "ENOENT", "ENOMEM", "EIO"], 25),
    ("linkat", &["EACCES", "EIO", "ENOSPC"], 2),
    ("lseek", &["EIO"], 20),
];

#[test]
fn a_system_call_that_fails_leaves_no_output() {
    if !have("strace") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/tiny-initrd.gz");
    for name in ["out", "tmp"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    // The boot initramfs is made once: packing it is most of the time of a conversion this small.
    let split = ["--front-end", "built-in", "--layout", "split", "--quiet", "-o"];
    run(btrsquash().arg("convert").arg(&tiny).args(split).arg(at("front-end.img")));
    let arguments = ["--compression", "gzip", "--quiet", "-j1", "--front-end"];
    let convert = |command: &mut Command| {
        command.arg(env!("CARGO_BIN_EXE_btrsquash")).arg("convert").arg(&tiny).args(arguments);
        command
            .arg(at("front-end.img"))
            .arg("-o")
            .arg(at("out/new.img"))
            .arg("--report")
            .arg(at("out/new.json"));
        command.env("TMPDIR", at("tmp")).stdin(Stdio::null());
    };
    let mut plain = Command::new("env");
    convert(&mut plain);
    run(&mut plain);
    let expected = std::fs::read(at("out/new.img")).unwrap();
    let (mut done, mut refused, mut bad) = (0, 0, Vec::new());
    for (call, errors, count) in TABLE {
        for error in errors {
            for number in 1..=count {
                for name in ["out/new.img", "out/new.json"] {
                    let _ = std::fs::remove_file(at(name));
                }
                let mut command = Command::new("timeout");
                command.args(["60", "strace", "-f", "-qq", "-o", "/dev/null", "-e"]);
                command.args([&format!("trace={call}"), "-e"]);
                command.arg(format!("inject={call}:error={error}:when={number}"));
                convert(&mut command);
                let output = command.output().unwrap();
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                let left = std::fs::read_dir(at("out")).unwrap().count();
                let temporary = std::fs::read_dir(at("tmp")).unwrap().count();
                let good = match output.status.code() {
                    Some(0) => std::fs::read(at("out/new.img")).ok().as_ref() == Some(&expected) && left == 2,
                    Some(2..=5) => left == 0 && text.starts_with("error: "),
                    _ => false,
                };
                done += 1;
                refused += u32::from(output.status.code() != Some(0));
                if !good || temporary > 0 {
                    bad.push(format!(
                        "{call} {number} {error}: {:?}, {left} outputs: {text}",
                        output.status.code()
                    ));
                }
            }
        }
    }
    println!("{done} faults injected, {refused} ended the conversion, {} badly", bad.len());
    assert!(bad.is_empty(), "{} of {done}:\n{}", bad.len(), bad.join("\n"));
    assert!(done >= 400 && refused >= 50, "{done} {refused}");
}
