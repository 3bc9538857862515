//! Chooses the innermost level's machine type, and the firmware of every level from L2 on, among those that the QEMU of their
//! host offers. A level that can be migrated to another version of QEMU gets a type of machine that both have.
//!
//! The QEMU is asked in the level itself, since its image may be of any architecture. Its answer is remembered with that image.

use std::io::ErrorKind;
use std::rc::Rc;

use nestmatrix_images::{Image, QemuOffer};
use nestmatrix_model::LevelNumber;
use nestmatrix_model::architecture::{ArchInfo, InnermostMachine};
use nestmatrix_vmm::guest::ExecOutput;
use nestmatrix_vmm::qemu::{Instance, Machine};

use super::machines::{FIRMWARE, MachineId};
use super::snapshots::SnapshotLevel;
use super::stack::Stack;
use super::{Blame, Hypervisor, MachineSettings, StackPlan, Stop};
use crate::host::{Host, last_lines_of};

/// The machine of a level, of a type and with firmware that the QEMU of its host has.
pub(super) struct Fitted {
    pub(super) machine: Machine,
    /// Whether its type was chosen among those of the QEMU.
    pub(super) is_chosen: bool,
    /// Why it does not have the firmware that is reliable on emulated metal, if so.
    pub(super) why_default_firmware: Option<String>,
}

impl Fitted {
    /// A machine at the time of the snapshot, for which nothing is chosen again.
    pub(super) fn restored(mut machine: Machine, saved: &SnapshotLevel) -> Self {
        match &saved.firmware {
            Some(firmware) => machine.properties.insert(FIRMWARE.to_owned(), firmware.clone()),
            None => machine.properties.remove(FIRMWARE),
        };
        Self { machine, is_chosen: false, why_default_firmware: None }
    }
}

