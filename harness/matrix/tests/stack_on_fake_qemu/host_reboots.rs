//! Reboots of this machine, which is L0 on native metal: the boot ends there, and another one continues behind the step.

use nestmatrix_model::OwnAction;
use nestmatrix_stack::HostReboot;
use rstest::rstest;

use crate::fake::{Booted, Fake};

fn stack() -> Fake {
    Fake::new()
        .on_native_metal()
        .step("l0-boot", 0, "echo first")
        .step("l0-kvm", 0, "echo second")
        .does("l0-kvm", 0, OwnAction::Reboot)
        .step("l0-kvm", 0, "echo last")
}

fn outputs(booted: &Booted) -> Vec<&str> {
    booted.observation.steps.iter().map(|step| step.output.as_str()).collect()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

#[tokio::test(flavor = "current_thread")]
async fn a_boot_ends_where_this_machine_is_rebooted_and_continues_behind_it() {
    let booted = stack().boot().await;
    assert!(booted.observation.stop.as_ref().unwrap().is_interrupted());
    let reboot = booted.observation.host_reboot.clone().unwrap();
    let steps: Vec<&str> = reboot.steps.iter().map(|step| step.output.as_str()).collect();
    assert_eq!((steps, reboot.boot_id.clone()), (vec!["first", "second"], boot_id()));

    let rebooted = HostReboot { boot_id: "another".into(), ..reboot };
    let booted = stack().after_reboot(rebooted).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(outputs(&booted), ["first", "second", "L0 is up again; nested=1", "last"]);
    assert_eq!(booted.observation.host_reboot, None);
}

#[rstest]
#[case::not_rebooted(|reboot: &mut HostReboot| reboot.boot_id = boot_id(), "was to be rebooted, and still has boot id ")]
#[case::other_steps(
    |reboot: &mut HostReboot| reboot.steps[1].name = "other".into(),
    "the scenario has changed since the reboot: \"other\" came first"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_boot_that_can_not_continue_is_an_error(#[case] change: fn(&mut HostReboot), #[case] why: &str) {
    let booted = stack().boot().await;
    let mut rebooted = HostReboot { boot_id: "another".into(), ..booted.observation.host_reboot.unwrap() };
    change(&mut rebooted);
    let booted = stack().after_reboot(rebooted).boot().await;
    assert_eq!(booted.word(), "error");
    assert!(booted.stopped().contains(why), "{}", booted.stopped());
}
