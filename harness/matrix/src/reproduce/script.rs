//! The script: a description of the cell, then the stack, then the shell functions that all scripts share.

use std::fmt::Write as _;

use nestmatrix_model::{Fault, Fidelity, LevelNumber, PROGRAM, Step};
use nestmatrix_stack::{BootFiles, Limits, Metal, StackPlan};
use nestmatrix_vmm::guest::fatal_messages;
use nestmatrix_vmm::qemu::Memory;
use nestmatrix_vmm::shell::quote;

use super::outcome::{self, Stopped};
use super::words::{NONCE, comment, word};
use super::{left_out, stages};

/// The functions that all scripts share.
const RUNTIME: &str = concat!(
    include_str!("runtime/main.sh"),
    include_str!("runtime/images.sh"),
    include_str!("runtime/outermost.sh"),
    include_str!("runtime/waiting.sh"),
    include_str!("runtime/speaking.sh"),
    include_str!("runtime/end.sh"),
);

/// What identifies an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// Recipe.
    pub recipe: String,
    /// Product.
    pub product: String,
    /// The SHA-256 that names it in a cache.
    pub digest: String,
}

impl ImageName {
    /// Its folder in a bundle.
    pub fn folder(&self) -> String {
        format!("{}-{}", self.recipe, self.product)
    }
}

/// What the top of the script says about a level.
#[derive(Debug, Clone)]
pub struct LevelSummary {
    /// Its number.
    pub level: LevelNumber,
    /// The system that its document asks for.
    pub required: String,
    /// The system that ran.
    pub os: String,
    /// How near that system is to the required one.
    pub fidelity: Fidelity,
    /// Kernel release and the version of its package.
    pub kernel: Option<String>,
    /// Version of the QEMU that runs it.
    pub qemu: Option<String>,
    /// Its image; none for an L0 that is this machine.
    pub image: Option<ImageName>,
    /// What it booted from, if that is a disk: `medium rhel-9.4, SHA-256 63fd..., prepared with 48 changes`.
    pub disk: Option<String>,
    /// Its UEFI firmware, if it had one.
    pub uefi: Option<FirmwareSummary>,
    /// The image of the swtpm that played its TPM, if it had one and that came from an image.
    pub swtpm: Option<ImageName>,
}

/// What a script needs to know about the UEFI firmware of a level.
#[derive(Debug, Clone)]
pub struct FirmwareSummary {
    /// Which it is, for people: `ovmf 2025.02-8, with secure boot`.
    pub about: String,
    /// Its image, if that is known.
    pub image: Option<ImageName>,
}

/// A cell, as far as a script needs to know it.
#[derive(Debug, Clone)]
pub struct Reproduction<'a> {
    /// The cell's name.
    pub cell: &'a str,
    /// Title of its scenario.
    pub title: &'a str,
    /// The document and the claims that it tests.
    pub document: String,
    /// The result that the document predicts.
    pub expected: String,
    /// The verdict's word.
    pub verdict: String,
    /// Where it stopped and the symptom, if it did.
    pub stopped: Option<Stopped<'a>>,
    /// The document's words in its symptom, if it stopped as documented.
    pub documented: Option<&'a str>,
    /// Whether the harness or its machine was at fault, so that there is nothing to compare with.
    pub harness_at_fault: bool,
    /// When it was recorded, and by which version.
    pub seen: String,
    /// The stack. Its nonce, its memory and the places of its images do not matter.
    pub plan: &'a StackPlan,
    /// The steps in it.
    pub steps: &'a [Step],
    /// The faults that are injected.
    pub faults: &'a [Fault],
    /// Whether the cell changes the machine that is its L0.
    pub changes_host: bool,
    /// How long a stage may take.
    pub limits: Limits,
    /// The program that runs the outermost level.
    pub program: &'a str,
    /// The program's image, if it comes from one.
    pub emulator: Option<ImageName>,
    /// Every level, L0 first.
    pub levels: Vec<LevelSummary>,
}

