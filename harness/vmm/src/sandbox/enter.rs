//! How a process confines itself before it becomes an emulator.
//!
//! The order matters. What can't be opened later is opened first. Namespaces come before Landlock, since a process in a Landlock domain
//! may not change its mounts, and after each of them a file that the emulator needs must still open: if not, the sandbox is at fault,
//! and not the emulator.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::io::Write as _;
use std::os::fd::IntoRawFd as _;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, NetPort, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{AccessFlags, access, geteuid};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde::{Deserialize, Serialize};

use super::paths::{COMMON, EMPTY};
use super::{Confinement, Network};

/// The newest version of Landlock that this sandbox was tried with. What later versions deny is not used before it is tried.
const TRIED: ABI = ABI::V7;
/// The first version that denies TCP.
const WITH_TCP: ABI = ABI::V4;
/// The first version that denies abstract sockets, and signals to other processes.
const WITH_SCOPES: ABI = ABI::V6;

/// The capabilities that root keeps. With them, it can use other users' files where Landlock allows that.
const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH);

/// What is in force in a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Enforced {
    /// The version of Landlock's interface; none if the kernel does not have it or it is off.
    pub landlock: Option<u32>,
    /// Whether Landlock denies TCP, except for ports that the emulator needs.
    pub denies_tcp: bool,
    /// Whether Landlock denies abstract Unix sockets, and signals to processes outside.
    pub scopes: bool,
    /// Whether the process is in a user namespace of its own. Root needs none: it gives its capabilities up.
    pub user_namespace: bool,
    /// Whether the process is in a network namespace of its own, which has no interface that is up.
    pub network_namespace: bool,
    /// Why there is no namespace, if the kernel or the system refuses it.
    pub namespace_refused: Option<String>,
    /// The capabilities of root that are left; none if the process had none to begin with.
    pub root_keeps: Option<String>,
    /// The limit of the address space, in MiB.
    pub address_space_mib: u64,
    /// The limit of each file's size, in MiB.
    pub file_size_mib: u64,
}

