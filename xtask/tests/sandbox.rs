//! The sandbox in which emulators of bare machines run, tried with a shell and with this program itself. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Seek as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

use common::trials::{self, ignore};
use nestmatrix_vmm::sandbox::{Confinement, Enforced, Network, Ports, SYSTEM};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// What this program does instead of running tests, as the first of its arguments.
const CONNECT: &str = "connect";
const SEND: &str = "send";
const LEAVE: &str = "leave";

/// A folder with files that a confined process may use, and with some that it may not.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["read", "written", "private"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("file"), name).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn confinement(&self) -> Confinement {
        let system = SYSTEM.iter().map(PathBuf::from);
        Confinement {
            read: system.chain([self.path("read"), std::env::current_exe().unwrap()]).collect(),
            write: vec![self.path("written")],
            address_space_mib: 2048,
            file_size_mib: 3,
            report: Some(self.path("report")),
            ..Confinement::default()
        }
    }

    fn enforced(&self) -> Enforced {
        serde_json::from_str(&fs::read_to_string(self.path("report")).unwrap()).unwrap()
    }

    /// Runs a shell in the sandbox, in the folder.
    fn shell(&self, script: &str) -> Output {
        confined(&self.confinement(), &["/bin/sh", "-c", script], self.folder.path())
    }

    /// Ends the test unless this kernel has Landlock, of this version at least.
    fn needs_landlock(&self, version: u32) {
        assert!(self.shell(":").status.success());
        match self.enforced().landlock {
            Some(abi) if abi >= version => {}
            Some(abi) => ignore(&format!("this kernel has Landlock ABI {abi}, not {version}")),
            None => ignore("this kernel has no Landlock"),
        }
    }
}

fn confined(confinement: &Confinement, command: &[&str], folder: &Path) -> Output {
    hidden(confinement, command).current_dir(folder).output().unwrap()
}

fn hidden(confinement: &Confinement, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["exec-in-sandbox", &std::process::id().to_string()]);
    command.args(confinement.words()).args(words.iter().map(OsString::from));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn a_confined_process_reads_and_writes_only_what_it_was_given() {
    let place = Place::new();
    place.needs_landlock(1);
    let tried = place.shell(
        "try() { if (eval \"$2\") >/dev/null 2>&1; then echo \"$1 yes\"; else echo \"$1 no\"; fi; }
         try read 'cat read/file'; try written 'cat written/file && echo new >written/new && rm written/new'
         try private 'cat private/file'; try list 'ls private'; try home 'ls ~root'; try passwd 'cat /etc/passwd'
         try overwrite 'echo x >private/file'; try create 'echo x >new'; try remove 'rm private/file'
         try read-only 'echo x >read/file'; try link 'ln private/file written/link && cat written/link'
         try symlink 'ln -s ../private/file written/symlink && cat written/symlink'
         try move 'mv private/file written/moved'; try device 'mknod written/device c 1 3'
         try parent 'cat written/../private/file'; try memory 'cat /proc/$PPID/environ'; try null 'echo x >/dev/null'",
    );
    let lines = text(&tried.stdout);
    let can: Vec<&str> = lines.lines().filter_map(|line| line.strip_suffix(" yes")).collect();
    assert_eq!(can, ["read", "written", "null"], "{lines}");
    assert_eq!(lines.lines().count(), 17, "{lines}");
    assert_eq!(fs::read_to_string(place.path("private/file")).unwrap(), "private");
}

fn a_confined_process_reaches_no_network() {
    let place = Place::new();
    let confinement = place.confinement();
    let program = std::env::current_exe().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let [tcp, udp] = [listener.local_addr().unwrap().port(), receiver.local_addr().unwrap().port()];
    let outside = Command::new(&program).args([CONNECT, &tcp.to_string()]).output().unwrap();
    assert_eq!(text(&outside.stdout), "done", "without the sandbox it must work");
    let run = |what: &str, port: u16| {
        confined(&confinement, &[program.to_str().unwrap(), what, &port.to_string()], place.folder.path())
    };
    let tried = [run(CONNECT, tcp), run(SEND, udp)].map(|tried| text(&tried.stdout));
    let enforced = place.enforced();
    if !enforced.denies_tcp && !enforced.network_namespace {
        ignore("this machine has neither Landlock for TCP nor network namespaces");
    }
    assert!(tried[0].starts_with("no: "), "{tried:?} {enforced:?}");
    let datagram = receiver.recv(&mut [0; 9]);
    assert_eq!(datagram.is_err(), enforced.network_namespace, "{tried:?} {enforced:?}");
}

