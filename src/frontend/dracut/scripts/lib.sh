# Sourced by the hooks, in dracut's init.

# Says on the console what is wrong, then does what dracut does where it cannot boot.
btrsquash_fail() {
    echo "$*" > /run/btrsquash.why
    emergency_shell "$*"
}

# The emergency hook: the reason, or what can still be found out about it.
btrsquash_why() {
    {
        echo
        if [ -s /run/btrsquash.why ]; then
            read -r btrsquash_line < /run/btrsquash.why
            echo "btrsquash: cannot go on: $btrsquash_line"
        elif ! ismounted "$NEWROOT"; then
            echo "btrsquash: cannot go on: the runtime could not be mounted (root=$(getarg root=)): it is damaged or was not found"
            dmesg | grep -iE 'squashfs|btrfs|overlay|device-mapper|loop[0-9]|I/O error' | grep -iE 'err|fail|cannot|unable|invalid|bad|corrupt|unknown' | sed 's/^/btrsquash:   /'
        fi
        echo
    } > /dev/console 2>&1
}

# Loads what the runtime needs, in the order of its dependencies, and tells what is missing.
btrsquash_modules() {
    btrsquash_kernel=$(uname -r)
    if [ -f "/usr/lib/btrsquash/load/$btrsquash_kernel" ]; then
        # shellcheck disable=SC2046
        modprobe -d /usr/lib/btrsquash -a $(cat "/usr/lib/btrsquash/load/$btrsquash_kernel") > /run/btrsquash.modprobe 2>&1
    fi
    btrsquash_missing=
    [ -e /dev/loop-control ] || btrsquash_missing="$btrsquash_missing loop"
    for btrsquash_wanted in squashfs btrfs; do
        grep -qw $btrsquash_wanted /proc/filesystems || btrsquash_missing="$btrsquash_missing $btrsquash_wanted"
    done
    if getargbool 0 rd.live.overlay.overlayfs; then
        # dracut falls back to device-mapper where the kernel has no overlayfs.
        grep -qw overlay /proc/filesystems || dmsetup targets 2> /dev/null | grep -q '^snapshot ' \
            || btrsquash_missing="$btrsquash_missing overlay"
    else
        dmsetup targets 2> /dev/null | grep -q '^snapshot ' || btrsquash_missing="$btrsquash_missing dm_snapshot"
    fi
    [ -n "$btrsquash_missing" ] || return 0
    if [ -f "/usr/lib/btrsquash/load/$btrsquash_kernel" ]; then
        cat /run/btrsquash.modprobe
        btrsquash_fail "the kernel $btrsquash_kernel cannot do:$btrsquash_missing; its modules here do not load"
    else
        btrsquash_fail "the kernel $btrsquash_kernel cannot do:$btrsquash_missing; this image has modules for:" \
            "$(cd /usr/lib/btrsquash/load && echo *); boot a kernel that belongs to this image"
    fi
}

# Sets how much is read ahead on the loop devices, in KiB. Each read of a squashfs unpacks a whole block, and the kernel,
# which counts that as reading in sequence, would unpack the next one too, for nothing. A file keeps what its device had
# when it was opened: none while dracut opens the runtime, the kernel's own amount for all that comes later.
btrsquash_read_ahead() {
    for btrsquash_loop in /sys/block/loop*/queue/read_ahead_kb; do
        [ -e "$btrsquash_loop" ] && echo "$1" > "$btrsquash_loop"
    done
}

# After dracut's own parsing: whether root= is something that holds a runtime.
btrsquash_root() {
    btrsquash_given=$(getarg root=)
    case $root in
        live:/dev/* | livenet* | nfs* | live:nfs* | liveiso:*) return 0 ;;
        live:/*)
            btrsquash_file=${root#live:}
            if [ ! -f "$btrsquash_file" ]; then
                if [ "$btrsquash_file" = /squashfs.img ]; then
                    btrsquash_fail "there is no /squashfs.img in the initramfs: the image is incomplete, or was not unpacked whole for lack of RAM"
                else
                    btrsquash_fail "root=$btrsquash_given: there is no such file in the initramfs; remove root= or write root=live:/squashfs.img"
                fi
            elif [ "$(dd "if=$btrsquash_file" bs=4 count=1 2> /dev/null)" != hsqs ]; then
                btrsquash_fail "$btrsquash_file is damaged: it does not begin as a squashfs does"
            fi
            ;;
        *)
            btrsquash_fail "root=$btrsquash_given does not name the runtime; remove it from the kernel's command line or write @ROOT@"
            ;;
    esac
}

# Sets `at` to where $1 is for a process whose root is $NEWROOT: the runtime's links are followed inside it, as the kernel
# does (fs/namei.c). Fails where nothing is.
btrsquash_resolve() {
    todo=$1 at='' links=0
    while [ -n "$todo" ]; do
        part=${todo%%/*}
        case $todo in
            */*) todo=${todo#*/} ;;
            *) todo= ;;
        esac
        case $part in
            '' | .) continue ;;
        esac
        [ -d "$NEWROOT$at" ] || return 1
        if [ "$part" = .. ]; then
            at=${at%/*}
        elif [ -h "$NEWROOT$at/$part" ]; then
            links=$((links + 1))
            # MAXSYMLINKS, include/linux/namei.h.
            [ $links -le 40 ] || return 1
            target=$(readlink "$NEWROOT$at/$part")
            [ "${target#/}" = "$target" ] || at=
            todo=$target${todo:+/$todo}
        else
            at=$at/$part
        fi
    done
    [ -e "$NEWROOT$at" ]
}

# What was appended to the image goes where it would have been without the conversion.
btrsquash_carry() {
    [ -s /usr/lib/btrsquash/appended ] || return 0
    (
        cd / || return
        xargs -0 /bin/sh /usr/lib/btrsquash/carry < /usr/lib/btrsquash/appended
        for btrsquash_version in /usr/lib/btrsquash/depmod/*; do
            [ -e "$btrsquash_version" ] || continue
            chroot "$NEWROOT" depmod -a "${btrsquash_version##*/}" || warn "no depmod in the runtime: appended modules are not known to modprobe"
        done
    )
}

# What the end of dracut's init does, but with the arguments and the environment that the kernel gave.
btrsquash_hand_over() {
    btrsquash_init=$(getarg init=)
    [ -n "$btrsquash_init" ] || read -r btrsquash_init < /usr/lib/btrsquash/init
    (btrsquash_resolve "$btrsquash_init") \
        || btrsquash_fail "the runtime has no $btrsquash_init to start; init= on the kernel's command line names another"
    udevadm control --exit
    udevadm info --cleanup-db
    [ -h /dev/root ] && rm -f -- /dev/root
    btrsquash_break=$(getarg rd.break) && [ -z "$btrsquash_break" ] && emergency_shell -n switch_root "Break before switch_root"
    wait_for_loginit
    info "Switching root"
    exec env -i /bin/sh /usr/lib/btrsquash/hand-over "$btrsquash_init"
}
