"""The collections that have a name: what they are, what of them is open, and when that was last looked at."""

import argparse


def main(options: argparse.Namespace) -> int:
    """Prints a table of them. Raises QueryError: one of the files is damaged."""
    from rich.console import Console
    from rich.table import Table

    from components.query import collections

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    table = Table(box=None, title="Collections by name: source=NAME", title_justify="left")
    for heading in ("name", "whose", "works", "open images", "labels worth learning", "documentation read", "needs"):
        table.add_column(heading, justify="right" if heading == "works" else "left", overflow="fold")
    for name in collections.names():
        found = collections.load(name)
        rights = f"none: {found.forbids}" if found.forbids else found.license
        checked, labels = found.checked.partition(":")[0], ", ".join(found.labels)
        table.add_row(name, found.title, f"{found.works:,}", rights, labels, checked, found.key)
    console.print(table)
    advice = (
        "Look at one with `attributes source=NAME`, learn with `run source=NAME label=...`; a file of your own is\n"
    )
    console.print(f"\n{advice}source=./mine.toml, as docs/query.md says.", highlight=False)
    return 0
