//! A builder of newc archives in which every field can be set, also to what no tool would write.

use std::fmt::Write as _;

use btrsquash::codec::Encoding;

/// An entry of a newc archive, every field of which can be set.
#[derive(Clone)]
pub struct Entry {
    pub magic: &'static str,
    pub ino: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub mtime: u32,
    pub rdev: (u32, u32),
    pub name: Vec<u8>,
    pub body: Vec<u8>,
    pub checksum: u32,
    pub upper: bool,
}

/// An entry named `name`, which is followed by a NUL.
pub fn entry(name: impl AsRef<[u8]>, mode: u32) -> Entry {
    let name = [name.as_ref(), b"\0"].concat();
    Entry {
        magic: "070701",
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        nlink: 1,
        mtime: 1_000_000_000 + name.len() as u32,
        rdev: (0, 0),
        name,
        body: Vec::new(),
        checksum: 0,
        upper: false,
    }
}

pub fn file(name: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Entry {
    Entry { body: body.as_ref().to_vec(), ..entry(name, 0o100_644) }
}

pub fn dir(name: impl AsRef<[u8]>) -> Entry {
    Entry { nlink: 2, ..entry(name, 0o040_755) }
}

pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { body: target.as_ref().to_vec(), ..entry(name, 0o120_777) }
}

pub fn device(name: impl AsRef<[u8]>, mode: u32, major: u32, minor: u32) -> Entry {
    Entry { rdev: (major, minor), ..entry(name, mode) }
}

pub fn trailer() -> Entry {
    Entry { mtime: 0, ..entry("TRAILER!!!", 0) }
}

impl Entry {
    /// Sets the field of that name.
    pub fn mode(self, mode: u32) -> Self {
        Self { mode: self.mode & 0o170_000 | mode, ..self }
    }
    /// Sets the field of that name.
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }
    /// Sets the field of that name.
    pub fn link(self, ino: u32, nlink: u32) -> Self {
        Self { ino, nlink, ..self }
    }
    /// Sets the field of that name.
    pub fn time(self, mtime: u32) -> Self {
        Self { mtime, ..self }
    }
    /// The name as given, padded with NUL up to `size` bytes.
    /// Sets the field of that name.
    pub fn name_size(mut self, size: usize) -> Self {
        self.name.resize(size, 0);
        self
    }

    /// Appends the entry to `out`, whose length is that of the archive so far.
    pub fn put(&self, out: &mut Vec<u8>) {
        let fields = [
            self.ino,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.mtime,
            self.body.len() as u32,
            8,
            1,
            self.rdev.0,
            self.rdev.1,
            self.name.len() as u32,
            self.checksum,
        ];
        let mut header = self.magic.to_owned();
        for field in fields {
            if self.upper {
                write!(header, "{field:08X}").unwrap();
            } else {
                write!(header, "{field:08x}").unwrap();
            }
        }
        for part in [header.as_bytes(), &self.name] {
            out.extend_from_slice(part);
        }
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(&self.body);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// An archive of `entries`, without a trailer.
pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        entry.put(&mut out);
    }
    out
}

pub fn packed(bytes: &[u8], encoding: Encoding) -> Vec<u8> {
    btrsquash::codec::compress(bytes, encoding).unwrap()
}

pub fn patterned(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at * at / 1000) as u8 ^ seed).collect()
}
