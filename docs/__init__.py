"""What `make docs` writes the generated pages with; nothing that runs imports it."""
