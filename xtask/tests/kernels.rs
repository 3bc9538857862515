//! The user's own kernels, and the version that changes a verdict. Boots one stack of three levels, and hosts alone.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Images, Place, Run, boots, of_cells, of_recipes, scenarios, trials};
use serde_json::Value;

/// Longest wait for a command that boots nothing.
const SOON: Duration = Duration::from_secs(60);
/// Longest wait for one that boots.
const BOOTS: Duration = Duration::from_secs(20 * 60);

/// `command` with the scenarios of these tests, and its records in the place.
fn with_scenarios(place: &Place, words: &[&str]) -> Command {
    let mut command = place.xtask();
    command.args(words).arg("--scenarios").arg(scenarios("kernels"));
    command.arg("--results").arg(place.results()).arg("--offline");
    command
}

/// The output of `images show` for a recipe.
fn shown(place: &Place, recipe: &str) -> String {
    let mut show = place.xtask();
    show.args(["images", "show", recipe]);
    place.finish(show, SOON).stdout
}

/// The kernel image of a recipe's images.
fn kernel_image(place: &Place, recipe: &str) -> PathBuf {
    let shown = shown(place, recipe);
    let folder = shown.lines().find_map(|line| line.trim().strip_prefix("folder ")).unwrap();
    Path::new(folder.trim()).join("vmlinuz")
}

/// The package of that kernel, in the cache.
fn kernel_package(place: &Place, recipe: &str) -> PathBuf {
    let shown = shown(place, recipe);
    let package = shown
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("linux-image-") && line.contains("-cloud-"));
    let words: Vec<&str> = package.unwrap().split(' ').collect();
    let folder = kernel_image(place, recipe);
    let cache = folder.ancestors().nth(3).unwrap();
    cache.join("packages").join(format!("{}_{}_{}.deb", words[0], words[1], words[2]))
}

