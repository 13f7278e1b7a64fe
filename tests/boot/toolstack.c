/*
 * /init of Xen's first guest: loads what Xen's tools take, starts them, and with them the guest.
 *
 * `/arguments` has their words, each with a zero behind it; an empty word ends a program, and one that begins with a
 * word "&" is not waited for. What the guest prints goes where a link of the archive leads: the second serial port.
 */

#include "calls.h"

enum { SYS_fork = 57, SYS_wait4 = 61, SYS_exit = 60, SYS_mkdir = 83 };
enum { LARGEST = 8192, MOST = 64 };

static char arguments[LARGEST];
static char *environment[] = { (char *)"PATH=/usr/bin:/usr/sbin:/bin", (char *)"LD_LIBRARY_PATH=/xen/lib", 0 };

static void run(char **words)
{
	long waits = words[0][0] != '&';
	char **program = waits ? words : words + 1;
	long child = call(SYS_fork, 0, 0, 0, 0, 0);

	if (child == 0) {
		call(SYS_execve, (long)program[0], (long)program, (long)environment, 0, 0);
		call(SYS_exit, 127, 0, 0, 0, 0);
	}
	if (waits)
		call(SYS_wait4, child, 0, 0, 0, 0);
}

__attribute__((noreturn, used)) static void init(void)
{
	char *words[MOST + 1];
	long file, n, count = 0;

	call(SYS_mount, (long)"proc", (long)"/proc", (long)"proc", 0, 0);
	call(SYS_mount, (long)"sys", (long)"/sys", (long)"sysfs", 0, 0);
	call(SYS_mount, (long)"dev", (long)"/dev", (long)"devtmpfs", 0, 0);
	call(SYS_mkdir, (long)"/dev/pts", 0755, 0, 0, 0);
	call(SYS_mount, (long)"pts", (long)"/dev/pts", (long)"devpts", 0, 0);
	load_modules();
	call(SYS_mount, (long)"xenfs", (long)"/proc/xen", (long)"xenfs", 0, 0);
	file = call(SYS_open, (long)"/arguments", 0, 0, 0, 0);
	n = call(SYS_read, file, (long)arguments, sizeof(arguments) - 1, 0, 0);
	for (long at = 0; at < n; at++) {
		if (at != 0 && arguments[at - 1] != '\0')
			continue;
		if (arguments[at] != '\0' && count < MOST) {
			words[count++] = arguments + at;
			continue;
		}
		words[count] = 0;
		if (count)
			run(words);
		count = 0;
	}
	for (;;)
		call(SYS_pause, 0, 0, 0, 0, 0);
}
