//! The evidence for a pass: what was measured while a stack ran, weighed at its end.
//!
//! Only [`Evidence::weigh`] can make an [`Evidence`], and a verdict of pass needs one. If a measurement contradicts that the
//! stack worked, the cell fails; if one is missing, the cell is an error; otherwise it passes.

use std::collections::BTreeMap;

use nestmatrix_model::LevelNumber;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_vmm::qemu::{CpuReport, KvmReport, MachineReport, MissingFeature};
use serde::Serialize;

use super::{Contradiction, Hypervisor, InnermostReport, Symptom};
use crate::host::{Counters, HyperVReport};

/// What was measured of a stack while it ran.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Measurements {
    /// The nonce that was put on the innermost level's kernel command line.
    pub nonce: String,
    /// The innermost level's own report.
    pub report: Option<InnermostReport>,
    /// The answers of each level's QEMU to `query-kvm`, from L1 on.
    pub kvm: BTreeMap<LevelNumber, KvmReport>,
    /// The CPU that each level got.
    pub cpus: BTreeMap<LevelNumber, CpuReport>,
    /// The machine that each level got.
    pub machines: BTreeMap<LevelNumber, MachineReport>,
    /// KVM's counters of each level that hosts another one, before any guest of it ran.
    pub counters_before: BTreeMap<LevelNumber, Counters>,
    /// The same, when the innermost level had just done its work.
    pub counters_after: BTreeMap<LevelNumber, Counters>,
    /// Why some of them could not be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_counters_after: Option<String>,
    /// The counters of this machine's KVM can't be read: on native metal that needs root.
    #[serde(rename = "l0_counters_unreadable")]
    pub machine_counters_unreadable: bool,
    /// This machine's KVM counts no entries into nested guests, and the harness switches on no tracing here.
    #[serde(rename = "l0_nested_runs_uncounted", skip_serializing_if = "std::ops::Not::not")]
    pub machine_nested_runs_uncounted: bool,
    /// L0's hypervisor is not KVM but the emulator.
    pub emulator_is_l0: bool,
    /// The level that this machine is, if it is not L0: what is around it shows nothing of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub this_machine: Option<LevelNumber>,
    /// The innermost level must be a guest of Hyper-V, in the Windows level around it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub innermost_in_hyper_v: bool,
    /// What each Windows level that starts guests reports about its Hyper-V.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hyper_v: BTreeMap<LevelNumber, HyperVReport>,
    /// The same for the second machine of a level, if there was one, and for the innermost level in it.
    pub second_machine: Option<Box<Measurements>>,
}

/// Why there is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingProof {
    /// A measurement shows that the stack did not work as required.
    #[error("{0}")]
    Contradicts(Box<Symptom>),
    /// Something was not measured.
    #[error("missing evidence: {0}")]
    Missing(String),
}

/// How one of KVM's counts grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Growth {
    /// What was counted: the name of KVM's counter, or of the trace event.
    pub counter: &'static str,
    /// Before any guest ran.
    pub before: u64,
    /// When the innermost level had done its work.
    pub after: u64,
}

/// Proof that a stack worked: each level ran its guest under KVM, or Windows under its Hyper-V, and the innermost one's userspace
/// really ran.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    nonce: String,
    report: InnermostReport,
    kvm: BTreeMap<LevelNumber, KvmReport>,
    cpus: BTreeMap<LevelNumber, CpuReport>,
    machines: BTreeMap<LevelNumber, MachineReport>,
    /// Entries into nested guests, by the level whose KVM counted them.
    nested_runs: BTreeMap<LevelNumber, Growth>,
    /// Exits of guests, by the level whose KVM counted them.
    exits: BTreeMap<LevelNumber, Growth>,
    #[serde(rename = "l0_counters_unreadable")]
    machine_counters_unreadable: bool,
    #[serde(rename = "l0_nested_runs_uncounted", skip_serializing_if = "std::ops::Not::not")]
    machine_nested_runs_uncounted: bool,
    emulator_is_l0: bool,
    /// The level that this machine is, if it is not L0. Nothing here is about the levels around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    this_machine: Option<LevelNumber>,
    /// What each Windows level reports about the Hyper-V that ran its guest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    hyper_v: BTreeMap<LevelNumber, HyperVReport>,
    /// The same for the second machine of a level, and for the innermost level in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    second_machine: Option<Box<Evidence>>,
}

