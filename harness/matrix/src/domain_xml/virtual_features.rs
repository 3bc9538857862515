//! `<features>`: what the hypervisor shows to the guest, beyond a real machine.

use super::cpu::keep;
use super::finding::Weight;
use super::level::LevelDraft;
use super::memory;
use super::survey::Element;

/// Hyper-V's enlightenments: libvirt's name, and QEMU's property of the CPU (QEMU, docs/system/i386/hyperv.rst).
const HYPER_V: &[(&str, &str)] = &[
    ("relaxed", "hv-relaxed"),
    ("vapic", "hv-vapic"),
    ("vpindex", "hv-vpindex"),
    ("runtime", "hv-runtime"),
    ("synic", "hv-synic"),
    ("stimer", "hv-stimer"),
    ("reset", "hv-reset"),
    ("frequencies", "hv-frequencies"),
    ("reenlightenment", "hv-reenlightenment"),
    ("tlbflush", "hv-tlbflush"),
    ("ipi", "hv-ipi"),
    ("evmcs", "hv-evmcs"),
    ("avic", "hv-avic"),
    ("emsr_bitmap", "hv-emsr-bitmap"),
    ("xmm_input", "hv-xmm-input"),
];

/// KVM's hints for its guest.
const KVM: &[(&str, &str)] = &[
    ("hint-dedicated", "kvm-hint-dedicated"),
    ("poll-control", "kvm-poll-control"),
    ("pv-ipi", "kvm-pv-ipi"),
];

/// Features that are a property of the CPU or of the machine, which the attribute `state` switches.
const OF_CPU: &[(&str, &str)] = &[("pmu", "pmu"), ("pvspinlock", "kvm-pv-unhalt")];
const OF_MACHINE: &[(&str, &str)] = &[
    ("vmport", "vmport"),
    ("smm", "smm"),
    ("nested-hv", "cap-nested-hv"),
    ("htm", "cap-htm"),
    ("ccf-assist", "cap-ccf-assist"),
];

/// Capabilities of POWER's machine, which have values.
const CAPABILITIES: &[(&str, &str)] = &[("cfpc", "cap-cfpc"), ("sbbc", "cap-sbbc"), ("ibs", "cap-ibs")];

