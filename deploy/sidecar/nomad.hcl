# A program in another language with its sidecar, as a job of Nomad. Untested: no Nomad was at hand.
job "recommendations" {
  group "recommendations" {
    count = 2

    network {
      mode = "bridge"
      port "grpc" { to = 50051 }
      port "admin" { to = 9901 }
    }

    task "sidecar" {
      # It starts before the program, and ends after it.
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }
      driver       = "docker"
      kill_timeout = "20s"
      config {
        image = "registry.example/sidecar:0.1.0"
        ports = ["grpc", "admin"]
      }
      env {
        MESH__SIDECAR__SERVICE  = "recommendations"
        MESH__SIDECAR__APP      = "127.0.0.1:9000"
        MESH__SIDECAR__OUTBOUND = "127.0.0.1:7000"
        MESH__LISTEN            = "0.0.0.0:50051"
        MESH__ADMIN__LISTEN     = "0.0.0.0:9901"
        MESH__REGISTRY          = "consul://${attr.unique.network.ip-address}:8500"
        MESH__ADVERTISE         = "${NOMAD_ADDR_grpc}"
        MESH__TLS__MODE         = "plaintext"
      }
    }

    task "app" {
      driver = "docker"
      config {
        image = "registry.example/recommendations:0.1.0"
      }
      env {
        SIDECAR_APP      = "127.0.0.1:9000"
        SIDECAR_OUTBOUND = "127.0.0.1:7000"
      }
    }
  }
}
