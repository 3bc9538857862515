//! Which of what lasts can stand on one line: nothing overlaps there.

/// Times at which something begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    /// From and to these seconds; what no time can be is as near to it as there is one.
    pub(super) fn of_seconds(start: f64, end: f64) -> Self {
        // Half a million years are enough, and exact as a number in JSON.
        let microseconds = |seconds: f64| (seconds.clamp(0.0, 9.0e9) * 1e6).round() as u64;
        let start = microseconds(start);
        Self { start, end: microseconds(end).max(start) }
    }

    /// What of it is within `other`.
    pub(super) fn within(self, other: Self) -> Self {
        let start = self.start.clamp(other.start, other.end);
        Self { start, end: self.end.clamp(start, other.end) }
    }

    /// What of it is after `before`.
    pub(super) fn after(self, before: u64) -> Self {
        let start = self.start.max(before);
        Self { start, end: self.end.max(start) }
    }

    pub(super) fn lasts(self) -> u64 {
        self.end - self.start
    }
}

/// The line on which each of these can stand, which are in the order in which they begin: the first that is free.
pub(super) fn lanes(spans: &[Span]) -> Vec<usize> {
    let mut free: Vec<u64> = Vec::new();
    let mut lane = |span: &Span| {
        let index = free.iter().position(|free| *free <= span.start).unwrap_or(free.len());
        if index == free.len() {
            free.push(0);
        }
        free[index] = span.end;
        index
    };
    spans.iter().map(&mut lane).collect()
}
