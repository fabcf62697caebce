# One end of a transfer. Sent before every call, with F (the path), and what the call needs.
# M stands before whatever is meant for ferry: no file's content knows it.
say() { printf '%s %s\n' "$M" "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }
umask 077
d=${F%/*}
d=${d:-/}
p=$F.ferry-part
j=$p.journal

# The first tool for a digest that works.
tool() {
  for t in openssl sha256sum shasum busybox none; do
    case $(printf '' | digest 2>/dev/null) in e3b0c44298fc1c14*) break ;; esac
  done
}
digest() {
  case $t in
  gmac) $q openssl mac -cipher AES-128-GCM -macopt hexkey:"$G" -macopt hexiv:"$V" GMAC ;;
  openssl) has openssl && $q openssl dgst -sha256 -r ;;
  sha256sum) has sha256sum && sha256sum ;;
  shasum) has shasum && shasum -a 256 ;;
  busybox) has busybox && busybox sha256sum ;;
  esac
}
# The same of a file that stands on the input. openssl reads 8 KiB at a time; what gives it more at once spares it a fifth.
whole() {
  q='stdbuf -i65536'
  $q openssl version >/dev/null 2>&1 </dev/null || q=
  digest
}
# Whether openssl makes GMAC, as it should. Its key is no secret.
mac() {
  G=000102030405060708090a0b0c0d0e0f V=ffffffffffffffffffffffff t=gmac
  case $(printf '' | digest 2>/dev/null) in [Cc]2819[Bb]7[Aa]461473723485156496[Ee][Dd][Bb]8[Bb]9) say mac ;; esac
}
# To the nanosecond, where the file system has it: a file may be written to twice in one second.
which_file() { TZ=UTC0 stat -c '%s %i %d %y %z' "$F"; }
# Where descriptor $2 of process $1 stands in its file.
position() {
  a=
  while read -r field value; do
    case $field in pos:) a=$value ;; esac
  done 2>/dev/null <"/proc/$1/fdinfo/$2"
}
settle() { sync "$1" 2>/dev/null || sync; }

source_look() {
  if [ -L "$F" ]; then say odd a symbolic link
  elif [ -d "$F" ]; then say folder
  elif [ ! -e "$F" ]; then say missing
  elif [ ! -f "$F" ]; then say odd no regular file
  elif [ ! -r "$F" ]; then say unreadable
  else
    say file "$(which_file)"
    if [ -z "$B" ]; then
      tool
      say tool "$t"
      mac
    fi
  fi
  say over
}

source_digest() {
  tool
  x=$(whole <"$F")
  say digest "${x%% *}"
  say over
}

# L bytes from byte O.
source_read() {
  if [ -L "$F" ] || [ ! -f "$F" ]; then say gone; exit 3; fi
  exec 3<"$F" || exit 5
  say ready "$(which_file)"
  dd bs=1048576 skip=$((O / 1048576)) count=0 <&3 2>/dev/null
  [ $((O % 1048576)) = 0 ] || dd bs=1 skip=$((O % 1048576)) count=0 <&3 2>/dev/null
  position $$ 3
  if [ "$a" = "$O" ]; then
    [ "$L" -lt 262144 ] || dd bs=262144 count=$((L / 262144)) <&3 2>/dev/null || exit 5
    [ $((L % 262144)) = 0 ] || head -c $((L % 262144)) <&3 || exit 5
  else
    # A dd that does not seek: slower, and as right.
    tail -c +$((O + 1)) "$F" | head -c "$L" || exit 5
  fi
  say end "$(which_file)"
}

# Whoever still writes for a connection that has died, the span $1 or all of them.
writers() {
  for one in $(grep -lF -- "FERRY_WRITES=$p|$1" /proc/[0-9]*/environ 2>/dev/null); do
    one=${one#/proc/}
    one=${one%/environ}
    case $one in *[!0-9]* | "$$") ;; *) printf '%s ' "$one" ;; esac
  done
}
alone() {
  i=0
  while w=$(writers "$1") && [ -n "$w" ]; do
    kill -9 $w 2>/dev/null
    i=$((i + 1))
    if [ "$i" -gt 30 ]; then say busy; say over; exit 0; fi
    [ "$i" = 1 ] || sleep 1
  done
}

