//! Jobs as plans and tests of tmt, the Test Management Tool: a tree of files of fmf, its metadata format.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use nestmatrix_stack::Metal;
use serde_json::Value;

use super::{BUILD_SECONDS, Entry, PATIENCE};
use crate::exit::Failure;
use crate::output;

/// The test's command. It is a script of its own, so that a user can read and change it.
const SCRIPT: &str = include_str!("run-cells.sh");
const SCRIPT_NAME: &str = "run-cells.sh";

/// What all tests have in common.
const TESTS: &str = "\
# Written by `cargo xtask ci-matrix --format fmf`: the cells of each plan. Each cell is a result.
framework: shell
result: custom
tag: [nestmatrix]
";

/// Where plans and tests of tmt are written, and what they run.
#[derive(Debug, Args)]
pub struct Tree {
    /// Write the files for tmt or Slurm into this folder (with --format fmf or slurm)
    #[arg(long, value_name = "DIR", required_if_eq_any([("format", "fmf"), ("format", "slurm")]))]
    pub into: Option<PathBuf>,
    /// Let the machines run this: a command; with tmt also an archive of `dist`, or the folder of a checkout
    ///
    /// With tmt, a relative path counts from the folder of --into, with Slurm from where submit.sh is called. The environment variable
    /// NESTMATRIX overrides it.
    #[arg(long, value_name = "PROGRAM", default_value = "nestmatrix", requires = "into")]
    pub program: String,
}

/// Writes a tree with a plan and a test for each entry. Other files in the folder stay.
pub fn write(entries: &[Entry<'_>], folder: &Path, program: &str) -> Result<(), Failure> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: io::Error| Failure::error(format!("failed to write {path}: {e}"))
    };
    let root = folder.join(".fmf");
    fs::create_dir_all(&root).map_err(failed(&root))?;
    // The version of the format.
    output::write(&root.join("version"), "1\n")?;
    output::write(&folder.join("plans.fmf"), &plans(entries, program))?;
    output::write(&folder.join("tests.fmf"), &tests(entries))?;
    let script = folder.join(SCRIPT_NAME);
    output::write(&script, SCRIPT)?;
    let make_executable = || File::open(&script)?.set_permissions(Permissions::from_mode(0o755));
    make_executable().map_err(failed(&script))
}

/// The name of an entry's plan and test.
fn name(entry: &Entry<'_>) -> String {
    entry.name.replace(' ', "-")
}

/// Text as a scalar of YAML.
fn scalar(text: &str) -> String {
    Value::from(text).to_string()
}

/// A plan for each kind of machine. None says `how` the machine is provided, so that tmt's command line or Testing Farm can.
fn plans(entries: &[Entry<'_>], program: &str) -> String {
    let mut out = format!(
        "# Written by `cargo xtask ci-matrix --format fmf`: one plan for each kind of machine.\n\
         environment:\n    NESTMATRIX: {}\n\
         execute:\n    how: tmt\n",
        scalar(program)
    );
    for entry in entries {
        let name = name(entry);
        let _ = write!(
            out,
            "\n/{name}:\n    summary: {}\n    discover:\n        how: fmf\n        test: '^/tests/{}$'\n",
            scalar(&format!("nestmatrix on {}", entry.name)),
            name.replace('.', "\\.")
        );
        let machine = entry.kind.isa().info().machines[0];
        let _ = write!(out, "    provision:\n        arch: {machine}\n        hardware:\n");
        if let Some(flag) = entry.kind.cpu_flag() {
            let _ = writeln!(out, "            cpu:\n                flag: [{flag}]");
        }
        if entry.kind.metal() == Metal::Native {
            out.push_str("            virtualization:\n");
            match entry.kind.guest_of() {
                None => out.push_str("                is-virtualized: false\n"),
                // tmt has no word for a cloud: `provision` has to say where the machine is from.
                Some(_) => {
                    out.push_str("                is-virtualized: true\n                is-supported: true\n")
                }
            }
        }
        let _ = writeln!(out, "            memory: \">= {} GiB\"", entry.job.memory_mib.div_ceil(1024));
    }
    out
}

/// The tests, each with the cells of a plan.
fn tests(entries: &[Entry<'_>]) -> String {
    let mut out = TESTS.to_owned();
    for entry in entries {
        let hours = (BUILD_SECONDS + PATIENCE * entry.job.seconds / u64::from(entry.shards)).div_ceil(3600);
        let _ = write!(
            out,
            "\n/{}:\n    summary: {}\n    duration: {hours}h\n    test: >-\n        ./{SCRIPT_NAME}\n",
            name(entry),
            scalar(&format!("the cells of nestmatrix for {}", entry.name))
        );
        for argument in &entry.with_shard() {
            let _ = writeln!(out, "        {argument}");
        }
    }
    out
}
