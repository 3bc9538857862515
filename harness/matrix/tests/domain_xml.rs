//! Domains of three kinds of reporters become scenarios that can be read, and whatever a file holds, importing it ends with a scenario
//! or an error.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod matrix_folder;

use std::fmt::Write as _;
use std::path::Path;

use nestmatrix::domain_xml::{
    DomainError, DomainProblem, DomainXml, Import, ImportOptions, ScenarioText, Weight,
};
use nestmatrix::report::{Style, domain_import};
use nestmatrix::scenario::{Cell, Matrix};
use nestmatrix_model::{Architecture, CpuMode, LevelNumber};
use proptest::prelude::*;
use rstest::rstest;

fn level(number: u8) -> LevelNumber {
    LevelNumber::new(number).unwrap()
}

fn import_as(xml: &str, level: LevelNumber, options: &ImportOptions) -> Result<Import, DomainError> {
    Import::new(&DomainXml::new("L1.xml", xml), level, options)
}

fn import(xml: &str) -> Import {
    import_as(xml, level(1), &ImportOptions::default()).unwrap_or_else(|e| panic!("{e}: {xml}"))
}

/// The cell of an import, which is read from its files as a run reads it.
fn cell(import: &Import) -> Cell {
    let text = ScenarioText::new(import, None);
    let files = [("documents", &text.document), ("domains", &text.scenario)];
    let files = files.map(|(folder, content)| (format!("{folder}/{}.toml", text.name), content));
    let folder = matrix_folder::with_files(files);
    let matrix = Matrix::load(folder.path()).unwrap_or_else(|errors| {
        let errors: Vec<String> = errors.errors().iter().map(ToString::to_string).collect();
        panic!("{}\n{}", errors.join("\n"), text.scenario)
    });
    let [cell] = matrix.cells() else { panic!("{} cells", matrix.cells().len()) };
    cell.clone()
}

/// An import whose scenario was read: the level must be what the import says.
fn checked(import: Import) -> Import {
    let cell = cell(&import);
    let spec = cell.levels.iter().find(|spec| spec.level == import.level).unwrap();
    assert_eq!(spec.settings, import.settings);
    assert_eq!(spec.firmware, import.firmware);
    import
}

/// The reasons of findings of this weight, each with what it is about.
fn found(import: &Import, weight: Weight) -> Vec<String> {
    import.findings_of(weight).map(|finding| format!("{}: {}", finding.what, finding.reason)).collect()
}

#[rstest]
#[case("virt-manager")]
#[case("proxmox-like")]
#[case("openstack")]
fn a_reporters_domain_becomes_a_scenario(#[case] name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/domain_xml").join(format!("{name}.xml"));
    let xml = DomainXml::new(format!("{name}.xml"), &std::fs::read_to_string(file).unwrap());
    let import = checked(Import::new(&xml, level(1), &ImportOptions::default()).unwrap());
    let text = ScenarioText::new(&import, None);
    let mut all = String::new();
    for (heading, text) in [
        ("what is printed", domain_import(&import, &Style::plain())),
        ("scenario", text.scenario),
        ("document", text.document),
    ] {
        write!(all, "== {heading}\n{text}\n").unwrap();
    }
    insta::assert_snapshot!(name, all);
}

