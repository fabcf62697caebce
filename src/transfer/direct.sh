# The parts of a transfer from node to node, sent behind end.sh. I is the transfer's id.

# Whether anything of the transfer $1 still runs here, of those processes that we may see.
direct_alive() { grep -lF -- "FERRY_DIRECT=$1|" /proc/[0-9]*/environ >/dev/null 2>&1; }
# Folders of transfers that ended without removing them.
direct_tidy() {
  for one in "$D"/direct-* /run/ferry-direct-* "$HOME"/.ferry-direct-*; do
    case ${one##*-} in ????????????????) ;; *) continue ;; esac
    if [ -d "$one" ] && [ ! -L "$one" ] && ! direct_alive "${one##*-}"; then rm -rf "$one"; fi
  done
}

direct_look_source() {
  say me "$(id -un)"
  if has ssh; then say ssh "$(ssh -V 2>&1)"; else say nossh; fi
  while read -r a b c; do
    case $a in
    '|--') l=$b ;;
    /32) [ "$b $c" != 'host LOCAL' ] || say address "$l" ;;
    esac
  done 2>/dev/null </proc/net/fib_trie
  while read -r a b; do say address6 "$a"; done 2>/dev/null </proc/net/if_inet6
  say over
}

# The bytes from O on, as many at a time as each line of the input says, into the source's own ssh. A is the socket of the
# agent that knows the one key; K the target's host key. Both are of use only for this.
direct_read() {
  if [ -L "$F" ] || [ ! -f "$F" ]; then say gone; exit 3; fi
  if ! has ssh; then say nossh; exit 3; fi
  direct_tidy
  x=$D/direct-$I
  mkdir -p "$D" 2>/dev/null && mkdir "$x" 2>/dev/null || {
    x=$HOME/.ferry-direct-$I
    mkdir "$x" || exit 4
  }
  c=aes128-gcm@openssh.com,aes256-gcm@openssh.com
  case $(ssh -Q cipher 2>/dev/null) in *chacha20-poly1305*) c=$c,chacha20-poly1305@openssh.com ;; esac
  c=$c,aes256-ctr,aes192-ctr,aes128-ctr
  FERRY_DIRECT="$I|"
  export FERRY_DIRECT M F O A K B U T Z x c
  exec sh -c '
    trap "rm -rf \"\$x\"" EXIT
    trap "exit 5" HUP INT TERM
    trap "" PIPE
    printf "%s\n" "$K" >"$x/known_hosts" || exit 4
    which_file() { TZ=UTC0 stat -c "%s %i %d %y %z" "$F"; }
    exec 3<"$F" 4<&0 5>&1 || exit 5
    dd bs=1048576 skip=$((O / 1048576)) count=0 <&3 2>/dev/null
    [ $((O % 1048576)) = 0 ] || dd bs=1 skip=$((O % 1048576)) count=0 <&3 2>/dev/null
    a=
    while read -r k v; do
      case $k in pos:) a=$v ;; esac
    done <"/proc/$$/fdinfo/3"
    if [ "$a" != "$O" ]; then printf "%s unseekable %s\n" "$M" "$a"; exit 4; fi
    printf "%s ready %s\n" "$M" "$(which_file)"
    {
      while read -r n <&4; do
        [ "$n" -lt 262144 ] || dd bs=262144 count=$((n / 262144)) <&3 2>/dev/null || break
        [ $((n % 262144)) = 0 ] || head -c $((n % 262144)) <&3 || break
        printf "%s sent %s\n" "$M" "$n" >&5 || break
      done
    } | SSH_AUTH_SOCK="$A" ssh -T -x -a -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$x/known_hosts" \
      -o GlobalKnownHostsFile=/dev/null -o HostKeyAlias=ferry-direct -o HostKeyAlgorithms="$B" -o CheckHostIP=no -o UpdateHostKeys=no \
      -o IdentityFile=none -o IdentitiesOnly=no -o PreferredAuthentications=publickey -o ClearAllForwardings=yes -o ControlMaster=no \
      -o ControlPath=none -o PermitLocalCommand=no -o Compression=no -o ConnectTimeout=15 -o ServerAliveInterval=10 \
      -o ServerAliveCountMax=3 -o LogLevel=ERROR -o Ciphers="$c" -p "$Z" -l "$U" -- "$T" 4<&- 5<&- >/dev/null
    s=$?
    printf "%s end %s %s\n" "$M" "$s" "$(which_file)"
    exit 0'
}

direct_look_target() {
  say me "$(id -un)"
  s=$(command -v sshd) && "$s" -T -C user="$U",host=localhost,addr=127.0.0.1 2>/dev/null | while read -r a b; do
    case $a in authorizedkeysfile) say keysfile "$b" ;; esac
  done
  if [ "$(id -u)" = 0 ] && [ -d /run ]; then say base /run/ferry-direct-
  else say base "$HOME/.ferry-direct-"; fi
  has mkfifo || say nofifo
  say over
}

