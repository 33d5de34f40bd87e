"""The output of `mnerkit predict`: a file that grows beside its target until it is whole, or a pipe that is written to.

While `out.jsonl` is being made, `.out.jsonl.part` holds the blocks that are finished, and `.out.jsonl.part.json` how
many bytes these are, how far the input was read, and which job it is. At any kill the two agree: bytes that were
written after the record are cut off when `--resume` goes on. Nothing here imports torch.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import Field

from mnerkit.atomic_files import append, lock, remove_leftovers, write_text, writing_to
from mnerkit.data.batches.input_reader import Place
from mnerkit.errors import DataError, RunBusy, UsageError, system_line
from mnerkit.printable import printable_json
from mnerkit.strict_json import read_json
from mnerkit.validation import Content, validated

STDIO = "-"  # as --input or --output

_Count = Annotated[int, Field(ge=0)]
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")


class Progress(Content):
    """What is finished of an output.

    Attributes:
        job: digests and options that decide what is written, by the name that a message gives them.
        replaces: whether a file at the target may be replaced.
        place: how far the input was read.
        size: bytes of the output.
        posts: number of posts that were tagged.
        bad: number of lines that hold an error instead.
        first_bad: the message of the first of these.
    """

    format: Literal["mnerkit-prediction-1"] = "mnerkit-prediction-1"
    job: dict[str, str]
    replaces: bool = False
    place: Place = Place()
    size: _Count = 0
    posts: _Count = 0
    bad: _Count = 0
    first_bad: str = ""


class StreamOutput:
    """An output that is written to and never replaced: standard output, a pipe or a device."""

    def __init__(self, name: str, escape: Callable[[str], str] = printable_json) -> None:
        """Open it.

        Args:
            name: `-`, or the path of a pipe or device.
            escape: makes the text of a block safe for a terminal.
        """
        self._escape = escape
        own = name in (STDIO, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
        descriptor = _DESCRIPTOR.fullmatch("/dev/fd/2" if name == "/dev/stderr" else name)
        self.name = "standard output" if own else name
        if own:
            self._stream: BinaryIO = sys.stdout.buffer
        elif descriptor:  # opening it would truncate a file behind it
            self._stream = os.fdopen(os.dup(int(descriptor[1])), "wb")
        else:
            self._stream = os.fdopen(os.open(name, os.O_WRONLY), "wb")
        self._own = own

    def add(self, content: bytes, progress: Progress) -> Progress:
        """Write a block.

        Raises:
            DataError: nobody reads the pipe any more.
        """
        try:
            with writing_to(self.name):
                self._stream.write(self._escape(content.decode()).encode())
                self._stream.flush()
        except BrokenPipeError:
            if self._own:
                raise  # `| head` has read enough
            raise DataError(f"{self.name}: its reader closed it before all posts were written") from None
        return progress

    def finish(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Close the stream, unless it is the process's own."""
        if not self._own:
            self._stream.close()