#[rstest]
#[case::cut_off("<domain><name>a</name>", "can't be read as XML: the root node was opened but never closed")]
#[case::a_prompt("$ virsh dumpxml a\n<domain/>", "can't be read as XML")]
#[case::entities("<!DOCTYPE a [<!ENTITY b \"c\">]>\n<domain/>", "a document type is not read")]
#[case::a_network("<network/>", "the root element is <network>, not <domain>")]
#[case::only_a_part("<cpu mode='host-passthrough'/>", "the root element is <cpu>, not <domain>")]
#[case::architecture(
    "<domain><os><type arch='riscv64'>hvm</type></os></domain>",
    "there are no cells for the architecture `riscv64`"
)]
#[case::escape("<dom\u{1b}ain/>", "can't be read as XML")]
fn what_is_no_domain_is_refused_with_its_place(#[case] xml: &str, #[case] said: &str) {
    let error = import_as(xml, level(1), &ImportOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(said) && text.starts_with("L1.xml:"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn an_error_names_the_line_and_the_column_of_what_is_wrong() {
    let xml = "<domain>\n  <os>\n    <type arch='vax'>hvm</type>\n  </os>\n</domain>";
    let error = import_as(xml, level(1), &ImportOptions::default()).unwrap_err();
    assert_eq!(error.position(), Some((3, 5)));
    let error =
        import_as("<domain>\n  <é>\n  </x>\n</domain>", level(1), &ImportOptions::default()).unwrap_err();
    assert_eq!(error.position().map(|(line, _)| line), Some(3), "{error}");
}

#[test]
fn control_characters_of_a_refused_file_do_not_reach_the_terminal() {
    for xml in [
        "<domain>\r\n<!-- \u{9b}31m\u{202e} --><os><type arch='v\u{9b}ax\u{202e}'/></os></domain>",
        "<domain>\r\n\u{1b}[2J\u{7f}<a></b>\rc</domain>",
    ] {
        let error = import_as(xml, level(1), &ImportOptions::default()).unwrap_err();
        assert_eq!(error.position().map(|(line, _)| line), Some(2), "{error}");
        // This one shows the lines around the place, without colors.
        let mut report = String::new();
        miette::NarratableReportHandler::new().render_report(&mut report, &error).unwrap();
        assert!(report.contains("L1.xml:2:") && report.contains('?'), "{report}");
        write!(report, "{:?}", miette::Report::new(error)).unwrap();
        assert!(!report.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{report:?}");
    }
}

#[test]
fn very_many_elements_are_refused() {
    let xml = format!("<domain>{}</domain>", "<a/>".repeat(50_000));
    let error = import_as(&xml, level(1), &ImportOptions::default()).unwrap_err();
    assert!(matches!(error.problem(), DomainProblem::NotXml(_)), "{error}");
}

#[test]
fn very_many_attributes_are_refused_before_they_are_compared() {
    let attributes: String = (0..100_000).map(|number| format!(" a{number} =\n''")).collect();
    let error =
        import_as(&format!("<domain{attributes}/>"), level(1), &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("more than 500 attributes of an element"), "{error}");
}

#[test]
fn a_place_in_a_very_long_line_is_named_without_the_line() {
    let xml = format!("<domain>{}<os><type arch='vax'/></os></domain>", " ".repeat(100_000));
    let error = import_as(&xml, level(1), &ImportOptions::default()).unwrap_err();
    let report = format!("{:?}", miette::Report::new(error));
    assert!(report.contains("L1.xml:1:100013: ") && report.len() < 1000, "{report}");
}

#[test]
fn very_deep_elements_end_in_a_finding() {
    let depth = 9_000;
    let xml = format!("<domain>{}{}</domain>", "<a>".repeat(depth), "</a>".repeat(depth));
    let import = checked(import(&xml));
    assert!(
        found(&import, Weight::ChangesMeaning).iter().any(|said| said == "a: nestmatrix does not know it")
    );
}

#[test]
fn a_file_with_very_many_findings_lists_only_the_first() {
    let xml = format!("<domain>{}</domain>", "<a/>".repeat(5_000));
    let import = import(&xml);
    assert_eq!(import.findings.len(), 501);
    assert!(import.findings.iter().any(|finding| finding.reason.ends_with("more findings are not listed")));
}

/// The domain with these children.
fn domain(children: &str) -> String {
    format!(
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>a</name>{children}</domain>"
    )
}

#[rstest]
#[case::amd("<cpu mode='custom'><model>EPYC-Rome</model></cpu>", "amd")]
#[case::intel("<cpu mode='custom'><model>Skylake-Server-IBRS</model></cpu>", "intel")]
#[case::feature("<cpu mode='host-passthrough'><feature policy='require' name='vmx'/></cpu>", "intel")]
#[case::disabled("<cpu mode='host-passthrough'><feature policy='disable' name='vmx'/></cpu>", "amd")]
#[case::vendor("<cpu mode='host-model'><vendor>Intel</vendor></cpu>", "intel")]
#[case::iommu("<devices><iommu model='intel'/></devices>", "intel")]
#[case::argument(
    "<qemu:commandline><qemu:arg value='-cpu'/><qemu:arg value='host,+vmx'/></qemu:commandline>",
    "intel"
)]
#[case::power("<os><type arch='ppc64le' machine='pseries'>hvm</type></os>", "power9")]
#[case::arm("<os><type arch='aarch64' machine='virt'>hvm</type></os>", "arm")]
#[case::z("<os><type arch='s390x'>hvm</type></os>", "ibm-z")]
#[case::nothing("", "amd")]
fn the_architecture_is_that_of_the_processor(#[case] children: &str, #[case] expected: &str) {
    assert_eq!(checked(import(&domain(children))).architecture.to_string(), expected);
}

#[test]
fn the_user_chooses_the_vendor_that_the_domain_leaves_open() {
    let xml = domain("<os><type arch='x86_64'>hvm</type></os><cpu mode='host-passthrough'/>");
    assert!(found(&import(&xml), Weight::Approximated).iter().any(|said| said.contains("--architecture")));
    let options = ImportOptions { architecture: Some(Architecture::Intel), ..ImportOptions::default() };
    let chosen = import_as(&xml, level(1), &options).unwrap();
    assert_eq!(chosen.architecture, Architecture::Intel);
    assert_eq!(found(&chosen, Weight::Approximated), [""; 0]);
    let other = ImportOptions { architecture: Some(Architecture::Arm), ..ImportOptions::default() };
    let error = import_as(&xml, level(1), &other).unwrap_err();
    assert!(matches!(error.problem(), DomainProblem::OtherArchitecture { .. }), "{error}");
}

#[test]
fn policies_of_features_are_kept_or_found() {
    let feature = |policy: &str, name: &str| format!("<feature policy='{policy}' name='{name}'/>");
    let all =
        [("require", "svm"), ("force", "npt"), ("optional", "avx2"), ("disable", "la57"), ("forbid", "mpx")];
    let features: String = all.iter().map(|(policy, name)| feature(policy, name)).collect();
    let named = checked(import(&domain(&format!("<cpu><model>EPYC</model>{features}</cpu>"))));
    let cpu = &named.settings.cpu;
    assert_eq!((cpu.require.join(" "), cpu.disable.join(" ")), ("npt svm".into(), "la57 mpx".into()));
    let said = found(&named, Weight::ChangesMeaning).join("\n");
    for word in ["force:", "optional:", "forbid:"] {
        assert!(said.contains(word), "{said}");
    }
    let passed = checked(import(&domain(&format!("<cpu mode='host-passthrough'>{features}</cpu>"))));
    assert_eq!(passed.settings.cpu.require, ["svm"]);
    assert_eq!(passed.settings.cpu.set["npt"], "on", "only what is set is on QEMU's command line");
}

#[test]
fn a_comment_does_not_change_a_value() {
    let import =
        checked(import(&domain("<vcpu><!-- a -->4</vcpu><cpu><model>EPYC<!-- b -->-Rome</model></cpu>")));
    assert_eq!(import.settings.hardware.cpus, Some(4));
    assert_eq!(import.settings.cpu.mode, CpuMode::Custom { model: "EPYC-Rome".into() });
}

#[test]
fn features_have_the_names_and_places_that_libvirt_gives_them() {
    let feature = |name: &str| format!("<feature policy='require' name='{name}'/>");
    let names = ["cmt", "mbm_total", "mbm_local", "osxsave", "ospke", "vmx-invvpid-single-context-noglobals"];
    let features = names.map(feature).concat();
    let import = checked(import(&domain(&format!("<cpu><model>Haswell</model>{features}</cpu>"))));
    assert_eq!(import.settings.cpu.require, ["vmx-invept-single-context-noglobals"]);
    let said = found(&import, Weight::LeftOut);
    assert_eq!(said.iter().filter(|said| said.ends_with("libvirt does not pass it to QEMU")).count(), 5);
}

#[rstest]
#[case::of_the_host(
    "<devices><interface type='hostdev'/></devices>",
    "no scenario key for devices of the host"
)]
#[case::of_its_data_path(
    "<devices><interface type='vdpa'/></devices>",
    "no scenario key for devices of the host"
)]
#[case::hyper_v("<features><hyperv mode='host-model'/></features>", "no scenario key for this mode")]
fn what_depends_on_the_host_is_found(#[case] children: &str, #[case] reason: &str) {
    let import = checked(import(&domain(children)));
    let said = found(&import, Weight::ChangesMeaning);
    assert!(said.iter().any(|said| said.contains(reason)), "{said:?}");
    assert_eq!(import.settings.hardware.devices, []);
}

