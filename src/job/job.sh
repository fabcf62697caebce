# shellcheck shell=sh
# The control script of jobs: start, state, list, follow, answer, answers, cancel, clean, digest, terminal.
# It only looks at a job and never writes its result. Functions only; the last line, put behind this text, runs j_main.
# The caller sets j_verb and, as the verb needs them: j_id j_sup j_spec j_sha j_meta j_umask j_kill
# (KillMode) j_lock j_input (nothing, fifo, terminal) j_offset j_poll j_beat j_after j_systemd j_wait
# j_seq j_text.
# shellcheck disable=SC2154

# A result that was written whole, into j_code.
j_rc() {
    j_code=
    [ -f "$j_dir/rc" ] || return 1
    read -r j_line <"$j_dir/rc" 2>/dev/null || return 1
    case $j_line in rc=*' up='*' end'*) ;; *) return 1 ;; esac
    j_line=${j_line#rc=}
    j_line=${j_line%% *}
    case $j_line in '' | *[!0-9]*) return 1 ;; esac
    j_code=$j_line
}

# Is the job's lock held? 0 yes, 1 no, 2 cannot be known. A shared lock, so that two who ask do not
# take each other for the supervisor.
j_held() {
    if [ "$f_flock" != yes ]; then return 2; fi
    if [ ! -f "$j_dir/lock" ]; then return 1; fi
    (flock -s -n 9) 9<"$j_dir/lock" 2>/dev/null
    case $? in 0) return 1 ;; 1) return 0 ;; esac
    if [ ! -f "$j_dir/lock" ]; then return 1; fi
    return 2
}

# The job ended without our seeing how, unless the result came in the meantime.
j_ended() {
    if j_rc; then
        j_state='done' j_arg=$j_code
    else
        j_state=lost j_arg=$1
    fi
}

# Decides the state, into j_state j_arg j_seen (flock: descendants were looked for; pid: not).
j_look() {
    j_state=absent j_arg=- j_seen=flock j_pid='' j_pstart='' j_unix=-
    if [ "$f_flock" != yes ]; then j_seen=pid; fi
    if [ ! -d "$j_dir" ] || [ -L "$j_dir" ]; then return 0; fi
    if [ -f "$j_dir/pid" ]; then
        j_pboot='' j_pid='' j_pstart='' j_pup='' j_unix=''
        read -r j_pboot j_pid j_pstart j_pup j_unix _ <"$j_dir/pid"
        case $j_pup in '' | *[!0-9]*) j_pup=0 ;; esac
        case $j_unix in '' | *[!0-9]*) j_unix=- ;; esac
    fi
    if j_rc; then
        j_state='done' j_arg=$j_code
        return 0
    fi
    if [ -z "$j_pid" ]; then
        j_held
        case $? in 0) j_state=starting ;; *) j_state=notstarted ;; esac
        # It may have gone on between the two looks.
        if [ -f "$j_dir/pid" ]; then
            j_again=${j_again:-0}
            if [ "$j_again" -lt 2 ]; then
                j_again=$((j_again + 1))
                j_look
                j_again=0
            else
                j_state=lost j_arg=died
            fi
        fi
        return 0
    fi
    read -r j_boot <"$f_boot"
    if [ "$j_pboot" != "$j_boot" ]; then
        j_ended reboot
        return 0
    fi
    j_held
    j_got=$?
    j_live=no
    if f_alive "$j_pid" "$j_pstart"; then j_live=yes; fi
    case $j_got$j_live in
    0yes | 2yes) j_state=running j_arg=$j_pup ;;
    0no)
        j_ended died
        if [ "$j_state" = lost ]; then j_state=orphan j_arg=-; fi
        ;;
    *) j_ended died ;;
    esac
    if [ "$j_got" = 2 ]; then j_seen=pid; fi
}

# What a supervisor that gave up said about it, into j_why.
j_reason() {
    j_why=
    if [ -f "$j_dir/err" ]; then j_why=$(tail -n 3 "$j_dir/err" 2>/dev/null | head -c 600); fi
}

