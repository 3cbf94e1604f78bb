//! Connects over https, with certificates that Consul creates.

use std::process::Command;

use consul_api_client::{Client, Error};

use crate::harness::{Agent, eventually, find_consul, free_ports};

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn tls_verifies_both_sides() {
    let Some(consul) = find_consul() else { return };
    let folder = tempfile::tempdir().unwrap();
    for arguments in [["ca", "create"].as_slice(), &["cert", "create", "-server"], &["cert", "create", "-client"]] {
        let output = Command::new(&consul).arg("tls").args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let settings = r#","ca_file":"consul-agent-ca.pem","cert_file":"dc1-server-consul-0.pem",
        "key_file":"dc1-server-consul-0-key.pem","verify_incoming_https":true"#;
    let [https, serf, server] = free_ports();
    let ports = format!(r#""http":-1,"https":{https},"serf_lan":{serf},"server":{server}"#);
    let url = format!("https://127.0.0.1:{https}");
    let agent = Agent::launch(&consul, folder, &ports, settings, url.clone());
    let file = |name: &str| agent.folder.path().join(name);

    let trusting = Client::builder(&url).ca_file(file("consul-agent-ca.pem"));
    let known = trusting.clone().identity(file("dc1-client-consul-0.pem"), file("dc1-client-consul-0-key.pem"));
    let known = known.build().unwrap();
    eventually("a leader is elected", async || known.status().leader().await.ok().flatten()).await;

    let error = trusting.build().unwrap().status().leader().await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "without a client certificate: {error:?}");
    let error = Client::new(&url).unwrap().status().leader().await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }) && !error.is_transient(), "without the agent's CA: {error:?}");
    let plain = url.replace("https", "http");
    let error = Client::new(plain).unwrap().status().leader().await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 400, .. }), "{error:?}");

    let error = Client::builder(&url).ca_file(file("nowhere.pem")).build().unwrap_err();
    assert!(matches!(&error, Error::Configuration(text) if text.contains("nowhere.pem")), "{error:?}");
    let error = Client::builder(&url).ca_file(file("config.json")).build().unwrap_err();
    assert!(matches!(&error, Error::Configuration(text) if text.contains("no certificate")), "{error:?}");
}
