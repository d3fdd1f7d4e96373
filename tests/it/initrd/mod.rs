//! Reading an initrd: against Linux itself, against cpio, and against damage.

mod bootconfig;
mod encodings;
mod linux;
mod refusals;
mod rules;
mod sample;
mod writer;
