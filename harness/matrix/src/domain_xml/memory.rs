//! `<vcpu>`, `<memory>` and what backs the memory.

use std::ops::RangeInclusive;

use super::finding::Weight;
use super::level::LevelDraft;
use super::survey::Element;

/// The most CPUs and the least and most MiB that a scenario takes.
pub(super) const MOST_CPUS: u32 = 255;
const MEMORY_MIB: RangeInclusive<u64> = 16..=1 << 20;

/// The pages that a level's memory can be in.
const HUGE_PAGE_KIB: u64 = 2048;

pub(super) fn read_cpus(domain: Element<'_, '_>, level: &mut LevelDraft) {
    let Some(vcpu) = domain.child("vcpu") else { return };
    let number = |text: &str| text.parse::<u32>().ok().filter(|count| (1..=MOST_CPUS).contains(count));
    let most = number(&vcpu.text());
    let current = vcpu.attribute("current");
    match (most, current.map(number)) {
        (Some(most), None) => level.cpus = Some(most),
        (Some(most), Some(Some(current))) if current <= most => {
            level.cpus = Some(current);
            level.max_cpus = (current < most).then_some(most);
        }
        _ => vcpu.refuse(format!(
            "not expressed: a level has from 1 to {MOST_CPUS} CPUs, and starts with at most these"
        )),
    }
}

pub(super) fn read_memory(domain: Element<'_, '_>, level: &mut LevelDraft) {
    let memory = domain.child("memory");
    let current = domain.child("currentMemory");
    if let Some(memory) = memory {
        match size_in_mib(memory) {
            Some(mib) if MEMORY_MIB.contains(&mib) => level.memory_mib = u32::try_from(mib).ok(),
            _ => memory.refuse("not expressed: a level has from 16 MiB to 1 TiB"),
        }
    }
    let Some(current) = current else { return };
    match (size_in_mib(current), level.memory_mib) {
        (Some(mib), Some(memory)) if mib == u64::from(memory) => {}
        (Some(mib), None) if MEMORY_MIB.contains(&mib) => level.memory_mib = u32::try_from(mib).ok(),
        (Some(_), Some(_)) => current.report(
            Weight::Approximated,
            "the level has all of <memory>: the harness does not inflate its balloon",
        ),
        _ => current.refuse("not expressed: a level has from 16 MiB to 1 TiB"),
    }
}

pub(super) fn read_backing(domain: Element<'_, '_>, level: &mut LevelDraft) {
    let Some(backing) = domain.child("memoryBacking") else { return };
    let Some(pages) = backing.child("hugepages") else { return };
    level.has_huge_pages = true;
    for page in pages.children("page") {
        let size =
            page.attribute("size").and_then(|size| scaled(size, page.attribute("unit").unwrap_or("KiB")));
        if page.attribute("nodeset").is_some() {
            page.note(Weight::Approximated, "all memory of the level is in huge pages");
        }
        match size.map(|bytes| bytes >> 10) {
            Some(HUGE_PAGE_KIB) => {}
            _ => page.note(
                Weight::Approximated,
                "the level's memory is in the usual huge pages of the level around, of 2 MiB on x86",
            ),
        }
    }
}

/// A size in MiB, rounded up.
fn size_in_mib(element: Element<'_, '_>) -> Option<u64> {
    scaled(&element.text(), element.attribute("unit").unwrap_or("KiB")).map(|bytes| bytes.div_ceil(1 << 20))
}

/// A size in bytes, with libvirt's units (libvirt, docs/formatdomain: memory allocation).
pub(super) fn scaled(number: &str, unit: &str) -> Option<u64> {
    let unit: u64 = match unit {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("4194304", "KiB", Some(4 << 30))]
    #[case("4", "GiB", Some(4 << 30))]
    #[case("4", "G", Some(4 << 30))]
    #[case("4", "GB", Some(4_000_000_000))]
    #[case("1048576", "b", Some(1 << 20))]
    #[case("18446744073709551615", "TiB", None)]
    #[case("-1", "KiB", None)]
    #[case("4", "parsecs", None)]
    fn sizes_have_units(#[case] number: &str, #[case] unit: &str, #[case] bytes: Option<u64>) {
        assert_eq!(scaled(number, unit), bytes);
    }
}
