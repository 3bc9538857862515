//! What runs in a Windows level: role files, which are data, so that a user can change their commands (docs/windows.md).

mod placeholders;
mod role;

pub use placeholders::{RoleValueError, RoleValues};
pub use role::{PrepareStep, RoleCommand, WindowsRole};

pub(crate) use role::load;