impl Reproduction<'_> {
    /// The script; nothing if part of the cell can't be written in one (a control character in a kernel parameter).
    pub fn script(&self) -> Option<String> {
        let plan = self.plan();
        let impossible = self.impossible(&plan);
        let mut text = "#!/bin/sh\n".to_owned();
        text.push_str(&self.told(&plan, impossible.as_deref()));
        text.push_str(&self.settings(&plan, impossible.as_deref()));
        match impossible {
            None => text.push_str(&stages::functions(self, &plan)?),
            Some(_) => {
                if plan.metal == Metal::Native || plan.runs_on_qemu() {
                    text.push_str(&stages::command_lines(&plan)?);
                }
                text.push_str("images() {\n    :\n}\n\nstack() {\n    :\n}\n\n");
            }
        }
        text.push_str(&fatal_functions());
        text.push_str(RUNTIME);
        Some(text)
    }

    /// The stack as a script boots it: cold, with each image as a disk of its own, and a shell on the consoles of hosts.
    fn plan(&self) -> StackPlan {
        let mut plan = StackPlan {
            nonce: NONCE.to_string(),
            memory: Memory::Private,
            restored_from: false,
            // A script starts each level in the level below it, and says so if the harness did not.
            innermost_on_l0: false,
            ..self.plan.clone()
        };
        for level in &mut plan.levels {
            if let BootFiles::Kernel { disk, .. } = &mut level.image.files {
                *disk = None;
            }
        }
        plan
    }

    /// Why a script can't boot it, if so. Bochs has no virtio and no FIFOs, so the harness reaches the levels inside over its
    /// network.
    fn impossible(&self, plan: &StackPlan) -> Option<String> {
        if self.changes_host {
            return Some(
                "the cell changes the machine on which it runs, and a script does not restore that"
                    .to_owned(),
            );
        }
        if let Some(level) = plan.levels.iter().find(|level| level.image.disk().is_some()) {
            let why = "a script can only type at the shell of nestmatrix' own images";
            return Some(format!("{} boots from a disk, and {why}", level.level));
        }
        if let Some(level) = plan.levels.iter().find(|level| level.unified_kernel.is_some()) {
            return Some(format!(
                "{} boots from a disk with a unified kernel, which a script can't make",
                level.level
            ));
        }
        if let Some(level) = plan.levels.iter().find(|level| level.settings.launch().is_by_windows()) {
            return Some(format!("{} is started by Windows, to which a script can't speak", level.level));
        }
        let drivable = plan.metal == Metal::Native || plan.runs_on_qemu() || self.has_only_a_console(plan);
        (!drivable)
            .then(|| format!("{} plays the bare machine, and this script can't speak to it", self.program))
    }

    /// Whether its only level runs on a bare machine with a console and nothing else.
    fn has_only_a_console(&self, plan: &StackPlan) -> bool {
        let on_metal = plan.metal == Metal::Emulated && !plan.emulator_is_l0();
        plan.levels.len() == 1 && on_metal && plan.profile.metal.has_only_a_console()
    }

    /// The comments at the top.
    fn told(&self, plan: &StackPlan, impossible: Option<&str>) -> String {
        let what = match impossible {
            None => "boots the same kernels inside each other by the QEMU command lines in stack() below.",
            Some(_) => "what was booted, with all command lines. It can't be run; the reason is below.",
        };
        let mut lines = vec![
            format!("The cell {} of a nested virtualization matrix, without nestmatrix:", self.cell),
            what.to_owned(),
            String::new(),
            format!("  scenario    {}", self.title),
            format!("  document    {}", self.document),
            format!("  metal       {}", metal(plan, self.program)),
        ];
        for level in &self.levels {
            let instead = match level.fidelity {
                Fidelity::Product => String::new(),
                Fidelity::Rebuild => format!(", a rebuild, instead of {}", level.required),
                Fidelity::StandIn => format!(", instead of {}", level.required),
            };
            let kernel = level.kernel.as_ref().map_or(String::new(), |kernel| format!(", kernel {kernel}"));
            lines.push(format!("  {:<12}{}{instead}{kernel}", level.level.to_string(), level.os));
            let disk = level.disk.as_ref().map(|disk| format!("from {disk}"));
            let uefi = level.uefi.as_ref().map(|uefi| format!("started by {}", uefi.about));
            let qemu = level.qemu.as_ref().map(|qemu| format!("run by QEMU {qemu}"));
            let more = [disk, uefi, qemu].into_iter().flatten();
            lines.extend(more.map(|line| format!("  {:<12}{line}", "")));
        }
        lines.extend([
            format!("  expected    {}", self.expected),
            format!("  recorded    {}", self.recorded_text()),
            format!("  seen        {}", self.seen),
        ]);
        let told = lines.len();
        if let Some(why) = impossible {
            lines.push(format!("IT CAN'T BE RUN: {why}. It says so and exits with 2."));
            lines.push(format!("nestmatrix boots the stack again, and pauses it: {PROGRAM} repro CELL"));
        } else if outcome::of(self.stopped).is_none() || self.harness_at_fault {
            lines.push("NOTHING TO COMPARE WITH: no script can see the recorded outcome.".into());
            lines.push("The script boots the stack, prints the outcome, and exits with 2.".into());
        }
        for why in left_out::left_out(self.steps, self.faults) {
            lines.push(format!("NOT DONE HERE: {why}. If the stack comes so far, the script exits with 2."));
        }
        if lines.len() > told {
            lines.insert(told, String::new());
        }
        let text: String = lines.iter().map(|line| format!("# {}\n", comment(line))).collect();
        text.replace("# \n", "#\n") + if impossible.is_some() { "\n" } else { ABOUT }
    }

    fn recorded_text(&self) -> String {
        match &self.stopped {
            None => format!("{}: it works", self.verdict),
            Some(Stopped { stage, symptom, .. }) => {
                format!("{}: stopped at {stage}: {symptom}", self.verdict)
            }
        }
    }

    /// The words of the document that the script also looks for.
    fn wanted(&self) -> Option<&str> {
        outcome::wanted(self.stopped?, self.documented?)
    }

    fn settings(&self, plan: &StackPlan, impossible: Option<&str>) -> String {
        let recorded = if self.harness_at_fault { None } else { outcome::of(self.stopped) };
        let innermost = plan.innermost();
        let waits = plan.levels.last().is_some_and(|level| level.settings.ready().is_some());
        let may_shut_down = plan.reports(innermost) && !plan.stays && !waits;
        let channels = plan.levels.iter().map(|level| outcome::word(level.level));
        let channels: Vec<String> =
            channels.flat_map(|level| [format!("{level}.qmp"), format!("{level}.console")]).collect();
        let console_alone = self.has_only_a_console(plan);
        let channels = if console_alone { vec!["l0.console".to_owned()] } else { channels };
        let (typed_behind, piece_length) = if console_alone { ("/", "100") } else { ("", "800") };
        let values: [(&str, String); 9] = [
            ("cell", self.cell.to_owned()),
            ("recorded", recorded.unwrap_or_default()),
            ("documented", self.wanted().unwrap_or_default().to_owned()),
            ("recorded_text", self.recorded_text()),
            ("impossible", impossible.unwrap_or_default().to_owned()),
            ("channels", channels.join(" ")),
            ("may_shut_down", if may_shut_down { outcome::word(innermost) } else { String::new() }),
            ("typed_behind", typed_behind.to_owned()),
            ("piece_length", piece_length.to_owned()),
        ];
        let mut text = "set -u\nLC_ALL=C\nexport LC_ALL\n\n".to_owned();
        for (name, value) in values {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{name}={}", word(&value));
        }
        text.push('\n');
        text
    }

    /// The image of the UEFI firmware of a level.
    pub(super) fn firmware(&self, level: LevelNumber) -> Option<&ImageName> {
        self.levels.iter().find(|told| told.level == level)?.uefi.as_ref()?.image.as_ref()
    }

    /// The image of the swtpm that plays the TPM of a level.
    pub(super) fn swtpm(&self, level: LevelNumber) -> Option<&ImageName> {
        self.levels.iter().find(|told| told.level == level)?.swtpm.as_ref()
    }

    /// The image of a level that is booted.
    pub(super) fn image(&self, level: LevelNumber) -> Option<&ImageName> {
        self.levels.iter().find(|told| told.level == level)?.image.as_ref()
    }
}

