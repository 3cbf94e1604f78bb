//! Answers that are composed of those of several services: the page of a title, and the home screens of phones and
//! televisions.

use harness::film::small_picture;
use harness::{Curl, Process, eventually, uuid};
use serde_json::{Value, json};

mod faults; // a part that is missing, late or no longer awaited
mod topologies; // the same behaviour in every topology
mod viewers; // users see and end what is theirs alone

/// Adds a title, and waits until library has it.
fn create(curl: &Curl, name: &str, year: i32) -> String {
    let title = json!({"requestId": uuid(), "name": name, "synopsis": "A city", "year": year, "priceCents": "399"});
    let title = curl.json("POST", "/v1/titles", &title);
    assert_eq!(title.status, 200, "{title:?}");
    title.json()["titleId"].as_str().expect("an id").to_owned()
}

/// Starts to render a picture of a title; returns the name of the operation.
fn upload(curl: &Curl, title: &str, picture: &[u8]) -> String {
    let key = format!("Idempotency-Key: {}", uuid());
    let arguments = ["--header", "Content-Type: image/png", "--header", &key, "--data-binary", "@-"];
    let started = curl.send(&format!("/v1/titles/{title}/artwork:upload"), &arguments, picture);
    assert_eq!(started.status, 200, "{started:?}");
    started.json()["name"].as_str().expect("a name").to_owned()
}

/// Starts to rent a title; returns the name of the operation.
fn rent(curl: &Curl, title: &str, viewer: &str, card: &str) -> String {
    let request = json!({"requestId": uuid(), "viewerId": viewer, "expectedPriceCents": "399", "card": card});
    // Library has the title some milliseconds later.
    let started = eventually("library has the title", || {
        let started = curl.json("POST", &format!("/v1/titles/{title}:rent"), &request);
        (started.status == 200).then_some(started)
    });
    started.json()["name"].as_str().expect("a name").to_owned()
}

/// The messages of a stream, to its end.
fn messages(curl: &Curl, path: &str) -> Vec<Value> {
    let lines = curl.get(path);
    assert_eq!(lines.status, 200, "{lines:?}");
    let messages = lines.text().lines().map(|line| line.parse().expect("JSON")).collect::<Vec<Value>>();
    messages.into_iter().filter(|message| message["heartbeat"] != true).collect()
}

fn page(curl: &Curl, title: &str, viewer: &str) -> Value {
    let page = curl.get(&format!("/v1/titles/{title}/page?viewer_id={viewer}"));
    assert_eq!(page.status, 200, "{page:?}");
    page.json()
}

/// The names of a list of cards or tiles.
fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|item| item["name"].as_str().expect("a name")).collect()
}

fn is_a_jpeg(curl: &Curl, url: &Value) -> bool {
    let picture = curl.get(url.as_str().expect("a path"));
    picture.status == 200 && picture.header("content-type") == Some("image/jpeg")
}

/// What each topology must do.
fn composes(curl: &Curl) {
    let (viewer, old) = (uuid(), create(curl, "Metropolis", 1927));
    let new = create(curl, "Playtime", 1967);
    let rendering = upload(curl, &new, &small_picture());
    let progress = messages(curl, &format!("/v1/tv/{rendering}:follow"));
    let percents: Vec<_> = progress.iter().map(|message| message["percent"].as_i64().expect("a number")).collect();
    assert!(percents.is_sorted() && percents.last() == Some(&100), "{progress:?}");
    let ends: Vec<_> = progress.iter().filter(|message| message["done"] == true).collect();
    assert_eq!((ends.len(), &ends[0]["succeeded"], ends[0]), (1, &json!(true), progress.last().expect("an end")));
    shows_home_screens(curl, [&old, &new]);
    shows_the_page_of_a_title(curl, &new, &viewer);
    notifies_each_client_in_its_shape(curl, &new, &viewer);
    refuses_bad_input(curl);
}

fn shows_home_screens(curl: &Curl, [old, new]: [&str; 2]) {
    let phone = curl.get("/v1/mobile/home").json();
    assert_eq!(names(&phone["cards"]), ["Playtime", "Metropolis"], "the newest first");
    assert_eq!((&phone["cards"][0]["titleId"], &phone["cards"][1]["titleId"]), (&json!(new), &json!(old)));
    assert!(is_a_jpeg(curl, &phone["cards"][0]["pictureUrl"]), "{phone}");
    assert_eq!((&phone["cards"][1]["pictureUrl"], &phone["unreachable"]), (&json!(""), &json!([])));
    assert_eq!(names(&curl.get("/v1/mobile/home?page_size=1").json()["cards"]), ["Playtime"]);

    let television = curl.get("/v1/tv/home").json();
    assert_eq!(names(&television["rows"]), ["1960s", "1920s"], "{television}");
    let tile = &television["rows"][0]["tiles"][0];
    assert_eq!((&tile["name"], &tile["synopsis"]), (&json!("Playtime"), &json!("A city")));
    assert!(is_a_jpeg(curl, &tile["pictureUrl"]), "{tile}");
    let ends = |url: &Value, size: &str| url.as_str().is_some_and(|url| url.ends_with(size));
    assert!(ends(&tile["pictureUrl"], "/SIZE_TV") && ends(&phone["cards"][0]["pictureUrl"], "/SIZE_MOBILE"));
}

