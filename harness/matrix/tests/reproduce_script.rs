//! The script that boots a cell's stack without nestmatrix: what it prints and types, and that no text of a guest or a scenario
//! can break out of its comments and quotes. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use nestmatrix::reproduce::{FirmwareSummary, ImageName, LevelSummary, Reproduction, Stopped};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{
    Architecture, Command as StepCommand, CommandChannel, DiskBus, Fault, FaultAction, Fidelity, Launch,
    LevelNumber, NetworkCard, OwnAction, Step, StepAction, TpmVersion,
};
use nestmatrix_stack::{
    BootFiles, BootImage, ExitStatus, LevelPlan, Limits, MachineSettings, Metal, StackPlan, SwtpmArchive,
    Symptom, SystemDisk, UefiFirmware,
};
use nestmatrix_vmm::qemu::Ended;
use rstest::rstest;

fn level(number: u8) -> LevelNumber {
    LevelNumber::new(number).unwrap()
}

/// L1's QEMU ended and printed this.
fn ended(said: &str) -> Symptom {
    Symptom::QemuEnded { level: level(1), ended: Ended::Exited(1), said: said.into() }
}

/// A step in L0 ended with status 1 and printed this.
fn step_status(said: &str) -> Symptom {
    let (step, said) = ("unload".into(), said.into());
    Symptom::StepStatus { level: level(0), step, status: 1, wanted: ExitStatus::Success, said }
}

fn plan(architecture: Architecture, levels: std::ops::RangeInclusive<u8>, metal: Metal) -> StackPlan {
    let level = |number| LevelPlan {
        level: level(number),
        image: BootImage {
            name: format!("image {number}"),
            kernel_release: "6.12.1".into(),
            files: BootFiles::Kernel {
                kernel: "/elsewhere/vmlinuz".into(),
                initramfs: "/elsewhere/initramfs.cpio".into(),
                disk: None,
            },
        },
        settings: MachineSettings::default(),
        disk: None,
        uefi: None,
        unified_kernel: None,
        guest_volume: None,
        swtpm: None,
    };
    StackPlan {
        nonce: "17".into(),
        ..StackPlan::cold(metal, ArchInfo::of(architecture), levels.map(level).collect())
    }
}

fn image(recipe: &str, product: &str) -> ImageName {
    ImageName { recipe: recipe.into(), product: product.into(), digest: "0123456789abcdef".repeat(4) }
}

/// A cell of this stack, which works as documented.
fn cell(plan: &StackPlan) -> Reproduction<'_> {
    let innermost = plan.innermost();
    let told = |number| LevelSummary {
        level: level(number),
        required: "RHEL 10.0 and later".into(),
        os: "debian-13".into(),
        fidelity: if number == 0 { Fidelity::StandIn } else { Fidelity::Product },
        kernel: Some("6.12.1 (6.12.1-1)".into()),
        qemu: (number > 0).then(|| "10.0.2 (Debian 1:10.0.2+ds-2)".into()),
        image: Some(image("debian-13", if level(number) == innermost { "minimal" } else { "hypervisor" })),
        disk: None,
        uefi: None,
        swtpm: None,
    };
    Reproduction {
        cell: "preview/cell",
        title: "Nested virtualization",
        document: "rhel-10-limitations: preview (technology-preview)".into(),
        expected: "works".into(),
        verdict: "pass".into(),
        stopped: None,
        documented: None,
        harness_at_fault: false,
        seen: "2026-11-22T14:55:46Z by nestmatrix 0.1.0".into(),
        plan,
        steps: &[],
        faults: &[],
        changes_host: false,
        limits: Limits::new(plan.metal, 1.0),
        program: plan.profile.qemu,
        emulator: Some(image("qemu", "emulator")),
        levels: (0..=innermost.number()).map(told).collect(),
    }
}

/// The part of a script that belongs to its cell.
fn own_part(script: &str) -> String {
    let (own, _) = script.split_once("\n# What a console says of a level").unwrap();
    own.replace(std::env::consts::ARCH, "ISA")
}

