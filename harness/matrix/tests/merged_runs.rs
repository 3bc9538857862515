//! Merged runs: the results, in files and as text. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use std::fs;
use std::path::{Path, PathBuf};

use nestmatrix::records::{
    CellRecord, CutOff, Durations, Merge, MergeError, Merged, PastRun, Purpose, ResumeError, RunFolder,
    RunRecord, VerdictWord, durations,
};
use nestmatrix::report;
use nestmatrix::scenario::CellName;
use report_fixtures::{known_stale, limited, outcome, record, skipped, stopped};

const PASS: &str = "rhel-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+";
const OTHER: &str = "rhel-preview/amd/rhel-9.2+/rhel-9.2+/rhel-10.0+";
const THIRD: &str = "rhel-preview/amd/rhel-10.0+/rhel-9.2+/rhel-9.2+";

/// Writes the folder of a run like a real one: these cells of `planned` got their verdicts.
fn write(
    folder: &Path,
    cells: &[CellRecord],
    planned: &[&str],
    change: impl FnOnce(&mut RunRecord),
) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let mut run = outcome(cells.to_vec(), 60, false).run;
    run.cells = planned.len();
    change(&mut run);
    fs::write(folder.join("run.json"), serde_json::to_string_pretty(&run).unwrap()).unwrap();
    let line = |cell: &CellRecord| serde_json::to_string(cell).unwrap() + "\n";
    fs::write(folder.join("verdicts.jsonl"), cells.iter().map(line).collect::<String>()).unwrap();
    fs::write(folder.join("cells.txt"), planned.iter().map(|name| format!("{name}\n")).collect::<String>())
        .unwrap();
    for cell in cells.iter().filter(|cell| cell.folder.is_some()) {
        let (path, _) = RunFolder::cell_in(folder, &cell.cell).unwrap();
        fs::create_dir(path.join("attempt-1")).unwrap();
        for name in ["L0.console.log", "attempt-1/L0.qmp.jsonl"] {
            fs::write(path.join(name), format!("{} {}", folder.display(), cell.cell)).unwrap();
        }
    }
    folder.to_owned()
}

fn of(cell: &str, verdict: VerdictWord) -> CellRecord {
    record("limits", cell, verdict, 30.0)
}

fn failed(cell: &str) -> CellRecord {
    stopped(of(cell, VerdictWord::Fail), "l2-boot", "kernel panic")
}

fn merge(results: &Path, runs: &[PathBuf]) -> Merged {
    Merge::read(runs).unwrap().write(results, None, vec!["merge".into()]).unwrap()
}

/// Cell, verdict and origin of every line.
fn lines(run: &PastRun) -> Vec<(&str, VerdictWord, &str)> {
    run.cells.iter().map(|cell| (cell.cell.as_str(), cell.verdict, cell.run.as_deref().unwrap())).collect()
}

/// Every folder and file below this one.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(all_below(&entry.path()));
        }
        all.push(entry.path());
    }
    all.sort();
    all
}