/// The domain with these arguments for QEMU.
fn with_arguments(children: &str, words: &[&str]) -> String {
    let words: String = words.iter().map(|word| format!("<qemu:arg value='{word}'/>")).collect();
    domain(&format!("{children}<qemu:commandline>{words}</qemu:commandline>"))
}

#[test]
fn the_feature_for_hosting_is_a_feature_however_it_is_written() {
    let on = checked(import(&with_arguments("", &["-cpu", "EPYC,svm=on"])));
    assert_eq!(on.settings.cpu.require, ["svm"]);
    assert!(!found(&on, Weight::Approximated).iter().any(|said| said.contains("no svm")));
    let off = checked(import(&with_arguments("", &["-cpu", "host,svm=off"])));
    assert_eq!(off.settings.cpu.disable, ["svm"]);
    let said = found(&off, Weight::ChangesMeaning).join("\n");
    assert!(said.contains("no svm: the stack stops at its launch with missing-cpu-feature"), "{said}");
}

#[rstest]
#[case::whole("", "sockets=2,cores=4", Some(8), None, 2, None)]
#[case::most("", "maxcpus=8", Some(8), None, 0, None)]
#[case::more_later("<vcpu>4</vcpu>", "maxcpus=8", Some(4), Some(8), 0, None)]
#[case::divides("<vcpu>8</vcpu>", "sockets=2", Some(8), None, 1, None)]
#[case::contradicts("<vcpu>4</vcpu>", "sockets=2,cores=4", Some(4), None, 0, Some("product of the topology"))]
#[case::too_few("", "8,maxcpus=4", Some(8), None, 0, Some("maxcpus is less"))]
#[case::too_many("", "sockets=200,cores=200", None, None, 0, Some("product of the topology"))]
fn the_cpus_of_an_argument_agree(
    #[case] children: &str,
    #[case] smp: &str,
    #[case] cpus: Option<u32>,
    #[case] max_cpus: Option<u32>,
    #[case] parts: usize,
    #[case] reason: Option<&str>,
) {
    let import = checked(import(&with_arguments(children, &["-cpu", "host", "-smp", smp])));
    let settings = &import.settings;
    assert_eq!((settings.hardware.cpus, settings.hardware.max_cpus), (cpus, max_cpus));
    assert_eq!(settings.machine.len(), parts);
    let said = found(&import, Weight::ChangesMeaning).join("\n");
    assert!(reason.map_or(said.is_empty(), |reason| said.contains(reason)), "{said}");
}

