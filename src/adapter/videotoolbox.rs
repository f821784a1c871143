//! Rows of Apple's encoders. Facts from libavcodec's `videotoolboxenc.c`; nothing here was run on a Mac.

use super::{
    Adapter, Because, Better, Bitrate, Capping, Gop, Knob, Library, PassModel, Reserved, Setting, Slot, Speed, Threads,
    Vendor, packages,
};

pub(super) static ALL: &[Adapter] = &[
    Adapter { name: "h264_videotoolbox", codec: "h264", ..VIDEOTOOLBOX },
    Adapter {
        name: "hevc_videotoolbox",
        codec: "hevc",
        pixel_formats: &["nv12", "yuv420p", "bgra", "p010le"],
        ..VIDEOTOOLBOX
    },
    Adapter {
        name: "prores_videotoolbox",
        codec: "prores",
        quality: &[PROFILE],
        bitrate: None,
        speed: None,
        gop: Gop { length: None, least: None, default_length: None, fixed: &[], forced: &[], exact: true },
        pixel_formats: &["p210le", "nv16", "uyvy422", "p010le", "nv12", "yuv420p"],
        passes: PassModel::Refused(Because::IntraOnly),
        reserved: &[Reserved { option: "profile", keys: &[], why: "it is the quality; use --crf 0 (proxy) to 5 (xq)" }],
        ..VIDEOTOOLBOX
    },
    Adapter {
        name: "av1_videotoolbox",
        codec: "av1",
        availability: "no FFmpeg has it: VideoToolbox decodes AV1 and does not encode it; use libsvtav1 or libaom-av1",
        packages: &[],
        passes: PassModel::Refused(Because::NoEncoder),
        ..VIDEOTOOLBOX
    },
];

const VIDEOTOOLBOX: Adapter = Adapter {
    name: "",
    row: 1,
    codec: "",
    vendor: Vendor::Apple,
    availability: "FFmpeg on macOS has it (--enable-videotoolbox)",
    packages: packages::ELSEWHERE,
    drivers: &[],
    known: &[],
    library: Library::Unknown,
    quality: &[QSCALE],
    // VideoToolbox takes a signed 32-bit number.
    bitrate: Some(Bitrate { range: (1000, i32::MAX as u64), with: &[], cap: Capping::Buffer }),
    speed: Some(Speed { option: "prio_speed", native: ["1", "1", "1", "1", "1", "0", "0", "0", "0", "0"], names: &[] }),
    gop: Gop {
        length: Some(Slot { option: "g", key: None }),
        least: None,
        default_length: None,
        fixed: &[Setting::option("flags", "+cgop")],
        forced: &[],
        exact: false,
    },
    pixel_formats: &["nv12", "yuv420p"],
    odd_sizes: false,
    interlaced: &[],
    unwritten_unless: None,
    passes: PassModel::Refused(Because::VideoToolboxWrapper),
    sessions: None,
    threads: Threads::None,
    always: &[],
    quiet: &[],
    reserved: &[Reserved { option: "global_quality", keys: &[], why: "use --crf" }],
    hdr10: None,
};

/// 1 to 100, on Apple silicon only; in units of FF_QP2LAMBDA with the flag qscale.
const QSCALE: Knob = Knob {
    option: "global_quality",
    also: &[],
    scale: 118,
    whole: false,
    better: Better::Higher,
    range: (1.0, 100.0),
    with: &[Setting::option("flags", "+qscale")],
    cap: Capping::Refused("VideoToolbox takes a quality or a rate, not both; use -b with --maxrate"),
    analysis: &[],
};

/// proxy, lt, standard, hq, 4444, xq: the profile decides the quality, and nothing else does.
const PROFILE: Knob = Knob {
    option: "profile",
    also: &[],
    scale: 1,
    whole: true,
    better: Better::Higher,
    range: (0.0, 5.0),
    with: &[],
    cap: Capping::Refused("the ProRes profile decides the rate"),
    analysis: &[],
};
