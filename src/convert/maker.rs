//! What makes the boot initramfs: dracut, btrsquash itself, or the user.

use std::path::{Path, PathBuf};

use super::choices::{Choice, FrontEndKind, FrontEndReason};
use super::kept::Kept;
use super::request::{FrontEndChoice, Request};
use crate::bytes::read_regular;
use crate::contract::RuntimeFrom;
use crate::elf;
use crate::error::Error;
use crate::frontend::{self, built_in, dracut};
use crate::initrd::{self, Initrd};

/// What makes the boot initramfs.
pub(super) enum Maker {
    Dracut(dracut::Dracut),
    BuiltIn,
    File(Box<ReadyMade>),
    /// The old initramfs stays.
    Kept(Box<Kept>),
}

/// A boot initramfs given by the user.
pub(super) struct ReadyMade {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) image: Initrd,
}

/// The boot initramfs that the user gives, if any.
pub(super) fn ready_made(request: &Request) -> Result<Option<ReadyMade>, Error> {
    match &request.front_end {
        FrontEndChoice::File(path) => read(path, &request.limits).map(Some),
        _ => Ok(None),
    }
}

/// Fails if the boot initramfs that was asked for cannot reach the runtime, before any kernel is looked for.
pub(super) fn check_request(request: &Request) -> Result<(), Error> {
    match &request.front_end {
        FrontEndChoice::Auto => Ok(()),
        FrontEndChoice::BuiltIn => built_in::check_runtime(&request.runtime),
        FrontEndChoice::Dracut { .. } | FrontEndChoice::File(_) => dracut::check_runtime(&request.runtime),
    }
}

/// Chooses what makes the boot initramfs for kernels of this machine, and fails if it cannot.
pub(super) fn choose(
    request: &Request,
    machine: &str,
    ready: Option<ReadyMade>,
    kept: Option<Kept>,
) -> Result<(Maker, Choice), Error> {
    if let Some(kept) = kept {
        built_in::check(machine)?;
        let reason = FrontEndReason::SystemInside(kept.inside.path.clone());
        return Ok((Maker::Kept(Box::new(kept)), Choice::FrontEnd(FrontEndKind::Kept, reason)));
    }
    let (maker, choice) = if let Some(ready) = ready {
        frontend::check_machine(&ready.image.tree, machine, &ready.path.display().to_string())?;
        let kind = FrontEndKind::ReadyMade(ready.path.clone());
        (Maker::File(Box::new(ready)), Choice::FrontEnd(kind, FrontEndReason::Requested))
    } else {
        choose_builder(request, machine)?
    };
    match &maker {
        Maker::BuiltIn | Maker::Kept(_) => built_in::check_runtime(&request.runtime)?,
        Maker::Dracut(_) | Maker::File(_) => dracut::check_runtime(&request.runtime)?,
    }
    Ok((maker, choice))
}

fn choose_builder(request: &Request, machine: &str) -> Result<(Maker, Choice), Error> {
    let built_in = |why| {
        built_in::check(machine)?;
        Ok((Maker::BuiltIn, Choice::FrontEnd(FrontEndKind::BuiltIn, why)))
    };
    let by_dracut = |found: dracut::Dracut, why| {
        let kind = FrontEndKind::Dracut(found.version.clone());
        (Maker::Dracut(found), Choice::FrontEnd(kind, why))
    };
    let host = elf::host_machine();
    if request.front_end == FrontEndChoice::Auto
        && let Some(goal) = request.optimize
        && reaches(request, machine)
    {
        return built_in(FrontEndReason::Optimized(goal));
    }
    match &request.front_end {
        FrontEndChoice::Dracut { root } => {
            Ok(by_dracut(dracut::find(root.as_deref(), machine)?, FrontEndReason::Requested))
        }
        FrontEndChoice::BuiltIn | FrontEndChoice::File(_) => built_in(FrontEndReason::Requested),
        FrontEndChoice::Auto if request.runtime == RuntimeFrom::Retained => {
            built_in(FrontEndReason::Retained)
        }
        FrontEndChoice::Auto
            if matches!(request.runtime, RuntimeFrom::Network(_)) && reaches(request, machine) =>
        {
            built_in(FrontEndReason::Fetches)
        }
        FrontEndChoice::Auto if !elf::runs(machine, host) => {
            built_in(FrontEndReason::OtherMachine { kernel: machine.to_owned(), host })
        }
        FrontEndChoice::Auto => match dracut::find(None, machine) {
            Ok(found) => Ok(by_dracut(found, FrontEndReason::HostHasDracut)),
            Err(missing) => built_in(FrontEndReason::NoDracut(missing.what.clone()))
                .map_err(|e| Error { hint: missing.hint.clone().or_else(|| e.hint.clone()), ..e }),
        },
    }
}

/// Whether the built-in boot initramfs is there for this machine and reaches the runtime.
pub(super) fn reaches(request: &Request, machine: &str) -> bool {
    built_in::check(machine).and_then(|()| built_in::check_runtime(&request.runtime)).is_ok()
}

/// The largest boot initramfs that a user may give, in bytes: it is kept in memory.
const MAX_FRONT_END: u64 = 512 << 20;

/// Reads a boot initramfs given by the user. It is kept byte for byte; reading it shows that the kernel can unpack it.
fn read(path: &Path, limits: &initrd::Limits) -> Result<ReadyMade, Error> {
    let bytes = read_regular(path, MAX_FRONT_END).map_err(|e| Error::unreadable(e).file(path))?;
    let limits = initrd::Limits { accept_partial: false, ..*limits };
    let image = initrd::read(&bytes, path, &limits, &|_| ())?;
    if image.tree.resolve("init").is_none() {
        return Err(Error::input("has no /init for the kernel to start")
            .file(path)
            .hint("give a complete initramfs, such as dracut --add dmsquash-live makes"));
    }
    Ok(ReadyMade { path: path.to_owned(), bytes, image })
}
