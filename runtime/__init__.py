"""Everything that needs no Pulumi: the domain, what is rendered from it, and what operates the platform."""
