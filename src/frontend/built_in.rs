//! The built-in front-end: a static init of our own (src/init), the modules, and nothing else.

use std::fmt::Write;
use std::io::{self, Read};

use super::{FrontEnd, Plan};
use crate::contract::{Handover, Overlay, RuntimeFrom};
use crate::error::Error;
use crate::initrd::NewcWriter;
use crate::tree::{Device, Node, Tree};

use crate::contract::checksum;
pub use crate::contract::own::Own;

/// The file of what the image's maker set.
pub const CONFIG: &str = ".btrsquash/config";
/// The file that lists what is neither the front-end's nor appended; see [`Own`].
pub const NOT_CARRIED: &str = ".btrsquash/not-carried";

/// The init, compiled by src/build.rs for the architecture that btrsquash itself is built for.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest"));

/// Fails where the built-in front-end cannot boot an image of this architecture (as `uname -m` names it).
///
/// # Errors
/// [`crate::error::Kind::Missing`] where it is another than btrsquash's own.
pub fn check(arch: &str) -> Result<(), Error> {
    let own = std::env::consts::ARCH;
    let same =
        arch == own || (own == "x86_64" && matches!(arch, "amd64")) || (own == "aarch64" && arch == "arm64");
    if same {
        return Ok(());
    }
    Err(Error::missing(format!("the image is for {arch}, and the built-in front-end of this btrsquash is for {own}"))
        .hint("use a btrsquash built for that architecture, or --dracut-root with a root of the image's distribution"))
}

/// Refuses a runtime that the built-in front-end cannot reach, or whose place cannot be written for it.
///
/// # Errors
/// [`crate::error::Kind::Usage`].
pub fn check_runtime(runtime: &RuntimeFrom) -> Result<(), Error> {
    match runtime {
        RuntimeFrom::Initramfs | RuntimeFrom::Retained => Ok(()),
        RuntimeFrom::Network(address) => {
            Err(Error::usage(format!("the built-in front-end cannot fetch {}", address.escape_default()))
                .hint("use --front-end dracut, which has network modules"))
        }
        RuntimeFrom::Label(name) | RuntimeFrom::Uuid(name) => {
            if name.contains('"') || name.chars().any(char::is_control) {
                return Err(Error::usage(format!(
                    "'{}' cannot be written on a command line",
                    name.escape_default()
                )));
            }
            Ok(())
        }
    }
}

/// What goes into /etc/cmdline.d: where the root is, under dracut's names; the overlay under its old and new name.
#[must_use]
pub fn cmdline(plan: &Plan) -> String {
    let root = match &plan.runtime {
        RuntimeFrom::Initramfs => "/squashfs.img".to_owned(),
        RuntimeFrom::Retained => "retained".to_owned(),
        RuntimeFrom::Network(address) => address.clone(),
        RuntimeFrom::Label(label) => format!("LABEL={label}"),
        RuntimeFrom::Uuid(uuid) => format!("UUID={uuid}"),
    };
    // Quoted as on the kernel's own command line (lib/cmdline.c, `next_arg`).
    let quote = if root.contains(' ') { "\"" } else { "" };
    let overlay = match plan.overlay {
        Overlay::DeviceMapper => "0",
        Overlay::Overlayfs => "1",
    };
    format!(
        "root={quote}live:{root}{quote} rd.live.image rd.live.overlay.overlayfs={overlay} rd.overlayfs={overlay}"
    )
}

/// The file that tells the init where a retained squashfs lies in the image: path and content, of fixed length so
/// that the offset does not depend on itself.
#[must_use]
pub fn retained(offset: u64, size: u64) -> (String, Vec<u8>) {
    (".btrsquash/retained".to_owned(), format!("{offset:020} {size:020}\n").into_bytes())
}

/// The file that tells the init what the squashfs was like when it was made, so that it notices damage: path and
/// content. Gives the squashfs's size as well.
///
/// # Errors
/// Those of reading `squashfs`.
pub fn made_with(squashfs: &mut dyn Read) -> io::Result<(String, Vec<u8>)> {
    let (size, sum) = checksum::of(squashfs)?;
    Ok((".btrsquash/squashfs".to_owned(), format!("{size} {sum:016x}\n").into_bytes()))
}

/// A name that goes into a path of the front-end and into a line of one of its files.
fn plain(name: &str) -> Result<&str, Error> {
    let fine = !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-~".contains(&b));
    if fine { Ok(name) } else { Err(Error::input(format!("{name:?} is no name for a kernel or module"))) }
}

/// So many of the runtime's folders are in the front-end at most: each takes a kibibyte of memory until the hand-over.
const MAX_FOLDERS: usize = 2048;

