"""Names as collections have them, made fit for where they are shown: a terminal, a page, a plot, a template."""

import re

# What a terminal, XML or a bidirectional text takes for a command: C0 and C1 controls, embeddings, overrides, isolates.
# Joiners stay, for the scripts that need them.
_COMMANDS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def spelt(text: str) -> str:
    r"""`text` with control characters written out, as `\x1b` and `\u202e`; blanks and line ends stay."""
    return _COMMANDS.sub(lambda match: ascii(match[0])[1:-1], text)


def one_line(text: str) -> str:
    """`spelt`, on one line, with one blank between words."""
    return spelt(" ".join(text.split()))


def plot_text(text: str, length: int = 24) -> str:
    """`text` as matplotlib draws it as it is, cut to `length` characters.

    Two $ would begin a formula, and a legend leaves out what begins with _.
    """
    text = one_line(text)
    text = f" {text}" if text.startswith("_") else text
    text = text if len(text) <= length else text[: length - 1].rstrip() + "…"
    return text.replace("$", r"\$")


def no_placeholder(text: str) -> str:
    """`text` without `{{`: Kubeflow replaces what follows it, also in what is only passed along, and breaks JSON."""
    while "{{" in text:
        text = text.replace("{{", "{ {")
    return text
