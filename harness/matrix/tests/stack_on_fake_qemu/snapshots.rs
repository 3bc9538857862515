//! Stacks that save snapshots, and are restored from them.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_stack::{Inputs, Lookup, Snapshot, SnapshotCache};
use rstest::rstest;
use serde_json::json;

use crate::fake::{Fake, level};
use crate::script::How;

/// Longer than any stage of the fake is silent.
const SILENCE: Duration = Duration::from_millis(1500);

/// Boots a stack that saves a snapshot once L1 is up, and gives that.
async fn saved(place: &Path) -> Snapshot {
    let cache = Rc::new(SnapshotCache::open(place.join("states"), 1 << 30).unwrap());
    let booted = Fake::new().silent_for_at_most(SILENCE).saved_at(level(1), &cache).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    match cache.find(level(1), &Inputs::new()).unwrap() {
        Lookup::Found(snapshot) => *snapshot,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_stack_that_is_restored_passes_with_evidence_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let snapshot = saved(place.path()).await;
    let restored = snapshot.description().levels.clone();
    assert_eq!(restored.iter().map(|level| level.pid.is_some()).collect::<Vec<_>>(), [false, true]);
    let booted = Fake::new().silent_for_at_most(SILENCE).restored_from(snapshot).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()), "{:?}", booted.observation);
    assert_eq!(booted.observation.restored, Some(true));
    let stages: Vec<String> = booted.observation.stages.iter().map(|time| time.stage.to_string()).collect();
    assert_eq!(stages, ["restore", "l0-kvm", "l1-kvm", "l2-launch", "l2-boot", "l2-check"]);
    assert!(booted.records.join("L1.console.saved.log").exists(), "what was said before is kept");
}

#[rstest]
#[case::another_qemu("l1.qmp", "query-version", How::Return(json!({"qemu": {"major": 9, "minor": 0, "micro": 0}, "package": ""})))]
#[case::not_loaded("l0.qmp", "migrate-incoming", How::Refuse("it is not possible".into()))]
#[case::not_continued("l0.qmp", "cont", How::Refuse("it is not possible".into()))]
#[case::without_l1("l1.agent", "guest-sync-delimited", How::Never)]
#[tokio::test(flavor = "current_thread")]
async fn a_stack_that_can_not_be_restored_says_nothing_of_the_matrix(
    #[case] channel: &str,
    #[case] command: &str,
    #[case] how: How,
) {
    let place = tempfile::tempdir().unwrap();
    let fake = Fake::new().silent_for_at_most(SILENCE).restored_from(saved(place.path()).await);
    let booted = fake.reply(channel, command, how).boot().await;
    assert!(booted.stopped().starts_with("restore: "), "{}", booted.stopped());
    assert_eq!((booted.observation.restored, booted.word()), (Some(false), "error".into()));
    assert_eq!(booted.word_if_it_stops_from("l0-boot"), "error");
}
