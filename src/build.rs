//! Builds the static program that btrsquash puts into images (src/guest).

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(guest)");
    for input in ["src/contract", "src/guest", "src/build.rs"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let target = variable("TARGET");
    let out = PathBuf::from(variable("OUT_DIR"));
    if let Err(error) = guest(&target, &out) {
        println!("cargo::error=building the guest program for {target}: {error}");
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// Builds the guest program for `target` as `out`/guest.
///
/// It uses nothing but std and the contract, so rustc alone builds it: that needs no registry, and one std for each
/// target is enough.
fn guest(target: &str, out: &Path) -> io::Result<()> {
    let library = out.join("libbtrsquash.rlib");
    // The contract alone is the library that the guest is linked with.
    rustc(
        target,
        &["--crate-name", "btrsquash", "--crate-type", "rlib", "--cfg", "guest"],
        "src/contract/mod.rs",
        &library,
    )?;
    let linked = format!("btrsquash={}", library.display());
    let options =
        ["--crate-name", "btrsquash_guest", "--crate-type", "bin", "-C", "lto=fat", "--extern", &linked];
    rustc(target, &options, "src/guest/main.rs", &out.join("guest"))
}

fn rustc(target: &str, options: &[&str], source: &str, output: &Path) -> io::Result<()> {
    let mut command = Command::new(variable("RUSTC"));
    command
        .args(["--edition", "2024", "--target", target])
        .args(["-C", "target-feature=+crt-static", "-C", "relocation-model=static", "-C", "opt-level=s"])
        .args(["-C", "panic=abort", "-C", "codegen-units=1", "-C", "strip=symbols"])
        // The image's kernel may run on any machine of the architecture, whatever flags the host is built with.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        command.arg("-C").arg(option);
    }
    let status = command.args(options).arg("-o").arg(output).arg(source).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{source}: rustc: {status}"))) }
}
