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

/// Functions that are never called, or only on the way to an abort; what they return means that nothing was done.
macro_rules! nothing {
    ($($name:ident)*) => {$(
        #[cfg_attr(embedded, unsafe(no_mangle))]
        extern "C" fn $name() -> usize {
            0
        }
    )*};
}

// std's panic handler walks the stack with these to print a backtrace. The debugging information is stripped, so it could
// print addresses only.
nothing! {
    _Unwind_DeleteException _Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase
    _Unwind_GetGR _Unwind_GetIP _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart
    _Unwind_GetTextRelBase _Unwind_RaiseException _Unwind_Resume _Unwind_SetGR _Unwind_SetIP
}

/// Its parameters are the true ones: so the compiler sees through the call that no frame is ever looked at, and what reads
/// debugging information is left out.
#[cfg_attr(embedded, unsafe(no_mangle))]
extern "C" fn _Unwind_Backtrace(_frame: *const c_void, _context: *mut c_void) -> c_int {
    const END_OF_STACK: c_int = 5;
    END_OF_STACK
}

// malloc_stats(3), and what malloc, fork(2) and abort(3) do with open streams: there are none.
nothing! {
    _IO_cleanup _IO_fputs _IO_iter_begin _IO_iter_end _IO_iter_file _IO_iter_next _IO_list_lock _IO_list_resetlock
    _IO_list_unlock __fprintfieee128 ___ieee128_fprintf fprintf fwrite
}

// The start of a program fills in the tables of its locale, and there is none.
nothing! { __ctype_init }

#[cfg_attr(embedded, unsafe(no_mangle))]
#[allow(non_upper_case_globals)]
static stderr: usize = 0;

// The C library's own last words. The kernel then says that init was killed, as it does after any abort.
nothing! { __libc_dynarray_at_failure }

macro_rules! abort {
    ($($name:ident)*) => {$(
        #[cfg_attr(embedded, unsafe(no_mangle))]
        extern "C" fn $name() -> ! {
            std::process::abort()
        }
    )*};
}

abort! { __assert_fail __libc_assert_fail }

/// Translations of error messages: the original, in English.
macro_rules! untranslated {
    ($($name:ident)*) => {$(
        #[cfg_attr(embedded, unsafe(no_mangle))]
        extern "C" fn $name(_domain: *const c_char, message: *const c_char) -> *const c_char {
            message
        }
    )*};
}

untranslated! { dcgettext __dcgettext __dcigettext }

/// Only strerror(3) calls it, for an error number that has no message.
macro_rules! empty {
    ($($name:ident)*) => {$(
        /// # Safety
        /// `buffer` has `size` bytes.
        #[cfg_attr(embedded, unsafe(no_mangle))]
        unsafe extern "C" fn $name(buffer: *mut c_char, size: usize) -> c_int {
            if size > 0 {
                // SAFETY: the caller's buffer has at least one byte.
                unsafe { buffer.write(0) };
            }
            0
        }
    )*};
}

empty! { snprintf __snprintf __snprintfieee128 ___ieee128_snprintf }

/// std asks for the limits of the main thread's stack, to name an overflow. It does without where they are not known.
#[cfg_attr(embedded, unsafe(no_mangle))]
extern "C" fn pthread_getattr_np() -> c_int {
    const ENOSYS: c_int = 38;
    ENOSYS
}

/// malloc makes more arenas where there are more processors; one thread needs one.
macro_rules! one {
    ($($name:ident)*) => {$(
        #[cfg_attr(embedded, unsafe(no_mangle))]
        extern "C" fn $name() -> c_int {
            1
        }
    )*};
}

one! { get_nprocs __get_nprocs __get_nprocs_sched }

unsafe extern "C" {
    safe fn getpagesize() -> c_int;
}

/// sysconf(3): the size of a page, which is all that std and the C library ask for here.
macro_rules! page_size_only {
    ($($name:ident)*) => {$(
        #[cfg_attr(embedded, unsafe(no_mangle))]
        extern "C" fn $name(name: c_int) -> c_long {
            const SC_PAGESIZE: c_int = 30;
            if name == SC_PAGESIZE { getpagesize().into() } else { -1 }
        }
    )*};
}

page_size_only! { sysconf __sysconf }
