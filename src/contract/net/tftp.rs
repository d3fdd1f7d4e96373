//! TFTP (RFC 1350) with the options `blksize` (RFC 2348) and `tsize` (RFC 2349).

/// The block size that is asked for: with the headers of IP, UDP and TFTP a packet of 1500 bytes.
pub const BLOCK: u16 = 1468;
/// The block size of servers that know no options.
pub const PLAIN_BLOCK: u16 = 512;

/// What a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'b> {
    /// A block and its number, which starts at 1 and goes on at 0 behind 65535.
    Data(u16, &'b [u8]),
    /// What it accepted of the options that it was asked for.
    Accepted {
        /// Size of the blocks.
        block: u16,
        /// Size of the file.
        size: Option<u64>,
    },
    /// An error: its code, and what the server says.
    Error(u16, &'b [u8]),
}

/// The code of an error for a file that is not there.
pub const NOT_FOUND: u16 = 1;
/// The code of an error of the options.
pub const BAD_OPTIONS: u16 = 8;

/// The request for a file. Servers look a path up below their own directory.
#[must_use]
pub fn request(path: &str, options: bool) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    let mut add = |word: &str| {
        bytes.extend(word.as_bytes());
        bytes.push(0);
    };
    add(path);
    add("octet");
    if options {
        add("blksize");
        add(&BLOCK.to_string());
        add("tsize");
        add("0");
    }
    bytes
}

/// The acknowledgement of a block; 0 for that of the options.
#[must_use]
pub const fn acknowledgement(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 4, high, low]
}

/// Ends the transfer: the client does not want the rest.
pub const STOP: &[u8] = b"\0\x05\0\0stop\0";

/// Reads a packet of a server; `None` if it is none.
#[must_use]
pub fn packet(bytes: &[u8]) -> Option<Packet<'_>> {
    let (kind, rest) = bytes.split_first_chunk::<2>()?;
    match u16::from_be_bytes(*kind) {
        3 => rest
            .split_first_chunk::<2>()
            .map(|(number, data)| Packet::Data(u16::from_be_bytes(*number), data)),
        5 => {
            let (code, message) = rest.split_first_chunk::<2>()?;
            let message = message.split(|&b| b == 0).next().unwrap_or_default();
            Some(Packet::Error(u16::from_be_bytes(*code), message))
        }
        6 => accepted(rest),
        _ => None,
    }
}

fn accepted(bytes: &[u8]) -> Option<Packet<'_>> {
    let (mut block, mut size) = (PLAIN_BLOCK, None);
    let mut words = bytes.split(|&b| b == 0);
    while let Some((name, value)) = words.next().zip(words.next()) {
        let value = std::str::from_utf8(value).ok()?;
        if name.eq_ignore_ascii_case(b"blksize") {
            // A server may choose a smaller one, no larger one.
            block = value.parse().ok().filter(|block| (8..=BLOCK).contains(block))?;
        } else if name.eq_ignore_ascii_case(b"tsize") {
            size = Some(value.parse().ok()?);
        }
    }
    Some(Packet::Accepted { block, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_written_and_read() {
        assert_eq!(request("/a", false), b"\0\x01/a\0octet\0");
        assert_eq!(request("/a", true), b"\0\x01/a\0octet\0blksize\x001468\0tsize\x000\0");
        assert_eq!(acknowledgement(258), [0, 4, 1, 2]);
        assert_eq!(packet(b"\0\x03\x01\x02data"), Some(Packet::Data(258, b"data")));
        assert_eq!(packet(b"\0\x03\0\x01"), Some(Packet::Data(1, b"")));
        assert_eq!(packet(b"\0\x05\0\x01gone\0"), Some(Packet::Error(NOT_FOUND, b"gone")));
        assert_eq!(packet(b"\0\x05\0\0stop\0"), packet(STOP));
        let accepted = |text: &[u8]| packet(&[b"\0\x06", text].concat()).map(|p| format!("{p:?}"));
        let shown = |block, size| Some(format!("{:?}", Packet::Accepted { block, size }));
        assert_eq!(accepted(b"TSIZE\x00123\0blksize\x001024\0"), shown(1024, Some(123)));
        assert_eq!(accepted(b""), shown(512, None));
        for bad in [&b"blksize\x0065464\0"[..], b"blksize\0x\0", b"tsize\0-1\0", b"blksize\x000\0"] {
            assert_eq!(accepted(bad), None);
        }
        for bad in [&b""[..], b"\0", b"\0\x03\0", b"\0\x04\0\x01", b"\x03\0\0\0"] {
            assert_eq!(packet(bad), None);
        }
    }
}
