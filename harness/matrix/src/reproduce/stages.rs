//! The stack in a script: its images, and its stages in the order of `stack::boot`.

use std::ffi::OsStr;
use std::fmt::Write as _;

use nestmatrix_model::{Command, Isa, Launch, LevelNumber, OwnAction, Stage, StageKind, StepAction};
use nestmatrix_stack::host::{WithVirtio, swtpm_script};
use nestmatrix_stack::launcher::{hercules, libvirt};
use nestmatrix_stack::{Hypervisor, StackPlan, prepare_script};
use nestmatrix_vmm::qemu::{Boot, Instance, Machine, swtpm_arguments};
use nestmatrix_vmm::shell::quote;

use super::left_out::{not_done, not_inflicted};
use super::outcome::word as name_of;
use super::placement::{InLevel, InWorkingFolder};
use super::script::Reproduction;
use super::words::{NONCE, argument, command_line, comment, here_document, word};

/// The functions `images`, `stack` and `bring_files`.
pub(super) fn functions(of: &Reproduction<'_>, plan: &StackPlan) -> Option<String> {
    let mut writer = Writer { of, plan, text: String::new() };
    writer.images()?;
    writer.stack()?;
    writer.bring_files();
    Some(writer.text)
}

/// The QEMU command lines of a stack that a script can't boot, as comments.
pub(super) fn command_lines(plan: &StackPlan) -> Option<String> {
    let mut text = "# The command lines of the QEMUs, without the ports of guest agents. Files have the names of their disks.\n".to_owned();
    for index in 0..plan.levels.len() {
        let machine = plan.machine(index, Instance::First);
        let arguments = match index {
            0 => machine.arguments(&InWorkingFolder),
            _ => machine.arguments(&InLevel),
        };
        let where_it_runs =
            machine.level.below().map_or_else(|| "this machine".to_owned(), |host| host.to_string());
        let host = index.checked_sub(1).and_then(|host| plan.levels[host].image.disk());
        let program = host.and_then(|disk| disk.qemu.as_deref()).unwrap_or(plan.profile.qemu);
        let command = command_line(program, &arguments, "    ")?;
        let _ = writeln!(text, "#\n# {}, on {where_it_runs}:", machine.level);
        for line in command.lines() {
            let _ = writeln!(text, "#   {}", comment(line));
        }
    }
    text.push('\n');
    Some(text)
}

struct Writer<'a> {
    of: &'a Reproduction<'a>,
    plan: &'a StackPlan,
    text: String,
}

