use std::collections::BTreeSet;
use std::path::Path;

use super::subject::PROCEDURES;
use super::*;
use crate::doctor::SandboxTrial;
use crate::doctor::finding::{Check, Finding, Status};
use crate::doctor::probe::Probe;
use crate::scenario::Matrix;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, LevelNumber};
use nestmatrix_stack::Metal;
use nestmatrix_vmm::sandbox::Enforced;
use rstest::rstest;

/// A machine of each architecture on which nesting works.
fn good(architecture: Architecture) -> String {
    let (machine, processor, flags) = match architecture {
        Architecture::Amd => ("x86_64", "AuthenticAMD", "fpu svm npt"),
        Architecture::Intel => ("x86_64", "GenuineIntel", "fpu vmx ept"),
        Architecture::Power9 => ("ppc64le", "POWER9, altivec supported", ""),
        Architecture::Arm => ("aarch64", "", "fp asimd"),
        Architecture::IbmZ => ("s390x", "IBM/S390", "zarch sie"),
    };
    let module = ArchInfo::of(architecture).kvm_module;
    let nested = if architecture == Architecture::Arm { "" } else { "nested=1\n" };
    format!(
        "kernel=6.12.1\nos=debian\nos-version=13\nflags=: {flags}\nkvm-device\nkvm-module\n{nested}\
         machine={machine}\nprocessor={processor}\nprocessors=8\nmemory-kib=16777216\navailable-kib=12582912\n\
         huge-pages=0\nhuge-page-kib=2048\nkvm-opens=ok\nkvm-mode=crw-rw----\nkvm-group=kvm\nkvm-members=ann\n\
         uid=1000\nuser=ann\ngroups=ann kvm\nkvm-modules=kvm {module}\nunloadable=yes\nmodule-users=0\n\
         module-file=loadable\nhpage=0\noption=/etc/modprobe.d/kvm.conf:options {module} nested=1\n\
         command-line-nested=\ncommand-line-mode=nested\nqemu=/usr/bin/qemu\n\
         qemu-version=QEMU emulator version 10.1.0\napt=yes\ndisk.cache=/dev/a 9 9 52428800 1% /a\ndisk.snapshots=/dev/b 9 9 52428800 1% /b\n"
    )
}

/// A sandbox in which every part is in force.
pub(super) fn all_enforced() -> Enforced {
    Enforced {
        landlock: Some(7),
        denies_tcp: true,
        scopes: true,
        user_namespace: true,
        network_namespace: true,
        ..Enforced::default()
    }
}

pub(super) fn inventory() -> Inventory {
    let emulator = Ok(EmulatorSupply::Image { recipe: "qemu".into(), cached: true });
    let sandbox = SandboxTrial::Entered { enforced: all_enforced(), seccomp: true };
    Inventory { emulator, wanted: 3, missing: Vec::new(), offline: false, sandbox, sources: Vec::new() }
}

/// The findings of a machine that differs from the good one by these replacements.
fn found(architecture: Architecture, changes: &[(&str, &str)]) -> Vec<Finding> {
    found_with(architecture, changes, &Proof::Proven, &inventory())
}

pub(super) fn found_with(
    architecture: Architecture,
    changes: &[(&str, &str)],
    proof: &Proof,
    inventory: &Inventory,
) -> Vec<Finding> {
    let mut said = good(architecture);
    for (from, to) in changes {
        assert!(said.contains(from), "{from:?} in {said}");
        said = said.replace(from, to);
    }
    let place = Place::ThisMachine(inventory);
    findings(&Subject { architecture, probe: &Probe::parse(&said), place, proof })
}

pub(super) fn one(findings: &[Finding], check: Check) -> Finding {
    findings.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("{check:?}")).clone()
}

pub(super) fn not_ok(findings: &[Finding]) -> Vec<(Check, Status)> {
    let bad = findings.iter().filter(|finding| matches!(finding.status, Status::Missing | Status::Warning));
    bad.map(|finding| (finding.check, finding.status)).collect()
}

