//! Checks of the tools that images are built with: apt, and what the user's sources of RPM packages need.

use nestmatrix_images::{HostTool, SourceProblem};
use nestmatrix_model::PROGRAM;

use super::subject::{Inventory, SourceState, Subject};
use crate::doctor::finding::{Check, Finding};

/// How images of Debian packages become available on another distribution.
pub(super) const APT_ADVICE: &str =
    "install apt and Debian's archive keyring, and set NESTMATRIX_ARCHIVE (docs/settings.md)";

/// Which packages a system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Distribution {
    /// Debian and Ubuntu.
    Debian,
    Fedora,
    /// RHEL and its rebuilds.
    Rhel,
    Other,
}

impl Distribution {
    /// The one with this `ID` in os-release(5).
    pub(super) fn of(id: &str) -> Self {
        match id {
            "debian" | "ubuntu" => Self::Debian,
            "fedora" => Self::Fedora,
            "rhel" | "almalinux" | "rocky" | "centos" | "centos-stream" => Self::Rhel,
            _ => Self::Other,
        }
    }
}

impl Subject<'_> {
    pub(super) fn apt(&self) -> Finding {
        if self.probe.apt {
            return Finding::ok(Check::Apt, "apt-get, for images of Debian packages");
        }
        Finding::warning(
            Check::Apt,
            "no apt-get: images of Debian packages that are not in the cache can't be built",
        )
        .advise(format!("{APT_ADVICE}, or add sources of RPM packages (docs/vendor-packages.md)"))
    }

    pub(super) fn sources(&self, inventory: &Inventory) -> Vec<Finding> {
        inventory.sources.iter().map(|source| self.source(source)).collect()
    }

    fn source(&self, SourceState { name, problems, needed_on }: &SourceState) -> Finding {
        let check = Check::Sources;
        if problems.is_empty() {
            return Finding::ok(check, format!("source {name}"));
        }
        let what: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let what = format!("source {name}: {}", what.join(", "));
        let finding = if needed_on.is_empty() {
            Finding::warning(check, what)
        } else {
            Finding::missing(check, needed_on, what)
        };
        self.with_tools(finding, problems)
    }

    /// The finding with how to fix these problems.
    fn with_tools(&self, finding: Finding, problems: &[SourceProblem]) -> Finding {
        let distribution = Distribution::of(&self.probe.facts.os);
        let mut tools: Vec<HostTool> = problems.iter().filter_map(tool_for).collect();
        let mut advice = Vec::new();
        if distribution == Distribution::Rhel && tools.contains(&HostTool::Busybox) {
            tools.retain(|tool| *tool != HostTool::Busybox);
            advice.push(
                "RHEL has no busybox: put a static one into PATH, such as that of Fedora's package"
                    .to_owned(),
            );
        }
        if problems.iter().any(|problem| matches!(problem, SourceProblem::Gone(_))) {
            advice.push(format!("bring it back, or add the source again with `{PROGRAM} sources add`"));
        }
        let packages = |of: fn(HostTool) -> &'static str| {
            let mut packages: Vec<&str> = tools.iter().flat_map(|tool| of(*tool).split(' ')).collect();
            packages.dedup();
            packages.join(" ")
        };
        let (debian, fedora) =
            (packages(|tool| tool.packages().debian), packages(|tool| tool.packages().fedora));
        let install = match distribution {
            _ if tools.is_empty() => None,
            Distribution::Debian => Some(format!("apt install {debian}")),
            Distribution::Fedora | Distribution::Rhel => Some(format!("dnf install {fedora}")),
            Distribution::Other => {
                advice.insert(0, format!("install {debian} (Debian) or {fedora} (Fedora, RHEL)"));
                None
            }
        };
        let finding = if advice.is_empty() { finding } else { finding.advise(advice.join("; ")) };
        finding.fixed_by(install.map(|command| self.root(&command)))
    }
}

/// The tool that solves a problem.
fn tool_for(problem: &SourceProblem) -> Option<HostTool> {
    match problem {
        SourceProblem::NoTool(tool) => Some(*tool),
        SourceProblem::NoDownload => Some(HostTool::Dnf),
        SourceProblem::Gone(_) => None,
    }
}
