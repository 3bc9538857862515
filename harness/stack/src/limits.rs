//! How long a stage may take, and how long it may be silent.

use std::time::Duration;

use nestmatrix_model::LevelNumber;

use super::Metal;

/// The bounds of one stage of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Longest time without a sign of life: no console byte, no answer, no CPU use.
    pub silence: Duration,
    /// Longest time altogether: what ends a guest that spins.
    pub total: Duration,
}

/// The bounds of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Seconds of silence of a level at depth 0, and what each further level adds.
    base: f64,
    per_depth: f64,
    /// How many times its silence a stage may take altogether.
    total: f64,
    scale: f64,
}

impl Limits {
    /// Bounds for this metal, all multiplied by `scale`.
    ///
    /// On emulated metal each further level costs about as much as the two below it together: every exit of a guest is
    /// switched through all the levels under it.
    pub fn new(metal: Metal, scale: f64) -> Self {
        let (base, per_depth) = match metal {
            Metal::Native => (20.0, 0.0),
            Metal::Emulated => (30.0, 30.0),
        };
        Self { base: base * scale, per_depth: per_depth * scale, total: 6.0, scale }
    }

    /// The same bound for every stage, busy or silent.
    pub fn fixed(limit: Duration) -> Self {
        Self { base: limit.as_secs_f64(), per_depth: 0.0, total: 1.0, scale: 1.0 }
    }

    /// The bounds of a stage of `level`.
    pub fn of(&self, level: LevelNumber) -> Limit {
        let seconds = self.base + self.per_depth * f64::from(level.number());
        Limit {
            silence: Duration::from_secs_f64(seconds),
            total: Duration::from_secs_f64(self.total * seconds),
        }
    }

    /// The same bounds for what is done in a moment or not at all, busy or silent.
    pub fn short(self) -> Self {
        Self { total: 1.0, ..self }
    }

    /// The same bounds, each so many times as long.
    pub fn times(self, factor: f64) -> Self {
        Self {
            base: self.base * factor,
            per_depth: self.per_depth * factor,
            scale: self.scale * factor,
            ..self
        }
    }

    /// So many seconds, as all bounds are scaled.
    pub fn scaled(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.scale)
    }

    /// Bound of a question whose answer is only used if it comes at once: how something ended, what state it is in.
    pub fn moment(&self) -> Duration {
        self.scaled(3.0)
    }

    /// Bound of what is still read of a stack that has stopped, and of the end of a process that was killed.
    pub fn diagnostics(&self) -> Duration {
        self.scaled(10.0)
    }
}

/// The bounds of the waits of a stack now.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitLimits {
    /// Those of the run.
    pub(super) run: Limits,
    /// How long each wait of the step that is being done may take altogether, if the step says so.
    pub(super) step_total: Option<Duration>,
}

impl WaitLimits {
    /// Those of a run, outside of any step.
    pub(super) fn new(run: Limits) -> Self {
        Self { run, step_total: None }
    }

    /// The bounds of a wait for `level`.
    pub(super) fn of(&self, level: LevelNumber) -> Limit {
        let limit = self.run.of(level);
        Limit { total: self.step_total.unwrap_or(limit.total), ..limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deeper_level_may_take_longer_on_emulated_metal_and_the_scale_applies_to_all() {
        let level = |n| LevelNumber::new(n).unwrap();
        let emulated = Limits::new(Metal::Emulated, 1.0);
        assert!(emulated.of(level(2)).silence > emulated.of(level(0)).silence);
        let native = Limits::new(Metal::Native, 1.0);
        assert_eq!(native.of(level(2)), native.of(level(1)));
        let slower = Limits::new(Metal::Native, 3.0);
        assert_eq!(slower.of(level(1)).total, native.of(level(1)).total * 3);
        assert_eq!(slower.moment(), native.moment() * 3);
        assert_eq!(slower.diagnostics(), native.diagnostics() * 3);
        assert_eq!(native.times(3.0), slower);
    }
}