#[test]
fn a_distributions_machine_type_in_an_argument_is_replaced_too() {
    let import = checked(import(&with_arguments("", &["-machine", "pc-q35-rhel9.4.0,smm=on"])));
    assert_eq!(import.settings.machine_type.as_deref(), Some("q35"));
    assert_eq!(import.settings.machine["smm"], "on");
    assert!(
        found(&import, Weight::Approximated).iter().any(|said| said.contains("a distribution's own version"))
    );
}

#[rstest]
#[case::version("pc-q35-9.2+pve0", "pc-q35-9.2")]
#[case::newer_than_the_usual_systems("pc-i440fx-11.0+pve1", "pc")]
#[case::without_a_version("q35+pve1", "q35")]
fn a_vendors_change_of_a_machine_type_is_left_out_and_said(#[case] machine: &str, #[case] expected: &str) {
    let as_element = domain(&format!("<os><type machine='{machine}'>hvm</type></os>"));
    let as_argument = with_arguments("", &["-machine", &format!("type={machine},smm=on")]);
    for xml in [as_element, as_argument] {
        let import = checked(import(&xml));
        assert_eq!(import.settings.machine_type.as_deref(), Some(expected));
        let (own, by) = machine.split_once('+').unwrap();
        let said = found(&import, Weight::Approximated).join("\n");
        assert!(said.contains(&format!("+{by} is a vendor's own change of {own}")), "{said}");
    }
}