fn sh(script: &str, arguments: &[&str], folder: &Path) -> Output {
    let file = folder.join("reproduce.sh");
    fs::write(&file, script).unwrap();
    Command::new("sh").args(arguments).arg(&file).current_dir(folder).output().unwrap()
}

fn assert_is_a_script(script: &str) {
    let place = tempfile::tempdir().unwrap();
    let checked = sh(script, &["-n"], place.path());
    assert!(checked.status.success(), "{}\n{script}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_cell_that_changes_the_machine_it_runs_on_is_described_and_not_run() {
    let plan = plan(Architecture::Amd, 1..=2, Metal::Native);
    let place = tempfile::tempdir().unwrap();
    let script = Reproduction { changes_host: true, ..cell(&plan) }.script().unwrap();
    let run = sh(&script, &[], place.path());
    let said = String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(2), "{said}");
    let why = "the cell changes the machine on which it runs, and a script does not restore that";
    assert!(said.contains(why), "{said}");
}

#[test]
fn a_level_that_libvirt_launches_is_created_from_domain_xml() {
    let mut plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    for number in [1, 2] {
        plan.levels[number].settings.launch = Some(Launch::Libvirt);
    }
    let script = cell(&plan).script().unwrap();
    assert_is_a_script(&script);
    let own = own_part(&script);
    for level in ["L1", "L2"] {
        assert!(own.contains(&format!("virsh create --paused /run/nest/{level}.xml")), "{own}");
        assert!(!own.contains(&format!("-name {level}")), "{own}");
        // What a fault of the scenario kills is QEMU, and what it has said is shown.
        assert!(own.contains(&format!("echo $pid > /run/nest/{}.pid", level.to_lowercase())), "{own}");
        assert!(own.contains(&format!("/var/log/libvirt/qemu/{level}.log 2>/dev/null\n)")), "{own}");
    }
    assert!(
        own.contains("nest.nonce=@nonce@") && own.contains("sed -i \"s/@nonce@/$nonce/\" /run/nest/L2.xml")
    );
}

#[test]
fn an_amd_stack_of_three_levels() {
    let script = cell(&plan(Architecture::Amd, 0..=2, Metal::Emulated)).script().unwrap();
    assert_is_a_script(&script);
    insta::assert_snapshot!(own_part(&script));
}

#[rstest]
#[case(Fidelity::Product, "rhel-10.0, kernel 6.12.1")]
#[case(Fidelity::Rebuild, "almalinux-10.0, a rebuild, instead of RHEL 10.0 and later, kernel 6.12.1")]
#[case(Fidelity::StandIn, "debian-13, instead of RHEL 10.0 and later, kernel 6.12.1")]
fn the_top_says_how_near_a_system_is_to_the_documented_one(#[case] fidelity: Fidelity, #[case] line: &str) {
    let plan = plan(Architecture::Amd, 0..=1, Metal::Emulated);
    let mut cell = cell(&plan);
    cell.levels[0].fidelity = fidelity;
    cell.levels[0].os = line.split(',').next().unwrap().into();
    let script = cell.script().unwrap();
    assert!(script.contains(&format!("#   L0          {line}")), "{script}");
}

#[test]
fn a_power9_stack_that_stops_at_a_machine_property() {
    let plan = plan(Architecture::Power9, 0..=1, Metal::Emulated);
    let symptom = Symptom::MissingMachineProperty {
        level: level(1),
        property: "cap-nested-hv".into(),
        machine_type: "pseries-10.0-machine".into(),
    };
    let stopped = Some(Stopped { stage: "l1-launch".parse().unwrap(), symptom: &symptom });
    let script = Reproduction { stopped, verdict: "fail".into(), ..cell(&plan) }.script().unwrap();
    assert_is_a_script(&script);
    insta::assert_snapshot!(own_part(&script));
}

