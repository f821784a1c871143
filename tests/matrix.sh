#!/usr/bin/env bash
# Runs the tests on the FFmpeg of other Debian releases, in root filesystems unpacked from Debian's packages.
#
#   tests/matrix.sh [SUITE...]               cargo test in each; default: trixie (FFmpeg 7.1) and forky (9.0)
#   tests/matrix.sh --shell SUITE [CMD...]   run a command in one of them, on this tree; default: bash
#   tests/matrix.sh --bare SUITE [CMD...]    run it as root on a copy of this tree in a fresh, minimal Debian that has
#                                            make and a Rust toolchain and nothing else; default: make test
#
#   TESTS=...   words for cargo test, for instance "--test bits --test plans"; default: all tests
#   ROOTS=dir   where the roots are kept between runs; default: target/matrix
#   BIND=dir    one more directory to show inside, read only, at its own path
#   REPASS_CLIPS=dir   footage, shown inside too; without it the tests that need some are skipped there
#
# Needs root for bind mounts, mmdebstrap, and a Rust toolchain that stands in a directory of its own (rustup's does).
set -euo pipefail

tree=$(cd "$(dirname "$0")/.." && pwd)
roots=${ROOTS:-$tree/target/matrix}

main() {
    case ${1-} in
        '') set -- trixie forky ;;
        --shell | --bare) [ $# -ge 2 ] || usage ;;
        -*) usage ;;
    esac
    [ "$(id -u)" = 0 ] || die 'needs root, for bind mounts'
    for tool in mmdebstrap unshare cargo rustc make git; do
        command -v $tool >/dev/null || die "needs $tool"
    done
    mkdir -p "$roots"
    case $1 in
        --shell) shell "${@:2}" ;;
        --bare) bare "${@:2}" ;;
        *) matrix "$@" ;;
    esac
}

matrix() {
    local suite start verdict summary='' failed=0
    for suite; do
        start=$SECONDS verdict=passed
        # shellcheck disable=SC2086 # words
        shell "$suite" cargo test --locked --no-fail-fast --features vmaf ${TESTS-} || verdict=FAILED failed=1
        summary+="$suite: $(shell "$suite" ffmpeg -version | head -1 | cut -d' ' -f1-3), $verdict in $((SECONDS - start)) s"$'\n'
    done
    printf '\n%s' "$summary"
    return $failed
}

# A command in the suite's root, on this very tree. What is built there stays apart, in target/matrix-SUITE.
shell() {
    local suite=$1 root=$roots/$1
    local src=$tree registry=${CARGO_HOME:-$HOME/.cargo}/registry
    shift
    [ $# -gt 0 ] || set -- bash
    unpack "$suite" "$root" "$(make --no-print-directory -C "$tree" debian-packages | tr ' ' ,)"
    # Fetched out here, with the host's network settings and certificates; inside cargo finds all of it and stays offline.
    cargo fetch --locked --quiet --manifest-path "$tree/Cargo.toml"
    enter "$root" CARGO_NET_OFFLINE=true CARGO_TARGET_DIR="/src/target/matrix-$suite" \
        ${REPASS_CLIPS:+REPASS_CLIPS="$REPASS_CLIPS"} "$@"
}

# A command in a throw-away root without any package that we need, on a copy of this tree's files.
bare() {
    local suite=$1 pristine=$roots/$1-bare src='' registry=''
    local certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    shift
    [ $# -gt 0 ] || set -- make test
    unpack "$suite" "$pristine" make
    scratch=$(mktemp -d "$pristine.XXXXXX") # not local: the trap needs it
    trap 'rm -rf --one-file-system "$scratch"' EXIT
    cp -a "$pristine/." "$scratch"
    cp -L /etc/resolv.conf "$scratch/etc/resolv.conf"
    # The host may sit behind a proxy with certificates of its own, which the packaged ones don't know.
    cp -L "$certificates" "$scratch/opt/certificates"
    mkdir -p "$scratch/src"
    git -C "$tree" ls-files -z --cached --others --exclude-standard |
        tar -C "$tree" -c --null -T - | tar -C "$scratch/src" -x --no-same-owner
    enter "$scratch" CARGO_HTTP_CAINFO=/opt/certificates "$@"
}

unpack() { # suite, directory, packages with commas between
    [ "$(cat "$2/packages" 2>/dev/null)" != "$3" ] || return 0
    echo "unpacking Debian $1 into $2" >&2
    local options=() part
    # As strict about the age of the package lists as the host is.
    ! command -v apt-config >/dev/null || options=(--aptopt="$(apt-config dump --format '%f "%v";' Acquire::Check-Valid-Until)")
    # Unpacked beside its place and then moved, so that what has the final name is whole.
    part=$(mktemp -d "$2.XXXXXX")
    # shellcheck disable=SC2046 # one word or none
    mmdebstrap --quiet --variant=minbase --include="$3" "${options[@]}" "$1" "$part" $(mirror) >&2 || {
        rm -rf "$part"
        die "cannot unpack Debian $1"
    }
    chmod 755 "$part"
    echo "$3" >"$part/packages"
    rm -rf --one-file-system "$2"
    mv -T "$part" "$2"
}

# From where the host gets its own Debian. Nothing where it isn't one, or says nothing: mmdebstrap then knows a mirror.
mirror() {
    # shellcheck source=/dev/null
    . /etc/os-release
    [ "$ID" = debian ] || return 0
    # shellcheck disable=SC2016 # apt-get expands these
    apt-get indextargets --format '$(REPO_URI)' "Release: $VERSION_CODENAME" 'Component: main' 'Created-By: Packages' | head -1
}

# Runs a command with another root. The mounts live in a namespace of their own, so they are gone when it ends.
enter() { # directory, [VARIABLE=value...] command...
    # shellcheck disable=SC2016 # expanded inside
    root=$1 src=$src registry=$registry sysroot=$(rustc --print sysroot) bind=${BIND-} clips=${REPASS_CLIPS-} \
        unshare --mount --pid --fork --kill-child bash -euc '
            mount --rbind /dev "$root/dev"
            mount --rbind /sys "$root/sys"
            mount -t proc proc "$root/proc"
            show() { mkdir -p "$root$2" && mount --bind -o "$3" "$1" "$root$2"; }
            show "$sysroot" /opt/rust ro
            [ -z "$src" ] || show "$src" /src rw
            [ -z "$registry" ] || show "$registry" /root/.cargo/registry ro
            for more in "$bind" "$clips"; do [ -z "$more" ] || show "$more" "$more" ro; done
            exec chroot "$root" env -i --chdir=/src HOME=/root LANG=C.UTF-8 TERM="${TERM-dumb}" \
                PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
        ' bash "${@:2}"
}

usage() {
    sed -n '2,/^$/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

die() {
    echo "$0: $*" >&2
    exit 1
}

main "$@"
