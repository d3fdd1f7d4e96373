//! Everything that can be decided before the slow work, so that what cannot be converted fails at once.

use std::path::PathBuf;
use std::sync::Arc;

use super::choices::{self, Choice};
use super::kept;
use super::maker::{self, Maker, ReadyMade};
use super::request::{Goal, Layout, Request, Stage, Watch};
use super::result::{Note, Old};
use super::tuning;
use crate::bytes::ReadAt;
use crate::codec::{Compression, Encoding};
use crate::container::{Input, Wrapper};
use crate::contract::{Overlay, RuntimeFormat, RuntimeFrom, paths};
use crate::elf;
use crate::error::Error;
use crate::frontend::{FEW_DIRECTORIES, MAX_DIRECTORIES, Plan};
use crate::image::classify::{Classification, InsideKind, SelfCopy, Sign, Verdict};
use crate::image::split::{self, Split};
use crate::image::{self, Opened, expand, in_place, parts, script_interpreter};
use crate::initrd::Initrd;
use crate::kernel::{self, Kernel, KernelModules, Wanted};
use crate::output;
use crate::ram::{Facts, Kernel as TypicalKernel, Machine};
use crate::tree::{Node, Tree, display};

/// All that is known before the slow work.
pub(super) struct Prepared {
    /// The bytes of the old image.
    pub(super) source: Arc<dyn ReadAt>,
    /// What it was packed in.
    pub(super) wrapper: Option<Wrapper>,
    pub(super) image: Initrd,
    pub(super) old: Old,
    /// The machine that the new image is meant for.
    pub(super) machine: Machine,
    /// Block size of the squashfs in bytes.
    pub(super) block_size: u32,
    pub(super) kernels: Vec<Kernel>,
    pub(super) modules: Vec<KernelModules>,
    pub(super) maker: Maker,
    pub(super) split: Split,
    pub(super) encoding: Encoding,
    pub(super) overlay: Overlay,
    /// What the squashfs holds.
    pub(super) format: RuntimeFormat,
    /// How the squashfs is compressed.
    pub(super) compression: Compression,
    /// The machine of the kernels, as `uname -m` names it.
    pub(super) architecture: String,
    /// The old init, as an absolute path in the runtime.
    pub(super) init: String,
    /// Paths of early files, which the front-end must not copy over the runtime: it may hold them in another version.
    pub(super) not_carried: Vec<String>,
    /// Time of everything that is made, in seconds since 1970.
    pub(super) time: i64,
    pub(super) choices: Vec<Choice>,
    pub(super) notes: Vec<Note>,
}

impl Prepared {
    /// Whether modules that are needed only after the squashfs is mounted can lie inside it. Our own init loads them from
    /// wherever it mounts it; dracut's image only from its own squashfs.img, before dracut's init starts.
    fn late_modules(&self, request: &Request) -> bool {
        self.format == RuntimeFormat::Btrfs
            && match self.maker {
                Maker::BuiltIn => true,
                Maker::Dracut(_) => request.runtime == RuntimeFrom::Initramfs,
                Maker::File(_) | Maker::Kept(_) => false,
            }
    }

    /// What the boot initramfs has to do.
    pub(super) fn plan<'a>(&'a self, request: &Request) -> Plan<'a> {
        let copy = self.old.class.copy.as_ref().filter(|copy| copy.kept.is_none());
        Plan {
            kernels: &self.modules,
            machine: &self.architecture,
            overlay: self.overlay,
            format: self.format,
            late_modules: self.late_modules(request),
            runtime: request.runtime.clone(),
            init: &self.init,
            arguments: copy.map_or_else(Vec::new, SelfCopy::known_arguments),
            environment: copy.map_or_else(Vec::new, SelfCopy::known_environment),
            handover: self.old.class.handover,
            not_carried: &self.not_carried,
            time: self.time,
            tree: &self.split.runtime,
            max_directories: if request.optimize == Some(Goal::Ram) {
                FEW_DIRECTORIES
            } else {
                MAX_DIRECTORIES
            },
        }
    }
}

