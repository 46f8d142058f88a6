"""Packages, dependencies and the twistd plug-in; with PBX_MYPYC=1 the modules that are compiled."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

#: What a message passes on its way. No zope interface is defined in these modules, and nobody
#: patches or subclasses their classes.
COMPILED = [
    "pbx/events.py",
    "pbx/management/trace/recorder.py",
    *(f"pbx/proxy/{name}.py" for name in ("answered", "branch", "core", "coroutines", "forward")),
    *("pbx/proxy/relay.py", "pbx/proxy/replies.py"),
    *(f"pbx/services/accounting/{name}.py" for name in ("legs", "service")),
    *(f"pbx/services/authenticator/{name}.py" for name in ("accounts", "service")),
    *(f"pbx/services/dialogs/{name}.py" for name in ("call", "connections", "requests", "rows")),
    *(f"pbx/services/dialogs/{name}.py" for name in ("service", "store", "table", "validate")),
    "pbx/services/domains.py",
    *(f"pbx/services/load_balancer/{name}.py" for name in ("destinations", "service")),
    *(f"pbx/services/registrar/{name}.py" for name in ("answer", "registrar", "registration")),
    "pbx/services/registrar/save.py",
    "pbx/sip/*.py",
    "pbx/storage/write_behind.py",
    "pbx/timing.py",
    "pbx/transaction/*.py",
    *(f"pbx/transport/{name}.py" for name in ("delivery", "flows", "locate", "udp")),
    "pbx/verdicts.py",
]
#: Class attributes of exceptions have no place in a compiled class; settings gain nothing.
INTERPRETED = [
    "pbx/sip/errors.py",
    "pbx/transaction/nobody.py",
    "pbx/transaction/timers.py",
]
#: Flags of gcc for a build that counts which ways are taken, and for one that knows it.
PROFILE = {"generate": ["-fprofile-generate"], "use": ["-fprofile-use", "-Wno-missing-profile"]}
PROCESSORS = os.cpu_count() or 1
MYPYC = ["mypy>=2.4.1"] if os.environ.get("PBX_MYPYC") == "1" else []


def compiled() -> Sequence[Extension]:
    """The extension modules; none in the first round of an isolated build, which asks for mypy."""
    if not MYPYC:
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:
        return []
    found = [str(path) for pattern in COMPILED for path in sorted(Path().glob(pattern))]
    modules = [path for path in found if path not in INTERPRETED]
    options = ["--config-file=mypyc.ini", *modules]
    made = mypycify(options, opt_level="2", debug_level="0", multi_file=True)
    extensions = cast(Sequence[Extension], made)
    flags = PROFILE.get(os.environ.get("PBX_PROFILE", ""), [])
    for extension in extensions:
        extension.extra_compile_args += flags
        extension.extra_link_args += flags
    return extensions


class ParallelBuild(build_ext):
    """Compiles as many files at a time as there are processors."""

    def finalize_options(self) -> None:
        """Extensions side by side, too."""
        super().finalize_options()
        self.parallel = PROCESSORS

    def build_extensions(self) -> None:
        """As always, but for what compiles the files of one extension."""
        one_after_the_other = self.compiler.compile

        def side_by_side(sources: Sequence[str], **options: object) -> list[str]:
            with ThreadPoolExecutor(PROCESSORS) as pool:
                made = pool.map(lambda source: one_after_the_other([source], **options), sources)
                return [name for names in made for name in names]

        self.compiler.compile = side_by_side
        super().build_extensions()


setup(
    name="pbx",
    version="0.1.0",
    description="A SIP PBX in one process: registrar, proxy, presence, messages, management",
    long_description=Path("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=[*find_packages(include=["pbx", "pbx.*", "plugins"]), "twisted.plugins"],
    package_data={
        "pbx": ["py.typed"],
        "pbx.http": ["console/*", "static/*", "static/assets/*"],
        "pbx.storage": ["schema/*.sql", "schema/*/*.sql"],
        "twisted.plugins": ["pbx_plugin.py"],
    },
    zip_safe=False,
    ext_modules=compiled(),
    cmdclass={"build_ext": ParallelBuild},
    setup_requires=MYPYC,
    entry_points={"console_scripts": ["pbxctl = pbx.ctl.main:main"]},
    install_requires=[
        "Twisted[tls]>=26.10",
        "zope.interface>=8.7",
        "pyOpenSSL>=26.4",
        "cryptography>=50.0.2",
        "defusedxml>=0.7.1",
        "lxml>=6.1",
        "service-identity>=26.1",
        "autobahn>=26.10.2",
        "txpostgres>=1.7",
        "psycopg2-binary>=2.9.13",
        "txredisapi>=1.6",
        "pylibsrtp>=1.0",
        "prometheus-client>=0.26",
    ],
    extras_require={
        "rtpproxy": ["rtp.io>=1.1.1"],
        "test": [
            "hypothesis>=6.170",
            "import-linter>=2.16",
            "mypy>=2.4.1",
            "mypy-zope>=1.0.17",
            "opensipscli>=0.4.1",
            "pjsua2-python>=2.15.1",
            "playwright>=1.65",
            "rtp.io>=1.1.1",
            "ruff>=0.17.6",
            # opensipscli asks it for psycopg2, the default driver up to here.
            "SQLAlchemy>=2.0,<2.1",
            "types-cffi>=2.1",
            "types-defusedxml>=0.7",
            "types-lxml>=2026.2.16",
            "types-psycopg2>=2.9.21",
            "types-pyOpenSSL>=24.1",
            "types-setuptools>=84.2",
            "websockets>=17.4",
        ],
    },
)
