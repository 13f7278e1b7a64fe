/*
 * /init of the machine in the middle: loads what KVM takes and becomes the QEMU that starts the guest.
 *
 * `/arguments` has QEMU's, each with a zero behind it. When QEMU ends, so does this machine: it has lost its init.
 */

#include "calls.h"

enum { LARGEST = 8192, MOST = 128 };

static char arguments[LARGEST];
static char *words[MOST + 1];
static char *environment[] = { (char *)"PATH=/usr/bin", 0 };

__attribute__((noreturn, used)) static void init(void)
{
	long file, n, count = 0;

	call(SYS_mount, (long)"proc", (long)"/proc", (long)"proc", 0, 0);
	call(SYS_mount, (long)"sys", (long)"/sys", (long)"sysfs", 0, 0);
	call(SYS_mount, (long)"dev", (long)"/dev", (long)"devtmpfs", 0, 0);
	call(SYS_mount, (long)"huge", (long)"/huge", (long)"hugetlbfs", 0, 0);
	load_modules();
	file = call(SYS_open, (long)"/arguments", 0, 0, 0, 0);
	n = call(SYS_read, file, (long)arguments, sizeof(arguments) - 1, 0, 0);
	for (long at = 0; at < n && count < MOST; at++)
		if (at == 0 || arguments[at - 1] == '\0')
			words[count++] = arguments + at;
	call(SYS_execve, (long)words[0], (long)words, (long)environment, 0, 0);
	for (;;)
		call(SYS_pause, 0, 0, 0, 0, 0);
}
