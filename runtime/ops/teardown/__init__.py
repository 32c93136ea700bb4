"""Takes a stack down in the order that leaves nothing behind, and proves by reading that nothing is left."""