# The FIFO Q that the key may write to, and nobody else: U logs in. Whoever still writes to an older one is ended.
direct_open() {
  direct_tidy
  for one in $(grep -lF -- "FERRY_DIRECT=$I|" /proc/[0-9]*/environ 2>/dev/null); do
    one=${one#/proc/}
    one=${one%/environ}
    if ! grep -qF FERRY_HOLDS= "/proc/$one/environ" 2>/dev/null; then kill -9 "$one" 2>/dev/null; fi
  done
  x=${Q%/*}
  rm -rf "$x"
  mkdir -m 711 "$x" && mkfifo -m 600 "$Q" || { say nofifo; say over; exit 0; }
  if [ "$(id -un)" != "$U" ] && ! chown "$U" "$Q"; then rm -rf "$x"; say noowner; say over; exit 0; fi
  chmod 711 "$x"
  say opened
  say over
}
# Whoever waits for a first byte waits no more.
direct_release() {
  if [ -p "$Q" ]; then (exec 9<>"$Q"); fi
  say over
}
direct_close() {
  rm -rf "${Q%/*}"
  say over
}

# As the user that the key is for.
direct_keys() {
  # First: a file that may not be changed ends it.
  say now "$(date '+%s %z')"
  k=$HOME/.ssh/authorized_keys
  if [ -d "$HOME/.ssh" ]; then say folder; fi
  if [ -e "$k" ] && [ ! -f "$k" ]; then say odd; say over; exit 0; fi
  if [ -L "$k" ] && [ ! -e "$k" ]; then say odd; say over; exit 0; fi
  if [ -f "$k" ]; then
    if [ ! -r "$k" ] || [ ! -w "$k" ]; then say nowrite "$(stat -c '%a %U' "$k")"; say over; exit 0; fi
    n=$(wc -c <"$k")
    say size $((n))
    [ "$n" -gt 262144 ] || od -An -v -tx1 <"$k" | while read -r a; do say bytes "$a"; done
  elif [ ! -w "$HOME" ]; then say nowrite "$(stat -c '%a %U' "$HOME")"; fi
  for one in $W; do
    if direct_alive "$one"; then say alive "$one"; fi
  done
  say over
}
# Keeps the entry E, behind the N bytes that were there, as long as the input lasts; then cuts the file off where it was.
direct_hold() {
  FERRY_DIRECT="$I|"
  FERRY_HOLDS=1
  export FERRY_DIRECT FERRY_HOLDS E N M V
  exec sh -c '
    umask 077
    trap "" HUP PIPE
    k=$HOME/.ssh/authorized_keys
    [ -d "$HOME/.ssh" ] || mkdir "$HOME/.ssh" || exit 4
    n=0
    [ ! -e "$k" ] || n=$(wc -c <"$k")
    if [ "$n" -ne "$N" ]; then printf "%s moved\n" "$M"; exit 3; fi
    printf "%s" "$E" >>"$k" || exit 4
    case $V in *c*) restorecon -R "$HOME/.ssh" 2>/dev/null ;; esac
    printf "%s ready\n" "$M"
    cat >/dev/null
    n=$(wc -c <"$k")
    if [ "$n" -eq $((N + ${#E})) ] && [ "$(tail -c ${#E} "$k"; echo .)" = "$E." ]; then
      dd if=/dev/null of="$k" bs=1 seek="$N" 2>/dev/null
      case $V in *c*) [ -s "$k" ] || rm -f "$k" ;; esac
      case $V in *d*) rmdir "$HOME/.ssh" 2>/dev/null ;; esac
    fi
    printf "%s gone\n" "$M"'
}
# Keeps these rows of bytes of the file (R: from and length, in turn) that has the digest G, and no other ones.
direct_edit() {
  k=$HOME/.ssh/authorized_keys
  tool
  x=$(digest <"$k")
  if [ "${x%% *}" != "$G" ]; then say moved; say over; exit 0; fi
  set -- $R
  if [ $# -eq 0 ]; then dd if=/dev/null of="$k" bs=1 seek=0 2>/dev/null || exit 4
  elif [ $# -eq 2 ] && [ "$1" = 0 ]; then dd if=/dev/null of="$k" bs=1 seek="$2" 2>/dev/null || exit 4
  else
    f=$(readlink -f "$k") || exit 4
    t=$f.ferry-$$
    cp -p "$f" "$t" || exit 4
    while [ $# -gt 1 ]; do
      tail -c +$(($1 + 1)) "$f" | head -c "$2"
      shift 2
    done >"$t" || exit 4
    settle "$t"
    mv -f "$t" "$f" || exit 4
  fi
  case $V in *c*) [ -s "$k" ] || rm -f "$k" ;; esac
  case $V in *d*) rmdir "$HOME/.ssh" 2>/dev/null ;; esac
  say edited
  say over
}