/// Reads the old image and decides how it is converted.
pub(super) fn prepare(request: &Request, input: &Input, watch: Watch) -> Result<Prepared, Error> {
    check_outputs(request)?;
    check_wrapper(request, input)?;
    let size = input.initrd.len();
    watch(Stage::Read, 0, size);
    let opened = image::of(input, &request.limits, &|done| watch(Stage::Read, done, size))?;
    let source = Arc::clone(&opened.source);
    let mut choices = Vec::new();
    let (old, image) = accept(request, opened, &mut choices)?;
    let mut old = with_init(request, old, &image, &mut choices)?;
    let class = old.class.clone();
    let kept = kept::of(request, &class, &image).map_err(|e| e.or_file(&input.name))?;
    let request = &kept.as_ref().map_or_else(|| request.clone(), |kept| kept.request(request));

    check_interpreter(&image, class.started.as_deref().unwrap_or("/init"))
        .map_err(|e| e.or_file(&input.name))?;
    watch(Stage::Modules, 0, 0);
    maker::check_request(request)?;
    let ready = maker::ready_made(request)?;
    let kernels = find_kernels(request, &image, ready.as_ref(), kept.is_some())?;
    let architecture = architecture(&kernels, &class)?;
    let (maker, choice) = maker::choose(request, &architecture, ready, kept)?;
    choices.push(choice);
    let Some((overlay, format)) = kernels.first().map(|kernel| (kernel.overlay, kernel.format)) else {
        return Err(Error::missing("no kernel to boot with was found in the image")
            .hint("name the kernel with --kernel VMLINUZ and its modules with --modules"));
    };
    // One encoding for all kernels: the weakest decides.
    let encoding = kernel::common_encoding(&kernels);
    let machine = tuning::machine(request, &kernels);
    old.facts = old.facts.in_pages_of(&machine.kernel, &image.tree);
    let (block_size, block_reason) = tuning::block_size(request, &maker, &old, &machine);
    choices.extend(choices::of(
        request,
        &kernels,
        (block_size, block_reason),
        encoding,
        &maker,
        overlay,
        &class,
    ));
    let mut split = divide(&image, &class, &kernels, &maker);
    check_runtime(&split.runtime, format, &maker).map_err(|e| e.or_file(&input.name))?;
    if request.expand_modules {
        let why = expand::loader(&split.runtime)?;
        let done = expand::modules(&mut split.runtime, request.limits.max_unpacked, &|_| true)?;
        choices.push(Choice::Expanded(done, why));
    }
    let init = class.started.clone().unwrap_or_else(|| "/init".to_owned());
    let early = image.early_paths.iter().filter_map(|path| String::from_utf8(path.clone()).ok());
    Ok(Prepared {
        split,
        notes: [
            input.notes.iter().cloned().map(Note::Found).collect(),
            notes(&image, &class, &kernels, &maker, &init),
        ]
        .concat(),
        modules: kernels.iter().map(|k| k.modules.clone()).collect(),
        not_carried: early.chain(image.early_bodies.iter().map(|(path, _)| path.clone())).collect(),
        time: request.source_date_epoch.unwrap_or_else(|| newest(&image)),
        wrapper: input.wrapper.clone(),
        source,
        machine,
        block_size,
        image,
        old,
        kernels,
        architecture,
        maker,
        encoding,
        overlay,
        format,
        compression: request.compression(),
        init,
        choices,
    })
}

/// What goes where.
fn divide(image: &Initrd, class: &Classification, kernels: &[Kernel], maker: &Maker) -> Split {
    match maker {
        Maker::Kept(kept) => in_place::divide(image, &kept.inside, kernels),
        _ => split::split(image, class, kernels),
    }
}

/// Fails if the runtime cannot be stored in its format.
fn check_runtime(tree: &Tree, format: RuntimeFormat, maker: &Maker) -> Result<(), Error> {
    match (format, maker) {
        (_, Maker::Kept(_)) => Ok(()),
        (RuntimeFormat::Squashfs, _) => check_squashfs_root(tree),
        (RuntimeFormat::Btrfs, _) => check_links(tree),
    }
}

