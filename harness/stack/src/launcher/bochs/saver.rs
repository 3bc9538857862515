//! How Bochs is asked to save its machine.
//!
//! A save begins with a click on a button of Bochs' display, and in no other way. Bochs then asks for a folder on its standard input. So a
//! Bochs that will be asked gets the display `rfb`, whose only client is the harness. Bochs listens on all addresses of this machine for
//! it, and asks for no password. But it serves one client at a time: all others wait, and if another one was first, Bochs is ended.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::host::{HostError, LocalProcess, opened, ports_of};

/// The ports on which Bochs listens for a client of its display; it takes the first that it gets (Bochs: gui/rfb.h).
const PORTS: RangeInclusive<u16> = 5900..=5949;

/// The place of the button that starts a save, in pixels from the left and the top. It is the second one from the right, each is 32 wide,
/// and a text screen is 720 wide (Bochs: gui/gui.cc).
const BUTTON: [u16; 2] = [720 - 48, 16];

/// The version of the protocol that Bochs speaks (RFC 6143, 7.1.1).
const VERSION: &[u8; 12] = b"RFB 003.003\n";
/// The answer of a server without a password (7.1.2).
const NO_PASSWORD: u32 = 1;
/// The length of a server's first message before the name of its desktop, which ends with the length of that (7.3.2).
const SERVER_INIT: usize = 24;
/// The message that reports the mouse (7.5.5).
const POINTER_EVENT: u8 = 5;

/// How long Bochs may take to open its display and to greet its client. If that is another process, no greeting comes.
const GREETS_WITHIN: Duration = Duration::from_secs(30);
/// The interval at which its display and its output are looked at.
const POLL: Duration = Duration::from_millis(20);

/// What Bochs prints when it asks for a folder, and when it has saved the machine (Bochs: gui/textconfig.cc, gui/gui.cc).
const ASKS: &str = "path to an existing folder";
const SAVED: &str = "Do you want to continue?";
/// What it prints instead of the message that it could not, which this interface of Bochs does not show.
const FAILED: &str = "notify callback called with event type";

/// A port for a display, which no other harness takes.
pub(super) struct DisplayPort {
    number: u16,
    /// Bound but not listening, so that Bochs can take it, which allows that ([`TcpSocket::set_reuseaddr`]), and no other harness does.
    _held: TcpSocket,
}

impl DisplayPort {
    /// The first free one.
    ///
    /// # Errors
    /// All are in use.
    pub(super) fn choose() -> io::Result<Self> {
        for number in PORTS {
            let held = TcpSocket::new_v4()?;
            held.set_reuseaddr(false)?;
            if held.bind((Ipv4Addr::UNSPECIFIED, number).into()).is_ok() {
                held.set_reuseaddr(true)?;
                return Ok(Self { number, _held: held });
            }
        }
        let (first, last) = (PORTS.start(), PORTS.end());
        Err(io::Error::other(format!("every port from {first} to {last} is in use")))
    }

    /// Its number.
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

/// Asks a running Bochs to save its machine.
pub(super) struct Saver {
    display: Mutex<OwnedWriteHalf>,
    /// Bochs' standard input.
    answers: UnixStream,
    /// The file with Bochs' output.
    output: PathBuf,
    /// The folder in which Bochs works.
    folder: PathBuf,
    /// How many saves there were, for the names of their folders.
    saves: Cell<u32>,
    _port: DisplayPort,
}

impl Saver {
    /// Becomes the client of the display of `process`, which works in `folder`, reads `answers` and writes `output`.
    ///
    /// # Errors
    /// The process ends, or its display does not answer in time.
    pub(super) async fn connect(
        process: &LocalProcess,
        port: DisplayPort,
        answers: UnixStream,
        [folder, output]: [&Path; 2],
    ) -> Result<Self, HostError> {
        let connected = timeout(GREETS_WITHIN, client(process.id()));
        let connected = async { connected.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) };
        let display = opened(process, connected, "waiting for the display of Bochs").await?;
        let (mut from, display) = display.into_split();
        // Bochs waits if no process reads what it draws.
        tokio::task::spawn_local(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
        Ok(Self {
            display: Mutex::new(display),
            answers,
            output: output.to_owned(),
            folder: folder.to_owned(),
            saves: Cell::new(0),
            _port: port,
        })
    }

    /// Saves the machine, which goes on afterwards, to a new folder; returns that.
    ///
    /// This sets no limits of its own: as long as Bochs asks, it stands still, and the stack must not go on.
    ///
    /// # Errors
    /// Bochs fails to write.
    pub(super) async fn save(&self) -> io::Result<PathBuf> {
        // Its path contains only what Bochs reads of a line, whatever the folder around it is called.
        let name = format!("saved-{}", self.saves.replace(self.saves.get() + 1));
        let folder = self.folder.join(&name);
        std::fs::create_dir(&folder)?;
        let before = std::fs::metadata(&self.output)?.len();
        self.click().await?;
        self.printed(before, ASKS).await?;
        self.answer(&name)?;
        self.printed(before, SAVED).await?;
        self.answer("y")?;
        Ok(folder)
    }

