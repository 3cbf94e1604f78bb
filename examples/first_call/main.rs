//! A client outside the mesh: adds a title, has a picture of it rendered, follows that to its end, and saves what came
//! out of it.
//!
//! ```sh
//! cargo run                          # in one terminal
//! cargo run --example first_call     # in another
//! ```
//!
//! Another address goes behind `--`; where services have processes of their own, the catalog's and then artwork's:
//! `-- http://127.0.0.1:50051 http://127.0.0.1:50052`. `-- --paint FILE` only writes the picture.

mod paint;

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use contracts::artwork::v1::artwork_service_client::ArtworkServiceClient;
use contracts::artwork::v1::{GetRenditionRequest, RenderArtworkProgress, RenderArtworkRequest, Size};
use contracts::catalog::v1::CreateTitleRequest;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::google::longrunning::{Operation, operation};
use contracts::mesh::operations::v1::OperationMetadata;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

const USAGE: &str = "usage: first_call [http://ADDRESS [http://ADDRESS-OF-ARTWORK]] or first_call --paint FILE";
/// How long to follow the rendering, also past a server that is away for a while.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["-h" | "--help"] => Err(USAGE.into()),
        [] => first_call("http://127.0.0.1:8080", "http://127.0.0.1:8080").await,
        ["--paint", file] => paint::png(2400, 1350).and_then(|png| Ok(std::fs::write(file, png)?)),
        [address] => first_call(address, address).await,
        [catalog, artwork] => first_call(catalog, artwork).await,
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn first_call(catalog: &str, artwork: &str) -> Result<(), Box<dyn Error>> {
    let (catalog, artwork) = (connect(catalog).await?, connect(artwork).await?);
    let title_id = create_title(catalog).await?;
    println!("title      {title_id}");
    let operation = render_artwork(artwork.clone(), &title_id).await?;
    println!("operation  {}", operation.name);

    // It resumes by itself, whatever happens to the server or to the connection.
    let following = mesh::client::watch_until_done(artwork.clone(), &operation.name, show_progress);
    let done =
        timeout(PATIENCE, following).await.map_err(|_| "\nthe server has been away for too long")?.map_err(said)?;
    println!();
    if let Some(operation::Result::Error(error)) = done.result {
        return Err(error.message.into());
    }
    save_renditions(artwork, &title_id, Path::new("out")).await
}

async fn connect(address: &str) -> Result<Channel, Box<dyn Error>> {
    let connected = Endpoint::from_shared(address.to_owned())?.connect().await;
    Ok(connected.map_err(|_| format!("nobody serves at {address}: `cargo run` in another terminal; {USAGE}"))?)
}

async fn create_title(channel: Channel) -> Result<String, Box<dyn Error>> {
    let request = CreateTitleRequest {
        // Kept for a retry, it would give the same title again.
        request_id: uuid::Uuid::new_v4().to_string(),
        name: "Metropolis".to_owned(),
        synopsis: "A city above, a city below.".to_owned(),
        year: 1927,
        price_cents: 399,
    };
    let response = CatalogServiceClient::new(channel).create_title(request).await.map_err(said)?.into_inner();
    Ok(response.title.ok_or("no title in the answer")?.title_id)
}

async fn render_artwork(channel: Channel, title_id: &str) -> Result<Operation, Box<dyn Error>> {
    let request = RenderArtworkRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        title_id: title_id.to_owned(),
        image: paint::png(2400, 1350)?,
    };
    Ok(ArtworkServiceClient::new(channel).render_artwork(request).await.map_err(said)?.into_inner())
}

/// A failure in a line for people.
fn said(status: Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn show_progress(operation: &Operation) {
    let metadata = operation.metadata.as_ref().and_then(|any| any.to_msg::<OperationMetadata>().ok());
    let metadata = metadata.unwrap_or_default();
    let progress = metadata.progress.as_ref().and_then(|any| any.to_msg::<RenderArtworkProgress>().ok());
    let RenderArtworkProgress { done, total } = progress.unwrap_or(RenderArtworkProgress { done: 0, total: 4 });
    let width = usize::try_from(total).unwrap_or_default() * 5;
    let filled = usize::try_from(done).unwrap_or_default() * 5;
    let state = metadata.state().as_str_name().trim_start_matches("STATE_").to_lowercase();
    print!("\rrendering  [{}{}] {done}/{total} {state:<10}", "#".repeat(filled), "-".repeat(width - filled.min(width)));
    let _ = std::io::stdout().flush();
}

async fn save_renditions(channel: Channel, title_id: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut artwork = ArtworkServiceClient::new(channel);
    std::fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    for size in [Size::Thumbnail, Size::Mobile, Size::Tablet, Size::Tv] {
        let request = GetRenditionRequest { title_id: title_id.to_owned(), size: size.into() };
        let response = artwork.get_rendition(request).await.map_err(said)?.into_inner();
        let rendition = response.rendition.ok_or("no rendition in the answer")?;
        let name = size.as_str_name().trim_start_matches("SIZE_").to_lowercase();
        let file = folder.join(format!("{name}.jpg"));
        std::fs::write(&file, &response.content).map_err(|error| format!("{}: {error}", file.display()))?;
        println!("saved      {} ({}×{})", file.display(), rendition.width, rendition.height);
    }
    Ok(())
}
