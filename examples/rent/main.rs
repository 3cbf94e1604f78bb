//! A client outside the mesh: creates two titles and rents them, one with a card that is charged, and one with a card
//! that is declined. It follows both operations, step by step, to their end.
//!
//! ```sh
//! cargo run                    # in one terminal
//! cargo run --example rent     # in another
//! ```
//!
//! Other addresses go behind `--`. If each service runs in its own process, the catalog's comes first, then library's:
//! `-- http://127.0.0.1:50051 http://127.0.0.1:50053`.
//!
//! A server with `auth.mode = "required"` asks for a token, which the example reads from `MESH_TOKEN`. Its user is the
//! viewer:
//!
//! ```sh
//! export MESH_TOKEN=$(cargo run -q --bin mesh -- token --sub alice --scope catalog.write)
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::catalog::v1::{CreateTitleRequest, Title};
use contracts::google::longrunning::{Operation, operation};
use contracts::library::v1::library_service_client::LibraryServiceClient;
use contracts::library::v1::{GetTitleRequest, RentTitleRequest, RentTitleResponse};
use contracts::mesh::operations::v1::OperationMetadata;
use mesh_client::{Bearer, WithToken};
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;
use tonic::{Code, Status};

const USAGE: &str = "usage: rent [http://ADDRESS [http://ADDRESS-OF-LIBRARY]]";
/// Limit on each wait, restarts of the server included.
const LIMIT: Duration = Duration::from_secs(120);

/// A channel that sends the token of `MESH_TOKEN` with each call.
type Channel = WithToken<tonic::transport::Channel>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => rent("http://127.0.0.1:8080", "http://127.0.0.1:8080").await,
        ["-h" | "--help"] => Err(USAGE.into()),
        [address] => rent(address, address).await,
        [catalog, library] => rent(catalog, library).await,
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

async fn rent(catalog: &str, library: &str) -> Result<(), Box<dyn Error>> {
    let bearer = Bearer::from_env()?;
    let (catalog, library) = (connect(catalog, &bearer).await?, connect(library, &bearer).await?);
    for card in ["test", "test-declined"] {
        let title = create_title(catalog.clone()).await?;
        println!("title      {}", title.title_id);
        timeout(LIMIT, until_copied(library.clone(), &title.title_id))
            .await
            .map_err(|_| "library does not get the title: check that the catalog runs")??;
        // Without a token, a new viewer. A user is the viewer, and is not named.
        let viewer = if bearer.has_token() { String::new() } else { uuid::Uuid::new_v4().to_string() };
        rent_with(library.clone(), viewer, &title, card).await?;
    }
    Ok(())
}

async fn connect(address: &str, bearer: &Bearer) -> Result<Channel, Box<dyn Error>> {
    let connected = Endpoint::from_shared(address.to_owned())?.connect().await;
    let connected = connected.map_err(|_| {
        format!("no server answers at {address}: start one with `cargo run` in another terminal; {USAGE}")
    })?;
    Ok(bearer.over(connected))
}

async fn create_title(channel: Channel) -> Result<Title, Box<dyn Error>> {
    let request = CreateTitleRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        name: "Metropolis".to_owned(),
        synopsis: "A city above, a city below.".to_owned(),
        year: 1927,
        price_cents: 399,
    };
    let response = CatalogServiceClient::new(channel).create_title(request).await.map_err(one_line)?.into_inner();
    Ok(response.title.ok_or("the response has no title")?)
}

/// Library answers from a copy of its own, which gets the title some milliseconds later.
async fn until_copied(channel: Channel, title_id: &str) -> Result<(), String> {
    let mut library = LibraryServiceClient::new(channel);
    loop {
        match library.get_title(GetTitleRequest { title_id: title_id.to_owned() }).await {
            Ok(_) => return Ok(()),
            Err(status) if matches!(status.code(), Code::NotFound | Code::Unavailable) => {
                sleep(Duration::from_millis(10)).await;
            }
            Err(status) => return Err(one_line(status)),
        }
    }
}

/// Rents the title to a viewer.
async fn rent_with(channel: Channel, viewer_id: String, title: &Title, card: &str) -> Result<(), Box<dyn Error>> {
    let request = RentTitleRequest {
        // A retry with the same id would return the same operation.
        request_id: uuid::Uuid::new_v4().to_string(),
        viewer_id,
        title_id: title.title_id.clone(),
        expected_price_cents: title.price_cents,
        card: card.to_owned(),
    };
    let started = LibraryServiceClient::new(channel.clone()).rent_title(request).await.map_err(one_line)?.into_inner();
    println!("operation  {}", started.name);
    let mut shown = Vec::new();
    // Resumes by itself after a lost connection or a restart of the server, with the token.
    let following =
        mesh_client::watch_until_done(channel, &started.name, |operation| show_steps(operation, &mut shown));
    let late = |_| format!("the operation did not end within {LIMIT:?}: check that billing runs");
    let done = timeout(LIMIT, following).await.map_err(late)?.map_err(one_line)?;
    show_steps(&done, &mut shown);
    match done.result {
        Some(operation::Result::Response(response)) => {
            let rental = response.to_msg::<RentTitleResponse>()?.rental.ok_or("the response has no rental")?;
            println!("rented     {} for {} cents", rental.rental_id, rental.price_cents);
        }
        Some(operation::Result::Error(error)) => println!("undone     {}", error.message),
        None => return Err("the operation is done without a result".into()),
    }
    Ok(())
}

/// Prints the steps that have changed since the last time, in the order of their changes.
fn show_steps(operation: &Operation, shown: &mut Vec<String>) {
    let metadata = operation.metadata.as_ref().and_then(|any| any.to_msg::<OperationMetadata>().ok());
    let mut steps = metadata.unwrap_or_default().steps;
    steps.sort_by_key(|step| step.end_time.or(step.begin_time).map(|time| (time.seconds, time.nanos)));
    for step in steps {
        let state = step.state().as_str_name().trim_start_matches("STEP_STATE_").to_lowercase();
        let line = format!("{:<10} {state}", step.name);
        if !shown.contains(&line) {
            println!("{line}");
            shown.push(line);
        }
    }
}

/// A status as one line.
fn one_line(status: Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