fn a_process_that_needs_ports_gets_these_alone() {
    let place = Place::new();
    place.needs_landlock(4);
    let program = std::env::current_exe().unwrap();
    let [granted, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [granted_port, other_port] = [&granted, &other].map(|listener| listener.local_addr().unwrap().port());
    let ports = Ports { connect: vec![granted_port], bind: Vec::new() };
    let confinement = Confinement { network: Network::Ports(ports), ..place.confinement() };
    let run = |port: u16| {
        let words = [program.to_str().unwrap(), CONNECT, &port.to_string()];
        text(&confined(&confinement, &words, place.folder.path()).stdout)
    };
    assert_eq!(run(granted_port), "done");
    assert!(run(other_port).starts_with("no: "));
}

fn memory_that_was_opened_before_is_usable() {
    let place = Place::new();
    let mut memory = fs::File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap());
    let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
    let script = "printf 'from within' >\"$1\" && cat \"$1\"; echo; echo \"$1\"; cat \"$2\"";
    let words = ["/bin/sh", "-c", script, "sh", &path, &format!("{path}0")];
    let tried = confined(
        &Confinement { opened: Some(path.clone().into()), ..place.confinement() },
        &words,
        place.folder.path(),
    );
    let said = text(&tried.stdout);
    let (content, own) = said.trim_end().split_once('\n').unwrap_or_else(|| panic!("{tried:?}"));
    assert_eq!(content, "from within");
    assert!(own.starts_with("/proc/self/fd/"), "{own}");
    let mut seen = String::new();
    memory.rewind().unwrap();
    memory.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "from within");
    // Its own path can't be opened: that belongs to this process.
    place.needs_landlock(1);
    let tried = place.shell(&format!("cat {path}"));
    assert!(!tried.status.success(), "{tried:?}");
}

fn a_confined_process_has_limits_and_no_privileges() {
    let place = Place::new();
    let tried = place.shell(
        "ulimit -c; ulimit -v; ulimit -f; grep -E '^(NoNewPrivs|CapEff):' /proc/self/status || echo unreadable
         dd if=/dev/zero of=written/large bs=1M count=5 2>/dev/null; wc -c <written/large",
    );
    let said = text(&tried.stdout);
    let lines: Vec<&str> = said.lines().collect();
    // dash counts in units of 512 bytes, bash in KiB.
    assert_eq!(lines[..2], ["0", "2097152"], "{said}");
    assert!(["6144", "3072"].contains(&lines[2]), "{said}");
    assert_eq!(lines.last(), Some(&"3145728"), "{said}");
    let enforced = place.enforced();
    assert_eq!((enforced.address_space_mib, enforced.file_size_mib), (2048, 3));
    if nix::unistd::geteuid().is_root() {
        assert_eq!(enforced.root_keeps.as_deref(), Some("6"), "{enforced:?}");
    } else {
        assert!(enforced.user_namespace || enforced.namespace_refused.is_some(), "{enforced:?}");
    }
}

fn a_sandbox_that_fails_says_so_and_starts_nothing() {
    let place = Place::new();
    let confinement = Confinement { opened: Some(place.path("missing")), ..place.confinement() };
    let tried = confined(&confinement, &["/bin/sh", "-c", "echo started"], place.folder.path());
    let said = text(&tried.stderr);
    assert_eq!((tried.status.code(), tried.stdout.len()), (Some(125), 0), "{said}");
    assert!(said.starts_with("the sandbox failed, so nothing was started in it: opening "), "{said}");
    let mut unknown = Command::new(env!("CARGO_BIN_EXE_xtask"));
    unknown.args(["exec-in-sandbox", &std::process::id().to_string(), "--reed", "/", "--", "/bin/sh"]);
    let tried = unknown.output().unwrap();
    assert_eq!(tried.status.code(), Some(125));
    assert!(text(&tried.stderr).ends_with("unknown word --reed\n"), "{tried:?}");
}