#[test]
fn a_level_that_hosts_without_the_feature_for_it_is_a_finding() {
    let xml = domain("<cpu><model>EPYC</model></cpu>");
    let cannot_host =
        |import: &Import| found(import, Weight::Approximated).iter().any(|it| it.contains("no svm"));
    assert!(cannot_host(&import(&xml)));
    assert!(!cannot_host(&import_as(&xml, level(2), &ImportOptions::default()).unwrap()), "L2 hosts nothing");
}

#[rstest]
#[case("<vcpu>4</vcpu>", Some(4), None)]
#[case("<vcpu current='2'>4</vcpu>", Some(2), Some(4))]
#[case("<vcpu current='4'>4</vcpu>", Some(4), None)]
#[case("<vcpu current='5'>4</vcpu>", None, None)]
#[case("<vcpu>0</vcpu>", None, None)]
#[case("<vcpu>four</vcpu>", None, None)]
#[case("<cpu mode='host-passthrough'><topology sockets='1' cores='2' threads='2'/></cpu>", Some(4), None)]
fn cpus_are_counted(#[case] children: &str, #[case] cpus: Option<u32>, #[case] max_cpus: Option<u32>) {
    let import = checked(import(&domain(children)));
    assert_eq!((import.settings.hardware.cpus, import.settings.hardware.max_cpus), (cpus, max_cpus));
    let is_found = found(&import, Weight::ChangesMeaning).iter().any(|said| said.starts_with("vcpu"));
    assert_eq!(is_found, cpus.is_none());
}

#[test]
fn a_topology_that_contradicts_the_number_of_cpus_is_not_passed_on() {
    let xml = domain(
        "<vcpu>3</vcpu><cpu mode='host-passthrough'><topology sockets='1' cores='2' threads='2'/></cpu>",
    );
    let import = checked(import(&xml));
    assert!(import.settings.machine.is_empty());
    assert!(found(&import, Weight::ChangesMeaning)[0].contains("its product is not the number of CPUs"));
}

#[test]
fn huge_pages_are_reserved_in_the_level_around() {
    let xml = domain("<memory unit='GiB'>1</memory><memoryBacking><hugepages/></memoryBacking>");
    let import = checked(import(&xml));
    let cell = cell(&import);
    assert_eq!(cell.steps.len(), 1);
    assert_eq!(cell.levels[0].settings.memory_mib, Some(2560));
    let inner = checked(import_as(&xml, level(2), &ImportOptions::default()).unwrap());
    assert!(ScenarioText::new(&inner, None).scenario.contains("after = \"l1-kvm\""));
}

#[rstest]
#[case("<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>", Some("uefi"), false)]
#[case(
    "<loader type='pflash' secure='yes'>/usr/share/OVMF/OVMF_CODE.secboot.fd</loader>",
    Some("uefi"),
    true
)]
#[case("<loader>/usr/share/seabios/bios.bin</loader>", None, false)]
#[case("", None, false)]
fn the_firmware_is_that_of_the_loader(
    #[case] loader: &str,
    #[case] firmware: Option<&str>,
    #[case] changes: bool,
) {
    let import = checked(import(&domain(&format!("<os>{loader}</os><cpu mode='host-passthrough'/>"))));
    assert_eq!(import.firmware.map(|firmware| firmware.to_string()).as_deref(), firmware);
    let said = found(&import, Weight::ChangesMeaning).join("\n");
    assert_eq!(said.contains("secure boot"), changes, "{said}");
}

#[test]
fn a_network_is_only_given_if_the_user_asks() {
    let xml = domain("<devices><interface type='network'><model type='e1000'/></interface></devices>");
    assert_eq!(import(&xml).settings.hardware.network, None);
    let options = ImportOptions { network: true, ..ImportOptions::default() };
    let asked = checked(import_as(&xml, level(1), &options).unwrap());
    assert!(asked.settings.hardware.network.is_some());
}

#[test]
fn the_system_that_a_management_program_wrote_down_is_booted() {
    let of = |id: &str| {
        let namespace = "http://libosinfo.org/xmlns/libvirt/domain/1.0";
        let os = format!("<o:libosinfo xmlns:o='{namespace}'><o:os id='{id}'/></o:libosinfo>");
        checked(import(&domain(&format!("<metadata>{os}</metadata>"))))
    };
    assert_eq!(of("http://redhat.com/rhel/9.4").system.as_deref(), Some("rhel 9.4"));
    assert_eq!(of("http://debian.org/debian/12").system.as_deref(), Some("debian 12"));
    for other in
        ["http://redhat.com/rhel/7.9", "http://microsoft.com/win/11", "http://redhat.com/rhel/9.x", ""]
    {
        let import = of(other);
        assert_eq!(import.system, None, "{other}");
        assert!(found(&import, Weight::ChangesMeaning)[0].contains("no image of it"), "{other}");
    }
}

