//! The doctor's report on made-up machines.

use nestmatrix::doctor::{
    ArchitectureCheckup, Checkup, DocumentCheckup, EmulatorSupply, FORMAT, Finding, HostSummary, Inventory,
    MetalCheckup, Place, Probe, Proof, Reason, SandboxTrial, Selected, Status, Subject, findings,
};
use nestmatrix::report::{Style, checkup};
use nestmatrix::run::MetalChoice;
use nestmatrix::surroundings::GuestOf;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, LevelNumber};
use nestmatrix_stack::Metal;
use nestmatrix_vmm::sandbox::Enforced;

const STYLE: Style = Style { colour: false, width: 80 };

const AMD: &str = "kernel=6.12.1\nos=debian\nos-version=13\nflags=: fpu svm npt\nkvm-device\nkvm-module\nnested=1\n\
    machine=x86_64\nprocessor=AuthenticAMD\nprocessors=16\nmemory-kib=67108864\navailable-kib=60000000\n\
    huge-pages=0\nhuge-page-kib=2048\nkvm-opens=ok\nkvm-mode=crw-rw----\nkvm-group=kvm\nuid=1000\nuser=ann\n\
    groups=ann kvm\nkvm-modules=kvm kvm_amd\nunloadable=yes\nmodule-users=0\nmodule-file=loadable\n\
    option=/etc/modprobe.d/kvm.conf:options kvm_amd nested=1\nqemu=/usr/bin/qemu-system-x86_64\n\
    qemu-version=QEMU emulator version 10.0.2 (Debian)\napt=yes\ndisk.cache=/dev/a 9 9 52428800 1% /a\ndisk.snapshots=/dev/b 9 9 52428800 1% /b\n";

fn inventory() -> Inventory {
    let enforced = Enforced {
        landlock: Some(7),
        denies_tcp: true,
        scopes: true,
        user_namespace: true,
        network_namespace: true,
        ..Enforced::default()
    };
    Inventory {
        emulator: Ok(EmulatorSupply::Image { recipe: "qemu-x86-amd64".into(), cached: true }),
        wanted: 6,
        missing: Vec::new(),
        offline: false,
        sandbox: SandboxTrial::Entered { enforced, seccomp: true },
        sources: Vec::new(),
    }
}

fn metal(metal: Metal, cells: usize, findings: &[Finding]) -> MetalCheckup {
    let missing = findings.iter().filter(|finding| finding.status == Status::Missing);
    let missing = missing.filter(|finding| finding.prevents.contains(&metal));
    let why: Vec<String> = missing.map(|finding| finding.check.word().to_owned()).collect();
    MetalCheckup { usable: why.is_empty(), cells: if why.is_empty() { cells } else { 0 }, why }
}

fn architecture(architecture: Architecture, own: bool, probe: &Probe, proof: &Proof) -> ArchitectureCheckup {
    let place = Place::ThisMachine(&inventory());
    let findings = findings(&Subject { architecture, probe, place, proof });
    let native = metal(Metal::Native, 26, &findings);
    let emulated = Some(metal(Metal::Emulated, 45, &findings));
    ArchitectureCheckup { architecture, own, cells: 123, native, emulated, findings }
}

fn host(probe: &Probe) -> HostSummary {
    HostSummary {
        level: None,
        cell: None,
        machine: probe.machine.clone(),
        processor: probe.processor.clone(),
        processors: probe.processors,
        memory_mib: probe.memory_mib,
        available_memory_mib: probe.available_memory_mib,
        system: format!("{} {}", probe.facts.os, probe.facts.os_version),
        kernel: probe.facts.kernel.clone(),
        guest_of: None,
        l0_of_cells: 0,
        disposable_host: None,
    }
}

/// A machine that reports `said`, of the architecture `own`.
fn machine(said: &str, own: Architecture, proof: &Proof) -> String {
    let probe = Probe::parse(said);
    let architectures: Vec<ArchitectureCheckup> =
        [Architecture::Amd, Architecture::Intel, Architecture::Power9, Architecture::IbmZ]
            .into_iter()
            .map(|of| architecture(of, of == own, &probe, proof))
            .collect();
    let native = architectures.iter().any(|checked| checked.native.usable);
    let document_checkup = |document: &str, native: usize| DocumentCheckup {
        document: document.to_owned(),
        cells: 72,
        native,
        emulated: 22,
        neither: 50,
        reasons: vec![
            Reason { reason: "no image of Windows Server 2019, and no stand-in".into(), cells: 49 },
            Reason { reason: "needs SIE: QEMU TCG has none".into(), cells: 1 },
        ],
    };
    let native = if native { 13 } else { 0 };
    checkup(
        &Checkup {
            format: FORMAT,
            host: host(&probe),
            metal: MetalChoice::Auto,
            architectures,
            documents: vec![
                document_checkup("rhel-10-limitations", native),
                document_checkup("rhel-8-nested-vms", native),
            ],
            media: Vec::new(),
            documented: None,
            not_yet_run: None,
            selected: Some(Selected { profile: Some("default".into()), cells: 17, boot: 17 }),
            usable: true,
            why: Vec::new(),
        },
        &STYLE,
    )
}

