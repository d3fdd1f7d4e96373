//! The modules that a kernel has to load to reach the runtime, in an order in which they load.

use std::collections::{BTreeMap, BTreeSet};

use super::config::Config;
use super::hints::how_to_get;
use super::modinfo::{Info, Symbols, symbols};
use super::source::Source;
use super::{Module, canonical, module_name};
use crate::error::Error;

/// The most that the modules of one kernel may take: several times what any real set does.
const MAX_CLOSURE: u64 = 1 << 30;

/// Checksums that btrfs would like to have at hand, but which file systems of ours do not use: their `super_block`
/// says crc32c (csum_type 0).
const OTHER_CHECKSUMS: [&str; 3] = ["xxhash64", "sha256", "blake2b_256"];

/// The modules that give the kernel's crypto API crc32c, in order of preference. The generic one runs on every machine;
/// those for certain processors refuse to load elsewhere. `crc32c` until 3.14, `crc32c_cryptoapi` since 6.16.
const CRC32C: [&str; 3] = ["crc32c_generic", "crc32c", "crc32c_cryptoapi"];

/// What is built into a kernel.
#[derive(Debug, Default)]
pub(super) struct BuiltIn {
    names: BTreeSet<String>,
    aliases: BTreeSet<String>,
}

impl BuiltIn {
    /// Reads `modules.builtin` (a path a line) and `modules.builtin.modinfo` (`MODULE.KEY=VALUE`, NUL behind each):
    /// Documentation/kbuild/kbuild.rst.
    pub(super) fn parse(list: Option<&[u8]>, modinfo: Option<&[u8]>) -> Self {
        let mut found = Self::default();
        for line in String::from_utf8_lossy(list.unwrap_or_default()).lines() {
            found.names.extend(module_name(line.trim()));
        }
        for entry in modinfo.unwrap_or_default().split(|&b| b == 0) {
            let entry = String::from_utf8_lossy(entry);
            let Some((module, (key, value))) =
                entry.split_once('.').and_then(|(module, rest)| Some((module, rest.split_once('=')?)))
            else {
                continue;
            };
            found.names.insert(canonical(module));
            if key == "alias" {
                found.aliases.insert(canonical(value));
            }
        }
        found
    }
}

/// A module that was read.
struct Loaded {
    module: Module,
    info: Info,
    source: usize,
}

/// Something that is not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Missing {
    /// Module name.
    pub name: String,
    /// The module that needs it, unless it was asked for itself.
    pub needed_by: Option<String>,
    /// The option that is not set in the kernel's configuration: the kernel was built without it, and no package has it.
    pub denied_by: Option<String>,
}

/// Collects the closure of one kernel.
pub(super) struct Closure<'a> {
    release: &'a str,
    sources: Vec<&'a Source<'a>>,
    built_in: BuiltIn,
    config: Option<&'a Config>,
    /// Of the first module that was looked at, with its name: all others have to have the same.
    vermagic: Option<(String, String)>,
    loaded: BTreeMap<String, Loaded>,
    size: u64,
    order: Vec<String>,
    /// How many of them are needed before the squashfs is mounted, if that differs.
    early: Option<usize>,
}

/// One step of the depth-first walk: a module and what of it is still to be visited.
struct Step {
    name: String,
    todo: std::vec::IntoIter<String>,
}

impl<'a> Closure<'a> {
    /// `sources` in order of preference, the image first.
    pub(super) fn new(
        release: &'a str,
        sources: Vec<&'a Source<'a>>,
        built_in: BuiltIn,
        config: Option<&'a Config>,
    ) -> Result<Self, Error> {
        let mut closure = Self {
            release,
            sources,
            built_in,
            config,
            vermagic: None,
            loaded: BTreeMap::new(),
            size: 0,
            order: Vec::new(),
            early: None,
        };
        // The image's own modules say which build the others have to be of.
        if let Some((source, name)) = closure.sources.first().and_then(|source| {
            Some((*source, source.versions.get(release)?.names(|_| true).into_iter().next()?))
        }) && let Some(file) = source.module(release, &name)?
        {
            closure.check(&file.info, &name, &source.name)?;
        }
        Ok(closure)
    }

