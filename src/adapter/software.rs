//! Rows of encoders that run on the CPU. Facts from libavcodec's wrapper of each (`libx264.c` and so on) and from runs of
//! FFmpeg 5.1, 7.1 and 9.0; `vendor-notes.md` has the surprising ones.

use super::{
    Adapter, Better, Bitrate, Capping, FloorModel, Gop, Hdr10, Hdr10Style, Headers, Knob, Known, Library, PRESETS,
    PassModel, Proof, Reserved, Reuse, Sessions, Setting, Sidecar, Slot, Speed, StatsRoute, Threads, TwoRuns, Vendor,
    packages,
};

pub(super) static ALL: &[Adapter] = &[X264, X265, VP9, AOM, SVT, VVENC];

const X264: Adapter = Adapter {
    name: "libx264",
    row: 1,
    codec: "h264",
    vendor: Vendor::Software,
    availability: "FFmpeg built with --enable-gpl --enable-libx264 has it",
    packages: packages::GPL,
    drivers: &[],
    known: &[],
    library: Library::Numbered("x264_encoder_open_"),
    quality: &[Knob { option: "crf", whole: false, cap: Capping::Buffer, ..CRF_0_TO_51 }],
    // In kilobits inside: below one, "bitrate not specified"; x264 clips above 2 Gb/s (encoder.c, validate_parameters).
    bitrate: Some(Bitrate { range: (KILOBIT, 2_000_000 * KILOBIT), with: &[], cap: Capping::Buffer }),
    speed: Some(Speed { option: "preset", native: PRESETS, names: &PRESETS }),
    gop: Gop {
        length: Some(GENERIC_GOP),
        least: Some(GENERIC_LEAST),
        default_length: Some(250),
        fixed: &[Setting::option("sc_threshold", "0"), Setting::option("flags", "+cgop")],
        forced: &[Setting::option("forced-idr", "1")],
        exact: true,
    },
    pixel_formats: &["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"],
    odd_sizes: false,
    interlaced: &[Setting::option("flags", "+ildct+ilme")],
    // AVX-512 code of the macroblock tree, eight macroblocks at a time; see vendor-notes.md.
    unwritten_unless: Some(128),
    passes: PassModel::TwoRuns(TwoRuns {
        routes: &[StatsRoute::File { option: "stats" }],
        no_quality: Some("CRF/CQP is incompatible with 2pass."),
        // fastfirstpass=1 is the wrapper's default already.
        fast_first: &[],
        first: "x264's own quick first pass (fastfirstpass=1): one reference, no 8x8dct, subme 2 at most, no trellis",
        proof: Proof::Lines("in:"),
        sidecar: Some(Sidecar { suffix: ".mbtree" }),
        bytes_per_frame: (111, 2),
        longest_path: PATH_MAX,
        without_route: "the linked libavcodec's libx264 has no option stats",
        // At half the rate 0.01 to 0.14 dB and 2 to 5 % of bits below its own first pass, at a quarter 0.05 to 0.46 dB and 5 to
        // 14 % (vendor-notes.md).
        reuse: Reuse::AtOrBelow { from_percent: 25 },
        free: &[Slot::option("threads")],
        least_side: 0,
        floor: Some(&X264_FLOOR),
    }),
    sessions: Some(Sessions {
        with: &[
            // Else pic_init_qp in the headers follows the level.
            Setting::param("x264-params", "stitchable", "1"),
            Setting::option("flags", "+cgop"),
            Setting::option("threads", "1"),
        ],
        reserved: &[
            Reserved {
                option: "x264-params",
                keys: &["stitchable", "open-gop", "intra-refresh", "nal-hrd"],
                why: JOINED,
            },
            Reserved { option: "intra-refresh", keys: &[], why: JOINED },
            Reserved { option: "nal-hrd", keys: &[], why: JOINED },
            Reserved { option: "flags", keys: &["cgop"], why: JOINED },
        ],
        usual: 23.0,
        halving: 6.0,
        levels: (1.0, 51.0),
        worth: 1.0,
        headers: Headers::H264,
    }),
    threads: Threads::Context,
    always: &[],
    quiet: &[],
    reserved: &[
        CRF,
        QP,
        STATS,
        PASSLOGFILE,
        Reserved { option: "x264opts", keys: &[], why: "its keys cannot be checked; use x264-params" },
        Reserved { option: "x264-params", keys: &["pass", "stats"], why: PASSES },
        Reserved {
            option: "x264-params",
            keys: &["crf", "qp", "bitrate", "vbv-maxrate", "vbv-bufsize"],
            why: "use -b, --crf, --maxrate or --bufsize",
        },
        Reserved { option: "x264-params", keys: &["threads"], why: "use --threads" },
    ],
    hdr10: Some(Hdr10 { option: "x264-params", display: "mastering-display", light: "cll", style: Hdr10Style::Units }),
};

