//! What every integration test needs: the binary, the tools, the real images.

pub mod images;
pub mod newc;
pub mod rootfs;
pub mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The built binary.
pub fn btrsquash() -> Command {
    Command::new(env!("CARGO_BIN_EXE_btrsquash"))
}

/// Whether the tests run where everything has to be there.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// Skips with a loud reason on a user's machine; fails in CI.
pub fn skip(reason: &str) {
    assert!(!in_ci(), "in CI nothing is skipped: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// Whether `tool` is in PATH; says so loudly (or fails, in CI) where it is not.
pub fn have(tool: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()));
    if !found {
        skip(&format!("{tool} is not installed"));
    }
    found
}

/// Whether the tests run as root (kernel mounts need it); says so loudly where they do not.
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("needs root for loop devices and mounts");
    }
    root
}

/// The directory with the real images, filled by samples/fetch.
pub fn assets() -> PathBuf {
    std::env::var_os("BTRSQUASH_ASSETS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/assets"), PathBuf::from)
}

/// A file among the real images, or `None` with a loud reason.
pub fn asset(path: &str) -> Option<PathBuf> {
    let file = assets().join(path);
    if file.exists() {
        return Some(file);
    }
    skip(&format!("{} is not there: run samples/fetch", file.display()));
    None
}

/// The Debian 12 netboot installer of `flavour` (`gtk` or `text`): its initrd and its kernel.
pub fn installer(flavour: &str) -> Option<(PathBuf, PathBuf)> {
    let directory = format!("d12/usr/lib/debian-installer/images/12/amd64/{flavour}/debian-installer/amd64");
    Some((asset(&format!("{directory}/initrd.gz"))?, asset(&format!("{directory}/linux"))?))
}

/// The `linux-image` package of the Debian 12 installer's kernel.
pub fn kernel_package() -> Option<PathBuf> {
    let found = std::fs::read_dir(assets()).ok().and_then(|dir| {
        dir.flatten().map(|entry| entry.path()).find(|path| {
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("linux-image-6.1."))
        })
    });
    if found.is_none() {
        skip("no linux-image package among the assets: run samples/fetch");
    }
    found
}

/// The `linux-image` package of the Debian 13 installer's kernel.
pub fn newer_kernel_package() -> Option<PathBuf> {
    let found = std::fs::read_dir(assets().join("d13")).ok().and_then(|dir| {
        dir.flatten().map(|entry| entry.path()).find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("linux-image-"))
        })
    });
    if found.is_none() {
        skip("no linux-image package of Debian 13 among the assets: run samples/fetch --all");
    }
    found
}

/// Runs a command to its end and panics with its output where it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a shell script in `dir` and returns its standard output; `$1`… are `args`.
pub fn sh(dir: &Path, script: &str, args: &[&Path]) -> String {
    let mut command = Command::new("bash");
    command.current_dir(dir).args(["-euo", "pipefail", "-c", script, "bash"]).args(args);
    String::from_utf8_lossy(&run(&mut command).stdout).into_owned()
}

/// A kernel that reaches an installer's first screen on a serial console, in which words.
pub const INSTALLER: &str = "TERM=linux DEBIAN_FRONTEND=text";
/// What the first screen of the Debian installer says, also in low memory.
pub const FIRST_SCREEN: &str = "Select a language|Press enter to continue";

/// The image that `btrsquash convert OLD ARGUMENTS…` makes, made once for all tests under this `name`. Its reports lie
/// beside it as `.json` and `.html`.
pub fn converted(name: &str, old: &Path, arguments: &[&str]) -> PathBuf {
    type Made = std::sync::Mutex<std::collections::HashMap<String, std::sync::Arc<std::sync::OnceLock<()>>>>;
    static MADE: std::sync::OnceLock<Made> = std::sync::OnceLock::new();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("converted");
    std::fs::create_dir_all(&dir).unwrap();
    let image = dir.join(format!("{name}.img"));
    // A failure in one test must not poison the others' lock.
    let once = {
        let mut made =
            MADE.get_or_init(Default::default).lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::sync::Arc::clone(made.entry(name.to_owned()).or_default())
    };
    once.get_or_init(|| {
        let mut command = btrsquash();
        command.arg("convert").arg(old).args(arguments).args(["--force", "--quiet", "-o"]).arg(&image);
        command
            .arg("--report")
            .arg(image.with_extension("json"))
            .arg("--html")
            .arg(image.with_extension("html"));
        run(&mut command);
        // Whatever a test converts is proved to hold the same system.
        let apart = dir.join(format!("{name}.squashfs.img"));
        run(btrsquash().arg("verify").arg(old).arg(if apart.exists() { &apart } else { &image }));
    });
    image
}

