//! The list of tests of kvm-unit-tests (`unittests.cfg`): which file each test boots, and how QEMU is started for it.

use std::path::{Path, PathBuf};

/// The list, in the folder of the suite.
pub(super) const LIST: &str = "x86/unittests.cfg";
/// The architecture that the tests are built for, in the words of the list.
const ARCHITECTURE: &str = "x86_64";
/// How long a test may run if the list does not say so, in seconds.
const TIMEOUT: u32 = 90;
/// A test with more CPUs is a mistake in the list.
const MOST_CPUS: u8 = 64;

/// A test of a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitTest {
    /// Its name.
    pub name: String,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// The program that is its guest. It exists only if it was built.
    pub file: PathBuf,
    /// The number of CPUs of its machine.
    pub cpus: u8,
    /// The arguments of the program.
    pub arguments: String,
    /// Further arguments of QEMU.
    pub qemu: Vec<String>,
    /// How long it may run, in seconds.
    pub timeout: u32,
    /// What it needs where it runs.
    pub needs: Vec<Needs>,
    /// Why it can't run, if so.
    pub unusable: Option<String>,
}

/// A file with this content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The file.
    pub path: String,
    /// Its only line.
    pub value: String,
}

impl UnitTest {
    /// Whether its machine is only run if a test is named, and not by its group.
    pub fn is_manual(&self) -> bool {
        self.groups.iter().any(|group| group == "nodefault")
    }
}

/// The list of the suite in this folder.
pub(super) fn list(folder: &Path) -> PathBuf {
    folder.join(LIST)
}

/// The tests in a list.
pub(super) fn parse(text: &str, folder: &Path) -> Vec<UnitTest> {
    let tests = folder.join(LIST).parent().map_or_else(|| folder.to_owned(), Path::to_owned);
    let mut all: Vec<UnitTest> = Vec::new();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            all.push(blank(name));
            continue;
        }
        let (Some(test), Some((key, value))) = (all.last_mut(), line.split_once('=')) else { continue };
        let mut value = value.trim().to_owned();
        // A value in three quotes goes on until the next three.
        if let Some(first) = value.strip_prefix("\"\"\"") {
            let mut parts = vec![first.trim_end_matches('\\').to_owned()];
            while !parts.last().is_some_and(|part| part.ends_with("\"\"\"")) {
                let Some(line) = lines.next() else { break };
                parts.push(line.trim_end_matches('\\').to_owned());
            }
            value = parts.join(" ").trim_end_matches('"').to_owned();
        }
        set(test, key.trim(), &value, &tests);
    }
    all
}

fn blank(name: &str) -> UnitTest {
    UnitTest {
        name: name.to_owned(),
        groups: Vec::new(),
        file: PathBuf::new(),
        cpus: 1,
        arguments: String::new(),
        qemu: Vec::new(),
        timeout: TIMEOUT,
        needs: Vec::new(),
        unusable: None,
    }
}

/// Sets the arguments of QEMU. Older lists have the test's own arguments among them, and QEMU takes only one `-append`.
fn set_qemu(test: &mut UnitTest, mut words: Vec<String>) {
    if let Some(at) = words.iter().position(|word| word == "-append")
        && at + 1 < words.len()
    {
        test.arguments = words.remove(at + 1);
        words.remove(at);
    }
    test.qemu = words;
}

fn set(test: &mut UnitTest, key: &str, value: &str, folder: &Path) {
    let unusable = match key {
        "file" if is_file_name(value) => {
            test.file = folder.join(value);
            None
        }
        "file" => Some(format!("{value:?} is not a file's name")),
        "smp" => match value.parse() {
            Ok(cpus) if (1..=MOST_CPUS).contains(&cpus) => {
                test.cpus = cpus;
                None
            }
            _ => Some(format!("{value:?} is no number of CPUs")),
        },
        "test_args" => words(value).map(|words| test.arguments = words.join(" ")).err(),
        "qemu_params" | "extra_params" => words(value).map(|words| set_qemu(test, words)).err(),
        "groups" => {
            test.groups = value.split_whitespace().map(str::to_owned).collect();
            None
        }
        "arch" => (value != ARCHITECTURE).then(|| format!("it is for {value}")),
        "accel" => (value != "kvm").then(|| format!("it is for {value}, not for KVM")),
        "timeout" => match value.trim_end_matches('s').parse() {
            Ok(seconds) if seconds > 0 => {
                test.timeout = seconds;
                None
            }
            // The suite takes 0 for no limit.
            _ => None,
        },
        "check" => {
            let needs = value.split_whitespace().filter_map(|word| word.split_once('='));
            let needs = needs.map(|(path, value)| Needs { path: path.to_owned(), value: value.to_owned() });
            test.needs = needs.collect();
            None
        }
        "disabled_if" => Some("a shell decides whether it runs".to_owned()),
        _ => None,
    };
    if test.unusable.is_none() {
        test.unusable = unusable;
    }
}

