//! Images that several tests use, and the commands that look into them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use btrsquash::btrfs::{self, Features};
use btrsquash::bytes::ReadAt;
use btrsquash::cores::Cores;
use btrsquash::image::split;
use btrsquash::tree::Tree;
use btrsquash::{image, initrd, squashfs};
use serde_json::Value;

use super::{asset, btrsquash, converted, installer, kernel_package, run, sh};

/// The netboot installer of an architecture.
pub fn netboot(arch: &str) -> Option<PathBuf> {
    asset(&format!("d12/usr/lib/debian-installer/images/12/{arch}/text/debian-installer/{arch}/initrd.gz"))
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!(
            "{e}\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

pub fn inspect(image: &Path) -> Value {
    json(&run(btrsquash().arg("inspect").arg(image).arg("--json")))
}

pub fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// The text installer, converted fast.
pub fn text_converted(name: &str, more: &[&str]) -> Option<(PathBuf, PathBuf)> {
    let (old, _) = installer("text")?;
    let package = kernel_package()?;
    let mut arguments =
        vec!["--modules", package.to_str()?, "--front-end", "built-in", "--compression", "lz4"];
    arguments.extend(more);
    Some((old.clone(), converted(name, &old, &arguments)))
}

pub fn verify(old: &Path, new: &Path) -> (i32, Value) {
    let output = btrsquash().arg("verify").arg(old).arg(new).arg("--json").output().unwrap();
    (output.status.code().unwrap(), json(&output))
}

pub fn paths(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
}

/// Writes a runtime as convert does, only faster.
pub fn write_runtime(tree: &Tree, path: &Path) {
    let options =
        btrfs::Options { block_size: 128 << 10, ..btrfs::Options::new(Features::for_kernel("6.1.0")) };
    let image = btrfs::plan(tree, &options).unwrap();
    let options = squashfs::Options {
        compression: btrsquash::codec::Compression::Lz4,
        block_size: 128 << 10,
        ..Default::default()
    };
    let out = File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap();
    squashfs::write(&image, "LiveOS/rootfs.img", image.regions(), &options, &Cores::new(0), out, &|_| ())
        .unwrap();
}

/// The runtime's tree of an image.
pub fn runtime(old: &Path) -> Tree {
    let old = image::open(old, &initrd::Limits::default(), &|_| ()).unwrap();
    split::split(old.initrd.as_ref().unwrap(), &old.class, &[]).runtime
}

/// A small system, packed by GNU cpio.
pub fn small(dir: &Path) -> PathBuf {
    sh(
        dir,
        r"mkdir -p tree/etc tree/bin tree/usr/share tree/proc tree/sys tree/dev
        cd tree
        printf '#!/bin/sh\nmount -t proc proc /proc\n' >init; chmod 755 init
        printf 'one\ntwo\nthree\n' >etc/text
        head -c 300000 /dev/urandom >usr/share/noise
        cp usr/share/noise usr/share/again
        ln etc/text etc/linked; ln -s text etc/link
        find . | sort | cpio -o -H newc --quiet -R 0:0 | gzip -n >../small.img",
        &[],
    );
    dir.join("small.img")
}

/// A small system that any kernel of its own boots: all that reaches a runtime is built in.
pub fn bootable(dir: &Path) -> PathBuf {
    small(dir);
    sh(
        dir,
        r"cd tree; mkdir -p lib/modules/6.12.0
        for name in loop btrfs squashfs overlay dm-snapshot; do echo kernel/$name.ko; done >lib/modules/6.12.0/modules.builtin
        find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0 >../bootable.img",
        &[],
    );
    dir.join("bootable.img")
}

/// Converts, however many times.
pub fn convert(old: &Path, new: &Path, arguments: &[&str]) {
    let mut command = btrsquash();
    command.arg("convert").arg(old).args(arguments).args([
        "--compression",
        "lz4",
        "--force",
        "--quiet",
        "-o",
    ]);
    run(command.arg(new));
}

/// Data with one byte changed.
pub struct Patched {
    /// The data.
    pub inner: Arc<dyn ReadAt>,
    /// Offset of the changed byte.
    pub at: u64,
}

impl ReadAt for Patched {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.inner.read_exact_at(buf, offset)?;
        if let Some(at) = self.at.checked_sub(offset).filter(|at| *at < buf.len() as u64) {
            buf[at as usize] ^= 1;
        }
        Ok(())
    }
    fn len(&self) -> u64 {
        self.inner.len()
    }
}
