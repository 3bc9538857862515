//! Queries a level's machine, its kernel, and its abilities as a host, and stops the stack if an answer is wrong.

use std::rc::Rc;
use std::time::Instant;

use nestmatrix_model::{Accelerator, LevelNumber};
use nestmatrix_vmm::qemu::{Boot, HardwareDifference, Instance, Machine, MissingFeature, Monitor};

use super::clock::ClockReading;
use super::evidence::{lacks_nested_counter, nests};
use super::level::{Hosting, Level, Up};
use super::machines::MachineId;
use super::stack::Stack;
use super::symptom::NestedSetting;
use super::{LevelPlan, Stop, Symptom};
use crate::host::{Facts, Host, count_nested_script};

impl Stack<'_> {
    /// Stops the stack before the level at `index` is launched with KVM, if the launching level depends on what the emulated
    /// metal gets wrong.
    pub(super) fn check_errata(&self, index: usize) -> Result<(), Stop> {
        let plan = self.request.plan;
        let LevelPlan { level, settings, .. } = &plan.levels[index];
        let Some(host) = level.below().filter(|_| settings.accelerator != Accelerator::Tcg) else {
            return Ok(());
        };
        let Some(facts) = self.levels.facts(host) else { return Ok(()) };
        match self.errata().dependence(host, facts, plan.profile.kvm_module) {
            Some(symptom) => Err(Stop::stack(self.stage, symptom).not_its_fault()),
            None => Ok(()),
        }
    }

    /// Queries a paused machine, and stops the stack if it does not meet its requirements.
    pub(super) async fn query_machine(&mut self, machine: &Machine, monitor: &Monitor) -> Result<(), Stop> {
        let (id, level, plan) = (MachineId::from(machine), machine.level, self.request.plan);
        let (model, required) = (&machine.cpu.model, [&machine.cpu.require[..], &machine.cpu.needs].concat());
        let questions = async {
            let actual = monitor.machine(machine).await?;
            Ok((actual, monitor.kvm().await?, monitor.cpu(model, &required).await?))
        };
        let (actual, kvm, cpu) = self.during(id, questions).await?;
        // The level's evidence is that of the machine that contains the levels inside it: after a migration, the second one.
        let is_evidence = machine.instance != Instance::SecondMachine;
        if is_evidence {
            let facts = self.ledger.level(level);
            facts.qemu = Some(monitor.version().to_owned());
            facts.machine = Some(actual.machine_type.clone());
            facts.cpu = Some(cpu.model_type.clone());
        }
        let of = if is_evidence { level.into() } else { id };
        let measured = self.ledger.measured(of);
        measured.kvm.insert(level, kvm);
        measured.cpus.insert(level, cpu.clone());
        measured.machines.insert(level, actual.clone());
        if !plan.hypervisor_of(level).is_shown_by(&kvm) {
            return Err(Stop::stack(self.stage, Symptom::WithoutKvm { level }));
        }
        if self.request.asks_cpu_models && is_evidence && plan.reports(level) {
            // Whether the level's own CPU is as required does not change what its QEMU can run.
            let models = self.during(id, async { Ok(monitor.cpu_models().await?) }).await?;
            self.ledger.cpu_models = Some(models);
        }
        actual.check().map_err(|property| {
            let machine_type = actual.machine_type.clone();
            Stop::stack(self.stage, Symptom::MissingMachineProperty { level, property, machine_type })
        })?;
        actual.hardware.check().map_err(|difference| self.wrong_hardware(level, difference))?;
        cpu.check().map_err(|missing| {
            let below = level.below().filter(|_| plan.profile.nesting.is_feature(&missing.feature));
            let nested = below.and_then(|below| {
                let value = self.levels.facts(below)?.nested.clone()?;
                Some(NestedSetting { level: below, module: plan.profile.kvm_module.to_owned(), value })
            });
            let MissingFeature { feature, model } = missing;
            let symptom = Symptom::MissingCpuFeature { level, feature: feature.clone(), model, nested };
            let stop = Stop::stack(self.stage, symptom);
            // If L0's bare machine is not as required, that says nothing about the stack, and neither does an enlightenment that only
            // a recipe asks for.
            if plan.is_bare_machine(level) || self.is_enlightenment_of_recipe(level, &feature) {
                stop.not_its_fault()
            } else {
                stop
            }
        })
    }

    /// Whether a feature of a level's CPU is one that lets Windows know about KVM, and that the scenario does not ask for.
    fn is_enlightenment_of_recipe(&self, level: LevelNumber, feature: &str) -> bool {
        let plan = self.request.level(level);
        plan.is_some_and(|plan| plan.enlightenments_of_recipe().any(|name| name == feature))
    }

    /// The stop of a level whose hardware is not the requested one.
    pub(super) fn wrong_hardware(&self, level: LevelNumber, difference: HardwareDifference) -> Stop {
        let stop = Stop::stack(self.stage, Symptom::WrongHardware { level, difference });
        // If L0's bare machine is not as required, that says nothing about the stack.
        if self.request.plan.is_bare_machine(level) { stop.not_its_fault() } else { stop }
    }

    /// Notes how many CPUs the kernel of a level says that it uses, and stops the stack if its machine has another number. A
    /// kernel that a parameter limits may use fewer.
    pub(super) fn check_cpus(&mut self, id: MachineId, kernel: Option<u32>) -> Result<(), Stop> {
        if !id.second {
            self.ledger.level(id.level).cpus_online = kernel;
        }
        // A level that was migrated may have got CPUs since.
        let current = self.machines.current(id.level).filter(|_| !id.second).unwrap_or(id);
        let Some(requested) = self.machines.requested(current) else { return Ok(()) };
        let parameters = requested.machine.boot.parameters().unwrap_or_default();
        let limits = |word: &str| {
            ["maxcpus=", "nr_cpus=", "possible_cpus="].iter().any(|start| word.starts_with(start))
                || word == "nosmp"
        };
        let is_limited = parameters.split_whitespace().any(limits);
        let machine = requested.machine.hardware.cpus;
        match kernel.filter(|kernel| *kernel != machine && !is_limited) {
            None => Ok(()),
            Some(kernel) => {
                Err(self.wrong_hardware(id.level, HardwareDifference::CpusOfKernel { machine, kernel }))
            }
        }
    }

    /// Runs the script `before` in a level that has just come up, queries the level, and stops the stack if it can't be a
    /// hypervisor.
    pub(super) async fn inspect(&mut self, up: &Level<Up>, before: String) -> Result<Level<Hosting>, Stop> {
        if let Some(windows) = Rc::clone(&up.state.host).windows() {
            return self.inspect_windows(up, windows).await;
        }
        let (id, level, plan) = (up.id, up.id.level, self.request.plan);
        let host = Rc::clone(&up.state.host);
        let facts = self.ask_facts(id, &*host, before).await?;
        self.check_kernel(id, &facts.kernel)?;
        self.check_system(id, &facts.os, &facts.os_version)?;
        self.check_root_disk(id, facts.root_disk.as_deref())?;
        self.check_cpus(id, facts.cpus)?;
        self.check_disk(id, &*host).await?;
        self.check_tpm(id, &*host).await?;
        self.load_crash_kernel(id, &*host).await?;
        self.ledger.measured(id).counters_before.insert(level, facts.counters.clone());
        if !id.second {
            self.clocks
                .first_reading(level, facts.uptime.map(|uptime| ClockReading { at: Instant::now(), uptime }));
            let below = level.below().and_then(|below| self.levels.facts(below));
            let missing = below.map(|below| below.flags_missing_in(&facts)).unwrap_or_default();
            let noted = self.ledger.level(level);
            noted.nested.clone_from(&facts.nested);
            noted.missing_features = missing;
            if plan.is_this_machine(level) {
                let measured = &mut self.ledger.measurements;
                measured.machine_counters_unreadable |= facts.counters.is_empty();
                measured.machine_nested_runs_uncounted |= lacks_nested_counter(&facts.counters, plan.profile);
            }
        }
        if !(facts.kvm_device && facts.kvm_module) {
            let (module, loaded) = (plan.profile.kvm_module.to_owned(), facts.kvm_module);
            let symptom = Symptom::NoKvm { level, module, loaded, said: facts.kvm_says, second: id.second };
            return Err(Stop::stack(self.stage, symptom));
        }
        let hosting = up.becomes(Hosting { host, facts });
        if !id.second {
            self.levels.add_hosting(hosting.clone());
        }
        Ok(hosting)
    }

    /// Runs the script `before` on a host and queries the host. A booted level that will run a nested guest is set up to count
    /// that.
    pub(super) async fn ask_facts(
        &mut self,
        id: impl Into<MachineId>,
        host: &dyn Host,
        before: String,
    ) -> Result<Facts, Stop> {
        let (id, plan) = (id.into(), self.request.plan);
        let ours = !plan.is_this_machine(id.level);
        let mut script = before + &self.errata().parameters_script(plan.profile.kvm_module);
        if ours && nests(id.level, plan.innermost()) {
            script.push_str(&count_nested_script(plan.profile));
        }
        self.during(id, host.facts(plan.profile, &script)).await
    }

    /// Notes the kernel that a level reports, and stops the stack if it is not its image's.
    pub(super) fn check_kernel(&mut self, id: MachineId, running: &str) -> Result<(), Stop> {
        if !id.second {
            self.ledger.level(id.level).kernel = Some(running.to_owned());
        }
        match self.request.level(id.level) {
            Some(plan) if !plan.image.kernel_release.is_empty() && plan.image.kernel_release != running => {
                let (image, level) = (&plan.image.kernel_release, id.in_words());
                Err(self.harness(format!("{level} runs kernel {running:?}, its image has {image:?}")))
            }
            _ => Ok(()),
        }
    }

    /// Notes the system that a level reports, and stops the stack if it is from a disk and does not run the system on that.
    pub(super) fn check_system(&mut self, id: MachineId, system: &str, version: &str) -> Result<(), Stop> {
        if !id.second && !system.is_empty() {
            self.ledger.level(id.level).system = Some(format!("{system} {version}").trim_end().to_owned());
        }
        // CentOS Stream calls itself centos in its os-release.
        let as_it_says = |system: &str| system.trim_end_matches("-stream").to_owned();
        let disk = self.request.level(id.level).and_then(|plan| plan.image.disk());
        let Some((own, of_version)) = disk.and_then(|disk| disk.system.as_ref()) else { return Ok(()) };
        if as_it_says(own) == as_it_says(system) && of_version == version {
            return Ok(());
        }
        let level = id.in_words();
        let running = match (system, version) {
            ("", "") => "a system without a name".to_owned(),
            _ => format!("{system} {version}"),
        };
        Err(self.harness(format!("{level} runs {running}, its disk has {own} {of_version}")))
    }

    /// Stops the stack if a level from a disk has its root file system on another disk. If the level inside it boots from the same
    /// medium, both disks have the same labels and identifiers.
    fn check_root_disk(&self, id: MachineId, root: Option<&str>) -> Result<(), Stop> {
        let boot = self.machines.requested(id).map(|requested| &requested.machine.boot);
        match (boot, root) {
            (Some(Boot::Disk(own)), Some(root)) if own.disk.serial != root => {
                let (level, own) = (id.in_words(), &own.disk.serial);
                Err(self
                    .harness(format!("{level} has its root file system on the disk {root}, not on {own}")))
            }
            _ => Ok(()),
        }
    }

    /// A level with a disk for its modprobe configuration must use it: otherwise a reboot shows nothing.
    async fn check_disk(&mut self, id: MachineId, host: &dyn Host) -> Result<(), Stop> {
        if self.request.level(id.level).is_none_or(|plan| plan.disk.is_none()) {
            return Ok(());
        }
        let mounted = self.during(id, host.run("grep -q '^/dev/.* /etc/modprobe.d ' /proc/mounts")).await?;
        match mounted.status {
            Some(0) => Ok(()),
            _ => Err(self.harness(format!("{} does not use its disk", id.level)).about(id.level)),
        }
    }
}