impl Measurements {
    /// The hypervisor that must run a level of a stack up to `innermost`.
    fn hypervisor_of(&self, level: LevelNumber, innermost: LevelNumber) -> Hypervisor {
        if self.emulator_is_l0 && level == LevelNumber::ALL[1] {
            Hypervisor::Tcg
        } else if self.innermost_in_hyper_v && level == innermost {
            Hypervisor::HyperV
        } else {
            Hypervisor::Kvm
        }
    }
}

impl Evidence {
    /// Weighs what was measured of a stack of `profile`'s architecture whose levels are L0 to `innermost`, or those from this machine on.
    ///
    /// # Errors
    /// A contradiction, or else a missing measurement.
    pub fn weigh(
        gathered: &Measurements,
        innermost: LevelNumber,
        profile: &ArchInfo,
    ) -> Result<Self, MissingProof> {
        let name = gathered.hypervisor_of(innermost, innermost).as_seen_by_guest(profile);
        let report = gathered.report.clone().ok_or_else(|| missing(format!("{innermost}'s report")))?;
        if report.nonce.is_empty() {
            return Err(missing(format!("the nonce in {innermost}'s report")));
        }
        if innermost.reports() && report.hypervisor.is_empty() {
            return Err(missing(format!("the hypervisor in {innermost}'s report")));
        }
        if report.nonce != gathered.nonce {
            let (got, expected) = (report.nonce, gathered.nonce.clone());
            return Err(not_nested(innermost, Contradiction::Nonce { got, expected }));
        }
        if innermost.reports() && report.hypervisor != name {
            let (got, expected) = (report.hypervisor, name.to_owned());
            return Err(not_nested(innermost, Contradiction::Hypervisor { got, expected }));
        }
        if gathered.nonce.is_empty() {
            return Err(missing("a nonce".into()));
        }
        let mut evidence = Self {
            nonce: gathered.nonce.clone(),
            report,
            kvm: BTreeMap::new(),
            cpus: BTreeMap::new(),
            machines: BTreeMap::new(),
            nested_runs: BTreeMap::new(),
            exits: BTreeMap::new(),
            machine_counters_unreadable: gathered.machine_counters_unreadable,
            machine_nested_runs_uncounted: gathered.machine_nested_runs_uncounted,
            emulator_is_l0: gathered.emulator_is_l0,
            this_machine: gathered.this_machine,
            hyper_v: BTreeMap::new(),
            second_machine: None,
        };
        let outermost = gathered.this_machine.unwrap_or(LevelNumber::ALL[0]);
        for level in LevelNumber::ALL.into_iter().filter(|level| (outermost..=innermost).contains(level)) {
            if let Some(below) = level.below().filter(|_| level > outermost) {
                match gathered.hypervisor_of(level, innermost) {
                    Hypervisor::HyperV => evidence.weigh_hyper_v(gathered, below)?,
                    hypervisor @ (Hypervisor::Kvm | Hypervisor::Tcg) => {
                        evidence.weigh_qemu(gathered, level, hypervisor)?;
                    }
                }
            }
            let guest = level.next().filter(|guest| *guest <= innermost);
            let of_guest = guest.map(|guest| gathered.hypervisor_of(guest, innermost));
            let readable = level > outermost || !gathered.machine_counters_unreadable;
            if readable && of_guest.is_some_and(Hypervisor::has_counters) {
                let counter = counted(gathered, level, profile.exit_counters);
                evidence.exits.insert(level, growth(gathered, level, counter)?);
                let counts_nested = level > outermost || !gathered.machine_nested_runs_uncounted;
                if counts_nested && nests(level, innermost) {
                    let counter = nested_counter(gathered, level, profile);
                    evidence.nested_runs.insert(level, growth(gathered, level, counter)?);
                }
            }
        }
        if let Some(second) = &gathered.second_machine {
            let weighed = Self::weigh(second, innermost, profile).map_err(|doubt| match doubt {
                MissingProof::Missing(what) => missing(format!("of the second machine: {what}")),
                contradicts @ MissingProof::Contradicts(_) => contradicts,
            })?;
            evidence.second_machine = Some(Box::new(weighed));
        }
        Ok(evidence)
    }

