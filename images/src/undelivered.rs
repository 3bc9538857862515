//! Detects packages that an archive's signed index lists but the archive does not have. That is a temporary fault of the archive.
//! All other failures of a download stay apt's errors.

use std::fmt;

/// Packages that the archive lists but cannot deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The suites that list them.
    pub suites: Vec<String>,
    /// `NAME VERSION` of each.
    pub packages: Vec<String>,
    /// apt's standard error.
    pub output: String,
}

/// apt's message before the address of a failed download.
const FAILED: &str = "E: Failed to fetch ";
/// apt's summaries at the end.
const SUMMARIES: [&str; 3] = [
    "E: Some files failed to download",
    "E: Unable to fetch some archives",
    "E: Failed to fetch some archives",
];
/// The beginning of a server's answer for a missing file.
const ABSENT: [&str; 2] = ["404 ", "410 "];
/// The beginnings of apt's message for a file in an archive that is a folder, and its end if the file is missing, not unreadable.
const ABSENT_IN_FOLDER: ([&str; 2], &str) =
    (["File not found", "Failed to stat"], "(2: No such file or directory)");

impl Undelivered {
    /// Parses apt's errors of a failed download. Returns nothing if there is any other problem than missing files, such as a full
    /// disk, a broken connection or a wrong checksum.
    #[must_use]
    pub fn read(suites: &[String], output: &str) -> Option<Self> {
        let mut packages = Vec::new();
        for line in output.lines().filter(|line| line.starts_with("E: ")) {
            if SUMMARIES.iter().any(|summary| line.starts_with(summary)) {
                continue;
            }
            let (address, reason) = line.strip_prefix(FAILED)?.split_once(' ')?;
            if !is_absent(reason.trim()) {
                return None;
            }
            packages.push(package(address));
        }
        packages.sort();
        packages.dedup();
        let found = Self { suites: suites.to_vec(), packages, output: output.to_owned() };
        (!found.packages.is_empty()).then_some(found)
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suites = self.suites.join(", ");
        match self.packages.as_slice() {
            [one] => write!(f, "the archive lists a package of {suites} that it cannot deliver ({one})"),
            [first, ..] => {
                let count = self.packages.len();
                write!(
                    f,
                    "the archive lists {count} packages of {suites} that it cannot deliver, such as {first}"
                )
            }
            [] => write!(f, "the archive lists packages of {suites} that it cannot deliver"),
        }
    }
}

fn is_absent(reason: &str) -> bool {
    let begins = |words: &[&str]| words.iter().any(|word| reason.starts_with(word));
    let (folder, end) = ABSENT_IN_FOLDER;
    begins(&ABSENT) || begins(&folder) && reason.ends_with(end)
}

/// `libc6 2.41-12+deb13u5` for `.../libc6_2.41-12%2bdeb13u5_amd64.deb`; otherwise the file's name.
fn package(address: &str) -> String {
    let file = address.rsplit('/').next().unwrap_or(address);
    match file.trim_end_matches(".deb").split('_').collect::<Vec<_>>()[..] {
        [name, version, _] => format!("{} {}", decoded(name), decoded(version)),
        _ => file.to_owned(),
    }
}

/// Decodes the escapes of an address, except for malformed ones.
pub(crate) fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(u8::is_ascii);
        match byte {
            Some(byte) => {
                decoded.push(char::from(byte));
                decoded.push_str(&part[2..]);
            }
            None => {
                decoded.push('%');
                decoded.push_str(part);
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: &str = "\
W: Download is performed unsandboxed as root
E: Failed to fetch http://a.example/debian/pool/main/g/glibc/libc6_2.41-12%2bdeb13u5_ppc64el.deb  404  Not Found [IP: 192.0.2.1 80]
E: Failed to fetch http://a.example/debian/pool/main/p/pcre2/libpcre2-8-0_10.46-1%7edeb13u3_ppc64el.deb  404  Not Found [IP: 192.0.2.1 80]
E: Some files failed to download
";

    fn read(output: &str) -> Option<Undelivered> {
        Undelivered::read(&["trixie".to_owned()], output)
    }

    #[test]
    fn missing_packages_are_named_as_in_the_index() {
        let found = read(ABSENT).unwrap();
        assert_eq!(found.packages, ["libc6 2.41-12+deb13u5", "libpcre2-8-0 10.46-1~deb13u3"]);
        assert_eq!(found.output, ABSENT);
        assert_eq!(
            found.to_string(),
            "the archive lists 2 packages of trixie that it cannot deliver, such as libc6 2.41-12+deb13u5"
        );
        let file = "E: Failed to fetch file:/a/x_1_all.deb  File not found - /a/x_1_all.deb (2: No such file or directory)";
        assert_eq!(
            read(file).unwrap().to_string(),
            "the archive lists a package of trixie that it cannot deliver (x 1)"
        );
        let copy =
            "E: Failed to fetch copy:/a/x_1_all.deb  Failed to stat - stat (2: No such file or directory)";
        assert_eq!(read(copy).unwrap().packages, ["x 1"]);
    }

    #[test]
    fn other_failures_are_not_the_archives_fault() {
        for other in [
            "E: Failed to fetch http://a.example/x_1_all.deb  Temporary failure resolving 'a.example'",
            "E: Failed to fetch http://a.example/x_1_all.deb  Connection failed [IP: 192.0.2.1 80]",
            "E: Failed to fetch http://a.example/x_1_all.deb  Hash Sum mismatch",
            "E: Failed to fetch copy:/a/x_1_all.deb  Failed to stat - stat (13: Permission denied)",
            "E: Failed to fetch http://a.example/x_1_all.deb  403  Forbidden [IP: 192.0.2.1 80]",
            "E: Failed to fetch http://a.example/x_1_all.deb  503  Service Unavailable",
            "E: Failed to fetch http://a.example/x_1_all.deb  Error writing to file - write (28: No space left on device)",
            "E: You don't have enough free space in /a/.",
        ] {
            assert_eq!(read(other), None, "{other}");
            assert_eq!(read(&format!("{ABSENT}{other}\n")), None, "beside absent ones: {other}");
        }
        assert_eq!(read(""), None);
        assert_eq!(read("E: Some files failed to download"), None);
    }
}
