//! Tests of the snapshot cache, on folders of their own.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nestmatrix_model::LevelNumber;
use rstest::rstest;

use super::memory::{BLOCK, CHUNK};
use super::*;

const L1: LevelNumber = LevelNumber::ALL[1];

fn inputs(emulator: &str) -> Inputs {
    let inputs = [("L0 machine", "-machine q35"), ("emulator", emulator)];
    inputs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// A memory of some blocks, of which those that are named hold data.
fn memory(folder: &Path, blocks: &[u64]) -> File {
    let file =
        File::options().create(true).read(true).write(true).truncate(true).open(folder.join("ram")).unwrap();
    file.set_len(3 * CHUNK + 4096).unwrap();
    for block in blocks {
        file.write_all_at(format!("block {block}").as_bytes(), block * BLOCK + 7).unwrap();
    }
    file
}

fn save(cache: &SnapshotCache, emulator: &str, blocks: &[u64]) {
    save_with_disks(cache, emulator, blocks, Vec::new());
}

fn save_with_disks(cache: &SnapshotCache, emulator: &str, blocks: &[u64], disks: Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let draft = cache.draft(L1, inputs(emulator)).unwrap();
    fs::write(draft.device(), "devices").unwrap();
    fs::write(folder.path().join("L0.console.log"), "up").unwrap();
    let memory = memory(folder.path(), blocks);
    let levels =
        vec![SnapshotLevel { level: LevelNumber::ALL[0], pid: None, qemu: "10.0".into(), firmware: None }];
    let parts = Parts { records: folder.path().to_owned(), disks, levels, ..Parts::default() };
    cache.publish(draft.finish(&memory, parts).unwrap()).unwrap();
}

fn states(place: &Path) -> SnapshotCache {
    SnapshotCache::open(place.join("states"), 1 << 40).unwrap()
}

fn found(cache: &SnapshotCache, emulator: &str) -> Snapshot {
    match cache.find(L1, &inputs(emulator)).unwrap() {
        Lookup::Found(state) => *state,
        other => panic!("{other:?}"),
    }
}

fn folders(cache: &SnapshotCache) -> usize {
    fs::read_dir(&cache.root).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
}

#[tokio::test]
async fn what_is_saved_is_found_as_it_was_by_another_harness() {
    let place = tempfile::tempdir().unwrap();
    save(&states(place.path()), "A", &[0, 5, 200]);
    let states = states(place.path());
    let state = found(&states, "A");
    let original = memory(place.path(), &[0, 5, 200]);
    let bytes = |file: &File| {
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    assert!(bytes(&File::open(state.memory()).unwrap()) == bytes(&original));
    assert!(fs::metadata(state.memory()).unwrap().blocks() * 512 < CHUNK, "what is zero takes no room");
    assert_eq!(fs::read(state.device()).unwrap(), b"devices");
    assert_eq!(fs::read(state.records().join("L0.console.log")).unwrap(), b"up");
    assert!(matches!(states.find(LevelNumber::ALL[0], &inputs("A")).unwrap(), Lookup::Nothing));
    let copy = tempfile::tempfile().unwrap();
    state.copy_memory(&copy).await.unwrap();
    assert!(bytes(&copy) == bytes(&original));
}

fn flip(path: &Path, at: u64) {
    let mut permissions = fs::metadata(path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a file of this test alone")]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[rstest]
#[case::memory(|folder: &Path| flip(&folder.join(MEMORY), 5 * BLOCK + 8), "memory is not as it was written")]
#[case::hole(|folder: &Path| flip(&folder.join(MEMORY), 2 * CHUNK + 1), "memory is not as it was written")]
#[case::last_byte(|folder: &Path| flip(&folder.join(MEMORY), 3 * CHUNK + 4095), "memory is not as it was written")]
#[case::devices(|folder: &Path| flip(&folder.join(DEVICE), 3), "device is not as it was written")]
#[case::description(|folder: &Path| flip(&folder.join(STATE), 40), "state.json is not as it was written")]
#[case::seal(|folder: &Path| flip(&folder.join(SEAL), 1), "state.json is not as it was written")]
#[case::truncated(
    |folder: &Path| File::options().write(true).open(folder.join(STATE)).unwrap().set_len(10).unwrap(),
    "state.json is not as it was written"
)]
#[case::gone(|folder: &Path| fs::remove_file(folder.join(DEVICE)).unwrap(), "device: No such file")]
fn what_is_not_as_it_was_written_is_not_used_and_removed(#[case] damage: fn(&Path), #[case] expected: &str) {
    let place = tempfile::tempdir().unwrap();
    save(&states(place.path()), "A", &[0, 5]);
    let key = SnapshotKey::of(L1, &inputs("A"));
    let states = states(place.path());
    assert!(states.has(&key));
    damage(&states.root.join(key.as_str()));
    match states.find(L1, &inputs("A")).unwrap() {
        Lookup::Damaged(why) => assert!(why.contains(expected), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(!states.has(&key));
    assert_eq!(folders(&states), 0);
}

#[test]
fn damage_is_noticed_also_after_the_snapshot_was_used_once() {
    let place = tempfile::tempdir().unwrap();
    let states = states(place.path());
    save(&states, "A", &[3]);
    let folder = found(&states, "A").folder;
    flip(&folder.join(MEMORY), 3 * BLOCK);
    assert!(matches!(states.find(L1, &inputs("A")).unwrap(), Lookup::Damaged(_)));
}

#[test]
fn a_memory_that_was_cut_short_shows_by_its_length() {
    let place = tempfile::tempdir().unwrap();
    save(&states(place.path()), "A", &[3]);
    let states = states(place.path());
    let memory = states.root.join(SnapshotKey::of(L1, &inputs("A")).as_str()).join(MEMORY);
    flip(&memory, 0);
    File::options().write(true).open(&memory).unwrap().set_len(CHUNK).unwrap();
    match states.find(L1, &inputs("A")).unwrap() {
        Lookup::Damaged(why) => assert_eq!(why, "memory has 33554432 bytes, 100667392 were written"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_of_another_emulator_is_none_and_the_difference_is_named() {
    let place = tempfile::tempdir().unwrap();
    let states = states(place.path());
    save(&states, "QEMU 10.0", &[3]);
    assert!(matches!(states.find(L1, &inputs("QEMU 11.1")).unwrap(), Lookup::Nothing));
    let why = states.nearest(L1, &inputs("QEMU 11.1"));
    assert_eq!(why.as_deref(), Some("emulator: QEMU 10.0, not QEMU 11.1"));
}

#[test]
fn what_was_used_longest_ago_goes_first_and_what_is_in_use_stays() {
    let place = tempfile::tempdir().unwrap();
    let one = {
        let states = states(place.path());
        save(&states, "A", &[0]);
        states.list().unwrap()[0].bytes
    };
    let states = SnapshotCache::open(place.path().join("states"), one * 2).unwrap();
    let later = |name: &str, seconds| {
        let key = SnapshotKey::of(L1, &inputs(name));
        let used = File::options().write(true).open(states.root.join(key.as_str()).join(USED)).unwrap();
        used.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
    };
    later("A", 10);
    save(&states, "B", &[0]);
    later("B", 20);
    save(&states, "C", &[0]);
    let names = || {
        let all = states.list().unwrap().into_iter();
        all.map(|listed| listed.description.inputs["emulator"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["C", "B"]);
    let in_use = found(&states, "B");
    later("B", 5);
    save(&states, "D", &[0]);
    assert_eq!(names(), ["D", "B"], "C makes room for D");
    assert_eq!(states.clear().unwrap(), one, "B is in use");
    drop(in_use);
    assert_eq!((states.clear().unwrap(), folders(&states)), (one, 0));
}

#[test]
fn what_a_killed_harness_left_half_written_is_removed_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let first = states(place.path());
    let writing = first.draft(L1, inputs("A")).unwrap();
    let killed = first.root.join("saving-killed");
    fs::create_dir(&killed).unwrap();
    fs::write(killed.join(LOCK), "").unwrap();
    let second = states(place.path());
    assert!(!killed.exists() && writing.device().parent().unwrap().exists());
    drop(writing);
    assert_eq!(folders(&second), 0);
}

/// What two levels have written: an overlay that is mostly a hole, and variables of a firmware.
fn written(place: &Path) -> Vec<PathBuf> {
    let [overlay, variables] = ["L1.qcow2", "L1-variables"].map(|name| place.join(name));
    let file = File::create(&overlay).unwrap();
    file.set_len(2 * CHUNK).unwrap();
    file.write_all_at(b"an overlay", BLOCK + 5).unwrap();
    fs::write(&variables, "BootOrder").unwrap();
    vec![overlay, variables]
}

#[test]
fn what_levels_have_written_is_saved_with_them() {
    let place = tempfile::tempdir().unwrap();
    let disks = written(place.path());
    let states = states(place.path());
    save_with_disks(&states, "A", &[0], disks.clone());
    let expected: Vec<Vec<u8>> = disks.iter().map(|disk| fs::read(disk).unwrap()).collect();
    // The next boot writes to the same files.
    disks.iter().for_each(|disk| fs::write(disk, "of the next boot").unwrap());
    let state = found(&states, "A");
    let saved = ["L1.qcow2", "L1-variables"].map(|name| state.disk(name).unwrap());
    let contents = saved.each_ref().map(|saved| fs::read(saved).unwrap());
    assert!(contents.as_slice() == expected);
    assert!(saved.iter().all(|saved| fs::metadata(saved).unwrap().permissions().readonly()));
    assert!(fs::metadata(&saved[0]).unwrap().blocks() * 512 < CHUNK, "what is zero takes no room");
    assert_eq!((state.disk("L2.qcow2"), state.disk("../memory")), (None, None));
    drop(state);
    assert!(states.clear().unwrap() > 0);
    assert_eq!(folders(&states), 0);
}

#[rstest]
#[case::data(|disks: &Path| flip(&disks.join("L1.qcow2"), BLOCK + 6), "disks/L1.qcow2 is not as it was written")]
#[case::hole(|disks: &Path| flip(&disks.join("L1.qcow2"), CHUNK + 1), "disks/L1.qcow2 is not as it was written")]
#[case::variables(|disks: &Path| flip(&disks.join("L1-variables"), 0), "disks/L1-variables is not as it was written")]
#[case::shorter(|disks: &Path| resize(&disks.join("L1.qcow2"), CHUNK), "disks/L1.qcow2 is not as it was written")]
#[case::longer(|disks: &Path| resize(&disks.join("L1.qcow2"), 3 * CHUNK), "disks/L1.qcow2 is not as it was written")]
#[case::gone(|disks: &Path| fs::remove_file(disks.join("L1-variables")).unwrap(), "disks/L1-variables: No such file")]
#[case::all_gone(|disks: &Path| fs::remove_dir_all(disks).unwrap(), "disks/L1-variables: No such file")]
fn a_snapshot_with_a_damaged_disk_is_not_used_and_removed(#[case] damage: fn(&Path), #[case] expected: &str) {
    let place = tempfile::tempdir().unwrap();
    save_with_disks(&states(place.path()), "A", &[0], written(place.path()));
    let key = SnapshotKey::of(L1, &inputs("A"));
    let states = states(place.path());
    damage(&states.root.join(key.as_str()).join(DISKS));
    match states.find(L1, &inputs("A")).unwrap() {
        Lookup::Damaged(why) => assert!(why.contains(expected), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(!states.has(&key));
    assert_eq!(folders(&states), 0);
}

fn resize(path: &Path, bytes: u64) {
    let mut permissions = fs::metadata(path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a file of this test alone")]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions).unwrap();
    File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

/// The disk that a level wrote to is gone, as if another process had cleared up.
#[test]
fn a_disk_that_can_not_be_saved_leaves_no_snapshot() {
    let place = tempfile::tempdir().unwrap();
    let states = states(place.path());
    let draft = states.draft(L1, inputs("A")).unwrap();
    fs::write(draft.device(), "devices").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let parts = Parts {
        records: folder.path().to_owned(),
        disks: vec![place.path().join("gone.qcow2")],
        ..Parts::default()
    };
    assert!(draft.finish(&memory(folder.path(), &[0]), parts).is_err());
    assert_eq!(folders(&states), 0);
}
