//! Turns a monolithic initrd into a btrfs-in-squashfs live image that needs much less RAM.
//!
//! [`convert`] reads the old image and checks that all of it can be converted before the slow work begins, builds the
//! runtime and the boot initramfs, assembles the new image, and reports what was done.

mod assemble;
mod build;
mod choices;
mod delivery;
mod kept;
pub mod layout;
mod maker;
mod preflight;
mod request;
mod result;
mod tuning;

use std::io::Write;

pub use choices::{BlockReason, Choice, FormatReason, FrontEndKind, FrontEndReason};
pub use request::{FrontEndChoice, Goal, Layout, Request, Stage, Watch};
pub use result::{Conversion, FrontEndPart, ModuleSize, New, Note, Old, RuntimeFacts, Stored, Verified};

use crate::bytes::pieces;
use crate::container::{self, Input};
use crate::error::{Error, Kind};
use crate::output::OutputFile;
use crate::scratch::Directory;

/// Converts an image. Returns what was done and the files that were written. They have no names until
/// [`crate::output::commit`] gives them theirs, together with any other file that is to appear with them or not at all.
/// With [`Request::dry_run`] nothing is written.
///
/// # Errors
/// [`crate::error::Error`] somewhere in the chain decides the exit code.
pub fn convert(request: &Request, watch: Watch) -> anyhow::Result<(Conversion, Vec<OutputFile>)> {
    let inputs: Vec<_> = std::iter::once(&request.old).chain(&request.more).cloned().collect();
    let input = container::open(&inputs, &request.limits)?;
    let (request, _directory) = with_kernel(request, &input)?;
    let request = &request;
    let prepared = preflight::prepare(request, &input, watch)?;
    if request.dry_run {
        return Ok((result::dry_run(request, prepared), Vec::new()));
    }
    let built = build::build(request, &prepared, watch)?;
    watch(Stage::Write, 0, 0);
    let mut output = assemble::write(request, &prepared, &built)?;
    #[cfg(debug_assertions)]
    assemble::flip_for_a_test(&mut output)?;
    if request.read_back {
        watch(Stage::ReadBack, 0, 0);
        assemble::read_back(request, &built, &mut output)?;
    }
    if request.verify {
        watch(Stage::Verify, 0, 0);
    }
    let conversion = result::done(request, &input, prepared, built, &mut output)?;
    input.check_unchanged()?;
    Ok((conversion, output.files()))
}

/// The request with the kernel that comes with the initrd, unless the user named one; it is in the directory.
fn with_kernel(request: &Request, input: &Input) -> Result<(Request, Option<Directory>), Error> {
    let mut request = request.clone();
    let Some(kernel) = input.kernel.as_ref().filter(|_| request.kernel.is_none()) else {
        return Ok((request, None));
    };
    let directory = Directory::new(None).map_err(Error::temporary)?;
    let path = directory.path().join("linux");
    let mut file = std::fs::File::create(&path).map_err(Error::temporary)?;
    pieces(kernel.as_ref(), 0..kernel.len(), |bytes| file.write_all(bytes))
        .map_err(|e| Error::new(Kind::Io, "the kernel cannot be copied").caused_by(e).file(&path))?;
    request.kernel = Some(path);
    Ok((request, Some(directory)))
}
