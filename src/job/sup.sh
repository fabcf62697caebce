# shellcheck shell=sh
# The supervisor of one job: it runs on the node, outlives every connection, and is the only one
# that ever writes the job's result. The order of its steps is the proof: a job without `pid` never
# ran its command; a job with `pid` and without `rc` ran it, and how that ended is not known.
# Arguments: job folder, file with the boot id, shell, HOME, umask, flock (yes or no), file of the
# lock per cluster and kind, run or void (void: claim the job so that it never runs), the job's input
# (nothing, fifo, terminal).

# Descriptor 7 is the job's input: nobody else keeps it.
s_sync() { sync "$@" 7<&- 2>/dev/null || sync 7<&-; }

# One word for sh.
s_quote() { printf '%s\n' "$1" | sed "s/'/'\\\\''/g; s/^/'/; s/\$/'/"; }

s_leave() {
    if [ -n "$1" ]; then printf '%s\n' "$1" >&2; fi
    rm -f "$s_dir/rc.$$" "$s_dir/pid.$$"
    exit 0
}

s_main() {
    s_dir=$1 s_boot=$2 s_sh=$3 s_home=$4 s_umask=$5 s_flock=$6 s_kind=$7 s_mode=$8 s_input=${9:-nothing}
    LC_ALL=C
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export LC_ALL PATH
    umask 077
    cd / || exit 1
    exec </dev/null >/dev/null 2>>"$s_dir/err"
    exec 9>>"$s_dir/lock"
    # Caught, not ignored: what is ignored stays ignored in the job, what is caught does not.
    trap : HUP INT QUIT TERM

    if [ "$s_flock" = yes ]; then
        s_n=0
        # Not a waiting flock: a supervisor that came second must not hang behind a long job.
        until flock -x -n 9 2>/dev/null; do
            if [ -e "$s_dir/pid" ] || [ "$s_n" -ge 10 ]; then exit 0; fi
            s_n=$((s_n + 1))
            sleep 1 9>&-
        done
    fi
    if [ -e "$s_dir/pid" ] || [ -e "$s_dir/rc" ]; then exit 0; fi

    if [ "$s_flock" = yes ] && [ "$s_mode" = run ]; then
        s_n=0
        while :; do
            s_n=$((s_n + 1))
            if [ "$s_n" -gt 50 ]; then s_leave "lock"; fi
            mkdir -p "${s_kind%/*}" 2>/dev/null
            # `command`: a folder that another ferry removed since then must not end the shell.
            { command exec 8>>"$s_kind"; } 2>/dev/null || continue
            # One whose result is there may be on its way out still.
            s_wait=0
            until flock -x -n 8; do
                if [ "$s_wait" -ge 2 ]; then s_leave "busy $(head -c 200 "$s_kind")"; fi
                s_wait=$((s_wait + 1))
                sleep 1 8>&- 9>&-
            done
            # The one before us removes the file when it ends: a lock on a file without a name is none.
            s_one=$(ls -di "$s_kind")
            s_two=$(ls -Ldi "/proc/$$/fd/8")
            if [ "${s_one% /*}" = "${s_two% /*}" ]; then break; fi
        done
        printf '%s\n' "${s_dir##*/}" >"$s_kind"
    fi

    # The room for the result is taken now; on a full disk it could not be had later.
    printf '%4095s\n' '' >"$s_dir/rc.$$"
    s_size=$(wc -c <"$s_dir/rc.$$")
    if [ "$((s_size + 0))" -ne 4096 ]; then s_leave "room"; fi
    if ! : >>"$s_dir/out"; then s_leave "room"; fi

    s_up=
    read -r s_id <"$s_boot"
    read -r s_up _ </proc/uptime
    s_line=$(cat "/proc/$$/stat")
    # shellcheck disable=SC2086 # words are wanted; they are letters and numbers
    set -- ${s_line##*\)}
    if [ $# -lt 20 ] || [ -z "$s_id" ]; then s_leave "proc"; fi
    shift 19
    s_line="$s_id $$ $1 ${s_up%%.*} $(date +%s) end"
    printf '%s\n' "$s_line" >"$s_dir/pid.$$"
    read -r s_back <"$s_dir/pid.$$"
    if [ "$s_back" != "$s_line" ]; then s_leave "room"; fi
    s_sync "$s_dir/rc.$$" "$s_dir/pid.$$" "$s_dir/out"
    # Read and written by us and by the job: it never ends, with a writer or without, with us or without
    # us, and nobody who writes into it waits for a reader. Open before `pid` says that the job runs.
    if [ "$s_input" = nothing ] || [ "$s_mode" = void ]; then
        exec 7</dev/null
    else
        if [ -L "$s_dir/in" ] || [ ! -p "$s_dir/in" ]; then s_leave "fifo"; fi
        exec 7<>"$s_dir/in"
    fi
    # The one step that decides who runs the job: a link is made once and never overwrites, with
    # or without flock.
    if ! ln "$s_dir/pid.$$" "$s_dir/pid" 7<&- 2>/dev/null; then s_leave ""; fi
    rm -f "$s_dir/pid.$$" 7<&-
    # On disk before the command begins: after a power cut `pid` must not be missing.
    s_sync "$s_dir"

    s_rc=143
    if [ "$s_mode" = run ]; then
        s_user=$(id -un 7<&- 2>/dev/null)
        s_line=
        if [ "$s_input" = terminal ]; then s_line="exec $(s_quote "$s_sh") $(s_quote "$s_dir/spec")"; fi
        (
            umask "$s_umask"
            exec 8>&-
            set -- env -i PATH="$PATH" HOME="$s_home" LC_ALL=C USER="$s_user" LOGNAME="$s_user" SHELL=/bin/sh
            if [ "$s_input" = terminal ]; then
                # A terminal of its own between the FIFO and the job; its exit code is the job's.
                exec "$@" TERM=dumb script -qec "$s_line" /dev/null
            fi
            exec "$@" "$s_sh" "$s_dir/spec"
        ) <&7 7<&- >>"$s_dir/out" 2>&1
        # In the foreground, where no signal to us ends the waiting. A `wait` would return early, and bash 5.2
        # then forgets the true code of a child that died at the same moment.
        s_rc=$?
    fi
    exec 7<&-

    read -r s_up _ </proc/uptime
    # In place (1<>), into blocks that are ours already.
    printf 'rc=%s up=%s end\n' "$s_rc" "${s_up%%.*}" 1<>"$s_dir/rc.$$"
    s_sync "$s_dir/rc.$$"
    s_n=0
    # mv is a process of its own: a signal to the group may hit it.
    until mv -f "$s_dir/rc.$$" "$s_dir/rc" || [ "$s_n" -ge 60 ]; do
        s_n=$((s_n + 1))
        sleep 1
    done
    s_sync "$s_dir"
    if [ "$s_flock" = yes ] && [ "$s_mode" = run ]; then rm -f "$s_kind"; fi
}

{ s_main "$@"; exit 0; }
