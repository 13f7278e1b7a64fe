//! The protocols, and what is wrong with their mutants.

mod pv_ticket;
use pv_ticket::pv_ticket;
use super::program::{At, Reg, Val, Var};
/// Bits of a ticket.
pub(super) const TICKET_BITS: u32 = 3;
/// m
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant { /// x
A }
fn slot(slots: Var, index: impl Into<Val>) -> At { At::Slot(slots, index.into()) }
fn with(reg: Reg, bits: u8) -> Val { Val::Or(reg, bits) }
/// t
pub fn quick(threads: usize, slots: usize, symmetric: bool) -> crate::error::Result<super::program::Program> { let _ = threads; pv_ticket(slots, symmetric, None) }
