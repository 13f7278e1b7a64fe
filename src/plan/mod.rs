//! The kernel's passes over its own text, one file a pass, and the plan they write.
//!
//! A [`Plan`] is the ordered list of writes a kernel would make: at which address, which bytes, by which pass and row,
//! and why. Where two passes write at one address both writes are there, in order; the last one is what runs.

pub mod paravirt;

/// One of the kernel's functions that rewrite text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// `apply_paravirt()`.
    Paravirt,
}

impl Pass {
    /// The name the command line and JSON use: that of its table.
    pub fn name(self) -> &'static str {
        match self {
            Pass::Paravirt => "paravirt",
        }
    }
}

/// One write of one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where, as linked.
    pub address: u64,
    /// The pass that writes.
    pub pass: Pass,
    /// The row of that pass's table which asks for it.
    pub row: u32,
    /// What was decided, and why.
    pub decision: paravirt::Decision,
    start: usize,
    len: usize,
}

/// The ordered writes of a boot.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    writes: Vec<Write>,
    // All bytes written, one run after the other: a plan has tens of thousands of writes of a few bytes each.
    arena: Vec<u8>,
}

impl Plan {
    /// An empty plan with room for this many writes of this many bytes each.
    pub fn with_capacity(writes: usize, bytes_each: usize) -> Plan {
        Plan { writes: Vec::with_capacity(writes), arena: Vec::with_capacity(writes.saturating_mul(bytes_each)) }
    }

    /// Adds a write of the bytes that `fill` leaves in the buffer, which comes preloaded with `original`.
    ///
    /// Nothing is added where `fill` fails.
    pub fn write<E>(
        &mut self,
        address: u64,
        pass: Pass,
        row: u32,
        original: &[u8],
        fill: impl FnOnce(&mut [u8]) -> Result<paravirt::Decision, E>,
    ) -> Result<(), E> {
        let start = self.arena.len();
        self.arena.extend_from_slice(original);
        match fill(&mut self.arena[start..]) {
            Ok(decision) => {
                self.writes.push(Write { address, pass, row, decision, start, len: original.len() });
                Ok(())
            }
            Err(error) => {
                self.arena.truncate(start);
                Err(error)
            }
        }
    }

    /// All writes, in the order the kernel makes them.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The bytes of a write of this plan.
    pub fn bytes(&self, write: &Write) -> &[u8] {
        &self.arena[write.start..write.start + write.len]
    }
}