j_answer() {
    j_reason
    f_text "$j_why" state "$j_state" "$j_arg" "$j_seen"
}

# Starts a supervisor. $1: run it, or claim the job for good so that it never runs (void).
j_run_sup() {
    j_mode=$1
    set -- "$f_sh" "$j_dir/sup" "$j_dir" "$f_boot" "$f_sh" "$j_home" "${j_umask:-077}" "$f_flock" "${j_lock:--}" "$j_mode" "${j_input:-nothing}"
    if [ "$j_mode" = void ]; then
        env -i PATH="$PATH" "$@" </dev/null >/dev/null 2>&1
        return 0
    fi
    if [ -d "$j_systemd" ]; then
        if [ "$f_uid" = 0 ] && command -v systemd-run >/dev/null 2>&1; then
            # A unit of its own outlives the session also where KillUserProcesses is on.
            j_version=$(systemd-run --version 2>/dev/null | head -n 1)
            j_version=${j_version#systemd }
            j_version=${j_version%%[!0-9]*}
            j_version=${j_version:-0}
            set -- --property=KillMode="$j_kill" -- "$@"
            # Else the whole unit ends when one helper of the job is killed for want of memory.
            if [ "$j_version" -ge 243 ]; then set -- --property=OOMPolicy=continue "$@"; fi
            if [ "$j_version" -ge 236 ]; then set -- --collect "$@"; fi
            systemd-run --unit="ferry-job-$j_id" --description="ferry job $j_id" "$@" </dev/null >/dev/null 2>&1 && return 0
            # Perhaps another start was quicker and the unit is there.
            f_nap 1
            j_look
            if [ "$j_state" != notstarted ]; then return 0; fi
            while [ "$1" != -- ]; do shift; done
            shift
        fi
        if cat /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf /run/systemd/logind.conf.d/*.conf \
            /usr/lib/systemd/logind.conf.d/*.conf 2>/dev/null |
            grep -qi '^[[:space:]]*KillUserProcesses[[:space:]]*=[[:space:]]*\(yes\|true\|on\|1\)'; then
            f_no session "systemd-run did not start a unit"
        fi
    fi
    # Nothing of our environment goes along.
    set -- env -i PATH="$PATH" "$@"
    if command -v setsid >/dev/null 2>&1; then
        setsid "$@" </dev/null >/dev/null 2>&1 &
    else
        nohup "$@" </dev/null >/dev/null 2>&1 &
    fi
}

# Waits until a supervisor has claimed the job, has given up, or the time is over.
j_await() {
    f_uptime
    j_until=$((f_now + j_wait))
    while :; do
        j_look
        case $j_state in notstarted | starting) ;; *) return 0 ;; esac
        if [ "$j_state" = notstarted ] && [ -s "$j_dir/err" ]; then return 0; fi
        f_uptime
        if [ "$f_now" -ge "$j_until" ]; then return 0; fi
        f_nap
    done
}

# Can the node give a job a terminal? Only util-linux's script is known to pass the exit code on and to
# live with an input that is none.
j_terminal() {
    case $(script --version </dev/null 2>/dev/null) in *util-linux*) return 0 ;; esac
    return 1
}

j_start() {
    if [ "$j_input" = terminal ] && [ ! -e "$j_dir/pid" ] && ! j_terminal; then
        f_no script "$(command -v script 2>/dev/null)"
    fi
    f_dir "$f_base"
    f_dir "$f_base/jobs"
    f_dir "$f_base/locks"
    mkdir "$j_dir" 2>/dev/null
    f_dir "$j_dir"
    # The digest first: it says whose the id is.
    f_put "$j_dir/sha" "$j_sha"
    j_have=$(cat "$j_dir/sha")
    if [ "$j_have" != "$j_sha" ]; then f_no taken "$j_have"; fi
    f_put "$j_dir/meta" "$j_meta"
    f_put "$j_dir/sup" "$j_sup"
    f_put "$j_dir/spec" "$j_spec"
    if f_sum "$j_dir/spec" && [ "$f_digest" != "$j_sha" ]; then f_no spec "$f_digest"; fi
    f_sync "$j_dir" "$f_base/jobs"
    j_look
    if [ "$j_state" = notstarted ]; then
        : >"$j_dir/err"
        if [ "$j_input" != nothing ]; then
            mkfifo -m 600 "$j_dir/in" 2>/dev/null
            if [ -L "$j_dir/in" ] || [ ! -p "$j_dir/in" ]; then f_no fifo "$j_dir/in"; fi
        fi
        j_run_sup run
    fi
    j_await
    j_answer
}

# Sets the job's folder; the id is checked here again, paths are made of it.
j_place() {
    case $j_id in *[!0-9a-f]*) f_no id "$j_id" ;; esac
    if [ "${#j_id}" -ne 32 ]; then f_no id "$j_id"; fi
    j_dir=$f_base/jobs/$j_id
}

# For verbs that only look: a base that is not there has no jobs, one that is not ours is refused.
j_base() {
    for j_path in "$f_base" "$f_base/jobs"; do
        if [ -e "$j_path" ] || [ -L "$j_path" ]; then f_dir "$j_path"; fi
    done
}

j_list() {
    for j_dir in "$f_base"/jobs/*; do
        j_id=${j_dir##*/}
        case $j_id in *[!0-9a-f]*) continue ;; esac
        if [ "${#j_id}" -ne 32 ] || [ ! -d "$j_dir" ] || [ -L "$j_dir" ]; then continue; fi
        j_look
        f_count "$j_dir/out"
        j_bytes=$f_size
        j_have=$(head -c 64 "$j_dir/sha" 2>/dev/null)
        case $j_have in '' | *[!0-9a-f]*) j_have=- ;; esac
        # Gone in the meantime (cleaned by somebody else).
        if [ "$j_state" = absent ]; then continue; fi
        j_text=$(head -c 65536 "$j_dir/meta" 2>/dev/null)
        f_text "$j_text" job "$j_id" "$j_state" "$j_arg" "$j_seen" "$j_unix" "$j_bytes" "$j_have"
    done
}

