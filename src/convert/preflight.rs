//! Everything that can be decided before the slow work, so that what cannot be converted fails at once.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::choices;
use super::request::{FrontEndChoice, Request, Stage, Watch};
use super::split::{self, Split};
use crate::codec::{Compression, Encoding};
use crate::contract::{Overlay, RuntimeFrom};
use crate::error::Error;
use crate::frontend::{Plan, built_in, dracut};
use crate::image::classify::{self, Classification, Verdict};
use crate::initrd::{self, Initrd};
use crate::kernel::{self, Kernel, KernelModules, Wanted};
use crate::output;
use crate::report::{Choice, signs};
use crate::tree::Tree;

/// What makes the boot initramfs.
pub(super) enum Maker {
    Dracut(dracut::Dracut),
    BuiltIn,
    File(Box<ReadyMade>),
}

/// A boot initramfs given by the user.
pub(super) struct ReadyMade {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) image: Initrd,
}

/// All that is known before the slow work.
pub(super) struct Prepared {
    pub(super) image: Initrd,
    pub(super) class: Classification,
    pub(super) kernels: Vec<Kernel>,
    pub(super) modules: Vec<KernelModules>,
    pub(super) maker: Maker,
    pub(super) split: Split,
    pub(super) encoding: Encoding,
    pub(super) overlay: Overlay,
    /// The old init, as an absolute path in the runtime.
    pub(super) init: String,
    /// Paths of early files, which the front-end must not copy over the runtime: it may hold them in another version.
    pub(super) not_carried: Vec<String>,
    /// Time of everything that is made, in seconds since 1970.
    pub(super) time: i64,
    pub(super) choices: Vec<Choice>,
    pub(super) notes: Vec<String>,
}

impl Prepared {
    /// What the boot initramfs has to do.
    pub(super) fn plan<'a>(&'a self, request: &Request) -> Plan<'a> {
        Plan {
            kernels: &self.modules,
            overlay: self.overlay,
            runtime: request.runtime.clone(),
            init: &self.init,
            handover: self.class.handover,
            not_carried: &self.not_carried,
            time: self.time,
        }
    }
}

/// Reads the old image and decides how it is converted.
pub(super) fn prepare(request: &Request, old: &File, watch: Watch) -> Result<Prepared, Error> {
    check_outputs(request)?;
    let size = old.metadata().map_or(0, |m| m.len());
    watch(Stage::Read, 0, size);
    let image = initrd::read(old, &request.old, &request.limits, &|done| watch(Stage::Read, done, size))?;
    let class = classify::classify(&image);
    let mut choices = Vec::new();
    choices.extend(accept(request, &class)?);

    watch(Stage::Modules, 0, 0);
    let (maker, choice) = choose_maker(request, &class)?;
    choices.push(choice);
    let kernels = find_kernels(request, &image, &maker)?;
    let Some(overlay) = kernels.first().map(|kernel| kernel.overlay) else {
        return Err(Error::missing("no kernel to boot with was found in the image")
            .hint("name the kernel with --kernel VMLINUZ and its modules with --modules"));
    };
    // One encoding for all kernels: the weakest decides.
    let encoding = kernel::common_encoding(&kernels);
    let packed = (!matches!(maker, Maker::File(_))).then_some(encoding);
    choices::add(request, &kernels, packed, overlay, &class, &mut choices);
    let class = with_init(request, class, &image, &mut choices)?;
    let init = class.started.clone().unwrap_or_else(|| "/init".to_owned());
    let early = image.early_paths.iter().filter_map(|path| String::from_utf8(path.clone()).ok());
    Ok(Prepared {
        split: split::split(&image, &class, &kernels),
        notes: notes(&image, &class, &kernels, &maker, &init),
        modules: kernels.iter().map(|k| k.modules.clone()).collect(),
        not_carried: early.chain(image.early_bodies.iter().map(|(path, _)| path.clone())).collect(),
        time: request.source_date_epoch.unwrap_or_else(|| newest(&image)),
        image,
        class,
        kernels,
        maker,
        encoding,
        overlay,
        init,
        choices,
    })
}

/// Fails if an output file exists, cannot be written, or would replace one of the inputs.
fn check_outputs(request: &Request) -> Result<(), Error> {
    let outputs = request.outputs();
    for path in &outputs {
        output::check_output(path, request.force)?;
    }
    // With --force the image, and only the image, may replace the old one.
    output::check_distinct(outputs.iter().skip(1).chain([&request.old]).map(PathBuf::as_path))
}

/// The kernels that will boot the new image, with what each has to load to reach the runtime.
fn find_kernels(request: &Request, image: &Initrd, maker: &Maker) -> Result<Vec<Kernel>, Error> {
    match maker {
        Maker::BuiltIn => built_in::check_runtime(&request.runtime)?,
        Maker::Dracut(_) | Maker::File(_) => dracut::check_runtime(&request.runtime)?,
    }
    let ready_made: Option<(String, &Tree)> = match maker {
        Maker::File(ready) => Some((ready.path.display().to_string(), &ready.image.tree)),
        Maker::Dracut(_) | Maker::BuiltIn => None,
    };
    let wanted = Wanted {
        format: Some(crate::contract::RuntimeFormat::Btrfs),
        overlay: request.overlay,
        compression: request.compression,
        bcj: request.compression == Compression::Xz,
        runtime: &request.runtime,
        drivers: &request.drivers,
        ready_made: ready_made.as_ref().map(|(name, tree)| (name.as_str(), *tree)),
    };
    let kernels =
        kernel::find(&image.tree, &image.segments, &request.modules, request.kernel.as_deref(), &wanted)?;
    if request.runtime == RuntimeFrom::Retained
        && let Some((kernel, why)) =
            kernels.iter().find_map(|k| k.retained.as_ref().err().map(|why| (&k.modules.version, why)))
    {
        return Err(Error::missing(format!("kernel {kernel} cannot keep the initrd in place: {why}"))
            .hint("use --runtime-from initramfs, which works with every kernel"));
    }
    Ok(kernels)
}

