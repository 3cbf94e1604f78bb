# What an agent beside the services needs to know besides its cluster. For a file of its own in the agent's
# configuration folder.

# Only this machine asks it. Services of other machines ask their own agent.
client_addr = "127.0.0.1"

# Nobody without a token registers anything or finds anything: what has no policy is denied.
acl {
  enabled        = true
  default_policy = "deny"
  # A service that nobody reached for a while goes on with what it knows; so does the agent with the tokens it knows.
  down_policy = "extend-cache"
}
