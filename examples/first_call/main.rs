//! A client outside the mesh: creates a title, renders a picture for it, follows the operation to its end and saves the
//! renditions.
//!
//! ```sh
//! cargo run                          # in one terminal
//! cargo run --example first_call     # in another
//! ```
//!
//! Other addresses go behind `--`. If each service runs in its own process, the catalog's comes first, then artwork's:
//! `-- http://127.0.0.1:50051 http://127.0.0.1:50052`. `-- --paint FILE` only writes the picture.
//!
//! A server with `auth.mode = "required"` asks for a token, which the example reads from `MESH_TOKEN`:
//!
//! ```sh
//! export MESH_TOKEN=$(cargo run -q --bin mesh -- token --sub alice --scope catalog.write,artwork.write)
//! ```

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
use mesh_client::{Bearer, WithToken};
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Endpoint;

const USAGE: &str = "usage: first_call [http://ADDRESS [http://ADDRESS-OF-ARTWORK]] or first_call --paint FILE";
/// Limit on following the rendering, restarts of the server included.
const FOLLOW_LIMIT: Duration = Duration::from_secs(120);

/// A channel that sends the token of `MESH_TOKEN` with each call.
type Channel = WithToken<tonic::transport::Channel>;

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
    let bearer = Bearer::from_env()?;
    let (catalog, artwork) = (connect(catalog, &bearer).await?, connect(artwork, &bearer).await?);
    let title_id = create_title(catalog).await?;
    println!("title      {title_id}");
    let operation = render_artwork(artwork.clone(), &title_id).await?;
    println!("operation  {}", operation.name);

    // Resumes by itself after a lost connection or a restart of the server, with the token.
    let following = mesh_client::watch_until_done(artwork.clone(), &operation.name, show_progress);
    let late = |_| format!("\nthe operation did not end within {FOLLOW_LIMIT:?}: check that the server runs");
    let done = timeout(FOLLOW_LIMIT, following).await.map_err(late)?.map_err(one_line)?;
    println!();
    if let Some(operation::Result::Error(error)) = done.result {
        return Err(error.message.into());
    }
    save_renditions(artwork, &title_id, Path::new("out")).await
}

async fn connect(address: &str, bearer: &Bearer) -> Result<Channel, Box<dyn Error>> {
    let connected = Endpoint::from_shared(address.to_owned())?.connect().await;
    let connected = connected.map_err(|_| {
        format!("no server answers at {address}: start one with `cargo run` in another terminal; {USAGE}")
    })?;
    Ok(bearer.over(connected))
}

async fn create_title(channel: Channel) -> Result<String, Box<dyn Error>> {
    let request = CreateTitleRequest {
        // A retry with the same id would return the same title.
        request_id: uuid::Uuid::new_v4().to_string(),
        name: "Metropolis".to_owned(),
        synopsis: "A city above, a city below.".to_owned(),
        year: 1927,
        price_cents: 399,
    };
    let response = CatalogServiceClient::new(channel).create_title(request).await.map_err(one_line)?.into_inner();
    Ok(response.title.ok_or("the response has no title")?.title_id)
}

async fn render_artwork(channel: Channel, title_id: &str) -> Result<Operation, Box<dyn Error>> {
    let request = RenderArtworkRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        title_id: title_id.to_owned(),
        image: paint::png(2400, 1350)?,
    };
    Ok(ArtworkServiceClient::new(channel).render_artwork(request).await.map_err(one_line)?.into_inner())
}

/// A status as one line.
fn one_line(status: Status) -> String {
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
    std::fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    for size in [Size::Thumbnail, Size::Mobile, Size::Tablet, Size::Tv] {
        let request = GetRenditionRequest { title_id: title_id.to_owned(), size: size.into() };
        let response = artwork.get_rendition(request).await.map_err(one_line)?.into_inner();
        let rendition = response.rendition.ok_or("the response has no rendition")?;
        let name = size.as_str_name().trim_start_matches("SIZE_").to_lowercase();
        let file = folder.join(format!("{name}.jpg"));
        std::fs::write(&file, &response.content)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        println!("saved      {} ({}×{})", file.display(), rendition.width, rendition.height);
    }
    Ok(())
}
