//! XXH64 of a stream (github.com/Cyan4973/xxHash, doc/xxhash_spec.md), with seed 0.
//!
//! A squashfs has no checksum of its own, and what a bad network or medium did to it shows hours later as a program
//! that crashes. This hash is as fast as memory and needs nothing but multiplications. btrsquash itself and the
//! boot initramfs's init share this file.

use std::io::{self, Read};

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

/// A multiple of a stripe.
const CHUNK: usize = 64 << 10;

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Reads to the end; gives the number of bytes and their XXH64.
pub fn of(from: &mut dyn Read) -> io::Result<(u64, u64)> {
    let mut lanes = [P1.wrapping_add(P2), P2, 0, 0_u64.wrapping_sub(P1)];
    let mut buffer = vec![0; CHUNK];
    let mut size = 0_u64;
    loop {
        let mut filled = 0;
        while filled < CHUNK {
            match from.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        size += filled as u64;
        let (stripes, rest) = buffer[..filled].split_at(filled / 32 * 32);
        // The guest is built with rustc 1.85, which has no `as_chunks`.
        for stripe in stripes.chunks_exact(32) {
            for (lane, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = round(*lane, u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
            }
        }
        if filled < CHUNK {
            return Ok((size, finish(size, &lanes, rest)));
        }
    }
}

fn finish(size: u64, lanes: &[u64; 4], mut rest: &[u8]) -> u64 {
    let mut hash = P5;
    if size >= 32 {
        let turned = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
        hash = turned.fold(0, u64::wrapping_add);
        for &lane in lanes {
            hash = (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4);
        }
    }
    hash = hash.wrapping_add(size);
    while let Some((bytes, more)) = rest.split_at_checked(8) {
        hash = (hash ^ round(0, word(bytes))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = more;
    }
    if let Some((bytes, more)) = rest.split_at_checked(4) {
        hash = (hash ^ word(bytes).wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = more;
    }
    for &byte in rest {
        hash = (hash ^ u64::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(P2);
    hash = (hash ^ hash >> 29).wrapping_mul(P3);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known values, on machines of either byte order.
    #[test]
    fn hashes_are_those_of_xxhsum() {
        let hash = |bytes: &[u8]| of(&mut &*bytes).unwrap();
        assert_eq!(hash(b""), (0, 0xef46_db37_51d8_e999));
        assert_eq!(hash(b"abc"), (3, 0x44bc_2cf5_ad77_0999));
        assert_eq!(hash(b"Nobody inspects the spammish repetition"), (39, 0xfbce_a83c_8a37_8bf1));
    }
}