fn shows_the_page_of_a_title(curl: &Curl, title: &str, viewer: &str) {
    let before = page(curl, title, viewer);
    assert_eq!(
        (&before["name"], &before["priceCents"], before.get("rental")),
        (&json!("Playtime"), &json!("399"), None)
    );
    let pictures = before["pictures"].as_array().expect("pictures");
    assert!(pictures.len() == 4 && pictures.iter().all(|picture| is_a_jpeg(curl, &picture["url"])), "{pictures:?}");
    assert_eq!(before["unreachable"], json!([]));

    let operation = rent(curl, title, viewer, "");
    messages(curl, &format!("/v1/mobile/{operation}:await"));
    let rental = &page(curl, title, viewer)["rental"];
    assert_eq!((&rental["granted"], &rental["operation"]), (&json!(true), &json!(operation)), "{rental}");
    let television = curl.get(&format!("/v1/tv/home?viewer_id={viewer}")).json();
    assert_eq!(television["rows"][0]["tiles"][0]["rentedUntil"], rental["expireTime"]);
    assert!(rental["expireTime"].is_string() && page(curl, title, &uuid()).get("rental").is_none());

    let absent = curl.get(&format!("/v1/titles/{}/page", uuid()));
    assert_eq!((absent.status, &absent.json()["type"]), (404, &json!("/errors/catalog/TITLE_NOT_FOUND")));
}

fn notifies_each_client_in_its_shape(curl: &Curl, title: &str, viewer: &str) {
    let rented = messages(curl, &format!("/v1/mobile/{}:await", rent(curl, title, &uuid(), "")));
    assert_eq!((rented.len(), &rented[0]["succeeded"]), (1, &json!(true)), "{rented:?}");

    let declined = rent(curl, title, &format!("{viewer}-2"), "test-declined");
    let notice = messages(curl, &format!("/v1/mobile/{declined}:await"));
    assert_eq!((notice.len(), &notice[0]["reason"]), (1, &json!("CARD_DECLINED")), "{notice:?}");
    is_told_once(curl, &format!("/v1/mobile/{declined}:await"));
    is_told_once(curl, &format!("/v1/tv/{declined}:follow"));
    let shown = messages(curl, &format!("/v1/tv/{declined}:follow"));
    let end = shown.last().expect("an end");
    assert_eq!(
        (&end["done"], &end["succeeded"], &end["reason"]),
        (&json!(true), &json!(false), &json!("CARD_DECLINED"))
    );
    assert!(names(&end["steps"]) == ["reserve", "charge"], "{end}");
    assert!(end["steps"].as_array().expect("steps").iter().all(|step| step["state"] == "STEP_STATE_UNDONE"), "{end}");
}

/// A browser that comes again behind the end is told to stop.
fn is_told_once(curl: &Curl, path: &str) {
    let events = |more: &[&str]| curl.send(path, &[&["--header", "Accept: text/event-stream"], more].concat(), b"");
    let told = events(&[]).text();
    let last = told.lines().rev().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    assert_eq!(events(&["--header", &format!("Last-Event-ID: {last}")]).status, 204, "{told}");
}

fn refuses_bad_input(curl: &Curl) {
    let fields = |path: &str| {
        let problem = curl.get(path);
        assert_eq!(problem.status, 400, "{path}: {problem:?}");
        let details = problem.json()["details"].as_array().cloned().expect("details");
        let violations = details.iter().find_map(|detail| detail["fieldViolations"].as_array().cloned());
        let violations = violations.expect("fields").into_iter();
        violations.map(|bad| bad["field"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(fields("/v1/titles/x/page?viewer_id=%09"), ["title_id", "viewer_id"]);
    assert_eq!(fields("/v1/mobile/home?page_size=-1"), ["page_size"]);
    assert_eq!(fields(&format!("/v1/tv/home?page_size=-1&viewer_id={}", "x".repeat(101))), ["page_size", "viewer_id"]);
    for path in ["/v1/mobile/services/catalog/operations/ID:await", "/v1/tv/services/catalog/operations/ID:follow"] {
        assert_eq!(fields(&path.replace("ID", &uuid())), ["name"]);
        assert_eq!(fields(&path.replace("catalog", "library").replace("ID", "7")), ["name"]);
        let unknown = curl.get(&path.replace("catalog", "library").replace("ID", &uuid()));
        assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!(5)), "{unknown:?}");
    }
}

/// The calls of a method that a process has answered.
fn calls(process: &Process, method: &str) -> u64 {
    let metrics = process.http("/metrics");
    let of_method =
        metrics.lines().filter(|line| line.starts_with("grpc_server_handled_total{") && line.contains(method));
    of_method.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
