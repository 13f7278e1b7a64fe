//! Sites as text that other programs read, or people: JSON, JSON lines, CSV, and a line a site.
//!
//! What the keys mean is the contract of `pvops sites` (schema `pvops.sites/1`); the layout of the JSON is that of a
//! printer which indents by one space.

use std::cell::Cell;
use std::fmt::Write as _;

use super::columns::Columns;
use super::listing::hex;
use super::rows::{Row, TABLES};
use crate::image::Image;
use crate::insn::Disassembler;

/// How sites are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Elements of the list `sites` of the JSON document, with commas between.
    Json,
    /// One JSON object a row and line.
    JsonLines,
    /// One row a line, the columns of [`CSV_COLUMNS`], and behind them the run-time address where there is one.
    Csv,
    /// One site a line: address, tables, op, bytes, disassembly, symbol.
    Text,
}

/// The columns of CSV in order.
pub const CSV_COLUMNS: [&str; 16] = [
    "address",
    "section",
    "symbol",
    "table",
    "index",
    "type",
    "op",
    "len",
    "clobbers",
    "feature",
    "inverted",
    "direct_call",
    "key",
    "target",
    "constant",
    "bytes",
];

/// What sites are written with.
pub struct Writer<'a> {
    /// The image.
    pub image: &'a Image,
    /// Its sites.
    pub columns: &'a Columns,
    /// Names of the ops by number; a number beyond is shown as `type N`.
    pub ops: &'a [String],
    /// Names of the run-time constants, as [`Row::constant`] counts them.
    pub constants: &'a [String],
    /// Whether the image's symbols, which can be read, name addresses.
    pub names: bool,
    /// The KASLR offset of the kernel whose run-time addresses are shown beside the linked ones; 0 for none.
    pub slide: u64,
    /// Where the symbol of the last site was found: that of the next is near.
    pub last: Cell<usize>,
}

/// One row's members in the order of the document: name, and value as JSON.
struct Members<'a, 'b> {
    writer: &'b Writer<'a>,
    table: &'static str,
    row: Row,
}

