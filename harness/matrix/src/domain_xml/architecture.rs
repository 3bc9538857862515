//! Which architecture's cells have such a machine. libvirt names only the instruction set, and AMD and Intel share theirs.

use nestmatrix_model::architecture::{ArchInfo, Nesting};
use nestmatrix_model::{Architecture, Isa, Viommu, Word as _};

use super::arguments;
use super::file::DomainXml;
use super::finding::Weight;
use super::problem::{DomainError, DomainProblem};
use super::survey::{Element, shown};

/// The architecture of the domain. `chosen` is the user's word.
pub(super) fn of_domain(
    file: &DomainXml,
    domain: Element<'_, '_>,
    chosen: Option<Architecture>,
) -> Result<Architecture, DomainError> {
    let os_type = domain.child("os").and_then(|os| os.child("type"));
    let named = os_type.and_then(|os_type| Some((os_type, os_type.attribute("arch")?)));
    let isa = match named {
        // A 32-bit machine of the same processors. Only the kernel in it differs.
        Some((_, "i686")) => Some(Isa::Amd64),
        Some((os_type, name)) => Some(Isa::of_machine(name).ok_or_else(|| {
            let given = shown(name);
            file.error(os_type.start(), DomainProblem::NoArchitecture { given, known: known() })
        })?),
        None => None,
    };
    match (chosen, isa, named) {
        (Some(chosen), Some(isa), Some((os_type, name))) if chosen.isa() != isa => {
            let (given, chosen) = (name.to_owned(), ArchInfo::of(chosen).name.to_owned());
            Err(file.error(os_type.start(), DomainProblem::OtherArchitecture { given, chosen }))
        }
        (Some(chosen), ..) => Ok(chosen),
        (None, isa, _) => Ok(guessed(domain, isa.unwrap_or(Isa::Amd64), isa.is_none())),
    }
}

/// libvirt's names of the instruction sets that there are cells of. They are the kernel's.
fn known() -> Vec<String> {
    Isa::ALL.iter().flat_map(|isa| isa.info().machines).map(|&name| name.to_owned()).collect()
}

/// The architecture with this instruction set that the CPU and the devices of the domain point to.
fn guessed(domain: Element<'_, '_>, isa: Isa, is_unnamed: bool) -> Architecture {
    let all = || Architecture::ALL.iter().copied().filter(|one| one.isa() == isa);
    let by_cpu = all().find(|one| has_cpu_of(domain, ArchInfo::of(*one)));
    let first = all().next().unwrap_or(Architecture::ALL[0]);
    let found = by_cpu.unwrap_or(first);
    if is_unnamed || (by_cpu.is_none() && all().count() > 1) {
        let name = ArchInfo::of(found).name;
        let others: Vec<&str> = all().filter(|one| *one != found).map(|one| one.word()).collect();
        let others = if is_unnamed { "another one".to_owned() } else { others.join(" or ") };
        let reason = format!(
            "it does not say which processor it is for; {name} is assumed, --architecture chooses {others}"
        );
        domain.note(Weight::Approximated, reason);
    }
    found
}

fn has_cpu_of(domain: Element<'_, '_>, profile: &ArchInfo) -> bool {
    has_named_cpu_of(domain, profile) || has_argument_of(domain, profile) || has_iommu_of(domain, profile)
}

fn is_model_of(profile: &ArchInfo, name: &str) -> bool {
    profile.cpu_models.iter().any(|start| name.starts_with(start))
}

fn is_nesting_feature_of(profile: &ArchInfo, name: &str) -> bool {
    matches!(profile.nesting, Nesting::CpuFeature(nesting) if name == nesting)
}

fn has_named_cpu_of(domain: Element<'_, '_>, profile: &ArchInfo) -> bool {
    let Some(cpu) = domain.child("cpu") else { return false };
    let nests = |feature: Element<'_, '_>| {
        let is_on = !matches!(feature.attribute("policy"), Some("disable" | "forbid"));
        is_on && feature.attribute("name").is_some_and(|name| is_nesting_feature_of(profile, name))
    };
    let is_vendor =
        |vendor: &str| !vendor.is_empty() && profile.name.to_lowercase().starts_with(&vendor.to_lowercase());
    cpu.child("model").is_some_and(|model| is_model_of(profile, &model.text()))
        || cpu.child("vendor").is_some_and(|vendor| is_vendor(&vendor.text()))
        || cpu.children("feature").into_iter().any(nests)
}

/// Whether `-cpu` in the arguments for QEMU has such a model or feature.
fn has_argument_of(domain: Element<'_, '_>, profile: &ArchInfo) -> bool {
    let Some(argument) = arguments::cpu_of(domain) else { return false };
    let mut words = argument.split(',');
    words.next().is_some_and(|model| is_model_of(profile, model))
        || words
            .any(|word| is_nesting_feature_of(profile, word.trim_start_matches('+').trim_end_matches("=on")))
}

fn has_iommu_of(domain: Element<'_, '_>, profile: &ArchInfo) -> bool {
    let model = || domain.child("devices")?.child("iommu")?.attribute("model");
    match profile.viommu {
        Viommu::Device(device) => model().is_some_and(|model| device == format!("{model}-iommu")),
        Viommu::Property(_) | Viommu::Missing(_) => false,
    }
}