fn is_file_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && !text.starts_with('.') && text.chars().all(is_plain)
}

/// The words that a shell makes of `text`, if it computes nothing.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted_by = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quoted_by) {
            ('`' | '$', None | Some('"')) => return Err("a shell computes its arguments".to_owned()),
            (quote @ ('\'' | '"'), None) => {
                quoted_by = Some(quote);
                word.get_or_insert_default();
            }
            (quote, Some(by)) if quote == by => quoted_by = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(characters.next()),
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quoted_by.is_some() {
        return Err("a quote in its arguments is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> UnitTest {
        let mut tests = parse(text, Path::new("/suite"));
        assert_eq!(tests.len(), 1, "{tests:#?}");
        tests.remove(0)
    }

    #[test]
    fn a_test_has_what_its_section_says() {
        let test = only(
            "# comment\n[one]\nfile = one.flat\nsmp = 2\ntest_args = \"-a -b*\"\nqemu_params = -cpu max,+svm -m 4g\n\
             groups = svm nodefault\ntimeout = 10s\ncheck = /sys/a=Y /proc/b=0\narch = x86_64\naccel = kvm\n",
        );
        assert_eq!(test.file, Path::new("/suite/x86/one.flat"));
        assert_eq!((test.cpus, test.timeout, test.arguments.as_str()), (2, 10, "-a -b*"));
        assert_eq!(test.qemu, ["-cpu", "max,+svm", "-m", "4g"]);
        assert_eq!(test.needs[1], Needs { path: "/proc/b".into(), value: "0".into() });
        assert!(test.is_manual() && test.unusable.is_none());
    }

    #[test]
    fn a_section_without_values_has_defaults() {
        let test = only("ignored = before\n[one]\n");
        assert_eq!((test.cpus, test.timeout, test.qemu.len()), (1, 90, 0));
    }

    #[test]
    fn a_value_in_three_quotes_has_several_lines() {
        let test = only("[one]\nqemu_params = \"\"\"-cpu max \\\n-m 1g\"\"\"\nsmp = 3\n");
        assert_eq!(test.qemu, ["-cpu", "max", "-m", "1g"]);
        assert_eq!(test.cpus, 3);
    }

    #[test]
    fn a_tests_own_arguments_are_found_among_those_of_qemu() {
        let test = only("[one]\nextra_params = -cpu max -append 'cpuid -a' -m 1g\n");
        assert_eq!(test.arguments, "cpuid -a");
        assert_eq!(test.qemu, ["-cpu", "max", "-m", "1g"]);
    }

    #[test]
    fn a_test_that_can_not_run_says_why() {
        for (line, why) in [
            ("arch = i386", "it is for i386"),
            ("accel = tcg", "it is for tcg, not for KVM"),
            ("file = ../x.flat", "\"../x.flat\" is not a file's name"),
            ("smp = $(nproc)", "\"$(nproc)\" is no number of CPUs"),
            ("smp = 0", "\"0\" is no number of CPUs"),
            ("test_args = \"1 `date`\"", "a shell computes its arguments"),
            ("qemu_params = -cpu 'max", "a quote in its arguments is not closed"),
            ("disabled_if = true", "a shell decides whether it runs"),
        ] {
            assert_eq!(only(&format!("[one]\n{line}\nfile = one.flat\n")).unusable.as_deref(), Some(why));
        }
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (text, expected) in [
            ("a  b", &["a", "b"][..]),
            ("'a b' \"c d\"e ''", &["a b", "c de", ""]),
            (r"a\ b '\'", &["a b", "\\"]),
            ("'$x'", &["$x"]),
            ("", &[]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_list_is_read(text in "(\\[a\\]\n|smp = |file=|qemu_params = \"\"\"|\\PC{0,20}\n){0,20}") {
            parse(&text, Path::new("/suite"));
        }
    }
}