#[test]
fn two_shards_become_one_run_that_says_which_saw_what() {
    let place = tempfile::tempdir().unwrap();
    let shard = |shard: &'static str| move |run: &mut RunRecord| run.shard = Some(shard.parse().unwrap());
    let a = write(&place.path().join("a"), &[of(PASS, VerdictWord::Pass)], &[PASS], |run| {
        shard("1/2")(run);
        run.run = "a".into();
    });
    let b = write(&place.path().join("b"), &[failed(OTHER)], &[OTHER], |run| {
        shard("2/2")(run);
        run.run = "b".into();
        run.began = "2025-11-21T22:30:00Z".into();
        run.machine.cores = 64;
        run.machine.kernel = "6.1.0".into();
    });
    let results = place.path().join("results");
    let merged = merge(&results, &[a.clone(), b]);
    let run = &merged.outcome.run;
    assert_eq!((run.verdicts.pass, run.verdicts.fail, run.cells, run.exit_code()), (1, 1, 2, 1));
    assert_eq!(
        (run.began.as_str(), run.ended.as_deref()),
        ("2025-11-21T22:30:00Z", Some("2025-11-21T22:51:17Z"))
    );
    assert_eq!((run.machine.kernel.as_str(), run.machine.cores), ("6.1.0, 6.12.57+deb13-amd64", 0));
    assert!(merged.conflicts.is_empty() && run.missing_shards.is_empty() && run.missing_cells.is_empty());
    assert_eq!(run.merged[1].shard, Some("2/2".parse().unwrap()));

    let past = PastRun::read(&merged.outcome.folder).unwrap();
    assert_eq!(lines(&past), [(OTHER, VerdictWord::Fail, "b"), (PASS, VerdictWord::Pass, "a")]);
    let folder = past.cells[1].folder.as_ref().unwrap();
    let folder = folder.as_path();
    assert_eq!(folder, Path::new("runs/a/cells").join(PASS));
    for name in ["L0.console.log", "attempt-1/L0.qmp.jsonl"] {
        let text = fs::read_to_string(past.folder.join(folder).join(name)).unwrap();
        assert_eq!(text, format!("{} {PASS}", a.display()));
    }
    assert_eq!(fs::canonicalize(results.join("latest")).unwrap(), past.folder.canonicalize().unwrap());
    assert!(a.join("cells").join(PASS).is_dir(), "what is merged stays as it is");
    assert!(matches!(CutOff::open(&past.folder), Err(ResumeError::Merged(_))));
}

#[test]
fn different_verdicts_stay_side_by_side_and_the_worst_counts() {
    let place = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| place.path().join(name));
    let a = write(
        &a,
        &[of(PASS, VerdictWord::Pass), skipped("limits", OTHER, "no image")],
        &[PASS, OTHER],
        |_| {},
    );
    let b = write(&b, &[failed(PASS), of(OTHER, VerdictWord::Pass)], &[PASS, OTHER], |_| {});
    let merged = merge(&place.path().join("results"), &[a, b]);
    let run = &merged.outcome.run;
    assert_eq!((run.verdicts.pass, run.verdicts.fail, run.verdicts.skip), (1, 1, 0));
    assert_eq!((run.cells, run.exit_code()), (2, 1));
    assert_eq!(run.conflicts, [PASS.parse::<CellName>().unwrap()], "a skip contradicts nothing");
    let name = "2025-11-21T22-39-41Z";
    let (first, second) = (name.to_owned(), format!("{name}-2"));
    let past = PastRun::read(&merged.outcome.folder).unwrap();
    let expected = [
        (OTHER, VerdictWord::Skip, first.as_str()),
        (OTHER, VerdictWord::Pass, second.as_str()),
        (PASS, VerdictWord::Pass, first.as_str()),
        (PASS, VerdictWord::Fail, second.as_str()),
    ];
    assert_eq!(lines(&past), expected);
    insta::assert_snapshot!(report::merged(&merged, &report::Style::plain()));
}

#[test]
fn known_limitations_that_are_gone_count_for_less_than_news() {
    let place = tempfile::tempdir().unwrap();
    let limit = |verdict| limited(of(PASS, verdict), "l1-launch", "svm");
    let known = known_stale(limit(VerdictWord::Xpass), "why");
    let counts = |name: &str, records: [CellRecord; 2]| {
        let [a, b] = [0, 1].map(|number| {
            let folder = place.path().join(format!("{name}-{number}"));
            write(&folder, &records[number..=number], &[PASS], |_| {})
        });
        let merged = merge(&place.path().join("results"), &[a, b]);
        (merged.outcome.records[0].verdict, merged.outcome.run.verdicts.known_stale, merged.conflicts.len())
    };
    assert_eq!(counts("a", [known.clone(), limit(VerdictWord::Xpass)]), (VerdictWord::Xpass, 0, 0));
    assert_eq!(counts("b", [known, limit(VerdictWord::Xfail)]), (VerdictWord::Xpass, 1, 1));
    assert_eq!(counts("c", [of(PASS, VerdictWord::Error), failed(PASS)]), (VerdictWord::Error, 0, 1));
    assert_eq!(counts("d", [failed(PASS), failed(PASS)]), (VerdictWord::Fail, 0, 0));
}

