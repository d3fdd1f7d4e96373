//! Files that someone appended to the image: laid over the runtime, and known to modprobe if they are modules.

use std::io;
use std::path::Path;
use std::process::Command;

use btrsquash::contract::Outcome;

use crate::carry::{Image, Root};
use crate::console::{Result, failed, say};
use crate::handover::sysroot;
use crate::modules::release;

/// Lays the appended `list` of paths and the tree of updates over the runtime.
pub(crate) fn carry(image: &Image, list: &[Vec<u8>]) -> Result<Outcome> {
    let outcome = image
        .carry(Path::new("/"), &sysroot(), list)
        .map_err(failed("copying appended files into the runtime", "give the machine more memory"))?;
    for path in &outcome.kept {
        say(&format!(
            "/{} was appended to the image, but is a directory of the runtime that is not empty: the directory stays",
            String::from_utf8_lossy(path)
        ));
    }
    if outcome.changed.iter().any(|path| is_module(path)) {
        depmod(&sysroot(), &release());
    }
    Ok(outcome)
}

fn is_module(path: &[u8]) -> bool {
    let text = String::from_utf8_lossy(path);
    let name = text.rsplit('/').next().unwrap_or_default();
    name.contains(".ko") && text.contains("lib/modules/")
}

/// A driver disk's module is found by modprobe only after depmod, if the runtime has one.
fn depmod(root: &Path, release: &str) {
    let program = ["/sbin/depmod", "/usr/sbin/depmod", "/bin/depmod", "/usr/bin/depmod"]
        .into_iter()
        .find(|program| Root(root).resolve(program).is_ok());
    let Some(program) = program else {
        return say("a module was appended, but the runtime has no depmod: load the module with insmod");
    };
    let mut command = Command::new(program);
    command.args(["-a", release]);
    let root = root.to_owned();
    let enter = move || -> io::Result<()> {
        std::os::unix::fs::chroot(&root)?;
        std::env::set_current_dir("/")
    };
    crate::sys::before_exec(&mut command, enter);
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => say(&format!("depmod for an appended module: {status}")),
        Err(error) => say(&format!("depmod for an appended module: {error}")),
    }
}
