//! Fetches the runtime over a network: links, addresses, and one file by HTTP or TFTP, stored once and checked.
//!
//! What a stranger may have sent is read by `contract::net`; here are the sockets.

mod http;
mod lease;
mod link;
mod names;
mod store;
mod tftp;

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use btrsquash::contract::cmdline::Arguments;
use btrsquash::contract::net::url::{Scheme, Unusable, Url};
use btrsquash::contract::paths;
use btrsquash::contract::sha256::Fetched;

use crate::arguments::detail;
use crate::console::{Failure, Result, failed, failure, say};
use crate::init::runtime::Squashfs;
use crate::modules::Loaded;
use lease::Network;
use store::Store;

/// Attempts in a row that bring nothing; pauses between them double from a second on.
const ATTEMPTS: u32 = 6;

/// Why a file did not arrive.
pub(super) enum Trouble {
    /// It may work the next time.
    Passing(String),
    /// It will not.
    Final(Failure),
}

impl Trouble {
    fn last(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Final(failure(what, hint))
    }
}

/// Fetches the squashfs at `address` into memory.
pub(crate) fn fetch(arguments: &Arguments, loaded: &Loaded, address: &str) -> Result<Squashfs> {
    let text = fs::read_to_string(Path::new("/").join(paths::FETCHED)).unwrap_or_default();
    let expected = Fetched::parse(&text).ok_or_else(|| {
        failure(
            format!("root=live:{address}: this image does not know the checksum of a runtime on a network"),
            format!("convert the image with --runtime-from {address} --drivers net, or leave root= out"),
        )
    })?;
    let url = Url::parse(address).map_err(|why: Unusable| {
        failure(
            format!("root=live:{address}: {why}"),
            "write root=live:http://HOST/PATH or root=live:tftp://HOST/PATH",
        )
    })?;
    enough_memory(expected.size)?;
    for name in ["bond", "bridge", "team", "vlan", "ifname", "rd.route", "rd.znet"] {
        if arguments.has(name) {
            say(&format!("{name}=: ignored; for this, convert the image with --front-end dracut"));
        }
    }
    let network = lease::configure(arguments, loaded)?;
    let mut store = Store::new(expected)?;
    say(&format!("fetching {url}, {}", store::megabytes(expected.size)));
    patiently(&url, &network, &mut store)?;
    let file = store.finish(&url)?;
    network.take_down();
    detail(arguments, "the network is as the kernel left it");
    Ok(Squashfs { file, offset: 0, size: 0, own: false })
}

/// Numbers that a stranger cannot guess.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What the first datagram says that `read` understands; waits for it as long as `patience`.
fn receive<T>(socket: &UdpSocket, patience: Duration, read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut buffer = [0; 1500];
    while let Some(left) = patience.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left)).ok()?;
        let count = socket.recv(&mut buffer).ok()?;
        let found = read(buffer.get(..count)?);
        if found.is_some() {
            return found;
        }
    }
    None
}

fn patiently(url: &Url, network: &Network, store: &mut Store) -> Result<()> {
    let mut failures = 0;
    loop {
        let before = store.received();
        let result = match url.scheme {
            Scheme::Http => http::get(url, network, store),
            Scheme::Tftp => tftp::get(url, network, store),
        };
        let what = match result {
            Ok(()) => return Ok(()),
            Err(Trouble::Final(failure)) => return Err(failure),
            Err(Trouble::Passing(what)) => what,
        };
        failures = if store.received() > before { 1 } else { failures + 1 };
        if failures == ATTEMPTS {
            return Err(failure(
                format!("{url} did not arrive: {what}"),
                "check that the server runs and that the machine reaches it; root=live:URL on the kernel's command line names \
                 another address of the same file",
            ));
        }
        let pause = 1 << (failures - 1);
        say(&format!("{what}; trying again in {pause} s"));
        std::thread::sleep(Duration::from_secs(pause));
    }
}

/// Fails where the kernel would kill this process in the middle of the transfer.
fn enough_memory(size: u64) -> Result<()> {
    let meminfo = fs::read_to_string("/proc/meminfo")
        .map_err(failed("reading /proc/meminfo", "report this: it should not happen"))?;
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    match available {
        Some(kib) if kib << 10 < size => Err(failure(
            format!(
                "the runtime has {}, and {} of memory are free",
                store::megabytes(size),
                store::megabytes(kib << 10)
            ),
            "give the machine more memory",
        )),
        _ => Ok(()),
    }
}
