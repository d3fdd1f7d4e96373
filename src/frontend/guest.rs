//! The static program that images carry, for each architecture that this btrsquash was built with (src/build.rs).

use std::sync::OnceLock;

use crate::codec;
use crate::error::Error;

/// By the machine as `uname -m` names it: the program, compressed with xz.
const PROGRAMS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// The largest program, in bytes.
const MAX_PROGRAM: u64 = 16 << 20;

/// The machines that there is a program for.
pub(crate) fn machines() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|(name, _)| *name)
}

/// The programs that were unpacked so far.
static UNPACKED: [OnceLock<Vec<u8>>; PROGRAMS.len()] = [const { OnceLock::new() }; PROGRAMS.len()];

/// The program for kernels of this machine. It is unpacked once: a conversion asks for it up to four times.
///
/// # Errors
/// [`crate::error::Kind::Missing`] if this btrsquash was built without one.
pub(crate) fn program(machine: &str) -> Result<&'static [u8], Error> {
    let found = PROGRAMS.iter().zip(&UNPACKED).find(|((name, _), _)| *name == machine);
    let Some(((_, packed), unpacked)) = found else {
        let machines: Vec<&str> = machines().collect();
        return Err(Error::missing(format!(
            "this btrsquash was built with the boot program for {}, not for {machine}",
            machines.join(", ")
        ))
        .hint(
            "build it with samples/build --all-architectures, or use --front-end FILE or --dracut-root DIR with a boot \
             initramfs or a root of that architecture",
        ));
    };
    if let Some(program) = unpacked.get() {
        return Ok(program);
    }
    let program = codec::unpack(packed, MAX_PROGRAM)
        .map_err(|e| Error::failed(format!("the boot program for {machine} is damaged")).caused_by(e))?;
    Ok(unpacked.get_or_init(|| program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf;

    #[test]
    fn each_program_is_static_and_for_its_machine() {
        assert!(machines().any(|name| name == elf::host_machine()), "none for this machine");
        for name in machines() {
            let program = program(name).unwrap();
            assert_eq!(elf::machine_of(program), Some(name));
            let elf = goblin::elf::Elf::parse(program).unwrap();
            assert!(elf.interpreter.is_none() && elf.libraries.is_empty(), "{name} is not static");
            // With the C library's printf, or with what reads debugging information, it is at least 200 kB larger.
            assert!(program.len() < 900_000, "{name}: src/guest/lean.rs left in {} bytes", program.len());
        }
    }

    #[test]
    fn a_machine_without_a_program_is_refused() {
        let error = program("sparc64").unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::Missing);
        assert!(error.to_string().contains("samples/build --all-architectures"), "{error}");
    }
}
