//! `btrsquash inspect`.

use btrsquash::cli::Inspect;
use btrsquash::error::Error;

/// Not there yet.
///
/// # Errors
/// Always.
pub fn inspect(_options: &Inspect) -> anyhow::Result<()> {
    Err(Error::usage("not built yet").into())
}
