//! `snapshots`: lists and removes snapshots of stacks.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;

use nestmatrix::report::{Entry, Line, Role, Table};
use nestmatrix_images::Store;
use nestmatrix_stack::SnapshotCache;

use crate::cli::SnapshotsCommand;
use crate::exit::Failure;
use crate::input;
use crate::terminal::{print, style_of};

/// The variables that name the folder of snapshots; the second is the former name.
const VARIABLES: [&str; 2] = ["NESTMATRIX_SNAPSHOTS", "NESTMATRIX_STATES"];

/// Opens the user's snapshots, which may take `limit` GiB of disk space.
pub fn open(store: &Store, limit: u64) -> Result<SnapshotCache, Failure> {
    let folder = folder(store);
    let opened = SnapshotCache::open(folder.clone(), limit.saturating_mul(1 << 30));
    opened
        .map_err(|e| Failure::error(format!("cannot use the folder of snapshots {}: {e}", folder.display())))
}

/// The folder of snapshots.
pub fn folder(store: &Store) -> PathBuf {
    let value = |name: &str| std::env::var_os(name).filter(|folder| !folder.is_empty());
    let folder = VARIABLES.into_iter().find_map(value);
    folder.map_or_else(|| store.cache().join("states"), PathBuf::from)
}

pub fn run(command: SnapshotsCommand) -> Result<ExitCode, Failure> {
    let store = input::offline_store()?;
    // Nothing is saved here, so the limit does not matter.
    let snapshots = open(&store, 0)?;
    match command {
        SnapshotsCommand::List => {
            let listed = snapshots.list().map_err(Failure::error)?;
            let heading = |text: &str| Entry::new(text, Role::Heading);
            let mut table = Table::default();
            table.push(Line::Entries(vec![
                heading("key"),
                heading("up to"),
                Entry::right("MiB", Role::Heading),
                heading("saved"),
                heading("made of"),
            ]));
            for snapshot in &listed {
                let description = &snapshot.description;
                let images = description.inputs.iter().filter(|(name, _)| name.ends_with("image"));
                // RECIPE DIGEST.
                let recipe = |image: &str| image.split(' ').next().unwrap_or_default().to_owned();
                let images: Vec<String> = images.map(|(_, image)| recipe(image)).collect();
                let emulator = description.inputs.get("emulator").map_or("", String::as_str);
                table.push(Line::Entries(vec![
                    Entry::new(&description.key.as_str()[..12], Role::Plain),
                    Entry::new(description.level.to_string(), Role::Plain),
                    Entry::right((snapshot.bytes >> 20).to_string(), Role::Plain),
                    Entry::new(&description.saved, Role::Plain),
                    Entry::new(format!("{}; {emulator}", images.join(" > ")), Role::Plain),
                ]));
            }
            if listed.is_empty() {
                print("no snapshots\n");
            } else {
                print(&table.render(0, &style_of(&stdout())));
            }
        }
        SnapshotsCommand::Clear => {
            let freed = snapshots.clear().map_err(Failure::error)?;
            print(&format!("freed {} MiB\n", freed >> 20));
        }
    }
    Ok(ExitCode::SUCCESS)
}
