"""What tests share stands where all find it: in tests/expect.py, in a conftest.py, or in a module beside them."""

import ast

from tests.readmes import ROOT


def test_no_test_imports_another() -> None:
    for file in (ROOT / "tests").rglob("*.py"):
        for statement in ast.walk(ast.parse(file.read_text())):
            if isinstance(statement, ast.ImportFrom | ast.Import):
                module = getattr(statement, "module", None) or ""
                names = [module, *(f"{module}.{alias.name}" for alias in statement.names)]
                assert not any(part.startswith("test_") for name in names for part in name.split(".")), (
                    f"{file}:{statement.lineno}"
                )
