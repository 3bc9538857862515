//! Options that several commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nestmatrix::scenario::Denied;

use crate::settings;

/// Documents and scenarios.
#[derive(Debug, Clone, Args)]
pub struct ScenariosFolder {
    /// Read documents and scenarios from this folder
    #[arg(long, value_name = "DIR", default_value_os_t = settings::data().join("scenarios"), hide_default_value = true)]
    pub scenarios: PathBuf,
}

/// Scenarios, and a choice of their cells.
#[derive(Debug, Args)]
pub struct Selection {
    /// Select cells by globs, such as `rhel-10-preview/*`; `*` also matches `/`
    pub filter: Vec<String>,
    /// The scenarios.
    #[command(flatten)]
    pub folder: ScenariosFolder,
    /// Use no rebuild of the documented system, such as AlmaLinux 9.4 for RHEL 9.4
    #[arg(long)]
    pub deny_rebuilds: bool,
    /// Skip cells whose only image is a stand-in for the documented system
    #[arg(long)]
    pub deny_stand_ins: bool,
}

impl Selection {
    /// The images that are not used. A cell that has no other one is skipped.
    pub fn denied(&self) -> Denied {
        Denied { rebuilds: self.deny_rebuilds, stand_ins: self.deny_stand_ins }
    }
}

/// Image recipes.
#[derive(Debug, Args)]
pub struct RecipesFolder {
    /// Read image recipes from this folder
    #[arg(long, value_name = "DIR", default_value_os_t = settings::data().join("images/recipes"), hide_default_value = true)]
    pub recipes: PathBuf,
}

/// Where images come from.
#[derive(Debug, Args)]
pub struct ImageSource {
    /// Use cached images only, never the network
    #[arg(long)]
    pub offline: bool,
    /// The recipes of the images.
    #[command(flatten)]
    pub folder: RecipesFolder,
}

/// Where runs are.
#[derive(Debug, Default, Args)]
pub struct Results {
    /// Use this folder of runs [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
}

impl Results {
    /// The folder of all runs.
    pub fn folder(&self) -> PathBuf {
        self.results.clone().unwrap_or_else(settings::default_results)
    }
}

/// How long to wait.
#[derive(Debug, Default, Clone, Copy, Args)]
pub struct Timeouts {
    /// Multiply every timeout by F, for a slow machine [default: 1]
    #[arg(long, value_name = "F", value_parser = timeout_scale)]
    pub timeout_scale: Option<f64>,
}

impl Timeouts {
    /// The factor of every timeout.
    pub fn scale(self) -> f64 {
        self.timeout_scale.unwrap_or(1.0)
    }
}

/// How fast a run goes. It changes no verdict, so a resumed run can change it.
#[derive(Debug, Default, Clone, Copy, Args)]
pub struct Pace {
    /// Run N cells in parallel, or as many as cores and memory allow (`auto`) [default: auto]
    #[arg(long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<Jobs>,
    /// How long to wait.
    #[command(flatten)]
    pub timeouts: Timeouts,
}

impl Pace {
    /// The number of cells that run in parallel; `None` for as many as fit.
    pub fn jobs(self) -> Option<usize> {
        self.jobs.and_then(|jobs| jobs.0)
    }

    /// Overrides these values with those given in `later`.
    pub fn update(&mut self, later: Self) {
        self.jobs = later.jobs.or(self.jobs);
        self.timeouts.timeout_scale = later.timeouts.timeout_scale.or(self.timeouts.timeout_scale);
    }
}

/// The format of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people
    Text,
    /// One JSON object per line
    Json,
}

/// What L0 runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MetalArgument {
    /// Use native metal if this machine's KVM boots a guest, otherwise emulated metal
    Auto,
    /// Use this machine as L0, or as L1 if it is a guest of the cell's L0; skip cells that it cannot run and say why
    Native,
    /// Boot a real L0 kernel with KVM on an emulator that plays the bare machine
    Emulated,
}

/// The number of cells that run in parallel; `None` for as many as fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jobs(pub Option<usize>);

/// Parses the value of `--jobs`.
///
/// # Errors
/// It is neither `auto` nor a number from 1 to 65535.
pub fn jobs(text: &str) -> Result<Jobs, String> {
    match text.parse::<u16>() {
        _ if text == "auto" => Ok(Jobs(None)),
        Ok(jobs) if jobs > 0 => Ok(Jobs(Some(jobs.into()))),
        _ => Err("it must be `auto` or a number from 1 to 65535".into()),
    }
}

fn timeout_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale.is_finite() && (0.01..=1000.0).contains(&scale) => Ok(scale),
        _ => Err("it must be a number from 0.01 to 1000".into()),
    }
}
