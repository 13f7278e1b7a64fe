//! An explicit-state model checker for lock protocols on x86-TSO.
//!
//! A protocol is a [`program`]: one access to memory a step. The `machine` runs any number of steps of any thread, and
//! of its store buffer, in any order; the [`mod@search`] sees every state that can be reached, and says whether one breaks
//! a promise:
//!
//! | promise | of |
//! |---|---|
//! | one owner at a time | every protocol |
//! | no kick is lost: there is no state in which someone waits and nothing has to happen any more | every protocol |
//! | who arrives first enters first | the ticket locks |
//! | nobody touches the lock after giving it up: the next owner, done with it, may have freed it | those that say so |
//! | at most so many enter before a thread that has said that it starves | the hybrid |
//!
//! Threads acquire any number of times, and a thread outside the lock may stay there: so a lost kick is found even where
//! a later acquirer would kick again. Spinning for a while is a choice at every turn. What is proved
//! is proved for every length of a run, for the number of threads and slots at hand, for these programs (not for the
//! Rust that they describe), on TSO (not on weaker machines), and for safety: that who waits *can* go on, not that the
//! scheduler lets it. [`reduce`] says why states can be identified.

mod bounds;
mod choices;
mod follow;
mod layout;
mod machine;
pub mod program;
mod promises;
pub mod protocols;
pub mod reduce;
mod run;
pub mod search;
mod standard;
mod state;
pub mod trace;
mod verdict;
mod violation;
mod visited;

pub use bounds::{MAX_ACQUISITIONS, MAX_THREADS};
pub use follow::{DRAIN, Followed, Taken, follow};
pub use protocols::{Mutant, Protocol, Scenario, Setting};
pub use reduce::Reductions;
pub use search::{Limits, SearchResult, search};
pub use standard::{Case, UNCATCHABLE, standard};
pub use state::{Action, Machine};
pub use trace::{Event, replay};
pub use verdict::{Checked, check};
pub use violation::Violation;
