//! Rows of AMD's encoders. Facts from libavcodec's `amfenc_h264.c`, `amfenc_hevc.c` and `amfenc_av1.c`; nothing here was
//! run on a GPU.

use super::{
    Adapter, Better, Bitrate, Capping, Gop, Inside, Knob, Library, PassModel, Reach, Reserved, Setting, Slot, Speed,
    Threads, Vendor, packages,
};

pub(super) static ALL: &[Adapter] = &[
    Adapter { name: "h264_amf", codec: "h264", ..AMF },
    Adapter { name: "hevc_amf", codec: "hevc", ..AMF },
    Adapter {
        name: "av1_amf",
        codec: "av1",
        availability: "FFmpeg 6.1 or later built with AMF has it; it needs an AMD GPU that codes AV1 and its runtime",
        quality: &[QVBR, Knob { range: (0.0, 255.0), ..CQP }],
        ..AMF
    },
];

const AMF: Adapter = Adapter {
    name: "",
    row: 1,
    codec: "",
    vendor: Vendor::Amd,
    availability: "FFmpeg built with AMF has it; it needs an AMD GPU and its runtime",
    packages: packages::RARE,
    drivers: &[],
    known: &[],
    library: Library::Unknown,
    quality: &[QVBR, CQP],
    bitrate: Some(Bitrate {
        range: (1000, i32::MAX as u64),
        with: &[Setting::option("rc", "vbr_peak")],
        cap: Capping::Buffer,
    }),
    speed: Some(Speed {
        // The newer name, preset, is an alias of it.
        option: "quality",
        native: [
            "speed", "speed", "speed", "speed", "balanced", "balanced", "quality", "quality", "quality", "quality",
        ],
        names: &[],
    }),
    gop: Gop {
        length: Some(Slot { option: "g", key: None }),
        least: None,
        default_length: None,
        fixed: &[Setting::option("forced_idr", "1").where_there()],
        forced: &[Setting::option("forced_idr", "1").where_there()],
        exact: false,
    },
    pixel_formats: &["nv12", "yuv420p"],
    odd_sizes: false,
    interlaced: &[],
    unwritten_unless: None,
    passes: PassModel::Inside(Inside {
        settings: PREANALYSIS,
        reach: Reach::PerFrame,
        words: "AMF analyses each frame before it codes it (pre-analysis; before FFmpeg 6.1 the older pre-encoding); it looks \
                ahead only with --opt pa_lookahead_buffer_depth=N",
        cancelled_by: &[],
    }),
    sessions: None,
    threads: Threads::None,
    always: &[],
    quiet: &[],
    reserved: &[
        Reserved { option: "qp_i", keys: &[], why: "use --crf" },
        Reserved { option: "qp_p", keys: &[], why: "use --crf" },
        Reserved { option: "qp_b", keys: &[], why: "use --crf" },
        Reserved { option: "qvbr_quality_level", keys: &[], why: "use --crf" },
        Reserved { option: "global_quality", keys: &[], why: "use --crf" },
        Reserved { option: "rc", keys: &[], why: "the target chooses it; use -b or --crf" },
    ],
    hdr10: None,
};

/// Quality-defined variable bit rate, where the linked encoder has it (FFmpeg 6.1 and later).
const QVBR: Knob = Knob {
    option: "qvbr_quality_level",
    also: &[],
    scale: 1,
    whole: true,
    better: Better::Lower,
    range: (1.0, 51.0),
    with: &[Setting::option("rc", "qvbr")],
    cap: Capping::Refused("AMF's quality mode takes no peak rate here; use -b with --maxrate"),
    analysis: PREANALYSIS,
};

/// Constant quantizers, which switch pre-analysis off (amfenc_h264.c warns and disables it).
const CQP: Knob = Knob {
    option: "qp_i",
    also: &["qp_p", "qp_b"],
    range: (0.0, 51.0),
    with: &[Setting::option("rc", "cqp")],
    cap: Capping::Refused("constant quantizers take no peak rate; use -b with --maxrate"),
    analysis: &[],
    ..QVBR
};

const PREANALYSIS: &[Setting] = &[Setting::option("preanalysis", "true")];
