//! Long-running operations, from outside: a picture in four sizes, through kills, drains and broken connections.

use std::io::{BufRead as _, BufReader, Cursor};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contracts::google::longrunning::Operation;
use contracts::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use contracts::mesh::operations::v1::watch_response::Event;
use contracts::mesh::operations::v1::{OperationMetadata, Progress, WatchRequest};
use harness::film::{Databases, create, large_picture, render, request, small_picture, wait};
use harness::{Curl, Grpcurl, LIMIT, Postgres, Process, Proxy, forget_cargo, output_in, root, token, uuid};
use image::{ImageFormat, RgbImage};
use serde_json::{Value, json};
use tonic::transport::Endpoint;

const SIZES: [(&str, u32); 4] =
    [("SIZE_THUMBNAIL", 160), ("SIZE_MOBILE", 480), ("SIZE_TABLET", 1024), ("SIZE_TV", 1920)];

fn metadata(operation: &Operation) -> OperationMetadata {
    operation.metadata.as_ref().expect("metadata").to_msg().expect("OperationMetadata")
}

/// Follows an operation in a thread by `mesh_client::watch_until_done`; sends every revision it sees.
fn follow(address: SocketAddr, name: &str) -> mpsc::Receiver<(i64, bool)> {
    let (sender, receiver) = mpsc::channel();
    let name = name.to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
            let seen = |operation: &Operation| {
                let _ = sender.send((metadata(operation).revision, operation.done));
            };
            mesh_client::watch_until_done(channel, &name, seen).await.expect("an end");
        });
    });
    receiver
}

/// Asserts that revisions are in order, that none repeats, and that the only end is the last.
fn assert_seen_once(seen: &[(i64, bool)]) {
    assert!(seen.is_sorted_by(|a, b| a.0 < b.0), "{seen:?}");
    assert_eq!(seen.iter().filter(|(_, done)| *done).count(), 1, "{seen:?}");
    assert!(seen.last().expect("something").1, "{seen:?}");
}

#[test]
fn render_reports_its_end_and_stores_pictures() {
    if Grpcurl::installed() {
        let process = Process::start("monolith", &[]);
        renders_in_every_size(&process.grpcurl(), &process.grpcurl());
    }
}

/// Creates a title and renders its pictures, wherever the two services run.
pub(crate) fn renders_in_every_size(catalog: &Grpcurl, grpcurl: &Grpcurl) {
    let title_id = create(catalog, "Metropolis")["titleId"].clone();
    let before = grpcurl.call("artwork.v1.ArtworkService/GetArtwork", &json!({"title_id": title_id}));
    assert_eq!(before.failure(), ("NotFound".to_owned(), "ARTWORK_NOT_FOUND".to_owned()));

    let name = render(grpcurl, &title_id, &large_picture());
    let watch = grpcurl.call("mesh.operations.v1.OperationEventsService/Watch", &json!({"name": name})).text();
    let frames: Vec<Value> =
        serde_json::Deserializer::from_str(&watch).into_iter().collect::<Result<_, _>>().expect("JSON");
    let last = frames.last().expect("an end");
    let end = last.get("update").or(last.get("snapshot")).expect("an operation");
    assert_eq!((&end["done"], &end["metadata"]["state"]), (&json!(true), &json!("STATE_SUCCEEDED")), "{end}");
    assert_eq!(end["metadata"]["progress"]["done"], 4);

    for (size, width) in SIZES {
        let request = json!({"title_id": title_id, "size": size});
        let answer = grpcurl.call("artwork.v1.ArtworkService/GetRendition", &request).json();
        let jpeg = STANDARD.decode(answer["content"].as_str().expect("content")).expect("base64");
        let picture = image::load_from_memory_with_format(&jpeg, ImageFormat::Jpeg).expect("a JPEG");
        let height = (f64::from(width) * 1350.0 / 2400.0).round() as u32;
        assert_eq!((picture.width(), picture.height()), (width, height), "{size}");
        assert_eq!(answer["rendition"]["contentType"], "image/jpeg");
        assert_eq!(answer["rendition"]["width"], width);
    }
}