#[test]
fn on_native_metal_it_begins_with_l1_on_this_machines_kvm() {
    let script = cell(&plan(Architecture::Arm, 1..=2, Metal::Native)).script().unwrap();
    assert_is_a_script(&script);
    let own = own_part(&script);
    assert!(own.contains("stage l0-kvm 20 120\n    must_host_here kvm\n"), "{own}");
    assert!(own.contains("outermost l1 \\\n") && own.contains("launch l1 l2 << 'END'\n"), "{own}");
    assert!(!own.contains("accel=tcg"), "{own}");
}

#[test]
fn steps_and_faults_are_done_where_the_harness_does_them() {
    let step = |name: &str, after: &str, action| Step {
        repeat: 1,
        timeout: None,
        reads: false,
        name: name.into(),
        after: after.parse().unwrap(),
        on: level(0),
        action,
    };
    let run = |run: &str, status, output: Option<&str>| {
        let output = output.map(str::to_owned);
        StepAction::Run(StepCommand { run: run.into(), fails: false, status, output })
    };
    let steps = [
        step("look", "l0-kvm", run("cat /sys/module/$KVM_MODULE/parameters/nested\nEND", None, Some("1"))),
        step("time it", "l0-kvm", StepAction::Own { action: OwnAction::Measure }),
        step("no svm", "l1-kvm", run("grep svm /proc/cpuinfo", Some(1), None)),
        step("move it", "l2-check", StepAction::Own { action: OwnAction::Migrate }),
        step("all of it", "l2-check", StepAction::Chain { chain: vec![OwnAction::Pause, OwnAction::Reset] }),
        Step { repeat: 3, ..step("thrice", "l2-check", run("true", None, None)) },
    ];
    let fault = |at: &str, of, second| Fault {
        at: at.parse().unwrap(),
        action: FaultAction::KillQemu,
        level: level(of),
        second,
    };
    let faults = [fault("l2-boot", 1, false), fault("l2-check", 2, true)];
    let plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    let script = Reproduction { steps: &steps, faults: &faults, ..cell(&plan) }.script().unwrap();
    assert_is_a_script(&script);
    let own = own_part(&script);
    let order = [
        "stage l0-kvm ",
        "stage step-1 30 180\n    step l0 no 1 << 'END_'\nKVM_MODULE=kvm_amd CPU_FLAGS='svm npt' QEMU=qemu-system-ISA \
         L1_KERNEL=/run/nest/l1-kernel L1_INITRAMFS=/run/nest/l1-initramfs\n\
         cat /sys/module/$KVM_MODULE/parameters/nested\nEND\nEND_\n",
        "stage step-2 ",
        "stage l1-launch ",
        "stage step-3 30 180\n    step l0 1 '' <<",
        "stage l2-boot 90 540\n    kill_qemu l1 l0\n    qmp l2 cont\n",
        "stage l2-check 90 540\n    not_here 'kills the QEMU of a second machine'\n",
        "stage step-4 30 180\n    not_here 'migrates the level'\n",
        "stage step-5 30 180\n    not_here 'changes the level in several ways'\n",
        "stage step-6 30 180\n    round=0\n    while [ $round -lt 3 ]; do\n    step l0 no '' <<",
        "    round=$((round + 1))\n    done\n",
    ];
    let places: Vec<usize> =
        order.iter().map(|part| own.find(part).unwrap_or_else(|| panic!("no {part:?} in {own}"))).collect();
    assert!(places.is_sorted(), "{places:?} in {own}");
    assert!(own.contains("# NOT DONE HERE: step-4 (move it): nestmatrix migrates the level."), "{own}");
    assert!(
        own.contains("# NOT DONE HERE: l2-check: nestmatrix kills the QEMU of a second machine."),
        "{own}"
    );
}

