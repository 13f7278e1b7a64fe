//! Sites as text that other programs read, or people: JSON, JSON lines, CSV, and a line a site.
//!
//! What the keys mean is the contract of `pvops sites` (schema `pvops.sites/1`); the layout of the JSON is that of a
//! printer which indents by one space.

use std::cell::Cell;
use std::io::Write as _;

use super::columns::Columns;
use super::rows::{Row, TABLES};
use super::text::{csv_field, decimal, hex, hexadecimal, is_plain, json_string, json_text, push};
use crate::image::kallsyms::Symbols;
use crate::image::{Image, Section};
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

/// A site on its way out.
struct Site<'a> {
    address: u64,
    section: &'a str,
    place: Option<(&'a str, u64)>,
    bytes: &'a [u8],
}

/// What sites are read with, one after the other.
struct Reader<'a, 'b> {
    writer: &'b Writer<'a>,
    symbols: Option<&'a Symbols>,
    /// That of the last site: most lie in the section of the one before.
    section: Option<&'a Section>,
    /// The rows of the last site, each with its table.
    rows: Vec<(u8, Row)>,
    /// The last symbol and its name: a function has several sites.
    named: Option<(usize, &'a str)>,
}

impl<'a, 'b> Reader<'a, 'b> {
    fn new(writer: &'b Writer<'a>) -> Reader<'a, 'b> {
        let symbols = writer.names.then(|| writer.image.symbols().ok().flatten()).flatten();
        Reader { writer, symbols, section: None, rows: Vec::new(), named: None }
    }

    /// Reads a site and its rows.
    fn read(&mut self, site: usize) -> Site<'a> {
        let Writer { image, columns, last, .. } = self.writer;
        let address = columns.site_address(site);
        if !self.section.is_some_and(|section| section.contains(address)) {
            self.section = image.section_at(address);
        }
        let section = self.section;
        self.rows.clear();
        self.rows.extend(columns.rows_of(site).map(|row| columns.table_and_row(row)));
        let place = self.symbols.and_then(|symbols| {
            let (number, offset) = symbols.number_near(address, last)?;
            let name =
                self.named.filter(|named| named.0 == number).map_or_else(|| symbols.name(number), |named| named.1);
            self.named = Some((number, name));
            Some((name, offset))
        });
        let bytes = |len: u16| match section {
            Some(section) => {
                let at = usize::try_from(address - section.address).ok()?;
                image.section_bytes(section).get(at..)?.get(..usize::from(len))
            }
            None => image.read(address, len.into()),
        };
        // Where not all of it is in the image, what the first row covers of it.
        let longest = self.rows.iter().map(|(_, row)| row.len).max().unwrap_or(0);
        let first = self.rows.first().map_or(0, |(_, row)| row.len);
        Site {
            address,
            section: section.map_or("", |section| &section.name),
            place: place.filter(|&(_, offset)| offset == 0 || section.is_some()),
            bytes: bytes(longest).or_else(|| bytes(first)).unwrap_or_default(),
        }
    }
}

/// One row's members in the order of the document: name, and value as JSON.
struct Members<'a, 'b> {
    writer: &'b Writer<'a>,
    table: &'static str,
    row: &'b Row,
}

impl<'a> Writer<'a> {
    /// Appends some sites. `first`: nothing of the list stands before them.
    pub fn write(&self, out: &mut Vec<u8>, form: Form, sites: &[u32], first: bool) {
        if form == Form::Text {
            let mut disassembler = Disassembler::new(self.image.bits());
            return sites.iter().for_each(|&site| self.text(out, site as usize, &mut disassembler));
        }
        let mut reader = Reader::new(self);
        for (i, &number) in sites.iter().enumerate() {
            let site = reader.read(number as usize);
            let members = reader.rows.iter().map(|(table, row)| Members {
                writer: self,
                table: TABLES[usize::from(*table)],
                row,
            });
            match form {
                Form::Json => {
                    push(out, if first && i == 0 { "\n" } else { ",\n" });
                    self.json(out, &site, members);
                }
                Form::JsonLines => members.for_each(|row| self.json_line(out, &site, &row)),
                _ => members.for_each(|row| self.csv_line(out, &site, &row)),
            }
        }
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

    /// `"address": …, "section": …, "symbol": …`, with `between` the members.
    fn json_head(&self, out: &mut Vec<u8>, site: &Site<'_>, between: &str) {
        push(out, "\"address\": \"");
        hexadecimal(out, site.address);
        out.push(b'"');
        push(out, between);
        if self.slide != 0 {
            let _ = write!(out, "\"runtime_address\": \"{:#x}\"{between}", site.address.wrapping_add(self.slide));
        }
        push(out, "\"section\": ");
        json_string(out, site.section);
        push(out, between);
        push(out, "\"symbol\": ");
        match site.place {
            Some((name, offset)) => {
                out.push(b'"');
                json_text(out, name);
                out.push(b'+');
                hexadecimal(out, offset);
                out.push(b'"');
            }
            None => push(out, "null"),
        }
    }

    fn json<'b>(&self, out: &mut Vec<u8>, site: &Site<'_>, rows: impl Iterator<Item = Members<'a, 'b>>)
    where
        'a: 'b,
    {
        push(out, "  {\n   ");
        self.json_head(out, site, ",\n   ");
        push(out, ",\n   ");
        json_bytes(out, site);
        push(out, ",\n   \"rows\": [");
        for (i, row) in rows.enumerate() {
            push(out, if i == 0 { "\n    {\n     " } else { ",\n    {\n     " });
            row.json(out, ",\n     ");
            push(out, "\n    }");
        }
        push(out, "\n   ]\n  }");
    }

