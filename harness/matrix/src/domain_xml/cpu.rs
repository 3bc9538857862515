//! `<cpu>`: the model, its features, and what else QEMU's `-cpu` and `-smp` take.

use nestmatrix_model::{CpuMode, Isa};

use super::arguments;
use super::finding::Weight;
use super::level::{LevelDraft, NOT_A_WORD};
use super::survey::Element;
use crate::scenario::qemu_name;

/// Names of topology's parts, as in libvirt and in QEMU's `-smp`.
const TOPOLOGY: [&str; 5] = ["sockets", "dies", "clusters", "cores", "threads"];

/// Features that libvirt knows and QEMU does not (libvirt, src/qemu/qemu_capabilities.c, `virQEMUCapsCPUFilterFeatures`).
const NOT_PASSED: [&str; 5] = ["cmt", "mbm_total", "mbm_local", "osxsave", "ospke"];

/// Features with another name in QEMU: libvirt's, and QEMU's.
const RENAMED: [(&str, &str); 1] =
    [("vmx-invvpid-single-context-noglobals", "vmx-invept-single-context-noglobals")];

/// Reads `<cpu>`. It comes after `<vcpu>`, since a topology must agree with that.
pub(super) fn read(domain: Element<'_, '_>, level: &mut LevelDraft) {
    let Some(cpu) = domain.child("cpu") else {
        if arguments::cpu_of(domain).is_some() {
            return;
        }
        if let Some(model) = level.profile.model_without_cpu {
            level.cpu_mode = CpuMode::Custom { model: model.to_owned() };
            domain.note(
                Weight::Approximated,
                format!("it has no <cpu>: libvirt leaves the model to QEMU, whose default is {model}"),
            );
        } else {
            domain.note(Weight::Approximated, "it has no <cpu>: the level has the CPU of the level around");
        }
        return;
    };
    read_model(cpu, level);
    for feature in cpu.children("feature") {
        read_feature(feature, level);
    }
    if let Some(topology) = cpu.child("topology") {
        read_topology(topology, level);
    }
    if let Some(cache) = cpu.child("cache") {
        read_cache(cache, level);
    }
    if let Some(address) = cpu.child("maxphysaddr") {
        read_address_bits(address, level);
    }
    if let Some(vendor) = cpu.child("vendor") {
        vendor.text();
    }
}

fn read_model(cpu: Element<'_, '_>, level: &mut LevelDraft) {
    let model = cpu.child("model");
    let name = model.map(Element::text).unwrap_or_default();
    let mode = cpu.attribute("mode");
    match mode {
        Some("host-passthrough") => {}
        Some("host-model") => {
            cpu.note(
                Weight::Approximated,
                "host-model: the level has the whole CPU of the level around (host-passthrough)",
            );
        }
        Some("maximum") => {
            cpu.note(Weight::Approximated, "maximum: under KVM this is the CPU of the level around");
        }
        Some("custom") | None if !name.is_empty() => match qemu_name("a CPU model", &name) {
            Ok(model) => level.cpu_mode = CpuMode::Custom { model },
            Err(_) => cpu.note(Weight::ChangesMeaning, NOT_A_WORD),
        },
        Some("custom") | None => without_model(cpu, level),
        Some(_) => {
            cpu.note(Weight::ChangesMeaning, "unknown mode: the level has the CPU of the level around")
        }
    }
    if let Some(migratable) = cpu.attribute("migratable") {
        if level.cpu_mode == CpuMode::HostPassthrough && level.profile.isa == Isa::Amd64 {
            keep(cpu, level.set_cpu_property("migratable", migratable));
        } else {
            cpu.note(Weight::Approximated, "migratable is for a CPU that is passed through on x86");
        }
    }
    match cpu.attribute("match") {
        None | Some("exact") => {}
        Some("minimum") => {
            cpu.note(Weight::ChangesMeaning, "match=minimum: the level has only the features of the model")
        }
        Some(_) => cpu.note(
            Weight::ChangesMeaning,
            "match=strict: libvirt refuses a host with more features, and the harness does not",
        ),
    }
    let vendor = model.and_then(|model| model.attribute("vendor_id"));
    if let (Some(model), Some(vendor)) = (model, vendor) {
        keep(model, level.set_cpu_property("vendor", vendor));
    }
}

/// A `<cpu>` that only has, for example, a topology.
fn without_model(cpu: Element<'_, '_>, level: &mut LevelDraft) {
    match level.profile.model_without_cpu {
        Some(model) => {
            level.cpu_mode = CpuMode::Custom { model: model.to_owned() };
            cpu.note(Weight::Approximated, format!("it names no model, and QEMU's default is {model}"));
        }
        None => {
            cpu.note(Weight::Approximated, "it names no model: the level has the CPU of the level around")
        }
    }
}