# The bytes from j_offset to j_size, in pieces. dd seeks where tail would read from the start.
j_send() {
    while [ "$j_offset" -lt "$j_size" ]; do
        j_block=$((j_offset / 262144))
        j_skip=$((j_offset - j_block * 262144))
        j_len=$((262144 - j_skip))
        if [ "$j_len" -gt "$((j_size - j_offset))" ]; then j_len=$((j_size - j_offset)); fi
        f_say D "$j_offset" "$j_len"
        if [ "$j_skip" -eq 0 ]; then
            dd if="$j_dir/out" bs=262144 skip="$j_block" count=1 2>/dev/null | head -c "$j_len"
        else
            dd if="$j_dir/out" bs=262144 skip="$j_block" count=1 2>/dev/null | tail -c "+$((j_skip + 1))" | head -c "$j_len"
        fi
        j_offset=$((j_offset + j_len))
        # The end is named again: if the file was cut under our hands, this line is not where it must be.
        printf '\n' || exit 1
        f_say d "$j_offset"
    done
}

# Tells what was written since the last time.
j_tell() {
    f_count "$j_dir/out"
    j_size=$f_size
    if [ "$j_size" -lt "$j_offset" ] && [ "$j_state" != absent ]; then f_no gap "$j_size"; fi
    j_send
}

