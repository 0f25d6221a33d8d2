/* The runner in a shared library that TVM's RPC server loads: a child of the server's process is the
 * runner, and calls of three functions start it, pass bytes to it and back, and end it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "buffer.h"
#include "processor.h"
#include "tvm_abi.h"

enum { MAX_ARGUMENTS = 32, MAX_WORDS_BYTES = 2000, READ_BYTES = 65536, MAX_ANSWER_BYTES = 4 << 20 };
enum { END_MS = 4000, LOOK_US = 2000, ABANDONED_MS = 5000 };
/* Type indices of tvm/ffi/c_api.h, and the size of what an object begins with. */
enum { FFI_INT = 1, FFI_BYTE_ARRAY_PTR = 9, FFI_SMALL_BYTES = 12, FFI_BYTES = 66 };
enum { OBJECT_HEADER_BYTES = 24 };

/* TVMFFIByteArray. */
typedef struct {
  const char *data;
  size_t n_bytes;
} Bytes;

typedef struct {
  pid_t pid; /* 0: there is none */
  int link;  /* to its stdin and from its stdout */
  int words; /* its stderr, a file without a name */
} Child;

static Child child;
static pid_t runner_pid;       /* in the runner and its children */
static int server_socket = -1; /* the server's connection to its client */

int runner_main(int n_arguments, char **arguments); /* `main` of main.c */

#define EXPORTED(name)                                                                           \
  int __tvm_ffi_latloop_##name(void *self, const TVMFFIAny *arguments, int32_t n_arguments,      \
                               TVMFFIAny *result);                                               \
  int __tvm_ffi_latloop_##name(void *self, const TVMFFIAny *arguments, int32_t n_arguments,      \
                               TVMFFIAny *result)

/* Raises an error in the server. The functions of this name that kernels call are tvm_abi.c's own;
 * those of the server's libtvm_ffi are found at run time, so that nothing is linked with it. */
static int fail(const char *what, int error) {
  char text[300];
  void (*raise)(const char *kind, const char *message);
  *(void **)&raise = dlsym(RTLD_DEFAULT, "TVMFFIErrorSetRaisedFromCStr");
  snprintf(text, sizeof text, "latloop runner: %s%s%s", what, error ? ": " : "",
           error ? strerror(error) : "");
  if (raise) raise("RuntimeError", text);
  return -1;
}

static int give(const char *data, size_t n_bytes, TVMFFIAny *result) {
  Bytes bytes = {data, n_bytes};
  int (*make)(const Bytes *input, TVMFFIAny *out);
  *(void **)&make = dlsym(RTLD_DEFAULT, "TVMFFIBytesFromByteArray");
  return make ? make(&bytes, result) : fail("the server's libtvm_ffi makes no bytes", 0);
}

static bool read_bytes(const TVMFFIAny *value, Bytes *bytes) {
  if (value->type_index == FFI_BYTE_ARRAY_PTR)
    *bytes = *(const Bytes *)value->v_ptr;
  else if (value->type_index == FFI_BYTES)
    *bytes = *(const Bytes *)((const char *)value->v_ptr + OBJECT_HEADER_BYTES);
  else if (value->type_index == FFI_SMALL_BYTES) /* in the value itself, their number before them */
    *bytes = (Bytes){(const char *)&value->v_int64, value->zero_padding};
  else
    return false;
  return true;
}

/* Calls `act` with each open descriptor until it returns true; that descriptor, or -1. */
static int find_descriptor(bool (*act)(int descriptor, int argument), int argument) {
  int found = -1;
  DIR *folder = opendir("/proc/self/fd");
  for (struct dirent *each; folder && found < 0 && (each = readdir(folder));) {
    int descriptor = atoi(each->d_name);
    if (*each->d_name != '.' && descriptor != dirfd(folder) && act(descriptor, argument))
      found = descriptor;
  }
  if (folder) closedir(folder);
  return found;
}

static bool is_connection(int descriptor, int port) {
  struct sockaddr_in6 own = {0}, peer; /* its port lies where that of IPv4 does */
  socklen_t own_bytes = sizeof own, peer_bytes = sizeof peer;
  return !getsockname(descriptor, (struct sockaddr *)&own, &own_bytes) &&
         (own.sin6_family == AF_INET || own.sin6_family == AF_INET6) &&
         ntohs(own.sin6_port) == port &&
         !getpeername(descriptor, (struct sockaddr *)&peer, &peer_bytes);
}

static bool close_other(int descriptor, int kept) {
  if (descriptor > STDERR_FILENO && descriptor != kept) close(descriptor);
  return false;
}

/* How the runner ends. Handlers of the server's `exit` are none of its business; those that it has
 * added itself ran before this one. Where nobody on the server's side notices its end, because a cut
 * link keeps the server waiting for its client, the runner cuts off the server, too. */
