//! What a cell's verdict says about another kernel or QEMU in its stack. If that did not even start, the verdict says nothing,
//! and the exit code is 125: `git bisect` then skips the version.

use std::path::PathBuf;

use nestmatrix_images::Part;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{LevelNumber, Stage, StageKind, SymptomKind};
use nestmatrix_stack::Symptom;
use nestmatrix_vmm::qemu::rejects_kernel;
use serde::Serialize;

use super::TriedCase;
use crate::records::{CellRecord, VerdictWord};

/// The exit code that makes `git bisect run` skip a version.
pub const NOT_TRIED: u8 = 125;

/// What a trial tests with a cell: one part of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionTrial<'a> {
    /// The level whose image has another version of something.
    pub level: LevelNumber,
    /// The part.
    pub part: Part,
    /// Kernel modules that the image's recipe wants and that did not come with the kernel.
    pub left_out: &'a [String],
    /// A level that does not boot counts as a verdict of its own. For L0 that verdict is an `error`, since nothing was tested.
    pub boot_counts: bool,
}

impl VersionTrial<'_> {
    /// Why `record` says nothing about the tested version, if so.
    ///
    /// - An `error` or a `skip` says nothing. An L0 that does not boot is an `error`, which counts if `boot_counts` is set.
    /// - A flaky cell says nothing: another boot could have given another verdict.
    /// - A kernel with which its own level does not boot may be broken in many ways that the cell is not about. It counts only
    ///   if the document says that exactly this level stops there, with the observed symptom.
    /// - A kernel without KVM, neither as a module nor built in, in a level without KVM only shows how it was configured. A
    ///   kernel whose KVM is there and refuses counts.
    /// - A QEMU that does not understand its command line, or a kernel that QEMU can't load.
    ///
    /// Whatever happens further in is the work of nesting, and counts.
    pub fn says_nothing(&self, record: &CellRecord) -> Option<String> {
        let symptom = || record.symptom.clone().unwrap_or_else(|| "nothing is known of it".to_owned());
        if matches!(record.verdict, VerdictWord::Error | VerdictWord::Skip) {
            let counts = self.boot_counts && (self.is_boot_of_l0(record) || self.is_refused(record));
            return (!counts).then(symptom);
        }
        if record.verdict == VerdictWord::Flaky {
            return Some(format!(
                "the cell is flaky: {}",
                record.symptom.as_deref().unwrap_or("it worked this time")
            ));
        }
        if self.boot_counts || is_documented(record) {
            return None;
        }
        let Some(Stage::Level(level, kind)) = record.stage else { return None };
        let seen = symptom();
        let inside = LevelNumber::ALL.into_iter().find(|level| *level > self.level);
        match (self.part, kind) {
            (Part::Kernel, StageKind::Boot) if level == self.level => {
                Some(format!("{level} does not boot with it: {seen}"))
            }
            (Part::Kernel, StageKind::Launch) if level == self.level && kernel_is_refused(record) => {
                Some(format!("it can't be loaded: {seen}"))
            }
            (Part::Kernel, StageKind::Kvm) if level == self.level => {
                let module = ArchInfo::of(record.architecture).kvm_module;
                let came_without = self.left_out.iter().any(|left_out| left_out == module);
                (came_without && has_no_kvm(record, level))
                    .then(|| format!("{module} did not come with it and is not built in: {seen}"))
            }
            (Part::Qemu, StageKind::Launch) if Some(level) == inside && command_line_is_rejected(record) => {
                Some(format!("it does not know what its command line asks for: {seen}"))
            }
            _ => None,
        }
    }

    /// Whether it is an error that QEMU refuses the tested kernel, or that the tested QEMU refuses its command line.
    fn is_refused(&self, record: &CellRecord) -> bool {
        let Some(Stage::Level(level, StageKind::Launch)) = record.stage else { return false };
        match self.part {
            Part::Kernel => level == self.level && kernel_is_refused(record),
            Part::Qemu => level.below() == Some(self.level) && command_line_is_rejected(record),
        }
    }

    /// Whether it is an error that L0 does not boot with the tested kernel.
    fn is_boot_of_l0(&self, record: &CellRecord) -> bool {
        let Some(Stage::Level(level, kind)) = record.stage else { return false };
        let boots = kind == StageKind::Boot || kind == StageKind::Launch && kernel_is_refused(record);
        let of_l0 = level == self.level && level.below().is_none();
        record.verdict == VerdictWord::Error && self.part == Part::Kernel && of_l0 && boots
    }
}

