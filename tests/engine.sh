#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Runs a command with a Docker Engine of its own:
#
#     tests/engine.sh [--base-image] COMMAND…     tests/engine.sh --base-image pytest -m engine
#
# For root on a Debian 12 machine without an engine, such as a privileged CI container. The engine lives
# in a temporary folder, on its own network bridge, and is gone when the command ends. Missing packages
# are installed and stay.
#
# `--base-image` makes a stand-in for the image that server/Dockerfile builds on, under its name: this
# machine's Debian with Python and uv. A build then needs no image registry.
set -euo pipefail

base_image=
if [[ ${1-} == --base-image ]]; then
    base_image=$(sed -n 's/^ARG BASE_IMAGE=//p' "$(dirname "$0")/../server/Dockerfile")
    shift
fi
(($# > 0)) || { sed -n '4,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }

fail() {
    echo "engine.sh: $*" >&2
    test ! -s "${folder-}/dockerd.log" || tail -n 20 "$folder/dockerd.log" >&2
    exit 1
}

((EUID == 0)) || fail "starting a Docker Engine takes root"

# In memory, where there is room for a few images: that halves the time of the slow steps.
room_kb=$(df --output=avail /dev/shm 2>/dev/null | tail -n 1 || true)
if ((${room_kb:-0} > 4000000)); then
    folder=$(mktemp -d -p /dev/shm engine.XXXXXX)
else
    folder=$(mktemp -d -t engine.XXXXXX)
fi
bridge=engine$((BASHPID % 100000))
subnet=172.$((16 + RANDOM % 16)).$((RANDOM % 256)).0/24
undo_rules=()
daemon_pid=

tear_down() {
    local pid container
    trap - EXIT
    trap '' INT TERM HUP
    set +e
    for container in $(timeout 10 docker ps --all --quiet 2>/dev/null); do
        docker rm --force --volumes "$container" >/dev/null
    done
    # The daemon stops containerd, unless it was killed.
    for pid in $daemon_pid $(cat "$folder"/exec/containerd/containerd.pid 2>/dev/null); do
        kill "$pid" 2>/dev/null
        timeout 20 tail --pid="$pid" -f /dev/null || kill -KILL "$pid" 2>/dev/null
    done
    for rule in "${undo_rules[@]}"; do
        $rule
    done
    ip link delete "$bridge" 2>/dev/null
    umount "$folder"/exec/netns/* 2>/dev/null
    rm -rf "$folder"
}
trap tear_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$folder/apt.log" 2>&1 \
        || { tail "$folder/apt.log" >&2; fail "apt-get $1 failed"; }
}

# command:package; the package is installed when the command is missing
needs=(/usr/sbin/dockerd:docker.io ip:iproute2 iptables:iptables setsid:util-linux)
test -z "$base_image" || needs+=(mmdebstrap:mmdebstrap docker-registry:docker-registry)
missing=()
for needed in "${needs[@]}"; do
    command -v "${needed%:*}" >/dev/null || missing+=("${needed#*:}")
done
if ((${#missing[@]})); then
    echo "engine.sh: installing ${missing[*]}" >&2
    apt update
    apt install --yes --no-install-recommends "${missing[@]}"
fi

# The daemon's own rules would disturb another engine on this machine, and would stay behind.
accept() {
    iptables "$@"
    undo_rules+=("iptables $(sed -E 's/-(I|A) /-D /' <<<"$*")")
}
# A bridge without an address takes that of one of its ports, and another one as containers come and
# go. What the others send to the old address is then lost for up to a minute.
ip link add "$bridge" address 02:00:00:00:00:01 type bridge
ip addr add "${subnet%.0/24}.1/24" dev "$bridge"
ip link set "$bridge" up
accept -t nat -A POSTROUTING -s "$subnet" ! -o "$bridge" -j MASQUERADE
accept -I FORWARD -i "$bridge" -j ACCEPT
accept -I FORWARD -o "$bridge" -j ACCEPT

# A newer client without BuildKit's plugin may come first in PATH. Debian's fits its daemon.
mkdir "$folder/bin" "$folder/config"
ln -s /usr/bin/docker "$folder/bin/docker"
export PATH="$folder/bin:$PATH" DOCKER_HOST="unix://$folder/docker.sock"
export DOCKER_CONFIG="$folder/config" DOCKER_BUILDKIT=1
unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH

setsid dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
    --host "$DOCKER_HOST" --bridge "$bridge" --iptables=false --ip6tables=false \
    </dev/null >"$folder/dockerd.log" 2>&1 &
daemon_pid=$!
disown

for ((tries = 0; tries < 300; tries++)); do
    kill -0 "$daemon_pid" 2>/dev/null || fail "dockerd ended"
    docker version >/dev/null 2>&1 && break
    sleep 0.2
done
docker version >/dev/null 2>&1 || fail "dockerd does not answer after 60 s"

# A build uses this machine's Debian sources and its bundle of CA certificates.
debian_sources() {
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian'
}
make_base_image() {
    local uv bundle=/etc/ssl/certs/ca-certificates.crt
    uv=${UV:-$(uv run --no-project printenv UV)} || fail "--base-image needs uv: pip install uv"
    test -n "$(debian_sources)" || apt update
    debian_sources | mmdebstrap --quiet --mode=root --variant=minbase \
        --include=python3,ca-certificates \
        --customize-hook="upload '$uv' /usr/local/bin/uv" \
        --customize-hook='chmod 755 "$1/usr/local/bin/uv"' \
        --customize-hook="upload '${SSL_CERT_FILE:-${PIP_CERT:-$bundle}}' $bundle" \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" - - 2>"$folder/base.log" \
        | docker import --change "ENV SSL_CERT_FILE=$bundle" - "$base_image" >/dev/null \
        || { tail "$folder/base.log" >&2; fail "cannot make $base_image"; }
}
if [[ -n $base_image ]]; then
    started=$SECONDS
    make_base_image
    echo "engine.sh: made $base_image in $((SECONDS - started)) s" >&2
fi

# As a job: Ctrl-C and signals to this script reach the command at once.
pass_on() {
    kill -s "$1" -- "-$command_pid" 2>/dev/null
    wait "$command_pid" || exit $?
}
set -m
"$@" &
command_pid=$!
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM HUP
wait "$command_pid"