#[rstest]
#[case::fault_of_the_harness(ended("cannot allocate memory"), true)]
#[case::nothing_that_a_script_sees(Symptom::Harness { level: None, why: "a channel closed".into(), erratum: None }, false)]
fn what_can_not_be_compared_is_said_at_the_top(#[case] symptom: Symptom, #[case] harness_at_fault: bool) {
    let plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    let stopped = Some(Stopped { stage: "l1-boot".parse().unwrap(), symptom: &symptom });
    let script = Reproduction { stopped, harness_at_fault, ..cell(&plan) }.script().unwrap();
    assert!(script.contains("\n# NOTHING TO COMPARE WITH: "), "{script}");
    assert!(script.contains("\nrecorded=''\n"), "{script}");
}

#[test]
fn a_bare_machine_that_is_not_qemus_is_refused_in_words() {
    let plan = plan(Architecture::Intel, 0..=2, Metal::Emulated);
    let script = Reproduction { program: "bochs-bin", ..cell(&plan) }.script().unwrap();
    let place = tempfile::tempdir().unwrap();
    let ran = sh(&script, &[], place.path());
    assert_eq!(ran.status.code(), Some(2));
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("can't run: bochs-bin plays the bare machine"), "{said}");
    assert!(script.contains("\n# IT CAN'T BE RUN: bochs-bin plays the bare machine"), "{script}");
}

/// L1 from a disk, with a QEMU in a place of its own, and L2 by UEFI.
fn plan_with_disk_and_uefi(l1_from_disk: bool) -> StackPlan {
    let mut plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    if l1_from_disk {
        plan.levels[1].image.files = BootFiles::Disk(SystemDisk {
            base: "/cache/disk.qcow2".into(),
            overlay: "/scratch/L1.qcow2".into(),
            bus: DiskBus::Virtio,
            network_card: NetworkCard::Virtio,
            command_channel: CommandChannel::Agent,
            qemu: Some("/usr/libexec/qemu-kvm".into()),
            memory_mib: 2048,
            cpus: 1,
            system: None,
            first_boot: None,
            windows: None,
        });
    }
    plan.levels[2].uefi = Some(UefiFirmware {
        name: "uefi".into(),
        code: "/cache/code.fd".into(),
        base_variables: "/cache/vars.fd".into(),
        variables: "/scratch/L2-variables".into(),
        secure_boot: false,
    });
    plan
}

#[test]
fn a_level_from_a_disk_is_described_and_not_booted() {
    let plan = plan_with_disk_and_uefi(true);
    let mut of = cell(&plan);
    of.levels[1].os = "rhel-10.0-disk".into();
    of.levels[1].disk = Some("medium rhel-10.0 (SHA-256 0123456789ab...), prepared with 2 changes".into());
    let script = of.script().unwrap();
    assert_is_a_script(&script);
    insta::assert_snapshot!(own_part(&script));
    let place = tempfile::tempdir().unwrap();
    let run = sh(&script, &[], place.path());
    assert_eq!(run.status.code(), Some(2));
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(
        said,
        "can't run: L1 boots from a disk, and a script can only type at the shell of nestmatrix' own images\n"
    );
}

#[test]
fn a_level_that_uefi_starts_gets_its_firmware_and_a_copy_of_the_variables() {
    let plan = plan_with_disk_and_uefi(false);
    let mut of = cell(&plan);
    of.levels[2].uefi = Some(FirmwareSummary {
        about: "ovmf 2025.02-8, without secure boot".into(),
        image: Some(image("uefi-amd64", "firmware")),
    });
    let script = of.script().unwrap();
    assert_is_a_script(&script);
    let digest = "0123456789abcdef".repeat(4);
    for line in [
        &format!("    firmware_image l2 uefi-amd64-firmware {digest} code.fd vars.fd\n"),
        "#               started by ovmf 2025.02-8, without secure boot\n",
        "-drive if=pflash,unit=0,format=raw,readonly=on,file=/run/nest/disk/l2-code",
        "file=l2-variables",
    ] {
        assert!(script.contains(line), "{line}\n{script}");
    }
    let commands = "find_image() { image=$2; }; mkdir x; printf 1 >x/code.fd; printf 2 >x/vars.fd; chmod a-w x/*\n\
                    firmware_image l2 uefi-amd64-firmware x code.fd vars.fd\n\
                    printf 3 >>l2-variables; cat l2-code l2-variables x/vars.fd";
    let (status, said) = with_functions(&of, &[], commands);
    assert_eq!((status, said.trim()), (Some(0), "1232"));
}