impl Writer<'_> {
    /// Appends some sites. `first`: nothing of the list stands before them.
    pub fn write(&self, out: &mut String, form: Form, sites: &[u32], first: bool) {
        match form {
            Form::Json => {
                for (i, &site) in sites.iter().enumerate() {
                    out.push_str(if first && i == 0 { "\n" } else { ",\n" });
                    self.json(out, site as usize);
                }
            }
            Form::JsonLines => self.each_row(sites, |site, row| self.json_line(out, site, row)),
            Form::Csv => self.each_row(sites, |site, row| self.csv_line(out, site, row)),
            Form::Text => {
                let mut disassembler = Disassembler::new(self.image.bits());
                for &site in sites {
                    self.text(out, site as usize, &mut disassembler);
                }
            }
        }
    }

    fn each_row(&self, sites: &[u32], mut write: impl FnMut(usize, usize)) {
        for &site in sites {
            for row in self.columns.rows_of(site as usize) {
                write(site as usize, row);
            }
        }
    }

    fn members(&self, row: usize) -> Members<'_, '_> {
        Members { writer: self, table: TABLES[usize::from(self.columns.table_of(row))], row: self.columns.row(row) }
    }

    fn place(&self, address: u64) -> Option<(&str, u64)> {
        if self.names { self.image.place_near(address, &self.last).ok().flatten() } else { None }
    }

    fn op(&self, number: u32) -> std::borrow::Cow<'_, str> {
        match self.ops.get(number as usize) {
            Some(name) => name.into(),
            None => format!("type {number}").into(),
        }
    }

    fn section(&self, address: u64) -> &str {
        self.image.section_at(address).map_or("", |section| &section.name)
    }

    /// `"address": …, "section": …, "symbol": …`, with `between` the members.
    fn json_head(&self, out: &mut String, site: usize, between: &str) {
        let address = self.columns.site_address(site);
        out.push_str("\"address\": \"");
        hexadecimal(out, address);
        out.push('"');
        out.push_str(between);
        if self.slide != 0 {
            let _ = write!(out, "\"runtime_address\": \"{:#x}\"{between}", address.wrapping_add(self.slide));
        }
        out.push_str("\"section\": ");
        json_string(out, self.section(address));
        out.push_str(between);
        out.push_str("\"symbol\": ");
        match self.place(address) {
            Some((name, offset)) => {
                out.push('"');
                json_text(out, name);
                out.push('+');
                hexadecimal(out, offset);
                out.push('"');
            }
            None => out.push_str("null"),
        }
    }

    fn json_bytes(&self, out: &mut String, site: usize) {
        out.push_str("\"bytes\": \"");
        hex(out, self.columns.bytes_of(site), "");
        out.push('"');
    }

    fn json(&self, out: &mut String, site: usize) {
        out.push_str("  {\n   ");
        self.json_head(out, site, ",\n   ");
        out.push_str(",\n   ");
        self.json_bytes(out, site);
        out.push_str(",\n   \"rows\": [");
        for (i, row) in self.columns.rows_of(site).enumerate() {
            out.push_str(if i == 0 { "\n    {\n     " } else { ",\n    {\n     " });
            self.members(row).json(out, ",\n     ");
            out.push_str("\n    }");
        }
        out.push_str("\n   ]\n  }");
    }

    fn json_line(&self, out: &mut String, site: usize, row: usize) {
        out.push('{');
        self.json_head(out, site, ", ");
        out.push_str(", ");
        self.members(row).json(out, ", ");
        out.push_str(", ");
        self.json_bytes(out, site);
        out.push_str("}\n");
    }

    fn csv_line(&self, out: &mut String, site: usize, row: usize) {
        let address = self.columns.site_address(site);
        hexadecimal(out, address);
        out.push(',');
        csv_field(out, self.section(address));
        out.push(',');
        match self.place(address) {
            Some((name, offset)) if is_plain(name) => {
                out.push_str(name);
                out.push('+');
                hexadecimal(out, offset);
            }
            Some((name, offset)) => csv_field(out, &format!("{name}+{offset:#x}")),
            None => {}
        }
        out.push(',');
        self.members(row).csv(out);
        hex(out, self.columns.bytes_of(site), "");
        if self.slide != 0 {
            let _ = write!(out, ",{:#x}", address.wrapping_add(self.slide));
        }
        out.push('\n');
    }

    fn text(&self, out: &mut String, site: usize, disassembler: &mut Disassembler) {
        let address = self.columns.site_address(site);
        hex(out, &address.wrapping_add(self.slide).to_be_bytes(), "");
        let mut named: Vec<u8> = Vec::new();
        for row in self.columns.rows_of(site) {
            let table = self.columns.table_of(row);
            if !named.contains(&table) {
                out.push_str(if named.is_empty() { "  " } else { ", " });
                out.push_str(TABLES[usize::from(table)]);
                named.push(table);
            }
        }
        if let Some(op) = self.columns.op_of(site) {
            out.push_str("  ");
            out.push_str(&self.op(op));
        }
        let bytes = self.columns.bytes_of(site);
        out.push_str("  ");
        hex(out, bytes, " ");
        if !bytes.is_empty() {
            out.pop();
        }
        out.push_str("  ");
        let namer = |address| self.place(address).map(|(name, offset)| (name.to_owned(), offset));
        for (i, line) in disassembler.lines(address, bytes, &namer).iter().enumerate() {
            out.push_str(if i == 0 { "" } else { "; " });
            out.push_str(&line.text);
        }
        if let Some((name, offset)) = self.place(address) {
            let _ = write!(out, "  # {name}+{offset:#x}");
        }
        out.push('\n');
    }
}

