//! Sharing the processor's cores between threads.

use std::num::NonZero;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

/// A semaphore: how many threads may compute at once. More threads than cores are no faster: they evict each other's
/// cache lines, which costs a compressor a tenth of its time.
#[derive(Debug)]
pub struct Cores {
    count: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Cores {
    /// Lets `count` threads compute at once; 0 means one for each core that this process may use.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let count = match count {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            count => count,
        };
        Self { count, free: Mutex::new(count), freed: Condvar::new() }
    }

    /// How many threads may compute at once.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Waits for a core and holds it until the result is dropped. A thread that holds one must not ask for another.
    #[must_use]
    pub(crate) fn acquire(&self) -> Core<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Core(self)
    }
}

/// A core that is in use.
#[derive(Debug)]
pub(crate) struct Core<'a>(&'a Cores);

impl Drop for Core<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_threads_compute_than_there_are_cores() {
        let cores = Cores::new(3);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _core = cores.acquire();
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(*cores.free.lock().unwrap(), 3);
        assert!(Cores::new(0).count() > 0);
    }
}