/// What `btrsquash boot` says of an image: whether it got to `expect`, and its whole report.
pub fn boot(
    image: &Path,
    kernel: &Path,
    mib: u64,
    append: &str,
    expect: &str,
    more: &[&str],
) -> (bool, serde_json::Value) {
    let output = btrsquash()
        .arg("boot")
        .arg(image)
        .arg("--kernel")
        .arg(kernel)
        .args(["-m", &mib.to_string(), "--append", append, "--expect", expect, "--timeout", "400", "--json"])
        .args(more)
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("boot gives no report: {e}\n{}", String::from_utf8_lossy(&output.stderr));
    });
    assert_eq!(output.status.code(), Some(i32::from(report["booted"] != true)), "{report:#}");
    follows_schema("boot", &report);
    (report["booted"] == true, report)
}

/// Boots and says what the console showed, whole.
pub fn console(
    image: &Path,
    kernel: &Path,
    mib: u64,
    append: &str,
    expect: &str,
    more: &[&str],
) -> (bool, String) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut all = vec!["--log", log.path().to_str().unwrap()];
    all.extend(more);
    let (booted, report) = boot(image, kernel, mib, append, expect, &all);
    let text = String::from_utf8_lossy(&std::fs::read(log.path()).unwrap()).into_owned();
    (booted, format!("{text}\n{report:#}"))
}

/// What the console showed, whole, of a boot that has to get to `expect`.
pub fn reaches(image: &Path, kernel: &Path, mib: u64, append: &str, expect: &str, more: &[&str]) -> String {
    let (booted, text) = console(image, kernel, mib, append, expect, more);
    assert!(booted, "{text}");
    text
}

/// What the system told the console about `what`.
pub fn told(console: &str, what: &str) -> String {
    let mark = format!("PROBE:{what}: ");
    let lines: Vec<&str> =
        console.lines().filter_map(|l| l.split_once(&mark)).map(|(_, rest)| rest).collect();
    assert!(!lines.is_empty(), "nothing about {what}: {console}");
    lines.join("\n")
}

/// Holds the JSON output of a command against its schema, and the schema against what it has to refuse.
pub fn follows_schema(schema: &str, value: &serde_json::Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/report/schema/{schema}.json"));
    let text: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&text).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path)).collect();
    assert!(errors.is_empty(), "{schema}: {errors:#?}");
    // The schema says something: without one of its fields the output is refused, and with one more.
    for field in value.as_object().unwrap().keys() {
        let mut less = value.clone();
        less.as_object_mut().unwrap().remove(field);
        assert!(!validator.is_valid(&less), "{schema} does not ask for {field}");
    }
    let mut more = value.clone();
    more["unheard_of"] = true.into();
    assert!(!validator.is_valid(&more), "{schema} lets everything pass");
}

/// A Debian system with systemd packed whole into an initrd that holds its own modules, and its kernel. Before its
/// `login:` prompt it prints lines that start with `PROBE:` (tests/systemd-image says which). Made once and kept.
pub fn systemd_image() -> Option<(PathBuf, PathBuf)> {
    static MADE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let tools = ["mmdebstrap", "cpio", "gzip", "depmod", "dpkg-deb"];
    if !tools.into_iter().all(have) {
        return None;
    }
    let package = kernel_package()?;
    let _one = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let maker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd-image");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd");
    let (image, kernel, mark) = (dir.join("initrd.gz"), dir.join("vmlinuz"), dir.join("made-by"));
    // Another script or kernel makes another image.
    let made_by = format!("{}\n{}", package.display(), std::fs::read_to_string(&maker).unwrap());
    if std::fs::read_to_string(&mark).ok().as_deref() != Some(&made_by) {
        std::fs::create_dir_all(&dir).unwrap();
        run(Command::new(&maker).arg(&dir).arg(&package));
        std::fs::write(&mark, made_by).unwrap();
    }
    Some((image, kernel))
}
