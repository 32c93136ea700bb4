"""Makes an embedded site an EKS cluster in rehearsal: nodes of node groups, stand-ins of two autoscalers."""