/// Writes the runtime's folders, and its links to folders, without what is in them; says how many were too many.
///
/// A file that someone appends to the image finds its folder there, as it did in the old image: the kernel silently
/// skips a file of an archive whose folder does not exist (init/initramfs.c, `do_name` and `filp_open`).
fn folders<W: io::Write>(newc: &mut NewcWriter<W>, runtime: &Tree) -> io::Result<usize> {
    let ours: [&[u8]; 8] =
        [b"dev", b"proc", b"sys", b"sysroot", b".btrsquash", b"init", b"squashfs.img", b"updates"];
    let mut found: Vec<(usize, Vec<u8>, &crate::tree::Inode)> = runtime
        .walk()
        .map(|entry| (entry.path, entry.id))
        .filter(|(path, _)| {
            !path.is_empty() && !path.split(|&b| b == b'/').next().is_some_and(|top| ours.contains(&top))
        })
        .filter(|(path, id)| match &runtime.inode(*id).node {
            Node::Directory(_) => true,
            Node::Symlink(_) => runtime.resolve(path).is_some_and(|to| runtime.names(to).is_some()),
            _ => false,
        })
        .map(|(path, id)| (path.iter().filter(|&&b| b == b'/').count(), path, runtime.inode(id)))
        .collect();
    // The nearest to the root where there are too many; folders before what is in them either way.
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    for (_, path, inode) in found.iter().take(MAX_FOLDERS) {
        newc.owner(inode.uid, inode.gid);
        match &inode.node {
            Node::Symlink(target) => newc.symlink(path, target)?,
            _ => newc.directory(path, inode.mode)?,
        }
    }
    newc.owner(0, 0);
    Ok(found.len().saturating_sub(MAX_FOLDERS))
}

/// Makes the front-end for this runtime.
///
/// # Errors
/// [`crate::error::Kind::Usage`] where the runtime comes over a network, which only dracut can fetch.
pub fn build(plan: &Plan, runtime: &Tree) -> Result<FrontEnd, Error> {
    check_runtime(&plan.runtime)?;
    for kernel in plan.kernels {
        plain(&kernel.version)?;
        kernel.modules.iter().try_for_each(|module| plain(&module.name).map(|_| ()))?;
    }
    let (cpio, left_out) =
        archive(plan, runtime).map_err(|e| Error::input(format!("the front-end cannot be written: {e}")))?;
    let mut notes = vec![format!("its init is btrsquash's own, {} bytes, static", INIT.len())];
    notes.push(
        "appended files arrive in the runtime at their path; an appended /init would be started in place of the \
         front-end's: append updates/init to replace the runtime's"
            .into(),
    );
    if left_out > 0 {
        notes.push(format!(
            "the front-end has the {MAX_FOLDERS} folders of the runtime that are nearest to the root, not the other \
             {left_out}: Linux passes over a file that is appended below one of those, unless the appended archive has \
             entries for the folders too, as find | cpio makes them"
        ));
    }
    if plan.runtime == RuntimeFrom::Retained {
        notes.push("boot with retain_initrd on the kernel's command line".into());
    }
    Ok(FrontEnd { cpio, maker: format!("built-in {}", env!("CARGO_PKG_VERSION")), notes })
}

/// The archive, and how many of the runtime's folders are not in it.
fn archive(plan: &Plan, runtime: &Tree) -> io::Result<(Vec<u8>, usize)> {
    let mut newc = NewcWriter::new(Vec::new(), plan.time);
    for folder in ["dev", "proc", "sys", "sysroot", ".btrsquash", ".btrsquash/modules"] {
        newc.directory(folder, 0o755)?;
    }
    let left_out = folders(&mut newc, runtime)?;
    // The kernel's own initramfs has it too, unless it was built with another.
    newc.device("dev/console", 0o600, &Node::CharDevice(Device { major: 5, minor: 1 }))?;
    newc.file("init", 0o755, INIT)?;
    for kernel in plan.kernels {
        let folder = format!(".btrsquash/modules/{}", kernel.version);
        newc.directory(&folder, 0o755)?;
        let mut order = String::new();
        for module in &kernel.modules {
            newc.file(format!("{folder}/{}.ko", module.name), 0o644, &module.elf)?;
            order.push_str(&module.name);
            order.push('\n');
        }
        newc.file(format!("{folder}/order"), 0o644, order.as_bytes())?;
    }
    newc.file(CONFIG, 0o644, config(plan).as_bytes())?;
    let not_carried: String = plan.not_carried.iter().flat_map(|path| [path.as_str(), "\n"]).collect();
    newc.file(NOT_CARRIED, 0o644, not_carried.as_bytes())?;
    Ok((newc.finish()?, left_out))
}

