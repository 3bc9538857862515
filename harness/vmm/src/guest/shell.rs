//! The shell on the console of the minimal image: the only way to run a command in a level without an agent.
//!
//! Its other end is images/recipes/init/minimal.sh. A command is one line, `ID COMMAND`. Its answer stands
//! between the line `nestmatrix-answer-begin ID` and a line that ends in `nestmatrix-answer-end ID STATUS`.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Notify;

use super::ExecOutput;

const READY: &str = "nestmatrix-shell-ready";
const BEGIN: &str = "nestmatrix-answer-begin ";
const END: &str = "nestmatrix-answer-end ";
const MORE: &str = "nestmatrix-answer-more ";
/// Longest piece of a command for a console that accepts short lines only, in bytes. Hercules accepts less than 150.
const LONGEST_PIECE: usize = 100;
/// Where such a console breaks its lines, in bytes.
const SLOW_LINE: usize = 120;
/// Longest command, in bytes: the line discipline of a terminal cuts a longer line (termios(3), canonical mode).
const LONGEST_COMMAND: usize = 4000;
/// Longest answer that is kept, in bytes: a guest is not trusted to end it.
const LONGEST_ANSWER: usize = 64 << 10;

/// The near end of a console that has a shell on it.
#[derive(Debug)]
pub struct Shell {
    console: OwnedWriteHalf,
    /// What each typed line begins with.
    prefix: &'static str,
}

impl Shell {
    /// A shell on the console with this writing half.
    pub fn new(console: OwnedWriteHalf) -> Self {
        Self { console, prefix: "" }
    }

    /// A shell on Hercules' console. In Hercules' panel, lines for the console begin with a slash.
    pub fn on_panel(console: OwnedWriteHalf) -> Self {
        Self { console, prefix: "/" }
    }

    /// `script` in pieces, for a console that accepts short lines only.
    pub fn pieces(script: &str) -> Vec<String> {
        let (mut pieces, mut piece) = (Vec::new(), String::new());
        for c in escaped(script).chars() {
            if piece.len() + c.len_utf8() > LONGEST_PIECE {
                pieces.push(std::mem::take(&mut piece));
            }
            piece.push(c);
        }
        pieces.push(piece);
        pieces
    }

    /// Types a piece of the command `id`. Pieces are numbered upwards. The next one must not be typed before [`Answers::taken`] has
    /// the number of this one. A piece that is typed again is accepted once only.
    ///
    /// # Errors
    /// The console can't be written to.
    pub async fn type_piece(&mut self, id: u32, number: usize, piece: &str) -> std::io::Result<()> {
        self.console.write_all(format!("{}+{number}:{id}:{piece}.\n", self.prefix).as_bytes()).await
    }

    /// Runs the pieces that were typed since the last command. If it is called again, they still run once only.
    ///
    /// # Errors
    /// The console can't be written to.
    pub async fn run_pieces(&mut self, id: u32) -> std::io::Result<()> {
        self.console.write_all(format!("{}{id}\n", self.prefix).as_bytes()).await
    }

    /// Runs `script` in `/bin/sh`. [`Answers::to`] gives the answer by the number `id`, which must be new on every console of the
    /// level.
    ///
    /// # Errors
    /// The console can't be written to; the script is too long for a line.
    pub async fn ask(&mut self, id: u32, script: &str) -> std::io::Result<()> {
        let script = escaped(script);
        if script.len() > LONGEST_COMMAND {
            return Err(std::io::Error::other("the command is too long for a console's line"));
        }
        self.console.write_all(format!("{id} {script}\n").as_bytes()).await
    }
}

/// Joins the lines that a slow console breaks, and drops the echo of typed lines.
#[derive(Debug, Default)]
pub struct PanelLines {
    begun: String,
}

impl PanelLines {
    /// Adds the next line. Returns the whole line if this completes it.
    pub fn line(&mut self, line: String) -> Option<String> {
        if line.starts_with("/(") {
            return None;
        }
        match line.strip_suffix('\\') {
            Some(part) if part.len() == SLOW_LINE => {
                self.begun.push_str(part);
                None
            }
            _ => Some(std::mem::take(&mut self.begun) + &line),
        }
    }
}

/// A script written as one line.
fn escaped(script: &str) -> String {
    script.replace('\\', r"\\").replace('\n', r"\n")
}

/// Answers that one task reads and another one waits for.
#[derive(Debug, Clone, Default)]
pub struct SharedAnswers(Rc<(RefCell<Answers>, Notify)>);

impl SharedAnswers {
    /// Adds the next line.
    pub fn line(&self, line: &str) {
        self.0.0.borrow_mut().line(line);
        self.0.1.notify_waiters();
    }

    /// Forgets them all: the shell that gave them is gone.
    pub fn clear(&self) {
        *self.0.0.borrow_mut() = Answers::default();
    }

    /// What `known` reads in them now.
    pub fn now<T>(&self, known: impl FnOnce(&Answers) -> T) -> T {
        known(&self.0.0.borrow())
    }

    /// The number of the last piece that the shell has accepted.
    pub fn taken(&self) -> usize {
        self.now(Answers::taken)
    }

    /// Waits until `known` returns something.
    pub async fn when<T>(&self, known: impl Fn(&Answers) -> Option<T>) -> T {
        loop {
            let changed = self.0.1.notified();
            if let Some(value) = self.now(&known) {
                return value;
            }
            changed.await;
        }
    }
}

