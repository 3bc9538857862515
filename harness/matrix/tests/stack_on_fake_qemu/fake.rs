//! A stack of three levels on the fake QEMU: how it deviates, and the result of its boot.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nestmatrix::run::Verdict;
use nestmatrix::scenario::{Expectation, Limitation, StopStage};
use nestmatrix_images::{BuiltSuite, Disk};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{
    Architecture, Clock, Command, Fault, FaultAction, Hardware, LevelNumber, Measure, OwnAction, Payload,
    Stage, Step, StepAction, StepTimeout, Suite,
};
use nestmatrix_stack::host::{
    ClosingReport, Emulator, Facts, Host, HostError, MachineHost, Pending, ThisMachine,
};
use nestmatrix_stack::{
    BootFiles, BootImage, BootRequest, Cancellation, Draft, Finished, HostReboot, Inputs, Inspector,
    LevelPlan, Limits, MachineSettings, Metal, Observation, Snapshot, SnapshotCache, SnapshotSaver,
    StackPlan, StageListener, Stop, SwtpmArchive, SystemDisk, UserProgram, boot,
};
use nestmatrix_vmm::guest::ExecOutput;
use nestmatrix_vmm::qemu::{ExecWrapper, Memory};

use crate::script::{self, Act, End, How, Reply, Script};

/// The nonce that the innermost level must return. An installed system reads it from the identifier of its machine.
pub const NONCE: &str = "00112233445566778899aabbccddeeff";
/// How long a boot may take before its test fails, whatever the limits are.
const HANGS: Duration = Duration::from_secs(15);

/// A change of a plan.
type Change = Box<dyn FnOnce(&mut StackPlan)>;

/// A stack to boot. It works, except for its deviations.
pub struct Fake {
    script: Script,
    limits: Limits,
    steps: Vec<Step>,
    suites: Vec<Arc<BuiltSuite>>,
    programs: Vec<UserProgram>,
    faults: Vec<Fault>,
    hangs: Duration,
    metal: Metal,
    innermost: u8,
    interrupted_after: Option<Duration>,
    saves: Option<Saver>,
    inspector: Option<Rc<dyn Inspector>>,
    restores: Option<Snapshot>,
    rebooted: Option<HostReboot>,
    asks_cpu_models: bool,
    settings: BTreeMap<u8, MachineSettings>,
    disks: BTreeMap<u8, SystemDisk>,
    swtpm: Option<PathBuf>,
    changes: Vec<Change>,
    wrapper: ExecWrapper,
    folder: tempfile::TempDir,
}

