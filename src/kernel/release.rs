//! Kernel releases: the one place that parses and compares them.

use std::fmt;

/// The numbers of a kernel release such as `6.1.0-50-amd64`, ordered as the releases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Release {
    /// The release with these numbers.
    pub(crate) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Parses a release as `uname -r` prints it. `None` if it does not begin with a number.
    ///
    /// Missing numbers count as 0. Only 2.6.x depends on the third: in `5-rc1` and `6.1-x86` it comes from the suffix,
    /// which does no harm.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().ok());
        let major = numbers.next()??;
        let minor = numbers.next().flatten().unwrap_or(0);
        Some(Self { major, minor, patch: numbers.next().flatten().unwrap_or(0) })
    }

    /// Whether the release `text` is known to be this one or a later one.
    pub(crate) fn reached_by(self, text: &str) -> bool {
        Self::parse(text).is_some_and(|release| release >= self)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        // From 3.0 on the third number is that of the stable update.
        if self.major < 3 || self.patch > 0 { write!(f, ".{}", self.patch) } else { Ok(()) }
    }
}

/// Whether `name` can be a kernel release, as `uname -r` prints it and lib/modules has it as a directory.
pub(super) fn is_release(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_digit())
        && name.len() <= 128
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~-:@".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_parsed_and_ordered() {
        let parse = |text| Release::parse(text);
        assert_eq!(parse("6.1.0-50-amd64"), Some(Release::new(6, 1, 0)));
        assert_eq!(parse("6.12.117+deb13-amd64"), Some(Release::new(6, 12, 117)));
        assert_eq!(parse("2.6.38.8-35.fc15"), Some(Release::new(2, 6, 38)));
        assert_eq!(parse("6.8-rc1"), Some(Release::new(6, 8, 0)));
        assert_eq!(parse("3.4"), Some(Release::new(3, 4, 0)));
        assert_eq!((parse(""), parse("nonsense")), (None, None));
        assert!(Release::new(2, 6, 38) < Release::new(3, 0, 0));
        assert!(Release::new(6, 8, 0).reached_by("6.12.1") && !Release::new(6, 8, 0).reached_by("6.7.12"));
        assert!(!Release::new(2, 6, 0).reached_by("nonsense"));
    }

    #[test]
    fn releases_are_shown_as_people_write_them() {
        let shown = |a, b, c| Release::new(a, b, c).to_string();
        assert_eq!((shown(2, 6, 38).as_str(), shown(3, 19, 0).as_str()), ("2.6.38", "3.19"));
        assert_eq!(shown(6, 1, 176), "6.1.176");
    }
}
