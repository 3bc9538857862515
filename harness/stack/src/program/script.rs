//! The script that runs a program of the user in a level to its end, and what it reports about that.

use nestmatrix_vmm::shell::quote;

use crate::exec::SIGNAL_SESSION;

/// The most that is kept of a program's standard output, in bytes. What exceeds it is read, so that the program goes on, and dropped.
const KEPT_OUTPUT: usize = 1 << 20;
/// The same of its standard error.
const KEPT_ERRORS: usize = 256 << 10;
/// The first word of the line that reports the end of a program.
const MARK: &str = "nestmatrix-program";
/// Before each piece of output on a console, where the kernel prints, too.
const OF_OUTPUT: char = '=';
/// How much of the packed output is printed on a console at once, in bytes.
const PIECE: usize = 24_000;

/// How a program in a level ended, and its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramEnd {
    /// How.
    pub end: End,
    /// Its standard output, as far as it is kept.
    pub stdout: Vec<u8>,
    /// Its standard error, as far as it is kept.
    pub stderr: Vec<u8>,
    /// Whether it printed more to standard output than is kept.
    pub is_cut: bool,
}

/// How a program in a level ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status; 128 and the number of a signal if one ended it.
    Exited(i64),
    /// It was killed, with all processes of its session, since its time was over.
    TimedOut,
}

/// What the script reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    end: End,
    stdout: usize,
    stderr: usize,
    /// The size of both, packed for a console; 0 if they follow the header.
    pub(super) packed: usize,
}

/// The script, which runs `command` in `/bin/sh` and keeps its output in `folder`. The command is killed after this many `seconds`
/// by the clock of the level, a number or a variable of the shell. Afterwards the script prints a header, and the output after it. On a console, the output stays in a file, packed.
pub(super) fn script(folder: &str, command: &str, seconds: &str, on_console: bool) -> String {
    let command = quote(command);
    // The kernel prints on the console, too, and would break the line.
    let (quiet, loud) = if on_console { (QUIET, LOUD) } else { ("", "") };
    let pack = if on_console {
        "cat stdout stderr | gzip -c | base64 >packed; packed=$(wc -c <packed)\n"
    } else {
        ""
    };
    let show = if on_console { "" } else { "cat stdout stderr\ncd /\nrm -rf \"$folder\"\n" };
    format!(
        "{SIGNAL_SESSION}
folder={folder}
packed=0
umask 022
cannot() {{ echo \"nestmatrix can't run the program: $1\" >&2; exit 1; }}
rm -rf \"$folder\"
mkdir -p \"$folder\" && cd \"$folder\" && mkfifo out.pipe err.pipe || cannot \"no room in $folder\"
# Programs that read ahead would lose the end of the output if they were killed.
keep() {{
  size=-1
  new=0
  : >$1
  while [ $new -gt $size ] && [ $new -lt $2 ]; do
    size=$new
    dd bs=16k count=64 2>/dev/null >>$1
    new=$(wc -c <$1)
  done
  cat >/dev/null
  : >$1.end
}}
keep out {kept_output} <out.pipe >/dev/null 2>&1 &
outs=$!
keep err {KEPT_ERRORS} <err.pipe >/dev/null 2>&1 &
errs=$!
setsid /bin/sh -c {command} </dev/null >out.pipe 2>err.pipe &
pid=$!
{{
  read -r began _ </proc/uptime
  now=$began
  while [ $((${{now%%.*}} - ${{began%%.*}})) -lt {seconds} ]; do
    sleep 1
    read -r now _ </proc/uptime
  done
  : >late
  kill_session
}} >/dev/null 2>&1 &
watch=$!
wait $pid 2>/dev/null
status=$?
kill $watch 2>/dev/null
end=exited
[ ! -e late ] || end=late
kill_session
# A process that has left the session may still have the output open.
tries=0
until [ -e out.end ] && [ -e err.end ] || [ $tries -ge 20 ]; do sleep 0.1; tries=$((tries + 1)); done
kill $outs $errs 2>/dev/null
head -c {kept_output} out >stdout
head -c {KEPT_ERRORS} err >stderr
{quiet}{pack}echo \"{MARK} $end $status $(wc -c <stdout) $(wc -c <stderr) $packed\" >header
cat header
{loud}{show}",
        kept_output = KEPT_OUTPUT + 1,
    )
}

/// Lets the kernel print nothing on the console.
const QUIET: &str = "read -r level _ </proc/sys/kernel/printk\ndmesg -n 1\n";
/// Lets it print again.
const LOUD: &str = "dmesg -n $level\n";

/// The script that prints the header again: on a console, what the kernel printed meanwhile may have been too much to keep.
pub(super) fn header_script(folder: &str) -> String {
    format!("{QUIET}cat {folder}/header\n{LOUD}")
}

/// The script that prints the piece `number` of the packed output in `folder`.
pub(super) fn piece_script(folder: &str, number: usize) -> String {
    format!(
        "{QUIET}dd if={folder}/packed bs={PIECE} skip={number} count=1 2>/dev/null | sed s/^/{OF_OUTPUT}/\necho\n{LOUD}"
    )
}

impl Header {
    /// The header in what the script printed, and the bytes after it.
    pub(super) fn read(printed: &[u8]) -> Option<(Self, &[u8])> {
        let at = printed.windows(MARK.len()).position(|window| window == MARK.as_bytes())?;
        let line = printed[at..].iter().position(|byte| *byte == b'\n').map_or(printed.len(), |end| at + end);
        let text = std::str::from_utf8(&printed[at..line]).ok()?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let [_, end, status, stdout, stderr, packed] = words[..] else { return None };
        let end = match end {
            "late" => End::TimedOut,
            "exited" => End::Exited(status.parse().ok()?),
            _ => return None,
        };
        let number = |word: &str| word.parse().ok();
        let header = Self { end, stdout: number(stdout)?, stderr: number(stderr)?, packed: number(packed)? };
        Some((header, printed.get(line + 1..).unwrap_or_default()))
    }

    /// The pieces in which the packed output is printed.
    pub(super) fn pieces(&self) -> usize {
        self.packed.div_ceil(PIECE)
    }

    /// The end of the program with this output.
    pub(super) fn with_output(self, output: &[u8]) -> Option<ProgramEnd> {
        if output.len() != self.stdout + self.stderr {
            return None;
        }
        let (stdout, stderr) = output.split_at(self.stdout);
        let is_cut = stdout.len() > KEPT_OUTPUT;
        let stdout = &stdout[..stdout.len().min(KEPT_OUTPUT)];
        Some(ProgramEnd { end: self.end, stdout: stdout.to_vec(), stderr: stderr.to_vec(), is_cut })
    }
}

/// The packed output in what [`piece_script`] printed, without the kernel's lines.
pub(super) fn packed_in(printed: &str) -> String {
    printed.lines().filter_map(|line| line.trim_end().strip_prefix(OF_OUTPUT)).collect()
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
