"""What operates a platform: drives the Pulumi CLI, checks the endpoint, shows progress."""
