//! Builds the static program that btrsquash puts into images (src/guest), once for each architecture.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::iter;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A machine that images are made for.
struct Machine {
    /// As `uname -m` names it; for arm without the version.
    name: &'static str,
    /// rustc's target.
    target: &'static str,
    /// What the names of its cross compiler begin with.
    tools: &'static str,
}

const fn machine(name: &'static str, target: &'static str, tools: &'static str) -> Machine {
    Machine { name, target, tools }
}

const MACHINES: [Machine; 7] = [
    machine("x86_64", "x86_64-unknown-linux-gnu", "x86_64-linux-gnu"),
    machine("i686", "i686-unknown-linux-gnu", "i686-linux-gnu"),
    machine("aarch64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu"),
    machine("arm", "armv7-unknown-linux-gnueabihf", "arm-linux-gnueabihf"),
    machine("ppc64le", "powerpc64le-unknown-linux-gnu", "powerpc64le-linux-gnu"),
    machine("riscv64", "riscv64gc-unknown-linux-gnu", "riscv64-linux-gnu"),
    machine("s390x", "s390x-unknown-linux-gnu", "s390x-linux-gnu"),
];

/// A second rustc, for targets that cargo's own has no std for.
const SECOND_RUSTC: &str = "BTRSQUASH_GUEST_RUSTC";
/// If set, a machine that the program cannot be built for is an error.
const ALL: &str = "BTRSQUASH_GUEST_ALL";
/// A directory that keeps the programs for other builds of the same sources, such as those of clippy and of rustdoc.
const CACHE: &str = "BTRSQUASH_GUEST_CACHE";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(guest, embedded)");
    for input in ["src/contract", "src/guest", "src/build.rs"] {
        println!("cargo::rerun-if-changed={input}");
    }
    for name in [SECOND_RUSTC, ALL, CACHE] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if let Err(error) = build_all(Path::new(&variable("OUT_DIR"))) {
        println!("cargo::error={error}");
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// The machine that btrsquash itself is built for.
fn own_machine() -> String {
    let arch = variable("CARGO_CFG_TARGET_ARCH");
    match arch.as_str() {
        "x86" => "i686".into(),
        "powerpc64" if variable("CARGO_CFG_TARGET_ENDIAN") == "little" => "ppc64le".into(),
        "powerpc64" => "ppc64".into(),
        _ => arch,
    }
}

/// Builds the program for every machine that it can be built for, compresses each, and writes `out`/guests.rs, the table
/// of them.
fn build_all(out: &Path) -> Result<(), String> {
    let own = own_machine();
    let own_target = variable("TARGET");
    let others = MACHINES.iter().filter(|machine| machine.name != own);
    let wanted: Vec<_> = iter::once((own.as_str(), own_target.as_str(), None))
        .chain(others.map(|machine| (machine.name, machine.target, Some(machine))))
        .collect();
    // Compiling one takes half a minute on one core.
    let next = AtomicUsize::new(0);
    let work = || {
        let take = || wanted.get(next.fetch_add(1, Ordering::Relaxed));
        iter::from_fn(take)
            .map(|&(name, target, machine)| (name, build_for(name, target, machine, out)))
            .collect::<Vec<_>>()
    };
    let jobs = variable("NUM_JOBS").parse().unwrap_or(1);
    let mut programs: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let join =
            |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|e| resume_unwind(e));
        threads.into_iter().flat_map(join).collect()
    });
    programs.sort_by_key(|(name, _)| wanted.iter().position(|(wanted, ..)| wanted == name));
    let mut table = String::from("&[\n");
    let mut lacking = Vec::new();
    for (name, program) in programs {
        match program {
            Ok(path) => {
                let _ = writeln!(table, "    ({name:?}, include_bytes!({path:?})),");
            }
            Err(why) if name == own || env::var_os(ALL).is_some() => {
                return Err(format!("the program for {name} images cannot be built: {why}"));
            }
            Err(_) => lacking.push(name),
        }
    }
    table.push_str("]\n");
    fs::write(out.join("guests.rs"), table).map_err(|e| format!("guests.rs: {e}"))?;
    if !lacking.is_empty() {
        println!(
            "cargo::warning=images for {} cannot get the built-in boot initramfs: samples/build --all-architectures \
             builds them too",
            lacking.join(", ")
        );
    }
    Ok(())
}

/// Builds the program for this machine or, with its cross compiler, for another one.
fn build_for(name: &str, target: &str, other: Option<&Machine>, out: &Path) -> Result<PathBuf, String> {
    let found =
        |machine: &Machine| linker(machine).ok_or_else(|| format!("{}-gcc is not installed", machine.tools));
    build(name, target, other.map(found).transpose()?, out)
}

/// The linker for another machine: cargo's variable for it, or Debian's cross compiler.
fn linker(machine: &Machine) -> Option<OsString> {
    let name = format!("CARGO_TARGET_{}_LINKER", machine.target.to_uppercase().replace('-', "_"));
    println!("cargo::rerun-if-env-changed={name}");
    env::var_os(name).or_else(|| {
        let program = format!("{}-gcc", machine.tools);
        let found = env::split_paths(&env::var_os("PATH")?).any(|dir| dir.join(&program).is_file());
        found.then(|| program.into())
    })
}

/// The rustc that has a std for `target`: cargo's, or the second one.
fn rustc_for(target: &str) -> Option<OsString> {
    let own = env::var_os("RUSTC")?;
    [Some(own), env::var_os(SECOND_RUSTC)].into_iter().flatten().find(|rustc| {
        let Ok(printed) = Command::new(rustc).args(["--print", "target-libdir", "--target", target]).output()
        else {
            return false;
        };
        let libraries = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
        fs::read_dir(libraries).is_ok_and(|mut entries| {
            entries.any(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("libstd-")))
        })
    })
}

