//! The QEMU of an innermost level is asked for its CPU models, and a level has exactly the model of its cell.

use nestmatrix_model::{CpuMode, SymptomKind};
use nestmatrix_stack::MachineSettings;
use serde_json::{Value, json};

use crate::fake::{Fake, exit, level};
use crate::script::{Act, How};

/// Two models, one of which the host can't run.
fn definitions() -> Value {
    json!([
        {"name": "EPYC", "typename": "EPYC-x86_64-cpu", "alias-of": "EPYC-v4", "unavailable-features": []},
        {"name": "EPYC-v4", "typename": "EPYC-v4-x86_64-cpu", "unavailable-features": []},
        {"name": "Denverton-v1", "typename": "Denverton-v1-x86_64-cpu", "unavailable-features": ["mpx"]},
    ])
}

fn lists_models(fake: Fake) -> Fake {
    fake.asking_cpu_models().reply("l2.qmp", "query-cpu-definitions", How::Return(definitions()))
}

/// A stack whose innermost level has this CPU model and nothing less.
fn with_model(model: &str) -> Fake {
    let mut settings = MachineSettings::default();
    settings.cpu.mode = CpuMode::Custom { model: model.to_owned() };
    settings.cpu.set = [("enforce".to_owned(), "on".to_owned())].into();
    Fake::new().with_settings(2, settings)
}

#[tokio::test(flavor = "current_thread")]
async fn the_qemu_of_the_innermost_level_is_asked_for_its_models() {
    let booted = lists_models(Fake::new()).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let models = booted.observation.cpu_models.as_ref().unwrap();
    let models: Vec<(&str, Option<bool>)> =
        models.iter().map(|model| (model.name.as_str(), model.is_usable())).collect();
    assert_eq!(models, [("Denverton-v1", Some(false)), ("EPYC-v4", Some(true))]);
    let of_l1 = std::fs::read_to_string(booted.records.join("L1.qmp.jsonl")).unwrap();
    assert!(!of_l1.contains("query-cpu-definitions"), "only the innermost level's");
}

#[tokio::test(flavor = "current_thread")]
async fn the_models_are_known_even_if_the_level_itself_does_not_boot() {
    let end = exit(1, "");
    let booted = lists_models(Fake::new()).boots(2, [Act::EndQemu(end)]).boot().await;
    assert_eq!(booted.word(), "fail");
    assert_eq!(booted.observation.cpu_models.map(|models| models.len()), Some(2));
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_emulates_the_level_says_nothing_about_kvm() {
    let without_kvm = json!({"enabled": false, "present": true});
    let booted =
        lists_models(Fake::new()).reply("l2.qmp", "query-kvm", How::Return(without_kvm)).boot().await;
    assert_eq!((booted.word().as_str(), booted.observation.cpu_models), ("fail", None));
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_without_the_command_has_no_models_and_stops_nothing() {
    // The fake QEMU does not know it.
    let booted = Fake::new().asking_cpu_models().boot().await;
    assert_eq!((booted.word().as_str(), booted.observation.cpu_models), ("pass", Some(Vec::new())));
}

#[tokio::test(flavor = "current_thread")]
async fn other_stacks_do_not_ask() {
    let booted = Fake::new().reply("l2.qmp", "query-cpu-definitions", How::Return(definitions())).boot();
    assert_eq!(booted.await.observation.cpu_models, None);
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_has_the_model_and_qemu_must_leave_nothing_out() {
    let booted = with_model("EPYC-v4").boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(booted.observation.levels[&level(2)].cpu.as_deref(), Some("EPYC-v4-x86_64-cpu"));
    let asked = std::fs::read_to_string(booted.records.join("L1.agent.jsonl")).unwrap();
    assert!(asked.contains("-cpu EPYC-v4,enforce=on "), "`lm` is needed, and not switched on: {asked}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_32_bit_model_stops_the_stack_at_once() {
    let booted = with_model("486-v1").boot().await;
    let stop = booted.observation.stop.as_ref().unwrap();
    assert_eq!(stop.symptom.kind(), SymptomKind::MissingCpuFeature);
    assert_eq!(booted.stopped(), "l2-launch: missing CPU feature: lm (model 486-v1)");
    assert_eq!(booted.word(), "fail");
}
