//! Tests of what is evidence, and of what contradicts it or is missing.

use nestmatrix_model::Architecture;
use nestmatrix_vmm::qemu::{HardwareDifference, HardwareReport};
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
    let counters = |exits, nested| Counters::from([("exits".into(), exits), ("nested_run".into(), nested)]);
    let report =
        InnermostReport { nonce: "17".into(), hypervisor: "KVM".into(), ..InnermostReport::default() };
    let kvm = KvmReport { enabled: true, present: true };
    let machine = MachineReport {
        machine_type: "pc-q35-10.0-machine".into(),
        required: [("virtualization".to_owned(), true)].into(),
        hardware: HardwareReport { cpus: 2, ..HardwareReport::default() },
    };
    Measurements {
        nonce: "17".into(),
        report: Some(report),
        kvm: [(level(1), kvm), (level(2), kvm)].into(),
        cpus: [(level(1), cpu(true)), (level(2), cpu(true))].into(),
        machines: [(level(1), machine.clone()), (level(2), machine)].into(),
        counters_before: [(level(0), counters(0, 0)), (level(1), counters(0, 0))].into(),
        counters_after: [(level(0), counters(9000, 800)), (level(1), counters(700, 0))].into(),
        no_counters_after: None,
        machine_counters_unreadable: false,
        machine_nested_runs_uncounted: false,
        emulator_is_l0: false,
        this_machine: None,
        innermost_in_hyper_v: false,
        hyper_v: BTreeMap::new(),
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
fn a_second_machine_needs_the_same_evidence(
    #[case] spoil: impl Fn(&mut Measurements),
    #[case] expected: &str,
) {
    let mut second = gathered();
    spoil(&mut second);
    let both = Measurements { second_machine: Some(Box::new(second)), ..gathered() };
    match weigh(&both) {
        Ok(evidence) => assert!(expected.is_empty() && evidence.second_machine.is_some()),
        Err(doubt) => assert_eq!(doubt.to_string(), expected),
    }
}

/// What is measured where L0's kernel has no such counter and tracing counts.
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
fn tracing_is_no_way_round_the_evidence(#[case] spoil: impl Fn(&mut Measurements), #[case] expected: &str) {
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
fn counters_that_could_not_be_asked_for_are_missing_with_the_reason() {
    let mut gathered = gathered();
    gathered.counters_after.remove(&level(1));
    gathered.no_counters_after = Some("L1 did not answer within 7 s".into());
    assert_eq!(
        weigh(&gathered).unwrap_err().to_string(),
        "missing evidence: counter exits of L1's KVM after the guests ran: L1 did not answer within 7 s"
    );
}

#[test]
fn only_l0s_counters_may_be_out_of_reach() {
    let mut gathered = gathered();
    gathered.machine_counters_unreadable = true;
    gathered.counters_after.remove(&level(0));
    let evidence = weigh(&gathered).unwrap();
    assert!(evidence.machine_counters_unreadable && evidence.nested_runs.is_empty());
    gathered.counters_after.remove(&level(1));
    assert!(weigh(&gathered).is_err());
}

#[test]
fn only_this_machines_kvm_may_count_no_nested_entries_and_it_must_count_exits() {
    let mut gathered = gathered();
    gathered.machine_nested_runs_uncounted = true;
    for counters in [&mut gathered.counters_before, &mut gathered.counters_after] {
        counters.get_mut(&level(0)).unwrap().remove("nested_run");
    }
    let evidence = weigh(&gathered).unwrap();
    assert!(evidence.nested_runs.is_empty());
    assert_eq!(evidence.exits.keys().collect::<Vec<_>>(), [&level(0), &level(1)]);
    assert_eq!(serde_json::to_value(&evidence).unwrap()["l0_nested_runs_uncounted"], true);
    gathered.counters_after.get_mut(&level(0)).unwrap().insert("exits".into(), 0);
    let doubt = weigh(&gathered).unwrap_err().to_string();
    assert_eq!(doubt, "missing evidence: counter exits of L0's KVM did not grow (it was 0, it is 0)");
}

#[rstest]
#[case::counted(&["exits", "nested_run"], false)]
#[case::traced(&["exits", "kvm_nested_vmexit"], false)]
#[case::neither(&["exits"], true)]
#[case::unreadable(&[], false)]
fn a_kernel_that_counts_no_nested_entries_is_one_whose_counters_can_be_read(
    #[case] names: &[&str],
    #[case] expected: bool,
) {
    let counters: Counters = names.iter().map(|name| ((*name).to_owned(), 1)).collect();
    assert_eq!(lacks_nested_counter(&counters, ArchInfo::of(Architecture::Amd)), expected);
}

#[test]
fn a_stack_around_which_this_machine_is_l1_needs_nothing_of_l0() {
    let mut gathered = gathered();
    gathered.this_machine = Some(level(1));
    gathered.kvm.remove(&level(1));
    gathered.cpus.remove(&level(1));
    gathered.machines.remove(&level(1));
    gathered.counters_after.remove(&level(0));
    let evidence = weigh(&gathered).unwrap();
    assert_eq!(evidence.exits.keys().collect::<Vec<_>>(), [&level(1)]);
    assert!(evidence.nested_runs.is_empty());
    let json = serde_json::to_value(&evidence).unwrap();
    assert_eq!((&json["this_machine"], &json["l0_counters_unreadable"]), (&"l1".into(), &false.into()));
    gathered.counters_after.remove(&level(1));
    assert!(weigh(&gathered).is_err(), "L1's counters are evidence if this user can read them");
    gathered.machine_counters_unreadable = true;
    assert!(weigh(&gathered).is_ok());
    gathered.kvm.get_mut(&level(2)).unwrap().enabled = false;
    assert!(matches!(weigh(&gathered), Err(MissingProof::Contradicts(_))));
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

#[test]
fn hardware_that_is_not_the_requested_one_contradicts() {
    let mut gathered = gathered();
    let difference = HardwareDifference::FeatureOn { feature: "avx2".into() };
    let machine = gathered.machines.get_mut(&level(2)).unwrap();
    machine.hardware.differences = vec![difference.clone()];
    let doubt = Evidence::weigh(&gathered, level(2), ArchInfo::of(Architecture::Amd)).unwrap_err();
    let symptom = Symptom::WrongHardware { level: level(2), difference };
    assert_eq!(doubt, MissingProof::Contradicts(Box::new(symptom)));
}

/// What is measured if a Windows as L1 starts L2.
fn in_hyper_v() -> Measurements {
    let mut gathered = gathered();
    gathered.innermost_in_hyper_v = true;
    gathered.report.as_mut().unwrap().hypervisor = "Microsoft Hyper-V".into();
    gathered.hyper_v = [(level(1), HyperVReport { root_partition: true, nested: false })].into();
    gathered.kvm.remove(&level(2));
    gathered.cpus.remove(&level(2));
    gathered.machines.remove(&level(2));
    gathered.counters_before =
        [(level(0), Counters::from([("exits".into(), 7), ("nested_run".into(), 5)]))].into();
    gathered.counters_after.insert(level(1), Counters::new());
    gathered
}

#[test]
fn a_guest_of_hyper_v_needs_the_word_of_windows_in_place_of_that_of_a_qemu() {
    let evidence = weigh(&in_hyper_v()).unwrap();
    assert_eq!(evidence.nested_runs[&level(0)], Growth { counter: "nested_run", before: 5, after: 800 });
    assert!(evidence.hyper_v[&level(1)].root_partition && !evidence.exits.contains_key(&level(1)));
    let record = serde_json::to_value(&evidence).unwrap();
    assert_eq!(record["report"]["hypervisor"], "Microsoft Hyper-V");
    assert!(record["kvm"].get("l1").is_some() && record["kvm"].get("l2").is_none(), "{record}");
}

#[rstest]
#[case::of_kvm(
    |g: &mut Measurements| g.report.as_mut().unwrap().hypervisor = "KVM".into(),
    "L2 says that its hypervisor is \"KVM\", not Microsoft Hyper-V"
)]
#[case::without_word(
    |g: &mut Measurements| g.report.as_mut().unwrap().hypervisor = String::new(),
    "missing evidence: the hypervisor in L2's report"
)]
#[case::old_nonce(
    |g: &mut Measurements| g.report.as_mut().unwrap().nonce = "16".into(),
    "L2 gave back nonce \"16\", it was started with \"17\""
)]
#[case::windows_says_nothing(
    |g: &mut Measurements| g.hyper_v.clear(),
    "missing evidence: what L1 reports about its Hyper-V"
)]
#[case::another_level_says_it(
    |g: &mut Measurements| { let report = g.hyper_v.remove(&level(1)).unwrap(); g.hyper_v.insert(level(0), report); },
    "missing evidence: what L1 reports about its Hyper-V"
)]
#[case::windows_runs_on_no_hyper_v(
    |g: &mut Measurements| g.hyper_v.get_mut(&level(1)).unwrap().root_partition = false,
    "L1 can't start guests of Hyper-V: Windows says that it runs on no Hyper-V of its own"
)]
#[case::windows_is_emulated(
    |g: &mut Measurements| g.kvm.get_mut(&level(1)).unwrap().enabled = false,
    "L1's QEMU does not run it with KVM (query-kvm: enabled is false)"
)]
#[case::windows_has_no_feature(
    |g: &mut Measurements| g.cpus.get_mut(&level(1)).unwrap().required = [("hv-evmcs".to_owned(), false)].into(),
    "missing CPU feature: hv-evmcs (model host)"
)]
#[case::nothing_ran_since(
    |g: &mut Measurements| { g.counters_after.get_mut(&level(0)).unwrap().insert("nested_run".into(), 5); },
    "missing evidence: counter nested_run of L0's KVM did not grow (it was 5, it is 5)"
)]
#[case::no_exits_since(
    |g: &mut Measurements| { g.counters_after.get_mut(&level(0)).unwrap().insert("exits".into(), 7); },
    "missing evidence: counter exits of L0's KVM did not grow (it was 7, it is 7)"
)]
#[case::no_counters(
    |g: &mut Measurements| { g.counters_before.remove(&level(0)); },
    "missing evidence: counter exits of L0's KVM before the guests ran"
)]
fn hyper_v_is_no_way_round_the_evidence(#[case] spoil: impl Fn(&mut Measurements), #[case] expected: &str) {
    let mut gathered = in_hyper_v();
    spoil(&mut gathered);
    assert_eq!(weigh(&gathered).unwrap_err().to_string(), expected);
}

/// A guest of Windows can't pass as another guest, and another guest can't pass as one of Windows.
#[test]
fn neither_hypervisor_stands_for_the_other() {
    let as_kvm = Measurements { innermost_in_hyper_v: false, ..in_hyper_v() };
    let expected = "L2 says that its hypervisor is \"Microsoft Hyper-V\", not KVM";
    assert_eq!(weigh(&as_kvm).unwrap_err().to_string(), expected);
    let as_hyper_v = Measurements { innermost_in_hyper_v: true, ..gathered() };
    let expected = "L2 says that its hypervisor is \"KVM\", not Microsoft Hyper-V";
    assert_eq!(weigh(&as_hyper_v).unwrap_err().to_string(), expected);
}
