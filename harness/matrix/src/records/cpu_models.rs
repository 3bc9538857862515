//! What a sweep of CPU models adds to the folder of its run: the models of the QEMU that ran the innermost level.

use std::io;
use std::path::Path;

use nestmatrix_images::replace_file;
use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::CpuModel;
use serde::{Deserialize, Serialize};

use super::PastRunError;
use super::folder::text_of;
use crate::contained;
use crate::scenario::CellName;

/// The file with the models.
pub const CPU_MODELS: &str = "cpu-models.json";

/// The CPU models of a QEMU in a level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuModels {
    /// The cell that was booted to ask.
    pub cell: CellName,
    /// The level that the QEMU ran.
    pub level: LevelNumber,
    /// The version of the QEMU.
    pub qemu: Option<String>,
    /// The type of the level's machine, which decides what unversioned names of models stand for.
    pub machine: Option<String>,
    /// The models, by name.
    pub models: Vec<CpuModel>,
}

/// Writes the models into the folder of a run.
///
/// # Errors
/// It can't be written.
pub fn write_cpu_models(run: &Path, models: &CpuModels) -> io::Result<()> {
    replace_file(&run.join(CPU_MODELS), &text_of(models)?)
}

/// Reads the models in the folder of a run; none if the run has no such file.
///
/// # Errors
/// The file can't be read, or is damaged.
pub fn read_cpu_models(run: &Path) -> Result<Option<CpuModels>, PastRunError> {
    let path = run.join(CPU_MODELS);
    match contained::read_to_string(run, Path::new(CPU_MODELS)) {
        Ok(text) => {
            let damaged =
                |source: serde_json::Error| PastRunError::Damaged { path, line: source.line(), source };
            serde_json::from_str(&text).map(Some).map_err(damaged)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PastRunError::Unreadable { path, source }),
    }
}
