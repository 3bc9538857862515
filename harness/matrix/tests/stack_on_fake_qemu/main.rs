//! Stacks are booted, watched, explained and judged on a fake QEMU (harness/matrix/fake-qemu): no level runs, and a boot takes
//! milliseconds. The tests that boot real stacks check the behaviour of the real QEMU.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod actions;
mod benchmarks;
mod console;
mod cpu_models;
mod debug_session;
mod diagnostics;
mod disks;
mod fake;
mod guests;
mod hardware;
mod host_reboots;
mod kdump;
mod launching;
mod libvirt;
mod lifecycles;
mod programs;
#[path = "../../fake-qemu/script.rs"]
mod script;
mod snapshots;
mod stopping;
mod suites;
mod time;
mod tpm;
mod windows;
mod working;
