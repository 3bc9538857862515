//! The evidence for a pass: what was gathered while a stack ran, weighed once it is through.
//!
//! [`Evidence`] can only be made by [`Evidence::weigh`], and a verdict of pass can only be made of an [`Evidence`]. What
//! contradicts the stack's having worked makes the cell fail; what is missing makes it an error; neither makes it pass.

use std::collections::BTreeMap;

use nestmatrix_model::LevelNumber;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_vmm::qemu::{CpuReport, KvmReport, MachineReport, MissingFeature};
use serde::Serialize;

use super::{Contradiction, InnermostReport, Symptom};
use crate::host::Counters;

/// What was gathered of a stack while it ran.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Measurements {
    /// The nonce that was put on the innermost level's kernel command line.
    pub nonce: String,
    /// The innermost level's own report.
    pub report: Option<InnermostReport>,
    /// What `query-kvm` of each level's QEMU said, from L1 on.
    pub kvm: BTreeMap<LevelNumber, KvmReport>,
    /// The CPU that each level got.
    pub cpus: BTreeMap<LevelNumber, CpuReport>,
    /// The machine that each level got.
    pub machines: BTreeMap<LevelNumber, MachineReport>,
    /// KVM's counters of each level that hosts another one, before any guest of it ran.
    pub counters_before: BTreeMap<LevelNumber, Counters>,
    /// The same while the innermost level had just done its work.
    pub counters_after: BTreeMap<LevelNumber, Counters>,
    /// L0 is not the harness's to read: its counters need root on native metal.
    pub l0_counters_unreadable: bool,
    /// L0's hypervisor is not KVM but the emulator.
    pub emulator_is_l0: bool,
    /// The same of the machine that was booted beside a level, if one was, and of the innermost level in it.
    pub second_machine: Option<Box<Measurements>>,
}

/// Why there is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingProof {
    /// Something that was gathered says that the stack did not work as it must.
    #[error("{0}")]
    Contradicts(Box<Symptom>),
    /// Something was not gathered.
    #[error("missing evidence: {0}")]
    Missing(String),
}

/// How a count of KVM's grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Growth {
    /// What was counted: the name of KVM's counter, or of the trace event.
    pub counter: &'static str,
    /// Before any guest ran.
    pub before: u64,
    /// When the innermost level had done its work.
    pub after: u64,
}

/// Proof that a stack worked: each level ran its guest under KVM, and the innermost one's userspace really ran.
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
    l0_counters_unreadable: bool,
    emulator_is_l0: bool,
    /// The same of the machine that was booted beside a level, and of the innermost level in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    second_machine: Option<Box<Evidence>>,
}

impl Evidence {
    /// Weighs what was gathered of a stack of `profile`'s architecture whose levels are L0 to `innermost`.
    ///
    /// # Errors
    /// What contradicts, before what is missing.
    pub fn weigh(
        gathered: &Measurements,
        innermost: LevelNumber,
        profile: &ArchInfo,
    ) -> Result<Self, MissingProof> {
        let kvm_name = profile.kvm_as_seen_by_guest;
        let report = gathered.report.clone().ok_or_else(|| missing(format!("{innermost}'s report")))?;
        if report.nonce != gathered.nonce {
            let (got, expected) = (report.nonce, gathered.nonce.clone());
            return Err(not_nested(innermost, Contradiction::Nonce { got, expected }));
        }
        if innermost.reports() && report.hypervisor != kvm_name {
            let (got, expected) = (report.hypervisor, kvm_name.to_owned());
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
            l0_counters_unreadable: gathered.l0_counters_unreadable,
            emulator_is_l0: gathered.emulator_is_l0,
            second_machine: None,
        };
        for level in LevelNumber::ALL.into_iter().filter(|level| *level <= innermost) {
            if level.below().is_some() {
                let kvm = gathered
                    .kvm
                    .get(&level)
                    .ok_or_else(|| missing(format!("query-kvm of {level}'s QEMU")))?;
                // What the emulator runs shows its CPU's features, and further in, that KVM works on them.
                let on_emulator = gathered.emulator_is_l0 && level == LevelNumber::ALL[1];
                if !kvm.enabled && !on_emulator {
                    return Err(contradicts(Symptom::WithoutKvm { level }));
                }
                let cpu =
                    gathered.cpus.get(&level).ok_or_else(|| missing(format!("the CPU that {level} got")))?;
                cpu.check().map_err(|MissingFeature { feature, model }| {
                    contradicts(Symptom::MissingCpuFeature { level, feature, model, nested: None })
                })?;
                evidence.kvm.insert(level, *kvm);
                evidence.cpus.insert(level, cpu.clone());
                let machine = gathered.machines.get(&level);
                let machine = machine.ok_or_else(|| missing(format!("the machine that {level} got")))?;
                machine.check().map_err(|property| {
                    let machine_type = machine.machine_type.clone();
                    contradicts(Symptom::MissingMachineProperty { level, property, machine_type })
                })?;
                evidence.machines.insert(level, machine.clone());
            }
            let hosts_another = level < innermost;
            let no_counters = gathered.l0_counters_unreadable || gathered.emulator_is_l0;
            let readable = level.below().is_some() || !no_counters;
            if hosts_another && readable {
                let counter = counted(gathered, level, profile.exit_counters);
                evidence.exits.insert(level, growth(gathered, level, counter)?);
                if nests(level, innermost) {
                    let counter = nested_counter(gathered, level, profile);
                    evidence.nested_runs.insert(level, growth(gathered, level, counter)?);
                }
            }
        }
        if let Some(beside) = &gathered.second_machine {
            let weighed = Self::weigh(beside, innermost, profile).map_err(|doubt| match doubt {
                MissingProof::Missing(what) => missing(format!("of the second machine: {what}")),
                contradicts @ MissingProof::Contradicts(_) => contradicts,
            })?;
            evidence.second_machine = Some(Box::new(weighed));
        }
        Ok(evidence)
    }
}

