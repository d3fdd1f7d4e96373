//! The built-in boot initramfs: its init.
//!
//! It mounts the runtime (squashfs, loop device, btrfs, device-mapper snapshot or overlayfs), lays appended files over it,
//! frees the initramfs and starts the runtime's init. It reads the same arguments on the command line as dracut's
//! dmsquash-live.

mod identify;
mod in_place;
mod media;
pub(crate) mod mount;
mod retained;
pub(crate) mod runtime;

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::time::Duration;

use btrsquash::contract::cmdline::Arguments;
use btrsquash::contract::{Overlay, RuntimeFormat};

use crate::arguments::detail;
use crate::carry::Image;
use crate::console::{Failure, Result, failed, say};
use crate::handover::{self, Start};
use crate::{appended, arguments, modules, sys};

/// Boots the runtime.
pub(crate) fn run() -> ! {
    let Err(Failure { what, hint }) = boot();
    give_up(&what, &hint)
}

/// Says why the boot cannot continue, and ends. The kernel panics when its init ends, and `panic=` on the command line says
/// what happens then.
pub(crate) fn give_up(what: &str, hint: &str) -> ! {
    say(&format!("cannot continue: {what}"));
    say(&format!("try: {hint}"));
    sys::flush();
    // The panic scrolls the message away.
    std::thread::sleep(Duration::from_secs(3));
    std::process::exit(1);
}

fn boot() -> Result<Infallible> {
    let mut made = Vec::new();
    for (source, target, kind, flags, data) in [
        ("proc", "/proc", "proc", sys::MS_NOSUID | sys::MS_NOEXEC | sys::MS_NODEV, ""),
        ("sysfs", "/sys", "sysfs", sys::MS_NOSUID | sys::MS_NOEXEC | sys::MS_NODEV, ""),
        ("devtmpfs", "/dev", "devtmpfs", sys::MS_NOSUID | sys::MS_STRICTATIME, "mode=0755"),
    ] {
        if fs::create_dir(target).is_ok() {
            made.push(target);
        }
        sys::mount_at(source, target, kind, flags, data).map_err(failed(
            format!("mounting {kind} on {target}"),
            "use a kernel with proc, sysfs and devtmpfs",
        ))?;
    }
    let arguments = arguments::read();
    let image = Image::read(Path::new("/"));
    if let Some(path) = &image.config.in_place {
        return in_place::start(&arguments, path, &made, &modules::load(true));
    }
    explain_ignored(&arguments);
    let overlayfs = image.config.runtime == RuntimeFormat::Squashfs
        || arguments::overlayfs(&arguments).unwrap_or(image.config.overlay == Overlay::Overlayfs);
    let mut loaded = modules::load(overlayfs);
    for name in &loaded.names {
        detail(&arguments, format!("loaded {name}"));
    }
    let squashfs = runtime::find(&arguments, &image.config, &loaded)?;
    runtime::check(&arguments, &squashfs)?;
    mount::runtime(&arguments, &squashfs, image.config.runtime, overlayfs, &mut loaded)?;
    let list = image
        .appended(Path::new("/"))
        .map_err(failed("listing appended files", "give the machine more memory"))?;
    for path in appended::carry(&image, &list)?.changed {
        detail(&arguments, format!("carried /{}", String::from_utf8_lossy(&path)));
    }
    let given = std::env::args_os().skip(1).collect();
    let start = Start::new(&image.config, arguments.value("init"), given, std::env::vars_os().collect());
    Err(handover::start(&start))
}

/// Names arguments of dracut that have no effect here.
fn explain_ignored(arguments: &Arguments) {
    if arguments.has("rd.break") || arguments.has("rd.shell") {
        say(
            "rd.break and rd.shell: this boot initramfs has no shell, so the boot continues; for a shell, convert the image \
             with --front-end dracut",
        );
    }
    for name in ["rd.live.overlay", "rd.live.ram", "rd.live.overlay.readonly"] {
        if arguments.has(name) {
            say(&format!(
                "{name}: ignored, this boot initramfs keeps changes in memory; for more, convert the image with \
                 --front-end dracut"
            ));
        }
    }
}
