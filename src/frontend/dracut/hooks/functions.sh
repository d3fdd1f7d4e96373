# shellcheck shell=sh
# Functions for btrsquash's hooks, sourced in dracut's init. All work is done by the static program at /init.

# Says what is wrong, and does what dracut does when it cannot boot.
btrsquash_fail() {
    echo "$1" > /run/btrsquash.why
    emergency_shell "$1"
}

# Runs the program with a verb; when it fails, what it prints is the reason.
btrsquash() {
    btrsquash_said=$(/init "$@") || btrsquash_fail "$btrsquash_said"
}

# Does what the end of dracut's init does, but hands over with the arguments and the environment that the kernel gave.
btrsquash_hand_over() {
    btrsquash check-init
    udevadm control --exit
    udevadm info --cleanup-db
    [ -h /dev/root ] && rm -f -- /dev/root
    btrsquash_break=$(getarg rd.break) && [ -z "$btrsquash_break" ] && emergency_shell -n switch_root "Break before switch_root"
    wait_for_loginit
    info "Switching root"
    exec /init hand-over
}
