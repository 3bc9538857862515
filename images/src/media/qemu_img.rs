//! Runs qemu-img on disk images. It gets the format and the protocol of every file, and opens none that has not been inspected: by
//! itself, it would guess both, and follow what an image names.

use super::{DiskFormat, MediumProblem};
use crate::progress::{Reporter, Step};
use crate::tool::{self, Ended, Tool};
use crate::{Catalog, Emulator, Error, Product, Progress, Store, find_program};
use nestmatrix_model::Isa;
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The name of the program.
pub(crate) const PROGRAM: &str = "qemu-img";

const QEMU_IMG: Tool = Tool {
    program: PROGRAM,
    does: "reads disk images",
    install: "qemu-utils (Debian) or qemu-img (Fedora and RHEL)",
};

/// How long it may read the metadata of an image, which takes milliseconds.
const INFO_LIMIT: Duration = Duration::from_secs(60);
/// How long it may check all metadata of an image, which takes seconds for a large one.
const CHECK_LIMIT: Duration = Duration::from_secs(600);

/// Exit codes of `qemu-img check` (qemu-img(1)).
const LEAKED_CLUSTERS: i32 = 3;
const NOT_SUPPORTED: i32 = 63;

/// A qemu-img on this machine.
#[derive(Debug, Clone)]
pub struct QemuImg {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    wrapper: Vec<OsString>,
}

/// The part of the output of `qemu-img info --output=json` that is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    virtual_size: u64,
    format: String,
    #[serde(default)]
    backing_filename: Option<String>,
    #[serde(default)]
    encrypted: bool,
}

impl QemuImg {
    /// The qemu-img of an emulator's image, which is built if this machine has neither such an image nor an installed one.
    ///
    /// # Errors
    /// [`Error::NoTool`] if none is available.
    pub fn find(store: &Store, catalog: &Catalog, progress: &dyn Progress) -> Result<Self, Error> {
        let (_, options) = store.parts();
        let wrapper = options.wrapper.clone();
        let recipes = catalog
            .recipes()
            .filter(|recipe| Some(recipe.isa()) == Isa::of_this_machine() && recipe.has_program(PROGRAM));
        let recipes: Vec<_> = recipes.collect();
        let of_image = |image| {
            let emulator = Emulator::new(image)?;
            let (program, arguments) = emulator.command(PROGRAM);
            Some(Self { program, arguments, environment: emulator.environment(), wrapper: wrapper.clone() })
        };
        for recipe in recipes.iter().filter(|recipe| store.has_images_of(recipe)) {
            // A damaged image that cannot be built again is skipped.
            if let Some(found) = store.ensure(recipe, Product::Emulator, progress).ok().and_then(of_image) {
                return Ok(found);
            }
        }
        if let Some(program) = find_program(PROGRAM) {
            return Ok(Self { program, arguments: Vec::new(), environment: Vec::new(), wrapper });
        }
        let mut source = std::io::Error::from(std::io::ErrorKind::NotFound);
        for recipe in recipes {
            match store.ensure(recipe, Product::Emulator, progress) {
                Ok(image) => {
                    if let Some(found) = of_image(image) {
                        return Ok(found);
                    }
                }
                Err(error) => source = std::io::Error::other(error),
            }
        }
        let Tool { program, does, install } = QEMU_IMG;
        Err(Error::NoTool { program, does, install, source })
    }

    /// The one that is installed on this machine, if any.
    pub fn installed(wrapper: &[OsString]) -> Option<Self> {
        let program = find_program(PROGRAM)?;
        Some(Self { program, arguments: Vec::new(), environment: Vec::new(), wrapper: wrapper.to_vec() })
    }

