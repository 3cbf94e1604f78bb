//! The catalog's contract, tested by grpcurl: in the monolith on SQLite, in the monolith on Postgres, and in a process
//! of its own.

use harness::film::{call, create, failure};
use harness::{Grpcurl, Postgres, Process, uuid};
use serde_json::{Value, json};

#[test]
fn catalog_keeps_its_contract_in_the_monolith_on_sqlite() {
    if Grpcurl::installed() {
        keeps_its_contract(&Process::start("monolith", &[]).grpcurl());
    }
}

#[test]
fn catalog_keeps_its_contract_in_its_own_process() {
    if Grpcurl::installed() {
        keeps_its_contract(&Process::start("catalog", &[]).grpcurl());
    }
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn catalog_keeps_its_contract_in_the_monolith_on_postgres() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.database("catalog");
    keeps_its_contract(&Process::start("monolith", &[("MESH__SERVICES__CATALOG__DATABASE_URL", &url)]).grpcurl());
}

#[test]
fn reflection_keeps_comments_and_options() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let describe = |what: &str| process.grpcurl().run(&[], &["describe", what]).text();
    let method = describe("catalog.v1.CatalogService.GetTitle");
    assert!(method.contains("// Gives one title."), "comments: {method}");
    assert!(method.contains("idempotency_level = NO_SIDE_EFFECTS"), "method options: {method}");
    let message = describe("catalog.v1.Title");
    assert!(message.contains("field_behavior) = OUTPUT_ONLY"), "custom options: {message}");
    assert!(method.contains(r#""/v1/titles/{title_id}""#), "the HTTP rule: {method}");
    assert!(method.contains("ACCESS_PUBLIC"), "the access: {method}");
}

#[test]
fn admin_pages_report_readiness_and_call_results() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let health = grpcurl.call("grpc.health.v1.Health/Check", &json!({"service": "catalog.v1.CatalogService"}));
    assert_eq!(health.json()["status"], "SERVING");
    let ready = process.http("/readyz");
    assert!(ready.contains("catalog: ready"), "{ready}");

    create(&grpcurl, "Metropolis");
    failure(&grpcurl, "GetTitle", &json!({"title_id": uuid()}));
    let metrics = process.http("/metrics");
    for line in [
        r#"grpc_server_handled_total{grpc_service="catalog.v1.CatalogService",grpc_method="CreateTitle",grpc_code="OK"} 1"#,
        r#"grpc_server_handled_total{grpc_service="catalog.v1.CatalogService",grpc_method="GetTitle",grpc_code="NotFound"} 1"#,
        r#"grpc_server_handling_seconds_count{grpc_service="catalog.v1.CatalogService",grpc_method="CreateTitle"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

pub(crate) fn keeps_its_contract(catalog: &Grpcurl) {
    creates_once(catalog);
    creates_once_under_concurrent_requests(catalog);
    reads_what_was_written(catalog);
    reads_several_at_once(catalog);
    lists_in_pages(catalog);
    updates_what_the_mask_names(catalog);
    updates_only_the_current_revision(catalog);
    deletes(catalog);
}

fn is(code: &str, reason: &str) -> (String, String) {
    (code.to_owned(), reason.to_owned())
}

fn creates_once(catalog: &Grpcurl) {
    let request = json!({"request_id": uuid(), "name": "Metropolis", "year": 1927});
    let first = call(catalog, "CreateTitle", &request);
    assert_eq!(first["title"]["name"], "Metropolis");
    assert_eq!(first["title"]["revision"], "1");
    assert_eq!(call(catalog, "CreateTitle", &request), first);

    let mut capitals = request.clone();
    capitals["request_id"] = json!(request["request_id"].as_str().expect("a string").to_uppercase());
    assert_eq!(call(catalog, "CreateTitle", &capitals), first);

    let mut other = request.clone();
    other["year"] = json!(1928);
    assert_eq!(failure(catalog, "CreateTitle", &other), is("InvalidArgument", "REQUEST_ID_REUSED"));

    // The answer is that of the first call, not the title as it is now.
    let title_id = &first["title"]["titleId"];
    let change =
        json!({"title": {"title_id": title_id, "revision": 1, "name": "M"}, "update_mask": {"paths": ["name"]}});
    call(catalog, "UpdateTitle", &change);
    assert_eq!(call(catalog, "CreateTitle", &request), first);
}

fn creates_once_under_concurrent_requests(catalog: &Grpcurl) {
    let request = json!({"request_id": uuid(), "name": "Twins", "year": 1988});
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| call(catalog, "CreateTitle", &request))).collect();
        asked.into_iter().map(|answer| answer.join().expect("an answer")).collect()
    });
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:#?}");
    let listed = call(catalog, "ListTitles", &json!({"page_size": 200}));
    let twins = listed["titles"].as_array().expect("titles").iter().filter(|title| title["name"] == "Twins").count();
    assert_eq!(twins, 1);
}

fn reads_what_was_written(catalog: &Grpcurl) {
    let title = create(catalog, "Das Cabinet des Dr. Caligari — \"1920\" 🎬");
    let read = call(catalog, "GetTitle", &json!({"title_id": title["titleId"]}));
    assert_eq!(read["title"], title);
    assert_eq!(failure(catalog, "GetTitle", &json!({"title_id": uuid()})), is("NotFound", "TITLE_NOT_FOUND"));
}

