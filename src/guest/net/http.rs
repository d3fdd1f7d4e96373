//! One file by HTTP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use btrsquash::contract::net::http::{self, Body, Chunks, Head};
use btrsquash::contract::net::url::{Scheme, Url};

use super::lease::Network;
use super::names;
use super::store::Store;
use super::{Trouble, store};

type Result<T> = std::result::Result<T, Trouble>;

const CONNECTING: Duration = Duration::from_secs(10);
/// As long as a server may say nothing.
const SILENCE: Duration = Duration::from_secs(20);
const REDIRECTIONS: u32 = 5;
/// What is read at once.
const BUFFER: usize = 64 << 10;

/// Fetches the file, or the rest of it after an attempt that ended early.
pub(super) fn get(url: &Url, network: &Network, store: &mut Store) -> Result<()> {
    let mut url = url.clone();
    for _ in 0..=REDIRECTIONS {
        match ask(&url, network, store)? {
            None => return Ok(()),
            Some(next) => url = next,
        }
    }
    Err(Trouble::last(
        format!("{url}: more than {REDIRECTIONS} redirections"),
        "give the address at which the server has the file",
    ))
}

/// Asks for the file; where it is instead, if the server says so.
fn ask(url: &Url, network: &Network, store: &mut Store) -> Result<Option<Url>> {
    let address = names::resolve(network, &url.host)?;
    let server = SocketAddr::from((address, url.port));
    let mut stream =
        TcpStream::connect_timeout(&server, CONNECTING).map_err(|e| passing(url, "connecting", &e))?;
    let limits = stream.set_read_timeout(Some(SILENCE)).and(stream.set_write_timeout(Some(SILENCE)));
    limits.map_err(|e| passing(url, "connecting", &e))?;
    stream
        .write_all(http::request(url, store.received()).as_bytes())
        .map_err(|e| passing(url, "asking", &e))?;
    let mut buffer = Vec::with_capacity(BUFFER);
    let head = read_head(url, &mut stream, &mut buffer)?;
    match head.status {
        200 => {
            if store.received() > 0 {
                store.restart()?;
            }
        }
        206 if head.from == Some(store.received()) => {}
        206 | 416 => {
            store.restart()?;
            return Err(Trouble::Passing(format!("{url}: the server does not continue where it was")));
        }
        301 | 302 | 303 | 307 | 308 => return elsewhere(url, &head).map(Some),
        408 | 425 | 429 | 500.. => return Err(Trouble::Passing(answer(url, &head))),
        404 | 410 => {
            return Err(Trouble::last(answer(url, &head), "put the squashfs of this image at this address"));
        }
        _ => {
            return Err(Trouble::last(
                answer(url, &head),
                "give everyone the right to read the file on the server",
            ));
        }
    }
    if let Body::Sized(size) = head.body {
        store.check_size(url, store.received() + size)?;
    }
    body(url, &head, stream, buffer, store).map(|()| None)
}

fn answer(url: &Url, head: &Head) -> String {
    format!("{url}: the server says {} {}", head.status, head.reason).trim_end().to_owned()
}

fn elsewhere(url: &Url, head: &Head) -> Result<Url> {
    let location = head.location.as_deref().unwrap_or_default();
    match url.join(location) {
        Ok(next) if next.scheme == Scheme::Http => Ok(next),
        Ok(next) => {
            Err(Trouble::last(format!("{url} leads to {next}"), "have the server lead to http:// only"))
        }
        Err(why) => Err(Trouble::last(
            format!("{url} leads to {location}: {why}"),
            "have the server give out the file without encryption: its SHA-256 is checked; for https, convert the image with \
             --front-end dracut",
        )),
    }
}

/// The head of the answer; what of the body came with it stays in `buffer`.
fn read_head(url: &Url, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Head> {
    let mut piece = [0; 4096];
    loop {
        let count = read(stream, &mut piece).map_err(|e| passing(url, "waiting for the answer", &e))?;
        if count == 0 {
            return Err(Trouble::Passing(format!(
                "{url}: the server ended the connection without an answer"
            )));
        }
        buffer.extend_from_slice(&piece[..count]);
        while let Some((head, length)) = http::head(buffer)
            .map_err(|why| Trouble::last(format!("{url}: {why}"), "check what listens there"))?
        {
            buffer.drain(..length);
            // 100 Continue and the like come before the answer.
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }
}

/// Stores the body, which begins in `buffer`.
fn body(url: &Url, head: &Head, mut stream: TcpStream, mut buffer: Vec<u8>, store: &mut Store) -> Result<()> {
    let mut chunks = Chunks::default();
    loop {
        let ended = match head.body {
            Body::Chunked => unchunk(url, &mut chunks, &buffer, store)?,
            Body::Sized(_) | Body::ToTheEnd => {
                store.take(url, &buffer)?;
                false
            }
        };
        if store.is_whole() {
            return Ok(());
        }
        buffer.resize(BUFFER, 0);
        let count = if ended {
            0
        } else {
            read(&mut stream, &mut buffer).map_err(|e| passing(url, "receiving", &e))?
        };
        if count == 0 {
            let received = store::megabytes(store.received());
            return Err(Trouble::Passing(format!("{url}: the server ended the connection after {received}")));
        }
        buffer.truncate(count);
    }
}

fn unchunk(url: &Url, chunks: &mut Chunks, bytes: &[u8], store: &mut Store) -> Result<bool> {
    let mut trouble = None;
    let fed = chunks.feed(bytes, &mut |data| {
        store.take(url, data).map_err(|why| {
            trouble = Some(why);
            io::Error::from(ErrorKind::Other)
        })
    });
    match (fed, trouble) {
        (_, Some(trouble)) => Err(trouble),
        (fed, None) => fed.map_err(|e| passing(url, "receiving", &e)),
    }
}

fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn passing(url: &Url, doing: &str, error: &io::Error) -> Trouble {
    // A read that times out says EAGAIN.
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        return Trouble::Passing(format!("{url}: {doing}: the server does not answer"));
    }
    Trouble::Passing(format!("{url}: {doing}: {error}"))
}
