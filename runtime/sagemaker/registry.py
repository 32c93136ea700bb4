"""The names of the model registry: a group for each served model, a version for each decision about it."""


def package_group_name(platform: str, served: str) -> str:
    """The registry's name of a served model: letters, digits and '-', 63 at most."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in served).strip("-")
    return f"{platform}-{plain}"[:63].rstrip("-")
