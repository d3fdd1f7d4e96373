//! A decoder of LZO1X that checks all bounds.
//!
//! The crate that compresses LZO also decompresses it, but panics on damaged input and lets it grow 255-fold. This
//! one follows the kernel's `Documentation/staging/lzo.rst`, without the bitstream version 1 that only zram uses.

/// Takes the bytes of an LZO1X stream one instruction at a time.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<usize> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(usize::from(first))
    }

    fn le16(&mut self) -> Option<usize> {
        Some(self.byte()? | self.byte()? << 8)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    /// A length whose field in the instruction is `short`: where that is 0, `base` and what follows.
    fn length(&mut self, short: usize, base: usize) -> Option<usize> {
        if short != 0 {
            return Some(short);
        }
        let mut length = base;
        loop {
            match self.byte()? {
                0 => length = length.checked_add(255)?,
                last => return length.checked_add(last),
            }
        }
    }
}

/// Unpacks one LZO1X stream to at most `max` bytes; `None` where it is damaged or longer.
pub(crate) fn decode(stream: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut input = Input { bytes: stream };
    let mut out = Vec::with_capacity(max);
    // How many literals the last instruction copied, 4 standing for that and more: it changes what 0..15 mean.
    let mut state = 0;
    if let first @ 18.. = usize::from(*stream.first()?) {
        input.byte()?;
        literals(&mut input, &mut out, first - 17, max)?;
        state = (first - 17).min(4);
    }
    loop {
        let instruction = input.byte()?;
        let (length, distance, next);
        match instruction {
            0..16 if state == 0 => {
                let count = input.length(instruction, 15)?.checked_add(3)?;
                literals(&mut input, &mut out, count, max)?;
                state = 4;
                continue;
            }
            0..16 => {
                next = instruction & 3;
                let low = (instruction >> 2) + (input.byte()? << 2);
                (length, distance) = if state == 4 { (3, low + 2049) } else { (2, low + 1) };
            }
            16..32 => {
                length = input.length(instruction & 7, 7)?.checked_add(2)?;
                let low = input.le16()?;
                next = low & 3;
                distance = ((instruction & 8) << 11) + (low >> 2) + 16384;
                if distance == 16384 {
                    // The end marker, which has one length only; nothing may follow.
                    return (length == 3 && input.bytes.is_empty()).then_some(out);
                }
            }
            32..64 => {
                length = input.length(instruction & 31, 31)?.checked_add(2)?;
                let low = input.le16()?;
                next = low & 3;
                distance = (low >> 2) + 1;
            }
            _ => {
                next = instruction & 3;
                length = (instruction >> 5) + 1;
                distance = (input.byte()? << 3) + ((instruction >> 2) & 7) + 1;
            }
        }
        let start = out.len().checked_sub(distance)?;
        if length > max - out.len() {
            return None;
        }
        if distance >= length {
            out.extend_from_within(start..start + length);
        } else {
            for at in start..start + length {
                out.push(out[at]);
            }
        }
        literals(&mut input, &mut out, next, max)?;
        state = next;
    }
}

fn literals(input: &mut Input<'_>, out: &mut Vec<u8>, count: usize, max: usize) -> Option<()> {
    if count > max - out.len() {
        return None;
    }
    out.extend_from_slice(input.take(count)?);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn undoes_the_compressor(parts in proptest::collection::vec((any::<u8>(), 1usize..3000, any::<bool>()), 1..20)) {
            let mut plain = Vec::new();
            for (seed, len, run) in parts {
                let mut x = u32::from(seed) | 1;
                plain.extend((0..len).map(|_| {
                    x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if run { seed } else { (x >> 24) as u8 }
                }));
            }
            let packed = lzokay_native::compress(&plain).unwrap();
            prop_assert_eq!(decode(&packed, plain.len()), Some(plain.clone()));
            prop_assert_eq!(decode(&packed, plain.len() - 1), None);
            prop_assert_eq!(decode(&packed[..packed.len() - 1], plain.len()), None);
        }

        #[test]
        fn never_panics(stream in proptest::collection::vec(any::<u8>(), 0..300)) {
            let out = decode(&stream, 5000);
            prop_assert!(out.is_none_or(|out| out.len() <= 5000));
        }
    }
}