#[rstest]
#[case(Architecture::Amd)]
#[case(Architecture::Intel)]
#[case(Architecture::Power9)]
#[case(Architecture::Arm)]
#[case(Architecture::IbmZ)]
fn a_machine_on_which_nesting_works_has_no_problem(#[case] architecture: Architecture) {
    let findings = found(architecture, &[]);
    assert_eq!(not_ok(&findings), [], "{findings:#?}");
    let order: Vec<usize> = findings
        .iter()
        .map(|finding| Check::ALL.iter().position(|check| *check == finding.check).unwrap())
        .collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[rstest]
#[case::no_flag(Architecture::Amd, &[("svm npt", "npt")], Check::CpuFlags, "/proc/cpuinfo does not list svm", &[])]
#[case::no_vmx(Architecture::Intel, &[("vmx ept", "")], Check::CpuFlags, "does not list vmx or ept", &[])]
#[case::no_sie(Architecture::IbmZ, &[("zarch sie", "zarch")], Check::CpuFlags, "does not list sie", &[])]
#[case::no_kvm(Architecture::Amd, &[("kvm-opens=ok", "kvm-opens=")], Check::KvmDevice, "/dev/kvm does not exist", &[])]
#[case::no_permission(
    Architecture::Amd,
    &[("kvm-opens=ok", "kvm-opens=Permission denied"), ("ann kvm", "ann"), ("members=ann", "members=")],
    Check::KvmPermission,
    "ann has no permission to open /dev/kvm (mode crw-rw----, group kvm)",
    &["sudo usermod -aG kvm $USER"]
)]
#[case::member_since(
    Architecture::Amd,
    &[("kvm-opens=ok", "kvm-opens=Permission denied"), ("ann kvm", "ann")],
    Check::KvmPermission,
    "ann has no permission",
    &[]
)]
#[case::no_group(
    Architecture::Amd,
    &[("kvm-opens=ok", "kvm-opens=Permission denied"), ("crw-rw----", "crw-------"), ("kvm-group=kvm", "kvm-group=root"), ("ann kvm", "ann")],
    Check::KvmPermission,
    "(mode crw-------, group root)",
    &["sudo chgrp kvm /dev/kvm", "sudo chmod 660 /dev/kvm", "sudo usermod -aG kvm $USER"]
)]
#[case::forbidden(
    Architecture::Amd,
    &[("kvm-opens=ok", "kvm-opens=Operation not permitted")],
    Check::KvmPermission,
    "failed to open /dev/kvm: Operation not permitted",
    &[]
)]
#[case::no_module(
    Architecture::Amd,
    &[("kvm-module\n", ""), ("kvm-modules=kvm kvm_amd", "kvm-modules=")],
    Check::KvmModule,
    "kvm_amd is not loaded",
    &["sudo modprobe kvm_amd"]
)]
#[case::another_module(
    Architecture::Intel,
    &[("kvm-module\n", ""), ("kvm kvm_intel", "kvm kvm_pvm"), ("file=loadable", "file=no-folder")],
    Check::KvmModule,
    "kvm_intel is not loaded; the loaded KVM module is kvm_pvm",
    &[]
)]
#[case::old_qemu_on_arm(Architecture::Arm, &[("10.1.0", "9.2.1")], Check::Qemu, "older than 10.1, the first", &[])]
#[case::arm_mode(Architecture::Arm, &[("mode=nested", "mode=")], Check::NestedParameter, "kvm-arm.mode=nested", &[])]
#[case::part_of_the_kernel(
    Architecture::Amd,
    &[("\nnested=1", "\nnested=0"), ("unloadable=yes", "unloadable=no")],
    Check::NestedParameter,
    "nested is 0",
    &[]
)]
#[case::no_system(Architecture::Amd, &[("os-version=13", "os-version=")], Check::System, "has no version", &[])]
#[case::not_power9(Architecture::Power9, &[("POWER9", "POWER8")], Check::Processor, "requires a POWER9", &[])]
fn what_is_missing_on_native_metal_is_reported_with_the_commands_that_fix_it(
    #[case] architecture: Architecture,
    #[case] changes: &[(&str, &str)],
    #[case] check: Check,
    #[case] text: &str,
    #[case] fix: &[&str],
) {
    let findings = found(architecture, changes);
    assert_eq!(not_ok(&findings), [(check, Status::Missing)], "{findings:#?}");
    let finding = one(&findings, check);
    assert!(finding.found.contains(text), "{finding:#?}");
    assert_eq!(finding.prevents, [Metal::Native]);
    assert_eq!(finding.fix, fix);
    assert!(finding.advice.is_some() || !fix.is_empty() || check == Check::Processor, "{finding:#?}");
}

