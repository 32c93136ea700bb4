"""All generated files of `docs/`, and how they are written."""

from pathlib import Path

from docs.generator import aws_double, components, configuration, policies

DOCS = Path(__file__).parents[1]
# Nothing else may lie in these folders: a page whose subject is gone goes too.
GENERATED_FOLDERS = (components.FOLDER, policies.FOLDER)


def pages() -> dict[str, str]:
    """The text of every generated file, by its path below `docs/`."""
    return {**configuration.files(), **components.files(), **policies.files(), **aws_double.files()}


def write(folder: Path) -> list[Path]:
    """Writes what differs, removes pages without a subject, and returns the paths of both."""
    wanted = {folder / name: text for name, text in pages().items()}
    stale = [
        path for name in GENERATED_FOLDERS for path in sorted((folder / name).glob("*")) if path not in wanted
    ]
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        path.unlink()
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    return [*changed, *stale]