#[test]
fn cells_without_a_verdict_make_the_result_incomplete() {
    let place = tempfile::tempdir().unwrap();
    let killed =
        write(&place.path().join("a"), &[of(PASS, VerdictWord::Pass)], &[PASS, OTHER, THIRD], |run| {
            run.shard = Some("3/3".parse().unwrap());
            run.ended = None;
            run.verdicts = Default::default();
        });
    // The line that was being written.
    let verdicts = killed.join("verdicts.jsonl");
    fs::write(&verdicts, fs::read_to_string(&verdicts).unwrap() + "{\"cell\": \"rhel-pre").unwrap();
    let other = write(&place.path().join("b"), &[of(OTHER, VerdictWord::Pass)], &[OTHER], |run| {
        run.shard = Some("1/3".parse().unwrap());
    });
    let merged = merge(&place.path().join("results"), &[killed.clone(), other]);
    let run = &merged.outcome.run;
    assert_eq!((run.verdicts.pass, run.cells, run.exit_code()), (2, 3, 3));
    assert!(run.ended.is_none());
    assert_eq!(run.missing_cells, [THIRD.parse::<CellName>().unwrap()]);
    assert_eq!(run.missing_shards, ["2/3".parse().unwrap()]);
    assert_eq!(run.merged[0].verdicts.pass, 1, "counted by what is there");
    insta::assert_snapshot!(report::merged(&merged, &report::Style::plain()));

    fs::remove_file(killed.join("cells.txt")).unwrap();
    let refused = Merge::read(&[killed]).unwrap().write(&place.path().join("results"), None, Vec::new());
    assert!(matches!(refused, Err(MergeError::NoCells(_))), "{refused:?}");
}

#[test]
fn shards_of_different_divisions_do_not_stand_in_for_each_other() {
    let place = tempfile::tempdir().unwrap();
    let shards = [("amd", "1/2"), ("amd", "2/2"), ("intel", "2/2")];
    let folders: Vec<PathBuf> = (0_u8..)
        .zip(shards)
        .map(|(number, (division, shard))| {
            write(&place.path().join(number.to_string()), &[of(PASS, VerdictWord::Pass)], &[PASS], |run| {
                (run.shard, run.division) = (Some(shard.parse().unwrap()), Some(division.into()));
            })
        })
        .collect();
    let run = merge(&place.path().join("results"), &folders).outcome.run;
    assert_eq!((run.missing_shards, run.verdicts.pass), (vec!["1/2".parse().unwrap()], 1));
}

