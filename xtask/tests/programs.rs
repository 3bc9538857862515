//! Programs and guests of the user in a level (`tests/programs/`). One test boots L0, L1 and L2, and each of them runs programs.
//! Another one boots guests as L2.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Place, Run, boots, of_cells, of_recipes, scenarios, trials};
use cpio::newc::{Builder, ModeFileType, trailer};
use nestmatrix_images::find_program;

/// Longest wait for the boot of all levels and their programs.
const BOOT: Duration = Duration::from_secs(420);
/// Longest wait for a command.
const SOON: Duration = Duration::from_secs(60);

/// A script that prints results of all kinds, and reads a file that comes with it.
const TAP: &str = "#!/bin/sh
echo 'TAP version 14'
echo 1..4
echo '# Subtest: arguments'
echo '    1..2'
[ \"$1\" ] && echo \"    ok 1 - $1\" || echo '    not ok 1 - none'
[ \"$2\" = \"it's\" ] && echo '    ok 2 - quoted' || echo '    not ok 2 - quoted'
echo 'ok 1 - arguments'
read -r line <data && echo \"ok 2 - data: $line\" || echo 'not ok 2 - data'
echo 'ok 3 - later # SKIP not here'
echo 'not ok 4 - soon # TODO it is not done'
";

/// The first process of a guest. It prints what it finds, and the prompt that the scenario waits for.
const PROMPTING: &str = "#!/bin/sh
echo \"first process $$ of the guest has $*\"
[ -e /.nestmatrix ] && echo 'the folder of the harness is left'
[ -e /proc/self ] && echo 'a mount of the harness is left'
sleep 0 || echo 'the PATH of the harness is left'
printf 'guest login: '
exec sleep 1000
";

struct User {
    place: Place,
}

impl User {
    fn new() -> Self {
        let user = Self { place: Place::new() };
        fs::write(user.path("data"), "hello\n").unwrap();
        user.script("tap", TAP);
        user.script("hanging", "#!/bin/sh\necho started\nwhile :; do :; done\n");
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn payloads(&self, arguments: &[&str]) -> Run {
        let mut command = self.place.xtask();
        command.arg("payloads").args(arguments).current_dir(self.place.path());
        self.place.finish(command, SOON)
    }

    fn run(&self) -> Run {
        let mut command = self.place.run_matrix();
        command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("programs"));
        self.place.finish(command, BOOT)
    }
}

/// An initramfs of the user: a program in an archive of its own, and after it that of an image, which has a shell.
fn initramfs(image: &Path, program: &str) -> Vec<u8> {
    let size = u32::try_from(program.len()).unwrap();
    let entry = Builder::new("first").mode(0o755).set_mode_file_type(ModeFileType::Regular);
    let mut writer = entry.write(Vec::new(), size);
    writer.write_all(program.as_bytes()).unwrap();
    let mut bytes = trailer(writer.finish().unwrap()).unwrap();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    [bytes, fs::read(image).unwrap()].concat()
}

/// A file of the image of a recipe for innermost levels.
fn image_file(user: &User, recipe: &str, name: &str) -> PathBuf {
    let mut show = user.place.xtask();
    show.args(["images", "show", recipe]);
    let shown = user.place.finish(show, SOON).stdout;
    let minimal = shown.lines().skip_while(|line| !line.contains("minimal"));
    let folder = minimal.into_iter().find_map(|line| line.trim().strip_prefix("folder ")).unwrap();
    Path::new(folder.trim()).join(name)
}

fn a_guest_is_added_checked_and_removed() {
    let user = User::new();
    fs::write(user.path("image.cpio"), "070701").unwrap();
    let path = user.path("image.cpio").canonicalize().unwrap().display().to_string();
    let listed = format!("my-guest: a guest, initramfs {path}\n");
    let added = user.payloads(&["add", "my-guest", "--initramfs", "image.cpio"]);
    assert_eq!(added.stdout, format!("added {listed}"), "{added:#?}");
    assert_eq!(user.payloads(&["list"]).stdout, listed);
    assert_eq!(user.payloads(&["check"]).stdout, "my-guest: ok\n");
    fs::write(user.path("image.cpio"), "070702").unwrap();
    let changed = user.payloads(&["check", "my-guest"]);
    assert_eq!(changed.code, Some(3), "{changed:#?}");
    // One name is one payload.
    assert_eq!(user.payloads(&["add", "my-guest", "tap"]).code, Some(0));
    assert!(user.payloads(&["list"]).stdout.starts_with("my-guest: /"));
    assert_eq!(user.payloads(&["remove", "my-guest"]).code, Some(0));
    assert_eq!(user.payloads(&["remove", "my-guest"]).code, Some(2));
    for (arguments, why) in [
        (vec!["x", "--initramfs", "tap"], "it is no initramfs"),
        (vec!["x", "--kernel", "tap"], "it is not a kernel"),
        (vec!["x", "tap", "--kernel", "tap"], "cannot be used with"),
        (vec!["kvm-unit-tests", "--initramfs", "image.cpio"], "is a suite"),
    ] {
        let refused = user.payloads(&[&["add"][..], &arguments[..]].concat());
        assert_eq!(refused.code, Some(2), "{refused:#?}");
        assert!(refused.stderr_words().contains(why), "{why}: {refused:#?}");
    }
}

fn without_a_guest_its_cells_are_skipped() {
    let user = User::new();
    let skipped = user.run().cell("guest-that-works");
    assert_eq!(
        (skipped.text("verdict"), &skipped.record["skip_reasons"][0]["kind"]),
        ("skip", &"no-payload".into())
    );
    let said = skipped.text("symptom");
    assert!(said.contains("payloads add prompting --kernel FILE --initramfs FILE"), "{said}");

    // The beginning of an ELF file for Arm, and the text that every kernel contains.
    let kernel =
        [b"\x7fELF\x02".as_slice(), &[0; 13], &[183, 0], &[0; 44], b"Linux version 6.1.0 (x)"].concat();
    fs::write(user.path("vmlinux"), kernel).unwrap();
    user.payloads(&["add", "prompting", "--kernel", "vmlinux"]);
    let other = user.run().cell("guest-that-works");
    assert!(other.text("symptom").contains("payload prompting has no initramfs"), "{:#}", other.record);
    fs::write(user.path("image.cpio"), "070701").unwrap();
    user.payloads(&["add", "prompting", "--kernel", "vmlinux", "--initramfs", "image.cpio"]);
    let other = user.run().cell("guest-that-works");
    assert!(other.text("symptom").contains("its kernel is for arm64, and L2 is amd64"), "{:#}", other.record);
}

fn a_guest_of_the_user_reports_works_and_may_fail() {
    let cells = ["guest-that-works/*", "guest-that-ends/*"];
    let images = of_cells(&scenarios("programs"), &cells).into_iter().chain(of_recipes(&["debian-12-amd64"]));
    let _guard = boots(&images.collect());
    let user = User::new();
    let image = image_file(&user, "debian-13-amd64", "initramfs.cpio");
    let kernel = image_file(&user, "debian-12-amd64", "vmlinuz");
    fs::write(user.path("prompting"), initramfs(&image, PROMPTING)).unwrap();
    fs::write(user.path("ending"), initramfs(&image, "#!/bin/sh\nexit 3\n")).unwrap();
    let kernel = kernel.to_str().unwrap();
    user.payloads(&["add", "prompting", "--kernel", kernel, "--initramfs", "prompting"]);
    user.payloads(&["add", "ending", "--initramfs", "ending"]);
    let run = user.run().keep("guests");

    let works = run.cell("guest-that-works");
    assert_eq!(works.text("verdict"), "pass", "{:#}", works.record);
    let l2 = &works.record["levels"][2];
    assert!(l2["kernel"].as_str().unwrap().starts_with("6.1.0-"), "{l2:#}");
    assert_eq!((&l2["os"], &l2["fidelity"]), (&"debian-13+prompting".into(), &"stand-in".into()));
    let reason = l2["fidelity_reason"].as_str().unwrap();
    assert!(reason.starts_with("it boots your payload prompting (vmlinuz, prompting)"), "{reason}");
    assert_eq!(l2["guest"]["ready"], "guest login:");
    assert_eq!(l2["guest"]["initramfs"]["sha256"].as_str().map(str::len), Some(64));
    let console = works.console("L2").join("\n");
    assert!(console.contains("first process 1 of the guest has argument"), "{console}");
    assert!(!console.contains("of the harness is left"), "{console}");

    let ends = run.cell("guest-that-ends");
    assert_eq!((ends.text("verdict"), ends.text("stage")), ("xfail", "l2-ready"), "{:#}", ends.record);
}

fn a_program_is_added_checked_and_removed() {
    let user = User::new();
    let path = user.path("tap").canonicalize().unwrap().display().to_string();
    let listed = format!("my-test: {path}, with 1 other path\n");
    let added = user.payloads(&["add", "my-test", "tap", "--file", "data:/data"]);
    assert_eq!(added.stdout, format!("added {listed}"), "{added:#?}");
    assert_eq!(user.payloads(&["list"]).stdout, listed);
    assert_eq!(user.payloads(&["check"]).stdout, "my-test: ok\n");
    fs::write(user.path("data"), "other").unwrap();
    let changed = user.payloads(&["check", "my-test"]);
    assert_eq!(changed.code, Some(3), "{changed:#?}");
    assert!(changed.stderr_words().contains("it has changed since it was added"), "{changed:#?}");
    assert_eq!(user.payloads(&["remove", "my-test"]).code, Some(0));
    assert_eq!(user.payloads(&["remove", "my-test"]).code, Some(2));
}

fn what_can_not_be_a_program_is_refused() {
    let user = User::new();
    for (arguments, why) in [
        (vec!["x", "nowhere"], "No such file"),
        (vec!["x", "data"], "it is not executable; set that with `chmod +x`"),
        (vec!["x", "."], "a folder can only be added as a suite: kvm-unit-tests"),
        (vec!["X", "tap"], "is no name for it"),
        (vec!["x", "tap", "--file", "data:data"], "no absolute path"),
        (vec!["kvm-unit-tests", ".", "--file", "data"], "--file is for a program"),
    ] {
        let refused = user.payloads(&[&["add"][..], &arguments[..]].concat());
        assert_eq!(refused.code, Some(2), "{refused:#?}");
        assert!(refused.stderr_words().contains(why), "{why}: {refused:#?}");
    }
}

fn without_a_program_its_cells_are_skipped() {
    let cell = User::new().run().cell("programs-in-all-levels");
    assert_eq!(cell.text("verdict"), "skip");
    assert_eq!(cell.record["skip_reasons"][0]["kind"], "no-payload");
    assert!(cell.text("symptom").contains("cargo xtask payloads add tap PROGRAM"), "{:#}", cell.record);
}

fn each_case_of_a_program_in_each_level_has_a_result() {
    let _guard = boots(&of_cells(&scenarios("programs"), &["programs-in-all-levels/*"]));
    let user = User::new();
    user.payloads(&["add", "tap", "tap", "--file", "data"]);
    user.payloads(&["add", "hanging", "hanging"]);
    // A small program, some of whose libraries are missing in a minimal level.
    let compiled = find_program("ls").unwrap();
    user.payloads(&["add", "compiled", compiled.to_str().unwrap()]);
    let run = user.run().keep("programs");
    let cell = run.cell("programs-in-all-levels");
    assert_eq!(cell.text("verdict"), "xfail", "{:#}", cell.record);
    let cases = |step: usize| {
        let cases = cell.record["steps"][step]["suite"]["cases"].as_array().unwrap().iter();
        let text = |of: &serde_json::Value| of.as_str().unwrap_or_default().to_owned();
        cases.map(|case| format!("{} {}", text(&case["outcome"]), text(&case["name"]))).collect::<Vec<_>>()
    };
    for (step, level) in [(0, "L0"), (2, "L1"), (4, "L2")] {
        let first = format!("pass tap: arguments/in {level}");
        let expected = [
            "known-fail tap: soon",
            "skip tap: later",
            first.as_str(),
            "pass tap: arguments/quoted",
            "pass tap: data: hello",
        ];
        assert_eq!(cases(step), expected, "{level}");
    }
    for step in [1, 3, 5] {
        assert_eq!(cases(step), ["pass compiled"]);
    }
    assert_eq!(cases(6), ["error hanging"]);
}

trials! {
    a_program_is_added_checked_and_removed;
    what_can_not_be_a_program_is_refused;
    without_a_program_its_cells_are_skipped;
    each_case_of_a_program_in_each_level_has_a_result;
    a_guest_is_added_checked_and_removed;
    without_a_guest_its_cells_are_skipped;
    a_guest_of_the_user_reports_works_and_may_fail;
}
