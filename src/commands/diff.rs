//! `btrsquash diff`.

use btrsquash::cli::Diff;
use btrsquash::error::Error;

/// Not there yet.
///
/// # Errors
/// Always.
pub fn diff(_options: &Diff) -> anyhow::Result<()> {
    Err(Error::usage("not built yet").into())
}
