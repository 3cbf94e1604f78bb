# What the token of an artwork process may do.

# Register its own instances, and take them out again; nobody else's.
service "artwork" {
  policy = "write"
}

# Find whom it calls. Which services that are is no secret inside a mesh.
service_prefix "" {
  policy = "read"
}

# See where they are: discovery leaves out instances whose node may not be read, and does not say so.
node_prefix "" {
  policy = "read"
}
