//! An import as the TOML of a scenario and its document, for people to read and edit.

use std::fmt::Write as _;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Accelerator, CpuMode, LevelNumber, MemoryBacking, Word as _};
use toml::Value;

use super::finding::Weight;
use super::import::Import;
use crate::scenario::kebab_case;

/// The longest name of a scenario that is made of a domain's.
const LONGEST_NAME: usize = 40;

/// The longest name that a scenario can have, which the user may choose.
const MOST_OF_A_NAME: usize = 64;

/// The longest line of a list.
const LINE: usize = 110;

/// The size of a huge page, in MiB.
const HUGE_PAGE_MIB: u32 = 2;

/// The memory in MiB that a level needs for itself if the memory of the level inside is reserved as huge pages.
const BESIDE_HUGE_PAGES_MIB: u32 = 1536;

/// The files of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioText {
    /// The name of the scenario, which is also the id of its document.
    pub name: String,
    /// The scenario.
    pub scenario: String,
    /// The document.
    pub document: String,
}

impl ScenarioText {
    /// The texts of an import. The scenario gets this name, or one that is made of the domain's.
    pub fn new(import: &Import, name: Option<&str>) -> Self {
        let name = match name {
            Some(name) => name_of(name, MOST_OF_A_NAME),
            None => name_of(&import.name, LONGEST_NAME),
        };
        Self { scenario: scenario(import, &name), document: document(import, &name), name }
    }
}

/// A name for files and cells that is like `text`.
fn name_of(text: &str, longest: usize) -> String {
    let lower = text.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let joined = words.collect::<Vec<_>>().join("-");
    let short = joined.get(..longest).unwrap_or(&joined).trim_end_matches('-');
    match kebab_case("a name", short) {
        Ok(name) => name,
        Err(_) => "imported-domain".to_owned(),
    }
}

fn document(import: &Import, name: &str) -> String {
    let level = import.level;
    let domain = shown_name(import);
    let mut out = format!(
        "# The document of the scenario {name}: what the sender of {} says. Edit the text and the tier.\n",
        import.file
    );
    let title = format!("Domain {domain}");
    for (key, value) in [
        ("id", name),
        ("title", &title),
        ("product", "libvirt"),
        ("section", &import.file),
        ("language", "en"),
    ] {
        line(&mut out, key, &text(value));
    }
    out.push_str("\n[[claim]]\n");
    let said = format!("A stack works whose {level} is the domain {domain}.");
    for (key, value) in [("id", CLAIM), ("section", "domain XML"), ("tier", "untested"), ("text", &said)] {
        line(&mut out, key, &text(value));
    }
    out
}

/// The id of the only claim.
const CLAIM: &str = "works";

fn shown_name(import: &Import) -> String {
    if import.name.is_empty() { "without a name".to_owned() } else { import.name.clone() }
}

fn scenario(import: &Import, name: &str) -> String {
    let level = import.level;
    let mut out = String::new();
    comment(
        &mut out,
        &format!(
            "Made by `cargo xtask import-domain` of {}. docs/domain-xml.md describes it, docs/scenarios.md all keys.",
            import.file
        ),
    );
    let title = format!("{level} is the domain {}", shown_name(import));
    line(&mut out, "name", &text(name));
    line(&mut out, "title", &text(&title));
    line(&mut out, "document", &text(name));
    line(&mut out, "claims", &list([CLAIM]));
    line(&mut out, "tier", &text("untested"));

    out.push_str("\n[axes]\n");
    line(&mut out, "architecture", &list([import.architecture.word()]));
    let usual = ArchInfo::of(import.architecture).usual_system;
    comment(
        &mut out,
        match import.system {
            Some(_) => {
                "The XML names the system of this level. The others are nestmatrix's choice: edit them."
            }
            None => {
                "The systems are nestmatrix's choice: edit them. `and later` and other systems are in docs/scenarios.md."
            }
        },
    );
    for one in LevelNumber::up_to(import.innermost()) {
        let system = import.system.as_deref().filter(|_| one == level).unwrap_or(usual);
        line(&mut out, one.word(), &list([system]));
    }

    if let (Some(around), true) = (level.below(), has_huge_pages(import)) {
        let memory = import.settings.memory_mib.unwrap_or(default_memory(import));
        let _ = writeln!(out, "\n[levels.{}]", around.word());
        comment(&mut out, &format!("Room for the huge pages of {level}."));
        line(&mut out, "memory-mib", &(memory + BESIDE_HUGE_PAGES_MIB).to_string());
    }
    let _ = writeln!(out);
    findings(&mut out, import);
    level_tables(&mut out, import);
    if let (Some(around), true) = (level.below(), has_huge_pages(import)) {
        reserve_pages(&mut out, import, around);
    }
    out.push_str("\n# Expect what the report says, for example:\n# [expect]\n# outcome = \"stops\"\n# from = \"l2-boot\"\n# no-symptom = \"the report quotes no message\"\n");
    out
}