    /// Refuses a module of another kernel.
    fn check(&mut self, info: &Info, name: &str, source: &str) -> Result<(), Error> {
        let Some(vermagic) = &info.vermagic else {
            return Err(Error::input(format!(
                "module {name} of {source} does not say for which kernel it is (no vermagic)"
            )));
        };
        let built_for = vermagic.split_whitespace().next().unwrap_or_default();
        if built_for != self.release {
            return Err(Error::missing(format!(
                "module {name} of {source} is for kernel {built_for}, not for {}: that kernel would refuse it",
                self.release
            ))
            .hint(how_to_get(self.release)));
        }
        match &self.vermagic {
            None => self.vermagic = Some((vermagic.clone(), format!("{name} of {source}"))),
            Some((expected, whose)) if expected != vermagic => {
                return Err(Error::missing(format!(
                    "module {name} of {source} is for `{vermagic}`, but {whose} is for `{expected}`: two builds of one release"
                ))
                .hint(how_to_get(self.release)));
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn is_built_in(&self, name: &str) -> bool {
        self.built_in.names.contains(name) || self.config.is_some_and(|config| config.built_in(name))
    }

    /// Reads the module from the first source that has it; false if none has.
    fn load(&mut self, name: &str) -> Result<bool, Error> {
        if self.loaded.contains_key(name) {
            return Ok(true);
        }
        for (index, source) in self.sources.clone().into_iter().enumerate() {
            let Some(file) = source.module(self.release, name)? else { continue };
            self.check(&file.info, name, &source.name)?;
            self.size += file.elf.len() as u64;
            if self.size > MAX_CLOSURE {
                return Err(Error::input(format!(
                    "the modules of {} take more than {MAX_CLOSURE} bytes",
                    self.release
                )));
            }
            let module = Module { name: name.to_owned(), path: file.path, elf: file.elf.into() };
            self.loaded.insert(name.to_owned(), Loaded { module, info: file.info, source: index });
            return Ok(true);
        }
        Ok(false)
    }

    fn exists(&self, name: &str) -> bool {
        self.sources.iter().any(|s| s.has(self.release, name))
    }

    /// The module that gives the crypto API its crc32c: `Ok(None)` if that is built in, `Err` if it is missing.
    fn crc32c(&self) -> Result<Option<String>, ()> {
        if CRC32C.iter().any(|name| self.is_built_in(name)) || self.built_in.aliases.contains("crypto_crc32c")
        {
            return Ok(None);
        }
        if let Some(name) = CRC32C.iter().find(|name| self.exists(name)) {
            return Ok(Some((*name).to_owned()));
        }
        // One that only some of the machine's processors can run is better than none.
        self.sources
            .iter()
            .filter_map(|source| source.versions.get(self.release))
            .flat_map(|files| files.names(|path| path.contains("/crc32c")))
            .find(|name| name != "libcrc32c")
            .map(Some)
            .ok_or(())
    }

    /// What has to be loaded before `name`: soft dependencies first, as modprobe loads them.
    fn needs(&self, name: &str) -> Vec<String> {
        let Some(Loaded { info, .. }) = self.loaded.get(name) else { return Vec::new() };
        let mut needs = Vec::new();
        let mut crc32c = name == "libcrc32c";
        for soft in info.soft_pre.iter().map(|soft| canonical(soft)) {
            let algorithm = soft.strip_prefix("crypto_").unwrap_or(&soft);
            if algorithm == "crc32c" {
                crc32c = true;
            } else if !(name == "btrfs" && OTHER_CHECKSUMS.contains(&algorithm)) {
                // The rest is used if it is there; modprobe does the same.
                let generic = format!("{algorithm}_generic");
                needs.extend(
                    [soft.as_str(), &generic, algorithm]
                        .into_iter()
                        .find(|n| self.exists(n))
                        .map(str::to_owned),
                );
            }
        }
        if crc32c {
            match self.crc32c() {
                Ok(module) => needs.extend(module),
                Err(()) => needs.push(CRC32C[0].to_owned()),
            }
        }
        needs.extend(info.depends.iter().map(|dependency| canonical(dependency)));
        needs
    }

    /// Adds `root` and all that it depends on. If something is missing, that is returned and nothing is added.
    pub(super) fn add(&mut self, root: &str) -> Result<Vec<Missing>, Error> {
        let root = canonical(root);
        let mut missing = Vec::new();
        let mut seen: BTreeSet<String> = self.order.iter().cloned().collect();
        let mut order = Vec::new();
        let mut steps: Vec<Step> = Vec::new();
        let mut next = Some(root);
        loop {
            if let Some(name) = next.take()
                && seen.insert(name.clone())
                && !self.is_built_in(&name)
            {
                if self.load(&name)? {
                    let todo = self.needs(&name).into_iter();
                    steps.push(Step { name, todo });
                } else {
                    let denied_by = self.config.and_then(|config| config.denies(&name));
                    let needed_by = steps.last().map(|step| step.name.clone());
                    missing.push(Missing { name, needed_by, denied_by });
                }
            }
            let Some(step) = steps.last_mut() else { break };
            next = step.todo.next();
            if next.is_none() {
                order.extend(steps.pop().map(|step| step.name));
            }
        }
        if missing.is_empty() {
            self.order.extend(order);
        }
        Ok(missing)
    }

    /// Whatever is added from now on is needed only after the squashfs is mounted.
    pub(super) fn squashfs_is_mounted(&mut self) {
        self.early = Some(self.order.len());
    }

    /// How many of the modules are needed before the squashfs is mounted.
    pub(super) fn early(&self) -> usize {
        self.early.unwrap_or(self.order.len())
    }

    /// The option that is not set in the kernel's configuration, if that is why the module is neither built in nor found.
    pub(super) fn denied(&self, name: &str) -> Option<String> {
        let here = self.is_built_in(name) || self.exists(name);
        if here { None } else { self.config?.denies(name) }
    }

    /// Whether the module is built in or in one of the sources.
    pub(super) fn has(&self, name: &str) -> bool {
        self.is_built_in(name) || self.exists(name)
    }

    /// The symbols of a module of the closure.
    pub(super) fn symbols(&self, name: &str) -> Option<Symbols<'_>> {
        self.loaded.get(name).map(|loaded| symbols(&loaded.module.elf))
    }

    /// The machine that the modules were built for.
    pub(super) fn machine(&self) -> Option<&'static str> {
        self.loaded.values().find_map(|loaded| loaded.info.machine)
    }

    /// The modules in their order, each with the index of its source.
    pub(super) fn finish(mut self) -> Vec<(Module, usize)> {
        self.order
            .iter()
            .filter_map(|name| self.loaded.remove(name))
            .map(|loaded| (loaded.module, loaded.source))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_what_is_built_in() {
        let built_in = BuiltIn::parse(
            Some(b"kernel/lib/zstd/zstd_decompress.ko\nkernel/crypto/crc32c-intel.ko\n"),
            Some(b"crc32c_generic.license=GPL\0crc32c_generic.alias=crypto-crc32c\0loop.file=drivers/block/loop\0"),
        );
        let names: Vec<_> = built_in.names.iter().map(String::as_str).collect();
        assert_eq!(names, ["crc32c_generic", "crc32c_intel", "loop", "zstd_decompress"]);
        assert!(built_in.aliases.contains("crypto_crc32c"));
    }
}