j_follow() {
    j_next=0 j_told=- j_extra='' j_arch=$(uname -m) j_full=0 j_w=- j_heard=$j_offset
    while :; do
        # First the state, then the size: what a job that has ended wrote is all there by then.
        f_uptime
        j_due=no
        if [ -e "$j_dir/rc" ] || [ "$f_now" -ge "$j_next" ]; then
            j_look
            j_due=yes
            j_next=$((f_now + j_beat))
        fi
        j_tell
        case $j_state in
        'done' | lost | absent | notstarted)
            j_answer
            return 0
            ;;
        esac
        j_waits "$j_due"
        if [ "$j_w" = yes ]; then
            # Who waits has written before; through a terminal it may be on its way. A program that
            # reads for a moment only is not taken for one that waits.
            if [ "$j_told" != yes ]; then
                f_nap
                j_waits no
            fi
            j_tell
        fi
        if [ "$j_w" != "$j_told" ]; then j_due=yes; fi
        if [ "$j_w" = yes ] && [ "$j_offset" != "$j_heard" ]; then j_due=yes; fi
        if [ "$j_due" = yes ]; then
            f_say H "$j_state" "$j_arg" "$j_seen" "$j_offset" "$j_w"
            j_told=$j_w j_heard=$j_offset
        fi
        f_nap "$j_poll"
    done
}

# Is descriptor $2 of process $1 the job's FIFO or a terminal?
j_input_fd() {
    j_link=$(readlink "/proc/$1/fd/$(($2))" 2>/dev/null) || return 1
    case $j_link in
    /dev/pts/[0-9]* | /dev/tty | /dev/tty[0-9]* | /dev/console) return 0 ;;
    /*) ;;
    *) return 1 ;;
    esac
    j_two=$(ls -Ldi "/proc/$1/fd/$(($2))" 2>/dev/null)
    # shellcheck disable=SC2086 # the first word is the inode
    set -- $j_two
    [ "${1:--}" = "$j_inode" ]
}

# Words of 4 bytes of a process's memory, into j_words.
j_memory() {
    j_words=$(dd if="/proc/$1/mem" bs=4 skip="$(($2 / 4))" count="$3" 2>/dev/null | od -An -v -tu4 2>/dev/null)
    case $j_words in *[!0-9[:space:]]*) j_words='' ;; esac
}

# Does process $1 wait for input in one of its threads? 0 yes, 1 no, 2 cannot be told.
j_reads() {
    j_got=1
    for j_path in "/proc/$1/task"/*/syscall; do
        j_nr='' j_first='' j_second=''
        { read -r j_nr j_first j_second _ <"$j_path"; } 2>/dev/null
        case $j_arch:$j_nr in
        x86_64:0 | x86_64:19 | aarch64:63 | aarch64:65) # read readv
            if j_input_fd "$1" "$j_first"; then return 0; fi
            ;;
        x86_64:7 | x86_64:271 | aarch64:73) # poll ppoll
            j_poll_reads "$1"
            case $? in 0) return 0 ;; 2) j_got=2 ;; esac
            ;;
        x86_64:23 | x86_64:270 | aarch64:72) # select pselect6
            j_select_reads "$1"
            case $? in 0) return 0 ;; 2) j_got=2 ;; esac
            ;;
        x86_64:?* | aarch64:?*) ;;
        *)
            # Where the system call cannot be read, or its numbers are not known: where the kernel sleeps.
            if [ -e "$j_path" ] || [ -e "/proc/$1/stat" ]; then
                j_wchan "$1" "${j_path%/syscall}/wchan"
                case $? in 0) return 0 ;; 2) j_got=2 ;; esac
            fi
            ;;
        esac
    done
    return "$j_got"
}

