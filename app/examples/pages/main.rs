//! The pages on made-up accounts, for looking at them: `cargo run -p app --example pages [ADDRESS]`.

mod household;

use std::sync::Arc;
use std::time::Instant as Stopwatch;

use household::Households;
use model::{Calendar, Instant};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("http://{}/card", listener.local_addr()?);
    let started = Stopwatch::now();
    // 23 November 2026, 10:42 in India, and on from there.
    let begin = Instant::from_seconds(1_795_410_720);
    let clock = move || Instant(begin.0 + i64::try_from(started.elapsed().as_micros()).unwrap_or(0));
    let households = Arc::new(Households::new(clock));
    let options = app::Options::new(Calendar::india(), true);
    axum::serve(listener, app::router(households.clone(), households, options)).await
}
