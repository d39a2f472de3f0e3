"""The records of a JSON file, counted without the reader that loads them."""

import re

_BLOCK = 4 << 20
# A string, which may go on behind the block, and what opens and closes values.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)


def count_records(path: str) -> int:
    """Objects at the top of the file, or in the array that it is: one per line, one behind the other, or listed."""
    depth = records = 0
    wanted = None
    rest = b""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            block = rest + block
            rest = b""
            for match in _TOKEN.finditer(block):
                token = match[0]
                if token[:1] == b'"':
                    if match.end() == len(block) and (len(token) == 1 or not _is_closed(token)):
                        rest = token
                elif token in b"[{":
                    if wanted is None:
                        wanted = int(token == b"[")
                    records += token == b"{" and depth == wanted
                    depth += 1
                else:
                    depth -= 1
    return records


def _is_closed(token: bytes) -> bool:
    body = token[1:-1]
    backslashes = len(body) - len(body.rstrip(b"\\"))
    return token.endswith(b'"') and backslashes % 2 == 0