# poll: an array of (descriptor, events).
j_poll_reads() {
    j_who=$1
    j_count=$((j_second))
    if [ "$j_count" -lt 1 ] || [ "$j_count" -gt 64 ]; then return 1; fi
    j_memory "$j_who" "$j_first" $((j_count * 2))
    # shellcheck disable=SC2086 # words are wanted; they are numbers
    set -- $j_words
    if [ $# -lt 2 ]; then
        if j_input_fd "$j_who" 0; then return 2; fi
        return 1
    fi
    while [ $# -ge 2 ]; do
        if [ "$1" -lt 65536 ] && [ $(($2 & 1)) = 1 ] && j_input_fd "$j_who" "$1"; then return 0; fi
        shift 2
    done
    return 1
}

# select: a bit for each descriptor that is read from.
j_select_reads() {
    j_who=$1
    j_count=$((j_first))
    if [ "$j_count" -lt 1 ] || [ $((j_second)) = 0 ]; then return 1; fi
    if [ "$j_count" -gt 32 ]; then j_count=32; fi
    j_memory "$j_who" "$j_second" 1
    # shellcheck disable=SC2086
    set -- $j_words
    if [ $# -lt 1 ]; then
        if j_input_fd "$j_who" 0; then return 2; fi
        return 1
    fi
    j_fd=0
    while [ "$j_fd" -lt "$j_count" ]; do
        if [ $((($1 >> j_fd) & 1)) = 1 ] && j_input_fd "$j_who" "$j_fd"; then return 0; fi
        j_fd=$((j_fd + 1))
    done
    return 1
}

# By the name of the kernel's function: it does not say which descriptor.
j_wchan() {
    j_name=$(cat "$2" 2>/dev/null)
    case $j_name in
    '' | 0)
        # Nothing of it may be looked at (another user namespace): then nothing is known, not that it does not wait.
        if [ -d "/proc/$1" ] && ! readlink "/proc/$1/fd/0" >/dev/null 2>&1; then return 2; fi
        ;;
    esac
    case $j_name in
    n_tty_read | wait_woken | pipe_read | anon_pipe_read | fifo_pipe_read | pipe_wait | '' | 0 | poll_schedule_timeout* | do_select | do_sys_poll)
        j_input_fd "$1" 0 || return 1
        ;;
    *) return 1 ;;
    esac
    case $j_name in
    n_tty_read | wait_woken) return 0 ;;
    *pipe_read | pipe_wait)
        # It may as well read what another command says.
        for j_one in "/proc/$1/fd"/*; do
            case $(readlink "$j_one" 2>/dev/null) in pipe:*) return 2 ;; esac
        done
        return 0
        ;;
    esac
    return 2
}

# What descends from the supervisor, into j_kids, without a look at every process of the node. The `script` that
# makes the job's terminal is none of the job. False where the kernel does not tell children.
j_descend() {
    j_kids='' j_todo=$j_pid j_terms=" $j_pid "
    if [ ! -e "/proc/$j_pid/task/$j_pid/children" ]; then return 1; fi
    while [ -n "$j_todo" ]; do
        # shellcheck disable=SC2086 # words are wanted; they are numbers
        set -- $j_todo
        j_todo=
        for j_one in "$@"; do
            for j_path in "/proc/$j_one/task"/*/children; do
                j_line=
                # It has no line feed at its end.
                { read -r j_line <"$j_path"; } 2>/dev/null
                for j_kid in $j_line; do
                    j_todo="$j_todo $j_kid"
                    case $j_terms in
                    *" $j_one "*)
                        j_name=
                        { read -r j_name <"/proc/$j_kid/comm"; } 2>/dev/null
                        if [ "$j_name" = script ]; then
                            j_terms="$j_terms$j_kid "
                            continue
                        fi
                        ;;
                    esac
                    j_kids="$j_kids $j_kid"
                done
            done
        done
        j_todo=${j_todo# }
    done
}

# Does some process of the job wait for input? Into j_w: yes, no, - (cannot be told). $1 yes: look also for
# those that no longer descend from the supervisor.
j_waits() {
    if [ ! -p "$j_dir/in" ] || [ "$j_state" != running ] || ! f_alive "$j_pid" "$j_pstart"; then
        j_w=-
        return 0
    fi
    if ! j_descend; then
        # A look at every process takes its time.
        f_uptime
        if [ "$f_now" -lt "$j_full" ]; then return 0; fi
        j_full=$((f_now + 2))
        j_gather
        j_kids=$j_members
    elif [ "$1" = yes ]; then
        j_gather
        j_extra=''
        for j_one in $j_members; do
            case " $j_kids " in *" ${j_one%:*} "*) ;; *) j_extra="$j_extra $j_one" ;; esac
        done
    fi
    j_two=$(ls -di "$j_dir/in" 2>/dev/null)
    # shellcheck disable=SC2086 # the first word is the inode
    set -- $j_two
    j_inode=${1:-+}
    j_w=no
    for j_kid in $j_kids $j_extra; do
        j_reads "${j_kid%:*}"
        case $? in
        0)
            j_w=yes
            return 0
            ;;
        2) j_w=- ;;
        esac
    done
}

