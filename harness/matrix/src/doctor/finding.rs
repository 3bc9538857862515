//! From what a host says of itself to what it lacks, and how that is mended: a pure function.
//!
//! What is asked for and the commands that mend it are those of the documents' procedures, which are the same for all
//! architectures but for the module's name. Nothing here is ever run.

use nestmatrix_model::architecture::{ArchInfo, NestingSwitch};
use nestmatrix_model::{Architecture, LevelNumber, Word as _};
use nestmatrix_stack::Metal;
use serde::{Serialize, Serializer};

use super::probe::{ModuleFile, Probe, is_on};

/// The document that has the procedures.
const PROCEDURES: &str = "rhel-8-nested-vms";
/// The oldest QEMU that stacks were booted with.
const OLDEST_QEMU: [u32; 2] = [5, 2];
/// Memory that an emulator takes besides its machine's, in MiB, and that is left to others.
const BESIDE_EMULATED_MIB: u64 = 384 + 512;
/// The same of a QEMU with KVM.
const BESIDE_NATIVE_MIB: u64 = 128;
/// Disk space that all images take, with the packages that they are made of, in MiB.
const IMAGES_MIB: u64 = 5 << 10;
/// Disk space that saved states take at most, unless `--saved-limit` says otherwise, in MiB.
const STATES_MIB: u64 = 10 << 10;
/// The least that a run needs for its records, in MiB.
const LEAST_MIB: u64 = 256;

/// What is looked at. Its word is the finding's stable id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// The instruction set of the machine.
    InstructionSet,
    /// The make of its processor.
    Processor,
    /// The CPU flags that the documents ask for.
    CpuFlags,
    /// No hypervisor is below.
    BareMetal,
    /// KVM's module for the architecture.
    KvmModule,
    /// /dev/kvm is there.
    KvmDevice,
    /// The user may open it.
    KvmPermission,
    /// The module's parameter that lets guests nest.
    NestedParameter,
    /// It is set for later boots as well.
    NestedPersistent,
    /// What backs guests does not exclude nesting.
    HugePages,
    /// KVM has run a guest.
    KvmProof,
    /// The installed QEMU.
    Qemu,
    /// The operating system.
    System,
    /// Memory for a stack.
    Memory,
    /// Disk space for images and saved states.
    Disk,
    /// The emulator that plays the bare machine.
    Emulator,
    /// What the levels boot.
    Images,
}

impl Check {
    /// Every check, in the order in which findings come.
    pub const ALL: [Self; 17] = [
        Self::InstructionSet,
        Self::Processor,
        Self::CpuFlags,
        Self::BareMetal,
        Self::KvmModule,
        Self::KvmDevice,
        Self::KvmPermission,
        Self::NestedParameter,
        Self::NestedPersistent,
        Self::HugePages,
        Self::KvmProof,
        Self::Qemu,
        Self::System,
        Self::Memory,
        Self::Disk,
        Self::Emulator,
        Self::Images,
    ];

    /// Its id.
    pub fn word(self) -> &'static str {
        match self {
            Self::InstructionSet => "instruction-set",
            Self::Processor => "processor",
            Self::CpuFlags => "cpu-flags",
            Self::BareMetal => "bare-metal",
            Self::KvmModule => "kvm-module",
            Self::KvmDevice => "kvm-device",
            Self::KvmPermission => "kvm-permission",
            Self::NestedParameter => "nested-parameter",
            Self::NestedPersistent => "nested-persistent",
            Self::HugePages => "huge-pages",
            Self::KvmProof => "kvm-proof",
            Self::Qemu => "qemu",
            Self::System => "system",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Emulator => "emulator",
            Self::Images => "images",
        }
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is as it has to be.
    Ok,
    /// It will do, with the reservation that the finding tells.
    Warning,
    /// It keeps stacks from running on the metal that the finding names.
    Lacking,
    /// It is not asked for here, or could not be looked at.
    NotApplicable,
}

/// What was found by one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// What it means.
    pub status: Status,
    /// What was found, on one line.
    pub found: String,
    /// The metal on which no stack can run for want of it.
    pub prevents: Vec<Metal>,
    /// What to do about it, where that is no command or more than one has to be known.
    pub advice: Option<String>,
    /// The commands that mend it, in order.
    pub mend: Vec<String>,
    /// The claims of the documents by which it is asked for, as `DOCUMENT/CLAIM`.
    pub claims: Vec<String>,
}