/// Reads a shell's answers from console lines as they come.
#[derive(Debug, Default)]
pub struct Answers {
    ready: bool,
    taken: usize,
    open: Option<(u32, String)>,
    last: Option<(u32, ExecOutput)>,
}

impl Answers {
    /// Adds the next line.
    pub fn line(&mut self, line: &str) {
        // The text before the mark may have no line end.
        if line.trim_end().ends_with(READY) {
            self.ready = true;
        } else if let Some(number) = line.strip_prefix(MORE).and_then(|number| number.trim().parse().ok()) {
            self.taken = number;
        } else if let Some(id) = line.strip_prefix(BEGIN).and_then(|id| id.trim().parse().ok()) {
            self.open = Some((id, String::new()));
        } else if let Some((id, output)) = &mut self.open {
            // Output without a line end stands before the mark.
            let (said, end) = line.split_once(END).map_or((line, None), |(said, end)| (said, Some(end)));
            if output.len() < LONGEST_ANSWER && !(end.is_some() && said.is_empty()) {
                output.push_str(said);
                output.push('\n');
            }
            let Some(end) = end else { return };
            if let Some((of, status)) = end.trim().split_once(' ')
                && of.parse() == Ok(*id)
                && let Ok(status) = status.parse()
            {
                let stdout = std::mem::take(output).into_bytes();
                let answer = ExecOutput { status: Some(status), signal: None, stdout, stderr: Vec::new() };
                self.last = Some((*id, answer));
                self.open = None;
            }
        }
    }

    /// Whether the command with this number runs or has run.
    pub fn has_begun(&self, id: u32) -> bool {
        self.open.as_ref().is_some_and(|(of, _)| *of == id) || self.to(id).is_some()
    }

    /// The number of the last piece of a command that the shell has accepted.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether the shell accepts commands.
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// The answer to the command with this number, once it is complete.
    pub fn to(&self, id: u32) -> Option<&ExecOutput> {
        self.last.as_ref().filter(|(of, _)| *of == id).map(|(_, answer)| answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Answers {
        let mut answers = Answers::default();
        lines.iter().for_each(|line| answers.line(line));
        answers
    }

    #[test]
    fn an_answer_is_what_stands_between_the_marks() {
        let answers = read(&["7", "nestmatrix-answer-begin 3", "one", "twonestmatrix-answer-end 3 1"]);
        let answer = answers.to(3).unwrap();
        assert_eq!((answer.status, answer.stdout.as_slice()), (Some(1), b"one\ntwo\n".as_slice()));
        assert!(answers.to(2).is_none(), "it answers another command");
    }

    #[test]
    fn an_answer_without_its_own_end_is_none() {
        let begun = ["nestmatrix-answer-begin 3", "one", "nestmatrix-answer-end 2 0"];
        assert!(read(&begun).to(3).is_none());
        assert!(read(&["nestmatrix-answer-end 3 0"]).to(3).is_none(), "it never began");
    }

    #[test]
    fn pieces_are_short_and_together_the_whole_command() {
        let script = format!("{}\n\\", "x ".repeat(130));
        let pieces = Shell::pieces(&script);
        assert!(pieces.iter().all(|piece| piece.len() <= LONGEST_PIECE) && pieces.len() == 3, "{pieces:?}");
        assert_eq!(pieces.concat(), escaped(&script));
        let answers = read(&["nestmatrix-answer-more 3", "nestmatrix-answer-begin 5"]);
        assert!(answers.taken() == 3 && answers.has_begun(5) && !answers.has_begun(4));
    }

    #[test]
    fn a_broken_line_is_made_whole_and_what_was_typed_is_no_line() {
        let mut lines = PanelLines::default();
        assert_eq!(lines.line("/(0009) +1:1:Kernel panic - not syncing.".into()), None);
        assert_eq!(lines.line(format!("{}\\", "x".repeat(SLOW_LINE))), None);
        assert_eq!(lines.line("y".into()), Some("x".repeat(SLOW_LINE) + "y"));
        assert_eq!(lines.line("a\\".into()).as_deref(), Some("a\\"));
    }

    #[test]
    fn it_takes_commands_once_it_says_so() {
        assert!(!read(&["nestmatrix-report-end"]).ready());
        assert!(read(&["nestmatrix-shell-ready"]).ready());
    }

    #[tokio::test]
    async fn a_command_is_one_line() {
        use tokio::io::AsyncReadExt as _;
        let (near, mut far) = tokio::net::UnixStream::pair().unwrap();
        let mut shell = Shell::new(near.into_split().1);
        shell.ask(1, "a\nprintf 'b\\n'").await.unwrap();
        assert!(shell.ask(2, &"x".repeat(LONGEST_COMMAND + 1)).await.is_err());
        drop(shell);
        let mut sent = String::new();
        far.read_to_string(&mut sent).await.unwrap();
        assert_eq!(sent, "1 a\\nprintf 'b\\\\n'\n");
    }

    proptest::proptest! {
        #[test]
        fn an_answer_that_was_not_given_is_none_whatever_else_is_printed(
            lines in proptest::collection::vec("(nestmatrix-answer-begin |nestmatrix-answer-end |nestmatrix-answer-more |7|8| |\\PC){0,8}", 0..20),
        ) {
            let mut answers = Answers::default();
            lines.iter().for_each(|line| answers.line(line));
            let was_given = lines.iter().any(|line| line.starts_with(BEGIN) && line.contains('7'));
            proptest::prop_assert!(answers.to(7).is_none() || was_given, "{lines:?}");
            proptest::prop_assert!(answers.to(999).is_none());
        }
    }
}
