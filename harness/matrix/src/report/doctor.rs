//! What a host can run and what is missing, for people.

use crate::doctor::{
    ArchitectureCheckup, Check, Checkup, DocumentCheckup, Finding, MetalCheckup, Status, size,
};
use crate::run::MetalChoice;
use nestmatrix_model::PROGRAM;

use super::style::{Role, Style};
use super::table::{Entry, Line, Table};
use super::text::{field, one_line, verbatim, wrapped};

/// The number of reasons that are shown for cells that run on neither metal; the rest is counted.
const REASONS: usize = 5;

/// The checkup of a host.
pub fn checkup(checkup: &Checkup, style: &Style) -> String {
    let mut out = style.paint(Role::Heading, &wrapped(&host(checkup), 0, 2, style.width));
    out.push('\n');
    if let Some(line) = disposable_host(checkup) {
        out.push_str(&format!("{}\n", wrapped(&line, 0, 2, style.width)));
    }
    if let Some(surroundings) = surroundings(checkup) {
        out.push_str(&wrapped(&surroundings, 0, 2, style.width));
        out.push('\n');
    }
    out.push('\n');
    for checked in checkup.architectures.iter().filter(|checked| checked.own) {
        out.push_str(&architecture(checked, style));
        out.push('\n');
    }
    let others: Vec<String> = checkup
        .architectures
        .iter()
        .filter(|checked| !checked.own)
        .map(|checked| other(checked, style))
        .collect();
    if !others.is_empty() {
        out.push_str(&style.paint(Role::Heading, "other architectures"));
        out.push('\n');
        out.push_str(&others.concat());
        out.push('\n');
    }
    if !checkup.media.is_empty() {
        out.push_str(&media(&checkup.media, style));
        out.push('\n');
    }
    if !checkup.documents.is_empty() {
        out.push_str(&documents(&checkup.documents, style));
        out.push('\n');
    }
    for line in summary(checkup) {
        out.push_str(&wrapped(&line, 0, 2, style.width));
        out.push('\n');
    }
    out
}

/// Whether cells may change this machine; nothing for a level.
fn disposable_host(checkup: &Checkup) -> Option<String> {
    let of_host = checkup.host.disposable_host.as_ref()?;
    let mut text = "disposable host: ".to_owned();
    match &of_host.why {
        None => text.push_str("yes, run-matrix --metal native --disposable-host runs cells that change L0"),
        Some(why) => text.push_str(&format!("no, {why}")),
    }
    if !of_host.restored {
        text.push_str(&format!("; a run changes it now or was killed (`sudo {PROGRAM} host restore`)"));
    }
    Some(one_line(&text))
}

/// `this machine: GenuineIntel, x86_64, 2 processors, 23.5 GiB of memory; debian 12, Linux 6.1.0`.
fn host(checkup: &Checkup) -> String {
    let host = &checkup.host;
    let whose = match (&host.level, &host.cell) {
        (Some(level), Some(cell)) => format!("{level} of {cell}"),
        _ => "this machine".to_owned(),
    };
    let processors = if host.processors == 1 { "processor" } else { "processors" };
    let made = [host.processor.as_str(), host.machine.as_str()];
    let made: Vec<&str> = made.into_iter().filter(|part| !part.is_empty()).collect();
    let system = [host.system.clone(), format!("Linux {}", host.kernel)];
    let system: Vec<String> = system.into_iter().filter(|part| !part.is_empty()).collect();
    one_line(&format!(
        "{whose}: {}, {} {processors}, {} of memory; {}",
        made.join(", "),
        host.processors,
        size(host.memory_mib),
        system.join(", ")
    ))
}