/// Whether a level's KVM runs a guest of its guest in a stack up to `innermost`.
pub(super) fn nests(level: LevelNumber, innermost: LevelNumber) -> bool {
    level.number() + 1 < innermost.number()
}

/// What tells a level's entries into nested guests: KVM's own counter; the event only where that is not to be had.
fn nested_counter(gathered: &Measurements, level: LevelNumber, profile: &ArchInfo) -> &'static str {
    let event = profile.nested_event.map(|event| event.name);
    let names: Vec<&str> = profile.nested_counter.into_iter().chain(event).collect();
    counted(gathered, level, &names)
}

/// The first of these that a level's KVM counts, or the first of all where it counts none.
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
    let read = |counters: &BTreeMap<LevelNumber, Counters>, when: &str| {
        let value = counters.get(&level).and_then(|counters| counters.get(counter)).copied();
        value.ok_or_else(|| missing(format!("counter {counter} of {level}'s KVM {when}")))
    };
    let before = read(&gathered.counters_before, "before the guests ran")?;
    let after = read(&gathered.counters_after, "after the guests ran")?;
    if after > before {
        Ok(Growth { counter, before, after })
    } else {
        Err(missing(format!(
            "counter {counter} of {level}'s KVM did not grow (it was {before}, it is {after})"
        )))
    }
}

#[cfg(test)]
mod tests {
    use nestmatrix_model::Architecture;
    use rstest::rstest;

    use super::*;

    fn level(n: u8) -> LevelNumber {
        LevelNumber::new(n).unwrap()
    }

    fn gathered() -> Measurements {
        let cpu = |given| CpuReport {
            model: "host".into(),
            model_type: "host-x86_64-cpu".into(),
            required: [("svm".to_owned(), given)].into(),
            unavailable: Vec::new(),
            features: Vec::new(),
        };
        let counters =
            |exits, nested| Counters::from([("exits".into(), exits), ("nested_run".into(), nested)]);
        let report =
            InnermostReport { nonce: "17".into(), hypervisor: "KVM".into(), ..InnermostReport::default() };
        let kvm = KvmReport { enabled: true, present: true };
        let machine = MachineReport {
            machine_type: "pc-q35-10.0-machine".into(),
            required: [("virtualization".to_owned(), true)].into(),
        };
        Measurements {
            nonce: "17".into(),
            report: Some(report),
            kvm: [(level(1), kvm), (level(2), kvm)].into(),
            cpus: [(level(1), cpu(true)), (level(2), cpu(true))].into(),
            machines: [(level(1), machine.clone()), (level(2), machine)].into(),
            counters_before: [(level(0), counters(0, 0)), (level(1), counters(0, 0))].into(),
            counters_after: [(level(0), counters(9000, 800)), (level(1), counters(700, 0))].into(),
            l0_counters_unreadable: false,
            emulator_is_l0: false,
            second_machine: None,
        }
    }

