//! The kernel's command line, as dracut and the built-in boot initramfs read it.

/// Says how many bytes the boot initramfs fetches. Only the RAM model reads it; dracut and the kernel skip unknown words.
pub const FETCHED: &str = "btrsquash.fetched=";
/// Says how many bytes the squashfs has that the boot loader loads together with the image, as one more archive.
pub const LOADED_TOGETHER: &str = "btrsquash.beside=";
/// Says how a squashfs outside the image is packed: compression and block size in bytes (`xz,262144`), for the RAM model.
pub const PACKING: &str = "btrsquash.packing=";

/// Values of `root=` that old boot entries of monolithic images have. None of them ever named a root file system: the
/// kernel does not look for one when the initramfs has an init.
#[must_use]
pub fn names_no_root(root: &str) -> bool {
    let device = root.split([' ', ',']).next().unwrap_or_default();
    let ram = device.strip_prefix("/dev/ram").or_else(|| device.strip_prefix("/dev/rd/"));
    matches!(device, "" | "ramfs" | "rootfs" | "tmpfs" | "none")
        || ram.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
        // The number of /dev/ram0, as rdev wrote it: 1:0.
        || matches!(device, "0x100" | "0100" | "1:0")
}

/// The arguments in order. Several parts are read one after the other, and the last value of a name wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments(Vec<(String, Option<String>)>);

impl Arguments {
    /// Splits `text` into arguments. Double quotes keep blanks together, as in the kernel's parser (lib/cmdline.c,
    /// `next_arg`); a line break ends an argument in any case.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut arguments = Vec::new();
        let (mut word, mut quoted) = (String::new(), false);
        for c in text.chars().chain(['\n']) {
            match c {
                '"' => quoted = !quoted,
                c if c.is_whitespace() && !quoted || c == '\n' => {
                    quoted = false;
                    if !word.is_empty() {
                        arguments.push(match word.split_once('=') {
                            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                            None => (word.clone(), None),
                        });
                    }
                    word.clear();
                }
                c => word.push(c),
            }
        }
        Self(arguments)
    }

    /// The last value of `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name)?.1.as_deref()
    }

    /// The values of `name`, which may be given several times, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).filter_map(|(_, value)| value.as_deref())
    }

    /// The value of `root=`: the last one that names a root file system.
    #[must_use]
    pub fn root(&self) -> Option<&str> {
        let roots =
            self.0.iter().rev().filter(|(name, _)| name == "root").filter_map(|(_, value)| value.as_deref());
        let mut roots = roots.filter(|root| !names_no_root(root));
        roots.next()
    }

    /// Whether `name` is given and not 0, no or off (dracut's `getargbool`).
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.switch(&[name]) == Some(true)
    }

    /// The value of the last of `names`, which are old and new names of one option: the image's own part of the
    /// command line may have one and the user another.
    #[must_use]
    pub fn switch(&self, names: &[&str]) -> Option<bool> {
        let (_, value) = self.0.iter().rev().find(|(n, _)| names.contains(&n.as_str()))?;
        Some(!matches!(value.as_deref(), Some("0" | "no" | "off")))
    }

    /// Whether `name` is given at all.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_wins_and_quotes_keep_blanks() {
        let read = Arguments::parse("root=live:/a quiet\nroot=\"live:LABEL=my disk\" x=1 x");
        assert_eq!(read.value("root"), Some("live:LABEL=my disk"));
        assert_eq!((read.value("x"), read.has("x"), read.has("y")), (None, true, false));
        assert_eq!(Arguments::parse("a=\"b\nc").value("a"), Some("b"));
    }

    #[test]
    fn switches_go_by_the_last_of_their_names() {
        let read = Arguments::parse("rd.live.overlay.overlayfs=0 rd.overlay=1");
        assert_eq!(read.switch(&["rd.live.overlay.overlayfs", "rd.overlay"]), Some(true));
        assert_eq!(read.switch(&["rd.live.overlay.overlayfs"]), Some(false));
        assert!(read.is_set("rd.overlay") && !read.is_set("rd.debug"));
    }

    #[test]
    fn old_boot_entries_name_no_root() {
        for root in
            ["/dev/ram0", "/dev/ram", "/dev/ram0,rw", "/dev/rd/0", "ramfs", "tmpfs", "", "0x100", "1:0"]
        {
            assert!(names_no_root(root), "{root}");
            let both = Arguments::parse(&format!("root=live:/squashfs.img root={root} rw"));
            assert_eq!(both.root(), Some("live:/squashfs.img"), "{root}");
        }
        assert!(!names_no_root("/dev/ramdisk") && !names_no_root("/dev/sda1") && !names_no_root("live:/x"));
        assert_eq!(Arguments::parse("root=/dev/ram0").root(), None);
    }
}
