//! One machine: how QEMU is called, and its serial console.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::elf;
use crate::error::Error;
use crate::kernel;
use crate::scratch::Process;

/// The machine a kernel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// QEMU's program.
    pub program: &'static str,
    /// Debian's package that holds it.
    pub package: &'static str,
    /// Arguments that choose the board.
    pub board: &'static [&'static str],
    /// The serial console's name in Linux.
    pub console: &'static str,
    /// Memory comes in multiples of so many MiB.
    pub memory_step: u64,
    /// The architecture, as `uname -m` names it.
    pub architecture: &'static str,
}

const X86: Machine = Machine {
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
    board: &[],
    console: "ttyS0",
    memory_step: 1,
    architecture: "x86_64",
};

const MACHINES: [Machine; 8] = [
    X86,
    // The 64-bit machine runs 32-bit kernels too, under KVM as well.
    Machine { architecture: "i686", ..X86 },
    Machine {
        program: "qemu-system-aarch64",
        package: "qemu-system-arm",
        board: &["-M", "virt", "-cpu", "max,pauth=off"],
        console: "ttyAMA0",
        memory_step: 1,
        architecture: "aarch64",
    },
    Machine {
        program: "qemu-system-arm",
        package: "qemu-system-arm",
        // A kernel without LPAE cannot reach the memory above 4 GiB that highmem=on puts the PCI bus into.
        board: &["-M", "virt,highmem=off", "-cpu", "cortex-a15"],
        console: "ttyAMA0",
        memory_step: 1,
        architecture: "arm",
    },
    PSERIES,
    Machine { architecture: "ppc64", ..PSERIES },
    Machine {
        program: "qemu-system-riscv64",
        package: "qemu-system-misc opensbi",
        board: &["-M", "virt"],
        console: "ttyS0",
        memory_step: 1,
        architecture: "riscv64",
    },
    Machine {
        program: "qemu-system-s390x",
        package: "qemu-system-misc",
        board: &["-M", "s390-ccw-virtio"],
        console: "ttysclp0",
        memory_step: 1,
        architecture: "s390x",
    },
];

const PSERIES: Machine = Machine {
    program: "qemu-system-ppc64",
    package: "qemu-system-ppc",
    // Without these, QEMU warns about every mitigation that emulation does not have.
    board: &["-M", "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off"],
    console: "hvc0",
    // SPAPR_MEMORY_BLOCK_SIZE of hw/ppc/spapr.c.
    memory_step: 256,
    architecture: "ppc64le",
};

impl Machine {
    /// Whether the processor that btrsquash runs on can run its kernels, so that KVM may be possible.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let host = elf::host_machine();
        self.architecture == host || (host == "x86_64" && self.architecture == "i686")
    }

    /// Whether it has a second serial port, which is `ttyS1` in Linux.
    #[must_use]
    pub fn has_second_serial(&self) -> bool {
        self.program == X86.program
    }
}

/// The machine for a kernel, by the header of its file.
///
/// # Errors
/// [`crate::error::Kind::Usage`] if the file cannot be read, [`crate::error::Kind::Input`] if it is not a kernel for a
/// machine that is known here.
pub fn machine(kernel: &Path) -> Result<Machine, Error> {
    let architecture = kernel::machine(kernel)?;
    let found = MACHINES.iter().find(|machine| Some(machine.architecture) == architecture);
    found.copied().ok_or_else(|| {
        let known: Vec<&str> = MACHINES.iter().map(|machine| machine.architecture).collect();
        let what = match architecture {
            Some(architecture) => format!("a kernel for {architecture}, which cannot be booted here"),
            None => "not recognized as a kernel".to_owned(),
        };
        Error::input(what)
            .file(kernel)
            .hint(format!("give the kernel that the image is booted with, for one of {}", known.join(", ")))
    })
}

/// How the machine's processor is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accelerator {
    /// `kvm` or `tcg` (emulation).
    pub name: &'static str,
    /// Why this one.
    pub why: String,
}

