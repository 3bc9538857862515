//! Chooses a level's machine and firmware among what the QEMU that runs it has: the innermost level's machine type, and the firmware of
//! every level from L2 on.
//!
//! The QEMU is asked in the level itself, since its image may be of any architecture. Its answer is remembered with that image.

use nestmatrix_images::{Image, QemuOffer};
use nestmatrix_model::LevelNumber;
use nestmatrix_model::architecture::{ArchInfo, InnermostMachine};
use nestmatrix_model::emulator_errata::Erratum;
use nestmatrix_vmm::guest::ExecOutput;
use nestmatrix_vmm::qemu::{Instance, Machine};

use super::boot::Stack;
use super::{Blame, StackPlan, Stop};
use crate::host::Host;

impl Stack<'_> {
    /// The machine of a level that is about to be launched on `host`: of a type and with firmware that the QEMU of that host has.
    pub(super) async fn machine_to_launch(&mut self, index: usize, host: &dyn Host) -> Result<Machine, Stop> {
        let level = self.plan.levels[index].level;
        let fitted = self.fitted_plan(index, host).await?;
        let machine = fitted.machine(index, Instance::First);
        self.note_given(&machine);
        let seen = self.saw(level);
        seen.firmware = firmware(&machine);
        if fitted.leaf.is_some() {
            seen.machine = Some(machine.machine.clone());
        }
        Ok(machine)
    }

    /// The plan with what the QEMU of `host` has for the level at `index`.
    pub(super) async fn fitted_plan(&mut self, index: usize, host: &dyn Host) -> Result<StackPlan, Stop> {
        let plan = &self.plan.levels[index];
        let (level, profile) = (plan.level, self.plan.profile);
        let is_leaf = self.plan.reports(level) && !self.plan.on_emulator(level);
        let has_choice = is_leaf && profile.innermost_machines.len() > 1;
        let mut fitted = self.plan.clone();
        if (has_choice || fitted.wanted_firmware(index).is_some())
            && let Some(offer) = self.offer_of(level, host).await?
        {
            if has_choice {
                let chosen = choose(profile, plan.machine_type.as_deref(), host.name(), &offer);
                let chosen = chosen.map_err(|why| Stop::harness(self.stage, why).about(level))?;
                fitted.leaf = Some(chosen);
            }
            let wanted = fitted.wanted_firmware(index);
            if let Some(wanted) = wanted.filter(|&wanted| !offer.firmware.iter().any(|file| file == wanted)) {
                fitted.default_firmware.insert(level);
                self.missing_firmware.insert(level, wanted);
            }
        }
        Ok(fitted)
    }

    /// What the QEMU that is to run `level` on `host` offers; none if it does not even list its machine types: it will not start
    /// either, and then says why.
    async fn offer_of(&mut self, level: LevelNumber, host: &dyn Host) -> Result<Option<QemuOffer>, Stop> {
        // One that a step or a person may have changed is not what the image has.
        let untouched = self.plan.around(level).filter(|around| self.is_untouched(*around));
        let image = untouched.and_then(|around| self.images.get(&around).copied());
        if let Some(offer) = image.and_then(Image::qemu_offer) {
            return Ok(Some(offer));
        }
        let printed = self.during(level, host.list_machine_types()).await?;
        let offer = read(&printed);
        if let (Some(offer), Some(image)) = (&offer, image)
            && let Err(e) = image.remember_qemu_offer(offer)
        {
            tracing::warn!("the machine types of {}'s QEMU can't be remembered: {e}", host.name());
        }
        Ok(offer)
    }

    /// The stop of a level that does not boot. It says nothing of the stack where the level has firmware that emulated metal does
    /// not run reliably (docs/architecture.md, Traps), and stopped before its kernel said anything.
    pub(super) fn unless_firmware_failed(&self, level: LevelNumber, stop: Stop) -> Stop {
        let is_about_it = stop.blame == Blame::Stack && stop.level() == Some(level);
        let is_silent = is_about_it && self.is_in_default_firmware(level);
        let concerns_firmware =
            |erratum: &&Erratum| erratum.shows.as_ref().is_some_and(|shows| shows.in_default_firmware);
        let erratum = self.errata().into_iter().find(concerns_firmware);
        match (self.missing_firmware.get(&level).filter(|_| is_silent), erratum) {
            (Some(wanted), Some(erratum)) => {
                let why = "emulated metal does not run the machine's default firmware reliably";
                let seen = format!("{}; {wanted} is missing in the level around, and {why}", stop.symptom);
                Stop::harness(stop.stage, seen).about(level).charged_to(&erratum.id)
            }
            _ => stop,
        }
    }

    /// Notes the firmware of a machine that is to run beside that of its level.
    pub(super) fn note_firmware_beside(&mut self, machine: &Machine) {
        self.firmware_beside.insert(machine.level, firmware(machine));
    }

    /// Whether the machine of `level` that is waited for has its default firmware, and its kernel has said nothing yet.
    pub(super) fn is_in_default_firmware(&self, level: LevelNumber) -> bool {
        let firmware = match self.firmware_beside.get(&level).filter(|_| self.on_second) {
            Some(beside) => Some(beside),
            None => self.levels.get(&level).map(|seen| &seen.firmware),
        };
        let says_nothing = self.attended_console(level).is_none_or(|console| console.last_line().is_none());
        firmware.is_some_and(Option::is_none) && says_nothing
    }

    /// Whether no command of a scenario or of a person was run in a level.
    fn is_untouched(&self, level: LevelNumber) -> bool {
        self.inspector.is_none() && !self.steps_seen.iter().any(|step| step.on == level && step.run.is_some())
    }
}

