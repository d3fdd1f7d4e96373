//! What boot scripts are seen to do.

use proptest::prelude::*;

use super::*;
use crate::tree::build::tree;

const FILES: [(&str, &[u8]); 12] = [
    ("bin/busybox", b"\x7fELF"),
    ("sbin/init", b"\x7fELF"),
    ("sbin/switch_root", b"\x7fELF"),
    ("etc/passwd", b"root"),
    ("usr/lib/x", b"1"),
    ("init.d/01-udev", b"udev_run() { mount -t proc proc /proc; }\n"),
    ("init.d/99-finish", b"finish_enabled() { return 0; }\nfinish_run() { exec switch_root /rootfs /sbin/init; }\n"),
    ("etc/next.sh", b"#!/bin/sh\nmount -t tmpfs none /mnt\nfor d in */; do\ncase $d in mnt/|dev/) ;; *) cp -a $d /mnt ;; esac\ndone\nmount --move /dev /mnt/dev\nexec switch_root /mnt /etc/last.sh\n"),
    ("etc/last.sh", b"#!/bin/sh\nexec /sbin/init\n"),
    ("etc/config", b"WWROOT=tmpfs\n"),
    ("mnt/keep", b""),
    ("dev/x", b""),
];

fn trace(text: &str) -> Trace {
    follow(&tree(&FILES, &[]), "/init", text)
}

/// The starts, in short: tool, root, program, and `?` where it is not certain.
fn starts(text: &str) -> Vec<String> {
    let events = trace(text).events.into_iter();
    let short = |event: Event| match event.action {
        Action::Start(start) => {
            let tool = start.tool.map_or("exec", Tool::name);
            let words = [vec![start.program], start.arguments].concat().join(" ");
            Some(format!("{tool} {} {words}{}", start.root, if event.certain { "" } else { " ?" }))
        }
        _ => None,
    };
    events.filter_map(short).collect()
}

/// The copies, in short.
fn copies(text: &str) -> Vec<String> {
    let events = trace(text).events.into_iter();
    let short = |event: Event| match event.action {
        Action::Copy(copied) => {
            let without = if copied.excluded.is_empty() {
                String::new()
            } else {
                format!(" - {}", copied.excluded.join(" "))
            };
            Some(format!("{} {}{without} > {}", copied.by, copied.sources.join(" "), copied.target))
        }
        _ => None,
    };
    events.filter_map(short).collect()
}

#[test]
fn the_last_program_is_found_however_it_is_written() {
    let expected = ["switch_root /r /sbin/init"];
    for text in [
        "exec switch_root /r /sbin/init",
        "exec /usr/bin/busybox switch_root /r /sbin/init",
        "b=/bin/busybox; exec $b switch_root /r /sbin/init",
        "b='/bin/busybox'\nexec \"${b}\" switch_root -c /dev/console \"/r\" /sbin/init \"$@\"",
        "exec env -i TERM=linux $(type -P switch_root) /r /sbin/init",
        "exec env -i `which switch_root` /r ${init:-/sbin/init}",
        "if [ -x /sbin/switch_root ]; then exec switch_root /r /sbin/init; else exec sh; fi",
        "cd /r && exec switch_root . /sbin/init",
        "go() { exec switch_root \"$1\" \"$2\"; }\ngo /r /sbin/init",
        "eval 'exec switch_root /r /sbin/init'",
        "while :; do exec switch_root /r /sbin/init; done",
        "false || exec switch_root /r /sbin/init",
        "echo 'exec switch_root /no /no' # exec switch_root /no\ncat <<EOF\nexec switch_root /no /no\nEOF\nexec switch_root /r /sbin/init",
        "init=/sbin/init\nfor x in $(cat /proc/cmdline); do case $x in init=*) init=${x#init=};; esac; done\nexec switch_root /r $init",
        "bb=/bin/busybox.static; exec $bb switch_root /r /sbin/init",
        "exec unshare -m switch_root /r /sbin/init",
        "exec ionice -c 3 nice -n 5 switch_root /r /sbin/init",
        "exec /lib/ld-musl-x86_64.so.1 --library-path /lib /sbin/switch_root /r /sbin/init",
        "exec systemctl --no-block switch-root /r /sbin/init",
        "cmd=(switch_root /r)\nexec \"${cmd[@]}\" /sbin/init",
        "if ((1 < 2)); then ((a = b + (c))); fi\nfor ((i=0;i<2;i++)); do echo; done\nexec switch_root /r /sbin/init",
        "read a b <<<$(du -xsm /) # <()\nexec switch_root /r /sbin/init",
        "for i in /no /sbin/init /etc/passwd; do if [ -e $i ]; then init=$i; break; fi; done\nexec switch_root /r $init",
    ] {
        assert_eq!(starts(text), expected, "{text}");
    }
    assert_eq!(starts("exec run-init -n /r /sbin/init </dev/console"), ["run-init /r /sbin/init"]);
    assert_eq!(
        starts("cd /r\npivot_root . mnt\nexec chroot . /sbin/init <dev/console"),
        ["pivot_root /r /sbin/init"]
    );
    assert_eq!(starts("chroot /r /sbin/init"), ["chroot /r /sbin/init"]);
    assert_eq!(starts("exec chroot /r /sbin/init a b"), ["chroot /r /sbin/init a b"]);
    assert_eq!(starts("exec /sbin/init $@"), ["exec / /sbin/init"]);
    assert_eq!(
        starts("[ -n \"$(cat /proc/x)\" ] && exec switch_root /r /sbin/init\nexec sh"),
        ["switch_root /r /sbin/init ?", "exec / sh"]
    );
}

