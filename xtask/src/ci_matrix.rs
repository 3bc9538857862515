//! `ci-matrix`: assigns cells to the runners of a CI system, and prints the job matrix.

mod fmf;
mod slurm;

use std::collections::BTreeMap;
use std::process::ExitCode;

use nestmatrix::ci::{Job, Jobs, RunnerKind};
use nestmatrix::scenario::{Cell, Denied};
use nestmatrix_stack::Metal;
use nestmatrix_vmm::shell::quote;
use serde_json::{Value, json};

use crate::cli::{CiFormat, CiMatrix};
use crate::exit::Failure;
use crate::input;
use crate::terminal::{note, print};

pub use fmf::Tree;

/// Most jobs of a GitHub matrix.
const MOST_JOBS: usize = 256;

/// How much longer than on this project's machine a cell may take. A cell has time limits of its own; that of a job is for a machine that
/// hangs.
const PATIENCE: u64 = 10;
/// Time to build the images, in seconds.
const BUILD_SECONDS: u64 = 3600;

/// The container of jobs with emulated metal. It is a Debian, since images are made of packages from its apt sources.
const CONTAINER: &str = "rust:1.95-trixie";

pub fn run(arguments: &CiMatrix) -> Result<ExitCode, Failure> {
    let (matrix, filter) = input::selection(&arguments.selection, arguments.profile.as_deref())?;
    for id in arguments.runner.iter().filter_map(RunnerKind::guest_of) {
        let mut around = matrix.systems().iter().filter(|system| !system.guest_shows.is_empty());
        if !around.clone().any(|system| system.id == id) {
            let known: Vec<String> =
                around.by_ref().map(|system| format!("`guest-of-{}`", system.id)).collect();
            let why = format!("no system of `guest-of-{id}`; the labels are {}", known.join(", "));
            return Err(Failure::bad_input(miette::miette!("{why}")));
        }
    }
    let catalog = input::recipes(&arguments.folder)?;
    let cells: Vec<Cell> = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).cloned().collect();
    if cells.is_empty() {
        return Ok(input::no_cell());
    }
    let denied = arguments.selection.denied();
    let jobs = Jobs::new(&cells, &matrix, &catalog, &arguments.runner, denied);
    let mut nowhere: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (cell, why) in &jobs.nowhere {
        nowhere.entry(why).or_default().push(cell);
    }
    for (why, cells) in nowhere {
        note!("no runner for {}: {why}", cells.join(", "));
    }
    let usable = catalog.uses_of_media().into_iter().filter(|of| of.unusable().is_none());
    let media: Vec<String> = usable.map(|of| of.medium.name()).collect();
    if !media.is_empty() {
        note!(
            "planned with the media of this machine ({}); runners without them boot other images, or fail where a cell must run",
            media.join(", ")
        );
    }
    let shards = |job| (1..=arguments.shards).map(move |shard| (job, shard));
    let entries: Vec<Entry> = jobs
        .jobs
        .iter()
        .flat_map(shards)
        .map(|(job, shard)| Entry::new(arguments, &arguments.runner[job.kind], job, shard))
        .collect();
    if arguments.format == CiFormat::Github && entries.len() > MOST_JOBS {
        let why =
            format!("{} jobs, but GitHub allows at most {MOST_JOBS}; use fewer --shards", entries.len());
        return Err(Failure::bad_input(miette::miette!("{why}")));
    }
    match (arguments.format, &arguments.tree.into) {
        (CiFormat::Github, None) => print(&format!("{}\n", github(&entries))),
        (CiFormat::Gitlab, None) => print(&format!("{}\n", gitlab(&entries))),
        (CiFormat::Fmf, Some(folder)) => {
            fmf::write(&entries, folder, &arguments.tree.program)?;
            note!("plans and tests: {}", folder.display());
        }
        (CiFormat::Slurm, Some(folder)) => {
            slurm::write(&entries, folder, &arguments.tree.program)?;
            note!("jobs: {0}; {0}/submit.sh submits them", folder.display());
        }
        (CiFormat::Github | CiFormat::Gitlab, Some(_)) | (CiFormat::Fmf | CiFormat::Slurm, None) => {
            let why = "--into and the formats `fmf` and `slurm` require each other";
            return Err(Failure::bad_input(miette::miette!("{why}")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One job of the CI system.
struct Entry<'a> {
    name: String,
    kind: &'a RunnerKind,
    job: &'a Job,
    /// Its shard, from 1, and their number.
    shard: u32,
    shards: u32,
    /// The arguments of `run-matrix`, each quoted for a shell, without that of the shard.
    arguments: Vec<String>,
}

impl<'a> Entry<'a> {
    fn new(command: &CiMatrix, kind: &'a RunnerKind, job: &'a Job, shard: u32) -> Self {
        let mut arguments: Vec<String> = job.cells.iter().map(|cell| quote(cell)).collect();
        arguments.extend(["--metal".to_owned(), kind.metal().to_string()]);
        // Emulated metal needs no hardware, and skips cells whose images are unavailable.
        if kind.metal() == Metal::Native {
            arguments.extend(["--deny-skip".to_owned(), quote("*")]);
        }
        if kind.is_disposable() {
            arguments.push("--disposable-host".to_owned());
        }
        let Denied { rebuilds, stand_ins } = command.selection.denied();
        let denied = [(rebuilds, "--deny-rebuilds"), (stand_ins, "--deny-stand-ins")];
        arguments.extend(
            denied.into_iter().filter(|(is_denied, _)| *is_denied).map(|(_, option)| option.to_owned()),
        );
        let mut name = kind.to_string();
        if command.shards > 1 {
            name = format!("{name} {shard} of {}", command.shards);
        }
        Self { name, kind, job, shard, shards: command.shards, arguments }
    }

    /// The arguments of `run-matrix`, each quoted for a shell.
    fn with_shard(&self) -> Vec<String> {
        let Self { shard, shards, .. } = self;
        let of_shard = ["--shard".to_owned(), format!("{shard}/{shards}")].into_iter();
        self.arguments.iter().cloned().chain(of_shard.filter(|_| *shards > 1)).collect()
    }
}

/// The value of `strategy.matrix`. Bare machines are self-hosted runners. Emulated metal runs on any runner, and `emulated` is
/// not a label of GitHub's.
fn github(entries: &[Entry<'_>]) -> Value {
    let include = entries.iter().map(|entry| {
        let labels = entry.kind.labels.iter().map(String::as_str);
        let labels: Vec<&str> = match entry.kind.metal() {
            Metal::Native => ["self-hosted"].into_iter().chain(labels).collect(),
            Metal::Emulated if labels.len() == 1 => vec!["ubuntu-latest"],
            Metal::Emulated => labels.filter(|label| *label != "emulated").collect(),
        };
        json!({
            "name": entry.name,
            "artifact": entry.name.replace(' ', "-"),
            "labels": labels,
            "metal": entry.kind.metal(),
            "arguments": entry.with_shard().join(" "),
        })
    });
    json!({ "include": include.collect::<Vec<_>>() })
}

/// A child pipeline, in JSON, which is YAML. Its jobs extend `.nestmatrix` from the included file.
fn gitlab(entries: &[Entry<'_>]) -> Value {
    let job = |entry: &Entry<'_>| {
        let mut job = json!({
            "extends": ".nestmatrix",
            "tags": entry.kind.labels,
            "variables": { "METAL": entry.kind.metal(), "ARGUMENTS": entry.with_shard().join(" ") },
        });
        // On native metal, a container would hide the machine's own system.
        if entry.kind.metal() == Metal::Emulated {
            job["image"] = CONTAINER.into();
        }
        (entry.name.clone(), job)
    };
    let include = ("include".to_owned(), json!([{ "local": ".ci/gitlab-jobs.yml" }]));
    Value::Object([include].into_iter().chain(entries.iter().map(job)).collect())
}
