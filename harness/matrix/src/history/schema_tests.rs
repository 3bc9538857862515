use nestmatrix_model::Fidelity;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::history::testing::{attempt, cell, run};
use crate::history::{FILE, History, HistoryEntry};

/// Two runs with two cells each, one of which was tried twice.
fn runs(results: &Path) {
    let mut twice = cell("s/amd/b", "pass", (20.0, 31.5), "6.12");
    twice["attempts"].as_array_mut().unwrap().insert(0, attempt("error", 10.0, 20.0));
    run(results, ("one", "CPU"), 1, &[cell("s/amd/a", "pass", (1.0, 9.25), "6.12"), twice]);
    let second = [cell("s/amd/a", "fail", (1.0, 9.25), "6.13"), cell("s/amd/b", "pass", (9.0, 19.0), "6.13")];
    run(results, ("two", "CPU"), 2, &second);
}

fn all(history: &History) -> Vec<HistoryEntry> {
    let cells = history.cells().unwrap();
    cells.iter().flat_map(|cell| history.entries(cell).unwrap()).collect()
}

/// A folder of results with its history, which has all.
fn results() -> (tempfile::TempDir, Vec<HistoryEntry>) {
    let results = tempfile::tempdir().unwrap();
    runs(results.path());
    let (mut history, aside) = History::open(results.path()).unwrap();
    assert_eq!(aside, None);
    assert_eq!(history.update().unwrap().verdicts, 4);
    let entries = all(&history);
    assert_eq!(entries.len(), 4);
    (results, entries)
}

fn version(path: &Path) -> (i64, i64) {
    let connection = Connection::open(path).unwrap();
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap();
    (number("application_id"), number("user_version"))
}

#[test]
fn a_history_says_what_it_is() {
    let (results, _) = results();
    assert_eq!(version(&results.path().join(FILE)), (0x6e65_7374, 4));
}

#[test]
fn a_history_of_version_1_is_brought_up_to_date_and_then_has_attempts_and_fidelities() {
    let (results, expected) = results();
    let path = results.path().join(FILE);
    let new = results.path().join("new");
    fs::rename(&path, &new).unwrap();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(MIGRATIONS[0]).unwrap();
    old.execute("ATTACH ? AS new", [new.to_str().unwrap()]).unwrap();
    let of_verdict =
        "id, run, cell, seen, verdict, known_stale, stage, symptom, seconds, saved, surroundings, digest";
    for (table, columns) in [
        ("run", "*"),
        ("software", "*"),
        ("surroundings", "*"),
        ("verdict", of_verdict),
        ("verdict_software", "verdict, software"),
        ("folder", "*"),
    ] {
        old.execute_batch(&format!("INSERT INTO {table} SELECT {columns} FROM new.{table}")).unwrap();
    }
    old.pragma_update(None, "application_id", APPLICATION).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);

    let (mut history, aside) = History::open(results.path()).unwrap();
    assert_eq!((version(&path).1, aside), (4, None));
    let mut without = expected.clone();
    for entry in &mut without {
        entry.attempts.clear();
        entry.with.levels.iter_mut().for_each(|level| level.fidelity = None);
    }
    assert_eq!(all(&history), without, "nothing else is lost");
    assert_eq!(history.update().unwrap().verdicts, 0, "what is there is not taken in twice");
    assert_eq!(all(&history), expected, "attempts and fidelities have come in");
    let levels = || expected.iter().flat_map(|entry| &entry.with.levels);
    assert!(levels().count() > 0 && levels().all(|level| level.fidelity == Some(Fidelity::StandIn)));
}

#[test]
fn a_history_in_memory_has_all_entries() {
    let (results, expected) = results();
    // What is only in the file, and what is only in a folder.
    fs::remove_dir_all(results.path().join("one")).unwrap();
    run(results.path(), ("three", "CPU"), 3, &[cell("s/amd/c", "pass", (1.0, 2.0), "6.14")]);
    let before = fs::read(results.path().join(FILE)).unwrap();
    let mut history = History::in_memory(results.path()).unwrap();
    assert_eq!(all(&history), expected);
    assert_eq!(history.update().unwrap().verdicts, 1);
    assert_eq!(all(&history).len(), 5);
    assert_eq!(fs::read(results.path().join(FILE)).unwrap(), before);
    fs::write(results.path().join(FILE), "damaged".repeat(1000)).unwrap();
    let mut history = History::in_memory(results.path()).unwrap();
    assert_eq!(history.update().unwrap().verdicts, 3, "what is there");
}

