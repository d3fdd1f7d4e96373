//! What an initrd comes in: unified kernel images, U-Boot's uImage and FIT, kernels with a built-in initramfs, several
//! files in boot order, standard input. Everything is read in place, and most of it can be written again.

mod built_in;
mod fit;
mod iso;
mod uimage;
mod uki;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use fit::Fit;
pub(crate) use iso::files as iso_files;
pub use uimage::UImage;
pub use uki::Uki;

use crate::bytes::{Joined, ReadAt, Spool};
use crate::error::Error;
use crate::initrd::{self, Limits};
use crate::magic;

/// How the initrd was packed into a file from which it can be written again.
#[derive(Debug, Clone)]
pub enum Wrapper {
    /// A unified kernel image.
    Uki(Uki),
    /// A U-Boot image with one ramdisk.
    UImage(UImage),
    /// A flattened image tree.
    Fit(Fit),
}

/// An input, opened.
#[derive(Clone)]
pub struct Input {
    /// What errors call it: the file, as the user named it.
    pub name: PathBuf,
    /// The initrd, as the kernel gets it.
    pub initrd: Arc<dyn ReadAt>,
    /// The kernel that comes with it.
    pub kernel: Option<Arc<dyn ReadAt>>,
    /// What the initrd is packed in.
    pub wrapper: Option<Wrapper>,
    /// What to know about it, a sentence each.
    pub notes: Vec<String>,
    /// The states of the files when they were opened.
    states: Vec<(PathBuf, State)>,
}

/// Size, inode, and times of last change: what shows that a file was changed.
type State = (u64, u64, i64, i64, i64, i64);

fn state(metadata: &std::fs::Metadata) -> State {
    use std::os::unix::fs::MetadataExt;
    let m = metadata;
    (m.len(), m.ino(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec())
}

impl Input {
    fn plain(name: &Path, initrd: Arc<dyn ReadAt>) -> Self {
        let name = name.to_owned();
        Self { name, initrd, kernel: None, wrapper: None, notes: Vec::new(), states: Vec::new() }
    }

    /// Fails if a file was changed since it was opened.
    ///
    /// # Errors
    /// [`crate::error::Kind::Input`].
    pub fn check_unchanged(&self) -> Result<(), Error> {
        for (path, before) in &self.states {
            let now = path.metadata().map_err(|e| Error::reading(e).file(path))?;
            if state(&now) != *before {
                return Err(Error::input("was changed while it was read").file(path).hint("try again"));
            }
        }
        Ok(())
    }
}

/// Opens one input, or several initrds in boot order, which are joined as boot loaders join them: each starts on a
/// multiple of four bytes. `-` is standard input.
///
/// # Errors
/// [`crate::error::Kind::Input`] if a file is not of a supported kind or is damaged.
pub fn open(paths: &[PathBuf], limits: &Limits) -> Result<Input, Error> {
    let mut parts = paths.iter().map(|path| one(path, limits)).collect::<Result<Vec<_>, _>>()?;
    if parts.len() == 1
        && let Some(part) = parts.pop()
    {
        return Ok(part);
    }
    if let Some(part) =
        parts.iter().find(|part| matches!(part.wrapper, Some(Wrapper::Uki(_) | Wrapper::Fit(_))))
    {
        return Err(Error::usage("holds a kernel and its initrd: it cannot be one of several initrds")
            .file(&part.name)
            .hint("give it alone"));
    }
    let Some(first) = parts.first() else { return Err(Error::usage("no input is given")) };
    let mut joined =
        Input::plain(&first.name, Arc::new(Joined::new(parts.iter().map(|p| Arc::clone(&p.initrd)), 4)));
    let names: Vec<String> = parts.iter().map(|part| part.name.display().to_string()).collect();
    joined.notes.push(format!("joined in boot order: {}", names.join(", ")));
    joined.kernel = parts.iter().find_map(|part| part.kernel.clone());
    for part in parts {
        joined.notes.extend(part.notes);
        joined.states.extend(part.states);
    }
    Ok(joined)
}

fn one(path: &Path, limits: &Limits) -> Result<Input, Error> {
    if path.as_os_str() == "-" {
        let name = Path::new("standard input");
        let source = standard_input(limits.max_unpacked)?;
        return unwrap(name, Arc::new(source), limits).map_err(|e| e.or_file(name));
    }
    let file = initrd::open(path)?;
    let metadata = file.metadata().map_err(|e| Error::reading(e).file(path))?;
    let mut input = unwrap(path, Arc::new(file), limits).map_err(|e| e.or_file(path))?;
    input.states.push((path.to_owned(), state(&metadata)));
    Ok(input)
}

/// All of standard input, in a temporary file.
fn standard_input(limit: u64) -> Result<impl ReadAt + 'static, Error> {
    let mut spool = Spool::new().map_err(Error::temporary)?;
    let mut chunk = vec![0; 256 << 10];
    let mut stdin = io::stdin().lock();
    loop {
        let count = match stdin.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::reading(e)),
        };
        if spool.written() + count as u64 > limit {
            return Err(Error::input(format!("standard input has more than the {limit} bytes allowed"))
                .hint("if you trust it, raise --max-unpacked"));
        }
        spool.append(&chunk[..count]).map_err(Error::temporary)?;
    }
    spool.finish().map_err(Error::temporary)
}