/// Whether the QEMU that ended refused to load its kernel.
fn kernel_is_refused(record: &CellRecord) -> bool {
    let said = record.symptom_data.as_ref().and_then(Symptom::said);
    said.as_deref().is_some_and(rejects_kernel)
}

/// Whether a QEMU refused its command line.
fn command_line_is_rejected(record: &CellRecord) -> bool {
    record.symptom_data.as_ref().is_some_and(|symptom| symptom.kind() == SymptomKind::CommandLineRejected)
}

/// Whether a level reported and has no KVM of its architecture. A kernel without any modules may have it built in: then it
/// shows the `nested` parameter, even if it found no usable hardware.
fn has_no_kvm(record: &CellRecord, level: LevelNumber) -> bool {
    let seen = record.levels.iter().find(|seen| seen.level == level).map(|level| &level.seen);
    seen.is_some_and(|seen| seen.kernel.is_some() && seen.nested.is_none())
}

/// Whether what was seen is what the document describes with a symptom.
fn is_documented(record: &CellRecord) -> bool {
    record.described().is_some_and(|limitation| limitation.symptom.is_some() || limitation.kind.is_some())
}

/// The exit code of a trial run: 0 if every cell came out as expected or known, 1 if one did not, and [`NOT_TRIED`] if one says
/// nothing or none ran. `says_nothing` has the reasons, cell by cell.
pub fn exit_code_of_trial(says_nothing: &[Option<String>], records: &[CellRecord]) -> u8 {
    if records.is_empty() || says_nothing.iter().any(Option::is_some) {
        return NOT_TRIED;
    }
    let bad = |record: &CellRecord| record.verdict != VerdictWord::Error && record.is_trouble();
    u8::from(records.iter().any(bad))
}

/// A tested version and its result.
#[derive(Debug, Clone, Serialize)]
pub struct TriedVersion {
    /// The version, or the release of a local kernel.
    pub version: String,
    /// Where it comes from: a suite, an image in the cache, or a file.
    pub from: String,
    /// The cell's verdict, even if it says nothing about the version.
    pub verdict: Option<VerdictWord>,
    /// The case that the search is about, if it is about one and the record has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<TriedCase>,
    /// Why it says nothing about the version, if so.
    pub not_tried: Option<String>,
    /// Where the stack stopped, if it did.
    pub stage: Option<Stage>,
    /// What was seen there.
    pub symptom: Option<String>,
    /// How long it took, without making the image.
    pub seconds: f64,
    /// The folder of its run.
    pub records: PathBuf,
}

