"""Runs etcdctl."""

import os
import signal
import subprocess
import threading

ETCDCTL = os.environ["ETCDCTL"]


class Ctl:
    """An etcdctl with the address of one server."""

    def __init__(self, address):
        self.address = address

    def start(self, *args, **options):
        """Starts a command and returns its process."""
        return subprocess.Popen([ETCDCTL, f"--endpoints={self.address}", *args], **options)

    def run(self, *args, stdin=""):
        """Returns the exit code and the output of a command, without log lines and blanks at its end."""
        process = self.start(
            *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            output, _ = process.communicate(stdin, timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            return "timeout", process.communicate()[0]
        return process.returncode, without_log(output)

    def ok(self, *args, stdin=""):
        """Returns the output of a command that succeeds."""
        code, output = self.run(*args, stdin=stdin)
        return output if code == 0 else f"exit code {code}: {output}"

    def fails(self, *args):
        """Returns the output of a command that fails."""
        code, output = self.run(*args)
        return f"exit code 0: {output}" if code == 0 else output

    def background(self, *args):
        return Background(self, args)


class Background:
    """A command that runs on, with its lines of output."""

    def __init__(self, ctl, args):
        self.lines = []
        self.changed = threading.Condition()
        self.process = ctl.start(
            *args,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                if without_log(line) or not line.strip():
                    self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()

    def send(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def wait_lines(self, count, timeout=10):
        """Returns the lines once there are as many, or those that arrived in time."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.lines) >= count, timeout)
            return list(self.lines)

    def interrupt(self):
        """Ends the command as Ctrl-C does and returns once it has ended."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def without_log(output):
    """Removes etcdctl's log: lines in JSON with a level, and the notice of its newer releases."""
    lines = [line for line in output.split("\n") if not line.startswith('{"level":')]
    return "\n".join(lines).strip("\n")
