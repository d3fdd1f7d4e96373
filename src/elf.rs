//! ELF headers: which machine a file is for, and what of it is machine code.

use goblin::container::Ctx;
use goblin::elf::{Elf, header as h};

/// An architecture whose machine code xz has a branch filter for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// i386 and x86-64.
    X86,
    /// PowerPC, big-endian.
    PowerPc,
    /// Itanium.
    Ia64,
    /// ARM in ARM mode.
    Arm,
    /// ARM in Thumb mode.
    ArmThumb,
    /// 64-bit ARM.
    Arm64,
    /// SPARC.
    Sparc,
    /// One without a filter that the kernel has.
    Other,
}

/// The class, byte order and machine of a program or shared library by the first bytes of its header, as they stand
/// there.
pub(crate) fn code(head: &[u8]) -> Option<[u8; 4]> {
    let (h::ET_EXEC | h::ET_DYN, _) = header(head)? else { return None };
    Some([head[h::EI_CLASS], head[h::EI_DATA], head[18], head[19]])
}

/// The architecture of an ELF file by the first bytes of its header (`e_machine`), or `None` where it is none.
#[must_use]
pub fn machine(head: &[u8]) -> Option<Arch> {
    header(head).map(|(_, arch)| arch)
}

/// Type and architecture of an ELF file by its header.
pub(crate) fn header(head: &[u8]) -> Option<(u16, Arch)> {
    if head.len() < 52 || !head.starts_with(b"\x7fELF") {
        return None;
    }
    let little = match head[h::EI_DATA] {
        h::ELFDATA2LSB => true,
        h::ELFDATA2MSB => false,
        _ => return None,
    };
    let number = |at: usize| {
        let bytes = [head[at], head[at + 1]];
        if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    };
    let arch = match (number(18), little) {
        (h::EM_386 | h::EM_X86_64, true) => Arch::X86,
        // xz's filters for PowerPC and SPARC know big-endian code only.
        (h::EM_PPC | h::EM_PPC64, false) => Arch::PowerPc,
        (h::EM_SPARC | h::EM_SPARC32PLUS | h::EM_SPARCV9, false) => Arch::Sparc,
        (h::EM_IA_64, true) => Arch::Ia64,
        // Programs with the hard-float ABI (EF_ARM_ABI_FLOAT_HARD) are Thumb-2 on every distribution of note.
        (h::EM_ARM, true) if head[37] & 4 != 0 => Arch::ArmThumb,
        (h::EM_ARM, true) => Arch::Arm,
        (h::EM_AARCH64, true) => Arch::Arm64,
        _ => Arch::Other,
    };
    Some((number(16), arch))
}

/// The machine of the ELF file `bytes` as `uname -m` names it.
pub(crate) fn machine_of(bytes: &[u8]) -> Option<&'static str> {
    let header = Elf::parse_header(bytes).ok()?;
    uname(header.e_machine, &Ctx::new(header.container().ok()?, header.endianness().ok()?))
}

/// A machine as `uname -m` names it, by `e_machine`, class and byte order of the header.
pub(crate) fn uname(e_machine: u16, ctx: &Ctx) -> Option<&'static str> {
    let (big, wide) = (!ctx.is_little_endian(), ctx.is_big());
    Some(match (e_machine, wide, big) {
        (h::EM_X86_64, ..) => "x86_64",
        (h::EM_386, ..) => "i686",
        (h::EM_AARCH64, ..) => "aarch64",
        (h::EM_ARM, ..) => "arm",
        (h::EM_PPC64, _, false) => "ppc64le",
        (h::EM_PPC64, _, true) => "ppc64",
        (h::EM_PPC, ..) => "ppc",
        (h::EM_S390, ..) => "s390x",
        (h::EM_RISCV, true, _) => "riscv64",
        (h::EM_RISCV, false, _) => "riscv32",
        (h::EM_MIPS, true, _) => "mips64",
        (h::EM_MIPS, false, _) => "mips",
        (h::EM_SPARCV9, ..) => "sparc64",
        (h::EM_IA_64, ..) => "ia64",
        (h::EM_PARISC, ..) => "parisc",
        (h::EM_68K, ..) => "m68k",
        // Not in goblin's table: EM_ALPHA and EM_LOONGARCH of include/uapi/linux/elf-em.h.
        (0x9026, ..) => "alpha",
        (258, ..) => "loongarch64",
        _ => return None,
    })
}
