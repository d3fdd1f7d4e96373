//! The slow work: the squashfs is compressed while the boot initramfs is made.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::Context;

use super::maker::{Maker, reaches};
use super::preflight::Prepared;
use super::request::{Layout, Request, Stage, Watch};
use super::result::RuntimeFacts;
use crate::btrfs::{self, Features};
use crate::bytes::{Hint, ReadAt, Region};
use crate::codec::{self, Encoding};
use crate::contract::{RuntimeFormat, RuntimeFrom, paths};
use crate::cores::Cores;
use crate::elf::{self, Archs};
use crate::error::Error;
use crate::frontend::{self, FrontEnd, built_in, dracut, guest, kept};
use crate::initrd;
use crate::kernel::Release;
use crate::squashfs;

/// The largest file that a newc archive can hold, in bytes.
const NEWC_MAX: u64 = u32::MAX as u64;

/// The parts of the new image that had to be built.
pub(super) struct Built {
    /// The boot initramfs.
    pub(super) front_end: FrontEnd,
    /// The boot initramfs, compressed.
    pub(super) packed: Vec<u8>,
    /// The squashfs, in an unlinked temporary file.
    pub(super) squashfs: File,
    /// Sizes of the runtime's file system.
    pub(super) facts: RuntimeFacts,
    /// What could not be laid out as it was in the old image.
    pub(super) notes: Vec<String>,
    /// Sizes of the squashfs.
    pub(super) written: squashfs::Written,
    /// Bytes of the built-in boot initramfs, unpacked and compressed, where it could be used instead of dracut's.
    pub(super) built_in: Option<(u64, u64)>,
}

/// A file that is in memory.
struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok().and_then(|start| self.0.get(start..));
        let bytes = start.and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

/// The runtime, laid out and not yet compressed.
enum Runtime<'a> {
    /// A btrfs image, which the squashfs will hold.
    Btrfs(Box<btrfs::Image>),
    /// The squashfs itself.
    Squashfs(squashfs::Image<'a>),
}

impl<'a> Runtime<'a> {
    fn plan(request: &Request, prepared: &'a Prepared) -> Result<Self, Error> {
        let tree = &prepared.split.runtime;
        if prepared.format == RuntimeFormat::Squashfs {
            return Ok(Self::Squashfs(squashfs::Image::of_tree(tree)?));
        }
        let options = btrfs::Options {
            features: Features::for_kernels(prepared.kernels.iter().map(|k| k.modules.version.as_str())),
            free_space: request.free_space,
            time: prepared.time,
            block_size: prepared.block_size,
        };
        Ok(Self::Btrfs(Box::new(btrfs::plan(tree, &options)?)))
    }

    fn facts(&self) -> RuntimeFacts {
        match self {
            Self::Btrfs(image) => RuntimeFacts::Btrfs(image.facts()),
            Self::Squashfs(image) => RuntimeFacts::Squashfs(image.facts()),
        }
    }

    fn notes(&self) -> &[String] {
        match self {
            Self::Btrfs(image) => image.notes(),
            Self::Squashfs(image) => image.notes(),
        }
    }

    /// Bytes that are not zeros or repetitions.
    fn stored(&self) -> u64 {
        match self.facts() {
            RuntimeFacts::Btrfs(facts) => facts.data + facts.metadata,
            RuntimeFacts::Squashfs(facts) => facts.data,
        }
    }

    /// The contents of the squashfs, with what lies where in each.
    fn contents(&self) -> Vec<(&dyn ReadAt, &[Region])> {
        match self {
            Self::Btrfs(image) => vec![(image.as_ref() as &dyn ReadAt, image.regions())],
            Self::Squashfs(image) => image.contents().collect(),
        }
    }

