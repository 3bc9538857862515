//! What real machines show, and what that means. Each case of a real machine names where the values are from.

use std::fs;

use rstest::rstest;

use super::*;

/// A machine: what its files say, one `PATH=TEXT` a line, and the hypervisor's name by `lscpu`.
fn machine(files: &[(&str, &str)], vendor: &str) -> Surroundings {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    let lscpu = match vendor {
        "" => "Architecture:  x86_64\n".to_owned(),
        vendor => format!("Architecture:  x86_64\nHypervisor vendor:     {vendor}\n"),
    };
    Surroundings::read(root.path(), &lscpu)
}

fn x86(flags: &str, vendor: &str, firmware: &[(&str, &str)]) -> Surroundings {
    let cpu = format!("processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:");
    let paths: Vec<(String, &str)> =
        firmware.iter().map(|(file, text)| (format!("sys/class/dmi/id/{file}"), *text)).collect();
    let mut files: Vec<(&str, &str)> = paths.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    files.push(("proc/cpuinfo", &cpu));
    machine(&files, vendor)
}

fn matrix() -> Matrix {
    Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap()
}

fn guest_of(shown: &Surroundings) -> Option<GuestOf> {
    shown.guest_of(&matrix(), LevelNumber::ALL[1])
}

const GUEST: &str = "fpu vmx hypervisor";
const BARE: &str = "fpu vmx";

#[rstest]
// The kernel log of an r5d.xlarge, in public: `DMI: Amazon EC2 r5d.xlarge/, BIOS 1.0 10/16/2017`, `Hypervisor detected: KVM`.
#[case::nitro(GUEST, "KVM", &[("sys_vendor", "Amazon EC2"), ("product_name", "r5d.xlarge"), ("bios_version", "1.0")], Some("aws"), "AWS")]
// systemd#20628 and systemd-stable#283: a bare instance has the same vendor, and `.metal` in its name.
#[case::metal_of_aws(BARE, "", &[("sys_vendor", "Amazon EC2"), ("product_name", "c5.metal")], None, "")]
#[case::larger_metal_of_aws(BARE, "", &[("sys_vendor", "Amazon EC2"), ("product_name", "m7i.metal-48xl")], None, "")]
// Solvik/netbox-agent#99: an instance on Xen, where nothing nests.
#[case::xen_of_aws(GUEST, "Xen", &[("sys_vendor", "Xen"), ("product_name", "HVM domU"), ("bios_vendor", "Xen"), ("bios_version", "4.2.amazon")], None, "Xen")]
// crc-org/snc#1146: the vendor is the same on Azure and on another Hyper-V, and only Azure has the tag.
#[case::azure(GUEST, "Microsoft", &[("sys_vendor", "Microsoft Corporation"), ("product_name", "Virtual Machine"), ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77")], Some("azure"), "Azure")]
// ClusterLabs/crmsh#865: another vendor on Azure.
#[case::azure_of_another_vendor(GUEST, "Microsoft", &[("sys_vendor", "American Megatrends Inc."), ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77")], Some("azure"), "Azure")]
// The firmware is that of Solvik/netbox-agent#99.
#[case::hyper_v(GUEST, "Microsoft", &[("sys_vendor", "Microsoft Corporation"), ("product_name", "Virtual Machine"), ("bios_version", "Hyper-V UEFI Release v1.0")], Some("hyper-v"), "Hyper-V")]
// Made up: a bare machine of the same vendor.
#[case::surface(BARE, "", &[("sys_vendor", "Microsoft Corporation"), ("product_name", "Surface Pro 7")], None, "")]
// systemd#30839 and #38125: Google's virtual machines run on KVM; its bare ones show the same firmware.
#[case::google(GUEST, "KVM", &[("sys_vendor", "Google"), ("product_name", "Google Compute Engine")], Some("gcp"), "Google Cloud")]
#[case::metal_of_google(BARE, "", &[("sys_vendor", "Google"), ("product_name", "Google Compute Engine")], None, "")]
// Made up: a bare machine of the same vendor.
#[case::chromebook(BARE, "", &[("sys_vendor", "Google"), ("product_name", "Eve")], None, "")]
// wjz304/arpl-zh_CN#4: ESXi 8.0b, with BIOS and with UEFI.
#[case::esxi(GUEST, "VMware", &[("sys_vendor", "VMware, Inc."), ("product_name", "VMware Virtual Platform"), ("bios_version", "6.00")], Some("vmware-esxi"), "VMware ESXi")]
#[case::esxi_with_uefi(GUEST, "VMware", &[("sys_vendor", "VMware, Inc."), ("product_name", "VMware20,1"), ("bios_version", "VMW201.00V.20904234.B64.2212051119")], Some("vmware-esxi"), "VMware ESXi")]
// The same bug report: a QEMU without KVM's name in its tables.
#[case::qemu(GUEST, "KVM", &[("sys_vendor", "QEMU"), ("product_name", "Standard PC (Q35 + ICH9, 2009)")], None, "KVM")]
// uyuni-project/uyuni#2112: KVM with Hyper-V's signature is no Hyper-V.
#[case::nutanix(GUEST, "Microsoft", &[("sys_vendor", "Nutanix"), ("product_name", "AHV")], None, "Microsoft")]
// A virtual machine of Firecracker, which has no firmware tables.
#[case::without_firmware(GUEST, "KVM", &[], None, "KVM")]
#[case::without_a_name(GUEST, "", &[("sys_vendor", "QEMU")], None, "an unknown hypervisor")]
#[case::bare(BARE, "", &[("sys_vendor", "Dell Inc."), ("product_name", "PowerEdge R740")], None, "")]
fn what_a_machine_is_a_guest_of_is_what_it_shows(
    #[case] flags: &str,
    #[case] vendor: &str,
    #[case] firmware: &[(&str, &str)],
    #[case] system: Option<&str>,
    #[case] name: &str,
) {
    let guest_of = guest_of(&x86(flags, vendor, firmware));
    let seen = guest_of.as_ref().map(|guest_of| (guest_of.system.as_deref(), guest_of.name.as_str()));
    assert_eq!(seen, (!name.is_empty()).then_some((system, name)), "{guest_of:#?}");
}

#[test]
fn the_evidence_says_which_file_said_what() {
    let esxi = guest_of(&x86(GUEST, "VMware", &[("sys_vendor", "VMware, Inc.")])).unwrap();
    let expected = "/proc/cpuinfo: hypervisor; /sys/class/dmi/id/sys_vendor: VMware, Inc.; lscpu: VMware; \
                    VMware Workstation, Fusion and Player show the same as ESXi";
    assert_eq!(esxi.evidence(), expected);
}

#[test]
fn a_processor_without_that_flag_is_a_guests_if_a_hypervisor_has_a_name() {
    let arm = ("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd");
    assert!(!machine(&[arm], "").is_guest());
    assert!(machine(&[arm, ("sys/hypervisor/type", "xen")], "").is_guest());
    assert!(machine(&[arm], "KVM").is_guest());
}

#[test]
fn this_machine_says_the_same_of_itself_as_its_processor() {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap();
    let has_flag = cpu.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    if cfg!(target_arch = "x86_64") {
        assert_eq!(Surroundings::of_this_machine().is_guest(), has_flag);
    }
}
