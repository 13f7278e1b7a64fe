//! spec to come

mod calendar;
mod engine;
mod guest;
mod histogram;
mod hypervisor;
mod params;
mod protocol;
mod random;
mod record;
mod report;
mod state;

pub use engine::Simulation;
pub use histogram::Histogram;
pub use params::{Interrupts, Params, Scheduler, microseconds, seconds};
pub use protocol::Protocol;
pub use random::Distribution;
pub use record::Span;
pub use report::{Counters, Preempted, Report};
pub use state::State;
