//! Connections of one machine with itself do without a timer per packet.
//!
//! Where the machine's congestion control is BBR, a sender waits by timer before each packet, to a process on the same
//! machine as well: there that measures no network and takes much of the time of a large fetch. A connection that began
//! with BBR keeps its timers whatever it is told later, so the listener hands out connections that never had any, and
//! those from elsewhere get the machine's choice before the first byte.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

/// Built into every Linux kernel, allowed to everybody, and without a timer per packet.
#[cfg(target_os = "linux")]
const UNPACED: &[u8] = b"reno";

/// What the connections of a listener do against congestion.
#[derive(Debug)]
pub(crate) struct Congestion {
    /// The machine's choice; `None` if the listener was left with it.
    machines: Option<Vec<u8>>,
}

impl Congestion {
    /// Makes a listener hand out connections without timers.
    #[cfg(target_os = "linux")]
    pub(crate) fn of(listener: &TcpListener) -> Self {
        let listener = SockRef::from(listener);
        let chosen = || {
            let machines = listener.tcp_congestion()?;
            listener.set_tcp_congestion(UNPACED)?;
            Ok::<_, io::Error>(machines)
        };
        let machines = chosen()
            .inspect_err(|error| tracing::debug!(%error, "cannot choose the congestion control"))
            .ok();
        Congestion { machines }
    }

    /// Leaves a listener as it is.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of(_listener: &TcpListener) -> Self {
        Congestion { machines: None }
    }

    /// Gives a new connection from another machine what this machine has chosen for the network.
    ///
    /// # Errors
    /// What the system refuses.
    #[cfg(target_os = "linux")]
    pub(crate) fn settle(&self, stream: &TcpStream, peer: SocketAddr) -> io::Result<()> {
        match &self.machines {
            Some(machines) if stream.local_addr()?.ip() != peer.ip() => {
                SockRef::from(stream).set_tcp_congestion(machines)
            }
            _ => Ok(()),
        }
    }

    /// Leaves a connection as it is.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn settle(&self, _stream: &TcpStream, _peer: SocketAddr) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
        let (_client, accepted) = tokio::join!(
            TcpStream::connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        accepted.unwrap()
    }

    #[tokio::test]
    async fn a_connection_from_this_machine_is_not_paced_and_one_from_elsewhere_is_as_the_machine_says() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let machines = SockRef::from(&listener).tcp_congestion().unwrap();
        let congestion = Congestion::of(&listener);

        let (stream, peer) = accept(&listener).await;
        congestion.settle(&stream, peer).unwrap();
        let chosen = SockRef::from(&stream).tcp_congestion().unwrap();
        assert!(chosen.starts_with(UNPACED), "{chosen:?}");

        let (stream, _) = accept(&listener).await;
        congestion
            .settle(&stream, "192.0.2.1:9".parse().unwrap())
            .unwrap();
        assert_eq!(SockRef::from(&stream).tcp_congestion().unwrap(), machines);
    }
}
