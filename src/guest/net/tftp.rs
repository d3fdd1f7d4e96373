//! One file by TFTP.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use btrsquash::contract::net::tftp::{self, Packet};
use btrsquash::contract::net::url::Url;

use super::lease::Network;
use super::names;
use super::store::Store;
use super::{Trouble, store};

type Result<T> = std::result::Result<T, Trouble>;

/// Waits for an answer before the last packet is sent again, seconds.
const WAITS: [u64; 5] = [1, 2, 4, 8, 8];

/// A transfer.
struct Transfer<'a> {
    url: &'a Url,
    socket: UdpSocket,
    /// The server; its port is 69 until it answers from another one.
    server: SocketAddr,
    answered: bool,
    /// What was sent last.
    sent: Vec<u8>,
}

/// Fetches the file. TFTP cannot go on where it was: each attempt begins at the first byte.
pub(super) fn get(url: &Url, network: &Network, store: &mut Store) -> Result<()> {
    if store.received() > 0 {
        store.restart()?;
    }
    match attempt(url, network, store, true) {
        Err(None) => attempt(url, network, store, false).map_err(|trouble| {
            trouble.unwrap_or_else(|| {
                Trouble::last(format!("{url}: the server refuses the request"), "see its log")
            })
        }),
        Err(Some(trouble)) => Err(trouble),
        Ok(()) => Ok(()),
    }
}

/// One transfer, with or without options; the error is `None` if the server refuses the options.
fn attempt(
    url: &Url,
    network: &Network,
    store: &mut Store,
    options: bool,
) -> std::result::Result<(), Option<Trouble>> {
    let address = names::resolve(network, &url.host)?;
    let path = url.path.strip_prefix('/').unwrap_or(&url.path);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|e| sending(url, &e))?;
    let server = SocketAddr::from((address, url.port));
    let mut transfer = Transfer { url, socket, server, answered: false, sent: tftp::request(path, options) };
    transfer.send()?;
    let (mut size, mut next) = (usize::from(tftp::PLAIN_BLOCK), 1_u16);
    // The largest packet that was agreed on, and one byte more than fits.
    let mut buffer = [0; tftp::BLOCK as usize + 5];
    loop {
        let count = transfer.receive(&mut buffer)?;
        match tftp::packet(&buffer[..count]) {
            Some(Packet::Accepted { block, size: file }) if next == 1 => {
                if let Some(file) = file {
                    store.check_size(url, file).inspect_err(|_| transfer.stop())?;
                }
                size = block.into();
                transfer.acknowledge(0)?;
            }
            Some(Packet::Data(number, data)) if number == next && data.len() <= size => {
                store.take(url, data).inspect_err(|_| transfer.stop())?;
                transfer.acknowledge(number)?;
                next = next.wrapping_add(1);
                if data.len() < size {
                    return if store.is_whole() { Ok(()) } else { Err(Some(short(url, store))) };
                }
            }
            // Our acknowledgement was lost.
            Some(Packet::Data(number, _)) if number == next.wrapping_sub(1) => transfer.send()?,
            Some(Packet::Error(tftp::BAD_OPTIONS, _)) if options => return Err(None),
            Some(Packet::Error(code, message)) => {
                let message = String::from_utf8_lossy(message);
                let hint = if code == tftp::NOT_FOUND {
                    "put the squashfs of this image at this address"
                } else {
                    "see the server's log"
                };
                return Err(Some(Trouble::last(
                    format!("{url}: the server says {message} (error {code})"),
                    hint,
                )));
            }
            _ => {}
        }
    }
}

fn short(url: &Url, store: &Store) -> Trouble {
    Trouble::Passing(format!(
        "{url}: the server ended the transfer after {}",
        store::megabytes(store.received())
    ))
}

fn sending(url: &Url, error: &io::Error) -> Trouble {
    Trouble::Passing(format!("{url}: sending: {error}"))
}

impl Transfer<'_> {
    fn send(&self) -> Result<()> {
        self.socket.send_to(&self.sent, self.server).map(drop).map_err(|e| sending(self.url, &e))
    }

    fn acknowledge(&mut self, block: u16) -> Result<()> {
        self.sent = tftp::acknowledgement(block).to_vec();
        self.send()
    }

    fn stop(&self) {
        let _ = self.socket.send_to(tftp::STOP, self.server);
    }

    /// The next packet of the server, for which the last packet is sent again a few times.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        for wait in WAITS {
            self.socket
                .set_read_timeout(Some(Duration::from_secs(wait)))
                .map_err(|e| sending(self.url, &e))?;
            loop {
                match self.socket.recv_from(buffer) {
                    Ok((count, from)) if self.is_server(from) => return Ok(count),
                    Ok(_) => {}
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                    Err(e) => return Err(Trouble::Passing(format!("{}: receiving: {e}", self.url))),
                }
            }
            self.send()?;
        }
        Err(Trouble::Passing(format!("{}: the server does not answer", self.url)))
    }

    /// A server answers from a port of its own, which it keeps (RFC 1350, 4).
    fn is_server(&mut self, from: SocketAddr) -> bool {
        if !self.answered && from.ip() == self.server.ip() {
            (self.answered, self.server) = (true, from);
        }
        from == self.server
    }
}
