//! Turns a command of the user into what a level runs: the files that it needs there, and a script.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nestmatrix_images::ProgramFile;
use nestmatrix_model::Isa;
use nestmatrix_stack::{CopiedFile, Exec, Then};
use nestmatrix_vmm::shell::quote;

use super::libraries::libraries_of;

/// The name of a loader among the libraries of its program.
const LOADER: &str = "ld.so";

/// A command of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCommand {
    /// The program and its arguments. A program with a slash in its name that is a file of this machine is copied into the level.
    pub words: Vec<String>,
    /// Other files and folders that are copied into the level.
    pub copies: Vec<CopyArgument>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// The folder of the level in which it runs. It is created.
    pub folder: String,
}

/// What a level needs for a command, and runs.
pub(super) struct Parts {
    /// The files that must be there first.
    pub(super) files: Vec<CopiedFile>,
    /// What the shell runs before it.
    pub(super) setup: String,
    /// The words that start it, quoted for the shell.
    pub(super) command: String,
}

/// A file or a folder that is copied into a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyArgument {
    /// Its path on this machine.
    pub from: PathBuf,
    /// Its path in the level.
    pub to: String,
}

/// Why a command can't be run in a level.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A file can't be read.
    #[error("failed to read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A program is for other processors.
    #[error("{} is a program for {}, but the levels are {}", path.display(), name(*isa), isa_name(*levels))]
    OtherIsa {
        /// The program.
        path: PathBuf,
        /// Its instruction set, if it is a known one.
        isa: Option<Isa>,
        /// That of the levels.
        levels: Isa,
    },
    /// The libraries of a program are not available.
    #[error("{} can't run in a level: {why}", path.display())]
    NoLibraries {
        /// The program.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

fn isa_name(isa: Isa) -> &'static str {
    isa.info().machines[0]
}

fn name(isa: Option<Isa>) -> &'static str {
    isa.map_or("another processor", isa_name)
}

impl CommandError {
    fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Unreadable { path, source }
    }
}

/// The status of `exec` if the command did not start.
const NOT_STARTED: u8 = 125;

impl UserCommand {
    /// What a level of this instruction set runs. Archives for it are written to `scratch`, which must stay until the command runs.
    ///
    /// # Errors
    /// A file can't be read, or the program does not fit.
    pub fn prepare(&self, isa: Isa, scratch: &Path) -> Result<Exec, CommandError> {
        let Parts { files, setup, command } = self.parts(isa, scratch, NOT_STARTED)?;
        Ok(Exec { files, script: format!("{setup}exec {command}\n") })
    }

    /// The same in parts. `without_folder` is the status of the shell if the folder can't be used.
    ///
    /// # Errors
    /// As above.
    pub(super) fn parts(&self, isa: Isa, scratch: &Path, without_folder: u8) -> Result<Parts, CommandError> {
        let mut files = Vec::new();
        let mut setup = String::new();
        for (number, copy) in self.copies.iter().enumerate() {
            let archive = scratch.join(format!("copy-{number}.tar"));
            files.push(copied(copy, &archive).map_err(CommandError::unreadable(&copy.from))?);
        }
        let words = self.words.iter().map(|word| quote(word));
        let arguments: Vec<String> = words.clone().skip(1).collect();
        let program = match self.words.first() {
            Some(word) if word.contains('/') && Path::new(word).is_file() => {
                program(Path::new(word), isa, scratch, &mut files)?
            }
            _ => words.take(1).collect(),
        };
        let folder = quote(&self.folder);
        setup += &format!("mkdir -p {folder} && cd {folder} || exit {without_folder}\n");
        for (name, value) in &self.environment {
            setup += &format!("export {name}={}\n", quote(value));
        }
        Ok(Parts { files, setup, command: format!("{program} {}", arguments.join(" ")) })
    }
}

/// A file or folder for the level. A folder becomes an archive.
fn copied(copy: &CopyArgument, archive: &Path) -> io::Result<CopiedFile> {
    if !fs::metadata(&copy.from)?.is_dir() {
        return CopiedFile::new(&copy.from, "file", Then::CopyTo(copy.to.clone()));
    }
    let mut builder = builder(archive)?;
    builder.append_dir_all(".", &copy.from)?;
    builder.finish()?;
    CopiedFile::new(archive, "archive", Then::UnpackTo(copy.to.clone()))
}

/// An archive that depends on nothing but what is in it, so that a level that has it already need not get it again.
fn builder(archive: &Path) -> io::Result<tar::Builder<File>> {
    let mut builder = tar::Builder::new(File::create(archive)?);
    builder.mode(tar::HeaderMode::Deterministic);
    builder.follow_symlinks(false);
    Ok(builder)
}

/// Adds a program of this machine to `files`, with its loader and libraries if it needs any. Returns the words that start it.
fn program(
    path: &Path,
    isa: Isa,
    scratch: &Path,
    files: &mut Vec<CopiedFile>,
) -> Result<String, CommandError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = ProgramFile::read(path).map_err(CommandError::unreadable(path))?;
    if let Some(other) = file.as_ref().map(|file| file.isa).filter(|of| *of != Some(isa)) {
        return Err(CommandError::OtherIsa { path: path.to_owned(), isa: other, levels: isa });
    }
    let no_libraries = |why| CommandError::NoLibraries { path: path.to_owned(), why };
    let loader = file.and_then(|file| file.interpreter);
    let copy = CopiedFile::new(path, name, Then::Stay).map_err(CommandError::unreadable(path))?;
    let program = quote(&copy.path_in_level());
    files.push(copy);
    let Some(loader) = loader else { return Ok(program) };
    if Some(isa) != Isa::of_this_machine() {
        let why = "it needs libraries of another architecture than this machine's; link it statically";
        return Err(no_libraries(why.to_owned()));
    }
    let libraries = libraries_of(&loader, path).map_err(no_libraries)?;
    let archive = scratch.join("libraries.tar");
    let pack = || {
        let mut builder = builder(&archive)?;
        builder.follow_symlinks(true);
        builder.append_path_with_name(&loader, LOADER)?;
        for (name, path) in &libraries {
            builder.append_path_with_name(path, name)?;
        }
        builder.finish()?;
        CopiedFile::new(&archive, "libraries", Then::Unpack)
    };
    let libraries = pack().map_err(CommandError::unreadable(&archive))?;
    let folder = libraries.folder_in_level();
    files.push(libraries);
    Ok(format!("{folder}/{LOADER} --library-path {folder} {program}"))
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
