"""What KVM does of a buffer of requests: kvm_pv_mmu_op() of arch/x86/kvm/mmu.c, 2.6.33."""

from __future__ import annotations

from pvops.emulate.abi.kvm import NAMES, SIZES, WRITE_PTE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu
    from pvops.emulate.hosts.host import HostModel

#: As much as the host takes at once; the guest asks again for the rest.
_TAKEN = 512


def mmu_op(host: HostModel, cpu: Cpu, at: int) -> int:
    """Carries out the requests of the buffer at this address that fit, of as many bytes as ebx says.

    Returns:
        How many bytes that was.
    """
    length = min(cpu.get("ebx"), _TAKEN)
    buffer = cpu.read(at, length)
    done = 0
    host.batches += 1
    while done + 8 <= length:
        op = int.from_bytes(buffer[done : done + 4], "little")
        if op not in SIZES:
            cpu.stop("hypercall", f"unknown request {op} in KVM's buffer")
            return done
        if done + SIZES[op] > length:
            break
        host.called(NAMES[op], queued=True)
        if op == WRITE_PTE:
            where, value = (int.from_bytes(buffer[done + i : done + i + 8], "little") for i in (8, 16))
            host.pages.set_entry(where, value)
        done += SIZES[op]
    if not done:
        cpu.stop("hypercall", f"KVM's buffer of {length} bytes holds no whole request")
    return done