fn a_confined_process_ends_with_its_parent() {
    let place = Place::new();
    let mut parent = Command::new(std::env::current_exe().unwrap());
    let left = parent.arg(LEAVE).current_dir(place.folder.path()).output().unwrap();
    let child = text(&left.stdout);
    let stat = PathBuf::from(format!("/proc/{}/stat", child.trim()));
    let deadline = Instant::now() + Duration::from_secs(10);
    // If no process reaps it, it stays as a zombie.
    let runs = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    while runs() {
        assert!(Instant::now() < deadline, "{child} outlives its parent");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn the_setting_switches_the_sandbox_off() {
    let run = |value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args([
            "doctor",
            "--offline",
            "--metal",
            "emulated",
            "rhel-10-preview/amd/*",
            "--format",
            "json",
        ]);
        let output = command.env("NESTMATRIX_SANDBOX", value).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (_, said, _) = run("off");
    assert!(said.contains("emulators run without a sandbox, because NESTMATRIX_SANDBOX is off"), "{said}");
    let (_, said, _) = run("on");
    assert!(said.contains("sandbox of emulators"), "{said}");
    let (code, _, error) = run("maybe");
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("NESTMATRIX_SANDBOX is \"maybe\": set it to `on` or `off`"), "{error}");
}

/// What this program does in the sandbox.
fn instead_of_tests() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (what, port) = (arguments.first()?, arguments.get(1).and_then(|port| port.parse().ok()));
    let done = match (what.as_str(), port) {
        (CONNECT, Some(port)) => TcpStream::connect(("127.0.0.1", port)).map(drop),
        (SEND, Some(port)) => UdpSocket::bind("127.0.0.1:0")
            .and_then(|socket| socket.send_to(b"x", ("127.0.0.1", port)).map(drop)),
        (LEAVE, _) => return Some(leave()),
        _ => return None,
    };
    match done {
        Ok(()) => say("done"),
        Err(e) => say(&format!("no: {e}")),
    }
    Some(ExitCode::SUCCESS)
}

/// Starts a confined process and ends without it.
#[allow(clippy::zombie_processes, reason = "this process ends, and the kernel must end the other one")]
fn leave() -> ExitCode {
    let system = SYSTEM.iter().map(PathBuf::from).collect();
    let confinement = Confinement {
        read: system,
        write: vec![".".into()],
        address_space_mib: 1024,
        file_size_mib: 1,
        ..Confinement::default()
    };
    let mut child = hidden(&confinement, &["/bin/sh", "-c", "echo >up; exec sleep 1000"]);
    let child =
        child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !Path::new("up").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    say(&child.id().to_string());
    ExitCode::SUCCESS
}

fn say(what: &str) {
    use std::io::Write as _;
    std::io::stdout().write_all(what.as_bytes()).unwrap();
}

fn main() -> ExitCode {
    instead_of_tests().unwrap_or_else(tests)
}

fn tests() -> ExitCode {
    let listed = |name: &str, body: fn()| trials::Listed {
        name: name.to_owned(),
        ignored: None,
        body: Box::new(body),
    };
    trials::run(vec![
        listed(
            "a_confined_process_reads_and_writes_only_what_it_was_given",
            a_confined_process_reads_and_writes_only_what_it_was_given,
        ),
        listed("a_confined_process_reaches_no_network", a_confined_process_reaches_no_network),
        listed("a_process_that_needs_ports_gets_these_alone", a_process_that_needs_ports_gets_these_alone),
        listed("memory_that_was_opened_before_is_usable", memory_that_was_opened_before_is_usable),
        listed(
            "a_confined_process_has_limits_and_no_privileges",
            a_confined_process_has_limits_and_no_privileges,
        ),
        listed(
            "a_sandbox_that_fails_says_so_and_starts_nothing",
            a_sandbox_that_fails_says_so_and_starts_nothing,
        ),
        listed("a_confined_process_ends_with_its_parent", a_confined_process_ends_with_its_parent),
        listed("the_setting_switches_the_sandbox_off", the_setting_switches_the_sandbox_off),
    ])
}
