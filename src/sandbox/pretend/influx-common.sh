# shellcheck shell=bash
# Pretended by ferry's sandbox. What amv-backup-restore.sh needs: it is read from beside it.
# shellcheck disable=SC2034,SC2153,SC2154

# The pretend kubectl is where the sandbox has put it, whatever PATH a job was given.
if [ -z "$FERRY_SANDBOX_NODE" ]; then
    root=$HERE
    while [ "$root" != / ] && [ ! -f "$root/etc/ferry-sandbox/node.json" ]; do root=$(dirname "$root"); done
    if [ "$root" = / ]; then
        PATH=/opt/ferry-sandbox/bin:$PATH
    else
        PATH=$root/opt/ferry-sandbox/bin:$PATH
        FERRY_SANDBOX_NODE=$root/etc/ferry-sandbox
        export FERRY_SANDBOX_NODE
    fi
    export PATH
fi
# Never with a kubectl that leads to a cluster somewhere.
if [ "$(kubectl __pretend-amv ours 2>/dev/null </dev/null)" != ours ]; then
    echo "ERROR: this pretended script works with the pretended kubectl only" >&2
    exit 1
fi

pretend() { kubectl __pretend-amv "$@" </dev/null; }
fault() { pretend fault "$1" >/dev/null; }
value() { pretend fault "$1"; }
record() { pretend record "$@"; }
is_root() { [ "$(id -u)" = 0 ] || pretend root; }
slow() { pretend pause; }

fail() {
    echo "ERROR: $1" >&2
    exit 1
}

pod() { kubectl -n "$NAMESPACE" exec "$COMPONENT-meta-0" -- "$@" </dev/null; }
talk() { if [ -n "$VERBOSE" ]; then cat; else cat >/dev/null; fi; }

# Is there room for TIMES the data in DIR?
room() {
    local at=$1 times=$2 need free
    while [ ! -d "$at" ]; do at=$(dirname "$at"); done
    need=$(pod du -sk /var/lib/data/influxdb | cut -f 1) || fail "the size of the data is not known"
    free=$(df -Pk "$at" | awk 'NR == 2 { print $4 }')
    if fault amv-space; then free=0; fi
    if [ "$free" -lt $((need * times)) ]; then
        fail "not enough disk space in $1: $((need * times)) KiB needed, $free KiB available"
    fi
}

# Figures of what the databases hold, a line each.
summary() {
    local databases database measurements=0 policies=0 series=0 number
    databases=$(pod influx -format csv -execute 'SHOW DATABASES' | sed '1d; s/^[^,]*,//')
    number=$(grep -c . <<<"$databases")
    for database in $databases; do
        measurements=$((measurements + $(pod influx -format csv -database "$database" -execute 'SHOW MEASUREMENTS' | sed 1d | grep -c .)))
        policies=$((policies + $(pod influx -format csv -database "$database" -execute 'SHOW RETENTION POLICIES' | sed 1d | grep -c .)))
        series=$((series + $(pod influx -format csv -database "$database" -execute 'SHOW SERIES EXACT CARDINALITY' | sed -n 2p)))
    done
    printf 'databases %s\nmeasurements %s\npolicies %s\nseries %s\n' "$number" "$measurements" "$policies" "$series"
}

# Saves the data into DIR/NAME.tar.gz; FILTER is meta, data or empty.
save() {
    local strategy=full without=() inside="/tmp/amv-$AMV_RUN-$RANDOM" line
    mkdir -p "$1" || fail "$1 cannot be made"
    SAVED=$1/$2.tar.gz
    if [ -e "$SAVED" ]; then fail "$SAVED already exists"; fi
    room "$1" 1
    echo "Backing up $COMPONENT to $SAVED"
    if [ "$3" = meta ]; then strategy=only-meta; fi
    if [ "$3" = data ]; then without=(--exclude=*.meta); fi
    pod influxd-ctl backup -strategy "$strategy" "$inside" | talk || fail "influxd-ctl backup failed"
    if [ "$ACTION" = backup ] && fault amv-fails; then
        pod tar -C "$inside" -czf - . | head -c 100 >"$SAVED"
        line=$(value amv-fails)
        fail "${line:-influxd-ctl: backup failed: connection reset by peer}"
    fi
    if [ "$ACTION" = backup ]; then slow; fi
    summary | kubectl -n "$NAMESPACE" exec -i "$COMPONENT-meta-0" -- tee "$inside/summary" >/dev/null
    pod tar -C "$inside" "${without[@]}" -czf - . >"$SAVED" || fail "$SAVED cannot be written"
    pod rm -rf "$inside"
}