impl Finding {
    fn new(check: Check, status: Status, found: impl Into<String>) -> Self {
        let found = found.into();
        Self {
            check,
            status,
            found,
            prevents: Vec::new(),
            advice: None,
            mend: Vec::new(),
            claims: Vec::new(),
        }
    }

    fn ok(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, found)
    }

    fn warning(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Status::Warning, found)
    }

    fn idle(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Status::NotApplicable, found)
    }

    fn lacking(check: Check, prevents: &[Metal], found: impl Into<String>) -> Self {
        Self { prevents: prevents.to_vec(), ..Self::new(check, Status::Lacking, found) }
    }

    fn by(mut self, claims: impl IntoIterator<Item = String>) -> Self {
        self.claims.extend(claims);
        self
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    fn mended_by(mut self, commands: impl IntoIterator<Item = String>) -> Self {
        self.mend.extend(commands);
        self
    }
}

/// Whether KVM runs guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A guest came to its userspace.
    Proven,
    /// A guest was tried and did not, for this reason.
    Failed(String),
    /// None could be tried, for this reason.
    NotTried(String),
    /// Nobody asked, for this reason.
    NotAsked(String),
}

/// What is there for emulated metal and its levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The emulator that plays the bare machine, and whether it is in the cache; or why there is none.
    pub emulator: Result<(String, bool), String>,
    /// Images that the selected cells boot.
    pub wanted: usize,
    /// Those of them that are not in the cache.
    pub missing: Vec<String>,
    /// Whether the network must not be used.
    pub offline: bool,
}

/// Whose findings they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// This machine, and what it has for emulated metal.
    ThisMachine(&'a Kept),
    /// A booted level of a stack that goes on to `innermost`.
    Level {
        /// Which.
        level: LevelNumber,
        /// The innermost level of its stack.
        innermost: LevelNumber,
    },
}

/// A host that is judged, as a host for one architecture.
#[derive(Debug, Clone, Copy)]
pub struct Patient<'a> {
    /// The architecture.
    pub architecture: Architecture,
    /// What it says of itself.
    pub probe: &'a Probe,
    /// Where it is.
    pub place: Place<'a>,
    /// Whether its KVM runs guests.
    pub proof: &'a Proof,
}

/// The architecture that a host is, by its processor; none that documents speak of, or none that can be told.
pub fn own_architecture(probe: &Probe) -> Option<Architecture> {
    Architecture::of_machine(probe.isa()?, &probe.processor, |flag| probe.has_flag(flag))
}

/// Everything that is found in a host. Where it is a machine of another architecture, nothing is said of its KVM.
pub fn findings(patient: &Patient<'_>) -> Vec<Finding> {
    let Patient { architecture, probe, place, .. } = *patient;
    let mut found = Vec::new();
    let isa = architecture.isa();
    if probe.isa() == Some(isa) {
        found.push(Finding::ok(Check::InstructionSet, format!("a machine of {isa}")));
        let processor = patient.processor();
        let is_own = processor.status != Status::Lacking;
        found.push(processor);
        if is_own {
            found.extend(patient.cpu_flags());
            found.extend(patient.bare_metal());
            found.push(patient.module());
            found.extend(patient.device());
            found.push(patient.nested());
            found.extend(patient.persistent());
            found.push(patient.huge_pages());
            found.push(patient.kvm_proof());
            found.push(patient.qemu());
            found.push(patient.system());
        }
    } else {
        let here = probe.isa().map_or(probe.machine.as_str(), |isa| isa.word());
        let what = format!("needs a machine of {isa}: this one is {here}");
        found.push(Finding::lacking(Check::InstructionSet, &[Metal::Native], what));
    }
    found.push(patient.memory());
    if let Place::ThisMachine(kept) = place {
        found.push(patient.disk(kept));
        found.push(emulator(kept));
        found.push(patient.images(kept));
    }
    found
}