/// KVM where the kernel really starts under it, emulation otherwise; found out once for each kernel.
///
/// # Errors
/// Where QEMU is missing.
pub fn accelerator(machine: &Machine, kernel: &Path) -> Result<Accelerator, Error> {
    static KNOWN: OnceLock<Mutex<Vec<(PathBuf, Accelerator)>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, accelerator)) = known.iter().find(|(path, _)| path == kernel) {
        return Ok(accelerator.clone());
    }
    let tcg = |why: String| Accelerator { name: "tcg", why };
    let accelerator = if !machine.is_own() {
        tcg(format!("the kernel is for {}, this machine is {}", machine.architecture, elf::host_machine()))
    } else if let Err(e) = File::options().read(true).write(true).open("/dev/kvm") {
        tcg(format!("/dev/kvm cannot be used: {e}"))
    } else {
        // Without an initrd a kernel that starts says so within a second or two; then it panics for want of a root.
        const STARTED: &[u8] = b"Linux version";
        let mut probe = Running::start(machine, "kvm", kernel, None, 256, "panic=-1", &[], None)?;
        let start = Instant::now();
        let mut seen = Vec::new();
        let why = loop {
            let left = Duration::from_secs(8).saturating_sub(start.elapsed());
            match probe.output(left) {
                // A console that never stops must not keep the probe alive.
                Output::Bytes(_) if left.is_zero() => {
                    break Some("the kernel does not start within 8 seconds under KVM");
                }
                Output::Bytes(bytes) => {
                    seen.extend_from_slice(&bytes);
                    seen.drain(..seen.len().saturating_sub(2 * CHUNK));
                    if seen.windows(STARTED.len()).any(|window| window == STARTED) {
                        break None;
                    }
                }
                Output::Ended => break Some("QEMU ends at once under KVM"),
                Output::Nothing => {
                    break Some(
                        "the kernel said nothing within 8 seconds under KVM, so QEMU emulates the CPU",
                    );
                }
            }
        };
        match why {
            None => Accelerator { name: "kvm", why: "the kernel starts under it".into() },
            Some(why) => tcg(why.to_owned()),
        }
    };
    known.push((kernel.to_owned(), accelerator.clone()));
    Ok(accelerator)
}

/// What a console gives.
pub enum Output {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Nothing in that time.
    Nothing,
    /// The end: QEMU is gone.
    Ended,
}

/// Most bytes of the console that are read at once.
const CHUNK: usize = 16 << 10;
/// Most pieces of the console that wait to be looked at.
const CHUNKS: usize = 16;

/// A running machine; killed when it is dropped.
pub struct Running {
    process: Process,
    console: Receiver<Vec<u8>>,
    errors: Option<thread::JoinHandle<String>>,
}

impl Running {
    /// Starts a machine with `mib` of memory. `second` gets the output of a second serial port.
    ///
    /// # Errors
    /// [`crate::error::Kind::Missing`] where QEMU is not installed.
    #[expect(clippy::too_many_arguments, reason = "a machine has that many parts")]
    pub fn start(
        machine: &Machine,
        accelerator: &str,
        kernel: &Path,
        initrd: Option<&Path>,
        mib: u64,
        append: &str,
        more: &[String],
        second: Option<&Path>,
    ) -> Result<Self, Error> {
        let mut arguments: Vec<OsString> = machine.board.iter().map(OsString::from).collect();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        add(&[
            "-accel",
            accelerator,
            "-m",
            &format!("{mib}M"),
            "-display",
            "none",
            "-monitor",
            "none",
            "-no-reboot",
        ]);
        if accelerator == "kvm" {
            add(&["-cpu", "host"]);
        }
        add(&["-nodefaults", "-serial", "stdio"]);
        add(&["-append", &format!("console={} {append}", machine.console)]);
        add(&["-kernel"]);
        arguments.push(kernel.into());
        if let Some(initrd) = initrd {
            arguments.extend(["-initrd".into(), initrd.into()]);
        }
        if let Some(second) = second {
            let mut port = OsString::from("file:");
            port.push(second);
            arguments.extend(["-serial".into(), port]);
        }
        arguments.extend(more.iter().map(OsString::from));
        let mut command = Command::new(machine.program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::missing(format!("{} is not installed", machine.program))
                .hint(format!("apt install {}", machine.package)),
            _ => Error::missing(format!("{} cannot be started", machine.program)).caused_by(e),
        })?;
        // A guest that prints without end waits until its output is read.
        let (send, console) = sync_channel(CHUNKS);
        if let Some(mut stdout) = process.child().stdout.take() {
            let read = move || {
                let mut buffer = [0; CHUNK];
                while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                    if send.send(buffer[..count].to_vec()).is_err() {
                        break;
                    }
                }
            };
            thread::Builder::new().spawn(read).map_err(Error::thread)?;
        }
        let read = |stderr: std::process::ChildStderr| {
            thread::Builder::new().spawn(move || {
                let mut text = Vec::new();
                let _ = stderr.take(64 << 10).read_to_end(&mut text);
                String::from_utf8_lossy(&text).trim().to_owned()
            })
        };
        let errors = process.child().stderr.take().map(read).transpose().map_err(Error::thread)?;
        Ok(Self { process, console, errors })
    }

    /// The next output, waited for as long as `patience`. [`Output::Nothing`] if that is zero, however much there is: a
    /// caller with a deadline is not kept beyond it.
    pub fn output(&mut self, patience: Duration) -> Output {
        if patience.is_zero() {
            return Output::Nothing;
        }
        match self.console.recv_timeout(patience) {
            Ok(bytes) => Output::Bytes(bytes),
            Err(RecvTimeoutError::Timeout) => Output::Nothing,
            Err(RecvTimeoutError::Disconnected) => Output::Ended,
        }
    }

    /// How QEMU ended, with its own words, once its console is closed.
    pub fn end_in_place(&mut self) -> String {
        let status = self.process.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        if errors.is_empty() { status } else { format!("{status}: {errors}") }
    }
}
