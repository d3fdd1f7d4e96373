//! The boot configuration behind an initrd.

use btrsquash::error::Kind;

use crate::support::newc::*;
use crate::support::rootfs::read;

#[test]
fn a_boot_configuration_is_found_as_the_kernel_finds_it() {
    let good = archive(&[dir("a"), trailer()]);
    let config = b"kernel.console = ttyS0\n\0\0";
    let sum: u32 = config.iter().map(|&b| u32::from(b)).sum();
    for padding in 0..5 {
        for wrong in [0, 1] {
            let mut image = good.clone();
            image.extend(config);
            image.extend((config.len() as u32).to_le_bytes());
            image.extend((sum + wrong).to_le_bytes());
            image.extend(b"#BOOTCONFIG\n");
            image.resize(image.len() + padding, 0);
            let found = read(&image);
            if padding < 4 && wrong == 0 {
                let range = good.len() as u64..image.len() as u64;
                assert_eq!(found.unwrap().bootconfig, Some(range), "{padding}");
            } else {
                assert_eq!(found.unwrap_err().kind, Kind::Input, "{padding} {wrong}");
            }
        }
    }
}
