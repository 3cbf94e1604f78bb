# What a sample process tells its agent about itself, as a file: for an agent that is configured by others, with
# `registry = "static"` or `"local"` in the process. A process that registers itself does not need it.

service {
  # Its name, host and port: what starts again where something was killed takes over its entry.
  id      = "sample-127.0.0.1-50055"
  name    = "sample"
  address = "127.0.0.1"
  port    = 50055
  # That it speaks gRPC, and the versions of its contracts.
  tags = ["grpc", "v1"]

  check {
    id   = "sample-127.0.0.1-50055:grpc"
    name = "grpc.health.v1.Health/Check"
    # Behind the slash is whom to ask for: a contract is well if the service is. Without it, the whole process is meant.
    grpc         = "127.0.0.1:50055/sample.v1.SampleService"
    grpc_use_tls = false
    # Killed, it is critical after both of these together.
    interval = "1s"
    timeout  = "1s"
    # The least that Consul allows; it looks twice a minute, so it takes up to half a minute longer.
    deregister_critical_service_after = "1m"
  }
}
