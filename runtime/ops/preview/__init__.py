"""A preview as a comment on a pull request: what it would do, cost, destroy and open."""