#[test]
fn arguments_for_qemu_have_the_last_word() {
    let arguments = |words: &[&str]| {
        let words: String = words.iter().map(|word| format!("<qemu:arg value='{word}'/>")).collect();
        domain(&format!(
            "<vcpu>4</vcpu><cpu><model>Haswell</model></cpu><qemu:commandline>{words}</qemu:commandline>"
        ))
    };
    let words = ["-cpu", "EPYC,+svm,-npt,hv_spinlocks=0x1fff,kvm=off", "-smp", "2,maxcpus=6", "-m", "3G"];
    let import = checked(import(&arguments(&words)));
    let settings = &import.settings;
    assert_eq!(settings.cpu.set["hv-spinlocks"], "0x1fff");
    assert_eq!(
        (settings.cpu.require.as_slice(), settings.cpu.disable.as_slice()),
        (&["svm".to_owned()][..], &["npt".to_owned()][..])
    );
    let hardware = &settings.hardware;
    assert_eq!((hardware.cpus, hardware.max_cpus, settings.memory_mib), (Some(2), Some(6), Some(3072)));
    let unknown = checked(self::import(&arguments(&["-global", "kvm-pit.lost_tick_policy=delay", "-cpu"])));
    let said = found(&unknown, Weight::ChangesMeaning).join("\n");
    assert!(
        said.contains("`-global kvm-pit.lost_tick_policy=delay`") && said.contains("its value is missing"),
        "{said}"
    );
}

#[test]
fn a_device_in_an_argument_that_the_architecture_does_not_have_is_found() {
    let arguments = |os: &str| {
        let words = ["-device", "intel-iommu,intremap=on"].map(|word| format!("<qemu:arg value='{word}'/>"));
        domain(&format!(
            "{os}<cpu><model>EPYC</model></cpu><qemu:commandline>{}</qemu:commandline>",
            words.concat()
        ))
    };
    let amd = checked(import(&arguments("")));
    assert!(
        found(&amd, Weight::Approximated)
            .iter()
            .any(|said| said.ends_with("the level has amd-iommu instead"))
    );
    let power = checked(import(&arguments("<os><type arch='ppc64le'>hvm</type></os>")));
    assert!(power.settings.hardware.devices.is_empty());
    assert!(found(&power, Weight::ChangesMeaning)[0].contains("no scenario key for `-device intel-iommu"));
}

#[test]
fn the_innermost_level_is_not_kept_from_its_evidence() {
    let hidden = [
        "<features><acpi/><kvm><hidden state='on'/></kvm></features><cpu mode='host-passthrough'/>",
        "<qemu:commandline><qemu:arg value='-cpu'/><qemu:arg value='host,-kvm'/></qemu:commandline>",
    ];
    for xml in hidden.map(domain) {
        let hosts = checked(import(&xml)).settings.cpu;
        assert!(
            hosts.set.get("kvm").is_some_and(|value| value == "off") || hosts.disable == ["kvm"],
            "{hosts:?}"
        );
        let innermost = checked(import_as(&xml, level(2), &ImportOptions::default()).unwrap());
        assert!(!innermost.settings.cpu.set.contains_key("kvm") && innermost.settings.cpu.disable.is_empty());
        assert!(found(&innermost, Weight::ChangesMeaning)[0].contains("KVM is hidden in it"));
    }
}

#[test]
fn control_characters_are_neither_printed_nor_written() {
    let xml = domain(
        "<uuid>\u{9b}31m\u{202e}</uuid><cpu><model>EPYC&#x9;\u{85}</model></cpu><x a='&#10;[levels.l0]&#10;'/>",
    );
    let import = checked(import(&xml));
    let text = domain_import(&import, &Style::plain()) + &ScenarioText::new(&import, None).scenario;
    let is_bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(is_bad), "{text:?}");
    assert!(!text.lines().any(|line| line == "[levels.l0]"), "{text}");
}

