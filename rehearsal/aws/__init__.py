"""The AWS double: moto on loopback with what it lacks, node groups that launch, and a stand-in provider.

Nothing here proves how AWS behaves; docs/rehearsal.md says what it does show.
"""

ACCOUNT = "123456789012"
"""The account that moto answers for, and the only one that a rehearsal knows unless a role is assumed."""
