//! Keeps out of the program what std and the C library bring along and nothing here uses: half of it.
//!
//! A converted image carries the program in RAM, twice while the kernel unpacks it, so each byte counts two or three times
//! (src/docs/ram-model.md). A static glibc reaches its printf, its locales, its character sets and its loader of shared
//! objects from a few functions that this program never calls, and std reaches a reader of debugging information from the
//! backtrace of a panic. These functions are defined here instead. The linker takes the first definition of a name and
//! leaves the library's object file out, with all that it alone needs; where a library has no such name, or needs its own
//! definition for something else, the program is only larger (`-z muldefs` in src/build.rs).
//!
//! They take the C library's place only in the program that goes into images (`cfg(embedded)`): the unit tests run with
//! the true ones.

#![allow(unsafe_code, non_snake_case)]
#![cfg_attr(not(embedded), allow(dead_code))]

use std::ffi::{c_char, c_int, c_long, c_void};

/// Defines functions that all do the same, under the names of the libraries' own.
macro_rules! instead_of {
    ($($name:ident)*: $parameters:tt -> $result:ty $body:block) => {$(
        #[cfg_attr(embedded, unsafe(no_mangle))]
        extern "C" fn $name $parameters -> $result $body
    )*};
}

// std's panic handler prints a backtrace; the debugging information is stripped, so it could print addresses only. The
// parameters are the true ones: so the compiler sees through the call that no frame is ever looked at, and what reads
// debugging information is left out.
instead_of!(_Unwind_Backtrace: (_frame: *const c_void, _context: *mut c_void) -> c_int {
    const END_OF_STACK: c_int = 5;
    END_OF_STACK
});

// The rest of the unwinder, which a program that aborts when it panics never calls.
instead_of!(
    _Unwind_DeleteException _Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetGR _Unwind_GetIP
    _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_RaiseException
    _Unwind_Resume _Unwind_SetGR _Unwind_SetIP: () -> usize { 0 }
);

// malloc_stats(3), and what malloc, fork(2) and abort(3) do with open streams: there are none.
instead_of!(
    _IO_cleanup _IO_fputs _IO_iter_begin _IO_iter_end _IO_iter_file _IO_iter_next _IO_list_lock _IO_list_resetlock
    _IO_list_unlock __fprintfieee128 ___ieee128_fprintf fprintf fwrite: () -> usize { 0 }
);

#[cfg_attr(embedded, unsafe(no_mangle))]
#[allow(non_upper_case_globals)]
static stderr: usize = 0;

// The start of a program fills in the tables of its locale, and there is none.
instead_of!(__ctype_init: () -> usize { 0 });

// The C library's own last words. The kernel then says that init was killed, as it does after any abort.
instead_of!(__libc_dynarray_at_failure: () -> usize { 0 });
instead_of!(__assert_fail __libc_assert_fail: () -> c_int { std::process::abort() });

// Translations of error messages: the original, in English.
instead_of!(
    dcgettext __dcgettext __dcigettext: (_domain: *const c_char, message: *const c_char) -> *const c_char { message }
);

// Only strerror(3) calls it, for an error number that has no message.
instead_of!(
    snprintf __snprintf __snprintfieee128 ___ieee128_snprintf: (buffer: *mut c_char, size: usize) -> c_int {
        if size > 0 {
            // SAFETY: the caller's buffer has `size` bytes.
            unsafe { buffer.write(0) };
        }
        0
    }
);

// std asks for the limits of the main thread's stack, to name an overflow. It does without where they are not known.
instead_of!(pthread_getattr_np: () -> c_int {
    const ENOSYS: c_int = 38;
    ENOSYS
});

// malloc makes more arenas where there are more processors; one thread needs one.
instead_of!(get_nprocs __get_nprocs __get_nprocs_sched: () -> c_int { 1 });

unsafe extern "C" {
    safe fn getpagesize() -> c_int;
}

// sysconf(3): the size of a page, which is all that std and the C library ask for here.
instead_of!(sysconf __sysconf: (name: c_int) -> c_long {
    const SC_PAGESIZE: c_int = 30;
    if name == SC_PAGESIZE { getpagesize().into() } else { -1 }
});