#[test]
fn other_scripts_are_followed() {
    let yocto =
        "for m in /init.d/*; do\nmodule=`basename $m | cut -d'-' -f 2`\n. $m\neval \"${module}_run\"\ndone\n";
    assert_eq!(starts(yocto), ["switch_root /rootfs /sbin/init"]);
    // By a name that cannot be known.
    assert_eq!(
        starts("for m in /init.d/*; do . $m; eval $(x)_run; done"),
        ["switch_root /rootfs /sbin/init ?"]
    );
    assert_eq!(starts("exec /etc/next.sh"), ["switch_root /mnt /etc/last.sh"]);
    assert_eq!(starts("sh /etc/last.sh\n/etc/last.sh\nexec sh /etc/last.sh"), ["exec / /sbin/init"]);
    assert_eq!(
        copies("exec /etc/next.sh"),
        ["bin", "etc", "init.d", "sbin", "usr"].map(|d| format!("cp /{d} > /mnt"))
    );
}

#[test]
fn copies_of_the_root_are_seen() {
    let all = "/bin /dev /etc /init.d /mnt /sbin /usr";
    for text in [
        "cp -pr $(echo *) /n",
        "DIRS=$(echo *)\nN=/n\ncp -pr $DIRS $N",
        "cp -a /* /n",
        "cd /; busybox cp -a * n",
    ] {
        assert_eq!(copies(text), [format!("cp {all} > /n")], "{text}");
    }
    assert_eq!(copies("cp -a /. /n; cp -ax / /n/"), ["cp / > /n", "cp / > /n"]);
    assert_eq!(
        copies("rsync -a --exclude=/proc / /n; mv -t /n /bin /usr"),
        ["rsync / - /proc > /n", "mv /bin /usr > /n"]
    );
    assert_eq!(copies("tar -C / --exclude=mnt -cf - . | tar -C /mnt/ -xf -"), ["tar / - /mnt > /mnt"]);
    assert_eq!(copies("tar c --one-file-system -C / . | (cd /n; tar xp)"), ["tar / > /n"]);
    assert_eq!(copies("cd /; tar cf - bin usr|pv|busybox tar xf - -C /n"), ["tar /bin /usr > /n"]);
    assert_eq!(copies("find / -xdev | cpio -pdm /n"), ["cpio / > /n"]);
    assert_eq!(
        copies("cd / && find . -xdev -print | cpio -o -H newc | { cd /n && cpio -idm; }"),
        ["cpio / > /n"]
    );
    assert_eq!(copies("for d in bin etc; do cp -a /$d /n || exit 1; done"), ["cp /bin > /n", "cp /etc > /n"]);
    assert_eq!(copies("ls / | grep -v mnt; echo cp -a / /n"), [""; 0]);
    // What lists the names, and what copies them, are two programs.
    let found = "/bin /etc /init.d /sbin /usr";
    for text in [
        "find / -path /mnt -prune -o ! -path /dev -mindepth 1 -maxdepth 1 -exec mv -t /n {} +",
        "find / -mindepth 1 -maxdepth 1 ! -name mnt ! -name dev | xargs mv -t /n",
        "cd /; find . -mindepth 1 -maxdepth 1 -not -name mnt -not -name dev -exec mv {} /n \\;",
        "mv /{bin,etc} /{init.d,sbin,usr} /n",
    ] {
        assert_eq!(copies(text), [format!("mv {found} > /n")], "{text}");
    }
    assert_eq!(copies("ls / | grep -v mnt | xargs -I{} cp -a /{} /n"), [format!("cp {all} > /n")]);
    assert_eq!(copies("ls / | while read d; do cp -a /$d /n; done").len(), 7);
    assert_eq!(copies("mount --bind / /tmp/old; cp -a /tmp/old/. /n"), ["cp / > /n"]);
    assert_eq!(copies("find /lib -name '*.ko' -exec cp {} /n \\;"), ["cp /\u{fffd} > /n"]);
}

#[test]
fn commands_for_commands_are_followed_no_deeper_than_shells() {
    let text =
        |depth: usize| format!("{}cp -a / /n\nexec switch_root /r /sbin/init", "find / -exec ".repeat(depth));
    assert!(trace(&text(10)).complete && copies(&text(10)) == ["cp / > /n"]);
    assert!(!trace(&text(4000)).complete);
}

