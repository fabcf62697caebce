# shellcheck shell=sh
# The cluster's watch on one node: holds the lock `locks/<cluster>.watch.lock` for as long as our
# connection lives and speaks. Functions only; the last line, put behind this text, runs w_main.
# The caller sets w_name w_owner (one line) w_limit (seconds without a byte from us).
# shellcheck disable=SC2154

w_busy() {
    # The holder may be about to write who it is.
    w_n=0
    w_text=
    while [ "$w_n" -lt 10 ]; do
        w_text=$(head -c 8192 "$1" 2>/dev/null)
        if [ -n "$w_text" ]; then break; fi
        w_n=$((w_n + 1))
        f_nap
    done
    f_text "$w_text" busy
    f_say bye
    exit 0
}

# Is the process that a lock without flock names gone?
w_stale() {
    w_hboot='' w_hpid='' w_hstart=''
    read -r w_hboot w_hpid w_hstart _ <"$w_link" 2>/dev/null || return 1
    read -r w_boot <"$f_boot"
    if [ "$w_hboot" = "$w_boot" ] && f_alive "$w_hpid" "$w_hstart"; then return 1; fi
    return 0
}

# Without flock(1): a link is made once, its content says who holds it.
w_take_link() {
    w_link=$w_file.pid
    read -r w_boot <"$f_boot"
    f_proc "$$" || f_no proc "$$"
    w_mine="$w_boot $$ $f_start"
    w_n=0
    until { printf '%s\n%s\n' "$w_mine" "$w_owner" >"$w_link.$f_nonce"; } 2>/dev/null; do
        w_n=$((w_n + 1))
        if [ "$w_n" -gt 20 ]; then f_no room "$w_link"; fi
        # Another ferry may have removed the empty folder.
        mkdir -p "$f_base/locks" 2>/dev/null
    done
    if ! ln "$w_link.$f_nonce" "$w_link" 2>/dev/null; then
        # Only one at a time may take a stale lock away, and looks again before it does. One that
        # died in here leaves the guard, and the watch stays taken: told, never guessed.
        if w_stale && mkdir "$w_link.guard" 2>/dev/null; then
            if w_stale; then rm -f "$w_link"; fi
            rmdir "$w_link.guard"
        fi
        if ! ln "$w_link.$f_nonce" "$w_link" 2>/dev/null; then
            rm -f "$w_link.$f_nonce"
            w_text=$(sed -n 2p "$w_link" 2>/dev/null)
            if [ -d "$w_link.guard" ]; then w_text="${w_text:-$w_link.guard}"; fi
            f_text "$w_text" busy
            f_say bye
            exit 0
        fi
    fi
    rm -f "$w_link.$f_nonce"
}

w_drop() {
    if [ "$f_flock" = yes ]; then
        # Before the lock is let go, and checked by whoever takes it next.
        rm -f "$w_file"
    else
        read -r w_have <"$w_link" 2>/dev/null
        if [ "$w_have" = "$w_mine" ]; then rm -f "$w_link"; fi
    fi
    f_tidy
}

# One beat of ours, or the end of it: true when a beat came within the limit.
w_beat() {
    # shellcheck disable=SC3045 # read -t only where it was tried
    case $w_how in
    read) read -r -t "$w_limit" w_got && [ "$w_got" = k ] ;;
    timeout)
        w_got=$(
            exec 9>&-
            exec timeout "$w_limit" head -c 2
        )
        [ "$w_got" = k ]
        ;;
    *) read -r w_got && [ "$w_got" = k ] ;;
    esac
}

w_main() {
    f_begin
    f_dir "$f_base"
    f_dir "$f_base/locks"
    w_file=$f_base/locks/$w_name.watch.lock
    if [ -L "$w_file" ] || { [ -e "$w_file" ] && [ ! -f "$w_file" ]; }; then f_no dir-symlink "$w_file"; fi
    if [ "$f_flock" = yes ]; then
        w_n=0
        while :; do
            mkdir -p "$f_base/locks" 2>/dev/null
            # `command`: a folder that another ferry removed since then must not end the shell.
            # shellcheck disable=SC3045
            if { command exec 9<>"$w_file"; } 2>/dev/null; then
                flock -x -n 9 2>/dev/null
                case $? in
                0) if f_named "$w_file" 9; then break; fi ;;
                1) if f_named "$w_file" 9; then w_busy "$w_file"; fi ;;
                *) f_no flock "$w_file" ;;
                esac
                exec 9>&-
            fi
            w_n=$((w_n + 1))
            if [ "$w_n" -gt 50 ]; then f_no flock "$w_file"; fi
        done
        # The same file, another description: the lock stays.
        printf '%s\n' "$w_owner" >"$w_file" 2>/dev/null
    else
        w_take_link
    fi
    # A word that nobody hears any more ends us as well: the answer to the last beat before a reset.
    trap 'w_drop; exit 0' HUP INT TERM PIPE
    # Not every sh can wait for a line with a limit, and not every node has timeout(1).
    # shellcheck disable=SC3045
    (read -r -t 1 w_got </dev/null) 2>/dev/null
    if [ $? -eq 1 ]; then
        w_how="read"
    elif timeout 5 true 9>&- >/dev/null 2>&1; then
        w_how=timeout
    else
        w_how=none
    fi
    f_say held "$f_flock" "$w_how"
    # Each beat is answered, so that we know how long the node will hold the lock at least.
    while w_beat; do f_say ok; done
    w_drop
    f_say bye
}