#[test]
fn example_client_renders_a_picture() {
    let process = Process::start("monolith", &[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = output_in(&folder, "first_call", &[&format!("http://{}", process.address)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("4/4 succeeded"), "{text}");
    for (size, width) in SIZES {
        let name = size.trim_start_matches("SIZE_").to_lowercase();
        let picture = image::open(folder.path().join(format!("out/{name}.jpg"))).expect("a picture");
        assert_eq!(picture.width(), width, "{name}");
    }

    // The example's picture is large enough to matter.
    let painted = output_in(&folder, "first_call", &["--paint", "picture.png"]);
    assert!(painted.status.success());
    let painted = std::fs::read(folder.path().join("picture.png")).expect("a picture");
    assert!(painted.len() > 5_000_000, "{} bytes", painted.len());
}

#[test]
fn render_resumes_after_a_kill() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let name = render(&grpcurl, &title_id, &large_picture());
    let seen = follow(process.address, &name);

    // The kill follows the first progress.
    let mut watch = grpcurl.open_with(
        "mesh.operations.v1.OperationEventsService/Watch",
        &json!({"name": name, "progress": "PROGRESS_ALL"}),
    );
    let lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    lines.map_while(Result::ok).find(|line| line.contains("RenderArtworkProgress")).expect("progress");
    let address = process.address.to_string();
    let folder = process.kill();
    let _ = watch.kill();
    let _ = watch.wait();

    let process = Process::start_in(folder, "monolith", &[("MESH__LISTEN", &address)]);
    let done = wait(&process.grpcurl(), &name);
    assert_eq!(done["metadata"]["state"], "STATE_SUCCEEDED", "{done}");
    assert_eq!(done["metadata"]["attempt"], 2, "{done}");

    // The log of both processes: steps that were done before the kill did not run again.
    let log = process.log();
    let rendered =
        |size: &str| log.lines().filter(|line| line.contains(r#""rendered""#) && line.contains(size)).count();
    assert_eq!(rendered(r#""thumbnail""#), 1, "{log}");
    let all: usize = SIZES.iter().map(|(size, _)| rendered(&size.replace("SIZE_", "\"").to_lowercase())).sum();
    assert!((4..=5).contains(&all), "at most the interrupted size is rendered again: {all} in {log}");

    let seen: Vec<_> = std::iter::from_fn(|| seen.recv_timeout(LIMIT).ok()).collect();
    assert_seen_once(&seen);
}

#[test]
fn drain_does_not_wait_for_a_render() {
    if !Grpcurl::installed() {
        return;
    }
    let mut process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let name = render(&grpcurl, &title_id, &large_picture());
    process.signal("TERM");
    let (status, took) = process.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(4), "took {took:?}");

    let process = Process::start_in(process.folder_left(), "monolith", &[]);
    let done = wait(&process.grpcurl(), &name);
    assert_eq!(done["metadata"]["state"], "STATE_SUCCEEDED", "{done}");
    assert_eq!(done["metadata"]["attempt"], 1, "a drain does not count as an attempt: {done}");
}

#[test]
fn watch_resumes_after_each_cut_without_loss() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let proxy = Proxy::to(process.address);
    let name = render(&grpcurl, &title_id, &large_picture());
    let helped = follow(proxy.address, &name);
    let everything = follow_all(proxy.address, &name);

    let (start, mut seen) = (Instant::now(), Vec::new());
    while !seen.last().is_some_and(|(_, done)| *done) {
        assert!(start.elapsed() < LIMIT, "{seen:?}");
        proxy.cut();
        seen.extend(everything.recv_timeout(Duration::from_millis(50)));
        seen.extend(everything.try_iter());
    }
    assert_seen_once(&seen);
    let (first, last) = (seen[0].0, seen[seen.len() - 1].0);
    let revisions: Vec<_> = seen.iter().map(|(revision, _)| *revision).collect();
    assert_eq!(revisions, (first..=last).collect::<Vec<_>>(), "no revision is missing");
    let helped: Vec<_> = std::iter::from_fn(|| helped.recv_timeout(LIMIT).ok()).collect();
    assert_seen_once(&helped);
}

/// Follows all progress without `watch_until_done`: resumes by the cursor at once, without limit.
fn follow_all(address: SocketAddr, name: &str) -> mpsc::Receiver<(i64, bool)> {
    let (sender, receiver) = mpsc::channel();
    let mut request = WatchRequest { name: name.to_owned(), progress: Progress::All.into(), ..Default::default() };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
            let mut events = OperationEventsServiceClient::new(channel);
            loop {
                let Ok(stream) = events.watch(request.clone()).await else { continue };
                let mut stream = stream.into_inner();
                while let Ok(Some(frame)) = stream.message().await {
                    request.cursor = frame.cursor;
                    if let Some(Event::Snapshot(operation) | Event::Update(operation)) = frame.event {
                        let _ = sender.send((metadata(&operation).revision, operation.done));
                        if operation.done {
                            return;
                        }
                    }
                }
            }
        });
    });
    receiver
}

