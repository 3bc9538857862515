//! Chooses the innermost level's machine: one that the QEMU has which runs it.
//!
//! The QEMU is asked in the level itself, since its image may be of any architecture. Its answer is remembered with that image.

use nestmatrix_images::QemuOffer;

use crate::architecture::Profile;
use crate::guest::ExecOutput;
use crate::host::Host;
use crate::qemu::{Instance, Machine};
use crate::scenario::LevelNumber;

use super::boot::Stack;
use super::{Blame, ChosenLeaf, Metal, StackPlan, Stop};

impl Stack<'_> {
    /// The machine of a level that is about to be launched on `host`.
    pub(super) async fn machine_to_launch(&mut self, index: usize, host: &dyn Host) -> Result<Machine, Stop> {
        let level = self.plan.levels[index].level;
        let leaf = self.choose_leaf(index, host).await?;
        let machine = StackPlan { leaf, ..self.plan.clone() }.machine(index, Instance::First);
        let seen = self.saw(level);
        seen.firmware = machine.properties.get("firmware").cloned();
        if leaf.is_some() {
            seen.machine = Some(machine.machine.clone());
        }
        Ok(machine)
    }

    /// Chooses among the machines that the level at `index` can be, where there is a choice.
    async fn choose_leaf(&mut self, index: usize, host: &dyn Host) -> Result<Option<ChosenLeaf>, Stop> {
        let plan = &self.plan.levels[index];
        let (level, profile) = (plan.level, self.plan.profile);
        if !self.plan.reports(level) || self.plan.on_emulator(level) || profile.leaves.len() < 2 {
            return Ok(None);
        }
        // One that a step or a person may have changed is not what the image has.
        let is_untouched = level.below().is_some_and(|below| self.is_untouched(below));
        let image = self.innermost_runs_in.filter(|_| is_untouched);
        let remembered = image.and_then(|image| image.qemu_offer());
        let offer = match remembered {
            Some(offer) => offer,
            None => {
                let printed = self.during(level, host.list_machine_types()).await?;
                // A QEMU that does not even list them will not start either, and then says why.
                let Some(offer) = read(&printed) else { return Ok(None) };
                if let Some(Err(e)) = image.map(|image| image.remember_qemu_offer(&offer)) {
                    tracing::warn!("the machine types of {}'s QEMU can't be remembered: {e}", host.name());
                }
                offer
            }
        };
        let chosen = choose(profile, plan.machine_type.as_deref(), host.name(), &offer);
        chosen.map(Some).map_err(|why| Stop::harness(self.stage, why).about(level))
    }

    /// The stop of an innermost level that does not boot. It says nothing of the stack where the level has firmware that emulated
    /// metal does not run reliably (docs/architecture.md, Traps), and stopped before its kernel said anything.
    pub(super) fn unless_firmware_failed(&self, level: LevelNumber, stop: Stop) -> Stop {
        let on_qemu_metal = self.plan.metal == Metal::Emulated && self.plan.runs_on_qemu();
        let says_nothing = self.watch.console(level).is_none_or(|console| console.last_line().is_none());
        let is_silent = stop.blame == Blame::Stack && stop.level() == Some(level) && says_nothing;
        let seen =
            self.levels.get(&level).filter(|seen| on_qemu_metal && is_silent && seen.firmware.is_none());
        let leaf = seen.and_then(|seen| self.plan.profile.leaf_of_type(seen.machine.as_deref()?));
        match leaf.filter(|_| !self.plan.on_emulator(level)).and_then(|leaf| leaf.firmware) {
            Some(wanted) => {
                let why = "emulated metal does not run the machine's default firmware reliably (emulator erratum tcg-no-nrips)";
                let seen = format!("{}; {wanted} is missing in the level around, and {why}", stop.symptom);
                Stop::harness(stop.stage, seen).about(level)
            }
            None => stop,
        }
    }

    /// Whether no command of a scenario or of a person was run in a level.
    fn is_untouched(&self, level: LevelNumber) -> bool {
        self.attendant.is_none() && !self.steps_seen.iter().any(|step| step.on == level && step.run.is_some())
    }
}

/// The first machine of the profile whose type the QEMU has, or the one that the scenario sets, which is for QEMU to judge.
fn choose(profile: &Profile, set: Option<&str>, host: &str, offer: &QemuOffer) -> Result<ChosenLeaf, String> {
    let leaf = match set {
        Some(machine_type) => profile.leaf_like(machine_type),
        None => profile.leaf_of(&offer.machine_types).ok_or_else(|| {
            let wanted: Vec<&str> = profile.leaves.iter().map(|leaf| leaf.machine.name).collect();
            format!(
                "the QEMU of {host} has none of the machine types {}; it has {}",
                wanted.join(", "),
                offer.machine_types.join(", ")
            )
        })?,
    };
    let has_firmware = leaf.firmware.is_some_and(|name| offer.firmware.iter().any(|file| file == name));
    Ok(ChosenLeaf { leaf, has_firmware })
}