/// Fails if the init is a script or a program whose interpreter Linux drops because of the order of the entries: the
/// image does not boot as it is.
fn check_interpreter(image: &Initrd, init: &str) -> Result<(), Error> {
    let Some(interpreter) = interpreter(image, init) else { return Ok(()) };
    if image.tree.resolve(&interpreter).is_some() {
        return Ok(());
    }
    let wanted =
        interpreter.iter().position(|&b| b != b'/').map_or(&interpreter[..], |at| &interpreter[at..]);
    let Some(dropped) = image.dropped.iter().find(|entry| entry.path == wanted) else { return Ok(()) };
    let path = display(&interpreter);
    Err(Error::input(format!(
        "{init} needs {path}, which Linux drops: its entry in segment {} comes before the entry of its directory",
        dropped.segment
    ))
    .hint(format!(
        "Linux drops {} entries for this reason and cannot start {init}: pack the image with `find . | cpio -o -H newc`, \
         without -depth",
        image.dropped.len()
    )))
}

/// The interpreter that the first line of a script or the header of a program names.
fn interpreter(image: &Initrd, init: &str) -> Option<Vec<u8>> {
    let bytes = image.tree.read(image.tree.resolve(init)?, 64 << 20).ok()??;
    if let Some(interpreter) = script_interpreter(&bytes) {
        return Some(interpreter.to_vec());
    }
    goblin::elf::Elf::parse(&bytes).ok()?.interpreter.map(|path| path.as_bytes().to_vec())
}

/// Fails if a file has more names than btrfs allows (`BTRFS_LINK_MAX` of fs/btrfs/ctree.h).
fn check_links(tree: &Tree) -> Result<(), Error> {
    const LINK_MAX: u32 = 65_535;
    let Some(entry) = tree.walk().find(|entry| {
        let inode = tree.inode(entry.id);
        inode.nlink > LINK_MAX && !matches!(inode.node, Node::Directory(_))
    }) else {
        return Ok(());
    };
    let (path, links) = (display(&entry.path), tree.inode(entry.id).nlink);
    Err(Error::input(format!("/{path} has {links} hard links; the limit of btrfs is {LINK_MAX}"))
        .hint("use --runtime-format squashfs, which has no such limit, or replace some of the links by copies or symlinks"))
}

/// Fails if the image cannot be put back into what the old one came in.
fn check_wrapper(request: &Request, old: &Input) -> Result<(), Error> {
    let Some(wrapper) = &old.wrapper else { return Ok(()) };
    if request.layout == Layout::Split && matches!(request.runtime, RuntimeFrom::Initramfs) {
        return Err(Error::usage(
            "the image comes in one file with its kernel: --layout split cannot be used",
        )
        .hint("leave --layout out"));
    }
    if request.runtime == RuntimeFrom::Retained && matches!(wrapper, Wrapper::Uki(_)) {
        return Err(Error::usage(
            "--runtime-from retained cannot be used with a unified kernel image: its stub copies the initrd",
        )
        .hint("use --runtime-from initramfs"));
    }
    Ok(())
}

/// Fails if an output file exists, cannot be written, or would replace one of the inputs.
fn check_outputs(request: &Request) -> Result<(), Error> {
    let outputs = request.outputs();
    for path in &outputs {
        output::check_output(path, request.output_options())?;
    }
    output::check_distinct(outputs.iter().map(PathBuf::as_path), request.inputs())
}

/// The kernels that will boot the new image, with what each has to load to reach the runtime.
fn find_kernels(
    request: &Request,
    image: &Initrd,
    ready: Option<&ReadyMade>,
    in_place: bool,
) -> Result<Vec<Kernel>, Error> {
    let ready_made: Option<(String, &Tree)> =
        ready.map(|ready| (ready.path.display().to_string(), &ready.image.tree));
    let wanted = Wanted {
        format: request.format,
        overlay: request.overlay,
        in_place,
        compression: request.compression(),
        bcj: request.compression() == Compression::Xz,
        runtime: &request.runtime,
        drivers: &request.drivers,
        ready_made: ready_made.as_ref().map(|(name, tree)| (name.as_str(), *tree)),
    };
    let find = |wanted: &Wanted<'_>| {
        kernel::find(&image.tree, &image.segments, &request.modules, request.kernel.as_deref(), wanted)
    };
    // The smaller one, if every kernel can mount it.
    let smaller = Wanted { format: Some(RuntimeFormat::Squashfs), ..wanted };
    let kernels = match prefers_squashfs(request, &image.tree).then(|| find(&smaller)) {
        Some(Ok(kernels)) => kernels,
        _ => find(&wanted)?,
    };
    if request.runtime == RuntimeFrom::Retained
        && let Some((kernel, why)) =
            kernels.iter().find_map(|k| k.retained.as_ref().err().map(|why| (&k.modules.version, why)))
    {
        return Err(Error::missing(format!("kernel {kernel} cannot keep the initrd in place: {why}"))
            .hint("use --runtime-from initramfs, which works with every kernel"));
    }
    Ok(kernels)
}

