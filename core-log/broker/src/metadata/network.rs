//! The way to other voters. A group of one has none, so every call says that the target cannot be reached; Raft treats
//! that as a voter that is down.

use std::io;

use openraft::{
    EmptyNode, RaftNetwork, RaftNetworkFactory,
    error::{InstallSnapshotError, RPCError, RaftError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
        VoteRequest, VoteResponse,
    },
};

use super::raft_types::TypeConfig;

/// Makes connections that fail, as a group of one has nobody to talk to.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoPeers;

/// A voter that no address is known of.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnknownPeer {
    target: u64,
}

impl UnknownPeer {
    fn unreachable<E: std::error::Error>(self) -> RPCError<u64, EmptyNode, E> {
        let error = io::Error::new(
            io::ErrorKind::NotConnected,
            format!("no address is known of quorum node {}", self.target),
        );
        RPCError::Unreachable(Unreachable::new(&error))
    }
}

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = UnknownPeer;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> UnknownPeer {
        UnknownPeer { target }
    }
}

impl RaftNetwork<TypeConfig> for UnknownPeer {
    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        Err(self.unreachable())
    }

    async fn install_snapshot(
        &mut self,
        _rpc: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64, InstallSnapshotError>>>
    {
        Err(self.unreachable())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        Err(self.unreachable())
    }
}
