//! `btrsquash verify`.

use std::process::ExitCode;

use crate::cli::args::Verify;
use btrsquash::extract::Selection;
use btrsquash::report::{Report, from};
use btrsquash::{compare, initrd};

use super::diff::open;
use super::output::print;
use super::progress::Progress;

/// Proves that a converted image holds the system of the old one; exit code 1 where it does not.
///
/// # Errors
/// Those of reading the images.
pub fn verify(options: &Verify) -> anyhow::Result<ExitCode> {
    let allowed = (!options.allow.is_empty()).then(|| Selection::new(&options.allow)).transpose()?;
    let limits = initrd::Limits { max_unpacked: options.limits.max_unpacked, accept_partial: false };
    let partial = initrd::Limits { accept_partial: options.accept_partial, ..limits };
    let progress = Progress::new(false);
    let old = open(&options.old, "reading the old image", &partial, &progress)?;
    let new = open(&options.new, "reading the new image", &limits, &progress)?;
    progress.bytes("verifying", 0, 0);
    let mut found = compare::verify(&old, &new)?;
    if let Some(allowed) = &allowed {
        found.allow(allowed);
    }
    let verification = from::verification(&old, &new, &found);
    drop(progress);
    print(&Report::Verification(&verification), options.show)?;
    // Differences are the result, not an error.
    Ok(ExitCode::from(u8::from(!verification.holds)))
}
