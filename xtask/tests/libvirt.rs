//! L1 is launched by the libvirt in L0, on a real scenario and emulated metal. Boots. And the libvirt of this machine reads what is
//! written for it, if there is one.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use common::{Place, boots, checkout, images, of_cells, of_recipes, trials};
use nestmatrix_images::{Disk, Emulator, Product};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Accelerator, Architecture, Launch, LevelNumber};
use nestmatrix_stack::host::WithVirtio;
use nestmatrix_stack::{BootFiles, BootImage, LevelPlan, MachineSettings, Metal, StackPlan};
use nestmatrix_vmm::libvirt::domain_xml;
use nestmatrix_vmm::qemu::{Instance, Machine};
use nestmatrix_vmm::shell::quote;
use serde_json::Value;

/// Longest wait for the stack.
const ONE: Duration = Duration::from_secs(10 * 60);

const CELL: &str = "rhel-8-amd-custom-cpu-libvirt/*";

fn an_l1_that_libvirt_launches_is_shown_to_nest_as_any_other() {
    let _guard = boots(&of_cells(&checkout().join("scenarios"), &[CELL]));
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", CELL]);
    let cell = place.finish(command, ONE).keep("libvirt").cell("rhel-8-amd-custom-cpu-libvirt");
    assert_eq!(cell.text("verdict"), "pass", "{:#}", cell.record);
    let cpu = &cell.record["evidence"]["cpus"]["l1"];
    assert_eq!((&cpu["model"], &cpu["required"]["svm"]), (&"EPYC-IBPB".into(), &true.into()), "{cpu}");
    assert!(cell.record["evidence"]["nested_runs"]["l0"]["after"].as_u64().unwrap() > 0, "{:#}", cell.record);
    let conversation = cell.conversation("L0.agent.jsonl");
    let asks = |text: &str| conversation.iter().any(|(_, message)| message.to_string().contains(text));
    assert!(asks("virsh create --paused") && !asks("-name L1"), "no command line of QEMU starts L1");
    let script = fs::read_to_string(cell.file("reproduce.sh")).unwrap();
    assert!(script.contains("virsh create --paused"), "{script}");
}

/// The machines of a stack of three levels in which libvirt launches L1 and L2.
fn machines(architecture: Architecture, accelerator: Accelerator) -> [Machine; 2] {
    let level = |number: u8| LevelPlan {
        level: LevelNumber::new(number).unwrap(),
        image: BootImage {
            name: format!("image {number}"),
            kernel_release: "6.12.1".into(),
            files: BootFiles::Kernel {
                kernel: "/kernel".into(),
                initramfs: "/initramfs".into(),
                disk: Some(Disk { path: "/disk".into(), kernel: 0..10, initramfs: 64..100 }),
            },
        },
        settings: MachineSettings {
            launch: (number > 0).then_some(Launch::Libvirt),
            accelerator,
            ..MachineSettings::default()
        },
        disk: None,
        uefi: None,
        unified_kernel: None,
        guest_volume: None,
        swtpm: None,
    };
    let levels = (0..=2).map(level).collect();
    let plan = StackPlan::cold(Metal::Emulated, ArchInfo::of(architecture), levels);
    [1, 2].map(|index| plan.machine(index, Instance::First))
}

/// Runs a command to its end; the test is ignored if there is no such program.
fn output_of(command: &mut Command) -> std::process::Output {
    match command.output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            trials::ignore(&format!("{} is missing", command.get_program().display()))
        }
        output => output.unwrap(),
    }
}

fn the_domain_xml_of_every_level_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    if nestmatrix_images::find_program("xmllint").is_none() {
        trials::ignore("xmllint is missing, which virt-xml-validate runs");
    }
    for architecture in [Architecture::Amd, Architecture::Intel, Architecture::Power9, Architecture::Arm] {
        for machine in machines(architecture, Accelerator::Kvm) {
            let path = folder.path().join("domain.xml");
            fs::write(&path, domain_xml(&machine, &WithVirtio, "/usr/bin/qemu")).unwrap();
            let checked = output_of(Command::new("virt-xml-validate").arg(&path).arg("domain"));
            let said = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{architecture} {}: {said}", machine.label());
        }
    }
}

/// The values of an option.
fn values<'a>(arguments: &'a [String], name: &str) -> Vec<&'a str> {
    let pairs = arguments.windows(2).filter(|pair| pair[0] == name);
    pairs.map(|pair| pair[1].as_str()).collect()
}

