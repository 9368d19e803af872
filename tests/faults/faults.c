/* Fault injection: one file call of a process fails, or the process is killed at it.
 *
 * The library is preloaded. It counts the calls on paths below one folder. At the chosen call it
 * returns an error number, or ends the process with SIGKILL. The state lies in memory that forked
 * processes share, so the process that forks reads the number of calls afterwards. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#undef stat64
#undef fstat64
#undef lstat64

enum Action { COUNT_ONLY, FAIL_ONCE, FAIL_FROM_HERE, KILL };
/* FREES: calls that a full disk does not stop. */
enum Kind { READS = 1, WRITES = 2, FREES = 4 };

struct State {
  char folder[PATH_MAX]; /* empty: nothing is counted */
  long at;               /* number of the call that fails; 1 is the first */
  int action, error, kinds;
  long count;     /* calls of these kinds */
  long of_kind[5]; /* calls of each kind */
  char call[32];
  char path[PATH_MAX]; /* of the call that failed */
};

static struct State *state;

#define REAL(name)                                                        \
  static __typeof__(&name) real;                                          \
  if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void share(void) {
  void *page = mmap(NULL, sizeof(struct State), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                    -1, 0);
  state = page == MAP_FAILED ? NULL : page;
}

void faults_arm(const char *folder, long at, int action, int error, int kinds) {
  state->folder[0] = 0;
  state->at = at;
  state->action = action;
  state->error = error;
  state->kinds = kinds;
  state->count = 0;
  memset(state->of_kind, 0, sizeof state->of_kind);
  state->call[0] = state->path[0] = 0;
  strcpy(state->folder, folder);
}

void faults_disarm(void) { state->folder[0] = 0; }
long faults_count(int kind) { return state->of_kind[kind]; }
const char *faults_call(void) { return state->call; }
const char *faults_path(void) { return state->path; }

/* Return the error number that a call must fail with, or 0; KILL_NOW before a kill. */
enum { KILL_NOW = -1 };