/// What every script says about itself.
const ABOUT: &str = "\
#
# Usage: sh reproduce.sh [-v]          -v shows the consoles as they speak
#
# Needs a Linux machine with a POSIX shell, and what every distribution has (coreutils, awk, sed, grep). Images are looked for
# in images/ beside this script, where a bundle has them, then in the cache of nestmatrix. These variables change what runs:
#   QEMU=PROGRAM               the QEMU that runs the outermost level, such as one that you have built
#   L0_KERNEL=, L1_KERNEL=...  the kernel of a level, and
#   L0_INITRAMFS=...           its initramfs, which has the modules of its own kernel alone: virtio and KVM must be in yours
#   NESTMATRIX_CACHE=FOLDER    the cache of nestmatrix
#   TIMEOUT_SCALE=N            all time limits times N, for a slow machine
#
# Exit code: 0 the outcome is of the same kind as the recorded one, 1 it is another one, 2 it can't be run or can't be compared.
# Compared is where the stack stopped, of what kind the symptom is and, where documented= below has words, whether they were said
# again. KVM's counters, which nestmatrix wants as evidence too, are not. Everything that was started ends with the script, also
# if that is killed (SIGKILL); only if the process that sees to this, another one of the same script, is killed in the same
# moment, QEMU is left.

";