/// `hypervisor: KVM (/proc/cpuinfo: hypervisor); the L0 of no selected cell`. Nothing for a level, which the harness started itself.
fn surroundings(checkup: &Checkup) -> Option<String> {
    let host = &checkup.host;
    if host.level.is_some() {
        return None;
    }
    let Some(guest_of) = &host.guest_of else {
        return Some("hypervisor: none shows itself".to_owned());
    };
    let cells = match host.l0_of_cells {
        0 => "the L0 of no selected cell".to_owned(),
        1 => "the L0 of 1 selected cell, whose L1 is this machine".to_owned(),
        cells => format!("the L0 of {cells} selected cells, whose L1 is this machine"),
    };
    Some(one_line(&format!("hypervisor: {} ({}); {cells}", guest_of.name, guest_of.evidence())))
}

fn architecture(checked: &ArchitectureCheckup, style: &Style) -> String {
    let mut out = style.paint(Role::Heading, &checked.architecture.to_string());
    out.push('\n');
    let of = |status: Status| checked.findings.iter().filter(move |finding| finding.status == status);
    // If /dev/kvm opens, it also exists.
    let fine = of(Status::Ok).filter(|finding| finding.check != Check::KvmDevice);
    let fine: Vec<String> = fine.map(brief).collect();
    if !fine.is_empty() {
        out.push_str(&field("ok", &[fine.join("; ")], style));
    }
    for finding in of(Status::Warning) {
        out.push_str(&long("warning", finding, style));
    }
    for finding in of(Status::Missing) {
        out.push_str(&long("missing", finding, style));
    }
    let idle: Vec<String> = of(Status::NotApplicable).map(brief).collect();
    if !idle.is_empty() {
        out.push_str(&field("skipped", &[idle.join("; ")], style));
    }
    if checked.emulated.is_some() {
        out.push_str(&field("native", &[answer(&checked.native, checked.cells)], style));
        out.push_str(&emulated(checked, style));
    } else {
        out.push_str(&field("hypervisor", &[yes_or_why(&checked.native)], style));
    }
    out
}

/// An architecture that the machine does not have. Of native metal, only that difference is shown.
fn other(checked: &ArchitectureCheckup, style: &Style) -> String {
    let make = checked.findings.iter().find(|finding| is_about_make(finding));
    let why = make.map_or_else(|| checked.native.why.join(", "), |finding| finding.found.clone());
    let why = why.split(": ").next().unwrap_or_default();
    let emulated = checked.emulated.as_ref().map_or_else(String::new, |metal| answer(metal, checked.cells));
    let text = one_line(&format!("{why}; emulated metal: {emulated}"));
    let mut out = field(&checked.architecture.to_string(), &[text], style);
    let missing = checked.findings.iter().filter(|finding| finding.status == Status::Missing);
    for finding in missing.filter(|finding| !is_about_make(finding)) {
        out.push_str(&long("missing", finding, style));
    }
    out
}

/// Whether a finding says that the machine has another architecture.
fn is_about_make(finding: &Finding) -> bool {
    let make = matches!(finding.check, Check::InstructionSet | Check::Processor);
    make && finding.status == Status::Missing
}

fn brief(finding: &Finding) -> String {
    one_line(&finding.found)
}

/// A finding in full: what was found, what to do, and the commands, one a line for copying.
fn long(label: &str, finding: &Finding, style: &Style) -> String {
    let mut text = format!("{}: {}", finding.check.word(), finding.found);
    if let [first, ..] = &finding.claims[..] {
        text.push_str(&format!(" ({first})"));
    }
    if let Some(advice) = &finding.advice {
        text.push_str("; ");
        text.push_str(advice);
    }
    let mut out = field(label, &[one_line(&text)], style);
    let commands: Vec<String> =
        finding.fix.iter().map(|command| format!("$ {}", one_line(command))).collect();
    if !commands.is_empty() {
        out.push_str(&verbatim("", &commands, style));
    }
    out
}

fn emulated(checked: &ArchitectureCheckup, style: &Style) -> String {
    let Some(emulated) = &checked.emulated else { return String::new() };
    field("emulated", &[answer(emulated, checked.cells)], style)
}

/// `yes, 38 of 60 cells`, `no: kvm-proof, kvm-module`.
fn answer(metal: &MetalCheckup, cells: usize) -> String {
    if metal.usable { format!("yes, {} of {cells} cells", metal.cells) } else { yes_or_why(metal) }
}

