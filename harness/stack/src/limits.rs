//! How long a stage may take, and how long it may be silent.

use std::time::Duration;

use nestmatrix_model::LevelNumber;

use super::Metal;

/// The limits of one stage of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Longest time without a sign of life: no console byte, no answer, no CPU use.
    pub silence: Duration,
    /// Longest time altogether: this ends a guest that spins.
    pub total: Duration,
}

/// The limits of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Seconds of silence of a level at depth 0, and what each further level adds.
    base: f64,
    per_depth: f64,
    /// The factor from the silence of a stage to its total time.
    total: f64,
    scale: f64,
}

impl Limits {
    /// Limits for this metal, all multiplied by `scale`.
    ///
    /// On emulated metal each further level costs about as much as the two below it together: every exit of a guest is passed
    /// through all the levels under it.
    pub fn new(metal: Metal, scale: f64) -> Self {
        let (base, per_depth) = match metal {
            Metal::Native => (20.0, 0.0),
            Metal::Emulated => (30.0, 30.0),
        };
        Self { base: base * scale, per_depth: per_depth * scale, total: 6.0, scale }
    }

    /// The same limit for every stage, busy or silent.
    pub fn fixed(limit: Duration) -> Self {
        Self { base: limit.as_secs_f64(), per_depth: 0.0, total: 1.0, scale: 1.0 }
    }

    /// The limits of a stage of `level`.
    pub fn of(&self, level: LevelNumber) -> Limit {
        let seconds = self.base + self.per_depth * f64::from(level.number());
        Limit {
            silence: Duration::from_secs_f64(seconds),
            total: Duration::from_secs_f64(self.total * seconds),
        }
    }

    /// The same limits for work that is done in a moment or not at all, busy or silent.
    pub fn short(self) -> Self {
        Self { total: 1.0, ..self }
    }

    /// The same limits, multiplied by this factor.
    pub fn times(self, factor: f64) -> Self {
        Self {
            base: self.base * factor,
            per_depth: self.per_depth * factor,
            scale: self.scale * factor,
            ..self
        }
    }

    /// The same limits, with this factor for how long a stage may be busy or silent.
    pub fn patient(self, factor: f64) -> Self {
        Self { base: self.base * factor, per_depth: self.per_depth * factor, ..self }
    }

    /// This many seconds, scaled like all limits.
    pub fn scaled(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.scale)
    }

    /// Limit of a question whose answer is only useful if it comes quickly: how something ended, or its present state.
    pub fn moment(&self) -> Duration {
        self.scaled(3.0)
    }

    /// Limit of what is still read from a stopped stack, and of the end of a killed process.
    pub fn diagnostics(&self) -> Duration {
        self.scaled(10.0)
    }
}

impl Limit {
    /// The same for a Windows level and what it starts. They show no progress while they work: Windows has a screen and no console,
    /// and a role does not print how much of a CPU its guest uses.
    pub(super) fn of_windows(self) -> Self {
        Self { silence: self.total, total: self.total * 3 }
    }
}

/// The present limits of a stack's waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitLimits {
    /// The limits of the run.
    pub(super) run: Limits,
    /// The time limit of each wait of the current step, if the step sets one.
    pub(super) step_total: Option<Duration>,
}

impl WaitLimits {
    /// The limits of a run, outside of any step.
    pub(super) fn new(run: Limits) -> Self {
        Self { run, step_total: None }
    }

    /// The limits of a wait for `level`.
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