    fn weigh(gathered: &Measurements) -> Result<Evidence, MissingProof> {
        Evidence::weigh(gathered, level(2), ArchInfo::of(Architecture::Amd))
    }

    #[test]
    fn a_stack_that_worked_gives_evidence() {
        let evidence = weigh(&gathered()).unwrap();
        let grown = Growth { counter: "nested_run", before: 0, after: 800 };
        assert_eq!(evidence.nested_runs[&level(0)], grown);
        assert!(!evidence.nested_runs.contains_key(&level(1)), "L1's guest has no guest of its own");
    }

    #[rstest]
    #[case::no_report(|g: &mut Measurements| g.report = None, "missing evidence: L2's report")]
    #[case::old_nonce(
        |g: &mut Measurements| g.report.as_mut().unwrap().nonce = "16".into(),
        "L2 gave back nonce \"16\", it was started with \"17\""
    )]
    #[case::emulated(
        |g: &mut Measurements| g.report.as_mut().unwrap().hypervisor = "none".into(),
        "L2 says that its hypervisor is \"none\", not KVM"
    )]
    #[case::fell_back(
        |g: &mut Measurements| g.kvm.get_mut(&level(2)).unwrap().enabled = false,
        "L2's QEMU does not run it with KVM (query-kvm: enabled is false)"
    )]
    #[case::never_asked(
        |g: &mut Measurements| { g.kvm.remove(&level(1)); },
        "missing evidence: query-kvm of L1's QEMU"
    )]
    #[case::feature(
        |g: &mut Measurements| g.cpus.get_mut(&level(1)).unwrap().required = [("svm".to_owned(), false)].into(),
        "missing CPU feature: svm (model host)"
    )]
    #[case::no_cpu(
        |g: &mut Measurements| { g.cpus.remove(&level(2)); },
        "missing evidence: the CPU that L2 got"
    )]
    #[case::not_nested(
        |g: &mut Measurements| { g.counters_after.get_mut(&level(0)).unwrap().insert("nested_run".into(), 0); },
        "missing evidence: counter nested_run of L0's KVM did not grow (it was 0, it is 0)"
    )]
    #[case::no_counters(
        |g: &mut Measurements| { g.counters_after.remove(&level(1)); },
        "missing evidence: counter exits of L1's KVM after the guests ran"
    )]
    fn whatever_is_wrong_or_missing_there_is_no_evidence(
        #[case] spoil: impl Fn(&mut Measurements),
        #[case] expected: &str,
    ) {
        let mut gathered = gathered();
        spoil(&mut gathered);
        assert_eq!(weigh(&gathered).unwrap_err().to_string(), expected);
    }

    #[rstest]
    #[case::as_it_must(|_: &mut Measurements| {}, "")]
    #[case::no_report(|g: &mut Measurements| g.report = None, "missing evidence: of the second machine: L2's report")]
    #[case::emulated(
        |g: &mut Measurements| g.report.as_mut().unwrap().hypervisor = "none".into(),
        "L2 says that its hypervisor is \"none\", not KVM"
    )]
    #[case::fell_back(
        |g: &mut Measurements| g.kvm.get_mut(&level(2)).unwrap().enabled = false,
        "L2's QEMU does not run it with KVM (query-kvm: enabled is false)"
    )]
    #[case::not_nested(
        |g: &mut Measurements| { g.counters_after.get_mut(&level(0)).unwrap().insert("nested_run".into(), 0); },
        "missing evidence: of the second machine: counter nested_run of L0's KVM did not grow (it was 0, it is 0)"
    )]
    #[case::no_guest(
        |g: &mut Measurements| { g.counters_after.get_mut(&level(1)).unwrap().insert("exits".into(), 0); },
        "missing evidence: of the second machine: counter exits of L1's KVM did not grow (it was 0, it is 0)"
    )]
    fn a_machine_beside_a_level_needs_the_same_evidence(
        #[case] spoil: impl Fn(&mut Measurements),
        #[case] expected: &str,
    ) {
        let mut beside = gathered();
        spoil(&mut beside);
        let both = Measurements { second_machine: Some(Box::new(beside)), ..gathered() };
        match weigh(&both) {
            Ok(evidence) => assert!(expected.is_empty() && evidence.second_machine.is_some()),
            Err(doubt) => assert_eq!(doubt.to_string(), expected),
        }
    }

    /// What is gathered where L0's kernel lacks the counter and tracing counts.
    fn traced() -> Measurements {
        let mut gathered = gathered();
        for counters in [&mut gathered.counters_before, &mut gathered.counters_after] {
            let l0 = counters.get_mut(&level(0)).unwrap();
            let count = l0.remove("nested_run").unwrap();
            l0.insert("kvm_nested_vmexit".into(), count);
        }
        gathered
    }

    #[test]
    fn a_kernel_without_the_counter_is_traced_and_the_evidence_says_so() {
        let grown = Growth { counter: "kvm_nested_vmexit", before: 0, after: 800 };
        assert_eq!(weigh(&traced()).unwrap().nested_runs[&level(0)], grown);
    }

    #[rstest]
    #[case::not_nested(
        |g: &mut Measurements| { g.counters_after.get_mut(&level(0)).unwrap().insert("kvm_nested_vmexit".into(), 0); },
        "missing evidence: counter kvm_nested_vmexit of L0's KVM did not grow (it was 0, it is 0)"
    )]
    #[case::lost(
        |g: &mut Measurements| { g.counters_after.get_mut(&level(0)).unwrap().remove("kvm_nested_vmexit"); },
        "missing evidence: counter kvm_nested_vmexit of L0's KVM after the guests ran"
    )]
    #[case::neither(
        |g: &mut Measurements| { g.counters_before.get_mut(&level(0)).unwrap().remove("kvm_nested_vmexit"); },
        "missing evidence: counter nested_run of L0's KVM before the guests ran"
    )]
    #[case::the_counter_goes_first(
        |g: &mut Measurements| {
            for counters in [&mut g.counters_before, &mut g.counters_after] {
                counters.get_mut(&level(0)).unwrap().insert("nested_run".into(), 0);
            }
        },
        "missing evidence: counter nested_run of L0's KVM did not grow (it was 0, it is 0)"
    )]
    fn tracing_is_no_way_round_the_evidence(
        #[case] spoil: impl Fn(&mut Measurements),
        #[case] expected: &str,
    ) {
        let mut gathered = traced();
        spoil(&mut gathered);
        assert_eq!(weigh(&gathered).unwrap_err().to_string(), expected);
    }

    #[test]
    fn an_l1_that_is_the_innermost_level_needs_exits_of_l0_and_no_nested_entries() {
        let mut gathered = gathered();
        for levels in [&mut gathered.counters_before, &mut gathered.counters_after] {
            levels.remove(&level(1));
            levels.get_mut(&level(0)).unwrap().remove("nested_run");
        }
        gathered.kvm.remove(&level(2));
        gathered.cpus.remove(&level(2));
        let weigh =
            |gathered: &Measurements| Evidence::weigh(gathered, level(1), ArchInfo::of(Architecture::Amd));
        let evidence = weigh(&gathered).unwrap();
        assert_eq!(evidence.exits.keys().collect::<Vec<_>>(), [&level(0)]);
        assert!(evidence.nested_runs.is_empty() && evidence.kvm.contains_key(&level(1)));
        gathered.counters_after.get_mut(&level(0)).unwrap().insert("exits".into(), 0);
        let doubt = weigh(&gathered).unwrap_err().to_string();
        assert_eq!(doubt, "missing evidence: counter exits of L0's KVM did not grow (it was 0, it is 0)");
    }

    #[test]
    fn only_l0s_counters_may_be_out_of_reach() {
        let mut gathered = gathered();
        gathered.l0_counters_unreadable = true;
        gathered.counters_after.remove(&level(0));
        let evidence = weigh(&gathered).unwrap();
        assert!(evidence.l0_counters_unreadable && evidence.nested_runs.is_empty());
        gathered.counters_after.remove(&level(1));
        assert!(weigh(&gathered).is_err());
    }

    #[test]
    fn an_emulator_as_l0_needs_no_kvm_of_its_own_and_every_level_inside_does() {
        let mut gathered = gathered();
        gathered.emulator_is_l0 = true;
        gathered.kvm.get_mut(&level(1)).unwrap().enabled = false;
        gathered.counters_after.remove(&level(0));
        let evidence = weigh(&gathered).unwrap();
        assert!(evidence.exits.contains_key(&level(1)) && !evidence.exits.contains_key(&level(0)));
        gathered.kvm.get_mut(&level(2)).unwrap().enabled = false;
        assert!(matches!(weigh(&gathered), Err(MissingProof::Contradicts(_))));
    }
}