/// The firmware that a machine is asked for, if that is not its default.
fn firmware(machine: &Machine) -> Option<String> {
    machine.properties.get("firmware").cloned()
}

/// The first machine of the profile whose type the QEMU has, or the one that the scenario sets, which is for QEMU to judge.
fn choose(
    profile: &ArchInfo,
    set: Option<&str>,
    host: &str,
    offer: &QemuOffer,
) -> Result<&'static InnermostMachine, String> {
    match set {
        Some(machine_type) => Ok(profile.innermost_machine_like(machine_type)),
        None => profile.innermost_machine_of(&offer.machine_types).ok_or_else(|| {
            let wanted: Vec<&str> = profile.innermost_machines.iter().map(|leaf| leaf.machine.name).collect();
            format!(
                "the QEMU of {host} has none of the machine types {}; it has {}",
                wanted.join(", "),
                offer.machine_types.join(", ")
            )
        }),
    }
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
    use nestmatrix_model::Architecture;
    use rstest::rstest;

    use super::*;

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
            let chosen = choose(ArchInfo::of(architecture), None, "L1", &offer).unwrap();
            assert_eq!(
                (chosen.machine.name, offer.firmware.iter().any(|file| file == "qboot.rom")),
                (expected, has_firmware)
            );
        }
    }

    #[rstest]
    #[case("pc", "pc")]
    #[case("pc-q35-7.2", "q35")]
    #[case("microvm", "microvm")]
    #[case("isapc", "pc")]
    fn a_type_that_the_scenario_sets_is_not_chosen_among(#[case] set: &str, #[case] expected: &str) {
        let chosen = choose(ArchInfo::of(Architecture::Amd), Some(set), "L1", &offer("q35")).unwrap();
        assert_eq!(chosen.machine.name, expected);
    }

    #[test]
    fn a_qemu_that_has_none_of_them_is_described() {
        let why = choose(ArchInfo::of(Architecture::Amd), None, "L1", &offer("none x-remote")).unwrap_err();
        assert_eq!(
            why,
            "the QEMU of L1 has none of the machine types microvm, q35, pc; it has none, x-remote"
        );
    }

    #[test]
    fn a_type_whose_name_only_begins_alike_is_another() {
        let offer = offer("microvm-next pc-q35-9.2 pc");
        let chosen = choose(ArchInfo::of(Architecture::Amd), None, "L1", &offer).unwrap();
        assert_eq!(chosen.machine.name, "pc");
    }

    #[rstest]
    #[case::failed(DEBIAN, 1)]
    #[case::something_else("qemu-system-x86_64: unknown option\n", 0)]
    #[case::heading_alone("Supported machines are:\n", 0)]
    fn what_is_no_list_is_not_read_as_one(#[case] text: &str, #[case] status: i64) {
        assert_eq!(read(&printed(text, status)), None);
    }
}
