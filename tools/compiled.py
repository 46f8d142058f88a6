"""The compiled build: pure modules of the PBX as C, made by mypyc in a folder of its own.

The checkout stays as it is: sources are copied, built elsewhere and installed into FOLDER, which
goes before everything else on the path of who wants it.

It is built twice. The first build counts which ways the operations of `bench.driver` take; the
second puts those together and the others, the errors above all, out of the way.

    compiled.py build FOLDER     make or refresh it; says which build there is; status 1: none
    compiled.py trial ARGUMENTS  the tests of a checkout on a compiled build of it
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
#: What a package is made of.
PACKAGED = ("setup.py", "pyproject.toml", "mypyc.ini", "README.md", "pbx", "plugins", "twisted")
#: What the tests need of a checkout beside the package.
BESIDE = ("tests", "etc", "bench", "tools", "docs", "newsfragments")
STAMP = ".built-from"
#: Twisted writes down what it found, in the folders of the plugins.
FIND_PLUGINS = """
from twisted.plugin import getCache
import plugins, twisted.plugins
getCache(plugins)
getCache(twisted.plugins)
"""
#: The operations of a PBX, often enough to tell ways that are taken from those that are not.
TRAIN = """
from bench.driver import driver
with driver(users=1000) as made:
    for operation in made.operations().values():
        for _ in range(300):
            operation()
"""
#: Seconds for each step; one processor takes some 150 for the longest.
LIMIT = 900


def lacking() -> str:
    """Why nothing can be compiled here, "" when it can."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    if shutil.which(str(compiler).split()[0]) is None:
        return "no C compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "no Python.h (Debian: apt-get install python3-dev)"
    return ""


def sources() -> Iterable[Path]:
    """The files of the package."""
    for name in PACKAGED:
        path = ROOT / name
        if path.is_dir():
            yield from sorted(
                found
                for found in path.rglob("*")
                if found.is_file() and found.suffix not in (".pyc", ".so", ".cache")
            )
        else:
            yield path


def fingerprint() -> str:
    """Changes with any source and with the Python."""
    made = hashlib.sha256(sys.version.encode())
    for path in sources():
        made.update(f"{path.relative_to(ROOT)}\0".encode())
        made.update(path.read_bytes())
    return made.hexdigest()


def build(folder: Path, must_count: bool = False) -> str:
    """Make ``folder`` the compiled build of this checkout; why it could not be, "" when it is.
    With ``must_count`` one without counts is none.
    """
    why = lacking()
    if why:
        return why
    known = fingerprint()
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text() == known:
        return ""
    print(
        "compiling, once for each change of the sources; this takes minutes ...",
        file=sys.stderr,
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="pbx-build-") as scratch:
        copy = Path(scratch, "source")
        for path in sources():
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        fresh = Path(scratch, "site")
        fault = _install(copy, fresh, Path(scratch, "log"), must_count)
        if fault:
            return fault
        (fresh / STAMP).write_text(known)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(fresh, folder)
    return ""


def _install(source: Path, target: Path, log: Path, must_count: bool) -> str:
    """Compile and put everything into ``target``; what went wrong, "" for nothing."""
    tools = source.parent / "tools"
    with log.open("w") as output:
        run = partial(_run, source, output)
        make = partial(_made, partial(run, (tools,)), source.parent / "objects")
        if not all(map(importlib.util.find_spec, ("mypyc", "setuptools"))):
            # make run has no use for them but this one.
            pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            fault = run((), *pip, "--target", str(tools), "setuptools>=68", "mypy>=2.4.1")
            if fault:
                return fault + log.read_text("utf-8", "replace")
        counting = source.parent / "counting"
        # Other compilers keep their counts in other ways, and only checkouts can be trained.
        trained = not (make(counting, "generate") or run((counting, ROOT), "-P", "-c", TRAIN))
        trained = trained and not make(target, "use")
        if must_count and not trained:
            return "there are no counts\n" + log.read_text("utf-8", "replace")
        fault = "" if trained else make(target, "")
        # Otherwise the first start would load every plugin to find out which there are.
        fault = fault or run((target,), "-P", "-c", FIND_PLUGINS)
    if fault:
        return fault + log.read_text("utf-8", "replace")
    if not trained:
        print("compiled without counts of which ways are taken", file=sys.stderr)
    return "" if any(target.rglob("*.so")) else "nothing was compiled"


def _made(run: Callable[..., str], objects: Path, target: Path, profile: str) -> str:
    """One build; what went wrong. The counts lie beside the objects, in the same place for all."""
    shutil.rmtree(target, ignore_errors=True)
    for known in objects.rglob("*.o"):
        known.unlink()
    setup = ("setup.py", "--quiet", "build", "--build-base", str(objects))
    return run(*setup, "--build-lib", str(target), PBX_MYPYC="1", PBX_PROFILE=profile)


def _run(folder: Path, output: IO[str], path: Sequence[Path], *words: str, **more: str) -> str:
    """Python with that path; what went wrong, a line, "" for nothing."""
    more["PYTHONPATH"] = os.pathsep.join(map(str, path))
    try:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env={**os.environ, **more},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"python {words[0]} {words[1]} took more than {LIMIT} seconds\n"
    return f"python {words[0]} {words[1]}: status {done.returncode}\n" if done.returncode else ""


def environment(folder: Path, *more: Path) -> Mapping[str, str]:
    """The environment in which that build comes first."""
    path = os.pathsep.join(map(str, (folder, *more)))
    return {**os.environ, "PYTHONPATH": path}


def trial(arguments: Sequence[str]) -> int:
    """The tests, in a folder where no other PBX is; the exit status of trial."""
    why = lacking()
    if why:
        # In the words of trial, for who counts.
        print(f"[SKIPPED]\n{why}\n\ncompiled\n{'-' * 79}\nRan 1 tests in 0s\n\nPASSED (skips=1)")
        return 0
    with tempfile.TemporaryDirectory(prefix="pbx-compiled-") as scratch:
        site, checkout = Path(scratch, "site"), Path(scratch, "checkout")
        fault = build(site, must_count=True)
        if fault:
            print(f"the compiled build failed:\n{fault}")
            return 1
        checkout.mkdir()
        for name in BESIDE:
            (checkout / name).symlink_to(ROOT / name)
        command = [str(Path(sys.executable).parent / "trial"), *arguments]
        done = subprocess.run(
            command,
            cwd=checkout,
            # A test asks the PBX which build it is.
            env={**environment(site, checkout), "PBX_BUILD": "compiled"},
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode


def main(arguments: Sequence[str]) -> int:
    """See above."""
    if len(arguments) == 2 and arguments[0] == "build":
        folder = Path(arguments[1]).resolve()
        why = build(folder)
        if why:
            if "\n" in why:
                log = folder.with_suffix(".log")
                log.write_text(why)
                why = f"compiling failed, see {log}"
            print(f"build: pure Python ({why})", file=sys.stderr)
            return 1
        print("build: compiled", file=sys.stderr)
        return 0
    if arguments and arguments[0] == "trial":
        return trial(arguments[1:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