target_look() {
  if [ ! -d "$d" ]; then say nofolder; say over; exit 0; fi
  case $(stat -c %a "$d") in
  [1357]???) ;;
  *[2367]) say loose "$(stat -c %a "$d")" ;;
  esac
  [ -w "$d" ] || say readonly
  if [ -L "$F" ]; then say odd a symbolic link
  elif [ -d "$F" ]; then say folder
  elif [ -e "$F" ] && [ ! -f "$F" ]; then say odd no regular file
  elif [ -e "$F" ]; then say exists "$(which_file)"; fi
  if [ -e "$p.tree" ] || [ -L "$p.tree" ]; then say part; fi
  for one in "$p" "$j"; do
    if [ -L "$one" ] || { [ -e "$one" ] && [ ! -f "$one" ]; }; then say odd no regular file beside it; fi
  done
  if [ -f "$p" ] || [ -f "$j" ]; then
    say part "$(stat -c %s "$p" 2>/dev/null)"
    read -r h <"$j" && say head "$h"
  fi
  free=$(df -Pk "$d" 2>/dev/null | { read -r x; read -r x x x x y; printf %s "$x"; })
  say free "$free"
  if [ -z "$B" ]; then
    tool
    say tool "$t"
    mac
  fi
  say over
}

# Makes the part and its journal, or goes on with those that are there (R=1).
target_begin() {
  if [ -L "$p" ] || [ -L "$j" ]; then say odd; say over; exit 0; fi
  alone ''
  rm -f "$p".at.*
  if [ "$R" = 1 ] && [ -f "$p" ] && [ -f "$j" ]; then
    { printf '%s\n' "$H"; tail -n +2 "$j"; } >"$j.new" && mv -f "$j.new" "$j" || exit 4
    tail -n +2 "$j" | while read -r k v; do say had "$k" "$v"; done
  else
    rm -f "$p" "$j"
    rm -rf "$p.tree"
    (set -C && : >"$p") || exit 4
    # By cat, which says why it cannot.
    (set -C && printf '%s\n' "$H" | cat >"$j") || { rm -f "$p" "$j"; exit 4; }
  fi
  if [ -n "$W" ]; then
    chown "$W" "$p" || { say noowner; rm -f "$p" "$j"; }
    chown "$(id -u):$(id -g)" "$p" 2>/dev/null
  fi
  settle "$j"
  case $U in
  '' | *[!A-Za-z0-9._-]*) ;;
  *)
    eval "h=~$U"
    if grep -qF ' ferry-direct-1 ' "$h/.ssh/authorized_keys" 2>/dev/null; then say keys; fi
    ;;
  esac
  say begun
  say over
}

ours() {
  if [ -L "$p" ] || [ ! -f "$p" ] || ! read -r h <"$j" || [ "$h" != "$H" ]; then say taken; say over; exit 3; fi
}

# Takes the input to byte O of the part and on. After a cut it begins where the writer before it stood, if it said so:
# between O and X. Where Q is a FIFO, it is the input: what stands in the file is told as it grows, and when nobody hears that
# any more, nobody waits for a first byte. Who is on the way to write it would wait for a reader for ever: there is one a while longer.
target_write() {
  ours
  stood=
  for one in $(writers "$S|"); do
    position "$one" 3
    stood=${a:-$stood}
  done
  alone "$S|"
  if [ -f "$p.at.$S" ]; then
    read -r stood <"$p.at.$S"
    rm -f "$p.at.$S"
  fi
  case $stood in '' | *[!0-9]*) ;; *) if [ "$stood" -ge "$O" ] && [ "$stood" -le "$X" ]; then O=$stood; fi ;; esac
  export FERRY_WRITES="$p|$S|" p M O S Q
  exec sh -c '
    trap "" PIPE HUP
    exec 3<>"$p" || exit 4
    position() {
      a=
      while read -r k v; do
        case $k in pos:) a=$v ;; esac
      done <"/proc/$$/fdinfo/3"
    }
    dd bs=1048576 seek=$((O / 1048576)) count=0 conv=notrunc >&3 2>/dev/null </dev/null
    [ $((O % 1048576)) = 0 ] || dd bs=1 seek=$((O % 1048576)) count=0 conv=notrunc >&3 2>/dev/null </dev/null
    position
    if [ "$a" != "$O" ]; then printf "%s unseekable %s\n" "$M" "$a"; exit 4; fi
    printf "%s ready %s %s\n" "$M" $$ "$O"
    if [ -n "$Q" ]; then
      (
        while printf "%s at %s\n" "$M" "$a"; do
          sleep 0.2 >/dev/null 2>&1 || sleep 1 >/dev/null 2>&1
          position
        done 2>/dev/null
        exec 9<>"$Q"
        sleep 20 >/dev/null 2>&1
      ) </dev/null &
      r=$!
      exec <"$Q"
    fi
    cat >&3
    c=$?
    [ -z "$Q" ] || kill "$r"
    position
    set -C
    printf "%s\n" "$a" >"$p.at.$S"
    printf "%s end %s %s\n" "$M" "$c" "$a"
    exit $c'
}

