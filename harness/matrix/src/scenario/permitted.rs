//! Which images besides those of the required system itself may be booted.

use nestmatrix_model::Fidelity;

use super::cell::Cell;

/// Which images the user denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Denied {
    /// Rebuilds (`--deny-rebuilds`).
    pub rebuilds: bool,
    /// Stand-ins (`--deny-stand-ins`).
    pub stand_ins: bool,
}

/// Whether an image may stand in for the required system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandIns<'a> {
    /// It may.
    Allowed,
    /// The user denies stand-ins.
    DeniedByUser,
    /// The scenario denies stand-ins, for this reason: a stand-in would show nothing about its claims.
    DeniedByScenario(&'a str),
}

/// Which images may serve the levels of a cell, besides those of the required system itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted<'a> {
    /// Whether rebuilds may.
    pub rebuilds: bool,
    /// Whether stand-ins may.
    pub stand_ins: StandIns<'a>,
}

impl<'a> Permitted<'a> {
    /// Every image.
    pub const ALL: Self = Self { rebuilds: true, stand_ins: StandIns::Allowed };

    /// What may be used for `cell`. The scenario's reason comes first, since it holds without the user's choice as well.
    pub fn of(cell: &'a Cell, denied: Denied) -> Self {
        let stand_ins = match &cell.deny_stand_ins {
            Some(reason) => StandIns::DeniedByScenario(reason),
            None if denied.stand_ins => StandIns::DeniedByUser,
            None => StandIns::Allowed,
        };
        Self { rebuilds: !denied.rebuilds, stand_ins }
    }

    pub(super) fn permits(self, fidelity: Fidelity) -> bool {
        match fidelity {
            Fidelity::Product => true,
            Fidelity::Rebuild => self.rebuilds,
            Fidelity::StandIn => self.stand_ins == StandIns::Allowed,
        }
    }
}