const X265: Adapter = Adapter {
    name: "libx265",
    row: 1,
    codec: "hevc",
    vendor: Vendor::Software,
    availability: "FFmpeg built with --enable-gpl --enable-libx265 has it",
    packages: packages::GPL,
    drivers: &[],
    known: &[],
    library: Library::Variable("x265_version_str"),
    quality: &[Knob { option: "crf", whole: false, cap: Capping::Buffer, ..CRF_0_TO_51 }],
    // In kilobits inside: below one, x265 aims at 0 kb/s in silence.
    bitrate: Some(Bitrate { range: (KILOBIT, 2_000_000 * KILOBIT), with: &[], cap: Capping::Buffer }),
    speed: Some(Speed { option: "preset", native: PRESETS, names: &PRESETS }),
    gop: Gop {
        length: Some(GENERIC_GOP),
        least: Some(GENERIC_LEAST),
        default_length: Some(250),
        fixed: &[Setting::param("x265-params", "scenecut", "0"), Setting::param("x265-params", "open-gop", "0")],
        forced: &[Setting::option("forced-idr", "1")],
        exact: true,
    },
    pixel_formats: &["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"],
    odd_sizes: false,
    interlaced: &[],
    unwritten_unless: None,
    passes: PassModel::TwoRuns(TwoRuns {
        routes: &[
            StatsRoute::File { option: "x265-stats" },
            StatsRoute::Params { option: "x265-params", pass: "pass", stats: "stats" },
        ],
        no_quality: Some("Constant rate-factor is incompatible with 2pass without vbv-maxrate in the previous pass"),
        fast_first: &[Setting::param("x265-params", "slow-firstpass", "0")],
        first: "as slow as the second (slow-firstpass is x265's default)",
        proof: Proof::Lines("in:"),
        sidecar: Some(Sidecar { suffix: ".cutree" }),
        bytes_per_frame: (131, 2),
        // x265 from 4.0 on copies the name into 256 bytes, also from the AVOption.
        longest_path: 255,
        without_route: "the linked libavcodec's libx265 has neither x265-stats nor x265-params",
        // At half the rate it lands 5 to 10 % below, at a quarter 11 to 22 % (vendor-notes.md).
        reuse: Reuse::AtOrBelow { from_percent: 75 },
        free: &[Slot { option: "x265-params", key: Some("pools") }],
        least_side: 0,
        floor: Some(&X264_FLOOR),
    }),
    sessions: Some(Sessions {
        with: &[
            Setting::param("x265-params", "open-gop", "0"),
            // Its text has the level in it.
            Setting::param("x265-params", "info", "0"),
            Setting::param("x265-params", "pools", "none"),
            // The default follows the number of CPUs, and the bits follow it.
            Setting::param("x265-params", "frame-threads", "1"),
        ],
        reserved: &[
            Reserved {
                option: "x265-params",
                keys: &["open-gop", "info", "hrd", "lossless", "repeat-headers"],
                why: JOINED,
            },
            Reserved { option: "x265-params", keys: &["pools", "frame-threads", "numa-pools"], why: ONE_THREAD },
        ],
        usual: 23.0,
        halving: 6.0,
        levels: (1.0, 51.0),
        worth: 0.8,
        headers: Headers::Hevc,
    }),
    // The wrapper's threads are frame threads.
    threads: Threads::Param("x265-params", "pools"),
    always: &[],
    quiet: &[Setting::param("x265-params", "log-level", "error")],
    reserved: &[
        CRF,
        QP,
        Reserved { option: "x265-stats", keys: &[], why: PASSES },
        Reserved {
            option: "x265-params",
            keys: &["pass", "stats", "multi-pass-opt-*", "analysis-*", "refine-analysis-type"],
            why: PASSES,
        },
        Reserved {
            option: "x265-params",
            keys: &["crf", "qp", "bitrate", "vbv-maxrate", "vbv-bufsize", "strict-cbr"],
            why: "use -b, --crf, --maxrate or --bufsize",
        },
    ],
    hdr10: Some(Hdr10 { option: "x265-params", display: "master-display", light: "max-cll", style: Hdr10Style::Units }),
};

