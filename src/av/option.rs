//! AVOptions: tables of what an encoder takes, and dictionaries whose leftovers are an error.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::ptr;

use ffmpeg_sys_next as ffi;

#[cfg(ffmpeg_7_1)]
use crate::av::frame::range_name;
use crate::av::{AvError, c_string, check, initialise, text};
use crate::probe::{OptionInfo, OptionKind};

/// An AVDictionary: ordered keys and values.
pub struct Dictionary(*mut ffi::AVDictionary);

impl Dictionary {
    /// An empty dictionary.
    #[must_use]
    pub fn new() -> Self {
        Dictionary(ptr::null_mut())
    }

    /// Sets `key`, in place of an earlier value.
    ///
    /// # Errors
    /// Out of memory, or a NUL inside the text.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), AvError> {
        let (key, value) = (c_string(key)?, c_string(value)?);
        // SAFETY: both strings are terminated and copied; the dictionary pointer is ours to replace.
        check(unsafe { ffi::av_dict_set(&raw mut self.0, key.as_ptr(), value.as_ptr(), 0) }).map(drop)
    }

    /// All entries, in order.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, String)> {
        // SAFETY: the dictionary is ours and is not changed meanwhile.
        unsafe { entries(self.0) }
    }

    pub(crate) fn as_mut(&mut self) -> *mut *mut ffi::AVDictionary {
        &raw mut self.0
    }
}

impl Default for Dictionary {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Dictionary {
    fn drop(&mut self) {
        // SAFETY: owned; null is allowed.
        unsafe { ffi::av_dict_free(&raw mut self.0) };
    }
}

/// The entries of a dictionary of libav's, read lossily.
///
/// # Safety
/// `dictionary` is null or live, and is not changed during the call.
pub(crate) unsafe fn entries(dictionary: *const ffi::AVDictionary) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let mut entry = ptr::null();
    loop {
        // SAFETY: as the caller promises; the empty key with IGNORE_SUFFIX walks all entries.
        entry = unsafe { ffi::av_dict_get(dictionary, c"".as_ptr(), entry, ffi::AV_DICT_IGNORE_SUFFIX) };
        // SAFETY: non-null entries are live while the dictionary is.
        let Some(found) = (unsafe { entry.as_ref() }) else { return entries };
        // SAFETY: keys and values of an entry are terminated strings.
        let (key, value) = unsafe { (text(found.key), text(found.value)) };
        entries.push((key.unwrap_or_default(), value.unwrap_or_default()));
    }
}

/// What the linked libavcodec says of an encoder without opening it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EncoderTable {
    /// Its own options and the generic ones of libavcodec, by name; its own win.
    pub(crate) options: BTreeMap<String, OptionInfo>,
    /// Pixel formats of frames in memory, in libavcodec's order.
    pub(crate) pixel_formats: Vec<String>,
    /// Ranges of sample values (`tv`, `pc`), in libavcodec's order.
    pub(crate) colour_ranges: Vec<String>,
}

/// The tables of an encoder; `None` where it is not compiled in.
pub(crate) fn encoder_table(name: &str) -> Option<EncoderTable> {
    initialise();
    let name = c_string(name).ok()?;
    // SAFETY: a look-up by a terminated string; codecs are static tables.
    let codec = unsafe { ffi::avcodec_find_encoder_by_name(name.as_ptr()).as_ref() }?;
    // SAFETY: takes nothing, returns a static class.
    let generic = unsafe { ffi::avcodec_get_class() };
    let mut options = class_options(generic, false);
    options.extend(class_options(codec.priv_class, true));
    Some(EncoderTable { options, pixel_formats: pixel_formats(codec), colour_ranges: colour_ranges(codec) })
}

/// The encoding options for video of one class, with their named values.
fn class_options(class: *const ffi::AVClass, private: bool) -> BTreeMap<String, OptionInfo> {
    let table = raw_options(class);
    let values = |unit: &Option<String>| {
        let constants = table.iter().filter(|option| option.kind == CONSTANT && unit.is_some() && option.unit == *unit);
        constants.map(|option| (option.name.clone(), option.number())).collect::<Vec<_>>()
    };
    let settable =
        table.iter().filter(|option| option.kind != CONSTANT && option.flags & ENCODING_VIDEO == ENCODING_VIDEO);
    settable.map(|option| (option.name.clone(), option.describe(values(&option.unit), private))).collect()
}

