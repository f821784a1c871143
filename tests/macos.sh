#!/usr/bin/env bash
# Type-checks and lints everything, tests included, for a Mac, from Linux. Nothing of it is linked or run.
#
#   tests/macos.sh [TARGET]      default: aarch64-apple-darwin; x86_64-apple-darwin works too
#
# Needs rustup, python3 with pip, and FFmpeg's headers. What a Mac's C headers say comes from the Python package ziglang
# (macOS's libc headers and a C compiler for it, 100 MB), kept in target/macos.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-aarch64-apple-darwin}
kept=$PWD/target/macos
zig=ziglang==0.17.0

command -v rustup >/dev/null || { echo "$0: needs rustup, for Rust's own library for $target" >&2; exit 1; }
rustup target list --installed | grep -qx "$target" || rustup target add "$target"

if [ ! -e "$kept/ziglang" ]; then
    echo "pip will install into target/macos: $zig"
    rm -rf "$kept.part"
    python3 -m pip install --quiet --no-deps --target "$kept.part" "$zig"
    mkdir -p "$kept" && mv "$kept.part/ziglang" "$kept/" && rm -rf "$kept.part"
fi

# FFmpeg's headers alone: beside them lie glibc's, which a Mac has not.
headers=$(pkg-config --variable=includedir libavcodec)
mkdir -p "$kept/ffmpeg/include" "$kept/ffmpeg/lib"
for library in avcodec avdevice avfilter avformat avutil postproc swresample swscale; do
    [ ! -e "$headers/lib$library" ] || ln -sfn "$headers/lib$library" "$kept/ffmpeg/include/lib$library"
done

# libclang's own headers, then macOS's. -D_Float16: an older libclang does not know the type for x86-64.
for own in "${LIBCLANG_PATH-}"/clang/*/include /usr/lib/llvm-*/lib/clang/*/include /usr/lib*/clang/*/include; do
    [ ! -d "$own" ] || break
done
libc="-nostdinc -isystem $own -isystem $kept/ziglang/lib/libc/include/any-darwin-any -D_Float16=float"
name=${target//-/_}
export FFMPEG_DIR=$kept/ffmpeg CARGO_TARGET_DIR=$kept/build SDKROOT=$kept
export "BINDGEN_EXTRA_CLANG_ARGS_$name=$libc"
# The log shim is compiled for real. zig calls the system macos, and has its headers itself; asked for its
# version for a target, it leaves an a.o behind.
cat >"$kept/cc" <<END
#!/bin/sh
for a; do
    shift
    case \$a in
        --version) exec '$kept/ziglang/zig' cc --version ;;
        --target=* | -isysroot | '$kept') ;;
        *) set -- "\$@" "\$a" ;;
    esac
done
exec '$kept/ziglang/zig' cc -target ${target%%-*}-macos "\$@"
END
printf '#!/bin/sh\nexec %q ar "$@"\n' "$kept/ziglang/zig" >"$kept/ar"
chmod +x "$kept/cc" "$kept/ar"
export "CC_$name=$kept/cc" "AR_$name=$kept/ar"

cargo clippy --locked --all-targets --target "$target" -- -D warnings
echo "$target: type-checked and linted; never run"
