#!/bin/sh
# Installs the Debian package into this very system, a bare one that may be thrown away, and encodes with it:
#   make deb && BIND=$PWD/target/debian tests/matrix.sh --bare bookworm sh tests/deb.sh "$PWD"/target/debian/*.deb
set -eu
deb=$(realpath "$1")
work=$(mktemp -d)

apt-get update -q >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$deb" >"$work/apt" || { cat "$work/apt"; exit 1; }
dpkg-query --show --showformat '${Package} ${Version}: ${Depends}\n' repass

# Two seconds of raw video: no other program is needed.
{
    printf 'YUV4MPEG2 W128 H96 F25:1 Ip A1:1 C420jpeg\n'
    frame=0
    while [ $frame -lt 50 ]; do
        printf 'FRAME\n'
        head -c 18432 /dev/urandom
        frame=$((frame + 1))
    done
} >"$work/in.y4m"
repass doctor
repass encode "$work/in.y4m" -o "$work/out.mkv" -c libx264 -b 400k
repass encode "$work/in.y4m" -o "$work/out.webm" -c libvpx-vp9 -b 400k --preset ultrafast

dpkg-deb --contents "$deb" >"$work/contents"
for file in bin/repass share/man/man1/repass.1.gz share/man/man1/repass-encode.1.gz \
    share/bash-completion/completions/repass share/zsh/vendor-completions/_repass \
    share/fish/vendor_completions.d/repass.fish share/doc/repass/copyright share/doc/repass/README.md; do
    # minbase leaves documentation out, man pages too: what the package holds is what counts.
    grep -q "./usr/$file\$" "$work/contents" || { echo "$file is not in the package" >&2; exit 1; }
done
apt-get remove -qy repass >/dev/null
[ ! -e /usr/bin/repass ]
echo "the package installs, runs and goes"