erase() {
    local database
    for database in $(pod influx -format csv -execute 'SHOW DATABASES' | sed '1d; s/^[^,]*,//'); do
        echo "Dropping database $database" | talk
        pod influx -execute "DROP DATABASE \"$database\"" || fail "database $database cannot be dropped"
    done
}

put_back() {
    local inside="/tmp/amv-$AMV_RUN-in"
    echo "Restoring $COMPONENT from $1"
    pod mkdir -p "$inside" || fail "$inside cannot be made"
    kubectl -n "$NAMESPACE" exec -i "$COMPONENT-meta-0" -- tar -C "$inside" -xzf - <"$1" ||
        fail "$1 cannot be unpacked"
    pod influxd-ctl restore "$inside" | talk || fail "influxd-ctl restore failed"
    pod rm -rf "$inside"
}

# Says what was expected and what is there. A difference is told and is no error.
validate() {
    local now style name title expected found
    now=$(summary)
    style=$(value amv-report)
    echo "Validation report"
    while read -r name title; do
        expected=$(sed -n "s/^$name //p" <<<"$1")
        found=$(sed -n "s/^$name //p" <<<"$now")
        case $style in
            words)
                if [ "$expected" = "$found" ]; then
                    echo "Validating $title... passed"
                else
                    echo "Validating $title... failed: expected $expected, found $found"
                fi
                ;;
            numbers) echo "$title: $expected / $found" ;;
            *)
                if [ "$expected" = "$found" ]; then
                    printf '%-20s backup: %-6s restored: %-6s OK\n' "${title^}" "$expected" "$found"
                else
                    printf '%-20s backup: %-6s restored: %-6s MISMATCH\n' "${title^}" "$expected" "$found"
                fi
                ;;
        esac
    done <<LIST
databases databases
measurements measurements
policies retention policies
series series cardinality
LIST
}

# Asks, and ends the script unless the answer is yes. The fault amv-prompt says how.
ask() {
    local text=$1 words='' answer again=''
    if [ "$2" != plain ]; then words=$(value amv-prompt); fi
    case $words in
        *[!a-zA-Z,-]*) text=$words words='' ;;
    esac
    words=,$words,
    if [[ $words == *,only-yes,* ]]; then text=${text/(y\/n)/(yes\/no)}; fi
    if [[ $words == *,only-Y,* ]]; then text=${text/(y\/n)/(Y\/N)}; fi
    if [[ $words == *,repeated,* ]]; then again=1; fi
    while :; do
        answer=''
        case $words in
            *,tty,*)
                { printf '%s ' "$text" >/dev/tty && read -r answer </dev/tty; } || fail "aborted: no answer"
                ;;
            *,read-p,*) read -r -p "$text " answer || fail "aborted: no answer" ;;
            *)
                case $words in
                    *,line,*) echo "$text" ;;
                    *,stderr,*) printf '%s ' "$text" >&2 ;;
                    *) printf '%s ' "$text" ;;
                esac
                read -r answer || fail "aborted: no answer"
                ;;
        esac
        case $words:$answer in
            *,only-yes,*:yes | *,only-Y,*:Y) return ;;
            *,only-yes,*:* | *,only-Y,*:*) ;;
            *:y | *:Y | *:yes | *:Yes | *:YES) return ;;
        esac
        if [ -z "$again" ]; then fail "aborted by user"; fi
        echo "Please answer."
    done
}