/// All entries of a class's table, constants included, in its order.
fn raw_options(class: *const ffi::AVClass) -> Vec<RawOption> {
    if class.is_null() {
        return Vec::new();
    }
    // libav reads only the class pointer at the start of an object, so a pointer to one is object enough
    // (AV_OPT_SEARCH_FAKE_OBJ works the same way).
    let object = (&raw const class).cast::<c_void>();
    let mut table = Vec::new();
    let mut option = ptr::null();
    loop {
        // SAFETY: the object begins with a live class; tables of options are static.
        option = unsafe { ffi::av_opt_next(object, option) };
        // SAFETY: non-null entries are static.
        let Some(entry) = (unsafe { option.as_ref() }) else { return table };
        table.push(RawOption::read(entry));
    }
}

/// An entry of an option table, with its type as a number: from FFmpeg 7.1 on a flag for arrays may be added to it, which
/// the binding's enumeration cannot hold.
struct RawOption {
    name: String,
    help: String,
    unit: Option<String>,
    kind: u32,
    flags: c_int,
    min: f64,
    max: f64,
    default: RawDefault,
}

/// The default of an option, by its type.
enum RawDefault {
    Number(i64),
    Decimal(f64),
    Text(Option<String>),
    Other,
}

impl RawOption {
    fn read(entry: &ffi::AVOption) -> Self {
        // SAFETY: the field is 32 bits wide and initialised; see the type's comment.
        let kind = unsafe { (&raw const entry.type_).cast::<u32>().read() };
        // SAFETY: the type says which member of the union is set; strings are static and terminated, or null.
        let default = unsafe {
            match kind {
                kind if WHOLE.contains(&kind) => RawDefault::Number(entry.default_val.i64_),
                kind if DECIMAL.contains(&kind) => RawDefault::Decimal(entry.default_val.dbl),
                kind if kind == STRING || kind == DICTIONARY => RawDefault::Text(text(entry.default_val.str_)),
                _ => RawDefault::Other,
            }
        };
        // SAFETY: names, help and units are static strings or null.
        let (name, help, unit) = unsafe { (text(entry.name), text(entry.help), text(entry.unit)) };
        RawOption {
            name: name.unwrap_or_default(),
            help: help.unwrap_or_default(),
            unit,
            kind,
            flags: entry.flags as c_int,
            min: entry.min,
            max: entry.max,
            default,
        }
    }

    fn number(&self) -> i64 {
        match self.default {
            RawDefault::Number(number) => number,
            RawDefault::Decimal(_) | RawDefault::Text(_) | RawDefault::Other => 0,
        }
    }

    fn describe(&self, named: Vec<(String, i64)>, private: bool) -> OptionInfo {
        let name_of = |number: i64| named.iter().find(|(_, value)| *value == number).map(|(name, _)| name.clone());
        let default = match &self.default {
            RawDefault::Number(number) => Some(name_of(*number).unwrap_or_else(|| number.to_string())),
            RawDefault::Decimal(number) => Some(number.to_string()),
            RawDefault::Text(text) => text.clone(),
            RawDefault::Other => None,
        };
        let kind = self.kind();
        OptionInfo { kind, min: self.min, max: self.max, default, named, help: self.help.clone(), private }
    }

    fn kind(&self) -> OptionKind {
        match self.kind {
            FLAGS => OptionKind::Flags,
            BOOL => OptionKind::Bool,
            DURATION => OptionKind::Other,
            STRING => OptionKind::Text,
            DICTIONARY => OptionKind::Params,
            kind if WHOLE.contains(&kind) => OptionKind::Int,
            kind if DECIMAL.contains(&kind) => OptionKind::Float,
            _ => OptionKind::Other,
        }
    }
}

/// The pixel formats of frames in memory that an encoder lists; surfaces of devices are left out.
fn pixel_formats(codec: &ffi::AVCodec) -> Vec<String> {
    listed_formats(codec).into_iter().filter_map(memory_format_name).collect()
}

/// The ranges that an encoder lists. Where it does, the ffmpeg program makes its filters choose one, also for frames that do
/// not say theirs.
#[cfg(ffmpeg_7_1)]
fn colour_ranges(codec: &ffi::AVCodec) -> Vec<String> {
    // SAFETY: the values of this configuration are an enum of 32 bits.
    let ranges = unsafe { supported::<u32>(ptr::null(), codec, ffi::AVCodecConfig::AV_CODEC_CONFIG_COLOR_RANGE) };
    ranges.iter().filter_map(|range| range_name(*range)).map(str::to_owned).collect()
}

#[cfg(not(ffmpeg_7_1))]
fn colour_ranges(_codec: &ffi::AVCodec) -> Vec<String> {
    Vec::new()
}

#[cfg(ffmpeg_7_1)]
fn listed_formats(codec: &ffi::AVCodec) -> Vec<ffi::AVPixelFormat> {
    // SAFETY: the values of this configuration are of this type.
    unsafe { supported(ptr::null(), codec, ffi::AVCodecConfig::AV_CODEC_CONFIG_PIX_FORMAT) }.to_vec()
}

