# The settings of an agent beside the services, besides those of its cluster. For a file of its own in the agent's
# configuration folder.

# The agent serves this machine only. Services of other machines ask their own agent.
client_addr = "127.0.0.1"

# A request without a token is denied, and so is everything that no policy allows.
acl {
  enabled        = true
  default_policy = "deny"
  # While the servers are away, the agent goes on with the tokens it knows.
  down_policy = "extend-cache"
}