fn config(plan: &Plan) -> String {
    let overlay = match plan.overlay {
        Overlay::DeviceMapper => "dm",
        Overlay::Overlayfs => "overlayfs",
    };
    let handover = match plan.handover {
        Handover::Bare => "bare",
        Handover::Mounted => "mounted",
    };
    let runtime = match plan.runtime {
        RuntimeFrom::Retained => "retained",
        _ => "live",
    };
    let mut text = String::new();
    for (key, value) in
        [("overlay", overlay), ("handover", handover), ("runtime", runtime), ("init", plan.init)]
    {
        // A line break in the name of a program would start another line.
        let _ = writeln!(text, "{key}={}", value.replace('\n', ""));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::initrd;
    use crate::kernel::{KernelModules, Module};

    fn kernels() -> Vec<KernelModules> {
        let module = |name: &str| Module {
            name: name.into(),
            path: format!("kernel/{name}.ko"),
            elf: [1, 2, 3].into(),
        };
        vec![KernelModules {
            version: "6.1.0".into(),
            modules: vec![module("loop"), module("squashfs")],
            modules_builtin: None,
            modules_builtin_modinfo: None,
        }]
    }

    fn plan(kernels: &[KernelModules]) -> Plan<'_> {
        Plan {
            kernels,
            overlay: Overlay::DeviceMapper,
            runtime: RuntimeFrom::Initramfs,
            init: "/init",
            handover: Handover::Bare,
            not_carried: &[],
            time: 7,
        }
    }

    fn empty() -> Tree {
        Tree::new(std::sync::Arc::new(Vec::new()))
    }

    #[test]
    fn the_front_end_holds_the_init_and_the_modules_in_order() {
        let kernels = kernels();
        let made = build(&plan(&kernels), &empty()).unwrap();
        let read = initrd::read(&made.cpio, Path::new("x"), &initrd::Limits::default(), &|_| ()).unwrap();
        let content = |path: &str| read.tree.read(read.tree.get(path).unwrap(), 1 << 24).unwrap().unwrap();
        assert_eq!(content("init"), INIT);
        assert_eq!(content(".btrsquash/modules/6.1.0/order"), b"loop\nsquashfs\n");
        assert_eq!(content(".btrsquash/modules/6.1.0/squashfs.ko"), [1, 2, 3]);
        let config = String::from_utf8(content(".btrsquash/config")).unwrap();
        assert_eq!(config, "overlay=dm\nhandover=bare\nruntime=live\ninit=/init\n");
        assert_eq!(made.cpio, build(&plan(&kernels), &empty()).unwrap().cpio);
    }

    #[test]
    fn the_front_end_holds_the_runtimes_folders_by_any_name_and_tells_of_those_it_leaves_out() {
        use crate::tree::{Inode, InodeId};
        let kernels = kernels();
        let mut runtime = empty();
        let add = |runtime: &mut Tree, parent: InodeId, name: &[u8], node: Node| {
            let id = runtime.add(Inode { mode: 0o751, uid: 7, gid: 8, mtime: 0, nlink: 1, node });
            let Node::Directory(names) = &mut runtime.inode_mut(parent).node else { unreachable!() };
            names.insert(name.into(), id);
            id
        };
        let folder = || Node::Directory(std::collections::BTreeMap::new());
        let root = runtime.root;
        let odd = add(&mut runtime, root, b"caf\xe9", folder());
        add(&mut runtime, root, b"link", Node::Symlink((*b"caf\xe9").into()));
        add(&mut runtime, root, b"proc", folder());
        let made = build(&plan(&kernels), &runtime).unwrap();
        let read = |cpio: Vec<u8>| {
            initrd::read(&cpio, Path::new("x"), &initrd::Limits::default(), &|_| ()).unwrap().tree
        };
        let tree = read(made.cpio);
        let found = tree.inode(tree.get(b"caf\xe9").unwrap());
        assert_eq!((found.mode, found.uid, found.gid), (0o751, 7, 8));
        assert_eq!(tree.resolve("link"), tree.get(b"caf\xe9"));
        assert!(!made.notes.iter().any(|note| note.contains("folders of the runtime")), "{:?}", made.notes);
        // Two above, and what is deep gives way.
        for number in 0..MAX_FOLDERS + 5 {
            add(&mut runtime, odd, format!("{number:04}").as_bytes(), folder());
        }
        let made = build(&plan(&kernels), &runtime).unwrap();
        let tree = read(made.cpio);
        assert!(tree.get(b"caf\xe9/2045").is_some() && tree.get(b"caf\xe9/2046").is_none());
        assert!(made.notes.iter().any(|note| note.contains("not the other 7:")), "{:?}", made.notes);
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        let mut kernels = kernels();
        let network = Plan { runtime: RuntimeFrom::Network("http://x/y".into()), ..plan(&kernels) };
        assert_eq!(build(&network, &empty()).unwrap_err().kind, crate::error::Kind::Usage);
        assert_eq!(check("sparc").unwrap_err().kind, crate::error::Kind::Missing);
        kernels[0].modules[0].name = "../x".into();
        assert!(build(&plan(&kernels), &empty()).is_err());
    }

    #[test]
    fn the_place_of_a_retained_squashfs_has_a_fixed_length() {
        assert_eq!(retained(1, 2).1.len(), retained(u64::MAX, u64::MAX).1.len());
    }
}
