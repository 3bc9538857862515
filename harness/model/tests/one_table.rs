//! Architectures and instruction sets are listed in one place: a new one must not need edits all over the sources. Test code may
//! list them, since it checks what the table says.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, Isa, Word as _};
use rstest::rstest;

/// The table itself.
const TABLE: [&str; 2] = ["harness/model/src/architecture/", "harness/model/src/isa.rs"];
/// Other files that name more than two architectures or more than one instruction set, each with the reason. Keep it short.
const EXCEPTIONS: &[(&str, &str)] = &[];

#[rstest]
#[case::amd("amd64", "AuthenticAMD", "svm", Some("amd"))]
#[case::virtualization_is_off_in_the_firmware("amd64", "GenuineIntel", "", Some("intel"))]
#[case::the_flag_counts_more_than_the_vendor("amd64", "AuthenticAMD", "vmx", Some("intel"))]
#[case::another_vendor("amd64", "Another", "", None)]
#[case::power9("ppc64el", "POWER9, altivec supported", "", Some("power9"))]
#[case::power8("ppc64el", "POWER8", "", None)]
#[case::ibm_z_without_a_flag("s390x", "IBM/S390", "", Some("ibm-z"))]
#[case::arm("arm64", "", "", Some("arm"))]
fn a_machine_is_recognized_by_its_processor(
    #[case] isa: &str,
    #[case] processor: &str,
    #[case] flag: &str,
    #[case] expected: Option<&str>,
) {
    let found = Architecture::of_machine(isa.parse().unwrap(), processor, |wanted| wanted == flag);
    assert_eq!(found.map(Architecture::word), expected);
}

#[test]
fn no_two_entries_of_a_table_share_what_tells_them_apart() {
    let infos = || Architecture::ALL.iter().map(|one| ArchInfo::of(*one));
    let isas = || Isa::ALL.iter().map(|one| one.info());
    let all_differ = |texts: Vec<&str>| texts.iter().collect::<BTreeSet<_>>().len() == texts.len();
    assert!(all_differ(infos().map(|info| info.word).collect()));
    assert!(all_differ(infos().map(|info| info.runner_label).collect()));
    assert!(all_differ(isas().map(|info| info.debian).collect()));
    assert!(all_differ(isas().map(|info| info.rust).collect()));
    assert!(all_differ(isas().flat_map(|info| info.machines.iter().copied()).collect()));
    for isa in Isa::ALL {
        assert_eq!(Isa::of_elf_machine(isa.info().elf_machine), Some(*isa));
        assert_eq!(Isa::of_machine(isa.info().machines[0]), Some(*isa));
    }
}

#[test]
fn an_unknown_word_is_refused_with_the_known_ones() {
    let refused = serde_json::from_str::<Isa>("\"z80\"").unwrap_err().to_string();
    assert!(
        refused.starts_with("unknown instruction set `z80`, expected one of `amd64`, `arm64`"),
        "{refused}"
    );
}

#[test]
fn no_other_source_lists_architectures_or_instruction_sets() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut sources = Vec::new();
    ["harness", "images", "xtask"].iter().for_each(|folder| collect(&root.join(folder), &mut sources));
    assert!(sources.len() > 150, "only {} sources were found in {}", sources.len(), root.display());
    let mut excepted = BTreeSet::new();
    for path in sources {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        if TABLE.iter().any(|table| name.starts_with(table)) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let (architectures, isas) = named_in(without_tests(&text));
        if architectures.len() <= 2 && isas.len() <= 1 {
            continue;
        }
        if EXCEPTIONS.iter().any(|(exception, _)| *exception == name) {
            excepted.insert(name);
        } else {
            panic!("{name} lists {architectures:?} {isas:?}: take them from the table (ArchInfo, IsaInfo)");
        }
    }
    for (name, reason) in EXCEPTIONS {
        assert!(
            excepted.contains(*name) && !reason.is_empty(),
            "{name} needs no exception, or a reason for it"
        );
    }
}

/// Every Rust source below a folder, without programs and folders that are tests.
fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        let is_test = ["tests", "fake-qemu", "target"].contains(&&*name) || name.ends_with("tests.rs");
        if is_test || name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
}

/// A source up to its module of tests, which is at its end.
fn without_tests(text: &str) -> &str {
    let starts = ["#[cfg(test)]\nmod ", "#[cfg(test)]\n#[path"];
    let end = starts.iter().filter_map(|start| text.find(start)).min();
    &text[..end.unwrap_or(text.len())]
}

/// The architectures and the instruction sets that a source names: as variants, or as words between quotes.
fn named_in(source: &str) -> (Vec<&'static str>, Vec<&'static str>) {
    let has = |text: String| source.contains(&text);
    let is_quoted = |word: &&str| has(format!("\"{word}\""));
    let architectures = Architecture::ALL.iter().filter(|architecture| {
        let info = ArchInfo::of(**architecture);
        has(format!("Architecture::{architecture:?}")) || [info.word, info.name].iter().any(is_quoted)
    });
    let isas = Isa::ALL.iter().filter(|isa| {
        let info = isa.info();
        let words = [info.debian, info.rust, info.multiarch];
        has(format!("Isa::{isa:?}")) || words.iter().chain(info.machines).any(is_quoted)
    });
    (architectures.map(|one| one.word()).collect(), isas.map(|one| one.word()).collect())
}
