/* Preloaded: a write to a regular file does not return while the file named by
 * STALL exists, as if its disk hung. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void stall(int fd)
{
	const char *stall = getenv("STALL");
	struct stat file;

	if (stall && fstat(fd, &file) == 0 && S_ISREG(file.st_mode))
		while (access(stall, F_OK) == 0)
			poll(NULL, 0, 5);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
	static ssize_t (*real)(int, const void *, size_t);

	if (!real)
		real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
	stall(fd);
	return real(fd, bytes, length);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at)
{
	static ssize_t (*real)(int, const void *, size_t, off64_t);

	if (!real)
		real = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
	stall(fd);
	return real(fd, bytes, length, at);
}
