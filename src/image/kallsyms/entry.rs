//! One symbol, but for its name.

/// The type of a symbol: `nm`'s letter, as `/proc/kallsyms` shows it. Capital letters are global.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SymbolKind(u8);

impl SymbolKind {
    /// The kind with this letter; `None` when it is neither an ASCII letter nor `?`.
    pub const fn new(letter: u8) -> Option<SymbolKind> {
        if letter.is_ascii_alphabetic() || letter == b'?' { Some(SymbolKind(letter)) } else { None }
    }

    /// The letter: `T` text, `D` data, `B` bss, `R` read-only data, `A` absolute, `W` and `V` weak; small when local.
    pub const fn letter(self) -> char {
        self.0 as char
    }

    /// Whether the symbol is in code, as far as the letter tells (weak ones may also be data).
    pub const fn is_text(self) -> bool {
        matches!(self.0, b't' | b'T')
    }

    /// Whether the symbol is seen from other files.
    pub const fn is_global(self) -> bool {
        self.0.is_ascii_uppercase()
    }

    /// Whether the symbol stands for something in memory: text, data or weak. Absolute symbols (among them per-CPU
    /// ones, whose address is an offset) do not, nor do undefined and debugging ones.
    pub const fn is_place(self) -> bool {
        !matches!(self.0, b'a' | b'A' | b'u' | b'U' | b'n' | b'N' | b'?' | b'-')
    }
}

/// One symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub address: u64,
    /// Where its name starts in the text, or its tokens among the packed names.
    pub name: u32,
    /// Of its name, in bytes of text.
    pub length: u16,
    pub kind: SymbolKind,
    /// The first token of a packed name.
    pub first: u8,
}
