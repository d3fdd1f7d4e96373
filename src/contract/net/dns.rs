//! DNS (RFC 1035): one question for the IPv4 addresses of a name.

use std::net::Ipv4Addr;

/// The port of servers.
pub const PORT: u16 = 53;

const A: [u8; 2] = [0, 1];
const INTERNET: [u8; 2] = [0, 1];

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name has these addresses, none if it exists without any.
    Addresses(Vec<Ipv4Addr>),
    /// There is no such name.
    NoSuchName,
    /// The server cannot or does not want to say; its code.
    Refused(u8),
}

/// The question for the addresses of `name`, which the answer repeats with the number; `None` for what is not a name.
#[must_use]
pub fn question(number: u16, name: &str) -> Option<Vec<u8>> {
    let mut bytes = number.to_be_bytes().to_vec();
    // A standard query that wants recursion, with one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 {
        return None;
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(A);
    bytes.extend(INTERNET);
    Some(bytes)
}

/// Reads the answer to `question`; `None` if the bytes are none.
#[must_use]
pub fn answer(question: &[u8], bytes: &[u8]) -> Option<Answer> {
    let asked = question.get(12..)?;
    let (head, rest) = bytes.split_at_checked(12)?;
    // It is a response, has our number, and repeats the question, perhaps in other letters.
    let ours = head.get(..2)? == question.get(..2)?
        && head[2] & 0x80 != 0
        && head[4..6] == [0, 1]
        && rest.get(..asked.len())?.eq_ignore_ascii_case(asked);
    if !ours {
        return None;
    }
    match head[3] & 15 {
        0 => {}
        3 => return Some(Answer::NoSuchName),
        code => return Some(Answer::Refused(code)),
    }
    let mut addresses = Vec::new();
    let mut rest = &rest[asked.len()..];
    for _ in 0..u16::from_be_bytes([head[6], head[7]]) {
        // One that is cut off ends the list: what came before it counts.
        let Some((kind, data, next)) = record(rest) else { break };
        if *kind == [A, INTERNET].concat()[..] {
            addresses.extend(<[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from));
        }
        rest = next;
    }
    Some(Answer::Addresses(addresses))
}

/// A record: its type and class, its data, and what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let rest = after_name(bytes)?;
    // Type, class, time to live, length.
    let (head, rest) = rest.split_at_checked(10)?;
    let (data, rest) = rest.split_at_checked(u16::from_be_bytes([head[8], head[9]]).into())?;
    Some((&head[..4], data, rest))
}

/// What follows a name; a pointer to another name ends it.
fn after_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, rest) = bytes.split_first()?;
        match length {
            0 => return Some(rest),
            1..=63 => bytes = rest.get(length.into()..)?,
            192.. => return rest.get(1..),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(question: &[u8], code: u8, records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] |= 0x80;
        bytes[3] = 0x80 | code;
        bytes[7] = records.len() as u8;
        bytes.extend(records.concat());
        bytes
    }

    #[test]
    fn addresses_are_read_behind_other_records() {
        let asked = question(7, "boot.example.").unwrap();
        assert_eq!(&asked[12..], b"\x04boot\x07example\0\0\x01\0\x01");
        let alias = b"\xc0\x0c\0\x05\0\x01\0\0\0\x09\0\x04\x01x\xc0\x0c";
        let address = b"\x01x\xc0\x0c\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\x02\x02";
        let all = response(&asked, 0, &[alias, address]);
        assert_eq!(answer(&asked, &all), Some(Answer::Addresses(vec![Ipv4Addr::new(10, 0, 2, 2)])));
        assert_eq!(answer(&asked, &all[..all.len() - 1]), Some(Answer::Addresses(Vec::new())));
        assert_eq!(answer(&asked, &response(&asked, 3, &[])), Some(Answer::NoSuchName));
        assert_eq!(answer(&asked, &response(&asked, 5, &[])), Some(Answer::Refused(5)));
    }

    #[test]
    fn other_packets_are_no_answer() {
        let asked = question(7, "a.b").unwrap();
        assert_eq!(answer(&asked, &asked), None);
        let other = question(8, "a.b").unwrap();
        assert_eq!(answer(&asked, &response(&other, 0, &[])), None);
        let other = question(7, "a.c").unwrap();
        assert_eq!(answer(&asked, &response(&other, 0, &[])), None);
        for bad in ["", "a..b", &"x".repeat(64), &"x.".repeat(130)] {
            assert_eq!(question(7, bad), None, "{bad}");
        }
    }
}