#[rstest]
#[case(Architecture::Amd, "kvm_amd", true)]
#[case(Architecture::Intel, "kvm_intel", false)]
#[case(Architecture::Power9, "kvm_hv", true)]
#[case(Architecture::IbmZ, "kvm", true)]
fn nesting_that_is_off_is_fixed_by_the_documents_procedure(
    #[case] architecture: Architecture,
    #[case] module: &str,
    #[case] documents_stop_vms: bool,
) {
    let option = format!("option=/etc/modprobe.d/kvm.conf:options {module} nested=1\n");
    let off = [("\nnested=1", "\nnested=N"), (option.as_str(), ""), ("users=0", "users=2")];
    let finding = one(&found(architecture, &off), Check::NestedParameter);
    assert_eq!((finding.status, &finding.prevents[..]), (Status::Missing, &[Metal::Native][..]));
    assert!(finding.found.starts_with(&format!("/sys/module/{module}/parameters/nested is N")));
    let commands = [
        format!("sudo modprobe -r {module}"),
        format!("sudo modprobe {module} nested=1"),
        format!("echo 'options {module} nested=1' | sudo tee -a /etc/modprobe.d/kvm.conf"),
    ];
    assert_eq!(finding.fix, commands);
    assert!(finding.advice.as_ref().unwrap().contains("has 2 users"), "{finding:#?}");
    let stop = format!("{PROCEDURES}/{architecture}-stop-vms");
    assert_eq!(finding.claims.contains(&stop), documents_stop_vms, "{finding:#?}");
    // Root needs no sudo, and an existing configuration needs no further line.
    let root = [off[0], ("uid=1000", "uid=0")];
    let finding = one(&found(architecture, &root), Check::NestedParameter);
    assert_eq!(finding.fix, [format!("modprobe -r {module}"), format!("modprobe {module} nested=1")]);
}

#[rstest]
#[case::no_line(("option=/etc/modprobe.d/kvm.conf:options kvm_amd nested=1\n", ""), "nothing in modprobe.d",
    &["echo 'options kvm_amd nested=1' | sudo tee -a /etc/modprobe.d/kvm.conf"])]
#[case::off_by_line(("options kvm_amd nested=1", "options kvm_amd nested=0"), "/etc/modprobe.d/kvm.conf sets nested=0",
    &["sudo sed -i '/kvm[-_]amd/s/nested=[0Nn]/nested=1/' /etc/modprobe.d/kvm.conf"])]
#[case::off_by_boot(("command-line-nested=", "command-line-nested=0"), "the kernel command line sets nested=0", &[])]
fn nesting_that_is_off_after_the_next_boot_is_a_warning(
    #[case] change: (&str, &str),
    #[case] text: &str,
    #[case] fix: &[&str],
) {
    let findings = found(Architecture::Amd, &[change]);
    assert_eq!(not_ok(&findings), [(Check::NestedPersistent, Status::Warning)]);
    let finding = one(&findings, Check::NestedPersistent);
    assert!(finding.found.contains(text), "{finding:#?}");
    assert_eq!(finding.fix, fix);
    assert!(finding.prevents.is_empty());
}

#[test]
fn only_on_ibm_z_huge_pages_and_nesting_exclude_each_other() {
    let off = [("\nnested=1", "\nnested=0"), ("hpage=0", "hpage=1")];
    let findings = found(Architecture::IbmZ, &off);
    let missing = [(Check::NestedParameter, Status::Missing), (Check::HugePages, Status::Missing)];
    assert_eq!(not_ok(&findings), missing);
    assert!(one(&findings, Check::NestedParameter).advice.unwrap().contains("remove hpage=1"));
    let both = found(Architecture::IbmZ, &[("hpage=0", "hpage=1")]);
    assert_eq!(not_ok(&both), [(Check::HugePages, Status::Warning)]);
    assert_eq!(one(&found(Architecture::Amd, &[]), Check::HugePages).status, Status::NotApplicable);
}

#[rstest]
#[case(Proof::Failed("l1-boot: silent".into()), Status::Missing, "/dev/kvm opens, but the trial guest failed: l1-boot: silent")]
#[case(Proof::NotTried("offline".into()), Status::Missing, "the trial guest could not be started: offline")]
#[case(Proof::NotAsked("not tried".into()), Status::NotApplicable, "not tried")]
#[case(Proof::Proven, Status::Ok, "a trial guest booted to its userspace")]
fn kvm_counts_once_it_has_run_a_guest(#[case] proof: Proof, #[case] status: Status, #[case] text: &str) {
    let findings = found_with(Architecture::Amd, &[], &proof, &inventory());
    let finding = one(&findings, Check::KvmProof);
    assert_eq!((finding.status, finding.found.as_str()), (status, text));
    assert_eq!(!finding.prevents.is_empty(), status == Status::Missing);
}

#[rstest]
#[case::guest(("fpu svm", "fpu hypervisor svm"), Check::BareMetal, "this machine is itself a guest")]
#[case::no_nested_paging((" npt", ""), Check::CpuFlags, "does not list npt")]
#[case::old_qemu(("10.1.0", "4.2.1"), Check::Qemu, "older than 5.2")]
#[case::little_disk(("52428800 1% /b", "1048576 1% /b"), Check::Disk, "1.0 GiB of disk space free; snapshots take up to")]
fn what_restricts_stacks_is_a_warning(
    #[case] change: (&str, &str),
    #[case] check: Check,
    #[case] text: &str,
) {
    let findings = found(Architecture::Amd, &[change]);
    assert_eq!(not_ok(&findings), [(check, Status::Warning)]);
    assert!(one(&findings, check).found.contains(text), "{findings:#?}");
}

