//! Packages of two images, by name.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::image::Opened;
use crate::packages::{PackageMap, Packages, Shares};

/// A package in one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSide {
    /// Its version; of a package in several architectures the first.
    pub version: String,
    /// Bytes of the content of its files.
    pub bytes: u64,
    /// Bytes of the image that hold it.
    pub image_bytes: u64,
}

/// A package in both images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// In the old image, if it is there.
    pub old: Option<PackageSide>,
    /// In the new image, if it is there.
    pub new: Option<PackageSide>,
}

/// The packages of one image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PackageList {
    /// By name.
    packages: BTreeMap<String, PackageSide>,
    /// Whether some packages have a list of files: without any, all sizes are 0.
    pub sizes: bool,
}

/// The packages of two images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageComparison {
    /// All packages of either image, by name.
    pub packages: Vec<PackageChange>,
    /// Whether the sizes of both sides are known.
    pub sizes: bool,
}

fn list(image: &Opened, shares: &Shares, map: Option<&PackageMap>) -> Result<PackageList, Error> {
    let packages = Packages::read(&image.system, map).map_err(|e| e.or_file(&image.name))?;
    let accounts = shares.accounts(&image.system, &packages);
    let mut list = PackageList { sizes: packages.with_files > 0, ..PackageList::default() };
    for (package, usage) in packages.list.into_iter().zip(&accounts.packages) {
        let side = list.packages.entry(package.name).or_insert(PackageSide {
            version: package.version,
            bytes: 0,
            image_bytes: 0,
        });
        side.bytes += usage.bytes;
        side.image_bytes += usage.stored_bytes();
    }
    Ok(list)
}

/// Compares the packages of two images, each with what its files take in it; `None` if neither has any.
///
/// # Errors
/// If a package database cannot be read.
pub(super) fn packages(
    (old, old_shares): (&Opened, &Shares),
    (new, new_shares): (&Opened, &Shares),
    map: Option<&PackageMap>,
) -> Result<Option<PackageComparison>, Error> {
    let (mut old, new) = (list(old, old_shares, map)?, list(new, new_shares, map)?);
    let sizes = old.sizes && new.sizes;
    let mut all: Vec<PackageChange> = new
        .packages
        .into_iter()
        .map(|(name, side)| PackageChange { old: old.packages.remove(&name), new: Some(side), name })
        .collect();
    all.extend(old.packages.into_iter().map(|(name, side)| PackageChange {
        name,
        old: Some(side),
        new: None,
    }));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((!all.is_empty()).then_some(PackageComparison { packages: all, sizes }))
}
