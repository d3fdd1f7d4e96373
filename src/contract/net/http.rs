//! HTTP/1.1 (RFC 9112): a request for one file, the head of the answer, and a body in chunks.

use std::fmt;
use std::io;

use super::url::Url;

/// The longest head of an answer that is read, bytes.
pub const MAX_HEAD: usize = 16 << 10;

/// The request for a file, from the byte `from` on. The connection serves no other request.
#[must_use]
pub fn request(url: &Url, from: u64) -> String {
    let range = if from > 0 { format!("Range: bytes={from}-\r\n") } else { String::new() };
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: btrsquash\r\nAccept: */*\r\nAccept-Encoding: identity\r\n{range}\
         Connection: close\r\n\r\n",
        url.path,
        url.authority()
    )
}

/// Why an answer cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// It does not begin as HTTP/1 does.
    NotHttp,
    /// Its head is longer than [`MAX_HEAD`].
    Long,
    /// Its length is not a number, or it has two.
    Length,
    /// Its body is encoded in another way than in chunks.
    Encoding,
    /// A chunk does not begin with its length.
    Chunk,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotHttp => "the answer is not HTTP/1.1",
            Self::Long => "the head of the answer is longer than 16 KiB",
            Self::Length => "the answer has no usable Content-Length",
            Self::Encoding => "the server sends the file in an encoding that was not asked for",
            Self::Chunk => "a chunk of the answer does not begin with its length",
        })
    }
}

impl From<Bad> for io::Error {
    fn from(bad: Bad) -> Self {
        Self::new(io::ErrorKind::InvalidData, bad.to_string())
    }
}

/// How the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// After so many bytes.
    Sized(u64),
    /// With a chunk of no bytes.
    Chunked,
    /// With the connection.
    ToTheEnd,
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// What the server says of it.
    pub reason: String,
    /// How the body ends.
    pub body: Body,
    /// Where the file is instead.
    pub location: Option<String>,
    /// With status 206: the first byte of the part.
    pub from: Option<u64>,
}

/// Reads the head of an answer: the head and its length in bytes, or `None` if it goes on beyond `bytes`.
///
/// # Errors
/// Says why the answer cannot be used.
pub fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
    const START: &[u8] = b"HTTP/1.";
    let known = bytes.len().min(START.len());
    if bytes[..known] != START[..known] {
        return Err(Bad::NotHttp);
    }
    let Some(length) = end_of_head(bytes) else {
        return if bytes.len() >= MAX_HEAD { Err(Bad::Long) } else { Ok(None) };
    };
    let text = String::from_utf8_lossy(&bytes[..length]);
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().splitn(3, ' ').skip(1);
    let status = words.next().filter(|code| code.len() == 3).and_then(|code| code.parse().ok());
    let mut head = Head {
        status: status.ok_or(Bad::NotHttp)?,
        reason: words.next().unwrap_or_default().to_owned(),
        body: Body::ToTheEnd,
        location: None,
        from: None,
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        field(&mut head, name, value.trim())?;
    }
    Ok(Some((head, length)))
}

/// The number of bytes up to and with the empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut empty = false;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if empty => return Some(at + 1),
            b'\n' => empty = true,
            b'\r' => {}
            _ => empty = false,
        }
    }
    None
}

fn field(head: &mut Head, name: &str, value: &str) -> Result<(), Bad> {
    match name.to_ascii_lowercase().as_str() {
        "content-length" => {
            let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let length = value.parse().ok().filter(|_| plain).ok_or(Bad::Length)?;
            match head.body {
                Body::Sized(other) if other != length => return Err(Bad::Length),
                // RFC 9112, 6.3: chunks count.
                Body::Chunked => {}
                _ => head.body = Body::Sized(length),
            }
        }
        "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => head.body = Body::Chunked,
        "transfer-encoding" | "content-encoding" if value.eq_ignore_ascii_case("identity") => {}
        "transfer-encoding" | "content-encoding" => return Err(Bad::Encoding),
        "location" => head.location = Some(value.to_owned()),
        "content-range" => {
            let first = value.strip_prefix("bytes ").and_then(|range| range.split('-').next());
            head.from = first.and_then(|first| first.trim().parse().ok());
        }
        _ => {}
    }
    Ok(())
}

/// Takes a body in chunks apart.
#[derive(Debug, Default, Clone)]
pub struct Chunks {
    state: State,
    /// Bytes that are left of the chunk, or its length so far.
    left: u64,
    /// Bytes of the line so far.
    line: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The digits of a chunk's length.
    #[default]
    Length,
    /// What follows on that line.
    Extension,
    Data,
    /// The end of the line behind the data.
    AfterData,
    /// Lines behind the last chunk, up to an empty one.
    Trailer,
    End,
}

impl Chunks {
    /// Takes the next bytes of the connection and gives those of the file to `sink`. Whether the body has ended.
    ///
    /// # Errors
    /// [`Bad::Chunk`], and those of `sink`.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.state {
                State::End => return Ok(true),
                State::Data => {
                    let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                    sink(&bytes[..count])?;
                    self.left -= count as u64;
                    bytes = &bytes[count..];
                    if self.left == 0 {
                        self.state = State::AfterData;
                    }
                    continue;
                }
                State::Length => self.length(byte)?,
                State::Extension => self.end_of_length(byte)?,
                State::AfterData => match byte {
                    b'\r' => {}
                    b'\n' => (self.state, self.line) = (State::Length, 0),
                    _ => return Err(Bad::Chunk.into()),
                },
                State::Trailer => match byte {
                    b'\r' => {}
                    b'\n' if self.line == 0 => self.state = State::End,
                    b'\n' => self.line = 0,
                    _ => self.line += 1,
                },
            }
            bytes = rest;
        }
        Ok(self.state == State::End)
    }

    fn length(&mut self, byte: u8) -> io::Result<()> {
        let Some(digit) = char::from(byte).to_digit(16) else {
            if self.line == 0 {
                return Err(Bad::Chunk.into());
            }
            self.state = State::Extension;
            return self.end_of_length(byte);
        };
        self.line += 1;
        // Sixteen digits would be more than any disk holds.
        if self.line > 15 {
            return Err(Bad::Chunk.into());
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok(())
    }

    fn end_of_length(&mut self, byte: u8) -> io::Result<()> {
        self.line += 1;
        match byte {
            b'\n' => {
                self.line = 0;
                self.state = if self.left == 0 { State::Trailer } else { State::Data };
                Ok(())
            }
            _ if self.line > MAX_HEAD => Err(Bad::Chunk.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_names_file_host_and_place() {
        let url = Url::parse("http://10.0.2.2:81/a/b?c").unwrap();
        let text = request(&url, 0);
        assert!(
            text.starts_with("GET /a/b?c HTTP/1.1\r\nHost: 10.0.2.2:81\r\n") && text.ends_with("\r\n\r\n")
        );
        assert!(!text.contains("Range") && request(&url, 5).contains("\r\nRange: bytes=5-\r\n"));
    }

    #[test]
    fn heads_are_read_once_they_are_whole() {
        let text = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length:  12 \r\n\r\nbody";
        let (found, length) = head(text).unwrap().unwrap();
        assert_eq!((found.status, found.reason.as_str(), found.body), (200, "OK", Body::Sized(12)));
        assert_eq!(&text[length..], b"body");
        for end in 0..length {
            assert_eq!(head(&text[..end]), Ok(None), "{end}");
        }
        let found = |text: &str| head(text.as_bytes()).map(|found| found.unwrap().0);
        let moved = found("HTTP/1.0 302 Found\nLocation: /x\n\n").unwrap();
        assert_eq!((moved.status, moved.location.as_deref()), (302, Some("/x")));
        let part = found("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-11/12\r\n\r\n").unwrap();
        assert_eq!(part.from, Some(5));
        let chunked = "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(found(chunked).unwrap().body, Body::Chunked);
    }

    #[test]
    fn other_answers_are_refused() {
        assert_eq!(head(b"SSH-2.0"), Err(Bad::NotHttp));
        assert_eq!(head(b"HTTP/1.1 OK\r\n\r\n"), Err(Bad::NotHttp));
        assert_eq!(head(b"HTTP/1.1 200\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), Err(Bad::Length));
        assert_eq!(head(b"HTTP/1.1 200\r\nContent-Length: +1\r\n\r\n"), Err(Bad::Length));
        assert_eq!(head(b"HTTP/1.1 200\r\nContent-Encoding: gzip\r\n\r\n"), Err(Bad::Encoding));
        assert_eq!(head(&[b"HTTP/1.1 200\r\n", &[b'x'; MAX_HEAD][..]].concat()), Err(Bad::Long));
    }

    /// The body and whether it has ended, of bytes that come in pieces of `step`.
    fn unchunk(bytes: &[u8], step: usize) -> io::Result<(Vec<u8>, bool)> {
        let (mut chunks, mut body, mut ended) = (Chunks::default(), Vec::new(), false);
        for piece in bytes.chunks(step) {
            ended = chunks.feed(piece, &mut |bytes| {
                body.extend(bytes);
                Ok(())
            })?;
        }
        Ok((body, ended))
    }

    #[test]
    fn chunks_are_taken_apart_wherever_packets_end() {
        let text = b"5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\nTrailer: x\r\n\r\n";
        for step in 1..=text.len() {
            assert_eq!(unchunk(text, step).unwrap(), (b"hello, world".to_vec(), true), "{step}");
        }
        assert_eq!(unchunk(&text[..text.len() - 1], 4).unwrap(), (b"hello, world".to_vec(), false));
        for bad in [&b"x\r\n"[..], b"\r\n", b"1\r\nab", b"ffffffffffffffffff\r\n"] {
            assert!(unchunk(bad, 3).is_err(), "{bad:?}");
        }
    }

    // Under emulation these tests run with std alone (tests/guest).
    #[cfg(not(guest))]
    proptest::proptest! {
        #[test]
        fn any_body_comes_out_of_its_chunks(
            parts in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 1..50), 0..8),
            step in 1_usize..60,
        ) {
            let mut sent: Vec<u8> = parts
                .iter()
                .flat_map(|part| [format!("{:X}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat())
                .collect();
            sent.extend(b"0\r\n\r\n");
            proptest::prop_assert_eq!(unchunk(&sent, step).unwrap(), (parts.concat(), true));
        }
    }
}