/// What an encoder lists of a configuration; nothing where it takes any value. `context` is null or one of the encoder.
///
/// # Safety
/// The configuration's values are `T`, as libavcodec documents it; the context is null or live.
#[cfg(ffmpeg_7_1)]
pub(super) unsafe fn supported<T>(
    context: *const ffi::AVCodecContext,
    codec: *const ffi::AVCodec,
    config: ffi::AVCodecConfig,
) -> &'static [T] {
    let (mut list, mut length) = (ptr::null(), 0);
    // SAFETY: both results are written before a success is returned; codecs are static, and so are their lists.
    let code = unsafe { ffi::avcodec_get_supported_config(context, codec, config, 0, &raw mut list, &raw mut length) };
    if code < 0 || list.is_null() {
        return &[];
    }
    // SAFETY: libavcodec counted the values, which live as long as the codec.
    unsafe { std::slice::from_raw_parts(list.cast(), length.max(0) as usize) }
}

#[cfg(not(ffmpeg_7_1))]
fn listed_formats(codec: &ffi::AVCodec) -> Vec<ffi::AVPixelFormat> {
    let mut list = codec.pix_fmts;
    let mut formats = Vec::new();
    // SAFETY: null, or a static list that ends with NONE.
    while let Some(format) = unsafe { list.as_ref() }.filter(|format| **format != ffi::AVPixelFormat::AV_PIX_FMT_NONE) {
        formats.push(*format);
        // SAFETY: not yet at the end.
        list = unsafe { list.add(1) };
    }
    formats
}

fn memory_format_name(format: ffi::AVPixelFormat) -> Option<String> {
    // SAFETY: a pure look-up; null for numbers that are no format.
    let descriptor = unsafe { ffi::av_pix_fmt_desc_get(format).as_ref() }?;
    let is_surface = descriptor.flags & ffi::AV_PIX_FMT_FLAG_HWACCEL as u64 != 0;
    // SAFETY: the descriptor's name is a static string.
    (!is_surface).then(|| unsafe { text(descriptor.name) }).flatten()
}

const ENCODING_VIDEO: c_int = (ffi::AV_OPT_FLAG_ENCODING_PARAM | ffi::AV_OPT_FLAG_VIDEO_PARAM) as c_int;
const FLAGS: u32 = ffi::AVOptionType::AV_OPT_TYPE_FLAGS as u32;
const BOOL: u32 = ffi::AVOptionType::AV_OPT_TYPE_BOOL as u32;
const STRING: u32 = ffi::AVOptionType::AV_OPT_TYPE_STRING as u32;
const DICTIONARY: u32 = ffi::AVOptionType::AV_OPT_TYPE_DICT as u32;
const CONSTANT: u32 = ffi::AVOptionType::AV_OPT_TYPE_CONST as u32;
const DURATION: u32 = ffi::AVOptionType::AV_OPT_TYPE_DURATION as u32;
/// Types whose default is in `i64`.
const WHOLE: [u32; 7] = [
    ffi::AVOptionType::AV_OPT_TYPE_INT as u32,
    ffi::AVOptionType::AV_OPT_TYPE_INT64 as u32,
    ffi::AVOptionType::AV_OPT_TYPE_UINT64 as u32,
    FLAGS,
    BOOL,
    CONSTANT,
    DURATION,
];
const DECIMAL: [u32; 2] = [ffi::AVOptionType::AV_OPT_TYPE_FLOAT as u32, ffi::AVOptionType::AV_OPT_TYPE_DOUBLE as u32];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_without_opening() {
        let table = encoder_table("libx264").unwrap();
        assert_eq!(table.options["crf"].kind, OptionKind::Float);
        assert!(table.options["crf"].private);
        assert!(!table.options["g"].private);
        assert_eq!(table.options["stats"].kind, OptionKind::Text);
        assert_eq!(table.options["x264-params"].kind, OptionKind::Params);
        assert!(table.pixel_formats.iter().any(|format| format == "yuv420p"));
    }

    #[test]
    fn an_encoder_that_is_not_compiled_in_has_no_table() {
        assert_eq!(encoder_table("av1_videotoolbox"), None);
    }

    #[test]
    fn surfaces_are_no_formats_of_frames_in_memory() {
        let Some(table) = encoder_table("h264_nvenc") else { return eprintln!("skipped: no h264_nvenc here") };
        assert!(!table.pixel_formats.iter().any(|format| format == "cuda"), "{:?}", table.pixel_formats);
    }
}