    /// Compresses the squashfs to `out`.
    fn write(
        &self,
        options: &squashfs::Options,
        cores: &Cores,
        out: File,
        late: &[(String, Arc<[u8]>)],
        watch: Watch<'_>,
    ) -> Result<squashfs::Written, Error> {
        let write = |image: &squashfs::Image<'_>| {
            let total = image.len();
            image.write(options, cores, out, &|done| watch(Stage::Compress, done, total))
        };
        match self {
            Self::Btrfs(image) => {
                let rootfs =
                    squashfs::File { path: paths::ROOTFS, content: image.as_ref(), regions: image.regions() };
                let late: Vec<(&str, Bytes<'_>)> =
                    late.iter().map(|(path, content)| (path.as_str(), Bytes(content))).collect();
                let regions: Vec<Region> = late
                    .iter()
                    .map(|(_, content)| Region { offset: 0, len: content.len(), hint: Hint::Few })
                    .collect();
                let late = late.iter().zip(&regions).map(|((path, content), region)| squashfs::File {
                    path,
                    content,
                    regions: std::slice::from_ref(region),
                });
                let files: Vec<squashfs::File<'_>> = late.chain([rootfs]).collect();
                write(&squashfs::Image::of_files(&files, options.time)?)
            }
            Self::Squashfs(image) => write(image),
        }
    }
}

/// The slow work: the squashfs is compressed while the front-end is made.
pub(super) fn build(request: &Request, prepared: &Prepared, watch: Watch) -> anyhow::Result<Built> {
    watch(Stage::Layout, 0, 0);
    let runtime = Runtime::plan(request, prepared)?;
    let options = squashfs::Options {
        compression: prepared.compression,
        stored: matches!(&prepared.maker, Maker::Kept(kept) if kept.stored),
        block_size: prepared.block_size,
        time: u32::try_from(prepared.time.max(0)).unwrap_or(u32::MAX),
        filters: filters(prepared),
        thorough: request.thorough(),
    };
    let versions = prepared.kernels.iter().map(|kernel| kernel.modules.version.as_str());
    let largest = Largest::of(&request.runtime, request.layout, versions);
    if let Some(largest) = &largest {
        fits(&runtime, prepared.block_size, largest)?;
    }
    let cores = Cores::new(request.threads);
    let out = tempfile::tempfile().context("making a temporary file for the squashfs")?;
    let target = out.try_clone().context("opening the temporary file for the squashfs again")?;
    let late = prepared.plan(request).late_files();
    let (front_end, written) = thread::scope(|scope| {
        let make = || front_end(request, prepared, &cores);
        let front_end = thread::Builder::new().spawn_scoped(scope, make);
        let written = runtime.write(&options, &cores, target, &late, watch);
        let front_end = match front_end {
            Ok(thread) => thread.join().map_err(|_| Error::failed("the boot initramfs could not be made")),
            // No thread is to be had: one after the other.
            Err(_) => Ok(make()),
        };
        (front_end, written)
    });
    let (front_end, packed, built_in) = front_end??;
    let written = written?;
    if let Some(largest) = largest.filter(|largest| written.size > largest.bytes) {
        return Err(largest.exceeded_by(written.size).into());
    }
    let (facts, mut notes) = (runtime.facts(), runtime.notes().to_vec());
    if !late.is_empty() {
        let bytes: u64 = late.iter().map(|(_, content)| content.len() as u64).sum();
        notes.push(format!(
            "{:.1} MB of kernel modules lie in the squashfs, not in the boot initramfs: they are needed only after it is \
             mounted",
            bytes as f64 / 1e6
        ));
    }
    Ok(Built { front_end, packed, squashfs: out, facts, notes, written, built_in })
}

/// The branch filters that every kernel's xz has.
fn filters(prepared: &Prepared) -> Archs {
    prepared.kernels.iter().fold(Archs::ALL, |all, kernel| all.common(kernel.filters))
}

/// The largest squashfs that can be in the initramfs.
#[derive(Debug, PartialEq, Eq)]
struct Largest {
    bytes: u64,
    /// The kernel that unpacks no larger file; none if it is the archive that holds none.
    kernel: Option<String>,
}

