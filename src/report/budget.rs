//! Limits by which CI judges an image: `--max-size`, `--max-ram`.

use super::data::{Budget, Ram};
use super::units;
use crate::error::Error;

/// The limits that the user set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the image file at most.
    pub max_size: Option<u64>,
    /// The largest allowed minimum RAM, bytes.
    pub max_ram: Option<u64>,
}

impl Limits {
    /// Each limit that was set with the figure that it limits. A limit on memory that is not known counts as exceeded.
    #[must_use]
    pub fn judge(&self, size: u64, ram: Option<&Ram>) -> Vec<Budget> {
        let judged = |what: &str, limit: Option<u64>, actual: u64| {
            limit.map(|limit| Budget { what: what.into(), limit, actual, kept: actual <= limit })
        };
        let minimum = ram.map_or(u64::MAX, |ram| ram.best().value);
        [judged("size", self.max_size, size), judged("ram", self.max_ram, minimum)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Fails with the figures that exceed their limits.
///
/// # Errors
/// [`crate::error::Kind::Failed`], naming each figure and its limit.
pub fn check(budgets: &[Budget]) -> Result<(), Error> {
    let broken: Vec<String> = budgets.iter().filter(|budget| !budget.kept).map(sentence).collect();
    if broken.is_empty() { Ok(()) } else { Err(Error::failed(broken.join("; "))) }
}

/// A limit in words.
pub(super) fn sentence(budget: &Budget) -> String {
    let (name, actual, limit) = if budget.what == "ram" {
        let actual =
            if budget.actual == u64::MAX { "not known".into() } else { units::mebibytes(budget.actual) };
        ("minimum RAM", actual, units::mebibytes(budget.limit))
    } else {
        (
            "size",
            format!("{} ({} bytes)", units::size(budget.actual), units::grouped(budget.actual)),
            format!("{} ({} bytes)", units::size(budget.limit), units::grouped(budget.limit)),
        )
    };
    // How much may still come shows how near the next failure is.
    let left = budget.limit.saturating_sub(budget.actual);
    let left = if budget.what == "ram" { units::mebibytes_down(left) } else { units::size(left) };
    if budget.kept {
        format!("{name} {actual} is within the limit of {limit}: {left} left")
    } else {
        format!("{name} {actual} exceeds the limit of {limit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_figure_that_exceeds_the_limit_is_named() {
        let limits = Limits { max_size: Some(1000), max_ram: None };
        assert!(check(&limits.judge(1000, None)).is_ok());
        let error = check(&limits.judge(1001, None)).unwrap_err();
        assert_eq!(error.kind, Kind::Failed);
        assert_eq!(error.to_string(), "size 1.0 kB (1,001 bytes) exceeds the limit of 1.0 kB (1,000 bytes)");
        let unknown = Limits { max_size: None, max_ram: Some(256 << 20) };
        assert_eq!(
            check(&unknown.judge(0, None)).unwrap_err().to_string(),
            "minimum RAM not known exceeds the limit of 256 MiB"
        );
    }
}
