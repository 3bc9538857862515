//! Which commands only look: without one of them nothing changes in the stack, and so nothing else can notice that it is gone.

/// Programs that change nothing.
const READERS: [&str; 18] = [
    "[", "awk", "cat", "cut", "dmesg", "echo", "grep", "head", "ls", "lscpu", "lsmod", "sort", "tail",
    "test", "true", "uname", "wc", "exit",
];

/// Words of the shell that stand before a command.
const KEYWORDS: [&str; 13] =
    ["!", "if", "then", "else", "elif", "fi", "do", "done", "while", "until", "{", "}", "esac"];

/// Whether a script certainly changes nothing. One that it does not know counts as one that changes something.
pub(crate) fn only_reads(script: &str) -> bool {
    let mut commands = Commands::default();
    commands.split(script) && commands.all.iter().all(|command| reads(command))
}

fn reads(words: &[String]) -> bool {
    let mut words = words.iter().map(String::as_str).skip_while(|word| KEYWORDS.contains(word));
    match words.next() {
        // A loop's list of values, and what a `case` compares.
        None | Some("for" | "case") => true,
        // These can also write, or clear what they read.
        Some("dmesg" | "sort") => words.all(|word| !word.starts_with('-')),
        Some("awk") => words.all(|word| !word.contains(['>', '|']) && !word.contains("system")),
        Some(program) => READERS.contains(&program),
    }
}

/// A script cut into commands, and these into words.
#[derive(Default)]
struct Commands {
    all: Vec<Vec<String>>,
}

impl Commands {
    /// Cuts a script; `false` if it has what can't be judged: a substitution, or a redirection that writes.
    fn split(&mut self, script: &str) -> bool {
        if script.split(">/dev/null").skip(1).any(|rest| rest.starts_with(|c: char| !" \t\n;&|".contains(c)))
        {
            return false;
        }
        let harmless = script.replace(">/dev/null", "").replace("2>&1", "").replace(">&2", "");
        let mut words = vec![String::new()];
        let mut quote = None;
        let mut comment = false;
        for c in harmless.chars() {
            let word_is_empty = words.last().is_none_or(String::is_empty);
            match (c, quote) {
                ('\n', None) if comment => {
                    comment = false;
                    self.end(&mut words);
                }
                _ if comment => {}
                ('`', _) => return false,
                (_, Some(open)) if c == open => quote = None,
                (_, Some(_)) => push(&mut words, c),
                ('\'' | '"', None) => quote = Some(c),
                ('#', None) if word_is_empty => comment = true,
                ('>' | '(' | ')', None) => return false,
                (';' | '&' | '|' | '\n', None) => self.end(&mut words),
                (' ' | '\t', None) => words.push(String::new()),
                _ => push(&mut words, c),
            }
        }
        self.end(&mut words);
        quote.is_none() && !script.contains("$(")
    }

    fn end(&mut self, words: &mut Vec<String>) {
        let command: Vec<String> = words.drain(..).filter(|word| !word.is_empty()).collect();
        self.all.extend((!command.is_empty()).then_some(command));
        words.push(String::new());
    }
}

fn push(words: &mut [String], c: char) {
    if let Some(word) = words.last_mut() {
        word.push(c);
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
    fn a_script_only_reads_if_all_of_it_is_known_to(#[case] script: &str, #[case] reads: bool) {
        assert_eq!(only_reads(script), reads);
    }
}
