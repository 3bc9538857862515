//! tmt, which some tests call. They are ignored where it is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nestmatrix_images::find_program;

use super::{Place, checkout, trials};

/// tmt as `.ci/run` installs it, or else in `PATH`. The test is ignored without it.
pub fn tmt() -> PathBuf {
    // tmt copies its tree with it.
    if find_program("rsync").is_none() {
        trials::ignore("rsync is not installed");
    }
    let own = checkout().join("target/tools/tmt/bin/tmt");
    let found = if own.is_file() { Some(own) } else { find_program("tmt") };
    found.unwrap_or_else(|| trials::ignore("tmt is not installed"))
}

/// Calls tmt in a tree. Its files are in the place.
pub fn call(place: &Place, tmt: &Path, tree: &Path, arguments: &[&str], limit: Duration) -> Output {
    let mut command = Command::new(tmt);
    command.current_dir(tree).args(arguments).env("NO_COLOR", "1");
    for (variable, folder) in
        [("TMT_CONFIG_DIR", "config"), ("TMT_WORKDIR_ROOT", "runs"), ("TMT_TEST_PIDFILE_ROOT", "pid")]
    {
        let folder = place.path().join("tmt").join(folder);
        fs::create_dir_all(&folder).unwrap();
        command.env(variable, folder);
    }
    // There is a reader for this format here.
    command.env("TMT_STATE_FORMAT", "json");
    assert_cmd::Command::from_std(command).timeout(limit).output().unwrap()
}
