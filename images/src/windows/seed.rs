//! The seed of an installation: the answer file, the script that makes a level of the installed Windows, and what the role's preparation
//! needs.

use super::{InstallText, WindowsRole};
use crate::Error;
use crate::disk::fat::{self, Contents, Label};
use std::path::{Path, PathBuf};

/// The script and its user find the seed by what is on it. The label is for people.
const LABEL: &Label = b"NESTSEED   ";
const FOLDER: &str = "nestmatrix";

/// Windows Setup reads the first name, and an installed system at its first boot the second one.
const ANSWERS: [&str; 2] = ["Autounattend.xml", "Unattend.xml"];

/// Writes the seed. `files` are those of the user, by the names that the role gives them.
pub(crate) fn write_seed(
    path: &Path,
    install: &InstallText,
    role: &WindowsRole,
    files: &[(String, PathBuf)],
) -> Result<(), Error> {
    let text = |name: String, text: String| (name, Contents::Text(text));
    let mut on_it: Vec<(String, Contents)> =
        ANSWERS.iter().map(|name| text((*name).to_owned(), crlf(&install.answers()))).collect();
    on_it.push(text(format!("{FOLDER}/prepare.ps1"), crlf(&install.script)));
    on_it.push(text(format!("{FOLDER}/functions.ps1"), crlf(role.functions())));
    let mut steps = String::new();
    for (index, step) in role.prepare().iter().enumerate() {
        let success: Vec<String> = step.success().iter().map(u32::to_string).collect();
        let after = if step.restart() { "restart" } else { "continue" };
        let why: String = step.why().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        steps += &format!("{:02} {} {after} {why}\n", index + 1, success.join(","));
        on_it.push(text(format!("{FOLDER}/steps/{:02}.ps1", index + 1), step_script(step.script())));
    }
    on_it.push(text(format!("{FOLDER}/steps.txt"), crlf(&steps)));
    let users =
        files.iter().map(|(name, file)| (format!("{FOLDER}/files/{name}"), Contents::Copy(file.clone())));
    on_it.extend(users);
    fat::write(path, LABEL, &on_it)
}

/// A step as a script of its own, with the functions that it may use.
fn step_script(script: &str) -> String {
    crlf(&format!(
        "$ErrorActionPreference = 'Stop'\n$ProgressPreference = 'SilentlyContinue'\n\
         . \"$env:SystemDrive\\nestmatrix\\prepare\\functions.ps1\"\n{script}\n"
    ))
}

/// Text with the line ends of Windows.
fn crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}
