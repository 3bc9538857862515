//! How many cores and how much memory of this machine a cell needs, estimated from earlier cells.
//!
//! A cell that waits for a CPU must not count as one that needs less of it: otherwise too many parallel cells would make room for even
//! more. So the time in which its emulator waited is left out, and each emulator counts at least what it is known to use.

use std::collections::BTreeMap;

use nestmatrix_model::Architecture;
use nestmatrix_model::architecture::{ArchInfo, BareMachine};
use nestmatrix_stack::{Metal, Usage};

use crate::scenario::Cell;

/// What runs the outermost level of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Emulation {
    /// QEMU, with the KVM of this machine.
    Kvm,
    /// QEMU's TCG.
    Tcg,
    /// Bochs.
    Bochs,
    /// Hercules.
    Hercules,
}

impl Emulation {
    /// What runs the outermost level of a cell on this metal.
    pub(super) fn of(cell: &Cell, metal: Metal) -> Self {
        match (metal, ArchInfo::of(cell.architecture).metal) {
            (Metal::Native, _) => Self::Kvm,
            (Metal::Emulated, _) if cell.emulator_is_l0() => Self::Tcg,
            (Metal::Emulated, BareMachine::Bochs(_)) => Self::Bochs,
            (Metal::Emulated, BareMachine::Hercules(_)) => Self::Hercules,
            (Metal::Emulated, BareMachine::Qemu(_)) => Self::Tcg,
        }
    }

    /// The least number of cores that it keeps busy, whatever the number of its processors: at most times a stack has one thing
    /// to do.
    fn least_cores(self) -> f64 {
        match self {
            // Its guests run at the speed of this machine and wait for disks and timers.
            Self::Kvm => 0.25,
            // A stack boots from its beginning to its end, which is work for one processor most of the time: AMD stacks with one
            // processor took 0.97 to 1.03, with two 1.14 to 1.27, and POWER9 stacks with two 1.35 to 1.45.
            Self::Tcg => 0.9,
            // It emulates a halted processor at the same speed as a busy one: an Intel stack took 1.00.
            Self::Bochs => 1.0,
            // The processor's thread is busy while L0 boots, beside those of the timer and the console: an L0
            // took 0.93.
            Self::Hercules => 0.9,
        }
    }
}

/// A kind of cells with about the same needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) architecture: Architecture,
    pub(super) emulation: Emulation,
    /// A level boots an installed system, such as Windows, which needs several times the memory of one that boots an image.
    pub(super) has_system_disk: bool,
}

/// What cells of a kind used.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    cells: u32,
    cores: f64,
    memory_mib: u64,
}

/// The needs of cells, kind by kind.
#[derive(Debug, Default)]
pub(super) struct Demand(BTreeMap<Kind, Measured>);

impl Demand {
    /// A cell of this kind has ended and used this.
    pub(super) fn learn(&mut self, kind: Kind, usage: Usage) {
        let Some(cores) = cores(usage).filter(|_| usage.peak_memory_mib > 0) else { return };
        let measured = self.0.entry(kind).or_default();
        let before = f64::from(measured.cells);
        measured.cores = (measured.cores * before + cores) / (before + 1.0);
        measured.cells += 1;
        measured.memory_mib = measured.memory_mib.max(usage.peak_memory_mib);
    }

    /// Cores, and memory in MiB, that a cell of this kind takes; `memory_mib` of the latter until that is measured. Installed systems need
    /// very different amounts, so with one of them it is the least.
    pub(super) fn of(&self, kind: Kind, memory_mib: u64) -> (f64, u64) {
        let Some(measured) = self.0.get(&kind) else { return (1.0, memory_mib) };
        let least_memory = if kind.has_system_disk { memory_mib } else { 0 };
        (measured.cores.max(kind.emulation.least_cores()), measured.memory_mib.max(least_memory))
    }
}

/// Cores that an emulator keeps busy if it need not wait for any: its CPU time divided by the time in which it ran or slept.
fn cores(usage: Usage) -> Option<f64> {
    let undisturbed = usage.emulator_seconds - usage.waited_seconds;
    let cores = usage.cpu_seconds / undisturbed;
    (undisturbed > 0.0 && cores.is_finite()).then_some(cores)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const KVM: Kind = of_images(Emulation::Kvm);
    const TCG: Kind = of_images(Emulation::Tcg);

    const fn of_images(emulation: Emulation) -> Kind {
        Kind { architecture: Architecture::Amd, emulation, has_system_disk: false }
    }

    fn used(cpu_seconds: f64, emulator_seconds: f64, waited_seconds: f64) -> Usage {
        Usage { cpu_seconds, emulator_seconds, waited_seconds, peak_memory_mib: 500 }
    }

    fn demand(kind: Kind, usages: &[Usage]) -> (f64, u64) {
        let mut demand = Demand::default();
        usages.iter().for_each(|usage| demand.learn(kind, *usage));
        demand.of(kind, 900)
    }

    #[rstest]
    #[case::alone(used(8.0, 10.0, 0.0))]
    #[case::on_half_a_core(used(8.0, 20.0, 10.0))]
    #[case::on_a_tenth_of_a_core(used(8.0, 100.0, 90.0))]
    fn what_a_cell_needs_does_not_depend_on_how_long_it_waited(#[case] usage: Usage) {
        let (cores, _) = demand(KVM, &[usage]);
        assert!((cores - 0.8).abs() < 1e-9, "{cores}");
    }

    #[test]
    fn until_a_cell_has_come_to_its_end_each_takes_a_core_and_its_memory() {
        assert_eq!(demand(TCG, &[]), (1.0, 900));
        // The stack stopped early, or the record is of an earlier version.
        for nothing in [Usage::default(), Usage { peak_memory_mib: 500, ..Usage::default() }] {
            assert_eq!(demand(TCG, &[nothing]), (1.0, 900));
        }
        assert_eq!(demand(TCG, &[used(1.0, 10.0, 10.0)]), (1.0, 900), "it can't have waited all the time");
    }

    #[test]
    fn an_emulator_takes_no_less_than_it_is_known_to_use() {
        let little = used(1.0, 100.0, 0.0);
        let least = |emulation| demand(of_images(emulation), &[little]).0;
        assert_eq!(least(Emulation::Bochs), 1.0);
        assert!(least(Emulation::Tcg) > 0.76, "three on two cores would wait for each other");
        assert!(least(Emulation::Kvm) < 0.5);
    }

    #[test]
    fn cells_of_a_kind_count_by_their_mean_and_the_most_memory() {
        let large = Usage { peak_memory_mib: 1200, ..used(15.0, 10.0, 0.0) };
        assert_eq!(demand(TCG, &[used(10.0, 10.0, 0.0), large]), (1.25, 1200));
    }

    #[test]
    fn a_cell_with_an_installed_system_is_no_measure_for_others_and_takes_its_planned_memory() {
        let windows = Kind { has_system_disk: true, ..KVM };
        let mut all = Demand::default();
        all.learn(KVM, used(1.0, 10.0, 0.0));
        assert_eq!(all.of(windows, 8192), (1.0, 8192));
        all.learn(windows, Usage { peak_memory_mib: 5000, ..used(20.0, 10.0, 0.0) });
        assert_eq!((all.of(windows, 8192), all.of(windows, 2048)), ((2.0, 8192), (2.0, 5000)));
        assert_eq!(all.of(KVM, 900).1, 500);
    }
}
