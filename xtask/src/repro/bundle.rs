//! `repro --bundle`: one archive for a bug report.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use nestmatrix::contained;
use nestmatrix::records::{CellRecord, PastRun};
use nestmatrix::reproduce::{Bundle, BundleError, ImageName, SCRIPT};
use nestmatrix_images::{Store, StoreOptions};
use nestmatrix_vmm::guest::printable;

use super::Repro;
use crate::exit::Failure;
use crate::terminal::print;

pub fn write(arguments: &Repro, past: &PastRun, record: &CellRecord) -> Result<ExitCode, Failure> {
    let refuse = |why: String| Err(Failure::bad_input(miette::miette!("{why}")));
    let cell = &record.cell;
    let Some(cell_folder) = &record.folder else {
        let why = record.symptom.as_deref().unwrap_or("no reason is recorded");
        return refuse(format!("{cell} was not tested: {why}"));
    };
    let folder = past.folder.join(cell_folder.as_path());
    match contained::open(&past.folder, &cell_folder.as_path().join(SCRIPT)) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let why = "its images were not available, or an older nestmatrix made the run";
            return refuse(format!("{} has no {SCRIPT}: {why}", folder.display()));
        }
        Err(e) => return refuse(format!("failed to read {}: {e}", folder.join(SCRIPT).display())),
    }
    let store =
        Store::open(StoreOptions { offline: true, ..StoreOptions::default() }).map_err(Failure::error)?;
    let mut images = BTreeMap::new();
    for image in record.levels.iter().filter_map(|level| level.image.as_ref()).chain(&record.emulator) {
        let name = ImageName::from(image);
        if name.folder().contains('/') || !name.folder().chars().all(|c| c.is_ascii_graphic()) {
            return refuse(format!("{:?} is not the name of an image", name.folder()));
        }
        let found = store.find(&name.digest).map_err(Failure::error)?;
        let Some(found) = found else {
            let (cache, digest) = (store.cache().display(), &name.digest);
            let image = name.folder();
            // Only derived recipes have a `+` in their names.
            let advice = if name.recipe.contains('+') {
                "images with a replaced kernel or QEMU are removed after the run; run the cell again with the same \
                 arguments and --keep-images"
            } else {
                "run the cell again"
            };
            return Err(Failure::error(format!(
                "image {image} ({digest}) is no longer in {cache}; {advice}"
            )));
        };
        images.insert(name.folder(), found.folder().to_owned());
    }
    let name = cell.as_str().replace('/', "-");
    let to = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.zst")));
    let json = |value: serde_json::Result<Vec<u8>>| value.map_err(Failure::error);
    let bundle = Bundle {
        name: name.clone(),
        run: &past.folder,
        cell: cell_folder,
        records: vec![
            ("cell.json".to_owned(), json(serde_json::to_vec_pretty(record))?),
            ("run.json".to_owned(), json(serde_json::to_vec_pretty(&past.record))?),
        ],
        images: images.into_iter().collect(),
    };
    let written = bundle.write(&to, arguments.overwrite).map_err(|error| match error {
        BundleError::Exists(_) => Failure::bad_input(miette::miette!("{error}; replace it with --overwrite")),
        BundleError::Unwritable { .. } | BundleError::Unreadable { .. } => Failure::error(error),
    })?;
    for (path, what) in &written.left_out {
        let name = path.display().to_string();
        eprintln!("left out: {} ({what})", printable(&name));
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let to = to.display();
    print(&format!(
        "{to}: {} MiB; {} files, {} MiB when unpacked\n",
        mib(written.bytes),
        written.files,
        mib(written.unpacked)
    ));
    print(&format!("run it on any machine: tar --zstd -xf {to} && sh {name}/{SCRIPT}\n"));
    Ok(ExitCode::SUCCESS)
}
