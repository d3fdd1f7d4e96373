//! The packages of an image.

use super::*;
use crate::packages::Basis;
use crate::report::data::{PackageSize, PackageTotals, share};

/// What the packages cost, the largest in the image first. Text lists `rows` of them, pages and JSON all.
pub(super) fn packages_section(
    page: &mut Document,
    packages: &[PackageSize],
    totals: Option<&PackageTotals>,
    rows: usize,
) {
    let Some(totals) = totals else { return };
    page.section("Packages");
    let sized = || packages.iter().filter(|package| package.image_bytes > 0);
    if sized().next().is_some() {
        page.text(sentence(packages, totals));
    }
    let columns = ["package", "version", ">in the image", ">share", ">unpacked"];
    let mut table = Table::new("Packages", &columns).limited(rows);
    for package in sized() {
        table.row([
            package.name.clone().into(),
            package.version.clone().into(),
            size(package.image_bytes).into(),
            percent(share(package.image_bytes, totals.total_bytes)).into(),
            size(package.bytes).into(),
        ]);
    }
    page.table(table);
    page.list(totals.notes.clone());
}

/// Where the bytes of the image are.
fn sentence(packages: &[PackageSize], totals: &PackageTotals) -> String {
    let how = match totals.basis {
        Basis::Blocks => "shared out by squashfs block",
        Basis::Segments => "estimated from the compressed size of each segment",
        Basis::Plain => "not compressed",
    };
    format!(
        "{} hold the system ({how}): {} {}, files of no package {}, file system structures {}",
        size(totals.total_bytes),
        count(packages.len() as u64, "package"),
        size(packages.iter().map(|package| package.image_bytes).sum()),
        size(totals.no_package.image_bytes),
        size(totals.structure_bytes),
    )
}
