//! Turns a program that the user added into one that a level can run.

use std::fs;
use std::path::Path;

use nestmatrix_images::AddedProgram;
use nestmatrix_model::Isa;
use nestmatrix_stack::UserProgram;

use super::{CopyArgument, UserCommand};

/// The status of a shell that can't run a program (POSIX, Shell Command Language, 2.8.2).
const NOT_RUN: u8 = 126;
/// The folder in which programs run in a level.
const FOLDER: &str = "/tmp/nestmatrix/work";

/// The program as levels of this instruction set run it. Archives for it are written to `scratch`, which must stay until it has run.
///
/// # Errors
/// Why it can't run there.
pub(crate) fn prepare(added: &AddedProgram, isa: Isa, scratch: &Path) -> Result<UserProgram, String> {
    let name = added.name();
    let failed = |why: String| format!("payload {name}: {why}");
    // The archives of each program have the same names.
    let scratch = scratch.join(format!("payload-{name}"));
    fs::create_dir_all(&scratch).map_err(|e| failed(format!("failed to make {}: {e}", scratch.display())))?;
    let copies =
        added.files().iter().map(|file| CopyArgument { from: file.from.clone(), to: file.to.clone() });
    let command = UserCommand {
        words: vec![added.program().to_string_lossy().into_owned()],
        copies: copies.collect(),
        environment: Vec::new(),
        folder: FOLDER.to_owned(),
    };
    if !added.program().is_file() {
        return Err(failed(format!("{} is gone", added.program().display())));
    }
    // Of the files as they are now, which run.
    let sha256 = added.digest_now().map_err(|e| failed(e.to_string()))?;
    let parts = command.parts(isa, &scratch, NOT_RUN).map_err(|e| failed(e.to_string()))?;
    let (files, setup, command) = (parts.files, parts.setup, parts.command.trim_end().to_owned());
    Ok(UserProgram { name: name.to_owned(), sha256: sha256.as_str().to_owned(), files, setup, command })
}
