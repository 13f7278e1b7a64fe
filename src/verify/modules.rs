//! Modules in memory, judged by the state that the kernel was found in.
//!
//! A module is linked to where the kernel put it, and is an image then: its tables are read, its sites are cut into
//! clusters, and memory is held to them. What decides its text is what decides the kernel's; only what is the module's own
//! (its keys, its static calls, its pages of thunks) has votes of its own. All of its executable memory is judged: the
//! sections, and the zeros between and behind them. Its constants are held to the file with its relocations.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::data::{Rodata, compare};
use super::infer::Inference;
use super::judge::{self, Report};
use super::site_map::{ModuleHost, SiteMap};
use super::state::{Branches, Known, State, Target};
use super::view::View;
use crate::error::{Error, Result};
use crate::image::{Blocks, Fields, Image, KERNEL, LoadedImage, Placement, Relocation, Section};
use crate::memory::{LinkedBytes, LoadedModule, Location, Mapped, Memory as Dump};
use crate::plan::LoadedCode;
use crate::sites::Tables;

/// Where the build ID of a module is, in the file and in memory.
const BUILD_ID: &str = ".note.gnu.build-id";
const PER_CPU: &str = ".data..percpu";
/// What the names of sections of constants begin with; others the loader writes (ORC's tables and `__ex_table` are sorted), or
/// they are of use while a module is loaded.
const CONSTANTS: [&str; 4] = [".rodata", "__ksymtab", "__param", "__tracepoints_strings"];

/// The modules of a memory, for judging those that there is a file of.
#[derive(Debug)]
pub struct Modules {
    /// What the kernel lists, the newest first.
    pub loaded: Vec<LoadedModule>,
}

/// A module's memory beside its file.
pub struct Loaded {
    name: String,
    image: Arc<Image>,
    tables: Tables,
    /// Its code, as linked: the first address, and the one behind the last.
    text: (u64, u64),
    /// All of it is one block of memory (up to 6.3).
    together: bool,
    /// What memory holds there.
    bytes: Vec<u8>,
    unread: Vec<Range<u64>>,
    /// Fields that change with the slide, and how far that is.
    moving: (Vec<Relocation>, u64),
    /// Fields that refer to what was freed: address, width.
    unknown: Vec<(u64, u64)>,
    /// Its constants.
    constants: Rodata,
}

/// A judged module.
#[derive(Debug, Clone)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its image at its place, as linked: for names.
    pub image: Arc<Image>,
    /// The verdict; addresses are as if the kernel had not slid.
    pub report: Report,
    /// Bytes of fields that refer to what was freed, which nothing is known of.
    pub unknown: u64,
    /// Its constants, held to the file; what is expected is as memory should hold it.
    pub constants: Rodata,
}

impl Modules {
    /// Reads the list of modules.
    pub fn read(dump: &Dump, found: &Location, kernel: &Image) -> Result<Modules> {
        Ok(Modules { loaded: crate::memory::modules(dump, found, kernel)? })
    }

