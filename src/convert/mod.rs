//! The order of a conversion: read, classify, preflight, split, lay out, compress while the front-end is made,
//! assemble, report.

mod delivery;
pub mod layout;
mod request;
mod result;
pub mod split;

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::thread;

use anyhow::Context;

pub use request::{FrontEndChoice, Layout, Request, Stage, Watch};

use crate::btrfs::{self, Features};
use crate::bytes::ReadAt;
use crate::codec;
use crate::codec::Encoding;
use crate::contract::RuntimeFrom;
use crate::contract::paths::CMDLINE_FILE;
use crate::cores::Cores;
use crate::error::Error;
use crate::frontend::{FrontEnd, Plan, built_in, dracut};
use crate::image::classify::{self, Classification, Verdict};
use crate::initrd::{self, Initrd};
use crate::kernel::KernelModules;
use crate::kernel::{self, Kernel, Wanted};
use crate::output::{self, OutputFile};
use crate::ram;
use crate::report::{Choice, Conversion};
use crate::squashfs;
use layout::{Carry, Image};
use split::Split;

/// Most bytes that an entry of a newc archive holds.
const NEWC_MAX: u64 = u32::MAX as u64;

/// What a front-end is made by.
enum Maker {
    Dracut(dracut::Dracut),
    BuiltIn,
    File(ReadyMade),
}

/// An initramfs that the user made.
struct ReadyMade {
    path: PathBuf,
    bytes: Vec<u8>,
    image: Initrd,
}

/// All that is known before the slow work.
struct Prepared {
    image: Initrd,
    class: Classification,
    kernels: Vec<Kernel>,
    modules: Vec<KernelModules>,
    maker: Maker,
    split: Split,
    encoding: Encoding,
    overlay: crate::contract::Overlay,
    init: String,
    time: i64,
    choices: Vec<Choice>,
    notes: Vec<String>,
}

/// What was made.
struct Made {
    front_end: FrontEnd,
    /// The front-end, compressed.
    packed: Vec<u8>,
    squashfs: File,
    facts: btrfs::Facts,
    /// What could not be laid out as it was.
    notes: Vec<String>,
    written: squashfs::Written,
}

/// Converts an image. The report says what was done; with [`Request::dry_run`] nothing is written.
///
/// # Errors
/// [`Error`] somewhere in the chain tells the exit code.
pub fn convert(request: &Request, watch: Watch) -> anyhow::Result<Conversion> {
    let old = initrd::open(&request.old)?;
    let prepared = prepare(request, &old, watch)?;
    if request.dry_run {
        return Ok(result::dry_run(request, &prepared)?);
    }
    let made = make(request, &prepared, watch)?;
    watch(Stage::Write, 0, 0);
    let mut output = write(request, &old, &prepared, &made)?;
    // Whatever fails fails before a file has its name.
    let report = result::done(request, &prepared, &made, &mut output)?;
    for file in output.beside {
        file.commit()?;
    }
    output.image.commit()?;
    Ok(report)
}

