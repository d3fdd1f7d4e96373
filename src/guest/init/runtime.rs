//! Finds the squashfs and checks that it is intact.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use btrsquash::contract::cmdline::Arguments;
use btrsquash::contract::{Config, checksum, paths};

use super::{media, retained};
use crate::arguments::detail;
use crate::console::{Result, failure};
use crate::modules::Loaded;
use crate::net;

/// Where the squashfs is: a file, or a part of it.
pub(crate) struct Squashfs {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    /// 0 for everything up to the end.
    pub(crate) size: u64,
    /// Whether it came in the image, which has its checksum.
    pub(crate) own: bool,
}

/// Finds the squashfs by `root=` and by what the image was made for.
pub(super) fn find(arguments: &Arguments, config: &Config, loaded: &Loaded) -> Result<Squashfs> {
    let root = arguments.root().unwrap_or_default();
    let live = root.strip_prefix("live:").map(|r| r.strip_prefix("//").unwrap_or(r)).unwrap_or_default();
    if !root.is_empty() && live.is_empty() && !config.retained {
        return Err(failure(
            format!("the command line has root={root}, but this image boots from root=live:…"),
            format!("remove root=, or write {}", paths::ROOT_ARGUMENT),
        ));
    }
    if config.retained && (live.is_empty() || live == "retained") {
        return retained::find();
    }
    if live.starts_with("http:") || live.starts_with("tftp:") {
        return net::fetch(arguments, loaded, live);
    }
    for scheme in ["https:", "ftp:", "nfs:"] {
        if live.starts_with(scheme) {
            return Err(failure(
                format!("root=live:{live}: this boot initramfs fetches by http and tftp only"),
                "convert the image with --front-end dracut --runtime-from URL --drivers net",
            ));
        }
    }
    for (prefix, by_label) in [("LABEL=", true), ("CDLABEL=", true), ("UUID=", false)] {
        if let Some(name) = live.strip_prefix(prefix) {
            return media::matching(arguments, loaded, live, |system| {
                if by_label { system.label == name } else { system.uuid.eq_ignore_ascii_case(name) }
            });
        }
    }
    if live.starts_with("/dev/") {
        let device = PathBuf::from(live);
        return media::on_device(arguments, loaded, live, &mut || device.exists().then(|| device.clone()));
    }
    in_initramfs(live)
}

fn in_initramfs(live: &str) -> Result<Squashfs> {
    let own = Path::new("/").join(paths::SQUASHFS);
    let file = if live.is_empty() { own.clone() } else { PathBuf::from(live) };
    if file.is_file() {
        return Ok(Squashfs { own: file == own, file, offset: 0, size: 0 });
    }
    let hint = if own.is_file() {
        format!("write {}, which exists", paths::ROOT_ARGUMENT)
    } else {
        format!(
            "if the kernel's log says 'Initramfs unpacking failed', give the machine more memory or add {} to the kernel's \
             command line; otherwise the image may be truncated",
            paths::ROOT_ARGUMENT
        )
    };
    Err(failure(format!("root=live:{}: no such file in the initramfs", file.display()), hint))
}

/// Compares a squashfs that came in the image with the checksum it was made with. A squashfs on a disk is not read for
/// that: from a CD it would take minutes.
pub(crate) fn check(arguments: &Arguments, squashfs: &Squashfs) -> Result<()> {
    let text = fs::read_to_string(Path::new("/").join(paths::CHECKSUM)).unwrap_or_default();
    let mut words = text.split_whitespace();
    let expected = words.next().zip(words.next());
    let skipped = arguments.switch(&["rd.live.check"]) == Some(false);
    let Some((size, sum)) = expected.filter(|_| squashfs.own && !skipped) else { return Ok(()) };
    let source = squashfs.file.display();
    let reading = |e: io::Error| failure(format!("reading {source}: {e}"), "test the machine's memory");
    let mut file = File::open(&squashfs.file).map_err(reading)?;
    file.seek(SeekFrom::Start(squashfs.offset)).map_err(reading)?;
    let limit = if squashfs.size == 0 { u64::MAX } else { squashfs.size };
    let (read, found) = checksum::of(&mut file.take(limit)).map_err(reading)?;
    if read.to_string() != size {
        return Err(failure(
            format!("{source} is damaged: it has {read} bytes, expected {size}"),
            "the image may have been truncated while it was copied or loaded: compare its size and checksum with the \
             original's",
        ));
    }
    if format!("{found:016x}") != sum {
        return Err(failure(
            format!("{source} is damaged: its checksum is {found:016x}, expected {sum}"),
            "load the image again and compare its checksum with the original's; rd.live.check=0 skips this check",
        ));
    }
    detail(arguments, "the squashfs is intact");
    Ok(())
}