fn read_feature(feature: Element<'_, '_>, level: &mut LevelDraft) {
    let Some(name) = feature.attribute("name") else {
        feature.refuse("it has no name");
        return;
    };
    if NOT_PASSED.contains(&name) {
        return feature.report(Weight::LeftOut, "libvirt does not pass it to QEMU");
    }
    let name = RENAMED.iter().find(|(libvirt, _)| *libvirt == name).map_or(name, |(_, qemu)| *qemu);
    let set = |level: &mut LevelDraft, on| keep(feature, level.set_feature(name, on));
    match feature.attribute("policy") {
        None | Some("require") => set(level, true),
        Some("disable") => set(level, false),
        Some("force") => {
            set(level, true);
            feature.note(
                Weight::ChangesMeaning,
                "force: libvirt starts the domain without the feature too, but the level stops without it",
            );
        }
        Some("forbid") => {
            set(level, false);
            feature.note(
                Weight::ChangesMeaning,
                "forbid: libvirt refuses a host with the feature, but the level starts without it",
            );
        }
        Some("optional") if level.cpu_mode == CpuMode::HostPassthrough => feature.note(
            Weight::Approximated,
            "optional: the level has the feature if the level around has it and passes it on",
        ),
        Some("optional") => feature.note(
            Weight::ChangesMeaning,
            "optional: the level has it only if the model has it; add it to require if the reporter's host has it",
        ),
        Some(_) => feature.refuse("unknown policy"),
    }
    if let Some(removed) = feature.attribute("removed")
        && removed == "yes"
    {
        feature.note(Weight::Approximated, "removed: later versions of the model do not have it");
    }
}

/// The topology, as properties of the machine. It must agree with the number of CPUs, or QEMU refuses it.
fn read_topology(topology: Element<'_, '_>, level: &mut LevelDraft) {
    let parts = TOPOLOGY.map(|part| (part, topology.attribute(part)));
    let number = |text: Option<&str>| text.map_or(Some(1), |text| text.parse::<u32>().ok());
    let product = parts.iter().try_fold(1_u32, |product, (_, text)| product.checked_mul(number(*text)?));
    let cpus = level.max_cpus.or(level.cpus);
    match (product, cpus) {
        (Some(product), None) if (1..=255).contains(&product) => level.cpus = Some(product),
        (Some(product), Some(cpus)) if product == cpus => {}
        _ => return topology.refuse("not expressed: its product is not the number of CPUs"),
    }
    for (part, text) in parts {
        // Parts that are 1 are QEMU's defaults, and not every machine has each part.
        if let Some(text) =
            text.filter(|text| *text != "1" || matches!(part, "sockets" | "cores" | "threads"))
        {
            keep(topology, level.set_machine_property(&format!("smp.{part}"), text));
        }
    }
}

/// libvirt's words for the caches (libvirt, src/qemu/qemu_command.c).
fn read_cache(cache: Element<'_, '_>, level: &mut LevelDraft) {
    let properties: &[(&str, &str)] = match (cache.attribute("mode"), cache.attribute("level")) {
        (Some("passthrough"), None) => &[("host-cache-info", "on"), ("l3-cache", "off")],
        (Some("emulate"), Some("3")) => &[("l3-cache", "on")],
        (Some("disable"), None) => &[("host-cache-info", "off"), ("l3-cache", "off")],
        _ => return cache.refuse("not expressed: QEMU has no such mode"),
    };
    for (name, value) in properties {
        keep(cache, level.set_cpu_property(name, value));
    }
}

fn read_address_bits(address: Element<'_, '_>, level: &mut LevelDraft) {
    let (bits, limit) = (address.attribute("bits"), address.attribute("limit"));
    match address.attribute("mode") {
        Some("passthrough") => {
            keep(address, level.set_cpu_property("host-phys-bits", "on"));
            if let Some(limit) = limit {
                keep(address, level.set_cpu_property("host-phys-bits-limit", limit));
            }
        }
        Some("emulate") if bits.is_some() => {
            keep(address, level.set_cpu_property("phys-bits", bits.unwrap_or_default()));
        }
        _ => address.refuse("not expressed: unknown mode, or no number of bits"),
    }
}

/// Reports a part that the level could not take.
pub(super) fn keep(element: Element<'_, '_>, taken: Result<(), &'static str>) {
    if let Err(reason) = taken {
        element.refuse(reason);
    }
}