impl Stack<'_> {
    /// The machine of the level at `index`, which is about to be launched on `host`.
    pub(super) async fn fitted_machine(
        &mut self,
        index: usize,
        instance: Instance,
        nonce: String,
        host: &Rc<dyn Host>,
    ) -> Result<Fitted, Stop> {
        let plan = self.request.plan;
        let (level_plan, profile) = (&plan.levels[index], plan.profile);
        let level = level_plan.level;
        let reports_on_host = plan.reports(level)
            && plan.hypervisor_of(level) == Hypervisor::Kvm
            && plan.has_boot_shortcut(level_plan);
        let has_choice = reports_on_host && profile.innermost_machines.len() > 1;
        let mut fitted = StackPlan { nonce, ..plan.clone() };
        let boots_disk = level_plan.image.disk().is_some() && level_plan.uefi.is_none();
        let mut why_default_firmware = fitted
            .reliable_firmware(index)
            .filter(|_| boots_disk)
            .map(|reliable| format!("{reliable} boots no disk"));
        let id = MachineId { level, second: instance.is_second() };
        if (has_choice || fitted.wanted_firmware(index).is_some())
            && let Some(offer) = self.offer_of(id, host).await?
        {
            if has_choice {
                let has_other = plan.other_qemus.contains_key(&level);
                let chosen = choose(profile, &level_plan.settings, has_other, host.name(), &offer);
                let chosen = chosen.map_err(|why| self.harness(why).about(level))?;
                fitted.innermost_machine = Some(chosen);
            }
            let has = |wanted: &str| offer.firmware.iter().any(|file| file == wanted);
            if let Some(missing) = fitted.wanted_firmware(index).filter(|wanted| !has(wanted)) {
                fitted.default_firmware.insert(level);
                why_default_firmware = Some(format!("{missing} is missing in the level around"));
            }
        }
        if plan.other_qemus.contains_key(&level) {
            let base = fitted.machine(index, instance).machine;
            let machine_type = self.type_for_both(id, host, &base).await?;
            fitted.machine_types.extend(machine_type.map(|machine_type| (level, machine_type)));
        }
        let machine = fitted.machine(index, instance);
        Ok(Fitted { machine, is_chosen: fitted.innermost_machine.is_some(), why_default_firmware })
    }

    /// What the QEMU for a machine on `host` offers; none if it can't even list its machine types: then it will not start
    /// either, and prints why.
    async fn offer_of(&mut self, id: MachineId, host: &Rc<dyn Host>) -> Result<Option<QemuOffer>, Stop> {
        // If a step or a user may have changed the QEMU, it is no longer that of the image.
        let untouched = self.request.plan.around(id.level).filter(|around| self.is_untouched(*around));
        let image = untouched.and_then(|around| self.request.images.get(&around).copied());
        if let Some(offer) = image.and_then(Image::qemu_offer) {
            return Ok(Some(offer));
        }
        let listed = async { Rc::clone(host).machine_host()?.list_machine_types().await };
        let printed = self.during(id, listed).await?;
        let offer = read(&printed);
        if let (Some(offer), Some(image)) = (&offer, image)
            && let Err(e) = image.remember_qemu_offer(offer)
            // An image that came with the program may be in a read-only folder. Then its QEMU is asked in each boot.
            && !matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
        {
            tracing::warn!("the machine types of {}'s QEMU can't be remembered: {e}", host.name());
        }
        Ok(offer)
    }

    /// The type of machine that the QEMU of `host` and the other one there both have, and that means the same to both: of the versions
    /// of `base` the newest. Both QEMUs are asked, which also gets the other one ready. None if the scenario sets the type.
    async fn type_for_both(
        &mut self,
        id: MachineId,
        host: &Rc<dyn Host>,
        base: &str,
    ) -> Result<Option<String>, Stop> {
        if let Some(known) = self.machine_types.get(&id.level) {
            return Ok(Some(known.clone()));
        }
        let Some(other) = self.request.plan.other_qemu(id.level) else { return Ok(None) };
        let about = id.level.below().unwrap_or(id.level);
        let host_of_machines = Rc::clone(host).machine_host().map_err(|e| self.harness(e.to_string()))?;
        let printed = self.during(about, host_of_machines.list_other_machine_types(&other)).await?;
        let Some(of_other) = read(&printed) else {
            let said = last_lines_of(&String::from_utf8_lossy(&printed.stderr));
            return Err(
                self.harness(format!("the other QEMU for {} lists no machine types: {said}", id.level))
            );
        };
        if self.request.level(id.level).is_some_and(|plan| plan.settings.machine_type.is_some()) {
            return Ok(None);
        }
        // A QEMU that lists nothing does not start either, and says why.
        let Some(own) = self.offer_of(id, host).await? else { return Ok(None) };
        let Some(common) = newest_in_both(base, &own, &of_other) else {
            let host = host.name();
            let why =
                format!("the QEMU of {host} and the other one there have no version of {base} in common");
            return Err(self.harness(why).about(id.level));
        };
        self.machine_types.insert(id.level, common.clone());
        Ok(Some(common))
    }

    /// The stop of a level that does not boot. It says nothing about the stack if the level has firmware that is unreliable on
    /// emulated metal (docs/architecture.md, Traps), and stopped before its kernel printed anything.
    pub(super) fn unless_firmware_failed(&self, id: MachineId, stop: Stop) -> Stop {
        let Some(requested) = self.machines.requested(id) else { return stop };
        let is_about_it = stop.blame == Blame::Stack && stop.level() == Some(id.level);
        let is_silent = is_about_it && requested.has_default_firmware() && self.watch.shows_nothing(id);
        let because = requested.why_default_firmware.as_ref().filter(|_| is_silent);
        match (because, self.errata().of_default_firmware()) {
            (Some(because), Some(erratum)) => {
                let why = "emulated metal does not run the machine's default firmware reliably";
                let seen = format!("{}; {because}, and {why}", stop.symptom);
                Stop::harness(stop.stage, seen).about(id.level).charged_to(&erratum.id)
            }
            _ => stop,
        }
    }

    /// Whether neither the scenario nor the user has run a command in a level.
    fn is_untouched(&self, level: LevelNumber) -> bool {
        self.request.inspector.is_none() && !self.ledger.has_run_command_in(level)
    }
}

/// The first machine of the profile whose type the QEMU has, or the one that the scenario sets. QEMU itself checks the latter.
fn choose(
    profile: &ArchInfo,
    settings: &MachineSettings,
    has_other_qemu: bool,
    host: &str,
    offer: &QemuOffer,
) -> Result<&'static InnermostMachine, String> {
    match &settings.machine_type {
        Some(machine_type) => Ok(profile.innermost_machine_like(machine_type)),
        // Those without PCI (microvm) have no versions.
        None => profile
            .innermost_machine_of(&offer.machine_types, settings.needs_pci() || has_other_qemu)
            .ok_or_else(|| {
                let fitting = profile.innermost_machines_with(settings.needs_pci() || has_other_qemu);
                let wanted: Vec<&str> = fitting.map(|innermost| innermost.machine.name).collect();
                format!(
                    "the QEMU of {host} has none of the machine types {}; it has {}",
                    wanted.join(", "),
                    offer.machine_types.join(", ")
                )
            }),
    }
}

