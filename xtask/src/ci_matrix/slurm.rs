//! Jobs for Slurm, the batch system of clusters and labs: an array for each kind of machine, and a last job that merges their results.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nestmatrix_stack::Metal;
use nestmatrix_vmm::shell::quote;

use super::{BUILD_SECONDS, Entry, PATIENCE};
use crate::exit::Failure;
use crate::output;

/// The scripts that users start, and that jobs run. They are files of their own, so that a user can read and change them.
const SCRIPTS: [(&str, &str); 3] = [
    ("submit.sh", include_str!("slurm/submit.sh")),
    ("run-cells.sh", include_str!("slurm/run-cells.sh")),
    ("merge.sh", include_str!("../../../.ci/nightly-merge")),
];
/// The job that merges the results.
const MERGE: &str = include_str!("slurm/merge.sbatch");

/// Writes the jobs and the script that submits them. Jobs that were written before are replaced; other files in the folder stay.
pub fn write(entries: &[Entry<'_>], folder: &Path, program: &str) -> Result<(), Failure> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: io::Error| Failure::error(format!("failed to write {path}: {e}"))
    };
    let jobs = folder.join("jobs");
    match fs::remove_dir_all(&jobs) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&jobs)(e)),
        _ => fs::create_dir_all(&jobs).map_err(failed(&jobs))?,
    }
    // Each kind of machine has the same cells in all its shards.
    for entry in entries.iter().filter(|entry| entry.shard == 1) {
        output::write(&jobs.join(format!("{}.sbatch", name(entry))), &job(entry))?;
    }
    output::write(&folder.join("merge.sbatch"), MERGE)?;
    output::write(&folder.join("settings.sh"), &settings(program))?;
    for (name, text) in SCRIPTS {
        let script = folder.join(name);
        output::write(&script, text)?;
        let make_executable =
            |path: &PathBuf| File::open(path)?.set_permissions(Permissions::from_mode(0o755));
        make_executable(&script).map_err(failed(&script))?;
    }
    Ok(())
}

/// The name of a kind of machine in names of files and jobs.
fn name(entry: &Entry<'_>) -> String {
    entry.kind.to_string().replace(' ', "-")
}

fn settings(program: &str) -> String {
    format!(
        "# What runs the cells on the nodes: a command, such as the program of an unpacked archive of `dist` in a folder that all nodes have.\n\
         NESTMATRIX=${{NESTMATRIX:-{}}}\n",
        quote(program)
    )
}

/// The array of a kind of machine, with an element for each shard.
fn job(entry: &Entry<'_>) -> String {
    let mut out = "#!/usr/bin/env bash\n".to_owned();
    let mut option = |text: String| {
        let _ = writeln!(out, "#SBATCH --{text}");
    };
    option(format!("job-name=nestmatrix-{}", name(entry)));
    option(format!("array=1-{}", entry.shards));
    // What the labels of a runner are elsewhere, the features of a node are here.
    option(format!("constraint={}", entry.kind.labels.join("&")));
    match entry.kind.metal() {
        // Nothing else may use its KVM meanwhile.
        Metal::Native => {
            option("exclusive".to_owned());
            // All of the node's. Otherwise it would be the partition's default.
            option("mem=0".to_owned());
        }
        Metal::Emulated => {
            option("cpus-per-task=2".to_owned());
            option(format!("mem={}M", entry.job.memory_mib));
        }
    }
    let seconds = BUILD_SECONDS + PATIENCE * entry.job.seconds / u64::from(entry.shards);
    option(format!("time={}", seconds.div_ceil(60)));
    // The element of a node that is lost begins again on another one, and resumes its run.
    option("requeue".to_owned());
    option("open-mode=append".to_owned());
    // The memory is enough for one cell at a time.
    let one = ["--jobs 1".to_owned()];
    let one = one.iter().filter(|_| entry.kind.metal() == Metal::Emulated);
    let arguments = entry.arguments.iter().chain(one).map(|argument| format!(" \\\n    {argument}"));
    let _ = writeln!(
        out,
        "exec \"$NESTMATRIX_TREE\"/run-cells.sh {} --shard \"$SLURM_ARRAY_TASK_ID\"/{}{}",
        quote(&name(entry)),
        entry.shards,
        arguments.collect::<String>()
    );
    out
}