/// Builds the program for one machine; gives the path of the compressed file.
///
/// It uses nothing but std and the contract, so rustc alone builds it: that needs no registry, and one std for each
/// target is enough.
fn build(name: &str, target: &str, linker: Option<OsString>, out: &Path) -> Result<PathBuf, String> {
    let rustc = rustc_for(target).ok_or_else(|| format!("no rustc has a std for {target}"))?;
    let linker = linker.or_else(|| env::var_os("RUSTC_LINKER"));
    let dir = out.join(name);
    fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let packed = dir.join("guest.xz");
    let inputs = inputs(&rustc, linker.as_deref()).map_err(|e| e.to_string())?;
    let made_of = dir.join("inputs");
    if packed.is_file() && fs::read_to_string(&made_of).is_ok_and(|made_of| made_of == inputs) {
        return Ok(packed);
    }
    let kept = env::var_os(CACHE).map(|cache| PathBuf::from(cache).join(format!("{name}-{inputs}.xz")));
    if kept.as_ref().is_some_and(|kept| fs::copy(kept, &packed).is_ok()) {
        fs::write(made_of, inputs).map_err(|e| e.to_string())?;
        return Ok(packed);
    }
    let library = dir.join("libbtrsquash.rlib");
    let program = dir.join("guest");
    let compile = |options: &[&str], source: &str, output: &Path| {
        let mut command = Command::new(&rustc);
        command
            .args(["--edition", "2024", "--target", target])
            .args(["-C", "target-feature=+crt-static", "-C", "relocation-model=static", "-C", "opt-level=s"])
            .args(["-C", "panic=abort", "-C", "codegen-units=1", "-C", "strip=symbols"])
            // The image's kernel may run on any machine of the architecture, whatever flags the host is built with.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        if let Some(linker) = &linker {
            let mut option = OsString::from("linker=");
            option.push(linker);
            command.arg("-C").arg(option);
        }
        run(command.args(options).arg("-o").arg(output).arg(source))
    };
    // The contract alone is the library that the guest is linked with.
    compile(
        &["--crate-name", "btrsquash", "--crate-type", "rlib", "--cfg", "guest"],
        "src/contract/mod.rs",
        &library,
    )?;
    let linked = format!("btrsquash={}", library.display());
    compile(
        &[
            ["--crate-name", "btrsquash_guest", "--crate-type", "bin", "--extern", &linked].as_slice(),
            &["-C", "lto=fat"],
            // See src/guest/lean.rs, which knows glibc.
            if target.contains("-linux-gnu") {
                &["--cfg", "embedded", "-C", "link-arg=-Wl,-z,muldefs"]
            } else {
                &[]
            },
        ]
        .concat(),
        "src/guest/main.rs",
        &program,
    )?;
    compress(&program, &packed).map_err(|e| format!("{}: {e}", program.display()))?;
    fs::write(made_of, inputs).map_err(|e| e.to_string())?;
    if let Some(kept) = kept {
        keep(&packed, &kept).map_err(|e| format!("{}: {e}", kept.display()))?;
    }
    Ok(packed)
}

/// Copies a program into the cache; it appears there complete or not at all.
fn keep(packed: &Path, kept: &Path) -> io::Result<()> {
    fs::create_dir_all(kept.parent().unwrap_or(Path::new(".")))?;
    let new = kept.with_extension(std::process::id().to_string());
    fs::copy(packed, &new)?;
    fs::rename(new, kept)
}

/// A hash (64-bit FNV-1a) of all that a program is made of: sources, compiler and linker. Compiling for seven machines
/// takes minutes, and cargo runs this script again whenever a variable changes.
fn inputs(rustc: &OsStr, linker: Option<&OsStr>) -> io::Result<String> {
    let mut files = vec![PathBuf::from("src/build.rs")];
    let mut directories = vec![PathBuf::from("src/contract"), PathBuf::from("src/guest")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() { directories.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let mut parts = vec![Command::new(rustc).arg("-vV").output()?.stdout];
    parts.push(linker.unwrap_or_default().as_encoded_bytes().to_vec());
    for file in files {
        parts.push(file.to_string_lossy().into_owned().into_bytes());
        parts.push(fs::read(file)?);
    }
    let hash = parts.iter().flatten().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Ok(format!("{hash:016x}"))
}

/// Runs a command; if it fails, gives the end of what it said.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(());
    }
    let tail: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(tail[tail.len().saturating_sub(12)..].join(" | "))
}

fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let mut program = fs::read(from)?;
    clear_unwind_tables(&mut program).map_err(io::Error::other)?;
    let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 9);
    encoder.write_all(&program)?;
    fs::write(to, encoder.finish()?)
}

/// Fills the unwind tables with zeros, an empty list of frames: a program that aborts when it panics never reads them, and
/// they are 6% of its compressed size. std and the C library bring them along, so no option of the compiler leaves them out.
fn clear_unwind_tables(program: &mut [u8]) -> Result<(), String> {
    let elf = goblin::elf::Elf::parse(program).map_err(|e| e.to_string())?;
    let tables: Vec<_> = elf
        .section_headers
        .iter()
        .filter(|section| {
            let name = elf.shdr_strtab.get_at(section.sh_name).unwrap_or_default();
            [".eh_frame", ".eh_frame_hdr", ".gcc_except_table"].contains(&name)
        })
        .filter_map(goblin::elf::SectionHeader::file_range)
        .collect();
    for table in tables {
        program.get_mut(table).ok_or("a section lies outside the file")?.fill(0);
    }
    Ok(())
}