    /// Links the given modules to where they are, and reads what memory holds of them.
    ///
    /// # Errors
    /// A module that is not loaded, that is given twice or in another build, or that uses what neither the kernel nor a
    /// given module exports.
    pub fn link(&self, given: &[Arc<Image>], dump: &Dump, found: &Location, kernel: &Image) -> Result<Vec<Loaded>> {
        let mut files: HashMap<String, &Image> = HashMap::new();
        for image in given {
            let refuse = |reason: String| Error::memory(reason).in_file(image.name());
            let name = image.module_name().ok_or_else(|| refuse("is no module".to_owned()))?;
            let Some(module) = self.loaded.iter().find(|module| module.name == name) else {
                let there: Vec<&str> = self.loaded.iter().map(|module| &module.name[..]).collect();
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                return Err(refuse(format!("{name} is not loaded (there are: {there})")));
            };
            if !module.live {
                return Err(refuse(format!("{name} is being loaded or unloaded")));
            }
            if image.release() != kernel.release() {
                let (of, release) = (image.release().unwrap_or("no kernel"), kernel.release().unwrap_or("another"));
                return Err(refuse(format!("is a module of {of}, not of {release}")));
            }
            if files.insert(name.clone(), image).is_some() {
                return Err(refuse(format!("{name} is given twice")));
            }
        }
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let mapped = Mapped::new(dump, found, kernel)?;
        let mut symbols = exported(kernel)?;
        let (low, high) = kernel.bounds();
        let mut others = vec![(low, high.saturating_sub(low))];
        let mut linked = Vec::new();
        // The oldest first: a module uses what those before it export.
        for module in self.loaded.iter().rev() {
            let Some(image) = files.get(&module.name) else { continue };
            let percpu = image.section(PER_CPU).is_some_and(|section| section.size > 0);
            if percpu && module.percpu.is_none() {
                let reason =
                    "has per-CPU data, and the kernel's image no BTF, which says where struct module tells of them";
                return Err(Error::memory(reason).in_file(image.name()));
            }
            let place = Placement {
                blocks: module.blocks,
                this_module: module.address,
                percpu: module.percpu.unwrap_or(0),
                slide: found.slide,
                symbols: &symbols,
                others: &others,
            };
            let loaded = Loaded::link(module, image, &place, &mapped).map_err(|error| error.in_file(image.name()))?;
            for (address, kind, name) in loaded.image.symbols()?.into_iter().flat_map(|symbols| symbols.iter()) {
                if kind.is_global() && kind.is_place() {
                    symbols.entry(name.as_bytes().to_vec()).or_insert(address);
                }
            }
            let data = loaded.image.sections().iter().filter(|s| s.allocated && s.writable && s.size > 0);
            let data = data.filter(|s| s.name != KERNEL && s.name != PER_CPU && !s.name.starts_with(".init"));
            others.extend(data.map(|s| (s.address, s.size)));
            linked.push(loaded);
        }
        Ok(linked)
    }
}

/// What the kernel may export, by name: only what is global can be.
fn exported(kernel: &Image) -> Result<HashMap<Vec<u8>, u64>> {
    let Some(symbols) = kernel.symbols()? else {
        return Err(Error::memory("the image has no symbols, which modules refer to").in_file(kernel.name()));
    };
    let global = symbols.iter().filter(|(_, kind, _)| kind.is_global());
    Ok(global.map(|(address, _, name)| (name.as_bytes().to_vec(), address)).collect())
}

impl Loaded {
    fn link(module: &LoadedModule, image: &Image, place: &Placement<'_>, mapped: &Mapped<'_>) -> Result<Loaded> {
        let LoadedImage { image, code, moving, unknown, constants } = image.loaded(place)?;
        let (start, size) = module.text;
        if code != size {
            let reason = format!("has {code} bytes of code, {} in memory {size}: another build", module.name);
            return Err(Error::memory(reason));
        }
        if let Some(section) = image.section(BUILD_ID) {
            let file = image.section_bytes(section);
            let mut memory = vec![0; file.len()];
            if mapped.read(section.address.wrapping_add(place.slide), &mut memory)? && memory != file {
                return Err(Error::memory(format!("is another build of {} than the one loaded", module.name)));
            }
        }
        let constants = held(&image, &constants, place.slide, mapped)?;
        let tables = Tables::read(&image)?;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let unread = mapped.fill(start, &mut bytes)?;
        let linked = |address: u64| address.wrapping_sub(place.slide) & image.bits().max_address();
        let unread = unread.into_iter().map(|gap| linked(gap.start)..linked(gap.end)).collect();
        let text = (linked(start), linked(start).wrapping_add(size));
        if text.1 < text.0 {
            return Err(Error::memory(format!("{} is said to be at {start:#x}, where no module can be", module.name)));
        }
        let together = matches!(place.blocks, Blocks::Together(_));
        let (name, image, moving) = (module.name.clone(), Arc::new(image), (moving, place.slide));
        Ok(Loaded { name, image, tables, text, together, bytes, unread, moving, unknown, constants })
    }

    /// The file it was given as.
    pub(super) fn file(&self) -> &str {
        self.image.name()
    }

    /// Its constants, held to the file.
    pub fn constants(&self) -> &Rodata {
        &self.constants
    }