#[test]
fn what_was_merged_can_be_merged_again_and_says_the_same() {
    let place = tempfile::tempdir().unwrap();
    let folder = |name: &str, cells: &[CellRecord], shard: &str| {
        let planned: Vec<&str> = cells.iter().map(|cell| cell.cell.as_str()).collect();
        write(&place.path().join(name), cells, &planned, |run| run.shard = Some(shard.parse().unwrap()))
    };
    let a = folder("a", &[of(PASS, VerdictWord::Pass)], "1/3");
    let b = folder("b", &[failed(OTHER)], "2/3");
    let c = folder("c", &[of(THIRD, VerdictWord::Pass)], "3/3");
    let results = place.path().join("results");
    let at_once = merge(&results, &[a.clone(), b.clone(), c.clone()]);
    let first = merge(&results, &[a, b]);
    assert_eq!(first.outcome.run.exit_code(), 3, "the third is missing");
    let into = place.path().join("new/merged");
    let again = Merge::read(&[first.outcome.folder, c]).unwrap();
    let again = again.write(&results, Some(&into), Vec::new()).unwrap();
    assert_eq!(again.outcome.folder, into);
    let [at_once, again] = [at_once.outcome.folder, into].map(|folder| PastRun::read(&folder).unwrap());
    assert_eq!(lines(&at_once), lines(&again));
    assert_eq!(at_once.record.verdicts, again.record.verdicts);
    assert_eq!(again.record.exit_code(), 1);
    let below = |run: &PastRun| {
        let all = all_below(&run.folder.join("runs"));
        all.iter().map(|path| path.strip_prefix(&run.folder).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(below(&at_once), below(&again));
    assert!(
        again.cells.iter().all(|cell| again.folder.join(cell.folder.as_ref().unwrap().as_path()).is_dir())
    );
}

#[test]
fn what_cannot_be_merged_is_refused_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let results = place.path().join("results");
    fs::create_dir(&results).unwrap();
    let good = write(&place.path().join("a"), &[of(PASS, VerdictWord::Pass)], &[PASS], |_| {});
    let twice = Merge::read(&[good.clone(), place.path().join("a/../a")]);
    assert!(matches!(twice, Err(MergeError::Twice(_))));
    assert!(matches!(Merge::read(std::slice::from_ref(&results)), Err(MergeError::Unreadable(_))));
    let upwards = write(&place.path().join("b"), &[], &[], |run| run.run = "../b".into());
    let outside = write(&place.path().join("c"), &[of(PASS, VerdictWord::Pass)], &[PASS], |_| {});
    let verdicts = outside.join("verdicts.jsonl");
    let inside = fs::read_to_string(&verdicts).unwrap();
    for folder in ["cells/../../a", "/etc", ".", ""] {
        fs::write(&verdicts, inside.replace(&format!("\"cells/{PASS}\""), &format!("\"{folder}\""))).unwrap();
        let refused = Merge::read(std::slice::from_ref(&outside)).unwrap_err().to_string();
        assert!(refused.contains(&format!("line 1: {folder:?} is not a folder inside a run's")), "{refused}");
    }
    let stranger = CellRecord { run: Some("who".into()), ..of(PASS, VerdictWord::Pass) };
    let stranger = write(&place.path().join("d"), &[stranger], &[PASS], |_| {});
    for bad in [upwards, stranger] {
        let merged = Merge::read(&[good.clone(), bad]).unwrap().write(&results, None, Vec::new());
        assert!(matches!(merged, Err(MergeError::OutsideFolder { .. })), "{merged:?}");
    }
    // The files of two cells can't both be in one folder. The folder that the user had made stays.
    let passed = || of(PASS, VerdictWord::Pass);
    let same_folder = [passed(), CellRecord { cell: OTHER.parse().unwrap(), ..passed() }];
    let same_folder = write(&place.path().join("e"), &same_folder, &[PASS, OTHER], |_| {});
    let into = place.path().join("into");
    fs::create_dir(&into).unwrap();
    let merged = Merge::read(&[same_folder]).unwrap().write(&results, Some(&into), Vec::new());
    assert!(matches!(merged, Err(MergeError::Unwritable { .. })), "{merged:?}");
    assert!(all_below(&into).is_empty() && into.is_dir());
    let in_the_way =
        Merge::read(std::slice::from_ref(&good)).unwrap().write(&results, Some(&good), Vec::new());
    assert!(matches!(in_the_way, Err(MergeError::InTheWay(_))), "{in_the_way:?}");
    assert!(all_below(&results).is_empty(), "nothing is left");

    let of_mutants =
        write(&place.path().join("m"), &[failed(PASS)], &[PASS], |run| run.purpose = Purpose::Mutation);
    assert!(matches!(Merge::read(&[of_mutants]), Err(MergeError::Mutation(_))));

    let restored_from = RunFolder::create(&results).unwrap();
    assert!(matches!(Merge::read(&[restored_from.path().to_owned()]), Err(MergeError::InProgress(_))));
}

#[test]
fn nothing_of_a_run_is_changed_and_nothing_from_outside_is_taken() {
    let place = tempfile::tempdir().unwrap();
    let a = write(&place.path().join("a"), &[failed(PASS)], &[PASS], |_| {});
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let linked =
        write(&place.path().join("linked"), &[failed(OTHER)], &[OTHER], |run| run.run = "linked".into());
    let (of_cell, _) = RunFolder::cell_in(&linked, &OTHER.parse().unwrap()).unwrap();
    fs::remove_dir_all(&of_cell).unwrap();
    std::os::unix::fs::symlink(&outside, &of_cell).unwrap();
    std::os::unix::fs::symlink(outside.join("secret"), a.join("cells").join(PASS).join("secret")).unwrap();
    merge(&place.path().join("results"), &[a.clone(), linked]);
    assert!(!all_below(&place.path().join("results")).iter().any(|path| path.ends_with("secret")));

    // The same record twice would name the same files twice.
    let verdicts = a.join("verdicts.jsonl");
    let line = fs::read_to_string(&verdicts).unwrap();
    fs::write(&verdicts, format!("{line}{line}")).unwrap();
    let why = Merge::read(std::slice::from_ref(&a)).unwrap_err();
    assert!(why.to_string().contains("line 2: a second record of rhel-preview/amd/"), "{why}");
    let log = a.join("cells").join(PASS).join("L0.console.log");
    assert!(fs::metadata(log).unwrap().len() > 0);
}

#[test]
fn leftovers_of_a_killed_merge_do_no_harm() {
    let place = tempfile::tempdir().unwrap();
    let a = write(&place.path().join("a"), &[failed(PASS)], &[PASS], |_| {});
    let left = place.path().join(".merging-x1");
    let going_on = place.path().join(".merging-x2");
    for folder in [&left, &going_on] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("lock"), "").unwrap();
    }
    let locked = fs::File::open(going_on.join("lock")).unwrap();
    locked.lock().unwrap();
    let into = place.path().join("merged");
    fs::create_dir(&into).unwrap();
    let merge = || Merge::read(std::slice::from_ref(&a)).unwrap();
    merge().write(place.path(), Some(&into), vec!["merge".into()]).unwrap();
    assert!(!left.exists() && going_on.exists());
    assert_eq!(PastRun::read(&into).unwrap().cells.len(), 1);
    let again = merge().write(place.path(), Some(&into), vec!["merge".into()]);
    assert!(matches!(again, Err(MergeError::InTheWay(_))), "{again:?}");
}