#[test]
fn mounts_are_read_however_they_are_written() {
    for text in [
        "mount -t tmpfs none /n",
        "mount -nt tmpfs none /n",
        "mount -vttmpfs none /n",
        "mount none /n -t tmpfs -o size=90%",
        "mount --types=tmpfs --source none --target /n",
    ] {
        let trace = trace(text);
        let Action::Mount(mount) = &trace.events[0].action else { panic!("{trace:?}") };
        assert_eq!(
            (mount.kind.as_str(), mount.source.as_str(), mount.target.as_str()),
            ("tmpfs", "none", "/n")
        );
    }
}

#[test]
fn what_a_trap_does_may_happen() {
    let text = "boot() { exec switch_root /r /sbin/init; }\ntrap boot ALRM\nexec /sbin/init";
    assert_eq!(starts(text), ["switch_root /r /sbin/init ?", "exec / /sbin/init"]);
}

#[test]
fn files_and_the_environment_count() {
    let text = "export INITRAMFS=1\n. /etc/config\nif test \"$WWROOT\" = initramfs; then exec /etc/passwd; elif [ $WWROOT = ramfs -o \
                $WWROOT = tmpfs ]; then mount wwroot /n -t ${WWROOT} -o mpol=interleave\nA=1 exec switch_root /n /sbin/init\nfi";
    let trace = trace(text);
    let Action::Mount(mount) = &trace.events[0].action else { panic!("{trace:?}") };
    assert_eq!((mount.kind.as_str(), mount.target.as_str()), ("tmpfs", "/n"));
    let Action::Start(start) = &trace.events[1].action else { panic!("{trace:?}") };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(start.environment, [pair("INITRAMFS", "1"), pair("A", "1")]);
    assert!(trace.events[1].certain && trace.complete);
    let grep =
        "if ! grep -qw noembed /proc/cmdline; then exec /sbin/init; fi\nexec switch_root /mnt /sbin/init";
    assert_eq!(starts(grep), ["exec / /sbin/init"]);
}

#[test]
fn endless_scripts_end() {
    for text in [
        "f() { f; f; }; f".to_owned(),
        ". /init".to_owned(),
        "eval \"$0\"; x=a; for i in 1 2 3 4 5 6 7 8 9; do x=$x$x$x$x; done; for i in $x $x $x; do for j in * * *; do echo $x; done; done".to_owned(),
        "$(".repeat(5000),
        "`\\`".repeat(3000),
        "if ".repeat(5000),
        "{ ".repeat(5000),
        "a() ".repeat(5000),
        "! ".repeat(5000),
        "${a:-".repeat(5000),
        "case a in (".repeat(3000),
        format!("x={}; case $x in {}) ;; esac", "a".repeat(5000), "*a".repeat(2000)),
        "f() { for i in * * * * *; do $(f) | f & done; }; f | f".to_owned(),
        "a=1 if then x; fi; ".repeat(2000),
    ] {
        let start = std::time::Instant::now();
        let short: String = text.chars().take(40).collect();
        trace(&text);
        assert!(start.elapsed().as_secs() < 20, "{short}: {:?}", start.elapsed());
    }
}

proptest! {
    #[test]
    fn anything_can_be_followed(text in "[ -~\n]{0,400}") {
        trace(&text);
    }

    #[test]
    fn shell_like_text_can_be_followed(words in proptest::collection::vec(
        prop_oneof![
            Just("if "), Just("then "), Just("fi\n"), Just("case x in "), Just("esac\n"), Just("for i in * ; do "), Just("done\n"),
            Just("$("), Just(")"), Just("`"), Just("\""), Just("'"), Just("{ "), Just("}\n"), Just("| "), Just("&& "), Just("|| "),
            Just("f() "), Just("f\n"), Just("exec "), Just("tar "), Just("cp "), Just("-C "), Just("cpio "), Just("${a%%*"), Just("}"),
            Just("<<E\n"), Just("E\n"), Just(";; "), Just("mount "), Just("/n "), Just("\\"), Just("[ -e x ] "), Just("while "),
            Just(". /init.d/99-finish\n"), Just("shift 9\n"), Just("set -- a\n"), Just("cut -d"), Just("echo a b "), Just("é "),
        ],
        0..60,
    )) {
        trace(&words.concat());
    }
}

/// What the properties above found once.
#[test]
fn unfinished_quotes_and_here_documents_can_be_followed() {
    for text in ["\n''  ''`(\n`", "case x in <<E\n", r"\A\A\A\A\A`(#A"] {
        trace(text);
        trace(&format!("#!{text}"));
    }
}

/// Debian's installer ends in `exec $init`, with `/bin/busybox init` in the variable, and has a script at /sbin/init that
/// copies the image.
#[test]
fn an_applet_of_busybox_is_not_a_script_of_the_same_name() {
    let mut files = FILES.to_vec();
    files[1].1 = b"#!/bin/sh\nmount -t tmpfs tmpfs /mnt\ncp -a /* /mnt\ncd /mnt\npivot_root . initrd\nexec /bin/busybox init\n";
    let text = "init='/bin/busybox init'\nfor i in $(cat /proc/cmdline); do case $i in init=*) init=${i#init=} ;; esac; done\nexec $init";
    let events = follow(&tree(&files, &[]), "/init", text).events;
    assert!(!events.iter().any(|event| matches!(event.action, Action::Copy(_))), "{events:?}");
}
