/*
 * /init of the guest: prints what the machine looks like from inside as a bundle of facts, then idles.
 *
 * The console stays the kernel's; the bundle goes to the second serial port, so that no message of the kernel can get
 * between its lines. Freestanding x86-64 or i386, no library: it has to start on every kernel and every CPU model.
 */

#include "calls.h"
#ifdef __x86_64__
#include "copied.h"
#endif

enum { O_WRONLY = 1, O_DIRECTORY = 0200000 };
enum { SYSLOG_ACTION_READ_ALL = 3 };

#define VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities/"

static const char *const files[] = {
	"/proc/version",
	"/proc/cmdline",
	"/proc/cpuinfo",
	"/sys/hypervisor/type",
	"/sys/hypervisor/guest_type",
	"/sys/devices/system/clocksource/clocksource0/current_clocksource",
	"/sys/devices/system/cpu/possible",
	"/sys/devices/system/cpu/present",
	"/sys/devices/system/cpu/online",
};

struct dirent64 {
	unsigned long long ino;
	long long off;
	unsigned short size;
	unsigned char type;
	char name[];
};

static char buffer[1 << 20];
static long out;

static long length(const char *text)
{
	long n = 0;

	while (text[n])
		n++;
	return n;
}

static void print(const char *text, long n)
{
	while (n > 0) {
		long done = call(SYS_write, out, (long)text, n, 0, 0);

		if (done <= 0)
			return;
		text += done;
		n -= done;
	}
}

static void print_string(const char *text)
{
	print(text, length(text));
}

static void heading(const char *name)
{
	print_string("\n==FILE ");
	print_string(name);
	print_string("\n");
}

static void print_file(const char *path)
{
	long file = call(SYS_open, (long)path, 0, 0, 0, 0);
	long n;

	heading(path);
	if (file < 0) {
		print_string("(none)\n");
		return;
	}
	while ((n = call(SYS_read, file, (long)buffer, sizeof(buffer), 0, 0)) > 0)
		print(buffer, n);
	call(SYS_close, file, 0, 0, 0, 0);
}

/* Every file that the kernel at hand has there: newer ones have more. */
static void print_vulnerabilities(void)
{
	static char entries[16384];
	long folder = call(SYS_open, (long)VULNERABILITIES, O_DIRECTORY, 0, 0, 0);
	long n;

	if (folder < 0)
		return;
	while ((n = call(SYS_getdents64, folder, (long)entries, sizeof(entries), 0, 0)) > 0) {
		for (long at = 0; at < n; at += ((struct dirent64 *)(entries + at))->size) {
			const char *name = ((struct dirent64 *)(entries + at))->name;
			char path[sizeof(VULNERABILITIES) + 256] = VULNERABILITIES;

			if (name[0] == '.')
				continue;
			for (long i = 0, k = length(path); i <= length(name); i++)
				path[k + i] = name[i];
			print_file(path);
		}
	}
	call(SYS_close, folder, 0, 0, 0, 0);
}

static void print_log(void)
{
	long n = call(SYS_syslog, SYSLOG_ACTION_READ_ALL, (long)buffer, sizeof(buffer), 0, 0);

	heading("dmesg");
	if (n > 0)
		print(buffer, n);
}

/* What the kernel still does by itself, as choosing its clock source, is done after this. */
static void settle(void)
{
	long time[2] = { SETTLE_SECONDS, 0 };

	call(SYS_nanosleep, (long)time, 0, 0, 0, 0);
}

/*
 * Most of the time in the kernel. A paravirtual guest of Xen's that idles, or is in user mode, does not have the kernel's
 * memory mapped; whoever wants to read that stops the machine until it has.
 */
__attribute__((noreturn)) static void keep_busy(void)
{
	for (;;) {
		long file = call(SYS_open, (long)"/proc/kallsyms", 0, 0, 0, 0);

		while (call(SYS_read, file, (long)buffer, sizeof(buffer), 0, 0) > 0)
			;
		call(SYS_close, file, 0, 0, 0, 0);
	}
}

/* The stack as the kernel hands it over: how many words the command line has, and where; the last says what to do. */
__attribute__((noreturn, used)) static void init(const long *stack)
{
	/* Words that the kernel does not know come before those behind `--`. */
	const char *told = stack[0] > 1 ? (const char *)stack[stack[0]] : "";
	long copies = *told == 'c';

	call(SYS_mount, (long)"proc", (long)"/proc", (long)"proc", 0, 0);
	call(SYS_mount, (long)"sys", (long)"/sys", (long)"sysfs", 0, 0);
	load_modules();
	settle();
	/* A guest of Xen's has no serial port, and may open one. */
	out = copies ? 1 : call(SYS_open, (long)"/dev/ttyS1", O_WRONLY, 0, 0, 0);
	if (out < 0) {
		out = 1;
		print_string("init: no second serial port\n");
	}
	for (unsigned long i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		print_file(files[i]);
	print_vulnerabilities();
	print_log();
#ifdef __x86_64__
	if (copies)
		copy_text(told);
#endif
	print_string("\n==READY\n");
	if (*told == 'b')
		keep_busy();
	for (;;)
		call(SYS_pause, 0, 0, 0, 0, 0);
}