fn reads_several_at_once(catalog: &Grpcurl) {
    let [first, second] = ["The General", "Sherlock Jr."].map(|name| create(catalog, name));
    let ids = [&second["titleId"], &json!(uuid()), &first["titleId"], &second["titleId"]];
    let read = call(catalog, "BatchGetTitles", &json!({"title_ids": ids}));
    assert_eq!(read["titles"], json!([second, first]));
    let none = json!({"title_ids": []});
    assert_eq!(failure(catalog, "BatchGetTitles", &none), is("InvalidArgument", "INVALID_FIELDS"));
}

fn lists_in_pages(catalog: &Grpcurl) {
    let created: Vec<_> = (0..5).map(|i| create(catalog, &format!("Page {i}"))["titleId"].clone()).collect();
    let list = |order: &str| {
        let mut listed = Vec::new();
        let mut token = String::new();
        loop {
            let page = call(catalog, "ListTitles", &json!({"page_size": 2, "page_token": token, "order_by": order}));
            let titles = page["titles"].as_array().expect("titles");
            assert!(titles.len() <= 2);
            listed.extend(titles.iter().map(|title| title["titleId"].clone()));
            match page["nextPageToken"].as_str() {
                Some(next) => next.clone_into(&mut token),
                None => return listed,
            }
        }
    };
    let mut listed = list("");
    assert_eq!(
        listed[listed.len() - 5..],
        created,
        "titles are in the order of creation, none is missing and none repeats"
    );
    let everything = call(catalog, "ListTitles", &json!({}));
    assert_eq!(everything["titles"].as_array().expect("titles").len(), listed.len());
    assert_eq!(list("create_time"), listed);
    listed.reverse();
    assert_eq!(list("create_time desc"), listed);
    let by_name = failure(catalog, "ListTitles", &json!({"order_by": "name"}));
    assert_eq!(by_name, is("InvalidArgument", "INVALID_FIELDS"));
}

fn updates_what_the_mask_names(catalog: &Grpcurl) {
    let title = create(catalog, "Nosferatu");
    let id = &title["titleId"];
    let change = |revision: i64, title: Value, mask: Option<&[&str]>| {
        let mut request = json!({"title": title});
        request["title"]["title_id"] = id.clone();
        request["title"]["revision"] = json!(revision);
        if let Some(mask) = mask {
            request["update_mask"] = json!({"paths": mask});
        }
        call(catalog, "UpdateTitle", &request)["title"].clone()
    };

    let named = change(1, json!({"name": "ignored", "year": 1922}), Some(&["year"]));
    assert_eq!((&named["name"], &named["year"], &named["revision"]), (&json!("Nosferatu"), &json!(1922), &json!("2")));
    let emptied = change(2, json!({}), Some(&["synopsis", "price_cents"]));
    assert_eq!((&emptied["synopsis"], &emptied["priceCents"]), (&Value::Null, &Value::Null));
    let populated = change(3, json!({"synopsis": "A count"}), None);
    assert_eq!((&populated["synopsis"], &populated["year"]), (&json!("A count"), &json!(1922)));
    let replaced = change(4, json!({"name": "Orlok", "year": 1922}), Some(&["*"]));
    assert_eq!((&replaced["name"], &replaced["synopsis"]), (&json!("Orlok"), &Value::Null));
    assert_eq!(replaced["createTime"], title["createTime"]);
    assert_ne!(replaced["updateTime"], title["updateTime"]);
}

fn updates_only_the_current_revision(catalog: &Grpcurl) {
    let title = create(catalog, "Faust");
    let id = &title["titleId"];
    let change = |name: &str| json!({"title": {"title_id": id, "revision": 1, "name": name}, "update_mask": {"paths": ["name"]}});
    call(catalog, "UpdateTitle", &change("Faust: first"));

    let stale = catalog.call("catalog.v1.CatalogService/UpdateTitle", &change("Faust: second"));
    assert_eq!(stale.failure(), is("FailedPrecondition", "STALE_REVISION"));
    assert_eq!(stale.detail("google.rpc.ErrorInfo")["metadata"]["current_revision"], "2");
    let read = call(catalog, "GetTitle", &json!({"title_id": id}));
    assert_eq!(read["title"]["name"], "Faust: first");

    let unknown =
        json!({"title": {"title_id": uuid(), "revision": 1, "name": "x"}, "update_mask": {"paths": ["name"]}});
    assert_eq!(failure(catalog, "UpdateTitle", &unknown), is("NotFound", "TITLE_NOT_FOUND"));
}

fn deletes(catalog: &Grpcurl) {
    let id = json!({"title_id": create(catalog, "Lost")["titleId"]});
    call(catalog, "DeleteTitle", &id);
    assert_eq!(failure(catalog, "GetTitle", &id), is("NotFound", "TITLE_NOT_FOUND"));
    assert_eq!(failure(catalog, "DeleteTitle", &id), is("NotFound", "TITLE_NOT_FOUND"));
}
