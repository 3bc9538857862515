//! Whole commands, with an agent whose level is this machine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nestmatrix_vmm::wire::{Speaker, Transcript, Wire};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::task::LocalSet;

use super::*;

/// An agent of QEMU, as far as a command needs it. [`FOLDER`] is another folder for it.
struct LocalAgent {
    folder: String,
    files: BTreeMap<i64, File>,
    /// Commands, and what they write to standard error.
    running: BTreeMap<i64, (Child, File)>,
    /// How many bytes were written to files.
    written: Rc<RefCell<usize>>,
    /// How many files are open.
    open: Rc<RefCell<usize>>,
}

impl LocalAgent {
    async fn serve(mut self, stream: UnixStream) {
        let (from, mut to) = stream.into_split();
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).await.unwrap() > 0 {
            let text = String::from_utf8_lossy(&line).replace(FOLDER, &self.folder);
            let request: Value = serde_json::from_str(text.trim_start_matches('\u{fffd}')).unwrap();
            let answer = match self.answer(request["execute"].as_str().unwrap(), &request["arguments"]) {
                Ok(value) => json!({"return": value}),
                Err(e) => json!({"error": {"desc": e.to_string()}}),
            };
            if request["execute"] == "guest-sync-delimited" {
                to.write_all(&[0xff]).await.unwrap();
            }
            if to.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                return;
            }
            *self.open.borrow_mut() = self.files.len();
            line.clear();
        }
    }

    fn answer(&mut self, command: &str, arguments: &Value) -> std::io::Result<Value> {
        let handle = arguments["handle"].as_i64().unwrap_or_default();
        let next = self.files.keys().last().map_or(1000, |last| last + 1);
        Ok(match command {
            "guest-sync-delimited" => arguments["id"].clone(),
            "guest-exec" => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", arguments["arg"][1].as_str().unwrap()]).stdin(Stdio::null());
                let stderr = tempfile::tempfile()?;
                let child = command.stdout(Stdio::null()).stderr(stderr.try_clone()?).spawn()?;
                let pid = i64::from(child.id());
                self.running.insert(pid, (child, stderr));
                json!({"pid": pid})
            }
            "guest-exec-status" => {
                let (child, stderr) = self.running.get_mut(&arguments["pid"].as_i64().unwrap()).unwrap();
                match child.try_wait()? {
                    None => json!({"exited": false}),
                    Some(status) => {
                        let mut said = Vec::new();
                        stderr.rewind()?;
                        stderr.read_to_end(&mut said)?;
                        let said = BASE64.encode(said);
                        json!({"exited": true, "exitcode": status.code(), "signal": status.signal(), "err-data": said})
                    }
                }
            }
            "guest-file-open" => {
                let writes = arguments["mode"] == "w";
                let mut options = File::options();
                options.read(!writes).write(writes).create(writes).truncate(writes);
                self.files.insert(next, options.open(arguments["path"].as_str().unwrap())?);
                json!(next)
            }
            "guest-file-read" => {
                let mut bytes = Vec::new();
                let count = arguments["count"].as_u64().unwrap();
                (&self.files[&handle]).take(count).read_to_end(&mut bytes)?;
                json!({"count": bytes.len(), "buf-b64": BASE64.encode(bytes), "eof": false})
            }
            "guest-file-write" => {
                let bytes = BASE64.decode(arguments["buf-b64"].as_str().unwrap()).unwrap();
                *self.written.borrow_mut() += bytes.len();
                (&self.files[&handle]).write_all(&bytes)?;
                json!({"count": bytes.len(), "eof": false})
            }
            "guest-file-flush" => json!({}),
            "guest-file-close" => {
                self.files.remove(&handle);
                json!({})
            }
            other => return Err(std::io::Error::other(format!("The command {other} has not been found"))),
        })
    }
}

/// A level that is this machine.
struct TestLevel {
    level: ExecLevel,
    folder: tempfile::TempDir,
    written: Rc<RefCell<usize>>,
    open: Rc<RefCell<usize>>,
}

/// What a command did.
#[derive(Debug, PartialEq)]
struct Done {
    status: Result<i64, String>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl TestLevel {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (written, open) = (Rc::default(), Rc::default());
        let agent = LocalAgent {
            folder: folder.path().display().to_string(),
            files: BTreeMap::new(),
            running: BTreeMap::new(),
            written: Rc::clone(&written),
            open: Rc::clone(&open),
        };
        let (near, far) = UnixStream::pair().unwrap();
        tokio::task::spawn_local(agent.serve(far));
        let (notices, _) = mpsc::channel(1);
        let wire = Wire::start(Speaker::Agent, "agent of L0", near, Transcript::none(), notices);
        Self { level: ExecLevel::new(Agent::greet(wire).await.unwrap()), folder, written, open }
    }

