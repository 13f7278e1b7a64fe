//! What a kernel carries about itself, read when first asked for: its symbols, its types, its relocations.

use super::btf::Btf;
use super::kallsyms::{Region, SymbolKind, Symbols};
use super::opened::Image;
use super::relocation::Relocations;
use super::relocations;
use crate::error::{Error, Result};

/// Bytes of text for each symbol, at most: kernels have some hundred. A list with fewer names the text's bounds and no
/// function, and whoever made it wanted none named.
const MOST_A_SYMBOL: u64 = 0x10000;

impl Image {
    /// The kernel's symbols: those of `.symtab` where the ELF file has one, else the kallsyms embedded in the image;
    /// `None` where it has neither, or a list that names no function.
    pub fn symbols(&self) -> Result<Option<&Symbols>> {
        let of_clang = || self.banner().is_some_and(|banner| banner.contains("clang"));
        let read = || Ok(self.find_symbols()?.map(|found| if of_clang() { found.of_clang() } else { found }));
        let found = self.symbols.get_or_init(|| read().map_err(|e: Error| e.in_file(self.name())));
        found.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Where its absolute addresses stand, read once. `None` in a kernel that does not say: one that cannot be moved, or
    /// an installed ELF `vmlinux`, whose relocations the build keeps for the bzImage.
    pub fn relocations(&self) -> Result<Option<&Relocations>> {
        let found = self.relocations.get_or_init(|| relocations::read(self).map_err(|e| e.in_file(self.name())));
        found.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// The kernel's types (section `.BTF`), looked through once; `None` where it carries none.
    pub fn btf(&self) -> Result<Option<Btf<'_>>> {
        // A module's types refer to the kernel's.
        let Some(section) = self.section(".BTF").filter(|_| !self.is_module()) else { return Ok(None) };
        let read = Btf::parse_again(self.section_bytes(section), &self.types);
        read.map(Some).map_err(|e| e.in_section(&section.name).in_file(self.name()))
    }

    fn find_symbols(&self) -> Result<Option<Symbols>> {
        let mut listed = Vec::new();
        for symbol in self.elf_symbols() {
            let symbol = symbol?;
            let kind = u8::try_from(symbol.kind).ok().and_then(SymbolKind::new);
            if let (Some(kind), false) = (kind, symbol.name.is_empty()) {
                listed.push((symbol.name, symbol.address, kind));
            }
        }
        let listed = Symbols::from_list(listed)?;
        if !listed.is_empty() {
            return Ok(Some(listed));
        }
        let regions: Vec<Region<'_>> = self
            .sections()
            .iter()
            .filter(|s| s.allocated && s.bits_present && s.size > 0)
            .map(|s| Region {
                name: &s.name,
                address: s.address,
                bytes: self.section_bytes(s),
                executable: s.executable,
            })
            .collect();
        let found = Symbols::find(&regions, self.bits().word())?;
        let text = self.section(".text").map_or(0, |section| section.size);
        Ok(found.filter(|symbols| symbols.len() as u64 * MOST_A_SYMBOL >= text))
    }
}
