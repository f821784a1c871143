//! Rows of NVIDIA's encoders. Facts from libavcodec's `nvenc.c`; nothing here was run on a GPU.

use super::{
    Adapter, Better, Bitrate, Capping, Gop, Inside, Knob, Library, PassModel, Reach, Reserved, Setting, Slot, Speed,
    Threads, Vendor, packages,
};

pub(super) static ALL: &[Adapter] = &[
    Adapter { name: "h264_nvenc", codec: "h264", ..NVENC },
    Adapter { name: "hevc_nvenc", codec: "hevc", ..NVENC },
    Adapter {
        name: "av1_nvenc",
        codec: "av1",
        availability: "FFmpeg 6.0 or later built with ffnvcodec has it; it needs an Ada or newer GPU",
        packages: packages::NEWER,
        quality: &[Knob { range: (1.0, 63.0), ..CQ }],
        ..NVENC
    },
];

const NVENC: Adapter = Adapter {
    name: "",
    row: 1,
    codec: "",
    vendor: Vendor::Nvidia,
    availability: "FFmpeg built with ffnvcodec has it; it needs an NVIDIA GPU and its driver",
    packages: packages::FREE,
    drivers: packages::NVIDIA_DRIVER,
    known: &[],
    library: Library::Unknown,
    quality: &[CQ],
    // averageBitRate is 32 bits wide.
    bitrate: Some(Bitrate {
        range: (1000, u32::MAX as u64),
        with: &[Setting::option("rc", "vbr")],
        cap: Capping::Buffer,
    }),
    speed: Some(Speed {
        option: "preset",
        // Not the native slow, medium and fast: they overrule multipass (nvenc.c, nvenc_map_preset).
        native: ["p1", "p1", "p2", "p3", "p3", "p4", "p5", "p6", "p7", "p7"],
        names: &[],
    }),
    gop: Gop {
        length: Some(Slot { option: "g", key: None }),
        least: None,
        default_length: None,
        fixed: &[Setting::option("no-scenecut", "1").where_there(), Setting::option("forced-idr", "1")],
        forced: &[Setting::option("forced-idr", "1")],
        exact: false,
    },
    pixel_formats: &["yuv420p", "nv12", "p010le"],
    odd_sizes: false,
    interlaced: &[],
    unwritten_unless: None,
    passes: PassModel::Inside(Inside {
        settings: MULTIPASS,
        reach: Reach::PerFrame,
        words: "NVENC codes each frame twice inside one run (multipass at full size); it sees no frame that comes later",
        cancelled_by: &["medium", "fast"],
    }),
    sessions: None,
    threads: Threads::None,
    always: &[],
    quiet: &[],
    reserved: &[
        Reserved { option: "cq", keys: &[], why: "use --crf" },
        Reserved { option: "qp", keys: &[], why: "use --crf" },
        Reserved { option: "global_quality", keys: &[], why: "use --crf" },
        Reserved { option: "rc", keys: &[], why: "the target chooses it; use -b or --crf" },
        Reserved { option: "cbr", keys: &[], why: "the target chooses it; use -b with --maxrate" },
        Reserved { option: "2pass", keys: &[], why: "gone in FFmpeg 9; use --opt multipass=fullres" },
    ],
    hdr10: None,
};

/// 0 means automatic. With it the average bit rate and the buffer are dropped, the peak stays (nvenc.c, set_vbr).
const CQ: Knob = Knob {
    option: "cq",
    also: &[],
    scale: 1,
    whole: false,
    better: Better::Lower,
    range: (1.0, 51.0),
    with: &[Setting::option("rc", "vbr"), Setting::option("b", "0")],
    cap: Capping::Loose("beside a constant quality NVENC keeps the peak rate and drops the buffer size"),
    analysis: MULTIPASS,
};

const MULTIPASS: &[Setting] = &[Setting::option("multipass", "fullres")];