    /// Weighs what the QEMU of `level` reports about it.
    fn weigh_qemu(
        &mut self,
        gathered: &Measurements,
        level: LevelNumber,
        hypervisor: Hypervisor,
    ) -> Result<(), MissingProof> {
        let kvm = gathered.kvm.get(&level).ok_or_else(|| missing(format!("query-kvm of {level}'s QEMU")))?;
        if !hypervisor.is_shown_by(kvm) {
            return Err(contradicts(Symptom::WithoutKvm { level }));
        }
        let cpu = gathered.cpus.get(&level).ok_or_else(|| missing(format!("the CPU that {level} got")))?;
        cpu.check().map_err(|MissingFeature { feature, model }| {
            contradicts(Symptom::MissingCpuFeature { level, feature, model, nested: None })
        })?;
        let machine = gathered.machines.get(&level);
        let machine = machine.ok_or_else(|| missing(format!("the machine that {level} got")))?;
        machine.check().map_err(|property| {
            let machine_type = machine.machine_type.clone();
            contradicts(Symptom::MissingMachineProperty { level, property, machine_type })
        })?;
        machine
            .hardware
            .check()
            .map_err(|difference| contradicts(Symptom::WrongHardware { level, difference }))?;
        self.kvm.insert(level, *kvm);
        self.cpus.insert(level, cpu.clone());
        self.machines.insert(level, machine.clone());
        Ok(())
    }

    /// Weighs what the Windows level `windows` reports about the Hyper-V that ran its guest.
    fn weigh_hyper_v(&mut self, gathered: &Measurements, windows: LevelNumber) -> Result<(), MissingProof> {
        let report = gathered.hyper_v.get(&windows);
        let report = report.ok_or_else(|| missing(format!("what {windows} reports about its Hyper-V")))?;
        if !report.root_partition {
            let why = Some("Windows says that it runs on no Hyper-V of its own".to_owned());
            let role = "Hyper-V".to_owned();
            return Err(contradicts(Symptom::NoHypervisor { level: windows, role, why }));
        }
        self.hyper_v.insert(windows, *report);
        Ok(())
    }
}

/// Whether a level's KVM runs a guest of its guest, in a stack up to `innermost`.
pub(super) fn nests(level: LevelNumber, innermost: LevelNumber) -> bool {
    level.number() + 1 < innermost.number()
}

/// The name of the count of a level's entries into nested guests: KVM's own counter, or the trace event if KVM has none.
fn nested_counter(gathered: &Measurements, level: LevelNumber, profile: &ArchInfo) -> &'static str {
    let names: Vec<&str> = nested_counters(profile).collect();
    counted(gathered, level, &names)
}

/// What can count entries into nested guests.
fn nested_counters(profile: &ArchInfo) -> impl Iterator<Item = &'static str> {
    profile.nested_counter.into_iter().chain(profile.nested_event.map(|event| event.name))
}

/// Whether these counters, which can be read, have none of entries into nested guests.
pub(super) fn lacks_nested_counter(counters: &Counters, profile: &ArchInfo) -> bool {
    !counters.is_empty() && !nested_counters(profile).any(|name| counters.contains_key(name))
}

/// The first of these that a level's KVM counts, or the first of all if it counts none.
fn counted(gathered: &Measurements, level: LevelNumber, names: &[&'static str]) -> &'static str {
    let had =
        |name: &str| gathered.counters_before.get(&level).is_some_and(|counters| counters.contains_key(name));
    names.iter().find(|name| had(name)).or(names.first()).copied().unwrap_or_default()
}

fn contradicts(symptom: Symptom) -> MissingProof {
    MissingProof::Contradicts(Box::new(symptom))
}

fn not_nested(level: LevelNumber, contradiction: Contradiction) -> MissingProof {
    contradicts(Symptom::NotNested { level, contradiction })
}

fn missing(what: String) -> MissingProof {
    MissingProof::Missing(what)
}

fn growth(
    gathered: &Measurements,
    level: LevelNumber,
    counter: &'static str,
) -> Result<Growth, MissingProof> {
    let read = |counters: &BTreeMap<LevelNumber, Counters>, when: &str, why: Option<&String>| {
        let value = counters.get(&level).and_then(|counters| counters.get(counter)).copied();
        let why = || why.map_or_else(String::new, |why| format!(": {why}"));
        value.ok_or_else(|| missing(format!("counter {counter} of {level}'s KVM {when}{}", why())))
    };
    let before = read(&gathered.counters_before, "before the guests ran", None)?;
    let after = read(&gathered.counters_after, "after the guests ran", gathered.no_counters_after.as_ref())?;
    if after > before {
        Ok(Growth { counter, before, after })
    } else {
        Err(missing(format!(
            "counter {counter} of {level}'s KVM did not grow (it was {before}, it is {after})"
        )))
    }
}

#[cfg(test)]
mod tests;