/// Whether a squashfs runtime is tried first: it has no metadata of btrfs.
fn prefers_squashfs(request: &Request, tree: &Tree) -> bool {
    let open = request.format.is_none() && request.overlay != Some(Overlay::DeviceMapper);
    request.thorough() && open && tree.get(paths::LIVE).is_none()
}

/// Fails if a boot initramfs would not take a squashfs of this tree for the root itself: what mounts live images looks for
/// an image inside first (dracut's dmsquash-live-root.sh, and our own init).
fn check_squashfs_root(tree: &Tree) -> Result<(), Error> {
    if tree.get(paths::LIVE).is_none() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the image has a /{}: in a squashfs runtime it would be taken for the place of another image",
        paths::LIVE
    ))
    .hint("use --runtime-format btrfs"))
}

/// The machine of the kernels, which decides what the boot initramfs has to be built for. What the init is for may differ:
/// a 64-bit kernel runs 32-bit programs too.
fn architecture(kernels: &[Kernel], class: &Classification) -> Result<String, Error> {
    let mut machines: Vec<&str> = kernels.iter().filter_map(|k| k.facts.architecture.as_deref()).collect();
    machines.dedup();
    match machines.as_slice() {
        [] => Ok(class.architecture.clone().unwrap_or_else(|| elf::host_machine().to_owned())),
        [one] => match class.architecture.as_deref() {
            Some(program) if !elf::runs(one, program) => Err(Error::input(format!(
                "the kernel is for {one} and cannot run the image's init, which is for {program}"
            ))
            .hint("give the kernel that this image is booted with, and the modules of that kernel")),
            _ => Ok((*one).to_owned()),
        },
        several => Err(Error::usage(format!(
            "the kernels are for different machines ({}), and one boot initramfs cannot serve both",
            several.join(", ")
        ))
        .hint("name the kernel to boot with by --kernel, and convert once for each machine")),
    }
}

/// What the user should know: about the old image, its kernels, its init and a given front-end.
fn notes(image: &Initrd, class: &Classification, kernels: &[Kernel], maker: &Maker, init: &str) -> Vec<Note> {
    let mut found = image.notes.clone();
    for kernel in kernels {
        found.extend(kernel.notes.iter().cloned());
    }
    found.dedup();
    let mut notes: Vec<Note> = found.into_iter().map(Note::Found).collect();
    if class.init.as_deref() == Some(init) && init != "/init" {
        notes.push(Note::NoRdinit(init.to_owned()));
    }
    if let Maker::File(ready) = maker
        && !ready.image.tree.walk().any(|entry| mounts_live_images(&entry.path))
    {
        notes.push(Note::NoLiveModule(ready.path.clone()));
    }
    notes
}

/// Whether a file at this path shows that an initramfs can mount a live image.
fn mounts_live_images(path: &[u8]) -> bool {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    name.starts_with(b"dmsquash-live-root") || path == crate::contract::paths::CONFIG.as_bytes()
}

/// The old image with the init that `--init` names, if it is used.
fn with_init(request: &Request, old: Old, image: &Initrd, choices: &mut Vec<Choice>) -> Result<Old, Error> {
    let Some(init) = &request.init else { return Ok(old) };
    let class = old.class.starting(&image.tree, init).map_err(|e| e.file(&request.old))?;
    choices.push(Choice::Init(init.clone()));
    Ok(Old { class, ..old })
}

/// The newest time in the image: no clock is asked, so that the same input gives the same bytes.
fn newest(image: &Initrd) -> i64 {
    image
        .tree
        .walk()
        .map(|entry| image.tree.inode(entry.id).mtime)
        .max()
        .unwrap_or(0)
        .clamp(0, i64::from(u32::MAX))
}

