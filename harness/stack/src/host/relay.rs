//! How the harness reaches the ports of a level that has no virtio: through one port that is forwarded into it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::tcp_owner::listens_as;

/// The level's answer when it has accepted the secret.
const TAKEN: &[u8] = b"nestmatrix-relay\n";

/// How the ports of a level without virtio are reached from this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    address: SocketAddrV4,
    /// The secret that a connection sends first, so that no other process on this machine gets in.
    secret: String,
}

impl Relay {
    /// An address of its own on this machine, so that parallel stacks don't meet, and no process that listens on all addresses
    /// gets in the way; and the listener that keeps its port until the emulator takes it.
    ///
    /// # Errors
    /// There are no random numbers, or the port can't be taken.
    pub(crate) fn new() -> io::Result<(Self, std::net::TcpListener)> {
        let mut random = [0; 12];
        getrandom::fill(&mut random)?;
        let [a, b, c, secret @ ..] = random;
        let secret = hex::encode(secret);
        let address = Ipv4Addr::new(127, a, b, c.clamp(2, 254));
        let held = std::net::TcpListener::bind((address, 0))?;
        let address = SocketAddrV4::new(address, held.local_addr()?.port());
        Ok((Self { address, secret }, held))
    }

    /// The address of the forwarded port on this machine.
    pub(crate) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// The secret that the level expects.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// The script that gives a restored level the secret, and ends the connections that it had before. Their other ends are gone, which the
    /// level can't notice.
    pub(crate) fn renewal(&self) -> String {
        format!(
            "echo {} >/run/relay-secret; kill $(cat /run/relayed) 2>/dev/null; : >/run/relayed\n",
            self.secret
        )
    }

    /// Connects to a port of the level. If no process listens there, the connection is closed shortly after.
    ///
    /// # Errors
    /// The level does not pass the connection on. That says nothing about the level.
    pub(super) async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let connect = async {
            // While the emulator had not opened its port yet, a process of another user could, and would now be told the secret.
            if !listens_as(nix::unistd::geteuid().as_raw(), self.address)? {
                return Err(io::Error::other("no process of this user listens there"));
            }
            let mut stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(format!("{} {port}\n", self.secret).as_bytes()).await?;
            let mut said = [0; TAKEN.len()];
            stream.read_exact(&mut said).await?;
            if said == TAKEN { Ok(stream) } else { Err(io::Error::other("something else answers there")) }
        };
        connect.await
    }
}

/// A TCP connection as the kind of stream that all channels use. It lives as long as either side.
pub(crate) fn as_channel(mut stream: TcpStream) -> io::Result<UnixStream> {
    let (near, mut far) = UnixStream::pair()?;
    tokio::task::spawn_local(async move {
        // Its end is seen at the other end of the pair.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
    });
    Ok(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_has_an_address_and_a_secret_of_its_own() {
        let [(one, _held), (other, _also)] = [Relay::new().unwrap(), Relay::new().unwrap()];
        assert!(one.address.ip().is_loopback() && one.secret.len() == 18);
        assert_ne!(one, other);
    }
}