# How far the answer with number $1 came, into j_how (none, claimed, unknown, written) and j_have (its text).
j_given() {
    j_how=none j_have=''
    if [ ! -f "$j_dir/answer-$1" ]; then return 0; fi
    j_how=claimed
    if [ -e "$j_dir/answer-$1.write" ]; then j_how=unknown; fi
    if [ -e "$j_dir/answer-$1.done" ]; then j_how=written; fi
    j_have=$(head -c 1024 "$j_dir/answer-$1")
}

# One line into the job's input, once per number. `answer-N` holds the text and is made by one link(2):
# the first text is the one. `answer-N.write` is made by another: who makes it writes, at once. `answer-N.done`: it
# is written. So a claim that was cut before the write is finished by whoever comes next; only a kill -9 between the
# second link and the write leaves one that nobody can tell, and that one is never written again.
j_reply() {
    j_look
    if [ "$j_state" = absent ]; then f_no absent "$j_id"; fi
    j_given "$j_seq"
    j_was=$j_how
    if [ "$j_how" = none ] || [ "$j_how" = claimed ]; then
        if [ "$j_state" != running ]; then f_no ended "$j_state"; fi
        if [ -L "$j_dir/in" ] || [ ! -p "$j_dir/in" ]; then f_no input "$j_id"; fi
        f_alive "$j_pid" "$j_pstart" || f_no ended "$j_pid"
        # More than a pipe holds would block us, if nobody reads.
        j_all=$(cat "$j_dir"/answer-* 2>/dev/null | wc -c)
        if [ "$((j_all + ${#j_text}))" -gt 32768 ]; then f_no answers "$j_all"; fi
        # From here on not to be stopped by the end of our connection.
        trap '' HUP INT TERM PIPE
        j_tmp=$j_dir/answer-$j_seq.tmp-$f_nonce
        if [ "$j_how" = none ]; then
            printf '%s' "$j_text" >"$j_tmp" 2>/dev/null
            f_count "$j_tmp"
            if [ "$f_size" -ne "${#j_text}" ]; then
                rm -f "$j_tmp"
                f_no room "$j_tmp"
            fi
            f_sync "$j_tmp"
            if ! ln "$j_tmp" "$j_dir/answer-$j_seq" 2>/dev/null; then j_was=claimed; fi
            rm -f "$j_tmp"
        fi
        : >"$j_tmp"
        j_given "$j_seq"
        if [ "$j_how" = none ]; then
            rm -f "$j_tmp"
            f_no room "$j_dir"
        fi
        f_sync "$j_dir"
        if ln "$j_tmp" "$j_dir/answer-$j_seq.write" 2>/dev/null; then
            # One write(2) of less than PIPE_BUF.
            printf '%s\n' "$j_have" 1<>"$j_dir/in"
            ln "$j_tmp" "$j_dir/answer-$j_seq.done" 2>/dev/null
        fi
        rm -f "$j_tmp"
    fi
    # Somebody else may be at it just now.
    j_n=0
    j_given "$j_seq"
    while [ "$j_how" = unknown ] && [ "$j_n" -lt 30 ]; do
        j_n=$((j_n + 1))
        f_nap
        j_given "$j_seq"
    done
    case $j_how in
    written) if [ "$j_was" = none ]; then j_how=now; else j_how=before; fi ;;
    claimed) f_no room "$j_dir" ;;
    esac
    f_text "$j_have" answer "$j_how"
}

