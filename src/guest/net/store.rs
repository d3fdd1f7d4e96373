//! Where the file stays: a tmpfs of its own, which is not limited to half of the memory as rootfs is. What arrives is
//! written and hashed, and nothing of it is kept twice.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use btrsquash::contract::net::url::Url;
use btrsquash::contract::paths;
use btrsquash::contract::sha256::{Fetched, Sha256, hex};

use super::Trouble;
use crate::console::{Result, failed, failure, say};
use crate::sys;

const MORE_MEMORY: &str = "give the machine more memory";
const OTHER_FILE: &str =
    "put the squashfs there that was made together with this image: each conversion makes another one";

/// Bytes for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// A file that is being fetched.
pub(super) struct Store {
    path: PathBuf,
    file: File,
    expected: Fetched,
    received: u64,
    hash: Sha256,
    start: Instant,
    /// When progress was shown, and how much there was then.
    shown: (Instant, u64),
}

impl Store {
    pub(super) fn new(expected: Fetched) -> Result<Self> {
        let directory = Path::new("/").join(paths::MOUNT_FETCHED);
        fs::create_dir_all(&directory).map_err(failed("making a mount point", MORE_MEMORY))?;
        // In whole pages, which have up to 64 KiB.
        let size = (expected.size / (64 << 10) + 1) * (64 << 10);
        let options = format!("size={size},mode=0700");
        sys::mount_at("tmpfs", &directory, "tmpfs", sys::MS_NOSUID | sys::MS_NODEV, &options)
            .map_err(failed("mounting a tmpfs for the runtime", "use a kernel with tmpfs"))?;
        let path = directory.join(paths::SQUASHFS);
        let file = File::create(&path).map_err(failed("making the file for the runtime", MORE_MEMORY))?;
        let now = Instant::now();
        let hash = Sha256::default();
        Ok(Self { path, file, expected, received: 0, hash, start: now, shown: (now, 0) })
    }

    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Begins again at the first byte.
    pub(super) fn restart(&mut self) -> std::result::Result<(), Trouble> {
        // A new file: the space of the old one is free at once, and no position has to be set back.
        self.file = File::create(&self.path).map_err(writing)?;
        (self.received, self.hash, self.shown.1) = (0, Sha256::default(), 0);
        Ok(())
    }

    /// Fails if the server says that the file has another size.
    pub(super) fn check_size(&self, url: &Url, size: u64) -> std::result::Result<(), Trouble> {
        if size == self.expected.size {
            return Ok(());
        }
        Err(Trouble::last(
            format!(
                "{url} has {size} bytes, expected {}: it is not the runtime of this image",
                self.expected.size
            ),
            OTHER_FILE,
        ))
    }

    /// Takes the next bytes.
    pub(super) fn take(&mut self, url: &Url, bytes: &[u8]) -> std::result::Result<(), Trouble> {
        let received = self.received + bytes.len() as u64;
        if received > self.expected.size {
            return Err(Trouble::last(
                format!("{url} has more than the expected {} bytes", self.expected.size),
                OTHER_FILE,
            ));
        }
        self.file.write_all(bytes).map_err(writing)?;
        self.hash.update(bytes);
        self.received = received;
        let (time, before) = self.shown;
        let (passed, size) = (time.elapsed(), self.expected.size);
        if passed >= Duration::from_secs(10)
            || passed >= Duration::from_secs(2) && (received - before) * 10 >= size
        {
            say(&format!("{} of {} ({}%)", megabytes(received), megabytes(size), received * 100 / size));
            self.shown = (Instant::now(), received);
        }
        Ok(())
    }

    /// Whether nothing is left to come.
    pub(super) fn is_whole(&self) -> bool {
        self.received == self.expected.size
    }

    /// Fails unless the file is the expected one; its path.
    pub(super) fn finish(self, url: &Url) -> Result<PathBuf> {
        let found = self.hash.finish();
        if found != self.expected.sha256 {
            return Err(failure(
                format!("{url} has the SHA-256 {}, expected {}", hex(&found), hex(&self.expected.sha256)),
                OTHER_FILE,
            ));
        }
        let seconds = self.start.elapsed().as_secs();
        say(&format!("fetched {} in {seconds} s, and the SHA-256 is right", megabytes(self.received)));
        Ok(self.path)
    }
}

fn writing(error: io::Error) -> Trouble {
    Trouble::last(format!("writing the runtime to memory: {error}"), MORE_MEMORY)
}