fn yes_or_why(metal: &MetalCheckup) -> String {
    if metal.usable { "yes".to_owned() } else { one_line(&format!("no: {}", metal.why.join(", "))) }
}

fn documents(documents: &[DocumentCheckup], style: &Style) -> String {
    let quiet = |text: &str| Entry::right(text, Role::Quiet);
    let mut table = Table::default();
    let heads = ["cells", "native", "emulated", "neither"].map(quiet);
    table.push(Line::Entries(std::iter::once(Entry::new("document", Role::Quiet)).chain(heads).collect()));
    for document in documents {
        let numbers = [document.cells, document.native, document.emulated, document.neither];
        let numbers = numbers.map(|number| Entry::right(number.to_string(), Role::Plain));
        let name = Entry::new(one_line(&document.document), Role::Plain);
        table.push(Line::Entries(std::iter::once(name).chain(numbers).collect()));
    }
    let mut out = table.render(0, style);
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for reason in documents.iter().flat_map(|document| &document.reasons) {
        match reasons.iter_mut().find(|(known, _)| *known == reason.reason) {
            Some((_, cells)) => *cells += reason.cells,
            None => reasons.push((&reason.reason, reason.cells)),
        }
    }
    reasons.sort_by_key(|(_, cells)| std::cmp::Reverse(*cells));
    let more = reasons.len().saturating_sub(REASONS);
    let mut lines: Vec<String> = reasons
        .iter()
        .take(REASONS)
        .map(|(reason, cells)| {
            one_line(&format!("{cells} {}: {reason}", if *cells == 1 { "cell" } else { "cells" }))
        })
        .collect();
    if more > 0 {
        lines.push(format!("{more} more reasons; `{PROGRAM} list --skipped` shows all"));
    }
    if !lines.is_empty() {
        out.push('\n');
        out.push_str(&field("neither", &lines, style));
    }
    out
}

/// The media, whatever their architecture.
fn media(findings: &[Finding], style: &Style) -> String {
    let mut out = style.paint(Role::Heading, "media");
    out.push('\n');
    let fine: Vec<String> = findings.iter().filter(|one| one.status == Status::Ok).map(brief).collect();
    if !fine.is_empty() {
        out.push_str(&field("ok", &[fine.join("; ")], style));
    }
    for finding in findings.iter().filter(|one| one.status != Status::Ok) {
        out.push_str(&long("warning", finding, style));
    }
    out
}

/// The conclusion.
fn summary(checkup: &Checkup) -> Vec<String> {
    let usable =
        if checkup.usable { "usable".to_owned() } else { format!("not usable: {}", checkup.why.join("; ")) };
    let Some(selected) = &checkup.selected else { return vec![one_line(&usable)] };
    let word = |usable: bool| if usable { "yes" } else { "no" };
    let all = |of: &dyn Fn(&ArchitectureCheckup) -> bool| {
        let each = checkup.architectures.iter();
        let each: Vec<String> =
            each.map(|checked| format!("{} {}", checked.architecture, word(of(checked)))).collect();
        each.join(", ")
    };
    let native = all(&|checked| checked.native.usable);
    let emulated = all(&|checked| checked.emulated.as_ref().is_some_and(|emulated| emulated.usable));
    let metal = match checkup.metal {
        MetalChoice::Auto => "either metal",
        MetalChoice::Native => "native metal",
        MetalChoice::Emulated => "emulated metal",
    };
    let cells = match &selected.profile {
        Some(profile) => format!("{} cells of the profile `{profile}`", selected.cells),
        None => format!("{} selected cells", selected.cells),
    };
    let documented = checkup.documented.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut lines: Vec<String> = documented.lines().map(one_line).collect();
    lines.extend(checkup.not_yet_run.as_deref().map(one_line));
    lines.extend([
        format!("native metal: {native}"),
        format!("emulated metal: {emulated}"),
        one_line(&format!("{} of the {cells} can run on {metal}; {usable}", selected.boot)),
    ]);
    lines
}