/// Each change of what is compared between neighbouring versions, without those that could not be tested: the last version before
/// the change, and the first one with it.
pub fn changes<'a>(
    versions: impl IntoIterator<Item = &'a TriedVersion>,
) -> Vec<(&'a TriedVersion, &'a TriedVersion)> {
    let known: Vec<&TriedVersion> = versions.into_iter().filter(|tried| tried.not_tried.is_none()).collect();
    let pairs = known.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(|(before, first)| before.behaviour() != first.behaviour()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nestmatrix_vmm::qemu::{Ended, rejects_command_line};
    use rstest::rstest;

    use super::*;
    use crate::scenario::{Filter, Matrix};

    /// A record of a cell of the project's own scenarios.
    fn record(cell: &str, verdict: VerdictWord, stage: Option<&str>, symptom: &str) -> CellRecord {
        let matrix = Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap();
        let filter = Filter::parse(&[cell.to_owned()]).unwrap();
        let cell = matrix.cells().iter().find(|cell| filter.matches(&cell.name)).unwrap();
        let stage = stage.map(|stage| stage.parse().unwrap());
        let level = stage.and_then(Stage::level).unwrap_or(LevelNumber::ALL[1]);
        let said = symptom.to_owned();
        let data = if rejects_command_line(symptom) {
            Symptom::CommandLineRejected { level, said, asked_for: false, by_libvirt: false }
        } else {
            Symptom::QemuEnded { level, ended: Ended::Exited(1), said }
        };
        CellRecord {
            verdict,
            stage,
            symptom: Some(symptom.into()),
            symptom_data: Some(data),
            ..CellRecord::skipped(cell, &[], false)
        }
    }

    const WORKS: &str = "rhel-10-preview/amd/*";
    const STOPS: &str = "rhel-10-arm/*";

    #[rstest]
    // Whatever nesting does with the level inside counts.
    #[case::inside(WORKS, VerdictWord::Fail, "l1-boot", "kernel panic", 0, Part::Kernel, false)]
    #[case::inside_kvm(WORKS, VerdictWord::Fail, "l1-kvm", "no usable /dev/kvm", 0, Part::Kernel, false)]
    #[case::innermost(WORKS, VerdictWord::Fail, "l2-check", "hypervisor is none", 2, Part::Kernel, false)]
    // A level that does not boot at all says nothing.
    #[case::own_boot(WORKS, VerdictWord::Fail, "l1-boot", "kernel panic", 1, Part::Kernel, true)]
    #[case::error(WORKS, VerdictWord::Error, "l0-boot", "kernel panic", 0, Part::Kernel, true)]
    #[case::other_error(
        WORKS,
        VerdictWord::Error,
        "l0-kvm",
        "records can't be written",
        0,
        Part::Kernel,
        true
    )]
    #[case::error_of_other(WORKS, VerdictWord::Error, "l0-boot", "kernel panic", 1, Part::Kernel, true)]
    #[case::skip(WORKS, VerdictWord::Skip, "l0-boot", "no image", 0, Part::Kernel, true)]
    #[case::no_kernel(
        WORKS,
        VerdictWord::Error,
        "l1-launch",
        "could not load kernel 'x'",
        1,
        Part::Kernel,
        true
    )]
    #[case::refused(
        WORKS,
        VerdictWord::Fail,
        "l1-launch",
        "missing CPU feature: svm",
        1,
        Part::Kernel,
        false
    )]
    #[case::old_qemu(WORKS, VerdictWord::Error, "l1-launch", "Property 'x' not found", 0, Part::Qemu, true)]
    #[case::old_machine(
        WORKS,
        VerdictWord::Error,
        "l1-launch",
        "unsupported machine type",
        0,
        Part::Qemu,
        true
    )]
    #[case::qemu_refuses(
        WORKS,
        VerdictWord::Fail,
        "l1-launch",
        "KVM does not support it",
        0,
        Part::Qemu,
        false
    )]
    #[case::other_qemu(WORKS, VerdictWord::Error, "l2-launch", "Property 'x' not found", 0, Part::Qemu, true)]
    // If the document says so explicitly, the cell is about exactly that.
    #[case::documented(
        STOPS,
        VerdictWord::Xfail,
        "l1-launch",
        "Property 'x' not found",
        0,
        Part::Qemu,
        false
    )]
    fn what_does_not_come_up_is_told_from_what_is_tried(
        #[case] cell: &str,
        #[case] verdict: VerdictWord,
        #[case] stage: &str,
        #[case] symptom: &str,
        #[case] level: usize,
        #[case] part: Part,
        #[case] nothing: bool,
    ) {
        let record = record(cell, verdict, Some(stage), symptom);
        let trial = VersionTrial { level: LevelNumber::ALL[level], part, left_out: &[], boot_counts: false };
        assert_eq!(trial.says_nothing(&record).is_some(), nothing, "{:?}", trial.says_nothing(&record));
        let insisting = VersionTrial { boot_counts: true, ..trial };
        let of_l0 = verdict == VerdictWord::Error && stage == "l0-boot" && level == 0;
        // The tested kernel is that of L1, and the tested QEMU runs L1.
        let refused = verdict == VerdictWord::Error && stage == "l1-launch";
        let machine_at_fault =
            matches!(verdict, VerdictWord::Error | VerdictWord::Skip) && !of_l0 && !refused;
        assert_eq!(
            insisting.says_nothing(&record).is_some(),
            machine_at_fault,
            "where booting is what counts"
        );
    }

    #[test]
    fn a_kernel_that_came_without_kvm_says_nothing_and_one_whose_kvm_refuses_does() {
        let level = LevelNumber::ALL[0];
        let record = |symptom: &str, kernel: Option<&str>, nested: Option<&str>| {
            let levels = serde_json::json!([{
                "level": "l0", "required": "", "os": "", "image": null, "fidelity": "stand-in", "fidelity_reason": null,
                "kernel": kernel, "qemu": null, "machine": null, "cpu": null, "nested": nested, "missing_features": [], "loops": null,
                "last_lines": [],
            }]);
            let levels = serde_json::from_value(levels).unwrap();
            CellRecord { levels, ..record(WORKS, VerdictWord::Fail, Some("l0-kvm"), symptom) }
        };
        let trial = |left_out| VersionTrial { level, part: Part::Kernel, left_out, boot_counts: false };
        let all = ["kvm_amd".to_owned(), "virtio_pci".to_owned()];
        let others = ["kvm_intel".to_owned()];
        let kernel = Some("6.18.0-rc1");

        let not_there = "L0 has no usable /dev/kvm (kvm_amd is not loaded)";
        let not_there = record(not_there, kernel, None);
        assert!(trial(&all).says_nothing(&not_there).unwrap().starts_with("kvm_amd did not come with it"));
        assert_eq!(trial(&others).says_nothing(&not_there), None, "it came, and was not loaded");

        // It is built in, so no module is missing.
        let refuses = "L0 has no usable /dev/kvm (kvm_amd is loaded; its kernel says \"kvm_amd: SVM not supported by CPU 0\")";
        assert_eq!(trial(&all).says_nothing(&record(refuses, kernel, Some("1"))), None);
        let silent = record("L0 said nothing for 60 s", None, None);
        assert_eq!(trial(&all).says_nothing(&silent), None, "what it has is not known");
    }

    #[test]
    fn exit_codes_are_those_that_git_bisect_understands() {
        let code = |cell, verdict, nothing: Option<&str>| {
            exit_code_of_trial(&[nothing.map(str::to_owned)], &[record(cell, verdict, None, "")])
        };
        assert_eq!(code(WORKS, VerdictWord::Pass, None), 0);
        assert_eq!(code(STOPS, VerdictWord::Xfail, None), 0);
        assert_eq!(code(WORKS, VerdictWord::Fail, None), 1);
        assert_eq!(code(STOPS, VerdictWord::Xpass, None), 1);
        assert_eq!(code("rhel-10-arm-current/*", VerdictWord::Xpass, None), 0, "known to be gone");
        assert_eq!(code(WORKS, VerdictWord::Error, Some("it does not boot")), 125);
        assert_eq!(exit_code_of_trial(&[], &[]), 125, "nothing ran");
        let both = [record(WORKS, VerdictWord::Fail, None, ""), record(WORKS, VerdictWord::Error, None, "")];
        assert_eq!(exit_code_of_trial(&[None, Some("why".into())], &both), 125, "the result is not complete");
    }
}