fn metal(plan: &StackPlan, program: &str) -> String {
    match plan.metal {
        Metal::Native => {
            let level = plan.this_machine().unwrap_or(LevelNumber::ALL[0]);
            format!("native: {level} is the machine on which this script runs, with its KVM")
        }
        Metal::Emulated if plan.emulator_is_l0() => {
            format!("emulated: {program} without KVM is the hypervisor of L0")
        }
        Metal::Emulated => format!("emulated: {program} plays the bare machine, without KVM"),
    }
}

/// The functions that find and name what a console shows if a level does not continue. As in the harness, a message counts only
/// where a kernel prints it: at the start of a line, or after a kernel's time stamp.
fn fatal_functions() -> String {
    let mut patterns = String::new();
    let mut names = String::new();
    for (message, anywhere, name) in fatal_messages() {
        let start = if anywhere { "" } else { "^" };
        let pattern = message.replace('[', "\\[");
        let _ = write!(patterns, " \\\n        -e {}", quote(&format!("{start}{pattern}")));
        let _ = writeln!(names, "    *{}*) say {} ;;", quote(message), quote(name));
    }
    format!(
        "# What a console says of a level that does not continue. What the QEMUs in a level say is none of it.\n\
         fatal_line() {{\n    text \"$logs/$1.console.log\" | grep -v '^qemu-l[0-9]| ' |\n        \
         sed -e 's/^.*\\[ *[0-9][0-9]*\\.[0-9][0-9]*\\] *//' -e 's/^\\[ *[TC][0-9][0-9]*\\] *//' \\\n            \
         -e 's/^\\(\\[[<0-9a-f>]*\\] *\\)*panic+0x/panic+0x/' |\n        \
         grep{patterns} |\n        head -n 1 | plain\n}}\n\nfatal_name() {{\n    case $1 in\n{names}    esac\n}}\n\n"
    )
}
