"""Hosting models on SageMaker endpoints: what a stack file says of them, and what follows from it."""
