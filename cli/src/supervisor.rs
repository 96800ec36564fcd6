//! Telling a supervisor how it goes, by systemd's notify protocol: one datagram of text to the socket it names.
//!
//! Without NOTIFY_SOCKET nothing is sent. A supervisor that does not listen is its own problem: failures are logged
//! and change nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Everything serves.
pub(crate) const READY: &str = "READY=1\nSTATUS=serving";
/// A clean stop has begun.
pub(crate) const STOPPING: &str = "STOPPING=1\nSTATUS=stopping";

/// Sends `state` to the supervisor, if there is one.
pub(crate) fn notify(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, state)
    {
        tracing::warn!(socket = %socket.display(), %error, "cannot tell the supervisor");
    }
}

fn send(socket: &OsStr, state: &str) -> std::io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
        #[cfg(not(target_os = "linux"))]
        Some(_) => return Err(std::io::ErrorKind::Unsupported.into()),
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supervisor_gets_the_state_as_one_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let supervisor = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), READY).unwrap();
        let mut buffer = [0; 64];
        let length = supervisor.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], READY.as_bytes());
        assert!(send(OsStr::new("/no/such/socket"), READY).is_err());
    }
}