/// What the user should know: about the old image, its kernels, its init and a given front-end.
fn notes(
    image: &Initrd,
    class: &Classification,
    kernels: &[Kernel],
    maker: &Maker,
    init: &str,
) -> Vec<String> {
    let mut notes = image.notes.clone();
    for kernel in kernels {
        notes.extend(kernel.notes.iter().cloned());
    }
    notes.dedup();
    notes.extend(signs::remarks(class));
    if class.init.as_deref() == Some(init) && init != "/init" {
        notes.push(format!(
            "the new image has an /init, which starts {init}: leave rdinit={init} out of the kernel's command line"
        ));
    }
    if let Maker::File(ready) = maker
        && !ready.image.tree.walk().any(|entry| mounts_live_images(&entry.path))
    {
        notes.push(format!(
            "no dmsquash-live was found in {}: it has to understand root=live: and rd.live.image",
            ready.path.display()
        ));
    }
    notes
}

/// Whether a file at this path shows that an initramfs can mount a live image.
fn mounts_live_images(path: &[u8]) -> bool {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    name.starts_with(b"dmsquash-live-root") || path == built_in::CONFIG.as_bytes()
}

/// The classification with the init that `--init` names, where it does.
fn with_init(
    request: &Request,
    class: Classification,
    image: &Initrd,
    choices: &mut Vec<Choice>,
) -> Result<Classification, Error> {
    let Some(init) = &request.init else { return Ok(class) };
    let class = class.starting(&image.tree, init).map_err(|e| e.file(&request.old))?;
    choices.push(Choice { what: "init".into(), chosen: init.clone(), why: "requested with --init".into() });
    Ok(class)
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

/// Rejects images for which a conversion gains nothing; the choice is the user's override.
fn accept(request: &Request, class: &Classification) -> Result<Option<Choice>, Error> {
    let why = class.signs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match &class.verdict {
        Verdict::Monolith => Ok(None),
        Verdict::Converted(maker) => {
            Err(Error::input(format!("is already converted ({maker}): {why}")).file(&request.old))
        }
        Verdict::FrontEnd(maker) | Verdict::SystemInside(maker) if request.assume_monolith => Ok(Some(Choice {
            what: "kind of image".into(),
            chosen: "monolith".into(),
            why: format!("--assume-monolith, although it looks like a front-end made by {maker}: {why}"),
        })),
        Verdict::SystemInside(_) => Err(Error::input(format!(
            "is a small initramfs with its system in a file inside: nothing to convert ({})",
            signs::inside(class)
        ))
        .file(&request.old)
        .hint("to convert it all the same, add --assume-monolith")),
        Verdict::FrontEnd(maker) => Err(Error::input(format!(
            "is already a small initramfs (made by {maker}) that mounts its root elsewhere: nothing to convert ({why})"
        ))
        .file(&request.old)
        .hint("if it is the whole system nevertheless, add --assume-monolith")),
    }
}

fn choose_maker(request: &Request, class: &Classification) -> Result<(Maker, Choice), Error> {
    let arch = class.architecture.as_deref().unwrap_or(std::env::consts::ARCH);
    let asked = "requested with --front-end";
    let chosen = |maker: Maker, chosen: String, why: &str| {
        (maker, Choice { what: "front-end".into(), chosen, why: why.into() })
    };
    match &request.front_end {
        FrontEndChoice::File(path) => {
            let maker = Maker::File(Box::new(ready_made(path, &request.limits)?));
            Ok(chosen(maker, path.display().to_string(), "a ready-made initramfs was given with --front-end"))
        }
        FrontEndChoice::Dracut { root } => {
            let found = dracut::find(root.as_deref())?;
            let name = format!("dracut {}", found.version);
            Ok(chosen(Maker::Dracut(found), name, asked))
        }
        FrontEndChoice::BuiltIn => {
            built_in::check(arch)?;
            Ok(chosen(Maker::BuiltIn, "built-in".into(), asked))
        }
        FrontEndChoice::Auto if request.runtime == RuntimeFrom::Retained => {
            built_in::check(arch)?;
            Ok(chosen(Maker::BuiltIn, "built-in".into(), "only it reads a retained runtime in place"))
        }
        FrontEndChoice::Auto => match dracut::find(None) {
            Ok(found) => {
                let name = format!("dracut {}", found.version);
                Ok(chosen(Maker::Dracut(found), name, "the host's dracut has dmsquash-live"))
            }
            Err(missing) => {
                built_in::check(arch)
                    .map_err(|e| Error { hint: missing.hint.clone().or(e.hint.clone()), ..e })?;
                Ok(chosen(Maker::BuiltIn, "built-in".into(), &missing.what))
            }
        },
    }
}

/// Reads a boot initramfs given by the user. It is kept byte for byte; reading it shows that the kernel can unpack it.
fn ready_made(path: &Path, limits: &initrd::Limits) -> Result<ReadyMade, Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::usage(format!("cannot be read: {e}")).file(path))?;
    let limits = initrd::Limits { accept_partial: false, ..*limits };
    let image = initrd::read(&bytes, path, &limits, &|_| ())?;
    if image.tree.resolve("init").is_none() {
        return Err(Error::input("has no /init for the kernel to start")
            .file(path)
            .hint("give a complete initramfs, such as dracut --add dmsquash-live makes"));
    }
    Ok(ReadyMade { path: path.to_owned(), bytes, image })
}
