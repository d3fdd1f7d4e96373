//! Packages → their sizes.

use crate::packages::{Accounts, Packages};
use crate::report::data::PackageSize;

/// The packages of an image, the largest in it first.
#[must_use]
pub fn package_sizes(packages: &Packages, accounts: &Accounts) -> Vec<PackageSize> {
    let mut sizes: Vec<PackageSize> = packages
        .list
        .iter()
        .zip(&accounts.packages)
        .map(|(package, usage)| PackageSize {
            name: package.name.clone(),
            version: package.version.clone(),
            bytes: usage.bytes,
            image_bytes: usage.stored_bytes(),
        })
        .collect();
    // Stable: equal sizes stay in the order of names.
    sizes.sort_by_key(|package| std::cmp::Reverse(package.image_bytes));
    sizes
}
