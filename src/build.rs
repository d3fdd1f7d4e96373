//! Builds the static programs that btrsquash carries inside itself: the built-in front-end's init, the probe of
//! `boot --measure`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    program("init", "src/init");
    program("probe", "src/probe");
}

/// Compiles `folder`/main.rs to the static program `name` in OUT_DIR. It uses std only, so that rustc alone makes it.
fn program(name: &str, folder: &str) {
    println!("cargo::rerun-if-changed={folder}");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let out = PathBuf::from(variable("OUT_DIR")).join(name);
    let status = Command::new(variable("RUSTC"))
        .args(["--edition", "2024", "--crate-type", "bin", "--crate-name", &name.replace('-', "_")])
        .args(["--target", &variable("TARGET")])
        .args(["-C", "target-feature=+crt-static", "-C", "relocation-model=static", "-C", "opt-level=s"])
        .args(["-C", "panic=abort", "-C", "lto=fat", "-C", "codegen-units=1", "-C", "strip=symbols"])
        // The image's kernel may run on any machine of the architecture, whatever the host's flags say.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .arg("-o")
        .arg(&out)
        .arg(Path::new(folder).join("main.rs"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => println!("cargo::error=compiling {folder}/main.rs: {status}"),
        Err(error) => println!("cargo::error=starting rustc for {folder}/main.rs: {error}"),
    }
}
