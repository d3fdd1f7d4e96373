//! `btrsquash verify`.

use btrsquash::cli::Verify;
use btrsquash::error::Error;

/// Not there yet.
///
/// # Errors
/// Always.
pub fn verify(_options: &Verify) -> anyhow::Result<()> {
    Err(Error::usage("not built yet").into())
}
