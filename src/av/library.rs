//! Encoder libraries' own versions, asked of the libraries themselves in the running process.

use crate::adapter::Library;

/// The version of an encoder library, as it spells it; `None` where it cannot be asked.
#[must_use]
pub fn version(library: Library) -> Option<String> {
    match library {
        Library::Unknown => None,
        Library::Function(name) => called(name),
        Library::Variable(name) => read(name),
        Library::Numbered(prefix) => BUILDS
            .rev()
            .find(|build| symbol(&format!("{prefix}{build}")).is_some())
            .map(|build| format!("build {build}")),
    }
}

/// Builds of x264 since FFmpeg 5.1's least (118), with room ahead.
const BUILDS: std::ops::Range<u32> = 118..400;

#[cfg(unix)]
fn symbol(name: &str) -> Option<std::ptr::NonNull<std::ffi::c_void>> {
    let name = crate::av::c_string(name).ok()?;
    // SAFETY: a look-up by a terminated string among the libraries that this process has loaded.
    std::ptr::NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

#[cfg(unix)]
fn called(name: &str) -> Option<String> {
    type Version = unsafe extern "C" fn() -> *const std::ffi::c_char;
    let found = symbol(name)?;
    // SAFETY: the rows name only functions of this type, by their libraries' public headers.
    let version = unsafe { std::mem::transmute::<*mut std::ffi::c_void, Version>(found.as_ptr()) };
    // SAFETY: as above; the text is static, or null.
    unsafe { crate::av::text(version()) }.map(|text| text.trim().to_owned())
}

#[cfg(unix)]
fn read(name: &str) -> Option<String> {
    let found = symbol(name)?;
    // SAFETY: the rows name only variables that are pointers to static text.
    let text = unsafe { *found.as_ptr().cast::<*const std::ffi::c_char>() };
    // SAFETY: as above.
    unsafe { crate::av::text(text) }.map(|text| text.trim().to_owned())
}

#[cfg(not(unix))]
fn symbol(_name: &str) -> Option<()> {
    None
}

#[cfg(not(unix))]
fn called(_name: &str) -> Option<String> {
    None
}

#[cfg(not(unix))]
fn read(_name: &str) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_are_linked_tell_their_version() {
        crate::av::initialise();
        for adapter in crate::adapter::all().into_iter().filter(|adapter| adapter.library != Library::Unknown) {
            let present = crate::av::option::encoder_table(adapter.name).is_some();
            let version = version(adapter.library);
            println!("{}: {version:?}", adapter.name);
            assert!(
                !present || version.is_some_and(|text| text.contains(|c: char| c.is_ascii_digit())),
                "{}",
                adapter.name
            );
        }
    }
}
