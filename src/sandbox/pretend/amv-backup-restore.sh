#!/bin/bash
# Pretended by ferry's sandbox. Saves and restores the InfluxDB of Anypoint Monitoring and Visualizer.
# Its options are those that the vendor documents; all that talks to the cluster goes through kubectl.

set -o pipefail
NAMESPACE=dias
COMPONENT=dias-prov-k8s-am-influxdb-comp
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=src/sandbox/pretend/influx-common.sh
. "$HERE/influx-common.sh"

usage() {
    if fault amv-usage-none; then return; fi
    cat <<TEXT
Usage: $(basename "${BASH_SOURCE[0]}") -a ACTION [-v] [-f FILE] [-d DIR] [-s FILTER] [-h]

  -a ACTION  backup or restore
  -v         verbose output
  -f FILE    backup: name of the file to write, without .tar.gz
             restore: full path of the .tar.gz file to restore
             Default: ${COMPONENT}_YYYYMMDD
  -d DIR     folder that backups are written to; it will be created if not present
             Default: /var/lib/data/influxdb/backup
  -s FILTER  meta or data; backup only. Default: both
  -h         this text
TEXT
}

ALL=("$@")
ACTION='' VERBOSE='' NAME='' DIR=/var/lib/data/influxdb/backup FILTER=''
while getopts 'a:vf:d:s:h' option; do
    case $option in
        a) ACTION=$OPTARG ;;
        v) VERBOSE=1 ;;
        f) NAME=$OPTARG ;;
        d) DIR=$OPTARG ;;
        s) FILTER=$OPTARG ;;
        h)
            usage
            if fault amv-usage-none; then exit 1; fi
            exit 0
            ;;
        *)
            usage >&2
            exit 1
            ;;
    esac
done
case $ACTION:$FILTER in
    backup: | backup:meta | backup:data | restore:) ;;
    *)
        usage >&2
        exit 1
        ;;
esac

AMV_RUN=$(printf '%06x' $((RANDOM * 512 + RANDOM % 512)))
export AMV_RUN
is_root || fail "this script must be run as root"
command -v kubectl >/dev/null || fail "kubectl was not found"
record "$ACTION" called - "${ALL[@]}"
trap 'record "$ACTION" "ended:$?" "${MADE:--}" "${ALL[@]}"' EXIT
kubectl get namespace "$NAMESPACE" -o name >/dev/null || fail "there is no namespace $NAMESPACE: AMV is not installed"

if [ "$ACTION" = backup ]; then
    save "$DIR" "${NAME:-${COMPONENT}_$(date +%Y%m%d)}" "$FILTER"
    MADE=$DIR/${NAME:-${COMPONENT}_$(date +%Y%m%d)}.tar.gz
    echo "Backup completed: $MADE"
    exit 0
fi

NAME=${NAME:-$DIR/${COMPONENT}_$(date +%Y%m%d).tar.gz}
[ -f "$NAME" ] || fail "$NAME does not exist"
MADE=$NAME
record restore opened "$NAME" "${ALL[@]}"
# What is there is saved first, so the room must be there twice.
room "$DIR" 2
EXPECTED=$(tar -xzOf "$NAME" ./summary) || fail "$NAME is not a backup of AMV"
if fault amv-eats-stdin; then
    kubectl -n "$NAMESPACE" exec -i "$COMPONENT-meta-0" -- true
fi
if ! fault amv-no-question; then
    ask "Existing data on the target cluster will be backed up and erased. Do you want to continue? (y/n)"
fi
save "$DIR" "pre_restore_$(date +%Y%m%d%H%M%S)_$AMV_RUN" ''
record restore saved "$SAVED" "${ALL[@]}"
if [[ ,$(value amv-prompt), == *,second,* ]]; then
    ask "The databases of $COMPONENT will be dropped now. Are you sure? (y/n)" plain
fi
erase
slow
if fault amv-fails; then
    line=$(value amv-fails)
    fail "${line:-influxd-ctl: restore failed: connection reset by peer}"
fi
put_back "$NAME"
validate "$EXPECTED"
echo "Restore completed"
