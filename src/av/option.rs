//! AVOptions: tables of what an encoder takes, and dictionaries whose leftovers are an error.

use std::ptr;

use ffmpeg_sys_next as ffi;

use crate::av::{AvError, c_string, check, text};

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

    pub(crate) fn as_ptr(&self) -> *const ffi::AVDictionary {
        self.0
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