    fn command<'w>(&self, words: impl IntoIterator<Item = &'w OsStr>) -> Command {
        let mut command = tool::command_of(&self.wrapper, self.program.as_os_str());
        command.args(&self.arguments).args(words).envs(self.environment.iter().cloned());
        command
    }

    /// Runs it for at most `limit`. `path` is for the error.
    fn run(&self, words: &[&OsStr], limit: Duration, path: &Path, step: impl Fn()) -> Result<Ended, Error> {
        let ended = tool::run_within(&mut self.command(words.iter().copied()), Some(limit), |_| {
            step();
            false
        });
        let Tool { program, does, install } = QEMU_IMG;
        match ended {
            Ok(Some(ended)) => Ok(ended),
            Ok(None) => Err(MediumProblem::Timeout(limit).of(path).into()),
            Err(source) => Err(Error::NoTool { program, does, install, source }),
        }
    }

    /// The virtual size of an image in bytes. The image has been inspected.
    pub(crate) fn virtual_size(&self, path: &Path, format: DiskFormat) -> Result<u64, Error> {
        if format == DiskFormat::Iso {
            return std::fs::metadata(path).map(|data| data.len()).map_err(Error::io("read", path));
        }
        let file = file_name(path);
        let words = ["info", "--output=json", "-f", &format.to_string()].map(OsString::from);
        let words: Vec<&OsStr> = words.iter().chain([&file]).map(OsString::as_os_str).collect();
        let ended = self.run(&words, INFO_LIMIT, path, || {})?;
        let problem = |problem: MediumProblem| -> Result<u64, Error> { Err(problem.of(path).into()) };
        if !ended.status.success() {
            return problem(refused(format, ended));
        }
        let info: Info = match serde_json::from_str(&ended.output) {
            Ok(info) => info,
            Err(error) => return problem(MediumProblem::Refused { format, output: error.to_string() }),
        };
        match info {
            Info { backing_filename: Some(other), .. } => problem(MediumProblem::BackingFile(other)),
            Info { encrypted: true, .. } => problem(MediumProblem::Encrypted),
            Info { format: other, .. } if other != format.to_string() => {
                problem(MediumProblem::Refused { format, output: format!("it found {other}") })
            }
            Info { virtual_size, .. } => Ok(virtual_size),
        }
    }

    /// Checks all metadata of an image, where its format has a check.
    pub(crate) fn check(&self, path: &Path, format: DiskFormat, reporter: Reporter<'_>) -> Result<(), Error> {
        if matches!(format, DiskFormat::Raw | DiskFormat::Iso) {
            return Ok(());
        }
        let file = file_name(path);
        let words = ["check", "-f", &format.to_string()].map(OsString::from);
        let words: Vec<&OsStr> = words.iter().chain([&file]).map(OsString::as_os_str).collect();
        let ended = self.run(&words, CHECK_LIMIT, path, || reporter.step(Step::Checking))?;
        match ended.status.code() {
            Some(0 | LEAKED_CLUSTERS | NOT_SUPPORTED) => Ok(()),
            _ if is_cut(&ended) => {
                let reason = "its metadata name data beyond its end".to_owned();
                Err(MediumProblem::Truncated(reason).of(path).into())
            }
            _ => Err(refused(format, ended).of(path).into()),
        }
    }

    /// Makes a new qcow2 image of an empty disk.
    ///
    /// # Errors
    /// [`Error::NoTool`], [`Error::PackageTool`] if it fails.
    pub(crate) fn create_disk(&self, new: &Path, gib: u32) -> Result<(), Error> {
        let words = ["create", "-q", "-f", "qcow2"].map(OsString::from);
        let (file, size) = (file_name(new), OsString::from(format!("{gib}G")));
        let words: Vec<&OsStr> = words.iter().chain([&file, &size]).map(OsString::as_os_str).collect();
        let ended = self.run(&words, INFO_LIMIT, new, || {})?;
        if ended.status.success() { Ok(()) } else { Err(ended.error(PROGRAM, "create a disk")) }
    }

    /// Makes a new qcow2 image over another one.
    ///
    /// # Errors
    /// [`Error::NoTool`], [`Error::PackageTool`] if it fails.
    pub fn create_overlay(&self, new: &Path, backing: &Path, format: DiskFormat) -> Result<(), Error> {
        let words = ["create", "-q", "-f", "qcow2", "-F", &format.to_string(), "-b"].map(OsString::from);
        let (backing, file) = (file_name(backing), file_name(new));
        let words: Vec<&OsStr> = words.iter().chain([&backing, &file]).map(OsString::as_os_str).collect();
        let ended = self.run(&words, INFO_LIMIT, new, || {})?;
        if ended.status.success() { Ok(()) } else { Err(ended.error(PROGRAM, "create an overlay")) }
    }
}

/// What qemu-img takes for a file of this machine, whatever its name looks like.
fn file_name(path: &Path) -> OsString {
    let mut name = OsString::from("file:");
    name.push(path);
    name
}

fn refused(format: DiskFormat, ended: Ended) -> MediumProblem {
    let output = ended.complaints.lines().chain(ended.output.lines()).find(|line| !line.trim().is_empty());
    let output = output
        .map_or_else(|| ended.status.to_string(), |line| line.trim_start_matches("qemu-img: ").to_owned());
    MediumProblem::Refused { format, output }
}

/// Whether a check found data beyond the end of the file.
fn is_cut(ended: &Ended) -> bool {
    [&ended.complaints, &ended.output].iter().any(|text| {
        ["exceeding the end of the file", "is outside image", "truncated"]
            .iter()
            .any(|words| text.contains(words))
    })
}