/// Rejects images for which a conversion gains nothing.
fn accept(request: &Request, image: Opened, choices: &mut Vec<Choice>) -> Result<(Old, Initrd), Error> {
    let Some(verdict) = image.verdict.clone() else {
        let format = image.layers.first().map_or("file system", |layer| layer.format.name());
        return Err(Error::input(format!("is a {format} image, not an initrd")).file(&request.old).hint(
            "give the initrd that the boot loader loads; inspect and diff take a file system image too",
        ));
    };
    let mut class = image.class.clone();
    match verdict {
        Verdict::Monolith => {}
        Verdict::Converted(maker) => {
            return Err(Error::input(format!("is already converted ({maker}): {}", evidence(&image.why)))
                .file(&request.old)
                .hint("boot it as it is, or convert the original image"));
        }
        Verdict::FrontEnd(maker) | Verdict::SystemInside(maker) if request.assume_monolith => {
            choices.push(Choice::AssumedMonolith { maker, evidence: class.signs.clone() });
            class.verdict = Verdict::Monolith;
        }
        Verdict::SystemInside(_) if request.runtime == RuntimeFrom::Retained => {}
        Verdict::SystemInside(_) => {
            return Err(Error::input(format!(
                "is a small initramfs with its system in a file inside: nothing to convert ({})",
                system_inside(&class)
            ))
            .file(&request.old)
            .hint(read_in_place(request, &image)));
        }
        Verdict::FrontEnd(maker) => {
            let why = evidence(&image.why);
            return Err(Error::input(format!(
                "is already a small initramfs (made by {maker}) that mounts its root elsewhere: nothing to convert ({why})"
            ))
            .file(&request.old)
            .hint("if it is the whole system nevertheless, add --assume-monolith"));
        }
    }
    let image = Opened { verdict: Some(class.verdict.clone()), ..image };
    let (parts, size, facts) = (parts(&image), image.size(), Facts::of(&image, &TypicalKernel::TYPICAL));
    let Some((initrd, facts)) = image.initrd.zip(facts) else {
        return Err(Error::input("is not an initrd").file(&request.old));
    };
    Ok((Old { path: request.old.clone(), size, parts, class, facts }, initrd))
}

/// What is to be won for an initramfs whose system is in a file inside.
fn read_in_place(request: &Request, image: &Opened) -> String {
    let convert = "to convert the initramfs itself all the same, add --assume-monolith";
    let facts = Facts::of(image, &TypicalKernel::TYPICAL);
    let Some((facts, file)) = facts.zip(image.class.inside.first()) else { return convert.into() };
    let machine = Machine::new(TypicalKernel::TYPICAL, request.cpus);
    let inside = file.size.next_multiple_of(machine.kernel.page);
    let after = Facts {
        unpacked: facts.unpacked.saturating_sub(inside),
        pinned: facts.pinned.saturating_sub(inside),
        retained: true,
        ..facts
    };
    let (before, after) = (facts.minimum(&machine) >> 20, after.minimum(&machine) >> 20);
    if after >= before {
        return format!(
            "the minimum RAM is {before} MiB (computed), and leaving {} where the boot loader puts it, with --runtime-from \
             retained, would not lower it; {convert}",
            file.path
        );
    }
    format!(
        "with Linux 6.8 or newer, --runtime-from retained leaves {} where the boot loader puts it instead of unpacking it: \
         minimum RAM {after} MiB instead of {before} MiB (computed); {convert}",
        file.path
    )
}

/// Signs as a sentence.
fn evidence(signs: &[Sign]) -> String {
    signs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Where the system is and why a conversion gains nothing, for an image whose system is in a file inside.
fn system_inside(class: &Classification) -> String {
    let sign = class.signs.iter().find(|sign| matches!(sign, Sign::SystemInside { .. }));
    let largest = class.inside.iter().max_by_key(|inside| inside.size);
    let (Some(sign), Some(largest)) = (sign, largest) else { return String::new() };
    let why = match (largest.kind, largest.compressed) {
        (kind, true) if kind.is_archive() => "is unpacked into memory by the image's own programs",
        (kind, false) if kind.is_archive() => {
            "is not compressed, and the image's own programs unpack it into memory"
        }
        (InsideKind::Squashfs | InsideKind::Erofs, false) => {
            "is compressed and read in place: a btrfs around it would only add to it"
        }
        _ => "is mounted by the image's own programs",
    };
    format!("{sign}: a {} that {why}", largest.kind)
}