pub(super) fn read(domain: Element<'_, '_>, level: &mut LevelDraft) {
    let Some(features) = domain.child("features") else { return };
    // What is not read stays untaken, and is a finding.
    let known = |table: &[(&str, &'static str)], name: &str| {
        table.iter().find(|(known, _)| *known == name).map(|(_, property)| *property)
    };
    for (libvirt, qemu) in OF_CPU {
        for feature in features.children(libvirt) {
            keep(feature, level.set_cpu_property(qemu, state(feature)));
        }
    }
    for (libvirt, qemu) in OF_MACHINE {
        for feature in features.children(libvirt) {
            let state = state(feature);
            keep(feature, level.set_machine_property(qemu, state));
        }
    }
    for (libvirt, qemu) in CAPABILITIES {
        for feature in features.children(libvirt) {
            let value = feature.attribute("value").unwrap_or_default();
            keep(feature, level.set_machine_property(qemu, value));
        }
    }
    if let Some(hyper_v) = features.child("hyperv") {
        match hyper_v.attribute("mode") {
            None | Some("custom") => {}
            Some("passthrough") => keep(hyper_v, level.set_cpu_property("hv-passthrough", "on")),
            Some(_) => hyper_v.note(
                Weight::ChangesMeaning,
                "no scenario key for this mode: the level has only the enlightenments that are named",
            ),
        }
        for (name, feature) in hyper_v.all_children() {
            read_hyper_v(&name, feature, known(HYPER_V, &name), level);
        }
    }
    if let Some(kvm) = features.child("kvm") {
        if let Some(hidden) = kvm.child("hidden") {
            let shows = if state(hidden) == "on" { "off" } else { "on" };
            keep(hidden, level.set_cpu_property("kvm", shows));
        }
        for (libvirt, qemu) in KVM {
            for feature in kvm.children(libvirt) {
                keep(feature, level.set_cpu_property(qemu, state(feature)));
            }
        }
    }
    read_controllers(features, level);
    let has_acpi = features.child("acpi").is_some();
    features.child("pae");
    if !has_acpi && level.profile.model_without_cpu.is_some() {
        features.note(
            Weight::Approximated,
            "<acpi/> is missing: libvirt would switch ACPI off; add machine = [\"acpi=off\"] if that is meant",
        );
    }
}

fn read_hyper_v(name: &str, feature: Element<'_, '_>, property: Option<&str>, level: &mut LevelDraft) {
    let is_on = state(feature) == "on";
    match (name, property) {
        ("spinlocks", _) => {
            let retries = feature.attribute("retries").unwrap_or("4294967295");
            if is_on {
                keep(feature, level.set_cpu_property("hv-spinlocks", retries));
            }
        }
        ("vendor_id", _) => {
            let value = feature.attribute("value").unwrap_or_default();
            if is_on {
                keep(feature, level.set_cpu_property("hv-vendor-id", value));
            }
        }
        // They are off by themselves.
        (_, Some(_)) if !is_on => {
            feature.all_children();
        }
        (_, Some(property)) => {
            keep(feature, level.set_cpu_property(property, "on"));
            for (part, element) in feature.all_children() {
                let switch = state(element);
                match (name, part.as_str()) {
                    ("stimer", "direct") => keep(element, level.set_cpu_property("hv-stimer-direct", switch)),
                    ("tlbflush", "direct") => {
                        keep(element, level.set_cpu_property("hv-tlbflush-direct", switch))
                    }
                    ("tlbflush", "extended") => {
                        keep(element, level.set_cpu_property("hv-tlbflush-ext", switch))
                    }
                    _ => element.refuse(super::left_out::UNKNOWN),
                }
            }
        }
        (_, None) => feature.refuse(super::left_out::UNKNOWN),
    }
}

/// Interrupt controllers, and POWER's hash page table.
fn read_controllers(features: Element<'_, '_>, level: &mut LevelDraft) {
    if let Some(apic) = features.child("apic")
        && let Some(eoi) = apic.attribute("eoi")
    {
        keep(apic, level.set_cpu_property("kvm-pv-eoi", eoi));
    }
    if let Some(io_apic) = features.child("ioapic") {
        match io_apic.attribute("driver") {
            Some("qemu") => keep(io_apic, level.set_machine_property("kernel-irqchip", "split")),
            Some("kvm") => keep(io_apic, level.set_machine_property("kernel-irqchip", "on")),
            _ => io_apic.refuse("unknown driver"),
        }
    }
    if let Some(gic) = features.child("gic") {
        match gic.attribute("version") {
            Some(version) => keep(gic, level.set_machine_property("gic-version", version)),
            None => gic.report(
                Weight::Approximated,
                "it names no version, and the level has that of its architecture",
            ),
        }
    }
    if let Some(hpt) = features.child("hpt") {
        if let Some(resizing) = hpt.attribute("resizing") {
            keep(hpt, level.set_machine_property("resize-hpt", resizing));
        }
        if let Some(size) = hpt.child("maxpagesize") {
            let bytes = memory::scaled(&size.text(), size.attribute("unit").unwrap_or("KiB"));
            match bytes {
                Some(bytes) => {
                    keep(size, level.set_machine_property("cap-hpt-max-page-size", &bytes.to_string()));
                }
                None => size.refuse("not a size"),
            }
        }
    }
}

/// `on` or `off`: a feature without the attribute is on.
fn state(feature: Element<'_, '_>) -> &'static str {
    match feature.attribute("state") {
        None | Some("on") => "on",
        Some("off") => "off",
        Some(_) => {
            feature.note(Weight::ChangesMeaning, "its state is neither on nor off; it counts as off");
            "off"
        }
    }
}
