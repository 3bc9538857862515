//! Finds commands that only read. Without such a command nothing in the stack changes, so no other check can notice that it is
//! missing.

/// Programs that change nothing.
const READERS: [&str; 18] = [
    "[", "awk", "cat", "cut", "dmesg", "echo", "grep", "head", "ls", "lscpu", "lsmod", "sort", "tail",
    "test", "true", "uname", "wc", "exit",
];

/// Words of the shell that come before a command.
const KEYWORDS: [&str; 13] =
    ["!", "if", "then", "else", "elif", "fi", "do", "done", "while", "until", "{", "}", "esac"];

/// Whether a script certainly changes nothing. An unknown command counts as one that changes something.
pub(crate) fn only_reads(script: &str) -> bool {
    let mut commands = Commands::default();
    commands.split(script) && commands.all.iter().all(|command| reads(command))
}

fn reads(words: &[String]) -> bool {
    let mut words = words.iter().map(String::as_str).skip_while(|word| KEYWORDS.contains(word));
    match words.next() {
        // A loop's list of values, and the value that a `case` compares.
        None | Some("for" | "case") => true,
        // These can also write, or clear what they read.
        Some("dmesg" | "sort") => words.all(|word| !word.starts_with('-') && !word.contains(EXPANDED)),
        Some("awk") => words.all(awk_reads),
        Some(program) => READERS.contains(&program),
    }
}

/// Whether a word of an awk command can only be a field separator, a variable, a program that runs and writes nothing, or a file that
/// is read. GNU awk's `@` calls a function by its name, or includes a file.
fn awk_reads(word: &str) -> bool {
    let is_harmless_option = word.starts_with("-F") || word.starts_with("-v");
    (is_harmless_option || !word.starts_with('-'))
        && !word.contains(['>', '|', '@', EXPANDED])
        && !word.contains("system")
        && !word.contains("\\\n")
}

/// A placeholder in a word for text that the shell inserts.
const EXPANDED: char = '\0';
/// The ends of redirections that write nothing. They may follow a number.
const HARMLESS_REDIRECTIONS: [&str; 3] = [">/dev/null", ">&1", ">&2"];

/// A script split into commands, and these into words.
#[derive(Default)]
struct Commands {
    all: Vec<Vec<String>>,
    words: Vec<String>,
    /// The current word, once it has begun: `''` is a word, too.
    word: Option<String>,
}

impl Commands {
    /// Splits a script. Returns `false` if a part can't be judged: a substitution, an escape, a redirection that writes, a
    /// here-document, or a command in the background.
    fn split(&mut self, script: &str) -> bool {
        if script.contains("$(") || script.contains(['`', EXPANDED]) {
            return false;
        }
        let mut quote = None;
        let mut rest = script;
        while let Some(c) = rest.chars().next() {
            let behind = &rest[c.len_utf8()..];
            let mut consumed = c.len_utf8();
            match (c, quote) {
                // In double quotes, some characters are special and others are not.
                ('\\', None | Some('"')) => return false,
                (_, Some(open)) if c == open => quote = None,
                ('$', Some('"')) => self.push(EXPANDED),
                (_, Some(_)) => self.push(c),
                // Some systems' shells interpret escapes in such quotes.
                ('$', None) if behind.starts_with('\'') => return false,
                ('$', None) => self.push(EXPANDED),
                // Some shells expand `{a,b}` to several words.
                ('{', None) if !behind.is_empty() && !behind.starts_with([' ', '\t', '\n']) => {
                    self.push(EXPANDED);
                }
                ('\'' | '"', None) => {
                    quote = Some(c);
                    self.word.get_or_insert_default();
                }
                ('#', None) if self.word.is_none() => {
                    consumed = rest.find('\n').unwrap_or(rest.len());
                }
                ('>', None) => match self.harmless_redirection(rest) {
                    Some(length) => consumed = length,
                    None => return false,
                },
                ('<', None) if behind.starts_with(['<', '>', '&']) => return false,
                ('(' | ')', None) => return false,
                ('&', None) if behind.starts_with('&') => {
                    consumed = 2;
                    self.end_command();
                }
                ('&', None) => return false,
                (';' | '|' | '\n', None) => self.end_command(),
                (' ' | '\t', None) => self.end_word(),
                _ => self.push(c),
            }
            rest = &rest[consumed..];
        }
        self.end_command();
        quote.is_none()
    }

