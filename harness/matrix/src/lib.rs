//! nestmatrix: boots nested-virtualization stacks and turns documented support matrices into verdicts with evidence.
//!
//! This is the upper floor: documents and scenarios become cells ([`scenario`]), a [`run`] boots their stacks and judges them,
//! and [`records`] keep what was seen. Three modules use runs: [`trials`] search for the version that changed a verdict,
//! [`mutation`] damages cells on purpose, and [`ci`] gives cells to kinds of machines. [`report`] shows records, a [`history`]
//! keeps what many runs saw, [`document_errata`] say what that means for a document's author, and a [`trace`] shows when each part
//! of a run happened. [`metal_errata`] compares an emulator with what its errata say. [`domain_xml`] turns libvirt's description of a
//! machine into a scenario. A [`disposable_host`] may be changed by cells as their L0, and is restored. What is read of a run's folder stays [`contained`] in it. The floors below are the crates
//! `nestmatrix-stack` (levels inside each other), `nestmatrix-vmm` (one virtual machine) and `nestmatrix-model` (the vocabulary);
//! none of them knows this one.

pub mod ci;
pub mod contained;
pub mod debug_server;
pub mod disposable_host;
pub mod doctor;
pub mod document_errata;
pub mod domain_xml;
pub mod exec;
pub mod history;
pub mod media;
pub mod metal_errata;
pub mod mutation;
pub mod records;
pub mod report;
pub mod reproduce;
pub mod run;
pub mod scenario;
pub mod surroundings;
pub mod trace;
pub mod trials;

mod user_command;

#[cfg(test)]
#[path = "../tests/one_scenario/mod.rs"]
mod one_scenario;
#[cfg(test)]
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../tests/user_media/mod.rs"]
mod user_media;
