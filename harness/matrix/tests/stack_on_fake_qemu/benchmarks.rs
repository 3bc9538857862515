//! Benchmarks that a step runs in levels, on native and on emulated metal.

use nestmatrix_model::{Benchmark, ExpectedRatio, Measure, SymptomKind};
use nestmatrix_stack::Judged;
use serde_json::json;

use crate::fake::{Booted, Fake, exit, level, prints};
use crate::script::{Act, End};

/// Text that only the scripts have that send through a network card, and that make a level ready for them.
const SENDS: &str = "nc 10.0.9.100 9";
const LOOPBACK: &str = "ifconfig lo 127.0.0.1 up";

/// Text that only the scripts that measure have, and one that asks for the tool.
const MEASURES: &str = "--null 1";
const ASKS: &str = "stress-ng --version";

fn measures(benchmark: Benchmark, against: &[u8], at_least_percent: Option<u32>) -> Measure {
    let expect = at_least_percent.map(|percent| ExpectedRatio {
        of: level(1),
        at_least_percent: Some(percent),
        at_most_percent: None,
        reference: "a page".into(),
    });
    let against = against.iter().map(|number| level(*number)).collect();
    Measure { benchmark, against, times: Measure::FEWEST_JUDGED, expect }
}

/// The output of stress-ng with this figure. The level's clock is not read, since it seems to stand.
fn figure(figure: u32) -> End {
    prints(&format!("stress-ng: metrc: [1] null 100 1.00 0.1 0.9 {figure}.00 1.00\npassed 10.00 10.00\n"))
}

/// A stack whose L1 makes 1000 system calls a second, and its L2 as many as this.
fn stack(l2: u32, measure: Measure) -> Fake {
    [(1, 1000), (2, l2)].into_iter().fold(
        Fake::new().measures("l2-check", 2, measure),
        |fake, (number, of)| {
            let tool = prints("stress-ng, version 0.15.06 (gcc 12)\n");
            fake.command(number, ASKS, 1, tool).command(number, MEASURES, 1, figure(of))
        },
    )
}

fn judged(booted: &Booted) -> Judged {
    booted.observation.steps[0].benchmark.as_ref().unwrap().judgement.result
}

#[tokio::test(flavor = "current_thread")]
async fn a_ratio_that_is_met_on_native_metal_is_a_pass() {
    let measure = measures(Benchmark::SystemCall, &[1], Some(50));
    let booted = stack(700, measure).on_native_metal().boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let step = &booted.observation.steps[0];
    assert_eq!(step.output, "system-call: L2 70 % (70-70 %) of L1; at least 50 % of L1, as expected");
    let of = &step.benchmark.as_ref().unwrap().levels[&level(2)];
    assert_eq!((of.tool.as_deref(), of.figures.as_slice()), (Some("stress-ng 0.15.06"), &[700.0; 6][..]));
}

