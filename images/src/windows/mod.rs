//! What runs in a Windows level: role files, which are data, so that a user can change their commands (docs/windows.md).

mod install;
mod placeholders;
mod role;
mod seed;

pub use placeholders::{RoleValueError, RoleValues};
pub use role::{PrepareStep, RoleCommand, WindowsRole};

pub(crate) use install::InstallText;
pub(crate) use role::load;
pub(crate) use seed::write_seed;
