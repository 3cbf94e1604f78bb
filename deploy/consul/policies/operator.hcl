# What the token of people and their tools may do: look, and change nothing. The `mesh` command needs no more.

service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}
