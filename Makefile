# repass: set-up, demo, tests. `make help` lists the targets.
# Recipes are POSIX sh. Nothing is installed without being named first.

CODEC   ?= libx264
BITRATE ?= 4M
IN      ?=
OUT     ?= $(TARGET)/demo/out.mp4
ARGS    ?=
# VMAF is libvmaf, built from source; `make demo FEATURES=` does without it and its tools.
FEATURES ?= vmaf
# Handed to the recipes through the environment, so that a path with spaces or quotes arrives whole.
export CODEC BITRATE IN OUT

WITH   := $(if $(FEATURES),--features $(FEATURES))
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Before the system's: a distribution's cargo is often too old, and a new shell may not know rustup's yet.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

PM   := $(firstword $(foreach pm,apt-get dnf pacman brew,$(if $(shell command -v $(pm) 2>/dev/null),$(pm))))
# Homebrew refuses to run as root; the others need to.
SUDO := $(if $(filter-out brew,$(PM)),$(if $(filter 0,$(shell id -u 2>/dev/null)),,sudo))

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench matrix memcheck macos install deb pages referee clean setup packages rust
.PHONY: install-with-apt-get install-with-dnf install-with-pacman install-with-brew install-with- debian-packages
.PHONY: install-rust-with-rustup install-rust-with-apt-get

help:
	@echo 'make demo     set up, build, and encode a generated clip in two passes'
	@echo '              IN=file OUT=file CODEC=libx264 BITRATE=4M'
	@echo 'make test     set up and run all tests (ARGS=... goes to cargo test)'
	@echo 'make lint     formatting, clippy and documentation, warnings denied'
	@echo 'make bench    compare with the ffmpeg program'
	@echo 'make matrix   run the tests on other releases of FFmpeg (needs root and mmdebstrap)'
	@echo 'make memcheck run the tests of the border to libav, and whole jobs, under valgrind'
	@echo 'make macos    type-check and lint for a Mac, from Linux (needs rustup; Python, 100 MB)'
	@echo 'make install  install the program into ~/.cargo/bin'
	@echo 'make deb      build a Debian package for this release of Debian'
	@echo 'make pages    completions (bash, zsh, fish, PowerShell) and manual pages, into target/pages'
	@echo 'make referee  fetch an ffmpeg program with more encoders, for tests (Python, 70 MB)'
	@echo 'make setup    install what building and testing need, nothing else'
	@echo 'make clean    remove everything that was built'

demo: setup
	cargo build --release --locked $(WITH)
	@mkdir -p '$(TARGET)/demo'
	@set -e; \
	if [ -z "$$IN" ]; then \
		IN='$(TARGET)/demo/clip.mkv'; \
		[ -s "$$IN" ] || { echo "generating $$IN"; ffmpeg $(CLIP) "$$IN.part" && mv "$$IN.part" "$$IN"; }; \
	fi; \
	set -- '$(TARGET)/release/repass' encode "$$IN" -o "$$OUT" -y -c "$$CODEC" -b "$$BITRATE"; \
	echo "$$*"; \
	"$$@"; \
	echo; echo "$$OUT, as ffprobe reads it:"; \
	ffprobe -v error -of compact=nokey=0 -show_entries \
		stream=codec_name,width,height,avg_frame_rate,nb_frames,bit_rate:format=duration,size,bit_rate "$$OUT"

# Ten seconds of 720p: test patterns and a zoom into a fractal in turn, all under noise, so that scenes differ in what
# they cost and a second pass has bits to move. Coded with encoders that every FFmpeg has.
CLIP = -v error -y \
	-f lavfi -i 'mandelbrot=size=640x360:rate=25:end_scale=0.002:end_pts=250' \
	-f lavfi -i 'testsrc2=size=1280x720:rate=25' \
	-f lavfi -i 'sine=frequency=330:beep_factor=3:sample_rate=48000' \
	-filter_complex '[0:v]scale=1280:720[zoom];[1:v][zoom]overlay=shortest=1:enable=gt(mod(t\,4)\,2),noise=alls=6:allf=t,format=yuv420p[v]' \
	-map '[v]' -map 2:a -t 10 -c:v mpeg2video -q:v 2 -c:a aac -b:a 128k -f matroska

test: setup
	cargo test --locked $(WITH) $(ARGS)

lint: setup
	cargo fmt --check
	cargo clippy --locked --all-targets $(WITH) -- -D warnings
	cargo clippy --locked --no-default-features --lib -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps $(WITH)

