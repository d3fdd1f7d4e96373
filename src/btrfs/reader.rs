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
/// Whether `source` holds a btrfs file system: its magic number is there.
#[must_use]
pub fn is_btrfs(source: &dyn ReadAt) -> bool {
    let mut m = [0; 8];
    source.read_exact_at(&mut m, super::disk::SUPER_OFFSET + 64).is_ok() && &m == super::disk::MAGIC
}
