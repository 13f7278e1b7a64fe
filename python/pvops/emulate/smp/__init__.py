"""Guests on several virtual CPUs, which a hypervisor puts on fewer physical ones: locks that contend.

::

    from pvops.emulate.guest.locks import protocol
    from pvops.emulate.guest.locks.kernel import LockImage
    from pvops.emulate.smp.machine import Machine
    from pvops.emulate.smp.setting import Setting

    machine = Machine(LockImage(protocol("pv-ticket-4.0"), 64), "kvm", vcpus=4)
    print(machine.run(Setting(pcpus=2, seed=7)).calls)
"""
