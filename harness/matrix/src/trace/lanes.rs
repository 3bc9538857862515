//! Assigns time spans to lanes, so that no two spans in a lane overlap.

/// A time span, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    /// The span between these seconds. Impossible times are clamped.
    pub(super) fn of_seconds(start: f64, end: f64) -> Self {
        // This is about 285 years, and exact as a number in JSON.
        let microseconds = |seconds: f64| (seconds.clamp(0.0, 9.0e9) * 1e6).round() as u64;
        let start = microseconds(start);
        Self { start, end: microseconds(end).max(start) }
    }

    /// The part within `other`.
    pub(super) fn within(self, other: Self) -> Self {
        let start = self.start.clamp(other.start, other.end);
        Self { start, end: self.end.clamp(start, other.end) }
    }

    /// The part after `before`.
    pub(super) fn after(self, before: u64) -> Self {
        let start = self.start.max(before);
        Self { start, end: self.end.max(start) }
    }

    pub(super) fn lasts(self) -> u64 {
        self.end - self.start
    }
}

/// The lane of each span: the first that is free. The spans must be sorted by their start.
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
