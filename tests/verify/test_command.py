"""``pvops verify``: the verdict, the documents and the exit status."""

from __future__ import annotations

import concurrent.futures
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import pvops
from kernels.given import Boot
from pvops.cli import main
from pvops.errors import DumpError, OpsError
from pvops.kernel import Kernel
from pvops.verify.report import Report
from verify.test_boots import text_of

pytestmark = pytest.mark.kernels

RELEASE = "6.1.0-56-amd64"
HOOKED = "__x64_sys_getdents64"
HOOK = bytes.fromhex("e97b1f403f")


@pytest.fixture(scope="module")
def image(kernels_root: Path) -> str:
    return str(kernels_root / f"kernels/vmlinuz-{RELEASE}")


@pytest.fixture(scope="module")
def folder(kernels_root: Path, kernel: Callable[[str], Kernel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of one kernel: as a boot left it, with a hook, and of a KVM guest."""
    made = tmp_path_factory.mktemp("texts")
    opened = kernel(RELEASE)
    for name in ("native-max-smp2", "kvm-max-smp2"):
        _, memory = text_of(opened, Boot(kernels_root / f"boots/{RELEASE}~{name}.json"))
        (made / name).write_bytes(memory)
    hooked = bytearray((made / "native-max-smp2").read_bytes())
    at = hook_address(opened) - text_address(opened)
    hooked[at : at + len(HOOK)] = HOOK
    (made / "hooked").write_bytes(hooked)
    return made


def text_address(kernel: Kernel) -> int:
    return next(address for name, address, _, _ in kernel.image.sections() if name == ".text")


def hook_address(kernel: Kernel) -> int:
    address = kernel.address_of(HOOKED)
    assert address is not None
    return address


def document(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    status = main(["verify", *words, "--json"])
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return status, found


def test_a_clean_text(image: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, image, str(folder / "native-max-smp2"))
    assert status == 0
    assert (found["schema"], found["verdict"], found["unexplained"]) == ("pvops.verify/1", "clean", [])
    inferred, explained = found["inferred"], found["explained"]
    assert isinstance(inferred, dict)
    assert isinstance(explained, dict)
    assert (inferred["backend"], inferred["slide"]) == ("native", "0x0")
    assert sum(explained.values()) == 472298
    sections = found["not_judged"]
    assert isinstance(sections, list)
    assert ".init.text" in [part["section"] for part in sections]


def test_a_hooked_function_is_named(
    image: str, folder: Path, kernel: Callable[[str], Kernel], capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = document(capsys, image, str(folder / "hooked"))
    assert (status, found["verdict"]) == (1, "modified")
    runs = found["unexplained"]
    assert isinstance(runs, list)
    assert len(runs) == 1
    assert runs[0]["address"] == f"{hook_address(kernel(RELEASE)):#x}"
    assert runs[0]["symbol"] == f"{HOOKED}+0x0"
    assert (runs[0]["expected"], runs[0]["found"]) == ("0f1f440000", HOOK.hex())
    # A jump, where the kernel writes nothing but calls.
    assert (runs[0]["table"], runs[0]["looks_like"]) == ("mcount", None)

    assert main(["verify", image, str(folder / "hooked")]) == 1
    shown = capsys.readouterr().out
    assert f"{HOOKED}+0x0" in shown
    assert re.search(r"is e9 7b 1f 40 3f, should be 0f 1f 44 00 00", shown)


def test_whose_text_is_allowed_changes_the_verdict(
    image: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hooked = folder / "hooked"
    status, found = document(capsys, image, str(hooked), "--allow", "kprobes")
    assert (status, found["verdict"], found["allowed"]) == (1, "modified", [])
    memory = bytearray(hooked.read_bytes())
    at = memory.find(HOOK)
    memory[at] = 0xE8
    traced = folder.parent / "called"
    traced.write_bytes(memory)
    # Nobody is allowed, or somebody else, who writes no such bytes.
    for words in ([], ["--allow", "modules"]):
        status, found = document(capsys, image, str(traced), *words)
        runs = found["unexplained"]
        assert isinstance(runs, list)
        assert (status, found["verdict"], found["allowed"]) == (1, "modified", []), words
        assert [run["looks_like"] for run in runs] == ["ftrace"], words
    status, found = document(capsys, image, str(traced), "--allow", "ftrace")
    assert (status, found["verdict"], found["unexplained"]) == (0, "clean", [])
    allowed = found["allowed"]
    assert isinstance(allowed, list)
    assert len(allowed) == 1


def test_the_call_behind_a_tracer_is_ftrace_s(
    image: str, folder: Path, kernel: Callable[[str], Kernel], capsys: pytest.CaptureFixture[str]
) -> None:
    opened = kernel(RELEASE)
    memory = bytearray((folder / "native-max-smp2").read_bytes())
    tracer, call = opened.address_of("function_trace_call"), opened.address_of("ftrace_call")
    assert tracer is not None
    assert call is not None
    at = call - text_address(opened)
    assert memory[at] == 0xE8
    memory[at + 1 : at + 5] = (tracer - call - 5).to_bytes(4, "little", signed=True)
    traced = folder.parent / "traced"
    traced.write_bytes(memory)
    status, found = document(capsys, image, str(traced))
    runs = found["unexplained"]
    assert isinstance(runs, list)
    assert (status, [(run["symbol"], run["looks_like"]) for run in runs]) == (1, [("ftrace_call+0x1", "ftrace")])
    status, found = document(capsys, image, str(traced), "--allow", "ftrace")
    assert (status, found["verdict"]) == (0, "clean")


def test_text_alone_lists_no_modules(image: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(folder / "native-max-smp2")
    status, found = document(capsys, image, text)
    assert (status, found["modules"]) == (0, None)
    assert str(found["not_listed"]).endswith("is .text alone")
    # Whoever asks for one gets an error.
    assert main(["verify", image, text, "--module", image]) == 2
    assert "is .text alone" in capsys.readouterr().err
    assert main(["verify", image, text, text, "--module", image]) == 2
    assert "--module is about one memory" in capsys.readouterr().err


def test_nobody_else_can_be_allowed(folder: Path, kernel: Callable[[str], Kernel]) -> None:
    with pytest.raises(OpsError, match="nobody called rootkit"):
        kernel(RELEASE).verify(folder / "hooked", allow=["rootkit"])


def test_a_reader_that_cannot_read_all_is_incomplete(folder: Path, kernel: Callable[[str], Kernel]) -> None:
    opened = kernel(RELEASE)
    start = text_address(opened)
    memory = (folder / "native-max-smp2").read_bytes()
    missing = start + 0x40_0000

    def read(address: int, size: int) -> bytes:
        at = address - start
        if not 0 <= at <= len(memory) - size or (address < missing + 4096 and missing < address + size):
            raise ValueError(f"no memory at {address:#x}")
        return memory[at : at + size]

    report = opened.verify(read)
    assert (report.verdict, bool(report)) == ("incomplete", False)
    assert report.unread == [(missing, missing + 4096)]
    assert not report.unexplained


def test_another_kernel_is_refused(folder: Path, kernel: Callable[[str], Kernel]) -> None:
    with pytest.raises(DumpError):
        kernel("5.10.0-46-amd64").verify(folder / "native-max-smp2")


def test_the_page_is_whole_and_shows_the_hook(image: str, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert main(["verify", image, str(folder / "hooked"), "--html", str(page)]) == 1
    text = page.read_text()
    assert HOOKED in text
    assert text.count("<circle") == 2  # in the picture, and in its legend
    # Nothing is loaded: links lead to places on the page itself.
    assert not re.search(r"src=|href=\"(?!#)|https?://(?!www\.w3\.org)", text)


def test_what_was_inferred_patches_the_same_text(
    image: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("native-max-smp2", "kvm-max-smp2"):
        machine, text = tmp_path / "machine.json", tmp_path / "text"
        assert main(["verify", image, str(folder / name), "--save-machine", str(machine)]) == 0
        assert main(["patch", image, "--machine", str(machine), "--format", "text", "-o", str(text)]) == 0
        assert text.read_bytes() == (folder / name).read_bytes()
    capsys.readouterr()


def test_a_state_is_of_one_kernel(folder: Path, kernel: Callable[[str], Kernel]) -> None:
    report = kernel(RELEASE).verify(folder / "native-max-smp2")
    machine = pvops.Machine.from_dict(report.machine)
    assert pvops.Machine.from_dict(machine.to_dict()).state == machine.state
    with pytest.raises(OpsError, match=f"state is of {RELEASE}"):
        kernel("5.10.0-46-amd64").plan("native", machine=machine)


def test_a_directory_is_judged_file_by_file(image: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, image, str(folder))
    reports = found["reports"]
    assert isinstance(reports, list)
    assert status == 1
    assert {Path(r["memory"]).name: r["verdict"] for r in reports} == {
        "hooked": "modified",
        "kvm-max-smp2": "clean",
        "native-max-smp2": "clean",
    }


def test_any_executor_will_do(folder: Path, image: str, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(b"noise" * 1000)
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        found = dict(pvops.open(image).verify_many([folder / "hooked", noise], executor=executor))
    hooked, refused = found[str(folder / "hooked")], found[str(noise)]
    assert isinstance(hooked, Report)
    assert hooked.wrong_bytes == len(HOOK)
    assert isinstance(refused, DumpError)


def test_a_dask_cluster_will_do(folder: Path, image: str) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = list(pvops.open(image).verify_many(sorted(folder.iterdir()), executor=client.get_executor()))
    assert [(Path(path).name, bool(result)) for path, result in found] == [
        ("hooked", False),
        ("kvm-max-smp2", True),
        ("native-max-smp2", True),
    ]


def test_the_live_kernel_is_judged_like_a_dump(
    image: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, expected in (("native-max-smp2", 0), ("hooked", 1)):
        live = pvops.memory.open(folder / text)
        monkeypatch.setattr(pvops.memory, "live", lambda live=live: live)
        status, found = document(capsys, image, "--live")
        assert (status, found["verdict"]) == (expected, "modified" if expected else "clean")
    assert main(["verify", image, str(folder / "hooked"), "--live"]) == 2
    assert "two memories" in capsys.readouterr().err
