//! An opened kernel: the bytes of its ELF file, and where which of them is linked. Everything in the headers is checked
//! when it is opened, so that no other room meets a range that leaves the file.

use std::cell::Cell;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::container::{self, Container};
use super::elf::{self, Elf};
use super::kallsyms::Symbols;
use super::module::{self, Placement, StandIn};
use super::relocation::{Relocation, Relocations};
use super::section::{LOWEST_KERNEL, Section, Segment};
use super::source::{MAX_IMAGE, Source};
use super::symtab::ElfSymbols;
use super::{banner, ikconfig, text};
use crate::error::{Error, Result, shown};
use crate::insn::Bits;
use crate::numbers::unsigned;

/// An opened kernel: the unpacked ELF file and its address space.
pub struct Image {
    name: String,
    source: Source,
    container: Container,
    elf: Elf,
    /// The object file that a module came as.
    module: Option<Arc<Source>>,
    banner: OnceLock<Option<String>>,
    pub(super) symbols: OnceLock<Result<Option<Symbols>>>,
    pub(super) relocations: OnceLock<Result<Option<Relocations>>>,
    /// Where each of its BTF's types starts.
    pub(super) types: OnceLock<Arc<[u32]>>,
}

impl Image {
    /// Opens the kernel at `path`: a bzImage, an ELF file, or a compressed ELF file. An ELF file is mapped, not read.
    pub fn open(path: &Path) -> Result<Image> {
        let name = shown(path);
        let open = || Image::new(&name, Source::open(path, container::worth)?, MAX_IMAGE);
        open().map_err(|error| error.in_file(&name))
    }

    /// Opens a kernel that comes through a pipe; `name` is for messages. At most [`MAX_IMAGE`] bytes are read.
    pub fn from_reader(name: &str, reader: &mut dyn Read) -> Result<Image> {
        let mut open = || Image::new(name, Source::read(reader, container::worth)?, MAX_IMAGE);
        open().map_err(|error| error.in_file(name))
    }

