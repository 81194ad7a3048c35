"""The names that Integrator scripts use, where a golden case would say less."""
# Arguments have the names that scripts give them:
# ruff: noqa: N803

from __future__ import annotations

import pytest

from include.order_cancel.scripts.contract import (
    MAX_CONTENT,
    MAX_LOG,
    REL_FAILURE,
    REL_SUCCESS,
    ContractBroken,
    InputStream,
    IOUtils,
    Log,
    OutputStream,
    Session,
    java_modules,
)


def test_a_stream_is_read_whole_in_parts_and_by_lines() -> None:
    stream = InputStream(b"one\ntwo\nthree")

    parts = [stream.read(2), stream.readline(), stream.available(), stream.read(), stream.read()]

    assert parts == [b"on", b"e\n", 9, b"two\nthree", b""]
    assert InputStream(b"a\nb").readlines() == [b"a\n", b"b"]


def test_output_is_kept_in_the_order_written() -> None:
    output = OutputStream()

    for part in ("ü", b"b", bytearray(b"c")):
        output.write(part)

    assert output.written == "übc".encode()
    assert OutputStream().written is None


@pytest.mark.parametrize("data", [5, None, ["x"], {"a": 1}])
def test_output_takes_text_and_bytes_only(data: object) -> None:
    with pytest.raises(ContractBroken, match="takes text or bytes"):
        OutputStream().write(data)  # type: ignore[arg-type]


def test_output_has_an_end() -> None:
    output = OutputStream()
    output.write(b"x" * MAX_CONTENT)

    with pytest.raises(ContractBroken, match="larger than 16 MB"):
        output.write(b"x")


def test_io_utils_copies_and_converts() -> None:
    output = OutputStream()

    copied = IOUtils.copy(InputStream("ş".encode()), output)
    IOUtils.write("é", output, "iso-8859-1")

    assert (copied, output.written) == (2, b"\xc5\x9f\xe9")
    assert IOUtils.readLines(InputStream(b"a\nb")) == ["a", "b"]
    assert IOUtils.toByteArray(InputStream(b"a")) == b"a"


def test_an_output_callback_gets_the_stream_that_its_name_says() -> None:
    class Writes:
        def process(self, outputStream: OutputStream) -> None:
            outputStream.write("new")

    class Reads:
        def process(self, inputStream: InputStream) -> None:
            self.seen = inputStream.read()

    session = Session(b"old", {})
    flow_file, reads = session.get(), Reads()

    session.write(flow_file, reads)
    session.write(flow_file, Writes())

    assert (reads.seen, flow_file.content) == (b"old", b"new")


def test_appending_adds_to_the_content() -> None:
    session = Session(b"[1", {})
    flow_file = session.get()

    session.append(flow_file, lambda stream: stream.write("]"))

    assert flow_file.content == b"[1]"


def test_a_second_flow_file_cannot_be_transferred() -> None:
    session = Session(b"", {})
    session.transfer(session.get(), REL_SUCCESS)

    with pytest.raises(ContractBroken, match="two flow files"):
        session.transfer(session.create(), REL_SUCCESS)


@pytest.mark.parametrize("relationship", [None, "success", 1])
def test_a_transfer_needs_a_relationship(relationship: object) -> None:
    session = Session(b"", {})

    with pytest.raises(ContractBroken, match="REL_SUCCESS or REL_FAILURE"):
        session.transfer(session.get(), relationship)


def test_relationships_have_their_names() -> None:
    assert (REL_SUCCESS.getName(), repr(REL_FAILURE)) == ("success", "REL_FAILURE")


def test_the_log_is_cut_and_says_so() -> None:
    log = Log()

    for _ in range(MAX_LOG // 1000 + 10):
        log.info("x" * 1000)
    log.write("never seen\n")

    assert sum(map(len, log.lines)) < MAX_LOG + 100
    assert log.lines[-1] == "(the log is cut here: more than 256 KB)"


def test_a_log_line_without_an_end_is_kept_in_bounds() -> None:
    log = Log()

    for _ in range(1000):
        log.write("x" * 1000)
    log.flush()

    assert sum(map(len, log.lines)) < MAX_LOG + 100


def test_half_a_surrogate_pair_in_the_log_is_escaped() -> None:
    log = Log()

    log.add("WARN", "name {}", ["\ud83d"])

    assert log.lines == ["WARN name \\ud83d"]


def test_java_packages_hang_together() -> None:
    modules = java_modules()

    assert modules["org"].apache.commons.io.IOUtils is IOUtils
    assert modules["org"].apache.nifi is modules["org.apache.nifi"]