/// Why a process could not confine itself.
#[derive(Debug, thiserror::Error)]
pub enum Unconfined {
    /// A system call failed.
    #[error("{0}: {1}")]
    System(String, io::Error),
    /// Landlock refused the rules.
    #[error("Landlock refused the rules: {0}")]
    Landlock(#[from] RulesetError),
    /// A file or folder that the emulator needs can be used only without the sandbox.
    #[error("{path} can be {what} without the sandbox, but not in it: {source}", path = path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

fn failed(what: &str) -> impl FnOnce(nix::Error) -> Unconfined {
    move |e| Unconfined::System(what.to_owned(), e.into())
}

impl Confinement {
    /// Confines this process, which must have one thread only. Returns the arguments that the emulator then gets.
    ///
    /// # Errors
    /// What failed. The process may be confined in part, and must not go on.
    pub fn enter(&self, arguments: &[OsString]) -> Result<Vec<OsString>, Unconfined> {
        let arguments = self.open(arguments)?;
        let report = self.report.as_ref().map(|path| {
            File::create(path).map_err(|e| Unconfined::System(format!("creating {}", path.display()), e))
        });
        let report = report.transpose()?;
        let needed = self.needed();
        set_no_new_privs().map_err(failed("giving up new privileges"))?;
        let mut enforced = Enforced::default();
        self.isolate(&mut enforced)?;
        self.restrict(&mut enforced)?;
        still_usable(needed)?;
        self.limit(&mut enforced)?;
        if let Some(mut file) = report {
            let text = serde_json::to_string_pretty(&enforced).unwrap_or_default() + "\n";
            file.write_all(text.as_bytes())
                .map_err(|e| Unconfined::System("writing its report".to_owned(), e))?;
        }
        Ok(arguments)
    }

    /// Opens the file that can't be opened later, for a descriptor that the emulator inherits.
    fn open(&self, arguments: &[OsString]) -> Result<Vec<OsString>, Unconfined> {
        let Some(path) = &self.opened else { return Ok(arguments.to_vec()) };
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let opened = opened.map_err(|e| Unconfined::System(format!("opening {}", path.display()), e))?;
        fcntl(&opened, FcntlArg::F_SETFD(FdFlag::empty())).map_err(failed("passing a descriptor on"))?;
        // It stays open in the emulator.
        let own = format!("/proc/self/fd/{}", opened.into_raw_fd());
        Ok(self.with_opened(arguments, Path::new(&own)))
    }

    /// The paths that can be used now, and must stay usable.
    fn needed(&self) -> Vec<(PathBuf, &'static str)> {
        let of = |paths: &[PathBuf], what| {
            let usable = paths.iter().filter(move |path| try_to(path, what).is_ok());
            usable.map(move |path| (path.clone(), what)).collect::<Vec<_>>()
        };
        [of(&self.read, READ), of(&self.write, WRITTEN)].concat()
    }

    /// Leaves the network, and what a user or root may do beyond the use of files.
    fn isolate(&self, enforced: &mut Enforced) -> Result<(), Unconfined> {
        let network = match self.network {
            Network::None => CloneFlags::CLONE_NEWNET,
            Network::Ports(_) | Network::Unrestricted => CloneFlags::empty(),
        };
        let is_root = geteuid().is_root();
        // Root in a user namespace could not use the files of other users, such as those in the home of who called sudo.
        let user = if is_root { CloneFlags::empty() } else { CloneFlags::CLONE_NEWUSER };
        // The user has no number in its namespace, which only matters to programs that ask for it: files keep their owners.
        match unshare(user | network) {
            Ok(()) => {
                enforced.user_namespace = !user.is_empty();
                enforced.network_namespace = !network.is_empty();
            }
            Err(e) => enforced.namespace_refused = Some(e.desc().to_owned()),
        }
        if is_root {
            for capability in CapabilitySet::all().difference(KEPT).iter() {
                match remove_capability_from_bounding_set(capability) {
                    // A kernel does not know newer ones, and who has few capabilities may not give them up this way.
                    Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
                    Err(e) => return Err(Unconfined::System("giving up capabilities".to_owned(), e.into())),
                }
            }
            enforced.root_keeps = Some(bounding_set());
        }
        Ok(())
    }

    /// Enters a Landlock domain, as far as the kernel offers it.
    fn restrict(&self, enforced: &mut Enforced) -> Result<(), Unconfined> {
        let rules = Ruleset::default().handle_access(AccessFs::from_all(TRIED))?;
        let is_restricted = self.network != Network::Unrestricted;
        let rules = if is_restricted { rules.handle_access(AccessNet::from_all(TRIED))? } else { rules };
        let mut rules = rules
            .scope(Scope::from_all(TRIED))?
            .create()?
            .add_rules(path_beneath_rules(COMMON, AccessFs::from_read(TRIED)))?
            .add_rules(path_beneath_rules(
                EMPTY,
                AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate,
            ))?
            .add_rules(path_beneath_rules(&self.read, AccessFs::from_read(TRIED)))?
            // Devices that it makes there could be of any kind.
            .add_rules(path_beneath_rules(
                &self.write,
                AccessFs::from_all(TRIED) & !(AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev),
            ))?;
        if let Network::Ports(ports) = &self.network {
            for port in &ports.connect {
                rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
            }
            for port in &ports.bind {
                rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
            }
        }
        let RestrictionStatus { ruleset, landlock, .. } = rules.restrict_self()?;
        if let (LandlockStatus::Available { effective_abi, kernel_abi, .. }, true) =
            (landlock, ruleset != RulesetStatus::NotEnforced)
        {
            let version = kernel_abi.unwrap_or(effective_abi as i32);
            enforced.landlock = u32::try_from(version).ok();
            enforced.denies_tcp = is_restricted && effective_abi >= WITH_TCP;
            enforced.scopes = effective_abi >= WITH_SCOPES;
        }
        Ok(())
    }

    /// Sets limits. A lower one that the user has set stays.
    fn limit(&self, enforced: &mut Enforced) -> Result<(), Unconfined> {
        let limit = |resource, wanted: u64| {
            let (_, hard) = getrlimit(resource)?;
            let limit = wanted.min(hard);
            setrlimit(resource, limit, limit)?;
            Ok(limit)
        };
        let failed = |e: nix::Error| Unconfined::System("setting limits".to_owned(), e.into());
        limit(Resource::RLIMIT_CORE, 0).map_err(failed)?;
        enforced.file_size_mib =
            limit(Resource::RLIMIT_FSIZE, self.file_size_mib << 20).map_err(failed)? >> 20;
        enforced.address_space_mib =
            limit(Resource::RLIMIT_AS, self.address_space_mib << 20).map_err(failed)? >> 20;
        Ok(())
    }
}

const READ: &str = "read";
const WRITTEN: &str = "written";

/// Tries to use a path. Only files are opened: that a folder can be listed is not needed.
fn try_to(path: &Path, what: &str) -> io::Result<()> {
    let metadata = path.metadata()?;
    if metadata.is_file() {
        OpenOptions::new().read(true).write(what == WRITTEN).open(path).map(drop)
    } else {
        let wanted = if what == WRITTEN { AccessFlags::W_OK } else { AccessFlags::X_OK };
        Ok(access(path, wanted)?)
    }
}

fn still_usable(paths: Vec<(PathBuf, &'static str)>) -> Result<(), Unconfined> {
    paths.into_iter().try_for_each(|(path, what)| {
        try_to(&path, what).map_err(|source| Unconfined::Unreachable { path, what, source })
    })
}

/// The capabilities that this process can get by becoming another program, as the kernel prints them (proc_pid_status(5)).
fn bounding_set() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    set.map_or_else(|| "unknown".to_owned(), |set| set.trim().trim_start_matches('0').to_owned())
}