    /// Judges it by the state of the kernel.
    pub(super) fn judge(&self, kernel: &SiteMap<'_>, kernel_image: &Image, state: &State) -> Result<Module> {
        if state.branches == Branches::Counted {
            return Err(Error::memory("cannot be judged: this kernel counts calls, in its modules too"));
        }
        let section = self.image.section(".text").map_or(self.text, |section| (section.address, section.end()));
        let locks = if self.together { section } else { self.text };
        let host = ModuleHost { image: kernel_image, map: kernel, text: self.text, locks };
        let map = SiteMap::of_module(&self.image, &self.tables, self.code()?, host)?;
        let view = View::new(self.text, &self.bytes, &self.unread)?;
        let known = known(kernel, state);
        let mut inference = Inference::new(&map, &view, &known);
        inference.run_in(kernel, state);
        let Inference { state, votes, .. } = inference;
        // Its text is small: one thread has judged it before another has begun.
        let report = judge::judge(&map, &view, state, votes, Vec::new(), 1).report;
        let unknown = self.unknown.iter().map(|&(_, width)| width).sum();
        let (name, image, constants) = (self.name.clone(), Arc::clone(&self.image), self.constants.clone());
        Ok(Module { name, image, report, unknown, constants })
    }

    /// Its code before any pass: what stays loaded in one stretch, with zeros where no section is, then what was freed.
    fn code(&self) -> Result<LoadedCode> {
        let sections = self.image.sections().iter().filter(|s| s.executable && s.allocated && s.bits_present);
        let (own, freed): (Vec<_>, Vec<_>) = sections.partition(|s| s.address >= self.text.0 && s.end() <= self.text.1);
        let zeros = vec![0; self.bytes.len()];
        let freed = freed.iter().map(|s| (s.address, self.image.section_bytes(s)));
        let mut code = LoadedCode::new(self.image.bits(), std::iter::once((self.text.0, &zeros[..])).chain(freed));
        for section in own {
            code.poke(section.address, self.image.section_bytes(section))?;
        }
        let (fields, slide) = &self.moving;
        for field in fields {
            let mut moved = code.read(field.address, field.kind.width())?.to_vec();
            field.kind.apply(&mut moved, *slide);
            code.poke(field.address, &moved)?;
        }
        for &(address, width) in &self.unknown {
            if let Some(at) = address.checked_sub(self.text.0).map(|at| at as usize)
                && let Some(found) = self.bytes.get(at..at + width as usize)
            {
                code.poke(address, found)?;
            }
        }
        Ok(code)
    }
}

/// A module's constants in memory beside those of its file.
fn held(image: &Image, fields: &Fields, slide: u64, mapped: &Mapped<'_>) -> Result<Rodata> {
    let mut rodata = Rodata::default();
    let constant = |section: &&Section| {
        let stays = section.allocated && !section.writable && !section.executable && section.bits_present;
        stays && section.name != KERNEL && CONSTANTS.iter().any(|name| section.name.starts_with(name))
    };
    for section in image.sections().iter().filter(constant) {
        let (start, mut built) = (section.address, image.section_bytes(section).to_vec());
        let mut bytes = vec![0; built.len()];
        let linked = |gap: Range<u64>| gap.start.wrapping_sub(slide)..gap.end.wrapping_sub(slide);
        let runs = start.wrapping_add(slide) & image.bits().max_address();
        let unread = mapped.fill(runs, &mut bytes)?.into_iter().map(linked).collect();
        let inside = |address: u64, width: usize| {
            let at = usize::try_from(address.checked_sub(start)?).ok()?;
            (at.checked_add(width)? <= bytes.len()).then_some(at..at + width)
        };
        for field in &fields.moving {
            if let Some(place) = inside(field.address, field.kind.width()) {
                field.kind.apply(&mut built[place], slide);
            }
        }
        for &(address, width) in &fields.unknown {
            if let Some(place) = inside(address, width as usize) {
                built[place.clone()].copy_from_slice(&bytes[place]);
            }
        }
        compare(LinkedBytes { address: start, bytes, unread, strays: Vec::new() }, &built, &mut rodata);
    }
    Ok(rodata)
}

/// What the kernel's sites say of its keys and static calls, which its modules use too.
fn known(kernel: &SiteMap<'_>, state: &State) -> Known {
    let call = |(&(key, built), target): (&(u64, u64), &Target)| match *target {
        Target::Built => (key, built),
        Target::Cleared => (key, 0),
        Target::Updated(function) => (key, function),
    };
    Known {
        keys: kernel.keys.iter().zip(&state.keys).map(|(&(key, _), &on)| (key, on)).collect(),
        calls: kernel.calls.iter().zip(&state.calls).map(call).collect(),
        ..Known::default()
    }
}