j_replies() {
    j_look
    if [ "$j_state" = absent ]; then f_no absent "$j_id"; fi
    for j_path in "$j_dir"/answer-*; do
        j_seq=${j_path##*/answer-}
        case $j_seq in '' | *[!0-9]*) continue ;; esac
        j_given "$j_seq"
        case $j_how in written) j_how=yes ;; claimed) j_how=no ;; esac
        f_text "$j_have" given "$j_seq" "$j_how"
    done
}

# Every process of the job but its supervisor, as pid:start words in j_members: its session, and
# what descends from it, and the sessions of those. The `script` that makes the job's terminal is apart, in j_terms.
j_gather() {
    j_table='' j_members='' j_known=" $j_pid " j_terms=" $j_pid "
    for j_path in /proc/[0-9]*; do
        j_one=${j_path#/proc/}
        if f_proc "$j_one"; then j_table="$j_table $j_one $f_ppid $f_sess $f_start"; fi
    done
    j_more=yes
    while [ "$j_more" = yes ]; do
        j_more=no
        # shellcheck disable=SC2086 # words are wanted; they are numbers
        set -- $j_table
        while [ $# -ge 4 ]; do
            case $j_known in
            *" $1 "*) ;;
            *)
                case $j_known in
                *" $2 "*) j_mine=yes ;;
                *" $3 "*) j_mine=yes ;;
                *) j_mine=no ;;
                esac
                if [ "$j_mine" = yes ]; then
                    j_known="$j_known$1 " j_more=yes
                    j_name=
                    { read -r j_name <"/proc/$1/comm"; } 2>/dev/null
                    case $j_terms in *" $2 "*) ;; *) j_name='' ;; esac
                    if [ "$j_name" = script ]; then
                        j_terms="$j_terms$1 "
                    else
                        j_members="$j_members $1:$4"
                    fi
                fi
                ;;
            esac
            shift 4
        done
    done
}

# A signal to the job's processes. The supervisor is spared: it writes down how they ended; so is the terminal,
# which ends after the job and passes its code on.
j_signal() {
    j_gather
    # Who is signalled is who was found, and the supervisor is still who it was.
    f_alive "$j_pid" "$j_pstart" || return 0
    for j_one in $j_members; do
        if f_alive "${j_one%:*}" "${j_one#*:}"; then kill -s "$1" "${j_one%:*}" 2>/dev/null; fi
    done
    if [ "$1" = TERM ]; then
        for j_one in $j_members; do
            if f_alive "${j_one%:*}" "${j_one#*:}"; then kill -s CONT "${j_one%:*}" 2>/dev/null; fi
        done
    fi
}

j_cancel() {
    j_await
    case $j_state in
    notstarted)
        # Claimed so that it never runs; a supervisor that is late finds it taken.
        if [ -f "$j_dir/sup" ]; then
            j_run_sup void
            j_look
        fi
        ;;
    running)
        j_signal TERM
        f_uptime
        j_until=$((f_now + j_after))
        while [ "$f_now" -lt "$j_until" ]; do
            f_nap
            j_look
            if [ "$j_state" != running ]; then break; fi
            f_uptime
        done
        j_n=0
        while [ "$j_state" = running ] && [ "$j_n" -lt 10 ]; do
            j_n=$((j_n + 1))
            j_signal KILL
            if [ "$j_n" -gt 3 ]; then
                # The job is gone and its terminal has not noticed.
                for j_one in $j_terms; do
                    if [ "$j_one" != "$j_pid" ]; then kill -s KILL "$j_one" 2>/dev/null; fi
                done
            fi
            f_nap 1
            j_look
        done
        ;;
    orphan) f_no orphan "$j_pid" ;;
    esac
    j_answer
}