    /// Opens a kernel in memory; `name` is for messages. Bytes that hold an ELF file are kept and not copied.
    pub fn from_bytes(name: &str, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Image> {
        Image::from_bytes_at_most(name, bytes, MAX_IMAGE)
    }

    /// Opens a kernel in memory that unpacks to at most `limit` bytes.
    pub fn from_bytes_at_most(
        name: &str,
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
        limit: usize,
    ) -> Result<Image> {
        Image::new(name, Source::given(bytes), limit).map_err(|error| error.in_file(name))
    }

    fn new(name: &str, source: Source, limit: usize) -> Result<Image> {
        let (source, mut container) = container::open(source, limit)?;
        let object = module::is_object(source.as_slice());
        let (mut source, mut module) = if object { Image::link(source, &StandIn::default())? } else { (source, None) };
        let mut elf = Image::parse(&source)?;
        if let Some(held) = container::open_decompressor(&source, &elf.sections, limit) {
            (source, container) = held;
            (elf, module) = (Image::parse(&source)?, None);
        }
        let image = Image::of(name.to_owned(), source, container, elf, module);
        if image.is_module() {
            return Ok(image);
        }
        let refused = image.release().and_then(|release| banner::too_old(release).or_else(|| image.carries(release)));
        refused.map_or(Ok(image), |reason| Err(Error::image(reason)))
    }

    /// Why this is no kernel that is patched, though it has a kernel's banner: a library such as libkrunfw has one among its
    /// data.
    fn carries(&self, release: &str) -> Option<String> {
        // A kernel of User Mode Linux is a process of another, and its passes are empty (6.1 arch/um/kernel/um_arch.c:
        // apply_alternatives()); such sections are of its linker scripts alone (arch/um/include/asm/common.lds.S).
        if self.sections().iter().any(|section| section.name.starts_with(".uml.")) {
            return Some(format!("is User Mode Linux {release}, which runs as a process and patches none of its text"));
        }
        let linked = self.segments().iter().any(|segment| segment.address >= LOWEST_KERNEL) || self.bounds().1 > 0;
        let what = "is a program or a library that carries";
        let why = "nothing in it is linked where kernels are: give the vmlinux";
        (!linked).then(|| format!("{what} Linux {release}, and no kernel itself: {why}"))
    }

    /// Parses an ELF file; an error names the kernel, where its banner does.
    fn parse(source: &Source) -> Result<Elf> {
        elf::parse(source.as_slice()).map_err(|error| match banner::find(source.as_slice()).and_then(banner::release) {
            Some(release) => banner::named(error, release),
            None => error,
        })
    }

    fn of(name: String, source: Source, container: Container, elf: Elf, module: Option<Arc<Source>>) -> Image {
        Image {
            name,
            source,
            container,
            elf,
            module,
            banner: OnceLock::new(),
            symbols: OnceLock::new(),
            relocations: OnceLock::new(),
            types: OnceLock::new(),
        }
    }

    /// Links a module: the linked file, and the object.
    fn link(object: Source, kernel: &StandIn) -> Result<(Source, Option<Arc<Source>>)> {
        let linked = link_object(&object, kernel)?;
        Ok((linked, Some(Arc::new(object))))
    }

    /// The same module, linked to a kernel of which more is known.
    pub fn linked_to(&self, kernel: &StandIn) -> Result<Image> {
        let linked = || {
            let Some(object) = &self.module else { return Err(Error::image("is no module")) };
            let source = link_object(object, kernel)?;
            let elf = elf::parse(source.as_slice())?;
            let (name, container) = (self.name.clone(), self.container.clone());
            Ok(Image::of(name, source, container, elf, Some(Arc::clone(object))))
        };
        linked().map_err(|error| error.in_file(&self.name))
    }

    /// The same module as a kernel has loaded it, before any pass, as if the kernel had not slid.
    pub fn loaded(&self, place: &Placement<'_>) -> Result<LoadedImage> {
        let linked = || {
            let Some(object) = &self.module else { return Err(Error::image("is no module")) };
            let linked = module::link(object.as_slice(), self.bits(), module::Target::Memory(place))?;
            let source = Source::given(linked.file);
            let elf = elf::parse(source.as_slice())?;
            let (name, container) = (self.name.clone(), self.container.clone());
            let image = Image::of(name, source, container, elf, Some(Arc::clone(object)));
            let module::Kept { code: module::Fields { moving, unknown }, constants } = linked.kept;
            Ok(LoadedImage { image, code: linked.code, moving, unknown, constants })
        };
        linked().map_err(|error| error.in_file(&self.name))
    }

    /// A module's name: what its `.modinfo` says (since 4.12), else that of its file.
    pub fn module_name(&self) -> Option<String> {
        let named = self.modinfo("name=").map(str::to_owned);
        let file = || {
            let file = Path::new(&self.name).file_name()?.to_str()?;
            Some(file.split(".ko").next()?.replace('-', "_"))
        };
        self.module.as_ref().and_then(|_| named.or_else(file))
    }

    /// Whether it is a module, laid out where this crate chose; what it uses of the kernel is in the section `.kernel`.
    pub fn is_module(&self) -> bool {
        self.module.is_some()
    }

    /// The file as the user named it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is an i386 or an x86-64 kernel.
    pub fn bits(&self) -> Bits {
        self.elf.bits
    }

    /// How it was packed.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The unpacked ELF file, with what follows it.
    pub fn bytes(&self) -> &[u8] {
        self.source.as_slice()
    }

    /// What follows the ELF file: in a relocatable kernel the lists that [`Image::relocations`] reads. Empty where nothing
    /// follows.
    pub fn trailer(&self) -> &[u8] {
        let bytes = self.bytes();
        usize::try_from(self.elf.end).ok().and_then(|end| bytes.get(end..)).unwrap_or_default()
    }

    /// The lowest address of the sections in memory, and the end of the highest; per-CPU sections, linked at 0 on x86-64
    /// before 6.15, do not count.
    pub fn bounds(&self) -> (u64, u64) {
        let sections = self.sections().iter().filter(|s| s.allocated && s.size > 0 && s.address >= LOWEST_KERNEL);
        sections.fold((u64::MAX, 0), |(low, high), s| (low.min(s.address), high.max(s.end())))
    }

    /// The segment that is loaded where this address would be, though linked elsewhere: start and end of the place, and its
    /// bytes. Per-CPU data is linked at 0 on x86-64 before 6.15, and loaded between other data.
    pub(super) fn loaded_at(&self, address: u64) -> Option<(u64, u64, &[u8])> {
        let usual = self.segments().iter().find(|segment| segment.address >= LOWEST_KERNEL)?;
        let physical = address.wrapping_sub(usual.address.wrapping_sub(usual.physical));
        let holds = |s: &&Segment| physical.checked_sub(s.physical).is_some_and(|at| at < s.file_size);
        let segment = self.segments().iter().find(holds)?;
        let start = address.wrapping_sub(physical - segment.physical);
        let bytes = self.slice(segment.offset, segment.file_size)?;
        Some((start, start.checked_add(segment.file_size)?, bytes))
    }

    /// The sections in file order, without the null section.
    pub fn sections(&self) -> &[Section] {
        &self.elf.sections
    }

    /// The loaded segments in file order.
    pub fn segments(&self) -> &[Segment] {
        &self.elf.segments
    }

    /// The first section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.elf.sections.iter().find(|section| section.name == name)
    }

    /// The section that holds this address. Small addresses may be in `.data..percpu`, which on x86-64 is linked at 0: an
    /// offset that was mistaken for an address finds it.
    pub fn section_at(&self, address: u64) -> Option<&Section> {
        let sections = &self.elf.sections;
        let after = self.elf.by_address.partition_point(|&i| sections[i].address <= address);
        let candidate = &sections[*self.elf.by_address.get(after.checked_sub(1)?)?];
        candidate.contains(address).then_some(candidate)
    }

    /// The symbol that an address lies in, and the offset into it; nothing beyond the image's sections lies in one.
    ///
    /// Fails where the symbols cannot be read.
    pub fn place(&self, address: u64) -> Result<Option<(&str, u64)>> {
        let found = self.symbols()?.and_then(|symbols| symbols.at(address));
        Ok(found.filter(|&(_, offset)| offset == 0 || self.section_at(address).is_some()))
    }

