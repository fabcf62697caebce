# shellcheck shell=sh
# Shared by the control script of jobs and by the cluster's watch: the framed answer, the checks
# of our own folder, and the identity of a process. Only functions: a script that was cut on its
# way to the node defines some of them and runs none.
# The caller sets f_nonce f_base f_boot f_sh f_flock (yes or no) before this text.
# shellcheck disable=SC2154

f_begin() {
    umask 077
    set +e
    LC_ALL=C
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export LC_ALL PATH
    # What was said before us may not have ended its line.
    printf '\n@%s hello 1\n' "$f_nonce" || exit 1
    if [ "$f_flock" = yes ] && ! command -v flock >/dev/null 2>&1; then f_flock=no; fi
    f_uid=$(id -u)
    if [ ! -r /proc/self/stat ] || [ ! -r "$f_boot" ]; then f_no proc "$f_boot"; fi
}

# One line of answer.
f_say() { printf '@%s %s\n' "$f_nonce" "$*" || exit 1; }

# A line of answer with a text of any form behind it, counted in bytes.
f_text() {
    f_body=$1
    shift
    printf '@%s %s %s\n%s\n' "$f_nonce" "$*" "${#f_body}" "$f_body" || exit 1
}

# Refuses with a code and a text, and ends.
f_no() {
    f_text "$2" no "$1"
    f_say bye
    exit 0
}

# Seconds since the node started, into f_now. No wall clock: it jumps.
f_uptime() {
    f_now=0
    read -r f_now _ </proc/uptime
    f_now=${f_now%%.*}
}

# Is $1 still the file that our descriptor $2 has open? Whoever lets a lock go removes its file first, so
# a lock may be had on a file that has no name any more.
f_named() {
    f_one=$(ls -di "$1" 2>/dev/null)
    f_two=$(ls -Ldi "/proc/$$/fd/$2" 2>/dev/null)
    set -f
    # shellcheck disable=SC2086 # the first word is the inode
    set -- $f_one
    f_one=${1:--}
    # shellcheck disable=SC2086
    set -- $f_two
    set +f
    [ "$f_one" = "${1:-+}" ]
}

# Leaves no empty folder of ours behind.
f_tidy() { rmdir "$f_base/jobs" "$f_base/locks" "$f_base" 2>/dev/null; }

# A short sleep; old sleeps know whole seconds only. No lock is left open in it.
f_nap() { sleep "${1:-0.1}" 9>&- 2>/dev/null || sleep 1 9>&-; }

# Bytes in a file, into f_size.
f_count() {
    f_size=0
    if [ -f "$1" ]; then
        f_size=$(wc -c <"$1" 2>/dev/null)
        f_size=$((f_size + 0))
    fi
}

# fsync of single files where sync(1) can do that, of everything else.
f_sync() { sync "$@" 2>/dev/null || sync; }

# One process: state, parent, session and start time in ticks, into f_st f_ppid f_sess f_start.
# Its name may hold anything, so the fields are counted from the last parenthesis.
f_proc() {
    f_line=''
    # Without a process for it: a look at every process of the node takes long enough.
    { read -r f_line <"/proc/$1/stat"; } 2>/dev/null
    if [ -z "$f_line" ]; then return 1; fi
    f_one=$1
    f_line=${f_line##*\)}
    # shellcheck disable=SC2086 # words are wanted; they are letters and numbers
    set -- $f_line
    if [ $# -lt 20 ]; then
        # A line feed in the name.
        f_line=$(cat "/proc/$f_one/stat" 2>/dev/null) || return 1
        f_line=${f_line##*\)}
        # shellcheck disable=SC2086
        set -- $f_line
    fi
    [ $# -ge 20 ] || return 1
    # shellcheck disable=SC2034 # job.sh reads them
    f_st=$1 f_ppid=$2 f_sess=$4
    shift 19
    f_start=$1
}

# True when process $1 lives and is the one that started at $2. A zombie has no life left, and a
# number that was given out again is somebody else.
f_alive() {
    case $1 in '' | *[!0-9]*) return 1 ;; esac
    f_proc "$1" || return 1
    [ "$f_start" = "$2" ] || return 1
    case $f_st in Z | X | x) return 1 ;; esac
}

# One of our folders: made when missing, refused when it is not ours alone. Another ferry that has ended
# may remove it between two of our steps, while it is empty: then once more.
f_dir() {
    f_left=20
    until f_dir_once "$1"; do
        f_left=$((f_left - 1))
        if [ "$f_left" -eq 0 ]; then f_no dir-make "$1"; fi
    done
}

f_dir_once() {
    f_path=$1
    if [ -L "$f_path" ]; then f_no dir-symlink "$f_path"; fi
    if [ ! -d "$f_path" ]; then
        if [ -e "$f_path" ]; then f_no dir-file "$f_path"; fi
        mkdir -p "$f_path" 2>/dev/null || [ -d "$f_path" ] || return 1
    fi
    f_line=$(ls -ldn "$f_path" 2>/dev/null) || return 1
    set -f
    # shellcheck disable=SC2086 # words are wanted
    set -- $f_line
    set +f
    case $1 in d*) ;; *) f_no dir-symlink "$f_path" ;; esac
    if [ "$3" != "$f_uid" ]; then f_no dir-owner "$f_path belongs to uid $3"; fi
    # d rwx rwx rwx: the group's w is the sixth letter, the others' w the ninth.
    case $1 in ?????w* | ????????w*) f_no dir-mode "$f_path has mode $1" ;; esac
    if ! chmod 0700 "$f_path" 2>/dev/null; then
        if [ ! -e "$f_path" ]; then return 1; fi
        f_no dir-mode "$f_path has mode $1"
    fi
}

# SHA-256 of a file into f_digest; false when there is no tool for it.
f_sum() {
    f_digest=
    if command -v sha256sum >/dev/null 2>&1; then
        f_digest=$(sha256sum <"$1")
        f_digest=${f_digest%% *}
    elif command -v openssl >/dev/null 2>&1; then
        f_digest=$(openssl dgst -sha256 <"$1")
        f_digest=${f_digest##* }
    elif command -v shasum >/dev/null 2>&1; then
        f_digest=$(shasum -a 256 <"$1")
        f_digest=${f_digest%% *}
    elif command -v busybox >/dev/null 2>&1; then
        f_digest=$(busybox sha256sum <"$1")
        f_digest=${f_digest%% *}
    fi
    case $f_digest in '' | *[!0-9a-f]*) f_digest= && return 1 ;; esac
    [ "${#f_digest}" -eq 64 ]
}

# A text into a new file, whole or not at all; a file that is there already stays as it is. The
# link is what makes it atomic and never overwrites.
f_put() {
    if [ -e "$1" ]; then return 0; fi
    f_tmp=$1.tmp-$f_nonce
    printf '%s' "$2" >"$f_tmp" 2>/dev/null
    f_count "$f_tmp"
    if [ "$f_size" -ne "${#2}" ]; then
        rm -f "$f_tmp"
        f_no room "$1"
    fi
    f_sync "$f_tmp"
    ln "$f_tmp" "$1" 2>/dev/null
    rm -f "$f_tmp"
    [ -e "$1" ] || f_no dir-make "$1"
}