impl Largest {
    /// The limit of this conversion; `None` if the squashfs is neither in the image nor unpacked with it.
    fn of<'v>(
        runtime: &RuntimeFrom,
        layout: Layout,
        mut versions: impl Iterator<Item = &'v str>,
    ) -> Option<Self> {
        let unpacked = *runtime == RuntimeFrom::Initramfs;
        match versions.find(|version| unpacked && stops_at_2_gib(version)) {
            Some(version) => Some(Self { bytes: i32::MAX as u64, kernel: Some(version.to_owned()) }),
            None => (layout == Layout::Combined).then_some(Self { bytes: NEWC_MAX, kernel: None }),
        }
    }

    fn exceeded_by(&self, size: u64) -> Error {
        let why = match &self.kernel {
            Some(version) => format!(
                "Linux {version} stops unpacking a file at 2 GiB, as all releases from {} to before {} do",
                WITHOUT_LARGE_FILES.start, WITHOUT_LARGE_FILES.end
            ),
            None => "an entry of a newc cpio holds less than 4 GiB".to_owned(),
        };
        Error::input(format!("the squashfs has {size} bytes; {why}"))
            .hint("use --runtime-from http://… or media:LABEL=…, or --compression xz")
    }
}

/// The releases that open the files of an initramfs without `O_LARGEFILE` (init/initramfs.c, `do_name`): since they are opened
/// by `filp_open`, which does not add it, and until it was added there. Measured: 6.1.176 writes 2,147,483,647 bytes and
/// says "write error", 6.12.117 writes all.
const WITHOUT_LARGE_FILES: Range<Release> = Release::new(5, 9, 0)..Release::new(6, 9, 0);

fn stops_at_2_gib(version: &str) -> bool {
    Release::parse(version).is_some_and(|release| WITHOUT_LARGE_FILES.contains(&release))
}

/// Every so many blocks one is compressed, to estimate the size of the squashfs.
const SAMPLE: u64 = 64;

/// Fails before the work if the squashfs cannot be small enough: some of its blocks are compressed to find out.
fn fits(runtime: &Runtime<'_>, block_size: u32, largest: &Largest) -> Result<(), Error> {
    let stored = runtime.stored();
    if stored <= largest.bytes {
        return Ok(());
    }
    let (mut sampled, mut packed) = (0_u64, 0_u64);
    let mut block = vec![0; block_size as usize];
    let step = SAMPLE * block.len() as u64;
    // Bytes to the next block that is taken.
    let mut skip = 0;
    for (content, regions) in runtime.contents() {
        for region in regions.iter().filter(|region| region.hint != Hint::Zero) {
            while skip < region.len {
                let count = (region.len - skip).min(block.len() as u64) as usize;
                content
                    .read_exact_at(&mut block[..count], region.offset + skip)
                    .map_err(|e| Error::input("the runtime's content cannot be read back").caused_by(e))?;
                sampled += count as u64;
                packed += codec::compress(&block[..count], Encoding::Gzip)?.len() as u64;
                skip += step;
            }
            skip -= region.len;
        }
    }
    // gzip packs less than any method that squashfs is asked to use by default: half as much again is allowed for.
    let estimate = stored as f64 * (packed as f64 / sampled.max(1) as f64);
    if estimate / 1.5 > largest.bytes as f64 { Err(largest.exceeded_by(estimate as u64)) } else { Ok(()) }
}

/// The boot initramfs, packed too, and [`Built::built_in`].
type Made = (FrontEnd, Vec<u8>, Option<(u64, u64)>);

