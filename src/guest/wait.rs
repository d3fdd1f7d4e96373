//! Waiting for hardware.

use std::time::{Duration, Instant};

use btrsquash::contract::cmdline::Arguments;

/// How long to wait unless rd.timeout says: USB, switches and drivers take their time, but people wait at the console.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait for disks, network cards and their cables.
pub(crate) fn patience(arguments: &Arguments) -> Duration {
    arguments.value("rd.timeout").and_then(|s| s.parse().ok()).map_or(PATIENCE, Duration::from_secs)
}

/// Tries again after each `pause`, for as long as `patience`, until something is found.
pub(crate) fn until<T>(
    patience: Duration,
    pause: Duration,
    mut find: impl FnMut() -> Option<T>,
) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = find();
        if found.is_some() || start.elapsed() >= patience {
            return found;
        }
        std::thread::sleep(pause);
    }
}