static void leave(int status, void *unused) {
  struct pollfd link = {STDIN_FILENO, POLLRDHUP, 0};
  (void)unused;
  if (getpid() == runner_pid) {
    shutdown(STDOUT_FILENO, SHUT_WR);
    find_descriptor(close_other, server_socket); /* the lease's, above all */
    if (!poll(&link, 1, ABANDONED_MS)) shutdown(server_socket, SHUT_RDWR);
  }
  _exit(status);
}

/* Never returns. The first argument is the number of the server's socket. */
void latloop_runner(int n_arguments, char **arguments);
void latloop_runner(int n_arguments, char **arguments) {
  prctl(PR_SET_NAME, "latloop-runner");
  server_socket = atoi(arguments[0]);
  runner_pid = getpid();
  if (on_exit(leave, NULL)) _exit(2);
  exit(runner_main(n_arguments, arguments));
}

/* TVM takes a gigabyte of addresses, in a thousand parts, which every fork for a visit had to copy: 70 ms
 * a visit instead of 8 on a busy EPYC. A server in Python has a program that can load this library into
 * a fresh process. Returns when there can be none; then the runner lives in the copy of the server's. */
static void start_afresh(int n_arguments, char **arguments) {
  static char code[] = "import ctypes, os, sys\n"
                       "words = [os.fsencode(word) for word in sys.argv[2:]]\n"
                       "given = (ctypes.c_char_p * (len(words) + 1))(*words)\n"
                       "ctypes.CDLL(sys.argv[1]).latloop_runner(len(words), given)";
  static char program[] = "latloop-runner", no_site[] = "-S", option[] = "-c";
  Dl_info own;
  char *words[MAX_ARGUMENTS + 6], *fixed[] = {program, no_site, option, code};
  if (!dladdr(code, &own)) return;
  memcpy(words, fixed, sizeof fixed);
  words[4] = (char *)own.dli_fname;
  memcpy(words + 5, arguments, (size_t)(n_arguments + 1) * sizeof *arguments);
  fcntl(server_socket, F_SETFD, 0); /* the one that is to outlive this */
  execv("/proc/self/exe", words);
}

__attribute__((noreturn)) static void be_runner(int link, int words, int n_arguments,
                                                char **arguments) {
  sigset_t none;
  sigemptyset(&none);
  for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid(); /* what is typed at the server's terminal is for the server */
  /* A server may have been started without the usual three: then these could be among them. */
  link = fcntl(link, F_DUPFD, STDERR_FILENO + 1);
  words = fcntl(words, F_DUPFD, STDERR_FILENO + 1);
  if (dup2(link, STDIN_FILENO) < 0 || dup2(link, STDOUT_FILENO) < 0 ||
      dup2(words, STDERR_FILENO) < 0)
    _exit(2);
  find_descriptor(close_other, server_socket); /* the server's files must not live on here */
  if (dlsym(RTLD_DEFAULT, "Py_BytesMain")) start_afresh(n_arguments, arguments);
  latloop_runner(n_arguments, arguments);
  _exit(2);
}

/* Arguments of the runner, each ended by a NUL, behind the number of the server's socket. */
static int split(char *text, size_t n_bytes, char **arguments) {
  static char socket_number[16];
  int n_arguments = 1;
  snprintf(socket_number, sizeof socket_number, "%d", server_socket);
  arguments[0] = socket_number;
  for (char *at = text; at < text + n_bytes && n_arguments < MAX_ARGUMENTS; at += strlen(at) + 1)
    arguments[n_arguments++] = at;
  arguments[n_arguments] = NULL;
  return n_arguments;
}

static int start(const Bytes *text) {
  int ends[2], words = (int)syscall(SYS_memfd_create, "latloop-words", 1u /* MFD_CLOEXEC */);
  char *copy = malloc(text->n_bytes + 1), *given[MAX_ARGUMENTS + 1];
  if (words < 0 || !copy) return fail("cannot start", errno);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return fail("cannot start", errno);
  memcpy(copy, text->data, text->n_bytes);
  copy[text->n_bytes] = 0;
  int n_given = split(copy, text->n_bytes, given);
  pid_t pid = fork();
  if (pid == 0) be_runner(ends[1], words, n_given, given);
  int error = errno;
  close(ends[1]);
  free(copy);
  if (pid > 0) {
    child = (Child){pid, ends[0], words};
    return 0;
  }
  close(ends[0]);
  close(words);
  return fail("cannot start", error);
}

/* This process of the server's serves one client alone, and ends with it. Left to itself it ends in an
 * error when the connection breaks while an answer is under way, and that error ends the server
 * (tvm/rpc/server.py, _serving). */