# Removes the files that are ours, by name; a folder that holds anything else stays.
j_remove() {
    for j_path in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        if [ ! -e "$j_path" ] && [ ! -L "$j_path" ]; then continue; fi
        j_name=${j_path##*/}
        j_ours=no
        case $j_name in
        spec | sup | lock | pid | out | rc | ack | meta | sha | err) j_ours=yes ;;
        in)
            # The job's input: a FIFO, and nothing else.
            if [ -p "$j_path" ] && [ ! -L "$j_path" ]; then
                if [ "$2" = really ]; then rm -f "$j_path" || f_no remove "$j_path"; fi
                continue
            fi
            ;;
        answer-*)
            case $j_name in
            *.tmp-*) case ${j_name#*.tmp-} in *[!0-9a-f]*) j_name=answer-x ;; esac ;;
            esac
            j_name=${j_name#answer-}
            j_name=${j_name%.tmp-*}
            j_name=${j_name%.write}
            j_name=${j_name%.done}
            case $j_name in '' | *[!0-9]*) ;; *) j_ours=yes ;; esac
            ;;
        rc.*) case ${j_name#rc.} in '' | *[!0-9]*) ;; *) j_ours=yes ;; esac ;;
        pid.*) case ${j_name#pid.} in '' | *[!0-9]*) ;; *) j_ours=yes ;; esac ;;
        spec.tmp-* | sup.tmp-* | meta.tmp-* | sha.tmp-* | ack.tmp-*)
            case ${j_name#*.tmp-} in *[!0-9a-f]*) ;; *) j_ours=yes ;; esac
            ;;
        esac
        if [ "$j_ours" != yes ] || [ -L "$j_path" ] || [ ! -f "$j_path" ]; then f_no foreign "$j_path"; fi
        if [ "$2" = really ]; then rm -f "$j_path" || f_no remove "$j_path"; fi
    done
    if [ "$2" = really ]; then rmdir "$1" || f_no remove "$1"; fi
}

j_clean() {
    j_gone=$f_base/jobs/.gone-$j_id
    # An earlier clean that was cut is finished first.
    if [ -d "$j_gone" ] && [ ! -L "$j_gone" ]; then
        j_remove "$j_gone" no
        j_remove "$j_gone" really
    fi
    j_look
    if [ "$j_state" != absent ]; then
        f_dir "$j_dir"
        case $j_state in 'done' | lost) ;; *) f_no running "$j_state" ;; esac
        : >>"$j_dir/out"
        if f_sum "$j_dir/out" && [ "$f_digest" != "$j_sha" ]; then f_no digest "$f_digest"; fi
        j_remove "$j_dir" no
        f_put "$j_dir/ack" "$j_sha"
        # One step, so that a clean that is cut never leaves a job that looks as if it had not run.
        mv "$j_dir" "$j_gone" || f_no remove "$j_dir"
        j_remove "$j_gone" really
        f_sync "$f_base/jobs"
    fi
    f_tidy
    j_look
    j_answer
}

j_digest() {
    j_look
    if [ "$j_state" = absent ]; then f_no absent "$j_id"; fi
    f_count "$j_dir/out"
    j_size=$f_size
    if [ -f "$j_dir/out" ] && f_sum "$j_dir/out"; then
        f_say digest "$f_digest" "$j_size"
    else
        f_say digest - "$j_size"
    fi
}

j_main() {
    f_begin
    j_home=${HOME:-/}
    if [ "$f_uid" = 0 ]; then j_home=/root; fi
    case $j_verb in list | terminal) ;; *) j_place ;; esac
    case $j_verb in start | terminal) ;; *) j_base ;; esac
    case $j_verb in
    start) j_start ;;
    state)
        j_look
        j_answer
        ;;
    list) j_list ;;
    follow) j_follow ;;
    answer) j_reply ;;
    answers) j_replies ;;
    terminal) if j_terminal; then f_say terminal yes; else f_say terminal no; fi ;;
    cancel) j_cancel ;;
    clean) j_clean ;;
    digest) j_digest ;;
    esac
    f_say bye
}