    /// As [`Image::place`], for addresses that are asked about one after the other: `last` is where the one before was.
    pub fn place_near(&self, address: u64, last: &Cell<usize>) -> Result<Option<(&str, u64)>> {
        let found = self.symbols()?.and_then(|symbols| symbols.at_near(address, last));
        Ok(found.filter(|&(_, offset)| offset == 0 || self.section_at(address).is_some()))
    }

    /// The bytes of a section of this image; none for one that has no bytes in the file.
    pub fn section_bytes(&self, section: &Section) -> &[u8] {
        if section.bits_present { self.slice(section.offset, section.size).unwrap_or_default() } else { &[] }
    }

    /// `len` bytes at this address, if the file has them and one section holds them all. An ELF file without section headers
    /// is read through its segments.
    pub fn read(&self, address: u64, len: usize) -> Option<&[u8]> {
        let (start, offset, size) = match self.section_at(address) {
            Some(section) if section.bits_present => (section.address, section.offset, section.size),
            Some(_) => return None,
            None if self.elf.sections.is_empty() => return self.read_loaded(address, len),
            None => return None,
        };
        let within = address.checked_sub(start)?;
        if len as u64 > size.checked_sub(within)? {
            return None;
        }
        self.slice(offset.checked_add(within)?, len as u64)
    }

    /// As [`Image::read`], by segments: what is loaded between sections, too.
    pub(crate) fn read_loaded(&self, address: u64, len: usize) -> Option<&[u8]> {
        let holds = |s: &&Segment| address.checked_sub(s.address).is_some_and(|at| at < s.file_size);
        let segment = self.elf.segments.iter().find(holds)?;
        let within = address - segment.address;
        if len as u64 > segment.file_size - within {
            return None;
        }
        self.slice(segment.offset.checked_add(within)?, len as u64)
    }

    /// The pointer-sized word at this address.
    pub fn read_word(&self, address: u64) -> Option<u64> {
        unsigned(self.read(address, self.bits().word())?)
    }

    /// The symbols of `.symtab`; none in a vmlinuz.
    pub fn elf_symbols(&self) -> ElfSymbols<'_> {
        ElfSymbols::new(self.bytes(), self.elf.symbols.as_ref(), &self.elf.sections)
    }

    /// The kernel's banner: `Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org) …`, without its line end. Looked
    /// for once, in `.rodata`, or in the whole file where that does not have it.
    pub fn banner(&self) -> Option<&str> {
        let banner = self.banner.get_or_init(|| {
            let rodata = self.section(".rodata").map(|section| self.section_bytes(section));
            rodata.and_then(banner::find).or_else(|| banner::find(self.bytes())).map(str::to_owned)
        });
        banner.as_deref()
    }

    /// The release: what `uname -r` says, `6.1.0-56-amd64`. That of a module is the one of the kernel it is for.
    pub fn release(&self) -> Option<&str> {
        if self.is_module() { self.vermagic()?.split(' ').next() } else { banner::release(self.banner()?) }
    }

    /// What kernel a module is for.
    fn vermagic(&self) -> Option<&str> {
        self.modinfo("vermagic=")
    }

    /// What an entry of a module's `.modinfo` says.
    fn modinfo(&self, key: &str) -> Option<&str> {
        let info = self.section_bytes(self.section(".modinfo")?);
        let entry = info.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(key.as_bytes()))?;
        text::of(entry)
    }

    /// The configuration embedded with `CONFIG_IKCONFIG=y`; `None` in a kernel that has none.
    pub fn config(&self) -> Result<Option<String>> {
        let rodata = self.section(".rodata").map_or(self.bytes(), |section| self.section_bytes(section));
        ikconfig::find(rodata).map_err(|error| error.in_file(&self.name))
    }

    fn slice(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let (offset, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
        self.bytes().get(offset..)?.get(..len)
    }
}

/// A module as a kernel has loaded it.
#[derive(Debug)]
pub struct LoadedImage {
    /// The module at its place, as linked.
    pub image: Image,
    /// How many bytes of code stay loaded, in whole pages.
    pub code: u64,
    /// Fields of its code that change with the slide.
    pub moving: Vec<Relocation>,
    /// Fields of its code that refer to what was freed once the module was up: address, width. Nobody knows what they hold.
    pub unknown: Vec<(u64, u64)>,
    /// Such fields of its constants.
    pub constants: module::Fields,
}

/// Links an object file of a size that one can have.
fn link_object(object: &Source, kernel: &StandIn) -> Result<Source> {
    let bytes = object.as_slice();
    if bytes.len() > MAX_IMAGE {
        return Err(Error::image(format!("is larger than {MAX_IMAGE} bytes")));
    }
    let linked = module::link(bytes, elf::identify(bytes, true)?, module::Target::StandIn(kernel))?;
    Ok(Source::given(linked.file))
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("name", &self.name)
            .field("bits", &self.elf.bits)
            .field("container", &self.container)
            .field("sections", &self.elf.sections.len())
            .finish_non_exhaustive()
    }
}
