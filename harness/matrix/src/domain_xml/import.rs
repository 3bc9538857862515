//! The import: a domain becomes the settings of a level, and a list of what they do not express.

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, CpuMode, Firmware, LevelNumber};
use nestmatrix_stack::MachineSettings;
use nestmatrix_vmm::guest::excerpt;

use super::file::DomainXml;
use super::finding::{Finding, Weight};
use super::level::LevelDraft;
use super::problem::DomainError;
use super::survey::{Element, Survey};
use super::{
    architecture, arguments, cpu, devices, guest_system, left_out, machine, memory, virtual_features,
};

/// What the user chooses.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImportOptions {
    /// The architecture, if the XML does not say which one it is.
    pub architecture: Option<Architecture>,
    /// Whether the level gets a network if the domain has one.
    pub network: bool,
}

/// A domain as a level of a stack.
#[derive(Debug, Clone)]
pub struct Import {
    /// The domain's name, without control characters; empty if it has none.
    pub name: String,
    /// The name of the file.
    pub file: String,
    /// The level.
    pub level: LevelNumber,
    /// The architecture of its cells.
    pub architecture: Architecture,
    /// The system in it, as on an axis of a scenario, if the domain names one.
    pub system: Option<String>,
    /// Its machine.
    pub settings: MachineSettings,
    /// Its firmware, if the domain chooses one.
    pub firmware: Option<Firmware>,
    /// What the level does not have, or not exactly, in the order of the file.
    pub findings: Vec<Finding>,
}

impl Import {
    /// Reads a domain as this level.
    ///
    /// # Errors
    /// The file is not a domain in XML, or there are no cells of its architecture.
    pub fn new(file: &DomainXml, level: LevelNumber, options: &ImportOptions) -> Result<Self, DomainError> {
        let document = file.parse()?;
        let survey = Survey::new(&document);
        let domain = survey.root();
        let architecture = architecture::of_domain(file, domain, options.architecture)?;
        let mut draft = LevelDraft::new(ArchInfo::of(architecture));
        let system = guest_system::of_domain(domain, draft.profile.usual_system);
        let name = domain.child("name").map(Element::text).unwrap_or_default();
        read(domain, &mut draft, options.network);
        if level < innermost(level) && draft.cannot_host() {
            // Found at the domain, since the feature may be missing without an element.
            let nesting = draft.nesting_feature().unwrap_or_default();
            let (weight, outcome) = match draft.cpu_mode {
                // The harness requires the feature of each level that hosts with a CPU that is passed through.
                CpuMode::HostPassthrough => {
                    (Weight::ChangesMeaning, "the stack stops at its launch with missing-cpu-feature")
                }
                _ => (Weight::Approximated, "the level starts, and can't run guests with KVM"),
            };
            domain.note(weight, format!("its CPU has no {nesting}: {outcome}"));
        }
        // It proves that it is a guest by the hypervisor that its kernel reports (docs/evidence.md).
        if level == innermost(level) && draft.show_kvm() {
            let reason =
                "KVM is hidden in it, but a level without guests must see KVM, or it has no evidence";
            domain.note(Weight::ChangesMeaning, reason);
        }
        let (settings, firmware) = (draft.settings(), draft.firmware);
        Ok(Self {
            name: excerpt(&name),
            file: excerpt(file.name()),
            level,
            architecture,
            system,
            settings,
            firmware,
            findings: survey.finish(),
        })
    }

    /// The innermost level of its stack.
    pub fn innermost(&self) -> LevelNumber {
        innermost(self.level)
    }

    /// The findings of one weight.
    pub fn findings_of(&self, weight: Weight) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.weight == weight)
    }
}

/// A stack has at least one nested guest.
fn innermost(level: LevelNumber) -> LevelNumber {
    level.max(LevelNumber::ALL[2])
}

fn read(domain: Element<'_, '_>, level: &mut LevelDraft, has_network: bool) {
    machine::read_kind(domain, level);
    machine::read_os(domain, level);
    memory::read_cpus(domain, level);
    memory::read_memory(domain, level);
    memory::read_backing(domain, level);
    cpu::read(domain, level);
    virtual_features::read(domain, level);
    machine::read_clock(domain, level);
    devices::read(domain, level, has_network);
    arguments::read(domain, level);
    report_metadata(domain);
}

/// Each kind of metadata is one finding.
fn report_metadata(domain: Element<'_, '_>) {
    let Some(metadata) = domain.child("metadata") else { return };
    for (name, data) in metadata.all_children() {
        if !name.ends_with("}libosinfo") {
            let (weight, reason) = left_out::reason("metadata");
            data.report(weight, reason);
        }
    }
}