#[test]
fn a_machine_on_which_nesting_works() {
    insta::assert_snapshot!(machine(AMD, Architecture::Amd, &Proof::Proven));
}

#[test]
fn a_machine_whose_kvm_is_not_set_up() {
    let said = AMD
        .replace("AuthenticAMD", "GenuineIntel")
        .replace("svm npt", "vmx ept")
        .replace("kvm_amd", "kvm_intel")
        .replace("\nnested=1", "\nnested=N")
        .replace("option=/etc/modprobe.d/kvm.conf:options kvm_intel nested=1\n", "")
        .replace("kvm-opens=ok", "kvm-opens=Permission denied")
        .replace("groups=ann kvm", "groups=ann")
        .replace("module-users=0", "module-users=3");
    let proof = Proof::NotAsked("no trial guest, because /dev/kvm does not open".into());
    insta::assert_snapshot!(machine(&said, Architecture::Intel, &proof));
}

#[test]
fn a_machine_whose_kvm_opens_and_runs_no_guest() {
    let said = AMD.replace("svm npt", "hypervisor").replace("\nkvm-module\n", "\n").replace("\nnested=1", "");
    let said = said.replace("kvm kvm_amd", "kvm kvm_pvm").replace("file=loadable", "file=no-folder");
    let proof = Proof::Failed("l1-boot: busy, but not done after 6 s, nothing on its console".into());
    insta::assert_snapshot!(machine(&said, Architecture::Amd, &proof));
}

#[test]
fn a_level_without_the_processors_extension() {
    let said = AMD.replace("svm npt", "hypervisor").replace("\nkvm-module\n", "\n").replace("\nnested=1", "");
    let probe = Probe::parse(&said.replace("kvm-opens=ok", "kvm-opens="));
    let (level, innermost) = (LevelNumber::ALL[1], LevelNumber::ALL[2]);
    let proof = Proof::NotAsked("no trial guest: run the cell instead".into());
    let architecture = Architecture::Amd;
    assert_eq!(ArchInfo::of(architecture).kvm_module, "kvm_amd");
    let place = Place::Level { level, innermost };
    let findings = findings(&Subject { architecture, probe: &probe, place, proof: &proof });
    let native = metal(Metal::Native, 1, &findings);
    let why = native.why.clone();
    let cell = "rhel-8-nesting-off/amd/rhel-8.2+/rhel-8.2+/rhel-8.2+".parse().unwrap();
    let level = Checkup {
        format: FORMAT,
        host: HostSummary { level: Some(level), cell: Some(cell), ..host(&probe) },
        metal: MetalChoice::Emulated,
        architectures: vec![ArchitectureCheckup {
            architecture,
            own: true,
            cells: 1,
            native,
            emulated: None,
            findings,
        }],
        documents: Vec::new(),
        media: Vec::new(),
        documented: None,
        not_yet_run: None,
        selected: None,
        usable: false,
        why,
    };
    insta::assert_snapshot!(checkup(&level, &STYLE));
}

#[test]
fn the_first_lines_say_what_runs_the_machine() {
    let shows = [("/proc/cpuinfo", "hypervisor"), ("/sys/class/dmi/id/sys_vendor", "VMware, Inc.")];
    let guest_of = GuestOf {
        level: LevelNumber::ALL[1],
        system: Some("vmware-esxi".into()),
        name: "VMware ESXi".into(),
        shown_also_by: Some("VMware Workstation shows the same".into()),
        shows: shows.map(|(source, said)| (source.to_owned(), said.to_owned())).into(),
    };
    let probe = Probe::parse(AMD);
    let host = HostSummary { guest_of: Some(guest_of), l0_of_cells: 6, ..host(&probe) };
    insta::assert_snapshot!(checkup(&Checkup { host, ..empty() }, &STYLE));
}

/// A checkup without anything to report.
fn empty() -> Checkup {
    Checkup {
        format: FORMAT,
        host: HostSummary::default(),
        metal: MetalChoice::Auto,
        architectures: Vec::new(),
        documents: Vec::new(),
        media: Vec::new(),
        documented: None,
        not_yet_run: None,
        selected: None,
        usable: true,
        why: Vec::new(),
    }
}