impl Fake {
    /// A stack that works, with limits that it does not reach.
    pub fn new() -> Self {
        Self {
            script: Script::default(),
            limits: Limits::fixed(Duration::from_secs(10)),
            steps: Vec::new(),
            suites: Vec::new(),
            programs: Vec::new(),
            faults: Vec::new(),
            hangs: HANGS,
            metal: Metal::Emulated,
            innermost: 2,
            interrupted_after: None,
            saves: None,
            inspector: None,
            restores: None,
            rebooted: None,
            asks_cpu_models: false,
            settings: BTreeMap::new(),
            disks: BTreeMap::new(),
            swtpm: None,
            changes: Vec::new(),
            wrapper: ExecWrapper::new(Vec::<OsString>::new()),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The folder of everything that the boot writes. Its path is on the command line of each of its QEMUs.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The emulator starts in a sandbox, which is this program.
    pub fn in_sandbox(self, words: &[&str]) -> Self {
        Self { wrapper: self.wrapper.with_sandbox(words), ..self }
    }

    /// The user interrupts the boot after this time.
    pub fn interrupted_after(self, time: Duration) -> Self {
        Self { interrupted_after: Some(time), ..self }
    }

    /// A snapshot is saved in this cache once the level is up.
    pub fn saved_at(self, level: LevelNumber, cache: &Rc<SnapshotCache>) -> Self {
        Self { saves: Some(Saver { level, cache: Rc::clone(cache) }), ..self }
    }

    /// The scenario sets this for the level's machine.
    pub fn with_settings(mut self, level: u8, settings: MachineSettings) -> Self {
        self.settings.insert(level, settings);
        self
    }

    /// This program plays the TPM of L0.
    pub fn with_swtpm(self, swtpm: PathBuf) -> Self {
        Self { swtpm: Some(swtpm), ..self }
    }

    /// The level boots from this disk.
    pub fn with_disk(mut self, level: u8, disk: SystemDisk) -> Self {
        self.disks.insert(level, disk);
        self
    }

    /// L0 has two CPUs, and nothing keeps guests off the first one. A limit has this effect here; otherwise an L0 from a disk has it,
    /// which the program that plays QEMU can't be.
    pub fn with_guests_on_first_cpu(self) -> Self {
        let hardware = Hardware { cpus: Some(2), ..Hardware::default() };
        let kernel_parameters = vec!["maxcpus=1".to_owned()];
        self.with_settings(0, MachineSettings { hardware, kernel_parameters, ..MachineSettings::default() })
    }

    /// Its plan is changed in this way.
    pub fn with_plan(mut self, change: impl FnOnce(&mut StackPlan) + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// It is booted in a debug session.
    pub fn inspected_by(self, inspector: Rc<dyn Inspector>) -> Self {
        Self { inspector: Some(inspector), ..self }
    }

    /// The QEMU of its innermost level is asked for its CPU models.
    pub fn asking_cpu_models(self) -> Self {
        Self { asks_cpu_models: true, ..self }
    }

    /// It is restored from this snapshot.
    pub fn restored_from(self, snapshot: Snapshot) -> Self {
        Self { restores: Some(snapshot), ..self }
    }

    /// This machine was rebooted for it, after this.
    pub fn after_reboot(self, rebooted: HostReboot) -> Self {
        Self { rebooted: Some(rebooted), ..self }
    }

    /// This machine is L0, and its KVM works, whatever this machine really is.
    pub fn on_native_metal(self) -> Self {
        Self { metal: Metal::Native, ..self }
    }

    /// The time limit of every stage, busy or silent.
    pub fn limited_to(self, limit: Duration) -> Self {
        Self { limits: Limits::fixed(limit), ..self }
    }

    /// The limit of silence of every stage. A busy stage has six times as long.
    pub fn silent_for_at_most(self, silence: Duration) -> Self {
        let unscaled = Limits::new(Metal::Native, 1.0).of(level(0)).silence;
        Self { limits: Limits::new(Metal::Native, silence.div_duration_f64(unscaled)), ..self }
    }

    /// The test fails if the boot takes longer.
    pub fn hangs_after(self, hangs: Duration) -> Self {
        Self { hangs, ..self }
    }

    /// The level does this when it boots.
    pub fn boots(mut self, level: u8, acts: impl Into<Vec<Act>>) -> Self {
        self.script.boots.insert(level, acts.into());
        self
    }

    /// The level does this when it should power off or panic.
    pub fn goes_down(mut self, level: u8, acts: impl Into<Vec<Act>>) -> Self {
        self.script.goes_down.insert(level, acts.into());
        self
    }

    /// The level does this after a reset before it is up again.
    pub fn after_reset(mut self, level: u8, acts: impl Into<Vec<Act>>) -> Self {
        self.script.after_reset.insert(level, acts.into());
        self
    }

    /// The level's QEMU uses a whole CPU.
    pub fn busy(mut self, level: u8) -> Self {
        self.script.busy.push(level);
        self
    }

    /// A command in a level whose script contains `contains` ends like this, after this many milliseconds.
    pub fn command(mut self, level: u8, contains: &str, after: u64, end: End) -> Self {
        let contains = contains.to_owned();
        self.script.commands.push(script::Command { level, contains, after: Some(after), end });
        self
    }

    /// A command in a level whose script contains `contains` never ends.
    pub fn command_never_ends(mut self, level: u8, contains: &str) -> Self {
        let contains = contains.to_owned();
        self.script.commands.push(script::Command { level, contains, after: None, end: exit(0, "") });
        self
    }

    /// The process that should become the level's QEMU ends like this, right away.
    pub fn qemu_ends(self, level: u8, end: End) -> Self {
        self.command(level - 1, &format!("-name L{level}"), 5, end)
    }

    /// A request gets this answer.
    pub fn reply(self, channel: &str, command: &str, how: How) -> Self {
        self.late_reply(0, "", channel, command, how)
    }

    /// Requests whose usual reply contains `contains` get this answer, after this many usual answers.
    pub fn late_reply(mut self, skip: usize, contains: &str, channel: &str, command: &str, how: How) -> Self {
        let (channel, command) = (channel.to_owned(), command.to_owned());
        let contains = contains.to_owned();
        self.script.replies.push(Reply { channel, command, contains, skip, how });
        self
    }

    /// After a stage, a command runs in a level; it should succeed.
    pub fn step(mut self, after: &str, on: u8, run: &str) -> Self {
        self.steps.push(Step {
            timeout: None,
            repeat: 1,
            reads: false,
            name: "step".into(),
            after: stage(after),
            on: level(on),
            action: StepAction::Run(Command { run: run.into(), fails: false, status: None, output: None }),
        });
        self
    }

    /// The time limit of the last added step.
    pub fn within(mut self, timeout: StepTimeout) -> Self {
        self.steps.last_mut().unwrap().timeout = Some(timeout);
        self
    }

    /// The harness injects this fault into a level when a stage begins.
    pub fn fault(mut self, at: &str, action: FaultAction, of: u8) -> Self {
        self.faults.push(Fault { at: stage(at), action, level: level(of), second: false });
        self
    }

    /// The last added fault is for the second machine of its level.
    pub fn of_the_second(mut self) -> Self {
        self.faults.last_mut().unwrap().second = true;
        self
    }

    /// After a stage, the harness performs this action on a level.
    pub fn does(mut self, after: &str, on: u8, action: OwnAction) -> Self {
        self.steps.push(Step {
            timeout: None,
            repeat: 1,
            reads: false,
            name: "step".into(),
            after: stage(after),
            on: level(on),
            action: StepAction::Own { action },
        });
        self
    }

    /// After a stage, the harness performs these actions on a level, this many times.
    pub fn lives_through(mut self, after: &str, on: u8, chain: &[OwnAction], repeat: u32) -> Self {
        let action = StepAction::Chain { chain: chain.to_vec() };
        let (after, on) = (stage(after), level(on));
        self.steps.push(Step { name: "step".into(), after, on, action, reads: false, repeat, timeout: None });
        self
    }

    /// After a stage, a level runs tests of a suite.
    pub fn runs_suite(mut self, after: &str, on: u8, suite: Suite, built: Arc<BuiltSuite>) -> Self {
        self.suites.push(built);
        self.steps.push(Step {
            timeout: None,
            reads: false,
            repeat: 1,
            name: "suite".into(),
            after: stage(after),
            on: level(on),
            action: StepAction::Suite(suite),
        });
        self
    }

    /// After a stage, a level and those that it is compared with are measured.
    pub fn measures(mut self, after: &str, on: u8, measure: Measure) -> Self {
        self.steps.push(Step {
            timeout: None,
            reads: false,
            repeat: 1,
            name: "step".into(),
            after: stage(after),
            on: level(on),
            action: StepAction::Measure(measure),
        });
        self
    }

    /// After a stage, a level runs a program of the user. Without a program of its name, none was added.
    pub fn runs_program(
        mut self,
        after: &str,
        on: u8,
        payload: Payload,
        program: Option<UserProgram>,
    ) -> Self {
        self.programs.extend(program);
        self.steps.push(Step {
            timeout: None,
            reads: false,
            repeat: 1,
            name: "program".into(),
            after: stage(after),
            on: level(on),
            action: StepAction::Payload(payload),
        });
        self
    }

    /// The stack has levels up to this one.
    pub fn up_to(self, innermost: u8) -> Self {
        Self { innermost, ..self }
    }

    /// Boots L0, L1 and L2, or the levels that the test chose; on native metal, those from L1 on.
    pub async fn boot(self) -> Booted {
        let folder = self.folder;
        let records = folder.path().join("records");
        let sockets = folder.path().join("s");
        std::fs::create_dir(&records).unwrap();
        std::fs::create_dir(&sockets).unwrap();
        let script = folder.path().join(script::FILE);
        std::fs::write(&script, serde_json::to_vec(&self.script).unwrap()).unwrap();
        let memory = match (&self.restores, &self.saves) {
            (Some(snapshot), _) => Memory::Snapshot(snapshot.memory()),
            (None, Some(_)) => {
                let memory = folder.path().join("memory");
                std::fs::write(&memory, [1; 4096]).unwrap();
                Memory::Shared(memory)
            }
            (None, None) => Memory::Private,
        };
        let mut plan = StackPlan {
            metal: self.metal,
            profile: profile(),
            levels: (u8::from(self.metal == Metal::Native)..=self.innermost)
                .map(|number| {
                    let mut plan = level_plan(number, script.clone());
                    plan.settings = self.settings.get(&number).cloned().unwrap_or_default();
                    plan.swtpm = plan
                        .settings
                        .hardware
                        .tpm
                        .map(|_| SwtpmArchive { name: "swtpm".into(), archive: "/images/swtpm".into() });
                    if let Some(disk) = self.disks.get(&number) {
                        plan.image.files = BootFiles::Disk(disk.clone());
                    }
                    plan
                })
                .collect(),
            nonce: NONCE.into(),
            stays: self.steps.iter().any(|step| step.needs_innermost(level(self.innermost))),
            second: self.steps.iter().find_map(Step::second_machine),
            saved: self.steps.iter().filter_map(Step::saved_level).collect(),
            plugged: self.steps.iter().filter_map(Step::plugged_level).collect(),
            other_qemus: BTreeMap::new(),
            machine_types: BTreeMap::new(),
            memory,
            restored_from: self.restores.is_some(),
            innermost_machine: None,
            default_firmware: BTreeSet::new(),
            clock: Clock::Fastest,
            innermost_on_l0: false,
        };
        self.changes.into_iter().for_each(|change| change(&mut plan));
        let this_machine = ThisMachine {
            emulator: Emulator::Installed(env!("CARGO_BIN_EXE_fake-qemu").into()),
            program: profile().qemu,
            swtpm: self.swtpm.clone().map(Emulator::Installed),
            wrapper: self.wrapper,
            sockets,
            files: records.clone(),
            records: records.clone(),
            saves: self.saves.is_some(),
        };
        let (interrupt, cancellation) = Cancellation::new();
        let ascent = BootRequest {
            plan: &plan,
            this_machine: match self.metal {
                Metal::Emulated => Rc::new(this_machine),
                Metal::Native => Rc::new(Hypervisor(this_machine)),
            },
            limits: self.limits,
            faults: &self.faults,
            steps: &self.steps,
            suites: &self.suites,
            programs: &self.programs,
            records: &records,
            started: Instant::now(),
            listener: &NoListener,
            cancellation,
            from: self.restores.as_ref(),
            saver: self.saves.as_ref().map(|saver| saver as &dyn SnapshotSaver),
            asks_cpu_models: self.asks_cpu_models,
            rebooted: self.rebooted.as_ref(),
            inspector: self.inspector.as_deref(),
            images: BTreeMap::new(),
        };
        let local = tokio::task::LocalSet::new();
        if let Some(time) = self.interrupted_after {
            local.spawn_local(async move {
                tokio::time::sleep(time).await;
                let _ = interrupt.send(true);
            });
        }
        let booted = local.run_until(tokio::time::timeout(self.hangs, boot(ascent))).await;
        let observation = booted.expect("the boot ends by itself");
        Booted { observation, innermost: self.innermost, records, _folder: folder }
    }
}

/// A stack that was booted and has ended.
pub struct Booted {
    /// The observation.
    pub observation: Observation,
    innermost: u8,
    /// The records of its channels.
    pub records: PathBuf,
    _folder: tempfile::TempDir,
}

impl Booted {
    /// The verdict for this expectation.
    pub fn judged(&self, expectation: &Expectation) -> Verdict {
        Verdict::judge(expectation, &self.observation, level(self.innermost), profile())
    }

    /// The verdict's name, if the stack should work.
    pub fn word(&self) -> String {
        self.judged(&Expectation::WORKS).word().to_string()
    }

    /// The verdict's name and symptom, if the stack should work.
    pub fn word_and_symptom(&self) -> String {
        let verdict = self.judged(&Expectation::WORKS);
        format!("{}: {}", verdict.word(), verdict.stop().map(text).unwrap_or_default())
    }

    /// The verdict's name, if the stack should stop at a stage or later, whatever the symptom.
    pub fn word_if_it_stops_from(&self, first: &str) -> String {
        let limitation = Limitation::new(StopStage::From(stage(first)), None);
        self.judged(&Expectation::Stops { limitation, known_stale: None }).word().to_string()
    }

    /// Where it stopped and why, in one line; empty if it did not.
    pub fn stopped(&self) -> String {
        self.observation.stop.as_ref().map_or(String::new(), |stop| format!("{}: {}", stop.stage, text(stop)))
    }

    /// Whether it stopped because it ran out of time.
    pub fn timed_out(&self) -> bool {
        self.observation.stop.as_ref().is_some_and(timed_out)
    }
}

/// The symptom as text.
fn text(stop: &Stop) -> String {
    stop.symptom.to_string()
}

/// Whether a time limit was reached.
fn timed_out(stop: &Stop) -> bool {
    stop.is_timeout()
}

/// Boots this many stacks in parallel, which makes them wait for a CPU.
pub fn boot_many(number: usize, fake: impl Fn() -> Fake + Sync) -> Vec<Booted> {
    let boot = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fake().boot())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..number).map(|_| scope.spawn(boot)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A process that exits with this status after it has written `stderr`.
pub fn exit(status: i64, stderr: &str) -> End {
    End { status: Some(status), signal: None, stdout: String::new(), stderr: stderr.to_owned() }
}

/// A process that succeeds after it has written `stdout`.
pub fn prints(stdout: &str) -> End {
    End { stdout: stdout.to_owned(), ..exit(0, "") }
}

/// A process that a signal ends.
pub fn signal(signal: i64) -> End {
    End { status: None, signal: Some(signal), stdout: String::new(), stderr: String::new() }
}

pub fn level(number: u8) -> LevelNumber {
    LevelNumber::new(number).unwrap()
}

fn stage(name: &str) -> Stage {
    name.parse().unwrap()
}

fn profile() -> &'static ArchInfo {
    ArchInfo::of(Architecture::Amd)
}

/// A level whose images are only names. The initramfs of the outermost one is the fake's script.
fn level_plan(number: u8, script: PathBuf) -> LevelPlan {
    let disk = Disk { path: format!("/images/l{number}").into(), kernel: 0..10, initramfs: 65536..65600 };
    LevelPlan {
        level: level(number),
        image: BootImage {
            name: format!("image {number}"),
            kernel_release: script::KERNEL.into(),
            files: BootFiles::Kernel {
                kernel: format!("/images/kernel-{number}").into(),
                initramfs: script,
                disk: (number > 0).then_some(disk),
            },
        },
        settings: MachineSettings::default(),
        disk: None,
        uefi: None,
        unified_kernel: None,
        guest_volume: None,
        swtpm: None,
    }
}

/// This machine as an L0 that has KVM.
struct Hypervisor(ThisMachine);

impl Host for Hypervisor {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn run<'a>(&'a self, script: &'a str) -> Pending<'a, ExecOutput> {
        self.0.run(script)
    }

    fn machine_host(self: Rc<Self>) -> Result<Rc<dyn MachineHost>, HostError> {
        Ok(Rc::new(self.0.clone()))
    }

    fn closing_report(&self) -> Pending<'_, ClosingReport> {
        Box::pin(std::future::ready(Ok(ClosingReport::default())))
    }

    fn facts<'a>(&'a self, _profile: &'a ArchInfo, _before: &'a str) -> Pending<'a, Facts> {
        let nested = Some("1".to_owned());
        let facts = Facts { kvm_device: true, kvm_module: true, nested, ..Facts::default() };
        Box::pin(std::future::ready(Ok(facts)))
    }
}

/// Saves one snapshot.
struct Saver {
    level: LevelNumber,
    cache: Rc<SnapshotCache>,
}

impl SnapshotSaver for Saver {
    fn draft(&self, level: LevelNumber) -> Option<Draft> {
        (level == self.level).then(|| self.cache.draft(level, Inputs::new()).unwrap())
    }

    fn saved(&self, _level: LevelNumber, finished: Result<Finished, String>) {
        self.cache.publish(finished.unwrap()).unwrap();
    }
}

/// Listens to nothing.
struct NoListener;

impl StageListener for NoListener {
    fn stage_began(&self, _stage: Stage) {}
}
