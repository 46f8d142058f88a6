#!/bin/sh
# virtualenv.sh FOLDER PACKAGE: the virtualenv with PACKAGE installed for development.
#
# PYTHON names the interpreter. Otherwise the system's own comes first: distributions build theirs
# with profile-guided optimisation, which a PBX feels (docs/performance.md).
set -eu
venv=$1
package=$2

find_python() {
    for name in ${PYTHON:-/usr/bin/python3 python3 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "Python 3.11 or later that can make a virtualenv is needed" \
        "(Debian 12: apt-get install python3-venv)" >&2
    return 1
}

retry() {
    for pause in 5 15 0; do
        "$@" && return
        [ "$pause" = 0 ] || { echo "again in $pause seconds: $*" >&2; sleep "$pause"; }
    done
    return 1
}

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    sh "$(dirname "$0")/debian.sh" run
    python=$(find_python)
    "$python" -m venv "$venv"
fi
# Never compiled: an extension module in the checkout would hide later edits.
unset PBX_MYPYC
# "compat": edits take effect at once, and twistd finds the plug-in from any folder.
retry "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --editable "$package" --config-settings editable_mode=compat
# Twisted keeps a list of plug-ins: write it now, the folder may be read-only later.
"$venv/bin/python" -c 'from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))'
