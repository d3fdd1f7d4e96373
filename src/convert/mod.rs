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
pub mod split;

pub use request::{FrontEndChoice, Layout, Request, Stage, Watch};

use crate::initrd;
use crate::report::Conversion;

/// Converts an image. The report says what was done; with [`Request::dry_run`] nothing is written.
///
/// # Errors
/// [`crate::error::Error`] somewhere in the chain decides the exit code.
pub fn convert(request: &Request, watch: Watch) -> anyhow::Result<Conversion> {
    let old = initrd::open(&request.old)?;
    let prepared = preflight::prepare(request, &old, watch)?;
    if request.dry_run {
        return Ok(result::dry_run(request, &prepared)?);
    }
    let built = build::build(request, &prepared, watch)?;
    watch(Stage::Write, 0, 0);
    let mut output = assemble::write(request, &old, &prepared, &built)?;
    // Whatever fails has to fail before a file gets its name.
    let report = result::done(request, &prepared, &built, &mut output)?;
    output.commit()?;
    Ok(report)
}
