# shellcheck shell=bash
# Sourced by demo, test and check: what they need, made on a fresh machine and kept afterwards.
#
# Leaves the repository's folder in $root and its environment first in PATH.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

say() { printf '%s\n' "$*" >&2; }

# Debian's packages are installed where that is allowed; elsewhere the reader is told.
install_debian() {
    local packages=("$@") as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo -n)
        sudo -n true 2>/dev/null || as_root=()
    fi
    if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || [ ${#as_root[@]} -gt 0 ]; }; then
        say "installing ${packages[*]}"
        if { "${as_root[@]}" apt-get update -qq \
            && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >&2; then
            return 0
        fi
    fi
    say "please install (names as on Debian): ${packages[*]}"
    return 1
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null \
            && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            command -v "$candidate"
            return 0
        fi
    done
    say "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3"
    return 1
}

environment_stamp() {
    {
        printf '%s\n' "$root" "$1"
        "$1" --version
        cat "$root/pyproject.toml" "$root/constraints.txt"
    } | sha256sum
}

# The environment is made anew when what it is made from has changed. The lock, on a file that
# is always there, keeps two scripts that start together from making it twice.
prepare_environment() {
    local python venv="$root/.venv" wanted
    python=$(find_python)
    wanted=$(environment_stamp "$python")
    exec 9<"${BASH_SOURCE[0]}"
    flock 9
    if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$wanted" ]; then
        say "making $venv (once, and when pyproject.toml or constraints.txt change)"
        "$python" -c 'import ensurepip' 2>/dev/null || install_debian python3-venv
        "$python" -m venv --clear "$venv"
        "$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
        (cd "$root" && .venv/bin/python -m pip install --quiet \
            --constraint constraints.txt --editable '.[all]' --group dev)
        printf '%s\n' "$wanted" >"$venv/stamp"
    fi
    exec 9<&-
    export VIRTUAL_ENV="$venv" PATH="$venv/bin:$PATH"
    unset PYTHONHOME PYTHONPATH
}

# Debian keeps it where only root's PATH looks.
has_mosquitto() { PATH="$PATH:/usr/sbin" command -v mosquitto >/dev/null; }

prepare_broker() { has_mosquitto || install_debian mosquitto || true; }

# Servers, brokers and clients that others wrote, which the drivers are tested against.
prepare_foreign_servers() {
    local missing=() manifest
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
    command -v make >/dev/null || missing+=(make)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    [ -e /usr/include/modbus/modbus.h ] || missing+=(libmodbus-dev)
    has_mosquitto || missing+=(mosquitto)
    command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
    [ ${#missing[@]} -eq 0 ] || install_debian "${missing[@]}" || true
    prepare_engine victoria-metrics
    prepare_engine prometheus

    for manifest in "$root"/tests/integration/*/package.json; do
        prepare_npm_packages "${manifest%/*}"
    done
}

# An engine that takes telemetry: the program alone. Debian would also run it as a service.
prepare_engine() {
    ! command -v "$1" >/dev/null || return 0
    install_debian "$1" || return 0
    [ -d /run/systemd/system ] || return 0
    if [ "$(id -u)" -eq 0 ]; then
        systemctl disable --quiet --now "$1" >&2 || true
    else
        sudo -n systemctl disable --quiet --now "$1" >&2 || true
    fi
}

# Those of one folder, made anew when its package.json has changed.
prepare_npm_packages() {
    local folder=$1 wanted
    [ -f "$folder/package.json" ] || return 0
    if ! command -v npm >/dev/null; then
        say "please install Node.js with npm: tests in ${folder#"$root/"} need it"
        return 0
    fi
    wanted=$(sha256sum <"$folder/package.json")
    if [ "$(cat "$folder/node_modules/stamp" 2>/dev/null)" != "$wanted" ]; then
        say "installing the npm packages of ${folder#"$root/"}"
        npm install --prefix "$folder" --no-package-lock --no-audit --no-fund --loglevel=error >&2
        printf '%s\n' "$wanted" >"$folder/node_modules/stamp"
    fi
}