/// The names in what `-machine help` prints: a heading, and then a line for each type, its name first. Lines on firmware follow.
/// None if it failed, or printed something else.
fn read(printed: &ExecOutput) -> Option<QemuOffer> {
    let text = String::from_utf8_lossy(&printed.stdout);
    let mut offer = QemuOffer::default();
    for line in text.lines().skip_while(|line| !line.starts_with("Supported machines")).skip(1) {
        match line.strip_prefix("firmware ") {
            Some(file) => offer.firmware.push(file.to_owned()),
            None => offer.machine_types.extend(line.split_whitespace().next().map(str::to_owned)),
        }
    }
    (printed.status == Some(0) && !offer.machine_types.is_empty()).then_some(offer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Architecture;
    use rstest::rstest;

    /// What Debian 12's QEMU prints, with fewer versions.
    const DEBIAN: &str = "\
Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)
pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)
isapc                ISA-only PC
none                 empty machine
x-remote             Experimental remote machine
firmware qboot.rom
firmware bios-256k.bin
";
    /// What RHEL's prints, which has neither.
    const RHEL: &str = "\
Supported machines are:
pc                   RHEL 7.6.0 PC (i440FX + PIIX, 1996) (alias of pc-i440fx-rhel7.6.0)
pc-i440fx-rhel7.6.0  RHEL 7.6.0 PC (i440FX + PIIX, 1996) (default) (deprecated)
q35                  RHEL-9.4.0 PC (Q35 + ICH9, 2009) (alias of pc-q35-rhel9.4.0)
pc-q35-rhel9.4.0     RHEL-9.4.0 PC (Q35 + ICH9, 2009)
none                 empty machine
firmware bios-256k.bin
";

    fn printed(text: &str, status: i64) -> ExecOutput {
        ExecOutput { status: Some(status), signal: None, stdout: text.into(), stderr: Vec::new() }
    }

    fn offer(names: &str) -> QemuOffer {
        let machine_types = names.split_whitespace().map(str::to_owned).collect();
        QemuOffer { machine_types, firmware: Vec::new() }
    }

    #[rstest]
    #[case::debian(DEBIAN, "microvm", true)]
    #[case::rhel(RHEL, "q35", false)]
    fn the_innermost_machine_is_the_first_that_the_qemu_has(
        #[case] text: &str,
        #[case] expected: &str,
        #[case] has_firmware: bool,
    ) {
        let offer = read(&printed(text, 0)).unwrap();
        for architecture in [Architecture::Amd, Architecture::Intel] {
            let chosen = choose(Profile::of(architecture), None, "L1", &offer).unwrap();
            assert_eq!((chosen.leaf.machine.name, chosen.has_firmware), (expected, has_firmware));
        }
    }

    #[rstest]
    #[case("pc", "pc")]
    #[case("pc-q35-7.2", "q35")]
    #[case("microvm", "microvm")]
    #[case("isapc", "pc")]
    fn a_type_that_the_scenario_sets_is_not_chosen_among(#[case] set: &str, #[case] expected: &str) {
        let chosen = choose(Profile::of(Architecture::Amd), Some(set), "L1", &offer("q35")).unwrap();
        assert_eq!(chosen.leaf.machine.name, expected);
    }

    #[test]
    fn a_qemu_that_has_none_of_them_is_described() {
        let why = choose(Profile::of(Architecture::Amd), None, "L1", &offer("none x-remote")).unwrap_err();
        assert_eq!(
            why,
            "the QEMU of L1 has none of the machine types microvm, q35, pc; it has none, x-remote"
        );
    }

    #[test]
    fn a_type_whose_name_only_begins_alike_is_another() {
        let offer = offer("microvm-next pc-q35-9.2 pc");
        let chosen = choose(Profile::of(Architecture::Amd), None, "L1", &offer).unwrap();
        assert_eq!(chosen.leaf.machine.name, "pc");
    }

    #[rstest]
    #[case::failed(DEBIAN, 1)]
    #[case::something_else("qemu-system-x86_64: unknown option\n", 0)]
    #[case::heading_alone("Supported machines are:\n", 0)]
    fn what_is_no_list_is_not_read_as_one(#[case] text: &str, #[case] status: i64) {
        assert_eq!(read(&printed(text, status)), None);
    }
}