    async fn run(&self, files: &[CopiedFile], script: &str) -> Done {
        let exec = Exec { files: files.to_vec(), script: script.to_owned() };
        let (answers, mut answered) = mpsc::channel(1);
        let mut done = Done { status: Ok(0), stdout: Vec::new(), stderr: Vec::new() };
        let read = async {
            while let Some(answer) = answered.recv().await {
                let Answer::Printed { stream, base64 } = answer else { continue };
                let bytes = BASE64.decode(base64).unwrap();
                match stream {
                    Stream::Stdout => done.stdout.extend(bytes),
                    Stream::Stderr => done.stderr.extend(bytes),
                }
            }
        };
        let run = async {
            let answer = self.level.run(&exec, &answers).await;
            drop(answers);
            answer
        };
        let (answer, ()) = tokio::join!(run, read);
        done.status = answer.map(|answer| match answer {
            Answer::Ended { status, .. } => status.unwrap(),
            other => panic!("{other:?}"),
        });
        done
    }

    fn file(&self, contents: &[u8], then: Then) -> CopiedFile {
        let path = self.folder.path().join("a file");
        fs::write(&path, contents).unwrap();
        CopiedFile::new(&path, "a file", then).unwrap()
    }
}

fn done(status: i64, stdout: &[u8], stderr: &[u8]) -> Done {
    Done { status: Ok(status), stdout: stdout.to_vec(), stderr: stderr.to_vec() }
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_has_its_status_and_all_bytes_that_it_printed() {
    let test = async {
        let level = TestLevel::new().await;
        let expected = done(3, b"a\0\xff", b"b");
        assert_eq!(level.run(&[], "printf 'a\\0\\377'; printf b >&2; exit 3").await, expected);
        assert_eq!(level.run(&[], "exec true").await, done(0, b"", b""));
        let much = level.run(&[], "yes 0123456 | head -c 12000000; echo end >&2").await;
        assert!(much.status == Ok(0) && much.stderr == b"end\n" && much.stdout.len() == 12_000_000);
        assert!(much.stdout.chunks(8).all(|line| line == b"0123456\n"), "in order");
        tokio::time::timeout(Duration::from_secs(20), async {
            while *level.open.borrow() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("all files are closed");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_process_that_keeps_the_output_open_does_not_hold_up_the_end() {
    let test = async {
        let level = TestLevel::new().await;
        let pid = level.folder.path().join("pid");
        let script =
            format!("setsid sh -c 'echo $$ >{0}; exec sleep 1000' & sleep 0.3; echo x", pid.display());
        assert_eq!(level.run(&[], &script).await, done(0, b"x\n", b""));
        Command::new("kill").arg(fs::read_to_string(pid).unwrap().trim()).status().unwrap();
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn commands_at_once_do_not_disturb_each_other_if_one_is_given_up() {
    let test = async {
        let level = TestLevel::new().await;
        let run = async |number: i64| {
            let done = level.run(&[], &format!("head -c 100000 /dev/zero; exit {number}")).await;
            (done.status, done.stdout.len())
        };
        for milliseconds in [0, 1, 5, 20, 100] {
            let given_up =
                tokio::time::timeout(Duration::from_millis(milliseconds), level.run(&[], "sleep 5"));
            let (first, second, given_up) = tokio::join!(run(1), run(2), given_up);
            assert!(given_up.is_err(), "{given_up:?}");
            assert_eq!((first, second), ((Ok(1), 100_000), (Ok(2), 100_000)));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), LocalSet::new().run_until(test)).await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_file_is_copied_once_and_is_there_as_it_was() {
    let test = async {
        let level = TestLevel::new().await;
        let mut random = vec![0; 300_000];
        getrandom::fill(&mut random).unwrap();
        // The second one is compressed on its way.
        for (contents, at_most) in
            [(&random[..], 300_000), (&[b"#!/bin/sh\nwc -c <$0\n#", &[7; 600_000][..]].concat(), 60_000)]
        {
            let file = level.file(contents, Then::Stay);
            *level.written.borrow_mut() = 0;
            let copied = level
                .run(std::slice::from_ref(&file), &format!("cat {}", quote(&file.path_in_level())))
                .await;
            assert!(copied == done(0, contents, b""), "{:?}", copied.status);
            let written = std::mem::take(&mut *level.written.borrow_mut());
            assert!(0 < written && written <= at_most, "{written}");
            level.run(&[file], "true").await;
            assert_eq!(*level.written.borrow(), 0, "it has the file already");
        }
        let script = level.file(b"#!/bin/sh\necho it runs\n", Then::Stay);
        let run = format!("exec {}", quote(&script.path_in_level()));
        assert_eq!(level.run(&[script], &run).await, done(0, b"it runs\n", b""));
        let place = level.folder.path().join("x/y z").display().to_string();
        let copy = level.file(b"1", Then::CopyTo(place.clone()));
        assert_eq!(level.run(&[copy], &format!("cat {}", quote(&place))).await, done(0, b"1", b""));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_destination_has_what_was_copied_to_it_last() {
    let test = async {
        let level = TestLevel::new().await;
        let place = level.folder.path().join("place").display().to_string();
        for contents in [b"A", b"B", b"A"] {
            let file = level.file(contents, Then::CopyTo(place.clone()));
            assert_eq!(level.run(&[file], &format!("cat {place}")).await, done(0, contents, b""));
        }
        // Folders: a file that the later one does not have is gone, and what was copied into it comes back.
        let folder = level.folder.path().join("a folder").display().to_string();
        let inner = level.file(b"inner", Then::CopyTo(format!("{folder}/inner")));
        for name in ["a", "b", "a"] {
            let (source, archive) = (tempfile::tempdir().unwrap(), level.folder.path().join("archive"));
            fs::write(source.path().join(name), name).unwrap();
            let tar =
                Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(source.path()).arg(".").status();
            assert!(tar.unwrap().success());
            let archive = CopiedFile::new(&archive, "archive", Then::UnpackTo(folder.clone())).unwrap();
            level.file(b"inner", Then::Stay);
            let files = [archive, inner.clone()];
            let list = format!("ls {}", quote(&folder));
            let listed = done(0, format!("{name}\ninner\n").as_bytes(), b"");
            assert_eq!(level.run(&files, &list).await, listed);
            *level.written.borrow_mut() = 0;
            assert_eq!(level.run(&files, &list).await, listed);
            assert_eq!(*level.written.borrow(), 0, "it has both already");
            let listed = done(0, format!("{name}\n").as_bytes(), b"");
            assert_eq!(level.run(&files[..1], &list).await, listed, "without the other copy");
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_folder_of_the_level_keeps_its_own_files() {
    let test = async {
        let level = TestLevel::new().await;
        let folder = level.folder.path().join("its own");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("kept"), "").unwrap();
        for contents in ["1", "2"] {
            fs::write(level.folder.path().join("copied"), contents).unwrap();
            let archive = level.folder.path().join("archive");
            let mut tar = Command::new("tar");
            tar.arg("-cf").arg(&archive).arg("-C").arg(level.folder.path()).arg("copied");
            assert!(tar.status().unwrap().success());
            let to = Then::UnpackTo(folder.display().to_string());
            let archive = CopiedFile::new(&archive, "archive", to).unwrap();
            assert_eq!(level.run(&[archive], "true").await, done(0, b"", b""));
            assert_eq!(fs::read_to_string(folder.join("copied")).unwrap(), contents);
            assert!(folder.join("kept").exists());
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_copy_that_is_given_up_does_not_disturb_the_next() {
    let test = async {
        let level = TestLevel::new().await;
        let file = level.file(&b"0123456789abcde\n".repeat(400_000), Then::Stay);
        let script = format!("wc -c <{}", quote(&file.path_in_level()));
        // At every point of it.
        for milliseconds in (0..400).step_by(20) {
            let run = level.run(std::slice::from_ref(&file), "true");
            let _ = tokio::time::timeout(Duration::from_millis(milliseconds), run).await;
            *level.level.present.lock().await = copy::Present::default();
        }
        assert_eq!(level.run(std::slice::from_ref(&file), &script).await, done(0, b"6400000\n", b""));
        let parts = || {
            let files =
                fs::read_dir(file.folder_in_level().replace(FOLDER, level.folder.path().to_str().unwrap()));
            files.unwrap().filter(|file| file.as_ref().unwrap().file_name() != "a file").count()
        };
        while parts() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), LocalSet::new().run_until(test)).await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_file_that_can_not_be_copied_is_named() {
    let test = async {
        let level = TestLevel::new().await;
        let file = level.file(b"1", Then::Stay);
        level.file(b"2", Then::Stay);
        let why = level.run(&[file], "true").await.status.unwrap_err();
        assert!(
            why.starts_with("failed to copy /")
                && why.ends_with("/a file into the level: it was changed meanwhile"),
            "{why}"
        );
        let place = Path::new("/proc/nowhere/x").display().to_string();
        let why = level.run(&[level.file(b"3", Then::CopyTo(place))], "true").await.status.unwrap_err();
        assert!(why.contains("a file into the level: mkdir: "), "{why}");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_that_is_given_up_ends() {
    let test = async {
        let level = TestLevel::new().await;
        let pid = level.folder.path().join("pid");
        let script = format!("echo $$ >{0}.part; mv {0}.part {0}; exec sleep 1000", pid.display());
        let until_it_runs = async {
            while !pid.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            done = level.run(&[], &script) => panic!("{done:?}"),
            () = until_it_runs => {}
        }
        let stat = format!("/proc/{}/stat", fs::read_to_string(&pid).unwrap().trim());
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), LocalSet::new().run_until(test)).await.unwrap();
}