impl Writer<'_> {
    /// Adds a line within a function.
    fn line(&mut self, line: &str) {
        // Writing to a String can't fail.
        let _ = writeln!(self.text, "    {line}");
    }

    fn images(&mut self) -> Option<()> {
        self.text.push_str("images() {\n");
        let Reproduction { program, emulator, .. } = self.of;
        let (name, digest) =
            emulator.as_ref().map_or_else(Default::default, |image| (image.folder(), image.digest.clone()));
        let isa = Isa::of_this_machine().map_or(std::env::consts::ARCH, |isa| isa.info().machines[0]);
        self.line(&format!("emulator {} {} {} {isa}", word(&name), word(&digest), word(program)));
        for (index, level) in self.plan.levels.iter().enumerate() {
            self.swtpm(index, isa)?;
            let image = self.of.image(level.level)?;
            let (uefi, number) = (level.uefi.as_ref(), level.level);
            let (level, variable) = (name_of(number), number.to_string());
            if let Some(uefi) = uefi {
                let image = self.of.firmware(number)?;
                let files = [&uefi.code, &uefi.base_variables]
                    .map(|path| path.file_name().map(OsStr::to_string_lossy));
                let [Some(code), Some(variables)] = files else { return None };
                let (name, digest) = (word(&image.folder()), word(&image.digest));
                self.line(&format!(
                    "firmware_image {level} {name} {digest} {} {}",
                    word(&code),
                    word(&variables)
                ));
            }
            self.line(&format!(
                "level_image {level} {} {} \"${{{variable}_KERNEL:-}}\" \"${{{variable}_INITRAMFS:-}}\"",
                word(&image.folder()),
                word(&image.digest)
            ));
        }
        if self.plan.levels.iter().any(|level| level.disk.is_some()) {
            self.line(
                "dd if=/dev/zero of=own bs=1048576 count=4 2> /dev/null || cannot \"the disk is full\"",
            );
        }
        self.text.push_str("}\n\n");
        Some(())
    }

    /// The swtpm that plays the TPM of a level, if it has one.
    fn swtpm(&mut self, index: usize, isa: &str) -> Option<()> {
        let machine = self.plan.machine(index, Instance::First);
        let Some(folder) = machine.hardware.tpm_folder() else { return Some(()) };
        let image = self.of.swtpm(machine.level);
        let (name, digest) =
            image.map_or_else(Default::default, |image| (image.folder(), image.digest.clone()));
        let (name, digest) = (word(&name), word(&digest));
        if index == 0 {
            let arguments = swtpm_arguments().join(" ");
            self.line(&format!("swtpm_here {} {name} {digest} {isa} {arguments}", word(folder)));
        } else {
            image?;
            self.line(&format!("swtpm_image {} {name} {digest}", name_of(machine.level)));
        }
        Some(())
    }

    fn stack(&mut self) -> Option<()> {
        let unwritable = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        let commands = self.of.steps.iter().filter_map(|step| match &step.action {
            StepAction::Run(command) => Some(command),
            StepAction::Own { .. }
            | StepAction::Chain { .. }
            | StepAction::Suite(_)
            | StepAction::Payload(_)
            | StepAction::Measure(_) => None,
        });
        let mut texts = commands.flat_map(|command| command.output.iter().chain([&command.run]));
        if texts.any(|text| text.contains(unwritable)) {
            return None;
        }
        self.text.push_str(
            "# In the working folder, l0-kernel and the like are links to what images() has found, l1.qmp and the like the FIFOs\n\
             # l1.qmp.in and l1.qmp.out. The command lines of inner levels are typed at the console of the level around.\n\
             stack() {\n",
        );
        if let Some(machine) = self.plan.this_machine() {
            self.begin(machine, StageKind::Kvm);
            self.line(&format!("must_host_here {}", self.plan.profile.kvm_module));
            self.end(Stage::Level(machine, StageKind::Kvm));
        }
        for index in 0..self.plan.levels.len() {
            self.level(index)?;
        }
        let innermost = self.plan.innermost();
        if !innermost.reports() {
            self.line(&format!("must_give_back {}", name_of(innermost)));
        }
        self.text.push_str("}\n\n");
        Some(())
    }

    fn level(&mut self, index: usize) -> Option<()> {
        let level = self.plan.levels[index].level;
        let name = name_of(level);
        let machine = self.machine(index);
        self.begin(level, StageKind::Launch);
        self.launch(index, &machine)?;
        if machine.has_monitor() {
            self.check_machine(&machine);
        }
        self.end(Stage::Level(level, StageKind::Launch));

        self.begin(level, StageKind::Boot);
        if machine.has_monitor() {
            self.line(&format!("qmp {name} cont"));
        }
        if self.plan.reports(level) {
            self.line(&format!("await \"$logs/{name}.console.log\" nestmatrix-report-begin"));
            self.end(Stage::Level(level, StageKind::Boot));
            self.begin(level, StageKind::Check);
            self.line(&format!("must_report {name} {}", word(self.plan.profile.kvm_as_seen_by_guest)));
            if self.plan.stays {
                self.line(&format!("take_commands {name}"));
            }
            self.end(Stage::Level(level, StageKind::Check));
            if let Some(ready) = self.plan.levels[index].settings.ready() {
                self.begin(level, StageKind::Ready);
                self.line(&format!("must_work {name} {}", word(ready)));
                self.end(Stage::Level(level, StageKind::Ready));
            }
        } else {
            self.line(&format!("take_commands {name}"));
            self.end(Stage::Level(level, StageKind::Boot));
            self.begin(level, StageKind::Kvm);
            self.line(&format!("must_host {name} {}", self.plan.profile.kvm_module));
            self.end(Stage::Level(level, StageKind::Kvm));
        }
        Some(())
    }

    fn machine(&self, index: usize) -> Machine {
        let mut machine = self.plan.machine(index, Instance::First);
        let is_host = !self.plan.reports(machine.level) && machine.has_monitor();
        if let (true, Boot::Kernel(boot)) = (is_host, &mut machine.boot) {
            boot.parameters.push_str(" nest.console=shell");
        }
        machine
    }

    /// The QEMU of a level: of the outermost one on this machine, of any other in the level around it.
    fn launch(&mut self, index: usize, machine: &Machine) -> Option<()> {
        let name = name_of(machine.level);
        match index.checked_sub(1) {
            None if !machine.has_monitor() => self.launch_hercules(&name, machine)?,
            None => {
                let arguments = machine.arguments(&InWorkingFolder);
                let call = command_line(&format!("outermost {name}"), &arguments, "        ")?;
                self.line(&call);
                self.line(&format!("monitor {name}"));
            }
            Some(outer) => {
                let host = name_of(self.plan.levels[outer].level);
                let command = match machine.launch {
                    Launch::Qemu => {
                        command_line(self.plan.profile.qemu, &machine.arguments(&InLevel), "    ")?
                    }
                    Launch::Libvirt => self.create_domain(machine),
                    launch @ (Launch::HyperV | Launch::Wsl2) => {
                        self.line(&format!("# The Windows of {host} starts {name} by {launch}."));
                        return Some(());
                    }
                };
                let traffic = match machine.hardware.has_traffic() {
                    true => prepare_script(&machine.label()),
                    false => String::new(),
                };
                let swtpm: String = swtpm_script(machine, &InLevel)
                    .lines()
                    .map(|line| format!("{}\n", line.trim()))
                    .collect();
                let document = here_document(&format!("{traffic}{swtpm}{command} &"));
                self.line(&format!("launch {host} {name} {}", document.trim_end_matches('\n')));
            }
        }
        Some(())
    }

    /// A command that lasts as long as the QEMU that libvirt starts.
    fn create_domain(&self, machine: &Machine) -> String {
        const PLACE_OF_NONCE: &str = "@nonce@";
        let label = machine.label();
        let xml = format!("/run/nest/{label}.xml");
        let written = libvirt::write_script(machine, &InLevel, self.plan.profile.qemu, &xml);
        let written = written.replace(NONCE, PLACE_OF_NONCE);
        let fill = format!("sed -i \"s/{PLACE_OF_NONCE}/$nonce/\" {xml}\n");
        let create = libvirt::create_script(machine, &xml);
        // A fault finds QEMU through the level's pid file, which holds the shell's number until then.
        let wait = format!(
            "pid=$(cat /run/libvirt/qemu/{label}.pid) && echo $pid > /run/nest/{}.pid\nwhile {}; do sleep 1; done\n{}\n",
            name_of(machine.level),
            libvirt::runs_script("$pid"),
            libvirt::said_script(&label)
        );
        format!("(\n{written}{fill}{create}{wait})")
    }

    /// Hercules has hardly any command line. It reads a configuration, and a list of the files to load.
    fn launch_hercules(&mut self, name: &str, machine: &Machine) -> Option<()> {
        for (file, content) in
            [("hercules.cnf", hercules::configuration(machine)), ("l0.ins", hercules::load_list())]
        {
            self.line(&format!("cat > {file} {}", here_document(&content).trim_end_matches('\n')));
        }
        let parameters = argument(&machine.boot.kernel()?.parameters)?;
        self.line(&format!("hercules_files {name} {parameters} {}", hercules::INITRAMFS_AT));
        // With EXTERNALGUI, which must come last, it reads commands from standard input.
        self.line(&format!("outermost {name} -f hercules.cnf -d EXTERNALGUI"));
        Some(())
    }

    /// What `Stack::query_machine` asks.
    fn check_machine(&mut self, machine: &Machine) {
        let name = name_of(machine.level);
        if self.plan.hypervisor_of(machine.level) == Hypervisor::Kvm {
            self.line(&format!("must_run_with_kvm {name}"));
        }
        for property in &machine.require {
            self.line(&format!("must_have_property {name} {}", quote(property)));
        }
        self.line(&format!("must_have_cpus {name} {}", machine.hardware.cpus));
        for feature in &machine.cpu.disable {
            self.line(&format!("must_not_have_feature {name} {}", quote(feature)));
        }
        for device in machine.hardware.devices.iter().filter(|device| device.has_identifier()) {
            self.line(&format!("must_have_device {name} {}", quote(&device.name)));
        }
        let mut features = machine.cpu.require.clone();
        features.sort();
        for feature in &features {
            let model = quote(&machine.cpu.model);
            self.line(&format!("must_have_feature {name} {} {model}", quote(feature)));
        }
    }

    fn enter(&mut self, stage: Stage, level: LevelNumber) {
        let limit = self.of.limits.of(level);
        let (silence, total) = (limit.silence.as_secs(), limit.total.as_secs());
        let _ = writeln!(self.text, "    stage {stage} {silence} {total}");
    }

    fn begin(&mut self, level: LevelNumber, kind: StageKind) {
        let stage = Stage::Level(level, kind);
        if !self.text.ends_with("{\n") {
            self.text.push('\n');
        }
        self.enter(stage, level);
        for fault in self.of.faults.iter().filter(|fault| fault.at == stage) {
            match not_inflicted(fault) {
                None => {
                    let first = self.plan.levels.first().map(|plan| plan.level);
                    let host = fault.level.below().filter(|_| Some(fault.level) != first);
                    let host = host.map(name_of).unwrap_or_default();
                    self.line(format!("kill_qemu {} {host}", name_of(fault.level)).trim_end());
                }
                Some(what) => self.line(&format!("not_here {}", word(what))),
            }
        }
    }

    /// The steps that follow the stage `done`.
    fn end(&mut self, done: Stage) {
        for (index, step) in self.of.steps.iter().enumerate().filter(|(_, step)| step.after == done) {
            self.text.push('\n');
            let _ = writeln!(self.text, "    # {}", comment(&step.name));
            self.enter(Stage::Step(u8::try_from(index + 1).unwrap_or(u8::MAX)), step.on);
            let on = name_of(step.on);
            if step.repeat > 1 {
                self.line("round=0");
                self.line(&format!("while [ $round -lt {} ]; do", step.repeat));
            }
            match &step.action {
                StepAction::Run(command) => self.step(step.on, command),
                StepAction::Own { action: OwnAction::Measure } => {
                    self.line("# nestmatrix times three loops here, for the record; the outcome does not hang on it.");
                }
                StepAction::Own { action: OwnAction::Reboot } => {
                    self.line(&format!("reboot {on} {}", self.plan.profile.kvm_module));
                }
                action @ (StepAction::Own { .. }
                | StepAction::Chain { .. }
                | StepAction::Suite(_)
                | StepAction::Payload(_)
                | StepAction::Measure(_)) => {
                    let why = not_done(action).unwrap_or_default();
                    self.line(&format!("not_here {}", word(why.trim_start_matches("nestmatrix "))));
                }
            }
            if step.repeat > 1 {
                self.line("round=$((round + 1))");
                self.line("done");
            }
        }
    }

    fn step(&mut self, on: LevelNumber, command: &Command) {
        let ends = match command.status {
            Some(status) => status.to_string(),
            None => if command.fails { "yes" } else { "no" }.to_owned(),
        };
        // In single quotes, a line end needs no escape.
        let output = quote(command.output.as_deref().unwrap_or_default());
        let script = format!("{}\n{}", self.plan.variables_of_steps(on), command.run);
        let on = name_of(on);
        let document = here_document(&script);
        self.line(&format!("step {on} {ends} {output} {}", document.trim_end_matches('\n')));
    }

    /// The lines that are typed before the command line of a level's QEMU.
    fn bring_files(&mut self) {
        self.text.push_str(
            "# What is typed in a level before the QEMU of the next one: its disks and ports by their names, kernel and\n\
             # initramfs as files.\nbring_files() {\n    case $1 in\n",
        );
        for index in 1..self.plan.levels.len() {
            let machine = self.machine(index);
            let script = WithVirtio.bring_files(&machine);
            let lines: Vec<&str> = script.lines().map(str::trim).collect();
            let document = here_document(&lines.join("\n"));
            let _ =
                writeln!(self.text, "    {})\n        cat {}        ;;", name_of(machine.level), document);
        }
        self.text.push_str("    esac\n}\n\n");
    }
}
