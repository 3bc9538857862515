//! What a cell changed on a disposable host, for people.

use super::text::one_line;
use crate::disposable_host::HostChange;

/// A line for each thing that was changed.
pub fn host_changes(changes: &[HostChange]) -> String {
    let value =
        |value: &Option<String>| value.as_ref().map_or("missing".to_owned(), |text| format!("{text:?}"));
    let line = |HostChange { what, found, left, restored }: &HostChange| {
        let now = if *restored { "restored" } else { "not restored" };
        let line = format!("{what}: found {}, left {}, {now}", value(found), value(left));
        format!("  {}\n", one_line(&line))
    };
    changes.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_a_line() {
        let change = |what: &str, found: Option<&str>, left: Option<&str>, restored| HostChange {
            what: what.into(),
            found: found.map(str::to_owned),
            left: left.map(str::to_owned),
            restored,
        };
        let changes = [
            change("/etc/modprobe.d/kvm.conf", None, Some("options kvm_amd nested=0\n"), true),
            change("/proc/sys/vm/nr_hugepages", Some("0"), Some("512"), false),
        ];
        let expected = "  /etc/modprobe.d/kvm.conf: found missing, left \"options kvm_amd nested=0\\n\", restored\n  \
                        /proc/sys/vm/nr_hugepages: found \"0\", left \"512\", not restored\n";
        assert_eq!(host_changes(&changes), expected);
    }
}
