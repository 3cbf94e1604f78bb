//! A process and its database: a database that cannot be opened stops the process with one line, an outage makes it not
//! ready, and a kill loses no acknowledged write.

use harness::film::{call, create};
use harness::{Grpcurl, Postgres, Process, eventually};
use serde_json::json;

use crate::bad_start::{FREE, mesh_toml, refuses, refuses_with};

#[test]
fn unwritable_data_dir_is_refused() {
    // The folder would be below a file, where not even root can create one.
    let words = ["cannot write to", "--data-dir"];
    refuses_with(&words, &[FREE, "--data-dir=file/data"], |folder| {
        std::fs::write(folder.join("file"), "").expect("a file");
    });
}

#[test]
fn second_process_on_a_database_is_refused() {
    let first = Process::start("monolith", &[]);
    let data_dir = format!("--data-dir={}", first.folder.path().join("data").display());
    refuses_with(&[".db", "another process"], &[FREE, &data_dir], |_| ());
}

#[test]
fn unreachable_database_is_refused() {
    let url = "services.catalog.database_url=postgres://me:secret@127.0.0.1:1/catalog";
    let errors = refuses(&[FREE, "--set", url], |_| ());
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("services.catalog.database_url"), "{errors:?}");
    assert!(errors[0].contains("refused"), "why: {errors:?}");
    assert!(!errors[0].contains("secret"), "{errors:?}");
}

#[test]
fn invalid_database_file_is_refused() {
    refuses_with(&["catalog.db", "not a database"], &[FREE], |folder| {
        std::fs::create_dir(folder.join("data")).expect("a folder");
        std::fs::write(folder.join("data/catalog.db"), "A city above, a city below. ".repeat(100)).expect("a file");
    });
}

#[test]
fn misspelt_service_key_is_refused() {
    for (text, key, meant) in [
        ("[services.catalgo]\nlisten = '127.0.0.1:0'", "services.catalgo.listen", "services.catalog.listen"),
        (
            "[services.catalog]\ndatabase = 'x'",
            "services.catalog.database",
            "its keys are services.catalog.database.connections",
        ),
    ] {
        refuses_with(&["mesh.toml", &format!("`{key}`"), meant], &[FREE], mesh_toml(text));
    }
    let mysql = "[services.catalog]\ndatabase_url = 'mysql://x'";
    refuses_with(&["mesh.toml", "services.catalog.database_url", "postgres://"], &[FREE], mesh_toml(mysql));
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn readiness_follows_the_database() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(mut postgres) = Postgres::start() else { return };
    let url = postgres.database("catalog");
    let process = Process::start("monolith", &[("MESH__SERVICES__CATALOG__DATABASE_URL", &url)]);
    let grpcurl = process.grpcurl();
    let title = create(&grpcurl, "Metropolis");
    let get = json!({"title_id": title["titleId"]});
    let status = |service: &str| {
        let answer = grpcurl.call("grpc.health.v1.Health/Check", &json!({"service": service}));
        answer.json()["status"].as_str().expect("a status").to_owned()
    };

    postgres.stop();
    for service in ["catalog.v1.CatalogService", ""] {
        eventually("not serving", || (status(service) == "NOT_SERVING").then_some(()));
    }
    assert!(process.http("/readyz").starts_with("HTTP/1.1 503"));
    assert!(process.http("/healthz").starts_with("HTTP/1.1 200"), "the process is alive");
    let answer = grpcurl.call("catalog.v1.CatalogService/GetTitle", &get);
    assert_eq!(answer.failure(), ("Unavailable".to_owned(), "DATABASE_UNAVAILABLE".to_owned()));
    assert!(!answer.message().contains("127.0.0.1"), "internals: {}", answer.message());

    postgres.restart();
    for service in ["catalog.v1.CatalogService", ""] {
        eventually("serving again", || (status(service) == "SERVING").then_some(()));
    }
    assert_eq!(grpcurl.call("catalog.v1.CatalogService/GetTitle", &get).json()["title"], title);
}

#[test]
fn kill_loses_no_acknowledged_write() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let title = create(&process.grpcurl(), "Metropolis");
    let again = Process::start_in(process.kill(), "monolith", &[]);
    let read = call(&again.grpcurl(), "GetTitle", &json!({"title_id": title["titleId"]}));
    assert_eq!(read["title"], title);
}
