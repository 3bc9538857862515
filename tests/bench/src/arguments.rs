//! The options of `cargo xtask bench`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use xtask::options::{ImageSource, Jobs, jobs};

/// Measure nestmatrix against a script that boots the same stack
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
pub struct Bench {
    /// Measure the script and every yardstick N times, one after the other in each round
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Measure the matrix, Intel, POWER9 and the default profile N times; a round takes minutes
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub matrix_rounds: u32,
    /// Boot the matrix once more without snapshots in each round, to compare the verdicts
    #[arg(long)]
    pub cold_matrix: bool,
    /// Run N cells of the matrix in parallel, or as many as fit (`auto`)
    #[arg(long, value_name = "N", default_value = "auto", value_parser = jobs)]
    pub jobs: Jobs,
    /// Run one cell from its snapshot N times, and compare the verdicts
    #[arg(long, value_name = "N", default_value = "0")]
    pub repeat: u32,
    /// Measure only these yardsticks
    #[arg(long, value_name = "NAME", value_enum, num_args = 1.., value_delimiter = ',')]
    pub only: Vec<Yardstick>,
    /// Store all runs in this folder [default: a temporary one, kept if a cell did not pass]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    #[command(flatten)]
    pub source: ImageSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Yardstick {
    /// One stack, with all levels booted
    Cold,
    /// The same stack, restored from a snapshot
    #[value(alias = "saved")]
    Snapshot,
    /// Twelve cells, first without snapshots and then with them
    Matrix,
    /// The stack of the script on Intel, with all levels booted
    Intel,
    /// The stack of the script on Intel, restored from a snapshot
    IntelSnapshot,
    /// The stack of the script on POWER9, with all levels booted
    Power9,
    /// The default profile, first without snapshots and then with them
    DefaultProfile,
    /// One cell over and over, as often as `--repeat` says
    Repeat,
    /// Planning and writing records, without booting
    Harness,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Bench::command().debug_assert();
    }

    #[test]
    fn the_former_name_of_a_yardstick_is_accepted() {
        let bench = Bench::try_parse_from(["bench", "--only", "saved"]).unwrap();
        assert_eq!(bench.only, [Yardstick::Snapshot]);
    }

    #[test]
    fn the_help_has_the_command_that_users_type() {
        let help = Bench::command().render_help().to_string();
        assert!(help.contains("Usage: cargo xtask bench [OPTIONS]"), "{help}");
    }
}
