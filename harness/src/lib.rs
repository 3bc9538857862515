//! nestmatrix: boots nested-virtualization stacks and turns documented support matrices into verdicts with evidence.
//!
//! Upper modules know lower ones, never the reverse: [`report`] shows what [`run`] does with the cells of a
//! [`scenario`]; a [`history`] keeps what many runs saw of them, [`document_errata`] say what that means for a document's
//! author, and a [`trace`] shows when each part of a run happened; a run boots a [`stack`] of levels on a [`host`]; hosts start
//! [`qemu`] and speak to what runs in a [`guest`], each over a [`wire`]. [`architecture`] and [`emulator_errata`] are data that
//! all of them read, and what they read of a run's folder stays [`contained`] in it.

pub mod architecture;
pub mod contained;
pub mod desk;
pub mod doctor;
pub mod document_errata;
pub mod emulator_errata;
pub mod guest;
pub mod history;
pub mod host;
pub mod qemu;
pub mod report;
pub mod reproduce;
pub mod run;
pub mod scenario;
pub mod stack;
pub mod trace;
pub mod wire;
