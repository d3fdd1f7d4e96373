//! One block unpacked, in each of the five ways.

use flate2::{Decompress, FlushDecompress};
use xz2::stream::{Action, Status, Stream};

use crate::codec::{Compression, lzo};

/// What an xz decoder may allocate: the kernel gives a block a dictionary of 1 MiB at most.
const XZ_MEMORY: u64 = 16 << 20;

/// Unpacks a block to at most `max` bytes. The error says what is wrong with it.
pub(super) fn decode(compression: Compression, packed: &[u8], max: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(max);
    let whole = match compression {
        Compression::Xz => {
            let mut stream = Stream::new_stream_decoder(XZ_MEMORY, 0).map_err(|e| e.to_string())?;
            let status = stream.process_vec(packed, &mut out, Action::Finish).map_err(|e| e.to_string())?;
            status == Status::StreamEnd
        }
        Compression::Gzip => {
            let mut zlib = Decompress::new(true);
            let status =
                zlib.decompress_vec(packed, &mut out, FlushDecompress::Finish).map_err(|e| e.to_string())?;
            status == flate2::Status::StreamEnd
        }
        Compression::Zstd => {
            let mut zstd = zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?;
            zstd.decompress_to_buffer(packed, &mut out).map_err(|e| e.to_string())?;
            true
        }
        Compression::Lz4 => {
            out.resize(max, 0);
            let size = lz4_flex::block::decompress_into(packed, &mut out).map_err(|e| e.to_string())?;
            out.truncate(size);
            true
        }
        Compression::Lzo => match lzo::decode(packed, max) {
            Some(bytes) => {
                out = bytes;
                true
            }
            None => false,
        },
    };
    if whole { Ok(out) } else { Err("the stream ends early, is too long or damaged".into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::elf::Arch;
    use crate::squashfs::write::{Encoder, Settings};

    fn noise(len: usize) -> Vec<u8> {
        let mut x = 1u32;
        std::iter::repeat_with(|| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        })
        .take(len)
        .collect()
    }

    #[test]
    fn what_does_not_shrink_is_not_packed() {
        for compression in Compression::ALL {
            let mut encoder = Encoder::new(compression).unwrap();
            assert_eq!(
                encoder.encode(&noise(100_000), &Settings::new(1 << 20, None)).unwrap(),
                None,
                "{compression}"
            );
        }
    }

    #[test]
    fn each_way_there_and_back() {
        let text: Vec<u8> = (0..40_000u32).flat_map(|n| (n / 7).to_string().into_bytes()).collect();
        for compression in Compression::ALL {
            let mut encoder = Encoder::new(compression).unwrap();
            for arch in [None, Some(Arch::X86), Some(Arch::Ia64), Some(Arch::Arm64)] {
                let packed = encoder.encode(&text, &Settings::new(1 << 20, arch)).unwrap().unwrap();
                assert_eq!(decode(compression, &packed, text.len()).unwrap(), text, "{compression}");
                assert!(
                    decode(compression, &packed, text.len() - 1).is_err(),
                    "{compression} beyond its bounds"
                );
                assert!(
                    decode(compression, &packed[..packed.len() - 5], text.len()).is_err(),
                    "{compression} cut"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            junk in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let text = b"the same words over and over, the same words over and over again and again".repeat(20);
            for compression in Compression::ALL {
                let mut packed = Encoder::new(compression).unwrap().encode(&text, &Settings::new(1 << 20, None)).unwrap().unwrap();
                let at = at.index(packed.len());
                packed[at] = byte;
                for bytes in [&packed, &junk] {
                    let out = decode(compression, bytes, text.len());
                    prop_assert!(out.is_err() || out.is_ok_and(|out| out.len() <= text.len()));
                }
            }
        }
    }
}