    /// The length of a redirection at the start of `rest`, if it is one that writes nothing. The number before it, which is the
    /// current word, is a part of it.
    fn harmless_redirection(&mut self, rest: &str) -> Option<usize> {
        let before = self.word.take().unwrap_or_default();
        let ends = |length: &usize| rest[*length..].chars().next().is_none_or(|c| " \t\n;&|".contains(c));
        let lengths =
            HARMLESS_REDIRECTIONS.iter().filter(|text| rest.starts_with(**text)).map(|text| text.len());
        lengths.filter(ends).find(|_| matches!(before.as_str(), "" | "1" | "2"))
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn end_command(&mut self) {
        self.end_word();
        let command = std::mem::take(&mut self.words);
        self.all.extend((!command.is_empty()).then_some(command));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::pattern("grep '[1Y]' /sys/module/$KVM_MODULE/parameters/nested", true)]
    #[case::existence("test -e /sys/module/$KVM_MODULE", true)]
    #[case::a_loop("[ -n \"$F\" ] && for flag in $F; do grep -qw $flag /proc/cpuinfo || exit 1; done", true)]
    #[case::a_group("grep -qw monitor /proc/cpuinfo || { [ $? = 1 ] && echo no monitor; exit 1; }", true)]
    #[case::comment("# modprobe is not run\ngrep x /proc/y", true)]
    #[case::to_nothing("grep x /proc/y >/dev/null 2>&1", true)]
    #[case::load("modprobe $KVM_MODULE nested=1", false)]
    #[case::then_load("grep x /proc/y && modprobe kvm", false)]
    #[case::write("echo options >/etc/modprobe.d/kvm.conf", false)]
    #[case::substitution("echo $(modprobe -r kvm)", false)]
    #[case::in_quotes("echo \"`modprobe -r kvm`\"", false)]
    #[case::unknown("some-program", false)]
    #[case::beside_nothing("echo x >/dev/nullx", false)]
    #[case::cleared("dmesg -c", false)]
    #[case::messages("dmesg | grep kvm | tail -n 1", true)]
    #[case::sorted_to("sort -o /etc/passwd /etc/passwd", false)]
    #[case::by_awk("awk '{ print > \"/etc/passwd\" }' /proc/cpuinfo", false)]
    #[case::from_awk("awk 'BEGIN { system(\"reboot\") }'", false)]
    #[case::awk("awk 'BEGIN { exit !(1 < 2) }'", true)]
    #[case::awk_with_options("awk -F: -v n=2 '$1 == \"a b\" { print $n }' /etc/passwd", true)]
    #[case::awk_from_a_file("awk -f /tmp/script", false)]
    #[case::awk_in_place("awk -i inplace '{ print 1 }' /etc/passwd", false)]
    #[case::awk_with_a_long_option("awk --file=/tmp/script", false)]
    #[case::awk_by_a_name("awk -v f=sys'tem' 'BEGIN { @f(\"reboot\") }'", false)]
    #[case::awk_of_a_variable("for x in -f; do awk $x /tmp/script; done", false)]
    #[case::awk_of_a_variable_in_quotes("awk \"$x\"", false)]
    #[case::sort_of_a_variable("for x in -o/etc/passwd; do sort $x; done", false)]
    #[case::sort_of_braces("sort {-o,/etc/passwd}", false)]
    #[case::escaped_quote("echo \\'; rm -rf /x; echo \\'", false)]
    #[case::escape_in_quotes("echo \"\\\"; rm -rf /x; echo \\\"\"", false)]
    #[case::escape_that_is_none("grep 'a\\.b' /proc/x", true)]
    #[case::quotes_with_escapes("echo $'\\''\nrm -rf /x\n#'", false)]
    #[case::comment_that_is_none("echo ''#; rm -rf /x", false)]
    #[case::comment_behind("grep x /proc/y # ; rm -rf /x", true)]
    #[case::document("cat <<E\n'\nE\nrm -rf /x #'", false)]
    #[case::from_a_file("grep x </proc/y", true)]
    #[case::both_ways("cat <>/tmp/x", false)]
    #[case::in_the_background("tail -f /proc/kmsg >/dev/null 2>&1 &", false)]
    #[case::then_another("cat /proc/x & cat /proc/y", false)]
    #[case::and("cat /proc/x && cat /proc/y", true)]
    #[case::both_to_a_file("cat /proc/x &>/tmp/y", false)]
    #[case::within_a_word("l2>&1s /tmp", false)]
    #[case::to_a_file_of_a_number("echo x >&1x", false)]
    #[case::to_an_error("echo x >&2", true)]
    #[case::appended("echo x >>/dev/null", false)]
    #[case::redirection_in_quotes("grep 'x >/tmp/y' /proc/z", true)]
    fn a_script_only_reads_if_all_of_it_is_known_to(#[case] script: &str, #[case] reads: bool) {
        assert_eq!(only_reads(script), reads);
    }
}