class FileOutput:
    """A file that grows beside its target, block by block, and takes the target's name when it is whole.

    Attributes:
        kept: whether some of it is finished, and stays when the work is interrupted.
    """

    def __init__(self, target: Path) -> None:
        self.target, self.name = target, str(target)
        self.part = target.with_name(f".{target.name}.part")
        self.record = target.with_name(f".{target.name}.part.json")
        self.kept = False
        self._descriptor = -1

    def begin(self, begun: Progress, resume: bool) -> Progress:
        """Open the growing file.

        Args:
            begun: nothing finished, of this job.
            resume: go on with what is finished of it.

        Returns:
            What is finished.

        Raises:
            UsageError: the target exists, or there is an unfinished part, and nothing allows to replace or continue it;
                or it is of another job.
            RunBusy: another process is writing it.
            DataError: the growing file or its record is damaged.
        """
        anew = begun.replaces and not resume
        if resume and not self.part.exists():
            self._take_back()
        # where one of them is missing, no block was finished
        unfinished = self._unfinished() if not anew and self.part.exists() and self.record.exists() else None
        allowed = begun.replaces or (resume and unfinished is not None and unfinished.replaces)
        if self.target.exists() and not allowed:
            raise UsageError(f"{self.target} exists.\nGive --overwrite to replace it, or another --output.")
        self.kept = unfinished is not None
        self._open()
        if unfinished is None:
            self.record.unlink(missing_ok=True)
            os.ftruncate(self._descriptor, 0)
            return begun
        if not resume:
            raise UsageError(
                f"{self.part} holds {unfinished.posts} posts of an unfinished prediction.\n"
                "Give --resume to go on with it, or --overwrite to begin anew."
            )
        _check_job(unfinished.job, begun.job, self.part)
        if os.fstat(self._descriptor).st_size < unfinished.size:
            raise DataError(f"{self.part} is shorter than it was.\nGive --overwrite without --resume to begin anew.")
        os.ftruncate(self._descriptor, unfinished.size)
        os.lseek(self._descriptor, unfinished.size, os.SEEK_SET)
        return unfinished

    def add(self, content: bytes, progress: Progress) -> Progress:
        """Write a block, then the record of what is finished with it.

        Raises:
            DataError: it can't be written.
        """
        with self._writing():
            append(self._descriptor, content, self.target)
            os.fsync(self._descriptor)
            progress = progress.model_copy(update={"size": progress.size + len(content)})
            write_text(self.record, progress.model_dump_json(indent=2))
        self.kept = True
        return progress

    def finish(self) -> None:
        """Give the file the target's name.

        Raises:
            DataError: the folder can't be written.
        """
        with self._writing():
            os.replace(self.part, self.target)
        with suppress(OSError):  # alone it means nothing, and goes with the next output of this name
            self.record.unlink()
        self.kept = True

    def close(self) -> None:
        """Close the file; where no block is finished, nothing of it stays."""
        if self._descriptor >= 0:
            if not self.kept:
                with suppress(OSError):
                    self.part.unlink()
            os.close(self._descriptor)
            self._descriptor = -1

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say how the work goes on when the disk is full."""
        try:
            with writing_to(self.target):
                yield
        except OSError as problem:
            again = "then go on with --resume" if self.kept else "then give the same command again"
            raise DataError(system_line(problem, again)) from None

    def _open(self) -> None:
        remove_leftovers(self.part.parent)
        descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT, 0o666)
        # another process may have given the file its final name since this one opened it
        here = self.part.stat().st_ino if self.part.exists() else None
        if lock(descriptor) is False or os.fstat(descriptor).st_ino != here:
            os.close(descriptor)
            raise RunBusy(f"another process is writing {self.target}; wait for it, or give another --output")
        self._descriptor = descriptor

    def _take_back(self) -> None:
        """Where the process was killed between the two steps of `finish`, undo the first of them."""
        if self.record.exists() and self.target.exists() and self.target.stat().st_size == self._unfinished().size:
            os.replace(self.target, self.part)

    def _unfinished(self) -> Progress:
        try:
            return validated(Progress, read_json(self.record), self.record)
        except DataError as problem:
            raise DataError(
                f"{problem}\nRemove {self.record}: what was finished of {self.target} is lost, and predicted anew."
            ) from None


def _check_job(unfinished: dict[str, str], begun: dict[str, str], part: Path) -> None:
    """Refuse to go on with what another job has begun."""
    others = [name for name in {**begun, **unfinished} if begun.get(name) != unfinished.get(name)]
    if others:
        raise UsageError(
            f"{part} was begun with another {' and another '.join(others)}.\n"
            "Give what it was begun with, or --overwrite without --resume to begin anew."
        )


def is_stream(name: str) -> bool:
    """Whether an output is written to and not replaced: `-`, a pipe, a device or an open file's descriptor."""
    if name in (STDIO, "/dev/stdout", "/dev/stderr") or _DESCRIPTOR.fullmatch(name):
        return True
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def output(
    name: str, begun: Progress, resume: bool, escape: Callable[[str], str] = printable_json
) -> Iterator[tuple[StreamOutput | FileOutput, Progress]]:
    """The output of a job, open, and what is finished of it.

    Args:
        name: path of the file, pipe or device, or `-`; where a link stands, the file that it leads to is written.
        begun: nothing finished, of this job.
        resume: go on with what is finished of it.
        escape: makes the text of a block safe for a terminal, where it is written to.

    Raises:
        UsageError: as `FileOutput.begin`; or nothing can be resumed, as the output is no file.
    """
    opened: StreamOutput | FileOutput
    if is_stream(name):
        if resume:
            raise UsageError(f"--resume has no effect on {name}, which is no file: what was written can't be read back")
        opened = StreamOutput(name, escape)
    else:
        opened = FileOutput(Path(os.path.realpath(name)) if os.path.islink(name) else Path(name))
    try:
        yield opened, opened.begin(begun, resume) if isinstance(opened, FileOutput) else begun
    finally:
        opened.close()
