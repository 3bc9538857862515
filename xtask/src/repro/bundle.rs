//! `repro --bundle`: one archive for a bug report.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use nestmatrix::contained;
use nestmatrix::records::{CellRecord, LevelRecord, PastRun};
use nestmatrix::reproduce::{Bundle, BundleError, ImageName, SCRIPT};
use nestmatrix_images::Product;
use nestmatrix_vmm::guest::printable;

use super::Repro;
use crate::exit::Failure;
use crate::input;
use crate::terminal::{note, print};

/// The system whose packages anyone may pass on.
const DEBIAN: &str = "debian";

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
    let store = input::offline_store()?;
    let mut images = BTreeMap::new();
    let disks: Vec<&LevelRecord> = record.levels.iter().filter(|level| is_from_disk(level)).collect();
    let levels = record.levels.iter().filter(|level| !is_from_disk(level));
    let of_levels = levels.filter_map(|level| level.image.clone());
    let firmware = record.levels.iter().filter_map(|level| level.uefi.as_ref()?.image());
    let swtpm = record.levels.iter().filter_map(|level| level.swtpm.clone());
    for image in &of_levels.chain(firmware).chain(swtpm).chain(record.emulator.clone()).collect::<Vec<_>>() {
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
        // Its own record decides, since that of the cell may come from another machine.
        if found.product() == Product::Disk {
            return refuse(format!("the record takes {} for another image, but it is a disk", found.name()));
        }
        if let Some(os) = found.os().filter(|os| os.id != DEBIAN) {
            let of = format!("{} {}", os.id, os.version);
            note!(
                "the image {} has packages of {}; check whether you may pass them on",
                name.folder(),
                printable(&of)
            );
        }
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
    for LevelRecord { level, disk, image, .. } in &disks {
        let image = image.as_ref().map_or_else(String::new, |image| ImageName::from(image).folder());
        let medium = disk.as_ref().map_or_else(String::new, |disk| format!(" ({})", disk.in_full()));
        note!("left out: the disk of {level}, {}{}", printable(&image), printable(&medium));
    }
    for (path, what) in &written.left_out {
        let name = path.display().to_string();
        note!("left out: {} ({what})", printable(&name));
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let to = to.display();
    print(&format!(
        "{to}: {} MiB; {} files, {} MiB when unpacked\n",
        mib(written.bytes),
        written.files,
        mib(written.unpacked)
    ));
    if disks.is_empty() {
        print(&format!("run it on any machine: tar --zstd -xf {to} && sh {name}/{SCRIPT}\n"));
    } else {
        print(&format!("{name}/{SCRIPT} in it describes the stack; without the disk, it can't be run\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a level booted from a disk. Its image has the vendor's system, which the user may not be free to pass on.
fn is_from_disk(level: &LevelRecord) -> bool {
    let product = Product::Disk.to_string();
    level.disk.is_some() || level.image.as_ref().is_some_and(|image| image.product == product)
}