const VP9: Adapter = Adapter {
    name: "libvpx-vp9",
    row: 1,
    codec: "vp9",
    vendor: Vendor::Software,
    availability: "FFmpeg built with --enable-libvpx has it",
    packages: packages::FREE,
    drivers: &[],
    known: &[],
    library: Library::Function("vpx_codec_version_str"),
    quality: &[Knob { option: "crf", whole: true, ..GOOGLE_CRF }],
    // In kilobits inside, rounded: below half of one it is none.
    bitrate: Some(Bitrate { range: (KILOBIT, 2_000_000 * KILOBIT), with: &[], cap: GOOGLE_CAP }),
    speed: Some(Speed {
        option: "cpu-used",
        // Above 5 the deadline "good" changes nothing more (vp9_speed_features.c).
        native: ["5", "5", "5", "4", "4", "3", "2", "1", "1", "0"],
        names: &[],
    }),
    gop: Gop {
        length: Some(GENERIC_GOP),
        // libvpxenc.c takes keyint_min only where it equals g.
        least: Some(GENERIC_LEAST),
        default_length: None,
        fixed: &[],
        forced: &[],
        exact: true,
    },
    pixel_formats: &["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"],
    odd_sizes: true,
    interlaced: &[],
    unwritten_unless: None,
    passes: PassModel::TwoRuns(TwoRuns {
        routes: &[StatsRoute::Context],
        no_quality: None,
        fast_first: &[],
        first: "motion and complexity of each frame; nothing is coded, about 5 to 10 % of the time",
        proof: Proof::Records { numbered: true },
        sidecar: None,
        bytes_per_frame: (288, 0),
        longest_path: PATH_MAX,
        without_route: "the linked libvpx gives no statistics",
        reuse: Reuse::Exact,
        free: VP9_FREE,
        least_side: 0,
        floor: None,
    }),
    sessions: Some(Sessions {
        with: &[Setting::option("threads", "1")],
        reserved: &[],
        usual: 28.0,
        halving: 12.0,
        levels: (1.0, 63.0),
        worth: 0.9,
        headers: Headers::None,
    }),
    threads: Threads::Context,
    always: &[Setting::option("row-mt", "1").where_there()],
    quiet: &[],
    reserved: &[CRF],
    hdr10: None,
};

