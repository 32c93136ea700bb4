"""The burst: how many replicas run in the cloud, decided by pure functions under a cost ceiling."""
