//! Which machine the programs of a boot initramfs are for.

use crate::elf;
use crate::error::Error;
use crate::tree::{Node, Tree};

/// So many bytes of a file hold its ELF header.
const HEAD: usize = 64;
/// So many wrong files are named in the error.
const NAMED: usize = 3;

/// Fails unless the kernel of this machine can run every program, and load every library and module, in the boot
/// initramfs `tree`, which `maker` made. Firmware is not looked at: it runs on other processors.
///
/// # Errors
/// [`crate::error::Kind::Missing`] with some of the files and what to use instead.
pub(crate) fn check(tree: &Tree, kernel: &str, maker: &str) -> Result<(), Error> {
    let mut wrong: Vec<(String, &'static str)> = Vec::new();
    let mut head = [0; HEAD];
    for entry in tree.walk() {
        let Node::Regular(content) = &tree.inode(entry.id).node else { continue };
        if content.size < HEAD as u64 || is_firmware(&entry.path) {
            continue;
        }
        tree.read_at(content, &mut head, 0).map_err(Error::reading)?;
        let Some(machine) = elf::machine_of(&head) else { continue };
        // A module runs inside the kernel, which has no compatibility mode for it.
        let module = entry.path.windows(3).any(|part| part == b".ko");
        if if module { kernel != machine } else { !elf::runs(kernel, machine) } {
            wrong.push((String::from_utf8_lossy(&entry.path).into_owned(), machine));
        }
    }
    let Some((_, machine)) = wrong.first() else { return Ok(()) };
    let named: Vec<String> =
        wrong.iter().take(NAMED).map(|(path, _)| path.escape_debug().to_string()).collect();
    let more = if wrong.len() > NAMED { ", …" } else { "" };
    Err(Error::missing(format!(
        "{maker} holds {} files for {machine}, which a kernel for {kernel} cannot run: {}{more}",
        wrong.len(),
        named.join(", ")
    ))
    .hint(
        "use --front-end built-in, which has a program for each architecture, or --dracut-root with a root of the \
         image's distribution and architecture",
    ))
}

fn is_firmware(path: &[u8]) -> bool {
    [&b"lib/firmware/"[..], b"usr/lib/firmware/"].iter().any(|dir| path.starts_with(dir))
}