/// Finds the initrd in `source`, whose errors call it `name`.
///
/// # Errors
/// As [`open`].
pub fn unwrap(name: &Path, source: Arc<dyn ReadAt>, limits: &Limits) -> Result<Input, Error> {
    let start = magic::window(source.as_ref(), 0);
    if start.is_empty() {
        return Err(Error::input("is empty: expected an initrd"));
    }
    let plain = Input::plain(name, Arc::clone(&source));
    if let Some(uki) = Uki::parse(&start, Arc::clone(&source))? {
        let kernel = uki.section(".linux");
        let Some(initrd) = uki.section(".initrd") else {
            return Err(Error::input("is a unified kernel image without an initrd (no .initrd section)")
                .hint("give one with an initrd, or the initrd and --kernel"));
        };
        let notes = uki.describe();
        return Ok(Input { initrd, kernel, notes, wrapper: Some(Wrapper::Uki(uki)), ..plain });
    }
    if let Some(image) = UImage::parse(&start, &source)? {
        let (initrd, kernel) = (image.initrd(&source), image.kernel(&source));
        let notes = vec![image.describe()];
        return Ok(Input { initrd, kernel, notes, wrapper: Some(Wrapper::UImage(image)), ..plain });
    }
    if let Some(fit) = Fit::parse(&start, &source)? {
        let (initrd, kernel) = (fit.initrd()?, fit.kernel());
        let notes = fit.describe();
        return Ok(Input { initrd, kernel, notes, wrapper: Some(Wrapper::Fit(fit)), ..plain });
    }
    if iso::is_iso(&start) {
        return Err(iso::refuse(source.as_ref(), name));
    }
    if let Some(initrd) = built_in::find(&start, source.as_ref(), limits)? {
        let notes = vec![built_in::note(initrd.len())];
        return Ok(Input { initrd, kernel: Some(source), notes, ..plain });
    }
    Ok(plain)
}

impl Wrapper {
    /// Writes the file with `initrd` in place of the old one, and `init` no longer named by `rdinit=`; returns its size.
    ///
    /// # Errors
    /// Those of reading and writing; `InvalidInput` if the initrd is too large for the format.
    pub fn write(&self, initrd: &dyn ReadAt, init: &str, out: &mut dyn Write) -> io::Result<u64> {
        match self {
            Self::Uki(uki) => uki.write(initrd, init, out),
            Self::UImage(image) => image.write(initrd, out),
            Self::Fit(fit) => fit.write(initrd, out),
        }
    }

    /// What to do with the new file at `new`, a sentence each.
    pub(crate) fn next_steps(&self, new: &Path) -> Vec<String> {
        let new = new.display();
        match self {
            Self::Uki(uki) => uki.next_steps(&new.to_string()),
            Self::UImage(_) => {
                vec![format!("{new} is a uImage with new checksums; mkimage -l {new} shows it")]
            }
            Self::Fit(fit) => fit.next_steps(&new.to_string()),
        }
    }
}