#[test]
fn repeated_request_starts_one_operation() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let mut request = request(&title_id, &small_picture());
    let call = |request: &Value| grpcurl.call_with_input("artwork.v1.ArtworkService/RenderArtwork", request);
    let first = call(&request).json()["name"].clone();

    // The repeated request gets its operation even if the title is gone.
    grpcurl.call("catalog.v1.CatalogService/DeleteTitle", &json!({"title_id": title_id})).json();
    assert_eq!(call(&request).json()["name"], first);
    request["title_id"] = json!(uuid());
    assert_eq!(call(&request).failure(), ("InvalidArgument".to_owned(), "REQUEST_ID_REUSED".to_owned()));

    let listed = grpcurl.call("google.longrunning.Operations/ListOperations", &json!({"name": "services/artwork"}));
    assert_eq!(listed.json()["operations"].as_array().expect("operations").len(), 1);
}

#[test]
fn render_refuses_invalid_pictures() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let refused = |title_id: &Value, image: &[u8]| {
        let answer = grpcurl.call_with_input("artwork.v1.ArtworkService/RenderArtwork", &request(title_id, image));
        (answer.failure(), answer.message())
    };
    let is = |code: &str, reason: &str| (code.to_owned(), reason.to_owned());

    for (image, words) in [
        (&b""[..], "empty"),
        (b"not a picture", "PNG, JPEG or WebP"),
        (&bomb(), "50 million pixels"),
        (&vec![0; 16 * 1024 * 1024 + 1], "16 MiB"),
    ] {
        let (failure, message) = refused(&title_id, image);
        assert_eq!(failure, is("InvalidArgument", "INVALID_FIELDS"), "{message}");
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(refused(&title_id, &vec![0; 17 * 1024 * 1024]).0, is("ResourceExhausted", "MESSAGE_TOO_LARGE"));
    assert_eq!(refused(&json!(uuid()), &small_picture()).0, is("NotFound", "TITLE_NOT_FOUND"));
    let listed = grpcurl.call("google.longrunning.Operations/ListOperations", &json!({"name": "services/artwork"}));
    assert_eq!(listed.json(), json!({}), "no operation was started");

    // The picture has a valid header and a broken body, which only decoding shows.
    let mut jpeg = Cursor::new(Vec::new());
    RgbImage::new(640, 360).write_to(&mut jpeg, ImageFormat::Jpeg).expect("a picture");
    for (whole, kept) in [(large_picture(), 100_000), (jpeg.get_ref().clone(), jpeg.get_ref().len() / 2)] {
        let done = wait(&grpcurl, &render(&grpcurl, &title_id, &whole[..kept]));
        assert_eq!(done["metadata"]["state"], "STATE_FAILED");
        assert!(done["error"]["details"].to_string().contains("UNDECODABLE_IMAGE"), "{done}");
    }
    let artwork = grpcurl.call("artwork.v1.ArtworkService/GetArtwork", &json!({"title_id": title_id}));
    assert_eq!(artwork.failure().1, "ARTWORK_NOT_FOUND", "no partial artwork");
    // The next operation runs.
    let done = wait(&grpcurl, &render(&grpcurl, &title_id, &small_picture()));
    assert_eq!(done["metadata"]["state"], "STATE_SUCCEEDED");
}