#[test]
fn a_tpm_is_played_by_swtpm_on_this_machine_or_in_the_level_around() {
    let mut plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    for level in [0, 1] {
        plan.levels[level].settings.hardware.tpm = Some(TpmVersion::V2);
    }
    let archive = "/cache/tree.cpio".into();
    plan.levels[1].swtpm = Some(SwtpmArchive { name: "swtpm".into(), archive });
    let mut of = cell(&plan);
    of.levels[1].swtpm = Some(image("swtpm-amd64", "emulator"));
    let script = of.script().unwrap();
    assert_is_a_script(&script);
    let digest = "0123456789abcdef".repeat(4);
    for line in [
        "    swtpm_here tpm-L0 '' '' x86_64 socket --tpm2 ",
        &format!("    swtpm_image l1 swtpm-amd64-emulator {digest}\n"),
        "path=tpm-L0/socket",
        "path=/run/nest/tpm-L1/socket",
        "cpio -idu </run/nest/disk/l1-swtpm",
        "file=l1-swtpm",
        "must_have_device l1 tpm\n",
    ] {
        assert!(script.contains(line), "{line}\n{script}");
    }
    // The swtpm of L0 has a private folder, and is there before QEMU.
    let commands = "PATH=$PWD/bin:$PATH; mkdir bin\n\
                    printf '#!/bin/sh\\necho \"$*\" >args; echo $$ >pid\\n' >bin/swtpm; chmod +x bin/swtpm\n\
                    swtpm_here tpm-L0 '' '' x86_64 socket --tpm2 >/dev/null; exec 3</dev/null; start_swtpm\n\
                    cat tpm-L0/args; stat -c %a tpm-L0";
    let (status, said) = with_functions(&of, &[], commands);
    assert_eq!((status, said.trim()), (Some(0), "socket --tpm2\n700"));
}

#[test]
fn hostile_text_stays_text() {
    let hostile =
        "x'\n touch broken-out #`touch broken-out`$(touch broken-out)\"; touch broken-out; \u{1b}[2J\\";
    let mut plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    plan.levels[2].settings.kernel_parameters = vec!["a'$(touch${IFS}broken-out)`touch`\\\"".into()];
    let steps = [Step {
        repeat: 1,
        timeout: None,
        reads: false,
        name: hostile.into(),
        after: "l0-kvm".parse().unwrap(),
        on: level(0),
        action: StepAction::Run(StepCommand {
            run: "true\nEND\ntouch broken-out".into(),
            fails: false,
            status: None,
            output: Some("'; touch broken-out; '\nEND\ntouch broken-out".into()),
        }),
    }];
    let symptom = step_status(hostile);
    let stopped = Stopped { stage: "step-1".parse().unwrap(), symptom: &symptom };
    let mut of = cell(&plan);
    (of.cell, of.title, of.stopped, of.steps) = (hostile, hostile, Some(stopped), &steps);
    (of.document, of.expected, of.seen) = (hostile.into(), hostile.into(), hostile.into());
    for told in &mut of.levels {
        (told.os, told.required, told.fidelity) = (hostile.into(), hostile.into(), Fidelity::StandIn);
        (told.kernel, told.qemu) = (Some(hostile.into()), Some(hostile.into()));
    }
    let script = of.script().unwrap();
    assert!(script.chars().all(|c| !c.is_control() || c == '\n'), "{script}");
    assert_is_a_script(&script);
    // With an empty cache it ends before it boots anything, but the shell has read all of it by then.
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("reproduce.sh"), &script).unwrap();
    let ran = Command::new("sh")
        .arg("reproduce.sh")
        .current_dir(place.path())
        .env("NESTMATRIX_CACHE", place.path().join("empty"))
        .env("QEMU", "/bin/true")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        ran.status.code() == Some(2) && said.contains("can't run: the image debian-13-hypervisor is missing"),
        "{said}"
    );
    let names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names == ["reproduce.sh"], "{names:?}");
}