bench: setup
	cargo bench --locked $(ARGS)

matrix: setup
	tests/matrix.sh $(ARGS)

memcheck: setup
	tests/memcheck.sh

macos: setup
	tests/macos.sh $(ARGS)

install: setup
	cargo install --path . --locked $(WITH)

deb: setup
	@cargo deb --version >/dev/null 2>&1 || { \
		echo 'installing cargo-deb (compiled from source, some minutes)'; cargo install --locked cargo-deb; }
	$(MAKE) --no-print-directory pages
	cargo deb --locked --no-build
	@ls -l '$(TARGET)'/debian/*.deb

# Completions and manual pages, from the program's own command line. cargo-deb looks for them in target/pages.
pages: setup
	cargo build --release --locked
	@rm -rf target/pages && mkdir -p target/pages
	@set -e; repass='$(TARGET)/release/repass'; \
	"$$repass" man target/pages/man; \
	"$$repass" completions bash > target/pages/repass.bash; \
	"$$repass" completions zsh > target/pages/_repass; \
	"$$repass" completions fish > target/pages/repass.fish; \
	"$$repass" completions powershell > target/pages/_repass.ps1; \
	ls target/pages target/pages/man

# A static ffmpeg 9 with encoders that distributions leave out (libvvenc, AMF, libvmaf), as a Python package: only tests use
# it, and those that would say that they were skipped. REPASS_REFEREE names another one.
REFEREE := imageio-ffmpeg==0.8.1
referee:
	@[ -e target/referee/ffmpeg ] || { set -e; \
	echo 'pip will install into target/referee: $(REFEREE)'; \
	mkdir -p target; rm -rf target/referee; \
	python3 -m pip --version >/dev/null 2>&1 || { echo 'pip is missing (Debian: python3-pip)' >&2; exit 1; }; \
	python3 -m pip install --quiet --no-deps --target target/referee.part '$(REFEREE)'; \
	mv target/referee.part target/referee; \
	cd target/referee && ln -s imageio_ffmpeg/binaries/ffmpeg-* ffmpeg; }
	@target/referee/ffmpeg -hide_banner -version | head -1

clean:
	cargo clean

# --- set-up ---------------------------------------------------------------------------------------------------------

setup: packages rust

LIBAV := libavcodec libavformat libavfilter libavutil libswscale libswresample

APT_PACKAGES    := build-essential pkg-config libclang-dev $(LIBAV:%=%-dev) ffmpeg ca-certificates
DNF_PACKAGES    := gcc make pkgconf-pkg-config clang-devel
PACMAN_PACKAGES := base-devel pkgconf clang ffmpeg
BREW_PACKAGES   := pkgconf ffmpeg llvm

# What libvmaf's own build needs; the assembler only where there is assembler for it.
ifneq ($(filter vmaf,$(FEATURES)),)
VMAF_TOOLS      := meson ninja xxd $(if $(filter x86_64 i%86,$(shell uname -m)),nasm)
APT_PACKAGES    += meson ninja-build nasm xxd
DNF_PACKAGES    += meson ninja-build nasm xxd gcc-c++
PACMAN_PACKAGES += meson nasm tinyxxd
BREW_PACKAGES   += meson nasm
endif

# Prints what is missing, one name a line. Looks for the things themselves, so an FFmpeg that was built by hand counts.
# bindgen needs libclang together with clang's own headers; distributions package the two apart.
MISSING = \
	for tool in cc pkg-config ffmpeg ffprobe $(VMAF_TOOLS); do command -v $$tool >/dev/null 2>&1 || echo $$tool; done; \
	for lib in $(LIBAV); do pkg-config --exists $$lib 2>/dev/null || echo $$lib; done; \
	for dir in $(CLANG_DIRS); do ls "$$dir"/libclang*.so* "$$dir"/libclang.dylib; done 2>/dev/null | grep -q . || echo libclang; \
	for dir in $(CLANG_DIRS); do ls "$$dir"/clang/*/include/stddef.h; done 2>/dev/null | grep -q . || echo clang-headers
