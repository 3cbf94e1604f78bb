# The rights of an operator's token, and of tools: read everything, change nothing. The `mesh` command needs no more.

service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}

# Read an agent's own checks: the catalog gets the output of a check only now and then.
agent_prefix "" {
  policy = "read"
}