const AOM: Adapter = Adapter {
    name: "libaom-av1",
    row: 1,
    codec: "av1",
    vendor: Vendor::Software,
    availability: "FFmpeg built with --enable-libaom has it",
    packages: packages::FREE,
    drivers: &[],
    // av1_twopass_postencode_update; and tf_setup_filtering_buffer where a second pass is closed before it had every frame
    // of the first, which repass never does.
    known: &[Known {
        version: "3.6.",
        as_root: false,
        what: "ends its process over some footage, by an assertion: repass runs it in a process of its own",
        isolate: true,
    }],
    library: Library::Function("aom_codec_version_str"),
    quality: &[Knob { option: "crf", whole: true, ..GOOGLE_CRF }],
    // libaom from 3.12 on refuses more than 2 Gb/s; below half a kilobit it is none.
    bitrate: Some(Bitrate { range: (KILOBIT, 2_000_000 * KILOBIT), with: &[], cap: GOOGLE_CAP }),
    speed: Some(Speed {
        option: "cpu-used",
        // Above 6 the usage "good" changes nothing more.
        native: ["6", "6", "6", "5", "5", "4", "3", "2", "1", "0"],
        names: &[],
    }),
    gop: Gop { ..VP9.gop },
    pixel_formats: &["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"],
    odd_sizes: true,
    interlaced: &[],
    unwritten_unless: None,
    passes: PassModel::TwoRuns(TwoRuns {
        routes: &[StatsRoute::Context],
        no_quality: None,
        fast_first: &[],
        first: "motion and complexity of each frame; nothing is coded, about 1 to 5 % of the time",
        proof: Proof::Records { numbered: true },
        sidecar: None,
        bytes_per_frame: (320, 0),
        longest_path: PATH_MAX,
        without_route: "the linked libaom gives no statistics",
        reuse: Reuse::Exact,
        // Not cpu-used: each class has its own first pass.
        free: AOM_FREE,
        least_side: 0,
        floor: None,
    }),
    sessions: Some(Sessions {
        with: &[Setting::option("threads", "1")],
        reserved: &[Reserved { option: "aom-params", keys: &["fwd-kf-enabled", "enable-fwd-kf"], why: JOINED }],
        usual: 28.0,
        halving: 12.0,
        levels: (1.0, 63.0),
        worth: 0.9,
        headers: Headers::Av1,
    }),
    threads: Threads::Context,
    always: &[Setting::option("row-mt", "1").where_there()],
    quiet: &[],
    reserved: &[
        CRF,
        Reserved { option: "aom-params", keys: &["cq-level", "end-usage", "target-bitrate"], why: TARGET },
    ],
    hdr10: None,
};

