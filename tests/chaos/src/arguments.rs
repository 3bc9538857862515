//! The options of `cargo xtask chaos`.

use std::path::PathBuf;

use clap::Parser;

use crate::disturbance::Kind;

const AFTER_HELP: &str = "\
Examples:
  cargo xtask chaos --runs 100
  cargo xtask chaos --seed 7 --from 42 --runs 1 'rhel-10-preview/amd/*'

Exit codes: 0 if no run was wrong, 1 if one was, 2 for bad input, 3 for any other error, 4 if none was disturbed, 130 after Ctrl-C.
docs/chaos.md describes the disturbances and what is checked.";

/// Disturb runs of cells at random moments, and check that no verdict is wrong and nothing is left behind
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos", after_help = AFTER_HELP)]
pub struct Chaos {
    /// Disturb cells that match these globs [default: the AMD and Intel cells of the default profile]
    pub filter: Vec<String>,
    /// Disturb N runs; each boots one cell
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Draw the disturbances from this number; the same number draws the same ones [default: a random number]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Begin with run N of the seed, for example to repeat a single run
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub from: u32,
    /// Draw only these kinds of disturbances
    #[arg(long, value_name = "KIND,...", value_enum, value_delimiter = ',')]
    pub only: Vec<Kind>,
    /// Call a run hung after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 1200)]
    pub limit: u64,
    /// Write the outcomes, and the records of wrong runs, to this new folder [default: chaos-SEED in cargo's build folder]
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Chaos::command().debug_assert();
    }

    #[test]
    fn cells_can_follow_the_kinds() {
        let chaos = Chaos::try_parse_from(["chaos", "--only", "kill,stop", "rhel-10-preview/*"]).unwrap();
        assert_eq!(
            (chaos.only, chaos.filter),
            (vec![Kind::Kill, Kind::Stop], vec!["rhel-10-preview/*".to_owned()])
        );
    }

    #[test]
    fn the_help_has_the_command_that_users_type() {
        let help = Chaos::command().render_help().to_string();
        assert!(help.contains("Usage: cargo xtask chaos [OPTIONS] [FILTER]..."), "{help}");
    }
}
