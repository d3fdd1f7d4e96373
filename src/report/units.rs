//! Numbers for people.

/// A file's size: decimal units, as shops and `ls --si` count.
#[must_use]
pub fn size(bytes: u64) -> String {
    scaled(bytes, 1000, ["bytes", "kB", "MB", "GB", "TB"])
}

/// Memory: binary units, as machines are sold and as `-m` of QEMU counts.
#[must_use]
pub fn memory(bytes: u64) -> String {
    scaled(bytes, 1024, ["bytes", "KiB", "MiB", "GiB", "TiB"])
}

/// Memory in whole MiB, rounded up: what a machine must have.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// Memory in whole MiB, rounded down: what is left.
#[must_use]
pub fn mebibytes_down(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn scaled(value: u64, step: u64, units: [&str; 5]) -> String {
    let mut unit = 0;
    let mut divisor = 1_u64;
    // What one decimal would round up to a whole step belongs to the next unit.
    while unit + 1 < units.len() && value as f64 / divisor as f64 >= step as f64 - 0.05 {
        divisor = divisor.saturating_mul(step);
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{value} {name}") } else { format!("{:.1} {name}", value as f64 / divisor as f64) }
}

/// A number with thousands separators: `73,300,123`.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A share between 0 and 1: `85.3%`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// The change from `old` to `new` in percent of `old`: `−15.4%`, with a real minus sign.
#[must_use]
pub fn change(old: u64, new: u64) -> String {
    if old == 0 {
        return if new == 0 { "±0%".into() } else { "new".into() };
    }
    let percent = (new as f64 - old as f64) / old as f64 * 100.0;
    if percent.abs() < 0.05 {
        "±0%".into()
    } else if percent < 0.0 {
        format!("−{:.1}%", -percent)
    } else {
        format!("+{percent:.1}%")
    }
}

/// The difference between two sizes with its sign.
#[must_use]
pub fn delta(old: u64, new: u64) -> String {
    match new.cmp(&old) {
        std::cmp::Ordering::Less => format!("−{}", size(old - new)),
        std::cmp::Ordering::Equal => "±0".into(),
        std::cmp::Ordering::Greater => format!("+{}", size(new - old)),
    }
}

/// Wall time: `48.3 s`, `3 min 12 s`.
#[must_use]
pub fn duration(milliseconds: u64) -> String {
    if milliseconds < 120_000 {
        format!("{:.1} s", milliseconds as f64 / 1000.0)
    } else {
        format!("{} min {} s", milliseconds / 60_000, milliseconds / 1000 % 60)
    }
}

/// A count with its noun: `1 file`, `4,407 files`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Seconds since 1970 as `2025-01-11 10:49:05 UTC`; years that have no four digits stay seconds.
#[must_use]
pub fn time(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant's civil_from_days: eras of 400 years, years that begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if !(0..10_000).contains(&year) {
        return format!("{seconds} s");
    }
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1000), "1.0 kB");
        assert_eq!(size(999_960), "1.0 MB");
        assert_eq!(size(73_300_123), "73.3 MB");
        assert_eq!(memory(592 << 20), "592.0 MiB");
        assert_eq!(mebibytes((592 << 20) - 5), "592 MiB");
        assert_eq!(grouped(1), "1");
        assert_eq!(grouped(4_407), "4,407");
        assert_eq!(grouped(1_073_300_123), "1,073,300,123");
        assert_eq!(change(100, 84), "−16.0%");
        assert_eq!(change(0, 84), "new");
        assert_eq!(delta(10, 2_010), "+2.0 kB");
        assert_eq!(duration(192_400), "3 min 12 s");
        assert_eq!(size(u64::MAX), "18446744.1 TB");
    }

    #[test]
    fn times_are_those_of_date() {
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(1_112_822_355), "2005-04-06 21:19:15 UTC");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(time(-1), "1969-12-31 23:59:59 UTC");
        assert_eq!(time(i64::MAX / 2), format!("{} s", i64::MAX / 2));
        assert_eq!(time(4_294_967_295), "2106-02-07 06:28:15 UTC");
    }
}
