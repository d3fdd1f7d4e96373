//! The checksum of an image that is looked at.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use btrsquash::bytes::open_regular;
use btrsquash::error::Error;
use btrsquash::output;

/// Larger files get no checksum: no boot loader loads them, and a sparse file of a terabyte takes no room.
const MAX_HASHED: u64 = 4 << 30;

/// The SHA-256 of an image, computed while the image is read: that takes about as long as unpacking.
pub struct Checksum {
    image: PathBuf,
    /// `None` if no thread could be started.
    thread: Option<JoinHandle<Result<Option<String>, Error>>>,
}

impl Checksum {
    /// Starts to compute it.
    pub fn start(image: &Path) -> Self {
        let image = image.to_owned();
        let path = image.clone();
        let thread = thread::Builder::new().spawn(move || checksum(&path)).ok();
        Self { image, thread }
    }

    /// The checksum; `None` if the image is not one regular file, such as several joined by `+`, or larger than
    /// [`MAX_HASHED`].
    ///
    /// # Errors
    /// Those of reading it.
    pub fn finish(self) -> Result<Option<String>, Error> {
        match self.thread.map(JoinHandle::join) {
            Some(Ok(found)) => found,
            Some(Err(_)) | None => checksum(&self.image),
        }
    }
}

fn checksum(image: &Path) -> Result<Option<String>, Error> {
    let Ok(file) = open_regular(image) else { return Ok(None) };
    if file.metadata().is_ok_and(|found| found.len() > MAX_HASHED) {
        return Ok(None);
    }
    let (_, sha256) = output::sha256(&file).map_err(|e| Error::unreadable(e).file(image))?;
    Ok(Some(sha256))
}
