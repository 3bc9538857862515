//! How programs get into an innermost level that has no agent: as a further archive of its initramfs, which is appended when the level
//! is launched (kernel: Documentation/driver-api/early-userspace/buffer-format.rst). So the machines around it stay as they are, and
//! snapshots of them stay valid.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nestmatrix_model::Step;
use nestmatrix_vmm::qemu::{Boot, Machine};
use nestmatrix_vmm::shell::quote;
use tempfile::{NamedTempFile, TempDir};

use super::{FOLDER, UserProgram, script};
use crate::Stop;
use crate::exec::{CopiedFile, Then, copy};
use crate::host::{Host, HostError};
use crate::stack::Stack;

/// Where the scripts are in the level.
const SCRIPTS: &str = "/tmp/nestmatrix/steps";

/// The archive for the innermost level, and the initramfs that has it if this machine launches that level.
#[derive(Debug)]
pub(crate) struct Archive {
    folder: TempDir,
    /// The script of each stage whose step runs a program.
    scripts: BTreeMap<String, String>,
    whole: Option<NamedTempFile>,
}

impl Archive {
    /// The archive with the programs that these steps run, by stage.
    ///
    /// # Errors
    /// It can't be written.
    fn new<'s>(
        steps: impl Iterator<Item = (String, &'s Step)>,
        programs: &[UserProgram],
        variables: &str,
    ) -> Result<Self, io::Error> {
        let folder = tempfile::tempdir()?;
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut scripts = BTreeMap::new();
        for (stage, step) in steps {
            let Some(payload) = step.payload() else { continue };
            let Some(program) = programs.iter().find(|program| program.name == payload.name) else {
                continue;
            };
            let mut setup = String::new();
            for file in &program.files {
                let part = file.part_in_level();
                // An earlier round or step has put it in its place.
                setup += &format!(
                    "[ ! -e {0} ] || {{ {1}\n}} || exit 1\n",
                    quote(&part),
                    file.script(&quote(&part))
                );
                file.check()?;
                files.insert(inside(&part), file.from().to_owned());
            }
            let command = program.script(variables, &payload.arguments);
            let run = script::script(FOLDER, &command, "$seconds", true);
            let path = folder.path().join(&stage);
            fs::write(&path, format!("seconds=$1\n{setup}{run}"))?;
            let in_level = format!("{SCRIPTS}/{stage}");
            files.insert(inside(&in_level), path);
            scripts.insert(stage, in_level);
        }
        let archive = Self { folder, scripts, whole: None };
        let files: Vec<(String, PathBuf)> = files.into_iter().collect();
        nestmatrix_images::pack_files(&files, &archive.path()).map_err(io::Error::other)?;
        Ok(archive)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    /// The script in the level that runs the program of a stage.
    pub(super) fn script_of(&self, stage: &str) -> Option<&str> {
        self.scripts.get(stage).map(String::as_str)
    }

    /// Writes an initramfs of this machine with the archive after it.
    fn write_whole(&mut self, initramfs: &Path) -> io::Result<PathBuf> {
        let mut whole = NamedTempFile::new()?;
        let written = io::copy(&mut fs::File::open(initramfs)?, &mut whole)?;
        whole.write_all(&vec![0; padding(written)])?;
        io::copy(&mut fs::File::open(self.path())?, &mut whole)?;
        let path = whole.path().to_owned();
        self.whole = Some(whole);
        Ok(path)
    }
}

/// A path of the level as archives have it.
fn inside(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

/// An archive begins at a multiple of four bytes.
fn padding(bytes: u64) -> usize {
    usize::try_from(bytes.next_multiple_of(4) - bytes).unwrap_or_default()
}

impl Stack<'_> {
    /// Appends the programs that steps run in the innermost level to its initramfs, on the host that is about to launch it.
    pub(crate) async fn bring_programs(
        &mut self,
        machine: &mut Machine,
        host: &Rc<dyn Host>,
    ) -> Result<(), Stop> {
        let plan = self.request.plan;
        let level = machine.level;
        let steps = self.request.steps.iter().enumerate().filter(|(_, step)| step.on == level);
        let steps: Vec<_> = steps.filter(|(_, step)| step.payload().is_some()).collect();
        if !plan.reports(level) || steps.is_empty() {
            return Ok(());
        }
        let Boot::Kernel(boot) = &mut machine.boot else { return Ok(()) };
        if self.archive.is_none() {
            let stages = steps.into_iter().map(|(index, step)| (format!("step-{}", index + 1), step));
            let archive = Archive::new(stages, self.request.programs, &plan.variables_of_steps(level));
            self.archive =
                Some(archive.map_err(|e| self.harness(format!("failed to pack the programs: {e}")))?);
        }
        let Some(archive) = &mut self.archive else { return Ok(()) };
        let machine_host = Rc::clone(host).machine_host();
        if machine_host.as_ref().is_ok_and(|host| host.this_machine().is_some()) {
            let whole = archive.write_whole(&boot.initramfs.path);
            boot.initramfs.path = whole
                .map_err(|e| self.harness(format!("failed to write an initramfs with the programs: {e}")))?;
            return Ok(());
        }
        let Ok(machine_host) = machine_host else { return Ok(()) };
        let (path, copy) = (archive.path(), quote(&machine_host.file(&boot.initramfs)));
        let files = machine_host.bring_files(machine).map_err(|e| self.harness(e.to_string()))?;
        let about = level.below().unwrap_or(level);
        let work = async {
            let failed = |why: String| HostError::Command {
                what: format!("bringing programs for {level}"),
                host: host.name().to_owned(),
                why,
            };
            let agent = host.agent().ok_or_else(|| failed("it has no guest agent".to_owned()))?;
            let file = CopiedFile::new(&path, "archive", Then::Stay).map_err(|e| failed(e.to_string()))?;
            copy::bring(agent, &mut copy::Present::default(), std::slice::from_ref(&file))
                .await
                .map_err(|e| failed(e.to_string()))?;
            let archive = quote(&file.path_in_level());
            // A level that is launched again finds its initramfs as it was.
            let append = format!(
                "{files}
[ ! -e {copy}.whole ] || exit 0
size=$(wc -c <{copy})
dd if=/dev/zero bs=1 count=$(((4 - size % 4) % 4)) >>{copy} 2>/dev/null && cat {archive} >>{copy} && : >{copy}.whole && rm {archive}"
            );
            let output = host.run(&append).await?;
            match output.status {
                Some(0) => Ok(()),
                _ => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
            }
        };
        self.during(about, work).await
    }
}
