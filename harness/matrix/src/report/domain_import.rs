//! What became of a domain that was imported, and what its scenario does not express.

use nestmatrix_model::architecture::ArchInfo;

use super::style::{Role, Style};
use crate::domain_xml::{Finding, Import, Weight};

/// The imported level in a line, and all findings by their weight.
pub fn domain_import(import: &Import, style: &Style) -> String {
    let mut out = format!("{}: {} of {}", import.file, import.level, ArchInfo::of(import.architecture).name);
    let cpus =
        import.settings.hardware.cpus.map(|cpus| format!("{cpus} CPU{}", if cpus == 1 { "" } else { "s" }));
    let memory = import.settings.memory_mib.map(|mib| format!("{mib} MiB"));
    for part in import.settings.machine_type.clone().into_iter().chain(cpus).chain(memory) {
        out.push_str(&format!(", {part}"));
    }
    out.push('\n');
    for weight in Weight::ALL {
        let found: Vec<&Finding> = import.findings_of(weight).collect();
        if !found.is_empty() {
            let heading = format!("{} {}:", found.len(), weight.heading());
            out.push_str(&format!("\n{}\n", style.paint(Role::Heading, &heading)));
        }
        for finding in found {
            out.push_str(&format!("  {}:{finding}\n", import.file));
        }
    }
    out
}
