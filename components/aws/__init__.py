"""Pulumi components of the AWS side: network, link, cluster, nodes, storage, entrance, budget."""
