//! Snapshots: a stack that is restored from one gets the same verdict as one that boots from its beginning, with its own
//! evidence. A damaged snapshot is not used. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Cell, Place, boots, checkout, of_cells, trials};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Longest wait for a run.
const ALL: Duration = Duration::from_secs(20 * 60);

/// Stacks that share L0 and L1 and differ in L2.
const CELLS: [&str; 2] =
    ["twelve/amd/debian-12/debian-12/debian-12", "twelve/amd/debian-12/debian-12/debian-13"];

fn run(place: &Place, name: &str, cells: &[&str]) -> Vec<Cell> {
    let mut command = place.run_matrix();
    let scenarios = checkout().join("tests/bench/scenarios");
    command.args(["--metal", "emulated", "--jobs", "1", "--scenarios"]).arg(scenarios).args(cells);
    let run = place.finish(command, ALL).keep(name);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let cells = cells.iter().map(|cell| run.cell(cell)).collect::<Vec<_>>();
    assert!(cells.iter().all(|cell| cell.text("verdict") == "pass"));
    cells
}

/// A place in which a run over all cells saved a snapshot, and the results of these cells.
struct Saved {
    place: Place,
    cells: Vec<Cell>,
}

impl Saved {
    fn by(cells: &[&str]) -> Self {
        let place = Place::new();
        let cells = run(&place, "saved", cells);
        Self { place, cells }
    }
}

fn stacks_go_on_from_what_was_saved() {
    let _guard = boots(&of_cells(&checkout().join("tests/bench/scenarios"), &CELLS));
    a_stack_that_goes_on_has_evidence_of_its_own(&Saved::by(&CELLS));
}

/// One test, since its beginning takes most of its time, and a place that tests share is never removed.
fn no_stack_goes_on_from_what_was_changed_since() {
    let _guard = boots(&of_cells(&checkout().join("tests/bench/scenarios"), &CELLS[..1]));
    let saved = Saved::by(&CELLS[..1]);
    a_state_with_one_byte_flipped_is_not_used_and_the_run_says_so(&saved);
    a_state_of_another_qemu_is_not_used_and_the_run_says_so(&saved);
}

/// The only snapshot of a place.
fn only_state(place: &Place) -> PathBuf {
    let entries = fs::read_dir(place.states()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders.remove(0)
}

fn a_stack_that_goes_on_has_evidence_of_its_own(saved: &Saved) {
    let Saved { place, cells } = saved;
    let [first, second] = cells.as_slice() else { panic!("two cells") };
    assert!(first.record["restored"].is_null(), "{:#}", first.record);
    assert_eq!(first.record["cold"], "there is no snapshot yet");
    assert_eq!(second.record["restored"]["level"], "l1", "{:#}", second.record);
    assert_eq!(second.stages(), ["restore", "l0-kvm", "l1-kvm", "l2-launch", "l2-boot", "l2-check"]);
    // The disk has another image of L2 than the saved L1 knew: what L1 had cached of it must not count.
    let kernel = |cell: &Cell| cell.record["levels"][2]["kernel"].as_str().unwrap().to_owned();
    assert!(kernel(first).starts_with("6.1.") && kernel(second).starts_with("6.12."), "{}", kernel(second));
    // The same cell again, from the snapshot that it saved itself.
    let again = run(place, "saved-again", &CELLS[..1]).remove(0);
    assert_eq!(again.record["restored"]["level"], "l1");
    let nonce = |cell: &Cell| cell.record["evidence"]["report"]["nonce"].as_str().unwrap().to_owned();
    let mut nonces = [first, second, &again].map(nonce);
    nonces.sort();
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2], "{nonces:?}");
    for cell in [first, second, &again] {
        let evidence = &cell.record["evidence"];
        assert_eq!(evidence["report"]["nonce"], evidence["nonce"]);
        assert_eq!(
            (&evidence["kvm"]["l1"]["enabled"], &evidence["kvm"]["l2"]["enabled"]),
            (&json!(true), &json!(true))
        );
        let runs = &evidence["nested_runs"]["l0"];
        assert!(runs["after"].as_u64() > runs["before"].as_u64(), "{runs}");
    }
    // Its clock was set after the restore, and its levels' earlier conversations are kept.
    assert!(again.record["levels"][1]["kernel"].as_str().unwrap().starts_with("6.1."));
    for name in ["L0.console.saved.log", "L1.console.saved.log", "L1.qmp.saved.jsonl"] {
        assert!(!fs::read(again.file(name)).unwrap().is_empty(), "{name}");
    }
    let usage = &again.record["attempts"][0];
    assert!(
        usage["peak_memory_mib"].as_u64() > Some(100) && usage["cpu_seconds"].as_f64() > Some(1.0),
        "{usage}"
    );
}

fn a_state_with_one_byte_flipped_is_not_used_and_the_run_says_so(saved: &Saved) {
    let place = copy_of(saved);
    let memory = only_state(&place).join("memory");
    // Somewhere in the first data of the memory.
    let file = writable(&memory);
    let mut block = vec![0; 1 << 20];
    file.read_exact_at(&mut block, 0).unwrap();
    let at = block.iter().position(|byte| *byte != 0).unwrap();
    file.write_all_at(&[block[at] ^ 1], at as u64).unwrap();
    let cell = run(&place, "flipped", &CELLS[..1]).remove(0);
    assert!(cell.record["restored"].is_null(), "{:#}", cell.record);
    assert_eq!(cell.record["cold"], "the snapshot is damaged: memory is not as it was written");
    assert_eq!(cell.stages()[0], "l0-launch");
}

fn a_state_of_another_qemu_is_not_used_and_the_run_says_so(saved: &Saved) {
    let place = copy_of(saved);
    let folder = only_state(&place);
    let path = folder.join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state["inputs"]["emulator"] = "qemu-system-x86_64 9.2 (of another build)".into();
    let text = state.to_string();
    fs::write(&path, &text).unwrap();
    fs::write(folder.join("seal"), hex::encode(Sha256::digest(&text))).unwrap();
    // By the key that it has there, it would be the wanted one.
    let cell = run(&place, "another-qemu", &CELLS[..1]).remove(0);
    let cold = cell.text("cold");
    assert!(cell.record["restored"].is_null(), "{:#}", cell.record);
    let expected = "it was made of other things: emulator: qemu-system-x86_64 9.2 (of another build), not ";
    assert!(cold.contains(expected), "{cold}");
}

/// A place with a copy of the snapshot.
fn copy_of(saved: &Saved) -> Place {
    let place = Place::new();
    let state = only_state(&saved.place);
    let copy = place.states().join(state.file_name().unwrap());
    fs::create_dir_all(copy.join("records")).unwrap();
    for entry in fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let to = copy.join(path.file_name().unwrap());
            fs::copy(&path, &to).unwrap();
        }
    }
    for entry in fs::read_dir(state.join("records")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join("records").join(path.file_name().unwrap())).unwrap();
    }
    place
}

fn writable(path: &Path) -> File {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    File::options().read(true).write(true).open(path).unwrap()
}

trials! {
    stacks_go_on_from_what_was_saved;
    #[ignore = "boots three stacks from their beginning: one minute"]
    no_stack_goes_on_from_what_was_changed_since;
}