fn front_end(request: &Request, prepared: &Prepared, cores: &Cores) -> Result<Made, Error> {
    let _core = cores.acquire();
    let plan = prepared.plan(request);
    let front_end = match &prepared.maker {
        Maker::Dracut(found) => {
            let made = dracut::build(found, &plan)?;
            // Before anything is written: what dracut packed has to run on the image's kernel.
            let name = Path::new("the boot initramfs");
            let packed = initrd::read(&made.cpio, name, &initrd::Limits::default(), &|_| ())?;
            frontend::check_machine(&packed.tree, &prepared.architecture, &made.maker)?;
            made
        }
        Maker::BuiltIn => built_in::build(&plan)?,
        Maker::Kept(old) => kept::build(&plan, &prepared.image, old.path())?,
        Maker::File(ready) => {
            let front_end = FrontEnd {
                cpio: Vec::new(),
                maker: ready.path.display().to_string(),
                notes: vec!["taken as it is, byte for byte".into()],
            };
            return Ok((front_end, ready.bytes.clone(), None));
        }
    };
    let arch = elf::machine(guest::program(&prepared.architecture)?);
    let arch = arch.filter(|&arch| filters(prepared).contains(arch));
    let packed = codec::compress_boot(&front_end.cpio, prepared.encoding, arch, request.thorough())?;
    Ok((front_end, packed, built_in_instead(request, prepared)?))
}

/// The sizes of the built-in boot initramfs, for the note on `--optimize ram`, if it could be used instead of dracut's.
fn built_in_instead(request: &Request, prepared: &Prepared) -> Result<Option<(u64, u64)>, Error> {
    let possible = matches!(prepared.maker, Maker::Dracut(_))
        && request.optimize.is_none()
        && reaches(request, &prepared.architecture);
    if !possible {
        return Ok(None);
    }
    let cpio = built_in::build(&prepared.plan(request))?.cpio;
    let packed = codec::compress_boot(&cpio, prepared.encoding, None, false)?;
    Ok(Some((cpio.len() as u64, packed.len() as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_kernels_unpack_no_file_of_2_gib() {
        let affected = ["5.9.0", "5.10.0-8-amd64", "6.1.0-50-amd64", "6.8.12"];
        let fine = ["5.8.18", "4.19.0", "6.9.0", "6.12.117+deb13-amd64", "unknown"];
        assert!(affected.into_iter().all(stops_at_2_gib) && !fine.into_iter().any(stops_at_2_gib));
        let bytes = |runtime, layout, versions: &[&str]| {
            Largest::of(&runtime, layout, versions.iter().copied()).map(|largest| largest.bytes)
        };
        let (initramfs, retained) = (RuntimeFrom::Initramfs, RuntimeFrom::Retained);
        // The weakest kernel decides; a retained squashfs is not unpacked.
        let both = ["6.12.117", "6.1.0"];
        assert_eq!(bytes(initramfs.clone(), Layout::Combined, &both), Some((1 << 31) - 1));
        assert_eq!(bytes(initramfs.clone(), Layout::Split, &both), Some((1 << 31) - 1));
        assert_eq!(bytes(retained, Layout::Combined, &both), Some((1 << 32) - 1));
        assert_eq!(bytes(initramfs.clone(), Layout::Combined, &["6.12.117"]), Some((1 << 32) - 1));
        assert_eq!(bytes(initramfs, Layout::Split, &[]), None);
    }

    #[test]
    fn too_large_a_squashfs_says_what_holds_less() {
        let largest = |versions: &[&str]| {
            Largest::of(&RuntimeFrom::Initramfs, Layout::Combined, versions.iter().copied()).unwrap()
        };
        let error = largest(&["6.1.0-50-amd64"]).exceeded_by(2_848_261_120).to_string();
        assert!(
            error.contains("2848261120 bytes; Linux 6.1.0-50-amd64 stops unpacking a file at 2 GiB"),
            "{error}"
        );
        assert!(error.contains("from 5.9 to before 6.9"), "{error}");
        assert!(largest(&[]).exceeded_by(1 << 32).to_string().contains("less than 4 GiB"));
    }
}
