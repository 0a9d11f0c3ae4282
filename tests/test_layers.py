"""Which module may know which: http/ knows nothing of segments, and nothing imports in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / "service").rglob("*.py"))
}


def imports_of(name: str) -> set[str]:
    """The modules of service/ that one imports, wherever in it; for type checking alone does not count."""
    tree = ast.parse(MODULES[name].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found = {
        each
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for each in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    }
    return found & MODULES.keys() - {name, "service"}


def test_http_knows_nothing_of_segments() -> None:
    for name in MODULES:
        if name.startswith("service.http."):
            assert all(each.startswith("service.http") for each in imports_of(name)), name
            text = MODULES[name].read_text()
            for word in ("select ", "slug", "segments", "reader", "editor"):
                assert word not in text, (name, word)


def test_nothing_imports_in_a_circle() -> None:
    # Raises with the circle, if there is one.
    order = list(TopologicalSorter({name: imports_of(name) for name in MODULES}).static_order())
    assert order.index("service.http.problems") < order.index("service.database") < order.index("service.app")
