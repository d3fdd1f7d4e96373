//! Sizes as users write them.

/// A size in bytes: a number with an optional unit. `K`, `M`, `G`, `T` and `KiB`… are powers of 1024, `KB`, `MB`…
/// powers of 1000.
///
/// # Errors
/// A sentence for the user if it is not a size.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let factor: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(format!("'{text}' is not a size: write 512M, 16GiB or 60MB")),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(|| format!("'{text}' is too large"));
    }
    match number.parse::<f64>() {
        // Below 2^53 the product is exact enough for a limit, and `as` saturates.
        Ok(value) if value.is_finite() && value >= 0.0 => Ok((value * factor as f64) as u64),
        _ => Err(format!("'{text}' is not a size: write 512M, 16GiB or 60MB")),
    }
}

/// An amount of memory: a size of at least 1 MiB, so that a forgotten unit is noticed.
///
/// # Errors
/// As [`size`], and for less than any machine has.
pub fn memory(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes < 1 << 20 => {
            Err(format!("{bytes} bytes are less than any machine has: write {text}MiB?"))
        }
        bytes => Ok(bytes),
    }
}

/// Memory of a machine in MiB: a number is that of MiB, as for QEMU.
///
/// # Errors
/// As [`size`], and for less than any machine has.
pub fn mebibytes(text: &str) -> Result<u64, String> {
    match text.parse().or_else(|_| size(text).map(|bytes| bytes >> 20))? {
        0 => Err(format!("'{text}' is less than any machine has: write 512 or 1G")),
        mib => Ok(mib),
    }
}

/// A block size; `None`: the one that needs the least memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize(pub Option<u32>);

/// A block size of squashfs, or `auto`.
///
/// # Errors
/// A sentence for the user if it is neither.
pub fn block_size(text: &str) -> Result<BlockSize, String> {
    if text == "auto" {
        return Ok(BlockSize(None));
    }
    match u32::try_from(size(text)?) {
        Ok(size) if size.is_power_of_two() && (4096..=1 << 20).contains(&size) => Ok(BlockSize(Some(size))),
        _ => Err(format!("'{text}' is not a block size of squashfs: a power of two from 4K to 1M")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("16GiB"), Ok(16 << 30));
        assert_eq!(size("60MB"), Ok(60_000_000));
        assert_eq!(size("60.5MB"), Ok(60_500_000));
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("4096"), Ok(4096));
        assert!(size("a lot").is_err());
        assert!(size("99999999999T").is_err());
        assert_eq!(block_size("128K"), Ok(BlockSize(Some(131_072))));
        assert_eq!(block_size("auto"), Ok(BlockSize(None)));
        assert_eq!(memory("100M"), Ok(100 << 20));
        assert!(memory("100").unwrap_err().contains("100MiB?"));
        assert_eq!((mebibytes("100"), mebibytes("1G"), mebibytes("1.5GiB")), (Ok(100), Ok(1024), Ok(1536)));
        assert!(mebibytes("0").is_err() && mebibytes("100k").is_err() && mebibytes("much").is_err());
        assert!(block_size("3K").is_err());
        assert!(block_size("2M").is_err());
    }
}
