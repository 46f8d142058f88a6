#!/bin/sh
# web.sh STAMP: the pages in pbx/http/static/ from their sources in web/; touches STAMP when built.
# Without npm the PBX runs all the same: "/" then says how to build them.
set -eu
stamp=$1
cd "$(dirname "$0")/.."

command -v npm >/dev/null 2>&1 || sh tools/debian.sh run
if ! command -v npm >/dev/null 2>&1; then
    echo "npm is not installed: the web phone is not built" >&2
    exit 0
fi

install() {
    for pause in 5 15 0; do
        # No scripts of packages: none of them is needed.
        npm --prefix web ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2 && return
        [ "$pause" = 0 ] || { echo "again in $pause seconds: npm ci" >&2; sleep "$pause"; }
    done
    return 1
}

if ! install; then
    echo "the packages of web/ could not be fetched: the web phone is not built" >&2
    exit 0
fi
npm --prefix web run --silent check
npm --prefix web run --silent build
touch "$stamp"
