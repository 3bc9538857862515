//! The innermost level's machine has a type that its QEMU offers, and may boot from a disk with a unified kernel image
//! (`tests/machines/`). Boots stacks of two and three levels.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::time::Duration;

use common::{Cell, Place, boots, of_cells, scenarios, trials};

/// Longest wait for a run over one stack.
const ONE: Duration = Duration::from_secs(10 * 60);

/// Boots the one cell of a scenario, from a snapshot if the place has one.
fn cell(place: &Place, scenario: &str) -> Cell {
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("machines"));
    command.arg(format!("{scenario}/*"));
    place.finish(command, ONE).keep(&format!("machine-types-{scenario}")).cell(scenario)
}

fn machine(cell: &Cell) -> &str {
    cell.record["levels"][2]["machine"].as_str().unwrap()
}

/// Whether L1 was asked for the machine types of its QEMU.
fn was_asked(cell: &Cell) -> bool {
    let conversation = cell.conversation("L1.agent.jsonl");
    conversation.iter().any(|(_, message)| message.to_string().contains("-machine help"))
}

fn an_l1_whose_qemu_has_no_microvm_runs_l2_as_q35_and_is_no_word_on_its_image() {
    let _guard = boots(&of_cells(&scenarios("machines"), &["as-it-is/*", "l1-without-microvm/*"]));
    let place = Place::new();
    let changed = cell(&place, "l1-without-microvm");
    assert_eq!(changed.text("verdict"), "pass", "{:#}", changed.record);
    assert!(machine(&changed).starts_with("pc-q35-"), "{:#}", changed.record);
    assert!(changed.record["steps"][1]["output"].as_str().unwrap().contains("0000:00:1f.0"));
    assert!(was_asked(&changed), "what is remembered of an image says nothing of a level that was changed");

    let first = cell(&place, "as-it-is");
    assert_eq!((first.text("verdict"), machine(&first)), ("pass", "microvm-machine"), "{:#}", first.record);
    let second = cell(&place, "as-it-is");
    assert_eq!((second.text("verdict"), machine(&second)), ("pass", "microvm-machine"));
    assert!(!was_asked(&second), "the answer was remembered with the image");
}

fn a_unified_kernel_is_started_by_uefi_and_returns_the_nonce_of_its_boot() {
    let _guard = boots(&of_cells(&scenarios("machines"), &["unified-kernel/*"]));
    let place = Place::new();
    let nonces = [(); 2].map(|()| {
        let booted = cell(&place, "unified-kernel");
        assert_eq!(booted.text("verdict"), "pass", "{:#}", booted.record);
        let level = &booted.record["levels"][0];
        assert_eq!(level["uefi"]["recipe"], "uefi-amd64", "{level:#}");
        let script = fs::read_to_string(booted.file("reproduce.sh")).unwrap();
        assert!(script.contains("L0 boots from a disk with a unified kernel"), "{script}");
        assert!(
            script.contains("virtio-blk") && !script.contains("   -kernel "),
            "QEMU loads no kernel: {script}"
        );
        assert!(script.contains("format=vpc"), "the disk is a VHD: {script}");
        let parameters = level["command_line"].as_str().unwrap().to_owned();
        parameters.split(' ').find(|word| word.starts_with("nest.nonce=")).unwrap().to_owned()
    });
    assert_ne!(nonces[0], nonces[1], "each boot has its own disk");
}

fn a_unified_kernel_knows_hyper_v_and_needs_none_of_the_old_timers() {
    let _guard = boots(&of_cells(&scenarios("machines"), &["hyper-v/*"]));
    let seen = cell(&Place::new(), "hyper-v");
    assert_eq!(seen.text("verdict"), "xfail", "{:#}", seen.record);
    let console = fs::read_to_string(seen.file("L1.console.log")).unwrap();
    assert!(
        console.contains("hypervisor=Microsoft Hyper-V") && console.contains("reboot: Power down"),
        "{console}"
    );
}

trials! {
    a_unified_kernel_is_started_by_uefi_and_returns_the_nonce_of_its_boot;
    #[ignore = "boots one more stack"]
    a_unified_kernel_knows_hyper_v_and_needs_none_of_the_old_timers;
    #[ignore = "boots three more stacks: one minute"]
    an_l1_whose_qemu_has_no_microvm_runs_l2_as_q35_and_is_no_word_on_its_image;
}