    async fn click(&self) -> io::Result<()> {
        let [[left, right], [top, bottom]] = BUTTON.map(u16::to_be_bytes);
        let mouse = |button| [POINTER_EVENT, button, left, right, top, bottom];
        self.display.lock().await.write_all(&[mouse(1), mouse(0)].concat()).await
    }

    fn answer(&self, line: &str) -> io::Result<()> {
        (&self.answers).write_all(format!("{line}\n").as_bytes())
    }

    /// Waits until Bochs has printed `text` behind the first `before` bytes of its output.
    async fn printed(&self, before: u64, text: &str) -> io::Result<()> {
        loop {
            let output = std::fs::read(&self.output)?;
            let new = output.get(usize::try_from(before).unwrap_or(usize::MAX)..).unwrap_or_default();
            let new = String::from_utf8_lossy(new);
            if new.contains(text) {
                return Ok(());
            }
            if new.contains(FAILED) {
                return Err(io::Error::other("Bochs failed to save its machine"));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Connects to the display of the process `id`, as its only client. Where nothing confines the process, it may have taken another port than
/// the chosen one.
async fn client(id: i32) -> io::Result<TcpStream> {
    let port = loop {
        match ports_of(id)?.into_iter().find(|port| PORTS.contains(port)) {
            Some(port) => break port,
            None => tokio::time::sleep(POLL).await,
        }
    };
    let mut display = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    greet(&mut display).await?;
    Ok(display)
}

/// Says what a client says first (RFC 6143, 7.1 to 7.3).
async fn greet(display: &mut TcpStream) -> io::Result<()> {
    let mut version = [0; VERSION.len()];
    display.read_exact(&mut version).await?;
    if version != *VERSION {
        return Err(io::Error::other("it is not the display of Bochs"));
    }
    display.write_all(VERSION).await?;
    if display.read_u32().await? != NO_PASSWORD {
        return Err(io::Error::other("it asks for a password"));
    }
    // Not together with other clients.
    display.write_all(&[0]).await?;
    let mut first = [0; SERVER_INIT];
    display.read_exact(&mut first).await?;
    let [.., a, b, c, d] = first;
    let mut name = vec![0; usize::try_from(u32::from_be_bytes([a, b, c, d]).min(256)).unwrap_or_default()];
    display.read_exact(&mut name).await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn two_harnesses_choose_different_ports_and_bochs_can_take_each() {
        let [one, other] = [DisplayPort::choose().unwrap(), DisplayPort::choose().unwrap()];
        assert_ne!(one.number(), other.number());
        for port in [&one, &other] {
            // As Bochs does it, it listens on a port that may be in use.
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.number())).await.unwrap();
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_display_of_another_process_is_not_taken() {
        let port = DisplayPort::choose().unwrap();
        let _display = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.number())).await.unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(ports_of(own).unwrap().contains(&port.number()));
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let ports = ports_of(i32::try_from(other.id()).unwrap());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(ports.unwrap().is_empty());
    }

    /// Plays the display of Bochs for one client, and returns what it got after the greeting.
    async fn play(listener: TcpListener, version: &[u8]) -> io::Result<Vec<u8>> {
        let (mut client, _) = listener.accept().await?;
        client.write_all(version).await?;
        client.read_exact(&mut [0; 12]).await?;
        client.write_all(&NO_PASSWORD.to_be_bytes()).await?;
        client.read_exact(&mut [0]).await?;
        let name = b"Bochs-RFB";
        let mut first = [0; SERVER_INIT];
        first[SERVER_INIT - 4..].copy_from_slice(&u32::try_from(name.len()).unwrap().to_be_bytes());
        client.write_all(&[&first[..], &name[..]].concat()).await?;
        let mut got = Vec::new();
        client.read_to_end(&mut got).await?;
        Ok(got)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_harness_greets_as_a_client_does() {
        let clicks = async |mut display: TcpStream| {
            greet(&mut display).await.unwrap();
            display.write_all(b"click").await.unwrap();
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let display = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let ((), got) = tokio::join!(clicks(display), play(listener, VERSION));
        assert_eq!(got.unwrap(), b"click");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn another_server_is_no_display() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut display = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (refused, _) = tokio::join!(greet(&mut display), async {
            let (mut client, _) = listener.accept().await.unwrap();
            client.write_all(b"SSH-2.0-Open").await.unwrap();
        });
        assert_eq!(refused.unwrap_err().to_string(), "it is not the display of Bochs");
    }
}
