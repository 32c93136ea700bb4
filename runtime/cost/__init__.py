"""What a stack costs, resource by resource: floor, expected and ceiling, and what has no price."""
