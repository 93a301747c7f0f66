//! The seam to the network: the only names of sockets that the program uses, so that a simulation can bring its own.

pub use tokio::net::{TcpListener, TcpStream};