fn has_huge_pages(import: &Import) -> bool {
    import.settings.hardware.memory_backing == Some(MemoryBacking::HugePages)
}

/// The memory of the level if the XML does not say.
fn default_memory(import: &Import) -> u32 {
    let profile = ArchInfo::of(import.architecture);
    profile.innermost_memory_mib
        + if import.level == import.innermost() { 0 } else { profile.overhead_memory_mib }
}

fn reserve_pages(out: &mut String, import: &Import, around: LevelNumber) {
    let pages = import.settings.memory_mib.unwrap_or(default_memory(import)).div_ceil(HUGE_PAGE_MIB);
    out.push_str("\n[[step]]\n");
    line(out, "name", &text(&format!("reserve {pages} huge pages of {HUGE_PAGE_MIB} MiB")));
    line(out, "after", &text(&format!("{}-kvm", around.word())));
    line(out, "on", &text(around.word()));
    let command = format!(
        "echo {pages} > /proc/sys/vm/nr_hugepages && grep -q '^HugePages_Free: *{pages}$' /proc/meminfo"
    );
    line(out, "run", &text(&command));
}

/// What the level has only nearly, or not at all, if that matters.
fn findings(out: &mut String, import: &Import) {
    for weight in [Weight::ChangesMeaning, Weight::Approximated] {
        let mut found = import.findings_of(weight).peekable();
        if found.peek().is_some() {
            let heading = weight.heading();
            let mut initial = heading.chars();
            let first = initial.next().map(|c| c.to_ascii_uppercase());
            let heading: String = first.into_iter().chain(initial).collect();
            comment(out, &format!("{heading}:"));
        }
        for finding in found {
            comment(out, &format!("  {}:{finding}", import.file));
        }
    }
}

fn level_tables(out: &mut String, import: &Import) {
    let settings = &import.settings;
    let hardware = &settings.hardware;
    let table = format!("levels.{}", import.level.word());
    let _ = writeln!(out, "[{table}]");
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let numbers = [
        ("cpus", number(hardware.cpus)),
        ("max-cpus", number(hardware.max_cpus)),
        ("memory-mib", number(settings.memory_mib)),
        ("max-memory-mib", number(hardware.max_memory_mib)),
    ];
    for (key, value) in numbers {
        value.into_iter().for_each(|value| line(out, key, &value));
    }
    let words = [
        ("memory-backing", hardware.memory_backing.map(|backing| backing.to_string())),
        ("accelerator", (settings.accelerator != Accelerator::Kvm).then(|| settings.accelerator.to_string())),
        ("machine-type", settings.machine_type.clone()),
        ("firmware", import.firmware.map(|firmware| firmware.to_string())),
        ("network", hardware.network.map(|network| network.to_string())),
        ("tpm", hardware.tpm.map(|version| version.to_string())),
    ];
    for (key, value) in words {
        value.into_iter().for_each(|value| line(out, key, &text(&value)));
    }
    let machine: Vec<String> =
        settings.machine.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let devices: Vec<String> = hardware.devices.iter().map(ToString::to_string).collect();
    for (key, entries) in [("machine", machine), ("devices", devices)] {
        if !entries.is_empty() {
            line(out, key, &list(entries.iter().map(String::as_str)));
        }
    }
    let cpu = &settings.cpu;
    let _ = writeln!(out, "\n[{table}.cpu]");
    match &cpu.mode {
        CpuMode::HostPassthrough => line(out, "mode", &text("host-passthrough")),
        CpuMode::Custom { model } => {
            line(out, "mode", &text("custom"));
            line(out, "model", &text(model));
        }
    }
    for (key, features) in [("require", &cpu.require), ("disable", &cpu.disable)] {
        if !features.is_empty() {
            line(out, key, &list(features.iter().map(String::as_str)));
        }
    }
    if !cpu.set.is_empty() {
        let _ = writeln!(out, "\n[{table}.cpu.set]");
        for (name, value) in &cpu.set {
            // QEMU's names may have dots, and TOML's bare keys may not.
            let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
            let key = if is_bare { name.clone() } else { text(name) };
            line(out, &key, &text(value));
        }
    }
}

fn line(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key} = {value}");
}

/// A comment. Its text is on one line: what comes from the XML has no control characters.
fn comment(out: &mut String, text: &str) {
    let _ = writeln!(out, "# {text}");
}

fn text(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn list<'e>(entries: impl IntoIterator<Item = &'e str>) -> String {
    let entries: Vec<String> = entries.into_iter().map(text).collect();
    let on_one_line = format!("[{}]", entries.join(", "));
    if on_one_line.len() <= LINE { on_one_line } else { format!("[\n    {},\n]", entries.join(",\n    ")) }
}