const SVT: Adapter = Adapter {
    name: "libsvtav1",
    row: 1,
    codec: "av1",
    vendor: Vendor::Software,
    availability: "FFmpeg built with --enable-libsvtav1 has it",
    packages: packages::FREE,
    drivers: &[],
    known: &[Known {
        version: "",
        as_root: true,
        what: "gives its threads realtime priority where it runs as root, and can starve the decoder: run as an ordinary \
               user",
        isolate: false,
    }],
    library: Library::Function("svt_av1_get_version"),
    quality: &[Knob {
        option: "crf",
        whole: true,
        // 0 means "not set" in the wrapper (libsvtav1.c tests for > 0).
        range: (1.0, 63.0),
        cap: Capping::Buffer,
        ..CRF_0_TO_51
    }],
    bitrate: Some(Bitrate {
        // "The target bit rate must be between [0, 100000] kbps".
        range: (KILOBIT, 100_000 * KILOBIT),
        with: &[],
        // SVT-AV1 1.4 takes it in silence and drops it, 2.3 and 4.2 refuse.
        cap: Capping::Refused("Max Bitrate only supported with CRF mode"),
    }),
    speed: Some(Speed { option: "preset", native: ["12", "11", "10", "9", "8", "6", "5", "4", "2", "0"], names: &[] }),
    gop: Gop {
        length: Some(GENERIC_GOP),
        least: None,
        default_length: None,
        fixed: &[Setting::option("flags", "+cgop")],
        forced: &[],
        exact: true,
    },
    pixel_formats: &["yuv420p", "yuv420p10le"],
    odd_sizes: false,
    interlaced: &[],
    unwritten_unless: None,
    passes: PassModel::TwoRuns(TwoRuns {
        routes: &[StatsRoute::Context],
        no_quality: Some("CRF does not support multi-pass. Use single pass."),
        fast_first: &[],
        first: "a quick encode of the whole at a quantizer chosen from the bit rate",
        proof: Proof::Records { numbered: false },
        sidecar: None,
        bytes_per_frame: (75, 0),
        longest_path: PATH_MAX,
        without_route: "the linked libavcodec passes no statistics to or from SVT-AV1 (its libsvtav1.c ignores the pass flags, \
                        as it does before FFmpeg 9)",
        reuse: Reuse::No,
        free: &[Slot { option: "svtav1-params", key: Some("lp") }],
        least_side: 128,
        floor: None,
    }),
    sessions: Some(Sessions {
        with: &[Setting::option("flags", "+cgop"), Setting::param("svtav1-params", "lp", "1")],
        reserved: &[
            Reserved { option: "svtav1-params", keys: &["irefresh-type", "enable-force-key-frames"], why: JOINED },
            Reserved { option: "svtav1-params", keys: &["lp"], why: ONE_THREAD },
        ],
        usual: 30.0,
        halving: 10.0,
        levels: (1.0, 63.0),
        worth: 0.9,
        headers: Headers::Av1,
    }),
    // The wrapper ignores threads. Up to SVT-AV1 2 this is a number of processors, later a level of 1 to 6.
    threads: Threads::Param("svtav1-params", "lp"),
    always: &[],
    // By the environment variable SVT_LOG alone.
    quiet: &[],
    reserved: &[
        CRF,
        QP,
        Reserved { option: "svtav1-params", keys: &["pass", "passes", "stats"], why: PASSES },
        Reserved {
            option: "svtav1-params",
            keys: &["rc", "crf", "qp", "tbr", "mbr", "bufsz"],
            why: "use -b, --crf or --maxrate",
        },
    ],
    hdr10: Some(Hdr10 {
        option: "svtav1-params",
        display: "mastering-display",
        light: "content-light",
        style: Hdr10Style::Decimals,
    }),
};

const VVENC: Adapter = Adapter {
    name: "libvvenc",
    row: 1,
    codec: "vvc",
    vendor: Vendor::Software,
    availability: "FFmpeg 7.1 or later built with --enable-libvvenc has it",
    packages: packages::RARE,
    drivers: &[],
    known: &[],
    library: Library::Function("vvenc_get_version"),
    quality: &[Knob { option: "qp", whole: true, range: (0.0, 63.0), cap: VVENC_CAP, ..CRF_0_TO_51 }],
    // Level limits may refuse less when it opens.
    bitrate: Some(Bitrate { range: (KILOBIT, 800_000 * KILOBIT), with: &[], cap: VVENC_CAP }),
    speed: Some(Speed {
        option: "preset",
        native: ["faster", "faster", "faster", "faster", "fast", "medium", "slow", "slower", "slower", "slower"],
        names: &[],
    }),
    gop: Gop {
        // libvvenc.c reads g only to see whether it is 1.
        length: Some(Slot { option: "vvenc-params", key: Some("intraperiod") }),
        least: None,
        default_length: None,
        fixed: &[Setting::param("vvenc-params", "decodingrefreshtype", "idr")],
        forced: &[],
        exact: true,
    },
    pixel_formats: &["yuv420p10le"],
    odd_sizes: false,
    interlaced: &[],
    unwritten_unless: None,
    passes: PassModel::TwoRuns(TwoRuns {
        routes: &[StatsRoute::File { option: "stats" }],
        no_quality: Some("A bitrate must be set to use two pass mode."),
        fast_first: &[],
        first: "a quick encode of the whole, whose packets are kept back; about 5 to 15 % of the time",
        proof: Proof::JsonLines("poc"),
        sidecar: None,
        bytes_per_frame: (220, 0),
        longest_path: PATH_MAX,
        without_route: "the linked libavcodec's libvvenc has no option stats",
        // The quantizer of the first pass comes from the bit rate; sizes shift by 5 to 15 %.
        reuse: Reuse::No,
        free: &[Slot::option("threads")],
        least_side: 0,
        floor: None,
    }),
    sessions: None,
    threads: Threads::Context,
    always: &[],
    // At libav's level "info" the wrapper lets warnings through to stdout.
    quiet: &[Setting::param("vvenc-params", "verbosity", "silent")],
    reserved: &[
        QP,
        STATS,
        PASSLOGFILE,
        Reserved { option: "vvenc-params", keys: &["pass", "passes", "rcstatsfile"], why: PASSES },
        Reserved {
            option: "vvenc-params",
            keys: &["qp", "bitrate", "targetbitrate", "maxrate", "maxbitrate"],
            why: "use -b, --crf or --maxrate",
        },
        Reserved { option: "vvenc-params", keys: &["threads", "t"], why: "use --threads" },
    ],
    hdr10: Some(Hdr10 {
        option: "vvenc-params",
        display: "masteringdisplaycolourvolume",
        light: "maxcontentlightlevel",
        style: Hdr10Style::List,
    }),
};

