#!/bin/sh
# debian.sh run|test|bench: install the Debian packages whose programs are missing, when root.
set -eu

# purpose:path or program:package
needs='
run:npm:npm
test:npm:npm
test:chromium:chromium
test:firefox-esr:firefox-esr
test:curl:curl
test:turnserver:coturn
test:gcc:gcc
test:/usr/include/stdio.h:libc6-dev
test:/usr/include/python3*/Python.h:python3-dev
test:ip:iproute2
test:nft:nftables
test:rtpengine:rtpengine-daemon
test:svwar:sipvicious
test:promtool:prometheus
test:fail2ban-regex:fail2ban
test:sipp:sip-tester
test:zsh:zsh
test:baresip:baresip-core
test:tshark:tshark
test:redis-server:redis-server
test:/usr/lib/postgresql/*/bin/initdb:postgresql
bench:sipp:sip-tester
bench:redis-server:redis-server
bench:valgrind:valgrind
bench:/usr/lib/x86_64-linux-gnu/kamailio/modules/ndb_redis.so:kamailio-redis-modules
bench:kamailio:kamailio
bench:/usr/lib/x86_64-linux-gnu/kamailio/modules/db_postgres.so:kamailio-postgres-modules
bench:/usr/lib/postgresql/*/bin/initdb:postgresql
'

missing=
for need in $needs; do
    [ "${need%%:*}" = "$1" ] || continue
    rest=${need#*:}
    program=${rest%:*}
    case $program in
        /*) set -- "$1" $program; [ -e "$2" ] && continue ;;
        *) command -v "$program" >/dev/null 2>&1 && continue ;;
    esac
    missing="$missing ${rest##*:}"
done
able='import ensurepip, sys; sys.exit(sys.version_info < (3, 11))'
if [ "$1" = run ] && ! "${PYTHON:-/usr/bin/python3}" -c "$able" 2>/dev/null; then
    missing="$missing python3-venv"
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed:$missing; what needs them is skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# RUNLEVEL=1: packages do not start their services; the tests start their own.
export RUNLEVEL=1
for pause in 5 15 0; do
    # shellcheck disable=SC2086
    apt-get update -qq && apt-get install -qq -y --no-install-recommends $missing >/dev/null \
        && exit 0
    [ "$pause" = 0 ] || { echo "again in $pause seconds: apt-get" >&2; sleep "$pause"; }
done
echo "could not be installed:$missing; what needs them is skipped" >&2
