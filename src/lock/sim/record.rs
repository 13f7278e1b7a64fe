//! What was where in a window of time, for a picture.

use super::state::State;

/// One stretch of a virtual CPU in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The virtual CPU.
    pub vcpu: u32,
    /// The physical CPU, if it was on one.
    pub pcpu: Option<u32>,
    /// What it did.
    pub state: State,
    /// From when, in ps.
    pub from: u64,
    /// Until when.
    pub to: u64,
}

/// Keeps what overlaps a window, up to a number of spans.
#[derive(Debug)]
pub(super) struct Record {
    from: u64,
    to: u64,
    most: usize,
    spans: Vec<Span>,
}

impl Record {
    /// A window [from, to) of at most so many spans; an empty one keeps nothing.
    pub fn new(from: u64, to: u64, most: usize) -> Record {
        Record { from, to, most, spans: Vec::new() }
    }

    /// Whether a span from this time on can be in the window: asked at every event, before a span is made.
    #[inline]
    pub fn wants(&self, from: u64) -> bool {
        from < self.to
    }

    pub fn add(&mut self, span: Span) {
        if self.wants(span.from) && span.to > self.from && span.to > span.from && self.spans.len() < self.most {
            self.spans.push(Span { from: span.from.max(self.from), to: span.to.min(self.to), ..span });
        }
    }

    pub fn into_spans(self) -> Vec<Span> {
        self.spans
    }
}
