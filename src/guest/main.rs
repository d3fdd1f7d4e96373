//! The program that btrsquash puts into images: static, for the image's architecture, with nothing but std and the system
//! calls in [`sys`].
//!
//! It is the init of the built-in boot initramfs, the carrier in dracut's, and the probe of `boot --measure`.

mod appended;
mod arguments;
mod block;
mod carry;
mod console;
mod dracut;
mod handover;
mod init;
mod lean;
mod modules;
mod net;
mod probe;
mod sys;
mod wait;

use std::path::Path;

use btrsquash::contract::{FrontEnd, paths};

fn main() {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|name| name == paths::PROBE) {
        probe::run();
    }
    if std::process::id() != 1 || arguments.next().is_some_and(|verb| verb == "hand-over") {
        let mut words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        let verb = words.next().unwrap_or_default();
        dracut::run(&verb, &words.collect::<Vec<_>>());
    }
    let image = carry::Image::read(Path::new("/"));
    match image.config.front_end {
        FrontEnd::Dracut => dracut::start(&image),
        FrontEnd::BuiltIn => init::run(),
    }
}