CLANG_DIRS = "$$LIBCLANG_PATH" /usr/lib/llvm-*/lib /usr/lib64 /usr/lib /usr/lib/*-linux-gnu /usr/local/lib \
	/opt/homebrew/opt/llvm/lib /usr/local/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib

packages:
	@missing=$$($(MISSING)); \
	if [ -n "$$missing" ]; then \
		echo "missing: $$(echo $$missing)"; \
		[ -z '$(SUDO)' ] || command -v sudo >/dev/null || { \
			echo 'Installing packages needs root: run this as root, or install sudo.' >&2; exit 1; }; \
		$(MAKE) --no-print-directory install-with-$(PM) || exit 1; \
		missing=$$($(MISSING)); \
		[ -z "$$missing" ] || { echo "still missing after installing: $$(echo $$missing)" >&2; exit 1; }; \
	fi
	@pkg-config --atleast-version=59.37 libavcodec || { \
		echo "FFmpeg 5.1 or newer is needed; this one has libavcodec $$(pkg-config --modversion libavcodec)." >&2; exit 1; }

install-with-apt-get:
	@echo 'apt-get will install: $(APT_PACKAGES)'
	$(SUDO) apt-get update -q
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(APT_PACKAGES)

# Fedora's own FFmpeg is called ffmpeg-free and lacks libx264 and libx265; RPM Fusion's has them.
install-with-dnf:
	@if dnf -q repolist 2>/dev/null | grep -q '^rpmfusion-free'; then \
		set -- $(DNF_PACKAGES) ffmpeg ffmpeg-devel; \
	else \
		echo "RPM Fusion is not enabled, so this will be Fedora's ffmpeg-free, which has no libx264 and no libx265."; \
		echo 'Enable RPM Fusion (https://rpmfusion.org/Configuration) for them, or run: make demo CODEC=libvpx-vp9'; \
		set -- $(DNF_PACKAGES) ffmpeg-free ffmpeg-free-devel; \
	fi; \
	echo "dnf will install: $$*"; \
	$(SUDO) dnf install -y "$$@"

install-with-pacman:
	@echo 'pacman will install: $(PACMAN_PACKAGES)'
	$(SUDO) pacman -S --needed --noconfirm $(PACMAN_PACKAGES) || { \
		echo 'If pacman found no packages, bring the system up to date first: pacman -Syu' >&2; exit 1; }

install-with-brew:
	@echo 'brew will install: $(BREW_PACKAGES)'
	brew install $(BREW_PACKAGES)

install-with-:
	@echo 'None of apt-get, dnf, pacman and brew is here. Install by other means: a C compiler, pkg-config, libclang with' >&2
	@echo "clang's headers, and FFmpeg 5.1 or newer with its programs and headers ($(LIBAV))." >&2
	@exit 1

debian-packages:
	@echo '$(APT_PACKAGES)'

RUST_NEEDED := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
RUSTUP_URL  := https://sh.rustup.rs

# A toolchain that is there is never replaced without being asked to: it is the owner's.
rust: packages
	@have=$$(cargo --version 2>/dev/null | cut -d' ' -f2); \
	if [ -n "$$have" ] && printf '%s\n' '$(RUST_NEEDED)' "$$have" | sort -CV; then \
		:; \
	elif [ '$(RUSTUP)' = 1 ]; then \
		$(MAKE) --no-print-directory install-rust-with-rustup; \
	elif [ -z "$$have" ] && [ '$(PM)' = apt-get ] && apt-cache madison rustup 2>/dev/null | grep -q .; then \
		$(MAKE) --no-print-directory install-rust-with-apt-get; \
	else \
		{ echo "Rust $(RUST_NEEDED) or newer is needed; found here: $${have:-none}."; \
		  echo 'What Debian 12 packages (rustc 1.63) and Debian 13 (1.85) is too old. Do one of these:'; \
		  echo '  rustup update stable && rustup default stable'; \
		  echo '      if rustup is there already'; \
		  echo '  make $(or $(MAKECMDGOALS),demo) RUSTUP=1'; \
		  echo '      runs the official installer from $(RUSTUP_URL)'; \
		  echo '  https://rustup.rs'; \
		  echo '      tells how to do it by hand'; } >&2; \
		exit 1; \
	fi

install-rust-with-rustup:
	@echo 'The installer from $(RUSTUP_URL) will install Rust into your home directory.'
	@command -v curl >/dev/null || { [ '$(PM)' = apt-get ] && echo 'apt-get will install: curl' \
		&& $(SUDO) apt-get update -q && $(SUDO) apt-get install -qy --no-install-recommends curl; }
	installer=$$(mktemp) && curl --proto '=https' --tlsv1.2 -sSf -o "$$installer" $(RUSTUP_URL) && sh "$$installer" -y

install-rust-with-apt-get:
	@echo 'apt-get will install: rustup. It will then fetch the stable Rust toolchain into your home directory.'
	$(SUDO) apt-get install -qy --no-install-recommends rustup
	rustup default stable
