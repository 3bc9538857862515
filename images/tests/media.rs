//! Media with the real qemu-img: what is recorded, what a change is, and what a hostile or broken file does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../xtask/tests/common/trials.rs"]
mod trials;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nestmatrix_images::{
    DiskFormat, Error, Media, Medium, MediumProblem, MediumState, NewMedium, QemuImg, Silent, find_program,
};
use nestmatrix_model::Isa;
use tempfile::TempDir;
use trials::{ignore, trials};

/// Size of the disk in every image here.
const DISK: u64 = 4 << 20;

/// A user with media.
struct User {
    folder: TempDir,
    tool: QemuImg,
}

impl User {
    fn new() -> Self {
        let Some(tool) = QemuImg::installed(&[]) else { ignore("this machine has no qemu-img") };
        Self { folder: tempfile::tempdir().unwrap(), tool }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn media(&self) -> Media {
        Media::open(Some(self.path("config/media"))).unwrap()
    }

    fn add(&self, file: &Path, sha256: Option<&str>) -> Result<Arc<Medium>, Error> {
        let new = NewMedium {
            name: "rhel-9.4".to_owned(),
            file: file.to_owned(),
            sha256: sha256.map(str::to_owned),
            isa: Some(Isa::Amd64),
            ..NewMedium::default()
        };
        self.media().add(&new, &self.tool, &Silent)
    }

    /// Why a file is refused. Nothing is recorded then.
    fn problem(&self, file: &Path) -> MediumProblem {
        let error = self.add(file, None).unwrap_err();
        assert_eq!(self.media().iter().count(), 0);
        let Error::Medium(error) = error else { panic!("{error}") };
        assert!(error.to_string().contains(file.file_name().unwrap().to_str().unwrap()), "{error}");
        error.problem
    }

    /// A raw disk with an MBR and data.
    fn raw(&self) -> PathBuf {
        let path = self.path("raw.img");
        let file = File::create(&path).unwrap();
        file.set_len(DISK).unwrap();
        let mut start = vec![0; 512];
        start[446 + 4] = 0x83;
        start[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
        start[446 + 12..446 + 16].copy_from_slice(&2048u32.to_le_bytes());
        start[510..].copy_from_slice(&[0x55, 0xaa]);
        file.write_all_at(&start, 0).unwrap();
        file.write_all_at(&[7; 1 << 20], 1 << 20).unwrap();
        path
    }

    /// The same disk in another format.
    fn image(&self, format: &str, options: &[&str]) -> PathBuf {
        let path = self.path(&format!("disk.{format}"));
        let raw = self.raw();
        let words = ["convert", "-f", "raw", "-O", format];
        let mut words: Vec<&str> = words.iter().chain(options).copied().collect();
        words.extend([raw.to_str().unwrap(), path.to_str().unwrap()]);
        qemu_img(&words);
        path
    }

    /// A qcow2 image whose bytes are changed.
    fn damaged(&self, at: u64, bytes: &[u8]) -> PathBuf {
        let path = self.image("qcow2", &[]);
        File::options().write(true).open(&path).unwrap().write_all_at(bytes, at).unwrap();
        path
    }
}

fn qemu_img(words: &[&str]) {
    let output = Command::new("qemu-img").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn every_format_is_accepted_and_recorded(format: DiskFormat, options: &[&str]) {
    let user = User::new();
    let file = match format {
        DiskFormat::Raw => user.raw(),
        _ => user.image(&format.to_string(), options),
    };
    let before = fs::metadata(&file).unwrap();
    let medium = user.add(&file, None).unwrap();
    assert_eq!((medium.name().as_str(), medium.isa(), medium.format()), ("rhel-9.4", Isa::Amd64, format));
    // The geometry of a VHD makes its disk larger.
    assert!((DISK..DISK + (1 << 20)).contains(&medium.virtual_size()), "{}", medium.virtual_size());
    assert_eq!((medium.file(), medium.size()), (file.as_path(), before.len()));
    let output = Command::new("sha256sum").arg(&file).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with(medium.sha256().as_str()));
    let after = fs::metadata(&file).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap(), "it is never written to");
    let read = user.media();
    let again: Vec<&Arc<Medium>> = read.iter().collect();
    assert_eq!(again, [&medium]);
    assert_eq!(medium.record(), user.path("config/media/rhel-9.4-amd64.toml"));
}

fn a_medium_is_replaced_and_removed() {
    let user = User::new();
    let (raw, qcow2) = (user.raw(), user.image("qcow2", &[]));
    let first = user.add(&raw, None).unwrap();
    let second = user.add(&qcow2, Some(&first.sha256().as_str().to_uppercase()));
    let Err(Error::Medium(error)) = second else { panic!("{second:?}") };
    assert!(matches!(error.problem, MediumProblem::OtherDigest { .. }), "{error}");
    assert_eq!(user.media().iter().next(), Some(&first), "the first stays");
    user.add(&raw, Some(&first.sha256().as_str().to_uppercase())).unwrap();
    user.add(&qcow2, None).unwrap();
    let mut media = user.media();
    assert_eq!(media.iter().map(|medium| medium.format()).collect::<Vec<_>>(), [DiskFormat::Qcow2]);
    assert_eq!(media.remove("rhel-9.4", Some(Isa::Arm64)).unwrap(), 0);
    assert_eq!(media.remove("rhel-9.4", None).unwrap(), 1);
    assert_eq!(user.media().iter().count(), 0);
    assert!(qcow2.exists());
}

fn a_link_is_recorded_as_the_file_behind_it() {
    let user = User::new();
    let raw = user.raw();
    let link = user.path("link");
    symlink(&raw, &link).unwrap();
    assert_eq!(user.add(&link, None).unwrap().file(), raw);
}

fn wrong_requests_are_refused_before_the_file_is_read() {
    let user = User::new();
    let add = |name: &str, sha256: Option<&str>| {
        let (file, sha256) = (user.path("absent"), sha256.map(str::to_owned));
        let new =
            NewMedium { name: name.to_owned(), file, sha256, isa: Some(Isa::Amd64), ..NewMedium::default() };
        user.media().add(&new, &user.tool, &Silent).unwrap_err().to_string()
    };
    assert!(add("rhel", None).contains("named by a system and its version"));
    assert!(add("../x-9", None).contains("named by a system and its version"));
    assert!(add("rhel-9.4", Some("12")).contains("--sha256 takes 64 hexadecimal digits"));
    assert!(add("rhel-9.4", None).contains("the file does not exist"));
    let new = NewMedium {
        name: "rhel-9.4".to_owned(),
        file: user.raw(),
        sha256: None,
        isa: None,
        ..NewMedium::default()
    };
    let error = Media::none().add(&new, &user.tool, &Silent).unwrap_err().to_string();
    assert!(error.contains("set NESTMATRIX_CONFIG"), "{error}");
}

fn a_change_is_found_by_its_size_or_time_and_then_by_the_digest() {
    let user = User::new();
    let file = user.raw();
    let medium = user.add(&file, None).unwrap();
    medium.ensure_unchanged(&Silent).unwrap();
    // The same contents at another time are accepted, and that time is recorded.
    let written = fs::read(&file).unwrap();
    fs::write(&file, &written).unwrap();
    let later = SystemTime::now() + Duration::from_secs(5);
    File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
    medium.ensure_unchanged(&Silent).unwrap();
    let recorded = Arc::clone(user.media().iter().next().unwrap());
    assert_ne!(fs::read_to_string(recorded.record()).unwrap(), "");
    assert_ne!(recorded, medium, "the time is recorded");
    assert_eq!(recorded.sha256(), medium.sha256());

    File::options().write(true).open(&file).unwrap().write_all_at(b"x", 3 << 20).unwrap();
    let error = recorded.ensure_unchanged(&Silent).unwrap_err().to_string();
    assert!(error.contains("it has changed since it was added") && error.contains("add it again"), "{error}");
    // Only the whole check notices a change that keeps size and time.
    File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
    recorded.ensure_unchanged(&Silent).unwrap();
    assert!(recorded.verify(&Silent).unwrap_err().to_string().contains("it has changed"));
    fs::remove_file(&file).unwrap();
    assert!(recorded.ensure_unchanged(&Silent).unwrap_err().to_string().contains("the file does not exist"));
}

fn the_state_of_a_medium_follows_from_its_size_and_time() {
    let user = User::new();
    let file = user.raw();
    let medium = user.add(&file, None).unwrap();
    let unusable = || match medium.state() {
        MediumState::Unusable(error) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(medium.state(), MediumState::Unchanged));
    let open = || File::options().write(true).open(&file).unwrap();
    open().set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    assert!(matches!(medium.state(), MediumState::Touched));
    open().set_len(DISK + 512).unwrap();
    let said = format!("{} bytes, not {DISK}; if that is right, add it again", DISK + 512);
    assert!(unusable().ends_with(&said), "{}", unusable());
    fs::remove_file(&file).unwrap();
    assert!(unusable().contains("the file does not exist"), "{}", unusable());
    fs::create_dir(&file).unwrap();
    assert!(unusable().contains("it is not a file"), "{}", unusable());
}

fn what_is_no_readable_file_is_refused() {
    let user = User::new();
    assert!(matches!(user.problem(&user.path("absent")), MediumProblem::Missing));
    fs::create_dir(user.path("folder")).unwrap();
    assert!(matches!(user.problem(&user.path("folder")), MediumProblem::NotAFile));
    Command::new("mkfifo").arg(user.path("pipe")).status().unwrap();
    assert!(
        matches!(user.problem(&user.path("pipe")), MediumProblem::NotAFile),
        "it does not wait for a writer"
    );
    File::create(user.path("empty")).unwrap();
    assert!(matches!(user.problem(&user.path("empty")), MediumProblem::Empty));
    let named = user.path("a\nname");
    fs::copy(user.raw(), &named).unwrap();
    assert!(matches!(user.problem(&named), MediumProblem::Path));
    let secret = user.path("secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    match user.problem(&secret) {
        MediumProblem::Unreadable(_) => {}
        // Root reads it.
        MediumProblem::NotADisk => assert!(File::open(&secret).is_ok()),
        other => panic!("{other}"),
    }
}

fn what_is_no_disk_is_refused(name: &str, contents: &[u8]) {
    let user = User::new();
    let file = user.path(name);
    fs::write(&file, contents).unwrap();
    let problem = user.problem(&file);
    assert!(matches!(problem, MediumProblem::NotADisk | MediumProblem::Format(_)), "{problem}");
}

fn a_backing_file_is_never_followed(backing: &str) {
    let user = User::new();
    // Made without opening the backing file, as another user could.
    let file = user.path("overlay.qcow2");
    let words = ["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", backing];
    let mut words = words.to_vec();
    let size = DISK.to_string();
    words.extend([file.to_str().unwrap(), &size]);
    qemu_img(&words);
    match user.problem(&file) {
        MediumProblem::BackingFile(name) => assert_eq!(name, backing),
        other => panic!("{other}"),
    }
}

fn data_in_another_file_are_refused() {
    let user = User::new();
    let data = user.path("data");
    let option = format!("data_file={},data_file_raw=on", data.display());
    assert!(matches!(user.problem(&user.image("qcow2", &["-o", &option])), MediumProblem::ExternalData));
}

fn an_encrypted_image_is_refused() {
    let user = User::new();
    let file = user.path("encrypted.qcow2");
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let words = ["create", "-q", "-f", "qcow2", "--object", "secret,id=key,data=x", "-o", options];
    let mut words = words.to_vec();
    words.extend([file.to_str().unwrap(), "4M"]);
    qemu_img(&words);
    assert!(matches!(user.problem(&file), MediumProblem::Encrypted));
}

fn several_files_are_refused(kind: &str) {
    let user = User::new();
    let option = format!("subformat={kind}");
    let file = user.image("vmdk", &["-o", &option]);
    let problem = user.problem(&file);
    assert!(problem.to_string().contains("in other files"), "{problem}");
}

fn a_truncated_image_is_refused(format: &str, keep: u64) {
    let user = User::new();
    let file = if format == "raw" { user.raw() } else { user.image(format, &[]) };
    let length = fs::metadata(&file).unwrap().len();
    File::options().write(true).open(&file).unwrap().set_len(length * keep / 100).unwrap();
    match user.problem(&file) {
        MediumProblem::Truncated(_) => {}
        // qemu-img names other damage for the formats that it checks itself.
        MediumProblem::Refused { .. } if ["vhdx", "vmdk"].contains(&format) => {}
        MediumProblem::Metadata { .. } if format == "vmdk" => {}
        other => panic!("{other:?}: {other}"),
    }
}

fn damaged_metadata_are_refused(at: u64, bytes: &[u8]) {
    let user = User::new();
    let problem = user.problem(&user.damaged(at, bytes));
    assert!(
        matches!(
            problem,
            MediumProblem::Metadata { .. }
                | MediumProblem::Refused { .. }
                | MediumProblem::Truncated(_)
                | MediumProblem::Format(_)
        ),
        "{problem}"
    );
}

fn qemu_img_gets_the_format_and_the_protocol_of_every_file() {
    let Some(real) = find_program("qemu-img") else { ignore("this machine has no qemu-img") };
    let folder = tempfile::tempdir().unwrap();
    let (script, calls) = (folder.path().join("wrapper"), folder.path().join("calls"));
    fs::write(&script, format!("echo \"$*\" >> {}\nexec \"$@\"\n", calls.display())).unwrap();
    let tool = QemuImg::installed(&["/bin/sh".into(), script.into()]).unwrap();
    let user = User { folder: tempfile::tempdir().unwrap(), tool };
    let odd = user.path("json:{},with=odd.name");
    fs::copy(user.image("qcow2", &[]), &odd).unwrap();
    let medium = user.add(&odd, None).unwrap();
    user.tool.create_overlay(&user.path("new"), medium.file(), medium.format()).unwrap();
    let calls = fs::read_to_string(calls).unwrap();
    let (real, odd, new) = (real.display(), odd.display(), user.path("new"));
    let expected = format!(
        "{real} info --output=json -f qcow2 file:{odd}\n{real} check -f qcow2 file:{odd}\n\
         {real} create -q -f qcow2 -F qcow2 -b file:{odd} file:{}\n",
        new.display()
    );
    assert_eq!(calls, expected);
}

trials! {
    every_format_is_accepted_and_recorded {
        raw(DiskFormat::Raw, &[]),
        qcow2(DiskFormat::Qcow2, &[]),
        qcow2_of_version_2(DiskFormat::Qcow2, &["-o", "compat=0.10"]),
        compressed_qcow2(DiskFormat::Qcow2, &["-c", "-o", "compression_type=zstd"]),
        qcow2_with_extended_l2(DiskFormat::Qcow2, &["-o", "extended_l2=on,cluster_size=128k"]),
        vhdx(DiskFormat::Vhdx, &[]),
        vmdk(DiskFormat::Vmdk, &[]),
        stream_optimized_vmdk(DiskFormat::Vmdk, &["-o", "subformat=streamOptimized"]),
        dynamic_vhd(DiskFormat::Vpc, &[]),
        fixed_vhd(DiskFormat::Vpc, &["-o", "subformat=fixed"]),
    };
    a_medium_is_replaced_and_removed;
    a_link_is_recorded_as_the_file_behind_it;
    wrong_requests_are_refused_before_the_file_is_read;
    a_change_is_found_by_its_size_or_time_and_then_by_the_digest;
    the_state_of_a_medium_follows_from_its_size_and_time;
    what_is_no_readable_file_is_refused;
    what_is_no_disk_is_refused {
        text("notes.qcow2", b"these are notes, whatever the name says\n"),
        zeros("zeros.img", &[0; 1 << 16]),
        json("json.img", br#"json:{"driver":"qcow2","file":{"driver":"file","filename":"/etc/shadow"}}"#),
        compressed("disk.qcow2.xz", b"\xfd7zXZ\0\0\0"),
    };
    a_backing_file_is_never_followed {
        of_this_machine("/etc/passwd"),
        absent("/nonexistent/secret"),
        by_json(r#"json:{"driver":"file","filename":"/etc/passwd"}"#),
        by_network("nbd://127.0.0.1:1/x"),
    };
    data_in_another_file_are_refused;
    an_encrypted_image_is_refused;
    several_files_are_refused {
        extents("twoGbMaxExtentSparse"),
        flat("monolithicFlat"),
    };
    a_truncated_image_is_refused {
        raw("raw", 40),
        qcow2("qcow2", 60),
        qcow2_header("qcow2", 1),
        vhdx("vhdx", 10),
        vmdk("vmdk", 1),
        vpc("vpc", 60),
    };
    damaged_metadata_are_refused {
        cluster_size(20, &[0, 0, 0, 60]),
        tables(40, &[0xff; 8]),
        refcounts(48, &[0, 0, 0, 0, 0, 0, 0, 9]),
        features(72, &[0x80, 0, 0, 0, 0, 0, 0, 0]),
        version(4, &[0, 0, 0, 9]),
        l1(0x3_0000, &[0xff; 8]),
    };
    qemu_img_gets_the_format_and_the_protocol_of_every_file;
}
