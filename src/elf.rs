//! ELF headers: which machine a file is for, and what of it is machine code.

use goblin::container::Ctx;
use goblin::elf::section_header::SectionHeader;
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
    /// RISC-V.
    RiscV,
    /// One that the kernel has no filter for.
    Other,
}

/// A set of architectures: those whose branch filters a kernel's xz has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Archs(u16);

impl Archs {
    /// None.
    pub const NONE: Self = Self(0);
    /// Every one that xz has a filter for.
    pub const ALL: Self = Self((1 << Arch::Other as u16) - 1);

    /// Whether `arch` is one of them.
    #[must_use]
    pub const fn contains(self, arch: Arch) -> bool {
        self.0 & 1 << arch as u16 != 0
    }

    /// Those that are in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromIterator<Arch> for Archs {
    fn from_iter<T: IntoIterator<Item = Arch>>(archs: T) -> Self {
        Self(archs.into_iter().fold(0, |set, arch| set | 1 << arch as u16))
    }
}

/// The class, byte order and machine of a program or shared library by the first bytes of its header, as they stand
/// there.
pub(crate) fn code(head: &[u8]) -> Option<[u8; 4]> {
    let (h::ET_EXEC | h::ET_DYN, _) = header(head)? else { return None };
    Some([head[h::EI_CLASS], head[h::EI_DATA], head[18], head[19]])
}

/// The architecture of an ELF file by the first bytes of its header (`e_machine`); `None` if it is not an ELF file.
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
        (h::EM_RISCV, true) => Arch::RiscV,
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
fn uname(e_machine: u16, ctx: &Ctx) -> Option<&'static str> {
    let (big, wide) = (!ctx.is_little_endian(), ctx.is_big());
    Some(match (e_machine, wide, big) {
        (h::EM_X86_64, ..) => "x86_64",
        (h::EM_386, ..) => "i686",
        (h::EM_AARCH64, ..) => "aarch64",
        (h::EM_ARM, ..) => "arm",
        (h::EM_PPC64, _, false) => "ppc64le",
        (h::EM_PPC64, _, true) => "ppc64",
        (h::EM_PPC, ..) => "ppc",
        (h::EM_S390, true, _) => "s390x",
        (h::EM_S390, false, _) => "s390",
        (h::EM_RISCV, true, _) => "riscv64",
        (h::EM_RISCV, false, _) => "riscv32",
        (h::EM_MIPS, true, _) => "mips64",
        (h::EM_MIPS, false, _) => "mips",
        (h::EM_SPARCV9, ..) => "sparc64",
        (h::EM_SPARC | h::EM_SPARC32PLUS, ..) => "sparc",
        (h::EM_IA_64, ..) => "ia64",
        (h::EM_PARISC, ..) => "parisc",
        (h::EM_68K, ..) => "m68k",
        // Not in goblin's table: EM_ALPHA and EM_LOONGARCH of include/uapi/linux/elf-em.h.
        (0x9026, ..) => "alpha",
        (258, ..) => "loongarch64",
        _ => return None,
    })
}

/// Whether a kernel for `kernel` runs programs for `program`, both named as `uname -m` does: its own and, where Linux
/// has a compatibility mode for them, those of the 32-bit machine before it.
#[must_use]
pub fn runs(kernel: &str, program: &str) -> bool {
    kernel == program
        || matches!(
            (kernel, program),
            ("x86_64", "i686")
                | ("aarch64", "arm")
                | ("ppc64", "ppc")
                | ("s390x", "s390")
                | ("mips64", "mips")
                | ("sparc64", "sparc")
        )
}

/// The machine that btrsquash itself was built for, as `uname -m` names it.
#[must_use]
pub const fn host_machine() -> &'static str {
    if cfg!(target_arch = "x86") {
        "i686"
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        "ppc64le"
    } else if cfg!(target_arch = "powerpc64") {
        "ppc64"
    } else {
        std::env::consts::ARCH
    }
}

/// The section headers of an ELF file in memory.
pub(crate) struct Object<'a> {
    bytes: &'a [u8],
    ctx: Ctx,
    header: h::Header,
    sections: Vec<SectionHeader>,
}

impl<'a> Object<'a> {
    /// Reads the headers.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, goblin::error::Error> {
        let header = Elf::parse_header(bytes)?;
        let ctx = Ctx::new(header.container()?, header.endianness()?);
        let offset = usize::try_from(header.e_shoff).unwrap_or(usize::MAX);
        if offset > bytes.len() {
            return Err(goblin::error::Error::Malformed("section headers beyond the end of the file".into()));
        }
        let sections = SectionHeader::parse(bytes, offset, usize::from(header.e_shnum), ctx)?;
        Ok(Self { bytes, ctx, header, sections })
    }

    /// Class and byte order.
    pub(crate) fn ctx(&self) -> Ctx {
        self.ctx
    }

    /// Its machine as `uname -m` names it.
    pub(crate) fn machine(&self) -> Option<&'static str> {
        uname(self.header.e_machine, &self.ctx)
    }

    /// All section headers.
    pub(crate) fn sections(&self) -> &[SectionHeader] {
        &self.sections
    }

    /// What a section holds; `None` if it lies outside the file.
    pub(crate) fn content(&self, section: &SectionHeader) -> Option<&'a [u8]> {
        let start = usize::try_from(section.sh_offset).ok()?;
        let len = usize::try_from(section.sh_size).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }

    /// The table of the sections' names.
    fn names(&self) -> Option<&'a [u8]> {
        self.content(self.sections.get(usize::from(self.header.e_shstrndx))?)
    }

    /// The sections with their names; those without a name are left out.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'a [u8], &SectionHeader)> {
        let names = self.names();
        self.sections.iter().filter_map(move |section| Some((text_at(names?, section.sh_name)?, section)))
    }

    /// What the section of this name holds.
    pub(crate) fn section(&self, name: &str) -> Option<&'a [u8]> {
        let (_, section) = self.named().find(|(found, _)| *found == name.as_bytes())?;
        self.content(section)
    }
}

/// Longest name of a symbol, its NUL included: `KSYM_NAME_LEN` of include/linux/kallsyms.h since 6.1.
pub(crate) const NAME_MAX: usize = 512;

/// The name at `at`; `None` if no NUL ends it within [`NAME_MAX`]. Many names can be the tails of one string, so the
/// search for their ends is bounded, and none of them is copied.
pub(crate) fn text_at(table: &[u8], at: usize) -> Option<&[u8]> {
    let rest = table.get(at..)?;
    let rest = &rest[..rest.len().min(NAME_MAX)];
    rest.iter().position(|&b| b == 0).map(|end| &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_64_bit_kernel_runs_the_32_bit_programs_of_its_family() {
        assert!(runs("x86_64", "x86_64") && runs("x86_64", "i686") && runs("aarch64", "arm"));
        assert!(!runs("i686", "x86_64") && !runs("aarch64", "x86_64") && !runs("ppc64le", "ppc"));
        assert!(!runs("ppc64le", "ppc64"));
    }
}
