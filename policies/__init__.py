"""Policy packs: rules are pure and importable, __main__ only serves them."""
