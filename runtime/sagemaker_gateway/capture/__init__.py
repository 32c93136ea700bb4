"""Masked copies of prompts and answers: made after an answer, in a process of their own, and written to S3.

Nothing here is in the path of a request, and nothing unmasked leaves memory (docs/sagemaker-gateway.md).
"""
