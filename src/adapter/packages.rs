//! What brings an encoder, and the driver of its device, on systems whose packages are known. Words for people.
//!
//! Invariant: a row names what its system's own packages have; where none has it, it says so.

use serde::Serialize;

/// A system whose packages are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// Debian.
    Debian,
    /// Ubuntu and what is made from it.
    Ubuntu,
    /// Fedora.
    Fedora,
    /// Arch Linux and what is made from it.
    Arch,
    /// macOS with Homebrew.
    MacOs,
}

/// What to do on one system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// The system.
    pub system: System,
    /// What to do there, in words or as a command.
    pub what: &'static str,
}

const fn on(system: System, what: &'static str) -> Package {
    Package { system, what }
}

/// x264 and x265: GPL, and patents.
pub(super) const GPL: &[Package] = &[
    on(System::Debian, DEV_PACKAGES),
    on(System::Ubuntu, DEV_PACKAGES),
    on(
        System::Fedora,
        "ffmpeg-free is built without it: enable RPM Fusion (https://rpmfusion.org/Configuration), then: sudo dnf swap \
         ffmpeg-free ffmpeg --allowerasing && sudo dnf install ffmpeg-devel; then build repass anew",
    ),
    on(System::Arch, "sudo pacman -S ffmpeg, then build repass anew"),
    on(System::MacOs, BREW),
];

/// VP9 and AV1 on the CPU: in every distribution.
pub(super) const FREE: &[Package] = &[
    on(System::Debian, DEV_PACKAGES),
    on(System::Ubuntu, DEV_PACKAGES),
    on(System::Fedora, "sudo dnf install ffmpeg-free-devel, then build repass anew"),
    on(System::Arch, "sudo pacman -S ffmpeg, then build repass anew"),
    on(System::MacOs, BREW),
];

/// In no package of Debian's kin.
pub(super) const RARE: &[Package] = &[
    on(System::Debian, "no FFmpeg of Debian's is built with it: build FFmpeg yourself, and repass against that"),
    on(System::Ubuntu, "no FFmpeg of Ubuntu's is built with it: build FFmpeg yourself, and repass against that"),
    on(System::MacOs, FULL_BREW),
];

/// Hardware that older packages know less of.
pub(super) const NEWER: &[Package] = &[
    on(System::Debian, "Debian 13's FFmpeg has it, Debian 12's has not"),
    on(System::Ubuntu, "Ubuntu 24.04's FFmpeg has it"),
];

/// Only on another system.
pub(super) const ELSEWHERE: &[Package] = &[on(System::MacOs, "every FFmpeg for macOS has it: brew install ffmpeg")];

/// The driver of NVENC.
pub(super) const NVIDIA_DRIVER: &[Package] = &[
    on(System::Debian, "sudo apt install nvidia-driver libnvidia-encode1 (from non-free)"),
    on(System::Ubuntu, "sudo ubuntu-drivers install"),
    on(System::Fedora, "enable RPM Fusion (nonfree), then: sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda"),
    on(System::Arch, "sudo pacman -S nvidia-utils"),
];

/// The driver of Quick Sync.
pub(super) const INTEL_DRIVER: &[Package] = &[
    on(System::Debian, "sudo apt install intel-media-va-driver-non-free libmfx-gen1.2 (from non-free)"),
    on(System::Ubuntu, "sudo apt install intel-media-va-driver-non-free libmfx-gen1.2"),
    on(System::Arch, "sudo pacman -S intel-media-driver vpl-gpu-rt"),
];

const DEV_PACKAGES: &str = "the distribution's own FFmpeg has it: sudo apt install libavcodec-dev libavformat-dev \
     libavfilter-dev libswscale-dev libswresample-dev, then build repass against that one";
const BREW: &str = "brew install ffmpeg, then build repass anew";
const FULL_BREW: &str = "brew install ffmpeg-full, put its lib/pkgconfig into PKG_CONFIG_PATH, then build repass anew";
