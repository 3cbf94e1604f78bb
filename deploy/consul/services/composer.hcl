# The service definition that a composer process registers with its agent, as a file. For agents that are configured from
# files, with `registry = "static"` or `"local"` in the process. A process that registers itself does not need the file.

service {
  # Name, host and port: a restarted process replaces the entry of the killed one.
  id      = "composer-127.0.0.1-50055"
  name    = "composer"
  address = "127.0.0.1"
  port    = 50055
  # The protocol, and the versions of the contracts.
  tags = ["grpc", "v1"]

  check {
    id   = "composer-127.0.0.1-50055:grpc"
    name = "grpc.health.v1.Health/Check"
    # The part behind the slash is the contract to check. Without it, the check covers the whole process.
    grpc         = "127.0.0.1:50055/composer.v1.ComposerService"
    grpc_use_tls = false
    # A killed process is critical after at most interval plus timeout.
    interval = "1s"
    timeout  = "1s"
    # The minimum that Consul allows. Consul checks every 30 s, so deregistration may take 30 s longer.
    deregister_critical_service_after = "1m"
  }
}
