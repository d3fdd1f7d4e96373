//! The built-in boot initramfs: btrsquash's own static init (src/guest/init), the modules, and nothing else.

use std::io;

use super::common::{check_init, check_names, config, directories, modules, not_carried, notes};
use super::{FrontEnd, Plan, guest};
use crate::contract::net::url::Url;
use crate::contract::{self, Overlay, RuntimeFormat, RuntimeFrom, paths};
use crate::error::Error;
use crate::initrd::NewcWriter;
use crate::tree::{Device, Node};

/// Fails if this btrsquash was built without the boot program for kernels of this machine (as `uname -m` names it).
///
/// # Errors
/// [`crate::error::Kind::Missing`] with how to get it.
pub(crate) fn check(machine: &str) -> Result<(), Error> {
    guest::program(machine).map(drop)
}

/// Refuses a runtime that the built-in front-end cannot reach, or whose place cannot be written for it.
///
/// # Errors
/// [`crate::error::Kind::Usage`].
pub fn check_runtime(runtime: &RuntimeFrom) -> Result<(), Error> {
    match runtime {
        RuntimeFrom::Initramfs | RuntimeFrom::Retained => Ok(()),
        RuntimeFrom::Network(address) => {
            let shown = address.escape_default();
            match Url::parse(address) {
                Ok(_) if address.contains('"') => Err(Error::usage(format!(
                    "'{shown}' cannot be written on a command line: write %22 for a quotation mark"
                ))),
                Ok(_) => Ok(()),
                Err(why) => Err(Error::usage(format!("the built-in front-end cannot fetch {shown}: {why}"))
                    .hint("use --front-end dracut, which has curl and network modules")),
            }
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
        RuntimeFrom::Initramfs => format!("/{}", paths::SQUASHFS),
        RuntimeFrom::Retained => "retained".to_owned(),
        RuntimeFrom::Network(address) => address.clone(),
        RuntimeFrom::Label(label) => format!("LABEL={label}"),
        RuntimeFrom::Uuid(uuid) => format!("UUID={uuid}"),
    };
    // Quoted as on the kernel's own command line (lib/cmdline.c, `next_arg`).
    let quote = if root.contains(' ') { "\"" } else { "" };
    let overlay = match (plan.overlay, plan.format) {
        (Overlay::DeviceMapper, RuntimeFormat::Btrfs) => "0",
        _ => "1",
    };
    format!(
        "root={quote}live:{root}{quote} rd.live.image rd.live.overlay.overlayfs={overlay} rd.overlayfs={overlay}"
    )
}

/// Makes the boot initramfs.
///
/// # Errors
/// [`crate::error::Kind::Usage`] if the runtime comes from an address that only dracut can fetch.
pub fn build(plan: &Plan<'_>) -> Result<FrontEnd, Error> {
    check_runtime(&plan.runtime)?;
    check_init(plan.init)?;
    check_names(plan)?;
    let (directories, left_out) = directories(plan.tree, plan.max_directories);
    let program = guest::program(plan.machine)?;
    let cpio = archive(plan, program, &directories)
        .map_err(|e| Error::input("the boot initramfs cannot be written").caused_by(e))?;
    let mut said = vec![format!("its init is btrsquash's own, {} bytes, static", program.len())];
    said.extend(notes(left_out, plan.max_directories));
    if plan.runtime == RuntimeFrom::Retained {
        said.push("boot with retain_initrd on the kernel's command line".into());
    }
    if let RuntimeFrom::Network(address) = &plan.runtime {
        said.extend(fetching(plan, address));
    }
    Ok(FrontEnd { cpio, maker: format!("built-in {}", env!("CARGO_PKG_VERSION")), notes: said })
}

/// What the report says of a runtime that is fetched: the arguments, and what the drivers take.
fn fetching(plan: &Plan<'_>, address: &str) -> [String; 2] {
    let drivers = plan.kernels.iter().flat_map(|kernel| plan.divide(kernel).0);
    let sizes: Vec<usize> = drivers
        .filter(|module| module.path.contains("/drivers/net/"))
        .map(|module| module.elf.len())
        .collect();
    [
        format!(
            "the kernel needs no arguments to fetch the runtime, by DHCP on any card; ip=, BOOTIF= and nameserver= set the \
             network up otherwise, and root=live:{address} with another address names another place of the same file"
        ),
        format!(
            "{} modules of network drivers take {} bytes of memory, which --drivers NAME makes fewer",
            sizes.len(),
            sizes.iter().sum::<usize>()
        ),
    ]
}

fn archive(
    plan: &Plan<'_>,
    program: &[u8],
    directories: &[(Vec<u8>, &crate::tree::Inode)],
) -> io::Result<Vec<u8>> {
    let mut newc = NewcWriter::new(Vec::new(), plan.time);
    let root = plan.tree.inode(plan.tree.root);
    newc.owner(root.uid, root.gid);
    newc.time(root.mtime);
    newc.directory(".", root.mode)?;
    for (path, inode) in directories {
        newc.owner(inode.uid, inode.gid);
        newc.time(inode.mtime);
        match &inode.node {
            Node::Symlink(target) => newc.symlink(path, target)?,
            _ => newc.directory(path, inode.mode)?,
        }
    }
    newc.owner(0, 0);
    newc.time(plan.time);
    for directory in ["dev", "proc", "sys", paths::SYSROOT, paths::OURS, paths::MODULES] {
        newc.directory(directory, 0o755)?;
    }
    // The kernel's own initramfs has it too, unless it was built with another.
    newc.device("dev/console", 0o600, &Node::CharDevice(Device { major: 5, minor: 1 }))?;
    newc.file(paths::INIT, 0o755, program)?;
    modules(&mut newc, plan)?;
    let config = config(plan, contract::FrontEnd::BuiltIn, plan.time);
    newc.file(paths::CONFIG, 0o644, config.to_string().as_bytes())?;
    newc.file(paths::NOT_CARRIED, 0o644, &not_carried(plan))?;
    newc.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::super::common::MAX_DIRECTORIES;
    use super::*;
    use crate::contract::{Config, Handover};
    use crate::elf;
    use crate::initrd;
    use crate::kernel::{KernelModules, Module};
    use crate::tree::{Inode, InodeId, Tree};

    fn kernels() -> Vec<KernelModules> {
        let module = |name: &str| Module {
            name: name.into(),
            path: format!("kernel/{name}.ko"),
            elf: [1, 2, 3].into(),
        };
        vec![KernelModules {
            version: "6.1.0".into(),
            modules: vec![module("loop"), module("squashfs"), module("btrfs")],
            early: 2,
            modules_builtin: None,
            modules_builtin_modinfo: None,
        }]
    }

    fn plan<'a>(kernels: &'a [KernelModules], tree: &'a Tree) -> Plan<'a> {
        Plan {
            machine: elf::host_machine(),
            kernels,
            overlay: Overlay::DeviceMapper,
            format: RuntimeFormat::Btrfs,
            late_modules: true,
            runtime: RuntimeFrom::Initramfs,
            init: "/init",
            arguments: Vec::new(),
            environment: Vec::new(),
            handover: Handover::Bare,
            not_carried: &[],
            time: 7,
            tree,
            max_directories: MAX_DIRECTORIES,
        }
    }

    fn empty() -> Tree {
        Tree::new(std::sync::Arc::new(Vec::new()))
    }

    fn read(cpio: &Vec<u8>) -> Tree {
        initrd::read(cpio, Path::new("x"), &initrd::Limits::default(), &|_| ()).unwrap().tree
    }

    #[test]
    fn it_holds_the_init_and_the_modules_in_order() {
        let (kernels, runtime) = (kernels(), empty());
        let made = build(&plan(&kernels, &runtime)).unwrap();
        let tree = read(&made.cpio);
        let content = |path: &str| tree.read(tree.get(path).unwrap(), 1 << 24).unwrap().unwrap();
        assert_eq!(content("init"), guest::program(elf::host_machine()).unwrap());
        assert_eq!(content(".btrsquash/modules/6.1.0/order"), b"loop.ko\nsquashfs.ko\n");
        assert_eq!(content(".btrsquash/modules/6.1.0/squashfs.ko"), [1, 2, 3]);
        assert!(tree.get(".btrsquash/modules/6.1.0/btrfs.ko").is_none());
        let late = plan(&kernels, &runtime).late_files();
        let late: Vec<_> = late.iter().map(|(path, content)| (path.as_str(), content.as_ref())).collect();
        let expected: [(&str, &[u8]); 2] =
            [("LiveOS/modules/6.1.0/btrfs.ko", &[1, 2, 3]), ("LiveOS/modules/6.1.0/order", b"btrfs.ko\n")];
        assert_eq!(late, expected);
        let config = Config::parse(&String::from_utf8(content(".btrsquash/config")).unwrap());
        assert_eq!((config.format, config.init.as_str(), config.time), (2, "/init", Some(7)));
        assert_eq!(made.cpio, build(&plan(&kernels, &runtime)).unwrap().cpio);
    }

    #[test]
    fn it_has_the_directories_of_the_runtime_by_any_name_and_counts_those_it_leaves_out() {
        let kernels = kernels();
        let mut runtime = empty();
        let add = |runtime: &mut Tree, parent: InodeId, name: &[u8], node: Node| {
            let id = runtime.add(Inode { mode: 0o751, uid: 7, gid: 8, mtime: 9, nlink: 1, node });
            let Node::Directory(names) = &mut runtime.inode_mut(parent).node else { unreachable!() };
            names.insert(name.into(), id);
            id
        };
        let directory = || Node::Directory(BTreeMap::new());
        let root = runtime.root;
        runtime.inode_mut(root).mode = 0o711;
        let odd = add(&mut runtime, root, b"caf\xe9", directory());
        add(&mut runtime, root, b"link", Node::Symlink((*b"caf\xe9").into()));
        add(&mut runtime, root, b"proc", directory());
        let made = build(&plan(&kernels, &runtime)).unwrap();
        let tree = read(&made.cpio);
        let found = tree.inode(tree.get(b"caf\xe9").unwrap());
        assert_eq!((found.mode, found.uid, found.gid, found.mtime), (0o751, 7, 8, 9));
        assert_eq!(tree.inode(tree.root).mode, 0o711);
        assert_eq!(tree.resolve("link"), tree.get(b"caf\xe9"));
        assert!(
            !made.notes.iter().any(|note| note.contains("directories of the runtime")),
            "{:?}",
            made.notes
        );
        // Two are nearer to the root.
        for number in 0..MAX_DIRECTORIES + 5 {
            add(&mut runtime, odd, format!("{number:04}").as_bytes(), directory());
        }
        let made = build(&plan(&kernels, &runtime)).unwrap();
        let tree = read(&made.cpio);
        assert!(tree.get(b"caf\xe9/2045").is_some() && tree.get(b"caf\xe9/2046").is_none());
        assert!(made.notes.iter().any(|note| note.contains("not the other 7:")), "{:?}", made.notes);
        let few = Plan { max_directories: 3, ..plan(&kernels, &runtime) };
        let tree = read(&build(&few).unwrap().cpio);
        assert!(tree.get(b"caf\xe9/0000").is_some() && tree.get(b"caf\xe9/0001").is_none());
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        let (mut kernels, runtime) = (kernels(), empty());
        for (address, fetched) in [
            ("http://x/y", true),
            ("tftp://x/y", true),
            ("https://x/y", false),
            ("nfs:x:/y", false),
            ("http://x/\"", false),
            ("http://x/ root=y", false),
        ] {
            let plan = Plan { runtime: RuntimeFrom::Network(address.into()), ..plan(&kernels, &runtime) };
            let error = build(&plan).err().map(|error| error.kind);
            assert_eq!(error, (!fetched).then_some(crate::error::Kind::Usage), "{address}");
        }
        assert_eq!(check("sparc").unwrap_err().kind, crate::error::Kind::Missing);
        kernels[0].modules[0].name = "../x".into();
        assert!(build(&plan(&kernels, &runtime)).is_err());
    }
}