impl Patient<'_> {
    fn profile(&self) -> &'static ArchInfo {
        ArchInfo::of(self.architecture)
    }

    /// A claim of the procedures, which call it the same for every architecture.
    fn claim(&self, what: &str) -> Option<String> {
        self.profile().procedure.map(|_| format!("{PROCEDURES}/{}-{what}", self.architecture))
    }

    fn claims(&self, what: &[&str]) -> Vec<String> {
        what.iter().filter_map(|what| self.claim(what)).collect()
    }

    /// What metal is lost where KVM can't be had. A level's KVM is looked at for itself.
    fn native(&self) -> &'static [Metal] {
        &[Metal::Native]
    }

    /// A command for root.
    fn root(&self, command: &str) -> String {
        if self.probe.uid == "0" { command.to_owned() } else { format!("sudo {command}") }
    }

    fn processor(&self) -> Finding {
        let (architecture, probe) = (self.architecture, self.probe);
        let is = if probe.processor.is_empty() { "unknown" } else { &probe.processor };
        if own_architecture(probe) == Some(architecture) {
            return Finding::ok(Check::Processor, is);
        }
        let profile = self.profile();
        let what = format!("needs {}: this one is {is}", profile.processor);
        let ruled_out = profile.unsuitable_processor.filter(|one| probe.processor.starts_with(one.model));
        let claim = ruled_out.map(|one| format!("{PROCEDURES}/{}", one.claim));
        Finding::lacking(Check::Processor, self.native(), what).by(claim)
    }

    fn cpu_flags(&self) -> Option<Finding> {
        let profile = self.profile();
        let documented = profile.documented_flags;
        if documented.is_empty() {
            return None;
        }
        let missing: Vec<&str> =
            documented.iter().copied().filter(|flag| !self.probe.has_flag(flag)).collect();
        let claims = self.claims(&["cpu-flags"]);
        if missing.is_empty() {
            return Some(Finding::ok(Check::CpuFlags, format!("flags {}", documented.join(", "))).by(claims));
        }
        let what = format!("/proc/cpuinfo lacks {}", missing.join(" and "));
        // KVM does without nested paging, slowly.
        if !profile.virtualization_flag.is_some_and(|flag| missing.contains(&flag)) {
            return Some(Finding::warning(Check::CpuFlags, what).by(claims));
        }
        let advice = match self.place {
            Place::Level { level, .. } if level.below().is_some() => {
                "the CPU that its QEMU gives it has none: host-passthrough has, where nesting is on below"
                    .to_owned()
            }
            _ if self.probe.is_guest() => {
                format!(
                    "this machine is itself a guest: whoever runs it must switch nesting on and give it a CPU with \
                     {} (for libvirt, <cpu mode='host-passthrough'/>)",
                    missing.join(" and ")
                )
            }
            _ => "switch virtualization on in the firmware's setup, if the processor has it".to_owned(),
        };
        Some(Finding::lacking(Check::CpuFlags, self.native(), what).advise(advice).by(claims))
    }

    fn bare_metal(&self) -> Option<Finding> {
        let must_be = self.profile().procedure.is_some_and(|procedure| procedure.l0_is_bare_metal);
        if !must_be || matches!(self.place, Place::Level { .. }) {
            return None;
        }
        let claims = [format!("{PROCEDURES}/l0-is-bare-metal")];
        Some(if self.probe.is_guest() {
            let what = "a hypervisor is below this machine: what it is L0 of is nested once more";
            Finding::warning(Check::BareMetal, what).by(claims)
        } else {
            Finding::ok(Check::BareMetal, "no hypervisor below").by(claims)
        })
    }

    fn module(&self) -> Finding {
        let (probe, module) = (self.probe, self.profile().kvm_module);
        if probe.facts.kvm_module {
            let how = if probe.unloadable { "loaded" } else { "part of the kernel" };
            return Finding::ok(Check::KvmModule, format!("{module}, {how}"));
        }
        let others: Vec<&str> = probe
            .kvm_modules
            .iter()
            .map(String::as_str)
            .filter(|name| !["kvm", module].contains(name))
            .collect();
        let mut what = format!("{module} is not loaded");
        if !others.is_empty() {
            what.push_str(&format!("; KVM here is that of {}", others.join(" and ")));
        }
        // Where KVM is another module's, so is what the kernel says of it.
        if let (Some(says), true) = (&probe.facts.kvm_says, others.is_empty()) {
            what.push_str(&format!("; the kernel says: {says}"));
        }
        let lacking = Finding::lacking(Check::KvmModule, self.native(), what);
        match probe.module_file {
            ModuleFile::Loadable => {
                let flag = self.profile().virtualization_flag;
                let lacking = match flag.filter(|flag| !probe.has_flag(flag)) {
                    Some(flag) => {
                        lacking.advise(format!("it can be loaded once the processor shows {flag}:"))
                    }
                    None => lacking,
                };
                lacking.mended_by([self.root(&format!("modprobe {module}"))])
            }
            ModuleFile::BuiltIn => {
                lacking.advise("it is part of the kernel and did not start; the kernel's messages say why")
            }
            ModuleFile::Missing => {
                lacking.advise(format!("kernel {} has no such module: boot one that has", probe.facts.kernel))
            }
            ModuleFile::NoFolder => lacking.advise(format!(
                "there is no /lib/modules/{} from which it could be loaded: this is a container, or a kernel \
                 without modules; load it on the machine itself",
                probe.facts.kernel
            )),
        }
    }

    fn device(&self) -> Vec<Finding> {
        let probe = self.probe;
        if probe.kvm_opens.is_empty() {
            let lacking = Finding::lacking(Check::KvmDevice, self.native(), "there is no /dev/kvm");
            let finding = if probe.facts.kvm_module {
                lacking.advise("KVM is loaded: a container has to be given the device (--device /dev/kvm)")
            } else {
                lacking.advise("it comes with KVM's module")
            };
            return vec![finding];
        }
        let there = Finding::ok(Check::KvmDevice, "/dev/kvm is there");
        let permission = match probe.kvm_opens.as_str() {
            "ok" => Finding::ok(Check::KvmPermission, "/dev/kvm opens"),
            "Permission denied" => self.permission(),
            other => Finding::lacking(
                Check::KvmPermission,
                self.native(),
                format!("/dev/kvm can't be opened: {other}"),
            )
            .advise(if other == "Operation not permitted" {
                "this container may not use the device: start it with --device /dev/kvm"
            } else {
                "the device is there without KVM behind it: load KVM's module"
            }),
        };
        vec![there, permission]
    }

    fn permission(&self) -> Finding {
        let Probe { user, kvm_group: group, kvm_mode: mode, kvm_members, groups, .. } = self.probe;
        let what = format!("{} may not open /dev/kvm, which is {mode} of group {group}", whom(user));
        let lacking = Finding::lacking(Check::KvmPermission, self.native(), what);
        // `crw-rw----`
        let for_group = mode.get(4..6) == Some("rw");
        if !for_group || group == "root" {
            let advice =
                "the device should belong to the group kvm, as udev's rules have it; until the next boot:";
            let chgrp = (group != "kvm").then(|| self.root("chgrp kvm /dev/kvm"));
            let chmod = self.root("chmod 660 /dev/kvm");
            let is_in = groups.iter().any(|group| group == "kvm");
            let join = (!is_in).then(|| self.root("usermod -aG kvm $USER"));
            return lacking.advise(advice).mended_by(chgrp.into_iter().chain([chmod]).chain(join));
        }
        if !groups.contains(group) && kvm_members.contains(user) && !user.is_empty() {
            return lacking.advise(format!("{user} is a member since this session began: log in again"));
        }
        lacking
            .advise("join the group, then log in again:")
            .mended_by([self.root(&format!("usermod -aG {group} $USER"))])
    }

    /// The commands that switch nesting on until the next boot, by the documents' procedure.
    fn reload(&self) -> Vec<String> {
        let module = self.profile().kvm_module;
        vec![self.root(&format!("modprobe -r {module}")), self.root(&format!("modprobe {module} nested=1"))]
    }

    /// The commands that have it switched on at each boot.
    fn persist(&self) -> Vec<String> {
        let module = self.profile().kvm_module;
        if let Some((file, false)) = self.probe.configured_nested() {
            // modprobe takes both characters for one.
            let module = module.replace('_', "[-_]");
            return vec![self.root(&format!("sed -i '/{module}/s/nested=[0Nn]/nested=1/' {file}"))];
        }
        let line = format!("echo 'options {module} nested=1'");
        vec![if self.probe.uid == "0" {
            format!("{line} >>/etc/modprobe.d/kvm.conf")
        } else {
            format!("{line} | sudo tee -a /etc/modprobe.d/kvm.conf")
        }]
    }

    fn nested(&self) -> Finding {
        let (probe, profile) = (self.probe, self.profile());
        let module = profile.kvm_module;
        if let NestingSwitch::KernelParameter { parameter, since, documents, claim } = profile.nesting_switch
        {
            let claim = format!("{PROCEDURES}/{claim}");
            return self.nested_by_kernel_parameter(parameter, since, documents).by([claim]);
        }
        let check = Check::NestedParameter;
        let path = format!("/sys/module/{module}/parameters/nested");
        let value = probe.facts.nested.as_deref().unwrap_or_default();
        match probe.nested() {
            Some(true) => Finding::ok(check, format!("{module} has nested={value}"))
                .by(self.claims(&["nested-parameter-on"])),
            Some(false) => {
                let what = format!("{path} says {value}: guests of {module} can't be hypervisors");
                let lacking = Finding::lacking(check, self.native(), what);
                if !probe.unloadable {
                    let advice = format!(
                        "{module} is part of the kernel: put {module}.nested=1 on its command line and boot it"
                    );
                    return lacking.advise(advice).by(self.claims(&["nested-parameter-off"]));
                }
                let huge = profile.huge_pages_exclude_nesting && is_on(&probe.hpage);
                let mut advice = match probe.module_users {
                    0 => "stop every VM, then reload the module:".to_owned(),
                    users => format!("stop every VM (the module is used {users} times now), then reload it:"),
                };
                if huge {
                    advice.insert_str(0, "hpage=1 has to go, which excludes nesting; ");
                }
                let mut claims = self.claims(&["nested-parameter-off"]);
                if let Some(procedure) = profile.procedure {
                    claims.extend(self.claims(&[procedure.unload_claim, "load-nested", "modprobe-d"]));
                    claims.extend(self.claim("stop-vms").filter(|_| procedure.stops_vms));
                }
                let persistent = matches!(probe.configured_nested(), Some((_, true)));
                let persist = if persistent { Vec::new() } else { self.persist() };
                lacking.advise(advice).mended_by(self.reload()).mended_by(persist).by(claims)
            }
            None if probe.facts.kvm_module => {
                let what = format!("there is no {path}: this {module} can't nest");
                Finding::lacking(check, self.native(), what)
                    .advise("boot a kernel whose KVM has the parameter")
            }
            None => Finding::idle(check, format!("{path}, which comes with the module")),
        }
    }

    fn nested_by_kernel_parameter(&self, parameter: &str, since: &str, documents: &str) -> Finding {
        let check = Check::NestedParameter;
        if parameter.split_once('=').is_some_and(|(_, value)| self.probe.command_line_mode == value) {
            return Finding::ok(check, format!("{parameter}; {documents}"));
        }
        Finding::lacking(check, self.native(), format!("the kernel was not booted with {parameter}"))
            .advise(format!("put it on the kernel's command line and boot ({since}; {documents})"))
    }

    fn persistent(&self) -> Option<Finding> {
        let (probe, module) = (self.probe, self.profile().kvm_module);
        // Where it is off, the finding about that has the commands.
        if probe.nested() != Some(true) || self.profile().nesting_switch != NestingSwitch::ModuleParameter {
            return None;
        }
        let check = Check::NestedPersistent;
        let claims = self.claims(&["modprobe-d"]);
        // The kernel's command line is stronger than modprobe's configuration.
        let configured = match probe.command_line_nested.as_str() {
            "" => probe.configured_nested(),
            value => Some(("the kernel's command line", is_on(value))),
        };
        let in_level = matches!(self.place, Place::Level { .. });
        Some(match configured {
            Some((by, true)) => Finding::ok(check, format!("{by} sets it for each boot")).by(claims),
            Some((by, false)) if probe.command_line_nested.is_empty() => {
                let what = format!("{by} says nested=0: it is off after the next boot");
                Finding::warning(check, what).mended_by(self.persist()).by(claims)
            }
            Some((by, false)) => {
                Finding::warning(check, format!("{by} says nested=0: it is off after the next boot"))
                    .advise(format!("take {module}.nested=0 off it"))
                    .by(claims)
            }
            None if !probe.unloadable => {
                Finding::ok(check, format!("{module}, part of the kernel, has it so"))
            }
            None if in_level => {
                Finding::idle(check, "its kernel's default; the level is made anew for each cell")
            }
            None => Finding::warning(
                check,
                "nothing in modprobe.d sets nested=1: after the next boot it is what the kernel's default is",
            )
            .mended_by(self.persist())
            .by(claims),
        })
    }

    fn huge_pages(&self) -> Finding {
        let (probe, check) = (self.probe, Check::HugePages);
        if !self.profile().huge_pages_exclude_nesting {
            let what = format!(
                "{} huge pages of {} KiB, for which no document asks",
                probe.huge_pages, probe.huge_page_kib
            );
            return Finding::idle(check, what);
        }
        let claims = self.claims(&["huge-pages", "huge-pages-refusal"]);
        let finding = match (is_on(&probe.hpage), probe.nested()) {
            (true, Some(true)) => Finding::warning(
                check,
                "kvm has hpage=1 beside nested=1, which the documents say can't be had together",
            ),
            (true, _) => Finding::lacking(check, self.native(), "kvm has hpage=1, which excludes nested=1")
                .advise("load kvm without it")
                .mended_by(self.reload()),
            (false, _) => Finding::ok(check, "kvm does not back guests with huge pages"),
        };
        finding.by(claims)
    }

    fn kvm_proof(&self) -> Finding {
        let check = Check::KvmProof;
        match self.proof {
            Proof::Proven => Finding::ok(check, "a trial guest booted to its userspace"),
            Proof::Failed(why) => {
                let what = if self.probe.kvm_opens == "ok" {
                    format!("/dev/kvm opens, and runs no stock guest: {why}")
                } else {
                    format!("KVM runs no stock guest: {why}")
                };
                let lacking = Finding::lacking(check, self.native(), what);
                if self.probe.facts.kvm_module {
                    lacking.advise(
                        "see the kernel's messages (dmesg); until then, `--metal emulated` does without KVM",
                    )
                } else {
                    lacking.advise("no command mends that; `--metal emulated` does without KVM")
                }
            }
            Proof::NotTried(why) => {
                Finding::lacking(check, self.native(), format!("no guest could be tried: {why}"))
            }
            Proof::NotAsked(why) => Finding::idle(check, why),
        }
    }

    fn qemu(&self) -> Finding {
        let (check, profile) = (Check::Qemu, self.profile());
        let Probe { qemu, qemu_version: version, .. } = self.probe;
        if qemu.is_empty() {
            return match self.place {
                Place::ThisMachine(_) => {
                    Finding::ok(check, format!("no {} installed, nestmatrix brings one", profile.qemu))
                }
                Place::Level { .. } => {
                    Finding::lacking(check, self.native(), format!("no {} in the level", profile.qemu))
                }
            };
        }
        let number = |part: &str| part.parse::<u32>().ok();
        let mut parts = version.split('.').map(number);
        let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
            return Finding::warning(check, format!("{qemu} does not tell its version"));
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
            let what = format!("{what}, the first that can nest on {}", profile.name);
            Finding::lacking(check, self.native(), what).advise(format!("install a later one; {needless}"))
        } else {
            let what = format!("{what}, the oldest that stacks were tried with");
            Finding::warning(check, what).advise(needless)
        }
    }

    fn system(&self) -> Finding {
        let (check, facts) = (Check::System, &self.probe.facts);
        let named = format!("{} {}, Linux {}", facts.os, facts.os_version, facts.kernel);
        match self.place {
            Place::Level { .. } => Finding::ok(check, format!("Linux {}", facts.kernel)),
            Place::ThisMachine(_) if facts.os_version.parse::<nestmatrix_model::Version>().is_ok() => {
                Finding::ok(check, named)
            }
            Place::ThisMachine(_) => Finding::lacking(
                check,
                self.native(),
                format!(
                    "its os-release tells no version ({:?})",
                    format!("{} {}", facts.os, facts.os_version)
                ),
            )
            .advise(
                "a scenario's L0 is a system of some version, which this machine's can't be compared with",
            ),
        }
    }

    fn memory(&self) -> Finding {
        let (check, profile) = (Check::Memory, self.profile());
        let (leaf, own) = (u64::from(profile.innermost_memory_mib), u64::from(profile.overhead_memory_mib));
        let available = self.probe.available_memory_mib;
        let (native, emulated) = match self.place {
            // L0 and L1 host; on native metal L0 is there already.
            Place::ThisMachine(_) => (leaf + own + BESIDE_NATIVE_MIB, leaf + 2 * own + BESIDE_EMULATED_MIB),
            Place::Level { level, innermost } => {
                let inside = u64::from(innermost.number().saturating_sub(level.number()));
                let need = if inside == 0 { 0 } else { leaf + own * (inside - 1) };
                (need, need)
            }
        };
        let what = |need: u64| format!("{} of memory free, a stack takes {}", size(available), size(need));
        if available == 0 {
            Finding::warning(check, "the free memory can't be told")
        } else if available >= emulated {
            Finding::ok(check, what(emulated))
        } else if available >= native {
            Finding::lacking(check, &[Metal::Emulated], what(emulated))
                .advise("end what else runs; native metal takes less")
        } else {
            Finding::lacking(check, &[Metal::Native, Metal::Emulated], what(native))
                .advise("end what else runs, or take a larger machine")
        }
    }

    fn disk(&self, kept: &Kept) -> Finding {
        let (check, disks) = (Check::Disk, &self.probe.disks);
        let (Some(cache), Some(states)) = (disks.get("cache"), disks.get("states")) else {
            return Finding::warning(check, "the free disk space can't be told");
        };
        let both = [Metal::Native, Metal::Emulated];
        let images = match (kept.wanted, kept.missing.len()) {
            (0, _) | (_, 0) => LEAST_MIB,
            (wanted, missing) => LEAST_MIB.max(IMAGES_MIB * missing as u64 / wanted as u64),
        };
        let prune = "cargo xtask images prune".to_owned();
        if *cache < images {
            let what = format!("{} of disk free for images, which take {}", size(*cache), size(images));
            return Finding::lacking(check, &both, what).mended_by([prune]);
        }
        if *states < STATES_MIB {
            let what = format!(
                "{} of disk free for saved states, which may take {}",
                size(*states),
                size(STATES_MIB)
            );
            let limit = states >> 11;
            let advice = format!("run-matrix with --saved-limit {limit}, or with --cold, takes less");
            return Finding::warning(check, what)
                .advise(advice)
                .mended_by(["cargo xtask states clear".to_owned()]);
        }
        Finding::ok(check, format!("{} of disk free", size(*cache.min(states))))
    }

    fn images(&self, kept: &Kept) -> Finding {
        let (check, wanted) = (Check::Images, kept.wanted);
        let missing = kept.missing.len();
        if wanted == 0 {
            return Finding::idle(check, "no cell boots any");
        }
        if missing == 0 {
            return Finding::ok(check, format!("all {wanted} images in the cache"));
        }
        let both = [Metal::Native, Metal::Emulated];
        let names: Vec<&str> = kept.missing.iter().map(String::as_str).collect();
        let what = format!("{missing} of {wanted} images are not in the cache ({})", in_short(&names));
        if kept.offline {
            let recipes: Vec<&str> = recipes(&names);
            return Finding::lacking(check, &both, format!("{what}, and --offline forbids to fetch them"))
                .mended_by([format!("cargo xtask images build {}", recipes.join(" "))]);
        }
        if !self.probe.apt {
            return Finding::lacking(check, &both, format!("{what}, and there is no apt-get to fetch them"))
                .advise(
                    "install apt and Debian's archive keyring, and name an archive (NESTMATRIX_ARCHIVE)",
                );
        }
        Finding::ok(check, format!("{missing} of {wanted} images are fetched and built first"))
    }
}

