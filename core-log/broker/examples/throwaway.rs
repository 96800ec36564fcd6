//! Throwaway.
#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap();
    let port: u16 = args.next().unwrap().parse().unwrap();
    let mut config =
        highwater_broker::NodeConfig::new(&dir).listen("PLAINTEXT", ([127, 0, 0, 1], port).into());
    for arg in args {
        let (k, v) = arg.split_once('=').unwrap();
        config = config.property(k, v);
    }
    let node = highwater_broker::Node::start(config).await.unwrap();
    println!("up");
    tokio::time::sleep(std::time::Duration::from_secs(100000)).await;
    drop(node);
}