/// Names and values that occur in domains, and others that a stranger could write.
fn value() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "on",
        "off",
        "yes",
        "no",
        "4",
        "0",
        "-1",
        "99999999999999999999",
        "KiB",
        "TiB",
        "host-passthrough",
        "host-model",
        "custom",
        "require",
        "optional",
        "force",
        "forbid",
        "disable",
        "svm",
        "vmx",
        "q35",
        "pc-q35-6.2",
        "x86_64",
        "virtio",
        "intel",
        "nvme",
        "efi",
        "pflash",
        "EPYC,svm=off",
        "a b",
        "",
        "=",
        "\"",
        "'''",
        "\\",
        "#",
        "\u{7f}",
        "é",
        "..",
        "-",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => "\\PC{0,20}", 1 => prop::collection::vec("[a-z_.-]{1,3}", 1..90).prop_map(|it| it.join(","))]
}

fn escaped(text: &str) -> String {
    let text: String = text.chars().filter(|c| *c >= ' ').collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&#39;")
}

/// An element whose name and attributes the import knows, with any values, and children of any kind.
fn element() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "os",
        "type",
        "loader",
        "firmware",
        "feature",
        "features",
        "hyperv",
        "kvm",
        "hidden",
        "spinlocks",
        "vendor_id",
        "stimer",
        "direct",
        "ioapic",
        "gic",
        "hpt",
        "apic",
        "pmu",
        "smm",
        "cfpc",
        "cpu",
        "model",
        "topology",
        "cache",
        "maxphysaddr",
        "vendor",
        "numa",
        "vcpu",
        "memory",
        "currentMemory",
        "memoryBacking",
        "hugepages",
        "page",
        "clock",
        "timer",
        "devices",
        "disk",
        "target",
        "interface",
        "iommu",
        "driver",
        "watchdog",
        "rng",
        "memballoon",
        "metadata",
        "name",
        "cmdline",
        "qemu:commandline",
        "qemu:arg",
        "qemu:env",
        "unknown",
    ]);
    let attributes = prop::sample::subsequence(
        vec![
            "mode",
            "name",
            "policy",
            "state",
            "value",
            "sockets",
            "cores",
            "threads",
            "unit",
            "current",
            "machine",
            "arch",
            "type",
            "model",
            "bus",
            "size",
            "present",
            "frequency",
            "retries",
            "version",
            "bits",
            "level",
            "match",
            "migratable",
            "secure",
            "firmware",
            "enabled",
            "vendor_id",
            "other",
        ],
        0..6,
    );
    let attributes = attributes.prop_flat_map(|names| {
        let values = prop::collection::vec(value(), names.len());
        values.prop_map(move |values| {
            let pairs = names.iter().zip(values);
            pairs.map(|(name, value)| format!(" {name}='{}'", escaped(&value))).collect::<String>()
        })
    });
    let leaf = (names.clone(), attributes.clone(), value())
        .prop_map(|(name, attributes, text)| format!("<{name}{attributes}>{}</{name}>", escaped(&text)));
    leaf.prop_recursive(4, 40, 8, move |inner| {
        (names.clone(), attributes.clone(), prop::collection::vec(inner, 0..8)).prop_map(
            |(name, attributes, children)| format!("<{name}{attributes}>{}</{name}>", children.concat()),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A scenario that does not load would be a mistake of the import, whatever the domain is.
    #[test]
    fn whatever_a_domain_has_its_scenario_loads(children in prop::collection::vec(element(), 0..8), number in 1_u8..3, network: bool) {
        let options = ImportOptions { network, ..ImportOptions::default() };
        if let Ok(import) = import_as(&domain(&children.concat()), level(number), &options) {
            let import = checked(import);
            let text = domain_import(&import, &Style::plain());
            prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        }
    }

    #[test]
    fn whatever_a_file_has_it_is_imported_or_refused(text in "\\PC{0,200}", tail in "(<|>|/|domain|&|;|'|\"|!|\\[|\\?|xml| ){0,40}") {
        for xml in [text.clone(), format!("<domain>{text}</domain>"), format!("<domain {tail}>{text}"), tail] {
            if let Ok(import) = import_as(&xml, level(1), &ImportOptions::default()) {
                checked(import);
            }
        }
    }
}
