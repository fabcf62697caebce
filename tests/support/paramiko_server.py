"""An SSH server by paramiko: another implementation than OpenSSH's, for the table of servers.

paramiko_server.py PORT HOSTKEY USER   public keys of the user's authorized_keys, exec only, the user's login shell.
"""
import os
import pwd
import socket
import subprocess
import sys
import threading

import paramiko

port, host_key, user = int(sys.argv[1]), sys.argv[2], pwd.getpwnam(sys.argv[3])
key = paramiko.Ed25519Key(filename=host_key)


def authorized():
    with open(os.path.join(user.pw_dir, ".ssh", "authorized_keys")) as lines:
        return [line.split()[1] for line in lines if len(line.split()) > 1]


class Server(paramiko.ServerInterface):
    def get_allowed_auths(self, name):
        return "publickey"

    def check_auth_publickey(self, name, shown):
        known = name == user.pw_name and shown.get_base64() in authorized()
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel, command):
        threading.Thread(target=serve, args=(channel, command), daemon=True).start()
        return True


def become():
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.setsid()


def pump(read, write, end):
    while True:
        data = read()
        if not data:
            break
        try:
            write(data)
        except (OSError, socket.error):
            break
    end()


def serve(channel, command):
    child = subprocess.Popen(
        [user.pw_shell, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        bufsize=0, cwd=user.pw_dir, preexec_fn=become, close_fds=True,
        env={"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell,
             "PATH": "/usr/local/bin:/usr/bin:/bin"},
    )
    threading.Thread(
        target=pump, args=(lambda: channel.recv(32768), child.stdin.write, child.stdin.close), daemon=True).start()
    out = threading.Thread(target=pump, args=(lambda: child.stdout.read(32768), channel.sendall, lambda: None))
    err = threading.Thread(target=pump, args=(lambda: child.stderr.read(32768), channel.sendall_stderr, lambda: None))
    out.start(), err.start(), out.join(), err.join()
    code = child.wait()
    channel.send_exit_status(code if code >= 0 else 128 - code)
    channel.shutdown_write()
    channel.close()


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen(64)
while True:
    connection, _ = listener.accept()

    def talk(connection=connection):
        transport = paramiko.Transport(connection)
        transport.add_server_key(key)
        try:
            transport.start_server(server=Server())
            transport.join()
        except (paramiko.SSHException, EOFError, OSError):
            transport.close()

    threading.Thread(target=talk, daemon=True).start()