#[test]
fn a_control_character_makes_no_script() {
    let mut plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    plan.levels[1].settings.kernel_parameters = vec!["a\nb".into()];
    assert_eq!(cell(&plan).script(), None);
}

/// Runs shell commands with the functions of a cell's script, in a folder of logs; returns exit code and output.
fn with_functions(of: &Reproduction<'_>, logs: &[(&str, &[u8])], commands: &str) -> (Option<i32>, String) {
    let place = tempfile::tempdir().unwrap();
    for (name, said) in logs {
        fs::write(place.path().join(name), said).unwrap();
    }
    let script = of.script().unwrap();
    let functions = script.strip_suffix("main \"$@\"\n").unwrap();
    let state = "logs=$PWD verbose= decided= heard= hosts= started=0 first=l0 up='l0 l1 l2' stage=l2-boot";
    let ran = sh(&format!("{functions}\n{state}\n{commands}\n"), &[], place.path());
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    (ran.status.code(), said)
}

/// The output on the consoles of a stack whose L1 continues with `console`.
fn consoles(console: &[u8]) -> [(&'static str, &[u8]); 6] {
    [
        ("l0.console.log", b"nestmatrix-shell-ready\n"),
        ("l1.console.log", console),
        ("l2.console.log", b""),
        ("l0.qmp.log", b""),
        ("l1.qmp.log", b""),
        ("l2.qmp.log", b""),
    ]
}

#[rstest]
#[case::panic(
    b"up\0\r\n[    1.0] Kernel panic - not syncing: x\r\nagain\r\n",
    "stopped at l2-boot: l1: Kernel panic - not syncing: x; "
)]
#[case::within(
    b"Kernel pa\0nic - not syncing: x\n",
    "stopped at l2-boot: l1: Kernel panic - not syncing: x; "
)]
#[case::mixed_with_other_output(
    b"mou[  1.0] ntKern:el panic - no/t sync\n[    1.0]  ? panic+0x1/0x2\n[    1.0]  [<000000003b3ab8f2>] panic+0x11a/0x2f0\n",
    "stopped at l2-boot: l1: panic+0x11a/0x2f0; "
)]
#[case::end_of_a_panic(
    b"[    1.0] ---[ end Kernel panic - not syncing: x ]---\n",
    "stopped at l2-boot: l1: ---[ end Kernel panic - not syncing: x ]---; "
)]
#[case::qemu(
    b"\0\0\nqemu-l2| no \0memory\nqemu-l2| nestmatrix-ended 1\n",
    "stopped at l2-boot: l2's QEMU ended with status 1: no memory; "
)]
fn what_a_console_says_is_found_beside_a_nul(#[case] console: &[u8], #[case] expected: &str) {
    let plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    let (code, said) = with_functions(&cell(&plan), &consoles(console), "trouble && explain\nexit 9");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.lines().last().unwrap().starts_with(expected), "{said}");
}

#[test]
fn what_the_outermost_qemu_said_is_found_beside_a_nul() {
    let plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    let mut logs = consoles(b"").to_vec();
    logs.extend([("l0.qemu.log", &b"\0started\nno mem\0ory\n\n"[..]), ("emulator.ended", &b"1\n"[..])]);
    let (_, said) = with_functions(&cell(&plan), &logs, "trouble && explain\nexit 9");
    assert!(said.contains("stopped at l2-boot: l0's QEMU ended with status 1: no memory; "), "{said}");
}

#[test]
fn what_is_waited_for_is_found_beside_a_nul() {
    let plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    let console = b"\0\nnestmatrix-answer-more 7\0\r\n";
    let commands = "await \"$logs/l1.console.log\" 'nestmatrix-answer-more 7[^0-9]*$' 0 && say found";
    let (_, said) = with_functions(&cell(&plan), &consoles(console), commands);
    assert_eq!(said, "found\n");
}

