#!/usr/bin/env bash
# Makes samples/tiny-initrd.gz: a whole system in a kilobyte, for a first `btrsquash convert --dry-run`. It names a
# kernel that has everything built in, so that no modules are needed. There is no shell in it: it cannot be booted.
#
#   samples/tiny-initrd.sh [FILE]
set -euo pipefail

out=$(realpath -m "${1:-$(dirname "$0")/tiny-initrd.gz}")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cd "$tree"
mkdir -p bin dev etc lib/modules/6.1.0-tiny proc run sys usr/share/doc/tiny
cat >init <<'END'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
echo "This is tiny."
exec /bin/sh
END
printf 'PRETTY_NAME="Tiny 1"\nID=tiny\nVERSION_ID=1\n' >etc/os-release
echo tiny >etc/hostname
for module in drivers/block/loop drivers/md/dm-mod drivers/md/dm-snapshot fs/btrfs/btrfs fs/overlayfs/overlay \
    fs/squashfs/squashfs crypto/crc32c_generic; do
    echo "kernel/$module.ko"
done >lib/modules/6.1.0-tiny/modules.builtin
for option in BLK_DEV_INITRD RD_GZIP RD_XZ BLK_DEV_LOOP BLK_DEV_DM DM_SNAPSHOT SQUASHFS SQUASHFS_ZLIB SQUASHFS_XZ \
    SQUASHFS_ZSTD XZ_DEC_X86 BTRFS_FS OVERLAY_FS CRYPTO_CRC32C; do
    echo "CONFIG_$option=y"
done >lib/modules/6.1.0-tiny/config
seq 1 200 >usr/share/doc/tiny/numbers
ln -s ../usr/share/doc/tiny/numbers etc/numbers
chmod 755 init
find . -exec chmod go-w {} + -exec touch -h -d '2024-01-01 00:00:00 UTC' {} +
find . -print0 | LC_ALL=C sort -z | cpio -0 -o -H newc -R 0:0 --reproducible --quiet | gzip -9n >"$out"
