//! A broker and a wired client in this process, no sockets.
