//! The stub provider as a program: prints its address, serves until it is killed, and shows what it was asked
//! under `/stub/received`.

use std::{env, net::SocketAddr, process::exit};

use tests::Provider;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => "127.0.0.1:0".parse().ok(),
        [flag, address] if flag == "--listen" => address.parse::<SocketAddr>().ok(),
        _ => None,
    };
    let Some(address) = address else {
        eprintln!("usage: stub-provider [--listen ADDRESS:PORT]");
        exit(2);
    };
    let provider = match Provider::start_at(address).await {
        Ok(provider) => provider,
        Err(error) => {
            eprintln!("{address}: {error}");
            exit(1);
        }
    };
    println!("{}", provider.url());
    provider.serve().await;
}