#[test]
fn a_history_of_a_newer_version_is_refused_and_left_alone() {
    let (results, _) = results();
    let path = results.path().join(FILE);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
    let before = fs::read(&path).unwrap();
    let said = History::open(results.path()).unwrap_err().to_string();
    assert!(
        said.contains("newer nestmatrix: its tables have version 5, and this nestmatrix supports up to 4"),
        "{said}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(results.path()).unwrap().count(), 3, "two runs and the history");
}

#[rstest]
#[case::no_database("not a database", |path: &Path| fs::write(path, "this is a text, and long enough for a header. ".repeat(99)).unwrap())]
#[case::another_program("another program", |path: &Path| {
    Connection::open(path).unwrap().pragma_update(None, "application_id", 7).unwrap();
})]
#[case::a_table_is_missing("not those of its version", |path: &Path| {
    Connection::open(path).unwrap().execute_batch("DROP TABLE attempt").unwrap();
})]
#[case::a_dangling_row("do not exist", |path: &Path| {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.execute_batch("DELETE FROM run WHERE name = 'one'").unwrap();
})]
#[case::an_older_version_in_name_alone("already exists", |path: &Path| {
    Connection::open(path).unwrap().pragma_update(None, "user_version", 1).unwrap();
})]
fn a_damaged_history_is_set_aside_and_rebuilt_from_the_runs(#[case] what: &str, #[case] damage: fn(&Path)) {
    let (results, expected) = results();
    let path = results.path().join(FILE);
    damage(&path);
    let damaged = fs::read(&path).unwrap();
    // The journal of the damaged history must not be applied to the new one.
    fs::write(results.path().join("history.sqlite3-wal"), "the rest of it").unwrap();
    let (mut history, aside) = History::open(results.path()).unwrap();
    let SetAside { to, why } = aside.unwrap();
    assert!(why.contains(what), "{why}");
    assert_eq!(fs::read(&to).unwrap(), damaged);
    assert!(!results.path().join("history.sqlite3-wal").exists());
    assert_eq!(history.update().unwrap().verdicts, 4);
    assert_eq!(all(&history), expected);
    assert_eq!(History::open(results.path()).unwrap().1, None, "the new one is whole");
}

#[test]
fn a_history_that_is_truncated_at_any_page_is_rebuilt() {
    let (results, expected) = results();
    let path = results.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    let page = 4096;
    assert!(whole.len() > 5 * page);
    for length in (0..whole.len()).step_by(page).flat_map(|end| [end, end + 100, end + page - 1]) {
        fs::write(&path, &whole[..length]).unwrap();
        let (mut history, aside) = History::open(results.path()).unwrap();
        // Nothing at all is what a killed maker leaves behind; and at the end of the last page there may be nothing to lose.
        let lost = length > 0 && (aside.is_some() || all(&history) != expected);
        assert_eq!(aside.is_some(), lost, "{length}: {aside:?}");
        history.update().unwrap();
        assert_eq!(all(&history), expected, "{length}");
        drop(history);
        aside.inspect(|aside| fs::remove_file(&aside.to).unwrap());
    }
}

#[test]
fn a_history_that_several_find_damaged_is_set_aside_once() {
    let (results, expected) = results();
    let path = results.path().join(FILE);
    fs::write(&path, "damaged".repeat(1000)).unwrap();
    let open = || {
        let (mut history, aside) = History::open(results.path()).unwrap();
        history.update().unwrap();
        (all(&history), aside.is_some())
    };
    let found: Vec<(Vec<HistoryEntry>, bool)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.iter().all(|(entries, _)| *entries == expected));
    assert_eq!(found.iter().filter(|(_, aside)| *aside).count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn changed_bytes_are_noticed_or_change_a_text_and_never_stop_the_program(
        places in proptest::collection::vec((0.0_f64..1.0, any::<u8>()), 1..40),
    ) {
        let (results, _) = results();
        let path = results.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        let length = bytes.len() as f64;
        for (place, byte) in places {
            bytes[(place * length) as usize] = byte;
        }
        fs::write(&path, bytes).unwrap();
        match History::open(results.path()) {
            Ok((mut history, _)) => match history.update().and_then(|_| history.cells()) {
                Ok(cells) => for cell in cells {
                    let read = history.entries(&cell);
                    prop_assert!(matches!(read, Ok(_) | Err(HistoryError::Damaged { .. })), "{read:?}");
                },
                Err(e) => prop_assert!(matches!(e, HistoryError::Damaged { .. }), "{e}"),
            },
            // That is what the version says then.
            Err(e) => prop_assert!(matches!(e, HistoryError::Newer { .. }), "{e}"),
        }
    }
}