fn emulator(kept: &Kept) -> Finding {
    let check = Check::Emulator;
    match &kept.emulator {
        Ok((name, true)) => Finding::ok(check, format!("{name} in the cache")),
        Ok((name, false)) if kept.offline => {
            let what = format!("{name} is not in the cache, and --offline forbids to fetch it");
            Finding::lacking(check, &[Metal::Emulated], what)
                .mended_by([format!("cargo xtask images build {name}")])
        }
        Ok((name, false)) => Finding::ok(check, format!("{name}, fetched first")),
        Err(why) => Finding::lacking(check, &[Metal::Emulated], why.clone()),
    }
}

fn whom(user: &str) -> &str {
    if user.is_empty() { "this user" } else { user }
}

/// `22.2 GiB`, `512 MiB`.
pub(crate) fn size(mib: u64) -> String {
    if mib < 1024 { format!("{mib} MiB") } else { format!("{:.1} GiB", mib as f64 / 1024.0) }
}

fn in_short(names: &[&str]) -> String {
    match names {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        names => names.join(", "),
    }
}

/// The recipes of images, which are written `RECIPE PRODUCT`, each once.
fn recipes<'n>(names: &[&'n str]) -> Vec<&'n str> {
    let mut recipes: Vec<&str> = names.iter().filter_map(|name| name.split(' ').next()).collect();
    recipes.sort_unstable();
    recipes.dedup();
    recipes
}

#[cfg(test)]
#[path = "finding_tests.rs"]
mod tests;
