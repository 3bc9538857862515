//! What a level gets for a command.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn command(words: &[&str]) -> UserCommand {
    UserCommand {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        copies: Vec::new(),
        environment: Vec::new(),
        folder: "/home/me".to_owned(),
    }
}

fn prepare(command: &UserCommand) -> Result<Exec, String> {
    let scratch = tempfile::tempdir().unwrap();
    command.prepare(Isa::of_this_machine().unwrap(), scratch.path()).map_err(|e| e.to_string())
}

#[test]
fn a_program_of_the_level_is_run_as_it_is() {
    let environment = vec![("WHERE".to_owned(), "it's here".to_owned())];
    let exec = prepare(&UserCommand { environment, ..command(&["uname", "-r", "a b"]) }).unwrap();
    assert_eq!(exec.files, []);
    let expected =
        "mkdir -p /home/me && cd /home/me || exit 125\nexport WHERE='it'\\''s here'\nexec uname -r 'a b'\n";
    assert_eq!(exec.script, expected);
}

#[test]
fn a_program_of_this_machine_comes_with_its_loader_and_its_libraries() {
    let own = std::env::current_exe().unwrap();
    let exec = prepare(&command(&[own.to_str().unwrap(), "--exact"])).unwrap();
    let [program, libraries] = &exec.files[..] else { panic!("{exec:?}") };
    let folder = libraries.folder_in_level();
    let run = format!("exec {folder}/ld.so --library-path {folder} {} --exact\n", program.path_in_level());
    assert!(exec.script.ends_with(&run), "{}", exec.script);
    assert_eq!(prepare(&command(&[own.to_str().unwrap(), "--exact"])).unwrap().script, exec.script);
}

#[test]
fn a_script_of_this_machine_comes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("a script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let exec = prepare(&command(&[script.to_str().unwrap()])).unwrap();
    assert!(exec.files.len() == 1 && exec.script.contains("/a script' \n"), "{exec:?}");
}

#[test]
fn files_and_folders_are_copied() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let copy = |from: &Path, to: &str| CopyArgument { from: from.to_owned(), to: to.to_owned() };
    let copies = vec![copy(&file, "/data"), copy(folder.path(), "/folder")];
    let exec = prepare(&UserCommand { copies, ..command(&["true"]) }).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = CopiedFile::new(&file, "file", Then::CopyTo("/data".to_owned())).unwrap();
    assert_eq!(exec.files[0], file);
    let archive = scratch.path().join("archive");
    copied(&copy(folder.path(), "/folder"), &archive).unwrap();
    let mut unpacked = tar::Archive::new(File::open(archive).unwrap());
    let names: Vec<PathBuf> =
        unpacked.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert!(names.contains(&PathBuf::from("data")), "{names:?}");
    let missing = copy(Path::new("/nowhere"), "/x");
    let why = prepare(&UserCommand { copies: vec![missing], ..command(&["true"]) }).unwrap_err();
    assert_eq!(why, "failed to read /nowhere: No such file or directory (os error 2)");
}

#[test]
fn a_program_for_other_processors_is_refused() {
    let own = std::env::current_exe().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let other =
        [Isa::Amd64, Isa::Ppc64el].into_iter().find(|isa| Some(*isa) != Isa::of_this_machine()).unwrap();
    let error = command(&[own.to_str().unwrap()]).prepare(other, scratch.path()).unwrap_err();
    let expected = format!("but the levels are {}", isa_name(other));
    assert!(error.to_string().ends_with(&expected), "{error}");
}
