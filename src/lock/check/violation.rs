//! What a run can break.

use std::fmt;

/// What a state or step breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// Two threads own the lock.
    MutualExclusion {
        /// Who owned it already.
        owner: usize,
        /// Who came in.
        other: usize,
    },
    /// A thread entered before one that arrived earlier.
    Order {
        /// Who came in.
        thread: usize,
    },
    /// A thread touched the lock after it had given it up and another had, too: it may be freed.
    TouchAfterRelease {
        /// Who touched it.
        thread: usize,
    },
    /// More threads entered than may, since this one said that it starves.
    Starved {
        /// Who starves.
        thread: usize,
    },
    /// Nothing can happen any more, and someone waits.
    Stuck,
}

impl Violation {
    /// Its name in documents.
    pub fn name(&self) -> &'static str {
        match self {
            Violation::MutualExclusion { .. } => "mutual-exclusion",
            Violation::Order { .. } => "order",
            Violation::TouchAfterRelease { .. } => "touch-after-release",
            Violation::Starved { .. } => "starvation",
            Violation::Stuck => "lost-kick",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::MutualExclusion { owner, other } => {
                write!(f, "T{other} enters while T{owner} owns the lock")
            }
            Violation::Order { thread } => write!(f, "T{thread} enters before one that arrived earlier"),
            Violation::TouchAfterRelease { thread } => {
                write!(f, "T{thread} touches the lock after its release, when the next owner may have freed it")
            }
            Violation::Starved { thread } => write!(f, "T{thread} is overtaken more often than is promised"),
            Violation::Stuck => f.write_str("nobody can go on, and someone waits: the kick is lost"),
        }
    }
}
