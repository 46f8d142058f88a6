"""What a command says of itself: the docstring of its function."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from pathlib import Path


def described(function: Callable[..., object]) -> str:
    """On one line, "" when it says nothing. Compiled functions have left their docstrings in the
    source beside them.
    """
    return " ".join((inspect.getdoc(function) or _in_source(function)).split())


def _in_source(function: Callable[..., object]) -> str:
    module = sys.modules.get(type(getattr(function, "__self__", None)).__module__)
    name = getattr(function, "__qualname__", "")
    # As in registrar.cpython-311-x86_64-linux-gnu.so.
    file = Path(getattr(module, "__file__", None) or "")
    try:
        tree = ast.parse(file.with_name(f"{file.name.partition('.')[0]}.py").read_bytes())
    except (OSError, ValueError, SyntaxError):
        return ""
    methods = (
        (kind.name, made)
        for kind in tree.body
        if isinstance(kind, ast.ClassDef)
        for made in kind.body
        if isinstance(made, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    for kind, made in methods:
        if name == f"{kind}.{made.name}":
            return ast.get_docstring(made) or ""
    return ""