#[test]
fn what_is_missing_for_emulated_metal_is_reported_on_a_machine_of_another_architecture_too() {
    let missing = vec!["debian-13-amd64 minimal".to_owned(), "debian-13-amd64 hypervisor".to_owned()];
    let emulator = Ok(EmulatorSupply::Image { recipe: "bochs-amd64".into(), cached: false });
    let offline = Inventory { emulator, missing, offline: true, ..inventory() };
    let no_kvm = Proof::NotAsked("another architecture".into());
    let changes = [
        ("AuthenticAMD", "GenuineIntel"),
        ("svm npt", "vmx"),
        ("available-kib=12582912", "available-kib=2097152"),
    ];
    let findings = found_with(Architecture::Amd, &changes, &no_kvm, &offline);
    let missing: Vec<(Check, usize)> = findings
        .iter()
        .filter(|finding| finding.status == Status::Missing)
        .map(|finding| (finding.check, finding.prevents.len()))
        .collect();
    assert_eq!(
        missing,
        [(Check::Processor, 1), (Check::Memory, 1), (Check::Emulator, 1), (Check::Images, 2)],
        "{findings:#?}"
    );
    assert_eq!(one(&findings, Check::Images).fix, ["cargo xtask images build debian-13-amd64"]);
    assert_eq!(one(&findings, Check::Emulator).fix, ["cargo xtask images build bochs-amd64"]);
    let power = found(Architecture::Power9, &[("ppc64le", "x86_64")]);
    assert_eq!(not_ok(&power), [(Check::InstructionSet, Status::Missing)]);
    assert!(power.iter().all(|finding| finding.check != Check::KvmModule));
}

#[rstest]
#[case::little(("52428800 1% /a", "102400 1% /a"), &[Metal::Native, Metal::Emulated])]
fn images_need_disk_space(#[case] change: (&str, &str), #[case] prevents: &[Metal]) {
    let finding = one(&found(Architecture::Amd, &[change]), Check::Disk);
    assert_eq!((finding.status, &finding.prevents[..]), (Status::Missing, prevents));
    assert_eq!(finding.fix, ["cargo xtask images prune"]);
}

#[test]
fn a_level_is_only_checked_for_what_a_hypervisor_needs() {
    let (level, innermost) = (LevelNumber::ALL[1], LevelNumber::ALL[2]);
    let said = good(Architecture::Amd).replace("svm npt", "hypervisor").replace("os=debian", "os=");
    let place = Place::Level { level, innermost };
    let proof = Proof::NotAsked("the cell shows it".into());
    let subject =
        Subject { architecture: Architecture::Amd, probe: &Probe::parse(&said), place, proof: &proof };
    let findings = findings(&subject);
    assert_eq!(not_ok(&findings), [(Check::CpuFlags, Status::Missing)]);
    assert!(one(&findings, Check::CpuFlags).advice.unwrap().contains("host-passthrough"));
    assert!(
        findings
            .iter()
            .all(|finding| !matches!(finding.check, Check::Disk | Check::Images | Check::BareMetal))
    );
}

#[test]
fn every_claim_that_a_finding_names_is_in_the_documents() {
    let matrix = Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap();
    let known: BTreeSet<String> = matrix
        .documents()
        .iter()
        .flat_map(|document| document.claims.iter().map(|claim| format!("{}/{}", document.id, claim.id)))
        .collect();
    let mut named = BTreeSet::new();
    for architecture in
        [Architecture::Amd, Architecture::Intel, Architecture::Power9, Architecture::Arm, Architecture::IbmZ]
    {
        named.extend(found(architecture, &[]).into_iter().flat_map(|finding| finding.claims));
        if architecture != Architecture::Arm {
            let off = found(architecture, &[("\nnested=1", "\nnested=0")]);
            named.extend(off.into_iter().flat_map(|finding| finding.claims));
        }
    }
    named.extend(found(Architecture::Power9, &[("POWER9", "POWER8")]).into_iter().flat_map(|f| f.claims));
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty() && named.len() > 20, "{unknown:?} of {named:?}");
}

#[test]
fn every_check_is_documented_in_its_order() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ").map(|(id, _)| id));
    let ids: Vec<&str> = Check::ALL.iter().map(|check| check.word()).collect();
    assert_eq!(rows.take(ids.len()).collect::<Vec<_>>(), ids);
}
