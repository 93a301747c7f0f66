use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::config::{Address, Mode};
use crate::net::TcpListener;
use crate::net::TcpStream;

/// How long anything here may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// A configuration at a loopback address of its own, so that tests never meet at a port.
fn lonely_config(count: u16) -> Arc<Config> {
    let [a, b, c, _] = getrandom::u32().unwrap().to_be_bytes();
    let host = format!("127.{a}.{b}.{}", c.clamp(1, 254));
    let replicas = (0..count).map(|n| Address::new(host.clone(), 10_000 + n)).collect();
    Arc::new(Config::new(Mode::RemoteWrite, replicas, 9_900))
}

async fn is_open(config: &Config, id: ReplicaId) -> [bool; 2] {
    let host = config.address(id).host();
    let ports = [config.address(id).port(), config.service_port(id)];
    [TcpStream::connect((host, ports[0])).await.is_ok(), TcpStream::connect((host, ports[1])).await.is_ok()]
}

#[tokio::test]
async fn every_listener_is_bound_before_the_cluster_runs_and_free_after_it() {
    let config = lonely_config(3);
    let cluster = Cluster::bind(&config, None, Begin::Normally).await.unwrap();
    for id in config.ids() {
        assert_eq!(is_open(&config, id).await, [true, true]);
    }
    timeout(PATIENCE, cluster.run(async {})).await.unwrap().unwrap();
    for id in config.ids() {
        assert_eq!(is_open(&config, id).await, [false, false], "all has ended when run returns");
    }
}

#[tokio::test]
async fn one_replica_binds_only_its_own() {
    let config = lonely_config(3);
    let cluster = Cluster::bind(&config, Some(ReplicaId(1)), Begin::Normally).await.unwrap();
    assert_eq!(is_open(&config, ReplicaId(0)).await, [false, false]);
    assert_eq!(is_open(&config, ReplicaId(1)).await, [true, true]);
    timeout(PATIENCE, cluster.run(async {})).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_in_use_names_its_key() {
    for key in ["replicas", "service"] {
        let config = lonely_config(2);
        let address = config.address(ReplicaId(1));
        let host = address.host();
        let (port, of) = match key {
            "replicas" => (address.port(), String::new()),
            _ => (config.service_port(ReplicaId(1)), format!(", for the service of replica {address}")),
        };
        let _held = TcpListener::bind((host, port)).await.unwrap();
        let text = Cluster::bind(&config, None, Begin::Normally).await.unwrap_err().to_string();
        let expected = format!("`{key}`: port {port} of {host}{of}: it is in use; end the program that has it");
        assert!(text.starts_with(&expected), "{text}");
    }
}