# Answers until its input ends: d makes the digest of a chunk, once writer w stands behind its end e, f that of all behind
# the last one up to where the file ends then, a that of the whole; j notes one. T names what makes them, where both ends have it.
# l and x are the last look at the source and the last step, by the shell that is open: a round trip, not three.
prove() {
  t=$T
  o=
  [ -n "$t" ] || tool
  say proving "$t"
  while read -r c i k n w e; do
    case $c in
    d | f)
      while [ "$w" != 0 ]; do
        position "$w" 3
        if [ -z "$a" ] || [ "$a" -ge "$e" ]; then break; fi
        sleep 0.02 2>/dev/null || sleep 1
      done
      if [ "$w" != 0 ] && [ -z "$a" ]; then say gone "$i"; continue; fi
      [ "$P" = "$F" ] || settle "$P"
      if [ "$c" = f ]; then
        # The tool reads the file itself, no pipe: what is shared is where it stands.
        [ -n "$o" ] || exec 3<"$P"
        x=$(whole <&3)
        position $$ 3
        say followed "$i" "${o:=0}" "${a:-0}" "${x%% *}"
        o=$a
      else
        x=$(dd if="$P" bs=1048576 skip="$k" count="$n" 2>/dev/null | digest)
        say digest "$i" "${x%% *}"
      fi
      ;;
    a)
      x=$(whole <"$P")
      say whole "$i" "${x%% *}"
      ;;
    # A shell that is told late writes no journal that was thrown away meanwhile, nor another's.
    j) { read -r h <"$j"; } 2>/dev/null && [ "$h" = "$H" ] && printf '%s %s\n' "$i" "$k" >>"$j" && say noted "$i" ;;
    l | x)
      (
        say() { printf '%s said %s\n' "$M" "$*"; }
        B=1 N=$i X=$k K=$n W=${w#-}
        case $c in l) source_look ;; *) target_finish ;; esac
      )
      say told $?
      ;;
    esac
  done
}

target_finish() {
  ours
  n=$(stat -c %s "$p")
  if [ "$n" != "$N" ]; then say short "$n"; say over; exit 0; fi
  if [ -d "$F" ] || [ -L "$F" ]; then say odd; say over; exit 0; fi
  if [ -n "$W" ] && ! chown "$W" "$p"; then say noowner; say over; exit 0; fi
  chmod "$X" "$p" || exit 4
  settle "$p"
  if [ "$K" = force ]; then mv -f "$p" "$F" || exit 4
  elif ln "$p" "$F" 2>/dev/null; then rm -f "$p"
  elif [ -e "$F" ]; then say exists; say over; exit 0
  else mv "$p" "$F" || exit 4; fi
  settle "$d"
  rm -f "$j" "$p".at.*
  say 'done' "$(stat -c '%s %a %U' "$F")"
  say over
}

target_drop() {
  alone ''
  if read -r h <"$j" && [ "$h" = "$H" ]; then
    [ -L "$p.tree" ] || rm -rf "$p.tree"
    rm -f "$p" "$p".at.* "$j"
  fi
  say dropped
  say over
}

tree_look() {
  if [ -L "$F" ] || [ ! -d "$F" ]; then say odd; say over; exit 0; fi
  has tar && say tar
  size=$(du -sk "$F" 2>/dev/null)
  say size "${size%%[!0-9]*}"
  tool
  say tool "$t"
  say over
}
# The stream alone is on standard output: nobody knows its length. Its first O bytes are left out.
tree_read() {
  if [ -L "$F" ] || [ ! -d "$F" ]; then say gone; exit 3; fi
  say ready
  exec 4>&1
  if [ "$O" = 0 ]; then
    tar -cf - -C "$F" .
    c=$?
  else
    c=$({ { tar -cf - -C "$F" .; printf %s "$?" >&3; } | tail -c +$((O + 1)) >&4; } 3>&1)
  fi
  say end "$c" >&2
  exit "$c"
}
tree_digest() {
  tool
  x=$(tar -cf - -C "$F" . 2>/dev/null | digest)
  say digest "${x%% *}"
  say over
}
tree_unpack() {
  ours
  settle "$p"
  tool
  x=$(digest <"$p")
  if [ "$(stat -c %s "$p")" != "$N" ] || [ "${x%% *}" != "$A" ]; then say differs "${x%% *}"; say over; exit 0; fi
  u=$p.tree
  rm -rf "$u"
  mkdir -m 700 "$u" || exit 4
  tar -xf "$p" -C "$u" || { rm -rf "$u"; exit 4; }
  if [ -n "$W" ] && ! chown -hR "$W" "$u"; then say noowner; say over; exit 0; fi
  if [ -e "$F" ] || [ -L "$F" ]; then say exists; say over; exit 0; fi
  sync
  mv "$u" "$F" || exit 4
  settle "$d"
  rm -f "$p" "$j" "$p".at.*
  say 'done'
  say over
}
