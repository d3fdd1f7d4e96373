//! To come.
use crate::error::Error;
use crate::spool::ReadAt;
use crate::tree::Tree;
use std::path::Path;
use std::sync::Arc;
/// Reads.
///
/// # Errors
/// always
pub fn read(_source: Arc<dyn ReadAt>, _name: &Path) -> Result<Tree, Error> {
    Err(Error::input(""))
}
/// Verifies.
///
/// # Errors
/// always
pub fn verify_data(_tree: &Tree) -> Result<(), Error> {
    Ok(())
}
