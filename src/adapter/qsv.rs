//! Rows of Intel's encoders. Facts from libavcodec's `qsvenc.c`; nothing here was run on a GPU.

use super::{
    Adapter, Better, Bitrate, Capping, Gop, Inside, Knob, Library, PassModel, Reach, Reserved, Setting, Slot, Speed,
    Threads, Vendor, packages,
};

pub(super) static ALL: &[Adapter] = &[
    Adapter {
        name: "h264_qsv",
        codec: "h264",
        // The only one with look_ahead, which makes of ICQ the mode LA_ICQ.
        quality: &[Knob { analysis: &[LOOK_AHEAD, DEPTH], ..ICQ }],
        passes: PassModel::Inside(Inside { settings: &[EXTBRC, DEPTH, LOOK_AHEAD], ..AHEAD }),
        ..QSV
    },
    Adapter { name: "hevc_qsv", codec: "hevc", ..QSV },
    Adapter {
        name: "av1_qsv",
        codec: "av1",
        availability: "FFmpeg 6.0 or later built with libvpl has it; it needs an Intel GPU that codes AV1",
        packages: packages::NEWER,
        ..QSV
    },
];

const QSV: Adapter = Adapter {
    name: "",
    row: 1,
    codec: "",
    vendor: Vendor::Intel,
    availability: "FFmpeg built with libvpl (or libmfx) has it; it needs an Intel GPU and its driver",
    packages: packages::FREE,
    drivers: packages::INTEL_DRIVER,
    known: &[],
    library: Library::Unknown,
    quality: &[ICQ],
    // Kilobits in 16 bits times a multiplier; libavcodec's own limit is reached first.
    bitrate: Some(Bitrate { range: (1000, i32::MAX as u64), with: &[], cap: Capping::Buffer }),
    speed: Some(Speed {
        option: "preset",
        native: [
            "veryfast", "veryfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "veryslow",
        ],
        names: &[],
    }),
    gop: Gop {
        length: Some(Slot { option: "g", key: None }),
        least: None,
        default_length: None,
        fixed: &[Setting::option("flags", "+cgop"), Setting::option("adaptive_i", "0").where_there()],
        forced: &[Setting::option("forced_idr", "1")],
        exact: false,
    },
    pixel_formats: &["nv12", "p010le"],
    odd_sizes: false,
    interlaced: &[],
    unwritten_unless: None,
    passes: PassModel::Inside(AHEAD),
    sessions: None,
    threads: Threads::None,
    always: &[],
    quiet: &[],
    reserved: &[Reserved { option: "global_quality", keys: &[], why: "use --crf" }],
    hdr10: None,
};

/// The mode ICQ: `global_quality` without `qscale`, without a bit rate and without a peak (qsvenc.c, select_rc_mode).
/// `extbrc` and `look_ahead_depth` do nothing in it.
const ICQ: Knob = Knob {
    option: "global_quality",
    also: &[],
    scale: 1,
    whole: true,
    better: Better::Lower,
    range: (1.0, 51.0),
    with: &[],
    cap: Capping::Refused("a peak rate would end the quality mode (ICQ); use -b with --maxrate"),
    analysis: &[],
};

const AHEAD: Inside = Inside {
    settings: &[EXTBRC, DEPTH],
    reach: Reach::LookAhead,
    words: "Quick Sync looks 40 frames ahead inside one run (extended bit rate control); it does not see the whole",
    cancelled_by: &[],
};

const EXTBRC: Setting = Setting::option("extbrc", "1");
const DEPTH: Setting = Setting::option("look_ahead_depth", "40");
const LOOK_AHEAD: Setting = Setting::option("look_ahead", "1");
