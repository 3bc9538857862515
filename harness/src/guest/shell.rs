//! The shell that the minimal image keeps on its console when it is to stay: the one way to ask a level that has no agent.
//!
//! Its other end is images/recipes/init/minimal.sh. A command is one line, `ID COMMAND`; what comes back stands between a
//! line `nestmatrix-answer-begin ID` and one that ends in `nestmatrix-answer-end ID STATUS`.

use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::OwnedWriteHalf;

use super::ExecOutput;

const READY: &str = "nestmatrix-shell-ready";
const BEGIN: &str = "nestmatrix-answer-begin ";
const END: &str = "nestmatrix-answer-end ";
/// Longest command, in bytes: the line discipline of a terminal cuts a longer line (termios(3), canonical mode).
const LONGEST_COMMAND: usize = 4000;
/// Longest answer that is kept, in bytes. A guest is not trusted to end it.
const LONGEST_ANSWER: usize = 64 << 10;

/// The near end of a console that has a shell on it.
#[derive(Debug)]
pub struct Shell {
    console: OwnedWriteHalf,
    asked: u32,
}

impl Shell {
    /// A shell behind this writing half of a console.
    pub fn new(console: OwnedWriteHalf) -> Self {
        Self { console, asked: 0 }
    }

    /// Asks for `script` to be run by `/bin/sh`; gives the number by which [`Answers`] knows the answer.
    ///
    /// # Errors
    /// The console can't be written to; the script is too long for a line.
    pub async fn ask(&mut self, script: &str) -> std::io::Result<u32> {
        self.asked += 1;
        let script = script.replace('\\', r"\\").replace('\n', r"\n");
        if script.len() > LONGEST_COMMAND {
            return Err(std::io::Error::other("the command is too long for a console's line"));
        }
        self.console.write_all(format!("{} {script}\n", self.asked).as_bytes()).await?;
        Ok(self.asked)
    }
}

/// Reads a shell's answers from console lines as they come.
#[derive(Debug, Default)]
pub struct Answers {
    ready: bool,
    open: Option<(u32, String)>,
    last: Option<(u32, ExecOutput)>,
}

impl Answers {
    /// Takes in the next line.
    pub fn line(&mut self, line: &str) {
        if line.trim() == READY {
            self.ready = true;
        } else if let Some(id) = line.strip_prefix(BEGIN).and_then(|id| id.trim().parse().ok()) {
            self.open = Some((id, String::new()));
        } else if let Some((id, output)) = &mut self.open {
            // What a command printed without a line end stands before the mark.
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

    /// Whether the shell takes commands.
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
    fn it_takes_commands_once_it_says_so() {
        assert!(!read(&["nestmatrix-report-end"]).ready());
        assert!(read(&["nestmatrix-shell-ready"]).ready());
    }

    #[tokio::test]
    async fn a_command_is_one_line() {
        use tokio::io::AsyncReadExt as _;
        let (near, mut far) = tokio::net::UnixStream::pair().unwrap();
        let mut shell = Shell::new(near.into_split().1);
        assert_eq!(shell.ask("a\nprintf 'b\\n'").await.unwrap(), 1);
        assert!(shell.ask(&"x".repeat(LONGEST_COMMAND + 1)).await.is_err());
        drop(shell);
        let mut sent = String::new();
        far.read_to_string(&mut sent).await.unwrap();
        assert_eq!(sent, "1 a\\nprintf 'b\\\\n'\n");
    }
}