/// The newest version of the type `base` that two QEMUs have. QEMU names them `pc-q35-7.2` and `pseries-7.2`, RHEL's QEMU
/// `pc-q35-rhel9.4.0`.
fn newest_in_both(base: &str, own: &QemuOffer, other: &QemuOffer) -> Option<String> {
    let version = |name: &str| -> Option<Vec<u32>> {
        let family = if base == "pc" { "i440fx" } else { base };
        let version = name.strip_prefix("pc-").unwrap_or(name).strip_prefix(family)?.strip_prefix('-')?;
        let numbers = version.strip_prefix("rhel").unwrap_or(version);
        numbers.split('.').map(|number| number.parse().ok()).collect()
    };
    let both = own.machine_types.iter().filter(|name| other.machine_types.contains(name));
    let versions = both.filter_map(|name| Some((version(name)?, name)));
    versions.max().map(|(_, name)| name.clone())
}

/// The names in the output of `-machine help`: a heading, and then a line for each type, its name first. Lines on firmware
/// follow. None if it failed, or printed something else.
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
            let chosen =
                choose(ArchInfo::of(architecture), &MachineSettings::default(), false, "L1", &offer).unwrap();
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
        let settings = MachineSettings { machine_type: Some(set.to_owned()), ..MachineSettings::default() };
        let chosen = choose(ArchInfo::of(Architecture::Amd), &settings, false, "L1", &offer("q35")).unwrap();
        assert_eq!(chosen.machine.name, expected);
    }

    #[test]
    fn a_qemu_that_has_none_of_them_is_described() {
        let why = choose(
            ArchInfo::of(Architecture::Amd),
            &MachineSettings::default(),
            false,
            "L1",
            &offer("none x-remote"),
        )
        .unwrap_err();
        assert_eq!(
            why,
            "the QEMU of L1 has none of the machine types microvm, q35, pc; it has none, x-remote"
        );
    }

    #[test]
    fn a_type_whose_name_only_begins_alike_is_another() {
        let offer = offer("microvm-next pc-q35-9.2 pc");
        let chosen =
            choose(ArchInfo::of(Architecture::Amd), &MachineSettings::default(), false, "L1", &offer)
                .unwrap();
        assert_eq!(chosen.machine.name, "pc");
    }

    #[rstest]
    #[case::of_two_versions(
        "q35",
        "q35 pc-q35-10.0 pc-q35-7.2 pc-q35-6.2",
        "q35 pc-q35-7.2 pc-q35-6.2 pc-q35-5.2",
        Some("pc-q35-7.2")
    )]
    #[case::by_number(
        "pseries",
        "pseries-9.2 pseries-10.0",
        "pseries-10.0 pseries-9.2",
        Some("pseries-10.0")
    )]
    #[case::of_rhel("q35", "pc-q35-rhel9.2.0 pc-q35-rhel9.4.0", "pc-q35-rhel9.2.0", Some("pc-q35-rhel9.2.0"))]
    #[case::i440fx("pc", "pc pc-i440fx-7.2 pc-q35-8.0", "pc pc-i440fx-7.2 pc-q35-8.0", Some("pc-i440fx-7.2"))]
    #[case::nothing("q35", "q35 pc-q35-rhel9.4.0", "q35 pc-q35-7.2", None)]
    #[case::no_version("microvm", "microvm", "microvm", None)]
    #[case::a_variant("pseries", "pseries-2.12-sxxm", "pseries-2.12-sxxm", None)]
    fn two_qemus_have_the_newest_type_that_means_the_same_to_both(
        #[case] base: &str,
        #[case] own: &str,
        #[case] other: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(newest_in_both(base, &offer(own), &offer(other)).as_deref(), expected);
    }

    #[test]
    fn an_innermost_level_with_another_qemu_gets_a_machine_that_has_versions() {
        let (settings, offer) = (MachineSettings::default(), offer("microvm q35"));
        let chosen = choose(ArchInfo::of(Architecture::Amd), &settings, true, "L1", &offer).unwrap();
        assert_eq!(chosen.machine.name, "q35");
    }

    #[rstest]
    #[case::failed(DEBIAN, 1)]
    #[case::something_else("qemu-system-x86_64: unknown option\n", 0)]
    #[case::heading_alone("Supported machines are:\n", 0)]
    fn what_is_no_list_is_not_read_as_one(#[case] text: &str, #[case] status: i64) {
        assert_eq!(read(&printed(text, status)), None);
    }
}