#[tokio::test(flavor = "current_thread")]
async fn a_ratio_that_is_missed_fails_on_native_metal_and_is_recorded_on_emulated() {
    let measure = || measures(Benchmark::SystemCall, &[1], Some(50));
    let booted = stack(100, measure()).on_native_metal().boot().await;
    assert_eq!(booted.stopped(), "step-1: step: L2 has 10 % (10-10 %) of L1, expected at least 50 % of L1");
    assert_eq!((booted.word(), judged(&booted)), ("fail".into(), Judged::NotMet));
    let kind = booted.observation.stop.as_ref().unwrap().symptom.kind();
    assert_eq!(kind, SymptomKind::WrongRatio);

    let booted = stack(100, measure()).boot().await;
    assert_eq!((booted.word(), judged(&booted)), ("pass".into(), Judged::RecordedOnly));
    assert_eq!(
        booted.observation.steps[0].output,
        "system-call: L2 10 % (10-10 %) of L1; recorded only, on emulated metal"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_can_not_be_measured_is_an_error_on_every_metal() {
    let measure = || measures(Benchmark::SystemCall, &[1], Some(1));
    for (end, why) in [
        (exit(1, "out of memory\n"), "no figure, status 1; it printed \"out of memory\""),
        (prints("stress-ng: done\npassed 1.00 3.00\n"), "no figure, status 0; it printed \"stress-ng: done"),
    ] {
        for native in [true, false] {
            let fake = Fake::new().measures("l2-check", 2, measure());
            let fake = fake.command(1, ASKS, 1, prints("1\n")).command(2, ASKS, 1, prints("1\n"));
            let fake = fake.command(1, MEASURES, 1, figure(9)).command(2, MEASURES, 1, end.clone());
            let booted = if native { fake.on_native_metal() } else { fake }.boot().await;
            let said = booted.word_and_symptom();
            assert!(said.starts_with("error: L2: step: ") && said.contains(why), "{said}");
        }
    }
    let without_tool = Fake::new().measures("l2-check", 2, measure());
    let without_tool = without_tool.command(2, ASKS, 1, exit(127, "sh: stress-ng: not found\n"));
    let said = without_tool.boot().await.word_and_symptom();
    assert!(said.contains("stress-ng does not run in L2") && said.starts_with("error: "), "{said}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_dies_while_it_is_measured_is_its_own_failure() {
    let acts =
        [Act::AgentAnswers, Act::Wait(150), Act::Event("GUEST_PANICKED".into(), json!({"action": "pause"}))];
    let fake = Fake::new().measures("l1-kvm", 1, measures(Benchmark::SystemCall, &[0], None));
    let fake = [0, 1].into_iter().fold(fake, |fake, number| fake.command(number, ASKS, 1, prints("1\n")));
    let fake = fake.command(0, MEASURES, 1, figure(9)).command_never_ends(1, MEASURES);
    let booted = fake.boots(1, acts).boot().await;
    assert_eq!(booted.observation.stop.as_ref().unwrap().symptom.kind(), SymptomKind::GuestPanicked);
    assert_eq!(judged(&booted), Judged::NotJudged);
}

/// A stack whose L1 sends 2000 kB a second, and this is what the command of its L2 prints.
fn network(l2: End, measure: Measure) -> Fake {
    [(1, sends(2000)), (2, l2)].into_iter().fold(
        Fake::new().measures("l2-check", 2, measure),
        |fake, (number, sent)| {
            let tool = prints("BusyBox v1.35.0 (Debian 1:1.35.0-4) multi-call binary.\n");
            fake.command(number, "modprobe virtio_net", 1, tool).command(number, SENDS, 1, sent)
        },
    )
}

fn sends(kilobytes: u32) -> End {
    prints(&format!("rate {kilobytes} 1000000000\npassed 10.00 10.00\n"))
}

#[tokio::test(flavor = "current_thread")]
async fn a_network_card_is_judged_on_native_metal_and_recorded_on_emulated() {
    let measure = || measures(Benchmark::Network, &[1], Some(50));
    for (l2, word, judgement) in [(1500, "pass", Judged::Met), (200, "fail", Judged::NotMet)] {
        let booted = network(sends(l2), measure()).on_native_metal().boot().await;
        assert_eq!((booted.word(), judged(&booted)), (word.into(), judgement), "{}", booted.stopped());
    }
    let booted = network(sends(200), measure()).boot().await;
    assert_eq!((booted.word(), judged(&booted)), ("pass".into(), Judged::RecordedOnly));
    let step = &booted.observation.steps[0];
    assert_eq!(step.output, "network: L2 10 % (10-10 %) of L1; recorded only, on emulated metal");
    let of = &step.benchmark.as_ref().unwrap().levels[&level(2)];
    assert_eq!((of.tool.as_deref(), of.figures.as_slice()), (Some("busybox 1.35.0"), &[200.0; 6][..]));
}

#[tokio::test(flavor = "current_thread")]
async fn the_level_around_a_network_card_is_made_ready_if_it_is_no_machine_of_the_users() {
    for native in [true, false] {
        let fake = network(sends(1500), measures(Benchmark::Network, &[1], None));
        let booted = if native { fake.on_native_metal() } else { fake }.boot().await;
        assert_eq!(booted.word(), "pass", "{}", booted.stopped());
        let asked = |level: u8| {
            let path = booted.records.join(format!("L{level}.agent.jsonl"));
            std::fs::read_to_string(path).is_ok_and(|said| said.contains(LOOPBACK))
        };
        assert_eq!((asked(0), asked(1)), (!native, true));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_network_card_through_which_nothing_arrives_is_an_error() {
    let refused = exit(1, "nc: Network is unreachable\n");
    let fake = network(refused, measures(Benchmark::Network, &[1], Some(50)));
    let booted = fake.on_native_metal().boot().await;
    let said = booted.word_and_symptom();
    assert!(said.starts_with("error: L2: step: no figure, status 1"), "{said}");
    assert!(said.contains("nc: Network is unreachable"), "{said}");
}

#[tokio::test(flavor = "current_thread")]
async fn an_l0_that_can_not_be_measured_leaves_the_other_levels() {
    let measure = measures(Benchmark::Exit, &[1, 0], Some(50));
    let fake = Fake::new().measures("l2-check", 2, measure).on_native_metal();
    let fake = fake.command(1, "echo rate", 1, prints("rate 5000 1000000000\npassed 1.00 1.00\n"));
    let fake = fake.command(2, "echo rate", 1, prints("rate 3000 1000000000\npassed 1.00 1.00\n"));
    let booted = fake.boot().await;
    assert_eq!(booted.word(), "pass", "{}", booted.stopped());
    let output = &booted.observation.steps[0].output;
    assert!(
        output.starts_with("exit: L2 60 % (60-60 %) of L1; L0 not measured: this machine is L0"),
        "{output}"
    );
}
