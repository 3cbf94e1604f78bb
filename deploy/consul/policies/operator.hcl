# What the token of people and their tools may do: look, and change nothing. The `mesh` command needs no more.

service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}

# Ask an agent what its own probes have said last: others learn the words of a check only now and then.
agent_prefix "" {
  policy = "read"
}
