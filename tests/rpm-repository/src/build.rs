//! Builds packages with rpmbuild: one run for each kind of compression, since that is a setting of the whole run.

use crate::blueprint::{Blueprint, Content, Payload};
use crate::{Error, parallel, tool};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a specification says before its packages. Debian's files stay as they are: RPM does not strip or compress them.
const PREAMBLE: &str = "
%global __os_install_post %{nil}
%global _build_id_links none
%global _unpackaged_files_terminate_build 0
%global debug_package %{nil}

Name: nestmatrix-rpm-repository
Version: 1
Release: 1
Summary: Debian's files in packages like RHEL's
License: as Debian's packages

%description
Packages for tests.

%install
rm -rf \"%{buildroot}\"
mv \"%{tree}\" \"%{buildroot}\"
";

/// Builds packages. Returns their paths in the same order. `folder` is empty, and on the file system of the Debian packages.
pub(crate) fn build(blueprints: &[Blueprint], folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let output = folder.join("output");
    let runs = Payload::ALL.map(|payload| Run { payload, folder: folder.join(format!("{payload:?}")) });
    parallel::map(&runs, |run| {
        let blueprints: Vec<&Blueprint> =
            blueprints.iter().filter(|one| one.payload == run.payload).collect();
        run.build(&blueprints, &output)
    })?;
    Ok(blueprints.iter().map(|blueprint| output.join(blueprint.file_name())).collect())
}

/// One run of rpmbuild.
struct Run {
    payload: Payload,
    folder: PathBuf,
}

impl Run {
    fn build(&self, blueprints: &[&Blueprint], output: &Path) -> Result<(), Error> {
        let tree = self.folder.join("tree");
        fs::create_dir_all(&tree).map_err(Error::io("create folder", &tree))?;
        let mut specification = PREAMBLE.to_owned();
        for blueprint in blueprints {
            for (path, content) in &blueprint.files {
                place(content, &tree.join(path.trim_start_matches('/')))?;
            }
            specification += &section(blueprint);
        }
        let path = self.folder.join("packages.spec");
        fs::write(&path, specification).map_err(Error::io("write", &path))?;
        let mut command = Command::new("rpmbuild");
        let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
        command
            .args(["-bb", "--quiet", "--target", "x86_64-linux"])
            .args(define("_topdir", &self.folder.to_string_lossy()))
            .args(define("_tmppath", &self.folder.to_string_lossy()))
            .args(define("_rpmdir", &output.to_string_lossy()))
            .args(define("_rpmfilename", "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"))
            .args(define("_binary_payload", self.payload.macro_value()))
            .args(define("tree", &tree.to_string_lossy()))
            .arg(&path)
            // The user's own macros would change the packages.
            .env("HOME", &self.folder);
        tool::run(&mut command).map(drop)
    }
}

/// Puts a file into the tree that is packed. Files of Debian packages are moved.
fn place(content: &Content, to: &Path) -> Result<(), Error> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
    }
    match content {
        Content::Unpacked(from) => fs::rename(from, to).map_err(Error::io("move to", to)),
        Content::Link(target) => symlink(target, to).map_err(Error::io("create link", to)),
        Content::File { data, executable } => {
            let mode = if *executable { 0o755 } else { 0o644 };
            let written =
                fs::write(to, data).and_then(|()| fs::set_permissions(to, fs::Permissions::from_mode(mode)));
            written.map_err(Error::io("write", to))
        }
        Content::Ghost => fs::write(to, "").map_err(Error::io("write", to)),
    }
}

/// The part of the specification about one package.
fn section(blueprint: &Blueprint) -> String {
    let Blueprint { name, version, .. } = blueprint;
    let mut text = format!("\n%package -n {name}\nSummary: {name}\n");
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    if let Some(epoch) = version.epoch {
        line(&format!("Epoch: {epoch}"));
    }
    line(&format!("Version: {}\nRelease: {}", version.version, version.release));
    if blueprint.noarch {
        line("BuildArch: noarch");
    }
    if !blueprint.generated {
        line("AutoReqProv: no");
    }
    for required in &blueprint.requires {
        line(&format!("Requires: {required}"));
    }
    for provided in &blueprint.provides {
        line(&format!("Provides: {provided}"));
    }
    line(&format!("%description -n {name}\nFor tests.\n%files -n {name}\n%defattr(-, root, root, -)"));
    for (path, content) in &blueprint.files {
        let mark = if matches!(content, Content::Ghost) { "%ghost " } else { "" };
        line(&format!("{mark}\"{path}\""));
    }
    text
}
