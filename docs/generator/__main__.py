"""`make docs`: writes every generated page anew and names those that changed."""

from docs.generator.pages import DOCS, write

for path in write(DOCS):
    print(f"{'wrote' if path.is_file() else 'removed'} {path.relative_to(DOCS.parent)}")