const CRF_0_TO_51: Knob = Knob {
    option: "crf",
    also: &[],
    scale: 1,
    whole: false,
    better: Better::Lower,
    range: (0.0, 51.0),
    with: &[],
    cap: Capping::Buffer,
    analysis: &[],
};

/// libvpx and libaom: with `b=0` constant quality, else constrained by the bit rate.
const GOOGLE_CRF: Knob = Knob {
    whole: true,
    range: (0.0, 63.0),
    with: &[Setting::option("b", "0")],
    cap: Capping::AsBitrate(
        "it bounds the average of the whole (constrained quality), not every moment; --bufsize is not used",
    ),
    ..CRF_0_TO_51
};

const GOOGLE_CAP: Capping =
    Capping::Loose("libvpx and libaom keep it over groups of pictures in a second pass, not at every moment");
const VVENC_CAP: Capping = Capping::Loose("VVenC aims at it as a peak and has no buffer size");
/// Its first pass looks at each frame by itself, without any of these (vp9_firstpass.c).
const VP9_FREE: &[Slot] = &[
    Slot::option("threads"),
    Slot::option("cpu-used"),
    Slot::option("deadline"),
    Slot::option("g"),
    Slot::option("keyint_min"),
    Slot::option("lag-in-frames"),
    Slot::option("aq-mode"),
    Slot::option("tile-columns"),
    Slot::option("tile-rows"),
];
const AOM_FREE: &[Slot] = &[
    Slot::option("threads"),
    Slot::option("row-mt"),
    Slot::option("g"),
    Slot::option("keyint_min"),
    Slot::option("lag-in-frames"),
    Slot::option("aq-mode"),
    Slot::option("tune"),
];
const GENERIC_GOP: Slot = Slot { option: "g", key: None };
const GENERIC_LEAST: Slot = Slot { option: "keyint_min", key: None };
const CRF: Reserved = Reserved { option: "crf", keys: &[], why: "use --crf" };
const QP: Reserved = Reserved { option: "qp", keys: &[], why: "use --crf or -b" };
const STATS: Reserved = Reserved { option: "stats", keys: &[], why: PASSES };
const PASSLOGFILE: Reserved = Reserved { option: "passlogfile", keys: &[], why: PASSES };
const PASSES: &str = "the driver keeps the statistics; use --passes";
const TARGET: &str = "use -b or --crf";
/// x265 has x264's rate control, with its words.
const X264_FLOOR: FloorModel =
    FloorModel { quantizer: "q:", texture: "tex:", motion: "mv:", rest: "misc:", coarsest: 69.0 };
const JOINED: &str = "segments of a session would not join into one stream";
const ONE_THREAD: &str = "segments of a session have one thread each; --threads says how many are in work";
const KILOBIT: u64 = 1000;
/// Linux's and libav's longest path in bytes, without the final NUL.
const PATH_MAX: usize = 4095;