    fn json_line(&self, out: &mut Vec<u8>, site: &Site<'_>, row: &Members<'_, '_>) {
        out.push(b'{');
        self.json_head(out, site, ", ");
        push(out, ", ");
        row.json(out, ", ");
        push(out, ", ");
        json_bytes(out, site);
        push(out, "}\n");
    }

    fn csv_line(&self, out: &mut Vec<u8>, site: &Site<'_>, row: &Members<'_, '_>) {
        hexadecimal(out, site.address);
        out.push(b',');
        csv_field(out, site.section);
        out.push(b',');
        match site.place {
            Some((name, offset)) if is_plain(name) => {
                push(out, name);
                out.push(b'+');
                hexadecimal(out, offset);
            }
            Some((name, offset)) => csv_field(out, &format!("{name}+{offset:#x}")),
            None => {}
        }
        out.push(b',');
        row.csv(out);
        hex(out, site.bytes, "");
        if self.slide != 0 {
            let _ = write!(out, ",{:#x}", site.address.wrapping_add(self.slide));
        }
        out.push(b'\n');
    }

    fn text(&self, out: &mut Vec<u8>, site: usize, disassembler: &mut Disassembler) {
        let address = self.columns.site_address(site);
        hex(out, &address.wrapping_add(self.slide).to_be_bytes(), "");
        let mut named: Vec<u8> = Vec::new();
        for row in self.columns.rows_of(site) {
            let table = self.columns.table_of(row);
            if !named.contains(&table) {
                push(out, if named.is_empty() { "  " } else { ", " });
                push(out, TABLES[usize::from(table)]);
                named.push(table);
            }
        }
        if let Some(op) = self.columns.op_of(site) {
            push(out, "  ");
            push(out, &self.op(op));
        }
        let bytes = self.columns.bytes_of(site);
        push(out, "  ");
        hex(out, bytes, " ");
        if !bytes.is_empty() {
            out.pop();
        }
        push(out, "  ");
        let namer = |address| self.place(address).map(|(name, offset)| (name.to_owned(), offset));
        for (i, line) in disassembler.lines(address, bytes, &namer).iter().enumerate() {
            push(out, if i == 0 { "" } else { "; " });
            push(out, &line.text);
        }
        if let Some((name, offset)) = self.place(address) {
            let _ = write!(out, "  # {name}+{offset:#x}");
        }
        out.push(b'\n');
    }
}

impl Members<'_, '_> {
    fn json(&self, out: &mut Vec<u8>, between: &str) {
        let Members { writer, table, row } = self;
        for part in ["\"table\": \"", table, "\"", between, "\"index\": "] {
            push(out, part);
        }
        decimal(out, row.index.into());
        if let Some(op) = row.op_type {
            let _ = write!(out, "{between}\"type\": {op}{between}\"op\": ");
            json_string(out, &writer.op(op));
        }
        push(out, between);
        push(out, "\"len\": ");
        decimal(out, row.len.into());
        if *table == "paravirt" {
            let _ = write!(out, "{between}\"clobbers\": ");
            match row.clobbers {
                None => push(out, "null"),
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
                    push(out, part);
                }
                hexadecimal(out, value);
                out.push(b'"');
            }
        }
    }

    /// The fields from `table` to `constant`, each with a comma behind it.
    fn csv(&self, out: &mut Vec<u8>) {
        let Members { writer, table, row } = self;
        push(out, table);
        out.push(b',');
        decimal(out, row.index.into());
        out.push(b',');
        if let Some(op) = row.op_type {
            let _ = write!(out, "{op},");
            csv_field(out, &writer.op(op));
        } else {
            out.push(b',');
        }
        out.push(b',');
        decimal(out, row.len.into());
        out.push(b',');
        for value in [row.clobbers, row.feature] {
            if let Some(value) = value {
                let _ = write!(out, "{value}");
            }
            out.push(b',');
        }
        // As Python prints them, which reads them back.
        push(
            out,
            match row.inverted {
                None => ",",
                Some(false) => "False,",
                Some(true) => "True,",
            },
        );
        push(out, if row.direct_call == Some(true) { "True," } else { "," });
        for value in [row.key, row.target] {
            if let Some(value) = value {
                hexadecimal(out, value);
            }
            out.push(b',');
        }
        csv_field(out, self.constant().unwrap_or_default());
        out.push(b',');
    }

    fn constant(&self) -> Option<&str> {
        self.writer.constants.get(usize::from(self.row.constant?)).map(String::as_str)
    }
}

fn json_bytes(out: &mut Vec<u8>, site: &Site<'_>) {
    push(out, "\"bytes\": \"");
    hex(out, site.bytes, "");
    out.push(b'"');
}
