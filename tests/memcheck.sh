#!/usr/bin/env bash
# Runs the tests of the av border, and whole jobs of the program, under valgrind's memcheck: no invalid read, write or free,
# and nothing definitely lost, in our code or in what libav and the encoders allocate for it.
#
#   tests/memcheck.sh            all of it
#   tests/memcheck.sh JOB...     only these whole jobs, each a line of arguments; clips are clip.mkv, sound.mp4, cut.mkv
#
# Use of memory that nobody wrote is not looked for: x264 reads such memory by design (vendor-notes.md), and so do SIMD loops
# behind the end of a row. What libraries get wrong by themselves is listed, with its reason, in tests/memcheck.supp.
set -euo pipefail

tree=$(cd "$(dirname "$0")/.." && pwd)
cd "$tree"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
valgrind=(valgrind -q --error-exitcode=99 --undef-value-errors=no --leak-check=full --show-leak-kinds=definite
    --errors-for-leak-kinds=definite --suppressions="$tree/tests/memcheck.supp" --num-callers=24 --fair-sched=yes)
# Valgrind takes the vDSO away, which rustix would look for by itself; with the C library below it does not.
features=(--locked --features rustix/use-libc)
# Deadlines that are long enough.
export REPASS_TEST_PATIENCE=40 RUST_TEST_THREADS=1

main() {
    command -v valgrind >/dev/null || { echo 'valgrind is missing (Debian: valgrind)' >&2; exit 1; }
    cargo build "${features[@]}" --bin repass
    repass=$(realpath "${CARGO_TARGET_DIR:-target}/debug/repass")
    clips
    if [ $# -gt 0 ]; then
        for arguments; do job 0 "$arguments"; done
        return
    fi
    border
    jobs
}

clips() {
    local ffmpeg=(ffmpeg -v error -y) lavfi=(-f lavfi -i testsrc2=s=96x64:r=24:d=0.5 -f lavfi -i sine=d=0.5)
    "${ffmpeg[@]}" "${lavfi[@]}" -c:v mpeg4 -c:a flac "$work/clip.mkv"
    "${ffmpeg[@]}" "${lavfi[@]}" -c:v libx264 -bf 2 -c:a aac "$work/sound.mp4"
    head -c $(($(stat -c %s "$work/clip.mkv") * 2 / 3)) "$work/clip.mkv" >"$work/cut.mkv"
}

# The border's own tests, and those of sources and sinks that open, feed and break every kind of libav object.
border() {
    local runner=CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER
    export "$runner=${valgrind[*]}"
    step cargo test "${features[@]}" --lib -- av:: source:: cache:: sink::
    step cargo test "${features[@]}" --test source -- headers_are unusable options_must metadata_need rewinding seeks_end \
        a_pipe one_graph a_graph wrong_graphs an_observer
    step cargo test "${features[@]}" --test output -- bare_streams an_unknown covers_and a_writer a_file_that_is_not \
        a_sink_that options_of a_digest
    unset "$runner"
}

jobs() {
    local encoder
    for encoder in libx264 libx265 libvpx-vp9 libaom-av1 libsvtav1; do
        "$repass" encoders "$encoder" --json | grep -q '"present":true' || { echo "skipped: no $encoder"; continue; }
        job 0 "encode clip.mkv -o out.mkv -y -c $encoder -b 60k --preset ultrafast --threads 1 --in-child"
    done
    job 0 'encode sound.mp4 -o out.mp4 -y -c libx264 --crf 30 --preset ultrafast --audio aac:64k --vf hflip,scale=64:48'
    job 0 'encode sound.mp4 -o out_{name}.mp4 -y -c libx264 --preset ultrafast --rung source=60k --rung w64=crf:40'
    job 0 'encode sound.mp4 -o m.m3u8 -y -c libx264 --preset ultrafast --rung source=60k --rung w64=crf:40'
    job 0 'encode clip.mkv -o out.mkv -y -c libx264 -b 60k --preset ultrafast --cache disk --cache-size 64k'
    job 0 'encode cut.mkv -o out.mkv -y -c libx264 --crf 40 --preset ultrafast --keep-damaged'
    job 4 'encode cut.mkv -o out.mkv -y -c libx264 -b 60k --preset ultrafast'
    job 3 'encode clip.mkv -o out.mkv -y -c libx264 -b 60k --opt nonsense=1'
    job 5 'encode clip.mkv -o out.mkv -y -c libx264 -b 60k --vf nonsense'
    job 0 'analyse clip.mkv -o a.stats -y -c libx264 -b 60k --preset ultrafast'
    job 0 'measure clip.mkv clip.mkv --metrics psnr,ssim'
}

# A whole job: its exit code, and nothing for valgrind to say.
job() {
    local code=0
    step true "$2"
    # shellcheck disable=SC2086 # the arguments are words
    (cd "$work" && SVT_LOG=0 "${valgrind[@]}" "$repass" $2 --progress none >said 2>&1) || code=$?
    [ "$code" = "$1" ] || { cat "$work/said"; die "repass $2: exit code $code, and $1 was expected (99 is valgrind's)"; }
}

step() {
    printf '=== memcheck, at %d s: %s\n' $SECONDS "${*#true }"
    "$@"
}

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

main "$@"
printf 'memcheck: nothing found, in %d s\n' $SECONDS
