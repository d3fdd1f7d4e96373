//! What is chosen by the RAM model: the block size of the squashfs.

use super::choices::BlockReason;
use super::maker::Maker;
use super::request::{Goal, Request};
use super::result::Old;
use crate::contract::RuntimeFrom;
use crate::kernel;
use crate::ram::{Facts, Kernel, Machine, Packing};
use crate::squashfs::MAX_BLOCK_SIZE;

/// The smallest block size that is chosen: below, files grow faster than decompressors shrink.
const SMALLEST: u32 = 64 << 10;
/// A smaller block size has to save so much memory, bytes, because it makes the image larger.
const WORTH: u64 = 4 << 20;
/// About what a front-end takes: unpacked and in the image, bytes.
const FRONT_END: (u64, u64) = (7 << 20, 2 << 20);

/// The machine that the new image is meant for: with the largest of the kernels.
pub(super) fn machine(request: &Request, kernels: &[kernel::Kernel]) -> Machine {
    let kernels = kernels.iter().map(|kernel| Kernel::from(&kernel.facts));
    Machine::new(kernels.max_by_key(|kernel| kernel.image).unwrap_or(Kernel::TYPICAL), request.cpus)
}

/// The block size, and why. Unless the user named it or the image is to be small, it is the one with the lowest minimum
/// memory on `machine`, by the model; the largest if the difference is small.
pub(super) fn block_size(
    request: &Request,
    maker: &Maker,
    old: &Old,
    machine: &Machine,
) -> (u32, BlockReason) {
    if let Some(requested) = request.block_size {
        return (requested, BlockReason::Requested);
    }
    if request.optimize == Some(Goal::Size) {
        return (MAX_BLOCK_SIZE, BlockReason::Smallest);
    }
    let (best, saved) = least_memory(request, maker, old, machine);
    (best, BlockReason::LeastMemory { cpus: request.cpus, saved })
}

/// That block size, and how much less memory is needed than with the largest, bytes.
fn least_memory(request: &Request, maker: &Maker, old: &Old, machine: &Machine) -> (u32, u64) {
    let minimum = |block: u32| expected(request, maker, old, block).minimum(machine);
    let largest = minimum(MAX_BLOCK_SIZE);
    let mut best = (MAX_BLOCK_SIZE, largest);
    let mut block = MAX_BLOCK_SIZE / 2;
    while block >= SMALLEST {
        let memory = minimum(block);
        if memory + WORTH <= best.1 {
            best = (block, memory);
        }
        block /= 2;
    }
    (best.0, largest - best.1)
}

/// What the new image will be, roughly. Debian's installers, packed by gzip, become a squashfs of 0.72 of their size with
/// blocks of 1 MiB, and each halving of the blocks makes it 4% larger (52.4 MB with 1 MiB, 59.2 with 128 KiB).
fn expected(request: &Request, maker: &Maker, old: &Old, block: u32) -> Facts {
    let packed = old.size < old.facts.unpacked / 10 * 6;
    let largest = if packed { old.size / 100 * 72 } else { old.facts.unpacked / 4 };
    let halvings = u64::from((MAX_BLOCK_SIZE / block).trailing_zeros());
    let squashfs = largest + largest * halvings / 24;
    let (unpacked, file) = FRONT_END;
    let packing = Some(Packing { compression: request.compression(), block: u64::from(block) });
    let facts = Facts { file, unpacked, programs: old.facts.programs, packing, ..Facts::default() };
    match request.runtime {
        RuntimeFrom::Initramfs => {
            Facts { file: file + squashfs, unpacked: unpacked + squashfs, pinned: squashfs, ..facts }
        }
        RuntimeFrom::Retained => Facts { file: file + squashfs, retained: true, ..facts },
        RuntimeFrom::Network(_) => {
            let apart = matches!(maker, Maker::BuiltIn);
            Facts { fetched: squashfs, pinned: squashfs, apart, ..facts }
        }
        RuntimeFrom::Label(_) | RuntimeFrom::Uuid(_) => facts,
    }
}