/// The values of a property of the devices of a kind: of ours, which are lists, and of libvirt's, which are lists or JSON.
fn properties(arguments: &[String], kind: &str, property: &str) -> Vec<String> {
    let devices = values(arguments, "-device");
    let value = |device: &&str| {
        if let Ok(json) = serde_json::from_str::<Value>(device) {
            return (json["driver"] == kind).then(|| json[property].as_str().unwrap_or_default().to_owned());
        }
        let rest = device.strip_prefix(kind)?.strip_prefix(',')?;
        rest.split(',').find_map(|one| one.strip_prefix(property)?.strip_prefix('=')).map(str::to_owned)
    };
    devices.iter().filter_map(value).collect()
}

/// libvirt's command line for a machine. An ordinary user needs no user of the name that libvirt is compiled with.
fn native(machine: &Machine) -> Vec<String> {
    images::require(&of_recipes(&["qemu-x86-amd64"]));
    let catalog = images::catalog();
    let image = images::image(catalog.get("qemu-x86-amd64").unwrap(), Product::Emulator);
    let emulator = Emulator::new(image).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [qemu, xml, root] = ["qemu", "domain.xml", "root"].map(|name| folder.path().join(name));
    let (program, mut arguments) = emulator.command("qemu-system-x86_64");
    arguments.extend(["-L".into(), emulator.data().into()]);
    let words = arguments.iter().map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let environment = emulator.environment();
    let environment: String = environment
        .iter()
        .map(|(name, value)| format!("export {}={}\n", name.display(), quote(&value.to_string_lossy())))
        .collect();
    let script = format!("#!/bin/sh\n{environment}exec {} {words} \"$@\"\n", program.display());
    fs::write(&qemu, script).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(&xml, domain_xml(machine, &WithVirtio, &qemu.to_string_lossy())).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000", "virsh", "-c"]);
    command.arg(format!("qemu:///embed?root={}", root.display()));
    command.args(["domxml-to-native", "qemu-argv"]).arg(&xml);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let output = output_of(command.env_clear().env("PATH", path).env("HOME", &root));
    let (printed, said) =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).into();
    if !output.status.success() {
        let cannot = ["unshare", "virsh: No such file", "failed to connect", "no connection driver"];
        if cannot.iter().any(|text| said.contains(text)) {
            trials::ignore(&format!("libvirt can't be asked: {}", said.trim()));
        }
        panic!("{said}");
    }
    words_of(&printed)
}

/// The words of a command line, in which only single quotes quote.
fn words_of(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for character in line.trim().chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words
}

fn libvirt_makes_the_command_line_of_the_same_machine() {
    let [mut machine, _] = machines(Architecture::Amd, Accelerator::Tcg);
    // An emulator has no CPU to pass through.
    machine.cpu.model = "EPYC-IBPB".to_owned();
    let (ours, libvirts) = (machine.arguments(&WithVirtio), native(&machine));
    let both = |name: &str| [values(&ours, name), values(&libvirts, name)];
    for name in ["-kernel", "-initrd", "-append"] {
        let [own, of_libvirt] = both(name);
        assert_eq!(own, of_libvirt, "{name}");
    }
    assert!(ours.contains(&"-S".to_owned()) && libvirts.contains(&"-S".to_owned()));
    assert!(values(&libvirts, "-machine")[0].starts_with("pc-q35-"), "{libvirts:?}");
    assert_eq!(values(&ours, "-cpu"), ["EPYC-IBPB,svm=on"]);
    assert!(values(&libvirts, "-cpu")[0].starts_with("EPYC-IBPB,svm=on"), "{libvirts:?}");
    assert_eq!(values(&libvirts, "-accel"), ["tcg"]);
    assert_eq!(values(&libvirts, "-m"), [machine.memory_mib.to_string()]);
    assert!(values(&libvirts, "-smp")[0].starts_with("2,"), "{libvirts:?}");
    for (kind, property) in [("virtserialport", "name"), ("virtio-blk-pci", "serial")] {
        let own = properties(&ours, kind, property);
        assert!(!own.is_empty());
        assert_eq!(own, properties(&libvirts, kind, property), "{kind}");
    }
    let monitor = values(&ours, "-chardev").into_iter().find(|value| value.contains("id=qmp,")).unwrap();
    assert!(values(&libvirts, "-chardev").contains(&monitor), "{libvirts:?}");
}

trials! {
    an_l1_that_libvirt_launches_is_shown_to_nest_as_any_other;
    the_domain_xml_of_every_level_is_valid;
    libvirt_makes_the_command_line_of_the_same_machine;
}
