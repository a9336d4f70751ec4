//! Memory that only starting needs.

use std::ffi::c_void;
use std::fs;
use std::ptr::{NonNull, with_exposed_provenance_mut};

use nix::sys::mman::{MmapAdvise, madvise};

/// Gives back the pages of code that this process has touched so far. What it goes on using comes back from the page
/// cache; most of what starting took does not.
pub fn release_code() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(code) {
        // SAFETY: nobody writes to code, so the pages that come back from the file are the same.
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// Where a mapping is, if it is code from a file (proc_pid_maps(5)).
fn code(line: &str) -> Option<(NonNull<c_void>, usize)> {
    let mut fields = line.split_whitespace();
    let (range, mode, file) = (fields.next()?, fields.next()?, fields.nth(3)?);
    if mode != "r-xp" || !file.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((NonNull::new(with_exposed_provenance_mut(start))?, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_is_given_back() {
        let line = "55d0a0349000-55d0a0d0c000 r-xp 00348000 fe:00 123 /usr/bin/sinfonia tier3 (deleted)";
        let (start, length) = code(line).unwrap();
        assert_eq!((start.addr().get(), length), (0x55d0_a034_9000, 0x9c_3000));
        for other in [
            "55d0a0d0c000-55d0a0d64000 r--p 00d0b000 fe:00 123 /usr/bin/sinfonia-tier3",
            "7ffc0a5f2000-7ffc0a5f4000 r-xp 00000000 00:00 0 [vdso]",
            "7f2d68000000-7f2d68021000 r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    #[test]
    fn the_program_goes_on() {
        release_code();
        assert_eq!("41".parse::<i32>().map(|number| number + 1), Ok(42));
    }
}
