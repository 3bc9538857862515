//! Checks of software: the installed QEMU, the operating system, the emulator of the bare machine, and the images.

use nestmatrix_images::InstalledEmulator;
use nestmatrix_model::PROGRAM;
use nestmatrix_stack::Metal;

use super::packages::{APT_ADVICE, Distribution};
use super::subject::{EmulatorSupply, Inventory, NATIVE, Place, Subject};
use crate::doctor::finding::{Check, Finding};
use crate::doctor::probe::Probe;
use crate::run::NoEmulator;

/// The oldest QEMU that stacks were booted with.
const OLDEST_QEMU: [u32; 2] = [5, 2];

/// RHEL's package of its only QEMU, which is for the machine's own architecture.
const RHEL_PACKAGE: &str = "qemu-kvm";

impl Subject<'_> {
    pub(super) fn qemu(&self) -> Finding {
        let (check, profile) = (Check::Qemu, self.profile());
        let Probe { qemu, qemu_version: version, .. } = self.probe;
        if qemu.is_empty() {
            return match self.place {
                Place::ThisMachine(_) => {
                    Finding::ok(check, format!("no {} installed; nestmatrix brings its own", profile.qemu))
                }
                Place::Level { .. } => {
                    Finding::missing(check, NATIVE, format!("the level has no {}", profile.qemu))
                }
            };
        }
        let number = |part: &str| part.parse::<u32>().ok();
        let mut parts = version.split('.').map(number);
        let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
            return Finding::warning(check, format!("{qemu} does not report its version"));
        };
        let least = profile.first_nesting_qemu.unwrap_or(OLDEST_QEMU);
        let what = format!("{qemu}, version {version}");
        if [major, minor] >= least {
            return Finding::ok(check, what);
        }
        let [major, minor] = least;
        let what = format!("{what}, is older than {major}.{minor}");
        let needless = "emulated metal does not use it: nestmatrix brings its own";
        if profile.first_nesting_qemu.is_some() {
            let what = format!("{what}, the first version with nesting on {}", profile.name);
            Finding::missing(check, NATIVE, what).advise(format!("install a later version; {needless}"))
        } else {
            let what = format!("{what}, the oldest version that was tested");
            Finding::warning(check, what).advise(needless)
        }
    }

    pub(super) fn system(&self) -> Finding {
        let (check, facts) = (Check::System, &self.probe.facts);
        let named = format!("{} {}, Linux {}", facts.os, facts.os_version, facts.kernel);
        match self.place {
            Place::Level { .. } => Finding::ok(check, format!("Linux {}", facts.kernel)),
            Place::ThisMachine(_) if facts.os_version.parse::<nestmatrix_model::Version>().is_ok() => {
                Finding::ok(check, named)
            }
            Place::ThisMachine(_) => Finding::missing(
                check,
                NATIVE,
                format!(
                    "/etc/os-release has no version ({:?})",
                    format!("{} {}", facts.os, facts.os_version)
                ),
            )
            .advise("scenarios require a system version for L0, and this machine does not report one"),
        }
    }

    pub(super) fn images(&self, inventory: &Inventory) -> Finding {
        let (check, wanted) = (Check::Images, inventory.wanted);
        let missing = inventory.missing.len();
        if wanted == 0 {
            return Finding::not_applicable(check, "the selected cells boot no image");
        }
        if missing == 0 {
            return Finding::ok(check, format!("all {wanted} images are in the cache"));
        }
        let both = [Metal::Native, Metal::Emulated];
        let names: Vec<&str> = inventory.missing.iter().map(String::as_str).collect();
        let what = format!("{missing} of {wanted} images are not in the cache ({})", in_short(&names));
        let (disks, others): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.ends_with(" disk"));
        if inventory.offline {
            let build = format!("{PROGRAM} images build {}", recipes(&others).join(" "));
            let fixes = [(others, build), (disks, format!("{PROGRAM} media prepare"))];
            let fixes = fixes.into_iter().filter(|(of, _)| !of.is_empty()).map(|(_, command)| command);
            return Finding::missing(check, &both, format!("{what}, and --offline forbids downloads"))
                .fixed_by(fixes);
        }
        let made = if disks.is_empty() { "downloaded and built" } else { "downloaded, built or prepared" };
        Finding::ok(check, format!("{missing} of {wanted} images are {made} before the run"))
    }

    pub(super) fn emulator(&self, inventory: &Inventory) -> Finding {
        let check = Check::Emulator;
        match &inventory.emulator {
            Ok(EmulatorSupply::Installed(InstalledEmulator { path, version })) => Finding::ok(
                check,
                format!("{} is installed, version {version}; its image can't be built here", path.display()),
            ),
            Ok(EmulatorSupply::Image { recipe, cached: true }) => {
                Finding::ok(check, format!("{recipe} is in the cache"))
            }
            Ok(EmulatorSupply::Image { recipe, cached: false }) if inventory.offline => {
                let what = format!("{recipe} is not in the cache, and --offline forbids downloads");
                Finding::missing(check, &[Metal::Emulated], what)
                    .fixed_by([format!("{PROGRAM} images build {recipe}")])
            }
            Ok(EmulatorSupply::Image { recipe, cached: false }) => {
                Finding::ok(check, format!("{recipe} is downloaded and built before the run"))
            }
            Err(why) => {
                let missing = Finding::missing(check, &[Metal::Emulated], why.to_string());
                match why {
                    NoEmulator::NoRecipe { .. } => missing,
                    NoEmulator::Unbuildable { program, .. } => self.with_installation(missing, program),
                }
            }
        }
    }

    /// The finding with how to install an emulator that would be used.
    fn with_installation(&self, missing: Finding, program: &str) -> Finding {
        let Some(fedora) = fedora_package(program) else {
            return missing.advise(APT_ADVICE);
        };
        let own = self.probe.isa() == Some(self.architecture.isa());
        match Distribution::of(&self.probe.facts.os) {
            Distribution::Fedora => missing.fixed_by([self.root(&format!("dnf install {fedora}"))]),
            Distribution::Rhel if own => {
                missing.fixed_by([self.root(&format!("dnf install {RHEL_PACKAGE}"))])
            }
            _ => {
                let on_rhel = if own { format!(", on RHEL {RHEL_PACKAGE}") } else { String::new() };
                missing.advise(format!("install {program}: on Fedora the package {fedora}{on_rhel}"))
            }
        }
    }
}

/// Fedora's package of a QEMU.
fn fedora_package(program: &str) -> Option<&'static str> {
    Some(match program {
        "qemu-system-x86_64" => "qemu-system-x86",
        "qemu-system-ppc64" => "qemu-system-ppc",
        "qemu-system-aarch64" => "qemu-system-aarch64",
        "qemu-system-s390x" => "qemu-system-s390x",
        _ => return None,
    })
}

fn in_short(names: &[&str]) -> String {
    match names {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        names => names.join(", "),
    }
}

/// The recipes of these images, each once. An image is written `RECIPE PRODUCT`.
fn recipes<'n>(names: &[&'n str]) -> Vec<&'n str> {
    let mut recipes: Vec<&str> = names.iter().filter_map(|name| name.split(' ').next()).collect();
    recipes.sort_unstable();
    recipes.dedup();
    recipes
}