/// A PNG of a few bytes whose header claims 60,000 × 60,000 pixels.
fn bomb() -> Vec<u8> {
    let mut bmp = Cursor::new(Vec::new());
    RgbImage::new(1, 1).write_to(&mut bmp, ImageFormat::Png).expect("a picture");
    let mut png = bmp.into_inner();
    png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let crc = !png[12..29].iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

#[test]
fn unknown_operation_or_cursor_is_refused() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let names = [(); 2].map(|()| render(&grpcurl, &title_id, &small_picture()));
    wait(&grpcurl, &names[0]);
    let watch = "mesh.operations.v1.OperationEventsService/Watch";
    let is = |code: &str, reason: &str| (code.to_owned(), reason.to_owned());

    let unknown = format!("services/artwork/operations/{}", uuid());
    let elsewhere = format!("services/catalog/operations/{}", uuid());
    for method in [watch, "google.longrunning.Operations/GetOperation", "google.longrunning.Operations/CancelOperation"]
    {
        for name in [&unknown, &elsewhere] {
            assert_eq!(grpcurl.call(method, &json!({"name": name})).failure(), is("NotFound", "OPERATION_NOT_FOUND"));
        }
        let nonsense = grpcurl.call(method, &json!({"name": "operations/1"}));
        assert_eq!(nonsense.failure(), is("InvalidArgument", "INVALID_FIELDS"), "{method}");
    }

    let frame = grpcurl.call(watch, &json!({"name": names[0]})).json();
    for (name, cursor) in [(&names[1], &frame["cursor"]), (&names[0], &json!("bm9uc2Vuc2U="))] {
        let foreign = grpcurl.call(watch, &json!({"name": name, "cursor": cursor}));
        assert_eq!(foreign.failure(), is("InvalidArgument", "INVALID_FIELDS"));
        assert!(foreign.message().contains("cursor"), "{}", foreign.message());
    }
}

#[test]
fn render_without_the_catalog_names_it() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("artwork", &[]);
    let answer = process
        .grpcurl()
        .call_with_input("artwork.v1.ArtworkService/RenderArtwork", &request(&json!(uuid()), &small_picture()));
    assert_eq!(answer.failure(), ("Unavailable".to_owned(), "NO_ENDPOINTS".to_owned()));
    assert!(answer.message().contains("catalog"), "{}", answer.message());
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn render_works_on_postgres() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let process = Databases::create(&postgres, "rendered").start();
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let name = render(&grpcurl, &title_id, &small_picture());
    assert_seen_once(&follow(process.address, &name).iter().collect::<Vec<_>>());
    let done = wait(&grpcurl, &name);
    assert_eq!(done["metadata"]["state"], "STATE_SUCCEEDED", "{done}");
    let request = json!({"title_id": title_id, "size": "SIZE_THUMBNAIL"});
    let thumbnail = grpcurl.call("artwork.v1.ArtworkService/GetRendition", &request).json();
    assert_eq!(thumbnail["rendition"]["width"], 160);
    let file = grpcurl.call("artwork.v1.ArtworkService/DownloadRendition", &request).json();
    assert_eq!((&file["contentType"], &file["data"]), (&json!("image/jpeg"), &thumbnail["content"]));
    let several = json!({"title_ids": [uuid(), title_id]});
    let several = grpcurl.call("artwork.v1.ArtworkService/BatchGetArtworks", &several).json();
    let single = grpcurl.call("artwork.v1.ArtworkService/GetArtwork", &json!({"title_id": title_id})).json();
    assert_eq!(several["artworks"], json!([single["artwork"]]));
}

#[test]
fn demo_script_renders_a_picture() {
    if !Grpcurl::installed() || !Curl::installed() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let alice = token(folder.path(), "alice", &["catalog.write", "artwork.write"], "1h");
    let open = Process::start("monolith", &[]);
    let asking = Process::start_in(folder, "monolith", &[("MESH__AUTH__MODE", "required")]);
    for (process, arguments, token) in
        [(&open, &[][..], ""), (&open, &["--http"], ""), (&asking, &[], &*alice), (&asking, &["--http"], &*alice)]
    {
        let mut demo = std::process::Command::new(root().join("scripts/demo"));
        forget_cargo(&mut demo);
        for file in ["out/thumbnail.jpg", "out/tv.jpg"] {
            let _ = std::fs::remove_file(root().join(file));
        }
        demo.args(arguments).env("ADDRESS", process.address.to_string()).env("MESH_TOKEN", token);
        let output = demo.output().expect("bash runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("state      SUCCEEDED"), "{text}");
        for (file, width) in [("out/thumbnail.jpg", 160), ("out/tv.jpg", 1920)] {
            assert!(text.contains(&format!("saved      {file}")), "{text}");
            let picture = image::open(root().join(file)).expect("a picture");
            assert_eq!(picture.width(), width, "{file}, {arguments:?}");
        }
    }
}