/// The images of these tests' cells, and other recipes whose kernels are tested in them.
fn images_with_kernels(recipes: &[&str]) -> Images {
    of_cells(&scenarios("kernels"), &["*"]).into_iter().chain(of_recipes(recipes)).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every line of standard output, with the last one separate.
fn trials(run: &Run) -> (Vec<Value>, Value) {
    let lines = run.stdout.lines();
    let mut lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.pop().unwrap_or_else(|| panic!("nothing was said: {run:#?}"));
    (lines.into_iter().map(|line| line["tried"].clone()).collect(), last)
}

fn mistakes_are_told_from_what_cannot_be_tried(words: &[&str], code: i32, said: &str) {
    let place = Place::new();
    let run = place.finish(with_scenarios(&place, words), SOON);
    assert_eq!(run.code, Some(code), "{run:#?}");
    assert!(run.stderr_words().contains(said), "{run:#?}");
}

fn a_kernel_for_another_architecture_is_a_mistake() {
    let place = Place::new();
    // The beginning of an ELF file for Arm, and the text that every kernel contains.
    let kernel =
        [b"\x7fELF\x02".as_slice(), &[0; 13], &[183, 0], &[0; 44], b"Linux version 6.1.0 (x)"].concat();
    let file = place.path().join("vmlinux");
    std::fs::write(&file, kernel).unwrap();
    for (words, code) in
        [(vec!["run-matrix", "line/*"], 128), (vec!["bisect", "line/*", "--axis", "l0.kernel"], 2)]
    {
        let mut command = with_scenarios(&place, &words);
        command.arg("--kernel").arg(&file);
        let run = place.finish(command, SOON);
        assert_eq!(run.code, Some(code), "{run:#?}");
        assert!(run.stderr_words().contains("it is a kernel for arm64"), "{run:#?}");
    }
}

fn a_kernel_of_ones_own_is_booted_and_told_and_one_that_does_not_come_up_is_not_tried() {
    let _guard = boots(&images_with_kernels(&["debian-12-amd64"]));
    let place = Place::new();
    let other = kernel_image(&place, "debian-12-amd64");
    // The innermost level needs no modules.
    let words = ["run-matrix", "stack/*", "--kernel", path(&other), "--level", "L2", "--metal", "emulated"];
    let run = place.finish(with_scenarios(&place, &words), BOOTS);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let cell = run.cell("stack");
    let level = |number: usize| cell.record["levels"][number].clone();
    assert!(level(2)["kernel"].as_str().unwrap().starts_with("6.1.0-"), "{:#}", cell.record);
    assert!(level(1)["kernel"].as_str().unwrap().starts_with("6.12."), "{:#}", cell.record);
    assert_eq!(
        (&level(2)["os"], &level(2)["fidelity"]),
        (&"debian-13+local-kernel".into(), &"stand-in".into())
    );
    assert!(
        level(2)["fidelity_reason"].as_str().unwrap().starts_with("its kernel is not its own but 6.1.0-")
    );
    let recipe = level(2)["image"]["recipe"].as_str().unwrap().to_owned();
    assert!(recipe.starts_with("debian-13-amd64+local-kernel-6.1.0-"), "{recipe}");
    assert_ne!(level(2)["image"]["digest"], level(1)["image"]["digest"]);
    assert_eq!(level(1)["fidelity"], "product");

    // L0's channels need modules that are missing, so the boot never gets far enough to say anything.
    let words = ["run-matrix", "line/*", "--kernel", path(&other), "--level", "l0"];
    let run = place.finish(with_scenarios(&place, &words), BOOTS);
    assert_eq!(run.code, Some(125), "{run:#?}");
    assert!(run.stderr.contains("which comes without modules: what L0 needs must be built in"), "{run:#?}");
    assert!(run.stderr.contains("not tested: line/amd/debian-13"), "{run:#?}");
    assert_eq!(run.cell("line").text("verdict"), "error");
}

fn the_change_is_found_among_versions_and_what_does_not_boot_is_told() {
    let _guard = boots(&images_with_kernels(&["debian-11-amd64", "debian-12-amd64"]));
    let place = Place::new();
    // The versions in the cached images.
    let words = ["bisect", "line/*", "--axis", "l0.kernel", "--format", "json"];
    let run = place.finish(with_scenarios(&place, &words), BOOTS);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let (tried, found) = trials(&run);
    assert_eq!(found["found"], "change", "{run:#?}");
    assert!(found["before"]["version"].as_str().unwrap().starts_with("5.10."), "{found}");
    assert_eq!((&found["before"]["verdict"], &found["first"]["verdict"]), (&"fail".into(), &"pass".into()));
    assert!(found["first"]["version"].as_str().unwrap().starts_with("6.1."), "{found}");
    // The ends, the middle, and both sides of the change once more.
    assert_eq!(tried.len(), 5, "{tried:#?}");
    let records: Vec<&str> = tried.iter().map(|tried| tried["records"].as_str().unwrap()).collect();
    assert!(records.iter().all(|run| Path::new(run).join("verdicts.jsonl").exists()), "{records:?}");
    assert_eq!(tried[0]["stage"], "step-1");
    assert!(tried[0]["symptom"].as_str().unwrap().contains("too old"), "{tried:#?}");

    let [old, new] = ["debian-11-amd64", "debian-13-amd64"].map(|recipe| kernel_package(&place, recipe));
    let silent = kernel_image(&place, "debian-12-amd64");
    let mut bisect = with_scenarios(&place, &["bisect", "line/*", "--axis", "l0.kernel", "--once"]);
    for kernel in [&new, &silent, &old] {
        bisect.arg("--kernel").arg(kernel);
    }
    // In the given order, whatever their releases are.
    let run = place.finish(bisect, BOOTS);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let last = run.stdout.lines().last().unwrap();
    assert!(last.starts_with("changed between 6.12."), "{run:#?}");
    assert!(last.contains("(pass) and 5.10.") && last.contains("(fail); 6.1.0-"), "{run:#?}");
    assert!(last.ends_with(" could not be tested"), "{run:#?}");
    assert!(run.stdout.contains("not tested  l0-boot"), "{run:#?}");
}

trials! {
    mistakes_are_told_from_what_cannot_be_tried {
        // None of these says anything about a commit of `git bisect run`.
        no_such_cell(&["run-matrix", "nothing/*", "--kernel", "x"], 128, "no cell matches"),
        no_such_level(&["run-matrix", "line/*", "--kernel", "x", "--level", "l9"], 128, "invalid value 'l9'"),
        no_such_option(&["run-matrix", "line/*", "--kernel", "x", "--leve", "l0"], 128, "unexpected argument"),
        equals_sign(&["run-matrix", "line/*", "--kernel=x", "--leve", "l0"], 128, "unexpected argument"),
        levels_and_kernels(
            &["run-matrix", "line/*", "--kernel", "x", "--kernel", "y", "--kernel", "z", "--level", "l0", "--level", "l1"],
            128,
            "3 kernels but 2 levels"
        ),
        // This does: the commit does not build, or its result is not a kernel.
        not_built(&["run-matrix", "line/*", "--kernel", "not/there"], 125, "not/there"),
        no_kernel(&["run-matrix", "line/*", "--kernel", "/proc/version"], 125, "it is not a kernel"),
        // Without a kernel, nothing changes.
        usual(&["run-matrix", "nothing/*"], 4, "no cell matches"),
        level_alone(&["run-matrix", "line/*", "--level", "l0"], 2, "required"),
        not_run_matrix(&["bisect", "*", "--axis", "l0.kernel", "--kernel", "x", "--oops"], 2, "unexpected argument"),
        which_cell(&["bisect", "*", "--axis", "l0.kernel"], 2, "matches 2 cells"),
        which_level(&["bisect", "line/*", "--axis", "l1.kernel"], 2, "its stack boots no L1"),
        kernel_for_qemu(&["bisect", "line/*", "--axis", "l0.qemu", "--kernel", "x"], 2, "cannot be used with a QEMU axis"),
        nothing_between(&["bisect", "line/*", "--axis", "l0.kernel", "--from", "99"], 4, "versions to choose from: 0"),
        all_of_nothing(&["bisect", "line/*", "--axis", "l0.kernel", "--from", "99", "--all"], 4, "versions to choose from: 0"),
    };
    a_kernel_for_another_architecture_is_a_mistake;
    a_kernel_of_ones_own_is_booted_and_told_and_one_that_does_not_come_up_is_not_tried;
    #[ignore = "boots eight hosts: two minutes"]
    the_change_is_found_among_versions_and_what_does_not_boot_is_told;
}
