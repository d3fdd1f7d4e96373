//! Turns a monolithic initrd into a btrfs-in-squashfs live image that needs much less RAM.
//!
//! [`convert`] reads the old image and checks that all of it can be converted before the slow work begins, builds the
//! runtime and the boot initramfs, assembles the new image, and reports what was done.

mod assemble;
mod build;
mod choices;
mod delivery;
pub mod layout;
mod preflight;
mod request;
mod result;

pub use choices::{Choice, FrontEndKind, FrontEndReason};
pub use request::{FrontEndChoice, Layout, Request, Stage, Watch};
pub use result::{Conversion, FrontEndPart, ModuleSize, New, Note, Old};

/// Converts an image. The result says what was done; with [`Request::dry_run`] nothing is written.
///
/// # Errors
/// [`crate::error::Error`] somewhere in the chain decides the exit code.
pub fn convert(request: &Request, watch: Watch) -> anyhow::Result<Conversion> {
    let prepared = preflight::prepare(request, watch)?;
    if request.dry_run {
        return Ok(result::dry_run(request, prepared));
    }
    let built = build::build(request, &prepared, watch)?;
    watch(Stage::Write, 0, 0);
    let mut output = assemble::write(request, &prepared, &built)?;
    // Whatever fails has to fail before a file gets its name.
    let conversion = result::done(request, prepared, built, &mut output)?;
    output.commit()?;
    Ok(conversion)
}
