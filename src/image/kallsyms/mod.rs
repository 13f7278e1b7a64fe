//! The kernel's own symbol table, as `scripts/kallsyms.c` embeds it in `.rodata`.
//!
//! Nothing in an image says where the tables are, and their order changed over the years. All of it is found by
//! validating, never by version. Each table starts on a word boundary (since 7.0 on one of 4 bytes), with zeros between:
//!
//! ```c
//! /* scripts/kallsyms.c, write_src(), Linux 2.6 to 6.3 */
//! unsigned long kallsyms_addresses[n];       /* without CONFIG_KALLSYMS_BASE_RELATIVE, always before 4.6; or: */
//! int           kallsyms_offsets[n];         /*   with it, and then                                           */
//! unsigned long kallsyms_relative_base;
//! unsigned int  kallsyms_num_syms;           /* a long before 4.20: the same bytes on a little-endian machine */
//! u8            kallsyms_names[];            /* n × { length; that many token numbers }                       */
//! unsigned int  kallsyms_markers[(n+255)/256]; /* where each 256th name starts; longs before 4.20             */
//! u8            kallsyms_seqs_of_names[3*n]; /* since 6.2, and in 6.1 stable: big-endian ranks by name        */
//! char          kallsyms_token_table[];      /* 256 strings, each ended by a zero                             */
//! u16           kallsyms_token_index[256];   /* where each starts                                             */
//!
//! /* 6.4 to 6.19 */  num_syms, names, markers, token_table, token_index, offsets, relative_base, seqs_of_names
//! /* since 7.0   */  num_syms, names, markers, token_table, token_index, offsets (place-relative), seqs_of_names
//! ```
//!
//! The way in is `kallsyms_token_index`: 256 ascending numbers that start with 0 and agree with the 256 strings before
//! them. From there the markers lead to the names, the names to the count, the count to the addresses; each step must
//! agree with the one before it, and exactly one reading may survive. See [`Symbols::find`].

mod addresses;
mod entry;
mod names;
mod packed;
mod region;
mod search;
mod symbols;
mod tokens;

pub use entry::SymbolKind;
pub use region::{MAX_NAME, MAX_SYMBOLS, Region};
pub use symbols::Symbols;
