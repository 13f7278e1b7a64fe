/* What the programs of the guests share: where they begin, system calls of x86-64 and i386, and modules loaded. */

#ifdef __x86_64__
enum {
	SYS_read = 0, SYS_write = 1, SYS_open = 2, SYS_close = 3, SYS_pause = 34, SYS_nanosleep = 35,
	SYS_execve = 59,
	SYS_syslog = 103, SYS_mount = 165, SYS_getdents64 = 217, SYS_finit_module = 313,
};
#else
enum {
	SYS_read = 3, SYS_write = 4, SYS_open = 5, SYS_close = 6, SYS_execve = 11, SYS_mount = 21, SYS_pause = 29,
	SYS_syslog = 103, SYS_nanosleep = 162, SYS_getdents64 = 220, SYS_finit_module = 350,
};
#endif

/* Each has an init(), which is given the stack as the kernel hands it over. */
#ifdef __x86_64__
__asm__(".globl _start\n"
	"_start:\n"
	"	movq %rsp, %rdi\n"
	"	andq $-16, %rsp\n"
	"	call init\n"
	"	ud2\n");
#else
__asm__(".globl _start\n"
	"_start:\n"
	"	movl %esp, %eax\n"
	"	andl $-16, %esp\n"
	"	subl $12, %esp\n"
	"	pushl %eax\n"
	"	call init\n"
	"	ud2\n");
#endif

static long call(long number, long a, long b, long c, long d, long e)
{
	long result;

#ifdef __x86_64__
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
#else
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
#endif
	return result;
}

/* Modules by number, as many as there are. Whether they were loaded, the dump tells. */
static void load_modules(void)
{
	char path[] = "/modules/00";
	long file;

	for (;;) {
		file = call(SYS_open, (long)path, 0, 0, 0, 0);
		if (file < 0)
			return;
		call(SYS_finit_module, file, (long)"", 0, 0, 0);
		call(SYS_close, file, 0, 0, 0, 0);
		if (++path[sizeof(path) - 2] > '9') {
			path[sizeof(path) - 2] = '0';
			path[sizeof(path) - 3]++;
		}
	}
}
