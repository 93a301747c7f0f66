/// Runs an example beside a live cluster of three replicas in this process, in memory, on a loopback address of its own.
pub fn with_cluster(example: impl AsyncFnOnce(Vec<String>) -> Result<(), Box<dyn std::error::Error>>) {
    use primacy::config::{Address, Config, Durability, Mode};

    let [a, b, c, _] = getrandom::u32().unwrap().to_be_bytes();
    let host = format!("127.{}.{}.{}", a.clamp(1, 254), b, c.clamp(1, 254));
    let replicas: Vec<Address> = (0..3).map(|place| Address::new(host.clone(), 10_000 + place)).collect();
    let names: Vec<String> = replicas.iter().map(ToString::to_string).collect();
    let mut config = Config::new(Mode::RemoteWrite, replicas, 9_988);
    config.durability = Durability::Memory;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = std::sync::Arc::new(config);
        let cluster = primacy::cluster::Cluster::bind(&config, None, primacy::membership::Begin::Normally).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let cluster = tokio::spawn(cluster.run(async {
            let _ = stopped.await;
        }));
        let result = example(names).await;
        drop(stop);
        cluster.await.unwrap().unwrap();
        result.unwrap();
    });
}
