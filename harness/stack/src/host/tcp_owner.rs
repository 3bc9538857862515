//! Which user a TCP socket of this machine belongs to.
//!
//! Every local user can connect to a port on the loopback interface, and listen on a free one.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tokio::net::{TcpListener, TcpStream};

/// The kernel's table of TCP sockets (proc_net(5), Documentation/networking/proc_net_tcp.rst).
const TABLE: &str = "/proc/net/tcp";

/// The remote address of a socket that listens.
const LISTENS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// Waits for a connection of this user, and closes all others.
///
/// # Errors
/// The operating system's.
pub(crate) async fn accept_of(listener: &TcpListener, uid: u32) -> io::Result<TcpStream> {
    loop {
        let (stream, from) = listener.accept().await?;
        let near = stream.local_addr()?;
        match (near, from) {
            (SocketAddr::V4(near), SocketAddr::V4(from)) if owner(from, near)? == Some(uid) => {
                return Ok(stream);
            }
            _ => tracing::warn!("closed a connection from {from} to {near}: it is not of this user"),
        }
    }
}

/// Whether a process of this user listens at the address.
///
/// # Errors
/// The table can't be read.
pub(super) fn listens_as(uid: u32, address: SocketAddrV4) -> io::Result<bool> {
    Ok(owner(address, LISTENS)? == Some(uid))
}

/// The ports on which the process with this identifier listens by IPv4.
///
/// # Errors
/// The table, or the process's list of files, can't be read.
pub(crate) fn ports_of(id: i32) -> io::Result<Vec<u16>> {
    let sockets = std::fs::read_dir(format!("/proc/{id}/fd"))?;
    let sockets = sockets.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let sockets: BTreeSet<String> =
        sockets.filter_map(|name| inode_in(&name.to_string_lossy()).map(str::to_owned)).collect();
    let (table, listens) = (std::fs::read_to_string(TABLE)?, written(LISTENS));
    let listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, remote, inode) = (fields.get(1)?, fields.get(2)?, fields.get(9)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (*remote == listens && sockets.contains(*inode)).then_some(port)
    });
    Ok(listening.collect())
}

/// `123` of `socket:[123]` (proc_pid_fd(5)).
fn inode_in(name: &str) -> Option<&str> {
    name.strip_prefix("socket:[")?.strip_suffix(']')
}

/// The user of the socket at `local` whose peer is `remote`; none if there is no such socket.
fn owner(local: SocketAddrV4, remote: SocketAddrV4) -> io::Result<Option<u32>> {
    Ok(owner_in(&std::fs::read_to_string(TABLE)?, local, remote))
}

fn owner_in(table: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u32> {
    let [local, remote] = [local, remote].map(written);
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&local.as_str()) && fields.get(2) == Some(&remote.as_str());
        fields.get(7).filter(|_| is_it)?.parse().ok()
    })
}

/// An address as the table has it: the bytes in the machine's order.
fn written(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn v4(address: io::Result<SocketAddr>) -> SocketAddrV4 {
        let SocketAddr::V4(address) = address.unwrap() else { panic!("it is an IPv4 address") };
        address
    }

    fn own() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_of_another_user_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mine = TcpStream::connect(address).await.unwrap();
        let accepted = accept_of(&listener, own()).await.unwrap();
        assert_eq!(accepted.peer_addr().unwrap(), mine.local_addr().unwrap());

        let foreign = TcpStream::connect(address).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(200), accept_of(&listener, own() + 1)).await;
        assert!(waited.is_err(), "it waits for the next one");
        foreign.readable().await.unwrap();
        assert!(matches!(foreign.try_read(&mut [0]), Ok(0) | Err(_)), "it was closed");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_listener_of_another_user_is_told_apart() {
        let listener = TcpListener::bind("127.1.2.3:0").await.unwrap();
        let address = v4(listener.local_addr());
        assert!(listens_as(own(), address).unwrap());
        assert!(!listens_as(own() + 1, address).unwrap());
        drop(listener);
        assert!(!listens_as(own(), address).unwrap(), "nothing listens there");
    }
}
