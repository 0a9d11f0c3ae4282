"""The READMEs of all rooms, and what in them is run.

A block is run by test_readme_commands.py, unless a comment stands before it:

    <!-- run: NAME -->         another test runs it, on another stage, and gets it by block("NAME")
    <!-- not run: REASON -->   no test can
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / name
    for name in (
        "README.md",
        "sql/README.md",
        "service/README.md",
        "migrations/README.md",
        "tests/README.md",
        "tests/bench/README.md",
    )
]
FENCE = re.compile(r"^(?:<!-- (run|not run): ([^\n]*) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text() -> str:
    """All pages, one after the other."""
    return "\n".join(page.read_text() for page in PAGES)


def block(name: str) -> str:
    """The block that is marked with this name."""
    (found,) = [body for how, mark, _, body in FENCE.findall(text()) if (how, mark) == ("run", name)]
    return found


def in_a_sentence(begin: str) -> str:
    """The command that begins so and stands in a sentence."""
    (found,) = set(re.findall(rf"`({re.escape(begin)}[^`\n]*)`", text()))
    return found
