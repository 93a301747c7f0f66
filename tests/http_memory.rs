//! Lists stream: what they take does not grow with the number of notes. Alone in its process, whose memory it reads.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

#[allow(dead_code)]
#[path = "support/fake_replica.rs"]
mod fake_replica;
#[allow(dead_code)]
#[path = "support/http_client.rs"]
mod http_client;

use http_client::Server;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

const NOTES: u64 = 100_000;
const CLIENTS: usize = 50;
const MORE_MAX_KIB: usize = 200 * 1024;

/// This process's resident memory, or the most that it was, in KiB.
fn memory_kib(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn fifty_clients_list_a_hundred_thousand_notes_in_little_memory() {
    let server = Server::start().await;
    server.replica.fill(NOTES, &"b".repeat(100));
    let before = memory_kib("VmRSS:");
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = server.connect().await;
        clients.spawn(async move {
            client.send("GET /note HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
            let mut piece = vec![0; 64 * 1024];
            let mut bytes = 0;
            loop {
                match client.stream.read(&mut piece).await.unwrap() {
                    0 => return bytes,
                    length => bytes += length,
                }
            }
        });
    }
    let sizes = clients.join_all().await;
    let more = memory_kib("VmHWM:").saturating_sub(before);
    println!("{CLIENTS} lists of {} bytes took {more} KiB more", sizes[0]);
    assert!(sizes.iter().all(|size| *size > NOTES as usize * 100));
    assert!(more < MORE_MAX_KIB, "{more} KiB more");
}
