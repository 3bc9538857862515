//! Events in the life of a level, on a real stack on emulated metal: L1 is paused, saved and reset while its L2 runs. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::time::Duration;

use common::{Cell, Place, Run, boots, of_cells, scenarios, trials};

/// Longest wait for one stack.
const ONE: Duration = Duration::from_secs(10 * 60);

fn run(cell: &str) -> Run {
    let _guard = boots(&of_cells(&scenarios("lifecycles"), &[cell]));
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("lifecycles")).arg(cell);
    // Nothing is left behind, whatever happened to the stack.
    place.finish(command, ONE).keep(&format!("lifecycles-{}", cell.trim_end_matches("/*")))
}

/// How often a line of a level's console begins like this.
fn lines(cell: &Cell, level: &str, begin: &str) -> usize {
    cell.console(level).iter().filter(|line| line.starts_with(begin)).count()
}

fn an_l1_is_paused_saved_and_reset_and_its_l2_lives_on_or_again() {
    let run = run("l1-with-l2/*");
    let cell = run.cell("l1-with-l2/");
    assert_eq!((run.code, cell.text("verdict")), (Some(0), "pass"), "{:#}", cell.record);

    let seen = cell.record["steps"][0]["output"].as_str().unwrap();
    let seen: Vec<&str> = seen.lines().collect();
    let begin = ["pause: paused for ", "save-restore: saved ", "reset: L1 is up again; nested=1; "];
    assert!(seen.len() == begin.len(), "{seen:#?}");
    for (line, begin) in seen.iter().zip(begin) {
        assert!(line.starts_with(begin) && line.contains("; L2 answers, its counter "), "{line}");
    }

    let nonce = cell.record["evidence"]["nonce"].as_str().unwrap();
    let nonces: Vec<String> = cell
        .console("L2")
        .into_iter()
        .filter_map(|line| Some(line.strip_prefix("nonce=")?.to_owned()))
        .collect();
    assert!(nonces.len() == 2 && nonces[0] != nonces[1] && nonces[1] == nonce, "{nonces:?}, {nonce}");
    assert_eq!(
        lines(&cell, "L1", "nestmatrix: level up"),
        2,
        "it was reset once, and restored without booting"
    );

    let l1 = cell.conversation("L1.qmp.jsonl");
    let count = |direction: &str, what: &dyn Fn(&serde_json::Value) -> bool| {
        l1.iter().filter(|(dir, message)| dir == direction && what(message)).count()
    };
    assert_eq!(
        count("<", &|message| message["QMP"].is_object()),
        2,
        "two QEMUs have run it, one after the other"
    );
    assert!(count("<", &|message| message["event"] == "RESET") > 0, "{l1:#?}");
    let last = l1.iter().rfind(|(dir, message)| dir == ">" && message["execute"] == "set-action").unwrap();
    assert_eq!(last.1["arguments"]["reboot"], "shutdown", "another reset would be noticed");
    let quit = count(">", &|message| message["execute"] == "quit");
    assert_eq!(quit, 1);

    // L1's KVM has counted anew since its reset, and has run the new L2.
    let exits = &cell.record["evidence"]["exits"]["l1"];
    assert!(exits["after"].as_u64() > exits["before"].as_u64(), "{exits}");
}

fn a_save_whose_qemu_is_killed_is_an_error_that_says_so() {
    let run = run("killed-while-saved/*");
    let cell = run.cell("killed-while-saved/");
    assert_eq!((cell.text("verdict"), cell.text("stage")), ("error", "step-2"), "{:#}", cell.record);
    assert!(cell.text("symptom").contains("L1's QEMU was killed (SIGKILL)"), "{}", cell.text("symptom"));
}

fn a_save_without_room_is_an_error_that_says_so() {
    let run = run("no-room/*");
    let cell = run.cell("no-room/");
    assert_eq!((cell.text("verdict"), cell.text("stage")), ("error", "step-2"), "{:#}", cell.record);
    assert!(cell.text("symptom").contains("its file could not be written"), "{}", cell.text("symptom"));
}

fn an_l1_that_panics_boots_its_crash_kernel_which_shows_the_dump() {
    let run = run("l1-crash-kernel/*/debian-13/debian-13/debian-13");
    let cell = run.cell("l1-crash-kernel/");
    assert_eq!((run.code, cell.text("verdict")), (Some(0), "pass"), "{:#}", cell.record);
    let kernel = cell.record["levels"][1]["kernel"].as_str().unwrap();
    let seen = cell.record["steps"][0]["output"].as_str().unwrap();
    let of_kernel = format!("MiB of kernel {kernel}, with the nonce that was written to its log before; ");
    assert!(seen.contains(&of_kernel) && seen.contains("; L2 answers, its counter "), "{seen}");
    let (up, dump) = ("nestmatrix: level up", "nestmatrix: dump kernel up");
    assert_eq!((lines(&cell, "L1", up), lines(&cell, "L1", dump)), (2, 1), "one dump between two boots");
}

trials! {
    #[ignore = "boots one more stack, and its L1 three times: two minutes"]
    an_l1_that_panics_boots_its_crash_kernel_which_shows_the_dump;
    an_l1_is_paused_saved_and_reset_and_its_l2_lives_on_or_again;
    #[ignore = "boots one more stack, twice"]
    a_save_whose_qemu_is_killed_is_an_error_that_says_so;
    #[ignore = "boots one more stack"]
    a_save_without_room_is_an_error_that_says_so;
}
