//! A first client: pushes the images named on the command line and prints what is found in them.
//!
//!     cargo run -p framepipe-client --example first -- a.jpg b.jpg

use std::{env, error::Error, fs};

use framepipe_client::{Client, Outcome, PushRequest, ResultsOptions, StreamExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = env::args().skip(1).collect();
    let images = names.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;

    let client = Client::connect("http://127.0.0.1:50051").await?;
    let batch = client.push(PushRequest::images(&images).names(&names).stream("first")).await?;

    let options = ResultsOptions { until_drained: true, ..Default::default() };
    let mut results = client.results(&batch.stream, options);
    while let Some(result) = results.next().await {
        let result = result?;
        match result.outcome {
            Some(Outcome::Detections(found)) => {
                for object in found.detections {
                    println!("{}: {} {:.2} {:?}", result.name, object.label, object.score, object.r#box);
                }
            }
            Some(Outcome::Error(error)) => println!("{}: {}", result.name, error.message),
            Some(Outcome::Gap(gap)) => println!("results up to {} were dropped unread", gap.last_sequence),
            None => println!("{}: an outcome that this client does not know", result.name),
        }
    }
    Ok(())
}