#[test]
fn the_newest_duration_of_a_cell_counts() {
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str, began: &str, cells: &[CellRecord]| {
        write(&place.path().join(name), cells, &[], |run| (run.run, run.began) = (name.into(), began.into()))
    };
    let took = |cell, seconds| record("limits", cell, VerdictWord::Pass, seconds);
    let new = run("new", "2026-02-01T00:00:00Z", &[took(PASS, 7.0), skipped("limits", OTHER, "no image")]);
    let old = run("old", "2026-01-01T00:00:00Z", &[took(PASS, 90.0), took(OTHER, 50.0), took(THIRD, 20.0)]);
    let expected: Durations =
        [(PASS, 7.0), (OTHER, 0.0), (THIRD, 20.0)].map(|(name, s)| (name.parse().unwrap(), s)).into();
    let read = |folder: &PathBuf| PastRun::read(folder).unwrap();
    assert_eq!(durations(&[read(&new), read(&old)]), expected);
    assert_eq!(durations(&[read(&old), read(&new)]), expected);
    let merged = merge(&place.path().join("results"), &[old, new]).outcome.folder;
    assert_eq!(durations(&[read(&merged)]), expected, "each of the merged runs has its own time");
}

#[test]
fn ten_thousand_cells_of_four_shards_are_merged() {
    let place = tempfile::tempdir().unwrap();
    let shards: Vec<PathBuf> = (0..4)
        .map(|shard| {
            let names: Vec<String> = (0..2500)
                .map(|n| format!("rhel-preview-{}/amd/rhel-{n}.{shard}/rhel-9/rhel-9", n % 40))
                .collect();
            let cells: Vec<CellRecord> =
                names.iter().map(|name| CellRecord { folder: None, ..of(name, VerdictWord::Pass) }).collect();
            let planned: Vec<&str> = names.iter().map(String::as_str).collect();
            write(&place.path().join(shard.to_string()), &cells, &planned, |_| {})
        })
        .collect();
    let merged = merge(&place.path().join("results"), &shards);
    assert_eq!((merged.outcome.run.verdicts.pass, merged.outcome.run.merged.len()), (10_000, 4));
}