impl Members<'_, '_> {
    fn json(&self, out: &mut String, between: &str) {
        let Members { writer, table, row } = self;
        for part in ["\"table\": \"", table, "\"", between, "\"index\": "] {
            out.push_str(part);
        }
        decimal(out, row.index.into());
        if let Some(op) = row.op_type {
            let _ = write!(out, "{between}\"type\": {op}{between}\"op\": ");
            json_string(out, &writer.op(op));
        }
        out.push_str(between);
        out.push_str("\"len\": ");
        decimal(out, row.len.into());
        if *table == "paravirt" {
            let _ = write!(out, "{between}\"clobbers\": ");
            match row.clobbers {
                None => out.push_str("null"),
                Some(clobbers) => drop(write!(out, "{clobbers}")),
            }
        }
        if let Some(feature) = row.feature {
            let _ = write!(out, "{between}\"feature\": {feature}");
        }
        if let Some(inverted) = row.inverted {
            let _ = write!(out, "{between}\"inverted\": {inverted}");
        }
        if row.direct_call == Some(true) {
            let _ = write!(out, "{between}\"direct_call\": true");
        }
        if let Some(constant) = self.constant() {
            let _ = write!(out, "{between}\"constant\": ");
            json_string(out, constant);
        }
        for (name, value) in [("key", row.key), ("target", row.target)] {
            if let Some(value) = value {
                for part in [between, "\"", name, "\": \""] {
                    out.push_str(part);
                }
                hexadecimal(out, value);
                out.push('"');
            }
        }
    }

    /// The fields from `table` to `constant`, each with a comma behind it.
    fn csv(&self, out: &mut String) {
        let Members { writer, table, row } = self;
        out.push_str(table);
        out.push(',');
        decimal(out, row.index.into());
        out.push(',');
        if let Some(op) = row.op_type {
            let _ = write!(out, "{op},");
            csv_field(out, &writer.op(op));
        } else {
            out.push(',');
        }
        out.push(',');
        decimal(out, row.len.into());
        out.push(',');
        for value in [row.clobbers, row.feature] {
            if let Some(value) = value {
                let _ = write!(out, "{value}");
            }
            out.push(',');
        }
        // As Python prints them, which reads them back.
        out.push_str(match row.inverted {
            None => ",",
            Some(false) => "False,",
            Some(true) => "True,",
        });
        out.push_str(if row.direct_call == Some(true) { "True," } else { "," });
        for value in [row.key, row.target] {
            if let Some(value) = value {
                hexadecimal(out, value);
            }
            out.push(',');
        }
        csv_field(out, self.constant().unwrap_or_default());
        out.push(',');
    }

    fn constant(&self) -> Option<&str> {
        self.writer.constants.get(usize::from(self.row.constant?)).map(String::as_str)
    }
}

/// A string as JSON has it, in ASCII.
fn json_string(out: &mut String, text: &str) {
    out.push('"');
    json_text(out, text);
    out.push('"');
}

/// What stands between the quotes of a string.
fn json_text(out: &mut String, text: &str) {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        return out.push_str(text);
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
}

/// A number as `{:#x}` has it. That takes five times as long, and a long list has a million.
fn hexadecimal(out: &mut String, value: u64) {
    out.push_str("0x");
    for digit in (0..(u64::BITS - value.leading_zeros()).div_ceil(4).max(1)).rev() {
        out.push(char::from(b"0123456789abcdef"[(value >> (4 * digit) & 15) as usize]));
    }
}

/// A number as `{}` has it.
fn decimal(out: &mut String, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while at > 0 && (value > 0 || at == digits.len()) {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    digits[at..].iter().for_each(|&digit| out.push(char::from(digit)));
}

/// Whether a field of CSV stands as it is.
fn is_plain(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, b'"' | b',' | b'\n' | b'\r'))
}

/// A field of CSV, in quotes where it has to be (RFC 4180).
fn csv_field(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
    } else {
        let _ = write!(out, "\"{}\"", text.replace('"', "\"\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_does() {
        for value in (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 9]).chain([u64::MAX]) {
            let mut out = String::new();
            hexadecimal(&mut out, value);
            decimal(&mut out, value);
            assert_eq!(out, format!("{value:#x}{value}"));
        }
    }
}