fn prepare(request: &Request, old: &File, watch: Watch) -> anyhow::Result<Prepared> {
    let outputs = request.outputs();
    for path in &outputs {
        output::check_output(path, request.force)?;
    }
    // Only the image itself may take the old one's place, by --force.
    output::check_distinct(outputs.iter().skip(1).chain([&request.old]).map(PathBuf::as_path))?;
    let size = old.metadata().map_or(0, |m| m.len());
    watch(Stage::Read, 0, size);
    let image = initrd::read(old, &request.old, &request.limits, &|done| watch(Stage::Read, done, size))?;
    let class = classify::classify(&image);
    let mut choices = Vec::new();
    accept(request, &class, &mut choices)?;

    watch(Stage::Modules, 0, 0);
    let maker = choose_maker(request, &class, &mut choices)?;
    match &maker {
        Maker::BuiltIn => built_in::check_runtime(&request.runtime)?,
        Maker::Dracut(_) | Maker::File(_) => dracut::check_runtime(&request.runtime)?,
    }
    let ready_made = match &maker {
        Maker::File(ready) => Some((ready.path.display().to_string(), &ready.image.tree)),
        Maker::Dracut(_) | Maker::BuiltIn => None,
    };
    let wanted = Wanted {
        overlay: request.overlay,
        compression: request.compression,
        bcj: request.compression == squashfs::Compression::Xz,
        runtime: &request.runtime,
        drivers: &request.drivers,
        ready_made: ready_made.as_ref().map(|(name, tree)| (name.as_str(), *tree)),
    };
    let kernels =
        kernel::find(&image.tree, &image.segments, &request.modules, request.kernel.as_deref(), &wanted)?;
    let Some(first) = kernels.first() else {
        return Err(Error::missing("no kernel to boot with was found in the image")
            .hint("name the kernel with --kernel VMLINUZ and its modules with --modules")
            .into());
    };
    if request.runtime == RuntimeFrom::Retained
        && let Some((kernel, why)) =
            kernels.iter().find_map(|k| k.retained.as_ref().err().map(|why| (&k.modules.version, why)))
    {
        return Err(Error::missing(format!("kernel {kernel} cannot keep the initrd in place: {why}"))
            .hint("use --runtime-from initramfs, which every kernel can")
            .into());
    }
    // One encoding for all: the weakest kernel decides.
    let encoding = kernel::common_encoding(&kernels);
    // One overlay for all: that is what they were looked for with.
    let overlay = first.overlay;
    let init = class.init.clone().unwrap_or_else(|| "/init".to_owned());
    let split = split::split(&image, &class, &kernels);
    let time = request.source_date_epoch.unwrap_or_else(|| newest(&image));
    let mut notes = image.notes.clone();
    for kernel in &kernels {
        notes.extend(kernel.notes.iter().cloned());
    }
    notes.dedup();
    if init != "/init" {
        notes.push(format!(
            "the new image has an /init, which starts {init}: leave rdinit={init} out of the kernel's command line"
        ));
    }
    if let Maker::File(ready) = &maker {
        let live = |entry: &crate::tree::Entry| {
            let name = entry.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
            name.starts_with(b"dmsquash-live-root") || entry.path == b".btrsquash/config"
        };
        if !ready.image.tree.walk().any(|entry| live(&entry)) {
            notes.push(format!(
                "{} has no dmsquash-live, as far as can be seen: it has to understand root=live: and rd.live.image",
                ready.path.display()
            ));
        }
    }
    let modules = kernels.iter().map(|k| k.modules.clone()).collect();
    let packed = (!matches!(maker, Maker::File(_))).then_some(encoding);
    result::choices(request, &kernels, packed, overlay, &class, &mut choices);
    Ok(Prepared {
        image,
        class,
        kernels,
        modules,
        maker,
        split,
        encoding,
        overlay,
        init,
        time,
        choices,
        notes,
    })
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

/// Refuses what there is nothing to win with.
fn accept(request: &Request, class: &Classification, choices: &mut Vec<Choice>) -> Result<(), Error> {
    let why = class.why.join("; ");
    match &class.verdict {
        Verdict::Monolith => Ok(()),
        Verdict::Converted(maker) => {
            Err(Error::input(format!("is already converted ({maker}): {why}")).file(&request.old))
        }
        Verdict::FrontEnd(maker) if request.assume_monolith => {
            choices.push(Choice {
                what: "kind of image".into(),
                chosen: "monolith".into(),
                why: format!("--assume-monolith, although it looks like a front-end made by {maker}: {why}"),
            });
            Ok(())
        }
        Verdict::FrontEnd(maker) => Err(Error::input(format!(
            "is an ordinary front-end made by {maker}, which mounts its root elsewhere: nothing to win ({why})"
        ))
        .file(&request.old)
        .hint("if it is the whole system nevertheless, say --assume-monolith")),
    }
}

fn choose_maker(
    request: &Request,
    class: &Classification,
    choices: &mut Vec<Choice>,
) -> Result<Maker, Error> {
    let arch = class.architecture.as_deref().unwrap_or(std::env::consts::ARCH);
    let mut chosen =
        |chosen: String, why: String| choices.push(Choice { what: "front-end".into(), chosen, why });
    match &request.front_end {
        FrontEndChoice::File(path) => {
            let bytes =
                std::fs::read(path).map_err(|e| Error::usage(format!("cannot be read: {e}")).file(path))?;
            // Read so that what the kernel would not unpack is not passed on; kept byte for byte.
            let image = initrd::read(&bytes, path, &request.limits, &|_| ())?;
            if image.tree.resolve("init").is_none() {
                return Err(Error::input("has no /init, which the kernel would start")
                    .file(path)
                    .hint("give a whole initramfs, such as dracut --add dmsquash-live makes"));
            }
            chosen(path.display().to_string(), "a ready-made initramfs was given with --front-end".into());
            Ok(Maker::File(ReadyMade { path: path.clone(), bytes, image }))
        }
        FrontEndChoice::Dracut { root } => {
            let found = dracut::find(root.as_deref())?;
            chosen(format!("dracut {}", found.version), "asked for with --front-end".into());
            Ok(Maker::Dracut(found))
        }
        FrontEndChoice::BuiltIn => {
            built_in::check(arch)?;
            chosen("built-in".into(), "asked for with --front-end".into());
            Ok(Maker::BuiltIn)
        }
        FrontEndChoice::Auto => {
            if request.runtime == RuntimeFrom::Retained {
                built_in::check(arch)?;
                chosen("built-in".into(), "only it reads a retained runtime in place".into());
                return Ok(Maker::BuiltIn);
            }
            match dracut::find(None) {
                Ok(found) => {
                    chosen(format!("dracut {}", found.version), "the host's dracut has dmsquash-live".into());
                    Ok(Maker::Dracut(found))
                }
                Err(missing) => {
                    built_in::check(arch)
                        .map_err(|e| Error { hint: missing.hint.clone().or(e.hint.clone()), ..e })?;
                    chosen("built-in".into(), missing.what);
                    Ok(Maker::BuiltIn)
                }
            }
        }
    }
}

/// The slow work: the squashfs is compressed while the front-end is made.
fn make(request: &Request, prepared: &Prepared, watch: Watch) -> anyhow::Result<Made> {
    watch(Stage::Layout, 0, 0);
    let options = btrfs::Options {
        features: Features::for_kernels(prepared.kernels.iter().map(|k| k.modules.version.as_str())),
        free_space: request.free_space,
        time: prepared.time,
        block_size: request.block_size,
    };
    let image = btrfs::plan(&prepared.split.runtime, &options)?;
    let squashfs_options = squashfs::Options {
        compression: request.compression,
        block_size: request.block_size,
        time: u32::try_from(prepared.time.max(0)).unwrap_or(u32::MAX),
        bcj: prepared.kernels.iter().all(|k| k.bcj),
    };
    let into_cpio = request.layout == Layout::Combined;
    if into_cpio {
        fits(&image, request)?;
    }
    let cores = Cores::new(request.threads);
    let out = tempfile::tempfile().context("making a temporary file for the squashfs")?;
    let target = out.try_clone().context("opening the temporary file for the squashfs again")?;
    let (facts, notes) = (image.facts(), image.notes().to_vec());
    let total = image.len();
    let (front_end, written) = thread::scope(|scope| {
        let front_end = scope.spawn(|| front_end(request, prepared, &cores));
        let written = squashfs::write(
            &image,
            "LiveOS/rootfs.img",
            image.regions(),
            &squashfs_options,
            &cores,
            target,
            &|done| watch(Stage::Compress, done, total),
        );
        let front_end = front_end.join().map_err(|_| Error::input("the front-end could not be made"));
        (front_end, written)
    });
    let (front_end, packed) = front_end??;
    let written = written?;
    if into_cpio && written.size > NEWC_MAX {
        return Err(too_large(written.size).into());
    }
    Ok(Made { front_end, packed, squashfs: out, facts, notes, written })
}

fn too_large(size: u64) -> Error {
    Error::input(format!("the squashfs has {size} bytes; an entry of a newc cpio holds less than 4 GiB"))
        .hint("use --runtime-from http://… or media:LABEL=…, or --compression xz")
}

/// Fails before the work where the squashfs cannot fit into a cpio: every 64th block is compressed to tell.
fn fits(image: &btrfs::Image, request: &Request) -> Result<(), Error> {
    let facts = image.facts();
    if facts.data + facts.metadata <= NEWC_MAX {
        return Ok(());
    }
    let (mut sampled, mut packed) = (0_u64, 0_u64);
    let mut block = vec![0; request.block_size as usize];
    for region in image.regions().iter().filter(|r| r.hint != crate::bytes::Hint::Zero) {
        let step = 64 * block.len() as u64;
        for at in (region.offset..region.offset + region.len).step_by(step as usize) {
            let count = (region.offset + region.len - at).min(block.len() as u64) as usize;
            image
                .read_exact_at(&mut block[..count], at)
                .map_err(|e| Error::input(format!("the runtime's content cannot be read back: {e}")))?;
            sampled += count as u64;
            packed += codec::compress(&block[..count], Encoding::Gzip)?.len() as u64;
        }
    }
    // gzip packs less than any method that squashfs is asked to use by default: half as much again is allowed for.
    let estimate = (facts.data + facts.metadata) as f64 * (packed as f64 / sampled.max(1) as f64);
    if estimate / 1.5 > NEWC_MAX as f64 { Err(too_large(estimate as u64)) } else { Ok(()) }
}

fn front_end(request: &Request, prepared: &Prepared, cores: &Cores) -> Result<(FrontEnd, Vec<u8>), Error> {
    let _turn = cores.turn();
    let image = &prepared.image;
    // Also what the runtime holds in another version: the early one must not be carried over it.
    let early = image.early_paths.iter().filter_map(|path| String::from_utf8(path.clone()).ok());
    let not_carried: Vec<String> =
        early.chain(image.early_bodies.iter().map(|(path, _)| path.clone())).collect();
    let plan = Plan {
        kernels: &prepared.modules,
        overlay: prepared.overlay,
        runtime: request.runtime.clone(),
        init: &prepared.init,
        handover: prepared.class.handover,
        not_carried: &not_carried,
        time: prepared.time,
    };
    let front_end = match &prepared.maker {
        Maker::Dracut(found) => dracut::build(found, &plan)?,
        Maker::BuiltIn => built_in::build(&plan, &prepared.split.runtime)?,
        Maker::File(ready) => {
            let front_end = FrontEnd {
                cpio: Vec::new(),
                maker: ready.path.display().to_string(),
                notes: vec!["taken as it is, byte for byte".into()],
            };
            return Ok((front_end, ready.bytes.clone()));
        }
    };
    let packed = codec::compress(&front_end.cpio, prepared.encoding)?;
    Ok((front_end, packed))
}

/// What was written and has no names yet.
struct Output {
    image: OutputFile,
    parts: layout::Parts,
    /// The files beside the image.
    beside: Vec<OutputFile>,
    /// The runtime among them, and its bytes.
    runtime: Option<(PathBuf, u64)>,
}

fn write(request: &Request, old: &File, prepared: &Prepared, made: &Made) -> anyhow::Result<Output> {
    let early: Vec<_> =
        prepared.image.segments.iter().filter(|s| s.early).map(initrd::Segment::range).collect();
    let split = request.layout == Layout::Split;
    let carry = if request.runtime == RuntimeFrom::Retained { Carry::Retained } else { Carry::Regular };
    let size = made.written.size;
    let mut cmdline = cmdline(request, prepared);
    let outside = match request.runtime {
        RuntimeFrom::Network(_) => Some(ram::FETCHED),
        RuntimeFrom::Initramfs if split => Some(ram::BESIDE),
        _ => None,
    };
    if let Some(word) = outside {
        cmdline = format!("{} {word}{size}\n", cmdline.trim_end());
    }
    let mut checksum = None;
    let in_image = matches!(request.runtime, RuntimeFrom::Initramfs | RuntimeFrom::Retained);
    if in_image && matches!(prepared.maker, Maker::BuiltIn) {
        let mut squashfs = &made.squashfs;
        squashfs.rewind().context("reading the squashfs back")?;
        checksum = Some(built_in::made_with(&mut squashfs).context("reading the squashfs back")?);
    }
    let extra = |offset: u64| {
        let mut files = vec![(CMDLINE_FILE.to_owned(), cmdline.clone().into_bytes())];
        files.extend(checksum.clone());
        if carry == Carry::Retained {
            files.push(built_in::retained(offset, size));
        }
        files
    };
    let image = Image {
        old,
        early: &early,
        early_bodies: &prepared.image.early_bodies,
        bootconfig: prepared.image.bootconfig.clone(),
        squashfs: (!split).then_some((&made.squashfs as &dyn ReadAt, carry)),
        extra: &extra,
        front_end: &made.packed,
        time: prepared.time,
    };
    let mut out = OutputFile::create(&request.new, request.force)?;
    let written = |e: std::io::Error| Error::usage(format!("cannot be written: {e}")).file(&request.new);
    let parts = image.write(&mut out).map_err(written)?;
    let (mut beside, mut runtime) = (Vec::new(), None);
    if split {
        let path = layout::runtime_file(&request.new);
        let mut file = OutputFile::create(&path, request.force)?;
        let mut squashfs = &made.squashfs;
        squashfs.rewind().context("reading the squashfs back")?;
        let bytes = std::io::copy(&mut squashfs, &mut file).context("copying the squashfs")?;
        file.flush().context("copying the squashfs")?;
        beside.push(file);
        let entries = layout::entries_file(&request.new);
        let mut file = OutputFile::create(&entries, request.force)?;
        file.write_all(delivery::entries(request, &path).as_bytes())
            .map_err(|e| Error::usage(format!("cannot be written: {e}")).file(&entries))?;
        beside.push(file);
        runtime = Some((path, bytes));
    }
    Ok(Output { image: out, parts, beside, runtime })
}

/// What /etc/cmdline.d says: where the root is and how it becomes writable, and what the user adds.
fn cmdline(request: &Request, prepared: &Prepared) -> String {
    let plan = Plan {
        kernels: &prepared.modules,
        overlay: prepared.overlay,
        runtime: request.runtime.clone(),
        init: &prepared.init,
        handover: prepared.class.handover,
        not_carried: &[],
        time: prepared.time,
    };
    match &prepared.maker {
        Maker::Dracut(_) | Maker::File(_) => dracut::cmdline(&plan, Some(&request.cmdline)),
        Maker::BuiltIn => {
            format!("{} {}", built_in::cmdline(&plan), request.cmdline).trim_end().to_owned() + "\n"
        }
    }
}
