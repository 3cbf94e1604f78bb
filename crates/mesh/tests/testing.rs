//! The mesh of a test does not depend on the project around it.

use mesh::Service;
use mesh::testing::Mesh;

#[tokio::test]
async fn testing_reads_no_configuration_of_the_current_folder() {
    let project = tempfile::tempdir().unwrap();
    // The service of the test is the only one that it knows.
    std::fs::write(project.path().join("mesh.toml"), "auth.vouchers = 'gateway, tv'\nunknown = 1\n").unwrap();
    std::env::set_current_dir(project.path()).unwrap();
    let mesh = Mesh::start(Service::new("alone", &[])).await;
    assert!(mesh.url().starts_with("http://127.0.0.1:"));
}
