//! Sharing the processor's cores between threads.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// More threads than this share out no more work: each has buffers of its own.
const MAX_SHARING: usize = 8;

/// Does the pieces of work from 0 up to `count` on every core. Each thread makes itself a `state`, which its pieces use.
///
/// # Errors
/// That of the first piece, by number, that failed. Pieces that nobody has begun by then are left out.
pub(crate) fn share<S, E: Send>(
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, E)>> = Mutex::new(None);
    let run = || {
        let mut state = state();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            if let Err(error) = work(&mut state, number) {
                next.store(count, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                    *failed = Some((number, error));
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_SHARING).min(count);
    thread::scope(|scope| {
        for _ in 1..threads {
            // Fewer threads do the same work.
            if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_and_the_first_failure_is_told() {
        let done: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        let count = |fails: fn(usize) -> bool| {
            share(
                100,
                || (),
                |(), number| {
                    done[number].fetch_add(1, Ordering::SeqCst);
                    if fails(number) { Err(number) } else { Ok(()) }
                },
            )
        };
        assert_eq!(count(|_| false), Ok(()));
        assert!(done.iter().all(|times| times.load(Ordering::SeqCst) == 1));
        assert_eq!(count(|number| number >= 40), Err(40));
        assert_eq!(share(0, || (), |(), _| Err(())), Ok(()));
    }

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
