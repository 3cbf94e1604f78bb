# The rights of a recommendations process's token.

# Register and deregister its own instances only.
service "recommendations" {
  policy = "write"
}

# Discover its peers. Service names are not secret inside a mesh.
service_prefix "" {
  policy = "read"
}

# Read the addresses of instances: discovery silently omits instances whose node may not be read.
node_prefix "" {
  policy = "read"
}
