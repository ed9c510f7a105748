/* Preloaded: each write to a regular file, sync and rename is noted in the file named
 * by CALLS. While the file named by FAIL exists an fdatasync fails, once: the next
 * one succeeds, as the kernel has it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static ssize_t real_write(int fd, const void *bytes, size_t length)
{
	static ssize_t (*real)(int, const void *, size_t);

	if (!real)
		real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
	return real(fd, bytes, length);
}

static void note(const char *format, ...)
{
	const char *calls = getenv("CALLS");
	char line[4096];
	int fd, length;
	va_list args;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (!calls || (fd = open(calls, O_WRONLY | O_CREAT | O_APPEND, 0600)) < 0)
		return;
	if (real_write(fd, line, length) < 0)
		abort();
	close(fd);
}

static const char *name(int fd)
{
	static __thread char path[2048];
	char link[64];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	path[length < 0 ? 0 : length] = 0;
	return path;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
	struct stat file;

	if (fstat(fd, &file) == 0 && S_ISREG(file.st_mode))
		note("write %s\n", name(fd));
	return real_write(fd, bytes, length);
}

int fdatasync(int fd)
{
	static int (*real)(int);
	const char *fail = getenv("FAIL");

	if (!real)
		real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	if (fail && !strstr(name(fd), ".state") && unlink(fail) == 0) {
		note("failed %s\n", name(fd));
		errno = EIO;
		return -1;
	}
	note("sync %s\n", name(fd));
	return real(fd);
}

int fsync(int fd)
{
	static int (*real)(int);

	if (!real)
		real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	note("sync %s\n", name(fd));
	return real(fd);
}

int rename(const char *from, const char *to)
{
	static int (*real)(const char *, const char *);

	if (!real)
		real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
	note("rename %s\n", from);
	return real(from, to);
}