#[rstest]
#[case::same("KVM does not support it", "", Some(0), "the same kind of outcome as recorded: ")]
#[case::told_before(
    "KVM does not support it",
    "qemu-l1| a hint\n",
    Some(0),
    "the same kind of outcome as recorded: "
)]
#[case::another_reason(
    "cannot allocate memory",
    "",
    Some(1),
    "ANOTHER outcome than recorded, of the same kind but without \"KVM does not support it\": "
)]
fn an_end_of_qemu_is_the_same_if_it_says_what_is_documented(
    #[case] says: &str,
    #[case] behind: &str,
    #[case] code: Option<i32>,
    #[case] expected: &str,
) {
    let plan = plan(Architecture::Arm, 0..=2, Metal::Emulated);
    let symptom = ended("qemu-system-aarch64: KVM does not support it");
    let stopped = Some(Stopped { stage: "l1-launch".parse().unwrap(), symptom: &symptom });
    let documented = Some("KVM does not support it");
    let of = Reproduction { stopped, documented, verdict: "xfail".into(), ..cell(&plan) };
    assert_is_a_script(&of.script().unwrap());
    let console = format!("qemu-l1| qemu: {says}\n{behind}qemu-l1| nestmatrix-ended 1\n");
    let logs = [
        ("l0.console.log", console.as_bytes()),
        ("l1.console.log", b""),
        ("l0.qmp.log", b""),
        ("l1.qmp.log", b""),
    ];
    let commands = "up='l0 l1' stage=l1-launch\ntrouble && explain\nexit 9";
    let (ended, said) = with_functions(&of, &logs, commands);
    let last = said.lines().last().unwrap();
    assert_eq!(ended, code, "{said}");
    // The recorded outcome is printed in any case.
    assert!(last.ends_with(&format!("; {expected}xfail: stopped at l1-launch: {symptom}")), "{last}");
    // Without a document that names a reason, any end of that QEMU is of the same kind.
    let (ended, said) = with_functions(&Reproduction { documented: None, ..of }, &logs, commands);
    assert_eq!(ended, Some(0), "{said}");
}

#[rstest]
#[case::refused("no", "it should not fail", "it exited with status 1", Some(0))]
#[case::in_other_words("no", "it should not fail", "Device or resource busy", Some(1))]
#[case::with_another_status("2", "it should exit with 2", "it exited with status 1", Some(0))]
fn a_step_that_fails_is_the_same_if_it_says_what_is_documented(
    #[case] fails: &str,
    #[case] wanted: &str,
    #[case] documented: &str,
    #[case] code: Option<i32>,
) {
    let plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    let symptom = step_status("Device or resource busy");
    let stopped = Some(Stopped { stage: "step-1".parse().unwrap(), symptom: &symptom });
    let of = Reproduction { stopped, documented: Some(documented), ..cell(&plan) };
    let asked = "stage=step-1\nask() {\n    status=1 answer=other\n}";
    let (ended, said) = with_functions(&of, &consoles(b""), &format!("{asked}\nstep l0 {fails} ''"));
    assert_eq!(ended, code, "{said}");
    assert!(
        said.contains(&format!("step-1 on l0: it exited with status 1, {wanted}; it printed other")),
        "{said}"
    );
}

#[rstest]
#[case::of_a_recipe("debian-13", "cargo xtask images build debian-13\n")]
#[case::derived("debian-13+local-kernel-6.12.1-01234567", "With --keep-images")]
fn what_is_advised_for_a_missing_image_can_be_done(#[case] recipe: &str, #[case] advice: &str) {
    let plan = plan(Architecture::Amd, 0..=2, Metal::Emulated);
    let commands =
        format!("here=$PWD cache=$PWD working_folder=$PWD\nlevel_image l0 {recipe}-hypervisor 0123 '' ''");
    let (code, said) = with_functions(&cell(&plan), &[], &commands);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(advice), "{said}");
    assert_eq!(said.contains("images build"), !recipe.contains('+'), "{said}");
}
