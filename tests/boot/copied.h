/*
 * A guest's text in pages that the machine below it can tell: with a mark, their number, and the sum of what follows.
 *
 * Where neither a guest's page tables nor the place of its memory is known to who looks, these pages are: anonymous
 * memory of this program, filled from /proc/kcore. 64 bits only.
 */

enum { SYS_lseek = 8 };
enum { PAGE = 4096, DATA = PAGE - 32, PAGES = 8192, PT_LOAD = 1 };

typedef unsigned long long u64;

struct program_header {
	unsigned int type, flags;
	u64 offset, address, physical, in_file, in_memory, alignment;
};

struct page {
	u64 mark[2], number, sum;
	unsigned char data[DATA];
};

static struct page pages[PAGES] __attribute__((aligned(PAGE)));

static u64 hexadecimal(const char **at)
{
	u64 value = 0;

	for (;; ++*at) {
		char c = **at;

		if (c >= '0' && c <= '9')
			value = value << 4 | (u64)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (u64)(c - 'a' + 10);
		else
			return value;
	}
}

/* Where /proc/kcore has an address, or 0. */
static u64 offset_in(long kcore, u64 address)
{
	static unsigned char head[PAGE];
	long n = call(SYS_read, kcore, (long)head, sizeof(head), 0, 0);
	unsigned int count = head[56] | head[57] << 8;
	u64 first = *(u64 *)(head + 32);

	for (unsigned int i = 0; i < count; i++) {
		u64 at = first + i * sizeof(struct program_header);
		const struct program_header *entry = (const struct program_header *)(head + at);

		if (n < 0 || at + sizeof(*entry) > (u64)n)
			return 0;
		if (entry->type == PT_LOAD && address >= entry->address && address - entry->address < entry->in_file)
			return entry->offset + (address - entry->address);
	}
	return 0;
}

/* `copy=ADDRESS,SIZE`, both hexadecimal. Returns how many bytes were copied. */
static u64 copy_text(const char *word)
{
	long kcore = call(SYS_open, (long)"/proc/kcore", 0, 0, 0, 0);
	u64 address, size, from, done = 0;

	word += 5;
	address = hexadecimal(&word);
	word++;
	size = hexadecimal(&word);
	from = offset_in(kcore, address);
	if (from == 0)
		return 0;
	call(SYS_lseek, kcore, (long)from, 0, 0, 0);
	for (u64 i = 0; done < size && i < PAGES; i++) {
		struct page *page = pages + i;
		u64 wanted = size - done < DATA ? size - done : DATA, have = 0;

		while (have < wanted) {
			long n = call(SYS_read, kcore, (long)(page->data + have), (long)(wanted - have), 0, 0);

			if (n <= 0)
				return done;
			have += (u64)n;
		}
		page->number = i;
		page->sum = 0;
		for (u64 k = 0; k < DATA / sizeof(u64); k++)
			page->sum += ((const u64 *)page->data)[k];
		page->mark[0] = 0x746e65757370766fULL;
		page->mark[1] = ~page->mark[0];
		done += wanted;
	}
	return done;
}
