#!/bin/sh
# Stands in front of sudo and behaves as 1.8.23 does where ferry looks: it reads one byte at a time, asks three times,
# asks for a password before it says that somebody may do nothing, and speaks the language of the login. Behind it the
# real one becomes the user.
case " $(cat /etc/old-sudo) " in *" nopasswd "*) free=1 ;; *) free= ;; esac
is() { case " $(cat /etc/old-sudo) " in *" $1 "*) return 0 ;; esac; return 1; }
say() { if [ "${LC_ALL:-}" = C ]; then printf '%s\n' "$1" >&2; else printf '%s\n' "$2" >&2; fi; }
user=root prompt='[sudo] password for ops: ' never='' flags=
while [ $# -gt 0 ]; do
    case $1 in
    -H | -k | -S) ;;
    -E | -i | -s) flags="$flags $1" ;;
    -n) never=1 ;;
    -p) prompt=$2; shift ;;
    -u) user=$2; shift ;;
    --) shift; break ;;
    [!-]*) break ;;
    *) printf "sudo: invalid option -- '%s'\nusage: sudo -h | -K | -k | -V\n" "$1" >&2; exit 1 ;;
    esac
    shift
done
id -u "$user" >/dev/null 2>&1 || { say "sudo: unknown user: $user" "sudo: $user gibt es nicht"; exit 1; }
if is requiretty && ! (: </dev/tty) 2>/dev/null; then
    say 'sudo: sorry, you must have a tty to run sudo' 'sudo: das geht nur von einem Terminal aus'
    exit 1
fi
if [ -z "$free" ]; then
    [ -z "$never" ] || { say 'sudo: a password is required' 'sudo: ohne Kennwort geht es nicht'; exit 1; }
    is lecture && printf '\nBe careful:\n\n    #1) with the data of others\n    #2) with every password:\n\n' >&2
    tries=3 at=0
    is once && tries=1
    while :; do
        printf %s "$prompt" >&2
        IFS= read -r word || { printf '\n' >&2; say 'sudo: no password was provided' 'sudo: kein Kennwort'; exit 1; }
        [ -z "$word" ] || echo sent >>/var/log/attempts
        [ "$word" = "$(cat /etc/old-password)" ] && break
        at=$((at + 1))
        [ "$at" -lt "$tries" ] || { say "sudo: $at incorrect password attempts" "sudo: $at Mal falsch"; exit 1; }
        say 'Sorry, try again.' 'Das war es nicht.'
    done
fi
if is denied; then
    say 'ops is not in the sudoers file.  This incident will be reported.' 'ops darf das nicht.'
    exit 1
fi
if is account; then
    say 'sudo: Account expired or PAM config lacks an "account" section for sudo, contact your system administrator' 'sudo: Konto abgelaufen'
    exit 1
fi
if is expired; then
    say 'sudo: Account or password is expired, reset your password and try again' 'sudo: Kennwort abgelaufen'
    printf 'Changing password for ops.\n(current) UNIX password: ' >&2
    IFS= read -r word || { say 'sudo: unable to change expired password: Authentication token manipulation error' 'sudo: geht nicht'; exit 1; }
    echo sent >>/var/log/attempts
    exit 1
fi
exec /usr/lib/sudo.real -H -n $flags -u "$user" -- "$@"