static int fault(const char *call, int kind, const char *path) {
  size_t length;
  long number;
  if (state == NULL || state->folder[0] == 0) return 0;
  length = strlen(state->folder);
  if (strncmp(path, state->folder, length) != 0 || (path[length] != '/' && path[length] != 0))
    return 0;
  __atomic_add_fetch(&state->of_kind[kind], 1, __ATOMIC_SEQ_CST);
  if (!(state->kinds & kind)) return 0;
  number = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST);
  if (state->action == COUNT_ONLY || number < state->at) return 0;
  if (number > state->at) return state->action == FAIL_FROM_HERE ? state->error : 0;
  snprintf(state->call, sizeof state->call, "%s", call);
  snprintf(state->path, sizeof state->path, "%s", path);
  return state->action == KILL ? KILL_NOW : state->error;
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static int fault_at_descriptor(const char *call, int kind, int descriptor) {
  char link[64], path[PATH_MAX];
  ssize_t length;
  int saved = errno;
  if (state == NULL || state->folder[0] == 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  length = readlink(link, path, sizeof path - 1);
  errno = saved;
  if (length < 0) return 0;
  path[length] = 0;
  return fault(call, kind, path);
}

static int fault_at_path(const char *call, int kind, int folder, const char *path) {
  char whole[2 * PATH_MAX], start[PATH_MAX] = "", link[64];
  ssize_t length;
  int saved = errno;
  if (state == NULL || state->folder[0] == 0 || path == NULL) return 0;
  if (path[0] == '/') return fault(call, kind, path);
  if (folder == AT_FDCWD) {
    if (getcwd(start, sizeof start) == NULL) start[0] = 0;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    length = readlink(link, start, sizeof start - 1);
    start[length < 0 ? 0 : length] = 0;
  }
  errno = saved;
  snprintf(whole, sizeof whole, path[0] ? "%s/%s" : "%s%s", start, path);
  return fault(call, kind, whole);
}

/* Fail at the right call; ``failure`` is the value that the function returns then. */
#define FAIL(found, failure)     \
  do {                           \
    int error_ = (found);        \
    if (error_ == KILL_NOW) die(); \
    if (error_ != 0) {           \
      errno = error_;            \
      return failure;            \
    }                            \
  } while (0)

#define AT_PATH(kind, path) FAIL(fault_at_path(__func__, kind, AT_FDCWD, path), -1)
#define AT_DESCRIPTOR(kind, descriptor) FAIL(fault_at_descriptor(__func__, kind, descriptor), -1)
#define KIND_OF_OPEN(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT) ? WRITES : READS)

// The mode of a file to create, which follows the flags as a variable argument; otherwise 0.
#define MODE_AFTER(flags, mode)                \
  mode_t mode = 0;                             \
  if ((flags) & (O_CREAT | O_TMPFILE)) {       \
    va_list rest;                              \
    va_start(rest, flags);                     \
    mode = va_arg(rest, mode_t);               \
    va_end(rest);                              \
  }

#define OPEN(name)                                                           \
  int name(const char *path, int flags, ...) {                               \
    REAL(name);                                                              \
    MODE_AFTER(flags, mode)                                                  \
    FAIL(fault_at_path("open", KIND_OF_OPEN(flags), AT_FDCWD, path), -1);    \
    return real(path, flags, mode);                                          \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                         \
  int name(int folder, const char *path, int flags, ...) {                   \
    REAL(name);                                                              \
    MODE_AFTER(flags, mode)                                                  \
    FAIL(fault_at_path("open", KIND_OF_OPEN(flags), folder, path), -1);      \
    return real(folder, path, flags, mode);                                  \
  }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                                          \
  FILE *name(const char *path, const char *mode) {                                           \
    REAL(name);                                                                              \
    FAIL(fault_at_path("fopen", strpbrk(mode, "wa+") ? WRITES : READS, AT_FDCWD, path), NULL); \
    return real(path, mode);                                                                 \
  }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t read(int descriptor, void *data, size_t size) {
  REAL(read);
  AT_DESCRIPTOR(READS, descriptor);
  return real(descriptor, data, size);
}

#define PREAD(name)                                                        \
  ssize_t name(int descriptor, void *data, size_t size, off_t offset) {    \
    REAL(name);                                                            \
    FAIL(fault_at_descriptor("pread", READS, descriptor), -1);             \
    return real(descriptor, data, size, offset);                           \
  }
PREAD(pread)
PREAD(pread64)

/* A kill within a write leaves the first half of it. */
ssize_t write(int descriptor, const void *data, size_t size) {
  int found;
  REAL(write);
  found = fault_at_descriptor("write", WRITES, descriptor);
  if (found == KILL_NOW && real(descriptor, data, size / 2) >= 0) die();
  FAIL(found, -1);
  return real(descriptor, data, size);
}

#define PWRITE(name)                                                             \
  ssize_t name(int descriptor, const void *data, size_t size, off_t offset) {    \
    REAL(name);                                                                  \
    FAIL(fault_at_descriptor("pwrite", WRITES, descriptor), -1);                 \
    return real(descriptor, data, size, offset);                                 \
  }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
  REAL(writev);
  AT_DESCRIPTOR(WRITES, descriptor);
  return real(descriptor, parts, count);
}

int fsync(int descriptor) {
  REAL(fsync);
  AT_DESCRIPTOR(WRITES, descriptor);
  return real(descriptor);
}

int fdatasync(int descriptor) {
  REAL(fdatasync);
  AT_DESCRIPTOR(WRITES, descriptor);
  return real(descriptor);
}

#define FTRUNCATE(name)                                              \
  int name(int descriptor, off_t size) {                             \
    REAL(name);                                                      \
    FAIL(fault_at_descriptor("ftruncate", WRITES, descriptor), -1);  \
    return real(descriptor, size);                                   \
  }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

/* The descriptor is closed all the same, as on Linux. */
int close(int descriptor) {
  int found, kind = READS, flags;
  REAL(close);
  if (state != NULL && state->folder[0] != 0) {
    flags = fcntl(descriptor, F_GETFL);
    if (flags >= 0 && (flags & (O_WRONLY | O_RDWR))) kind = FREES;
  }
  found = fault_at_descriptor("close", kind, descriptor);
  if (found > 0) real(descriptor);
  FAIL(found, -1);
  return real(descriptor);
}

int rename(const char *source, const char *target) {
  REAL(rename);
  AT_PATH(WRITES, target);
  return real(source, target);
}

int renameat(int from, const char *source, int to, const char *target) {
  REAL(renameat);
  FAIL(fault_at_path("rename", WRITES, to, target), -1);
  return real(from, source, to, target);
}

int unlink(const char *path) {
  REAL(unlink);
  AT_PATH(FREES, path);
  return real(path);
}

int unlinkat(int folder, const char *path, int flags) {
  REAL(unlinkat);
  FAIL(fault_at_path("unlink", FREES, folder, path), -1);
  return real(folder, path, flags);
}

int rmdir(const char *path) {
  REAL(rmdir);
  AT_PATH(FREES, path);
  return real(path);
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  AT_PATH(WRITES, path);
  return real(path, mode);
}

DIR *opendir(const char *path) {
  REAL(opendir);
  FAIL(fault_at_path("opendir", READS, AT_FDCWD, path), NULL);
  return real(path);
}

#define STAT(name)                                          \
  int name(const char *path, struct stat *result) {         \
    REAL(name);                                             \
    FAIL(fault_at_path("stat", READS, AT_FDCWD, path), -1); \
    return real(path, result);                              \
  }
STAT(stat)
STAT(lstat)

#define STAT64(name)                                        \
  int name(const char *path, struct stat64 *result) {       \
    REAL(name);                                             \
    FAIL(fault_at_path("stat", READS, AT_FDCWD, path), -1); \
    return real(path, result);                              \
  }
STAT64(stat64)
STAT64(lstat64)

int fstat(int descriptor, struct stat *result) {
  REAL(fstat);
  AT_DESCRIPTOR(READS, descriptor);
  return real(descriptor, result);
}

int fstat64(int descriptor, struct stat64 *result) {
  REAL(fstat64);
  FAIL(fault_at_descriptor("fstat", READS, descriptor), -1);
  return real(descriptor, result);
}

int fstatat(int folder, const char *path, struct stat *result, int flags) {
  REAL(fstatat);
  FAIL(fault_at_path("stat", READS, folder, path), -1);
  return real(folder, path, result, flags);
}

int fstatat64(int folder, const char *path, struct stat64 *result, int flags) {
  REAL(fstatat64);
  FAIL(fault_at_path("stat", READS, folder, path), -1);
  return real(folder, path, result, flags);
}

int statx(int folder, const char *path, int flags, unsigned mask, struct statx *result) {
  REAL(statx);
  FAIL(fault_at_path("stat", READS, folder, path), -1);
  return real(folder, path, flags, mask, result);
}

#define MMAP(name)                                                                          \
  void *name(void *address, size_t size, int protection, int flags, int descriptor,         \
             off_t offset) {                                                                \
    REAL(name);                                                                             \
    if (descriptor >= 0) FAIL(fault_at_descriptor("mmap", READS, descriptor), MAP_FAILED);  \
    return real(address, size, protection, flags, descriptor, offset);                      \
  }
MMAP(mmap)
MMAP(mmap64)
