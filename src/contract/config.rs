//! What an image was made to do: the file [`paths::CONFIG`](super::paths::CONFIG).

use std::fmt;

/// The version of the image format that this btrsquash writes. Images of format 1 (made during the development of 0.1.0) have no such line.
pub const FORMAT: u32 = 2;

/// What made the boot initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontEnd {
    /// btrsquash itself.
    BuiltIn,
    /// dracut, with btrsquash's program in its hooks.
    Dracut,
}

/// What makes the read-only runtime writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// A device-mapper snapshot of the btrfs image.
    DeviceMapper,
    /// overlayfs on the file system, which is mounted read-only.
    Overlayfs,
}

/// How the init of the runtime expects to find the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// It mounts /proc, /sys, /dev and /run itself: all are unmounted before it starts.
    Bare,
    /// It is systemd or an ordinary /sbin/init: /proc, /sys, /dev and /run stay mounted.
    Mounted,
}

/// What the squashfs holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RuntimeFormat {
    /// A btrfs image with the runtime, [`paths::ROOTFS`](super::paths::ROOTFS).
    #[default]
    Btrfs,
    /// The runtime itself.
    Squashfs,
}

/// Where the boot initramfs finds the squashfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeFrom {
    /// In the initramfs, as /squashfs.img.
    Initramfs,
    /// In the initrd that the boot loader placed in memory (`retain_initrd`, /sys/firmware/initrd), never copied.
    Retained,
    /// At an `http://`, `https://`, `ftp://`, `tftp://` or `nfs:` address.
    Network(String),
    /// On a disk or CD with this label.
    Label(String),
    /// On a disk or CD with this file system UUID.
    Uuid(String),
}

/// The configuration of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Version of the image format; 1 without a line that says so.
    pub format: u32,
    /// What made the boot initramfs.
    pub front_end: FrontEnd,
    /// The overlay to use unless the command line asks for the other one.
    pub overlay: Overlay,
    /// How to hand over.
    pub handover: Handover,
    /// Whether the squashfs is read in the retained initrd.
    pub retained: bool,
    /// What the squashfs holds.
    pub runtime: RuntimeFormat,
    /// The init of the runtime, an absolute path.
    pub init: String,
    /// Its arguments, in place of those that the kernel gives.
    pub arguments: Vec<String>,
    /// Its environment, besides what the kernel gives: names and values.
    pub environment: Vec<(String, String)>,
    /// The file of the initramfs, an absolute path, that has its content in the retained squashfs: the initramfs is then
    /// the old one, whose init mounts the file.
    pub in_place: Option<String>,
    /// The time of this file and of every entry named in [`paths::OWN`](super::paths::OWN), seconds since 1970.
    pub time: Option<i64>,
}

impl Config {
    /// Reads `key=value` lines. Unknown keys are ignored, so that a newer btrsquash can add some.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let values = |key: &'static str| {
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.filter(move |(k, _)| *k == key).map(|(_, value)| value)
        };
        let value = |key| values(key).next();
        Self {
            format: value("format").and_then(|n| n.parse().ok()).unwrap_or(1),
            front_end: if value("front-end") == Some("dracut") {
                FrontEnd::Dracut
            } else {
                FrontEnd::BuiltIn
            },
            overlay: if value("overlay") == Some("overlayfs") {
                Overlay::Overlayfs
            } else {
                Overlay::DeviceMapper
            },
            handover: if value("handover") == Some("mounted") { Handover::Mounted } else { Handover::Bare },
            retained: value("runtime") == Some("retained"),
            runtime: match value("runtime-format") {
                Some("squashfs") => RuntimeFormat::Squashfs,
                _ => RuntimeFormat::Btrfs,
            },
            init: value("init").unwrap_or("/init").to_owned(),
            arguments: values("argument").map(str::to_owned).collect(),
            environment: values("environment")
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            in_place: value("in-place").map(str::to_owned),
            time: value("time").and_then(|n| n.parse().ok()),
        }
    }

    /// Whether modification times show what was appended: `written` is that of the configuration file in the initramfs.
    /// A kernel without CONFIG_INITRAMFS_PRESERVE_MTIME gives every file the time of the boot.
    #[must_use]
    pub fn times_are_kept(&self, written: i64) -> bool {
        self.time == Some(written)
    }
}

impl fmt::Display for Config {
    /// The text of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let front_end = match self.front_end {
            FrontEnd::BuiltIn => "built-in",
            FrontEnd::Dracut => "dracut",
        };
        let overlay = match self.overlay {
            Overlay::DeviceMapper => "dm",
            Overlay::Overlayfs => "overlayfs",
        };
        let handover = match self.handover {
            Handover::Bare => "bare",
            Handover::Mounted => "mounted",
        };
        let format = match self.runtime {
            RuntimeFormat::Btrfs => "btrfs",
            RuntimeFormat::Squashfs => "squashfs",
        };
        writeln!(f, "format={}\nfront-end={front_end}\noverlay={overlay}\nhandover={handover}", self.format)?;
        writeln!(f, "runtime={}", if self.retained { "retained" } else { "live" })?;
        // A line break in the path would start another line; the makers of boot initramfs refuse such paths.
        writeln!(f, "runtime-format={format}\ninit={}", self.init.replace('\n', ""))?;
        for argument in &self.arguments {
            writeln!(f, "argument={argument}")?;
        }
        for (name, value) in &self.environment {
            writeln!(f, "environment={name}={value}")?;
        }
        if let Some(path) = &self.in_place {
            writeln!(f, "in-place={path}")?;
        }
        self.time.map_or(Ok(()), |time| writeln!(f, "time={time}"))
    }
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeviceMapper => "device-mapper snapshot",
            Self::Overlayfs => "overlayfs",
        })
    }
}

impl fmt::Display for RuntimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Btrfs => "btrfs",
            Self::Squashfs => "squashfs",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_as_it_was_written() {
        for (number, runtime) in [(0, RuntimeFormat::Btrfs), (1, RuntimeFormat::Squashfs)] {
            let config = Config {
                format: FORMAT,
                front_end: if number == 0 { FrontEnd::BuiltIn } else { FrontEnd::Dracut },
                overlay: if number == 0 { Overlay::DeviceMapper } else { Overlay::Overlayfs },
                handover: if number == 0 { Handover::Bare } else { Handover::Mounted },
                retained: number == 0,
                runtime,
                init: "/sbin/init".into(),
                arguments: (0..number).map(|n| format!("a={n} b")).collect(),
                environment: (0..number).map(|n| (format!("A{n}"), "x=y z".to_owned())).collect(),
                in_place: (number == 1).then(|| "/root.squashfs".to_owned()),
                time: Some(7),
            };
            assert_eq!(Config::parse(&config.to_string()), config);
        }
    }

    #[test]
    fn images_of_format_1_say_less() {
        let config = Config::parse("overlay=dm\nhandover=mounted\nruntime=live\ninit=/init\n");
        assert_eq!((config.format, config.handover, config.time), (1, Handover::Mounted, None));
        assert!(!config.times_are_kept(0));
    }
}