static void *watch_client(void *unused) {
  struct pollfd client = {server_socket, POLLRDHUP, 0};
  (void)unused;
  while (poll(&client, 1, -1) < 0 && errno == EINTR) continue;
  _exit(0);
}

static int start_watch(void) {
  pthread_t thread;
  sigset_t all, old;
  if (server_socket < 0) return 0;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old); /* the server's signals are for its own thread */
  int error = pthread_create(&thread, NULL, watch_client, NULL);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return error ? fail("cannot start a thread", error) : 0;
}

/* (arguments of the runner: bytes, each argument ended by a NUL; the server's port) */
EXPORTED(start) {
  Bytes text;
  (void)self, (void)result;
  if (child.pid) return fail("it runs already", 0);
  if (n_arguments != 2 || !read_bytes(arguments, &text) || arguments[1].type_index != FFI_INT)
    return fail("start takes bytes and a port", 0);
  server_socket = find_descriptor(is_connection, (int)arguments[1].v_int64);
  return start(&text) ? -1 : start_watch();
}

/* False when the runner takes nothing more. */
static bool send_some(const Bytes *bytes, size_t *n_sent) {
  ssize_t n = send(child.link, bytes->data + *n_sent, bytes->n_bytes - *n_sent,
                   MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n > 0) *n_sent += (size_t)n;
  return n >= 0 || errno == EAGAIN || errno == EINTR;
}

/* False at the end of the stream. */
static bool receive_some(Buffer *answer) {
  ssize_t n = recv(child.link, buffer_reserve(answer, READ_BYTES), READ_BYTES, MSG_DONTWAIT);
  if (n > 0) answer->length += (size_t)n;
  return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Sends all bytes; then waits until there is something to return. False when the runner has ended
 * and everything that it sent was returned. */
static bool pass(const Bytes *bytes, int64_t wait_ms, Buffer *answer) {
  size_t n_sent = 0;
  int64_t deadline_ms = clock_ms() + wait_ms;
  for (;;) {
    bool is_sent = n_sent == bytes->n_bytes;
    int64_t left_ms = answer->length ? 0 : deadline_ms - clock_ms();
    struct pollfd link = {child.link, is_sent ? POLLIN : POLLIN | POLLOUT, 0};
    int n_ready = poll(&link, 1, !is_sent ? -1 : left_ms < 0 ? 0 : (int)left_ms);
    if (n_ready < 0 && errno == EINTR) continue;
    if (n_ready <= 0) return true;
    if (link.revents & POLLOUT && !is_sent && !send_some(bytes, &n_sent)) n_sent = bytes->n_bytes;
    if (link.revents & ~POLLOUT && !receive_some(answer)) return answer->length;
    if (answer->length >= MAX_ANSWER_BYTES && n_sent == bytes->n_bytes) return true;
  }
}

/* (bytes for the runner, how long to wait in ms) -> bytes of the runner, None when it has ended */
EXPORTED(exchange) {
  Bytes bytes;
  Buffer answer = {0};
  (void)self;
  if (!child.pid) return fail("it was not started", 0);
  if (n_arguments != 2 || !read_bytes(arguments, &bytes) || arguments[1].type_index != FFI_INT)
    return fail("exchange takes bytes and milliseconds", 0);
  int status = 0;
  if (pass(&bytes, arguments[1].v_int64, &answer))
    status = give(answer.data ? answer.data : "", answer.length, result);
  buffer_free(&answer);
  return status;
}

/* Waits for the runner, which ends with its stream; kills it if it does not. */
static int await_end(void) {
  int status = 0;
  int64_t deadline_ms = clock_ms() + END_MS;
  pid_t ended;
  while (!(ended = waitpid(child.pid, &status, WNOHANG)) && clock_ms() < deadline_ms)
    usleep(LOOK_US);
  if (ended) return status;
  kill(child.pid, SIGKILL);
  waitpid(child.pid, &status, 0);
  return status;
}

/* () -> bytes: what the runner said last */
EXPORTED(end) {
  char words[MAX_WORDS_BYTES];
  (void)self, (void)arguments, (void)n_arguments;
  if (!child.pid) return fail("it was not started", 0);
  close(child.link);
  int status = await_end();
  off_t n_said = lseek(child.words, 0, SEEK_END);
  off_t from = n_said > MAX_WORDS_BYTES ? n_said - MAX_WORDS_BYTES : 0;
  ssize_t n_read = pread(child.words, words, sizeof words, from);
  close(child.words);
  child = (Child){0};
  if (n_read <= 0 && WIFSIGNALED(status))
    n_read = snprintf(words, sizeof words, "signal %d ended it", WTERMSIG(status));
  else if (n_read <= 0 && status)
    n_read = snprintf(words, sizeof words, "it ended with status %d", WEXITSTATUS(status));
  return give(words, n_read > 0 ? (size_t)n_read : 0, result);
}
